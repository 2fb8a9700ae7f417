/* Encoder-decoders: a text is what the encoder reads, the start token, what the decoder writes. Whatever is done with it, cut,
 * copied, saved, frozen, cancelled, batched, its logits are those of a session that computes it anew, to the bit. Then what
 * gpt.h says of them, one test a promise. What they compute is for unit_model.c. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "test.h"
#include "gguf_builder.h"
#include "adapter.h"

static uint32_t seed = 1;
static uint32_t below(uint32_t n) { seed = seed * 1664525u + 1013904223u; return (uint32_t)(((uint64_t)seed * n) >> 32); }

typedef struct heap { size_t live, n; } heap;
static heap counted;
static void *heap_alloc(void *user, size_t n) {
    void *p = malloc(n);
    if (p) { memset(p, 0xFF, n); ((heap *)user)->live++; ((heap *)user)->n++; }
    return p;
}
static void heap_free(void *user, void *p) { ((heap *)user)->live--; free(p); }

/* ---- A model of random weights that reads and writes letters ------------------------------------------------------- */

enum { D = 24, H = 3, HEAD = 8, FF = 20, N_ENC = 2, N_DEC = 2, BUCKETS = 8, START = 0, END = 1, N_VOCAB = 34, N_CTX = 80 };

static void add(gb *g, const char *name, uint64_t d0, uint64_t d1) {
    float w[N_VOCAB * D];
    size_t i, n = (size_t)(d0 * (d1 ? d1 : 1));
    for (i = 0; i < n; i++) w[i] = (d1 ? 0.0f : 1.0f) + (float)((double)below(2001) / 2000.0 - 0.5);
    gb_tensor_f32(g, name, d1 ? 2 : 1, d0, d1, w);
}

static void add_block(gb *g, const char *block, size_t i, int decoder) {
    char name[64];
    int cross, k;
#define NAME(...) (snprintf(name, sizeof name, "%s.blk.%u.", block, (unsigned)i), \
                   snprintf(name + strlen(name), sizeof name - strlen(name), __VA_ARGS__), name)
    for (cross = 0; cross <= decoder; cross++) {
        const char *part = cross ? "cross_" : "";
        add(g, NAME("%sattn_norm.weight", part), D, 0);
        for (k = 0; k < 3; k++) add(g, NAME("%sattn_%c.weight", part, "qkv"[k]), D, H * HEAD);
        add(g, NAME("%sattn_o.weight", part), H * HEAD, D);
        if (!i && !cross) add(g, NAME("attn_rel_b.weight"), H, BUCKETS);
    }
    add(g, NAME("ffn_norm.weight"), D, 0);
    add(g, NAME("ffn_gate.weight"), D, FF);
    add(g, NAME("ffn_up.weight"), D, FF);
    add(g, NAME("ffn_down.weight"), FF, D);
#undef NAME
}

static gpt_model *make_model(int n_threads) {
    const uint32_t before = seed;
    gpt_model_params p;
    gpt_model *m = NULL;
    gpt_error err;
    const unsigned char *file;
    char text[8];
    size_t n, i;
    gb g;
    memset(&p, 0, sizeof p);
    p.alloc.alloc = heap_alloc; p.alloc.free = heap_free; p.alloc.user = &counted; p.n_threads = n_threads;
    seed = 7;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", "t5");
    gb_kv_u32(&g, "t5.block_count", N_ENC);
    gb_kv_u32(&g, "t5.decoder_block_count", N_DEC);
    gb_kv_u32(&g, "t5.context_length", N_CTX / 2);
    gb_kv_u32(&g, "t5.embedding_length", D);
    gb_kv_u32(&g, "t5.feed_forward_length", FF);
    gb_kv_u32(&g, "t5.attention.head_count", H);
    gb_kv_u32(&g, "t5.attention.key_length", HEAD);
    gb_kv_u32(&g, "t5.attention.value_length", HEAD);
    gb_kv_u32(&g, "t5.attention.relative_buckets_count", BUCKETS);
    gb_kv_u32(&g, "t5.decoder_start_token_id", START);
    gb_kv_f32(&g, "t5.attention.layer_norm_rms_epsilon", 1e-6f);
    gb_kv_str(&g, "tokenizer.ggml.model", "t5");
    gb_kv_array(&g, "tokenizer.ggml.tokens", GB_STR, N_VOCAB);
    for (i = 0; i < N_VOCAB; i++) {
        const char *const first[] = { "<pad>", "</s>", "<unk>", "\xE2\x96\x81", "\xE2\x96\x81" "a", "ab", "\xE2\x96\x81" "b", "ba" };
        sprintf(text, "%c", (int)('a' + (i + 26 - 8) % 26));
        gb_text(&g, &g.kv, i < 8 ? first[i] : text, strlen(i < 8 ? first[i] : text));
    }
    gb_kv_array(&g, "tokenizer.ggml.token_type", GB_I32, N_VOCAB);
    for (i = 0; i < N_VOCAB; i++) gb_uint(&g, &g.kv, i < 2 ? 3 : i == 2 ? 2 : 1, 4);
    gb_kv_array(&g, "tokenizer.ggml.scores", GB_FLOAT, N_VOCAB);
    for (i = 0; i < N_VOCAB; i++) gb_float(&g, &g.kv, i < 8 ? -1.0f : -2.0f);
    gb_kv_u32(&g, "tokenizer.ggml.eos_token_id", END);
    add(&g, "token_embd.weight", D, N_VOCAB);
    add(&g, "output.weight", D, N_VOCAB);
    add(&g, "enc.output_norm.weight", D, 0);
    add(&g, "dec.output_norm.weight", D, 0);
    for (i = 0; i < N_ENC; i++) add_block(&g, "enc", i, 0);
    for (i = 0; i < N_DEC; i++) add_block(&g, "dec", i, 1);
    file = gb_finish(&g, &n);
    CHECK(gpt_model_load_memory(&m, file, n, &p, &err) == GPT_OK, "%s", err.msg);
    gb_free(&g);
    seed = before;
    if (!m) exit(test_report("unit_t5"));
    return m;
}

