//! Weights and training state on disk, as safetensors without pickle. Knows nothing of the loop.
//!
//! `model.safetensors` holds the parameters under PyTorch's names. A checkpoint, `checkpoints/step-N.safetensors`,
//! holds them under `model.`, Adam's moments under `exp_avg.` and `exp_avg_sq.`, and its counters in the header.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

use crate::model::unet::{Architecture, UNet};
use crate::model_dir::{create_parent, write_atomically};

/// Raised when older programs could no longer read the files.
const FORMAT: u32 = 1;
/// The header entry with our own facts.
const HEADER_KEY: &str = "unet";

/// The part of every header that is read first.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// What a weight file says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WeightsHeader {
    format: u32,
    architecture: Architecture,
}

/// What a checkpoint says of itself: everything that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    pub format: u32,
    pub architecture: Architecture,
    #[serde(flatten)]
    pub progress: Progress,
    /// Adam's updates; fewer than `step` where float16 overflowed.
    pub updates: f64,
    pub loss_scale: f64,
    pub growth_tracker: i64,
}

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps made since the start of training, those before a resume included.
    pub step: u64,
    /// Batches trained on, of all ranks together: what `--max_steps` counts.
    pub batches: u64,
    /// Samples trained on: where the order of samples goes on.
    pub samples: u64,
}

/// Everything that training goes on from. Moments are in the order of `UNet::parameters`.
#[derive(Debug)]
pub struct Checkpoint {
    pub state: TrainingState,
    pub net: UNet,
    pub exp_avgs: Vec<Tensor>,
    pub exp_avg_sqs: Vec<Tensor>,
}

/// Writes the parameters of `net`.
pub fn save_weights(path: &Path, net: &UNet) -> Result<()> {
    let header = WeightsHeader { format: FORMAT, architecture: net.architecture };
    let tensors = net.parameters().into_iter().map(|(name, tensor)| (name, Saved::new(tensor))).collect();
    write(path, tensors, &header)
}

/// Reads a network from a weight file.
///
/// Errors: a missing, corrupt or foreign file; one of another width than `base_filters`, where that is given.
pub fn load_weights(path: &Path, base_filters: Option<i64>, device: Device) -> Result<UNet> {
    require_weights(path)?;
    let file = TensorFile::read(path)?;
    let header: WeightsHeader = file.header()?;
    check_width(path, header.architecture, base_filters)?;
    file.network("", header.architecture, device)
}

/// Errors: no weight file at `path`.
pub fn require_weights(path: &Path) -> Result<()> {
    if !path.is_file() {
        bail!(
            "no weights '{}'; train first (--exec_mode train), or name the folder of a run with --model_dir",
            path.display()
        );
    }
    Ok(())
}

/// Writes a checkpoint under the name of its step.
pub fn save(folder: &Path, net: &UNet, moments: (&[Tensor], &[Tensor]), state: &TrainingState) -> Result<()> {
    let mut tensors = Vec::new();
    for (index, (name, tensor)) in net.parameters().into_iter().enumerate() {
        tensors.push((format!("model.{name}"), Saved::new(tensor)));
        tensors.push((format!("exp_avg.{name}"), Saved::new(&moments.0[index])));
        tensors.push((format!("exp_avg_sq.{name}"), Saved::new(&moments.1[index])));
    }
    write(&checkpoint_path(folder, state.progress.step), tensors, state)
}

/// Reads the newest checkpoint of `folder`.
///
/// Errors: none there, a corrupt one, or one of another width than `base_filters`, where that is given.
pub fn load_newest(folder: &Path, base_filters: Option<i64>, device: Device) -> Result<Checkpoint> {
    let Some((_, path)) = list(folder)?.pop() else {
        bail!("--resume_training: no checkpoint in '{}'; leave the flag out to train from the start", folder.display());
    };
    let file = TensorFile::read(&path)?;
    let state: TrainingState = file.header()?;
    check_width(&path, state.architecture, base_filters)?;
    let net = file.network("model.", state.architecture, device)?;
    let moments = |kind: &str| -> Result<Vec<Tensor>> {
        net.parameters()
            .iter()
            .map(|(name, tensor)| file.tensor(&format!("{kind}.{name}"), &tensor.size(), device))
            .collect()
    };
    let (exp_avgs, exp_avg_sqs) = (moments("exp_avg")?, moments("exp_avg_sq")?);
    Ok(Checkpoint { state, net, exp_avgs, exp_avg_sqs })
}

