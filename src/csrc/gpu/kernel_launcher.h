// The own CUDA kernels, compiled when first used (cuda/kernels.cpp); none in a build without CUDA
// (without_cuda/kernels.cpp).
#pragma once
#include <ATen/core/Tensor.h>

namespace unet::gpu {

// Threads of a block, in every kernel.
constexpr unsigned THREADS = 256;

// Whether the kernels run on the device and dtype of x. Compiles them at the first question; says so on stderr where
// that fails.
bool kernels_are_ready(const at::Tensor& x);

// Blocks that fill the device of x with work, at most `wanted`.
unsigned blocks(const at::Tensor& x, int64_t wanted);

// Starts `kernel` for the dtype of x on its device's current stream.
void launch(const char* kernel, const at::Tensor& x, unsigned grid_x, unsigned grid_y, void** arguments);

// Compiles all kernels for a device of compute capability `capability` (75 is 7.5) without one; false where there is no
// NVRTC.
bool compile_for(int capability);

}  // namespace unet::gpu
