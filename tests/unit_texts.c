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
#include "adapter.h"

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
enum { D = 32, FF = 40 };

static gpt_model *text_model(uint32_t window) {
    static const struct { const char *name; uint64_t d0, d1; int window; } t[] = { { "attn_norm", D, 0, 0 }, { "ffn_norm", D, 0, 0 },
        { "attn_q", D, 32, 0 }, { "attn_k", D, 16, 0 }, { "attn_v", D, 16, 0 }, { "attn_output", 32, D, 0 }, { "ffn_gate", D, FF, 0 },
        { "ffn_up", D, FF, 0 }, { "ffn_down", FF, D, 0 }, { "attn_q_norm", 8, 0, 1 }, { "attn_k_norm", 8, 0, 1 },
        { "post_attention_norm", D, 0, 1 }, { "post_ffw_norm", D, 0, 1 } };
    const char *arch = window ? "gemma3" : "llama";
    const unsigned n_layer = window ? 7 : 2;
    unsigned n_vocab;
    const uint32_t before = seed;
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    const unsigned char *file;
    char name[64];
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
    n_vocab = gb_toy_vocabulary(&g, window != 0);
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

enum { N_KV = GPT_KV_Q4_0 + 1, N_SLOT = 8, N_ROOM = 2, N_STILL = 4, N_CTX = 96, SAYS = 4096 };
enum { N_CHOICE = 2 };
static unsigned n_chosen;
enum { AT_REST, EVALUATES, SCORES, CHOOSES, WRITES };

typedef struct heard { char p[SAYS]; size_t n; } heard;

typedef struct text { gpt_token t[N_CTX]; size_t n; } text;

typedef struct room {               /* a work space; rooms of index N_ROOM + k: the own one of slot k, w NULL */
    gpt_work *w;
    int cancelled;                  /* its poll hook has said so since the last look */
} room;

typedef struct slot {
    gpt_session *s, *ref;           /* ref: alone, in its own work space, always told to compute at once */
    int          room, no_logits, held;                 /* held: 1 by the host, 2 as it was restored in mid-sentence */
    gpt_kv       kv;
    int          adapted;           /* none, or the adapter at one of two scales */
    uint32_t     n_ctx;
    text         now;               /* at rest: the text; else as it was before the call */
    gpt_result   result;            /* at rest: that of info */
    int          doing, ended, refused;     /* gpt_end came; the text callback returned 1 */
    text         want, raw;         /* what is under way leads to; the same without stop strings */
    size_t       n_least;           /* tokens of want that are there from the beginning on */
    gpt_finish   finish;
    heard        says, want_says;
    int          n_stop, rolls;     /* rolls: its beginning may go */
    float        score[N_CTX], want_score[N_CTX];
    gpt_generate_params g;          /* of what it writes, without stop strings */
    struct still *prefix;
} slot;

typedef struct still {              /* a frozen session */
    gpt_session  *s;
    gpt_kv        kv;
    int           no_logits, n_child;   /* sessions that begin with it */
    struct still *prefix;
    text          now;
} still;

static const gpt_model *model;
static gpt_adapter *lora;           /* of the model */
static size_t n_vocab;
static int with_text;               /* it has a tokenizer */
static slot slots[N_SLOT];
static still stills[N_STILL];
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
    t->n = n < N_CTX ? n : (size_t)N_CTX;
    memcpy(t->t, have, t->n * sizeof *have);
}

static void compare_logits(slot *k) {
    const float *z = gpt_logits(k->s);
    if (!z || !k->now.n) return;
    n_compared++;
    CHECK(!memcmp(z, ref_at(k, &k->now), n_vocab * sizeof *z), AT ": slot %d: other logits after %u tokens than alone", AT_ARGS,
          (int)(k - slots), (unsigned)k->now.n);
}

static gpt_result result_of(const gpt_session *s) {
    gpt_session_info i;
    gpt_session_info_get(s, &i);
    return i.result;
}

