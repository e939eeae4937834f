// Runs random little models and draft heads on every variant that this processor has, and prints a checksum of all
// results per seed.
// Built with sanitizers, or for another processor, and run by test_driver.py: driver FIRST_SEED NUM_SEEDS
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include "head.h"

using namespace edgeai;

extern "C" {
int edgeai_kind(int type);
size_t edgeai_packed_bytes(int kind, int n, int k);
void edgeai_pack(int type, const uint8_t* raw, int n, int k, uint8_t* out);
int edgeai_num_variants();
const char* edgeai_variant(int index);
struct Engine;
Engine* edgeai_engine(int variant, int threads);
void edgeai_free(Engine* engine);
void edgeai_run(Engine* engine, Pass* pass);
void edgeai_draft(Engine* engine, Draft* draft);
void edgeai_keep(const Model* model, const Cache* cache, int row, int committed, const int32_t* path, int count);
}

namespace {

uint64_t state;
uint64_t draw() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1d >> 16;
}
int below(int n) { return static_cast<int>(draw() % n); }
float unit() { return static_cast<float>(static_cast<int>(draw() % 2001) - 1000) / 1000.0f; }

struct Type {
    int gguf, values, bytes;
    int halves[2];  // where a block keeps numbers in half precision; -1 for none
};
const Type TYPES[] = {{2, 32, 18, {0, -1}},    {3, 32, 20, {0, 2}},      {6, 32, 22, {0, -1}},     {7, 32, 24, {0, 2}},
                      {8, 32, 34, {0, -1}},    {12, 256, 144, {0, 2}},   {13, 256, 176, {0, 2}},   {14, 256, 210, {208, -1}},
                      {0, 1, 4, {-1, -1}},     {1, 1, 2, {0, -1}},       {30, 1, 2, {-1, -1}}};

struct Arrays {  // random weights and the memory that they lie in
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<std::vector<float>> floats;

    const float* some(size_t count, size_t padded = 0) {
        std::vector<float> values(padded > count ? padded : count);
        for (size_t i = 0; i < count; i++) values[i] = unit();
        floats.push_back(std::move(values));
        return floats.back().data();
    }
    Matrix matrix(int n, int k, bool biased) {
        const Type* type;
        do type = &TYPES[below(sizeof(TYPES) / sizeof(TYPES[0]))];
        while (k % type->values);
        std::vector<uint8_t> raw(static_cast<size_t>(n) * k / type->values * type->bytes);
        for (uint8_t& byte : raw) byte = static_cast<uint8_t>(draw());
        for (size_t at = 0; at < raw.size(); at += type->bytes) {
            for (int place : type->halves) {
                if (place < 0) continue;
                const uint16_t half = static_cast<uint16_t>(0x1800 + (draw() & 0x83ff));  // about +-0.002 to 0.004
                memcpy(&raw[at + place], &half, 2);
            }
            const float value = unit() / 16.0f;
            if (type->gguf == 0) memcpy(&raw[at], &value, 4);
            if (type->gguf == 30) memcpy(&raw[at], reinterpret_cast<const uint8_t*>(&value) + 2, 2);
        }
        const int kind = edgeai_kind(type->gguf);
        std::vector<uint8_t> packed(edgeai_packed_bytes(kind, n, k));
        edgeai_pack(type->gguf, raw.data(), n, k, packed.data());
        bytes.push_back(std::move(packed));
        return {kind, n, k, bytes.back().data(), biased ? some(n, (n + 15) / 16 * 16) : nullptr};
    }
};

struct Heads {  // of a random attention
    const int width = 16 * (1 + below(4)), kv = 1 + below(3), group = 1 + below(4);
    const int count = width * kv * group % 32 ? 2 * kv * group : kv * group;
};

struct Random : Arrays {  // a model
    std::vector<Layer> layers;
    Matrix embedding;
    Model model;

