//! Predicted slices on contact sheets and in the report.

use std::path::Path;

use anyhow::Result;
use tch::{Device, Tensor};

use super::inference;
use crate::data::slices::{Slice, SliceSet};
use crate::data::spec::DataSpec;
use crate::output::html::viewer::{Recorder, Shown, Viewer};
use crate::output::pictures::sheet::{Prediction, Row, Sheet};

/// A sheet of `shown` slices of what `all` names, of the stack or folder at `path`.
pub fn of_file(path: &Path, shown: usize, all: &str, spec: &DataSpec) -> Sheet {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Sheet::new(format!("{name}: {shown} of {all} (numbered from 0)"), spec.class_names())
}

/// A sheet of `shown` slices of what `all` names, of a set: of its stack, or of the folder of its images.
pub fn of_set(slices: &SliceSet, shown: usize, all: &str) -> Sheet {
    let path = source(slices);
    if slices.cases.len() == 1 {
        return of_file(path, shown, all, &slices.spec);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Sheet::new(format!("{name}: {shown} of {all}"), slices.spec.class_names())
}

/// The stack of a set, or the folder of its images.
pub fn source(slices: &SliceSet) -> &Path {
    let path = &slices.cases[0].images[0];
    if slices.cases.len() == 1 { path } else { path.parent().unwrap_or(path) }
}

/// What a slice of a set is called on a sheet: its number in its stack, or the name of its file.
pub fn caption(slices: &SliceSet, index: usize) -> String {
    if slices.cases.len() == 1 {
        return format!("slice {index}");
    }
    let path = &slices.cases[slices.infos[index].case].images[0];
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Adds a slice with its probabilities, `[P, H, W]` f32, and its labels where it has some.
pub fn add(sheet: &mut Sheet, caption: String, slice: &Slice, planes: &Tensor) {
    let (first, classes) = (planes.get(0), inference::classes(planes));
    let prediction =
        if planes.size()[0] == 1 { Prediction::Probability(&first) } else { Prediction::Classes(&classes) };
    sheet.add(Row {
        caption,
        image: &slice.image,
        black: slice.range.black,
        white: slice.range.white,
        prediction,
        labels: slice.classes.as_ref(),
    });
}

/// Slices for the report while they are computed. What cannot be encoded is told of at the end.
pub struct Slides {
    recorder: Recorder,
    failure: Option<anyhow::Error>,
}

impl Slides {
    /// Takes slices on rank 0 alone: `is_main`. `count` slices come at most; fewer are shown larger.
    pub fn new(spec: &DataSpec, count: usize, is_main: bool) -> Self {
        Self { recorder: Recorder::new(spec.class_names(), count, is_main), failure: None }
    }

    /// Whether the slice with this number and Dice is to be added.
    pub fn wants(&self, number: usize, dice: Option<f64>) -> bool {
        self.failure.is_none() && self.recorder.wants(number, dice)
    }

    /// Adds a slice with its probabilities, `[P, H, W]` f32, and its Dice where it has labels.
    pub fn add(&mut self, number: usize, caption: String, dice: Option<f64>, slice: &Slice, planes: &Tensor) {
        let planes = planes.to_device(Device::Cpu);
        let probability = planes.amax([0], false);
        let shown = Shown {
            caption,
            dice,
            image: &slice.image,
            range: slice.range,
            probability: &probability,
            mask: &inference::classes(&planes),
            labels: slice.classes.as_ref(),
        };
        self.failure = self.recorder.add(number, shown).err();
    }

    /// What was taken of the slices that `path`, a stack or a folder, holds; `all` of them are told of.
    pub fn finish(self, path: &Path, all: usize) -> Result<Option<Viewer>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.failure.map_or_else(|| Ok(self.recorder.finish(&name, all)), Err)
    }
}
