// Checks in which order a branch (src/csrc/gpu/branch.cpp) makes streams wait for each other, on a made-up device that
// writes down what is asked of it. tests/cuda_kernels.rs links it with the shim.
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "gpu/branch.h"

constexpr c10::DeviceType TYPE = c10::DeviceType::PrivateUse1;

static std::vector<std::string> log_of_calls;
// The number of the stream that an event was last recorded on.
static std::map<void*, int64_t> recorded;
static int64_t current = 1, next_event = 1, next_in_pool = 1;

static c10::Stream stream(int64_t id) { return c10::Stream(c10::Stream::UNSAFE, c10::Device(TYPE, 0), id); }

struct Recorder final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device device) const override { return device; }
  c10::Device getDevice() const override { return {TYPE, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(next_in_pool++); }
  c10::Stream exchangeStream(c10::Stream other) const override {
    const int64_t before = current;
    current = other.id();
    return stream(before);
  }
  void record(void** event, const c10::Stream& on, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*event) *event = reinterpret_cast<void*>(static_cast<uintptr_t>(next_event++));
    recorded[*event] = on.id();
    log_of_calls.push_back("record on " + std::to_string(on.id()));
  }
  void block(void* event, const c10::Stream& waiting) const override {
    log_of_calls.push_back(std::to_string(waiting.id()) + " waits for " + std::to_string(recorded.at(event)));
  }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Recorder)

static int failures = 0;

static void expect(const char* what, bool is_so) {
  std::printf("%s: %s\n", what, is_so ? "yes" : "NO");
  if (!is_so) failures++;
}

int main() {
  using unet::gpu::Branch;
  const c10::Device device(TYPE, 0);
  const auto work = [] { log_of_calls.push_back("work on " + std::to_string(current)); };
  // The current stream, 1, is also the first that the pool hands out.
  for (int time = 0; time < 2; time++) {
    log_of_calls.clear();
    Branch branch(device, work);
    work();
    branch.join();
    const std::vector<std::string> wanted{"record on 1", "2 waits for 1", "work on 2",
                                          "record on 2", "work on 1",     "1 waits for 2"};
    expect("the branch has the second stream, and both wait for each other", log_of_calls == wanted);
  }
  log_of_calls.clear();
  try {
    Branch branch(device, [] { throw std::runtime_error("out of memory"); });
    expect("an error comes through", false);
  } catch (const std::runtime_error&) {
    expect("after an error the current stream is that of before", current == 1);
  }
  bool done = false;
  Branch branch(c10::Device(c10::kCPU), [&] { done = true; });
  log_of_calls.clear();
  branch.join();
  expect("a CPU does the work at once, without streams", done && log_of_calls.empty());
  return failures ? 1 : 0;
}
