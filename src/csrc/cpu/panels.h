// Tensors as images, images as panels of channels, weights as filter banks: what the kernels of cpu/simd/ read.
#pragma once
#include <vector>

#include "cpu/jobs.h"
#include "cpu/simd/dispatch.h"

namespace unet {

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
inline void* element(const Kernels& k, void* base, int64_t index) {
  return static_cast<char*>(base) + index * k.element_bytes;
}
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
