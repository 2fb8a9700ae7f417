/* Numbers a program can use: choices, hidden states, vectors in and out, the likeliest tokens. Choices are compared with the plain
 * way, each text evaluated from its beginning; all else with what a trace hook or the file's own tensors say. To the bit, wherever
 * the arithmetic is the same. Runs from the repository's root. */
#include "gpt.h"
#include "test.h"
#include <math.h>

static uint32_t seed = 1;
static uint32_t below(uint32_t n) { seed = seed * 1664525u + 1013904223u; return (uint32_t)(((uint64_t)seed * n) >> 32); }

static gpt_model *load(const char *path) {
    gpt_model *m = NULL;
    gpt_error err;
    CHECK(gpt_model_load(&m, path, NULL, &err) == GPT_OK, "%s", err.msg);
    if (!m) exit(test_report("unit_numbers"));
    return m;
}
static gpt_model *story(void) { return load("examples/models/stories.gguf"); }

static gpt_model_info info_of(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    return info;
}

static gpt_session *session_of(const gpt_model *m, uint32_t n_ctx, uint32_t n_batch, const gpt_session *prefix) {
    gpt_session_params p = { 0 };
    gpt_session *s = NULL;
    gpt_error err;
    p.n_ctx = n_ctx; p.n_batch = n_batch; p.n_threads = 1; p.prefix = prefix;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_OK, "%s", err.msg);
    if (!s) exit(test_report("unit_numbers"));
    return s;
}

static int count_rows(void *user, const gpt_trace *t) {
    if (!strcmp(t->name, "embd")) *(size_t *)user += t->n_row;
    return 0;
}

/* ---- Choices -------------------------------------------------------------------------------------------------------- */

enum { MOST = 20, TEXT = 256 };

/* The plain way: text, then prompt and choice as one text, from the first token at which any of them leaves the prompt's. */
static void choose_plainly(const gpt_model *m, const gpt_token *before, size_t n_before, const char *prompt, const char *const *choice,
                           size_t n, float *sum, size_t *n_row) {
    static gpt_token p[TEXT], t[MOST][TEXT];
    static float lp[TEXT];
    gpt_session *s = session_of(m, TEXT, 0, NULL);
    gpt_error err;
    size_t n_p, n_t[MOST], i, j, k, same;
    const unsigned flags = n_before ? GPT_TOKENIZE_CONTINUE : GPT_TOKENIZE_BOS;
    char text[TEXT];
    gpt_tokenize(m, prompt, strlen(prompt), flags, p, TEXT, &n_p, &err);
    if (!n_before && n_p && gpt_token_is_end(m, p[n_p - 1]) && *prompt) n_p--;         /* it goes on */
    same = n_p;
    for (i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%s%s", prompt, choice[i]);
        gpt_tokenize(m, text, strlen(text), flags, t[i], TEXT, &n_t[i], &err);
        if (gpt_token_is_end(m, t[i][n_t[i] - 1])) n_t[i]--;
        for (k = 0; k < same && k < n_t[i] && t[i][k] == p[k]; k++) {}
        same = k < n_t[i] ? k : n_t[i] - 1;
    }
    *n_row = same;
    for (i = 0; i < n; i++) {
        double all = 0;
        gpt_session_reset(s);
        CHECK(!gpt_eval(s, before, n_before, &err) && !gpt_score(s, t[i], n_t[i], lp, &err), "%s", err.msg);
        for (k = same; k < n_t[i]; k++) all += lp[k];
        sum[i] = (float)all;
        for (k = same; k + 1 < n_t[i]; k++) {           /* a token that another has come to by the same way costs nothing more */
            for (j = 0; j < i; j++) if (n_t[j] > k + 1 && !memcmp(t[i] + same, t[j] + same, (k + 1 - same) * sizeof(gpt_token))) break;
            if (j == i) ++*n_row;
        }
    }
    gpt_session_free(s);
}

static const char *const words[] = { " happy", " sad", " happier", " happy and", " a", " a big dog", " a big dog", " a big cat",
    " the", ".", "\n", " \xC3\xA9t\xC3\xA9", "!", " ran to the park", " ran to the house", "e", "ed", "ing to", " Lily", " Tom" };
static const char *const prompts[] = { "Once upon a time there was a boy. He was", "Lily lik", "", "The dog", "One day, she", " and" };

