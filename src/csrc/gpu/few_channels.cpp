#include "gpu/few_channels.h"

#include "gpu/kernel_arguments.h"
#include "gpu/passes.h"

namespace unet::gpu {

using at::Tensor;

namespace {

// Memory for the gradient of a weight that a kernel writes: in the dtype of `weight` if that is fp32 or that of x.
struct WeightGradient {
  WeightGradient(const Tensor& weight, const Tensor& x) : weight(weight) {
    const bool is_narrow = weight.scalar_type() == x.scalar_type() && x.scalar_type() != at::kFloat;
    // The order of the elements is that of contiguous memory, also for weights in channels-last memory: one side is 1.
    (is_narrow ? narrow : fp32) =
        at::empty(weight.sizes(), x.options().dtype(is_narrow ? x.scalar_type() : at::kFloat));
  }
  Tensor result() const { return (narrow.defined() ? narrow : fp32).to(weight.scalar_type()); }

  const Tensor& weight;
  Tensor fp32, narrow;
};

}  // namespace

Tensor first_layer(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t outputs = weight.size(0), height = x.size(2) - 2, width = x.size(3) - 2;
  Tensor y;
  if (own_kernels_run_on(x) && dense(x)) y = at::empty({x.size(0), outputs, height, width}, x.options(), CHANNELS_LAST);
  if (!y.defined() || !in_lanes(y)) {
    y = at::convolution(x, weight.to(x.scalar_type()), {}, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1)
            .contiguous(CHANNELS_LAST);
    bias_relu_(y, bias);
    return y;
  }
  // The order of `taps` is [tap, channel].
  const Tensor taps = weight.to(at::kFloat).reshape({outputs, 9}).t().contiguous(), values = floats(bias);
  const int64_t lanes = outputs / lane_width(y), pixels = pixels_of(y);
  const Stripes stripes(lanes);
  Arguments arguments;
  arguments.tensor(x)
      .tensor(taps)
      .tensor(values)
      .tensor(y)
      .number(pixels)
      .number(lanes)
      .number(stripes.columns)
      .number(height)
      .number(width);
  launch("first_layer", y, blocks(y, (pixels + stripes.rows - 1) / stripes.rows), stripes.count, arguments.pointers());
  return y;
}

std::tuple<Tensor, Tensor> first_layer_gradient(const Tensor& gradient, const Tensor& y, const Tensor& x,
                                                const Tensor& weight) {
  const auto suits = [](const Tensor& x) { return dense(x) && in_lanes(x); };
  const int64_t outputs = y.size(1);
  const Stripes stripes(outputs / lane_width(y));
  if (!own_kernels_run_on(x) || !dense(x) || !suits(gradient) || !suits(y) || !stripes.can_add_up()) {
    const auto [masked, bias] = mask_and_sum(gradient, y);
    const auto gradients = at::convolution_backward(masked, x, weight.to(x.scalar_type()), c10::nullopt, {1, 1}, {0, 0},
                                                    {1, 1}, false, {0, 0}, 1, {false, true, false});
    return {std::get<1>(gradients).to(weight.scalar_type()), bias};
  }
  const int64_t lanes = outputs / lane_width(y), pixels = pixels_of(y);
  // The kernel keeps 80 sums of a thread in registers, so that a multiprocessor holds two blocks.
  const int64_t slabs = stripes.slabs(y, pixels, 2);
  const auto fp32 = y.options().dtype(at::kFloat);
  const Tensor sums = at::empty({slabs, 10, outputs}, fp32), bias = at::empty({outputs}, fp32);
  const WeightGradient weights(weight, x);
  Arguments arguments;
  arguments.tensor(gradient).tensor(y).tensor(x).tensor(sums).tensor(weights.fp32).tensor(weights.narrow).tensor(bias);
  arguments.number(pixels).number(lanes).number(stripes.columns).number(y.size(2)).number(y.size(3));
  launch("first_layer_gradient", y, slabs, stripes.count, arguments.pointers());
  return {weights.result(), bias};
}

Tensor head(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (!own_kernels_run_on(x) || weight.size(0) != 2 || !dense(x) || !in_lanes(x))
    return at::convolution(x, weight.to(x.scalar_type()), bias.to(x.scalar_type()), {1, 1}, {0, 0}, {1, 1}, false,
                           {0, 0}, 1)
        .contiguous(CHANNELS_LAST);
  Tensor logits = at::empty({x.size(0), 2, x.size(2), x.size(3)}, x.options(), CHANNELS_LAST);
  const Tensor weights = floats(weight.reshape({2, -1})), values = floats(bias);
  const int64_t pixels = pixels_of(x), lanes = x.size(1) / lane_width(x);
  const Stripes stripes(lanes);
  Arguments arguments;
  arguments.tensor(x).tensor(weights).tensor(values).tensor(logits).number(pixels).number(lanes).number(
      stripes.columns);
  // A row of threads does four pixels at a time; registers allow four blocks.
  const int64_t together = 4 * stripes.rows;
  launch("head", x, blocks(x, (pixels + together - 1) / together, 4), 1, arguments.pointers());
  return logits;
}

std::array<Tensor, 3> head_gradient(const Tensor& gradient, const Tensor& x, const Tensor& weight) {
  const Stripes stripes(x.size(1) / lane_width(x));
  if (!own_kernels_run_on(x) || weight.size(0) != 2 || !dense(x) || !in_lanes(x) || !dense(gradient) ||
      !stripes.can_add_up()) {
    const Tensor bias =
        gradient.sum(at::IntArrayRef{0, 2, 3}, false, gradient.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    const auto [below, weights, unused] =
        at::convolution_backward(gradient, x, weight.to(x.scalar_type()), c10::nullopt, {1, 1}, {0, 0}, {1, 1}, false,
                                 {0, 0}, 1, {true, true, false});
    return {at::threshold_backward(below, x, 0), weights.to(weight.scalar_type()), bias};
  }
  const Tensor weights = floats(weight.reshape({2, -1})), out = at::empty(x.sizes(), x.options(), CHANNELS_LAST);
  const int64_t lanes = x.size(1) / lane_width(x), pixels = pixels_of(x);
  // Registers allow four blocks.
  const int64_t slabs = stripes.slabs(x, pixels, 4);
  const auto fp32 = x.options().dtype(at::kFloat);
  const Tensor sums = at::empty({slabs, 3, x.size(1)}, fp32), bias = at::empty({2}, fp32);
  const WeightGradient of_weights(weight, x);
  Arguments arguments;
  arguments.tensor(gradient).tensor(x).tensor(weights).tensor(out).tensor(sums);
  arguments.tensor(of_weights.fp32).tensor(of_weights.narrow).tensor(bias);
  launch("head_gradient", x, slabs, stripes.count,
         arguments.number(pixels).number(lanes).number(stripes.columns).pointers());
  return {out, of_weights.result(), bias};
}

}  // namespace unet::gpu
