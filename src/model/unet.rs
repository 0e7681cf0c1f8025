//! The U-Net (paper, figure 1; reference `model/unet.py`): its wiring. No loss here, and no choice of device or
//! precision.
//!
//! Shapes: N images, H, W pixels.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::architecture::{Architecture, LEVELS};
use super::backend::{Backend, Consumer};
use super::blocks::{DoubleConvolution, Up};
use super::convolution::{Convolution, Named, Source, channels_last};
use super::init::Init;
use super::ops::{self, ReluGradient};
use super::sides::{output_side, skip_sides};
use crate::data::random::{Purpose, stream};

/// The network and its f32 parameters.
#[derive(Debug)]
pub struct UNet {
    pub architecture: Architecture,
    encoder: Vec<DoubleConvolution>,
    bottleneck: DoubleConvolution,
    decoder: Vec<Up>,
    head: Convolution,
}

/// A network for prediction alone: its weights are in the form that the kernels of its device and precision read, made
/// once for all predictions. It holds no parameters to train or to save.
#[derive(Debug)]
pub struct Predictor {
    net: UNet,
    backend: Backend,
    /// The dtype of activations.
    kind: Kind,
}

impl Predictor {
    /// Logits as those of `UNet::forward`, without dropout and without gradients. `x` of any float dtype is cast to
    /// that of the activations, which the logits have too.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.net.forward_on(self.backend, &x.to_kind(self.kind), 0.0))
    }
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

    /// A network with fresh weights for `seed`, as the reference draws them; the same on every device.
    pub fn with_fresh_weights(architecture: Architecture, seed: u64, device: Device) -> Result<Self> {
        Self::with_weights_by(Init::Glorot, architecture, seed, device)
    }

    /// The same with weights that are drawn by `init`.
    pub fn with_weights_by(init: Init, architecture: Architecture, seed: u64, device: Device) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Weights, 0);
        Self::new(architecture, &mut *init.source(&mut rng, device))
    }

    /// Logits `[N, classes, output_side(H), output_side(W)]` for `x` `[N, channels, H, W]`, in x's dtype.
    ///
    /// `dropout` is the share of the bottleneck's outputs that is zeroed, 0 for none; its mask comes from libtorch's
    /// default generator.
    ///
    /// Errors: sides for which `output_side` has none.
    pub fn forward(&self, x: &Tensor, dropout: f64) -> Result<Tensor> {
        self.forward_on(Backend::of(x)?, x, dropout)
    }

    fn forward_on(&self, backend: Backend, x: &Tensor, dropout: f64) -> Result<Tensor> {
        for side in &x.size()[2..] {
            output_side(*side)?;
        }
        let (heights, widths) = (skip_sides(x.size()[2]), skip_sides(x.size()[3]));
        let mut skips = Vec::with_capacity(LEVELS);
        let mut x = channels_last(x);
        for (level, block) in self.encoder.iter().enumerate() {
            let gradient = ReluGradient { input_is_relu: false, consumer: Consumer::Pooling };
            let features = block.forward(backend, &x, None, gradient)?;
            let (pooled, skip) = ops::pool_and_crop(backend, &features, heights[level], widths[level])?;
            x = pooled;
            skips.push(skip);
        }
        let gradient = ReluGradient { input_is_relu: false, consumer: Consumer::Other };
        x = self.bottleneck.forward(backend, &x, None, gradient)?.dropout(dropout, true);
        for (step, block) in self.decoder.iter().enumerate() {
            // Dropout comes before the first step and does not apply the gradient of a ReLU.
            let consumer = if step + 1 < LEVELS { Consumer::Convolutions } else { Consumer::Head };
            let gradient = ReluGradient { input_is_relu: step > 0, consumer };
            x = block.forward(backend, &x, &skips[LEVELS - 1 - step], gradient)?;
        }
        ops::head(backend, &self.head, &x)
    }

    /// Makes copies of the parameters in `kind` that training multiplies with from now on
    /// (`Weights::MasterAndWorking`). The result has them in the order of `parameters`. The first layer has none, as
    /// its kernels take f32; only the 3x3 convolutions add their biases in `kind`.
    pub fn make_working_weights(&mut self, kind: Kind) -> Vec<Option<Tensor>> {
        let mut copies = Vec::new();
        for (level, block) in self.encoder.iter_mut().enumerate() {
            if level == 0 {
                copies.extend([None, None]);
                copies.extend(block.conv2.make_working_weights(kind, true));
            } else {
                copies.extend(block.make_working_weights(kind));
            }
        }
        copies.extend(self.bottleneck.make_working_weights(kind));
        copies.extend(self.decoder.iter_mut().flat_map(|block| block.make_working_weights(kind)));
        copies.extend(self.head.make_working_weights(kind, false));
        copies
    }

    /// The network in the form that predicts fastest from inputs of `kind`.
    pub fn prepare_for_prediction(self, kind: Kind) -> Result<Predictor> {
        let mut net = self;
        let device = net.head.bias.device();
        let (backend, like) = (Backend::new(device, kind)?, Tensor::empty([0], (kind, device)));
        for block in net.encoder.iter_mut().chain([&mut net.bottleneck]) {
            block.prepare(backend, &like)?;
        }
        for block in &mut net.decoder {
            block.prepare(backend, &like)?;
        }
        Ok(Predictor { net, backend, kind })
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn forward_gives_the_side_that_the_arithmetic_says_and_refuses_others() {
        let architecture = Architecture { base_filters: 2, channels: 1, classes: 3 };
        let net = UNet::with_fresh_weights(architecture, 0, Device::Cpu).unwrap();
        let x = |height, width| Tensor::zeros([2, 1, height, width], (Kind::Float, Device::Cpu));
        assert_eq!(net.forward(&x(188, 204), 0.0).unwrap().size(), [2, 3, 4, 20]);
        assert!(net.forward(&x(188, 200), 0.0).is_err());
    }

    /// Nearly everything is zeroed, so that the decoder sees the skip connections alone.
    #[test]
    fn dropout_zeroes_the_outputs_of_the_bottleneck() {
        let architecture = Architecture { base_filters: 4, channels: 1, classes: 2 };
        let net = UNet::with_weights_by(Init::He, architecture, 0, Device::Cpu).unwrap();
        let x = Tensor::randn([1, 1, 188, 188], (Kind::Float, Device::Cpu));
        let logits = |dropout| tch::no_grad(|| net.forward(&x, dropout)).unwrap();
        let (whole, dropped) = (logits(0.0), logits(1.0 - 1e-9));
        for (name, tensor) in net.parameters() {
            if name.starts_with("bottleneck.") {
                let _ = tch::no_grad(|| tensor.shallow_clone().zero_());
            }
        }
        let without = logits(0.0);
        assert!(crate::testing::largest_difference(&without, &dropped) < 1e-6);
        assert!(crate::testing::largest_difference(&whole, &dropped) > 1e-3);
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

    /// A transposed convolution with 9 weights and stride 2 adds up 2.25 of them for a pixel, on average.
    #[test]
    fn weights_by_he_have_the_deviation_that_keeps_the_signal() {
        let architecture = Architecture { base_filters: 16, channels: 1, classes: 2 };
        let net = UNet::with_weights_by(Init::He, architecture, 3, Device::Cpu).unwrap();
        for (name, tensor) in net.parameters() {
            if name.ends_with("bias") || name.starts_with("head") {
                continue;
            }
            let size = tensor.size();
            let inputs = if name.contains(".up.") { size[0] as f64 * 2.25 } else { (size[1] * 9) as f64 };
            let slack = 4.0 / (tensor.numel() as f64).sqrt();
            let deviation = tensor.std(false).double_value(&[]);
            assert!((deviation / (2.0 / inputs).sqrt() - 1.0).abs() < slack, "{name}: {deviation}");
        }
    }

    /// A predictor without packed weights casts them once, which must not change the logits. In f64, which has no own
    /// kernels.
    #[test]
    fn parameters_that_are_cast_once_give_the_same_logits() {
        let architecture = Architecture { base_filters: 4, channels: 1, classes: 2 };
        let net = || UNet::with_fresh_weights(architecture, 0, Device::Cpu).unwrap();
        let x = Tensor::randn([1, 1, 188, 188], (Kind::Double, Device::Cpu));
        let expected = tch::no_grad(|| net().forward(&x, 0.0)).unwrap();
        let predictor = net().prepare_for_prediction(Kind::Double).unwrap();
        let found = tch::no_grad(|| predictor.forward(&x)).unwrap();
        assert_eq!(crate::testing::largest_difference(&found, &expected), 0.0);
    }
}
