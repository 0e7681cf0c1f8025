// The layers with few channels on one side, the first and the head, which tensor cores do not suit: by own kernels that
// are bound by memory (cuda/first_layer.cu, cuda/head.cu) where they can run, else in libtorch's operations, with equal
// results on any device. Tensors as in passes.h.
#pragma once
#include <ATen/core/Tensor.h>
#include <array>
#include <tuple>

namespace unet::gpu {

// The first layer, relu(convolution of x + bias): x has one channel, weight is [O, 1, 3, 3].
at::Tensor first_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The gradients of its weight and bias, from that of its output y.
std::tuple<at::Tensor, at::Tensor> first_layer_gradient(const at::Tensor& gradient, const at::Tensor& y,
                                                        const at::Tensor& x, const at::Tensor& weight);

// The head, the 1x1 convolution of x plus bias.
at::Tensor head(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The gradients of x (0 where x, output of a ReLU, is 0), weight and bias from that of the head's output.
std::array<at::Tensor, 3> head_gradient(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight);

}  // namespace unet::gpu
