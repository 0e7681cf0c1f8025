// The kernels for x86-64 with AVX2 and FMA: 16 registers, 6 x 2 of them for sums.
#if defined(__x86_64__)
#include <cstdint>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define UNET_LANES 8
#define UNET_BLOCK_ROWS 6
#define UNET_BLOCK_VECTORS 2
#include "cpu/simd/make_table.h"

namespace unet {
const KernelTable avx2_f32 = table<F32>("avx2");
const KernelTable avx2_f32_on_bf16 = table<F32OnBF16>("avx2 on bf16 images");
const KernelTable avx2_f32_2x2 = table<F32Of2x2>("avx2, 2x2");
const KernelTable avx2_f32_on_bf16_2x2 = table<F32OnBF16Of2x2>("avx2 on bf16 images, 2x2");
}  // namespace unet
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
