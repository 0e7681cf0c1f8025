// Winograd's transforms in one dimension. Every kernel applies them to columns, then to rows.
//
// Winograd's minimal filtering (Lavin & Gray, arXiv:1509.09308) in short:
// * A direct 3x3 convolution takes 9 multiplications per output pixel and pair of channels.
// * Take a tile of m x m outputs; it needs (m + 2) x (m + 2) inputs d. Read inputs and filter taps as coefficients of
//   polynomials. A convolution is a product of polynomials. A product of degree m + 1 is known from its values at m + 2
//   points, and each value costs one multiplication.
// * So evaluate the filter (U = G g G^T) and the input tile (V = B^T d B) at the points in both directions, multiply
//   value by value, and interpolate back (y = A^T [U . V] A).
// * For m = 6 that takes 64 products for 36 pixels, 1.8 per pixel instead of 9. For m = 2 it takes 16 products for 4
//   pixels, 4 per pixel.
// * The sum over input channels comes before A. So the products at one point are a matrix product, [tiles, channels]
//   times [channels, filters]: 64 (or 16) matrix products per layer.
// * Gradients use the same three matrices. The gradient of the input is the same convolution with flipped filters and 2
//   pixels of padding. For the gradient of the filter, dU = V^T (A dy A^T) is summed over tiles; then dw = G^T dU G.
// * The price is rounding. For m = 6, B^T and A^T hold constants up to 5.25 and 32. With 64 filters the logits in fp32
//   are 3e-6 from exact ones, twice as far as for m = 4; in bf16 that is too much. For m = 2 there are only additions
//   and subtractions, which suits bf16.
//
// The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity for m = 6, and 0, 1, -1 and infinity for m = 2. `s` and `r`
// are the distances between elements of the arrays before them.
#pragma once

#define UNET_INLINE static inline __attribute__((always_inline))

template <int m>
struct Winograd;

// m outputs of a filter with `taps` taps at the points 0, x and -x for x = 1, 2 and 1/2, and infinity.
template <int m, int taps_>
struct AtEightPoints {
  static constexpr int taps = taps_, alpha = 8;
  static_assert(m + taps == alpha + 1, "a product of m + taps - 1 coefficients needs as many points");

  // x^i for the three x
  static constexpr float powers(int which, int i) {
    const float power = float(1 << i);
    return which == 0 ? 1.f : which == 1 ? power : 1.f / power;
  }
  // What G divides the values at x and -x by
  static constexpr float scales[3] = {-2.f / 9, 1.f / 90, 32.f / 45};

