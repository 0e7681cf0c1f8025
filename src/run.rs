//! One run from its configuration to its results: read the data, train, evaluate, predict, or time.

use std::fs::File;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use tch::Device;

use crate::amp::Precision;
use crate::benchmark::{self, Benchmarked, Work};
use crate::config::{Benchmark, Config, Recipe};
use crate::data::batches::TrainingBatches;
use crate::data::folds::{self, Split};
use crate::data::stack::{ImageStack, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, TrainingStacks, describe, stack_path};
use crate::distributed::World;
use crate::distributed::environment::Place;
use crate::execution::Execution;
use crate::logger::Logger;
use crate::model::unet::UNet;
use crate::model_dir::ModelDir;
use crate::monitor::Monitor;
use crate::record::RunRecord;
use crate::train::{self, Ended};
use crate::{checkpoint, device, evaluate, failure, predict, stop};

/// What every part of a run needs to know, and where it tells what it does.
pub struct Run<'a> {
    pub config: &'a Config,
    pub model_dir: ModelDir,
    pub device: Device,
    pub precision: Precision,
    pub world: World,
    pub logger: Logger,
    pub monitor: Monitor,
}

/// Carries out `config`, as the process at `place` of several, or alone. The exit code: 0, or 128 + the signal that stopped it.
pub fn run(config: &Config, place: Option<&Place>) -> Result<u8> {
    failure::catch(|| carry_out(config, place)).map_err(|error| failure::explain_memory(error, config))
}

fn carry_out(config: &Config, place: Option<&Place>) -> Result<u8> {
    let device = device::select(config.device, place)?;
    let precision = Precision::new(config.amp, config.amp_dtype, device)?;
    device::prepare(device, config)?;
    let model_dir = ModelDir::new(&config.model_dir);
    // Before a folder is made for results that cannot come about.
    Inputs::require(config)?;
    // Files are rank 0's business.
    let is_main = place.is_none_or(|place| place.rank == 0);
    let _lock = (is_main && config.benchmark.is_none()).then(|| take_model_dir(config, &model_dir)).transpose()?;
    let inputs = Inputs::read(config, device)?;
    let logger = if is_main { Logger::new(config.log_dir.as_deref())? } else { Logger::silent() };
    for warning in &config.warnings {
        logger.warn(warning);
    }
    if !config.tf32 && !device.is_cuda() {
        logger.warn("--no_tf32 changes nothing on the CPU, which multiplies float32 in full");
    }
    let settings = settings_of_ranks(config, device, precision, &inputs);
    let world = World::join(place, device, config.dist_timeout, &settings)?;
    let monitor = Monitor::new(&model_dir, is_main && config.benchmark.is_none(), &logger);
    let run = Run { config, model_dir, device, precision, world, logger, monitor };
    let tf32 = if run.multiplies_in_tf32() { ", TF32 products" } else { "" };
    let ranks = if run.world.size > 1 { format!(", {} processes", run.world.size) } else { String::new() };
    run.logger.note(&format!("device: {}, {}{tf32}{ranks}", device::describe(device), precision.name()));
    inputs.describe(&run.logger);
    match &config.benchmark {
        Some(benchmark) => run.time(benchmark, &inputs).map(|()| 0),
        None => run.work(&inputs),
    }
}

/// What a resumed run must have in common with the one that it goes on with.
fn settings_of_training(config: &Config, precision: Precision, inputs: &Inputs) -> Map<String, Value> {
    let Recipe { max_steps: _, learning_rate, weight_decay, augment, seed, crossvalidation_idx } = &config.recipe;
    let data = inputs.training.as_ref().map(|data| (&data.stacks.images.sha256, &data.stacks.labels.sha256));
    let settings = json!({
        "learning_rate": learning_rate, "weight_decay": weight_decay, "augment": augment, "seed": seed,
        "crossvalidation_idx": crossvalidation_idx, "batch_size": config.batch_size, "precision": precision.name(),
        "training data": data,
    });
    settings.as_object().cloned().unwrap_or_default()
}

