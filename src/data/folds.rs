//! The cross-validation folds of the reference (`UNet_Medical/utils/data_loader.py`), slice by slice.
//!
//! The reference shuffles slice numbers with NumPy's legacy generator and rotates the list from fold to
//! fold. Its rotation is `int((1 - 0.8) * n)`, which floating point makes 5 and not 6 for 30 slices, so
//! that its folds overlap. They are kept as they are: the published Dice table was made with them
//! (docs/deviations.md). `--split` has others, which do not overlap.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Share of the slices that trains.
const TRAIN_SHARE: f64 = 0.8;

/// Zero-based slice numbers that train and that validate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
}

/// The slices of fold `fold` (0..5) of `slices`; without a fold all slices train, in shuffled order.
///
/// Only the low 32 bits of `seed` count, as NumPy takes no more.
pub fn split(slices: usize, seed: u64, fold: Option<usize>) -> Split {
    let mut order: Vec<usize> = (0..slices).collect();
    LegacyNumpy::new(seed as u32).shuffle(&mut order);
    let Some(fold) = fold else {
        return Split { train: order, validation: Vec::new() };
    };
    order.rotate_right(fold * rotation(slices) % slices.max(1));
    let validation = order.split_off((TRAIN_SHARE * slices as f64) as usize);
    Split { train: order, validation }
}

/// Folds of the reference.
const COUNT: usize = 5;

/// By how many slices the folds of the reference differ from one to the next.
fn rotation(slices: usize) -> usize {
    ((1.0 - TRAIN_SHARE) * slices as f64) as usize
}

/// A warning of too few slices for the reference's folds, which are then all the same split.
pub fn warn_of_few(slices: usize) -> Option<String> {
    (rotation(slices) == 0).then(|| {
        format!(
            "{slices} slices: the reference's {COUNT} folds are all the same split; for a cross-validation give \
             --split disjoint or blocks with --folds, at most one for each slice"
        )
    })
}

impl Split {
    /// The same split, whatever the order of its slices.
    pub fn sorted(mut self) -> Self {
        self.train.sort_unstable();
        self.validation.sort_unstable();
        self
    }
}

/// How slices are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folds {
    /// Shuffled, each slice validated once.
    Disjoint,
    /// Neighbours together: fold k holds out the k-th part of the slices in their order.
    Blocks,
}

impl Folds {
    /// The slices of fold `fold` of `count`, of which there are at most as many as slices.
    pub fn split(self, slices: usize, seed: u64, fold: usize, count: usize) -> Split {
        let mut order: Vec<usize> = (0..slices).collect();
        if self == Self::Disjoint {
            LegacyNumpy::new(seed as u32).shuffle(&mut order);
        }
        let bounds = [fold, fold + 1].map(|fold| fold * slices / count);
        let validation = order[bounds[0]..bounds[1]].to_vec();
        let train = [&order[..bounds[0]], &order[bounds[1]..]].concat();
        Split { train, validation }
    }
}

/// A split from a file: `{"train": [...], "validation": [...]}`, or a list of such, one for each fold, as nnU-Net's
/// `splits_final.json` (`val` is another name of `validation`). Slices are numbers from 0, or names of cases.
///
/// Errors: text that is none, a fold that is not there, a slice that is not there, or on both sides.
pub fn split_of_file(text: &str, fold: usize, slices: usize, number: impl Fn(&str) -> Vec<usize>) -> Result<Split> {
    let json: Value = serde_json::from_str(text)?;
    let of_fold = match &json {
        Value::Array(folds) => {
            let last = folds.len().checked_sub(1).context("it has no folds")?;
            folds.get(fold).with_context(|| format!("it has no fold {fold}, only 0 to {last}"))?
        }
        single => single,
    };
    let part = |names: [&str; 2]| -> Result<Vec<usize>> {
        let list = names.iter().find_map(|name| of_fold[*name].as_array());
        let list = list.with_context(|| format!("it has no list '{}'", names[0]))?;
        let mut part = Vec::new();
        for item in list {
            let found = match item {
                Value::String(name) => number(name),
                item => item.as_u64().map(|number| number as usize).filter(|&n| n < slices).into_iter().collect(),
            };
            ensure!(!found.is_empty(), "it names {item}, which is not among the {slices} slices");
            part.extend(found);
        }
        Ok(part)
    };
    let (train, validation) = (part(["train", "train"])?, part(["validation", "val"])?);
    if let Some(slice) = train.iter().find(|slice| validation.contains(slice)) {
        bail!("slice {slice} is on both sides");
    }
    Ok(Split { train, validation })
}

/// The part of NumPy's `RandomState` that `shuffle` needs: MT19937 (Matsumoto and Nishimura, 1998)
/// and the masked rejection that draws a number below a bound.
struct LegacyNumpy {
    state: [u32; Self::N],
    next: usize,
}