/// Removes the checkpoints in `folder`, and the folder if nothing else is in it.
pub fn discard(folder: &Path) -> io::Result<()> {
    for (_, path) in list(folder).map_err(io::Error::other)? {
        fs::remove_file(path)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        done => done,
    }
}

impl Checkpoint {
    /// Tensors for `state` without their values, for ranks that get those from rank 0.
    pub fn empty(state: TrainingState, device: Device) -> Result<Self> {
        let net = UNet::with_fresh_weights(state.architecture, 0, device)?;
        let zeros = || net.parameters().iter().map(|(_, tensor)| tch::no_grad(|| tensor.zeros_like())).collect();
        let (exp_avgs, exp_avg_sqs) = (zeros(), zeros());
        Ok(Self { state, net, exp_avgs, exp_avg_sqs })
    }
}

impl TrainingState {
    pub fn new(
        architecture: Architecture,
        progress: Progress,
        updates: f64,
        (loss_scale, growth_tracker): (f64, i64),
    ) -> Self {
        Self { format: FORMAT, architecture, progress, updates, loss_scale, growth_tracker }
    }
}

fn checkpoint_path(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:010}.safetensors"))
}

/// Steps and paths of the checkpoints in `folder`, oldest first. An absent folder holds none.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read '{}'", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read '{}'", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".safetensors"));
        if let Some(step) = step.and_then(|digits| digits.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn check_width(path: &Path, architecture: Architecture, base_filters: Option<i64>) -> Result<()> {
    match base_filters {
        Some(asked) if asked != architecture.base_filters => bail!(
            "'{}' holds a network of {} base filters, --base_filters says {asked}; leave the flag out to take the file's",
            path.display(),
            architecture.base_filters
        ),
        _ => Ok(()),
    }
}

/// A tensor to be saved as f32, row-major.
struct Saved {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl Saved {
    fn new(tensor: &Tensor) -> Self {
        let shape = tensor.size().into_iter().map(|side| side as usize).collect();
        Self { tensor: tensor.detach(), shape }
    }
}

impl View for Saved {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Copied only when it is written, one tensor at a time.
    fn data(&self) -> Cow<'_, [u8]> {
        let host = self.tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut bytes = vec![0; self.data_len()];
        host.copy_data_u8(&mut bytes, host.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * size_of::<f32>()
    }
}

fn write(path: &Path, tensors: Vec<(String, Saved)>, header: &impl Serialize) -> Result<()> {
    create_parent(path)?;
    let metadata = HashMap::from([(HEADER_KEY.to_owned(), serde_json::to_string(header)?)]);
    write_atomically(path, &safetensors::serialize(tensors, Some(metadata))?)
}

/// A safetensors file in memory.
struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorFile {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// Our entry of the header.
    fn header<T: DeserializeOwned>(&self) -> Result<T> {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).with_context(|| self.corrupt())?;
        let text = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER_KEY));
        let Some(text) = text else {
            bail!("'{}' was not written by unet: its header has no '{HEADER_KEY}' entry", self.path.display());
        };
        let unreadable = || format!("cannot read the '{HEADER_KEY}' header of '{}'", self.path.display());
        let Format { format } = serde_json::from_str(text).with_context(unreadable)?;
        if format != FORMAT {
            bail!(
                "'{}' has format {format}, this program reads {FORMAT}; use the version of unet that wrote it",
                self.path.display()
            );
        }
        serde_json::from_str(text).with_context(unreadable)
    }

    /// The network whose parameters stand under `prefix`.
    fn network(&self, prefix: &str, architecture: Architecture, device: Device) -> Result<UNet> {
        UNet::new(architecture, &mut |path, shape| self.tensor(&format!("{prefix}{path}"), shape, device))
            .with_context(|| format!("cannot load '{}'", self.path.display()))
    }

    fn tensor(&self, name: &str, shape: &[i64], device: Device) -> Result<Tensor> {
        let tensors = SafeTensors::deserialize(&self.bytes).with_context(|| self.corrupt())?;
        let view = tensors.tensor(name).with_context(|| format!("no tensor '{name}' in '{}'", self.path.display()))?;
        let found: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        if found != shape || view.dtype() != Dtype::F32 {
            bail!(
                "tensor '{name}' in '{}' is {:?} {found:?}, expected F32 {shape:?}",
                self.path.display(),
                view.dtype()
            );
        }
        Ok(Tensor::from_data_size(view.data(), shape, Kind::Float).to_device(device))
    }

    fn corrupt(&self) -> String {
        format!("'{}' is damaged or no safetensors file", self.path.display())
    }
}
