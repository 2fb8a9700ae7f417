/* Sampling: against transformers' candidates and probabilities, against a full sort, on hostile numbers; the draw. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <math.h>
#include <stdlib.h>
#include "test.h"

typedef struct golden_row {
    int n_vocab, n_history, top_k;
    float repeat, top_p, min_p, temperature, logits[32];
    gpt_token history[8];
    double prob[32];
} golden_row;

static const golden_row golden[] = {
#include "golden/sampling.inc"
};

typedef struct order_row {
    const char *samplers, *breakers;
    int n_vocab, n_history, top_k, allowed, last_n;
    float p[13], logits[32];
    gpt_token history[48];
    double prob[32];
} order_row;

static const order_row orders[] = {
#include "golden/samplers.inc"
};

enum { N = 50000 };
static float logits[N];
static gpti_candidate cand[N], naive[N];
static gpt_token text[200000];
static const gpti_tokenizer *tok;

static uint32_t rng_state = 1;
static uint32_t rng(void) { return (uint32_t)(gpti_mix64(rng_state++) >> 32); }
static float rng_real(float scale) { return ((float)(rng() >> 8) / 8388608.0f - 1.0f) * scale; }

static gpt_sample_params params(float temperature) {
    gpt_sample_params p;
    memset(&p, 0, sizeof p);
    p.temperature = temperature;
    return p;
}

/* A choice from l[n] with candidates in c, to be led by hand. */
static gpti_choice choice(const float *l, size_t n, const gpt_sample_params *p, const gpt_token *history, size_t n_history,
                          gpti_candidate *c) {
    gpti_choice t;
    gpti_str unknown;
    memset(&t, 0, sizeof t);
    t.p = p; t.logits = l; t.n_vocab = n; t.history = history; t.n_history = n_history; t.c = c; t.tok = tok;
    t.breakers = p->dry_breakers ? p->dry_breakers : GPTI_BREAK_AT;
    t.order = gpti_order_on(gpti_order(p->samplers, &unknown), p);
    return t;
}

/* The steps of gpti_sample_logits up to the draw: weights in c, their number returned. */
static size_t distribution(const float *l, size_t n, const gpt_sample_params *p, const gpt_token *history,
                           size_t n_history, gpti_candidate *c, double *sum) {
    gpti_choice t = choice(l, n, p, history, n_history, c);
    gpti_candidates(&t);
    while (t.n && t.order) gpti_walk(&t);
    if (t.n) *sum = gpti_softmax_sum(c, t.n, t.best.logit, t.by > 0.0f ? t.by : 1.0f, 1);
    return t.n;
}

static size_t penalised(const float *l, size_t n, const gpt_sample_params *p, const gpt_token *h, size_t n_h) {
    gpti_choice t = choice(l, n, p, h, n_h, cand);
    gpti_candidates(&t);
    if ((t.order & 15) == GPTI_DO_PENALTIES) gpti_walk(&t);
    return t.n;
}

static size_t cut_of(size_t n, const gpt_sample_params *p) {
    static float l[1000];
    double sum;
    size_t i;
    for (i = 0; i < n; i++) l[cand[i].id] = cand[i].logit;
    return distribution(l, n, p, NULL, 0, cand, &sum);
}

static void test_goldens(void) {
    size_t r, i, n, want;
    for (r = 0; r < sizeof golden / sizeof golden[0]; r++) {
        const golden_row *g = &golden[r];
        gpt_sample_params p = params(g->temperature);
        double sum, off = 0.0;
        p.penalty_last_n = -1;
        p.repeat_penalty = g->repeat;
        p.top_k = g->top_k;
        p.top_p = g->top_p;
        p.min_p = g->min_p;
        n = distribution(g->logits, (size_t)g->n_vocab, &p, g->history, (size_t)g->n_history, cand, &sum);
        for (i = want = 0; i < (size_t)g->n_vocab; i++) want += g->prob[i] > 0.0;
        for (i = 0; i < n; i++) {
            const double d = fabs(cand[i].logit / sum - g->prob[cand[i].id]);
            off = d > off || g->prob[cand[i].id] == 0.0 ? d + (g->prob[cand[i].id] == 0.0) : off;
        }
        CHECK(n == want, "case %d: %d candidates, transformers has %d", (int)r, (int)n, (int)want);
        CHECK(off < 2e-6, "case %d: a probability is off by %g", (int)r, off);
    }
}

