//! One run from its configuration to its results: read the data, then train, evaluate and predict, or time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::checkpoint;
use crate::cli;
use crate::cli::config::{Benchmark, Config, Source};
use crate::cli::{GreyRangeChoice, WeightsChoice};
use crate::data::labels::LabelMap;
use crate::data::layout::Case;
use crate::data::spec::DataSpec;
use crate::distributed::environment::RankInfo;
use crate::distributed::stop;
use crate::distributed::world::World;
use crate::engine::device::{self, GpuOptions};
use crate::engine::precision::Precision;
use crate::engine::shared_cores::SharedCores;
use crate::error;
use crate::model::backend::Backend;
use crate::model::unet::UNet;
use crate::output::logger::{Logger, ReadingBar};
use crate::output::manifest;
use crate::output::model_dir::ModelDir;
use context::{Compute, Journal};
use inference::PredictionOptions;
use inputs::{Inputs, TestData, TrainingData};
use predict_files::{Job, Record};
use settings::Settings;
use train::Outcome;
use weights::WeightFile;

mod benchmark;
mod checkpoint_schedule;
mod class_weights;
mod context;
mod ensemble;
mod evaluate;
mod inference;
mod init_from;
pub mod inputs;
mod learnable;
mod masks;
mod memory;
mod next_steps;
mod out_of_memory;
mod predict;
mod predict_files;
mod repeats;
pub mod samples;
mod settings;
pub mod sheets;
mod split;
mod step_metrics;
mod train;
mod validation;
pub mod weights;

/// Carries out `config` as the process `rank` of several, or alone. The result is the exit code: 0, or 128 + the signal
/// that stopped the run.
pub fn run(config: &Config, rank: Option<&RankInfo>) -> Result<u8> {
    error::catch(|| start(config, rank)).map_err(|error| out_of_memory::explain(error, config))
}

fn start(config: &Config, rank: Option<&RankInfo>) -> Result<u8> {
    let device = device::select(config.device, rank)?;
    let precision = Precision::new(config.amp, config.amp_dtype, device)?;
    let Config { deterministic, tf32, xla, .. } = *config;
    device::prepare(device, GpuOptions { deterministic, tf32, captures: xla })?;
    let _watch = (!device.is_cuda()).then(SharedCores::watch).flatten();
    let model_dir = ModelDir::new(&config.model_dir);
    // Before a folder is made for results that cannot come about.
    Inputs::require(config)?;
    init_from::require(config)?;
    // Files are rank 0's business.
    let writes = rank.is_none_or(|rank| rank.rank == 0) && config.benchmark.is_none() && config.writes_model_dir();
    let weights = WeightFile::of_run(config, &model_dir)?;
    let _lock = writes.then(|| take_model_dir(config, &model_dir, &weights)).transpose()?;
    let bar = ReadingBar::new(rank.is_none_or(|rank| rank.rank == 0) && !config.quiet);
    let mut inputs = Inputs::read(config, device, trained_spec(config, &weights.path)?.as_ref(), &bar)?;
    bar.end();
    let mut journal = Journal::open(config, model_dir, rank)?;
    for warning in config.warnings.iter().chain(&weights.warnings) {
        journal.logger.warn(warning);
    }
    if !tf32 && !device.is_cuda() {
        journal.logger.warn("--no_tf32 changes nothing on the CPU, which multiplies float32 in full");
    }
    let ranks = rank.map_or(1, |rank| rank.size);
    let settings = Settings::new(config, device, precision, &inputs, ranks)?;
    let world = World::join(rank, device, config.dist_timeout, &settings.of_ranks())?;
    let compute = Compute { device, precision, xla, world };
    if !config.exec_mode.trains() && config.benchmark.is_none() {
        let spec = compute.world.on_main("data", || spec_in_use(config, &weights.path))?;
        inputs.require_spec(spec)?;
    }
    describe(config, &compute, &journal.logger)?;
    inputs.describe(&journal.logger);
    let outcome = match &config.benchmark {
        Some(benchmark) => time(config, benchmark, &compute, &mut journal, &inputs).map(|()| 0),
        None => {
            let outcome = work(config, &settings, &compute, &mut journal, &inputs, &weights.path);
            let page = report(config, &mut journal, outcome.is_err());
            tell_next(config, &journal.logger, outcome.as_ref().ok(), page.as_deref());
            outcome
        }
    };
    // The other ranks may be gone after an error, and NCCL would wait for them.
    if outcome.is_ok()
        && let Err(error) = compute.world.leave()
    {
        journal.logger.warn(&format!("cannot end the connections to the other processes: {error:#}"));
    }
    outcome
}

