//! What the values of images mean: which become black and white. Gathered page by page.

use anyhow::{Result, bail};

use super::samples::{SampleFormat, Samples};

mod bounds;
mod histogram;

pub use bounds::GreyBounds;
use histogram::Histogram;

/// Samples that may lie beyond the percentiles, one in so many on each side: hot pixels, and dead ones.
const ONE_IN: u64 = 1000;
/// Share of a range that the samples between the percentiles must fill, for the range to be taken as it is.
const LEAST_FILLED: f64 = 0.5;

/// The stored values that become -1 and 1. Values beyond are clipped.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GreyRange {
    pub black: f64,
    pub white: f64,
}

impl GreyRange {
    /// All values of an integer type; of floats 0 to 1.
    pub fn full(format: SampleFormat) -> Self {
        let white = match format {
            SampleFormat::U8 => 255.0,
            SampleFormat::U16 => 65_535.0,
            SampleFormat::F32 => 1.0,
        };
        Self { black: 0.0, white }
    }

    /// Share of the range that lies between two values, 0 to 1.
    pub fn filled(self, values: [f64; 2]) -> f64 {
        let [low, high] = values.map(|value| value.clamp(self.black, self.white));
        (high - low) / (self.white - self.black)
    }

    /// For messages: `0 to 4095`.
    pub fn describe(self) -> String {
        format!("{} to {}", short(self.black), short(self.white))
    }
}

/// Who says which values become black and white (`--grey_range`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum GreyChoice {
    /// The training images: [`GreyValues::used_range`].
    #[default]
    Auto,
    /// The sample type, as in the reference: [`GreyValues::range_of_type`].
    Type,
    Given(GreyRange),
}

/// A value at one end of a range that many samples have, and that is far from all others.
pub struct Outlier {
    pub value: f64,
    /// Share of the samples that have the value, or lie beyond it.
    pub share: f64,
    /// Percentiles of the others.
    pub others: [f64; 2],
}

/// The values of images of one sample type.
#[derive(Debug, Clone, PartialEq)]
pub struct GreyValues {
    pub format: SampleFormat,
    pub bounds: GreyBounds,
    histogram: Histogram,
}

impl GreyValues {
    pub fn new(format: SampleFormat) -> Self {
        Self { format, bounds: GreyBounds::default(), histogram: Histogram::default() }
    }

    pub fn add(&mut self, page: Samples<'_>) {
        self.bounds.add(page);
        self.histogram.add(page);
    }

    /// Adds what was gathered elsewhere of values of the same type.
    pub fn merge(&mut self, other: &Self) {
        self.bounds.merge(&other.bounds);
        self.histogram.merge(&other.histogram);
    }

    /// The values that become -1 and 1, as `choice` says.
    ///
    /// Errors: floats whose type says nothing, where it is asked.
    pub fn range(&self, choice: GreyChoice) -> Result<GreyRange> {
        match choice {
            GreyChoice::Auto => Ok(self.used_range()),
            GreyChoice::Type => self.range_of_type(),
            GreyChoice::Given(range) => Ok(range),
        }
    }

    /// The reference's mapping: the type's own range for integers; for floats 0 to 1, 255 or 65,535, the smallest of
    /// these that holds all values.
    ///
    /// Errors: floats outside 0..65,535.
    pub fn range_of_type(&self) -> Result<GreyRange> {
        if self.format != SampleFormat::F32 {
            return Ok(GreyRange::full(self.format));
        }
        let GreyBounds { low, high, .. } = self.bounds;
        match [1.0, 255.0, 65_535.0].into_iter().find(|white| low >= 0.0 && high <= *white) {
            Some(white) => Ok(GreyRange { black: 0.0, white }),
            None => bail!(
                "float samples from {low} to {high}, expected 0..1, 0..255 or 0..65535; rescale the images, or say \
                 which values are black and white with --grey_range BLACK,WHITE"
            ),
        }
    }

