//! Writes a safetensors file of ours: tensors as f32; in the header facts about them, a checksum of each, and one of
//! itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::read::{Checksums, HEADER_KEY, NO_CHECKSUM, checksum, header_checksum};
use crate::files::{AtomicFile, create_parent};

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
        let checksums = Checksums { sha256, header_sha256: NO_CHECKSUM.to_owned() };
        let facts = serde_json::to_string(&Facts { header, checksums })?;
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
        let (place, sum) = header_checksum(&header, NO_CHECKSUM).context("the header has no place for its checksum")?;
        header[place..][..sum.len()].copy_from_slice(sum.as_bytes());
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
