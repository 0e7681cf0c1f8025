//! What was found in the files of a dataset, and what it means: ranges of grey values, the map of the labels, warnings.
//! Not here: the scan itself (`scan`).

use std::collections::BTreeMap;

use anyhow::Result;

use super::labels::{LabelMap, LabelValues};
use super::layout::{Case, LabelFiles, Layout};
use super::samples::SampleFormat;
use super::scan::{Scan, ScannedCase};
use super::spec::DataSpec;
use super::values::{GreyChoice, GreyRange, GreyValues, Outlier, percent, short};

/// Share of a range that an image, or a channel of all images, fills at least. All together fill half of it.
const LEAST_FILLED: f64 = 0.1;
/// What to do about images or channels of different ranges.
const TO_EVEN: &str = "scale them alike, or each by itself with --recipe native";

/// A warning of a guessed map whose membranes, the lines between cells, have most pixels.
fn warn_of_membrane(map: &LabelMap, pixels: &[u64]) -> Option<String> {
    let (&[membrane, inside], [line, cell]) = (pixels, &map.written_values()[..]) else { return None };
    // Labels of one class are told elsewhere.
    (membrane > inside && inside > 0).then(|| {
        format!(
            "most label pixels ({}) are {line}, which in stacks stands for the membranes between cells; if {cell} is \
             the membrane, give --label_map '{cell}=membrane;{line}=inside', if {line} is the background of \
             objects, --label_map '{line}=background;{cell}=object'",
            percent(membrane as f64 / (membrane + inside) as f64)
        )
    })
}

/// A label map and what it makes of the labels.
pub struct Mapped {
    pub map: LabelMap,
    /// Pixels of each class.
    pub pixels: Vec<u64>,
    pub warnings: Vec<String>,
}

impl Scan {
    /// The range of each sample type that the set has.
    ///
    /// Errors: values that the range of the network in use says nothing of.
    pub fn ranges(
        &self,
        layout: &Layout,
        trained: Option<&DataSpec>,
        grey: GreyChoice,
        warnings: &mut Vec<String>,
    ) -> Result<BTreeMap<SampleFormat, GreyRange>> {
        let mut range = |values: &GreyValues| match trained {
            Some(trained) => {
                let range = trained.range_of(values)?;
                let warning = trained.compare(values)?;
                warnings.extend(warning.map(|text| format!("the images in '{}': {text}", layout.root.display())));
                Ok(range)
            }
            None => values.range(grey),
        };
        let ranges = self.grey.iter().map(|(&format, values)| Ok((format, range(values)?)));
        ranges
            .collect::<Result<_>>()
            .map_err(|error| error.context(format!("cannot use the images in '{}'", layout.root.display())))
    }

    /// Warnings of images and channels that fill a small part of the range by which all are mapped: the network sees
    /// next to nothing of them. Images of one value are told elsewhere.
    pub fn uneven(&self, all: &[Case], ranges: &BTreeMap<SampleFormat, GreyRange>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (format, channels) in self.channels.iter().filter(|(_, channels)| channels.len() > 1) {
            let Some(&range) = ranges.get(format) else { continue };
            for (channel, values) in channels.iter().enumerate() {
                let [low, high] = values.percentiles();
                if range.filled([low, high]) < LEAST_FILLED {
                    warnings.push(format!(
                        "channel {channel} (first is 0) of the {} images has nearly all values from {} to {}, a small \
                         part of {}, by which all channels are mapped; {TO_EVEN}",
                        format.name(),
                        short(low),
                        short(high),
                        range.describe()
                    ));
                }
            }
        }
        let pages = self.cases.iter().flat_map(|case| (0..).zip(&case.percentiles).map(move |page| (case, page)));
        let is_small = |(case, (_, [low, high])): &(&ScannedCase, (usize, &[f64; 2]))| {
            let range = ranges.get(&case.shape.format);
            low < high && range.is_some_and(|range| range.filled([*low, *high]) < LEAST_FILLED)
        };
        let small: Vec<_> = pages.clone().filter(is_small).collect();
        let count = pages.count();
        if let Some((case, (page, values))) = small.first().filter(|_| count > 1) {
            let [low, high] = values.map(short);
            warnings.push(format!(
                "{} of {count} images have values in a small part of {}, by which all are mapped, such as {} \
                 with {low} to {high}: look whether they were stored in another way; {TO_EVEN}",
                small.len(),
                ranges[&case.shape.format].describe(),
                case.place(all, *page)
            ));
        }
        warnings
    }

