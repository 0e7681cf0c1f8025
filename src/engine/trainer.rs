//! One training step, for training and its benchmark alike.

use anyhow::{Context, Result, bail};
use rand::RngExt;
use serde_json::{Map, Value};
use tch::Tensor;

use super::adam::Adam;
use super::ema::MovingAverage;
use super::finite_counters::FiniteCounters;
use super::grad_scaler::GradScaler;
use super::loss::{self, LossOptions, Losses};
use super::precision::Precision;
use super::schedule::Schedule;
use super::step_runner::StepRunner;
use crate::checkpoint::{Checkpoint, Progress, Snapshot, TrainingState, ValidationState};
use crate::data::random::{Purpose, stream};
use crate::distributed::world::{self, World};
use crate::error::LostRanks;
use crate::model::backend::Backend;
use crate::model::unet::UNet;
use crate::native::distributed::Reducer;
use crate::recipe::batches::Batch;

/// Consecutive skipped steps at which a run with loss scaling gives up: 64 halvings take any scale to nothing.
const MOST_SKIPPED_IN_ROW: u64 = 64;

/// What decides the weights that a step makes, apart from network and batch.
#[derive(Debug, Clone, Copy)]
pub struct Hyperparameters {
    pub schedule: Schedule,
    /// Decay of the moving average of the weights; `None`: none is kept.
    pub ema: Option<f64>,
    /// Share of the bottleneck's outputs that dropout zeroes.
    pub dropout: f64,
    /// L2 coefficient.
    pub weight_decay: f64,
    /// The seed of dropout.
    pub seed: u64,
}

/// The network with everything that a step changes.
pub struct Trainer {
    pub net: UNet,
    optimizer: Adam,
    schedule: Schedule,
    ema: Option<MovingAverage>,
    scaler: GradScaler,
    runner: StepRunner,
    precision: Precision,
    loss: LossOptions,
    dropout: f64,
    seed: u64,
    rank: u64,
    world_size: u64,
    /// Averages gradients over the ranks; `None` where there is but one.
    reducer: Option<Reducer>,
    pub progress: Progress,
    /// The progress at the start of this process.
    start: Progress,
    counters: FiniteCounters,
}

impl Trainer {
    /// All ranks begin with rank 0's weights.
    pub fn new(
        net: UNet,
        hyperparameters: Hyperparameters,
        precision: Precision,
        runner: StepRunner,
        world: &World,
    ) -> Result<Self> {
        let Hyperparameters { schedule, ema, dropout, weight_decay, seed } = hyperparameters;
        let params = params(&net);
        world.broadcast(&params.iter().collect::<Vec<_>>())?;
        let mut trainer = Self {
            net,
            reducer: world.reducer(&params)?,
            ema: ema.map(|decay| MovingAverage::new(decay, &params)),
            optimizer: Adam::new(params, schedule.rate(1), weight_decay),
            schedule,
            scaler: GradScaler::new(precision, world.device),
            runner,
            precision,
            loss: LossOptions::default(),
            dropout,
            seed,
            rank: world.rank as u64,
            world_size: world.size as u64,
            progress: Progress::default(),
            start: Progress::default(),
            counters: FiniteCounters::new(world.device),
        };
        let backend = Backend::new(world.device, precision.0)?;
        if backend.keeps_working_weights(precision.0, trainer.reducer.is_some()) {
            trainer.make_working_weights();
        }
        Ok(trainer)
    }

    /// The same trainer with these options of the loss.
    pub fn with_loss(self, loss: LossOptions) -> Self {
        Self { loss, ..self }
    }

    /// From now on the network multiplies with weights in the dtype of activations, which the update writes together
    /// with their f32 masters: nothing is cast but in the update.
    fn make_working_weights(&mut self) {
        self.optimizer.use_working_weights(self.net.make_working_weights(self.precision.0));
    }

    /// A trainer that goes on where `checkpoint` was written; its tensors are those of rank 0.
    pub fn resume(
        checkpoint: Checkpoint,
        hyperparameters: Hyperparameters,
        precision: Precision,
        runner: StepRunner,
        world: &World,
    ) -> Result<Self> {
        let Checkpoint { state, net, exp_avgs, exp_avg_sqs, averages } = checkpoint;
        world.broadcast(&exp_avgs.iter().chain(&exp_avg_sqs).chain(&averages).collect::<Vec<_>>())?;
        let mut trainer = Self::new(net, hyperparameters, precision, runner, world)?;
        trainer.optimizer.restore(&exp_avgs, &exp_avg_sqs, state.updates);
        if let Some(ema) = &mut trainer.ema {
            ema.restore(&averages);
        }
        trainer.scaler.restore(state.loss_scale, state.growth_tracker);
        trainer.progress = state.progress;
        trainer.start = state.progress;
        Ok(trainer)
    }

    /// One optimiser step on `batch`, with the other ranks on theirs; the losses are those of this batch before the
    /// step. Does not wait for the device.
    pub fn step(&mut self, batch: &Batch) -> Result<Losses> {
        let images = batch.images.size()[0] as u64;
        // Dropout is libtorch's, which has one generator: its seed in each step follows from the samples.
        tch::manual_seed(stream(self.seed, Purpose::Dropout, batch.first_sample).random());

        self.optimizer.set_learning_rate(self.learning_rate());
        let ranks = LostRanks { rank: self.rank as usize, size: self.world_size as usize };
        let losses = self.train_on(batch, self.dropout).map_err(|error| world::explain(error, ranks))?;
        self.progress.step += 1;
        self.progress.batches += self.world_size;
        self.progress.samples += self.world_size * images;
        if let Some(ema) = &mut self.ema {
            ema.update(&params(&self.net), self.progress.step);
        }
        Ok(losses)
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.rate(self.progress.step + 1)
    }

