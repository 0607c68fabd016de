// Checks talkie's kernels on a processor: each of them, in every type, against its definition in double.
//
//     definitions [KIND BLOCKS_FILE F32_FILE]...
//
// KIND is GGML's number for a kind of blocks, and the files have blocks and the numbers that they stand for, as they are in memory.

#include "own.hpp"

#include "../../src/compute/kernels/cuda/kernels.cu"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

using std::isnan;
using std::signbit;

namespace {

// ---- formats, by their definition ---------------------------------------------------------------------------------------------

struct Format {
    int mantissa, bias;
    // The largest finite number, and the bits of a positive NaN.
    double largest;
    uint32_t nan;
};

template <class T> constexpr Format FORMAT{};
template <> constexpr Format FORMAT<float>{23, 127, 0x1.fffffep127, 0x7fc00000};
template <> constexpr Format FORMAT<bf16>{7, 127, 0x1.fep127, 0x7fc0};
template <> constexpr Format FORMAT<f16>{10, 15, 65504, 0x7e00};
template <> constexpr Format FORMAT<e5m2>{2, 15, 57344, 0x7e};
template <> constexpr Format FORMAT<e4m3>{3, 7, 448, 0x7f};

template <class T> constexpr const char *NAME = nullptr;
template <> constexpr const char *NAME<float> = "f32";
template <> constexpr const char *NAME<bf16> = "bf16";
template <> constexpr const char *NAME<f16> = "f16";

template <class T> uint32_t raw(T x) {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof x);
    return bits;
}

template <class T> T from_raw(uint32_t bits) {
    T x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// What bits stand for.
template <class T> double value(T x) {
    constexpr Format F = FORMAT<T>;
    const uint32_t bits = raw(x), sign = 1u << (8 * sizeof(T) - 1), magnitude = bits & (sign - 1);
    const int exponent = int(magnitude >> F.mantissa), fraction = int(magnitude & ((1u << F.mantissa) - 1));
    const int hidden = exponent ? 1 << F.mantissa : 0;
    double size = ldexp(double(hidden | fraction), std::max(exponent, 1) - F.bias - F.mantissa);
    if (size > F.largest) size = std::is_same_v<T, e4m3> || fraction ? NAN : INFINITY;
    return bits & sign ? -size : size;
}

// How far apart the numbers of a format are around x.
template <class T> double step(double x) {
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, std::max(exponent - 1, 1 - FORMAT<T>.bias) - FORMAT<T>.mantissa);
}

// The number of a format that is nearest to x, the even one of two. Past the largest e4m3 stays at it, and others are infinite.
template <class T> T nearest(double x) {
    constexpr Format F = FORMAT<T>;
    const uint32_t sign = signbit(x) ? 1u << (8 * sizeof(T) - 1) : 0;
    if (isnan(x)) return from_raw<T>(F.nan);
    x = fabs(x);
    if (x < INFINITY) x = nearbyint(x / step<T>(x)) * step<T>(x);
    const bool past = x > F.largest;
    if (past) x = F.largest;
    int exponent;
    const double fraction = frexp(x, &exponent);
    // Zero has no exponent of its own.
    exponent = x == 0 ? 0 : exponent + F.bias - 1;
    // Subnormal numbers have no hidden bit.
    const uint32_t bits = exponent < 1 ? uint32_t(ldexp(fraction, F.mantissa + exponent))
                                       : uint32_t(exponent - 1) * (1u << F.mantissa) + uint32_t(ldexp(fraction, F.mantissa + 1));
    return from_raw<T>(sign | (bits + (past && !std::is_same_v<T, e4m3>)));
}

template <class T> bool same(T a, T b) { return raw(a) == raw(b) || (isnan(value(a)) && isnan(value(b))); }

// ---- memory -------------------------------------------------------------------------------------------------------------------

// Numbers in memory at 16 bytes, or `off` numbers past that, with bytes around them that must stay. What nobody writes is NaN.
template <class T> class Buffer {
    static constexpr size_t FENCE = 64;
    std::vector<unsigned char> memory;
    size_t start, bytes;

  public:
    size_t count;

    explicit Buffer(size_t count, size_t off = 0) : memory(count * sizeof(T) + 3 * FENCE, 0xa5), bytes(count * sizeof(T)), count(count) {
        const size_t past = reinterpret_cast<uintptr_t>(memory.data()) % 16;
        start = FENCE + (16 - past) % 16 + off * sizeof(T);
        std::memset(memory.data() + start, 0xff, bytes);
    }
    Buffer(const Buffer &) = delete;

    T *at() { return reinterpret_cast<T *>(memory.data() + start); }
    T &operator[](size_t index) { return at()[index]; }
    bool whole() const {
        for (size_t place = 0; place < memory.size(); ++place)
            if ((place < start || place >= start + bytes) && memory[place] != 0xa5) return false;
        return true;
    }
};

