// 3x3 convolutions of images by Winograd's algorithm: these functions cut a layer into jobs for the kernels of
// cpu/simd/. simd/winograd_transform.h explains the algorithm.
#pragma once
#include "cpu/panels.h"

namespace unet {

// Packed filters are evaluated at the points already: [panel of outputs][point][summed channel][lane].
int64_t packed_elements(const KernelTable&, const std::vector<Panel>& outputs, int64_t summed_channels);
void pack_filters(const KernelTable&, const Filter&, const std::vector<Panel>& outputs, int64_t summed_channels,
                  void* to);

// A convolution of the concatenation of `inputs`, with `pad` zeros around it, to the channels of `outputs`.
struct Convolution {
  const KernelTable& kernels;
  std::vector<Image> inputs;
  const Image* input_mask = nullptr;  // inputs count as 0 where it is not positive
  int64_t pad = 0;
  std::vector<Image> outputs = {};
  std::vector<const Image*> output_masks =
      {};  // one per output, or none; null, or outputs become 0 where it is not positive
  const float* bias = nullptr;
  bool relu = false;
};
// Either `packed` filters or `raw` ones are given, the other is null. Raw filters are transformed in the call.
void convolve(const Convolution&, const void* packed, const Filter* raw);

// Gradients of the filters and biases of an unpadded convolution of `inputs`, from `gradient`, the gradient of its
// output. dw is a filter bank [output][input] in floats. db has an element per output; it may be null. The gradient
// counts as 0 where `mask` is not positive; `mask` may be null.
void filter_gradients(const KernelTable&, const std::vector<Image>& inputs, const Image& gradient, const Image* mask,
                      const Filter& dw, float* db);

}  // namespace unet
