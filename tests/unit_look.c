/* Looking into a model: gpt_model_meta and gpt_model_tensor against a reader of GGUF that is written here. Every golden model,
 * every key, every row. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "gguf_builder.h"
#include "test.h"

enum { MAX_PAIR = 64, MAX_INFO = 128 };

/* ---- The file, read once more -------------------------------------------------------------------------------------------- */

typedef struct pair { char key[64]; uint32_t type, elem; uint64_t n; const unsigned char *value; } pair;
typedef struct info { char name[64]; uint64_t ne[4]; uint32_t type; const unsigned char *data; } info;

typedef struct gguf {
    unsigned char *p;
    size_t n, kv_end, info_end, data;       /* where the metadata and the tensors' names end and the data begins */
    pair   pairs[MAX_PAIR];
    info   infos[MAX_INFO];
    size_t n_pair, n_info;
} gguf;

static uint64_t le(const unsigned char *p, size_t bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

static size_t bytes_of(uint32_t type) {
    static const size_t bytes[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < 13 ? bytes[type] : 0;
}

/* What a plain value is as a double. */
static double number_of(uint32_t type, const unsigned char *p) {
    const uint64_t u = le(p, bytes_of(type));
    const uint32_t u32 = (uint32_t)u;
    float f;
    double d;
    memcpy(&f, &u32, 4);
    memcpy(&d, &u, 8);
    switch (type) {
        case GB_I8: return (double)(int8_t)u;
        case GB_I16: return (double)(int16_t)u;
        case GB_I32: return (double)(int32_t)u;
        case GB_I64: return (double)(int64_t)u;
        case GB_FLOAT: return (double)f;
        case GB_DOUBLE: return d;
        default: return (double)u;
    }
}

static void name_of(char out[64], const unsigned char **p) {
    const size_t n = (size_t)le(*p, 8);
    memset(out, 0, 64);
    memcpy(out, *p + 8, n < 63 ? n : 63);
    *p += 8 + n;
}

static const unsigned char *after(uint32_t type, uint64_t n, const unsigned char *p) {
    if (type != GB_STR) return p + n * bytes_of(type);
    while (n--) p += 8 + le(p, 8);
    return p;
}

static int gguf_parse(gguf *g) {
    const unsigned char *p = g->p + 24;
    size_t i, k;
    g->n_info = (size_t)le(g->p + 8, 8);
    g->n_pair = (size_t)le(g->p + 16, 8);
    if (g->n_info > MAX_INFO || g->n_pair > MAX_PAIR) return 0;
    for (i = 0; i < g->n_pair; i++) {
        pair *v = &g->pairs[i];
        name_of(v->key, &p);
        v->type = v->elem = (uint32_t)le(p, 4);
        v->n = 1;
        p += 4;
        if (v->type == GB_ARR) { v->elem = (uint32_t)le(p, 4); v->n = le(p + 4, 8); p += 12; }
        v->value = p;
        p = after(v->elem, v->n, p);
    }
    g->kv_end = (size_t)(p - g->p);
    for (i = 0; i < g->n_info; i++) {
        info *t = &g->infos[i];
        size_t n_dim;
        name_of(t->name, &p);
        n_dim = (size_t)le(p, 4);
        p += 4;
        for (k = 0; k < 4; k++) t->ne[k] = k < n_dim ? le(p + 8 * k, 8) : 1;
        p += 8 * n_dim;
        t->type = (uint32_t)le(p, 4);
        t->data = g->p + le(p + 4, 8);      /* and the beginning of the data, below */
        p += 12;
    }
    g->info_end = (size_t)(p - g->p);
    g->data = (g->info_end + 31) & ~(size_t)31;
    for (i = 0; i < g->n_info; i++) g->infos[i].data += g->data;
    return 1;
}

static int gguf_read(gguf *g, const char *path) {
    FILE *f = fopen(path, "rb");
    long n;
    memset(g, 0, sizeof *g);
    CHECK(f != NULL, "%s: cannot open; run from the top folder", path);
    if (!f) return 0;
    if (fseek(f, 0, SEEK_END) || (n = ftell(f)) < 24) { fclose(f); return 0; }
    rewind(f);
    g->p = (unsigned char *)malloc((size_t)n);
    g->n = (size_t)n;
    if (!g->p || fread(g->p, 1, g->n, f) != g->n || !gguf_parse(g)) { CHECK(0, "%s: not as this reader expects", path); g->n_info = 0; }
    fclose(f);
    if (!g->n_info) free(g->p);
    return g->n_info > 0;
}

/* ---- Memory that counts --------------------------------------------------------------------------------------------------- */

static long live, left = -1;        /* blocks in use; calls until one fails, -1: none does */
static void *take(void *user, size_t n) {
    void *p = left == 0 ? NULL : malloc(n);
    (void)user;
    if (left > 0) left--;
    live += p != NULL;
    return p;
}
static void give(void *user, void *p) { (void)user; live -= p != NULL; free(p); }

static gpt_model *load(const unsigned char *p, size_t n, int mapped, int header_only) {
    gpt_model_params params;
    gpt_model *m = NULL;
    gpt_error err;
    memset(&params, 0, sizeof params);
    params.alloc.alloc = take;
    params.alloc.free = give;
    params.mapped = mapped;
    params.header_only = header_only;
    params.n_threads = 1;
    CHECK(gpt_model_load_memory(&m, p, n, &params, &err) == GPT_OK, "%s", err.msg);
    return m;
}

/* ---- Tensors --------------------------------------------------------------------------------------------------------------- */

/* Row r as floats: an F32 tensor's own, another's by the plain C of its format. */
static void expected_row(const info *t, size_t r, float *out) {
    static gpti_scratch scratch;
    const gpti_format *fmt = gpti_format_find(t->type);
    gpti_matrix w;
    size_t i;
    if (t->type == GB_F32) {
        for (i = 0; i < t->ne[0]; i++) out[i] = gpti_bits_f32((uint32_t)le(t->data + 4 * (r * t->ne[0] + i), 4));
        return;
    }
    memset(&w, 0, sizeof w);
    w.fmt = fmt;
    w.n_row = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
    w.n_col = (size_t)t->ne[0];
    w.data = t->data;
    gpti_matrix_row(&w, r, out, &scratch);
}

static int same_info(const gpt_tensor *a, const info *t) {
    return !strcmp(a->name, t->name) && !strcmp(a->type, gpti_format_find(t->type)->name) && !memcmp(a->shape, t->ne, sizeof t->ne) &&
           a->n_col == t->ne[0] && a->n_row == t->ne[1] * t->ne[2] * t->ne[3];
}

/* Factors of positions are no matrix: they go into angles when a session is made. A layer that guesses a token ahead
 * is not read. */
static int is_kept(const gpt_model *m, const info *t) {
    return strncmp(t->name, "rope_f", 6) != 0 && !gpti_is_next_layer(&m->hp, t->name);
}

static void check_tensor(const char *what, const gpt_model *m, const info *t) {
    const size_t n_row = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]), n_col = (size_t)t->ne[0], last = n_row - 1;
    float *all = (float *)calloc(n_row * n_col, sizeof *all), *row = (float *)calloc(n_col, sizeof *row);
    float *want = (float *)calloc(n_col, sizeof *want);
    gpt_tensor found;
    gpt_error err;
    size_t r;
    gpt_result code;
    if (!all || !row || !want) exit(2);
    CHECK(gpt_model_tensor(m, t->name, 99, 0, 0, NULL, &found, &err) == GPT_OK && same_info(&found, t), "%s: %s: by name: other facts: %s",
          what, t->name, err.msg);
    code = gpt_model_tensor(m, t->name, 0, 0, n_row, all, &found, &err);
    CHECK(code == (is_kept(m, t) ? GPT_OK : GPT_E_STATE), "%s: %s: code %d: %s", what, t->name, (int)code, err.msg);
    CHECK(same_info(&found, t), "%s: %s: with rows: other facts", what, t->name);
    for (r = 0; r < n_row && code == GPT_OK; r++) {
        size_t c = 0;
        expected_row(t, r, want);
        while (c < n_col && !memcmp(&want[c], &all[r * n_col + c], sizeof *want)) c++;
        CHECK(c == n_col, "%s: %s: row %u, column %u: expected %.9g, found %.9g", what, t->name, (unsigned)r, (unsigned)c, (double)want[c],
              (double)all[r * n_col + c]);
    }
    if (code == GPT_OK) {       /* the first, the last, one amid, each alone */
        const size_t at[3] = { 0, last, n_row / 2 };
        for (r = 0; r < 3; r++) {
            code = gpt_model_tensor(m, t->name, 0, at[r], 1, row, NULL, &err);
            CHECK(code == GPT_OK && !memcmp(row, all + at[r] * n_col, n_col * sizeof *row), "%s: %s: row %u alone: code %d: %s", what,
                  t->name, (unsigned)at[r], (int)code, err.msg);
        }
    }
    code = gpt_model_tensor(m, t->name, 0, n_row, 1, row, NULL, &err);
    CHECK(code == GPT_E_ARG && err.code == GPT_E_ARG && err.msg[0], "%s: %s: row behind the last: code %d", what, t->name, (int)code);
    code = gpt_model_tensor(m, t->name, 0, last, 2, all, NULL, &err);
    CHECK(code == GPT_E_ARG, "%s: %s: two rows from the last: code %d", what, t->name, (int)code);
    code = gpt_model_tensor(m, t->name, 0, (size_t)-1, 2, all, NULL, NULL);
    CHECK(code == GPT_E_ARG, "%s: %s: rows from SIZE_MAX: code %d", what, t->name, (int)code);
    code = gpt_model_tensor(m, t->name, 0, 1, (size_t)-1, all, NULL, NULL);
    CHECK(code == GPT_E_ARG, "%s: %s: SIZE_MAX rows: code %d", what, t->name, (int)code);
    code = gpt_model_tensor(m, t->name, 0, 0, 1, NULL, NULL, NULL);
    CHECK(code == GPT_E_ARG, "%s: %s: no room for rows: code %d", what, t->name, (int)code);
    free(all);
    free(row);
    free(want);
}

