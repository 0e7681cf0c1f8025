//! What a network is for: the images that it takes and the classes that it tells apart. Kept in its weight file, and
//! obeyed by evaluation, prediction and export.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::labels::{CHALLENGE_CLASSES, LabelMap};
use super::samples::SampleFormat;
use super::scale::Scale;
use super::values::{GreyChoice, GreyRange, GreyValues, percent, short};

/// Share of the samples that are clipped without a word: percentiles leave 0.2 % of the training images out.
const MOST_CLIPPED: f64 = 0.01;
/// Share from which clipped samples say that images are stored in another way.
const FAR_TOO_MANY_CLIPPED: f64 = 0.5;
/// Share of the range that samples fill at least. Those of training fill half of it.
const LEAST_FILLED: f64 = 0.3;

/// How images become what the network sees (`recipe/`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Recipe {
    /// The reference's: an image is resized to the network's output and framed with mid-grey.
    #[default]
    Reference,
    /// Images at their stored resolution, mirrored past their edges.
    Native { grey: GreyScaling },
}

impl Recipe {
    /// Whether each image is scaled by its own values, however it is stored.
    pub fn is_by_image(self) -> bool {
        self == (Self::Native { grey: GreyScaling::Image })
    }

    /// The name of the flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Native { .. } => "native",
        }
    }
}

/// What grey levels become numbers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GreyScaling {
    /// The range of the sample type: black is -1, white 1.
    Range,
    /// Mean and deviation of each channel of each image: 0 and 1.
    Image,
}

/// Channels and classes of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    pub channels: usize,
    /// Names of the channels, where the dataset has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_names: Vec<String>,
    /// `None` for images without labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<LabelMap>,
    /// The stored values that become -1 and 1, by the sample types of the training images. Empty in files of 0.1.0: the
    /// range of the type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grey_ranges: BTreeMap<SampleFormat, GreyRange>,
    /// The range of float samples, for files of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_range: Option<GreyRange>,
    #[serde(default)]
    pub recipe: Recipe,
    /// The size of the training images and of their pixels.
    #[serde(default, skip_serializing_if = "Scale::is_unknown")]
    pub scale: Scale,
}

impl DataSpec {
    /// The spec of a dataset with these channels, labels, ranges and sizes. What is not known of it is taken from
    /// `trained`, the data of the network in use; so are the mapping of its values and its sizes.
    pub fn new(
        channels: usize,
        channel_names: Vec<String>,
        map: Option<LabelMap>,
        trained: Option<&Self>,
        ranges: &BTreeMap<SampleFormat, GreyRange>,
        scale: Scale,
    ) -> Self {
        let float_range = ranges.get(&SampleFormat::F32).copied();
        let (grey_ranges, float_range) = match trained {
            Some(trained) => (trained.grey_ranges.clone(), trained.float_range.or(float_range)),
            None => (ranges.clone(), float_range),
        };
        Self {
            channels,
            channel_names,
            map: map.or_else(|| trained.and_then(|spec| spec.map.clone())),
            grey_ranges,
            float_range,
            recipe: trained.map(|spec| spec.recipe).unwrap_or_default(),
            scale: trained.map_or(scale, |spec| spec.scale),
        }
    }

    /// The reference's: grey images, membranes and the inside of cells.
    pub fn isbi() -> Self {
        let map = Some(LabelMap::of_two(CHALLENGE_CLASSES, 255));
        let (channel_names, grey_ranges) = (Vec::new(), BTreeMap::new());
        let (recipe, scale) = (Recipe::Reference, Scale::default());
        Self { channels: 1, channel_names, map, grey_ranges, float_range: None, recipe, scale }
    }

    /// The number of classes; two where there are no labels.
    pub fn classes(&self) -> usize {
        self.map.as_ref().map_or(2, |map| map.classes.len())
    }

    /// The stored values that become -1 and 1: those of training. Samples of a type that training has not seen are
    /// mapped by the same numbers, as the values are what was learnt.
    pub fn range(&self, format: SampleFormat) -> GreyRange {
        if let Some(&range) = self.grey_ranges.get(&format).or_else(|| self.grey_ranges.values().next()) {
            return range;
        }
        let of_floats = self.float_range.filter(|_| format == SampleFormat::F32);
        of_floats.unwrap_or(GreyRange::full(format))
    }

