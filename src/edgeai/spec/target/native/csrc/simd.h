// Sixteen float lanes and the int8 dot products of one group, for each instruction set.
//
// Every operation rounds once and sums run in one fixed order, so that all variants give the same bits.
// Compile with -ffp-contract=off: a compiler that fuses or splits on its own would break that.
#pragma once
#include <cstdint>
#include <cmath>
#include <cstring>

#if defined(EDGEAI_AVX512VNNI)
#include <immintrin.h>
#if defined(EDGEAI_AMX)
#define EDGEAI_NAMESPACE avx512amx
#else
#define EDGEAI_NAMESPACE avx512vnni
#endif
#elif defined(EDGEAI_AVX2)
#include <immintrin.h>
#if defined(EDGEAI_AVXVNNI)
#define EDGEAI_NAMESPACE avxvnni
#else
#define EDGEAI_NAMESPACE avx2
#endif
#elif defined(EDGEAI_NEON)
#include <arm_neon.h>
#define EDGEAI_NAMESPACE neon
#else
#define EDGEAI_NAMESPACE portable
#endif

// Small loops over registers: a compiler that leaves them as loops keeps the registers in memory.
#if defined(__clang__)
#define EDGEAI_UNROLL _Pragma("unroll")
#else
#define EDGEAI_UNROLL _Pragma("GCC unroll 16")
#endif

