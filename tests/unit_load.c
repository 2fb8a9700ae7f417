/* Loading models that somebody broke: toy models of tests/golden/model, taken apart, changed and put together again.
 * Each must give its named error, or load and compute; nothing leaks, whatever fails. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

#include <math.h>

#ifndef BUILD_DIR
#  define BUILD_DIR "build"
#endif

/* ---- Memory that counts, fails on demand and is full of rubbish ---------------------------------------------------- */

typedef struct heap { size_t live, n, fail_at, cap; } heap;       /* fail_at: the n-th call fails, 0 = none; larger than cap: too */

static void *heap_alloc(void *user, size_t n) {
    heap *h = (heap *)user;
    void *p;
    h->n++;
    if ((h->fail_at && h->n == h->fail_at) || n > h->cap) return NULL;
    p = malloc(n);
    if (!p) return NULL;
    memset(p, 0xFF, n < 1 << 18 ? n : 1 << 16);     /* as floats: NaN */
    h->live++;
    return p;
}

static void heap_free(void *user, void *p) {
    ((heap *)user)->live--;
    free(p);
}

static gpt_model_params params_on(heap *h) {
    gpt_model_params p;
    memset(&p, 0, sizeof p);
    memset(h, 0, sizeof *h);
    h->cap = (size_t)1 << 28;
    p.alloc.alloc = heap_alloc;
    p.alloc.free = heap_free;
    p.alloc.user = h;
    p.n_threads = 1;
    return p;
}

/* ---- A GGUF file taken apart --------------------------------------------------------------------------------------- */

enum { MAX_KV = 64, MAX_TENSOR = 320 };

typedef struct doc_kv { char key[64]; uint32_t type; const unsigned char *val; size_t n; int drop; } doc_kv;

typedef struct doc_tensor {
    char                 name[64];
    uint32_t             type, n_dim;
    uint64_t             ne[4];
    const unsigned char *data;      /* NULL: zeros */
    size_t               n;
    int                  drop;
} doc_tensor;

typedef struct doc {
    char           name[32];
    unsigned char *file;
    size_t         n_file, n_kv, n_tensor;
    doc_kv         kv[MAX_KV];
    doc_tensor     tensor[MAX_TENSOR];
    gb             out;
} doc;

static unsigned char *read_whole(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    long size = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    unsigned char *p = size > 0 ? (unsigned char *)malloc((size_t)size) : NULL;
    int whole = p && !fseek(f, 0, SEEK_SET) && fread(p, 1, (size_t)size, f) == (size_t)size;
    *n = whole ? (size_t)size : 0;
    CHECK(whole, "%s: cannot read", path);
    if (f) fclose(f);
    if (whole) return p;
    free(p);
    return NULL;
}

static size_t type_bytes(uint32_t type) {
    static const size_t bytes[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return bytes[type];
}

/* The toy files are little-endian, well formed and have no arrays of strings. */
static int doc_read(doc *d, const char *name) {
    char path[128];
    const unsigned char *p;
    size_t i, k, n, data;
    memset(d, 0, sizeof *d);
    snprintf(d->name, sizeof d->name, "%s", name);
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    d->file = read_whole(path, &d->n_file);
    if (!d->file) return 0;
    p = d->file + 24;
    d->n_tensor = gpti_load_u32(d->file + 8);
    d->n_kv = gpti_load_u32(d->file + 16);
    CHECK(d->n_kv <= MAX_KV && d->n_tensor <= MAX_TENSOR, "%s: larger than this test expects", path);
    if (d->n_kv > MAX_KV || d->n_tensor > MAX_TENSOR) return 0;
    for (i = 0; i < d->n_kv; i++) {
        doc_kv *kv = &d->kv[i];
        n = gpti_load_u32(p);
        memcpy(kv->key, p + 8, n < 63 ? n : 63);
        kv->type = gpti_load_u32(p + 8 + n);
        kv->val = p += 12 + n;
        kv->n = kv->type == GB_STR ? 8 + gpti_load_u32(p) : kv->type == GB_ARR ? 12 + type_bytes(gpti_load_u32(p)) * gpti_load_u32(p + 4) : type_bytes(kv->type);
        p += kv->n;
    }
    for (i = 0; i < d->n_tensor; i++) {
        doc_tensor *t = &d->tensor[i];
        n = gpti_load_u32(p);
        memcpy(t->name, p + 8, n < 63 ? n : 63);
        p += 8 + n;
        t->n_dim = gpti_load_u32(p);
        p += 4;
        for (k = 0; k < 4; k++) t->ne[k] = 1;
        for (k = 0; k < t->n_dim; k++, p += 8) t->ne[k] = gpti_load_u32(p);
        t->type = gpti_load_u32(p);
        t->n = gpti_load_u32(p + 4);        /* offset, for now */
        p += 12;
    }
    data = ((size_t)(p - d->file) + 31) & ~(size_t)31;
    for (i = 0; i < d->n_tensor; i++) {
        doc_tensor *t = &d->tensor[i];
        const gpti_format *f = gpti_format_find(t->type);
        t->data = d->file + data + t->n;
        t->n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]) / (size_t)f->block_len * (size_t)f->block_bytes;
    }
    return 1;
}

static void doc_free(doc *d) {
    free(d->file);
    gb_free(&d->out);
}

static void doc_kvs(const doc *d, gb *g) {
    size_t i;
    for (i = 0; i < d->n_kv; i++) {
        if (d->kv[i].drop) continue;
        gb_key(g, d->kv[i].key, d->kv[i].type);
        gb_raw(&g->kv, d->kv[i].val, d->kv[i].n);
    }
}

static void doc_tensors(const doc *d, gb *g, size_t from, size_t to) {
    size_t i;
    for (i = from; i < to; i++) {
        const doc_tensor *t = &d->tensor[i];
        if (!t->drop) gb_tensor(g, t->name, t->type, t->n_dim, t->ne[0], t->ne[1], t->ne[2], t->ne[3], t->data, t->n);
    }
}

/* The file as it is now; valid until the next call. extra writes more metadata or tensors. */
static const unsigned char *doc_emit(doc *d, void (*extra)(gb *g), size_t *n) {
    gb_free(&d->out);
    gb_init(&d->out, 3, 0);
    doc_kvs(d, &d->out);
    doc_tensors(d, &d->out, 0, d->n_tensor);
    if (extra) extra(&d->out);
    return gb_finish(&d->out, n);
}

static doc_kv *doc_find_kv(doc *d, const char *suffix) {
    size_t i, n = strlen(suffix), k;
    for (i = 0; i < d->n_kv; i++) {
        k = strlen(d->kv[i].key);
        if (k >= n && !strcmp(d->kv[i].key + k - n, suffix)) return &d->kv[i];
    }
    return NULL;
}

static doc_tensor *doc_find_tensor(doc *d, const char *name) {
    size_t i;
    for (i = 0; i < d->n_tensor; i++) if (!strcmp(d->tensor[i].name, name)) return &d->tensor[i];
    return NULL;
}

/* Sets a key, which need not be there yet. "." stands for the architecture. */
static void doc_set(doc *d, const char *name, uint32_t type, const void *val, size_t n) {
    char key[64];
    doc_kv *kv;
    const doc_kv *arch = doc_find_kv(d, "general.architecture");
    snprintf(key, sizeof key, "%.*s%s", name[0] == '.' ? (int)arch->n - 8 : 0, (const char *)arch->val + 8, name);
    kv = doc_find_kv(d, key);
    if (!kv) { kv = &d->kv[d->n_kv++]; memset(kv, 0, sizeof *kv); strcpy(kv->key, key); }
    kv->type = type; kv->val = (const unsigned char *)val; kv->n = n; kv->drop = 0;
}

/* ---- Loading and using --------------------------------------------------------------------------------------------- */

/* Three tokens through a model, then a few drawn: everything must stay defined, however strange the numbers. */
static void use_model(const char *what, const gpt_model *m, float *logits) {
    gpt_session_params sp;
    gpt_generate_params gp;
    gpt_session_info si;
    gpt_model_info info;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_token ids[3], id;
    size_t i;
    memset(&sp, 0, sizeof sp);
    memset(&gp, 0, sizeof gp);
    gpt_model_info_get(m, &info);
    sp.n_ctx = 16;
    sp.n_threads = 1;
    sp.kv = GPT_KV_F32;
    for (i = 0; i < 3; i++) ids[i] = (gpt_token)(i * 31 % info.n_vocab);
    if (info.start >= 0) ids[1] = info.start;
    if (gpt_session_new(&s, m, &sp, &err) != GPT_OK) {
        CHECK(!s && (err.code == GPT_E_CONTEXT || err.code == GPT_E_MEMORY || err.code == GPT_E_ARG), "%s: session: %s", what, err.msg);
        sp.n_ctx = 1;
        return;
    }
    CHECK(gpt_eval(s, ids, 3, &err) == GPT_OK, "%s: eval: %s", what, err.msg);
    if (logits && gpt_logits(s)) memcpy(logits, gpt_logits(s), info.n_vocab * sizeof(float));
    gp.sample.temperature = 1.0f;
    gp.sample.top_p = 0.9f;
    id = gpt_sample(s, &gp.sample);
    if (!m->hp.causal) {                        /* it reads, it does not write */
        CHECK(id == -1 && !gpt_logits(s) && gpt_generate(s, "", &gp, NULL, NULL, &err) == GPT_E_UNSUPPORTED, "%s: generate: %d %s", what, (int)id, err.msg);
        gpt_session_free(s);
        return;
    }
    CHECK(id >= 0 && (uint32_t)id < info.n_vocab, "%s: sampled %ld", what, (long)id);
    gp.max_tokens = 3;
    CHECK(gpt_generate(s, "", &gp, NULL, NULL, &err) == GPT_OK, "%s: generate: %s", what, err.msg);
    gpt_session_info_get(s, &si);
    CHECK(si.n_generated <= 3 && si.finish != GPT_FINISH_NONE, "%s: finish %d after %u", what, (int)si.finish, (unsigned)si.n_generated);
    gpt_session_free(s);
}

/* Load the bytes, each third time in all ways, and use what loads; they must agree, with nothing left behind. */
static gpt_result load_bytes(const char *what, const unsigned char *p, size_t n, gpt_error *err) {
    static int turn;
    int mapped, n_way = ++turn % 3 ? 1 : 3;
    gpt_result first = GPT_OK;
    for (mapped = 0; mapped < n_way; mapped++) {
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        gpt_error e;
        gpt_result r;
        mp.mapped = mapped;
        r = gpt_model_load_memory(&m, p, n, &mp, &e);
        CHECK(r == e.code && (r == GPT_OK) == (m != NULL) && (r == GPT_OK) == (e.msg[0] == 0), "%s: result %d, message \"%s\"", what, (int)r, e.msg);
        CHECK(strspn(e.msg, PRINTABLE) == strlen(e.msg), "%s: bytes of the file reach the message: %s", what, e.msg);
        if (m) use_model(what, m, NULL);
        gpt_model_free(m);
        CHECK(h.live == 0, "%s: %u blocks left (%s)", what, (unsigned)h.live, e.msg);
        if (!mapped) { first = r; if (err) *err = e; }
        else CHECK(r == first, "%s: code %d mapped, code %d otherwise (%s)", what, (int)r, (int)first, e.msg);
    }
    return first;
}

static gpt_result load_doc(doc *d, const char *what, void (*extra)(gb *g), gpt_error *err) {
    size_t n;
    const unsigned char *p = doc_emit(d, extra, &n);
    char text[160];
    snprintf(text, sizeof text, "%s: %s", d->name, what);
    return load_bytes(text, p, n, err);
}

/* The load must fail with this code and the message must have these words. */
static void expect(doc *d, const char *what, void (*extra)(gb *g), gpt_result code, const char *words) {
    gpt_error err;
    gpt_result r = load_doc(d, what, extra, &err);
    CHECK(r == code, "%s: %s: expected %d, got %d (%s)", d->name, what, (int)code, (int)r, err.msg);
    CHECK(!words || strstr(err.msg, words), "%s: %s: expected \"%s\" in \"%s\"", d->name, what, words, err.msg);
}

/* ---- Keys that files have, lack, or hold as others mean them -------------------------------------------------------- */

static float the_same[4096], others[4096];

/* The file as it is now computes what the toy computes. */
static void like(doc *d, const char *toy, const char *what) {
    gpt_error err;
    gpt_model *m = NULL;
    gpt_model_info info;
    heap h;
    gpt_model_params mp = params_on(&h);
    doc o;
    const unsigned char *p;
    size_t n;
    int k;
    memset(&info, 0, sizeof info);
    if (!doc_read(&o, toy)) { doc_free(&o); return; }
    for (k = 0; k < 2; k++) {
        p = doc_emit(k ? d : &o, NULL, &n);
        CHECK(gpt_model_load_memory(&m, p, n, &mp, &err) == GPT_OK, "%s, %s: %s", toy, what, err.msg);
        if (!m) break;
        gpt_model_info_get(m, &info);
        use_model(what, m, k ? others : the_same);
        gpt_model_free(m);
    }
    if (k == 2) CHECK(!memcmp(the_same, others, info.n_vocab * sizeof(float)), "%s, %s: other logits, first %g and %g", toy, what, (double)the_same[0], (double)others[0]);
    doc_free(&o);
}

