// Planned execution on the CPU. The first step under a plan is recorded: sizes and lifetimes of the tensors that this thread makes.
// They get places in one arena, and later steps are handed those places in the same order. Whatever does not fit the plan (a
// request larger than its place, one too many, from another thread, or for a place still in use) gets memory in libtorch's usual
// way: a plan decides about speed and memory, never about results.
#include "cpu_layout.h"
#include "unet_native.h"

#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <c10/core/CPUAllocator.h>

namespace {

// Memory straight from the system, and straight back to it; in huge pages as far as it fills them and the system grants the wish.
class Mapping {
 public:
  explicit Mapping(size_t bytes) : bytes_(bytes < HUGE_PAGE ? bytes : bytes + HUGE_PAGE) {
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(base_ != MAP_FAILED, "cannot map ", bytes, " bytes for the tensors of a step; use a smaller batch, or run without --xla");
    if (bytes < HUGE_PAGE) return;
    align_ = (HUGE_PAGE - reinterpret_cast<uintptr_t>(base_) % HUGE_PAGE) % HUGE_PAGE;
#if defined(MADV_HUGEPAGE)
    madvise(data(), bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  }
  ~Mapping() { munmap(base_, bytes_); }
  Mapping(const Mapping &) = delete;
  Mapping &operator=(const Mapping &) = delete;

  char *data() const { return static_cast<char *>(base_) + align_; }
  // What was asked for and may be used.
  size_t bytes() const { return bytes_ < HUGE_PAGE ? bytes_ : bytes_ - HUGE_PAGE; }

 private:
  static constexpr size_t HUGE_PAGE = size_t{2} << 20;

  size_t bytes_;
  size_t align_ = 0;
  void *base_;
};

// Memory for large tensors while a step is recorded. Freed pieces serve again, as pages fresh from the system are dear; but only as
// many are kept as the most that was in use at a time leaves room for, so that a recording takes no more memory than its step.
class Pool {
 public:
  std::unique_ptr<Mapping> take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Mapping> piece;
    // A quarter larger than needed at most.
    const auto kept = kept_.lower_bound(bytes);
    if (kept != kept_.end() && kept->first <= bytes + bytes / 4) {
      piece = std::move(kept->second);
      kept_bytes_ -= kept->first;
      kept_.erase(kept);
    } else {
      piece = std::make_unique<Mapping>(bytes);
    }
    used_bytes_ += piece->bytes();
    most_used_bytes_ = std::max(most_used_bytes_, used_bytes_);
    while (used_bytes_ + kept_bytes_ > most_used_bytes_) {
      const auto largest = std::prev(kept_.end());
      kept_bytes_ -= largest->first;
      kept_.erase(largest);
    }
    return piece;
  }
  // On whatever thread the tensor is freed.
  void give_back(std::unique_ptr<Mapping> piece) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t bytes = piece->bytes();
    used_bytes_ -= bytes;
    if (closed_) return;
    kept_bytes_ += bytes;
    kept_.emplace(bytes, std::move(piece));
  }
  // Keeps nothing from now on.
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    kept_.clear();
    kept_bytes_ = 0;
  }

 private:
  std::mutex mutex_;
  std::multimap<size_t, std::unique_ptr<Mapping>> kept_;
  size_t used_bytes_ = 0, kept_bytes_ = 0, most_used_bytes_ = 0;
  bool closed_ = false;
};

// Lifetimes of the tensors of one step, in the order of their requests. Tensors share it, for some outlive the step.
class Recording {
 public:
  static constexpr int64_t ALIVE = -1;

  Pool pool;

  size_t born(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lifetimes_.push_back({bytes, events_++, ALIVE});
    return lifetimes_.size() - 1;
  }
  // On whatever thread the tensor is freed.
  void died(size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lifetimes_[index].died = events_++;
  }
  std::vector<unet::Lifetime> lifetimes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lifetimes_;
  }

 private:
  std::mutex mutex_;
  int64_t events_ = 0;
  std::vector<unet::Lifetime> lifetimes_;
};

