#include "cpu/memory_plan/layout.h"

#include <algorithm>
#include <numeric>

namespace unet {

Layout lay_out(const std::vector<Lifetime>& lifetimes) {
  constexpr size_t ALIGNMENT = 64;
  const auto bytes = [&](size_t i) { return (lifetimes[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; };
  std::vector<size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  Layout layout;
  layout.offsets.resize(lifetimes.size());
  std::vector<size_t> placed;  // sorted by offset
  for (const size_t i : order) {
    constexpr size_t NONE = SIZE_MAX;
    size_t top = 0, best = NONE, best_gap = NONE;
    for (const size_t other : placed) {
      if (lifetimes[i].born >= lifetimes[other].died || lifetimes[other].born >= lifetimes[i].died) continue;
      const size_t offset = layout.offsets[other];
      if (offset >= top + bytes(i) && offset - top < best_gap) {
        best = top;
        best_gap = offset - top;
      }
      top = std::max(top, offset + bytes(other));
    }
    const size_t offset = best == NONE ? top : best;
    const auto lies_above = [&](size_t at, size_t other) { return at < layout.offsets[other]; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset, lies_above), i);
    layout.offsets[i] = offset;
    layout.bytes = std::max(layout.bytes, offset + bytes(i));
  }
  return layout;
}

}  // namespace unet
