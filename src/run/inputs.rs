//! The data and the network that a run begins with.

use anyhow::{Result, bail};
use tch::Device;

use super::context::Compute;
use crate::checkpoint;
use crate::cli::ExecMode;
use crate::cli::config::Config;
use crate::data::folds::{self, Split};
use crate::data::order::SampleSchedule;
use crate::data::stack::{ImageStack, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, TrainingStacks, describe, stack_path};
use crate::model::architecture::Architecture;
use crate::model::unet::UNet;
use crate::output::logger::Logger;
use crate::output::manifest::DatasetRecord;
use crate::output::model_dir::ModelDir;
use crate::recipe::batches::TrainingBatches;

/// Filters of the first level by default: the paper's.
const DEFAULT_BASE_FILTERS: i64 = 64;

/// The stacks that the mode needs, read before anything else is done.
pub struct Inputs {
    pub training: Option<TrainingData>,
    pub test: Option<ImageStack>,
}

/// The training stacks and which of their slices are kept for validation.
pub struct TrainingData {
    pub stacks: TrainingStacks,
    pub split: Split,
}

impl Inputs {
    /// Fails where a stack that the mode needs is missing.
    pub fn require(config: &Config) -> Result<()> {
        let mode = config.exec_mode;
        let training = needs_labels(mode);
        let needed = [(TRAIN_VOLUME, training), (TRAIN_LABELS, training), (TEST_VOLUME, mode.predicts())];
        for (name, _) in needed.iter().filter(|(_, is_needed)| *is_needed) {
            stack_path(&config.data_dir, name)?;
        }
        Ok(())
    }

    /// Reads the stacks to `device`.
    ///
    /// Errors: a stack that is missing or unreadable, and too few slices for the fold.
    pub fn read(config: &Config, device: Device) -> Result<Self> {
        let mode = config.exec_mode;
        let training = needs_labels(mode).then(|| TrainingData::read(config, device)).transpose()?;
        let test_stack = || ImageStack::read(&stack_path(&config.data_dir, TEST_VOLUME)?, device);
        let test = mode.predicts().then(test_stack).transpose()?;
        Ok(Self { training, test })
    }

    /// Tells what was read.
    pub fn describe(&self, logger: &Logger) {
        if let Some(TrainingData { stacks, split }) = &self.training {
            let (train, validation) = (split.train.len(), split.validation.len());
            let size = describe(stacks.images.size());
            logger.note(&format!("data: {size}, {train} to train, {validation} to validate"));
        }
        if let Some(stack) = &self.test {
            logger.note(&format!("test data: {}", describe(stack.size())));
        }
    }

    /// The files for `config.json`.
    pub fn datasets(&self) -> Vec<DatasetRecord> {
        let images =
            |stack: &ImageStack| DatasetRecord::new(&stack.path, stack.size(), &stack.sha256, Some(stack.range));
        let training = self.training.iter().flat_map(|data| {
            let TrainingStacks { images: volume, labels } = &data.stacks;
            [images(volume), DatasetRecord::new(&labels.path, labels.size(), &labels.sha256, None)]
        });
        training.chain(self.test.iter().map(images)).collect()
    }
}

fn needs_labels(mode: ExecMode) -> bool {
    mode.trains() || mode.evaluates()
}

impl TrainingData {
    fn read(config: &Config, device: Device) -> Result<Self> {
        let stacks = TrainingStacks::read(&config.data_dir, device)?;
        let split = folds::split(stacks.images.pages(), config.training.seed, config.training.crossvalidation_idx);
        if split.train.is_empty() || (config.exec_mode.evaluates() && split.validation.is_empty()) {
            bail!(
                "'{}' holds {}: too few for --crossvalidation_idx, which keeps a fifth of at least 2 for validation",
                stacks.images.path.display(),
                describe(stacks.images.size())
            );
        }
        Ok(Self { stacks, split })
    }

    /// The batches of this rank; `first_step` and `first_sample` are those that were made before this process began.
    pub fn batches(
        &self,
        config: &Config,
        compute: &Compute,
        first_step: u64,
        first_sample: u64,
    ) -> TrainingBatches<'_> {
        let (batch_size, ranks) = (config.batch_size as u64, compute.world.size as u64);
        let schedule = SampleSchedule { first_step, first_sample, batch_size, ranks };
        let (seed, augment) = (config.training.seed, config.training.augment);
        TrainingBatches::new(&self.stacks, &self.split.train, schedule, compute.world.rank as u64, seed, augment)
    }
}

/// The network that training from the start makes.
pub fn architecture(config: &Config) -> Architecture {
    Architecture::for_slices(config.base_filters.unwrap_or(DEFAULT_BASE_FILTERS))
}

/// The network that training from the start begins with.
pub fn fresh_network(config: &Config, device: Device) -> Result<UNet> {
    UNet::with_fresh_weights(architecture(config), config.training.seed, device)
}

/// The weights in the model folder, read by rank 0.
pub fn trained_network(config: &Config, compute: &Compute, model_dir: &ModelDir) -> Result<UNet> {
    let (world, device) = (&compute.world, compute.device);
    let mut read = None;
    let architecture = world.on_main("weights", || {
        let net = checkpoint::load_weights(&model_dir.weights(), config.base_filters, device)?;
        Ok(read.insert(net).architecture)
    })?;
    let net = match read {
        Some(net) => net,
        None => UNet::with_fresh_weights(architecture, 0, device)?,
    };
    let parameters = net.parameters();
    world.broadcast(&parameters.iter().map(|(_, tensor)| *tensor).collect::<Vec<_>>())?;
    drop(parameters);
    Ok(net)
}
