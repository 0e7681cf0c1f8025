// Whether a kernel can run on tensors, and how it is started: for the files beside this one.
#pragma once
#include <ATen/ATen.h>
#include <algorithm>
#include <cstring>
#include <limits>

#include "gpu/kernel_choice.h"
#include "gpu/kernel_launcher.h"

namespace unet::gpu {

constexpr auto CHANNELS_LAST = at::MemoryFormat::ChannelsLast;

// Elements that a thread moves at a time: 16 bytes.
inline int64_t lane_width(const at::Tensor& x) { return 16 / x.element_size(); }

// Whether threads can move x in lanes: whole lanes per pixel, each on a multiple of 16 bytes. Kernels count lanes in 32
// bits.
inline bool in_lanes(const at::Tensor& x) {
  const int64_t width = lane_width(x);
  const auto whole = [&](int64_t n) { return n % width == 0; };
  return x.stride(1) == 1 && whole(x.size(1)) && whole(x.stride(0)) && whole(x.stride(2)) && whole(x.stride(3)) &&
         reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
         x.storage().nbytes() / 16 < std::numeric_limits<int32_t>::max();
}

inline bool dense(const at::Tensor& x) { return x.is_contiguous(CHANNELS_LAST); }

// Whether one stride leads from each pixel to the next, over rows and images too.
inline bool evenly_spaced(const at::Tensor& x) {
  return x.stride(2) == x.size(3) * x.stride(3) && x.stride(0) == x.size(2) * x.stride(2);
}

// Numbers as kernels read them: fp32, on a multiple of 16 bytes.
inline at::Tensor floats(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kFloat).contiguous();
  return reinterpret_cast<uintptr_t>(values.const_data_ptr()) % 16 == 0 ? values : values.clone();
}

// A kernel's arguments, kept where it can read them. Tensors become pointers, undefined ones null; counts and strides
// 32 bits.
class Arguments {
 public:
  Arguments& tensor(const at::Tensor& x) {
    values_[count_] = x.defined() ? reinterpret_cast<uint64_t>(x.data_ptr()) : 0;
    return next();
  }
  Arguments& number(int64_t n) {
    // Little-endian: the kernel reads the low half.
    values_[count_] = static_cast<uint32_t>(n);
    return next();
  }
  Arguments& real(double x) {
    std::memcpy(&values_[count_], &x, sizeof(x));
    return next();
  }
  // Strides from image to image, row to row and pixel to pixel, in lanes; of nothing, 0.
  Arguments& strides(const at::Tensor& x) {
    for (const int64_t dim : {0, 2, 3}) number(x.defined() ? x.stride(dim) / lane_width(x) : 0);
    return *this;
  }
  void** pointers() { return pointers_; }

 private:
  Arguments& next() {
    pointers_[count_] = &values_[count_];
    count_++;
    return *this;
  }
  static constexpr int MOST = 24;
  uint64_t values_[MOST];
  void* pointers_[MOST];
  int count_ = 0;
};

// How the threads of a block stand side by side: `columns` lanes of a pixel, `rows` pixels. A stripe is one warp's 512
// bytes of a pixel, or all of a pixel that has less.
struct Stripes {
  explicit Stripes(int64_t lanes)
      : columns(std::min<int64_t>(lanes, 32)), rows(THREADS / columns), count((lanes + columns - 1) / columns) {}
  int64_t columns, rows, count;

  // Blocks that add up `pixels` pixels. Four a thread at least: each block's sums are written and read again.
  int64_t slabs(const at::Tensor& x, int64_t pixels) const {
    return blocks(x, std::max<int64_t>(1, pixels / (4 * rows)));
  }
};

inline int64_t pixels_of(const at::Tensor& x) { return x.size(0) * x.size(2) * x.size(3); }

// Starts a kernel that does one lane per thread and turn.
inline void launch_for_each(const char* kernel, const at::Tensor& x, int64_t count, Arguments& arguments) {
  launch(kernel, x, blocks(x, (count + THREADS - 1) / THREADS), 1, arguments.pointers());
}

}  // namespace unet::gpu