// Between −1 and 1, and the same at every run.
double noise() {
    static uint64_t state = 1;
    state = state * 6364136223846793005 + 1442695040888963407;
    return double(state >> 11) * 0x1p-52 - 1;
}

template <class T> void fill(Buffer<T> &xs, double size = 1, double middle = 0) {
    for (size_t index = 0; index < xs.count; ++index) xs[index] = nearest<T>(middle + size * noise());
}

// ---- verdicts -----------------------------------------------------------------------------------------------------------------

// Computed in f32, sums of thousands of numbers in another order: so much of the whole, in L2 norm, and so much at one number.
constexpr double TOLERANCE = 1e-6, TOLERANCE_OF_ONE = 1e-5;

struct Score {
    // f32: relative in L2 norm. Halves: in steps of the format, where the nearest number is at most a half away.
    double f32 = 0, steps = 0;
};

std::map<std::string, Score> scores;
bool passed = true;

template <class T> void fail(const char *kernel, const std::string &what, const char *error) {
    std::printf("%s_%s, %s: %s\n", kernel, NAME<T>, what.c_str(), error);
    passed = false;
}

// Compares what a kernel computed in f32 and rounded once. `tolerance` is that of f32.
template <class T>
void check(const char *kernel, const std::string &what, Buffer<T> &made, const std::vector<double> &wanted,
           double tolerance = TOLERANCE) {
    char text[200];
    if (!made.whole()) fail<T>(kernel, what, "wrote beyond its output");
    double squares = 0, errors = 0, steps = 0;
    for (double x : wanted) squares += x * x;
    const double size = sqrt(squares / double(wanted.size()));
    for (size_t index = 0; index < wanted.size(); ++index) {
        const double x = value(made[index]), error = fabs(x - wanted[index]);
        errors += error * error;
        const double room = std::is_same_v<T, float> ? 0 : step<T>(wanted[index]) / 2;
        const double slack = tolerance / TOLERANCE * TOLERANCE_OF_ONE * (fabs(wanted[index]) + size);
        if (room > slack) steps = std::max(steps, error / room / 2);
        if (error <= room + slack) continue;
        std::snprintf(text, sizeof text, "number %zu is %.9g, not %.9g", index, x, wanted[index]);
        return fail<T>(kernel, what, text);
    }
    const double relative = sqrt(errors / std::max(squares, std::numeric_limits<double>::min()));
    Score &score = scores[kernel];
    score.steps = std::max(score.steps, steps);
    if (!std::is_same_v<T, float>) return;
    score.f32 = std::max(score.f32, relative);
    if (relative <= tolerance) return;
    std::snprintf(text, sizeof text, "an error of %.3g", relative);
    fail<T>(kernel, what, text);
}

// Compares what has to be the same to the bit, all kinds of NaN being one.
template <class T, class Made>
void check_same(const char *kernel, const std::string &what, Buffer<Made> &made, const std::vector<Made> &wanted) {
    scores[kernel];
    if (!made.whole()) fail<T>(kernel, what, "wrote beyond its output");
    for (size_t index = 0; index < wanted.size(); ++index) {
        if (same(made[index], wanted[index])) continue;
        char text[200];
        std::snprintf(text, sizeof text, "number %zu is %.9g, not %.9g", index, value(made[index]), value(wanted[index]));
        return fail<T>(kernel, what, text);
    }
}

// Names what a case is made of, for whoever reads of its failure.
template <class... V> std::string named(const char *format, V... values) {
    char text[200];
    std::snprintf(text, sizeof text, format, values...);
    return text;
}

void run(unsigned blocks, const std::function<void()> &kernel) { run_kernel({blocks, 1, 1}, {256, 1, 1}, kernel); }

