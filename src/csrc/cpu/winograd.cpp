#include "cpu/winograd.h"

namespace unet {
namespace {

// Jobs are so small that what a thread uses from one step to the next stays in its level 2 cache, taken to be 1 MiB. A
// row is the transformed input tile of one output tile.

// Rows of one job: a multiple of every kernel's register block.
constexpr int64_t rows_per_job = 48;
// Rows of one pass over filters that come from memory: more, because each pass reads them all.
constexpr int64_t rows_per_pass = 96;
// Bytes of packed filters that stay in the level 3 cache while rows pass through.
constexpr int64_t small_filters = int64_t(12) << 20;
// Bytes of rows that all threads share.
constexpr int64_t shared_rows_limit = int64_t(48) << 20;
// Bytes of raw filters that a job transforms at a time.
constexpr int64_t raw_bytes = int64_t(600) << 10;
// Words of padding between the rows of two points. Without it, sizes that are powers of two would compete for the same
// cache sets.
constexpr int64_t set_skew = 16;

// The filter bank that has panel `q` of `vectors`, and the panel's channels in that bank.
std::pair<Filter, Channels> panel_of(Filter filter, const std::vector<Panel>& vectors, int64_t q) {
  if (!filter.stride_panel) return {filter, vectors[q].all};
  filter.data += q * filter.stride_panel;
  return {filter, {0, vectors[q].all.count}};
}

struct TiledConvolution {
  const Convolution& c;
  const KernelTable& k;
  Tiles tiles;
  std::vector<Panel> in, out;
  int64_t summed_channels;

  explicit TiledConvolution(const Convolution& convolution)
      : c(convolution),
        k(c.kernels),
        in(panels(c.inputs, k.panel)),
        out(panels(c.outputs, k.panel)),
        summed_channels(0) {
    const Image& y = c.outputs[0];
    tiles = {y.n, divide_up(y.h, k.tile), divide_up(y.w, k.tile), c.pad};
    for (const Image& x : c.inputs) summed_channels += x.c;
  }
  int64_t row_stride(int64_t rows) const {
    return int64_t(in.size()) * rows * k.panel + set_skew * 4 / k.element_bytes;
  }
  // Elements of the packed filters of one panel of outputs.
  int64_t slab() const { return k.points * summed_channels * k.panel; }

  // Transforms tiles first .. first + count of all input panels into v, which has `rows` rows, from row `row` on.
  void transform(int64_t first, int64_t count, void* v, int64_t row, int64_t rows) const {
    for (size_t p = 0; p < in.size(); ++p)
      k.input(c.inputs[in[p].image], c.input_masks.empty() ? nullptr : c.input_masks[in[p].image], tiles, first, count,
              in[p].channels, element(k, v, (int64_t(p) * rows + row) * k.panel), row_stride(rows), false);
  }

  // Multiplies `count` rows of v, which has `rows` rows, from row `row` on, by the filters u, whose points are u_stride
  // elements apart. Sums over the input panels p0 .. p1 into products[point][row][lane]; adds to them if p0 > 0.
  void multiply(const Panel& q, size_t p0, size_t p1, const void* u, int64_t u_stride, int64_t count, const void* v,
                int64_t row, int64_t rows, float* products, int64_t stride) const {
    std::vector<Run> runs(p1 - p0);
    for (int64_t point = 0; point < k.points; ++point) {
      for (size_t p = p0; p < p1; ++p)
        runs[p - p0] = {element(k, v, point * row_stride(rows) + (int64_t(p) * rows + row) * k.panel),
                        element(k, u, point * u_stride + (in[p].all.first - in[p0].all.first) * k.panel),
                        in[p].channels.count * k.element_bytes / 4};
      k.multiply(runs.data(), int64_t(runs.size()), count, q.channels.count, products + point * stride, p0 > 0);
    }
  }

  int64_t products_stride(int64_t count) const { return count * k.panel + set_skew; }
  float* products(int64_t count) const {
    return static_cast<float*>(buffer(Buffer::products, k.points * products_stride(count) * 4));
  }

  void output(const Panel& q, int64_t first, int64_t count, const float* products) const {
    k.output(products, products_stride(count), tiles, first, count, q.channels, c.bias, c.relu,
             c.output_masks.empty() ? nullptr : c.output_masks[q.image], c.outputs[q.image]);
  }

  // Computes one panel of outputs with packed filters u, for tiles first .. first + count, whose rows in v begin at
  // `row`.
  void produce(const Panel& q, const void* u, int64_t first, int64_t count, const void* v, int64_t row,
               int64_t rows) const {
    float* to = products(count);
    multiply(q, 0, in.size(), u, summed_channels * k.panel, count, v, row, rows, to, products_stride(count));
    output(q, first, count, to);
  }

