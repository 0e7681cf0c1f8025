//! One training step, for training and its benchmark alike.

use anyhow::Result;
use rand::RngExt;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use crate::amp::{GradScaler, Precision};
use crate::checkpoint::{Checkpoint, Progress, Snapshot, TrainingState};
use crate::config::Recipe;
use crate::data::batches::Batch;
use crate::data::random::{Purpose, stream};
use crate::distributed::{self, World};
use crate::error::LostRanks;
use crate::execution::Execution;
use crate::loss::{self, Losses};
use crate::model::unet::UNet;
use crate::native::{self, Reducer};
use crate::optimizer::Adam;

mod health;
use health::Health;

/// The network with everything that a step changes.
pub struct Trainer {
    pub net: UNet,
    optimizer: Adam,
    scaler: GradScaler,
    execution: Execution,
    precision: Precision,
    seed: u64,
    rank: u64,
    world_size: u64,
    /// Averages gradients over the ranks; `None` where there is but one.
    reducer: Option<Reducer>,
    pub progress: Progress,
    /// Where this process began.
    start: Progress,
    health: Health,
}

impl Trainer {
    /// All ranks begin with rank 0's weights.
    pub fn new(net: UNet, recipe: &Recipe, precision: Precision, execution: Execution, world: &World) -> Result<Self> {
        let params: Vec<Tensor> = net.parameters().into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        world.broadcast(&params.iter().collect::<Vec<_>>())?;
        let mut trainer = Self {
            net,
            reducer: world.reducer(&params)?,
            optimizer: Adam::new(params, recipe.learning_rate, recipe.weight_decay),
            scaler: GradScaler::new(precision, world.device),
            execution,
            precision,
            seed: recipe.seed,
            rank: world.rank as u64,
            world_size: world.size as u64,
            progress: Progress::default(),
            start: Progress::default(),
            health: Health::new(world.device),
        };
        // Ranks add up gradients in f32.
        let like = Tensor::empty([0], (precision.0, world.device));
        if precision.0 != Kind::Float && trainer.reducer.is_none() && native::gpu::has_kernels(&like)? {
            trainer.keep_working_weights();
        }
        Ok(trainer)
    }

    /// Weights in the dtype of activations from now on, which the update keeps in step with their f32 master copy: nothing is
    /// cast but in the update.
    fn keep_working_weights(&mut self) {
        self.optimizer.keep_working_weights(self.net.keep_working_weights(self.precision.0));
    }

    /// A trainer that goes on where `checkpoint` was written; its tensors are those of rank 0.
    pub fn resume(
        checkpoint: Checkpoint,
        recipe: &Recipe,
        precision: Precision,
        execution: Execution,
        world: &World,
    ) -> Result<Self> {
        let Checkpoint { state, net, exp_avgs, exp_avg_sqs } = checkpoint;
        world.broadcast(&exp_avgs.iter().chain(&exp_avg_sqs).collect::<Vec<_>>())?;
        let mut trainer = Self::new(net, recipe, precision, execution, world)?;
        trainer.optimizer.restore(&exp_avgs, &exp_avg_sqs, state.updates);
        trainer.scaler.restore(state.loss_scale, state.growth_tracker);
        trainer.progress = state.progress;
        trainer.start = state.progress;
        Ok(trainer)
    }

    /// One optimiser step on `batch`, with the other ranks on theirs; the losses are those of this batch before the step.
    /// Does not wait for the device.
    pub fn step(&mut self, batch: &Batch) -> Result<Losses> {
        let images = batch.images.size()[0] as u64;
        // Dropout is libtorch's, which has one generator: it starts anew at a place that the samples fix.
        let first = self.progress.samples + self.rank * images;
        tch::manual_seed(stream(self.seed, Purpose::Dropout, first).random());

        let ranks = LostRanks { rank: self.rank as usize, size: self.world_size as usize };
        let losses = self.train_on(batch, true).map_err(|error| distributed::explain(error, ranks))?;
        self.progress.step += 1;
        self.progress.batches += self.world_size;
        self.progress.samples += self.world_size * images;
        Ok(losses)
    }

    /// Forward, backward and update.
    fn train_on(&mut self, batch: &Batch, dropout: bool) -> Result<Losses> {
        let Self { net, optimizer, scaler, health, reducer, execution, precision, .. } = self;
        let [cross_entropy, dice_loss] = execution.run([&batch.images, &batch.labels], |[images, labels]| {
            if let Some(reducer) = &reducer {
                reducer.before_forward()?;
            }
            let logits = net.forward(&images.to_kind(precision.0), dropout)?;
            let losses = loss::losses(&logits, labels)?;
            health.observe(&losses);
            if let Some(reducer) = &reducer {
                reducer.before_backward()?;
            }
            update(optimizer, scaler, health, &losses)?;
            Ok([losses.cross_entropy.detach(), losses.dice_loss.detach()])
        })?;
        Ok(Losses { cross_entropy, dice_loss })
    }

    /// Steps since the start of the process whose gradients were not finite; the same on all ranks. Waits for the device.
    pub fn skipped_steps(&self) -> u64 {
        self.health.skipped()
    }

    /// The first step (1-based) since the start of the process whose loss on this rank was not finite. Waits for the device.
    pub fn first_bad_step(&self) -> Option<u64> {
        let good = self.health.good_steps();
        let made = self.progress.step - self.start.step;
        (good < made).then(|| self.start.step + good + 1)
    }

    /// The first sample that `rank` trains on in step `step` (1-based) of this process, if batches hold `images`.
    pub fn first_sample(&self, step: u64, rank: u64, images: usize) -> u64 {
        self.start.samples + ((step - 1 - self.start.step) * self.world_size + rank) * images as u64
    }

    /// Whether steps may be skipped to find a loss scale.
    pub fn scales_loss(&self) -> bool {
        self.scaler.is_dynamic()
    }

    /// What a checkpoint saves, as a copy; `settings` are those of the run. Waits for the device.
    pub fn snapshot(&self, settings: &Map<String, Value>) -> Snapshot {
        let (exp_avgs, exp_avg_sqs, updates) = self.optimizer.state();
        let scaler = self.scaler.state();
        let state = TrainingState::new(self.net.architecture, self.progress, updates, scaler, settings.clone());
        Snapshot::new(&self.net, (exp_avgs, exp_avg_sqs), state)
    }

    /// The factor that losses are multiplied with. Waits for the device.
    pub fn loss_scale(&self) -> f64 {
        self.scaler.state().0
    }

    /// Steps without an update since the last one that had one. Waits for the device.
    pub fn skipped_in_row(&self) -> u64 {
        self.health.skipped_in_row()
    }
}

/// Backward from `losses`, then the optimiser's update unless a gradient is not finite. The result are the gradients;
/// parameters keep none, so that their memory serves the next forward pass.
fn update(optimizer: &mut Adam, scaler: &mut GradScaler, health: &mut Health, losses: &Losses) -> Result<Vec<Tensor>> {
    scaler.scale(&losses.total()).f_backward()?;
    let grads = optimizer.take_grads()?;
    let (found_inf, inverse_scale) = scaler.unscale(&grads)?;
    optimizer.step(&grads, found_inf, &inverse_scale)?;
    health.updated(found_inf);
    scaler.update();
    Ok(grads)
}

#[cfg(test)]
mod ranks_test;
#[cfg(test)]
mod step_test;