static void test_keys(void) {
    static const float zero = 0, cap = 50, last = 30, minus = -1, tiny = 1e-38f, huge = 1e38f, two = 2;
    static const uint32_t none = 0, two_u = 2, three_u = 3, four = 4, six = 6, sixteen = 16, large = 4096, wide = 54, forty = 40, twenty_four = 24, window[] = { GB_U32, 1, 0, 8 };
    static const uint32_t most = 0xFFFFFFFFu, nan = 0x7FC00000u, some_kv[] = { GB_U32, 3, 0, 0, 2, 0 }, few_kv[] = { GB_U32, 2, 0, 0, 1 };
    static const uint32_t all_kv[] = { GB_U32, 3, 0, 1, 1, 0 };
    static const uint32_t half_alpha[] = { GB_FLOAT, 2, 0, 0, 0 }, nan_alpha[] = { GB_FLOAT, 3, 0, 0, 0, 0x7FC00000u }, no_text[2] = { 0, 0 };
    static const uint32_t other_kv[] = { GB_U32, 6, 0, 1, 1, 1, 1, 3, 1 };
    static const unsigned char yes = 1, no = 0;
    static const char *const saved[] = { "llama", "gpt2", "bloom", "starcoder", "gemma3", "gpt_oss", "falcon_7b", "qwen2", "llama_linear", "phi2" };
    static const char *const in_one[] = { "mixtral", "gpt_oss", "lfm2moe_cpp" };
    static const struct { const char *toy, *key; uint32_t type; const void *val; size_t n; gpt_result code; } refused[] = {
        { "llama", ".attention.layer_norm_rms_epsilon", 0, NULL, 0, GPT_E_FORMAT },
        { "gpt2", ".attention.layer_norm_epsilon", 0, NULL, 0, GPT_E_FORMAT },
        { "gptneox", ".use_parallel_residual", 0, NULL, 0, GPT_E_FORMAT },
        { "granite", ".logit_scale", 0, NULL, 0, GPT_E_FORMAT }, { "minicpm_cpp", ".logit_scale", 0, NULL, 0, GPT_E_FORMAT },
        { "smallthinker_cpp", ".expert_gating_func", GB_U32, &forty, 4, GPT_E_FORMAT },
        { "gpt_oss", ".attention.sliding_window", 0, NULL, 0, GPT_E_FORMAT },
        { "gpt_oss", ".expert_feed_forward_length", 0, NULL, 0, GPT_E_FORMAT },
        { "llama", ".feed_forward_length", 0, NULL, 0, GPT_E_FORMAT },
        { "llama", ".context_length", 0, NULL, 0, GPT_E_FORMAT },
        { "llama", ".rope.dimension_count", GB_U32, &four, 4, GPT_E_FORMAT },
        { "falcon_7b", ".rope.dimension_count", GB_U32, &four, 4, GPT_E_FORMAT },
        { "gemma3", ".attention.sliding_window", GB_ARR, window, 16, GPT_E_FORMAT },
        { "qwen3moe", ".expert_used_count", GB_ARR, window, 16, GPT_E_FORMAT },
        { "gemma3", ".rope.dimension_count_swa", GB_U32, &four, 4, GPT_E_UNSUPPORTED },
        { "gemma3", ".attention.key_length_swa", GB_U32, &four, 4, GPT_E_UNSUPPORTED },
        { "gemma3", ".attention.causal", GB_BOOL, &no, 1, GPT_E_UNSUPPORTED },         /* how its window would lie is not known */
        { "lfm2_cpp", ".attention.causal", GB_BOOL, &no, 1, GPT_E_UNSUPPORTED },
        { "llama_yarn", ".rope.scaling.yarn_attn_factor", GB_FLOAT, &two, 4, GPT_E_UNSUPPORTED },
        { "llama_yarn", ".rope.scaling.yarn_beta_fast", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "llama", ".attention.layer_norm_rms_epsilon", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "llama", ".rope.freq_base", GB_FLOAT, &tiny, 4, GPT_E_FORMAT },
        { "granite", ".embedding_scale", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "granite", ".attention.scale", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "llama", ".attention.head_count_kv", GB_U32, &none, 4, GPT_E_FORMAT },
        { "lfm2_cpp", ".attention.head_count_kv", GB_ARR, few_kv, 20, GPT_E_FORMAT },
        { "lfm2_cpp", ".attention.head_count_kv", GB_U32, &four, 4, GPT_E_FORMAT },
        { "lfm2_cpp", ".shortconv.l_cache", 0, NULL, 0, GPT_E_FORMAT },
        { "lfm2_cpp", ".shortconv.l_cache", GB_U32, &none, 4, GPT_E_FORMAT },
        { "lfm2_cpp", ".shortconv.l_cache", GB_U32, &most, 4, GPT_E_FORMAT },
        { "cohere2_cpp", ".attention.sliding_window", 0, NULL, 0, GPT_E_FORMAT },
        { "mistral3_cpp", ".attention.temperature_scale", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "mistral3_cpp", ".attention.temperature_scale", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "mistral3_cpp", ".rope.scaling.yarn_log_multiplier", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "llama4_cpp", ".attention.sliding_window", GB_U32, &none, 4, GPT_E_FORMAT },
        { "llama4_cpp", ".attention.temperature_length", GB_U32, &none, 4, GPT_E_FORMAT },
        { "llama4_cpp", ".attention.temperature_scale", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "llama4_cpp", ".attention.temperature_scale", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.alpha_p", 0, NULL, 0, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.alpha_p", GB_ARR, half_alpha, 20, GPT_E_FORMAT },      /* of 3 layers */
        { "apertus_cpp", "xielu.alpha_p", GB_ARR, nan_alpha, 24, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.alpha_n", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.alpha_n", GB_STR, no_text, 8, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.beta", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "apertus_cpp", "xielu.eps", GB_FLOAT, &two, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".attention.causal", GB_BOOL, &no, 1, GPT_E_UNSUPPORTED },
        { "qwen35_cpp", ".nextn_predict_layers", GB_U32, &six, 4, GPT_E_FORMAT },       /* of 6 layers */
        { "qwen35_cpp", ".nextn_predict_layers", GB_U32, &most, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.conv_kernel", 0, NULL, 0, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.conv_kernel", GB_U32, &most, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.state_size", GB_U32, &none, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.inner_size", 0, NULL, 0, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.group_count", GB_U32, &none, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".ssm.time_step_rank", GB_U32, &most, 4, GPT_E_FORMAT },
        { "qwen35_cpp", ".full_attention_interval", GB_U32, &none, 4, GPT_E_FORMAT },
        { "mamba2_cpp", ".ssm.group_count", 0, NULL, 0, GPT_E_FORMAT },
        { "mamba2_cpp", ".ssm.time_step_rank", GB_U32, &none, 4, GPT_E_FORMAT },
        { "mamba2_cpp", ".attention.layer_norm_rms_epsilon", 0, NULL, 0, GPT_E_FORMAT },
        { "nemotron_h_cpp", ".attention.head_count", GB_U32, &none, 4, GPT_E_FORMAT },
        { "nemotron_h_cpp", ".attention.head_count_kv", GB_ARR, few_kv, 20, GPT_E_FORMAT },
        { "nemotron_h_cpp", ".feed_forward_length", GB_ARR, few_kv, 20, GPT_E_FORMAT },
        { "nemotron_h_moe_cpp", ".expert_used_count", GB_ARR, few_kv, 20, GPT_E_FORMAT },     /* a number for each layer: Puzzle */
        { "falcon_h1_cpp", ".attention.head_count", GB_U32, &none, 4, GPT_E_FORMAT },
        { "falcon_h1_cpp", ".attention.head_count_kv", GB_U32, &none, 4, GPT_E_FORMAT },
        { "falcon_h1_cpp", ".feed_forward_length", GB_U32, &none, 4, GPT_E_FORMAT },
        { "falcon_h1_cpp", ".ssm.conv_kernel", GB_U32, &none, 4, GPT_E_FORMAT },
        { "t5_cpp", ".decoder_block_count", GB_U32, &most, 4, GPT_E_FORMAT },
        { "t5_cpp", ".decoder_start_token_id", GB_U32, &most, 4, GPT_E_FORMAT },
        { "t5_cpp", ".attention.relative_buckets_count", 0, NULL, 0, GPT_E_FORMAT },
        { "t5_cpp", ".attention.relative_buckets_count", GB_U32, &none, 4, GPT_E_FORMAT },
        { "t5_cpp", ".attention.relative_buckets_count", GB_U32, &three_u, 4, GPT_E_FORMAT },
        { "t5_cpp", ".attention.relative_buckets_count", GB_U32, &most, 4, GPT_E_FORMAT },
        { "t5_cpp", ".attention.sliding_window", GB_U32, &four, 4, GPT_E_UNSUPPORTED },
        { "t5_cpp", ".attention.causal", GB_BOOL, &no, 1, GPT_E_UNSUPPORTED },
        { "t5_cpp", ".attention.key_length", GB_U32, &large, 4, GPT_E_FORMAT },
        { "t5_cpp", ".logit_scale", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.sliding_window", 0, NULL, 0, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.shared_kv_layers", GB_U32, &six, 4, GPT_E_FORMAT },         /* of 6 layers */
        { "gemma4_cpp", ".attention.shared_kv_layers", GB_U32, &four, 4, GPT_E_FORMAT },        /* the first two have windows */
        { "gemma4_cpp", ".attention.shared_kv_layers", GB_U32, &most, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.head_count_kv", GB_ARR, other_kv, 36, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.key_length_swa", GB_U32, &none, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.key_length", GB_U32, &large, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".attention.value_length_swa", GB_U32, &large, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".rope.dimension_count_swa", GB_U32, &three_u, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".rope.dimension_count_swa", GB_U32, &none, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".rope.dimension_count_swa", GB_U32, &wide, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".embedding_length_per_layer_input", GB_U32, &most, 4, GPT_E_FORMAT },
        { "gemma4_cpp", ".final_logit_softcapping", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".attention.kv_lora_rank", 0, NULL, 0, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".attention.kv_lora_rank", GB_U32, &none, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".attention.kv_lora_rank", GB_U32, &most, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".attention.key_length_mla", GB_U32, &most, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".attention.q_lora_rank", GB_U32, &most, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".expert_gating_func", GB_U32, &four, 4, GPT_E_FORMAT },
        { "deepseek2_v3_cpp", ".rope.scaling.yarn_log_multiplier", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "gemma3n_cpp", ".embedding_length_per_layer_input", GB_U32, &none, 4, GPT_E_FORMAT },
        { "gemma3n_cpp", ".altup.num_inputs", 0, NULL, 0, GPT_E_FORMAT },
        { "gemma3n_cpp", ".altup.num_inputs", GB_U32, &most, 4, GPT_E_FORMAT },
        { "gemma3n_cpp", ".altup.active_idx", GB_U32, &four, 4, GPT_E_FORMAT },
        { "gemma3n_cpp", ".activation_sparsity_scale", 0, NULL, 0, GPT_E_FORMAT },
        { "gemma3n_cpp", ".activation_sparsity_scale", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "gemma3n_cpp", ".activation_sparsity_scale", GB_FLOAT, &huge, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_gating_func", GB_U32, &four, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_weights_scale", GB_FLOAT, &nan, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_weights_scale", GB_FLOAT, &minus, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_weights_norm", GB_U32, &four, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_group_count", GB_U32, &four, 4, GPT_E_FORMAT },      /* of 6 experts */
        { "lfm2moe_cpp", ".expert_group_count", GB_U32, &six, 4, GPT_E_FORMAT },
        { "lfm2moe_cpp", ".expert_group_count", GB_U32, &most, 4, GPT_E_FORMAT }
    };
    gpt_error err;
    doc_tensor *t;
    doc d;
    size_t i, k, n;
    for (i = 0; i < sizeof saved / sizeof *saved; i++) {    /* llama.cpp writes every key into the files that it saves */
        static const char *const zeros[] = { ".logit_scale", ".residual_scale", ".embedding_scale", ".attention.scale", ".expert_weights_scale",
            ".attention.max_alibi_bias", ".attention.clamp_kqv" };
        if (!doc_read(&d, saved[i])) continue;
        for (k = 0; k < sizeof zeros / sizeof *zeros; k++) if (!doc_find_kv(&d, zeros[k])) doc_set(&d, zeros[k], GB_FLOAT, &zero, 4);
        doc_set(&d, ".attn_logit_softcapping", GB_FLOAT, &cap, 4);
        doc_set(&d, ".final_logit_softcapping", GB_FLOAT, strcmp(saved[i], "gemma3") ? &last : &zero, 4);
        if (!doc_find_kv(&d, ".rope.scaling.factor")) doc_set(&d, ".rope.scaling.factor", GB_FLOAT, &zero, 4);
        doc_set(&d, ".rope.scaling.finetuned", GB_BOOL, &no, 1);
        doc_set(&d, ".attention.causal", GB_BOOL, &yes, 1);
        if (strncmp(saved[i], "gptneox", 7)) doc_set(&d, ".use_parallel_residual", GB_BOOL, &yes, 1);
        like(&d, saved[i], "with every key");
        doc_free(&d);
    }
    if (doc_read(&d, "stablelm")) { doc_set(&d, ".use_parallel_residual", GB_BOOL, &yes, 1); like(&d, "stablelm", "ffn_norm decides"); doc_free(&d); }
    if (doc_read(&d, "llama")) {
        doc_set(&d, ".context_length", GB_U32, &none, 4);
        doc_set(&d, ".rope.scaling.original_context_length", GB_U32, &none, 4);
        doc_set(&d, "tokenizer.chat_template", GB_U32, &four, 4);
        doc_set(&d, "split.count", GB_U32, &none, 4); doc_set(&d, "split.no", GB_U32, &four, 4); doc_set(&d, "split.tensors.count", GB_U32, &four, 4);
        like(&d, "llama", "zeros, left-over keys of parts, a template that is no text");
        doc_free(&d);
    }
    if (doc_read(&d, "granite")) {                          /* no rope at all; the logits are llama.cpp's */
        static const float want[4] = { -0.264865f, 2.73924f, 1.83744f, -10.1716f };
        gpt_model *m = NULL;
        const unsigned char *p;
        doc_set(&d, ".rope.scaling.finetuned", GB_BOOL, &no, 1);
        p = doc_emit(&d, NULL, &n);
        CHECK(gpt_model_load_memory(&m, p, n, NULL, &err) == GPT_OK, "granite: %s", err.msg);
        if (m) use_model("granite", m, others);
        for (i = 0; i < 4; i++) CHECK(gpti_abs(others[i] - want[i]) < 1e-3f, "granite without rope: logit %u is %g, expected %g", (unsigned)i, (double)others[i], (double)want[i]);
        gpt_model_free(m);
        doc_free(&d);
    }
    if (doc_read(&d, "llama4_cpp")) {       /* published files have none of these keys: all models have the same numbers */
        static const uint32_t most_seen = 8192;
        static const float growth = 0.1f;
        gpt_model *m = NULL;
        doc_find_kv(&d, ".attention.sliding_window")->drop = 1;
        doc_find_kv(&d, ".attention.temperature_length")->drop = 1;
        doc_find_kv(&d, ".attention.temperature_scale")->drop = 1;
        for (k = 0; k < 2; k++) {
            const unsigned char *p = doc_emit(&d, NULL, &n);
            CHECK(gpt_model_load_memory(&m, p, n, NULL, &err) == GPT_OK, "llama4_cpp: %s", err.msg);
            if (!m) break;
            CHECK(m->hp.window == 8192 && m->hp.grow_every == 8192 && m->hp.q_growth == 0.1f, "llama4_cpp: chunks of %u, growth %g every %u",
                  (unsigned)m->hp.window, (double)m->hp.q_growth, (unsigned)m->hp.grow_every);
            gpt_model_free(m);
            doc_set(&d, ".attention.sliding_window", GB_U32, &most_seen, 4);
            doc_set(&d, ".attention.temperature_length", GB_U32, &most_seen, 4);
            doc_set(&d, ".attention.temperature_scale", GB_FLOAT, &growth, 4);
        }
        doc_free(&d);
    }
    if (doc_read(&d, "mixtral")) { doc_set(&d, ".expert_feed_forward_length", GB_U32, &none, 4); like(&d, "mixtral", "no width of experts"); doc_free(&d); }
    if (doc_read(&d, "qwen3moe")) {
        doc_find_kv(&d, ".expert_feed_forward_length")->drop = 1;
        doc_set(&d, ".feed_forward_length", GB_U32, &wide, 4);
        like(&d, "qwen3moe", "experts share the feed-forward's width");
        doc_free(&d);
    }
    if (doc_read(&d, "gemma3")) {                           /* as Ollama names them */
        strcpy(doc_find_kv(&d, "gemma3.rope.freq_base")->key, "gemma3.rope.global.freq_base");
        strcpy(doc_find_kv(&d, "gemma3.rope.freq_base_swa")->key, "gemma3.rope.local.freq_base");
        like(&d, "gemma3", "Ollama's keys");
        doc_free(&d);
    }
    if (doc_read(&d, "gemma2")) {
        for (k = 0; k < 2; k++) {
            const unsigned char *q;
            gpt_model *m = NULL;
            doc_set(&d, ".attn_logit_softcapping", GB_FLOAT, &cap, 4);
            doc_set(&d, ".final_logit_softcapping", GB_FLOAT, &last, 4);
            doc_set(&d, ".attention.sliding_window", GB_U32, &large, 4);
            if (k) for (i = 0; i < d.n_kv; i++) if (strstr(d.kv[i].key, "softcapping") || strstr(d.kv[i].key, "sliding_window")) d.kv[i].drop = 1;
            q = doc_emit(&d, NULL, &n);
            CHECK(gpt_model_load_memory(&m, q, n, NULL, &err) == GPT_OK, "gemma2: %s", err.msg);
            if (m) use_model("gemma2", m, k ? the_same : others);
            gpt_model_free(m);
        }
        CHECK(!memcmp(the_same, others, 90 * sizeof(float)), "gemma2 without caps and window is not 50, 30, 4096");
        doc_free(&d);
    }
    if (doc_read(&d, "qwen2")) {                            /* fused weights beside separate biases */
        static unsigned char fused[4][1 << 16];
        for (i = 0; i < 4; i++) {
            static const char part[] = "qkv";
            doc_tensor *all = NULL;
            size_t at = 0;
            for (k = 0; k < 3; k++) {
                char name[64];
                snprintf(name, sizeof name, "blk.%u.attn_%c.weight", (unsigned)i, part[k]);
                t = doc_find_tensor(&d, name);
                if (!t) break;
                memcpy(fused[i] + at, t->data, t->n);
                at += t->n;
                if (!k) { all = t; continue; }
                all->ne[1] += t->ne[1];
                t->drop = 1;
            }
            if (!all) break;
            snprintf(all->name, sizeof all->name, "blk.%u.attn_qkv.weight", (unsigned)i);
            all->data = fused[i]; all->n = at;
        }
        like(&d, "qwen2", "attn_qkv with separate biases");
        t = doc_find_tensor(&d, "blk.0.attn_q.bias");
        strcpy(t->name, "blk.0.attn_qkv.bias");
        expect(&d, "a bias of another width", NULL, GPT_E_SHAPE, "attn_qkv.bias");
        doc_free(&d);
    }
    if (doc_read(&d, "llama")) {
        d.tensor[d.n_tensor] = *doc_find_tensor(&d, "blk.0.attn_q.weight");
        t = &d.tensor[d.n_tensor++];
        strcpy(t->name, "blk.0.attn_qkv.weight");
        t->ne[1] *= 2; t->data = NULL; t->n *= 2;
        expect(&d, "attn_qkv beside attn_q", NULL, GPT_E_SHAPE, "attn_qkv");
        doc_free(&d);
    }
    if (doc_read(&d, "llama")) {                            /* one F16 matrix takes no digits from what others multiply */
        static unsigned char half[2][1 << 16];
        t = doc_find_tensor(&d, "token_embd.weight");
        for (i = 0; i < t->n / 4; i++) {
            const uint32_t h = gpti_f32_f16(gpti_bits_f32(gpti_load_u32(t->data + 4 * i))), f = gpti_f32_bits(gpti_f16_f32(h));
            for (k = 0; k < 4; k++) { if (k < 2) half[0][2 * i + k] = (unsigned char)(h >> 8 * k); half[1][4 * i + k] = (unsigned char)(f >> 8 * k); }
        }
        for (k = 0; k < 2; k++) {
            gpt_model *m = NULL;
            const unsigned char *p;
            t->data = half[k];
            if (k) t->type = GB_F32, t->n *= 2;
            else t->type = GB_F16, t->n /= 2;
            p = doc_emit(&d, NULL, &n);
            CHECK(gpt_model_load_memory(&m, p, n, NULL, &err) == GPT_OK, "%s", err.msg);
            if (m) use_model("llama", m, k ? the_same : others);
            gpt_model_free(m);
        }
        CHECK(!memcmp(the_same, others, 97 * sizeof(float)), "an F16 embedding: logit 0 is %.9g, expected %.9g", (double)others[0], (double)the_same[0]);
        doc_free(&d);
    }
    if (doc_read(&d, "mixtral")) {                          /* a router that is NaN: so is all that follows, with one kind of bits */
        static unsigned char rows[1 << 14];
        gpt_model *m = NULL;
        const unsigned char *p;
        t = doc_find_tensor(&d, "blk.0.ffn_gate_inp.weight");
        memcpy(rows, t->data, t->n);
        memset(rows + t->n / 4, 0xFF, t->n / 4);
        t->data = rows;
        p = doc_emit(&d, NULL, &n);
        CHECK(gpt_model_load_memory(&m, p, n, NULL, &err) == GPT_OK, "%s", err.msg);
        if (m) use_model("mixtral", m, others);
        for (i = 0; i < 97; i++) CHECK(gpti_f32_bits(others[i]) == gpti_f32_bits(NAN), "logit %u is %g, bits %08lx", (unsigned)i, (double)others[i], (unsigned long)gpti_f32_bits(others[i]));
        gpt_model_free(m);
        doc_free(&d);
    }
    if (doc_read(&d, "mixtral")) {
        doc_tensor *from = doc_find_tensor(&d, "blk.0.ffn_gate_exps.weight");
        d.tensor[d.n_tensor] = *from;
        t = &d.tensor[d.n_tensor++];
        strcpy(t->name, "blk.0.ffn_gate.weight");
        t->n_dim = 2; t->n /= t->ne[2]; t->ne[2] = 1;
        expect(&d, "experts beside a feed-forward", NULL, GPT_E_UNSUPPORTED, "blk.0.ffn_gate.weight");
        doc_free(&d);
    }
    if (doc_read(&d, "lfm2moe_cpp")) {                      /* keys of the router that say what is so without them */
        doc_find_kv(&d, ".expert_gating_func")->drop = 1;
        doc_set(&d, ".expert_weights_norm", GB_BOOL, &yes, 1);
        doc_set(&d, ".expert_weights_scale", GB_FLOAT, &zero, 4);
        doc_set(&d, ".expert_group_count", GB_U32, &two_u, 4);
        doc_set(&d, ".expert_group_used_count", GB_U32, &two_u, 4);
        like(&d, "lfm2moe_cpp", "the router's keys");
        doc_set(&d, ".expert_group_used_count", GB_U32, &none, 4);
        expect(&d, "no group used", NULL, GPT_E_FORMAT, ".expert_group_used_count");
        doc_set(&d, ".expert_group_used_count", GB_U32, &three_u, 4);
        expect(&d, "3 of 2 groups", NULL, GPT_E_FORMAT, ".expert_group_used_count");
        doc_set(&d, ".expert_group_count", GB_U32, &three_u, 4);
        doc_set(&d, ".expert_group_used_count", GB_U32, &two_u, 4);
        doc_set(&d, ".expert_used_count", GB_U32, &six, 4);
        expect(&d, "6 experts of 2 groups of 2", NULL, GPT_E_FORMAT, ".expert_group_used_count");
        doc_free(&d);
    }
    if (doc_read(&d, "gemma4_cpp")) {                       /* published files have tensors that sharing layers do not need */
        static const char *const more[] = { "attn_k", "attn_v", "attn_k_norm" };
        for (i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.2.%s.weight", more[i]);
            t = doc_find_tensor(&d, name);
            d.tensor[d.n_tensor] = *t;
            d.tensor[d.n_tensor++].name[4] = '5';
        }
        like(&d, "gemma4_cpp", "tensors of sharing layers");
        doc_set(&d, ".embedding_length_per_layer_input", GB_U32, &none, 4);
        expect(&d, "no embeddings of layers", NULL, GPT_E_SHAPE, "per_layer_token_embd.weight");
        doc_free(&d);
    }
    if (doc_read(&d, "gemma4_tied_cpp")) {
        t = doc_find_tensor(&d, "blk.1.attn_k.weight");
        d.tensor[d.n_tensor] = *t;
        strcpy(d.tensor[d.n_tensor++].name, "blk.1.attn_v.weight");
        like(&d, "gemma4_tied_cpp", "v that is k");
        doc_set(&d, ".attention.value_length", GB_U32, &four, 4);
        expect(&d, "no v, and another width", NULL, GPT_E_SHAPE, "blk.");
        doc_set(&d, ".attention.value_length", GB_U32, &sixteen, 4);
        doc_set(&d, ".embedding_length_per_layer_input", GB_U32, &four, 4);
        expect(&d, "embeddings of layers without tensors", NULL, GPT_E_SHAPE, "blk.0.inp_gate.weight");
        doc_free(&d);
    }
    if (doc_read(&d, "deepseek2_v3_cpp")) {                 /* of a latent of 12, 4 numbers that turn, heads of 12 and 6 */
        static const struct { const char *key; uint32_t has, other; } widths[] = {
            { ".attention.key_length", 16, 12 }, { ".attention.value_length", 12, 6 }, { ".rope.dimension_count", 4, 2 },
            { ".attention.key_length_mla", 12, 4 }, { ".attention.kv_lora_rank", 12, 14 }, { ".attention.key_length_mla", 12, 0 },
            { ".attention.value_length_mla", 6, 0 } };
        for (i = 0; i < sizeof widths / sizeof *widths; i++) {
            doc_set(&d, widths[i].key, GB_U32, &widths[i].other, 4);
            expect(&d, widths[i].key, NULL, GPT_E_FORMAT, "deepseek2.attention: expected keys of");
            doc_set(&d, widths[i].key, GB_U32, &widths[i].has, 4);
        }
        doc_set(&d, ".attention.value_length_mla", GB_U32, &four, 4);
        expect(&d, "values of another width", NULL, GPT_E_SHAPE, "blk.0.attn_v_b.weight");
        doc_set(&d, ".attention.value_length_mla", GB_U32, &six, 4);
        doc_set(&d, ".attention.q_lora_rank", GB_U32, &none, 4);
        expect(&d, "no latent of q", NULL, GPT_E_SHAPE, "blk.0.attn_q_a.weight");
        doc_free(&d);
    }
    for (i = 0; i < 2; i++) {                               /* older files: attn_k_b, the other way round, and attn_v_b in one */
        static float both[3][3 * 14 * 12];
        const uint32_t heads = 3, twelve = 12;
        const char *const toy = i ? "deepseek2_v3_cpp" : "deepseek2_lite_cpp";
        if (!doc_read(&d, toy)) continue;
        for (k = 0; k < 3; k++) {
            char name[64];
            doc_tensor *key, *value;
            size_t h, r, c;
            snprintf(name, sizeof name, "blk.%lu.attn_k_b.weight", (unsigned long)k);
            key = doc_find_tensor(&d, name);
            name[11] = 'v';
            value = doc_find_tensor(&d, name);
            for (h = 0; h < 3; h++) for (r = 0; r < 14; r++) for (c = 0; c < 12; c++)
                memcpy(&both[k][(h * 14 + r) * 12 + c], r < 8 ? key->data + 4 * ((h * 12 + c) * 8 + r) : value->data + 4 * ((h * 6 + r - 8) * 12 + c), 4);
            snprintf(key->name, sizeof key->name, "blk.%lu.attn_kv_b.weight", (unsigned long)k);
            key->n_dim = 2; key->ne[0] = 12; key->ne[1] = 42; key->ne[2] = 1; key->data = (const unsigned char *)both[k]; key->n = sizeof both[k];
            value->drop = 1;
        }
        doc_find_kv(&d, ".attention.key_length_mla")->drop = doc_find_kv(&d, ".attention.value_length_mla")->drop = 1;
        doc_set(&d, ".attention.head_count_kv", GB_U32, &heads, 4);
        doc_set(&d, ".attention.key_length", GB_U32, &twelve, 4);
        doc_set(&d, ".attention.value_length", GB_U32, &six, 4);
        like(&d, toy, "attn_kv_b");
        t = doc_find_tensor(&d, "blk.1.attn_v_b.weight");
        t->drop = 0;
        expect(&d, "attn_kv_b and attn_v_b", NULL, GPT_E_SHAPE, "blk.1.attn_kv_b.weight: expected it without");
        t->drop = 1;
        doc_find_tensor(&d, "blk.2.attn_kv_b.weight")->drop = 1;
        expect(&d, "neither", NULL, GPT_E_SHAPE, "blk.2: deepseek2 needs attn_k_b and attn_v_b, or attn_kv_b");
        doc_free(&d);
    }
    if (doc_read(&d, "deepseek2_lite_cpp")) {
        t = doc_find_tensor(&d, "blk.0.attn_q.weight");
        d.tensor[d.n_tensor] = *t;
        strcpy(d.tensor[d.n_tensor++].name, "blk.0.attn_q_b.weight");
        doc_set(&d, ".attention.q_lora_rank", GB_U32, &twenty_four, 4);     /* as wide as the model */
        expect(&d, "attn_q and attn_q_b", NULL, GPT_E_SHAPE, "blk.0: deepseek2 needs attn_q, or attn_q_a");
        doc_free(&d);
    }
    if (doc_read(&d, "nemotron_h_cpp")) {                   /* M-*-M-: layers 1, 3, 5 feed forward */
        static const uint32_t all_ff[] = { GB_U32, 6, 0, 20, 20, 20, 20, 20, 20 }, no_ff[] = { GB_U32, 6, 0, 0, 0, 0, 0, 0, 0 };
        static const uint32_t no_att[] = { GB_U32, 6, 0, 0, 0, 0, 0, 0, 0 };
        static const float tiny_eps = 1e-5f;
        doc_find_kv(&d, ".attention.layer_norm_epsilon")->drop = 1;
        expect(&d, "no epsilon", NULL, GPT_E_FORMAT, ".attention.layer_norm_rms_epsilon");
        doc_set(&d, ".attention.layer_norm_rms_epsilon", GB_FLOAT, &tiny_eps, 4);
        like(&d, "nemotron_h_cpp", "epsilon by its other name");
        doc_set(&d, ".feed_forward_length", GB_ARR, all_ff, 36);
        expect(&d, "layers said to feed forward", NULL, GPT_E_SHAPE, "blk.0.ffn_up.weight");
        doc_set(&d, ".feed_forward_length", GB_ARR, no_ff, 36);
        expect(&d, "layers said to be of Mamba-2", NULL, GPT_E_SHAPE, "blk.1.ssm_in.weight");
        doc_free(&d);
        doc_read(&d, "nemotron_h_cpp");
        doc_set(&d, ".attention.head_count_kv", GB_ARR, no_att, 36);
        expect(&d, "attention said to be Mamba-2", NULL, GPT_E_SHAPE, "blk.2.ssm_in.weight");
        doc_free(&d);
        doc_read(&d, "nemotron_h_cpp");
        t = doc_find_tensor(&d, "blk.1.attn_norm.weight");
        d.tensor[d.n_tensor] = *t;
        strcpy(d.tensor[d.n_tensor++].name, "blk.1.ffn_norm.weight");
        expect(&d, "two norms of one part", NULL, GPT_E_SHAPE, "no ffn_norm");
        strcpy(d.tensor[d.n_tensor - 1].name, "blk.0.ffn_norm.weight");
        expect(&d, "a norm of no feed-forward", NULL, GPT_E_UNSUPPORTED, "blk.0.ffn_norm.weight");
        doc_free(&d);
    }
    if (doc_read(&d, "nemotron_h_moe_cpp")) {
        t = doc_find_tensor(&d, "blk.1.ffn_up_shexp.weight");
        d.tensor[d.n_tensor] = *t;
        strcpy(d.tensor[d.n_tensor++].name, "blk.1.ffn_gate_shexp.weight");
        expect(&d, "a gate of a feed-forward without", NULL, GPT_E_SHAPE, "ffn_up_shexp and ffn_down_shexp alone");
        d.n_tensor--;
        t = doc_find_tensor(&d, "blk.1.ffn_gate_inp.weight");
        d.tensor[d.n_tensor] = *t;
        strcpy(d.tensor[d.n_tensor++].name, "blk.1.ffn_latent_down.weight");        /* Nemotron 3 Super: not computed */
        expect(&d, "experts of another width", NULL, GPT_E_UNSUPPORTED, "blk.1.ffn_latent_down.weight");
        doc_free(&d);
    }
    if (doc_read(&d, "mamba2_cpp")) {                       /* another converter's numbers */
        doc_set(&d, ".attention.head_count", GB_U32, &four, 4);
        doc_set(&d, ".attention.key_length", GB_U32, &most, 4);
        like(&d, "mamba2_cpp", "heads that no layer has");
        doc_set(&d, ".ssm.group_count", GB_U32, &four, 4);
        expect(&d, "6 value heads of 4 groups", NULL, GPT_E_FORMAT, "mamba2.ssm: ");
        doc_free(&d);
    }
    if (doc_read(&d, "falcon_h1_norm_cpp")) {               /* its converter leaves out .weight */
        t = doc_find_tensor(&d, "blk.1.ffn_norm");
        strcpy(t->name, "blk.1.ffn_norm.weight");
        like(&d, "falcon_h1_norm_cpp", "ffn_norm.weight");
        doc_free(&d);
    }
    for (i = 0; i < sizeof in_one / sizeof *in_one; i++) {    /* some files have an expert's two matrices as one */
        unsigned char *kept[16];
        size_t n_kept = 0;
        if (!doc_read(&d, in_one[i])) continue;
        for (k = 0; k < d.n_tensor; k++) {
            doc_tensor *gate = &d.tensor[k], *up;
            char name[64];
            size_t n_each, n_expert, e;
            if (!strstr(gate->name, ".ffn_gate_exps.")) continue;
            snprintf(name, sizeof name, "%.6sffn_up_exps%s", gate->name, strrchr(gate->name, '.'));
            up = doc_find_tensor(&d, name);
            n_expert = (size_t)gate->ne[gate->n_dim - 1]; n_each = gate->n / n_expert;
            kept[n_kept] = (unsigned char *)malloc(2 * gate->n);
            if (!kept[n_kept]) exit(2);
            for (e = 0; e < n_expert; e++) {
                memcpy(kept[n_kept] + 2 * e * n_each, gate->data + e * n_each, n_each);
                memcpy(kept[n_kept] + (2 * e + 1) * n_each, up->data + e * n_each, n_each);
            }
            snprintf(name, sizeof name, "%.6sffn_gate_up_exps%s", gate->name, strrchr(gate->name, '.'));
            strcpy(gate->name, name);
            gate->data = kept[n_kept++]; gate->ne[gate->n_dim - 2] *= 2; gate->n *= 2;
            up->drop = 1;
        }
        CHECK(n_kept > 0, "%s: no experts", in_one[i]);
        like(&d, in_one[i], "gate and up in one");
        doc_find_tensor(&d, "blk.1.ffn_up_exps.weight")->drop = 0;
        expect(&d, "gate and up in one, and up", NULL, GPT_E_SHAPE, "blk.1: ");
        doc_find_tensor(&d, "blk.1.ffn_gate_up_exps.weight")->drop = 1;
        expect(&d, "up alone", NULL, GPT_E_SHAPE, "blk.1: ");
        doc_free(&d);
        while (n_kept > 0) free(kept[--n_kept]);
    }
    if (doc_read(&d, "qwen35_cpp")) {
        doc_set(&d, ".ssm.group_count", GB_U32, &three_u, 4);
        expect(&d, "4 value heads of 3 key heads", NULL, GPT_E_FORMAT, "qwen35.ssm: ");
        doc_free(&d);
    }
    if (doc_read(&d, "lfm2_cpp")) {
        doc_set(&d, ".shortconv.l_cache", GB_U32, &four, 4);
        expect(&d, "a longer convolution than its weights", NULL, GPT_E_SHAPE, "blk.0.shortconv.conv.weight");
        doc_set(&d, ".shortconv.l_cache", GB_U32, &three_u, 4);
        doc_set(&d, ".attention.head_count_kv", GB_ARR, all_kv, 24);
        expect(&d, "a layer said to be of attention", NULL, GPT_E_SHAPE, "blk.0");
        doc_set(&d, ".attention.head_count_kv", GB_ARR, some_kv, 24);
        expect(&d, "3 heads that share 2", NULL, GPT_E_FORMAT, "layer 1: 3 heads");
        doc_set(&d, ".attention.head_count_kv", GB_U32, &none, 4);
        expect(&d, "a layer said to be of short convolution", NULL, GPT_E_SHAPE, "blk.1.shortconv");
        doc_free(&d);
    }
    if (doc_read(&d, "phi3_long")) {
        doc_find_tensor(&d, "rope_factors_long.weight")->drop = 1;
        expect(&d, "longrope without its factors", NULL, GPT_E_SHAPE, "rope_factors_long");
        doc_free(&d);
    }
    if (doc_read(&d, "llama_rope3")) {
        static const float small[6] = { 1, 1, 1, 1, 1, 1e-7f };
        t = doc_find_tensor(&d, "rope_freqs.weight");
        CHECK(t->n == sizeof small, "%lu bytes of factors", (unsigned long)t->n);
        t->data = (const unsigned char *)small;
        expect(&d, "a factor of 1e-7", NULL, GPT_E_FORMAT, "rope_freqs.weight");
        doc_free(&d);
    }
    for (i = 0; i < sizeof refused / sizeof *refused; i++) {
        char what[96];
        doc_kv *kv;
        if (!doc_read(&d, refused[i].toy)) continue;
        kv = doc_find_kv(&d, refused[i].key);
        if (refused[i].val) doc_set(&d, refused[i].key, refused[i].type, refused[i].val, refused[i].n);
        else if (kv) kv->drop = 1;
        snprintf(what, sizeof what, "%s%s", refused[i].key, refused[i].val ? "" : " missing");
        expect(&d, what, NULL, refused[i].code, refused[i].key);
        doc_free(&d);
    }
}

/* ---- Tensors removed, of another shape, of another type, too many -------------------------------------------------- */

static const char *const tensor_toys[] = { "gpt2", "llama", "mixtral", "qwen2", "qwen2moe", "gemma3", "gpt_oss", "phi3_long", "gptneox", "gptneox_serial",
    "olmo2", "falcon_7b", "falcon_40b", "falcon_11b", "stablelm_12b", "bloom", "starcoder2", "command_r_plus", "gptj", "llama_rope3", "olmo", "phi2", "smollm3",
    "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "glm4moe_cpp", "ernie4_5_moe_cpp", "afmoe_cpp", "apertus_cpp", "llama4_cpp", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "smallthinker_cpp", "deepseek2_lite_cpp", "deepseek2_v3_cpp",
    "t5_cpp", "t5_first_cpp" };

/* Tensors whose absence is another, correct model: toy, or part of its name; part of the tensor's name */
static const struct { const char *toy, *tensor; } optional[] = {
    { "gpt2", "output.weight" }, { "llama", "output.weight" }, { "mixtral", "output.weight" }, { "qwen2.", "output.weight" },
    { "gemma", "output.weight" }, { "phi3", "output.weight" }, { "falcon", "output.weight" }, { "bloom", "output.weight" },
    { "starcoder", "output.weight" }, { "command", "output.weight" }, { "gptj", "output.weight" }, { "smollm3", "output.weight" },
    { "olmo.", "output.weight" }, { "t5_cpp", "output.weight" }, { "llama", "rope_freqs" }, { "apertus", "rope_freqs" }, { "gptj", "output.bias" },
    { "", "attn_q.bias" }, { "", "attn_k.bias" }, { "", "attn_v.bias" },        /* none is none */
    { "lfm2moe", "exp_probs_b" }, { "deepseek2", "exp_probs_b" }, { "deepseek2", "output.weight" }, { "granitehybrid", "ssm_conv1d.bias" }, { "mamba2", "ssm_conv1d.bias" },
    { "nemotron_h", "ssm_conv1d.bias" }, { "falcon_h1", "ssm_conv1d.bias" }, { "falcon_h1", "ssm_norm" }, { "mamba2", "output.weight" },
    { "nemotron_h", "output.weight" }, { "falcon_h1", "output.weight" }, { "gpt_oss", "ffn_gate_inp.bias" }, { "gpt_oss", "_exps.bias" },
    { "gemma4_moe", "ffn_down_exps.scale" }
};

static int is_optional(const char *toy, const char *tensor) {
    char name[64];                      /* with a point behind, so that "qwen2." is not qwen2moe */
    size_t i;
    snprintf(name, sizeof name, "%s.", toy);
    for (i = 0; i < sizeof optional / sizeof optional[0]; i++)
        if (!strncmp(name, optional[i].toy, strlen(optional[i].toy)) && strstr(tensor, optional[i].tensor) && !strstr(tensor, "attn_output")) return 1;
    return 0;
}

static void test_tensors(const char *name) {
    doc d;
    gpt_error err;
    gpt_result r;
    size_t i;
    char what[128];
    if (!doc_read(&d, name)) { doc_free(&d); return; }
    CHECK(load_doc(&d, "as it is", NULL, &err) == GPT_OK, "%s: %s", name, err.msg);
    for (i = 0; i < d.n_tensor; i++) {
        doc_tensor *t = &d.tensor[i], keep = *t;
        if (!strncmp(t->name, "blk.", 4) && t->name[4] > '1') continue;         /* two layers show it */
        snprintf(what, sizeof what, "without %s", t->name);
        t->drop = 1;
        r = load_doc(&d, what, NULL, &err);
        if (!is_optional(name, t->name))
            CHECK(r == GPT_E_SHAPE || r == GPT_E_UNSUPPORTED, "%s: %s: got %d (%s)", name, what, (int)r, err.msg);
        *t = keep;
        if (!strcmp(t->name, "rope_factors_long.weight") || !strcmp(t->name, "rope_factors_short.weight")) continue;
        t->data = NULL;
        t->ne[0]++;                                                     /* one column more */
        t->n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]) * 4;
        snprintf(what, sizeof what, "a wider %s", t->name);
        expect(&d, what, NULL, GPT_E_SHAPE, t->name);
        *t = keep;
        t->data = NULL;
        t->ne[t->n_dim - 1]--;                                          /* one row less */
        if (t->ne[t->n_dim - 1]) {
            t->n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]) * 4;
            snprintf(what, sizeof what, "a shorter %s", t->name);
            expect(&d, what, NULL, GPT_E_SHAPE, t->name);
        }
        *t = keep;
        t->data = NULL;
        t->ne[t->n_dim++] = 2;                                          /* one extent more */
        t->n *= 2;
        snprintf(what, sizeof what, "a deeper %s", t->name);
        expect(&d, what, NULL, GPT_E_SHAPE, t->name);
        *t = keep;
        t->type = GB_F16;                                               /* another type, the same shape */
        t->data = NULL;
        t->n /= 2;
        snprintf(what, sizeof what, "%s as f16", t->name);
        r = load_doc(&d, what, NULL, &err);
        CHECK(r == GPT_OK || (r == GPT_E_FORMAT && strstr(t->name, "rope_f")), "%s: %s: %s", name, what, err.msg);
        *t = keep;
        t->type = 26;                                                   /* i32 */
        snprintf(what, sizeof what, "%s as i32", t->name);
        expect(&d, what, NULL, GPT_E_UNSUPPORTED, t->name);
        *t = keep;
    }
    doc_free(&d);
}