/* By number, each tensor of the file comes once, in whatever order. */
static void check_list(const char *what, const gpt_model *m, const gguf *g) {
    size_t i, k;
    for (k = 0; k < g->n_info; k++) {
        const info *t = &g->infos[k];
        const size_t n_col = (size_t)t->ne[0];
        float *by_name = (float *)calloc(n_col, sizeof *by_name), *by_number = (float *)calloc(n_col, sizeof *by_number);
        size_t n_found = 0;
        if (!by_name || !by_number) exit(2);
        for (i = 0; i < g->n_info; i++) {
            gpt_tensor found;
            if (gpt_model_tensor(m, NULL, i, 0, 0, NULL, &found, NULL) || !same_info(&found, t)) continue;
            n_found++;
            if (!is_kept(m, t)) continue;
            CHECK(gpt_model_tensor(m, t->name, 0, 0, 1, by_name, NULL, NULL) == GPT_OK &&
                  gpt_model_tensor(m, NULL, i, 0, 1, by_number, NULL, NULL) == GPT_OK && !memcmp(by_name, by_number, n_col * sizeof *by_name),
                  "%s: %s, tensor %u: another row than by its name", what, t->name, (unsigned)i);
        }
        CHECK(n_found == 1, "%s: %s: expected one number for it, found %u", what, t->name, (unsigned)n_found);
        free(by_name);
        free(by_number);
    }
}

