#include "cpu/panels.h"

#include <algorithm>

namespace unet {

at::Tensor channels_adjacent(const at::Tensor& x) {
  return x.stride(1) == 1 || x.size(1) == 1 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

Image image(const at::Tensor& x) {
  return {x.data_ptr(), x.size(0), x.size(2), x.size(3), x.size(1), x.stride(0), x.stride(2), x.stride(3)};
}

at::Tensor as_float(const at::Tensor& t) { return t.scalar_type() == at::kFloat ? t : t.to(at::kFloat); }

at::Tensor empty_image(int64_t n, int64_t c, int64_t h, int64_t w, at::ScalarType dtype) {
  return at::empty({n, c, h, w}, at::TensorOptions().dtype(dtype).memory_format(at::MemoryFormat::ChannelsLast));
}

at::ScalarType arithmetic(at::ScalarType dtype) {
  return dtype == at::kBFloat16 && !multiplies_bf16() ? at::kFloat : dtype;
}

const KernelTable* kernels_for(at::ScalarType dtype) {
  if (dtype == at::kFloat) return &kernels_f32();
  if (dtype == at::kBFloat16) return &kernels_bf16();
  return nullptr;
}

std::vector<Panel> panels(const std::vector<Image>& images, int64_t width) {
  std::vector<Panel> result;
  int64_t before = 0;
  for (size_t i = 0; i < images.size(); ++i) {
    for (int64_t c = 0; c < images[i].c; c += width) {
      const int64_t count = std::min(width, images[i].c - c);
      result.push_back({int64_t(i), {c, count}, {before + c, count}});
    }
    before += images[i].c;
  }
  return result;
}

std::vector<Panel> output_panels(const KernelTable& k, int64_t outputs) {
  return panels({Image{nullptr, 1, 1, 1, outputs, 0, 0, 0}}, k.panel);
}

Filter filter_of(const at::Tensor& weight, bool transposed, bool flip) {
  const int64_t vector = transposed ? 1 : 0;
  return {weight.data_ptr<float>(), weight.stride(vector), weight.stride(1 - vector),
          weight.stride(2),         weight.stride(3),      flip};
}

void pack_taps(const KernelTable& k, const Filter& filter, const std::vector<Panel>& vectors, int64_t summed_channels,
               void* to) {
  parallel_jobs(int64_t(vectors.size()) * 9, [&](int64_t job) {
    k.tap(filter, job % 9 / 3, job % 3, vectors[job / 9].all, {0, summed_channels},
          element(k, to, job * summed_channels * k.panel));
  });
}

}  // namespace unet
