#include "api/process.h"

#include <cstdio>
#include <cstdlib>

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

void unet_exit(int32_t code) {
  std::fflush(nullptr);
  std::_Exit(code);
}
