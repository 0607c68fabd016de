// A card in software: as much of a CUDA driver, of cuBLAS, cuBLASLt and cuDNN as talkie calls, by the definition of what each call
// computes. A program that was built for CUDA runs on it unchanged and slowly, so that what it hands to kernels and libraries (addresses,
// strides, the order of arguments) can be tested where there is no card. It says nothing of speed, and nothing of races between
// streams: everything is done when it is asked for. `build.sh` makes it.

#include "threads.hpp"

#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>

namespace {

// A program may call from several threads.
std::recursive_mutex calls;
#define ONE_AT_A_TIME const std::lock_guard guard(calls)

constexpr int OK = 0;
constexpr int NOT_FOUND = 500;
// As each of the libraries says that it does not do a thing.
constexpr int BLAS_REFUSES = 15, DNN_REFUSES = 3000, RAND_REFUSES = 999;

// ---- memory ------------------------------------------------------------------------------------------------------------------

// What lies behind every piece of memory: a kernel that writes past the end of one is noticed when it is given back.
constexpr unsigned char FENCE = 0xA5;
constexpr size_t FENCED = 64;
std::map<uint64_t, size_t> pieces;
uint64_t in_use = 0, most_in_use = 0;

uint64_t take(size_t bytes) {
    ONE_AT_A_TIME;
    auto *memory = static_cast<unsigned char *>(std::aligned_alloc(256, (bytes + FENCED + 255) / 256 * 256));
    // What nobody wrote is no number.
    std::memset(memory, 0xFF, bytes);
    std::memset(memory + bytes, FENCE, FENCED);
    in_use += bytes;
    most_in_use = std::max(most_in_use, in_use);
    pieces[reinterpret_cast<uint64_t>(memory)] = bytes;
    return reinterpret_cast<uint64_t>(memory);
}

int give(uint64_t address) {
    ONE_AT_A_TIME;
    auto found = pieces.find(address);
    if (found == pieces.end()) return NOT_FOUND;
    auto *memory = reinterpret_cast<unsigned char *>(address);
    for (size_t at = 0; at < FENCED; ++at) {
        if (memory[found->second + at] == FENCE) continue;
        std::fprintf(stderr, "something wrote past the end of %zu bytes\n", found->second);
        std::abort();
    }
    in_use -= found->second;
    pieces.erase(found);
    std::free(memory);
    return OK;
}

// ---- numbers -----------------------------------------------------------------------------------------------------------------

enum class Number { f32, f64, f16, bf16, e4m3 };

float of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

float of_e4m3(unsigned char byte) {
    const int exponent = byte >> 3 & 15, fraction = byte & 7;
    const float size = (byte & 127) == 127 ? NAN
                       : exponent == 0     ? std::ldexp(static_cast<float>(fraction), -9)
                                           : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
    return byte & 128 ? -size : size;
}

double read(Number kind, const void *at, int64_t index) {
    switch (kind) {
    case Number::f32: return static_cast<const float *>(at)[index];
    case Number::f64: return static_cast<const double *>(at)[index];
    case Number::f16: return static_cast<float>(static_cast<const _Float16 *>(at)[index]);
    case Number::bf16: return of_bits(static_cast<uint32_t>(static_cast<const uint16_t *>(at)[index]) << 16);
    case Number::e4m3: return of_e4m3(static_cast<const unsigned char *>(at)[index]);
    }
    return NAN;
}

void write(Number kind, void *at, int64_t index, double value) {
    const auto number = static_cast<float>(value);
    switch (kind) {
    case Number::f32: static_cast<float *>(at)[index] = number; break;
    case Number::f64: static_cast<double *>(at)[index] = value; break;
    case Number::f16: static_cast<_Float16 *>(at)[index] = static_cast<_Float16>(number); break;
    case Number::bf16: {
        uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        // To the nearest, of two as near to the even one.
        const uint32_t rounded = std::isnan(number) ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
        static_cast<uint16_t *>(at)[index] = static_cast<uint16_t>(rounded >> 16);
        break;
    }
    case Number::e4m3: std::abort();
    }
}

// As CUDA's libraries number types.
Number of_blas(int type) {
    switch (type) {
    case 0: return Number::f32;
    case 2: return Number::f16;
    case 14: return Number::bf16;
    case 28: return Number::e4m3;
    }
    std::fprintf(stderr, "no number of type %d is known here\n", type);
    std::abort();
}

// As cuDNN does.
Number of_dnn(int type) {
    switch (type) {
    case 0: return Number::f32;
    case 2: return Number::f16;
    case 9: return Number::bf16;
    }
    std::fprintf(stderr, "no number of type %d is known here\n", type);
    std::abort();
}

double gelu(double x) { return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))); }

