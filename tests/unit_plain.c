/* Every kernel set against the plain forms of [PLAIN], which are written as the papers write them, in double precision. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"

enum { D = 72, MAX_ROW = 40, N_KEY = 83, D_K = 24, D_V = 40 };

static gpti_kernels sets[GPTI_MAX_SET];
static size_t n_set;
static gpti_scratch scratch;

static uint32_t rng_state = 7;
static float rng_float(void) {                  /* [-2, 2) */
    rng_state = rng_state * 1664525u + 1013904223u;
    return (float)((int32_t)(rng_state >> 8) - 0x800000) * (1.0f / 4194304.0f);
}
static void fill(float *x, size_t n) { while (n > 0) x[--n] = rng_float(); }

static void compare(const char *set, const char *what, const float *found, const double *expected, size_t n, double bound) {
    size_t i;
    for (i = 0; i < n; i++)
        CHECK(fabs((double)found[i] - expected[i]) <= bound, "%s, %s[%d]: expected %.9g within %g, found %.9g", set, what,
              (int)i, expected[i], bound, (double)found[i]);
}

/* 72 products of numbers below 2, summed in f32: within 72 * 4 * 72 * 2^-24 */
static void test_product(void) {
    static float w[MAX_ROW * D], x[D], b[MAX_ROW], out[MAX_ROW];
    static unsigned char panels[4 * D * (MAX_ROW + 8)];
    double expected[MAX_ROW];
    gpti_matmul job;
    size_t i, k;
    fill(w, MAX_ROW * D); fill(x, D); fill(b, MAX_ROW);
    gpti_plain_product(expected, w, x, b, MAX_ROW, D);
    memset(&job, 0, sizeof job);
    job.w.fmt = gpti_format_find(0); job.w.n_row = MAX_ROW; job.w.n_col = D; job.w.data = panels; job.w.packed = 1;
    for (i = 0; i < MAX_ROW; i += GPTI_PANEL)
        gpti_pack(job.w.fmt, D, (const unsigned char *)(w + i * D), gpti_min(MAX_ROW - i, GPTI_PANEL), panels + 4 * i * D);
    job.x = x; job.ld_x = D; job.n_tok = 1; job.out = out; job.ld_out = MAX_ROW; job.bias = b;
    for (k = 0; k < n_set; k++) {
        memset(out, 0, sizeof out);
        sets[k].matmul(&job, 0, gpti_n_panel(MAX_ROW), &scratch);
        compare(sets[k].name, "product", out, expected, MAX_ROW, 1.3e-3);
    }
}

static void test_norm(void) {
    float x[D], w[D], b[D], out[D];
    double expected[D];
    size_t n, k;
    int layer;
    for (layer = 0; layer < 2; layer++) for (n = 1; n <= D; n += 7) {
        fill(x, n); fill(w, n); fill(b, n);
        for (k = 0; k < n; k++) x[k] += 3.0f;   /* a mean to take off */
        gpti_plain_norm(expected, x, n, w, layer ? b : NULL, layer, 1e-5);
        for (k = 0; k < n_set; k++) {
            sets[k].norm(out, x, n, w, layer ? b : NULL, layer ? GPTI_NORM_LAYER : GPTI_NORM_RMS, 1e-5f);
            compare(sets[k].name, layer ? "LayerNorm" : "RMSNorm", out, expected, n, 2e-4 * (n < 8 ? 20 : 1));
        }
    }
}

