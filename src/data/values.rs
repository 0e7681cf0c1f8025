//! What the values of a stack mean: which become black and white, and which labels are membrane. Gathered page by page.

use anyhow::{Result, bail};

use super::tiff::{SampleFormat, Samples};

/// Membrane and background (inside a cell).
pub const CLASSES: i64 = 2;
/// Class index of membrane.
pub const MEMBRANE: i64 = 0;
/// Class index of background.
pub const BACKGROUND: i64 = 1;

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

const MOST_VALUES_SHOWN: usize = 8;

/// The different values of a label stack; stops gathering once there are too many for labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LabelValues(Vec<f64>);

impl LabelValues {
    pub fn add(&mut self, page: Samples<'_>) {
        match page {
            Samples::U8(values) => self.gather(values),
            Samples::U16(values) => self.gather(values),
            Samples::F32(values) => self.gather(values),
        }
    }

    fn gather<T: Copy + PartialEq + Into<f64>>(&mut self, values: &[T]) {
        let mut last = None;
        for &value in values {
            // Labels come in runs: most pixels equal their neighbour.
            if last == Some(value) {
                continue;
            }
            last = Some(value);
            let value = value.into();
            if self.0.len() <= MOST_VALUES_SHOWN && !self.0.contains(&value) {
                self.0.push(value);
            }
        }
    }

    /// In ascending order.
    pub fn found(&self) -> Vec<f64> {
        let mut found = self.0.clone();
        found.sort_by(f64::total_cmp);
        found
    }

    /// 0 is membrane; 1, 255 or 65,535 (one of them) is background.
    ///
    /// Errors: any other value, or two kinds of background; shows the values found.
    pub fn check(&self) -> Result<()> {
        let found = self.found();
        let background: Vec<f64> = found.iter().copied().filter(|&value| value != 0.0).collect();
        let plausible = match background[..] {
            [] => true,
            [one] => [1.0, 255.0, 65_535.0].contains(&one),
            _ => false,
        };
        if plausible {
            return Ok(());
        }
        let mut shown: Vec<String> = found.iter().take(MOST_VALUES_SHOWN).map(f64::to_string).collect();
        if found.len() > MOST_VALUES_SHOWN {
            shown.push("...".to_owned());
        }
        bail!(
            "label values {}, expected 0 (membrane) and one of 1, 255 or 65535 (inside a cell); map the labels to \
             two values",
            shown.join(", ")
        )
    }
}

/// Class indices of a page of labels that [`LabelValues::check`] accepts.
pub fn classes(page: Samples<'_>) -> Vec<u8> {
    let class = |membrane: bool| if membrane { MEMBRANE as u8 } else { BACKGROUND as u8 };
    match page {
        Samples::U8(values) => values.iter().map(|&value| class(value == 0)).collect(),
        Samples::U16(values) => values.iter().map(|&value| class(value == 0)).collect(),
        Samples::F32(values) => values.iter().map(|&value| class(value == 0.0)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pages: &[Samples<'_>]) -> Result<Vec<u8>> {
        let mut values = LabelValues::default();
        pages.iter().for_each(|&page| values.add(page));
        values.check()?;
        Ok(pages.iter().flat_map(|&page| classes(page)).collect())
    }

    #[test]
    fn labels_of_each_accepted_kind_become_the_same_classes() {
        let expected = vec![0, 1, 1, 0];
        assert_eq!(checked(&[Samples::U8(&[0, 255, 255, 0])]).unwrap(), expected);
        assert_eq!(checked(&[Samples::U8(&[0, 1]), Samples::U8(&[1, 0])]).unwrap(), expected);
        assert_eq!(checked(&[Samples::U16(&[0, 65_535, 65_535, 0])]).unwrap(), expected);
        assert_eq!(checked(&[Samples::F32(&[0.0, 1.0, 1.0, 0.0])]).unwrap(), expected);
    }

    #[test]
    fn other_labels_are_refused_with_the_values_found() {
        let message = checked(&[Samples::U8(&[0, 255, 128])]).unwrap_err().to_string();
        assert!(message.contains("0, 128, 255"), "{message}");
        assert!(checked(&[Samples::U8(&[0, 1]), Samples::U8(&[0, 255])]).is_err(), "two kinds of background");
        assert!(checked(&[Samples::U8(&[0, 7])]).is_err());
        let many = checked(&[Samples::U8(&(0..=255).collect::<Vec<_>>())]).unwrap_err().to_string();
        assert!(many.len() < 300, "{many}");
    }

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
    }
}
