//! What describes a run: one list, of which a resumed run must share a part, all ranks a part, and `config.json` shows
//! a part.

use serde_json::{Map, Value, json};
use tch::Device;

use super::inputs::Inputs;
use crate::cli::config::{Config, Training};
use crate::engine::device;
use crate::engine::precision::Precision;
use crate::model::architecture::Architecture;

/// Who a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// A run that goes on from a checkpoint must have the same value.
    Resume,
    /// All ranks must have been started with the same value.
    Ranks,
    /// `config.json` and the log file show the value.
    Record,
}
use Audience::{Ranks, Record, Resume};

/// Everything that describes a run, in the order in which it is shown.
#[derive(Debug, Clone)]
pub struct Settings(Vec<(&'static str, Value, &'static [Audience])>);

impl Settings {
    /// The settings of a run of `world_size` processes on this device.
    pub fn new(config: &Config, device: Device, precision: Precision, inputs: &Inputs, world_size: usize) -> Self {
        let Training { max_steps, learning_rate, weight_decay, augment, seed, crossvalidation_idx } = &config.training;
        let stacks = inputs.training.as_ref().map(|data| &data.stacks);
        let training_data = stacks.map(|stacks| (&stacks.images.sha256, &stacks.labels.sha256));
        let split = inputs.training.as_ref().map(|data| &data.split);
        let warmup_steps = config.benchmark.as_ref().map(|benchmark| benchmark.warmup_steps);
        let kind_of_device = if device.is_cuda() { "cuda" } else { "cpu" };
        let mut settings = vec![
            ("unet_version", json!(env!("CARGO_PKG_VERSION")), &[Record][..]),
            ("libtorch_version", json!(env!("LIBTORCH_VERSION")), &[Record]),
            ("program", json!(env!("CARGO_PKG_VERSION")), &[Ranks]),
            ("exec_mode", json!(config.exec_mode.name()), &[Ranks, Record]),
            ("device", json!(kind_of_device), &[Ranks]),
            ("device", json!(device::describe(device)), &[Record]),
            ("precision", json!(precision.name()), &[Resume, Ranks, Record]),
            ("tf32", json!(precision.multiplies_in_tf32(device, config.tf32)), &[Record]),
            ("base_filters", json!(config.base_filters), &[Ranks, Record]),
            ("batch_size", json!(config.batch_size), &[Resume, Ranks, Record]),
            ("world_size", json!(world_size), &[Record]),
            ("log_every", json!(config.log_every), &[Ranks, Record]),
            ("xla", json!(config.xla), &[Record]),
            ("deterministic", json!(config.deterministic), &[Record]),
            ("warmup_steps", json!(warmup_steps), &[Ranks]),
            ("resume_training", json!(config.resume_training), &[Ranks]),
            ("max_steps", json!(max_steps), &[Ranks, Record]),
            ("learning_rate", json!(learning_rate), &[Resume, Ranks, Record]),
            ("weight_decay", json!(weight_decay), &[Resume, Ranks, Record]),
            ("augment", json!(augment), &[Resume, Ranks, Record]),
            ("seed", json!(seed), &[Resume, Ranks, Record]),
            ("crossvalidation_idx", json!(crossvalidation_idx), &[Resume, Ranks, Record]),
            ("data_dir", json!(config.data_dir.display().to_string()), &[Record]),
            ("training data", json!(training_data), &[Resume, Ranks]),
            ("test data", json!(inputs.test.as_ref().map(|stack| &stack.sha256)), &[Ranks]),
        ];
        if let Some(split) = split {
            settings.push(("train_slices", json!(split.train), &[Record]));
            settings.push(("validation_slices", json!(split.validation), &[Record]));
        }
        Self(settings)
    }

    /// What a resumed run must have in common with the one that it goes on with; kept in each checkpoint.
    pub fn of_training(&self) -> Map<String, Value> {
        self.part(Resume)
    }

    /// What all ranks must have in common.
    pub fn of_ranks(&self) -> Map<String, Value> {
        self.part(Ranks)
    }

    /// What the record of the run shows besides its data. `architecture` is that of the network in use, whose width a
    /// checkpoint may have decided rather than the flag.
    pub fn of_record(&self, architecture: Architecture) -> Map<String, Value> {
        let mut record = self.part(Record);
        record.insert("base_filters".to_owned(), json!(architecture.base_filters));
        record
    }

    fn part(&self, audience: Audience) -> Map<String, Value> {
        let chosen = self.0.iter().filter(|(_, _, audiences)| audiences.contains(&audience));
        chosen.map(|(name, value, _)| ((*name).to_owned(), value.clone())).collect()
    }
}
