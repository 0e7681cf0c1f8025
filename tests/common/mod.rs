//! Helpers of the tests that run the built program.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use assert_cmd::assert::Assert;
use tempfile::TempDir;

/// The built program, without arguments yet.
///
/// Its idle threads sleep. libtest runs as many tests at a time as there are cores, and each run has as many threads:
/// if idle ones spun, they would take the cores from the other tests.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unet"));
    command.env("OMP_WAIT_POLICY", "passive");
    command
}

/// Names of files, relative to a folder, and their contents.
type Files = Vec<(String, Vec<u8>)>;

/// A folder with a small synthetic dataset in `data`, in which a test runs the program.
pub struct TestDir {
    folder: TempDir,
}

impl TestDir {
    /// Six slices of 64x64 pixels. `unet phantom` makes them once for all tests of a file.
    pub fn new() -> Self {
        static DATA: OnceLock<Files> = OnceLock::new();
        let dir = Self::empty();
        dir.write_all(DATA.get_or_init(|| {
            let maker = Self::empty();
            maker.unet(&["phantom", "--out", "data", "--slices", "6", "--size", "64"]).success();
            maker.read_all("data")
        }));
        dir
    }

    /// A folder with `model` too, as a run with these arguments leaves it. It is trained once for all tests of a file.
    pub fn trained(args: &str) -> Self {
        static MODELS: Mutex<BTreeMap<String, Files>> = Mutex::new(BTreeMap::new());
        let dir = Self::new();
        // A panic in here leaves the map as it was.
        let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
        let model = models.entry(args.to_owned()).or_insert_with(|| {
            let maker = Self::new();
            maker.run(args).success();
            maker.read_all("model")
        });
        dir.write_all(model);
        dir
    }

    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder whose `data` has slices of `size` x `size` pixels, as `unet phantom` makes them by `args`.
    pub fn phantom(slices: u32, size: u32, args: &str) -> Self {
        let dir = Self::empty();
        let words = format!("phantom --out data --slices {slices} --size {size} {args}");
        dir.unet(&words.split_whitespace().collect::<Vec<_>>()).success();
        dir
    }

    /// Every file below `folder` with its content.
    pub fn read_all(&self, folder: &str) -> Files {
        self.files(folder)
            .iter()
            .map(|name| format!("{folder}/{name}"))
            .map(|name| (name.clone(), self.read(&name)))
            .collect()
    }

    fn write_all(&self, files: &Files) {
        for (name, bytes) in files {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), bytes).unwrap();
        }
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
        assert_cmd::Command::from_std(program()).current_dir(self.folder.path()).args(args).assert()
    }

    /// Runs the program on the CPU with `data` and `model`, plus `args`.
    pub fn run(&self, args: &str) -> Assert {
        assert_cmd::Command::from_std(self.command(args)).assert()
    }

    /// The command of `run`, to be started by the test, with its output piped.
    pub fn command(&self, args: &str) -> Command {
        let mut command = program();
        // The last of a repeated flag counts.
        command.args(["--data_dir", "data", "--model_dir", "model", "--device", "cpu"]).args(args.split_whitespace());
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Names of all files below `name`, relative to it, in order.
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

/// Standard output of a finished program.
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
    let mut command = python_command();
    // An exit code of 77 says that a module is absent.
    let code = format!("try:\n    import {needed}\nexcept ImportError:\n    raise SystemExit(77)\n{code}");
    let output = command.arg("-c").arg(code).args(args).output().ok();
    let Some(output) = output.filter(|output| output.status.code() != Some(77)) else {
        eprintln!("skipped: python3 lacks one of {needed}; scripts/setup/libtorch.sh fetches them");
        return None;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

/// Python with the modules that `scripts/setup/libtorch.sh` fetches. Idle threads sleep, as in `program`.
pub fn python_command() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/site-packages"));
    command.env("OMP_WAIT_POLICY", "passive");
    command
}

/// Changes the stacks of a dataset: `code` has `volume`, `labels` and `test` as NumPy arrays. `false` without Python.
pub fn alter(dir: &TestDir, data: &str, code: &str) -> bool {
    let code = format!(
        "import sys, numpy, tifffile
paths = [f'{{sys.argv[1]}}/{{name}}.tif' for name in ('train-volume', 'train-labels', 'test-volume')]
volume, labels, test = [tifffile.imread(path) for path in paths]
{code}
for path, stack in zip(paths, (volume, labels, test)):
    tifffile.imwrite(path, stack, photometric='minisblack', metadata=None)"
    );
    python(&code, &[&dir.path(data)]).is_some()
}