// ---- kernels -----------------------------------------------------------------------------------------------------------------

// A kernel that was compiled for processors, and which of its arguments are real numbers, as the PTX of the same kernel says.
struct Kernel {
    void *code;
    struct Argument {
        bool real;
        size_t bytes;
    };
    std::vector<Argument> arguments;

    // By the rules of x86-64 real numbers go into registers of their own, and all others follow each other, wherever they stand between
    // them. More are handed over than a kernel takes, which it does not see.
    void operator()(void **given) const {
        uint64_t whole[16] = {};
        double real[8] = {};
        size_t wholes = 0, reals = 0;
        for (size_t at = 0; at < arguments.size(); ++at) {
            auto [is_real, bytes] = arguments[at];
            if (bytes > 8 || (is_real ? reals == 8 : wholes == 16)) std::abort();
            void *to = is_real ? static_cast<void *>(&real[reals++]) : static_cast<void *>(&whole[wholes++]);
            std::memcpy(to, given[at], bytes);
        }
        using W = uint64_t;
        using R = double;
        reinterpret_cast<void (*)(R, R, R, R, R, R, R, R, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W)>(code)(
            real[0], real[1], real[2], real[3], real[4], real[5], real[6], real[7], whole[0], whole[1], whole[2], whole[3], whole[4],
            whole[5], whole[6], whole[7], whole[8], whole[9], whole[10], whole[11], whole[12], whole[13], whole[14], whole[15]);
    }
};

std::map<std::string, Kernel> kernels;

// Reads which kernels a program has: `.entry NAME(` and lines such as `.param .u64 NAME_param_0`, or `.param .align 2 .b8 NAME_param_1[2]`
// for a number that has no type there.
void learn(const std::string &ptx) {
    for (size_t at = ptx.find(".entry "); at != std::string::npos; at = ptx.find(".entry ", at)) {
        at += std::strlen(".entry ");
        const size_t open = ptx.find('(', at), close = ptx.find(')', open);
        const std::string name = ptx.substr(at, open - at), words = ptx.substr(open, close - open);
        Kernel kernel{dlsym(RTLD_DEFAULT, name.c_str()), {}};
        for (size_t param = words.find(".param"); param != std::string::npos; param = words.find(".param", param + 1)) {
            const std::string line = words.substr(param, words.find('\n', param) - param);
            const size_t room = line.find('[');
            const size_t kind = line.find_first_of("usfb", line.find(" .", 6) + 2);
            const size_t bytes = room == std::string::npos ? std::stoul(line.substr(kind + 1)) / 8 : std::stoul(line.substr(room + 1));
            kernel.arguments.push_back({room == std::string::npos && line[kind] == 'f', bytes});
        }
        kernels[name] = kernel;
        at = close;
    }
}

// ---- cuBLASLt ----------------------------------------------------------------------------------------------------------------

struct Layout {
    int type;
    int64_t rows, columns, stride;
};

struct Product {
    int64_t attributes[64];
};

// ---- cuDNN -------------------------------------------------------------------------------------------------------------------

struct Descriptor {
    int kind;
    bool finished = false;
    std::map<int, std::vector<unsigned char>> attributes;

    template <class T> T one(int name, size_t at = 0) const {
        T value;
        std::memcpy(&value, attributes.at(name).data() + at * sizeof(T), sizeof(T));
        return value;
    }

    std::vector<int64_t> numbers(int name) const {
        const auto &bytes = attributes.at(name);
        std::vector<int64_t> values(bytes.size() / sizeof(int64_t));
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }

    Descriptor *other(int name, size_t at = 0) const { return one<Descriptor *>(name, at); }
};

