// Makes a table of kernels for the instruction set of the file that includes this.
#pragma once
#include "cpu/simd/filters.h"
#include "cpu/simd/kernel_table.h"
#include "cpu/simd/pixels.h"

namespace unet {
namespace {

template <class T>
constexpr KernelTable table(const char* name) {
  constexpr int64_t side = Winograd<T::tile>::alpha;
  KernelTable kernels{name, sizeof(typename T::Pixel), sizeof(typename T::Element), panel, T::tile, side, side * side};
  kernels.input = tiles_to_panel<T, false>;
  kernels.gradient = tiles_to_panel<T, true>;
  kernels.output = output<T>;
  kernels.filter = filter<T>;
  kernels.filter_gradient = filter_gradient<T>;
  kernels.multiply = multiply<T>;
  kernels.multiply_transposed = multiply_transposed<T>;
  kernels.pack = pack<T>;
  kernels.unpack = unpack<T>;
  kernels.tap = tap<T>;
  kernels.column_sums = column_sums<T>;
  kernels.pool = pool<T>;
  kernels.pool_gradient = pool_gradient<T>;
  return kernels;
}

}  // namespace
}  // namespace unet
