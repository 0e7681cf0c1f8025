// CUDA graphs. The functions are in gpu/cuda/cuda_graph.cpp; without CUDA they fail (gpu/no_cuda/stubs.cpp).
#pragma once
#include "api/ffi.h"

// What is launched on the current stream between begin and end, autograd's threads included, is recorded and not run.
// If the capture fails in between, the caller abandons it. In both cases the caller frees the graph.
UNET_API int32_t unet_cuda_graph_begin(void** graph);
UNET_API int32_t unet_cuda_graph_end(void* graph);
UNET_API void unet_cuda_graph_abandon(void* graph);
// Launches the graph on the current stream, with the present seed of libtorch's default generator. Does not wait for
// it.
UNET_API int32_t unet_cuda_graph_replay(void* graph);
UNET_API void unet_cuda_graph_free(void* graph);
