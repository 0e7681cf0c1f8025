#include "passes.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "kernels.h"

namespace unet::gpu {
namespace {

using at::Tensor;

constexpr auto CHANNELS_LAST = at::MemoryFormat::ChannelsLast;

// Elements that a thread moves at a time: 16 bytes.
int64_t lane_width(const Tensor& x) { return 16 / x.element_size(); }

// Whether threads can move x in lanes: whole lanes per pixel, each on a multiple of 16 bytes. Kernels count lanes in 32 bits.
bool in_lanes(const Tensor& x) {
  const int64_t width = lane_width(x);
  const auto whole = [&](int64_t n) { return n % width == 0; };
  return x.stride(1) == 1 && whole(x.size(1)) && whole(x.stride(0)) && whole(x.stride(2)) && whole(x.stride(3)) &&
         reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 && x.storage().nbytes() / 16 < std::numeric_limits<int32_t>::max();
}

bool dense(const Tensor& x) { return x.is_contiguous(CHANNELS_LAST); }

// Whether one stride leads from each pixel to the next, over rows and images too.
bool evenly_spaced(const Tensor& x) {
  return x.stride(2) == x.size(3) * x.stride(3) && x.stride(0) == x.size(2) * x.stride(2);
}

bool use_kernels(const Tensor& x) { return x.is_cuda() && kernels() != Kernels::aten && kernels_are_ready(x); }

// The biases as kernels read them: fp32, on a multiple of 16 bytes.
Tensor biases(const Tensor& bias) {
  const Tensor values = bias.to(at::kFloat).contiguous();
  return reinterpret_cast<uintptr_t>(values.const_data_ptr()) % 16 == 0 ? values : values.clone();
}

// A kernel's arguments, kept where it can read them. Tensors become pointers, undefined ones null; counts and strides 32 bits.
class Arguments {
 public:
  Arguments& tensor(const Tensor& x) {
    values_[count_] = x.defined() ? reinterpret_cast<uint64_t>(x.data_ptr()) : 0;
    return next();
  }
  Arguments& number(int64_t n) {
    // Little-endian: the kernel reads the low half.
    values_[count_] = static_cast<uint32_t>(n);
    return next();
  }
  // Strides from image to image, row to row and pixel to pixel, in lanes; of nothing, 0.
  Arguments& strides(const Tensor& x) {
    for (const int64_t dim : {0, 2, 3}) number(x.defined() ? x.stride(dim) / lane_width(x) : 0);
    return *this;
  }
  void** pointers() { return pointers_; }

 private:
  Arguments& next() {
    pointers_[count_] = &values_[count_];
    count_++;
    return *this;
  }
  static constexpr int MOST = 24;
  uint64_t values_[MOST];
  void* pointers_[MOST];
  int count_ = 0;
};

// How the threads of a block stand side by side: `columns` lanes of a pixel, `rows` pixels. A stripe is one warp's 512 bytes of a pixel, or
// all of a pixel that has less.
struct Stripes {
  explicit Stripes(int64_t lanes) : columns(std::min<int64_t>(lanes, 32)), rows(THREADS / columns), count((lanes + columns - 1) / columns) {}
  int64_t columns, rows, count;

