/* The AVX2, AVX-512 and VNNI instructions in plain C, by SIMDe (github.com/simd-everywhere/simde), so that tests/law.sh can
 * try the sets that the machine at hand has no processor for. Where SIMDe lacks one, or is slow to compile, it stands here. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <cpuid.h>
#include <string.h>
#define GPTI_X86 1
#define GPTI_X86_VNNI 1
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32

static float simde_half(unsigned h) {
    unsigned sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 1023, b;
    float f = (float)m * (1.0f / 16777216.0f);
    if (e == 0) memcpy(&b, &f, 4);
    else b = e == 31 ? 0x7f800000u | m << 13 | (m ? 0x400000u : 0) : (e + 112) << 23 | m << 13;
    b |= sign;
    memcpy(&f, &b, 4);
    return f;
}
#define SIMDE_CONVERT(name, from, field, to, result, value)                                \
    static to name(from a) {                                                               \
        to##_private r;                                                                    \
        from##_private p = from##_to_private(a);                                           \
        int i;                                                                             \
        for (i = 0; i < 16; i++) r.result[i] = value(p.field[i]);                          \
        return to##_from_private(r);                                                       \
    }
SIMDE_CONVERT(simde_cvtph512, simde__m256i, u16, simde__m512, f32, simde_half)
SIMDE_CONVERT(simde_cvtu8_512, simde__m128i, u8, simde__m512i, i32, (int))
SIMDE_CONVERT(simde_cvtu16_512, simde__m256i, u16, simde__m512i, i32, (int))
SIMDE_CONVERT(simde_cvtf_512, simde__m512i, i32, simde__m512, f32, (float))
static simde__m512i simde_sub8_512(simde__m512i s, unsigned long long k, simde__m512i a, simde__m512i b) {
    simde__m512i_private r = simde__m512i_to_private(s), x = simde__m512i_to_private(a), y = simde__m512i_to_private(b);
    int i;
    for (i = 0; i < 64; i++) if (k >> i & 1) r.i8[i] = (signed char)(x.i8[i] - y.i8[i]);
    return simde__m512i_from_private(r);
}
#undef _mm512_maskz_cvtph_ps
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_mask_sub_epi8
#undef _mm512_madd_epi16
#define _mm512_maskz_cvtph_ps(mask, a) simde_cvtph512(a)
#define _mm512_cvtepu8_epi32 simde_cvtu8_512
#define _mm512_cvtepu16_epi32 simde_cvtu16_512
#define _mm512_cvtepi32_ps simde_cvtf_512
#define _mm512_mask_sub_epi8 simde_sub8_512
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
typedef int _MM_PERM_ENUM;
static simde__m512i simde_shuffle32_512(simde__m512i a, int order) {
    simde__m512i_private p = simde__m512i_to_private(a), r;
    int i;
    for (i = 0; i < 16; i++) r.i32[i] = p.i32[i / 4 * 4 + (order >> i % 4 * 2 & 3)];
    return simde__m512i_from_private(r);
}
static simde__m512i simde_lanes_512(simde__m512i a, simde__m512i b, int order) {
    simde__m512i_private p = simde__m512i_to_private(a), q = simde__m512i_to_private(b), r;
    int i;
    for (i = 0; i < 8; i++) r.i64[i] = (i < 4 ? p : q).i64[(order >> i / 2 * 2 & 3) * 2 + i % 2];
    return simde__m512i_from_private(r);
}
#undef _mm512_shuffle_epi32
#undef _mm512_shuffle_i64x2
#define _mm512_shuffle_epi32 simde_shuffle32_512
#define _mm512_shuffle_i64x2 simde_lanes_512
static simde__m128i simde_low8_512(simde__m512i a) {
    simde__m512i_private p = simde__m512i_to_private(a);
    simde__m128i_private r;
    int i;
    for (i = 0; i < 16; i++) r.i8[i] = (signed char)p.i32[i];
    return simde__m128i_from_private(r);
}
static simde__m512i simde_round_512(simde__m512 a) {      /* to the nearest even, |a| < 2^22 */
    simde__m512_private p = simde__m512_to_private(a);
    simde__m512i_private r;
    int i;
    for (i = 0; i < 16; i++) {
        volatile float y = p.f32[i] + 12582912.0f;
        r.i32[i] = (int)(y - 12582912.0f);
    }
    return simde__m512i_from_private(r);
}
static int simde_top_512(simde__m512i a) {
    simde__m512i_private p = simde__m512i_to_private(a);
    int i, top = p.i32[0];
    for (i = 1; i < 16; i++) if (p.i32[i] > top) top = p.i32[i];
    return top;
}
#undef _mm512_cvtepi32_epi8
#undef _mm512_cvtps_epi32
#undef _mm512_reduce_max_epi32
#define _mm512_cvtepi32_epi8 simde_low8_512
#define _mm512_cvtps_epi32 simde_round_512
#define _mm512_reduce_max_epi32 simde_top_512
