/* Weights used where they lie: a mixture in several formats gives the same bits rearranged, as mapped, and with its experts alone
 * as mapped, by path, in parts, from memory and by a reader, with any threads, chunks, kernel set and an adapter; what is held in
 * memory; and that experts which the router does not choose are never touched. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "test.h"
#include "gguf_builder.h"
#include "adapter.h"

#ifndef BUILD_DIR
#  define BUILD_DIR "build/t"
#endif

enum { D = 256, N_VOCAB = 96, N_EXPERT = 7, N_USED = 2, N_LAYER = 2, N_TEXT = 20, N_MORE = 3, N_LOGITS = (1 + N_MORE) * N_VOCAB };
enum { BY_PATH, BY_PARTS, FROM_MEMORY, BY_READER, N_WAY };
static const char *const ways[N_WAY] = { "by path", "in parts", "from memory", "by a reader" };

static uint32_t rng(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Where blocks have half-float scales, and what these become; of MXFP4 the exponent is a byte. */
static const struct { uint32_t type; int at[2]; float scale[2]; } formats[] = {
    { 0, { -1, -1 }, { 0, 0 } }, { 1, { -1, -1 }, { 0, 0 } }, { 30, { -1, -1 }, { 0, 0 } }, { 8, { 0, -1 }, { 4e-4f, 0 } },
    { 2, { 0, -1 }, { 6e-3f, 0 } }, { 3, { 0, 2 }, { 6e-3f, -4e-2f } }, { 6, { 0, -1 }, { 3e-3f, 0 } },
    { 12, { 0, 2 }, { 2e-4f, 1e-3f } }, { 14, { 208, -1 }, { 2e-5f, 0 } }, { 39, { -1, -1 }, { 0, 0 } }
};

/* A matrix [n, n_row, n_col] of random weights */
static void matrix(gb *g, const char *name, uint64_t n_col, uint64_t n_row, uint64_t n, size_t which) {
    const gpti_format *f = gpti_format_find(formats[which].type);
    const uint64_t n_block = n_col / f->block_len * n_row * n;
    uint64_t i;
    int k;
    gb_tensor(g, name, f->type, n > 1 ? 3 : 2, n_col, n_row, n, 1, NULL, 0);
    for (i = 0; i < n_block; i++) {
        unsigned char block[256];
        const float x = ((float)rng() / 8388608.0f - 1.0f) * 0.1f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (f->type == 0) { gb_float(g, &g->data, x); continue; }
        if (f->n_scale == 0) { gb_uint(g, &g->data, f->type == 1 ? gpti_f32_f16(x) : bits >> 16, 2); continue; }
        for (k = 0; k < f->block_bytes; k++) block[k] = (unsigned char)rng();
        if (f->type == 39) block[0] = 120;
        for (k = 0; k < 2; k++) if (formats[which].at[k] >= 0)
            gpti_store_u16(block + formats[which].at[k], gpti_f32_f16(formats[which].scale[k]));
        gb_raw(&g->data, block, f->block_bytes);
    }
}

static void head(gb *g, int part, int n_part, int n_tensor, uint32_t d_ff) {
    gb_init(g, 3, 0);
    if (part == 0) {
        gb_kv_str(g, "general.architecture", "qwen3moe");
        gb_kv_u32(g, "qwen3moe.block_count", N_LAYER); gb_kv_u32(g, "qwen3moe.context_length", 64);
        gb_kv_u32(g, "qwen3moe.embedding_length", D); gb_kv_u32(g, "qwen3moe.feed_forward_length", d_ff);
        gb_kv_u32(g, "qwen3moe.expert_feed_forward_length", d_ff); gb_kv_u32(g, "qwen3moe.attention.head_count", 4);
        gb_kv_u32(g, "qwen3moe.attention.head_count_kv", 2); gb_kv_u32(g, "qwen3moe.attention.key_length", 64);
        gb_kv_u32(g, "qwen3moe.attention.value_length", 64); gb_kv_u32(g, "qwen3moe.expert_count", N_EXPERT);
        gb_kv_u32(g, "qwen3moe.expert_used_count", N_USED); gb_kv_u32(g, "qwen3moe.vocab_size", N_VOCAB);
        gb_kv_f32(g, "qwen3moe.attention.layer_norm_rms_epsilon", 1e-6f);
        gb_kv_str(g, "tokenizer.ggml.model", "no_vocab");
    }
    if (n_part == 1) return;
    gb_kv_uint(g, "split.no", GB_U16, (uint64_t)part); gb_kv_uint(g, "split.count", GB_U16, (uint64_t)n_part);
    gb_kv_uint(g, "split.tensors.count", GB_I32, (uint64_t)n_tensor);
}

