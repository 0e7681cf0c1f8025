// PyTorch's store and process groups (c10d) for Rust.
#include "process_group.h"

#include <cstdlib>
#include <cstring>

#include <ATen/ops/empty.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "backends.h"

using c10d::ProcessGroup;

struct unet_store {
  c10::intrusive_ptr<c10d::Store> store;
  std::string host;
  std::chrono::milliseconds timeout;
};

int32_t unet_store_new(unet_store **out, const char *host, uint16_t port, int32_t is_server, const char *prefix, int32_t size,
                       int64_t timeout_ms) {
  return unet::guard([&] {
    // A lost connection is told with a C++ stack, before the error that says it for people.
    if (std::getenv("TORCH_CPP_LOG_LEVEL")) {
      c10::initLogging();
    } else {
      FLAGS_caffe2_log_level = 2;  // errors only
    }
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    // Where another program serves the store, it counts the workers.
    if (!*prefix) options.numWorkers = size;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(host, options);
    if (*prefix) store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    *out = new unet_store{store, host, options.timeout};
  });
}

void unet_store_free(unet_store *store) { delete store; }

int32_t unet_store_set(unet_store *store, const char *key, const uint8_t *bytes, size_t count) {
  return unet::guard([&] { store->store->set(key, std::vector<uint8_t>(bytes, bytes + count)); });
}

int32_t unet_store_get(unet_store *store, const char *key, at::Tensor **out) {
  return unet::guard([&] {
    const std::vector<uint8_t> value = store->store->get(key);
    auto bytes = at::empty({int64_t(value.size())}, at::kByte);
    std::memcpy(bytes.data_ptr(), value.data(), value.size());
    *out = new at::Tensor(bytes);
  });
}

int32_t unet_group_new(unet_group **out, const unet_store *store, int32_t rank, int32_t size, int32_t on_cuda) {
  return unet::guard([&] {
    const unet::Meeting meeting{store->store, store->host, rank, size, store->timeout};
    auto group = c10::make_intrusive<ProcessGroup>(store->store, rank, size);
    const auto type = on_cuda ? ProcessGroup::BackendType::NCCL : ProcessGroup::BackendType::GLOO;
    group->setBackend(on_cuda ? at::kCUDA : at::kCPU, type, on_cuda ? unet::nccl(meeting) : unet::gloo(meeting));
    group->setDefaultBackend(type);
    *out = new unet_group{group};
  });
}

void unet_group_free(unet_group *group) { delete group; }

int32_t unet_group_broadcast(unet_group *group, size_t count, at::Tensor *const *tensors) {
  return unet::guard([&] {
    for (size_t i = 0; i < count; i++) {
      const at::Tensor tensor = tensors[i]->detach();
      // Backends take contiguous tensors only, and not all weights are.
      std::vector<at::Tensor> sent{tensor.contiguous()};
      group->group->broadcast(sent)->wait();
      if (!sent[0].is_same(tensor)) tensor.copy_(sent[0]);
    }
  });
}

int32_t unet_group_all_reduce_sum(unet_group *group, at::Tensor *tensor) {
  return unet::guard([&] {
    std::vector<at::Tensor> all{tensor->detach()};
    group->group->allreduce(all)->wait();
  });
}

int32_t unet_group_gather(unet_group *group, const at::Tensor *tensor, size_t count, at::Tensor *const *out) {
  return unet::guard([&] {
    std::vector<at::Tensor> input{tensor->detach().contiguous()};
    std::vector<std::vector<at::Tensor>> outputs;
    if (count) {
      auto &places = outputs.emplace_back();
      for (size_t i = 0; i < count; i++) places.push_back(*out[i]);
    }
    group->group->gather(outputs, input)->wait();
  });
}