    /// The range that the values use: from 0 to the smallest full count of bits (for floats also to 1) that holds the
    /// percentiles, if these span at least half of it, else from percentile to percentile.
    ///
    /// A stack of 8 bits that fills its type is mapped as by the reference, 12 bits in 16 are 0 to 4,095.
    pub fn used_range(&self) -> GreyRange {
        let [low, high] = self.percentiles();
        let white = natural_whites(self.format).find(|white| low >= 0.0 && high <= *white);
        let bounds = self.bounds;
        match white {
            Some(white) if high - low >= LEAST_FILLED * white => GreyRange { black: 0.0, white },
            _ if high > low => GreyRange { black: low, white: high },
            _ if bounds.is_constant() => {
                let full = GreyRange::full(self.format);
                GreyRange { black: bounds.low.min(full.black), white: bounds.high.max(full.white) }
            }
            // Nearly all values are one, or in one bin.
            _ => match self.edges().map(|[_, [low, high]]| [low, high].map(|edge| edge.clamp(bounds.low, bounds.high)))
            {
                Some([black, white]) if white > black => GreyRange { black, white },
                _ => GreyRange { black: bounds.low, white: bounds.high },
            },
        }
    }

    /// The values that a thousandth of the samples, and at least one, are below and above. Floats are rounded to
    /// 1/8192 of their octave.
    pub fn percentiles(&self) -> [f64; 2] {
        let GreyBounds { low, high, .. } = self.bounds;
        self.edges().map_or([low, high], |edges| edges.map(|[edge, _]| edge.clamp(low, high)))
    }

    /// Smallest and largest value of the bins of both percentiles; `None` without values.
    fn edges(&self) -> Option<[[f64; 2]; 2]> {
        let count = self.bounds.count;
        let beyond = (count / ONE_IN).max(1).min(count.saturating_sub(1) / 2);
        let bins = || self.histogram.bins(self.format);
        Some([bin_after(beyond, bins())?, bin_after(beyond, bins().rev())?])
    }

    /// Share of the samples that `range` clips, 0 to 1. Floats that are beyond by rounding do not count.
    pub fn clipped(&self, range: GreyRange) -> f64 {
        let is_beyond = |[low, high]: [f64; 2]| high < range.black || low > range.white;
        let bins = self.histogram.bins(self.format).filter(|(values, _)| is_beyond(*values));
        bins.map(|(_, count)| count).sum::<u64>() as f64 / self.bounds.count.max(1) as f64
    }

    /// Share of `range` that the samples between the percentiles fill, 0 to 1.
    pub fn filled(&self, range: GreyRange) -> f64 {
        range.filled(self.percentiles())
    }

    /// The value at an end of `range` without which the samples would fill less of it than `least`.
    pub fn outlier(&self, range: GreyRange, least: f64) -> Option<Outlier> {
        let GreyBounds { count, low: smallest, high: largest, .. } = self.bounds;
        let [[low, _], [_, high]] = self.edges()?;
        let without = |value: f64, is_other: &dyn Fn([f64; 2]) -> bool| {
            let rest = || self.histogram.bins(self.format).filter(|(values, _)| is_other(*values));
            let left: u64 = rest().map(|(_, count)| count).sum();
            let beyond = left / ONE_IN;
            let [low, high] = [bin_after(beyond, rest())?, bin_after(beyond, rest().rev())?];
            // Neither of two values alone is far from the others.
            let others = [low[0], high[1]];
            let is_far = left >= count / 100 && low != high && range.filled(others) < least;
            let share = (count - left) as f64 / count as f64;
            let [value, low, high] = [value, low[0], high[1]].map(|value| value.clamp(smallest, largest));
            is_far.then_some(Outlier { value, share, others: [low, high] })
        };
        without(low, &|[value, _]| value > low).or_else(|| without(high, &|[_, value]| value < high))
    }

