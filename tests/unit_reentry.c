/* Calls from hooks: every public call from every hook that the library calls while it works, once on the session at work,
 * once on another session of the same model, once on the session at work from a hook of that other one. And every public
 * call with NULL in place of what it works on.
 *
 * On the session at work, calls that only read answer as always, calls that change are GPT_E_STATE, void ones do nothing,
 * and gpt_end asks the work to stop; what comes out of the work afterwards is what comes out of it undisturbed. Everything
 * else works as if no hook were there. Runs from the repository's root.
 *     unit_reentry --case TEXT     only the cases whose name contains TEXT */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

enum { D = 32, FF = 320, FF_LOAD = 2048, N_CTX = 96, N_BATCH = 16, N_TEXT = 44, N_WRITE = 5, N_LONG = 8192,
       N_PLAIN = 94, N_RUN = 7, N_VOCAB = N_PLAIN + 2 + N_RUN + 2, BOS = N_VOCAB - 2 };

/* ---- What a call gave ---------------------------------------------------------------------------------------------- */

typedef struct result { gpt_result code; char msg[192]; uint64_t h; } result;   /* h: a hash of all else that it answered */

static void mix(uint64_t *h, const void *p, size_t n) {                 /* FNV-1a */
    const unsigned char *b = (const unsigned char *)p;
    while (n--) *h = (*h ^ *b++) * 0x100000001b3u;
}
static void mix_size(uint64_t *h, size_t n) { mix(h, &n, sizeof n); }

typedef struct said { char p[512]; size_t n; } said;                    /* a text that a callback heard */
static int hear(said *t, const char *p, size_t n) {
    if (t->n + n < sizeof t->p) { memcpy(t->p + t->n, p, n); t->n += n; t->p[t->n] = 0; }
    return 0;
}

static uint64_t digest(gpt_session *s) {                                /* all that can be read from a session */
    uint64_t h = 0xcbf29ce484222325u;
    gpt_session_info info;
    size_t n = 0;
    const gpt_token *token = gpt_session_tokens(s, &n);
    const float *z = gpt_logits(s);
    mix(&h, token, n * sizeof *token);
    if (z) mix(&h, z, N_VOCAB * sizeof *z);
    gpt_session_info_get(s, &info);
    mix_size(&h, info.n_ctx); mix_size(&h, info.n_batch); mix_size(&h, info.bytes); mix_size(&h, info.n_token);
    mix_size(&h, (size_t)info.finish); mix_size(&h, info.n_prompt); mix_size(&h, info.n_generated);
    mix(&h, info.kernels, strlen(info.kernels));
    return h;
}

static size_t n_token_of(const gpt_session *s) { size_t n; gpt_session_tokens(s, &n); return n; }

/* ---- The case at hand ---------------------------------------------------------------------------------------------- */

enum { ON_POLL, ON_TRACE, ON_TEXT, ON_RUN_BEFORE, ON_RUN_AFTER, ON_ALLOC, ON_FREE, ON_PROGRESS, ON_READ, N_HOOK };
static const char *const hook_name[] = { "poll", "trace", "text", "run before its tasks", "run after its tasks", "alloc",
                                         "free", "progress", "read" };
enum { ITSELF, OTHER, NESTED };
static const char *const who_name[] = { "on the session at work", "on another session",
                                        "on the session at work, from a hook of another" };

enum { OF_MODEL, READS, CHANGES, SAMPLES, VOID_CALL, ENDS };
typedef struct call {
    const char *name;
    int         kind;
    void      (*make)(gpt_session *s, result *r);
    int       (*reads)(gpt_session *s);         /* READS: is this what the session at work must answer? */
} call;

typedef struct outcome {                        /* of a piece of work, and of going on afterwards */
    gpt_result code, rest;
    gpt_finish finish;
    size_t     n_token, n_generated;
    gpt_token  token[N_CTX];
    float      logits[N_VOCAB], score[N_TEXT];
    said       text;
} outcome;

static gpt_model     *model;
static gb             file, big_file;           /* of the model; of one with a matrix that is loaded by several threads */
static char           long_prompt[N_LONG + 16];   /* its word is too long for a session's scratch, so it takes memory */
static gpt_token      ids[N_TEXT];
static size_t         n_live;                   /* blocks that the library holds */
static float          row[N_CTX + 1][N_VOCAB];  /* row[n]: the logits after n tokens of the undisturbed work's text */

static struct {
    gpt_session   *self, *other;
    const call    *what;
    const outcome *want;                        /* the undisturbed work; NULL while it is found out */
    char           name[200];
    int            hook, who, armed, inside, nested;
    size_t         n, at, position;             /* calls of the hook so far; the one that acts; where its pass is */
    said           heard, inner;                /* from the work; from calls made in hooks */
} now;

static void act(void);

static void hook(int kind) {
    if (!now.armed || now.inside || kind != now.hook || ++now.n != now.at) return;
    now.inside = 1;
    act();
    now.inside = 0;
}

static gpt_poll on_poll(void *user, size_t done, size_t total) { (void)done; (void)total; (void)user; hook(ON_POLL); return GPT_GO; }
static int on_trace(void *user, const gpt_trace *t) {
    (void)user;
    if (t->layer >= 0) now.position = t->position;      /* where the chunk begins */
    hook(ON_TRACE);
    return 0;
}
static int on_text(void *user, const char *p, size_t n) { hear((said *)user, p, n); hook(ON_TEXT); return 0; }
static int on_inner_text(void *user, const char *p, size_t n) { return hear((said *)user, p, n); }
static int on_progress(void *user, uint64_t done, uint64_t total) {
    (void)user; (void)done; (void)total;
    hook(ON_PROGRESS);
    return 0;
}

static void on_run(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    (void)user; (void)cost;
    hook(ON_RUN_BEFORE);
    if (n > 1) task(arg, 0, n / 2, 1);
    task(arg, n / 2, n, 0);
    hook(ON_RUN_AFTER);
}

static size_t on_read(void *user, uint64_t offset, void *dst, size_t n) {
    const gb_buf *f = (const gb_buf *)user;
    hook(ON_READ);
    if (offset > f->n || n > f->n - offset) return 0;
    memcpy(dst, f->p + offset, n);
    return n;
}

static void *on_alloc(void *user, size_t n) {   /* the size stands in front, so that what is freed can be spoilt */
    unsigned char *p;
    (void)user;
    hook(ON_ALLOC);
    p = (unsigned char *)malloc(n + 64);
    if (!p) return NULL;
    memcpy(p, &n, sizeof n);
    memset(p + 64, 0xA5, n);
    n_live++;
    return p + 64;
}

static void on_free(void *user, void *p) {
    unsigned char *q = (unsigned char *)p - 64;
    size_t n;
    (void)user;
    hook(ON_FREE);
    memcpy(&n, q, sizeof n);
    memset(p, 0xDD, n);
    n_live--;
    free(q);
}

static gpt_poll on_other_poll(void *user, size_t done, size_t total);

static gpt_model_params model_params(void) {
    gpt_model_params p;
    memset(&p, 0, sizeof p);
    p.alloc.alloc = on_alloc;
    p.alloc.free = on_free;
    p.n_threads = 1;
    return p;
}

static gpt_session_params session_params(int hooks) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = N_CTX;
    p.n_batch = N_BATCH;
    p.n_threads = 1;
    p.hooks.poll = hooks ? on_poll : on_other_poll;
    if (hooks) { p.hooks.trace = on_trace; p.hooks.parallel.run = on_run; p.hooks.parallel.n_worker = 2; }
    return p;
}

static gpt_session *session(int hooks) {
    gpt_session_params p = session_params(hooks);
    gpt_session *s = NULL;
    gpt_error err;
    CHECK(gpt_session_new(&s, model, &p, &err) == GPT_OK, "a session: %s", err.msg);
    if (!s) exit(test_report("unit_reentry"));
    return s;
}

/* One layer, so wide that a chunk of a prompt is shared out to the host's threads; printable characters, the space, the line
 * end, 2 to 128 times "a", two controls. */