// Names of attributes, as in cudnn_graph.h.
constexpr int TENSOR_TYPE = 901, TENSOR_SIDES = 902, TENSOR_STRIDES = 903, TENSOR_ID = 906, TENSOR_ALIGNMENT = 900;

using Addresses = std::map<int64_t, void *>;

struct View {
    Number number;
    std::vector<int64_t> sides, strides;
    void *first;

    View(const Descriptor *tensor, const Addresses &addresses)
        : number(of_dnn(tensor->one<int>(TENSOR_TYPE))), sides(tensor->numbers(TENSOR_SIDES)),
          strides(tensor->numbers(TENSOR_STRIDES)), first(addresses.at(tensor->one<int64_t>(TENSOR_ID))) {
        if (reinterpret_cast<uint64_t>(first) % tensor->one<int64_t>(TENSOR_ALIGNMENT) == 0) return;
        std::fprintf(stderr, "a tensor lies at an address that its plan was not made for\n");
        std::abort();
    }

    int64_t place(const std::vector<int64_t> &at) const {
        int64_t place = 0;
        for (size_t axis = 0; axis < at.size(); ++axis) place += at[axis] * strides[axis];
        return place;
    }

    double get(const std::vector<int64_t> &at) const { return read(number, first, place(at)); }
    void set(const std::vector<int64_t> &at, double value) const { write(number, first, place(at), value); }
};

void attend(const Descriptor *operation, const Addresses &addresses) {
    View q(operation->other(2800), addresses), k(operation->other(2801), addresses), v(operation->other(2802), addresses),
        out(operation->other(2803), addresses);
    const float scale = *static_cast<float *>(addresses.at(operation->other(2805)->one<int64_t>(TENSOR_ID)));
    for (int64_t film = 0; film < q.sides[0]; ++film)
        for (int64_t head = 0; head < q.sides[1]; ++head)
            for (int64_t query = 0; query < q.sides[2]; ++query) {
                std::vector<double> weights(k.sides[2]);
                double most = -INFINITY, sum = 0;
                for (int64_t key = 0; key < k.sides[2]; ++key) {
                    double score = 0;
                    for (int64_t at = 0; at < q.sides[3]; ++at)
                        score += q.get({film, head, query, at}) * k.get({film, head, key, at});
                    weights[key] = score * scale;
                    most = std::max(most, weights[key]);
                }
                for (double &weight : weights) sum += weight = std::exp(weight - most);
                for (int64_t at = 0; at < v.sides[3]; ++at) {
                    double value = 0;
                    for (int64_t key = 0; key < k.sides[2]; ++key) value += weights[key] * v.get({film, head, key, at});
                    out.set({film, head, query, at}, value / sum);
                }
            }
}

void convolve(const Descriptor *operation, const Descriptor *biased, const Addresses &addresses) {
    const Descriptor *way = operation->other(702);
    const int64_t padding = way->numbers(105)[0], stride = way->numbers(103)[0];
    View x(operation->other(704), addresses), weight(operation->other(703), addresses), bias(biased->other(752), addresses),
        out(biased->other(753), addresses);
    for (int64_t to = 0; to < out.sides[1]; ++to)
        for (int64_t row = 0; row < out.sides[2]; ++row)
            for (int64_t column = 0; column < out.sides[3]; ++column) {
                double sum = 0;
                for (int64_t from = 0; from < x.sides[1]; ++from)
                    for (int64_t i = 0; i < weight.sides[2]; ++i)
                        for (int64_t j = 0; j < weight.sides[3]; ++j) {
                            const int64_t h = row * stride + i - padding, w = column * stride + j - padding;
                            if (h < 0 || w < 0 || h >= x.sides[2] || w >= x.sides[3]) continue;
                            sum += x.get({0, from, h, w}) * weight.get({to, from, i, j});
                        }
                out.set({0, to, row, column}, sum + bias.get({0, to, 0, 0}));
            }
}

} // namespace

#define CALL extern "C" __attribute__((visibility("default")))

// ---- the driver --------------------------------------------------------------------------------------------------------------

