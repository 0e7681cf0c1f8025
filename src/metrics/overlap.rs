//! Two segmentations of a slice laid over each other, and the scores that come of it.
//!
//! Source: Arganda-Carreras et al. (2015), doi 10.3389/fnana.2015.00142, as Fiji computes it (docs/metrics.md). Only
//! pixels inside the objects of the labels count. Not here: stacks and thresholds (`mod`).

use super::segments::Segments;

/// Sizes of what two segmentations of one slice have in common, within the objects of the labels, in pixels.
#[derive(Debug)]
pub struct Overlap {
    /// Pixels that an object of the labels and a segment of the proposal share, where they overlap.
    common: Vec<u64>,
    /// Pixels of each object of the labels.
    truth: Vec<u64>,
    /// Pixels of each segment of the proposal.
    proposal: Vec<u64>,
    /// Pixels in no segment of the proposal: each counts as a segment of its own.
    singletons: u64,
}

/// How many of what is counted is in the labels, in the proposal, and in both: pixels, or pairs of pixels in one
/// segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreement {
    pub both: u128,
    pub truth: u128,
    pub proposal: u128,
}

impl Agreement {
    /// The agreement of the pixels that are set.
    pub fn of_masks(truth: &[bool], proposal: &[bool]) -> Self {
        let count = |mask: &[bool]| mask.iter().filter(|&&set| set).count() as u128;
        let both = truth.iter().zip(proposal).filter(|&(&truth, &proposal)| truth && proposal).count() as u128;
        Self { both, truth: count(truth), proposal: count(proposal) }
    }

    /// 2 TP / (2 TP + FP + FN), the Dice coefficient; 0 where there is nothing.
    pub fn f_score(&self) -> f64 {
        ratio(2.0 * self.both as f64, (self.truth + self.proposal) as f64)
    }

    /// TP / (TP + FP + FN), the intersection over the union; 0 where there is nothing.
    pub fn intersection_over_union(&self) -> f64 {
        ratio(self.both as f64, (self.truth + self.proposal - self.both) as f64)
    }
}

impl std::iter::Sum for Agreement {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            both: sum.both + part.both,
            truth: sum.truth + part.truth,
            proposal: sum.proposal + part.proposal,
        })
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

impl Overlap {
    /// Both of one size.
    pub fn new(truth: &Segments, proposal: &Segments) -> Self {
        let mut overlap = Self {
            common: Vec::new(),
            truth: vec![0; truth.count as usize],
            proposal: vec![0; proposal.count as usize],
            singletons: 0,
        };
        let mut runs = runs(&truth.ids, &proposal.ids);
        // By segments, so that sums of rounded numbers are the same in each run.
        runs.sort_unstable();
        for cell in runs.chunk_by(|a, b| a.0 == b.0) {
            let (object, segment) = cell[0].0;
            let size = cell.iter().map(|(_, length)| length).sum();
            overlap.truth[object as usize - 1] += size;
            if segment == 0 {
                overlap.singletons += size;
            } else {
                overlap.common.push(size);
                overlap.proposal[segment as usize - 1] += size;
            }
        }
        overlap
    }

    /// Ordered pairs of pixels in one segment, pairs of a pixel with itself included. The F-score of these is V_Rand.
    pub fn ordered_pairs(&self) -> Agreement {
        let squares = |sizes: &[u64]| sizes.iter().map(|&size| u128::from(size).pow(2)).sum::<u128>();
        let singletons = u128::from(self.singletons);
        Agreement {
            both: squares(&self.common) + singletons,
            truth: squares(&self.truth),
            proposal: squares(&self.proposal) + singletons,
        }
    }

    /// Unordered pairs of different pixels in one segment, as counted in the challenge of 2012.
    pub fn unordered_pairs(&self) -> Agreement {
        let pairs = |sizes: &[u64]| {
            sizes.iter().map(|&size| u128::from(size) * u128::from(size.saturating_sub(1)) / 2).sum::<u128>()
        };
        Agreement { both: pairs(&self.common), truth: pairs(&self.truth), proposal: pairs(&self.proposal) }
    }

    /// V_Info: twice the mutual information over the sum of the entropies, 0 to 1. Fiji's value where one of them is 0,
    /// be it of a single object found without fault: 0.
    pub fn information_score(&self) -> f64 {
        let pixels = self.truth.iter().sum::<u64>() as f64;
        let entropy = |sizes: &[u64]| -> f64 {
            let terms = sizes.iter().filter(|&&size| size > 0).map(|&size| size as f64 / pixels);
            -terms.map(|share| share * share.ln()).sum::<f64>()
        };
        let of_singletons = if self.singletons == 0 { 0.0 } else { self.singletons as f64 / pixels * pixels.ln() };
        let truth = entropy(&self.truth);
        let proposal = entropy(&self.proposal) + of_singletons;
        let joint = entropy(&self.common) + of_singletons;
        if truth == 0.0 || proposal == 0.0 { 0.0 } else { 2.0 * (truth + proposal - joint) / (truth + proposal) }
    }
}

/// Object, segment and length of what lies in a row within the objects of the labels.
fn runs(truth: &[u32], proposal: &[u32]) -> Vec<((u32, u32), u64)> {
    let mut runs: Vec<((u32, u32), u64)> = Vec::new();
    for (&object, &segment) in truth.iter().zip(proposal).filter(|(object, _)| **object > 0) {
        match runs.last_mut() {
            Some((pair, length)) if *pair == (object, segment) => *length += 1,
            _ => runs.push(((object, segment), 1)),
        }
    }
    runs
}
