//! The values of label images, counted image by image, and what to tell where they need a map.

use std::collections::BTreeMap;
use std::iter::repeat_n;

use super::LabelValue;
use crate::data::samples::{Palette, Samples};

/// Different values that are counted at most; instance masks have one for each object.
const MOST_COUNTED: usize = 1 << 16;
/// Different values of a page that are kept at most.
const MOST_KEPT: usize = 256;
/// Values that a message names at most.
const MOST_SHOWN: usize = 8;

/// The values of label images, with the number of pixels of each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LabelValues {
    counts: BTreeMap<LabelValue, u64>,
    /// Whether there were more than are counted.
    overflowed: bool,
    /// A float sample that is no whole number from 0 to 2^32 - 1.
    not_whole: Option<f32>,
    /// The palette of images whose samples are indices.
    palette: Option<Palette>,
    /// An index that is used with two colours, in the palettes of two images.
    two_colours: Option<(u32, [[u8; 3]; 2])>,
}

impl LabelValues {
    /// Counts the values of a label image; those of a palette image as indices.
    pub fn add(&mut self, samples: Samples<'_>, channels: usize, palette: Option<&Palette>) {
        if let Samples::F32(values) = samples {
            let is_whole = |value: f32| value >= 0.0 && value < u32::MAX as f32 && value.fract() == 0.0;
            self.not_whole = self.not_whole.or_else(|| values.iter().copied().find(|&value| !is_whole(value)));
        }
        if let (None, Some(palette)) = (&self.palette, palette) {
            self.palette = Some(palette.clone());
        }
        visit_runs(samples, channels, None, |value, count| self.count(value, count as u64));
    }

