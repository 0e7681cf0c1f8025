// The Reducer of PyTorch's DistributedDataParallel: it averages gradients over the ranks, a bucket at a time, while the
// backward pass makes the next ones.
#pragma once
#include <vector>

#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace unet {

c10d::Reducer make_reducer(const c10::intrusive_ptr<c10d::ProcessGroup>&, const std::vector<at::Tensor>& parameters);

// Prepares the reducer for the next forward pass.
void before_forward(c10d::Reducer&);

}  // namespace unet
