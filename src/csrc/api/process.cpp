#include "api/process.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

using unet::guard;

namespace {

// Fails if the system allows no `count` threads more. Where libgomp cannot start a thread, it ends the process.
void require_threads(int count) {
  std::mutex gate;
  std::unique_lock<std::mutex> closed(gate);
  std::vector<std::thread> threads;
  const auto end = [&] {
    closed.unlock();
    for (std::thread& thread : threads) thread.join();
  };
  try {
    for (int i = 0; i < count; ++i) threads.emplace_back([&] { const std::lock_guard<std::mutex> opened(gate); });
  } catch (...) {
    end();
    throw;
  }
  end();
}

// Threads of libgomp that do nothing. libgomp reads how long to spin from the environment when it is loaded, but hardly
// spins while it manages more threads than there are cores.
class IdleTeam {
 public:
  IdleTeam() : size_(std::max(2, omp_get_num_procs() - at::get_num_threads() + 2)) {
    require_threads(size_);
    owner_ = std::thread([this] { hold(); });
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return is_there_; });
    lock.unlock();
    if (formed_ == size_) return;
    leave();
    TORCH_CHECK(false, "libgomp formed a team of ", formed_, " threads in place of ", size_);
  }
  ~IdleTeam() { leave(); }

 private:
  void leave() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_wanted_ = false;
    }
    changed_.notify_all();
    owner_.join();
  }

  // A team lives as long as the thread that formed it.
  void hold() {
    // The compiler drops a region that does nothing.
    std::atomic<int> formed{0};
#pragma omp parallel num_threads(size_)
    ++formed;
    std::unique_lock<std::mutex> lock(mutex_);
    formed_ = formed;
    is_there_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !is_wanted_; });
  }

  const int size_;
  int formed_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_there_ = false, is_wanted_ = true;
  std::thread owner_;
};

}  // namespace

int32_t unet_shorten_waits(int32_t on) {
  return guard([&] {
    static std::mutex mutex;
    static std::unique_ptr<IdleTeam> team;
    const std::lock_guard<std::mutex> lock(mutex);
    if (!on)
      team.reset();
    else if (!team)
      team = std::make_unique<IdleTeam>();
  });
}

void unet_keep_freed_memory(void) {
#if defined(__GLIBC__)
  // By default glibc maps memory for each large tensor and unmaps it when the tensor is freed. Then every activation of
  // every step is paged in again, which takes a sixth of a step on the CPU.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

namespace {

std::atomic<int32_t> code_of_lost_ranks{0};
std::terminate_handler usual_end = nullptr;

// Called where an exception leaves a thread.
void end_of_uncaught() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const c10::DistError& error) {
    std::fprintf(stderr, "error: the other ranks are lost: %s\n", error.what_without_backtrace());
    unet_exit(code_of_lost_ranks);
  } catch (...) {
    // Not ours to explain.
  }
  if (usual_end) usual_end();
  std::abort();
}

}  // namespace

void unet_exit_if_ranks_are_lost(int32_t code) {
  code_of_lost_ranks = code;
  const std::terminate_handler before = std::set_terminate(end_of_uncaught);
  if (before != end_of_uncaught) usual_end = before;
}

void unet_exit(int32_t code) {
  std::fflush(nullptr);
  std::_Exit(code);
}
