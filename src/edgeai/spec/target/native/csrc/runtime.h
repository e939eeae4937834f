// Plain structures that Python fills by ctypes and every variant of the forward pass reads.
#pragma once
#include <cstddef>
#include <cstdint>
#include "team.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edgeai {

// Packed formats. Sixteen outputs form a block; within it, the data of one group (32 weights) or super-block (256) are
// contiguous. All but the float formats hold bytes as [8 quarters of 4 inputs][16 outputs][4 inputs].
enum Kind : int32_t {
    Q4 = 0,    // nibbles, scale and minimum in half precision per group
    Q8 = 1,    // bytes, scale per group
    Q8M = 2,   // bytes, scale and minimum per group
    Q4K = 3,   // nibbles, 8-bit scale and minimum per group, both in half precision per super-block
    Q8K = 4,   // bytes, the same
    Q6K = 5,   // bytes, signed 8-bit scale per 16 weights, scale in half precision per super-block
    F16 = 6,
    BF16 = 7,
    F32 = 8,
    NUM_KINDS = 9
};

constexpr bool is_float(Kind kind) { return kind == F16 || kind == BF16 || kind == F32; }
constexpr bool is_super(Kind kind) { return kind == Q4K || kind == Q8K || kind == Q6K; }
constexpr int group_bits(Kind kind) { return kind == Q4 || kind == Q4K ? 4 : 8; }
constexpr int group_bytes(Kind kind) { return 64 * group_bits(kind); }  // of a group's weights
constexpr int group_step(Kind kind) {  // from one group to the next
    return group_bytes(kind) + (is_super(kind) ? 0 : kind == Q8 ? 32 : 64);
}
constexpr int super_bytes(Kind kind) { return 8 * group_bytes(kind) + (kind == Q6K ? 288 : 320); }  // of a super-block

struct Matrix {  // [n, k], row-major in the model's terms: y = W x + bias
    int32_t kind, n, k;
    const uint8_t* data;
    const float* bias;  // [n] or null
};

struct Layer {
    const float* attention_norm;  // [hidden]
    const float* q_norm;          // [head_dim] or null
    const float* k_norm;
    const float* mlp_norm;  // [hidden]
    Matrix q, k, v, out, gate, up, down;
};

struct Model {
    int32_t hidden, intermediate, vocab, num_layers, num_heads, num_kv_heads, head_dim;
    int32_t interleaved;  // rotary pairs are (2 i, 2 i + 1) instead of (i, i + head_dim / 2)
    float eps;
    const float* cos;  // [positions, head_dim / 2]
    const float* sin;
    const float* final_norm;
    Matrix lm_head;
    const Layer* layers;
};

// Keys lie as [kv head][capacity / 16][head_dim][16], values as [kv head][capacity][head_dim], per layer and sequence, all
// in half precision.
struct Cache {
    uint16_t* base;
    int32_t capacity;  // multiple of 16
    int32_t batch;
};

// New tokens that see the first `visible` tokens of a sequence and their own ancestors. Their keys and values are written
// to the slots from `start`; `first` is the first of them among all tokens of the pass.
struct Segment {
    int32_t row, visible, start, first, size;
    const uint8_t* ancestors;  // [size, size], 1 = token i sees token j; parents before children
};

struct Pass {
    const Model* model;
    const Cache* cache;
    const Segment* segments;
    int32_t num_segments, num_tokens, num_logits, num_features;
    const int32_t* positions;    // [num_tokens]
    const int32_t* logit_rows;   // [num_logits]
    const int32_t* aux_layers;   // [num_features], ascending
    float* x;                    // [num_tokens, hidden], embeddings on entry, used as scratch
    float* logits;               // [num_logits, vocab]
    float* hidden;               // [num_tokens, hidden], after the final norm
    float* features;             // [num_tokens, num_features * hidden]
};

static inline size_t cache_layer_size(const Model& m, const Cache& c) {
    return 2 * static_cast<size_t>(m.num_kv_heads) * c.capacity * m.head_dim;
}
static inline uint16_t* cache_keys(const Model& m, const Cache& c, int row, int layer) {
    return c.base + (static_cast<size_t>(row) * m.num_layers + layer) * cache_layer_size(m, c);
}
static inline uint16_t* cache_values(const Model& m, const Cache& c, int row, int layer) {
    return cache_keys(m, c, row, layer) + cache_layer_size(m, c) / 2;
}

struct Workspace;
struct Draft;
struct DraftBuffers;

struct Variant {
    const char* name;
    void (*run)(const Pass&, Workspace&, Team::Member&);
    void (*reserve)(const Pass&, Workspace&, int threads);
    void (*draft)(const Draft&, Workspace&, DraftBuffers&, Team::Member&);
    void (*reserve_draft)(const Draft&, Workspace&, DraftBuffers&, int threads);
    // y [rows, n] = W x, for tests and the start-up check
    void (*multiply)(const Matrix&, const float* x, int rows, float* y);
};
const Variant* variant_portable();
const Variant* variant_avx2();
const Variant* variant_avxvnni();
const Variant* variant_avx512vnni();
const Variant* variant_avx512amx();
const Variant* variant_neon();

size_t packed_bytes(int kind, int n, int k);

}  // namespace edgeai
