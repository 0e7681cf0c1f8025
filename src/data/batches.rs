//! Which slices make up a batch, and the batch itself.

use rand::seq::SliceRandom;
use tch::{IndexOp, Kind, Tensor};

use super::augment::{self, Augmentation};
use super::preprocess;
use super::random::{Purpose, stream};
use super::stack::{ImageStack, LabelStack, TrainingStacks};

/// What one step trains on or one evaluation scores.
pub struct Batch {
    /// `[N, 1, 572, 572]` f32 in [-1, 1].
    pub images: Tensor,
    /// Class indices, `[N, 388, 388]` i64.
    pub labels: Tensor,
}

/// The endless sequence of training samples: every slice once per epoch, each epoch shuffled anew.
///
/// Sample number k is slice `k % n` of epoch `k / n`, so a batch may span two epochs, and the sequence
/// depends neither on the batch size nor on the number of ranks, which take consecutive parts of it.
pub struct Order {
    slices: Vec<usize>,
    seed: u64,
    /// The epoch that is shuffled at present, and its order.
    epoch: Option<(u64, Vec<usize>)>,
}

impl Order {
    pub fn new(slices: Vec<usize>, seed: u64) -> Self {
        Self { slices, seed, epoch: None }
    }

    /// The slice of sample `sample`, counted from the start of training.
    pub fn slice(&mut self, sample: u64) -> usize {
        let count = self.slices.len() as u64;
        let (epoch, position) = (sample / count, (sample % count) as usize);
        match &self.epoch {
            Some((current, order)) if *current == epoch => order[position],
            _ => {
                let mut order = self.slices.clone();
                order.shuffle(&mut stream(self.seed, Purpose::EpochOrder, epoch));
                let slice = order[position];
                self.epoch = Some((epoch, order));
                slice
            }
        }
    }
}

/// Makes training batches from stacks that lie on the device.
pub struct TrainingBatches<'a> {
    stacks: &'a TrainingStacks,
    order: Order,
    seed: u64,
    batch_size: usize,
    augment: bool,
}

impl<'a> TrainingBatches<'a> {
    pub fn new(stacks: &'a TrainingStacks, slices: Vec<usize>, seed: u64, batch_size: usize, augment: bool) -> Self {
        Self { stacks, order: Order::new(slices, seed), seed, batch_size, augment }
    }

    /// The slice numbers of the batch that begins with sample `first`, counted from the start of training.
    pub fn slices(&mut self, first: u64) -> Vec<usize> {
        self.samples(first).map(|sample| self.order.slice(sample)).collect()
    }

    /// The batch that begins with sample `first`.
    pub fn batch(&mut self, first: u64) -> Batch {
        let slices = self.slices(first);
        let images = self.stacks.images.preprocessed(&slices);
        let labels = self.stacks.labels.preprocessed(&slices);
        if !self.augment {
            return Batch::new(images, &labels);
        }
        let transforms: Vec<Augmentation> = self
            .samples(first)
            .map(|sample| Augmentation::draw(&mut stream(self.seed, Purpose::Augmentation, sample)))
            .collect();
        let (images, labels) = augment::apply(&images, &labels, &transforms);
        Batch::new(images, &labels)
    }

    fn samples(&self, first: u64) -> std::ops::Range<u64> {
        first..first + self.batch_size as u64
    }
}

impl Batch {
    /// `images` `[N, 1, 572, 572]` f32; `labels` `[N, 1, 388, 388]` f32, 0 or 1.
    pub fn new(images: Tensor, labels: &Tensor) -> Self {
        Self { images, labels: labels.i((.., 0)).to_kind(Kind::Int64) }
    }
}

impl ImageStack {
    /// The network's input for these slices, `[N, 1, 572, 572]` f32.
    pub fn preprocessed(&self, slices: &[usize]) -> Tensor {
        preprocess::images(&self.select(slices), self.stored_range())
    }
}

impl LabelStack {
    /// The network's target for these slices, `[N, 1, 388, 388]` f32, 0 or 1.
    pub fn preprocessed(&self, slices: &[usize]) -> Tensor {
        preprocess::labels(&self.select(slices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_deals_each_slice_once_and_in_another_order() {
        let mut order = Order::new(vec![3, 1, 4, 15, 9, 2, 6], 42);
        let mut epoch = |number: u64| (0..7).map(|i| order.slice(number * 7 + i)).collect::<Vec<_>>();
        let epochs: Vec<Vec<usize>> = (0..4).map(&mut epoch).collect();
        for slices in &epochs {
            let mut sorted = slices.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [1, 2, 3, 4, 6, 9, 15]);
        }
        assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(epoch(2), epochs[2], "an epoch can be asked for again");
    }

    #[test]
    fn another_seed_deals_another_order() {
        let deal = |seed| (0..20).map(|sample| Order::new((0..20).collect(), seed).slice(sample)).collect::<Vec<_>>();
        assert_eq!(deal(0), deal(0));
        assert_ne!(deal(0), deal(1));
    }
}