namespace EDGEAI_NAMESPACE {

constexpr int LANES = 16;
constexpr int GROUP = 32;  // weights that share a scale; activations are quantized in groups of as many

static inline float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ff, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        const float tiny = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
        return sign ? -tiny : tiny;
    }
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t float_to_half(float value) {  // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits >= 0x47800000) return sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00);  // 65536 and more, or not a number
    if (bits < 0x38800000) {  // below 2^-14: multiples of 2^-24
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 16777216.0f));
    }
    return sign | static_cast<uint16_t>((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}

#if defined(EDGEAI_AVX512VNNI)

constexpr int MAX_ROWS = 8;  // rows that share one unpacked block of weights
constexpr int SCORE_ROWS = 4;  // rows that share the keys they read
constexpr int MIX_PARTS = 2, PAIR_PARTS = 2;  // parts of 16 dimensions that share the weights of attention, for one row and two
struct vf { __m512 v; };
struct vi { __m512i v; };
static inline vf load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void store(float* p, vf a) { _mm512_storeu_ps(p, a.v); }
static inline vf set1(float a) { return {_mm512_set1_ps(a)}; }
static inline vf fmadd(vf a, vf b, vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline vf add(vf a, vf b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline vf mul(vf a, vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline vf div(vf a, vf b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline vf max(vf a, vf b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline vf min(vf a, vf b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline vf abs(vf a) { return {_mm512_abs_ps(a.v)}; }
static inline vf to_float(vi a) { return {_mm512_cvtepi32_ps(a.v)}; }
static inline vi round_int(vf a) { return {_mm512_cvtps_epi32(a.v)}; }
static inline vf times_power_of_two(vf a, vi n) {
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(n.v, 23)))};
}
static inline void store_half(uint16_t* p, vf a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a.v, 0)); }
static inline vf load_half(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
static inline vf load_bfloat(const uint16_t* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
static inline vf load_u8(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)))}; }
static inline vf load_i8(const int8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))}; }
static inline void store_i8(int8_t* p, vi a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a.v)); }
static inline float sum(vf a) {
    __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
static inline int32_t sum(vi a) { return _mm512_reduce_add_epi32(a.v); }
static inline float largest(vf a) { return _mm512_reduce_max_ps(a.v); }

static inline __m512i four_bytes(const int8_t* p) {  // in every lane
    int32_t q;
    memcpy(&q, p, 4);
    return _mm512_set1_epi32(q);
}

// Dot products of R rows with one group of 16 outputs. BITS 4: unsigned nibbles; 8: signed bytes.
// HALVES: out[2 r] sums the first 16 weights, out[2 r + 1] the others; else out[r] sums all 32.
template <int BITS, bool HALVES, int R>
static inline void dots(const uint8_t* w, const int8_t* a, size_t stride, const int32_t* sums, size_t sum_stride, vi* out) {
    __m512i unpacked[8];
    if constexpr (BITS == 4) {
        const __m512i low = _mm512_set1_epi8(15);
        for (int j = 0; j < 4; j++) {
            const __m512i both = _mm512_loadu_si512(w + 64 * j);
            unpacked[j] = _mm512_and_si512(both, low);
            unpacked[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        }
    } else {
        const __m512i flip = _mm512_set1_epi8(-128);  // to unsigned: w + 128
        for (int j = 0; j < 8; j++) unpacked[j] = _mm512_xor_si512(_mm512_loadu_si512(w + 64 * j), flip);
    }
    for (int r = 0; r < R; r++) {
        __m512i first = _mm512_setzero_si512(), second = _mm512_setzero_si512();
        for (int j = 0; j < 4; j++) first = _mm512_dpbusd_epi32(first, unpacked[j], four_bytes(a + r * stride + 4 * j));
        for (int j = 4; j < 8; j++) second = _mm512_dpbusd_epi32(second, unpacked[j], four_bytes(a + r * stride + 4 * j));
        if constexpr (BITS == 8) {
            first = _mm512_sub_epi32(first, _mm512_set1_epi32(128 * sums[r * sum_stride]));
            second = _mm512_sub_epi32(second, _mm512_set1_epi32(128 * sums[r * sum_stride + 1]));
        }
        if constexpr (HALVES) {
            out[2 * r].v = first;
            out[2 * r + 1].v = second;
        } else {
            out[r].v = _mm512_add_epi32(first, second);
        }
    }
}

#elif defined(EDGEAI_AVX2)

constexpr int MAX_ROWS = 4;
constexpr int SCORE_ROWS = 2, MIX_PARTS = 2, PAIR_PARTS = 1;
struct vf { __m256 lo, hi; };
struct vi { __m256i lo, hi; };
static inline vf load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float* p, vf a) { _mm256_storeu_ps(p, a.lo); _mm256_storeu_ps(p + 8, a.hi); }
static inline vf set1(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
static inline vf fmadd(vf a, vf b, vf c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
static inline vf add(vf a, vf b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline vf mul(vf a, vf b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline vf div(vf a, vf b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline vf max(vf a, vf b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline vf min(vf a, vf b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
static inline vf abs(vf a) {
    const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_and_ps(a.lo, keep), _mm256_and_ps(a.hi, keep)};
}
static inline vf to_float(vi a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
static inline vi round_int(vf a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
static inline __m256 shift_exponent(__m256 a, __m256i n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(n, 23)));
}
static inline vf times_power_of_two(vf a, vi n) { return {shift_exponent(a.lo, n.lo), shift_exponent(a.hi, n.hi)}; }
static inline void store_half(uint16_t* p, vf a) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a.lo, 0));
    _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(a.hi, 0));
}
static inline vf load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
static inline __m256 widen_bfloat(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
static inline vf load_bfloat(const uint16_t* p) { return {widen_bfloat(p), widen_bfloat(p + 8)}; }
static inline vf load_u8(const uint8_t* p) {
    const __m128i a = _mm_loadu_si128((const __m128i*)p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(a, 8)))};
}
static inline vf load_i8(const int8_t* p) {
    const __m128i a = _mm_loadu_si128((const __m128i*)p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)))};
}
static inline void store_i8(int8_t* p, vi a) {
    int32_t wide[16];
    _mm256_storeu_si256((__m256i*)wide, a.lo);
    _mm256_storeu_si256((__m256i*)(wide + 8), a.hi);
    for (int i = 0; i < 16; i++) p[i] = static_cast<int8_t>(wide[i]);
}
static inline float sum(vf a) {
    const __m256 x = _mm256_add_ps(a.lo, a.hi);
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
static inline int32_t sum(vi a) {
    const __m256i x = _mm256_add_epi32(a.lo, a.hi);
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}
static inline float largest(vf a) {
    const __m256 x = _mm256_max_ps(a.lo, a.hi);
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}

static inline __m256i four_bytes(const int8_t* p) {  // in every lane
    int32_t q;
    memcpy(&q, p, 4);
    return _mm256_set1_epi32(q);
}

// Both halves of the outputs go together, so that four bytes of a row are spread once; four rows fill the registers.
#if defined(EDGEAI_AVXVNNI)

template <int BITS, bool HALVES, int R>
static inline void dots(const uint8_t* w, const int8_t* a, size_t stride, const int32_t* sums, size_t sum_stride, vi* out) {
    const __m256i low = _mm256_set1_epi8(15), flip = _mm256_set1_epi8(-128);  // to unsigned: w + 128
    __m256i lo[R], hi[R];
    EDGEAI_UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i left = _mm256_loadu_si256((const __m256i*)(w + 64 * (BITS == 4 ? j % 4 : j)));
        __m256i right = _mm256_loadu_si256((const __m256i*)(w + 64 * (BITS == 4 ? j % 4 : j) + 32));
        if constexpr (BITS == 4) {
            if (j >= 4) left = _mm256_srli_epi16(left, 4), right = _mm256_srli_epi16(right, 4);
            left = _mm256_and_si256(left, low), right = _mm256_and_si256(right, low);
        } else {
            left = _mm256_xor_si256(left, flip), right = _mm256_xor_si256(right, flip);
        }
        EDGEAI_UNROLL
        for (int r = 0; r < R; r++) {
            if (j == 0 || (HALVES && j == 4)) lo[r] = hi[r] = _mm256_setzero_si256();
            const __m256i q = four_bytes(a + r * stride + 4 * j);
            lo[r] = _mm256_dpbusd_avx_epi32(lo[r], left, q), hi[r] = _mm256_dpbusd_avx_epi32(hi[r], right, q);
            if (j != 7 && !(HALVES && j == 3)) continue;
            if constexpr (BITS == 8) {
                const int32_t* own = sums + r * sum_stride;
                const __m256i extra = _mm256_set1_epi32(128 * (HALVES ? own[j / 4] : own[0] + own[1]));
                lo[r] = _mm256_sub_epi32(lo[r], extra), hi[r] = _mm256_sub_epi32(hi[r], extra);
            }
            out[HALVES ? 2 * r + j / 4 : r] = {lo[r], hi[r]};
        }
    }
}

