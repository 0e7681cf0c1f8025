// A transposed 3x3 convolution with stride 2, which doubles both sides, as four convolutions with stride 1 (Shi et al.,
// 2016). Each makes the pixels at one place of every 2x2 block of the output, with one, two, two or four of the nine
// weights, so that they multiply as often together. They can write their pixels with bias and ReLU where they belong in
// the join with the skip connection.
//
// Tensors are [N, C, H, W] in channels-last memory.
#pragma once
#include <ATen/core/Tensor.h>
#include <array>
#include <functional>

namespace unet::gpu {

// One of the four: the place in the block, 0 or 1 each. Its weight has 1 + row by 1 + column pixels, and its input gets
// `row` rows of zeros below and `column` columns of zeros on the right.
struct Part {
  int64_t row, column;
};

constexpr std::array<Part, 4> PARTS{{{0, 0}, {0, 1}, {1, 0}, {1, 1}}};

// relu(transposed convolution of x, [N, C, H, W], by weight, [C, O, 3, 3], + bias), joined with skip, [N, O, 2H, 2W].
// `convolve(index, weight, y)` writes relu(convolution of x + bias) of part `index` to y, [N, O, H, W], a view into the
// result; `weight` is the part's, [O, C, 1 + row, 1 + column].
at::Tensor join_of_parts(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight,
                         const std::function<void(size_t index, const at::Tensor& weight, at::Tensor& y)>& convolve);

}  // namespace unet::gpu
