// The kernel table in use: the best one that this CPU can run, or the one that Rust asked for.
#pragma once
#include "cpu/simd/kernel_table.h"

namespace unet {

// Uses the tables of the instruction set `name` (avx512, avx2, generic) from now on. Fails if the name is unknown or
// this CPU cannot run them.
void use_isa(const char* name);

// The name of the instruction set in use.
const char* isa_name();

const Kernels& kernels_f32();
// Null where the CPU has no bf16 dot product: callers then use ATen.
const Kernels* kernels_bf16();

// For bf16 images too, but computing in floats; only what a convolution needs. Null as above.
const Kernels* kernels_f32_on_bf16();

}  // namespace unet
