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
    gpt_model_params mp;
    gpt_error err;
    size_t r, i, n, want;
    memset(&mp, 0, sizeof mp);
    mp.header_only = 1;                                 /* DRY asks for the text of tokens, and there are no weights */
    if (gpt_model_load(&m, "tests/golden/bytes_vocab.gguf", &mp, &err)) { CHECK(0, "%s", err.msg); return; }
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
        if (round & 1) {
            const uint32_t before = rng_state;      /* the draws of test_draw come later */
            static const char *const order[] = { NULL, "", "temperature;xtc;typ_p;top_k", "min_p;penalties;dry;top_p;top_p", ";x;;xtc" };
            p.samplers = order[rng() % 5];
            p.top_n_sigma = v[rng() % V]; p.typical_p = v[rng() % V];
            p.xtc_probability = v[rng() % V]; p.xtc_threshold = v[rng() % V];
            p.dry_multiplier = v[rng() % V]; p.dry_base = v[rng() % V];
            p.dry_allowed_length = ints[rng() % 6]; p.dry_last_n = ints[rng() % 6]; p.no_repeat_ngram = ints[rng() % 6];
            p.dynatemp_range = v[rng() % V]; p.dynatemp_exponent = v[rng() % V];
            rng_state = before;
        }
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

/* The kept ids of a distribution, as bits. */
static unsigned kept(const float *l, size_t n, const gpt_sample_params *p) {
    double sum;
    unsigned bits = 0;
    size_t m = distribution(l, n, p, NULL, 0, cand, &sum);
    while (m-- > 0) bits |= 1u << cand[m].id;
    return bits;
}

/* What went wrong elsewhere. */
static void test_known_faults(void) {
    static const float x[4] = { 3.0f, 2.0f, 1.0f, -9.0f }, half[3] = { -0.6931472f, -1.2039728f, -1.6094379f }, two[2] = { 2.0f, -2.0f };
    static const gpt_token once[1] = { 0 };
    gpt_sample_params p = params(1.0f);
    int i, differ = 0;
    p.xtc_probability = 1.0f;
    CHECK(kept(x, 4, &p) == 14, "threshold 0 is 0.1: only the first goes");
    p.xtc_threshold = 0.1f; CHECK(kept(x, 4, &p) == 14, "only the first goes");
    p.xtc_threshold = 0.6f; CHECK(kept(x, 4, &p) == 15, "fewer than two are above");
    p.xtc_threshold = 0.05f; CHECK(kept(x, 4, &p) == 12, "the first and second go");
    p.xtc_threshold = 1e-30f; CHECK(kept(x, 4, &p) == 8, "one stays");
    p = params(1.0f);
    p.typical_p = 0.25f; CHECK(kept(half, 3, &p) == 2, "only the second");
    for (i = 0; i < 100; i++) {
        size_t k;
        for (k = 0; k < 300; k++) logits[k] = rng_real(3.0f);
        p = params(1e-5f); p.typical_p = 0.9999f; p.seed = (uint64_t)i;
        differ += gpti_sample_logits(logits, 300, &p, NULL, 0, 0, cand, NULL) != (gpt_token)gpti_largest(logits, 300);
    }
    CHECK(differ == 0, "typical .9999, temperature towards 0: %d of 100 are not the likeliest", differ);
    p = params(1.0f);
    p.repeat_penalty = 1.1f;
    for (i = 0; i < 20; i++) text[i] = 0;
    penalised(two, 2, &p, text, 20); CHECK(fabs(cand[0].logit - 2 / 1.1) < 1e-6, "20 times is as once: %g", cand[0].logit);
    for (i = 0; i < 20; i++) text[i] = 1;
    penalised(two, 2, &p, text, 20); CHECK(fabs(cand[1].logit + 2.2) < 1e-6, "less is less: %g", cand[1].logit);
    for (i = 20; i < 84; i++) text[i] = 1;
    text[0] = 0;
    penalised(two, 2, &p, text, 84); CHECK(cand[0].logit == 2.0f, "outside of the window: %g", cand[0].logit);
    /* a temperature that is not named, no order, and a greedy choice */
    p = params(0.01f); p.samplers = "top_k"; p.top_k = 2; CHECK(kept(x, 4, &p) == 3, "two");
    for (i = differ = 0; i < 200; i++) { p.seed = (uint64_t)i; differ += gpti_sample_logits(x, 4, &p, NULL, 0, 0, cand, NULL) == 1; }
    CHECK(differ > 30 && differ < 80, "without temperature in the order: %d of 200, expected 54", differ);
    p = params(0.0f); p.samplers = ""; p.no_repeat_ngram = 1; CHECK(gpti_sample_logits(x, 4, &p, once, 1, 0, cand, NULL) == 0, "named off");
    p.samplers = NULL; CHECK(gpti_sample_logits(x, 4, &p, once, 1, 0, cand, NULL) == 1, "the likeliest is in the text");
    p.xtc_probability = 1.0f; p.typical_p = 0.1f; CHECK(gpti_sample_logits(x, 4, &p, once, 1, 0, cand, NULL) == 1, "greedy asks no filter");
}

