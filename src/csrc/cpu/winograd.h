// 3x3 convolutions of images by Winograd's algorithm: the drivers that cut a layer into jobs for the kernels.
#pragma once
#include "cpu/panels.h"

namespace unet {

// Filters already evaluated at the points: [panel of outputs][point][summed channel][lane].
struct PackedFilters {
  const void* data;
  int64_t sums;  // summed channels
};
int64_t packed_elements(const Kernels&, const std::vector<Panel>& outputs, int64_t sums);
void pack_filters(const Kernels&, const Filter&, const std::vector<Panel>& outputs, int64_t sums, void* to);

// Convolution of the concatenation of `inputs`, zero-padded by `pad`, into the channels of `outputs`.
struct Convolution {
  const Kernels& kernels;
  std::vector<Image> inputs;
  const Image* input_mask = nullptr;  // inputs count as 0 where this is not positive
  int64_t pad = 0;
  std::vector<Image> outputs = {};
  std::vector<const Image*> output_masks = {};  // null, or outputs become 0 where this is not positive
  const float* bias = nullptr;
  bool relu = false;
};
// With filters packed before, or with raw filters (with or without `stride_panel`), transformed on the way.
void convolve(const Convolution&, const PackedFilters*, const Filter* raw);

// dw (float, as a filter bank [output][input]) and, if not null, db[output], of the valid convolution of `inputs` from
// the gradient of its output, which counts as 0 where `mask` is not positive.
void filter_gradients(const Kernels&, const std::vector<Image>& inputs, const Image& gradient, const Image* mask,
                      const Filter& dw, float* db);

}  // namespace unet
