/* Memory: what loading a file, a session and taking a text apart may take, in proportion to the file and to the text, and
 * that nothing else takes any. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include "test.h"
#include "gguf_builder.h"

/* ---- Memory that counts its bytes ------------------------------------------------------------------------------------ */

typedef struct heap { size_t n, live, live_blocks, peak, largest; } heap;

static void *heap_alloc(void *user, size_t n) {
    heap *h = (heap *)user;
    size_t *p = (size_t *)malloc(n + 64);
    if (!p) return NULL;
    p[0] = n;
    h->n++;
    h->live += n;
    h->live_blocks++;
    if (n > h->largest) h->largest = n;
    if (h->live > h->peak) h->peak = h->live;
    return (char *)p + 64;
}

static void heap_free(void *user, void *p) {
    heap *h = (heap *)user;
    size_t *head = (size_t *)(void *)((char *)p - 64);
    h->live -= head[0];
    h->live_blocks--;
    free(head);
}

static gpt_model_params params_on(heap *h) {
    gpt_model_params p;
    memset(&p, 0, sizeof p);
    memset(h, 0, sizeof *h);
    p.alloc.alloc = heap_alloc;
    p.alloc.free = heap_free;
    p.alloc.user = h;
    p.n_threads = 1;
    return p;
}

static size_t read_bytes(void *user, uint64_t offset, void *dst, size_t n) {
    memcpy(dst, (const unsigned char *)user + (size_t)offset, n);
    return n;
}

static gpt_session_params session_of(uint32_t n_ctx, uint32_t n_batch, gpt_kv kv) {
    gpt_session_params p;
    memset(&p, 0, sizeof p);
    p.n_ctx = n_ctx; p.n_batch = n_batch; p.kv = kv;
    p.n_threads = p.beyond_training = 1;
    return p;
}

/* ---- Models of any shape, their weights zero ------------------------------------------------------------------------- */

typedef struct shape {
    const char *name, *arch;
    uint32_t    type;               /* of the matrices */
    uint32_t    D, V, H, KV, d_k, d_v, F, X, used, E, Z;   /* X experts of width E in layer 1, Z: a shared one; F: layer 0 */
    uint32_t    key_F, key_X, key_E;    /* what the keys say instead, not 0 */
    const char *without;            /* this tensor is left out */
    gpt_result  want;               /* of loading, and what the message names */
    const char *names;
} shape;

static void tensor(gb *g, const shape *s, const char *name, uint32_t type, uint32_t d0, uint32_t d1, uint32_t d2) {
    const gpti_format *f = gpti_format_find(type);
    if (s->without && !strcmp(name, s->without)) return;
    gb_tensor(g, name, type, d2 > 1 ? 3 : d1 > 1 ? 2 : 1, d0, d1, d2, 1, NULL, (size_t)d0 * d1 * d2 / f->block_len * f->block_bytes);
}

static void key(gb *g, const shape *s, const char *name, uint32_t v) {
    char text[64];
    snprintf(text, sizeof text, "%s.%s", s->arch, name);
    gb_kv_u32(g, text, v);
}

static void layer(gb *g, const shape *s, int i) {
    const struct { const char *name; uint32_t type, d0, d1, d2; int when; } rows[] = {
        { "attn_norm", GB_F32, s->D, 1, 1, 1 },             { "ffn_norm", GB_F32, s->D, 1, 1, 1 },
        { "attn_q", s->type, s->D, s->H * s->d_k, 1, 1 },   { "attn_k", s->type, s->D, s->KV * s->d_k, 1, 1 },
        { "attn_v", s->type, s->D, s->KV * s->d_v, 1, 1 },  { "attn_output", s->type, s->H * s->d_v, s->D, 1, 1 },
        { "ffn_gate", s->type, s->D, s->F, 1, !i },         { "ffn_up", s->type, s->D, s->F, 1, !i },
        { "ffn_down", s->type, s->F, s->D, 1, !i },         { "ffn_gate_inp", s->type, s->D, s->X, 1, i },
        { "ffn_gate_exps", s->type, s->D, s->E, s->X, i },  { "ffn_up_exps", s->type, s->D, s->E, s->X, i },
        { "ffn_down_exps", s->type, s->E, s->D, s->X, i },  { "ffn_gate_inp_shexp", s->type, s->D, 1, 1, i && s->Z },
        { "ffn_gate_shexp", s->type, s->D, s->Z, 1, i && s->Z },   { "ffn_up_shexp", s->type, s->D, s->Z, 1, i && s->Z },
        { "ffn_down_shexp", s->type, s->Z, s->D, 1, i && s->Z }
    };
    char name[64];
    size_t k;
    for (k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", s->F ? i : 0, rows[k].name);
        if (rows[k].when) tensor(g, s, name, rows[k].type, rows[k].d0, rows[k].d1, rows[k].d2);
    }
}