/* What a file of the mixture has behind its head: layer 0 and what is of no layer, layer 1, or both. */
static void body(gb *g, int first, int last, uint32_t d_ff, int tied, size_t which) {
    char name[64];
    int i;
    if (first == 0) {
        matrix(g, "token_embd.weight", D, N_VOCAB, 1, which);
        gb_tensor_random(g, "output_norm.weight", D, 1, 0);
        if (!tied) matrix(g, "output.weight", D, N_VOCAB, 1, which);
    }
    for (i = first; i < last; i++) {
#define BLK(s) (snprintf(name, sizeof name, "blk.%d." s ".weight", i), name)
        gb_tensor_random(g, BLK("attn_norm"), D, 1, 0);
        matrix(g, BLK("attn_q"), D, 256, 1, which); matrix(g, BLK("attn_k"), D, 128, 1, which); matrix(g, BLK("attn_v"), D, 128, 1, which);
        gb_tensor_random(g, BLK("attn_q_norm"), 64, 1, 0); gb_tensor_random(g, BLK("attn_k_norm"), 64, 1, 0);
        matrix(g, BLK("attn_output"), 256, D, 1, which);
        gb_tensor_random(g, BLK("ffn_norm"), D, 1, 0);
        gb_tensor_random(g, BLK("ffn_gate_inp"), D, N_EXPERT, 0.3f);
        matrix(g, BLK("ffn_gate_exps"), D, d_ff, N_EXPERT, which); matrix(g, BLK("ffn_up_exps"), D, d_ff, N_EXPERT, which);
        matrix(g, BLK("ffn_down_exps"), d_ff, D, N_EXPERT, which);
    }
}

typedef struct bytes { const unsigned char *p; size_t n; } bytes;
static size_t read_bytes(void *user, uint64_t offset, void *dst, size_t n) {
    const bytes *b = (const bytes *)user;
    if (offset > b->n || n > b->n - offset) return 0;
    memcpy(dst, b->p + offset, n);
    return n;
}

static const char whole[] = BUILD_DIR "/unit_mapped.gguf";
static const char *const parts[2] = { BUILD_DIR "/unit_mapped-00001-of-00002.gguf", BUILD_DIR "/unit_mapped-00002-of-00002.gguf" };

static gpt_model *load(const gb *g, bytes *b, int way, int mapped, const char *kernels) {
    gpt_model_params p;
    gpt_reader r;
    gpt_model *m = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    b->p = g->file.p; b->n = g->file.n;
    p.mapped = mapped; p.kernels = kernels;
    r.read = read_bytes; r.user = b; r.size = b->n;
    if (way == FROM_MEMORY) gpt_model_load_memory(&m, b->p, b->n, &p, &err);
    else if (way == BY_READER) gpt_model_load_reader(&m, &r, 1, &p, &err);
    else gpt_model_load(&m, way == BY_PATH ? whole : parts[1], &p, &err);
    CHECK(m != NULL, "%s, mapped %d: %s", ways[way], mapped, err.msg);
    return m;
}

static int one_token;           /* a text that repeats one chooses the same experts again and again */

