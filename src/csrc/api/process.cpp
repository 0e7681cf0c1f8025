#include "api/process.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include <c10/util/Exception.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

void unet_keep_freed_memory(void) {
#if defined(__GLIBC__)
  // By default glibc maps memory for each large tensor and unmaps it when the tensor is freed. Then every activation of
  // every step is paged in again, which takes a sixth of a step on the CPU.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

namespace {

std::atomic<int32_t> code_of_lost_ranks{0};
std::terminate_handler usual_end = nullptr;

// Called where an exception leaves a thread.
void end_of_uncaught() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const c10::DistError& error) {
    std::fprintf(stderr, "error: the other ranks are lost: %s\n", error.what_without_backtrace());
    unet_exit(code_of_lost_ranks);
  } catch (...) {
    // Not ours to explain.
  }
  if (usual_end) usual_end();
  std::abort();
}

}  // namespace

void unet_exit_if_ranks_are_lost(int32_t code) {
  code_of_lost_ranks = code;
  const std::terminate_handler before = std::set_terminate(end_of_uncaught);
  if (before != end_of_uncaught) usual_end = before;
}

void unet_exit(int32_t code) {
  std::fflush(nullptr);
  std::_Exit(code);
}