static const unsigned char *build(gb *g, const shape *s, int tensors, size_t *n) {
    uint32_t F = s->key_F ? s->key_F : s->F, X = s->key_X ? s->key_X : s->X, E = s->key_E ? s->key_E : s->E;
    gb_init(g, 3, 0);
    gb_kv_str(g, "general.architecture", s->arch);
    key(g, s, "context_length", 4096);
    key(g, s, "embedding_length", s->D);
    key(g, s, "block_count", s->F && s->E ? 2 : 1);
    { char k[64]; snprintf(k, sizeof k, "%s.attention.layer_norm_rms_epsilon", s->arch); gb_kv_f32(g, k, 1e-5f); }
    key(g, s, "vocab_size", s->V);
    key(g, s, "attention.head_count", s->H);
    key(g, s, "attention.head_count_kv", s->KV);
    key(g, s, "attention.key_length", s->d_k);
    key(g, s, "attention.value_length", s->d_v);
    key(g, s, "rope.dimension_count", strcmp(s->arch, "llama") ? 0 : s->d_k);
    if (F) key(g, s, "feed_forward_length", F);
    if (X) {
        key(g, s, "expert_count", X);
        key(g, s, "expert_used_count", s->used ? s->used : X);
        key(g, s, "expert_feed_forward_length", E);
        if (s->Z || s->key_E) key(g, s, "expert_shared_feed_forward_length", s->Z ? s->Z : E);
    }
    if (tensors) {
        tensor(g, s, "token_embd.weight", s->type, s->D, s->V, 1);
        tensor(g, s, "output_norm.weight", GB_F32, s->D, 1, 1);
        if (s->F) layer(g, s, 0);
        if (s->E) layer(g, s, 1);
    }
    return gb_finish(g, n);
}

