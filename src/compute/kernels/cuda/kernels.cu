// Kernels that make one pass over memory where candle's operations make several. All of them compute in f32, whatever the type in
// memory. They are compiled where there may be no headers of CUDA's, so nothing is included and the types of fewer bits are made here;
// a compiler for processors takes the file too, which is how it is tested.

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// ---- numbers ----------------------------------------------------------------------------------------------------------------

struct bf16 {
    u16 bits;
};

struct f16 {
    u16 bits;
};

// Eight bits without infinities: what would be an infinity is one more binade, but for its last value, which is NaN.
struct e4m3 {
    u8 bits;
};

// The upper half of an f16.
struct e5m2 {
    u8 bits;
};

union Bits {
    float value;
    u32 bits;
};

inline __device__ u32 bits_of(float x) {
    Bits both;
    both.value = x;
    return both.bits;
}

inline __device__ float of_bits(u32 bits) {
    Bits both;
    both.bits = bits;
    return both.value;
}

constexpr u32 SIGN = 0x80000000;
constexpr u32 INFINITE = 0x7f800000;

// A magnitude rounded to the nearest number of a smaller format, to the even one of two. The exponent has no upper end here: what is
// too large for the format is larger than its bits allow, for the caller to see.
template <int MANTISSA, int BIAS> __device__ u32 nearest_bits(u32 magnitude) {
    constexpr int SHIFT = 23 - MANTISSA;
    if (magnitude < u32(128 - BIAS) << 23) {
        // Below the normal numbers all steps are equal. Beside a number with this very step, addition does the rounding.
        constexpr u32 COARSE = u32(151 - BIAS - MANTISSA) << 23;
        return bits_of(of_bits(magnitude) + of_bits(COARSE)) - COARSE;
    }
    const u32 rounded = magnitude + (1u << (SHIFT - 1)) - 1 + (magnitude >> SHIFT & 1);
    return (rounded >> SHIFT) - (u32(127 - BIAS) << MANTISSA);
}

inline __device__ float to_f32(float x) { return x; }

inline __device__ float to_f32(bf16 x) { return of_bits(u32(x.bits) << 16); }

inline __device__ float to_f32(f16 x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#else
    const u32 sign = u32(x.bits & 0x8000) << 16, magnitude = u32(x.bits & 0x7fff) << 13;
    if (magnitude >= u32(0x7c00) << 13) return of_bits(sign | INFINITE | magnitude);
    // The exponents differ by a constant, and so do subnormal numbers by its power of two.
    return of_bits(sign | bits_of(of_bits(magnitude) * 0x1p112f));
#endif
}

inline __device__ float to_f32(e5m2 x) { return to_f32(f16{u16(x.bits << 8)}); }

inline __device__ float to_f32(e4m3 x) {
    const u32 magnitude = x.bits & 0x7f;
    if (magnitude == 0x7f) return of_bits(0x7fc00000);
    // An f16 has the same fields but for one bit of exponent, which is a factor of 2^8.
    return to_f32(f16{u16((x.bits & 0x80) << 8 | magnitude << 7)}) * 256.0f;
}

template <class T> __device__ T from_f32(float x);

template <> inline __device__ float from_f32<float>(float x) { return x; }

