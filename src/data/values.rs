//! What the values of images mean: which become black and white. Gathered page by page.

use anyhow::{Result, bail};

use super::samples::{SampleFormat, Samples};

/// The stored values that become -1 and 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GreyRange {
    pub black: f64,
    pub white: f64,
}

/// The values of an image stack, gathered page by page.
#[derive(Debug, Clone, PartialEq)]
pub struct GreyValues {
    format: SampleFormat,
    /// Smallest and largest value so far.
    pub low: f64,
    pub high: f64,
    sum: f64,
    count: u64,
}

impl GreyValues {
    pub fn new(format: SampleFormat) -> Self {
        Self { format, low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, count: 0 }
    }

    pub fn add(&mut self, page: Samples<'_>) {
        match page {
            Samples::U8(values) => self.add_integers(values),
            Samples::U16(values) => self.add_integers(values),
            Samples::F32(values) => {
                let (low, high) = values
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
                let sum = values.iter().map(|&value| f64::from(value)).sum();
                self.add_page(low.into(), high.into(), sum, values.len());
            }
        }
    }

    fn add_integers<T: Copy + Ord + Into<u32>>(&mut self, values: &[T]) {
        if let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) {
            let sum: u64 = values.iter().map(|&value| u64::from(value.into())).sum();
            self.add_page(low.into().into(), high.into().into(), sum as f64, values.len());
        }
    }

    fn add_page(&mut self, low: f64, high: f64, sum: f64, count: usize) {
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        self.sum += sum;
        self.count += count as u64;
    }

    /// Adds what was gathered elsewhere of images of the same format.
    pub fn merge(&mut self, other: &Self) {
        (self.low, self.high) = (self.low.min(other.low), self.high.max(other.high));
        self.sum += other.sum;
        self.count += other.count;
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// The values that become -1 and 1: the type's own range for integers; for floats 0 to 1, 255 or
    /// 65,535, the smallest of these that holds all values.
    ///
    /// Errors: a float stack with values outside 0..65,535.
    pub fn range(&self) -> Result<GreyRange> {
        let (low, high) = (self.low, self.high);
        let holds = |white: &f64| low >= 0.0 && high <= *white;
        let white = match self.format {
            SampleFormat::U8 => 255.0,
            SampleFormat::U16 => 65_535.0,
            SampleFormat::F32 => match [1.0, 255.0, 65_535.0].into_iter().find(holds) {
                Some(white) => white,
                None => {
                    bail!("float samples from {low} to {high}, expected 0..1, 0..255 or 0..65535; rescale the stack")
                }
            },
        };
        Ok(GreyRange { black: 0.0, white })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_stacks_are_mapped_by_the_smallest_usual_range_that_holds_them() {
        let white = |pages: [&[f32]; 2]| {
            let mut values = GreyValues::new(SampleFormat::F32);
            pages.into_iter().for_each(|page| values.add(Samples::F32(page)));
            values.range().map(|range| range.white)
        };
        assert_eq!(white([&[0.0], &[0.7]]).unwrap(), 1.0);
        assert_eq!(white([&[1.5], &[0.0]]).unwrap(), 255.0);
        assert_eq!(white([&[0.0, 300.0], &[1.0]]).unwrap(), 65_535.0);
        assert!(white([&[0.5], &[-0.1]]).is_err());
        assert!(white([&[0.0], &[1e6]]).is_err());
    }

    #[test]
    fn mean_and_bounds_are_those_of_all_pages() {
        let mut bytes = GreyValues::new(SampleFormat::U8);
        [[7, 200], [3, 90]].iter().for_each(|page| bytes.add(Samples::U8(page)));
        assert_eq!((bytes.low, bytes.high, bytes.mean()), (3.0, 200.0, 75.0));
        let mut floats = GreyValues::new(SampleFormat::F32);
        [[0.5, 0.25], [1.0, 0.25]].iter().for_each(|page| floats.add(Samples::F32(page)));
        assert_eq!((floats.low, floats.high, floats.mean()), (0.25, 1.0, 0.5));
        let mut merged = GreyValues::new(SampleFormat::U8);
        merged.add(Samples::U8(&[1, 1]));
        merged.merge(&bytes);
        assert_eq!((merged.low, merged.high, merged.mean()), (1.0, 200.0, 302.0 / 6.0));
    }
}
