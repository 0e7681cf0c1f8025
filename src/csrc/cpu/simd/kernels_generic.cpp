// The kernels for any CPU: vectors of 4 lanes, which are SSE2 on x86-64 and NEON on aarch64. NEON has 32 registers,
// SSE2 has 16.
#define UNET_LANES 4
#define UNET_BLOCK_VECTORS 4
#if defined(__aarch64__)
#define UNET_BLOCK_ROWS 6
#else
#define UNET_BLOCK_ROWS 2
#endif
#include "cpu/simd/make_table.h"

namespace unet {
const KernelTable generic_f32 = table<F32>("generic");
const KernelTable generic_f32_on_bf16 = table<F32OnBF16>("generic on bf16 images");
const KernelTable generic_f32_2x2 = table<F32Of2x2>("generic, 2x2");
const KernelTable generic_f32_on_bf16_2x2 = table<F32OnBF16Of2x2>("generic on bf16 images, 2x2");
}  // namespace unet
