/* Trace hooks that write: what the API marks with a star counts, in the right place and for the right text; the mark that
 * such a text has; attention's weights with every cache, and the experts that a layer chose. What the events hold is tested
 * by unit_model. Runs from the repository's root. */
#include "gpt.h"
#include "test.h"

#include <math.h>

enum { N_TOKEN = 24, MAX_VOCAB = 1024 };

static const char *const stars[] = { "embd", "q", "k", "v", "q_rope", "att", "state", "attn_out", "ffn_gate", "ffn_up", "ffn_down", "out" };

static gpt_model *load(const char *name) {
    gpt_model *m = NULL;
    gpt_error err;
    char path[128];
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    CHECK(!gpt_model_load(&m, path, NULL, &err), "%s: %s", path, err.msg);
    if (!m) exit(test_report("unit_trace"));
    return m;
}
static gpt_session *new_session(const gpt_model *m, const gpt_session_params *p) {
    gpt_session *s = NULL;
    gpt_error err;
    CHECK(!gpt_session_new(&s, m, p, &err), "%s", err.msg);
    if (!s) exit(test_report("unit_trace"));
    return s;
}
static uint32_t n_vocab_of(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    return info.n_vocab;
}

/* What the hook does: to the event of that name, in that layer (-1: every), from column first on, n columns (0: all) of each
 * row count times scale, and add is added. Of one text, or of all. */
typedef struct writer {
    const char *name;
    int layer;
    size_t first, n;
    float scale, add;
    const gpt_session *only;
    int says;                   /* what it returns when it has written */
    size_t n_seen;
} writer;
static int on_trace(void *user, const gpt_trace *t) {
    writer *w = (writer *)user;
    size_t r, c;
    if (!w->name || strcmp(t->name, w->name) || (w->layer >= 0 && t->layer != w->layer) || (w->only && t->session != w->only)) return 0;
    w->n_seen++;
    for (r = 0; r < t->n_row; r++) for (c = w->first; c < t->n_col && (!w->n || c < w->first + w->n); c++)
        t->data[r * t->stride + c] = t->data[r * t->stride + c] * w->scale + w->add;
    return w->says;
}

static gpt_session_params params_of(writer *w, int threads) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = 64; p.n_threads = threads; p.kv = GPT_KV_F32;
    p.hooks.trace = on_trace; p.hooks.trace_user = w;
    return p;
}
static void tokens_of(const gpt_model *m, gpt_token *ids) {
    const gpt_token n = (gpt_token)n_vocab_of(m);
    uint32_t x = 9;
    int i;
    for (i = 0; i < N_TOKEN; i++) { x = x * 1664525u + 1013904223u; ids[i] = (gpt_token)(x >> 8) % n; }
}
static void eval(gpt_session *s, const gpt_token *ids, size_t n_chunk) {
    gpt_error err;
    size_t i;
    for (i = 0; i < N_TOKEN; i += n_chunk)
        CHECK(!gpt_eval(s, ids + i, i + n_chunk > N_TOKEN ? N_TOKEN - i : n_chunk, &err), "%s", err.msg);
}
static void logits_of(const gpt_model *m, writer *w, int threads, size_t n_chunk, float *out) {
    const gpt_session_params p = params_of(w, threads);
    gpt_session *s = new_session(m, &p);
    gpt_token ids[N_TOKEN];
    tokens_of(m, ids);
    eval(s, ids, n_chunk);
    memcpy(out, gpt_logits(s), n_vocab_of(m) * sizeof *out);
    gpt_session_free(s);
}

/* Every event with a star changes the logits, to the same bits in chunks and on threads; one that is written as it was
 * changes nothing. */
static void stars_count(const char *name) {
    static float plain[MAX_VOCAB], a[MAX_VOCAB], b[MAX_VOCAB];
    gpt_model *m = load(name);
    const size_t bytes = n_vocab_of(m) * sizeof *a;
    writer w;
    size_t i, seen = 0;
    memset(&w, 0, sizeof w);
    logits_of(m, &w, 1, N_TOKEN, plain);
    for (i = 0; i < sizeof stars / sizeof *stars; i++) {
        memset(&w, 0, sizeof w);
        w.name = stars[i]; w.layer = 0; w.scale = 1; w.says = 1;
        if (!strcmp(stars[i], "embd")) w.layer = -1;
        logits_of(m, &w, 1, N_TOKEN, a);
        if (!w.n_seen) continue;                /* such a model has none */
        seen++;
        CHECK(!memcmp(plain, a, bytes), "%s: %s written as it was: other logits", name, stars[i]);
        w.scale = 0.5f; w.add = 0.25f;
        logits_of(m, &w, 1, N_TOKEN, a);
        CHECK(memcmp(plain, a, bytes), "%s: %s: what the hook wrote does not count", name, stars[i]);
        logits_of(m, &w, 2, 5, b);
        CHECK(!memcmp(a, b, bytes), "%s: %s: other logits in chunks", name, stars[i]);
    }
    CHECK(seen >= 8, "%s: only %lu events", name, (unsigned long)seen);
    gpt_model_free(m);
}

