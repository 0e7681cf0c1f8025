//! The scores by which the ISBI 2012 challenge ranked, as Fiji computes them, and Dice and IoU (docs/metrics.md).
//!
//! Slices are scored one by one, in two dimensions: H, W pixels, `[H, W]` row after row. What a slice adds is a handful
//! of numbers, from which the scores of a stack are made. `confusion` has the scores of any number of classes. No
//! tensors here. Not here: files (`tools/score`).

use std::thread;

use serde::Serialize;

mod confusion;
mod overlap;
mod segments;
#[cfg(test)]
mod tests;

pub use confusion::{Confusion, Summary};
use overlap::{Agreement, Overlap};
use segments::Segments;

/// A probability above a threshold is inside a cell, others are membrane.
const THRESHOLDS: usize = 11;
/// The index of the threshold of Dice and IoU, 0.5.
const HALF: usize = 5;

/// 0 to 1 in steps of 0.1, added up as Fiji does it: the one for 0.8 is 0.7999999999999999, the last just below 1.
fn thresholds() -> [f64; THRESHOLDS] {
    let mut next = 0.0;
    [(); THRESHOLDS].map(|()| {
        let threshold = next;
        next += 0.1;
        threshold
    })
}

/// The scores of a stack, 0 to 1. With each maximum or minimum over thresholds the threshold that it is of; the lowest
/// of equals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChallengeScores {
    /// Foreground-restricted Rand score after border thinning; higher is better.
    pub v_rand_thin: f64,
    pub v_rand_thin_threshold: f64,
    /// Foreground-restricted information score after border thinning; higher is better.
    pub v_info_thin: f64,
    pub v_info_thin_threshold: f64,
    /// 1 - foreground-restricted Rand F-score of 2012, without thinning; lower is better.
    pub rand_error_2012: f64,
    pub rand_error_2012_threshold: f64,
    /// 1 - F-score of the pixels inside cells; lower is better.
    pub pixel_error_2012: f64,
    pub pixel_error_2012_threshold: f64,
    /// Dice of the pixels inside cells, all slices together, at threshold 0.5; higher is better.
    pub dice: f64,
    /// Intersection over union of the same; higher is better.
    pub iou: f64,
}

/// What one slice adds to the scores of its stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SliceScores {
    /// Objects in the labels.
    objects: u64,
    /// At each threshold.
    at: [ThresholdScores; THRESHOLDS],
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct ThresholdScores {
    v_rand_thin: f64,
    v_info_thin: f64,
    /// Pairs of pixels, without thinning.
    pairs: Agreement,
    /// Pixels inside cells.
    pixels: Agreement,
}

impl SliceScores {
    /// Numbers that a slice is handed on as.
    pub const NUMBERS: usize = 1 + ThresholdScores::NUMBERS * THRESHOLDS;

    /// The scores of a slice with the labels `is_inside` `[H, W]` and the probability of the same, 0 to 1. The
    /// thresholds are shared among `threads`, each of which takes 10 to 35 bytes per pixel while it works.
    pub fn new(is_inside: &[bool], probability: &[f32], width: usize, threads: usize) -> Self {
        let truth = Segments::components(is_inside, width);
        let thresholds = thresholds();
        let counts = thresholds.map(|threshold| probability.iter().filter(|&&p| f64::from(p) > threshold).count());
        // Masks only lose pixels from one threshold to the next, so that equal counts are equal masks: all 11 of a
        // binary stack.
        let repeats = |index: usize| index > 0 && counts[index] == counts[index - 1];
        let mut at = [ThresholdScores::default(); THRESHOLDS];
        let mut shares: Vec<Vec<_>> = (0..threads.clamp(1, THRESHOLDS)).map(|_| Vec::new()).collect();
        // In turn: the higher a threshold, the more borders there are to thin.
        let slots = at.iter_mut().zip(thresholds).enumerate().filter(|(index, _)| !repeats(*index));
        for (turn, (_, slot)) in slots.enumerate() {
            let share = turn % shares.len();
            shares[share].push(slot);
        }
        let fill = |share: Vec<(&mut ThresholdScores, f64)>| {
            for (scores, threshold) in share {
                let mask: Vec<bool> = probability.iter().map(|&p| f64::from(p) > threshold).collect();
                *scores = ThresholdScores::new(&truth, is_inside, &mask, width);
            }
        };
        thread::scope(|scope| {
            let own = shares.pop().unwrap_or_default();
            shares.into_iter().for_each(|share| drop(scope.spawn(move || fill(share))));
            fill(own);
        });
        for index in (0..THRESHOLDS).filter(|&index| repeats(index)) {
            at[index] = at[index - 1];
        }
        Self { objects: truth.count.into(), at }
    }

    /// For an exchange between processes. Counts are exact up to 2^53: objects of 134 megapixels in a slice.
    pub fn numbers(&self) -> Vec<f64> {
        let scores = self.at.iter().flat_map(ThresholdScores::numbers);
        std::iter::once(self.objects as f64).chain(scores).collect()
    }

    /// From [`Self::NUMBERS`] numbers that [`Self::numbers`] gave.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let at = |index| ThresholdScores::from_numbers(&numbers[1 + ThresholdScores::NUMBERS * index..]);
        Self { objects: numbers[0] as u64, at: std::array::from_fn(at) }
    }
}

impl ThresholdScores {
    const NUMBERS: usize = 8;

