/* From f32 to the number formats of GGUF: what a trainer writes and gpt.h reads. Rounds exactly like the gguf Python package.
 * Include it after gpt.h, in the file with GPT_IMPLEMENTATION. */
#ifndef ENCODE_H
#define ENCODE_H

static inline uint32_t encode_f32_bf16(float f) {
    uint32_t u = gpti_f32_bits(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (u >> 16) | 0x40u;
    return (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}


static inline void encode_f32(const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (i = 0; i < n; i++) {
        gpti_store_u16(out + 4 * i, gpti_f32_bits(x[i]) & 0xFFFFu);
        gpti_store_u16(out + 4 * i + 2, gpti_f32_bits(x[i]) >> 16);
    }
}

static inline void encode_f16(const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (i = 0; i < n; i++) gpti_store_u16(out + 2 * i, gpti_f32_f16(x[i]));
}

static inline void encode_bf16(const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (i = 0; i < n; i++) gpti_store_u16(out + 2 * i, encode_f32_bf16(x[i]));
}

/* The element of largest magnitude, the first among equals; 0 when one is not finite, or all are too small for 1/d to exist.
 * So such a block becomes zeros: a NaN has no place in these formats. */
static inline float encode_extreme(const float *x, size_t n) {
    float best = x[0];
    size_t i;
    for (i = 0; i < n; i++) {
        if (!(x[i] - x[i] == 0.0f)) return 0.0f;
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    }
    return fabsf(best) < 1e-35f ? 0.0f : best;
}

static inline void encode_q8_0(const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (; n >= 32; n -= 32, x += 32, out += 34) {
        float d = fabsf(encode_extreme(x, 32)) / 127.0f, id = d > 0.0f ? 1.0f / d : 0.0f;
        gpti_store_u16(out, gpti_f32_f16(d));
        for (i = 0; i < 32; i++) {    /* halves away from zero */
            float a = id > 0.0f ? fabsf(x[i] * id) : 0.0f, fl = (float)(int)a;
            int q = (int)fl + (int)(2.0f * (a - fl));
            out[2 + i] = (unsigned char)(x[i] < 0.0f ? 256 - q : q);
        }
    }
}

static inline void encode_q4_0(const float *x, size_t n, unsigned char *out) {
    size_t i;
    for (; n >= 32; n -= 32, x += 32, out += 18) {
        float d = encode_extreme(x, 32) / -8.0f, id = d < 0.0f || d > 0.0f ? 1.0f / d : 0.0f;
        gpti_store_u16(out, gpti_f32_f16(d));
        memset(out + 2, 0, 16);
        for (i = 0; i < 32; i++) {
            int q = id < 0.0f || id > 0.0f ? (int)(x[i] * id + 8.5f) : 8;
            out[2 + i % 16] = (unsigned char)(out[2 + i % 16] | (q > 15 ? 15 : q) << (i / 16 * 4));
        }
    }
}

/* f32 in the layout of a file's rows, whole blocks; 0 for a format that cannot be written. */
static inline int encode_row(const gpti_format *fmt, const float *x, size_t n, unsigned char *out) {
    switch (fmt->type) {
        case 0: encode_f32(x, n, out); return 1;
        case 1: encode_f16(x, n, out); return 1;
        case 30: encode_bf16(x, n, out); return 1;
        case 2: encode_q4_0(x, n, out); return 1;
        case 8: encode_q8_0(x, n, out); return 1;
        default: return 0;
    }
}

#endif
