#include "distributed/reducer.h"

#include <algorithm>
#include <optional>

namespace unet {

c10d::Reducer make_reducer(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                           const std::vector<at::Tensor>& parameters) {
  // Bucket sizes as in PyTorch: the first bucket is small, so that the gradients that are ready first leave early.
  constexpr int64_t first_bytes = c10d::kDefaultFirstBucketBytes, bytes = c10d::kDefaultBucketBytesCap;
  c10d::verify_params_across_processes(group, parameters, std::nullopt);
  auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(parameters, {size_t(first_bytes), size_t(bytes)});
  std::vector<int64_t> caps(limits.begin(), limits.end());
  // Gradients become ready from the last parameter to the first.
  std::reverse(buckets.begin(), buckets.end());
  std::reverse(caps.begin(), caps.end());
  return c10d::Reducer(
      parameters, buckets, group, /*expect_sparse_gradients=*/std::vector<bool>(parameters.size(), false), bytes,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, /*param_names=*/{}, first_bytes,
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, caps);
}

void before_forward(c10d::Reducer& reducer) {
  reducer.prepare_for_forward();
  // After the first step the buckets follow the order in which gradients became ready.
  reducer.rebuild_buckets();
}

}  // namespace unet
