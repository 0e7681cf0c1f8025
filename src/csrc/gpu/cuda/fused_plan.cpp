// Plans are made by cuDNN's backend; timing finds the fastest one.
//
// tests/cuda_kernels/fused.cpp makes plans for GPUs that are not present. This file has not run on a GPU.
#include "gpu/cuda/fused_plan.h"

#include <ATen/ATen.h>
#include <ATen/cudnn/Handle.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAStream.h>
#include <algorithm>
#include <cstdio>
#include <limits>
#include <mutex>
#include <set>
#include <string>

#include "gpu/fused_convolution.h"

namespace unet::gpu {
namespace {

using at::Tensor;

// The number of kernels that are timed. cuDNN lists first the ones that it expects to be fast.
constexpr size_t MAX_PLANS = 8;
// A kernel that needs more bytes is not worth the pass that it saves.
constexpr int64_t MAX_WORKSPACE = 256 << 20;

// The ids of the graph's tensors.
enum Id : int64_t { X = 1, WEIGHT, BIAS, Y, PRODUCT, SUM };

cudnnDataType_t data_type(at::ScalarType type) {
  return type == at::kHalf ? CUDNN_DATA_HALF : type == at::kBFloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

// A tensor, dense unless strides are given. A virtual tensor exists only within a kernel.
Descriptor tensor(Id id, cudnnDataType_t type, const Sizes& sizes, const std::optional<Sizes>& strides = {},
                  bool is_virtual = false) {
  return Descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR)
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, static_cast<int64_t>(id))
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, sizes)
      .set(CUDNN_ATTR_TENSOR_STRIDES, strides.value_or(dense_strides(sizes)))
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16})
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual)
      .finalized();
}

Descriptor pointwise(cudnnPointwiseMode_t mode) {
  return Descriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR)
      .set(CUDNN_ATTR_POINTWISE_MODE, mode)
      // NaN stays NaN, as in the own passes and libtorch, so that training notices an overflow.
      .set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_PROPAGATE_NAN)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
      .finalized();
}

// The descriptors of the graph's parts and, as the last, of the graph. Within a kernel all numbers are fp32.
std::deque<Descriptor> graph_of(const Shape& shape, const Target& target) {
  const cudnnDataType_t type = data_type(shape.type);
  const Sizes result = shape.y();
  // A deque, because its elements do not move when others are added.
  std::deque<Descriptor> parts;
  const auto add = [&](Descriptor part) -> const Descriptor& { return parts.emplace_back(std::move(part)); };
  const Descriptor& x = add(tensor(X, type, shape.x));
  const Descriptor& weight = add(tensor(WEIGHT, type, {shape.outputs, shape.x[1], shape.kernel[0], shape.kernel[1]}));
  const Descriptor& bias = add(tensor(BIAS, type, {1, shape.outputs, 1, 1}));
  const Descriptor& product = add(tensor(PRODUCT, CUDNN_DATA_FLOAT, result, {}, true));
  const Descriptor& sum = add(tensor(SUM, CUDNN_DATA_FLOAT, result, {}, true));
  const Descriptor& y = add(tensor(Y, type, result, shape.strides));
  const Descriptor& add_mode = add(pointwise(CUDNN_POINTWISE_ADD));
  const Descriptor& relu_mode = add(pointwise(CUDNN_POINTWISE_RELU_FWD));

  const std::array<int64_t, 2> none{0, 0}, one{1, 1};
  const Descriptor& convolution = add(Descriptor(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)
                                          .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
                                          .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
                                          .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
                                          .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, none)
                                          .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, shape.padding)
                                          .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, one)
                                          .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, one)
                                          .finalized());
  const Descriptor& multiply = add(Descriptor(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, product)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0f)
                                       .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0f)
                                       .finalized());
  const Descriptor& add_bias = add(Descriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
                                       .set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add_mode)
                                       .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, product)
                                       .set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, bias)
                                       .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, sum)
                                       .finalized());
  const Descriptor& relu = add(Descriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
                                   .set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, relu_mode)
                                   .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, sum)
                                   .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y)
                                   .finalized());
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, std::array{multiply.raw(), add_bias.raw(), relu.raw()});
  if (target.handle) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, target.handle);
  add(graph.finalized());
  return parts;
}

// The configurations of engines for the graph. cuDNN puts those first that it expects to be fast.
std::vector<Descriptor> configurations(const Descriptor& graph, const Target& target) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
  if (target.gpu) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.gpu);
  const Descriptor found = heuristics.finalized();
  const int64_t count = found.get<cudnnBackendDescriptor_t>(CUDNN_ATTR_ENGINEHEUR_RESULTS, nullptr, 0);
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; i++) raw.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
  const int64_t kept = found.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, raw.data(), count);
  while (static_cast<int64_t>(configs.size()) > kept) configs.pop_back();
  return configs;
}

// Whether a configuration may be used.
enum class Use { yes, if_there_is_no_other, no };

