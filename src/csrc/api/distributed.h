// PyTorch's store, process groups and gradient reducer (distributed/).
#pragma once
#include "api/ffi.h"

// A store of keys and values that all ranks reach at `host`:`port`; this process serves it if `is_server`. `prefix`
// separates our keys if another program serves the store, else it is empty. Waits for the server, and the server waits
// for `size` ranks, for `timeout_ms` at most. The same limit holds for every later call on the store and its groups.
typedef struct unet_store unet_store;
UNET_API int32_t unet_store_new(unet_store** out, const char* host, uint16_t port, int32_t is_server,
                                const char* prefix, int32_t size, int64_t timeout_ms);
UNET_API void unet_store_free(unet_store* store);
UNET_API int32_t unet_store_set(unet_store* store, const char* key, const uint8_t* bytes, size_t count);
// The value of `key` as a new u8 tensor. Waits until there is one.
UNET_API int32_t unet_store_get(unet_store* store, const char* key, at::Tensor** out);

// The ranks that met at `store`, connected by NCCL if `on_cuda`, else by Gloo. All ranks call the same functions in the
// same order.
typedef struct unet_group unet_group;
UNET_API int32_t unet_group_new(unet_group** out, const unet_store* store, int32_t rank, int32_t size, int32_t on_cuda);
UNET_API void unet_group_free(unet_group* group);
// Ends the connections after the last exchange, which all ranks have made. Without this call NCCL warns at the end.
UNET_API int32_t unet_group_shut_down(unet_group* group);
// Copies rank 0's values to all ranks, in place.
UNET_API int32_t unet_group_broadcast(unet_group* group, size_t count, at::Tensor* const* tensors);
// Replaces a contiguous tensor by its sum over the ranks.
UNET_API int32_t unet_group_all_reduce_sum(unet_group* group, at::Tensor* tensor);
// Copies every rank's `tensor` to rank 0, into its `count` tensors `out`, in the order of ranks. `count` is 0 on the
// other ranks.
UNET_API int32_t unet_group_gather(unet_group* group, const at::Tensor* tensor, size_t count, at::Tensor* const* out);

// Averages the gradients of `params` over the ranks while the backward pass runs (distributed/reducer.h). Each step
// calls `before_forward` and `before_backward`.
typedef struct unet_reducer unet_reducer;
UNET_API int32_t unet_reducer_new(unet_reducer** out, unet_group* group, size_t count, at::Tensor* const* params);
UNET_API void unet_reducer_free(unet_reducer* reducer);
UNET_API int32_t unet_reducer_before_forward(unet_reducer* reducer);
UNET_API int32_t unet_reducer_before_backward(unet_reducer* reducer);