static gpt_session *make(const gpt_model *m, const gpt_session_params *params) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    if (params) p = *params;
    if (!p.work && !p.n_threads) p.n_threads = 1;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_OK, "%s", err.msg);
    if (!s) exit(test_report("unit_t5"));
    return s;
}

/* ---- A history: sessions in slots, each beside a list of the tokens that it should have ---------------------------- */

enum { N_SLOT = 5, N_OP = 1500 };
typedef struct slot { gpt_session *s; gpt_token t[N_CTX]; size_t n; gpt_kv kv; uint32_t n_batch; } slot;
static unsigned n_compared, n_cancelled;

/* Where the start token stands; n: it has not come */
static size_t start_of(const gpt_token *t, size_t n) {
    size_t i = 1;
    while (i < n && t[i] != START) i++;
    return i < n ? i : n;
}

static void add_tokens(slot *k, const gpt_token *ids, size_t n) {
    if (n) memcpy(k->t + k->n, ids, n * sizeof *ids);
    k->n += n;
    if (k->n && start_of(k->t, k->n) == k->n && k->t[k->n - 1] == END) k->t[k->n++] = START;
}

/* The logits are those of a session that reads the tokens in other pieces. */
static void compare(const gpt_model *m, slot *k, const char *after) {
    const gpt_token *t;
    gpt_session_params p;
    gpt_session_info info;
    gpt_session *ref;
    gpt_error err;
    size_t n, from, step = 1 + below(9);
    t = gpt_session_tokens(k->s, &n);
    CHECK(n == k->n && !memcmp(t, k->t, n * sizeof *t), "%s: %u tokens, expected %u, or others", after, (unsigned)n, (unsigned)k->n);
    CHECK(gpt_eval(k->s, NULL, 0, &err) == GPT_OK, "%s: %s", after, err.msg);
    add_tokens(k, NULL, 0);
    gpt_session_info_get(k->s, &info);
    if (start_of(k->t, k->n) == k->n) {
        CHECK(!gpt_logits(k->s) && !info.n_computed, "%s: the encoder's text has no end, and %u of %u tokens are computed", after,
              (unsigned)info.n_computed, (unsigned)k->n);
        return;
    }
    memset(&p, 0, sizeof p);
    p.kv = k->kv; p.n_threads = 1 + (int)below(3); p.n_batch = (uint32_t)start_of(k->t, k->n) + below(4);
    ref = make(m, &p);
    for (from = 0; from < k->n; from += step) {
        if (step > k->n - from) step = k->n - from;
        CHECK(gpt_eval(ref, k->t + from, step, &err) == GPT_OK, "%s: %s", after, err.msg);
        gpt_session_tokens(ref, &n);
        if (n > from + step) from++;            /* its start token came with the end token */
    }
    CHECK(info.n_computed == k->n && gpt_logits(k->s) && gpt_logits(ref) && !memcmp(gpt_logits(k->s), gpt_logits(ref), N_VOCAB * sizeof(float)),
          "%s: %u tokens, %u of them for the encoder, %u computed: other bits", after, (unsigned)k->n, (unsigned)start_of(k->t, k->n), (unsigned)info.n_computed);
    n_compared++;
    gpt_session_free(ref);
}

