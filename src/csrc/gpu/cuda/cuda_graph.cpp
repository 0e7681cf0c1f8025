// CUDA graphs: the kernels of a step are recorded once and launched together from then on.
// Compiles and links; has not run on a GPU.
#include "api/cuda_graph.h"

#include <memory>

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

namespace {
at::cuda::CUDAGraph* graph_of(void* graph) { return static_cast<at::cuda::CUDAGraph*>(graph); }
}  // namespace

int32_t unet_cuda_graph_begin(void** graph) {
  return unet::guard([&] {
    auto made = std::make_unique<at::cuda::CUDAGraph>();
    // The graph gets memory of its own; what warm-up left cached would only be held besides. Freeing it is not allowed
    // in a capture.
    c10::cuda::device_synchronize();
    c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
    made->capture_begin();
    *graph = made.release();
  });
}

int32_t unet_cuda_graph_end(void* graph) {
  return unet::guard([&] { graph_of(graph)->capture_end(); });
}

int32_t unet_cuda_graph_replay(void* graph) {
  return unet::guard([&] { graph_of(graph)->replay(); });
}

void unet_cuda_graph_abandon(void* graph) {
  // The stream leaves capture mode, and the error that spoilt the capture is reported by the caller.
  (void)unet::guard([&] { graph_of(graph)->capture_end(); });
}

void unet_cuda_graph_free(void* graph) {
  // Its last launch may still run.
  (void)unet::guard([] { c10::cuda::device_synchronize(); });
  delete graph_of(graph);
}
