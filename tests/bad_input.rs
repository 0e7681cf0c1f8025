//! Bad input: one line that names the file and what to do, exit code 1, nothing lost.

mod common;

use std::fs;
use std::io::Write;

use common::{TestDir, fails};
use sha2::{Digest, Sha256};

/// Builds a little-endian TIFF of uncompressed 8-bit pages without the program.
fn tiff(pages: usize, height: u32, width: u32, samples_per_pixel: u32, values: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    let length = (height * width * samples_per_pixel) as usize;
    // The file has a header, then for each page its pixels and its directory.
    let mut next_pointer = bytes.len();
    bytes.extend(0u32.to_le_bytes());
    for page in 0..pages {
        let data = bytes.len() as u32;
        bytes.extend((0..length).map(|i| values(page * length + i)));
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        let directory = bytes.len() as u32;
        bytes[next_pointer..next_pointer + 4].copy_from_slice(&directory.to_le_bytes());
        let photometric = if samples_per_pixel == 3 { 2 } else { 1 };
        let fields: [(u16, u32); 9] = [
            (256, width),
            (257, height),
            (258, 8),
            (259, 1),
            (262, photometric),
            (273, data),
            (277, samples_per_pixel),
            (278, height),
            (279, length as u32),
        ];
        bytes.extend((fields.len() as u16).to_le_bytes());
        for (tag, value) in fields {
            bytes.extend(tag.to_le_bytes());
            // Field type 4 is a 32-bit integer.
            bytes.extend(4u16.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        next_pointer = bytes.len();
        bytes.extend(0u32.to_le_bytes());
    }
    bytes
}

fn binary(i: usize) -> u8 {
    if i.is_multiple_of(3) { 0 } else { 255 }
}

const TRAIN: &str = "--max_steps 1 --base_filters 1";

/// The hand-made TIFF itself is good: otherwise other tests of this file could pass for the wrong reason.
#[test]
fn hand_made_stacks_are_read() {
    let dir = TestDir::new();
    fs::write(dir.path("data/train-volume.tif"), tiff(3, 20, 24, 1, |i| i as u8)).unwrap();
    fs::write(dir.path("data/train-labels.tif"), tiff(3, 20, 24, 1, binary)).unwrap();
    dir.run(TRAIN).success();
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let dir = TestDir::new();
    let run = assert_cmd::Command::from_std(dir.command(TRAIN)).env("UNET_CPU_ISA", "sse").assert();
    fails(run, 1, &["UNET_CPU_ISA", "'sse'", "avx2"]);
}

#[test]
fn missing_folders_and_stacks_are_named() {
    let dir = TestDir::new();
    fails(dir.unet(&["--data_dir", "nowhere", "--model_dir", "model"]), 1, &["no folder 'nowhere'", "--data_dir"]);
    for name in ["train-volume.tif", "train-labels.tif"] {
        fs::rename(dir.path("data").join(name), dir.path("hidden.tif")).unwrap();
        fails(dir.run(TRAIN), 1, &[name, "'data'", "ISBI 2012"]);
        fs::rename(dir.path("hidden.tif"), dir.path("data").join(name)).unwrap();
    }
    fs::remove_file(dir.path("data/test-volume.tif")).unwrap();
    fails(dir.run("--exec_mode train_and_predict --base_filters 1"), 1, &["test-volume.tif"]);
    assert!(!dir.path("model").exists(), "no folder is made for a run that cannot be");
}

#[test]
fn files_that_are_no_stack_are_refused_with_file_and_page() {
    let dir = TestDir::new();
    let good = dir.read("data/train-volume.tif");
    let whole = tiff(2, 16, 16, 1, |i| i as u8);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", Vec::new(), &["train-volume.tif"]),
        ("not a TIFF", b"this is a text, not a picture".to_vec(), &["train-volume.tif", "TIFF"]),
        ("cut short", good[..good.len() * 3 / 4].to_vec(), &["train-volume.tif", "cut short"]),
        ("cut in the pixels", whole[..300].to_vec(), &["train-volume.tif"]),
        ("no pages", tiff(0, 16, 16, 1, |_| 0), &["train-volume.tif", "page"]),
        ("17 channels", tiff(2, 16, 16, 17, |i| i as u8), &["train-volume.tif", "page 0", "17"]),
    ];
    for (what, bytes, words) in cases {
        fs::write(dir.path("data/train-volume.tif"), bytes).unwrap();
        eprintln!("case: {what}");
        fails(dir.run(TRAIN), 1, words);
    }
}

#[test]
fn a_nan_in_a_float_stack_is_named_with_its_place() {
    let dir = TestDir::new();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiff/bad-nan.tif");
    fs::copy(fixture, dir.path("data/train-volume.tif")).unwrap();
    fs::write(dir.path("data/train-labels.tif"), tiff(2, 19, 17, 1, binary)).unwrap();
    fails(dir.run(TRAIN), 1, &["train-volume.tif", "page", "NaN", "row", "column"]);
}

#[test]
fn stacks_that_do_not_fit_together_are_refused_with_both_sizes() {
    let dir = TestDir::new();
    fs::write(dir.path("data/train-labels.tif"), tiff(5, 64, 64, 1, binary)).unwrap();
    fails(dir.run(TRAIN), 1, &["6 pages of 64x64", "5 pages of 64x64", "train-labels.tif"]);
    fs::write(dir.path("data/train-labels.tif"), tiff(6, 64, 60, 1, binary)).unwrap();
    fails(dir.run(TRAIN), 1, &["6 pages of 64x64", "6 pages of 64x60"]);
}

#[test]
fn a_third_label_value_is_named_with_the_others() {
    let dir = TestDir::new();
    let three = |i: usize| if i == 1000 { 17 } else { binary(i) };
    fs::write(dir.path("data/train-labels.tif"), tiff(6, 64, 64, 1, three)).unwrap();
    fails(dir.run(TRAIN), 1, &["train-labels.tif", "17 (1 pixels)", "--label_map"]);
}

#[test]
fn too_few_slices_for_a_fold_are_refused() {
    let dir = TestDir::new();
    fs::write(dir.path("data/train-volume.tif"), tiff(1, 64, 64, 1, |i| i as u8)).unwrap();
    fs::write(dir.path("data/train-labels.tif"), tiff(1, 64, 64, 1, binary)).unwrap();
    let run = dir.run("--exec_mode train_and_evaluate --crossvalidation_idx 0 --max_steps 1 --base_filters 1");
    fails(run, 1, &["1 pages", "--crossvalidation_idx"]);
}

#[test]
fn a_model_dir_that_cannot_be_written_is_named_before_any_work() {
    let dir = TestDir::new();
    // A folder inside a file cannot be made, even by root.
    let run = dir.unet(&["--data_dir", "data", "--model_dir", "data/test-volume.tif/model", "--device", "cpu"]);
    fails(run, 1, &["--model_dir", "data/test-volume.tif/model"]);
    let run = dir.unet(&["--data_dir", "data", "--model_dir", "m", "--log_dir", "data/test-volume.tif/log"]);
    fails(run, 1, &["--log_dir", "data/test-volume.tif/log"]);
}

#[test]
fn a_model_dir_that_holds_a_run_is_kept() {
    let dir = TestDir::trained(TRAIN);
    let weights = dir.read("model/model.safetensors");
    fails(dir.run(TRAIN), 1, &["already holds a run", "--resume_training", "--overwrite"]);
    assert_eq!(dir.read("model/model.safetensors"), weights);
    fs::write(dir.path("model/notes.txt"), "mine").unwrap();
    fs::write(dir.path("model/checkpoints/notes.txt"), "mine").unwrap();
    dir.run(&format!("{TRAIN} --seed 1 --overwrite")).success();
    assert_ne!(dir.read("model/model.safetensors"), weights);
    assert_eq!(dir.read("model/notes.txt"), b"mine", "--overwrite removes nothing but the run");
    assert_eq!(dir.read("model/checkpoints/notes.txt"), b"mine");
}

#[test]
fn bad_data_leaves_the_run_that_overwrite_would_replace() {
    let dir = TestDir::trained(TRAIN);
    let files = dir.files("model");
    fs::write(dir.path("data/train-volume.tif"), "no TIFF").unwrap();
    fails(dir.run(&format!("{TRAIN} --overwrite")), 1, &["train-volume.tif"]);
    assert_eq!(dir.files("model"), files);
}

#[test]
fn results_are_replaced_only_when_asked() {
    let dir = TestDir::new();
    dir.run(&format!("{TRAIN} --exec_mode train_and_predict")).success();
    fails(dir.run("--exec_mode predict"), 1, &["test-masks.tif", "--overwrite"]);
    dir.run("--exec_mode predict --overwrite").success();
    dir.run("--exec_mode evaluate --crossvalidation_idx 0").success();
    fails(dir.run("--exec_mode evaluate --crossvalidation_idx 0"), 1, &["eval.json", "--overwrite"]);
}

#[test]
fn missing_weights_and_checkpoints_are_named() {
    let dir = TestDir::new();
    for mode in ["predict", "evaluate --crossvalidation_idx 0"] {
        fails(dir.run(&format!("--exec_mode {mode}")), 1, &["model/model.safetensors", "train first"]);
    }
    assert!(!dir.path("model").exists(), "no folder is made for a run that cannot be");
    fails(dir.run("--resume_training"), 1, &["--resume_training", "no checkpoint", "model/checkpoints"]);
}

#[test]
fn weights_of_another_width_are_refused() {
    let dir = TestDir::trained(TRAIN);
    fails(dir.run("--exec_mode predict --base_filters 2"), 1, &["model.safetensors", "1 base filters", "says 2"]);
    let resume = dir.run("--resume_training --max_steps 2 --base_filters 2");
    fails(resume, 1, &["step-0000000001.safetensors", "1 base filters", "says 2"]);
}

/// A changed safetensors header with a checksum that fits again.
fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
    let key = br#"\"header_sha256\":\""#;
    let place = header.windows(key.len()).position(|bytes| bytes == key).unwrap() + key.len();
    header[place..][..64].fill(b'0');
    let sum: String = Sha256::digest(&header).iter().map(|byte| format!("{byte:02x}")).collect();
    header[place..][..64].copy_from_slice(sum.as_bytes());
    header
}

