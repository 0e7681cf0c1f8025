// Winograd's transforms in one dimension. Every kernel applies them to columns, then to rows.
//
// Winograd's minimal filtering (Lavin & Gray, arXiv:1509.09308) in short:
// * A direct 3x3 convolution takes 9 multiplications per output pixel and pair of channels.
// * Take a tile of m x m outputs; it needs (m + 2) x (m + 2) inputs d. Read inputs and filter taps as coefficients of
//   polynomials. A convolution is a product of polynomials. A product of degree m + 1 is known from its values at m + 2
//   points, and each value costs one multiplication.
// * So evaluate the filter (U = G g G^T) and the input tile (V = B^T d B) at the points in both directions, multiply
//   value by value, and interpolate back (y = A^T [U . V] A).
// * For m = 4 that takes 36 products for 16 pixels, 2.25 per pixel instead of 9. For m = 2 it takes 16 products for 4
//   pixels, 4 per pixel.
// * The sum over input channels comes before A. So the products at one point are a matrix product, [tiles, channels]
//   times [channels, filters]: 36 (or 16) matrix products per layer.
// * Gradients use the same three matrices. The gradient of the input is the same convolution with flipped filters and 2
//   pixels of padding. For the gradient of the filter, dU = V^T (A dy A^T) is summed over tiles; then dw = G^T dU G.
// * The price is rounding. For m = 4, B^T and A^T hold constants up to 5 and 8. That makes fp32 errors about 5 times as
//   large (1e-6 relative) and is too much for bf16. For m = 2 there are only additions and subtractions, which suits
//   bf16.
//
// The points are 0, 1, -1, 2, -2 and infinity for m = 4, and 0, 1, -1 and infinity for m = 2. `s` and `r` are the
// distances between elements of the arrays before them.
#pragma once

#define UNET_INLINE static inline __attribute__((always_inline))

template <int m>
struct Winograd;

template <>
struct Winograd<4> {
  static constexpr int alpha = 6;

  // t = B^T d
  template <class V>
  UNET_INLINE void input(const V* d, int s, V* t, int r) {
    const V d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
    const V even1 = d4 - 4.f * d2, odd1 = d3 - 4.f * d1;  // at +-1
    const V even2 = d4 - d2, odd2 = 2.f * (d3 - d1);      // at +-2
    t[0] = 4.f * d0 + (even2 - 4.f * d2);
    t[r] = even1 + odd1;
    t[2 * r] = even1 - odd1;
    t[3 * r] = even2 + odd2;
    t[4 * r] = even2 - odd2;
    t[5 * r] = 4.f * d1 + (d5 - 5.f * d3);
  }

  // y = A^T p
  template <class V>
  UNET_INLINE void output(const V* p, int s, V* y, int r) {
    const V sum1 = p[s] + p[2 * s], dif1 = p[s] - p[2 * s], sum2 = p[3 * s] + p[4 * s], dif2 = p[3 * s] - p[4 * s];
    y[0] = p[0] + sum1 + sum2;
    y[r] = dif1 + 2.f * dif2;
    y[2 * r] = sum1 + 4.f * sum2;
    y[3 * r] = dif1 + 8.f * dif2 + p[5 * s];
  }

  // p = A g: the gradient of `output`
  template <class V>
  UNET_INLINE void gradient(const V* g, int s, V* p, int r) {
    const V even1 = g[0] + g[2 * s], odd1 = g[s] + g[3 * s];
    const V even2 = g[0] + 4.f * g[2 * s], odd2 = 2.f * g[s] + 8.f * g[3 * s];
    const V first = g[0], last = g[3 * s];
    p[0] = first;
    p[r] = even1 + odd1;
    p[2 * r] = even1 - odd1;
    p[3 * r] = even2 + odd2;
    p[4 * r] = even2 - odd2;
    p[5 * r] = last;
  }

  // u = G w
  template <class V>
  UNET_INLINE void filter(const V* w, int s, V* u, int r) {
    const V w0 = w[0], w1 = w[s], w2 = w[2 * s];
    const V even1 = (-1.f / 6) * (w0 + w2), odd1 = (-1.f / 6) * w1;
    const V even2 = (1.f / 24) * w0 + (1.f / 6) * w2, odd2 = (1.f / 12) * w1;
    u[0] = 0.25f * w0;
    u[r] = even1 + odd1;
    u[2 * r] = even1 - odd1;
    u[3 * r] = even2 + odd2;
    u[4 * r] = even2 - odd2;
    u[5 * r] = w2;
  }

  // w = G^T u: the gradient of `filter`
  template <class V>
  UNET_INLINE void filter_gradient(const V* u, int s, V* w, int r) {
    const V sum1 = u[s] + u[2 * s], dif1 = u[s] - u[2 * s], sum2 = u[3 * s] + u[4 * s], dif2 = u[3 * s] - u[4 * s];
    w[0] = 0.25f * u[0] - (1.f / 6) * sum1 + (1.f / 24) * sum2;
    w[r] = (1.f / 12) * dif2 - (1.f / 6) * dif1;
    w[2 * r] = (1.f / 6) * (sum2 - sum1) + u[5 * s];
  }
};

template <>
struct Winograd<2> {
  static constexpr int alpha = 4;

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
