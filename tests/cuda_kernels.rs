//! The text of the CUDA kernels, compiled for the CPU and run there: no GPU is needed to find an error of logic.

use std::path::Path;
use std::process::Command;

#[test]
fn kernels_equal_plain_loops() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    for scalar in ["SCALAR_FLOAT", "SCALAR_BFLOAT16"] {
        let program = folder.path().join(scalar);
        let output = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-pthread", "-Wno-attributes", &format!("-D{scalar}"), "-o"])
            .arg(&program)
            .arg(root.join("tests/cuda_kernels/emulate.cpp"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{scalar}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