enum { M = 1 << 20, GB_Q2_K = 10 };
static const shape shapes[] = {         /* every width that a session has rows of, as wide as a file of some MB can have it */
    { "a small dense model", "llama", GB_F32, 32, 40, 4, 2, 8, 8, 48, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "a wide feed-forward", "llama", GB_F16, 1, 5, 1, 1, 2, 2, M, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "the same, quantised", "llama", GB_Q2_K, 256, 5, 1, 1, 2, 256, M / 16, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "wide queries", "llama", GB_F16, 1, 5, 4096, 1, 256, 1, 1, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "wide keys", "llama", GB_F16, 1, 5, 4096, 4096, 256, 1, 1, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "wide values", "llama", GB_F16, 1, 5, 4096, 4096, 2, 256, 1, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "a wide stream", "llama", GB_F16, M / 4, 2, 1, 1, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "a large vocabulary", "llama", GB_F16, 1, M, 1, 1, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "many narrow experts", "llama", GB_F16, 8, 5, 1, 1, 2, 1, 0, 4096, 4096, 1, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "two wide experts", "llama", GB_F16, 64, 5, 1, 1, 2, 1, 0, 2, 2, M / 64, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "a wide shared expert", "llama", GB_F16, 64, 5, 1, 1, 2, 1, 0, 2, 1, 4, M / 64, 0, 0, 0, NULL, GPT_OK, NULL },
    { "all of them experts, beside a wide layer", "llama", GB_F16, 2, 5, 1, 1, 2, 1, M / 4, 1024, 1024, 1, 0, 0, 0, 0, NULL, GPT_E_UNSUPPORTED, "llama.expert_used_count" },
    { "all of them experts, beside a wide shared one", "llama", GB_F16, 2, 5, 1, 1, 2, 1, 0, 1024, 1024, 1, M / 4, 0, 0, 0, NULL, GPT_E_UNSUPPORTED, "llama.expert_used_count" },
    { "all of them experts, beside wide attention", "llama", GB_F16, 2, 5, 4096, 1, 2, 64, 0, 1024, 1024, 1, 0, 0, 0, 0, NULL, GPT_E_UNSUPPORTED, "llama.expert_used_count" },
    { "half of the experts, beside a wide layer", "llama", GB_Q2_K, 256, 5, 1, 1, 2, 256, M / 64, 90, 45, 256, 0, 0, 0, 0, NULL, GPT_OK, NULL },
    { "a feed-forward length that no layer has", "llama", GB_F32, 2, 5, 1, 1, 2, 2, 0, 2, 1, 1, 0, M, 0, 0, NULL, GPT_OK, NULL },
    { "expert keys of an architecture without experts", "phi3", GB_F32, 32, 5, 1, 1, 32, 32, 1, 0, 0, 0, 0, 0, 4096, M, NULL, GPT_OK, NULL },
    { "expert keys without experts", "llama", GB_F32, 32, 5, 1, 1, 32, 32, 1, 0, 0, 0, 0, 0, 4096, M, NULL, GPT_E_SHAPE, "llama.expert_count" },
    { "experts without a router", "llama", GB_F32, 32, 5, 1, 1, 32, 32, 0, 4, 2, 8, 0, 0, 0, 0, "blk.0.ffn_gate_inp.weight", GPT_E_SHAPE, "blk.0" },
    { "no queries", "llama", GB_F16, 1, 5, 4096, 1, 256, 1, 1, 0, 0, 0, 0, 0, 0, 0, "blk.0.attn_q.weight", GPT_E_SHAPE, "attn_q" },
    { "no up", "llama", GB_F16, 1, 5, 1, 1, 2, 1, M, 0, 0, 0, 0, 0, 0, 0, "blk.0.ffn_up.weight", GPT_E_SHAPE, "ffn_up" }
};

/* All sessions that the parameters of a kind allow: within the bound, and the same from the header alone. */
static void check_sessions(const char *what, const gpt_model *m, const gpt_model *head, size_t file_bytes) {
    static const uint32_t n_ctx[] = { 0, 1, 100, 4096, 50000 }, n_batch[] = { 0, 1, 16, 1024 };
    size_t i, j, k;
    for (i = 0; i < 5; i++) for (j = 0; j < 4; j++) for (k = 0; k < 4; k++) {
        gpt_session_params p = session_of(n_ctx[i], n_batch[j], (gpt_kv)k);
        size_t n = gpt_session_bytes(m, &p);
        CHECK(n > 0 && gpt_session_bytes(head, &p) == n, "%s: %lu bytes, %lu from the header", what, (unsigned long)n, (unsigned long)gpt_session_bytes(head, &p));
        CHECK((double)n <= session_bound(m, file_bytes, &p), "%s: n_ctx %lu, n_batch %lu, kv %d: %lu bytes, more than the %.0f that a file of %lu bounds", what,
              (unsigned long)p.n_ctx, (unsigned long)p.n_batch, (int)p.kv, (unsigned long)n, session_bound(m, file_bytes, &p), (unsigned long)file_bytes);
    }
}

/* A session that was refused has taken nothing. */
static void check_refused(const char *what, gpt_model *m, heap *h, const char *says) {
    gpt_session *s = NULL;
    gpt_error err;
    size_t n = h->n;
    CHECK(gpt_session_new(&s, m, NULL, &err) == GPT_E_STATE && !s && strstr(err.msg, says), "%s: %s", what, err.msg);
    CHECK(h->n == n, "%s: memory was taken for a session that is refused", what);
}

