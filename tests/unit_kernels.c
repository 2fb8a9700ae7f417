/* Matrix products and attention: plain C against double precision, every other kernel set against plain C bit for bit, over odd
 * sizes, any split of panels and tokens, packed and mapped weights, any cut of the rows. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "../examples/encode.h"
#include "test.h"

static gpti_kernels sets[GPTI_MAX_SET];
static size_t n_set;
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
static gpti_scratch scratch;

/* Random blocks; scales are moderate floats unless `wild`, when NaN and infinity may occur. */
static void make_weights(const gpti_format *fmt, size_t n_row, size_t n_col, int wild, gpti_matrix *mapped, gpti_matrix *panels) {
    size_t row_bytes = gpti_row_bytes(fmt, n_col), i, n;
    const gpti_field *f;
    for (i = 0; i < n_row * row_bytes; i++) file[i] = (unsigned char)(rng() >> 24);
    for (i = 0; i < n_row * row_bytes && !wild; i += fmt->block_bytes) {
        unsigned char *b = file + i;
        if (fmt->type == 39) b[0] = (unsigned char)(118 + rng() % 8);
        if (fmt->type == 29) b[55] &= 0xBF;     /* IQ1_M's d lies in four pieces: the exponent's top bit */
        if (fmt->n_scale == 0) {
            float w = rng_float();
            encode_row(fmt, &w, 1, b);
        }
        for (f = fmt->field; f->unit != 0 && fmt->n_scale > 0; f++)
            for (n = 0; n < f->bytes && f->unit == 2; n += 2)
                gpti_store_u16(b + f->offset + n, (rng() & 0x83FFu) | (5u + rng() % 8u) << 10);
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

static void make_activations(const gpti_kernels *set, const gpti_format *fmt, size_t n_col) {
    size_t i;
    for (i = 0; i < MAX_TOK * n_col; i++) x[i] = rng_float();
    if (fmt->type == 1) set->round13(x, MAX_TOK * n_col);
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
    make_activations(&sets[n_set - 1], fmt, n_col);
    job = make_job(&panels, n_tok);
    gpti_matmul_ref(&job, 0, gpti_n_panel(n_row), &scratch);
    for (r = 0; r < n_row; r++) {
        gpti_matrix_row(&panels, r, row, &scratch);
        for (t = 0; t < n_tok; t++) {
            double sum = 0.0, size = 0.0;
            for (k = 0; k < n_col; k++) {
                const gpti_xblock *b = &xq[k / 32 * MAX_TOK + t];
                double a = fmt->n_scale == 0 ? (double)x[t * n_col + k] : (double)b->q[k % 32] * (double)b->d;
                sum += a * (double)row[k];
                size += fabs(a * (double)row[k]);
            }
            /* a minimum is added to the products, so their sizes count apart from it: 64 covers q <= 31 against m */
            CHECK(fabs(sum - (double)out[t * n_row + r]) <= 1e-6 * size * (fmt->has_min ? 64 : 4),
                  "%s, row %lu, token %lu: expected %.9g within %.3g, found %.9g", fmt->name, (unsigned long)r, (unsigned long)t,
                  sum, 1e-6 * size * (fmt->has_min ? 64 : 4), (double)out[t * n_row + r]);
        }
    }
}

/* out against want, n floats: a row of n_row for each token */
static void same_products(const gpti_kernels *set, const gpti_format *fmt, size_t n, size_t n_row, size_t n_col, size_t n_tok,
                          const char *way) {
    size_t i = 0;
    while (i < n && same_floats(out + i, want + i, 1)) i++;
    CHECK(i == n, "set %s, %s, %lu columns, %lu tokens, %s: row %lu of token %lu: expected %.9g as by ref, found %.9g", set->name,
          fmt->name, (unsigned long)n_col, (unsigned long)n_tok, way, (unsigned long)(i % n_row), (unsigned long)(i / n_row),
          (double)want[i], (double)out[i]);
}

static void test_set(const gpti_kernels *set, const gpti_format *fmt, size_t n_row, size_t n_col, size_t n_tok, int wild) {
    static const uint32_t pick[MAX_TOK] = { 3, 0, 5, 5, 1, 12, 69, 7 };
    static uint32_t place[MAX_TOK];
    size_t n_panel = gpti_n_panel(n_row), n = n_row * n_tok, i;
    gpti_matrix mapped, panels;
    gpti_matmul job;
    make_weights(fmt, n_row, n_col, wild, &mapped, &panels);
    make_activations(set, fmt, n_col);
    for (i = 0; i < n_row; i++) bias[i] = rng_float();

    job = make_job(&panels, n_tok);                       /* all at once */
    job.bias = n_tok % 2 ? bias : NULL;
    gpti_matmul_ref(&job, 0, n_panel, &scratch);
    memcpy(want, out, n * sizeof *out);
    memset(out, 0x55, sizeof out);
    set->matmul(&job, 0, n_panel, &scratch);
    same_products(set, fmt, n, n_row, n_col, n_tok, "all at once");
    for (i = n; i < n + 16 && i < MAX_TOK * 64; i++) 
        CHECK(gpti_f32_bits(out[i]) == 0x55555555u, "set %s, %s, %lu rows, %lu tokens: wrote %lu floats too far", set->name, fmt->name,
              (unsigned long)n_row, (unsigned long)n_tok, (unsigned long)(i - n + 1));

    memset(out, 0, sizeof out);                           /* panels one by one from the end, weights as mapped */
    job.w = mapped;
    for (i = n_panel; i > 0; i--) set->matmul(&job, i - 1, i, &scratch);
    same_products(set, fmt, n, n_row, n_col, n_tok, "weights as mapped");

    memset(out, 0, sizeof out);                           /* tokens in two parts */
    job.w = panels;
    job.n_tok = n_tok / 3;
    if (job.n_tok > 0) set->matmul(&job, 0, n_panel, &scratch);
    job.x += job.n_tok * n_col;
    job.xq += job.n_tok;
    job.out += job.n_tok * n_row;
    job.n_tok = n_tok - job.n_tok;
    set->matmul(&job, 0, n_panel, &scratch);
    same_products(set, fmt, n, n_row, n_col, n_tok, "tokens in two parts");

    job = make_job(&panels, n_tok < 8 ? n_tok : 8);       /* picked and scattered rows */
    for (i = 0; i < job.n_tok; i++) place[i] = (uint32_t)(job.n_tok - 1 - i);
    job.in_row = pick;
    job.out_row = place;
    gpti_matmul_ref(&job, 0, n_panel, &scratch);
    memcpy(want, out, n * sizeof *out);
    memset(out, 0, sizeof out);
    set->matmul(&job, 0, n_panel, &scratch);
    same_products(set, fmt, job.n_tok * n_row, n_row, n_col, n_tok, "rows picked and scattered");
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
            CHECK(memcmp(a[i].q, b[i].q, 32) == 0 && memcmp(a[i].sum, b[i].sum, sizeof a[i].sum) == 0 &&
                  same_floats(a[i].s, b[i].s, 3) && same_floats(&a[i].d, &b[i].d, 1),
                  "set %s, round %lu, block %lu: quantised otherwise than by ref: scale %.9g, expected %.9g", set->name,
                  (unsigned long)round, (unsigned long)i, (double)b[i].d, (double)a[i].d);
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
        CHECK(fabs((double)b[0].q[i] * (double)b[0].d - (double)v[i]) <= (double)b[0].d * 0.5001,
              "number %d: expected %g within %g, found %g", i, (double)v[i], (double)b[0].d * 0.5001,
              (double)b[0].q[i] * (double)b[0].d);
        s[i / 16] += b[0].q[i];
    }
    CHECK(b[0].q[0] == -127 && b[0].sum[1][0] + b[0].sum[1][1] == s[0] && b[0].sum[2][0] + b[0].sum[2][1] == s[1] &&
          b[0].sum[0][0] + b[0].sum[0][1] == s[0] + s[1],
          "the sums of the halves are %d and %d, kept are %d and %d", s[0], s[1], b[0].sum[1][0] + b[0].sum[1][1],
          b[0].sum[2][0] + b[0].sum[2][1]);
    for (i = 0; i < 32; i++) CHECK(b[1].q[i] == 0, "a block that is not finite, number %d: expected 0, found %d", i, b[1].q[i]);
    CHECK(b[1].d != b[1].d && b[1].s[0] != b[1].s[0], "a block that is not finite: expected NaN for its scales, found %g and %g",
          (double)b[1].d, (double)b[1].s[0]);
}

/* ---- attention ---- */
enum { ATT_ROW = 70, ATT_KEY = 192, ATT_WIDTH = GPTI_MAX_D_HEAD, ATT_HEAD = 12 };
static float query[ATT_ROW * ATT_HEAD * ATT_WIDTH], query_kept[(ATT_ROW * ATT_HEAD + 1) * ATT_WIDTH];
static float att[ATT_ROW * ATT_HEAD * ATT_WIDTH], att_want[ATT_ROW * ATT_HEAD * ATT_WIDTH];
static unsigned char att_k[ATT_KEY * ATT_HEAD * ATT_WIDTH * 4], att_v[ATT_KEY * ATT_HEAD * ATT_WIDTH * 4];
static const struct { size_t n_row, n_head, n_kv, d_k, d_v, position, window; float scale, cap, alibi; int kv; } shapes[] = {
    { 1, 2, 2, 64, 64, 0, 0, 0.125f, 0.0f, 0.0f, GPT_KV_F16 },      { 70, 2, 2, 64, 64, 0, 0, 0.125f, 0.0f, 0.0f, GPT_KV_F16 },
    { 1, 9, 3, 64, 64, 100, 0, 0.125f, 0.0f, 0.0f, GPT_KV_F16 },    { 33, 9, 3, 80, 96, 31, 0, 0.1f, 0.0f, 0.0f, GPT_KV_F16 },
    { 13, 12, 1, 33, 21, 90, 0, 0.2f, 30.0f, 0.0f, GPT_KV_F16 },    { 70, 4, 1, 64, 40, 60, 20, 0.125f, 0.0f, 0.0f, GPT_KV_F16 },
    { 1, 4, 1, 64, 64, 150, 33, 0.125f, 0.0f, 0.0f, GPT_KV_F16 },   { 40, 6, 6, 48, 5, 17, 0, 0.15f, 0.0f, 8.0f, GPT_KV_F16 },
    { 70, 2, 1, 64, 64, 10, 0, 0.125f, 0.0f, 0.0f, GPT_KV_F32 },    { 7, 3, 1, 7, 17, 40, 16, 0.4f, 0.0f, 0.0f, GPT_KV_F32 },
    { 70, 2, 1, 64, 64, 10, 0, 0.125f, 0.0f, 0.0f, GPT_KV_Q8_0 },   { 5, 8, 2, 40, 72, 77, 50, 0.15f, 0.0f, 0.0f, GPT_KV_Q8_0 },
    { 70, 2, 1, 64, 64, 10, 0, 0.125f, 0.0f, 0.0f, GPT_KV_Q4_0 },   { 5, 8, 2, 40, 72, 77, 50, 0.15f, 0.0f, 0.0f, GPT_KV_Q4_0 },
    { 33, 9, 3, 80, 96, 31, 0, 0.1f, 0.0f, 0.0f, GPT_KV_Q4_0 },     { 7, 3, 1, 33, 21, 40, 16, 0.2f, 30.0f, 0.0f, GPT_KV_Q4_0 },
    /* the widest heads */
    { 33, 4, 1, 512, 512, 60, 20, 0.04f, 0.0f, 0.0f, GPT_KV_F16 },  { 3, 8, 2, 512, 320, 90, 0, 0.04f, 0.0f, 0.0f, GPT_KV_F32 },
    { 9, 2, 1, 384, 512, 40, 0, 0.05f, 0.0f, 0.0f, GPT_KV_Q8_0 },   { 9, 2, 1, 512, 512, 40, 0, 0.04f, 0.0f, 0.0f, GPT_KV_Q4_0 },
    /* the widest, whose values are their keys; more heads of a kv head than one unit takes */
    { 5, 12, 1, 576, 576, 60, 0, 0.04f, 0.0f, 0.0f, GPT_KV_F16 },   { 3, 11, 1, 576, 576, 90, 20, 0.04f, 0.0f, 0.0f, GPT_KV_F32 },
    { 2, 9, 1, 576, 576, 40, 0, 0.05f, 0.0f, 0.0f, GPT_KV_Q8_0 },   { 2, 12, 1, 576, 576, 40, 0, 0.04f, 0.0f, 0.0f, GPT_KV_Q4_0 },
    /* scores far apart */
    { 20, 4, 2, 8, 8, 100, 0, 4.0f, 0.0f, 0.0f, GPT_KV_F16 },       { 20, 4, 2, 16, 16, 100, 0, 4.0f, 0.0f, 0.0f, GPT_KV_F32 } };

static void make_floats(float *v, size_t n, int wild) {
    static const uint32_t odd[] = { 0x7FC00000u, 0x7F800000u, 0xFF800000u, 0x00000001u, 0x1F7FFFFFu, 0x1F800000u, 0x5F7FFFFFu,
                                    0x5F800000u, 0xDF7FFFFFu, 0x7F7FFFFFu, 0x80000000u, 0x7FFFFFFFu, 0x33800000u };
    size_t i;
    for (i = 0; i < n; i++) v[i] = rng_float() * (wild && rng() % 2 ? (float)ldexp(1.0, (int)(rng() % 24u) - 16) : 1.0f);
    if (wild) for (i = rng() % 300; i < n; i += 500 + rng() % 3000) v[i] = gpti_bits_f32(odd[rng() % 13]);
}

/* Queries, and a cache in which all positions up to the last row's are filled. both: rows see later ones too. */
static gpti_attend make_attend(size_t shape, int wild, int both) {
    float row[ATT_WIDTH];
    gpti_attend a;
    size_t h, p, n_key = shapes[shape].position + shapes[shape].n_row;
    memset(&a, 0, sizeof a);
    a.n_row = shapes[shape].n_row; a.n_head = shapes[shape].n_head; a.n_kv = shapes[shape].n_kv; a.d_k = shapes[shape].d_k;
    a.d_v = shapes[shape].d_v; a.position = shapes[shape].position; a.window = shapes[shape].window; a.kv = shapes[shape].kv;
    a.n_key = n_key;
    if (a.alibi == 0.0f && shape % 3 == 1) {    /* what T5 adds by distance */
        static float rel[64 * GPTI_REL];
        for (h = 0; h < a.n_head; h++) for (p = 0; p < GPTI_REL; p++) {
            const size_t d = p < 32 ? 32 : p > 288 ? 288 : p;
            rel[h * GPTI_REL + p] = (float)((d * 37 + h * 11) % 101) / 40.0f - 1.0f;
        }
        a.rel = rel;
    }
    a.scale = shapes[shape].scale; a.soft_cap = shapes[shape].cap; a.alibi = shapes[shape].alibi;
    a.v_is_k = a.d_k == 576;
    a.ahead = !both ? 0 : a.window ? a.window - 1 : n_key;
    a.q = query; a.stride = a.n_head * a.d_k; a.out = att; a.cache.k = att_k; a.cache.v = att_v; a.cache.cap = ATT_KEY;
    make_floats(query, a.n_row * a.stride, wild);
    memcpy(query_kept, query, sizeof query);
    memset(att_k, 0, sizeof att_k);
    memset(att_v, 0, sizeof att_v);
    for (h = 0; h < a.n_kv; h++) for (p = 0; p < n_key; p++) {
        make_floats(row, a.d_k, wild && rng() % 8 == 0);
        gpti_kv_store_ref(a.kv, att_k + (h * ATT_KEY + (p & ~(size_t)15)) * gpti_kv_bytes(a.kv, a.d_k), row, a.d_k, 16, p & 15);
        if (!a.v_is_k) make_floats(row, a.d_v, wild && rng() % 8 == 0);
        gpti_kv_store_ref(a.kv, att_v + (h * ATT_KEY + p) * gpti_kv_bytes(a.kv, a.d_v), row, a.d_v, 1, 0);
    }
    return a;
}

/* Plain C: softmax in double over the cache's numbers. 13 bits of a query or weight: 2^-14 of the largest there is; of a score
 * that grows with the scale. */
static void test_attend_ref(size_t shape, int both) {
    static float keys[16 * ATT_WIDTH], value[ATT_WIDTH], q[ATT_WIDTH];
    gpti_attend a = make_attend(shape, 0, both);
    const int rotated = a.kv == GPT_KV_Q4_0;
    const double most = (a.kv == GPT_KV_F32 ? 4e-6 : 2e-4) * (a.scale < 1.0f ? 1.0 : 8.0 * (double)a.scale);
    size_t r, h, p, i;
    gpti_attend_ref(&a, 0, gpti_attend_units(&a), &scratch);
    for (r = 0; r < a.n_row; r++) for (h = 0; h < a.n_head; h++) {
        double weight[ATT_KEY], sum = 0.0, o[ATT_WIDTH] = { 0 }, top = -1e300;
        size_t kvh = h / (a.n_head / a.n_kv), pos = a.position + r, first = a.window && pos >= a.window ? pos + 1 - a.window : 0;
        const size_t end = gpti_min(pos + a.ahead, a.position + a.n_row - 1);
        memcpy(q, query_kept + r * a.stride + h * a.d_k, sizeof q);
        if (rotated) gpti_hadamard_body(q, a.d_k);
        for (p = first; p <= end; p++) {
            double s = 0.0;
            gpti_kv_load(a.kv, att_k + (kvh * ATT_KEY + (p & ~(size_t)15)) * gpti_kv_bytes(a.kv, a.d_k), a.d_k, 16, keys);
            for (i = 0; i < a.d_k; i++) s += (double)q[i] * (double)keys[i * 16 + (p & 15)];
            s *= (double)a.scale;
            if (a.soft_cap > 0.0f) s = (double)a.soft_cap * tanh(s / (double)a.soft_cap);
            if (a.alibi > 0.0f) s -= (double)gpti_alibi_slope(h, a.n_head, a.alibi) * ((double)pos - (double)p);
            if (a.rel) {
                const int d = (int)p - (int)pos + GPTI_REL / 2;
                s += (double)a.rel[h * GPTI_REL + (size_t)(d < 0 ? 0 : d >= GPTI_REL ? GPTI_REL - 1 : d)];
            }
            weight[p] = s;
            top = s > top ? s : top;
        }
        for (p = first; p <= end; p++) sum += weight[p] = exp(weight[p] - top);
        for (p = first; p <= end; p++) {
            gpti_kv_load(a.kv, att_v + (kvh * ATT_KEY + p) * gpti_kv_bytes(a.kv, a.d_v), a.d_v, 1, value);
            if (rotated) gpti_hadamard_body(value, a.d_v);
            for (i = 0; i < a.d_v; i++) o[i] += weight[p] / sum * (double)value[i];
        }
        for (i = 0; i < a.d_v; i++) {
            double off = fabs((double)att[(r * a.n_head + h) * a.d_v + i] - o[i]);
            CHECK(off < most, "shape %lu, both ways %d, row %lu, head %lu, number %lu: expected %.9g within %.3g, found %.9g",
                  (unsigned long)shape, both,
                  (unsigned long)r, (unsigned long)h, (unsigned long)i, o[i], most,
                  (double)att[(r * a.n_head + h) * a.d_v + i]);
        }
    }
}

static void test_attend(const gpti_kernels *set, size_t shape, int wild, int both) {
    gpti_attend a = make_attend(shape, wild, both);
    size_t n = a.n_row * a.n_head * a.d_v, i, done;
    gpti_attend_ref(&a, 0, gpti_attend_units(&a), &scratch);
    memcpy(att_want, att, n * sizeof *att);
    memcpy(query, query_kept, sizeof query);
    for (i = gpti_attend_units(&a); i > 0; i--) set->attend(&a, i - 1, i, &scratch);
    CHECK(same_floats(att, att_want, n), "set %s, shape %lu, %s numbers: other attention than ref", set->name, (unsigned long)shape,
          wild ? "wild" : "plain");
    memcpy(query, query_kept, sizeof query);
    memset(att, 0, sizeof att);
    if (both) return;
    for (done = 0; done < shapes[shape].n_row; done += a.n_row) {      /* a few rows at a time */
        a.q = query + done * a.stride; a.out = att + done * a.n_head * a.d_v; a.position = shapes[shape].position + done;
        a.n_row = shapes[shape].n_row - done < 1 + done % 6 ? shapes[shape].n_row - done : 1 + done % 6;
        set->attend(&a, 0, gpti_attend_units(&a), &scratch);
    }
    CHECK(same_floats(att, att_want, n), "set %s, shape %lu, %s numbers: attention shows how rows were cut", set->name,
          (unsigned long)shape, wild ? "wild" : "plain");
}

/* A rotated cache of 4 bits: what comes back is within an 8th of its block's largest number (and what 8 bits take of the
 * scale, 7 times a 256th of that), the rotation is Hadamard's and
 * its own inverse, infinity and NaN end in defined numbers. */
static void test_q4_0(void) {
    static float y[ATT_WIDTH], loaded[16 * ATT_WIDTH];
    static unsigned char entry[16 * ATT_WIDTH];
    size_t d, i, j;
    for (d = 1; d <= ATT_WIDTH; d++) {
        const size_t lanes = d % 3 ? 16 : 1, lane = d % lanes, n = d & (0 - d);
        double norm = 0.0, turned = 0.0;
        make_floats(x, d, 0);
        memcpy(y, x, sizeof y);
        gpti_hadamard_body(y, d);
        for (i = 0; i < d; i++) norm += (double)x[i] * (double)x[i], turned += (double)y[i] * (double)y[i];
        CHECK(fabs(norm - turned) < 1e-5 * norm, "%lu numbers: a norm of %g, rotated %g", (unsigned long)d, norm, turned);
        for (j = 0; j < n; j++) {           /* the sum of a piece comes first */
            double sum = 0.0;
            for (i = 0; i < n; i++) {
                size_t bits = i & j, odd = 0;
                for (; bits; bits &= bits - 1) odd ^= 1;
                sum += odd ? -(double)x[i] : (double)x[i];
            }
            sum /= sqrt((double)n);
            CHECK(fabs(sum - (double)y[j]) < 4e-6, "%lu numbers: number %lu is %g in Hadamard's matrix, %g here", (unsigned long)d,
                  (unsigned long)j, sum, (double)y[j]);
        }
        memset(entry, 0, sizeof entry);
        gpti_kv_store_ref(GPT_KV_Q4_0, entry, x, d, lanes, lane);
        gpti_kv_load(GPT_KV_Q4_0, entry, d, lanes, loaded);
        for (i = 0; i < d; i++) {
            float top = 0.0f, back = loaded[i * lanes + lane];
            for (j = i / 32 * 32; j < d && j < i / 32 * 32 + 32; j++) top = gpti_abs(y[j]) > top ? gpti_abs(y[j]) : top;
            CHECK((double)gpti_abs(back - y[i]) <= (double)top / 7.78, "%lu numbers, number %lu of at most %g: %g came back as %g",
                  (unsigned long)d, (unsigned long)i, (double)top, (double)y[i], (double)back);
            CHECK((gpti_f32_bits(back) & 0x1FFF) == 0, "%lu numbers, number %lu: %g has more than 11 bits", (unsigned long)d,
                  (unsigned long)i, (double)back);
        }
        gpti_hadamard_body(y, d);
        for (i = 0; i < d; i++) CHECK(gpti_abs(y[i] - x[i]) < 1e-6f, "%lu numbers: rotated twice, number %lu is %g instead of %g",
                                      (unsigned long)d, (unsigned long)i, (double)y[i], (double)x[i]);
        x[d / 2] = INFINITY;                /* counts as F16's largest */
        gpti_kv_store_ref(GPT_KV_Q4_0, entry, x, d, lanes, lane);
        gpti_kv_load(GPT_KV_Q4_0, entry, d, lanes, loaded);
        for (i = 0; i < d; i++) CHECK(gpti_abs(loaded[i * lanes + lane]) < 1e6f, "%lu numbers, one infinite: number %lu came back as %g",
                                      (unsigned long)d, (unsigned long)i, (double)loaded[i * lanes + lane]);
        x[d / 2] = NAN;
        gpti_kv_store_ref(GPT_KV_Q4_0, entry, x, d, lanes, lane);
        gpti_kv_load(GPT_KV_Q4_0, entry, d, lanes, loaded);
        i = d / 2;
        CHECK(loaded[i * lanes + lane] != loaded[i * lanes + lane], "%lu numbers, one NaN: it came back as %g", (unsigned long)d,
              (double)loaded[i * lanes + lane]);
    }
}

/* The delta rule: states of any size, whose bits are those of plain C, step after step. */
static void test_delta(const gpti_kernels *set) {
    enum { N = 40, WIDE = 70 };
    static float state[N * WIDE], state_want[N * WIDE], q[N], k[N], v[WIDE];
    int round, step;
    for (round = 0; round < 60; round++) {
        const size_t n = 1 + rng() % N, d = round % 3 ? 1 + rng() % WIDE : 16 * (1 + rng() % 4);
        make_floats(state, n * d, round % 5 > 0);
        memcpy(state_want, state, n * d * sizeof *state);
        for (step = 0; step < 5; step++) {
            const float keep = (float)(rng() % 1000) / 1000.0f, rate = (float)(rng() % 1000) / 1000.0f;
            make_floats(q, n, 0); make_floats(k, n, 0); make_floats(v, d, round % 5 > 0);
            gpti_delta_ref(want, state_want, q, k, v, n, d, keep, rate, round % 2);
            set->delta(x, state, q, k, v, n, d, keep, rate, round % 2);
            CHECK(same_floats(x, want, d) && same_floats(state, state_want, n * d), "set %s, a state of %lu x %lu, step %d: other bits than ref",
                  set->name, (unsigned long)n, (unsigned long)d, step);
        }
    }
}

/* Rotation and the store into the cache: heads of any length, both layouts, numbers of any size. */
static void test_rows(const gpti_kernels *set) {
    static float angle[ATT_WIDTH];
    static unsigned char entry[16 * ATT_WIDTH * 4], entry_want[16 * ATT_WIDTH * 4];
    int round;
    for (round = 0; round < 300; round++) {
        size_t d = 2 * (1 + rng() % (ATT_WIDTH / 2)), n = 2 * (1 + rng() % (d / 2)), n_head = 1 + rng() % 4;
        size_t lanes = round / 4 % 2 ? 16 : 1, lane = rng() % lanes, odd = 1 + rng() % ATT_WIDTH;
        const int kv = round % 4;
        make_floats(angle, n, 0);
        make_floats(x, n_head * d, round % 5 > 0);
        memcpy(want, x, n_head * d * sizeof *x);
        gpti_rope_ref(want, n_head, d, n, angle, round % 2);
        set->rope(x, n_head, d, n, angle, round % 2);
        CHECK(same_floats(x, want, n_head * d), "set %s, heads of %lu, %lu turned: other rope than ref", set->name, (unsigned long)d,
              (unsigned long)n);
        make_floats(x, odd, round % 5 > 0);
        memset(entry, 0xA5, sizeof entry);
        memset(entry_want, 0xA5, sizeof entry);
        gpti_kv_store_ref(kv, entry_want, x, odd, lanes, lane);
        set->kv_store(kv, entry, x, odd, lanes, lane);
        CHECK(memcmp(entry, entry_want, sizeof entry) == 0, "set %s, %lu numbers, cache type %d: another entry than ref", set->name,
              (unsigned long)odd, kv);
        memcpy(want, x, (odd + 1) * sizeof *x);
        gpti_round13_ref(want, odd);
        set->round13(x, odd);
        CHECK(same_floats(x, want, odd + 1), "set %s, %lu numbers, round %d: other 13 bits than ref", set->name, (unsigned long)odd,
              round);
    }
}

static void test_products_ref(void) {
    size_t f;
    for (f = 0; f < GPTI_N_FORMAT; f++) {
        const gpti_format *fmt = &gpti_formats[f];
        test_ref(fmt, 19, fmt->block_len == 256 ? (size_t)768 : (size_t)(352 - 352 % fmt->block_len), 3);
        if (fmt->n_scale == 0) test_ref(fmt, 5, 75, 2);
    }
}

static void test_all_attend_ref(void) {
    size_t i;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) { test_attend_ref(i, 0); test_attend_ref(i, 1); }
}

