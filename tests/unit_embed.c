/* Models that make vectors of texts: tests/golden/embed has toys with what transformers and sentence-transformers compute from
 * them (make_embed_goldens.py). What a file does not say is the stated default or an error; what such a model cannot do is one;
 * and the bits do not depend on what shares a pass. Runs from the repository's root. */
#include "gpt.h"
#include "test.h"
#include <math.h>

enum { MOST = 128, WIDE = 64 };

static const char *const toys[] = { "bert", "bert_cpp", "bert_cased", "nomic", "nomic_cpp", "gemma", "gemma_cpp", "gemma_q8_0",
    "qwen3", "qwen3_cpp" };
enum { N_TOY = sizeof toys / sizeof toys[0] };

/* A toy's file in memory, where keys and tensors may get other names and values. */
typedef struct image { unsigned char *data; size_t n; } image;

static image read_image(const char *toy) {
    image x = { NULL, 0 };
    char path[96];
    FILE *f;
    snprintf(path, sizeof path, "tests/golden/embed/%s.gguf", toy);
    f = fopen(path, "rb");
    CHECK(f, "no %s", path);
    if (!f) exit(test_report("unit_embed"));
    fseek(f, 0, SEEK_END);
    x.n = (size_t)ftell(f);
    rewind(f);
    x.data = (unsigned char *)malloc(x.n);
    CHECK(x.data && fread(x.data, 1, x.n, f) == x.n, "%s: cannot read", path);
    fclose(f);
    return x;
}
static unsigned char *find(const image *x, const char *name) {
    size_t i, n = strlen(name);
    for (i = 0; i + n <= x->n; i++) if (!memcmp(x->data + i, name, n)) return x->data + i;
    CHECK(0, "no \"%s\" in the file", name);
    exit(test_report("unit_embed"));
}
static void drop(const image *x, const char *key) { find(x, key)[strlen(key) - 1] = '#'; }   /* a name that nobody asks for */

/* The tensor is no longer in the file: its entry goes, the data moves to where it then belongs. */
static void remove_tensor(image *x, const char *name) {
    unsigned char *entry = find(x, name) - 8, *end = entry, *next = NULL;
    size_t old, now;
    for (; end[0] && end[0] < 64 && !end[1] && !end[7]; end += 24 + (size_t)end[0] + 8 * (size_t)end[8 + end[0]])
        if (!next && end != entry) next = end;
    if (!next) next = end;
    old = ((size_t)(end - x->data) + 31) / 32 * 32;
    now = ((size_t)(end - next + entry - x->data) + 31) / 32 * 32;
    memmove(entry, next, (size_t)(end - next));
    memmove(x->data + now, x->data + old, x->n - old);
    x->n -= old - now;
    x->data[8]--;                                       /* the number of tensors, less than 256 */
}

static gpt_result load_image(gpt_model **m, const image *x, const char *pretokenizer, gpt_error *err) {
    gpt_model_params p = { 0 };
    p.pretokenizer = pretokenizer;
    return gpt_model_load_memory(m, x->data, x->n, &p, err);
}
static gpt_model *model_of(const image *x, const char *pretokenizer) {
    gpt_model *m = NULL;
    gpt_error err;
    CHECK(!load_image(&m, x, pretokenizer, &err), "%s", err.msg);
    if (!m) exit(test_report("unit_embed"));
    return m;
}
static gpt_model *toy_model(const char *toy) {
    image x = read_image(toy);
    gpt_model *m = model_of(&x, NULL);
    free(x.data);
    return m;
}

static gpt_session *session_of(const gpt_model *m, uint32_t n_batch, gpt_kv kv, gpt_work *w) {
    gpt_session_params p = { 0 };
    gpt_session *s = NULL;
    gpt_error err;
    p.n_batch = n_batch; p.kv = kv; p.work = w; p.n_threads = w ? 0 : 1;
    if (gpt_session_new(&s, m, &p, &err)) { CHECK(0, "%s", err.msg); exit(test_report("unit_embed")); }
    return s;
}

/* ---- What transformers and sentence-transformers compute ---- */

