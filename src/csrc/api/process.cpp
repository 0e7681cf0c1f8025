// Settings and the end of the process.
#include "api/process.h"

#include <cstdio>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

void unet_keep_freed_memory(void) {
#if defined(__GLIBC__)
  // By default glibc maps each large tensor afresh and unmaps it when freed, so every activation of
  // every step is paged in again: about a sixth of the time of a step on the CPU.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

void unet_exit(int32_t code) {
  std::fflush(nullptr);
  std::_Exit(code);
}
