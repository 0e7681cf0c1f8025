#include "api/ffi.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include <c10/util/Exception.h>

namespace {
// The last error of each thread.
thread_local std::string last_error;
}  // namespace

int32_t unet::store_error() noexcept {
  try {
    throw;
  } catch (const c10::Error& error) {
    // The C++ backtrace would tell a user nothing.
    last_error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
  return -1;
}

void unet_take_error(char* text, size_t size) {
  if (size == 0) return;
  const size_t length = std::min(size - 1, last_error.size());
  std::memcpy(text, last_error.data(), length);
  text[length] = '\0';
  last_error.clear();
}
