// What the kernels share. They are compiled for one dtype at a time: SCALAR_HALF, SCALAR_BFLOAT16 or SCALAR_FLOAT.
//
// build.rs puts this file and the .cu files together, and cuda/nvrtc.cpp compiles the text at run time. So nothing may
// be included. tests/cuda_kernels/ compiles the kernels as C++ for the CPU and compares them with plain loops.
//
// Tensors are channels-last: the channels of a pixel are adjacent. A thread moves 16 bytes of them, a lane, at a time.
// `lanes` is the number of lanes per pixel; strides and offsets count lanes too. Memory limits the speed of nearly all
// kernels. So each byte is touched once, and neighbouring threads touch neighbouring places.

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
  // Rounds to nearest, ties to even.
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

// ReLU that keeps NaN, as libtorch's does.
__device__ __forceinline__ float relu(float x) { return x < 0 ? 0 : x; }

// The values of a lane in fp32.
struct alignas(16) Floats {
  float value[WIDTH];
};

// Adds the sums of a block's threads, each of WIDTH channels, over its `rows` rows of threads, to out[channel].
__device__ __forceinline__ void add_rows(const float* sum, float* parts, unsigned rows, unsigned columns,
                                         unsigned lanes, float* out) {
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
