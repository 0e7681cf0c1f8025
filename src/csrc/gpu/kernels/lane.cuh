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
// `parts` has THREADS * WIDTH floats.
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

// The most stripes of lanes (blockIdx.y) that a kernel which adds up over blocks has.
constexpr unsigned MAX_STRIPES = 64;

// For each stripe the number of its blocks that have written their sums. The last block sets it back to 0, so that the
// next kernel finds it as this one did. Kernels of a device run one after another, on one stream.
__device__ unsigned blocks_done[MAX_STRIPES];

// Whether this block is the last of its stripe to come here. If so, it sees all that the others wrote before.
__device__ __forceinline__ bool is_last_block() {
  __shared__ bool is_last;
  // What each thread wrote must be visible before the block counts as done, and be read after it was counted.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicInc(&blocks_done[blockIdx.y], gridDim.x - 1) == gridDim.x - 1;
  __syncthreads();
  __threadfence();
  return is_last;
}

struct alignas(16) Quad {
  float value[4];
};

// In the last block of a stripe: write(tap, channel, total) for each tap and each channel of the stripe, with the total
// over blocks of sums[block][tap][channel]. The order of the additions does not depend on which block is last. `parts`
// has THREADS * 4 floats.
template <class Write>
__device__ __forceinline__ void add_blocks(const float* sums, float* parts, unsigned taps, unsigned columns,
                                           unsigned lanes, Write write) {
  if (!is_last_block()) return;
  const unsigned first = blockIdx.y * columns, own = lanes - first < columns ? lanes - first : columns;
  const unsigned quads = own * (WIDTH / 4), count = taps * quads, row = lanes * (WIDTH / 4);
  // A thread adds four channels. If there are fewer of these than threads, groups of threads share the blocks.
  const unsigned width = count < THREADS ? count : THREADS, groups = THREADS / width;
  const unsigned group = threadIdx.x / width, place = threadIdx.x % width;
  const Quad* all = reinterpret_cast<const Quad*>(sums) + first * (WIDTH / 4);
  for (unsigned start = 0; start < count; start += width) {
    const unsigned index = start + place, tap = index / quads, quad = index % quads;
    const bool takes_part = group < groups && index < count;
    Quad total = {};
    if (takes_part) {
#pragma unroll 8
      for (unsigned block = group; block < gridDim.x; block += groups) {
        const Quad sum = all[(block * taps + tap) * row + quad];
        for (int i = 0; i < 4; i++) total.value[i] += sum.value[i];
      }
      for (int i = 0; i < 4; i++) parts[threadIdx.x * 4 + i] = total.value[i];
    }
    __syncthreads();
    if (takes_part && group == 0) {
      for (unsigned other = 1; other < groups; other++)
        for (int i = 0; i < 4; i++) total.value[i] += parts[(other * width + place) * 4 + i];
      for (int i = 0; i < 4; i++) write(tap, first * WIDTH + quad * 4 + i, total.value[i]);
    }
    __syncthreads();
  }
}

// Where the gradient of a weight goes: as fp32, or in the dtype of activations. One of them is null.
struct WeightGradient {
  float* fp32;
  Scalar* narrow;
};

__device__ __forceinline__ void write_gradient(WeightGradient gradient, unsigned index, float value) {
  if (gradient.fp32)
    gradient.fp32[index] = value;
  else
    gradient.narrow[index] = from_float(value);
}