// The entries of each type, by one name.
template <class T> struct Kernels;
#define KERNELS(T, name)                                                                                                          \
    template <> struct Kernels<T> {                                                                                               \
        static constexpr auto norm_modulate = norm_modulate_##name;                                                               \
        static constexpr auto norm_rope = norm_rope_##name;                                                                       \
        static constexpr auto gate_add = gate_add_##name;                                                                         \
        static constexpr auto channel_norm = channel_norm_##name;                                                                 \
        static constexpr auto widen_bytes = widen_bytes_##name;                                                                   \
        static constexpr auto widen_blocks = widen_blocks_##name;                                                                 \
        static constexpr auto largest = largest_##name;                                                                           \
        static constexpr auto to_e4m3 = to_e4m3_##name;                                                                           \
    };
KERNELS(float, f32)
KERNELS(bf16, bf16)
KERNELS(f16, f16)

// ---- conversions --------------------------------------------------------------------------------------------------------------

// Every number of a format, those halfway between two, and those just beside: above the format's largest too.
template <class T> std::vector<float> awkward() {
    std::vector<float> xs = {INFINITY, -INFINITY, NAN, 0x1.fffffep127f, 1e9f};
    const uint32_t count = 1u << (8 * sizeof(T) - 1);
    for (uint32_t bits = 0; bits < count; ++bits) {
        const double x = value(from_raw<T>(bits));
        if (!(fabs(x) < INFINITY)) continue;
        const auto middle = float(x + step<T>(x) / 2);
        for (float y : {float(x), middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)}) xs.insert(xs.end(), {y, -y});
    }
    return xs;
}

template <class T> void conversions() {
    for (uint32_t bits = 0; bits < 1u << 8 * sizeof(T); ++bits) {
        const auto x = from_raw<T>(bits);
        if (same(to_f32(x), float(value(x)))) continue;
        fail<T>("to_f32", named("bits %x", bits), "not what they stand for");
    }
    for (float x : awkward<T>()) {
        // Between two f32 there may be nothing: what double says of f32 is exact.
        if (same(from_f32<T>(x), nearest<T>(x))) continue;
        fail<T>("from_f32", named("%a", double(x)), "not the nearest number");
    }
    scores["from_f32"], scores["to_f32"];
}

// ---- norms --------------------------------------------------------------------------------------------------------------------

struct Rows {
    uint32_t rows, dim, runs;
    // Numbers that memory is off 16 bytes.
    size_t off;
};

template <class T> void norm_modulates() {
    for (Rows of : {Rows{1, 1, 1, 0}, {3, 7, 1, 0}, {5, 37, 2, 0}, {2, 300, 2, 0}, {3, 2056, 3, 0}, {2, 2052, 1, 0}, {2, 520, 2, 1}})
        for (unsigned which = 0; which < 8; ++which) {
            const bool centred = which & 1, scaled = which & 2, shifted = which & 4;
            const uint32_t stride = 3 * of.dim;
            const float eps = 1e-3f, one = which == 3 ? 0.0f : 1.0f;
            Buffer<T> xs(of.rows * of.dim, of.off), ys(of.rows * of.dim, of.off);
            Buffer<float> scale(of.runs * stride), shift(of.runs * stride);
            Buffer<uint32_t> run_of(of.rows);
            fill(xs, 2, 3), fill(scale), fill(shift);
            for (uint32_t row = 0; row < of.rows; ++row) run_of[row] = (row + 1) % of.runs;
            run(of.rows, [&] {
                Kernels<T>::norm_modulate(xs.at(), ys.at(), scaled ? scale.at() : nullptr, shifted ? shift.at() : nullptr,
                                          of.runs > 1 ? run_of.at() : nullptr, of.dim, stride, eps, one, centred);
            });
            std::vector<double> wanted;
            for (uint32_t row = 0; row < of.rows; ++row) {
                double mean = 0, variance = 0;
                for (uint32_t d = 0; centred && d < of.dim; ++d) mean += value(xs[row * of.dim + d]) / of.dim;
                for (uint32_t d = 0; d < of.dim; ++d) variance += pow(value(xs[row * of.dim + d]) - mean, 2) / of.dim;
                for (uint32_t d = 0; d < of.dim; ++d) {
                    const uint32_t vector = run_of[row] * stride + d;
                    const double normed = (value(xs[row * of.dim + d]) - mean) / sqrt(variance + eps);
                    wanted.push_back(normed * (one + (scaled ? scale[vector] : 0)) + (shifted ? shift[vector] : 0));
                }
            }
            check("norm_modulate", named("%u rows of %u, %u runs, case %u", of.rows, of.dim, of.runs, which), ys, wanted);
        }
}

