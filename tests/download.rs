//! `scripts/setup/download_dataset.sh` against a server on this machine, with synthetic stacks of the challenge's size.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use common::{program, stdout, text};
use tempfile::TempDir;

const STACKS: [&str; 4] = ["train-volume.tif", "train-labels.tif", "test-volume.tif", "test-labels.tif"];
/// The files that a finished download leaves in the folder, in order.
const KEPT: [&str; 4] = ["test-labels.tif", "test-volume.tif", "train-labels.tif", "train-volume.tif"];

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Makes a synthetic dataset.
fn phantom(out: &Path, options: &[&str]) {
    let mut command = assert_cmd::Command::from_std(program());
    command.args(["phantom", "--out"]).arg(out).args(options).assert().success();
}

/// A folder: `stacks` has the stacks, `site` the files of the server, `data` the files that were fetched.
struct Site {
    folder: TempDir,
}

impl Site {
    /// `None`, with a message, where a needed program is missing.
    fn new() -> Option<Self> {
        for (program, flag) in [("curl", "--version"), ("python3", "--version"), ("bash", "--version")] {
            if !Command::new(program).arg(flag).output().is_ok_and(|output| output.status.success()) {
                eprintln!("skipped: no '{program}' here");
                return None;
            }
        }
        static MADE: Once = Once::new();
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("download");
        MADE.call_once(|| phantom(&made, &["--overwrite"]));
        let site = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["site", "stacks"] {
            fs::create_dir(site.path(folder)).unwrap();
        }
        for name in STACKS {
            fs::copy(made.join(name), site.path("stacks").join(name)).unwrap();
        }
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts an archive of these stacks, in a folder of the archive as in the challenge's, on the server.
    fn offer(&self, names: &[&str]) {
        let members = names.iter().map(|name| format!("challenge/{name}={}", self.path("stacks").join(name).display()));
        let mut command = Command::new("python3");
        let output =
            command.arg(here("tests/download/archive.py")).arg(self.path("site/data.zip")).args(members).output();
        assert!(output.unwrap().status.success());
    }

    fn serve(&self, options: &[&str]) -> Server {
        let mut command = Command::new("python3");
        command.arg(here("tests/download/server.py")).arg(self.path("site")).args(options);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        told.read_line(&mut port).unwrap();
        Server { process, told, address: format!("http://127.0.0.1:{}/data.zip", port.trim()) }
    }

    /// Runs the script with `data` as its folder. Returns the exit code, and stdout with stderr.
    fn download(&self, address: &str) -> (i32, String) {
        let mut command = Command::new("bash");
        command.arg(here("scripts/setup/download_dataset.sh")).arg("--url").arg(address).arg(self.path("data"));
        // A proxy could not reach the server of this test.
        let output = command.env("no_proxy", "*").output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap(), told)
    }

    fn succeeds(&self, address: &str) -> String {
        let (code, told) = self.download(address);
        assert_eq!(code, 0, "{told}");
        assert_eq!(self.found(), KEPT, "{told}");
        for name in STACKS {
            assert!(self.is_same(name), "{name}: {told}");
        }
        told
    }

    fn fails(&self, address: &str, words: &[&str]) {
        let (code, told) = self.download(address);
        assert_eq!(code, 1, "{told}");
        let error = told.lines().last().unwrap();
        assert!(error.starts_with("download_dataset: "), "{told}");
        for word in words {
            assert!(error.contains(word), "no '{word}' in: {told}");
        }
    }

    /// Names of all files in `data`, in order.
    fn found(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("data")).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn is_same(&self, name: &str) -> bool {
        fs::read(self.path("data").join(name)).unwrap() == fs::read(self.path("stacks").join(name)).unwrap()
    }
}

