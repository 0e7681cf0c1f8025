// C functions for what `tch` 0.24 does not bind. One file per subject, one function per call; no
// policy here. Each returns 0, or -1 with a text for `unet_take_error`. Integers have a fixed width
// so that this header and `src/native.rs` agree; tensors are `at::Tensor *`, owned by the caller.
#pragma once
#include <cstddef>
#include <cstdint>

#include <ATen/core/Tensor.h>

#define UNET_API extern "C" __attribute__((visibility("default")))

// Copies the last error of this thread, cut to `size` bytes with the final NUL.
UNET_API void unet_take_error(char *text, size_t size);

// One Adam step over `count` tensors, in place. `step` is the 1-based step number as a float32 scalar tensor; with `*found_inf` != 0
// nothing is changed. `weight_decay` is added to the gradient. Where `working` is not null it gets the new values too; a gradient of its
// dtype is 1 / `*inverse_scale` times too large (gpu/adam.h).
UNET_API int32_t unet_adam(size_t count, at::Tensor *const *params, at::Tensor *const *grads, at::Tensor *const *exp_avgs,
                           at::Tensor *const *exp_avg_sqs, at::Tensor *const *working, const at::Tensor *step,
                           const at::Tensor *found_inf, const at::Tensor *inverse_scale, double learning_rate, double beta1,
                           double beta2, double epsilon, double weight_decay);

// Multiplies those of `count` gradients that are not in 16 bits by `*inverse_scale` in place; sets `*found_inf` to 1 if any of all is not
// finite.
UNET_API int32_t unet_unscale(size_t count, at::Tensor *const *grads, at::Tensor *found_inf,
                              const at::Tensor *inverse_scale);

// Starts PyTorch's profiler; ends it, writes its trace (Chrome's format) to the file `trace`, and calls `event` with `list` for everything that
// ran: its name, whether it did on a GPU, an id of the thread or stream, and its first and last nanosecond on a clock of its own.
UNET_API int32_t unet_profiler_start(int32_t with_gpu);
UNET_API int32_t unet_profiler_stop(const char *trace, void *list,
                                    void (*event)(void *list, const char *name, int32_t on_gpu, uint64_t place, uint64_t start,
                                                  uint64_t end));

// Drops the gradient of `param`.
UNET_API int32_t unet_clear_grad(at::Tensor *param);

// The layers of `cpu/layers.h` on the CPU, with gradients: `*out` and `*crop` are new tensors, owned by the caller; `x2` may be null.
UNET_API int32_t unet_conv3x3_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *x2, const at::Tensor *weight,
                                   const at::Tensor *bias, int32_t below_is_relu, int32_t masked_above);
UNET_API int32_t unet_upconv_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias,
                                  int32_t below_is_relu, int32_t masked_above);
UNET_API int32_t unet_pool_and_crop(at::Tensor **pooled, at::Tensor **crop, const at::Tensor *x, int64_t height,
                                    int64_t width);

// Whether the own CUDA kernels run on the device and in the dtype of x.
UNET_API int32_t unet_gpu_has_kernels(const at::Tensor *x, int32_t *has);

// The layers of `gpu/layers.h`, with gradients; likewise. `cast_bias` may be null.
UNET_API int32_t unet_gpu_conv3x3_relu(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias,
                                       const at::Tensor *cast_bias, int32_t masked_above);
UNET_API int32_t unet_gpu_upconv_relu_join(at::Tensor **out, const at::Tensor *x, const at::Tensor *skip, const at::Tensor *weight,
                                           const at::Tensor *bias);
UNET_API int32_t unet_gpu_head(at::Tensor **out, const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias);
UNET_API int32_t unet_gpu_losses(at::Tensor **cross_entropy, at::Tensor **dice_loss, const at::Tensor *logits, const at::Tensor *labels,
                                 double epsilon);
UNET_API int32_t unet_gpu_pool_and_crop(at::Tensor **pooled, at::Tensor **crop, const at::Tensor *x, int64_t height, int64_t width);

// Compiles the CUDA kernels for compute capability `capability` (75 is 7.5); needs no GPU. `*compiled` is 0 where there is no NVRTC.
UNET_API int32_t unet_gpu_compile_kernels(int32_t capability, int32_t *compiled);

// Weights in the form that suits many predictions from inputs of the dtype of `like`, in place of the weights; undefined where the
// layer has no such form. Then the layers with them, without gradients.
UNET_API int32_t unet_conv3x3_pack(at::Tensor **out, const at::Tensor *weight, const at::Tensor *like);
UNET_API int32_t unet_conv3x3_relu_packed(at::Tensor **out, const at::Tensor *x, const at::Tensor *x2, const at::Tensor *packed,
                                          const at::Tensor *bias);
UNET_API int32_t unet_upconv_pack(at::Tensor **out, const at::Tensor *weight, const at::Tensor *like);
UNET_API int32_t unet_upconv_relu_packed(at::Tensor **out, const at::Tensor *x, const at::Tensor *packed, const at::Tensor *bias);

// Whether f32 convolutions on a GPU may round their factors to TF32.
UNET_API int32_t unet_allow_tf32(int32_t allow);
UNET_API int32_t unet_tf32_is_allowed(int32_t *allowed);

// Whether cuDNN may only use kernels that give the same bits each time.
UNET_API int32_t unet_require_deterministic(int32_t require);

// Copies `host` to a GPU by way of pinned memory, without waiting. (`tch` passes pin_memory an argument that libtorch warns of.)
UNET_API int32_t unet_copy_to_gpu(at::Tensor **out, const at::Tensor *host, int32_t device);