static void test_sessions(void) {
    size_t i, n;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        heap h, hh;
        gpt_model_params mp = params_on(&h), hp = params_on(&hh);
        gpt_model *m = NULL, *head = NULL;
        gpt_error err;
        gb g;
        const unsigned char *p = build(&g, s, 1, &n);
        hp.header_only = mp.mapped = 1;
        CHECK(gpt_model_load_memory(&m, p, n, &mp, &err) == s->want && (!s->names || strstr(err.msg, s->names)), "%s: %s", s->name, err.msg);
        CHECK(gpt_model_load_memory(&head, p, n, &hp, &err) == GPT_OK && !err.msg[0], "%s, header only: %s", s->name, err.msg);
        if (m && head) check_sessions(s->name, m, head, n);
        if (head) check_refused(s->name, head, &hh, "header_only");
        if (!m && head) CHECK(gpt_session_bytes(head, NULL) == 0, "%s: refused, but its header gives a session of %lu bytes", s->name, (unsigned long)gpt_session_bytes(head, NULL));
        if (m && n < 100000) {          /* and it computes */
            gpt_session_params sp = session_of(16, 0, GPT_KV_F16);
            gpt_session *session = NULL;
            gpt_token ids[3] = { 0, 1, 2 };
            CHECK(!gpt_session_new(&session, m, &sp, &err) && !gpt_eval(session, ids, 3, &err) && gpt_logits(session), "%s: %s", s->name, err.msg);
            gpt_session_free(session);
        }
        gpt_model_free(m);
        gpt_model_free(head);
        gb_free(&g);
        p = build(&g, s, 0, &n);        /* the keys alone: a vocabulary has no sessions */
        head = NULL;
        CHECK(gpt_model_load_memory(&head, p, n, &hp, &err) == GPT_OK, "%s, keys only: %s", s->name, err.msg);
        if (head) {
            CHECK(gpt_session_bytes(head, NULL) == 0, "%s, keys only: a session of %lu bytes", s->name, (unsigned long)gpt_session_bytes(head, NULL));
            check_refused(s->name, head, &hh, "header_only");
        }
        gpt_model_free(head);
        CHECK(h.live == 0 && hh.live == 0, "%s: memory left", s->name);
        gb_free(&g);
    }
}

/* Small files load in little memory: what their tensors take in panels of 16 rows, the tables, and one strip on the way. */
static void test_loading(void) {
    size_t i, n;
    for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        gpt_error err;
        gpt_reader rd;
        gb g;
        const unsigned char *p = build(&g, s, 1, &n);
        rd.read = read_bytes; rd.user = (void *)p; rd.size = n;
        if (s->want == GPT_OK) {
            CHECK(gpt_model_load_reader(&m, &rd, 1, &mp, &err) == GPT_OK, "%s: %s", s->name, err.msg);
            CHECK(h.peak < 40 * n + (221 << 10), "%s: %lu bytes to load a file of %lu", s->name, (unsigned long)h.peak, (unsigned long)n);
            CHECK(n > 10000 || h.largest <= (size_t)BOUND_THREAD, "%s: %lu bytes at once for a file of %lu", s->name, (unsigned long)h.largest, (unsigned long)n);
        }
        gpt_model_free(m);
        CHECK(h.live == 0, "%s: memory left", s->name);
        gb_free(&g);
    }
}

/* Whole files of the kinds above, where they are at hand. */
static void test_files(void) {
    static const char *const files[] = { "ses_ff_1k", "ses_experts_noarch" };
    size_t i;
    for (i = 0; i < 2; i++) {
        char path[64];
        gpt_model *m = NULL;
        gpt_session_params p = session_of(0, 0, GPT_KV_F16);
        gpt_model_info info;
        FILE *f;
        snprintf(path, sizeof path, "../shared/cases/gguf/%s.gguf", files[i]);
        f = fopen(path, "rb");
        if (!f) continue;
        fclose(f);
        if (gpt_model_load(&m, path, NULL, NULL)) continue;         /* refused is right too */
        gpt_model_info_get(m, &info);
        CHECK((double)gpt_session_bytes(m, &p) <= session_bound(m, info.file_bytes, &p), "%s: a session of %lu bytes", path, (unsigned long)gpt_session_bytes(m, &p));
        gpt_model_free(m);
    }
}

/* ---- Taking a text apart --------------------------------------------------------------------------------------------- */

