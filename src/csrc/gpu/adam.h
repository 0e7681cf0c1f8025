// Adam for weights that the network multiplies with in 16 bits (mixed precision with master weights; Micikevicius et
// al., 2018). One pass reads the gradient in 16 bits and writes weight, moments and the 16-bit copy: no gradient is
// cast, nor a weight in the next step.
#pragma once
#include <ATen/core/Tensor.h>
#include <vector>

namespace unet::gpu {

struct AdamOptions {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// Five tensors of one shape: fp32, but for the gradient of `working` and `working` itself, which has the dtype of
// activations.
struct Weight {
  at::Tensor master, gradient, exp_avg, exp_avg_sq, working;
};

// One step in place, by an own kernel where it can run, else in libtorch's operations. Gradients are 1 / *inverse_scale
// times too large. `step` is the 1-based step number, `[]` fp32; with `*found_inf` != 0 nothing is changed.
void adam(const std::vector<Weight>& weights, const at::Tensor& step, const at::Tensor& found_inf,
          const at::Tensor& inverse_scale, const AdamOptions& options);

}  // namespace unet::gpu
