// NCCL between GPUs.
#define USE_C10D_NCCL
#include "distributed/backends.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

c10::intrusive_ptr<c10d::Backend> unet::nccl(const Rendezvous& rendezvous) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = rendezvous.timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(rendezvous.store, rendezvous.rank, rendezvous.size, options);
}
