//! The batches that training and evaluation compute with.
//!
//! Shapes: N images.

use tch::{IndexOp, Kind, Tensor};

use super::augmentation::{self, Augmentation};
use super::preprocessing;
use crate::data::order::{Order, SampleSchedule};
use crate::data::random::{Purpose, stream};
use crate::data::stack::{ImageStack, LabelStack, TrainingStacks};

/// What one step trains on or one evaluation scores.
pub struct Batch {
    /// `[N, 1, 572, 572]` f32 in [-1, 1].
    pub images: Tensor,
    /// Class indices, `[N, 388, 388]` i64.
    pub labels: Tensor,
    /// The number of the first sample, counted from the start of training; what is random in its step depends on it.
    pub first_sample: u64,
}

impl Batch {
    /// `images` `[N, 1, 572, 572]` f32; `labels` `[N, 1, 388, 388]` f32, 0 or 1.
    pub fn new(images: Tensor, labels: &Tensor) -> Self {
        Self { images, labels: labels.i((.., 0)).to_kind(Kind::Int64), first_sample: 0 }
    }
}

/// Makes the training batches of one rank from stacks that lie on the device.
pub struct TrainingBatches<'a> {
    stacks: &'a TrainingStacks,
    order: Order,
    schedule: SampleSchedule,
    rank: u64,
    seed: u64,
    augment: bool,
}

impl<'a> TrainingBatches<'a> {
    /// Batches of these `slices` of `stacks`.
    pub fn new(
        stacks: &'a TrainingStacks,
        slices: &[usize],
        schedule: SampleSchedule,
        rank: u64,
        seed: u64,
        augment: bool,
    ) -> Self {
        Self { stacks, order: Order::new(slices.to_vec(), seed), schedule, rank, seed, augment }
    }

    /// The slice numbers of the batch of `rank` in `step`, which counts from 1 over the whole training.
    pub fn slices(&mut self, step: u64, rank: u64) -> Vec<usize> {
        self.schedule.samples(step, rank).map(|sample| self.order.slice(sample)).collect()
    }

    /// The batch of this rank in `step`, which counts from 1 over the whole training.
    pub fn batch(&mut self, step: u64) -> Batch {
        let samples = self.schedule.samples(step, self.rank);
        let slices = self.slices(step, self.rank);
        let images = preprocessed_images(&self.stacks.images, &slices);
        let labels = preprocessed_labels(&self.stacks.labels, &slices);
        let first_sample = samples.start;
        if !self.augment {
            return Batch { first_sample, ..Batch::new(images, &labels) };
        }
        let draw = |sample| Augmentation::draw(&mut stream(self.seed, Purpose::Augmentation, sample));
        let transforms: Vec<Augmentation> = samples.map(draw).collect();
        let (images, labels) = augmentation::apply(&images, &labels, &transforms);
        Batch { first_sample, ..Batch::new(images, &labels) }
    }
}

/// The network's input for these slices, `[N, 1, 572, 572]` f32.
pub fn preprocessed_images(stack: &ImageStack, slices: &[usize]) -> Tensor {
    preprocessing::images(&stack.select(slices), stack.stored_range())
}

/// The network's target for these slices, `[N, 1, 388, 388]` f32, 0 or 1.
pub fn preprocessed_labels(stack: &LabelStack, slices: &[usize]) -> Tensor {
    preprocessing::labels(&stack.select(slices))
}
