// Winograd's tiles from images to panels and back.
#pragma once
#include "cpu/simd/multiply.h"

namespace unet {
namespace {

struct Position {
  int64_t n, y, x;  // image, and the tile's first pixel in the output
};

template <int m>
UNET_INLINE Position position(const Tiles& tiles, int64_t tile) {
  const int64_t row = tile / tiles.across;
  return {row / tiles.down, row % tiles.down * m, tile % tiles.across * m};
}

alignas(64) const float zeros[panel] = {};

// Pointers to one panel's channels of a square of side x side pixels. Pixels outside the image point to zeros.
template <class Element, int side>
struct Patch {
  const Element* pixels[side * side];

  UNET_INLINE Patch outside() {
    Patch patch;
    for (int i = 0; i < side * side; ++i) patch.pixels[i] = reinterpret_cast<const Element*>(zeros);
    return patch;
  }
  UNET_INLINE Patch at(const Image& image, int64_t n, int64_t y, int64_t x, int64_t channel) {
    const Element* data = static_cast<const Element*>(image.data) + n * image.stride_n + channel;
    Patch patch;
    if (y >= 0 && x >= 0 && y + side <= image.h && x + side <= image.w) {
      data += y * image.stride_h + x * image.stride_w;
      for (int i = 0; i < side; ++i)
        for (int j = 0; j < side; ++j) patch.pixels[i * side + j] = data + i * image.stride_h + j * image.stride_w;
      return patch;
    }
    for (int i = 0; i < side; ++i)
      for (int j = 0; j < side; ++j) {
        const bool inside = uint64_t(y + i) < uint64_t(image.h) && uint64_t(x + j) < uint64_t(image.w);
        patch.pixels[i * side + j] = inside ? data + (y + i) * image.stride_h + (x + j) * image.stride_w
                                            : reinterpret_cast<const Element*>(zeros);
      }
    return patch;
  }
};

template <class Element>
UNET_INLINE Vector fetch(const Element* p, int64_t n) {
  return n == lanes ? load(p) : load(p, n);
}

// Calls f(first channel, number of channels) for each vector. Whole vectors pass a constant number, so that the
// compiler specialises f.
template <class F>
UNET_INLINE void each_vector(int64_t channels, const F& f) {
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) f(c, int64_t(lanes));
  if (c < channels) f(c, channels - c);
}

// Transforms one tile into values[point]: B^T d B, or A g A^T if `is_gradient`.
template <class T, bool is_gradient, bool masked, int side>
UNET_INLINE void transform(const Patch<typename T::Pixel, side>& patch, const Patch<typename T::Pixel, side>& mask,
                           int64_t c, int64_t n, Vector* values) {
  typedef Winograd<T::tile> W;
  constexpr int alpha = W::alpha;
  Vector half[alpha * side];
#pragma GCC unroll 8
  for (int j = 0; j < side; ++j) {
    Vector column[side];
#pragma GCC unroll 8
    for (int i = 0; i < side; ++i) {
      column[i] = fetch(patch.pixels[i * side + j] + c, n);
      if (masked) column[i] = where_positive(fetch(mask.pixels[i * side + j] + c, n), column[i]);
    }
    if constexpr (is_gradient)
      W::gradient(column, 1, half + j, side);
    else
      W::input(column, 1, half + j, side);
  }
#pragma GCC unroll 8
  for (int i = 0; i < alpha; ++i) {
    if constexpr (is_gradient)
      W::gradient(half + i * side, 1, values + i * alpha, 1);
    else
      W::input(half + i * side, 1, values + i * alpha, 1);
  }
}

template <class T, bool is_gradient, bool masked>
void transform_tiles(const Image& x, const Image* mask, const Tiles& tiles, int64_t first, int64_t count,
                     Channels channels, typename T::Element* v, int64_t stride, bool paired) {
  typedef Winograd<T::tile> W;
  constexpr int points = W::alpha * W::alpha, side = is_gradient ? T::tile : W::alpha;
  typedef Patch<typename T::Pixel, side> P;
  const bool pairs = paired && T::elements_per_word == 2;
  const int64_t rows_at_once = pairs ? 2 : 1, padding = is_gradient ? 0 : tiles.pad;
  for (int64_t row = 0; row < count; row += rows_at_once) {
    P patch[2], masks[2];
    for (int64_t i = 0; i < rows_at_once; ++i) {
      patch[i] = masks[i] = P::outside();
      if (row + i >= count) continue;
      const Position at = position<T::tile>(tiles, first + row + i);
      patch[i] = P::at(x, at.n, at.y - padding, at.x - padding, channels.first);
      if (masked) masks[i] = P::at(*mask, at.n, at.y - padding, at.x - padding, channels.first);
    }
    each_vector(channels.count, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      Vector values[points], second[points];
      transform<T, is_gradient, masked, side>(patch[0], masks[0], c, n, values);
      if (pairs) {
        transform<T, is_gradient, masked, side>(patch[1], masks[1], c, n, second);
#pragma GCC unroll 64
        for (int k = 0; k < points; ++k) store_pair(v + k * stride + row * panel + 2 * c, values[k], second[k]);
      } else {
#pragma GCC unroll 64
        for (int k = 0; k < points; ++k) store(v + k * stride + row * panel + c, values[k]);
      }
    });
  }
}