template <> inline __device__ bf16 from_f32<bf16>(float x) {
    const u32 bits = bits_of(x);
    // Rounding could carry a NaN over into another number.
    if ((bits & ~SIGN) > INFINITE) return {u16(bits >> 16 | 0x40)};
    return {u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <> inline __device__ f16 from_f32<f16>(float x) {
#ifdef __CUDA_ARCH__
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
#else
    const u32 sign = bits_of(x) >> 16 & 0x8000, magnitude = bits_of(x) & ~SIGN;
    if (magnitude > INFINITE) return {u16(sign | 0x7e00)};
    const u32 rounded = nearest_bits<10, 15>(magnitude);
    return {u16(sign | (rounded < 0x7c00 ? rounded : 0x7c00))};
#endif
}

// What is too large becomes the largest number, 448.
template <> inline __device__ e4m3 from_f32<e4m3>(float x) {
    const u32 sign = bits_of(x) >> 24 & 0x80, magnitude = bits_of(x) & ~SIGN;
    if (magnitude > INFINITE) return {0x7f};
    const u32 rounded = nearest_bits<3, 7>(magnitude);
    return {u8(sign | (rounded < 0x7e ? rounded : 0x7e))};
}

// ---- memory -----------------------------------------------------------------------------------------------------------------

// Numbers of a type that a thread loads at once: 16 bytes.
template <class T> constexpr u32 PACK = 16 / sizeof(T);

// Bytes that are moved by one instruction, of any type. A compiler for processors needs to know that types
// share memory: `-fno-strict-aliasing`.
template <u32 SIZE> struct alignas(SIZE) Piece {
    u32 words[SIZE / 4];
};

template <class T, u32 COUNT> union Numbers {
    Piece<COUNT * sizeof(T)> piece;
    T numbers[COUNT];
};

template <class T, u32 N> constexpr u32 AT_ONCE = N < PACK<T> ? N : PACK<T>;

// Loads N numbers. More than one have to be aligned to their size, or to 16 bytes where that is less.
template <class T, u32 N> __device__ void load(const T *from, float (&to)[N]) {
    if constexpr (N == 1) {
        to[0] = to_f32(*from);
    } else {
        constexpr u32 COUNT = AT_ONCE<T, N>;
        for (u32 start = 0; start < N; start += COUNT) {
            Numbers<T, COUNT> loaded;
            loaded.piece = *reinterpret_cast<const Piece<COUNT * sizeof(T)> *>(from + start);
            for (u32 i = 0; i < COUNT; ++i) to[start + i] = to_f32(loaded.numbers[i]);
        }
    }
}

// The same of numbers that may not be there, which are zeros then.
template <u32 N> __device__ void load_if_any(const float *from, u64 at, float (&to)[N]) {
    if (from) {
        load(from + at, to);
    } else {
        for (u32 i = 0; i < N; ++i) to[i] = 0.0f;
    }
}

template <class T, u32 N> __device__ void store(T *to, const float (&from)[N]) {
    if constexpr (N == 1) {
        *to = from_f32<T>(from[0]);
    } else {
        constexpr u32 COUNT = AT_ONCE<T, N>;
        for (u32 start = 0; start < N; start += COUNT) {
            Numbers<T, COUNT> stored;
            for (u32 i = 0; i < COUNT; ++i) stored.numbers[i] = from_f32<T>(from[start + i]);
            *reinterpret_cast<Piece<COUNT * sizeof(T)> *>(to + start) = stored.piece;
        }
    }
}

// Whether numbers at all of these places can be loaded 16 bytes at a time. Null can be.
template <class... T> __device__ bool aligned(const T *...places) {
    return (... | reinterpret_cast<u64>(places)) % 16 == 0;
}

// ---- threads ----------------------------------------------------------------------------------------------------------------

// This thread among those of all blocks, and how many they are. Blocks have one dimension where this is asked.
inline __device__ u64 grid_thread() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }
inline __device__ u64 grid_threads() { return u64(gridDim.x) * blockDim.x; }

// The values of all threads of a block as one, which each of them gets. Every thread has to come here.
template <class V, class Join> __device__ V block_reduce(V value, Join join) {
    constexpr u32 WARP = 32;
    __shared__ V of_warps[WARP];
    for (u32 apart = WARP / 2; apart > 0; apart /= 2) value = join(value, __shfl_xor_sync(0xffffffff, value, apart));
    // A warp may still be reading what an earlier reduction left.
    __syncthreads();
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = value;
    __syncthreads();
    value = of_warps[0];
    for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) value = join(value, of_warps[warp]);
    return value;
}

// The mean of `of` over a row, by all threads of a block.
template <u32 N, class T, class F> __device__ float row_mean(const T *xs, u32 width, F of) {
    float sum = 0.0f;
    for (u32 column = threadIdx.x * N; column < width; column += blockDim.x * N) {
        float x[N];
        load(xs + column, x);
        for (u32 i = 0; i < N; ++i) sum += of(x[i]);
    }
    return block_reduce(sum, [](float a, float b) { return a + b; }) / float(width);
}

// ---- norm_modulate ----------------------------------------------------------------------------------------------------------

