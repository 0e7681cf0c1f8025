//! What the program loads, and what it runs of that before it answers.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{TestDir, text};

fn unet(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unet"));
    command.args(args.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs `command`. The result is its exit code and the loader's log: libraries it looks for, constructors it calls.
fn run_with_log(mut command: Command) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    command.env("LD_DEBUG", "libs").env("LD_DEBUG_OUTPUT", folder.path().join("log"));
    let status = command.status().unwrap();
    // One for each process, which all name their number.
    let mut logs = folder.path().read_dir().unwrap();
    let log = std::fs::read(logs.next().unwrap().unwrap().path()).unwrap();
    assert!(logs.next().is_none(), "{command:?} started another process");
    (status.code(), text(&log))
}

#[test]
fn a_run_on_the_cpu_loads_no_kernels_for_gpus() {
    let dir = TestDir::new();
    let (code, log) =
        run_with_log(dir.command("--base_filters 2 --exec_mode train --benchmark --warmup_steps 1 --max_steps 2"));
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("calling init: ") && log.contains("libtorch_cpu.so"), "{log}");
    // A libtorch with CUDA needs CUDA's runtime and profiling interface for its part for CPUs, too.
    for library in ["libtorch_cuda", "libc10_cuda", "libcudnn", "libcublas", "libnccl", "libcuda.so"] {
        assert!(!log.contains(library), "{library}: {log}");
    }
}

#[test]
fn answers_about_the_command_line_come_before_libtorch_is_set_up() {
    for (args, code) in [
        ("--version", 0),
        ("--help", 0),
        ("score --help", 0),
        ("completions bash", 0),
        ("man", 0),
        ("man no_such_command", 2),
        ("--no_such_flag", 2),
        ("--exec_mode train", 2),
    ] {
        let (ended_with, log) = run_with_log(unet(args));
        assert_eq!(ended_with, Some(code), "{args}: {log}");
        assert!(log.contains("calling preinit: ") && !log.contains("calling init: "), "{args}: {log}");
    }
}

#[test]
fn the_environment_counts_in_early_answers() {
    let widest = |columns: &str| {
        let output = unet("--help").env("COLUMNS", columns).stdout(Stdio::piped()).output().unwrap();
        text(&output.stdout).lines().map(|line| line.chars().count()).max().unwrap()
    };
    assert!(widest("60") < widest("110"));
}

#[test]
fn all_that_a_gpu_needs_is_found_once_libtorch_cuda_is_loaded() {
    let libtorch = Path::new(env!("LIBTORCH_INCLUDE")).with_file_name("lib");
    if !libtorch.join("libtorch_cuda.so").exists() {
        eprintln!("skipped: this libtorch has no CUDA");
        return;
    }
    // Binds every function at start, not when it is first called.
    let mut command = unet("--version");
    command.env("LD_PRELOAD", "libtorch_cuda.so").env("LD_BIND_NOW", "1").stderr(Stdio::piped());
    let output = command.output().unwrap();
    // The loader warns of a library that it cannot load.
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