typedef struct record {         /* of one text */
    char      *text;            /* NULL: ids alone */
    gpt_token  ids[MOST];
    size_t     n;
    float      hidden[3][WIDE], raw[WIDE], vector[WIDE];
    long       at[3];
    size_t     n_hidden;
} record;

static size_t floats(char *p, float *out) {
    size_t n = 0;
    char *end;
    for (; n < WIDE; n++, p = end) { out[n] = (float)strtod(p, &end); if (end == p) break; }
    return n;
}

/* The next record of a file, whose last line is its vector; p: in the file's text. 0: there is none. */
static int next_record(char **p, record *r) {
    memset(r, 0, sizeof *r);
    while (**p) {
        char *line = *p, *end = line + strcspn(line, "\n"), *word;
        *p = end + (*end != 0);
        *end = 0;
        if (!strncmp(line, "text ", 5)) r->text = test_unescape(line + 5);
        if (!strncmp(line, "ids ", 4))
            for (word = line + 4; *word && r->n < MOST; word = end) { r->ids[r->n++] = (gpt_token)strtol(word, &end, 10); }
        if (!strncmp(line, "hidden ", 7)) {
            r->at[r->n_hidden] = strtol(line + 7, &end, 10);
            floats(end, r->hidden[r->n_hidden++]);
        }
        if (!strncmp(line, "raw ", 4)) floats(line + 4, r->raw);
        if (!strncmp(line, "vector ", 7)) { floats(line + 7, r->vector); return 1; }
    }
    return 0;
}
static char *records_of(const char *toy) {
    char path[96], *text;
    snprintf(path, sizeof path, "tests/golden/embed/%s.txt", toy);
    text = test_file(path);
    CHECK(text, "no %s", path);
    if (!text) exit(test_report("unit_embed"));
    return text;
}

