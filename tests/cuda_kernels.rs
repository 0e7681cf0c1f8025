//! The text of the CUDA kernels, compiled for the CPU and run there: no GPU is needed to find an error of logic.

use std::path::Path;
use std::process::{Command, Output};

const SCALARS: [&str; 2] = ["SCALAR_FLOAT", "SCALAR_BFLOAT16"];

/// Compiles `tests/cuda_kernels/{source}` for `scalar` and runs it.
fn run(source: &str, scalar: &str, options: &[String]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-pthread", "-Wno-attributes", &format!("-D{scalar}"), "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_kernels").join(source))
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Command::new(&program).output().unwrap()
}

fn expect_success(source: &str, options: &[String]) {
    for scalar in SCALARS {
        let output = run(source, scalar, options);
        let [printed, errors] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{source}, {scalar}:\n{printed}{errors}");
    }
}

#[test]
fn kernels_equal_plain_loops() {
    expect_success("loops.cpp", &[]);
}

#[test]
fn layers_losses_and_update_give_kernels_the_right_arguments() {
    let include = Path::new(env!("LIBTORCH_INCLUDE"));
    let lib = include.with_file_name("lib");
    let lib = lib.to_str().unwrap();
    let shim = Path::new(env!("OUT_DIR")).join("libunet_native.a");
    expect_success(
        "layers.cpp",
        &[
            format!("-isystem{}", include.display()),
            shim.to_str().unwrap().to_owned(),
            format!("-L{lib}"),
            format!("-Wl,-rpath,{lib}"),
            "-ltorch_cpu".to_owned(),
            "-lc10".to_owned(),
        ],
    );
}
