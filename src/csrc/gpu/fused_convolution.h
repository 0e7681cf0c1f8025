// Convolution, bias and ReLU in one kernel of cuDNN's (cuda/fused_convolution.cpp). The sums go through bias and ReLU
// before they are written, which saves a pass over memory.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <limits>
#include <optional>
#include <string>

namespace unet::gpu {

// Whether cuDNN's kernels can address x, [N, C, H, W], and its convolution to `outputs` channels: they count elements
// in 31 bits. libtorch splits larger batches, the fused convolution does not.
inline bool fits_cudnn(at::IntArrayRef x, int64_t outputs) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  return x[0] * x[1] * x[2] * x[3] <= most && x[0] * outputs * (x[2] - 2) * (x[3] - 2) <= most;
}

// The same of an up-convolution that is joined with `skip`, [N, O, H, W]: the join is its largest tensor.
inline bool fits_cudnn_join(at::IntArrayRef skip) {
  return 2 * skip[0] * skip[1] * skip[2] * skip[3] <= std::numeric_limits<int32_t>::max();
}

// The fastest of `count` candidates that takes less than `limit`, in the unit of `time_of`; none if there is no such
// one. A candidate for which `time_of` throws is left out, and costs no other; `on_failure` gets its error.
inline std::optional<size_t> fastest_of(size_t count, float limit, const std::function<float(size_t)>& time_of,
                                        const std::function<void(const std::exception&)>& on_failure) {
  std::optional<size_t> best;
  for (size_t candidate = 0; candidate < count; candidate++) {
    try {
      const float time = time_of(candidate);
      if (time < limit) limit = time, best = candidate;
    } catch (const std::exception& error) {
      on_failure(error);
    }
  }
  return best;
}

// relu(unpadded 3x3 convolution of x + bias), for tensors on a GPU as in passes.h and a weight [O, C, 3, 3]. The result
// is undefined if cuDNN has no such kernel, or if `in_two_steps`, where given, is faster than the fastest one. The
// first call with a shape runs them, to leave out those that fail or lose a NaN, and times them unless cuDNN's
// autotuning is off.
at::Tensor fused_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const std::function<at::Tensor()>& in_two_steps);

// relu(transposed 3x3 convolution of x with stride 2 + bias), joined with skip, by four kernels of cuDNN's that write
// to their places in the join (subpixel.h). The result is undefined if cuDNN has no such kernels, if they do not
// compute what `in_two_steps` does, or if they are slower, unless `even_if_slower`. Choice and timing are as in
// `fused_convolution`.
at::Tensor fused_up_convolution(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight,
                                const at::Tensor& bias, const std::function<at::Tensor()>& in_two_steps,
                                bool even_if_slower);

// The number of such kernels that cuDNN has for x with sizes [N, C, H, W] on a GPU that need not be present: `gpu` is
// cuDNN's description of it in JSON.
size_t count_fused_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                const std::string& gpu);

// The same for the part of an up-convolution that has the fewest.
size_t count_fused_up_convolutions(at::ScalarType type, at::IntArrayRef x, int64_t outputs, bool tf32,
                                   const std::string& gpu);

}  // namespace unet::gpu