static void build(gb *g, uint32_t ff) {
    const struct { const char *name; uint32_t d0, d1; float scale; } t[] = {
        { "token_embd", D, N_VOCAB, 1.0f }, { "output_norm", D, 0, 0.0f }, { "output", D, N_VOCAB, 0.7f },
        { "blk.0.attn_norm", D, 0, 0.0f }, { "blk.0.ffn_norm", D, 0, 0.0f }, { "blk.0.attn_q", D, D, 0.5f },
        { "blk.0.attn_k", D, D, 0.5f }, { "blk.0.attn_v", D, D, 0.5f }, { "blk.0.attn_output", D, D, 0.5f },
        { "blk.0.ffn_gate", D, ff, 0.5f }, { "blk.0.ffn_up", D, ff, 0.5f }, { "blk.0.ffn_down", ff, D, 0.2f } };
    char a[129], c;
    uint32_t seed = 1;
    size_t i, k, n;
    memset(a, 'a', sizeof a);
    gb_init(g, 3, 0);
    gb_kv_str(g, "general.architecture", "llama");
    gb_kv_u32(g, "llama.block_count", 1);
    gb_kv_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_kv_u32(g, "llama.context_length", 128);
    gb_kv_u32(g, "llama.embedding_length", D);
    gb_kv_u32(g, "llama.feed_forward_length", ff);
    gb_kv_u32(g, "llama.attention.head_count", 2);
    gb_kv_str(g, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, N_VOCAB);
    for (i = 0; i < N_PLAIN; i++) { c = (char)('!' + i); gb_text(g, &g->kv, &c, 1); }
    gb_text(g, &g->kv, "\xC4\xA0", 2);
    gb_text(g, &g->kv, "\xC4\x8A", 2);
    for (i = 1; i <= N_RUN; i++) gb_text(g, &g->kv, a, (size_t)1 << i);
    gb_text(g, &g->kv, "<bos>", 5);
    gb_text(g, &g->kv, "<end>", 5);
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, N_VOCAB);
    for (i = 0; i < N_VOCAB; i++) gb_uint(g, &g->kv, i < BOS ? 1 : 3, 4);
    gb_kv_array(g, "tokenizer.ggml.merges", GB_STR, N_RUN);
    for (i = 0; i < N_RUN; i++) {
        n = (size_t)1 << i;
        a[n] = ' ';
        gb_text(g, &g->kv, a, 2 * n + 1);
        a[n] = 'a';
    }
    gb_kv_u32(g, "tokenizer.ggml.bos_token_id", BOS);
    gb_kv_u32(g, "tokenizer.ggml.eos_token_id", BOS + 1);
    gb_kv_bool(g, "tokenizer.ggml.add_bos_token", 1);
    for (i = 0; i < sizeof t / sizeof *t; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", t[i].name);
        gb_tensor(g, name, GB_F32, t[i].d1 ? 2 : 1, t[i].d0, t[i].d1, 1, 1, NULL, 0);
        for (k = 0; k < (size_t)t[i].d0 * (t[i].d1 ? t[i].d1 : 1); k++) {
            seed = seed * 1664525u + 1013904223u;
            gb_float(g, &g->data, t[i].d1 ? ((float)(seed >> 8) / 8388608.0f - 1.0f) * t[i].scale : 1.0f);
        }
    }
    gb_finish(g, &n);
}

static void load_model(void) {
    gpt_model_params p = model_params();
    gpt_error err;
    size_t i;
    build(&file, FF);
    build(&big_file, FF_LOAD);
    CHECK(gpt_model_load_memory(&model, file.file.p, file.file.n, &p, &err) == GPT_OK, "the model: %s", err.msg);
    if (!model) exit(test_report("unit_reentry"));
    memset(long_prompt, 'a', N_LONG);
    memcpy(long_prompt + N_LONG, " the cat", 9);
    for (i = 0; i < N_TEXT; i++) ids[i] = (gpt_token)((i * i * 7 + 3 * i + 1) % BOS);
}

/* ---- The public calls ---------------------------------------------------------------------------------------------- */

static gpt_generate_params writing(size_t max_tokens) {
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.sample.temperature = 0.8f;
    g.sample.top_p = 0.9f;
    g.sample.repeat_penalty = 1.1f;
    g.sample.seed = 7;
    g.max_tokens = max_tokens;
    g.ignore_end = 1;
    return g;
}

static const gpt_message  hello[] = { { "user", "aaaa cat", NULL }, { "assistant", "yes", NULL }, { "user", "and?", NULL } };
static const gpt_chat_params turns = { NULL, "{text};", "{text}.", NULL, ":", NULL, 0, 0, NULL, NULL, 0 };

static void keep(result *r, gpt_result code, const gpt_error *err, gpt_session *s) {
    r->code = code;
    memcpy(r->msg, err->msg, sizeof r->msg);
    if (s) { uint64_t h = digest(s); mix(&r->h, &h, sizeof h); }
    mix(&r->h, now.inner.p, now.inner.n);
}

/* A session made in a hook must be as good as any: its logits after three tokens. */
static void use_and_free(gpt_session *s, result *r, gpt_result code, gpt_error *err) {
    if (!code) code = gpt_eval(s, ids, 3, err);
    keep(r, code, err, code ? NULL : s);
    gpt_session_free(s);
}
static void use_and_free_model(gpt_model *m, result *r, gpt_result code, gpt_error *err) {
    gpt_model_info info;
    keep(r, code, err, NULL);
    if (!code) { gpt_model_info_get(m, &info); mix_size(&r->h, (size_t)info.n_param); mix_size(&r->h, info.d_ff); }
    gpt_model_free(m);
}

static void call_load(gpt_session *s, result *r) {
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    gpt_result code = gpt_model_load(&m, "tests/golden/model/llama_q4_0.gguf", &p, &err);
    (void)s;
    use_and_free_model(m, r, code, &err);
}
static void call_load_memory(gpt_session *s, result *r) {
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    gpt_error err;
    gpt_result code = gpt_model_load_memory(&m, file.file.p, file.file.n, &p, &err);
    (void)s;
    use_and_free_model(m, r, code, &err);
}
static void call_load_reader(gpt_session *s, result *r) {
    gpt_model_params p = model_params();
    gpt_reader from = { on_read, &file.file, file.file.n };
    gpt_model *m = NULL;
    gpt_error err;
    gpt_result code;
    (void)s;
    p.progress = on_progress;
    code = gpt_model_load_reader(&m, &from, 1, &p, &err);
    use_and_free_model(m, r, code, &err);
}
static void call_model_free(gpt_session *s, result *r) {
    gpt_model_params p = model_params();
    gpt_model *m = NULL;
    size_t before = n_live;
    if (now.self && s == now.self) { gpt_model_free(model); return; }
    r->code = gpt_model_load_memory(&m, file.file.p, file.file.n, &p, NULL);
    gpt_model_free(m);
    mix_size(&r->h, n_live - before);
}
static void call_model_info(gpt_session *s, result *r) {
    gpt_model_info i;
    (void)s;
    gpt_model_info_get(model, &i);
    mix(&r->h, i.architecture, strlen(i.architecture)); mix(&r->h, i.kernels, strlen(i.kernels));
    mix_size(&r->h, i.n_vocab); mix_size(&r->h, (size_t)i.weight_bytes); mix_size(&r->h, (size_t)i.bos);
}
static void call_tokenize(gpt_session *s, result *r) {
    gpt_token out[64];
    gpt_error err;
    size_t n = 0;
    gpt_result code = gpt_tokenize(model, long_prompt, strlen(long_prompt), GPT_TOKENIZE_BOS, out, 64, &n, &err);
    (void)s;
    keep(r, code, &err, NULL);
    mix(&r->h, out, (n < 64 ? n : 64) * sizeof *out);
}
static void call_detokenize(gpt_session *s, result *r) {
    char text[512];
    size_t n = gpt_detokenize(model, ids, N_TEXT, 1, text, sizeof text);
    (void)s;
    mix(&r->h, text, n < sizeof text ? n : sizeof text);
}
static void call_token_text(gpt_session *s, result *r) {
    size_t n = 0;
    const char *p = gpt_token_text(model, N_PLAIN + 4, &n);
    (void)s;
    mix(&r->h, p, n);
}
static void call_token_find(gpt_session *s, result *r) { (void)s; mix_size(&r->h, (size_t)gpt_token_find(model, "aaaa")); }
static void call_is_control(gpt_session *s, result *r) { (void)s; mix_size(&r->h, (size_t)gpt_token_is_control(model, BOS)); }
static void call_is_end(gpt_session *s, result *r) { (void)s; mix_size(&r->h, (size_t)gpt_token_is_end(model, BOS + 1)); }

