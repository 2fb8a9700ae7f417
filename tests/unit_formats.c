/* Number formats against the gguf Python package (golden/formats.inc, written by make_format_goldens.py), bit for bit. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "../examples/encode.h"
#include "test.h"

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
    CHECK(gpti_packed_bytes(fmt, GOLDEN_BLOCKS, n, &bytes) && bytes == GOLDEN_BLOCKS * size,
          "%s: packed: expected %lu bytes, found %lu", fmt->name, (unsigned long)(GOLDEN_BLOCKS * size), (unsigned long)bytes);
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
            CHECK(h == g->hash[i], "%s, block %lu, %s: expected hash %08lx, found %08lx", fmt->name, (unsigned long)i,
                  mode ? "from a panel" : "as mapped", (unsigned long)g->hash[i], (unsigned long)h);
        }
    }
}

/* floats() and importances() of make_format_goldens.py */
static void make_floats(size_t b, size_t n, float *x) {
    size_t i;
    for (i = 0; i < n; i++) {
        x[i] = (float)((int32_t)(rng() >> 8) - 0x800000) * (float)ldexp(1.0, -(int)(12 + b));
        if (b % 4 == 1) x[i] = x[i] * fabsf(x[i]) * (float)ldexp(1.0, (int)b - 11);
        if (b % 4 == 2) x[i] = fabsf(x[i]);
        if (b == 0 || (b % 4 == 3 && i % 32 < 16)) x[i] = 0.0f;
    }
}
static void make_importances(size_t n, float *x) {
    size_t i;
    rng_state = 54321;
    for (i = 0; i < n; i++) x[i] = i % 7 ? (float)(rng() >> 20) * (1.0f / 256) : 0.0f;
}

static void test_encode(const gpti_format *fmt, const golden_row *g, const float *importance) {
    const size_t n = fmt->block_len < 32 ? 32 : fmt->block_len;
    unsigned char out[256];
    float x[256];
    uint32_t h;
    size_t b;
    rng_state = 12345;
    for (b = 0; b < GOLDEN_BLOCKS; b++) {
        make_floats(b, n, x);
        encode_row_weighted(fmt, x, importance, n, out);
        h = fnv(0x811C9DC5u, out, gpti_row_bytes(fmt, n));
        CHECK(h == g->hash[b], "%s%s, block %lu: expected hash %08lx, found %08lx", fmt->name, importance ? ", weighted" : "",
              (unsigned long)b, (unsigned long)g->hash[b], (unsigned long)h);
    }
}

static void test_halves(void) {
    static const uint32_t delta[7] = { 0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000 };
    uint32_t h = 0x811C9DC5u, i, n;
    unsigned char b[2];
    for (i = 0; i < 65536; i++) h = fnv_float(h, gpti_f16_f32(i));
    CHECK(h == GOLDEN_WIDEN, "F16 to F32: expected hash %08lx, found %08lx", (unsigned long)GOLDEN_WIDEN, (unsigned long)h);
    h = 0x811C9DC5u;
    for (i = 0; i < 0x7C00; i++) {
        for (n = 0; n < 7; n++) {
            gpti_store_u16(b, gpti_f32_f16(gpti_bits_f32(gpti_f32_bits(gpti_f16_f32(i)) + delta[n])));
            h = fnv(h, b, 2);
        }
    }
    CHECK(h == GOLDEN_NARROW, "F32 to F16: expected hash %08lx, found %08lx", (unsigned long)GOLDEN_NARROW, (unsigned long)h);
    for (i = 0; i < 65536; i++) {    /* every half survives the way there and back, NaN as a quiet NaN */
        uint32_t back = gpti_f32_f16(gpti_f16_f32(i));
        CHECK(back == i || ((i & 0x7FFF) > 0x7C00 && back == (i | 0x200)), "F16 there and back: expected %04lx, found %04lx",
              (unsigned long)i, (unsigned long)back);
        back = encode_f32_bf16(gpti_bits_f32(i << 16));
        CHECK(back == i || ((i & 0x7FFF) > 0x7F80 && back == (i | 0x40)), "BF16 there and back: expected %04lx, found %04lx",
              (unsigned long)i, (unsigned long)back);
    }
}

