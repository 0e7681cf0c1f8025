// 3x3 convolutions of images by Winograd's algorithm: these functions cut a layer into jobs for the kernels of
// cpu/simd/. simd/winograd_transform.h explains the algorithm.
#pragma once
#include "cpu/panels.h"

namespace unet {

// Packed filters are evaluated at the points already: [panel of outputs][point][summed channel][lane].
int64_t packed_elements(const KernelTable&, const std::vector<Panel>& outputs, int64_t summed_channels);
void pack_filters(const KernelTable&, const Filter&, const std::vector<Panel>& outputs, int64_t summed_channels,
                  void* to);

// A convolution of the concatenation of `inputs`, with `pad` zeros around it, to the channels of `outputs`. Filters are
// 3x3, or 2x2 if the kernels are for these.
struct Convolution {
  const KernelTable& kernels;
  std::vector<Image> inputs;
  int64_t pad = 0;
  std::vector<Image> outputs = {};
  // One per input and output, or none; null, or the input counts as 0, or the output becomes 0, where it is not
  // positive.
  std::vector<const Image*> input_masks = {}, output_masks = {};
  const float* bias = nullptr;
  bool relu = false;
};
// Either `packed` filters or `raw` ones are given, the other is null. Raw filters are transformed in the call.
void convolve(const Convolution&, const void* packed, const Filter* raw);

// Gradients of the filters and biases of an unpadded convolution of `inputs`, from the gradients of its outputs. dw is
// a filter bank [output][input] in floats. db has an element per output; it may be null. A gradient counts as 0 where
// its mask is not positive; a mask may be null, or there are none.
void filter_gradients(const KernelTable&, const std::vector<Image>& inputs, const std::vector<Image>& gradients,
                      const std::vector<const Image*>& masks, const Filter& dw, float* db);

}  // namespace unet
