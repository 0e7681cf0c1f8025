//! What a network is for: the images that it takes and the classes that it tells apart. Kept in its weight file, and
//! obeyed by evaluation, prediction and export.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::labels::LabelMap;
use super::samples::SampleFormat;
use super::values::GreyRange;

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
    /// The values of float samples that become -1 and 1; integers are mapped by the range of their type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_range: Option<GreyRange>,
    #[serde(default)]
    pub recipe: Recipe,
}

impl DataSpec {
    /// The spec of a dataset with these channels, labels and ranges. What is not known of it is taken from `trained`,
    /// the data of the network in use.
    pub fn new(
        channels: usize,
        channel_names: Vec<String>,
        map: Option<LabelMap>,
        trained: Option<&Self>,
        ranges: &BTreeMap<SampleFormat, GreyRange>,
    ) -> Self {
        Self {
            channels,
            channel_names,
            map: map.or_else(|| trained.and_then(|spec| spec.map.clone())),
            float_range: ranges.get(&SampleFormat::F32).copied(),
            recipe: trained.map(|spec| spec.recipe).unwrap_or_default(),
        }
    }

    /// The reference's: grey images, membrane and background.
    pub fn isbi() -> Self {
        let map = Some(LabelMap::of_two(["membrane", "background"], 255));
        Self { channels: 1, channel_names: Vec::new(), map, float_range: None, recipe: Recipe::Reference }
    }

    /// The number of classes; two where there are no labels.
    pub fn classes(&self) -> usize {
        self.map.as_ref().map_or(2, |map| map.classes.len())
    }

    /// The stored values that become -1 and 1.
    pub fn range(&self, format: SampleFormat) -> GreyRange {
        let white = match format {
            SampleFormat::U8 => 255.0,
            SampleFormat::U16 => 65_535.0,
            SampleFormat::F32 => return self.float_range.unwrap_or(GreyRange { black: 0.0, white: 1.0 }),
        };
        GreyRange { black: 0.0, white }
    }

    /// Whether pixels are ignored.
    pub fn has_ignored(&self) -> bool {
        self.map.as_ref().is_some_and(LabelMap::has_ignored)
    }

    /// Whether networks for both take the same images and tell the same classes apart.
    pub fn is_alike(&self, other: &Self) -> bool {
        let part = |spec: &Self| (spec.channels, spec.map.clone(), spec.float_range, spec.recipe);
        part(self) == part(other)
    }

    /// For messages: `1 channel(s), classes 0=membrane;255=background, native recipe`.
    pub fn describe(&self) -> String {
        let classes = self.map.as_ref().map_or_else(|| "none".to_owned(), LabelMap::describe);
        format!("{} channel(s), classes {classes}, {} recipe", self.channels, self.recipe.name())
    }

    /// Names of the classes, in the order of their indices.
    pub fn class_names(&self) -> Vec<String> {
        match &self.map {
            Some(map) => map.names().map(str::to_owned).collect(),
            None => ["membrane", "background"].map(str::to_owned).to_vec(),
        }
    }
}
