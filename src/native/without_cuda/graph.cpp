#include "../unet_native.h"

#include <c10/util/Exception.h>

namespace {
int32_t fail() {
  return unet::guard([] { TORCH_CHECK(false, "built with a libtorch that has no CUDA"); });
}
}  // namespace

int32_t unet_cuda_use_device(int32_t, int32_t) { return fail(); }
int32_t unet_cuda_graph_begin(void **) { return fail(); }
int32_t unet_cuda_graph_end(void *) { return fail(); }
int32_t unet_cuda_graph_replay(void *) { return fail(); }
void unet_cuda_graph_abandon(void *) {}
void unet_cuda_graph_free(void *) {}
