//! `--exec_mode train*`: the training loop, and what it leaves in the model folder. `step_metrics.rs` is what is read
//! of a step, `checkpoint_schedule.rs` says when checkpoints are written.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::checkpoint_schedule::CheckpointSchedule;
use super::context::{Compute, Journal};
use super::init_from;
use super::inputs::{TrainingData, fresh_network};
use super::step_metrics::StepMetrics;
use super::validation::{Validator, Verdict};
use crate::checkpoint::{self, Checkpoint, Progress, ValidationState};
use crate::cli::ScheduleChoice;
use crate::cli::config::{Config, Training};
use crate::data::spec::DataSpec;
use crate::distributed::stop::{self, StopRequest};
use crate::engine::schedule::{Decay, Schedule};
use crate::engine::trainer::{Hyperparameters, Trainer};
use crate::files::write_json;
use crate::model::unet::UNet;
use crate::output::logger::{Logger, Step};

/// Steps between two agreements of GPUs on whether to stop: each waits for all devices.
const AGREE_EVERY: u64 = 10;

/// How training ended.
pub enum Outcome {
    Completed(Box<UNet>),
    /// By this signal; a checkpoint has all that was done.
    Stopped(i32),
}

/// Where training begins.
pub struct Start {
    pub trainer: Trainer,
    /// What validation has found before.
    validation: Option<ValidationState>,
}

/// Why training ends before its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Signal(i32),
    Patience,
}

impl Ending {
    fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::GoOn => None,
            Verdict::OutOfPatience => Some(Self::Patience),
            Verdict::Stopped(signal) => Some(Self::Signal(signal)),
        }
    }
}

/// Trains up to `max_steps` and writes the record of the run, checkpoints and the weights. A signal ends training after
/// its step, with a checkpoint. `settings` are kept in checkpoints, for a resumed run to be compared with.
pub fn train(
    config: &Config,
    compute: &Compute,
    journal: &mut Journal,
    begin: Start,
    data: &TrainingData,
    record: &Value,
    settings: Map<String, Value>,
) -> Result<Outcome> {
    let Compute { device, world, .. } = compute;
    let Start { mut trainer, validation } = begin;
    let Progress { step: first, samples, .. } = trainer.progress;
    let last = last_step(config, world.size, trainer.progress)?;
    let mut batches = data.batches(config, compute, first, samples);
    let request = StopRequest::listen()?;
    let signal = || request.signal();
    if world.is_main() {
        write_json(&journal.model_dir.config(), record)?;
    }
    let mut schedule =
        world.is_main().then(|| CheckpointSchedule::new(config, &journal.model_dir, settings, &data.slices.spec));
    journal.tracker.begin_training(first, record.clone(), &journal.logger);
    let base_rate = config.training.learning_rate;
    let start = Instant::now();
    let mut validator = Validator::new(config, compute, &trainer, validation);
    // The checkpoint may have been written before its step was scored.
    let mut ending = Ending::of(validator.after_step(last, compute, journal, &trainer, data, &signal)?);
    journal.logger.start_bar("train", last, first);
    while ending.is_none() && trainer.progress.step < last {
        let (step, learning_rate) = (trainer.progress.step + 1, trainer.learning_rate());
        let losses = trainer.step(&batches.batch(step)?)?;

        let Journal { logger, tracker, .. } = &mut *journal;
        let logs = step % config.log_every == 0 || step == last;
        // Reading a loss waits for the device, so that on a GPU only some steps are read.
        let stop = if logs || !device.is_cuda() || (world.size > 1 && step % AGREE_EVERY == 0) {
            let metrics = StepMetrics::read(&losses, &trainer, world, signal())?;
            // The curves are wanted most where training has failed.
            metrics
                .check(&trainer, base_rate, |bad| batches.slices(bad.step, bad.rank))
                .inspect_err(|_| tracker.draw_curves(logger))?;
            let images = (step - first) * (config.batch_size * world.size) as u64;
            let rate = images as f64 / (start.elapsed() - validator.duration()).as_secs_f64();
            let score = validator.last_score().map_or_else(String::new, |(key, score)| format!("  {key} {score:.4}"));
            logger.progress(step, format!("loss {:.4}{score}  {rate:.2} img/s", metrics.total()));
            if logs {
                let mut figures = metrics.named();
                logger.log(Step::Train(step), &figures);
                figures.extend([("learning_rate", learning_rate), ("images_per_second", rate)]);
                tracker.trained(step, &figures, logger);
            }
            metrics.stop
        } else {
            logger.advance(step);
            signal().filter(|_| world.size == 1)
        };
        ending = match stop {
            Some(signal) => Some(Ending::Signal(signal)),
            None => Ending::of(validator.after_step(last, compute, journal, &trainer, data, &signal)?),
        };
        if let (Some(schedule), None, true) = (&mut schedule, ending, step < last) {
            schedule.after_step(&trainer, validator.state(), &journal.logger);
        }
    }
    journal.logger.end_bar();
    if let Some(mut schedule) = schedule {
        schedule.finish(&trainer, validator.state(), &journal.logger)?;
    }
    validator.summary(start.elapsed()).iter().for_each(|line| journal.logger.note(line));
    if config.resume_training && trainer.progress.step > first {
        warn_of_earlier_results(config, journal);
    }
    let step = trainer.progress.step;
    let is_complete = step == last && !validator.is_due(step, last);
    if let (Some(Ending::Signal(signal)), false) = (ending, is_complete) {
        journal.tracker.draw_curves(&journal.logger);
        let name = stop::name(signal);
        journal.logger.warn(&format!("stopped by {name} after step {step} of {last}; go on with --resume_training"));
        return Ok(Outcome::Stopped(signal));
    }
    finish(compute, journal, trainer, &data.slices.spec)
}