static void call_session_bytes(gpt_session *s, result *r) {
    gpt_session_params p = session_params(0);
    (void)s;
    mix_size(&r->h, gpt_session_bytes(model, &p));
}
static void call_session_new(gpt_session *s, result *r) {
    gpt_session_params p = session_params(0);
    gpt_session *made = NULL;
    gpt_error err;
    gpt_result code = gpt_session_new(&made, model, &p, &err);
    (void)s;
    use_and_free(made, r, code, &err);
}
static void call_session_init(gpt_session *s, result *r) {
    gpt_session_params p = session_params(0);
    size_t n = gpt_session_bytes(model, &p);
    void *memory = malloc(n);
    gpt_session *made = NULL;
    gpt_error err;
    gpt_result code = gpt_session_init(&made, model, &p, memory, n, &err);
    (void)s;
    use_and_free(made, r, code, &err);
    free(memory);
}
static gpt_work_params work_params(void) {
    gpt_work_params p;
    memset(&p, 0, sizeof p);
    p.n_batch = N_BATCH; p.n_threads = 1;
    return p;
}
static void call_work_bytes(gpt_session *s, result *r) {
    gpt_work_params p = work_params();
    (void)s;
    mix_size(&r->h, gpt_work_bytes(model, &p));
}
/* A batch of its own: made, used and freed in the hook. */
static void batch(gpt_session *s, result *r, int steps) {
    gpt_work_params p = work_params();
    gpt_session_params sp;
    gpt_session *a = NULL, *b = NULL;
    gpt_work *w = NULL;
    gpt_error err;
    gpt_result code = gpt_work_new(&w, model, &p, &err);
    (void)s;
    memset(&sp, 0, sizeof sp);
    sp.n_ctx = N_CTX; sp.work = w;
    if (!code) code = gpt_session_new(&a, model, &sp, &err);
    if (!code) code = gpt_session_new(&b, model, &sp, &err);
    if (!code && steps) code = gpt_eval_begin(a, ids, 3, NULL, &err);
    if (!code && steps) code = gpt_eval_begin(b, ids + 1, 2, NULL, &err);
    while (!code && gpt_work_step(w, &err) == GPT_MORE) {}
    keep(r, code, &err, NULL);
    if (a) { uint64_t h = digest(a); mix(&r->h, &h, sizeof h); }
    if (b) { uint64_t h = digest(b); mix(&r->h, &h, sizeof h); }
    gpt_work_free(w);                           /* does nothing: it has sessions */
    gpt_session_free(a);
    gpt_session_free(b);
    gpt_work_free(w);
}
static void call_work_new(gpt_session *s, result *r) { batch(s, r, 0); }
static void call_work_batch(gpt_session *s, result *r) { batch(s, r, 1); }
static void call_work_step(gpt_session *s, result *r) {     /* of that session's own work space */
    gpt_error err;
    gpt_result code = gpt_work_step(s->w, &err);
    keep(r, code, &err, s);
}
static void call_hold(gpt_session *s, result *r) {
    gpt_session_hold(s, 1);
    gpt_session_hold(s, 0);
    if (s != now.self) r->h = digest(s);
}
static void call_hooks(gpt_session *s, result *r) {
    gpt_hooks h;
    gpt_error err;
    gpt_result code;
    memset(&h, 0, sizeof h);
    h.poll = on_other_poll;
    code = gpt_session_hooks(s, &h, &err);
    keep(r, code, &err, s);
}
static void call_eval_begin(gpt_session *s, result *r) {
    gpt_error err;
    gpt_result code = gpt_eval_begin(s, ids + 3, 5, NULL, &err);
    keep(r, code, &err, s);
}
static void call_freeze(gpt_session *s, result *r) {
    gpt_error err;
    gpt_result code = gpt_session_freeze(s, &err);
    keep(r, code, &err, s);
}
static void call_adapter(gpt_session *s, result *r) {
    gpt_error err;
    gpt_result code = gpt_session_adapter(s, NULL, 0, &err);
    keep(r, code, &err, s);
}
/* From one of its own, and that the other way round is only reading. */
static void call_copy(gpt_session *s, result *r) {
    gpt_session_params p = session_params(0);
    gpt_session *from = NULL;
    gpt_error err;
    gpt_result code = gpt_session_new(&from, model, &p, &err);
    if (!code) code = gpt_eval(from, ids + 2, 4, &err);
    if (!code) code = gpt_session_copy(s, from, SIZE_MAX, &err);
    keep(r, code, &err, s);
    gpt_session_free(from);
}
static void call_copy_from(gpt_session *s, result *r) {
    gpt_session_params p = session_params(0);
    gpt_session *to = NULL;
    gpt_error err;
    gpt_result code = gpt_session_new(&to, model, &p, &err);
    if (!code) code = gpt_session_copy(to, s, 3, &err);
    if (!code && n_token_of(to)) code = gpt_eval(to, NULL, 0, &err);
    keep(r, code, &err, s == now.self ? NULL : to);
    gpt_session_free(to);
}
static unsigned char save_room[1 << 17];
static void call_save_bytes(gpt_session *s, result *r) { mix_size(&r->h, gpt_session_save_bytes(s, GPT_SAVE_CACHE) > 0); }
static void call_save(gpt_session *s, result *r) {
    gpt_writer w = { NULL, NULL, sizeof save_room };
    gpt_error err;
    gpt_result code;
    w.user = save_room;
    code = gpt_session_save(s, GPT_SAVE_CACHE, &w, &err);
    keep(r, code, &err, s);
}
/* Of what it was itself, or where that cannot be had, of rubbish. */
static void call_restore(gpt_session *s, result *r) {
    gpt_writer w = { NULL, NULL, sizeof save_room };
    gpt_reader from = { NULL, NULL, sizeof save_room };
    gpt_error err;
    gpt_result code;
    w.user = from.user = save_room;
    memset(save_room, 'x', 64);
    if (!gpt_session_save(s, GPT_SAVE_TOKENS, &w, NULL)) from.size = gpt_session_save_bytes(s, GPT_SAVE_TOKENS);
    code = gpt_session_restore(s, &from, &err);
    keep(r, code, &err, s);
}
static void call_resume(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code;
    if (s != now.self) CHECK(gpt_begin(s, "cats", &g, on_inner_text, &now.inner, &err) == GPT_OK, "%s: %s", now.name, err.msg);
    code = gpt_resume(s, NULL, on_inner_text, &now.inner, &err);
    keep(r, code, &err, s);
    if (s != now.self) gpt_end(s);
}
static void call_session_free(gpt_session *s, result *r) {
    size_t before = n_live;
    gpt_session_free(s);
    mix_size(&r->h, before - n_live);
    if (s == now.other) now.other = NULL;
}
static void call_reset(gpt_session *s, result *r) { gpt_session_reset(s); if (s != now.self) r->h = digest(s); }
static void call_rewind(gpt_session *s, result *r) {
    gpt_error err;
    gpt_result code = gpt_session_rewind(s, 0, &err);
    keep(r, code, &err, s);
}
static void call_tokens(gpt_session *s, result *r) {
    size_t n = 0;
    const gpt_token *t = gpt_session_tokens(s, &n);
    mix(&r->h, t, n * sizeof *t);
}
static void call_info(gpt_session *s, result *r) { r->h = digest(s); }
static void call_eval(gpt_session *s, result *r) {
    gpt_error err;
    gpt_result code = gpt_eval(s, ids + 3, 5, &err);
    keep(r, code, &err, s);
}
static void call_score(gpt_session *s, result *r) {
    float lp[5] = { 0, 0, 0, 0, 0 };
    gpt_error err;
    gpt_result code = gpt_score(s, ids + 3, 5, lp, &err);
    keep(r, code, &err, s);
    mix(&r->h, lp, sizeof lp);
}
static void call_logits(gpt_session *s, result *r) {
    const float *z = gpt_logits(s);
    if (z) mix(&r->h, z, N_VOCAB * sizeof *z);
}
static void call_sample(gpt_session *s, result *r) {
    gpt_generate_params g = writing(0);
    gpt_token id = gpt_sample(s, &g.sample);
    r->code = id < 0 ? GPT_E_STATE : GPT_OK;
    mix_size(&r->h, (size_t)id);
}
static void call_generate(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code = gpt_generate(s, " a cat", &g, on_inner_text, &now.inner, &err);
    keep(r, code, &err, s);
}
static void call_begin(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code = gpt_begin(s, long_prompt, &g, on_inner_text, &now.inner, &err);
    keep(r, code, &err, s);
}
static void call_step(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code;
    if (s != now.self) CHECK(gpt_begin(s, "cats", &g, on_inner_text, &now.inner, &err) == GPT_OK, "%s: %s", now.name, err.msg);
    code = gpt_step(s, &err);
    keep(r, code, &err, s);
}
static void call_end(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    if (s == now.self) { gpt_end(s); return; }
    r->code = gpt_begin(s, "cats", &g, on_inner_text, &now.inner, NULL);
    if (gpt_step(s, NULL) != GPT_MORE) r->code = GPT_E_STATE;
    gpt_end(s);
    r->h = digest(s);
}
static void call_constraint(gpt_session *w, result *r) {
    gpt_constraint_params p;
    gpt_constraint *c = NULL;
    (void)w;
    memset(&p, 0, sizeof p);
    p.schema = "{\"type\":\"integer\",\"minimum\":3}";
    r->code = gpt_constraint_new(&c, model, &p, NULL);
    if (!r->code && gpt_constraint_check(c, "12", 2, NULL, NULL)) r->code = GPT_E_ARG;
    gpt_constraint_free(c);
}