// The memory of planned steps. Tensors share it, so it lives on after its plan where one of them does.
class Arena {
 public:
  explicit Arena(size_t bytes) : memory_(bytes) {}

  // The memory at `offset`, or null where a tensor holds a part of it.
  char *take(size_t offset, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto above = taken_.lower_bound(offset);
    if (above != taken_.end() && above->first < offset + bytes) return nullptr;
    if (above != taken_.begin() && std::prev(above)->second > offset) return nullptr;
    taken_.emplace_hint(above, offset, offset + bytes);
    return memory_.data() + offset;
  }
  // On whatever thread the tensor is freed.
  void give_back(size_t offset) {
    const std::lock_guard<std::mutex> lock(mutex_);
    taken_.erase(offset);
  }

 private:
  Mapping memory_;
  std::mutex mutex_;
  std::map<size_t, size_t> taken_;  // first byte to the one after the last
};

// What stands behind memory that a plan has handed out; destroyed when the tensor is freed.
struct Block {
  virtual ~Block() = default;
};

struct RecordedBlock final : Block {
  RecordedBlock(std::shared_ptr<Recording> of, size_t bytes) : recording(std::move(of)), index(recording->born(bytes)) {
    // Large ones not by malloc, which would keep what the arena will hold.
    if (bytes < LARGE) {
      small = c10::GetDefaultCPUAllocator()->allocate(bytes);
    } else {
      large = recording->pool.take(bytes);
    }
  }
  ~RecordedBlock() override {
    recording->died(index);
    if (large) recording->pool.give_back(std::move(large));
  }
  void *data() const { return large ? large->data() : small.get(); }

  // glibc's own threshold.
  static constexpr size_t LARGE = size_t{128} << 10;
  std::shared_ptr<Recording> recording;
  size_t index;
  std::unique_ptr<Mapping> large;
  c10::DataPtr small;
};

struct PlannedBlock final : Block {
  PlannedBlock(std::shared_ptr<Arena> of, size_t at) : arena(std::move(of)), offset(at) {}
  ~PlannedBlock() override { arena->give_back(offset); }

  std::shared_ptr<Arena> arena;
  size_t offset;
};

// The blocks by address: oneDNN frees memory by its address alone (`raw_deallocate`), and not all of it is a plan's.
class Registry {
 public:
  void *add(void *data, std::unique_ptr<Block> block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks_[data] = std::move(block);
    return data;
  }
  // Null for memory that no plan has handed out.
  std::unique_ptr<Block> remove(void *data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return nullptr;
    auto block = std::move(found->second);
    blocks_.erase(found);
    return block;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void *, std::unique_ptr<Block>> blocks_;
};

Registry &registry() {
  // Never deleted: tensors are freed until the process ends.
  static auto *const made = new Registry;
  return *made;
}

class Plan;
// The plan that this thread works under.
thread_local Plan *active = nullptr;

// What is known of a step: nothing, then a recording, then a place for each request.
class Plan {
 public:
  void begin() {
    TORCH_CHECK(!running_, "a planned step cannot run within itself");
    if (places_.empty()) {
      recording_ = std::make_shared<Recording>();
#if defined(__GLIBC__)
      // Of no use any more: the tensors of steps get memory of their own.
      malloc_trim(0);
#endif
    }
    next_ = misses_ = 0;
    running_ = true;
    outer_ = std::exchange(active, this);
  }

  void end(bool completed) {
    active = outer_;
    running_ = false;
    const auto recording = std::exchange(recording_, nullptr);
    if (recording) recording->pool.close();
    // A step that failed is no example for others: the next one is recorded.
    if (recording && completed) make_places(recording->lifetimes());
  }

  // Memory for the next request of the step; null where the plan has none for it.
  void *allocate(size_t bytes) {
    const size_t request = next_++;
    return recording_ ? record(bytes) : place(request, bytes);
  }

  void statistics(int64_t *requests, int64_t *misses, int64_t *bytes) const {
    *requests = static_cast<int64_t>(next_);
    *misses = static_cast<int64_t>(misses_);
    *bytes = static_cast<int64_t>(bytes_);
  }

