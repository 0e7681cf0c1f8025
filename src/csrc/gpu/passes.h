// The passes over memory between the convolutions, each once over its tensors where the own kernels (cuda/passes.cu)
// can run, else in libtorch's operations, with equal results on any device. Tensors are [N, C, H, W] in channels-last
// memory; `bias` and sums are fp32 (fp64 for fp64 tensors).
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// x = relu(x + bias).
void bias_relu_(at::Tensor& x, const at::Tensor& bias);

// relu(x + bias) and skip, which may be a view, concatenated.
at::Tensor bias_relu_join(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& skip);

// The gradient, 0 where the ReLU output y is 0, and its sum per channel. Without y it is 0 there already and passed on.
// Both inputs may be views of some of the channels of a larger tensor.
std::tuple<at::Tensor, at::Tensor> mask_and_sum(const at::Tensor& gradient, const at::Tensor& y);

// 2x2 max pooling.
at::Tensor max_pool(const at::Tensor& x);

// The gradient of x, output of a ReLU, from those of max_pool(x) and of the crop of x at (top, left); one of them may
// be undefined.
at::Tensor pool_crop_gradient(const at::Tensor& x, const at::Tensor& pooled, const at::Tensor& crop, int64_t top,
                              int64_t left);

}  // namespace unet::gpu