  // t = B^T d
  template <class V>
  UNET_INLINE void input(const V* d, int s, V* t, int r) {
    const V d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s], d6 = d[6 * s],
            d7 = d[7 * s];
    const V even1 = (d2 + d6) - 4.25f * d4, odd1 = (d1 + d5) - 4.25f * d3;                    // at +-1
    const V even2 = d6 + (0.25f * d2 - 1.25f * d4), odd2 = 0.5f * d1 - 2.5f * d3 + 2.f * d5;  // at +-2
    const V even3 = d6 + (4.f * d2 - 5.f * d4), odd3 = 2.f * d1 - 2.5f * d3 + 0.5f * d5;      // at +-1/2
    t[0] = (d0 - d6) + 5.25f * (d4 - d2);
    t[r] = even1 + odd1;
    t[2 * r] = even1 - odd1;
    t[3 * r] = even2 + odd2;
    t[4 * r] = even2 - odd2;
    t[5 * r] = even3 + odd3;
    t[6 * r] = even3 - odd3;
    t[7 * r] = (d7 - d1) + 5.25f * (d3 - d5);
  }

  // y = A^T p
  template <class V>
  UNET_INLINE void output(const V* p, int s, V* y, int r) {
    interpolate<m>(p, s, y, r, [](int which, int i) __attribute__((always_inline)) { return powers(which, i); });
  }

  // p = A g: the gradient of `output`
  template <class V>
  UNET_INLINE void gradient(const V* g, int s, V* p, int r) {
    evaluate<m>(g, s, p, r, [](int which, int i) __attribute__((always_inline)) { return powers(which, i); });
  }

  // u = G w
  template <class V>
  UNET_INLINE void filter(const V* w, int s, V* u, int r) {
    evaluate<taps>(w, s, u, r,
                   [](int which, int i) __attribute__((always_inline)) { return scales[which] * powers(which, i); });
  }

  // w = G^T u: the gradient of `filter`
  template <class V>
  UNET_INLINE void filter_gradient(const V* u, int s, V* w, int r) {
    interpolate<taps>(u, s, w, r,
                      [](int which, int i) __attribute__((always_inline)) { return scales[which] * powers(which, i); });
  }

 private:
  // Values at the points of the polynomial with `count` coefficients from c on; `factor(which, i)` is that of
  // coefficient i at the x numbered `which`.
  template <int count, class V, class F>
  UNET_INLINE void evaluate(const V* c, int s, V* values, int r, F factor) {
    values[0] = c[0];
#pragma GCC unroll 3
    for (int which = 0; which < 3; ++which) {
      V even = factor(which, 0) * c[0], odd = factor(which, 1) * c[s];
#pragma GCC unroll 8
      for (int i = 2; i < count; ++i) (i % 2 ? odd : even) += factor(which, i) * c[i * s];
      values[(2 * which + 1) * r] = even + odd;
      values[(2 * which + 2) * r] = even - odd;
    }
    values[7 * r] = c[(count - 1) * s];
  }
  // The transpose of `evaluate`.
  template <int count, class V, class F>
  UNET_INLINE void interpolate(const V* values, int s, V* c, int r, F factor) {
    V sums[3], differences[3];
#pragma GCC unroll 3
    for (int which = 0; which < 3; ++which) {
      const V plus = values[(2 * which + 1) * s], minus = values[(2 * which + 2) * s];
      sums[which] = plus + minus, differences[which] = plus - minus;
    }
    const V first = values[0], last = values[7 * s];
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
      const V* both = i % 2 ? differences : sums;
      V sum = factor(0, i) * both[0] + factor(1, i) * both[1] + factor(2, i) * both[2];
      if (i == 0) sum += first;
      if (i == count - 1) sum += last;
      c[i * r] = sum;
    }
  }
};

// 64 products for 36 outputs of 3x3 taps.
template <>
struct Winograd<6> : AtEightPoints<6, 3> {};

// 64 products for 49 outputs of 2x2 taps, 1.3 for each instead of 4.
template <>
struct Winograd<7> : AtEightPoints<7, 2> {};

template <>
struct Winograd<2> {
  static constexpr int taps = 3, alpha = 4;

  template <class V>
  UNET_INLINE void input(const V* d, int s, V* t, int r) {
    const V d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s];
    t[0] = d0 - d2;
    t[r] = d1 + d2;
    t[2 * r] = d2 - d1;
    t[3 * r] = d1 - d3;
  }

  template <class V>
  UNET_INLINE void output(const V* p, int s, V* y, int r) {
    y[0] = p[0] + p[s] + p[2 * s];
    y[r] = p[s] - p[2 * s] - p[3 * s];
  }

  template <class V>
  UNET_INLINE void gradient(const V* g, int s, V* p, int r) {
    const V g0 = g[0], g1 = g[s];
    p[0] = g0;
    p[r] = g0 + g1;
    p[2 * r] = g0 - g1;
    p[3 * r] = -g1;
  }

  template <class V>
  UNET_INLINE void filter(const V* w, int s, V* u, int r) {
    const V w0 = w[0], w1 = w[s], w2 = w[2 * s];
    u[0] = w0;
    u[r] = 0.5f * (w0 + w1 + w2);
    u[2 * r] = 0.5f * (w0 - w1 + w2);
    u[3 * r] = w2;
  }

  template <class V>
  UNET_INLINE void filter_gradient(const V* u, int s, V* w, int r) {
    const V sum = u[s] + u[2 * s], dif = u[s] - u[2 * s];
    w[0] = u[0] + 0.5f * sum;
    w[r] = 0.5f * dif;
    w[2 * r] = 0.5f * sum + u[3 * s];
  }
};
