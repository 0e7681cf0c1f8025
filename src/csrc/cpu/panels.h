// From tensors to what the kernels of cpu/simd/ read: images, panels of channels, filter banks.
#pragma once
#include <vector>

#include "cpu/jobs.h"
#include "cpu/simd/dispatch.h"

namespace unet {

// x with adjacent channels: x itself if they are adjacent already (a channels-last tensor or a crop of one), else a
// copy.
at::Tensor channels_adjacent(const at::Tensor& x);

// x [N, C, H, W], whose channels are adjacent, as an image.
Image image(const at::Tensor& x);

// t in fp32.
at::Tensor as_float(const at::Tensor& t);

// A new channels-last tensor, not initialized.
at::Tensor empty_image(int64_t n, int64_t c, int64_t h, int64_t w, at::ScalarType dtype);

// The dtype in which ATen should compute images of `dtype`: floats for bf16 without instructions for it.
at::ScalarType arithmetic(at::ScalarType dtype);

// The kernels for images of a dtype; null if there are none.
const KernelTable* kernels_for(at::ScalarType dtype);

// One panel of channels. One or two images count as concatenated along their channels.
struct Panel {
  int64_t image;
  Channels channels;  // the panel's channels, counted in its image
  Channels all;       // the same channels, counted in the concatenation
};

// Cuts the channels of all images into panels of `width` channels. No panel spans two images.
std::vector<Panel> panels(const std::vector<Image>& images, int64_t width);

// The panels of `outputs` channels that are not in an image yet.
std::vector<Panel> output_panels(const KernelTable& k, int64_t outputs);

// The dtype of the kernels' elements.
inline at::ScalarType element_type(const KernelTable& k) { return k.element_bytes == 2 ? at::kBFloat16 : at::kFloat; }

// The address of element `index` in an array of the kernels' elements.
inline void* element(const KernelTable& k, void* base, int64_t index) {
  return static_cast<char*>(base) + index * k.element_bytes;
}
inline const void* element(const KernelTable& k, const void* base, int64_t index) {
  return static_cast<const char*>(base) + index * k.element_bytes;
}

// The address of a channel, `index` channels behind `base`, in the memory of an image.
inline void* pixel(const KernelTable& k, void* base, int64_t index) {
  return static_cast<char*>(base) + index * k.pixel_bytes;
}

// A weight [vector, sum, 3, 3], or [sum, vector, 3, 3] if `transposed`, as a filter bank of floats.
Filter filter_of(const at::Tensor& weight, bool transposed, bool flip);

// Writes a filter bank tap by tap, [panel of vectors][ky][kx][summed channel][lane], the order in which products read
// it.
void pack_taps(const KernelTable&, const Filter&, const std::vector<Panel>& vectors, int64_t summed_channels, void* to);
inline int64_t packed_taps_elements(const KernelTable& k, const std::vector<Panel>& vectors, int64_t summed_channels) {
  return int64_t(vectors.size()) * 9 * summed_channels * k.panel;
}

}  // namespace unet
