// Adam for mixed precision with master weights (Micikevicius et al., 2018): the network computes with 16-bit copies of
// fp32 weights. One pass reads the 16-bit gradient and writes master weight, moments and 16-bit copy. So no gradient is
// cast, and no weight in the next step.
#pragma once
#include <ATen/core/Tensor.h>
#include <vector>

namespace unet::gpu {

struct AdamOptions {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// A weight and its state: five tensors of one shape. `working`, the copy for the network, and its `gradient` have the
// dtype of activations. The others are fp32.
struct Weight {
  at::Tensor master, gradient, exp_avg, exp_avg_sq, working;
};

// Sets *found_inf to 1 if one of these gradients, which have one 16-bit dtype, is not finite, and returns true. Returns
// false, with nothing done, where the own kernel does not run. libtorch's operation would also write each of them back.
bool note_not_finite(const std::vector<at::Tensor>& gradients, const at::Tensor& found_inf);

// One step in place, by an own kernel where it can run, else by libtorch's operations. Gradients are 1 / *inverse_scale
// times too large. `step` is the 1-based step number, [] fp32. Nothing changes if *found_inf != 0.
void adam(const std::vector<Weight>& weights, const at::Tensor& step, const at::Tensor& found_inf,
          const at::Tensor& inverse_scale, const AdamOptions& options);

}  // namespace unet::gpu