static void call_json(gpt_session *w, result *r) {
    (void)w;
    r->code = gpt_json_get("[1,{\"a\":true}]", 14, "[1].a", NULL, 0, NULL) == 'b' ? GPT_OK : GPT_E_STATE;
}

static void call_chat_family(gpt_session *s, result *r) {
    (void)s;
    r->code = gpt_chat_family(model) ? GPT_E_STATE : GPT_OK;            /* this model has no template */
}
static void call_chat_format(gpt_session *s, result *r) {
    char text[128];
    size_t n = 0;
    gpt_error err;
    gpt_result code = gpt_chat_format(model, hello, 3, &turns, text, sizeof text, &n, &err);
    (void)s;
    keep(r, code, &err, NULL);
    mix(&r->h, text, n < sizeof text ? n : sizeof text);
}
static void call_chat_tokenize(gpt_session *s, result *r) {
    gpt_token out[64];
    size_t n = 0;
    gpt_error err;
    gpt_result code = gpt_chat_tokenize(model, hello, 3, &turns, out, 64, &n, &err);
    (void)s;
    keep(r, code, &err, NULL);
    mix(&r->h, out, (n < 64 ? n : 64) * sizeof *out);
}
static void call_chat(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code = gpt_chat(s, hello, 3, &turns, &g, on_inner_text, &now.inner, &err);
    keep(r, code, &err, s);
}
static void call_chat_begin(gpt_session *s, result *r) {
    gpt_generate_params g = writing(3);
    gpt_error err;
    gpt_result code = gpt_chat_begin(s, hello, 3, &turns, &g, on_inner_text, &now.inner, &err);
    keep(r, code, &err, s);
}

/* What the session at work answers to calls that only read. Its text is so far a beginning of the undisturbed text. */
static int reads_tokens(gpt_session *s) {
    size_t n = N_CTX + 1;
    const gpt_token *t = gpt_session_tokens(s, &n);
    return t && n <= now.want->n_token && !memcmp(t, now.want->token, n * sizeof *t);
}
static int reads_info(gpt_session *s) {
    gpt_session_params p = session_params(1);
    gpt_session_info i;
    gpt_model_info m;
    size_t n = N_CTX + 1;
    gpt_model_info_get(model, &m);
    gpt_session_tokens(s, &n);
    gpt_session_info_get(s, &i);
    return i.n_ctx == N_CTX && i.n_batch == N_BATCH && i.n_threads == 0 && !strcmp(i.kernels, m.kernels) &&
           i.bytes == gpt_session_bytes(model, &p) && i.n_token == n && i.n_generated <= now.want->n_generated;
}
static int reads_logits(gpt_session *s) {       /* none while they are computed, or those that belong to the text */
    size_t n = 0;
    const float *z = gpt_logits(s);
    gpt_session_tokens(s, &n);
    return !z || (n > 0 && n <= now.want->n_token && !memcmp(z, row[n], N_VOCAB * sizeof *z));
}

/* A copy of what is there in the middle of its work: three tokens at most, computed by itself as any text's. */
static int reads_copy(gpt_session *s) {
    gpt_session_params p = session_params(0);
    gpt_session *to = NULL;
    gpt_error err;
    size_t n;
    int ok = !gpt_session_new(&to, model, &p, &err) && !gpt_session_copy(to, s, 3, &err);
    if (ok && (n = n_token_of(to)) > 0)
        ok = n <= 3 && !gpt_eval(to, NULL, 0, &err) && !memcmp(gpt_logits(to), row[n], sizeof row[n]);
    gpt_session_free(to);
    return ok;
}

static const call calls[] = {
    { "gpt_model_load",        OF_MODEL,  call_load,          NULL },
    { "gpt_model_load_memory", OF_MODEL,  call_load_memory,   NULL },
    { "gpt_model_load_reader", OF_MODEL,  call_load_reader,   NULL },
    { "gpt_model_info_get",    OF_MODEL,  call_model_info,    NULL },
    { "gpt_tokenize",          OF_MODEL,  call_tokenize,      NULL },
    { "gpt_detokenize",        OF_MODEL,  call_detokenize,    NULL },
    { "gpt_token_text",        OF_MODEL,  call_token_text,    NULL },
    { "gpt_token_find",        OF_MODEL,  call_token_find,    NULL },
    { "gpt_token_is_control",  OF_MODEL,  call_is_control,    NULL },
    { "gpt_token_is_end",      OF_MODEL,  call_is_end,        NULL },
    { "gpt_session_bytes",     OF_MODEL,  call_session_bytes, NULL },
    { "gpt_session_new",       OF_MODEL,  call_session_new,   NULL },
    { "gpt_session_init",      OF_MODEL,  call_session_init,  NULL },
    { "gpt_work_bytes",        OF_MODEL,  call_work_bytes,    NULL },
    { "gpt_work_new, free",    OF_MODEL,  call_work_new,      NULL },
    { "a batch",               OF_MODEL,  call_work_batch,    NULL },
    { "gpt_constraint_new, check, free", OF_MODEL, call_constraint, NULL },
    { "gpt_json_get",          OF_MODEL,  call_json,          NULL },
    { "gpt_chat_family",       OF_MODEL,  call_chat_family,   NULL },
    { "gpt_chat_format",       OF_MODEL,  call_chat_format,   NULL },
    { "gpt_chat_tokenize",     OF_MODEL,  call_chat_tokenize, NULL },
    { "gpt_session_tokens",    READS,     call_tokens,        reads_tokens },
    { "gpt_session_info_get",  READS,     call_info,          reads_info },
    { "gpt_logits",            READS,     call_logits,        reads_logits },
    { "gpt_session_copy, from it", READS, call_copy_from,     reads_copy },
    { "gpt_session_hold",      READS,     call_hold,          reads_info },
    { "gpt_session_save_bytes", READS,    call_save_bytes,    reads_info },
    { "gpt_sample",            SAMPLES,   call_sample,        NULL },
    { "gpt_eval",              CHANGES,   call_eval,          NULL },
    { "gpt_score",             CHANGES,   call_score,         NULL },
    { "gpt_begin",             CHANGES,   call_begin,         NULL },
    { "gpt_step",              CHANGES,   call_step,          NULL },
    { "gpt_generate",          CHANGES,   call_generate,      NULL },
    { "gpt_chat",              CHANGES,   call_chat,          NULL },
    { "gpt_chat_begin",        CHANGES,   call_chat_begin,    NULL },
    { "gpt_session_rewind",    CHANGES,   call_rewind,        NULL },
    { "gpt_work_step",         CHANGES,   call_work_step,     NULL },
    { "gpt_eval_begin",        CHANGES,   call_eval_begin,    NULL },
    { "gpt_session_hooks",     CHANGES,   call_hooks,         NULL },
    { "gpt_session_freeze",    CHANGES,   call_freeze,        NULL },
    { "gpt_session_copy",      CHANGES,   call_copy,          NULL },
    { "gpt_session_adapter",   CHANGES,   call_adapter,       NULL },
    { "gpt_session_save",      CHANGES,   call_save,          NULL },
    { "gpt_session_restore",   CHANGES,   call_restore,       NULL },
    { "gpt_resume",            CHANGES,   call_resume,        NULL },
    { "gpt_session_free",      VOID_CALL, call_session_free,  NULL },
    { "gpt_session_reset",     VOID_CALL, call_reset,         NULL },
    { "gpt_model_free",        VOID_CALL, call_model_free,    NULL },
    { "gpt_end",               ENDS,      call_end,           NULL }
};
enum { N_CALL = sizeof calls / sizeof *calls };
static result quiet[N_CALL];                    /* what each gives outside of hooks, on a session like `other` */

static void prepare_other(void) {               /* another session, of three tokens */
    gpt_error err;
    now.other = session(0);
    CHECK(gpt_eval(now.other, ids, 3, &err) == GPT_OK, "another session: %s", err.msg);
}

static void make(const call *c, gpt_session *s, result *r) {
    memset(r, 0, sizeof *r);
    memset(&now.inner, 0, sizeof now.inner);
    c->make(s, r);
}

static void as_outside(const call *c, const result *r) {
    const result *q = &quiet[c - calls];
    CHECK(r->code == q->code && r->h == q->h && !strcmp(r->msg, q->msg),
          "%s: code %d (%s), outside of a hook code %d (%s); or other bits", now.name, (int)r->code, r->msg, (int)q->code, q->msg);
}

static int names(const char *msg, const char *call_name) {      /* "gpt_eval: ..." */
    size_t n = strlen(call_name);
    return !strncmp(msg, call_name, n) && msg[n] == ':';
}

