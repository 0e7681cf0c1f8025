// Checks that each kernel gets the right arguments: the layers, losses and update of src/csrc/gpu, with the CUDA
// kernels run on the CPU, against libtorch's operations. tests/cuda_kernels.rs links it with the shim as build.rs made
// it. The functions defined here replace those of gpu/cuda/kernel_launcher.cpp and gpu/cuda/fused_convolution.cpp.
#include <ATen/ATen.h>
#include <pthread.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gpu/adam.h"
#include "gpu/fused_convolution.h"
#include "gpu/gpu_autograd.h"
#include "gpu/kernel_launcher.h"
#include "gpu/loss.h"
#include "gpu/subpixel.h"

namespace emulated {
#include "emulation.h"
}

using at::Tensor;

#if defined(SCALAR_FLOAT)
constexpr at::ScalarType TYPE = at::kFloat;
#else
constexpr at::ScalarType TYPE = at::kBFloat16;
#endif

// Whether kernels run, or libtorch's operations in their place.
static bool use_emulation = false;
// How often each kernel was launched.
static std::map<std::string, int> launches;

template <class... Parameters, size_t... I>
static void start(void (*kernel)(Parameters...), unsigned grid_x, unsigned grid_y, void** arguments,
                  std::index_sequence<I...>) {
  emulated::run(grid_x, grid_y, kernel, *static_cast<Parameters*>(arguments[I])...);
}

template <class... Parameters>
static void start(void (*kernel)(Parameters...), unsigned grid_x, unsigned grid_y, void** arguments) {
  start(kernel, grid_x, grid_y, arguments, std::index_sequence_for<Parameters...>{});
}

