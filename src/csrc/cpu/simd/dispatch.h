// The kernel table in use: the best one that this CPU can run, or the one that Rust asked for.
#pragma once
#include "cpu/simd/kernel_table.h"

namespace unet {

// Uses the tables of the instruction set `name` (amx, avx512, avx512-without-bf16, avx2, generic) from now on. Fails if
// the name is unknown or this CPU cannot run them; `amx` works on a CPU with AVX-512 alone too, slowly.
void use_isa(const char* name);

// The name of the instruction set in use.
const char* isa_name();

// Whether bf16 convolutions are left to oneDNN, which multiplies by AMX's tiles: there it is 2 to 4 times as fast as
// AVX-512's dot products, on a Sapphire Rapids in every layer that Winograd or upconv.h would compute.
bool leaves_bf16_to_onednn();

// The kernels for fp32.
const KernelTable& kernels_f32();

// Whether the CPU has dot products of bf16. Without them bf16 images are computed in floats, which is faster than what
// ATen and oneDNN do there.
bool multiplies_bf16();

// The kernels for bf16 images: those of dot products in bf16, or else kernels_f32_on_bf16.
const KernelTable& kernels_bf16();

// The kernels that read and write bf16 images and compute in floats.
const KernelTable& kernels_f32_on_bf16();

// The kernels for filters of 2x2 taps that compute in floats, for images of floats, or of bf16 if `on_bf16`.
const KernelTable& kernels_2x2(bool on_bf16);

}  // namespace unet
