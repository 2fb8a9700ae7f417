/* LoRA adapters: PEFT's numbers (tests/golden/lora, by make_lora_goldens.py), a merged model's of every architecture, the
 * same bits whatever the chunking, the threads, the kernel set and the company; what an adapter is part of; files that are
 * wrong. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include "test.h"
#include "gguf_builder.h"
#include "adapter.h"

#include <math.h>

enum { N_TOKEN = 40, MAX_VOCAB = 1024 };

typedef struct heap { size_t live, n, fail_at; } heap;     /* blocks; calls; the call that fails, 0: none */
static heap counted;
static void *heap_alloc(void *user, size_t n) {
    heap *h = (heap *)user;
    void *p = ++h->n == h->fail_at ? NULL : malloc(n);
    if (p) { memset(p, 0xFF, n); h->live++; }
    return p;
}
static void heap_free(void *user, void *p) { ((heap *)user)->live--; free(p); }

static gpt_model *load_bytes(const void *data, size_t size, const char *kernels, int mapped) {
    gpt_model_params p;
    gpt_model *m = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    p.alloc.alloc = heap_alloc; p.alloc.free = heap_free; p.alloc.user = &counted;
    p.n_threads = 1; p.kernels = kernels; p.mapped = mapped;
    CHECK(!gpt_model_load_memory(&m, data, size, &p, &err), "%s", err.msg);
    if (!m) exit(test_report("unit_adapter"));
    return m;
}

typedef struct file { unsigned char *p; size_t n; } file;
static file read_file(const char *folder, const char *name) {
    char path[128];
    file f;
    FILE *in;
    snprintf(path, sizeof path, "tests/golden/%s/%s.gguf", folder, name);
    in = fopen(path, "rb");
    f.p = (unsigned char *)test_file(path); f.n = 0;
    CHECK(in && f.p, "%s: cannot read", path);
    if (!in || !f.p) exit(test_report("unit_adapter"));
    fseek(in, 0, SEEK_END);
    f.n = (size_t)ftell(in);
    fclose(in);
    return f;
}
static gpt_model *load_toy(const char *name) {
    file f = read_file("model", name);
    gpt_model *m = load_bytes(f.p, f.n, NULL, 0);
    free(f.p);
    return m;
}

static gpt_result load_adapter(gpt_adapter **a, const gpt_model *m, const void *data, size_t size, gpt_error *err) {
    gpt_reader r;
    memset(&r, 0, sizeof r);
    r.user = (void *)data; r.size = size;
    return gpt_adapter_load_reader(a, m, &r, err);
}
static gpt_adapter *load_golden(const gpt_model *m, const char *name) {
    gpt_adapter *a = NULL;
    gpt_error err;
    char path[128];
    snprintf(path, sizeof path, "tests/golden/lora/%s.gguf", name);
    CHECK(!gpt_adapter_load(&a, m, path, &err), "%s: %s", path, err.msg);
    if (!a) exit(test_report("unit_adapter"));
    CHECK(gpt_adapter_rank(a) == a->n_rank && a->n_rank > 0 && gpt_adapter_rank(NULL) == 0, "%s: rank %u", path, (unsigned)a->n_rank);
    return a;
}

static gpt_session_params session_params(const gpt_adapter *a, float scale) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = 64; p.n_threads = 1; p.kv = GPT_KV_F32; p.adapter = a; p.adapter_scale = scale;
    return p;
}
static gpt_session *new_session(const gpt_model *m, const gpt_session_params *p) {
    gpt_session *s = NULL;
    gpt_error err;
    CHECK(!gpt_session_new(&s, m, p, &err), "%s", err.msg);
    if (!s) exit(test_report("unit_adapter"));
    return s;
}

static void tokens_of(const gpt_model *m, uint32_t first, gpt_token *ids, size_t n) {
    size_t i;
    uint32_t before = adapter_seed;
    adapter_seed = first * 77 + 5;
    for (i = 0; i < n; i++) { random_number(); ids[i] = (gpt_token)(adapter_seed >> 8) % (gpt_token)m->hp.n_vocab; }
    if (m->hp.n_encoder && n > 1) ids[1 + first % 2] = (gpt_token)m->hp.start;
    adapter_seed = before;
}

/* The logits behind the tokens of that adapter_seed, in pieces of n_chunk */
static void logits_of(gpt_session *s, uint32_t first, size_t n_chunk, float *out) {
    gpt_token ids[N_TOKEN];
    gpt_error err;
    size_t i;
    tokens_of(s->m, first, ids, N_TOKEN);
    gpt_session_reset(s);
    for (i = 0; i < N_TOKEN; i += n_chunk)
        CHECK(!gpt_eval(s, ids + i, i + n_chunk > N_TOKEN ? N_TOKEN - i : n_chunk, &err), "%s", err.msg);
    memcpy(out, gpt_logits(s), s->m->hp.n_vocab * sizeof *out);
}
static void cold(const gpt_model *m, const gpt_adapter *a, float scale, uint32_t first, float *out) {
    const gpt_session_params p = session_params(a, scale);
    gpt_session *s = new_session(m, &p);
    logits_of(s, first, N_TOKEN, out);
    gpt_session_free(s);
}
static int same(const gpt_model *m, const float *a, const float *b) { return !memcmp(a, b, m->hp.n_vocab * sizeof *a); }

/* Largest difference over the largest number */
static double distance(const float *a, const float *b, size_t n) {
    double most = 0, top = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= most)) most = fabs((double)a[i] - (double)b[i]);
        if (fabs((double)b[i]) > top) top = fabs((double)b[i]);
    }
    return most / top;
}

/* ---- Random adapters for all matrices of a model -------------------------------------------------------------------- */