/// Warns of results of the weights that a run has gone on from, which it does not make anew.
fn warn_of_earlier_results(config: &Config, journal: &Journal) {
    let Journal { model_dir, logger, .. } = journal;
    let mode = config.exec_mode;
    let results = [(model_dir.scores(), mode.evaluates(), "evaluate"), (model_dir.masks(), mode.predicts(), "predict")];
    for (path, is_renewed, mode) in results {
        if !is_renewed && path.exists() {
            let path = path.display();
            logger.warn(&format!("'{path}' is of earlier weights; --exec_mode {mode} --overwrite makes it anew"));
        }
    }
}

/// Draws the learning curves and writes the weights.
fn finish(compute: &Compute, journal: &Journal, trainer: Trainer, spec: &DataSpec) -> Result<Outcome> {
    let Journal { model_dir, logger, tracker } = journal;
    tracker.draw_curves(logger);
    let (step, net) = (trainer.progress.step, trainer.into_network());
    if compute.world.is_main() {
        checkpoint::save_weights(&model_dir.weights(), &net, spec, step, None)?;
        logger.result(&format!("weights: {}", model_dir.weights().display()));
    }
    Ok(Outcome::Completed(Box::new(net)))
}

/// Training that starts anew, or from the newest checkpoint with `--resume_training`.
pub fn begin(
    config: &Config,
    compute: &Compute,
    journal: &Journal,
    data: &TrainingData,
    settings: &Map<String, Value>,
) -> Result<Start> {
    if !config.resume_training {
        last_step(config, compute.world.size, Progress::default())?;
        return Ok(Start { trainer: new_trainer(config, compute, &journal.logger, data)?, validation: None });
    }
    let checkpoint = newest_checkpoint(config, compute, journal, settings)?;
    let last = last_step(config, compute.world.size, checkpoint.state.progress)?;
    let validation = validation_so_far(compute, journal, checkpoint.state.validation.clone(), last)?;
    let runner = compute.training_step_runner()?;
    let trainer =
        Trainer::resume(checkpoint, hyperparameters(config, compute)?, compute.precision, runner, &compute.world)?;
    Ok(Start { trainer: trainer.with_loss(data.loss(compute.device)), validation })
}