    Random() {
        const Heads attention;
        const int hd = attention.width, kv = attention.kv, heads = attention.count, q = heads * hd, hidden = 32 * (1 + below(8));
        const int intermediate = 32 * (1 + below(9)), vocab = 1 + below(90), positions = 96;
        const bool normed = below(2), biased = below(2);
        const int num_layers = 1 + below(3);
        for (int l = 0; l < num_layers; l++) {
            Layer layer;
            layer.attention_norm = some(hidden);
            layer.q_norm = normed ? some(hd) : nullptr;
            layer.k_norm = normed ? some(hd) : nullptr;
            layer.mlp_norm = some(hidden);
            layer.q = matrix(q, hidden, biased);
            layer.k = matrix(kv * hd, hidden, biased);
            layer.v = matrix(kv * hd, hidden, biased);
            layer.out = matrix(hidden, q, false);
            layer.gate = matrix(intermediate, hidden, false);
            layer.up = matrix(intermediate, hidden, false);
            layer.down = matrix(hidden, intermediate, false);
            layers.push_back(layer);
        }
        embedding = matrix(vocab, hidden, false);
        model = {hidden, intermediate, vocab, num_layers, heads, kv, hd, below(2), 1e-5f,
                 some(positions * hd / 2), some(positions * hd / 2), some(hidden), matrix(vocab, hidden, false), layers.data()};
    }
};

struct RandomHead : Arrays {  // a draft head of a model
    std::vector<int64_t> target_ids;
    Head head;

    explicit RandomHead(const Random& target) {
        const Heads attention;
        const int hd = attention.width, kv = attention.kv * hd, q = attention.count * hd, H = target.model.hidden, positions = 192;
        const int intermediate = 32 * (1 + below(9)), num_aux = 1 + below(3), vocab = 1 + below(90);
        for (int i = 0; i < vocab; i++) target_ids.push_back(below(target.model.vocab));
        const int norm_output = below(2), norm_before_residual = below(2), has_fc_norm = below(2);
        head = {H, intermediate, num_aux, vocab, attention.count, attention.kv, hd, norm_output, norm_before_residual, 1e-5f,
                some(positions * hd / 2), some(positions * hd / 2), has_fc_norm ? some(num_aux * H) : nullptr,
                some(H), some(H), some(H), some(H), target_ids.data(), matrix(H, num_aux * H, false),
                matrix(q, 2 * H, false), matrix(kv, 2 * H, false), matrix(kv, 2 * H, false), matrix(H, q, false),
                matrix(intermediate, H, false), matrix(intermediate, H, false), matrix(H, intermediate, false),
                matrix(vocab, H, false), target.embedding};
    }
};

uint64_t checksum;
template <class Value>
void add(const std::vector<Value>& values) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(values.data());
    for (size_t i = 0; i < values.size() * sizeof(Value); i++) checksum = (checksum ^ bytes[i]) * 0x100000001b3;
}

struct Drafter {  // texts of one head, some of which get new pairs, and trees, in each call
    const Head& head;
    const int vocab;
    static constexpr int BATCH = 3, CAPACITY = 160;
    std::vector<int> lengths = std::vector<int>(BATCH, 0);
    std::vector<uint16_t> memory;
    Cache cache;

    Drafter(const Head& drafts, int target_vocab) : head(drafts), vocab(target_vocab) {
        memory.resize(static_cast<size_t>(BATCH) * 2 * head.num_kv_heads * CAPACITY * head.head_dim);
        cache = {memory.data(), CAPACITY, BATCH};
    }
    void draft(Engine* engine) {
        std::vector<NewPairs> sequences;
        int num_pairs = 0;
        for (int i = 0, first = below(BATCH); i < BATCH; i++) {
            const int row = (first + i) % BATCH, count = 1 + below(9);
            if (!below(4)) continue;
            if (!below(8)) lengths[row] = below(lengths[row] + 1);  // the text is another one from there on
            sequences.push_back({row, lengths[row], num_pairs, count});
            num_pairs += count, lengths[row] += count;
        }
        if (sequences.empty()) return;
        const int depth = below(6), most = head.draft_vocab < 6 ? head.draft_vocab : 6, width = depth ? 1 + below(most) : 0;
        const int nodes = depth ? 1 + below(width + (depth - 1) * width * width) : 0, size = 1 + nodes;
        const size_t trees = sequences.size();
        std::vector<int64_t> tokens(num_pairs), tree_tokens(trees * size), parents(trees * size), depths(trees * size);
        std::vector<uint8_t> ancestors(trees * size * size);
        std::vector<float> features(static_cast<size_t>(num_pairs) * head.fc.k), scores(trees * size);
        for (int64_t& token : tokens) token = below(vocab);
        for (float& value : features) value = unit();
        Draft call{&head, &cache, sequences.data(), static_cast<int32_t>(trees), num_pairs, depth, width, nodes, tokens.data(),
                   features.data(), tree_tokens.data(), parents.data(), depths.data(), ancestors.data(), scores.data()};
        edgeai_draft(engine, &call);
        add(tree_tokens), add(parents), add(depths), add(ancestors), add(scores);
    }
};

