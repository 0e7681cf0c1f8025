// The GPU's layers of `gpu/` for Rust.
#include "unet_native.h"

#include "gpu/kernels.h"
#include "gpu/layers.h"
#include "gpu/loss.h"
#include "gpu/passes.h"

int32_t unet_gpu_has_kernels(const at::Tensor *x, int32_t *has) {
  return unet::guard([&] { *has = unet::gpu::kernels() != unet::gpu::Kernels::aten && unet::gpu::kernels_are_ready(*x); });
}

int32_t unet_gpu_conv3x3_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias,
                              const at::Tensor *cast_bias, int32_t masked_above) {
  return unet::guard([&] {
    *out = new at::Tensor(unet::gpu::conv3x3_relu(*x, *weight, *bias, cast_bias ? *cast_bias : at::Tensor(), masked_above));
  });
}

int32_t unet_gpu_upconv_relu_join(at::Tensor **out, const at::Tensor *x, const at::Tensor *skip, const at::Tensor *weight,
                                  const at::Tensor *bias) {
  return unet::guard([&] { *out = new at::Tensor(unet::gpu::upconv_relu_join(*x, *skip, *weight, *bias)); });
}

int32_t unet_gpu_head(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias) {
  return unet::guard([&] { *out = new at::Tensor(unet::gpu::head_of_relu(*x, *weight, *bias)); });
}

int32_t unet_gpu_losses(at::Tensor **cross_entropy, at::Tensor **dice_loss, const at::Tensor *logits, const at::Tensor *labels,
                        double epsilon) {
  return unet::guard([&] {
    auto [first, second] = unet::gpu::losses(*logits, *labels, epsilon);
    *cross_entropy = new at::Tensor(std::move(first));
    *dice_loss = new at::Tensor(std::move(second));
  });
}

int32_t unet_gpu_pool_and_crop(at::Tensor **pooled, at::Tensor **crop, const at::Tensor *x, int64_t height, int64_t width) {
  return unet::guard([&] {
    auto [first, second] = unet::gpu::pool_and_crop(*x, height, width);
    *pooled = new at::Tensor(std::move(first));
    *crop = new at::Tensor(std::move(second));
  });
}

int32_t unet_gpu_compile_kernels(int32_t capability, int32_t *compiled) {
  return unet::guard([&] { *compiled = unet::gpu::compile_for(capability); });
}
