// Convolution, bias and ReLU in one kernel of cuDNN's (cuda/fused_convolution.cpp). The sums go through bias and ReLU
// before they are written, which saves a pass over memory.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <string>

namespace unet::gpu {

// relu(unpadded 3x3 convolution of x + bias), for tensors on a GPU as in passes.h and a weight [O, C, 3, 3]. The result
// is undefined if cuDNN has no such kernel, or if `in_two_steps`, where given, is faster than the fastest one. The
// first call with a shape times them, unless cuDNN's autotuning is off.
at::Tensor fused_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const std::function<at::Tensor()>& in_two_steps);

// The number of such kernels that cuDNN has for x with sizes [N, C, H, W] on a GPU that need not be present: `gpu` is
// cuDNN's description of it in JSON.
size_t count_fused_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                const std::string& gpu);

}  // namespace unet::gpu