    /// The range of images that the network is used for, whose values are `values`: [`Self::range`], but for files of
    /// 0.1.0 that of the type.
    ///
    /// Errors: floats that such a file says nothing of.
    pub fn range_of(&self, values: &GreyValues) -> Result<GreyRange> {
        let is_known =
            !self.grey_ranges.is_empty() || (values.format == SampleFormat::F32 && self.float_range.is_some());
        if is_known { Ok(self.range(values.format)) } else { values.range_of_type() }
    }

    /// Goes on with other ranges than those of training, where the user says so.
    pub fn set_range(&mut self, choice: GreyChoice) {
        match choice {
            GreyChoice::Auto => {}
            GreyChoice::Type => (self.grey_ranges, self.float_range) = (BTreeMap::new(), None),
            GreyChoice::Given(range) => {
                let formats = [SampleFormat::U8, SampleFormat::U16, SampleFormat::F32];
                self.grey_ranges = formats.map(|format| (format, range)).into();
            }
        }
    }

    /// Compares the values of images that the network is used for with what it was trained on. The result is a warning,
    /// where they differ.
    ///
    /// Errors: samples of another type than in training that its range says nothing of: most are clipped, or they fill
    /// a small part of it.
    pub fn compare(&self, values: &GreyValues) -> Result<Option<String>> {
        let Some((&trained, _)) = self.grey_ranges.first_key_value() else { return Ok(None) };
        // Each image's own mean and deviation do not depend on how it is stored.
        if self.recipe.is_by_image() {
            return Ok(None);
        }
        let (format, range) = (values.format, self.range(values.format));
        let (clipped, filled) = (values.clipped(range), values.filled(range));
        let is_other = !self.grey_ranges.contains_key(&format);
        let is_small = filled < LEAST_FILLED && !values.bounds.is_constant();
        if !is_other && clipped <= MOST_CLIPPED && !is_small {
            return Ok(None);
        }
        let [low, high] = values.percentiles();
        let trained = if is_other { trained } else { format };
        let told = format!(
            "{} samples, nearly all from {} to {}; the network was trained on {} ones with {} as black to white, which \
             is kept: {} of the samples are clipped, and the others fill {} of the range",
            format.name(),
            short(low),
            short(high),
            trained.name(),
            range.describe(),
            percent(clipped),
            percent(filled)
        );
        let GreyRange { black, white } = values.used_range();
        let advice = format!(
            "if these are such images stored in another way, say which of their values are black and white, such as \
             --grey_range {},{}",
            short(black),
            short(white)
        );
        if is_other && (clipped > FAR_TOO_MANY_CLIPPED || is_small) {
            bail!("{told}; {advice}");
        }
        Ok(Some(if clipped > FAR_TOO_MANY_CLIPPED || is_small { format!("{told}; {advice}") } else { told }))
    }

    /// A warning of images in which objects have another size to the network than in its training.
    pub fn compare_scale(&self, images: &Scale) -> Option<String> {
        self.scale.compare(images, self.recipe == Recipe::Reference)
    }

    /// Whether pixels are ignored.
    pub fn has_ignored(&self) -> bool {
        self.map.as_ref().is_some_and(LabelMap::has_ignored)
    }

    /// Whether networks for both take the same images and tell the same classes apart.
    pub fn is_alike(&self, other: &Self) -> bool {
        let part = |spec: &Self| (spec.channels, spec.map.clone(), spec.recipe);
        let formats: BTreeSet<SampleFormat> =
            self.grey_ranges.keys().chain(other.grey_ranges.keys()).copied().collect();
        let has_same_range = |format: &SampleFormat| self.range(*format) == other.range(*format);
        let has_same_floats = !formats.is_empty() || self.float_range == other.float_range;
        part(self) == part(other) && formats.iter().all(has_same_range) && has_same_floats
    }

    /// For messages: `1 channel(s), 8-bit 0 to 255, classes 0=membrane;255=inside, native recipe`.
    pub fn describe(&self) -> String {
        let greys = self.grey_ranges.iter().map(|(format, range)| format!(", {} {}", format.name(), range.describe()));
        let classes = self.map.as_ref().map_or_else(|| "none".to_owned(), LabelMap::describe);
        let greys: String = greys.collect();
        format!("{} channel(s){greys}, classes {classes}, {} recipe", self.channels, self.recipe.name())
    }

