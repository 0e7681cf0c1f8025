#include "gpu/cuda/nvrtc.h"

#include <cuda.h>
#include <array>
#include <filesystem>
#include <optional>
#include <vector>

#include "gpu/cuda/library.h"
#include "kernels_source.h"  // KERNELS_SOURCE: lane.cuh and the .cu files, put together by build.rs

namespace unet::gpu {
namespace {

// The functions of nvrtc.h that are used here. A build does not need that header; its types are opaque.
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

// Where NVRTC may be: known to the loader, or near the CUDA runtime that libtorch has loaded. In the wheels they lie in
// one folder (CUDA 13) or in neighbouring folders (CUDA 12). libtorch's archives add a hash to the names.
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

// Loads a library that NVRTC looks for by name and might not find. Once loaded, it is found, by cuDNN too, which
// compiles fused convolutions with NVRTC.
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

const std::optional<Nvrtc>& loaded_nvrtc() {
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

}  // namespace

bool has_nvrtc() { return loaded_nvrtc().has_value(); }

std::string compile_kernels(int capability, const char* scalar) {
  TORCH_CHECK(has_nvrtc(), "no NVRTC (libnvrtc.so.", CUDA_VERSION / 1000, ") was found");
  const Nvrtc& nvrtc = *loaded_nvrtc();
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

}  // namespace unet::gpu
