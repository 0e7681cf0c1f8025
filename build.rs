//! Compiles `src/csrc/` against the libtorch that `tch` links, and makes the program find
//! that libtorch at run time. Downloads nothing: `scripts/setup/libtorch.sh` does that.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The version that `tch` 0.24 is written for and that the shim is tested with.
const LIBTORCH_VERSION: &str = "2.11.0";

/// The C++ side. Includes are relative to this folder.
const CSRC: &str = "src/csrc";
/// Folders of `CSRC` whose C++ files are always compiled. `src/csrc/README.md` says what is in each.
const SOURCES: [&str; 6] = ["api", "cpu", "cpu/simd", "cpu/memory_plan", "gpu", "distributed"];
/// One of the two is compiled as well: the first against a libtorch with CUDA, the second against one without. They
/// define the same functions.
const CUDA_SOURCES: [&str; 2] = ["gpu/cuda", "gpu/no_cuda"];
/// The text of the CUDA kernels, in the order in which one file uses another.
const KERNELS: [&str; 6] = ["lane.cuh", "passes.cu", "first_layer.cu", "head.cu", "loss.cu", "adam.cu"];

fn main() -> Result<()> {
    let remedy = format!("run scripts/setup/libtorch.sh, or set LIBTORCH to a libtorch {LIBTORCH_VERSION}");
    let lib = env::var("DEP_TCH_LIBTORCH_LIB");
    let lib = PathBuf::from(lib.with_context(|| format!("torch-sys did not say where libtorch is; {remedy}"))?);
    // The link at the project root may be moved later; the program keeps the real folder.
    let lib = lib.canonicalize().with_context(|| {
        let lib = lib.display();
        format!("no libtorch in '{lib}'; {remedy}")
    })?;
    let include = lib.with_file_name("include");
    check_version(&include)?;
    println!("cargo:rustc-env=LIBTORCH_VERSION={LIBTORCH_VERSION}");
    // For tests/cuda_kernels.rs.
    println!("cargo:rustc-env=LIBTORCH_INCLUDE={}", include.display());
    // A libtorch for CPUs has no such library.
    let has_cuda = lib.join("libtorch_cuda.so").exists();
    let cuda_headers = if has_cuda { cuda_headers(&lib)? } else { Vec::new() };
    if only_checks() {
        return Ok(());
    }
    compile_shim(&include, has_cuda, &cuda_headers)?;
    link(&lib, has_cuda)
}

/// Whether cargo runs clippy, which links nothing. It has a build folder of its own, so the C++ would be compiled
/// twice.
fn only_checks() -> bool {
    let wrapper = env::var_os("RUSTC_WORKSPACE_WRAPPER");
    wrapper.is_some_and(|path| Path::new(&path).file_stem().is_some_and(|name| name == "clippy-driver"))
}

/// torch-sys makes no version check when LIBTORCH is set, and another version fails far from the cause.
fn check_version(include: &Path) -> Result<()> {
    let header = include.join("torch/headeronly/version.h");
    let text = std::fs::read_to_string(&header).with_context(|| {
        format!(
            "cannot read '{}': LIBTORCH must name the folder of a libtorch {LIBTORCH_VERSION} with 'include' and 'lib'",
            header.display()
        )
    })?;
    println!("cargo:rerun-if-changed={}", header.display());
    let part = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.trim().parse::<u32>().ok())
    };
    let found = [part("TORCH_VERSION_MAJOR"), part("TORCH_VERSION_MINOR"), part("TORCH_VERSION_PATCH")];
    if found != [Some(2), Some(11), Some(0)] {
        bail!(
            "'{}' is libtorch {found:?}, this program needs {LIBTORCH_VERSION}; run scripts/setup/libtorch.sh, or set \
             LIBTORCH",
            include.display()
        );
    }
    Ok(())
}

/// Folders with the headers of CUDA and NCCL, which those of libtorch include and libtorch does not bring: those of
/// `CUDA_HOME`, of the wheels beside the torch wheel, or of an installed toolkit.
fn cuda_headers(lib: &Path) -> Result<Vec<PathBuf>> {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("include"));
    // The wheels' libtorch lies in site-packages/torch/lib.
    let wheels = lib.ancestors().nth(2).map(|packages| packages.join("nvidia"));
    let wheels = wheels.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let mut wheels: Vec<PathBuf> = wheels.map(|entry| entry.path().join("include")).collect();
    wheels.sort();
    let mut folders: Vec<PathBuf> =
        home.into_iter().chain(wheels).chain([PathBuf::from("/usr/local/cuda/include")]).collect();
    folders.retain(|folder| folder.is_dir());
    let libraries: Vec<PathBuf> =
        folders.iter().map(|folder| folder.join("cccl")).filter(|folder| folder.is_dir()).collect();
    folders.extend(libraries);
    for header in ["cuda_runtime_api.h", "crt/host_defines.h", "nccl.h", "cudnn.h"] {
        let system = Path::new("/usr/include").join(header);
        if !folders.iter().any(|folder| folder.join(header).is_file()) && !system.is_file() {
            bail!(
                "no '{header}', which a libtorch with CUDA needs; run scripts/setup/libtorch.sh, set CUDA_HOME to a \
                 CUDA toolkit (headers of NCCL and of cuDNN 9.8 or later: packages libnccl-dev and cudnn9-cuda-13), or \
                 set LIBTORCH to a libtorch without CUDA"
            );
        }
    }
    Ok(folders)
}

