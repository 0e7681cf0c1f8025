// The kernels for x86-64 with AVX-512 BF16: blocks as with AVX-512. Each word is a pair of bf16 for the dot product
// vdpbf16ps.
#if defined(__x86_64__)
#include <immintrin.h>
#include <cstdint>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")
#endif
#define UNET_BF16 1
#define UNET_LANES 16
#define UNET_BLOCK_ROWS 6
#define UNET_BLOCK_VECTORS 4
#include "cpu/simd/make_table.h"

namespace unet {
const KernelTable avx512_f32_on_bf16_rounding = table<F32OnBF16>("avx512 on bf16 images, rounding");
const KernelTable avx512_bf16 = table<BF16>("avx512-bf16");
}  // namespace unet
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
