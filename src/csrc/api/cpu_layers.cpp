#include "api/cpu_layers.h"

#include "cpu/conv3x3.h"
#include "cpu/cpu_autograd.h"
#include "cpu/simd/dispatch.h"
#include "cpu/upconv.h"

using unet::guard;
using unet::new_or_null;
using unet::new_tensor;
using unet::or_undefined;

int32_t unet_cpu_use_isa(const char* name) {
  return guard([&] { unet::use_isa(name); });
}

int32_t unet_cpu_isa(const char** name) {
  return guard([&] { *name = unet::isa_name(); });
}

int32_t unet_cpu_multiplies_bf16(int32_t* has) {
  return guard([&] { *has = unet::multiplies_bf16(); });
}

int32_t unet_conv3x3_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* x2, const at::Tensor* weight,
                          const at::Tensor* bias, int32_t input_is_relu, int32_t output_gradient_is_masked) {
  return guard([&] {
    *out =
        new_tensor(unet::conv3x3_relu(*x, or_undefined(x2), *weight, *bias, input_is_relu, output_gradient_is_masked));
  });
}

int32_t unet_upconv_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                         int32_t input_is_relu, int32_t output_gradient_is_masked) {
  return guard(
      [&] { *out = new_tensor(unet::upconv_relu(*x, *weight, *bias, input_is_relu, output_gradient_is_masked)); });
}

int32_t unet_pool_and_crop(at::Tensor** pooled, at::Tensor** crop, const at::Tensor* x, int64_t height, int64_t width) {
  return guard([&] {
    auto [first, second] = unet::pool_and_crop(*x, height, width);
    *pooled = new_tensor(std::move(first));
    *crop = new_tensor(std::move(second));
  });
}

int32_t unet_conv3x3_pack(at::Tensor** out, const at::Tensor* weight, const at::Tensor* like) {
  return guard([&] { *out = new_or_null(unet::conv3x3_pack(weight->detach(), like->scalar_type())); });
}

int32_t unet_conv3x3_relu_packed(at::Tensor** out, const at::Tensor* x, const at::Tensor* x2, const at::Tensor* packed,
                                 const at::Tensor* bias) {
  return guard([&] { *out = new_tensor(unet::conv3x3_packed(*x, or_undefined(x2), *packed, *bias, /*relu=*/true)); });
}

int32_t unet_upconv_pack(at::Tensor** out, const at::Tensor* weight, const at::Tensor* like) {
  return guard([&] { *out = new_or_null(unet::upconv_pack(weight->detach(), like->scalar_type())); });
}

int32_t unet_upconv_relu_packed(at::Tensor** out, const at::Tensor* x, const at::Tensor* packed,
                                const at::Tensor* bias) {
  return guard([&] { *out = new_tensor(unet::upconv_packed(*x, *packed, *bias, /*relu=*/true)); });
}
