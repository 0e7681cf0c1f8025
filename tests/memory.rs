//! How much memory the program takes, and what it says where there is not enough.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Place, fails};

const SIDE: u32 = 512;
const MEBIBYTE: u64 = 1 << 20;

/// An uncompressed 8-bit stack of black pages, as ImageJ writes large ones: one directory. Black takes no room on disk.
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
}

/// Runs `unet`; the most memory it has had at a time, in bytes, as the system counts it (VmHWM), and its exit code.
fn peak_memory(place: &Place, args: &str) -> (u64, Option<i32>) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_unet"))
        .args(args.split_whitespace())
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", run.id());
    let mut peak = 0;
    loop {
        // Of a process that has ended there is no such line.
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

fn peak_of_network(place: &Place, args: &str) -> u64 {
    let (peak, code) =
        peak_memory(place, &format!("{args} --model_dir model --device cpu --base_filters 2 --overwrite"));
    assert_eq!(code, Some(0), "{args}");
    peak
}

/// 2,000 pages of 512x512 take 0.52 GB: beyond what 30 pages take, the peak grows by what the pages have, once.
#[test]
fn a_large_stack_is_in_memory_once() {
    let page = u64::from(SIDE * SIDE);
    let place = Place::new();
    let mut peaks = Vec::new();
    for pages in [30, 2000] {
        let folder = place.path(&format!("train-{pages}"));
        fs::create_dir_all(&folder).unwrap();
        write_black_stack(&folder.join("train-volume.tif"), pages);
        write_black_stack(&folder.join("train-labels.tif"), pages);
        peaks.push(peak_of_network(&place, &format!("--data_dir train-{pages} --max_steps 2")));
    }
    let more = 2 * (2000 - 30) * page;
    assert!(peaks[1] > peaks[0] + more / 2, "{peaks:?}: nothing was measured");
    assert!(peaks[1] < peaks[0] + more + 64 * MEBIBYTE, "training: {peaks:?}, {more} more expected");

    // Predicted pages go to the files as they come: what 230 pages of probabilities take would be 241 MB.
    peaks.clear();
    for pages in [30, 260] {
        let folder = place.path(&format!("test-{pages}"));
        fs::create_dir_all(&folder).unwrap();
        write_black_stack(&folder.join("test-volume.tif"), pages);
        peaks.push(peak_of_network(&place, &format!("--data_dir test-{pages} --exec_mode predict")));
    }
    let more = (260 - 30) * page;
    assert!(peaks[1] < peaks[0] + more + 64 * MEBIBYTE, "prediction: {peaks:?}, {more} more expected");
}

/// Files of some kilobytes that speak of gigabytes: an error, and not more memory than any start of the program takes.
#[test]
fn hostile_files_take_no_more_memory_than_they_have_bytes() {
    let place = Place::new();
    let seeds = |target: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    };
    let usual = peak_memory(&place, "inspect --data_dir data").0;
    let check = |seed: &Path, args: &str| {
        let (peak, code) = peak_memory(&place, args);
        assert!(code == Some(1) || code == Some(0), "{}: exit code {code:?}", seed.display());
        assert!(peak < usual + 64 * MEBIBYTE, "{}: {peak} bytes, {usual} for a sound file", seed.display());
        code == Some(1)
    };
    let mut refused = 0;
    for seed in seeds("tiff") {
        fs::copy(&seed, place.path("data/train-volume.tif")).unwrap();
        refused += usize::from(check(&seed, "inspect --data_dir data"));
    }
    fs::create_dir(place.path("model")).unwrap();
    for seed in seeds("checkpoint") {
        fs::copy(&seed, place.path("model/model.safetensors")).unwrap();
        let args = "--data_dir data --model_dir model --device cpu --exec_mode predict --overwrite";
        assert!(check(&seed, args), "{}: two tensors are no network", seed.display());
        refused += 1;
    }
    assert!(refused > 35, "{refused}");
}

#[test]
fn memory_that_runs_out_is_told_with_what_to_lower() {
    let place = Place::new();
    // Less address space than the first layer's output needs besides the program.
    let run = |args: &str| {
        let flags = format!("--data_dir data --model_dir model --device cpu {args}");
        let script = format!("ulimit -v 12000000; exec {} {flags}", env!("CARGO_BIN_EXE_unet"));
        assert_cmd::Command::new("bash").args(["-c", &script]).current_dir(place.path("")).assert()
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