/* The goldens: each kind of layer, of experts, of number format. */
static const char *const models[] = {
    "bloom", "command_r", "command_r_plus", "falcon_11b", "falcon_40b", "falcon_7b", "gemma", "gemma2", "gemma2_27b", "gemma3", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "deepseek2_lite_cpp", "deepseek2_v2_cpp", "deepseek2_v3_cpp", "deepseek2_glm_cpp", "deepseek2_youtu_cpp", "gpt2",
    "gpt2_4x", "gpt_oss", "gpt_oss_cpp", "gpt_oss_mxfp4", "gptj", "gptneox", "gptneox_serial", "granite", "granite_cpp", "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_moe_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "falcon_h1_q_cpp", "falcon_h1_cpp", "glm4moe_cpp", "ernie4_5_moe_cpp", "llama",
    "llama_bf16", "llama_bias", "llama_f16", "llama_few_bits", "llama_grids", "llama_k_mix", "llama_linear", "llama_q4_0", "llama_q4_k", "llama_q8_0", "llama_q_mix",
    "llama_rope3", "llama_tied", "llama_v5", "llama_yarn", "mistral", "mixtral", "olmo", "olmo2", "olmo3_cpp", "phi2", "phi3",
    "phi3_long", "phi3_long_cpp", "phi3_short", "phi4_mini", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "smollm3", "stablelm",
    "stablelm_12b", "stablelm_cpp", "starcoder", "starcoder2",
    "apertus_cpp", "bailingmoe2_cpp", "llama4_cpp", "arcee_cpp", "cohere2_cpp", "ernie4_5_cpp", "exaone4_cpp", "exaone4_near_cpp", "glm4_cpp", "granitemoe_cpp", "granitemoe_shared_cpp",
    "hunyuan_dense_cpp", "jais2_cpp", "mistral3_cpp", "nemotron_cpp", "olmoe_cpp", "qwen2vl_cpp", "qwen3vl_cpp", "qwen3vlmoe_cpp", "seed_oss_cpp", "smallthinker_cpp",
    "t5_cpp", "t5_first_cpp"
};
enum { N_MODEL = sizeof models / sizeof models[0] };

