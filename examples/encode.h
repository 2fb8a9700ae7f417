/* From f32 to the number formats of GGUF: what a trainer or build/quantize writes and gpt.h reads. The bits are
 * those of the gguf Python package where it has an encoder, else those of llama.cpp's (ggml-quants.c: with an
 * importance its quantize_NAME, without one quantize_row_NAME_ref). Include it after gpt.h, in the file with
 * GPT_IMPLEMENTATION.
 *
 * A block's encoder gets its numbers x, for each of them how much its column matters (importance, or NULL), and the
 * mean square of the whole row, which is 0 without an importance. */
#ifndef ENCODE_H
#define ENCODE_H

/* Every operation is rounded once, as in gpt.h: fused multiply-adds would choose other q. */
#if defined(__clang__)
#  pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#  pragma GCC push_options
#  pragma GCC optimize ("fp-contract=off")
#elif defined(_MSC_VER)
#  pragma float_control(push)
#  pragma fp_contract(off)
#endif

typedef void encode_block(const float *x, const float *importance, float mean, unsigned char *out);

static inline uint32_t encode_f32_bf16(float f) {
    uint32_t u = gpti_f32_bits(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (u >> 16) | 0x40u;
    return (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}

/* A row of F32, F16 or BF16. */
static inline void encode_floats(const gpti_format *fmt, const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (i = 0; i < n; i++, out += fmt->block_bytes) {
        if (fmt->fetch == GPTI_FETCH_F16) gpti_store_u16(out, gpti_f32_f16(x[i]));
        else if (fmt->fetch == GPTI_FETCH_BF16) gpti_store_u16(out, encode_f32_bf16(x[i]));
        else gpti_store_u16(out, gpti_f32_bits(x[i]) & 0xFFFFu), gpti_store_u16(out + 2, gpti_f32_bits(x[i]) >> 16);
    }
}

/* ---- Small steps ------------------------------------------------------------------------------------------------ */

static inline int encode_clamp(int q, int low, int high) { return q < low ? low : q > high ? high : q; }

/* The number of largest magnitude, the first among equals. */
static inline float encode_extreme(const float *x, int n) {
    float best = x[0];
    int i;
    for (i = 1; i < n; i++) if (fabsf(x[i]) > fabsf(best)) best = x[i];
    return best;
}

/* 1/d, or 0 where that does not exist or nearly so: such blocks become zeros. */
static inline float encode_inverse(float d) { return fabsf(d) < 1e-37f ? 0.0f : 1.0f / d; }

/* To the nearest integer: halves to even, by adding 1.5 * 2^23, whose ulp is 1. Beyond 2^22 it gives nonsense, the
 * same everywhere, which callers clamp. */
static inline int encode_nearest(float x) { return (int)(gpti_f32_bits(x + 12582912.0f) & 0x007FFFFFu) - 0x00400000; }

/* The same, halves away from zero; |x| is small. */
static inline int encode_round(float x) {
    const float a = fabsf(x), whole = (float)(int)a;
    const int q = (int)whole + (int)(2.0f * (a - whole));
    return x < 0.0f ? -q : q;
}

/* Stores d as F16: what a reader will find there. */
static inline float encode_scale(float d, unsigned char *out) {
    const uint32_t half = gpti_f32_f16(d);
    gpti_store_u16(out, half);
    return gpti_f16_f32(half);
}

static inline float encode_sum_squares(const float *x, size_t n) {
    float sum = 0.0f;
    size_t i;
    for (i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* Weights of errors: importance * sqrt(square + x^2). Without an importance x^2. */
static inline void encode_weigh(const float *x, const float *importance, float square, int n, float *w) {
    int i;
    for (i = 0; i < n; i++) w[i] = importance ? importance[i] * sqrtf(square + x[i] * x[i]) : x[i] * x[i];
}

/* q[32] as 16 bytes: the first half low, the second high; q[256] four to a byte, 32 apart. */
static inline void encode_put_nibbles(const uint8_t *q, int apart, unsigned char *out) {
    int i;
    for (i = 0; i < apart; i++) out[i] = (unsigned char)((q[i] & 15) | (q[i + apart] & 15) << 4);
}
static inline void encode_put_pairs(const uint8_t *q, int shift, unsigned char *out) {
    int i, j, pair;
    for (j = 0; j < 256; j += 128, out += 32)
        for (i = 0; i < 32; i++) {
            out[i] = 0;
            for (pair = 0; pair < 4; pair++)
                out[i] = (unsigned char)(out[i] | (q[j + 32 * pair + i] >> shift & 3) << 2 * pair);
        }
}
/* Bit `shift` of q[256]: bit k of byte i is that of q[32 k + i]. */
static inline void encode_put_bits(const uint8_t *q, int shift, unsigned char *out) {
    int i;
    memset(out, 0, 32);
    for (i = 0; i < 256; i++) out[i % 32] = (unsigned char)(out[i % 32] | (q[i] >> shift & 1) << i / 32);
}

static inline float encode_nothing(uint8_t *q, int n) { while (n-- > 0) q[n] = 0; return 0.0f; }

/* ---- Searches for scales ---------------------------------------------------------------------------------------- */

/* x ~ scale * (q - half) with q below 2 half: of 19 steps, each making the extreme -half - k / 10 (k from -9 to 9,
 * 0 first), the q and the scale with the least sum of w * error^2. For given q the best scale is sum(w x q) / sum(w
 * q^2), which takes sum(w x q)^2 / sum(w q^2) off the error. (llama.cpp: make_qx_quants) */
static inline float encode_fit(const float *x, const float *w, int n, int half, uint8_t *q) {
    const float extreme = encode_extreme(x, n);
    float scale = 0.0f, best = 0.0f;
    int k, i;
    if (fabsf(extreme) < 1e-15f) return encode_nothing(q, n);
    for (k = 0; k < 19; k++) {
        const float off = 0.1f * (float)(k == 0 ? 0 : k < 10 ? k - 10 : k - 9);
        const float inverse = -((float)half + off) / extreme;
        float xq = 0.0f, qq = 0.0f;
        int trial[32];
        for (i = 0; i < n; i++) {
            const float level = (float)(trial[i] = encode_clamp(encode_nearest(inverse * x[i]), -half, half - 1));
            xq += w[i] * x[i] * level;
            qq += w[i] * level * level;
        }
        if (k > 0 && !(qq > 0.0f && xq * xq > best * qq)) continue;
        for (i = 0; i < n; i++) q[i] = (uint8_t)(trial[i] + half);
        scale = qq > 0.0f ? xq / qq : 0.0f;
        best = scale * xq;
    }
    return scale;
}

/* The same for one first step alone and w = x^2; then up to five times over the numbers, each moved to the q that
 * suits the scale of the others if that helps. (make_q3_quants) */
static inline float encode_fit_by_turns(const float *x, int n, int half, uint8_t *q) {
    const float extreme = encode_extreme(x, n);
    float xq = 0.0f, qq = 0.0f;
    int level[32], turn, i, moved = 1;
    if (fabsf(extreme) < 1e-15f) return encode_nothing(q, n);
    for (i = 0; i < n; i++) {
        const float w = x[i] * x[i], inverse = (float)-half / extreme;
        level[i] = encode_clamp(encode_nearest(inverse * x[i]), -half, half - 1);
        xq += w * x[i] * (float)level[i];
        qq += w * (float)level[i] * (float)level[i];
    }
    for (turn = 0; turn < 5 && moved; turn++)
        for (moved = 0, i = 0; i < n; i++) {
            const float w = x[i] * x[i], old = (float)level[i];
            float other_xq = xq - w * x[i] * old, other_qq = qq - w * old * old;
            int to;
            if (!(other_xq > 0.0f)) continue;
            to = encode_clamp(encode_nearest(x[i] * other_qq / other_xq), -half, half - 1);
            if (to == level[i]) continue;
            other_xq += w * x[i] * (float)to;
            other_qq += w * (float)to * (float)to;
            if (!(other_qq > 0.0f && other_xq * other_xq * qq > xq * xq * other_qq)) continue;
            level[i] = to, xq = other_xq, qq = other_qq, moved = 1;
        }
    for (i = 0; i < n; i++) q[i] = (uint8_t)(level[i] + half);
    return qq > 0.0f ? xq / qq : 0.0f;
}

/* How encode_fit_min looks for a scale: steps + 1 times, with (top + from + k * by) / (max - min) for 1 / scale;
 * the error of a number is its square, or its magnitude. */
typedef struct { float from, by; int steps, magnitude; } encode_search;
static const encode_search encode_search_weighted = { -0.9f, 0.05f, 36, 0 };    /* of all formats, with an importance */

/* x ~ scale * q - *min with q from 0 to top and *min not below 0: the least sum of w * error. For given q scale and
 * minimum are those of a weighted linear regression; without a minimum where that would be of the wrong sign.
 * (make_qkx2_quants, make_qkx3_quants) */
static inline float encode_fit_min(const float *x, const float *w, int n, int top, encode_search search, uint8_t *q,
                                   float *min) {
    float low = x[0], high = x[0], sum_w = w[0], sum_x = w[0] * x[0], best = 0.0f, scale;
    uint8_t trial[32];
    int i, k;
    for (i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (low > 0.0f) low = 0.0f;
    *min = -low;
    if (high <= low) return encode_nothing(q, n);
    scale = 1.0f / ((float)top / (high - low));
    for (k = -1; k <= search.steps; k++) {      /* -1: the whole range; later ones begin at the best minimum so far */
        const float inverse = (k < 0 ? (float)top : search.from + search.by * (float)k + (float)top) / (high - low);
        float l = 0.0f, ll = 0.0f, xl = 0.0f, error = 0.0f, new_scale = scale, new_low = low, det;
        for (i = 0; i < n; i++) {
            const int nearest = encode_nearest(inverse * (x[i] - low)), clamped = encode_clamp(nearest, 0, top);
            const float level = (float)clamped;
            trial[i] = (uint8_t)clamped;
            l += w[i] * level;
            ll += w[i] * level * level;
            xl += w[i] * level * x[i];
        }
        det = sum_w * ll - l * l;
        if (k >= 0) {
            if (!(det > 0.0f)) continue;
            new_scale = (sum_w * xl - sum_x * l) / det;
            new_low = (ll * sum_x - l * xl) / det;
            if (new_low > 0.0f) new_low = 0.0f, new_scale = xl / ll;
        }
        for (i = 0; i < n; i++) {
            const float off = new_scale * (float)trial[i] + new_low - x[i];
            error += w[i] * (search.magnitude ? fabsf(off) : off * off);
        }
        if (k >= 0 && !(error < best)) continue;
        memcpy(q, trial, (size_t)n);
        best = error, scale = new_scale, low = new_low;
    }
    *min = -low;
    return scale;
}

/* x ~ scale * q with q from 0 to top, for x of 0 and more: of 9 steps the best, then by turns as above.
 * (make_qp_quants) */
static inline float encode_fit_positive(const float *x, const float *w, int n, int top, uint8_t *q) {
    float max = 0.0f, best = 0.0f, inverse, xq = 0.0f, qq = 0.0f;
    int i, k, turn, moved = 1;
    for (i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    if (max < 1e-15f) return encode_nothing(q, n);
    inverse = (float)top / max;
    for (k = 0; k < 9; k++) {
        const float off = 0.1f * (float)(k == 0 ? 0 : k < 5 ? k - 5 : k - 4), trial = (off + (float)top) / max;
        float error = 0.0f;
        for (i = 0; i < n; i++) {
            const int level = encode_nearest(trial * x[i]);
            const float diff = x[i] - 1.0f / trial * (float)(level < top ? level : top);
            error += w[i] * diff * diff;
        }
        if (k == 0 || error < best) best = error, inverse = trial;
    }
    for (i = 0; i < n; i++) {
        const int nearest = encode_nearest(inverse * x[i]), level = nearest < top ? nearest : top;
        q[i] = (uint8_t)level;
        xq += w[i] * x[i] * (float)level;
        qq += w[i] * (float)level * (float)level;
    }
    for (turn = 0; turn < 5 && moved; turn++)
        for (moved = 0, i = 0; i < n; i++) {
            float other_xq = xq - w[i] * x[i] * (float)q[i], other_qq = qq - w[i] * (float)q[i] * (float)q[i];
            int to;
            if (!(other_xq > 0.0f && other_qq > 0.0f)) continue;
            to = encode_nearest(x[i] * other_qq / other_xq);
            to = to < top ? to : top;
            if (to == q[i]) continue;
            other_xq += w[i] * x[i] * (float)to;
            other_qq += w[i] * (float)to * (float)to;
            if (!(other_xq * other_xq * qq > xq * xq * other_qq)) continue;
            q[i] = (uint8_t)to, xq = other_xq, qq = other_qq, moved = 1;
        }
    return qq > 0.0f ? xq / qq : 0.0f;
}

/* The same in one step: the largest becomes top. */
static inline float encode_positive(const float *x, int n, int top, uint8_t *q) {
    float max = 0.0f, inverse;
    int i;
    for (i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    inverse = max > 0.0f ? (float)top / max : 0.0f;
    for (i = 0; i < n; i++) {
        const uint8_t level = (uint8_t)encode_nearest(inverse * x[i]);
        q[i] = level < top ? level : (uint8_t)top;
    }
    return max / (float)top;
}

/* ---- Blocks of 32: one scale, perhaps a minimum ----------------------------------------------------------------- */

static inline void encode_q8_0(const float *x, const float *importance, float mean, unsigned char *out) {
    const float d = fabsf(encode_extreme(x, 32)) / 127.0f, inverse = encode_inverse(d);
    int i;
    (void)importance, (void)mean;
    encode_scale(d, out);
    for (i = 0; i < 32; i++) out[2 + i] = (unsigned char)encode_round(x[i] * inverse);
}

/* Q4_0, Q5_0: x = d * (q - levels / 2), the extreme has q = 0; Q4_1, Q5_1: x = d * q + m, from the least number to
 * the largest. */
static inline void encode_levels(const float *x, const float *importance, float mean, int levels, int has_min,
                                 unsigned char *out) {
    const float half = has_min ? 0.0f : (float)(levels / 2);
    float w[32], d, m = 0.0f, inverse;
    unsigned char *fifth = out + (has_min ? 4 : 2);
    uint8_t q[32];
    int i;
    if (importance) {
        encode_weigh(x, importance, mean, 32, w);
        d = has_min ? encode_fit_min(x, w, 32, levels - 1, encode_search_weighted, q, &m)
                    : encode_fit(x, w, 32, levels / 2, q);
        m = -m;
    } else {
        float high = x[0];
        for (m = x[0], i = 1; i < 32; i++) m = x[i] < m ? x[i] : m, high = x[i] > high ? x[i] : high;
        d = has_min ? (high - m) / (float)(levels - 1) : encode_extreme(x, 32) / -half;
        inverse = encode_inverse(d);
        for (i = 0; i < 32; i++) {
            const int level = (int)((has_min ? x[i] - m : x[i]) * inverse + (half + 0.5f));
            q[i] = (uint8_t)(level < levels ? level : levels - 1);
        }
    }
    encode_scale(d, out);
    if (has_min) encode_scale(m, out + 2);
    if (levels == 32) {
        memset(fifth, 0, 4);
        for (i = 0; i < 32; i++) fifth[i / 8] = (unsigned char)(fifth[i / 8] | (q[i] >> 4) << i % 8);
    }
    encode_put_nibbles(q, 16, levels == 32 ? fifth + 4 : fifth);
}
static inline void encode_q4_0(const float *x, const float *importance, float mean, unsigned char *out) {
    encode_levels(x, importance, mean, 16, 0, out);
}
static inline void encode_q4_1(const float *x, const float *importance, float mean, unsigned char *out) {
    encode_levels(x, importance, mean, 16, 1, out);
}
static inline void encode_q5_0(const float *x, const float *importance, float mean, unsigned char *out) {
    encode_levels(x, importance, mean, 32, 0, out);
}
static inline void encode_q5_1(const float *x, const float *importance, float mean, unsigned char *out) {
    encode_levels(x, importance, mean, 32, 1, out);
}

/* The code of 16 that is nearest to x; codes less `zero` ascend. */
static inline uint8_t encode_nearest_code(const uint8_t *codes, int zero, float x) {
    int low = 0, high = 15;
    if (x <= (float)(codes[0] - zero)) return 0;
    if (x >= (float)(codes[15] - zero)) return 15;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (x < (float)(codes[middle] - zero)) high = middle; else low = middle;
    }
    return (uint8_t)(x - (float)(codes[low] - zero) < (float)(codes[high] - zero) - x ? low : high);
}

/* x ~ scale * code: of 16 steps, the first and those that make the extreme the lowest code and up to 7 more or
 * less, the scale with the least sum of w * error^2, as encode_fit. */
static inline float encode_fit_codes(const float *x, const float *w, const uint8_t *codes) {
    const float extreme = encode_extreme(x, 32), lowest = (float)(codes[0] - 128);
    float scale = 0.0f, best = 0.0f;
    int k, i;
    if (fabsf(extreme) < 1e-15f) return 0.0f;
    for (k = -8; k <= 7; k++) {
        const float inverse = k < -7 ? 1.0f / (-extreme / lowest) : ((float)k + lowest) / extreme;
        float xq = 0.0f, qq = 0.0f;
        for (i = 0; i < 32; i++) {
            const float q = (float)(codes[encode_nearest_code(codes, 128, inverse * x[i])] - 128);
            xq += w[i] * q * x[i];
            qq += w[i] * q * q;
        }
        if (k >= -7 && !(qq > 0.0f && xq * xq > best * qq)) continue;
        scale = qq > 0.0f ? xq / qq : 0.0f;
        best = scale * xq;
    }
    return scale;
}

/* IQ4_NL: its scale in F16. IQ4_XS: eight of them, of 6 bits each, and their scale. */
static inline void encode_iq4_nl(const float *x, const float *importance, float mean, unsigned char *out) {
    const uint8_t *codes = gpti_codes(GPTI_CODES_IQ4);
    float w[32], scale;
    uint8_t q[32];
    int i;
    (void)mean;
    encode_weigh(x, importance, encode_sum_squares(x, 32) * (2.0f / 32), 32, w);
    scale = encode_fit_codes(x, w, codes);
    encode_scale(scale, out);
    for (i = 0; i < 32; i++) q[i] = encode_nearest_code(codes, 128, encode_inverse(scale) * x[i]);
    encode_put_nibbles(q, 16, out + 2);
}
static inline void encode_iq4_xs(const float *x, const float *importance, float mean, unsigned char *out) {
    const uint8_t *codes = gpti_codes(GPTI_CODES_IQ4);
    const float square = encode_sum_squares(x, 256) * (2.0f / 256);
    float w[32], scale[8], d;
    uint8_t q[32];
    int i, j;
    (void)mean;
    for (j = 0; j < 8; j++) {
        encode_weigh(x + 32 * j, importance ? importance + 32 * j : NULL, square, 32, w);
        scale[j] = encode_fit_codes(x + 32 * j, w, codes);
    }
    d = -encode_extreme(scale, 8) / 32;
    memset(out, 0, 8);
    encode_scale(d, out);
    for (j = 0; j < 8; j++) {
        const int level = encode_clamp(encode_nearest(encode_inverse(d) * scale[j]), -32, 31);
        const float inverse = encode_inverse(d * (float)level);
        for (i = 0; i < 32; i++) q[i] = encode_nearest_code(codes, 128, inverse * x[32 * j + i]);
        out[2 + j / 4] = (unsigned char)(out[2 + j / 4] | (level + 32) >> 4 << 2 * (j % 4));
        out[4 + j / 2] = (unsigned char)(out[4 + j / 2] | ((level + 32) & 15) << 4 * (j % 2));
        encode_put_nibbles(q, 16, out + 8 + 16 * j);
    }
}

/* The E2M1 value nearest to x / d, the first among equals; d is for the doubled codes. */
static inline uint8_t encode_e2m1(float x, float d) {
    const uint8_t *codes = gpti_codes(GPTI_CODES_MX4);
    float best = fabsf((float)(codes[0] - 12) * d - x);
    int i, q = 0;
    for (i = 1; i < 16; i++) {
        const float error = fabsf((float)(codes[i] - 12) * d - x);
        if (error < best) best = error, q = i;
    }
    return (uint8_t)q;
}

/* The scale is a power of two that makes the extreme 4 to 8, beyond the largest code, 6. (OCP MX v1.0, 6.3) */
static inline void encode_mxfp4(const float *x, const float *importance, float mean, unsigned char *out) {
    const float extreme = fabsf(encode_extreme(x, 32));
    const int power = extreme > 0.0f ? encode_clamp((int)floorf(log2f(extreme)) - 2 + 127, 0, 254) : 0;
    const float d = ldexpf(1.0f, power - 128);
    uint8_t q[32];
    int i;
    (void)importance, (void)mean;
    out[0] = (unsigned char)power;
    for (i = 0; i < 32; i++) q[i] = encode_e2m1(x[i], d);
    encode_put_nibbles(q, 16, out + 1);
}

/* ---- Few values ------------------------------------------------------------------------------------------------- */

/* q = 0, 1, 2 for -d, 0, d. TQ1_0: five of them as digits of base 3, the first the highest, of a fraction of 256,
 * rounded up: a reader multiplies by 3 and has the next digit above the byte. Bytes 0-31 hold x 32 apart, 32-47 16
 * apart, 48-51 four x 4 apart. */
static inline void encode_tq1_0(const float *x, const float *importance, float mean, unsigned char *out) {
    const float d = fabsf(encode_extreme(x, 256)), inverse = encode_inverse(d);
    int at, i;
    (void)importance, (void)mean;
    for (at = 0; at < 52; at++) {
        const int apart = at < 32 ? 32 : at < 48 ? 16 : 4;
        const float *from = x + (at < 32 ? at : at < 48 ? 160 + at - 32 : 240 + at - 48);
        int digits = 0;
        for (i = 0; i < 5; i++)
            digits = 3 * digits + (at >= 48 && i == 4 ? 0 : encode_round(from[apart * i] * inverse) + 1);
        out[at] = (unsigned char)((digits * 256 + 242) / 243);
    }
    encode_scale(d, out + 52);
}
static inline void encode_tq2_0(const float *x, const float *importance, float mean, unsigned char *out) {
    const float d = fabsf(encode_extreme(x, 256)), inverse = encode_inverse(d);
    uint8_t q[256];
    int i;
    (void)importance, (void)mean;
    for (i = 0; i < 256; i++) q[i] = (uint8_t)(encode_round(x[i] * inverse) + 1);
    encode_put_pairs(q, 0, out);
    encode_scale(d, out + 64);
}

/* Signs alone, times the mean magnitude. */
static inline void encode_q1_0(const float *x, const float *importance, float mean, unsigned char *out) {
    float sum = 0.0f;
    int i;
    (void)importance, (void)mean;
    memset(out, 0, 18);
    for (i = 0; i < 128; i++) {
        sum += fabsf(x[i]);
        if (x[i] >= 0.0f) out[2 + i / 8] = (unsigned char)(out[2 + i / 8] | 1 << i % 8);
    }
    encode_scale(sum / 128, out);
}
/* q = 0, 1, 2 for -d, 0, d; 3, for 2 d, is never the nearest. */
static inline void encode_q2_0(const float *x, const float *importance, float mean, unsigned char *out) {
    const float d = fabsf(encode_extreme(x, 64)), inverse = encode_inverse(d);
    int i;
    (void)importance, (void)mean;
    memset(out, 0, 18);
    encode_scale(d, out);
    for (i = 0; i < 64; i++)
        out[2 + i / 4] = (unsigned char)(out[2 + i / 4] | (encode_round(x[i] * inverse) + 1) << 2 * (i % 4));
}

/* ---- Blocks of 256 with scales of scales ------------------------------------------------------------------------ */

/* x = d * scale * q - dmin * min in parts of `part` numbers: scales and minima are fitted part by part, then
 * rounded to whole multiples of d and dmin, then all q are chosen anew for what a reader will have. */
typedef struct { int part, top, scale_top; encode_search search; } encode_mins;

static inline void encode_with_mins(const float *x, const float *importance, const encode_mins *k, uint8_t *q,
                                    uint8_t *scale, uint8_t *min, unsigned char *out) {
    const encode_search search = importance ? encode_search_weighted : k->search;
    const float square = importance ? encode_sum_squares(x, 256) * (k->part == 16 ? 1.0f : 2.0f) / 256 : 0.0f;
    float w[32], sum_w[16], scales[16], mins[16], d, dmin;
    const int n = 256 / k->part, part = k->part;
    int i, j;
    for (j = 0; j < n; j++) {
        const float *xj = x + part * j;
        if (importance) encode_weigh(xj, importance + part * j, square, part, w);
        else {
            const float base = k->search.magnitude ? 0.0f : sqrtf(encode_sum_squares(xj, (size_t)part) / (float)part);
            for (i = 0; i < part; i++) w[i] = base + fabsf(xj[i]);
        }
        for (sum_w[j] = 0.0f, i = 0; i < part; i++) sum_w[j] += w[i];
        scales[j] = encode_fit_min(xj, w, part, k->top, search, q + part * j, &mins[j]);
    }
    if (importance) {
        d = encode_fit_positive(scales, sum_w, n, k->scale_top, scale);
        dmin = encode_fit_positive(mins, sum_w, n, k->scale_top, min);
    } else {
        d = encode_positive(scales, n, k->scale_top, scale);
        dmin = encode_positive(mins, n, k->scale_top, min);
    }
    d = encode_scale(d, out);
    dmin = encode_scale(dmin, out + 2);
    for (j = 0; j < n; j++) {
        const float dj = d * (float)scale[j], mj = dmin * (float)min[j];
        if (!(dj > 0.0f)) continue;
        for (i = part * j; i < part * (j + 1); i++)
            q[i] = (uint8_t)encode_clamp(encode_nearest((x[i] + mj) / dj), 0, k->top);
    }
}

/* Scales and minima of 6 bits in 12 bytes: 0-3 the scales 0-3, 4-7 the minima 0-3, 8-11 four bits each of the
 * scales and minima 4-7, whose upper two bits lie above the first eight. */
static inline void encode_put_sixes(const uint8_t *scale, const uint8_t *min, unsigned char *out) {
    int j;
    for (j = 0; j < 4; j++) {
        out[j] = (unsigned char)(scale[j] | scale[j + 4] >> 4 << 6);
        out[j + 4] = (unsigned char)(min[j] | min[j + 4] >> 4 << 6);
        out[j + 8] = (unsigned char)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

static inline void encode_q2_k(const float *x, const float *importance, float mean, unsigned char *out) {
    static const encode_mins kind = { 16, 3, 15, { -0.5f, 0.1f, 15, 1 } };
    uint8_t q[256], scale[16], min[16];
    int j;
    (void)mean;
    encode_with_mins(x, importance, &kind, q, scale, min, out + 80);
    for (j = 0; j < 16; j++) out[j] = (unsigned char)(scale[j] | min[j] << 4);
    encode_put_pairs(q, 0, out + 16);
}
static inline void encode_q4_k(const float *x, const float *importance, float mean, unsigned char *out) {
    static const encode_mins kind = { 32, 15, 63, { -1.0f, 0.1f, 20, 0 } };
    uint8_t q[256], scale[16], min[16];
    int j;
    (void)mean;
    encode_with_mins(x, importance, &kind, q, scale, min, out);
    encode_put_sixes(scale, min, out + 4);
    for (j = 0; j < 4; j++) encode_put_nibbles(q + 64 * j, 32, out + 16 + 32 * j);
}
static inline void encode_q5_k(const float *x, const float *importance, float mean, unsigned char *out) {
    static const encode_mins kind = { 32, 31, 63, { -0.5f, 0.1f, 15, 0 } };
    uint8_t q[256], scale[16], min[16];
    int j;
    (void)mean;
    encode_with_mins(x, importance, &kind, q, scale, min, out);
    encode_put_sixes(scale, min, out + 4);
    encode_put_bits(q, 4, out + 16);
    for (j = 0; j < 4; j++) encode_put_nibbles(q + 64 * j, 32, out + 48 + 32 * j);
}

/* All q anew, for x = d * scale * (q - half) in parts of 16. */
static inline void encode_again(const float *x, float d, const int *scale, int half, uint8_t *q) {
    int i, j;
    for (j = 0; j < 16; j++) {
        const float dj = d * (float)scale[j];
        if (dj > 0.0f || dj < 0.0f)
            for (i = 16 * j; i < 16 * (j + 1); i++)
                q[i] = (uint8_t)(encode_clamp(encode_nearest(x[i] / dj), -half, half - 1) + half);
    }
}

static inline void encode_q3_k(const float *x, const float *importance, float mean, unsigned char *out) {
    const float square = 2.0f * encode_sum_squares(x, 256) / 256;
    float w[16], sum_w[16], scales[16], d = 0.0f, extreme;
    uint8_t q[256], six[16];
    int level[16], i, j;
    (void)mean;
    for (j = 0; j < 16; j++) {
        const float *xj = x + 16 * j;
        if (!importance) { scales[j] = encode_fit_by_turns(xj, 16, 4, q + 16 * j); continue; }
        encode_weigh(xj, importance + 16 * j, square, 16, w);
        for (sum_w[j] = 0.0f, i = 0; i < 16; i++) sum_w[j] += w[i];
        scales[j] = encode_fit(xj, w, 16, 4, q + 16 * j);
    }
    memset(six, 0, 16);
    extreme = encode_extreme(scales, 16);
    if (importance) d = encode_fit(scales, sum_w, 16, 32, six);
    else if (extreme > 0.0f || extreme < 0.0f) {
        const float inverse = -32.0f / extreme;
        for (j = 0; j < 16; j++) six[j] = (uint8_t)(encode_clamp(encode_nearest(inverse * scales[j]), -32, 31) + 32);
        d = 1.0f / inverse;
    }
    d = encode_scale(d, out + 108);
    for (j = 0; j < 16; j++) level[j] = six[j] - 32;
    encode_again(x, d, level, 4, q);
    memset(out + 96, 0, 12);
    for (j = 0; j < 16; j++) {          /* 4 bits of scale j in byte j % 8, above them 2 in byte 8 + j % 4 */
        out[96 + j % 8] = (unsigned char)(out[96 + j % 8] | (six[j] & 15) << j / 8 * 4);
        out[104 + j % 4] = (unsigned char)(out[104 + j % 4] | six[j] >> 4 << j / 4 * 2);
    }
    encode_put_bits(q, 2, out);
    encode_put_pairs(q, 0, out + 32);
}

static inline void encode_q6_k(const float *x, const float *importance, float mean, unsigned char *out) {
    float w[16], scales[16], extreme, inverse, d;
    uint8_t q[256];
    int level[16], i, j, half;
    (void)mean;
    for (j = 0; j < 16; j++) {
        encode_weigh(x + 16 * j, NULL, 0.0f, 16, w);
        scales[j] = encode_fit(x + 16 * j, importance ? importance + 16 * j : w, 16, 32, q + 16 * j);
    }
    extreme = encode_extreme(scales, 16);
    memset(out, 0, 210);
    if (fabsf(extreme) < 1e-15f) return;
    inverse = -128.0f / extreme;
    d = encode_scale(1.0f / inverse, out + 208);
    for (j = 0; j < 16; j++) {
        level[j] = encode_nearest(inverse * scales[j]);
        if (level[j] > 127) level[j] = 127;
        out[192 + j] = (unsigned char)level[j];
    }
    encode_again(x, d, level, 32, q);
    for (half = 0; half < 2; half++)    /* low four bits: 64 to 32 bytes twice, x and x + 64 in one byte */
        for (i = 0; i < 2; i++)
            for (j = 0; j < 32; j++) {
                const uint8_t *at = q + 128 * half + 32 * i + j;
                out[64 * half + 32 * i + j] = (unsigned char)((at[0] & 15) | (at[64] & 15) << 4);
            }
    encode_put_pairs(q, 4, out + 128);
}

/* ---- The table -------------------------------------------------------------------------------------------------- */

/* Numbers are ggml's of formats, llama.cpp's of files of mostly this format (general.file_type), and of the format
 * for rows that are no whole number of its blocks (tensor_type_fallback in llama-quant.cpp; F16 where that does not
 * fit either). */
typedef struct { uint32_t type, file_type, instead; encode_block *block; } encode_kind;
static const encode_kind encode_kinds[] = {
    {  0,  0,  0, NULL },          {  1,  1,  1, NULL },          { 30, 32, 30, NULL },
    {  2,  2,  1, encode_q4_0 },   {  3,  3,  1, encode_q4_1 },   {  6,  8,  1, encode_q5_0 },
    {  7,  9,  1, encode_q5_1 },   {  8,  7,  1, encode_q8_0 },   { 10, 10,  2, encode_q2_k },
    { 11, 11,  2, encode_q3_k },   { 12, 14,  6, encode_q4_k },   { 13, 16,  7, encode_q5_k },
    { 14, 18,  8, encode_q6_k },   { 20, 25,  1, encode_iq4_nl }, { 23, 30, 20, encode_iq4_xs },
    { 34, 36,  2, encode_tq1_0 },  { 35, 37,  2, encode_tq2_0 },  { 39, 38,  1, encode_mxfp4 },
    { 41, 40,  2, encode_q1_0 },   { 42, 41,  2, encode_q2_0 }
};

static inline const encode_kind *encode_find(uint32_t type) {
    size_t i;
    for (i = 0; i < sizeof encode_kinds / sizeof encode_kinds[0]; i++)
        if (encode_kinds[i].type == type) return &encode_kinds[i];
    return NULL;
}

/* Can x be encoded? Scales are mostly F16, so numbers beyond its largest are refused as NaN and infinity are. */
static inline int encode_fits(const float *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) if (!(fabsf(x[i]) <= 65504.0f)) return 0;
    return 1;
}

/* f32 in the layout of a file's rows, whole blocks; 0 for a format that cannot be written. importance: of the
 * columns, or NULL. A block that does not fit becomes zeros: a NaN has no place in these formats. */
static inline int encode_row_weighted(const gpti_format *fmt, const float *x, const float *importance, size_t n,
                                      unsigned char *out) {
    static const float zeros[256] = { 0 };
    const encode_kind *kind = encode_find(fmt->type);
    const size_t len = fmt->block_len;
    float mean;
    size_t i;
    if (!kind) return 0;
    if (!kind->block) { encode_floats(fmt, x, n, out); return 1; }
    mean = importance ? encode_sum_squares(x, n) / (float)n : 0.0f;
    for (i = 0; i < n; i += len, out += fmt->block_bytes)
        kind->block(encode_fits(x + i, len) ? x + i : zeros, importance ? importance + i : NULL, mean, out);
    return 1;
}
static inline int encode_row(const gpti_format *fmt, const float *x, size_t n, unsigned char *out) {
    return encode_row_weighted(fmt, x, NULL, n, out);
}

#if defined(__clang__)
#  pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#  pragma GCC pop_options
#elif defined(_MSC_VER)
#  pragma float_control(pop)
#endif
#endif