// One row. It is read again for each sum and for the result: the second time it comes from the cache.
template <u32 N, class T>
__device__ void modulated_row(const T *xs, T *ys, const float *scale, const float *shift, u32 dim, float eps, float one,
                              u32 centred) {
    const float mean = centred ? row_mean<N>(xs, dim, [](float x) { return x; }) : 0.0f;
    const float variance = row_mean<N>(xs, dim, [mean](float x) { return (x - mean) * (x - mean); });
    const float inverse = 1.0f / sqrtf(variance + eps);
    for (u32 column = threadIdx.x * N; column < dim; column += blockDim.x * N) {
        float x[N], scales[N], shifts[N];
        load(xs + column, x);
        load_if_any(scale, column, scales);
        load_if_any(shift, column, shifts);
        for (u32 i = 0; i < N; ++i) x[i] = (x[i] - mean) * inverse * (one + scales[i]) + shifts[i];
        store(ys + column, x);
    }
}

// y = (x − mean) / deviation · (one + scale) + shift, or by the root mean square where it is not centred. A block for each row; rows
// take the vectors of their run.
template <class T>
__device__ void norm_modulate(const T *xs, T *ys, const float *scale, const float *shift, const u32 *run_of, u32 dim,
                              u32 stride, float eps, float one, u32 centred) {
    const u64 row = blockIdx.x, vector = run_of ? u64(run_of[row]) * stride : 0;
    xs += row * dim;
    ys += row * dim;
    if (scale) scale += vector;
    if (shift) shift += vector;
    if (dim % PACK<T> == 0 && aligned(xs, ys) && aligned(scale, shift))
        modulated_row<PACK<T>>(xs, ys, scale, shift, dim, eps, one, centred);
    else
        modulated_row<1>(xs, ys, scale, shift, dim, eps, one, centred);
}

// ---- norm_rope --------------------------------------------------------------------------------------------------------------

// Loads N pairs of numbers: neighbours, or those that are `apart` from each other.
template <bool NEIGHBOURS, class T, u32 N>
__device__ void load_pairs(const T *from, u32 apart, float (&first)[N], float (&second)[N]) {
    if constexpr (N == 1 || !NEIGHBOURS) {
        load(from, first);
        load(from + apart, second);
    } else {
        float both[2 * N];
        load(from, both);
        for (u32 i = 0; i < N; ++i) first[i] = both[2 * i], second[i] = both[2 * i + 1];
    }
}

template <bool NEIGHBOURS, class T, u32 N>
__device__ void store_pairs(T *to, u32 apart, const float (&first)[N], const float (&second)[N]) {
    if constexpr (N == 1 || !NEIGHBOURS) {
        store(to, first);
        store(to + apart, second);
    } else {
        float both[2 * N];
        for (u32 i = 0; i < N; ++i) both[2 * i] = first[i], both[2 * i + 1] = second[i];
        store(to, both);
    }
}

// Cosines and sines of a token: (table_heads, dim / 2).
struct Turns {
    const float *cos, *sin;
    u32 table_heads;
};

// One token, whose row is first multiplied with its weight, where there is one, and with `inverse`.
template <bool NEIGHBOURS, u32 N, class T>
__device__ void turned_row(const T *xs, T *ys, const float *weight, Turns turns, u32 heads, u32 dim, float inverse) {
    const u32 pairs = dim / 2, apart = NEIGHBOURS ? 1 : pairs;
    for (u32 at = threadIdx.x * N; at < heads * pairs; at += blockDim.x * N) {
        const u32 head = at / pairs, pair = at % pairs;
        const u32 column = head * dim + (NEIGHBOURS ? 2 * pair : pair), place = turns.table_heads == 1 ? pair : at;
        float x0[N], x1[N], c[N], s[N];
        load_pairs<NEIGHBOURS>(xs + column, apart, x0, x1);
        if (weight) {
            float w0[N], w1[N];
            load_pairs<NEIGHBOURS>(weight + column, apart, w0, w1);
            for (u32 i = 0; i < N; ++i) x0[i] *= inverse * w0[i], x1[i] *= inverse * w1[i];
        }
        load(turns.cos + place, c);
        load(turns.sin + place, s);
        float y0[N], y1[N];
        for (u32 i = 0; i < N; ++i) y0[i] = x0[i] * c[i] - x1[i] * s[i], y1[i] = x1[i] * c[i] + x0[i] * s[i];
        store_pairs<NEIGHBOURS>(ys + column, apart, y0, y1);
    }
}

template <u32 N, class T>
__device__ void normed_and_turned_row(const T *xs, T *ys, const float *weight, Turns turns, u32 heads, u32 dim, u32 halves,
                                      float eps) {
    float inverse = 1.0f;
    if (weight) inverse /= sqrtf(row_mean<N>(xs, heads * dim, [](float x) { return x * x; }) + eps);
    if (halves)
        turned_row<false, N>(xs, ys, weight, turns, heads, dim, inverse);
    else
        turned_row<true, N>(xs, ys, weight, turns, heads, dim, inverse);
}