static gpt_adapter *load_random(const gpt_model *m, uint32_t first, const char *part) {
    gpt_adapter *a = NULL;
    gpt_error err;
    const unsigned char *p;
    size_t n;
    gb g;
    adapter_seed = first;
    random_adapter(&g, m, part, 1, 3.0f);
    p = gb_finish(&g, &n);
    CHECK(!load_adapter(&a, m, p, n, &err), "%s: %s", m->info.architecture, err.msg);
    gb_free(&g);
    if (!a) exit(test_report("unit_adapter"));
    return a;
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------------- */

static void test_peft(void) {
    static const char *const names[] = { "llama", "llama_more", "gpt2", "phi3", "gptneox", "mixtral", "qwen2moe", "tied_in",
                                         "tied_out", "tied_both", "gemma" };
    size_t i, j, k;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128], base[32] = "", *text, *p;
        float *all, want[MAX_VOCAB], without[MAX_VOCAB];
        gpt_token ids[N_TOKEN];
        size_t n = 0, n_checked = 0;
        gpt_session_params sp;
        gpt_session *s, *bare;
        gpt_adapter *a;
        gpt_model *m;
        gpt_error err;
        snprintf(path, sizeof path, "tests/golden/lora/%s.txt", names[i]);
        text = test_file(path);
        CHECK(text != NULL, "%s: cannot read", path);
        if (!text || !(p = strstr(text, "\nbase ")) || sscanf(p, " base %31s", base) != 1) continue;
        m = load_toy(base);
        a = load_golden(m, names[i]);
        p = strstr(text, "\nprompt") + 7;
        while (*p == ' ' && n < N_TOKEN) ids[n++] = (gpt_token)strtol(p, &p, 10);
        sp = session_params(a, 0);
        s = new_session(m, &sp);
        sp = session_params(NULL, 0);
        bare = new_session(m, &sp);
        all = (float *)malloc(n * m->hp.n_vocab * sizeof *all);
        for (j = 0; j < n; j++) {
            CHECK(!gpt_eval(s, ids + j, 1, &err), "%s", err.msg);
            memcpy(all + j * m->hp.n_vocab, gpt_logits(s), m->hp.n_vocab * sizeof *all);
        }
        for (; (p = strstr(p, "\nlogits ")) != NULL; n_checked++) {
            j = strtoul(p + 8, &p, 10);
            for (k = 0; k < m->hp.n_vocab; k++) want[k] = (float)strtod(p, &p);
            /* as of float32 in unit_model.c */
            CHECK(distance(all + j * m->hp.n_vocab, want, k) < 1e-4, "%s, position %u: %g", names[i], (unsigned)j,
                  distance(all + j * m->hp.n_vocab, want, k));
        }
        CHECK(n_checked == 5 && n == 24, "%s: %u positions of %u tokens", names[i], (unsigned)n_checked, (unsigned)n);
        CHECK(!gpt_eval(bare, ids, n, &err), "%s", err.msg);
        memcpy(without, gpt_logits(bare), m->hp.n_vocab * sizeof *without);
        CHECK(distance(without, want, m->hp.n_vocab) > 1e-2, "%s changes nothing", names[i]);
        free(all);
        free(text);
        gpt_session_free(s);
        gpt_session_free(bare);
        gpt_adapter_free(a);
        gpt_model_free(m);
    }
    CHECK(!counted.live, "%u blocks left", (unsigned)counted.live);
}

/* W + scale alpha / rank B A in the file's own floats; all tensors are F32 */
static void merge(file f, const gpt_model *m, const unsigned char *adapter, size_t n, float alpha, float scale) {
    gpti_source s[2];
    gpti_gguf base, low;
    size_t i, e, r, c, k;
    gpti_source_memory(&s[0], f.p, f.n);
    gpti_source_memory(&s[1], adapter, n);
    CHECK(!gpti_gguf_open(&base, &s[0], 1, &m->mem, NULL) && !gpti_gguf_open(&low, &s[1], 1, &m->mem, NULL), "open");
    for (i = 0; i < low.n_tensor; i += 2) {
        const gpti_tensor *a = &low.tensor[i], *b = a + 1, *t;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)a->name.n - 7, a->name.p);
        t = gpti_gguf_tensor(&base, name);
        for (e = 0; e < t->ne[2]; e++) for (r = 0; r < t->ne[1]; r++) for (c = 0; c < t->ne[0]; c++) {
            const int embd = strstr(name, "token_embd.weight") != NULL;
            const size_t rank = (size_t)b->ne[0];
            float *w = (float *)(void *)(f.p + t->offset) + (e * t->ne[1] + r) * t->ne[0] + c;
            double sum = 0;
            for (k = 0; k < rank; k++) {
                const float *x = (const float *)(const void *)(adapter + a->offset);
                const float *y = (const float *)(const void *)(adapter + b->offset);
                sum += embd ? (double)x[r * rank + k] * (double)y[c * rank + k]
                    : (double)x[(e * rank + k) * t->ne[0] + c] * (double)y[(e * t->ne[1] + r) * rank + k];
            }
            *w = (float)((double)*w + (double)scale * (double)alpha / (double)rank * sum);
        }
    }
    gpti_gguf_close(&base, &m->mem);
    gpti_gguf_close(&low, &m->mem);
}

static const char *const f32_toys[] = { "gpt2", "llama", "llama_tied", "mixtral", "qwen2moe", "qwen3moe", "gemma3", "phi2",
    "phi3", "gptneox", "gptj", "bloom", "falcon_40b", "starcoder", "stablelm_12b", "olmo", "olmo2", "granite", "command_r",
    "gpt_oss", "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp",
    "llama4_cpp", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "smallthinker_cpp", "deepseek2_lite_cpp", "deepseek2_v3_cpp", "t5_cpp", "t5_first_cpp" };