static size_t some_tokens(gpt_token *out, size_t most) {
    size_t n = below((uint32_t)most + 1), i;
    for (i = 0; i < n; i++) out[i] = (gpt_token)(3 + below(N_VOCAB - 3));
    return n;
}

/* Another text: at times whole, at times without its end */
static size_t some_text(gpt_token *out, size_t most) {
    size_t n = 1 + some_tokens(out + 1, most);
    out[0] = (below(4) ? (gpt_token)(2 + below(N_VOCAB - 2)) : (gpt_token)START);    /* which counts from the second on */
    switch (below(4)) {
    case 0: out[n++] = START; n += some_tokens(out + n, 6); break;
    case 1: break;
    default: out[n++] = END;
    }
    return n;
}

static gpt_poll poll_left(void *user, size_t done, size_t total) {
    unsigned *left = (unsigned *)user;
    (void)done; (void)total;
    return *left && --*left == 0 ? GPT_CANCEL : GPT_GO;
}

static void open_slot(const gpt_model *m, slot *k, const gpt_session *prefix) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    if (!prefix) { k->kv = (gpt_kv)below(4); k->n = 0; }
    k->n_batch = 24 + below(20);
    p.kv = k->kv; p.n_batch = k->n_batch; p.n_threads = 1 + (int)below(2); p.prefix = prefix; p.no_logits = 0;
    k->s = make(m, &p);
}

/* One thing done to a slot; what its text then is. */
static const char *operation(const gpt_model *m, slot *slots, slot *k) {
    static unsigned char room[1 << 17];
    gpt_token ids[N_CTX];
    gpt_session_info before;
    gpt_reader r;
    gpt_writer w;
    gpt_hooks hooks;
    gpt_error err;
    unsigned left;
    size_t n, old = k->n;
    slot *o = &slots[below(N_SLOT)];
    const char *name = "tokens";
    switch (below(9)) {
    case 0: case 1:
        n = some_tokens(ids, 7);
        if (!k->n || k->n + n + 2 > N_CTX || (start_of(k->t, k->n) == k->n && k->n + n > k->n_batch)) { gpt_session_reset(k->s); k->n = 0; n = some_text(ids, 18); name = "another text"; }
        if (!n && start_of(k->t, k->n) == k->n) break;
        CHECK(gpt_eval(k->s, ids, n, &err) == GPT_OK, "%s: %s", name, err.msg);
        add_tokens(k, ids, n);
        break;
    case 2:
        name = "rewind";
        n = below((uint32_t)k->n + 1);
        CHECK(gpt_session_rewind(k->s, n, &err) == GPT_OK, "%s: %s", name, err.msg);
        k->n = n;
        break;
    case 3:
        name = "the end of a text";
        if (start_of(k->t, k->n) < k->n || k->n + 2 > N_CTX) break;
        ids[0] = END;
        CHECK(gpt_eval(k->s, ids, 1, &err) == GPT_OK, "%s: %s", name, err.msg);
        add_tokens(k, ids, 1);
        break;
    case 4:
        name = "copy";
        if (o->kv != k->kv || o == k || start_of(o->t, o->n) > k->n_batch) break;
        n = below((uint32_t)o->n + 2);
        CHECK(gpt_session_copy(k->s, o->s, n, &err) == GPT_OK, "%s: %s", name, err.msg);
        k->n = n < o->n ? n : o->n;
        memcpy(k->t, o->t, k->n * sizeof *k->t);
        break;
    case 5:
        name = "save";
        if (o->kv != k->kv || start_of(k->t, k->n) > o->n_batch) break;
        memset(&w, 0, sizeof w); memset(&r, 0, sizeof r);
        n = below(2);
        w.user = r.user = room; w.size = sizeof room; r.size = gpt_session_save_bytes(k->s, (int)n);
        CHECK(gpt_session_save(k->s, (int)n, &w, &err) == GPT_OK && gpt_session_restore(o->s, &r, &err) == GPT_OK, "%s: %s", name, err.msg);
        if (o != k) { memcpy(o->t, k->t, k->n * sizeof *k->t); o->n = k->n; compare(m, o, "restore"); }
        break;
    case 6:                                     /* at any time within the passes */
        name = "cancel";
        gpt_session_reset(k->s); k->n = 0;
        memset(&hooks, 0, sizeof hooks);
        left = 1 + below(120);
        hooks.poll = poll_left; hooks.poll_user = &left;
        gpt_session_hooks(k->s, &hooks, &err);
        n = some_text(ids, 18);
        if (gpt_eval(k->s, ids, n, &err)) {
            const gpt_token *t = gpt_session_tokens(k->s, &k->n);
            gpt_session_info_get(k->s, &before);
            add_tokens((memset(k->t, 0, sizeof k->t), old = k->n, k->n = 0, k), ids, n);
            CHECK(err.code == GPT_E_CANCELLED && old <= k->n && !memcmp(t, k->t, old * sizeof *t) && before.n_computed == old, "%s: %s", name, err.msg);
            k->n = old;
            n_cancelled++;
        } else add_tokens(k, ids, n);
        gpt_session_hooks(k->s, NULL, &err);
        break;
    case 7: {                                   /* its frozen copy is a prefix, from which another goes on, and back */
        slot child = *k;
        gpt_session_params p;
        gpt_session *still;
        name = "prefix";
        if (start_of(k->t, k->n) == k->n) break;
        memset(&p, 0, sizeof p);
        p.kv = k->kv;
        still = make(m, &p);
        CHECK(!gpt_session_copy(still, k->s, k->n, &err) && !gpt_session_freeze(still, &err), "%s: %s", name, err.msg);
        child.n_batch = N_CTX;
        open_slot(m, &child, still);
        if (child.n_batch >= start_of(k->t, k->n)) {
            compare(m, &child, "a prefix alone");
            n = some_tokens(ids, 5);
            if (k->n + n <= N_CTX && n) {
                CHECK(gpt_eval(child.s, ids, n, &err) == GPT_OK, "%s: %s", name, err.msg);
                add_tokens(&child, ids, n);
                compare(m, &child, name);
            }
            n = below((uint32_t)child.n + 1);
            if (gpt_session_rewind(child.s, n, &err) == GPT_OK) { child.n = n; compare(m, &child, "a rewind into a prefix"); }
        }
        gpt_session_free(child.s);
        gpt_session_free(still);
        break;
    }
    default:
        name = "generate";
        if (k->n && k->n + 3 < N_CTX && start_of(k->t, k->n) <= k->n_batch) {
            gpt_generate_params g;
            const gpt_token *t;
            memset(&g, 0, sizeof g);
            g.max_tokens = 1 + below(5); g.ignore_end = 1; g.sample.temperature = 1.0f; g.sample.seed = below(100); g.n_draft = below(2) * 4;
            CHECK(gpt_generate(k->s, below(2) ? NULL : "", &g, NULL, NULL, &err) == GPT_OK, "%s: %s", name, err.msg);
            t = gpt_session_tokens(k->s, &n);
            if (start_of(k->t, k->n) == k->n) k->t[k->n] = START, old++;
            CHECK(n > old && !memcmp(t, k->t, old * sizeof *t), "%s: %u tokens became %u", name, (unsigned)old, (unsigned)n);
            memcpy(k->t, t, n * sizeof *t);
            k->n = n;
        }
    }
    return name;
}