static void extra_tensor(gb *g)  { gb_tensor(g, "blk.0.mystery.weight", GB_F32, 1, 8, 1, 1, 1, NULL, 32); }
static void extra_layer(gb *g)   { gb_tensor(g, "blk.9.attn_norm.weight", GB_F32, 1, 8, 1, 1, 1, NULL, 32); }
static void extra_pos(gb *g)     { gb_tensor(g, "position_embd.weight", GB_F32, 2, 30, 128, 1, 1, NULL, 30 * 128 * 4); }
static void extra_leading(gb *g) { gb_tensor(g, "blk.00.attn_norm.weight", GB_F32, 1, 30, 1, 1, 1, NULL, 120); }

static void shape_of(doc *d, const char *name, uint32_t n_dim, uint64_t d0, uint64_t d1) {
    doc_tensor *t = doc_find_tensor(d, name);
    if (!t) { CHECK(0, "%s: no tensor %s", d->name, name); return; }
    t->n_dim = n_dim;
    t->ne[0] = d0;
    t->ne[1] = d1;
    t->data = NULL;
    t->n = (size_t)(d0 * d1) * 4;
}

static void test_odd_sets(void) {
    doc d;
    gpt_error err;
    if (doc_read(&d, "llama")) {
        expect(&d, "an unknown tensor", extra_tensor, GPT_E_UNSUPPORTED, "blk.0.mystery.weight");
        expect(&d, "a tensor of layer 9", extra_layer, GPT_E_UNSUPPORTED, "blk.9.attn_norm.weight");
        expect(&d, "a learned position embedding", extra_pos, GPT_E_UNSUPPORTED, "position_embd.weight");
        expect(&d, "a layer number with a leading zero", extra_leading, GPT_E_UNSUPPORTED, "blk.00.attn_norm.weight");
    }
    doc_free(&d);
    /* q and k norms of different kinds: neither may be read beyond its end, and no kind may pass for another */
    if (doc_read(&d, "qwen3")) {
        doc_tensor *q = doc_find_tensor(&d, "blk.0.attn_q_norm.weight");
        uint64_t d_k = q ? q->ne[0] : 8;
        shape_of(&d, "blk.0.attn_q_norm.weight", 2, d_k, 6);
        (void)load_doc(&d, "a q norm for each head, one k norm", NULL, &err);
        shape_of(&d, "blk.0.attn_q_norm.weight", 1, d_k * 6, 1);
        (void)load_doc(&d, "a q norm over all heads, one k norm", NULL, &err);
        shape_of(&d, "blk.0.attn_q_norm.weight", 1, d_k, 1);
        shape_of(&d, "blk.0.attn_k_norm.weight", 1, d_k * 2, 1);
        (void)load_doc(&d, "one q norm, a k norm over all heads", NULL, &err);
    }
    doc_free(&d);
    if (doc_read(&d, "gptneox")) {      /* parallel: a block whose norm is in one layer only is no model */
        size_t i;
        for (i = 0; i < d.n_tensor; i++) if (!strncmp(d.tensor[i].name, "blk.1.ffn_norm", 14)) d.tensor[i].drop = 1;
        expect(&d, "a feed-forward norm in layer 0 only", NULL, GPT_E_SHAPE, "ffn_norm");
    }
    doc_free(&d);
    if (doc_read(&d, "qwen2moe")) {
        size_t i;
        for (i = 0; i < d.n_tensor; i++) if (!strcmp(d.tensor[i].name, "blk.1.ffn_down_shexp.weight")) d.tensor[i].drop = 1;
        expect(&d, "a shared expert without down", NULL, GPT_E_SHAPE, "shexp");
    }
    doc_free(&d);
}

