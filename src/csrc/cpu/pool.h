// What an encoder level does with its output x, which comes from a ReLU: 2x2 max pooling for the level below, a centre
// crop for the decoder.
#pragma once
#include <ATen/ATen.h>

namespace unet {

// 2x2 max pooling of [N, C, H, W] to [N, C, H / 2, W / 2], rounded down.
at::Tensor max_pool(const at::Tensor& x);

// The centre of x, h x w, as a view. Its offset is rounded down.
at::Tensor centre_crop(const at::Tensor& x, int64_t h, int64_t w);

// The gradient of x from `pooled`, the gradient of max_pool(x), and `crop`, the gradient of centre_crop(x, ...); either
// may be undefined. It takes one pass over memory and no stored indices: as in ATen, the first maximum of a window gets
// the window's gradient. Where x is 0 the result is 0, because the gradient of x's ReLU is applied here.
at::Tensor pool_crop_grad(const at::Tensor& pooled, const at::Tensor& crop, const at::Tensor& x);

}  // namespace unet
