// The passes over memory between cuDNN's convolutions (gpu/passes.h). gpu/passes.cpp computes the same with libtorch's
// operations.

// Takes x by value, so that it is loaded in one load of 16 bytes.
__device__ __forceinline__ Lane bias_relu_lane(Lane x, Floats bias) {
  for (int i = 0; i < WIDTH; i++) x.value[i] = from_float(relu(to_float(x.value[i]) + bias.value[i]));
  return x;
}

// y = relu(x + bias), for `count` lanes. y may be x.
extern "C" __global__ void bias_relu(const Lane* x, const Floats* bias, Lane* y, unsigned count, unsigned lanes) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    y[i] = bias_relu_lane(x[i], bias[i % lanes]);
}

// Each pixel of y is relu(x + bias), followed by the pixel of skip. x is [.., height, width, lanes] with `count` lanes.
// skip may be a view; its strides are given.
extern "C" __global__ void bias_relu_join(const Lane* x, const Floats* bias, const Lane* skip, Lane* y, unsigned count,
                                          unsigned lanes, unsigned height, unsigned width, unsigned skip_image,
                                          unsigned skip_row, unsigned skip_pixel) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned lane = i % lanes, pixel = i / lanes;
    const unsigned column = pixel % width, row = pixel / width % height, image = pixel / width / height;
    Lane* out = y + pixel * 2 * lanes + lane;
    out[0] = bias_relu_lane(x[i], bias[lane]);
    out[lanes] = skip[image * skip_image + row * skip_row + column * skip_pixel + lane];
  }
}

// out = gradient where y > 0, else 0. If y is null, the gradient is masked already, and out, which may be null too, is
// not written. totals[channel] is the sum over the pixels; those of each block go to sums[blockIdx.x][channel] before.
// A block has THREADS / columns rows of threads, and a row does `columns` adjacent lanes of a pixel; blockIdx.y counts
// such stripes of lanes. The strides of gradient and y from pixel to pixel are given; out is dense.
extern "C" __global__ void mask_and_sum(const Lane* gradient, unsigned gradient_pixel, const Lane* y, unsigned y_pixel,
                                        Lane* out, float* sums, float* totals, unsigned pixels, unsigned lanes,
                                        unsigned columns) {
  __shared__ float parts[THREADS * WIDTH];
  const unsigned rows = THREADS / columns;
  const unsigned column = threadIdx.x % columns, row = threadIdx.x / columns;
  const unsigned lane = blockIdx.y * columns + column;
  float sum[WIDTH] = {};
  if (row < rows && lane < lanes) {
    for (unsigned pixel = blockIdx.x * rows + row; pixel < pixels; pixel += gridDim.x * rows) {
      Lane g = gradient[pixel * gradient_pixel + lane];
      if (y) {
        const Lane output = y[pixel * y_pixel + lane];
        for (int i = 0; i < WIDTH; i++)
          if (to_float(output.value[i]) <= 0) g.value[i] = 0;
        out[pixel * lanes + lane] = g;
      }
      for (int i = 0; i < WIDTH; i++) sum[i] += to_float(g.value[i]);
    }
  }
  add_rows(sum, parts, rows, columns, lanes, sums + blockIdx.x * lanes * WIDTH);
  add_blocks(sums, parts, 1, columns, lanes, [=](unsigned, unsigned channel, float total) { totals[channel] = total; });
}

struct Largest {
  float value;
  int place;
};

// The largest of four numbers and its place. The first of equals counts. NaN is the largest, as in libtorch.
__device__ __forceinline__ Largest largest(const float* x) {
  Largest result = {x[0], 0};
  for (int k = 1; k < 4; k++)
    if (x[k] > result.value || x[k] != x[k]) result = {x[k], k};
  return result;
}

// 2x2 max pooling of x, [.., height, width, lanes], to `count` lanes. Height and width are even.
extern "C" __global__ void max_pool(const Lane* x, Lane* pooled, unsigned count, unsigned lanes, unsigned height,
                                    unsigned width) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned lane = i % lanes, window = i / lanes;
    const unsigned column = window % (width / 2), image_row = window / (width / 2);
    const Lane* corner = x + (image_row * 2 * width + column * 2) * lanes + lane;
    const Lane four[4] = {corner[0], corner[lanes], corner[width * lanes], corner[(width + 1) * lanes]};
    Lane y;
    for (int c = 0; c < WIDTH; c++) {
      float values[4];
      for (int k = 0; k < 4; k++) values[k] = to_float(four[k].value[c]);
      y.value[c] = from_float(largest(values).value);
    }
    pooled[i] = y;
  }
}

// The gradient of x, the output of a ReLU, from `pooled`, the gradient of its pooling, and `crop`, the gradient of its
// crop at (top, left). Either may be null; the strides of both are given. A thread does one lane of a window at a time,
// `count` in all.
extern "C" __global__ void pool_crop_gradient(const Lane* x, const Lane* pooled, unsigned pooled_image,
                                              unsigned pooled_row, unsigned pooled_pixel, const Lane* crop,
                                              unsigned crop_image, unsigned crop_row, unsigned crop_pixel, Lane* out,
                                              unsigned count, unsigned lanes, unsigned height, unsigned width,
                                              unsigned top, unsigned left, unsigned crop_height, unsigned crop_width) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned lane = i % lanes, window = i / lanes;
    const unsigned column = window % (width / 2), row = window / (width / 2) % (height / 2),
                   image = window / (width / 2) / (height / 2);
    const unsigned first = ((image * height + row * 2) * width + column * 2) * lanes + lane;
    const unsigned places[4] = {first, first + lanes, first + width * lanes, first + (width + 1) * lanes};
    Lane four[4], gradients[4];
    for (int k = 0; k < 4; k++) four[k] = x[places[k]];
    for (int k = 0; k < 4; k++) {
      // Outside the crop the difference is negative and wraps around to a large number.
      const unsigned crop_y = row * 2 + k / 2 - top, crop_x = column * 2 + k % 2 - left;
      const bool inside = crop && crop_y < crop_height && crop_x < crop_width;
      gradients[k] = inside ? crop[image * crop_image + crop_y * crop_row + crop_x * crop_pixel + lane] : Lane{};
    }
    Lane above = {};
    if (pooled) above = pooled[image * pooled_image + row * pooled_row + column * pooled_pixel + lane];
    for (int c = 0; c < WIDTH; c++) {
      float values[4];
      for (int k = 0; k < 4; k++) values[k] = to_float(four[k].value[c]);
      const int place = largest(values).place;
      // Compares with `place` instead of indexing by it, because registers have no index.
      for (int k = 0; k < 4; k++) {
        Scalar& g = gradients[k].value[c];
        if (k == place) g = from_float(to_float(g) + to_float(above.value[c]));
        if (values[k] <= 0) g = 0;
      }
    }
    for (int k = 0; k < 4; k++) out[places[k]] = gradients[k];
  }
}
