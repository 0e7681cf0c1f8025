#include "../unet_native.h"

#include <c10/util/Exception.h>

int32_t unet_cuda_peak_bytes(int32_t, int64_t *, int64_t *) {
  return unet::guard([] { TORCH_CHECK(false, "built with a libtorch that has no CUDA"); });
}
