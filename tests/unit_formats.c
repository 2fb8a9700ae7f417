/* Number formats against the gguf Python package (golden/formats.inc, written by make_format_goldens.py), bit for bit. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "../examples/encode.h"
#include <stdio.h>

static int failures, checks;
static void check(int ok, const char *what, const char *name, long at) {
    checks++;
    if (!ok && failures++ < 20) fprintf(stderr, "unit_formats: %s: %s at %ld\n", what, name, at);
}

typedef struct golden_row { uint32_t type; uint32_t hash[48]; } golden_row;
#include "golden/formats.inc"
#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static uint32_t rng_state;
static uint32_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 17;
    rng_state ^= rng_state << 5;
    return rng_state;
}

static uint32_t fnv(uint32_t h, const unsigned char *p, size_t n) {
    while (n-- > 0) h = (h ^ *p++) * 0x01000193u;
    return h;
}

static uint32_t fnv_float(uint32_t h, float f) {
    unsigned char b[4];
    uint32_t u = gpti_f32_bits(f);
    int i;
    if (f != f) u = 0x7FC00000u;
    for (i = 0; i < 4; i++) b[i] = (unsigned char)(u >> (8 * i) & 255u);
    return fnv(h, b, 4);
}

/* Offset of the n-th 16-bit scale in a block, -1 = none; as in make_format_goldens.py. */
static int scale_at(const gpti_format *fmt, int n) {
    const gpti_field *f = fmt->field;
    while (f->unit != 0 && (f->unit != 2 || fmt->fetch == GPTI_FETCH_BF16)) f++;
    return 2 * n < f->bytes ? f->offset + 2 * n : -1;
}

static void make_blocks(const gpti_format *fmt, size_t size, unsigned char *out) {
    static const uint32_t special[8] = { 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0x7C00, 0xFE00 };
    size_t b, i;
    int n;
    rng_state = 0x9E3779B9u ^ fmt->type;
    for (b = 0; b < GOLDEN_BLOCKS; b++, out += size) {
        for (i = 0; i < size; i++) out[i] = (unsigned char)(rng() >> 24);
        for (n = 0; n < 2; n++) {
            int at = scale_at(fmt, n);
            uint32_t h;
            if (at < 0) break;
            if (b < 8) h = special[(b + (size_t)n) % 8];
            else h = ((out[at] | (uint32_t)out[at + 1] << 8) & 0x83FFu) | (3u + rng() % 13u) << 10;
            gpti_store_u16(out + at, h);
        }
    }
}

/* A matrix of one block a row, mapped and packed. */
static void test_dequantise(const gpti_format *fmt, const golden_row *g) {
    static unsigned char file[GOLDEN_BLOCKS * 256], packed[GOLDEN_BLOCKS * 256];
    static float row[256];
    static gpti_scratch scratch;
    size_t n = fmt->block_len < 32 ? 32 : fmt->block_len, size = gpti_row_bytes(fmt, n), i, bytes = 0;
    gpti_matrix m;
    int mode;
    make_blocks(fmt, size, file);
    check(gpti_packed_bytes(fmt, GOLDEN_BLOCKS, n, &bytes) && bytes == GOLDEN_BLOCKS * size, "packed size", fmt->name, (long)bytes);
    for (i = 0; i < GOLDEN_BLOCKS; i += 16) gpti_pack(fmt, n, file + i * size, 16, packed + i * size);
    for (mode = 0; mode < 2; mode++) {
        m.fmt = fmt;
        m.n_row = GOLDEN_BLOCKS;
        m.n_col = n;
        m.data = mode ? packed : file;
        m.packed = mode;
        for (i = 0; i < GOLDEN_BLOCKS; i++) {
            uint32_t h = 0x811C9DC5u;
            size_t k;
            gpti_matrix_row(&m, i, row, &scratch);
            for (k = 0; k < n; k++) h = fnv_float(h, row[k]);
            check(h == g->hash[i], mode ? "dequantised from a panel" : "dequantised as mapped", fmt->name, (long)i);
        }
    }
}

