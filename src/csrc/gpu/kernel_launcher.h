// Starts the own CUDA kernels (kernels/), which are compiled at their first use (cuda/kernel_launcher.cpp). A build
// without CUDA has none (no_cuda/stubs.cpp).
#pragma once
#include <ATen/core/Tensor.h>

namespace unet::gpu {

// The number of threads in a block, in every kernel.
constexpr unsigned THREADS = 256;

// Whether the kernels run on the device and dtype of x. The first question compiles them. If that fails, it prints a
// warning to stderr.
bool kernels_are_ready(const at::Tensor& x);

// The number of blocks that fill the device of x with work, at most `wanted`: for each multiprocessor as many as it
// holds, `per_multiprocessor`. By default these have all the threads that a multiprocessor holds.
unsigned blocks(const at::Tensor& x, int64_t wanted, int64_t per_multiprocessor = 8);

// Starts `kernel` for the dtype of x on the current stream of its device.
void launch(const char* kernel, const at::Tensor& x, unsigned grid_x, unsigned grid_y, void** arguments);

// Compiles all kernels for compute capability `capability` (75 means 7.5), without such a device. False if there is no
// NVRTC.
bool compile_for(int capability);

}  // namespace unet::gpu
