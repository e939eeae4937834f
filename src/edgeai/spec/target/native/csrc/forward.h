// One forward pass of a Llama-family decoder over new tokens of several sequences.
//
// Every row is computed by itself in an order that depends on nothing but its own position: which rows are computed
// with it, how many threads work, and where a tree's node lies in the cache change no bit of the result.
#pragma once
#include <algorithm>
#include "products.h"

namespace EDGEAI_NAMESPACE {

using namespace edgeai;

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
    const vf shift = set1(-largest(top));
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

// A phase over the units of all segments: work(segment, begin, end) computes a part of the units_of(segment) of one.
template <class Units, class Work>
static inline void share_segments(Team::Member& self, const Pass& pass, Units units_of, Work work) {
    int units = 0;
    for (int s = 0; s < pass.num_segments; s++) units += units_of(pass.segments[s]);
    self.share(units, [&](int begin, int end) {
        for (int s = 0, first = 0, count; s < pass.num_segments && first < end; s++, first += count) {
            count = units_of(pass.segments[s]);
            if (first + count > begin) work(pass.segments[s], std::max(begin - first, 0), std::min(end - first, count));
        }
    });
}

static inline void rotate_and_cache(const Pass& pass, Workspace& ws, int layer, Team::Member& self) {
    const Model& m = *pass.model;
    const Layer& weights = m.layers[layer];
    const int hd = m.head_dim, heads = m.num_heads + 2 * m.num_kv_heads;
    share_segments(self, pass, [=](const Segment& segment) { return segment.size * heads; }, [&](const Segment& segment, int begin, int end) {
        uint16_t *keys = cache_keys(m, *pass.cache, segment.row, layer), *values = cache_values(m, *pass.cache, segment.row, layer);
        for (int unit = begin; unit < end; unit++) {  // by head: keys of neighboring slots share cache lines
            const int t = unit % segment.size, head = unit / segment.size, slot = segment.start + t;
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
    });
}

static inline void score(const Pass& pass, Workspace& ws, int layer, Team::Member& self) {
    const Model& m = *pass.model;
    const int hd = m.head_dim, group = m.num_heads / m.num_kv_heads, heads = m.num_heads + 2 * m.num_kv_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(hd));
    const auto seen_of = [](const Segment& segment) { return (segment.visible + LANES - 1) / LANES; };
    const auto skipped_of = [=](const Segment& segment) { return std::max(0, segment.start / LANES - seen_of(segment)); };  // nobody sees these
    const auto count_of = [=](const Segment& segment) { return (segment.start + segment.size + LANES - 1) / LANES - skipped_of(segment); };
    share_segments(self, pass, [&](const Segment& segment) { return m.num_kv_heads * count_of(segment); }, [&](const Segment& segment, int begin, int end) {
        const uint16_t* keys = cache_keys(m, *pass.cache, segment.row, layer);
        const int seen = seen_of(segment), skipped = skipped_of(segment), blocks = count_of(segment);
        for (int unit = begin; unit < end; unit++) {
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
    });
}

static inline void mix(const Pass& pass, Workspace& ws, int layer, Team::Member& self) {
    const Model& m = *pass.model;
    const int hd = m.head_dim, group = m.num_heads / m.num_kv_heads, parts = (hd / LANES + MIX_PARTS - 1) / MIX_PARTS;
    const auto pairs_of = [](const Segment& segment) { return (segment.size + 1) / 2; };
    share_segments(self, pass, [&](const Segment& segment) { return m.num_kv_heads * pairs_of(segment) * parts; }, [&](const Segment& segment, int begin, int end) {
        const int pairs = pairs_of(segment);
        float inverse[2][64];
        Weights rows[2];
        int ready = -1;
        for (int unit = begin; unit < end; unit++) {
            const int pair = unit / parts, kv = pair / pairs, first = pair % pairs * 2, count = std::min(2, segment.size - first);
            if (pair != ready) {  // scores in order of position: the visible text, then the ancestors by depth
                ready = pair;
                for (int r = 0; r < count; r++) {
                    const size_t row = segment.first + first + r;
                    const int *slots = ws.slots.data() + ws.slot_begin[row], num_slots = ws.slot_begin[row + 1] - ws.slot_begin[row];
                    float* weights = ws.weights[self.thread].data() + r * group * ws.span;
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
            const auto heads = count == 1 ? (odd ? mix_heads<1, 1> : mix_heads<1, MIX_PARTS>) : (odd ? mix_heads<2, 1> : mix_heads<2, PAIR_PARTS>);
            heads(values, values + static_cast<size_t>(segment.start) * hd, segment.visible, group, hd, unit % parts * MIX_PARTS, ws.span, rows);
        }
    });
}

// ----------------------------------------------------------------------------------------------------------------- pass

static inline auto copy_rows(const float* from, int width) {
    return [=](int r, float* out) { memcpy(out, from + static_cast<size_t>(r) * width, sizeof(float) * width); };
}

// Adds outputs of a product to rows of x.
static inline auto add_to(float* x, int width) {
    return [=](int r, int n, vf values) {
        float* to = x + static_cast<size_t>(r) * width + n;
        store(to, add(load(to), values));
    };
}

static void run(const Pass& pass, Workspace& ws, Team::Member& self) {
    const Tiles tiles{};
    const Model& m = *pass.model;
    const int T = pass.num_tokens, H = m.hidden, I = m.intermediate, hd = m.head_dim;
    const int q_width = m.num_heads * hd, kv_width = m.num_kv_heads * hd, qkv_width = q_width + 2 * kv_width;
    float *const x = pass.x, *const qkv = ws.qkv.data();
    const auto normed = [&](const float* weight) {
        return [=, &m](int t, float* out) { rms_norm(x + static_cast<size_t>(t) * H, weight, H, m.eps, out); };
    };
    const auto into_qkv = [=](int offset) {
        return [=](int t, int n, vf values) { store(qkv + static_cast<size_t>(t) * qkv_width + offset + n, values); };
    };
    int aux = 0;
    for (int l = 0; l < m.num_layers; l++) {
        const Layer& layer = m.layers[l];
        if (aux < pass.num_features && pass.aux_layers[aux] == l) {
            self.share(T, [&](int begin, int end) {
                for (int t = begin; t < end; t++)
                    memcpy(pass.features + (static_cast<size_t>(t) * pass.num_features + aux) * H, x + static_cast<size_t>(t) * H, sizeof(float) * H);
            });
            aux++;
        }
        const int nq = blocks_of(layer.q), nk = blocks_of(layer.k), nv = blocks_of(layer.v);
        multiply_phase(self, ws, T, H, normed(layer.attention_norm), nq + nk + nv, [&](const Rows& rows, int begin, int end) {
            multiply(layer.q, rows, T, begin, end, into_qkv(0));
            multiply(layer.k, rows, T, begin - nq, end - nq, into_qkv(q_width));
            multiply(layer.v, rows, T, begin - nq - nk, end - nq - nk, into_qkv(q_width + kv_width));
        });
        rotate_and_cache(pass, ws, l, self);
        score(pass, ws, l, self);
        mix(pass, ws, l, self);
        multiply_phase(self, ws, T, q_width, copy_rows(ws.mixed.data(), q_width), blocks_of(layer.out), [&](const Rows& rows, int begin, int end) {
            multiply(layer.out, rows, T, begin, end, add_to(x, H));
        });
        multiply_phase(self, ws, T, H, normed(layer.mlp_norm), blocks_of(layer.gate), [&](const Rows& rows, int begin, int end) {
            swiglu(layer.gate, layer.up, rows, T, begin, end, ws.act.data());
        });
        multiply_phase(self, ws, T, I, copy_rows(ws.act.data(), I), blocks_of(layer.down), [&](const Rows& rows, int begin, int end) {
            multiply(layer.down, rows, T, begin, end, add_to(x, H));
        });
    }
    self.share(T, [&](int begin, int end) {
        for (int t = begin; t < end; t++) normed(m.final_norm)(t, pass.hidden + static_cast<size_t>(t) * H);
    });
    if (!pass.num_logits) return;
    const auto wanted = [&](int r, float* out) { memcpy(out, pass.hidden + static_cast<size_t>(pass.logit_rows[r]) * H, sizeof(float) * H); };
    multiply_phase(self, ws, pass.num_logits, H, wanted, blocks_of(m.lm_head), [&](const Rows& rows, int begin, int end) {
        multiply(m.lm_head, rows, pass.num_logits, begin, end, [&](int r, int n, vf values) {
            store_some(pass.logits + static_cast<size_t>(r) * m.vocab + n, values, m.vocab - n);
        });
    });
}

static void reserve(const Pass& pass, Workspace& ws, int threads) {
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
    ws.own.resize(std::max<size_t>(ws.own.size(), threads));
    for (Quantized& own : ws.own) own.reserve(threads == 1 ? T : OWN_ROWS, width);
    grow(ws.qkv, T * (m.num_heads + 2 * m.num_kv_heads) * m.head_dim);
    grow(ws.mixed, T * m.num_heads * m.head_dim);
    grow(ws.act, T * m.intermediate);
    grow(ws.scores, T * m.num_heads * ws.span);
    ws.weights.resize(std::max<size_t>(ws.weights.size(), threads));
    for (auto& own : ws.weights) grow(own, 2 * static_cast<size_t>(m.num_heads / m.num_kv_heads) * ws.span);
}

static void multiply_alone(const Matrix& matrix, const float* x, int num_rows, float* y) {
    const Tiles tiles{};
    Quantized inputs;
    inputs.reserve(num_rows, matrix.k);
    prepare(inputs, 0, num_rows, matrix.k, copy_rows(x, matrix.k));
    multiply(matrix, {&inputs, matrix.k}, num_rows, 0, blocks_of(matrix), [&](int r, int n, vf values) {
        store_some(y + static_cast<size_t>(r) * matrix.n + n, values, matrix.n - n);
    });
}

}  // namespace
