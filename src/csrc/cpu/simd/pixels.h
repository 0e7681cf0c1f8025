// Pixels from images to panels and back, and pooling.
#pragma once
#include "cpu/simd/tiles.h"

namespace unet {
namespace {

template <class T>
void pack(const void* x, const void* mask, int64_t stride, int64_t mask_stride, int64_t count, int64_t channels,
          void* to, bool paired) {
  typedef typename T::Pixel Pixel;
  const Pixel* from = static_cast<const Pixel*>(x);
  const Pixel* gate = static_cast<const Pixel*>(mask);
  typename T::Element* rows = static_cast<typename T::Element*>(to);
  const bool pairs = paired && T::elements_per_word == 2;
  for (int64_t row = 0; row < count; row += pairs ? 2 : 1)
    each_vector(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      Vector values[2] = {};
      for (int64_t i = 0; i < (pairs ? 2 : 1) && row + i < count; ++i) {
        values[i] = fetch(from + (row + i) * stride + c, n);
        if (gate) values[i] = where_positive(fetch(gate + (row + i) * mask_stride + c, n), values[i]);
      }
      if (pairs)
        store_pair(rows + row * panel + 2 * c, values[0], values[1]);
      else
        store(rows + row * panel + c, values[0]);
    });
}

template <class T>
void unpack(const float* rows, int64_t count, int64_t channels, const float* bias, bool relu, const void* mask,
            int64_t mask_stride, void* y, int64_t stride) {
  typedef typename T::Pixel Pixel;
  Pixel* to = static_cast<Pixel*>(y);
  const Pixel* gate = static_cast<const Pixel*>(mask);
  for (int64_t row = 0; row < count; ++row)
    each_vector(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      Vector value = load(rows + row * panel + c);
      if (bias) value += fetch(bias + c, n);
      if (relu) value = positive(value);
      if (gate) value = where_positive(fetch(gate + row * mask_stride + c, n), value);
      if (n == lanes)
        store(to + row * stride + c, value);
      else
        store(to + row * stride + c, value, n);
    });
}

template <class T>
void column_sums(const void* from, int64_t count, int64_t channels, float* sums, bool paired) {
  const typename T::Element* rows = static_cast<const typename T::Element*>(from);
  for (int64_t c = 0; c < channels; c += lanes) {
    Vector sum{};
    if (T::elements_per_word == 2 && paired)  // the dot product with a pair of ones adds both elements of a word
      for (int64_t row = 0; row < (count + 1) / 2; ++row)
        sum = T::multiply_add(sum, 0x3f803f80u, load(reinterpret_cast<const float*>(rows) + row * panel + c));
    else
      for (int64_t row = 0; row < count; ++row) sum += load(rows + row * panel + c);
    const int64_t n = channels - c < lanes ? channels - c : lanes;
    store(sums + c, fetch(sums + c, n) + sum, n);
  }
}

template <class T>
void pool(const void* const window[4], int64_t channels, void* y) {
  typedef typename T::Pixel Pixel;
  each_vector(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vector most = fetch(static_cast<const Pixel*>(window[0]) + c, n);
    for (int i = 1; i < 4; ++i) {
      const Vector value = fetch(static_cast<const Pixel*>(window[i]) + c, n);
      most = most >= value ? most : value;  // a NaN stays unless a later value replaces it
    }
    if (n == lanes)
      store(static_cast<Pixel*>(y) + c, most);
    else
      store(static_cast<Pixel*>(y) + c, most, n);
  });
}

template <class T>
void pool_gradient(const void* const x[4], const void* pooled, const void* const crop[4], int64_t channels,
                   void* const dx[4]) {
  typedef typename T::Pixel Pixel;
  each_vector(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vector values[4];
    for (int i = 0; i < 4; ++i) values[i] = x[i] ? fetch(static_cast<const Pixel*>(x[i]) + c, n) : Vector{};
    Vector left = pooled && x[3] ? fetch(static_cast<const Pixel*>(pooled) + c, n) : Vector{};
    const Vector first = values[0] >= values[1] ? values[0] : values[1],
                 second = values[2] >= values[3] ? values[2] : values[3];
    const Vector most = first >= second ? first : second;
    for (int i = 0; i < 4; ++i) {
      if (!dx[i]) continue;
      Vector gradient = values[i] == most ? left : Vector{};
      left = values[i] == most ? Vector{} : left;
      if (crop[i]) gradient += fetch(static_cast<const Pixel*>(crop[i]) + c, n);
      gradient = where_positive(values[i], gradient);
      if (n == lanes)
        store(static_cast<Pixel*>(dx[i]) + c, gradient);
      else
        store(static_cast<Pixel*>(dx[i]) + c, gradient, n);
    }
  });
}

}  // namespace
}  // namespace unet
