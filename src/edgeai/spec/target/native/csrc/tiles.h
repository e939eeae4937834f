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

template <Kind KIND>
static inline void tile_block(const uint8_t* w, const Rows& rows, int row, int count, vf* acc) {
    constexpr bool HALVES = KIND == Q6K;
    constexpr int SUMS = HALVES ? 512 : 256, PART = 4;
    alignas(64) uint8_t bytes[TILE_GROUPS * 512];
    alignas(64) int32_t sums[TILE_GROUPS * SUMS];
    vf padded[BLOCK_ROWS];  // rows that are not there are computed from whatever lies behind the others, and dropped
    for (vf& one : padded) one = set1(0.0f);
    const int groups = rows.k / GROUP;
    const int8_t* q = rows.data->q.data() + static_cast<size_t>(row) * rows.k;
    for (int first = 0, part; first < groups; first += part) {
        part = std::min(TILE_GROUPS, groups - first);
        const bool packed = group_bits(KIND) == 4;
        if constexpr (packed)
            for (int g = 0; g < part; g++) unpack_nibbles(w + g * group_step(KIND), bytes + 512 * g);
        for (int g = 0; g < part; g++) {
            prefetch<KIND>(w + g * group_step(KIND));
            const uint8_t* from = packed ? bytes + 512 * g : w + g * group_step(KIND);
            multiply_tile<HALVES>(from, q + (first + g) * GROUP, rows.k, sums + SUMS * g);
        }
        for (int r = 0; r < count; r += PART) {
            const auto summed = [&, r](int g, const uint8_t*, vi* out) {
                for (int i = 0; i < PART; i++) {
                    const int32_t* from = sums + SUMS * g + LANES * (r + i);
                    if constexpr (HALVES) {
                        out[2 * i].v = _mm512_load_si512(from);
                        out[2 * i + 1].v = _mm512_load_si512(from + 256);
                    } else {
                        out[i].v = _mm512_load_si512(from);
                    }
                }
            };
            add_groups<KIND, PART>(w, rows, row + r, first, part, summed, padded + r);
        }
        w += is_super(KIND) ? super_bytes(KIND) : part * group_step(KIND);
    }
    for (int r = 0; r < count; r++) acc[r] = padded[r];
}

// Sixteen outputs of `count` rows, before the bias; false if vectors are to compute them.
static inline bool multiply_in_tiles(int kind, const uint8_t* w, const Rows& rows, int row, int count, vf* acc) {
    if (count < MIN_TILE_ROWS) return false;
    switch (kind) {
        case Q4: tile_block<Q4>(w, rows, row, count, acc); return true;
        case Q8: tile_block<Q8>(w, rows, row, count, acc); return true;
        case Q8M: tile_block<Q8M>(w, rows, row, count, acc); return true;
        case Q4K: tile_block<Q4K>(w, rows, row, count, acc); return true;
        case Q8K: tile_block<Q8K>(w, rows, row, count, acc); return true;
        case Q6K: tile_block<Q6K>(w, rows, row, count, acc); return true;
        default: return false;
    }
}

#else

constexpr int BLOCK_ROWS = MAX_ROWS;
struct Tiles {};
static inline bool multiply_in_tiles(int, const uint8_t*, const Rows&, int, int, vf*) { return false; }

#endif

}  // namespace