CALL int cuInit(unsigned) { return OK; }
CALL int cuDeviceGet(int *device, int) { return *device = 0, OK; }
CALL int cuDeviceGetAttribute(int *value, int attribute, int) {
    constexpr int MAJOR = 75, MINOR = 76, POOLS = 115;
    *value = attribute == MAJOR ? 9 : attribute == MINOR ? 0 : attribute == POOLS ? 1 : 1024;
    return OK;
}
CALL int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &pieces, OK; }
CALL int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
CALL int cuCtxDestroy_v2(void *) { return OK; }
CALL int cuCtxGetCurrent(void **context) { return *context = &pieces, OK; }
CALL int cuCtxSetCurrent(void *) { return OK; }
CALL int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = &pieces, OK; }
CALL int cuMemPoolSetAttribute(void *, int, void *) { return most_in_use = in_use, OK; }
CALL int cuMemPoolGetAttribute(void *, int, uint64_t *value) { return *value = most_in_use, OK; }
CALL int cuMemPoolTrimTo(void *, size_t) { return OK; }
CALL int cuEventCreate(void **event, unsigned) { return *event = &pieces, OK; }
CALL int cuEventDestroy_v2(void *) { return OK; }
CALL int cuEventRecord(void *, void *) { return OK; }
CALL int cuEventSynchronize(void *) { return OK; }
CALL int cuStreamDestroy_v2(void *) { return OK; }
CALL int cuStreamIsCapturing(void *, int *status) { return *status = 0, OK; }
CALL int cuStreamSynchronize(void *) { return OK; }
CALL int cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
CALL int cuGetErrorString(int, const char **words) { return *words = "refused by the card in software", OK; }
CALL int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = *total = size_t{8} << 30, OK; }
CALL int cuMemAlloc_v2(uint64_t *address, size_t bytes) { return *address = take(bytes), OK; }
CALL int cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return *address = take(bytes), OK; }
CALL int cuMemFree_v2(uint64_t address) { return give(address); }
CALL int cuMemFreeAsync(uint64_t address, void *) { return give(address); }
CALL int cuMemHostAlloc(void **memory, size_t bytes, unsigned) { return *memory = std::malloc(bytes), OK; }
CALL int cuMemFreeHost(void *memory) { return std::free(memory), OK; }
CALL int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
    return std::memcpy(reinterpret_cast<void *>(to), from, bytes), OK;
}
CALL int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
    return std::memcpy(to, reinterpret_cast<void *>(from), bytes), OK;
}
CALL int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) {
    return std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes), OK;
}
CALL int cuMemcpyPeerAsync(uint64_t, void *, uint64_t, void *, size_t, void *) { return NOT_FOUND; }
CALL int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *) {
    return std::memset(reinterpret_cast<void *>(to), value, bytes), OK;
}
// What the compiler of kernels asks a driver for, which does without.
CALL int cuGetExportTable(const void **, const void *) { return NOT_FOUND; }
CALL int cuModuleLoad(void **, const char *) { return NOT_FOUND; }
CALL int cuModuleLoadData(void **module, const void *image) {
    ONE_AT_A_TIME;
    learn(static_cast<const char *>(image));
    return *module = &pieces, OK;
}
CALL int cuModuleUnload(void *) { return OK; }
CALL int cuModuleGetFunction(const Kernel **function, void *, const char *name) {
    ONE_AT_A_TIME;
    auto found = kernels.find(name);
    if (found == kernels.end() || !found->second.code) {
        std::fprintf(stderr, "the card in software has no kernel `%s`\n", name);
        return NOT_FOUND;
    }
    return *function = &found->second, OK;
}
CALL int cuLaunchKernel(const Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                        void *, void **arguments, void **) {
    ONE_AT_A_TIME;
    run_kernel({gx, gy, gz}, {bx, by, bz}, [&] { (*kernel)(arguments); });
    return OK;
}

// ---- cuBLAS, cuRAND ----------------------------------------------------------------------------------------------------------