static void test_encode(const gpti_format *fmt, const golden_row *g) {
    unsigned char out[128];
    float x[32];
    size_t b, i;
    rng_state = 12345;
    for (b = 0; b < GOLDEN_BLOCKS; b++) {
        for (i = 0; i < 32; i++) {
            x[i] = (float)((int32_t)(rng() >> 8) - 0x800000) * (float)ldexp(1.0, -(int)(12 + b));
            if (b == 0) x[i] = 0.0f;
        }
        encode_row(fmt, x, 32, out);
        check(fnv(0x811C9DC5u, out, gpti_row_bytes(fmt, 32)) == g->hash[b], "encoded", fmt->name, (long)b);
    }
}

static void test_halves(void) {
    static const uint32_t delta[7] = { 0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000 };
    uint32_t h = 0x811C9DC5u, i, n;
    unsigned char b[2];
    for (i = 0; i < 65536; i++) h = fnv_float(h, gpti_f16_f32(i));
    check(h == GOLDEN_WIDEN, "widened", "f16", 0);
    h = 0x811C9DC5u;
    for (i = 0; i < 0x7C00; i++) {
        for (n = 0; n < 7; n++) {
            gpti_store_u16(b, gpti_f32_f16(gpti_bits_f32(gpti_f32_bits(gpti_f16_f32(i)) + delta[n])));
            h = fnv(h, b, 2);
        }
    }
    check(h == GOLDEN_NARROW, "narrowed", "f16", 0);
    for (i = 0; i < 65536; i++) {    /* every half survives the way there and back, NaN as a quiet NaN */
        uint32_t back = gpti_f32_f16(gpti_f16_f32(i));
        check(back == i || ((i & 0x7FFF) > 0x7C00 && back == (i | 0x200)), "round trip", "f16", (long)i);
        back = encode_f32_bf16(gpti_bits_f32(i << 16));
        check(back == i || ((i & 0x7FFF) > 0x7F80 && back == (i | 0x40)), "round trip", "bf16", (long)i);
    }
}

/* Blocks that hold a NaN, an infinity or next to nothing must encode to something finite. */
static void test_encode_extremes(void) {
    static const uint32_t odd[4] = { 0x7FC00000u, 0x7F800000u, 0xFF800000u, 0x00000001u };
    unsigned char out[64];
    float x[32];
    int n, i;
    for (n = 0; n < 4; n++) {
        for (i = 0; i < 32; i++) x[i] = (float)i;
        x[5] = gpti_bits_f32(odd[n]);
        encode_q8_0(x, 32, out);
        check(n == 3 || (out[0] == 0 && (out[1] & 0x7F) == 0), "scale of a block that is not finite", "Q8_0", n);
        encode_q4_0(x, 32, out);
        check(n == 3 || (out[0] == 0 && (out[1] & 0x7F) == 0), "scale of a block that is not finite", "Q4_0", n);
    }
    for (i = 0; i < 32; i++) x[i] = gpti_bits_f32(0x00000001u);
    encode_q8_0(x, 32, out);
    check(out[2] == 0, "subnormal block", "Q8_0", 0);
}

int main(void) {
    size_t i;
    check(N_OF(golden_dequantised) == GPTI_N_FORMAT, "every format has a golden", "", (long)GPTI_N_FORMAT);
    for (i = 0; i < N_OF(golden_dequantised); i++) {
        const gpti_format *fmt = gpti_format_find(golden_dequantised[i].type);
        if (fmt == NULL) check(0, "format is missing", "", (long)i);
        else test_dequantise(fmt, &golden_dequantised[i]);
    }
    for (i = 0; i < N_OF(golden_encoded); i++) {
        const gpti_format *fmt = gpti_format_find(golden_encoded[i].type);
        if (fmt == NULL || !encode_row(fmt, NULL, 0, NULL)) check(0, "encoder is missing", "", (long)i);
        else test_encode(fmt, &golden_encoded[i]);
    }
    check(gpti_format_find(4) == NULL && gpti_format_find(0xFFFFFFFFu) == NULL, "unknown type", "", 4);
    test_halves();
    test_encode_extremes();
    printf("unit_formats: %d passed, %d failed\n", checks - failures, failures);
    return failures != 0;
}
