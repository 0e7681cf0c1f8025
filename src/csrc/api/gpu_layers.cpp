#include "api/gpu_layers.h"

#include "gpu/gpu_autograd.h"
#include "gpu/kernel_choice.h"
#include "gpu/kernel_launcher.h"
#include "gpu/loss.h"

using unet::guard;
using unet::new_tensor;
using unet::or_undefined;
namespace gpu = unet::gpu;

int32_t unet_gpu_use_kernels(int32_t which) {
  return guard([&] { gpu::choose_kernels(which); });
}

int32_t unet_gpu_has_kernels(const at::Tensor* x, int32_t* has) {
  return guard([&] { *has = gpu::own_kernels_run_on(*x); });
}

int32_t unet_gpu_first_layer(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias) {
  return guard([&] { *out = new_tensor(gpu::first_layer_relu(*x, *weight, *bias)); });
}

int32_t unet_gpu_conv3x3_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                              const at::Tensor* cast_bias, int32_t output_gradient_is_masked) {
  return guard([&] {
    *out = new_tensor(gpu::conv3x3_relu(*x, *weight, *bias, or_undefined(cast_bias), output_gradient_is_masked));
  });
}

int32_t unet_gpu_upconv_relu_join(at::Tensor** out, const at::Tensor* x, const at::Tensor* skip,
                                  const at::Tensor* weight, const at::Tensor* bias) {
  return guard([&] { *out = new_tensor(gpu::upconv_relu_join(*x, *skip, *weight, *bias)); });
}

int32_t unet_gpu_head(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias) {
  return guard([&] { *out = new_tensor(gpu::head_of_relu(*x, *weight, *bias)); });
}

int32_t unet_gpu_losses(at::Tensor** cross_entropy, at::Tensor** dice_loss, const at::Tensor* logits,
                        const at::Tensor* labels, double epsilon) {
  return guard([&] {
    auto [first, second] = gpu::losses(*logits, *labels, epsilon);
    *cross_entropy = new_tensor(std::move(first));
    *dice_loss = new_tensor(std::move(second));
  });
}

int32_t unet_gpu_pool_and_crop(at::Tensor** pooled, at::Tensor** crop, const at::Tensor* x, int64_t height,
                               int64_t width) {
  return guard([&] {
    auto [first, second] = gpu::pool_and_crop(*x, height, width);
    *pooled = new_tensor(std::move(first));
    *crop = new_tensor(std::move(second));
  });
}

int32_t unet_gpu_compile_kernels(int32_t capability, int32_t* compiled) {
  return guard([&] { *compiled = gpu::compile_for(capability); });
}