typedef struct both { writer w; float last[64]; size_t d; } both;       /* last: the last row's "out", before it is written */
static int last_out(void *user, const gpt_trace *t) {
    both *b = (both *)user;
    if (!strcmp(t->name, "out") && t->n_col <= 64) {
        memcpy(b->last, t->data + (t->n_row - 1) * t->stride, t->n_col * sizeof *b->last);
        b->d = t->n_col;
    }
    return on_trace(&b->w, t);
}
/* Steering: what is added to the last layer's "out" is what gpt_head makes of the sum */
static void steering(const char *name) {
    static float a[MAX_VOCAB], b[MAX_VOCAB];
    gpt_model *m = load(name);
    gpt_model_info info;
    gpt_session_params p;
    gpt_session *s;
    gpt_token ids[N_TOKEN];
    gpt_error err;
    both x;
    size_t i;
    gpt_model_info_get(m, &info);
    memset(&x, 0, sizeof x);
    x.w.name = "out"; x.w.layer = (int)info.n_layer - 1; x.w.scale = 1; x.w.add = 0.5f; x.w.says = 1;
    p = params_of(&x.w, 1);
    p.hooks.trace = last_out; p.hooks.trace_user = &x;
    s = new_session(m, &p);
    tokens_of(m, ids);
    eval(s, ids, N_TOKEN);
    memcpy(a, gpt_logits(s), info.n_vocab * sizeof *a);
    for (i = 0; i < x.d; i++) x.last[i] += 0.5f;
    CHECK(x.d && !gpt_head(s, x.last, b, &err), "%s", err.msg);
    CHECK(!memcmp(a, b, info.n_vocab * sizeof *a), "%s: steered logits are not those of the sum", name);
    gpt_session_free(s);
    gpt_model_free(m);
}

/* Two texts in one pass, the hook writes into one: the other has the bits of before, and no mark */
static void one_of_two(void) {
    static float plain[MAX_VOCAB], changed[MAX_VOCAB];
    gpt_model *m = load("llama");
    const size_t bytes = n_vocab_of(m) * sizeof *plain;
    gpt_work_params wp;
    gpt_session_params p;
    gpt_session_info info;
    gpt_session *a, *b;
    gpt_work *work = NULL;
    gpt_token ids[N_TOKEN];
    gpt_error err;
    writer w;
    memset(&w, 0, sizeof w);
    logits_of(m, &w, 1, N_TOKEN, plain);
    w.name = "attn_out"; w.layer = -1; w.scale = 0; w.says = 1;
    logits_of(m, &w, 1, N_TOKEN, changed);
    memset(&wp, 0, sizeof wp);
    memset(&p, 0, sizeof p);
    wp.hooks = params_of(&w, 1).hooks; wp.n_threads = 1;
    CHECK(!gpt_work_new(&work, m, &wp, &err), "%s", err.msg);
    p.n_ctx = 64; p.kv = GPT_KV_F32; p.work = work;
    a = new_session(m, &p);
    b = new_session(m, &p);
    w.only = a;
    tokens_of(m, ids);
    CHECK(!gpt_eval_begin(a, ids, N_TOKEN, NULL, &err) && !gpt_eval_begin(b, ids, N_TOKEN, NULL, &err), "%s", err.msg);
    while (gpt_work_step(work, &err) == GPT_MORE) { }
    CHECK(!memcmp(gpt_logits(a), changed, bytes) && !memcmp(gpt_logits(b), plain, bytes), "the hook's text alone should change");
    gpt_session_info_get(a, &info);
    CHECK(info.changed == 1, "no mark");
    gpt_session_info_get(b, &info);
    CHECK(info.changed == 0, "a mark of another text");
    gpt_session_free(a);
    gpt_session_free(b);
    gpt_work_free(work);
    gpt_model_free(m);
}

static size_t nowhere(void *user, const void *src, size_t n) { (void)user; (void)src; return n; }

/* Saving and freezing are refused until the text is empty again; copies have the mark */
static void marks(void) {
    gpt_model *m = load("gpt2");
    gpt_session_params p;
    gpt_session_info info;
    gpt_session *s, *copy;
    gpt_token ids[N_TOKEN];
    gpt_writer to;
    gpt_error err;
    writer w;
    memset(&w, 0, sizeof w);
    memset(&to, 0, sizeof to);
    to.write = nowhere;
    w.name = "out"; w.layer = 1; w.scale = 1; w.says = 1;
    p = params_of(&w, 1);
    s = new_session(m, &p);
    copy = new_session(m, &p);
    tokens_of(m, ids);
    eval(s, ids, N_TOKEN);
    gpt_session_info_get(s, &info);
    CHECK(info.changed == 1, "no mark");
    CHECK(gpt_session_save(s, GPT_SAVE_TOKENS, &to, &err) == GPT_E_STATE && strstr(err.msg, "trace hook"), "%s", err.msg);
    CHECK(gpt_session_save(s, GPT_SAVE_CACHE, &to, &err) == GPT_E_STATE, "%s", err.msg);
    CHECK(gpt_session_freeze(s, &err) == GPT_E_STATE && strstr(err.msg, "trace hook"), "%s", err.msg);
    w.name = NULL;
    CHECK(!gpt_session_copy(copy, s, N_TOKEN, &err), "%s", err.msg);
    CHECK(gpt_session_freeze(copy, &err) == GPT_E_STATE, "a copy's mark: %s", err.msg);
    CHECK(!gpt_session_rewind(s, 4, &err) && gpt_session_freeze(s, &err) == GPT_E_STATE, "a rewind takes no mark: %s", err.msg);
    gpt_session_reset(s);
    eval(s, ids, N_TOKEN);
    gpt_session_info_get(s, &info);
    CHECK(info.changed == 0 && !gpt_session_save(s, GPT_SAVE_CACHE, &to, &err) && !gpt_session_freeze(s, &err), "%s", err.msg);
    gpt_session_free(copy);
    gpt_session_free(s);
    gpt_model_free(m);
}

