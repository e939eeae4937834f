// Products of activations, quantized to int8 in groups, with a packed matrix.
//
// Every row is computed by itself, with its groups in ascending order: which rows are computed with it, by how many
// threads, and whether vectors or tiles sum its products change no bit of the result.
#pragma once
#include "simd.h"
#include "workspace.h"

namespace EDGEAI_NAMESPACE {

using namespace edgeai;

// ---------------------------------------------------------------------------------------------------------- activations

static inline void quantize(const float* x, int k, int8_t* q, float* scale, float* scaled_sum, int32_t* sums) {
    for (int g = 0; g < k / GROUP; g++, x += GROUP, q += GROUP) {
        const vf a = load(x), b = load(x + LANES);
        const float top = largest(max(abs(a), abs(b)));
        const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
        const vi low = round_int(mul(a, set1(inverse))), high = round_int(mul(b, set1(inverse)));
        store_i8(q, low);
        store_i8(q + LANES, high);
        const int32_t first = sum(low), second = sum(high);
        scale[g] = top / 127.0f;
        sums[2 * g] = first;
        sums[2 * g + 1] = second;
        scaled_sum[g] = scale[g] * static_cast<float>(first + second);
    }
}

static inline void rms_norm(const float* x, const float* weight, int n, float eps, float* y) {
    vf squares = set1(0.0f);
    for (int i = 0; i < n; i += LANES) squares = fmadd(load(x + i), load(x + i), squares);
    const vf scale = set1(1.0f / std::sqrt(sum(squares) / static_cast<float>(n) + eps));
    for (int i = 0; i < n; i += LANES) store(y + i, mul(mul(load(x + i), scale), load(weight + i)));
}

constexpr int PREFETCH_DISTANCE = 8192;  // bytes

struct Rows {  // activations ready for products
    const Quantized* data;
    int k;
};

constexpr int OWN_ROWS = 8;  // so many are prepared by every thread for itself, which costs less than a phase

// Prepares rows `begin` to `end` by `make(row, out)`.
template <class Make>
static inline void prepare(Quantized& to, int begin, int end, int k, const Make& make) {
    for (int r = begin; r < end; r++) {
        float* exact = to.exact.data() + static_cast<size_t>(r) * k;
        make(r, exact);
        quantize(exact, k, to.q.data() + static_cast<size_t>(r) * k, to.scale.data() + static_cast<size_t>(r) * (k / 32),
                 to.scaled_sum.data() + static_cast<size_t>(r) * (k / 32), to.sums.data() + static_cast<size_t>(r) * (k / 16));
    }
}

// Rows of activations made by `make`, and a phase with products of them: work(rows, begin, end) computes a part of `units`.
template <class Make, class Work>
static inline void multiply_phase(Team::Member& self, Workspace& ws, int num_rows, int k, Make make, int units, Work work) {
    const bool alone = num_rows <= OWN_ROWS || self.threads == 1;
    Quantized& to = alone ? ws.own[self.thread] : ws.shared;
    bool is_ready = !alone;
    if (!alone) self.share(num_rows, [&](int begin, int end) { prepare(to, begin, end, k, make); });
    self.share(units, [&](int begin, int end) {
        if (!is_ready) prepare(to, 0, num_rows, k, make);  // by those who take a part only: the others may come too late
        is_ready = true;
        work(Rows{&to, k}, begin, end);
    });
}

// ------------------------------------------------------------------------------------------------------------- products

// Asks for the weights that follow a group at some distance. Without it the arithmetic of several rows and the reading of
// weights hardly overlap: too few groups fit the processor's window.
template <Kind KIND>
static inline void prefetch(const uint8_t* bytes) {
    for (int i = 0; i < group_step(KIND); i += 64) __builtin_prefetch(bytes + PREFETCH_DISTANCE + i);
}

// Where a group's weights begin within those of sixteen outputs.
template <Kind KIND>
static inline const uint8_t* group_at(const uint8_t* w, int g) {
    return is_super(KIND) ? w + g / 8 * super_bytes(KIND) + g % 8 * group_bytes(KIND) : w + g * group_step(KIND);
}

// Adds a group to sixteen outputs of R rows: w holds the weights of all groups, and dot the sums of their products with
// each row, or for Q6K those of its first and its second half.
template <Kind KIND, int R>
static inline void add_group(const uint8_t* w, const Rows& rows, int row, int g, const vi* dot, vf* acc) {
    const int groups = rows.k / GROUP;
    const float* scale = rows.data->scale.data() + static_cast<size_t>(row) * groups + g;
    const float* scaled_sum = rows.data->scaled_sum.data() + static_cast<size_t>(row) * groups + g;
    constexpr int BYTES = group_bytes(KIND);
    const auto half_at = [](const uint8_t* p) { return load_half(reinterpret_cast<const uint16_t*>(p)); };
    if constexpr (!is_super(KIND)) {
        w += g * group_step(KIND) + BYTES;
        const vf d = half_at(w);
        for (int r = 0; r < R; r++) acc[r] = fmadd(to_float(dot[r]), mul(d, set1(scale[r * groups])), acc[r]);
        if constexpr (KIND != Q8) {
            const vf m = half_at(w + 32);
            for (int r = 0; r < R; r++) acc[r] = fmadd(m, set1(scaled_sum[r * groups]), acc[r]);
        }
    } else if constexpr (KIND == Q6K) {  // behind the 8 groups: [16 x 16 scales][16 d]
        w += g / 8 * super_bytes(KIND) + 8 * BYTES;
        const int8_t* scales = reinterpret_cast<const int8_t*>(w) + 32 * (g % 8);
        const vf d = half_at(w + 256), first = mul(d, load_i8(scales)), second = mul(d, load_i8(scales + 16));
        for (int r = 0; r < R; r++) {
            const vf by = set1(scale[r * groups]);
            acc[r] = fmadd(to_float(dot[2 * r]), mul(first, by), acc[r]);
            acc[r] = fmadd(to_float(dot[2 * r + 1]), mul(second, by), acc[r]);
        }
    } else {  // behind the 8 groups: [8 x 16 scales][8 x 16 minima][16 d][16 dmin]
        w += g / 8 * super_bytes(KIND) + 8 * BYTES;
        const vf d = mul(half_at(w + 256), load_u8(w + 16 * (g % 8))), m = mul(half_at(w + 288), load_u8(w + 128 + 16 * (g % 8)));
        for (int r = 0; r < R; r++) {
            acc[r] = fmadd(to_float(dot[r]), mul(d, set1(scale[r * groups])), acc[r]);
            acc[r] = fmadd(m, set1(-scaled_sum[r * groups]), acc[r]);
        }
    }
}

// Sixteen outputs of R rows, before the bias.
template <Kind KIND, int R>
static inline void block(const uint8_t* w, const Rows& rows, int row, vf* acc) {
    const int k = rows.k, groups = k / GROUP;
    for (int r = 0; r < R; r++) acc[r] = set1(0.0f);
    if constexpr (is_float(KIND)) {
        const float* x = rows.data->exact.data() + static_cast<size_t>(row) * k;
        constexpr int WIDTH = KIND == F32 ? 64 : 32;
        for (int i = 0; i < k; i++, w += WIDTH) {
            vf weight;
            if constexpr (KIND == F16) weight = load_half(reinterpret_cast<const uint16_t*>(w));
            if constexpr (KIND == BF16) weight = load_bfloat(reinterpret_cast<const uint16_t*>(w));
            if constexpr (KIND == F32) weight = load(reinterpret_cast<const float*>(w));
            for (int r = 0; r < R; r++) acc[r] = fmadd(weight, set1(x[static_cast<size_t>(r) * k + i]), acc[r]);
        }
    } else {
        const int8_t* q = rows.data->q.data() + static_cast<size_t>(row) * k;
        const int32_t* sums = rows.data->sums.data() + static_cast<size_t>(row) * 2 * groups;
        for (int g = 0; g < groups; g++) {
            const uint8_t* bytes = group_at<KIND>(w, g);
            prefetch<KIND>(bytes);
            vi dot[KIND == Q6K ? 2 * R : R];
            dots<group_bits(KIND), KIND == Q6K, R>(bytes, q + g * GROUP, k, sums + 2 * g, 2 * groups, dot);
            add_group<KIND, R>(w, rows, row, g, dot, acc);
        }
    }
}

using Block = void (*)(const uint8_t*, const Rows&, int, vf*);

template <Kind KIND, int R = MAX_ROWS>
static inline Block block_of_rows(int rows) {
    if constexpr (R > 1) {
        if (rows < R) return block_of_rows<KIND, R - 1>(rows);
    }
    return block<KIND, R>;
}

}  // namespace
#include "tiles.h"

