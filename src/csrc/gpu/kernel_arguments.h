// What the files of gpu/ share: whether a kernel can run on a tensor, and how to start it.
#pragma once
#include <ATen/ATen.h>
#include <algorithm>
#include <cstring>
#include <limits>

#include "gpu/kernel_choice.h"
#include "gpu/kernel_launcher.h"

namespace unet::gpu {

constexpr auto CHANNELS_LAST = at::MemoryFormat::ChannelsLast;

// The number of elements in a lane, the 16 bytes that a thread moves at a time.
inline int64_t lane_width(const at::Tensor& x) { return 16 / x.element_size(); }

// Whether threads can move x in lanes: each pixel has whole lanes, and they begin at multiples of 16 bytes. Kernels
// count lanes in 32 bits.
inline bool in_lanes(const at::Tensor& x) {
  const int64_t width = lane_width(x);
  const auto whole = [&](int64_t n) { return n % width == 0; };
  return x.stride(1) == 1 && whole(x.size(1)) && whole(x.stride(0)) && whole(x.stride(2)) && whole(x.stride(3)) &&
         reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
         x.storage().nbytes() / 16 < std::numeric_limits<int32_t>::max();
}

inline bool dense(const at::Tensor& x) { return x.is_contiguous(CHANNELS_LAST); }

// Whether one stride leads from each pixel to the next, across rows and images too.
inline bool evenly_spaced(const at::Tensor& x) {
  return x.stride(2) == x.size(3) * x.stride(3) && x.stride(0) == x.size(2) * x.stride(2);
}

// x as kernels read it: fp32, at a multiple of 16 bytes.
inline at::Tensor floats(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kFloat).contiguous();
  return reinterpret_cast<uintptr_t>(values.const_data_ptr()) % 16 == 0 ? values : values.clone();
}

// The arguments of a kernel. Tensors become pointers, undefined ones null. Counts and strides become 32 bits.
class Arguments {
 public:
  Arguments& tensor(const at::Tensor& x) {
    values_[count_] = x.defined() ? reinterpret_cast<uint64_t>(x.data_ptr()) : 0;
    return next();
  }
  Arguments& number(int64_t n) {
    // The machine is little-endian: the kernel reads the low half.
    values_[count_] = static_cast<uint32_t>(n);
    return next();
  }
  Arguments& real(double x) {
    std::memcpy(&values_[count_], &x, sizeof(x));
    return next();
  }
  // The strides from image to image, from row to row and from pixel to pixel, in lanes; 0 for an undefined tensor.
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
  static constexpr int MAX_COUNT = 24;
  uint64_t values_[MAX_COUNT];
  void* pointers_[MAX_COUNT];
  int count_ = 0;
};

// How the threads of a block divide the work: `columns` lanes of a pixel, `rows` pixels. A stripe is one warp's 512
// bytes of each pixel, or the whole pixel if it has fewer bytes.
struct Stripes {
  explicit Stripes(int64_t lanes)
      : columns(std::min<int64_t>(lanes, 32)), rows(THREADS / columns), count((lanes + columns - 1) / columns) {}
  int64_t columns, rows, count;

  // The number of blocks of each stripe that sum over `pixels` pixels, where a multiprocessor holds
  // `per_multiprocessor` blocks of the kernel. Each thread gets at least four pixels, because the sums of each block
  // are written and read again.
  int64_t slabs(const at::Tensor& x, int64_t pixels, int64_t per_multiprocessor) const {
    return blocks(x, std::max<int64_t>(1, pixels / (4 * rows)), std::max<int64_t>(1, per_multiprocessor / count));
  }

  // Whether kernels that add up over blocks can count the blocks of each stripe (kernels/lane.cuh).
  bool can_add_up() const { return count <= 64; }
};

inline int64_t pixels_of(const at::Tensor& x) { return x.size(0) * x.size(2) * x.size(3); }

// Starts a kernel whose threads do one lane at a time, `count` lanes in all.
inline void launch_for_each(const char* kernel, const at::Tensor& x, int64_t count, Arguments& arguments) {
  launch(kernel, x, blocks(x, (count + THREADS - 1) / THREADS), 1, arguments.pointers());
}

}  // namespace unet::gpu
