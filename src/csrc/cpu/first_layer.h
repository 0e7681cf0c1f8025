// 3x3 convolution of an image with very few channels, as one matrix product: [pixels, 9 C] times [9 C, O]. The 9 C
// neighbours of a pixel must fit into a panel.
//
// Winograd's algorithm would save nothing here, because the sums are so short. What takes the time is writing the
// output once.
#pragma once
#include <ATen/ATen.h>
#include <tuple>

namespace unet {

// Same contract as conv3x3 and conv3x3_grad_weight in conv3x3.h, but weight and bias must be fp32.
at::Tensor first_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu);
std::tuple<at::Tensor, at::Tensor> first_layer_grad(const at::Tensor& grad, const at::Tensor& output,
                                                    const at::Tensor& x, const at::Tensor& weight);

}  // namespace unet
