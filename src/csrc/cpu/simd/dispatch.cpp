#include "cpu/simd/dispatch.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <ATen/cpu/Utils.h>
#include <c10/util/Exception.h>

namespace unet {
namespace {

// avx512: with the dot products of bf16 where the CPU has them; avx512_without_bf16 leaves them out, as on a CPU
// without them. amx: the kernels of avx512, and oneDNN's for bf16 convolutions.
enum Isa { generic, avx2, avx512_without_bf16, avx512, amx };
constexpr const char* names[] = {"generic", "avx2", "avx512-without-bf16", "avx512", "amx"};

// The best instruction set that this CPU can run.
Isa best() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return generic;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!wide) return avx2;
  // The system grants the tiles on request.
  return __builtin_cpu_supports("amx-bf16") && at::cpu::init_amx() ? amx : avx512;
#else
  return generic;
#endif
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{best()};
  return isa;
}

Isa isa() { return chosen().load(std::memory_order_relaxed); }

}  // namespace

void use_isa(const char* name) {
  for (const Isa isa : {generic, avx2, avx512_without_bf16, avx512, amx}) {
    if (std::strcmp(name, names[isa])) continue;
    TORCH_CHECK(std::min(isa, avx512) <= best(), "UNET_CPU_ISA is '", name, "', which this CPU cannot run; use '",
                names[best()], "' or unset it");
    chosen().store(isa, std::memory_order_relaxed);
    return;
  }
  TORCH_CHECK(false, "UNET_CPU_ISA is '", name,
              "'; use amx, avx512, avx512-without-bf16, avx2, generic or aten, or unset it");
}

const char* isa_name() { return names[isa()]; }

bool leaves_bf16_to_onednn() { return isa() == amx; }

const KernelTable& kernels_f32() {
#if defined(__x86_64__)
  const Isa chosen = isa();
  if (chosen >= avx512_without_bf16) return avx512_f32;
  if (chosen == avx2) return avx2_f32;
#endif
  return generic_f32;
}

bool multiplies_bf16() {
#if defined(__x86_64__)
  return isa() >= avx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const KernelTable& kernels_bf16() {
#if defined(__x86_64__)
  if (multiplies_bf16()) return avx512_bf16;
#endif
  return kernels_f32_on_bf16();
}

const KernelTable& kernels_f32_on_bf16() {
#if defined(__x86_64__)
  const Isa chosen = isa();
  if (multiplies_bf16()) return avx512_f32_on_bf16_rounding;
  if (chosen >= avx512_without_bf16) return avx512_f32_on_bf16;
  if (chosen == avx2) return avx2_f32_on_bf16;
#endif
  return generic_f32_on_bf16;
}

const KernelTable& kernels_2x2(bool on_bf16) {
#if defined(__x86_64__)
  const Isa chosen = isa();
  if (chosen >= avx512_without_bf16) return on_bf16 ? avx512_f32_on_bf16_2x2 : avx512_f32_2x2;
  if (chosen == avx2) return on_bf16 ? avx2_f32_on_bf16_2x2 : avx2_f32_2x2;
#endif
  return on_bf16 ? generic_f32_on_bf16_2x2 : generic_f32_2x2;
}

}  // namespace unet