#else

template <int BITS, bool HALVES, int R>
static inline void dots(const uint8_t* w, const int8_t* a, size_t stride, const int32_t*, size_t, vi* out) {
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    __m256i lo[R], hi[R];
    EDGEAI_UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i left = _mm256_loadu_si256((const __m256i*)(w + 64 * (BITS == 4 ? j % 4 : j)));
        __m256i right = _mm256_loadu_si256((const __m256i*)(w + 64 * (BITS == 4 ? j % 4 : j) + 32));
        if constexpr (BITS == 4) {
            // a pair of products is at most 2 * 15 * 127 in size; eight of them fit 16 bits
            if (j >= 4) left = _mm256_srli_epi16(left, 4), right = _mm256_srli_epi16(right, 4);
            left = _mm256_and_si256(left, low), right = _mm256_and_si256(right, low);
            EDGEAI_UNROLL
            for (int r = 0; r < R; r++) {
                const __m256i q = four_bytes(a + r * stride + 4 * j);
                const __m256i more = _mm256_maddubs_epi16(left, q), and_more = _mm256_maddubs_epi16(right, q);
                lo[r] = j ? _mm256_adds_epi16(lo[r], more) : more;
                hi[r] = j ? _mm256_adds_epi16(hi[r], and_more) : and_more;
            }
        } else {
            // |w| * sign(a, w): a pair is at most 2 * 128 * 127 in size
            const __m256i left_size = _mm256_abs_epi8(left), right_size = _mm256_abs_epi8(right);
            EDGEAI_UNROLL
            for (int r = 0; r < R; r++) {
                const __m256i q = four_bytes(a + r * stride + 4 * j);
                const __m256i more = _mm256_madd_epi16(_mm256_maddubs_epi16(left_size, _mm256_sign_epi8(q, left)), ones);
                const __m256i and_more = _mm256_madd_epi16(_mm256_maddubs_epi16(right_size, _mm256_sign_epi8(q, right)), ones);
                const bool is_first = HALVES ? j % 4 == 0 : j == 0;
                lo[r] = is_first ? more : _mm256_add_epi32(lo[r], more);
                hi[r] = is_first ? and_more : _mm256_add_epi32(hi[r], and_more);
                asm("" : "+x"(lo[r]), "+x"(hi[r]));  // add here: reordered sums would not fit the registers
            }
        }
        if (j == 7 || (HALVES && j == 3))
            EDGEAI_UNROLL
            for (int r = 0; r < R; r++) {
                vi total{lo[r], hi[r]};
                if constexpr (BITS == 4) total = {_mm256_madd_epi16(lo[r], ones), _mm256_madd_epi16(hi[r], ones)};
                out[HALVES ? 2 * r + j / 4 : r] = total;
            }
    }
}

