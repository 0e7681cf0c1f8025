// What the convolution drivers share: threads, work buffers, tensors as images, images as panels.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <vector>
#include "kernels.h"

// Names the rest of the scope in the profiler's trace (`--profile`), as libtorch's operations do themselves.
#define UNET_PROFILED(name) RECORD_FUNCTION("unet::" name, c10::ArrayRef<const c10::IValue>{})

namespace unet {

// f(0) .. f(jobs - 1) on libtorch's threads, next job to the next free thread. Jobs write disjoint results, so that these do not
// depend on which thread runs what.
template <class F>
void parallel_jobs(int64_t jobs, const F& f) {
  const int threads = at::get_num_threads();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (jobs > 1 && threads > 1)
  for (int64_t job = 0; job < jobs; ++job) f(job);
}

// Work buffers, one of each kind per thread; they grow to the largest layer seen and stay, so that a steady state allocates nothing.
enum class Buffer { filter, shared_rows, own_rows, products, own_filter, pixels, count };
void* buffer(Buffer which, int64_t bytes);

constexpr int64_t up_to_multiple(int64_t value, int64_t of) { return (value + of - 1) / of * of; }
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The tensor with adjacent channels: itself where they are (a channels-last tensor or a crop of one), else a copy.
at::Tensor channels_adjacent(const at::Tensor& x);
// [N, C, H, W] with adjacent channels.
Image image(const at::Tensor& x);
// A new channels-last tensor.
at::Tensor empty_image(int64_t n, int64_t c, int64_t h, int64_t w, at::ScalarType dtype);

// The kernels for a dtype, null where there are none.
const Kernels* kernels_for(at::ScalarType dtype);

// One panel of the channels of one or two images that count as concatenated.
struct Panel {
  int64_t image;
  Channels channels;  // in the image
  Channels all;       // in the concatenation
};
std::vector<Panel> panels(const std::vector<Image>& images, int64_t width);

// Element `index` of an array of a kernel's elements.
inline void* element(const Kernels& k, void* base, int64_t index) { return static_cast<char*>(base) + index * k.element_bytes; }
inline const void* element(const Kernels& k, const void* base, int64_t index) {
  return static_cast<const char*>(base) + index * k.element_bytes;
}

// A weight [vector, sum, 3, 3], or [sum, vector, 3, 3] if `transposed`, as a filter bank of floats.
Filter filter_of(const at::Tensor& weight, bool transposed, bool flip);

// A filter bank tap by tap, [panel of vectors][ky][kx][summed channel][lane]: read in order where it is used.
void pack_taps(const Kernels&, const Filter&, const std::vector<Panel>& vectors, int64_t sums, void* to);
inline int64_t packed_taps_elements(const Kernels& k, const std::vector<Panel>& vectors, int64_t sums) {
  return int64_t(vectors.size()) * 9 * sums * k.panel;
}

}  // namespace unet
