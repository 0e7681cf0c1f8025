// The CPU layers of `cpu/` for Rust.
#include "unet_native.h"

#include "cpu/conv3x3.h"
#include "cpu/layers.h"
#include "cpu/upconv.h"

namespace {
at::Tensor or_undefined(const at::Tensor *x) { return x ? *x : at::Tensor(); }
}  // namespace

int32_t unet_conv3x3_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *x2, const at::Tensor *weight,
                          const at::Tensor *bias, int32_t below_is_relu, int32_t masked_above) {
  return unet::guard([&] {
    *out = new at::Tensor(unet::conv3x3_relu(*x, or_undefined(x2), *weight, *bias, below_is_relu, masked_above));
  });
}

int32_t unet_upconv_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias,
                         int32_t below_is_relu, int32_t masked_above) {
  return unet::guard([&] { *out = new at::Tensor(unet::upconv_relu(*x, *weight, *bias, below_is_relu, masked_above)); });
}

int32_t unet_pool_and_crop(at::Tensor **pooled, at::Tensor **crop, const at::Tensor *x, int64_t height, int64_t width) {
  return unet::guard([&] {
    auto [first, second] = unet::pool_and_crop(*x, height, width);
    *pooled = new at::Tensor(std::move(first));
    *crop = new at::Tensor(std::move(second));
  });
}

int32_t unet_conv3x3_pack(at::Tensor **out, const at::Tensor *weight, const at::Tensor *like) {
  return unet::guard([&] { *out = new at::Tensor(unet::conv3x3_pack(weight->detach(), like->scalar_type())); });
}

int32_t unet_conv3x3_relu_packed(at::Tensor **out, const at::Tensor *x, const at::Tensor *x2, const at::Tensor *packed,
                                 const at::Tensor *bias) {
  return unet::guard([&] { *out = new at::Tensor(unet::conv3x3_packed(*x, or_undefined(x2), *packed, *bias, /*relu=*/true)); });
}

int32_t unet_upconv_pack(at::Tensor **out, const at::Tensor *weight, const at::Tensor *like) {
  return unet::guard([&] { *out = new at::Tensor(unet::upconv_pack(weight->detach(), like->scalar_type())); });
}

int32_t unet_upconv_relu_packed(at::Tensor **out, const at::Tensor *x, const at::Tensor *packed, const at::Tensor *bias) {
  return unet::guard([&] { *out = new at::Tensor(unet::upconv_packed(*x, *packed, *bias, /*relu=*/true)); });
}
