// The layers of the network for a GPU (gpu/), and the choice of the kernels between cuDNN's convolutions.
#pragma once
#include "api/ffi.h"

// Chooses the kernels, for the whole process. `which`: 0 own (the default), 1 fused, 2 separate, 3 aten;
// gpu/kernel_choice.h says what each means.
UNET_API int32_t unet_gpu_use_kernels(int32_t which);

// Whether the own CUDA kernels run on the device and dtype of `x`; never if "aten" is chosen. The first question for a
// device and dtype compiles the kernels.
UNET_API int32_t unet_gpu_has_kernels(const at::Tensor* x, int32_t* has);

// Layers with gradients: gpu/gpu_autograd.h has their contract. `cast_bias` may be null.
UNET_API int32_t unet_gpu_first_layer(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight,
                                      const at::Tensor* bias);
UNET_API int32_t unet_gpu_conv3x3_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight,
                                       const at::Tensor* bias, const at::Tensor* cast_bias,
                                       int32_t output_gradient_is_masked);
UNET_API int32_t unet_gpu_upconv_relu_join(at::Tensor** out, const at::Tensor* x, const at::Tensor* skip,
                                           const at::Tensor* weight, const at::Tensor* bias);
UNET_API int32_t unet_gpu_pool_and_crop(at::Tensor** pooled, at::Tensor** crop, const at::Tensor* x, int64_t height,
                                        int64_t width);
UNET_API int32_t unet_gpu_head(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias);

// Cross entropy and 1 - soft Dice, with gradients (gpu/loss.h). Needs the own kernels.
UNET_API int32_t unet_gpu_losses(at::Tensor** cross_entropy, at::Tensor** dice_loss, const at::Tensor* logits,
                                 const at::Tensor* labels, double epsilon);

// Compiles the CUDA kernels for compute capability `capability` (75 means 7.5); needs no GPU. `*compiled` is 0 where
// there is no NVRTC.
UNET_API int32_t unet_gpu_compile_kernels(int32_t capability, int32_t* compiled);