/* ---- Weights of attention, experts ---------------------------------------------------------------------------------- */

typedef struct seen { size_t n_weights, n_experts, window, used; const char *what; double most; } seen;
static int on_numbers(void *user, const gpt_trace *t) {
    seen *c = (seen *)user;
    size_t r, k;
    if (!strcmp(t->name, "att_weights")) {
        c->n_weights++;
        for (r = 0; r < t->n_row; r++) {
            double sum = 0;
            for (k = 0; k < t->n_col; k++) sum += t->data[r * t->stride + k];
            if (fabs(sum - 1) > c->most) c->most = fabs(sum - 1);
        }
    }
    if (!strcmp(t->name, "experts")) {
        c->n_experts++;
        for (r = 0; r < t->n_row; r++) {
            size_t used = 0;
            double sum = 0;
            for (k = 0; k < t->n_col; k++) { used += t->data[r * t->stride + k] != 0.0f; sum += t->data[r * t->stride + k]; }
            CHECK(used == c->used && sum > 0, "%s: %lu experts in use, expected %lu", c->what, (unsigned long)used, (unsigned long)c->used);
        }
    }
    return 0;
}
static void numbers(const char *name, size_t used) {
    static const gpt_kv caches[] = { GPT_KV_F32, GPT_KV_F16, GPT_KV_Q8_0, GPT_KV_Q4_0 };
    static float plain[MAX_VOCAB];
    gpt_model *m = load(name);
    const size_t bytes = n_vocab_of(m) * sizeof *plain;
    gpt_session_params p;
    gpt_session *s;
    gpt_token ids[N_TOKEN];
    seen c;
    size_t i, with, without;
    tokens_of(m, ids);
    for (i = 0; i < 4; i++) {
        memset(&c, 0, sizeof c);
        memset(&p, 0, sizeof p);
        c.what = name; c.used = used;
        p.n_ctx = 64; p.n_threads = 2; p.kv = caches[i];
        s = new_session(m, &p);
        eval(s, ids, 7);
        memcpy(plain, gpt_logits(s), bytes);
        gpt_session_free(s);
        without = gpt_session_bytes(m, &p);
        p.hooks.trace = on_numbers; p.hooks.trace_user = &c;
        s = new_session(m, &p);
        eval(s, ids, 7);
        CHECK(!c.n_weights, "%s: weights that nobody asked for", name);
        gpt_session_free(s);
        p.att_weights = 1;
        with = gpt_session_bytes(m, &p);
        CHECK(with > without, "%s: %lu bytes with weights, %lu without", name, (unsigned long)with, (unsigned long)without);
        s = new_session(m, &p);
        eval(s, ids, 7);
        CHECK(c.n_weights && c.n_weights % N_TOKEN == 0 && c.most < 1e-5, "%s: %lu events, sums differ by %.3g", name,
              (unsigned long)c.n_weights, c.most);
        CHECK(!memcmp(plain, gpt_logits(s), bytes), "%s: other logits when looked at", name);
        CHECK((c.n_experts > 0) == (used > 0), "%s: %lu events of experts", name, (unsigned long)c.n_experts);
        gpt_session_free(s);
    }
    gpt_model_free(m);
}

int main(void) {
    static const char *const models[] = { "gpt2", "llama", "llama_q4_0", "mixtral", "gemma3", "falcon_7b", "lfm2_cpp", "qwen35_cpp", "falcon_h1_norm_cpp" };
    size_t i;
    for (i = 0; i < sizeof models / sizeof *models; i++) {
        stars_count(models[i]);
        steering(models[i]);
    }
    steering("mamba2_cpp");
    steering("nemotron_h_cpp");                 /* its last layer is a feed-forward, that of the next is not */
    steering("nemotron_h_moe_cpp");
    one_of_two();
    marks();
    numbers("gpt2", 0);
    numbers("llama_q4_0", 0);
    numbers("gemma3", 0);
    numbers("bloom", 0);
    numbers("mixtral", 2);
    return test_report("unit_trace");
}
