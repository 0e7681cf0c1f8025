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

template <>
struct Winograd<6> {
  static constexpr int taps = 3, alpha = 8;

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
    const V sum1 = p[s] + p[2 * s], dif1 = p[s] - p[2 * s], sum2 = p[3 * s] + p[4 * s], dif2 = p[3 * s] - p[4 * s],
            sum3 = p[5 * s] + p[6 * s], dif3 = p[5 * s] - p[6 * s];
    y[0] = p[0] + sum1 + sum2 + sum3;
    y[r] = dif1 + 2.f * dif2 + 0.5f * dif3;
    y[2 * r] = sum1 + 4.f * sum2 + 0.25f * sum3;
    y[3 * r] = dif1 + 8.f * dif2 + 0.125f * dif3;
    y[4 * r] = sum1 + 16.f * sum2 + 0.0625f * sum3;
    y[5 * r] = dif1 + 32.f * dif2 + 0.03125f * dif3 + p[7 * s];
  }

  // p = A g: the gradient of `output`
  template <class V>
  UNET_INLINE void gradient(const V* g, int s, V* p, int r) {
    const V g0 = g[0], g1 = g[s], g2 = g[2 * s], g3 = g[3 * s], g4 = g[4 * s], g5 = g[5 * s];
    const V even1 = g0 + g2 + g4, odd1 = g1 + g3 + g5;
    const V even2 = g0 + 4.f * g2 + 16.f * g4, odd2 = 2.f * g1 + 8.f * g3 + 32.f * g5;
    const V even3 = g0 + 0.25f * g2 + 0.0625f * g4, odd3 = 0.5f * g1 + 0.125f * g3 + 0.03125f * g5;
    p[0] = g0;
    p[r] = even1 + odd1;
    p[2 * r] = even1 - odd1;
    p[3 * r] = even2 + odd2;
    p[4 * r] = even2 - odd2;
    p[5 * r] = even3 + odd3;
    p[6 * r] = even3 - odd3;
    p[7 * r] = g5;
  }

  // u = G w
  template <class V>
  UNET_INLINE void filter(const V* w, int s, V* u, int r) {
    const V w0 = w[0], w1 = w[s], w2 = w[2 * s];
    const V even1 = (-2.f / 9) * (w0 + w2), odd1 = (-2.f / 9) * w1;
    const V even2 = (1.f / 90) * w0 + (2.f / 45) * w2, odd2 = (1.f / 45) * w1;
    const V even3 = (32.f / 45) * w0 + (8.f / 45) * w2, odd3 = (16.f / 45) * w1;
    u[0] = w0;
    u[r] = even1 + odd1;
    u[2 * r] = even1 - odd1;
    u[3 * r] = even2 + odd2;
    u[4 * r] = even2 - odd2;
    u[5 * r] = even3 + odd3;
    u[6 * r] = even3 - odd3;
    u[7 * r] = w2;
  }

  // w = G^T u: the gradient of `filter`
  template <class V>
  UNET_INLINE void filter_gradient(const V* u, int s, V* w, int r) {
    const V sum1 = u[s] + u[2 * s], dif1 = u[s] - u[2 * s], sum2 = u[3 * s] + u[4 * s], dif2 = u[3 * s] - u[4 * s],
            sum3 = u[5 * s] + u[6 * s], dif3 = u[5 * s] - u[6 * s];
    w[0] = u[0] - (2.f / 9) * sum1 + (1.f / 90) * sum2 + (32.f / 45) * sum3;
    w[r] = (1.f / 45) * dif2 - (2.f / 9) * dif1 + (16.f / 45) * dif3;
    w[2 * r] = (2.f / 45) * sum2 - (2.f / 9) * sum1 + (8.f / 45) * sum3 + u[7 * s];
  }
};

// Filters of 2x2 taps at the points of Winograd<6>: 64 products for 49 outputs, 1.3 for each instead of 4.
template <>
struct Winograd<7> {
  static constexpr int taps = 2, alpha = 8;

  template <class V>
  UNET_INLINE void input(const V* d, int s, V* t, int r) {
    Winograd<6>::input(d, s, t, r);
  }

  template <class V>
  UNET_INLINE void output(const V* p, int s, V* y, int r) {
    const V sum1 = p[s] + p[2 * s], dif1 = p[s] - p[2 * s], sum2 = p[3 * s] + p[4 * s], dif2 = p[3 * s] - p[4 * s],
            sum3 = p[5 * s] + p[6 * s], dif3 = p[5 * s] - p[6 * s];
    y[0] = p[0] + sum1 + sum2 + sum3;
    y[r] = dif1 + 2.f * dif2 + 0.5f * dif3;
    y[2 * r] = sum1 + 4.f * sum2 + 0.25f * sum3;
    y[3 * r] = dif1 + 8.f * dif2 + 0.125f * dif3;
    y[4 * r] = sum1 + 16.f * sum2 + 0.0625f * sum3;
    y[5 * r] = dif1 + 32.f * dif2 + 0.03125f * dif3;
    y[6 * r] = sum1 + 64.f * sum2 + 0.015625f * sum3 + p[7 * s];
  }

  template <class V>
  UNET_INLINE void gradient(const V* g, int s, V* p, int r) {
    const V g0 = g[0], g1 = g[s], g2 = g[2 * s], g3 = g[3 * s], g4 = g[4 * s], g5 = g[5 * s], g6 = g[6 * s];
    const V even1 = g0 + g2 + g4 + g6, odd1 = g1 + g3 + g5;
    const V even2 = g0 + 4.f * g2 + 16.f * g4 + 64.f * g6, odd2 = 2.f * g1 + 8.f * g3 + 32.f * g5;
    const V even3 = g0 + 0.25f * g2 + 0.0625f * g4 + 0.015625f * g6, odd3 = 0.5f * g1 + 0.125f * g3 + 0.03125f * g5;
    p[0] = g0;
    p[r] = even1 + odd1;
    p[2 * r] = even1 - odd1;
    p[3 * r] = even2 + odd2;
    p[4 * r] = even2 - odd2;
    p[5 * r] = even3 + odd3;
    p[6 * r] = even3 - odd3;
    p[7 * r] = g6;
  }

  template <class V>
  UNET_INLINE void filter(const V* w, int s, V* u, int r) {
    const V w0 = w[0], w1 = w[s];
    u[0] = w0;
    u[r] = (-2.f / 9) * (w0 + w1);
    u[2 * r] = (-2.f / 9) * (w0 - w1);
    u[3 * r] = (1.f / 90) * w0 + (1.f / 45) * w1;
    u[4 * r] = (1.f / 90) * w0 - (1.f / 45) * w1;
    u[5 * r] = (32.f / 45) * w0 + (16.f / 45) * w1;
    u[6 * r] = (32.f / 45) * w0 - (16.f / 45) * w1;
    u[7 * r] = w1;
  }

  template <class V>
  UNET_INLINE void filter_gradient(const V* u, int s, V* w, int r) {
    const V sum1 = u[s] + u[2 * s], dif1 = u[s] - u[2 * s], sum2 = u[3 * s] + u[4 * s], dif2 = u[3 * s] - u[4 * s],
            sum3 = u[5 * s] + u[6 * s], dif3 = u[5 * s] - u[6 * s];
    w[0] = u[0] - (2.f / 9) * sum1 + (1.f / 90) * sum2 + (32.f / 45) * sum3;
    w[r] = (1.f / 45) * dif2 - (2.f / 9) * dif1 + (16.f / 45) * dif3 + u[7 * s];
  }
};

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
