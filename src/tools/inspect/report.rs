//! What `unet inspect` tells, as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::data::values::{GreyRange, percent, short};

/// Sizes of images that the text names at most.
const MOST_SIZES: usize = 8;

/// All that is told of a dataset. The names of the fields are those of the JSON (docs/data.md).
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub layout: &'static str,
    pub notes: Vec<String>,
    /// Problems of the folder as a whole.
    pub problems: Vec<String>,
    pub training: Option<Set>,
    pub test: Option<Set>,
    /// Problems of both sets together.
    pub comparison: Vec<String>,
    /// All of them.
    pub problem_count: usize,
    /// What trains on the data.
    pub command: Option<String>,
}

/// A set of images.
#[derive(Debug, Default, Serialize)]
pub struct Set {
    pub title: String,
    pub sizes: Vec<Size>,
    pub channels: usize,
    /// Images whose alpha channel is left out.
    pub with_alpha: usize,
    /// How files are read, where that may surprise.
    pub notes: Vec<String>,
    pub grey: Vec<Grey>,
    pub labels: Option<Labels>,
    pub warnings: Vec<String>,
    pub problems: Vec<String>,
}

/// Slices of one size.
#[derive(Debug, Serialize)]
pub struct Size {
    pub height: usize,
    pub width: usize,
    pub slices: usize,
}

/// The values of the images of one sample type.
#[derive(Debug, Serialize)]
pub struct Grey {
    pub samples: &'static str,
    pub low: f64,
    pub high: f64,
    pub mean: f64,
    /// A thousandth of the samples is below and above.
    pub percentiles: [f64; 2],
    /// The values that become -1 and 1; `None` where none can be said.
    pub range: Option<GreyRange>,
    /// Share of the samples beyond the range.
    pub clipped: Option<f64>,
    /// Share of the range between the percentiles.
    pub filled: Option<f64>,
    /// Whether the range is that of the sample type, as in the reference.
    pub is_of_type: bool,
}

/// Label values and what they mean.
#[derive(Debug, Serialize)]
pub struct Labels {
    pub values: String,
    pub mapping: String,
    pub shares: String,
    pub classes: Vec<Class>,
}

#[derive(Debug, Serialize)]
pub struct Class {
    pub name: String,
    pub pixels: u64,
}

impl Report {
    pub fn new(layout: &'static str, notes: Vec<String>) -> Self {
        Self { layout, notes, ..Self::default() }
    }

    pub fn count_problems(&mut self) -> usize {
        let of_sets = [&self.training, &self.test].into_iter().flatten().map(|set| set.problems.len());
        self.problem_count = self.problems.len() + self.comparison.len() + of_sets.sum::<usize>();
        self.problem_count
    }

    /// For people; `is_stack` where slices are pages.
    pub fn text(&self, is_stack: bool) -> String {
        let mut lines = vec![format!("layout: {}", self.layout)];
        lines.extend(self.notes.iter().map(|note| format!("  note: {note}")));
        lines.extend(self.problems.iter().map(|problem| format!("  problem: {problem}")));
        for set in [&self.training, &self.test].into_iter().flatten() {
            set.tell(is_stack, &mut lines);
        }
        lines.extend(self.comparison.iter().map(|problem| format!("  problem: {problem}")));
        if self.problem_count == 0 {
            lines.push("no problem found".to_owned());
            lines.extend(self.command.iter().map(|command| format!("train with: {command}")));
        }
        lines.join("\n") + "\n"
    }
}

impl Set {
    fn tell(&self, is_stack: bool, lines: &mut Vec<String>) {
        lines.push(self.title.clone());
        if !self.sizes.is_empty() {
            lines.push(format!("  {}", self.size_words(is_stack)));
        }
        if self.with_alpha > 0 {
            lines.push(format!("  note: the alpha channel of {} images is left out", self.with_alpha));
        }
        lines.extend(self.notes.iter().map(|note| format!("  note: {note}")));
        self.grey.iter().for_each(|grey| grey.tell(lines));
        if let Some(Labels { values, mapping, shares, .. }) = &self.labels {
            let lines_of_labels = [("labels: values", values), ("mapping:", mapping), ("classes:", shares)];
            lines.extend(lines_of_labels.map(|(words, text)| format!("  {words} {text}")));
        }
        lines.extend(self.warnings.iter().map(|warning| format!("  warning: {warning}")));
        lines.extend(self.problems.iter().map(|problem| format!("  problem: {problem}")));
    }

    fn size_words(&self, is_stack: bool) -> String {
        let words = if is_stack { "pages" } else { "images" };
        let size = |size: &Size| format!("{} {words} of {}x{}", size.slices, size.height, size.width);
        let mut text: Vec<String> = self.sizes.iter().take(MOST_SIZES).map(size).collect();
        if self.sizes.len() > MOST_SIZES {
            text.push(format!("{} more sizes", self.sizes.len() - MOST_SIZES));
        }
        text.push(match self.channels {
            1 => "grey".to_owned(),
            channels => format!("{channels} channels"),
        });
        text.join(", ")
    }
}

impl Grey {
    fn tell(&self, lines: &mut Vec<String>) {
        let Self { samples, low, high, mean, percentiles, .. } = self;
        lines.push(format!("  {samples} samples: values {low} to {high}, mean {mean:.2}"));
        let Some(range) = self.range else { return };
        let mut line = format!("  mapping: {} becomes -1, {} becomes 1", short(range.black), short(range.white));
        if !self.is_of_type {
            let [low, high] = percentiles.map(short);
            let clipped = percent(self.clipped.unwrap_or(0.0));
            // Writing to a string does not fail.
            let _ = write!(line, "; 99.8 % of the samples are from {low} to {high}, {clipped} are clipped");
        }
        lines.push(line);
    }
}