static void test_choices(void) {
    gpt_model *m = story();
    size_t round, i, n, n_row, want_row, best, n_before, n_text;
    gpt_token before[32];
    gpt_error err;
    seed = 3;
    for (round = 0; round < 60; round++) {
        gpt_session *s = session_of(m, 256, round % 3 ? 0 : 5, NULL);
        const char *prompt = prompts[round % (sizeof prompts / sizeof *prompts)], *choice[MOST];
        float out[MOST], again[MOST], want[MOST], *logits = NULL, kept[8];
        gpt_choose_params p = { 0 };
        gpt_hooks hooks = { 0 };
        double sum = 0;
        n = 1 + below(MOST);
        for (i = 0; i < n; i++) choice[i] = words[below(MOST)];
        n_before = 0;
        if (round % 2 || !*prompt) gpt_tokenize(m, "One day a man saw", 17, GPT_TOKENIZE_BOS, before, 32, &n_before, &err);
        if (n_before && gpt_token_is_end(m, before[n_before - 1])) n_before--;
        CHECK(!gpt_eval(s, before, n_before, &err), "%s", err.msg);
        logits = gpt_logits(s);
        if (logits) memcpy(kept, logits, sizeof kept);
        if (round % 4 < 2) gpt_eval(s, NULL, 0, &err);
        hooks.trace = count_rows; hooks.trace_user = &n_row; n_row = 0;
        gpt_session_hooks(s, &hooks, &err);
        CHECK(gpt_choose(s, prompt, choice, n, NULL, out, &best, &err) == GPT_OK, "round %u: %s", (unsigned)round, err.msg);
        choose_plainly(m, before, n_before, prompt, choice, n, want, &want_row);
        for (i = 0; i < n; i++) CHECK(out[i] == want[i], "round %u: '%s' + '%s': %.9g, expected %.9g", (unsigned)round, prompt, choice[i], out[i], want[i]);
        for (i = 0; i < best; i++) CHECK(out[i] < out[best], "round %u: the first of the best", (unsigned)round);
        for (; i < n; i++) CHECK(out[i] <= out[best], "round %u: the best", (unsigned)round);
        /* where nothing comes before the choices, the last token of the text is computed again: its logits were lent */
        CHECK(n_row == want_row + !*prompt, "round %u: %u rows were computed, expected %u", (unsigned)round, (unsigned)n_row, (unsigned)want_row);
        gpt_session_tokens(s, &n_text);
        CHECK(n_text == n_before && gpt_session_tokens(s, NULL) && !memcmp(gpt_session_tokens(s, NULL), before, n_before * sizeof *before), "the text has changed");
        if (logits) CHECK(gpt_logits(s) == logits && !memcmp(kept, logits, sizeof kept), "the logits have gone");
        p.softmax = 1;
        CHECK(!gpt_choose(s, prompt, choice, n, &p, again, NULL, &err), "%s", err.msg);
        for (i = 0; i < n; i++) {
            sum += again[i];
            CHECK(fabs(again[i] / again[best] - exp((double)out[i] - (double)out[best])) < 1e-5, "softmax of '%s'", choice[i]);
        }
        CHECK(fabs(sum - 1) < 1e-5, "probabilities sum to %.9g", sum);
        p.softmax = 0; p.per_byte = 1;
        CHECK(!gpt_choose(s, prompt, choice, n, &p, again, NULL, &err), "%s", err.msg);
        for (i = 0; i < n; i++) CHECK(fabs((double)again[i] * (double)strlen(choice[i]) - (double)out[i]) < 1e-4, "per byte of '%s'", choice[i]);
        /* and on from there, as if nothing had been */
        CHECK(!gpt_eval(s, before, n_before ? 1 : 0, &err), "%s", err.msg);
        gpt_session_free(s);
    }
    gpt_model_free(m);
}

static gpt_poll pause_always(void *user, size_t done, size_t total) { (void)user; CHECK(done <= total, "%u of %u rows", (unsigned)done, (unsigned)total); return GPT_PAUSE; }

static size_t saved(const gpt_session *s, unsigned char *room, size_t size) {
    gpt_writer w = { 0 };
    gpt_error err;
    const size_t n = gpt_session_save_bytes(s, GPT_SAVE_CACHE);
    w.user = room; w.size = size;
    CHECK(n <= size && !gpt_session_save(s, GPT_SAVE_CACHE, &w, &err), "%s", err.msg);
    return n;
}