static void test_rope(void) {
    enum { N = 20, N_HEAD = 2 };                /* 20 of a head's 24 numbers turn */
    float x[N_HEAD * D_K], y[N_HEAD * D_K], cs[N];
    double expected[N_HEAD * D_K];
    size_t h, i, k;
    int half;
    for (i = 0; i < N / 2; i++) {
        cs[i] = (float)cos(11.0 / (double)(i + 1)); cs[N / 2 + i] = (float)sin(11.0 / (double)(i + 1));
    }
    for (half = 0; half < 2; half++) {
        fill(x, N_HEAD * D_K);
        for (i = 0; i < N_HEAD * D_K; i++) expected[i] = (double)x[i];
        for (h = 0; h < N_HEAD; h++) for (i = 0; i < N / 2; i++) {
            double *pair = expected + h * D_K + (half ? i : 2 * i);
            gpti_plain_rope(pair, pair + (half ? N / 2 : 1), 11.0 / (double)(i + 1));
        }
        for (k = 0; k < n_set; k++) {
            memcpy(y, x, sizeof y);
            sets[k].rope(y, N_HEAD, D_K, N, cs, half);
            compare(sets[k].name, half ? "rope of halves" : "rope of pairs", y, expected, N_HEAD * D_K, 1e-6);
        }
    }
}

/* 83 keys in the cache: its keys lie in groups of 16, see [FORWARD] */
static void test_attention(void) {
    static float keys[N_KEY * D_K], values[N_KEY * D_V], k_cache[96 * D_K], v_cache[96 * D_V];
    float q[D_K], scaled[D_K], out[D_V];
    double expected[D_V];
    gpti_attend a;
    size_t i, j, k;
    fill(keys, N_KEY * D_K); fill(values, N_KEY * D_V); fill(q, D_K);
    for (j = 0; j < N_KEY; j++) for (i = 0; i < D_K; i++) k_cache[(j & ~(size_t)15) * D_K + 16 * i + j % 16] = keys[j * D_K + i];
    memcpy(v_cache, values, sizeof values);
    gpti_plain_attention(expected, q, keys, values, N_KEY, D_K, D_V, 0.7);
    memset(&a, 0, sizeof a);
    a.q = scaled; a.out = out; a.cache.k = (unsigned char *)k_cache; a.cache.v = (unsigned char *)v_cache; a.cache.cap = 96;
    a.stride = D_K; a.n_row = a.n_head = a.n_kv = 1; a.d_k = D_K; a.d_v = D_V; a.position = N_KEY - 1; a.n_key = N_KEY;
    a.scale = 0.7f; a.kv = GPT_KV_F32;
    for (k = 0; k < n_set; k++) {
        memcpy(scaled, q, sizeof scaled);
        sets[k].attend(&a, 0, 1, &scratch);
        compare(sets[k].name, "attention", out, expected, D_V, 2e-5);
    }
}

/* A ring of 16 rows, at positions before, at and behind its seam */
static void test_convolution(void) {
    enum { L = 4, CAP = 16 };
    static const size_t at[] = { 0, 1, 3, 15, 16, 17, 40 };
    static float b[D * 41], x[D * 41], ring[CAP * D];
    float w[D * L], c[D], out[D], column[2][41];
    double expected[D];
    gpti_cache cache;
    gpt_session s;
    size_t i, j, k;
    memset(&s, 0, sizeof s);
    s.cache = &cache;
    fill(b, D * 41); fill(x, D * 41); fill(w, D * L); fill(c, D);
    cache.k = NULL; cache.v = (unsigned char *)ring; cache.cap = CAP;
    for (k = 0; k < sizeof at / sizeof *at; k++) {
        for (j = 0; j <= at[k]; j++) for (i = 0; i < D; i++) ring[j % CAP * D + i] = b[j * D + i] * x[j * D + i];
        for (i = 0; i < D; i++) {
            for (j = 0; j <= at[k]; j++) { column[0][j] = b[j * D + i]; column[1][j] = x[j * D + i]; }
            expected[i] = gpti_plain_convolution(w + i * L, L, column[0], column[1], (double)c[i], at[k] + 1);
        }
        gpti_convolve(out, c, w, L, &s, 0, at[k], D);
        compare("all", "convolution", out, expected, D, 2e-5);
    }
}

