// Settings of the process, and copies to the GPU that it does not wait for.
#include "unet_native.h"

#include <cstdio>
#include <cstdlib>

#include <dlfcn.h>

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

int32_t unet_allow_tf32(int32_t allow) {
  // Not for cuBLAS: the one matrix product of a step makes the coordinates of augmentation, which TF32 would move by a quarter pixel.
  return unet::guard([&] { at::globalContext().setAllowTF32CuDNN(allow != 0); });
}

int32_t unet_tf32_is_allowed(int32_t *allowed) {
  return unet::guard([&] { *allowed = at::globalContext().allowTF32CuDNN(at::Float32Op::CONV); });
}

int32_t unet_require_deterministic(int32_t require) {
  return unet::guard([&] { at::globalContext().setDeterministicCuDNN(require != 0); });
}

int32_t unet_copy_to_gpu(at::Tensor **out, const at::Tensor *host, int32_t device) {
  return unet::guard([&] {
    const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    // libtorch keeps the pinned memory until the copy is done, though its tensor is gone.
    *out = new at::Tensor(host->pin_memory().to(gpu, /*non_blocking=*/true));
  });
}

void unet_keep_freed_memory(void) {
#if defined(__GLIBC__)
  // By default glibc maps each large tensor afresh and unmaps it when freed, so every activation of
  // every step is paged in again: about a sixth of the time of a step on the CPU.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

int32_t unet_load_cuda(void) {
  return unet::guard([] {
    // The driver comes with a GPU; without it the kernels would cost 235 MB of memory and 0.1 s for nothing. They register
    // themselves with libtorch when their library is loaded, for all to see. It stays loaded.
    const bool loaded = dlopen("libcuda.so.1", RTLD_LAZY) && dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    TORCH_CHECK(loaded, dlerror());
  });
}

void unet_exit(int32_t code) {
  std::fflush(nullptr);
  std::_Exit(code);
}
