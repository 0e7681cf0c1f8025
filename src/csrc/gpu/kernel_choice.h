// Which kernels the layers of a GPU use. Rust makes the choice (api/gpu_layers.h).
#pragma once
#include <ATen/core/Tensor.h>

namespace unet::gpu {

enum class KernelChoice {
  own,       // own passes; convolution, bias and ReLU in one kernel of cuDNN's or in two steps, whichever is faster
  fused,     // the same, always in one kernel where cuDNN has one
  separate,  // the same, always in two steps
  aten,      // libtorch's operations
};

KernelChoice kernel_choice();

// For the whole process; `which` counts the values above from 0. Before the first call the choice is `own`.
void choose_kernels(int which);

// Whether the own kernels are chosen and run on the device and dtype of x. The first question compiles them.
bool own_kernels_run_on(const at::Tensor& x);

}  // namespace unet::gpu
