// The head, a 1x1 convolution to two classes (gpu/few_channels.h).

// The logits of a pixel, or their gradient.
struct alignas(2 * sizeof(Scalar)) Pair {
  Scalar value[2];
};

// logits = weights * x + bias, for `pixels` pixels. The order of the weights is [class][lane].
extern "C" __global__ void head(const Lane* x, const Floats* weights, const float* bias, Pair* logits, unsigned pixels,
                                unsigned lanes) {
  for (unsigned pixel = blockIdx.x * blockDim.x + threadIdx.x; pixel < pixels; pixel += gridDim.x * blockDim.x) {
    float first = bias[0], second = bias[1];
    for (unsigned lane = 0; lane < lanes; lane++) {
      const Lane values = x[pixel * lanes + lane];
      const Floats to_first = weights[lane], to_second = weights[lanes + lane];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        const float value = to_float(values.value[i]);
        first += value * to_first.value[i];
        second += value * to_second.value[i];
      }
    }
    logits[pixel] = Pair{{from_float(first), from_float(second)}};
  }
}

// The gradients of x and of the weights, from `gradient`, the gradient of the logits. out, the gradient of x, is 0
// where x is 0. The sums of each block for the weights go to sums[blockIdx.x][class][channel]. Threads divide the work
// as in mask_and_sum.
extern "C" __global__ void head_gradient(const Pair* gradient, const Lane* x, const Floats* weights, Lane* out,
                                         float* sums, unsigned pixels, unsigned lanes, unsigned columns) {
  __shared__ float parts[THREADS * WIDTH];
  const unsigned rows = THREADS / columns;
  const unsigned row = threadIdx.x / columns, lane = blockIdx.y * columns + threadIdx.x % columns;
  float sum[2][WIDTH] = {};
  if (row < rows && lane < lanes) {
    const Floats to_first = weights[lane], to_second = weights[lanes + lane];
    for (unsigned pixel = blockIdx.x * rows + row; pixel < pixels; pixel += gridDim.x * rows) {
      const Pair above = gradient[pixel];
      const float first = to_float(above.value[0]), second = to_float(above.value[1]);
      Lane values = x[pixel * lanes + lane];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        const float value = to_float(values.value[i]);
        sum[0][i] += first * value;
        sum[1][i] += second * value;
        values.value[i] =
            value <= 0 ? from_float(0) : from_float(first * to_first.value[i] + second * to_second.value[i]);
      }
      out[pixel * lanes + lane] = values;
    }
  }
#pragma unroll
  for (int k = 0; k < 2; k++)
    add_rows(sum[k], parts, rows, columns, lanes, sums + (blockIdx.x * 2 + k) * lanes * WIDTH);
}
