//! Reads a safetensors file of ours: facts in the header, and bytes of tensors that have the checksum they were written
//! with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::state::FORMAT;

/// The header entry with our own facts, in JSON.
pub const HEADER_KEY: &str = "unet";

/// The largest header in bytes; a checkpoint's has 40,000.
const MAX_HEADER: u64 = 16 << 20;

/// The part of the facts that is read first.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// The part of the facts that every file has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checksums {
    /// SHA-256 of each tensor's bytes, by its name.
    pub sha256: BTreeMap<String, String>,
    /// SHA-256 of the safetensors header, this very number in it replaced by [`NO_CHECKSUM`].
    pub header_sha256: String,
}

/// What stands for the checksum of a header while it is computed.
pub const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where `value` is in a header, and the checksum of the header with [`NO_CHECKSUM`] there. `None` unless it is there
/// once.
pub fn header_checksum(header: &[u8], value: &str) -> Option<(usize, String)> {
    if value.len() != NO_CHECKSUM.len() {
        return None;
    }
    let mut places = header.windows(value.len()).enumerate().filter(|(_, window)| *window == value.as_bytes());
    let (Some((place, _)), None) = (places.next(), places.next()) else { return None };
    let mut header = header.to_vec();
    header[place..][..value.len()].copy_from_slice(NO_CHECKSUM.as_bytes());
    Some((place, checksum(&header)))
}

/// SHA-256 as hexadecimal digits.
pub fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open file, its header understood. Tensors are read one by one, and only those of the expected shape, so that a
/// file cannot ask for more memory than the network takes.
pub struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the first tensor begins.
    data_start: u64,
    facts: String,
    checksums: Checksums,
}

impl TensorFile {
    /// Errors: a file that cannot be read, is damaged or cut, was not written by this program, or by a newer one.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().with_context(|| format!("cannot read '{}'", path.display()))?;
        let (header, metadata) = read_header(&file, length).with_context(|| damaged(path))?;
        let Some(facts) = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER_KEY)).cloned() else {
            bail!("'{}' was not written by unet: its header has no '{HEADER_KEY}' entry", path.display());
        };
        let Format { format } = serde_json::from_str(&facts).with_context(|| unreadable(path))?;
        if format != FORMAT {
            bail!(
                "'{}' has format {format}, this program reads {FORMAT}; use the version of unet that wrote it",
                path.display()
            );
        }
        let checksums: Checksums = serde_json::from_str(&facts).with_context(|| unreadable(path))?;
        if header_checksum(&header, &checksums.header_sha256).is_none_or(|(_, sum)| sum != checksums.header_sha256) {
            bail!("'{}' is damaged: its header does not have the checksum it was written with", path.display());
        }
        let data_start = 8 + header.len() as u64;
        Ok(Self { path: path.to_owned(), file, metadata, data_start, facts, checksums })
    }

    /// The checksum of the header, in which are those of all tensors.
    pub fn header_sha256(&self) -> &str {
        &self.checksums.header_sha256
    }

    /// A checksum of the checksums of all tensors.
    pub fn tensors_sha256(&self) -> String {
        let words: Vec<String> = self.checksums.sha256.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect();
        checksum(words.concat().as_bytes())
    }

    /// Our entry of the header.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.facts).with_context(|| unreadable(&self.path))
    }

    /// The bytes of a tensor of f32: row-major, little-endian.
    ///
    /// Errors: no such tensor, one of another shape, or one whose bytes have changed since they were written.
    pub fn bytes(&self, name: &str, shape: &[i64]) -> Result<Vec<u8>> {
        let path = self.path.display();
        let Some(info) = self.metadata.info(name) else { bail!("no tensor '{name}' in '{path}'") };
        let found: Vec<i64> = info.shape.iter().map(|&side| side as i64).collect();
        if found != shape || info.dtype != Dtype::F32 {
            bail!("tensor '{name}' in '{path}' is {:?} {found:?}, expected F32 {shape:?}", info.dtype);
        }
        let (start, end) = info.data_offsets;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(end - start)
            .with_context(|| format!("no memory for the {} bytes of tensor '{name}' in '{path}'", end - start))?;
        bytes.resize(end - start, 0);
        self.file
            .read_exact_at(&mut bytes, self.data_start + start as u64)
            .with_context(|| format!("cannot read tensor '{name}' of '{path}'"))?;
        if self.checksums.sha256.get(name) != Some(&checksum(&bytes)) {
            bail!("'{path}' is damaged: tensor '{name}' does not have the checksum it was written with");
        }
        Ok(bytes)
    }
}

/// The header as stored and as understood. It and the data must fill the file.
fn read_header(file: &File, length: u64) -> Result<(Vec<u8>, Metadata)> {
    let mut size = [0; 8];
    file.read_exact_at(&mut size, 0)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size + 8 > length {
        bail!("a header of {size} bytes in a file of {length}");
    }
    let mut header = vec![0; size as usize];
    file.read_exact_at(&mut header, 8)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let expected = (size + 8).checked_add(metadata.data_len() as u64);
    if expected != Some(length) {
        bail!("{length} bytes, but its header says {}", expected.unwrap_or(u64::MAX));
    }
    Ok((header, metadata))
}

fn damaged(path: &Path) -> String {
    format!("'{}' is damaged or no safetensors file", path.display())
}

fn unreadable(path: &Path) -> String {
    format!("cannot read the header of '{}'", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::state::{TrainingState, WeightsHeader};
    use super::*;
    use crate::testing::fuzz_seeds;

    /// The hand-made cases that fuzzing starts from, and what it has found: `fuzz/seeds`.
    #[test]
    fn of_the_fuzzing_seeds_only_the_sound_ones_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let (mut weights, mut checkpoints) = (Vec::new(), Vec::new());
        for (name, bytes) in fuzz_seeds("checkpoint") {
            std::fs::write(&path, bytes).unwrap();
            let Ok(file) = TensorFile::open(&path) else { continue };
            let intact = file.bytes("head.bias", &[2]).is_ok() && file.bytes("head.weight", &[2, 1, 1, 1]).is_ok();
            if intact && file.header::<WeightsHeader>().is_ok_and(|header| header.architecture.check().is_ok()) {
                weights.push(name.clone());
            }
            if intact && file.header::<TrainingState>().is_ok() {
                checkpoints.push(name);
            }
        }
        assert_eq!(weights, ["checkpoint", "weights"]);
        assert_eq!(checkpoints, ["checkpoint"]);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flipped");
        let (_, good) = fuzz_seeds("checkpoint").into_iter().find(|(name, _)| name == "checkpoint").unwrap();
        for bit in 0..8 * good.len() {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let noticed = match TensorFile::open(&path) {
                Err(_) => true,
                Ok(file) => [("head.bias", &[2][..]), ("head.weight", &[2, 1, 1, 1])]
                    .iter()
                    .any(|(name, shape)| file.bytes(name, shape).is_err()),
            };
            assert!(noticed, "bit {bit}");
        }
    }
}