static void test_merged(void) {
    size_t i, n;
    for (i = 0; i < sizeof f32_toys / sizeof *f32_toys; i++) {
        static float with[MAX_VOCAB], merged[MAX_VOCAB], bare[MAX_VOCAB];
        file f = read_file("model", f32_toys[i]);
        gpt_model *m = load_bytes(f.p, f.n, NULL, 0), *other;
        const int tied = m->head.w.data == m->embd.w.data;
        const unsigned char *p;
        gpt_adapter *a = NULL;
        gpt_error err;
        gb g;
        adapter_seed = 100 + (uint32_t)i;
        random_adapter(&g, m, NULL, !tied, 0.7f);
        p = gb_finish(&g, &n);
        CHECK(!load_adapter(&a, m, p, n, &err), "%s: %s", f32_toys[i], err.msg);
        cold(m, a, 0.4f, 3, with);
        cold(m, NULL, 0, 3, bare);
        merge(f, m, p, n, 0.7f, 0.4f);
        other = load_bytes(f.p, f.n, NULL, 0);
        cold(other, NULL, 0, 3, merged);
        CHECK(distance(with, merged, m->hp.n_vocab) < 1e-4, "%s: %g", f32_toys[i], distance(with, merged, m->hp.n_vocab));
        CHECK(distance(bare, merged, m->hp.n_vocab) > 1e-2, "%s: nothing changes", f32_toys[i]);
        gpt_adapter_free(a);
        gpt_model_free(m);
        gpt_model_free(other);
        gb_free(&g);
        free(f.p);
    }
}

/* ---- The same bits ---------------------------------------------------------------------------------------------------- */

static void run_units(void *user, size_t n, size_t cost, gpt_task task, void *arg) {   /* each by itself, workers in turn */
    size_t i;
    (void)user; (void)cost;
    for (i = n; i-- > 0;) task(arg, i, i + 1, (int)(i % 3));
}

static const char *const bit_toys[] = { "llama", "gpt2", "mixtral", "qwen2moe", "llama_f16", "llama_q8_0", "llama_q4_k", "phi3",
    "lfm2_cpp", "qwen35_cpp", "gpt_oss_mxfp4" };

static void test_bits(void) {
    gpti_kernels sets[GPTI_MAX_SET];
    const size_t n_set = gpti_kernels_list(sets);
    size_t i, k;
    for (i = 0; i < sizeof bit_toys / sizeof *bit_toys; i++) {
        static float want[MAX_VOCAB], got[MAX_VOCAB];
        static const size_t chunks[] = { 1, 7, N_TOKEN };
        file f = read_file("model", bit_toys[i]);
        gpt_model *m = load_bytes(f.p, f.n, "ref", 0);
        gpt_adapter *a = load_random(m, 9, NULL);
        cold(m, a, 0.5f, 1, want);
        for (k = 0; k < 6; k++) {
            gpt_session_params p = session_params(a, 0.5f);
            gpt_session *s;
            p.n_batch = k % 2 ? 5 : 0;
            if (k > 2) { p.hooks.parallel.run = run_units; p.hooks.parallel.n_worker = 3; }
            s = new_session(m, &p);
            logits_of(s, 1, chunks[k % 3], got);
            CHECK(same(m, want, got), "%s, chunks of %u", bit_toys[i], (unsigned)chunks[k % 3]);
            gpt_session_free(s);
        }
        gpt_adapter_free(a);
        gpt_model_free(m);
        for (k = 0; k < n_set; k++) {
            if (!sets[k].usable()) continue;
            m = load_bytes(f.p, f.n, sets[k].name, (int)k % 2);
            a = load_random(m, 9, NULL);
            cold(m, a, 0.5f, 1, got);
            CHECK(same(m, want, got), "%s: kernel set %s", bit_toys[i], sets[k].name);
            gpt_adapter_free(a);
            gpt_model_free(m);
        }
        free(f.p);
    }
}

/* Five texts in one work space with two adapters, two scales, none: each is what it is alone. Prompts, then a token each,
 * with n_fill and n_batch small enough that rows of all kinds meet. */
static void test_batch(void) {
    static const float scales[5] = { 1.0f, -0.5f, 0, 1.0f, 1.0f };
    size_t i, k, turn;
    for (i = 0; i < sizeof bit_toys / sizeof *bit_toys; i++) for (turn = 0; turn < 2; turn++) {
        static float want[5][MAX_VOCAB];
        gpt_model *m = load_toy(bit_toys[i]);
        gpt_adapter *a = load_random(m, 9, NULL), *b = load_random(m, 10, "attn");
        const gpt_adapter *of[5];
        gpt_session *s[5];
        gpt_work_params wp;
        gpt_work *w = NULL;
        gpt_token ids[5][N_TOKEN];
        gpt_error err;
        of[0] = of[1] = of[3] = a; of[2] = NULL; of[4] = b;
        memset(&wp, 0, sizeof wp);
        wp.n_batch = turn ? 7 : 0; wp.n_fill = turn ? 3 : 0; wp.n_rank = 5; wp.n_threads = 1;
        CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
        for (k = 0; k < 5; k++) {
            gpt_session_params p = session_params(of[k], scales[k]);
            cold(m, of[k], scales[k], (uint32_t)k, want[k]);
            p.n_threads = 0; p.work = w; p.no_logits = k == 3;
            s[k] = new_session(m, &p);
            tokens_of(m, (uint32_t)k, ids[k], N_TOKEN);
            CHECK(!gpt_eval_begin(s[k], ids[k], N_TOKEN - 3 + k % 3, NULL, &err), "%s", err.msg);
        }
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (k = 0; k < 5; k++)
            CHECK(!gpt_eval_begin(s[k], ids[k] + N_TOKEN - 3 + k % 3, 3 - k % 3, NULL, &err), "%s", err.msg);
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (k = 0; k < 5; k++) if (k != 3)
            CHECK(gpt_logits(s[k]) && same(m, gpt_logits(s[k]), want[k]), "%s: text %u of 5", bit_toys[i], (unsigned)k);
        for (k = 0; k < 5; k++) gpt_session_free(s[k]);
        gpt_work_free(w);
        gpt_adapter_free(a);
        gpt_adapter_free(b);
        gpt_model_free(m);
    }
}

