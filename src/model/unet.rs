//! The U-Net (paper, figure 1; reference `model/unet.py`): wiring and the arithmetic of its sizes.
//! No loss here, and no choice of device or precision.
//!
//! Shapes: N images, H, W pixels.

use anyhow::Result;
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use super::architecture::{Architecture, LEVELS};
use super::blocks::{self, Convolution, DoubleConvolution, Named, Source, Up};
use super::layers;
use crate::data::random::{Purpose, stream};
use crate::native::{OutputMask, ReluGradient};

/// Share of the bottleneck's outputs that dropout zeroes in training (reference).
const DROPOUT: f64 = 0.5;

/// The network and its f32 parameters.
#[derive(Debug)]
pub struct UNet {
    pub architecture: Architecture,
    encoder: Vec<DoubleConvolution>,
    bottleneck: DoubleConvolution,
    decoder: Vec<Up>,
    head: Convolution,
}

/// A network that can only predict: its weights have become what the kernels of its device and precision multiply with,
/// once for all predictions. It holds no parameters to train or to save.
#[derive(Debug)]
pub struct Predictor(UNet);

impl Predictor {
    /// Logits as of `UNet::forward`, without dropout and without gradients, for `x` of the kind that this was made for.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.0.forward(x, false))
    }
}

/// A side for which the network's arithmetic does not work out.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "an input side of {side} pixels does not fit the network: {reason}; the next sides that fit are {below} and {above}"
)]
pub struct SideError {
    side: i64,
    reason: String,
    below: String,
    above: i64,
}

impl UNet {
    /// A network whose parameters come from `source`, asked for in the order of `parameters`.
    ///
    /// Errors: an architecture outside the supported range, and those of `source`.
    pub fn new(architecture: Architecture, source: &mut Source) -> Result<Self> {
        let Architecture { base_filters, channels, classes } = architecture;
        architecture.check()?;
        let filters = |level: usize| base_filters << level;
        let inputs = |level: usize| if level == 0 { channels } else { filters(level - 1) };
        let encoder = (0..LEVELS)
            .map(|level| DoubleConvolution::new(&format!("encoder.{level}"), inputs(level), filters(level), source));
        let encoder = encoder.collect::<Result<_>>()?;
        let bottleneck = DoubleConvolution::new("bottleneck", inputs(LEVELS), filters(LEVELS), source)?;
        let decoder = (0..LEVELS).map(|step| {
            let level = LEVELS - 1 - step;
            Up::new(&format!("decoder.{step}"), filters(level + 1), filters(level), source)
        });
        let decoder = decoder.collect::<Result<_>>()?;
        let head = Convolution::plain("head", base_filters, classes, 1, source)?;
        Ok(Self { architecture, encoder, bottleneck, decoder, head })
    }

