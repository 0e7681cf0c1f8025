#include "gpu/few_channels.h"

#include "gpu/kernel_arguments.h"
#include "gpu/passes.h"

namespace unet::gpu {

using at::Tensor;

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
  if (!own_kernels_run_on(x) || !dense(x) || !suits(gradient) || !suits(y)) {
    const auto [masked, bias] = mask_and_sum(gradient, y);
    const auto gradients = at::convolution_backward(masked, x, weight.to(x.scalar_type()), c10::nullopt, {1, 1}, {0, 0},
                                                    {1, 1}, false, {0, 0}, 1, {false, true, false});
    return {std::get<1>(gradients).to(weight.scalar_type()), bias};
  }
  const int64_t outputs = y.size(1), lanes = outputs / lane_width(y), pixels = pixels_of(y);
  const Stripes stripes(lanes);
  const int64_t slabs = stripes.slabs(y, pixels);
  Tensor sums = at::empty({slabs, 10, outputs}, y.options().dtype(at::kFloat));
  Arguments arguments;
  arguments.tensor(gradient).tensor(y).tensor(x).tensor(sums).number(pixels).number(lanes).number(stripes.columns);
  launch("first_layer_gradient", y, slabs, stripes.count, arguments.number(y.size(2)).number(y.size(3)).pointers());
  const Tensor total = sums.sum(0);
  return {total.narrow(0, 0, 9).t().reshape({outputs, 1, 3, 3}).to(weight.scalar_type()), total[9]};
}

Tensor head(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (!own_kernels_run_on(x) || weight.size(0) != 2 || !dense(x) || !in_lanes(x))
    return at::convolution(x, weight.to(x.scalar_type()), bias.to(x.scalar_type()), {1, 1}, {0, 0}, {1, 1}, false,
                           {0, 0}, 1)
        .contiguous(CHANNELS_LAST);
  Tensor logits = at::empty({x.size(0), 2, x.size(2), x.size(3)}, x.options(), CHANNELS_LAST);
  const Tensor weights = floats(weight.reshape({2, -1})), values = floats(bias);
  const int64_t pixels = pixels_of(x);
  Arguments arguments;
  arguments.tensor(x).tensor(weights).tensor(values).tensor(logits).number(pixels).number(x.size(1) / lane_width(x));
  launch_for_each("head", x, pixels, arguments);
  return logits;
}

std::array<Tensor, 3> head_gradient(const Tensor& gradient, const Tensor& x, const Tensor& weight) {
  const Tensor bias =
      gradient.sum(at::IntArrayRef{0, 2, 3}, false, gradient.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  if (!own_kernels_run_on(x) || weight.size(0) != 2 || !dense(x) || !in_lanes(x) || !dense(gradient)) {
    const auto [below, weights, unused] =
        at::convolution_backward(gradient, x, weight.to(x.scalar_type()), c10::nullopt, {1, 1}, {0, 0}, {1, 1}, false,
                                 {0, 0}, 1, {true, true, false});
    return {at::threshold_backward(below, x, 0), weights.to(weight.scalar_type()), bias};
  }
  const Tensor weights = floats(weight.reshape({2, -1})), out = at::empty(x.sizes(), x.options(), CHANNELS_LAST);
  const int64_t lanes = x.size(1) / lane_width(x), pixels = pixels_of(x);
  const Stripes stripes(lanes);
  const int64_t slabs = stripes.slabs(x, pixels);
  Tensor sums = at::empty({slabs, 2, x.size(1)}, x.options().dtype(at::kFloat));
  Arguments arguments;
  arguments.tensor(gradient).tensor(x).tensor(weights).tensor(out).tensor(sums).number(pixels).number(lanes).number(
      stripes.columns);
  launch("head_gradient", x, slabs, stripes.count, arguments.pointers());
  return {out, sums.sum(0).view({2, x.size(1), 1, 1}).to(weight.scalar_type()), bias};
}

}  // namespace unet::gpu