struct Heads {
    uint32_t tokens, heads, dim;
    size_t off;
};

template <class T> void norm_ropes() {
    for (Heads of : {Heads{1, 1, 2, 0}, {3, 1, 16, 0}, {2, 3, 6, 0}, {3, 5, 128, 0}, {2, 24, 24, 0}, {2, 40, 64, 0}, {2, 3, 32, 1}})
        for (unsigned which = 0; which < 16; ++which) {
            const bool weighted = which & 1, turned = which & 2, halves = which & 4;
            const uint32_t tables = which & 8 ? of.heads : 1, width = of.heads * of.dim, pairs = of.dim / 2;
            const float eps = 1e-3f;
            Buffer<T> xs(of.tokens * width, of.off), ys(of.tokens * width, of.off);
            Buffer<float> weight(width), cos(of.tokens * tables * pairs), sin(of.tokens * tables * pairs);
            fill(xs, 3), fill(weight), fill(cos), fill(sin);
            run(of.tokens, [&] {
                Kernels<T>::norm_rope(xs.at(), ys.at(), weighted ? weight.at() : nullptr, turned ? cos.at() : nullptr,
                                      turned ? sin.at() : nullptr, of.heads, of.dim, tables, halves, eps);
            });
            std::vector<double> wanted(of.tokens * width);
            for (uint32_t token = 0; token < of.tokens; ++token) {
                double square = 0;
                for (uint32_t d = 0; d < width; ++d) square += pow(value(xs[token * width + d]), 2) / width;
                auto normed = [&](uint32_t d) {
                    return value(xs[token * width + d]) * (weighted ? weight[d] / sqrt(square + eps) : 1);
                };
                for (uint32_t head = 0; head < of.heads; ++head)
                    for (uint32_t pair = 0; pair < pairs; ++pair) {
                        const uint32_t first = head * of.dim + (halves ? pair : 2 * pair), second = first + (halves ? pairs : 1);
                        const uint32_t place = (token * tables + head % tables) * pairs + pair;
                        const double c = turned ? cos[place] : 1, s = turned ? sin[place] : 0;
                        wanted[token * width + first] = normed(first) * c - normed(second) * s;
                        wanted[token * width + second] = normed(second) * c + normed(first) * s;
                    }
            }
            check("norm_rope", named("%u tokens, %u heads of %u, case %u", of.tokens, of.heads, of.dim, which), ys, wanted);
        }
}

template <class T> void gate_adds() {
    for (Rows of : {Rows{1, 1, 1, 0}, {3, 7, 1, 0}, {5, 37, 2, 0}, {4, 300, 3, 0}, {3, 1048, 2, 0}, {3, 64, 2, 1}, {2, 0, 1, 0}}) {
        const size_t count = size_t(of.rows) * of.dim;
        const uint32_t stride = 2 * of.dim;
        Buffer<T> xs(count, of.off), hs(count, of.off), ys(count, of.off);
        Buffer<float> gate(of.runs * stride);
        Buffer<uint32_t> run_of(of.rows);
        fill(xs), fill(hs, 4), fill(gate);
        for (uint32_t row = 0; row < of.rows; ++row) run_of[row] = (row + 1) % of.runs;
        // Fewer threads than numbers, where there are many: they have to walk.
        run(2, [&] {
            Kernels<T>::gate_add(xs.at(), hs.at(), ys.at(), gate.at(), of.runs > 1 ? run_of.at() : nullptr, of.dim, stride, count);
        });
        std::vector<double> wanted;
        for (size_t at = 0; at < count; ++at)
            wanted.push_back(value(xs[at]) + value(hs[at]) * gate[run_of[at / of.dim] * stride + at % of.dim]);
        check("gate_add", named("%u rows of %u, %u runs", of.rows, of.dim, of.runs), ys, wanted);
    }
}

struct Image {
    uint32_t channels, pixels;
    float added, shortest;
    double size;
};