#[test]
fn corrupt_weights_are_named() {
    let dir = TestDir::trained(TRAIN);
    let good = dir.read("model/model.safetensors");
    let foreign = {
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat()
    };
    // Changing one digit of the header keeps all lengths.
    let with_digit = |old: &[u8], digit| {
        let at = good.windows(old.len()).position(|bytes| bytes == old).unwrap();
        let mut bytes = good.clone();
        bytes[at + old.len() - 1] = digit;
        bytes
    };
    let newer = with_digit(br#"\"format\":1"#, b'2');
    let changed = with_digit(br#"\"base_filters\":1"#, b'2');
    let three_classes = {
        let bytes = with_digit(br#"\"classes\":2"#, b'3');
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        [&bytes[..8], &with_checksum(bytes[8..end].to_vec()), &bytes[end..]].concat()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "damaged"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (b"not safetensors at all, but long enough for a header".to_vec(), "damaged"),
        (u64::MAX.to_le_bytes().repeat(4), "damaged"),
        (foreign, "not written by unet"),
        (newer, "format 2"),
        (changed, "its header does not have the checksum"),
        (three_classes, "classes: 3 }, expected 1 channels and 2 classes"),
    ];
    for (bytes, word) in cases {
        fs::write(dir.path("model/model.safetensors"), bytes).unwrap();
        fails(dir.run("--exec_mode predict"), 1, &["model/model.safetensors", word]);
    }
    // A sparse file of 64 GiB, whose header says so.
    let bytes = 1u64 << 36;
    let zeros = "0".repeat(64);
    let network = r#"{\"base_filters\":1,\"channels\":1,\"classes\":2}"#;
    let facts = format!(r#"{{\"format\":1,\"architecture\":{network},\"sha256\":{{}},\"header_sha256\":\"{zeros}\"}}"#);
    let tensor = format!(r#"{{"dtype":"F32","shape":[{}],"data_offsets":[0,{bytes}]}}"#, bytes / 4);
    let header = format!(r#"{{"__metadata__":{{"unet":"{facts}"}},"encoder.0.conv1.weight":{tensor}}}"#);
    let header = with_checksum(header.into_bytes());
    let file = fs::File::create(dir.path("model/model.safetensors")).unwrap();
    (&file).write_all(&[&(header.len() as u64).to_le_bytes()[..], &header].concat()).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    fails(dir.run("--exec_mode predict"), 1, &["tensor 'encoder.0.conv1.weight'", "[17179869184]", "[1, 1, 3, 3]"]);
    assert!(!dir.path("model/pred").exists());
}

#[test]
fn a_missing_gpu_is_named_with_the_way_out() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    let dir = TestDir::new();
    let run = dir.unet(&["--data_dir", "data", "--model_dir", "model", "--device", "cuda"]);
    fails(run, 1, &["--device cuda", "no usable GPU", "--device cpu"]);
}
