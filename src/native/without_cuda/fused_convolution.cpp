#include "../gpu/fused_convolution.h"

namespace unet::gpu {

at::Tensor fused_convolution(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::function<at::Tensor()>&) { return {}; }

size_t count_fused_convolutions(at::ScalarType, at::IntArrayRef, int64_t, bool, const std::string&) { return 0; }

}  // namespace unet::gpu