static void on_models(void (*run)(const char *name, const gguf *g)) {
    static gguf g;
    size_t i;
    for (i = 0; i < N_MODEL; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/golden/model/%s.gguf", models[i]);
        if (!gguf_read(&g, path)) continue;
        run(models[i], &g);
        CHECK(live == 0, "%s: %ld blocks left", models[i], live);
        free(g.p);
    }
}

static void tensors_of(const char *name, const gguf *g) {
    int mapped;
    for (mapped = 0; mapped < 2; mapped++) {
        gpt_model *m = load(g->p, g->n, mapped, 0);
        char what[64];
        long before = live;
        size_t i;
        gpt_tensor found;
        if (!m) continue;
        snprintf(what, sizeof what, "%s, %s", name, mapped ? "mapped" : "packed");
        for (i = 0; i < g->n_info; i++) check_tensor(what, m, &g->infos[i]);
        check_list(what, m, g);
        CHECK(gpt_model_tensor(m, NULL, g->n_info, 0, 0, NULL, &found, NULL) == GPT_E_ARG && !found.name, "%s: tensor %u is there", what,
              (unsigned)g->n_info);
        CHECK(live == before, "%s: %ld blocks before, %ld after", what, before, live);
        gpt_model_free(m);
    }
}
static void test_tensors(void) { on_models(tensors_of); }

static void header_of(const char *name, const gguf *g) {
    gpt_model *m = load(g->p, g->n, 0, 1);
    float row[4096];
    size_t i;
    for (i = 0; m && i < g->n_info; i++) {
        const info *t = &g->infos[i];
        gpt_tensor found;
        gpt_error err;
        gpt_result code;
        CHECK(gpt_model_tensor(m, t->name, 0, 0, 0, NULL, &found, &err) == GPT_OK && same_info(&found, t), "%s: %s: other facts: %s",
              name, t->name, err.msg);
        if (t->ne[0] > 4096) continue;
        code = gpt_model_tensor(m, t->name, 0, 0, 1, row, &found, &err);
        CHECK(code == GPT_E_STATE && err.msg[0] && same_info(&found, t), "%s: %s: a row of a header: code %d", name, t->name, (int)code);
    }
    gpt_model_free(m);
}
static void test_header_only(void) { on_models(header_of); }

/* ---- Metadata ------------------------------------------------------------------------------------------------------------------- */

