#include "gpu/passes.h"

#include <ATen/ATen.h>
#include <algorithm>

#include "gpu/kernel_arguments.h"

namespace unet::gpu {
namespace {

using at::Tensor;

at::ScalarType sum_type(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace

void bias_relu_(Tensor& x, const Tensor& bias) {
  if (!own_kernels_run_on(x) || !dense(x) || !in_lanes(x)) {
    x.add_(bias.view({1, -1, 1, 1})).relu_();
    return;
  }
  const int64_t count = x.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  const Tensor values = floats(bias);
  launch_for_each("bias_relu", x, count, Arguments().tensor(x).tensor(values).tensor(x).number(count).number(lanes));
}

Tensor bias_relu_join(const Tensor& x, const Tensor& bias, const Tensor& skip) {
  TORCH_CHECK(x.sizes() == skip.sizes() && x.scalar_type() == skip.scalar_type(), "cannot join ", x.sizes(), " ",
              x.scalar_type(), " and ", skip.sizes(), " ", skip.scalar_type());
  if (!own_kernels_run_on(x) || !dense(x) || !in_lanes(x) || !in_lanes(skip)) {
    Tensor y = x.clone(CHANNELS_LAST);
    y.add_(bias.view({1, -1, 1, 1})).relu_();
    return at::cat({y, skip}, 1).contiguous(CHANNELS_LAST);
  }
  Tensor joined = at::empty({x.size(0), 2 * x.size(1), x.size(2), x.size(3)}, x.options(), CHANNELS_LAST);
  const int64_t count = x.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  const Tensor values = floats(bias);
  Arguments arguments;
  arguments.tensor(x).tensor(values).tensor(skip).tensor(joined).number(count).number(lanes);
  launch_for_each("bias_relu_join", x, count, arguments.number(x.size(2)).number(x.size(3)).strides(skip));
  return joined;
}

std::tuple<Tensor, Tensor> mask_and_sum(const Tensor& gradient, const Tensor& y) {
  const auto suits = [](const Tensor& x) { return in_lanes(x) && evenly_spaced(x); };
  if (!own_kernels_run_on(gradient) || !suits(gradient) || (y.defined() && !suits(y)) ||
      !Stripes(gradient.size(1) / lane_width(gradient)).can_add_up()) {
    const Tensor masked = (y.defined() ? at::threshold_backward(gradient, y, 0) : gradient).contiguous(CHANNELS_LAST);
    return {masked, masked.sum(at::IntArrayRef{0, 2, 3}, false, sum_type(masked))};
  }
  const int64_t width = lane_width(gradient), lanes = gradient.size(1) / width;
  const int64_t pixels = pixels_of(gradient);
  const Stripes stripes(lanes);
  const int64_t slabs = stripes.slabs(gradient, pixels, 8);
  const auto fp32 = gradient.options().dtype(at::kFloat);
  const Tensor sums = at::empty({slabs, gradient.size(1)}, fp32), totals = at::empty({gradient.size(1)}, fp32);
  const Tensor out = y.defined() ? at::empty(gradient.sizes(), gradient.options(), CHANNELS_LAST) : Tensor();
  Arguments arguments;
  arguments.tensor(gradient).number(gradient.stride(3) / width).tensor(y).number(y.defined() ? y.stride(3) / width : 0);
  arguments.tensor(out).tensor(sums).tensor(totals).number(pixels).number(lanes).number(stripes.columns);
  launch("mask_and_sum", gradient, slabs, stripes.count, arguments.pointers());
  return {y.defined() ? out : gradient.contiguous(CHANNELS_LAST), totals};
}

Tensor max_pool(const Tensor& x) {
  const bool even = x.size(2) % 2 == 0 && x.size(3) % 2 == 0;
  if (!own_kernels_run_on(x) || !even || !dense(x) || !in_lanes(x))
    return std::get<0>(at::max_pool2d_with_indices(x, {2, 2}, {2, 2}, 0, 1, false));
  Tensor pooled = at::empty({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2}, x.options(), CHANNELS_LAST);
  const int64_t count = pooled.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  Arguments arguments;
  launch_for_each("max_pool", x, count,
                  arguments.tensor(x).tensor(pooled).number(count).number(lanes).number(x.size(2)).number(x.size(3)));
  return pooled;
}

Tensor pool_crop_gradient(const Tensor& x, const Tensor& pooled, const Tensor& crop, int64_t top, int64_t left) {
  const auto suits = [](const Tensor& g) { return !g.defined() || in_lanes(g); };
  const bool even = x.size(2) % 2 == 0 && x.size(3) % 2 == 0;
  if (!own_kernels_run_on(x) || !even || !dense(x) || !in_lanes(x) || !suits(pooled) || !suits(crop)) {
    Tensor gradient = at::zeros_like(x);
    if (pooled.defined()) {
      const Tensor places = std::get<1>(at::max_pool2d_with_indices(x, {2, 2}, {2, 2}, 0, 1, false));
      gradient = at::max_pool2d_with_indices_backward(pooled, x, {2, 2}, {2, 2}, 0, 1, false, places);
    }
    if (crop.defined()) gradient.narrow(2, top, crop.size(2)).narrow(3, left, crop.size(3)).add_(crop);
    return at::threshold_backward(gradient, x, 0).contiguous(CHANNELS_LAST);
  }
  Tensor out = at::empty(x.sizes(), x.options(), CHANNELS_LAST);
  const int64_t lanes = x.size(1) / lane_width(x), count = x.numel() / lane_width(x) / 4;
  Arguments arguments;
  arguments.tensor(x).tensor(pooled).strides(pooled).tensor(crop).strides(crop).tensor(out).number(count).number(lanes);
  arguments.number(x.size(2)).number(x.size(3)).number(top).number(left);
  arguments.number(crop.defined() ? crop.size(2) : 0).number(crop.defined() ? crop.size(3) : 0);
  launch_for_each("pool_crop_gradient", x, count, arguments);
  return out;
}

}  // namespace unet::gpu