/// What the network in use was trained on; `None` where the mode trains one, and where the weights are on another
/// machine.
fn trained_spec(config: &Config, weights: &Path) -> Result<Option<DataSpec>> {
    if config.exec_mode.trains() || !weights.is_file() {
        return Ok(None);
    }
    spec_in_use(config, weights).map(Some)
}

/// What the network of a weight file is for, with the mapping of grey levels that the user may give.
fn spec_in_use(config: &Config, weights: &Path) -> Result<DataSpec> {
    let mut spec = checkpoint::data_spec(weights)?;
    spec.set_range(samples::grey_choice(config.grey_range));
    Ok(spec)
}

/// Tells how the run computes.
fn describe(config: &Config, compute: &Compute, logger: &Logger) -> Result<()> {
    let Compute { device, precision, world, .. } = compute;
    let backend = Backend::new(*device, precision.0)?;
    let kernels = backend.describe(precision.0)?;
    let tf32 = if precision.multiplies_in_tf32(*device, config.tf32) { ", TF32 products" } else { "" };
    let ranks = if world.size > 1 { format!(", {} processes", world.size) } else { String::new() };
    let device = device::describe(*device);
    logger.note(&format!("device: {device}, {kernels}, {}{tf32}{ranks}", precision.name()));
    backend.speed_note(precision.0)?.into_iter().for_each(|text| logger.note(text));
    Ok(())
}

/// Writes the report of a run, for browsers; its path where it is there. Slices are worth one even where a file after
/// them could not be predicted.
fn report(config: &Config, journal: &mut Journal, has_failed: bool) -> Option<PathBuf> {
    let Journal { model_dir, logger, tracker } = journal;
    if has_failed && !tracker.has_slices() {
        return None;
    }
    let path = match &config.source {
        Source::Files { output, .. } => output.join("unet-report.html"),
        Source::Dataset(_) => model_dir.report(),
    };
    tracker.write_report(&path, logger);
    path.is_file().then_some(path)
}

/// The last line of a run that has not failed.
fn tell_next(config: &Config, logger: &Logger, exit_code: Option<&u8>, page: Option<&Path>) {
    let words = cli::own_command_line();
    let next = match (exit_code, words.first()) {
        (Some(0), Some(program)) => next_steps::after(config, &program.to_string_lossy(), page),
        (Some(_), Some(_)) => Some(next_steps::after_stop(&words)),
        _ => None,
    };
    next.iter().for_each(|line| logger.note(line));
}

/// Trains, evaluates and predicts, as far as the mode says; the exit code.
///
/// `weights` are those that evaluation and prediction use.
fn work(
    config: &Config,
    settings: &Settings,
    compute: &Compute,
    journal: &mut Journal,
    inputs: &Inputs,
    weights: &Path,
) -> Result<u8> {
    let mode = config.exec_mode;
    if let Some(data) = &inputs.training {
        repeats::warn_of_trained(config, &data.slices, &data.split, &journal.logger);
    }
    let net = if let (true, Some(data)) = (mode.trains(), &inputs.training) {
        match train(config, settings, compute, journal, inputs, data)? {
            Outcome::Completed(net) => trained(config, compute, journal, *net)?,
            Outcome::Stopped(signal) => {
                // No rank goes before rank 0 has saved.
                compute.world.barrier()?;
                return Ok(stop::exit_code(signal));
            }
        }
    } else {
        let net = inputs::trained_network(config, compute, weights)?;
        record(settings, inputs, &net, &mut journal.logger);
        net
    };
    if mode.evaluates() || mode.predicts() {
        let options = PredictionOptions { tile: inference::tile(config, net.architecture, compute), tta: config.tta };
        let nets = ensemble::join(config, compute, &journal.logger, net, &inputs.spec)?;
        if let (true, Some(data)) = (mode.evaluates(), &inputs.training) {
            evaluate::evaluate(compute, journal, &nets, data, options)?;
            if mode.trains() {
                journal.tracker.draw_curves(&journal.logger);
            }
        }
        match &inputs.test {
            Some(TestData::Slices(stack)) => {
                predict::predict(compute, journal, &nets, stack, &inputs.spec, config.batch_size, options)?;
            }
            Some(TestData::Files(cases)) => {
                let job = job(config, compute, (journal, weights), cases, &inputs.spec, options)?;
                predict_files::predict_files(compute, journal, &nets, &inputs.spec, &job)?;
            }
            None => {}
        }
    }
    // No rank goes while another still needs it.
    compute.world.barrier().map(|()| 0)
}

/// The network that results are made with after training: that of the last step, or the best one.
fn trained(config: &Config, compute: &Compute, journal: &Journal, last: UNet) -> Result<UNet> {
    match config.weights {
        WeightsChoice::Last => Ok(last),
        WeightsChoice::Best => inputs::trained_network(config, compute, &journal.model_dir.best_weights()),
    }
}