template <class T> void channel_norms() {
    for (Image of : {Image{1, 1, 0, 1e-12f, 1}, {7, 31, 0, 1e-12f, 2}, {19, 33, 0.5f, 1e-12f, 1}, {8, 64, 0, 3, 1}, {96, 77, 0, 1e-12f, 9},
                     {5, 40, 0, 1e-12f, 0}, {3, 5, 1, 0, 100}})
        for (bool silu : {false, true}) {
            Buffer<T> xs(of.channels * of.pixels), ys(of.channels * of.pixels);
            Buffer<float> scale(of.channels);
            fill(xs, of.size), fill(scale, 5);
            run_kernel({unsigned((of.pixels + 31) / 32), 1, 1}, {32, 8, 1}, [&] {
                Kernels<T>::channel_norm(xs.at(), ys.at(), scale.at(), of.channels, of.pixels, of.added, of.shortest, silu);
            });
            std::vector<double> wanted(xs.count);
            for (uint32_t pixel = 0; pixel < of.pixels; ++pixel) {
                double square = of.added;
                for (uint32_t c = 0; c < of.channels; ++c) square += pow(value(xs[c * of.pixels + pixel]), 2);
                for (uint32_t c = 0; c < of.channels; ++c) {
                    const size_t at = c * of.pixels + pixel;
                    const double y = value(xs[at]) / std::max(sqrt(square), double(of.shortest)) * scale[c];
                    wanted[at] = silu ? y / (1 + exp(-y)) : y;
                }
            }
            check("channel_norm", named("%u channels of %u pixels, silu %d", of.channels, of.pixels, silu), ys, wanted);
        }
}

// ---- fewer bits ---------------------------------------------------------------------------------------------------------------

template <class T, class Byte> void widen_every_byte() {
    // Rows of 8 are loaded at once, and rows of 1 or off their place are not.
    for (size_t columns : {8, 256, 1})
        for (unsigned scaling = 0; scaling < 3; ++scaling)
            for (size_t off : {0, 1}) {
                Buffer<u8> bytes(256, off);
                Buffer<T> ys(256);
                Buffer<float> scale(256 / columns);
                std::vector<T> wanted;
                // A power of two leaves numbers exact, and 0.3 does not: that is what an f32 makes of the product, rounded once more.
                for (size_t row = 0; row < scale.count; ++row) scale[row] = row % 2 ? 0.3f : 0.5f;
                for (uint32_t bits = 0; bits < 256; ++bits) {
                    bytes[bits] = u8(bits);
                    const float factor = scaling ? scale[scaling == 2 ? bits / columns : 0] : 1;
                    wanted.push_back(nearest<T>(nearest<float>(value(from_raw<Byte>(bits)) * factor)));
                }
                run(1, [&] {
                    Kernels<T>::widen_bytes(bytes.at(), ys.at(), scaling ? scale.at() : nullptr, scaling == 2, columns, 256,
                                            std::is_same_v<Byte, e5m2>);
                });
                const char *format = std::is_same_v<Byte, e5m2> ? "e5m2" : "e4m3";
                check_same<T>("widen_bytes", named("%s in rows of %zu, scaling %u", format, columns, scaling), ys, wanted);
            }
}

template <class T> void to_e4m3s() {
    // Without scaling: what rounding makes of every number and of those between.
    const std::vector<float> numbers = awkward<e4m3>();
    for (size_t count : {numbers.size(), numbers.size() / 8 * 8}) {
        Buffer<T> xs(count);
        Buffer<e4m3> ys(count);
        Buffer<uint32_t> most(1);
        Buffer<float> inverse(1);
        std::vector<e4m3> wanted;
        most[0] = raw(448.0f);
        for (size_t at = 0; at < count; ++at) {
            xs[at] = nearest<T>(numbers[at]);
            wanted.push_back(nearest<e4m3>(value(xs[at])));
        }
        run(1, [&] { Kernels<T>::to_e4m3(xs.at(), reinterpret_cast<u8 *>(ys.at()), most.at(), inverse.at(), count); });
        check_same<T>("to_e4m3", named("%zu awkward numbers", count), ys, wanted);
        check_same<T>("to_e4m3", "the inverse of 1", inverse, {1.0f});
    }
}