static gpt_poll pause_always(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    ++*(int *)user;
    return GPT_PAUSE;
}

/* A text leaves in the middle of a pass, at each look at the poll hook, and its adapter is freed. The other goes on. */
static void test_leaves(void) {
    gpt_model *m = load_toy("mixtral");
    gpt_adapter *b = load_random(m, 10, NULL);
    static float want[MAX_VOCAB];
    int leave, n_poll = 0, n_paused = 0;
    cold(m, b, 1.0f, 1, want);
    for (leave = 0; leave <= n_poll; leave++) {
        gpt_adapter *a = load_random(m, 9, NULL);
        gpt_session_params p = session_params(a, 0);
        gpt_token ids[N_TOKEN];
        gpt_session *s, *t;
        gpt_work_params wp;
        gpt_work *w = NULL;
        gpt_error err;
        memset(&wp, 0, sizeof wp);
        n_poll = 0;
        wp.n_rank = 5; wp.n_threads = 1; wp.hooks.poll = pause_always; wp.hooks.poll_user = &n_poll;
        CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
        p.n_threads = 0; p.work = w;
        s = new_session(m, &p);
        p.adapter = b;
        t = new_session(m, &p);
        tokens_of(m, 0, ids, N_TOKEN);
        CHECK(!gpt_eval_begin(s, ids, N_TOKEN, NULL, &err), "%s", err.msg);
        tokens_of(m, 1, ids, N_TOKEN);
        CHECK(!gpt_eval_begin(t, ids, N_TOKEN, NULL, &err), "%s", err.msg);
        while (n_poll < leave && gpt_work_step(w, &err) == GPT_MORE) {}
        n_paused += w->cursor.active && w->n_group == 2 && w->fence && w->cursor.unit;
        gpt_session_free(s);
        gpt_adapter_free(a);
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        CHECK(gpt_logits(t) && same(m, gpt_logits(t), want), "left at %d", leave);
        gpt_session_free(t);
        gpt_work_free(w);
    }
    CHECK(n_poll > 10 && n_paused > 2, "%d looks, %d between products and what adapters add", n_poll, n_paused);
    gpt_adapter_free(b);
    gpt_model_free(m);
}

/* ---- What an adapter is part of (each equals its cold run, or is refused) ------------------------------------------------ */

static void test_change(void) {
    gpt_model *m = load_toy("gemma3");          /* windows: a text longer than they are */
    gpt_adapter *a = load_random(m, 9, NULL), *b = load_random(m, 10, NULL);
    const struct { const gpt_adapter *a; float scale; } steps[] = { { a, 1 }, { b, 1 }, { NULL, 0 }, { a, 0.5f }, { a, 0 },
        { a, 1 }, { b, -2 }, { NULL, 7 } };
    static float want[MAX_VOCAB], got[MAX_VOCAB];
    gpt_session_params p = session_params(NULL, 0);
    gpt_session_info info;
    gpt_session *s;
    gpt_error err;
    size_t i, n;
    p.n_rank = 5; p.n_batch = 9;
    s = new_session(m, &p);
    logits_of(s, 2, 11, got);
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        const uint64_t before = s->adapted;
        CHECK(!gpt_session_adapter(s, steps[i].a, steps[i].scale, &err), "%s", err.msg);
        gpt_session_info_get(s, &info);
        gpt_session_tokens(s, &n);
        CHECK(n == N_TOKEN && (before == s->adapted || info.n_computed == 0), "step %u: %u tokens", (unsigned)i, (unsigned)n);
        CHECK((gpt_logits(s) == NULL) == (before != s->adapted), "step %u: logits of before", (unsigned)i);
        CHECK(!gpt_eval(s, NULL, 0, &err), "%s", err.msg);
        cold(m, steps[i].a, steps[i].scale, 2, want);
        CHECK(same(m, gpt_logits(s), want), "step %u", (unsigned)i);
    }
    CHECK(s->adapted == 0, "none is left");
    gpt_session_free(s);
    gpt_adapter_free(a);
    gpt_adapter_free(b);
    gpt_model_free(m);
}

