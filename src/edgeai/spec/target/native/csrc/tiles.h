// Products on AMX tiles: one instruction multiplies up to sixteen rows with a group of sixteen outputs.
//
// Its sums are exact integers, and `add_groups` scales them as it does those of the vectors: the bits are the same.
#pragma once

namespace EDGEAI_NAMESPACE {

#if defined(EDGEAI_AMX)

constexpr int BLOCK_ROWS = 16;    // rows of a tile
constexpr int MIN_TILE_ROWS = 9;  // a tile takes the time of sixteen rows; fewer than these are faster with vectors
constexpr int TILE_GROUPS = 8;    // groups whose sums wait in the first-level cache to be scaled

struct Tiles {  // the calling thread's tiles
    Tiles() {
        struct alignas(64) Config {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            // 0: sums; 1 and 2: activations and weights of a group; 3 and 4: of half a group
            uint16_t row_bytes[16] = {64, 32, 64, 16, 64};
            uint8_t rows[16] = {BLOCK_ROWS, BLOCK_ROWS, 8, BLOCK_ROWS, 4};
        };
        static const Config config;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

static inline void unpack_nibbles(const uint8_t* w, uint8_t* bytes) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; j++) {
        const __m512i both = _mm512_loadu_si512(w + 64 * j);
        _mm512_store_si512(bytes + 64 * j, _mm512_and_si512(both, low));
        _mm512_store_si512(bytes + 64 * (j + 4), _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
    }
}

// Sums of the products of sixteen rows with one group: [16 rows][16 outputs], for HALVES twice.
template <bool HALVES>
static inline void multiply_tile(const uint8_t* bytes, const int8_t* q, size_t stride, int32_t* sums) {
    _tile_zero(0);
    if constexpr (HALVES) {
        _tile_loadd(3, q, stride);
        _tile_loadd(4, bytes, 64);
        _tile_dpbssd(0, 3, 4);
        _tile_stored(0, sums, 64);
        _tile_zero(0);
        _tile_loadd(3, q + GROUP / 2, stride);
        _tile_loadd(4, bytes + 256, 64);
        _tile_dpbssd(0, 3, 4);
        _tile_stored(0, sums + 256, 64);
    } else {
        _tile_loadd(1, q, stride);
        _tile_loadd(2, bytes, 64);
        _tile_dpbssd(0, 1, 2);
        _tile_stored(0, sums, 64);
    }
}

// Sixteen outputs of up to R rows. The steps of a group are some groups apart, so that its bytes and its sums, which tiles
// and vectors hand to each other through memory, have arrived when they are read.
template <Kind KIND, int R>
static inline void tile_block(const uint8_t* w, const Rows& rows, int row, int count, vf* acc) {
    constexpr bool HALVES = KIND == Q6K, NIBBLES = group_bits(KIND) == 4;
    constexpr int SUMS = HALVES ? 512 : 256, APART = 2, RING = 4;
    alignas(64) uint8_t bytes[RING][512];
    alignas(64) int32_t sums[RING][SUMS];
    vf all[R];  // rows that are not there are computed from whatever lies behind the others, and dropped
    for (vf& one : all) one = set1(0.0f);
    const int groups = rows.k / GROUP;
    const int8_t* q = rows.data->q.data() + static_cast<size_t>(row) * rows.k;
    const auto unpack = [&](int g) {
        const uint8_t* from = group_at<KIND>(w, g);
        prefetch<KIND>(from);
        if constexpr (NIBBLES) unpack_nibbles(from, bytes[g % RING]);
    };
    for (int g = 0; g < std::min(APART, groups); g++) unpack(g);
    for (int g = 0; g < groups + APART; g++) {
        if (g + APART < groups) unpack(g + APART);
        if (g < groups) multiply_tile<HALVES>(NIBBLES ? bytes[g % RING] : group_at<KIND>(w, g), q + g * GROUP, rows.k, sums[g % RING]);
        if (g < APART) continue;
        vi dot[HALVES ? 2 * R : R];
        const int32_t* from = sums[(g - APART) % RING];
        for (int r = 0; r < R; r++) {
            dot[HALVES ? 2 * r : r].v = _mm512_load_si512(from + LANES * r);
            if constexpr (HALVES) dot[2 * r + 1].v = _mm512_load_si512(from + 256 + LANES * r);
        }
        add_group<KIND, R>(w, rows, row, g - APART, dot, all);
    }
    for (int r = 0; r < count; r++) acc[r] = all[r];
}

template <Kind KIND>
static inline void tile_block_of(const uint8_t* w, const Rows& rows, int row, int count, vf* acc) {
    if (count <= 12) tile_block<KIND, 12>(w, rows, row, count, acc);
    else tile_block<KIND, 16>(w, rows, row, count, acc);
}

// Sixteen outputs of `count` rows, before the bias; false if vectors are to compute them.
static inline bool multiply_in_tiles(int kind, const uint8_t* w, const Rows& rows, int row, int count, vf* acc) {
    if (count < MIN_TILE_ROWS) return false;
    switch (kind) {
        case Q4: tile_block_of<Q4>(w, rows, row, count, acc); return true;
        case Q8: tile_block_of<Q8>(w, rows, row, count, acc); return true;
        case Q8M: tile_block_of<Q8M>(w, rows, row, count, acc); return true;
        case Q4K: tile_block_of<Q4K>(w, rows, row, count, acc); return true;
        case Q8K: tile_block_of<Q8K>(w, rows, row, count, acc); return true;
        case Q6K: tile_block_of<Q6K>(w, rows, row, count, acc); return true;
        default: return false;
    }
}

#else

constexpr int BLOCK_ROWS = MAX_ROWS;
struct Tiles {};
static inline bool multiply_in_tiles(int, const uint8_t*, const Rows&, int, int, vf*) { return false; }

#endif

}  // namespace