enum { N_REF = 4 };     /* tests of plain C; behind them, one for each set */

static void test_one_set(void) {
    static const size_t n_rows[] = { 1, 16, 17, 50, 31 }, n_blocks[] = { 1, 2, 3, 8, 9, 33 };
    static const size_t n_toks[] = { 1, 2, 3, 4, 5, 7, 8, 9, 13, 70 };
    const gpti_kernels *set = &sets[test_at - N_REF];
    size_t f, i, round;
    if (!set->usable()) {
        printf("unit_kernels: %s: not on this processor\n", set->name);
        return;
    }
    printf("unit_kernels: %s\n", set->name);
    test_quantize(set);
    test_rows(set);
    test_delta(set);
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) for (round = 0; round < 9; round++) {
        test_attend(set, i, round > 0, 0);
        test_attend(set, i, round > 0, 1);
    }
    for (f = 0; f < GPTI_N_FORMAT; f++) {
        const gpti_format *fmt = &gpti_formats[f];
        for (i = 0, round = 0; i < sizeof n_toks / sizeof n_toks[0]; i++, round++) {
            size_t n_col = 32 * n_blocks[(i + f) % 6], n_row = n_rows[(i + f) % 5];
            if (fmt->block_len == 256) n_col = 256 * (1 + (i + f) % 4);
            if (fmt->n_scale == 0) n_col += i % 3 * 5;
            if (n_col > MAX_COL) n_col = MAX_COL;
            n_col = n_col < fmt->block_len ? fmt->block_len : n_col - n_col % fmt->block_len;
            test_set(set, fmt, n_row, n_col, n_toks[i], 0);
            if (round % 4 == 0) test_set(set, fmt, n_row, n_col, n_toks[i], 1);
        }
    }
}

int main(int argc, char **argv) {
    static test tests[N_REF + GPTI_MAX_SET + 1] = { { "quantise in plain C", test_quantize_ref },
        { "attention in plain C", test_all_attend_ref }, { "cache of 4 bits in plain C", test_q4_0 },
        { "products in plain C", test_products_ref } };
    size_t i;
    n_set = gpti_kernels_list(sets);
    for (i = 0; i < n_set; i++) { tests[N_REF + i].name = sets[i].name; tests[N_REF + i].run = test_one_set; }
    test_run(tests, argc, argv);
    return test_report("unit_kernels");
}