    /// The network that training has made: with the averages of its weights where they are kept.
    pub fn into_network(self) -> UNet {
        if let Some(ema) = &self.ema {
            tch::no_grad(|| params(&self.net).iter_mut().zip(ema.averages()).for_each(|(own, mean)| own.copy_(mean)));
        }
        self.net
    }

    /// Forward, backward and update.
    fn train_on(&mut self, batch: &Batch, dropout: f64) -> Result<Losses> {
        let Self { net, optimizer, scaler, counters, reducer, runner, precision, loss: options, .. } = self;
        let mut work = |images: &Tensor, labels: &Tensor, weights: Option<&Tensor>| -> Result<[Tensor; 2]> {
            if let Some(reducer) = &reducer {
                reducer.before_forward()?;
            }
            let logits = net.forward(&precision.cast(images), dropout)?;
            let losses = loss::weighted_losses(&logits, labels, weights, options)?;
            counters.observe(&losses);
            if let Some(reducer) = &reducer {
                reducer.before_backward()?;
            }
            update(optimizer, scaler, counters, &losses)?;
            Ok([losses.cross_entropy.detach(), losses.dice_loss.detach()])
        };
        let Batch { images, labels, weights, .. } = batch;
        let [cross_entropy, dice_loss] = match weights {
            None => runner.run([images, labels], |[images, labels]| work(images, labels, None)),
            Some(weights) => {
                runner.run([images, labels, weights], |[images, labels, weights]| work(images, labels, Some(weights)))
            }
        }?;
        Ok(Losses { cross_entropy, dice_loss })
    }

    /// Steps since the start of the process whose gradients were not finite; the same on all ranks. Waits for the
    /// device.
    pub fn skipped_steps(&self) -> u64 {
        self.counters.skipped()
    }

    /// The first step (1-based) since the start of the process whose loss on this rank was not finite. Waits for the
    /// device.
    pub fn first_bad_step(&self) -> Option<u64> {
        let good = self.counters.good_steps();
        let made = self.progress.step - self.start.step;
        (good < made).then(|| self.start.step + good + 1)
    }

    /// Whether steps may be skipped to find a loss scale.
    pub fn scales_loss(&self) -> bool {
        self.scaler.is_dynamic()
    }

    /// A copy of the network as training has made it so far, with the averages of its weights where they are kept.
    pub fn network(&self) -> Result<UNet> {
        let params = params(&self.net);
        let mut values = self.ema.as_ref().map_or(&params[..], MovingAverage::averages).iter();
        UNet::new(self.net.architecture, &mut |name, _| {
            let value = values.next().with_context(|| format!("no value for '{name}'"))?;
            Ok(tch::no_grad(|| value.detach().copy()))
        })
    }

    /// What a checkpoint saves, as a copy; `settings` are those of the run. Waits for the device.
    pub fn snapshot(&self, settings: &Map<String, Value>, validation: Option<&ValidationState>) -> Snapshot {
        let (exp_avgs, exp_avg_sqs, updates) = self.optimizer.state();
        let scaler = self.scaler.state();
        let mut state = TrainingState::new(self.net.architecture, self.progress, updates, scaler, settings.clone());
        state.validation = validation.cloned();
        let averages = self.ema.as_ref().map(MovingAverage::averages).unwrap_or_default();
        Snapshot::new(&self.net, (exp_avgs, exp_avg_sqs), averages, state)
    }

    /// The factor that losses are multiplied with. Waits for the device.
    pub fn loss_scale(&self) -> f64 {
        self.scaler.state().0
    }

    /// Consecutive steps without an update up to the last one. Waits for the device.
    pub fn skipped_in_row(&self) -> u64 {
        self.counters.skipped_in_row()
    }

    /// Errors: steps without an update where no loss scale can be lowered, or where lowering it does not help; `advice`
    /// says what to do. Waits for the device.
    pub fn check_updates(&self, advice: &str) -> Result<()> {
        let step = self.progress.step;
        let (skipped, in_row) = (self.skipped_steps(), self.skipped_in_row());
        if skipped > 0 && !self.scales_loss() {
            bail!("{skipped} of the steps up to {step} had gradients that are not finite; {advice}");
        }
        if in_row >= MOST_SKIPPED_IN_ROW {
            bail!("the last {in_row} steps up to {step} had gradients that are not finite; {advice}");
        }
        Ok(())
    }
}

/// The parameters of a network, shared with it.
fn params(net: &UNet) -> Vec<Tensor> {
    net.parameters().into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
}

/// Backward from `losses`, then the optimiser's update unless a gradient is not finite. The result are the gradients;
/// parameters keep none, so that their memory serves the next forward pass.
fn update(
    optimizer: &mut Adam,
    scaler: &mut GradScaler,
    counters: &mut FiniteCounters,
    losses: &Losses,
) -> Result<Vec<Tensor>> {
    scaler.scale(&losses.total()).f_backward()?;
    let grads = optimizer.take_grads()?;
    let (found_inf, inverse_scale) = scaler.unscale(&grads)?;
    optimizer.step(&grads, found_inf, &inverse_scale)?;
    counters.updated(found_inf);
    scaler.update();
    Ok(grads)
}

#[cfg(test)]
mod tests;
