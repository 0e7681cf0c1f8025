#include "api/optimizer.h"

#include <vector>

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/ones_like.h>

#include "gpu/adam.h"

int32_t unet_adam(size_t count, at::Tensor* const* params, at::Tensor* const* grads, at::Tensor* const* exp_avgs,
                  at::Tensor* const* exp_avg_sqs, at::Tensor* const* working, const at::Tensor* step,
                  const at::Tensor* found_inf, const at::Tensor* inverse_scale, double learning_rate, double beta1,
                  double beta2, double epsilon, double weight_decay) {
  return unet::guard([&] {
    std::vector<at::Tensor> weights, gradients, first_moments, second_moments, copies, copied;
    std::vector<unet::gpu::Weight> masters;
    for (size_t i = 0; i < count; i++) {
      if (working[i] && working[i]->scalar_type() == grads[i]->scalar_type()) {
        masters.push_back({*params[i], *grads[i], *exp_avgs[i], *exp_avg_sqs[i], *working[i]});
        continue;
      }
      if (working[i]) {
        copies.push_back(*working[i]);
        copied.push_back(*params[i]);
      }
      weights.push_back(*params[i]);
      gradients.push_back(*grads[i]);
      first_moments.push_back(*exp_avgs[i]);
      second_moments.push_back(*exp_avg_sqs[i]);
    }
    // All parameters share one step number, because the kernel only reads it.
    const std::vector<at::Tensor> steps(weights.size(), *step);
    if (!weights.empty())
      at::_fused_adam_(weights, gradients, first_moments, second_moments, /*max_exp_avg_sqs=*/{}, steps, learning_rate,
                       beta1, beta2, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false,
                       /*grad_scale=*/std::nullopt, *found_inf);
    if (!copies.empty()) at::_foreach_copy_(copies, copied);
    if (!masters.empty())
      unet::gpu::adam(masters, *step, *found_inf, *inverse_scale, {learning_rate, beta1, beta2, epsilon, weight_decay});
  });
}

int32_t unet_unscale(size_t count, at::Tensor* const* grads, at::Tensor* found_inf, const at::Tensor* inverse_scale) {
  return unet::guard([&] {
    std::vector<at::Tensor> full, reduced;
    for (size_t i = 0; i < count; i++)
      (at::isReducedFloatingType(grads[i]->scalar_type()) ? reduced : full).push_back(*grads[i]);
    if (!full.empty()) at::_amp_foreach_non_finite_check_and_unscale_(full, *found_inf, *inverse_scale);
    // 16-bit gradients keep their scale, without which their small values would underflow. libtorch's operation
    // multiplies them by 1.
    if (!reduced.empty() && !unet::gpu::note_not_finite(reduced, *found_inf))
      at::_amp_foreach_non_finite_check_and_unscale_(reduced, *found_inf, at::ones_like(*inverse_scale));
  });
}

int32_t unet_clear_grad(at::Tensor* param) {
  return unet::guard([&] { param->mutable_grad() = at::Tensor(); });
}