/* A new file of the same name, with other numbers; and the same file twice */
static void test_identity(void) {
    gpt_model *m = load_toy("llama");
    gpt_adapter *a = load_random(m, 9, NULL), *b = load_random(m, 10, NULL), *twin = load_random(m, 9, NULL), *c = NULL;
    const struct { const gpt_adapter *a; float scale; int foreign; } others[] = { { NULL, 0, 1 }, { b, 1, 1 }, { a, 0.5f, 1 },
        { a, -1, 1 }, { twin, 1, 0 }, { a, 0, 0 }, { twin, 0, 0 } };
    static float want[MAX_VOCAB];
    static unsigned char room[1 << 20];
    gpt_token ids[N_TOKEN];
    gpt_session_params p = session_params(a, 1);
    gpt_session *s, *t;
    gpt_writer w;
    gpt_reader r;
    gpt_error err;
    gpt_result got;
    size_t i, n[2];
    int what;
    gb g;
    CHECK(a->digest == twin->digest && a->digest != b->digest, "digests");
    for (i = 0; i < 2; i++) {                   /* one number, in the middle of the file; alpha */
        adapter_seed = 9;
        random_adapter(&g, m, NULL, 1, i ? 3.5f : 3.0f);
        if (!i) g.data.p[g.data.n / 2 | 2] ^= 1;
        gb_finish(&g, &n[0]);
        CHECK(!load_adapter(&c, m, g.file.p, n[0], &err) && c->digest != a->digest, "%s", err.msg);
        gpt_adapter_free(c);
        gb_free(&g);
    }
    s = new_session(m, &p);
    tokens_of(m, 2, ids, N_TOKEN);
    CHECK(!gpt_eval(s, ids, N_TOKEN / 2, &err), "%s", err.msg);
    memset(&w, 0, sizeof w);
    memset(&r, 0, sizeof r);
    for (what = 0; what < 2; what++) {
        w.user = room + (what ? sizeof room / 2 : 0); w.size = sizeof room / 2;
        n[what] = gpt_session_save_bytes(s, what);
        CHECK(!gpt_session_save(s, what, &w, &err), "%s", err.msg);
    }
    CHECK(!gpt_session_freeze(s, &err), "%s", err.msg);
    CHECK(gpt_session_adapter(s, b, 1, &err) == GPT_E_STATE, "frozen: %s", err.msg);
    for (i = 0; i < sizeof others / sizeof *others; i++) {
        cold(m, others[i].a, others[i].scale, 2, want);
        p = session_params(others[i].a, others[i].scale);
        t = new_session(m, &p);
        got = gpt_session_copy(t, s, SIZE_MAX, &err);
        CHECK(got == (others[i].foreign ? GPT_E_FOREIGN : GPT_OK), "copy, case %u: %s", (unsigned)i, err.msg);
        CHECK(!others[i].foreign || strstr(err.msg, "adapter"), "copy, case %u: %s", (unsigned)i, err.msg);
        CHECK(!gpt_eval(t, got ? ids : ids + N_TOKEN / 2, got ? N_TOKEN : N_TOKEN / 2, &err), "%s", err.msg);
        CHECK(same(m, gpt_logits(t), want), "copy, case %u", (unsigned)i);
        for (what = 0; what < 2; what++) {
            r.user = room + (what ? sizeof room / 2 : 0); r.size = n[what];
            got = gpt_session_restore(t, &r, &err);
            CHECK(got == (others[i].foreign ? GPT_E_FOREIGN : GPT_OK), "restore, case %u: %s", (unsigned)i, err.msg);
            CHECK(!gpt_eval(t, got ? ids : ids + N_TOKEN / 2, got ? N_TOKEN : N_TOKEN / 2, &err), "%s", err.msg);
            CHECK(same(m, gpt_logits(t), want), "restore, case %u", (unsigned)i);
        }
        gpt_session_free(t);
        p.prefix = s;
        t = NULL;
        got = gpt_session_new(&t, m, &p, &err);
        CHECK(got == (others[i].foreign ? GPT_E_FOREIGN : GPT_OK), "prefix, case %u: %s", (unsigned)i, err.msg);
        CHECK((gpt_session_bytes(m, &p) == 0) == (got != GPT_OK), "bytes of a foreign prefix, case %u", (unsigned)i);
        if (!t) continue;
        CHECK(!gpt_eval(t, ids + N_TOKEN / 2, N_TOKEN / 2, &err), "%s", err.msg);
        CHECK(same(m, gpt_logits(t), want), "prefix, case %u", (unsigned)i);
        CHECK(gpt_session_adapter(t, b, 1, &err) == GPT_E_FOREIGN, "an adapter that is not the prefix's: %s", err.msg);
        CHECK(!gpt_session_adapter(t, twin, 1, &err) && gpt_logits(t), "the same again: %s", err.msg);
        gpt_session_free(t);
    }
    gpt_session_free(s);
    gpt_adapter_free(a);
    gpt_adapter_free(b);
    gpt_adapter_free(twin);
    gpt_model_free(m);
}

/* gpt_head has the session's adapter; a call under way refuses to change it, so does a text with vectors. */
static void test_calls(void) {
    gpt_model *m = load_toy("llama");
    gpt_adapter *a = load_random(m, 9, NULL);
    gpt_session_params p = session_params(a, 0.5f);
    const size_t D = m->hp.d_model;
    gpt_session *s = new_session(m, &p);
    float x[64], logits[MAX_VOCAB], bare[MAX_VOCAB], want[MAX_VOCAB], with[MAX_VOCAB];
    gpt_eval_params ep;
    gpt_token ids[N_TOKEN];
    gpt_error err;
    size_t i;
    cold(m, a, 0.5f, 2, want);
    memset(&ep, 0, sizeof ep);
    tokens_of(m, 2, ids, N_TOKEN);
    for (i = 0; i < D; i++) x[i] = random_number();
    CHECK(!gpt_head(s, x, logits, &err), "%s", err.msg);
    CHECK(!gpt_session_adapter(s, NULL, 0, &err) && !gpt_head(s, x, bare, &err), "%s", err.msg);
    CHECK(distance(bare, logits, m->hp.n_vocab) > 1e-2, "the head without an adapter");
    CHECK(!gpt_session_adapter(s, a, 0.5f, &err), "%s", err.msg);
    CHECK(!gpt_eval_begin(s, ids, N_TOKEN, NULL, &err), "%s", err.msg);
    CHECK(gpt_session_adapter(s, NULL, 0, &err) == GPT_E_STATE, "under way: %s", err.msg);
    CHECK(!gpt_head(s, x, with, &err) && same(m, with, logits), "the head beside a text under way");
    while (gpt_step(s, &err) == GPT_MORE) {}
    CHECK(same(m, gpt_logits(s), want), "the text beside gpt_head");
    gpt_session_reset(s);
    ep.vectors = x;
    CHECK(!gpt_eval_begin(s, NULL, 1, &ep, &err), "%s", err.msg);
    while (gpt_step(s, &err) == GPT_MORE) {}
    CHECK(gpt_session_adapter(s, NULL, 0, &err) == GPT_E_STATE && strstr(err.msg, "vector"), "%s", err.msg);
    CHECK(!gpt_session_adapter(s, a, 0.5f, &err) && gpt_logits(s), "the same one again: %s", err.msg);
    gpt_session_free(s);
    gpt_adapter_free(a);
    gpt_model_free(m);
}

/* ---- Room ----------------------------------------------------------------------------------------------------------------- */