/* Logits after a text and after each of some tokens more */
static void run(const gpt_model *m, const gpt_adapter *a, int threads, uint32_t batch, gpt_hooks *hooks, float *out) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_token id[N_TEXT + N_MORE];
    int i;
    memset(&p, 0, sizeof p);
    memset(out, 0, N_LOGITS * sizeof *out);
    p.n_threads = threads; p.n_batch = batch; p.adapter = a; p.adapter_scale = 1.0f;
    if (hooks) p.hooks = *hooks;
    for (i = 0; i < N_TEXT + N_MORE; i++) id[i] = one_token ? 5 : (gpt_token)((i * 31 + i * i * 7 + 3) % N_VOCAB);
    CHECK(!gpt_session_new(&s, m, &p, &err), "%s", err.msg);
    if (!s) return;
    for (i = 0; i <= N_MORE; i++) {
        CHECK(!gpt_eval(s, i ? id + N_TEXT + i - 1 : id, i ? 1 : N_TEXT, &err), "%s", err.msg);
        memcpy(out + i * N_VOCAB, gpt_logits(s), N_VOCAB * sizeof *out);
    }
    gpt_session_free(s);
}

/* Bytes that a matrix takes in the block of weights */
static size_t held(const gpti_linear *l, size_t n) {
    size_t stride = 0;
    CHECK(gpti_packed_bytes(l->w.fmt, l->w.n_row, l->w.n_col, &stride), "too large");
    return (n * stride + 63) & ~(size_t)63;
}

/* Everything that experts and tables are not is rearranged, and these are where something is mapped. */
static void check_places(const gpt_model *m, const gpt_model *all, const char *what, int tied) {
    const int in_place = m->part && m->part[0].map;
    size_t less = 0;
    int i;
    for (i = 0; i < N_LAYER; i++) {
        const gpti_layer *l = &m->layer[i];
        const gpti_linear *const of[] = { &l->gate_exps, &l->up_exps, &l->down_exps, &l->q, &l->k, &l->v, &l->o, &l->router };
        size_t k;
        for (k = 0; k < 8; k++)
            CHECK(of[k]->w.packed == !(in_place && k < 3), "%s: layer %d, matrix %d: packed %d", what, i, (int)k, of[k]->w.packed);
        for (k = 0; k < 3 && in_place; k++) less += held(of[k], N_EXPERT);
    }
    CHECK(m->embd.w.packed == !(in_place && !tied) && m->head.w.packed, "%s: table packed %d, head %d", what, m->embd.w.packed, m->head.w.packed);
    if (in_place && !tied) less += held(&m->embd, 1);
    CHECK(m->info.weight_bytes + less == all->info.weight_bytes, "%s: %lu bytes in memory, expected %lu less than %lu", what,
          (unsigned long)m->info.weight_bytes, (unsigned long)less, (unsigned long)all->info.weight_bytes);
}

static void check_rows(const gpt_model *m, const gpt_model *all, const char *what) {
    static const char *const names[] = { "token_embd.weight", "blk.1.ffn_down_exps.weight", "blk.0.attn_q.weight" };
    static float a[3 * D], b[3 * D];
    gpt_tensor t;
    gpt_error err;
    size_t i;
    for (i = 0; i < 3; i++) {
        memset(a, 0, sizeof a); memset(b, 1, sizeof b);
        CHECK(!gpt_model_tensor(m, names[i], 0, 29, 3, a, &t, &err) && !gpt_model_tensor(all, names[i], 0, 29, 3, b, &t, &err), "%s", err.msg);
        CHECK(!memcmp(a, b, 3 * (size_t)t.n_col * sizeof *a), "%s: %s: other rows", what, names[i]);
    }
}

static void run_backwards(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    (void)user; (void)cost;
    while (n-- > 0) task(arg, n, n + 1, 0);
}

