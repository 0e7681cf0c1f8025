// Adam and gradient unscaling over lists of tensors, without waiting for the device.
#include "unet_native.h"

#include <vector>

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_fused_adam.h>

namespace {
std::vector<at::Tensor> list(size_t count, at::Tensor *const *tensors) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; i++) result.push_back(*tensors[i]);
  return result;
}
}  // namespace

int32_t unet_fused_adam(size_t count, at::Tensor *const *params, at::Tensor *const *grads,
                        at::Tensor *const *exp_avgs, at::Tensor *const *exp_avg_sqs, const at::Tensor *step,
                        const at::Tensor *found_inf, double learning_rate, double beta1, double beta2,
                        double epsilon, double weight_decay) {
  return unet::guard([&] {
    auto weights = list(count, params);
    auto first_moments = list(count, exp_avgs);
    auto second_moments = list(count, exp_avg_sqs);
    // One step number serves all parameters: the kernel only reads it.
    const std::vector<at::Tensor> steps(count, *step);
    at::_fused_adam_(weights, list(count, grads), first_moments, second_moments, /*max_exp_avg_sqs=*/{}, steps,
                     learning_rate, beta1, beta2, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false,
                     /*grad_scale=*/std::nullopt, *found_inf);
  });
}

int32_t unet_unscale(size_t count, at::Tensor *const *grads, at::Tensor *found_inf,
                     const at::Tensor *inverse_scale) {
  return unet::guard([&] {
    auto gradients = list(count, grads);
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, *found_inf, *inverse_scale);
  });
}

int32_t unet_clear_grad(at::Tensor *param) {
  return unet::guard([&] { param->mutable_grad() = at::Tensor(); });
}