/// What all ranks must have been started with alike.
fn settings_of_ranks(config: &Config, device: Device, precision: Precision, inputs: &Inputs) -> Map<String, Value> {
    let mut settings = settings_of_training(config, precision, inputs);
    let more = json!({
        "program": env!("CARGO_PKG_VERSION"), "device": if device.is_cuda() { "cuda" } else { "cpu" },
        "exec_mode": config.exec_mode.name(), "max_steps": config.recipe.max_steps, "log_every": config.log_every,
        "warmup_steps": config.benchmark.as_ref().map(|benchmark| benchmark.warmup_steps), "base_filters": config.base_filters,
        "resume_training": config.resume_training, "test data": inputs.test.as_ref().map(|stack| &stack.sha256),
    });
    settings.extend(more.as_object().cloned().unwrap_or_default());
    settings
}

impl Run<'_> {
    /// Trains, evaluates and predicts, as far as the mode says; the exit code.
    fn work(mut self, inputs: &Inputs) -> Result<u8> {
        let mode = self.config.exec_mode;
        let net = if let (true, Some(data)) = (mode.trains(), &inputs.training) {
            let settings = settings_of_training(self.config, self.precision, inputs);
            let trainer = train::trainer(&self, &settings)?;
            let record = self.record(inputs, &trainer.net)?;
            if self.config.overwrite && self.world.is_main() {
                self.model_dir.discard_run()?;
            }
            let mut batches = data.batches(self.config);
            match train::train(&mut self, trainer, &mut batches, &record, settings)? {
                Ended::Completed(net) => *net,
                Ended::Stopped(signal) => {
                    // No rank goes before rank 0 has saved.
                    self.world.barrier()?;
                    return Ok(stop::exit_code(signal));
                }
            }
        } else {
            let net = self.load_weights()?;
            self.record(inputs, &net)?;
            net
        };
        if !mode.evaluates() && !mode.predicts() {
            return self.world.barrier().map(|()| 0);
        }
        let net = net.prepare_for_prediction(self.precision.0)?;
        if let (true, Some(data)) = (mode.evaluates(), &inputs.training) {
            self.warn_of_known_slices(&data.split);
            evaluate::evaluate(&mut self, &net, &data.stacks, &data.split.validation)?;
        }
        if let Some(stack) = &inputs.test {
            predict::predict(&mut self, &net, stack)?;
        }
        // No rank goes while another still needs it.
        self.world.barrier().map(|()| 0)
    }

    /// Times training, prediction, or first one and then the other.
    fn time(mut self, benchmark: &Benchmark, inputs: &Inputs) -> Result<()> {
        if let (true, Some(data)) = (self.config.exec_mode.trains(), &inputs.training) {
            let mut trainer = train::new_trainer(&self)?;
            let mut batches = data.batches(self.config);
            let architecture = trainer.net.architecture;
            let (size, ranks, rank) = (self.config.batch_size as u64, self.world.size as u64, self.world.rank as u64);
            let prepare = |number| batches.batch((number * ranks + rank) * size);
            let step = |batch| trainer.step(&batch).map(drop);
            let work = Benchmarked { work: Work::Train, architecture, prepare, step };
            benchmark::benchmark(&mut self, benchmark, work)?;
        }
        if let Some(stack) = &inputs.test {
            let has_weights = self.world.on_main("has weights", || Ok(self.model_dir.weights().is_file()))?;
            let net = if has_weights {
                self.load_weights()?
            } else {
                let folder = self.config.model_dir.display();
                self.logger.note(&format!("no weights in '{folder}': timing random ones"));
                self.fresh_network()?
            };
            let architecture = net.architecture;
            let net = net.prepare_for_prediction(self.precision.0)?;
            let (pages, size, precision) = (stack.pages() as u64, self.config.batch_size as u64, self.precision);
            let mut execution = self.execution()?;
            let prepare = |number: u64| {
                let slices: Vec<usize> = (0..size).map(|i| ((number * size + i) % pages) as usize).collect();
                stack.preprocessed(&slices)
            };
            let step = |images| predict::background_probability(&mut execution, &net, &images, precision).map(drop);
            let work = Benchmarked { work: Work::Test, architecture, prepare, step };
            benchmark::benchmark(&mut self, benchmark, work)?;
        }
        Ok(())
    }

    /// Whether products of f32 numbers are of factors rounded to TF32 (10 bits after the point).
    pub fn multiplies_in_tf32(&self) -> bool {
        self.device.is_cuda() && self.config.tf32 && self.precision == Precision(tch::Kind::Float)
    }

    /// What the run is made of, told to the log file too.
    fn record(&mut self, inputs: &Inputs, net: &UNet) -> Result<RunRecord> {
        let record = RunRecord::new(self, inputs, net.architecture);
        self.logger.parameters(serde_json::to_value(&record)?);
        Ok(record)
    }

    /// The network that training from the start begins with.
    pub fn fresh_network(&self) -> Result<UNet> {
        UNet::with_fresh_weights(self.config.architecture(), self.config.recipe.seed, self.device)
    }

    /// How one kind of step is carried out: each kind has its own.
    pub fn execution(&self) -> Result<Execution> {
        Execution::new(self.config.xla, self.device)
    }

    /// How a training step is carried out. What ranks exchange in it is not captured in a CUDA graph: NCCL could no longer
    /// tell a rank that is gone.
    pub fn training_execution(&self) -> Result<Execution> {
        let exchanges_on_gpu = self.world.size > 1 && self.device.is_cuda();
        if self.config.xla && exchanges_on_gpu {
            self.logger
                .warn("--xla does not capture the training steps of several GPUs; evaluation and prediction are");
        }
        Execution::new(self.config.xla && !exchanges_on_gpu, self.device)
    }

    /// The weights in the model folder, read by rank 0.
    fn load_weights(&self) -> Result<UNet> {
        let mut read = None;
        let architecture = self.world.on_main("weights", || {
            let path = self.model_dir.weights();
            let net = read.insert(checkpoint::load_weights(&path, self.config.base_filters, self.device)?);
            Ok(net.architecture)
        })?;
        let net = match read {
            Some(net) => net,
            None => UNet::with_fresh_weights(architecture, 0, self.device)?,
        };
        let parameters = net.parameters();
        self.world.broadcast(&parameters.iter().map(|(_, tensor)| *tensor).collect::<Vec<_>>())?;
        drop(parameters);
        Ok(net)
    }

    /// Warns where validation slices were trained on: with another fold or seed than in training, scores flatter.
    fn warn_of_known_slices(&self, split: &Split) {
        let path = self.model_dir.config();
        let record: Option<Value> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let trained = record.as_ref().and_then(|record| record["train_slices"].as_array());
        let known = |slice: &&usize| trained.is_some_and(|trained| trained.contains(&json!(slice)));
        let count = split.validation.iter().filter(known).count();
        if count > 0 {
            self.logger.warn(&format!(
                "{count} of {} validation slices were trained on, see train_slices in '{}'; \
                 give the --crossvalidation_idx and --seed of the training",
                split.validation.len(),
                path.display()
            ));
        }
    }
}

