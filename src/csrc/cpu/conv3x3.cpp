#include "cpu/conv3x3.h"
#include "cpu/first_layer.h"
#include "cpu/onednn.h"
#include "cpu/winograd.h"

namespace unet {
namespace {

enum class Algorithm { winograd, first_layer, aten };

// The forward pass of first_layer.h is slower than ATen with fewer outputs: they fill too little of a vector.
constexpr int64_t min_first_layer_outputs = 32;

// Winograd is no faster with fewer channels.
constexpr int64_t min_winograd_channels = 16;
// Products of bf16 are too few to average out their rounding with fewer channels.
constexpr int64_t min_bf16_channels = 64;
// ATen's convolutions of bf16 images are faster than products of floats with fewer input channels.
constexpr int64_t min_floats_on_bf16_inputs = 32;

struct Choice {
  Algorithm algorithm;
  const KernelTable* kernels;  // of Winograd
};

// For x with `first` channels and x2 with `second`, which is 0 without x2.
Choice choose(at::ScalarType dtype, int64_t first, int64_t second, int64_t outputs) {
  const KernelTable* k = kernels_for(dtype);
  const int64_t inputs = first + second;
  if (!k) return {Algorithm::aten, nullptr};
  if (!second && 9 * first <= k->panel) return {Algorithm::first_layer, k};
  if (inputs < min_winograd_channels || outputs < min_winograd_channels) return {Algorithm::aten, nullptr};
  if (k->element_bytes == 4) return {Algorithm::winograd, k};
  if (leaves_bf16_to_onednn()) return {Algorithm::aten, nullptr};
  const bool even = first % 2 == 0 && second % 2 == 0 && outputs % 2 == 0;
  if (inputs >= min_bf16_channels && outputs >= min_bf16_channels && even) return {Algorithm::winograd, k};
  if (inputs < min_floats_on_bf16_inputs) return {Algorithm::aten, nullptr};
  return {Algorithm::winograd, &kernels_f32_on_bf16()};
}

int64_t channels(const at::Tensor& x) { return x.defined() ? x.size(1) : 0; }

struct Inputs {
  at::Tensor x, x2;
  Inputs(const at::Tensor& a, const at::Tensor& b)
      : x(channels_adjacent(a)), x2(b.defined() ? channels_adjacent(b) : b) {
    TORCH_CHECK(!x2.defined() || (x2.size(0) == x.size(0) && x2.size(2) == x.size(2) && x2.size(3) == x.size(3)),
                "cannot concatenate ", x.sizes(), " and ", x2.sizes(), "; they must agree in all but channels");
  }
  std::vector<Image> images() const {
    std::vector<Image> result{image(x)};
    if (x2.defined()) result.push_back(image(x2));
    return result;
  }
  at::Tensor joined() const { return x2.defined() ? at::cat({x, x2}, 1) : x; }
};

at::Tensor aten_forward(const Inputs& in, const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  const auto dtype = arithmetic(in.x.scalar_type());
  at::Tensor y =
      at::conv2d(in.joined().to(dtype), weight.to(dtype, false, false, at::MemoryFormat::ChannelsLast), bias.to(dtype));
  if (relu) y.relu_();
  return y.to(in.x.scalar_type());
}

at::Tensor masked(const at::Tensor& grad, const at::Tensor& output) {
  return output.defined() ? at::threshold_backward(grad, output, 0) : grad;
}

// With filters packed by `pack_filters`, or with raw filters; the other is null.
at::Tensor forward(const KernelTable& k, const Inputs& in, const void* packed, const Filter* raw,
                   const at::Tensor& bias, bool relu) {
  const at::Tensor& x = in.x;
  at::Tensor y = empty_image(x.size(0), bias.size(0), x.size(2) - 2, x.size(3) - 2, x.scalar_type());
  const at::Tensor b = as_float(bias).contiguous();
  Convolution convolution{k, in.images()};
  convolution.outputs = {image(y)};
  convolution.bias = b.data_ptr<float>();
  convolution.relu = relu;
  convolve(convolution, packed, raw);
  return y;
}

// Filters that would take more bytes than this at the points are kept tap by tap, if that is smaller. Transforming them
// in each call costs no more than reading so many bytes from memory.
constexpr int64_t max_points_bytes = int64_t(24) << 20;
bool keeps_taps(const KernelTable& k, const std::vector<Panel>& outputs, int64_t summed_channels) {
  return k.element_bytes == 4 && packed_elements(k, outputs, summed_channels) * 4 > max_points_bytes;
}

}  // namespace

std::optional<at::Tensor> conv3x3_pack(const at::Tensor& weight, at::ScalarType dtype) {
  const int64_t outputs = weight.size(0), summed_channels = weight.size(1);
  const Choice choice = choose(dtype, summed_channels, 0, outputs);
  switch (choice.algorithm) {
    case Algorithm::aten: return onednn_pack(weight, dtype);
    case Algorithm::first_layer: return std::nullopt;
    case Algorithm::winograd: break;
  }
  const at::Tensor w = as_float(weight);
  const KernelTable& k = *choice.kernels;
  const auto vectors = output_panels(k, outputs);
  const bool taps = keeps_taps(k, vectors, summed_channels);
  at::Tensor data = at::empty(
      {taps ? packed_taps_elements(k, vectors, summed_channels) : packed_elements(k, vectors, summed_channels)},
      element_type(k));
  (taps ? pack_taps : pack_filters)(k, filter_of(w, false, false), vectors, summed_channels, data.data_ptr());
  return data;
}

at::Tensor conv3x3_packed(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& packed, const at::Tensor& bias,
                          bool relu) {
  UNET_PROFILED("conv3x3");
  const Inputs in(x, x2);
  const auto dtype = x.scalar_type();
  const int64_t summed_channels = channels(x) + channels(x2);
  if (packed.is_mkldnn()) {
    TORCH_CHECK(packed.scalar_type() == dtype && packed.size(1) == summed_channels && x.size(2) > 2 && x.size(3) > 2,
                "cannot convolve ", x.sizes(), " of ", dtype, " with ", packed.sizes(), " of ", packed.scalar_type());
    return onednn_conv3x3(in.joined(), packed, bias, relu);
  }
  const Choice choice = choose(dtype, channels(x), channels(x2), bias.size(0));
  TORCH_CHECK(choice.algorithm == Algorithm::winograd && packed.scalar_type() == element_type(*choice.kernels) &&
                  x.size(2) > 2 && x.size(3) > 2,
              "cannot convolve ", x.sizes(), " of ", dtype, " with filters packed for ", packed.scalar_type());
  const KernelTable& k = *choice.kernels;
  const auto vectors = output_panels(k, bias.size(0));
  const bool taps = keeps_taps(k, vectors, summed_channels);
  TORCH_CHECK(packed.numel() == (taps ? packed_taps_elements(k, vectors, summed_channels)
                                      : packed_elements(k, vectors, summed_channels)),
              "cannot convolve ", x.sizes(), " with filters packed for another number of channels");
  if (!taps) return forward(k, in, packed.data_ptr(), nullptr, bias, relu);
  const int64_t tap = summed_channels * k.panel;
  const Filter raw{packed.data_ptr<float>(), 1, k.panel, 3 * tap, tap, false, 9 * tap};
  return forward(k, in, nullptr, &raw, bias, relu);
}

at::Tensor conv3x3(const at::Tensor& x, const at::Tensor& x2, const at::Tensor& weight, const at::Tensor& bias,
                   bool relu) {
  UNET_PROFILED("conv3x3");
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(1) == channels(x) + channels(x2) && x.size(2) > 2 &&
                  x.size(3) > 2,
              "cannot convolve ", x.sizes(), " with ", weight.sizes(),
              "; channels must agree and images be 3 x 3 at least");
  const Inputs in(x, x2);
  const Choice choice = choose(x.scalar_type(), channels(x), channels(x2), weight.size(0));
  switch (choice.algorithm) {
    case Algorithm::winograd: {
      const at::Tensor w = as_float(weight);
      const Filter raw = filter_of(w, false, false);
      return forward(*choice.kernels, in, nullptr, &raw, bias, relu);
    }
    case Algorithm::first_layer:
      if (weight.size(0) >= min_first_layer_outputs) return first_layer(in.x, as_float(weight), as_float(bias), relu);
      break;
    case Algorithm::aten: break;
  }
  return aten_forward(in, weight, bias, relu);
}

