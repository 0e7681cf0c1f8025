// This file has not run on a GPU.
#include "gpu/fused_convolution.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <ATen/cuda/CUDAGraphsUtils.cuh>
#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "gpu/cuda/fused_plan.h"
#include "gpu/kernel_arguments.h"
#include "gpu/subpixel.h"

namespace unet::gpu {
namespace {

using at::Tensor;

constexpr float NO_LIMIT = std::numeric_limits<float>::infinity();

bool has_fused_kernels(at::ScalarType type) { return type == at::kHalf || type == at::kBFloat16 || type == at::kFloat; }

Sizes sizes_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2), x.size(3)}; }

bool rounds_to_tf32(const Tensor& x) {
  return x.scalar_type() == at::kFloat && at::globalContext().allowTF32CuDNN(at::Float32Op::CONV);
}

bool is_timed() { return at::globalContext().benchmarkCuDNN(); }

// What was chosen for each shape on each device, with and without timing; null where two steps are taken.
template <class Plans>
class Choices {
 public:
  // `choose` is called at the first question. While a graph is captured nothing can be tried, and the answer is null.
  template <class Choose>
  std::shared_ptr<Plans> find(const Tensor& x, const Shape& shape, Choose choose) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Key key(x.get_device(), is_timed(), shape.key());
    auto found = known_.find(key);
    if (found != known_.end()) return found->second;
    if (at::cuda::currentStreamCaptureStatus() != at::cuda::CaptureStatus::None) return nullptr;
    std::shared_ptr<Plans> chosen;
    try {
      chosen = choose();
    } catch (const c10::Error& error) {
      warn_once(std::string("convolutions will be slower without cuDNN's fused kernels: ") +
                error.what_without_backtrace());
    }
    return known_.emplace(key, chosen).first->second;
  }

 private:
  using Key = std::tuple<c10::DeviceIndex, bool, decltype(std::declval<Shape>().key())>;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<Plans>> known_;
};

// cuDNN's precompiled kernels add a bias of the dtype of the other tensors.
Tensor cast(const Tensor& bias, const Tensor& x) { return aligned(bias.to(x.scalar_type()).contiguous()); }

using FourPlans = std::array<std::shared_ptr<ExecutionPlan>, PARTS.size()>;

// The shape of a part of the transposed convolution that writes to `y`.
Shape shape_of(const Part& part, const Tensor& x, const Tensor& y) {
  const Sizes strides{y.stride(0), y.stride(1), y.stride(2), y.stride(3)};
  return {x.scalar_type(),         sizes_of(x),       y.size(1), {1 + part.row, 1 + part.column},
          {part.row, part.column}, rounds_to_tf32(x), strides};
}

// The fastest plan of each part; null if one has none.
std::shared_ptr<FourPlans> plans_of_parts(const Tensor& x, const Tensor& skip, const Tensor& weight,
                                          const Tensor& bias) {
  FourPlans found;
  join_of_parts(x, skip, weight, [&](size_t i, const Tensor& own, Tensor& y) {
    found[i] = fastest_plan(shape_of(PARTS[i], x, y), bias, NO_LIMIT, [&](const ExecutionPlan& plan, const Tensor& b) {
      execute(plan, x, own, b, y);
      return y;
    });
  });
  const bool is_whole = std::all_of(found.begin(), found.end(), [](const auto& plan) { return plan != nullptr; });
  return is_whole ? std::make_shared<FourPlans>(std::move(found)) : nullptr;
}

Tensor join_by(const FourPlans& plans, const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
  return join_of_parts(x, skip, weight,
                       [&](size_t i, const Tensor& own, Tensor& y) { execute(*plans[i], x, own, bias, y); });
}

}  // namespace

Tensor fused_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const std::function<Tensor()>& in_two_steps) {
  const at::ScalarType type = x.scalar_type();
  if (!has_fused_kernels(type) || !fits_cudnn(x.sizes(), weight.size(0))) return {};
  const c10::DeviceGuard guard(x.device());
  const Tensor input = aligned(x.contiguous(CHANNELS_LAST)),
               filters = aligned(weight.to(type).contiguous(CHANNELS_LAST));
  const Shape shape{type, sizes_of(x), weight.size(0), {3, 3}, {0, 0}, rounds_to_tf32(x), {}};
  // The cast of the bias is part of what is timed.
  const auto run = [&](const ExecutionPlan& plan, const Tensor& added) {
    Tensor y = at::empty(shape.y(), input.options(), CHANNELS_LAST);
    execute(plan, input, filters, cast(added, input), y);
    return y;
  };
  static Choices<ExecutionPlan> choices;
  const auto plan = choices.find(x, shape, [&] {
    const float limit = is_timed() && in_two_steps ? time(in_two_steps) : NO_LIMIT;
    return fastest_plan(shape, bias, limit, run);
  });
  return plan ? run(*plan, bias) : Tensor();
}

Tensor fused_up_convolution(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias,
                            const std::function<Tensor()>& in_two_steps, bool even_if_slower) {
  const at::ScalarType type = x.scalar_type();
  const int64_t outputs = weight.size(1);
  if (!has_fused_kernels(type) || !fits_cudnn_join(skip.sizes()) || outputs % lane_width(x) != 0) return {};
  const c10::DeviceGuard guard(x.device());
  const Tensor input = aligned(x.contiguous(CHANNELS_LAST)), filters = weight.to(type);
  const Shape whole{type, sizes_of(x), outputs, {3, 3}, {1, 1}, rounds_to_tf32(x), {}};
  static Choices<FourPlans> choices;
  const auto plans = choices.find(x, whole, [&]() -> std::shared_ptr<FourPlans> {
    auto found = plans_of_parts(input, skip, filters, cast(bias, input));
    if (!found) return nullptr;
    const auto joined = [&] { return join_by(*found, input, skip, filters, cast(bias, input)); };
    // A kernel that took no notice of the strides would write to wrong places.
    const Tensor expected = in_two_steps().to(at::kFloat), distance = (joined().to(at::kFloat) - expected).norm();
    if (!(distance <= 0.01 * expected.norm()).item<bool>()) {
      warn_once("left out: fused kernels of cuDNN's that do not write an up-convolution where they should");
      return nullptr;
    }
    return even_if_slower || !is_timed() || time(joined) < time(in_two_steps) ? found : nullptr;
  });
  return plans ? join_by(*plans, input, skip, filters, cast(bias, input)) : Tensor();
}

size_t count_fused_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                const std::string& gpu) {
  const DescribedGpu described(gpu);
  return plans_for({type, {x[0], x[1], x[2], x[3]}, outputs, {3, 3}, {0, 0}, tf32, {}}, described.target()).size();
}

size_t count_fused_up_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                   const std::string& gpu) {
  const DescribedGpu described(gpu);
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const auto [row, column] : PARTS) {
    const int64_t pixel = 2 * outputs, image_row = 2 * x[3] * pixel;
    const Sizes strides{2 * x[2] * image_row, 1, 2 * image_row, 2 * pixel};
    const Shape part{type, {x[0], x[1], x[2], x[3]}, outputs, {1 + row, 1 + column}, {row, column}, tf32, strides};
    fewest = std::min(fewest, plans_for(part, described.target()).size());
  }
  return fewest;
}

}  // namespace unet::gpu
