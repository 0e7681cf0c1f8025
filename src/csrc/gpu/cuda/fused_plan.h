// cuDNN's kernels for relu(convolution of x + bias): a graph of three operations, for which it has kernels that keep
// the sums between them out of memory. Tensors are [N, C, H, W] in channels-last memory.
//
// libtorch's own fused convolution does not serve: it also adds a tensor, and if there is none to add, its kernels may
// read the output and multiply it by zero.
#pragma once
#include <ATen/core/Tensor.h>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "gpu/cuda/cudnn_descriptor.h"

namespace unet::gpu {

// The GPU that plans are made for: that of a handle, or one that only a description tells of.
struct Target {
  cudnnHandle_t handle = nullptr;
  const Descriptor* gpu = nullptr;
};

// A GPU that need not be present, by cuDNN's description of it in JSON.
class DescribedGpu {
 public:
  explicit DescribedGpu(const std::string& json)
      : properties_(Descriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
                        .set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json.c_str(), json.size() + 1)
                        .finalized()) {}
  Target target() const { return {nullptr, &properties_}; }

 private:
  Descriptor properties_;
};

using Sizes = std::array<int64_t, 4>;

inline Sizes dense_strides(const Sizes& sizes) {
  return {sizes[1] * sizes[2] * sizes[3], 1, sizes[3] * sizes[1], sizes[1]};
}

// A convolution with stride 1.
struct Shape {
  at::ScalarType type;
  Sizes x;
  int64_t outputs;
  // Rows and columns of the weight.
  std::array<int64_t, 2> kernel;
  // Rows of zeros below the input, and columns on its right.
  std::array<int64_t, 2> padding;
  // Whether fp32 may be rounded to TF32.
  bool tf32;
  // Strides of the output; dense if there are none.
  std::optional<Sizes> strides;

  Sizes y() const { return {x[0], outputs, x[2] + padding[0] - kernel[0] + 1, x[3] + padding[1] - kernel[1] + 1}; }
  auto key() const { return std::tuple(type, x, outputs, kernel, padding, tf32, strides); }
};

// A kernel that is ready to run, and the descriptors that it needs.
struct ExecutionPlan {
  std::shared_ptr<std::deque<Descriptor>> graph;
  Descriptor config, plan;
  int64_t workspace;
};

// At most eight kernels for a shape, those first that cuDNN expects to be fast.
std::vector<ExecutionPlan> plans_for(const Shape& shape, const Target& target);

// Writes relu(convolution of x + bias) to y. All are of the plan's dtype and sizes, and begin at multiples of 16 bytes.
void execute(const ExecutionPlan& plan, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
             const at::Tensor& y);

// x, at a multiple of 16 bytes.
at::Tensor aligned(const at::Tensor& x);

// The time of one run in milliseconds, from the fastest of three rounds.
float time(const std::function<void()>& work);

// The plan whose `run(plan, bias)` takes least, and less than `limit` milliseconds; null if there is none. Without
// cuDNN's autotuning it is the first one that runs, whatever the clock says. A plan that fails, or makes a number of
// NaN, is left out with a warning.
std::shared_ptr<ExecutionPlan> fastest_plan(
    const Shape& shape, const at::Tensor& bias, float limit,
    const std::function<at::Tensor(const ExecutionPlan&, const at::Tensor& bias)>& run);

// Prints a warning to stderr, each text once.
void warn_once(const std::string& text);

}  // namespace unet::gpu
