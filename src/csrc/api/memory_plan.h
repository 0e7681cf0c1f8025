// Planned memory of a step on the CPU (cpu/memory_plan/).
#pragma once
#include "api/ffi.h"

// A plan records the tensors that this thread makes between begin and end. The first completed step fixes a place for
// each; later steps get these places. Calls of begin and end come in pairs on one thread, properly nested. A plan may
// be freed while its tensors live.
UNET_API int32_t unet_cpu_plan_new(void** plan);
UNET_API int32_t unet_cpu_plan_begin(void* plan);
UNET_API int32_t unet_cpu_plan_end(void* plan, int32_t completed);
UNET_API void unet_cpu_plan_free(void* plan);

// The last step's requests for memory, the requests that had a place in the plan and could not get it, and the bytes of
// the arena.
UNET_API void unet_cpu_plan_statistics(const void* plan, int64_t* requests, int64_t* misses, int64_t* bytes);

// Offsets of `count` tensors that live from event `born` to event `died`, and the bytes that they take together
// (cpu/memory_plan/layout.h).
UNET_API int32_t unet_cpu_lay_out(size_t count, const int64_t* bytes, const int64_t* born, const int64_t* died,
                                  int64_t* offsets, int64_t* total);
