// The first convolution, of one channel (gpu/few_channels.h).

// The upper left pixel of the window of x, [.., height + 2, width + 2], from which output pixel `pixel` of
// [.., height, width] is computed.
__device__ __forceinline__ const Scalar* window_of(const Scalar* x, unsigned pixel, unsigned height, unsigned width) {
  const unsigned column = pixel % width, image_row = pixel / width;
  return x + (image_row + image_row / height * 2) * (width + 2) + column;
}

// y = relu(3x3 convolution of x + bias). x has one channel; the order of the weights is [tap][lane]. Threads divide the
// work as in mask_and_sum. Each keeps the weights of its lane in registers.
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

// The gradients of first_layer's weights and bias, from `gradient`, the gradient of its output y, which counts as 0
// where y is 0. Both are dense. The order of the gradients of the weights is [channel][tap]; they go
// to `weights` or, in the dtype of x, to `narrow_weights`; the other is null. The sums of each block go to
// sums[blockIdx.x][tap][channel]; the tenth tap is the bias.
extern "C" __global__ void first_layer_gradient(const Lane* gradient, const Lane* y, const Scalar* x, float* sums,
                                                float* weights, Scalar* narrow_weights, float* bias, unsigned pixels,
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
  for (int k = 0; k < 10; k++)
    add_rows(sum[k], parts, rows, columns, lanes, sums + (blockIdx.x * 10 + k) * lanes * WIDTH);
  const WeightGradient to{weights, narrow_weights};
  add_blocks(sums, parts, 10, columns, lanes, [=](unsigned tap, unsigned channel, float total) {
    if (tap < 9)
      write_gradient(to, channel * 9 + tap, total);
    else
      bias[channel] = total;
  });
}
