//! The blocks of the U-Net (paper, section 2). One struct per block, one `forward` each.
//!
//! Shapes: N images, C channels, H, W pixels; activations `[N, C, H, W]` in channels-last memory.
//! Parameters are f32; they are used in the dtype of the activation that they meet, so that an input
//! in float16 or bfloat16 makes the whole network compute in it (mixed precision with f32 weights).
//! Tensor names follow PyTorch's modules (`weight`, `bias`).

use anyhow::Result;
use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

use super::layers;
use crate::native::{self, OutputMask, PackedFilters, ReluGradient};

/// A parameter with its path, such as `encoder.0.conv1.weight`.
pub type Named<'a> = (String, &'a Tensor);

/// Where parameters come from: f32 values on the right device for a path and a shape.
pub type Source<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;

/// A function that puts weights into the form that own kernels multiply with, for inputs like the second argument.
type Pack = fn(&Tensor, &Tensor) -> Result<Option<PackedFilters>>;

/// A convolution's kernel `[out, in, k, k]` and bias `[out]`; for a transposed one `[in, out, k, k]`.
#[derive(Debug)]
pub struct Convolution {
    pub weight: Tensor,
    pub bias: Tensor,
    /// A copy of `weight`, then the master copy, in the dtype of activations (Micikevicius et al., 2018). The network multiplies with it in
    /// place of `weight`, it gets the gradient, and the optimiser keeps it up to date.
    pub working: Option<Tensor>,
    /// A copy of `bias` in the same dtype, for kernels that add it so; kept up to date too, but without gradient.
    pub working_bias: Option<Tensor>,
    /// In a `Predictor` the weights in the form that it multiplies with; `weight` is then undefined.
    pub packed: Option<PackedFilters>,
}

impl Convolution {
    fn new(path: &str, kernel: [i64; 4], outputs: i64, source: &mut Source) -> Result<Self> {
        let weight = channels_last(&source(&format!("{path}.weight"), &kernel)?);
        let bias = source(&format!("{path}.bias"), &[outputs])?;
        Ok(Self {
            weight: weight.set_requires_grad(true),
            bias: bias.set_requires_grad(true),
            working: None,
            working_bias: None,
            packed: None,
        })
    }

    /// Unpadded `size` x `size` convolution.
    pub fn plain(path: &str, inputs: i64, outputs: i64, size: i64, source: &mut Source) -> Result<Self> {
        Self::new(path, [outputs, inputs, size, size], outputs, source)
    }

    /// 3x3 transposed convolution with stride 2.
    pub fn transposed(path: &str, inputs: i64, outputs: i64, source: &mut Source) -> Result<Self> {
        Self::new(path, [inputs, outputs, 3, 3], outputs, source)
    }

