#include "winograd.h"

namespace unet {
namespace {

// Work is cut so that what one thread touches between two passes stays in its level 2 cache (assumed 1 MiB).
constexpr int64_t rows_per_job = 48;                     // tiles: a multiple of every kernel's register block
constexpr int64_t rows_per_pass = 96;                    // tiles: more where each pass reads filters from memory
constexpr int64_t small_filters = int64_t(12) << 20;     // bytes of packed filters that stay in level 3 while tiles stream past
constexpr int64_t shared_rows_limit = int64_t(48) << 20;  // bytes of shared tiles
constexpr int64_t set_skew = 16;                         // words between points, against cache-set conflicts at powers of two

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
  int64_t row_stride(int64_t rows) const { return int64_t(in.size()) * rows * k.panel + set_skew * 4 / k.element_bytes; }
  int64_t slab() const { return k.points * sums * k.panel; }  // packed filters of one panel of outputs

  // Tiles first .. first + count of all input panels, to rows `row` onward of `rows` in v.
  void transform(int64_t first, int64_t count, void* v, int64_t row, int64_t rows) const {
    for (size_t p = 0; p < in.size(); ++p)
      k.input(c.inputs[in[p].image], c.input_mask, tiles, first, count, in[p].channels,
              element(k, v, (int64_t(p) * rows + row) * k.panel), row_stride(rows), false);
  }

  // One panel of outputs of tiles first .. first + count, which are rows `row` onward of `rows` in v.
  void produce(const Panel& q, const void* u, int64_t first, int64_t count, const void* v, int64_t row, int64_t rows) const {
    const int64_t stride = count * k.panel + set_skew;
    float* products = static_cast<float*>(buffer(Buffer::products, k.points * stride * 4));
    std::vector<Run> runs(in.size());
    for (int64_t point = 0; point < k.points; ++point) {
      for (size_t p = 0; p < in.size(); ++p)
        runs[p] = {element(k, v, point * row_stride(rows) + (int64_t(p) * rows + row) * k.panel),
                   element(k, u, (point * sums + in[p].all.first) * k.panel), in[p].channels.count * k.element_bytes / 4};
      k.multiply(runs.data(), int64_t(runs.size()), count, q.channels.count, products + point * stride, false);
    }
    k.output(products, stride, tiles, first, count, q.channels, c.bias, c.relu, c.output_masks.empty() ? nullptr : c.output_masks[q.image],
             c.outputs[q.image]);
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

// Many channels, few tiles: all tiles are transformed first, then each job owns a panel of outputs, and with it the part of the
// filters that no other job reads. Raw filters are transformed inside the job: they never travel to memory and back.
void convolve_by_filters(const Plan& plan, const void* packed, const Filter* raw) {
  const Kernels& k = plan.k;
  const int64_t count = plan.tiles.count();
  const int64_t limit = std::max(rows_per_job, shared_rows_limit / (plan.row_stride(1) * k.points * k.element_bytes));
  const int64_t batches = divide_up(count, limit), rows = divide_up(count, batches);
  void* v = buffer(Buffer::shared_rows, k.points * plan.row_stride(rows) * k.element_bytes);
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t now = std::min(rows, count - first), step = 12;
    parallel_jobs(divide_up(now, step),
                  [&](int64_t job) { plan.transform(first + job * step, std::min(step, now - job * step), v, job * step, rows); });
    // even chunks: a small last one would stream all filters for a few tiles
    const int64_t chunk_count = divide_up(now, rows_per_pass), pass = up_to_multiple(divide_up(now, chunk_count), 6);
    const int64_t chunks = packed ? divide_up(now, pass) : 1;
    parallel_jobs(int64_t(plan.out.size()) * chunks, [&](int64_t job) {
      const int64_t q = job / chunks, chunk = job % chunks;
      const void* u = packed ? element(k, packed, q * plan.slab()) : nullptr;
      if (!u) {
        void* own = buffer(Buffer::own_filter, plan.slab() * k.element_bytes);
        k.filter(*raw, plan.out[q].all, {0, plan.sums}, own, plan.sums * k.panel);
        u = own;
      }
      const int64_t begin = packed ? chunk * pass : 0, end = packed ? std::min(now, begin + pass) : now;
      for (int64_t row = begin; row < end; row += pass)
        plan.produce(plan.out[q], u, first + row, std::min(pass, end - row), v, row, rows);
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
    k.filter(filter, outputs[q].all, {first, std::min(step, sums - first)},
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
