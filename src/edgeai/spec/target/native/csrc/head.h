// Plain structures of the EAGLE-3 draft head: its weights, one call, and its buffers.
#pragma once
#include <vector>
#include "runtime.h"

namespace edgeai {

struct Head {
    int32_t hidden, intermediate, num_aux, draft_vocab, num_heads, num_kv_heads, head_dim;
    int32_t norm_output, norm_before_residual;
    float eps;
    const float* cos;  // [positions, head_dim / 2]
    const float* sin;
    const float* fc_norm;  // [num_aux, width of the target] or null
    const float* embedding_norm;
    const float* hidden_norm;
    const float* mlp_norm;
    const float* final_norm;
    const int64_t* target_ids;  // [draft_vocab]
    Matrix fc, q, k, v, out, gate, up, down, lm_head;
    Matrix embedding;  // the target's
};

// Pair j of a text is (token j + 1, target feature j) at position j. New pairs follow the first `stable` ones, whose keys
// and values are in the cache; `first` is the first new one among those of all sequences.
struct NewPairs {
    int32_t row, stable, first, count;
};

// Keys and values lie as in the target's cache, of one layer. Those of a tree follow those of the text, and are overwritten
// by the next pairs.
struct Draft {
    const Head* head;
    const Cache* cache;
    const NewPairs* sequences;
    int32_t num_sequences, num_pairs;
    int32_t depth;  // levels of the trees; 0 only adds the pairs
    int32_t width;  // children of a node, and nodes expanded in a level
    int32_t nodes;  // draft nodes kept, at most width + (depth - 1) width^2
    const int64_t* tokens;  // [num_pairs]; the last one of a sequence is the root of its tree
    const float* features;  // [num_pairs, inputs of fc]
    // trees: [num_sequences, 1 + nodes]; ancestors [num_sequences, 1 + nodes, 1 + nodes]
    int64_t* tree_tokens;
    int64_t* parents;
    int64_t* depths;
    uint8_t* ancestors;
    float* scores;
};

struct Candidate {
    float score;
    int32_t parent;  // -1: the root
    int64_t token;
};

struct Node {  // a row of one level
    int32_t sequence, position, slot, visible;
    int32_t from;  // row of the level before, whose output is the hidden input
    int64_t token;
};

struct DraftBuffers {
    std::vector<float> projected;                // [pairs, hidden]
    std::vector<float> output[2];                // [rows, hidden], of even and of odd levels
    std::vector<float> qkv, mixed, act, logits;  // [rows, ...]
    std::vector<Node> nodes[2];                  // [rows], the same
    std::vector<int32_t> chains[2];              // [rows, depth], the same: slots from the child of the root to the node itself
    std::vector<float> best;                     // [rows, width], log probabilities
    std::vector<int32_t> best_ids;
    std::vector<Candidate> candidates;                 // [sequences, all candidates]
    std::vector<int32_t> frontier;                     // [sequences, width], expanded candidates
    std::vector<std::vector<float>> weights;           // per thread: [heads of a group, span], and scores of one block
    std::vector<std::vector<int32_t>> order;           // per thread: candidates
    size_t span = 0;
};

static inline size_t candidates_of(const Draft& d) {
    const size_t width = d.width;
    return d.depth ? width + (d.depth - 1) * width * width : 0;
}

}  // namespace edgeai

// Rows of a packed matrix, float32: out [count, k].
extern "C" void edgeai_rows(const edgeai::Matrix* matrix, const int64_t* rows, int64_t count, float* out);
