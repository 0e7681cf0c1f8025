//! The blocks of the U-Net (paper, section 2). One struct per block, one `forward` each.
//!
//! Shapes: N images, C channels, H, W pixels; activations `[N, C, H, W]` in channels-last memory.
//! Parameters are f32; they are used in the dtype of the activation that they meet, so that an input
//! in float16 or bfloat16 makes the whole network compute in it (mixed precision with f32 weights).

use anyhow::Result;
use tch::{Kind, Tensor};

use super::backend::{Backend, Consumer};
use super::convolution::{Convolution, Named, Source};
use super::ops::{self, Joined, ReluGradient};
use crate::native::cpu_layers;

/// Two 3x3 convolutions, each followed by ReLU: `[N, in, H, W]` to `[N, out, H - 4, W - 4]`.
#[derive(Debug)]
pub struct DoubleConvolution {
    pub conv1: Convolution,
    pub conv2: Convolution,
}

impl DoubleConvolution {
    pub fn new(path: &str, inputs: i64, outputs: i64, source: &mut Source) -> Result<Self> {
        Ok(Self {
            conv1: Convolution::plain(&format!("{path}.conv1"), inputs, outputs, 3, source)?,
            conv2: Convolution::plain(&format!("{path}.conv2"), outputs, outputs, 3, source)?,
        })
    }

    /// `x2` counts as concatenated to `x`. `gradient` is about `x` and the result.
    pub fn forward(&self, backend: Backend, x: &Tensor, x2: Option<&Tensor>, gradient: ReluGradient) -> Result<Tensor> {
        let between = ReluGradient { consumer: Consumer::Convolutions, ..gradient };
        let x = ops::conv3x3_relu(backend, &self.conv1, x, x2, between)?;
        ops::conv3x3_relu(backend, &self.conv2, &x, None, ReluGradient { input_is_relu: true, ..gradient })
    }

    /// See `Convolution::prepare`.
    pub fn prepare(&mut self, backend: Backend, like: &Tensor) -> Result<()> {
        self.conv1.prepare(backend, like, cpu_layers::pack_conv3x3)?;
        self.conv2.prepare(backend, like, cpu_layers::pack_conv3x3)
    }

    /// See `Convolution::make_working_weights`; in the order of `parameters`.
    pub fn make_working_weights(&mut self, kind: Kind) -> Vec<Option<Tensor>> {
        [self.conv1.make_working_weights(kind, true), self.conv2.make_working_weights(kind, true)]
            .into_iter()
            .flatten()
            .collect()
    }

    pub fn parameters(&self, path: &str) -> Vec<Named<'_>> {
        [self.conv1.parameters(&format!("{path}.conv1")), self.conv2.parameters(&format!("{path}.conv2"))].concat()
    }
}

/// A step of the expanding path: upsample, join the skip connection, convolve twice.
#[derive(Debug)]
pub struct Up {
    pub up: Convolution,
    pub convolutions: DoubleConvolution,
}

impl Up {
    /// Halves the channels: `inputs` = 2 * `outputs`.
    pub fn new(path: &str, inputs: i64, outputs: i64, source: &mut Source) -> Result<Self> {
        Ok(Self {
            up: Convolution::transposed(&format!("{path}.up"), inputs, outputs, source)?,
            convolutions: DoubleConvolution::new(path, 2 * outputs, outputs, source)?,
        })
    }

    /// `x` `[N, in, H, W]` and `skip` `[N, out, 2H, 2W]` to `[N, out, 2H - 4, 2W - 4]`.
    pub fn forward(&self, backend: Backend, x: &Tensor, skip: &Tensor, gradient: ReluGradient) -> Result<Tensor> {
        let between = ReluGradient { consumer: Consumer::Convolutions, ..gradient };
        let (x, x2) = match ops::upconv_relu_join(backend, &self.up, x, skip, between)? {
            Joined::Concatenated(joined) => (joined, None),
            Joined::Apart { up, skip } => (up, Some(skip)),
        };
        self.convolutions.forward(backend, &x, x2.as_ref(), ReluGradient { input_is_relu: true, ..gradient })
    }

    /// See `Convolution::prepare`.
    pub fn prepare(&mut self, backend: Backend, like: &Tensor) -> Result<()> {
        self.up.prepare(backend, like, cpu_layers::pack_upconv)?;
        self.convolutions.prepare(backend, like)
    }

    /// See `Convolution::make_working_weights`; in the order of `parameters`. The transposed convolution adds its bias
    /// in f32.
    pub fn make_working_weights(&mut self, kind: Kind) -> Vec<Option<Tensor>> {
        let up = self.up.make_working_weights(kind, false);
        up.into_iter().chain(self.convolutions.make_working_weights(kind)).collect()
    }

    pub fn parameters(&self, path: &str) -> Vec<Named<'_>> {
        let mut parameters = self.up.parameters(&format!("{path}.up"));
        parameters.extend(self.convolutions.parameters(path));
        parameters
    }
}
