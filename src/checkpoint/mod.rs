//! Weights and training state on disk, as safetensors without pickle. Knows nothing of the loop.
//!
//! `model.safetensors` holds the parameters under PyTorch's names. A checkpoint, `checkpoints/step-N.safetensors`,
//! holds them under `model.`, Adam's moments under `exp_avg.` and `exp_avg_sq.`, and the rest in the header
//! (`state.rs`). A moving average of the parameters is under `ema.`, where one is kept. `background_writer.rs` writes
//! checkpoints beside training. Random numbers have no state to save (`data/random.rs`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use crate::data::spec::DataSpec;
use crate::model::architecture::Architecture;
use crate::model::unet::UNet;

mod background_writer;
mod read;
mod state;
mod write;

pub use background_writer::BackgroundWriter;
use read::TensorFile;
pub use state::{BestScore, KERNELS, Progress, TrainingState, ValidationState};
use state::{CheckpointMark, WeightsHeader};

/// Everything that training goes on from. Moments are in the order of `UNet::parameters`.
#[derive(Debug)]
pub struct Checkpoint {
    pub state: TrainingState,
    pub net: UNet,
    pub exp_avgs: Vec<Tensor>,
    pub exp_avg_sqs: Vec<Tensor>,
    /// The moving average of the parameters; empty where none is kept.
    pub averages: Vec<Tensor>,
}

/// The same as copies on the host, which training no longer changes.
pub struct Snapshot {
    state: TrainingState,
    tensors: Vec<(String, Tensor)>,
}

/// Writes the parameters of `net`, which were made by step `step` of a training on data of `spec`; `best` is the score
/// they are kept for.
pub fn save_weights(path: &Path, net: &UNet, spec: &DataSpec, step: u64, best: Option<&BestScore>) -> Result<()> {
    let header = WeightsHeader::new(net.architecture, spec.clone(), step, best.cloned());
    let tensors: Vec<_> = net.parameters().into_iter().map(|(name, tensor)| (name, tensor.detach())).collect();
    write::write(path, &tensors, &header)
}

/// Reads a network from a weight file, or from a checkpoint the one that would predict.
///
/// Errors: a missing, corrupt or foreign file; one of another width than `base_filters`, where that is given.
pub fn load_weights(path: &Path, base_filters: Option<i64>, device: Device) -> Result<UNet> {
    require_weights(path)?;
    let file = TensorFile::open(path)?;
    let header: WeightsHeader = file.header()?;
    check_width(path, header.architecture, base_filters)?;
    network(&file, path, file.header::<CheckpointMark>()?.prefix(), header.architecture, device)
}

/// The newest checkpoint of `folder` that is intact, and its step: what stands for the weights of a run that was
/// stopped. `warn` is told of each that is not intact. `None` where there is no checkpoint.
///
/// Errors: none is intact.
pub fn newest(folder: &Path, mut warn: impl FnMut(&str)) -> Result<Option<(u64, PathBuf)>> {
    let mut checkpoints = list(folder)?;
    while let Some((step, path)) = checkpoints.pop() {
        match load_weights(&path, None, Device::Cpu) {
            Ok(_) => return Ok(Some((step, path))),
            Err(error) if checkpoints.is_empty() => return Err(error.context("no checkpoint can be read")),
            Err(error) => warn(&format!("{error:#}; using the checkpoint before it")),
        }
    }
    Ok(None)
}

/// The step of the newest checkpoint of `folder`, intact or not; `None` where there is none.
pub fn newest_step(folder: &Path) -> Result<Option<u64>> {
    Ok(list(folder)?.last().map(|(step, _)| *step))
}

/// The step that has made the weights of a file; `None` where it cannot be read, or is of 0.1.0.
pub fn made_at_step(path: &Path) -> Option<u64> {
    TensorFile::open(path).ok()?.header::<WeightsHeader>().ok()?.made_at_step
}

/// What the network of a weight file is for.
///
/// Errors: as [`load_weights`]; a file whose network does not suit what it says of its data.
pub fn data_spec(path: &Path) -> Result<DataSpec> {
    require_weights(path)?;
    let file = TensorFile::open(path)?;
    let WeightsHeader { architecture, data, .. } = file.header()?;
    if let (None, Some(step)) = (&data, file.header::<CheckpointMark>()?.step) {
        bail!(
            "'{}', the checkpoint of step {step}, was written by a version of unet that did not keep what a network is \
             for; go on with --resume_training to the end of the run, which writes the weights",
            path.display()
        );
    }
    let spec = data.unwrap_or_else(DataSpec::isbi);
    if (architecture.channels, architecture.classes) != (spec.channels as i64, spec.classes() as i64) {
        bail!(
            "'{}' holds a network of {architecture:?}, expected {} channels and {} classes; it was made for other data",
            path.display(),
            spec.channels,
            spec.classes()
        );
    }
    Ok(spec)
}