/* The largest difference, as a part of the largest number */
static double off_by(const float *a, const float *want, size_t n) {
    double off = 0, most = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)want[i]) <= off)) off = fabs((double)a[i] - (double)want[i]);
        if (fabs((double)want[i]) > most) most = fabs((double)want[i]);
    }
    return off / most;
}
static double length_of(const float *v, size_t n) {
    double sum = 0;
    size_t i;
    for (i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

static gpt_result eval(gpt_session *s, const gpt_token *ids, size_t n, float *hidden, float *vector, int raw, gpt_pool pool,
                       gpt_error *err) {
    gpt_eval_params p = { 0 };
    gpt_result r;
    p.hidden = hidden; p.embedding = vector; p.raw = raw; p.pool = pool;
    r = gpt_eval_begin(s, ids, n, &p, err);
    while (!r && (r = gpt_step(s, err)) == GPT_MORE) r = GPT_OK;
    return r;
}

static void one_toy(void) {
    const char *toy = toys[test_at];
    /* F32: float32 beside float64. F16: keys and values of 11 bits, queries and weights of 13. Q8_0: products of 8 bits. */
    const double most[3] = { 1e-4, 3e-3, 0.1 };
    const int quantised = strstr(toy, "q8_0") != NULL;
    gpt_model *m = toy_model(toy);
    char *text = records_of(toy), *p = text;
    gpt_model_info info;
    gpt_error err;
    int kv, n_text = 0;
    static record r;
    gpt_model_info_get(m, &info);
    CHECK(info.n_embd == info.d_model && info.d_model <= WIDE, "n_embd %u", (unsigned)info.n_embd);
    while (next_record(&p, &r)) for (n_text++, kv = GPT_KV_F32; kv >= GPT_KV_F16; kv--) {
        gpt_session *s = session_of(m, MOST, (gpt_kv)kv, NULL);
        static float hidden[MOST * WIDE];
        float v[WIDE], w[WIDE];
        const double within = most[quantised ? 2 : kv == GPT_KV_F16];
        gpt_token ids[MOST];
        size_t n, i;
        double off;
        if (r.text) {
            CHECK(!gpt_tokenize(m, r.text, strlen(r.text), GPT_TOKENIZE_BOS, ids, MOST, &n, &err), "%s", err.msg);
            CHECK(n == r.n && !memcmp(ids, r.ids, n * sizeof *ids), "\"%s\": %lu other ids, expected %lu", r.text, (unsigned long)n,
                  (unsigned long)r.n);
            CHECK(!gpt_embed(s, r.text, NULL, w, &err), "%s", err.msg);
            gpt_session_reset(s);
        }
        CHECK(!eval(s, r.ids, r.n, hidden, v, 1, GPT_POOL_FILE, &err), "%s", err.msg);
        for (i = 0; i < r.n_hidden; i++) {
            off = off_by(hidden + (size_t)r.at[i] * info.d_model, r.hidden[i], info.d_model);
            CHECK(off <= within, "text %d, kv %d: hidden state %ld is off by %.3g of the largest number", n_text, kv, r.at[i], off);
        }
        off = off_by(v, r.raw, info.n_embd);
        CHECK(off <= within, "text %d, kv %d: the pooled vector is off by %.3g of the largest number", n_text, kv, off);
        gpt_session_reset(s);
        CHECK(!eval(s, r.ids, r.n, NULL, v, 0, GPT_POOL_FILE, &err), "%s", err.msg);
        off = off_by(v, r.vector, info.n_embd);
        CHECK(off <= within, "text %d, kv %d: the vector is off by %.3g of the largest number", n_text, kv, off);
        CHECK(fabs(length_of(v, info.n_embd) - 1.0) < 1e-6, "text %d: length %.9g", n_text, length_of(v, info.n_embd));
        CHECK(!r.text || !memcmp(v, w, info.n_embd * sizeof *v), "text %d: gpt_embed gives another vector", n_text);
        gpt_session_free(s);
    }
    CHECK(n_text == 5, "%d texts", n_text);
    free(text);
    gpt_model_free(m);
}

/* ---- What the file says, and what it does not ---- */

static void expect_ids(const image *x, const char *pretokenizer, const char *text, const gpt_token *want, size_t n_want,
                       const char *what) {
    gpt_model *m = model_of(x, pretokenizer);
    gpt_token ids[MOST];
    gpt_error err;
    size_t n = 0;
    CHECK(!gpt_tokenize(m, text, strlen(text), GPT_TOKENIZE_BOS, ids, MOST, &n, &err) && n == n_want &&
          !memcmp(ids, want, n * sizeof *ids), "%s: %lu tokens, expected %lu", what, (unsigned long)n, (unsigned long)n_want);
    gpt_model_free(m);
}

/* The ends of a text, where the file has no flags for them: the tokens all the same, by the architecture or the pooling. */
static void test_ends(void) {
    static const char *const files[] = { "bert", "bert_cpp", "nomic", "qwen3", "qwen3_cpp" };
    size_t i;
    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        image x = read_image(files[i]);
        char *text = records_of(files[i]), *p = text;
        static record r;
        next_record(&p, &r);
        next_record(&p, &r);
        expect_ids(&x, NULL, r.text, r.ids, r.n, files[i]);
        drop(&x, "tokenizer.ggml.add_bos_token");
        drop(&x, "tokenizer.ggml.add_eos_token");
        expect_ids(&x, NULL, r.text, r.ids, r.n, "without add_bos_token and add_eos_token");
        if (!strcmp(files[i], "bert")) {                /* as llama.cpp's older files, which have cls and sep alone */
            drop(&x, "tokenizer.ggml.bos_token_id");
            drop(&x, "tokenizer.ggml.eos_token_id");
            expect_ids(&x, NULL, r.text, r.ids, r.n, "with cls and seperator alone");
            drop(&x, "tokenizer.ggml.normalizer.lowercase");
            expect_ids(&x, NULL, r.text, r.ids, r.n, "no normalizer: uncased");
        }
        if (!strncmp(files[i], "qwen3", 5)) {           /* no vector of the last token: no end token */
            drop(&x, "qwen3.pooling_type");
            expect_ids(&x, NULL, r.text, r.ids, r.n - 1, "without pooling_type");
        }
        free(text);
        free(x.data);
    }
}

/* Capitals and accents: as the file says; as the load option says; what it does not say is uncased. */
static void test_case(void) {
    static const char *const pairs[][2] = { { "T\xC5\x8Dky\xC5\x8D", "tokyo" }, { "na\xC3\xAFve", "naive" }, { "e\xCC\x81", "e" },
        { "\xC3\x9C" "bung", "ubung" }, { "Ab", "ab" } };
    image x = read_image("bert"), y = read_image("bert_cased");
    gpt_model *m[4], *bad = NULL;
    gpt_token a[MOST], b[MOST];
    gpt_error err;
    size_t i, k, n_a, n_b;
    m[0] = model_of(&x, NULL); m[1] = model_of(&y, NULL); m[2] = model_of(&y, "uncased"); m[3] = model_of(&x, "cased");
    for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) for (k = 0; k < 4; k++) {
        const int same = k % 2 == 0;
        CHECK(!gpt_tokenize(m[k], pairs[i][0], strlen(pairs[i][0]), 0, a, MOST, &n_a, &err) &&
              !gpt_tokenize(m[k], pairs[i][1], strlen(pairs[i][1]), 0, b, MOST, &n_b, &err), "%s", err.msg);
        CHECK((n_a == n_b && !memcmp(a, b, n_a * sizeof *a)) == same, "model %lu: %s is %s as %s", (unsigned long)k, pairs[i][0],
              same ? "not cut" : "cut", pairs[i][1]);
    }
    /* cased: the vocabulary of the toy has the letter; and no decomposition: neither has any model */
    CHECK(!gpt_tokenize(m[1], "\xC3\x9C", 2, 0, a, MOST, &n_a, &err) &&
          n_a == 1 && a[0] == gpt_token_find(m[1], " \xC3\x9C"), "%s", "\xC3\x9C");
    CHECK(!gpt_tokenize(m[0], "\xC4\x90", 2, 0, a, MOST, &n_a, &err) &&
          n_a == 1 && a[0] == gpt_token_find(m[0], " \xC4\x91"), "%s", "\xC4\x90");
    CHECK(load_image(&bad, &x, "llama-bpe", &err) == GPT_E_UNSUPPORTED && !bad && strstr(err.msg, "cased"), "%s", err.msg);
    for (k = 0; k < 4; k++) gpt_model_free(m[k]);
    free(x.data);
    free(y.data);
}

