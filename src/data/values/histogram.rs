//! How often each stored value occurs, page by page, in memory that does not grow with the data. Integers are counted
//! exactly. Floats are counted in steps of 1/8192 of their octave.
//!
//! Counts are whole numbers, so that the order in which images are read does not matter.

use crate::data::samples::{SampleFormat, Samples};

/// Bins of a block, which is there once one of its bins is used.
const BLOCK: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 13;
/// Bits of a float that do not tell bins apart; the others are sign, exponent and 13 bits of the fraction.
const DROPPED_BITS: u32 = 10;

/// Counts of values in ascending bins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    blocks: Vec<Option<Box<[u64]>>>,
}

impl Histogram {
    pub fn add(&mut self, page: Samples<'_>) {
        match page {
            Samples::U8(values) => {
                let block = self.block(0);
                values.iter().for_each(|&value| block[usize::from(value)] += 1);
            }
            Samples::U16(values) => values.iter().for_each(|&value| self.count(value.into())),
            Samples::F32(values) => values.iter().for_each(|&value| self.count(bin_of_float(value))),
        }
    }

    fn count(&mut self, bin: u32) {
        self.block((bin >> BLOCK_BITS) as usize)[bin as usize % BLOCK] += 1;
    }

    fn block(&mut self, index: usize) -> &mut [u64] {
        if self.blocks.len() <= index {
            self.blocks.resize(index + 1, None);
        }
        self.blocks[index].get_or_insert_with(|| vec![0; BLOCK].into_boxed_slice())
    }

    /// Adds what was counted elsewhere of values of the same type.
    pub fn merge(&mut self, other: &Self) {
        for (index, block) in other.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            self.block(index).iter_mut().zip(block).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Bins that are used, in ascending order: smallest and largest value of each, and its count.
    pub fn bins(&self, format: SampleFormat) -> impl DoubleEndedIterator<Item = ([f64; 2], u64)> {
        let blocks = self.blocks.iter().enumerate().filter_map(|(index, block)| Some((index, block.as_ref()?)));
        let bins = blocks.flat_map(|(index, block)| (index * BLOCK..(index + 1) * BLOCK).zip(block.iter()));
        bins.filter(|(_, count)| **count > 0).map(move |(bin, &count)| (values_of_bin(format, bin as u32), count))
    }
}

/// Bins ascend with the floats: negative ones have their bits inverted.
fn bin_of_float(value: f32) -> u32 {
    // No negative zero.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    ordered >> DROPPED_BITS
}

fn values_of_bin(format: SampleFormat, bin: u32) -> [f64; 2] {
    match format {
        SampleFormat::U8 | SampleFormat::U16 => [bin.into(); 2],
        SampleFormat::F32 => [0, (1 << DROPPED_BITS) - 1].map(|rest| {
            let ordered = bin << DROPPED_BITS | rest;
            let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
            f32::from_bits(bits).into()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_counted_exactly_in_ascending_order() {
        let mut histogram = Histogram::default();
        histogram.add(Samples::U16(&[9000, 7, 65_535, 7]));
        let mut other = Histogram::default();
        other.add(Samples::U16(&[0, 9000]));
        histogram.merge(&other);
        let bins: Vec<_> = histogram.bins(SampleFormat::U16).map(|([low, _], count)| (low, count)).collect();
        assert_eq!(bins, [(0.0, 1), (7.0, 2), (9000.0, 2), (65_535.0, 1)]);
    }

    #[test]
    fn floats_fall_into_ascending_bins_that_hold_them() {
        let values = [-3e38f32, -4095.5, -1.0, -1e-30, 0.0, 1e-30, 0.3, 1.0, 1.004, 255.0, 3e38];
        let mut histogram = Histogram::default();
        histogram.add(Samples::F32(&[-0.0]));
        values.iter().for_each(|&value| histogram.add(Samples::F32(&[value])));
        let bins: Vec<_> = histogram.bins(SampleFormat::F32).collect();
        assert_eq!(bins.len(), values.len());
        for (([low, high], count), value) in bins.iter().zip(values) {
            let value = f64::from(value);
            assert!(*low <= value && value <= *high, "{value} in {low}..{high}");
            assert!(high - low <= value.abs() / 4096.0 + 1e-40, "{value} in {low}..{high}");
            assert_eq!(*count, if value == 0.0 { 2 } else { 1 });
        }
    }
}
