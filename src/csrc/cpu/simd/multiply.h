// Matrix products on panels. A block of `block_rows` x `block_vectors` sums stays in registers while it is summed.
#pragma once
#include "cpu/simd/vectors.h"

namespace unet {
namespace {

constexpr int block_rows = UNET_BLOCK_ROWS, block_vectors = UNET_BLOCK_VECTORS;
constexpr int64_t panel = int64_t(lanes) * block_vectors;

// sums[r][v] += sum over words k of a[r * row_step + k * word_step] b[k][v]
template <class T, int rows, int vectors, int64_t row_step, int64_t word_step>
UNET_INLINE void sum_run(const Run& run, Vector (&sums)[rows][vectors]) {
  const typename T::Word* a = static_cast<const typename T::Word*>(run.a);
  const float* b = static_cast<const float*>(run.b);
  for (int64_t k = 0; k < run.words; ++k, a += word_step, b += panel) {
    Vector column[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) column[v] = load(b + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sums[r][v] = T::multiply_add(sums[r][v], a[r * row_step], column[v]);
  }
}

template <class T, int rows, int vectors, int64_t row_step, int64_t word_step>
void block(const Run* runs, int64_t run_count, int64_t a_offset, float* c, bool accumulate) {
  Vector sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sums[r][v] = accumulate ? load(c + r * panel + v * lanes) : Vector{};
  for (int64_t i = 0; i < run_count; ++i) {
    // Rows of a panel are adjacent: fetch those of the next panel, or of the next block, during this one.
    if constexpr (word_step == 1) {
      const Run& next = runs[i + 1 < run_count ? i + 1 : 0];
      const char* ahead = reinterpret_cast<const char*>(static_cast<const typename T::Word*>(next.a) + a_offset) +
                          (i + 1 < run_count ? 0 : rows * row_step * 4);
#pragma GCC unroll 4
      for (int64_t byte = 0; byte < rows * row_step * 4; byte += 64) __builtin_prefetch(ahead + byte);
    }
    Run run = runs[i];
    run.a = static_cast<const typename T::Word*>(run.a) + a_offset;
    sum_run<T, rows, vectors, row_step, word_step>(run, sums);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store(c + r * panel + v * lanes, sums[r][v]);
}

// Products of a given number of vectors, for all rows: whole blocks first, then the rows that are left.
template <class T, int vectors, int64_t row_step, int64_t word_step>
struct Rows {
  template <int rows>
  static void rest(const Run* runs, int64_t run_count, int64_t row, int64_t left, float* c, bool accumulate) {
    if constexpr (rows > 0) {
      if (left == rows)
        block<T, rows, vectors, row_step, word_step>(runs, run_count, row * row_step, c + row * panel, accumulate);
      else
        rest<rows - 1>(runs, run_count, row, left, c, accumulate);
    }
  }
  static void all(const Run* runs, int64_t run_count, int64_t count, float* c, bool accumulate) {
    int64_t row = 0;
    for (; row + block_rows <= count; row += block_rows)
      block<T, block_rows, vectors, row_step, word_step>(runs, run_count, row * row_step, c + row * panel, accumulate);
    rest<block_rows - 1>(runs, run_count, row, count - row, c, accumulate);
  }
};

template <class T, int64_t row_step, int64_t word_step, int vectors = block_vectors>
void product(const Run* runs, int64_t run_count, int64_t rows, int64_t wanted_vectors, float* c, bool accumulate) {
  if constexpr (vectors > 0) {
    if (wanted_vectors == vectors)
      Rows<T, vectors, row_step, word_step>::all(runs, run_count, rows, c, accumulate);
    else
      product<T, row_step, word_step, vectors - 1>(runs, run_count, rows, wanted_vectors, c, accumulate);
  }
}

template <class T>
void multiply(const Run* runs, int64_t run_count, int64_t rows, int64_t width, float* c, bool accumulate) {
  product<T, panel / T::elements_per_word, 1>(runs, run_count, rows, (width + lanes - 1) / lanes, c, accumulate);
}

template <class T>
void multiply_transposed(const void* a, const void* b, int64_t words, int64_t lanes_a, int64_t lanes_b, float* c,
                         bool accumulate) {
  const Run run{a, b, words};
  product<T, 1, panel>(&run, 1, lanes_a, (lanes_b + lanes - 1) / lanes, c, accumulate);
}

}  // namespace
}  // namespace unet