/* ---- Hyper-parameters: removed, of strange values, of other types -------------------------------------------------- */

typedef struct raw { unsigned char b[64]; size_t n; uint32_t type; const char *what; } raw;

static raw raw_uint(uint32_t type, uint64_t v, const char *what) {
    raw r;
    size_t i;
    memset(&r, 0, sizeof r);
    r.type = type;
    r.n = type_bytes(type);
    r.what = what;
    for (i = 0; i < r.n; i++) r.b[i] = (unsigned char)(v >> (8 * i));
    return r;
}

static raw raw_f32(float f, const char *what) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return raw_uint(GB_FLOAT, u, what);
}

static raw raw_array(uint32_t elem, size_t count, unsigned char v, const char *what) {
    raw r;
    size_t i, size = type_bytes(elem);
    memset(&r, 0, sizeof r);
    r.type = GB_ARR;
    r.what = what;
    r.b[0] = (unsigned char)elem;
    r.b[4] = (unsigned char)count;
    for (i = 0; i < count; i++) r.b[12 + i * size] = v;
    r.n = 12 + count * size;
    return r;
}

static raw raw_str(const char *s, const char *what) {
    raw r;
    memset(&r, 0, sizeof r);
    r.type = GB_STR;
    r.what = what;
    r.b[0] = (unsigned char)strlen(s);
    memcpy(r.b + 8, s, strlen(s));
    r.n = 8 + strlen(s);
    return r;
}

