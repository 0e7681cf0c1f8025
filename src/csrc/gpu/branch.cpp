#include "gpu/branch.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <map>
#include <mutex>

namespace unet::gpu {
namespace {

// libtorch's interface for the streams of any kind of device: its functions are called through a table, so that the
// program need not load CUDA's libraries to start.
using Streams = c10::impl::VirtualGuardImpl;

// The same for all branches of a device, because freed memory is used again on the stream that it was allocated for.
c10::Stream second_stream(const Streams& streams, c10::Device device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::Stream> known;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = known.find(device.index());
  // libtorch hands out its streams in turn, so the next one may be the current one.
  while (found == known.end() || found->second == streams.getStream(device)) {
    known.erase(device.index());
    found = known.emplace(device.index(), streams.getStreamFromGlobalPool(device)).first;
  }
  return found->second;
}

class CurrentStream {
 public:
  CurrentStream(const Streams& streams, c10::Stream stream)
      : streams_(streams), before_(streams.exchangeStream(stream)) {}
  ~CurrentStream() { streams_.exchangeStream(before_); }
  CurrentStream(const CurrentStream&) = delete;
  CurrentStream& operator=(const CurrentStream&) = delete;

 private:
  const Streams& streams_;
  c10::Stream before_;
};

}  // namespace

Branch::Branch(c10::Device device, const std::function<void()>& work) : device_(device) {
  if (device.is_cpu()) {
    work();
    return;
  }
  const Streams streams(device.type());
  const c10::Stream second = second_stream(streams, device);
  c10::Event begin(device.type());
  begin.record(streams.getStream(device));
  begin.block(second);
  const CurrentStream current(streams, second);
  work();
  done_.emplace(device.type());
  done_->record(second);
}

void Branch::join() {
  if (done_) done_->block(Streams(device_.type()).getStream(device_));
}

}  // namespace unet::gpu
