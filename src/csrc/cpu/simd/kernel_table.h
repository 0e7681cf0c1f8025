// The inner loops of the CPU layers, as one table of functions per instruction set. They know no threads and no tensors
// and allocate nothing.
//
// What one kernel hands to the next lies in panels. A panel has `panel` channels, a few whole vectors, of each row. A
// row is a Winograd tile or a pixel; consecutive rows are adjacent. An element is a float, or a bf16 in the bf16 table.
// Pixels of images are floats or bf16; a table reads and writes one of the two.
// Matrix products read words of 32 bits: one float, or two bf16 that are neighbours along the summed dimension.
#pragma once
#include <cstdint>

namespace unet {

// A channels-last batch of images, or a crop of one. Channels are adjacent; strides count elements.
struct Image {
  void* data;
  int64_t n, h, w, c;
  int64_t stride_n, stride_h, stride_w;
};

// Winograd's tiles of a batch, in the order image, row, column. `pad` zero pixels surround the input.
struct Tiles {
  int64_t n, down, across, pad;
  int64_t count() const { return n * down * across; }
};

// Channels first .. first + count of an image, as many as one panel holds.
struct Channels {
  int64_t first, count;
};

// A part of the sums of a matrix product: `words` words of each row of a, and as many rows of b.
struct Run {
  const void* a;
  const void* b;
  int64_t words;
};

// A bank of 3x3 or 2x2 filters, [vector channel][summed channel][ky][kx], with strides in floats. Vector channels
// become the lanes of vectors; products sum over the summed channels. `flip` turns the filters by 180 degrees.
struct Filter {
  float* data;
  int64_t stride_vector, stride_sum, stride_y, stride_x;
  bool flip;
  int64_t stride_panel = 0;  // if not 0: the floats from one panel of vector channels to the next
};

struct KernelTable {
  const char* name;
  int64_t pixel_bytes;    // of a channel of an image's pixel
  int64_t element_bytes;  // of a channel of a panel's row
  int64_t panel;          // channels per panel
  int64_t tile;           // m of F(m x m, 3x3), or of F(m x m, 2x2)
  int64_t side;           // Winograd's points along a side
  int64_t points;         // the square of it

  // Writes V = B^T d B of tiles first .. first + count to v[point * stride + row * panel + channel]. The input counts
  // as 0 where mask <= 0. `paired` interleaves rows 2i and 2i + 1 into words, as bf16 sums over rows need; no effect on
  // floats.
  void (*input)(const Image& x, const Image* mask, const Tiles&, int64_t first, int64_t count, Channels, void* v,
                int64_t stride, bool paired) = nullptr;
  // Does the same for the gradient of the output: A g A^T.
  void (*gradient)(const Image& g, const Image* mask, const Tiles&, int64_t first, int64_t count, Channels, void* v,
                   int64_t stride, bool paired) = nullptr;
  // y = A^T p A + bias; its ReLU if `relu`; 0 where mask <= 0. p is ordered as v above, in floats.
  void (*output)(const float* p, int64_t stride, const Tiles&, int64_t first, int64_t count, Channels,
                 const float* bias, bool relu, const Image* mask, const Image& y) = nullptr;
  // Writes U = G w G^T for the vector channels of one panel and the summed channels `sum` to
  // u[point * stride + row * panel + lane].
  void (*filter)(const Filter&, Channels vector, Channels sum, void* u, int64_t stride) = nullptr;
  // dw = G^T dU G for one pair of panels, from du[point * stride + row * panel + lane]. Rows are the summed channels.
  void (*filter_gradient)(const float* du, int64_t stride, const Filter&, Channels vector, Channels sum) = nullptr;

  // c[row][lane] = sum over runs and words of a[row][word] b[word][lane], plus the old c if `accumulate`.
  void (*multiply)(const Run* runs, int64_t run_count, int64_t rows, int64_t lanes, float* c,
                   bool accumulate) = nullptr;
  // c[lane of a][lane of b] = sum over words of a[word][lane of a] b[word][lane of b], plus the old c if `accumulate`.
  void (*multiply_transposed)(const void* a, const void* b, int64_t words, int64_t lanes_a, int64_t lanes_b, float* c,
                              bool accumulate) = nullptr;

  // Copies `count` pixels, `stride` elements apart, to panel rows; 0 where mask <= 0. `paired` is as above.
  void (*pack)(const void* x, const void* mask, int64_t stride, int64_t mask_stride, int64_t count, int64_t channels,
               void* rows, bool paired) = nullptr;
  // Writes panel rows plus bias to pixels; their ReLU if `relu`; 0 where mask <= 0.
  void (*unpack)(const float* rows, int64_t count, int64_t channels, const float* bias, bool relu, const void* mask,
                 int64_t mask_stride, void* y, int64_t stride) = nullptr;
  // Writes one tap of a filter bank as [summed channel][lane]. bf16 interleaves pairs of summed channels.
  void (*tap)(const Filter&, int64_t ky, int64_t kx, Channels vector, Channels sum, void* b) = nullptr;
  // sums[lane] += sum over rows. `paired` is as above.
  void (*column_sums)(const void* rows, int64_t count, int64_t channels, float* sums, bool paired) = nullptr;

  // The maximum of four pixels.
  void (*pool)(const void* const window[4], int64_t channels, void* y) = nullptr;
  // dx[i] = (x[i] is the window's first maximum ? pooled : 0) + crop[i]; 0 where x[i] <= 0. x[i] and dx[i] are null for
  // a pixel outside the image; its window is incomplete and has no pooled gradient. pooled and crop[i] are null where
  // there is no such gradient.
  void (*pool_gradient)(const void* const x[4], const void* pooled, const void* const crop[4], int64_t channels,
                        void* const dx[4]) = nullptr;
};

// The tables, one in each kernels_*.cpp.
// `f32_on_bf16`: pixels in bf16, all else in floats.
// `_2x2`: Winograd's functions are for filters of 2x2 taps.
extern const KernelTable generic_f32, generic_f32_on_bf16, generic_f32_2x2, generic_f32_on_bf16_2x2;
#if defined(__x86_64__)
extern const KernelTable avx2_f32, avx2_f32_on_bf16, avx2_f32_2x2, avx2_f32_on_bf16_2x2;
extern const KernelTable avx512_f32, avx512_f32_on_bf16, avx512_f32_2x2, avx512_f32_on_bf16_2x2, avx512_bf16;
// avx512_f32_on_bf16, but with the CPU's own instruction that rounds to bf16.
extern const KernelTable avx512_f32_on_bf16_rounding;
#endif

}  // namespace unet
