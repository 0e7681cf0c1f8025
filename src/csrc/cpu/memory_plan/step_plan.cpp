#include "cpu/memory_plan/step_plan.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

#include <c10/core/CPUAllocator.h>

#include "cpu/memory_plan/mapped_memory.h"

namespace unet {

// The lifetimes of the tensors of one step, in the order of their requests. Tensors share it, because some outlive the
// step.
class Recording {
 public:
  static constexpr int64_t ALIVE = -1;

  Pool pool;

  size_t born(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lifetimes_.push_back({bytes, events_++, ALIVE});
    return lifetimes_.size() - 1;
  }
  // Called on whatever thread frees the tensor.
  void died(size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lifetimes_[index].died = events_++;
  }
  std::vector<Lifetime> lifetimes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lifetimes_;
  }

 private:
  std::mutex mutex_;
  int64_t events_ = 0;
  std::vector<Lifetime> lifetimes_;
};

// The memory of planned steps. Tensors share it, so that it outlives its plan if one of them does.
class Arena {
 public:
  explicit Arena(size_t bytes) : memory_(bytes) {}

  // The memory at `offset`; null if a tensor holds a part of it.
  char* take(size_t offset, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto above = taken_.lower_bound(offset);
    if (above != taken_.end() && above->first < offset + bytes) return nullptr;
    if (above != taken_.begin() && std::prev(above)->second > offset) return nullptr;
    taken_.emplace_hint(above, offset, offset + bytes);
    return memory_.data() + offset;
  }
  // Called on whatever thread frees the tensor.
  void give_back(size_t offset) {
    const std::lock_guard<std::mutex> lock(mutex_);
    taken_.erase(offset);
  }

 private:
  Mapping memory_;
  std::mutex mutex_;
  std::map<size_t, size_t> taken_;  // from the first byte of a place to the one after its last
};

namespace {

// The owner of memory that a plan has handed out. It is destroyed when the tensor is freed.
struct Block {
  virtual ~Block() = default;
};

struct RecordedBlock final : Block {
  RecordedBlock(std::shared_ptr<Recording> of, size_t bytes) : recording(std::move(of)), index(recording->born(bytes)) {
    // malloc would keep large blocks, and the arena will need their memory.
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
  void* data() const { return large ? large->data() : small.get(); }

  // The threshold of glibc.
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

// Finds blocks by address: oneDNN frees memory by its address alone (`raw_deallocate`), and not all memory is a plan's.
class BlockRegistry {
 public:
  void* add(void* data, std::unique_ptr<Block> block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks_[data] = std::move(block);
    return data;
  }
  // Returns null for memory that no plan has handed out.
  std::unique_ptr<Block> remove(void* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return nullptr;
    auto block = std::move(found->second);
    blocks_.erase(found);
    return block;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void*, std::unique_ptr<Block>> blocks_;
};

BlockRegistry& registry() {
  // It is never deleted, because tensors are freed until the process ends.
  static auto* const made = new BlockRegistry;
  return *made;
}

// The plan that this thread works under.
thread_local StepPlan* active = nullptr;

// Asks the active plan, then libtorch's own allocator.
struct PlannedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = active && bytes > 0 ? active->allocate(bytes) : nullptr;
    if (!data) data = c10::GetDefaultCPUAllocator()->raw_allocate(bytes);
    return {data, data, &release, c10::DeviceType::CPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void release(void* data) {
    if (data && !registry().remove(data)) c10::GetDefaultCPUAllocator()->raw_deallocate(data);
  }
};

}  // namespace

void StepPlan::begin() {
  TORCH_CHECK(!running_, "a planned step cannot run within itself");
  if (places_.empty()) {
    recording_ = std::make_shared<Recording>();
#if defined(__GLIBC__)
    // Memory that malloc keeps has no use any more: the tensors of steps get memory of their own.
    malloc_trim(0);
#endif
  }
  next_ = misses_ = 0;
  running_ = true;
  outer_ = std::exchange(active, this);
}

void StepPlan::end(bool completed) {
  active = outer_;
  running_ = false;
  const auto recording = std::exchange(recording_, nullptr);
  if (recording) recording->pool.close();
  // A step that failed is not representative: the next one is recorded again.
  if (recording && completed) make_places(recording->lifetimes());
}

void* StepPlan::allocate(size_t bytes) {
  const size_t request = next_++;
  return recording_ ? record(bytes) : place(request, bytes);
}

void* StepPlan::record(size_t bytes) {
  auto block = std::make_unique<RecordedBlock>(recording_, bytes);
  void* data = block->data();
  return registry().add(data, std::move(block));
}

void* StepPlan::place(size_t request, size_t bytes) {
  const bool known = request < places_.size();
  const Place place = known ? places_[request] : Place{0, 0};
  // A smaller batch makes the same requests with fewer bytes.
  if (bytes <= place.bytes) {
    if (void* data = arena_->take(place.offset, bytes))
      return registry().add(data, std::make_unique<PlannedBlock>(arena_, place.offset));
  }
  misses_ += !known || place.bytes > 0;
  return nullptr;
}

void StepPlan::make_places(const std::vector<Lifetime>& lifetimes) {
  const auto outlives = [](const Lifetime& lifetime) { return lifetime.died == Recording::ALIVE; };
  std::vector<Lifetime> planned;
  std::remove_copy_if(lifetimes.begin(), lifetimes.end(), std::back_inserter(planned), outlives);
  const Layout layout = lay_out(planned);
  if (layout.bytes > 0) arena_ = std::make_shared<Arena>(layout.bytes);
  arena_bytes_ = layout.bytes;
  auto offset = layout.offsets.begin();
  for (const auto& lifetime : lifetimes)
    places_.push_back(outlives(lifetime) ? Place{0, 0} : Place{*offset++, lifetime.bytes});
}

void install_planned_allocator() {
  // It is never deleted, because tensors are made until the process ends.
  static c10::Allocator* const allocator = [] {
    auto* made = new PlannedAllocator;
    c10::SetCPUAllocator(made, /*priority=*/1);
    return made;
  }();
  TORCH_CHECK(c10::GetCPUAllocator() == allocator,
              "another part of the program has taken over libtorch's memory; run without --xla");
}

}  // namespace unet
