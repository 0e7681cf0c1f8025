// How the C functions of this folder report errors. `tch` 0.24 lacks what they offer; the Rust side is src/native/, one
// file per header.
//
// Each function returns 0, or -1 and leaves a text for `unet_take_error`. Integers have a fixed width, so that C++ and
// Rust agree on their size. Tensors stay the caller's; a tensor stored in an `out` parameter is new and the caller
// frees it. An optional tensor is a null pointer when it is absent. These functions hold no policy: Rust decides which
// kernels run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>

#define UNET_API extern "C" __attribute__((visibility("default")))

// Copies the last error of this thread to `text`, cut to `size` bytes with the final NUL.
UNET_API void unet_take_error(char* text, size_t size);

namespace unet {
// Stores the text of the exception in flight for `unet_take_error`. Returns -1.
int32_t store_error() noexcept;

// Runs `body`. Every C++ exception becomes a status, because Rust cannot unwind it.
template <class Body>
int32_t guard(const Body& body) noexcept {
  try {
    body();
    return 0;
  } catch (...) {
    return store_error();
  }
}

// An optional tensor as libtorch wants it: undefined where the pointer is null.
inline at::Tensor or_undefined(const at::Tensor* x) { return x ? *x : at::Tensor(); }

// The tensor for an `out` parameter.
inline at::Tensor* new_tensor(at::Tensor x) { return new at::Tensor(std::move(x)); }
inline at::Tensor* new_or_null(std::optional<at::Tensor> x) { return x ? new_tensor(*std::move(x)) : nullptr; }
}  // namespace unet