static void test_history(void) {
    gpt_model *m = make_model(1);
    slot slots[N_SLOT];
    unsigned i;
    seed = 3;
    for (i = 0; i < N_SLOT; i++) open_slot(m, &slots[i], NULL);
    for (i = 0; i < N_OP && test_failed < 10; i++) {
        slot *k = &slots[below(N_SLOT)];
        const char *name = operation(m, slots, k);
        if (start_of(k->t, k->n) <= k->n_batch) compare(m, k, name);
        if (below(60)) continue;
        gpt_session_free(k->s);
        open_slot(m, k, NULL);
    }
    CHECK(n_compared > N_OP / 2 && n_cancelled > 20, "%u texts compared, %u cancelled", n_compared, n_cancelled);
    for (i = 0; i < N_SLOT; i++) gpt_session_free(slots[i].s);
    gpt_model_free(m);
    CHECK(!counted.live, "%u blocks left", (unsigned)counted.live);
}

/* ---- Many at once: some read, some write, in one work space -------------------------------------------------------- */

typedef struct heard { char p[512]; size_t n; } heard;
static int hear(void *user, const char *text, size_t n) {
    heard *h = (heard *)user;
    if (n > sizeof h->p - h->n) n = sizeof h->p - h->n;
    memcpy(h->p + h->n, text, n);
    h->n += n;
    return 0;
}
static gpt_poll pause_often(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    return ++*(unsigned *)user % 3 ? GPT_GO : GPT_PAUSE;
}

