// The network's layers on the CPU, with gradients: torch::autograd::Functions over conv3x3.h, upconv.h and pool.h.
//
// Inputs are fp32 or bf16. Parameters and their gradients are fp32; the layers cast parameters themselves. Every layer
// ends in ReLU.
//
// A ReLU's gradient would need a pass over memory of its own. Two flags move it into a pass that exists anyway:
// * `input_is_relu`: x is the output of a ReLU layer. The layer sets the gradient of x to 0 where x is 0.
// * `output_gradient_is_masked`: every layer that uses the output does so, and this layer need not mask the gradient
//   that it receives. Gradients are wrong if one of them does not. Masking twice is harmless.
#pragma once
#include <torch/torch.h>
#include <tuple>

namespace unet {

// ReLU of the 3x3 convolution of x, or of x and x2 concatenated if x2 is defined. input_is_relu is about x alone.
at::Tensor conv3x3_relu(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& weight, const at::Tensor& bias,
                        bool input_is_relu, bool output_gradient_is_masked);

// ReLU of the transposed 3x3 convolution with stride 2.
at::Tensor upconv_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool input_is_relu,
                       bool output_gradient_is_masked);

// 2x2 max pooling of x, and the centre of x, h x w. x is the output of a ReLU; its gradient is masked here.
std::tuple<at::Tensor, at::Tensor> pool_and_crop(const at::Tensor& x, int64_t h, int64_t w);

}  // namespace unet
