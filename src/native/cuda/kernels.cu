// The passes over memory between cuDNN's convolutions, for one dtype: SCALAR_HALF, SCALAR_BFLOAT16 or SCALAR_FLOAT.
//
// kernels.cpp compiles this text at run time (NVRTC), so nothing may be included. tests/cuda_kernels/ compiles it as host C++ and
// compares it with loops. gpu/passes.h says what each computes; the forms in libtorch's operations are in gpu/passes.cpp.
//
// Tensors are channels-last: the channels of a pixel lie side by side, and a thread moves 16 bytes of them, a "lane". `lanes` is the
// number of lanes per pixel. Strides and offsets count lanes as well. All are bound by memory, so what counts is that each byte is
// touched once, by neighbouring threads in neighbouring places.

#if defined(SCALAR_FLOAT)
typedef float Scalar;
__device__ __forceinline__ float to_float(Scalar x) { return x; }
__device__ __forceinline__ Scalar from_float(float x) { return x; }
#elif defined(SCALAR_BFLOAT16)
typedef unsigned short Scalar;
__device__ __forceinline__ float to_float(Scalar x) { return __uint_as_float(static_cast<unsigned>(x) << 16); }
__device__ __forceinline__ Scalar from_float(float x) {
  const unsigned bits = __float_as_uint(x);
  if (x != x) return 0x7fff;
  // To nearest, ties to even.
  return static_cast<Scalar>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#elif defined(SCALAR_HALF)
typedef unsigned short Scalar;
__device__ __forceinline__ float to_float(Scalar x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x));
  return result;
}
__device__ __forceinline__ Scalar from_float(float x) {
  Scalar result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(x));
  return result;
}
#endif

constexpr int WIDTH = 16 / sizeof(Scalar);
constexpr int THREADS = 256;

struct alignas(16) Lane {
  Scalar value[WIDTH];
};

// ReLU that lets NaN through, as libtorch's does.
__device__ __forceinline__ float relu(float x) { return x < 0 ? 0 : x; }

struct alignas(16) Floats {
  float value[WIDTH];
};

// x by value: one load of 16 bytes.
__device__ __forceinline__ Lane bias_relu_lane(Lane x, Floats bias) {
  for (int i = 0; i < WIDTH; i++) x.value[i] = from_float(relu(to_float(x.value[i]) + bias.value[i]));
  return x;
}

// y = relu(x + bias), for `count` lanes; may be in place.
extern "C" __global__ void bias_relu(const Lane* x, const Floats* bias, Lane* y, unsigned count, unsigned lanes) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    y[i] = bias_relu_lane(x[i], bias[i % lanes]);
}

// Each pixel of y gets relu(x + bias) and behind it the pixel of skip: `count` lanes of x, [.., height, width, lanes]; skip has strides.
extern "C" __global__ void bias_relu_join(const Lane* x, const Floats* bias, const Lane* skip, Lane* y, unsigned count, unsigned lanes,
                                          unsigned height, unsigned width, unsigned skip_image, unsigned skip_row, unsigned skip_pixel) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned lane = i % lanes, pixel = i / lanes;
    const unsigned column = pixel % width, row = pixel / width % height, image = pixel / width / height;
    Lane* out = y + pixel * 2 * lanes + lane;
    out[0] = bias_relu_lane(x[i], bias[lane]);
    out[lanes] = skip[image * skip_image + row * skip_row + column * skip_pixel + lane];
  }
}

// One value of each of a block's threads for WIDTH channels, added over its `rows` rows of threads, to out[channel of all lanes].
__device__ __forceinline__ void add_rows(const float* sum, float* parts, unsigned rows, unsigned columns, unsigned lanes, float* out) {
  for (int i = 0; i < WIDTH; i++) parts[threadIdx.x * WIDTH + i] = sum[i];
  __syncthreads();
  const unsigned channels = columns * WIDTH;
  for (unsigned channel = threadIdx.x; channel < channels; channel += THREADS) {
    if (blockIdx.y * columns + channel / WIDTH >= lanes) continue;
    float total = 0;
    for (unsigned r = 0; r < rows; r++) total += parts[r * channels + channel];
    out[blockIdx.y * channels + channel] = total;
  }
  __syncthreads();
}