/// What validation found before the checkpoint, without the best weights where a killed run has replaced them by some
/// of a step that this one does not come to.
fn validation_so_far(
    compute: &Compute,
    journal: &Journal,
    state: Option<ValidationState>,
    last: u64,
) -> Result<Option<ValidationState>> {
    let path = journal.model_dir.best_weights();
    let is_lost = compute.world.on_main("best weights", || {
        let Some(step) = checkpoint::best_score(&path).unwrap_or(None).map(|best| best.step) else { return Ok(false) };
        if step > last {
            let shown = path.display();
            journal.logger.warn(&format!("'{shown}' is of step {step}, beyond --max_steps: it is removed"));
            fs::remove_file(&path).with_context(|| format!("cannot remove '{shown}'"))?;
        }
        Ok(step > last)
    })?;
    Ok(state.map(|state| if is_lost { ValidationState { best: None, ..state } } else { state }))
}

/// A trainer that starts anew.
pub fn new_trainer(config: &Config, compute: &Compute, logger: &Logger, data: &TrainingData) -> Result<Trainer> {
    let spec = &data.slices.spec;
    let net = match &config.training.init_from {
        Some(path) => init_from::network(config, compute, logger, spec, path)?,
        None => fresh_network(config, spec, compute.device)?,
    };
    let runner = compute.training_step_runner()?;
    let trainer = Trainer::new(net, hyperparameters(config, compute)?, compute.precision, runner, &compute.world)?;
    Ok(trainer.with_loss(data.loss(compute.device)))
}

fn hyperparameters(config: &Config, compute: &Compute) -> Result<Hyperparameters> {
    let Training { learning_rate, weight_decay, seed, ema, dropout, max_steps, lr_warmup_steps, .. } = config.training;
    let decay = match config.training.schedule {
        ScheduleChoice::Constant => Decay::Constant,
        ScheduleChoice::Cosine => Decay::Cosine,
        ScheduleChoice::Poly => Decay::Poly,
    };
    let steps = max_steps / compute.world.size as u64;
    let schedule = Schedule { base: learning_rate, decay, warmup_steps: lr_warmup_steps, steps };
    if !schedule.is_constant() && compute.xla && compute.device.is_cuda() {
        bail!(
            "--xla on a GPU replays a step with the learning rate that it was captured with; leave out --xla, \
             or give --schedule constant --lr_warmup_steps 0"
        );
    }
    Ok(Hyperparameters { schedule, ema, dropout, weight_decay, seed })
}

/// Read by rank 0; the other ranks learn what it holds, and get the tensors when training begins.
fn newest_checkpoint(
    config: &Config,
    compute: &Compute,
    journal: &Journal,
    settings: &Map<String, Value>,
) -> Result<Checkpoint> {
    let mut read = None;
    let state = compute.world.on_main("checkpoint", || {
        let folder = journal.model_dir.checkpoints();
        let warn = |text: &str| journal.logger.warn(text);
        let checkpoint = checkpoint::load_newest(&folder, config.base_filters, compute.device, warn)?;
        checkpoint.state.require_settings(settings)?;
        checkpoint.state.kernels_warning(settings).iter().for_each(|text| journal.logger.warn(text));
        Ok(read.insert(checkpoint).state.clone())
    })?;
    read.map_or_else(|| Checkpoint::empty(state, compute.device), Ok)
}

/// The last step of the run. `--max_steps` counts batches of all ranks together, as the reference does.
fn last_step(config: &Config, world_size: usize, progress: Progress) -> Result<u64> {
    let (done, asked, ranks) = (progress.batches, config.training.max_steps, world_size as u64);
    if done > asked {
        bail!(
            "--resume_training: the newest checkpoint has made {done} steps already, --max_steps says {asked}; raise \
             it, or give {done} to write the weights of this step"
        );
    }
    let left = asked - done;
    // A run at its end has only its results left to write.
    if config.resume_training && left < ranks {
        return Ok(progress.step);
    }
    if left < ranks {
        bail!("--max_steps leaves {left} batches, less than one for each of {ranks} processes; raise it");
    }
    Ok(progress.step + left / ranks)
}