enum { N_BYTE = 256, VOCAB = N_BYTE + 8 };

/* A character map (see gpti_charsmap) that makes 300 letters of every byte but 0. */
static void charsmap(gb *g) {
    unsigned char map[4 + 4 * 1024 + 301];
    uint32_t unit[1024];
    size_t i, k;
    memset(unit, 0, sizeof unit);
    unit[0] = 256u << 10;
    for (i = 1; i < 256; i++) {
        unit[256 + i] = (uint32_t)i | 1u << 8 | 512u << 10;
        unit[768 + i] = 1u << 31;           /* the text at 0 */
    }
    memset(map, 'b', sizeof map);
    map[sizeof map - 1] = 0;
    for (i = 0; i < 4; i++) map[i] = (unsigned char)(sizeof unit >> 8 * i);
    for (k = 0; k < 1024; k++) for (i = 0; i < 4; i++) map[4 + 4 * k + i] = (unsigned char)(unit[k] >> 8 * i);
    gb_kv_array(g, "tokenizer.ggml.precompiled_charsmap", GB_U8, sizeof map);
    gb_raw(&g->kv, map, sizeof map);
}

/* A toy with a vocabulary of a family: bytes, and some control and user-defined tokens. over: a token goes on over a space, so a
 * text is one word. map: everything is replaced by something longer. */
static gpt_model *text_model(gb *g, const char *family, int over, int map, heap *h) {
    static const char *const more[] = { "<s>", "</s>", "<|im_start|>", "<|im_end|>", "S", "aa", "a a", "\xE2\x96\x81" };
    static const int32_t type[] = { 3, 3, 3, 3, 4, 1, 1, 1 };
    static const shape s = { "text", "llama", GB_F32, 8, VOCAB, 2, 1, 4, 4, 8, 0, 0, 0, 0, 0, 0, 0, NULL, GPT_OK, NULL };
    const int bpe = !strcmp(family, "gpt2");
    gpt_model_params mp = params_on(h);
    const unsigned char *p;
    gpt_model *m = NULL;
    gpt_error err;
    size_t n;
    int i, k = 0;
    build(g, &s, 1, &n);
    gb_kv_str(g, "tokenizer.ggml.model", family);
    gb_kv_str(g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, VOCAB);
    for (i = 0; i < N_BYTE; i++) {
        char t[8];
        int printed = (i > 32 && i < 127) || (i > 160 && i != 173), cp = printed ? i : 256 + k;
        k += !printed;
        if (!bpe) snprintf(t, sizeof t, "<0x%02X>", (unsigned)i);
        else if (cp < 128) snprintf(t, sizeof t, "%c", cp);
        else snprintf(t, sizeof t, "%c%c", 0xC0 | cp >> 6, 0x80 | (cp & 63));
        gb_text(g, &g->kv, t, strlen(t));
    }
    for (i = 0; i < 8; i++) {
        const char *t = i == 6 && !over ? "aaaa" : more[i];
        gb_text(g, &g->kv, t, strlen(t));
    }
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, VOCAB);
    for (i = 0; i < VOCAB; i++) gb_uint(g, &g->kv, (uint64_t)(i < N_BYTE ? bpe ? 1 : 6 : type[i - N_BYTE]), 4);
    gb_kv_array(g, "tokenizer.ggml.merges", GB_STR, 1);
    gb_text(g, &g->kv, "a a", 3);
    gb_kv_u32(g, "tokenizer.ggml.bos_token_id", N_BYTE);
    gb_kv_u32(g, "tokenizer.ggml.eos_token_id", N_BYTE + 1);
    gb_kv_bool(g, "tokenizer.ggml.add_bos_token", 1);
    gb_kv_bool(g, "tokenizer.ggml.add_space_prefix", 1);
    gb_kv_str(g, "tokenizer.chat_template", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
              "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
    if (map) charsmap(g);
    p = gb_finish(g, &n);
    CHECK(gpt_model_load_memory(&m, p, n, &mp, &err) == GPT_OK, "%s: %s", family, err.msg);
    return m;
}

