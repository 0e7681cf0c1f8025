//! The layers of the network on the kernels of a backend: own kernels of the CPU, those for a GPU, or libtorch's
//! operations.
//!
//! Shapes: N images, C, O channels, H, W pixels.

use anyhow::Result;
use tch::Tensor;

use super::backend::{Backend, Consumer};
use super::convolution::{Convolution, Weights};
use crate::native::cpu_layers::{self, ReluMasks};
use crate::native::gpu_layers;

/// What a layer must know about its neighbours to apply the gradients of ReLUs once each.
#[derive(Debug, Clone, Copy)]
pub struct ReluGradient {
    /// The layer's input comes from a ReLU.
    pub input_is_relu: bool,
    /// What uses the layer's output.
    pub consumer: Consumer,
}

impl ReluGradient {
    fn masks(self, backend: Backend) -> ReluMasks {
        ReluMasks { input_is_relu: self.input_is_relu, output_is_masked: backend.masks_gradient(self.consumer) }
    }
}

/// ReLU of the unpadded 3x3 convolution of `x`, or of `x` and `x2` concatenated: `[N, C, H, W]` to `[N, O, H - 2, W -
/// 2]`.
pub fn conv3x3_relu(
    backend: Backend,
    convolution: &Convolution,
    x: &Tensor,
    x2: Option<&Tensor>,
    gradient: ReluGradient,
) -> Result<Tensor> {
    let Convolution { weights, bias } = convolution;
    match (backend, weights, x2) {
        (Backend::Cpu, Weights::Packed(packed), _) => cpu_layers::conv3x3_relu_packed(x, x2, packed, bias),
        (Backend::Cpu, Weights::Master(weight) | Weights::MasterAndWorking { master: weight, .. }, _) => {
            cpu_layers::conv3x3_relu(x, x2, weight, bias, gradient.masks(backend))
        }
        (Backend::Gpu { .. }, _, None) => {
            let weight = convolution.weight_for(x.kind())?;
            if backend.has_first_layer(x) {
                return gpu_layers::first_layer(x, weight, bias);
            }
            let cast_bias = convolution.working_bias_for(x.kind());
            let output_is_masked = gradient.masks(backend).output_is_masked;
            gpu_layers::conv3x3_relu(x, weight, bias, cast_bias, output_is_masked)
        }
        _ => {
            let joined = x2.map(|x2| Tensor::cat(&[x, x2], 1));
            Ok(convolution.forward(joined.as_ref().unwrap_or(x))?.relu_())
        }
    }
}

/// The input of a decoder block.
pub enum Joined {
    /// The upsampled channels, then those of the skip connection, in one tensor.
    Concatenated(Tensor),
    /// The same apart, for a convolution that reads both.
    Apart { up: Tensor, skip: Tensor },
}

/// ReLU of the 3x3 transposed convolution with stride 2, `[N, C, H, W]` to `[N, O, 2H, 2W]`, joined with `skip` `[N, O,
/// 2H, 2W]`.
pub fn upconv_relu_join(
    backend: Backend,
    convolution: &Convolution,
    x: &Tensor,
    skip: &Tensor,
    gradient: ReluGradient,
) -> Result<Joined> {
    if let Backend::Gpu { .. } = backend {
        let weight = convolution.weight_for(x.kind())?;
        return Ok(Joined::Concatenated(gpu_layers::upconv_relu_join(x, skip, weight, &convolution.bias)?));
    }
    Ok(Joined::Apart { up: upconv_relu(backend, convolution, x, gradient)?, skip: skip.shallow_clone() })
}

/// ReLU of the 3x3 transposed convolution with stride 2 by itself, for backends that do not join on the way.
pub fn upconv_relu(backend: Backend, convolution: &Convolution, x: &Tensor, gradient: ReluGradient) -> Result<Tensor> {
    let Convolution { weights, bias } = convolution;
    match (backend, weights) {
        (Backend::Cpu, Weights::Packed(packed)) => cpu_layers::upconv_relu_packed(x, packed, bias),
        (Backend::Cpu, Weights::Master(weight) | Weights::MasterAndWorking { master: weight, .. }) => {
            cpu_layers::upconv_relu(x, weight, bias, gradient.masks(backend))
        }
        _ => Ok(convolution.forward_transposed(x)?.relu_()),
    }
}

/// What an encoder level hands on: 2x2 max pooling to the level below, the centre `height` x `width` to the decoder.
pub fn pool_and_crop(backend: Backend, x: &Tensor, height: i64, width: i64) -> Result<(Tensor, Tensor)> {
    match backend {
        Backend::Cpu => cpu_layers::pool_and_crop(x, height, width),
        Backend::Gpu { .. } => gpu_layers::pool_and_crop(x, height, width),
        Backend::Libtorch => Ok((x.max_pool2d(2, 2, 0, 1, false), centre_crop(x, height, width))),
    }
}

/// The 1x1 convolution of `x`, the last layer: `[N, C, H, W]` to `[N, O, H, W]`.
pub fn head(backend: Backend, convolution: &Convolution, x: &Tensor) -> Result<Tensor> {
    match backend {
        Backend::Gpu { .. } => gpu_layers::head(x, convolution.weight_for(x.kind())?, &convolution.bias),
        Backend::Cpu | Backend::Libtorch => {
            let logits = convolution.forward(&x.to_kind(backend.arithmetic(x.kind())?))?;
            Ok(logits.to_kind(x.kind()))
        }
    }
}

/// The middle `height` x `width` of `x`, rounded towards the top left.
pub fn centre_crop(x: &Tensor, height: i64, width: i64) -> Tensor {
    let size = x.size();
    x.narrow(2, (size[2] - height) / 2, height).narrow(3, (size[3] - width) / 2, width)
}

#[cfg(test)]
mod tests;
