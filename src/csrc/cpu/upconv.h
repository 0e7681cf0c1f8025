// Transposed 3x3 convolution with stride 2, padding 1 and output padding 1, which doubles the size: [N, C, H, W] to
// [N, O, 2 H, 2 W], weight [C, O, 3, 3], with bias and optional ReLU. And its gradients. Dtypes and layouts are as in
// conv3x3.h.
//
// In both directions y[2 i - 1 + k] += x[i] w[k]. So the parities of its row and column divide the output pixels into
// four kinds. Each kind is a small convolution of x without products by zero: an even coordinate takes x[i] times tap
// 1; an odd coordinate takes x[i] times tap 2 and x[i + 1] times tap 0. Each tap is a matrix product: [pixels, C] times
// [C, O]. In floats most layers take fewer products by Winograd's algorithm (upconv_winograd.h).
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

namespace unet {

at::Tensor upconv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu);

// Packs weights for many forward calls with inputs of `dtype`; packed weights replace the weights. None if the layer
// has no packed form.
std::optional<at::Tensor> upconv_pack(const at::Tensor& weight, at::ScalarType dtype);
at::Tensor upconv_packed(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool relu);

// Gradients of x (undefined unless `input`), of weight and of bias (undefined unless `parameters`). `output` and `mask`
// are as in conv3x3_grad_input.
std::tuple<at::Tensor, at::Tensor, at::Tensor> upconv_grad(const at::Tensor& grad, const at::Tensor& output,
                                                           const at::Tensor& x, const at::Tensor& weight,
                                                           const at::Tensor& mask, bool input, bool parameters);

}  // namespace unet