#endif

#elif defined(EDGEAI_NEON)

constexpr int MAX_ROWS = 4;
constexpr int SCORE_ROWS = 2, MIX_PARTS = 2, PAIR_PARTS = 1;
struct vf { float32x4_t v[4]; };
struct vi { int32x4_t v[4]; };
#define EDGEAI_EACH(result, expression) do { for (int i = 0; i < 4; i++) result.v[i] = expression; } while (0)
static inline vf load(const float* p) { vf o; EDGEAI_EACH(o, vld1q_f32(p + 4 * i)); return o; }
static inline void store(float* p, vf a) { for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.v[i]); }
static inline vf set1(float a) { vf o; EDGEAI_EACH(o, vdupq_n_f32(a)); return o; }
static inline vf fmadd(vf a, vf b, vf c) { vf o; EDGEAI_EACH(o, vfmaq_f32(c.v[i], a.v[i], b.v[i])); return o; }
static inline vf add(vf a, vf b) { vf o; EDGEAI_EACH(o, vaddq_f32(a.v[i], b.v[i])); return o; }
static inline vf mul(vf a, vf b) { vf o; EDGEAI_EACH(o, vmulq_f32(a.v[i], b.v[i])); return o; }
static inline vf div(vf a, vf b) { vf o; EDGEAI_EACH(o, vdivq_f32(a.v[i], b.v[i])); return o; }
static inline vf max(vf a, vf b) { vf o; EDGEAI_EACH(o, vmaxq_f32(a.v[i], b.v[i])); return o; }
static inline vf min(vf a, vf b) { vf o; EDGEAI_EACH(o, vminq_f32(a.v[i], b.v[i])); return o; }
static inline vf abs(vf a) { vf o; EDGEAI_EACH(o, vabsq_f32(a.v[i])); return o; }
static inline vf to_float(vi a) { vf o; EDGEAI_EACH(o, vcvtq_f32_s32(a.v[i])); return o; }
static inline vi round_int(vf a) { vi o; EDGEAI_EACH(o, vcvtnq_s32_f32(a.v[i])); return o; }
static inline vf times_power_of_two(vf a, vi n) {
    vf o;
    EDGEAI_EACH(o, vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v[i]), vshlq_n_s32(n.v[i], 23))));
    return o;
}
static inline void store_half(uint16_t* p, vf a) { for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i]))); }
static inline vf load_half(const uint16_t* p) { vf o; EDGEAI_EACH(o, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); return o; }
static inline vf load_bfloat(const uint16_t* p) { vf o; EDGEAI_EACH(o, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16))); return o; }
static inline vf load_u8(const uint8_t* p) {
    const uint8x16_t a = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(a)), high = vmovl_u8(vget_high_u8(a));
    return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
             vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