struct Server {
    process: Child,
    told: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Server {
    /// Ends the server. Returns a line for each of its requests.
    fn requests(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut lines = String::new();
        self.told.read_to_string(&mut lines).unwrap();
        lines.lines().map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The path of an unfinished download.
const PARTIAL: &str = "data/.isbi2012.zip.part";

#[test]
fn the_script_fetches_the_stacks_once_and_keeps_what_is_there() {
    let Some(site) = Site::new() else { return };
    site.offer(&STACKS);
    let server = site.serve(&["ranges"]);
    let told = site.succeeds(&server.address);
    for words in ["30 pages of 512x512", "WARNING: other pixels than in known copies", "10.1371/journal.pbio.1000502"] {
        assert!(told.contains(words), "no '{words}' in {told}");
    }
    // The second run has nothing to fetch.
    site.succeeds(&server.address);
    // The user's own labels stay; the missing stack comes.
    let labels = fs::read(site.path("stacks/test-labels.tif")).unwrap();
    fs::write(site.path("data/train-labels.tif"), &labels).unwrap();
    fs::remove_file(site.path("data/train-volume.tif")).unwrap();
    let (code, told) = site.download(&server.address);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("train-labels.tif: kept"), "{told}");
    assert_eq!(fs::read(site.path("data/train-labels.tif")).unwrap(), labels);
    assert!(site.is_same("train-volume.tif"));
    assert_eq!(server.requests(), ["/data.zip None"; 2]);
}

#[test]
fn an_archive_without_test_labels_is_enough() {
    let Some(site) = Site::new() else { return };
    site.offer(&STACKS[..3]);
    let (code, told) = site.download(&format!("file://{}", site.path("site/data.zip").display()));
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("test-labels.tif: not in the archive"), "{told}");
    assert_eq!(site.found(), KEPT[1..]);
}

#[test]
fn the_script_goes_on_where_a_cut_download_stopped() {
    let Some(site) = Site::new() else { return };
    site.offer(&STACKS);
    let size = fs::metadata(site.path("site/data.zip")).unwrap().len();
    let cut = size / 5 + 1;
    // The first run makes three tries of a fifth each, then gives up; the second run makes the other two.
    let server = site.serve(&["ranges", &cut.to_string()]);
    site.fails(&server.address, &["was cut", &format!("after {} bytes", 3 * cut)]);
    assert_eq!(site.found(), [".isbi2012.zip.part"]);
    let told = site.succeeds(&server.address);
    assert!(told.contains(&format!("going on after {} bytes", 3 * cut)), "{told}");
    let expected: Vec<String> = [None, Some(cut), Some(2 * cut), Some(3 * cut), Some(4 * cut)]
        .map(|begin| format!("/data.zip {}", begin.map_or("None".to_owned(), |begin| format!("bytes={begin}-"))))
        .into();
    assert_eq!(server.requests(), expected);
}

#[test]
fn the_script_begins_again_where_the_server_cannot_go_on() {
    let Some(site) = Site::new() else { return };
    site.offer(&STACKS);
    fs::create_dir(site.path("data")).unwrap();
    fs::write(site.path(PARTIAL), b"the begin of an archive").unwrap();
    let server = site.serve(&["no-ranges"]);
    let told = site.succeeds(&server.address);
    assert!(told.contains("from the start"), "{told}");
    assert_eq!(server.requests().len(), 2);
    // The server cannot go on either where the archive is shorter than the part that is there.
    fs::remove_file(site.path("data/train-volume.tif")).unwrap();
    fs::write(site.path(PARTIAL), vec![0; 64 << 20]).unwrap();
    let server = site.serve(&["ranges"]);
    site.succeeds(&server.address);
}

#[test]
fn a_damaged_archive_leaves_nothing() {
    let Some(site) = Site::new() else { return };
    let archive = site.path("site/data.zip");
    let server = site.serve(&["ranges"]);
    fs::write(&archive, "<html>Please log in</html>").unwrap();
    site.fails(&server.address, &["not a whole zip archive", "<html>", "--url"]);
    assert!(site.found().is_empty());

    site.offer(&STACKS);
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    site.fails(&server.address, &["not a whole zip archive"]);
    let mut flipped = whole.clone();
    flipped[5000] ^= 0x55;
    fs::write(&archive, flipped).unwrap();
    site.fails(&server.address, &["train-volume.tif", "damaged"]);
    assert!(site.found().is_empty());
    // The damaged archive is gone: the next run succeeds.
    fs::write(&archive, whole).unwrap();
    site.succeeds(&server.address);
}

/// A little-endian TIFF without its last page: no directory points to it any more.
fn without_last_page(mut tiff: Vec<u8>) -> Vec<u8> {
    let number = |tiff: &[u8], at: usize| u32::from_le_bytes(tiff[at..at + 4].try_into().unwrap()) as usize;
    let (mut pointer, mut before) = (4, 4);
    while number(&tiff, pointer) != 0 {
        before = pointer;
        let directory = number(&tiff, pointer);
        let fields = u16::from_le_bytes(tiff[directory..directory + 2].try_into().unwrap());
        pointer = directory + 2 + 12 * usize::from(fields);
    }
    tiff[before..before + 4].fill(0);
    tiff
}

#[test]
fn stacks_that_are_not_the_challenge_s_are_refused() {
    let Some(site) = Site::new() else { return };
    let server = site.serve(&["ranges"]);
    phantom(&site.path("small"), &["--size", "64"]);
    let whole = fs::read(site.path("stacks/test-volume.tif")).unwrap();
    fs::write(site.path("short.tif"), without_last_page(whole)).unwrap();
    let cases: [(PathBuf, &str); 4] = [
        (site.path("small/test-volume.tif"), "64x64 pixels, expected 512x512"),
        (site.path("short.tif"), "29 pages, expected 30"),
        (site.path("stacks/train-volume.tif"), "different values, expected 0 and 255"),
        (here("Cargo.toml"), "not a TIFF file"),
    ];
    let right = fs::read(site.path("stacks/train-labels.tif")).unwrap();
    for (wrong, words) in cases {
        fs::copy(wrong, site.path("stacks/train-labels.tif")).unwrap();
        site.offer(&STACKS);
        site.fails(&server.address, &["'train-labels.tif' in the archive", words]);
        // The stack before it was right and stays; the wrong one is not kept.
        assert_eq!(site.found(), ["train-volume.tif"]);
        fs::remove_file(site.path("data/train-volume.tif")).unwrap();
    }
    site.offer(&["train-volume.tif"]);
    site.fails(&server.address, &["no 'train-labels.tif' in the archive", "train-volume.tif"]);
    // A wrong stack that was there before stays, and the message names it.
    fs::write(site.path("stacks/train-labels.tif"), right).unwrap();
    site.offer(&STACKS);
    fs::copy(here("Cargo.toml"), site.path("data/train-labels.tif")).unwrap();
    site.fails(&server.address, &["data/train-labels.tif' is not the challenge's", "not a TIFF file", "move it away"]);
    assert_eq!(fs::read(site.path("data/train-labels.tif")).unwrap(), fs::read(here("Cargo.toml")).unwrap());
}

#[test]
fn failures_of_the_network_and_the_disk_are_named() {
    let Some(site) = Site::new() else { return };
    let server = site.serve(&["ranges"]);
    site.fails(&server.address, &["404", &server.address, "--url"]);
    site.fails(&format!("http://127.0.0.1:{}/data.zip", common::free_port()), &["cannot reach", "check the network"]);
    site.fails("http://no-such-host.invalid/data.zip", &["cannot reach", "check the network"]);
    site.fails("file:///no/such.zip", &["cannot read", "check the address"]);
    site.offer(&STACKS);
    // A limit of 100 KiB on the size of files stands for a full disk.
    let line = format!(
        "trap '' XFSZ; ulimit -f 100; '{}' --url '{}' '{}'",
        here("scripts/setup/download_dataset.sh").display(),
        server.address,
        site.path("data").display()
    );
    let output = Command::new("bash").args(["-c", &line]).env("no_proxy", "*").output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("cannot write") && error.contains("make room"), "{error}");
    site.succeeds(&server.address);
}

#[test]
fn help_and_bad_options_do_nothing() {
    let script = here("scripts/setup/download_dataset.sh");
    let help = assert_cmd::Command::new("bash").arg(&script).arg("--help").assert().success();
    assert!(stdout(&help).contains("ISBI2012_URL"));
    for args in [&["--no-such"][..], &["--url"], &["a", "b"]] {
        assert_cmd::Command::new("bash").arg(&script).args(args).assert().code(2);
    }
}

/// The real stacks of the challenge have the pixels that the script knows.
#[test]
fn the_challenge_s_stacks_are_known() {
    let Some(site) = Site::new() else { return };
    let real = here("../shared/isbi2012");
    if !real.is_dir() {
        eprintln!("skipped: no '{}'", real.display());
        return;
    }
    for name in &STACKS[..3] {
        fs::copy(real.join(name), site.path("stacks").join(name)).unwrap();
    }
    site.offer(&STACKS[..3]);
    let (code, told) = site.download(&format!("file://{}", site.path("site/data.zip").display()));
    assert_eq!(code, 0, "{told}");
    assert_eq!(told.matches("the known pixels").count(), 3, "{told}");
}
