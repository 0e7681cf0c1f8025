#include "distributed/process_group.h"

#include <cstdlib>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "distributed/backends.h"

namespace unet {

using c10d::ProcessGroup;

RankStore open_store(const std::string& host, uint16_t port, bool is_server, const std::string& prefix, int size,
                     std::chrono::milliseconds timeout) {
  // c10d prints a lost connection with a C++ stack, besides the error that a user can read.
  if (std::getenv("TORCH_CPP_LOG_LEVEL")) {
    c10::initLogging();
  } else {
    FLAGS_caffe2_log_level = 2;  // errors only
  }
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = is_server;
  // If another program serves the store, that program counts the ranks.
  if (prefix.empty()) options.numWorkers = size;
  options.timeout = timeout;
  c10::intrusive_ptr<c10d::Store> keys = c10::make_intrusive<c10d::TCPStore>(host, options);
  if (!prefix.empty()) keys = c10::make_intrusive<c10d::PrefixStore>(prefix, keys);
  return {keys, host, timeout};
}

c10::intrusive_ptr<ProcessGroup> join_group(const RankStore& store, int rank, int size, bool on_cuda) {
  const Rendezvous rendezvous{store.keys, store.host, rank, size, store.timeout};
  auto group = c10::make_intrusive<ProcessGroup>(store.keys, rank, size);
  const auto type = on_cuda ? ProcessGroup::BackendType::NCCL : ProcessGroup::BackendType::GLOO;
  group->setBackend(on_cuda ? at::kCUDA : at::kCPU, type, on_cuda ? nccl(rendezvous) : gloo(rendezvous));
  group->setDefaultBackend(type);
  return group;
}

void broadcast(ProcessGroup& group, const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& each : tensors) {
    const at::Tensor tensor = each.detach();
    // Backends take contiguous tensors only, and not all weights are contiguous.
    std::vector<at::Tensor> sent{tensor.contiguous()};
    group.broadcast(sent)->wait();
    if (!sent[0].is_same(tensor)) tensor.copy_(sent[0]);
  }
}

void all_reduce_sum(ProcessGroup& group, const at::Tensor& tensor) {
  std::vector<at::Tensor> all{tensor.detach()};
  group.allreduce(all)->wait();
}

void gather(ProcessGroup& group, const at::Tensor& tensor, const std::vector<at::Tensor>& out) {
  std::vector<at::Tensor> input{tensor.detach().contiguous()};
  std::vector<std::vector<at::Tensor>> outputs;
  if (!out.empty()) outputs.push_back(out);
  group.gather(outputs, input)->wait();
}

}  // namespace unet
