// Which taps of the transposed convolution (upconv.h) an even or odd output coordinate takes: even ones x[i] times tap
// 1, odd ones x[i] times tap 2 and x[i + 1] times tap 0.
#pragma once
#include <cstdint>

namespace unet {

// Tap k multiplies the pixel of x that lies `shift` further.
struct Tap {
  int64_t k, shift;
};
constexpr Tap even_taps[] = {{1, 0}}, odd_taps[] = {{2, 0}, {0, 1}};
constexpr int64_t tap_count(int64_t parity) { return parity ? 2 : 1; }
constexpr const Tap& tap_of(int64_t parity, int64_t i) { return parity ? odd_taps[i] : even_taps[i]; }

}  // namespace unet
