#include "api/distributed.h"

#include <cstring>

#include <ATen/ops/empty.h>

#include "distributed/process_group.h"
#include "distributed/reducer.h"

using unet::guard;
using unet::new_tensor;

struct unet_store {
  unet::RankStore store;
};

struct unet_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};

struct unet_reducer {
  c10d::Reducer reducer;
};

namespace {
std::vector<at::Tensor> tensors_of(size_t count, at::Tensor* const* tensors) {
  std::vector<at::Tensor> list;
  for (size_t i = 0; i < count; i++) list.push_back(*tensors[i]);
  return list;
}
}  // namespace

int32_t unet_store_new(unet_store** out, const char* host, uint16_t port, int32_t is_server, const char* prefix,
                       int32_t size, int64_t timeout_ms) {
  return guard([&] {
    *out = new unet_store{unet::open_store(host, port, is_server, prefix, size, std::chrono::milliseconds(timeout_ms))};
  });
}

void unet_store_free(unet_store* store) { delete store; }

int32_t unet_store_set(unet_store* store, const char* key, const uint8_t* bytes, size_t count) {
  return guard([&] { store->store.keys->set(key, std::vector<uint8_t>(bytes, bytes + count)); });
}

int32_t unet_store_get(unet_store* store, const char* key, at::Tensor** out) {
  return guard([&] {
    const std::vector<uint8_t> value = store->store.keys->get(key);
    auto bytes = at::empty({int64_t(value.size())}, at::kByte);
    std::memcpy(bytes.data_ptr(), value.data(), value.size());
    *out = new_tensor(bytes);
  });
}

int32_t unet_group_new(unet_group** out, const unet_store* store, int32_t rank, int32_t size, int32_t on_cuda) {
  return guard([&] { *out = new unet_group{unet::join_group(store->store, rank, size, on_cuda)}; });
}

void unet_group_free(unet_group* group) { delete group; }

int32_t unet_group_shut_down(unet_group* group) {
  return guard([&] { group->group->shutdown(); });
}

int32_t unet_group_broadcast(unet_group* group, size_t count, at::Tensor* const* tensors) {
  return guard([&] { unet::broadcast(*group->group, tensors_of(count, tensors)); });
}

int32_t unet_group_all_reduce_sum(unet_group* group, at::Tensor* tensor) {
  return guard([&] { unet::all_reduce_sum(*group->group, *tensor); });
}

int32_t unet_group_gather(unet_group* group, const at::Tensor* tensor, size_t count, at::Tensor* const* out) {
  return guard([&] { unet::gather(*group->group, *tensor, tensors_of(count, out)); });
}

int32_t unet_reducer_new(unet_reducer** out, unet_group* group, size_t count, at::Tensor* const* params) {
  return guard([&] { *out = new unet_reducer{unet::make_reducer(group->group, tensors_of(count, params))}; });
}

void unet_reducer_free(unet_reducer* reducer) { delete reducer; }

int32_t unet_reducer_before_forward(unet_reducer* reducer) {
  return guard([&] { unet::before_forward(reducer->reducer); });
}

int32_t unet_reducer_before_backward(unet_reducer* reducer) {
  return guard([&] { reducer->reducer.prepare_for_backward({}); });
}
