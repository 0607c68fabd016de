// What talkie's kernels ask of CUDA's compiler, for a compiler of processors.

#pragma once

#include "threads.hpp"

#define __device__
#define __forceinline__ inline
#define __global__
#define __restrict__
#define __shared__ static