/* Twenty tokens into one state */
static void test_delta(void) {
    enum { N = 24, W = 40 };
    static float state[N * W], q[N], k[N], v[W], out[W];
    static double plain[N * W], expected[W];
    size_t i, set, step;
    for (set = 0; set < n_set; set++) {
        for (i = 0; i < N * W; i++) plain[i] = state[i] = 0.0f;
        for (step = 0; step < 20; step++) {
            const float keep = 0.5f + 0.02f * (float)step, rate = 0.9f - 0.04f * (float)step;
            fill(q, N); fill(k, N); fill(v, W);
            for (i = 0; i < N; i++) k[i] *= 0.2f;
            gpti_plain_delta(expected, plain, q, k, v, N, W, (double)keep, (double)rate, (int)step < 10);
            sets[set].delta(out, state, q, k, v, N, W, keep, rate, step < 10);
            compare(sets[set].name, "delta rule", out, expected, W, 2e-5);
        }
        compare(sets[set].name, "its state", state, plain, N * W, 2e-5);
    }
}

/* The router, against one that counts for each expert and each group how many are better */
static void test_router(void) {
    enum { E = 12 };
    static const struct { uint32_t gating, n_group, n_group_used, used; int sum_to_1, bias; float scale; } rows[] = {
        { 0, 0, 0, 3, 1, 0, 1.0f }, { 0, 0, 0, 3, 0, 1, 1.0f }, { 0, 3, 1, 4, 0, 0, 2.5f }, { 2, 0, 0, 2, 1, 1, 1.0f }, { 2, 1, 1, 12, 0, 0, 1.5f },
        { 2, 4, 2, 3, 1, 1, 2.5f }, { 2, 6, 5, 8, 1, 1, 1.0f }, { 2, 2, 1, 6, 0, 1, 1.0f }, { 1, 4, 4, 3, 1, 0, 1.0f } };
    size_t r, k, e, j, g, round;
    for (r = 0; r < sizeof rows / sizeof *rows; r++) for (round = 0; round < 50; round++) {
        const size_t n_group = rows[r].n_group ? rows[r].n_group : 1, size = E / n_group;
        float p[2 * E], bias[E], w[E];
        double expected[E], prob[E], score[E], group[E], all = 0, sum = 0;
        uint32_t chosen[E];
        gpti_hparams hp;
        memset(&hp, 0, sizeof hp);
        hp.n_expert = E; hp.n_expert_used = rows[r].used; hp.gating = rows[r].gating; hp.n_group = rows[r].n_group;
        hp.n_group_used = rows[r].n_group_used; hp.expert_scale = rows[r].scale;
        fill(p, E); fill(bias, E);
        for (e = 0; e < E; e++) {
            bias[e] *= 0.3f;
            if (round % 5 == 4) { p[e] = (float)(e % 3); bias[e] = 0.0f; }         /* ties */
            all += exp((double)p[e]);
        }
        for (e = 0; e < E; e++) {
            prob[e] = hp.gating == 2 ? 1.0 / (1.0 + exp(-(double)p[e])) : exp((double)p[e]) / all;
            score[e] = prob[e] + (rows[r].bias ? (double)bias[e] : 0.0);
        }
        for (g = 0; g < n_group; g++) for (group[g] = -1e9, e = 0; e < size; e++) for (j = 0; j < e; j++)     /* its two best, or its best */
            group[g] = fmax(group[g], hp.gating == 2 ? score[g * size + e] + score[g * size + j] : fmax(score[g * size + e], score[g * size + j]));
        for (g = 0; g < n_group && hp.n_group > 1; g++) {
            size_t better = 0;
            for (k = 0; k < n_group; k++) better += group[k] > group[g] || (group[k] == group[g] && k < g);
            for (e = g * size; better >= hp.n_group_used && e < (g + 1) * size; e++) score[e] = -1e9;
        }
        for (e = 0; e < E; e++) {
            size_t better = 0;
            for (k = 0; k < E; k++) better += score[k] > score[e] || (score[k] == score[e] && k < e);
            expected[e] = better < hp.n_expert_used ? prob[e] : 0.0;
            sum += expected[e];
        }
        gpti_route(&hp, rows[r].sum_to_1, rows[r].bias ? bias : NULL, NULL, p, chosen, w);
        for (j = 0; j < hp.n_expert_used; j++) {
            const double want = expected[chosen[j]] / (rows[r].sum_to_1 ? sum : 1.0) * (double)rows[r].scale;
            CHECK(want > 0 && fabs((double)w[j] - want) < 1e-6, "router %u, round %u: weight of expert %u: expected %g, found %g",
                  (unsigned)r, (unsigned)round, (unsigned)chosen[j], want, (double)w[j]);
            expected[chosen[j]] = 0.0;          /* nobody twice */
        }
    }
}