CALL int cublasCreate_v2(void **handle) { return *handle = &pieces, OK; }
CALL int cublasDestroy_v2(void *) { return OK; }
CALL int cublasSetStream_v2(void *, void *) { return OK; }
// c = alpha·a·b + beta·c, all of one type, by columns.
void multiply(Number number, int m, int n, int k, double alpha, int side_a, const void *a, int lda, long long step_a, int side_b,
              const void *b, int ldb, long long step_b, double beta, void *c, int ldc, long long step_c, int films) {
    for (long long film = 0; film < films; ++film)
        for (int64_t j = 0; j < n; ++j)
            for (int64_t i = 0; i < m; ++i) {
                double sum = 0;
                for (int64_t l = 0; l < k; ++l)
                    sum += read(number, a, film * step_a + (side_a ? i * lda + l : l * lda + i)) *
                           read(number, b, film * step_b + (side_b ? l * ldb + j : j * ldb + l));
                const int64_t place = film * step_c + j * ldc + i;
                write(number, c, place, alpha * sum + (beta == 0 ? 0 : beta * read(number, c, place)));
            }
}
CALL int cublasDgemmStridedBatched(void *, int side_a, int side_b, int m, int n, int k, const double *alpha, const double *a, int lda,
                                   long long step_a, const double *b, int ldb, long long step_b, const double *beta, double *c, int ldc,
                                   long long step_c, int films) {
    return multiply(Number::f64, m, n, k, *alpha, side_a, a, lda, step_a, side_b, b, ldb, step_b, *beta, c, ldc, step_c, films), OK;
}
CALL int cublasGemmStridedBatchedEx(void *, int side_a, int side_b, int m, int n, int k, const float *alpha, const void *a, int type,
                                    int lda, long long step_a, const void *b, int, int ldb, long long step_b, const float *beta, void *c,
                                    int, int ldc, long long step_c, int films, int, int) {
    return multiply(of_blas(type), m, n, k, *alpha, side_a, a, lda, step_a, side_b, b, ldb, step_b, *beta, c, ldc, step_c, films), OK;
}
CALL int curandCreateGenerator(void **generator, int) { return *generator = &pieces, OK; }
CALL int curandDestroyGenerator(void *) { return OK; }
CALL int curandGenerateNormal(void *, float *to, size_t count, float mean, float deviation) {
    static uint64_t state = 1;
    auto uniform = [] { return ((state = state * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0 + 1e-9; };
    for (size_t at = 0; at < count; ++at) {
        const double length = std::sqrt(-2 * std::log(uniform()));
        to[at] = static_cast<float>(mean + deviation * length * std::cos(2 * M_PI * uniform()));
    }
    return OK;
}
CALL int curandGenerateNormalDouble(void *, double *, size_t, double, double) { return RAND_REFUSES; }
CALL int curandGenerateUniform(void *, float *, size_t) { return RAND_REFUSES; }
CALL int curandGenerateUniformDouble(void *, double *, size_t) { return RAND_REFUSES; }
CALL int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return OK; }
CALL int curandSetStream(void *, void *) { return OK; }

// ---- cuBLASLt ----------------------------------------------------------------------------------------------------------------

CALL int cublasLtCreate(void **handle) { return *handle = &pieces, OK; }
CALL int cublasLtDestroy(void *) { return OK; }
CALL int cublasLtMatmulDescCreate(Product **product, int, int) { return *product = new Product{}, OK; }
CALL int cublasLtMatmulDescDestroy(Product *product) { return delete product, OK; }
CALL int cublasLtMatmulDescSetAttribute(Product *product, int attribute, const void *value, size_t bytes) {
    if (attribute < 0 || attribute >= 64 || bytes > sizeof(int64_t)) return BLAS_REFUSES;
    product->attributes[attribute] = 0;
    std::memcpy(&product->attributes[attribute], value, bytes);
    return OK;
}
CALL int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    return *layout = new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride}, OK;
}
CALL int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, OK; }
CALL int cublasLtMatmulPreferenceCreate(void **wish) { return *wish = &pieces, OK; }
CALL int cublasLtMatmulPreferenceDestroy(void *) { return OK; }
CALL int cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return OK; }
CALL int cublasLtMatmulAlgoGetHeuristic(void *, Product *, Layout *, Layout *, Layout *, Layout *, void *, int, void *result, int *count) {
    // An algorithm, its scratch memory, a status, waves, and room for more.
    std::memset(result, 0, 64 + 8 + 4 + 4 + 16);
    return *count = 1, OK;
}
CALL int cublasLtMatmul(void *, Product *product, const float *alpha, const void *a, Layout *of_a, const void *b, Layout *of_b,
                        const float *, const void *, Layout *, void *d, Layout *of_d, const void *, void *, size_t, void *) {
    constexpr int SIDE_A = 3, SIDE_B = 4, EPILOGUE = 7, BIAS = 8, SCALE_A = 17, SCALE_B = 18;
    constexpr int64_t ADDS = 4, GELU = 32;
    const auto &said = product->attributes;
    for (const void *matrix : {a, b, static_cast<const void *>(d)})
        if (reinterpret_cast<uint64_t>(matrix) % 256) return BLAS_REFUSES;
    auto scale = [&](int name) { return said[name] ? *reinterpret_cast<const float *>(said[name]) : 1.0f; };
    const int64_t depth = said[SIDE_A] ? of_a->rows : of_a->columns;
    if (depth != (said[SIDE_B] ? of_b->columns : of_b->rows)) return BLAS_REFUSES;
    for (int64_t column = 0; column < of_d->columns; ++column)
        for (int64_t row = 0; row < of_d->rows; ++row) {
            double sum = 0;
            for (int64_t l = 0; l < depth; ++l)
                sum += read(of_blas(of_a->type), a, said[SIDE_A] ? row * of_a->stride + l : l * of_a->stride + row) *
                       read(of_blas(of_b->type), b, said[SIDE_B] ? l * of_b->stride + column : column * of_b->stride + l);
            sum *= *alpha * scale(SCALE_A) * scale(SCALE_B);
            if (said[EPILOGUE] & ADDS) sum += read(of_blas(of_d->type), reinterpret_cast<const void *>(said[BIAS]), row);
            if (said[EPILOGUE] & GELU) sum = gelu(sum);
            write(of_blas(of_d->type), d, column * of_d->stride + row, sum);
        }
    return OK;
}

