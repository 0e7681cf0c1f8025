// 3x3 convolution, stride 1, no padding, of [N, C, H, W] to [N, O, H - 2, W - 2], with bias and optional ReLU, and its
// gradients.
//
// All tensors on the CPU, fp32 or bf16, channels last (others are copied). `x2` (may be undefined) is a second input
// with the same N, H, W whose channels follow those of `x`: a decoder's convolution of concat(up, crop of skip) without
// the concatenation; a crop is a narrowed view. Weights [O, C, 3, 3] are fp32 in any layout; weight and bias gradients
// are fp32.
//
// Rule: Winograd where it measured faster than ATen's direct convolution, ATen elsewhere (see `plan`): the first layer
// has its own kernel; layers of fewer than 16 channels (bf16: 64) on either side go to ATen; bf16 needs a CPU with bf16
// dot products.
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

namespace unet {

// The weights in the form that suits many forward calls with inputs of `dtype`; undefined where the layer has no such
// form. They replace the weights: at the points for most layers, tap by tap for the largest, whose 36 points in fp32
// would be 4 times as large.
std::optional<at::Tensor> conv3x3_pack(const at::Tensor& weight, at::ScalarType dtype);
at::Tensor conv3x3_packed(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& packed, const at::Tensor& bias,
                          bool relu);

at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& weight, const at::Tensor& bias,
                   bool relu);

// Gradient of the inputs from the gradient of the output. `output`: if defined, the ReLU output whose gradient this is:
// `grad` counts as 0 where it is 0. `mask`, `mask2`: if defined, the gradients of x and x2 are set to 0 where these are
// 0: the ReLU of the layer below, for which its own `output` is then not needed. `first_channels` divides the channels
// between the two results.
std::tuple<at::Tensor, at::Tensor> conv3x3_grad_input(const at::Tensor& grad, const at::Tensor& output,
                                                      const at::Tensor& weight, int64_t first_channels,
                                                      const at::Tensor& mask, const at::Tensor& mask2);

// Gradients of weight (same strides as `weight`) and bias.
std::tuple<at::Tensor, at::Tensor> conv3x3_grad_weight(const at::Tensor& grad, const at::Tensor& output,
                                                       const at::Tensor& x, const at::Tensor& x2,
                                                       const at::Tensor& weight);

}  // namespace unet
