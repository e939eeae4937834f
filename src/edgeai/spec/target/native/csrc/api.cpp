// The C interface: choosing a variant, calls of the forward pass and of the draft head, and the cache's commit.
#include <cstring>
#include <memory>
#include <vector>
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif
#include "head.h"
#include "workspace.h"

using namespace edgeai;

namespace {

struct Engine {
    Engine(const Variant* chosen, int threads) : variant(chosen), team(threads), num_threads(threads) {}
    const Variant* variant;
    Team team;
    Workspace workspace;
    DraftBuffers draft_buffers;
    const int num_threads;
};

#if defined(__x86_64__)
bool has_avx_vnni() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

bool may_use_tiles() {  // the processor has them, and the system grants them to this process
#if defined(__linux__)
    unsigned a, b, c, d;
    constexpr unsigned tiles_of_int8 = 3u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tiles_of_int8) != tiles_of_int8) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}
#endif

std::vector<const Variant*> usable() {  // the fastest last
    std::vector<const Variant*> found{variant_portable()};
#if defined(__x86_64__)
    __builtin_cpu_init();
    [[maybe_unused]] const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    [[maybe_unused]] const bool has_avx512 =
        has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#endif
#if defined(EDGEAI_HAS_AVX2)
    if (has_avx2) found.push_back(variant_avx2());
#endif
#if defined(EDGEAI_HAS_AVXVNNI)
    if (has_avx2 && has_avx_vnni()) found.push_back(variant_avxvnni());
#endif
#if defined(EDGEAI_HAS_AVX512VNNI)
    if (has_avx512) found.push_back(variant_avx512vnni());
#endif
#if defined(EDGEAI_HAS_AVX512AMX)
    if (has_avx512 && may_use_tiles()) found.push_back(variant_avx512amx());
#endif
#if defined(EDGEAI_HAS_NEON)
    found.push_back(variant_neon());
#endif
    return found;
}

}  // namespace

extern "C" {

int edgeai_num_variants() { return static_cast<int>(usable().size()); }
const char* edgeai_variant(int index) { return usable()[index]->name; }
void edgeai_multiply(int variant, const Matrix* matrix, const float* x, int rows, float* y) { usable()[variant]->multiply(*matrix, x, rows, y); }

Engine* edgeai_engine(int variant, int threads) { return new Engine(usable()[variant], threads); }
void edgeai_free(Engine* engine) { delete engine; }

void edgeai_run(Engine* engine, Pass* pass) {
    engine->variant->reserve(*pass, engine->workspace, engine->num_threads);
    engine->team.run([=](Team::Member& self) { engine->variant->run(*pass, engine->workspace, self); });
}

// Adds new pairs to the draft head's cache and, if depth > 0, grows a tree below the last pair of each sequence.
void edgeai_draft(Engine* engine, Draft* draft) {
    engine->variant->reserve_draft(*draft, engine->workspace, engine->draft_buffers, engine->num_threads);
    engine->team.run([=](Team::Member& self) {
        engine->variant->draft(*draft, engine->workspace, engine->draft_buffers, self);
    });
}

// Keeps the new tokens at `path` (ascending offsets from the committed end) and closes the gaps between them.
void edgeai_keep(const Model* model, const Cache* cache, int row, int committed, const int32_t* path, int count) {
    const int hd = model->head_dim;
    for (int layer = 0; layer < model->num_layers; layer++)
        for (int kv = 0; kv < model->num_kv_heads; kv++) {
            const size_t head = static_cast<size_t>(kv) * cache->capacity * hd;
            uint16_t *keys = cache_keys(*model, *cache, row, layer) + head, *values = cache_values(*model, *cache, row, layer) + head;
            for (int i = 0; i < count; i++) {
                const size_t from = committed + path[i], to = committed + i;
                if (from == to) continue;
                for (int d = 0; d < hd; d++) keys[to / 16 * hd * 16 + d * 16 + to % 16] = keys[from / 16 * hd * 16 + d * 16 + from % 16];
                memmove(values + to * hd, values + from * hd, sizeof(uint16_t) * hd);
            }
        }
}

}
