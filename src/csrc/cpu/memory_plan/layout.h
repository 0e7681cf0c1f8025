// Where the tensors of a planned step lie. Their sizes and lifetimes give each a place in one piece of memory, so that
// tensors that live at the same time never share bytes. The layout itself knows no tensors and no threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace unet {

// Memory of `bytes` bytes, taken at event `born` and given back at event `died`. Events count all takings and givings
// back.
struct Lifetime {
  size_t bytes;
  int64_t born, died;
};

struct Layout {
  std::vector<size_t> offsets;
  size_t bytes = 0;
};

// Best fit, largest first: each tensor goes into the smallest gap that the tensors placed before it leave during its
// life, or on top of them. Offsets are multiples of 64, as libtorch's kernels expect.
Layout lay_out(const std::vector<Lifetime>& lifetimes);

}  // namespace unet