    /// Adds `count` pixels of a value.
    pub fn count(&mut self, value: LabelValue, count: u64) {
        let room = self.counts.len() < MOST_COUNTED;
        match self.counts.get_mut(&value) {
            Some(sum) => *sum += count,
            None if room => drop(self.counts.insert(value, count)),
            None => self.overflowed = true,
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.two_colours = self.two_colours.or(other.two_colours).or_else(|| self.conflict(other));
        other.counts().for_each(|(value, count)| self.count(value, count));
        self.overflowed |= other.overflowed;
        self.not_whole = self.not_whole.or(other.not_whole);
        if self.palette.is_none() {
            self.palette.clone_from(&other.palette);
        }
    }

    /// An index of both that has another colour in the palette of `other`.
    fn conflict(&self, other: &Self) -> Option<(u32, [[u8; 3]; 2])> {
        let (Some(Palette(one)), Some(Palette(two))) = (&self.palette, &other.palette) else { return None };
        let shared = other.counts.keys().filter(|value| self.counts.contains_key(value));
        shared.copied().find_map(|value| match value {
            LabelValue::Grey(index) => {
                let colours = [*one.get(index as usize)?, *two.get(index as usize)?];
                (colours[0] != colours[1]).then_some((index, colours))
            }
            LabelValue::Colour(_) => None,
        })
    }

    /// A warning of labels whose indices mean different colours, where they are read by their indices.
    pub fn palette_warning(&self) -> Option<String> {
        let (index, colours) = self.two_colours?;
        let [one, two] = colours.map(LabelValue::Colour);
        Some(format!(
            "label images have different palettes: {index} is {one} in one and {two} in another; indices are what is \
             read, give a --label_map of colours if those are what is meant"
        ))
    }

    /// In ascending order, numbers before colours.
    pub fn values(&self) -> Vec<LabelValue> {
        self.counts.keys().copied().collect()
    }

    pub fn counts(&self) -> impl Iterator<Item = (LabelValue, u64)> {
        self.counts.iter().map(|(&value, &count)| (value, count))
    }

    /// Whether there are few enough values to keep them for each page of a large dataset.
    pub fn is_small(&self) -> bool {
        self.counts.len() <= MOST_KEPT && !self.overflowed
    }

    /// Whether there are more values than are counted.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// A float sample that is no label value.
    pub fn not_whole(&self) -> Option<f32> {
        self.not_whole
    }

    /// The same counts with numbers in place of colours, if all colours are grey: an image that was saved in colour.
    pub fn plain(&self) -> Self {
        let grey = |value: LabelValue| match value {
            LabelValue::Colour([red, green, blue]) if red == green && green == blue => {
                Some(LabelValue::Grey(red.into()))
            }
            LabelValue::Colour(_) => None,
            number => Some(number),
        };
        if !self.counts.keys().all(|&value| grey(value).is_some()) {
            return self.clone();
        }
        let mut found = Self { counts: BTreeMap::new(), ..self.clone() };
        self.counts().for_each(|(value, count)| found.count(grey(value).unwrap_or(value), count));
        found
    }

    /// The same counts with the colours of the palette in place of its indices.
    pub fn as_colours(&self) -> Self {
        let Some(Palette(colours)) = &self.palette else { return self.clone() };
        let mut found = Self { overflowed: self.overflowed, ..Self::default() };
        for (value, count) in self.counts() {
            let colour = match value {
                LabelValue::Grey(index) => colours.get(index as usize).map_or(value, |&rgb| LabelValue::Colour(rgb)),
                colour => colour,
            };
            found.count(colour, count);
        }
        found
    }

    /// `0 (81.20 %), 128 (18.80 %)`, the most frequent first where there are many.
    pub fn shares(&self) -> String {
        let total: u64 = self.counts.values().sum();
        let mut counts: Vec<_> = self.counts().collect();
        let left_out = counts.len().saturating_sub(MOST_SHOWN);
        if left_out > 0 {
            counts.sort_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
            counts.truncate(MOST_SHOWN);
        }
        let colour = |value: LabelValue| match (value, &self.palette) {
            (LabelValue::Grey(index), Some(Palette(colours))) => {
                let colour = colours.get(index as usize).map(|&rgb| LabelValue::Colour(rgb));
                colour.map_or_else(String::new, |colour| format!(" = {colour}"))
            }
            _ => String::new(),
        };
        let share = |count: u64| match 100.0 * count as f64 / total.max(1) as f64 {
            share if share < 0.005 => format!("{count} pixels"),
            share => format!("{share:.2} %"),
        };
        let shown = counts.iter().map(|&(value, count)| format!("{value}{} ({})", colour(value), share(count)));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if left_out > 0 || self.overflowed {
            text += &match (left_out, self.overflowed) {
                (1, false) => " and 1 other".to_owned(),
                (_, false) => format!(" and {left_out} others"),
                (_, true) => format!(" and more than {left_out} others"),
            };
        }
        text
    }

    /// What to do about values that no rule explains, with a map to start from.
    pub fn advice(&self) -> String {
        let values = self.values();
        if values.len() > MOST_SHOWN {
            let background = values[0];
            let start = format!("--label_map '{background}=background;*=object'");
            return format!("where each object has a value of its own, start from {start}; else list values by class");
        }
        let entries: Vec<String> =
            values.iter().enumerate().map(|(index, value)| format!("{value}=class_{index}")).collect();
        let ignore = "a class named 'ignore' is left out of loss and scores";
        format!("say which class each is, such as --label_map '{}'; {ignore}", entries.join(";"))
    }
}

/// Calls `visit` for each run of equal pixels of a label image `[H, W, C]`, row after row, with its length. Images of
/// three channels have colours, those of one numbers; with a `palette` numbers are indices of its colours.
///
/// Two of more channels than one that are no colours are told apart by their first channel.
pub fn visit_runs(
    samples: Samples<'_>,
    channels: usize,
    palette: Option<&Palette>,
    mut visit: impl FnMut(LabelValue, usize),
) {
    let grey = |value: u32| match palette.and_then(|Palette(colours)| colours.get(value as usize)) {
        Some(&colour) => LabelValue::Colour(colour),
        None => LabelValue::Grey(value),
    };
    match samples {
        Samples::U8(values) if channels == 3 => {
            let (pixels, _) = values.as_chunks::<3>();
            runs(pixels, |pixel, count| visit(LabelValue::Colour(*pixel), count));
        }
        Samples::U8(values) => runs(values, |&value, count| visit(grey(value.into()), count)),
        Samples::U16(values) if channels == 3 => {
            let (pixels, _) = values.as_chunks::<3>();
            let byte = |sample: u16| (sample / 257) as u8;
            runs(pixels, |pixel, count| visit(LabelValue::Colour(pixel.map(byte)), count));
        }
        Samples::U16(values) => runs(values, |&value, count| visit(grey(value.into()), count)),
        Samples::F32(values) => runs(values, |&value, count| visit(LabelValue::Grey(value as u32), count)),
    }
}

fn runs<T: PartialEq>(values: &[T], mut visit: impl FnMut(&T, usize)) {
    values.chunk_by(|a, b| a == b).for_each(|run| visit(&run[0], run.len()));
}

/// One item per pixel for what [`visit_runs`] visits.
pub fn map_pixels<T: Clone>(
    samples: Samples<'_>,
    channels: usize,
    palette: Option<&Palette>,
    mut of_value: impl FnMut(LabelValue) -> T,
) -> Vec<T> {
    let mut pixels = Vec::new();
    visit_runs(samples, channels, palette, |value, count| pixels.extend(repeat_n(of_value(value), count)));
    pixels
}
