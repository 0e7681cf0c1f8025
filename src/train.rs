//! `--exec_mode train*`: the training loop, and what it leaves in the model folder.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::checkpoint::{self, Checkpoint, Progress};
use crate::data::batches::TrainingBatches;
use crate::distributed::World;
use crate::logger::Step;
use crate::loss::Losses;
use crate::model::unet::UNet;
use crate::model_dir;
use crate::record::RunRecord;
use crate::run::Run;
use crate::trainer::Trainer;

/// Trains up to `max_steps` and writes the weights, a checkpoint and the configuration.
pub fn train(
    run: &mut Run<'_>,
    mut trainer: Trainer,
    batches: &mut TrainingBatches<'_>,
    record: &RunRecord,
) -> Result<UNet> {
    let last = last_step(run, trainer.progress)?;
    let Run { config, model_dir, device, logger, world, .. } = run;
    if world.is_main() {
        model_dir::write_json(&model_dir.config(), record)?;
    }
    let first = trainer.progress.step;
    let start = Instant::now();
    logger.start_bar("train", last, first);
    for step in first + 1..=last {
        let batch = batches.batch(trainer.first_sample(step, world.rank as u64, config.batch_size));
        let losses = trainer.step(&batch)?;

        let logs = step % config.log_every == 0 || step == last;
        // Reading a loss waits for the device, so on a GPU only logged steps are looked at.
        if logs || !device.is_cuda() {
            let figures = Figures::read(&losses, &trainer, world)?;
            figures.check(&trainer, batches, config.batch_size)?;
            let images = (step - first) * (config.batch_size * world.size) as u64;
            let rate = images as f64 / start.elapsed().as_secs_f64();
            logger.progress(step, format!("loss {:.4}  {rate:.2} img/s", figures.total()));
            if logs {
                logger.log(Step::Train(step), &figures.named())?;
            }
        } else {
            logger.advance(step);
        }
    }
    logger.end_bar();

    if !world.is_main() {
        return Ok(trainer.net);
    }
    let (moments, state) = trainer.state();
    checkpoint::save(&model_dir.checkpoints(), &trainer.net, moments, &state)?;
    checkpoint::save_weights(&model_dir.weights(), &trainer.net)?;
    logger.note(&format!("weights: {}", model_dir.weights().display()));
    Ok(trainer.net)
}

/// A trainer that starts anew, or from the newest checkpoint with `--resume_training`.
pub fn trainer(run: &Run<'_>) -> Result<Trainer> {
    let config = run.config;
    if !config.resume_training {
        last_step(run, Progress::default())?;
        return new_trainer(run);
    }
    let checkpoint = newest_checkpoint(run)?;
    last_step(run, checkpoint.state.progress)?;
    Trainer::resume(checkpoint, &config.recipe, run.precision, run.training_execution()?, &run.world)
}

/// A trainer that starts anew.
pub fn new_trainer(run: &Run<'_>) -> Result<Trainer> {
    let execution = run.training_execution()?;
    Trainer::new(run.fresh_network()?, &run.config.recipe, run.precision, execution, &run.world)
}

/// Read by rank 0; the other ranks learn what it holds, and get the tensors when training begins.
fn newest_checkpoint(run: &Run<'_>) -> Result<Checkpoint> {
    let mut read = None;
    let state = run.world.on_main("checkpoint", || {
        let folder = run.model_dir.checkpoints();
        let checkpoint = read.insert(checkpoint::load_newest(&folder, run.config.base_filters, run.device)?);
        Ok(checkpoint.state.clone())
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

/// The losses of one step as numbers, means over the ranks.
struct Figures {
    cross_entropy: f64,
    dice_loss: f64,
    /// For each rank the first step whose loss was not finite; 0 where there was none.
    bad_steps: Vec<u64>,
}

impl Figures {
    /// Waits for the device, and for the other ranks.
    fn read(losses: &Losses, trainer: &Trainer, world: &World) -> Result<Self> {
        let mut numbers = vec![0.0; 2 + world.size];
        numbers[0] = losses.cross_entropy.double_value(&[]);
        numbers[1] = losses.dice_loss.double_value(&[]);
        numbers[2 + world.rank] = trainer.first_bad_step().unwrap_or(0) as f64;
        let sums = world.sum(&numbers)?;
        let ranks = world.size as f64;
        let bad_steps = sums[2..].iter().map(|&step| step as u64).collect();
        Ok(Self { cross_entropy: sums[0] / ranks, dice_loss: sums[1] / ranks, bad_steps })
    }

    fn total(&self) -> f64 {
        self.cross_entropy + self.dice_loss
    }

    fn named(&self) -> [(&'static str, f64); 3] {
        [("train_ce_loss", self.cross_entropy), ("train_dice_loss", self.dice_loss), ("train_total_loss", self.total())]
    }

    /// Stops a run that learns nothing more: a loss is no number, or gradients are none although no loss scale is there to
    /// be lowered. All ranks come to the same answer.
    fn check(&self, trainer: &Trainer, batches: &mut TrainingBatches<'_>, images: usize) -> Result<()> {
        const ADVICE: &str = "lower --learning_rate, or train without --amp";
        let first_bad = self.bad_steps.iter().enumerate().filter(|(_, step)| **step > 0).min_by_key(|(_, step)| **step);
        // float16 may overflow in one step and find a scale for the next: that is no reason to stop.
        if let (false, Some((rank, &step))) = (self.total().is_finite(), first_bad) {
            let slices = batches.slices(trainer.first_sample(step, rank as u64, images));
            let of_rank = if self.bad_steps.len() > 1 { format!(" of rank {rank}") } else { String::new() };
            bail!("step {step}: the loss{of_rank} is not a finite number, on slices {slices:?}; {ADVICE}");
        }
        let skipped = trainer.skipped_steps();
        if skipped > 0 && !trainer.scales_loss() {
            bail!("{skipped} of the steps up to {} had gradients that are not finite; {ADVICE}", trainer.progress.step);
        }
        Ok(())
    }
}
