#pragma once
#include "../unet_native.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

struct unet_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};
