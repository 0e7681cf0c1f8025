#include "cpu/jobs.h"

#include <cstdlib>

namespace unet {
namespace {

struct Buffers {
  void* data[int(Buffer::count)] = {};
  int64_t bytes[int(Buffer::count)] = {};
  ~Buffers() {
    for (void* p : data) std::free(p);
  }
};

}  // namespace

void* buffer(Buffer which, int64_t bytes) {
  thread_local Buffers buffers;
  const int i = int(which);
  if (buffers.bytes[i] < bytes) {
    std::free(buffers.data[i]);
    buffers.bytes[i] = up_to_multiple(bytes, 4096);
    buffers.data[i] = std::aligned_alloc(4096, buffers.bytes[i]);
    TORCH_CHECK(buffers.data[i], "cannot allocate ", bytes, " bytes of convolution work space; use a smaller batch");
  }
  return buffers.data[i];
}

}  // namespace unet