/* Made on the session at work. */
static void on_itself(void) {
    const call *c = now.what;
    uint64_t before = digest(now.self);
    size_t live = n_live;
    result r;
    make(c, now.self, &r);
    if (c->kind == OF_MODEL) as_outside(c, &r);
    if (c->kind == READS) CHECK(c->reads(now.self), "%s: other than the session's", now.name);
    if (c->kind == SAMPLES) CHECK(r.code, "%s: a token was drawn", now.name);
    if (c->kind == CHANGES) CHECK(r.code == GPT_E_STATE && names(r.msg, c->name), "%s: code %d (%s)", now.name, (int)r.code, r.msg);
    CHECK(digest(now.self) == before && n_live == live && now.inner.n == 0, "%s: the session at work was changed", now.name);
}

static gpt_poll on_other_poll(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    (void)user;
    if (now.nested) { now.nested = 0; on_itself(); }
    return GPT_GO;
}

static void act(void) {
    const call *c = now.what;
    result r;
    size_t i;
    if (now.who == ITSELF && now.self) on_itself();
    else if (now.who == ITSELF) { make(c, NULL, &r); as_outside(c, &r); }       /* no session at work: OF_MODEL */
    else if (now.who == OTHER) { make(c, now.other, &r); as_outside(c, &r); }
    else {
        for (i = 0; strcmp(calls[i].name, "gpt_eval"); i++) {}
        now.nested = 1;
        make(&calls[i], now.other, &r);
        CHECK(!now.nested, "%s: the other session has no hook", now.name);
        as_outside(&calls[i], &r);
    }
}

/* ---- The work ------------------------------------------------------------------------------------------------------ */

enum { NUMBERS, WRITES, BEGINS, FREES, MAKES };        /* MAKES: there is no session at work */
typedef struct work {
    const char *name;
    int         kind;
    gpt_result (*before)(gpt_session *s, outcome *o);   /* not part of the work; may be NULL */
    gpt_result (*go)(gpt_session *s, outcome *o);
    unsigned    hooks;                          /* that are reached from it: 1 << ON_POLL, ... */
} work;

static const gpt_message ask[] = { { "user", long_prompt, NULL } };

static gpt_result steps(gpt_session *s) {
    gpt_result r;
    do r = gpt_step(s, NULL); while (r == GPT_MORE);
    return r;
}
static gpt_result work_eval(gpt_session *s, outcome *o) { (void)o; return gpt_eval(s, ids, N_TEXT, NULL); }
static gpt_result work_score(gpt_session *s, outcome *o) { return gpt_score(s, ids, N_TEXT, o->score, NULL); }
static gpt_result work_begin(gpt_session *s, outcome *o) {
    gpt_generate_params g = writing(N_WRITE);
    (void)o;
    return gpt_begin(s, long_prompt, &g, on_text, &now.heard, NULL);
}
static gpt_result work_step(gpt_session *s, outcome *o) { (void)o; return steps(s); }
static gpt_result work_generate(gpt_session *s, outcome *o) {
    gpt_generate_params g = writing(N_WRITE);
    (void)o;
    return gpt_generate(s, long_prompt, &g, on_text, &now.heard, NULL);
}
static gpt_result work_chat_begin(gpt_session *s, outcome *o) {
    gpt_generate_params g = writing(N_WRITE);
    (void)o;
    return gpt_chat_begin(s, ask, 1, &turns, &g, on_text, &now.heard, NULL);
}
static gpt_result work_chat(gpt_session *s, outcome *o) {
    gpt_generate_params g = writing(N_WRITE);
    (void)o;
    return gpt_chat(s, ask, 1, &turns, &g, on_text, &now.heard, NULL);
}
static gpt_result work_free(gpt_session *s, outcome *o) { (void)o; gpt_session_free(s); return GPT_OK; }

static void collect(gpt_session *s, outcome *o);

static gpt_result work_new(gpt_session *s, outcome *o) {
    gpt_session_params p = session_params(1);
    gpt_result r = gpt_session_new(&s, model, &p, NULL);
    now.armed = 0;
    if (!r && !gpt_eval(s, ids, N_TEXT, NULL)) collect(s, o);
    gpt_session_free(s);
    return r;
}
static gpt_result work_tokenize(gpt_session *s, outcome *o) {
    (void)s;
    return gpt_tokenize(model, long_prompt, strlen(long_prompt), 0, o->token, N_CTX, &o->n_token, NULL);
}
static gpt_result work_load(gpt_session *s, outcome *o) {
    gpt_model_params p = model_params();
    gpt_session_params sp = session_params(1);
    gpt_reader from = { on_read, &big_file.file, big_file.file.n };
    gpt_model *m = NULL;
    gpt_result r;
    p.progress = on_progress;
    p.parallel.run = on_run;
    p.parallel.n_worker = 2;
    r = gpt_model_load_reader(&m, &from, 1, &p, NULL);
    now.armed = 0;
    if (!r && !gpt_session_new(&s, m, &sp, NULL)) {
        if (!gpt_eval(s, ids, N_TEXT, NULL)) collect(s, o);
        gpt_session_free(s);
    }
    gpt_model_free(m);
    return r;
}

#define PASS ((1u << ON_POLL) | (1u << ON_TRACE) | (1u << ON_RUN_BEFORE) | (1u << ON_RUN_AFTER))
#define HEAP ((1u << ON_ALLOC) | (1u << ON_FREE))
#define LOAD ((1u << ON_PROGRESS) | (1u << ON_READ) | (1u << ON_RUN_BEFORE) | (1u << ON_RUN_AFTER))
static const work works[] = {
    { "gpt_eval",         NUMBERS, NULL,       work_eval,       PASS },
    { "gpt_score",        NUMBERS, NULL,       work_score,      PASS },
    { "gpt_begin",        BEGINS,  NULL,       work_begin,      HEAP },
    { "gpt_step",         WRITES,  work_begin, work_step,       PASS | 1u << ON_TEXT },
    { "gpt_generate",     WRITES,  NULL,       work_generate,   PASS | HEAP | 1u << ON_TEXT },
    { "gpt_chat_begin",   BEGINS,  NULL,       work_chat_begin, HEAP },
    { "gpt_chat",         WRITES,  NULL,       work_chat,       PASS | HEAP | 1u << ON_TEXT },
    { "gpt_session_free", FREES,   work_eval,  work_free,       1u << ON_FREE },
    { "gpt_session_new",  MAKES,   NULL,       work_new,        1u << ON_ALLOC },
    { "gpt_tokenize",     MAKES,   NULL,       work_tokenize,   HEAP },
    { "gpt_model_load_reader", MAKES, NULL,    work_load,       HEAP | LOAD }
};

/* The session after the work, and after the last token was computed. */
static void collect(gpt_session *s, outcome *o) {
    gpt_session_info info;
    const gpt_token *t = gpt_session_tokens(s, &o->n_token);
    const float *z;
    gpt_error err;
    memcpy(o->token, t, o->n_token * sizeof *t);
    gpt_session_info_get(s, &info);
    o->finish = info.finish;
    o->n_generated = info.n_generated;
    CHECK(gpt_eval(s, NULL, 0, &err) == GPT_OK, "%s: afterwards: %s", now.name, err.msg);
    z = gpt_logits(s);
    if (z) memcpy(o->logits, z, sizeof o->logits);
}

static void check_text_and_bits(const outcome *o) {
    const outcome *w = now.want;
    CHECK(o->n_token == w->n_token && !memcmp(o->token, w->token, w->n_token * sizeof *w->token),
          "%s: %u tokens, undisturbed %u, or others", now.name, (unsigned)o->n_token, (unsigned)w->n_token);
    CHECK(!memcmp(o->logits, w->logits, sizeof w->logits), "%s: other logits than those of undisturbed work", now.name);
    CHECK(o->text.n == w->text.n && !memcmp(o->text.p, w->text.p, w->text.n), "%s: text \"%s\", undisturbed \"%s\"", now.name,
          o->text.p, w->text.p);
}

static void check_undisturbed(const outcome *o) {
    const outcome *w = now.want;
    CHECK(o->code == w->code && o->rest == w->rest && o->finish == w->finish && o->n_generated == w->n_generated,
          "%s: the work gave code %d, finish %d, %u tokens; undisturbed code %d, finish %d, %u tokens", now.name, (int)o->code, (int)o->finish,
          (unsigned)o->n_generated, (int)w->code, (int)w->finish, (unsigned)w->n_generated);
    CHECK(!memcmp(o->score, w->score, sizeof w->score), "%s: other scores than those of undisturbed work", now.name);
    check_text_and_bits(o);
}

/* gpt_end was called from the hook. Work that was asked at the very last hook of a pass may be done. What it has left must be
 * a beginning of the undisturbed text, and the rest must follow from there as if nothing had happened. */