/* What became of a slot since the last look. */
static void settle(slot *k) {
    gpt_session_info i;
    text t;
    const int at = (int)(k - slots), may = k->ended || rooms[k->room].cancelled;
    if (!k->s) return;
    gpt_session_info_get(k->s, &i);
    see(&t, k->s);
    if (i.result != GPT_MORE) k->held &= 1;
    CHECK(i.n_token == t.n && i.n_computed <= t.n && i.held == (k->held != 0) && i.n_ctx == k->n_ctx, AT ": slot %d: info of %u tokens, %u computed, held %d",
          AT_ARGS, at, (unsigned)i.n_token, (unsigned)i.n_computed, i.held);
    if (!k->doing) {
        CHECK(same(&k->now, t.t, t.n), AT ": slot %d at rest: %u tokens, expected %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->now.n);
        CHECK(i.result == k->result, AT ": slot %d at rest: result %d, was %d", AT_ARGS, at, (int)i.result, (int)k->result);
        return;
    }
    if (i.result == GPT_MORE) {
        if (k->doing == CHOOSES) {}             /* the text shows a choice */
        else if (k->doing != WRITES) CHECK(same(&k->want, t.t, t.n), AT ": slot %d evaluates %u tokens, expected %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->want.n);
        else if (!k->rolls) CHECK(t.n >= k->n_least && begins(&k->raw, t.t, t.n), AT ": slot %d writes: %u tokens, expected %u to %u, or others", AT_ARGS, at, (unsigned)t.n,
                   (unsigned)k->n_least, (unsigned)k->raw.n);
        return;
    }
    n_done++;
    if (k->doing == CHOOSES) {
        CHECK(i.result == GPT_OK || (i.result == GPT_E_CANCELLED && may), AT ": slot %d chose: result %d", AT_ARGS, at, (int)i.result);
        CHECK(same(&k->now, t.t, t.n), AT ": slot %d chose: %u tokens, expected %u, or others", AT_ARGS, at, (unsigned)t.n, (unsigned)k->now.n);
        if (!i.result) CHECK(!memcmp(k->score, k->want_score, N_CHOICE * sizeof(float)), AT ": slot %d: other choices than alone", AT_ARGS, at);
        n_chosen += !i.result;
    } else if (k->doing != WRITES) {
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
        if (!k->refused && !k->rolls) CHECK(t.n >= k->now.n && begins(&k->raw, t.t, t.n), AT ": slot %d, ended: %u tokens, or others", AT_ARGS, at, (unsigned)t.n);
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

static void hold(slot *k, int on) {
    k->held = on ? k->held | 1 : 0;
    gpt_session_hold(k->s, on);
}

static void act(int r) {
    slot *k = one_of(r);
    if (!k || in_hook > 1) return;
    switch (below(5)) {
    case 0: end(k); break;
    case 1: hold(k, (int)below(2)); break;
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
    p.n_rank = 5;
    p.n_threads = 1;
    p.hooks = hooks_of(r);
    CHECK(gpt_work_new(&rooms[r].w, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
}

static const float scales[3] = { 0, 1, -0.5f };
static gpt_session_params params_of(const slot *k) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = k->n_ctx; p.kv = k->kv; p.no_logits = k->no_logits;
    if (k->room < N_ROOM) p.work = rooms[k->room].w;
    else { p.hooks = hooks_of(k->room); p.n_batch = 1 + below(30); p.n_threads = 1; p.n_rank = 5; }
    if (k->adapted) { p.adapter = lora; p.adapter_scale = scales[k->adapted]; }
    return p;
}

/* Can a session stand on what another holds? */
static int is_kin(const gpt_session *a, const gpt_session *b) {
    return a->params.kv == b->params.kv && gpti_is_long(a) == gpti_is_long(b) && a->adapted == b->adapted;
}

static void close_slot(slot *k) {
    gpt_session_free(k->s);
    if (k->prefix) k->prefix->n_child--;
    gpt_session_free(k->ref);
    memset(k, 0, sizeof *k);
}

/* LongRoPE: are its tokens computed in the other way? */
static int is_long(const slot *k) { return model->rope_freq[2] && k->n_ctx > model->hp.n_ctx_orig; }

static void open_slot(slot *k) {
    gpt_session_params p;
    gpt_error err;
    memset(k, 0, sizeof *k);
    k->room = (int)below(5);
    if (k->room >= N_ROOM) k->room = k->room == 4 ? N_ROOM + (int)(k - slots) : k->room % N_ROOM;
    k->no_logits = !below(3);
    k->kv = (gpt_kv)below(N_KV);
    k->adapted = below(2) ? (int)below(3) : 0;
    k->n_ctx = below(3) ? N_CTX : 48;
    p = params_of(k);
    if (below(2)) {
        still *q = &stills[below(N_STILL)];
        if (q->s && q->now.n <= k->n_ctx && q->kv == k->kv && gpti_is_long(q->s) == is_long(k) &&
            q->s->params.adapter == p.adapter && (!p.adapter || q->s->params.adapter_scale == p.adapter_scale)) {
            p.prefix = q->s; k->prefix = q; k->now = q->now;
            q->n_child++;
        }
    }
    CHECK(gpt_session_new(&k->s, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
    p.prefix = NULL; p.work = NULL; p.no_logits = 0; p.n_threads = 1; p.n_batch = 1 + below(60); p.n_rank = 5;
    memset(&p.hooks, 0, sizeof p.hooks);
    CHECK(gpt_session_new(&k->ref, model, &p, &err) == GPT_OK, AT ": %s", AT_ARGS, err.msg);
    if (!k->s || !k->ref) exit(test_report("unit_texts"));
}

static void random_ids(gpt_token *out, size_t n) {
    while (n--) *out++ = (gpt_token)below((uint32_t)n_vocab);
}

/* A text that has gone back into its prefix takes from its own room what it has of that. */
static size_t most_tokens(const slot *k) {
    const size_t own = k->prefix ? (k->prefix->now.n - (k->prefix->now.n && !k->prefix->s->last_logits)) & ~(size_t)15 : 0;
    size_t most = (k->n_ctx - own + 15) & ~(size_t)15;
    if (!k->prefix || k->s->n_shared == k->prefix->now.n) return k->n_ctx;
    most += k->s->n_shared & ~(size_t)15;
    return most < k->n_ctx ? most : k->n_ctx;
}

/* gpt_eval, gpt_score and the same in slices. */
static void op_eval(slot *k) {
    gpt_token ids[N_CTX + 8];
    const size_t n = below(3) ? below(12) : below(40), room_left = most_tokens(k) - k->now.n;
    const int kind = (int)below(4), scores = kind & 1, slices = kind >> 1;
    gpt_eval_params ep = { 0 };
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
        k->doing = scores && n ? SCORES : EVALUATES;        /* scores of nothing: an evaluation of nothing */
    }
    r = slices ? gpt_eval_begin(k->s, ids, n, &ep, &err) : scores ? gpt_score(k->s, ids, n, k->score, &err) : gpt_eval(k->s, ids, n, &err);
    if (slices || want) CHECK(r == want, AT ": slot %d: gave %d (%s), expected %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    else {
        gpt_session_info i;
        gpt_session_info_get(k->s, &i);
        CHECK(r == i.result && r <= 0, AT ": slot %d: gave %d, info %d", AT_ARGS, (int)(k - slots), (int)r, (int)i.result);
    }
}

static const char *const stop_strings[] = { "a", "b", "ab", "b\n", " a", "aab", "\n", "\xC3", "ba b" };

static void op_write(slot *k) {
    static const char *const prompts[] = { "", "", "", "a", " b", "ab", "\xC3\xA9", "a\n", "  a b", "aaaab" };
    const char *prompt = with_text ? prompts[below(10)] : "", *stop[3];
    const int slices = (int)below(3);
    uint32_t n_draft;
    gpt_generate_params g;
    gpt_session_info info;
    gpt_error err;
    gpt_result r, want;
    size_t i;
    memset(&g, 0, sizeof g);
    g.max_tokens = below(8) ? 1 + below(12) : 0;
    n_draft = below(3) ? 1 + below(16) : 0;
    g.ignore_end = (int)below(2);
    for (i = 0; i < 3; i++) stop[i] = stop_strings[below(9)];
    if (with_text && !below(3)) { g.stop = stop; g.n_stop = 1 + below(3); }
    if (below(3)) { g.sample.temperature = 1.0f; g.sample.seed = below(1000); }
    if (!k->prefix && !below(6)) { g.roll = 1; g.n_keep = below(30); g.max_tokens = 1 + below(70); }
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
    if (most_tokens(k) < k->n_ctx) {            /* alone there would be more room */
        g.max_tokens = 1 + below(6);
        if (k->now.n + 24 > most_tokens(k)) return;
    }
    k->says.n = k->want_says.n = 0;
    ref_at(k, &k->now);                         /* what the call before has held back goes along */
    memcpy(&k->ref->gen->stream, &k->s->gen->stream, sizeof k->ref->gen->stream);
    k->ref->gen->stale = k->s->gen->stale;
    k->ref->n_dropped = k->s->n_dropped;        /* draws count what has gone */
    g.n_draft = 0;                              /* guesses change nothing */
    want = gpt_generate(k->ref, prompt, &g, hear, &k->want_says, &err);
    if (!want) {
        gpt_session_info_get(k->ref, &info);
        see(&k->want, k->ref);
        k->raw = k->want; k->finish = info.finish; k->n_stop = (int)g.n_stop; k->rolls = g.roll; k->n_least = k->now.n + info.n_prompt;
        if (g.n_stop) {
            g.n_stop = 0;
            gpt_session_reset(k->ref);
            ref_at(k, &k->now);
            k->ref->n_dropped = k->s->n_dropped;
            CHECK(gpt_generate(k->ref, prompt, &g, NULL, NULL, &err) == GPT_OK, AT ": the reference: %s", AT_ARGS, err.msg);
            see(&k->raw, k->ref);
            g.n_stop = (size_t)k->n_stop;
        }
        g.n_draft = n_draft;
        k->doing = WRITES;
        k->g = g; k->g.stop = NULL; k->g.n_stop = 0;
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
    CHECK(r == (n > t.n ? GPT_E_ARG : GPT_OK) || (r == GPT_E_STATE && k->prefix && n && n < t.n), AT ": slot %d: to %u of %u gave %d (%s)", AT_ARGS, (int)(k - slots),
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
    k->now.n = 0;
    if (k->prefix) k->now = k->prefix->now;
    if (k->doing) k->result = k->doing == WRITES ? GPT_OK : GPT_E_CANCELLED;
    k->doing = AT_REST; k->ended = k->refused = 0;
}

/* For good: it goes from the slots to the stills. What it is worth: sessions that begin with it, and copies. */
static void op_freeze(slot *k) {
    still *q = &stills[below(N_STILL)];
    gpt_error err;
    gpt_result r;
    op_name = "gpt_session_freeze";
    if (q->s) return;
    if (k->doing) {
        CHECK(gpt_session_freeze(k->s, &err) == GPT_E_STATE, AT ": slot %d: frozen in the middle of something", AT_ARGS, (int)(k - slots));
        return;
    }
    k->want = k->now; k->doing = EVALUATES;
    r = gpt_session_freeze(k->s, &err);
    CHECK(r == GPT_OK || (r == GPT_E_CANCELLED && (k->ended || rooms[k->room].cancelled)), AT ": slot %d: gave %d (%s)", AT_ARGS, (int)(k - slots), (int)r, err.msg);
    if (r) return;
    q->s = k->s; q->kv = k->kv; q->no_logits = k->no_logits; q->prefix = k->prefix; q->now = k->now; q->n_child = 0;
    settle(k);
    k->s = NULL; k->prefix = NULL;
    close_slot(k);
}

static void op_still(void) {
    still *q = &stills[below(N_STILL)];
    const gpt_token one = 1;
    gpt_session_info i;
    text t;
    float lp;
    size_t k;
    op_name = "a frozen session";
    if (!q->s) return;
    gpt_session_info_get(q->s, &i);
    CHECK(i.frozen && i.n_computed == q->now.n, AT ": frozen %d, %u of %u tokens computed", AT_ARGS, i.frozen, (unsigned)i.n_computed, (unsigned)q->now.n);
    CHECK(gpt_eval(q->s, &one, 1, NULL) == GPT_E_STATE && gpt_score(q->s, &one, 1, &lp, NULL) == GPT_E_STATE && gpt_session_rewind(q->s, 0, NULL) == GPT_E_STATE &&
          gpt_eval_begin(q->s, &one, 1, NULL, NULL) == GPT_E_STATE && gpt_begin(q->s, "", NULL, NULL, NULL, NULL) == GPT_E_STATE &&
          gpt_generate(q->s, "", NULL, NULL, NULL, NULL) == GPT_E_STATE && gpt_step(q->s, NULL) == GPT_E_STATE && gpt_session_freeze(q->s, NULL) == GPT_E_STATE &&
          gpt_session_hooks(q->s, NULL, NULL) == GPT_E_STATE && gpt_session_copy(q->s, q->s, 0, NULL) == GPT_E_STATE && gpt_sample(q->s, NULL) == -1,
          AT ": a frozen session changes", AT_ARGS);
    gpt_session_reset(q->s);
    gpt_session_hold(q->s, 1);
    gpt_end(q->s);
    see(&t, q->s);
    CHECK(same(&q->now, t.t, t.n), AT ": a frozen text of %u tokens, was %u, or others", AT_ARGS, (unsigned)t.n, (unsigned)q->now.n);
    for (k = 0; k < N_SLOT; k++) if (slots[k].s && is_kin(slots[k].s, q->s) && gpt_logits(q->s) && q->now.n) {
        if (q->now.n > slots[k].n_ctx) continue;
        CHECK(!memcmp(gpt_logits(q->s), ref_at(&slots[k], &q->now), n_vocab * sizeof(float)), AT ": frozen: other logits than alone", AT_ARGS);
        break;
    }
    if (q->n_child || below(2)) return;
    gpt_session_free(q->s);
    if (q->prefix) q->prefix->n_child--;
    memset(q, 0, sizeof *q);
}

static void op_copy(slot *k) {
    const still *q = &stills[below(N_STILL)];
    const slot *o = &slots[below(N_SLOT)];
    const gpt_session *from = below(3) ? o->s : q->s;
    gpt_error err;
    gpt_result r, want = GPT_OK;
    text t;
    size_t n;
    op_name = "gpt_session_copy";
    if (!from) return;
    see(&t, from);
    n = below(3) ? SIZE_MAX : below((uint32_t)t.n + 2);
    if (n < t.n) t.n = n;
    if (!is_kin(from, k->s)) want = GPT_E_FOREIGN;
    else if (t.n > k->n_ctx) want = GPT_E_CONTEXT;
    if (k->doing) want = GPT_E_STATE;
    r = gpt_session_copy(k->s, from, n, &err);
    CHECK(r == want || (r == GPT_E_CONTEXT && !want && k->prefix), AT ": slot %d: gave %d (%s), expected %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    if (!r) k->now = t;
    if (!r) compare_logits(k);
}

typedef struct into { unsigned char *p; size_t n, room; } into;
static size_t write_into(void *user, const void *src, size_t n) {
    into *w = (into *)user;
    if (n > w->room - w->n) return 0;
    memcpy(w->p + w->n, src, n);
    w->n += n;
    return n;
}
static size_t read_from(void *user, uint64_t offset, void *dst, size_t n) {
    const into *r = (const into *)user;
    if (offset > r->n || n > r->n - (size_t)offset) return 0;
    memcpy(dst, r->p + offset, n);
    return n;
}

/* What one slot or frozen session holds goes on in another, a generation under way too. */
static void op_save(slot *k) {
    still *q = &stills[below(N_STILL)];
    slot *o = &slots[below(N_SLOT)];
    const gpt_session *from = below(3) ? o->s : q->s;
    const int what = below(2) ? GPT_SAVE_CACHE : GPT_SAVE_TOKENS, damage = !below(6);
    gpt_result r, want = GPT_OK;
    gpt_session_info info;
    gpt_error err;
    into b;
    gpt_writer w;
    gpt_reader rd;
    text t, start;
    int writes;
    op_name = what == GPT_SAVE_CACHE ? "a save" : "a save of tokens";
    if (!from) return;
    if (from != o->s) o = NULL;
    see(&t, from);
    gpt_session_info_get(from, &info);
    writes = o && info.result == GPT_MORE && o->doing == WRITES;
    start = o ? o->now : t;
    memset(&w, 0, sizeof w);
    memset(&rd, 0, sizeof rd);
    b.room = gpt_session_save_bytes(from, what); b.n = 0;
    b.p = (unsigned char *)malloc(b.room);
    if (!b.p) exit(1);
    if (below(2)) { w.write = write_into; w.user = &b; }
    else { w.user = b.p; w.size = b.room; b.n = b.room; }
    CHECK(gpt_session_save(from, what, &w, &err) == GPT_OK && b.n == b.room, AT ": %s; %u of %u bytes", AT_ARGS, err.msg, (unsigned)b.n, (unsigned)b.room);
    if (damage && below(2)) b.p[below((uint32_t)b.n)] ^= (unsigned char)(1 << below(8));
    else if (damage) b.n = below((uint32_t)b.n);
    if (!is_kin(from, k->s)) want = GPT_E_FOREIGN;
    else if (t.n > k->n_ctx) want = GPT_E_CONTEXT;
    if (below(2)) { rd.read = read_from; rd.user = &b; } else rd.user = b.p;
    rd.size = b.n;
    r = gpt_session_restore(k->s, &rd, &err);
    free(b.p);
    if (damage) CHECK(r < 0 && err.msg[0], AT ": slot %d: a damaged save gave %d", AT_ARGS, (int)(k - slots), (int)r);
    else CHECK(r == want || (!want && (r == GPT_E_FOREIGN || r == GPT_E_CONTEXT) && (from->n_shared || k->prefix)), AT ": slot %d: gave %d (%s), expected %d", AT_ARGS,
               (int)(k - slots), (int)r, err.msg, (int)want);
    if (r) {                                    /* as after a reset */
        if (k->doing) k->result = k->doing == WRITES ? GPT_OK : GPT_E_CANCELLED;
        k->now.n = 0;
        if (k->prefix) k->now = k->prefix->now;
        k->doing = AT_REST; k->ended = k->refused = 0;
        return;
    }
    k->ended = k->refused = 0; k->doing = AT_REST; k->now = t; k->result = GPT_OK;
    if (!writes) { compare_logits(k); return; }
    k->now = start;
    gpt_work_step(k->s->w, &err);               /* it is held */
    CHECK(result_of(k->s) == GPT_MORE, AT ": slot %d: result %d", AT_ARGS, (int)(k - slots), (int)result_of(k->s));
    k->doing = WRITES; k->held |= 2;
    if (k != o) {
        k->want = o->want; k->raw = o->raw; k->n_least = o->n_least; k->finish = o->finish; k->says = o->says; k->want_says = o->want_says;
        k->n_stop = o->n_stop; k->rolls = o->rolls; k->g = o->g; k->refused = o->refused;
    }
    see(&t, k->s);
    if (k->n_ctx != o->n_ctx || k->prefix || o->prefix) { end(k); return; }
    CHECK(gpt_resume(k->s, below(2) ? NULL : &k->g, on_text, k, &err) == GPT_OK, AT ": slot %d: %s", AT_ARGS, (int)(k - slots), err.msg);
    k->held &= 1;
}

/* Another adapter, another scale: the text is the same, and computed anew. */
static void op_adapter(slot *k) {
    const int to = (int)below(3);
    const uint64_t before = k->s->adapted;
    gpt_session_info i;
    gpt_error err;
    gpt_result r, want = k->doing ? GPT_E_STATE : k->prefix && to != k->adapted ? GPT_E_FOREIGN : GPT_OK;
    op_name = "gpt_session_adapter";
    r = gpt_session_adapter(k->s, to ? lora : NULL, scales[to], &err);
    CHECK(r == want, AT ": slot %d: gave %d (%s), expected %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    if (r) return;
    CHECK(!gpt_session_adapter(k->ref, to ? lora : NULL, scales[to], &err), AT ": the reference: %s", AT_ARGS, err.msg);
    gpt_session_info_get(k->s, &i);
    CHECK(to == k->adapted || i.n_computed == 0, AT ": slot %d: %u tokens of another adapter are left", AT_ARGS, (int)(k - slots), (unsigned)i.n_computed);
    CHECK((to == k->adapted) == (before == k->s->adapted), AT ": slot %d: scale %d", AT_ARGS, (int)(k - slots), to);
    k->adapted = to;
}

/* One of two strings: the text stays, and what is computed of it. */
static void op_choose(slot *k) {
    static const char *const choice[2][N_CHOICE] = { { "ab", "aa" }, { "a", "\n" } };
    const int which = (int)below(2), slices = (int)below(2);
    const char *prompt = below(2) ? "b" : NULL;
    const int doing = k->doing;
    gpt_error err;
    gpt_result r, want;
    ref_at(k, &k->now);
    op_name = slices ? "gpt_choose_begin" : "gpt_choose";
    want = doing ? GPT_E_STATE : gpt_choose(k->ref, prompt, choice[which], N_CHOICE, NULL, k->want_score, NULL, &err);
    if (!doing) k->doing = CHOOSES;
    r = slices ? gpt_choose_begin(k->s, prompt, choice[which], N_CHOICE, NULL, k->score, NULL, &err)
               : gpt_choose(k->s, prompt, choice[which], N_CHOICE, NULL, k->score, NULL, &err);
    CHECK(r == want || r == GPT_E_CONTEXT || (!slices && r == GPT_E_CANCELLED), AT ": slot %d: gave %d (%s), expected %d", AT_ARGS, (int)(k - slots), (int)r, err.msg, (int)want);
    if (r && r != GPT_E_CANCELLED) k->doing = doing;    /* not begun */
}

static void op_sample(slot *k) {
    gpt_sample_params p;
    gpt_token id;
    op_name = "gpt_sample";
    if (k->doing || !k->now.n || !gpt_logits(k->s)) return;
    memset(&p, 0, sizeof p);
    p.temperature = 1.0f; p.top_p = 0.8f; p.seed = below(100);
    ref_at(k, &k->now);
    k->ref->n_dropped = k->s->n_dropped;
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
    if (dice < 12) op_eval(k);
    else if (dice < 16) op_choose(k);
    else if (dice < 24) op_compare(k);
    else if (dice < 44) op_write(k);
    else if (dice < 68) op_work_step((int)below(N_ROOM));
    else if (dice < 76) op_step(k);
    else if (dice < 79) { op_name = "gpt_end"; end(k); }
    else if (dice < 83) { op_name = "gpt_session_hold"; hold(k, !below(3)); }
    else if (dice < 87) op_rewind(k);
    else if (dice < 89) op_reset(k);
    else if (dice < 92) { op_name = "gpt_session_free"; close_slot(k); }
    else if (dice < 93) op_sample(k);
    else if (dice < 94) op_freeze(k);
    else if (dice < 95) op_still();
    else if (dice < 97) op_copy(k);
    else if (dice < 98) op_save(k);
    else if (dice < 99) op_adapter(k);
    else op_drain((int)below(N_ROOM));
    settle_all();
}

static gpt_adapter *random_lora(const gpt_model *m) {
    gpt_adapter *a = NULL;
    gpt_reader r;
    gpt_error err;
    size_t n;
    gb g;
    memset(&r, 0, sizeof r);
    random_adapter(&g, m, NULL, 1, 2.0f);
    r.user = (void *)gb_finish(&g, &n); r.size = n;
    CHECK(!gpt_adapter_load_reader(&a, m, &r, &err), "%s", err.msg);
    gb_free(&g);
    if (!a) exit(test_report("unit_texts"));
    return a;
}

static uint32_t only_seed;
static const char *only_model;
static unsigned ops = 15000;

static void history(const char *name, uint32_t s, unsigned n) {
    int i;
    gpt_error err;
    model = strcmp(name, "text") && strcmp(name, "windows") ? load_toy(name) : text_model(name[0] == 'w' ? 8 : 0);
    n_vocab = vocab_of(model);
    lora = random_lora(model);
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
    for (i = 0; i < 4 * N_STILL; i++) {         /* those that others begin with come last */
        still *q = &stills[i % N_STILL];
        if (!q->s || q->n_child) continue;
        gpt_session_free(q->s);
        if (q->prefix) q->prefix->n_child--;
        memset(q, 0, sizeof *q);
    }
    for (i = 0; i < N_ROOM; i++) gpt_work_free(rooms[i].w);
    gpt_adapter_free(lora);
    gpt_model_free((gpt_model *)(size_t)model);
    CHECK(counted.live == 0, "%s, seed %lu: %u blocks are left", name, (unsigned long)s, (unsigned)counted.live);
    counted.live = 0;
}

/* Attention; windows; experts, with sinks and windows, with a shared one; two ropes; alibi; learned positions; parallel blocks;
 * quantised and F16 weights; short convolution. */
static void test_histories(void) {
    static const char *const names[] = { "text", "windows", "gpt_oss", "phi3_long", "llama_q4_0", "bloom", "qwen2moe", "gemma3", "gpt2",
        "falcon_40b", "mistral", "llama_f16", "gpt_oss_mxfp4", "command_r", "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "falcon_h1_q_cpp",
        "llama4_cpp", "gemma3n_cpp", "gemma4_moe_cpp", "smallthinker_cpp", "deepseek2_v3_cpp" };
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
    CHECK(only_seed || only_model || ops < 15000 || (n_pause > 100 && n_end > 20 && n_done > 1000 && n_host > 50 && n_compared > 300 && n_cancel && n_chosen > 5),
          "pauses %u, cancels %u, gpt_end %u, done %u, ended %u, compared %u, chosen %u", (unsigned)n_pause, (unsigned)n_cancel, (unsigned)n_end, (unsigned)n_done,
          (unsigned)n_host, (unsigned)n_compared, n_chosen);
}

/* ---- One promise a test --------------------------------------------------------------------------------------------- */

enum { N_LONG = 2000 };

static gpt_session *session_in(const gpt_model *m, gpt_work *w, uint32_t n_ctx, int no_logits) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    p.n_ctx = n_ctx; p.work = w; p.no_logits = no_logits;
    if (!w) p.n_threads = 1;
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_OK, "%s", err.msg);
    if (!s) exit(test_report("unit_texts"));
    return s;
}

static gpt_generate_params writing(size_t max_tokens, uint64_t with_seed) {
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.max_tokens = max_tokens; g.ignore_end = 1;
    g.sample.temperature = 1.0f; g.sample.top_p = 0.95f; g.sample.seed = with_seed;
    return g;
}

static gpt_token some_id(size_t i, size_t n) { return (gpt_token)((i * i * 7 + 3 * i + 1) % n); }

/* What s holds must be what gpt_generate alone makes of its first n_prompt tokens. */
static void check_alone(const gpt_model *m, const gpt_session *s, size_t n_prompt, const gpt_generate_params *g, const char *what) {
    gpt_session_info i;
    gpt_session *ref;
    gpt_error err;
    size_t n, k;
    const gpt_token *t = gpt_session_tokens(s, &n), *want;
    gpt_session_info_get(s, &i);
    ref = session_in(m, NULL, i.n_ctx, 0);
    CHECK(gpt_eval(ref, t, n_prompt, &err) == GPT_OK && gpt_generate(ref, "", g, NULL, NULL, &err) == GPT_OK, "%s: %s", what, err.msg);
    want = gpt_session_tokens(ref, &k);
    CHECK(n <= k && (n == k || i.result == GPT_MORE || i.finish == GPT_FINISH_HOST) && !memcmp(t, want, n * sizeof *t), "%s: %u tokens, alone %u, or others", what,
          (unsigned)n, (unsigned)k);
    gpt_session_free(ref);
}

/* The rows of each pass, by session, as the trace hook tells them. */
typedef struct passes {
    const gpt_session *who[100];
    size_t n_who, rows[100], n_pass, most_rows;
    int    in_embd, pause;          /* pause: one poll in so many makes one */
    size_t polls;
} passes;

static int on_trace(void *user, const gpt_trace *t) {
    passes *p = (passes *)user;
    size_t i, sum = 0;
    if (strcmp(t->name, "embd")) { p->in_embd = 0; return 0; }
    if (!p->in_embd) { p->n_pass++; p->n_who = 0; p->in_embd = 1; }
    for (i = 0; i < p->n_who && p->who[i] != t->session; i++) {}
    if (i == 100) return 0;
    if (i == p->n_who) { p->who[i] = t->session; p->rows[i] = 0; p->n_who++; }
    p->rows[i] += t->n_row;
    for (i = 0; i < p->n_who; i++) sum += p->rows[i];
    if (sum > p->most_rows) p->most_rows = sum;
    return 0;
}
static gpt_poll on_pause(void *user, size_t done, size_t total) {
    passes *p = (passes *)user;
    (void)done; (void)total;
    return p->pause && ++p->polls % (size_t)p->pause == 0 ? GPT_PAUSE : GPT_GO;
}
static size_t rows_of(const passes *p, const gpt_session *s) {
    size_t i;
    for (i = 0; i < p->n_who; i++) if (p->who[i] == s) return p->rows[i];
    return 0;
}

static gpt_work *work_with(const gpt_model *m, uint32_t n_batch, uint32_t n_fill, passes *p) {
    gpt_work_params wp;
    gpt_work *w = NULL;
    gpt_error err;
    memset(&wp, 0, sizeof wp);
    wp.n_batch = n_batch; wp.n_fill = n_fill; wp.n_threads = 1;
    if (p) { wp.hooks.trace = on_trace; wp.hooks.trace_user = p; wp.hooks.poll = on_pause; wp.hooks.poll_user = p; }
    CHECK(gpt_work_new(&w, m, &wp, &err) == GPT_OK, "%s", err.msg);
    if (!w) exit(test_report("unit_texts"));
    return w;
}

static size_t n_of(const gpt_session *s) { size_t n; gpt_session_tokens(s, &n); return n; }

/* A prompt of 2,000 tokens comes to eight who write: each of them gets a token from every pass, of 8 + n_fill rows at most,
 * whatever n_batch is and whether the host pauses in between. One of them is ended, one reset, one freed in the middle of a
 * pass. */
static void long_prompt(const gpt_model *m, uint32_t n_batch, uint32_t n_fill, int pause) {
    static gpt_token ids[N_LONG];
    const size_t vocab = vocab_of(m), fill = n_fill ? n_fill : 32;
    gpt_session *s[9];
    gpt_generate_params g[9];
    size_t i, n_step = 0, gaps = 0, wrong = 0;
    int out[8] = { 0 };
    passes p;
    gpt_work *w;
    gpt_error err;
    memset(&p, 0, sizeof p);
    w = work_with(m, n_batch, n_fill, &p);
    for (i = 0; i < N_LONG; i++) ids[i] = some_id(i, vocab);
    for (i = 0; i < 8; i++) {
        s[i] = session_in(m, w, 300, i & 1);
        g[i] = writing(i == 7 ? 20 : 0, i);
        CHECK(gpt_eval(s[i], ids + i, 3, &err) == GPT_OK && gpt_begin(s[i], "", &g[i], NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    }
    for (i = 0; i < 5; i++) gpt_work_step(w, &err);
    p.pause = pause;
    s[8] = session_in(m, w, 2100, 0);
    g[8] = writing(5, 8);
    CHECK(gpt_eval(s[8], ids, 1, &err) == GPT_OK && gpt_eval_begin(s[8], ids + 1, N_LONG - 1, NULL, &err) == GPT_OK, "%s", err.msg);
    while (result_of(s[8]) == GPT_MORE) {
        const size_t pass = p.n_pass;
        gpt_result r;
        do r = gpt_work_step(w, &err); while (r == GPT_MORE && s[0]->w->cursor.active);
        CHECK(r == GPT_MORE || r == GPT_OK, "%s", err.msg);
        if (p.n_pass == pass) continue;
        n_step++;
        for (i = 0; i < 8; i++) if (!out[i] && result_of(s[i]) == GPT_MORE && rows_of(&p, s[i]) != 1) gaps++;
        if (rows_of(&p, s[8]) > fill) wrong++;
        if (n_step == 10 || n_step == 20 || n_step == 30) {     /* in the middle of a pass, where there are pauses */
            for (i = 0; pause && i < 7; i++) gpt_work_step(w, &err);
            if (n_step == 10) { gpt_end(s[1]); check_alone(m, s[1], 3, &g[1], "ended in a pass"); out[1] = 1; }
            if (n_step == 20) { gpt_session_reset(s[2]); out[2] = 1; CHECK(n_of(s[2]) == 0, "%u tokens after a reset", (unsigned)n_of(s[2])); }
            if (n_step == 30) { gpt_session_free(s[3]); s[3] = NULL; out[3] = 1; }
            while (s[0]->w->cursor.active) gpt_work_step(w, &err);
        }
        if (n_step > N_LONG) break;
    }
    CHECK(gaps == 0 && wrong == 0, "batch %u, fill %u, pause %d: %u gaps, %u passes of too many rows", n_batch, n_fill, pause, (unsigned)gaps, (unsigned)wrong);
    CHECK(p.most_rows <= 8 + fill, "batch %u, fill %u: a pass of %u rows", n_batch, n_fill, (unsigned)p.most_rows);
    CHECK(n_step + 4 >= (N_LONG - 1) / fill && n_step <= N_LONG / fill + 4, "batch %u, fill %u: the prompt took %u passes", n_batch, n_fill, (unsigned)n_step);
    p.pause = 0;
    CHECK(gpt_generate(s[8], "", &g[8], NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    check_alone(m, s[8], N_LONG, &g[8], "the long prompt");
    while (gpt_work_step(w, &err) == GPT_MORE) {}
    for (i = 0; i < 8; i++) {
        if (!out[i]) check_alone(m, s[i], 3, &g[i], "a writer");
        gpt_session_free(s[i]);
    }
    gpt_session_free(s[8]);
    gpt_work_free(w);
}

static void test_long_prompt(void) {
    gpt_model *m = text_model(0), *v = text_model(64);
    long_prompt(m, 64, 16, 0);
    long_prompt(m, 2048, 0, 3);
    long_prompt(v, 100, 8, 5);
    gpt_model_free(m);
    gpt_model_free(v);
}

/* Prompts share what rows there are alike; who writes has one row of each pass, or every text in its turn where there are
 * more than rows; a prompt gets on beside as many writers as there are rows. */
static void test_shares(void) {
    gpt_model *m = text_model(0);
    gpt_token ids[200];
    gpt_session *s[10];
    gpt_generate_params g = writing(0, 1);
    passes p;
    gpt_work *w;
    gpt_error err;
    size_t i, k, least, most, n;
    uint32_t b;
    memset(&p, 0, sizeof p);
    for (i = 0; i < 200; i++) ids[i] = some_id(i, vocab_of(m));
    w = work_with(m, 30, 9, &p);
    for (i = 0; i < 3; i++) { s[i] = session_in(m, w, 200, 0); gpt_eval_begin(s[i], ids, 100 + 20 * i, NULL, &err); }
    for (k = 0; k < 5; k++) {
        gpt_work_step(w, &err);
        for (i = 0; i < 3; i++) CHECK(rows_of(&p, s[i]) == 10, "pass %u: prompt %u of three has %u rows, expected 10", (unsigned)k, (unsigned)i, (unsigned)rows_of(&p, s[i]));
    }
    s[3] = session_in(m, w, 200, 0);
    gpt_eval(s[3], ids, 2, &err);               /* alone, while the others wait */
    for (i = 0; i < 3; i++) CHECK(rows_of(&p, s[i]) == 0, "a call that blocks computes one text");
    gpt_begin(s[3], "", &g, NULL, NULL, &err);
    gpt_work_step(w, &err);                     /* it has its logits: it writes a token, and its first row comes with the next pass */
    gpt_work_step(w, &err);
    gpt_work_step(w, &err);
    for (i = 0; i < 4; i++) CHECK(rows_of(&p, s[i]) == (i < 3 ? 3u : 1u), "beside a writer: text %u has %u rows", (unsigned)i, (unsigned)rows_of(&p, s[i]));
    gpt_session_hold(s[0], 1);
    gpt_session_hold(s[3], 1);
    gpt_work_step(w, &err);
    for (i = 0; i < 4; i++) CHECK(rows_of(&p, s[i]) == (i % 3 ? 15u : 0u), "held: text %u has %u rows", (unsigned)i, (unsigned)rows_of(&p, s[i]));
    while (gpt_work_step(w, &err) == GPT_MORE) {}
    CHECK(result_of(s[0]) == GPT_MORE && result_of(s[1]) == GPT_OK && result_of(s[3]) == GPT_MORE, "held texts wait, the others do not");
    for (i = 0; i < 4; i++) gpt_session_free(s[i]);
    gpt_work_free(w);
    for (b = 1; b <= 7; b += 3) {               /* ten writers, b rows */
        w = work_with(m, b, 0, &p);
        for (i = 0; i < 10; i++) { s[i] = session_in(m, w, 200, i % 2 == 0); gpt_eval(s[i], ids, 2, &err); gpt_begin(s[i], "", &g, NULL, NULL, &err); }
        for (k = 0; k < 60; k++) {
            gpt_work_step(w, &err);
            for (least = SIZE_MAX, most = 0, i = 0; i < 10; i++) { n = n_of(s[i]); if (n < least) least = n; if (n > most) most = n; }
            CHECK(most - least <= 2, "%u rows, step %u: the texts of ten writers have %u to %u tokens", b, (unsigned)k, (unsigned)least, (unsigned)most);
        }
        for (i = 0; i < 10; i++) { check_alone(m, s[i], 2, &g, "one of ten writers"); gpt_session_free(s[i]); }
        gpt_work_free(w);
    }
    for (b = 1; b <= 4; b += 3) {               /* four writers without an end, b rows, and two prompts */
        w = work_with(m, b, 0, &p);
        for (i = 0; i < 4; i++) { s[i] = session_in(m, w, 1000, 0); gpt_eval(s[i], ids, 2, &err); gpt_begin(s[i], "", &g, NULL, NULL, &err); }
        for (; i < 6; i++) { s[i] = session_in(m, w, 200, 0); gpt_eval_begin(s[i], ids, 40, NULL, &err); }
        for (k = 0; k < 900 && result_of(s[4]) == GPT_MORE; k++) gpt_work_step(w, &err);
        CHECK(result_of(s[4]) == GPT_OK && result_of(s[5]) != GPT_E_CANCELLED, "%u rows, four writers: a prompt of 40 tokens has not got on in %u passes", b, (unsigned)k);
        for (least = SIZE_MAX, i = 0; i < 4; i++) if (n_of(s[i]) < least) least = n_of(s[i]);
        CHECK(least > 20, "%u rows: nor have those who write: %u tokens", b, (unsigned)least);
        for (i = 0; i < 6; i++) gpt_session_free(s[i]);
        gpt_work_free(w);
    }
    gpt_model_free(m);
}

/* Texts without a row of logits of their own write the same, more of them than rows of logits in the work space. */
static void test_no_logits(void) {
    gpt_model *m = text_model(0);
    gpt_session *s[80];
    gpt_generate_params g[80];
    gpt_token ids[4];
    passes p;
    gpt_work *w;
    gpt_error err;
    size_t i;
    memset(&p, 0, sizeof p);
    for (i = 0; i < 4; i++) ids[i] = some_id(i, vocab_of(m));
    w = work_with(m, 200, 0, &p);
    CHECK(w->n_logit_row < 80, "%u rows of logits", w->n_logit_row);
    for (i = 0; i < 80; i++) {
        s[i] = session_in(m, w, 60, i % 9 != 4);
        g[i] = writing(0, i);
        gpt_eval(s[i], ids, 1 + i % 4, &err);
        CHECK((gpt_logits(s[i]) == NULL) == (i % 9 != 4), "text %u: logits", (unsigned)i);
        if (i % 9 != 4) CHECK(gpt_sample(s[i], NULL) == -1, "gpt_sample without logits");
        gpt_begin(s[i], "", &g[i], NULL, NULL, &err);
    }
    p.pause = 4;
    for (i = 0; gpt_work_step(w, &err) == GPT_MORE && i < 1000000; i++) {}
    for (i = 0; i < 80; i++) {
        CHECK(result_of(s[i]) == GPT_OK && n_of(s[i]) == 60, "text %u: result %d, %u tokens", (unsigned)i, (int)result_of(s[i]), (unsigned)n_of(s[i]));
        check_alone(m, s[i], 1 + i % 4, &g[i], "without logits");
        gpt_session_free(s[i]);
    }
    gpt_work_free(w);
    gpt_model_free(m);
}

static int refuse(void *user, const char *p, size_t n) { (void)p; (void)n; return --*(int *)user == 0; }

/* What one text ends with, its end, a limit, a stop string, the host, a full context, is its own. */
static void test_results(void) {
    gpt_model *m = text_model(0);
    static const char *const stop[] = { "a", "b", " " };
    gpt_session *s[8], *ref;
    gpt_generate_params g[8];
    gpt_session_info a, b;
    gpt_work *w = work_with(m, 16, 0, NULL);
    gpt_token ids[64];
    float lp[64];
    gpt_eval_params ep = { 0 };
    gpt_error err;
    size_t i, n, k;
    int left[2] = { 3, 3 };
    for (i = 0; i < 64; i++) ids[i] = some_id(i, vocab_of(m));
    ep.logprob = lp;
    for (i = 0; i < 8; i++) {
        s[i] = session_in(m, w, i == 3 ? 12 : 120, (int)(i & 1));
        g[i] = writing(i == 1 ? 7 : 100, i);
        if (i == 2) { g[i].stop = stop; g[i].n_stop = 3; }
        if (i == 5) g[i].ignore_end = 0;
        if (i != 7) CHECK(gpt_eval(s[i], ids, 4, &err) == GPT_OK, "%s", err.msg);
    }
    for (i = 0; i < 6; i++) CHECK(gpt_begin(s[i], "", &g[i], i == 4 ? refuse : NULL, i == 4 ? &left[0] : NULL, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_begin(s[6], NULL, &g[6], NULL, NULL, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_eval_begin(s[7], ids, 60, &ep, &err) == GPT_OK, "%s", err.msg);
    for (i = 0; i < 12; i++) gpt_work_step(w, &err);
    gpt_end(s[6]);
    while (gpt_work_step(w, &err) == GPT_MORE) {}
    for (i = 0; i < 8; i++) {
        const gpt_token *t = gpt_session_tokens(s[i], &n), *u;
        gpt_session_info_get(s[i], &a);
        CHECK(a.result == GPT_OK, "text %u: result %d", (unsigned)i, (int)a.result);
        if (i == 6) { CHECK(a.finish == GPT_FINISH_HOST, "finish %d", (int)a.finish); continue; }
        ref = session_in(m, NULL, i == 3 ? 12 : 120, 0);
        if (i == 7) {
            float want[64];
            CHECK(gpt_score(ref, ids, 60, want, &err) == GPT_OK && !memcmp(lp, want, 60 * sizeof *lp) && a.finish == GPT_FINISH_NONE, "scores beside writers");
        } else {
            gpt_eval(ref, ids, 4, &err);
            gpt_generate(ref, "", &g[i], i == 4 ? refuse : NULL, i == 4 ? &left[1] : NULL, &err);
            gpt_session_info_get(ref, &b);
            u = gpt_session_tokens(ref, &k);
            CHECK(a.finish == b.finish && a.n_generated == b.n_generated && n == k && !memcmp(t, u, n * sizeof *t), "text %u: finish %d, alone %d", (unsigned)i, (int)a.finish, (int)b.finish);
        }
        if (i == 1) CHECK(a.finish == GPT_FINISH_LENGTH && a.n_generated == 7, "finish %d", (int)a.finish);
        if (i == 3) CHECK(a.finish == GPT_FINISH_CONTEXT && n == 12, "finish %d", (int)a.finish);
        gpt_session_free(ref);
    }
    for (i = 0; i < 8; i++) gpt_session_free(s[i]);
    gpt_work_free(w);
    gpt_model_free(m);
}

static const char *const all_toys[] = { "bloom", "command_r", "command_r_plus", "falcon_11b", "falcon_40b", "falcon_7b", "gemma", "gemma2",
    "gemma2_27b", "gemma3", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "deepseek2_lite_cpp", "deepseek2_v3_cpp", "gpt2", "gpt2_4x", "gpt_oss", "gpt_oss_cpp", "gpt_oss_mxfp4", "gptj", "gptneox", "gptneox_serial", "granite",
    "granite_cpp", "llama", "llama_bf16", "llama_bias", "llama_f16", "llama_few_bits", "llama_grids", "llama_k_mix", "llama_linear", "llama_q4_0", "llama_q4_k", "llama_q8_0",
    "llama_q_mix", "llama_rope3", "llama_tied", "llama_v5", "llama_yarn", "mistral", "mixtral", "olmo", "olmo2", "olmo3_cpp", "phi2", "phi3",
    "phi3_long", "phi3_long_cpp", "phi3_short", "phi4_mini", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "smollm3", "stablelm", "stablelm_12b",
    "stablelm_cpp", "starcoder", "starcoder2",
    "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "falcon_h1_q_cpp",
    "apertus_cpp", "llama4_cpp", "arcee_cpp", "cohere2_cpp", "ernie4_5_cpp", "exaone4_cpp", "exaone4_near_cpp", "glm4_cpp", "granitemoe_cpp", "granitemoe_shared_cpp",
    "hunyuan_dense_cpp", "jais2_cpp", "mistral3_cpp", "nemotron_cpp", "olmoe_cpp", "qwen2vl_cpp", "qwen3vl_cpp", "qwen3vlmoe_cpp", "seed_oss_cpp", "smallthinker_cpp", "baichuan_13b_cpp" };
enum { N_TOY = sizeof all_toys / sizeof *all_toys };

/* Told beforehand, to the byte: what a work space takes, and a session beside it; together what a session takes that has one
 * of its own. Between making and freeing nothing is allocated. */
static void test_bytes(void) {
    size_t k, i;
    for (k = 0; k < N_TOY; k++) {
        gpt_model *m = load_toy(all_toys[k]);
        gpt_work_params wp;
        gpt_session_params sp;
        gpt_session_info info;
        gpt_error err;
        memset(&wp, 0, sizeof wp);
        memset(&sp, 0, sizeof sp);
        for (i = 0; i < 8; i++) {
            gpt_session *s = NULL, *u = NULL;
            gpt_work *w = NULL;
            gpt_token ids[20];
            gpt_generate_params g = writing(4, i);
            size_t work, alone, shared, n, calls;
            wp.n_batch = i < 3 ? 16 : 5; wp.n_threads = 1; wp.n_fill = (uint32_t)i;
            memset(&sp, 0, sizeof sp);
            sp.n_ctx = 64; sp.n_batch = wp.n_batch; sp.n_threads = 1; sp.kv = (gpt_kv)(i % N_KV); sp.no_logits = i & 1;
            work = gpt_work_bytes(m, &wp);
            alone = gpt_session_bytes(m, &sp);
            CHECK(gpt_work_new(&w, m, &wp, &err) == GPT_OK && counted.last == work, "%s: a work space of %u bytes, told %u", all_toys[k], (unsigned)counted.last, (unsigned)work);
            sp.n_batch = 0; sp.n_threads = 0; sp.work = w;
            shared = gpt_session_bytes(m, &sp);
            CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_OK && counted.last == shared, "%s: a session of %u bytes, told %u", all_toys[k], (unsigned)counted.last, (unsigned)shared);
            CHECK(alone == shared + work, "%s: alone %u bytes, beside a work space %u and %u", all_toys[k], (unsigned)alone, (unsigned)shared, (unsigned)work);
            CHECK(gpt_session_new(&u, m, &sp, &err) == GPT_OK, "%s", err.msg);
            gpt_session_info_get(s, &info);
            CHECK(info.bytes == shared && info.n_batch == wp.n_batch && info.n_ctx == 64, "%s: info: %u bytes", all_toys[k], (unsigned)info.bytes);
            calls = counted.n;
            for (n = 0; n < 20; n++) ids[n] = some_id(n, vocab_of(m));
            CHECK(!gpt_eval_begin(s, ids, 20, NULL, &err) && !gpt_eval_begin(u, ids + 3, 12, NULL, &err), "%s: %s", all_toys[k], err.msg);
            while (gpt_work_step(w, &err) == GPT_MORE) {}
            CHECK(!gpt_begin(s, "", &g, NULL, NULL, &err) && gpt_step(s, &err) >= 0, "%s: %s", all_toys[k], err.msg);
            gpt_session_hold(u, 1); gpt_session_reset(u); gpt_session_rewind(s, 19, &err); gpt_end(s);
            CHECK(counted.n == calls, "%s: %u allocations between making and freeing", all_toys[k], (unsigned)(counted.n - calls));
            gpt_session_free(s); gpt_session_free(u); gpt_work_free(w);
        }
        gpt_model_free(m);
        CHECK(counted.live == 0, "%s: %u blocks left", all_toys[k], (unsigned)counted.live);
    }
}

/* The order of freeing, other models, parameters that belong to the work space. */
static void test_misuse(void) {
    gpt_model *m = text_model(0), *other = load_toy("llama");
    gpt_work_params wp;
    gpt_session_params sp;
    gpt_session *s = NULL, *u = NULL;
    gpt_work *w = NULL;
    gpt_error err;
    gpt_token id = 1;
    size_t live;
    memset(&wp, 0, sizeof wp);
    memset(&sp, 0, sizeof sp);
    wp.n_threads = 1; wp.n_batch = 8;
    CHECK(gpt_work_bytes(NULL, &wp) == 0 && gpt_work_new(NULL, m, &wp, &err) == GPT_E_ARG && gpt_work_new(&w, NULL, &wp, &err) == GPT_E_ARG && !w, "NULL");
    CHECK(gpt_work_step(NULL, &err) == GPT_E_ARG && err.code == GPT_E_ARG && err.msg[0], "NULL");
    gpt_work_free(NULL);
    gpt_session_hold(NULL, 1);
    CHECK(gpt_eval_begin(NULL, &id, 1, NULL, &err) == GPT_E_ARG, "NULL");
    CHECK(gpt_work_new(&w, m, &wp, &err) == GPT_OK, "%s", err.msg);
    CHECK(gpt_work_step(w, &err) == GPT_OK && !err.msg[0], "a work space without sessions: %s", err.msg);
    sp.n_ctx = 32; sp.work = w;
    CHECK(gpt_session_bytes(other, &sp) == 0 && gpt_session_new(&s, other, &sp, &err) == GPT_E_ARG && !s && strstr(err.msg, "model"), "a work space of another model: %s", err.msg);
    sp.n_batch = 8;
    CHECK(gpt_session_bytes(m, &sp) == 0 && gpt_session_new(&s, m, &sp, &err) == GPT_E_ARG && !s, "n_batch beside a work space: %s", err.msg);
    sp.n_batch = 0; sp.n_threads = 1;
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_E_ARG && !s, "n_threads beside a work space: %s", err.msg);
    sp.n_threads = 0; sp.hooks.poll = on_pause;
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_E_ARG && !s, "hooks beside a work space: %s", err.msg);
    memset(&sp.hooks, 0, sizeof sp.hooks);
    sp.hooks.parallel.run = backwards;
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_E_ARG && !s, "threads beside a work space: %s", err.msg);
    memset(&sp.hooks, 0, sizeof sp.hooks);
    CHECK(!gpt_session_new(&s, m, &sp, &err) && !gpt_session_new(&u, m, &sp, &err), "%s", err.msg);
    live = counted.live;
    gpt_work_free(w);
    CHECK(counted.live == live && !gpt_eval(s, &id, 1, &err), "gpt_work_free with sessions left: %s", err.msg);
    gpt_session_free(s);
    gpt_work_free(w);
    CHECK(counted.live == live - 1 && !gpt_eval(u, &id, 1, &err), "gpt_work_free with a session left: %s", err.msg);
    CHECK(gpt_step(u, &err) == GPT_E_STATE, "a step of nothing");
    CHECK(!gpt_eval_begin(u, &id, 1, NULL, &err) && gpt_eval_begin(u, &id, 1, NULL, &err) == GPT_E_STATE && gpt_eval(u, &id, 1, &err) == GPT_E_STATE, "twice: %s", err.msg);
    gpt_end(u);
    CHECK(result_of(u) == GPT_E_CANCELLED && n_of(u) == 1, "gpt_end of an evaluation: result %d", (int)result_of(u));
    gpt_session_free(u);
    live = counted.live;
    gpt_work_free(w);
    CHECK(counted.live == live - 1, "gpt_work_free");
    gpt_model_free(other);
    gpt_model_free(m);
}

/* What may not be a prefix or the source of a copy, and a chain of prefixes: eight, not nine. */
static void test_foreign(void) {
    gpt_model *m = text_model(0), *other = load_toy("llama"), *factors = load_toy("phi3_long");
    gpt_session_params sp;
    gpt_session *s = session_in(m, NULL, 32, 0), *t = session_in(other, NULL, 32, 0), *made = NULL, *chain[9];
    gpt_token ids[12];
    gpt_error err;
    size_t i;
    memset(&sp, 0, sizeof sp);
    sp.n_threads = 1; sp.n_ctx = 32; sp.prefix = s;
    for (i = 0; i < 12; i++) ids[i] = some_id(i, 90);
    CHECK(!gpt_eval(s, ids, 9, &err) && !gpt_eval(t, ids, 9, &err), "%s", err.msg);
    CHECK(gpt_session_new(&made, m, &sp, &err) == GPT_E_STATE && !made, "a prefix that is not frozen: %s", err.msg);
    CHECK(!gpt_session_freeze(s, &err) && gpt_session_freeze(s, &err) == GPT_E_STATE, "frozen twice: %s", err.msg);
    sp.n_ctx = 8;
    CHECK(gpt_session_new(&made, m, &sp, &err) == GPT_E_CONTEXT && !made && gpt_session_bytes(m, &sp) == 0, "a context of fewer tokens than the prefix: %s", err.msg);
    sp.n_ctx = 9;
    CHECK(!gpt_session_new(&made, m, &sp, &err) && gpt_eval(made, ids, 1, &err) == GPT_E_CONTEXT && n_of(made) == 9 && gpt_logits(made), "a context of as many: %s", err.msg);
    gpt_session_free(made);
    sp.n_ctx = 32; sp.kv = GPT_KV_F32;
    CHECK(gpt_session_new(&made, m, &sp, &err) == GPT_E_FOREIGN && !made, "a prefix of another kv: %s", err.msg);
    sp.prefix = NULL;
    CHECK(!gpt_session_new(&made, m, &sp, &err) && gpt_session_copy(made, s, 3, &err) == GPT_E_FOREIGN && n_of(made) == 0, "a copy of another kv: %s", err.msg);
    gpt_session_free(made);
    sp.kv = GPT_KV_F16; sp.prefix = s;
    CHECK(gpt_session_new(&made, other, &sp, &err) == GPT_E_FOREIGN && !made, "a prefix of another model: %s", err.msg);
    CHECK(gpt_session_copy(t, s, 3, &err) == GPT_E_FOREIGN && n_of(t) == 9 && gpt_logits(t), "a copy of another model: %s", err.msg);
    CHECK(gpt_session_copy(t, NULL, 3, &err) == GPT_E_ARG && gpt_session_copy(s, t, 3, &err) == GPT_E_STATE, "%s", err.msg);
    sp.prefix = NULL; sp.n_ctx = 8;
    CHECK(!gpt_session_new(&made, other, &sp, &err) && !gpt_eval(made, ids + 3, 4, &err) && gpt_session_copy(made, t, 9, &err) == GPT_E_CONTEXT && n_of(made) == 4 && gpt_logits(made), "a copy without room: %s", err.msg);
    CHECK(!gpt_session_copy(made, t, 8, &err) && n_of(made) == 8, "a copy of as many as fit: %s", err.msg);
    gpt_session_free(made);
    gpt_session_free(t);
    sp.n_ctx = 120;                             /* one with the factors for long texts, one without */
    t = session_in(factors, NULL, 33, 0);
    CHECK(!gpt_session_new(&made, factors, &sp, &err) && !gpt_eval(made, ids, 4, &err), "%s", err.msg);
    if (gpti_is_long(made) != gpti_is_long(t)) CHECK(gpt_session_copy(t, made, 4, &err) == GPT_E_FOREIGN && n_of(t) == 0, "a copy of other factors: %s", err.msg);
    gpt_session_free(made);
    gpt_session_free(t);
    sp.n_ctx = 60;
    for (i = 0; i < 9; i++) {
        chain[i] = NULL;
        sp.prefix = i ? chain[i - 1] : s;
        if (i == 8) CHECK(gpt_session_new(&chain[i], m, &sp, &err) == GPT_E_ARG && !chain[i], "a chain of nine: %s", err.msg);
        else CHECK(!gpt_session_new(&chain[i], m, &sp, &err) && !gpt_eval(chain[i], ids + i, i < 7 ? 5 : 0, &err) && (i == 7 || !gpt_session_freeze(chain[i], &err)), "a chain of %u: %s", (unsigned)i + 1, err.msg);
        if (i == 7) CHECK(!gpt_session_freeze(chain[i], &err), "%s", err.msg);
    }
    made = session_in(m, NULL, 60, 0);
    CHECK(!gpt_eval(made, gpt_session_tokens(chain[7], NULL), n_of(chain[7]), &err) && gpt_logits(chain[7]) && !memcmp(gpt_logits(made), gpt_logits(chain[7]), vocab_of(m) * sizeof(float)),
          "a chain of eight: other logits");
    gpt_session_free(made);
    for (i = 8; i-- > 0;) gpt_session_free(chain[i]);
    gpt_session_free(s);
    gpt_model_free(m); gpt_model_free(other); gpt_model_free(factors);
    CHECK(counted.live == 0, "%u blocks left", (unsigned)counted.live);
}

/* The same prompt, alone, after a beginning that is there already, eight times in one batch, beside seven others: one row of
 * bits. */
static void same_prompt(const char *name, uint32_t few) {
    gpt_model *m = load_toy(name);
    const size_t vocab = vocab_of(m), n = 33;
    gpt_token ids[64], mixed[64];
    gpt_session *alone = session_in(m, NULL, 96, 0), *s[8];
    const float *want;
    gpt_error err;
    size_t i, k;
    uint32_t b;
    for (i = 0; i < 64; i++) ids[i] = some_id(i, vocab);
    CHECK(gpt_eval(alone, ids, n, &err) == GPT_OK, "%s", err.msg);
    want = gpt_logits(alone);
    for (b = few; b <= 300; b += 300 - few) for (k = 0; k < 3; k++) {
        gpt_work *w = work_with(m, b, b % 7, NULL);
        for (i = 0; i < 8; i++) {
            const int other = k == 2 && i != 5;
            size_t j;
            s[i] = session_in(m, w, 96, 0);
            for (j = 0; j < 64; j++) mixed[j] = other ? some_id(j * (i + 2) + i, vocab) : ids[j];
            if (k == 1) CHECK(!gpt_eval(s[i], mixed, n - 1 - i % 2, &err) && !gpt_eval_begin(s[i], mixed + n - 1 - i % 2, 1 + i % 2, NULL, &err), "%s", err.msg);
            else CHECK(!gpt_eval_begin(s[i], mixed, other ? n - i : n, NULL, &err), "%s", err.msg);
        }
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (i = 0; i < 8; i++) {
            if (k < 2 || i == 5) CHECK(gpt_logits(s[i]) && !memcmp(gpt_logits(s[i]), want, vocab * sizeof *want), "%s, batch %u, way %u, row %u: other bits", name, b, (unsigned)k, (unsigned)i);
            gpt_session_free(s[i]);
        }
        gpt_work_free(w);
    }
    gpt_session_free(alone);
    gpt_model_free(m);
}
static void test_same_prompt(void) {
    size_t i;
    for (i = 0; i < N_TOY; i++) same_prompt(all_toys[i], 1 + (uint32_t)i % 9);
}

/* "a b", "a b" and "a b", "a b c", "a" scored in one pass: each as alone; the last row is that of its text, not of the batch. */
static void test_last_rows(void) {
    gpt_model *m = text_model(0);
    static const size_t lens[2][3] = { { 2, 2, 0 }, { 2, 3, 1 } };
    gpt_session *s[3], *ref = session_in(m, NULL, 16, 0);
    const size_t vocab = vocab_of(m);
    gpt_token ids[3];
    float lp[3][3], want[3];
    gpt_error err;
    size_t k, i, scored;
    for (i = 0; i < 3; i++) ids[i] = some_id(i + 4, vocab);
    for (k = 0; k < 2; k++) for (scored = 0; scored < 2; scored++) {
        gpt_work *w = work_with(m, 64, 0, NULL);
        for (i = 0; i < 3; i++) {
            gpt_eval_params ep = { 0 };
            ep.logprob = scored ? lp[i] : NULL;
            s[i] = session_in(m, w, 16, 0);
            CHECK(gpt_eval_begin(s[i], ids, lens[k][i], &ep, &err) == GPT_OK, "%s", err.msg);
        }
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (i = 0; i < 3; i++) {
            gpt_session_reset(ref);
            gpt_score(ref, ids, lens[k][i], want, &err);
            if (scored) CHECK(!memcmp(want, lp[i], lens[k][i] * sizeof *want), "set %u, text %u: other scores", (unsigned)k, (unsigned)i);
            if (lens[k][i]) CHECK(gpt_logits(s[i]) && !memcmp(gpt_logits(s[i]), gpt_logits(ref), vocab * sizeof(float)), "set %u, text %u: other logits", (unsigned)k, (unsigned)i);
            gpt_session_free(s[i]);
        }
        gpt_work_free(w);
    }
    gpt_session_free(ref);
    gpt_model_free(m);
}

/* A window of 64; four texts of 200 tokens, one token each in turn, then all in one batch. */
static void test_windows_in_turn(void) {
    gpt_model *m = text_model(64);
    const size_t vocab = vocab_of(m);
    gpt_session *s[4], *ref = session_in(m, NULL, 300, 0);
    gpt_token ids[4][200];
    gpt_error err;
    size_t i, k, way;
    for (i = 0; i < 4; i++) for (k = 0; k < 200; k++) ids[i][k] = some_id(k * (i + 1) + i, vocab);
    for (way = 0; way < 3; way++) {
        gpt_work *w = work_with(m, 48, 0, NULL);
        for (i = 0; i < 4; i++) s[i] = session_in(m, w, 300, 0);
        for (k = 0; way == 0 && k < 200; k++) for (i = 0; i < 4; i++) gpt_eval(s[i], &ids[i][k], 1, &err);
        for (k = 0; way == 1 && k < 200; k++) {
            for (i = 0; i < 4; i++) gpt_eval_begin(s[i], &ids[i][k], 1, NULL, &err);
            while (gpt_work_step(w, &err) == GPT_MORE) {}
        }
        for (i = 0; way == 2 && i < 4; i++) gpt_eval_begin(s[i], ids[i], 200, NULL, &err);
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (i = 0; i < 4; i++) {
            gpt_session_reset(ref);
            gpt_eval(ref, ids[i], 200, &err);
            CHECK(n_of(s[i]) == 200 && gpt_logits(s[i]) && !memcmp(gpt_logits(s[i]), gpt_logits(ref), vocab * sizeof(float)), "way %u, text %u: other bits", (unsigned)way, (unsigned)i);
            gpt_session_free(s[i]);
        }
        gpt_work_free(w);
    }
    gpt_session_free(ref);
    gpt_model_free(m);
}

/* ---- Rewinding, copying, freezing, saving -------------------------------------------------------------------------- */

enum { BY_REWIND, BY_COPY, BY_PREFIX, BY_CHAIN, BY_SAVE, BY_SAVED_TOKENS, N_WAY };
static const char *const way_name[] = { "rewound", "copied", "with a prefix", "with a prefix of a prefix", "saved and restored", "saved as tokens and restored" };

/* Another session that comes to hold the first n of ids, of which the first computed ones are, by this way. made[]: what must
 * be freed after it. Where rewinding: the session has gone on by `beyond` other tokens and comes back. */
static gpt_session *by_way(const gpt_model *m, int way, gpt_kv kv, const gpt_token *ids, size_t n, size_t beyond, uint32_t n_ctx, gpt_session *made[2]) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_token other[40];
    size_t i;
    memset(&p, 0, sizeof p);
    p.n_ctx = n_ctx; p.n_batch = 16; p.n_threads = 1; p.kv = kv;
    made[0] = made[1] = NULL;
    for (i = 0; i < 40; i++) other[i] = some_id(5 * i + 1, vocab_of(m));
    if (way == BY_REWIND) {
        CHECK(!gpt_session_new(&s, m, &p, &err) && !gpt_eval(s, ids, n, &err) && !gpt_eval(s, other, beyond, &err) && !gpt_session_rewind(s, n, &err), "%s: %s", way_name[way], err.msg);
        return s;
    }
    CHECK(!gpt_session_new(&made[0], m, &p, &err) && !gpt_eval(made[0], ids, way == BY_CHAIN ? n / 2 : n, &err), "%s: %s", way_name[way], err.msg);
    if (way == BY_PREFIX || way == BY_CHAIN) { CHECK(!gpt_session_freeze(made[0], &err), "%s: %s", way_name[way], err.msg); p.prefix = made[0]; }
    if (way == BY_CHAIN) {
        CHECK(!gpt_session_new(&made[1], m, &p, &err) && !gpt_eval(made[1], ids + n / 2, n - n / 2, &err) && !gpt_session_freeze(made[1], &err), "%s: %s", way_name[way], err.msg);
        p.prefix = made[1];
    }
    CHECK(!gpt_session_new(&s, m, &p, &err), "%s: %s", way_name[way], err.msg);
    if (way == BY_COPY) CHECK(!gpt_eval(s, other, beyond, &err) && !gpt_session_copy(s, made[0], SIZE_MAX, &err), "%s: %s", way_name[way], err.msg);
    if (way == BY_SAVE || way == BY_SAVED_TOKENS) {
        const int what = way == BY_SAVE ? GPT_SAVE_CACHE : GPT_SAVE_TOKENS;
        const size_t size = gpt_session_save_bytes(made[0], what);
        unsigned char *bytes = (unsigned char *)malloc(size + 8);
        gpt_writer w = { NULL, NULL, 0 };
        gpt_reader r = { NULL, NULL, 0 };
        if (!bytes) exit(1);
        memset(bytes, 0xEE, size + 8);
        w.user = bytes; w.size = size; r.user = bytes; r.size = size;
        CHECK(size && !gpt_session_save(made[0], what, &w, &err), "%s: %s", way_name[way], err.msg);
        for (i = 0; i < 8; i++) CHECK(bytes[size + i] == 0xEE, "%s: written beyond %u bytes", way_name[way], (unsigned)size);
        CHECK(!gpt_eval(s, other, beyond, &err) && !gpt_session_restore(s, &r, &err), "%s: %s", way_name[way], err.msg);
        free(bytes);
    }
    return s;
}

/* All layer kinds, each way, to lengths around the window, then 16 tokens, one at a time and as a prompt: bits as alone. */
static void every_way(const char *name, gpt_kv kv, size_t first, size_t last, size_t step, int n_way) {
    gpt_model *m = load_toy(name);
    const size_t vocab = vocab_of(m);
    gpt_token ids[128];
    gpt_session_params p;
    gpt_session *ref = NULL, *s, *made[2];
    float *want = (float *)malloc(128 * vocab * sizeof *want);
    gpt_error err;
    size_t n, i;
    int way;
    if (!want) exit(1);
    memset(&p, 0, sizeof p);
    p.n_ctx = 120; p.n_threads = 1; p.kv = kv;
    for (i = 0; i < 128; i++) ids[i] = some_id(i, vocab);
    CHECK(gpt_session_new(&ref, m, &p, &err) == GPT_OK, "%s", err.msg);
    for (i = 0; i < 100; i++) { gpt_eval(ref, ids + i, 1, &err); memcpy(want + (i + 1) * vocab, gpt_logits(ref), vocab * sizeof *want); }
    for (n = first; n <= last; n += step) for (way = 0; way < n_way; way++) {
        const size_t k = (n / step + (size_t)way) % 3;
        const size_t beyond = k == 0 ? 0 : k == 1 ? 3 : 40;
        gpt_session_info info;
        s = by_way(m, way, kv, ids, n, beyond, 120, made);
        CHECK(n_of(s) == n && !memcmp(gpt_session_tokens(s, NULL), ids, n * sizeof *ids), "%s, kv %d, %s, %u tokens: has %u", name, (int)kv, way_name[way], (unsigned)n, (unsigned)n_of(s));
        if (gpt_logits(s)) CHECK(!memcmp(gpt_logits(s), want + n * vocab, vocab * sizeof *want), "%s, kv %d, %s, %u tokens: other logits", name, (int)kv, way_name[way], (unsigned)n);
        CHECK(!gpt_eval(s, NULL, 0, &err) && gpt_logits(s) && !memcmp(gpt_logits(s), want + n * vocab, vocab * sizeof *want), "%s, kv %d, %s, %u tokens: other logits of the last", name, (int)kv,
              way_name[way], (unsigned)n);
        gpt_session_info_get(s, &info);
        CHECK(info.n_token == n && info.n_computed == n, "%s: %u tokens, %u computed", way_name[way], (unsigned)info.n_token, (unsigned)info.n_computed);
        for (i = n; k != 1 && i < n + 16; i++) {
            CHECK(!gpt_eval(s, ids + i, 1, &err), "%s", err.msg);
            if (memcmp(gpt_logits(s), want + (i + 1) * vocab, vocab * sizeof *want)) { CHECK(0, "%s, kv %d, %s, %u tokens: other bits after %u more", name, (int)kv, way_name[way], (unsigned)n, (unsigned)(i + 1 - n)); break; }
        }
        if (k == 1) CHECK(!gpt_eval(s, ids + n, 16, &err) && !memcmp(gpt_logits(s), want + (n + 16) * vocab, vocab * sizeof *want), "%s, kv %d, %s, %u tokens: other bits after 16 more", name, (int)kv,
                          way_name[way], (unsigned)n);
        gpt_session_free(s); gpt_session_free(made[1]); gpt_session_free(made[0]);
    }
    gpt_session_free(ref);
    gpt_model_free(m);
    free(want);
}

static void test_every_way(void) {
    const int n_way = N_WAY;
    static const char *const windows[] = { "mistral", "gemma2", "gemma3", "gpt_oss", "phi3", "starcoder2", "olmo3_cpp", "gemma4_cpp", "gemma3n_cpp" };   /* of 8 */
    size_t i;
    for (i = 0; i < N_TOY; i++) every_way(all_toys[i], (gpt_kv)(i % N_KV), 1 + i % 5, 70, 34 - i % 3, n_way);
    for (i = 0; i < sizeof windows / sizeof *windows; i++) every_way(windows[i], (gpt_kv)(i % N_KV), 7, 33, 1 + i % 4, n_way);
}

/* Five tokens, five more in one call, back to exactly there, five others; then back to 3, and to 0. */
static void test_rewind_calls(void) {
    size_t k, i, to;
    for (k = 0; k < N_TOY; k++) {
        gpt_model *m = load_toy(all_toys[k]);
        const size_t vocab = vocab_of(m);
        gpt_session *s = session_in(m, NULL, 64, 0), *ref = session_in(m, NULL, 64, 0);
        gpt_token ids[20];
        gpt_error err;
        for (i = 0; i < 20; i++) ids[i] = some_id(i, vocab);
        gpt_eval(s, ids, 5, &err);
        gpt_eval(s, ids + 5, 5, &err);
        for (to = 5; to < 6; to = to == 5 ? 3 : to == 3 ? 0 : 9) {
            CHECK(gpt_session_rewind(s, to, &err) == GPT_OK && n_of(s) == to, "%s: to %u: %s", all_toys[k], (unsigned)to, err.msg);
            CHECK(!gpt_eval(s, ids + 10 + to, 5, &err) && n_of(s) == to + 5, "%s", err.msg);
            gpt_session_reset(ref);
            gpt_eval(ref, ids, to, &err);
            gpt_eval(ref, ids + 10 + to, 5, &err);
            CHECK(!memcmp(gpt_logits(s), gpt_logits(ref), vocab * sizeof(float)), "%s: after a rewind to %u: other bits", all_toys[k], (unsigned)to);
        }
        gpt_session_free(s);
        gpt_session_free(ref);
        gpt_model_free(m);
    }
    {       /* one that fails leaves a choice under way as it was */
        static const char *const choice[] = { "at", "ten" };
        gpt_model *m = text_model(64);
        gpt_session *s = session_in(m, NULL, 64, 0);
        gpt_session_info info;
        gpt_error err;
        float score[2];
        CHECK(!gpt_choose_begin(s, "a", choice, 2, NULL, score, NULL, &err), "%s", err.msg);
        CHECK(gpt_session_rewind(s, 60, &err) == GPT_E_ARG, "a rewind to token 60");
        gpt_session_info_get(s, &info);
        CHECK(info.result == GPT_MORE && gpt_step(s, &err) >= 0, "the choice: %d, %s", (int)info.result, err.msg);
        gpt_session_free(s);
        gpt_model_free(m);
    }
}

/* 300 tokens copied (or saved and restored), and one more: one is computed. Back by ten and one more: within what the window
 * still holds, no more than that. */
static void test_no_work_twice(void) {
    gpt_model *m = text_model(64);
    gpt_token ids[400];
    gpt_session *s, *made[2];
    gpt_error err;
    gpt_session_info info;
    passes p;
    gpt_hooks h;
    size_t i;
    int way;
    for (i = 0; i < 400; i++) ids[i] = some_id(i, vocab_of(m));
    for (way = BY_COPY; way <= BY_SAVE; way++) {
        s = by_way(m, way, GPT_KV_F16, ids, 300, 0, 400, made);
        memset(&p, 0, sizeof p);
        memset(&h, 0, sizeof h);
        h.trace = on_trace; h.trace_user = &p;
        CHECK(gpt_session_hooks(s, &h, &err) == GPT_OK, "%s", err.msg);
        CHECK(!gpt_eval(s, ids + 300, 1, &err) && p.n_pass == 1 && p.most_rows == 1, "%s: one token more took %u passes of %u rows", way_name[way], (unsigned)p.n_pass, (unsigned)p.most_rows);
        p.n_pass = p.most_rows = 0;
        CHECK(!gpt_session_rewind(s, 291, &err), "%s", err.msg);
        gpt_session_info_get(s, &info);
        CHECK(info.n_computed + 1 >= 291, "%s: back by ten: %u of 291 are still computed", way_name[way], (unsigned)info.n_computed);
        CHECK(!gpt_eval(s, ids + 291, 1, &err) && p.n_pass == 1 && p.most_rows <= 2, "%s: back by ten and one more took %u passes of %u rows", way_name[way], (unsigned)p.n_pass, (unsigned)p.most_rows);
        gpt_session_free(s); gpt_session_free(made[1]); gpt_session_free(made[0]);
    }
    gpt_model_free(m);
}

/* A text of three times the context, its first tokens kept: after each cut the tokens are the first and the newest half of the
 * others, and what follows is what a fresh session makes of them. */
static void roll(const gpt_model *m, gpt_kv kv, const char *name, size_t n_keep, int in_a_batch) {
    const uint32_t n_ctx = 40;
    gpt_generate_params g = writing(100, 3);
    gpt_session_params p;
    gpt_session *s = NULL, *ref = NULL;
    gpt_session_info info;
    gpt_work *w = in_a_batch ? work_with(m, 7, 0, NULL) : NULL;
    gpt_token list[40];
    gpt_error err;
    size_t n = 5, i, dropped = 0;
    memset(&p, 0, sizeof p);
    p.n_ctx = n_ctx; p.kv = kv; p.n_threads = 1;
    CHECK(gpt_session_new(&ref, m, &p, &err) == GPT_OK, "%s", err.msg);
    if (w) { p.n_threads = 0; p.work = w; }
    CHECK(gpt_session_new(&s, m, &p, &err) == GPT_OK, "%s", err.msg);
    g.roll = 1; g.n_keep = n_keep;
    for (i = 0; i < n; i++) list[i] = some_id(i, vocab_of(m));
    CHECK(!gpt_eval(s, list, n, &err) && !gpt_begin(s, "", &g, NULL, NULL, &err), "%s: %s", name, err.msg);
    for (i = 0; i < 100; i++) {
        const gpt_token *have;
        gpt_token id;
        size_t k;
        gpt_session_reset(ref);
        gpt_eval(ref, list, n, &err);
        ref->n_dropped = dropped;               /* draws count what has gone: they do not repeat themselves */
        id = gpt_sample(ref, &g.sample);
        if (n == n_ctx) {
            const size_t keep = n_keep < n ? n_keep : n, out = (n - keep + 1) / 2;
            memmove(list + keep, list + keep + out, (n - keep - out) * sizeof *list);
            n -= out; dropped += out;
        }
        list[n++] = id;
        CHECK(gpt_step(s, &err) == (i < 99 ? GPT_MORE : GPT_OK), "%s, kv %d, token %u: %s", name, (int)kv, (unsigned)i, err.msg);
        have = gpt_session_tokens(s, &k);
        gpt_session_info_get(s, &info);
        if (k == n && !memcmp(have, list, n * sizeof *have) && info.n_dropped == dropped) continue;
        CHECK(0, "%s, kv %d, keeping %u: after %u tokens it has %u, expected %u, or others; %u dropped, expected %u", name, (int)kv, (unsigned)n_keep, (unsigned)i + 1,
              (unsigned)k, (unsigned)n, (unsigned)info.n_dropped, (unsigned)dropped);
        break;
    }
    CHECK(info.finish == GPT_FINISH_LENGTH && info.n_generated == 100, "%s: finish %d after %u tokens", name, (int)info.finish, (unsigned)info.n_generated);
    gpt_session_free(s);
    gpt_session_free(ref);
    gpt_work_free(w);
}

static void test_roll(void) {
    static const char *const names[] = { "llama_yarn", "mistral", "gemma3", "phi3_long", "gpt_oss", "bloom", "lfm2_cpp", "qwen35_cpp", "llama4_cpp", "gpt2", "gemma4_cpp", "deepseek2_v3_cpp", "mamba2_cpp" };
    static const gpt_token four[] = { 1, 2, 3, 4 };
    gpt_generate_params g = writing(10, 1);
    gpt_session_info info;
    gpt_session *s;
    gpt_error err;
    size_t i;
    int kv;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        gpt_model *m = load_toy(names[i]);
        for (kv = 0; kv < N_KV; kv++) roll(m, (gpt_kv)kv, names[i], kv == 1 ? 0 : 3 * i, kv & 1);
        if (i == 0) {                           /* nothing may go: the context is full */
            s = session_in(m, NULL, 8, 0);
            g.roll = 1; g.n_keep = 100;
            gpt_eval(s, four, 4, &err);
            CHECK(!gpt_generate(s, "", &g, NULL, NULL, &err), "%s", err.msg);
            gpt_session_info_get(s, &info);
            CHECK(info.finish == GPT_FINISH_CONTEXT && info.n_token == 8 && info.n_dropped == 0, "all is kept: finish %d, %u tokens", (int)info.finish, (unsigned)info.n_token);
            gpt_session_free(s);
        }
        gpt_model_free(m);
    }
}

/* Layers of state: how much of a text is computed again, by how many states are kept; the same bits whatever that is. */
static size_t computed_after(gpt_session *s, size_t n) {
    gpt_session_info info;
    gpt_error err;
    CHECK(!gpt_session_rewind(s, n, &err), "to %u: %s", (unsigned)n, err.msg);
    gpt_session_info_get(s, &info);
    return info.n_computed;
}

static void test_states(void) {
    static const uint32_t kept[] = { 0, 1, 2, 3, 20 };
    gpt_model *m = load_toy("qwen35_cpp");
    const size_t vocab = vocab_of(m);
    gpt_generate_params g = writing(25, 1);
    gpt_session_params p;
    gpt_session *s, *t, *ref = session_in(m, NULL, 128, 0);
    gpt_token ids[128];
    gpt_error err;
    size_t i, k, bytes = 0, n;
    memset(&p, 0, sizeof p);
    for (i = 0; i < 128; i++) ids[i] = some_id(i, vocab);
    CHECK(!gpt_eval(ref, ids, 71, &err), "%s", err.msg);
    for (k = 0; k < sizeof kept / sizeof *kept; k++) {
        p.n_ctx = 128; p.n_batch = 8; p.n_snapshot = kept[k];
        n = gpt_session_bytes(m, &p);
        CHECK(k == 0 || (k == 2 ? n == bytes : k == 1 ? n < bytes : n > bytes), "%u older states: %u bytes", (unsigned)kept[k], (unsigned)n);
        if (k != 1) bytes = n;
        CHECK(!gpt_session_new(&s, m, &p, &err) && !gpt_eval(s, ids, 70, &err), "%s", err.msg);
        for (i = 0; i < 3; i++) {               /* a turn, whose answer is written otherwise in the next prompt */
            CHECK(!gpt_generate(s, "", &g, NULL, NULL, &err) && n_of(s) == 95, "%s", err.msg);
            n = computed_after(s, 69 - i);
            CHECK(n >= 54 - i, "%u older states: of %u tokens up to the last question %u are still computed", (unsigned)kept[k], (unsigned)(69 - i), (unsigned)n);
            CHECK(!gpt_eval(s, ids + 69 - i, i + 2, &err) && !memcmp(gpt_logits(s), gpt_logits(ref), vocab * sizeof(float)), "%u older states: other bits", (unsigned)kept[k]);
            CHECK(computed_after(s, 71) == 71 && computed_after(s, 70) <= 70, "back by one");
        }
        CHECK(!gpt_eval(s, ids + 70, 58, &err) && gpt_session_new(&t, m, &p, &err) == GPT_OK && !gpt_session_copy(t, s, SIZE_MAX, &err), "%s", err.msg);
        for (i = 0; i < 128; i += 9) {          /* the copy goes back as far as the text itself */
            const size_t to = 127 - i, now = computed_after(s, to), copied = computed_after(t, to);
            CHECK(now <= to && copied <= to && (kept[k] < 20 || to < 20 || to - now <= 17) && (i || now == copied), "%u older states: to %u: %u and %u are still computed",
                  (unsigned)kept[k], (unsigned)to, (unsigned)now, (unsigned)copied);
            gpt_session_reset(s); gpt_session_reset(t);
            CHECK(!gpt_eval(s, ids, 128, &err) && !gpt_session_copy(t, s, SIZE_MAX, &err), "%s", err.msg);
            CHECK(!memcmp(gpt_logits(s), gpt_logits(t), vocab * sizeof(float)), "a copy has other logits");
        }
        gpt_session_free(s); gpt_session_free(t);
    }
    gpt_session_free(ref);
    p.n_batch = 8; p.n_snapshot = 20;           /* states of another text must not be taken for the prefix's */
    CHECK(!gpt_session_new(&ref, m, &p, &err) && !gpt_eval(ref, ids, 41, &err) && !gpt_session_new(&s, m, &p, &err), "%s", err.msg);
    CHECK(!gpt_eval(s, ids, 64, &err) && !gpt_session_freeze(s, &err), "%s", err.msg);
    p.prefix = s;
    CHECK(!gpt_session_new(&t, m, &p, &err) && !gpt_session_rewind(t, 16, &err) && !gpt_eval(t, ids + 70, 24, &err), "%s", err.msg);
    CHECK(computed_after(t, 40) == 40, "within the prefix's length, of its own");
    gpt_session_reset(t);
    CHECK(n_of(t) == 64 && computed_after(t, 40) <= 40 && !gpt_eval(t, ids + 40, 1, &err), "%s", err.msg);
    CHECK(!memcmp(gpt_logits(t), gpt_logits(ref), vocab * sizeof(float)), "after a reset: states of another text");
    gpt_session_free(t); gpt_session_free(s); gpt_session_free(ref);
    gpt_model_free(m);
}

/* Eight sessions with one prefix and the same suffix, beside others: the same bits in all; and what a prefix spares. */
static void test_branches(void) {
    size_t k, i;
    for (k = 0; k < N_TOY; k += 3) {
        gpt_model *m = load_toy(all_toys[k]);
        const size_t vocab = vocab_of(m);
        gpt_work *w = work_with(m, 40, 0, NULL);
        gpt_session *base = session_in(m, w, 80, 0), *alone = session_in(m, NULL, 80, 0), *s[8];
        gpt_session_params p;
        gpt_token ids[64];
        gpt_error err;
        size_t whole;
        memset(&p, 0, sizeof p);
        for (i = 0; i < 64; i++) ids[i] = some_id(i, vocab);
        CHECK(!gpt_eval_begin(base, ids, 40, NULL, &err) && gpt_session_freeze(base, &err) == GPT_E_STATE, "frozen while something is under way");
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        CHECK(!gpt_session_freeze(base, &err) && !gpt_eval(alone, ids, 47, &err), "%s: %s", all_toys[k], err.msg);
        p.n_ctx = 80; p.work = w;
        whole = gpt_session_bytes(m, &p);
        p.prefix = base;
        /* Mamba-2 alone has no cache that could be shared */
        CHECK(gpt_session_bytes(m, &p) < whole + !strcmp(all_toys[k], "mamba2_cpp"), "%s: a session of %u bytes, with a prefix %u", all_toys[k], (unsigned)whole, (unsigned)gpt_session_bytes(m, &p));
        for (i = 0; i < 8; i++) {
            gpt_session_info info;
            CHECK(!gpt_session_new(&s[i], m, &p, &err) && counted.last == gpt_session_bytes(m, &p), "%s: %s", all_toys[k], err.msg);
            gpt_session_info_get(s[i], &info);
            CHECK(info.n_prefix == 40 && info.n_token == 40 && info.n_computed == 40 && info.bytes == counted.last, "%s: %u tokens of a prefix", all_toys[k], (unsigned)info.n_prefix);
            gpt_eval_begin(s[i], i == 3 ? ids : ids + 40, 7, NULL, &err);
        }
        while (gpt_work_step(w, &err) == GPT_MORE) {}
        for (i = 0; i < 8; i++) {
            if (i != 3) CHECK(gpt_logits(s[i]) && !memcmp(gpt_logits(s[i]), gpt_logits(alone), vocab * sizeof(float)), "%s, branch %u: other bits", all_toys[k], (unsigned)i);
            gpt_session_free(s[i]);
        }
        gpt_work_free(w);                       /* a frozen session has left it */
        CHECK(gpt_logits(base) && n_of(base) == 40, "a frozen session after its work space");
        gpt_session_free(base);
        gpt_session_free(alone);
        gpt_model_free(m);
        CHECK(counted.live == 0, "%s: %u blocks left", all_toys[k], (unsigned)counted.live);
    }
}

static gpt_poll on_cancel(void *user, size_t done, size_t total) {
    CHECK(done <= total, "%u of %u tokens are computed", (unsigned)done, (unsigned)total);
    return (gpt_poll)*(int *)user;
}

static void check_fresh(const gpt_model *m, gpt_session *s, const char *what) {
    gpt_session_info info;
    gpt_session *ref;
    gpt_error err;
    gpt_session_info_get(s, &info);
    ref = session_in(m, NULL, info.n_ctx, 0);
    gpt_eval(ref, gpt_session_tokens(s, NULL), n_of(s), &err);
    CHECK(!gpt_logits(s) || !memcmp(gpt_logits(s), gpt_logits(ref), vocab_of(m) * sizeof(float)), "%s: other logits than those of the text", what);
    CHECK(!gpt_eval(s, NULL, 0, &err) && gpt_logits(s) && !memcmp(gpt_logits(s), gpt_logits(ref), vocab_of(m) * sizeof(float)), "%s: other logits after an evaluation of nothing", what);
    gpt_session_free(ref);
}

/* What histories have found, in short. */
static void test_found(void) {
    gpt_model *m = load_toy("gpt_oss");
    gpt_generate_params g = writing(0, 1);
    gpt_work_params wp;
    gpt_session_params sp;
    gpt_session *s, *t, *u = NULL;
    gpt_work *w = NULL;
    gpt_writer to;
    gpt_reader from;
    gpt_token ids[80];
    float lp[8];
    gpt_error err;
    unsigned char *bytes;
    size_t i, size;
    int cancel = GPT_GO;
    memset(&wp, 0, sizeof wp);
    memset(&sp, 0, sizeof sp);
    memset(&to, 0, sizeof to);
    memset(&from, 0, sizeof from);
    for (i = 0; i < 80; i++) ids[i] = some_id(i, vocab_of(m));
    wp.n_threads = 1; wp.n_batch = 8; wp.hooks.poll = on_cancel; wp.hooks.poll_user = &cancel;
    CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
    s = session_in(m, w, 100, 0);
    t = session_in(m, w, 100, 0);
    CHECK(!gpt_eval(s, ids, 9, &err) && gpt_logits(s), "%s", err.msg);   /* lent: a score computes the last token again */
    cancel = GPT_CANCEL;
    CHECK(gpt_score(s, ids, 4, lp, &err) == GPT_E_CANCELLED && n_of(s) == 9, "%s", err.msg);
    CHECK(!gpt_session_rewind(s, 8, &err), "%s", err.msg);
    cancel = GPT_GO;
    check_fresh(m, s, "a score that was cancelled at once, and a rewind");
    cancel = GPT_PAUSE;                         /* in the middle of a pass of the other */
    CHECK(!gpt_eval_begin(t, ids, 30, NULL, &err) && gpt_work_step(w, &err) == GPT_MORE && w->cursor.active, "%s", err.msg);
    gpt_session_hold(s, 1);
    cancel = GPT_CANCEL;
    CHECK(gpt_eval(s, ids, 4, &err) == GPT_E_CANCELLED && result_of(s) == GPT_E_CANCELLED, "a held session's call that was cancelled: result %d", (int)result_of(s));
    cancel = GPT_GO;
    CHECK(gpt_step(s, &err) == GPT_E_STATE, "it is still under way");
    gpt_session_hold(s, 0);
    gpt_session_reset(s);
    gpt_session_reset(t);
    CHECK(!gpt_eval(s, ids, 5, &err) && !gpt_begin(s, "", &g, NULL, NULL, &err) && gpt_step(s, &err) == GPT_MORE, "%s", err.msg);
    CHECK(n_of(s) == 6 && !gpt_eval(t, gpt_session_tokens(s, NULL), 6, &err) && !gpt_eval(t, ids, 1, &err) && !gpt_session_rewind(t, 6, &err), "%s", err.msg);
    CHECK(!gpt_session_copy(t, s, SIZE_MAX, &err) && n_of(t) == 6, "%s", err.msg);
    check_fresh(m, t, "a copy of a text whose last token waits");
    gpt_end(s);
    gpt_session_reset(s);                       /* windows of 8 hold the end of it, the other layer all */
    CHECK(!gpt_eval(s, ids, 80, &err) && !gpt_session_copy(t, s, SIZE_MAX, &err), "%s", err.msg);
    size = gpt_session_save_bytes(t, GPT_SAVE_CACHE);
    bytes = (unsigned char *)malloc(size);
    if (!bytes) exit(1);
    to.user = from.user = bytes; to.size = from.size = size;
    CHECK(!gpt_session_save(t, GPT_SAVE_CACHE, &to, &err), "a save of a copy: %s", err.msg);
    CHECK(!gpt_session_restore(s, &from, &err) && n_of(s) == 80, "%s", err.msg);
    check_fresh(m, s, "a copy that was saved");
    sp.n_threads = 1; sp.n_ctx = 40;
    CHECK(!gpt_session_new(&u, m, &sp, &err) && gpt_session_restore(u, &from, &err) == GPT_E_CONTEXT && n_of(u) == 0, "80 tokens in a context of 40: %s", err.msg);
    gpt_session_free(u);
    sp.n_ctx = 100; sp.no_logits = 1;
    CHECK(!gpt_session_new(&u, m, &sp, &err) && !gpt_session_restore(u, &from, &err) && n_of(u) == 80 && !gpt_logits(u), "a save with logits in a session without: %s", err.msg);
    g.max_tokens = 5;
    CHECK(!gpt_generate(u, "", &g, NULL, NULL, &err), "%s", err.msg);
    check_alone(m, u, 80, &g, "restored without logits");
    gpt_session_free(u);
    memset(lp, 0, sizeof lp);
    for (i = 0; i < 8; i++) lp[i] = 7.0f;
    gpt_session_reset(s);
    CHECK(!gpt_score(s, ids, 6, lp, &err) && !gpt_session_rewind(s, 3, &err), "%s", err.msg);
    for (i = 0; i < 8; i++) lp[i] = 7.0f;
    CHECK(!gpt_score(s, ids, 0, lp, &err) && lp[0] == 7.0f && lp[5] == 7.0f && n_of(s) == 3, "scores of nothing write nothing");
    free(bytes);
    gpt_session_free(s);
    gpt_session_free(t);
    gpt_work_free(w);
    gpt_model_free(m);
}

#ifdef HAVE_THREADS
enum { N_THREAD = 4 };
typedef struct reading { const gpt_model *m; const gpt_session *base; const float *want; size_t n_vocab; int wrong, at; } reading;

/* A session that begins with base, a copy of a part of it, and what may be read. No CHECK: it counts. */
static void *read_frozen(void *arg) {
    reading *r = (reading *)arg;
    gpt_session_params p;
    gpt_session_info info;
    gpt_session *s = NULL, *t = NULL;
    gpt_token ids[8];
    size_t i, n, round;
    for (i = 0; i < 8; i++) ids[i] = some_id(i + 40, r->n_vocab);
    memset(&p, 0, sizeof p);
    p.n_ctx = 80; p.n_threads = 1; p.n_batch = 8;
    for (round = 0; round < 6; round++) {
        p.prefix = NULL;
        if (gpt_session_new(&t, r->m, &p, NULL)) { r->wrong++; return NULL; }
        p.prefix = r->base;
        if (gpt_session_new(&s, r->m, &p, NULL)) { r->wrong++; return NULL; }
        if (gpt_eval(s, ids, 8, NULL) || memcmp(gpt_logits(s), r->want, r->n_vocab * sizeof(float))) r->wrong++;
        if (gpt_session_copy(t, r->base, round & 1 ? SIZE_MAX : 20 + (size_t)r->at, NULL)) r->wrong++;
        if (round & 1 && (gpt_eval(t, ids, 8, NULL) || memcmp(gpt_logits(t), r->want, r->n_vocab * sizeof(float)))) r->wrong++;
        if (gpt_session_rewind(s, 30, NULL) || gpt_eval(s, ids, 2, NULL)) r->wrong++;
        gpt_session_reset(s);
        if (gpt_eval(s, ids, 8, NULL) || memcmp(gpt_logits(s), r->want, r->n_vocab * sizeof(float))) r->wrong++;
        gpt_session_info_get(r->base, &info);
        gpt_session_tokens(r->base, &n);
        if (n != 40 || !info.frozen || gpt_eval((gpt_session *)(size_t)r->base, ids, 1, NULL) != GPT_E_STATE) r->wrong++;
        {
            static const int what[2] = { GPT_SAVE_CACHE, GPT_SAVE_TOKENS };
            const size_t size = gpt_session_save_bytes(r->base, what[round & 1]);
            void *bytes = malloc(size);
            gpt_writer w = { NULL, NULL, 0 };
            gpt_reader from = { NULL, NULL, 0 };
            w.user = from.user = bytes; w.size = from.size = size;
            if (!bytes || gpt_session_save(r->base, what[round & 1], &w, NULL) || gpt_session_restore(t, &from, NULL)) r->wrong++;
            if (gpt_eval(t, ids, 8, NULL) || memcmp(gpt_logits(t), r->want, r->n_vocab * sizeof(float))) r->wrong++;
            free(bytes);
        }
        gpt_session_free(s);
        gpt_session_free(t);
    }
    return NULL;
}

static void test_frozen_threads(void) {
    static const char *const names[] = { "gpt_oss", "llama_q8_0", "gemma3" };
    size_t k, i;
    for (k = 0; k < 3; k++) {
        gpt_model_params mp = model_params();
        gpt_model *m = NULL;
        gpt_session *base, *alone;
        reading r[N_THREAD];
        pthread_t id[N_THREAD];
        gpt_token ids[48];
        gpt_error err;
        char path[128];
        memset(&mp, 0, sizeof mp);
        mp.n_threads = 1;                       /* with malloc: the counting one is for one thread */
        snprintf(path, sizeof path, "tests/golden/model/%s.gguf", names[k]);
        CHECK(gpt_model_load(&m, path, &mp, &err) == GPT_OK, "%s", err.msg);
        base = session_in(m, NULL, 80, 0);
        alone = session_in(m, NULL, 80, 0);
        for (i = 0; i < 48; i++) ids[i] = some_id(i, vocab_of(m));
        CHECK(!gpt_eval(base, ids, 40, &err) && !gpt_session_freeze(base, &err) && !gpt_eval(alone, ids, 48, &err), "%s", err.msg);
        for (i = 0; i < N_THREAD; i++) {
            r[i].m = m; r[i].base = base; r[i].want = gpt_logits(alone); r[i].n_vocab = vocab_of(m); r[i].wrong = 0; r[i].at = (int)i;
            CHECK(pthread_create(&id[i], NULL, read_frozen, &r[i]) == 0, "pthread_create");
        }
        for (i = 0; i < N_THREAD; i++) { pthread_join(id[i], NULL); CHECK(r[i].wrong == 0, "%s, thread %u: %d times other bits or a failure", names[k], (unsigned)i, r[i].wrong); }
        gpt_session_free(base);
        gpt_session_free(alone);
        gpt_model_free(m);
    }
}
#else
static void test_frozen_threads(void) {}
#endif

static const test tests[] = {
    { "histories", test_histories },
    { "long prompt", test_long_prompt },
    { "shares", test_shares },
    { "no logits", test_no_logits },
    { "results", test_results },
    { "bytes", test_bytes },
    { "misuse", test_misuse },
    { "foreign", test_foreign },
    { "same prompt", test_same_prompt },
    { "last rows", test_last_rows },
    { "windows in turn", test_windows_in_turn },
    { "every way", test_every_way },
    { "rewind calls", test_rewind_calls },
    { "no work twice", test_no_work_twice },
    { "states", test_states },
    { "roll", test_roll },
    { "branches", test_branches },
    { "found", test_found },
    { "frozen threads", test_frozen_threads },
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
