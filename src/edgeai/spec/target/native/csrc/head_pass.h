// The EAGLE-3 draft head: adds new pairs of (token, target feature) of several sequences, and grows a tree below each.
//
// Every row is computed by itself, as in forward.h: the trees do not depend on threads or on other sequences.
// Sources: EAGLE-3, arXiv 2503.01840, section 3; trees from EAGLE-2, arXiv 2406.16858, section 4.
#pragma once
#include "forward.h"
#include "head.h"

namespace EDGEAI_NAMESPACE {

struct Drafting {  // what every function of a level needs
    const Draft& draft;
    const Head& head;
    DraftBuffers& to;
    Workspace& ws;
    Team::Member& self;
    const int level;

    std::vector<Node>& nodes(int of) const { return to.nodes[of % 2]; }
    std::vector<int32_t>& chains(int of) const { return to.chains[of % 2]; }
    float* output(int of) const { return to.output[of % 2].data(); }
    int qkv_width() const { return (head.num_heads + 2 * head.num_kv_heads) * head.head_dim; }
    int padded_vocab() const { return (head.draft_vocab + LANES - 1) / LANES * LANES; }
    uint16_t* keys(int row, int kv) const {
        const size_t head_size = static_cast<size_t>(draft.cache->capacity) * head.head_dim;
        return draft.cache->base + (static_cast<size_t>(row) * 2 * head.num_kv_heads + kv) * head_size;
    }
    uint16_t* values(int row, int kv) const { return keys(row, kv + head.num_kv_heads); }
};

// Stores outputs of a product in rows of `width`.
static inline auto store_to(float* rows, size_t width) {
    return [=](int r, int n, vf values) { store(rows + r * width + n, values); };
}

// Hidden inputs of the new pairs.
static void project(const Drafting& c) {
    const Head& head = c.head;
    const int width = head.fc.k, part = width / head.num_aux, count = c.draft.num_pairs;
    const auto features = [&](int r, float* out) {
        const float* from = c.draft.features + static_cast<size_t>(r) * width;
        if (!head.fc_norm) memcpy(out, from, sizeof(float) * width);
        else for (int i = 0; i < width; i += part) rms_norm(from + i, head.fc_norm + i, part, head.eps, out + i);
    };
    multiply_phase(c.self, c.ws, count, width, features, blocks_of(head.fc), [&](const Rows& rows, int begin, int end) {
        multiply(head.fc, rows, count, begin, end, store_to(c.to.projected.data(), head.hidden));
    });
}

// Queries, keys and values of `count` rows with hidden inputs from `input(row, out)`.
template <class Input>
static void attention_inputs(const Drafting& c, int count, Input input) {
    const Head& head = c.head;
    const int H = head.hidden, width = c.qkv_width(), q_width = head.num_heads * head.head_dim, kv_width = head.num_kv_heads * head.head_dim;
    const auto inputs = [&](int r, float* out) {
        edgeai_rows(&head.embedding, &c.nodes(c.level)[r].token, 1, out);
        rms_norm(out, head.embedding_norm, H, head.eps, out);
        input(r, out + H);
        rms_norm(out + H, head.hidden_norm, H, head.eps, out + H);
    };
    float* qkv = c.to.qkv.data();
    const int nq = c.draft.depth ? blocks_of(head.q) : 0, nk = blocks_of(head.k), nv = blocks_of(head.v);
    multiply_phase(c.self, c.ws, count, 2 * H, inputs, nq + nk + nv, [&](const Rows& rows, int begin, int end) {
        if (nq) multiply(head.q, rows, count, begin, end, store_to(qkv, width));
        multiply(head.k, rows, count, begin - nq, end - nq, store_to(qkv + q_width, width));
        multiply(head.v, rows, count, begin - nq - nk, end - nq - nk, store_to(qkv + q_width + kv_width, width));
    });
}

// Rotates queries and keys, and writes keys and values to the cache.
static void rotate_and_store(const Drafting& c, int count) {
    const Head& head = c.head;
    const int hd = head.head_dim, heads = head.num_heads + 2 * head.num_kv_heads;
    const auto one = [&](int unit) {
        const int r = unit % count, kv = unit / count - head.num_heads;  // by head: keys of neighboring slots share cache lines
        const Node& node = c.nodes(c.level)[r];
        const int row = c.draft.sequences[node.sequence].row;
        float* x = c.to.qkv.data() + (static_cast<size_t>(r) * heads + unit / count) * hd;
        if (kv >= head.num_kv_heads) {
            uint16_t* to = c.values(row, kv - head.num_kv_heads) + static_cast<size_t>(node.slot) * hd;
            for (int i = 0; i < hd; i += LANES) store_half(to + i, load(x + i));
            return;
        }
        if (kv < 0 && !c.draft.depth) return;
        const size_t at = static_cast<size_t>(node.position) * (hd / 2);
        rotate(x, head.cos + at, head.sin + at, hd, false);
        if (kv < 0) return;
        uint16_t* column = c.keys(row, kv) + static_cast<size_t>(node.slot / LANES * LANES) * hd + node.slot % LANES;
        for (int i = 0; i < hd; i += LANES) {
            uint16_t part[LANES];
            store_half(part, load(x + i));
            for (int j = 0; j < LANES; j++) column[(i + j) * LANES] = part[j];
        }
    };
    c.self.share(count * heads, [&](int begin, int end) {
        for (int unit = begin; unit < end; unit++) one(unit);
    });
}

// Attention of the query heads that share one key head: over the text, then over the node's chain in the tree.
static void attend(const Drafting& c, const Node& node, const int32_t* chain, int length, int kv, const float* q, float* out) {
    const Head& head = c.head;
    const int hd = head.head_dim, group = head.num_heads / head.num_kv_heads, count = node.visible + length;
    const int row = c.draft.sequences[node.sequence].row;
    const size_t span = c.to.span;
    const float scale = 1.0f / std::sqrt(static_cast<float>(hd));
    const uint16_t *keys = c.keys(row, kv), *values = c.values(row, kv);
    float *weights = c.to.weights[c.self.thread].data(), *block = weights + group * span, *inverse = block + group * LANES;
    const auto score = [&](int b, float* to, size_t to_span) {
        score_rows<1>(q, 0, group, hd, keys + static_cast<size_t>(b) * LANES * hd, scale, to, 0, to_span);
    };
    for (int b = 0; b * LANES < node.visible; b++) score(b, weights + b * LANES, span);
    for (int j = 0, done = -1; j < length; j++) {
        const int b = chain[j] / LANES;
        if (b != done) score(b, block, LANES);
        done = b;
        for (int h = 0; h < group; h++) weights[h * span + node.visible + j] = block[h * LANES + chain[j] % LANES];
    }
    for (int h = 0; h < group; h++) inverse[h] = 1.0f / softmax(weights + h * span, count);
    const Weights one{weights, inverse, chain, length, out};
    const bool odd = hd % (MIX_PARTS * LANES);  // a width that the wide kernels do not divide
    for (int part = 0; part < hd / LANES; part += MIX_PARTS)
        (odd ? mix_heads<1, 1> : mix_heads<1, MIX_PARTS>)(values, values, node.visible, group, hd, part, span, &one);
}

// The rest of the layer for `count` rows with attention output in `mixed` and residual in `output`, and the logits.
static void finish(const Drafting& c, int count) {
    const Head& head = c.head;
    const int H = head.hidden, I = head.intermediate, q_width = head.num_heads * head.head_dim;
    float *x = c.output(c.level), *act = c.to.act.data();
    const auto normed = [=, &head](const float* weight) {
        return [=, &head](int r, float* out) { rms_norm(x + static_cast<size_t>(r) * H, weight, H, head.eps, out); };
    };
    multiply_phase(c.self, c.ws, count, q_width, copy_rows(c.to.mixed.data(), q_width), blocks_of(head.out), [&](const Rows& rows, int begin, int end) {
        multiply(head.out, rows, count, begin, end, add_to(x, H));
    });
    multiply_phase(c.self, c.ws, count, H, normed(head.mlp_norm), blocks_of(head.gate), [&](const Rows& rows, int begin, int end) {
        swiglu(head.gate, head.up, rows, count, begin, end, act);
    });
    multiply_phase(c.self, c.ws, count, I, copy_rows(act, I), blocks_of(head.down), [&](const Rows& rows, int begin, int end) {
        multiply(head.down, rows, count, begin, end, add_to(x, H));
    });
    multiply_phase(c.self, c.ws, count, H, normed(head.final_norm), blocks_of(head.lm_head), [&](const Rows& rows, int begin, int end) {
        multiply(head.lm_head, rows, count, begin, end, store_to(c.to.logits.data(), c.padded_vocab()));
    });
}

// The `width` best log probabilities of one row, best first; equal ones by ascending id.
static void best_of_row(const Drafting& c, int row) {
    const int D = c.head.draft_vocab, padded = c.padded_vocab(), width = c.draft.width;
    float *x = c.to.logits.data() + static_cast<size_t>(row) * padded, *best = c.to.best.data() + row * width;
    int32_t* ids = c.to.best_ids.data() + row * width;
    for (int i = D; i < padded; i++) x[i] = -INFINITY;
    int found = 0;
    const auto insert = [&](int i) {
        const float value = x[i];
        if (found == width && !(value > best[width - 1])) return;
        int at = found < width ? found++ : width - 1;
        for (; at > 0 && value > best[at - 1]; at--) best[at] = best[at - 1], ids[at] = ids[at - 1];
        best[at] = value, ids[at] = i;
    };
    for (int i = 0; i < padded; i += LANES)
        if (found < width || largest(load(x + i)) > best[width - 1])
            for (int j = i; j < i + LANES && j < D; j++) insert(j);
    const vf shift = set1(-best[0]);
    vf total = set1(0.0f);
    for (int i = 0; i < padded; i += LANES) total = add(total, exponential(add(load(x + i), shift)));
    const float log_total = std::log(sum(total)), top = best[0];
    for (int i = 0; i < width; i++) {
        const float log_prob = best[i] - top - log_total;
        best[i] = log_prob <= 0.0f ? log_prob : -INFINITY;  // not a number: never chosen before a finite one
    }
}

// Orders candidates by descending score, equal ones by ascending index.
static inline auto by_score(const Candidate* all) {
    return [all](int32_t a, int32_t b) { return all[a].score > all[b].score || (all[a].score == all[b].score && a < b); };
}

// Adds the children of a sequence's frontier, and chooses the nodes of the next level.
static void choose_next(const Drafting& c, int sequence) {
    const Draft& draft = c.draft;
    const int level = c.level, width = draft.width, first = level ? sequence * width : sequence, parents = level ? width : 1;
    Candidate* all = c.to.candidates.data() + sequence * candidates_of(draft);
    int32_t* frontier = c.to.frontier.data() + sequence * width;
    const int begin = level ? width + (level - 1) * width * width : 0, count = parents * width;
    for (int i = 0; i < count; i++) {
        const int at = first * width + i, parent = level ? frontier[i / width] : -1;
        all[begin + i] = {c.to.best[at] + (level ? all[parent].score : 0.0f), parent, c.head.target_ids[c.to.best_ids[at]]};
    }
    if (level + 1 == draft.depth) return;
    std::vector<int32_t>& order = c.to.order[c.self.thread];
    order.resize(count);
    for (int i = 0; i < count; i++) order[i] = begin + i;
    std::partial_sort(order.begin(), order.begin() + width, order.end(), by_score(all));
    const NewPairs& pairs = draft.sequences[sequence];
    const int end = pairs.stable + pairs.count;
    for (int i = 0; i < width; i++) {
        const int from = first + (order[i] - begin) / width, row = sequence * width + i, slot = end + level * width + i;
        int32_t* chain = c.chains(level + 1).data() + static_cast<size_t>(row) * draft.depth;
        const int32_t* parent_chain = c.chains(level).data() + static_cast<size_t>(from) * draft.depth;
        for (int j = 0; j < level; j++) chain[j] = parent_chain[j];
        chain[level] = slot;
        c.nodes(level + 1)[row] = {sequence, end + level, slot, end, from, all[order[i]].token};
        frontier[i] = order[i];
    }
}

// The best candidates of a sequence as a tree, in order of creation: parents before children.
static void write_tree(const Drafting& c, int sequence) {
    const Draft& draft = c.draft;
    const int size = draft.nodes + 1;
    const Candidate* all = c.to.candidates.data() + sequence * candidates_of(draft);
    std::vector<int32_t>& order = c.to.order[c.self.thread];
    order.resize(candidates_of(draft));
    for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int32_t>(i);
    std::partial_sort(order.begin(), order.begin() + draft.nodes, order.end(), by_score(all));
    std::sort(order.begin(), order.begin() + draft.nodes);
    const size_t at = static_cast<size_t>(sequence) * size;
    int64_t *tokens = draft.tree_tokens + at, *parents = draft.parents + at, *depths = draft.depths + at;
    uint8_t* seen = draft.ancestors + at * size;
    const NewPairs& pairs = draft.sequences[sequence];
    memset(seen, 0, static_cast<size_t>(size) * size);
    tokens[0] = draft.tokens[pairs.first + pairs.count - 1], parents[0] = -1, depths[0] = 0, draft.scores[at] = 0.0f, seen[0] = 1;
    for (int i = 1; i < size; i++) {
        const Candidate& one = all[order[i - 1]];
        const int parent = one.parent < 0 ? 0 : 1 + static_cast<int>(std::lower_bound(order.begin(), order.begin() + i - 1, one.parent) - order.begin());
        tokens[i] = one.token, parents[i] = parent, depths[i] = depths[parent] + 1, draft.scores[at + i] = one.score;
        memcpy(seen + static_cast<size_t>(i) * size, seen + static_cast<size_t>(parent) * size, parent + 1);
        seen[static_cast<size_t>(i) * size + i] = 1;
    }
}

static void draft(const Draft& draft, Workspace& ws, DraftBuffers& to, Team::Member& self) {
    const Tiles tiles{};
    const Head& head = *draft.head;
    const int H = head.hidden, heads = head.num_heads + 2 * head.num_kv_heads, group = head.num_heads / head.num_kv_heads;
    const int G = draft.num_sequences, hd = head.head_dim;
    if (!draft.num_pairs) return;
    const auto each = [&](int count, auto work) {
        self.share(count, [&](int begin, int end) {
            for (int i = begin; i < end; i++) work(i);
        });
    };
    project({draft, head, to, ws, self, 0});
    for (int level = 0; level < std::max(1, draft.depth); level++) {
        const Drafting c{draft, head, to, ws, self, level};
        const auto input = [&](int r, float* out) {
            const size_t from = static_cast<size_t>(c.nodes(level)[r].from) * H;
            if (!level) memcpy(out, to.projected.data() + from, sizeof(float) * H);
            else if (head.norm_output) rms_norm(c.output(level - 1) + from, head.final_norm, H, head.eps, out);
            else memcpy(out, c.output(level - 1) + from, sizeof(float) * H);
        };
        const int inputs = level ? G * draft.width : draft.num_pairs, rows = level ? inputs : G;
        const auto row_of = [&](int r) { return level ? r : draft.sequences[r].first + draft.sequences[r].count - 1; };
        attention_inputs(c, inputs, input);
        rotate_and_store(c, inputs);
        if (!draft.depth) return;
        each(rows * head.num_kv_heads, [&](int unit) {
            const int r = unit / head.num_kv_heads, kv = unit % head.num_kv_heads, from = row_of(r);
            attend(c, c.nodes(level)[from], c.chains(level).data() + static_cast<size_t>(r) * draft.depth, level, kv,
                   to.qkv.data() + (static_cast<size_t>(from) * heads + kv * group) * hd,
                   to.mixed.data() + (static_cast<size_t>(r) * head.num_heads + kv * group) * hd);
            if (kv) return;
            float* residual = c.output(level) + static_cast<size_t>(r) * H;
            input(from, residual);
            if (head.norm_before_residual) rms_norm(residual, head.hidden_norm, H, head.eps, residual);
        });
        finish(c, rows);
        each(rows, [&](int r) { best_of_row(c, r); });
        each(G, [&](int s) { choose_next(c, s); });
    }
    each(G, [&](int s) { write_tree({draft, head, to, ws, self, 0}, s); });
}

static void reserve_draft(const Draft& draft, Workspace& ws, DraftBuffers& to, int threads) {
    const Head& head = *draft.head;
    const auto grow = [](auto& buffer, size_t size) { if (buffer.size() < size) buffer.resize(size); };
    const size_t G = draft.num_sequences, level = G * draft.width, rows = std::max<size_t>(level, draft.num_pairs);
    const size_t q_width = static_cast<size_t>(head.num_heads) * head.head_dim, kv_width = static_cast<size_t>(head.num_kv_heads) * head.head_dim;
    const size_t vocab = (static_cast<size_t>(head.draft_vocab) + LANES - 1) / LANES * LANES;
    const size_t widest = std::max<size_t>({static_cast<size_t>(head.fc.k), 2 * static_cast<size_t>(head.hidden), static_cast<size_t>(head.intermediate), q_width});
    ws.shared.reserve(rows, widest);
    ws.own.resize(std::max<size_t>(ws.own.size(), threads));
    for (Quantized& own : ws.own) own.reserve(threads == 1 ? rows : OWN_ROWS, widest);
    grow(to.projected, static_cast<size_t>(draft.num_pairs) * head.hidden);
    grow(to.qkv, rows * (q_width + 2 * kv_width));
    for (auto& nodes : to.nodes) grow(nodes, rows);
    int longest = 0;
    for (size_t s = 0; s < G; s++) {
        const NewPairs& pairs = draft.sequences[s];
        longest = std::max(longest, pairs.stable + pairs.count);
        for (int i = 0; i < pairs.count; i++) {
            const int pair = pairs.first + i, at = pairs.stable + i;
            to.nodes[0][pair] = {static_cast<int32_t>(s), at, at, at + 1, pair, draft.tokens[pair]};
        }
    }
    if (!draft.depth) return;
    const size_t computed = std::max<size_t>(level, G);
    for (auto& output : to.output) grow(output, computed * head.hidden);
    for (auto& chains : to.chains) grow(chains, computed * draft.depth);
    grow(to.mixed, computed * q_width);
    grow(to.act, computed * head.intermediate);
    grow(to.logits, computed * vocab);
    grow(to.best, computed * draft.width);
    grow(to.best_ids, computed * draft.width);
    grow(to.candidates, G * candidates_of(draft));
    grow(to.frontier, G * draft.width);
    to.span = (static_cast<size_t>(longest + draft.depth) + LANES - 1) / LANES * LANES;
    const size_t group = head.num_heads / head.num_kv_heads;
    to.weights.resize(std::max<size_t>(to.weights.size(), threads));
    to.order.resize(to.weights.size());
    for (auto& own : to.weights) grow(own, group * (to.span + LANES + 1));
}

}  // namespace