// ---- cuDNN -------------------------------------------------------------------------------------------------------------------

CALL size_t cudnnGetVersion() { return 0; }
CALL int cudnnCreate(void **handle) { return *handle = &pieces, OK; }
CALL int cudnnDestroy(void *) { return OK; }
CALL int cudnnSetStream(void *, void *) { return OK; }
CALL void cudnnGetLastErrorString(char *words, size_t room) { std::snprintf(words, room, "refused by the card in software"); }
CALL int cudnnBackendCreateDescriptor(int kind, Descriptor **descriptor) {
    *descriptor = new Descriptor;
    return (*descriptor)->kind = kind, OK;
}
// Plans refer to what they were made from, which its owner may have dropped: here it stays.
CALL int cudnnBackendDestroyDescriptor(Descriptor *) { return OK; }
CALL int cudnnBackendSetAttribute(Descriptor *descriptor, int name, int type, int64_t count, const void *values) {
    // Bytes of a value of each type that is used, as cudnn_graph.h numbers them.
    static const std::map<int, size_t> sizes = {{0, 8}, {1, 4}, {2, 1}, {3, 8}, {4, 4}, {6, 8}, {7, 4}, {8, 4}, {14, 4}, {15, 8}};
    if (descriptor->finished || !sizes.count(type)) return DNN_REFUSES;
    auto *first = static_cast<const unsigned char *>(values);
    descriptor->attributes[name].assign(first, first + count * sizes.at(type));
    return OK;
}
CALL int cudnnBackendFinalize(Descriptor *descriptor) { return descriptor->finished = true, OK; }
CALL int cudnnBackendGetAttribute(Descriptor *descriptor, int name, int, int64_t, int64_t *count, void *values) {
    constexpr int GRAPH = 201, RESULTS = 202, ENGINE = 300, WORKSPACE = 402, NOTES = 1303;
    auto *others = static_cast<Descriptor **>(values);
    *count = 1;
    switch (name) {
    case RESULTS: others[0]->attributes[GRAPH] = descriptor->attributes.at(GRAPH); break;
    case ENGINE: break;
    case WORKSPACE: *static_cast<int64_t *>(values) = 16; break;
    case NOTES: *count = 0; break;
    default: return DNN_REFUSES;
    }
    return OK;
}
CALL int cudnnBackendExecute(void *, Descriptor *plan, Descriptor *pack) {
    constexpr int CHOICE = 401, GRAPH = 201, OPERATIONS = 801, IDS = 1000, ADDRESSES = 1001, ATTENTION = 41;
    const Descriptor *graph = plan->other(CHOICE)->other(GRAPH);
    Addresses addresses;
    const auto ids = pack->numbers(IDS);
    for (size_t at = 0; at < ids.size(); ++at) addresses[ids[at]] = pack->one<void *>(ADDRESSES, at);
    const Descriptor *first = graph->other(OPERATIONS);
    if (first->kind == ATTENTION) attend(first, addresses);
    else convolve(first, graph->other(OPERATIONS, 1), addresses);
    return OK;
}


