// Convolutions by oneDNN, libtorch's library for CPUs, with weights in the order that it reads and ReLU within: the
// operations that `torch.compile` uses. For prediction, where weights are packed once. Results are those of ATen's
// convolutions to the bit.
//
// All tensors are on the CPU, in channels-last memory and of one dtype but for the bias. No gradients.
#pragma once
#include <ATen/ATen.h>
#include <optional>

namespace unet {

// The weight [O, C, 3, 3] of a convolution, cast to `dtype`, in oneDNN's order. None where
// libtorch has no oneDNN for it.
std::optional<at::Tensor> onednn_pack(const at::Tensor& weight, at::ScalarType dtype);

// Unpadded convolution of x with a packed weight.
at::Tensor onednn_conv3x3(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool relu);

// The same for the weight [C, O, 3, 3] of a transposed convolution that doubles the size, as in upconv.h. Packed it is
// [O, C, 3, 3].
std::optional<at::Tensor> onednn_pack_transposed(const at::Tensor& weight, at::ScalarType dtype);
at::Tensor onednn_upconv(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool relu);

}  // namespace unet