namespace unet::gpu {

bool kernels_are_ready(const Tensor& x) { return use_emulation && x.scalar_type() == TYPE; }

unsigned blocks(const Tensor&, int64_t wanted, int64_t) { return static_cast<unsigned>(std::min<int64_t>(wanted, 2)); }

void launch(const char* kernel, const Tensor& x, unsigned grid_x, unsigned grid_y, void** arguments) {
  TORCH_CHECK(x.scalar_type() == TYPE, kernel, " for ", x.scalar_type());
  launches[kernel]++;
#define CASE(name) \
  if (std::string(kernel) == #name) return start(emulated::name, grid_x, grid_y, arguments)
  CASE(bias_relu);
  CASE(bias_relu_join);
  CASE(mask_and_sum);
  CASE(max_pool);
  CASE(pool_crop_gradient);
  CASE(first_layer);
  CASE(first_layer_gradient);
  CASE(head);
  CASE(head_gradient);
  CASE(loss_sums);
  CASE(loss_finish);
  CASE(loss_gradient);
  CASE(adam);
  CASE(note_not_finite);
#undef CASE
  TORCH_CHECK(false, "no kernel ", kernel);
}

bool compile_for(int) { return false; }

Tensor fused_convolution(const Tensor&, const Tensor&, const Tensor&, const std::function<Tensor()>&) { return {}; }

Tensor fused_up_convolution(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const std::function<Tensor()>&,
                            bool) {
  return {};
}

}  // namespace unet::gpu

using Tensors = std::vector<Tensor>;

static Tensor channels_last(const Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

// Cross entropy and 1 - soft Dice by libtorch's operations.
static std::pair<Tensor, Tensor> plain_losses(const Tensor& logits, const Tensor& labels) {
  const int64_t classes = logits.size(1);
  const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  const Tensor probability = wide.softmax(1),
               target = at::one_hot(labels, classes).permute({0, 3, 1, 2}).to(wide.scalar_type());
  const Tensor overlap = 2 * (probability * target).sum({2, 3}) + 1e-6,
               size = (probability.pow(2) + target).sum({2, 3}) + 1e-6;
  return {at::nll_loss2d(wide.log_softmax(1), labels), 1 - (overlap / size).mean()};
}

// Two levels of a U-Net and the losses, joined as in src/model/unet.rs. Images of several channels, and several
// classes, have no kernels of their own in the first layer, the head and the losses.
static Tensors with_gpu_layers(const Tensor& x, const Tensors& p, const Tensor& labels) {
  namespace gpu = unet::gpu;
  const Tensor first =
      x.size(1) == 1 ? gpu::first_layer_relu(x, p[0], p[1]) : gpu::conv3x3_relu(x, p[0], p[1], {}, false);
  const auto [pooled, skip] = gpu::pool_and_crop(gpu::conv3x3_relu(first, p[2], p[3], {}, true), 16, 20);
  const Tensor low = gpu::conv3x3_relu(pooled, p[4], p[5], {}, false),
               joined = gpu::upconv_relu_join(low, skip, p[6], p[7]);
  const Tensor logits = gpu::head_of_relu(gpu::conv3x3_relu(joined, p[8], p[9], {}, true), p[10], p[11]);
  if (logits.size(1) != 2) {
    const auto [cross_entropy, dice_loss] = plain_losses(logits, labels);
    return {logits, cross_entropy, dice_loss};
  }
  const auto [cross_entropy, dice_loss] = gpu::losses(logits, labels, 1e-6);
  return {logits, cross_entropy, dice_loss};
}

static Tensors with_plain_operations(const Tensor& x, const Tensors& parameters, const Tensor& labels) {
  Tensors p;
  for (const Tensor& parameter : parameters) p.push_back(parameter.to(x.scalar_type()));
  const Tensor first = at::conv2d(at::conv2d(x, p[0], p[1]).relu(), p[2], p[3]).relu();
  const Tensor low = at::conv2d(at::max_pool2d(first, {2, 2}), p[4], p[5]).relu();
  const Tensor up = at::conv_transpose2d(low, p[6], p[7], {2, 2}, {1, 1}, {1, 1}).relu();
  const int64_t top = (first.size(2) - up.size(2)) / 2, left = (first.size(3) - up.size(3)) / 2;
  const Tensor joined = at::cat({up, first.narrow(2, top, up.size(2)).narrow(3, left, up.size(3))}, 1);
  const Tensor logits = at::conv2d(at::conv2d(joined, p[8], p[9]).relu(), p[10], p[11]);
  const auto [cross_entropy, dice_loss] = plain_losses(logits, labels);
  return {logits, cross_entropy, dice_loss};
}

// The logits, both losses and the gradients of all parameters.
template <class Network>
static Tensors results(Network network, const Tensors& given, const Tensor& x, const Tensor& labels,
                       at::ScalarType type, at::ScalarType master) {
  Tensors parameters;
  for (const Tensor& values : given)
    parameters.push_back(
        (values.dim() == 4 ? channels_last(values.to(master)) : values.to(master)).clone().requires_grad_());
  Tensors found = network(channels_last(x.to(type)), parameters, labels);
  (found[1] + 0.5 * found[2]).backward();
  for (const Tensor& parameter : parameters) {
    TORCH_CHECK(parameter.grad().scalar_type() == parameter.scalar_type(), "gradient of ",
                parameter.grad().scalar_type());
    found.push_back(parameter.grad());
  }
  return found;
}

static double worst(const Tensors& found, const Tensors& exact) {
  double worst = 0;
  for (size_t i = 0; i < exact.size(); i++) {
    const double distance = ((found[i].to(at::kDouble) - exact[i]).norm() / exact[i].norm()).item<double>();
    if (!(distance <= worst)) worst = distance;
  }
  return worst;
}

static int failures = 0;

static void expect(const char* what, double value, double limit) {
  std::printf("%s: %.1e, at most %.1e\n", what, value, limit);
  if (!(value <= limit)) failures++;
}

static void check_network(int64_t channels, int64_t inputs, int64_t classes) {
  const int64_t shapes[][4] = {{channels, inputs, 3, 3},       {channels, channels, 3, 3},
                               {2 * channels, channels, 3, 3}, {2 * channels, channels, 3, 3},
                               {channels, 2 * channels, 3, 3}, {classes, channels, 1, 1}};
  Tensors given;
  for (const auto& shape : shapes) {
    const bool transposed = given.size() == 6;
    given.push_back(at::randn(at::IntArrayRef(shape, 4), at::kDouble) *
                    std::sqrt(2.0 / (shape[1] * shape[2] * shape[3])));
    given.push_back(at::randn({shape[transposed ? 1 : 0]}, at::kDouble) * 0.1);
  }
  const Tensor x = at::randn({2, inputs, 24, 28}, at::kDouble),
               labels = at::randint(0, classes, {2, 14, 18}, at::kLong);
  const Tensors exact = results(with_plain_operations, given, x, labels, at::kDouble, at::kDouble);
  const double plain = worst(results(with_plain_operations, given, x, labels, TYPE, at::kFloat), exact);
  use_emulation = true;
  const double found = worst(results(with_gpu_layers, given, x, labels, TYPE, at::kFloat), exact);
  // Training keeps a copy of the parameters in the dtype of activations.
  const double working = worst(results(with_gpu_layers, given, x, labels, TYPE, TYPE), exact);
  use_emulation = false;
  expect("distance of the network from float64", found, 1.5 * plain + 1e-5);
  expect("the same with 16-bit weights", working, 1.5 * plain + 1e-5);
}

// The four parts of an up-convolution, each by libtorch's convolution, against the transposed convolution.
static void check_parts() {
  const auto random = [](at::IntArrayRef sizes) { return channels_last(at::randn(sizes, at::kDouble)); };
  const Tensor x = random({2, 6, 5, 7}), weight = random({6, 4, 3, 3}), skip = random({2, 4, 10, 14}),
               bias = at::randn({4}, at::kDouble);
  const Tensor exact = at::cat({at::conv_transpose2d(x, weight, bias, {2, 2}, {1, 1}, {1, 1}).relu(), skip}, 1);
  const Tensor found = unet::gpu::join_of_parts(x, skip, weight, [&](size_t i, const Tensor& own, Tensor& y) {
    const auto [row, column] = unet::gpu::PARTS[i];
    expect("a part's weight is dense", own.is_contiguous(at::MemoryFormat::ChannelsLast) ? 0 : 1, 0);
    y.copy_(at::conv2d(at::constant_pad_nd(x, {0, column, 0, row}), own, bias).relu());
  });
  expect("an up-convolution in four parts", worst({found}, {exact}), 1e-14);
}

static void check_adam() {
  const auto random = [] {
    std::vector<unet::gpu::Weight> weights;
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{24, 8, 3, 3}, {2, 16, 1, 1}}) {
      const auto draw = [&](double scale) { return channels_last(at::randn(shape) * scale); };
      const Tensor master = draw(1);
      weights.push_back({master, draw(8).to(TYPE), draw(0.1), draw(0.1).square(), master.to(TYPE)});
    }
    return weights;
  };
  for (const double inf : {0.0, 1.0}) {
    std::vector<unet::gpu::Weight> both[2] = {random(), {}};
    for (const auto& w : both[0])
      both[1].push_back(
          {w.master.clone(), w.gradient.clone(), w.exp_avg.clone(), w.exp_avg_sq.clone(), w.working.clone()});
    const Tensor before = both[0][0].master.clone();
    for (const int emulated : {0, 1}) {
      use_emulation = emulated;
      unet::gpu::adam(both[emulated], at::full({}, 3.0f), at::full({1}, inf, at::kFloat), at::full({}, 0.125f),
                      {1e-2, 0.9, 0.999, 1e-8, 5e-4});
    }
    use_emulation = false;
    expect("adam moves weights", ((both[1][0].master - before).abs().max().item<double>() > 0) == (inf == 0) ? 0 : 1,
           0);
    for (size_t i = 0; i < both[0].size(); i++) {
      const auto &a = both[0][i], &b = both[1][i];
      expect("adam",
             worst({b.master, b.exp_avg, b.exp_avg_sq},
                   {a.master.to(at::kDouble), a.exp_avg.to(at::kDouble), a.exp_avg_sq.to(at::kDouble)}),
             1e-6);
      expect("the working copy",
             (b.working.to(at::kFloat) - b.master.to(TYPE).to(at::kFloat)).abs().max().item<double>(), 0);
    }
  }
}

