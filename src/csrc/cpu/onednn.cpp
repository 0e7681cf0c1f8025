#include "cpu/onednn.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "cpu/simd/dispatch.h"

namespace unet {
namespace {

using at::IntArrayRef;
using at::Tensor;
using Scalars = c10::List<std::optional<at::Scalar>>;
using InputSize = at::OptionalIntArrayRef;

// The schemas of libtorch's operations, which have no C++ header.
using Pack = Tensor(const Tensor&, IntArrayRef, IntArrayRef, IntArrayRef, int64_t, InputSize);
using PackTransposed = Tensor(const Tensor&, IntArrayRef, IntArrayRef, IntArrayRef, IntArrayRef, int64_t, InputSize);
using Convolve = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, IntArrayRef, IntArrayRef,
                        IntArrayRef, int64_t, std::string_view, Scalars, std::optional<std::string_view>);
using ConvolveTransposed = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, IntArrayRef, IntArrayRef,
                                  IntArrayRef, IntArrayRef, int64_t, std::string_view, Scalars,
                                  std::optional<std::string_view>);

template <class Signature>
std::optional<c10::TypedOperatorHandle<Signature>> operation(const char* name) {
#if !defined(__x86_64__)
  return std::nullopt;
#endif
  const auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!found || !at::globalContext().hasMKLDNN()) return std::nullopt;
  return found->typed<Signature>();
}

constexpr std::array<int64_t, 2> none{0, 0}, one{1, 1}, two{2, 2};

// Whether oneDNN computes in this dtype: bf16 needs a CPU with products of it.
bool computes_in(at::ScalarType dtype) { return dtype == at::kFloat || (dtype == at::kBFloat16 && multiplies_bf16()); }

std::string_view activation(bool relu) { return relu ? "relu" : "none"; }

}  // namespace

std::optional<Tensor> onednn_pack(const Tensor& weight, at::ScalarType dtype) {
  static const auto pack = operation<Pack>("mkldnn::_reorder_convolution_weight");
  if (!pack || !computes_in(dtype)) return std::nullopt;
  return pack->call(weight.to(dtype).contiguous(at::MemoryFormat::ChannelsLast), none, one, one, 1, std::nullopt);
}

Tensor onednn_conv3x3(const Tensor& x, const Tensor& packed, const Tensor& bias, bool relu) {
  static const auto convolve = operation<Convolve>("mkldnn::_convolution_pointwise");
  TORCH_CHECK(convolve, "this libtorch has no oneDNN");
  return convolve->call(x, packed, bias.to(x.scalar_type()), none, one, one, 1, activation(relu), Scalars(), "");
}

std::optional<Tensor> onednn_pack_transposed(const Tensor& weight, at::ScalarType dtype) {
  static const auto pack = operation<PackTransposed>("mkldnn::_reorder_convolution_transpose_weight");
  if (!pack || !computes_in(dtype)) return std::nullopt;
  return pack->call(weight.to(dtype).contiguous(), one, one, two, one, 1, std::nullopt);
}

Tensor onednn_upconv(const Tensor& x, const Tensor& packed, const Tensor& bias, bool relu) {
  static const auto convolve = operation<ConvolveTransposed>("mkldnn::_convolution_transpose_pointwise");
  TORCH_CHECK(convolve, "this libtorch has no oneDNN");
  return convolve->call(x, packed, bias.to(x.scalar_type()), one, one, two, one, 1, activation(relu), Scalars(), "");
}

}  // namespace unet
