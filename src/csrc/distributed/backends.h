// The backends of c10d that a process group may have: Gloo between CPUs, NCCL between GPUs.
#pragma once
#include <chrono>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace unet {
// What a rank needs to know to meet the others.
struct Rendezvous {
  c10::intrusive_ptr<c10d::Store> store;
  std::string host;  // of rank 0
  int rank, size;
  std::chrono::milliseconds timeout;
};

c10::intrusive_ptr<c10d::Backend> gloo(const Rendezvous&);
// In gpu/cuda/nccl.cpp; fails where libtorch has no CUDA.
c10::intrusive_ptr<c10d::Backend> nccl(const Rendezvous&);
}  // namespace unet