/* Pooling: the file's, the caller's, or an error. */
static void test_pooling(void) {
    image x = read_image("bert");
    gpt_model *m = model_of(&x, NULL);
    gpt_session *s = session_of(m, MOST, GPT_KV_F32, NULL);
    static float hidden[MOST * WIDE];
    float v[5][WIDE], mean[WIDE] = { 0 };
    gpt_eval_params p = { 0 };
    gpt_token ids[7] = { 2, 30, 31, 32, 9, 8, 3 };
    const size_t D = 30;
    gpt_error err;
    size_t i, j;
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    CHECK(info.pool == GPT_POOL_MEAN && info.encoder, "pool %d, encoder %d", info.pool, info.encoder);
    CHECK(!eval(s, ids, 7, hidden, v[0], 1, GPT_POOL_FILE, &err), "%s", err.msg);
    for (i = 1; i < 4; i++) { gpt_session_reset(s); CHECK(!eval(s, ids, 7, NULL, v[i], 1, (gpt_pool)i, &err), "%s", err.msg); }
    for (i = 0; i < 7; i++) for (j = 0; j < D; j++) mean[j] += hidden[i * D + j] / 7.0f;
    CHECK(off_by(v[1], mean, D) < 1e-5 && !memcmp(v[0], v[1], D * sizeof(float)),
          "the file's, which is the mean: off by %g", off_by(v[1], mean, D));
    CHECK(!memcmp(v[2], hidden, D * sizeof(float)) && !memcmp(v[3], hidden + 6 * D, D * sizeof(float)),
          "the first and the last row");
    gpt_session_free(s);
    gpt_model_free(m);
    drop(&x, "bert.pooling_type");
    m = model_of(&x, NULL);
    s = session_of(m, MOST, GPT_KV_F32, NULL);
    gpt_model_info_get(m, &info);
    CHECK(info.pool == GPT_POOL_FILE && info.encoder, "pool %d, encoder %d", info.pool, info.encoder);
    CHECK(gpt_embed(s, "the cat", NULL, v[0], &err) == GPT_E_ARG && strstr(err.msg, "pool"), "%s", err.msg);
    p.pool = GPT_POOL_FIRST;
    CHECK(!gpt_embed(s, "the cat", &p, v[0], &err) && fabs(length_of(v[0], D) - 1.0) < 1e-6, "%s", err.msg);
    gpt_session_free(s);
    gpt_model_free(m);
    free(x.data);
}