static void test_hparams(const char *name) {
    static const char *const required[] = { ".block_count", ".embedding_length", ".context_length", ".attention.head_count" };
    raw v[32];
    size_t n = 0, i, k;
    doc d;
    gpt_error err;
    gpt_result r;
    v[n++] = raw_uint(GB_U32, 0, "0");
    v[n++] = raw_uint(GB_U32, 1, "1");
    v[n++] = raw_uint(GB_U32, 3, "3");
    v[n++] = raw_uint(GB_U32, 255, "255");
    v[n++] = raw_uint(GB_U32, 4096, "4096");
    v[n++] = raw_uint(GB_U32, 1u << 20, "2^20");
    v[n++] = raw_uint(GB_U32, 1u << 24, "2^24");
    v[n++] = raw_uint(GB_U32, 1u << 31, "2^31");
    v[n++] = raw_uint(GB_U32, 0xffffffffu, "2^32 - 1");
    v[n++] = raw_uint(GB_U64, (uint64_t)1 << 32, "2^32");
    v[n++] = raw_uint(GB_U64, ~(uint64_t)0, "2^64 - 1");
    v[n++] = raw_uint(GB_I32, 0xffffffffu, "-1");
    v[n++] = raw_uint(GB_I64, (uint64_t)1 << 63, "-2^63");
    v[n++] = raw_uint(GB_BOOL, 1, "true");
    v[n++] = raw_f32(NAN, "NaN");
    v[n++] = raw_f32(INFINITY, "infinity");
    v[n++] = raw_f32(-INFINITY, "-infinity");
    v[n++] = raw_f32(-1.5f, "-1.5");
    v[n++] = raw_f32(0.0f, "0.0");
    v[n++] = raw_f32(1.0f, "1.0");
    v[n++] = raw_f32(1e-38f, "1e-38");
    v[n++] = raw_f32(2.9e38f, "2.9e38");
    v[n++] = raw_str("42", "a string");
    v[n++] = raw_array(GB_U32, 0, 1, "an empty array");
    v[n++] = raw_array(GB_U32, 1, 1, "an array of one 1");
    v[n++] = raw_array(GB_U8, 40, 2, "an array of 40");
    v[n++] = raw_array(GB_FLOAT, 3, 0, "an array of floats");
    if (!doc_read(&d, name)) { doc_free(&d); return; }
    for (i = 0; i < d.n_kv; i++) {
        doc_kv keep = d.kv[i];
        const char *dot = strchr(keep.key, '.');
        char what[160];
        int need = 0;
        if (!strncmp(keep.key, "general.", 8) || !strncmp(keep.key, "tokenizer.", 10)) continue;
        if (strstr(keep.key, "max_alibi_bias")) continue;              /* a fixed number of the architecture: not read */
        if (!strcmp(keep.key, "mamba2.attention.head_count")) continue;         /* 0: not read */
        if (!strcmp(keep.key, "t5.attention.layer_norm_epsilon")) continue;     /* the other epsilon again */
        for (k = 0; k < 4; k++) need |= !strcmp(dot, required[k]);
        d.kv[i].drop = 1;
        snprintf(what, sizeof what, "no %s", keep.key);
        if (need) expect(&d, what, NULL, GPT_E_FORMAT, keep.key);
        else (void)load_doc(&d, what, NULL, &err);
        d.kv[i] = keep;
        for (k = 0; k < n; k++) {
            d.kv[i].type = v[k].type;
            d.kv[i].val = v[k].b;
            d.kv[i].n = v[k].n;
            snprintf(what, sizeof what, "%s = %s", keep.key, v[k].what);
            r = load_doc(&d, what, NULL, &err);
            CHECK(r == GPT_OK || r == GPT_E_FORMAT || r == GPT_E_SHAPE || r == GPT_E_UNSUPPORTED, "%s: %s: got %d (%s)", name, what, (int)r, err.msg);
            if (need && (v[k].type == GB_STR || v[k].type == GB_FLOAT || (k == 0 && strcmp(dot, ".context_length")) || !strcmp(v[k].what, "-1")))
                CHECK(r == GPT_E_FORMAT && strstr(err.msg, keep.key), "%s: %s: got %d (%s)", name, what, (int)r, err.msg);
            if (keep.type == GB_FLOAT && k >= 14 && k <= 16)
                CHECK(r == GPT_E_FORMAT && strstr(err.msg, keep.key), "%s: %s: got %d (%s)", name, what, (int)r, err.msg);
        }
        d.kv[i] = keep;
    }
    doc_free(&d);
}

static void set_u32(doc *d, const char *suffix, raw *r, uint32_t v) {
    doc_kv *kv = doc_find_kv(d, suffix);
    *r = raw_uint(GB_U32, v, "");
    if (!kv) { CHECK(0, "%s: no key %s", d->name, suffix); return; }
    kv->type = GB_U32;
    kv->val = r->b;
    kv->n = 4;
}

static void head_count_array_short(gb *g) { uint32_t i; gb_kv_array(g, "llama.attention.head_count_kv", GB_U32, 1); for (i = 0; i < 1; i++) gb_uint(g, &g->kv, 2, 4); }
static void head_count_array(gb *g)       { uint32_t i; gb_kv_array(g, "llama.attention.head_count_kv", GB_U32, 2); for (i = 0; i < 2; i++) gb_uint(g, &g->kv, 2, 4); }
static void experts_without(gb *g)        { gb_kv_u32(g, "llama.expert_count", 8); gb_kv_u32(g, "llama.expert_used_count", 9); }
static void experts_huge(gb *g)           { gb_kv_u32(g, "llama.expert_count", 4096); gb_kv_u32(g, "llama.expert_used_count", 4096); gb_kv_u32(g, "llama.expert_feed_forward_length", 1u << 20); }
static void window_huge(gb *g)            { gb_kv_u32(g, "llama.attention.sliding_window", 0xffffffffu); }
static void window_one(gb *g)             { gb_kv_u32(g, "llama.attention.sliding_window", 1); }
static void pattern_huge(gb *g)           { gb_kv_u32(g, "llama.attention.sliding_window_pattern", 256); }
static void rope_unknown(gb *g)           { gb_kv_str(g, "llama.rope.scaling.type", "mystery\n%s%n"); }
static void rope_yarn_base_1(gb *g)       { gb_kv_str(g, "llama.rope.scaling.type", "yarn"); gb_kv_f32(g, "llama.rope.scaling.factor", 4.0f); gb_kv_f32(g, "llama.rope.scaling.yarn_beta_fast", -1.0f); }
static void arch_llama(gb *g)             { gb_kv_str(g, "general.architecture", "llama"); }
static void arch_unknown(gb *g)           { gb_kv_str(g, "general.architecture", "mamba\x01\xFF"); }
static void arch_empty(gb *g)             { gb_kv_str(g, "general.architecture", ""); }
static void arch_number(gb *g)            { gb_kv_u32(g, "general.architecture", 7); }
static void arch_with_nul(gb *g)          { gb_key(g, "general.architecture", GB_STR); gb_text(g, &g->kv, "llama\0x", 7); }

