//! One safetensors file of ours: tensors as f32, facts about them in the header, and a checksum of each tensor.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::atomic::AtomicFile;
use crate::model::unet::{Architecture, UNet};
use crate::model_dir::create_parent;

/// Raised when older programs could no longer read the files.
pub const FORMAT: u32 = 1;
/// The header entry with our own facts, in JSON.
const HEADER_KEY: &str = "unet";

/// Of the header in bytes; a checkpoint's has 40,000.
const MAX_HEADER: u64 = 16 << 20;

/// The part of the facts that is read first.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// The part of the facts that this file adds: the SHA-256 of each tensor's bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Checksums {
    sha256: BTreeMap<String, String>,
}

/// All facts.
#[derive(Debug, Serialize)]
struct Facts<'a, T> {
    #[serde(flatten)]
    header: &'a T,
    #[serde(flatten)]
    checksums: Checksums,
}

/// Writes `path` whole or not at all; tensors one at a time, so that memory stays that of the largest.
pub fn write(path: &Path, tensors: &[(String, Tensor)], header: &impl Serialize) -> Result<()> {
    create_parent(path)?;
    let attempt = || -> Result<()> {
        let sha256 = tensors.iter().map(|(name, tensor)| (name.clone(), checksum(&bytes(tensor)))).collect();
        let facts = serde_json::to_string(&Facts { header, checksums: Checksums { sha256 } })?;
        let mut end = 0;
        let mut infos = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let start = end;
            end += tensor.numel() * size_of::<f32>();
            let shape = tensor.size().into_iter().map(|side| side as usize).collect();
            infos.push((name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) }));
        }
        let entries = HashMap::from([(HEADER_KEY.to_owned(), facts)]);
        let mut header = serde_json::to_vec(&Metadata::new(Some(entries), infos)?)?;
        // Data begins at a multiple of 8, as the format asks.
        header.resize(header.len().next_multiple_of(8), b' ');
        let file = AtomicFile::create(path)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file.file());
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        for (_, tensor) in tensors {
            writer.write_all(&bytes(tensor))?;
        }
        writer.flush()?;
        drop(writer);
        Ok(file.commit()?)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Row-major f32, little-endian as every machine that libtorch runs on.
fn bytes(tensor: &Tensor) -> Cow<'static, [u8]> {
    let host = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut bytes = vec![0; host.numel() * size_of::<f32>()];
    host.copy_data_u8(&mut bytes, host.numel());
    Cow::Owned(bytes)
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open file, its header understood. Tensors are read one by one, and only those of the expected shape, so that a file
/// cannot ask for more memory than the network takes.
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
        let (metadata, data_start) = read_header(&file, length).with_context(|| damaged(path))?;
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
        let checksums = serde_json::from_str(&facts).with_context(|| unreadable(path))?;
        Ok(Self { path: path.to_owned(), file, metadata, data_start, facts, checksums })
    }

    /// Our entry of the header.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.facts).with_context(|| unreadable(&self.path))
    }

    /// The network whose parameters stand under `prefix`.
    pub fn network(&self, prefix: &str, architecture: Architecture, device: Device) -> Result<UNet> {
        UNet::new(architecture, &mut |path, shape| self.tensor(&format!("{prefix}{path}"), shape, device))
            .with_context(|| format!("cannot load '{}'", self.path.display()))
    }

    /// Errors: no such tensor, one of another shape, or one whose bytes have changed since they were written.
    pub fn tensor(&self, name: &str, shape: &[i64], device: Device) -> Result<Tensor> {
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
        Ok(Tensor::from_data_size(&bytes, shape, Kind::Float).to_device(device))
    }
}

/// The header, and where the data begin. They must fill the file.
fn read_header(file: &File, length: u64) -> Result<(Metadata, u64)> {
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
    Ok((metadata, size + 8))
}

fn damaged(path: &Path) -> String {
    format!("'{}' is damaged or no safetensors file", path.display())
}

fn unreadable(path: &Path) -> String {
    format!("cannot read the header of '{}'", path.display())
}
