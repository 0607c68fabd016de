// What kernels ask of CUDA's compiler and of a card, for a compiler of processors. Blocks run one after another, and the threads of a
// block in turn. A warp runs ahead until it meets the others at a barrier, so that a barrier that is missing is noticed by wrong
// results. Stricter than a card: all threads of a warp must come to the same shuffle, and all threads of a block to the same barrier.

#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <math.h>
#include <memory>
#include <ucontext.h>

#define __device__
#define __forceinline__ inline
#define __global__
// A block has its shared memory for itself, since no other runs at the time.
#define __shared__ static

struct Place {
    unsigned x, y, z;
};

inline Place gridDim, blockDim, blockIdx, threadIdx;

namespace emulator {

constexpr size_t WARP = 32, MOST_THREADS = 1024, STACK = 64 << 10;

// Where a thread stopped.
enum class Stop { Shuffle, Barrier, End };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    Stop stop;
    // What a shuffle hands over.
    unsigned char slot[8];
};

inline Fiber fibers[MOST_THREADS];
inline size_t current, count;
inline ucontext_t home;
inline std::function<void()> kernel;

[[noreturn]] inline void fail(const char *reason) {
    std::printf("in block %u, thread (%u, %u): %s\n", blockIdx.x, threadIdx.x, threadIdx.y, reason);
    std::exit(1);
}

inline void go_to(size_t next, ucontext_t &from) {
    current = next;
    threadIdx = {unsigned(next % blockDim.x), unsigned(next / blockDim.x), 0};
    if (&from != &fibers[next].context) swapcontext(&from, &fibers[next].context);
}

// Lets the other threads come to the same place.
inline void meet(Stop stop) {
    Fiber &fiber = fibers[current];
    fiber.stop = stop;
    const size_t first = current / WARP * WARP, next = current + 1;
    if (next != count && next % WARP != 0) return go_to(next, fiber.context);
    for (size_t other = first; other < next; ++other)
        if (fibers[other].stop != stop) fail("not all threads of a warp came to the same barrier, shuffle or end");
    if (stop == Stop::Shuffle) return go_to(first, fiber.context);
    if (next != count) return go_to(next, fiber.context);
    for (size_t other = 0; other < next; ++other)
        if (fibers[other].stop != stop) fail("not all threads of a block came to the same barrier or end");
    if (stop == Stop::Barrier) return go_to(0, fiber.context);
    swapcontext(&fiber.context, &home);
}

// A fiber serves all blocks, one after another.
inline void live() {
    for (;;) {
        kernel();
        meet(Stop::End);
    }
}

// Runs a kernel, given with its arguments, in `blocks` blocks of threads.
inline void launch(unsigned blocks, Place threads, std::function<void()> call) {
    kernel = std::move(call);
    gridDim = {blocks, 1, 1};
    blockDim = threads;
    count = size_t(threads.x) * threads.y;
    for (size_t index = 0; index < count; ++index) {
        Fiber &fiber = fibers[index];
        if (fiber.stack) continue;
        fiber.stack = std::make_unique<char[]>(STACK);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, live, 0);
    }
    for (unsigned block = 0; block < blocks; ++block) {
        blockIdx = {block, 0, 0};
        go_to(0, home);
    }
}

} // namespace emulator

inline void __syncthreads() { emulator::meet(emulator::Stop::Barrier); }

template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned lanes) {
    using namespace emulator;
    static_assert(sizeof(T) <= sizeof(Fiber::slot));
    const size_t other = current ^ lanes;
    if (mask != 0xffffffff || lanes >= WARP || other >= count) fail("a shuffle with threads that are not there");
    std::memcpy(fibers[current].slot, &value, sizeof value);
    meet(Stop::Shuffle);
    std::memcpy(&value, fibers[other].slot, sizeof value);
    // Nobody may write what others have still to read.
    meet(Stop::Shuffle);
    return value;
}

inline unsigned atomicMax(unsigned *place, unsigned value) {
    const unsigned before = *place;
    if (value > before) *place = value;
    return before;
}