/* Against llama.cpp, each sampler alone and many in orders of their own. */
static void test_orders(void) {
    gpt_model *m;
    gpt_error err;
    size_t r, i, n, want;
    if (gpt_model_load(&m, "examples/models/stories.gguf", NULL, &err)) { CHECK(0, "%s", err.msg); return; }
    for (r = 0; r < sizeof orders / sizeof orders[0]; r++) {
        const order_row *g = &orders[r];
        gpt_sample_params p = params(g->p[5]);
        double sum, off = 0.0;
        p.penalty_last_n = -1; p.samplers = g->samplers; p.dry_breakers = g->breakers;
        p.top_k = g->top_k; p.dry_allowed_length = g->allowed; p.dry_last_n = g->last_n;
        p.repeat_penalty = g->p[0]; p.frequency_penalty = g->p[1]; p.presence_penalty = g->p[2]; p.top_p = g->p[3];
        p.min_p = g->p[4]; p.top_n_sigma = g->p[6]; p.typical_p = g->p[7]; p.xtc_threshold = g->p[8]; p.xtc_probability = 1.0f;
        p.dry_multiplier = g->p[9]; p.dry_base = g->p[10]; p.dynatemp_range = g->p[11]; p.dynatemp_exponent = g->p[12];
        tok = &m->tok;
        n = distribution(g->logits, (size_t)g->n_vocab, &p, g->history, (size_t)g->n_history, cand, &sum);
        tok = NULL;
        for (i = want = 0; i < (size_t)g->n_vocab; i++) want += g->prob[i] > 0.0;
        for (i = 0; i < n; i++) {
            const double d = fabs(cand[i].logit / sum - g->prob[cand[i].id]);
            off = d > off || g->prob[cand[i].id] == 0.0 ? d + (g->prob[cand[i].id] == 0.0) : off;
        }
        CHECK(n == want, "case %d, %s: %d candidates, llama.cpp has %d", (int)r, g->samplers, (int)n, (int)want);
        CHECK(off < 2e-6, "case %d, %s: a probability is off by %g", (int)r, g->samplers, off);
    }
    gpt_model_free(m);
}

static int by_preference(const void *a, const void *b) {
    return gpti_worse((const gpti_candidate *)a, (const gpti_candidate *)b) ? 1 : -1;
}

/* gpti_best and gpti_truncate against sorting everything, with many ties. */
static void test_order(void) {
    static const size_t sizes[] = { 1, 2, 3, 7, 16, 17, 100, 1000 };
    size_t s, i, k, t, bad = 0, cut = 0;
    for (s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t n = sizes[s];
        for (t = 0; t < 40; t++) {
            gpt_sample_params p = params(1.0f);
            double sum = 0.0, head = 0.0;
            size_t want;
            k = 1 + rng() % n;
            for (i = 0; i < n; i++) {
                naive[i].logit = cand[i].logit = t % 2 ? (float)(rng() % 5) : rng_real(8.0f);
                naive[i].id = cand[i].id = (gpt_token)i;
            }
            qsort(naive, n, sizeof naive[0], by_preference);
            gpti_best(cand, n, k);
            for (i = 0; i < k; i++) bad += cand[i].id != naive[i].id;
            qsort(cand, n, sizeof cand[0], by_preference);                  /* the rest is still there */
            for (i = 0; i < n; i++) bad += cand[i].id != naive[i].id;
            for (i = 0; i < n; i++) { cand[i].id = (gpt_token)i; sum += exp(naive[i].logit - naive[0].logit); }
            for (i = 0; i < n; i++) cand[naive[i].id].logit = naive[i].logit;
            p.top_p = 0.001f + (float)(rng() % 998) / 1000.0f;
            for (want = 0; want < n && head < p.top_p * sum; want++) head += exp(naive[want].logit - naive[0].logit);
            if (fabs(head / sum - p.top_p) < 1e-5) continue;    /* rounding decides */
            i = cut_of(n, &p);
            cut += i != want;
            while (i-- > 0) cut += cand[i].id != naive[i].id;
        }
    }
    CHECK(bad == 0, "gpti_best: %d differ from a full sort", (int)bad);
    CHECK(cut == 0, "top_p: %d differ from a full sort", (int)cut);
}

