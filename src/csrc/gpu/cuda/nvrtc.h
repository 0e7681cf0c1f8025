// Compiles the CUDA kernels at run time, with NVRTC.
//
// NVRTC is looked for at run time: the program must start on a machine without it, and libtorch's own way to it has no
// public header.
#pragma once
#include <string>

namespace unet::gpu {

// Whether there is an NVRTC. The first question loads it.
bool has_nvrtc();

// The kernels as machine code for compute capability `capability`. `scalar` is the macro that names the dtype
// (kernels/lane.cuh). Fails without NVRTC.
std::string compile_kernels(int capability, const char* scalar);

}  // namespace unet::gpu