/* EmbeddingGemma's published files lack what follows pooling: the vector in front of it, on demand, or an error. */
static void test_dense(void) {
    image x = read_image("gemma");
    gpt_model *m = NULL;
    gpt_session *s;
    gpt_error err;
    float v[WIDE];
    char *text = records_of("gemma"), *p = text;
    static record r;
    next_record(&p, &r);
    remove_tensor(&x, "dense_3.weight");
    CHECK(load_image(&m, &x, NULL, &err) == GPT_E_SHAPE && !m && strstr(err.msg, "dense_2"), "one of the two: %s", err.msg);
    remove_tensor(&x, "dense_2.weight");
    m = model_of(&x, NULL);
    s = session_of(m, MOST, GPT_KV_F32, NULL);
    CHECK(eval(s, r.ids, r.n, NULL, v, 0, GPT_POOL_FILE, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "dense_2"),
          "told: %s", err.msg);
    CHECK(!eval(s, r.ids, r.n, NULL, v, 1, GPT_POOL_FILE, &err) && off_by(v, r.raw, 30) < 1e-4, "raw: %s", err.msg);
    gpt_session_free(s);
    gpt_model_free(m);
    free(text);
    free(x.data);
}

/* A file that says it is causal, where the architecture is not. */
static void test_causal(void) {
    static const char *const files[] = { "bert", "nomic", "gemma" };
    size_t i;
    for (i = 0; i < 3; i++) {
        image x = read_image(files[i]);
        const char *key = "attention.causal";
        gpt_model *m = NULL;
        gpt_error err;
        unsigned char *value = find(&x, key) + strlen(key) + 4;
        CHECK(*value == 0, "%s: %d", files[i], *value);
        *value = 1;
        CHECK(load_image(&m, &x, NULL, &err) == GPT_E_UNSUPPORTED && !m && strstr(err.msg, key), "%s: %s", files[i], err.msg);
        free(x.data);
    }
}

/* ---- What such a model does not do ---- */

static gpt_result generates(gpt_session *s, int way, gpt_error *err) {
    static const char *const choices[] = { "a", "the cat" };
    static float logprob[MOST], big[512];
    gpt_token id = 30;
    gpt_message message = { "user", "the cat", NULL };
    gpt_chat_params chat = { 0 };
    float x[WIDE] = { 0 };
    size_t best;
    chat.user = "the {text}"; chat.assistant = "{text}"; chat.generation = " ";
    switch (way) {
        case 0: return gpt_generate(s, "the cat", NULL, NULL, NULL, err);
        case 1: return gpt_begin(s, NULL, NULL, NULL, NULL, err);
        case 2: return gpt_score(s, &id, 1, logprob, err);
        case 3: return gpt_choose(s, "the", choices, 2, NULL, NULL, &best, err);
        case 4: return gpt_choose_begin(s, "the", choices, 2, NULL, NULL, &best, err);
        case 5: return gpt_head(s, x, big, err);
        case 6: return gpt_chat(s, &message, 1, &chat, NULL, NULL, NULL, err);
        default: return gpt_chat_begin(s, &message, 1, &chat, NULL, NULL, NULL, err);
    }
}