static void check_pair(const char *what, const gpt_model *m, const gguf *g, const pair *v, int at_hand) {
    gpt_meta one, found;
    gpt_result code;
    size_t n_found = 0, i;
    const int array = v->type == GB_ARR;
    size_t k;
    memset(&found, 0, sizeof found);
    for (i = 0; i < g->n_pair; i++) {       /* by number, each key of the file comes once, in whatever order */
        code = gpt_model_meta(m, NULL, i, &one);
        CHECK(code == GPT_OK && one.key, "%s: key %u: code %d", what, (unsigned)i, (int)code);
        if (code || strcmp(one.key, v->key)) continue;
        found = one;
        n_found++;
    }
    CHECK(n_found == 1, "%s: %s: expected one number for it, found %u", what, v->key, (unsigned)n_found);
    CHECK(found.type == (int)v->elem && found.n == v->n, "%s: %s: expected type %u with %u values, found type %d with %u", what, v->key,
          (unsigned)v->elem, (unsigned)v->n, found.type, (unsigned)found.n);
    if (v->type == GB_STR) {
        const size_t n = (size_t)le(v->value, 8);
        CHECK(found.text && found.n_text == n && !memcmp(found.text, v->value + 8, n), "%s: %s, by number: another text", what, v->key);
        code = gpt_model_meta(m, v->key, 0, &found);
        CHECK(code == GPT_OK && found.text && found.n_text == n && !memcmp(found.text, v->value + 8, n) && !found.text[n] && found.n == 1,
              "%s: %s: code %d, expected a text of %u bytes, found %u", what, v->key, (int)code, (unsigned)n, (unsigned)found.n_text);
        return;
    }
    CHECK(!found.text && !found.n_text, "%s: %s: a text of %u bytes", what, v->key, (unsigned)found.n_text);
    if (v->elem == GB_STR || v->elem == GB_ARR) {
        code = gpt_model_meta(m, v->key, 0, &found);
        CHECK(code == GPT_E_ARG, "%s: %s: an element that is no number: code %d", what, v->key, (int)code);
        return;
    }
    if (!array) {
        const double want = number_of(v->type, v->value);
        CHECK(found.number == want, "%s: %s, by number: expected %g, found %g", what, v->key, want, found.number);
    }
    for (k = 0; k < v->n; k++) {
        const double want = number_of(v->elem, v->value + k * bytes_of(v->elem));
        code = gpt_model_meta(m, v->key, k, &found);
        if (array && !at_hand) {
            CHECK(code == GPT_E_STATE, "%s: %s, element %u of a file that is not at hand: code %d", what, v->key, (unsigned)k, (int)code);
            CHECK(found.n == v->n, "%s: %s: expected %u elements, found %u", what, v->key, (unsigned)v->n, (unsigned)found.n);
        } else CHECK(code == GPT_OK && found.number == want, "%s: %s, element %u: code %d, expected %.17g, found %.17g", what, v->key,
                     (unsigned)k, (int)code, want, found.number);
    }
    code = gpt_model_meta(m, v->key, v->n, &found);
    if (array) CHECK(code == GPT_E_ARG, "%s: %s: element behind the last: code %d", what, v->key, (int)code);
}

static void meta_of(const char *name, const gguf *g) {
    int way;
    for (way = 0; way < 3; way++) {         /* packed, mapped, the header alone */
        gpt_model *m = load(g->p, g->n, way == 1, way == 2);
        char what[64];
        gpt_meta found;
        long before = live;
        size_t i;
        snprintf(what, sizeof what, "%s, %s", name, way == 0 ? "packed" : way == 1 ? "mapped" : "header");
        for (i = 0; m && i < g->n_pair; i++) check_pair(what, m, g, &g->pairs[i], way == 1);
        CHECK(!m || gpt_model_meta(m, NULL, g->n_pair, &found) == GPT_E_ARG, "%s: there is a key %u", what, (unsigned)g->n_pair);
        CHECK(live == before, "%s: %ld blocks before, %ld after", what, before, live);
        gpt_model_free(m);
    }
}
static void test_meta(void) { on_models(meta_of); }

