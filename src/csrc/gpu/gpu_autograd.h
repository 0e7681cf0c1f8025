// The network's layers for a GPU, with gradients: torch::autograd::Functions on libtorch's convolutions, which are
// cuDNN's on a GPU. They make as few passes over memory between convolutions as they can. They compute the same on any
// device, and tests run them on the CPU.
//
// Inputs may have any float dtype. Parameters are fp32 or of the inputs' dtype. Every convolution ends in ReLU. Unlike
// the CPU's layers, each applies the gradient of its own ReLU, in the pass that sums the gradient of the bias. Only
// pooling and the head do that for the layer before them.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>

namespace unet::gpu {

// ReLU of the unpadded 3x3 convolution of x, which has one channel and gets no gradient. It has kernels of its own.
at::Tensor first_layer_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// ReLU of the unpadded 3x3 convolution. cast_bias is undefined, or `bias` in the dtype of x, which spares a cast.
// output_gradient_is_masked says that pool_and_crop or head_of_relu alone use the output.
at::Tensor conv3x3_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& cast_bias, bool output_gradient_is_masked);

// ReLU of the transposed 3x3 convolution with stride 2, concatenated with skip.
at::Tensor upconv_relu_join(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& weight,
                            const at::Tensor& bias);

// 2x2 max pooling of x, and the centre of x, h x w, a view. x is the output of a ReLU; its gradient is masked here.
std::tuple<at::Tensor, at::Tensor> pool_and_crop(const at::Tensor& x, int64_t h, int64_t w);

// The 1x1 convolution of x. x is the output of a ReLU; its gradient is masked here.
at::Tensor head_of_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace unet::gpu