static void test_room(void) {
    gpt_model *m = load_toy("qwen2moe"), *other = load_toy("llama");
    gpt_adapter *a = load_random(m, 9, NULL);           /* rank 5 */
    gpt_session_params p = session_params(NULL, 0);
    const size_t bare = gpt_session_bytes(m, &p);
    gpt_work_params wp;
    gpt_work *w = NULL;
    gpt_session *s = NULL;
    gpt_error err;
    size_t n, before;
    memset(&wp, 0, sizeof wp);
    wp.n_threads = 1; wp.n_rank = 4;
    CHECK(gpt_session_bytes(m, &p) == bare, "bytes");
    p.n_rank = 5;
    n = gpt_session_bytes(m, &p);
    p.adapter = a; p.n_rank = 0;
    CHECK(n > bare && gpt_session_bytes(m, &p) == n, "the adapter's rank is reserved: %u, %u", (unsigned)n, (unsigned)bare);
    p.n_rank = 3;
    CHECK(gpt_session_bytes(m, &p) == n, "at least the adapter's");
    p.n_rank = 9;
    CHECK(gpt_session_bytes(m, &p) > n, "or more");
    p = session_params(NULL, 0);
    p.n_rank = 4;
    s = new_session(m, &p);
    before = counted.n;
    CHECK(gpt_session_adapter(s, a, 1, &err) == GPT_E_ARG, "rank 5 in 4");
    CHECK(strstr(err.msg, "4") && strstr(err.msg, "5") && strstr(err.msg, "blk.") && is_message(err.msg), "%s", err.msg);
    CHECK(counted.n == before, "a change of adapter allocates");
    gpt_session_free(s);
    CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
    p = session_params(a, 0);
    p.n_threads = 0; p.work = w;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && strstr(err.msg, "rank"), "%s", err.msg);
    p.adapter = NULL; p.n_rank = 1;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && strstr(err.msg, "n_rank"), "%s", err.msg);
    gpt_work_free(w);
    p = session_params(a, INFINITY);
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG, "a scale that is infinite");
    p.adapter_scale = NAN;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG, "a scale that is none");
    p = session_params(NULL, NAN);
    p.n_rank = UINT32_MAX;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_E_ARG && gpt_session_bytes(m, &p) == 0, "n_rank 2^32 - 1: %s", err.msg);
    p = session_params(a, 1);
    CHECK(gpt_session_new(&s, other, &p, &err) == GPT_E_FOREIGN, "another model's: %s", err.msg);
    gpt_adapter_free(NULL);
    gpt_adapter_free(a);
    gpt_model_free(m);
    gpt_model_free(other);
}

/* ---- Files ---------------------------------------------------------------------------------------------------------------- */

static const char Q0[] = "blk.0.attn_q.weight", UP0[] = "blk.0.ffn_up_exps.weight";
static void low(gb *g, const char *name, char side, uint64_t d0, uint64_t d1, uint64_t d2) {
    char full[96];
    uint64_t i;
    snprintf(full, sizeof full, "%s.lora_%c", name, side);
    gb_tensor(g, full, GB_F32, 3, d0, d1, d2, 1, NULL, 0);
    for (i = 0; i < d0 * d1 * d2; i++) gb_float(g, &g->data, 1.0f);
}
static void pair_of(gb *g, const char *name, uint64_t in, uint64_t ra, uint64_t rb, uint64_t out, uint64_t e) {
    low(g, name, 'a', in, ra, e);
    low(g, name, 'b', rb, out, e);
}
/* base: mixtral, D 28, 6 heads of 8, 4 experts of 22 */
static void third_extent(gb *g)   { adapter_head(g, "llama", 1); pair_of(g, UP0, 28, 2, 2, 22, 2); }
static void third_of_b(gb *g)     { adapter_head(g, "llama", 1); low(g, UP0, 'a', 28, 2, 4); low(g, UP0, 'b', 2, 22, 3); }
static void no_third(gb *g)       { adapter_head(g, "llama", 1); pair_of(g, UP0, 28, 2, 2, 22, 1); }
static void needless_third(gb *g) { adapter_head(g, "llama", 1); pair_of(g, Q0, 28, 2, 2, 48, 4); }
static void rank_0(gb *g)         { adapter_head(g, "llama", 1); pair_of(g, Q0, 28, 0, 0, 48, 1); }
static void unlike_ranks(gb *g)   { adapter_head(g, "llama", 1); pair_of(g, Q0, 28, 2, 3, 48, 1); }
static void narrow_a(gb *g)       { adapter_head(g, "llama", 1); pair_of(g, Q0, 27, 2, 2, 48, 1); }
static void short_b(gb *g)        { adapter_head(g, "llama", 1); pair_of(g, Q0, 28, 2, 2, 47, 1); }
static void turned(gb *g)         { adapter_head(g, "llama", 1); pair_of(g, Q0, 2, 28, 2, 48, 1); }
static void no_b(gb *g)           { adapter_head(g, "llama", 1); low(g, Q0, 'a', 28, 2, 1); }
static void no_a(gb *g)           { adapter_head(g, "llama", 1); low(g, Q0, 'b', 2, 48, 1); }
static void no_layer(gb *g)       { adapter_head(g, "llama", 1); pair_of(g, "blk.2.attn_q.weight", 28, 2, 2, 48, 1); }
static void same_layer(gb *g)     { adapter_head(g, "llama", 1); pair_of(g, "blk.00.attn_q.weight", 28, 2, 2, 48, 1); }
static void no_matrix(gb *g)      { adapter_head(g, "llama", 1); pair_of(g, "blk.0.attn_qkv.weight", 28, 2, 2, 48, 1); }
static void of_a_norm(gb *g)      { adapter_head(g, "llama", 1); pair_of(g, "blk.0.attn_norm.weight", 28, 2, 2, 1, 1); }
static void of_a_bias(gb *g)      { adapter_head(g, "llama", 1); pair_of(g, "blk.0.attn_q.bias", 28, 2, 2, 48, 1); }
static void long_name(gb *g) {
    adapter_head(g, "llama", 1);
    pair_of(g, "blk.0.attn_q.weight.attn_q.weight.attn_q.weight.attn_q.weight.attn_q.weight", 28, 2, 2, 48, 1);
}
static void only_suffix(gb *g)    { adapter_head(g, "llama", 1); pair_of(g, "", 28, 2, 2, 48, 1); }
static void a_weight(gb *g)       { adapter_head(g, "llama", 1); gb_tensor(g, Q0, GB_F32, 2, 28, 48, 1, 1, NULL, 28 * 48 * 4); }
static void short_name(gb *g)     { adapter_head(g, "llama", 1); gb_tensor(g, "a", GB_F32, 2, 1, 1, 1, 1, NULL, 4); }
static void no_tensors(gb *g)     { adapter_head(g, "llama", 1); }
static void nan_alpha(gb *g)      { adapter_head(g, "llama", NAN); pair_of(g, Q0, 28, 2, 2, 48, 1); }
static void other_arch(gb *g)     { adapter_head(g, "qwen3", 1); pair_of(g, Q0, 28, 2, 2, 48, 1); }
static void fourth(gb *g) {
    adapter_head(g, "llama", 1);
    gb_tensor(g, "blk.0.attn_q.weight.lora_a", GB_F32, 4, 28, 2, 1, 2, NULL, 28 * 2 * 2 * 4);
    low(g, Q0, 'b', 2, 48, 1);
}
static void a_model(gb *g)        { gb_init(g, 3, 0); gb_kv_str(g, "general.architecture", "llama"); }
static void a_vector(gb *g) {
    gb_init(g, 3, 0);
    gb_kv_str(g, "general.type", "adapter");
    gb_kv_str(g, "adapter.type", "control_vector");
}
static void a_lora(gb *g) {
    adapter_head(g, "llama", 1);
    gb_kv_array(g, "adapter.alora.invocation_tokens", GB_U32, 1);
    gb_uint(g, &g->kv, 1, 4);
    pair_of(g, Q0, 28, 2, 2, 48, 1);
}
static void text_alpha(gb *g) {
    gb_init(g, 3, 0);
    gb_kv_str(g, "general.architecture", "llama");
    gb_kv_str(g, "general.type", "adapter");
    gb_kv_str(g, "adapter.type", "lora");
    gb_kv_str(g, "adapter.lora.alpha", "16");
    pair_of(g, Q0, 28, 2, 2, 48, 1);
}

