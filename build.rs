//! Compiles `src/native/` against the libtorch that `tch` links, and makes the program find
//! that libtorch at run time. Downloads nothing: `scripts/setup.sh` does that.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The version that `tch` 0.24 is written for and that the shim is tested with.
const LIBTORCH_VERSION: &str = "2.11.0";

/// Folders whose C++ files make up the shim.
const SOURCES: [&str; 2] = ["src/native", "src/native/cpu"];

fn main() -> Result<()> {
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB").context(
        "torch-sys did not say where libtorch is; run ./scripts/setup.sh, or set LIBTORCH to a libtorch 2.11.0",
    )?);
    // The link at the project root may be moved later; the program keeps the real folder.
    let lib = lib.canonicalize().with_context(|| {
        format!("no libtorch in '{}'; run ./scripts/setup.sh, or set LIBTORCH to a libtorch 2.11.0", lib.display())
    })?;
    let include = lib.with_file_name("include");
    check_version(&include)?;
    println!("cargo:rustc-env=LIBTORCH_VERSION={LIBTORCH_VERSION}");
    compile_shim(&include)?;
    link(&lib);
    Ok(())
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
            "'{}' is libtorch {found:?}, this program needs {LIBTORCH_VERSION}; run ./scripts/setup.sh, or set LIBTORCH",
            include.display()
        );
    }
    Ok(())
}

fn compile_shim(include: &Path) -> Result<()> {
    let mut build = cc::Build::new();
    // Optimised in every profile: unoptimised convolutions would make tests last for hours.
    build.cpp(true).std("c++17").opt_level(3).flag("-fopenmp").warnings(true).extra_warnings(true);
    for folder in SOURCES {
        println!("cargo:rerun-if-changed={folder}");
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read '{folder}'"))?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "cpp"));
        files.sort();
        build.files(files);
    }
    // As system headers, so that warnings are about our own code.
    for folder in [include.to_path_buf(), include.join("torch/csrc/api/include")] {
        build.flag("-isystem").flag(folder);
    }
    build.compile("unet_native");
    Ok(())
}

fn link(lib: &Path) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // The CUDA kernels register themselves when their library is loaded; nothing refers to them by name.
    if lib.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch_cuda");
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
}
