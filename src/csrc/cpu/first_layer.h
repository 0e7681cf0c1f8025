// 3x3 convolution of an image of very few channels (9 C at most a panel): the matrix product of [pixels x 9 C] and [9 C
// x O].
//
// Winograd would not pay: there is next to nothing to sum over. The work is to write the output once, at memory speed.
#pragma once
#include <ATen/ATen.h>
#include <tuple>

namespace unet {

// As conv3x3 and conv3x3_grad_weight of conv3x3.h; weight and bias fp32.
at::Tensor first_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu);
std::tuple<at::Tensor, at::Tensor> first_layer_grad(const at::Tensor& grad, const at::Tensor& output,
                                                    const at::Tensor& x, const at::Tensor& weight);

}  // namespace unet