    /// Warnings of a value that many samples have and that is far from all others, such as that of missing data.
    pub fn outliers(&self, ranges: &BTreeMap<SampleFormat, GreyRange>) -> Vec<String> {
        let outlier = |(format, range): (&SampleFormat, &GreyRange)| {
            let Outlier { value, share, others: [low, high] } = self.grey.get(format)?.outlier(*range, LEAST_FILLED)?;
            let [value, low, high] = [value, low, high].map(short);
            Some(format!(
                "{} of the {} samples are {value}, and the others are from {low} to {high}, a small part of {}, by \
                 which they are mapped; if {value} stands for missing data, or is drawn into the images, give \
                 --grey_range {low},{high}",
                percent(share),
                format.name(),
                range.describe()
            ))
        };
        ranges.iter().filter_map(outlier).collect()
    }

    /// What the user should know of how files are read.
    pub fn warnings(&self) -> Vec<String> {
        let with_alpha = self.cases.iter().filter(|case| case.shape.has_alpha).count();
        let alpha = format!("the alpha channel of {with_alpha} of {} images is left out", self.cases.len());
        (with_alpha > 0).then_some(alpha).into_iter().chain(self.few_notes()).collect()
    }

    /// The notes on files; of many the first few.
    pub fn few_notes(&self) -> impl Iterator<Item = String> {
        const MOST: usize = 8;
        let more = self.notes.len().saturating_sub(MOST);
        let more = (more > 0).then(|| format!("and {more} more such notes on files"));
        self.notes.iter().take(MOST).cloned().chain(more)
    }

    /// The classes of each slice, a bit each; all of them where a slice has too many values to tell.
    pub fn slice_classes(&self, map: &LabelMap) -> Vec<u64> {
        let of_page = |page: &Option<LabelValues>| match page {
            Some(values) => {
                let pixels = map.pixels(&map.reading(values));
                (0..).zip(pixels).filter(|(_, pixels)| *pixels > 0).fold(0, |bits, (class, _)| bits | 1u64 << class)
            }
            None => u64::MAX,
        };
        self.cases.iter().flat_map(|case| &case.page_labels).map(of_page).collect()
    }

    /// The map of the labels: `given` by the user, or of the network that was `trained`, or the dataset's.
    ///
    /// Errors: values that no map explains.
    pub fn choose_map(&self, layout: &Layout, given: Option<&LabelMap>, trained: Option<&LabelMap>) -> Result<Mapped> {
        let described = layout.description.as_ref().map(|description| &description.map);
        let map = LabelMap::choose(&self.labels, given, trained, described, layout.kind.names_of_two())?;
        let found = map.reading(&self.labels);
        let mut warnings = map.require(&found)?;
        warnings.extend(self.labels.palette_warning().filter(|_| !map.lookup().has_colours()));
        let pixels = map.pixels(&found);
        if layout.kind.is_challenge() && given.or(trained).or(described).is_none() {
            warnings.extend(warn_of_membrane(&map, &pixels));
        }
        Ok(Mapped { pixels, map, warnings })
    }

    /// As [`Self::choose_map`], with errors that name the file of the labels, or the folder.
    pub fn map(&self, layout: &Layout, given: Option<&LabelMap>, trained: Option<&LabelMap>) -> Result<Mapped> {
        let first = self.cases.first().and_then(|case| match &layout.training.get(case.index)?.labels {
            Some(LabelFiles::One(path)) if layout.training.len() == 1 => Some(path.display().to_string()),
            _ => None,
        });
        self.choose_map(layout, given, trained).map_err(|error| match first {
            Some(path) => error.context(format!("cannot use '{path}' as labels")),
            None => error.context(format!("cannot use the labels in '{}'", layout.root.display())),
        })
    }
}
