//! The test images of a package: an input, and the output that the program itself computes for it.
//!
//! Shapes: C channels, K classes, H, W pixels.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::description;
use crate::data::slices::Slice;
use crate::data::spec::{GreyScaling, Recipe};
use crate::model::sides::first_side;
use crate::recipe::normalisation::GreyMap;
use crate::tools::export::check::Own;
use crate::tools::export::slices::Slices;
use crate::tools::export::spec::ExportSpec;

/// Height and width of the test output, of which the next larger ones that fit are taken. They differ, so that axes in
/// the wrong order are noticed.
const TEST_SIDES: [i64; 2] = [260, 196];

/// An input as images are stored, and what the program makes of it.
pub struct TestImages {
    /// `[1, C, H, W]` f32, of the phantom.
    pub input: Tensor,
    /// `[1, K, H, W]` f32 of the output's size.
    pub output: Tensor,
}

impl TestImages {
    /// Images of the phantom, never the user's own: a package is made to be given away.
    pub fn new(own: &Own, spec: &ExportSpec) -> Result<Self> {
        let channels = spec.data.channels;
        let phantom = Slices::synthetic(Some(spec.range), channels).slices;
        let sides = description::sides(spec);
        let [height, width] = TEST_SIDES.map(|side| first_side(side + spec.lost(), sides));
        let levels = phantom[0].image.narrow(1, 0, height).narrow(2, 0, width).to_kind(Kind::Float) / 255.0;
        let stored = levels * (spec.range.white - spec.range.black) + spec.range.black;
        let grey = match spec.data.recipe {
            Recipe::Reference => GreyScaling::Range,
            Recipe::Native { grey } => grey,
        };
        let slice = Slice::unlabelled(stored, spec.range);
        let images = GreyMap::of(&slice, grey).apply(&slice.image, &slice).unsqueeze(0);
        Ok(Self {
            output: spec.expected(&own.net, &images)?.contiguous(),
            input: slice.image.unsqueeze(0).contiguous(),
        })
    }
}
