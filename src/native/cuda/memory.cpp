// What libtorch's CUDA allocator has handed out.
#include "../unet_native.h"

#include <c10/core/CachingDeviceAllocator.h>

int32_t unet_cuda_peak_bytes(int32_t device, int64_t *allocated, int64_t *reserved) {
  return unet::guard([&] {
    const auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[all].peak;
    *reserved = stats.reserved_bytes[all].peak;
  });
}