/* Every type that GGUF has, plain and in an array, behind the metadata of a golden model. */
static void test_meta_types(void) {
    static const char *const words[] = { "a", "", "bc" };
    static const uint64_t bits[] = { 0, 1, 0x8081828384858687u, 0x7F0102030405067Fu, ~(uint64_t)0 };
    static gguf g, h;
    uint32_t type;
    size_t i, n;
    gb b;
    if (!gguf_read(&g, "tests/golden/model/gpt2.gguf")) return;
    gb_init(&b, 3, 0);
    gb_raw(&b.kv, g.p + 24, g.kv_end - 24);
    b.n_kv = g.n_pair;
    gb_raw(&b.info, g.p + g.kv_end, g.info_end - g.kv_end);
    b.n_tensor = g.n_info;
    gb_raw(&b.data, g.p + g.data, g.n - g.data);
    for (type = 0; type < 13; type++) {
        char key[32];
        if (!bytes_of(type)) continue;
        snprintf(key, sizeof key, "look.plain.%u", (unsigned)type);
        if (type == GB_FLOAT) gb_kv_f32(&b, key, -1.5f);
        else if (type == GB_DOUBLE) { gb_key(&b, key, type); gb_double(&b, &b.kv, 1e300); }
        else gb_kv_uint(&b, key, type, type == GB_BOOL ? 1 : bits[2]);
        snprintf(key, sizeof key, "look.array.%u", (unsigned)type);
        gb_kv_array(&b, key, type, 5);
        for (i = 0; i < 5; i++) {
            if (type == GB_FLOAT) gb_float(&b, &b.kv, (float)i * 0.1f - 0.2f);
            else if (type == GB_DOUBLE) gb_double(&b, &b.kv, (double)i * 0.1 - 0.2);
            else gb_uint(&b, &b.kv, type == GB_BOOL ? i % 2 : bits[i], (int)bytes_of(type));
        }
    }
    gb_kv_str(&b, "look.empty", "");
    gb_kv_str(&b, "look.text", "tab\tquote\" \xC3\xA9");
    gb_key(&b, "look.zero", GB_STR);
    gb_text(&b, &b.kv, "zero\0inside", 11);
    gb_kv_strs(&b, "look.words", words, 3);
    gb_kv_array(&b, "look.none", GB_U32, 0);
    memset(&h, 0, sizeof h);
    h.p = (unsigned char *)(uintptr_t)gb_finish(&b, &n);
    h.n = n;
    CHECK(gguf_parse(&h), "the file is not as this reader expects");
    CHECK(h.n_pair == g.n_pair + 27, "expected %u keys, found %u", (unsigned)g.n_pair + 27, (unsigned)h.n_pair);
    meta_of("all types", &h);
    gb_free(&b);
    free(g.p);
    CHECK(live == 0, "%ld blocks left", live);
}

/* ---- Arguments that make no sense, memory that fails ------------------------------------------------------------------------------- */

