#include "cpu/first_layer.h"
#include <cstring>
#include "cpu/panels.h"

namespace unet {
namespace {

// Pixels of one matrix product: a multiple of every kernel's register block. They and their products fit the level 1
// cache.
constexpr int64_t pixels_per_product = 96;
// Image rows whose gradients one job sums. It fixes the order of sums, whatever the number of threads.
constexpr int64_t rows_per_job = 8;

// Writes the 9 C neighbours of output pixel (y, first + i) to row i of `rows`, tap by tap. fp32 kernels serve both
// dtypes, because arithmetic is not what limits the speed here.
template <class T>
void neighbours(const Image& x, int64_t n, int64_t y, int64_t first, int64_t count, int64_t panel, float* rows) {
  const T* data = static_cast<const T*>(x.data) + n * x.stride_n + y * x.stride_h + first * x.stride_w;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t ky = 0; ky < 3; ++ky)
      for (int64_t kx = 0; kx < 3; ++kx)
        for (int64_t c = 0; c < x.c; ++c)
          rows[i * panel + (ky * 3 + kx) * x.c + c] = float(data[ky * x.stride_h + (i + kx) * x.stride_w + c]);
}

void neighbours(const Image& x, at::ScalarType dtype, int64_t n, int64_t y, int64_t first, int64_t count, int64_t panel,
                float* rows) {
  if (dtype == at::kFloat)
    neighbours<float>(x, n, y, first, count, panel, rows);
  else
    neighbours<at::BFloat16>(x, n, y, first, count, panel, rows);
}

}  // namespace

at::Tensor first_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  const KernelTable& k = *kernels_for(x.scalar_type());  // to move pixels
  const KernelTable& f = kernels_f32();                  // to multiply
  const int64_t outputs = weight.size(0), taps = 9 * x.size(1), n = x.size(0), h = x.size(2) - 2, w = x.size(3) - 2;
  at::Tensor y = empty_image(n, outputs, h, w, x.scalar_type());
  const Image in = image(x), out = image(y);
  // The order of `filters` is [panel of outputs][tap, channel][lane].
  const at::Tensor flat = weight.permute({2, 3, 1, 0}).reshape({taps, outputs}), b = bias.contiguous();
  const int64_t q_count = divide_up(outputs, f.panel);
  const at::Tensor filters = at::constant_pad_nd(flat, {0, q_count * f.panel - outputs})
                                 .view({taps, q_count, f.panel})
                                 .transpose(0, 1)
                                 .contiguous();
  const float* u = filters.data_ptr<float>();
  parallel_jobs(n * h, [&](int64_t job) {
    float* rows = static_cast<float*>(buffer(Buffer::own_rows, 2 * pixels_per_product * f.panel * 4));
    float* products = rows + pixels_per_product * f.panel;
    for (int64_t first = 0; first < w; first += pixels_per_product) {
      const int64_t count = std::min(pixels_per_product, w - first);
      neighbours(in, x.scalar_type(), job / h, job % h, first, count, f.panel, rows);
      for (int64_t q = 0; q < q_count; ++q) {
        const Run run{rows, u + q * taps * f.panel, taps};
        const int64_t c = q * f.panel, width = std::min(f.panel, outputs - c);
        f.multiply(&run, 1, count, width, products, false);
        k.unpack(products, count, width, b.data_ptr<float>() + c, relu, nullptr, 0,
                 pixel(k, out.data, job / h * out.stride_n + job % h * out.stride_h + first * out.stride_w + c),
                 out.stride_w);
      }
    }
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> first_layer_grad(const at::Tensor& grad, const at::Tensor& output,
                                                    const at::Tensor& x, const at::Tensor& weight) {
  const KernelTable& f = kernels_f32();
  const at::Tensor g = grad;
  const int64_t outputs = weight.size(0), taps = 9 * x.size(1), n = grad.size(0), h = grad.size(2), w = grad.size(3);
  const Image in = image(x), from = image(g), mask = output.defined() ? image(output) : Image{};
  const int64_t q_count = divide_up(outputs, f.panel), groups = divide_up(h, rows_per_job), jobs = n * groups;
  // One row of sums more than there are taps: the last sums the gradient itself, which is the gradient of the bias.
  const int64_t size = (taps + 1) * q_count * f.panel;
  at::Tensor partial = at::zeros({jobs, q_count, taps + 1, f.panel}, at::kFloat);
  // Gradients become floats while they are packed.
  const KernelTable& k = grad.scalar_type() == at::kBFloat16 ? kernels_f32_on_bf16() : f;
  parallel_jobs(jobs, [&](int64_t job) {
    float* rows = static_cast<float*>(buffer(Buffer::own_rows, 2 * pixels_per_product * f.panel * 4));
    float* pixels = rows + pixels_per_product * f.panel;
    float* sums = partial.data_ptr<float>() + job * size;
    const int64_t image_index = job / groups, begin = job % groups * rows_per_job;
    for (int64_t y = begin; y < std::min(h, begin + rows_per_job); ++y)
      for (int64_t first = 0; first < w; first += pixels_per_product) {
        const int64_t count = std::min(pixels_per_product, w - first);
        neighbours(in, x.scalar_type(), image_index, y, first, count, f.panel, rows);
        for (int64_t i = 0; i < count; ++i) rows[i * f.panel + taps] = 1;
        for (int64_t q = 0; q < q_count; ++q) {
          const int64_t c = q * f.panel, width = std::min(f.panel, outputs - c);
          const auto at = [&](const Image& i) {
            return pixel(k, i.data, image_index * i.stride_n + y * i.stride_h + first * i.stride_w + c);
          };
          k.pack(at(from), output.defined() ? at(mask) : nullptr, from.stride_w, mask.stride_w, count, width, pixels,
                 false);
          f.multiply_transposed(rows, pixels, count, taps + 1, width, sums + q * (taps + 1) * f.panel, true);
        }
      }
  });
  const at::Tensor total = partial.sum(0).transpose(0, 1).reshape({taps + 1, q_count * f.panel}).narrow(1, 0, outputs);
  at::Tensor dw = at::empty_like(weight, at::kFloat);
  dw.copy_(total.narrow(0, 0, taps).view({3, 3, x.size(1), outputs}).permute({3, 2, 0, 1}));
  return {dw, total[taps].contiguous()};
}

}  // namespace unet