template <class T, bool is_gradient>
void tiles_to_panel(const Image& x, const Image* mask, const Tiles& tiles, int64_t first, int64_t count,
                    Channels channels, void* v, int64_t stride, bool paired) {
  typename T::Element* to = static_cast<typename T::Element*>(v);
  if (mask)
    transform_tiles<T, is_gradient, true>(x, mask, tiles, first, count, channels, to, stride, paired);
  else
    transform_tiles<T, is_gradient, false>(x, mask, tiles, first, count, channels, to, stride, paired);
}

template <class T>
void output(const float* p, int64_t stride, const Tiles& tiles, int64_t first, int64_t count, Channels channels,
            const float* bias, bool relu, const Image* mask, const Image& y) {
  typedef Winograd<T::tile> W;
  typedef typename T::Pixel Element;
  constexpr int m = T::tile, alpha = W::alpha;
  for (int64_t row = 0; row < count; ++row) {
    const Position at = position<m>(tiles, first + row);
    const int64_t down = y.h - at.y < m ? y.h - at.y : m, across = y.w - at.x < m ? y.w - at.x : m;
    Element* to =
        static_cast<Element*>(y.data) + at.n * y.stride_n + at.y * y.stride_h + at.x * y.stride_w + channels.first;
    const Element* gate = mask ? static_cast<const Element*>(mask->data) + at.n * mask->stride_n +
                                     at.y * mask->stride_h + at.x * mask->stride_w + channels.first
                               : nullptr;
    each_vector(channels.count, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      const float* from = p + row * panel + c;
      const Vector shift = bias ? fetch(bias + channels.first + c, n) : Vector{};
      Vector half[m * alpha];
#pragma GCC unroll 8
      for (int j = 0; j < alpha; ++j) {
        Vector column[alpha];
#pragma GCC unroll 8
        for (int i = 0; i < alpha; ++i) column[i] = load(from + (i * alpha + j) * stride);
        W::output(column, 1, half + j, alpha);
      }
#pragma GCC unroll 8
      for (int i = 0; i < m; ++i) {
        if (i >= down) break;
        Vector line[m];
        W::output(half + i * alpha, 1, line, 1);
#pragma GCC unroll 8
        for (int j = 0; j < m; ++j) {
          if (j >= across) break;
          Vector value = line[j] + shift;
          if (relu) value = positive(value);
          if (gate) value = where_positive(fetch(gate + i * mask->stride_h + j * mask->stride_w + c, n), value);
          Element* pixel = to + i * y.stride_h + j * y.stride_w + c;
          if (n == lanes)
            store(pixel, value);
          else
            store(pixel, value, n);
        }
      }
    });
  }
}

}  // namespace
}  // namespace unet
