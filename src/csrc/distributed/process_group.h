// PyTorch's store and process groups (c10d).
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace unet {

// The keys and values through which ranks find each other.
struct RankStore {
  c10::intrusive_ptr<c10d::Store> keys;
  std::string host;  // of rank 0
  std::chrono::milliseconds timeout;
};

// api/distributed.h has the contract of these functions.
RankStore open_store(const std::string& host, uint16_t port, bool is_server, const std::string& prefix, int size,
                     std::chrono::milliseconds timeout);
c10::intrusive_ptr<c10d::ProcessGroup> join_group(const RankStore&, int rank, int size, bool on_cuda);
void broadcast(c10d::ProcessGroup&, const std::vector<at::Tensor>& tensors);
void all_reduce_sum(c10d::ProcessGroup&, const at::Tensor& tensor);
void gather(c10d::ProcessGroup&, const at::Tensor& tensor, const std::vector<at::Tensor>& out);

}  // namespace unet