static void check_stopped(const work *w, gpt_session *s, outcome *o, int last) {
    const size_t n_prompt = now.want->n_token - now.want->n_generated, least = now.hook <= ON_RUN_AFTER ? now.position : 0;
    gpt_session_info info;
    gpt_error err;
    size_t n = 0, done;
    const gpt_token *t = gpt_session_tokens(s, &n);
    gpt_session_info_get(s, &info);
    if (w->kind == NUMBERS) {
        CHECK(o->code == GPT_E_CANCELLED || (last && o->code == GPT_OK), "%s: the work gave %d", now.name, (int)o->code);
        CHECK(o->code ? n % N_BATCH == 0 : n == N_TEXT, "%s: %u tokens are left", now.name, (unsigned)n);
    }
    if (w->kind == WRITES)
        CHECK(o->code == GPT_OK && (info.finish == GPT_FINISH_HOST || (last && info.finish == now.want->finish)),
              "%s: the work gave %d, finish %d", now.name, (int)o->code, (int)info.finish);
    if (w->kind == BEGINS) {                    /* refused, or begun and over */
        CHECK(o->code == GPT_E_CANCELLED || (o->code == GPT_OK && info.finish == GPT_FINISH_HOST),
              "%s: the work gave %d, finish %d", now.name, (int)o->code, (int)info.finish);
        CHECK(info.n_generated == 0 && now.heard.n == 0, "%s: %u tokens were written", now.name, (unsigned)info.n_generated);
    }
    done = n > n_prompt ? n - n_prompt : 0;
    CHECK(n <= now.want->n_token && n >= least && !memcmp(t, now.want->token, n * sizeof *t),
          "%s: %u tokens at position %u, or others", now.name, (unsigned)n, (unsigned)now.position);
    CHECK(now.heard.n <= now.want->text.n && !memcmp(now.heard.p, now.want->text.p, now.heard.n),
          "%s: text \"%s\" is no beginning of \"%s\"", now.name, now.heard.p, now.want->text.p);
    if (n < n_prompt)
        CHECK(gpt_eval(s, now.want->token + n, n_prompt - n, &err) == GPT_OK, "%s: going on: %s", now.name, err.msg);
    if (w->kind != NUMBERS && done < N_WRITE) {
        gpt_generate_params g = writing(N_WRITE - done);
        CHECK(gpt_generate(s, "", &g, on_text, &now.heard, &err) == GPT_OK, "%s: going on: %s", now.name, err.msg);
    }
    collect(s, o);
    o->text = now.heard;
    check_text_and_bits(o);
}

/* One piece of work, with the hook's call number `at` acting. Returns how often the hook was called. */
static size_t run(const work *w, int at_hook, size_t at, size_t n_hook, const call *c, int who, outcome *o) {
    const size_t live = n_live;
    memset(o, 0, sizeof *o);
    memset(&now.heard, 0, sizeof now.heard);
    now.what = c;
    now.hook = at_hook;
    now.who = who;
    now.at = at;
    now.n = now.position = 0;
    now.self = now.other = NULL;
    if (who != ITSELF) prepare_other();
    if (w->kind != MAKES) now.self = session(1);
    if (w->before) CHECK(w->before(now.self, o) == GPT_OK, "%s: the work cannot begin", now.name);
    now.armed = 1;
    o->code = w->go(now.self, o);
    now.armed = 0;
    if (now.self && w->kind != FREES) {
        if (w->kind == BEGINS && o->code == GPT_OK) o->rest = steps(now.self);
        if (c && c->kind == ENDS && who != OTHER) check_stopped(w, now.self, o, at == n_hook && at_hook <= ON_RUN_AFTER);
        else collect(now.self, o);
        gpt_session_free(now.self);
    }
    o->text = now.heard;
    gpt_session_free(now.other);
    CHECK(n_live == live, "%s: %ld blocks too many or few", now.name, (long)n_live - (long)live);
    n_live = live;
    return now.n;
}

/* ---- The product --------------------------------------------------------------------------------------------------- */

static int applies(const work *w, const call *c, int who) {
    if (c->kind == OF_MODEL) return who == ITSELF;
    if (w->kind == MAKES) return who == OTHER;
    return 1;
}

static unsigned cases, pairs;
static const char *filter;                      /* only cases whose name contains it; NULL: all */

static void one_case(const work *w, int at_hook, size_t at, size_t n_hook, const call *c, int who) {
    outcome o;
    snprintf(now.name, sizeof now.name, "%s, %s %u of %u: %s %s", w->name, hook_name[at_hook], (unsigned)at, (unsigned)n_hook,
             c->name, c->kind == OF_MODEL ? "on the model" : who_name[who]);
    if (filter && !strstr(now.name, filter)) return;
    cases++;
    CHECK(run(w, at_hook, at, n_hook, c, who, &o) >= at, "%s: the hook was not called so often", now.name);
    if (w->kind == FREES) CHECK(o.code == GPT_OK, "%s: code %d", now.name, (int)o.code);
    else if (c->kind != ENDS || who == OTHER) check_undisturbed(&o);
}

/* From the hook's middle call; on the session at work from its first and last one too. */
static void every_call(const work *w, int at_hook, size_t n_hook) {
    const size_t middle = (n_hook + 1) / 2;
    size_t i;
    int who;
    for (i = 0; i < N_CALL; i++) for (who = ITSELF; who <= NESTED; who++) {
        if (!applies(w, &calls[i], who)) continue;
        pairs++;
        one_case(w, at_hook, middle, n_hook, &calls[i], who);
        if (who != ITSELF || calls[i].kind == OF_MODEL) continue;
        if (middle > 1) one_case(w, at_hook, 1, n_hook, &calls[i], who);
        if (middle < n_hook) one_case(w, at_hook, n_hook, n_hook, &calls[i], who);
    }
}

static void every_hook(const work *w) {
    static outcome want;
    gpt_session *s;
    size_t i, n;
    int k;
    gpt_error err;
    for (k = 0; k < N_HOOK; k++) {
        if (!(w->hooks >> k & 1)) continue;
        now.want = NULL;
        snprintf(now.name, sizeof now.name, "%s, undisturbed", w->name);
        n = run(w, k, 0, 0, NULL, ITSELF, &want);
        CHECK(want.code == GPT_OK && want.rest == GPT_OK && n > 0, "%s: code %d, then code %d, hook %s called %u times", now.name,
              (int)want.code, (int)want.rest, hook_name[k], (unsigned)n);
        CHECK(w->kind == NUMBERS || w->kind == FREES || w->kind == MAKES || (want.text.n && want.n_generated == N_WRITE),
              "%s: %u tokens, text \"%s\"", now.name, (unsigned)want.n_generated, want.text.p);
        if (w->kind == FREES) { want.n_token = N_TEXT; memcpy(want.token, ids, sizeof ids); }
        s = session(0);
        for (i = 0; i < want.n_token && w->kind != MAKES; i++) {
            CHECK(gpt_eval(s, want.token + i, 1, &err) == GPT_OK, "%s: %s", now.name, err.msg);
            memcpy(row[i + 1], gpt_logits(s), sizeof row[0]);
        }
        gpt_session_free(s);
        if (w->kind != FREES && w->kind != MAKES)
            CHECK(!memcmp(row[want.n_token], want.logits, sizeof want.logits), "%s: other bits than token by token", now.name);
        now.want = &want;
        if (n) every_call(w, k, n);
    }
}

/* ---- NULL ---------------------------------------------------------------------------------------------------------- */

static gpt_session *null_s;
static float        null_lp[4];

static int is_arg(gpt_result r, const gpt_error *err) { return r == GPT_E_ARG && (!err || (err->code == r && err->msg[0])); }
static int is_zero(const void *p, size_t n) {
    const unsigned char *b = (const unsigned char *)p;
    while (n && !b[n - 1]) n--;
    return n == 0;
}

