//! One run from its configuration to its results: read the data, train, evaluate, predict, or time.

use anyhow::{Result, bail};
use serde::Serialize;
use tch::{Device, Tensor};

use crate::amp::Precision;
use crate::benchmark::{self, Work};
use crate::config::{Benchmark, Config, Recipe};
use crate::data::batches::TrainingBatches;
use crate::data::folds::{self, Split};
use crate::data::preprocess::GreyRange;
use crate::data::stack::{ImageStack, TEST_VOLUME, TrainingStacks, describe, stack_path};
use crate::logger::Logger;
use crate::model::unet::UNet;
use crate::model_dir::ModelDir;
use crate::trainer::Trainer;
use crate::{checkpoint, device, evaluate, predict, train};

/// Carries out `config`.
pub fn run(config: &Config) -> Result<()> {
    let device = device::select(config.device)?;
    device::prepare(device);
    let precision = Precision::new(config.amp, device);
    let model_dir = ModelDir::new(&config.model_dir);
    if config.benchmark.is_none() {
        refuse_to_lose_results(config, &model_dir)?;
    }
    let inputs = Inputs::read(config, device)?;
    let mut logger = Logger::new(config.log_dir.as_deref())?;
    for warning in &config.warnings {
        logger.warn(warning);
    }
    logger.note(&format!("device: {}, {}", device::describe(device), precision.name()));
    inputs.describe(&logger);

    match config.benchmark {
        Some(benchmark) => time(config, benchmark, inputs, &model_dir, precision, device, &mut logger),
        None => work(config, inputs, &model_dir, precision, device, &mut logger),
    }
}

/// Fails before any work where results would be replaced unasked, or could not be written.
fn refuse_to_lose_results(config: &Config, model_dir: &ModelDir) -> Result<()> {
    let mode = config.exec_mode;
    if !mode.trains() {
        // Fails first on a missing folder: predicting must not make one.
        checkpoint::require_weights(&model_dir.weights())?;
    }
    model_dir.create()?;
    if config.overwrite || config.resume_training {
        return Ok(());
    }
    if mode.trains() {
        return model_dir.refuse_existing_run();
    }
    if mode.evaluates() {
        model_dir.refuse_existing(&[model_dir.scores()])?;
    }
    if mode.predicts() {
        model_dir.refuse_existing(&[model_dir.masks(), model_dir.probabilities()])?;
    }
    Ok(())
}

/// Trains, evaluates and predicts, as far as the mode says.
fn work(
    config: &Config,
    inputs: Inputs,
    model_dir: &ModelDir,
    precision: Precision,
    device: Device,
    logger: &mut Logger,
) -> Result<()> {
    let record = RunRecord::new(config, &inputs, precision, device);
    logger.parameters(serde_json::to_value(&record)?)?;
    let Inputs { training, test } = inputs;
    let mode = config.exec_mode;

    let net = if let (true, Some(data)) = (mode.trains(), &training) {
        let trainer = train::trainer(config, model_dir, precision, device)?;
        if config.overwrite {
            model_dir.discard_run()?;
        }
        let mut batches = data.batches(config);
        train::train(config, trainer, &mut batches, model_dir, &record, logger, device)?
    } else {
        checkpoint::load_weights(&model_dir.weights(), config.base_filters, device)?
    };
    let net = net.prepare_for_prediction(precision.0)?;
    if let (true, Some(data)) = (mode.evaluates(), &training) {
        warn_of_known_slices(model_dir, &data.split, logger);
        evaluate::evaluate(&net, &data.stacks, &data.split.validation, precision, model_dir, logger)?;
    }
    if let Some(stack) = &test {
        predict::predict(&net, stack, config.batch_size, precision, model_dir, logger)?;
    }
    Ok(())
}

/// Warns where validation slices were trained on: with another fold or seed than in training, scores flatter.
fn warn_of_known_slices(model_dir: &ModelDir, split: &Split, logger: &Logger) {
    let record: Option<serde_json::Value> =
        std::fs::read(model_dir.config()).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let trained = record.as_ref().and_then(|record| record["train_slices"].as_array());
    let known = |slice: &&usize| trained.is_some_and(|trained| trained.contains(&serde_json::json!(slice)));
    let count = split.validation.iter().filter(known).count();
    if count > 0 {
        logger.warn(&format!(
            "{count} of {} validation slices were trained on, see train_slices in '{}'; \
             give the --crossvalidation_idx and --seed of the training",
            split.validation.len(),
            model_dir.config().display()
        ));
    }
}

