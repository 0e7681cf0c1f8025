// Settings of CUDA devices, of cuDNN, and copies to a GPU.
#pragma once
#include "api/ffi.h"

// Loads libtorch's CUDA kernels, without which the functions of gpu/cuda/ cannot be called either. Call it before
// anything asks libtorch for a GPU, because libtorch looks once. Fails without a CUDA driver, and with a libtorch
// without CUDA.
UNET_API int32_t unet_load_cuda(void);

// Whether fp32 convolutions on a GPU may round their factors to TF32. For the whole process.
UNET_API int32_t unet_allow_tf32(int32_t allow);
UNET_API int32_t unet_tf32_is_allowed(int32_t* allowed);

// Whether cuDNN may only use kernels that give the same bits each time. For the whole process.
UNET_API int32_t unet_require_deterministic(int32_t require);

// Copies `host` to a GPU through pinned memory, without waiting. (`tch` passes pin_memory an argument that libtorch
// warns about.)
UNET_API int32_t unet_copy_to_gpu(at::Tensor** out, const at::Tensor* host, int32_t device);

// Makes this device the current one. `own_stream` also replaces its current stream by one from libtorch's pool, because
// a graph cannot be captured on the default stream.
UNET_API int32_t unet_cuda_use_device(int32_t device, int32_t own_stream);

// The most bytes that tensors of this device have taken at a time, and the most that libtorch has reserved for them.
UNET_API int32_t unet_cuda_peak_bytes(int32_t device, int64_t* allocated, int64_t* reserved);
