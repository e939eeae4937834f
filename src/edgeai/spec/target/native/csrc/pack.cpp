// From the tensors of a GGUF file (rows of blocks, layouts of ggml) to the packed formats of runtime.h.
#include <cstring>
#include <vector>
#include "runtime.h"

namespace edgeai {

namespace {

constexpr int LANES = 16, GROUP = 32, SUPER = 256;

// Quantized values of one group of 32 inputs of one output, as bytes, into a block of 16 outputs.
void put_bytes(uint8_t* block, int output, const uint8_t* values, bool nibbles) {
    uint8_t both[GROUP / 2];
    if (nibbles) {
        for (int i = 0; i < GROUP / 2; i++) both[i] = values[i] | values[i + GROUP / 2] << 4;
        values = both;
    }
    const int quarters = nibbles ? 4 : 8;
    for (int quarter = 0; quarter < quarters; quarter++) memcpy(block + 64 * quarter + 4 * output, values + 4 * quarter, 4);
}

uint16_t read_half(const uint8_t* p) {
    uint16_t value;
    memcpy(&value, p, 2);
    return value;
}

void put_half(uint8_t* lanes, int output, uint16_t value) { memcpy(lanes + 2 * output, &value, 2); }

// -8 d in half precision, for Q4_0, whose values are d (q - 8): exact for every finite d below 8190.
uint16_t times_minus_eight(uint16_t half) {
    const uint16_t exponent = half >> 10 & 31, sign = (half ^ 0x8000) & 0x8000;
    uint16_t magnitude = half & 0x7fff;
    if (exponent == 0) {
        for (int i = 0; i < 3; i++) magnitude = magnitude < 0x400 ? magnitude * 2 : magnitude + 0x400;
    } else {
        magnitude = exponent + 3 >= 31 ? 0x7c00 : magnitude + 0xc00;
    }
    return sign | magnitude;
}

// The 6-bit scale and minimum of group s in the 12 bytes of a K block.
void scale_and_minimum(const uint8_t* packed, int s, uint8_t& scale, uint8_t& minimum) {
    if (s < 4) {
        scale = packed[s] & 63;
        minimum = packed[s + 4] & 63;
    } else {
        scale = (packed[s + 4] & 15) | packed[s - 4] >> 6 << 4;
        minimum = packed[s + 4] >> 4 | packed[s] >> 6 << 4;
    }
}

}  // namespace

size_t packed_bytes(int kind, int n, int k) {
    const size_t blocks = (n + LANES - 1) / LANES;
    const Kind named = static_cast<Kind>(kind);
    if (kind < 0 || kind >= NUM_KINDS) return 0;
    if (is_float(named)) return blocks * k * LANES * (named == F32 ? 4 : 2);
    return blocks * (is_super(named) ? k / SUPER * super_bytes(named) : k / GROUP * group_step(named));
}

}  // namespace edgeai

using namespace edgeai;

// Types as GGUF numbers them.
enum : int { T_F32 = 0, T_F16 = 1, T_Q4_0 = 2, T_Q4_1 = 3, T_Q5_0 = 6, T_Q5_1 = 7, T_Q8_0 = 8, T_Q4_K = 12, T_Q5_K = 13, T_Q6_K = 14, T_BF16 = 30 };

extern "C" int edgeai_kind(int type) {
    switch (type) {
        case T_F32: return F32;
        case T_F16: return F16;
        case T_BF16: return BF16;
        case T_Q4_0: case T_Q4_1: return Q4;
        case T_Q5_0: case T_Q8_0: return Q8;
        case T_Q5_1: return Q8M;
        case T_Q4_K: return Q4K;
        case T_Q5_K: return Q8K;
        case T_Q6_K: return Q6K;
        default: return -1;
    }
}

extern "C" size_t edgeai_packed_bytes(int kind, int n, int k) { return packed_bytes(kind, n, k); }

