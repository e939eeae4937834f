// Values of packed matrices: the inverse of pack.cpp, with the roundings of a GGUF reader.
#include <cstring>
#include "runtime.h"

namespace edgeai {

namespace {

constexpr int LANES = 16, GROUP = 32;

float from_half(const uint8_t* lanes, int output) {
    uint16_t half;
    memcpy(&half, lanes + 2 * output, 2);
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
    if (exponent == 0) {  // zero or subnormal: a multiple of 2^-24
        const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
        memcpy(&bits, &magnitude, 4);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// The bytes of one output in a group of bytes or nibbles.
void take_bytes(const uint8_t* group, int output, bool nibbles, int* values) {
    const int quarters = nibbles ? 4 : 8;
    for (int i = 0; i < 4 * quarters; i++) {
        const uint8_t byte = group[64 * (i / 4) + 4 * output + i % 4];
        values[i] = nibbles ? byte & 15 : static_cast<int8_t>(byte);
        if (nibbles) values[i + GROUP / 2] = byte >> 4;
    }
}

float float_at(int kind, const uint8_t* block, size_t place) {
    if (kind == F16) return from_half(block, static_cast<int>(place));
    uint32_t bits = 0;
    if (kind == F32) memcpy(&bits, block + 4 * place, 4);
    else memcpy(&bits, block + 2 * place, 2), bits <<= 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Group g (32 inputs) of one output; `block` holds 16 outputs.
void unpack_group(int kind, const uint8_t* block, int output, int g, float* out) {
    int q[GROUP];
    if (kind == F16 || kind == BF16 || kind == F32) {
        for (int i = 0; i < GROUP; i++) out[i] = float_at(kind, block, static_cast<size_t>(g * GROUP + i) * LANES + output);
    } else if (kind == Q4 || kind == Q8 || kind == Q8M) {
        const int bytes = kind == Q4 ? 256 : 512;
        const uint8_t* at = block + static_cast<size_t>(g) * (bytes + (kind == Q8 ? 32 : 64));
        take_bytes(at, output, kind == Q4, q);
        const float d = from_half(at + bytes, output), m = kind == Q8 ? 0.0f : from_half(at + bytes + 32, output);
        for (int i = 0; i < GROUP; i++) out[i] = d * static_cast<float>(q[i]);
        if (kind != Q8) for (int i = 0; i < GROUP; i++) out[i] += m;
    } else if (kind == Q4K || kind == Q8K) {
        const int bytes = kind == Q4K ? 256 : 512, s = g % 8;
        const uint8_t* at = block + static_cast<size_t>(g / 8) * (8 * bytes + 320);
        const uint8_t* scales = at + 8 * bytes;
        take_bytes(at + s * bytes, output, kind == Q4K, q);
        const float d = from_half(scales + 256, output) * static_cast<float>(scales[16 * s + output]);
        const float minimum = from_half(scales + 288, output) * static_cast<float>(scales[128 + 16 * s + output]);
        for (int i = 0; i < GROUP; i++) out[i] = d * static_cast<float>(q[i]) - minimum;
    } else {  // Q6K: a scale for each half of a group
        const int s = g % 8;
        const uint8_t* at = block + static_cast<size_t>(g / 8) * (8 * 512 + 288);
        const uint8_t* scales = at + 8 * 512;
        take_bytes(at + s * 512, output, false, q);
        for (int i = 0; i < GROUP; i++) {
            const float d = from_half(scales + 256, output) * static_cast<float>(static_cast<int8_t>(scales[16 * (2 * s + i / 16) + output]));
            out[i] = d * static_cast<float>(q[i]);
        }
    }
}

}  // namespace

}  // namespace edgeai

using namespace edgeai;

// The values at `count` places (row, column), float32.
extern "C" void edgeai_values(const Matrix* matrix, const int64_t* rows, const int64_t* columns, int64_t count, float* out) {
    const size_t bytes = packed_bytes(matrix->kind, LANES, matrix->k);
    float group[GROUP];
    for (int64_t i = 0; i < count; i++) {
        const uint8_t* block = matrix->data + bytes * (rows[i] / LANES);
        unpack_group(matrix->kind, block, static_cast<int>(rows[i] % LANES), static_cast<int>(columns[i] / GROUP), group);
        out[i] = group[columns[i] % GROUP];
    }
}

// Whole rows, float32: out [count, k].
extern "C" void edgeai_rows(const Matrix* matrix, const int64_t* rows, int64_t count, float* out) {
    const size_t bytes = packed_bytes(matrix->kind, LANES, matrix->k);
    for (int64_t i = 0; i < count; i++) {
        const uint8_t* block = matrix->data + bytes * (rows[i] / LANES);
        for (int g = 0; g < matrix->k / GROUP; g++, out += GROUP) unpack_group(matrix->kind, block, static_cast<int>(rows[i] % LANES), g, out);
    }
}
