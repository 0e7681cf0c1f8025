// The Reducer of PyTorch's DistributedDataParallel for Rust: it averages gradients over the ranks, a bucket at a time, while the
// backward pass makes the next ones.
#include "process_group.h"

#include <unordered_map>

#include <torch/csrc/distributed/c10d/reducer.hpp>

struct unet_reducer {
  c10d::Reducer reducer;
};

int32_t unet_reducer_new(unet_reducer **out, unet_group *group, size_t count, at::Tensor *const *params) {
  return unet::guard([&] {
    // Sizes as in PyTorch: the gradients that are ready first start to travel early.
    constexpr int64_t first_bytes = c10d::kDefaultFirstBucketBytes, bytes = c10d::kDefaultBucketBytesCap;
    std::vector<at::Tensor> parameters;
    for (size_t i = 0; i < count; i++) parameters.push_back(*params[i]);
    c10d::verify_params_across_processes(group->group, parameters, std::nullopt);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(parameters, {size_t(first_bytes), size_t(bytes)});
    std::vector<int64_t> caps(limits.begin(), limits.end());
    // Gradients become ready from the last parameter to the first.
    std::reverse(buckets.begin(), buckets.end());
    std::reverse(caps.begin(), caps.end());
    *out = new unet_reducer{c10d::Reducer(parameters, buckets, group->group, /*expect_sparse_gradients=*/std::vector<bool>(count, false),
                                          bytes, /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, /*param_names=*/{},
                                          first_bytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, caps)};
  });
}

void unet_reducer_free(unet_reducer *reducer) { delete reducer; }

int32_t unet_reducer_before_forward(unet_reducer *reducer) {
  return unet::guard([&] {
    reducer->reducer.prepare_for_forward();
    // After the first step: buckets in the order in which gradients did become ready.
    reducer->reducer.rebuild_buckets();
  });
}

int32_t unet_reducer_before_backward(unet_reducer *reducer) {
  return unet::guard([&] { reducer->reducer.prepare_for_backward({}); });
}