// A row over its root mean square, times a weight, where there is a weight; then each head's pairs of channels turned by the angles of
// the token, where there are angles: tables of (tokens, table_heads, dim / 2). A block for each token.
template <class T>
__device__ void norm_rope(const T *xs, T *ys, const float *weight, const float *cos, const float *sin, u32 heads, u32 dim,
                          u32 table_heads, u32 halves, float eps) {
    const u64 token = blockIdx.x;
    const u32 width = heads * dim;
    xs += token * width;
    ys += token * width;
    if (!cos) {
        // No model's long rows are without angles, so this way need not be fast.
        if (weight) return modulated_row<1>(xs, ys, weight, nullptr, width, eps, 0.0f, false);
        for (u32 column = threadIdx.x; column < width; column += blockDim.x) ys[column] = xs[column];
        return;
    }
    const u64 table = token * table_heads * (dim / 2);
    const Turns turns = {cos + table, sin + table, table_heads};
    if (dim / 2 % PACK<T> == 0 && aligned(xs, ys) && aligned(weight, turns.cos, turns.sin))
        normed_and_turned_row<PACK<T>>(xs, ys, weight, turns, heads, dim, halves, eps);
    else
        normed_and_turned_row<1>(xs, ys, weight, turns, heads, dim, halves, eps);
}

// ---- gate_add ---------------------------------------------------------------------------------------------------------------

template <u32 N, class T>
__device__ void gated_sum(const T *xs, const T *hs, T *ys, const float *gate, const u32 *run_of, u32 dim, u32 stride,
                          u64 count) {
    for (u64 at = grid_thread() * N; at < count; at += grid_threads() * N) {
        const u64 row = at / dim, column = at - row * dim;
        float x[N], h[N], gates[N];
        load(xs + at, x);
        load(hs + at, h);
        load(gate + (run_of ? u64(run_of[row]) * stride : 0) + column, gates);
        for (u32 i = 0; i < N; ++i) x[i] += h[i] * gates[i];
        store(ys + at, x);
    }
}

// y = x + h · gate, with the gates of a row's run.
template <class T>
__device__ void gate_add(const T *xs, const T *hs, T *ys, const float *gate, const u32 *run_of, u32 dim, u32 stride,
                         u64 count) {
    if (dim % PACK<T> == 0 && stride % PACK<float> == 0 && aligned(xs, hs, ys) && aligned(gate))
        gated_sum<PACK<T>>(xs, hs, ys, gate, run_of, dim, stride, count);
    else
        gated_sum<1>(xs, hs, ys, gate, run_of, dim, stride, count);
}

// ---- channel_norm -----------------------------------------------------------------------------------------------------------

