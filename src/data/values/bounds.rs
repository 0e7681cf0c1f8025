//! Smallest, largest and mean value of images, gathered page by page.

use crate::data::samples::Samples;

/// Bounds and sum of the values of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GreyBounds {
    /// Smallest and largest value so far.
    pub low: f64,
    pub high: f64,
    sum: f64,
    /// How many values there are.
    pub count: u64,
}

impl Default for GreyBounds {
    fn default() -> Self {
        Self { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, count: 0 }
    }
}

impl GreyBounds {
    pub fn add(&mut self, page: Samples<'_>) {
        match page {
            Samples::U8(values) => self.add_integers(values),
            Samples::U16(values) => self.add_integers(values),
            Samples::F32(values) => {
                let (low, high) = values
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
                let sum = values.iter().map(|&value| f64::from(value)).sum();
                self.merge(&Self { low: low.into(), high: high.into(), sum, count: values.len() as u64 });
            }
        }
    }

    fn add_integers<T: Copy + Ord + Into<u32>>(&mut self, values: &[T]) {
        if let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) {
            let sum: u64 = values.iter().map(|&value| u64::from(value.into())).sum();
            let (low, high) = (low.into().into(), high.into().into());
            self.merge(&Self { low, high, sum: sum as f64, count: values.len() as u64 });
        }
    }

    /// Adds what was gathered elsewhere.
    pub fn merge(&mut self, other: &Self) {
        (self.low, self.high) = (self.low.min(other.low), self.high.max(other.high));
        self.sum += other.sum;
        self.count += other.count;
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Whether all values are one.
    pub fn is_constant(&self) -> bool {
        self.low >= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_bounds_are_those_of_all_pages() {
        let mut bytes = GreyBounds::default();
        [[7, 200], [3, 90]].iter().for_each(|page| bytes.add(Samples::U8(page)));
        assert_eq!((bytes.low, bytes.high, bytes.mean()), (3.0, 200.0, 75.0));
        let mut floats = GreyBounds::default();
        [[0.5, 0.25], [1.0, 0.25]].iter().for_each(|page| floats.add(Samples::F32(page)));
        assert_eq!((floats.low, floats.high, floats.mean()), (0.25, 1.0, 0.5));
        let mut merged = GreyBounds::default();
        merged.add(Samples::U8(&[1, 1]));
        assert!(merged.is_constant());
        merged.merge(&bytes);
        assert_eq!((merged.low, merged.high, merged.mean()), (1.0, 200.0, 302.0 / 6.0));
    }
}