static void check_format(size_t which, int tied) {
    static float want[N_LOGITS], adapted[N_LOGITS], got[N_LOGITS];
    const gpti_format *f = gpti_format_find(formats[which].type);
    const uint32_t d_ff = f->n_scale ? 256 : 40;        /* 40: panels that are not full */
    gpti_kernels set[GPTI_MAX_SET];
    size_t n_set = gpti_kernels_list(set), k, n;
    gpt_adapter *a = NULL;
    gpt_model *all, *m;
    gpt_hooks hooks;
    gpt_reader r;
    gpt_error err;
    bytes b, c;
    gb g, part[2], low;
    char what[64];
    int way, mapped, i;
    head(&g, 0, 1, 0, d_ff);
    body(&g, 0, N_LAYER, d_ff, tied, which);
    CHECK(gb_write(&g, whole), "%s: cannot write", whole);
    for (i = 0; i < 2; i++) head(&part[i], i, 2, (int)g.n_tensor, d_ff);    /* the same tensors, layer 1 in a part of its own */
    all = load(&g, &b, FROM_MEMORY, 0, NULL);
    if (!all) return;
    for (k = 0; k < all->gguf.n_tensor; k++) {
        const gpti_tensor *t = &all->gguf.tensor[k];
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        gb_tensor(&part[!strncmp(name, "blk.1.", 6)], name, t->fmt->type, (uint32_t)t->n_dim, t->ne[0], t->ne[1], t->ne[2], t->ne[3],
                  g.file.p + t->offset, (size_t)t->size);
    }
    for (i = 0; i < 2; i++) { CHECK(gb_write(&part[i], parts[i]), "%s: cannot write", parts[i]); gb_free(&part[i]); }

    run(all, NULL, 1, 0, NULL, want);
    CHECK(want[0] == want[0] && fabsf(want[0]) < 1e6f && memcmp(want, want + N_VOCAB, N_VOCAB * sizeof *want), "%s: logits say nothing", f->name);
    random_adapter(&low, all, NULL, !tied, 8.0f);
    gb_finish(&low, &n);
    memset(&r, 0, sizeof r);
    r.user = low.file.p; r.size = n;
    CHECK(!gpt_adapter_load_reader(&a, all, &r, &err), "%s: %s", f->name, err.msg);
    if (a) run(all, a, 1, 0, NULL, adapted);
    CHECK(memcmp(want, adapted, sizeof want), "%s: the adapter changes nothing", f->name);
    gpt_adapter_free(a);

    for (way = 0; way < N_WAY; way++) for (mapped = 1; mapped <= 2; mapped++) {
        snprintf(what, sizeof what, "%s, %s, mapped %d", f->name, ways[way], mapped);
        m = load(&g, &c, way, mapped, NULL);
        if (!m) continue;
        if (mapped == 2) check_places(m, all, what, tied);
        check_rows(m, all, what);
        run(m, NULL, 1, 0, NULL, got);
        CHECK(!memcmp(got, want, sizeof want), "%s: other bits", what);
        run(m, NULL, 3, 7, NULL, got);
        CHECK(!memcmp(got, want, sizeof want), "%s, 3 threads, rows of 7: other bits", what);
        if (way == BY_PATH) {
            memset(&hooks, 0, sizeof hooks);
            hooks.parallel.run = run_backwards;
            run(m, NULL, 0, 1, &hooks, got);
            CHECK(!memcmp(got, want, sizeof want), "%s, piece by piece from the end: other bits", what);
            a = NULL;
            CHECK(!gpt_adapter_load_reader(&a, m, &r, &err), "%s: %s", what, err.msg);
            if (a) run(m, a, 2, 5, NULL, got);
            CHECK(!memcmp(got, adapted, sizeof want), "%s, with an adapter: other bits", what);
            gpt_adapter_free(a);
        }
        gpt_model_free(m);
        for (k = 0; way == FROM_MEMORY && k < n_set; k++) {
            if (!set[k].usable()) continue;
            m = load(&g, &c, way, mapped, set[k].name);
            if (!m) continue;
            run(m, NULL, 1, 6, NULL, got);
            CHECK(!memcmp(got, want, sizeof want), "%s, %s: other bits", what, set[k].name);
            gpt_model_free(m);
        }
    }
    gpt_model_free(all);
    gb_free(&low);
    gb_free(&g);
    remove(whole);
    for (i = 0; i < 2; i++) remove(parts[i]);
}