static void test_refused(void) {
    static const gpt_token ids[] = { 2, 30, 31, 32, 9, 3 };
    static unsigned char kept[1 << 16];
    gpt_model *m = toy_model("bert");
    gpt_session *s = session_of(m, 9, GPT_KV_F16, NULL), *t = session_of(m, 9, GPT_KV_F16, NULL), *made = NULL;
    gpt_session_params sp = { 0 };
    gpt_session_info info;
    gpt_writer writer = { 0 };
    gpt_reader reader = { 0 };
    gpt_error err;
    float v[WIDE], w[WIDE];
    gpt_token long_text[10] = { 0 };
    size_t n;
    int way, what, full;
    gpt_session_info_get(s, &info);
    CHECK(info.n_batch == 9, "n_batch %u", (unsigned)info.n_batch);
    CHECK(!eval(t, ids, 6, NULL, v, 0, GPT_POOL_FILE, &err), "%s", err.msg);
    for (full = 0; full < 2; full++) {
        for (way = 0; way < 8; way++) {
            CHECK(generates(s, way, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "bert reads"), "way %d: %s", way, err.msg);
            CHECK(gpt_session_tokens(s, &n) && n == (full ? 6 : 0) && !gpt_logits(s) && gpt_sample(s, NULL) == -1,
                  "way %d: %lu tokens", way, (unsigned long)n);
            gpt_session_info_get(s, &info);
            CHECK(info.n_computed == n && info.result == GPT_OK, "way %d: %lu are computed", way, (unsigned long)info.n_computed);
        }
        if (!full) CHECK(!gpt_eval(s, ids, 6, &err), "%s", err.msg);
    }
    /* the text is whole: nothing is added, nothing else goes on from it, and what is left of it is computed anew */
    CHECK(gpt_eval(s, ids, 1, &err) == GPT_E_STATE && strstr(err.msg, "gpt_session_reset"), "%s", err.msg);
    CHECK(gpt_session_copy(t, s, 3, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "as a whole"), "%s", err.msg);
    CHECK(!gpt_session_rewind(s, 6, &err), "%s", err.msg);
    gpt_session_info_get(s, &info);
    CHECK(info.n_computed == 6, "all of it: %lu are computed", (unsigned long)info.n_computed);
    CHECK(!gpt_session_rewind(s, 4, &err), "%s", err.msg);
    gpt_session_info_get(s, &info);
    CHECK(info.n_token == 4 && info.n_computed == 0, "a part of it: %lu are computed", (unsigned long)info.n_computed);
    CHECK(!gpt_eval(s, NULL, 0, &err), "%s", err.msg);
    for (what = GPT_SAVE_TOKENS; what <= GPT_SAVE_CACHE; what++) {
        writer.user = kept; writer.size = sizeof kept;
        reader.user = kept; reader.size = gpt_session_save_bytes(t, what);
        CHECK(!gpt_session_save(t, what, &writer, &err) && !gpt_session_restore(s, &reader, &err), "%s", err.msg);
        gpt_session_info_get(s, &info);
        CHECK(info.n_token == 6 && info.n_computed == (what == GPT_SAVE_CACHE ? 6 : 0),
              "%lu are computed", (unsigned long)info.n_computed);
        CHECK(!gpt_eval(s, NULL, 0, &err), "%s", err.msg);
    }
    CHECK(!gpt_session_freeze(t, &err), "%s", err.msg);
    sp.prefix = t;
    CHECK(gpt_session_new(&made, m, &sp, &err) == GPT_E_UNSUPPORTED && !made && strstr(err.msg, "as a whole"), "%s", err.msg);
    /* longer than a pass */
    gpt_session_reset(s);
    CHECK(gpt_eval(s, long_text, 10, &err) == GPT_E_CONTEXT && strstr(err.msg, "n_batch is 9") &&
          gpt_session_tokens(s, &n) && n == 0, "%s", err.msg);
    CHECK(gpt_embed(s, "one two three to the cat sat on", NULL, w, &err) == GPT_E_CONTEXT, "%s", err.msg);
    CHECK(!eval(s, ids, 6, NULL, w, 0, GPT_POOL_FILE, &err) && !memcmp(v, w, 30 * sizeof *v), "after all that: %s", err.msg);
    gpt_session_free(s);
    s = session_of(m, 0, GPT_KV_F16, NULL);             /* the default holds what the model was trained for */
    gpt_session_info_get(s, &info);
    CHECK(info.n_batch == 72, "n_batch %u", (unsigned)info.n_batch);
    gpt_session_free(s);
    gpt_session_free(t);
    gpt_model_free(m);
}