fn compile_shim(include: &Path, has_cuda: bool, cuda_headers: &[PathBuf]) -> Result<()> {
    let mut build = cc::Build::new();
    // Optimised in every profile: unoptimised convolutions would make tests last for hours.
    build.cpp(true).std("c++17").opt_level(3).flag("-fopenmp").warnings(true).extra_warnings(true);
    let [with_cuda, without_cuda] = CUDA_SOURCES;
    for folder in SOURCES.into_iter().chain([if has_cuda { with_cuda } else { without_cuda }]) {
        let folder = Path::new(CSRC).join(folder);
        println!("cargo:rerun-if-changed={}", folder.display());
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read '{}'", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "cpp"));
        files.sort();
        build.files(files);
    }
    build.include(CSRC);
    if has_cuda {
        build.include(embed_kernels()?);
    }
    // Libraries count as system headers, so that warnings are about our own code. libtorch includes headers of gloo but
    // does not bring them.
    let gloo = Path::new(CSRC).join("distributed/gloo_declarations");
    let libtorch = [include.to_path_buf(), include.join("torch/csrc/api/include"), gloo];
    for folder in libtorch.iter().chain(cuda_headers) {
        build.flag("-isystem").flag(folder);
    }
    build.compile("unet_native");
    Ok(())
}

/// Makes a header with the text of the CUDA kernels, which are compiled at run time. Returns its folder.
fn embed_kernels() -> Result<PathBuf> {
    let kernels = Path::new(CSRC).join("gpu/kernels");
    println!("cargo:rerun-if-changed={}", kernels.display());
    let mut text = String::new();
    for name in KERNELS {
        let path = kernels.join(name);
        text += &std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    }
    let folder = PathBuf::from(env::var("OUT_DIR").context("cargo did not set OUT_DIR")?);
    let header = format!("static const char KERNELS_SOURCE[] = R\"source({text})source\";\n");
    std::fs::write(folder.join("kernels_source.h"), header)
        .with_context(|| format!("cannot write to '{}'", folder.display()))?;
    Ok(folder)
}

/// libtorch_cuda is not linked: `unet_load_cuda` loads it where a GPU is wanted, and other runs do without its 250 MB.
/// - torch-sys asks for `-ltorch_cuda`, and the linker keeps it, as the shim calls its functions. It takes the first
///   library of that name: an empty one, in a folder that comes before libtorch's.
/// - The functions stay unresolved (LLD, Rust's linker since 1.90, leaves them to the loader) and are bound when they
///   are first called. Data would be wanted at start: a program that refers to some, as the inline functions of
///   CUDACachingAllocator.h do, does not start.
/// - A function that is missing would be found on a GPU only, so it is looked for here, by linking the shim alone.
fn link(lib: &Path, has_cuda: bool) -> Result<()> {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if let Some(relative) = path_within_checkout(lib)? {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{}", relative.display());
    }
    if !has_cuda {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR").context("cargo sets OUT_DIR")?);
    let nothing = out.join("in_place_of_cuda");
    std::fs::create_dir_all(&nothing)
        .and_then(|()| std::fs::write(nothing.join("libtorch_cuda.a"), "!<arch>\n"))
        .with_context(|| format!("cannot write to '{}'", nothing.display()))?;
    println!("cargo:rustc-link-search=native={}", nothing.display());
    println!("cargo:rustc-link-arg=-Wl,-z,lazy");
    println!("cargo:rustc-link-arg=-Wl,--unresolved-symbols=ignore-in-object-files");

    let (shim, trial) = (out.join("libunet_native.a"), out.join("trial.so"));
    let mut command = cc::Build::new().cpp(true).get_compiler().to_command();
    command.args(["-shared", "-fopenmp", "-Wl,-z,defs", "-Wl,--whole-archive"]).arg(shim);
    command.args(["-Wl,--no-whole-archive", "-o"]).arg(trial).arg(format!("-L{}", lib.display()));
    // CUDA's runtime and cuDNN, which libtorch_cuda needs too.
    command.arg("-Wl,--copy-dt-needed-entries");
    command.args(["-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10"]);
    let output = command.output().with_context(|| format!("cannot start the linker: {command:?}"))?;
    if !output.status.success() {
        bail!("src/native does not link with libtorch:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The way from the folder of the program to libtorch, if both are within the checkout: with it the program still runs
/// after the checkout has been moved. Test programs, a folder deeper, do not: cargo builds them again.
fn path_within_checkout(lib: &Path) -> Result<Option<PathBuf>> {
    let folder = |name: &str| -> Result<PathBuf> {
        let path = PathBuf::from(env::var(name).with_context(|| format!("cargo did not set {name}"))?);
        path.canonicalize().with_context(|| format!("cannot find '{}'", path.display()))
    };
    let (checkout, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    // OUT_DIR is build/<crate>/out below it.
    let program = out.ancestors().nth(3).and_then(|program| program.strip_prefix(&checkout).ok());
    let lib = lib.strip_prefix(&checkout).ok();
    Ok(program.zip(lib).map(|(program, lib)| program.iter().map(|_| "..").collect::<PathBuf>().join(lib)))
}
