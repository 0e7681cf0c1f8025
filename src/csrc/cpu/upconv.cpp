#include "cpu/upconv.h"
#include "cpu/onednn.h"
#include "cpu/upconv_plane.h"
#include "cpu/upconv_taps.h"
#include "cpu/upconv_winograd.h"

namespace unet {
namespace {

// Pixels of one matrix product, about.
constexpr int64_t rows_per_job = 128;
// Pixels that the gradients of weights sum at a time.
constexpr int64_t rows_per_product = 128;

// Image n of a batch as an image of its own. With step 2, its pixels of parity (py, px) alone.
Image pixels_of(const Image& x, const KernelTable& k, int64_t n, int64_t step = 1, int64_t py = 0, int64_t px = 0) {
  Image result = x;
  result.data = pixel(k, x.data, n * x.stride_n + py * x.stride_h + px * x.stride_w);
  result.n = 1, result.h /= step, result.w /= step, result.stride_h *= step, result.stride_w *= step;
  return result;
}

// Multiplies `rows` rows of a plane, from row `first` on, by one tap into `products`; adds to them if `accumulate`.
void multiply_tap(const Plane& plane, const std::vector<Panel>& in, int64_t first, int64_t rows, const void* tap,
                  int64_t lanes, float* products, bool accumulate) {
  const KernelTable& k = plane.k;
  std::vector<Run> runs(in.size());
  for (size_t p = 0; p < in.size(); ++p)
    runs[p] = {plane.at(p, first), element(k, tap, in[p].all.first * k.panel),
               in[p].channels.count * k.element_bytes / 4};
  k.multiply(runs.data(), int64_t(runs.size()), rows, lanes, products, accumulate);
}

bool own_kernels(at::ScalarType dtype, const at::Tensor& weight) {
  const KernelTable* k = kernels_for(dtype);
  if (k && k->element_bytes == 2 && leaves_bf16_to_onednn()) return false;
  return k && weight.size(0) >= 16 && weight.size(1) >= 16 &&
         (k->element_bytes == 4 || (weight.size(0) % 2 == 0 && weight.size(1) % 2 == 0));
}

// Whether own kernels compute the layer by Winograd's algorithm. Its products of bf16 would be more than the nine
// taps'.
bool by_winograd(at::ScalarType dtype, int64_t inputs, int64_t outputs) {
  return kernels_for(dtype)->element_bytes == 4 && upconv_suits_winograd(inputs, outputs);
}

// `taps` are the filters as `pack_taps` writes them.
void forward(const KernelTable& k, const Image& x, const void* taps, const float* bias, bool relu, const Image& y) {
  const auto in = panels({x}, k.panel), out = panels({y}, k.panel);
  Plane plane{k, x.h, x.w, int64_t(in.size()), false, nullptr};
  plane.data = buffer(Buffer::shared_rows, plane.bytes());
  const int64_t lines = std::max<int64_t>(1, rows_per_job / plane.line()), strips = divide_up(x.h, lines);
  for (int64_t n = 0; n < x.n; ++n) {
    const Image from = pixels_of(x, k, n);
    parallel_jobs(x.h, [&](int64_t line) { plane.fill_line(from, nullptr, line, in); });
    parallel_jobs(strips * int64_t(out.size()), [&](int64_t job) {
      const Panel& q = out[job / strips];
      const int64_t first = job % strips * lines, count = std::min(lines, x.h - first), rows = count * plane.line();
      float* products = static_cast<float*>(buffer(Buffer::products, rows * k.panel * 4));
      for (int64_t parity = 0; parity < 4; ++parity) {
        const int64_t py = parity / 2, px = parity % 2;
        for (int64_t i = 0; i < tap_count(py); ++i)
          for (int64_t j = 0; j < tap_count(px); ++j) {
            const Tap &ty = tap_of(py, i), &tx = tap_of(px, j);
            multiply_tap(plane, in, plane.row(first + ty.shift, tx.shift), rows,
                         element(k, taps, (job / strips * 9 + ty.k * 3 + tx.k) * x.c * k.panel), q.channels.count,
                         products, i + j > 0);
          }
        const Image to = pixels_of(y, k, n, 2, py, px);
        for (int64_t line = 0; line < count; ++line)
          k.unpack(products + line * plane.line() * k.panel, x.w, q.channels.count, bias + q.channels.first, relu,
                   nullptr, 0, pixel(k, to.data, (first + line) * to.stride_h + q.channels.first), to.stride_w);
      }
    });
  }
}

at::Tensor forward(const at::Tensor& from, const void* taps, const at::Tensor& bias, bool relu) {
  const KernelTable& k = *kernels_for(from.scalar_type());
  const at::Tensor to = empty_image(from.size(0), bias.size(0), 2 * from.size(2), 2 * from.size(3), from.scalar_type());
  const at::Tensor b = as_float(bias).contiguous();
  forward(k, image(from), taps, b.data_ptr<float>(), relu, image(to));
  return to;
}

// The gradient of one image's output as four planes, one for each parity of row and column.
struct Parities {
  std::vector<Plane> planes;
  std::vector<Panel> in;