  // The same with raw filters, for rows 0 .. count. It transforms the filters of a few input panels at a time, as many
  // as the level 2 cache holds.
  void produce_raw(size_t q, const Filter& raw, int64_t first, int64_t count, const void* v, int64_t rows) const {
    float* to = products(count);
    const size_t step = std::max<int64_t>(1, raw_bytes / (k.points * k.panel * k.panel * k.element_bytes));
    for (size_t p = 0; p < in.size(); p += step) {
      const size_t end = std::min(in.size(), p + step);
      const int64_t begin = in[p].all.first, some = in[end - 1].all.first + in[end - 1].all.count - begin;
      const int64_t stride = some * k.panel + set_skew * 4 / k.element_bytes;
      void* u = buffer(Buffer::own_filter, k.points * stride * k.element_bytes);
      const auto [filter, vectors] = panel_of(raw, out, q);
      k.filter(filter, vectors, {begin, some}, u, stride);
      multiply(out[q], p, end, u, stride, count, v, 0, rows, to, products_stride(count));
    }
    output(out[q], first, count, to);
  }
};

// For few channels and many tiles: each job carries some tiles through all three steps. Jobs share the packed filters.
void convolve_by_tiles(const TiledConvolution& tiled, const void* packed) {
  const KernelTable& k = tiled.k;
  const int64_t count = tiled.tiles.count();
  parallel_jobs(divide_up(count, rows_per_job), [&](int64_t job) {
    const int64_t first = job * rows_per_job, rows = std::min(rows_per_job, count - first);
    void* v = buffer(Buffer::own_rows, k.points * tiled.row_stride(rows) * k.element_bytes);
    tiled.transform(first, rows, v, 0, rows);
    for (size_t q = 0; q < tiled.out.size(); ++q)
      tiled.produce(tiled.out[q], element(k, packed, int64_t(q) * tiled.slab()), first, rows, v, 0, rows);
  });
}

// For many channels and few tiles: all tiles are transformed first. Then each job computes one panel of outputs, and no
// other job reads its filters. A job transforms raw filters itself, so that they never travel to memory and back.
void convolve_by_filters(const TiledConvolution& tiled, const void* packed, const Filter* raw) {
  const KernelTable& k = tiled.k;
  const int64_t count = tiled.tiles.count();
  const int64_t limit = std::max(rows_per_job, shared_rows_limit / (tiled.row_stride(1) * k.points * k.element_bytes));
  const int64_t batches = divide_up(count, limit), rows = divide_up(count, batches);
  void* v = buffer(Buffer::shared_rows, k.points * tiled.row_stride(rows) * k.element_bytes);
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t now = std::min(rows, count - first), step = 12;
    parallel_jobs(divide_up(now, step), [&](int64_t job) {
      tiled.transform(first + job * step, std::min(step, now - job * step), v, job * step, rows);
    });
    // Chunks have even sizes: a small last one would read all filters for a few tiles.
    const int64_t chunk_count = divide_up(now, rows_per_pass), pass = up_to_multiple(divide_up(now, chunk_count), 6);
    if (!packed) {
      parallel_jobs(int64_t(tiled.out.size()), [&](int64_t q) { tiled.produce_raw(q, *raw, first, now, v, rows); });
      continue;
    }
    const int64_t chunks = divide_up(now, pass);
    parallel_jobs(int64_t(tiled.out.size()) * chunks, [&](int64_t job) {
      const int64_t q = job / chunks, row = job % chunks * pass;
      tiled.produce(tiled.out[q], element(k, packed, q * tiled.slab()), first + row, std::min(pass, now - row), v, row,
                    rows);
    });
  }
}

}  // namespace

int64_t packed_elements(const KernelTable& k, const std::vector<Panel>& outputs, int64_t summed_channels) {
  return int64_t(outputs.size()) * k.points * summed_channels * k.panel;
}

void pack_filters(const KernelTable& k, const Filter& filter, const std::vector<Panel>& outputs,
                  int64_t summed_channels, void* to) {
  const int64_t step = 64, chunks = divide_up(summed_channels, step);
  parallel_jobs(int64_t(outputs.size()) * chunks, [&](int64_t job) {
    const int64_t q = job / chunks, first = job % chunks * step;
    const auto [bank, vectors] = panel_of(filter, outputs, q);
    k.filter(bank, vectors, {first, std::min(step, summed_channels - first)},
             element(k, to, (q * k.points * summed_channels + first) * k.panel), summed_channels * k.panel);
  });
}

void convolve(const Convolution& convolution, const void* packed, const Filter* raw) {
  const TiledConvolution tiled(convolution);
  const KernelTable& k = tiled.k;
  const int64_t bytes = packed_elements(k, tiled.out, tiled.summed_channels) * k.element_bytes;
  const bool by_tiles = bytes <= small_filters && tiled.tiles.count() >= 2 * rows_per_job * at::get_num_threads();
  const void* filters = packed;
  if (!filters && (by_tiles || int64_t(tiled.out.size()) < at::get_num_threads())) {
    void* to = buffer(Buffer::filter, bytes);
    pack_filters(k, *raw, tiled.out, tiled.summed_channels, to);
    filters = to;
  }
  if (by_tiles)
    convolve_by_tiles(tiled, filters);
  else
    convolve_by_filters(tiled, filters, raw);
}

}  // namespace unet