static void test_batch(void) {
    static const char *const prompts[] = { "abba", "a b c d e f g h i j k", "", "zz top ab ab ab", "b", "the quick brown fox jumps over" };
    enum { N = sizeof prompts / sizeof *prompts };
    gpt_model *m = make_model(2);
    gpt_work_params wp;
    gpt_work *w = NULL;
    gpt_session *s[N], *alone = make(m, NULL);
    gpt_generate_params g;
    gpt_session_params p;
    gpt_error err;
    heard said[N], want;
    unsigned polls = 0;
    size_t i, step;
    int round;
    memset(&wp, 0, sizeof wp); memset(&p, 0, sizeof p); memset(&g, 0, sizeof g);
    wp.n_batch = 33; wp.n_fill = 3; wp.n_threads = 2;
    wp.hooks.poll = pause_often; wp.hooks.poll_user = &polls;
    g.max_tokens = 25; g.ignore_end = 1; g.sample.temperature = 1.0f;
    for (round = 0; round < 8; round++) {
        CHECK(gpt_work_new(&w, m, &wp, &err) == GPT_OK, "%s", err.msg);
        p.work = w; p.no_logits = round & 1; p.kv = (gpt_kv)(round / 2);
        for (i = 0; i < N; i++) { s[i] = make(m, &p); said[i].n = 0; }
        for (step = i = 0; i < N || step < 40000; step++) {
            if (i < N && (step % 5 == 0)) {
                g.sample.seed = i; g.n_draft = i % 2 ? 4 : 0;
                CHECK(gpt_begin(s[i], prompts[i], &g, hear, &said[i], &err) == GPT_OK, "%s", err.msg);
                i++;
            }
            if (i < N) gpt_session_hold(s[below((uint32_t)i + 1)], (int)below(2));
            else { size_t k; for (k = 0; k < N; k++) gpt_session_hold(s[k], 0); }
            if (gpt_work_step(w, &err) != GPT_MORE && i == N) break;
        }
        for (i = 0; i < N; i++) {
            gpt_session *ref;
            p.work = NULL;
            ref = make(m, &p);
            g.sample.seed = i; g.n_draft = 0; want.n = 0;
            CHECK(gpt_generate(ref, prompts[i], &g, hear, &want, &err) == GPT_OK, "%s", err.msg);
            CHECK(want.n && want.n == said[i].n && !memcmp(want.p, said[i].p, want.n), "\"%s\": \"%.*s\", alone \"%.*s\"", prompts[i], (int)said[i].n,
                  said[i].p, (int)want.n, want.p);
            gpt_session_free(ref);
            gpt_session_free(s[i]);
        }
        gpt_work_free(w);
    }
    gpt_session_free(alone);
    gpt_model_free(m);
}

/* ---- One promise a test -------------------------------------------------------------------------------------------- */

/* A prompt is all that the encoder reads: it replaces what was there. */
static void test_prompt(void) {
    gpt_model *m = make_model(1);
    gpt_session *s = make(m, NULL), *fresh;
    gpt_generate_params g;
    gpt_session_info info;
    gpt_error err;
    const gpt_token *t, *u;
    heard a, b;
    size_t n, k, i;
    memset(&g, 0, sizeof g);
    g.max_tokens = 9; g.ignore_end = 1;
    for (i = 0; i < 3; i++) {
        const char *const prompt[] = { "ab ba", "c", "hello world" };
        fresh = make(m, NULL);
        a.n = b.n = 0;
        CHECK(!gpt_generate(s, prompt[i], &g, hear, &a, &err) && !gpt_generate(fresh, prompt[i], &g, hear, &b, &err), "%s", err.msg);
        t = gpt_session_tokens(s, &n); u = gpt_session_tokens(fresh, &k);
        gpt_session_info_get(s, &info);
        CHECK(n == k && !memcmp(t, u, n * sizeof *t) && a.n == b.n && !memcmp(a.p, b.p, a.n), "\"%s\": another text than of a new session", prompt[i]);
        CHECK(info.n_prompt == start_of(t, n) + 1 && info.n_generated == 9 && n == info.n_prompt + 9 && t[info.n_prompt - 2] == END, "\"%s\": a prompt of %u tokens",
              prompt[i], (unsigned)info.n_prompt);
        CHECK(!gpt_generate(s, NULL, &g, hear, &a, &err) && (gpt_session_tokens(s, &n), n == k + 9), "it goes on: %s", err.msg);
        gpt_session_free(fresh);
    }
    n = counted.n;
    gpt_eval(s, NULL, 0, &err); gpt_session_rewind(s, 2, &err); gpt_session_reset(s);
    CHECK(counted.n == n, "allocations: %u", (unsigned)(counted.n - n));
    gpt_session_free(s);
    gpt_model_free(m);
}