std::tuple<at::Tensor, at::Tensor> conv3x3_grad_input(const at::Tensor& grad, const at::Tensor& output,
                                                      const at::Tensor& weight, int64_t first, const at::Tensor& mask,
                                                      const at::Tensor& mask2) {
  UNET_PROFILED("conv3x3 input gradient");
  const int64_t n = grad.size(0), h = grad.size(2) + 2, w = grad.size(3) + 2, second = weight.size(1) - first;
  const auto dtype = grad.scalar_type();
  if (choose(dtype, first, second, weight.size(0)).algorithm != Algorithm::winograd) {
    const auto computed = arithmetic(dtype);
    const at::Tensor dx = at::convolution(masked(grad, output).to(computed), weight.to(computed), {}, {1, 1}, {0, 0},
                                          {1, 1}, true, {0, 0}, 1)
                              .to(dtype);
    if (!second) return {masked(dx, mask), {}};
    return {masked(dx.narrow(1, 0, first), mask), masked(dx.narrow(1, first, second), mask2)};
  }
  const at::Tensor g = channels_adjacent(grad), own = output.defined() ? channels_adjacent(output) : output,
                   f = as_float(weight);
  const at::Tensor tensors[2] = {empty_image(n, first, h, w, dtype),
                                 second ? empty_image(n, second, h, w, dtype) : at::Tensor()};
  const at::Tensor masks[2] = {mask.defined() ? channels_adjacent(mask) : mask,
                               mask2.defined() ? channels_adjacent(mask2) : mask2};
  // bf16 gradients are computed in floats too. With tiles rounded to bf16, their error was 1.8 times that of direct
  // convolution in bf16; with floats it is 0.7 times. That takes hardly more time, because fp32 has larger tiles.
  const KernelTable& k = dtype == at::kBFloat16 ? kernels_f32_on_bf16() : *kernels_for(dtype);
  Convolution convolution{k, {image(g)}};
  Image own_mask, output_masks[2];
  if (own.defined()) own_mask = image(own), convolution.input_masks = {&own_mask};
  convolution.pad = 2;
  for (int i = 0; i < (second ? 2 : 1); ++i) {
    convolution.outputs.push_back(image(tensors[i]));
    if (masks[i].defined()) output_masks[i] = image(masks[i]);
    convolution.output_masks.push_back(masks[i].defined() ? &output_masks[i] : nullptr);
  }
  const Filter raw = filter_of(f, true, true);
  convolve(convolution, nullptr, &raw);
  return {tensors[0], tensors[1]};
}

