// Choice of the kernel table, once per process.
#include "kernels.h"
#include <cstdlib>
#include <cstring>

namespace unet {
namespace {

enum Isa { generic, avx2, avx512 };

Isa choose() {
#if defined(__x86_64__)
  Isa best = generic;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = avx2;
  if (best == avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    best = avx512;
  const char* wanted = std::getenv("UNET_CPU_ISA");
  if (!wanted) return best;
  if (!std::strcmp(wanted, "generic")) return generic;
  if (!std::strcmp(wanted, "avx2") && best >= avx2) return avx2;
  return best;
#else
  return generic;
#endif
}

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace

const Kernels& kernels_f32() {
#if defined(__x86_64__)
  if (isa() == avx512) return avx512_f32;
  if (isa() == avx2) return avx2_f32;
#endif
  return generic_f32;
}

const Kernels* kernels_bf16() {
#if defined(__x86_64__)
  if (isa() == avx512 && __builtin_cpu_supports("avx512bf16")) return &avx512_bf16;
#endif
  return nullptr;
}

const Kernels* kernels_f32_on_bf16() {
#if defined(__x86_64__)
  if (kernels_bf16()) return &avx512_f32_on_bf16;
#endif
  return nullptr;
}

}  // namespace unet