// raw [n, k] in a GGUF type to `out`, edgeai_packed_bytes long and zeroed. Parts of a matrix that begin at multiples of 16
// rows can be packed by themselves.
extern "C" void edgeai_pack(int type, const uint8_t* raw, int n, int k, uint8_t* out) {
    const int kind = edgeai_kind(type);
    const size_t block_bytes = packed_bytes(kind, LANES, k);
    uint8_t values[SUPER];
    for (int row = 0; row < n; row++) {
        uint8_t* to = out + block_bytes * (row / LANES);
        const int lane = row % LANES;
        if (kind == F32 || kind == F16 || kind == BF16) {
            const int width = kind == F32 ? 4 : 2;
            for (int i = 0; i < k; i++, raw += width) memcpy(to + static_cast<size_t>(width) * (i * LANES + lane), raw, width);
        } else if (kind == Q4 || kind == Q8 || kind == Q8M) {
            for (int g = 0; g < k / GROUP; g++) {
                const uint16_t d = read_half(raw);
                raw += 2;
                uint16_t m = 0;
                if (type == T_Q4_0) m = times_minus_eight(d);
                if (type == T_Q4_1 || type == T_Q5_1) m = read_half(raw), raw += 2;
                if (type == T_Q8_0) {
                    memcpy(values, raw, 32);
                    raw += 32;
                } else {
                    uint32_t high = 0;
                    if (type == T_Q5_0 || type == T_Q5_1) memcpy(&high, raw, 4), raw += 4;
                    for (int i = 0; i < 16; i++) {
                        values[i] = (raw[i] & 15) | (high >> i & 1) << 4;
                        values[i + 16] = raw[i] >> 4 | (high >> (i + 16) & 1) << 4;
                    }
                    raw += 16;
                    if (type == T_Q5_0) for (int i = 0; i < 32; i++) values[i] = static_cast<uint8_t>(values[i] - 16);
                }
                const int bytes = kind == Q4 ? 256 : 512;
                put_bytes(to, lane, values, kind == Q4);
                put_half(to + bytes, lane, d);
                if (kind != Q8) put_half(to + bytes + 32, lane, m);
                to += bytes + (kind == Q8 ? 32 : 64);
            }
        } else if (kind == Q4K || kind == Q8K) {
            const int bytes = kind == Q4K ? 256 : 512;
            for (int b = 0; b < k / SUPER; b++) {
                const uint8_t *scales = raw + 4, *high = raw + 16, *low = type == T_Q5_K ? raw + 48 : raw + 16;
                for (int pair = 0; pair < 4; pair++)  // 32 bytes hold the low nibbles of one group and those of the next
                    for (int i = 0; i < 32; i++) {
                        const uint8_t both = low[32 * pair + i];
                        values[64 * pair + i] = both & 15;
                        values[64 * pair + 32 + i] = both >> 4;
                        if (type == T_Q5_K) {
                            values[64 * pair + i] |= (high[i] >> (2 * pair) & 1) << 4;
                            values[64 * pair + 32 + i] |= (high[i] >> (2 * pair + 1) & 1) << 4;
                        }
                    }
                for (int s = 0; s < 8; s++) {
                    put_bytes(to + s * bytes, lane, values + 32 * s, kind == Q4K);
                    scale_and_minimum(scales, s, to[8 * bytes + 16 * s + lane], to[8 * bytes + 128 + 16 * s + lane]);
                }
                put_half(to + 8 * bytes + 256, lane, read_half(raw));
                put_half(to + 8 * bytes + 288, lane, read_half(raw + 2));
                raw += type == T_Q5_K ? 176 : 144;
                to += 8 * bytes + 320;
            }
        } else {  // Q6_K: [128 low nibbles][64 high pairs][16 scales][d]
            for (int b = 0; b < k / SUPER; b++) {
                const uint8_t *low = raw, *high = raw + 128, *scales = raw + 192;
                for (int half = 0; half < 2; half++, low += 64, high += 32)
                    for (int i = 0; i < 32; i++) {
                        const uint8_t six[4] = {static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4),
                                                static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4),
                                                static_cast<uint8_t>(low[i] >> 4 | (high[i] >> 4 & 3) << 4),
                                                static_cast<uint8_t>(low[i + 32] >> 4 | (high[i] >> 6 & 3) << 4)};
                        for (int part = 0; part < 4; part++) values[128 * half + 32 * part + i] = static_cast<uint8_t>(six[part] - 32);
                    }
                for (int s = 0; s < 8; s++) put_bytes(to + s * 512, lane, values + 32 * s, false);
                for (int s = 0; s < 16; s++) to[8 * 512 + 16 * s + lane] = scales[s];
                put_half(to + 8 * 512 + 256, lane, read_half(raw + 208));
                raw += 210;
                to += 8 * 512 + 288;
            }
        }
    }
}
