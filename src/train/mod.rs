//! `--exec_mode train*`: the training loop, and what it leaves in the model folder. `figures.rs` is what is looked at in a step,
//! `saver.rs` writes checkpoints.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use crate::checkpoint::{self, Checkpoint, Progress};
use crate::data::batches::TrainingBatches;
use crate::logger::Step;
use crate::model::unet::UNet;
use crate::model_dir;
use crate::record::RunRecord;
use crate::run::Run;
use crate::stop::{self, StopRequest};
use crate::trainer::Trainer;

pub mod figures;
mod saver;

use figures::Figures;
use saver::Saver;

/// Steps between two agreements of GPUs on whether to stop: each waits for all devices.
const AGREE_EVERY: u64 = 10;

/// How training ended.
pub enum Ended {
    Completed(Box<UNet>),
    /// By this signal; a checkpoint has all that was done.
    Stopped(i32),
}

/// Trains up to `max_steps` and writes checkpoints, the weights and the configuration. A signal ends it after its step, with a
/// checkpoint. `settings` are what a resumed run must have in common with this one.
pub fn train(
    run: &mut Run<'_>,
    mut trainer: Trainer,
    batches: &mut TrainingBatches<'_>,
    record: &RunRecord,
    settings: Map<String, Value>,
) -> Result<Ended> {
    let last = last_step(run, trainer.progress)?;
    let request = StopRequest::listen()?;
    let Run { config, model_dir, device, logger, monitor, world, .. } = run;
    if world.is_main() {
        model_dir::write_json(&model_dir.config(), record)?;
    }
    let mut saver = world.is_main().then(|| Saver::new(config, model_dir, settings));
    let first = trainer.progress.step;
    monitor.begin_training(first, serde_json::to_value(record)?, logger);
    let start = Instant::now();
    let mut stop = None;
    logger.start_bar("train", last, first);
    for step in first + 1..=last {
        let batch = batches.batch(trainer.first_sample(step, world.rank as u64, config.batch_size));
        let losses = trainer.step(&batch)?;

        let logs = step % config.log_every == 0 || step == last;
        // Reading a loss waits for the device, so on a GPU only some steps are looked at.
        if logs || !device.is_cuda() || (world.size > 1 && step % AGREE_EVERY == 0) {
            let figures = Figures::read(&losses, &trainer, world, request.signal())?;
            // The curves are wanted most where training has failed.
            figures
                .check(&trainer, batches, config.batch_size, config.recipe.learning_rate)
                .inspect_err(|_| monitor.draw_curves(logger))?;
            let images = (step - first) * (config.batch_size * world.size) as u64;
            let rate = images as f64 / start.elapsed().as_secs_f64();
            logger.progress(step, format!("loss {:.4}  {rate:.2} img/s", figures.total()));
            if logs {
                let mut figures = figures.named();
                logger.log(Step::Train(step), &figures);
                figures.extend([("learning_rate", config.recipe.learning_rate), ("images_per_second", rate)]);
                monitor.trained(step, &figures, logger);
            }
            stop = figures.stop;
        } else {
            logger.advance(step);
            stop = request.signal().filter(|_| world.size == 1);
        }
        if stop.is_some() || step == last {
            break;
        }
        if let Some(saver) = &mut saver {
            saver.step(&trainer, logger);
        }
    }
    finish(run, trainer, saver, last, stop)
}

/// The last checkpoint, the learning curves, and the weights unless `stop` ended training before step `last`.
fn finish(run: &mut Run<'_>, trainer: Trainer, saver: Option<Saver>, last: u64, stop: Option<i32>) -> Result<Ended> {
    let Run { model_dir, logger, monitor, world, .. } = run;
    logger.end_bar();
    if let Some(mut saver) = saver {
        saver.finish(&trainer, logger)?;
    }
    monitor.draw_curves(logger);
    if let Some(signal) = stop.filter(|_| trainer.progress.step < last) {
        let (step, name) = (trainer.progress.step, stop::name(signal));
        logger.warn(&format!("stopped by {name} after step {step} of {last}; go on with --resume_training"));
        return Ok(Ended::Stopped(signal));
    }
    if world.is_main() {
        checkpoint::save_weights(&model_dir.weights(), &trainer.net)?;
        logger.note(&format!("weights: {}", model_dir.weights().display()));
    }
    Ok(Ended::Completed(Box::new(trainer.net)))
}

/// A trainer that starts anew, or from the newest checkpoint with `--resume_training`.
pub fn trainer(run: &Run<'_>, settings: &Map<String, Value>) -> Result<Trainer> {
    let config = run.config;
    if !config.resume_training {
        last_step(run, Progress::default())?;
        return new_trainer(run);
    }
    let checkpoint = newest_checkpoint(run, settings)?;
    last_step(run, checkpoint.state.progress)?;
    Trainer::resume(checkpoint, &config.recipe, run.precision, run.training_execution()?, &run.world)
}

/// A trainer that starts anew.
pub fn new_trainer(run: &Run<'_>) -> Result<Trainer> {
    let execution = run.training_execution()?;
    Trainer::new(run.fresh_network()?, &run.config.recipe, run.precision, execution, &run.world)
}

/// Read by rank 0; the other ranks learn what it holds, and get the tensors when training begins.
fn newest_checkpoint(run: &Run<'_>, settings: &Map<String, Value>) -> Result<Checkpoint> {
    let mut read = None;
    let state = run.world.on_main("checkpoint", || {
        let folder = run.model_dir.checkpoints();
        let warn = |text: &str| run.logger.warn(text);
        let checkpoint = checkpoint::load_newest(&folder, run.config.base_filters, run.device, warn)?;
        checkpoint.state.require_settings(settings)?;
        Ok(read.insert(checkpoint).state.clone())
    })?;
    read.map_or_else(|| Checkpoint::empty(state, run.device), Ok)
}

/// The last step of the run. `--max_steps` counts batches of all ranks together, as the reference does.
fn last_step(run: &Run<'_>, progress: Progress) -> Result<u64> {
    let (done, asked, ranks) = (progress.batches, run.config.recipe.max_steps, run.world.size as u64);
    if done >= asked {
        bail!(
            "--resume_training: the newest checkpoint has made {done} steps already, --max_steps says {asked}; raise it"
        );
    }
    let left = asked - done;
    if left < ranks {
        bail!("--max_steps leaves {left} batches, less than one for each of {ranks} processes; raise it");
    }
    Ok(progress.step + left / ranks)
}