/* Blocks that hold a NaN, an infinity, more than F16 holds or next to nothing must encode to something finite: zeros but
 * for the last. */
static void test_encode_extremes(void) {
    static const uint32_t odd[5] = { 0x7FC00000u, 0x7F800000u, 0xFF800000u, 0x7F7FFFFFu, 0x00000001u };
    static gpti_scratch scratch;
    size_t k, i, n;
    for (k = 0; k < sizeof encode_kinds / sizeof *encode_kinds; k++) {
        const gpti_format *fmt = gpti_format_find(encode_kinds[k].type);
        unsigned char out[256];
        float x[256], ones[256], back[256];
        gpti_matrix m;
        if (!encode_kinds[k].block) continue;
        m.fmt = fmt, m.n_row = 1, m.n_col = fmt->block_len, m.data = out, m.packed = 0;
        for (n = 0; n < 2 * (N_OF(odd) + 1); n++) {     /* the last two: subnormals alone */
            const size_t o = n / 2;
            for (i = 0; i < 256; i++) x[i] = o < N_OF(odd) ? (float)i : gpti_bits_f32(0x00000001u), ones[i] = 1.0f;
            if (o < N_OF(odd)) x[5] = gpti_bits_f32(odd[o]);
            encode_row_weighted(fmt, x, n % 2 ? ones : NULL, fmt->block_len, out);
            gpti_matrix_row(&m, 0, back, &scratch);
            for (i = 0; i < fmt->block_len; i++)
                if (!(o == 4 ? fabsf(back[i]) <= 300.0f : fabsf(back[i]) <= 1e-30f)) break;
            CHECK(i == fmt->block_len, "%s, odd block %lu: number %lu is %g", fmt->name, (unsigned long)n,
                  (unsigned long)i, (double)back[i < 256 ? i : 0]);
        }
    }
}

static void test_all_dequantised(void) {
    size_t i;
    for (i = 0; i < GPTI_N_FORMAT; i++) {       /* ggml's formats have numbers below 64 */
        size_t k = 0;
        while (k < N_OF(golden_dequantised) && golden_dequantised[k].type != gpti_formats[i].type) k++;
        CHECK(k < N_OF(golden_dequantised) || gpti_formats[i].type >= 64, "%s has no golden", gpti_formats[i].name);
    }
    for (i = 0; i < N_OF(golden_dequantised); i++) {
        const gpti_format *fmt = gpti_format_find(golden_dequantised[i].type);
        CHECK(fmt != NULL, "type %lu of the goldens is no format", (unsigned long)golden_dequantised[i].type);
        if (fmt) test_dequantise(fmt, &golden_dequantised[i]);
    }
}

static void test_encoded(const golden_row *g, size_t n, const float *importance) {
    for (; n > 0; n--, g++) {
        const gpti_format *fmt = gpti_format_find(g->type);
        int there = fmt != NULL && encode_row(fmt, NULL, 0, NULL);
        CHECK(there, "type %lu of the goldens has no encoder", (unsigned long)g->type);
        if (there) test_encode(fmt, g, importance);
    }
}
static void test_all_encoded(void) {
    float importance[256];
    size_t i, k;
    make_importances(256, importance);
    for (i = 0; i < N_OF(encode_kinds); i++) {
        for (k = 0; k < N_OF(golden_encoded) && golden_encoded[k].type != encode_kinds[i].type; k++) {}
        CHECK(k < N_OF(golden_encoded), "type %lu is encoded and has no golden", (unsigned long)encode_kinds[i].type);
        CHECK(encode_find(encode_kinds[i].instead), "type %lu: no format instead", (unsigned long)encode_kinds[i].type);
    }
    test_encoded(golden_encoded, N_OF(golden_encoded), NULL);
    test_encoded(golden_weighted, N_OF(golden_weighted), importance);
}

static void test_unknown(void) {
    CHECK(gpti_format_find(4) == NULL, "type 4, which is no more, was found");
    CHECK(gpti_format_find(0xFFFFFFFFu) == NULL, "type 4294967295 was found");
}

static const test tests[] = {
    { "dequantise", test_all_dequantised }, { "encode", test_all_encoded }, { "unknown", test_unknown },
    { "halves", test_halves }, { "encode_extremes", test_encode_extremes }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_formats");
}
