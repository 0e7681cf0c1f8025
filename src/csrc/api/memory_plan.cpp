#include "api/memory_plan.h"

#include <algorithm>
#include <vector>

#include "cpu/memory_plan/layout.h"
#include "cpu/memory_plan/step_plan.h"

using unet::guard;
using unet::StepPlan;

int32_t unet_cpu_plan_new(void** plan) {
  return guard([&] {
    unet::install_planned_allocator();
    *plan = new StepPlan;
  });
}

int32_t unet_cpu_plan_begin(void* plan) {
  return guard([&] { static_cast<StepPlan*>(plan)->begin(); });
}

int32_t unet_cpu_plan_end(void* plan, int32_t completed) {
  return guard([&] { static_cast<StepPlan*>(plan)->end(completed); });
}

void unet_cpu_plan_free(void* plan) { delete static_cast<StepPlan*>(plan); }

void unet_cpu_plan_statistics(const void* plan, int64_t* requests, int64_t* misses, int64_t* bytes) {
  const StepPlan::Statistics statistics = static_cast<const StepPlan*>(plan)->statistics();
  *requests = static_cast<int64_t>(statistics.requests);
  *misses = static_cast<int64_t>(statistics.misses);
  *bytes = static_cast<int64_t>(statistics.arena_bytes);
}

int32_t unet_cpu_lay_out(size_t count, const int64_t* bytes, const int64_t* born, const int64_t* died, int64_t* offsets,
                         int64_t* total) {
  return guard([&] {
    std::vector<unet::Lifetime> lifetimes;
    for (size_t i = 0; i < count; i++) lifetimes.push_back({static_cast<size_t>(bytes[i]), born[i], died[i]});
    const unet::Layout layout = unet::lay_out(lifetimes);
    std::copy(layout.offsets.begin(), layout.offsets.end(), offsets);
    *total = static_cast<int64_t>(layout.bytes);
  });
}
