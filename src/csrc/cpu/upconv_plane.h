// Pixels as panel rows for the transposed convolution: an image, or every second pixel of one, in a frame of zeros.
// Then a shift of the image is an offset in memory.
#pragma once
#include <cstring>
#include "cpu/panels.h"

namespace unet {

// h x w pixels with one line and one column of zeros, before the pixels if `leading`, else behind them. Each pixel is a
// row of each panel. `slack` more rows of zeros come before and behind all.
struct Plane {
  static constexpr int64_t slack = 2;
  const KernelTable& k;
  int64_t h, w, panel_count;
  bool leading;
  void* data;

  int64_t line() const { return w + 1; }
  int64_t rows() const { return up_to_multiple((h + 1) * line(), 2) + 2 * slack; }
  int64_t bytes() const { return panel_count * rows() * k.panel * k.element_bytes; }
  // The row of pixel (y, x).
  int64_t row(int64_t y, int64_t x) const { return slack + (y + leading) * line() + x + leading; }
  void* at(int64_t p, int64_t row) const { return element(k, data, (p * rows() + row) * k.panel); }

  // Copies line y of x, whose first image is the one to copy, and zeroes the frame around it. Pixels count as 0 where
  // `mask`, if not null, is not positive.
  void fill_line(const Image& x, const Image* mask, int64_t y, const std::vector<Panel>& panels) const {
    const int64_t row_bytes = k.panel * k.element_bytes;
    for (int64_t p = 0; p < panel_count; ++p) {
      const int64_t c = panels[p].channels.first, first = row(y, 0);
      const auto pixels = [&](const Image& i) { return pixel(k, i.data, y * i.stride_h + c); };
      k.pack(pixels(x), mask ? pixels(*mask) : nullptr, x.stride_w, mask ? mask->stride_w : 0, w,
             panels[p].channels.count, at(p, first), false);
      std::memset(at(p, leading ? first - 1 : first + w), 0, row_bytes);
      if (y == 0) std::memset(at(p, 0), 0, (leading ? slack + line() : slack) * row_bytes);
      if (y == h - 1) std::memset(at(p, first + w), 0, (rows() - first - w) * row_bytes);
    }
  }
};

}  // namespace unet