// Makes glibc keep freed memory instead of handing it back to the system. Does nothing elsewhere.
UNET_API void unet_keep_freed_memory(void);

// Loads libtorch's CUDA kernels, without which the functions of `cuda/` cannot be called either. To be called before libtorch is asked
// for a GPU: it looks once. Fails where there is no CUDA driver, or a libtorch without CUDA.
UNET_API int32_t unet_load_cuda(void);

// Writes a TorchScript module to `path`: `count` parameters under their names, in which dots part modules; `program`, the source of the
// method `forward`; and the file `extra_name`.
UNET_API int32_t unet_save_script(const char *path, const char *program, size_t count, const char *const *names,
                                  at::Tensor *const *parameters, const char *extra_name, const char *extra_text);

// Ends the process without running destructors.
UNET_API void unet_exit(int32_t code);

// Most bytes that tensors of this CUDA device have taken at a time, and most that libtorch has held for them.
UNET_API int32_t unet_cuda_peak_bytes(int32_t device, int64_t *allocated, int64_t *reserved);

// Planned memory of a step on the CPU (`cpu_plan.cpp`). What tensors this thread makes between begin and end is recorded in the first
// completed step of a plan and placed as it was then in later ones. Begin and end are called in pairs on one thread, properly
// nested; a plan may be freed while its tensors live.
UNET_API int32_t unet_cpu_plan_new(void **plan);
UNET_API int32_t unet_cpu_plan_begin(void *plan);
UNET_API int32_t unet_cpu_plan_end(void *plan, int32_t completed);
UNET_API void unet_cpu_plan_free(void *plan);
// Of the last step: requests for memory, and those among them that the plan had a place for and could not serve. Bytes of the arena.
UNET_API void unet_cpu_plan_statistics(const void *plan, int64_t *requests, int64_t *misses, int64_t *bytes);
// Offsets of `count` tensors that live from event `born` to event `died`; the bytes that all take together.
UNET_API int32_t unet_cpu_lay_out(size_t count, const int64_t *bytes, const int64_t *born, const int64_t *died, int64_t *offsets,
                                  int64_t *total);

// Makes this device the current one; with `own_stream` another stream than the default its current one: the default one cannot be captured.
UNET_API int32_t unet_cuda_use_device(int32_t device, int32_t own_stream);

// CUDA graphs (`cuda/graph.cpp`): what is launched on the current stream between begin and end, autograd's threads included, is
// recorded and not run. A capture that failed in between is abandoned; in any case the graph is freed.
UNET_API int32_t unet_cuda_graph_begin(void **graph);
UNET_API int32_t unet_cuda_graph_end(void *graph);
UNET_API void unet_cuda_graph_abandon(void *graph);
// Launches the graph on the current stream, with the present seed of libtorch's default generator. Does not wait for it.
UNET_API int32_t unet_cuda_graph_replay(void *graph);
UNET_API void unet_cuda_graph_free(void *graph);

// A store of keys and values that all ranks reach at `host`:`port`; this process serves it if `is_server`. `prefix`: of our keys where
// another program serves it, else empty. Waits for the server, and the server for `size` ranks, `timeout_ms` at most, which bounds
// every later call on the store and its groups too.
typedef struct unet_store unet_store;
UNET_API int32_t unet_store_new(unet_store **out, const char *host, uint16_t port, int32_t is_server, const char *prefix, int32_t size,
                                int64_t timeout_ms);
UNET_API void unet_store_free(unet_store *store);
UNET_API int32_t unet_store_set(unet_store *store, const char *key, const uint8_t *bytes, size_t count);
// The value of `key` as a new u8 tensor; waits until there is one.
UNET_API int32_t unet_store_get(unet_store *store, const char *key, at::Tensor **out);

// The processes that met at `store`, each with its `rank`: connected by NCCL if `on_cuda`, else by Gloo. All call the same functions.
typedef struct unet_group unet_group;
UNET_API int32_t unet_group_new(unet_group **out, const unet_store *store, int32_t rank, int32_t size, int32_t on_cuda);
UNET_API void unet_group_free(unet_group *group);
// Rank 0's values to all ranks, in place.
UNET_API int32_t unet_group_broadcast(unet_group *group, size_t count, at::Tensor *const *tensors);
// The sum over ranks, in place, of a contiguous tensor.
UNET_API int32_t unet_group_all_reduce_sum(unet_group *group, at::Tensor *tensor);
// Every rank's `tensor` to rank 0, into `count` tensors in the order of ranks; `count` is 0 on the others.
UNET_API int32_t unet_group_gather(unet_group *group, const at::Tensor *tensor, size_t count, at::Tensor *const *out);

// Averages the gradients of `params` over the ranks while the backward pass runs (`distributed/reducer.cpp`). Call `before_forward` and
// `before_backward` in each step.
typedef struct unet_reducer unet_reducer;
UNET_API int32_t unet_reducer_new(unet_reducer **out, unet_group *group, size_t count, at::Tensor *const *params);
UNET_API void unet_reducer_free(unet_reducer *reducer);
UNET_API int32_t unet_reducer_before_forward(unet_reducer *reducer);
UNET_API int32_t unet_reducer_before_backward(unet_reducer *reducer);

namespace unet {
// Stores the text of the exception in flight for `unet_take_error`; returns -1.
int32_t store_error() noexcept;

// Runs `body`; every C++ exception becomes a status, for Rust cannot unwind it.
template <class Body>
int32_t guard(const Body &body) noexcept {
  try {
    body();
    return 0;
  } catch (...) {
    return store_error();
  }
}
}  // namespace unet
