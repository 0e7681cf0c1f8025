#include "cpu/pool.h"
#include "cpu/panels.h"

namespace unet {
namespace {

bool own_kernels(const at::Tensor& x) { return kernels_for(x.scalar_type()) && x.stride(1) == 1; }

struct Pixels {
  const KernelTable& k;
  const Image& image;
  // The address of pixel (y, x) of image n; null outside the image.
  void* operator()(int64_t n, int64_t y, int64_t x) const {
    if (y < 0 || x < 0 || y >= image.h || x >= image.w) return nullptr;
    return pixel(k, image.data, n * image.stride_n + y * image.stride_h + x * image.stride_w);
  }
};

}  // namespace

at::Tensor max_pool(const at::Tensor& x) {
  UNET_PROFILED("max_pool");
  if (!own_kernels(x)) return at::max_pool2d(x, {2, 2});
  const KernelTable& k = *kernels_for(x.scalar_type());
  at::Tensor y = empty_image(x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2, x.scalar_type());
  const Image from = image(x), to = image(y);
  const Pixels source{k, from}, target{k, to};
  parallel_jobs(to.n * to.h, [&](int64_t job) {
    const int64_t n = job / to.h, i = job % to.h;
    for (int64_t j = 0; j < to.w; ++j) {
      const void* window[4];
      for (int64_t s = 0; s < 4; ++s) window[s] = source(n, 2 * i + s / 2, 2 * j + s % 2);
      k.pool(window, to.c, target(n, i, j));
    }
  });
  return y;
}

at::Tensor centre_crop(const at::Tensor& x, int64_t h, int64_t w) {
  return x.narrow(2, (x.size(2) - h) / 2, h).narrow(3, (x.size(3) - w) / 2, w);
}

at::Tensor pool_crop_grad(const at::Tensor& pooled, const at::Tensor& crop, const at::Tensor& x) {
  UNET_PROFILED("max_pool and crop gradient");
  if (!own_kernels(x)) {
    at::Tensor dx = at::zeros_like(x);
    if (pooled.defined()) {
      const auto indices = std::get<1>(at::max_pool2d_with_indices(x, {2, 2}));
      dx = at::max_pool2d_with_indices_backward(pooled, x, {2, 2}, {2, 2}, {0, 0}, {1, 1}, false, indices);
    }
    if (crop.defined()) centre_crop(dx, crop.size(2), crop.size(3)).add_(crop);
    return at::threshold_backward(dx, x, 0);
  }
  const KernelTable& k = *kernels_for(x.scalar_type());
  const at::Tensor from_pool = pooled.defined() ? channels_adjacent(pooled) : pooled,
                   from_crop = crop.defined() ? channels_adjacent(crop) : crop;
  at::Tensor dx = empty_image(x.size(0), x.size(1), x.size(2), x.size(3), x.scalar_type());
  const Image xi = image(x), di = image(dx), none{}, pi = pooled.defined() ? image(from_pool) : none,
              ci = crop.defined() ? image(from_crop) : none;
  const Pixels values{k, xi}, result{k, di}, pool{k, pi}, skip{k, ci};
  const int64_t top = (xi.h - ci.h) / 2, left = (xi.w - ci.w) / 2, lines = divide_up(xi.h, 2);
  parallel_jobs(xi.n * lines, [&](int64_t job) {
    const int64_t n = job / lines, i = job % lines;
    for (int64_t j = 0; j < divide_up(xi.w, 2); ++j) {
      const void *window[4], *skips[4];
      void* gradients[4];
      for (int64_t s = 0; s < 4; ++s) {
        const int64_t y = 2 * i + s / 2, z = 2 * j + s % 2;
        window[s] = values(n, y, z), gradients[s] = result(n, y, z);
        skips[s] = gradients[s] ? skip(n, y - top, z - left) : nullptr;
      }
      k.pool_gradient(window, pool(n, i, j), skips, xi.c, gradients);
    }
  });
  return dx;
}

}  // namespace unet
