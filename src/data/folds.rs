//! The cross-validation folds of the reference (`UNet_Medical/utils/data_loader.py`), slice by slice.
//!
//! The reference shuffles slice numbers with NumPy's legacy generator and rotates the list from fold to
//! fold. Its rotation is `int((1 - 0.8) * n)`, which floating point makes 5 and not 6 for 30 slices, so
//! that its folds overlap. They are kept as they are: the published Dice table was made with them
//! (docs/deviations.md).

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
    let rotation = fold * ((1.0 - TRAIN_SHARE) * slices as f64) as usize;
    order.rotate_right(rotation % slices.max(1));
    let validation = order.split_off((TRAIN_SHARE * slices as f64) as usize);
    Split { train: order, validation }
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

    #[test]
    fn the_five_folds_of_thirty_slices_leave_four_slices_unvalidated() {
        let mut validated: Vec<usize> = (0..5).flat_map(|fold| split(30, 0, Some(fold)).validation).collect();
        validated.sort_unstable();
        validated.dedup();
        assert_eq!(validated.len(), 26);
    }
}
