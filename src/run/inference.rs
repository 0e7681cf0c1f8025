//! From images to probabilities: what evaluation, prediction and their benchmark share.
//!
//! Shapes: N images, H, W pixels.

use anyhow::Result;
use tch::{IndexOp, Kind, Tensor};

use crate::data::values::BACKGROUND;
use crate::engine::step_runner::StepRunner;
use crate::model::unet::Predictor;

/// Softmax probability of background, `[N, 388, 388]` f32, for `images` `[N, 1, 572, 572]` f32.
pub fn background_probability(runner: &mut StepRunner, net: &Predictor, images: &Tensor) -> Result<Tensor> {
    let work = |[images]: [&Tensor; 1]| Ok([softmax_of_background(&net.forward(images)?)]);
    let [background] = tch::no_grad(|| runner.run([images], work))?;
    Ok(background)
}

/// `[N, H, W]` f32 from logits `[N, 2, H, W]` of any precision.
pub fn softmax_of_background(logits: &Tensor) -> Tensor {
    logits.to_kind(Kind::Float).softmax(1, Kind::Float).i((.., BACKGROUND))
}

/// A warning where all pixels of the output are of one class; `share` is that of background, 0 to 1.
pub fn constant_output(share: f64) -> Option<String> {
    let class = match share {
        0.0 => "membrane",
        1.0 => "background",
        _ => return None,
    };
    Some(format!(
        "every pixel of the output is {class}; the network has not learnt yet, or its input is unlike what it was \
         trained on"
    ))
}
