// The kernels for x86-64 with AVX-512: 32 registers, 6 x 4 of them for sums.
#if defined(__x86_64__)
#include <cstdint>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#define UNET_LANES 16
#define UNET_BLOCK_ROWS 6
#define UNET_BLOCK_VECTORS 4
#include "cpu/simd/make_table.h"

namespace unet {
const KernelTable avx512_f32 = table<F32>("avx512");
const KernelTable avx512_f32_on_bf16 = table<F32OnBF16>("avx512 on bf16 images");
const KernelTable avx512_f32_2x2 = table<F32Of2x2>("avx512, 2x2");
const KernelTable avx512_f32_on_bf16_2x2 = table<F32OnBF16Of2x2>("avx512 on bf16 images, 2x2");
}  // namespace unet
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
