// 3x3 convolution with stride 1 and no padding: [N, C, H, W] to [N, O, H - 2, W - 2], with bias and optional ReLU. And
// its gradients.
//
// All tensors are on the CPU, fp32 or bf16, in channels-last memory; tensors with another layout are copied. `x2` may
// be undefined. If defined, it has the N, H, W of `x`, and its channels follow those of `x`. So a decoder convolves up
// and the crop of skip without concatenating them; a crop is a narrowed view. Weights [O, C, 3, 3] are fp32 in any
// layout. Gradients of weights and biases are fp32.
//
// Three algorithms, each used where it was measured to be the fastest (`choose`):
// * first_layer.h for very few input channels.
// * Winograd for layers with at least 16 channels on both sides. In bf16 its products are of bf16 from 64 channels on
//   both sides on, and of floats, with larger tiles, from 32 inputs on, or without instructions for bf16 products in
//   all layers. On a CPU with AMX ATen's convolution in bf16 is faster.
// * ATen's direct convolution for the rest; in prediction by onednn.h.
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

namespace unet {

// Packs weights for many forward calls with inputs of `dtype`; packed weights replace the weights. None if the layer
// has no packed form. Most layers keep their filters evaluated at Winograd's points. The largest layers keep them tap
// by tap, because 64 points in fp32 are 7 times as large as 9 taps.
std::optional<at::Tensor> conv3x3_pack(const at::Tensor& weight, at::ScalarType dtype);
at::Tensor conv3x3_packed(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& packed, const at::Tensor& bias,
                          bool relu);

at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& weight, const at::Tensor& bias,
                   bool relu);

// Gradients of x and x2 from `grad`, the gradient of the output. x has the first `first_channels` channels.
// `output` is the output of this layer's ReLU: `grad` counts as 0 where it is 0. Undefined if `grad` is masked already.
// `mask` and `mask2` are x and x2 if they come from a ReLU, else undefined: their gradients become 0 where they are 0.
std::tuple<at::Tensor, at::Tensor> conv3x3_grad_input(const at::Tensor& grad, const at::Tensor& output,
                                                      const at::Tensor& weight, int64_t first_channels,
                                                      const at::Tensor& mask, const at::Tensor& mask2);

// Gradients of weight, with the strides of `weight`, and of bias.
std::tuple<at::Tensor, at::Tensor> conv3x3_grad_weight(const at::Tensor& grad, const at::Tensor& output,
                                                       const at::Tensor& x, const at::Tensor& x2,
                                                       const at::Tensor& weight);

}  // namespace unet