/* Since `before`, no more than a text of n bytes may take was taken at any time, and all of it was given back. */
static void check_text(const char *what, heap *h, const heap *before, size_t n) {
    CHECK(h->peak - before->live <= BOUND_TEXT * n + BOUND_TEXT_MORE, "%s: %lu bytes for a text of %lu", what, (unsigned long)(h->peak - before->live), (unsigned long)n);
    CHECK(h->live == before->live && h->live_blocks == before->live_blocks, "%s: %lu bytes not given back", what, (unsigned long)(h->live - before->live));
    h->peak = h->live;
}

/* The same of a conversation: what its template may take comes on top. */
static void check_chat(const char *what, heap *h, const heap *before, size_t n) {
    CHECK(h->peak - before->live <= (BOUND_TEXT + 256) * n + (16u << 20), "%s: %lu bytes for a text of %lu", what, (unsigned long)(h->peak - before->live), (unsigned long)n);
    h->peak = h->live;
    check_text(what, h, before, n);
}

static char *make_text(int kind, size_t n) {
    char *t = (char *)malloc(n + 1);
    uint32_t seed = 7;
    size_t i, word = 1, left = 1;
    for (i = 0; t && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        t[i] = kind == 0 ? 'a' : kind == 1 ? (char)(1 + (seed >> 24) % 255) : kind == 2 ? "\xE6\x97\xA5"[i % 3] : kind == 3 ? "Sa"[i & 1] : kind == 4 ? ' ' : 'x';
        if (kind == 5 && !left--) { t[i] = ' '; left = ++word; }        /* each word longer than the one before */
    }
    if (t) t[n] = 0;
    return t;
}

static void test_text(const char *family, int over, int map) {
    static const size_t sizes[] = { 0, 1, 2, 3, 10, 100, 1000, 1639, 5000, 30000 };
    heap h, before;
    gb g;
    gpt_model *m = text_model(&g, family, over, map, &h);
    gpt_session_params tight = session_of(1u << 19, 1, GPT_KV_Q8_0), wide = session_of(300, 0, GPT_KV_F16);
    gpt_session *s[2] = { NULL, NULL };
    gpt_message msg[2] = { { "system", "aaa", NULL }, { "user", NULL, NULL } };
    gpt_error err;
    char what[80];
    size_t i, n, len, taken = 0;
    int kind, k;
    if (!m || gpt_session_new(&s[0], m, &tight, &err) || gpt_session_new(&s[1], m, &wide, &err)) { CHECK(0, "%s", err.msg); return; }
    for (kind = 0; kind < 6; kind++) for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *text = make_text(kind, sizes[i]);
        if (!text) return;
        before = h;
        h.peak = h.live;
        for (k = 0; k < 4; k++) {
            snprintf(what, sizeof what, "%s%s%s, text %d, flags %d", family, over ? " over spaces" : "", map ? " with a map" : "", kind, k);
            CHECK(!gpt_tokenize(m, text, sizes[i], (unsigned)k, NULL, 0, &n, &err), "%s: %s", what, err.msg);
            check_text(what, &h, &before, sizes[i]);
        }
        for (k = 0; k < 2; k++) {
            gpt_generate_params gp;
            memset(&gp, 0, sizeof gp);
            gp.special = k;
            snprintf(what, sizeof what, "%s%s%s, prompt %d", family, over ? " over spaces" : "", map ? " with a map" : "", kind);
            if (!gpt_begin(s[k], text, &gp, NULL, NULL, &err)) gpt_end(s[k]);
            else CHECK(k && err.code == GPT_E_CONTEXT, "%s: %s", what, err.msg);
            check_text(what, &h, &before, sizes[i]);
            gpt_session_reset(s[k]);
        }
        msg[1].content = text;
        snprintf(what, sizeof what, "%s%s%s, conversation %d", family, over ? " over spaces" : "", map ? " with a map" : "", kind);
        CHECK(!gpt_chat_format(m, msg, 2, NULL, NULL, 0, &len, &err) && len >= sizes[i], "%s: %s", what, err.msg);
        CHECK(h.peak - before.live <= (16u << 20) && h.live == before.live, "%s: gpt_chat_format takes %lu bytes", what, (unsigned long)(h.peak - before.live));
        h.peak = h.live;
        CHECK(!gpt_chat_tokenize(m, msg, 2, NULL, NULL, 0, &n, &err), "%s: %s", what, err.msg);
        check_chat(what, &h, &before, len);
        for (k = 0; k < 2; k++) {
            size_t calls = h.n;
            if (!gpt_chat_begin(s[k], msg, 2, NULL, NULL, NULL, NULL, &err)) gpt_end(s[k]);
            else CHECK(k && err.code == GPT_E_CONTEXT, "%s: %s", what, err.msg);
            taken += h.n - calls;
            check_chat(what, &h, &before, len);
            gpt_session_reset(s[k]);
        }
        free(text);
    }
    CHECK(taken > 20, "%s: memory was taken %lu times only: this tests little", family, (unsigned long)taken);
    {           /* and what computes takes none: generation, evaluation, scores, draws, rewinding */
        static const gpt_token ids[] = { 5, 6, 7, 8, 9, 10, 11 };
        gpt_sample_params sample;
        float logprob[7];
        memset(&sample, 0, sizeof sample);
        sample.temperature = 1;
        sample.top_p = 0.9f;
        before = h;
        for (k = 0; k < 2; k++) {
            CHECK(!gpt_eval(s[k], ids, 7, &err) && gpt_sample(s[k], &sample) >= 0 && !gpt_score(s[k], ids, 7, logprob, &err) &&
                  !gpt_session_rewind(s[k], 3, &err), "%s", err.msg);
            CHECK(!gpt_begin(s[k], NULL, NULL, NULL, NULL, &err), "%s", err.msg);
            for (i = 0; i < 5; i++) CHECK(gpt_step(s[k], &err) >= 0, "%s", err.msg);
            gpt_end(s[k]);
            gpt_session_reset(s[k]);
        }
        CHECK(h.n == before.n, "%s: memory was taken %lu times while computing", family, (unsigned long)(h.n - before.n));
    }
    gpt_session_free(s[0]);
    gpt_session_free(s[1]);
    gpt_model_free(m);
    CHECK(h.live_blocks == 0, "%s: %lu blocks left", family, (unsigned long)h.live_blocks);
    gb_free(&g);
}

