/* Matrix products: plain C against double precision, every other kernel set against plain C bit for bit, over odd sizes,
 * any split of panels and tokens, packed and mapped weights. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <stdio.h>

static gpti_kernels sets[GPTI_MAX_SET];
static size_t n_set;
static int failures, checks;
static void check(int ok, const char *what, const char *set, const char *fmt, long a, long b) {
    checks++;
    if (!ok && failures++ < 20) fprintf(stderr, "unit_kernels: %s: %s %s %ld %ld\n", what, set, fmt, a, b);
}

static uint32_t rng_state = 1;
static uint32_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 17;
    rng_state ^= rng_state << 5;
    return rng_state;
}
static float rng_float(void) { return (float)((int32_t)(rng() >> 8) - 0x800000) * (1.0f / 4194304.0f); }    /* [-2, 2) */

enum { MAX_ROW = 50, MAX_COL = 1056, MAX_TOK = 70 };
static unsigned char file[MAX_ROW * MAX_COL * 4], packed[64 * MAX_COL * 4];
static float x[MAX_TOK * MAX_COL], out[MAX_TOK * 64], want[MAX_TOK * 64], bias[64];
static gpti_xblock xq[MAX_COL / 32 * MAX_TOK];

/* Offset of the half floats in a block, as bit sets of 2-byte units would be clumsy: -1 ends. */
static const struct { uint32_t type; int at[2]; } halves[] = {
    { 2, { 0, -1 } }, { 3, { 0, 2 } }, { 6, { 0, -1 } }, { 7, { 0, 2 } }, { 8, { 0, -1 } }, { 10, { 80, 82 } },
    { 11, { 108, -1 } }, { 12, { 0, 2 } }, { 13, { 0, 2 } }, { 14, { 208, -1 } }, { 20, { 0, -1 } }, { 23, { 0, -1 } } };

/* Random blocks; scales are moderate floats unless `wild`, when NaN and infinity may occur. */
static void make_weights(const gpti_format *fmt, size_t n_row, size_t n_col, int wild, gpti_matrix *mapped, gpti_matrix *panels) {
    size_t row_bytes = gpti_row_bytes(fmt, n_col), i, n;
    for (i = 0; i < n_row * row_bytes; i++) file[i] = (unsigned char)(rng() >> 24);
    for (i = 0; i < n_row * row_bytes && !wild; i += fmt->block_bytes) {
        unsigned char *b = file + i;
        if (fmt->type == 39) b[0] = (unsigned char)(118 + rng() % 8);
        if (fmt->n_scale == 0) {
            float w = rng_float();
            gpti_encode(fmt, &w, 1, b);
        }
        for (n = 0; n < sizeof halves / sizeof halves[0] * 2; n++)
            if (halves[n / 2].type == fmt->type && halves[n / 2].at[n % 2] >= 0)
                gpti_store_u16(b + halves[n / 2].at[n % 2], (rng() & 0x83FFu) | (5u + rng() % 8u) << 10);
    }
    for (i = 0; i < n_row; i += GPTI_PANEL)
        gpti_pack(fmt, n_col, file + i * row_bytes, n_row - i < GPTI_PANEL ? n_row - i : GPTI_PANEL, packed + i * row_bytes);
    mapped->fmt = panels->fmt = fmt;
    mapped->n_row = panels->n_row = n_row;
    mapped->n_col = panels->n_col = n_col;
    mapped->data = file;
    mapped->packed = 0;
    panels->data = packed;
    panels->packed = 1;
}

static void make_activations(const gpti_kernels *set, size_t n_col) {
    size_t i;
    for (i = 0; i < MAX_TOK * n_col; i++) x[i] = rng_float();
    if (n_col % 32 == 0) for (i = 0; i < MAX_TOK; i++) set->quantize(xq + i, MAX_TOK, x + i * n_col, n_col);
}

static gpti_matmul make_job(const gpti_matrix *w, size_t n_tok) {
    gpti_matmul j;
    memset(&j, 0, sizeof j);
    j.w = *w;
    j.x = x;
    j.xq = xq;
    j.ld_x = w->n_col;
    j.ld_xq = MAX_TOK;
    j.n_tok = n_tok;
    j.out = out;
    j.ld_out = w->n_row;
    return j;
}

static int same_floats(const float *a, const float *b, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) if (memcmp(a + i, b + i, 4) != 0 && !(a[i] != a[i] && b[i] != b[i])) return 0;
    return 1;
}

/* Plain C against sums in double of dequantised weights times dequantised activations. 1e-6 of the sum of magnitudes:
 * at most 2 * 33 + 32 roundings of 2^-24 happen to a term, usually far fewer. */
