// Starts kernels through the CUDA driver. The driver's library is looked for at run time, because the program must
// start on a machine without it.
#include "gpu/kernel_launcher.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>

#include "gpu/cuda/library.h"
#include "gpu/cuda/nvrtc.h"

namespace unet::gpu {
namespace {

const char* scalar_name(at::ScalarType type) {
  switch (type) {
    case at::kHalf: return "SCALAR_HALF";
    case at::kBFloat16: return "SCALAR_BFLOAT16";
    case at::kFloat: return "SCALAR_FLOAT";
    default: return nullptr;
  }
}

struct Driver {
  decltype(&cuModuleLoadData) load;
  decltype(&cuModuleGetFunction) function;
  decltype(&cuLaunchKernel) launch;
  decltype(&cuCtxGetCurrent) current_context;
  decltype(&cuDevicePrimaryCtxRetain) primary_context;
  decltype(&cuCtxSetCurrent) set_context;
};

const Driver& driver() {
  static const Driver loaded = [] {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    TORCH_CHECK(library, "no libcuda.so.1");
    Driver d;
    find(library, "cuModuleLoadData", d.load);
    find(library, "cuModuleGetFunction", d.function);
    find(library, "cuLaunchKernel", d.launch);
    find(library, "cuCtxGetCurrent", d.current_context);
    find(library, "cuDevicePrimaryCtxRetain", d.primary_context);
    find(library, "cuCtxSetCurrent", d.set_context);
    return d;
  }();
  return loaded;
}

void check(CUresult result, const char* what) {
  TORCH_CHECK(result == CUDA_SUCCESS, what, " failed with CUDA error ", static_cast<int>(result));
}

// Sets the calling thread's context, which the driver needs. The CUDA runtime sets it only when it is called itself,
// and autograd's threads may come here before that.
void enter_context(int device) {
  CUcontext context = nullptr;
  check(driver().current_context(&context), "asking for the context");
  if (context) return;
  check(driver().primary_context(&context, device), "retaining the context");
  check(driver().set_context(context), "setting the context");
}

// The kernels of one device and dtype; empty if they cannot be compiled or loaded.
using Functions = std::map<std::string, CUfunction>;

Functions load(int device, at::ScalarType type) {
  try {
    const cudaDeviceProp* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    const std::string code = compile_kernels(properties->major * 10 + properties->minor, scalar_name(type));
    const c10::DeviceGuard guard(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
    enter_context(device);
    CUmodule module;
    check(driver().load(&module, code.data()), "loading the kernels");
    Functions functions;
    for (const char* name : {"bias_relu", "bias_relu_join", "mask_and_sum", "max_pool", "pool_crop_gradient",
                             "first_layer", "first_layer_gradient", "head", "head_gradient", "loss_sums", "loss_finish",
                             "loss_gradient", "adam", "note_not_finite"})
      check(driver().function(&functions[name], module, name), "finding a kernel");
    return functions;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "warning: training and prediction will be slower without the own CUDA kernels: %s\n",
                 error.what_without_backtrace());
    return {};
  }
}

const Functions& functions(const at::Tensor& x) {
  static std::mutex mutex;
  static std::map<std::pair<int, at::ScalarType>, Functions> loaded;
  const std::pair<int, at::ScalarType> key(x.get_device(), x.scalar_type());
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = loaded.find(key);
  if (found == loaded.end()) found = loaded.emplace(key, load(key.first, key.second)).first;
  return found->second;
}

}  // namespace

bool kernels_are_ready(const at::Tensor& x) {
  return x.is_cuda() && scalar_name(x.scalar_type()) && !functions(x).empty();
}

unsigned blocks(const at::Tensor& x, int64_t wanted, int64_t per_multiprocessor) {
  // Most multiprocessors hold 2,048 threads, eight blocks. More blocks would only wait.
  const int64_t full = per_multiprocessor * at::cuda::getDeviceProperties(x.get_device())->multiProcessorCount;
  return static_cast<unsigned>(std::min(wanted, full));
}

void launch(const char* kernel, const at::Tensor& x, unsigned grid_x, unsigned grid_y, void** arguments) {
  const c10::DeviceGuard guard(x.device());
  enter_context(x.get_device());
  const CUstream stream = c10::cuda::getCurrentCUDAStream(x.get_device()).stream();
  check(driver().launch(functions(x).at(kernel), grid_x, grid_y, 1, THREADS, 1, 1, 0, stream, arguments, nullptr),
        kernel);
}

bool compile_for(int capability) {
  if (!has_nvrtc()) return false;
  for (const char* scalar : {"SCALAR_HALF", "SCALAR_BFLOAT16", "SCALAR_FLOAT"}) compile_kernels(capability, scalar);
  return true;
}

}  // namespace unet::gpu
