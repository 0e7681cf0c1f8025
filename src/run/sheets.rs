//! Contact sheets of predicted slices.

use std::path::Path;

use tch::Tensor;

use super::inference;
use crate::data::slices::{Slice, SliceSet};
use crate::data::spec::DataSpec;
use crate::output::pictures::sheet::{Prediction, Row, Sheet};

/// A sheet of `shown` slices of what `all` names, of the stack or folder at `path`.
pub fn of_file(path: &Path, shown: usize, all: &str, spec: &DataSpec) -> Sheet {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Sheet::new(format!("{name}: {shown} of {all} (numbered from 0)"), spec.class_names())
}

/// A sheet of `shown` slices of what `all` names, of a set: of its stack, or of the folder of its images.
pub fn of_set(slices: &SliceSet, shown: usize, all: &str) -> Sheet {
    let path = &slices.cases[0].images[0];
    if slices.cases.len() == 1 {
        return of_file(path, shown, all, &slices.spec);
    }
    let name = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    Sheet::new(format!("{name}: {shown} of {all}"), slices.spec.class_names())
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