static void test_metadata(void) {
    doc d;
    doc_kv *kv;
    raw r;
    gpt_error err;
    if (!doc_read(&d, "llama")) { doc_free(&d); return; }
    set_u32(&d, ".block_count", &r, 3);
    expect(&d, "a layer too many promised", NULL, GPT_E_SHAPE, "blk.2.");
    set_u32(&d, ".block_count", &r, 1);
    expect(&d, "a layer too few promised", NULL, GPT_E_UNSUPPORTED, "blk.1.");
    set_u32(&d, ".block_count", &r, 1025);
    expect(&d, "1025 layers", NULL, GPT_E_FORMAT, "llama.block_count");
    set_u32(&d, ".block_count", &r, 1024);
    expect(&d, "1024 layers", NULL, GPT_E_SHAPE, "blk.2.");
    set_u32(&d, ".block_count", &r, 2);
    {
        raw v;
        set_u32(&d, ".vocab_size", &v, 98);
        expect(&d, "98 tokens, 97 rows", NULL, GPT_E_SHAPE, "token_embd.weight");
        set_u32(&d, ".vocab_size", &v, 97);
        kv = doc_find_kv(&d, ".attention.head_count_kv");
        if (kv) kv->drop = 1;
        expect(&d, "as many key heads as heads", NULL, GPT_E_SHAPE, "attn_k.weight");
        CHECK(load_doc(&d, "head_count_kv by layer", head_count_array, &err) == GPT_OK, "%s", err.msg);
        expect(&d, "head_count_kv for one layer of two", head_count_array_short, GPT_E_FORMAT, "head_count_kv");
        if (kv) kv->drop = 0;
        expect(&d, "more experts used than there are", experts_without, GPT_E_FORMAT, "expert_used_count");
        expect(&d, "experts without tensors", experts_huge, GPT_E_SHAPE, "llama.expert_count");
        CHECK(load_doc(&d, "a window of 2^32 - 1", window_huge, &err) == GPT_OK, "%s", err.msg);
        CHECK(load_doc(&d, "a window of 1", window_one, &err) == GPT_OK, "%s", err.msg);
        expect(&d, "a pattern of 256", pattern_huge, GPT_E_FORMAT, "sliding_window_pattern");
        expect(&d, "unknown rope scaling", rope_unknown, GPT_E_UNSUPPORTED, "rope.scaling.type");
        (void)load_doc(&d, "yarn that turns backwards", rope_yarn_base_1, &err);
        kv = doc_find_kv(&d, "general.architecture");
        if (kv) kv->drop = 1;
        expect(&d, "no architecture", NULL, GPT_E_FORMAT, "general.architecture: missing");
        expect(&d, "an unknown architecture", arch_unknown, GPT_E_UNSUPPORTED, "mamba");
        expect(&d, "an empty architecture", arch_empty, GPT_E_FORMAT, "general.architecture");
        expect(&d, "a number as architecture", arch_number, GPT_E_FORMAT, "general.architecture");
        CHECK(load_doc(&d, "the architecture at the end", arch_llama, &err) == GPT_OK, "%s", err.msg);
        (void)load_doc(&d, "an architecture with a NUL", arch_with_nul, &err);
        for (kv = d.kv; kv < d.kv + d.n_kv; kv++) CHECK((unsigned char)err.msg[0] < 128, "message");
    }
    doc_free(&d);
}

/* ---- Tokenizer metadata -------------------------------------------------------------------------------------------- */

static const char *tok_model, *tok_pre, *tok_merge;
static size_t tok_n, tok_scores, tok_types;
static int32_t tok_bos, tok_eos;

static void tokenizer_kvs(gb *g) {
    size_t i;
    char s[16];
    gb_kv_str(g, "tokenizer.ggml.model", tok_model);
    if (tok_pre) gb_kv_str(g, "tokenizer.ggml.pre", tok_pre);
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, tok_n);
    for (i = 0; i < tok_n; i++) {
        if (i < 94) snprintf(s, sizeof s, "%c", (char)('!' + i));
        else snprintf(s, sizeof s, "<|%u|>", (unsigned)i);
        gb_text(g, &g->kv, s, strlen(s));
    }
    gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, tok_scores);
    for (i = 0; i < tok_scores; i++) gb_float(g, &g->kv, -(float)i);
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, tok_types);
    for (i = 0; i < tok_types; i++) gb_uint(g, &g->kv, i < 94 ? 1 : 3, 4);
    if (tok_merge) gb_kv_strs(g, "tokenizer.ggml.merges", &tok_merge, 1);
    gb_kv_u32(g, "tokenizer.ggml.bos_token_id", (uint32_t)tok_bos);
    gb_kv_u32(g, "tokenizer.ggml.eos_token_id", (uint32_t)tok_eos);
}

static void tok_default(void) {
    tok_model = "gpt2"; tok_pre = "gpt-2"; tok_n = tok_scores = tok_types = 97; tok_bos = 95; tok_eos = 96;
    tok_merge = "\xE2\x84\xA2 a";       /* one that is never used */
}

static void test_tokenizer(void) {
    doc d;
    doc_kv *kv;
    gpt_error err;
    const unsigned char *p;
    size_t n;
    int i;
    if (!doc_read(&d, "llama")) { doc_free(&d); return; }
    kv = doc_find_kv(&d, "tokenizer.ggml.model");
    if (kv) kv->drop = 1;
    tok_default();
    CHECK(load_doc(&d, "with a tokenizer", tokenizer_kvs, &err) == GPT_OK, "%s", err.msg);
    tok_n = tok_scores = tok_types = 96; tok_bos = 94; tok_eos = 95;
    expect(&d, "96 tokens, 97 rows", tokenizer_kvs, GPT_E_SHAPE, "token_embd.weight");
    tok_default(); tok_n = tok_scores = tok_types = 98;
    expect(&d, "98 tokens, 97 rows", tokenizer_kvs, GPT_E_SHAPE, "token_embd.weight");
    tok_default(); tok_scores = 96;
    expect(&d, "96 scores", tokenizer_kvs, GPT_E_FORMAT, "tokenizer.ggml.scores");
    tok_default(); tok_types = 96;
    expect(&d, "96 token types", tokenizer_kvs, GPT_E_FORMAT, "tokenizer.ggml.token_type");
    tok_default(); tok_types = tok_scores = 98;             /* what is left over has no use */
    CHECK(load_doc(&d, "98 scores and types", tokenizer_kvs, &err) == GPT_OK, "%s", err.msg);
    tok_default(); tok_pre = NULL;
    CHECK(load_doc(&d, "no pre-tokenizer named", tokenizer_kvs, &err) == GPT_OK, "%s", err.msg);
    tok_default(); tok_merge = NULL;
    expect(&d, "no merges", tokenizer_kvs, GPT_E_FORMAT, "tokenizer.ggml.merges");
    tok_default(); tok_model = "mystery";
    expect(&d, "an unknown tokenizer", tokenizer_kvs, GPT_E_UNSUPPORTED, "mystery");
    for (i = 0; i < 4; i++) {           /* ids beyond the vocabulary must not be used */
        static const int32_t bad[] = { 97, 0x7fffffff, -1, -2147483647 };
        tok_default();
        tok_bos = tok_eos = bad[i];
        (void)load_doc(&d, "bos and eos beyond the vocabulary", tokenizer_kvs, &err);
        CHECK(err.code == GPT_OK || err.code == GPT_E_FORMAT, "%s", err.msg);
    }
    tok_default(); tok_pre = "mystery";
    expect(&d, "an unknown pre-tokenizer", tokenizer_kvs, GPT_E_UNSUPPORTED, "mystery");
    p = doc_emit(&d, tokenizer_kvs, &n);
    for (i = 0; i < 3; i++) {
        static const char *const pre[] = { "gpt-2", "llama-bpe", "nobody-knows" };
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        gpt_result r;
        mp.pretokenizer = pre[i];
        r = gpt_model_load_memory(&m, p, n, &mp, &err);
        CHECK(r == (i < 2 ? GPT_OK : GPT_E_UNSUPPORTED), "pretokenizer %s: %s", pre[i], err.msg);
        gpt_model_free(m);
        CHECK(h.live == 0, "pretokenizer %s: %u blocks left", pre[i], (unsigned)h.live);
    }
    doc_free(&d);
}

/* ---- Weights that are no numbers ----------------------------------------------------------------------------------- */

static void test_strange_weights(const char *name) {
    static const uint32_t bits[] = { 0x7fc00000u, 0x7f800000u, 0xff800000u, 0x7f7fffffu, 0x00000001u, 0xffffffffu };
    doc d;
    size_t i, k, b;
    gpt_error err;
    char what[128];
    if (!doc_read(&d, name)) { doc_free(&d); return; }
    for (i = 0; i <= d.n_tensor; i++) for (b = 0; b < sizeof bits / sizeof bits[0]; b++) {
        doc_tensor *t = &d.tensor[i < d.n_tensor ? i : 0], keep = *t;
        unsigned char *v;
        if (i == d.n_tensor || (b != 0 && b != 1 + i % 5)) continue;
        v = (unsigned char *)malloc(t->n);
        if (!v) return;
        for (k = 0; k + 4 <= t->n; k += 4) memcpy(v + k, &bits[b], 4);
        t->data = v;
        snprintf(what, sizeof what, "%s full of 0x%08lx", t->name, (unsigned long)bits[b]);
        (void)load_doc(&d, what, NULL, &err);
        CHECK(err.code == GPT_OK || (err.code == GPT_E_FORMAT && strstr(t->name, "rope_f")), "%s: %s: %s", name, what, err.msg);
        *t = keep;
        free(v);
    }
    doc_free(&d);
}

/* ---- Memory, reads and the progress hook fail ---------------------------------------------------------------------- */

typedef struct bytes { const unsigned char *p; size_t n; size_t n_read, fail_at, short_by; } bytes;

static size_t read_bytes(void *user, uint64_t offset, void *dst, size_t n) {
    bytes *b = (bytes *)user;
    if (offset > b->n || n > b->n - offset) { CHECK(0, "a read beyond the end"); return 0; }
    if (++b->n_read == b->fail_at) n = b->short_by && b->short_by < n ? n - b->short_by : 0;
    memcpy(dst, b->p + offset, n);
    return n;
}

typedef struct progress_log { size_t n, cancel_at; uint64_t last, total; } progress_log;

static int on_progress(void *user, uint64_t done, uint64_t total) {
    progress_log *l = (progress_log *)user;
    CHECK(done >= l->last && done <= total && (!l->total || l->total == total), "progress %lu after %lu of %lu", (unsigned long)done, (unsigned long)l->last, (unsigned long)total);
    l->last = done;
    l->total = total;
    return ++l->n == l->cancel_at;
}

static void test_failures(const unsigned char *p, size_t n, const char *name) {
    size_t k, total = 0;
    int mapped;
    gpt_error err;
    for (mapped = 0; mapped < 3; mapped++) for (k = 1;; k++) {      /* the k-th allocation */
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        gpt_session *s = NULL;
        gpt_session_params sp;
        gpt_result r;
        memset(&sp, 0, sizeof sp);
        sp.n_ctx = 8;
        h.fail_at = k;
        mp.mapped = mapped;
        r = gpt_model_load_memory(&m, p, n, &mp, &err);
        if (r == GPT_OK) r = gpt_session_new(&s, m, &sp, &err);
        if (h.n < k) {
            CHECK(r == GPT_OK, "%s: %s", name, err.msg);
            gpt_session_free(s);
            gpt_model_free(m);
            break;
        }
        CHECK(r == GPT_E_MEMORY && !s && strstr(err.msg, "memory"), "%s: allocation %u fails: code %d (%s)", name, (unsigned)k, (int)r, err.msg);
        gpt_model_free(m);
        CHECK(h.live == 0, "%s: allocation %u fails: %u blocks left", name, (unsigned)k, (unsigned)h.live);
    }
    for (k = 0; k <= total; k++) {                                  /* the k-th read, in two ways */
        int how;
        for (how = 0; how < 2; how++) {
            heap h;
            gpt_model_params mp = params_on(&h);
            gpt_model *m = NULL;
            bytes b;
            gpt_reader rd;
            gpt_result r;
            memset(&b, 0, sizeof b);
            b.p = p; b.n = n; b.fail_at = k; b.short_by = (size_t)how;
            rd.read = read_bytes; rd.user = &b; rd.size = n;
            r = gpt_model_load_reader(&m, &rd, 1, &mp, &err);
            if (k == 0) total = b.n_read;
            CHECK(r == (k ? GPT_E_IO : GPT_OK), "%s: read %u of %u fails: code %d (%s)", name, (unsigned)k, (unsigned)total, (int)r, err.msg);
            gpt_model_free(m);
            CHECK(h.live == 0, "%s: read %u fails: %u blocks left", name, (unsigned)k, (unsigned)h.live);
        }
    }
    for (k = 1;; k++) {                                             /* cancel at every call of the progress hook */
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        progress_log l;
        gpt_result r;
        memset(&l, 0, sizeof l);
        l.cancel_at = k;
        mp.progress = on_progress;
        mp.progress_user = &l;
        r = gpt_model_load_memory(&m, p, n, &mp, &err);
        if (l.n < k) {
            CHECK(r == GPT_OK && l.n > 0 && l.last == l.total, "%s: %u progress calls, the last %lu of %lu", name, (unsigned)l.n, (unsigned long)l.last, (unsigned long)l.total);
            gpt_model_free(m);
            break;
        }
        CHECK(r == GPT_E_CANCELLED && !m && h.live == 0, "%s: cancelled at %u: code %d (%s)", name, (unsigned)k, (int)r, err.msg);
    }
}

/* Cut at some hundred places, those near the header's end among them: an error, from memory and from a reader alike. */
static void test_truncated(const unsigned char *p, size_t n, const char *name) {
    size_t cut, step;
    for (cut = 0; cut < n; cut += step) {
        heap h;
        gpt_model_params mp = params_on(&h);
        gpt_model *m = NULL;
        bytes b;
        gpt_reader rd;
        gpt_error e1, e2;
        unsigned char *copy = (unsigned char *)malloc(cut ? cut : 1);
        gpt_result r1, r2;
        if (!copy) return;
        memcpy(copy, p, cut);
        memset(&b, 0, sizeof b);
        b.p = copy; b.n = cut;
        rd.read = read_bytes; rd.user = &b; rd.size = cut;
        r1 = gpt_model_load_memory(&m, copy, cut, &mp, &e1);
        CHECK(!m, "%s: loads though cut at %u", name, (unsigned)cut);
        r2 = gpt_model_load_reader(&m, &rd, 1, &mp, &e2);
        CHECK(!m && h.live == 0, "%s: cut at %u: %u blocks left", name, (unsigned)cut, (unsigned)h.live);
        CHECK((r1 == GPT_E_FORMAT || r1 == GPT_E_IO) && r1 == r2 && !strcmp(e1.msg, e2.msg), "%s: cut at %u: code %d (%s), by a reader code %d (%s)", name, (unsigned)cut, (int)r1, e1.msg, (int)r2, e2.msg);
        free(copy);
        step = cut < 40 ? 1 : cut < 3000 ? 7 : n / 60 + 1;
    }
}

/* ---- Every way to load gives the same model ------------------------------------------------------------------------ */