static void test_arguments(void) {
    static gguf g;
    gpt_model *m;
    gpt_tensor t;
    gpt_meta v;
    gpt_error err;
    float row[64];
    gpt_result code;
    if (!gguf_read(&g, "tests/golden/model/gpt2.gguf")) return;
    m = load(g.p, g.n, 0, 0);
    if (!m) { free(g.p); return; }
    memset(&t, 0x55, sizeof t);
    code = gpt_model_tensor(m, "blk.0.nonsense.weight", 0, 0, 1, row, &t, &err);
    CHECK(code == GPT_E_ARG && err.code == GPT_E_ARG && strstr(err.msg, "blk.0.nonsense.weight") && !t.name && !t.n_row,
          "an unknown tensor: code %d: %s", (int)code, err.msg);
    CHECK(gpt_model_tensor(m, "", 0, 0, 0, NULL, NULL, NULL) == GPT_E_ARG, "a tensor without a name");
    CHECK(gpt_model_tensor(m, "blk.7.attn_norm.weight", 0, 0, 0, NULL, NULL, NULL) == GPT_E_ARG, "a block behind the last");
    CHECK(gpt_model_tensor(m, "blk.0.attn_norm.weigh", 0, 0, 0, NULL, NULL, NULL) == GPT_E_ARG, "a part of a name");
    CHECK(gpt_model_tensor(m, NULL, (size_t)-1, 0, 0, NULL, NULL, NULL) == GPT_E_ARG, "tensor SIZE_MAX");
    memset(&t, 0x55, sizeof t);
    code = gpt_model_tensor(NULL, "token_embd.weight", 0, 0, 1, row, &t, &err);
    CHECK(code == GPT_E_ARG && err.msg[0] && !t.name, "no model: code %d: %s", (int)code, err.msg);
    CHECK(gpt_model_tensor(NULL, NULL, 0, 0, 0, NULL, NULL, NULL) == GPT_E_ARG, "nothing at all");
    code = gpt_model_tensor(m, "token_embd.weight", 0, 0, 0, NULL, NULL, &err);
    CHECK(code == GPT_OK && err.code == GPT_OK && !err.msg[0], "no rows, no info: code %d: %s", (int)code, err.msg);
    CHECK(gpt_model_tensor(m, "token_embd.weight", 0, 1, 1, row, NULL, NULL) == GPT_OK, "no info, no err");

    memset(&v, 0x55, sizeof v);
    CHECK(gpt_model_meta(m, "no.such.key", 0, &v) == GPT_E_ARG && !v.key && !v.text && !v.n, "an unknown key");
    CHECK(gpt_model_meta(m, "", 0, &v) == GPT_E_ARG, "a key without a name");
    CHECK(gpt_model_meta(m, "general.architectur", 0, &v) == GPT_E_ARG, "a part of a key");
    CHECK(gpt_model_meta(m, NULL, (size_t)-1, &v) == GPT_E_ARG, "key SIZE_MAX");
    CHECK(gpt_model_meta(m, "general.architecture", 0, NULL) == GPT_E_ARG, "no room for the value");
    memset(&v, 0x55, sizeof v);
    CHECK(gpt_model_meta(NULL, "general.architecture", 0, &v) == GPT_E_ARG && !v.key, "no model");
    CHECK(gpt_model_meta(NULL, NULL, 0, NULL) == GPT_E_ARG, "nothing at all");
    CHECK(gpt_model_meta(m, "general.architecture", 0, &v) == GPT_OK && !strcmp(v.text, "gpt2") && v.type == GB_STR,
          "the architecture: \"%s\", type %d", v.text, v.type);
    gpt_model_free(m);
    CHECK(live == 0, "%ld blocks left", live);
    free(g.p);
}

/* Rows of a matrix take one block and give it back; without it, nothing is lost. */
static void test_memory(void) {
    static gguf g;
    static float rows[128 * 128];
    gpt_model *m;
    gpt_error err;
    long before;
    gpt_result code;
    if (!gguf_read(&g, "tests/golden/model/llama_q8_0.gguf")) return;
    m = load(g.p, g.n, 0, 0);
    before = live;
    left = 0;
    code = m ? gpt_model_tensor(m, "blk.0.attn_output.weight", 0, 0, 1, rows, NULL, &err) : GPT_E_MEMORY;
    CHECK(code == GPT_E_MEMORY && err.code == GPT_E_MEMORY && err.msg[0] && live == before, "no memory: code %d, %ld blocks of %ld", (int)code,
          live, before);
    CHECK(!m || gpt_model_tensor(m, "blk.0.attn_norm.weight", 0, 0, 1, rows, NULL, &err) == GPT_OK, "a vector needs none: %s", err.msg);
    left = 1;
    code = m ? gpt_model_tensor(m, "blk.0.attn_output.weight", 0, 0, 3, rows, NULL, &err) : GPT_OK;
    CHECK(code == GPT_OK && live == before, "one block: code %d, %ld blocks of %ld: %s", (int)code, live, before, err.msg);
    left = -1;
    gpt_model_free(m);
    CHECK(live == 0, "%ld blocks left", live);
    free(g.p);
}

static const test tests[] = {
    { "tensors", test_tensors }, { "header_only", test_header_only }, { "meta", test_meta },
    { "types_of_meta", test_meta_types }, { "arguments", test_arguments }, { "memory", test_memory }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_look");
}