static void test_ref(const gpti_format *fmt, size_t n_row, size_t n_col, size_t n_tok) {
    static float row[MAX_COL];
    gpti_matrix mapped, panels;
    gpti_matmul job;
    size_t r, t, k;
    make_weights(fmt, n_row, n_col, 0, &mapped, &panels);
    make_activations(&sets[n_set - 1], n_col);
    job = make_job(&panels, n_tok);
    gpti_matmul_ref(&job, 0, gpti_n_panel(n_row));
    for (r = 0; r < n_row; r++) {
        gpti_matrix_row(&panels, r, row);
        for (t = 0; t < n_tok; t++) {
            double sum = 0.0, size = 0.0;
            for (k = 0; k < n_col; k++) {
                const gpti_xblock *b = &xq[k / 32 * MAX_TOK + t];
                double a = fmt->n_scale == 0 ? (double)x[t * n_col + k] : (double)b->q[k % 32] * (double)b->d;
                sum += a * (double)row[k];
                size += fabs(a * (double)row[k]);
            }
            /* a minimum is added to the products, so their sizes count apart from it: 64 covers q <= 31 against m */
            check(fabs(sum - (double)out[t * n_row + r]) <= 1e-6 * size * (fmt->has_min ? 64 : 4), "off the double sum", "ref",
                  fmt->name, (long)r, (long)t);
        }
    }
}

static void test_set(const gpti_kernels *set, const gpti_format *fmt, size_t n_row, size_t n_col, size_t n_tok, int wild) {
    static const uint32_t pick[MAX_TOK] = { 3, 0, 5, 5, 1, 12, 69, 7 };
    static uint32_t place[MAX_TOK];
    size_t n_panel = gpti_n_panel(n_row), n = n_row * n_tok, i;
    gpti_matrix mapped, panels;
    gpti_matmul job;
    make_weights(fmt, n_row, n_col, wild, &mapped, &panels);
    make_activations(set, n_col);
    for (i = 0; i < n_row; i++) bias[i] = rng_float();

    job = make_job(&panels, n_tok);                       /* all at once */
    job.bias = n_tok % 2 ? bias : NULL;
    gpti_matmul_ref(&job, 0, n_panel);
    memcpy(want, out, n * sizeof *out);
    memset(out, 0x55, sizeof out);
    set->matmul(&job, 0, n_panel);
    check(same_floats(out, want, n), "differs from ref", set->name, fmt->name, (long)n_col, (long)n_tok);
    for (i = n; i < n + 16 && i < MAX_TOK * 64; i++) check(gpti_f32_bits(out[i]) == 0x55555555u, "wrote too far", set->name, fmt->name, (long)n_row, (long)n_tok);

    memset(out, 0, sizeof out);                           /* panels one by one from the end, weights as mapped */
    job.w = mapped;
    for (i = n_panel; i > 0; i--) set->matmul(&job, i - 1, i);
    check(same_floats(out, want, n), "mapped differs from packed", set->name, fmt->name, (long)n_col, (long)n_tok);

    memset(out, 0, sizeof out);                           /* tokens in two parts */
    job.w = panels;
    job.n_tok = n_tok / 3;
    if (job.n_tok > 0) set->matmul(&job, 0, n_panel);
    job.x += job.n_tok * n_col;
    job.xq += job.n_tok;
    job.out += job.n_tok * n_row;
    job.n_tok = n_tok - job.n_tok;
    set->matmul(&job, 0, n_panel);
    check(same_floats(out, want, n), "a cut between tokens shows", set->name, fmt->name, (long)n_col, (long)n_tok);

    job = make_job(&panels, n_tok < 8 ? n_tok : 8);       /* picked and scattered rows */
    for (i = 0; i < job.n_tok; i++) place[i] = (uint32_t)(job.n_tok - 1 - i);
    job.in_row = pick;
    job.out_row = place;
    gpti_matmul_ref(&job, 0, n_panel);
    memcpy(want, out, n * sizeof *out);
    memset(out, 0, sizeof out);
    set->matmul(&job, 0, n_panel);
    check(same_floats(out, want, job.n_tok * n_row), "rows differ", set->name, fmt->name, (long)n_col, (long)n_tok);
}

