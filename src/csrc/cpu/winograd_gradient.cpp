// Gradients of filters: at each point, dU is the sum over tiles of the input tile's value times the gradient tile's.
// Then dw = G^T dU G.
#include <cstring>
#include "cpu/winograd.h"

namespace unet {
namespace {

// Bytes of transformed tiles that are kept at a time. A row is one transformed tile.
constexpr int64_t rows_limit = int64_t(48) << 20;
// Tiles that one job transforms.
constexpr int64_t rows_per_job = 16;
// Tiles that are summed before the next block of channels, as many as the level 1 cache holds.
constexpr int64_t rows_per_product = 128;
// Words of padding between the rows of two points, as in winograd.cpp.
constexpr int64_t set_skew = 16;

struct Gradients {
  const KernelTable& k;
  const std::vector<Image>& inputs;
  const std::vector<Image>& gradients;
  const std::vector<const Image*>& masks;
  const Filter& dw;
  std::vector<Panel> in, out;
  Tiles tiles{};
  int64_t rows = 0;                    // tiles that are kept at a time
  int64_t x_stride = 0, g_stride = 0;  // elements between points
  void *x_rows = nullptr, *g_rows = nullptr;

  int64_t stride(size_t panels) const { return int64_t(panels) * rows * k.panel + set_skew * 4 / k.element_bytes; }
  int64_t pairs() const { return int64_t(in.size() * out.size()); }

  void transform(int64_t first, int64_t count, int64_t row) const {
    for (size_t p = 0; p < in.size(); ++p)
      k.input(inputs[in[p].image], nullptr, tiles, first, count, in[p].channels,
              element(k, x_rows, (int64_t(p) * rows + row) * k.panel), x_stride, true);
    for (size_t q = 0; q < out.size(); ++q)
      k.gradient(gradients[out[q].image], masks.empty() ? nullptr : masks[out[q].image], tiles, first, count,
                 out[q].channels, element(k, g_rows, (int64_t(q) * rows + row) * k.panel), g_stride, true);
  }

  // Sums over `count` tiles at one point into c[input channel][output channel]; adds to it if `accumulate`.
  void multiply(int64_t pair, int64_t point, int64_t count, float* c, bool accumulate) const {
    const int64_t p = pair % int64_t(in.size()), q = pair / int64_t(in.size()), per_word = 4 / k.element_bytes;
    for (int64_t row = 0; row < count; row += rows_per_product)
      k.multiply_transposed(element(k, x_rows, point * x_stride + (p * rows + row) * k.panel),
                            element(k, g_rows, point * g_stride + (q * rows + row) * k.panel),
                            divide_up(std::min(rows_per_product, count - row), per_word), in[p].channels.count,
                            out[q].channels.count, c, accumulate || row > 0);
  }

  void finish(int64_t pair, const float* du) const {
    k.filter_gradient(du, k.panel * k.panel, dw, out[pair / int64_t(in.size())].all, in[pair % int64_t(in.size())].all);
  }
};

}  // namespace

void filter_gradients(const KernelTable& k, const std::vector<Image>& inputs, const std::vector<Image>& gradients,
                      const std::vector<const Image*>& masks, const Filter& dw, float* db) {
  Gradients g{k, inputs, gradients, masks, dw, panels(inputs, k.panel), panels(gradients, k.panel)};
  const Image& any = gradients[0];
  g.tiles = {any.n, divide_up(any.h, k.tile), divide_up(any.w, k.tile), 0};
  const int64_t count = g.tiles.count(), square = k.panel * k.panel, sums_bytes = g.pairs() * k.points * square * 4,
                per_row = int64_t(g.in.size() + g.out.size()) * k.panel * k.points * k.element_bytes;
  // One job can make and use the whole dU of a pair of panels, if there are pairs enough. All tiles at once may then
  // take the memory of the sums that several batches of tiles would need.
  const bool many_pairs = g.pairs() >= 2 * at::get_num_threads();
  const bool at_once = many_pairs && count * per_row <= rows_limit + sums_bytes;
  const int64_t batches = at_once ? 1 : divide_up(count, std::max(rows_per_job, rows_limit / per_row));
  g.rows = up_to_multiple(divide_up(count, batches), rows_per_job);
  g.x_stride = g.stride(g.in.size()), g.g_stride = g.stride(g.out.size());
  g.x_rows = buffer(Buffer::shared_rows, k.points * (g.x_stride + g.g_stride) * k.element_bytes);
  g.g_rows = element(k, g.x_rows, k.points * g.x_stride);

  const bool whole = many_pairs && count <= g.rows;
  float* du = whole ? nullptr : static_cast<float*>(buffer(Buffer::filter, sums_bytes));
  if (db) std::memset(db, 0, (g.out.back().all.first + g.out.back().all.count) * 4);
  for (int64_t first = 0; first < count; first += g.rows) {
    const int64_t now = std::min(g.rows, count - first);
    parallel_jobs(divide_up(now, rows_per_job), [&](int64_t job) {
      g.transform(first + job * rows_per_job, std::min(rows_per_job, now - job * rows_per_job), job * rows_per_job);
    });
    if (db)  // the sum over a gradient tile is its value at the point (1, 1)
      parallel_jobs(int64_t(g.out.size()), [&](int64_t q) {
        const int64_t point = k.side + 1;
        k.column_sums(element(k, g.g_rows, point * g.g_stride + q * g.rows * k.panel), now, g.out[q].channels.count,
                      db + g.out[q].all.first, true);
      });
    if (whole)
      parallel_jobs(g.pairs(), [&](int64_t pair) {
        float* own = static_cast<float*>(buffer(Buffer::products, k.points * square * 4));
        for (int64_t point = 0; point < k.points; ++point) g.multiply(pair, point, now, own + point * square, false);
        g.finish(pair, own);
      });
    else
      parallel_jobs(g.pairs() * k.points, [&](int64_t job) {
        g.multiply(job / k.points, job % k.points, now, du + job * square, first > 0);
      });
  }
  if (!whole) parallel_jobs(g.pairs(), [&](int64_t pair) { g.finish(pair, du + pair * k.points * square); });
}

}  // namespace unet