namespace EDGEAI_NAMESPACE {

// How many of the rows that are left go together: parts of nearly equal size.
static inline int rows_at_once(int left, int most) {
    const int parts = (left + most - 1) / most;
    return (left + parts - 1) / parts;
}

static inline Block block_of(int kind, int rows) {
    switch (kind) {
        case Q4: return block_of_rows<Q4>(rows);
        case Q8: return block_of_rows<Q8>(rows);
        case Q8M: return block_of_rows<Q8M>(rows);
        case Q4K: return block_of_rows<Q4K>(rows);
        case Q8K: return block_of_rows<Q8K>(rows);
        case Q6K: return block_of_rows<Q6K>(rows);
        case F16: return block_of_rows<F16>(rows);
        case BF16: return block_of_rows<BF16>(rows);
        default: return block_of_rows<F32>(rows);
    }
}

// Outputs of one matrix in blocks of 16 for up to BLOCK_ROWS rows at a time.
class Product {
public:
    Product(const Matrix& matrix, const Rows& rows)
        : matrix_(matrix), rows_(rows), bytes_(packed_bytes(matrix.kind, LANES, matrix.k)) {}

    void block(int index, int row, int count, vf* acc) const {
        const uint8_t* w = matrix_.data + bytes_ * index;
        if (!multiply_in_tiles(matrix_.kind, w, rows_, row, count, acc))
            for (int r = 0, part; r < count; r += part) {
                part = rows_at_once(count - r, MAX_ROWS);
                block_of(matrix_.kind, part)(w, rows_, row + r, acc + r);
            }
        if (matrix_.bias)
            for (int r = 0; r < count; r++) acc[r] = add(acc[r], load(matrix_.bias + LANES * index));
    }

private:
    const Matrix& matrix_;
    const Rows rows_;
    const size_t bytes_;
};

static inline int blocks_of(const Matrix& matrix) { return (matrix.n + LANES - 1) / LANES; }

// Calls put(row, first output, values) for the blocks of outputs from `begin` to `end`, as far as the matrix has them.
template <class Put>
static inline void multiply(const Matrix& matrix, const Rows& rows, int num_rows, int begin, int end, Put put) {
    const Product product(matrix, rows);
    vf acc[BLOCK_ROWS];
    for (int b = std::max(begin, 0); b < std::min(end, blocks_of(matrix)); b++)
        for (int r = 0, count; r < num_rows; r += count) {
            count = rows_at_once(num_rows - r, BLOCK_ROWS);
            product.block(b, r, count, acc);
            for (int i = 0; i < count; i++) put(r + i, b * LANES, acc[i]);
        }
}

// SiLU(gate x) (up x) of the blocks of outputs from `begin` to `end`: out [num_rows, gate.n].
static inline void swiglu(const Matrix& gate_matrix, const Matrix& up_matrix, const Rows& rows, int num_rows, int begin, int end, float* out) {
    const Product gate(gate_matrix, rows), up(up_matrix, rows);
    for (int b = begin; b < end; b++)
        for (int r = 0, count; r < num_rows; r += count) {
            vf g[BLOCK_ROWS], u[BLOCK_ROWS];
            count = rows_at_once(num_rows - r, BLOCK_ROWS);
            gate.block(b, r, count, g);
            up.block(b, r, count, u);
            for (int i = 0; i < count; i++) {
                const vf sigmoid = div(set1(1.0f), add(set1(1.0f), exponential(mul(g[i], set1(-1.0f)))));
                store(out + static_cast<size_t>(r + i) * gate_matrix.n + b * LANES, mul(mul(g[i], sigmoid), u[i]));
            }
        }
}

static inline void store_some(float* to, vf values, int count) {
    if (count >= LANES) {
        store(to, values);
    } else {
        float all[LANES];
        store(all, values);
        memcpy(to, all, sizeof(float) * count);
    }
}

}  // namespace
