// Transposed 3x3 convolution of stride 2 that doubles the size (padding 1, output padding 1), with bias and optional
// ReLU, and its gradients: [N, C, H, W] to [N, O, 2 H, 2 W], weight [C, O, 3, 3]. Conventions of dtype and layout as in
// conv3x3.h.
//
// y[2 i - 1 + k] += x[i] w[k] in both directions, so output pixels fall into four kinds by the parity of their row and
// column, each an ordinary small convolution of x without any product by a zero: an even coordinate uses tap 1 of x[i];
// an odd one tap 2 of x[i] and tap 0 of x[i + 1]. Each tap is a matrix product of [pixels x C] and [C x O].
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

namespace unet {

at::Tensor upconv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu);

// The weights in the form that suits many forward calls with inputs of `dtype`, to replace them; undefined where there
// is none.
std::optional<at::Tensor> upconv_pack(const at::Tensor& weight, at::ScalarType dtype);
at::Tensor upconv_packed(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool relu);

// Gradients of x (undefined unless `input`), weight and bias (undefined unless `parameters`). `output`, if defined: the
// ReLU output whose gradient `grad` is. `mask`, if defined: the gradient of x is set to 0 where it is 0.
std::tuple<at::Tensor, at::Tensor, at::Tensor> upconv_grad(const at::Tensor& grad, const at::Tensor& output,
                                                           const at::Tensor& x, const at::Tensor& weight,
                                                           const at::Tensor& mask, bool input, bool parameters);

}  // namespace unet