static void test_bad_files(void) {
    static const struct { void (*make)(gb *g); gpt_result code; const char *msg; } cases[] = {
        { third_extent, GPT_E_SHAPE, "blk.0.ffn_up_exps.weight.lora_a: expected [28, 2, 4], file has [28, 2, 2]" },
        { third_of_b, GPT_E_SHAPE, "blk.0.ffn_up_exps.weight.lora_b: expected [2, 22, 4], file has [2, 22, 3]" },
        { no_third, GPT_E_SHAPE, "blk.0.ffn_up_exps.weight.lora_a: expected [28, 2, 4], file has [28, 2, 1]" },
        { needless_third, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_a: expected [28, 2, 1], file has [28, 2, 4]" },
        { rank_0, GPT_E_FORMAT, "blk.0.attn_q.weight.lora_a: extents must not be 0, file has F32 [28, 0, 1]" },
        { unlike_ranks, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_b: expected [2, 48, 1], file has [3, 48, 1]" },
        { narrow_a, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_a: expected [28, 2, 1], file has [27, 2, 1]" },
        { short_b, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_b: expected [2, 48, 1], file has [2, 47, 1]" },
        { turned, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_a: expected [28, 28, 1], file has [2, 28, 1]" },
        { fourth, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_a: expected [28, 2, 1], file has" },
        { no_b, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_b: missing, and blk.0.attn_q.weight.lora_a needs it" },
        { no_a, GPT_E_SHAPE, "blk.0.attn_q.weight.lora_a: missing, and blk.0.attn_q.weight.lora_b needs it" },
        { no_layer, GPT_E_SHAPE, "blk.2.attn_q.weight.lora_a: the model has no such matrix" },
        { same_layer, GPT_E_SHAPE, "blk.00.attn_q.weight.lora_a: the model has no such matrix" },
        { no_matrix, GPT_E_SHAPE, "blk.0.attn_qkv.weight.lora_a: the model has no such matrix" },
        { of_a_norm, GPT_E_SHAPE, "blk.0.attn_norm.weight.lora_a: the model has no such matrix" },
        { of_a_bias, GPT_E_SHAPE, "blk.0.attn_q.bias.lora_a: the model has no such matrix" },
        { long_name, GPT_E_SHAPE, "the model has no such matrix" },
        { only_suffix, GPT_E_SHAPE, ".lora_a: the model has no such matrix" },
        { a_weight, GPT_E_UNSUPPORTED, "blk.0.attn_q.weight: expected tensors named .lora_a and .lora_b" },
        { short_name, GPT_E_UNSUPPORTED, "a: expected tensors named .lora_a and .lora_b" },
        { no_tensors, GPT_E_FORMAT, "the adapter has no tensors" },
        { nan_alpha, GPT_E_FORMAT, "adapter.lora.alpha: expected" },
        { text_alpha, GPT_E_FORMAT, "adapter.lora.alpha: expected a number" },
        { other_arch, GPT_E_FOREIGN, "general.architecture: expected \"llama\", file has \"qwen3\"" },
        { a_model, GPT_E_UNSUPPORTED, "general.type: expected \"adapter\", file has \"\"" },
        { a_vector, GPT_E_UNSUPPORTED, "adapter.type: expected \"lora\", file has \"control_vector\"" },
        { a_lora, GPT_E_UNSUPPORTED, "adapter.alora.invocation_tokens" }
    };
    gpt_model *m = load_toy("mixtral"), *head = NULL, *other = NULL;
    gpt_model_params mp;
    gpt_adapter *a = (gpt_adapter *)(void *)m;
    gpt_error err;
    file f;
    size_t i, n, k;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t live = counted.live;
        gb g;
        gpt_result r;
        cases[i].make(&g);
        gb_finish(&g, &n);
        a = (gpt_adapter *)(void *)m;
        r = load_adapter(&a, m, g.file.p, n, &err);
        CHECK(r == cases[i].code && !a && strstr(err.msg, cases[i].msg) && is_message(err.msg), "case %u: expected %s, found %d %s",
              (unsigned)i, cases[i].msg, (int)r, err.msg);
        CHECK(counted.live == live, "case %u: blocks left", (unsigned)i);
        gb_free(&g);
    }
    CHECK(gpt_adapter_load(&a, m, "tests/golden/lora/absent.gguf", &err) == GPT_E_IO && !a, "%s", err.msg);
    CHECK(gpt_adapter_load(&a, m, "tests/golden/model/mixtral.gguf", &err) == GPT_E_UNSUPPORTED &&
          strstr(err.msg, "mixtral.gguf: general.type"), "%s", err.msg);
    CHECK(gpt_model_load(&other, "tests/golden/lora/mixtral.gguf", NULL, &err) == GPT_E_UNSUPPORTED && !other &&
          strstr(err.msg, "general.type: expected a model, the file is \"adapter\""), "%s", err.msg);
    CHECK(gpt_adapter_load(NULL, m, "x", &err) == GPT_E_ARG && gpt_adapter_load(&a, NULL, "x", &err) == GPT_E_ARG &&
          gpt_adapter_load(&a, m, NULL, &err) == GPT_E_ARG && gpt_adapter_load_reader(&a, m, NULL, &err) == GPT_E_ARG, "NULL");
    /* each allocation fails; each byte is the last */
    f = read_file("lora", "mixtral");
    for (i = 1, k = 1; k; i++) {
        const size_t live = counted.live;
        counted.fail_at = counted.n + i;
        k = load_adapter(&a, m, f.p, f.n, &err) == GPT_E_MEMORY;
        CHECK(k == !a && (a || counted.live == live), "allocation %u: %s", (unsigned)i, err.msg);
        gpt_adapter_free(a);
        CHECK(counted.live == live && i < 1000, "allocation %u: blocks left", (unsigned)i);
    }
    counted.fail_at = 0;
    for (n = 0; n < f.n; n += n < 2000 ? 1 : 97)
        CHECK(load_adapter(&a, m, f.p, n, &err) == GPT_E_FORMAT && !a, "%u bytes", (unsigned)n);
    free(f.p);
    f = read_file("model", "mixtral");
    memset(&mp, 0, sizeof mp);
    mp.header_only = 1;
    CHECK(!gpt_model_load_memory(&head, f.p, f.n, &mp, &err), "%s", err.msg);
    free(f.p);
    f = read_file("lora", "mixtral");
    CHECK(load_adapter(&a, head, f.p, f.n, &err) == GPT_E_STATE && !a, "header_only: %s", err.msg);
    free(f.p);
    gpt_model_free(head);
    gpt_model_free(m);
    CHECK(!counted.live, "%u blocks left", (unsigned)counted.live);
}

/* F16, BF16 with odd lengths, Q8_0: the same as their numbers in F32; big-endian; no alpha is a factor of 1. */
static void test_formats(void) {
    static const uint32_t types[] = { GB_F32, GB_F16, GB_BF16 };
    gpt_model *m = load_toy("llama");           /* D 30 */
    static float want[MAX_VOCAB], got[MAX_VOCAB];
    size_t i, k, n;
    for (i = 0; i < 8; i++) {
        const uint32_t type = types[i % 3];
        gpt_adapter *a = NULL;
        gpt_error err;
        gb g;
        adapter_seed = 4;
        gb_init(&g, 3, i >= 3 && i < 6);
        gb_kv_str(&g, "general.architecture", "llama");
        gb_kv_str(&g, "general.type", "adapter");
        gb_kv_str(&g, "adapter.type", "lora");
        if (i < 6) gb_kv_f32(&g, "adapter.lora.alpha", 3.0f);       /* = the rank: 1 */
        if (i == 7) gb_kv_f32(&g, "adapter.lora.alpha", 0.0f);      /* as llama.cpp reads it */
        for (k = 0; k < 2; k++) {
            const uint64_t d0 = k ? 3 : 30, d1 = k ? 97 : 3;
            uint64_t j;
            gb_tensor(&g, k ? "output.weight.lora_b" : "output.weight.lora_a", i < 6 ? type : GB_F32, 2, d0, d1, 1, 1, NULL, 0);
            for (j = 0; j < d0 * d1; j++) {
                const float x = (float)(int)(random_number() * 16.0f) / 8.0f;       /* exact in all of them */
                uint32_t bits;
                memcpy(&bits, &x, 4);
                if (i >= 6 || type == GB_F32) gb_float(&g, &g.data, x);
                else gb_uint(&g, &g.data, type == GB_F16 ? gpti_f32_f16(x) : bits >> 16, 2);
            }
        }
        gb_finish(&g, &n);
        CHECK(!load_adapter(&a, m, g.file.p, n, &err), "case %u: %s", (unsigned)i, err.msg);
        if (!a) break;
        cold(m, a, 1, 2, i ? got : want);
        CHECK(!i || same(m, got, want), "case %u", (unsigned)i);
        gpt_adapter_free(a);
        gb_free(&g);
    }
    cold(m, NULL, 0, 2, got);
    CHECK(distance(got, want, m->hp.n_vocab) > 1e-2, "it changes nothing");
    gpt_model_free(m);
}

static const test tests[] = {
    { "peft", test_peft }, { "merged", test_merged }, { "bits", test_bits }, { "batch", test_batch }, { "leaves", test_leaves },
    { "change", test_change }, { "identity", test_identity }, { "calls", test_calls }, { "room", test_room },
    { "bad_files", test_bad_files }, { "formats", test_formats }, { NULL, NULL }
};
int main(int argc, char **argv) { test_run(tests, argc, argv); return test_report("unit_adapter"); }