static inline vf load_i8(const int8_t* p) {
    const int8x16_t a = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(a)), high = vmovl_s8(vget_high_s8(a));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
static inline void store_i8(int8_t* p, vi a) {
    const int16x8_t low = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
static inline float sum(vf a) {
    const float32x4_t x = vaddq_f32(a.v[0], a.v[2]), y = vaddq_f32(a.v[1], a.v[3]);
    const float32x4_t z = vaddq_f32(x, y);
    const float32x2_t w = vadd_f32(vget_low_f32(z), vget_high_f32(z));
    return vget_lane_f32(w, 0) + vget_lane_f32(w, 1);
}
static inline int32_t sum(vi a) { return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3]))); }
static inline float largest(vf a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3]))); }

template <int BITS, bool HALVES, int R>
static inline void dots(const uint8_t* w, const int8_t* a, size_t stride, const int32_t*, size_t, vi* out) {
    for (int part = 0; part < 4; part++) {  // four outputs at a time
        int8x16_t unpacked[8];
        if constexpr (BITS == 4) {
            for (int j = 0; j < 4; j++) {
                const uint8x16_t both = vld1q_u8(w + 64 * j + 16 * part);
                unpacked[j] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
                unpacked[j + 4] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
            }
        } else {
            for (int j = 0; j < 8; j++) unpacked[j] = vld1q_s8((const int8_t*)w + 64 * j + 16 * part);
        }
        for (int r = 0; r < R; r++) {
            int32_t q[8];
            memcpy(q, a + r * stride, 32);
            int32x4_t first = vdupq_n_s32(0), second = vdupq_n_s32(0);
            for (int j = 0; j < 4; j++) first = vdotq_s32(first, unpacked[j], vreinterpretq_s8_s32(vdupq_n_s32(q[j])));
            for (int j = 4; j < 8; j++) second = vdotq_s32(second, unpacked[j], vreinterpretq_s8_s32(vdupq_n_s32(q[j])));
            if constexpr (HALVES) {
                out[2 * r].v[part] = first;
                out[2 * r + 1].v[part] = second;
            } else {
                out[r].v[part] = vaddq_s32(first, second);
            }
        }
    }
}

#else

