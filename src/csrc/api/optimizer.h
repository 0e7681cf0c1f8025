// Adam and the unscaling of gradients, over lists of tensors. Nothing here waits for the device.
#pragma once
#include "api/ffi.h"

// One Adam step over `count` tensors, in place. `step` is the 1-based step number as a float32 scalar tensor. Nothing
// changes if `*found_inf` != 0. `weight_decay` times the weight is added to the gradient. `working[i]` may be null;
// else it gets the new values too, and a gradient of its dtype is 1 / `*inverse_scale` times too large (gpu/adam.h).
UNET_API int32_t unet_adam(size_t count, at::Tensor* const* params, at::Tensor* const* grads,
                           at::Tensor* const* exp_avgs, at::Tensor* const* exp_avg_sqs, at::Tensor* const* working,
                           const at::Tensor* step, const at::Tensor* found_inf, const at::Tensor* inverse_scale,
                           double learning_rate, double beta1, double beta2, double epsilon, double weight_decay);

// Multiplies the fp32 gradients among `count` by `*inverse_scale` in place; 16-bit gradients keep their scale. Sets
// `*found_inf` to 1 if any gradient of either kind is not finite.
UNET_API int32_t unet_unscale(size_t count, at::Tensor* const* grads, at::Tensor* found_inf,
                              const at::Tensor* inverse_scale);

// Drops the gradient of `param`.
UNET_API int32_t unet_clear_grad(at::Tensor* param);