static void check_same(const char *name, const char *how, gpt_model *m, const gpt_error *err, const float *want, size_t n_vocab) {
    float *got = (float *)malloc(n_vocab * sizeof(float));
    CHECK(m, "%s %s: %s", name, how, err->msg);
    if (m && got) {
        use_model(name, m, got);
        CHECK(!memcmp(got, want, n_vocab * sizeof(float)), "%s %s: other bits", name, how);
    }
    free(got);
    gpt_model_free(m);
}

static void test_split(doc *d, const float *want, size_t n_vocab) {
    enum { PARTS = 3 };
    char path[PARTS][128];
    unsigned char *part[PARTS];
    gpt_reader rd[PARTS];
    bytes b[PARTS];
    size_t i, n, k, live = 0;
    heap h;
    gpt_model_params mp;
    gpt_model *m = NULL;
    gpt_error err;
    memset(b, 0, sizeof b);
    for (i = 0; i < PARTS; i++) {
        gb g;
        const unsigned char *p;
        gb_init(&g, 3, 0);
        if (i == 0) doc_kvs(d, &g);
        gb_kv_uint(&g, "split.no", GB_U16, i);
        gb_kv_uint(&g, "split.count", GB_U16, PARTS);
        gb_kv_uint(&g, "split.tensors.count", GB_I32, d->n_tensor);
        doc_tensors(d, &g, i * d->n_tensor / PARTS, (i + 1) * d->n_tensor / PARTS);
        p = gb_finish(&g, &n);
        part[i] = (unsigned char *)malloc(n);
        if (!part[i]) return;
        memcpy(part[i], p, n);
        b[i].p = part[i];
        b[i].n = n;
        rd[i].read = read_bytes; rd[i].user = &b[i]; rd[i].size = n;
        snprintf(path[i], sizeof path[i], BUILD_DIR "/unit_load-%05u-of-%05u.gguf", (unsigned)i + 1, (unsigned)PARTS);
        CHECK(gb_write(&g, path[i]), "%s: cannot write", path[i]);
        gb_free(&g);
    }
    for (i = 0; i < PARTS; i++) for (k = 0; k < 3; k++) {
        mp = params_on(&h);
        mp.mapped = (int)k;
        m = NULL;
        (void)gpt_model_load(&m, path[i], &mp, &err);
        check_same(d->name, k == 2 ? "in parts, experts mapped" : k ? "in parts, mapped" : "in parts", m, &err, want, n_vocab);
        live += h.live;
    }
    mp = params_on(&h);
    (void)gpt_model_load_reader(&m, rd, PARTS, &mp, &err);
    check_same(d->name, "in parts by readers", m, &err, want, n_vocab);
    CHECK(live + h.live == 0, "%s in parts: blocks left", d->name);
    for (i = 0; i < PARTS; i++) {                   /* parts missing, twice or in disorder */
        gpt_reader two = rd[i];
        m = NULL;
        CHECK(gpt_model_load_reader(&m, &two, 1, &mp, &err) != GPT_OK && !m, "one part of three loads");
        CHECK(gpt_model_load_memory(&m, part[i], b[i].n, &mp, &err) == GPT_E_FORMAT && !m && strstr(err.msg, "split"), "one part from memory: %s", err.msg);
        rd[i] = rd[(i + 1) % PARTS];
        CHECK(gpt_model_load_reader(&m, rd, PARTS, &mp, &err) == GPT_E_FORMAT && !m && strstr(err.msg, "part"), "parts in disorder: %s", err.msg);
        rd[i] = two;
        remove(path[i]);
        CHECK(gpt_model_load(&m, path[(i + 1) % PARTS], &mp, &err) == GPT_E_IO && !m, "a part is missing: %s", err.msg);
        CHECK(h.live == 0, "split failures: %u blocks left", (unsigned)h.live);
    }
    for (i = 0; i < PARTS; i++) free(part[i]);
}

static void test_same(const char *name) {
    char path[128];
    doc d;
    heap h;
    gpt_model_params mp = params_on(&h);
    gpt_model *m = NULL;
    gpt_model_info info, head;
    char arch[32];
    gpt_error err;
    bytes b;
    gpt_reader rd;
    float *want;
    size_t n_vocab, size;
    int mapped;
    if (!doc_read(&d, name)) { doc_free(&d); return; }
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    memset(&b, 0, sizeof b);
    b.p = d.file; b.n = d.n_file;
    rd.read = read_bytes; rd.user = &b; rd.size = d.n_file;
    CHECK(gpt_model_load(&m, path, &mp, &err) == GPT_OK, "%s: %s", name, err.msg);
    if (!m) { doc_free(&d); return; }
    gpt_model_info_get(m, &info);
    snprintf(arch, sizeof arch, "%s", info.architecture);
    size = gpt_session_bytes(m, NULL);
    n_vocab = info.n_vocab;
    want = (float *)malloc(n_vocab * sizeof(float));
    if (!want) return;
    use_model(name, m, want);
    gpt_model_free(m);
    CHECK(h.live == 0, "%s: %u blocks left", name, (unsigned)h.live);
    for (mapped = 0; mapped < 3; mapped++) {
        mp.mapped = mapped;
        (void)gpt_model_load(&m, path, &mp, NULL);
        check_same(name, "by path", m, &err, want, n_vocab);
        (void)gpt_model_load_memory(&m, d.file, d.n_file, &mp, NULL);
        check_same(name, "from memory", m, &err, want, n_vocab);
        (void)gpt_model_load_reader(&m, &rd, 1, &mp, NULL);
        check_same(name, "by a reader", m, &err, want, n_vocab);
    }
    {                                               /* bytes at an odd address, from memory and in place */
        unsigned char *odd = (unsigned char *)malloc(d.n_file + 1);
        if (!odd) return;
        memcpy(odd + 1, d.file, d.n_file);
        for (mapped = 0; mapped < 3; mapped++) {
            mp.mapped = mapped;
            (void)gpt_model_load_memory(&m, odd + 1, d.n_file, &mp, &err);
            check_same(name, "at an odd address", m, &err, want, n_vocab);
        }
        free(odd);
    }
    mp.mapped = 0;
    mp.header_only = 1;
    CHECK(gpt_model_load(&m, path, &mp, &err) == GPT_OK, "%s: header only: %s", name, err.msg);
    if (m) {
        gpt_session *s = NULL;
        gpt_model_info_get(m, &head);
        CHECK(head.n_vocab == info.n_vocab && head.n_param == info.n_param && head.weight_bytes == info.weight_bytes && head.n_layer == info.n_layer &&
              head.d_ff == info.d_ff && head.file_bytes == info.file_bytes && !strcmp(head.architecture, arch), "%s: header only: other facts", name);
        CHECK(gpt_session_bytes(m, NULL) == size && size > 0, "%s: header only: a session of %lu bytes, not %lu", name, (unsigned long)gpt_session_bytes(m, NULL), (unsigned long)size);
        CHECK(gpt_session_new(&s, m, NULL, &err) == GPT_E_STATE && !s && strstr(err.msg, "header_only"), "%s: a session without weights: %s", name, err.msg);
        gpt_model_free(m);
    }
    CHECK(h.live == 0, "%s: %u blocks left", name, (unsigned)h.live);
    test_split(&d, want, n_vocab);
    free(want);
    doc_free(&d);
}

/* ---- Messages: what a file spells is shown as printable ASCII, and what is cut off leaves a sign ------------------------ */

static const char *spell;               /* what the file spells: escape sequences and broken UTF-8 */

static void spell_key_twice(gb *g)   { gb_kv_bool(g, spell, 1); gb_kv_bool(g, spell, 0); }
static void spell_key_type(gb *g)    { gb_key(g, spell, 13); }
static void spell_key_array(gb *g)   { gb_kv_array(g, spell, 13, 1); }
static void spell_key_deep(gb *g)    { int i; gb_kv_array(g, spell, GB_ARR, 1); for (i = 0; i < 12; i++) gb_array(g, GB_ARR, 1); }
static void spell_arch(gb *g)        { gb_kv_str(g, "general.architecture", spell); }
static void spell_activation(gb *g)  { gb_kv_str(g, "llama.hidden_activation", spell); }
static void spell_rope(gb *g)        { gb_kv_str(g, "llama.rope.scaling.type", spell); }
static void spell_model(gb *g)       { tok_default(); tok_model = spell; tokenizer_kvs(g); }
static void spell_pre(gb *g)         { tok_default(); tok_pre = spell; tokenizer_kvs(g); }
static void spell_token(gb *g) {
    gb_kv_str(g, "tokenizer.ggml.model", "llama");
    gb_kv_strs(g, "tokenizer.ggml.tokens", &spell, 1);
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, 1);
    gb_uint(g, &g->kv, GPTI_TOKEN_BYTE, 4);
}
static void spell_tensor(gb *g, uint32_t type, uint32_t n_dim, uint64_t d0, uint64_t offset) {
    gb_pad(&g->data, g->align);
    gb_info(g, spell, type, n_dim, d0, 1, 1, 1, g->data.n + offset);
}
static void spell_extra(gb *g)       { gb_tensor(g, spell, GB_F32, 1, 8, 1, 1, 1, NULL, 32); }
static void spell_extents(gb *g)     { spell_tensor(g, GB_F32, 5, 1, 0); }
static void spell_type(gb *g)        { spell_tensor(g, 99, 1, 8, 0); }
static void spell_empty(gb *g)       { spell_tensor(g, GB_F32, 1, 0, 0); }
static void spell_columns(gb *g)     { spell_tensor(g, GB_Q8_0, 1, 33, 0); }
static void spell_huge(gb *g)        { spell_tensor(g, GB_F32, 1, (uint64_t)1 << 63, 0); }
static void spell_offset(gb *g)      { spell_tensor(g, GB_F32, 1, 8, 4); }
static void spell_beyond(gb *g)      { spell_tensor(g, GB_F32, 1, 8, 1 << 20); }
static void spell_twice(gb *g)       { spell_extra(g); spell_extra(g); }
static void spell_overlap(gb *g)     { spell_extra(g); gb_info(g, spell, GB_F32, 1, 8, 1, 1, 1, g->data.n - 32); }

static void test_spelled(void) {
    static const char shown[] = "\\x1b]0;owned\\x07\\x1b[31m\\x9b\\xff\\x80\\x0a%n\\x7f";
    static const char text[] = "\x1b]0;owned\x07\x1b[31m\x9b\xff\x80\n%n\x7f";
    static const struct { const char *drop; void (*extra)(gb *g); } places[] = {
        { NULL, spell_key_twice }, { NULL, spell_key_type }, { NULL, spell_key_array }, { NULL, spell_key_deep },
        { "general.architecture", spell_arch }, { ".hidden_activation", spell_activation }, { NULL, spell_rope },
        { "tokenizer.ggml.model", spell_model }, { "tokenizer.ggml.model", spell_pre }, { "tokenizer.ggml.model", spell_token },
        { NULL, spell_extra }, { NULL, spell_extents }, { NULL, spell_type }, { NULL, spell_empty }, { NULL, spell_columns },
        { NULL, spell_huge }, { NULL, spell_offset }, { NULL, spell_beyond }, { NULL, spell_twice }, { NULL, spell_overlap }
    };
    char longer[320];
    size_t i, n;
    doc d;
    gpt_error err;
    int k, part;
    for (i = 0; i < sizeof longer - 1; i++) longer[i] = (char)(0x80 + i % 32);
    longer[i] = 0;
    if (!doc_read(&d, "llama")) { doc_free(&d); return; }
    for (i = 0; i < sizeof places / sizeof places[0]; i++) for (k = 0; k < 2; k++) {
        doc_kv *kv = places[i].drop ? doc_find_kv(&d, places[i].drop) : NULL;
        char what[32];
        spell = k ? longer : text;
        if (kv) kv->drop = 1;
        snprintf(what, sizeof what, "place %u", (unsigned)i);
        CHECK(load_doc(&d, what, places[i].extra, &err) != GPT_OK, "%s loads", what);        /* load_bytes scans the message */
        CHECK(strstr(err.msg, k ? "\\x80\\x81\\x82" : shown) && (!k || strstr(err.msg, "...")), "%s: \"%s\"", what, err.msg);
        if (kv) kv->drop = 0;
        for (part = 0; part < 2; part++) {          /* the same in the other part of a split model */
            bytes b[2];
            gpt_reader rd[2];
            gb g[2];
            gpt_model *m = NULL;
            int j;
            for (j = 0; j < 2; j++) {
                gb_init(&g[j], 3, 0);
                gb_kv_uint(&g[j], "split.no", GB_U16, (uint64_t)j);
                gb_kv_uint(&g[j], "split.count", GB_U16, 2);
                if (j == part) places[i].extra(&g[j]);
                memset(&b[j], 0, sizeof b[j]);
                b[j].p = gb_finish(&g[j], &n);
                b[j].n = n;
                rd[j].read = read_bytes; rd[j].user = &b[j]; rd[j].size = n;
            }
            CHECK(gpt_model_load_reader(&m, rd, 2, NULL, &err) != GPT_OK && strspn(err.msg, PRINTABLE) == strlen(err.msg),
                  "%s in part %d: %s", what, part, err.msg);
            for (j = 0; j < 2; j++) gb_free(&g[j]);
        }
    }
    CHECK(load_bytes("another kind of file", (const unsigned char *)"\x1b[2J and so on, and so on", 27, &err) == GPT_E_FORMAT && strstr(err.msg, "\\x1b[2J"), "%s", err.msg);
    doc_free(&d);
}

/* The same from whole files, where they are at hand. */
static void test_spelled_files(void) {
    static const char *const files[] = { "esc_tensor", "esc_tokmodel" };
    size_t i;
    for (i = 0; i < 2; i++) {
        char path[64];
        gpt_model *m = NULL;
        gpt_error err;
        FILE *f;
        snprintf(path, sizeof path, "../shared/cases/gguf/%s.gguf", files[i]);
        f = fopen(path, "rb");
        if (!f) continue;
        fclose(f);
        CHECK(gpt_model_load(&m, path, NULL, &err) != GPT_OK && strspn(err.msg, PRINTABLE) == strlen(err.msg), "%s", err.msg);
    }
}