impl LegacyNumpy {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::N];
        for i in 1..Self::N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: Self::N }
    }

    fn refill(&mut self) {
        for i in 0..Self::N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::M) % Self::N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == Self::N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in `0..=max`, each equally likely.
    fn interval(&mut self, max: u32) -> u32 {
        let mask = u32::MAX.checked_shr(max.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// Fisher-Yates from the end.
    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.interval(i as u32) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One case of `tests/golden/folds.json`, made by NumPy.
    #[derive(serde::Deserialize)]
    struct Case {
        slices: usize,
        seed: u64,
        fold: Option<usize>,
        train: Vec<usize>,
        val: Vec<usize>,
    }

    #[test]
    fn splits_equal_those_of_numpy() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/folds.json")).unwrap();
        assert_eq!(cases.len(), 54);
        for case in cases {
            let expected = Split { train: case.train, validation: case.val };
            assert_eq!(split(case.slices, case.seed, case.fold), expected);
        }
    }

    proptest! {
        /// Each slice is validated by one fold, and trains in all others.
        #[test]
        fn folds_validate_each_slice_once(slices in 2usize..200, count in 2usize..12, seed in 0u64..9) {
            prop_assume!(count <= slices);
            for folds in [Folds::Disjoint, Folds::Blocks] {
                let splits: Vec<Split> = (0..count).map(|fold| folds.split(slices, seed, fold, count)).collect();
                let mut validated: Vec<usize> = splits.iter().flat_map(|split| split.validation.clone()).collect();
                validated.sort_unstable();
                prop_assert_eq!(validated, (0..slices).collect::<Vec<_>>());
                for split in splits {
                    let mut all = [split.train, split.validation.clone()].concat();
                    all.sort_unstable();
                    prop_assert_eq!(all, (0..slices).collect::<Vec<_>>());
                    prop_assert!(!split.validation.is_empty());
                }
            }
        }
    }

    proptest! {
        /// Training and validation of each fold are all slices, each once, in the shares of the reference; without a
        /// fold all train.
        #[test]
        fn folds_of_the_reference_part_all_slices(slices in 2usize..200, seed: u32, fold in 0..COUNT) {
            let sorted = |parts: [&[usize]; 2]| {
                let mut all = parts.concat();
                all.sort_unstable();
                all
            };
            let all: Vec<usize> = (0..slices).collect();
            let Split { train, validation } = split(slices, seed.into(), Some(fold));
            prop_assert_eq!(sorted([&train, &validation]), all.clone());
            prop_assert_eq!(train.len(), slices * 4 / 5);
            prop_assert_eq!(sorted([&split(slices, seed.into(), None).train, &[]]), all);
            // The high bits of a seed do not count.
            prop_assert_eq!(split(slices, u64::from(seed) | 1 << 40, Some(fold)).train, train);
        }

        /// A block is a run of neighbours, as long as the others or one longer.
        #[test]
        fn blocks_are_neighbours_of_even_length(slices in 2usize..200, count in 2usize..12) {
            prop_assume!(count <= slices);
            for fold in 0..count {
                let block = Folds::Blocks.split(slices, 0, fold, count).validation;
                prop_assert!(block.windows(2).all(|pair| pair[1] == pair[0] + 1));
                prop_assert!([slices / count, slices.div_ceil(count)].contains(&block.len()));
            }
        }
    }

    /// Compared with sets of the splits themselves.
    #[test]
    fn folds_of_few_slices_are_all_the_same_split_and_others_differ() {
        for slices in 2..40 {
            let sets: std::collections::BTreeSet<Vec<usize>> =
                (0..COUNT).map(|fold| split(slices, 3, Some(fold)).sorted().validation).collect();
            assert_eq!(sets.len(), if warn_of_few(slices).is_some() { 1 } else { COUNT }, "{slices} slices");
        }
        assert!(warn_of_few(5).is_some() && warn_of_few(6).is_none());
    }

    #[test]
    fn blocks_hold_out_neighbours() {
        assert_eq!(Folds::Blocks.split(30, 7, 4, 5).validation, (24..30).collect::<Vec<_>>());
        assert_eq!(Folds::Blocks.split(30, 7, 0, 5).train, (6..30).collect::<Vec<_>>());
        assert_ne!(Folds::Disjoint.split(30, 0, 0, 5), Folds::Disjoint.split(30, 1, 0, 5));
    }

    #[test]
    fn splits_are_read_from_files() {
        let number = |name: &str| if name == "b" { vec![1, 2] } else { Vec::new() };
        let read = |text: &str, fold| split_of_file(text, fold, 4, number);
        let split = Split { train: vec![0, 3], validation: vec![1, 2] };
        assert_eq!(read(r#"{"train": [0, 3], "validation": ["b"]}"#, 3).unwrap(), split);
        let folds = r#"[{"train": [0], "val": [1]}, {"train": [0, 3], "val": ["b"]}]"#;
        assert_eq!(read(folds, 1).unwrap(), split);
        for (text, words) in [
            (folds, "no fold 2"),
            (r#"{"train": [0]}"#, "no list 'validation'"),
            (r#"{"train": [4], "validation": [1]}"#, "names 4"),
            (r#"{"train": ["x"], "validation": [1]}"#, "\"x\""),
            (r#"{"train": [0, 1], "validation": ["b"]}"#, "slice 1 is on both sides"),
            ("[", "EOF"),
            ("[]", "no folds"),
        ] {
            let message = format!("{:#}", read(text, 2).unwrap_err());
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn the_five_folds_of_thirty_slices_leave_four_slices_unvalidated() {
        let mut validated: Vec<usize> = (0..5).flat_map(|fold| split(30, 0, Some(fold)).validation).collect();
        validated.sort_unstable();
        validated.dedup();
        assert_eq!(validated.len(), 26);
    }
}