/* The first of the largest, among ties, NaN and infinities, at lengths around a block of 16. */
static void test_largest(void) {
    static const float odd[4] = { NAN, -INFINITY, 0.0f, INFINITY };
    float x[70];
    size_t n, t, i, want, bad = 0;
    for (n = 1; n <= 70; n++) for (t = 0; t < 60; t++) {
        for (i = 0; i < n; i++) x[i] = rng() % 8 == 0 ? odd[rng() % (t % 3 + 2)] : t % 2 ? rng_real(8.0f) : (float)(rng() % 5) - 9.0f;
        for (i = want = 0; i < n; i++) if (x[i] > (x[want] == x[want] ? x[want] : -INFINITY)) want = i;
        bad += gpti_largest(x, n) != want;
    }
    CHECK(bad == 0, "gpti_largest: %d differ from a plain search", (int)bad);
}

static void test_greedy(void) {
    static const float a[6] = { 1.0f, 3.0f, -2.0f, 3.0f, NAN, 2.9f };
    gpt_sample_params p = params(0.0f);
    gpt_bias bias[4];
    gpt_token h[3] = { 1, 1, 3 };
    CHECK(gpti_sample_logits(a, 6, NULL, NULL, 0, 0, NULL, NULL) == 1, "ties go to the lowest id");
    p.top_k = 2;
    p.seed = 7;
    CHECK(gpti_sample_logits(a, 6, &p, NULL, 0, 0, NULL, NULL) == 1, "cuts change nothing at temperature 0");
    p.repeat_penalty = 1.0f;
    CHECK(gpti_sample_logits(a, 6, &p, h, 3, 0, NULL, NULL) == 1, "a penalty of 1 is off");
    p.repeat_penalty = 1.5f;
    CHECK(gpti_sample_logits(a, 6, &p, h, 3, 0, cand, NULL) == 5, "seen tokens 1 and 3 become 2.0");
    p.repeat_penalty = 0.0f;
    p.frequency_penalty = 0.05f;
    CHECK(gpti_sample_logits(a, 6, &p, h, 3, 0, cand, NULL) == 3, "1 was seen twice, 3 once");
    p.frequency_penalty = 0.0f;
    p.presence_penalty = 0.2f;
    CHECK(gpti_sample_logits(a, 6, &p, h, 3, 0, cand, NULL) == 5, "1 and 3 were seen");
    p.penalty_last_n = 1;
    CHECK(gpti_sample_logits(a, 6, &p, h, 3, 0, cand, NULL) == 1, "the last token alone is 3");
    p = params(0.0f);
    bias[0].token = 1; bias[0].bias = -INFINITY;
    bias[1].token = 2; bias[1].bias = 5.5f;
    bias[2].token = -1; bias[2].bias = 9.0f;
    bias[3].token = 6; bias[3].bias = 9.0f;
    p.bias = bias;
    p.n_bias = 4;
    CHECK(gpti_sample_logits(a, 6, &p, NULL, 0, 0, cand, NULL) == 2, "-2 + 5.5 wins; ids out of range are ignored");
    p.n_bias = 1;
    CHECK(gpti_sample_logits(a, 6, &p, NULL, 0, 0, cand, NULL) == 3, "1 is banned");
    bias[0].token = bias[1].token = 0;
    bias[0].bias = bias[1].bias = 1.5f;
    p.n_bias = 2;
    CHECK(gpti_sample_logits(a, 6, &p, NULL, 0, 0, cand, NULL) == 0, "biases of one token add up");
}

