// Functions of libraries that are opened at run time.
#pragma once
#include <c10/util/Exception.h>
#include <dlfcn.h>

namespace unet::gpu {

// Looks up `name` in an open library and stores it in `function`.
template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  TORCH_CHECK(function, "no ", name, " in the library");
}

}  // namespace unet::gpu