  Parities(const KernelTable& k, const Image& g, void* data) : in(panels({g}, k.panel)) {
    for (int i = 0; i < 4; ++i) {
      planes.push_back({k, g.h / 2, g.w / 2, int64_t(in.size()), true, data});
      data = static_cast<char*>(data) + planes.back().bytes();
    }
  }
  void fill(const Image& g, const Image* mask, int64_t n) const {
    parallel_jobs(4 * planes[0].h, [&](int64_t job) {
      const int64_t parity = job % 4;
      const KernelTable& k = planes[0].k;
      const Image from = pixels_of(g, k, n, 2, parity / 2, parity % 2),
                  own = mask ? pixels_of(*mask, k, n, 2, parity / 2, parity % 2) : g;
      planes[parity].fill_line(from, mask ? &own : nullptr, job / 4, in);
    });
  }
  // The plane whose pixels tap (ky, kx) multiplies.
  static int64_t parity_of(int64_t tap) { return (tap / 3 != 1) * 2 + (tap % 3 != 1); }
  // How many rows the gradient's pixel lies before the input's pixel.
  int64_t offset(int64_t tap) const { return (tap / 3 == 0) * planes[0].line() + (tap % 3 == 0); }
};

void grad_input(const Parities& g, const void* taps, int64_t outputs, const Image& dx, const Image* mask, int64_t n) {
  const Plane& any = g.planes[0];
  const KernelTable& k = any.k;
  const auto out = panels({dx}, k.panel);
  const int64_t lines = std::max<int64_t>(1, rows_per_job / any.line()), strips = divide_up(any.h, lines);
  const Image to = pixels_of(dx, k, n), gate = mask ? pixels_of(*mask, k, n) : Image{};
  parallel_jobs(strips * int64_t(out.size()), [&](int64_t job) {
    const int64_t q = job / strips, c = out[q].channels.first, first = job % strips * lines,
                  count = std::min(lines, any.h - first);
    const int64_t rows = count * any.line();
    float* products = static_cast<float*>(buffer(Buffer::products, rows * k.panel * 4));
    for (int64_t tap = 0; tap < 9; ++tap)
      multiply_tap(g.planes[g.parity_of(tap)], g.in, any.row(first, 0) - g.offset(tap), rows,
                   element(k, taps, (q * 9 + tap) * outputs * k.panel), out[q].channels.count, products, tap > 0);
    for (int64_t line = 0; line < count; ++line)
      k.unpack(products + line * any.line() * k.panel, any.w, out[q].channels.count, nullptr, false,
               mask ? pixel(k, gate.data, (first + line) * gate.stride_h + c) : nullptr, gate.stride_w,
               pixel(k, to.data, (first + line) * to.stride_h + c), to.stride_w);
  });
}

// Adds the sums over the pixels of one image to sums[pair of panels][slab][tap][channel of x][channel of g]. bf16
// products read pairs of neighbouring rows. The gradient's pairs begin at even rows; those of x begin at even or odd
// rows, as the tap's offset requires, so x_rows has both.
void grad_weight(const Plane& x, const Parities& g, void* const x_rows[2], void* const g_rows[4],
                 const std::vector<Panel>& in, int64_t slabs, float* sums) {
  const KernelTable& k = x.k;
  const int64_t per_word = 4 / k.element_bytes, pairs = int64_t(in.size() * g.in.size()), square = k.panel * k.panel;
  const int64_t end = x.rows() - Plane::slack, per_slab = up_to_multiple(divide_up(end, slabs), 2);
  parallel_jobs(pairs * slabs, [&](int64_t job) {
    const int64_t pair = job / slabs, slab = job % slabs, p = pair % int64_t(in.size()), q = pair / int64_t(in.size());
    const int64_t stop = std::min(end, (slab + 1) * per_slab);
    for (int64_t row = slab * per_slab; row < stop; row += rows_per_product)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t shift = g.offset(tap), odd = per_word == 2 ? shift % 2 : 0;
        // Beyond its last row x is 0.
        const int64_t count = std::min(std::min(rows_per_product, stop - row), x.rows() - (row + shift));
        if (count <= 0) continue;
        k.multiply_transposed(element(k, x_rows[odd], (p * x.rows() + row + shift - odd) * k.panel),
                              element(k, g_rows[g.parity_of(tap)], (q * x.rows() + row) * k.panel),
                              divide_up(count, per_word), in[p].channels.count, g.in[q].channels.count,
                              sums + (job * 9 + tap) * square, true);
      }
  });
}

}  // namespace

