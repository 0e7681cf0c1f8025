// The functions that compile without CUDA; gpu/cuda/device.cpp has the others.
#include "api/cuda.h"

#include <dlfcn.h>

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

int32_t unet_load_cuda(void) {
  return unet::guard([] {
    // Look for the driver first, because without one the kernels would cost 235 MB of memory and 0.1 s for nothing.
    // They register themselves with libtorch when their library is loaded. RTLD_GLOBAL makes its symbols visible to
    // all, and it stays loaded.
    const bool loaded = dlopen("libcuda.so.1", RTLD_LAZY) && dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    TORCH_CHECK(loaded, dlerror());
  });
}

int32_t unet_allow_tf32(int32_t allow) {
  // cuBLAS keeps fp32: the one matrix product of a step computes the coordinates of augmentation, and TF32 would move
  // them by a quarter pixel.
  return unet::guard([&] { at::globalContext().setAllowTF32CuDNN(allow != 0); });
}

int32_t unet_tf32_is_allowed(int32_t* allowed) {
  return unet::guard([&] { *allowed = at::globalContext().allowTF32CuDNN(at::Float32Op::CONV); });
}

int32_t unet_require_deterministic(int32_t require) {
  return unet::guard([&] { at::globalContext().setDeterministicCuDNN(require != 0); });
}

int32_t unet_copy_to_gpu(at::Tensor** out, const at::Tensor* host, int32_t device) {
  return unet::guard([&] {
    const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    // libtorch keeps the pinned memory until the copy is done, although its tensor is freed here.
    *out = new at::Tensor(host->pin_memory().to(gpu, /*non_blocking=*/true));
  });
}