constexpr int MAX_ROWS = 4;
constexpr int SCORE_ROWS = 1, MIX_PARTS = 2, PAIR_PARTS = 1;
struct vf { float v[16]; };
struct vi { int32_t v[16]; };
#define EDGEAI_EACH(result, expression) do { for (int i = 0; i < 16; i++) result.v[i] = expression; } while (0)
static inline vf load(const float* p) { vf o; memcpy(o.v, p, 64); return o; }
static inline void store(float* p, vf a) { memcpy(p, a.v, 64); }
static inline vf set1(float a) { vf o; EDGEAI_EACH(o, a); return o; }
static inline vf fmadd(vf a, vf b, vf c) { vf o; EDGEAI_EACH(o, std::fma(a.v[i], b.v[i], c.v[i])); return o; }
static inline vf add(vf a, vf b) { vf o; EDGEAI_EACH(o, a.v[i] + b.v[i]); return o; }
static inline vf mul(vf a, vf b) { vf o; EDGEAI_EACH(o, a.v[i] * b.v[i]); return o; }
static inline vf div(vf a, vf b) { vf o; EDGEAI_EACH(o, a.v[i] / b.v[i]); return o; }
static inline vf max(vf a, vf b) { vf o; EDGEAI_EACH(o, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); return o; }
static inline vf min(vf a, vf b) { vf o; EDGEAI_EACH(o, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); return o; }
static inline vf abs(vf a) { vf o; EDGEAI_EACH(o, std::fabs(a.v[i])); return o; }
static inline vf to_float(vi a) { vf o; EDGEAI_EACH(o, static_cast<float>(a.v[i])); return o; }
static inline vi round_int(vf a) { vi o; EDGEAI_EACH(o, static_cast<int32_t>(std::nearbyint(a.v[i]))); return o; }
static inline vf times_power_of_two(vf a, vi n) {
    vf o;
    for (int i = 0; i < 16; i++) {
        uint32_t bits;
        memcpy(&bits, &a.v[i], 4);
        bits += static_cast<uint32_t>(n.v[i]) << 23;
        memcpy(&o.v[i], &bits, 4);
    }
    return o;
}
static inline void store_half(uint16_t* p, vf a) { for (int i = 0; i < 16; i++) p[i] = float_to_half(a.v[i]); }
static inline vf load_half(const uint16_t* p) { vf o; EDGEAI_EACH(o, half_to_float(p[i])); return o; }
static inline vf load_bfloat(const uint16_t* p) {
    vf o;
    for (int i = 0; i < 16; i++) {
        const uint32_t bits = static_cast<uint32_t>(p[i]) << 16;
        memcpy(&o.v[i], &bits, 4);
    }
    return o;
}
static inline vf load_u8(const uint8_t* p) { vf o; EDGEAI_EACH(o, static_cast<float>(p[i])); return o; }
static inline vf load_i8(const int8_t* p) { vf o; EDGEAI_EACH(o, static_cast<float>(p[i])); return o; }
static inline void store_i8(int8_t* p, vi a) { for (int i = 0; i < 16; i++) p[i] = static_cast<int8_t>(a.v[i]); }
static inline float sum(vf a) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) a.v[i] += a.v[i + width];
    return a.v[0];
}
static inline int32_t sum(vi a) {
    int32_t total = 0;
    for (int32_t value : a.v) total += value;
    return total;
}
static inline float largest(vf a) {
    float top = a.v[0];
    for (float value : a.v) top = value > top ? value : top;
    return top;
}

template <int BITS, bool HALVES, int R>
static inline void dots(const uint8_t* w, const int8_t* a, size_t stride, const int32_t*, size_t, vi* out) {
    for (int r = 0; r < R; r++)
        for (int n = 0; n < 16; n++) {
            int32_t total[2] = {0, 0};
            for (int k = 0; k < 32; k++) {
                const int j = k / 4;
                int32_t weight;
                if constexpr (BITS == 4) {
                    const uint8_t both = w[64 * (j % 4) + 4 * n + k % 4];
                    weight = j < 4 ? both & 15 : both >> 4;
                } else {
                    weight = static_cast<int8_t>(w[64 * j + 4 * n + k % 4]);
                }
                total[k / 16] += weight * a[r * stride + k];
            }
            if constexpr (HALVES) {
                out[2 * r].v[n] = total[0];
                out[2 * r + 1].v[n] = total[1];
            } else {
                out[r].v[n] = total[0] + total[1];
            }
        }
}

#endif

// e^x, the polynomial of Cephes' expf: relative error below 2e-7. x is cut to [-87, 88].
static inline vf exponential(vf x) {
    x = min(max(x, set1(-87.0f)), set1(88.0f));
    const vi n = round_int(mul(x, set1(1.44269504088896341f)));
    const vf whole = to_float(n);
    vf r = fmadd(whole, set1(-0.693359375f), x);
    r = fmadd(whole, set1(2.12194440e-4f), r);
    vf p = set1(1.9875691500e-4f);
    p = fmadd(p, r, set1(1.3981999507e-3f));
    p = fmadd(p, r, set1(8.3334519073e-3f));
    p = fmadd(p, r, set1(4.1665795894e-2f));
    p = fmadd(p, r, set1(1.6666665459e-1f));
    p = fmadd(p, r, set1(5.0000001201e-1f));
    return times_power_of_two(add(fmadd(p, mul(r, r), r), set1(1.0f)), n);
}

}  // namespace