// out = gradient where y > 0, else 0 (as it is where y is null), and the sum of out over pixels in sums[blockIdx.x][channel].
// A block has THREADS / columns rows of threads, `columns` lanes side by side; blockIdx.y counts such stripes of lanes.
// gradient and y have strides from pixel to pixel; out is dense and may be null where y is.
extern "C" __global__ void mask_and_sum(const Lane* gradient, unsigned gradient_pixel, const Lane* y, unsigned y_pixel, Lane* out,
                                        float* sums, unsigned pixels, unsigned lanes, unsigned columns) {
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
}

// The upper left of the window of x [.., height + 2, width + 2] that gives output pixel `pixel` of [.., height, width].
__device__ __forceinline__ const Scalar* window_of(const Scalar* x, unsigned pixel, unsigned height, unsigned width) {
  const unsigned column = pixel % width, image_row = pixel / width;
  return x + (image_row + image_row / height * 2) * (width + 2) + column;
}

// relu(w * x + bias), the 3x3 convolution of one channel x; weights[tap][lane]. A block's threads as in mask_and_sum, each with the
// weights of its lane in registers.
extern "C" __global__ void first_layer(const Scalar* x, const Floats* weights, const Floats* bias, Lane* y, unsigned pixels, unsigned lanes,
                                       unsigned columns, unsigned height, unsigned width) {
  const unsigned rows = THREADS / columns;
  const unsigned row = threadIdx.x / columns, lane = blockIdx.y * columns + threadIdx.x % columns;
  if (row >= rows || lane >= lanes) return;
  Floats taps[9];
#pragma unroll
  for (int k = 0; k < 9; k++) taps[k] = weights[k * lanes + lane];
  const Floats start = bias[lane];
  for (unsigned pixel = blockIdx.x * rows + row; pixel < pixels; pixel += gridDim.x * rows) {
    const Scalar* window = window_of(x, pixel, height, width);
    Floats sum = start;
#pragma unroll
    for (int k = 0; k < 9; k++) {
      const float value = to_float(window[k / 3 * (width + 2) + k % 3]);
#pragma unroll
      for (int i = 0; i < WIDTH; i++) sum.value[i] += value * taps[k].value[i];
    }
    Lane out;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) out.value[i] = from_float(relu(sum.value[i]));
    y[pixel * lanes + lane] = out;
  }
}

// The gradients of first_layer's weights (sums[blockIdx.x][tap][channel]) and of its bias (behind them, as a tenth tap), from the gradient
// of its output y, which counts as 0 where y is. Both are dense.
extern "C" __global__ void first_layer_gradient(const Lane* gradient, const Lane* y, const Scalar* x, float* sums, unsigned pixels,
                                                unsigned lanes, unsigned columns, unsigned height, unsigned width) {
  __shared__ float parts[THREADS * WIDTH];
  const unsigned rows = THREADS / columns;
  const unsigned row = threadIdx.x / columns, lane = blockIdx.y * columns + threadIdx.x % columns;
  float sum[10][WIDTH] = {};
  if (row < rows && lane < lanes) {
    for (unsigned pixel = blockIdx.x * rows + row; pixel < pixels; pixel += gridDim.x * rows) {
      const Lane above = gradient[pixel * lanes + lane], output = y[pixel * lanes + lane];
      const Scalar* window = window_of(x, pixel, height, width);
      float g[WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) g[i] = to_float(output.value[i]) <= 0 ? 0 : to_float(above.value[i]);
#pragma unroll
      for (int k = 0; k < 10; k++) {
        const float value = k < 9 ? to_float(window[k / 3 * (width + 2) + k % 3]) : 1;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum[k][i] += g[i] * value;
      }
    }
  }
#pragma unroll
  for (int k = 0; k < 10; k++) add_rows(sum[k], parts, rows, columns, lanes, sums + (blockIdx.x * 10 + k) * lanes * WIDTH);
}

struct Largest {
  float value;
  int place;
};

// The largest of four, the first of equals; NaN is largest, as in libtorch.
__device__ __forceinline__ Largest largest(const float* x) {
  Largest result = {x[0], 0};
  for (int k = 1; k < 4; k++)
    if (x[k] > result.value || x[k] != x[k]) result = {x[k], k};
  return result;
}