    /// Whether `range` is that of the type, as in the reference.
    pub fn is_of_type(&self, range: GreyRange) -> bool {
        self.range_of_type().is_ok_and(|of_type| of_type == range)
    }

    /// A line on a range that is not that of the type; `None` for one that is.
    pub fn describe(&self, range: GreyRange) -> Option<String> {
        if self.is_of_type(range) {
            return None;
        }
        let [low, high] = self.percentiles();
        Some(format!(
            "grey levels: {} becomes black and {} white, {} of the samples are clipped (99.8 % of the {} samples are \
             from {} to {})",
            short(range.black),
            short(range.white),
            percent(self.clipped(range)),
            self.format.name(),
            short(low),
            short(high)
        ))
    }
}

/// The values of the bin in which more than `beyond` samples have been met.
fn bin_after(beyond: u64, mut bins: impl Iterator<Item = ([f64; 2], u64)>) -> Option<[f64; 2]> {
    let mut seen = 0;
    let bin = bins.find(|(_, count)| {
        seen += count;
        seen > beyond
    });
    bin.map(|(values, _)| values)
}

/// The largest values of full counts of bits, ascending; of floats 1, and those of 8 bits and more.
fn natural_whites(format: SampleFormat) -> impl Iterator<Item = f64> {
    let (one, bits) = match format {
        SampleFormat::U8 => (None, 1..=8),
        SampleFormat::U16 => (None, 1..=16),
        SampleFormat::F32 => (Some(1.0), 8..=16),
    };
    one.into_iter().chain(bits.map(|bits| f64::from((1u32 << bits) - 1)))
}

/// A value in six digits, whole numbers in full.
pub fn short(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return format!("{value}");
    }
    match value.abs().log10().floor() as i32 {
        digits @ -4..=8 => {
            let text = format!("{value:.*}", (5 - digits).max(1) as usize);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.5e}"),
    }
}