    /// A network with fresh weights for `seed`; the same on every device.
    pub fn with_fresh_weights(architecture: Architecture, seed: u64, device: Device) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Weights, 0);
        Self::new(architecture, &mut blocks::glorot_uniform(&mut rng, device))
    }

    /// Logits `[N, classes, output_side(H), output_side(W)]` for `x` `[N, channels, H, W]`, in x's dtype.
    ///
    /// `training` turns dropout on; its mask comes from libtorch's default generator.
    ///
    /// Errors: sides for which `output_side` has none.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        for side in &x.size()[2..] {
            output_side(*side)?;
        }
        let (heights, widths) = (skip_sides(x.size()[2]), skip_sides(x.size()[3]));
        let mut skips = Vec::with_capacity(LEVELS);
        let mut x = blocks::channels_last(x);
        for (level, block) in self.encoder.iter().enumerate() {
            let gradient = ReluGradient { input_is_relu: false, output_mask: OutputMask::Pooling };
            let (pooled, skip) =
                layers::pool_and_crop(&block.forward(&x, None, gradient)?, heights[level], widths[level])?;
            x = pooled;
            skips.push(skip);
        }
        let gradient = ReluGradient { input_is_relu: false, output_mask: OutputMask::Itself };
        x = self.bottleneck.forward(&x, None, gradient)?.dropout(DROPOUT, training);
        for (step, block) in self.decoder.iter().enumerate() {
            // Dropout comes before the first, which knows of no ReLU.
            let output_mask = if step + 1 < LEVELS { OutputMask::Convolutions } else { OutputMask::Head };
            let gradient = ReluGradient { input_is_relu: step > 0, output_mask };
            x = block.forward(&x, &skips[LEVELS - 1 - step], gradient)?;
        }
        layers::head(&self.head, &x)
    }

    /// Makes copies of the weights in `kind` that training multiplies with from now on: see `Convolution::working`. The result has them
    /// in the order of `parameters`. The first layer has none, as its kernels take f32; of biases those of the other 3x3 convolutions have one.
    pub fn keep_working_weights(&mut self, kind: Kind) -> Vec<Option<Tensor>> {
        let contracting = self.encoder.iter_mut().chain([&mut self.bottleneck]);
        let contracting = contracting.flat_map(|block| [(&mut block.conv1, true), (&mut block.conv2, true)]);
        let expanding = self.decoder.iter_mut().flat_map(|Up { up, convolutions }| {
            let DoubleConvolution { conv1, conv2 } = convolutions;
            [(up, false), (conv1, true), (conv2, true)]
        });
        let all = contracting.chain(expanding).chain([(&mut self.head, false)]);
        let keep = |(index, (convolution, with_bias)): (usize, (&mut Convolution, bool))| {
            let weight = (index > 0).then(|| convolution.keep_working_weight(kind).shallow_clone());
            [weight, (index > 0 && with_bias).then(|| convolution.keep_working_bias(kind).shallow_clone())]
        };
        all.enumerate().flat_map(keep).collect()
    }

    /// The network in the form that predicts fastest from inputs of `kind`.
    pub fn prepare_for_prediction(self, kind: Kind) -> Result<Predictor> {
        let mut net = self;
        let like = Tensor::empty([0], (kind, net.head.weight.device()));
        for block in net.encoder.iter_mut().chain([&mut net.bottleneck]) {
            block.prepare(&like)?;
        }
        for block in &mut net.decoder {
            block.prepare(&like)?;
        }
        Ok(Predictor(net))
    }

    /// All parameters with their paths, in the order of PyTorch's `named_parameters`.
    pub fn parameters(&self) -> Vec<Named<'_>> {
        let mut parameters = Vec::new();
        for (level, block) in self.encoder.iter().enumerate() {
            parameters.extend(block.parameters(&format!("encoder.{level}")));
        }
        parameters.extend(self.bottleneck.parameters("bottleneck"));
        for (level, block) in self.decoder.iter().enumerate() {
            parameters.extend(block.parameters(&format!("decoder.{level}")));
        }
        parameters.extend(self.head.parameters("head"));
        parameters
    }
}

/// The output side for an input side, in pixels: 388 for 572.
///
/// Errors: sides that a pooling step would not halve evenly, or that leave no output.
pub fn output_side(side: i64) -> Result<i64, SideError> {
    try_output_side(side).map_err(|reason| {
        let fits = |side: &i64| try_output_side(*side).is_ok();
        SideError {
            side,
            reason,
            below: (1..side).rev().find(fits).map_or_else(|| "none".to_owned(), |side| side.to_string()),
            // Sides that fit are 16 apart, from 188 on.
            above: (side.max(0) + 1..).find(fits).unwrap_or(i64::MAX),
        }
    })
}

/// Pixels that two unpadded 3x3 convolutions take off.
const BORDER: i64 = 4;

fn try_output_side(side: i64) -> Result<i64, String> {
    let mut size = bottleneck_side(side)?;
    for _ in 0..LEVELS {
        size = 2 * size - BORDER;
    }
    if size <= 0 { Err("no output pixel is left".to_owned()) } else { Ok(size) }
}

/// The side of the bottleneck's output for an input side.
fn bottleneck_side(side: i64) -> Result<i64, String> {
    let mut size = side;
    for level in 0..LEVELS {
        size -= BORDER;
        if size <= 0 || size % 2 != 0 {
            return Err(format!("{size} pixels are left to halve at level {level}"));
        }
        size /= 2;
    }
    Ok(size - BORDER)
}

