#include "api/cuda.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

int32_t unet_cuda_use_device(int32_t device, int32_t own_stream) {
  return unet::guard([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    // NCCL's communicator, a graph, its stream and the random number generator belong to the current device.
    c10::cuda::set_device(index);
    if (own_stream) c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index));
  });
}

int32_t unet_cuda_peak_bytes(int32_t device, int64_t* allocated, int64_t* reserved) {
  return unet::guard([&] {
    const auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[all].peak;
    *reserved = stats.reserved_bytes[all].peak;
  });
}
