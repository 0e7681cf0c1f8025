// The network's layers on libtorch's convolutions (cuDNN on a GPU), with gradients: torch::autograd::Functions that
// touch memory as seldom as they can between convolutions. Written for CUDA; they compute the same on any device, which
// is how they are tested.
//
// Inputs of any float dtype; parameters fp32, or of the inputs' dtype. Every layer ends in ReLU and, other than the
// CPU's layers, applies the gradient of its own: the pass that sums the bias gradient does both. Only pooling and the
// head relieve the layer before them of that.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// ReLU of the unpadded 3x3 convolution of an image x with one channel, by kernels of its own. x gets no gradient.
at::Tensor first_layer_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// ReLU of the unpadded 3x3 convolution. cast_bias is bias in the dtype of x, if that is at
// hand. output_gradient_is_masked: every consumer of the output is a pool_and_crop or a head.
at::Tensor conv3x3_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& cast_bias, bool output_gradient_is_masked);

// ReLU of the 3x3 transposed convolution with stride 2, concatenated with skip.
at::Tensor upconv_relu_join(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight,
                            const at::Tensor& bias);

// (max_pool(x), centre crop of x to h x w) of a ReLU output x; masks x's gradient. The crop is a view.
std::tuple<at::Tensor, at::Tensor> pool_and_crop(const at::Tensor& x, int64_t h, int64_t w);

// The 1x1 convolution of x, output of a ReLU; masks x's gradient.
at::Tensor head_of_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace unet::gpu
