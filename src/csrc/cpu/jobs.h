// What all layers of the CPU need: threads, work buffers that stay, and names in the profiler's trace.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

// Names the rest of the scope in the profiler's trace (`--profile`), as libtorch's operations do themselves.
#define UNET_PROFILED(name) RECORD_FUNCTION("unet::" name, c10::ArrayRef<const c10::IValue>{})

namespace unet {

// f(0) .. f(jobs - 1) on libtorch's threads, next job to the next free thread. Jobs write disjoint results, so that
// these do not depend on which thread runs what.
template <class F>
void parallel_jobs(int64_t jobs, const F& f) {
  const int threads = at::get_num_threads();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (jobs > 1 && threads > 1)
  for (int64_t job = 0; job < jobs; ++job) f(job);
}

// Work buffers, one of each kind per thread; they grow to the largest layer seen and stay, so that a steady state
// allocates nothing.
enum class Buffer { filter, shared_rows, own_rows, products, own_filter, pixels, count };
void* buffer(Buffer which, int64_t bytes);

constexpr int64_t up_to_multiple(int64_t value, int64_t of) { return (value + of - 1) / of * of; }
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace unet
