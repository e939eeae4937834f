// One forward pass of a Llama-family decoder over new tokens of several sequences.
//
// Every row is computed by itself in an order that depends on nothing but its own position: which rows are computed
// with it, how many threads work, and where a tree's node lies in the cache change no bit of the result.
#pragma once
#include <algorithm>
#include "simd.h"
#include "workspace.h"

namespace EDGEAI_NAMESPACE {

using namespace edgeai;

// ---------------------------------------------------------------------------------------------------------- activations

static inline void quantize(const float* x, int k, int8_t* q, float* scale, float* scaled_sum, int32_t* sums) {
    for (int g = 0; g < k / GROUP; g++, x += GROUP, q += GROUP) {
        const vf a = load(x), b = load(x + LANES);
        float largest[LANES], top = 0.0f;
        store(largest, max(abs(a), abs(b)));
        for (float value : largest) top = value > top ? value : top;
        const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
        store_i8(q, round_int(mul(a, set1(inverse))));
        store_i8(q + LANES, round_int(mul(b, set1(inverse))));
        int32_t first = 0, second = 0;
        for (int i = 0; i < LANES; i++) first += q[i], second += q[i + LANES];
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

struct Rows {  // activations ready for products
    const Quantized* data;
    int k;
};

// Prepares rows by `make(row, out)`. A few rows are prepared by every thread for itself, which costs less than to meet.
template <class Make>
static inline Rows prepare(Workspace& ws, int rows, int k, int thread, int threads, Barrier& barrier, Make make) {
    const bool alone = rows <= 2 || threads == 1;
    Quantized& to = alone ? ws.own[thread] : ws.shared;
    for (int r = alone ? 0 : thread; r < rows; r += alone ? 1 : threads) {
        float* exact = to.exact.data() + static_cast<size_t>(r) * k;
        make(r, exact);
        quantize(exact, k, to.q.data() + static_cast<size_t>(r) * k, to.scale.data() + static_cast<size_t>(r) * (k / 32),
                 to.scaled_sum.data() + static_cast<size_t>(r) * (k / 32), to.sums.data() + static_cast<size_t>(r) * (k / 16));
    }
    if (!alone) barrier.wait();
    return {&to, k};
}

// ------------------------------------------------------------------------------------------------------------- products

// Sixteen outputs of R rows, before the bias.
template <Kind KIND, int R>
static inline void block(const uint8_t* w, const Rows& rows, int row, vf* acc) {
    const int k = rows.k, groups = k / GROUP;
    for (int r = 0; r < R; r++) acc[r] = set1(0.0f);
    if constexpr (KIND == F16 || KIND == BF16 || KIND == F32) {
        const float* x = rows.data->exact.data() + static_cast<size_t>(row) * k;
        constexpr int WIDTH = KIND == F32 ? 64 : 32;
        for (int i = 0; i < k; i++, w += WIDTH) {
            vf weight;
            if constexpr (KIND == F16) weight = load_half(reinterpret_cast<const uint16_t*>(w));
            if constexpr (KIND == BF16) weight = load_bfloat(reinterpret_cast<const uint16_t*>(w));
            if constexpr (KIND == F32) weight = load(reinterpret_cast<const float*>(w));
            for (int r = 0; r < R; r++) acc[r] = fmadd(weight, set1(x[static_cast<size_t>(r) * k + i]), acc[r]);
        }
            return;
    }
    const Quantized& a = *rows.data;
    const int8_t* q = a.q.data() + static_cast<size_t>(row) * k;
    const float* scale = a.scale.data() + static_cast<size_t>(row) * groups;
    const float* scaled_sum = a.scaled_sum.data() + static_cast<size_t>(row) * groups;
    const int32_t* sums = a.sums.data() + static_cast<size_t>(row) * 2 * groups;
    constexpr int BITS = KIND == Q4 || KIND == Q4K ? 4 : 8;
    constexpr int BYTES = BITS == 4 ? 256 : 512;
    if constexpr (KIND == Q4 || KIND == Q8 || KIND == Q8M) {
        for (int g = 0; g < groups; g++) {
            vi dot[R];
            dots<BITS, false, R>(w, q + g * GROUP, k, sums + 2 * g, 2 * groups, dot);
            const vf d = load_half(reinterpret_cast<const uint16_t*>(w + BYTES));
            for (int r = 0; r < R; r++) acc[r] = fmadd(to_float(dot[r]), mul(d, set1(scale[r * groups + g])), acc[r]);
            if constexpr (KIND != Q8) {
                const vf m = load_half(reinterpret_cast<const uint16_t*>(w + BYTES + 32));
                for (int r = 0; r < R; r++) acc[r] = fmadd(m, set1(scaled_sum[r * groups + g]), acc[r]);
            }
            w += BYTES + (KIND == Q8 ? 32 : 64);
        }
    } else if constexpr (KIND == Q4K || KIND == Q8K) {
        // [8 groups of bytes][8 x 16 scales][8 x 16 minima][16 d][16 dmin]
        for (int g = 0; g < groups; g += 8, w += 8 * BYTES + 320) {
            const uint8_t *scales = w + 8 * BYTES, *minima = scales + 128;
            const vf d = load_half(reinterpret_cast<const uint16_t*>(w + 8 * BYTES + 256));
            const vf dmin = load_half(reinterpret_cast<const uint16_t*>(w + 8 * BYTES + 288));
            for (int s = 0; s < 8; s++) {
                vi dot[R];
                dots<BITS, false, R>(w + s * BYTES, q + (g + s) * GROUP, k, sums + 2 * (g + s), 2 * groups, dot);
                const vf ds = mul(d, load_u8(scales + 16 * s)), ms = mul(dmin, load_u8(minima + 16 * s));
                for (int r = 0; r < R; r++) {
                    acc[r] = fmadd(to_float(dot[r]), mul(ds, set1(scale[r * groups + g + s])), acc[r]);
                    acc[r] = fmadd(ms, set1(-scaled_sum[r * groups + g + s]), acc[r]);
                }
            }
        }
    } else {
        // [8 groups of bytes][16 x 16 scales][16 d]
        for (int g = 0; g < groups; g += 8, w += 8 * BYTES + 288) {
            const int8_t* scales = reinterpret_cast<const int8_t*>(w + 8 * BYTES);
            const vf d = load_half(reinterpret_cast<const uint16_t*>(w + 8 * BYTES + 256));
            for (int s = 0; s < 8; s++) {
                vi dot[2 * R];
                dots<BITS, true, R>(w + s * BYTES, q + (g + s) * GROUP, k, sums + 2 * (g + s), 2 * groups, dot);
                const vf first = mul(d, load_i8(scales + 32 * s)), second = mul(d, load_i8(scales + 32 * s + 16));
                for (int r = 0; r < R; r++) {
                    const vf by = set1(scale[r * groups + g + s]);
                    acc[r] = fmadd(to_float(dot[2 * r]), mul(first, by), acc[r]);
                    acc[r] = fmadd(to_float(dot[2 * r + 1]), mul(second, by), acc[r]);
                }
            }
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

// How many of the rows that are left go through the weights together: parts of nearly equal size.
static inline int rows_at_once(int left) {
    const int parts = (left + MAX_ROWS - 1) / MAX_ROWS;
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

// Outputs of one matrix in blocks of 16 for up to MAX_ROWS rows at a time.
class Product {
public:
    Product(const Matrix& matrix, const Rows& rows)
        : matrix_(matrix), rows_(rows), bytes_(packed_bytes(matrix.kind, LANES, matrix.k)) {}

    void block(int index, int row, int count, vf* acc) const {
        block_of(matrix_.kind, count)(matrix_.data + bytes_ * index, rows_, row, acc);
        if (matrix_.bias)
            for (int r = 0; r < count; r++) acc[r] = add(acc[r], load(matrix_.bias + LANES * index));
    }

private:
    const Matrix& matrix_;
    const Rows rows_;
    const size_t bytes_;
};

struct Share {
    int begin, end;
};
static inline Share share(int count, int thread, int threads) {
    return {static_cast<int>(static_cast<int64_t>(count) * thread / threads),
            static_cast<int>(static_cast<int64_t>(count) * (thread + 1) / threads)};
}

// Calls put(row, first output, values) for this thread's part of all outputs.
template <class Put>
static inline void multiply(const Matrix& matrix, const Rows& rows, int num_rows, int thread, int threads, Put put) {
    const Product product(matrix, rows);
    const Share mine = share((matrix.n + LANES - 1) / LANES, thread, threads);
    vf acc[MAX_ROWS];
    for (int b = mine.begin; b < mine.end; b++)
        for (int r = 0, count; r < num_rows; r += count) {
            count = rows_at_once(num_rows - r);
            product.block(b, r, count, acc);
            for (int i = 0; i < count; i++) put(r + i, b * LANES, acc[i]);
        }
}

// SiLU(gate x) (up x), of this thread's part of all outputs: out [num_rows, gate.n].
static inline void swiglu(const Matrix& gate_matrix, const Matrix& up_matrix, const Rows& rows, int num_rows, int thread, int threads, float* out) {
    const Product gate(gate_matrix, rows), up(up_matrix, rows);
    const Share mine = share(gate_matrix.n / LANES, thread, threads);
    for (int b = mine.begin; b < mine.end; b++)
        for (int r = 0, count; r < num_rows; r += count) {
            vf g[MAX_ROWS], u[MAX_ROWS];
            count = rows_at_once(num_rows - r);
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

// ------------------------------------------------------------------------------------------------------------ attention

static inline void rotate(float* x, const float* cos, const float* sin, int width, bool interleaved) {
    const int half = width / 2;
    if (interleaved) {
        for (int i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = std::fma(-b, sin[i], a * cos[i]);
            x[2 * i + 1] = std::fma(a, sin[i], b * cos[i]);
        }
    } else {
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = std::fma(-b, sin[i], a * cos[i]);
            x[i + half] = std::fma(a, sin[i], b * cos[i]);
        }
    }
}

// Scores of H query heads of R rows with the keys of one block of 16 slots. Rows lie `stride` apart, their scores
// `out_stride`, and heads `width` and `span`.
template <int R, int H>
static inline void score_block(const float* q, size_t stride, int width, const uint16_t* keys, float scale, float* out, size_t out_stride, size_t span) {
    vf acc[R][H];
    for (int r = 0; r < R; r++)
        for (int h = 0; h < H; h++) acc[r][h] = set1(0.0f);
    for (int i = 0; i < width; i++) {
        const vf key = load_half(keys + i * LANES);
        for (int r = 0; r < R; r++)
            for (int h = 0; h < H; h++) acc[r][h] = fmadd(set1(q[r * stride + h * width + i]), key, acc[r][h]);
    }
    for (int r = 0; r < R; r++)
        for (int h = 0; h < H; h++) store(out + r * out_stride + h * span, mul(acc[r][h], set1(scale)));
}

template <int R>
static inline void score_rows(const float* q, size_t stride, int heads, int width, const uint16_t* keys, float scale, float* out, size_t out_stride, size_t span) {
    int h = 0;
    for (; h + 3 <= heads; h += 3) score_block<R, 3>(q + h * width, stride, width, keys, scale, out + h * span, out_stride, span);
    for (; h < heads; h++) score_block<R, 1>(q + h * width, stride, width, keys, scale, out + h * span, out_stride, span);
}

// Softmax weights, not yet divided by their sum: e^(s - max) over `count` scores; the rest of the last lane is zero.
static inline float softmax(float* s, int count) {
    const int padded = (count + LANES - 1) / LANES * LANES;
    for (int i = count; i < padded; i++) s[i] = -INFINITY;
    vf top = set1(-INFINITY);
    for (int i = 0; i < padded; i += LANES) top = max(top, load(s + i));
    float lanes[LANES], largest = -INFINITY;
    store(lanes, top);
    for (float value : lanes) largest = value > largest ? value : largest;
    const vf shift = set1(-largest);
    for (int i = 0; i < padded; i += LANES) store(s + i, exponential(add(load(s + i), shift)));
    for (int i = count; i < padded; i++) s[i] = 0.0f;
    vf total = set1(0.0f);
    for (int i = 0; i < padded; i += LANES) total = add(total, load(s + i));
    return sum(total);
}

// What the values of one key-value head are mixed with for one row: the weights of its heads over the visible slots, then
// over the row's own ancestors.
struct Weights {
    const float* weights;  // [heads, span]
    const float* inverse;  // [heads], of their sums
    const int* slots;      // ancestors, counted from the segment's start
    int num_slots;
    float* out;  // [heads, head_dim]
};

// P parts of 16 dimensions, from `dim` on, of H heads of R rows. Visible values are read once for all rows.
template <int R, int H, int P>
static inline void mix_values(const uint16_t* values, const uint16_t* tree, int visible, int head, int dim, int width, size_t span, const Weights* rows) {
    vf acc[R][H][P];
    for (int r = 0; r < R; r++)
        for (int h = 0; h < H; h++)
            for (int p = 0; p < P; p++) acc[r][h][p] = set1(0.0f);
    for (int j = 0; j < visible; j++)
        for (int p = 0; p < P; p++) {
            const vf value = load_half(values + static_cast<size_t>(j) * width + dim + p * LANES);
            for (int r = 0; r < R; r++)
                for (int h = 0; h < H; h++) acc[r][h][p] = fmadd(set1(rows[r].weights[(head + h) * span + j]), value, acc[r][h][p]);
        }
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < rows[r].num_slots; j++)
            for (int p = 0; p < P; p++) {
                const vf value = load_half(tree + static_cast<size_t>(rows[r].slots[j]) * width + dim + p * LANES);
                for (int h = 0; h < H; h++) acc[r][h][p] = fmadd(set1(rows[r].weights[(head + h) * span + visible + j]), value, acc[r][h][p]);
            }
        for (int h = 0; h < H; h++)
            for (int p = 0; p < P; p++)
                store(rows[r].out + (head + h) * width + dim + p * LANES, mul(acc[r][h][p], set1(rows[r].inverse[head + h])));
    }
}

template <int R, int P>
static inline void mix_heads(const uint16_t* values, const uint16_t* tree, int visible, int heads, int width, int first_part, size_t span, const Weights* rows) {
    for (int dim = first_part * LANES, end = dim + MIX_PARTS * LANES; dim < end && dim < width; dim += P * LANES) {
        int h = 0;
        for (; h + 3 <= heads; h += 3) mix_values<R, 3, P>(values, tree, visible, h, dim, width, span, rows);
        for (; h < heads; h++) mix_values<R, 1, P>(values, tree, visible, h, dim, width, span, rows);
    }
}

static inline void rotate_and_cache(const Pass& pass, Workspace& ws, int layer, int thread, int threads) {
    const Model& m = *pass.model;
    const Layer& weights = m.layers[layer];
    const int hd = m.head_dim, heads = m.num_heads + 2 * m.num_kv_heads;
    for (int s = 0; s < pass.num_segments; s++) {
        const Segment& segment = pass.segments[s];
        uint16_t *keys = cache_keys(m, *pass.cache, segment.row, layer), *values = cache_values(m, *pass.cache, segment.row, layer);
        const Share mine = share(segment.size * heads, thread, threads);
        for (int unit = mine.begin; unit < mine.end; unit++) {
            const int t = unit / heads, head = unit % heads, slot = segment.start + t;
            float* x = ws.qkv.data() + (static_cast<size_t>(segment.first + t) * heads + head) * hd;
            const int kv = head - m.num_heads;
            if (kv >= m.num_kv_heads) {
                uint16_t* to = values + (static_cast<size_t>(kv - m.num_kv_heads) * pass.cache->capacity + slot) * hd;
                for (int i = 0; i < hd; i += LANES) store_half(to + i, load(x + i));
                continue;
            }
            const float* norm = kv < 0 ? weights.q_norm : weights.k_norm;
            if (norm) rms_norm(x, norm, hd, m.eps, x);
            const size_t at = static_cast<size_t>(pass.positions[segment.first + t]) * (hd / 2);
            rotate(x, m.cos + at, m.sin + at, hd, m.interleaved);
            if (kv >= 0) {
                uint16_t* column = keys + static_cast<size_t>(kv) * pass.cache->capacity * hd + static_cast<size_t>(slot / LANES) * hd * LANES + slot % LANES;
                for (int i = 0; i < hd; i += LANES) {
                    uint16_t part[LANES];
                    store_half(part, load(x + i));
                    for (int j = 0; j < LANES; j++) column[(i + j) * LANES] = part[j];
                }
            }
        }
    }
}

static inline void score(const Pass& pass, Workspace& ws, int layer, int thread, int threads) {
    const Model& m = *pass.model;
    const int hd = m.head_dim, group = m.num_heads / m.num_kv_heads, heads = m.num_heads + 2 * m.num_kv_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(hd));
    for (int s = 0; s < pass.num_segments; s++) {
        const Segment& segment = pass.segments[s];
        const uint16_t* keys = cache_keys(m, *pass.cache, segment.row, layer);
        const int seen = (segment.visible + LANES - 1) / LANES, last = (segment.start + segment.size + LANES - 1) / LANES;
        const int skipped = std::max(0, segment.start / LANES - seen), blocks = last - skipped;  // those that nobody sees
        const Share mine = share(m.num_kv_heads * blocks, thread, threads);
        for (int unit = mine.begin; unit < mine.end; unit++) {
            const int kv = unit / blocks, b = unit % blocks < seen ? unit % blocks : unit % blocks + skipped;
            const uint16_t* block_keys = keys + (static_cast<size_t>(kv) * pass.cache->capacity + b * LANES) * hd;
            const int from = b < seen ? 0 : std::max(0, b * LANES - segment.start);  // no token sees later ones
            for (int t = from, count; t < segment.size; t += count) {
                const size_t row = segment.first + t, stride = static_cast<size_t>(heads) * hd, out_stride = m.num_heads * ws.span;
                const float* q = ws.qkv.data() + row * stride + kv * group * hd;
                float* out = ws.scores.data() + row * out_stride + kv * group * ws.span + b * LANES;
                count = t + SCORE_ROWS <= segment.size ? SCORE_ROWS : 1;
                const auto rows_of = count == 1 ? score_rows<1> : score_rows<SCORE_ROWS>;
                rows_of(q, stride, group, hd, block_keys, scale, out, out_stride, ws.span);
            }
        }
    }
}

static inline void mix(const Pass& pass, Workspace& ws, int layer, int thread, int threads) {
    const Model& m = *pass.model;
    const int hd = m.head_dim, group = m.num_heads / m.num_kv_heads, parts = (hd / LANES + MIX_PARTS - 1) / MIX_PARTS;
    float inverse[2][64];
    for (int s = 0; s < pass.num_segments; s++) {
        const Segment& segment = pass.segments[s];
        const int pairs = (segment.size + 1) / 2;
        const Share mine = share(m.num_kv_heads * pairs * parts, thread, threads);
        Weights rows[2];
        int ready = -1;
        for (int unit = mine.begin; unit < mine.end; unit++) {
            const int pair = unit / parts, kv = pair / pairs, first = pair % pairs * 2, count = std::min(2, segment.size - first);
            if (pair != ready) {  // scores in order of position: the visible text, then the ancestors by depth
                ready = pair;
                for (int r = 0; r < count; r++) {
                    const size_t row = segment.first + first + r;
                    const int *slots = ws.slots.data() + ws.slot_begin[row], num_slots = ws.slot_begin[row + 1] - ws.slot_begin[row];
                    float* weights = ws.weights[thread].data() + r * group * ws.span;
                    for (int h = 0; h < group; h++) {
                        const float* from = ws.scores.data() + (row * m.num_heads + kv * group + h) * ws.span;
                        float* to = weights + h * ws.span;
                        memcpy(to, from, sizeof(float) * segment.visible);
                        for (int j = 0; j < num_slots; j++) to[segment.visible + j] = from[segment.start + slots[j]];
                        inverse[r][h] = 1.0f / softmax(to, segment.visible + num_slots);
                    }
                    rows[r] = {weights, inverse[r], slots, num_slots, ws.mixed.data() + (row * m.num_heads + kv * group) * hd};
                }
            }
            const uint16_t* values = cache_values(m, *pass.cache, segment.row, layer) + static_cast<size_t>(kv) * pass.cache->capacity * hd;
            const bool odd = hd % (MIX_PARTS * LANES);  // a width that the wide kernels do not divide
            const auto heads = count == 1 ? (odd ? mix_heads<1, 1> : mix_heads<1, MIX_PARTS>) : (odd ? mix_heads<2, 1> : mix_heads<2, MIX_PARTS / 2>);
            heads(values, values + static_cast<size_t>(segment.start) * hd, segment.visible, group, hd, unit % parts * MIX_PARTS, ws.span, rows);
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------- pass

static void run(const Pass& pass, Workspace& ws, int thread, Barrier& barrier) {
    const Model& m = *pass.model;
    const int T = pass.num_tokens, H = m.hidden, I = m.intermediate, hd = m.head_dim, threads = pass.threads;
    const int q_width = m.num_heads * hd, kv_width = m.num_kv_heads * hd, qkv_width = q_width + 2 * kv_width;
    float* const x = pass.x;
    int aux = 0;
    for (int l = 0; l < m.num_layers; l++) {
        const Layer& layer = m.layers[l];
        if (aux < pass.num_features && pass.aux_layers[aux] == l) {
            for (int t = thread; t < T; t += threads)
                memcpy(pass.features + (static_cast<size_t>(t) * pass.num_features + aux) * H, x + static_cast<size_t>(t) * H, sizeof(float) * H);
            aux++;
        }
        Rows rows = prepare(ws, T, H, thread, threads, barrier, [&](int t, float* out) { rms_norm(x + static_cast<size_t>(t) * H, layer.attention_norm, H, m.eps, out); });
        float* const qkv = ws.qkv.data();
        const auto into = [&](int offset) {
            return [=](int t, int n, vf values) { store(qkv + static_cast<size_t>(t) * qkv_width + offset + n, values); };
        };
        multiply(layer.q, rows, T, thread, threads, into(0));
        multiply(layer.k, rows, T, thread, threads, into(q_width));
        multiply(layer.v, rows, T, thread, threads, into(q_width + kv_width));
        barrier.wait();
        rotate_and_cache(pass, ws, l, thread, threads);
        barrier.wait();
        score(pass, ws, l, thread, threads);
        barrier.wait();
        mix(pass, ws, l, thread, threads);
        barrier.wait();
        rows = prepare(ws, T, q_width, thread, threads, barrier, [&](int t, float* out) { memcpy(out, ws.mixed.data() + static_cast<size_t>(t) * q_width, sizeof(float) * q_width); });
        const auto onto_x = [=](int t, int n, vf values) {
            float* to = x + static_cast<size_t>(t) * H + n;
            store(to, add(load(to), values));
        };
        multiply(layer.out, rows, T, thread, threads, onto_x);
        barrier.wait();
        rows = prepare(ws, T, H, thread, threads, barrier, [&](int t, float* out) { rms_norm(x + static_cast<size_t>(t) * H, layer.mlp_norm, H, m.eps, out); });
        swiglu(layer.gate, layer.up, rows, T, thread, threads, ws.act.data());
        barrier.wait();
        rows = prepare(ws, T, I, thread, threads, barrier, [&](int t, float* out) { memcpy(out, ws.act.data() + static_cast<size_t>(t) * I, sizeof(float) * I); });
        multiply(layer.down, rows, T, thread, threads, onto_x);
        barrier.wait();
    }
    for (int t = thread; t < T; t += threads)
        rms_norm(x + static_cast<size_t>(t) * H, m.final_norm, H, m.eps, pass.hidden + static_cast<size_t>(t) * H);
    barrier.wait();
    if (!pass.num_logits) return;
    const Rows rows = prepare(ws, pass.num_logits, H, thread, threads, barrier, [&](int r, float* out) {
        memcpy(out, pass.hidden + static_cast<size_t>(pass.logit_rows[r]) * H, sizeof(float) * H);
    });
    multiply(m.lm_head, rows, pass.num_logits, thread, threads, [&](int r, int n, vf values) {
        store_some(pass.logits + static_cast<size_t>(r) * m.vocab + n, values, m.vocab - n);
    });
}

static void reserve(const Pass& pass, Workspace& ws) {
    const Model& m = *pass.model;
    const size_t T = std::max(pass.num_tokens, pass.num_logits), width = std::max({m.hidden, m.intermediate, m.num_heads * m.head_dim});
    const auto grow = [](auto& buffer, size_t size) { if (buffer.size() < size) buffer.resize(size); };
    int longest = 0;
    ws.slot_begin.assign(1, 0);
    ws.slots.clear();
    for (int s = 0; s < pass.num_segments; s++) {
        const Segment& segment = pass.segments[s];
        longest = std::max(longest, segment.start + segment.size);
        for (int t = 0; t < segment.size; t++) {
            for (int u = 0; u <= t; u++)
                if (segment.ancestors[static_cast<size_t>(t) * segment.size + u]) ws.slots.push_back(u);
            ws.slot_begin.push_back(static_cast<int>(ws.slots.size()));
        }
    }
    ws.span = static_cast<size_t>(longest + LANES - 1) / LANES * LANES;
    ws.shared.reserve(T, width);
    ws.own.resize(std::max<size_t>(ws.own.size(), pass.threads));
    for (Quantized& own : ws.own) own.reserve(pass.threads == 1 ? T : 2, width);
    grow(ws.qkv, T * (m.num_heads + 2 * m.num_kv_heads) * m.head_dim);
    grow(ws.mixed, T * m.num_heads * m.head_dim);
    grow(ws.act, T * m.intermediate);
    grow(ws.scores, T * m.num_heads * ws.span);
    ws.weights.resize(std::max<size_t>(ws.weights.size(), pass.threads));
    for (auto& own : ws.weights) grow(own, 2 * static_cast<size_t>(m.num_heads / m.num_kv_heads) * ws.span);
}

static void multiply_alone(const Matrix& matrix, const float* x, int num_rows, float* y) {
    Workspace ws;
    ws.own.resize(1);
    ws.own[0].reserve(num_rows, matrix.k);
    Barrier barrier(1);
    const Rows rows = prepare(ws, num_rows, matrix.k, 0, 1, barrier, [&](int r, float* out) { memcpy(out, x + static_cast<size_t>(r) * matrix.k, sizeof(float) * matrix.k); });
    multiply(matrix, rows, num_rows, 0, 1, [&](int r, int n, vf values) {
        store_some(y + static_cast<size_t>(r) * matrix.n + n, values, matrix.n - n);
    });
}

}  // namespace
