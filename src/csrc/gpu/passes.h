// The passes over memory between the convolutions. Where the own kernels (kernels/passes.cu) run, each goes once over
// its tensors; elsewhere libtorch's operations compute the same. Tensors are [N, C, H, W] in channels-last memory.
// `bias` and sums are fp32, or fp64 for fp64 tensors.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// x = relu(x + bias).
void bias_relu_(at::Tensor& x, const at::Tensor& bias);

// The concatenation of relu(x + bias) and skip. skip may be a view.
at::Tensor bias_relu_join(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& skip);

// `gradient` with 0 where y, the output of a ReLU, is 0; and its sum per channel. If y is undefined, the gradient is
// masked already and returned as it is. Both inputs may be views of some channels of a larger tensor.
std::tuple<at::Tensor, at::Tensor> mask_and_sum(const at::Tensor& gradient, const at::Tensor& y);

// 2x2 max pooling.
at::Tensor max_pool(const at::Tensor& x);

// The gradient of x, the output of a ReLU, from `pooled`, the gradient of max_pool(x), and `crop`, the gradient of the
// crop of x at (top, left). One of them may be undefined.
at::Tensor pool_crop_gradient(const at::Tensor& x, const at::Tensor& pooled, const at::Tensor& crop, int64_t top,
                              int64_t left);

}  // namespace unet::gpu