/* A map makes a text at most 11 times as long, and a real replacement is not cut. */
static void test_map(void) {
    heap h;
    gb g;
    gpt_model *m = text_model(&g, "t5", 0, 1, &h);
    gpt_error err;
    char text[65], *back;
    gpt_token ids[1000];
    size_t n, len;
    if (!m) { gb_free(&g); return; }
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    CHECK(!gpt_tokenize(m, text, 64, 0, ids, 1000, &n, &err) && n == 11 * 64 + 1, "64 bytes give %lu tokens, expected 705", (unsigned long)n);
    if (n > 1000) n = 1000;
    len = gpt_detokenize(m, ids, n, 1, NULL, 0);
    back = (char *)calloc(len + 1, 1);
    CHECK(back && gpt_detokenize(m, ids, n, 1, back, len) == len && len == 11 * 64 && strspn(back, "b") == len, "%lu bytes come back", (unsigned long)len);
    free(back);
    gpt_model_free(m);
    gb_free(&g);
}

static void text_bpe(void)                { test_text("gpt2", 0, 0); }
static void text_sentencepiece(void)      { test_text("llama", 0, 0); }
static void text_sentencepiece_over(void) { test_text("llama", 1, 0); }
static void text_unigram(void)            { test_text("t5", 0, 0); }
static void text_unigram_over(void)       { test_text("t5", 1, 0); }
static void text_unigram_map(void)        { test_text("t5", 0, 1); }

static const test tests[] = {
    { "sessions", test_sessions }, { "loading", test_loading }, { "files", test_files },
    { "text_bpe", text_bpe }, { "text_sentencepiece", text_sentencepiece },
    { "text_sentencepiece_over", text_sentencepiece_over }, { "text_unigram", text_unigram },
    { "text_unigram_over", text_unigram_over }, { "text_unigram_map", text_unigram_map },
    { "map", test_map }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_bounds");
}
