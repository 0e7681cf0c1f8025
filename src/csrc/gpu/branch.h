// Work on a second stream of a GPU, beside that of the current one: a parallel branch of the graph where a step is
// captured. On a CPU the work is done at once.
#pragma once
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <functional>
#include <optional>

namespace unet::gpu {

class Branch {
 public:
  // Does `work` on the second stream, after all that the current stream holds so far. The work must allocate what it
  // writes: memory is kept apart by stream. What it reads must stay allocated until `join`.
  Branch(c10::Device device, const std::function<void()>& work);
  Branch(const Branch&) = delete;
  Branch& operator=(const Branch&) = delete;

  // What the current stream gets from here on begins after the work. Must be called before the results are used, and
  // before another branch.
  void join();

 private:
  c10::Device device_;
  std::optional<c10::Event> done_;
};

}  // namespace unet::gpu
