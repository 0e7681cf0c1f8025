//! Contact sheets of predicted slices.

use std::path::Path;

use tch::Tensor;

use super::inference;
use crate::data::slices::Slice;
use crate::data::spec::DataSpec;
use crate::output::pictures::sheet::{Prediction, Row, Sheet};

/// A sheet of `shown` slices of what `all` names, of the stack or folder at `path`.
pub fn of_file(path: &Path, shown: usize, all: &str, spec: &DataSpec) -> Sheet {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Sheet::new(format!("{name}: {shown} of {all} (numbered from 0)"), spec.class_names())
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
