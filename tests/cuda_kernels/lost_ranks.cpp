// A thread that ends in an error of the distributed engine, as NCCL's watchdog does where a rank is lost, ends the
// process with the exit code that was asked for; other exceptions abort. tests/cuda_kernels.rs builds it with the shim.
// Usage: program engine|other
#include <c10/util/Exception.h>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "api/process.h"

int main(int count, char** arguments) {
  unet_exit_if_ranks_are_lost(3);
  const bool is_engine = count > 1 && std::strcmp(arguments[1], "engine") == 0;
  std::thread([=] {
    if (is_engine) C10_THROW_ERROR(DistBackendError, "NCCL timeout");
    throw std::runtime_error("another error");
  }).join();
  return 0;
}