  // Blocks that add up `pixels` pixels. Four a thread at least: each block's sums are written and read again.
  int64_t slabs(const Tensor& x, int64_t pixels) const { return blocks(x, std::max<int64_t>(1, pixels / (4 * rows))); }
};

int64_t pixels_of(const Tensor& x) { return x.size(0) * x.size(2) * x.size(3); }

// Starts a kernel that does one lane per thread and turn.
void launch_for_each(const char* kernel, const Tensor& x, int64_t count, Arguments& arguments) {
  launch(kernel, x, blocks(x, (count + THREADS - 1) / THREADS), 1, arguments.pointers());
}

at::ScalarType sum_type(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace

Kernels kernels() {
  static const Kernels chosen = [] {
    const char* name = std::getenv("UNET_CUDA_KERNELS");
    const std::string text = name ? name : "own";
    TORCH_CHECK(text == "own" || text == "fused" || text == "aten", "UNET_CUDA_KERNELS is '", text, "'; use own, fused or aten");
    return text == "own" ? Kernels::own : text == "fused" ? Kernels::fused : Kernels::aten;
  }();
  return chosen;
}

void bias_relu_(Tensor& x, const Tensor& bias) {
  if (!use_kernels(x) || !dense(x) || !in_lanes(x)) {
    x.add_(bias.view({1, -1, 1, 1})).relu_();
    return;
  }
  const int64_t count = x.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  const Tensor values = biases(bias);
  launch_for_each("bias_relu", x, count, Arguments().tensor(x).tensor(values).tensor(x).number(count).number(lanes));
}

Tensor bias_relu_join(const Tensor& x, const Tensor& bias, const Tensor& skip) {
  TORCH_CHECK(x.sizes() == skip.sizes() && x.scalar_type() == skip.scalar_type(), "cannot join ", x.sizes(), " ", x.scalar_type(),
              " and ", skip.sizes(), " ", skip.scalar_type());
  if (!use_kernels(x) || !dense(x) || !in_lanes(x) || !in_lanes(skip)) {
    Tensor y = x.clone(CHANNELS_LAST);
    y.add_(bias.view({1, -1, 1, 1})).relu_();
    return at::cat({y, skip}, 1).contiguous(CHANNELS_LAST);
  }
  Tensor joined = at::empty({x.size(0), 2 * x.size(1), x.size(2), x.size(3)}, x.options(), CHANNELS_LAST);
  const int64_t count = x.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  const Tensor values = biases(bias);
  Arguments arguments;
  arguments.tensor(x).tensor(values).tensor(skip).tensor(joined).number(count).number(lanes);
  launch_for_each("bias_relu_join", x, count, arguments.number(x.size(2)).number(x.size(3)).strides(skip));
  return joined;
}

std::tuple<Tensor, Tensor> mask_and_sum(const Tensor& gradient, const Tensor& y) {
  const auto suits = [](const Tensor& x) { return in_lanes(x) && evenly_spaced(x); };
  if (!use_kernels(gradient) || !suits(gradient) || (y.defined() && !suits(y))) {
    const Tensor masked = (y.defined() ? at::threshold_backward(gradient, y, 0) : gradient).contiguous(CHANNELS_LAST);
    return {masked, masked.sum(at::IntArrayRef{0, 2, 3}, false, sum_type(masked))};
  }
  const int64_t width = lane_width(gradient), lanes = gradient.size(1) / width;
  const int64_t pixels = pixels_of(gradient);
  const Stripes stripes(lanes);
  const int64_t slabs = stripes.slabs(gradient, pixels);
  Tensor sums = at::empty({slabs, gradient.size(1)}, gradient.options().dtype(at::kFloat));
  const Tensor out = y.defined() ? at::empty(gradient.sizes(), gradient.options(), CHANNELS_LAST) : Tensor();
  Arguments arguments;
  arguments.tensor(gradient).number(gradient.stride(3) / width).tensor(y).number(y.defined() ? y.stride(3) / width : 0);
  arguments.tensor(out).tensor(sums).number(pixels).number(lanes).number(stripes.columns);
  launch("mask_and_sum", gradient, slabs, stripes.count, arguments.pointers());
  return {y.defined() ? out : gradient.contiguous(CHANNELS_LAST), sums.sum(0)};
}

Tensor first_layer(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t outputs = weight.size(0), height = x.size(2) - 2, width = x.size(3) - 2;
  Tensor y;
  if (use_kernels(x) && dense(x)) y = at::empty({x.size(0), outputs, height, width}, x.options(), CHANNELS_LAST);
  if (!y.defined() || !in_lanes(y)) {
    y = at::convolution(x, weight.to(x.scalar_type()), {}, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1).contiguous(CHANNELS_LAST);
    bias_relu_(y, bias);
    return y;
  }
  // [tap, channel] in fp32.
  const Tensor taps = weight.to(at::kFloat).reshape({outputs, 9}).t().contiguous(), values = biases(bias);
  const int64_t lanes = outputs / lane_width(y), pixels = pixels_of(y);
  const Stripes stripes(lanes);
  Arguments arguments;
  arguments.tensor(x).tensor(taps).tensor(values).tensor(y).number(pixels).number(lanes).number(stripes.columns).number(height).number(width);
  launch("first_layer", y, blocks(y, (pixels + stripes.rows - 1) / stripes.rows), stripes.count, arguments.pointers());
  return y;
}

std::tuple<Tensor, Tensor> first_layer_gradient(const Tensor& gradient, const Tensor& y, const Tensor& x, const Tensor& weight) {
  const auto suits = [](const Tensor& x) { return dense(x) && in_lanes(x); };
  if (!use_kernels(x) || !dense(x) || !suits(gradient) || !suits(y)) {
    const auto [masked, bias] = mask_and_sum(gradient, y);
    const auto gradients = at::convolution_backward(masked, x, weight.to(x.scalar_type()), c10::nullopt, {1, 1}, {0, 0}, {1, 1}, false, {0, 0},
                                                    1, {false, true, false});
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

Tensor max_pool(const Tensor& x) {
  const bool even = x.size(2) % 2 == 0 && x.size(3) % 2 == 0;
  if (!use_kernels(x) || !even || !dense(x) || !in_lanes(x))
    return std::get<0>(at::max_pool2d_with_indices(x, {2, 2}, {2, 2}, 0, 1, false));
  Tensor pooled = at::empty({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2}, x.options(), CHANNELS_LAST);
  const int64_t count = pooled.numel() / lane_width(x), lanes = x.size(1) / lane_width(x);
  Arguments arguments;
  launch_for_each("max_pool", x, count, arguments.tensor(x).tensor(pooled).number(count).number(lanes).number(x.size(2)).number(x.size(3)));
  return pooled;
}

Tensor pool_crop_gradient(const Tensor& x, const Tensor& pooled, const Tensor& crop, int64_t top, int64_t left) {
  const auto suits = [](const Tensor& g) { return !g.defined() || in_lanes(g); };
  const bool even = x.size(2) % 2 == 0 && x.size(3) % 2 == 0;
  if (!use_kernels(x) || !even || !dense(x) || !in_lanes(x) || !suits(pooled) || !suits(crop)) {
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
