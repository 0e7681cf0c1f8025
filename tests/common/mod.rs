//! Helpers of the tests that run the built program.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::Assert;
use tempfile::TempDir;

/// A folder with a small synthetic dataset in `data`, in which a test runs the program.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// Six slices of 64x64 pixels.
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64"]).success();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Runs `unet` with these arguments in this folder.
    pub fn unet(&self, args: &[&str]) -> Assert {
        assert_cmd::Command::cargo_bin("unet").unwrap().current_dir(self.folder.path()).args(args).assert()
    }

    /// Runs the program on the CPU with `data` and `model`, plus `args`.
    pub fn run(&self, args: &str) -> Assert {
        assert_cmd::Command::from_std(self.command(args)).assert()
    }

    /// The same, to be started; its output is kept.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unet"));
        // The last of a repeated flag counts.
        command.args(["--data_dir", "data", "--model_dir", "model", "--device", "cpu"]).args(args.split_whitespace());
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Every file below `name`, relative, in order.
    pub fn files(&self, name: &str) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        if self.path(name).is_dir() {
            walk(&self.path(name), &self.path(name), &mut found);
        }
        found.sort();
        found
    }
}

/// What a finished program printed.
pub fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

pub fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// Asserts an exit code and one line on stderr that holds all these words.
pub fn fails(assert: Assert, code: i32, words: &[&str]) {
    let message = stderr(&assert);
    assert_eq!(assert.get_output().status.code(), Some(code), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("error: "), "{message}");
    for word in words {
        assert!(message.contains(word), "no '{word}' in: {message}");
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `done`, for two minutes at most.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal such as `-TERM` to a process.
pub fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Runs Python code with the modules of scripts/setup/requirements.txt. `None`, with a message, where they are absent.
pub fn python(code: &str, args: &[&Path]) -> Option<String> {
    python_with("numpy, tifffile, PIL, safetensors", code, args)
}

/// Runs Python code that needs these modules.
pub fn python_with(needed: &str, code: &str, args: &[&Path]) -> Option<String> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages");
    let run = |code: &str, args: &[&Path]| {
        Command::new("python3").env("PYTHONPATH", &modules).arg("-c").arg(code).args(args).output()
    };
    if !run(&format!("import {needed}"), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 lacks one of {needed}; scripts/setup/libtorch.sh fetches them");
        return None;
    }
    let output = run(code, args).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