 private:
  // Of a request of the recorded step. No bytes where its tensor outlived the step.
  struct Place {
    size_t offset, bytes;
  };

  void *record(size_t bytes) {
    auto block = std::make_unique<RecordedBlock>(recording_, bytes);
    void *data = block->data();
    return registry().add(data, std::move(block));
  }

  void *place(size_t request, size_t bytes) {
    const bool known = request < places_.size();
    const Place place = known ? places_[request] : Place{0, 0};
    // A smaller batch makes the same requests, only smaller.
    if (bytes <= place.bytes) {
      if (void *data = arena_->take(place.offset, bytes)) return registry().add(data, std::make_unique<PlannedBlock>(arena_, place.offset));
    }
    misses_ += !known || place.bytes > 0;
    return nullptr;
  }

  void make_places(const std::vector<unet::Lifetime> &lifetimes) {
    const auto outlives = [](const unet::Lifetime &lifetime) { return lifetime.died == Recording::ALIVE; };
    std::vector<unet::Lifetime> planned;
    std::remove_copy_if(lifetimes.begin(), lifetimes.end(), std::back_inserter(planned), outlives);
    const unet::Layout layout = unet::lay_out(planned);
    if (layout.bytes > 0) arena_ = std::make_shared<Arena>(layout.bytes);
    bytes_ = layout.bytes;
    auto offset = layout.offsets.begin();
    for (const auto &lifetime : lifetimes) places_.push_back(outlives(lifetime) ? Place{0, 0} : Place{*offset++, lifetime.bytes});
  }

  std::shared_ptr<Recording> recording_;
  std::shared_ptr<Arena> arena_;
  std::vector<Place> places_;
  size_t bytes_ = 0;
  size_t next_ = 0, misses_ = 0;  // of the step in progress, or of the last one
  bool running_ = false;
  Plan *outer_ = nullptr;
};

// Passes on to libtorch's own allocator what no plan serves.
struct PlannedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void *data = active && bytes > 0 ? active->allocate(bytes) : nullptr;
    if (!data) data = c10::GetDefaultCPUAllocator()->raw_allocate(bytes);
    return {data, data, &release, c10::DeviceType::CPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void release(void *data) {
    if (data && !registry().remove(data)) c10::GetDefaultCPUAllocator()->raw_deallocate(data);
  }
};

}  // namespace

int32_t unet_cpu_plan_new(void **plan) {
  return unet::guard([&] {
    // Never deleted: tensors are made until the process ends. Where no plan is active it only passes requests on.
    static c10::Allocator *const allocator = [] {
      auto *made = new PlannedAllocator;
      c10::SetCPUAllocator(made, /*priority=*/1);
      return made;
    }();
    TORCH_CHECK(c10::GetCPUAllocator() == allocator, "another part of the program has taken over libtorch's memory; run without --xla");
    *plan = new Plan;
  });
}

int32_t unet_cpu_plan_begin(void *plan) {
  return unet::guard([&] { static_cast<Plan *>(plan)->begin(); });
}

int32_t unet_cpu_plan_end(void *plan, int32_t completed) {
  return unet::guard([&] { static_cast<Plan *>(plan)->end(completed); });
}

void unet_cpu_plan_free(void *plan) { delete static_cast<Plan *>(plan); }

void unet_cpu_plan_statistics(const void *plan, int64_t *requests, int64_t *misses, int64_t *bytes) {
  static_cast<const Plan *>(plan)->statistics(requests, misses, bytes);
}

int32_t unet_cpu_lay_out(size_t count, const int64_t *bytes, const int64_t *born, const int64_t *died, int64_t *offsets,
                         int64_t *total) {
  return unet::guard([&] {
    std::vector<unet::Lifetime> lifetimes;
    for (size_t i = 0; i < count; i++) lifetimes.push_back({static_cast<size_t>(bytes[i]), born[i], died[i]});
    const unet::Layout layout = unet::lay_out(lifetimes);
    std::copy(layout.offsets.begin(), layout.offsets.end(), offsets);
    *total = static_cast<int64_t>(layout.bytes);
  });
}
