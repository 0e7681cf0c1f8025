// The layers of the network on the CPU (cpu/), and the instruction set that their kernels use.
#pragma once
#include "api/ffi.h"

// Makes the CPU kernels use the instruction set `name`: "amx", "avx512", "avx2" or "generic". Without a call they use
// the best one of this CPU. Fails if the name is unknown or this CPU lacks the instructions. Weights packed before a
// call do not fit the kernels after it.
UNET_API int32_t unet_cpu_use_isa(const char* name);

// The instruction set in use, as a static text.
UNET_API int32_t unet_cpu_isa(const char** name);

// Whether the instruction set in use multiplies in bf16. Else bf16 layers are computed in floats.
UNET_API int32_t unet_cpu_multiplies_bf16(int32_t* has);

// Layers with gradients: cpu/cpu_autograd.h has their contract. `x2` may be null.
UNET_API int32_t unet_conv3x3_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* x2,
                                   const at::Tensor* weight, const at::Tensor* bias, int32_t input_is_relu,
                                   int32_t output_gradient_is_masked);
UNET_API int32_t unet_upconv_relu(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight,
                                  const at::Tensor* bias, int32_t input_is_relu, int32_t output_gradient_is_masked);
UNET_API int32_t unet_pool_and_crop(at::Tensor** pooled, at::Tensor** crop, const at::Tensor* x, int64_t height,
                                    int64_t width);

// Packs weights into the form that suits many predictions from inputs of the dtype of `like`; it replaces the weights.
// Stores null in `*out` where the layer has no packed form.
UNET_API int32_t unet_conv3x3_pack(at::Tensor** out, const at::Tensor* weight, const at::Tensor* like);
UNET_API int32_t unet_upconv_pack(at::Tensor** out, const at::Tensor* weight, const at::Tensor* like);

// Layers without gradients, with packed weights. `x2` may be null.
UNET_API int32_t unet_conv3x3_relu_packed(at::Tensor** out, const at::Tensor* x, const at::Tensor* x2,
                                          const at::Tensor* packed, const at::Tensor* bias);
UNET_API int32_t unet_upconv_relu_packed(at::Tensor** out, const at::Tensor* x, const at::Tensor* packed,
                                         const at::Tensor* bias);