// An image (channels, pixels): each pixel's channels over their length, scaled, and SiLU of it where that is asked for. A block is 32
// neighbouring pixels wide and 8 groups of channels deep: the pixels of a channel lie together, and those of a warp are loaded at once.
template <class T>
__device__ void channel_norm(const T *xs, T *ys, const float *scale, u32 channels, u64 pixels, float added, float shortest,
                             u32 silu) {
    constexpr u32 WIDTH = 32, GROUPS = 8;
    __shared__ float sums[GROUPS][WIDTH];
    const u64 pixel = u64(blockIdx.x) * WIDTH + threadIdx.x;
    float sum = 0.0f;
    // Threads past the last pixel have no channels, but meet the others.
    const u32 mine = pixel < pixels ? channels : 0;
    // Narrow loads are too few bytes to keep memory busy, unless several are under way.
#pragma unroll 4
    for (u32 channel = threadIdx.y; channel < mine; channel += GROUPS) {
        const float x = to_f32(xs[channel * pixels + pixel]);
        sum += x * x;
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = added;
    for (u32 group = 0; group < GROUPS; ++group) sum += sums[group][threadIdx.x];
    const float inverse = 1.0f / fmaxf(sqrtf(sum), shortest);
#pragma unroll 4
    for (u32 channel = threadIdx.y; channel < mine; channel += GROUPS) {
        const u64 at = channel * pixels + pixel;
        const float y = to_f32(xs[at]) * inverse * scale[channel];
        ys[at] = from_f32<T>(silu ? y / (1.0f + expf(-y)) : y);
    }
}

// ---- widen_bytes ------------------------------------------------------------------------------------------------------------

template <class Byte, u32 N, class T>
__device__ void widened_bytes(const u8 *bytes, T *ys, const float *scale, u32 by_row, u64 columns, u64 count) {
    for (u64 at = grid_thread() * N; at < count; at += grid_threads() * N) {
        const float factor = scale ? scale[by_row ? at / columns : 0] : 1.0f;
        float x[N];
        load(reinterpret_cast<const Byte *>(bytes) + at, x);
        for (u32 i = 0; i < N; ++i) x[i] *= factor;
        store(ys + at, x);
    }
}

template <class Byte, class T>
__device__ void widened_bytes(const u8 *bytes, T *ys, const float *scale, u32 by_row, u64 columns, u64 count) {
    if (columns % PACK<T> == 0 && count % PACK<T> == 0 && aligned(bytes) && aligned(ys))
        widened_bytes<Byte, PACK<T>>(bytes, ys, scale, by_row, columns, count);
    else
        widened_bytes<Byte, 1>(bytes, ys, scale, by_row, columns, count);
}

// Numbers of eight bits, times one scale for all of them or one for each row.
template <class T>
__device__ void widen_bytes(const u8 *bytes, T *ys, const float *scale, u32 by_row, u64 columns, u64 count, u32 is_e5m2) {
    if (is_e5m2)
        widened_bytes<e5m2>(bytes, ys, scale, by_row, columns, count);
    else
        widened_bytes<e4m3>(bytes, ys, scale, by_row, columns, count);
}

// ---- widen_blocks -----------------------------------------------------------------------------------------------------------

// GGML's numbers for kinds of blocks.
enum Kind : u32 { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14 };

inline __device__ u32 block_bytes(u32 kind) {
    switch (kind) {
    case Q4_0: return 18;
    case Q4_1: return 20;
    case Q5_0: return 22;
    case Q5_1: return 24;
    case Q8_0: return 34;
    case Q2_K: return 84;
    case Q3_K: return 110;
    case Q4_K: return 144;
    case Q5_K: return 176;
    default: return 210;
    }
}

inline __device__ u32 block_numbers(u32 kind) { return kind < Q2_K ? 32 : 256; }

// Numbers of a block that a thread widens: a divisor of all groups of numbers that have a scale in common.
constexpr u32 EIGHT = 8;

// Two bytes, which is what blocks are aligned to.
struct alignas(2) TwoBytes {
    u8 bytes[2];
};

inline __device__ float half_at(const u8 *place) {
    const TwoBytes two = *reinterpret_cast<const TwoBytes *>(place);
    return to_f32(f16{u16(two.bytes[0] | two.bytes[1] << 8)});
}

// Joins fields of eight neighbouring bytes to numbers: `mask` of them from bit `from` on, to begin at bit `to`.
inline __device__ void join_fields(const u8 *place, u32 from, u32 mask, u32 to, u32 (&fields)[EIGHT]) {
    for (u32 i = 0; i < EIGHT; i += 2) {
        const TwoBytes two = *reinterpret_cast<const TwoBytes *>(place + i);
        for (u32 j = 0; j < 2; ++j) fields[i + j] |= (two.bytes[j] >> from & mask) << to;
    }
}

// Scale or minimum `group` of the eight and eight of Q4_K and Q5_K, of six bits each. The first four of both are the lower bits of a
// byte; of the others the lower four bits share a byte, and the upper two are what the first four left free.
inline __device__ float six_bits(const u8 *packed, u32 group, bool minimum) {
    const u32 first = minimum ? 4 : 0;
    if (group < 4) return float(packed[first + group] & 63);
    const u32 low = packed[4 + group] >> first & 15, high = packed[first + group - 4] >> 6;
    return float(low | high << 4);
}

// Scale `group` of the sixteen of Q3_K: the lower four bits of all, then the upper two, each in the order that leaves no gap.
inline __device__ float signed_six_bits(const u8 *packed, u32 group) {
    const u32 low = packed[group % 8] >> (group / 8 * 4) & 15, high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
    return float(low | high << 4) - 32.0f;
}

// Eight numbers of a block, from number `at` on, a multiple of eight. Each is an integer, less a middle, times a step, less a minimum.
inline __device__ void widen_eight(const u8 *block, u32 kind, u32 at, float (&ys)[EIGHT]) {
    u32 fields[EIGHT] = {};
    float step, minimum = 0.0f;
    int middle = 0;
    // In blocks of 32, bytes have the number of the first half below that of the second. In those of 256, groups of 32 numbers lie in
    // turn in the lower and the upper bits of the same bytes: two groups share them, or four of a half block.
    const u32 column = at % 32, group = at / 32, upper = at / 16;
    const u32 of_four = at / 128 * 32 + column, shift = group % 4 * 2;
    switch (kind) {
    case Q4_0:
        step = half_at(block);
        join_fields(block + 2 + at % 16, upper * 4, 15, 0, fields);
        middle = 8;
        break;
    case Q4_1:
        step = half_at(block);
        minimum = -half_at(block + 2);
        join_fields(block + 4 + at % 16, upper * 4, 15, 0, fields);
        break;
    case Q5_0:
    case Q5_1: {
        const u8 *rest = block + (kind == Q5_0 ? 2 : 4);
        step = half_at(block);
        if (kind == Q5_0)
            middle = 16;
        else
            minimum = -half_at(block + 2);
        join_fields(rest + 4 + at % 16, upper * 4, 15, 0, fields);
        // The fifth bits of all numbers, one after another.
        const u32 fifths = rest[at / 8];
        for (u32 i = 0; i < EIGHT; ++i) fields[i] |= (fifths >> i & 1) << 4;
        break;
    }
    case Q8_0:
        step = half_at(block);
        join_fields(block + 2 + at, 0, 255, 0, fields);
        // What is signed lies around its middle once the sign bit is turned over.
        for (u32 i = 0; i < EIGHT; ++i) fields[i] ^= 128;
        middle = 128;
        break;
    case Q2_K:
        step = half_at(block + 80) * float(block[at / 16] & 15);
        minimum = half_at(block + 82) * float(block[at / 16] >> 4);
        join_fields(block + 16 + of_four, shift, 3, 0, fields);
        break;
    case Q3_K:
        step = half_at(block + 108) * signed_six_bits(block + 96, at / 16);
        join_fields(block + 32 + of_four, shift, 3, 0, fields);
        join_fields(block + column, group, 1, 2, fields);
        middle = 4;
        break;
    case Q4_K:
    case Q5_K: {
        const u8 *low = block + (kind == Q4_K ? 16 : 48);
        step = half_at(block) * six_bits(block + 4, group, false);
        minimum = half_at(block + 2) * six_bits(block + 4, group, true);
        join_fields(low + group / 2 * 32 + column, group % 2 * 4, 15, 0, fields);
        if (kind == Q5_K) join_fields(block + 16 + column, group, 1, 4, fields);
        break;
    }
    default: // Q6_K
        step = half_at(block + 208) * float(static_cast<signed char>(block[192 + at / 16]));
        join_fields(block + at / 128 * 64 + at % 64, group % 4 / 2 * 4, 15, 0, fields);
        join_fields(block + 128 + of_four, shift, 3, 4, fields);
        middle = 32;
        break;
    }
    for (u32 i = 0; i < EIGHT; ++i) ys[i] = float(int(fields[i]) - middle) * step - minimum;
}

// Blocks of a kind, `count` of them. Neighbouring threads write neighbouring eights.
template <class T> __device__ void widen_blocks(const u8 *blocks, T *ys, u64 count, u32 kind) {
    const u32 numbers = block_numbers(kind), bytes = block_bytes(kind);
    const bool whole = aligned(ys);
    for (u64 at = grid_thread() * EIGHT; at < count * numbers; at += grid_threads() * EIGHT) {
        float eight[EIGHT];
        widen_eight(blocks + at / numbers * bytes, kind, u32(at % numbers), eight);
        if (whole) {
            store(ys + at, eight);
        } else {
            for (u32 i = 0; i < EIGHT; ++i) ys[at + i] = from_f32<T>(eight[i]);
        }
    }
}

// ---- to_e4m3 ----------------------------------------------------------------------------------------------------------------

template <u32 N, class T> __device__ u32 largest_bits(const T *xs, u64 count) {
    u32 most = 0;
    for (u64 at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        load(xs + at, x);
        for (u32 i = 0; i < N; ++i) {
            const u32 bits = bits_of(x[i]) & ~SIGN;
            most = bits > most ? bits : most;
        }
    }
    return most;
}

// The largest magnitude of all numbers, as bits, which have the order of what they stand for. NaN is larger than any number: it is not
// hidden.
template <class T> __device__ void largest(const T *xs, u32 *most, u64 count) {
    const bool whole = count % PACK<T> == 0 && aligned(xs);
    const u32 mine = whole ? largest_bits<PACK<T>>(xs, count) : largest_bits<1>(xs, count);
    const u32 of_block = block_reduce(mine, [](u32 a, u32 b) { return a > b ? a : b; });
    if (threadIdx.x == 0) atomicMax(most, of_block);
}

template <u32 N, class T> __device__ void rounded_bytes(const T *xs, u8 *ys, float scale, u64 count) {
    for (u64 at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        load(xs + at, x);
        for (u32 i = 0; i < N; ++i) x[i] *= scale;
        store(reinterpret_cast<e4m3 *>(ys) + at, x);
    }
}

// Numbers in e4m3, scaled so that the largest of them is the largest of the format, and what scales them back.
template <class T> __device__ void to_e4m3(const T *xs, u8 *ys, const u32 *most, float *inverse, u64 count) {
    constexpr float LARGEST = 448.0f, LARGEST_F32 = 0x1.fffffep127f;
    float scale = *most ? LARGEST / of_bits(*most) : 1.0f;
    // Zero times an infinity would be NaN. This comparison keeps a NaN.
    if (scale > LARGEST_F32) scale = LARGEST_F32;
    if (grid_thread() == 0) *inverse = 1.0f / scale;
    if (count % PACK<T> == 0 && aligned(xs) && aligned(ys))
        rounded_bytes<PACK<T>>(xs, ys, scale, count);
    else
        rounded_bytes<1>(xs, ys, scale, count);
}

// ---- entries ----------------------------------------------------------------------------------------------------------------

// What a kernel only reads, and what it writes: never the same memory, so that reads may be cached.
template <class T> using In = const T *__restrict__;
template <class T> using Out = T *__restrict__;

#define ENTRIES(T, name)                                                                                                        \
    extern "C" __global__ void norm_modulate_##name(In<T> xs, Out<T> ys, In<float> scale, In<float> shift, In<u32> run_of,      \
                                                    u32 dim, u32 stride, float eps, float one, u32 centred) {                   \
        norm_modulate(xs, ys, scale, shift, run_of, dim, stride, eps, one, centred);                                            \
    }                                                                                                                           \
    extern "C" __global__ void norm_rope_##name(In<T> xs, Out<T> ys, In<float> weight, In<float> cos, In<float> sin, u32 heads, \
                                                u32 dim, u32 table_heads, u32 halves, float eps) {                              \
        norm_rope(xs, ys, weight, cos, sin, heads, dim, table_heads, halves, eps);                                              \
    }                                                                                                                           \
    extern "C" __global__ void gate_add_##name(In<T> xs, In<T> hs, Out<T> ys, In<float> gate, In<u32> run_of, u32 dim,          \
                                               u32 stride, u64 count) {                                                         \
        gate_add(xs, hs, ys, gate, run_of, dim, stride, count);                                                                 \
    }                                                                                                                           \
    extern "C" __global__ void channel_norm_##name(In<T> xs, Out<T> ys, In<float> scale, u32 channels, u64 pixels, float added, \
                                                   float shortest, u32 silu) {                                                  \
        channel_norm(xs, ys, scale, channels, pixels, added, shortest, silu);                                                   \
    }                                                                                                                           \
    extern "C" __global__ void widen_bytes_##name(In<u8> bytes, Out<T> ys, In<float> scale, u32 by_row, u64 columns, u64 count, \
                                                  u32 is_e5m2) {                                                                \
        widen_bytes(bytes, ys, scale, by_row, columns, count, is_e5m2);                                                         \
    }                                                                                                                           \
    extern "C" __global__ void widen_blocks_##name(In<u8> blocks, Out<T> ys, u64 count, u32 kind) {                             \
        widen_blocks(blocks, ys, count, kind);                                                                                  \
    }                                                                                                                           \
    extern "C" __global__ void largest_##name(In<T> xs, Out<u32> most, u64 count) { largest(xs, most, count); }                 \
    extern "C" __global__ void to_e4m3_##name(In<T> xs, Out<u8> ys, In<u32> most, Out<float> inverse, u64 count) {              \
        to_e4m3(xs, ys, most, inverse, count);                                                                                  \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
ENTRIES(f16, f16)