// 2x2 max pooling of x [.., height, width, lanes], both even; `count` lanes of pooled.
extern "C" __global__ void max_pool(const Lane* x, Lane* pooled, unsigned count, unsigned lanes, unsigned height, unsigned width) {
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

// The gradient of x, output of a ReLU, from those of its pooling and of its crop, which starts at (top, left); either may be null.
// A thread does one lane of one window; `count` of them. Both gradients have strides.
extern "C" __global__ void pool_crop_gradient(const Lane* x, const Lane* pooled, unsigned pooled_image, unsigned pooled_row,
                                              unsigned pooled_pixel, const Lane* crop, unsigned crop_image, unsigned crop_row,
                                              unsigned crop_pixel, Lane* out, unsigned count, unsigned lanes, unsigned height,
                                              unsigned width, unsigned top, unsigned left, unsigned crop_height, unsigned crop_width) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned lane = i % lanes, window = i / lanes;
    const unsigned column = window % (width / 2), row = window / (width / 2) % (height / 2), image = window / (width / 2) / (height / 2);
    const unsigned first = ((image * height + row * 2) * width + column * 2) * lanes + lane;
    const unsigned places[4] = {first, first + lanes, first + width * lanes, first + (width + 1) * lanes};
    Lane four[4], gradients[4];
    for (int k = 0; k < 4; k++) four[k] = x[places[k]];
    for (int k = 0; k < 4; k++) {
      // Outside the crop the difference wraps around to a large number.
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
      // Compared with, not indexed by: registers have no index.
      for (int k = 0; k < 4; k++) {
        Scalar& g = gradients[k].value[c];
        if (k == place) g = from_float(to_float(g) + to_float(above.value[c]));
        if (values[k] <= 0) g = 0;
      }
    }
    for (int k = 0; k < 4; k++) out[places[k]] = gradients[k];
  }
}

constexpr int MOST_WEIGHTS = 32;

// The weights of gpu/adam.h, place by place, and the number of lanes up to the end of each.
struct Weights {
  Floats* master[MOST_WEIGHTS];
  const Lane* gradient[MOST_WEIGHTS];
  Floats* exp_avg[MOST_WEIGHTS];
  Floats* exp_avg_sq[MOST_WEIGHTS];
  Lane* working[MOST_WEIGHTS];
  unsigned end[MOST_WEIGHTS];
};

struct AdamOptions {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// One step of Adam for `count` lanes, unless *found_inf is not 0. `step` is the 1-based step number.
extern "C" __global__ void adam(Weights weights, const float* step, const float* found_inf, const float* inverse_scale, unsigned count,
                                AdamOptions options) {
  // 1 - beta^step, near 1 - 1, needs 64 bits; once a block.
  __shared__ float step_size, root;
  if (*found_inf != 0) return;
  if (threadIdx.x == 0) {
    step_size = static_cast<float>(options.learning_rate / (1 - pow(options.beta1, static_cast<double>(*step))));
    root = static_cast<float>(sqrt(1 - pow(options.beta2, static_cast<double>(*step))));
  }
  __syncthreads();
  const float unscale = *inverse_scale, decay = static_cast<float>(options.weight_decay), epsilon = static_cast<float>(options.epsilon);
  const float beta1 = static_cast<float>(options.beta1), beta2 = static_cast<float>(options.beta2);
  const float rest1 = static_cast<float>(1 - options.beta1), rest2 = static_cast<float>(1 - options.beta2);
  unsigned weight = 0, start = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    // A thread's lanes only go up.
    while (i >= weights.end[weight]) start = weights.end[weight++];
    const unsigned lane = i - start;
    const Lane gradient = weights.gradient[weight][lane];
    Floats master = weights.master[weight][lane], m = weights.exp_avg[weight][lane], v = weights.exp_avg_sq[weight][lane];
    Lane working;
#pragma unroll
    for (int c = 0; c < WIDTH; c++) {
      const float g = to_float(gradient.value[c]) * unscale + master.value[c] * decay;
      m.value[c] = m.value[c] * beta1 + g * rest1;
      v.value[c] = v.value[c] * beta2 + g * g * rest2;
      master.value[c] -= step_size * m.value[c] / (sqrtf(v.value[c]) / root + epsilon);
      working.value[c] = from_float(master.value[c]);
    }
    weights.master[weight][lane] = master;
    weights.exp_avg[weight][lane] = m;
    weights.exp_avg_sq[weight][lane] = v;
    weights.working[weight][lane] = working;
  }
}
