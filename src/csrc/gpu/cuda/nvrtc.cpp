// Compiles the kernels of this folder with NVRTC and starts its kernels through the driver. Both libraries are looked
// for at run time: a machine without a driver must start, and libtorch's own way to them has no public header.
#include "gpu/kernel_launcher.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kernels_source.h"  // KERNELS_SOURCE, made from lane.cuh and the .cu files by build.rs

namespace unet::gpu {
namespace {

// Puts a function of a library that was opened at run time into `function`.
template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  TORCH_CHECK(function, "no ", name, " in the library");
}

// What is used of nvrtc.h, whose types are opaque; it is not among the headers that a build needs.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char* source, const char* name, int headers, const char* const*, const char* const*);
  int (*compile)(Program, int options, const char* const*);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*cubin_size)(Program, size_t*);
  int (*cubin)(Program, char*);
  int (*destroy)(Program*);
};

// Where NVRTC may be: known to the loader, or near the CUDA runtime that libtorch loaded. In the wheels both lie in one
// folder (CUDA 13) or in neighbouring ones (CUDA 12); libtorch's archives add a hash to the names.
std::vector<std::string> nvrtc_paths() {
  const std::string name = "libnvrtc.so." + std::to_string(CUDA_VERSION / 1000);
  std::vector<std::string> paths{name};
  Dl_info runtime;
  void* symbol = dlsym(RTLD_DEFAULT, "cudaRuntimeGetVersion");
  if (!symbol || !dladdr(symbol, &runtime)) return paths;
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(runtime.dli_fname).parent_path();
  paths.push_back(folder / name);
  paths.push_back(folder / "../../cuda_nvrtc/lib" / name);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string file = entry.path().filename();
    if (file.rfind("libnvrtc-", 0) == 0 && file.rfind("libnvrtc-builtins", 0) != 0) paths.push_back(entry.path());
  }
  return paths;
}

// NVRTC looks for a library of its own by name, in folders that need not have its own. Once loaded it is found; cuDNN,
// which compiles fused convolutions with NVRTC, gains from that too.
void load_builtins(void* library) {
  Dl_info nvrtc;
  if (!dladdr(dlsym(library, "nvrtcVersion"), &nvrtc)) return;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(nvrtc.dli_fname).parent_path(), ignored)) {
    const std::string file = entry.path().filename();
    if (file.rfind("libnvrtc-builtins.so", 0) == 0) dlopen(entry.path().c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
}

const std::optional<Nvrtc>& nvrtc() {
  static const std::optional<Nvrtc> loaded = []() -> std::optional<Nvrtc> {
    void* library = nullptr;
    for (const std::string& path : nvrtc_paths())
      if ((library = dlopen(path.c_str(), RTLD_NOW))) break;
    if (!library) return std::nullopt;
    load_builtins(library);
    Nvrtc n;
    find(library, "nvrtcCreateProgram", n.create);
    find(library, "nvrtcCompileProgram", n.compile);
    find(library, "nvrtcGetProgramLogSize", n.log_size);
    find(library, "nvrtcGetProgramLog", n.log);
    find(library, "nvrtcGetCUBINSize", n.cubin_size);
    find(library, "nvrtcGetCUBIN", n.cubin);
    find(library, "nvrtcDestroyProgram", n.destroy);
    return n;
  }();
  return loaded;
}

// The kernels as machine code.
std::string compile(const Nvrtc& nvrtc, int capability, const char* scalar) {
  Nvrtc::Program program;
  TORCH_CHECK(nvrtc.create(&program, KERNELS_SOURCE, "kernels.cu", 0, nullptr, nullptr) == 0, "NVRTC makes no program");
  const std::string architecture = "--gpu-architecture=sm_" + std::to_string(capability),
                    define = std::string("-D") + scalar;
  const std::array<const char*, 3> options{architecture.c_str(), define.c_str(), "--std=c++17"};
  const bool compiled = nvrtc.compile(program, options.size(), options.data()) == 0;
  size_t size = 0;
  std::string text;
  if (compiled) {
    nvrtc.cubin_size(program, &size);
    text.resize(size);
    nvrtc.cubin(program, text.data());
  } else {
    nvrtc.log_size(program, &size);
    text.resize(size);
    nvrtc.log(program, text.data());
  }
  nvrtc.destroy(&program);
  TORCH_CHECK(compiled, "NVRTC cannot compile the CUDA kernels (", scalar, ", sm_", capability, "): ", text);
  return text;
}

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

// The driver works in the calling thread's context, which the runtime sets only when it is called itself. Autograd's
// threads may come here before that.
void enter_context(int device) {
  CUcontext context = nullptr;
  check(driver().current_context(&context), "asking for the context");
  if (context) return;
  check(driver().primary_context(&context, device), "retaining the context");
  check(driver().set_context(context), "setting the context");
}

// The kernels of one device and dtype; no functions where they cannot be had.
using Functions = std::map<std::string, CUfunction>;

Functions load(int device, at::ScalarType type) {
  try {
    TORCH_CHECK(nvrtc(), "no NVRTC (libnvrtc.so.", CUDA_VERSION / 1000, ") was found");
    const cudaDeviceProp* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    const std::string code = compile(*nvrtc(), properties->major * 10 + properties->minor, scalar_name(type));
    const c10::DeviceGuard guard(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
    enter_context(device);
    CUmodule module;
    check(driver().load(&module, code.data()), "loading the kernels");
    Functions functions;
    for (const char* name :
         {"bias_relu", "bias_relu_join", "mask_and_sum", "max_pool", "pool_crop_gradient", "first_layer",
          "first_layer_gradient", "head", "head_gradient", "loss_sums", "loss_finish", "loss_gradient", "adam"})
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

unsigned blocks(const at::Tensor& x, int64_t wanted) {
  // Enough for all the threads that a multiprocessor holds (2,048 on most); more would only queue.
  const int64_t most = 8 * at::cuda::getDeviceProperties(x.get_device())->multiProcessorCount;
  return static_cast<unsigned>(std::min(wanted, most));
}

void launch(const char* kernel, const at::Tensor& x, unsigned grid_x, unsigned grid_y, void** arguments) {
  const c10::DeviceGuard guard(x.device());
  enter_context(x.get_device());
  const CUstream stream = c10::cuda::getCurrentCUDAStream(x.get_device()).stream();
  check(driver().launch(functions(x).at(kernel), grid_x, grid_y, 1, THREADS, 1, 1, 0, stream, arguments, nullptr),
        kernel);
}

bool compile_for(int capability) {
  if (!nvrtc()) return false;
  for (const char* scalar : {"SCALAR_HALF", "SCALAR_BFLOAT16", "SCALAR_FLOAT"}) compile(*nvrtc(), capability, scalar);
  return true;
}

}  // namespace unet::gpu
