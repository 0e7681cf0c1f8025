//! Tests of the GPU's code that need no GPU: the CUDA kernels, compiled for the CPU and run there, and whether cuDNN
//! has the kernels that are asked of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCALARS: [&str; 2] = ["SCALAR_FLOAT", "SCALAR_BFLOAT16"];

/// Compiles `tests/cuda_kernels/{source}` and runs it with `arguments`, and with `libraries` on the path of the loader.
fn run(source: &str, options: &[String], libraries: &[PathBuf], arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-pthread", "-fPIC", "-Wno-attributes", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(root.join("src/csrc"))
        .arg(root.join("tests/cuda_kernels").join(source))
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = std::env::join_paths(libraries).unwrap();
    Command::new(&program).args(arguments).env("LD_LIBRARY_PATH", path).output().unwrap()
}

fn expect_success(source: &str, options: &[String], libraries: &[PathBuf]) {
    let output = run(source, options, libraries, &[]);
    let [printed, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{source} {options:?}:\n{printed}{errors}");
}

/// The folder of libtorch's libraries.
fn libtorch() -> PathBuf {
    Path::new(env!("LIBTORCH_INCLUDE")).with_file_name("lib")
}

/// Compiler options to use libtorch and to link the shim, `libraries` of libtorch, and the libraries that these need.
fn with_shim(libraries: &[&str]) -> Vec<String> {
    let shim = Path::new(env!("OUT_DIR")).join("libunet_native.a");
    let mut options = vec![
        format!("-isystem{}", env!("LIBTORCH_INCLUDE")),
        shim.to_str().unwrap().to_owned(),
        format!("-L{}", libtorch().to_str().unwrap()),
        "-Wl,--copy-dt-needed-entries".to_owned(),
    ];
    options.extend(libraries.iter().map(|library| format!("-l{library}")));
    options
}

#[test]
fn kernels_equal_plain_loops() {
    for scalar in SCALARS {
        expect_success("loops.cpp", &[format!("-D{scalar}")], &[]);
    }
}

#[test]
fn layers_losses_and_update_give_kernels_the_right_arguments() {
    for scalar in SCALARS {
        let mut options = with_shim(&["torch_cpu", "c10"]);
        options.push(format!("-D{scalar}"));
        expect_success("layers.cpp", &options, &[libtorch()]);
    }
}

/// A thread of NCCL's that ends because ranks are lost ends the process with the exit code for that; another error of a
/// thread is an abort, as ever.
#[test]
fn lost_ranks_have_their_exit_code_in_threads_of_libraries_too() {
    use std::os::unix::process::ExitStatusExt;
    for (what, expected, text) in [("engine", (Some(3), None), "NCCL timeout"), ("other", (None, Some(6)), "another")] {
        let output = run("lost_ranks.cpp", &with_shim(&["torch_cpu", "c10"]), &[libtorch()], &[what]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.status.signal()), expected, "{what}: {errors}");
        assert!(errors.contains(text), "{errors}");
    }
}

#[test]
fn gradients_on_a_parallel_branch_wait_for_what_they_need() {
    expect_success("branch.cpp", &with_shim(&["torch_cpu", "c10"]), &[libtorch()]);
}

#[test]
fn cudnn_has_a_fused_kernel_for_each_convolution() {
    if !libtorch().join("libtorch_cuda.so").exists() {
        eprintln!("skipped: this libtorch has no CUDA");
        return;
    }
    // The wheels' libraries of CUDA lie in site-packages/nvidia/*/lib, those of libtorch's archives beside it.
    let packages = libtorch().ancestors().nth(2).map(|packages| packages.join("nvidia"));
    let wheels = packages.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let mut libraries = vec![libtorch()];
    libraries.extend(wheels.map(|wheel| wheel.path().join("lib")));
    expect_success("fused.cpp", &with_shim(&["torch_cuda", "torch_cpu", "c10_cuda", "c10"]), &libraries);
}