/* ---- Law 6: over batches (unit_law has threads, sets, compilers) ---- */

static void test_batches(void) {
    static const uint32_t batch[] = { 40, 41, 64, 200 };
    static const char *const files[] = { "bert", "nomic", "gemma", "gemma_q8_0", "qwen3" };
    size_t f, b, i, k, round;
    for (f = 0; f < sizeof files / sizeof files[0]; f++) {
        gpt_model *m = toy_model(files[f]);
        static gpt_token ids[12][40];
        static float want[12][WIDE], got[12][WIDE];
        size_t n[12];
        gpt_session *alone = session_of(m, 40, GPT_KV_F16, NULL);
        gpt_model_info info;
        gpt_error err;
        gpt_model_info_get(m, &info);
        for (i = 0; i < 12; i++) {
            n[i] = i == 5 ? 40 : 1 + (i * 7) % 23;
            for (k = 0; k < n[i]; k++) ids[i][k] = (gpt_token)((i * 13 + k * k * 5 + k * 31 + 3) % (info.n_vocab - 5) + 4);
            gpt_session_reset(alone);
            CHECK(!eval(alone, ids[i], n[i], NULL, want[i], 0, GPT_POOL_FILE, &err), "%s", err.msg);
        }
        gpt_session_free(alone);
        for (b = 0; b < sizeof batch / sizeof batch[0]; b++) for (round = 0; round < 2; round++) {
            gpt_work_params wp = { 0 };
            gpt_work *w = NULL;
            gpt_session *s[12];
            size_t n_step = 0;
            gpt_result r;
            wp.n_batch = batch[b]; wp.n_threads = 1 + (int)round;
            if (gpt_work_new(&w, m, &wp, &err)) { CHECK(0, "%s", err.msg); exit(test_report("unit_embed")); }
            memset(got, 0, sizeof got);
            for (i = 0; i < 12; i++) {
                const size_t at = round ? 11 - i : i;
                gpt_eval_params p = { 0 };
                p.embedding = got[at];
                s[at] = session_of(m, 0, GPT_KV_F16, w);
                CHECK(!gpt_eval_begin(s[at], ids[at], n[at], &p, &err), "%s", err.msg);
            }
            while ((r = gpt_work_step(w, &err)) == GPT_MORE && n_step < 100) n_step++;
            CHECK(r == GPT_OK, "%s: %lu passes: %s", files[f], (unsigned long)n_step, err.msg);
            CHECK(batch[b] < 200 || !info.encoder || n_step <= 1, "%s: %lu passes for texts that fit one", files[f], (unsigned long)n_step);
            for (i = 0; i < 12; i++) {
                CHECK(!memcmp(got[i], want[i], info.n_embd * sizeof(float)),
                      "%s, n_batch %u, round %lu: text %lu has other bits", files[f], (unsigned)batch[b],
                      (unsigned long)round, (unsigned long)i);
                gpt_session_free(s[i]);
            }
            gpt_work_free(w);
        }
        gpt_model_free(m);
    }
}

int main(int argc, char **argv) {
    static const test more[] = { { "ends", test_ends }, { "case", test_case }, { "pooling", test_pooling }, { "dense", test_dense },
        { "causal", test_causal }, { "refused", test_refused }, { "batches", test_batches }, { NULL, NULL } };
    test tests[N_TOY + sizeof more / sizeof more[0]];
    size_t i;
    for (i = 0; i < N_TOY; i++) { tests[i].name = toys[i]; tests[i].run = one_toy; }
    memcpy(tests + N_TOY, more, sizeof more);
    test_run(tests, argc, argv);
    return test_report("unit_embed");
}
