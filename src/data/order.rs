//! Which sample comes next: how samples are dealt to steps and ranks, and which slice each of them is.

use std::ops::Range;

use rand::seq::SliceRandom;

use super::random::{Purpose, stream};

/// How the samples of training, numbered from its start, are dealt to steps and ranks: each step takes the next
/// `batch_size` for rank 0, then the next for rank 1, and so on.
#[derive(Debug, Clone, Copy)]
pub struct SampleSchedule {
    /// Steps and samples made before this process began, as a resumed run has them.
    pub first_step: u64,
    pub first_sample: u64,
    /// Samples in a batch of one rank.
    pub batch_size: u64,
    pub ranks: u64,
}

impl SampleSchedule {
    /// The samples of `rank` in `step`, which counts from 1 over the whole training.
    pub fn samples(&self, step: u64, rank: u64) -> Range<u64> {
        let batches = (step - 1 - self.first_step) * self.ranks + rank;
        let first = self.first_sample + batches * self.batch_size;
        first..first + self.batch_size
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_steps_take_each_sample_once_and_a_resumed_run_goes_on() {
        let schedule = SampleSchedule { first_step: 0, first_sample: 0, batch_size: 2, ranks: 3 };
        let dealt: Vec<u64> =
            (1..=4).flat_map(|step| (0..3).flat_map(move |rank| schedule.samples(step, rank))).collect();
        assert_eq!(dealt, (0..24).collect::<Vec<u64>>());
        // Goes on after step 2 with another number of ranks.
        let resumed = SampleSchedule { first_step: 2, first_sample: 12, ranks: 1, ..schedule };
        assert_eq!([resumed.samples(3, 0), resumed.samples(4, 0)], [12..14, 14..16]);
    }

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
