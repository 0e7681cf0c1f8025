#include "gpu/kernel_choice.h"

#include <atomic>

#include <c10/util/Exception.h>

#include "gpu/kernel_launcher.h"

namespace unet::gpu {
namespace {

std::atomic<KernelChoice> choice{KernelChoice::own};

}  // namespace

KernelChoice kernel_choice() { return choice.load(std::memory_order_relaxed); }

void choose_kernels(int which) {
  TORCH_CHECK(which >= static_cast<int>(KernelChoice::own) && which <= static_cast<int>(KernelChoice::aten),
              "there is no choice ", which, " of GPU kernels");
  choice.store(static_cast<KernelChoice>(which), std::memory_order_relaxed);
}

bool own_kernels_run_on(const at::Tensor& x) { return kernel_choice() != KernelChoice::aten && kernels_are_ready(x); }

}  // namespace unet::gpu