// The older interface, which candle uses: a convolution without a bias, of images without gaps.
struct Sides {
    Number number;
    int64_t films, channels, rows, columns, strides[4];
};
struct Way {
    int pad[2], stride[2], dilation[2];
};
CALL int cudnnCreateTensorDescriptor(Sides **sides) { return *sides = new Sides{}, OK; }
CALL int cudnnDestroyTensorDescriptor(Sides *sides) { return delete sides, OK; }
CALL int cudnnCreateFilterDescriptor(Sides **sides) { return *sides = new Sides{}, OK; }
CALL int cudnnDestroyFilterDescriptor(Sides *sides) { return delete sides, OK; }
CALL int cudnnCreateConvolutionDescriptor(Way **way) { return *way = new Way{}, OK; }
CALL int cudnnDestroyConvolutionDescriptor(Way *way) { return delete way, OK; }
CALL int cudnnSetTensor4dDescriptorEx(Sides *sides, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
    return *sides = {of_dnn(type), n, c, h, w, {sn, sc, sh, sw}}, OK;
}
CALL int cudnnSetTensor4dDescriptor(Sides *sides, int, int type, int n, int c, int h, int w) {
    return cudnnSetTensor4dDescriptorEx(sides, type, n, c, h, w, c * h * w, h * w, w, 1);
}
CALL int cudnnSetFilter4dDescriptor(Sides *sides, int type, int, int k, int c, int h, int w) {
    return cudnnSetTensor4dDescriptorEx(sides, type, k, c, h, w, c * h * w, h * w, w, 1);
}
CALL int cudnnSetConvolution2dDescriptor(Way *way, int ph, int pw, int sh, int sw, int dh, int dw, int, int) {
    return *way = {{ph, pw}, {sh, sw}, {dh, dw}}, OK;
}
CALL int cudnnGetConvolutionForwardAlgorithm_v7(void *, Sides *, Sides *, Way *, Sides *, int, int *count, void *found) {
    // An algorithm, its status, time, memory, and more: zeros are the first, and fine.
    std::memset(found, 0, 48);
    return *count = 1, OK;
}
CALL int cudnnGetConvolutionForwardWorkspaceSize(void *, Sides *, Sides *, Way *, Sides *, int, size_t *bytes) { return *bytes = 16, OK; }
CALL int cudnnConvolutionForward(void *, const void *, Sides *x, const void *xs, Sides *w, const void *weight, Way *way, int, void *, size_t,
                                 const void *, Sides *y, void *ys) {
    auto place = [](const Sides *of, int64_t n, int64_t c, int64_t h, int64_t w) {
        return n * of->strides[0] + c * of->strides[1] + h * of->strides[2] + w * of->strides[3];
    };
    for (int64_t film = 0; film < y->films; ++film)
        for (int64_t to = 0; to < y->channels; ++to)
            for (int64_t row = 0; row < y->rows; ++row)
                for (int64_t column = 0; column < y->columns; ++column) {
                    double sum = 0;
                    for (int64_t from = 0; from < x->channels; ++from)
                        for (int64_t i = 0; i < w->rows; ++i)
                            for (int64_t j = 0; j < w->columns; ++j) {
                                const int64_t h = row * way->stride[0] + i * way->dilation[0] - way->pad[0];
                                const int64_t v = column * way->stride[1] + j * way->dilation[1] - way->pad[1];
                                if (h < 0 || v < 0 || h >= x->rows || v >= x->columns) continue;
                                sum += read(x->number, xs, place(x, film, from, h, v)) * read(w->number, weight, place(w, to, from, i, j));
                            }
                    write(y->number, ys, place(y, film, to, row, column), sum);
                }
    return OK;
}
