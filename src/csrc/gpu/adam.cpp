#include "gpu/adam.h"

#include <ATen/ATen.h>
#include <algorithm>

#include "gpu/kernel_arguments.h"

namespace unet::gpu {
namespace {

using at::Tensor;

// The kernel's argument `Weights` (kernels/adam.cu): for each weight its pointers, and the number of lanes up to its
// end.
struct WeightTable {
  static constexpr size_t MAX_COUNT = 32;
  void* master[MAX_COUNT];
  void* gradient[MAX_COUNT];
  void* exp_avg[MAX_COUNT];
  void* exp_avg_sq[MAX_COUNT];
  void* working[MAX_COUNT];
  uint32_t end[MAX_COUNT];
};

// The kernel's argument `Gradients`.
struct GradientTable {
  void* gradient[WeightTable::MAX_COUNT];
  uint32_t end[WeightTable::MAX_COUNT];
};

// Whether the elements of a and b lie in the same order. The stride of a side of 1 does not matter.
bool same_order(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes() || !a.is_non_overlapping_and_dense() || !b.is_non_overlapping_and_dense()) return false;
  for (int64_t dim = 0; dim < a.dim(); dim++)
    if (a.size(dim) != 1 && a.stride(dim) != b.stride(dim)) return false;
  return true;
}

bool suits_kernel(const Weight& weight) {
  const Tensor& gradient = weight.gradient;
  if (!own_kernels_run_on(gradient) || gradient.numel() % lane_width(gradient)) return false;
  const auto suits = [&](const Tensor& x) {
    return same_order(x, gradient) && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  };
  const auto is_fp32 = [](const Tensor& x) { return x.scalar_type() == at::kFloat; };
  return suits(gradient) && suits(weight.master) && suits(weight.exp_avg) && suits(weight.exp_avg_sq) &&
         suits(weight.working) && is_fp32(weight.master) && is_fp32(weight.exp_avg) && is_fp32(weight.exp_avg_sq) &&
         weight.working.scalar_type() == gradient.scalar_type();
}

void by_kernel(const Weight* weights, size_t count, const Tensor& step, const Tensor& found_inf,
               const Tensor& inverse_scale, AdamOptions options) {
  WeightTable table{};
  uint32_t lanes = 0;
  for (size_t i = 0; i < count; i++) {
    const Weight& weight = weights[i];
    table.master[i] = weight.master.data_ptr();
    table.gradient[i] = weight.gradient.data_ptr();
    table.exp_avg[i] = weight.exp_avg.data_ptr();
    table.exp_avg_sq[i] = weight.exp_avg_sq.data_ptr();
    table.working[i] = weight.working.data_ptr();
    table.end[i] = lanes += static_cast<uint32_t>(weight.gradient.numel() / lane_width(weight.gradient));
  }
  const Tensor& like = weights[0].gradient;
  void *step_number = step.data_ptr(), *inf = found_inf.data_ptr(), *inverse = inverse_scale.data_ptr();
  void* arguments[] = {&table, &step_number, &inf, &inverse, &lanes, &options};
  launch("adam", like, blocks(like, (lanes + THREADS - 1) / THREADS), 1, arguments);
}

void note_by_kernel(const Tensor* gradients, size_t count, const Tensor& found_inf) {
  GradientTable table{};
  uint32_t lanes = 0;
  for (size_t i = 0; i < count; i++) {
    table.gradient[i] = gradients[i].data_ptr();
    table.end[i] = lanes += static_cast<uint32_t>(gradients[i].numel() / lane_width(gradients[i]));
  }
  void* found = found_inf.data_ptr();
  void* arguments[] = {&table, &lanes, &found};
  launch("note_not_finite", gradients[0], blocks(gradients[0], (lanes + THREADS - 1) / THREADS), 1, arguments);
}

void by_operations(const Weight& weight, const Tensor& step, const Tensor& found_inf, const Tensor& inverse_scale,
                   const AdamOptions& options) {
  const Tensor gradient = weight.gradient.to(at::kFloat) * inverse_scale + weight.master * options.weight_decay;
  const Tensor exp_avg = weight.exp_avg * options.beta1 + gradient * (1 - options.beta1);
  const Tensor exp_avg_sq = weight.exp_avg_sq * options.beta2 + gradient * gradient * (1 - options.beta2);
  // In fp64, because 1 - beta^step subtracts numbers near 1.
  const Tensor number = step.to(at::kDouble);
  const Tensor step_size = (options.learning_rate / (1 - at::pow(options.beta1, number))).to(at::kFloat);
  const Tensor root = (1 - at::pow(options.beta2, number)).sqrt().to(at::kFloat);
  const Tensor master = weight.master - step_size * exp_avg / (exp_avg_sq.sqrt() / root + options.epsilon);
  const Tensor skip = found_inf.ne(0);
  weight.master.copy_(at::where(skip, weight.master, master));
  weight.exp_avg.copy_(at::where(skip, weight.exp_avg, exp_avg));
  weight.exp_avg_sq.copy_(at::where(skip, weight.exp_avg_sq, exp_avg_sq));
  weight.working.copy_(weight.master);
}

}  // namespace

bool note_not_finite(const std::vector<Tensor>& gradients, const Tensor& found_inf) {
  const auto suits = [&](const Tensor& x) {
    return x.scalar_type() == gradients[0].scalar_type() && own_kernels_run_on(x) && x.is_non_overlapping_and_dense() &&
           x.numel() % lane_width(x) == 0 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  };
  if (!std::all_of(gradients.begin(), gradients.end(), suits)) return false;
  constexpr size_t most = WeightTable::MAX_COUNT;
  for (size_t first = 0; first < gradients.size(); first += most)
    note_by_kernel(&gradients[first], std::min(most, gradients.size() - first), found_inf);
  return true;
}

void adam(const std::vector<Weight>& weights, const Tensor& step, const Tensor& found_inf, const Tensor& inverse_scale,
          const AdamOptions& options) {
  if (std::all_of(weights.begin(), weights.end(), suits_kernel)) {
    for (size_t first = 0; first < weights.size(); first += WeightTable::MAX_COUNT)
      by_kernel(&weights[first], std::min(WeightTable::MAX_COUNT, weights.size() - first), step, found_inf,
                inverse_scale, options);
    return;
  }
  for (const Weight& weight : weights) by_operations(weight, step, found_inf, inverse_scale, options);
}

}  // namespace unet::gpu
