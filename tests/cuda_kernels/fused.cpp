// Checks that cuDNN has fused kernels for each 3x3 convolution and each up-convolution of the network, on GPUs that
// need not be present. tests/cuda_kernels.rs builds it with the shim and a libtorch with CUDA.
#include <cstdio>
#include <string>

#include "gpu/fused_convolution.h"

struct Gpu {
  const char* name;
  int version, multiprocessors, shared_memory, l2_cache;
};

// cuDNN's description of a GPU in JSON.
static std::string description(const Gpu& gpu) {
  const std::string fixed =
      R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"warpSize":32,)"
      R"("maxSharedMemoryPerBlock":49152,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
      R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
      R"("supportCoopLaunch":1,"cudaDeviceId":0,"totalGlobalMem":80000000000,"smClockRateKHz":1600000,)"
      R"("memClockRateKHz":2600000,"driverVer":13000,)";
  return fixed + "\"deviceName\":\"" + gpu.name + "\",\"deviceVer\":" + std::to_string(gpu.version) +
         ",\"multiProcessorCount\":" + std::to_string(gpu.multiprocessors) +
         ",\"maxSharedMemoryPerBlockOptin\":" + std::to_string(gpu.shared_memory) +
         ",\"l2CacheSize\":" + std::to_string(gpu.l2_cache) + "}";
}

int main() {
  const Gpu gpus[] = {{"NVIDIA A100-SXM4-80GB", 800, 108, 166912, 40 << 20},
                      {"NVIDIA H200", 900, 132, 232448, 60 << 20}};
  // Input channels, output channels and side of the input, for all layers but the first.
  const int64_t layers[][3] = {{64, 64, 570},  {64, 128, 284},  {128, 128, 282}, {128, 256, 140},  {256, 256, 138},
                               {256, 512, 68}, {512, 512, 66},  {512, 1024, 32}, {1024, 1024, 30}, {1024, 512, 56},
                               {512, 512, 54}, {512, 256, 104}, {256, 256, 102}, {256, 128, 200},  {128, 128, 198},
                               {128, 64, 392}, {64, 64, 390}};
  const int64_t up_convolutions[][3] = {{1024, 512, 28}, {512, 256, 52}, {256, 128, 100}, {128, 64, 196}};
  int failures = 0;
  for (const Gpu& gpu : gpus)
    for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kFloat})
      for (const int64_t images : {1, 8}) {
        const auto require = [&](const char* what, size_t count, int64_t inputs, int64_t outputs) {
          if (count) return;
          failures++;
          std::printf("%s, %s, batch %d, %s of %d to %d channels: none\n", gpu.name, c10::toString(type), int(images),
                      what, int(inputs), int(outputs));
        };
        const std::string described = description(gpu);
        for (const auto [inputs, outputs, side] : layers)
          require("convolution",
                  unet::gpu::count_fused_convolutions(type, {images, inputs, side, side}, outputs, true, described),
                  inputs, outputs);
        for (const auto [inputs, outputs, side] : up_convolutions)
          require("up-convolution",
                  unet::gpu::count_fused_up_convolutions(type, {images, inputs, side, side}, outputs, true, described),
                  inputs, outputs);
      }
  return failures ? 1 : 0;
}