    /// Unpadded convolution: `[N, in, H, W]` to `[N, out, H - k + 1, W - k + 1]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = self.cast(x.kind());
        x.conv2d(&weight, Some(bias), 1, 0, 1, 1)
    }

    /// Transposed convolution with stride 2: `[N, in, H, W]` to `[N, out, 2H, 2W]`.
    pub fn forward_transposed(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = self.cast(x.kind());
        x.conv_transpose2d(&weight, Some(bias), 2, 1, 1, 1, 1)
    }

    /// Makes this a layer of a `Predictor` for inputs like `like`: the weights are replaced by what `pack` makes of them, where
    /// it makes something. Elsewhere ours are cast once instead of in each prediction, unless own kernels want them in f32.
    pub fn prepare(&mut self, like: &Tensor, pack: Pack) -> Result<()> {
        (self.working, self.working_bias) = (None, None);
        if !layers::has_own_kernels(like) {
            (self.weight, self.bias) = tch::no_grad(|| self.cast(like.kind()));
            return Ok(());
        }
        self.packed = pack(&self.weight, like)?;
        if self.packed.is_some() {
            self.weight = Tensor::new();
        }
        Ok(())
    }

    /// The weights to multiply activations of `kind` with; of another dtype where nothing keeps them in that.
    pub fn weight_for(&self, kind: Kind) -> &Tensor {
        self.working.as_ref().filter(|working| working.kind() == kind).unwrap_or(&self.weight)
    }

    fn cast(&self, kind: Kind) -> (Tensor, Tensor) {
        (self.weight_for(kind).to_kind(kind), self.bias.to_kind(kind))
    }

    /// Makes `working`, and returns it.
    pub fn keep_working_weight(&mut self, kind: Kind) -> &Tensor {
        self.working.insert(self.weight.detach().to_kind(kind).set_requires_grad(true))
    }

    /// Makes `working_bias`, and returns it.
    pub fn keep_working_bias(&mut self, kind: Kind) -> &Tensor {
        self.working_bias.insert(self.bias.detach().to_kind(kind))
    }

    pub fn parameters(&self, path: &str) -> [Named<'_>; 2] {
        [(format!("{path}.weight"), &self.weight), (format!("{path}.bias"), &self.bias)]
    }
}

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
    pub fn forward(&self, x: &Tensor, x2: Option<&Tensor>, gradient: ReluGradient) -> Result<Tensor> {
        let between = ReluGradient { output_mask: OutputMask::Convolutions, ..gradient };
        let x = layers::conv3x3_relu(&self.conv1, x, x2, between)?;
        layers::conv3x3_relu(&self.conv2, &x, None, ReluGradient { input_is_relu: true, ..gradient })
    }

    /// See `Convolution::prepare`.
    pub fn prepare(&mut self, like: &Tensor) -> Result<()> {
        self.conv1.prepare(like, native::pack_conv3x3)?;
        self.conv2.prepare(like, native::pack_conv3x3)
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
    pub fn forward(&self, x: &Tensor, skip: &Tensor, gradient: ReluGradient) -> Result<Tensor> {
        let between = ReluGradient { output_mask: OutputMask::Convolutions, ..gradient };
        let (x, x2) = layers::upconv_relu(&self.up, x, skip, between)?;
        self.convolutions.forward(&x, x2.as_ref(), ReluGradient { input_is_relu: true, ..gradient })
    }

    /// See `Convolution::prepare`.
    pub fn prepare(&mut self, like: &Tensor) -> Result<()> {
        self.up.prepare(like, native::pack_upconv)?;
        self.convolutions.prepare(like)
    }

    pub fn parameters(&self, path: &str) -> Vec<Named<'_>> {
        let mut parameters = self.up.parameters(&format!("{path}.up")).to_vec();
        parameters.extend(self.convolutions.parameters(path));
        parameters
    }
}

/// The middle `height` x `width` of `x`, rounded towards the top left.
pub fn centre_crop(x: &Tensor, height: i64, width: i64) -> Tensor {
    let size = x.size();
    x.narrow(2, (size[2] - height) / 2, height).narrow(3, (size[3] - width) / 2, width)
}

/// `x` in channels-last memory, which the convolution kernels of CPU and GPU prefer.
pub fn channels_last(x: &Tensor) -> Tensor {
    // `tch` has no argument for the memory format; a contiguous copy of the permuted tensor has that layout.
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Glorot uniform weights (the reference's default initialiser) and zero biases, drawn from `rng` in the
/// order in which they are asked for.
pub fn glorot_uniform(rng: &mut impl Rng, device: Device) -> impl FnMut(&str, &[i64]) -> Result<Tensor> {
    move |_path, shape| {
        let &[outputs, inputs, height, width] = shape else {
            return Ok(Tensor::zeros(shape, (Kind::Float, device)));
        };
        let fans = (outputs + inputs) * height * width;
        let bound = (6.0 / fans as f64).sqrt() as f32;
        let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| rng.random_range(-bound..bound)).collect();
        Ok(Tensor::from_slice(&values).view(shape).to_device(device))
    }
}
