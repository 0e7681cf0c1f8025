// Settings and the end of the process.
#pragma once
#include "api/ffi.h"

// Makes glibc keep freed memory instead of handing it back to the system. Does nothing with another C library.
UNET_API void unet_keep_freed_memory(void);

// Whether threads that wait for each other give up their cores at once (1), or spin for some milliseconds first (0), as
// libgomp does by default.
UNET_API int32_t unet_shorten_waits(int32_t on);

// From now on an exception of the distributed engine that a thread of libtorch ends with, as NCCL's watchdog does where
// a rank is lost, is printed and ends the process with `code`. Otherwise it would abort the process.
UNET_API void unet_exit_if_ranks_are_lost(int32_t code);

// Ends the process without running destructors.
UNET_API void unet_exit(int32_t code);