/// A share as a percentage; a share that is not 0 is not shown as 0.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent > 0.0 && percent < 0.01 => "below 0.01 %".to_owned(),
        percent => format!("{percent:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(page: Samples<'_>) -> GreyValues {
        let format = match page {
            Samples::U8(_) => SampleFormat::U8,
            Samples::U16(_) => SampleFormat::U16,
            Samples::F32(_) => SampleFormat::F32,
        };
        let mut values = GreyValues::new(format);
        values.add(page);
        values
    }

    fn used(page: Samples<'_>) -> [f64; 2] {
        let GreyRange { black, white } = values(page).used_range();
        [black, white]
    }

    /// `count` values, evenly from `low` to `high`.
    fn ramp(low: u16, high: u16, count: usize) -> Vec<u16> {
        (0..count).map(|i| (usize::from(low) + i * usize::from(high - low) / (count - 1)) as u16).collect()
    }

    #[test]
    fn float_stacks_are_mapped_by_the_smallest_usual_range_that_holds_them() {
        let white = |pages: [&[f32]; 2]| {
            let mut values = GreyValues::new(SampleFormat::F32);
            pages.into_iter().for_each(|page| values.add(Samples::F32(page)));
            values.range(GreyChoice::Type).map(|range| range.white)
        };
        assert_eq!(white([&[0.0], &[0.7]]).unwrap(), 1.0);
        assert_eq!(white([&[1.5], &[0.0]]).unwrap(), 255.0);
        assert_eq!(white([&[0.0, 300.0], &[1.0]]).unwrap(), 65_535.0);
        assert!(white([&[0.5], &[-0.1]]).is_err());
        assert!(white([&[0.0], &[1e6]]).is_err());
    }

    #[test]
    fn types_that_are_filled_keep_their_range_and_others_give_the_bits_in_use() {
        let bytes = |low, high| ramp(low, high, 5000).into_iter().map(|value| value as u8).collect::<Vec<_>>();
        assert_eq!(used(Samples::U8(&bytes(0, 255))), [0.0, 255.0]);
        assert_eq!(used(Samples::U8(&bytes(20, 160))), [0.0, 255.0]);
        assert_eq!(used(Samples::U8(&bytes(0, 40))), [0.0, 63.0]);
        for bits in [10, 12, 14, 16] {
            let white = ((1u32 << bits) - 1) as u16;
            assert_eq!(used(Samples::U16(&ramp(0, white, 5000))), [0.0, f64::from(white)], "{bits} bits");
        }
        let floats = |scale: f32| ramp(0, 1000, 5000).into_iter().map(move |v| f32::from(v) / 1000.0 * scale);
        for white in [1.0, 255.0, 4095.0, 65_535.0] {
            assert_eq!(used(Samples::F32(&floats(white).collect::<Vec<_>>())), [0.0, f64::from(white)]);
        }
    }

    /// The percentiles are compared with those of the sorted values.
    #[test]
    fn narrow_values_are_mapped_by_their_percentiles() {
        let narrow = ramp(500, 1010, 6000);
        let sorted = |values: &[u16]| [values[values.len() / 1000], values[values.len() - 1 - values.len() / 1000]];
        let [low, high] = sorted(&narrow).map(f64::from);
        // 510 of 1023 are less than half.
        assert_eq!(used(Samples::U16(&narrow)), [low, high]);
        assert!(low >= 500.0 && high <= 1010.0 && high - low > 500.0);
        let shifted: Vec<f32> = narrow.iter().map(|&value| f32::from(value) / 100.0 - 10.0).collect();
        let [black, white] = used(Samples::F32(&shifted));
        assert!((black - (low / 100.0 - 10.0)).abs() < 0.01 && (white - (high / 100.0 - 10.0)).abs() < 0.01);
    }

    #[test]
    fn one_hot_pixel_decides_nothing() {
        for count in [40, 5000] {
            let mut values = ramp(0, 4000, count);
            values[count / 3] = 65_535;
            values[count / 2] = 0;
            assert_eq!(used(Samples::U16(&values)), [0.0, 4095.0]);
            let mut floats: Vec<f32> = ramp(0, 1000, count).into_iter().map(|v| f32::from(v) / 1000.0).collect();
            for hot in [1.004, 1e30, -7.0] {
                floats[1] = hot;
                assert_eq!(used(Samples::F32(&floats)), [0.0, 1.0], "{hot}");
            }
        }
    }

    #[test]
    fn values_that_are_nearly_all_one_have_a_range_nonetheless() {
        assert_eq!(used(Samples::U8(&[9; 50])), [0.0, 255.0]);
        assert_eq!(used(Samples::F32(&[-3.0; 50])), [-3.0, 1.0]);
        let mut nearly = vec![7u16; 5000];
        nearly[0] = 90;
        assert_eq!(used(Samples::U16(&nearly)), [7.0, 90.0]);
    }

    #[test]
    fn clipped_and_filled_shares_are_those_of_the_samples() {
        let values = values(Samples::U16(&ramp(0, 999, 1000)));
        let range = |black, white| GreyRange { black, white };
        assert_eq!(values.clipped(range(0.0, 999.0)), 0.0);
        assert_eq!(values.clipped(range(10.0, 989.0)), 0.02);
        assert!((values.filled(range(0.0, 9990.0)) - 0.1).abs() < 0.001);
        assert_eq!(values.filled(range(100.0, 200.0)), 1.0);
        assert_eq!(percent(1e-7), "below 0.01 %");
        assert_eq!(
            [0.1, 1009.0, 0.123_456_7, 12_345.678, 1e-7].map(short).join(" "),
            "0.1 1009 0.123457 12345.7 1.00000e-7"
        );
        let floats = super::tests::values(Samples::F32(&[0.0, 0.5, 1.000_000_1, 1.004]));
        assert_eq!(floats.clipped(range(0.0, 1.0)), 0.25);
    }
}
