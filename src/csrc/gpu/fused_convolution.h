// Convolution, bias and ReLU in one kernel of cuDNN's (cuda/fused_convolution.cpp): the convolution's result stays out
// of memory until it is done, which saves a pass over it.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <string>

namespace unet::gpu {

// relu(3x3 convolution of x + bias), unpadded, for tensors of a GPU as in passes.h, weight [O, C, 3, 3]. Undefined
// where cuDNN has no such kernel, or where the fastest one loses to `in_two_steps`, if given: found out by timing at
// the first use of each shape, unless cuDNN's autotuning is off.
at::Tensor fused_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const std::function<at::Tensor()>& in_two_steps);

// How many such kernels cuDNN has for x of sizes [N, C, H, W] on a GPU that need not be there: `gpu` is cuDNN's
// description of it in JSON.
size_t count_fused_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                const std::string& gpu);

}  // namespace unet::gpu
