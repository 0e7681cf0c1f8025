// CUDA graphs: the kernels of a step are recorded once and launched together from then on.
// Compiles and links; has not run on a GPU.
#include "../unet_native.h"

#include <memory>

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

namespace {
at::cuda::CUDAGraph *graph_of(void *graph) { return static_cast<at::cuda::CUDAGraph *>(graph); }
}  // namespace

int32_t unet_cuda_use_device(int32_t device, int32_t own_stream) {
  return unet::guard([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    // NCCL's communicator, a graph, its stream and the generator of random numbers are those of the current device.
    c10::cuda::set_device(index);
    if (own_stream) c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index));
  });
}

int32_t unet_cuda_graph_begin(void **graph) {
  return unet::guard([&] {
    auto made = std::make_unique<at::cuda::CUDAGraph>();
    // The graph gets memory of its own; what warm-up left cached would only be held besides. Freeing it is not allowed in a capture.
    c10::cuda::device_synchronize();
    c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
    made->capture_begin();
    *graph = made.release();
  });
}

int32_t unet_cuda_graph_end(void *graph) {
  return unet::guard([&] { graph_of(graph)->capture_end(); });
}

int32_t unet_cuda_graph_replay(void *graph) {
  return unet::guard([&] { graph_of(graph)->replay(); });
}

void unet_cuda_graph_abandon(void *graph) {
  // The stream leaves capture mode, and the error that spoilt the capture is reported by the caller.
  (void)unet::guard([&] { graph_of(graph)->capture_end(); });
}

void unet_cuda_graph_free(void *graph) {
  // Its last launch may still run.
  (void)unet::guard([] { c10::cuda::device_synchronize(); });
  delete graph_of(graph);
}
