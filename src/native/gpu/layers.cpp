#include "layers.h"

#include <torch/torch.h>
#include <cstdio>
#include <mutex>
#include <set>

#include "few_channels.h"
#include "kernels.h"
#include "passes.h"

namespace unet::gpu {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto CHANNELS_LAST = at::MemoryFormat::ChannelsLast;

// cuDNN's fusion keeps the convolution's result from memory before bias and ReLU. It is the choice in prediction; whether it wins in
// training too, where it reads its output's memory once more, is for a measurement to say.
bool use_fused(const Tensor& x) {
  const bool training = at::GradMode::is_enabled();
  if (!x.is_cuda() || kernels() == Kernels::aten || (kernels() == Kernels::own && training)) return false;
  // Asked for what it loads: cuDNN, too, compiles with NVRTC.
  kernels_are_ready(x);
  return true;
}

// cuDNN has no fused kernel for every dtype, shape and GPU; undefined where it has none, which is found out once for each kind of layer.
Tensor convolve_fused(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  static std::mutex mutex;
  static std::set<std::tuple<at::ScalarType, int64_t, int64_t>> failed;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::tuple kind(x.scalar_type(), weight.size(1), weight.size(0));
  if (failed.count(kind)) return {};
  try {
    return at::cudnn_convolution_relu(x, weight, bias.to(x.scalar_type()), {1, 1}, {0, 0}, {1, 1}, 1).contiguous(CHANNELS_LAST);
  } catch (const std::exception&) {
    failed.insert(kind);
    std::fprintf(stderr, "warning: cuDNN cannot fuse convolution, bias and ReLU from %lld to %lld channels here, so they will be slower\n",
                 static_cast<long long>(weight.size(1)), static_cast<long long>(weight.size(0)));
    return {};
  }
}

Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, bool fused) {
  if (fused)
    if (Tensor y = convolve_fused(x, weight, bias); y.defined()) return y;
  Tensor y = at::convolution(x, weight, {}, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1).contiguous(CHANNELS_LAST);
  bias_relu_(y, bias);
  return y;
}

struct Conv3x3Relu : torch::autograd::Function<Conv3x3Relu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, bool masked_above, bool fused) {
    const Tensor input = x.contiguous(CHANNELS_LAST), cast = weight.to(x.scalar_type());
    Tensor y = convolve(input, cast, bias, fused);
    ctx->saved_data["input"] = x.requires_grad();
    ctx->saved_data["type"] = weight.scalar_type();
    ctx->save_for_backward({input, cast, masked_above ? Tensor() : y});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [masked, bias] = mask_and_sum(grads[0], saved[2]);
    const auto [x, weight, unused] = at::convolution_backward(masked, saved[0], saved[1], c10::nullopt, {1, 1}, {0, 0}, {1, 1}, false, {0, 0},
                                                              1, {ctx->saved_data["input"].toBool(), true, false});
    return {x, weight.to(ctx->saved_data["type"].toScalarType()), bias, {}, {}};
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
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
    const Tensor input = x.contiguous(CHANNELS_LAST), cast = weight.to(x.scalar_type());
    const Tensor up = at::convolution(input, cast, {}, {2, 2}, {1, 1}, {1, 1}, true, {1, 1}, 1).contiguous(CHANNELS_LAST);
    Tensor joined = bias_relu_join(up, bias, skip);
    ctx->saved_data["type"] = weight.scalar_type();
    ctx->save_for_backward({input, cast, joined});
    return joined;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor gradient = grads[0].contiguous(CHANNELS_LAST), &joined = saved[2];
    const int64_t half = joined.size(1) / 2;
    const auto [masked, bias] = mask_and_sum(gradient.narrow(1, 0, half), joined.narrow(1, 0, half));
    const auto [x, weight, unused] =
        at::convolution_backward(masked, saved[0], saved[1], c10::nullopt, {2, 2}, {1, 1}, {1, 1}, true, {1, 1}, 1, {true, true, false});
    return {x, gradient.narrow(1, half, half), weight.to(ctx->saved_data["type"].toScalarType()), bias};
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
    return {pool_crop_gradient(x, grads[0], grads[1], ctx->saved_data["top"].toInt(), ctx->saved_data["left"].toInt()), {}, {}};
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

Tensor conv3x3_relu(const Tensor& x, const Tensor& weight, const Tensor& bias, bool masked_above) {
  if (x.size(1) == 1 && !x.requires_grad()) return FirstLayer::apply(x, weight, bias);
  return Conv3x3Relu::apply(x, weight, bias, masked_above, use_fused(x));
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
