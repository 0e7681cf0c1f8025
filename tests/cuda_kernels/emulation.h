// The CUDA kernels as C++ functions, for -DSCALAR_FLOAT or -DSCALAR_BFLOAT16 (float16 needs the GPU's conversions).
// `run` runs one block after the other, with a thread of the CPU for each thread of the block.
#pragma once
#include <pthread.h>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

struct Index {
  unsigned x, y;
};
static thread_local Index blockIdx, blockDim, gridDim, threadIdx;
static pthread_barrier_t barrier;

#define __device__
#define __forceinline__ inline
#define __global__
#define __shared__ static
static void __syncthreads() { pthread_barrier_wait(&barrier); }
// Blocks run one after the other, so that there is nothing to order and nobody else to count.
static void __threadfence() {}
static unsigned atomicInc(unsigned* x, unsigned most) {
  const unsigned before = *x;
  *x = before >= most ? 0 : before + 1;
  return before;
}
template <class To, class From>
static To same_bits(From x) {
  To result;
  std::memcpy(&result, &x, sizeof(result));
  return result;
}
static float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }

#include "gpu/kernels/lane.cuh"

#include "gpu/kernels/adam.cu"
#include "gpu/kernels/first_layer.cu"
#include "gpu/kernels/head.cu"
#include "gpu/kernels/loss.cu"
#include "gpu/kernels/passes.cu"

static_assert(sizeof(Lane) == 16, "a lane is 16 bytes");

template <class Kernel, class... Arguments>
void run(unsigned grid_x, unsigned grid_y, Kernel kernel, Arguments... arguments) {
  for (unsigned block = 0; block < grid_x * grid_y; block++) {
    pthread_barrier_init(&barrier, nullptr, THREADS);
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < THREADS; thread++)
      threads.emplace_back([=] {
        blockIdx = {block % grid_x, block / grid_x};
        blockDim = {THREADS, 1};
        gridDim = {grid_x, grid_y};
        threadIdx = {thread, 0};
        kernel(arguments...);
      });
    for (std::thread& thread : threads) thread.join();
    pthread_barrier_destroy(&barrier);
  }
}