    /// Names of the classes, in the order of their indices.
    pub fn class_names(&self) -> Vec<String> {
        match &self.map {
            Some(map) => map.names().map(str::to_owned).collect(),
            None => CHALLENGE_CLASSES.map(str::to_owned).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::Samples;

    fn spec(formats: &[(SampleFormat, f64)]) -> DataSpec {
        let range = |&(format, white): &(SampleFormat, f64)| (format, GreyRange { black: 0.0, white });
        DataSpec { grey_ranges: formats.iter().map(range).collect(), ..DataSpec::isbi() }
    }

    fn values(format: SampleFormat, scale: f64) -> GreyValues {
        let mut values = GreyValues::new(format);
        let ramp = || (0..=255u16).map(|value| f64::from(value) * scale);
        match format {
            SampleFormat::U8 => values.add(Samples::U8(&ramp().map(|value| value as u8).collect::<Vec<_>>())),
            SampleFormat::U16 => values.add(Samples::U16(&ramp().map(|value| value as u16).collect::<Vec<_>>())),
            SampleFormat::F32 => values.add(Samples::F32(&ramp().map(|value| value as f32).collect::<Vec<_>>())),
        }
        values
    }

    #[test]
    fn images_stored_in_another_way_are_told_or_refused_and_never_mapped_anew() {
        use SampleFormat::{F32, U8, U16};
        let bytes = spec(&[(U8, 255.0)]);
        assert_eq!(bytes.compare(&values(U8, 1.0)).unwrap(), None);
        for format in [U16, F32] {
            let told = bytes.compare(&values(format, 1.0)).unwrap().unwrap();
            assert!(told.contains("trained on 8-bit") && told.contains("0.00 % of the samples are clipped"), "{told}");
            assert_eq!(bytes.range_of(&values(format, 1.0)).unwrap(), GreyRange { black: 0.0, white: 255.0 });
        }
        for (format, scale, words) in [
            (U16, 257.0, "--grey_range 0,65535"),
            (U16, 16.0, "--grey_range 0,4095"),
            (F32, 1.0 / 255.0, "--grey_range 0,1"),
        ] {
            let message = bytes.compare(&values(format, scale)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        let by_image = DataSpec { recipe: Recipe::Native { grey: GreyScaling::Image }, ..bytes.clone() };
        assert_eq!(by_image.compare(&values(U16, 257.0)).unwrap(), None);
        let mut given = bytes.clone();
        given.set_range(GreyChoice::Given(GreyRange { black: 0.0, white: 4095.0 }));
        assert_eq!(given.compare(&values(U16, 16.0)).unwrap(), None);
    }

    #[test]
    fn files_without_ranges_are_obeyed_as_before() {
        let old = DataSpec::isbi();
        assert_eq!(old.range_of(&values(SampleFormat::U16, 16.0)).unwrap().white, 65_535.0);
        assert_eq!(old.range_of(&values(SampleFormat::F32, 1.0)).unwrap().white, 255.0);
        assert_eq!(old.compare(&values(SampleFormat::U16, 16.0)).unwrap(), None);
        let floats = DataSpec { float_range: Some(GreyRange { black: 0.0, white: 1.0 }), ..DataSpec::isbi() };
        assert_eq!(floats.range_of(&values(SampleFormat::F32, 1.0)).unwrap().white, 1.0);
    }

    #[test]
    fn networks_are_alike_where_their_ranges_are() {
        use SampleFormat::{U8, U16};
        assert!(spec(&[(U8, 255.0)]).is_alike(&DataSpec::isbi()));
        assert!(!spec(&[(U16, 4095.0)]).is_alike(&DataSpec::isbi()));
        assert!(!spec(&[(U16, 4095.0)]).is_alike(&spec(&[(U16, 1023.0)])));
        let text = serde_json::to_string(&spec(&[(U16, 4095.0)])).unwrap();
        assert!(text.contains(r#""grey_ranges":{"u16":{"black":0.0,"white":4095.0}}"#), "{text}");
        assert_eq!(serde_json::from_str::<DataSpec>(&text).unwrap(), spec(&[(U16, 4095.0)]));
    }
}
