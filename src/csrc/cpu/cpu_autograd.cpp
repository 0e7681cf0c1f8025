#include "cpu/cpu_autograd.h"
#include "cpu/conv3x3.h"
#include "cpu/pool.h"
#include "cpu/upconv.h"

namespace unet {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor if_flag(const AutogradContext* ctx, const char* flag, const Tensor& t) {
  return ctx->saved_data.at(flag).toBool() ? t : Tensor();
}

// Saves which inputs want a gradient. Forward asks, because there undefined inputs are still in their places.
void save_wants(AutogradContext* ctx, const Tensor& x, const Tensor& x2, const Tensor& weight, const Tensor& bias) {
  ctx->saved_data["input"] = x.requires_grad() || (x2.defined() && x2.requires_grad());
  ctx->saved_data["parameters"] = weight.requires_grad() || bias.requires_grad();
}

struct Conv3x3Relu : torch::autograd::Function<Conv3x3Relu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& second,
                        const Tensor& weight, const Tensor& bias, bool input_is_relu, bool output_gradient_is_masked) {
    const Tensor x2 = second.value_or(Tensor());
    Tensor y = conv3x3(x, x2, weight, bias, true);
    save_wants(ctx, x, x2, weight, bias);
    ctx->saved_data["input_is_relu"] = input_is_relu;
    ctx->saved_data["mask_gradient"] = !output_gradient_is_masked;
    ctx->save_for_backward({x, x2, weight, y});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &x2 = saved[1], &weight = saved[2], own = if_flag(ctx, "mask_gradient", saved[3]);
    Tensor dx, dx2, dw, db;
    if (ctx->saved_data["input"].toBool())
      std::tie(dx, dx2) = conv3x3_grad_input(grads[0], own, weight, x.size(1), if_flag(ctx, "input_is_relu", x), {});
    if (ctx->saved_data["parameters"].toBool()) std::tie(dw, db) = conv3x3_grad_weight(grads[0], own, x, x2, weight);
    return {dx, dx2, dw, db, {}, {}};
  }
};

struct UpConvRelu : torch::autograd::Function<UpConvRelu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        bool input_is_relu, bool output_gradient_is_masked) {
    Tensor y = upconv(x, weight, bias, true);
    save_wants(ctx, x, {}, weight, bias);
    ctx->saved_data["input_is_relu"] = input_is_relu;
    ctx->saved_data["mask_gradient"] = !output_gradient_is_masked;
    ctx->save_for_backward({x, weight, y});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [dx, dw, db] = upconv_grad(grads[0], if_flag(ctx, "mask_gradient", saved[2]), saved[0], saved[1],
                                          if_flag(ctx, "input_is_relu", saved[0]), ctx->saved_data["input"].toBool(),
                                          ctx->saved_data["parameters"].toBool());
    return {dx, dw, db, {}, {}};
  }
};

struct PoolAndCrop : torch::autograd::Function<PoolAndCrop> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, int64_t h, int64_t w) {
    ctx->save_for_backward({x});
    ctx->set_materialize_grads(false);
    return {max_pool(x), centre_crop(x, h, w)};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {pool_crop_grad(grads[0], grads[1], ctx->get_saved_variables()[0]), {}, {}};
  }
};

}  // namespace

Tensor conv3x3_relu(const Tensor& x, const Tensor& x2, const Tensor& weight, const Tensor& bias, bool input_is_relu,
                    bool output_gradient_is_masked) {
  return Conv3x3Relu::apply(x, x2.defined() ? std::optional<Tensor>(x2) : std::nullopt, weight, bias, input_is_relu,
                            output_gradient_is_masked);
}

Tensor upconv_relu(const Tensor& x, const Tensor& weight, const Tensor& bias, bool input_is_relu,
                   bool output_gradient_is_masked) {
  return UpConvRelu::apply(x, weight, bias, input_is_relu, output_gradient_is_masked);
}

std::tuple<Tensor, Tensor> pool_and_crop(const Tensor& x, int64_t h, int64_t w) {
  const variable_list both = PoolAndCrop::apply(x, h, w);
  return {both[0], both[1]};
}

}  // namespace unet