/// The score that the weights of a file are kept for; `None` for those of a last step, and where there is no file.
pub fn best_score(path: &Path) -> Result<Option<BestScore>> {
    if !path.is_file() {
        return Ok(None);
    }
    Ok(TensorFile::open(path)?.header::<WeightsHeader>()?.best)
}

/// A checksum that two weight files share if they hold the same weights, for the same data.
pub fn fingerprint(path: &Path) -> Result<String> {
    require_weights(path)?;
    Ok(TensorFile::open(path)?.header_sha256().to_owned())
}

/// A checksum that two weight files share if they hold the same weights, whatever they are for.
pub fn tensor_checksum(path: &Path) -> Result<String> {
    require_weights(path)?;
    Ok(TensorFile::open(path)?.tensors_sha256())
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

/// Reads the newest checkpoint of `folder` that is intact; `warn` is told of each that is not.
///
/// Errors: none there, none intact, or one of another width than `base_filters`, where that is given.
pub fn load_newest(
    folder: &Path,
    base_filters: Option<i64>,
    device: Device,
    mut warn: impl FnMut(&str),
) -> Result<Checkpoint> {
    let mut checkpoints = list(folder)?;
    if checkpoints.is_empty() {
        bail!("--resume_training: no checkpoint in '{}'; leave the flag out to train from the start", folder.display());
    }
    while let Some((_, path)) = checkpoints.pop() {
        match load(&path, device) {
            Ok(checkpoint) => {
                check_width(&path, checkpoint.state.architecture, base_filters)?;
                return Ok(checkpoint);
            }
            Err(error) if checkpoints.is_empty() => {
                return Err(error.context("--resume_training: no checkpoint can be read"));
            }
            Err(error) => warn(&format!("{error:#}; going on from the checkpoint before it")),
        }
    }
    unreachable!("the last checkpoint returns")
}

fn load(path: &Path, device: Device) -> Result<Checkpoint> {
    let file = TensorFile::open(path)?;
    let state: TrainingState = file.header()?;
    let net = network(&file, path, "model.", state.architecture, device)?;
    let moments = |kind: &str| -> Result<Vec<Tensor>> {
        net.parameters()
            .iter()
            .map(|(name, tensor)| self::tensor(&file, &format!("{kind}.{name}"), &tensor.size(), device))
            .collect()
    };
    let (exp_avgs, exp_avg_sqs) = (moments("exp_avg")?, moments("exp_avg_sq")?);
    let averages = if state.has_averages { moments("ema")? } else { Vec::new() };
    Ok(Checkpoint { state, net, exp_avgs, exp_avg_sqs, averages })
}

/// The network whose parameters stand under `prefix`.
fn network(file: &TensorFile, path: &Path, prefix: &str, architecture: Architecture, device: Device) -> Result<UNet> {
    UNet::new(architecture, &mut |name, shape| tensor(file, &format!("{prefix}{name}"), shape, device))
        .with_context(|| format!("cannot load '{}'", path.display()))
}

fn tensor(file: &TensorFile, name: &str, shape: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::from_data_size(&file.bytes(name, shape)?, shape, Kind::Float).to_device(device))
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
        let averages = if state.has_averages { zeros() } else { Vec::new() };
        Ok(Self { state, net, exp_avgs, exp_avg_sqs, averages })
    }
}

impl Snapshot {
    /// The same, saying what the network is for.
    pub fn for_data(mut self, spec: &DataSpec) -> Self {
        self.state.data = Some(spec.clone());
        self
    }

    /// Waits for the device.
    pub fn new(
        net: &UNet,
        (exp_avgs, exp_avg_sqs): (&[Tensor], &[Tensor]),
        averages: &[Tensor],
        state: TrainingState,
    ) -> Self {
        let copy = |tensor: &Tensor| {
            let tensor = tensor.detach();
            if tensor.device().is_cuda() { tensor.to_device(Device::Cpu) } else { tensor.copy() }
        };
        let mut state = state;
        state.has_averages = !averages.is_empty();
        let mut tensors = Vec::new();
        for (index, (name, tensor)) in net.parameters().into_iter().enumerate() {
            tensors.push((format!("model.{name}"), copy(tensor)));
            tensors.push((format!("exp_avg.{name}"), copy(&exp_avgs[index])));
            tensors.push((format!("exp_avg_sq.{name}"), copy(&exp_avg_sqs[index])));
            tensors.extend(averages.get(index).map(|average| (format!("ema.{name}"), copy(average))));
        }
        Self { state, tensors }
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

/// Errors: a network of another width than `base_filters`, where that is given.
fn check_width(path: &Path, architecture: Architecture, base_filters: Option<i64>) -> Result<()> {
    match base_filters {
        Some(asked) if asked != architecture.base_filters => bail!(
            "'{}' holds a network of {} base filters, --base_filters says {asked}; leave the flag out to \
             take the file's",
            path.display(),
            architecture.base_filters
        ),
        _ => Ok(()),
    }
}
