// What an encoder stage does with its result x (a ReLU output): 2x2 max pooling for the next stage, a centre crop for
// the decoder.
#pragma once
#include <ATen/ATen.h>

namespace unet {

// [N, C, H, W] to [N, C, H / 2, W / 2], rounded down.
at::Tensor max_pool(const at::Tensor& x);

// A centre crop of x to h x w, as a view: the offset is rounded down.
at::Tensor centre_crop(const at::Tensor& x, int64_t h, int64_t w);

// Gradient of x from those of max_pool(x) and of centre_crop(x, ...), either of which may be undefined, in one pass
// over memory and without stored indices: the first maximum of a window takes its gradient, as in ATen. Where x is 0
// the result is 0, the gradient of the ReLU that made x.
at::Tensor pool_crop_grad(const at::Tensor& pooled, const at::Tensor& crop, const at::Tensor& x);

}  // namespace unet
