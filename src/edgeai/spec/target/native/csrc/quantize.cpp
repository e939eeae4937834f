// From float32 to the groups of 32 that GGUF calls Q8_0 and Q4_1.
#include <cmath>
#include <cstring>
#include "runtime.h"

namespace {

constexpr int GROUP = 32, LARGEST = 15;

// Nearest half-precision number, ties to even; infinite if it is too large.
uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (magnitude < 0x38800000) {  // subnormal: a multiple of 2^-24
        float scaled;
        memcpy(&scaled, &magnitude, 4);
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(scaled * 16777216.0f)));
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

float from_half(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31) return fraction ? NAN : half & 0x8000 ? -INFINITY : INFINITY;
    const float magnitude = exponent ? std::ldexp(1024.0f + static_cast<float>(fraction), exponent - 25) : std::ldexp(static_cast<float>(fraction), -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

struct Fit {  // x is about d q + m, with q from 0 to 15
    uint16_t d, m;
    int q[GROUP];
    float error;
};

// The best q for a scale and a minimum that are first rounded to half precision.
Fit fit(const float* x, float scale, float minimum) {
    Fit found{to_half(scale), to_half(minimum), {}, 0.0f};
    const float d = from_half(found.d), m = from_half(found.m), inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int i = 0; i < GROUP; i++) {
        const float at = (x[i] - m) * inverse + 0.5f;
        found.q[i] = static_cast<int>(at < 0.0f ? 0.0f : at > LARGEST ? static_cast<float>(LARGEST) : at);
        const float off = d * static_cast<float>(found.q[i]) + m - x[i];
        found.error += off * off;
    }
    return found;
}

// The scale and minimum of least squares for the q that a trial scale gives.
bool least_squares(const float* x, float low, float inverse, float& scale, float& minimum) {
    float sum_q = 0.0f, sum_qq = 0.0f, sum_x = 0.0f, sum_xq = 0.0f;
    for (int i = 0; i < GROUP; i++) {
        const float at = (x[i] - low) * inverse + 0.5f;
        const float q = static_cast<float>(static_cast<int>(at > LARGEST ? static_cast<float>(LARGEST) : at));
        sum_q += q, sum_qq += q * q, sum_x += x[i], sum_xq += x[i] * q;
    }
    const float determinant = GROUP * sum_qq - sum_q * sum_q;
    if (determinant <= 0.0f) return false;
    scale = (GROUP * sum_xq - sum_x * sum_q) / determinant;
    minimum = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    return true;
}

bool is_finite_half(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

}  // namespace

// Groups of [d][32 x int8]. Returns 0, or 1 if a value is not finite or too large.
extern "C" int edgeai_quantize_q8(const float* x, int64_t groups, uint8_t* out) {
    for (int64_t g = 0; g < groups; g++, x += GROUP, out += 2 + GROUP) {
        float top = 0.0f, total = 0.0f;
        for (int i = 0; i < GROUP; i++) top = std::fabs(x[i]) > top ? std::fabs(x[i]) : top, total += x[i];
        const uint16_t d = to_half(top / 127.0f);
        if (!is_finite_half(d) || !std::isfinite(total)) return 1;
        memcpy(out, &d, 2);
        const float scale = from_half(d), inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        for (int i = 0; i < GROUP; i++) {
            const float at = std::nearbyint(x[i] * inverse);
            out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(at > 127.0f ? 127.0f : at < -127.0f ? -127.0f : at));
        }
    }
    return 0;
}

// Groups of [d][m][16 bytes of nibbles]: of the scale from smallest to largest value and 21 trial scales refined by least
// squares, the one with the smallest squared error. Returns 0, or 1 if a value is not finite or too large.
extern "C" int edgeai_quantize_q4(const float* x, int64_t groups, uint8_t* out) {
    for (int64_t g = 0; g < groups; g++, x += GROUP, out += 4 + GROUP / 2) {
        float low = x[0], high = x[0], total = 0.0f;
        for (int i = 0; i < GROUP; i++) low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high, total += x[i];
        if (!std::isfinite(total)) return 1;
        Fit best = fit(x, (high - low) / LARGEST, low);
        for (int trial = 0; trial <= 20 && high > low; trial++) {
            float scale, minimum;
            const float steps = LARGEST - 1.0f + 0.1f * static_cast<float>(trial);
            if (!least_squares(x, low, steps / (high - low), scale, minimum)) continue;
            const Fit found = fit(x, scale, minimum);
            if (found.error < best.error) best = found;
        }
        if (!is_finite_half(best.d) || !is_finite_half(best.m)) return 1;
        memcpy(out, &best.d, 2);
        memcpy(out + 2, &best.m, 2);
        for (int i = 0; i < GROUP / 2; i++) out[4 + i] = static_cast<uint8_t>(best.q[i] | best.q[i + GROUP / 2] << 4);
    }
    return 0;
}
