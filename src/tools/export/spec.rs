//! What an exported file is to be like, and what it says about itself.
//!
//! Shapes: N images, H, W pixels.

use anyhow::Result;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::data::spec::{DataSpec, GreyScaling, Recipe};
use crate::data::values::GreyRange;
use crate::model::architecture::Architecture;
use crate::model::sides::{first_side, fitting_sides};
use crate::model::unet::Predictor;
use crate::recipe::preprocessing::MARGIN;
use crate::recipe::tiles::EDGE;

/// What the file is to be like.
#[derive(Debug, Clone)]
pub struct ExportSpec {
    pub architecture: Architecture,
    /// What the network is for.
    pub data: DataSpec,
    /// Height and width of the input; `None` for any that fit.
    pub sides: Option<[i64; 2]>,
    /// Parameters and operations in float16; inputs and outputs stay in float32.
    pub half: bool,
    /// Whether the output is softmax probabilities rather than logits.
    pub softmax: bool,
    /// Stored values that become -1 and 1.
    pub range: GreyRange,
    /// What the file itself puts around its input; `None` where the caller does.
    pub padding: Option<Padding>,
}

/// A frame that the file itself puts around its input, so that its output has the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Pixels above and to the left.
    pub before: i64,
    /// Pixels below and to the right.
    pub after: i64,
    pub content: PaddingContent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingContent {
    /// Mid-grey, which is 0 after normalisation.
    Zeros,
    /// The input mirrored at the centres of its edge pixels.
    Mirrored,
}

impl Padding {
    /// The frame of a recipe. That of the native recipe is so much wider at the bottom and to the right that sides are
    /// multiples of the grid of 16 pixels, and that the rows and columns that lack a neighbour are past the input.
    pub fn of(recipe: Recipe) -> Self {
        let (smallest, step) = fitting_sides();
        match recipe {
            Recipe::Reference => Self { before: MARGIN, after: MARGIN, content: PaddingContent::Zeros },
            Recipe::Native { .. } => {
                let least = 2 * MARGIN + EDGE;
                let both = least + (smallest - least).rem_euclid(step);
                Self { before: MARGIN, after: both - MARGIN, content: PaddingContent::Mirrored }
            }
        }
    }

    /// Rows and columns of the network's output that are past the input, at the bottom and to the right.
    pub fn surplus(self) -> i64 {
        self.before + self.after - 2 * MARGIN
    }

    /// The smallest input side that can be framed and fits the network then.
    fn smallest(self) -> i64 {
        let (smallest, step) = fitting_sides();
        let fits = smallest - self.before - self.after;
        let least = match self.content {
            PaddingContent::Zeros => 1,
            // The mirror image has one pixel less than the input.
            PaddingContent::Mirrored => self.before.max(self.after) + 1,
        };
        first_side(least, (fits, step))
    }

    /// `images` with the frame.
    pub fn apply(self, images: &Tensor) -> Tensor {
        let Self { before, after, content } = self;
        let pixels = [before, after, before, after];
        match content {
            PaddingContent::Zeros => images.constant_pad_nd(pixels),
            PaddingContent::Mirrored => images.reflection_pad2d(pixels),
        }
    }
}

impl ExportSpec {
    /// Name of the input, `[N, channels, H, W]`.
    pub const INPUT: &str = "images";