// A largest number, then all numbers scaled by it: as f32 computes the scale and the product.
template <class T> void scale_to_e4m3(const std::string &what, Buffer<T> &xs) {
    Buffer<e4m3> ys(xs.count);
    Buffer<uint32_t> most(1);
    Buffer<float> inverse(1);
    std::vector<e4m3> wanted;
    most[0] = 0;
    uint32_t largest = 0;
    for (size_t at = 0; at < xs.count; ++at) largest = std::max(largest, raw(float(value(xs[at]))) & 0x7fffffff);
    run(3, [&] { Kernels<T>::largest(xs.at(), most.at(), xs.count); });
    scores["largest"];
    if (most[0] != largest || !most.whole()) fail<T>("largest", what, named("%x, not %x", most[0], largest).c_str());
    const float scale = largest ? std::min(448.0f / from_raw<float>(largest), 0x1.fffffep127f) : 1;
    for (size_t at = 0; at < xs.count; ++at) wanted.push_back(nearest<e4m3>(float(value(xs[at])) * scale));
    run(2, [&] { Kernels<T>::to_e4m3(xs.at(), reinterpret_cast<u8 *>(ys.at()), most.at(), inverse.at(), xs.count); });
    check_same<T>("to_e4m3", what, ys, wanted);
    check_same<T>("to_e4m3", what + ", the inverse", inverse, {1 / scale});
}

template <class T> void scaled_to_e4m3() {
    for (size_t count : {1, 8, 37, 2048, 5003})
        for (size_t off : {0, 1}) {
            Buffer<T> xs(count, off);
            fill(xs, 0.01);
            // Where a walk that stops early does not come.
            xs[count - 1] = nearest<T>(-0.5);
            scale_to_e4m3(named("%zu numbers, %zu off", count, off), xs);
        }
    Buffer<T> zeros(40), tiny(40);
    fill(zeros, 0), fill(tiny, 0);
    // The smallest number of the type: 448 over it is beyond f32 where it is f32's or bf16's.
    tiny[3] = from_raw<T>(1);
    scale_to_e4m3("zeros", zeros);
    scale_to_e4m3("one subnormal number", tiny);
    Buffer<T> holed(40);
    fill(holed);
    holed[11] = nearest<T>(NAN);
    Buffer<uint32_t> most(1);
    most[0] = 0;
    run(1, [&] { Kernels<T>::largest(holed.at(), most.at(), holed.count); });
    if (!isnan(from_raw<float>(most[0]))) fail<T>("largest", "a NaN among numbers", "hidden");
}

template <class X> std::vector<X> read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<X> numbers(bytes.size() / sizeof(X));
    if (!bytes.empty()) std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(X));
    return numbers;
}

template <class T> void widen_file(uint32_t kind, const std::vector<u8> &blocks, const std::vector<float> &numbers) {
    const size_t count = numbers.size() / block_numbers(kind);
    if (count == 0 || blocks.size() != count * block_bytes(kind))
        return fail<T>("widen_blocks", named("kind %u", kind), "the files do not have the same blocks");
    const std::vector<double> wanted(numbers.begin(), numbers.end());
    for (size_t off : {0, 1}) {
        // No more than two bytes are promised of where blocks lie.
        Buffer<u8> bytes(blocks.size(), 2);
        Buffer<T> ys(numbers.size(), off);
        std::copy(blocks.begin(), blocks.end(), bytes.at());
        run(2, [&] { Kernels<T>::widen_blocks(bytes.at(), ys.at(), count, kind); });
        check("widen_blocks", named("kind %u, %zu off", kind, off), ys, wanted, 1e-6);
    }
}

template <class T> void every_kernel() {
    norm_modulates<T>();
    norm_ropes<T>();
    gate_adds<T>();
    channel_norms<T>();
    widen_every_byte<T, e4m3>();
    widen_every_byte<T, e5m2>();
    to_e4m3s<T>();
    scaled_to_e4m3<T>();
}

} // namespace

int main(int count, char **arguments) {
    conversions<bf16>();
    conversions<f16>();
    every_kernel<float>();
    every_kernel<bf16>();
    every_kernel<f16>();
    for (int at = 1; at + 2 < count; at += 3) {
        const auto kind = uint32_t(std::stoul(arguments[at]));
        const auto blocks = read<u8>(arguments[at + 1]);
        const auto numbers = read<float>(arguments[at + 2]);
        widen_file<float>(kind, blocks, numbers);
        widen_file<bf16>(kind, blocks, numbers);
        widen_file<f16>(kind, blocks, numbers);
    }
    if (!passed) return 1;
    for (const auto &[kernel, score] : scores)
        std::printf("%s: f32 is at most %.1e off, halves %.3f steps\n", kernel.c_str(), score.f32, score.steps);
    return 0;
}
