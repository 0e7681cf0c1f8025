// PyTorch's profiler (Kineto).
#pragma once
#include "api/ffi.h"

UNET_API int32_t unet_profiler_start(int32_t with_gpu);

// Ends the profiler and writes its trace, in Chrome's format, to the file `trace`. Calls `event` with `list` for every
// operation and kernel that ran: its name; whether it ran on a GPU; an id of its thread or stream; its first and last
// nanosecond, on a clock of the profiler's own.
UNET_API int32_t unet_profiler_stop(const char* trace, void* list,
                                    void (*event)(void* list, const char* name, int32_t on_gpu, uint64_t place,
                                                  uint64_t start, uint64_t end));
