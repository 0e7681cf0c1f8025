// Cross entropy and 1 - soft Dice of two classes; src/engine/loss.rs defines them. They take three launches. libtorch's
// operations would take some 45, and each launch costs microseconds, however small it is.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// Cross entropy and 1 - soft Dice, each [] fp32, with gradients, of logits [N, 2, H, W] and class indices [N, H, W] in
// int64. Fails where the own kernels do not run.
std::tuple<at::Tensor, at::Tensor> losses(const at::Tensor& logits, const at::Tensor& labels, double epsilon);

}  // namespace unet::gpu
