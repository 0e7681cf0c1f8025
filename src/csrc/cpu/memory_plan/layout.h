// Where the tensors of a step lie on the CPU when the step is planned: sizes and lifetimes of one step fix a place in
// one piece of memory for each, so that those that live at the same time never share bytes. No tensors here, no
// threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace unet {

// `bytes` of memory, taken at event `born` and given back at event `died`; an event is any taking or giving back.
struct Lifetime {
  size_t bytes;
  int64_t born, died;
};

struct Layout {
  std::vector<size_t> offsets;
  size_t bytes = 0;
};

// Best fit, the largest first: each goes into the smallest gap that those placed before it leave during its life, or on
// top of them. Offsets are multiples of 64, as libtorch's kernels expect.
Layout lay_out(const std::vector<Lifetime>& lifetimes);

}  // namespace unet
