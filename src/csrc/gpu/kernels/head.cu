// The head, a 1x1 convolution to two classes (gpu/few_channels.h).

// The logits of a pixel, or their gradient.
struct alignas(2 * sizeof(Scalar)) Pair {
  Scalar value[2];
};

// The number of pixels that a row of threads of `head` does at a time.
constexpr unsigned HEAD_PIXELS = 4;

// logits = weights * x + bias, for `pixels` pixels. The order of the weights is [class][lane]. A row of `columns`
// threads reads adjacent lanes of a pixel, and one thread adds up what they found.
extern "C" __global__ void head(const Lane* x, const Floats* weights, const float* bias, Pair* logits, unsigned pixels,
                                unsigned lanes, unsigned columns) {
  // An odd distance from pixel to pixel, so that threads which read one after the other use different banks. It is
  // largest in relation to `columns` where that is 2.
  __shared__ float parts[HEAD_PIXELS * 2 * THREADS * 3 / 2];
  const unsigned rows = THREADS / columns, row = threadIdx.x / columns, column = threadIdx.x % columns;
  const unsigned distance = columns | 1, step = rows * HEAD_PIXELS;
  for (unsigned start = blockIdx.x * step; start < pixels; start += gridDim.x * step) {
    if (row < rows) {
      float sum[HEAD_PIXELS][2] = {};
      for (unsigned lane = column; lane < lanes; lane += columns) {
        Lane values[HEAD_PIXELS];
#pragma unroll
        for (int p = 0; p < HEAD_PIXELS; p++) {
          const unsigned pixel = start + p * rows + row;
          values[p] = pixel < pixels ? x[pixel * lanes + lane] : Lane{};
        }
        const Floats to_first = weights[lane], to_second = weights[lanes + lane];
#pragma unroll
        for (int p = 0; p < HEAD_PIXELS; p++)
#pragma unroll
          for (int i = 0; i < WIDTH; i++) {
            const float value = to_float(values[p].value[i]);
            sum[p][0] += value * to_first.value[i];
            sum[p][1] += value * to_second.value[i];
          }
      }
#pragma unroll
      for (int p = 0; p < HEAD_PIXELS; p++)
#pragma unroll
        for (int k = 0; k < 2; k++) parts[((p * rows + row) * 2 + k) * distance + column] = sum[p][k];
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < step && start + i < pixels; i += THREADS) {
      float first = bias[0], second = bias[1];
      for (unsigned c = 0; c < columns; c++) {
        first += parts[i * 2 * distance + c];
        second += parts[(i * 2 + 1) * distance + c];
      }
      logits[start + i] = Pair{{from_float(first), from_float(second)}};
    }
    __syncthreads();
  }
}

// The gradients of x, of the weights and of the bias, from `gradient`, the gradient of the logits. out, the gradient of
// x, is 0 where x is 0. The order of the gradients of the weights is [class][channel]; they go to
// `weight_gradient` or, in the dtype of x, to `narrow_gradient`; the other is null. The sums of each block go to
// sums[blockIdx.x][class][channel]; the third class has the sums for the bias in its first two channels. Threads divide
// the work as in mask_and_sum.
extern "C" __global__ void head_gradient(const Pair* gradient, const Lane* x, const Floats* weights, Lane* out,
                                         float* sums, float* weight_gradient, Scalar* narrow_gradient, float* bias,
                                         unsigned pixels, unsigned lanes, unsigned columns) {
  __shared__ float parts[THREADS * WIDTH];
  const unsigned rows = THREADS / columns;
  const unsigned row = threadIdx.x / columns, lane = blockIdx.y * columns + threadIdx.x % columns;
  float sum[3][WIDTH] = {};
  if (row < rows && lane < lanes) {
    const Floats to_first = weights[lane], to_second = weights[lanes + lane];
    for (unsigned pixel = blockIdx.x * rows + row; pixel < pixels; pixel += gridDim.x * rows) {
      const Pair above = gradient[pixel];
      const float first = to_float(above.value[0]), second = to_float(above.value[1]);
      if (lane == 0) {
        sum[2][0] += first;
        sum[2][1] += second;
      }
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
  for (int k = 0; k < 3; k++)
    add_rows(sum[k], parts, rows, columns, lanes, sums + (blockIdx.x * 3 + k) * lanes * WIDTH);
  const WeightGradient to{weight_gradient, narrow_gradient};
  add_blocks(sums, parts, 3, columns, lanes, [=](unsigned k, unsigned channel, float total) {
    if (k < 2)
      write_gradient(to, k * lanes * WIDTH + channel, total);
    else if (channel < 2)
      bias[channel] = total;
  });
}
