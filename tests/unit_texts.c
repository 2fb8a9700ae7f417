/* Many texts at once: sessions that share a work space, are stopped, held, copied, saved and freed in the middle of a pass,
 * and each of them as if it were alone, to the bit. First a seeded history over many sessions, compared with a plain model:
 * a list of tokens, and a session of its own that evaluates them. Then what the head of gpt.h promises, one test a promise.
 * Runs from the repository's root.
 *     unit_texts --seed N      the history of that seed alone, of every model
 *     unit_texts --model NAME  of that model alone
 *     unit_texts --ops N       so many operations for all models together; 10000 unless told */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

#if defined(__linux__) && defined(__GLIBC__)        /* where threads need no library of their own */
#  if __GLIBC__ > 2 || __GLIBC_MINOR__ >= 34
#    include <pthread.h>
#    define HAVE_THREADS
#  endif
#endif

static uint32_t seed = 1;
static uint32_t below(uint32_t n) { seed = seed * 1664525u + 1013904223u; return (uint32_t)(((uint64_t)seed * n) >> 32); }

/* ---- Models -------------------------------------------------------------------------------------------------------- */

typedef struct heap { size_t live, n, last; } heap;     /* blocks; calls; bytes of the last one */
static heap counted;

static void *heap_alloc(void *user, size_t n) {
    heap *h = (heap *)user;
    void *p = malloc(n);
    if (!p) return NULL;
    memset(p, 0xFF, n);
    h->live++; h->n++; h->last = n;
    return p;
}
static void heap_free(void *user, void *p) { ((heap *)user)->live--; free(p); }

static gpt_model_params model_params(void) {
    gpt_model_params p;
    memset(&p, 0, sizeof p);
    p.alloc.alloc = heap_alloc; p.alloc.free = heap_free; p.alloc.user = &counted;
    p.n_threads = 1;
    return p;
}

static gpt_model *load_toy(const char *name) {
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    char path[128];
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    CHECK(gpt_model_load(&m, path, &p, &err) == GPT_OK, "%s: %s", name, err.msg);
    if (!m) exit(test_report("unit_texts"));
    return m;
}

/* Random models that write text, with halves of characters, control tokens and bytes that begin none: byte-level BPE; or
 * SentencePiece with sliding windows of `window` tokens in all layers but the sixth. */
enum { D = 32, FF = 40, N_PIECE = 18 };