static int null_load(gpt_error *err) {
    gpt_model *m = model;
    return is_arg(gpt_model_load(NULL, "x", NULL, err), err) && is_arg(gpt_model_load(&m, NULL, NULL, err), err) && !m;
}
static int null_load_memory(gpt_error *err) {
    gpt_model *m = model;
    return is_arg(gpt_model_load_memory(NULL, file.file.p, file.file.n, NULL, err), err) &&
           is_arg(gpt_model_load_memory(&m, NULL, 9, NULL, err), err) && !m;
}
static int null_load_reader(gpt_error *err) {
    gpt_reader from = { NULL, NULL, 64 };
    gpt_model *m = model;
    return is_arg(gpt_model_load_reader(NULL, &from, 1, NULL, err), err) &&
           is_arg(gpt_model_load_reader(&m, NULL, 1, NULL, err), err) && !m &&
           is_arg(gpt_model_load_reader(&m, &from, 1, NULL, err), err);
}
static int null_model_free(gpt_error *err) { (void)err; gpt_model_free(NULL); return 1; }
static int null_model_info(gpt_error *err) {
    gpt_model_info i;
    (void)err;
    memset(&i, 0xAA, sizeof i);
    gpt_model_info_get(NULL, &i);
    return is_zero(&i, sizeof i);
}
static int null_model_info_to(gpt_error *err) {
    (void)err;
    gpt_model_info_get(model, NULL);
    gpt_model_info_get(NULL, NULL);
    return 1;
}
static int null_tokenize(gpt_error *err) {
    gpt_token id[4];
    size_t n = 9;
    if (!is_arg(gpt_tokenize(NULL, "a", 1, 0, id, 4, &n, err), err) || n) return 0;
    n = 9;
    if (!is_arg(gpt_tokenize(model, NULL, 1, 0, id, 4, &n, err), err) || n) return 0;
    return is_arg(gpt_tokenize(model, "a", 1, 0, NULL, 4, &n, err), err) &&
           gpt_tokenize(model, NULL, 0, 0, NULL, 0, &n, err) == GPT_OK &&
           gpt_tokenize(model, "a", 1, 0, id, 4, NULL, err) == GPT_OK;
}
static int null_detokenize(gpt_error *err) {
    char text[4];
    (void)err;
    return gpt_detokenize(NULL, ids, 2, 0, text, 4) == 0 && gpt_detokenize(NULL, NULL, 0, 0, NULL, 0) == 0;
}
static int null_detokenize_ids(gpt_error *err) {
    char text[4];
    (void)err;
    return gpt_detokenize(model, NULL, 2, 0, text, 4) == 0 && gpt_detokenize(model, ids, 2, 0, NULL, 0) == 2;
}
static int null_token_text(gpt_error *err) {
    size_t n = 9;
    (void)err;
    return !gpt_token_text(NULL, 1, &n) && n == 0 && !gpt_token_text(NULL, 1, NULL) && gpt_token_text(model, 1, NULL);
}
static int null_token_find(gpt_error *err) {
    (void)err;
    return gpt_token_find(NULL, "a") == -1 && gpt_token_find(NULL, NULL) == -1;
}
static int null_token_find_text(gpt_error *err) { (void)err; return gpt_token_find(model, NULL) == -1; }
static int null_is_control(gpt_error *err) { (void)err; return gpt_token_is_control(NULL, 0) == 0; }
static int null_is_end(gpt_error *err) { (void)err; return gpt_token_is_end(NULL, 0) == 0; }
static int null_session_bytes(gpt_error *err) { (void)err; return gpt_session_bytes(NULL, NULL) == 0; }
static int null_work_bytes(gpt_error *err) { (void)err; return gpt_work_bytes(NULL, NULL) == 0; }
static int null_work_new(gpt_error *err) {
    gpt_work *w = null_s->w;
    return is_arg(gpt_work_new(NULL, model, NULL, err), err) && is_arg(gpt_work_new(&w, NULL, NULL, err), err) && !w;
}
static int null_work_free(gpt_error *err) { (void)err; gpt_work_free(NULL); return 1; }
static int null_work_step(gpt_error *err) { return is_arg(gpt_work_step(NULL, err), err); }
static int null_hold(gpt_error *err) { (void)err; gpt_session_hold(NULL, 1); return 1; }
static int null_hooks(gpt_error *err) { return is_arg(gpt_session_hooks(NULL, NULL, err), err); }
static int null_eval_begin(gpt_error *err) {
    return is_arg(gpt_eval_begin(NULL, ids, 1, NULL, err), err) && is_arg(gpt_eval_begin(null_s, NULL, 2, NULL, err), err);
}
static int null_freeze(gpt_error *err) { return is_arg(gpt_session_freeze(NULL, err), err); }
static int null_adapter(gpt_error *err) { return is_arg(gpt_session_adapter(NULL, NULL, 0, err), err); }
static int null_adapter_free(gpt_error *err) { (void)err; gpt_adapter_free(NULL); return 1; }
static int null_adapter_load(gpt_error *err) {
    gpt_adapter *a = NULL;
    return is_arg(gpt_adapter_load(NULL, model, "x", err), err) && is_arg(gpt_adapter_load(&a, NULL, "x", err), err) &&
        is_arg(gpt_adapter_load(&a, model, NULL, err), err) && !a;
}
static int null_adapter_load_reader(gpt_error *err) {
    gpt_adapter *a = NULL;
    return is_arg(gpt_adapter_load_reader(NULL, model, NULL, err), err) &&
        is_arg(gpt_adapter_load_reader(&a, model, NULL, err), err) && !a;
}
static int null_copy(gpt_error *err) {
    return is_arg(gpt_session_copy(NULL, null_s, 1, err), err) && is_arg(gpt_session_copy(null_s, NULL, 1, err), err);
}
static int null_save_bytes(gpt_error *err) {
    (void)err;
    return gpt_session_save_bytes(NULL, GPT_SAVE_CACHE) == 0 && gpt_session_save_bytes(null_s, 2) == 0 && gpt_session_save_bytes(null_s, -1) == 0;
}
static int null_save(gpt_error *err) {
    gpt_writer none = { NULL, NULL, 64 }, few = { NULL, NULL, 64 };
    few.user = save_room;
    return is_arg(gpt_session_save(NULL, GPT_SAVE_CACHE, &few, err), err) && is_arg(gpt_session_save(null_s, GPT_SAVE_CACHE, NULL, err), err) &&
           is_arg(gpt_session_save(null_s, GPT_SAVE_CACHE, &none, err), err) && is_arg(gpt_session_save(null_s, 2, &few, err), err) &&
           is_arg(gpt_session_save(null_s, GPT_SAVE_TOKENS, &few, err), err);
}
static int null_restore(gpt_error *err) {
    gpt_reader from = { NULL, NULL, 64 };
    from.user = save_room;
    return is_arg(gpt_session_restore(NULL, &from, err), err);
}
static int null_resume(gpt_error *err) { return is_arg(gpt_resume(NULL, NULL, NULL, NULL, err), err); }
static int null_session_new(gpt_error *err) {
    gpt_session *s = null_s;
    return is_arg(gpt_session_new(NULL, model, NULL, err), err) && is_arg(gpt_session_new(&s, NULL, NULL, err), err) && !s;
}
static int null_session_init(gpt_error *err) {
    gpt_session *s = null_s;
    if (!is_arg(gpt_session_init(NULL, model, NULL, null_lp, sizeof null_lp, err), err)) return 0;
    if (!is_arg(gpt_session_init(&s, NULL, NULL, null_lp, sizeof null_lp, err), err) || s) return 0;
    s = null_s;
    return is_arg(gpt_session_init(&s, model, NULL, NULL, 1000, err), err) && !s;
}
static int null_session_free(gpt_error *err) { (void)err; gpt_session_free(NULL); return 1; }
static int null_reset(gpt_error *err) { (void)err; gpt_session_reset(NULL); return 1; }
static int null_rewind(gpt_error *err) { return is_arg(gpt_session_rewind(NULL, 0, err), err); }
static int null_tokens(gpt_error *err) {
    size_t n = 9;
    (void)err;
    return !gpt_session_tokens(NULL, &n) && n == 0 && !gpt_session_tokens(NULL, NULL) && gpt_session_tokens(null_s, NULL);
}
static int null_info(gpt_error *err) {
    gpt_session_info i;
    (void)err;
    memset(&i, 0xAA, sizeof i);
    gpt_session_info_get(NULL, &i);
    return is_zero(&i, sizeof i);
}
static int null_info_to(gpt_error *err) {
    (void)err;
    gpt_session_info_get(null_s, NULL);
    gpt_session_info_get(NULL, NULL);
    return 1;
}
static int null_eval(gpt_error *err) {
    return is_arg(gpt_eval(NULL, ids, 1, err), err) && is_arg(gpt_eval(NULL, NULL, 0, err), err) &&
           is_arg(gpt_eval(null_s, NULL, 2, err), err);
}
static int null_score(gpt_error *err) {
    return is_arg(gpt_score(NULL, ids, 1, null_lp, err), err) && is_arg(gpt_score(null_s, NULL, 2, null_lp, err), err) &&
           is_arg(gpt_score(null_s, ids, 2, NULL, err), err);
}
static int null_logits(gpt_error *err) { (void)err; return !gpt_logits(NULL); }
static int null_sample(gpt_error *err) { (void)err; return gpt_sample(NULL, NULL) == -1; }
static int null_generate(gpt_error *err) { return is_arg(gpt_generate(NULL, "a", NULL, NULL, NULL, err), err); }
static int null_begin(gpt_error *err) { return is_arg(gpt_begin(NULL, "a", NULL, NULL, NULL, err), err); }
static int null_step(gpt_error *err) { return is_arg(gpt_step(NULL, err), err); }
static int null_end(gpt_error *err) { (void)err; gpt_end(NULL); return 1; }
static int null_chat_family(gpt_error *err) { (void)err; return !gpt_chat_family(NULL); }

static const gpt_message no_role[] = { { NULL, "a", NULL } }, no_content[] = { { "user", NULL, NULL } };