/// What is predicted of files, and where the masks go.
fn job<'a>(
    config: &Config,
    compute: &Compute,
    (journal, weights): (&Journal, &Path),
    cases: &'a [Case],
    spec: &DataSpec,
    options: PredictionOptions,
) -> Result<Job<'a>> {
    let output = match &config.source {
        Source::Files { output, .. } => output.clone(),
        Source::Dataset(_) => journal.model_dir.predictions(),
    };
    let weights_sha256 = compute.world.on_main("weights' checksum", || {
        let files = std::iter::once(weights.to_owned()).chain(ensemble::files(config)?);
        Ok(files.map(|file| checkpoint::fingerprint(&file)).collect::<Result<Vec<_>>>()?.join("+"))
    })?;
    let classes = spec.map.as_ref().map_or_else(String::new, LabelMap::describe);
    let is_given = !config.exec_mode.trains() && config.grey_range != GreyRangeChoice::Auto;
    let grey_range = is_given.then(|| config.grey_range.name());
    let precision = compute.precision.name().to_owned();
    let record = Record { weights_sha256, precision, tta: options.tta, grey_range, classes };
    let Config { batch_size, save_probabilities, overwrite, .. } = *config;
    Ok(Job { cases, output, batch_size, options, save_probabilities, overwrite, record })
}

fn train(
    config: &Config,
    settings: &Settings,
    compute: &Compute,
    journal: &mut Journal,
    inputs: &Inputs,
    data: &TrainingData,
) -> Result<Outcome> {
    if let Some(warning) = compute.replay_warning() {
        journal.logger.warn(warning);
    }
    if let Some(options) = config.validation {
        validation::require_metric(options, &inputs.spec)?;
    }
    let begin = train::begin(config, compute, journal, data, &settings.of_training())?;
    let record = record(settings, inputs, &begin.trainer.net, &mut journal.logger);
    if config.overwrite && compute.world.is_main() {
        discard_run(&journal.model_dir)?;
    }
    train::train(config, compute, journal, begin, data, &record, settings.of_training())
}

/// Times training, prediction, or first one and then the other.
fn time(
    config: &Config,
    benchmark: &Benchmark,
    compute: &Compute,
    journal: &mut Journal,
    inputs: &Inputs,
) -> Result<()> {
    let mode = config.exec_mode;
    if let (true, Some(data)) = (mode.trains(), &inputs.training) {
        if let Some(warning) = compute.replay_warning() {
            journal.logger.warn(warning);
        }
        let trainer = train::new_trainer(config, compute, &journal.logger, data)?;
        let batches = data.batches(config, compute, 0, 0);
        benchmark::time_training(config, benchmark, compute, &mut journal.logger, trainer, batches)?;
    }
    if let Some(TestData::Slices(stack)) = &inputs.test {
        let weights = journal.model_dir.weights();
        let has_weights = compute.world.on_main("has weights", || Ok(weights.is_file()))?;
        let net = if has_weights {
            inputs::trained_network(config, compute, &weights)?
        } else {
            let folder = config.model_dir.display();
            journal.logger.note(&format!("no weights in '{folder}': timing random ones"));
            inputs::fresh_network(config, &inputs.spec, compute.device)?
        };
        let is_first = !mode.trains();
        benchmark::time_prediction(config, benchmark, compute, &mut journal.logger, net, stack, is_first)?;
    }
    Ok(())
}

/// What the run is made of, told to the log file too.
fn record(settings: &Settings, inputs: &Inputs, net: &UNet, logger: &mut Logger) -> Value {
    let record = manifest::manifest(settings.of_record(net.architecture), &inputs.datasets());
    logger.parameters(record.clone());
    record
}

/// Takes the model folder for this process, which writes there as long as it keeps the result. Fails before any work
/// where results would be replaced unasked, or could not be written.
fn take_model_dir(config: &Config, model_dir: &ModelDir, weights: &WeightFile) -> Result<File> {
    let mode = config.exec_mode;
    if !mode.trains() {
        // Fails first on a missing folder: predicting must not make one.
        ensemble::require(config)?;
        weights.require(config, model_dir)?;
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
        // Masks of files are kept (`predict_files`).
        let results = [model_dir.masks(), model_dir.probabilities(), model_dir.prediction_sheet()];
        model_dir.refuse_existing(&results)?;
    }
    Ok(lock)
}

/// Removes the files of a run, and nothing else.
fn discard_run(model_dir: &ModelDir) -> Result<()> {
    let remove = |path: &Path| if path.is_dir() { checkpoint::discard(path) } else { fs::remove_file(path) };
    model_dir
        .run_files()
        .iter()
        .try_for_each(|path| remove(path).with_context(|| format!("cannot remove '{}'", path.display())))
}