/* Scores: 0 for what the encoder reads; the decoder's are those of its logits; a choice's are the same sums. */
static void test_scores(void) {
    static const gpt_token source[] = { 9, 4, 12, END }, target[] = { 4, 8, 15, 16, END };
    gpt_model *m = make_model(1);
    gpt_session *s = make(m, NULL), *whole = make(m, NULL);
    gpt_token all[10];
    float lp[5], lp_all[10], out[3], sum;
    const char *const choice[] = { "ab", "ba b", "c" };
    size_t n, i, k, best;
    gpt_error err;
    CHECK(!gpt_eval(s, source, 4, &err) && (gpt_session_tokens(s, &n), n == 5) && gpt_logits(s), "%s", err.msg);
    CHECK(!gpt_score(s, target, 5, lp, &err), "%s", err.msg);
    memcpy(all, source, sizeof source); all[4] = START; memcpy(all + 5, target, sizeof target);
    CHECK(!gpt_score(whole, all, 10, lp_all, &err) && !memcmp(lp, lp_all + 5, sizeof lp), "scores at once and in two calls: %s", err.msg);
    for (i = 0; i < 5; i++) CHECK(lp_all[i] == 0.0f && lp[i] < 0.0f, "entry %u is %g", (unsigned)i, (double)lp_all[i]);
    for (i = 0; i < 5; i++) {
        gpt_logprob top[N_VOCAB];
        CHECK(!gpt_session_rewind(s, 5 + i, &err) && !gpt_eval(s, NULL, 0, &err), "%s", err.msg);
        gpt_top(gpt_logits(s), N_VOCAB, N_VOCAB, top);
        for (k = 0; k < N_VOCAB; k++) if (top[k].token == target[i]) CHECK(top[k].logprob == lp[i], "token %u: %g, %g by the logits", (unsigned)i, (double)lp[i], (double)top[k].logprob);
        CHECK(!gpt_eval(s, target + i, 1, &err), "%s", err.msg);
    }
    for (k = 0; k < 2; k++) {                   /* a prompt, or what has been read */
        CHECK(k ? !gpt_eval((gpt_session_reset(s), s), source, 4, &err) : 1, "%s", err.msg);
        CHECK(!gpt_choose(s, k ? NULL : "bab", choice, 3, NULL, out, &best, &err), "%s", err.msg);
        for (i = 0; i < 3; i++) {
            gpt_token ids[16];
            float each[16];
            size_t j, at;
            gpt_tokenize(m, k ? "" : "bab", k ? 0 : 3, GPT_TOKENIZE_BOS, ids, 16, &n, &err);
            gpt_session_reset(whole);
            CHECK(!gpt_eval(whole, k ? source : ids, k ? 4 : n, &err), "%s", err.msg);
            gpt_session_tokens(whole, &at);
            gpt_tokenize(m, choice[i], strlen(choice[i]), 0, ids, 16, &n, &err);
            CHECK(!gpt_score(whole, ids, n, each, &err), "%s", err.msg);
            for (sum = 0, j = 0; j < n; j++) sum += each[j];
            CHECK(sum - out[i] < 1e-4f && out[i] - sum < 1e-4f, "choice %u: %g, its scores sum to %g", (unsigned)i, (double)out[i], (double)sum);
        }
    }
    gpt_session_free(s);
    gpt_session_free(whole);
    gpt_model_free(m);
}