std::tuple<at::Tensor, at::Tensor> conv3x3_grad_weight(const at::Tensor& grad, const at::Tensor& output,
                                                       const at::Tensor& x, const at::Tensor& x2,
                                                       const at::Tensor& weight) {
  UNET_PROFILED("conv3x3 weight gradient");
  const Inputs in(x, x2);
  const auto dtype = x.scalar_type();
  const Choice choice = choose(dtype, channels(x), channels(x2), weight.size(0));
  if (choice.algorithm == Algorithm::aten) {
    const auto computed = arithmetic(dtype);
    const at::Tensor g = masked(grad, output).to(computed);
    auto all = at::convolution_backward(g, in.joined().to(computed), weight.to(computed),
                                        at::OptionalIntArrayRef(at::IntArrayRef{weight.size(0)}), {1, 1}, {0, 0},
                                        {1, 1}, false, {0, 0}, 1, {false, true, true});
    return {as_float(std::get<1>(all)), as_float(std::get<2>(all))};
  }
  const at::Tensor g = channels_adjacent(grad), own = output.defined() ? channels_adjacent(output) : output;
  if (choice.algorithm == Algorithm::first_layer) return first_layer_grad(g, own, in.x, weight);
  at::Tensor dw = at::empty_like(weight, at::kFloat), db = at::empty({weight.size(0)}, at::kFloat);
  Image mask;
  if (own.defined()) mask = image(own);
  filter_gradients(*choice.kernels, in.images(), {image(g)}, {own.defined() ? &mask : nullptr},
                   filter_of(dw, false, false), db.data_ptr<float>());
  return {dw, db};
}

}  // namespace unet