/// The side of the crop that each level's skip connection carries. `side` is one that `output_side` accepts.
fn skip_sides(side: i64) -> [i64; LEVELS] {
    let mut sides = [0; LEVELS];
    let mut size = bottleneck_side(side).unwrap_or_default();
    for skip in sides.iter_mut().rev() {
        *skip = 2 * size;
        size = *skip - BORDER;
    }
    sides
}

/// Pixels that each level's skip connection loses on each side, whatever the input's side: 88, 40, 16 and 4.
pub fn skip_margins() -> [i64; LEVELS] {
    let mut margins = [0; LEVELS];
    let mut lost = BORDER / 2;
    for margin in margins.iter_mut().rev() {
        *margin = 2 * lost;
        // By the blocks on the way down and up, half of their border each.
        lost = *margin + BORDER;
    }
    margins
}

/// The smallest input side that fits, and how far apart those are that do.
pub fn fitting_sides() -> (i64, i64) {
    let smallest = (1..).find(|&side| output_side(side).is_ok()).unwrap_or(i64::MAX);
    (smallest, 1 << LEVELS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::{INPUT_SIDE, OUTPUT_SIDE};

    /// The crops of an exported network are written with these numbers alone.
    #[test]
    fn sides_that_fit_are_evenly_apart_and_lose_the_same_margins() {
        let (smallest, step) = fitting_sides();
        assert_eq!((smallest, step), (188, 16));
        for side in 1..2000 {
            let fits = side >= smallest && side % step == smallest % step;
            assert_eq!(output_side(side).is_ok(), fits, "{side}");
            if fits {
                let mut size = side;
                for (skip, margin) in skip_sides(side).into_iter().zip(skip_margins()) {
                    size -= BORDER;
                    assert_eq!(size - skip, 2 * margin, "{side}");
                    size /= 2;
                }
            }
        }
    }

    /// From the paper's figure 1, level by level.
    #[test]
    fn sides_follow_the_paper() {
        assert_eq!(output_side(INPUT_SIDE), Ok(OUTPUT_SIDE));
        assert_eq!(output_side(572 + 16), Ok(388 + 16));
        assert_eq!(output_side(188), Ok(4));
    }

    #[test]
    fn sides_that_do_not_fit_are_refused_with_the_next_that_do() {
        let message = output_side(512).unwrap_err().to_string();
        assert!(message.contains("512") && message.contains("508") && message.contains("524"), "{message}");
        let message = output_side(100).unwrap_err().to_string();
        assert!(message.contains("none") && message.contains("188"), "{message}");
        assert!(output_side(0).is_err() && output_side(-5).is_err());
    }

    #[test]
    fn forward_gives_the_side_that_the_arithmetic_says_and_refuses_others() {
        let architecture = Architecture { base_filters: 2, channels: 1, classes: 3 };
        let net = UNet::with_fresh_weights(architecture, 0, Device::Cpu).unwrap();
        let x = |height, width| Tensor::zeros([2, 1, height, width], (Kind::Float, Device::Cpu));
        assert_eq!(net.forward(&x(188, 204), false).unwrap().size(), [2, 3, 4, 20]);
        assert!(net.forward(&x(188, 200), false).is_err());
    }

    #[test]
    fn fresh_weights_are_glorot_uniform_and_biases_zero() {
        let architecture = Architecture { base_filters: 16, channels: 1, classes: 2 };
        let net = UNet::with_fresh_weights(architecture, 3, Device::Cpu).unwrap();
        for (name, tensor) in net.parameters() {
            let largest = tensor.abs().max().double_value(&[]);
            if name.ends_with("bias") {
                assert_eq!(largest, 0.0, "{name}");
                continue;
            }
            let size = tensor.size();
            let bound = (6.0 / ((size[0] + size[1]) * size[2] * size[3]) as f64).sqrt();
            assert!(largest <= bound * 1.0001, "{name}: {largest} above {bound}");
            // A uniform distribution's deviation is its half-width over the root of 3.
            let deviation = tensor.std(false).double_value(&[]);
            let slack = 4.0 / (tensor.numel() as f64).sqrt();
            assert!((deviation * 3f64.sqrt() / bound - 1.0).abs() < slack, "{name}: {deviation}");
        }
    }
}
