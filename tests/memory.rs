//! How much memory the program takes, and its message where there is not enough.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{TestDir, fails, program};

const SIDE: u32 = 512;
const MEBIBYTE: u64 = 1 << 20;

/// An uncompressed 8-bit stack of pages with one directory, as ImageJ writes large ones; all is black but a part of the
/// first page. The file is sparse.
fn write_black_stack(path: &Path, pages: u32) {
    let description = format!("ImageJ=1.54f\nimages={pages}\nslices={pages}\n\0");
    let (text_at, pixels_at) = (200, 4096);
    let fields: [(u16, u16, u32, u32); 9] = [
        (256, 4, 1, SIDE),
        (257, 4, 1, SIDE),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (270, 2, description.len() as u32, text_at),
        (273, 4, 1, pixels_at),
        (278, 4, 1, SIDE),
        (279, 4, 1, SIDE * SIDE),
    ];
    let mut bytes = b"II\x2a\0\x08\0\0\0".to_vec();
    bytes.extend((fields.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in fields {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.resize(text_at as usize, 0);
    bytes.extend(description.as_bytes());
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(u64::from(pixels_at) + u64::from(SIDE * SIDE) * u64::from(pages)).unwrap();
    file.write_all_at(&[255; 1000], u64::from(pixels_at)).unwrap();
}

/// Runs `unet`; its peak memory in bytes, as the system counts it (VmHWM), and its exit code.
fn peak_memory(dir: &TestDir, args: &str) -> (u64, Option<i32>) {
    let mut run = program()
        .args(args.split_whitespace())
        .current_dir(dir.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", run.id());
    let mut peak = 0;
    loop {
        // A process that has ended has no such line.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kilobytes) = line.and_then(|line| line.trim().strip_suffix(" kB")) {
            peak = peak.max(kilobytes.parse::<u64>().unwrap() * 1024);
        }
        if let Some(status) = run.try_wait().unwrap() {
            return (peak, status.code());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn peak_of_network(dir: &TestDir, args: &str) -> u64 {
    let (peak, code) = peak_memory(dir, &format!("{args} --model_dir model --device cpu --base_filters 2 --overwrite"));
    assert_eq!(code, Some(0), "{args}");
    peak
}

/// Each further page adds its size once to the peak.
#[test]
fn a_large_stack_is_in_memory_once() {
    let page = u64::from(SIDE * SIDE);
    let dir = TestDir::new();
    let mut peaks = Vec::new();
    // 800 pages of images and as many of labels take 0.42 GB.
    for pages in [30, 800] {
        let folder = dir.path(&format!("train-{pages}"));
        fs::create_dir_all(&folder).unwrap();
        write_black_stack(&folder.join("train-volume.tif"), pages);
        write_black_stack(&folder.join("train-labels.tif"), pages);
        peaks.push(peak_of_network(&dir, &format!("--data_dir train-{pages} --max_steps 2")));
    }
    let more = 2 * (800 - 30) * page;
    assert!(peaks[1] > peaks[0] + more / 2, "{peaks:?}: nothing was measured");
    assert!(peaks[1] < peaks[0] + more + 64 * MEBIBYTE, "training: {peaks:?}, {more} more expected");

    // Predicted pages go to the files as they come: 140 pages of probabilities would take 147 MB.
    peaks.clear();
    for pages in [10, 150] {
        let folder = dir.path(&format!("test-{pages}"));
        fs::create_dir_all(&folder).unwrap();
        write_black_stack(&folder.join("test-volume.tif"), pages);
        peaks.push(peak_of_network(&dir, &format!("--data_dir test-{pages} --exec_mode predict")));
    }
    let more = (150 - 10) * page;
    assert!(peaks[1] < peaks[0] + more + 64 * MEBIBYTE, "prediction: {peaks:?}, {more} more expected");
}

/// Files of some kilobytes claim gigabytes: they cause an error, and take no more memory than a sound file.
#[test]
fn hostile_files_take_no_more_memory_than_they_have_bytes() {
    let seeds = |target: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut seeds: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() > 18, "{seeds:?}");
        seeds
    };
    let (stacks, weights) = (TestDir::new(), TestDir::new());
    let usual = peak_memory(&stacks, "inspect --data_dir data").0;
    // Returns whether the files were refused.
    let check = |dir: &TestDir, seeds: &[PathBuf], args: &str| {
        let (peak, code) = peak_memory(dir, args);
        assert!(code == Some(1) || code == Some(0), "{seeds:?}: exit code {code:?}");
        assert!(peak < usual + 64 * MEBIBYTE, "{seeds:?}: {peak} bytes, {usual} for a sound file");
        code == Some(1)
    };
    // `inspect` reads all three stacks, whatever is wrong with the first.
    let mut refused = 0;
    for seeds in seeds("tiff").chunks(3) {
        for (seed, name) in seeds.iter().zip(["train-volume.tif", "train-labels.tif", "test-volume.tif"]) {
            fs::copy(seed, stacks.path("data").join(name)).unwrap();
        }
        refused += usize::from(check(&stacks, seeds, "inspect --data_dir data"));
    }
    assert!(refused > 5, "{refused}");
    fs::create_dir(weights.path("model")).unwrap();
    for seed in seeds("checkpoint") {
        fs::copy(&seed, weights.path("model/model.safetensors")).unwrap();
        let args = "--data_dir data --model_dir model --device cpu --exec_mode predict --overwrite";
        let name = seed.display().to_string();
        assert!(check(&weights, &[seed], args), "{name}: two tensors are no network");
    }
}

#[test]
fn an_out_of_memory_error_names_the_flags_to_lower() {
    let dir = TestDir::new();
    // The limit leaves less address space than the output of the first layer needs.
    let run = |args: &str| {
        let flags = format!("--data_dir data --model_dir model --device cpu {args}");
        let script = format!("ulimit -v 12000000; exec {} {flags}", program().get_program().display());
        assert_cmd::Command::new("bash").args(["-c", &script]).current_dir(dir.path("")).assert()
    };
    fails(
        run("--batch_size 128 --max_steps 2"),
        1,
        &[
            "out of memory: training with --batch_size 128 and 64 base filters takes about 1",
            "lower --batch_size",
            "--amp",
        ],
    );
    run("--base_filters 2 --max_steps 2 --overwrite").success();
}