    /// Name of the output, `[N, classes, output_side(H), output_side(W)]`.
    pub fn output_name(&self) -> &'static str {
        if self.softmax { "probabilities" } else { "logits" }
    }

    pub fn output_sides(&self) -> Option<[i64; 2]> {
        // The sides were checked to fit.
        self.sides.map(|sides| sides.map(|side| side - self.lost()))
    }

    /// Pixels that the output has less than the input along each axis.
    pub fn lost(&self) -> i64 {
        if self.padding.is_some() { 0 } else { 2 * MARGIN }
    }

    /// The smallest side of the input, and the step between sides that fit.
    pub fn fitting_sides(&self) -> (i64, i64) {
        let (smallest, step) = fitting_sides();
        (self.padding.map_or(smallest, Padding::smallest), step)
    }

    /// What the file gives for `logits`.
    pub fn output(&self, logits: Tensor) -> Tensor {
        if self.softmax { logits.softmax(1, Kind::Float) } else { logits }
    }

    /// What the file gives for `images`, computed by our own network.
    pub fn expected(&self, net: &Predictor, images: &Tensor) -> Result<Tensor> {
        let Some(padding) = self.padding else { return Ok(self.output(net.forward(images)?)) };
        let logits = net.forward(&padding.apply(images))?;
        let inside = |axis: i64| logits.size()[axis as usize] - padding.surplus();
        Ok(self.output(logits.narrow(2, 0, inside(2)).narrow(3, 0, inside(3))))
    }

    pub fn kind(&self) -> Kind {
        if self.half { Kind::Half } else { Kind::Float }
    }

    /// How an image is resized, what is put around it, and what is made of its grey levels.
    fn preparation(&self) -> [String; 3] {
        let [resize, frame, normalisation] = self.preparation_by_caller();
        match self.padding {
            None => [resize, frame, normalisation],
            Some(_) => [resize, format!("none: the file itself puts it around its input: {frame}"), normalisation],
        }
    }

    fn preparation_by_caller(&self) -> [String; 3] {
        let scaled = "x = (v - black) / ((white - black) / 2) - 1";
        let range = format!("{scaled}, clipped to -1..1");
        match self.data.recipe {
            Recipe::Reference => [
                "to output_size: bilinear, half-pixel centres, no antialiasing".to_owned(),
                format!("{MARGIN} pixels of 0 on each side, after resizing and normalisation"),
                range,
            ],
            Recipe::Native { grey } => [
                "none; tiles of a larger image begin at multiples of 16 pixels of the output".to_owned(),
                format!("{MARGIN} pixels of the image mirrored at the centres of its edge pixels on each side"),
                match grey {
                    GreyScaling::Range => range,
                    GreyScaling::Image => {
                        format!("{scaled}; then each channel of the whole image to mean 0 and deviation 1")
                    }
                },
            ],
        }
    }

    /// What a user of the file must know about it.
    pub fn metadata(&self) -> Map<String, Value> {
        let (smallest, step) = self.fitting_sides();
        let sides = |sides: Option<[i64; 2]>| sides.map_or(json!("dynamic"), |sides| json!(sides));
        let output_sides = match self.lost() {
            0 => "height, width".to_owned(),
            lost => format!("height - {lost}, width - {lost}"),
        };
        let Architecture { base_filters, channels, classes } = self.architecture;
        let [resize, frame, normalisation] = self.preparation();
        let label_values =
            self.data.map.as_ref().map(|map| map.classes.iter().map(|class| &class.values).collect::<Vec<_>>());
        let metadata = json!({
            "source": concat!("unet ", env!("CARGO_PKG_VERSION")),
            "base_filters": base_filters,
            "channels": channels,
            "channel_names": self.data.channel_names,
            "input": format!("{}: float32 [N, {channels}, height, width]", Self::INPUT),
            "output": format!("{}: float32 [N, {classes}, {output_sides}]", self.output_name()),
            "input_size": sides(self.sides),
            "output_size": sides(self.output_sides()),
            "sides_that_fit": format!("{smallest} + {step} k"),
            "classes": self.data.class_names(),
            "label_values": label_values,
            "precision": if self.half { "float16" } else { "float32" },
            "recipe": self.data.recipe.name(),
            "resize": resize,
            "normalisation": normalisation,
            "grey_scaling": match self.data.recipe {
                Recipe::Native { grey: GreyScaling::Image } => "image",
                _ => "range",
            },
            "black": self.range.black,
            "white": self.range.white,
            "frame": frame,
            // Tiles of the output begin at multiples of `tile_step`; its last rows and columns lack a neighbour.
            "tile_step": step,
            "unusable_border": if self.padding.is_some() { 0 } else { EDGE },
        });
        metadata.as_object().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::spec::Recipe;
    use crate::model::sides::output_side;

    #[test]
    fn framed_inputs_fit_and_lose_the_rows_that_lack_a_neighbour() {
        for (recipe, first, surplus) in
            [(Recipe::Reference, 4, 0), (Recipe::Native { grey: GreyScaling::Range }, 128, 20)]
        {
            let padding = Padding::of(recipe);
            assert_eq!((padding.smallest(), padding.surplus()), (first, surplus), "{recipe:?}");
            for side in [first, first + 16, first + 160] {
                let output = output_side(side + padding.before + padding.after);
                assert_eq!(output, Ok(side + surplus), "{recipe:?}");
            }
            let images = Tensor::ones([1, 1, first, first + 16], (Kind::Float, tch::Device::Cpu));
            let framed = padding.apply(&images);
            assert_eq!(framed.size()[2..], [first, first + 16].map(|side| side + padding.before + padding.after));
            let corner = if recipe == Recipe::Reference { 0.0 } else { 1.0 };
            assert_eq!(framed.double_value(&[0, 0, 0, 0]), corner);
        }
    }
}