/* DRY and no_repeat_ngram against looking at every place; with ids that are none. */
static void test_repeats(void) {
    enum { V = 5 };
    static float flat[V];
    size_t round, n, i, k, z, bad = 0, marked = 0;
    for (round = 0; round < 20000; round++) {
        gpt_sample_params p = params(1.0f), q = params(1.0f);
        size_t most[V], window;
        double want[V], sum;
        int gone = 0, ids = 0;
        n = rng() % 40;
        for (i = 0; i < n; i++) text[i] = i > 6 && rng() % 4 ? text[i - 5 - rng() % 2] : (gpt_token)(rng() % (V + 2)) - (rng() % 9 == 0);
        p.dry_multiplier = 0.5f; p.dry_base = 1.5f; p.dry_allowed_length = 1 + (int)(rng() % 4); p.dry_last_n = (int)(rng() % 3) * 12;
        q.no_repeat_ngram = 1 + (int)(rng() % 5);
        window = p.dry_last_n ? gpti_min(n, (size_t)p.dry_last_n) : n;
        for (i = 0; i < V; i++) { most[i] = 0; want[i] = 1.0; }
        for (k = 1; k < n; k++) {                               /* the text ends like what ends k before */
            const gpt_token id = text[n - k];
            for (z = 0; z + k < n && text[n - 1 - k - z] == text[n - 1 - z] && text[n - 1 - z] >= 0; z++) {}
            if (id < 0 || id >= V) continue;
            if (z + 1 >= (size_t)q.no_repeat_ngram) gone |= 1 << id;
            if (k >= window) continue;
            z = gpti_min(z, window - k);
            if (z > most[id]) most[id] = z;
        }
        if (q.no_repeat_ngram == 1) for (i = 0; i < n; i++) if (text[i] >= 0 && text[i] < V) gone |= 1 << text[i];
        for (i = 0, sum = 0; i < V; i++) {
            if (most[i] >= (size_t)p.dry_allowed_length) { want[i] = exp(-0.5 * pow(1.5, (double)most[i] - p.dry_allowed_length)); marked++; }
            sum += want[i];
        }
        for (i = 0; i < V; i++) want[i] /= sum;
        k = distribution(flat, V, &p, text, n, cand, &sum);
        bad += k != V;
        for (i = 0; i < k; i++) bad += fabs(cand[i].logit / sum - want[cand[i].id]) > 1e-6;
        k = distribution(flat, V, &q, text, n, cand, &sum);
        for (i = 0; i < k; i++) ids |= 1 << cand[i].id;
        bad += ids != (gone == (1 << V) - 1 ? 1 : (1 << V) - 1 - gone);
        marked += gone != 0;
    }
    CHECK(bad == 0 && marked > 20000, "%d differ, of %d", (int)bad, (int)marked);
    {
        double sum;                                             /* a text of one token: at most 512 count, and nothing overflows */
        gpt_sample_params p = params(1.0f);
        for (i = 0; i < 200000; i++) text[i] = 3;
        p.dry_multiplier = 1.0f; p.dry_base = 1.01f;
        (void)distribution(flat, V, &p, text, 200000, cand, &sum);
        CHECK(fabs(cand[3].logit / (double)cand[0].logit - exp(-pow(1.01, 510))) < 1e-9, "at most 512 count");
        p.dry_base = 3e38f; p.dry_multiplier = 3e38f;
        CHECK(gpti_sample_logits(flat, V, &p, text, 200000, 0, cand, NULL) != 3, "nothing overflows");
        CHECK(gpti_sample_logits(flat, 4, &p, text, 200000, 0, cand, NULL) != 3, "nothing overflows");
    }
}

