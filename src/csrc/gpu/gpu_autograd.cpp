#include "gpu/gpu_autograd.h"

#include <torch/torch.h>
#include <array>

#include "gpu/branch.h"
#include "gpu/few_channels.h"
#include "gpu/fused_convolution.h"
#include "gpu/kernel_choice.h"
#include "gpu/kernel_launcher.h"
#include "gpu/passes.h"

namespace unet::gpu {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto CHANNELS_LAST = at::MemoryFormat::ChannelsLast;

// Whether layers on the device of x may be kernels of cuDNN's for a whole layer.
bool may_fuse(const Tensor& x) {
  const KernelChoice choice = kernel_choice();
  if (!x.is_cuda() || choice == KernelChoice::aten || choice == KernelChoice::separate) return false;
  // Called for its side effect: it loads NVRTC, which cuDNN needs too.
  kernels_are_ready(x);
  return true;
}

Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& cast_bias) {
  const auto in_two_steps = [&] {
    Tensor y = at::convolution(x, weight, {}, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1).contiguous(CHANNELS_LAST);
    bias_relu_(y, bias);
    return y;
  };
  if (!may_fuse(x)) return in_two_steps();
  const Tensor y = fused_convolution(x, weight, cast_bias.defined() ? cast_bias : bias,
                                     kernel_choice() == KernelChoice::own ? in_two_steps : std::function<Tensor()>());
  return y.defined() ? y : in_two_steps();
}

Tensor up_convolve_and_join(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
  const auto in_two_steps = [&] {
    const Tensor up = at::convolution(x, weight, {}, {2, 2}, {1, 1}, {1, 1}, true, {1, 1}, 1).contiguous(CHANNELS_LAST);
    return bias_relu_join(up, bias, skip);
  };
  if (!may_fuse(x)) return in_two_steps();
  const Tensor joined =
      fused_up_convolution(x, skip, weight, bias, in_two_steps, kernel_choice() == KernelChoice::fused);
  return joined.defined() ? joined : in_two_steps();
}

// The convolutions of a layer.
struct Geometry {
  int64_t stride, padding;
  bool transposed;
};
constexpr Geometry CONVOLUTION{1, 0, false}, UP_CONVOLUTION{2, 1, true};

// The gradients of the input, if wanted, and of the weight, in `weight_type`. Neither needs the other. A GPU makes both
// at once where one alone would leave parts of it idle.
std::tuple<Tensor, Tensor> convolution_gradients(const Tensor& gradient, const Tensor& x, const Tensor& weight,
                                                 Geometry geometry, bool wants_input, at::ScalarType weight_type) {
  // Layers above this size fill any GPU: at batch 1 all of the network are below.
  constexpr int64_t MOST_IN_BRANCHES = int64_t{1} << 25;
  const std::array<int64_t, 2> strides{geometry.stride, geometry.stride}, paddings{geometry.padding, geometry.padding};
  const auto gradients = [&](bool of_input, bool of_weight) {
    auto [input, own, unused] =
        at::convolution_backward(gradient, x, weight, c10::nullopt, strides, paddings, {1, 1}, geometry.transposed,
                                 paddings, 1, {of_input, of_weight, false});
    return std::pair(input, own.defined() ? own.to(weight_type) : own);
  };
  if (!wants_input || kernel_choice() != KernelChoice::own || x.numel() > MOST_IN_BRANCHES)
    return gradients(wants_input, true);
  Tensor own;
  Branch branch(x.device(), [&] { own = gradients(false, true).second; });
  const Tensor input = gradients(true, false).first;
  branch.join();
  return {input, own};
}

struct Conv3x3Relu : torch::autograd::Function<Conv3x3Relu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const std::optional<Tensor>& cast_bias, bool output_gradient_is_masked) {
    const Tensor input = x.contiguous(CHANNELS_LAST), cast = weight.to(x.scalar_type());
    Tensor y = convolve(input, cast, bias, cast_bias.value_or(Tensor()));
    ctx->saved_data["input"] = x.requires_grad();
    ctx->saved_data["type"] = weight.scalar_type();
    ctx->save_for_backward({input, cast, output_gradient_is_masked ? Tensor() : y});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [masked, bias] = mask_and_sum(grads[0], saved[2]);
    const auto [x, weight] =
        convolution_gradients(masked, saved[0], saved[1], CONVOLUTION, ctx->saved_data["input"].toBool(),
                              ctx->saved_data["type"].toScalarType());
    return {x, weight, bias, {}, {}};
  }
};