/// Takes the model folder for this process, which writes there as long as it keeps the result. Fails before any work where
/// results would be replaced unasked, or could not be written.
fn take_model_dir(config: &Config, model_dir: &ModelDir) -> Result<File> {
    let mode = config.exec_mode;
    if !mode.trains() {
        // Fails first on a missing folder: predicting must not make one.
        checkpoint::require_weights(&model_dir.weights())?;
    }
    model_dir.create()?;
    let lock = model_dir.lock()?;
    if config.overwrite || config.resume_training {
        return Ok(lock);
    }
    if mode.trains() {
        model_dir.refuse_existing_run()?;
        return Ok(lock);
    }
    if mode.evaluates() {
        model_dir.refuse_existing(&[model_dir.scores(), model_dir.evaluation_sheet()])?;
    }
    if mode.predicts() {
        let results = [model_dir.masks(), model_dir.probabilities(), model_dir.prediction_sheet()];
        model_dir.refuse_existing(&results)?;
    }
    Ok(lock)
}

/// The stacks that the mode needs, read before anything else is done.
pub struct Inputs {
    pub training: Option<TrainingData>,
    pub test: Option<ImageStack>,
}

pub struct TrainingData {
    pub stacks: TrainingStacks,
    pub split: Split,
}

impl Inputs {
    /// Fails where a stack that the mode needs is missing.
    fn require(config: &Config) -> Result<()> {
        let mode = config.exec_mode;
        let training = mode.trains() || mode.evaluates();
        let needed = [(TRAIN_VOLUME, training), (TRAIN_LABELS, training), (TEST_VOLUME, mode.predicts())];
        for (name, _) in needed.iter().filter(|(_, is_needed)| *is_needed) {
            stack_path(&config.data_dir, name)?;
        }
        Ok(())
    }

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
