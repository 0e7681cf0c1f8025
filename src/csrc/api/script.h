// TorchScript modules. `tch` can load and run them, but not make one.
#pragma once
#include "api/ffi.h"

// Writes a TorchScript module to `path`. It has `count` parameters with their `names`, in which dots separate modules;
// the method `forward`, whose source is `program`; and the text file `extra_name`.
UNET_API int32_t unet_save_script(const char* path, const char* program, size_t count, const char* const* names,
                                  at::Tensor* const* parameters, const char* extra_name, const char* extra_text);
