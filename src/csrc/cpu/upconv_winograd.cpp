#include "cpu/upconv_winograd.h"

#include "cpu/upconv_taps.h"

namespace unet {
namespace {

constexpr int64_t most_weights = 512 * 256;

const KernelTable& kernels(const at::Tensor& x) { return kernels_2x2(x.scalar_type() == at::kBFloat16); }

// Calls f(parity, tap of the 2x2 filter, tap of the 3x3 filter) along one side.
template <class F>
void each_tap(const F& f) {
  for (const int64_t parity : {0, 1})
    for (int64_t i = 0; i < tap_count(parity); ++i) f(parity, tap_of(parity, i).shift, tap_of(parity, i).k);
}

// Calls f(one tap of the banks [2, 2, O, 2, 2, C], the same of a weight [O, 3, 3, C]) for each of the nine.
template <class F>
void each_pair(const at::Tensor& banks, const at::Tensor& weight, const F& f) {
  each_tap([&](int64_t py, int64_t y, int64_t ky) {
    each_tap([&](int64_t px, int64_t x, int64_t kx) {
      f(banks.select(0, py).select(0, px).select(1, y).select(1, x), weight.select(1, ky).select(1, kx));
    });
  });
}

// The pixels of each kind of a batch, and the banks of the kinds as one: [kind and output][ky][kx][input].
std::vector<Image> kinds_of(const at::Tensor& y) {
  std::vector<Image> images;
  for (const int64_t py : {0, 1})
    for (const int64_t px : {0, 1}) images.push_back(image(y.slice(2, py, {}, 2).slice(3, px, {}, 2)));
  return images;
}
Filter forward_filter(const at::Tensor& banks) {
  const int64_t c = banks.size(3);
  return {banks.data_ptr<float>(), 4 * c, 1, 2 * c, c, false};
}
Filter backward_filter(const at::Tensor& banks) {
  const int64_t c = banks.size(3);
  return {banks.data_ptr<float>(), 1, 4 * c, 2 * c, c, true};
}

std::vector<const Image*> pointers(const std::vector<Image>& images) {
  std::vector<const Image*> result;
  for (const Image& each : images) result.push_back(&each);
  return result;
}

at::Tensor grad_input(const std::vector<Image>& gradients, const std::vector<const Image*>& own, const at::Tensor& x,
                      const at::Tensor& banks, const at::Tensor& mask) {
  const at::Tensor dx = empty_image(x.size(0), x.size(1), x.size(2), x.size(3), x.scalar_type());
  Convolution convolution{kernels(x), gradients};
  // The pixel before counts too.
  convolution.pad = 1;
  convolution.input_masks = own;
  convolution.outputs = {image(dx)};
  Image gate;
  if (mask.defined()) gate = image(mask), convolution.output_masks = {&gate};
  const Filter filter = backward_filter(banks);
  convolve(convolution, nullptr, &filter);
  return dx;
}

}  // namespace

bool upconv_suits_winograd(int64_t inputs, int64_t outputs) { return inputs * outputs <= most_weights; }

at::Tensor upconv_banks(const at::Tensor& weight) {
  const int64_t inputs = weight.size(0), outputs = weight.size(1);
  const at::Tensor by_output = as_float(weight).permute({1, 2, 3, 0}).contiguous();
  const at::Tensor banks = at::zeros({2, 2, outputs, 2, 2, inputs}, at::kFloat);
  each_pair(banks, by_output, [](const at::Tensor& to, const at::Tensor& from) { to.copy_(from); });
  return banks.view({4 * outputs, 2, 2, inputs});
}

at::Tensor upconv_winograd(const at::Tensor& from, const at::Tensor& banks, const at::Tensor& bias, bool relu) {
  const at::Tensor x = channels_adjacent(from), b = as_float(bias).contiguous();
  at::Tensor y = empty_image(x.size(0), bias.size(0), 2 * x.size(2), 2 * x.size(3), x.scalar_type());
  Convolution convolution{kernels(x), {image(x)}};
  convolution.outputs = kinds_of(y);
  convolution.bias = b.data_ptr<float>();
  convolution.relu = relu;
  const Filter filter = forward_filter(banks);
  convolve(convolution, nullptr, &filter);
  return y;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> upconv_winograd_grad(const at::Tensor& grad, const at::Tensor& output,
                                                                    const at::Tensor& from, const at::Tensor& weight,
                                                                    const at::Tensor& mask, bool input,
                                                                    bool parameters) {
  const int64_t inputs = weight.size(0), outputs = weight.size(1);
  const at::Tensor g = channels_adjacent(grad), x = channels_adjacent(from),
                   y = output.defined() ? channels_adjacent(output) : output,
                   gate = mask.defined() ? channels_adjacent(mask) : mask;
  const std::vector<Image> gradients = kinds_of(g), own = y.defined() ? kinds_of(y) : std::vector<Image>();
  at::Tensor dx, dw, db;
  if (input) dx = grad_input(gradients, pointers(own), x, upconv_banks(weight), gate);
  if (parameters) {
    const at::Tensor banks = at::empty({4 * outputs, 2, 2, inputs}, at::kFloat),
                     sums = at::empty({4, outputs}, at::kFloat);
    filter_gradients(kernels(x), {image(x)}, gradients, pointers(own), forward_filter(banks), sums.data_ptr<float>());
    db = sums.sum(0);
    const at::Tensor by_output = at::empty({outputs, 3, 3, inputs}, at::kFloat);
    each_pair(banks.view({2, 2, outputs, 2, 2, inputs}), by_output,
              [](const at::Tensor& from, const at::Tensor& to) { to.copy_(from); });
    dw = at::empty_like(weight, at::kFloat);
    dw.copy_(by_output.permute({3, 0, 1, 2}));
  }
  return {dx, dw, db};
}

}  // namespace unet