/* A path keeps its end, whole characters of it, with "..." ahead where it was cut; a message that is too long ends in it. */
static void test_cut(void) {
    static const char *const steps[] = { "x", "\xC3\xA4", "\xE6\x97\xA5", "\xF0\x9F\x98\x80" };
    char path[600], name[320];
    gpt_model *m = NULL;
    gpt_error err;
    size_t i, k, n, at;
    FILE *f;
    for (k = 0; k < 4; k++) for (at = 0; at < 100; at++) {
        const size_t len = strlen(steps[k]);
        for (i = n = 0; i < at; i++) { memcpy(path + n, steps[k], len); n += len; }
        strcpy(path + n, "/no-such-model.gguf");
        CHECK(gpt_model_load(&m, path, NULL, &err) == GPT_E_IO && strstr(err.msg, "/no-such-model.gguf: cannot open the file"), "%s", err.msg);
        for (i = strncmp(err.msg, "...", 3) ? 0 : 3; !strncmp(err.msg + i, steps[k], len); i += len) {}
        CHECK(!strncmp(err.msg + i, "/no-such", 8), "cut inside a character: %s", err.msg);
        CHECK(!strncmp(err.msg, "...", 3) == (strlen(path) > 71), "%lu bytes: %s", (unsigned long)strlen(path), err.msg);
    }
    strcpy(path, BUILD_DIR);
    for (i = 0; i < 100; i++) strcat(path, "/.");
    strcat(path, "/unit_load-cut.gguf");
    f = fopen(path, "wb");
    CHECK(f && fputs("no model", f) >= 0 && !fclose(f), "%s: cannot write", path);
    CHECK(gpt_model_load(&m, path, NULL, &err) == GPT_E_FORMAT && !strncmp(err.msg, "...", 3) && strstr(err.msg, "./unit_load-cut.gguf: GGUF header: expected the bytes GGUF, found no m"), "%s", err.msg);
    remove(path);
    memset(name, 'k', sizeof name - 1);
    name[sizeof name - 1] = 0;
    gpti_fail(&err, GPT_E_ARG, "%s", name);
    CHECK(strlen(err.msg) == sizeof err.msg - 1 && !strcmp(err.msg + sizeof err.msg - 5, "k..."), "%s", err.msg);
    gpti_fail(&err, GPT_E_ARG, "%.191s", name);
    CHECK(strlen(err.msg) == sizeof err.msg - 1 && !strstr(err.msg, "..."), "%s", err.msg);
    {
        gpt_model_params mp;
        memset(&mp, 0, sizeof mp);
        mp.kernels = name;
        CHECK(gpt_model_load_memory(&m, "GGUF", 4, &mp, &err) == GPT_E_ARG && strstr(err.msg, "found \"kkk") && !strcmp(err.msg + sizeof err.msg - 5, "k..."), "%s", err.msg);
    }
}

/* ---- Arguments and sizes ------------------------------------------------------------------------------------------- */

static void *half_alloc(void *user, size_t n) { (void)user; return malloc(n); }

static void test_arguments(void) {
    heap h;
    gpt_model_params mp = params_on(&h);
    gpt_model *m = (gpt_model *)&h;
    gpt_error err;
    gpt_reader rd;
    gpt_model_params half;
    int i;
    memset(&rd, 0, sizeof rd);
    memset(&half, 0, sizeof half);
    half.alloc.alloc = half_alloc;
    CHECK(gpt_model_load(&m, NULL, &mp, &err) == GPT_E_ARG && !m && err.msg[0], "path NULL");
    CHECK(gpt_model_load(NULL, "x", &mp, &err) == GPT_E_ARG, "out NULL");
    CHECK(gpt_model_load(&m, "no/such/file.gguf", &mp, &err) == GPT_E_IO && strstr(err.msg, "no/such/file.gguf"), "%s", err.msg);
    CHECK(gpt_model_load(&m, "tests", &mp, &err) == GPT_E_IO && !m, "a directory: %s", err.msg);
    CHECK(gpt_model_load(&m, "no-00001-of-99999.gguf", &mp, &err) == GPT_E_IO && !m, "%s", err.msg);
    CHECK(gpt_model_load(&m, "no-00000-of-00000.gguf", &mp, &err) == GPT_E_IO && !m, "%s", err.msg);
    for (i = 0; i < 2; i++) {               /* a whole file that is named like a part, and a part whose other is missing */
        static const char name[] = BUILD_DIR "/whole-00001-of-00002.gguf";
        static const uint32_t two = 2;
        doc d;
        size_t n;
        const unsigned char *p;
        FILE *f;
        if (!doc_read(&d, "llama")) continue;
        if (i) doc_set(&d, "split.count", GB_U32, &two, 4);
        p = doc_emit(&d, NULL, &n);
        f = fopen(name, "wb");
        CHECK(f && fwrite(p, 1, n, f) == n, "%s", name);
        if (f) fclose(f);
        CHECK(gpt_model_load(&m, name, &mp, &err) == (i ? GPT_E_IO : GPT_OK) && (m == NULL) == i, "%s", err.msg);
        CHECK(!i || strstr(err.msg, "whole-00002-of-00002.gguf"), "%s", err.msg);
        gpt_model_free(m);
        doc_free(&d);
        remove(name);
    }
    CHECK(gpt_model_load_memory(&m, NULL, 10, &mp, &err) == GPT_E_ARG && !m, "data NULL");
    CHECK(gpt_model_load_memory(&m, "", 0, &mp, &err) == GPT_E_FORMAT && !m, "no bytes: %s", err.msg);
    CHECK(gpt_model_load_reader(&m, &rd, 1, &mp, &err) == GPT_E_ARG && !m, "no read function");
    CHECK(gpt_model_load_reader(&m, NULL, 1, &mp, &err) == GPT_E_ARG && !m, "no parts");
    CHECK(gpt_model_load_reader(&m, &rd, 0, &mp, &err) == GPT_E_ARG && !m, "0 parts");
    CHECK(gpt_model_load_memory(&m, "GGUF", 4, &half, &err) == GPT_E_ARG && !m, "half an allocator: %s", err.msg);
    CHECK(gpt_model_load_memory(&m, "GGUF", 4, &half, NULL) == GPT_E_ARG && !m, "half an allocator, no error wanted");
    mp.kernels = "abacus";
    CHECK(gpt_model_load_memory(&m, "GGUF", 4, &mp, &err) == GPT_E_ARG && !m && strstr(err.msg, "abacus") && strstr(err.msg, "ref"), "unknown kernels: %s", err.msg);
    gpt_model_free(NULL);
    CHECK(h.live == 0, "%u blocks left", (unsigned)h.live);
}

static void test_gigantic(const char *name) {
    static const uint32_t sizes[] = { 1, 15, 16, 17, 1u << 16, (1u << 24) - 1, 1u << 24, (1u << 24) + 1, 0x7fffffffu, 0x80000000u, 0xfffffff0u, 0xffffffffu };
    doc d;
    heap h;
    gpt_model_params mp = params_on(&h);
    gpt_model *m = NULL;
    gpt_error err;
    size_t i, j, k, last;
    if (!doc_read(&d, name) || gpt_model_load_memory(&m, d.file, d.n_file, &mp, &err) != GPT_OK) { CHECK(0, "%s", name); doc_free(&d); return; }
    h.cap = (size_t)1 << 22;            /* what is larger gets no memory */
    for (k = 0; k < 4; k++) for (j = 0; j < sizeof sizes / sizeof sizes[0]; j++) for (i = last = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        gpt_session_params sp;
        gpt_session *s = NULL;
        gpt_result r;
        size_t need;
        memset(&sp, 0, sizeof sp);
        sp.n_ctx = sizes[i];
        sp.n_batch = sizes[j];
        sp.kv = (gpt_kv)k;
        need = gpt_session_bytes(m, &sp);
        CHECK(!need || need >= last, "%s: n_ctx %lu n_batch %lu: %lu bytes, fewer than with less context", name, (unsigned long)sizes[i], (unsigned long)sizes[j], (unsigned long)need);
        if (need) last = need;
        r = gpt_session_new(&s, m, &sp, &err);
        CHECK((r == GPT_OK) == (s != NULL) && (r == GPT_OK) == (need > 0 && need <= h.cap), "%s: n_ctx %lu n_batch %lu: %lu bytes, code %d (%s)", name, (unsigned long)sizes[i],
              (unsigned long)sizes[j], (unsigned long)need, (int)r, err.msg);
        CHECK(r == GPT_OK || err.msg[0], "%s: no message", name);
        gpt_session_free(s);
    }
    gpt_model_free(m);
    CHECK(h.live == 0, "%s: %u blocks left", name, (unsigned)h.live);
    doc_free(&d);
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
static const char *const hparam_toys[] = { "gpt2", "llama", "mixtral", "qwen2moe", "gemma3", "gpt_oss", "gptneox", "phi3_long", "bloom",
    "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "deepseek2_v3_cpp", "t5_cpp" };
static const char *const same_toys[] = { "gpt2", "lfm2moe_cpp", "llama", "mixtral", "gemma3", "gpt_oss", "llama_q_mix", "llama_k_mix", "gpt_oss_mxfp4", "llama_f16" };
static const char *const fail_toys[] = { "gpt2", "mixtral", "llama_rope3" };
static const char *const gigantic_toys[] = { "llama", "gemma3", "mixtral", "lfm2moe_cpp" };

static void all_same(void)            { size_t i; for (i = 0; i < COUNT(same_toys); i++) test_same(same_toys[i]); }
static void all_tensors(void)         { size_t i; for (i = 0; i < COUNT(tensor_toys); i++) test_tensors(tensor_toys[i]); }
static void all_hparams(void)         { size_t i; for (i = 0; i < COUNT(hparam_toys); i++) test_hparams(hparam_toys[i]); }
static void all_strange_weights(void) { size_t i; for (i = 0; i < 6; i++) test_strange_weights(hparam_toys[i]); test_strange_weights("lfm2moe_cpp"); }
static void all_gigantic(void)        { size_t i; for (i = 0; i < COUNT(gigantic_toys); i++) test_gigantic(gigantic_toys[i]); }

static void all_failures(void) {
    size_t i;
    doc d;
    for (i = 0; i < COUNT(fail_toys); i++) {
        if (!doc_read(&d, fail_toys[i])) continue;
        test_failures(d.file, d.n_file, d.name);
        if (i < 2) test_truncated(d.file, d.n_file, d.name);
        doc_free(&d);
    }
}

/* With everything a file has: a tokenizer, hyper-parameters by layer. */
static void failures_tokenizer(void) {
    doc_kv *kv, *tok;
    const unsigned char *p;
    size_t n;
    doc d;
    if (!doc_read(&d, "llama")) return;
    kv = doc_find_kv(&d, ".attention.head_count_kv");
    tok = doc_find_kv(&d, "tokenizer.ggml.model");
    if (kv && tok) kv->drop = tok->drop = 1;
    tok_default();
    gb_free(&d.out);
    gb_init(&d.out, 3, 0);
    doc_kvs(&d, &d.out);
    tokenizer_kvs(&d.out);
    head_count_array(&d.out);
    doc_tensors(&d, &d.out, 0, d.n_tensor);
    p = gb_finish(&d.out, &n);
    test_failures(p, n, "llama with a tokenizer");
    test_truncated(p, n, "llama with a tokenizer");
    doc_free(&d);
}

/* A word of a row that no table and no code asks for would be overlooked. */
static void test_words(void) {
    static const char asked[] = "plain_norm embd_sqrt full_rope parallel sum_to_1 logit_div experts shared gated pre_norm "
        "qkv_bias norm_bias post_is_ffn k_parallel k_scales k_logit k_caps k_query k_clamp k_oss k_router conv "
        "sum_norm both_ways types dense late_norm near_rope wide_alibi whole_ff k_grow k_window "
        "state delta mamba beside apart no_heads gated_att by_key_head k_softmax att_gate chunks plain_qk early_weight early_router "
        "two_widths share_kv v_norm k_is_v unit_scale rope_freqs latent dense_too streams encoder";
    size_t i, k;
    for (i = 0; i < (size_t)GPTI_N_ARCH; i++) {
        const char *p = gpti_archs[i].has;
        CHECK(strlen(gpti_archs[i].pattern) > 0 && strspn(gpti_archs[i].pattern, "wgn") == strlen(gpti_archs[i].pattern),
              "%s: pattern \"%s\", expected letters of w, g, n", gpti_archs[i].name, gpti_archs[i].pattern);
        for (; *p; p += strspn(p, " ")) {
            gpti_str word;
            char text[40];
            int known;
            word.p = p; word.n = strcspn(p, " ?");
            p += strcspn(p, " ");
            snprintf(text, sizeof text, "%.*s", (int)word.n, word.p);
            known = gpti_in_list(asked, word);
            for (k = 0; k < (size_t)GPTI_N_LAYER_TENSOR; k++)
                known |= !strcmp(gpti_layer_tensors[k].bias, text) || (gpti_layer_tensors[k].who[0] && !strcmp(gpti_layer_tensors[k].who + 1, text));
            for (k = 0; k < (size_t)GPTI_N_MODEL_TENSOR; k++)
                known |= !strcmp(gpti_model_tensors[k].bias, text) || (gpti_model_tensors[k].who[0] && !strcmp(gpti_model_tensors[k].who + 1, text));
            CHECK(known, "%s has \"%s\", which nothing asks for", gpti_archs[i].name, text);
            CHECK(gpti_has(&gpti_archs[i], text) == (word.p[word.n] == '?' ? GPTI_IF_PRESENT : GPTI_YES), "%s: gpti_has(\"%s\") is %d",
                  gpti_archs[i].name, text, gpti_has(&gpti_archs[i], text));
        }
    }
}

static const test tests[] = {
    { "words", test_words }, { "arguments", test_arguments }, { "same", all_same }, { "tensors", all_tensors },
    { "odd_sets", test_odd_sets }, { "keys", test_keys }, { "hparams", all_hparams },
    { "metadata", test_metadata }, { "tokenizer", test_tokenizer }, { "spelled", test_spelled },
    { "spelled_files", test_spelled_files }, { "cut", test_cut },
    { "strange_weights", all_strange_weights }, { "failures", all_failures },
    { "failures_tokenizer", failures_tokenizer }, { "gigantic", all_gigantic }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_load");
}