/* What cannot be is refused with a reason, and nothing waits for ever. */
static void test_refused(void) {
    gpt_model *m = make_model(1);
    gpt_session_params p;
    gpt_generate_params g;
    gpt_eval_params e;
    gpt_model_info info;
    gpt_session *s, *t = NULL;
    gpt_error err;
    gpt_token ids[N_CTX];
    float rows[8 * D];
    size_t i, n;
    gpt_model_info_get(m, &info);
    CHECK(info.start == START && !info.encoder && info.n_layer == N_ENC + 2 * N_DEC && info.n_ctx == N_CTX && info.eos == END, "start %d, %u layers", (int)info.start, (unsigned)info.n_layer);
    memset(&p, 0, sizeof p); memset(&g, 0, sizeof g);
    for (i = 0; i < N_CTX; i++) ids[i] = (gpt_token)(3 + i % 20);
    p.n_batch = 8;
    s = make(m, &p);
    g.max_tokens = 3;
    CHECK(gpt_generate(s, "a b c d e f g h i j", &g, NULL, NULL, &err) == GPT_E_CONTEXT && strstr(err.msg, "n_batch"), "a prompt longer than n_batch: %s", err.msg);
    CHECK(gpt_eval(s, ids, 9, &err) == GPT_E_CONTEXT && strstr(err.msg, "n_batch is 8") && (gpt_session_tokens(s, &n), !n), "more than n_batch: %s", err.msg);
    CHECK(!gpt_eval(s, ids, 5, &err) && !gpt_logits(s), "tokens without an end: %s", err.msg);
    CHECK(gpt_session_freeze(s, &err) == GPT_E_STATE && err.msg[0], "a text without an end is frozen: %s", err.msg);
    CHECK(!gpt_generate(s, NULL, &g, NULL, NULL, &err) && (gpt_session_tokens(s, &n), n >= 6), "the end of the text is where the decoder begins: %s", err.msg);
    for (i = 0; i < 3; i++) {
        memset(&e, 0, sizeof e);
        if (i == 0) e.hidden = rows;
        if (i == 1) e.embedding = rows;
        if (i == 2) e.vectors = rows;
        CHECK(gpt_eval_begin(s, i == 2 ? NULL : ids, 2, &e, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "t5"), "%u: %s", (unsigned)i, err.msg);
    }
    CHECK(gpt_embed(s, "ab", NULL, rows, &err) == GPT_E_UNSUPPORTED, "a vector: %s", err.msg);
    gpt_session_free(s);
    memset(&p, 0, sizeof p);
    s = make(m, &p);
    for (i = 0; i < N_CTX; i++) ids[i] = (gpt_token)(3 + i % 20);
    ids[N_CTX - 1] = END;
    CHECK(gpt_eval(s, ids, N_CTX, &err) == GPT_E_CONTEXT, "an encoder's text as long as the context: %s", err.msg);
    CHECK(!gpt_generate(s, "ab", &g, NULL, NULL, &err) && !gpt_session_freeze(s, &err), "%s", err.msg);
    p.prefix = s; p.n_batch = 2;
    CHECK(gpt_session_new(&t, m, &p, &err) == GPT_E_CONTEXT && !t, "a prefix longer than n_batch: %s", err.msg);
    p.n_batch = 0;
    t = make(m, &p);
    CHECK(gpt_generate(t, "ba", &g, NULL, NULL, &err) == GPT_E_STATE && strstr(err.msg, "prefix"), "a prompt beside a prefix: %s", err.msg);
    CHECK(!gpt_generate(t, NULL, &g, NULL, NULL, &err), "a prefix goes on: %s", err.msg);
    gpt_session_free(t);
    gpt_session_free(s);
    gpt_model_free(m);
}

/* A full context lets go of the oldest that is written, never of what is read. */
static void test_roll(void) {
    gpt_model *m = make_model(1);
    gpt_session *s = make(m, NULL), *ref = make(m, NULL);
    gpt_generate_params g;
    gpt_session_info info;
    gpt_error err;
    const gpt_token *t;
    gpt_token first[8];
    size_t n;
    memset(&g, 0, sizeof g);
    g.max_tokens = 200; g.ignore_end = 1; g.roll = 1; g.sample.temperature = 1.0f;
    CHECK(!gpt_begin(s, "abba", &g, NULL, NULL, &err), "%s", err.msg);
    t = gpt_session_tokens(s, &n);
    memcpy(first, t, n * sizeof *t);
    while (gpt_step(s, &err) == GPT_MORE) {}
    gpt_session_info_get(s, &info);
    CHECK(info.finish == GPT_FINISH_LENGTH && info.n_generated == 200 && info.n_dropped > 100 && !memcmp(t, first, n * sizeof *t), "finish %d, %u dropped", (int)info.finish,
          (unsigned)info.n_dropped);
    t = gpt_session_tokens(s, &n);
    CHECK(!gpt_eval(s, NULL, 0, &err) && !gpt_eval(ref, t, n, &err) && !memcmp(gpt_logits(s), gpt_logits(ref), N_VOCAB * sizeof(float)), "other bits after it: %s", err.msg);
    gpt_session_free(s);
    gpt_session_free(ref);
    gpt_model_free(m);
}

/* Penalties look at what the decoder has written; the first thing written loses SentencePiece's space. */
static void test_written(void) {
    gpt_model *m = make_model(1);
    gpt_session *s = make(m, NULL);
    gpt_sample_params p;
    gpt_token source[20], id;
    gpt_error err;
    size_t i;
    memset(&p, 0, sizeof p);
    p.repeat_penalty = 100.0f; p.penalty_last_n = -1;
    CHECK(!gpt_eval(s, (source[0] = 5, source[1] = END, source), 2, &err), "%s", err.msg);
    for (i = 0; i < 12; i++) {                  /* what is likely without a penalty, though the encoder has read it */
        id = gpt_sample(s, NULL);
        if (!i) {
            source[0] = id; source[1] = END;
            gpt_session_reset(s);
            CHECK(!gpt_eval(s, source, 2, &err), "%s", err.msg);
            id = gpt_sample(s, NULL);
            CHECK(gpt_sample(s, &p) == id || id == START, "a penalty for what the encoder has read");
        }
        if (gpt_eval(s, &id, 1, &err)) break;
    }
    gpt_session_free(s);
    gpt_model_free(m);
}

