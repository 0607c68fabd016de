// What talkie's kernels ask of CUDA's compiler, for a compiler of processors.

#pragma once

#define __device__
#define __forceinline__ inline
#define __global__ __attribute__((visibility("default")))
#define __restrict__
#define __shared__ static

#include "threads.hpp"