/// Times training, prediction, or first one and then the other.
fn time(
    config: &Config,
    benchmark: Benchmark,
    inputs: Inputs,
    model_dir: &ModelDir,
    precision: Precision,
    device: Device,
    logger: &mut Logger,
) -> Result<()> {
    let Inputs { training, test } = inputs;
    if let (true, Some(data)) = (config.exec_mode.trains(), &training) {
        let net = UNet::with_fresh_weights(config.architecture(), config.recipe.seed, device)?;
        let mut trainer = Trainer::new(net, &config.recipe, precision, device);
        let mut batches = data.batches(config);
        let step = |number| trainer.step(&batches.batch(number)).map(drop);
        benchmark::run(Work::Train, config, benchmark, device, logger, step)?;
    }
    if let Some(stack) = &test {
        let net = if model_dir.weights().is_file() {
            checkpoint::load_weights(&model_dir.weights(), config.base_filters, device)?
        } else {
            logger.note(&format!("no weights in '{}': timing random ones", config.model_dir.display()));
            UNet::with_fresh_weights(config.architecture(), config.recipe.seed, device)?
        };
        let net = net.prepare_for_prediction(precision.0)?;
        let (pages, size) = (stack.pages() as u64, config.batch_size as u64);
        let mut last: Option<Tensor> = None;
        let step = |number: u64| {
            let slices: Vec<usize> = (0..size).map(|i| ((number * size + i) % pages) as usize).collect();
            last = Some(predict::background_probability(&net, &stack.preprocessed(&slices), precision)?);
            Ok(())
        };
        benchmark::run(Work::Test, config, benchmark, device, logger, step)?;
    }
    Ok(())
}

/// The stacks that the mode needs, read before anything else is done.
struct Inputs {
    training: Option<TrainingData>,
    test: Option<ImageStack>,
}

struct TrainingData {
    stacks: TrainingStacks,
    split: Split,
}

impl Inputs {
    fn read(config: &Config, device: Device) -> Result<Self> {
        let mode = config.exec_mode;
        let training = if mode.trains() || mode.evaluates() {
            let stacks = TrainingStacks::read(&config.data_dir, device)?;
            let split = folds::split(stacks.images.pages(), config.recipe.seed, config.recipe.crossvalidation_idx);
            if split.train.is_empty() || (mode.evaluates() && split.validation.is_empty()) {
                bail!(
                    "'{}' holds {}: too few for --crossvalidation_idx, which keeps a fifth of at least 2 for validation",
                    stacks.images.path.display(),
                    describe(stacks.images.size())
                );
            }
            Some(TrainingData { stacks, split })
        } else {
            None
        };
        let test = mode
            .predicts()
            .then(|| ImageStack::read(&stack_path(&config.data_dir, TEST_VOLUME)?, device))
            .transpose()?;
        Ok(Self { training, test })
    }

    fn describe(&self, logger: &Logger) {
        if let Some(TrainingData { stacks, split }) = &self.training {
            let (train, validation) = (split.train.len(), split.validation.len());
            logger
                .note(&format!("data: {}, {train} to train, {validation} to validate", describe(stacks.images.size())));
        }
        if let Some(stack) = &self.test {
            logger.note(&format!("test data: {}", describe(stack.size())));
        }
    }
}

impl TrainingData {
    fn batches(&self, config: &Config) -> TrainingBatches<'_> {
        let recipe = &config.recipe;
        let slices = self.split.train.clone();
        TrainingBatches::new(&self.stacks, slices, recipe.seed, config.batch_size, recipe.augment)
    }
}

/// `config.json`: all that one needs to know to repeat the run.
#[derive(Debug, Serialize)]
pub struct RunRecord {
    unet_version: &'static str,
    libtorch_version: &'static str,
    exec_mode: &'static str,
    device: String,
    precision: &'static str,
    base_filters: Option<i64>,
    batch_size: usize,
    log_every: u64,
    xla: bool,
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
    fn new(config: &Config, inputs: &Inputs, precision: Precision, device: Device) -> Self {
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
            libtorch_version: "2.11.0",
            exec_mode: config.exec_mode.name(),
            device: device::describe(device),
            precision: precision.name(),
            base_filters: config.exec_mode.trains().then_some(config.architecture().base_filters),
            batch_size: config.batch_size,
            log_every: config.log_every,
            xla: config.xla,
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
