// cuDNN's backend descriptors, from which its graphs of operations are made.
#pragma once
#include <c10/util/Exception.h>
#include <cudnn.h>
#include <array>
#include <type_traits>
#include <utility>

namespace unet::gpu {

inline void check(cudnnStatus_t status, const char* what) {
  TORCH_CHECK(status == CUDNN_STATUS_SUCCESS, what, ": ", cudnnGetErrorString(status));
}

// cuDNN's number for the type of an attribute's values.
template <class Value>
constexpr cudnnBackendAttributeType_t attribute_type() {
  if constexpr (std::is_same_v<Value, int64_t>) return CUDNN_TYPE_INT64;
  if constexpr (std::is_same_v<Value, float>) return CUDNN_TYPE_FLOAT;
  if constexpr (std::is_same_v<Value, bool>) return CUDNN_TYPE_BOOLEAN;
  if constexpr (std::is_same_v<Value, char>) return CUDNN_TYPE_CHAR;
  if constexpr (std::is_same_v<Value, cudnnHandle_t>) return CUDNN_TYPE_HANDLE;
  if constexpr (std::is_same_v<Value, cudnnDataType_t>) return CUDNN_TYPE_DATA_TYPE;
  if constexpr (std::is_same_v<Value, cudnnConvolutionMode_t>) return CUDNN_TYPE_CONVOLUTION_MODE;
  if constexpr (std::is_same_v<Value, cudnnPointwiseMode_t>) return CUDNN_TYPE_POINTWISE_MODE;
  if constexpr (std::is_same_v<Value, cudnnNanPropagation_t>) return CUDNN_TYPE_NAN_PROPOGATION;
  if constexpr (std::is_same_v<Value, cudnnBackendHeurMode_t>) return CUDNN_TYPE_HEUR_MODE;
  if constexpr (std::is_same_v<Value, cudnnBackendNumericalNote_t>) return CUDNN_TYPE_NUMERICAL_NOTE;
  if constexpr (std::is_same_v<Value, cudnnBackendBehaviorNote_t>) return CUDNN_TYPE_BEHAVIOR_NOTE;
  if constexpr (std::is_same_v<Value, cudnnBackendDescriptor_t>) return CUDNN_TYPE_BACKEND_DESCRIPTOR;
}

// An object of cuDNN's. Its attributes are set before it is finalized and read afterwards.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &raw_), "creating a descriptor");
  }
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }

  cudnnBackendDescriptor_t raw() const { return raw_; }

  template <class Value>
  Descriptor& set(cudnnBackendAttributeName_t name, const Value* values, size_t count) {
    return set(name, attribute_type<Value>(), values, count);
  }
  template <class Value>
  Descriptor& set(cudnnBackendAttributeName_t name, Value value) {
    return set(name, &value, 1);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) { return set(name, value.raw_); }
  template <class Value, size_t N>
  Descriptor& set(cudnnBackendAttributeName_t name, const std::array<Value, N>& values) {
    return set(name, values.data(), N);
  }
  // Sets pointers to the data of tensors. It has a name of its own, because a descriptor is a `void*` in C too.
  Descriptor& set_pointers(cudnnBackendAttributeName_t name, void* const* values, size_t count) {
    return set(name, CUDNN_TYPE_VOID_PTR, values, count);
  }

  // Finalizes the descriptor and moves it out.
  Descriptor finalized() {
    check(cudnnBackendFinalize(raw_), "finalizing a descriptor");
    return std::move(*this);
  }

  // Returns the number of values, and writes at most `max_count` of them to `values`.
  template <class Value>
  int64_t get(cudnnBackendAttributeName_t name, Value* values, int64_t max_count) const {
    int64_t count = 0;
    check(cudnnBackendGetAttribute(raw_, name, attribute_type<Value>(), max_count, &count, values),
          "reading an attribute");
    return count;
  }

 private:
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const void* values,
                  size_t count) {
    check(cudnnBackendSetAttribute(raw_, name, type, static_cast<int64_t>(count), values), "setting an attribute");
    return *this;
  }

  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace unet::gpu
