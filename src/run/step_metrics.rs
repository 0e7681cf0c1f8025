//! What the ranks tell each other when they look at the losses of a step: means for the log, whether training still
//! learns, and whether a signal has asked one of them to stop.

use anyhow::{Result, bail};

use crate::distributed::world::World;
use crate::engine::loss::Losses;
use crate::engine::trainer::Trainer;

/// The losses of one step as numbers, means over the ranks.
pub struct StepMetrics {
    cross_entropy: f64,
    dice_loss: f64,
    /// For each rank the first step whose loss was not finite; 0 where there was none.
    bad_steps: Vec<u64>,
    /// The signal that has asked a rank to stop.
    pub stop: Option<i32>,
    /// With loss scaling: the scale, and the steps that were skipped to find it.
    scaling: Option<(f64, u64)>,
}

/// The first batch whose loss was not finite.
pub struct BadBatch {
    pub step: u64,
    pub rank: u64,
}

impl StepMetrics {
    /// Waits for the device, and for the other ranks. `stop` is the signal that this rank has got.
    pub fn read(losses: &Losses, trainer: &Trainer, world: &World, stop: Option<i32>) -> Result<Self> {
        let mut numbers = vec![0.0; 2 + 2 * world.size];
        numbers[0] = losses.cross_entropy.double_value(&[]);
        numbers[1] = losses.dice_loss.double_value(&[]);
        numbers[2 + 2 * world.rank] = trainer.first_bad_step().unwrap_or(0) as f64;
        numbers[3 + 2 * world.rank] = f64::from(stop.unwrap_or(0));
        let sums = world.sum(&numbers)?;
        let ranks = world.size as f64;
        let of_ranks = |first: usize| sums[first..].iter().step_by(2);
        Ok(Self {
            cross_entropy: sums[0] / ranks,
            dice_loss: sums[1] / ranks,
            bad_steps: of_ranks(2).map(|&step| step as u64).collect(),
            stop: of_ranks(3).map(|&signal| signal as i32).find(|signal| *signal > 0),
            scaling: trainer.scales_loss().then(|| (trainer.loss_scale(), trainer.skipped_steps())),
        })
    }

    pub fn total(&self) -> f64 {
        self.cross_entropy + self.dice_loss
    }

    /// The metrics by their log keys.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let mut named = vec![
            ("train_ce_loss", self.cross_entropy),
            ("train_dice_loss", self.dice_loss),
            ("train_total_loss", self.total()),
        ];
        if let Some((scale, skipped)) = self.scaling {
            named.extend([("loss_scale", scale), ("skipped_steps", skipped as f64)]);
        }
        named
    }

    /// Errors: training learns nothing more, since a loss is not finite, or gradients are not and no loss scale helps.
    /// All ranks come to the same answer. `slices` tells on which slices a batch was.
    pub fn check(
        &self,
        trainer: &Trainer,
        learning_rate: f64,
        slices: impl FnOnce(BadBatch) -> Vec<usize>,
    ) -> Result<()> {
        let advice = format!("lower --learning_rate (now {learning_rate}), or train without --amp");
        let first_bad = self.bad_steps.iter().enumerate().filter(|(_, step)| **step > 0).min_by_key(|(_, step)| **step);
        // float16 may overflow in one step and find a scale for the next: that is no reason to stop.
        if let (false, Some((rank, &step))) = (self.total().is_finite(), first_bad) {
            let slices = slices(BadBatch { step, rank: rank as u64 });
            let of_rank = if self.bad_steps.len() > 1 { format!(" of rank {rank}") } else { String::new() };
            bail!("step {step}: the loss{of_rank} is not a finite number, on slices {slices:?}; {advice}");
        }
        trainer.check_updates(&advice)
    }
}