at::Tensor upconv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  UNET_PROFILED("upconv");
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && weight.size(0) == x.size(1), "cannot convolve ", x.sizes(), " with ",
              weight.sizes(), "; channels must agree");
  if (!own_kernels(x.scalar_type(), weight)) {
    const auto dtype = arithmetic(x.scalar_type());
    at::Tensor y =
        at::convolution(x.to(dtype), weight.to(dtype), bias.to(dtype), {2, 2}, {1, 1}, {1, 1}, true, {1, 1}, 1);
    if (relu) y.relu_();
    return y.to(x.scalar_type());
  }
  if (by_winograd(x.scalar_type(), weight.size(0), weight.size(1)))
    return upconv_winograd(x, upconv_banks(weight), bias, relu);
  const at::Tensor w = as_float(weight);
  const KernelTable& k = *kernels_for(x.scalar_type());
  const auto vectors = output_panels(k, weight.size(1));
  void* taps = buffer(Buffer::filter, packed_taps_elements(k, vectors, weight.size(0)) * k.element_bytes);
  pack_taps(k, filter_of(w, true, false), vectors, weight.size(0), taps);
  return forward(channels_adjacent(x), taps, bias, relu);
}

std::optional<at::Tensor> upconv_pack(const at::Tensor& weight, at::ScalarType dtype) {
  if (!own_kernels(dtype, weight)) return onednn_pack_transposed(weight, dtype);
  if (by_winograd(dtype, weight.size(0), weight.size(1))) return upconv_banks(weight);
  const at::Tensor w = as_float(weight);
  const KernelTable& k = *kernels_for(dtype);
  const auto vectors = output_panels(k, weight.size(1));
  at::Tensor packed = at::empty({packed_taps_elements(k, vectors, weight.size(0))}, element_type(k));
  pack_taps(k, filter_of(w, true, false), vectors, weight.size(0), packed.data_ptr());
  return packed;
}