static void check_note_not_finite() {
  for (const double bad : {0.5, HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    std::vector<Tensor> gradients{channels_last(at::randn({24, 8, 3, 3})).to(TYPE), at::randn({2, 16, 1, 1}).to(TYPE)};
    gradients[1].flatten()[31] = bad;
    const Tensor found = at::zeros({1}), before = gradients[0].clone();
    use_emulation = true;
    const bool is_done = unet::gpu::note_not_finite(gradients, found);
    use_emulation = false;
    expect("the check of gradients runs", is_done ? 0 : 1, 0);
    expect("gradients that are not finite", std::fabs(found.item<double>() - (std::isfinite(bad) ? 0 : 1)), 0);
    expect("gradients are left as they are", gradients[0].equal(before) ? 0 : 1, 0);
    expect("without kernels nothing is done", unet::gpu::note_not_finite(gradients, found) ? 1 : 0, 0);
  }
}

// The choice among kernels of cuDNN's: one that fails costs itself alone.
static void check_choice() {
  const float times[] = {5, 3, -1, 4};  // -1 fails
  int failed = 0;
  const auto choose = [&](size_t count, float limit) {
    const auto time_of = [&](size_t i) {
      TORCH_CHECK(times[i] >= 0, "fails");
      return times[i];
    };
    const auto found = unet::gpu::fastest_of(count, limit, time_of, [&](const std::exception&) { failed++; });
    return found ? static_cast<int>(*found) : -1;
  };
  expect("the fastest", std::abs(choose(4, 10) - 1), 0);
  expect("a failure costs itself alone", std::abs(failed - 1), 0);
  expect("none is faster than the limit", std::abs(choose(4, 3) + 1), 0);
  expect("no candidates", std::abs(choose(0, 10) + 1), 0);
  // 64 channels of 570x570 pixels pass 2^31 elements with image 104.
  expect("103 images fit", unet::gpu::fits_cudnn({103, 1, 572, 572}, 64) ? 0 : 1, 0);
  expect("104 images do not", unet::gpu::fits_cudnn({104, 1, 572, 572}, 64) ? 1 : 0, 0);
  expect("an up-convolution of 104 images fits", unet::gpu::fits_cudnn_join({104, 64, 392, 392}) ? 0 : 1, 0);
  expect("one of 110 images does not", unet::gpu::fits_cudnn_join({110, 64, 392, 392}) ? 1 : 0, 0);
  expect("104 images as input do not", unet::gpu::fits_cudnn({104, 64, 570, 570}, 8) ? 1 : 0, 0);
}

int main() {
  at::manual_seed(1);
  check_choice();
  check_parts();
  check_network(16, 1, 2);
  check_network(24, 1, 2);
  check_network(16, 3, 4);
  check_adam();
  check_note_not_finite();
  expect("kernels that were not run", 14 - static_cast<double>(launches.size()), 0);
  return failures ? 1 : 0;
}
