// Filters from filter banks to panels and back.
#pragma once
#include <utility>
#include "cpu/simd/tiles.h"

namespace unet {
namespace {

// The side x side taps of at most `lanes` vector channels and `filter_rows` summed channels.
constexpr int64_t filter_rows = 16;
template <int side>
struct Taps {
  alignas(64) float values[side * side][filter_rows][lanes];
};

UNET_INLINE float* filter_at(const Filter& f, int64_t vector, int64_t sum) {
  return f.data + vector * f.stride_vector + sum * f.stride_sum;
}
template <int side>
UNET_INLINE int64_t tap_offset(const Filter& f, int ky, int kx) {
  constexpr int last = side - 1;
  return (f.flip ? last - ky : ky) * f.stride_y + (f.flip ? last - kx : kx) * f.stride_x;
}

template <int distance, int... j>
UNET_INLINE Vector first_of(Vector x, Vector y, std::integer_sequence<int, j...>) {
  return __builtin_shufflevector(x, y, (j & distance ? lanes + j - distance : j)...);
}
template <int distance, int... j>
UNET_INLINE Vector second_of(Vector x, Vector y, std::integer_sequence<int, j...>) {
  return __builtin_shufflevector(x, y, (j & distance ? lanes + j : j + distance)...);
}
// Transposes a square of lanes x lanes: swaps halves, then quarters, and so on.
template <int distance = lanes / 2>
UNET_INLINE void transpose(Vector (&v)[lanes]) {
  if constexpr (distance > 0) {
    const std::make_integer_sequence<int, lanes> all;
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if (i & distance) continue;
      const Vector x = v[i], y = v[i + distance];
      v[i] = first_of<distance>(x, y, all), v[i + distance] = second_of<distance>(x, y, all);
    }
    transpose<distance / 2>(v);
  }
}

template <int side>
void gather(const Filter& f, int64_t vector, int64_t vectors, int64_t sum, int64_t sums, Taps<side>& taps) {
  if (vectors < lanes || sums < filter_rows) __builtin_memset(&taps, 0, sizeof taps);
  if (f.stride_vector == 1 && vectors == lanes) {
    for (int64_t r = 0; r < sums; ++r) {
      const float* from = filter_at(f, vector, sum + r);
#pragma GCC unroll 3
      for (int ky = 0; ky < side; ++ky)
#pragma GCC unroll 3
        for (int kx = 0; kx < side; ++kx)
          store(taps.values[ky * side + kx][r], load(from + tap_offset<side>(f, ky, kx)));
    }
    return;
  }
  if (f.stride_sum == 1 && vectors == lanes && sums == filter_rows) {
    for (int ky = 0; ky < side; ++ky)
      for (int kx = 0; kx < side; ++kx)
        for (int64_t r = 0; r < sums; r += lanes) {
          Vector square[lanes];
#pragma GCC unroll 16
          for (int l = 0; l < lanes; ++l)
            square[l] = load(filter_at(f, vector + l, sum + r) + tap_offset<side>(f, ky, kx));
          transpose(square);
#pragma GCC unroll 16
          for (int i = 0; i < lanes; ++i) store(taps.values[ky * side + kx][r + i], square[i]);
        }
    return;
  }
  for (int64_t l = 0; l < vectors; ++l)
    for (int64_t r = 0; r < sums; ++r) {
      const float* from = filter_at(f, vector + l, sum + r);
#pragma GCC unroll 3
      for (int ky = 0; ky < side; ++ky)
#pragma GCC unroll 3
        for (int kx = 0; kx < side; ++kx) taps.values[ky * side + kx][r][l] = from[tap_offset<side>(f, ky, kx)];
    }
}

// Fetches what `gather` reads next. If strides are powers of two, neither the caches nor the processor's own
// prefetching help.
template <int side>
UNET_INLINE void prefetch(const Filter& f, int64_t vector, int64_t sum) {
  const bool along_vectors = f.stride_vector == 1;
  for (int64_t i = 0; i < (along_vectors ? filter_rows : lanes); ++i) {
    const float* from = along_vectors ? filter_at(f, vector, sum + i) : filter_at(f, vector + i, sum);
#pragma GCC unroll 3
    for (int ky = 0; ky < side; ++ky)
#pragma GCC unroll 3
      for (int kx = 0; kx < side; ++kx) __builtin_prefetch(from + tap_offset<side>(f, ky, kx));
  }
}

template <int side>
void scatter(const Taps<side>& taps, const Filter& f, int64_t vector, int64_t vectors, int64_t sum, int64_t sums) {
  if (f.stride_sum == 1 && vectors == lanes && sums == filter_rows) {
    for (int ky = 0; ky < side; ++ky)
      for (int kx = 0; kx < side; ++kx)
        for (int64_t r = 0; r < sums; r += lanes) {
          Vector square[lanes];
#pragma GCC unroll 16
          for (int i = 0; i < lanes; ++i) square[i] = load(taps.values[ky * side + kx][r + i]);
          transpose(square);
#pragma GCC unroll 16
          for (int l = 0; l < lanes; ++l)
            store(filter_at(f, vector + l, sum + r) + tap_offset<side>(f, ky, kx), square[l]);
        }
    return;
  }
  for (int64_t l = 0; l < vectors; ++l)
    for (int64_t r = 0; r < sums; ++r) {
      float* to = filter_at(f, vector + l, sum + r);
#pragma GCC unroll 3
      for (int ky = 0; ky < side; ++ky)
#pragma GCC unroll 3
        for (int kx = 0; kx < side; ++kx) to[tap_offset<side>(f, ky, kx)] = taps.values[ky * side + kx][r][l];
    }
}

template <class W>
UNET_INLINE void transform_filter(const Taps<W::taps>& taps, int64_t row, Vector* u) {
  constexpr int alpha = W::alpha, side = W::taps;
  Vector w[side * side], half[alpha * side];
#pragma GCC unroll 9
  for (int i = 0; i < side * side; ++i) w[i] = load(taps.values[i][row]);
#pragma GCC unroll 3
  for (int j = 0; j < side; ++j) W::filter(w + j, side, half + j, side);
#pragma GCC unroll 8
  for (int i = 0; i < alpha; ++i) W::filter(half + i * side, 1, u + i * alpha, 1);
}

template <class T>
void filter(const Filter& f, Channels vector, Channels sum, void* to, int64_t stride) {
  typedef Winograd<T::tile> W;
  constexpr int points = W::alpha * W::alpha;
  typename T::Element* u = static_cast<typename T::Element*>(to);
  Taps<W::taps> taps;
  for (int64_t r = 0; r < sum.count; r += filter_rows) {
    const int64_t rows = sum.count - r < filter_rows ? sum.count - r : filter_rows;
    for (int64_t l = 0; l < vector.count; l += lanes) {
      gather(f, vector.first + l, vector.count - l < lanes ? vector.count - l : lanes, sum.first + r, rows, taps);
      const bool last = l + lanes >= vector.count;
      if (!last || r + 2 * filter_rows <= sum.count)
        prefetch<W::taps>(f, vector.first + (last ? 0 : l + lanes), sum.first + r + (last ? filter_rows : 0));
      for (int64_t i = 0; i < rows; i += T::elements_per_word) {
        Vector first[points], second[points];
        transform_filter<W>(taps, i, first);
        typename T::Element* row = u + (r + i) * panel + T::elements_per_word * l;
        if constexpr (T::elements_per_word == 2) {
          transform_filter<W>(taps, i + 1, second);
          for (int k = 0; k < points; ++k) store_pair(row + k * stride, first[k], second[k]);
        } else {
#pragma GCC unroll 64
          for (int k = 0; k < points; ++k) store(row + k * stride, first[k]);
        }
      }
    }
  }
}

template <class T>
void filter_gradient(const float* du, int64_t stride, const Filter& f, Channels vector, Channels sum) {
  typedef Winograd<T::tile> W;
  constexpr int alpha = W::alpha, side = W::taps;
  Taps<side> taps;
  for (int64_t r = 0; r < sum.count; r += filter_rows) {
    const int64_t rows = sum.count - r < filter_rows ? sum.count - r : filter_rows;
    for (int64_t l = 0; l < vector.count; l += lanes) {
      for (int64_t i = 0; i < rows; ++i) {
        Vector half[side * alpha], w[side * side];
#pragma GCC unroll 8
        for (int j = 0; j < alpha; ++j) {
          Vector column[alpha];
#pragma GCC unroll 8
          for (int k = 0; k < alpha; ++k) column[k] = load(du + (k * alpha + j) * stride + (r + i) * panel + l);
          W::filter_gradient(column, 1, half + j, alpha);
        }
#pragma GCC unroll 3
        for (int k = 0; k < side; ++k) W::filter_gradient(half + k * alpha, 1, w + k * side, 1);
#pragma GCC unroll 9
        for (int k = 0; k < side * side; ++k) store(taps.values[k][i], w[k]);
      }
      scatter(taps, f, vector.first + l, vector.count - l < lanes ? vector.count - l : lanes, sum.first + r, rows);
    }
  }
}

template <class T>
void tap(const Filter& f, int64_t ky, int64_t kx, Channels vector, Channels sum, void* to) {
  typename T::Element* b = static_cast<typename T::Element*>(to);
  const float* from = filter_at(f, vector.first, sum.first) + tap_offset<3>(f, ky, kx);
  for (int64_t r = 0; r < sum.count; r += T::elements_per_word)
    for (int64_t l = 0; l < vector.count; l += lanes) {
      const int64_t n = vector.count - l < lanes ? vector.count - l : lanes;
      Vector rows[2] = {};
      for (int i = 0; i < T::elements_per_word && r + i < sum.count; ++i) {
        float line[lanes] = {};
        for (int64_t j = 0; j < n; ++j) line[j] = from[(l + j) * f.stride_vector + (r + i) * f.stride_sum];
        rows[i] = load(line);
      }
      if constexpr (T::elements_per_word == 2)
        store_pair(b + r * panel + 2 * l, rows[0], rows[1]);
      else
        store(b + r * panel + l, rows[0]);
    }
}

}  // namespace
}  // namespace unet
