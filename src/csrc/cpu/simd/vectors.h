// Vectors of floats for one instruction set, and of bf16. Each kernels_*.cpp sets UNET_LANES and then includes this.
// Everything is in an unnamed namespace, so that the linker cannot take a function compiled for one instruction set for
// that of another.
#pragma once
#include "cpu/simd/kernel_table.h"
#include "cpu/simd/winograd_transform.h"

#if UNET_BF16
#include <immintrin.h>
#endif

namespace unet {
namespace {

constexpr int lanes = UNET_LANES;
typedef float Vector __attribute__((vector_size(lanes * 4)));
typedef float Unaligned __attribute__((vector_size(lanes * 4), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(lanes * 4)));

UNET_INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
UNET_INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
UNET_INLINE Vector load(const float* p, int64_t n) {
  Vector v{};
  __builtin_memcpy(&v, p, n * 4);
  return v;
}
UNET_INLINE void store(float* p, Vector v, int64_t n) { __builtin_memcpy(p, &v, n * 4); }
// ReLU of v. In both functions a NaN stays a NaN: a network that has diverged must not look healthy.
UNET_INLINE Vector positive(Vector v) { return v <= 0.f ? Vector{} : v; }
// v, but 0 where mask <= 0: the gradient of a ReLU whose output is `mask`.
UNET_INLINE Vector where_positive(Vector mask, Vector v) { return mask <= 0.f ? Vector{} : v; }

// fp32: each element is a word.
struct F32 {
  typedef float Pixel;    // in images
  typedef float Element;  // in panels
  typedef float Word;
  static constexpr int elements_per_word = 1, tile = 6;
  UNET_INLINE Vector multiply_add(Vector sum, float a, Vector b) { return sum + a * b; }
};

// Images in bf16, all computation in floats.
struct F32OnBF16 : F32 {
  typedef uint16_t Pixel;
};

// The same for filters of 2x2 taps.
struct F32Of2x2 : F32 {
  static constexpr int tile = 7;
};
struct F32OnBF16Of2x2 : F32OnBF16 {
  static constexpr int tile = 7;
};

#if UNET_BF16
// bf16: each word is a pair of elements for the dot product.
struct BF16 {
  typedef uint16_t Pixel;
  typedef uint16_t Element;
  typedef uint32_t Word;
  static constexpr int elements_per_word = 2, tile = 2;
  UNET_INLINE Vector multiply_add(Vector sum, uint32_t a, Vector b) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
  }
};
#endif

// The conversions use the compiler's vector types, because the definitions of the intrinsics raise false warnings in
// GCC 12.
typedef uint32_t Words __attribute__((vector_size(lanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(lanes * 2)));
typedef uint16_t UnalignedHalves __attribute__((vector_size(lanes * 2), aligned(2), may_alias));

// v in bf16, rounded to the nearest, ties to even. A NaN stays a NaN.
#if UNET_BF16
UNET_INLINE Halves halves(Vector v) { return (Halves)_mm512_cvtneps_pbh((__m512)v); }
#else
UNET_INLINE Halves halves(Vector v) {
  const Words bits = (Words)v, rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  return __builtin_convertvector((v == v ? rounded : quiet) >> 16, Halves);
}
#endif
UNET_INLINE Vector load(const uint16_t* p) {
  const Halves h = *reinterpret_cast<const UnalignedHalves*>(p);
  return (Vector)(__builtin_convertvector(h, Words) << 16);
}
UNET_INLINE void store(uint16_t* p, Vector v) { *reinterpret_cast<UnalignedHalves*>(p) = halves(v); }
UNET_INLINE Vector load(const uint16_t* p, int64_t n) {
  uint16_t whole[lanes] = {};
  __builtin_memcpy(whole, p, n * 2);
  return load(whole);
}
UNET_INLINE void store(uint16_t* p, Vector v, int64_t n) {
  uint16_t whole[lanes];
  store(whole, v);
  __builtin_memcpy(p, whole, n * 2);
}
#if UNET_BF16
UNET_INLINE Words words(Vector v) { return __builtin_convertvector(halves(v), Words); }
// Stores two rows as words: each word has an element of both.
UNET_INLINE void store_pair(uint16_t* p, Vector first, Vector second) {
  store(reinterpret_cast<float*>(p), (Vector)(words(first) | words(second) << 16));
}
#endif
UNET_INLINE void store_pair(float*, Vector, Vector) {}

}  // namespace
}  // namespace unet
