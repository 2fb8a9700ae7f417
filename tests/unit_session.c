/* Sessions: the same bits however the work is cut, stopped, resumed and shared out; sizes, limits and finish reasons.
 * Numbers come from the toy models of tests/golden/model, text from a small model built here. Runs from the repository's
 * root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

#include <math.h>

#if defined(__linux__) && defined(__GLIBC__)        /* where threads need no library of their own */
#  if __GLIBC__ > 2 || __GLIBC_MINOR__ >= 34
#    include <pthread.h>
#    define HAVE_THREADS
#  endif
#endif

enum { N = 36, N_CTX = 96 };

/* ---- Models -------------------------------------------------------------------------------------------------------- */

typedef struct heap { size_t live, n; } heap;

static void *heap_alloc(void *user, size_t n) {
    void *p = malloc(n);
    if (!p) return NULL;
    memset(p, 0xFF, n);
    ((heap *)user)->live++;
    ((heap *)user)->n++;
    return p;
}

static void heap_free(void *user, void *p) {
    ((heap *)user)->live--;
    free(p);
}

static heap counted;

static gpt_model_params model_params(void) {
    gpt_model_params p;
    memset(&p, 0, sizeof p);
    p.alloc.alloc = heap_alloc;
    p.alloc.free = heap_free;
    p.alloc.user = &counted;
    p.n_threads = 1;
    return p;
}

static gpt_model *load_toy(const char *name) {
    char path[128];
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    CHECK(gpt_model_load(&m, path, &p, &err) == GPT_OK, "%s: %s", name, err.msg);
    return m;
}

static void random_tensor(gb *g, const char *name, uint64_t d0, uint64_t d1, float scale) {
    static uint32_t seed = 12345;
    size_t i, n = (size_t)(d0 * (d1 ? d1 : 1));
    float *v = (float *)malloc(n * sizeof(float));
    if (!v) exit(1);
    for (i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = scale < 0.0f ? 1.0f : ((float)(seed >> 8) / 8388608.0f - 1.0f) * scale;
    }
    gb_tensor_f32(g, name, d1 ? 2 : 1, d0, d1, v);
    free(v);
}

/* Llama kind, 2 layers, and a vocabulary of the printable characters, the space, four merged tokens and two controls */
enum { TEXT_VOCAB = 101, TEXT_BOS = 99, TEXT_EOS = 100 };