/* In slices, with a frozen prefix, several in one work space; given up in the middle, saved in the middle. */
static void test_choices_in_slices(void) {
    gpt_model *m = story();
    gpt_session *few = session_of(m, 64, 0, NULL), *s[3];
    gpt_work_params wp = { 0 };
    gpt_session_params sp = { 0 };
    gpt_work *w = NULL;
    gpt_token ids[64];
    float want[3][MOST], out[3][MOST];
    size_t best[3], n, i, k, steps = 0, n_text;
    static unsigned char a[4 << 20], b[4 << 20];
    gpt_session_info info;
    gpt_error err;
    gpt_tokenize(m, "Tom was a good boy. He liked to", 31, GPT_TOKENIZE_BOS, ids, 64, &n, &err);
    if (gpt_token_is_end(m, ids[n - 1])) n--;
    CHECK(!gpt_eval(few, ids, n, &err) && !gpt_session_freeze(few, &err), "%s", err.msg);
    wp.n_batch = 16; wp.n_threads = 1; wp.hooks.poll = pause_always;
    CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
    sp.work = w; sp.prefix = few; sp.n_ctx = 256;
    for (i = 0; i < 3; i++) {
        gpt_session *alone = session_of(m, 256, 0, few);
        CHECK(!gpt_choose(alone, prompts[2 * i], words, MOST, NULL, want[i], NULL, &err), "%s", err.msg);
        gpt_session_free(alone);
        CHECK(!gpt_session_new(&s[i], m, &sp, &err), "%s", err.msg);
        CHECK(!gpt_choose_begin(s[i], prompts[2 * i], words, MOST, NULL, out[i], &best[i], &err), "%s", err.msg);
    }
    while (gpt_work_step(w, &err) == GPT_MORE) {
        gpt_session_tokens(s[0], &n_text);
        CHECK(n_text == n, "in the middle the text has %u tokens", (unsigned)n_text);
        if (++steps == 5) CHECK(gpt_eval(s[0], ids, 1, &err) == GPT_E_STATE, "an evaluation under way: %s", err.msg);
    }
    CHECK(steps > 20, "only %u steps", (unsigned)steps);
    for (i = 0; i < 3; i++) {
        gpt_session_info_get(s[i], &info);
        CHECK(info.result == GPT_OK && info.n_token == n && info.n_computed == n, "text %u: result %d, %u tokens", (unsigned)i, (int)info.result, (unsigned)info.n_token);
        CHECK(!memcmp(out[i], want[i], sizeof want[i]), "text %u: other numbers in a batch", (unsigned)i);
        for (k = 0; k < MOST; k++) CHECK(out[i][k] <= out[i][best[i]], "the best");
    }
    gpt_session_reset(s[0]);
    CHECK(!gpt_eval(s[0], ids, 5, &err), "%s", err.msg);
    n = saved(s[0], a, sizeof a);
    CHECK(!gpt_choose_begin(s[0], "and", words, MOST, NULL, out[0], NULL, &err), "%s", err.msg);
    for (i = 0; i < 40 && gpt_step(s[0], &err) == GPT_MORE; i++) {}
    CHECK(i == 40, "not in the middle");
    k = saved(s[0], b, sizeof b);
    CHECK(k <= n, "a save of %u bytes in the middle, %u before", (unsigned)k, (unsigned)n);
    gpt_end(s[0]);
    gpt_session_info_get(s[0], &info);
    CHECK(info.result == GPT_E_CANCELLED, "given up: %d", (int)info.result);
    CHECK(!gpt_eval(s[0], NULL, 0, &err), "%s", err.msg);
    memset(b, 0, sizeof b);
    CHECK(saved(s[0], b, sizeof b) == n && gpt_logits(s[0]) != NULL, "what was given up left something");
    {
        gpt_session *t = session_of(m, 256, 0, few);
        gpt_token x[2];
        CHECK(!gpt_eval(t, ids, 5, &err), "%s", err.msg);
        x[0] = gpt_sample(t, NULL); x[1] = gpt_sample(s[0], NULL);
        CHECK(x[0] == x[1] && !memcmp(gpt_logits(t), gpt_logits(s[0]), info_of(m).n_vocab * sizeof(float)), "other logits behind it");
        CHECK(!gpt_choose_begin(s[0], "and", words, MOST, NULL, out[0], NULL, &err), "%s", err.msg);
        gpt_step(s[0], &err);
        CHECK(!gpt_session_copy(t, s[0], 1000, &err), "%s", err.msg);
        gpt_session_tokens(t, &k); gpt_session_tokens(s[0], &n_text);
        CHECK(k == n_text, "a copy in the middle has %u tokens of %u", (unsigned)k, (unsigned)n_text);
        CHECK(!gpt_session_rewind(s[0], 3, &err), "%s", err.msg);
        gpt_session_tokens(s[0], &k);
        CHECK(k == 3, "rewound in the middle: %u", (unsigned)k);
        gpt_session_free(t);
    }
    for (i = 0; i < 3; i++) gpt_session_free(s[i]);
    gpt_work_free(w);
    gpt_session_free(few);
    gpt_model_free(m);
}

/* Between two generations, while the newest token still waits: the text goes on as if nothing had been asked. */
static void test_choices_between(void) {
    static const char *const choice[3] = { " dog", " cat", " dragon" };
    gpt_model *m = story();
    gpt_error err;
    size_t round, n, n_plain = 0;
    gpt_token plain[64];
    float kept[2][3], *logits;
    for (round = 0; round < 24; round++) {
        gpt_session *s = session_of(m, 128, round & 8 ? 3 : 0, NULL);
        gpt_generate_params g = { 0 };
        const char *prompt = round & 2 ? " It was a" : NULL;
        g.max_tokens = 12; g.n_draft = round & 16 ? 4 : 0;
        CHECK(!gpt_generate(s, "Once upon a time", &g, NULL, NULL, &err), "%s", err.msg);
        if (round & 4) CHECK(!gpt_eval(s, NULL, 0, &err), "%s", err.msg);
        if (round & 1) CHECK(!gpt_choose(s, prompt, choice, 3, NULL, kept[0], NULL, &err), "%s", err.msg);
        if ((round & 5) == 5) {
            logits = gpt_logits(s);
            CHECK(logits != NULL, "computed, and no logits");
        } else if (round & 1) CHECK(gpt_logits(s) == NULL || round & 4, "nobody has computed what follows the text");
        if (round & 1 && round & 2) {
            CHECK(!gpt_choose(s, prompt, choice, 3, NULL, kept[1], NULL, &err) && !memcmp(kept[0], kept[1], sizeof kept[0]), "asked twice: %s", err.msg);
        }
        CHECK(!gpt_generate(s, NULL, &g, NULL, NULL, &err), "%s", err.msg);
        gpt_session_tokens(s, &n);
        if (!round) memcpy(plain, gpt_session_tokens(s, NULL), (n_plain = n) * sizeof *plain);
        CHECK(n == n_plain && !memcmp(gpt_session_tokens(s, NULL), plain, n * sizeof *plain), "round %u: another text", (unsigned)round);
        gpt_session_free(s);
    }
    gpt_model_free(m);
}

