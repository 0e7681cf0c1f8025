#include "gpu/subpixel.h"

#include <ATen/ATen.h>

namespace unet::gpu {

using at::Tensor;

Tensor join_of_parts(const Tensor& x, const Tensor& skip, const Tensor& weight,
                     const std::function<void(size_t, const Tensor&, Tensor&)>& convolve) {
  const int64_t outputs = weight.size(1);
  TORCH_CHECK(skip.sizes() == at::IntArrayRef({x.size(0), outputs, 2 * x.size(2), 2 * x.size(3)}) &&
                  skip.scalar_type() == x.scalar_type(),
              "cannot join what is made of ", x.sizes(), " ", x.scalar_type(), " and ", skip.sizes(), " ",
              skip.scalar_type());
  const Tensor joined =
      at::empty({x.size(0), 2 * outputs, skip.size(2), skip.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  joined.narrow(1, outputs, outputs).copy_(skip);
  const Tensor up = joined.narrow(1, 0, outputs);
  // Row 2i of the output is made of row i of the input and the middle row of the weight; row 2i + 1 of rows i and i + 1
  // and of the last and the first row of the weight, which are the first and the last once it is turned.
  const Tensor turned = weight.flip({2, 3});
  const auto taps = [](const Tensor& t, int64_t dim, int64_t odd) {
    return odd ? t.slice(dim, 0, 3, 2) : t.slice(dim, 1, 2);
  };
  for (size_t i = 0; i < PARTS.size(); i++) {
    const auto [row, column] = PARTS[i];
    const Tensor own = taps(taps(turned, 2, row), 3, column).transpose(0, 1).contiguous(at::MemoryFormat::ChannelsLast);
    Tensor y = up.slice(2, row, {}, 2).slice(3, column, {}, 2);
    convolve(i, own, y);
  }
  return joined;
}

}  // namespace unet::gpu