static void test_format(void) { check_format(test_at, 0); }
static void test_tied(void) { check_format(4, 1); }

/* ---- Experts that are not chosen lie in pages that may not be read ---- */

#if !defined(GPT_NO_MMAP) && !defined(GPT_NO_STDIO) && defined(PROT_READ) && !defined(__EMSCRIPTEN__)
static unsigned char chosen[N_LAYER][N_EXPERT];
static int note_chosen(void *user, const gpt_trace *t) {
    size_t i, e;
    (void)user;
    if (!strcmp(t->name, "experts"))
        for (i = 0; i < t->n_row; i++) for (e = 0; e < N_EXPERT; e++) if (t->data[i * t->stride + e] != 0.0f) chosen[t->layer][e] = 1;
    return 0;
}

/* The whole pages inside each expert that was not chosen; how many */
static size_t protect(const gpt_model *m, int how) {
    const uintptr_t page = 65536;
    size_t n = 0;
    int i, k;
    uint32_t e;
    for (i = 0; i < N_LAYER; i++) for (e = 0; e < N_EXPERT; e++) for (k = 0; k < 3 && !chosen[i][e]; k++) {
        const gpti_linear *l = k == 0 ? &m->layer[i].gate_exps : k == 1 ? &m->layer[i].up_exps : &m->layer[i].down_exps;
        const uintptr_t p = (uintptr_t)l->w.data + e * l->stride, first = (p + page - 1) & ~(page - 1), end = (p + l->stride) & ~(page - 1);
        if (end > first) { CHECK(!mprotect((void *)first, end - first, how), "mprotect"); n++; }
    }
    return n;
}

static void test_untouched(void) {
    static float want[N_LOGITS], got[N_LOGITS];
    gpt_model_params p;
    gpt_hooks hooks;
    gpt_model *m = NULL;
    gpt_error err;
    gpti_mem mem;
    size_t size = 0, n;
    void *map;
    gb g;
    int i;
    memset(&mem, 0, sizeof mem); memset(&p, 0, sizeof p); memset(&hooks, 0, sizeof hooks);
    head(&g, 0, 1, 0, D);
    body(&g, 0, N_LAYER, D, 0, 0);
    CHECK(gb_write(&g, whole), "%s: cannot write", whole);
    gb_free(&g);
    map = gpti_map(whole, &size, &mem);
    CHECK(map != NULL, "cannot be mapped");
    p.mapped = 2;
    one_token = 1;
    if (map) CHECK(!gpt_model_load_memory(&m, map, size, &p, &err), "%s", err.msg);
    if (m) {
        hooks.trace = note_chosen;
        run(m, NULL, 1, 0, &hooks, want);
        n = protect(m, PROT_NONE);
        CHECK(n > 0, "every expert of every layer is chosen: nothing is shown");
        for (i = 1; i < 4; i++) {
            run(m, NULL, i, (uint32_t)(i * i), NULL, got);
            CHECK(!memcmp(want, got, sizeof want), "%d threads: other bits", i);
        }
        protect(m, PROT_READ);
    }
    one_token = 0;
    gpt_model_free(m);
    if (map) gpti_unmap(map, size);
    remove(whole);
}
#else
static void test_untouched(void) {}
#endif

static const test tests[] = {
    { "F32", test_format }, { "F16", test_format }, { "BF16", test_format }, { "Q8_0", test_format }, { "Q4_0", test_format },
    { "Q4_1", test_format }, { "Q5_0", test_format }, { "Q4_K", test_format }, { "Q6_K", test_format }, { "MXFP4", test_format },
    { "tied", test_tied }, { "untouched", test_untouched }, { NULL, NULL }
};
int main(int argc, char **argv) { test_run(tests, argc, argv); return test_report("unit_mapped"); }
