#include "../distributed/backends.h"

#include <c10/util/Exception.h>

c10::intrusive_ptr<c10d::Backend> unet::nccl(const Meeting &) {
  TORCH_CHECK(false, "built with a libtorch that has no CUDA");
}