struct FirstLayer : torch::autograd::Function<FirstLayer> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const Tensor input = x.contiguous(CHANNELS_LAST), y = first_layer(input, weight, bias);
    ctx->save_for_backward({input, weight, y});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [weight, bias] = first_layer_gradient(grads[0].contiguous(CHANNELS_LAST), saved[2], saved[0], saved[1]);
    return {{}, weight, bias};
  }
};

struct UpConvReluJoin : torch::autograd::Function<UpConvReluJoin> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& skip, const Tensor& weight,
                        const Tensor& bias) {
    const Tensor input = x.contiguous(CHANNELS_LAST), cast = weight.to(x.scalar_type());
    Tensor joined = up_convolve_and_join(input, skip, cast, bias);
    ctx->saved_data["type"] = weight.scalar_type();
    ctx->save_for_backward({input, cast, joined});
    return joined;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor gradient = grads[0].contiguous(CHANNELS_LAST), &joined = saved[2];
    const int64_t half = joined.size(1) / 2;
    const auto [masked, bias] = mask_and_sum(gradient.narrow(1, 0, half), joined.narrow(1, 0, half));
    const auto [x, weight] =
        convolution_gradients(masked, saved[0], saved[1], UP_CONVOLUTION, true, ctx->saved_data["type"].toScalarType());
    return {x, gradient.narrow(1, half, half), weight, bias};
  }
};

struct PoolAndCrop : torch::autograd::Function<PoolAndCrop> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, int64_t h, int64_t w) {
    ctx->save_for_backward({x});
    ctx->set_materialize_grads(false);
    const int64_t top = (x.size(2) - h) / 2, left = (x.size(3) - w) / 2;
    ctx->saved_data["top"] = top;
    ctx->saved_data["left"] = left;
    return {max_pool(x), x.narrow(2, top, h).narrow(3, left, w)};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Tensor x = ctx->get_saved_variables()[0];
    return {pool_crop_gradient(x, grads[0], grads[1], ctx->saved_data["top"].toInt(), ctx->saved_data["left"].toInt()),
            {},
            {}};
  }
};

struct Head : torch::autograd::Function<Head> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const Tensor input = x.contiguous(CHANNELS_LAST);
    ctx->save_for_backward({input, weight});
    ctx->saved_data["bias"] = bias.scalar_type();
    return head(input, weight, bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [x, weight, bias] = head_gradient(grads[0].contiguous(CHANNELS_LAST), saved[0], saved[1]);
    return {x, weight, bias.to(ctx->saved_data["bias"].toScalarType())};
  }
};

}  // namespace

Tensor first_layer_relu(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  TORCH_CHECK(x.size(1) == 1 && !x.requires_grad(),
              "the first layer takes one channel and gives its input no gradient");
  return FirstLayer::apply(x, weight, bias);
}

Tensor conv3x3_relu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& cast_bias,
                    bool output_gradient_is_masked) {
  const std::optional<Tensor> given = cast_bias.defined() ? std::optional(cast_bias) : std::nullopt;
  return Conv3x3Relu::apply(x, weight, bias, given, output_gradient_is_masked);
}

Tensor upconv_relu_join(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
  return UpConvReluJoin::apply(x, skip, weight, bias);
}

Tensor head_of_relu(const Tensor& x, const Tensor& weight, const Tensor& bias) { return Head::apply(x, weight, bias); }

std::tuple<Tensor, Tensor> pool_and_crop(const Tensor& x, int64_t h, int64_t w) {
  const variable_list both = PoolAndCrop::apply(x.contiguous(CHANNELS_LAST), h, w);
  return {both[0], both[1]};
}

}  // namespace unet::gpu