static void test_choices_refused(void) {
    gpt_model *m = story();
    gpt_session *s = session_of(m, 64, 0, NULL);
    const char *none[2] = { " a", "" }, *null[2] = { " a", NULL };
    float out[MOST];
    size_t best, n;
    gpt_error err;
    CHECK(gpt_choose(s, "A", words, 0, NULL, out, &best, &err) == GPT_E_ARG, "no choice: %s", err.msg);
    CHECK(gpt_choose(s, "A", NULL, 2, NULL, out, &best, &err) == GPT_E_ARG, "NULL: %s", err.msg);
    CHECK(gpt_choose(s, "A", none, 2, NULL, out, &best, &err) == GPT_E_ARG && strstr(err.msg, "choice[1]"), "an empty one: %s", err.msg);
    CHECK(gpt_choose(s, "A", null, 2, NULL, out, &best, &err) == GPT_E_ARG && strstr(err.msg, "choice[1]"), "one that is NULL: %s", err.msg);
    CHECK(gpt_choose(s, "A", words, MOST, NULL, out, &best, &err) == GPT_E_CONTEXT, "no room: %s", err.msg);
    CHECK(gpt_choose(s, prompts[0], words, 2, NULL, out, &best, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_choose(NULL, "A", words, 2, NULL, out, &best, &err) == GPT_E_ARG, "no session");
    gpt_session_tokens(s, &n);
    CHECK(n == 0, "the text has %u tokens", (unsigned)n);
    CHECK(gpt_choose(s, "A", words, 2, NULL, NULL, NULL, &err) == GPT_OK, "nothing wanted: %s", err.msg);
    gpt_session_free(s);
    gpt_model_free(m);
}

/* ---- Hidden states, vectors, embeddings ----------------------------------------------------------------------------- */

static const char *const toys[] = { "gpt2", "llama", "llama_q4_k", "llama_f16", "gemma3", "gpt_oss", "falcon_7b", "lfm2_cpp", "bloom", "qwen3" };
enum { N_TOY = sizeof toys / sizeof *toys, N = 24 };

static gpt_model *toy(size_t i) {
    char path[128];
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", toys[i]);
    return load(path);
}

typedef struct seen { float *out, *norm; size_t n_layer, d; } seen;     /* of all positions */
static int see(void *user, const gpt_trace *t) {
    seen *x = (seen *)user;
    float *to = !strcmp(t->name, "out") && (size_t)t->layer + 1 == x->n_layer ? x->out : !strcmp(t->name, "norm") ? x->norm : NULL;
    size_t r;
    for (r = 0; to && r < t->n_row; r++) memcpy(to + (t->position + r) * x->d, t->data + r * t->stride, x->d * sizeof *to);
    return 0;
}

static gpt_result eval_with(gpt_session *s, const gpt_token *ids, size_t n, const gpt_eval_params *p, gpt_error *err) {
    gpt_result r = gpt_eval_begin(s, ids, n, p, err);
    gpt_session_info info;
    if (r) return r;
    for (;;) {
        gpt_session_info_get(s, &info);
        if (info.result != GPT_MORE) return info.result;
        r = gpt_step(s, err);
        if (r != GPT_MORE && r) return r;
    }
}

static void test_hidden(void) {
    size_t i, j, k, b;
    gpt_error err;
    for (k = 0; k < N_TOY; k++) {
        gpt_model *m = toy(k);
        const size_t D = info_of(m).d_model, V = info_of(m).n_vocab;
        gpt_session *s = session_of(m, N, 0, NULL);
        float *out = (float *)calloc(N * D, 4), *norm = (float *)calloc(N * D, 4), *hidden = (float *)calloc(N * D, 4);
        float *again = (float *)calloc(N * D, 4), *logits = (float *)calloc(V, 4), *e = (float *)calloc(D, 4), *f = (float *)calloc(D, 4), lp[N], lp2[N];
        gpt_token ids[N];
        gpt_eval_params p = { 0 };
        gpt_hooks hooks = { 0 };
        seen x;
        x.out = out; x.norm = norm; x.n_layer = info_of(m).n_layer; x.d = D;
        hooks.trace = see; hooks.trace_user = &x;
        for (i = 0; i < N; i++) ids[i] = (gpt_token)((i * 37 + 5) % V);
        gpt_session_hooks(s, &hooks, &err);
        CHECK(!gpt_eval(s, ids, N, &err), "%s", err.msg);
        gpt_session_hooks(s, NULL, &err);
        CHECK(!gpt_head(s, out + (N - 1) * D, logits, &err) && !memcmp(logits, gpt_logits(s), V * 4), "%s: gpt_head of the last row gives other logits", toys[k]);
        for (b = 0; b < 3; b++) {           /* any chunks */
            gpt_session *t = session_of(m, N, b == 0 ? 0 : b == 1 ? 1 : 7, NULL);
            memset(&p, 0, sizeof p);
            p.hidden = again;
            gpt_session_hooks(t, b ? NULL : &hooks, &err);
            CHECK(!eval_with(t, ids, N, &p, &err) && !gpt_logits(t), "%s: %s", toys[k], err.msg);
            if (!b) memcpy(hidden, again, N * D * 4);
            CHECK(!memcmp(hidden, again, N * D * 4), "%s: hidden rows depend on the chunks", toys[k]);
            if (!b && !strstr(toys[k], "f16")) CHECK(!memcmp(hidden, norm, N * D * 4), "%s: hidden is not the norm of the trace", toys[k]);
            CHECK(!gpt_eval(t, NULL, 0, &err) && gpt_logits(t) && !memcmp(logits, gpt_logits(t), V * 4), "%s: logits behind hidden rows", toys[k]);
            gpt_session_free(t);
        }
        for (j = GPT_POOL_MEAN; j <= GPT_POOL_LAST; j++) for (b = 0; b < 3; b++) {
            gpt_session *t = session_of(m, N, b == 0 ? 0 : b == 1 ? 1 : 7, NULL);
            double sum, length = 0, worst = 0;
            memset(&p, 0, sizeof p);
            p.embedding = e; p.pool = (gpt_pool)j; p.raw = 1;
            if (b == 2) { p.hidden = again; p.logprob = lp; }
            memset(again, 0, N * D * 4);
            CHECK(!eval_with(t, ids, N, &p, &err), "%s: %s", toys[k], err.msg);
            if (b == 2) {
                gpt_session_reset(t);
                gpt_score(t, ids, N, lp2, &err);
                CHECK(!memcmp(again, hidden, N * D * 4) && !memcmp(lp, lp2, sizeof lp), "%s: all at once", toys[k]);
            }
            if (!b) memcpy(f, e, D * 4);
            CHECK(!memcmp(e, f, D * 4), "%s: pool %u depends on the chunks", toys[k], (unsigned)j);
            for (i = 0; i < D; i++) {
                size_t r;
                for (r = 0, sum = 0; r < N; r++) sum += hidden[r * D + i] / (double)N;
                if (j != GPT_POOL_MEAN) sum = hidden[(j == GPT_POOL_LAST ? N - 1 : 0) * D + i];
                worst = fabs(sum - e[i]) > worst ? fabs(sum - e[i]) : worst;
            }
            CHECK(worst < 1e-5, "%s: pool %u is off by %.3g", toys[k], (unsigned)j, worst);
            gpt_session_reset(t);
            p.raw = 0; p.hidden = NULL; p.logprob = NULL;
            CHECK(!eval_with(t, ids, N, &p, &err), "%s", err.msg);
            for (i = 0; i < D; i++) length += (double)e[i] * (double)e[i];
            CHECK(fabs(sqrt(length) - 1) < 1e-6, "%s: length %.9g", toys[k], sqrt(length));
            gpt_session_free(t);
        }
        memset(&p, 0, sizeof p);
        p.embedding = e;
        gpt_session_reset(s);
        CHECK(gpt_eval_begin(s, ids, N, &p, &err) == GPT_E_ARG && strstr(err.msg, "pool"), "%s: no pooling said: %s", toys[k], err.msg);
        CHECK(gpt_embed(s, "a", NULL, e, &err) < 0, "%s: an embedding without pooling", toys[k]);
        free(out); free(norm); free(hidden); free(again); free(logits); free(e); free(f);
        gpt_session_free(s);
        gpt_model_free(m);
    }
}

/* The rows of the table of tokens, given as vectors, are these tokens. */
static void test_vectors(void) {
    size_t i, k, n_text;
    gpt_error err;
    for (k = 0; k < N_TOY; k++) {
        gpt_model *m = toy(k);
        const size_t D = info_of(m).d_model, V = info_of(m).n_vocab;
        gpt_session *s = session_of(m, 2 * N, 7, NULL), *t = session_of(m, 2 * N, 0, NULL), *u = session_of(m, 2 * N, 0, NULL);
        float *rows = (float *)calloc(N * D, 4);
        static unsigned char save[1 << 20];
        gpt_token ids[N];
        gpt_eval_params p = { 0 };
        gpt_writer w = { 0 };
        gpt_reader r = { 0 };
        const float scale = strstr(toys[k], "gemma") ? sqrtf((float)D) : 1.0f;
        for (i = 0; i < N; i++) {
            ids[i] = (gpt_token)((i * 37 + 5) % V);
            CHECK(!gpt_model_tensor(m, "token_embd.weight", 0, (size_t)ids[i], 1, rows + i * D, NULL, &err), "%s", err.msg);
        }
        for (i = 0; i < N * D; i++) rows[i] *= scale;
        CHECK(!gpt_eval(t, ids, N, &err) && !gpt_eval(t, ids, 4, &err), "%s", err.msg);
        p.vectors = rows;
        CHECK(!eval_with(s, NULL, N, &p, &err), "%s: %s", toys[k], err.msg);
        CHECK(gpt_logits(s) != NULL, "%s: no logits behind vectors", toys[k]);
        CHECK(gpt_session_tokens(s, &n_text)[0] == -1 && n_text == N, "%s: the text shows %d", toys[k], (int)gpt_session_tokens(s, NULL)[0]);
        w.user = save; w.size = sizeof save;
        CHECK(gpt_session_save(s, GPT_SAVE_TOKENS, &w, &err) == GPT_E_STATE && strstr(err.msg, "vector"), "%s: saved as tokens: %s", toys[k], err.msg);
        CHECK(!gpt_session_save(s, GPT_SAVE_CACHE, &w, &err), "%s: %s", toys[k], err.msg);
        r.user = save; r.size = gpt_session_save_bytes(s, GPT_SAVE_CACHE);
        CHECK(!gpt_eval(s, ids, 4, &err) && !memcmp(gpt_logits(s), gpt_logits(t), V * 4), "%s: vectors give other logits than their tokens", toys[k]);
        CHECK(!gpt_session_restore(u, &r, &err), "%s: %s", toys[k], err.msg);
        CHECK(!gpt_eval(u, ids, 4, &err) && !memcmp(gpt_logits(u), gpt_logits(t), V * 4), "%s: restored vectors", toys[k]);
        CHECK(!gpt_session_copy(u, s, N + 2, &err) && !gpt_eval(u, ids + 2, 2, &err) && !memcmp(gpt_logits(u), gpt_logits(t), V * 4), "%s: copied vectors", toys[k]);
        CHECK(!gpt_session_freeze(u, &err), "%s", err.msg);
        CHECK(gpt_session_rewind(s, N, &err) == GPT_OK, "%s: %s", toys[k], err.msg);
        CHECK(gpt_eval(s, NULL, 0, &err) == GPT_E_STATE, "%s: a vector's logits come back", toys[k]);
        CHECK(gpt_generate(s, NULL, NULL, NULL, NULL, &err) == GPT_E_STATE, "%s: generating behind a vector whose logits have gone: %s", toys[k], err.msg);
        CHECK(!gpt_eval(s, ids, 4, &err) && !memcmp(gpt_logits(s), gpt_logits(t), V * 4), "%s: on behind a rewind to vectors", toys[k]);
        p.logprob = rows;
        CHECK(gpt_eval_begin(s, NULL, 1, &p, &err) == GPT_E_ARG, "scores of vectors");
        p.logprob = NULL;
        CHECK(gpt_eval_begin(s, ids, 1, &p, &err) == GPT_E_ARG, "both ids and vectors");
        CHECK(gpt_eval(s, NULL, 1, &err) == GPT_E_ARG, "neither");
        free(rows);
        gpt_session_free(s); gpt_session_free(t); gpt_session_free(u);
        gpt_model_free(m);
    }
}

/* ---- Look-up: the same text, with guesses --------------------------------------------------------------------------- */

static char written[1 << 16];
static size_t n_written;
static int keep(void *user, const char *text, size_t n) {
    (void)user;
    if (n_written + n < sizeof written) memcpy(written + n_written, text, n);
    n_written += n;
    return 0;
}

static void run_parts(void *user, size_t n, size_t cost, gpt_task task, void *arg) {        /* as so many threads, the last first */
    const size_t k = *(const size_t *)user;
    size_t i;
    (void)cost;
    for (i = k; i-- > 0;) if (n * i / k < n * (i + 1) / k) task(arg, n * i / k, n * (i + 1) / k, (int)i);
}

/* Every format of weights at hand, every cache, drafts of 1 to 16, 1 to 4 threads, greedy and drawn, chunks of all sizes; repeated
 * prompts, so that some guesses are right and some are not; the logits behind it; further text behind that. */
static void test_drafts(void) {
    static const char *const more[] = { "gpt2", "llama", "llama_q4_k", "llama_f16", "llama_q4_0", "gemma3", "gpt_oss", "lfm2_cpp", "qwen35_cpp", "qwen3" };
    static const uint32_t drafts[] = { 1, 2, 5, 16 };
    size_t k, d, i, kv, n, n_rows[2], n_right = 0, n_part;
    gpt_error err;
    for (k = 0; k < sizeof more / sizeof *more; k++) for (kv = 0; kv < 4; kv++) for (d = 0; d < 8; d++) {
        char path[128];
        gpt_model *m;
        gpt_session *s[2];
        gpt_session_params sp = { 0 };
        gpt_session_info info[2];
        gpt_token ids[40];
        gpt_generate_params g = { 0 };
        gpt_hooks hooks = { 0 };
        snprintf(path, sizeof path, "tests/golden/model/%s.gguf", more[k]);
        m = load(path);
        sp.n_ctx = 64; sp.kv = (gpt_kv)kv; sp.n_threads = 1; sp.no_logits = d == 7;
        if (d % 3 == 1) sp.n_batch = 9;
        n_part = 1 + (k + kv + d) % 4;
        if (n_part > 1) {
            hooks.parallel.run = run_parts; hooks.parallel.user = &n_part; hooks.parallel.n_worker = (int)n_part;
            sp.n_threads = 0; sp.hooks = hooks;
        }
        hooks.trace = count_rows;
        for (i = 0; i < 40; i++) ids[i] = (gpt_token)((i % 7 * 37 + 5) % info_of(m).n_vocab);
        g.max_tokens = 20; g.ignore_end = 1;
        if (d % 2) { g.sample.temperature = 1.3f; g.sample.seed = d; g.sample.top_k = 3; }
        for (i = 0; i < 2; i++) {
            CHECK(!gpt_session_new(&s[i], m, &sp, &err), "%s", err.msg);
            g.n_draft = i ? drafts[d % 4] : 0;
            CHECK(!gpt_eval(s[i], ids, 20, &err), "%s", err.msg);
            hooks.trace_user = &n_rows[i]; n_rows[i] = 0;
            gpt_session_hooks(s[i], &hooks, &err);
            CHECK(!gpt_generate(s[i], NULL, &g, NULL, NULL, &err), "%s", err.msg);
            gpt_session_info_get(s[i], &info[i]);
        }
        gpt_session_tokens(s[0], &n);
        CHECK(info[0].finish == info[1].finish && info[0].n_token == info[1].n_token && info[0].n_generated == info[1].n_generated,
            "%s: %u drafts: finish %d, expected %d", more[k], (unsigned)g.n_draft, (int)info[1].finish, (int)info[0].finish);
        CHECK(!memcmp(gpt_session_tokens(s[0], NULL), gpt_session_tokens(s[1], NULL), n * sizeof *ids), "%s, kv %u: another text with %u drafts", more[k], (unsigned)kv, (unsigned)g.n_draft);
        for (i = 0; i < 2; i++) CHECK(!gpt_eval(s[i], ids, 1, &err), "%s", err.msg);
        if (!sp.no_logits) CHECK(!memcmp(gpt_logits(s[0]), gpt_logits(s[1]), info_of(m).n_vocab * sizeof(float)), "%s, kv %u: other logits behind %u drafts", more[k], (unsigned)kv, (unsigned)g.n_draft);
        n_right += n_rows[1] > n_rows[0];
        gpt_session_free(s[0]); gpt_session_free(s[1]);
        gpt_model_free(m);
    }
    CHECK(n_right > 40, "guesses were made in %u cases alone", (unsigned)n_right);
}

/* Text that repeats: stop strings in the middle of guesses, an end token in the text so far, batches, saves, schemas; and how many
 * passes it takes. */
static void test_drafts_text(void) {
    gpt_model *m = story();
    const char *stop[1] = { "e d" };
    char prompt[2000], plain[4096];
    size_t round, i, n_row, n_row_plain = 0, n_plain = 0;
    gpt_error err;
    gpt_session_info info;
    gpt_token one[2] = { 0 };
    prompt[0] = 0;
    for (i = 0; i < 3; i++) strcat(prompt, "The dog saw a red ball. The dog said, \"I want to play with the ball!\" ");
    for (round = 0; round < 8; round++) {
        gpt_session *s[2] = { session_of(m, 256, 0, NULL), NULL };
        gpt_generate_params g = { 0 };
        gpt_hooks hooks = { 0 };
        gpt_constraint_params cp = { 0 };
        gpt_constraint *c = NULL;
        g.max_tokens = 60;
        if (round / 2 == 1) { g.stop = stop; g.n_stop = 1; }
        if (round / 2 == 2) { g.sample.temperature = 0.9f; g.sample.seed = 5; g.ignore_end = 1; }
        if (round / 2 == 3) {
            cp.schema = "{\"type\":\"array\",\"items\":{\"enum\":[\"dog\",\"ball\"]},\"minItems\":6,\"maxItems\":8}";
            CHECK(!gpt_constraint_new(&c, m, &cp, &err), "%s", err.msg);
            g.constraint = c; g.must_finish = 1;
        }
        g.n_draft = round % 2 ? 16 : 0;
        hooks.trace = count_rows; hooks.trace_user = &n_row; n_row = 0;
        if (round % 2) { hooks.poll = pause_always; }
        gpt_session_hooks(s[0], &hooks, &err);
        n_written = 0;
        if (!(round % 2)) CHECK(!gpt_generate(s[0], prompt, &g, keep, NULL, &err), "%s", err.msg);
        else {
            gpt_result r;
            CHECK(!gpt_begin(s[0], prompt, &g, keep, NULL, &err), "%s", err.msg);
            for (i = 0; (r = gpt_step(s[0], &err)) == GPT_MORE; i++) if (i == 900) {         /* saved and restored in the middle */
                static unsigned char room[8 << 20];
                gpt_reader reader = { 0 };
                reader.user = room; reader.size = saved(s[0], room, sizeof room);
                CHECK(!gpt_session_restore(s[0], &reader, &err) && !gpt_resume(s[0], &g, keep, NULL, &err), "%s", err.msg);
            }
            CHECK(!r, "%s", err.msg);
        }
        gpt_session_info_get(s[0], &info);
        if (!(round % 2)) { memcpy(plain, written, n_plain = n_written); n_row_plain = n_row; }
        else {
            CHECK(n_written == n_plain && !memcmp(written, plain, n_plain), "round %u: with guesses %.*s, expected %.*s", (unsigned)round, (int)n_written, written, (int)n_plain, plain);
            CHECK(n_row > n_row_plain || (round != 1 && round != 7), "round %u: no guess was made", (unsigned)round);
        }
        CHECK(!gpt_eval(s[0], one, 1, &err), "%s", err.msg);
        gpt_session_free(s[0]);
        gpt_constraint_free(c);
    }
    gpt_model_free(m);
}

/* The model ends its text while guesses stand behind the end, as the text so far has something there: what is left is what plain
 * writing leaves, and the next turn reuses all of it. Two tokens are far ahead of all, and at this temperature drawn evenly. */
static void test_drafts_end(void) {
    gpt_model *m = story();
    const gpt_token end = info_of(m).eos, unit[4] = { 300, end, 310, 320 };
    const gpt_bias wish[2] = { { 300, 1e6f }, { end, 1e6f } };
    size_t seed_of, i, k, n[2], n_ended = 0, n_more = 0;
    gpt_error err;
    for (seed_of = 0; seed_of < 40; seed_of++) {
        gpt_session *s[2];
        gpt_session_info info[2];
        size_t rows[2] = { 0, 0 };
        for (i = 0; i < 2; i++) {
            gpt_generate_params g = { 0 };
            gpt_hooks hooks = { 0 };
            gpt_token ids[28];
            s[i] = session_of(m, 128, 0, NULL);
            for (k = 0; k < 28; k++) ids[k] = unit[k % 4];
            g.max_tokens = 30; g.n_draft = i ? 16 : 0; g.ignore_end = seed_of % 4 == 3;
            g.sample.temperature = 1e3f; g.sample.seed = seed_of; g.sample.bias = wish; g.sample.n_bias = 2;
            CHECK(!gpt_eval(s[i], ids, 28, &err), "%s", err.msg);
            hooks.trace = count_rows; hooks.trace_user = &rows[i];
            CHECK(!gpt_session_hooks(s[i], &hooks, &err) && !gpt_generate(s[i], NULL, &g, NULL, NULL, &err), "%s", err.msg);
            gpt_session_info_get(s[i], &info[i]);
            gpt_session_tokens(s[i], &n[i]);
        }
        n_ended += info[1].finish == GPT_FINISH_END; n_more += rows[1] > rows[0];
        CHECK(n[0] == n[1] && info[0].finish == info[1].finish && info[0].n_generated == info[1].n_generated &&
            !memcmp(gpt_session_tokens(s[0], NULL), gpt_session_tokens(s[1], NULL), n[0] * sizeof(gpt_token)),
            "seed %u: %u tokens, finish %d, expected %u, %d", (unsigned)seed_of, (unsigned)n[1], (int)info[1].finish, (unsigned)n[0], (int)info[0].finish);
        for (i = 0; i < 2; i++) {
            rows[i] = 0;
            CHECK(!gpt_eval(s[i], unit, 4, &err), "%s", err.msg);
        }
        CHECK(rows[0] == rows[1], "seed %u: the next text takes %u rows, expected %u", (unsigned)seed_of, (unsigned)rows[1], (unsigned)rows[0]);
        CHECK(!memcmp(gpt_logits(s[0]), gpt_logits(s[1]), info_of(m).n_vocab * sizeof(float)), "seed %u: other logits behind it", (unsigned)seed_of);
        gpt_session_free(s[0]); gpt_session_free(s[1]);
    }
    CHECK(n_ended > 20 && n_more > 20, "%u texts ended, %u had wrong guesses", (unsigned)n_ended, (unsigned)n_more);
    gpt_model_free(m);
}

/* What wrong guesses cost at most: two passes, a 64th of one for each token, and what right ones have saved; a guess taken as half a
 * pass. Three tokens drawn evenly repeat all the time, and a guess is right once in three times. */
typedef struct { size_t n_pass, n_row; } passes;
static int count_passes(void *user, const gpt_trace *t) {
    passes *p = (passes *)user;
    if (!strcmp(t->name, "embd")) { p->n_pass++; p->n_row += t->n_row; }
    return 0;
}
static void test_drafts_cost(void) {
    gpt_model *m = story();
    const gpt_bias wish[3] = { { 300, 1000 }, { 310, 1000 }, { 320, 1000 } };
    const size_t n = 200;
    size_t round, right = 0, n_pass = 0;
    gpt_error err;
    for (round = 0; round < 12; round++) {
        gpt_session *s = session_of(m, 256, 0, NULL);
        gpt_generate_params g = { 0 };
        gpt_hooks hooks = { 0 };
        passes p = { 0, 0 };
        const gpt_token ids[6] = { 300, 310, 320, 300, 310, 320 };
        g.max_tokens = n; g.n_draft = round % 2 ? 16 : 3; g.ignore_end = 1;
        g.sample.temperature = 1; g.sample.seed = round; g.sample.bias = wish; g.sample.n_bias = round < 6 ? 3 : 2;
        CHECK(!gpt_eval(s, ids, 6, &err), "%s", err.msg);
        hooks.trace = count_passes; hooks.trace_user = &p;
        CHECK(!gpt_session_hooks(s, &hooks, &err) && !gpt_generate(s, NULL, &g, NULL, NULL, &err), "%s", err.msg);
        right = n - 1 - p.n_pass;       /* the last token is not computed */
        n_pass += p.n_pass;
        CHECK(p.n_row >= p.n_pass && p.n_row - p.n_pass <= 4 + n / 32 + 2 * right, "seed %u: %u rows in %u passes, %u guesses right",
            (unsigned)round, (unsigned)p.n_row, (unsigned)p.n_pass, (unsigned)right);
        CHECK(p.n_row > p.n_pass + 6, "seed %u: %u rows in %u passes", (unsigned)round, (unsigned)p.n_row, (unsigned)p.n_pass);
        gpt_session_free(s);
    }
    CHECK(n_pass < 12 * n - 200, "%u passes for %u tokens", (unsigned)n_pass, (unsigned)(12 * n));
    gpt_model_free(m);
}

/* ---- The likeliest --------------------------------------------------------------------------------------------------- */

static void test_top(void) {
    enum { V = 300 };
    float z[V];
    gpt_logprob top[V + 5];
    size_t round, i, j, k, n;
    seed = 9;
    for (round = 0; round < 200; round++) {
        double sum = 0, most = -1e30;
        for (i = 0; i < V; i++) z[i] = (float)below(round % 3 ? 1000 : 7) / 50.0f;
        if (round % 5 == 1) z[below(V)] = -INFINITY;
        for (i = 0; i < V; i++) most = z[i] > most ? z[i] : most;
        for (i = 0; i < V; i++) sum += exp(z[i] - most);
        k = round % 7 == 0 ? V + 5 : 1 + below(V);
        n = gpt_top(z, V, k, top);
        CHECK(n == (k < V ? k : (size_t)V), "round %u: %u of %u", (unsigned)round, (unsigned)n, (unsigned)k);
        for (i = 0; i < n; i++) {
            const float x = z[top[i].token];
            size_t before = 0;
            for (j = 0; j < V; j++) before += z[j] > x || (z[j] == x && j < (size_t)top[i].token);
            CHECK(before == i, "round %u: place %u of token %d", (unsigned)round, (unsigned)i, (int)top[i].token);
            if (x > -INFINITY) CHECK(fabs(top[i].logprob - (x - most - log(sum))) < 1e-5, "round %u: log p %.9g", (unsigned)round, top[i].logprob);
        }
    }
    z[3] = NAN;
    CHECK(gpt_top(z, V, V, top) == V - 1, "NaN is none of the likeliest");
    CHECK(gpt_top(NULL, V, 1, top) == 0 && gpt_top(z, 0, 1, top) == 0 && gpt_top(z, V, 0, top) == 0, "nothing to choose from");
}

static const test tests[] = { { "choices", test_choices }, { "choices in slices", test_choices_in_slices }, { "choices between", test_choices_between }, { "choices refused", test_choices_refused },
    { "hidden", test_hidden }, { "vectors", test_vectors }, { "drafts", test_drafts }, { "drafts in texts", test_drafts_text }, { "drafts at the end", test_drafts_end }, { "drafts, cost", test_drafts_cost }, { "top", test_top }, { NULL, NULL } };
int main(int argc, char **argv) { test_run(tests, argc, argv); return test_report("unit_numbers"); }
