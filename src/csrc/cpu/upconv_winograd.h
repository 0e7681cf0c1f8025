// The transposed convolution of upconv.h in floats by Winograd's algorithm: each of its four kinds of output pixels is
// a convolution of x with a filter of 2x2 taps, some of them 0. Together they take 5.2 products for each pixel of x and
// pair of channels, where the nine taps take 9.
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

#include "cpu/winograd.h"

namespace unet {

// Whether a layer with `inputs` and `outputs` channels is faster this way. In layers with more, filters take most of
// the time.
bool upconv_suits_winograd(int64_t inputs, int64_t outputs);

// The four filter banks of a weight [C, O, 3, 3]: [4 O, 2, 2, C], the kinds in the order of their row's and then their
// column's parity. They are what a prediction keeps.
at::Tensor upconv_banks(const at::Tensor& weight);

at::Tensor upconv_winograd(const at::Tensor& x, const at::Tensor& banks, const at::Tensor& bias, bool relu);

// Gradients as upconv_grad in upconv.h gives them.
std::tuple<at::Tensor, at::Tensor, at::Tensor> upconv_winograd_grad(const at::Tensor& grad, const at::Tensor& output,
                                                                    const at::Tensor& x, const at::Tensor& weight,
                                                                    const at::Tensor& mask, bool input,
                                                                    bool parameters);

}  // namespace unet
