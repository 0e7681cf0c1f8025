//! What several unit tests need: the real data where it is present, and the PyTorch peer.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tch::{Device, Tensor};

use crate::data::layout::Layout;
use crate::data::slices::{ReadOptions, SliceSet};
use crate::data::values::GreyChoice;

/// A file of the folder `shared` beside the checkout, where the challenge's data and reference values made
/// from it are kept: they are not ours to distribute. `None`, with a message, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: '{}' is not there", path.display());
    None
}

/// The labelled slices of a dataset, in memory on the CPU.
pub fn training_slices(folder: &Path) -> SliceSet {
    let options = ReadOptions {
        device: Device::Cpu,
        budget: u64::MAX,
        with_weights: false,
        map: None,
        trained: None,
        grey: GreyChoice::Auto,
        by_image: false,
        progress: &|_, _| {},
    };
    SliceSet::training(&Layout::find(folder).unwrap(), &options).unwrap()
}

/// Names and contents of what `fuzz/seeds` holds for a target, by name.
pub fn fuzz_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seed in '{}'", folder.display());
    seeds
}

/// Runs `scripts/bench/pytorch_peer.py` with `args`. `false`, with a message, where Python has no PyTorch.
pub fn pytorch_peer(args: &[&str]) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", root.join(".libtorch/site-packages"));
        command
    };
    let present = python().args(["-c", "import torch, safetensors, numpy"]).output();
    if !present.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 has no torch, safetensors and numpy; scripts/setup/libtorch.sh fetches them");
        return false;
    }
    let output = python().arg(root.join("scripts/bench/pytorch_peer.py")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// The largest absolute difference.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let difference = a.to_kind(tch::Kind::Double) - b.to_kind(tch::Kind::Double);
    difference.abs().max().double_value(&[])
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