static void test_penalty_formula(void) {
    static const float a[3] = { 2.0f, -2.0f, 1.0f };
    static const gpt_token h[6] = { 0, 1, 0, 7, -3, 0 };
    gpt_sample_params p = params(1.0f);
    p.repeat_penalty = 2.0f;
    p.frequency_penalty = 0.25f;
    p.presence_penalty = 0.5f;
    CHECK(penalised(a, 3, &p, h, 6) == 3, "three candidates");
    CHECK(cand[0].logit == -0.25f, "2 / 2 - 3 * 0.25 - 0.5 gave %g", cand[0].logit);
    CHECK(cand[1].logit == -4.75f, "-2 * 2 - 0.25 - 0.5 gave %g", cand[1].logit);
    CHECK(cand[2].logit == 1.0f, "unseen 1 gave %g", cand[2].logit);
    for (p.seed = 0; p.seed < 70; p.seed++) text[p.seed] = p.seed < 6 ? 0 : 1;
    CHECK(penalised(a, 3, &p, text, 70) == 3 && cand[0].logit == 2.0f && cand[1].logit == -20.5f,
          "by default the last 64 count, expected logits 2 and -20.5, found %g and %g", cand[0].logit, cand[1].logit);
    p.penalty_last_n = -1;
    (void)penalised(a, 3, &p, text, 70);
    CHECK(cand[0].logit == -1.0f, "negative: the whole text counts, found %g", cand[0].logit);
}

/* Nothing but a valid id ever comes out, whatever goes in; the result is the same each time. */
static void test_hostile(void) {
    static const float v[] = { NAN, INFINITY, -INFINITY, 0.0f, -1.0f, 1e-45f, 3.4e38f, -3.4e38f, 1.0f, 0.5f, 1e-30f };
    enum { V = sizeof v / sizeof v[0] };
    static const int ints[] = { 0, 1, -1, 3, 2147483647, -2147483647 - 1 };
    static const gpt_token h[5] = { 0, -1, 2147483647, 3, 1000 };
    gpt_bias bias[2];
    float a[9];
    int round, i, bad = 0, differ = 0;
    for (round = 0; round < 60000; round++) {
        const size_t n = 1 + rng() % 9;
        gpt_sample_params p = params(v[rng() % V]);
        gpt_token id;
        for (i = 0; i < 9; i++) a[i] = round % 3 ? v[rng() % V] : rng_real(5.0f);
        for (i = 0; i < 2; i++) { bias[i].token = (gpt_token)(rng() % 12) - 2; bias[i].bias = v[rng() % V]; }
        if (rng() % 2) { p.bias = bias; p.n_bias = rng() % 3; }
        p.penalty_last_n = ints[rng() % 6];
        p.top_k = ints[rng() % 6];
        p.repeat_penalty = v[rng() % V];
        p.frequency_penalty = v[rng() % V];
        p.presence_penalty = v[rng() % V];
        p.top_p = v[rng() % V];
        p.min_p = v[rng() % V];
        p.seed = rng();
        id = gpti_sample_logits(a, n, &p, h, rng() % 6, 0, cand, NULL);
        bad += id < 0 || (size_t)id >= n;
        differ += gpti_sample_logits(a, n, &p, h, 0, 0, cand, NULL) != gpti_sample_logits(a, n, &p, h, 0, 0, cand, NULL);
    }
    CHECK(bad == 0, "%d ids out of range", bad);
    CHECK(differ == 0, "%d draws not reproducible", differ);
    for (i = 0; i < 9; i++) a[i] = NAN;
    for (i = 0; i < 2; i++) {
        gpt_sample_params p = params((float)i);
        p.top_p = 0.5f;
        CHECK(gpti_sample_logits(a, 9, &p, h, 0, 0, cand, NULL) == 0, "all NaN: lowest id");
        a[4] = -INFINITY;
        CHECK(gpti_sample_logits(a, 9, &p, h, 0, 0, cand, NULL) == 0, "NaN and -infinity: lowest id");
        a[4] = -3.0f;
        CHECK(gpti_sample_logits(a, 9, &p, h, 0, 0, cand, NULL) == 4, "the only number wins");
        a[7] = INFINITY;
        CHECK(gpti_sample_logits(a, 9, &p, h, 0, 0, cand, NULL) == 7, "infinity beats all");
        CHECK(gpti_sample_logits(a, 1, &p, h, 0, 0, cand, NULL) == 0, "one candidate");
        CHECK(gpti_sample_logits(a, 0, &p, h, 0, 0, cand, NULL) == -1, "no candidate");
        a[4] = a[7] = NAN;
    }
}

