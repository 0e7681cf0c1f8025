// The backends of c10d for a process group: Gloo between CPUs, NCCL between GPUs.
#pragma once
#include <chrono>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace unet {
// What a rank needs to find the others.
struct Rendezvous {
  c10::intrusive_ptr<c10d::Store> store;
  std::string host;  // of rank 0
  int rank, size;
  std::chrono::milliseconds timeout;
};

c10::intrusive_ptr<c10d::Backend> gloo(const Rendezvous&);
// Defined in gpu/cuda/nccl.cpp. Without CUDA it fails.
c10::intrusive_ptr<c10d::Backend> nccl(const Rendezvous&);
}  // namespace unet
