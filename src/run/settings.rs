//! What describes a run: one list, of which a resumed run must share a part, all ranks a part, and `config.json` shows
//! a part.

use anyhow::Result;
use serde_json::{Map, Value, json};
use tch::Device;

use super::inputs::{Inputs, TestData};
use crate::checkpoint::KERNELS;
use crate::cli::REFERENCE_DROPOUT;
use crate::cli::config::{Config, Training};
use crate::cli::split::SplitChoice;
use crate::data::spec::Recipe;
use crate::engine::device;
use crate::engine::precision::Precision;
use crate::model::architecture::Architecture;
use crate::model::backend::Backend;

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
    pub fn new(
        config: &Config,
        device: Device,
        precision: Precision,
        inputs: &Inputs,
        world_size: usize,
    ) -> Result<Self> {
        let kernels = Backend::new(device, precision.0)?.describe(precision.0)?;
        let Training { max_steps, learning_rate, weight_decay, augment, seed, crossvalidation_idx, .. } =
            &config.training;
        let Training { schedule: decay, lr_warmup_steps, ema, dropout, init, init_from, split: choice, folds, .. } =
            &config.training;
        let split_name = choice.as_ref().map(SplitChoice::name);
        let has_count = matches!(choice, Some(SplitChoice::Disjoint | SplitChoice::Blocks));
        let decay = decay.name();
        // How far the rate has fallen depends on the number of steps. Absent where it is constant.
        let changes = decay != "constant" || *lr_warmup_steps > 0;
        let schedule = changes.then_some((decay, lr_warmup_steps, max_steps));
        let training_data = inputs.training.as_ref().map(|data| &data.slices.sha256);
        let test_data = inputs.test.as_ref().map(|test| match test {
            TestData::Slices(slices) => json!(slices.sha256[0]),
            TestData::Files(cases) => json!(cases.iter().map(|case| &case.name).collect::<Vec<_>>()),
        });
        // Absent from checkpoints of the reference recipe, as those of 0.1.0 are.
        let native = (inputs.spec.recipe != Recipe::Reference).then_some((inputs.spec.recipe, &config.native));
        // Absent where they change nothing, as they are from checkpoints of programs without these flags.
        let (border_weight, border_sigma) = config.border.map(|border| (border.weight, border.sigma)).unzip();
        let unusual_dropout = Some(*dropout).filter(|share| *share != REFERENCE_DROPOUT);
        let rare_share = Some(config.native.rare_class_share).filter(|share| *share > 0.0);
        let class_weights = inputs.training.as_ref().and_then(|data| data.class_weights.as_ref());
        // Absent from checkpoints of the challenge's data, as those of 0.1.0 are.
        let map = inputs.spec.map.as_ref().filter(|map| !map.is_plain_pair());
        // Absent where they are those of the type, as they are from checkpoints of programs without the flag.
        let ranges = inputs.training.as_ref().and_then(|data| data.slices.unusual_ranges());
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
            (KERNELS, json!(kernels), &[Resume, Record]),
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
            ("schedule", json!(schedule), &[Resume, Ranks]),
            ("schedule", json!(decay), &[Record]),
            ("lr_warmup_steps", json!(lr_warmup_steps), &[Record]),
            ("ema", json!(ema), &[Resume, Ranks, Record]),
            ("dropout", json!(unusual_dropout), &[Resume]),
            ("dropout", json!(dropout), &[Ranks, Record]),
            ("init", json!(init.name()), &[Ranks, Record]),
            ("init_from", json!(init_from), &[Ranks, Record]),
            ("weight_decay", json!(weight_decay), &[Resume, Ranks, Record]),
            ("augment", json!(augment), &[Resume, Ranks, Record]),
            ("seed", json!(seed), &[Resume, Ranks, Record]),
            ("split", json!(split_name), &[Resume, Ranks, Record]),
            ("folds", json!(has_count.then_some(folds)), &[Resume, Ranks, Record]),
            ("crossvalidation_idx", json!(crossvalidation_idx), &[Resume, Ranks, Record]),
            ("data_dir", json!(config.source.path().display().to_string()), &[Record]),
            ("channels", json!(inputs.spec.channels), &[Record]),
            ("label_map", json!(inputs.spec.map), &[Record]),
            ("label map", json!(map), &[Resume, Ranks]),
            ("grey ranges", json!(ranges), &[Resume]),
            ("grey_range", json!(config.grey_range.name()), &[Ranks, Record]),
            ("grey_ranges", json!(inputs.spec.grey_ranges), &[Record]),
            ("class_weights", json!(class_weights), &[Resume, Ranks, Record]),
            ("recipe", json!(inputs.spec.recipe), &[Record]),
            ("native recipe", json!(native), &[Resume, Ranks]),
            ("patch", json!(native.map(|(_, native)| native.patch)), &[Record]),
            ("border_weight", json!(border_weight), &[Resume, Ranks, Record]),
            ("border_sigma", json!(border_sigma), &[Resume, Ranks, Record]),
            ("rare_class_share", json!(rare_share), &[Resume, Ranks, Record]),
            ("augmentations", json!(native.map(|(_, native)| &native.augmentations)), &[Record]),
            ("training data", json!(training_data), &[Resume, Ranks]),
            ("test data", json!(test_data), &[Ranks]),
        ];
        if let Some(split) = split {
            settings.push(("train_slices", json!(split.train), &[Record]));
            settings.push(("validation_slices", json!(split.validation), &[Record]));
        }
        Ok(Self(settings))
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