static void test_quantize(const gpti_kernels *set) {
    static const uint32_t odd[] = { 0x7FC00000u, 0x7F800000u, 0xFF800000u, 0x00000001u, 0x0BFFFFFFu, 0x0C000000u, 0x7F7FFFFFu, 0x80000000u };
    static gpti_xblock a[MAX_COL / 32], b[MAX_COL / 32];
    static float v[MAX_COL];
    size_t i, n, round;
    for (round = 0; round < 200; round++) {
        float scale = (float)ldexp(1.0, (int)(rng() % 250u) - 125);
        n = 32 * (1 + rng() % 33);
        for (i = 0; i < n; i++) v[i] = rng_float() * scale;
        if (round % 4 == 1) for (i = 0; i < n; i++) v[i] = (float)((int)(rng() % 509u) - 254) * 0.5f;    /* halves: ties */
        if (round % 4 == 1) for (i = 0; i < n; i += 32) v[i] = 127.0f;
        if (round % 4 == 2) for (i = 0; i < 8 && i * 32 < n; i++) v[i * 32 + rng() % 32] = gpti_bits_f32(odd[i]);
        if (round % 4 == 3) for (i = 0; i < n; i++) if (i / 32 % 2) v[i] = gpti_bits_f32(odd[3 + i / 64 % 5]);
        gpti_quantize_ref(a, 1, v, n);
        set->quantize(b, 1, v, n);
        for (i = 0; i < n / 32; i++) {
            check(memcmp(a[i].q, b[i].q, 32) == 0 && memcmp(a[i].sum, b[i].sum, sizeof a[i].sum) == 0 &&
                  same_floats(a[i].s, b[i].s, 3) && same_floats(&a[i].d, &b[i].d, 1), "quantised differs", set->name, "", (long)round, (long)i);
        }
    }
}

/* Facts about the plain quantiser that the other sets inherit. */
static void test_quantize_ref(void) {
    gpti_xblock b[2];
    float v[64];
    int i, s[2];
    for (i = 0; i < 64; i++) v[i] = (float)(i - 20) * 0.5f;
    v[63] = gpti_bits_f32(0x7F800000u);
    gpti_quantize_ref(b, 1, v, 64);
    s[0] = s[1] = 0;
    for (i = 0; i < 32; i++) {
        check(fabs((double)b[0].q[i] * (double)b[0].d - (double)v[i]) <= (double)b[0].d * 0.5001, "quantised far off", "ref", "", i, 0);
        s[i / 16] += b[0].q[i];
    }
    check(b[0].q[0] == -127 && b[0].sum[1][0] + b[0].sum[1][1] == s[0] && b[0].sum[2][0] + b[0].sum[2][1] == s[1] &&
          b[0].sum[0][0] + b[0].sum[0][1] == s[0] + s[1], "sums", "ref", "", s[0], s[1]);
    for (i = 0; i < 32; i++) check(b[1].q[i] == 0, "q of a block that is not finite", "ref", "", i, b[1].q[i]);
    check(b[1].d != b[1].d && b[1].s[0] != b[1].s[0], "scale of a block that is not finite", "ref", "", 0, 0);
}

int main(int argc, char **argv) {
    static const size_t n_rows[] = { 1, 16, 17, 50, 31 }, n_blocks[] = { 1, 2, 3, 8, 9, 33 }, n_toks[] = { 1, 2, 3, 4, 5, 7, 8, 9, 13, 70 };
    size_t s, f, i, round;
    n_set = gpti_kernels_list(sets);
    test_quantize_ref();
    for (f = 0; f < GPTI_N_FORMAT; f++) {
        const gpti_format *fmt = &gpti_formats[f];
        test_ref(fmt, 19, fmt->block_len == 256 ? 768 : 352, 3);
        if (fmt->n_scale == 0) test_ref(fmt, 5, 75, 2);
    }
    for (s = 0; s < n_set; s++) {
        const gpti_kernels *set = &sets[s];
        if (argc > 1 && strcmp(argv[1], set->name) != 0) continue;
        if (!set->usable()) {
            printf("unit_kernels: %s: not on this processor\n", set->name);
            continue;
        }
        printf("unit_kernels: %s\n", set->name);
        test_quantize(set);
        for (f = 0; f < GPTI_N_FORMAT; f++) {
            const gpti_format *fmt = &gpti_formats[f];
            for (i = 0, round = 0; i < sizeof n_toks / sizeof n_toks[0]; i++, round++) {
                size_t n_col = 32 * n_blocks[(i + f) % 6], n_row = n_rows[(i + f) % 5];
                if (fmt->block_len == 256) n_col = 256 * (1 + (i + f) % 4);
                if (fmt->n_scale == 0) n_col += i % 3 * 5;
                if (n_col > MAX_COL) n_col = MAX_COL;
                test_set(set, fmt, n_row, n_col, n_toks[i], 0);
                if (round % 4 == 0) test_set(set, fmt, n_row, n_col, n_toks[i], 1);
            }
        }
    }
    printf("unit_kernels: %d passed, %d failed\n", checks - failures, failures);
    return failures != 0;
}