static int null_chat_format(gpt_error *err) {
    char text[8];
    size_t n = 9;
    return gpt_chat_format(NULL, hello, 3, &turns, text, 8, &n, err) == GPT_OK && n == 19 &&
           is_arg(gpt_chat_format(model, NULL, 1, &turns, text, 8, &n, err), err) &&
           is_arg(gpt_chat_format(model, hello, 3, &turns, NULL, 8, &n, err), err) &&
           is_arg(gpt_chat_format(model, hello, 3, &turns, text, 8, NULL, err), err) &&
           is_arg(gpt_chat_format(model, no_role, 1, &turns, text, 8, &n, err), err) &&
           is_arg(gpt_chat_format(model, no_content, 1, &turns, text, 8, &n, err), err);
}
static int null_chat_tokenize(gpt_error *err) {
    gpt_token id[8];
    size_t n = 9;
    return is_arg(gpt_chat_tokenize(NULL, hello, 3, &turns, id, 8, &n, err), err) && n == 0 &&
           is_arg(gpt_chat_tokenize(model, NULL, 1, &turns, id, 8, &n, err), err) &&
           is_arg(gpt_chat_tokenize(model, hello, 3, &turns, NULL, 8, &n, err), err) &&
           is_arg(gpt_chat_tokenize(model, hello, 3, &turns, id, 8, NULL, err), err) &&
           is_arg(gpt_chat_tokenize(model, no_role, 1, &turns, id, 8, &n, err), err);
}
static int null_chat(gpt_error *err) {
    return is_arg(gpt_chat(NULL, hello, 3, &turns, NULL, NULL, NULL, err), err) &&
           is_arg(gpt_chat(null_s, NULL, 1, &turns, NULL, NULL, NULL, err), err) &&
           is_arg(gpt_chat(null_s, no_content, 1, &turns, NULL, NULL, NULL, err), err);
}
static int null_chat_begin(gpt_error *err) {
    return is_arg(gpt_chat_begin(NULL, hello, 3, &turns, NULL, NULL, NULL, err), err) &&
           is_arg(gpt_chat_begin(null_s, NULL, 1, &turns, NULL, NULL, NULL, err), err) &&
           is_arg(gpt_chat_begin(null_s, no_role, 1, &turns, NULL, NULL, NULL, err), err);
}

static int null_constraint(gpt_error *err) {
    gpt_constraint_params p;
    gpt_constraint *c = (gpt_constraint *)(void *)err;
    memset(&p, 0, sizeof p);
    if (!is_arg(gpt_constraint_new(NULL, model, &p, err), err) || !is_arg(gpt_constraint_new(&c, model, NULL, err), err) || c) return 0;
    if (!is_arg(gpt_constraint_new(&c, model, &p, err), err)) return 0;         /* of nothing */
    p.json = 1;
    p.gbnf = "root ::= [a]";
    if (!is_arg(gpt_constraint_new(&c, model, &p, err), err)) return 0;         /* of two things */
    p.gbnf = NULL;
    return !gpt_constraint_new(&c, NULL, &p, err) && is_arg(gpt_constraint_check(NULL, "1", 1, NULL, err), err) &&
           is_arg(gpt_constraint_check(c, NULL, 1, NULL, err), err) && !gpt_constraint_check(c, "1", 1, NULL, err) &&
           (gpt_constraint_free(c), gpt_constraint_free(NULL), 1);
}
static int null_json(gpt_error *err) {
    (void)err;
    return gpt_json_get(NULL, 0, "", NULL, 0, NULL) == -1 && gpt_json_get("1", 1, NULL, NULL, 0, NULL) == -1 &&
           gpt_json_get("1", 1, "", NULL, 1, NULL) == -1 && gpt_json_get("1", 1, "", NULL, 0, NULL) == 'n';
}

static const struct { const char *name; int (*right)(gpt_error *err); } nulls[] = {
    { "gpt_constraint_new, check", null_constraint }, { "gpt_json_get", null_json },
    { "gpt_model_load", null_load }, { "gpt_model_load_memory", null_load_memory },
    { "gpt_model_load_reader", null_load_reader }, { "gpt_model_free", null_model_free },
    { "gpt_model_info_get", null_model_info }, { "gpt_model_info_get, info", null_model_info_to },
    { "gpt_tokenize", null_tokenize }, { "gpt_detokenize", null_detokenize },
    { "gpt_detokenize, ids", null_detokenize_ids }, { "gpt_token_text", null_token_text },
    { "gpt_token_find", null_token_find }, { "gpt_token_find, text", null_token_find_text },
    { "gpt_token_is_control", null_is_control }, { "gpt_token_is_end", null_is_end },
    { "gpt_session_bytes", null_session_bytes }, { "gpt_session_new", null_session_new },
    { "gpt_work_bytes", null_work_bytes }, { "gpt_work_new", null_work_new }, { "gpt_work_free", null_work_free },
    { "gpt_work_step", null_work_step }, { "gpt_session_hold", null_hold }, { "gpt_session_hooks", null_hooks },
    { "gpt_eval_begin", null_eval_begin }, { "gpt_session_freeze", null_freeze }, { "gpt_session_copy", null_copy },
    { "gpt_session_adapter", null_adapter }, { "gpt_adapter_free", null_adapter_free },
    { "gpt_adapter_load", null_adapter_load }, { "gpt_adapter_load_reader", null_adapter_load_reader },
    { "gpt_session_save_bytes", null_save_bytes }, { "gpt_session_save", null_save },
    { "gpt_session_restore", null_restore }, { "gpt_resume", null_resume },
    { "gpt_session_init", null_session_init }, { "gpt_session_free", null_session_free },
    { "gpt_session_reset", null_reset }, { "gpt_session_rewind", null_rewind },
    { "gpt_session_tokens", null_tokens }, { "gpt_session_info_get", null_info },
    { "gpt_session_info_get, info", null_info_to }, { "gpt_eval", null_eval }, { "gpt_score", null_score },
    { "gpt_logits", null_logits }, { "gpt_sample", null_sample }, { "gpt_generate", null_generate },
    { "gpt_begin", null_begin }, { "gpt_step", null_step }, { "gpt_end", null_end },
    { "gpt_chat_family", null_chat_family }, { "gpt_chat_format", null_chat_format },
    { "gpt_chat_tokenize", null_chat_tokenize }, { "gpt_chat", null_chat },
    { "gpt_chat_begin", null_chat_begin }
};

static void test_null(void) {
    gpt_error err;
    uint64_t before;
    size_t i;
    int with;
    null_s = session(0);
    CHECK(gpt_eval(null_s, ids, 3, &err) == GPT_OK, "%s", err.msg);
    before = digest(null_s);
    for (i = 0; i < sizeof nulls / sizeof *nulls; i++) for (with = 0; with < 2; with++) {
        snprintf(now.name, sizeof now.name, "NULL: %s%s", nulls[i].name, with ? "" : ", err too");
        if (filter && !strstr(now.name, filter)) continue;
        CHECK(nulls[i].right(with ? &err : NULL), "%s: not what it must answer", now.name);
        CHECK(digest(null_s) == before, "%s: a session was changed", now.name);
    }
    gpt_session_free(null_s);
}

/* What each call gives outside of hooks; every test compares with it. */
static void outside_of_hooks(void) {
    size_t i;
    for (i = 0; i < N_CALL; i++) {
        snprintf(now.name, sizeof now.name, "%s, outside of hooks", calls[i].name);
        prepare_other();
        make(&calls[i], now.other, &quiet[i]);
        CHECK(quiet[i].code == (strcmp(calls[i].name, "gpt_step") ? GPT_OK : GPT_MORE), "%s: code %d (%s)", now.name,
              (int)quiet[i].code, quiet[i].msg);
        gpt_session_free(now.other);
        now.other = NULL;
    }
}

static void one_work(void) { every_hook(&works[test_at]); }

/* A test for each work, and one for NULL. */
int main(int argc, char **argv) {
    enum { N_WORK = sizeof works / sizeof *works };
    static test tests[N_WORK + 2];
    size_t i;
    if (argc > 2 && !strcmp(argv[1], "--case")) { filter = argv[2]; argv += 2; argc -= 2; }
    for (i = 0; i < N_WORK; i++) { tests[i].name = works[i].name; tests[i].run = one_work; }
    tests[N_WORK].name = "NULL";
    tests[N_WORK].run = test_null;
    load_model();
    outside_of_hooks();
    test_run(tests, argc, argv);
    printf("unit_reentry: %u pairs of a call and a hook, %u cases\n", pairs, cases);
    gpt_model_free(model);
    CHECK(n_live == 0, "%u blocks left", (unsigned)n_live);
    gb_free(&file);
    gb_free(&big_file);
    return test_report("unit_reentry");
}
