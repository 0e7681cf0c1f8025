//! What an exported file is to be like, and what it says about itself.
//!
//! Shapes: N images, H, W pixels.

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::data::spec::{DataSpec, GreyScaling, Recipe};
use crate::data::values::GreyRange;
use crate::model::architecture::Architecture;
use crate::model::sides::fitting_sides;
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
        self.sides.map(|sides| sides.map(|side| side - 2 * MARGIN))
    }

    /// What the file gives for `logits`.
    pub fn output(&self, logits: Tensor) -> Tensor {
        if self.softmax { logits.softmax(1, Kind::Float) } else { logits }
    }

    pub fn kind(&self) -> Kind {
        if self.half { Kind::Half } else { Kind::Float }
    }

    /// How an image is resized, what is put around it, and what is made of its grey levels.
    fn preparation(&self) -> [String; 3] {
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
        let (smallest, step) = fitting_sides();
        let sides = |sides: Option<[i64; 2]>| sides.map_or(json!("dynamic"), |sides| json!(sides));
        let lost = 2 * MARGIN;
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
            "output": format!("{}: float32 [N, {classes}, height - {lost}, width - {lost}]", self.output_name()),
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
            "unusable_border": EDGE,
        });
        metadata.as_object().cloned().unwrap_or_default()
    }
}
