// What all CPU layers share: parallel loops, work buffers, and names in the profiler's trace.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

// Names the rest of the scope in the profiler's trace (`--profile`), as libtorch does for its own operations.
#define UNET_PROFILED(name) RECORD_FUNCTION("unet::" name, c10::ArrayRef<const c10::IValue>{})

namespace unet {

// Runs f(0) .. f(jobs - 1) on libtorch's threads; a free thread takes the next job. Jobs must write to disjoint places,
// so that results do not depend on which thread runs which job.
template <class F>
void parallel_jobs(int64_t jobs, const F& f) {
  const int threads = at::get_num_threads();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (jobs > 1 && threads > 1)
  for (int64_t job = 0; job < jobs; ++job) f(job);
}

// Each thread has one work buffer of each kind. A buffer grows to the largest layer so far and stays, so that later
// steps allocate nothing.
enum class Buffer { filter, shared_rows, own_rows, products, own_filter, count };
void* buffer(Buffer which, int64_t bytes);

constexpr int64_t up_to_multiple(int64_t value, int64_t of) { return (value + of - 1) / of * of; }
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace unet
