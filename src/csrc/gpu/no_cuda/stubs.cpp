// The functions of gpu/cuda/ in a build against a libtorch without CUDA: there are no kernels, and the rest fails.
#include <c10/util/Exception.h>

#include "api/cuda.h"
#include "api/cuda_graph.h"
#include "distributed/backends.h"
#include "gpu/fused_convolution.h"
#include "gpu/kernel_launcher.h"

namespace {
constexpr const char* NO_CUDA = "built with a libtorch that has no CUDA";

int32_t fail() {
  return unet::guard([] { TORCH_CHECK(false, NO_CUDA); });
}
}  // namespace

int32_t unet_cuda_use_device(int32_t, int32_t) { return fail(); }
int32_t unet_cuda_peak_bytes(int32_t, int64_t*, int64_t*) { return fail(); }
int32_t unet_cuda_graph_begin(void**) { return fail(); }
int32_t unet_cuda_graph_end(void*) { return fail(); }
int32_t unet_cuda_graph_replay(void*) { return fail(); }
void unet_cuda_graph_abandon(void*) {}
void unet_cuda_graph_free(void*) {}

c10::intrusive_ptr<c10d::Backend> unet::nccl(const Rendezvous&) { TORCH_CHECK(false, NO_CUDA); }

namespace unet::gpu {

bool kernels_are_ready(const at::Tensor&) { return false; }

unsigned blocks(const at::Tensor&, int64_t, int64_t) { return 0; }

void launch(const char*, const at::Tensor&, unsigned, unsigned, void**) { TORCH_CHECK(false, NO_CUDA); }

bool compile_for(int) { return false; }

at::Tensor fused_convolution(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                             const std::function<at::Tensor()>&) {
  return {};
}

at::Tensor fused_up_convolution(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                const std::function<at::Tensor()>&, bool) {
  return {};
}

size_t count_fused_convolutions(at::ScalarType, at::IntArrayRef, int64_t, bool, const std::string&) { return 0; }

size_t count_fused_up_convolutions(at::ScalarType, at::IntArrayRef, int64_t, bool, const std::string&) { return 0; }

}  // namespace unet::gpu