/* 100,000 draws for each of many combinations fit the distribution, XTC at a probability too. */
static void test_fit(void) {
    enum { V = 24, N_DRAW = 100000 };
    float l[V];
    size_t round, i, k, n;
    for (round = 0; round < 24; round++) {
        gpt_sample_params p = params(0.9f), q;
        double want[V], sum, chi = 0.0, share[2];
        static int count[V];
        int way, degrees = -1;
        for (i = 0; i < V; i++) { l[i] = rng_real(2.0f); want[i] = 0; count[i] = 0; }
        for (i = 0; i < 30; i++) text[i] = (gpt_token)(i % 7);
        if (round & 1) { p.typical_p = 0.8f; p.dynatemp_range = 0.5f; }
        if (round & 2) { p.top_n_sigma = 1.5f; p.no_repeat_ngram = 3; }
        if (round & 4) { p.dry_multiplier = 0.7f; p.top_p = 0.9f; }
        if (round & 8) { p.xtc_probability = 0.3f; p.xtc_threshold = 0.08f; }
        if (round & 16) p.samplers = "temperature;xtc;dry;typ_p;min_p;top_n_sigma";
        if (round & 16) p.min_p = 0.05f;
        share[1] = p.xtc_probability; share[0] = 1 - share[1];
        for (way = 0; way < 2; way++) {
            q = p;
            q.xtc_probability = (float)way;
            n = distribution(l, V, &q, text, 30, cand, &sum);
            for (i = 0; i < n; i++) want[cand[i].id] += share[way] * cand[i].logit / sum;
        }
        for (k = 0; k < N_DRAW; k++) {
            p.seed = k + round * N_DRAW;
            count[gpti_sample_logits(l, V, &p, text, 30, 0, cand, NULL)]++;
        }
        for (i = 0; i < V; i++) {
            if (want[i] == 0) { CHECK(!count[i], "round %d: token %d was left out", (int)round, (int)i); continue; }
            degrees++;
            chi += (count[i] - N_DRAW * want[i]) * (count[i] - N_DRAW * want[i]) / (N_DRAW * want[i]);
        }
        /* Wilson & Hilferty 1931: 1 in 10,000 */
        if (degrees > 0) CHECK(chi < degrees * pow(1 - 2.0 / (9 * degrees) + 3.72 * sqrt(2.0 / (9 * degrees)), 3),
                               "round %d: chi square of %d degrees is %g", (int)round, degrees, chi);
    }
}

/* ---- In generations, with the bundled model ---- */

typedef struct hooked { size_t calls, n_vocab; int push, polls; gpt_session *ended; } hooked;
static void on_logits(void *user, const gpt_session *s, float *l, size_t n_vocab) {
    hooked *h = (hooked *)user;
    size_t n, i;
    const gpt_token *ids = gpt_session_tokens(s, &n);
    h->calls++;
    h->n_vocab = n_vocab;
    if (h->push >= 0) l[h->push] += 100.0f;
    for (i = 0; i < n_vocab && h->push < 0; i++) l[i] = i == (size_t)ids[n - 1] / 2 ? 5.0f : -NAN;      /* by the text */
    if (h->ended) gpt_end(h->ended);
}
static gpt_poll on_poll(void *user, size_t done, size_t total) { (void)user; (void)done; (void)total; return GPT_PAUSE; }

