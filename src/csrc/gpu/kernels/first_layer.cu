// The first convolution, of one channel: gpu/passes.h.

// The upper left of the window of x [.., height + 2, width + 2] that gives output pixel `pixel` of [.., height, width].
__device__ __forceinline__ const Scalar* window_of(const Scalar* x, unsigned pixel, unsigned height, unsigned width) {
  const unsigned column = pixel % width, image_row = pixel / width;
  return x + (image_row + image_row / height * 2) * (width + 2) + column;
}

// relu(w * x + bias), the 3x3 convolution of one channel x; weights[tap][lane]. A block's threads as in mask_and_sum,
// each with the weights of its lane in registers.
extern "C" __global__ void first_layer(const Scalar* x, const Floats* weights, const Floats* bias, Lane* y,
                                       unsigned pixels, unsigned lanes, unsigned columns, unsigned height,
                                       unsigned width) {
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

// The gradients of first_layer's weights (sums[blockIdx.x][tap][channel]) and of its bias (behind them, as a tenth
// tap), from the gradient of its output y, which counts as 0 where y is. Both are dense.
extern "C" __global__ void first_layer_gradient(const Lane* gradient, const Lane* y, const Scalar* x, float* sums,
                                                unsigned pixels, unsigned lanes, unsigned columns, unsigned height,
                                                unsigned width) {
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
  for (int k = 0; k < 10; k++)
    add_rows(sum[k], parts, rows, columns, lanes, sums + (blockIdx.x * 10 + k) * lanes * WIDTH);
}
