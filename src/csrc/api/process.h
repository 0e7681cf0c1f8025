// Settings and the end of the process.
#pragma once
#include "api/ffi.h"

// Makes glibc keep freed memory instead of handing it back to the system. Does nothing with another C library.
UNET_API void unet_keep_freed_memory(void);

// Whether threads that wait for each other give up their cores at once (1), or spin for some milliseconds first (0), as
// libgomp does by default.
UNET_API int32_t unet_shorten_waits(int32_t on);

// Ends the process without running destructors.
UNET_API void unet_exit(int32_t code);
