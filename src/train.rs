//! `--exec_mode train*`: the training loop, and what it leaves in the model folder.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::checkpoint;
use crate::config::Config;
use crate::data::batches::TrainingBatches;
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
    let Run { config, model_dir, device, logger, .. } = run;
    model_dir::write_json(&model_dir.config(), record)?;
    let (first, last) = (trainer.step, config.recipe.max_steps);
    let start = Instant::now();
    logger.start_bar("train", last, first);
    for step in first..last {
        let batch = batches.batch(step);
        let losses = trainer.step(&batch)?;

        let logs = (step + 1) % config.log_every == 0 || step + 1 == last;
        // Reading a loss waits for the device, so on a GPU only logged steps are looked at.
        if logs || !device.is_cuda() {
            let figures = Figures::read(&losses);
            figures.check(config, &trainer, &batches.slices(step))?;
            let rate = ((step + 1 - first) * config.batch_size as u64) as f64 / start.elapsed().as_secs_f64();
            logger.progress(step + 1, format!("loss {:.4}  {rate:.2} img/s", figures.total()));
            if logs {
                logger.log(Step::Train(step + 1), &figures.named())?;
            }
        } else {
            logger.advance(step + 1);
        }
    }
    logger.end_bar();

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
        return new_trainer(run);
    }
    let checkpoint = checkpoint::load_newest(&run.model_dir.checkpoints(), config.base_filters, run.device)?;
    let (done, asked) = (checkpoint.state.step, config.recipe.max_steps);
    if done >= asked {
        bail!(
            "--resume_training: the newest checkpoint has made {done} steps already, --max_steps says {asked}; raise it"
        );
    }
    Ok(Trainer::resume(checkpoint, &config.recipe, run.precision, run.device, run.execution()?))
}

/// A trainer that starts anew.
pub fn new_trainer(run: &Run<'_>) -> Result<Trainer> {
    Ok(Trainer::new(run.fresh_network()?, &run.config.recipe, run.precision, run.device, run.execution()?))
}

/// The losses of one step as numbers.
struct Figures {
    cross_entropy: f64,
    dice_loss: f64,
}

impl Figures {
    /// Waits for the device.
    fn read(losses: &Losses) -> Self {
        Self { cross_entropy: losses.cross_entropy.double_value(&[]), dice_loss: losses.dice_loss.double_value(&[]) }
    }

    fn total(&self) -> f64 {
        self.cross_entropy + self.dice_loss
    }

    fn named(&self) -> [(&'static str, f64); 3] {
        [("train_ce_loss", self.cross_entropy), ("train_dice_loss", self.dice_loss), ("train_total_loss", self.total())]
    }

    /// Stops a run that learns nothing more: its loss is no number, or its gradients are none although no loss
    /// scale is there to be lowered.
    fn check(&self, config: &Config, trainer: &Trainer, slices: &[usize]) -> Result<()> {
        if self.total().is_finite() && (trainer.scales_loss() || trainer.skipped_steps() == 0) {
            return Ok(());
        }
        bail!(
            "step {}: the loss is {} (cross entropy {}, Dice loss {}) on slices {slices:?} at learning rate {}; \
             {} steps had gradients that are not finite; lower --learning_rate, or train without --amp",
            trainer.step,
            self.total(),
            self.cross_entropy,
            self.dice_loss,
            config.recipe.learning_rate,
            trainer.skipped_steps()
        )
    }
}