static gpt_model *text_model(uint32_t window) {
    static const char *const pieces[N_PIECE] = { "<unk>", "<s>", "</s>", "<|x|>", "<b>", " ", "a", " a", "b", " b", "ab",
        "\xC3\xA9", " \xF0\x9F\x98\x80", "\n", "b\n", "  ", "aaa", "a b" };
    static const char *const merges[] = { "a b", "a a", "aa a" };
    static const struct { const char *name; uint64_t d0, d1; int window; } t[] = { { "attn_norm", D, 0, 0 }, { "ffn_norm", D, 0, 0 },
        { "attn_q", D, 32, 0 }, { "attn_k", D, 16, 0 }, { "attn_v", D, 16, 0 }, { "attn_output", 32, D, 0 }, { "ffn_gate", D, FF, 0 },
        { "ffn_up", D, FF, 0 }, { "ffn_down", FF, D, 0 }, { "attn_q_norm", 8, 0, 1 }, { "attn_k_norm", 8, 0, 1 },
        { "post_attention_norm", D, 0, 1 }, { "post_ffw_norm", D, 0, 1 } };
    const char *arch = window ? "gemma3" : "llama";
    const unsigned n_vocab = window ? N_PIECE + 256 : 256 + 5, n_layer = window ? 7 : 2;
    const uint32_t before = seed;
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    const unsigned char *file;
    char name[64], text[8];
    static float w[300 * D];
    size_t n, i, k;
    gb g;
    seed = 5 + window;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", arch);
#define KEY(key) (snprintf(name, sizeof name, "%s.%s", arch, key), name)
    gb_kv_u32(&g, KEY("block_count"), n_layer);
    gb_kv_u32(&g, KEY("context_length"), 8192);
    gb_kv_u32(&g, KEY("embedding_length"), D);
    gb_kv_u32(&g, KEY("feed_forward_length"), FF);
    gb_kv_u32(&g, KEY("attention.head_count"), 4);
    gb_kv_u32(&g, KEY("attention.head_count_kv"), 2);
    gb_kv_f32(&g, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    if (window) gb_kv_u32(&g, KEY("attention.sliding_window"), window);
    gb_kv_str(&g, "tokenizer.ggml.model", window ? "llama" : "gpt2");
    gb_kv_str(&g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(&g, "tokenizer.ggml.tokens", GB_STR, n_vocab);
    for (i = 0; window && i < N_PIECE; i++) {           /* SentencePiece spells a space U+2581 */
        char spelled[32];
        const char *q;
        for (q = pieces[i], n = 0; *q; q++) n += (size_t)sprintf(spelled + n, *q == ' ' ? "\xE2\x96\x81" : "%c", *q);
        gb_text(&g, &g.kv, spelled, n);
    }
    for (i = 0; window && i < 256; i++) { sprintf(text, "<0x%02X>", (unsigned)i); gb_text(&g, &g.kv, text, 6); }
    for (i = 0, k = 256; !window && i < 256; i++) {     /* the byte alphabet of GPT-2 */
        const unsigned cp = (unsigned)((i > 32 && i < 127) || (i > 160 && i != 173) ? i : k++);
        text[0] = (char)(cp < 128 ? cp : 0xC0 | cp >> 6);
        text[1] = (char)(0x80 | (cp & 63));
        gb_text(&g, &g.kv, text, cp < 128 ? 1 : 2);
    }
    if (!window) {
        gb_text(&g, &g.kv, "ab", 2); gb_text(&g, &g.kv, "aa", 2); gb_text(&g, &g.kv, "aaa", 3);
        gb_text(&g, &g.kv, "<s>", 3); gb_text(&g, &g.kv, "<|x|>", 5);
        gb_kv_strs(&g, "tokenizer.ggml.merges", merges, 3);
    }
    gb_kv_array(&g, "tokenizer.ggml.token_type", GB_I32, n_vocab);
    for (i = 0; i < n_vocab; i++)
        gb_uint(&g, &g.kv, !window ? i < 259 ? 1 : 3 : i >= N_PIECE ? 6 : i == 0 ? 2 : i < 4 ? 3 : i == 4 ? 4 : 1, 4);
    if (window) {
        gb_kv_array(&g, "tokenizer.ggml.scores", GB_FLOAT, n_vocab);
        for (i = 0; i < n_vocab; i++) gb_float(&g, &g.kv, -(float)i);
    } else {
        gb_kv_u32(&g, "tokenizer.ggml.bos_token_id", 259);
        gb_kv_bool(&g, "tokenizer.ggml.add_bos_token", 1);
    }
    for (i = 0; i < sizeof w / sizeof *w; i++) w[i] = (float)((double)below(2001) / 1000.0 - 1.0);
    gb_tensor_f32(&g, "token_embd.weight", 2, D, n_vocab, w);
    for (i = 0; i < D; i++) w[i] = 1.0f;
    gb_tensor_f32(&g, "output_norm.weight", 1, D, 0, w);
    for (i = 0; i < n_layer; i++) for (k = 0; k < sizeof t / sizeof *t; k++) {
        if (t[k].window && !window) continue;
        snprintf(name, sizeof name, "blk.%u.%s.weight", (unsigned)i, t[k].name);
        for (n = 0; n < t[k].d0 * (t[k].d1 ? t[k].d1 : 1); n++)
            w[n] = t[k].d1 ? (float)((double)below(2001) / 2000.0 - 0.5) : 1.0f;
        gb_tensor_f32(&g, name, t[k].d1 ? 2 : 1, t[k].d0, t[k].d1, w);
    }
    file = gb_finish(&g, &n);
    CHECK(gpt_model_load_memory(&m, file, n, &p, &err) == GPT_OK, "the text model: %s", err.msg);
    gb_free(&g);
    if (!m) exit(test_report("unit_texts"));
    seed = before;
    return m;
}

static size_t vocab_of(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    return info.n_vocab;
}

/* ---- The history: sessions in slots, and what is expected of them -------------------------------------------------- */

enum { N_SLOT = 8, N_ROOM = 2, N_CTX = 96, SAYS = 4096 };
enum { AT_REST, EVALUATES, SCORES, WRITES };

typedef struct heard { char p[SAYS]; size_t n; } heard;

typedef struct text { gpt_token t[N_CTX]; size_t n; } text;

typedef struct room {               /* a work space; rooms of index N_ROOM + k: the own one of slot k, w NULL */
    gpt_work *w;
    int cancelled;                  /* its poll hook has said so since the last look */
} room;

typedef struct slot {
    gpt_session *s, *ref;           /* ref: alone, in its own work space, always told to compute at once */
    int          room, no_logits, held;
    gpt_kv       kv;
    uint32_t     n_ctx;
    text         now;               /* at rest: the text; else as it was before the call */
    gpt_result   result;            /* at rest: that of info */
    int          doing, ended, refused;     /* gpt_end came; the text callback returned 1 */
    text         want, raw;         /* what is under way leads to; the same without stop strings */
    size_t       n_least;           /* tokens of want that are there from the beginning on */
    gpt_finish   finish;
    heard        says, want_says;
    int          n_stop;
    float        score[N_CTX], want_score[N_CTX];
} slot;

static const gpt_model *model;
static size_t n_vocab;
static int with_text;               /* it has a tokenizer */
static slot slots[N_SLOT];
static room rooms[N_ROOM + N_SLOT];
static const char *op_name;
static unsigned n_op;
static uint32_t this_seed;
static int in_hook;
static size_t n_pause, n_cancel, n_end, n_done, n_host, n_compared;

#define AT "seed %lu, operation %u, %s"
#define AT_ARGS (unsigned long)this_seed, n_op, op_name

static int same(const text *a, const gpt_token *t, size_t n) { return a->n == n && !memcmp(a->t, t, n * sizeof *t); }
static int begins(const text *a, const gpt_token *t, size_t n) { return a->n >= n && !memcmp(a->t, t, n * sizeof *t); }

static int hear(void *user, const char *p, size_t n) {
    heard *h = (heard *)user;
    CHECK(n && h->n + n <= SAYS, "a piece of %u bytes", (unsigned)n);
    if (h->n + n <= SAYS) { memcpy(h->p + h->n, p, n); h->n += n; }
    return 0;
}

/* ref's text becomes t. The logits of what follows. */
static const float *ref_at(slot *k, const text *t) {
    gpt_error err;
    size_t n;
    const gpt_token *have = gpt_session_tokens(k->ref, &n);
    if (!begins(t, have, n)) { gpt_session_reset(k->ref); n = 0; }
    CHECK(gpt_eval(k->ref, t->t + n, t->n - n, &err) == GPT_OK, AT ": the reference: %s", AT_ARGS, err.msg);
    return gpt_logits(k->ref);
}

static void see(text *t, const gpt_session *s) {
    size_t n;
    const gpt_token *have = gpt_session_tokens(s, &n);
    CHECK(n <= N_CTX, AT ": %u tokens", AT_ARGS, (unsigned)n);
    t->n = n < N_CTX ? n : N_CTX;
    memcpy(t->t, have, t->n * sizeof *have);
}

static void compare_logits(slot *k) {
    const float *z = gpt_logits(k->s);
    if (!z || !k->now.n) return;
    n_compared++;
    CHECK(!memcmp(z, ref_at(k, &k->now), n_vocab * sizeof *z), AT ": slot %d: other logits after %u tokens than alone", AT_ARGS,
          (int)(k - slots), (unsigned)k->now.n);
}

/* What became of a slot since the last look. */
static void settle(slot *k) {
    gpt_session_info i;
    text t;
    const int at = (int)(k - slots), may = k->ended || rooms[k->room].cancelled;
    if (!k->s) return;
    gpt_session_info_get(k->s, &i);
    see(&t, k->s);
    CHECK(i.n_token == t.n && i.n_computed <= t.n && i.held == k->held && i.n_ctx == k->n_ctx, AT ": slot %d: info of %u tokens, %u computed, held %d",
          AT_ARGS, at, (unsigned)i.n_token, (unsigned)i.n_computed, i.held);
    if (!k->doing) {
        CHECK(same(&k->now, t.t, t.n), AT ": slot %d at rest: %u tokens, expected %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->now.n);
        CHECK(i.result == k->result, AT ": slot %d at rest: result %d, was %d", AT_ARGS, at, (int)i.result, (int)k->result);
        return;
    }
    if (i.result == GPT_MORE) {
        if (k->doing != WRITES) CHECK(same(&k->want, t.t, t.n), AT ": slot %d evaluates %u tokens, expected %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->want.n);
        else CHECK(t.n >= k->n_least && begins(&k->raw, t.t, t.n), AT ": slot %d writes: %u tokens, expected %u to %u, or others", AT_ARGS, at, (unsigned)t.n,
                   (unsigned)k->n_least, (unsigned)k->raw.n);
        return;
    }
    n_done++;
    if (k->doing != WRITES) {
        if (i.result == GPT_OK) {
            CHECK(same(&k->want, t.t, t.n) && i.n_computed == t.n, AT ": slot %d evaluated: %u tokens, %u computed, expected %u, or others", AT_ARGS, at, (unsigned)t.n,
                  (unsigned)i.n_computed, (unsigned)k->want.n);
            if (k->doing == SCORES) CHECK(!memcmp(k->score, k->want_score, (k->want.n - k->now.n) * sizeof(float)), AT ": slot %d: other scores than alone", AT_ARGS, at);
            CHECK(k->no_logits || !t.n || gpt_logits(k->s), AT ": slot %d evaluated: no logits", AT_ARGS, at);
        } else {
            n_host++;
            CHECK(i.result == GPT_E_CANCELLED && may, AT ": slot %d: an evaluation ended with %d, %s", AT_ARGS, at, (int)i.result, may ? "cancelled" : "though nobody ended it");
            CHECK(t.n >= k->now.n && begins(&k->want, t.t, t.n), AT ": slot %d, cancelled: %u tokens, or others", AT_ARGS, at, (unsigned)t.n);
        }
    } else if (i.finish != GPT_FINISH_HOST) {
        CHECK(i.result == GPT_OK && i.finish == k->finish, AT ": slot %d wrote: result %d, finish %d, alone %d", AT_ARGS, at, (int)i.result, (int)i.finish, (int)k->finish);
        CHECK(same(&k->want, t.t, t.n), AT ": slot %d wrote: %u tokens, alone %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->want.n);
        CHECK(k->says.n == k->want_says.n && !memcmp(k->says.p, k->want_says.p, k->says.n), AT ": slot %d said \"%.*s\", alone \"%.*s\"", AT_ARGS, at,
              (int)k->says.n, k->says.p, (int)k->want_says.n, k->want_says.p);
    } else {
        n_host++;
        CHECK(i.result == GPT_OK || (i.result == GPT_E_CANCELLED && may), AT ": slot %d: result %d", AT_ARGS, at, (int)i.result);
        CHECK(may || k->refused, AT ": slot %d: ended, though nobody did", AT_ARGS, at);
        if (!k->refused) CHECK(t.n >= k->now.n && begins(&k->raw, t.t, t.n), AT ": slot %d, ended: %u tokens, or others", AT_ARGS, at, (unsigned)t.n);
        if (!k->n_stop) CHECK(k->says.n <= k->want_says.n && !memcmp(k->says.p, k->want_says.p, k->says.n), AT ": slot %d, ended: said \"%.*s\", alone \"%.*s\"", AT_ARGS,
                              at, (int)k->says.n, k->says.p, (int)k->want_says.n, k->want_says.p);
    }
    k->doing = AT_REST; k->ended = k->refused = 0; k->result = i.result; k->now = t;
    compare_logits(k);
}

static void settle_all(void) {
    size_t i;
    for (i = 0; i < N_SLOT; i++) settle(&slots[i]);
    for (i = 0; i < N_ROOM + N_SLOT; i++) rooms[i].cancelled = 0;
}

/* ---- Hooks that do what they may, and try what they may not --------------------------------------------------------- */

static gpt_work *work_of(const slot *k) { return rooms[k->room].w; }

static void end(slot *k) {
    if (k->doing) k->ended = 1;
    n_end++;
    gpt_end(k->s);
}

/* On a session of the work space at work: none of these may do a thing. */
static void misuse(slot *k) {
    gpt_generate_params g;
    gpt_session_params p;
    gpt_session *made = NULL;
    const gpt_token one = 1;
    float lp;
    gpt_result r = GPT_E_STATE;
    memset(&g, 0, sizeof g);
    memset(&p, 0, sizeof p);
    g.max_tokens = 1;
    switch (below(13)) {
    case 0: r = gpt_eval(k->s, &one, 1, NULL); break;
    case 1: r = gpt_score(k->s, &one, 1, &lp, NULL); break;
    case 2: r = gpt_eval_begin(k->s, &one, 1, NULL, NULL); break;
    case 3: r = gpt_begin(k->s, "", &g, NULL, NULL, NULL); break;
    case 4: r = gpt_generate(k->s, "", &g, NULL, NULL, NULL); break;
    case 5: r = gpt_session_rewind(k->s, 0, NULL); break;
    case 6: r = gpt_step(k->s, NULL); break;
    case 7: gpt_session_free(k->s); break;
    case 8: gpt_session_reset(k->s); break;
    case 9: if (gpt_sample(k->s, NULL) >= 0) r = GPT_OK; break;
    case 10: if (work_of(k)) r = gpt_work_step(work_of(k), NULL); break;
    case 11: gpt_work_free(work_of(k)); break;
    default: p.n_ctx = 8; p.work = work_of(k); if (p.work) r = gpt_session_new(&made, model, &p, NULL); break;
    }
    CHECK(r == GPT_E_STATE && !made, AT ": slot %d: a hook's call gave %d", AT_ARGS, (int)(k - slots), (int)r);
}

static slot *one_of(int r) {                    /* of a room, or NULL */
    slot *k = &slots[below(N_SLOT)];
    return k->s && k->room == r ? k : NULL;
}

static void act(int r) {
    slot *k = one_of(r);
    if (!k || in_hook > 1) return;
    switch (below(5)) {
    case 0: end(k); break;
    case 1: gpt_session_hold(k->s, k->held = (int)below(2)); break;
    case 2: r = 1 - r; if (r == 0 || r == 1) gpt_work_step(rooms[r].w, NULL); break;       /* another work space */
    default: misuse(k); break;
    }
}

static gpt_poll on_poll(void *user, size_t done, size_t total) {
    room *r = (room *)user;
    const uint32_t dice = below(500);
    CHECK(done <= total, AT ": %u of %u tokens are computed", AT_ARGS, (unsigned)done, (unsigned)total);
    in_hook++;
    if (dice < 6) act((int)(r - rooms));
    in_hook--;
    if (dice == 6) { r->cancelled = 1; n_cancel++; return GPT_CANCEL; }
    n_pause += dice < 120;
    return dice < 120 ? GPT_PAUSE : GPT_GO;
}

static int on_text(void *user, const char *p, size_t n) {
    slot *k = (slot *)user;
    hear(&k->says, p, n);
    in_hook++;
    if (!below(20)) act(k->room);
    in_hook--;
    if (below(80)) return 0;
    k->refused = 1;
    return 1;
}

/* A host's threads, by turns: ranges of uneven length, the last first, of three workers. */
static void backwards(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    size_t stop = n, step = 1;
    (void)user; (void)cost;
    while (stop) {
        const size_t b = stop > step ? stop - step : 0;
        task(arg, b, stop, (int)(step % 3));
        stop = b;
        step = step % 7 + 2;
    }
}

/* ---- Operations ----------------------------------------------------------------------------------------------------- */

static gpt_hooks hooks_of(int r) {
    gpt_hooks h;
    memset(&h, 0, sizeof h);
    h.poll = on_poll; h.poll_user = &rooms[r];
    if (below(2)) { h.parallel.run = backwards; h.parallel.n_worker = 3; }
    return h;
}

static void open_room(int r) {
    gpt_work_params p;
    gpt_error err;
    memset(&p, 0, sizeof p);
    p.n_batch = below(3) ? 1 + below(40) : 1 + below(4);
    p.n_fill = below(3) ? below(8) : 0;
    p.n_threads = 1;
    p.hooks = hooks_of(r);
    CHECK(gpt_work_new(&rooms[r].w, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
}

static gpt_session_params params_of(const slot *k) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = k->n_ctx; p.kv = k->kv; p.no_logits = k->no_logits;
    if (k->room < N_ROOM) p.work = rooms[k->room].w;
    else { p.hooks = hooks_of(k->room); p.n_batch = 1 + below(30); p.n_threads = 1; }
    return p;
}

static void close_slot(slot *k) {
    gpt_session_free(k->s);
    gpt_session_free(k->ref);
    memset(k, 0, sizeof *k);
}

static void open_slot(slot *k) {
    gpt_session_params p;
    gpt_error err;
    memset(k, 0, sizeof *k);
    k->room = (int)below(5);
    if (k->room >= N_ROOM) k->room = k->room == 4 ? N_ROOM + (int)(k - slots) : k->room % N_ROOM;
    k->no_logits = !below(3);
    k->kv = (gpt_kv)below(3);
    k->n_ctx = below(3) ? N_CTX : 48;
    p = params_of(k);
    CHECK(gpt_session_new(&k->s, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
    p.work = NULL; p.no_logits = 0; p.n_threads = 1; p.n_batch = 1 + below(60);
    memset(&p.hooks, 0, sizeof p.hooks);
    CHECK(gpt_session_new(&k->ref, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
    if (!k->s || !k->ref) exit(test_report("unit_texts"));
}

static void random_ids(gpt_token *out, size_t n) {
    while (n--) *out++ = (gpt_token)below((uint32_t)n_vocab);
}

/* gpt_eval, gpt_score and the same in slices. */
static void op_eval(slot *k) {
    gpt_token ids[N_CTX + 8];
    const size_t n = below(3) ? below(12) : below(40), room_left = k->n_ctx - k->now.n;
    const int kind = (int)below(4), scores = kind & 1, slices = kind >> 1;
    gpt_eval_params ep;
    gpt_error err;
    gpt_result r, want = GPT_OK;
    random_ids(ids, n);
    ep.logprob = scores ? k->score : NULL;
    if (!k->doing && n && !below(30)) { ids[below((uint32_t)n)] = below(2) ? -1 : (gpt_token)n_vocab; want = GPT_E_ARG; }
    if (n > room_left) want = GPT_E_CONTEXT;
    if (k->doing) want = GPT_E_STATE;
    op_name = scores ? slices ? "gpt_eval_begin with scores" : "gpt_score" : slices ? "gpt_eval_begin" : "gpt_eval";
    if (!want) {
        k->want = k->now;
        if (scores) {
            ref_at(k, &k->now);
            CHECK(gpt_score(k->ref, ids, n, k->want_score, &err) == GPT_OK, AT ": the reference: %s", AT_ARGS, err.msg);
        }
        memcpy(k->want.t + k->now.n, ids, n * sizeof *ids);
        k->want.n += n;
        k->doing = scores ? SCORES : EVALUATES;
    }
    r = slices ? gpt_eval_begin(k->s, ids, n, &ep, &err) : scores ? gpt_score(k->s, ids, n, k->score, &err) : gpt_eval(k->s, ids, n, &err);
    if (slices || want) CHECK(r == want, AT ": slot %d: gave %d (%s), expected %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    else {
        gpt_session_info i;
        gpt_session_info_get(k->s, &i);
        CHECK(r == i.result && r <= 0, AT ": slot %d: gave %d, info %d", AT_ARGS, (int)(k - slots), (int)r, (int)i.result);
    }
    if (n == 0 && !want && k->doing == SCORES) k->want_score[0] = k->score[0];
    if (n == 0 && !want && scores) {            /* scores of nothing: nothing is computed */
        k->doing = AT_REST; k->result = GPT_OK;
    }
    if (n == 0 && !want && !scores && k->no_logits) {
        gpt_session_info i;
        gpt_session_info_get(k->s, &i);
        if (i.result == GPT_OK) { k->doing = AT_REST; k->result = GPT_OK; }
    }
}

static const char *const stop_strings[] = { "a", "b", "ab", "b\n", " a", "aab", "\n", "\xC3", "ba b" };

static void op_write(slot *k) {
    static const char *const prompts[] = { "", "", "", "a", " b", "ab", "\xC3\xA9", "a\n", "  a b", "aaaab" };
    const char *prompt = with_text ? prompts[below(10)] : "", *stop[3];
    const int slices = (int)below(3);
    gpt_generate_params g;
    gpt_session_info info;
    gpt_error err;
    gpt_result r, want;
    size_t i;
    memset(&g, 0, sizeof g);
    g.max_tokens = below(8) ? 1 + below(12) : 0;
    g.ignore_end = (int)below(2);
    for (i = 0; i < 3; i++) stop[i] = stop_strings[below(9)];
    if (with_text && !below(3)) { g.stop = stop; g.n_stop = 1 + below(3); }
    if (below(3)) { g.sample.temperature = 1.0f; g.sample.seed = below(1000); }
    if (below(2)) g.sample.top_p = 0.9f;
    if (!below(3)) g.sample.top_k = 20;
    if (!below(3)) g.sample.min_p = 0.01f;
    if (!below(3)) g.sample.repeat_penalty = 1.1f;
    op_name = slices ? "gpt_begin" : "gpt_generate";
    if (k->doing) {
        r = slices ? gpt_begin(k->s, prompt, &g, on_text, k, &err) : gpt_generate(k->s, prompt, &g, on_text, k, &err);
        CHECK(r == GPT_E_STATE, AT ": slot %d: gave %d while something is under way", AT_ARGS, (int)(k - slots), (int)r);
        return;
    }
    k->says.n = k->want_says.n = 0;
    ref_at(k, &k->now);                         /* what the call before has held back goes along */
    memcpy(&k->ref->gen->stream, &k->s->gen->stream, sizeof k->ref->gen->stream);
    k->ref->gen->stale = k->s->gen->stale;
    want = gpt_generate(k->ref, prompt, &g, hear, &k->want_says, &err);
    if (!want) {
        gpt_session_info_get(k->ref, &info);
        see(&k->want, k->ref);
        k->raw = k->want; k->finish = info.finish; k->n_stop = (int)g.n_stop; k->n_least = k->now.n + info.n_prompt;
        if (g.n_stop) {
            g.n_stop = 0;
            gpt_session_reset(k->ref);
            ref_at(k, &k->now);
            CHECK(gpt_generate(k->ref, prompt, &g, NULL, NULL, &err) == GPT_OK, AT ": the reference: %s", AT_ARGS, err.msg);
            see(&k->raw, k->ref);
            g.n_stop = (size_t)k->n_stop;
        }
        k->doing = WRITES;
    }
    r = slices ? gpt_begin(k->s, prompt, &g, on_text, k, &err) : gpt_generate(k->s, prompt, &g, on_text, k, &err);
    if (slices || want) CHECK(r == want, AT ": slot %d: gave %d (%s), alone %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    else CHECK(r == GPT_OK || (r == GPT_E_CANCELLED && rooms[k->room].cancelled), AT ": slot %d: gave %d (%s)", AT_ARGS, (int)(k - slots), (int)r, err.msg);
}

static void op_step(slot *k) {
    const int doing = k->doing;
    gpt_session_info i;
    gpt_error err;
    gpt_result r;
    op_name = "gpt_step";
    r = gpt_step(k->s, &err);
    gpt_session_info_get(k->s, &i);
    if (!doing) CHECK(r == GPT_E_STATE, AT ": slot %d at rest: gave %d", AT_ARGS, (int)(k - slots), (int)r);
    else CHECK(r == i.result || (r == GPT_E_CANCELLED && rooms[k->room].cancelled), AT ": slot %d: gave %d, info %d", AT_ARGS, (int)(k - slots), (int)r, (int)i.result);
}

static void op_work_step(int r) {
    unsigned n = 1 + below(6);
    op_name = "gpt_work_step";
    while (n--) {
        gpt_result got = gpt_work_step(rooms[r].w, NULL), want = GPT_OK;
        gpt_session_info i;
        size_t k;
        for (k = 0; k < N_SLOT; k++) {
            if (!slots[k].s || slots[k].room != r) continue;
            gpt_session_info_get(slots[k].s, &i);
            if (i.result == GPT_MORE && !i.held) want = GPT_MORE;
        }
        if (rooms[r].cancelled && got == GPT_E_CANCELLED) want = got;
        CHECK(got == want, AT ": gave %d, expected %d", AT_ARGS, (int)got, (int)want);
        settle_all();
    }
}

static void op_rewind(slot *k) {
    text t;
    gpt_session_info i;
    gpt_error err;
    gpt_result r;
    size_t n;
    op_name = "gpt_session_rewind";
    see(&t, k->s);
    n = below(4) ? t.n - below((uint32_t)(t.n < 9 ? t.n : 9) + 1) : below((uint32_t)t.n + 3);
    r = gpt_session_rewind(k->s, n, &err);
    CHECK(r == (n > t.n ? GPT_E_ARG : GPT_OK) || (r == GPT_E_STATE && n && n + 4 < t.n), AT ": slot %d: to %u of %u gave %d (%s)", AT_ARGS, (int)(k - slots),
          (unsigned)n, (unsigned)t.n, (int)r, err.msg);
    if (r) return;
    t.n = n;
    gpt_session_info_get(k->s, &i);
    if (k->doing) k->result = k->doing == WRITES ? GPT_OK : GPT_E_CANCELLED;
    if (k->doing == WRITES) CHECK(i.finish == GPT_FINISH_HOST, AT ": finish %d", AT_ARGS, (int)i.finish);
    k->doing = AT_REST; k->ended = k->refused = 0; k->now = t;
}

static void op_reset(slot *k) {
    op_name = "gpt_session_reset";
    gpt_session_reset(k->s);
    if (k->doing) k->result = k->doing == WRITES ? GPT_OK : GPT_E_CANCELLED;
    k->doing = AT_REST; k->ended = k->refused = 0; k->now.n = 0;
}

static void op_sample(slot *k) {
    gpt_sample_params p;
    gpt_token id;
    op_name = "gpt_sample";
    if (k->doing || !k->now.n || !gpt_logits(k->s)) return;
    memset(&p, 0, sizeof p);
    p.temperature = 1.0f; p.top_p = 0.8f; p.seed = below(100);
    ref_at(k, &k->now);
    id = gpt_sample(k->s, &p);
    CHECK(id == gpt_sample(k->ref, &p), AT ": slot %d: drew %d", AT_ARGS, (int)(k - slots), (int)id);
}

/* The logits that are there, or those that an evaluation of nothing computes. */
static void op_compare(slot *k) {
    op_name = "gpt_eval of nothing";
    if (k->doing) return;
    if (!gpt_logits(k->s)) {
        k->want = k->now; k->doing = EVALUATES;
        gpt_eval(k->s, NULL, 0, NULL);
    } else compare_logits(k);
}

/* What is not held comes to its end, whatever else there is. */
static void op_drain(int r) {
    unsigned n;
    gpt_result got = GPT_MORE;
    op_name = "gpt_work_step to the end";
    for (n = 0; got && n < 200000; n++) { got = gpt_work_step(rooms[r].w, NULL); if (got < 0) settle_all(); }
    CHECK(got == GPT_OK, AT ": no end after %u steps: %d", AT_ARGS, n, (int)got);
}

static void operation(void) {
    slot *k = &slots[below(N_SLOT)];
    uint32_t dice = below(100);
    if (!k->s) { op_name = "gpt_session_new"; open_slot(k); settle_all(); return; }
    if (dice < 16) op_eval(k);
    else if (dice < 24) op_compare(k);
    else if (dice < 44) op_write(k);
    else if (dice < 68) op_work_step((int)below(N_ROOM));
    else if (dice < 76) op_step(k);
    else if (dice < 79) { op_name = "gpt_end"; end(k); }
    else if (dice < 83) { op_name = "gpt_session_hold"; gpt_session_hold(k->s, k->held = !below(3)); }
    else if (dice < 87) op_rewind(k);
    else if (dice < 89) op_reset(k);
    else if (dice < 92) { op_name = "gpt_session_free"; close_slot(k); }
    else if (dice < 95) op_sample(k);
    else op_drain((int)below(N_ROOM));
    settle_all();
}

static uint32_t only_seed;
static const char *only_model;
static unsigned ops = 10000;

static void history(const char *name, uint32_t s, unsigned n) {
    int i;
    gpt_error err;
    model = strcmp(name, "text") && strcmp(name, "windows") ? load_toy(name) : text_model(name[0] == 'w' ? 8 : 0);
    n_vocab = vocab_of(model);
    with_text = name[0] == 't' || !strcmp(name, "windows");
    this_seed = seed = s;
    n_op = 0; op_name = "the beginning";
    for (i = 0; i < 16; i++) below(2);
    memset(slots, 0, sizeof slots);
    memset(rooms, 0, sizeof rooms);
    for (i = 0; i < N_ROOM; i++) open_room(i);
    for (n_op = 0; n_op < n && test_failed < 20; n_op++) operation();
    op_name = "the end";
    for (i = 0; i < N_SLOT; i++) {              /* all that is at rest is as it should be */
        slot *k = &slots[i];
        if (!k->s) continue;
        if (!k->doing && k->now.n && !gpt_eval(k->s, NULL, 0, &err)) compare_logits(k);
        close_slot(k);
    }
    for (i = 0; i < N_ROOM; i++) gpt_work_free(rooms[i].w);
    gpt_model_free((gpt_model *)(size_t)model);
    CHECK(counted.live == 0, "%s, seed %lu: %u blocks are left", name, (unsigned long)s, (unsigned)counted.live);
    counted.live = 0;
}

/* Attention; windows; experts, with sinks and windows, with a shared one; two ropes; alibi; learned positions; parallel blocks;
 * quantised and F16 weights. */
static void test_histories(void) {
    static const char *const names[] = { "text", "windows", "gpt_oss", "phi3_long", "llama_q4_0", "bloom", "qwen2moe", "gemma3", "gpt2",
        "falcon_40b", "mistral", "llama_f16", "gpt_oss_mxfp4", "command_r" };
    const unsigned n_name = sizeof names / sizeof *names;
    unsigned i, k;
    for (k = 0; k < (only_seed ? 1u : 2u); k++)
        for (i = 0; i < n_name && test_failed < 20; i++) {
            const uint32_t s = only_seed ? only_seed : 1 + k * n_name + i;
            const int before = test_failed;
            if (only_model && strcmp(only_model, names[i])) continue;
            history(names[i], s, ops / n_name / 2 + 1);
            if (test_failed > before) printf("unit_texts: the history that failed: --model %s --seed %lu\n", names[i], (unsigned long)s);
        }
    CHECK(only_seed || only_model || (n_pause > 100 && n_end > 20 && n_done > 1000 && n_host > 50 && n_compared > 500 && n_cancel),
          "pauses %u, cancels %u, gpt_end %u, done %u, ended %u, compared %u", (unsigned)n_pause, (unsigned)n_cancel, (unsigned)n_end, (unsigned)n_done,
          (unsigned)n_host, (unsigned)n_compared);
}

static const test tests[] = {
    { "histories", test_histories },
    { NULL, NULL }
};

int main(int argc, char **argv) {
    while (argc > 2 && (!strcmp(argv[1], "--seed") || !strcmp(argv[1], "--ops") || !strcmp(argv[1], "--model"))) {
        const unsigned long v = strtoul(argv[2], NULL, 10);
        if (argv[1][2] == 's') only_seed = (uint32_t)v;
        else if (argv[1][2] == 'o') ops = (unsigned)v;
        else only_model = argv[2];
        argv[2] = argv[0]; argc -= 2; argv += 2;
    }
    test_run(tests, argc, argv);
    return test_report("unit_texts");
}