/* Where weights count early, scores alone choose, though their sigmoids may be the same float. */
static void test_early(void) {
    float p[8] = { 20.0f, 30.0f, 25.0f, 10.0f }, w[2];
    uint32_t chosen[2];
    gpti_hparams hp;
    memset(&hp, 0, sizeof hp);
    hp.n_expert = 4; hp.n_expert_used = 2; hp.gating = 2; hp.expert_scale = 1.0f; hp.early_weight = 1;
    gpti_route(&hp, 0, NULL, NULL, p, chosen, w);
    CHECK(chosen[0] == 1 && chosen[1] == 2 && w[0] == 1.0f && w[1] == 1.0f, "experts %u, %u of weight %g, %g", (unsigned)chosen[0],
          (unsigned)chosen[1], (double)w[0], (double)w[1]);
}

static void test_gelu(void) {
    float x[D];
    double expected[D];
    size_t i, k;
    for (k = 0; k < n_set; k++) {
        fill(x, D);
        for (i = 0; i < D; i++) x[i] *= 3.0f;
        for (i = 0; i < D; i++) expected[i] = gpti_plain_gelu((double)x[i]);
        sets[k].activate(x, NULL, D, GPTI_GELU_TANH, NULL);
        compare(sets[k].name, "GELU", x, expected, D, 2e-6);
    }
}

/* As Huang 2024 writes it; of each set of numbers alpha_p, alpha_n, beta, eps. */
static void test_xielu(void) {
    static const float numbers[3][4] = { { 0.8f, 0.9f, 0.5f, -1e-6f }, { 0.3f, -0.2f, 0.9f, -0.25f }, { 2.0f, 1.5f, -0.4f, 0.0f } };
    float x[D];
    double expected[D];
    size_t i, k, r;
    for (r = 0; r < 3; r++) for (k = 0; k < n_set; k++) {
        const float *c = numbers[r];
        fill(x, D);
        for (i = 0; i < D; i++) {
            const double v = x[i] = i % 7 ? x[i] : x[i] * 1e-3f, e = v < (double)c[3] ? v : (double)c[3];
            expected[i] = (double)c[2] * v + (v > 0 ? (double)c[0] * v * v : (double)c[1] * (expm1(e) - v));
        }
        sets[k].activate(x, NULL, D, GPTI_XIELU, c);
        compare(sets[k].name, "xIELU", x, expected, D, 2e-6);
    }
}

static const test tests[] = {
    { "gelu", test_gelu }, { "xielu", test_xielu }, { "product", test_product }, { "norm", test_norm }, { "rope", test_rope }, { "attention", test_attention },
    { "convolution", test_convolution }, { "delta", test_delta }, { "router", test_router }, { "early", test_early }, { NULL, NULL }
};

int main(int argc, char **argv) {
    gpti_kernels all[GPTI_MAX_SET];
    size_t i, n = gpti_kernels_list(all);
    for (i = 0; i < n; i++) if (all[i].usable()) sets[n_set++] = all[i];
    test_run(tests, argc, argv);
    return test_report("unit_plain");
}
