// The first layer and the head. They have few channels on one side, which tensor cores do not suit. Their own kernels
// (kernels/first_layer.cu, kernels/head.cu) are limited by memory alone; where these do not run, libtorch's operations
// compute the same. Tensors are as in passes.h.
#pragma once
#include <ATen/core/Tensor.h>
#include <array>
#include <tuple>

namespace unet::gpu {

// The first layer: relu(unpadded 3x3 convolution of x + bias). x has one channel, weight is [O, 1, 3, 3].
at::Tensor first_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The gradients of the first layer's weight and bias, from the gradient of its output y.
std::tuple<at::Tensor, at::Tensor> first_layer_gradient(const at::Tensor& gradient, const at::Tensor& y,
                                                        const at::Tensor& x, const at::Tensor& weight);

// The head: the 1x1 convolution of x plus bias.
at::Tensor head(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The gradients of x, weight and bias from the gradient of the head's output. x is the output of a ReLU; its gradient
// is 0 where x is 0.
std::array<at::Tensor, 3> head_gradient(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight);

}  // namespace unet::gpu
