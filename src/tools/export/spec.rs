//! What an exported file is to be like, and what it says about itself.
//!
//! Shapes: N images, H, W pixels.

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::data::values::GreyRange;
use crate::model::architecture::Architecture;
use crate::model::sides::fitting_sides;
use crate::recipe::preprocessing::MARGIN;

/// What the file is to be like.
#[derive(Debug, Clone, Copy)]
pub struct ExportSpec {
    pub architecture: Architecture,
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
    /// Name of the input, `[N, 1, H, W]`.
    pub const INPUT: &str = "images";

    /// Name of the output, `[N, 2, output_side(H), output_side(W)]`.
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

    /// What a user of the file must know about it.
    pub fn metadata(&self) -> Map<String, Value> {
        let (smallest, step) = fitting_sides();
        let sides = |sides: Option<[i64; 2]>| sides.map_or(json!("dynamic"), |sides| json!(sides));
        let lost = 2 * MARGIN;
        let metadata = json!({
            "source": concat!("unet ", env!("CARGO_PKG_VERSION")),
            "base_filters": self.architecture.base_filters,
            "input": format!("{}: float32 [N, 1, height, width]", Self::INPUT),
            "output": format!("{}: float32 [N, 2, height - {lost}, width - {lost}]", self.output_name()),
            "input_size": sides(self.sides),
            "output_size": sides(self.output_sides()),
            "sides_that_fit": format!("{smallest} + {step} k"),
            "classes": ["membrane", "background"],
            "precision": if self.half { "float16" } else { "float32" },
            "resize": "to output_size: bilinear, half-pixel centres, no antialiasing",
            "normalisation": "x = (v - black) / ((white - black) / 2) - 1",
            "black": self.range.black,
            "white": self.range.white,
            "frame": format!("{MARGIN} pixels of 0 on each side, after resizing and normalisation"),
        });
        metadata.as_object().cloned().unwrap_or_default()
    }
}
