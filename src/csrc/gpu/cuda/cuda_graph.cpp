// A CUDA graph records the kernels of a step once and then launches them together.
//
// This file compiles and links; it has not run on a GPU.
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
    // The graph gets memory of its own. Memory that libtorch has cached during warm-up would only be held in addition,
    // and a capture does not allow to free it.
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
  // This ends the stream's capture mode. Its own error does not matter: the caller reports the one that ended the
  // capture.
  (void)unet::guard([&] { graph_of(graph)->capture_end(); });
}

void unet_cuda_graph_free(void* graph) {
  // The last launch of the graph may still run.
  (void)unet::guard([] { c10::cuda::device_synchronize(); });
  delete graph_of(graph);
}