    fn new(truth: &Segments, is_inside: &[bool], mask: &[bool], width: usize) -> Self {
        let segments = Segments::components(mask, width);
        let pairs = Overlap::new(truth, &segments).unordered_pairs();
        let thinned = Overlap::new(truth, &segments.thin_borders());
        Self {
            v_rand_thin: thinned.ordered_pairs().f_score(),
            v_info_thin: thinned.information_score(),
            pairs,
            pixels: Agreement::of_masks(is_inside, mask),
        }
    }

    fn numbers(&self) -> [f64; Self::NUMBERS] {
        let [pairs, pixels] = [self.pairs, self.pixels].map(|a| [a.both, a.truth, a.proposal].map(|n| n as f64));
        [self.v_rand_thin, self.v_info_thin, pairs[0], pairs[1], pairs[2], pixels[0], pixels[1], pixels[2]]
    }

    fn from_numbers(numbers: &[f64]) -> Self {
        let agreement = |first: usize| Agreement {
            both: numbers[first] as u128,
            truth: numbers[first + 1] as u128,
            proposal: numbers[first + 2] as u128,
        };
        Self { v_rand_thin: numbers[0], v_info_thin: numbers[1], pairs: agreement(2), pixels: agreement(5) }
    }
}

impl ChallengeScores {
    /// The scores of a stack of at least one slice.
    pub fn new(slices: &[SliceScores]) -> Self {
        let at = |index: usize| slices.iter().map(move |slice| slice.at[index]);
        let mean =
            |index: usize, score: fn(ThresholdScores) -> f64| at(index).map(score).sum::<f64>() / slices.len() as f64;
        let pairs = |index: usize| at(index).map(|scores| scores.pairs).sum::<Agreement>();
        let pixels = |index: usize| at(index).map(|scores| scores.pixels).sum::<Agreement>();
        let (v_rand_thin, v_rand_thin_threshold) = highest(|index| mean(index, |scores| scores.v_rand_thin));
        let (v_info_thin, v_info_thin_threshold) = highest(|index| mean(index, |scores| scores.v_info_thin));
        let (rand, rand_error_2012_threshold) = highest(|index| pairs(index).f_score());
        let (pixel, pixel_error_2012_threshold) = highest(|index| pixels(index).f_score());
        Self {
            v_rand_thin,
            v_rand_thin_threshold,
            v_info_thin,
            v_info_thin_threshold,
            rand_error_2012: 1.0 - rand,
            rand_error_2012_threshold,
            pixel_error_2012: 1.0 - pixel,
            pixel_error_2012_threshold,
            dice: pixels(HALF).f_score(),
            iou: pixels(HALF).intersection_over_union(),
        }
    }

    /// What to try where the best threshold of V_Rand is at the end of the scale, so that a still higher one might be
    /// better: the network gives what lies between objects too small a probability. `names` are those of the classes.
    pub fn advice(&self, names: &[String]) -> Option<String> {
        let is_last = self.v_rand_thin_threshold > thresholds()[THRESHOLDS - 3];
        is_last.then(|| {
            format!(
                "hint: v_rand_thin is best at threshold {:.1}, the end of its scale: objects are joined where the \
                 network finds what lies between them unlikely; a larger weight of it in training, such as \
                 --class_weights 10,1 ({}), makes it count more",
                self.v_rand_thin_threshold,
                names.join(", ")
            )
        })
    }

    /// Without the thresholds.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("v_rand_thin", self.v_rand_thin),
            ("v_info_thin", self.v_info_thin),
            ("rand_error_2012", self.rand_error_2012),
            ("pixel_error_2012", self.pixel_error_2012),
            ("dice", self.dice),
            ("iou", self.iou),
        ]
    }
}

/// The highest score over the thresholds, and the lowest threshold that gives it.
fn highest(score: impl Fn(usize) -> f64) -> (f64, f64) {
    let scores = thresholds().into_iter().enumerate().map(|(index, threshold)| (score(index), threshold));
    scores.reduce(|best, next| if next.0 > best.0 { next } else { best }).unwrap_or_default()
}

/// What to tell people of labels by which the best prediction cannot score in full. `numbers` are those of the slices.
pub fn warnings(numbers: &[usize], slices: &[SliceScores]) -> Vec<String> {
    const MOST_SHOWN: usize = 8;
    let with = |objects: u64, meaning: &str| {
        let found = numbers.iter().zip(slices).filter(|(_, slice)| slice.objects == objects);
        let found: Vec<String> = found.map(|(number, _)| number.to_string()).collect();
        let more = if found.len() > MOST_SHOWN { ", ..." } else { "" };
        let shown = found[..found.len().min(MOST_SHOWN)].join(", ");
        let (count, total) = (found.len(), slices.len());
        (count > 0).then(|| format!("{count} of {total} slices ({shown}{more}; the first is 0) {meaning}"))
    };
    let empty = with(0, "have labels without foreground: they count as 0 in v_rand_thin and v_info_thin");
    let single = with(1, "have labels of a single object: they count as 0 in v_info_thin whatever the prediction");
    empty.into_iter().chain(single).collect()
}

/// The share of all pixels whose class is wrong at threshold 0.5; `pixels` in each slice.
pub fn wrong_share(slices: &[SliceScores], pixels: usize) -> f64 {
    let Agreement { both, truth, proposal } = slices.iter().map(|slice| slice.at[HALF].pixels).sum();
    (truth + proposal - 2 * both) as f64 / (slices.len() * pixels) as f64
}
