// The threads of a kernel on a processor: those of one block take turns, and change places only where they wait for each other. Blocks
// run one after another.

#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

struct Place {
    unsigned x, y, z;
};

// Where the thread at work is, as kernels ask.
inline Place gridDim, blockDim, blockIdx, threadIdx;

namespace turns {

constexpr unsigned WARP = 32;
constexpr size_t STACK = 128 << 10;

enum class State { Ready, AtWarp, AtBlock, Ended };

struct Thread {
    std::vector<char> stack = std::vector<char>(STACK);
    jmp_buf at;
    ucontext_t start;
    State state;
    bool begun;
    // What a shuffle hands over.
    unsigned char slot[16];
};

inline std::vector<Thread> all;
inline size_t current;
inline jmp_buf scheduler;
inline ucontext_t home;
inline const std::function<void()> *body;

// Runs a thread from its beginning on a stack of its own.
inline void enter() {
    (*body)();
    all[current].state = State::Ended;
    _longjmp(scheduler, 1);
}

inline void wait(State state) {
    Thread &thread = all[current];
    thread.state = state;
    if (_setjmp(thread.at) == 0) _longjmp(scheduler, 1);
}

inline void resume(size_t index) {
    Thread &thread = all[current = index];
    threadIdx = {static_cast<unsigned>(index % blockDim.x), static_cast<unsigned>(index / blockDim.x % blockDim.y),
                 static_cast<unsigned>(index / blockDim.x / blockDim.y)};
    if (_setjmp(scheduler) != 0) return;
    if (thread.begun) _longjmp(thread.at, 1);
    thread.begun = true;
    getcontext(&thread.start);
    thread.start.uc_stack = {thread.stack.data(), 0, thread.stack.size()};
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, enter, 0);
    setcontext(&thread.start);
}

// Lets threads go on that waited for others, where all of those are there: of their warp, or of their block. A thread that has ended is
// waited for by nobody.
inline bool release(size_t first, size_t last, State waiting) {
    bool any = false;
    for (size_t index = first; index < last; ++index) {
        if (all[index].state == State::Ended) continue;
        if (all[index].state != waiting) return false;
        any = true;
    }
    for (size_t index = first; any && index < last; ++index)
        if (all[index].state == waiting) all[index].state = State::Ready;
    return any;
}

inline void block(size_t count) {
    if (all.size() < count) all.resize(count);
    for (size_t index = 0; index < count; ++index) {
        all[index].state = State::Ready;
        all[index].begun = false;
    }
    for (;;) {
        for (size_t index = 0; index < count; ++index)
            if (all[index].state == State::Ready) resume(index);
        bool moved = false, left = false;
        for (size_t first = 0; first < count; first += WARP)
            moved |= release(first, std::min(count, first + WARP), State::AtWarp);
        moved |= release(0, count, State::AtBlock);
        for (size_t index = 0; index < count; ++index) left |= all[index].state != State::Ended;
        if (!left) return;
        if (moved) continue;
        std::fprintf(stderr, "threads of a block wait for others that never come\n");
        std::abort();
    }
}

} // namespace turns

// Runs `body` for every thread of every block.
inline void run_kernel(Place grid, Place block, const std::function<void()> &body) {
    gridDim = grid;
    blockDim = block;
    turns::body = &body;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                turns::block(static_cast<size_t>(block.x) * block.y * block.z);
            }
}

inline void __syncthreads() { turns::wait(turns::State::AtBlock); }
inline void __syncwarp(unsigned = 0xffffffff) { turns::wait(turns::State::AtWarp); }

template <class T> T __shfl_xor_sync(unsigned, T value, int lane, int = turns::WARP) {
    static_assert(sizeof(T) <= sizeof(turns::Thread::slot));
    const size_t self = turns::current, other = self ^ static_cast<size_t>(lane);
    std::memcpy(turns::all[self].slot, &value, sizeof(T));
    turns::wait(turns::State::AtWarp);
    T theirs;
    std::memcpy(&theirs, turns::all[other].slot, sizeof(T));
    turns::wait(turns::State::AtWarp);
    return theirs;
}

// One thread works at a time, so nothing comes between.
template <class T, class U> T atomicAdd(T *place, U value) {
    T before = *place;
    *place = static_cast<T>(static_cast<double>(before) + static_cast<double>(value));
    return before;
}
template <class T, class U> T atomicMax(T *place, U value) {
    T before = *place;
    if (static_cast<T>(value) > before) *place = static_cast<T>(value);
    return before;
}
template <class T, class U> T atomicMin(T *place, U value) {
    T before = *place;
    if (static_cast<T>(value) < before) *place = static_cast<T>(value);
    return before;
}
template <class T> T atomicCAS(T *place, T expected, T value) {
    T before = *place;
    if (before == expected) *place = value;
    return before;
}
