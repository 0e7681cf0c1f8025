// The inner loops of the CPU convolutions, as a table of functions per instruction set; no threads, no tensors, no
// allocation.
//
// Everything between two kernels lives in panels: [row][panel] of `panel` channels, rows being Winograd tiles or
// pixels, so that a row of a panel is a few whole vectors and consecutive rows are adjacent. An "element" is a float,
// or a bf16 for the bf16 table. The matrix products read 32-bit words: one float, or two bf16 neighbours of the summed
// dimension.
#pragma once
#include <cstdint>

namespace unet {

// A channels-last image batch or a crop of one; strides in elements, channels adjacent.
struct Image {
  void* data;
  int64_t n, h, w, c;
  int64_t stride_n, stride_h, stride_w;
};

// Winograd tiles of a batch in the order image, row, column; `pad` zero pixels surround the input.
struct Tiles {
  int64_t n, down, across, pad;
  int64_t count() const { return n * down * across; }
};

// Channels first .. first + count of an image: what one panel holds.
struct Channels {
  int64_t first, count;
};

// One stretch of a matrix product's sum: `words` words of each row of a, and as many rows of b.
struct Run {
  const void* a;
  const void* b;
  int64_t words;
};

// A 3x3 filter bank as [vector channel][summed channel][ky][kx] with strides in floats; `flip` turns it by 180 degrees.
struct Filter {
  float* data;
  int64_t stride_vector, stride_sum, stride_y, stride_x;
  bool flip;
  int64_t stride_panel = 0;  // if not 0, each panel of vector channels lies apart by this
};

struct Kernels {
  const char* name;
  int64_t element_bytes;
  int64_t panel;   // channels per panel
  int64_t tile;    // m of F(m x m, 3x3)
  int64_t points;  // (m + 2)^2

  // V = B^T d B of tiles first .. first + count into v[point * stride + row * panel + channel]; where mask <= 0 the
  // input counts as 0. `paired` interleaves rows 2i and 2i + 1 into words (needed by bf16 sums over rows; no effect on
  // floats).
  void (*input)(const Image& x, const Image* mask, const Tiles&, int64_t first, int64_t count, Channels, void* v,
                int64_t stride, bool paired);
  // The same of the gradient of the output: A g A^T.
  void (*gradient)(const Image& g, const Image* mask, const Tiles&, int64_t first, int64_t count, Channels, void* v,
                   int64_t stride, bool paired);
  // y = A^T p A + bias, rectified if asked, and 0 where mask <= 0. p as v above, in floats.
  void (*output)(const float* p, int64_t stride, const Tiles&, int64_t first, int64_t count, Channels,
                 const float* bias, bool relu, const Image* mask, const Image& y);
  // U = G w G^T for the vector channels of one panel and all `sum` summed channels, into u[point * stride + row * panel
  // + lane].
  void (*filter)(const Filter&, Channels vector, Channels sum, void* u, int64_t stride);
  // dw = G^T dU G for one pair of panels, du[point * stride + row * panel + lane], rows being the summed channels.
  void (*filter_gradient)(const float* du, int64_t stride, const Filter&, Channels vector, Channels sum);

  // c[row][lane] (+)= sum over runs and words of a[row][word] b[word][lane].
  void (*multiply)(const Run* runs, int64_t run_count, int64_t rows, int64_t lanes, float* c, bool accumulate);
  // c[lane of a][lane of b] (+)= sum over words of a[word][lane of a] b[word][lane of b].
  void (*multiply_transposed)(const void* a, const void* b, int64_t words, int64_t lanes_a, int64_t lanes_b, float* c,
                              bool accumulate);

  // Pixels (`count` of them, `stride` elements apart) into panel rows; 0 where mask <= 0. `paired` as above.
  void (*pack)(const void* x, const void* mask, int64_t stride, int64_t mask_stride, int64_t count, int64_t channels,
               void* rows, bool paired);
  // Panel rows plus bias into pixels, rectified if asked, and 0 where mask <= 0.
  void (*unpack)(const float* rows, int64_t count, int64_t channels, const float* bias, bool relu, const void* mask,
                 int64_t mask_stride, void* y, int64_t stride);
  // One tap of a filter bank, [summed channel][lane], bf16 with pairs of summed channels interleaved.
  void (*tap)(const Filter&, int64_t ky, int64_t kx, Channels vector, Channels sum, void* b);
  // sums[lane] += sum over rows; `paired` as above.
  void (*column_sums)(const void* rows, int64_t count, int64_t channels, float* sums, bool paired);

  // The maximum of four pixels.
  void (*pool)(const void* const window[4], int64_t channels, void* y);
  // dx[i] = (x[i] is the window's first maximum ? pooled : 0) + crop[i], and 0 where x[i] <= 0. Null: a pixel outside
  // the image (in x and dx; the window is then incomplete and has no pooled gradient), or no such gradient (pooled,
  // crop).
  void (*pool_gradient)(const void* const x[4], const void* pooled, const void* const crop[4], int64_t channels,
                        void* const dx[4]);
};

// The tables, each made by the translation unit of its instruction set.
extern const Kernels generic_f32;
#if defined(__x86_64__)
extern const Kernels avx2_f32, avx512_f32, avx512_bf16, avx512_f32_on_bf16;
#endif

}  // namespace unet
