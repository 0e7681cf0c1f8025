// Cross entropy and 1 - soft Dice of two classes (src/loss.rs says what they are) in three launches, where libtorch's
// operations take some 45, each of which costs microseconds whatever its size.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// Both, `[]` fp32, with gradients, for logits [N, 2, H, W] and class indices [N, H, W] of int64. Only where the own
// kernels run.
std::tuple<at::Tensor, at::Tensor> losses(const at::Tensor& logits, const at::Tensor& labels, double epsilon);

}  // namespace unet::gpu
