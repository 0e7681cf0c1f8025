// The memory plan of a step on the CPU.
//
// The first step under a plan is recorded: sizes and lifetimes of the tensors that its thread makes. Each tensor gets a
// place in one arena, and later steps use the places in the same order. libtorch's own allocator serves requests that
// do not fit the plan: larger than their place, more than were recorded, from another thread, or for a place still in
// use. So a plan affects speed and memory, never results.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "cpu/memory_plan/layout.h"

namespace unet {

class Arena;
class Recording;

class StepPlan {
 public:
  struct Statistics {
    size_t requests, misses;  // of the current step, or of the last one
    size_t arena_bytes;
  };

  // This thread works under the plan from begin to end.
  void begin();
  void end(bool completed);

  // Memory for the next request of the step; null if the plan has none for it.
  void* allocate(size_t bytes);

  Statistics statistics() const { return {next_, misses_, arena_bytes_}; }

 private:
  // The place of one request. `bytes` is 0 if its tensor outlived the recorded step.
  struct Place {
    size_t offset, bytes;
  };

  void* record(size_t bytes);
  void* place(size_t request, size_t bytes);
  void make_places(const std::vector<Lifetime>& lifetimes);

  std::shared_ptr<Recording> recording_;
  std::shared_ptr<Arena> arena_;
  std::vector<Place> places_;
  size_t arena_bytes_ = 0;
  size_t next_ = 0, misses_ = 0;
  bool running_ = false;
  StepPlan* outer_ = nullptr;
};

// From now on libtorch asks the active plan of a thread for memory, and its own allocator if there is none. Fails if
// another part of the program has replaced the allocator.
void install_planned_allocator();

}  // namespace unet