static void test_draw(void) {
    static const float a[4] = { 0.0f, 1.0f, 2.0f, 3.0f };
    static const double e[4] = { 0.0320586033, 0.0871443187, 0.2368828181, 0.6439142599 };    /* softmax */
    gpt_sample_params p = params(1.0f);
    int count[4] = { 0, 0, 0, 0 }, bins[64], i, round, out = 0;
    double chi = 0.0;
    uint64_t hash = 0;
    for (i = 0; i < 40000; i++) {           /* seeds and positions alike are independent draws */
        p.seed = (uint64_t)(i / 200);
        count[gpti_sample_logits(a, 4, &p, NULL, (size_t)(i % 200), 0, cand, NULL)]++;
    }
    for (i = 0; i < 4; i++) chi += (count[i] - 40000 * e[i]) * (count[i] - 40000 * e[i]) / (40000 * e[i]);
    CHECK(chi < 16.27, "chi square of 3 degrees is %g", chi);              /* 1 in 1000 */
    for (round = 0; round < 3; round++) {
        memset(bins, 0, sizeof bins);
        for (chi = 0.0, i = 0; i < 64000; i++) {
            const double u = round == 0 ? gpti_uniform(0, (uint64_t)i) : round == 1 ? gpti_uniform((uint64_t)i, 5)
                                        : gpti_uniform((uint64_t)i, (uint64_t)(64000 - i));
            if (!(u >= 0.0 && u < 1.0)) { out++; continue; }
            bins[(int)(u * 64.0)]++;
        }
        for (i = 0; i < 64; i++) chi += (bins[i] - 1000.0) * (bins[i] - 1000.0) / 1000.0;
        CHECK(chi < 103.4, "gpti_uniform, way %d: chi square of 63 degrees is %g", round, chi);
    }
    CHECK(out == 0, "%d draws lie outside of [0, 1)", out);
    p = params(0.8f);
    p.seed = 42;
    p.top_p = 0.95f;
    p.repeat_penalty = 1.1f;
    for (i = 0; i < 1000; i++) logits[i] = rng_real(6.0f);
    for (i = 0; i < 500; i++) {
        text[i] = gpti_sample_logits(logits, 1000, &p, text, (size_t)i, 0, cand, NULL);
        hash = gpti_mix64(hash ^ (uint64_t)text[i]);
    }
    CHECK(hash == 0xED38B57AB49B5BDBu, "a seed gives another text than on other machines: %08x%08x",
          (unsigned)(hash >> 32), (unsigned)hash);
}

/* A large vocabulary, flat or ascending, and a text of 200,000 tokens: minutes if anything were quadratic. */
static void test_large(void) {
    static const int ks[] = { 0, 1, 40, N / 2, N, N + 1 };
    gpt_sample_params p = params(1.0f);
    size_t i, round;
    int bad = 0;
    for (i = 0; i < 200000; i++) text[i] = (gpt_token)(rng() % (N + 10)) - 5;
    p.penalty_last_n = -1;
    p.presence_penalty = 0.5f;
    for (round = 0; round < 18; round++) {
        for (i = 0; i < N; i++) logits[i] = round % 3 == 0 ? 1.0f : round % 3 == 1 ? (float)i * 1e-4f : rng_real(4.0f);
        p.top_k = ks[round / 3];
        p.top_p = 0.999f;
        p.min_p = 0.01f;
        bad += gpti_sample_logits(logits, N, &p, text, 200000, 0, cand, NULL) < 0;
    }
    CHECK(bad == 0, "%d draws failed", bad);
}

static const test tests[] = {
    { "goldens", test_goldens }, { "orders", test_orders }, { "order", test_order }, { "greedy", test_greedy },
    { "penalty_formula", test_penalty_formula }, { "hostile", test_hostile }, { "draw", test_draw },
    { "large", test_large }, { "largest", test_largest }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_sampling");
}
