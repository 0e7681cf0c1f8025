// Memory that comes straight from the system, for the tensors of planned steps.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <c10/util/Exception.h>

namespace unet {

// One piece of memory, which goes straight back to the system when it is destroyed. A piece that fills huge pages asks
// for them.
class Mapping {
 public:
  explicit Mapping(size_t bytes) : bytes_(bytes < HUGE_PAGE ? bytes : bytes + HUGE_PAGE) {
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(base_ != MAP_FAILED, "cannot map ", bytes,
                " bytes for the tensors of a step; use a smaller batch, or run without --xla");
    if (bytes < HUGE_PAGE) return;
    align_ = (HUGE_PAGE - reinterpret_cast<uintptr_t>(base_) % HUGE_PAGE) % HUGE_PAGE;
#if defined(MADV_HUGEPAGE)
    madvise(data(), bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  }
  ~Mapping() { munmap(base_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* data() const { return static_cast<char*>(base_) + align_; }
  // The size that was asked for and may be used.
  size_t bytes() const { return bytes_ < HUGE_PAGE ? bytes_ : bytes_ - HUGE_PAGE; }

 private:
  static constexpr size_t HUGE_PAGE = size_t{2} << 20;

  size_t bytes_;
  size_t align_ = 0;
  void* base_;
};

// Memory for large tensors while a step is recorded. The pool keeps freed pieces to use them again, because new pages
// from the system are slow. Used and kept pieces together never exceed the most that was in use at a time, so that a
// recording takes no more memory than its step.
class Pool {
 public:
  std::unique_ptr<Mapping> take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Mapping> piece;
    // A kept piece may be at most a quarter larger than needed.
    const auto kept = kept_.lower_bound(bytes);
    if (kept != kept_.end() && kept->first <= bytes + bytes / 4) {
      piece = std::move(kept->second);
      kept_bytes_ -= kept->first;
      kept_.erase(kept);
    } else {
      piece = std::make_unique<Mapping>(bytes);
    }
    used_bytes_ += piece->bytes();
    max_used_bytes_ = std::max(max_used_bytes_, used_bytes_);
    while (used_bytes_ + kept_bytes_ > max_used_bytes_) {
      const auto largest = std::prev(kept_.end());
      kept_bytes_ -= largest->first;
      kept_.erase(largest);
    }
    return piece;
  }
  // Called on whatever thread frees the tensor.
  void give_back(std::unique_ptr<Mapping> piece) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t bytes = piece->bytes();
    used_bytes_ -= bytes;
    if (closed_) return;
    kept_bytes_ += bytes;
    kept_.emplace(bytes, std::move(piece));
  }
  // Frees the kept pieces, and keeps none from now on.
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    kept_.clear();
    kept_bytes_ = 0;
  }

 private:
  std::mutex mutex_;
  std::multimap<size_t, std::unique_ptr<Mapping>> kept_;
  size_t used_bytes_ = 0, kept_bytes_ = 0, max_used_bytes_ = 0;
  bool closed_ = false;
};

}  // namespace unet
