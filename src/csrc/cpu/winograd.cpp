#include "cpu/winograd.h"

namespace unet {
namespace {

// Work is cut so that what one thread touches between two passes stays in its level 2 cache (assumed 1 MiB).
constexpr int64_t rows_per_job = 48;   // tiles: a multiple of every kernel's register block
constexpr int64_t rows_per_pass = 96;  // tiles: more where each pass reads filters from memory
constexpr int64_t small_filters = int64_t(12)
                                  << 20;  // bytes of packed filters that stay in level 3 while tiles stream past
constexpr int64_t shared_rows_limit = int64_t(48) << 20;  // bytes of shared tiles
constexpr int64_t raw_bytes = int64_t(600) << 10;         // bytes of filters transformed at a time
constexpr int64_t set_skew = 16;  // words between points, against cache-set conflicts at powers of two

// The filters of one panel of vectors, and which of them those are.
std::pair<Filter, Channels> panel_of(Filter filter, const std::vector<Panel>& vectors, int64_t q) {
  if (!filter.stride_panel) return {filter, vectors[q].all};
  filter.data += q * filter.stride_panel;
  return {filter, {0, vectors[q].all.count}};
}

struct Plan {
  const Convolution& c;
  const Kernels& k;
  Tiles tiles;
  std::vector<Panel> in, out;
  int64_t sums;

  explicit Plan(const Convolution& convolution)
      : c(convolution), k(c.kernels), in(panels(c.inputs, k.panel)), out(panels(c.outputs, k.panel)), sums(0) {
    const Image& y = c.outputs[0];
    tiles = {y.n, divide_up(y.h, k.tile), divide_up(y.w, k.tile), c.pad};
    for (const Image& x : c.inputs) sums += x.c;
  }
  int64_t row_stride(int64_t rows) const {
    return int64_t(in.size()) * rows * k.panel + set_skew * 4 / k.element_bytes;
  }
  int64_t slab() const { return k.points * sums * k.panel; }  // packed filters of one panel of outputs

  // Tiles first .. first + count of all input panels, to rows `row` onward of `rows` in v.
  void transform(int64_t first, int64_t count, void* v, int64_t row, int64_t rows) const {
    for (size_t p = 0; p < in.size(); ++p)
      k.input(c.inputs[in[p].image], c.input_mask, tiles, first, count, in[p].channels,
              element(k, v, (int64_t(p) * rows + row) * k.panel), row_stride(rows), false);
  }

  // products[point][row][lane] (+)= tiles in rows `row` onward of `rows` in v, input panels p0 .. p1, times filters u,
  // whose points lie u_stride apart.
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

  // One panel of outputs of tiles first .. first + count, which are rows `row` onward of `rows` in v, with packed
  // filters.
  void produce(const Panel& q, const void* u, int64_t first, int64_t count, const void* v, int64_t row,
               int64_t rows) const {
    float* to = products(count);
    multiply(q, 0, in.size(), u, sums * k.panel, count, v, row, rows, to, products_stride(count));
    output(q, first, count, to);
  }

  // The same for rows 0 .. count with raw filters, transformed a few input panels at a time: what level 2 holds.
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

// Few channels, many tiles: each job carries some tiles through all three steps; packed filters are shared.
void convolve_by_tiles(const Plan& plan, const void* packed) {
  const Kernels& k = plan.k;
  const int64_t count = plan.tiles.count();
  parallel_jobs(divide_up(count, rows_per_job), [&](int64_t job) {
    const int64_t first = job * rows_per_job, rows = std::min(rows_per_job, count - first);
    void* v = buffer(Buffer::own_rows, k.points * plan.row_stride(rows) * k.element_bytes);
    plan.transform(first, rows, v, 0, rows);
    for (size_t q = 0; q < plan.out.size(); ++q)
      plan.produce(plan.out[q], element(k, packed, int64_t(q) * plan.slab()), first, rows, v, 0, rows);
  });
}

// Many channels, few tiles: all tiles are transformed first, then each job owns a panel of outputs, and with it the
// part of the filters that no other job reads. Raw filters are transformed inside the job: they never travel to memory
// and back.
void convolve_by_filters(const Plan& plan, const void* packed, const Filter* raw) {
  const Kernels& k = plan.k;
  const int64_t count = plan.tiles.count();
  const int64_t limit = std::max(rows_per_job, shared_rows_limit / (plan.row_stride(1) * k.points * k.element_bytes));
  const int64_t batches = divide_up(count, limit), rows = divide_up(count, batches);
  void* v = buffer(Buffer::shared_rows, k.points * plan.row_stride(rows) * k.element_bytes);
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t now = std::min(rows, count - first), step = 12;
    parallel_jobs(divide_up(now, step), [&](int64_t job) {
      plan.transform(first + job * step, std::min(step, now - job * step), v, job * step, rows);
    });
    // even chunks: a small last one would stream all filters for a few tiles
    const int64_t chunk_count = divide_up(now, rows_per_pass), pass = up_to_multiple(divide_up(now, chunk_count), 6);
    if (!packed) {
      parallel_jobs(int64_t(plan.out.size()), [&](int64_t q) { plan.produce_raw(q, *raw, first, now, v, rows); });
      continue;
    }
    const int64_t chunks = divide_up(now, pass);
    parallel_jobs(int64_t(plan.out.size()) * chunks, [&](int64_t job) {
      const int64_t q = job / chunks, row = job % chunks * pass;
      plan.produce(plan.out[q], element(k, packed, q * plan.slab()), first + row, std::min(pass, now - row), v, row,
                   rows);
    });
  }
}

}  // namespace

int64_t packed_elements(const Kernels& k, const std::vector<Panel>& outputs, int64_t sums) {
  return int64_t(outputs.size()) * k.points * sums * k.panel;
}

void pack_filters(const Kernels& k, const Filter& filter, const std::vector<Panel>& outputs, int64_t sums, void* to) {
  const int64_t step = 64, chunks = divide_up(sums, step);
  parallel_jobs(int64_t(outputs.size()) * chunks, [&](int64_t job) {
    const int64_t q = job / chunks, first = job % chunks * step;
    const auto [bank, vectors] = panel_of(filter, outputs, q);
    k.filter(bank, vectors, {first, std::min(step, sums - first)},
             element(k, to, (q * k.points * sums + first) * k.panel), sums * k.panel);
  });
}

void convolve(const Convolution& convolution, const PackedFilters* packed, const Filter* raw) {
  const Plan plan(convolution);
  const Kernels& k = plan.k;
  const int64_t bytes = packed_elements(k, plan.out, plan.sums) * k.element_bytes;
  const bool by_tiles = bytes <= small_filters && plan.tiles.count() >= 2 * rows_per_job * at::get_num_threads();
  const void* filters = packed ? packed->data : nullptr;
  if (!filters && (by_tiles || int64_t(plan.out.size()) < at::get_num_threads())) {
    void* to = buffer(Buffer::filter, bytes);
    pack_filters(k, *raw, plan.out, plan.sums, to);
    filters = to;
  }
  if (by_tiles)
    convolve_by_tiles(plan, filters);
  else
    convolve_by_filters(plan, filters, raw);
}

}  // namespace unet
