#include "api/profiler.h"

#include <cstdlib>
#include <set>

#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

int32_t unet_profiler_start(int32_t with_gpu) {
  return unet::guard([&] {
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
    std::set<ActivityType> activities{ActivityType::CPU};
    // Kineto looks for GPUs even if nobody asked for them, and prints errors if there is none. Level 5 is above errors.
    if (!with_gpu) setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);
    if (with_gpu) activities.insert(ActivityType::CUDA);
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
  });
}

int32_t unet_profiler_stop(const char* trace, void* list,
                           void (*event)(void* list, const char* name, int32_t on_gpu, uint64_t place, uint64_t start,
                                         uint64_t end)) {
  return unet::guard([&] {
    const auto result = profiler::disableProfiler();
    result->save(trace);
    for (const profiler::KinetoEvent& found : result->events()) {
      if (found.isHiddenEvent()) continue;
      const bool on_gpu = found.deviceType() != at::kCPU;
      // A stream of the GPU or a thread of the CPU.
      const uint64_t place = on_gpu ? found.deviceResourceId() : found.startThreadId();
      event(list, found.name().c_str(), on_gpu, place, found.startNs(), found.endNs());
    }
  });
}
