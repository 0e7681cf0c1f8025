// The network's layers with gradients: torch::autograd::Functions over conv3x3.h, upconv.h and pool.h.
//
// Inputs fp32 or bf16, parameters fp32 (they are cast inside; their gradients are fp32). Every layer ends in ReLU. A
// ReLU's gradient costs a pass over memory unless someone who touches the numbers anyway applies it, so two flags move
// it there: `input_is_relu`: x is the output of a ReLU layer, so the gradient for x is also set to 0 where x is 0;
// `output_gradient_is_masked`: every consumer of the output does that, so the layer need not mask the incoming gradient
// itself. Masking twice is harmless; output_gradient_is_masked without a masking consumer gives wrong gradients.
#pragma once
#include <torch/torch.h>
#include <tuple>

namespace unet {

// ReLU of the 3x3 convolution of x, or of x and x2 (may be undefined) concatenated. input_is_relu refers to x alone.
at::Tensor conv3x3_relu(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& weight, const at::Tensor& bias,
                        bool input_is_relu, bool output_gradient_is_masked);

// ReLU of the transposed convolution.
at::Tensor upconv_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool input_is_relu,
                       bool output_gradient_is_masked);

// (max_pool(x), centre crop of x to h x w) of a ReLU output x; masks x's gradient.
std::tuple<at::Tensor, at::Tensor> pool_and_crop(const at::Tensor& x, int64_t h, int64_t w);

}  // namespace unet
