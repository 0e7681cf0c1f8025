// Settings and the end of the process.
#pragma once
#include "api/ffi.h"

// Makes glibc keep freed memory instead of handing it back to the system. Does nothing with another C library.
UNET_API void unet_keep_freed_memory(void);

// Ends the process without running destructors.
UNET_API void unet_exit(int32_t code);