// The same prompts, trees and accepted paths for every variant and number of threads.
void decode(const Random& random, const RandomHead& drafts, int variant, int threads, uint64_t seed) {
    state = seed;
    const Model& m = random.model;
    Engine* engine = edgeai_engine(variant, threads);
    Drafter drafter(drafts.head, m.vocab);
    const int batch = 1 + below(3), capacity = 96;
    std::vector<uint16_t> memory(static_cast<size_t>(batch) * m.num_layers * 2 * m.num_kv_heads * capacity * m.head_dim);
    Cache cache{memory.data(), capacity, batch};
    std::vector<int> lengths(batch, 0);
    for (int step = 0; step < 4; step++) {
        drafter.draft(engine);
        std::vector<Segment> segments;
        std::vector<std::vector<uint8_t>> seen;
        std::vector<int32_t> positions, rows;
        std::vector<int64_t> ids;
        for (int row = 0; row < batch; row++) {
            if (step && !below(4)) continue;
            const int size = 1 + below(step ? 9 : 20), first = static_cast<int>(positions.size());
            std::vector<uint8_t> mask(size * size);
            std::vector<int> depth(size, 0);
            for (int i = 0; i < size; i++) {
                const int parent = i ? (step ? below(i) : i - 1) : -1;
                if (i) memcpy(&mask[i * size], &mask[parent * size], size), depth[i] = depth[parent] + 1;
                mask[i * size + i] = 1;
                positions.push_back(lengths[row] + depth[i]);
                ids.push_back(below(m.vocab));
                if (below(2)) rows.push_back(first + i);
            }
            seen.push_back(std::move(mask));
            segments.push_back({row, lengths[row], lengths[row], first, size, nullptr});
        }
        if (segments.empty()) continue;
        for (size_t s = 0; s < segments.size(); s++) segments[s].ancestors = seen[s].data();
        std::vector<int32_t> aux;
        for (int l = 0; l < m.num_layers; l++)
            if (below(2)) aux.push_back(l);
        const int T = static_cast<int>(ids.size());
        std::vector<float> x(static_cast<size_t>(T) * m.hidden), logits(rows.size() * m.vocab), hidden(x.size()), features(x.size() * aux.size());
        edgeai_rows(&random.embedding, ids.data(), T, x.data());
        Pass pass{&m, &cache, segments.data(), static_cast<int32_t>(segments.size()), T, static_cast<int32_t>(rows.size()),
                  static_cast<int32_t>(aux.size()), positions.data(), rows.data(), aux.data(), x.data(), logits.data(), hidden.data(), features.data()};
        edgeai_run(engine, &pass);
        add(logits), add(hidden), add(features);
        for (const Segment& segment : segments) {  // a text is kept whole, of a tree one path
            std::vector<int32_t> path;
            const uint8_t* last = segment.ancestors + static_cast<size_t>(segment.size) * (segment.size - 1);
            for (int i = 0; i < segment.size; i++)
                if (last[i]) path.push_back(i);
            edgeai_keep(&m, &cache, segment.row, lengths[segment.row], path.data(), static_cast<int>(path.size()));
            lengths[segment.row] += static_cast<int>(path.size());
        }
    }
    edgeai_free(engine);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    for (uint64_t seed = strtoull(argv[1], nullptr, 10), end = seed + strtoull(argv[2], nullptr, 10); seed < end; seed++) {
        state = seed * 0x9e3779b97f4a7c15 + 1;
        const Random random;
        const RandomHead drafts(random);
        uint64_t first = 0;
        for (int variant = 0; variant < edgeai_num_variants(); variant++)
            for (int threads = 1; threads <= 3; threads++) {
                checksum = 0xcbf29ce484222325;
                decode(random, drafts, variant, threads, seed * 0xd1342543de82ef95 + 1);
                if (variant == 0 && threads == 1) first = checksum;
                if (checksum == first) continue;
                printf("seed %llu: %s with %d threads differs\n", static_cast<unsigned long long>(seed), edgeai_variant(variant), threads);
                return 1;
            }
        printf("%llu %016llx\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(first));
    }
    for (int variant = 0; variant < edgeai_num_variants(); variant++) printf("%s ", edgeai_variant(variant));
    printf("\n");
}