/* An adapter of all matrices; another one later computes the encoder's part again. */
static void test_adapter(void) {
    static const gpt_token source[] = { 9, 4, 12, 20, END }, more[] = { 4, 8 };
    gpt_model *m = make_model(1);
    gpt_session_params p;
    gpt_session *s, *ref;
    gpt_adapter *a = NULL;
    gpt_reader r;
    gpt_error err;
    float plain[N_VOCAB], adapted[N_VOCAB];
    gb g;
    size_t n;
    const char *part[] = { "enc.blk.1.attn_v", "cross_attn_k", "dec.blk.0.ffn_up", NULL };
    size_t i;
    for (i = 0; i < 4; i++) {
        memset(&r, 0, sizeof r);
        random_adapter(&g, m, part[i], 1, 4.0f);
        r.user = (void *)(size_t)gb_finish(&g, &n); r.size = n;
        CHECK(gpt_adapter_load_reader(&a, m, &r, &err) == GPT_OK, "%s", err.msg);
        gb_free(&g);
        memset(&p, 0, sizeof p);
        p.n_rank = gpt_adapter_rank(a);
        s = make(m, &p);
        p.adapter = a;
        ref = make(m, &p);
        CHECK(!gpt_eval(s, source, 5, &err) && !gpt_eval(s, more, 2, &err), "%s", err.msg);
        memcpy(plain, gpt_logits(s), sizeof plain);
        CHECK(!gpt_eval(ref, source, 5, &err) && !gpt_eval(ref, more, 2, &err), "%s", err.msg);
        memcpy(adapted, gpt_logits(ref), sizeof adapted);
        CHECK(memcmp(plain, adapted, sizeof plain), "%s: an adapter that does nothing", part[i] ? part[i] : "all");
        CHECK(!gpt_session_adapter(s, a, 0.0f, &err) && !gpt_eval(s, NULL, 0, &err) && !memcmp(gpt_logits(s), adapted, sizeof adapted), "with the adapter: other bits: %s", err.msg);
        CHECK(!gpt_session_adapter(s, NULL, 0.0f, &err) && !gpt_eval(s, NULL, 0, &err) && !memcmp(gpt_logits(s), plain, sizeof plain), "without it again: other bits: %s", err.msg);
        gpt_session_free(s);
        gpt_session_free(ref);
        gpt_adapter_free(a);
    }
    gpt_model_free(m);
}

/* A save whose text has no start token, whatever it says of itself, makes no call wait for ever. */
static void test_damaged(void) {
    static unsigned char file[1 << 16];
    gpt_model *m = make_model(1);
    gpt_session *s = make(m, NULL), *t = make(m, NULL);
    gpt_generate_params g;
    gpt_error err;
    gpt_writer w;
    gpt_reader r;
    size_t i, k;
    memset(&g, 0, sizeof g); memset(&w, 0, sizeof w); memset(&r, 0, sizeof r);
    g.max_tokens = 12; g.ignore_end = 1;
    for (k = 0; k < 2; k++) {
        CHECK(!gpt_begin(s, "abba c", &g, NULL, NULL, &err) && gpt_step(s, &err) == GPT_MORE && gpt_step(s, &err) == GPT_MORE, "%s", err.msg);
        for (i = 1; i < s->n_token; i++) if (s->token[i] == START) s->token[i] = 5;     /* as a foreign hand would write it */
        s->doing = k ? GPTI_IDLE : GPTI_GENERATES;
        w.user = r.user = file; w.size = sizeof file; r.size = gpt_session_save_bytes(s, GPT_SAVE_CACHE);
        gpt_session_save(s, GPT_SAVE_CACHE, &w, &err);
        CHECK(gpt_session_restore(t, &r, &err) < 0 || (gpt_session_tokens(t, &i), !gpt_logits(t)), "a text without a start token: %s", err.msg);
        gpt_session_free(s);
        s = make(m, NULL);
    }
    gpt_session_free(s);
    gpt_session_free(t);
    gpt_model_free(m);
}

static const test tests[] = {
    { "history", test_history }, { "batch", test_batch }, { "prompt", test_prompt }, { "scores", test_scores }, { "refused", test_refused },
    { "roll", test_roll }, { "written", test_written }, { "adapter", test_adapter }, { "damaged", test_damaged }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    CHECK(counted.live == 0, "%u blocks left", (unsigned)counted.live);
    return test_report("unit_t5");
}
