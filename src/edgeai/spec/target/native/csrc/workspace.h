// Buffers of a pass; they only ever grow.
#pragma once
#include <vector>
#include "runtime.h"

namespace edgeai {

struct Quantized {  // rows of activations: int8 in groups of 32, and as they were
    std::vector<int8_t> q;        // [rows, k]
    std::vector<float> scale;     // [rows, k / 32]
    std::vector<float> scaled_sum;  // [rows, k / 32], scale times the sum of q
    std::vector<int32_t> sums;    // [rows, k / 16], sums of q
    std::vector<float> exact;     // [rows, k]
    void reserve(size_t rows, size_t k) {
        rows += 15;  // tiles read sixteen rows, however many there are
        if (q.size() < rows * k) q.resize(rows * k), exact.resize(rows * k);
        if (sums.size() < rows * (k / 16)) {
            sums.resize(rows * (k / 16));
            scale.resize(rows * (k / 32));
            scaled_sum.resize(rows * (k / 32));
        }
    }
};

struct Workspace {
    Quantized shared;
    std::vector<Quantized> own;              // per thread, for passes over few rows
    std::vector<float> qkv, mixed, act;      // [T, (nh + 2 nkv) hd], [T, nh hd], [T, intermediate]
    std::vector<float> scores;               // [T, nh, span]
    std::vector<std::vector<float>> weights;  // per thread: [2 rows, heads of a group, span]
    std::vector<int> slots;                  // ancestors of each token in order of depth
    std::vector<int> slot_begin;             // [T + 1]
    size_t span = 0;
};

}  // namespace edgeai
