//! The axis of losses in learning curves.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// A logarithmic axis with numbers at values that people read easily, as many as a picture needs however short the axis
/// is.
pub struct LossAxis {
    low: f64,
    high: f64,
    numbered: Vec<f64>,
    lines: Vec<f64>,
}

impl LossAxis {
    /// An axis with a little room below `low` and above `high`, which are above 0.
    pub fn new(low: f64, high: f64) -> Self {
        const DIGITS: [&[f64]; 4] = [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &FINE];
        const FINE: [f64; 20] =
            [1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 2.8, 3.2, 3.6, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0];
        let room = (high / low).powf(0.05) * 1.05;
        let (low, high) = (low / room, high * room);
        let within = |digits: &[f64]| -> Vec<f64> {
            let powers = low.log10().floor() as i32..=high.log10().floor() as i32;
            let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            values.filter(|value| (low..=high).contains(value)).collect()
        };
        let numbered = DIGITS.iter().map(|digits| within(digits)).find(|values| values.len() >= 5);
        let lines = within(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        Self { low, high, numbered: numbered.unwrap_or_else(|| within(&FINE)), lines }
    }
}

impl Ranged for LossAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, loss: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (loss / self.low).ln() / (self.high / self.low).ln();
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { self.lines.clone() } else { self.numbered.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_axis_has_some_numbers() {
        for (low, high) in [(0.5, 0.5), (0.2, 1.1), (0.69, 0.71), (0.001, 2.0), (1e-9, 1e9)] {
            let axis = LossAxis::new(low, high);
            let count = axis.numbered.len();
            assert!((1..=20).contains(&count), "{count} from {low} to {high}");
            assert!(axis.low < low && axis.high > high);
        }
    }
}
