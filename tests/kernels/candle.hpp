// What candle's kernels ask of CUDA's compiler, for a compiler of processors: they are compiled unchanged with this before them. The types
// of numbers are those of CUDA's own headers, in their version for the host.

#pragma once

#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#undef __device__
#undef __forceinline__
#undef __global__
#undef __shared__
#define __device__
#define __forceinline__ inline
#define __global__ __attribute__((visibility("default")))
#define __shared__ static
// After the headers, which would take the way for cards.
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#include "threads.hpp"

#include <limits>

using std::isnan;
using std::max;
using std::min;
using std::signbit;

template <class To, class From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }

inline float normcdff(float x) { return 0.5f * std::erfc(-x * static_cast<float>(M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

#define OF_HALVES(name, of)                                                                                                       \
    inline __half name(__half x) { return __float2half(of(__half2float(x))); }                                                    \
    inline __nv_bfloat16 name(__nv_bfloat16 x) { return __float2bfloat16(of(__bfloat162float(x))); }
OF_HALVES(hcos, std::cos)
OF_HALVES(hexp, std::exp)
OF_HALVES(hlog, std::log)
OF_HALVES(hsin, std::sin)
OF_HALVES(hsqrt, std::sqrt)
