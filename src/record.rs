//! `config.json`: all that one needs to know to repeat a run, written before it starts.

use serde::Serialize;

use crate::config::Recipe;
use crate::data::stack::TrainingStacks;
use crate::data::values::GreyRange;
use crate::device;
use crate::model::architecture::Architecture;
use crate::run::{Inputs, Run};

/// Settings, versions and data of a run.
#[derive(Debug, Serialize)]
pub struct RunRecord {
    unet_version: &'static str,
    libtorch_version: &'static str,
    exec_mode: &'static str,
    device: String,
    precision: &'static str,
    tf32: bool,
    base_filters: i64,
    batch_size: usize,
    world_size: usize,
    log_every: u64,
    xla: bool,
    deterministic: bool,
    #[serde(flatten)]
    recipe: Recipe,
    data_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    train_slices: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_slices: Option<Vec<usize>>,
    datasets: Vec<DatasetRecord>,
}

/// One file of the data: its content and how its values are read.
#[derive(Debug, Serialize)]
struct DatasetRecord {
    file: String,
    pages: i64,
    height: i64,
    width: i64,
    /// Of the raw samples, little-endian.
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grey_range: Option<GreyRange>,
}

impl RunRecord {
    /// `architecture` is that of the network in use, which a checkpoint may have decided.
    pub fn new(run: &Run<'_>, inputs: &Inputs, architecture: Architecture) -> Self {
        let config = run.config;
        let split = inputs.training.as_ref().map(|data| data.split.clone());
        let mut datasets = Vec::new();
        if let Some(data) = &inputs.training {
            let TrainingStacks { images, labels } = &data.stacks;
            datasets.push(DatasetRecord::new(&images.path, images.size(), &images.sha256, Some(images.range)));
            datasets.push(DatasetRecord::new(&labels.path, labels.size(), &labels.sha256, None));
        }
        if let Some(stack) = &inputs.test {
            datasets.push(DatasetRecord::new(&stack.path, stack.size(), &stack.sha256, Some(stack.range)));
        }
        Self {
            unet_version: env!("CARGO_PKG_VERSION"),
            libtorch_version: env!("LIBTORCH_VERSION"),
            exec_mode: config.exec_mode.name(),
            device: device::describe(run.device),
            precision: run.precision.name(),
            tf32: run.multiplies_in_tf32(),
            base_filters: architecture.base_filters,
            batch_size: config.batch_size,
            world_size: run.world.size,
            log_every: config.log_every,
            xla: config.xla,
            deterministic: config.deterministic,
            recipe: config.recipe.clone(),
            data_dir: config.data_dir.display().to_string(),
            train_slices: split.as_ref().map(|split| split.train.clone()),
            validation_slices: split.map(|split| split.validation),
            datasets,
        }
    }
}

impl DatasetRecord {
    fn new(
        path: &std::path::Path,
        [pages, height, width]: [i64; 3],
        sha256: &str,
        grey_range: Option<GreyRange>,
    ) -> Self {
        Self { file: path.display().to_string(), pages, height, width, sha256: sha256.to_owned(), grey_range }
    }
}