static void test_generation(void) {
    static gpt_token want[200];
    static unsigned char save[1 << 16];
    static const char *const ban[] = { "zq" };
    static const gpt_bias back = { 7, -100.0f };
    gpt_model *m;
    gpt_session *s, *t, *frozen, *branch;
    gpt_session_params sp;
    gpt_generate_params g;
    gpt_hooks pause;
    gpt_error err;
    hooked h;
    size_t n, n_vocab, k;
    int way, masked;
    float *row;
    memset(&sp, 0, sizeof sp); memset(&pause, 0, sizeof pause); memset(&h, 0, sizeof h);
    sp.n_ctx = 128; pause.poll = on_poll;
    if (gpt_model_load(&m, "examples/models/stories.gguf", NULL, &err)) { CHECK(0, "%s", err.msg); return; }
    n_vocab = m->hp.n_vocab;
    CHECK(!gpt_session_new(&s, m, &sp, &err) && !gpt_session_new(&t, m, &sp, &err) && !gpt_session_new(&frozen, m, &sp, &err), "%s", err.msg);
    for (k = 0; k < 12; k++) {
        masked = (int)(k + k / 4) & 1;
        memset(&g, 0, sizeof g);
        g.max_tokens = 20; g.ignore_end = 1; g.sample.seed = 5 + k; g.sample.temperature = k == 11 ? 0.0f : 1.1f;
        if (masked) { g.ban = ban; g.n_ban = 1; }
        if (k & 1) { g.sample.typical_p = 0.9f; g.sample.dry_multiplier = 0.8f; g.sample.dry_breakers = ".,"; g.sample.dry_last_n = 50; }
        if (k & 2) { g.sample.xtc_probability = 0.5f; g.sample.xtc_threshold = 0.05f; g.sample.no_repeat_ngram = 2; g.sample.dynatemp_range = 0.4f; }
        if (k & 4) { g.sample.top_n_sigma = 2.0f; g.sample.dry_base = 1.3f; g.sample.dry_allowed_length = 1; g.sample.dynatemp_exponent = 2.0f; }
        if (k & 8) g.sample.samplers = "dry;top_k;temperature;penalties;xtc;typ_p";
        if (k & 8) g.sample.top_k = 60;
        for (way = 0; way < 4; way++) {                 /* in one go; in slices; with a hook that does nothing; saved after each step */
            gpt_result r;
            gpt_generate_params q = g;
            const gpt_token *ids;
            char order[64];
            gpt_session_reset(s);
            h.push = 7; h.calls = 0; h.ended = NULL;
            if (way == 2) { q.logits = on_logits; q.logits_user = &h; h.push = 7; q.sample.bias = &back; q.sample.n_bias = 1; }
            if (g.sample.samplers) { strcpy(order, g.sample.samplers); q.sample.samplers = order; }     /* copied: it may go */
            gpt_session_hooks(s, way == 1 || way == 2 ? &pause : NULL, &err);
            CHECK(!gpt_begin(s, "Once upon a time there was a dog. The dog", &q, NULL, NULL, &err), "%s", err.msg);
            memset(order, 'x', sizeof order - 1);
            while ((r = gpt_step(s, &err)) == GPT_MORE) if (way == 3) {
                gpt_writer w;
                gpt_reader rd;
                gpt_session *x = s;
                memset(&w, 0, sizeof w); memset(&rd, 0, sizeof rd);
                w.user = save; w.size = sizeof save; rd.user = save; rd.size = gpt_session_save_bytes(s, GPT_SAVE_TOKENS);
                CHECK(!gpt_session_save(s, GPT_SAVE_TOKENS, &w, &err) && !gpt_session_restore(t, &rd, &err) && !gpt_resume(t, NULL, NULL, NULL, &err), "%s", err.msg);
                s = t; t = x;
                gpt_session_reset(t);
            }
            CHECK(!r, "%s", err.msg);
            ids = gpt_session_tokens(s, &n);
            if (!way) memcpy(want, ids, n * sizeof *want);
            CHECK(n > 20 && !memcmp(ids, want, n * sizeof *want), "row %d, mask %d, way %d: another text", (int)k, masked, way);
            if (way == 2) CHECK(h.calls == 20 && h.n_vocab == n_vocab, "the hook was called %d times for 20 tokens", (int)h.calls);
        }
    }
    /* the hook alone decides, greedy and by a draw; the row of the session, and a frozen one's, stay as they are */
    memset(&g, 0, sizeof g);
    g.logits = on_logits; g.logits_user = &h; g.max_tokens = 6; h.push = -1;
    CHECK(!gpt_eval(frozen, want, 12, &err) && !gpt_session_freeze(frozen, &err), "%s", err.msg);
    sp.prefix = frozen;
    CHECK(!gpt_session_new(&branch, m, &sp, &err), "%s", err.msg);
    row = (float *)malloc(n_vocab * sizeof *row);
    for (way = 0; row && way < 4; way++) {
        gpt_session *u = way < 2 ? branch : s;
        g.sample.temperature = (float)(way & 1);
        h.calls = 0;
        if (way < 2) CHECK(!gpt_session_rewind(u, 12, &err), "%s", err.msg);
        else { gpt_session_reset(u); CHECK(!gpt_eval(u, want, 12, &err), "%s", err.msg); }
        memcpy(row, u->last_logits, n_vocab * sizeof *row);
        g.max_tokens = 1;
        CHECK(!gpt_generate(u, NULL, &g, NULL, NULL, &err) && u->token[12] == want[11] / 2 && h.calls == 1, "way %d: token %d after %d calls, expected %d", way, (int)u->token[12], (int)h.calls, (int)want[11] / 2);
        if (way < 2) CHECK(!memcmp(frozen->last_logits, row, n_vocab * sizeof *row), "a frozen row is another");
        CHECK(!gpt_session_rewind(u, 12, &err) && !gpt_eval(u, NULL, 0, &err) && !memcmp(u->last_logits, row, n_vocab * sizeof *row), "the row is another");
    }
    free(row);
    h.ended = s;                                        /* ends the generation from within */
    g.max_tokens = 9;
    CHECK(!gpt_generate(s, NULL, &g, NULL, NULL, &err) && s->n_token <= 13, "gpt_end in the hook: %d tokens, %s", (int)s->n_token, err.msg);
    memset(&g, 0, sizeof g);
    g.sample.samplers = "top_k;top_q;min_p";
    CHECK(gpt_begin(s, NULL, &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "'top_q'"), "%s", err.msg);
    CHECK(gpt_generate(s, NULL, &g, NULL, NULL, &err) == GPT_E_ARG, "%s", err.msg);
    CHECK(!gpt_eval(s, want, 3, &err) && gpt_sample(s, &g.sample) >= 0, "gpt_sample passes over it");
    g.sample.samplers = NULL;
    CHECK(!gpt_begin(s, NULL, &g, NULL, NULL, &err), "%s", err.msg);
    g.sample.samplers = "temp";
    CHECK(gpt_resume(s, &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "'temp'"), "%s", err.msg);
    g.sample.samplers = NULL;
    g.sample.dry_breakers = "0123456789012345678901234567890123456789012345678901234567890123";
    CHECK(gpt_resume(s, &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "63"), "%s", err.msg);
    gpt_session_free(branch);
    gpt_session_free(frozen);
    gpt_session_free(s);
    gpt_session_free(t);
    gpt_model_free(m);
}

static const test tests[] = {
    { "goldens", test_goldens }, { "orders", test_orders }, { "order", test_order }, { "greedy", test_greedy },
    { "penalty_formula", test_penalty_formula }, { "hostile", test_hostile }, { "draw", test_draw },
    { "large", test_large }, { "known_faults", test_known_faults }, { "repeats", test_repeats }, { "fit", test_fit },
    { "generation", test_generation },
    { "largest", test_largest }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_sampling");
}