Use use_of(const Descriptor& config, const Shape& shape) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  config.get(CUDNN_ATTR_ENGINECFG_ENGINE, &raw, 1);
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;
  const int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, notes.data(), notes.size());
  const auto accepts = [&](cudnnBackendNumericalNote_t note) {
    // All other notes mean more rounding than the dtype has, or sums in an order that changes from run to run.
    if (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE) return shape.type != at::kFloat || shape.tf32;
    return note == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
  };
  if (!std::all_of(notes.begin(), notes.begin() + count, accepts)) return Use::no;
  std::array<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT> behaviour;
  const int64_t behaviours = engine.get(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, behaviour.data(), behaviour.size());
  const auto end = behaviour.begin() + behaviours;
  // Such an engine compiles its kernel in up to a second.
  return std::find(behaviour.begin(), end, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) == end ? Use::yes
                                                                                           : Use::if_there_is_no_other;
}

// Fails if `run` makes a number of NaN. An engine need not promise that it does not, and a NaN that is lost would hide
// that training has failed.
void require_nan(const std::function<Tensor(const Tensor& bias)>& run, const Tensor& bias) {
  const Tensor nan = at::full_like(bias, std::numeric_limits<double>::quiet_NaN());
  // All outputs go through one ReLU, so that one image tells.
  const bool kept = run(nan).select(0, 0).isnan().all().item<bool>();
  TORCH_CHECK(kept, "a fused kernel of cuDNN's turns NaN into a number");
}

}  // namespace

std::vector<ExecutionPlan> plans_for(const Shape& shape, const Target& target) {
  const auto graph = std::make_shared<std::deque<Descriptor>>(graph_of(shape, target));
  std::vector<ExecutionPlan> plans;
  const auto add = [&](Descriptor& config) {
    Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (target.handle) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, target.handle);
    if (target.gpu) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.gpu);
    // An engine may still refuse the configuration.
    if (cudnnBackendFinalize(plan.raw()) != CUDNN_STATUS_SUCCESS) return;
    int64_t workspace = 0;
    plan.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &workspace, 1);
    if (workspace <= MAX_WORKSPACE) plans.push_back({graph, std::move(config), std::move(plan), workspace});
  };
  std::vector<Descriptor> compiled_now;
  for (Descriptor& config : configurations(graph->back(), target)) {
    if (plans.size() == MAX_PLANS) break;
    const Use use = use_of(config, shape);
    if (use == Use::yes) add(config);
    if (use == Use::if_there_is_no_other) compiled_now.push_back(std::move(config));
  }
  for (Descriptor& config : compiled_now)
    if (plans.empty()) add(config);
  return plans;
}

Tensor aligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 ? x : x.clone(); }

void execute(const ExecutionPlan& plan, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  const Tensor workspace = at::empty({plan.workspace}, x.options().dtype(at::kByte));
  void* const room = workspace.data_ptr();
  const std::array<void*, 4> pointers{x.data_ptr(), weight.data_ptr(), bias.data_ptr(), y.data_ptr()};
  const Descriptor pack = Descriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
                              .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::array<int64_t, 4>{X, WEIGHT, BIAS, Y})
                              .set_pointers(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers.data(), pointers.size())
                              .set_pointers(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &room, 1)
                              .finalized();
  check(cudnnBackendExecute(at::native::getCudnnHandle(), plan.plan.raw(), pack.raw()), "running a fused convolution");
}

float time(const std::function<void()>& work) {
  // Launching one kernel may take longer than the kernel. In a round the launches of all runs but the first are made
  // while the device is busy.
  constexpr int RUNS = 10;
  // The first run sets up the work and lets libtorch choose its own kernels.
  work();
  float fastest = std::numeric_limits<float>::infinity();
  for (int round = 0; round < 3; round++) {
    // Not at::cuda::CUDAEvent, whose inline functions refer to data of libc10_cuda (see `link` in build.rs).
    c10::Event start(c10::kCUDA, c10::EventFlag::BACKEND_DEFAULT), end(c10::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    start.record(c10::cuda::getCurrentCUDAStream());
    for (int i = 0; i < RUNS; i++) work();
    end.record(c10::cuda::getCurrentCUDAStream());
    end.synchronize();
    fastest = std::min(fastest, static_cast<float>(start.elapsedTime(end)) / RUNS);
  }
  return fastest;
}

std::shared_ptr<ExecutionPlan> fastest_plan(const Shape& shape, const Tensor& bias, float limit,
                                            const std::function<Tensor(const ExecutionPlan&, const Tensor&)>& run) {
  Target target;
  target.handle = at::native::getCudnnHandle();
  std::vector<ExecutionPlan> plans = plans_for(shape, target);
  const bool timed = at::globalContext().benchmarkCuDNN();
  const auto time_of = [&](size_t candidate) {
    const ExecutionPlan& plan = plans[candidate];
    require_nan([&](const Tensor& other_bias) { return run(plan, other_bias); }, bias);
    return timed ? time([&] { run(plan, bias); }) : static_cast<float>(candidate);
  };
  const auto best = fastest_of(plans.size(), limit, time_of, [](const std::exception& error) {
    const auto* known = dynamic_cast<const c10::Error*>(&error);
    warn_once(std::string("left out: ") + (known ? known->what_without_backtrace() : error.what()));
  });
  return best ? std::make_shared<ExecutionPlan>(std::move(plans[*best])) : nullptr;
}

void warn_once(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::lock_guard<std::mutex> lock(mutex);
  if (told.insert(text).second) std::fprintf(stderr, "warning: %s\n", text.c_str());
}

}  // namespace unet::gpu