static gpt_model *text_model(void) {
    static const char *const merged[] = { "th", "the", "an", "\xC4\xA0t" };
    static const char *const merges[] = { "t h", "th e", "a n", "\xC4\xA0 t" };
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    const unsigned char *file;
    size_t n, i;
    gb g;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", "llama");
    gb_kv_u32(&g, "llama.block_count", 2);
    gb_kv_u32(&g, "llama.context_length", 256);
    gb_kv_u32(&g, "llama.embedding_length", 32);
    gb_kv_u32(&g, "llama.feed_forward_length", 40);
    gb_kv_u32(&g, "llama.attention.head_count", 4);
    gb_kv_u32(&g, "llama.attention.head_count_kv", 2);
    gb_kv_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_kv_str(&g, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(&g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(&g, "tokenizer.ggml.tokens", GB_STR, TEXT_VOCAB);
    for (i = 0; i < 94; i++) { char c = (char)('!' + i); gb_text(&g, &g.kv, &c, 1); }
    gb_text(&g, &g.kv, "\xC4\xA0", 2);
    for (i = 0; i < 4; i++) gb_text(&g, &g.kv, merged[i], strlen(merged[i]));
    gb_text(&g, &g.kv, "<|bos|>", 7);
    gb_text(&g, &g.kv, "<|end|>", 7);
    gb_kv_array(&g, "tokenizer.ggml.token_type", GB_I32, TEXT_VOCAB);
    for (i = 0; i < TEXT_VOCAB; i++) gb_uint(&g, &g.kv, i < TEXT_BOS ? 1 : 3, 4);
    gb_kv_strs(&g, "tokenizer.ggml.merges", merges, 4);
    gb_kv_u32(&g, "tokenizer.ggml.bos_token_id", TEXT_BOS);
    gb_kv_u32(&g, "tokenizer.ggml.eos_token_id", TEXT_EOS);
    gb_kv_bool(&g, "tokenizer.ggml.add_bos_token", 1);
    random_tensor(&g, "token_embd.weight", 32, TEXT_VOCAB, 1.0f);
    random_tensor(&g, "output_norm.weight", 32, 0, -1.0f);
    random_tensor(&g, "output.weight", 32, TEXT_VOCAB, 0.7f);
    for (i = 0; i < 2; i++) {
        static const struct { const char *name; uint64_t d0, d1; float scale; } t[] = {
            { "attn_norm", 32, 0, -1.0f }, { "ffn_norm", 32, 0, -1.0f }, { "attn_q", 32, 32, 0.5f }, { "attn_k", 32, 16, 0.5f },
            { "attn_v", 32, 16, 0.5f }, { "attn_output", 32, 32, 0.5f }, { "ffn_gate", 32, 40, 0.5f }, { "ffn_up", 32, 40, 0.5f }, { "ffn_down", 40, 32, 0.5f }
        };
        char name[64];
        size_t k;
        for (k = 0; k < sizeof t / sizeof t[0]; k++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", (unsigned)i, t[k].name);
            random_tensor(&g, name, t[k].d0, t[k].d1, t[k].scale);
        }
    }
    file = gb_finish(&g, &n);
    CHECK(gpt_model_load_memory(&m, file, n, &p, &err) == GPT_OK, "the text model: %s", err.msg);
    gb_free(&g);
    return m;
}

static size_t vocab_of(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    return info.n_vocab;
}

static gpt_session_params session_params(size_t n_batch, gpt_kv kv) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = N_CTX;
    p.n_batch = (uint32_t)n_batch;
    p.kv = kv;
    p.n_threads = 1;
    return p;
}

static gpt_session *session(const gpt_model *m, const gpt_session_params *p) {
    gpt_session *s = NULL;
    gpt_error err;
    CHECK(gpt_session_new(&s, m, p, &err) == GPT_OK, "session: %s", err.msg);
    if (!s) exit(test_report("unit_session"));
    return s;
}

static gpt_token ids[N];

static void make_ids(size_t n_vocab) {
    size_t i;
    for (i = 0; i < N; i++) ids[i] = (gpt_token)((i * i * 7 + 3 * i + 1) % n_vocab);
}

static int eval(gpt_session *s, size_t from, size_t to) {
    gpt_error err;
    gpt_result r = gpt_eval(s, ids + from, to - from, &err);
    CHECK(r == GPT_OK && err.code == GPT_OK && !err.msg[0], "eval %u to %u: %s", (unsigned)from, (unsigned)to, err.msg);
    return r == GPT_OK;
}

/* Logits after ids[0 .. n) must be those of the reference; want [N, n_vocab]. what is a format that says what a and b are. */
static void check_bits(gpt_session *s, const float *want, size_t n, size_t n_vocab, const char *what, size_t a, size_t b) {
    const float *got = gpt_logits(s);
    char label[96];
    snprintf(label, sizeof label, what, (unsigned)a, (unsigned)b);
    CHECK(got && !memcmp(got, want + (n - 1) * n_vocab, n_vocab * sizeof(float)), "%s: other bits after %u tokens", label, (unsigned)n);
}

/* Logits after each token, one at a time */
static float *reference(const gpt_model *m, gpt_kv kv) {
    size_t n_vocab = vocab_of(m), i;
    gpt_session_params p = session_params(1, kv);
    gpt_session *s;
    float *out = (float *)malloc(N * n_vocab * sizeof(float));
    if (!out) exit(1);
    make_ids(n_vocab);
    s = session(m, &p);
    for (i = 0; i < N; i++) if (eval(s, i, i + 1)) memcpy(out + i * n_vocab, gpt_logits(s), n_vocab * sizeof(float));
    gpt_session_free(s);
    return out;
}

/* ---- Chunks and batches -------------------------------------------------------------------------------------------- */

static void test_chunks(const gpt_model *m, gpt_kv kv, const float *want) {
    size_t n_vocab = vocab_of(m), c, i, n;
    for (c = 1; c <= N; c++) {
        gpt_session_params p = session_params(1 + c * 5 % N, kv);       /* chunks of every size, with some batch size */
        gpt_session *s = session(m, &p);
        for (i = 0; i < N; i += n) {
            n = N - i < c ? N - i : c;
            if (eval(s, i, i + n)) check_bits(s, want, i + n, n_vocab, "chunks of %u, batch %u", c, p.n_batch);
        }
        gpt_session_free(s);
        p = session_params(c, kv);                                      /* all at once, with every batch size */
        s = session(m, &p);
        if (eval(s, 0, N)) check_bits(s, want, N, n_vocab, "%u tokens, batch %u", N, c);
        gpt_session_reset(s);
        CHECK(!gpt_logits(s) && gpt_session_tokens(s, &n) && n == 0, "a reset session has %u tokens", (unsigned)n);
        if (eval(s, 0, c)) check_bits(s, want, c, n_vocab, "after a reset, %u tokens, batch %u", c, c);
        gpt_session_free(s);
    }
}

/* ---- Rewind -------------------------------------------------------------------------------------------------------- */

static void test_rewind(const gpt_model *m, gpt_kv kv, const float *want, int window) {
    size_t n_vocab = vocab_of(m), to, n, step, b;
    static const size_t batches[] = { 1, 4, 16, N };
    gpt_error err;
    for (b = 0; b < 4; b++) {
        gpt_session_params p = session_params(batches[b], kv);
        gpt_session *s = session(m, &p);
        for (to = 0; to <= N; to += b == 1 ? 1 : 7) {
            gpt_result r;
            gpt_session_reset(s);
            eval(s, 0, N);
            r = gpt_session_rewind(s, to, &err);
            CHECK(r == GPT_OK || (window && r == GPT_E_STATE && to > 0 && to + 1 < N && strstr(err.msg, "window")), "rewind to %u: code %d (%s)", (unsigned)to, (int)r, err.msg);
            gpt_session_tokens(s, &n);
            CHECK(n == (r ? (size_t)N : to), "%u tokens after a rewind to %u", (unsigned)n, (unsigned)to);
            if (r == GPT_OK && to < N) {
                gpt_token other[3];
                other[0] = ids[1]; other[1] = ids[0]; other[2] = ids[2];
                if (to + 3 <= N && gpt_eval(s, other, 3, &err) == GPT_OK) CHECK(gpt_session_rewind(s, to, &err) == GPT_OK, "rewind again: %s", err.msg);
                if (eval(s, to, N)) check_bits(s, want, N, n_vocab, "after a rewind to %u, batch %u", to, p.n_batch);
            } else check_bits(s, want, N, n_vocab, "a rewind to %u that did nothing, batch %u", to, p.n_batch);
        }
        for (step = 1; step < 20; step += 6) {                          /* in steps, as far as it goes, then on */
            gpt_session_reset(s);
            eval(s, 0, N);
            for (to = N; to > step && gpt_session_rewind(s, to - step, &err) == GPT_OK; to -= step) {}
            if (to < N && eval(s, to, N)) check_bits(s, want, N, n_vocab, "rewound in steps of %u, to %u", step, to);
        }
        CHECK(gpt_session_rewind(s, N + 1, &err) == GPT_E_ARG && err.msg[0], "rewind beyond the end");
        gpt_session_free(s);
    }
}

/* ---- Score --------------------------------------------------------------------------------------------------------- */

static double log_softmax(const float *z, size_t n, gpt_token id) {
    double top = -INFINITY, sum = 0;
    size_t i;
    for (i = 0; i < n; i++) if ((double)z[i] > top) top = (double)z[i];
    for (i = 0; i < n; i++) sum += exp((double)z[i] - top);
    return (double)z[id] - top - log(sum);
}

static void check_scores(const float *got, const float *want, size_t from, size_t to, size_t n_vocab, const char *what) {
    size_t i;
    for (i = from; i < to; i++) {
        double w = i ? log_softmax(want + (i - 1) * n_vocab, n_vocab, ids[i]) : 0.0;
        CHECK(fabs((double)got[i] - w) <= 2e-5 * (1.0 + fabs(w)), "%s: token %u: found %g, expected %g", what, (unsigned)i, (double)got[i], w);
    }
}

static void test_score(const gpt_model *m, gpt_kv kv, const float *want) {
    size_t n_vocab = vocab_of(m), cut, i;
    float got[N];
    gpt_error err;
    for (cut = 0; cut <= N; cut += 3) {
        gpt_session_params p = session_params(1 + cut % 9, kv);
        gpt_session *s = session(m, &p);
        for (i = 0; i < N; i++) got[i] = NAN;
        CHECK(gpt_score(s, ids, cut, got, &err) == GPT_OK, "%s", err.msg);
        CHECK(gpt_score(s, ids + cut, N - cut, got + cut, &err) == GPT_OK, "%s", err.msg);
        check_scores(got, want, 0, N, n_vocab, "score in two calls");
        check_bits(s, want, N, n_vocab, "after a score cut at %u, batch %u", cut, p.n_batch);
        gpt_session_reset(s);
        if (cut) {                                                      /* eval, then score; and after a rewind */
            eval(s, 0, cut);
            CHECK(gpt_score(s, ids + cut, N - cut, got + cut, &err) == GPT_OK, "%s", err.msg);
            check_scores(got, want, cut, N, n_vocab, "score after eval");
            gpt_session_reset(s);
            eval(s, 0, cut + 2 < N ? cut + 2 : (size_t)N);
            if (gpt_session_rewind(s, cut, &err) == GPT_OK && cut < N) {
                got[cut] = NAN;
                CHECK(gpt_score(s, ids + cut, N - cut, got + cut, &err) == GPT_OK, "%s", err.msg);
                check_scores(got, want, cut, N, n_vocab, "score after a rewind");
            }
        }
        gpt_session_free(s);
    }
}

/* A prompt that gpt_begin queued and nobody computed belongs to the text when the next call comes. */
static void test_score_after_begin(const gpt_model *m) {
    gpt_session_params p = session_params(2, GPT_KV_F32);
    gpt_session *s = session(m, &p), *t = session(m, &p);
    gpt_token one[2] = { 5, 6 };
    float guarded[6] = { -7, -7, 9, 9, -7, -7 }, lp[2] = { 0, 0 };
    const gpt_token *text;
    size_t n;
    gpt_error err;
    CHECK(gpt_begin(s, "and then", NULL, NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_score(s, one, 2, guarded + 2, &err) == GPT_E_STATE, "score while a generation is under way");
    CHECK(gpt_eval(s, one, 2, &err) == GPT_E_STATE && strstr(err.msg, "gpt_end"), "eval while a generation is under way: %s", err.msg);
    gpt_session_tokens(s, &n);
    CHECK(gpt_session_rewind(s, n - 1, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_score(s, one, 2, guarded + 2, &err) == GPT_OK, "%s", err.msg);
    CHECK(guarded[0] == -7 && guarded[1] == -7 && guarded[4] == -7 && guarded[5] == -7, "score wrote beside its array");
    text = gpt_session_tokens(s, &n);
    CHECK(gpt_eval(t, text, n - 2, &err) == GPT_OK && gpt_score(t, one, 2, lp, &err) == GPT_OK, "%s", err.msg);
    CHECK(lp[0] == guarded[2] && lp[1] == guarded[3], "found scores %g and %g, expected %g and %g", (double)guarded[2], (double)guarded[3], (double)lp[0], (double)lp[1]);
    gpt_session_free(s);
    gpt_session_free(t);
}

/* ---- Size ---------------------------------------------------------------------------------------------------------- */

static void test_size(const gpt_model *m, const float *want, gpt_kv kv) {
    size_t n_vocab = vocab_of(m), b, k, shift;
    gpt_error err;
    for (b = 1; b <= N; b += 13) for (shift = 0; shift < 64; shift += 21) {
        gpt_session_params p = session_params(b, kv);
        size_t need = gpt_session_bytes(m, &p);
        unsigned char *block = (unsigned char *)malloc(need + 256), *at = block;
        gpt_session *s = NULL;
        gpt_session_info info;
        if (!block) return;
        while (((uintptr_t)at & 63) != shift) at++;
        at += 64;
        memset(block, 0xA5, need + 256);
        CHECK(gpt_session_init(&s, m, &p, at, need - 1, &err) == GPT_E_MEMORY && !s && strstr(err.msg, "bytes"), "one byte short: %s", err.msg);
        CHECK(gpt_session_init(&s, m, &p, at, need, &err) == GPT_OK, "%s", err.msg);
        if (s) {
            float lp[4];
            gpt_session_info_get(s, &info);
            CHECK(info.bytes == need && info.n_ctx == N_CTX && info.n_batch == b, "%lu bytes, expected %lu", (unsigned long)info.bytes, (unsigned long)need);
            eval(s, 0, N);
            check_bits(s, want, N, n_vocab, "in the caller's memory, batch %u, shifted by %u", b, shift);
            CHECK(gpt_score(s, ids, 4, lp, &err) == GPT_OK && gpt_sample(s, NULL) >= 0, "%s", err.msg);
            while (gpt_eval(s, ids, 7, &err) == GPT_OK) {}
            CHECK(err.code == GPT_E_CONTEXT && strstr(err.msg, "96"), "a full context: %s", err.msg);
            gpt_session_free(s);
        }
        for (k = 0; block + k < at; k++) if (block[k] != 0xA5) break;
        CHECK(block + k == at, "wrote before its memory");
        for (k = 0; at + need + k < block + need + 256; k++) if (at[need + k] != 0xA5) break;
        CHECK(at + need + k == block + need + 256, "wrote behind its memory");
        free(block);
    }
}

/* ---- The poll hook ------------------------------------------------------------------------------------------------- */

typedef struct poller { size_t n, cancel_at; int pause; } poller;

static gpt_poll on_poll(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    poller *p = (poller *)user;
    p->n++;
    return p->n == p->cancel_at ? GPT_CANCEL : p->pause ? GPT_PAUSE : GPT_GO;
}

static void test_cancel_eval(const gpt_model *m, const float *want, gpt_kv kv, size_t step) {
    size_t n_vocab = vocab_of(m), k, n;
    enum { FIRST = 3, LAST = 12, BATCH = 4 };
    gpt_error err;
    for (k = 1;; k += step) {
        poller p;
        gpt_session_params sp = session_params(BATCH, kv);
        gpt_session *s;
        gpt_result r;
        memset(&p, 0, sizeof p);
        sp.hooks.poll = on_poll;
        sp.hooks.poll_user = &p;
        s = session(m, &sp);
        eval(s, 0, FIRST);
        p.n = 0;
        p.cancel_at = k;
        r = gpt_eval(s, ids + FIRST, LAST - FIRST, &err);
        gpt_session_tokens(s, &n);
        if (p.n < k) {
            CHECK(r == GPT_OK && n == LAST && p.n > 20, "%u polls: %s", (unsigned)p.n, err.msg);
            gpt_session_free(s);
            break;
        }
        CHECK(r == GPT_E_CANCELLED && n >= FIRST && (n - FIRST) % BATCH == 0 && n < LAST && strstr(err.msg, "cancel"), "cancelled at poll %u: code %d, %u tokens (%s)", (unsigned)k, (int)r, (unsigned)n, err.msg);
        p.cancel_at = 0;
        if (eval(s, n, LAST)) check_bits(s, want, LAST, n_vocab, "after a cancel at poll %u, from token %u", k, n);
        gpt_session_free(s);
    }
}

/* ---- The host's threads -------------------------------------------------------------------------------------------- */

static void run_backwards(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    size_t step = *(size_t *)user, b;
    (void)cost;
    while (n) {
        b = n > step ? n - step : 0;
        task(arg, b, n, 0);
        n = b;
    }
}

#ifdef HAVE_THREADS
typedef struct share { gpt_task task; void *arg; size_t b, e; int worker; } share;
static void *run_share(void *user) { share *s = (share *)user; s->task(s->arg, s->b, s->e, s->worker); return NULL; }

static void run_threads(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    share part[3];
    pthread_t id[3];
    size_t i;
    int started[3];
    (void)user; (void)cost;
    for (i = 0; i < 3; i++) {
        part[i].task = task; part[i].arg = arg; part[i].worker = (int)i;
        part[i].b = n * i / 3; part[i].e = n * (i + 1) / 3;
        started[i] = i > 0 && part[i].b < part[i].e && !pthread_create(&id[i], NULL, run_share, &part[i]);
    }
    for (i = 0; i < 3; i++) if (!started[i] && part[i].b < part[i].e) run_share(&part[i]);
    for (i = 0; i < 3; i++) if (started[i]) pthread_join(id[i], NULL);
}
#endif

static void test_parallel(const gpt_model *m, const float *want, gpt_kv kv) {
    static size_t steps[] = { 1, 3, 1000 };
    size_t n_vocab = vocab_of(m), k;
    for (k = 0; k < 4; k++) {
        gpt_session_params p = session_params(17, kv);
        gpt_session *s;
        gpt_session_info info;
        p.hooks.parallel.run = run_backwards;
        p.hooks.parallel.user = &steps[k % 3];
#ifdef HAVE_THREADS
        if (k == 3) p.hooks.parallel.run = run_threads, p.hooks.parallel.n_worker = 3;
#endif
        s = session(m, &p);
        gpt_session_info_get(s, &info);
        CHECK(info.n_threads == 0, "%d threads reported with the host's own", info.n_threads);
        if (eval(s, 0, N)) check_bits(s, want, N, n_vocab, "the host's threads, way %u of 0 to %u", k, 3);
        gpt_session_free(s);
    }
}

static void test_interleaved(const gpt_model *m, const float *want, gpt_kv kv) {
    size_t n_vocab = vocab_of(m), i, a = 0, b = 0;
    gpt_session_params p = session_params(5, kv);
    gpt_session *s = session(m, &p), *t = session(m, &p);
    for (i = 0; a < N || b < N; i++) {
        size_t x = a + i % 4 + 1 > N ? (size_t)N : a + i % 4 + 1, y = b + i % 7 > N ? (size_t)N : b + i % 7;
        if (a < x && eval(s, a, x)) check_bits(s, want, x, n_vocab, "two sessions, the first from %u to %u", a, x);
        if (b < y && eval(t, b, y)) check_bits(t, want, y, n_vocab, "two sessions, the second from %u to %u", b, y);
        a = x;
        b = y;
        if (a) check_bits(s, want, a, n_vocab, "two sessions, the first again, %u and %u tokens", a, b);
    }
    gpt_session_free(s);
    gpt_session_free(t);
}

/* ---- Text ---------------------------------------------------------------------------------------------------------- */

typedef struct text { char p[4096]; size_t n; size_t calls, stop_at; } text;

static int on_text(void *user, const char *p, size_t n) {
    text *t = (text *)user;
    CHECK(n > 0 && p, "an empty piece");
    if (t->n + n < sizeof t->p) { memcpy(t->p + t->n, p, n); t->n += n; }
    t->p[t->n] = 0;
    return ++t->calls == t->stop_at;
}

static gpt_generate_params sampled(size_t max_tokens, uint64_t seed) {
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.sample.temperature = 1.0f;
    g.sample.top_p = 0.95f;
    g.sample.repeat_penalty = 1.1f;
    g.sample.seed = seed;
    g.max_tokens = max_tokens;
    g.ignore_end = 1;
    return g;
}

static const char *const prompt = "the cat and then";

static gpt_finish generate(gpt_session *s, const char *what, const char *p, const gpt_generate_params *g, text *t) {
    gpt_error err;
    gpt_session_info info;
    CHECK(gpt_generate(s, p, g, on_text, t, &err) == GPT_OK, "%s: %s", what, err.msg);
    gpt_session_info_get(s, &info);
    return info.finish;
}

static void test_text(const gpt_model *m) {
    gpt_session_params p = session_params(8, GPT_KV_F16);
    gpt_session *s = session(m, &p), *t = session(m, &p);
    gpt_generate_params g = sampled(30, 7);
    gpt_session_info info;
    gpt_error err;
    text all, part;
    gpt_token want[N_CTX];
    const gpt_token *tok;
    size_t n, k, n_want, before = counted.n;
    memset(&all, 0, sizeof all);
    CHECK(generate(s, "30 tokens", prompt, &g, &all) == GPT_FINISH_LENGTH, "finish");
    gpt_session_info_get(s, &info);
    tok = gpt_session_tokens(s, &n_want);
    memcpy(want, tok, n_want * sizeof *tok);
    CHECK(want[0] == TEXT_BOS && info.n_generated == 30 && info.n_prompt + 30 == n_want && all.n >= 15, "found %u tokens of the prompt, %u generated, %u in all, text \"%s\"", (unsigned)info.n_prompt, (unsigned)info.n_generated, (unsigned)n_want, all.p);
    for (k = 1; k < n_want; k++) CHECK(want[k] != TEXT_BOS || k > info.n_prompt, "a second BOS in the prompt");
    for (k = 1; k < 30; k++) {                          /* in two calls: the same tokens and the same text */
        gpt_session_reset(t);
        memset(&part, 0, sizeof part);
        g.max_tokens = k;
        generate(t, "the first part", prompt, &g, &part);
        g.max_tokens = 30 - k;
        CHECK(generate(t, "the second part", k % 2 ? "" : NULL, &g, &part) == GPT_FINISH_LENGTH, "finish");
        tok = gpt_session_tokens(t, &n);
        CHECK(n == n_want && !memcmp(tok, want, n * sizeof *tok), "%u tokens in two calls, %u in one, or others", (unsigned)n, (unsigned)n_want);
        CHECK(!strcmp(part.p, all.p), "in two calls \"%s\", in one \"%s\"", part.p, all.p);
    }
    for (k = 0; k < 3; k++) {                           /* seeds; a host's own loop of eval and sample */
        gpt_session_reset(t);
        memset(&part, 0, sizeof part);
        g = sampled(30, 7 + k / 2);
        generate(t, "a seed", prompt, &g, &part);
        CHECK(!strcmp(part.p, all.p) == (k < 2), "seed %u: \"%s\", seed 7: \"%s\"", (unsigned)(7 + k / 2), part.p, all.p);
    }
    gpt_session_reset(t);
    g = sampled(30, 7);
    CHECK(gpt_eval(t, want, info.n_prompt, &err) == GPT_OK, "%s", err.msg);
    for (k = info.n_prompt; k < n_want; k++) {
        gpt_token id = gpt_sample(t, &g.sample);
        CHECK(id == want[k] && id == gpt_sample(t, &g.sample), "token %u by hand: found %ld, expected %ld", (unsigned)k, (long)id, (long)want[k]);
        CHECK(gpt_eval(t, &id, 1, &err) == GPT_OK, "%s", err.msg);
    }
    CHECK(counted.n == before, "%u allocations by sessions at work", (unsigned)(counted.n - before));
    gpt_session_free(s);
    gpt_session_free(t);
}

static void test_finish(const gpt_model *m) {
    gpt_session_params p = session_params(8, GPT_KV_F16);
    gpt_session *s = session(m, &p);
    gpt_generate_params g = sampled(40, 3);
    gpt_session_info info;
    gpt_bias bias;
    gpt_error err;
    text all, part;
    char stop[8];
    const char *stops[2], *long_stop[17];
    size_t k, n, at;
    static char too_long[300];
    memset(&all, 0, sizeof all);
    generate(s, "40 tokens", prompt, &g, &all);
    for (k = 2; k + 3 < all.n; k++) {                   /* stop strings: the text ends before their first occurrence */
        memcpy(stop, all.p + k, 3);
        stop[3] = 0;
        stops[0] = "never comes up";
        stops[1] = stop;
        g.stop = stops;
        g.n_stop = 2;
        at = (size_t)(strstr(all.p, stop) - all.p);
        gpt_session_reset(s);
        memset(&part, 0, sizeof part);
        CHECK(generate(s, "a stop string", prompt, &g, &part) == GPT_FINISH_STOP, "finish");
        CHECK(part.n == at && !memcmp(part.p, all.p, at), "\"%s\" stopped by \"%s\": \"%s\"", all.p, stop, part.p);
    }
    g.stop = NULL;
    g.n_stop = 0;
    for (k = 1; k < 10; k++) {                          /* the host has enough */
        gpt_session_reset(s);
        memset(&part, 0, sizeof part);
        part.stop_at = k;
        CHECK(generate(s, "the host stops", prompt, &g, &part) == GPT_FINISH_HOST && part.calls == k, "expected %u calls, found %u", (unsigned)k, (unsigned)part.calls);
        CHECK(part.n && !memcmp(part.p, all.p, part.n), "\"%s\" is no beginning of \"%s\"", part.p, all.p);
    }
    g = sampled(0, 3);                                  /* until the context is full, at several sizes */
    for (k = 18; k < 30; k++) {
        gpt_session *c;
        p.n_ctx = (uint32_t)k;
        c = session(m, &p);
        memset(&part, 0, sizeof part);
        CHECK(generate(c, "a full context", prompt, &g, &part) == GPT_FINISH_CONTEXT, "finish");
        gpt_session_tokens(c, &n);
        CHECK(n == k && !memcmp(part.p, all.p, part.n), "found %u tokens in a context of %u, text \"%s\"", (unsigned)n, (unsigned)k, part.p);
        memset(&part, 0, sizeof part);
        (void)generate(c, "a full context, once more", "", &g, &part);
        gpt_session_tokens(c, &n);
        CHECK(n == k, "%u tokens in a context of %u", (unsigned)n, (unsigned)k);
        gpt_session_free(c);
    }
    for (k = 18; k < 30; k++) {                         /* a stop string that is complete as the context gets full */
        gpt_session *c;
        gpt_finish f;
        p.n_ctx = (uint32_t)k;
        c = session(m, &p);
        memset(&part, 0, sizeof part);
        generate(c, "a full context", prompt, &g, &part);
        gpt_session_reset(c);
        if (part.n >= 3) {
            memcpy(stop, part.p + part.n - 2, 3);
            stops[0] = stop;
            g.stop = stops;
            g.n_stop = 1;
            memset(&part, 0, sizeof part);
            f = generate(c, "stop and full", prompt, &g, &part);
            CHECK(f == GPT_FINISH_STOP, "context %u, stop \"%s\": finish %d", (unsigned)k, stop, (int)f);
            g.stop = NULL;
            g.n_stop = 0;
        }
        gpt_session_free(c);
    }
    gpt_session_reset(s);
    bias.token = TEXT_EOS;                              /* the model ends the text; or goes on if told to */
    bias.bias = 1000.0f;
    g = sampled(5, 3);
    g.sample.bias = &bias;
    g.sample.n_bias = 1;
    g.ignore_end = 0;
    memset(&part, 0, sizeof part);
    CHECK(generate(s, "an end token", prompt, &g, &part) == GPT_FINISH_END && part.n == 0, "\"%s\"", part.p);
    gpt_session_info_get(s, &info);
    CHECK(info.n_generated == 0, "expected none generated, found %u", (unsigned)info.n_generated);
    g.ignore_end = 1;
    CHECK(generate(s, "an end token ignored", "", &g, &part) == GPT_FINISH_LENGTH && part.n == 0, "\"%s\"", part.p);
    gpt_session_info_get(s, &info);
    CHECK(info.n_generated == 5, "expected 5 generated, found %u", (unsigned)info.n_generated);
    gpt_session_reset(s);                               /* an empty prompt begins with BOS alone */
    g = sampled(4, 3);
    memset(&part, 0, sizeof part);
    CHECK(generate(s, "an empty prompt", "", &g, &part) == GPT_FINISH_LENGTH, "finish");
    CHECK(gpt_session_tokens(s, &n)[0] == TEXT_BOS && n == 5, "expected a BOS and 4 tokens, found %u", (unsigned)n);
    gpt_session_reset(s);
    CHECK(gpt_generate(s, NULL, &g, NULL, NULL, &err) == GPT_OK && gpt_session_tokens(s, &n) && n == 5, "prompt and callback NULL: %s", err.msg);
    /* what cannot be: a code, a message that names it, and an unchanged session */
    memset(too_long, 'x', sizeof too_long - 1);
    for (k = 0; k < 17; k++) long_stop[k] = "x";
    g.stop = long_stop;
    g.n_stop = 17;
    CHECK(gpt_generate(s, "a", &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "16 stop"), "%s", err.msg);
    g.n_stop = 2;
    long_stop[1] = "";
    CHECK(gpt_generate(s, "a", &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "stop[1]"), "%s", err.msg);
    long_stop[1] = too_long;
    CHECK(gpt_generate(s, "a", &g, NULL, NULL, &err) == GPT_E_ARG && strstr(err.msg, "256"), "%s", err.msg);
    g.stop = NULL;
    CHECK(gpt_generate(s, "a", &g, NULL, NULL, &err) == GPT_E_ARG && err.msg[0], "%s", err.msg);
    g.n_stop = 0;
    CHECK(gpt_generate(s, too_long, &g, NULL, NULL, &err) == GPT_E_CONTEXT && strstr(err.msg, "96") && strstr(err.msg, "91"), "%s", err.msg);
    CHECK(gpt_session_tokens(s, &n) && n == 5, "a prompt that did not fit left %u tokens", (unsigned)n);
    CHECK(gpt_step(s, &err) == GPT_E_STATE && err.msg[0], "a step without a beginning");
    gpt_end(s);
    gpt_end(NULL);
    gpt_session_free(s);
    gpt_session_free(NULL);
}

static void test_steps(const gpt_model *m) {
    gpt_session_params p = session_params(4, GPT_KV_F16);
    gpt_generate_params g = sampled(12, 5);
    gpt_session *s;
    gpt_error err;
    text all, part;
    poller poll;
    gpt_result r;
    size_t n_want, n, k, steps;
    memset(&poll, 0, sizeof poll);
    memset(&all, 0, sizeof all);
    s = session(m, &p);
    generate(s, "12 tokens", prompt, &g, &all);
    gpt_session_tokens(s, &n_want);
    gpt_session_free(s);
    p.hooks.poll = on_poll;
    p.hooks.poll_user = &poll;
    s = session(m, &p);
    for (k = 0; k < 2; k++) {                           /* pausing at every poll, or never: the same text */
        gpt_session_reset(s);
        memset(&part, 0, sizeof part);
        memset(&poll, 0, sizeof poll);
        poll.pause = (int)k;
        CHECK(gpt_begin(s, prompt, &g, on_text, &part, &err) == GPT_OK, "%s", err.msg);
        CHECK(gpt_begin(s, prompt, &g, on_text, &part, &err) == GPT_E_STATE && strstr(err.msg, "gpt_end"), "begin twice: %s", err.msg);
        for (steps = 0; (r = gpt_step(s, &err)) == GPT_MORE; steps++) {}
        CHECK(r == GPT_OK && !strcmp(part.p, all.p) && (k ? steps + 12 > poll.n && poll.n > 300 : steps < 14), "%u steps, %u polls, \"%s\", expected \"%s\" (%s)", (unsigned)steps, (unsigned)poll.n, part.p, all.p, err.msg);
        memset(&part, 0, sizeof part);
        gpt_session_reset(s);
        CHECK(generate(s, "a pause where none can be", prompt, &g, &part) == GPT_FINISH_LENGTH && !strcmp(part.p, all.p), "\"%s\"", part.p);
    }
    for (k = 1;; k += k < 40 ? 1 : 7) {                 /* cancelled at the k-th poll; going on gives the rest of the text */
        gpt_session_info info;
        gpt_session_reset(s);
        memset(&part, 0, sizeof part);
        memset(&poll, 0, sizeof poll);
        poll.cancel_at = k;
        g.max_tokens = 12;
        r = gpt_generate(s, prompt, &g, on_text, &part, &err);
        if (poll.n < k) { CHECK(r == GPT_OK, "%s", err.msg); break; }
        gpt_session_info_get(s, &info);
        gpt_session_tokens(s, &n);
        CHECK(r == GPT_E_CANCELLED && info.finish == GPT_FINISH_HOST && n < n_want, "cancelled at poll %u: code %d (%s)", (unsigned)k, (int)r, err.msg);
        poll.cancel_at = 0;
        if (n < n_want - 12) {                          /* in the prompt: begin anew */
            CHECK(part.n == 0, "text before the prompt was read");
            gpt_session_reset(s);
            CHECK(generate(s, "anew", prompt, &g, &part) == GPT_FINISH_LENGTH && !strcmp(part.p, all.p), "\"%s\"", part.p);
            continue;
        }
        CHECK(n == n_want - 12 + info.n_generated, "cancelled at poll %u: %u tokens kept, %u generated", (unsigned)k, (unsigned)n, (unsigned)info.n_generated);
        g.max_tokens = 12 - info.n_generated;
        CHECK(generate(s, "going on", "", &g, &part) == GPT_FINISH_LENGTH && !strcmp(part.p, all.p), "cancelled at poll %u, then on: \"%s\", expected \"%s\"", (unsigned)k, part.p, all.p);
    }
    poll.cancel_at = 0;
    for (k = 1; k < 12; k++) {                          /* given up after k tokens; going on gives the rest of the text */
        gpt_session_info info;
        gpt_session_reset(s);
        memset(&part, 0, sizeof part);
        g.max_tokens = 12;
        CHECK(gpt_begin(s, prompt, &g, on_text, &part, &err) == GPT_OK, "%s", err.msg);
        for (n = 0; n < k; n++) CHECK(gpt_step(s, &err) == GPT_MORE, "%s", err.msg);
        gpt_end(s);
        gpt_session_info_get(s, &info);
        CHECK(info.finish == GPT_FINISH_HOST && info.n_generated == k, "%u tokens were generated", (unsigned)info.n_generated);
        g.max_tokens = 12 - k;
        CHECK(generate(s, "going on", "", &g, &part) == GPT_FINISH_LENGTH && !strcmp(part.p, all.p), "given up after %u, then on: \"%s\", expected \"%s\"", (unsigned)k, part.p, all.p);
    }
    gpt_session_free(s);
}

/* After a generation the last token is part of the text but not computed yet: no logits may pass for its own. */
static void test_logits_after_text(const gpt_model *m) {
    gpt_session_params p = session_params(4, GPT_KV_F16);
    gpt_generate_params g = sampled(6, 5);
    gpt_session *s = session(m, &p), *t = session(m, &p);
    const gpt_token *tok;
    size_t n, n_vocab = vocab_of(m);
    gpt_error err;
    CHECK(gpt_generate(s, prompt, &g, NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    tok = gpt_session_tokens(s, &n);
    CHECK(gpt_eval(t, tok, n, &err) == GPT_OK, "%s", err.msg);
    CHECK(!gpt_logits(s) || !memcmp(gpt_logits(s), gpt_logits(t), n_vocab * sizeof(float)), "logits of another position after a generation");
    CHECK(gpt_eval(s, NULL, 0, &err) == GPT_OK && gpt_logits(s) && !memcmp(gpt_logits(s), gpt_logits(t), n_vocab * sizeof(float)), "after an evaluation of nothing: %s", err.msg);
    gpt_session_free(s);
    gpt_session_free(t);
}

static void test_errors(const gpt_model *m) {
    gpt_session_params p = session_params(4, GPT_KV_F16);
    gpt_session *s = session(m, &p);
    gpt_error err;
    gpt_token bad[3] = { 1, 2, 0 };
    float lp[3];
    size_t n;
    CHECK(!gpt_logits(s) && gpt_sample(s, NULL) == -1, "logits before the first evaluation");
    bad[2] = (gpt_token)vocab_of(m);
    CHECK(gpt_eval(s, bad, 3, &err) == GPT_E_ARG && strstr(err.msg, "101") && strstr(err.msg, "100"), "an id beyond the vocabulary: %s", err.msg);
    bad[2] = -1;
    CHECK(gpt_eval(s, bad, 3, &err) == GPT_E_ARG && strstr(err.msg, "-1"), "a negative id: %s", err.msg);
    CHECK(gpt_score(s, bad, 3, lp, NULL) == GPT_E_ARG, "a negative id");
    CHECK(gpt_session_tokens(s, &n) && n == 0, "%u tokens after failed calls", (unsigned)n);
    CHECK(gpt_eval(s, NULL, 3, &err) == GPT_E_ARG && err.msg[0], "ids NULL");
    CHECK(gpt_score(s, bad, 2, NULL, &err) == GPT_E_ARG && err.msg[0], "logprob NULL");
    CHECK(gpt_eval(NULL, bad, 2, &err) == GPT_E_ARG && err.msg[0], "session NULL");
    CHECK(gpt_eval(s, bad, (size_t)-1, &err) == GPT_E_CONTEXT && err.msg[0], "more tokens than memory");
    CHECK(gpt_eval(s, NULL, 0, &err) == GPT_OK && !gpt_logits(s), "an evaluation of nothing: %s", err.msg);
    CHECK(gpt_eval(s, bad, 2, &err) == GPT_OK && err.code == GPT_OK && !err.msg[0], "after failed calls: %s", err.msg);
    gpt_session_free(s);
    p.kv = (gpt_kv)4;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && !s && strstr(err.msg, "kv") && !gpt_session_bytes(m, &p), "kv 4: %s", err.msg);
    p.kv = (gpt_kv)-1;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && !s, "kv -1: %s", err.msg);
    p.kv = GPT_KV_F16;
    p.n_ctx = (1u << 24) + 1;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && strstr(err.msg, "16777217") && strstr(err.msg, "16777216"), "n_ctx: %s", err.msg);
    CHECK(gpt_session_new(&s, NULL, &p, &err) == GPT_E_ARG && gpt_session_new(NULL, m, &p, &err) == GPT_E_ARG && !gpt_session_bytes(NULL, &p), "%s", err.msg);
    CHECK(gpt_session_init(&s, m, &p, NULL, 1000, &err) == GPT_E_ARG && err.msg[0], "memory NULL");
}

/* ---- Hooks set anew, progress, what a score may see, more than the training ------------------------------------------ */

typedef struct progress { size_t n, last, total, fault; int pause; } progress;

static gpt_poll on_progress(void *user, size_t done, size_t total) {
    progress *p = (progress *)user;
    p->fault += done > total || total != p->total || done < p->last;
    p->last = done;
    p->n++;
    return p->pause ? GPT_PAUSE : GPT_GO;
}

static int seen_from;
static int on_trace(void *user, const gpt_trace *t) {
    seen_from += t->session == *(gpt_session **)user;
    return 0;
}

static void test_hooks(const gpt_model *m) {
    gpt_session_params sp = session_params(8, GPT_KV_F32);
    gpt_session *s = session(m, &sp);
    gpt_session_info info;
    gpt_generate_params gp;
    gpt_hooks hooks;
    gpt_error err;
    progress p;
    size_t steps = 0, before = 0, n;
    gpt_token tokens[40];
    memset(&hooks, 0, sizeof hooks);
    memset(&p, 0, sizeof p);
    hooks.poll = on_progress; hooks.poll_user = &p;
    hooks.trace = on_trace; hooks.trace_user = &s;
    CHECK(gpt_session_hooks(s, &hooks, &err) == GPT_OK, "%s", err.msg);
    for (n = 0; n < 40; n++) tokens[n] = (gpt_token)(n % TEXT_BOS);
    p.total = 40;
    CHECK(gpt_eval(s, tokens, 40, &err) == GPT_OK && p.n > 100 && !p.fault, "%lu calls, %lu faults", (unsigned long)p.n, (unsigned long)p.fault);
    CHECK(seen_from > 0, "the trace knows its session: %d", seen_from);
    gpt_session_reset(s);
    memset(&p, 0, sizeof p);
    memset(&gp, 0, sizeof gp);
    p.pause = 1; p.total = 21;                  /* a prompt in slices: the host sees how far it is */
    gp.max_tokens = 1;
    CHECK(gpt_begin(s, "the the the the the!", &gp, NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    gpt_session_info_get(s, &info);
    p.total = info.n_token;
    while (gpt_step(s, &err) == GPT_MORE && steps < 1000) {
        gpt_session_info_get(s, &info);
        CHECK(info.n_computed >= before && info.n_computed <= info.n_token, "computed %lu tokens of %lu", (unsigned long)info.n_computed, (unsigned long)info.n_token);
        steps += info.n_computed > before;
        before = info.n_computed;
        if (info.n_generated) break;
        if (steps == 3) CHECK(gpt_session_hooks(s, &hooks, &err) == GPT_OK, "between two steps: %s", err.msg);
    }
    CHECK(steps > 3 && !p.fault, "%lu steps, %lu faults", (unsigned long)steps, (unsigned long)p.fault);
    gpt_end(s);
    hooks.parallel.run = run_backwards; hooks.parallel.n_worker = 2;
    CHECK(gpt_session_hooks(s, &hooks, &err) == GPT_E_ARG && strstr(err.msg, "2 workers"), "more workers: %s", err.msg);
    CHECK(gpt_session_hooks(s, NULL, &err) == GPT_OK && !s->params.hooks.poll, "none: %s", err.msg);
    CHECK(gpt_session_hooks(NULL, &hooks, &err) == GPT_E_ARG, "no session");
    gpt_session_free(s);
    CHECK(gpt_version() == GPT_VERSION_NUMBER, "version %08lx", (unsigned long)gpt_version());
    CHECK(gpt_struct_bytes("gpt_error") == sizeof(gpt_error), "%lu bytes", (unsigned long)gpt_struct_bytes("gpt_error"));
    CHECK(!gpt_struct_bytes("gpt_erro") && !gpt_struct_bytes("") && !gpt_struct_bytes(NULL), "no such struct");
}

static void test_lent(const gpt_model *m) {
    gpt_session_params sp = session_params(0, GPT_KV_F32);
    gpt_session *s = session(m, &sp);
    gpt_error err;
    float a, b, row[TEXT_VOCAB];
    gpt_token tokens[3] = { 1, 2, 3 }, id;
    double sum = 0;
    size_t i;
    gpt_eval(s, tokens, 3, &err);
    id = gpt_sample(s, NULL);
    memcpy(row, gpt_logits(s), sizeof row);
    for (i = 0; i < TEXT_VOCAB; i++) sum += exp((double)row[i] - (double)row[id]);
    gpt_score(s, &id, 1, &a, &err);
    CHECK(fabs(a + log(sum)) < 1e-6, "score %g, expected %g", (double)a, -log(sum));
    gpt_session_rewind(s, 3, &err);
    gpt_eval(s, NULL, 0, &err);
    gpt_logits(s)[id] = -INFINITY;
    gpt_score(s, &id, 1, &b, &err);
    CHECK(a == b, "a score after the host changed the logits: %g, expected %g", (double)b, (double)a);
    gpt_session_free(s);
}

/* log-probabilities of rows that a sum of floats would spoil */
static void test_log_p(void) {
    enum { MANY = 300000 };
    float *x = (float *)calloc(MANY, sizeof *x);
    CHECK(fabs(-gpti_log_p(gpti_log_sum(x, MANY), x[7]) - log((double)MANY)) < 1e-9, "equal logits: %.12g, expected %.12g", -gpti_log_p(gpti_log_sum(x, MANY), x[7]), log((double)MANY));
    x[5] = 30;
    CHECK(fabs(-gpti_log_p(gpti_log_sum(x, 1000), x[5]) / (999 * exp(-30.0)) - 1) < 1e-6, "p near 1: %.9g", -gpti_log_p(gpti_log_sum(x, 1000), x[5]));
    free(x);
}

static void test_beyond(const gpt_model *m) {
    gpt_session_params sp = session_params(0, GPT_KV_F16);
    gpt_session *s;
    gpt_model *other;
    gpt_error err;
    sp.n_ctx = 257;
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_E_CONTEXT && !s && strstr(err.msg, "beyond_training") && !gpt_session_bytes(m, &sp), "%s", err.msg);
    sp.beyond_training = 1;
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_OK, "%s", err.msg);
    gpt_session_free(s);
    other = load_toy("bloom");                  /* ALiBi has no such limit; learned positions end */
    sp.beyond_training = 0; sp.n_ctx = 1000;
    CHECK(!other || gpt_session_new(&s, other, &sp, &err) == GPT_OK, "bloom: %s", err.msg);
    if (other) gpt_session_free(s);
    gpt_model_free(other);
    other = load_toy("gpt2");
    sp.beyond_training = 1;
    CHECK(!other || gpt_session_new(&s, other, &sp, &err) == GPT_E_CONTEXT, "gpt2: %s", err.msg);
    gpt_model_free(other);
}

/* Keys and values beyond what F16 holds stay numbers. */
static void test_saturate(void) {
    float x[64], y[64];
    unsigned char cache[64 * 4 + 16];
    size_t i;
    int kv;
    for (i = 0; i < 64; i++) x[i] = i % 2 ? -1e6f : 7e4f;
    x[3] = 1.0f;
    for (kv = 0; kv < 3; kv++) {
        gpti_kv_store_ref(kv, cache, x, 64, 1, 0);
        gpti_kv_load(kv, cache, 64, 1, y);
        for (i = 0; i < 64; i++) CHECK(y[i] - y[i] == 0.0f, "format %d: %g became %g", kv, (double)x[i], (double)y[i]);
        if (!kv) CHECK(y[0] == 65504.0f && y[1] == -65504.0f && y[3] == 1.0f, "expected 65504 and -65504, found %g and %g", (double)y[0], (double)y[1]);
    }
}

/* Rows that hardly vary: their mean must not be lost in rounding. */
static void test_constant_rows(void) {
    enum { WIDE = 576 };
    static float x[WIDE], y[WIDE];
    double mean = 0, var = 0, worst = 0;
    size_t i;
    for (i = 0; i < WIDE; i++) { x[i] = 3e4f + (float)(i % 7) / 256.0f; mean += (double)x[i] / WIDE; }
    for (i = 0; i < WIDE; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean) / WIDE;
    gpti_norm_ref(y, x, WIDE, NULL, NULL, GPTI_NORM_LAYER, 1e-5f);
    for (i = 0; i < WIDE; i++) worst = fmax(worst, fabs((double)y[i] - ((double)x[i] - mean) / sqrt(var + 1e-5)));
    CHECK(worst < 0.15, "LayerNorm of a nearly constant row at 3e4: off by %g", worst);      /* half a step of f32 at 3e4 is 0.12 of it */
}

static const struct { const char *name; int window; } toys[] = {
    { "llama", 0 }, { "gemma3", 1 }, { "gpt_oss", 1 }, { "mixtral", 0 }, { "llama_q8_0", 0 }, { "gpt2", 0 },
    { "lfm2_cpp", 1 }, { "lfm2moe_cpp", 1 }, { "qwen35_cpp", 1 }, { "qwen3next_cpp", 1 }, { "granitehybrid_cpp", 1 }, { "mamba2_cpp", 1 }, { "falcon_h1_cpp", 1 }, { "llama4_cpp", 1 }, { "gemma4_cpp", 1 }, { "gemma3n_cpp", 1 }, { "smallthinker_cpp", 1 }, { "deepseek2_v3_cpp", 0 }
};

/* Every cache type has its turn with each test, not with every toy. */
static void one_toy(void) {
    const size_t i = test_at;
    gpt_model *m = load_toy(toys[i].name);
    int k;
    for (k = 0; m && k < 4; k++) {
        const gpt_kv kv = (gpt_kv)k;
        float *want = reference(m, kv);
        if (k == (int)i % 4 || toys[i].window) test_chunks(m, kv, want);
        if (k == (int)(i + 1) % 4 || k == 1) test_rewind(m, kv, want, toys[i].window);
        if (k == 1) test_score(m, kv, want);
        if (k == (int)(i + 2) % 4) { test_size(m, want, kv); test_cancel_eval(m, want, kv, i ? 7 : 1); test_parallel(m, want, kv); test_interleaved(m, want, kv); }
        free(want);
    }
    gpt_model_free(m);
}

/* A test on a model of its own that has a tokenizer. */
static void on_text_model(void (*run)(const gpt_model *m)) {
    gpt_model *m = text_model();
    if (m) run(m);
    gpt_model_free(m);
}
static void with_score_after_begin(void) { on_text_model(test_score_after_begin); }
static void with_text(void) { on_text_model(test_text); }
static void with_finish(void) { on_text_model(test_finish); }
static void with_steps(void) { on_text_model(test_steps); }
static void with_logits_after_text(void) { on_text_model(test_logits_after_text); }
static void with_errors(void) { on_text_model(test_errors); }
static void with_hooks(void) { on_text_model(test_hooks); }
static void with_lent(void) { on_text_model(test_lent); }
static void with_beyond(void) { on_text_model(test_beyond); }

/* The toys come first, in their order: one_toy goes by its place. */
static const test tests[] = {
    { "llama", one_toy }, { "gemma3", one_toy }, { "gpt_oss", one_toy }, { "mixtral", one_toy },
    { "llama_q8_0", one_toy }, { "gpt2", one_toy }, { "lfm2_cpp", one_toy }, { "lfm2moe_cpp", one_toy }, { "qwen35_cpp", one_toy }, { "qwen3next_cpp", one_toy }, { "granitehybrid_cpp", one_toy }, { "mamba2_cpp", one_toy }, { "falcon_h1_cpp", one_toy }, { "llama4_cpp", one_toy }, { "gemma4_cpp", one_toy }, { "gemma3n_cpp", one_toy }, { "smallthinker_cpp", one_toy }, { "deepseek2_v3_cpp", one_toy }, { "log_p", test_log_p },
    { "saturate", test_saturate }, { "constant_rows", test_constant_rows },
    { "score_after_begin", with_score_after_begin }, { "text", with_text }, { "finish", with_finish },
    { "steps", with_steps }, { "logits_after_text", with_logits_after_text }, { "errors", with_errors },
    { "hooks", with_hooks }, { "lent", with_lent }, { "beyond", with_beyond }, { NULL, NULL }
};

int main(int argc, char **argv) {
#ifndef HAVE_THREADS
    printf("unit_session: the host's threads were run one after the other, there is no pthread here\n");
#endif
    test_run(tests, argc, argv);
    CHECK(counted.live == 0, "%u blocks left", (unsigned)counted.live);
    return test_report("unit_session");
}