at::Tensor upconv_packed(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool relu) {
  UNET_PROFILED("upconv");
  if (packed.is_mkldnn()) {
    TORCH_CHECK(packed.scalar_type() == x.scalar_type() && packed.size(1) == x.size(1), "cannot convolve ", x.sizes(),
                " of ", x.scalar_type(), " with ", packed.sizes(), " of ", packed.scalar_type());
    return onednn_upconv(channels_adjacent(x), packed, bias, relu);
  }
  const KernelTable* k = kernels_for(x.scalar_type());
  if (k && by_winograd(x.scalar_type(), x.size(1), bias.size(0))) {
    TORCH_CHECK(packed.dim() == 4 && packed.size(0) == 4 * bias.size(0) && packed.size(3) == x.size(1),
                "cannot convolve ", x.sizes(), " with filters packed for other inputs");
    return upconv_winograd(x, packed, bias, relu);
  }
  TORCH_CHECK(k && packed.scalar_type() == element_type(*k) &&
                  packed.numel() == packed_taps_elements(*k, output_panels(*k, bias.size(0)), x.size(1)),
              "cannot convolve ", x.sizes(), " of ", x.scalar_type(), " with filters packed for other inputs");
  return forward(channels_adjacent(x), packed.data_ptr(), bias, relu);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> upconv_grad(const at::Tensor& grad, const at::Tensor& output,
                                                           const at::Tensor& x, const at::Tensor& weight,
                                                           const at::Tensor& mask, bool input, bool parameters) {
  UNET_PROFILED("upconv gradients");
  const auto dtype = x.scalar_type();
  const int64_t outputs = weight.size(1), inputs = weight.size(0);
  if (!own_kernels(dtype, weight)) {
    const auto computed = arithmetic(dtype);
    const at::Tensor g = output.defined() ? at::threshold_backward(grad, output, 0) : grad;
    auto [dx, dw, db] = at::convolution_backward(g.to(computed), x.to(computed), weight.to(computed),
                                                 at::OptionalIntArrayRef(at::IntArrayRef{outputs}), {2, 2}, {1, 1},
                                                 {1, 1}, true, {1, 1}, 1, {input, parameters, parameters});
    if (input) dx = dx.to(dtype);
    if (input && mask.defined()) dx = at::threshold_backward(dx, mask, 0);
    return {dx, parameters ? as_float(dw) : dw, parameters ? as_float(db) : db};
  }
  if (by_winograd(dtype, inputs, outputs))
    return upconv_winograd_grad(grad, output, x, weight, mask, input, parameters);
  const KernelTable& k = *kernels_for(dtype);
  const at::Tensor gt = channels_adjacent(grad), xt = channels_adjacent(x),
                   yt = output.defined() ? channels_adjacent(output) : output;
  const at::Tensor mt = mask.defined() ? channels_adjacent(mask) : mask, w = as_float(weight);
  const Image gi = image(gt), xi = image(xt);
  Image own, gate;
  if (yt.defined()) own = image(yt);
  if (mt.defined()) gate = image(mt);
  at::Tensor dx, dw, db;
  const auto in = panels({xi}, k.panel);
  const bool pairs = k.element_bytes == 2;
  Plane plane{k, xi.h, xi.w, int64_t(in.size()), true, nullptr};
  const int64_t g_bytes = Plane{k, xi.h, xi.w, divide_up(outputs, k.panel), true, nullptr}.bytes();
  char* data = static_cast<char*>(
      buffer(Buffer::shared_rows, (4 * g_bytes + plane.bytes()) * (pairs && parameters ? 2 : 1) + plane.bytes()));
  const Parities parities(k, gi, data);
  plane.data = data + 4 * g_bytes;
  char* more = data + 4 * g_bytes + plane.bytes();
  void *x_rows[2] = {plane.data, nullptr}, *g_rows[4];
  for (int i = 0; i < 4; ++i) g_rows[i] = pairs ? more + i * g_bytes : data + i * g_bytes;
  if (pairs) x_rows[0] = more + 4 * g_bytes, x_rows[1] = more + 4 * g_bytes + plane.bytes();

  void* taps = nullptr;
  if (input) {
    dx = empty_image(xi.n, inputs, xi.h, xi.w, dtype);
    const auto out = panels({image(dx)}, k.panel);
    taps = buffer(Buffer::filter, int64_t(out.size()) * 9 * outputs * k.panel * k.element_bytes);
    pack_taps(k, filter_of(w, false, false), out, outputs, taps);
  }
  const int64_t pair_count = int64_t(in.size() * parities.in.size()), slabs = divide_up(16, pair_count);
  at::Tensor sums;
  if (parameters)
    sums = at::zeros({pair_count, slabs, 9, k.panel, k.panel}, at::kFloat), db = at::zeros({outputs}, at::kFloat);
  for (int64_t n = 0; n < xi.n; ++n) {
    parities.fill(gi, yt.defined() ? &own : nullptr, n);
    if (input) grad_input(parities, taps, outputs, image(dx), mt.defined() ? &gate : nullptr, n);
    if (!parameters) continue;
    const Image from = pixels_of(xi, k, n);
    parallel_jobs(xi.h, [&](int64_t line) { plane.fill_line(from, nullptr, line, in); });
    if (pairs) {
      parallel_jobs(4 * int64_t(parities.in.size()), [&](int64_t job) {
        const int64_t i = job % 4, q = job / 4, rows = plane.rows();
        k.pack(parities.planes[i].at(q, 0), nullptr, k.panel, 0, rows, k.panel,
               element(k, g_rows[i], q * rows * k.panel), true);
      });
      parallel_jobs(2 * int64_t(in.size()), [&](int64_t job) {
        const int64_t odd = job % 2, p = job / 2, rows = plane.rows();
        k.pack(plane.at(p, odd), nullptr, k.panel, 0, rows - odd, k.panel, element(k, x_rows[odd], p * rows * k.panel),
               true);
      });
    }
    grad_weight(plane, parities, x_rows, g_rows, in, slabs, sums.data_ptr<float>());
    const at::Tensor columns = at::zeros({4, outputs}, at::kFloat);
    float* column = columns.data_ptr<float>();
    parallel_jobs(4 * int64_t(parities.in.size()), [&](int64_t job) {
      const Plane& g = parities.planes[job % 4];
      const Panel& q = parities.in[job / 4];
      for (int64_t row = 0; row < g.rows(); row += rows_per_product)
        k.column_sums(g.at(job / 4, row), std::min(rows_per_product, g.rows() - row), q.channels.count,
                      column + job % 4 * outputs + q.channels.first, false);
    });
    db += columns.sum(0);
  }
  if (parameters) {
    const int64_t q_count = int64_t(parities.in.size()), p_count = int64_t(in.size());
    const at::Tensor whole = sums.sum(1).view({q_count, p_count, 3, 3, k.panel, k.panel}).permute({1, 4, 0, 5, 2, 3});
    dw = at::empty_like(weight, at::kFloat);
    dw.copy_(whole.reshape({p_count * k.panel, q_count * k.panel, 3, 3}).narrow(0, 0, inputs).narrow(1, 0, outputs));
  }
  return {dx, dw, db};
}

}  // namespace unet
