/* What tests/json_test.py asks of gpt.h, many at once in one process:
 *
 *     json_probe generate SCHEMAS N MAX     N texts of the schemas in turn (a file, one a line), by toys with random weights, each
 *                                           text with another seed and sampling; at most MAX tokens each, and whole
 *     json_probe check RECORDS              texts against forms, from a file of records "KIND n_form n_text\n" form text, where
 *                                           KIND is schema, gbnf or json
 *
 * Answers are lines. generate: "schema result finish tokens bytes\n" and the text (result not 0: the message). check: "result at\n",
 * or "compile message\n". */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "gpt.h"
#include "gguf_builder.h"

enum { D = 32, N_TOY = 4 };

/* What JSON is made of, and what goes wrong at its edges: pieces that end a string and go on, halves of characters, white space. */
static const char *const pieces[] = { "<unk>", "<s>", "</s>", "<|x|>", " ", "\n", "  ", "\n  ", "\n\n", "{", "}", "[", "]", ",", ":", "\"", "{\"",
    "\":", "\": ", "\", \"", "\",", ", \"", ", ", "\"}", "}}", "]}", "\"]", "},", "{}", "[]", "\"\"", "\\", "\\\"", "\\n", "\\u", "\\ud83d", "\\udc0e", "u00",
    "true", "false", "null", "tru", "nul", "-", "0", "1", "12", "123", "00", "0.", ".5", "1.5", "e", "e+", "E-1", "99999", "a", "an", "ab", "name", "\"name\"", "id",
    "the", " the", "x\"", "é", "\xF0\x9F\x90\x8E", "\xC3", "\xA9\"", "\xE2\x82", "aaaa", "2024-", "-01", "T0", ":00", "Z\"", "@", ".com" };
enum { N_PIECE = sizeof pieces / sizeof *pieces };

static unsigned json_vocabulary(gb *g) {
    const unsigned n_vocab = N_PIECE + 256;
    char spelled[64];
    size_t i, n;
    const char *q;
    gb_kv_str(g, "tokenizer.ggml.model", "llama");
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, n_vocab);
    for (i = 0; i < N_PIECE; i++) {
        for (q = pieces[i], n = 0; *q; q++) n += (size_t)sprintf(spelled + n, *q == ' ' ? "\xE2\x96\x81" : "%c", *q);
        gb_text(g, &g->kv, spelled, n);
    }
    for (i = 0; i < 256; i++) { sprintf(spelled, "<0x%02X>", (unsigned)i); gb_text(g, &g->kv, spelled, 6); }
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, n_vocab);
    for (i = 0; i < n_vocab; i++) gb_uint(g, &g->kv, i >= N_PIECE ? 6 : i == 0 ? 2 : i < 4 ? 3 : 1, 4);
    gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, n_vocab);
    for (i = 0; i < n_vocab; i++) gb_float(g, &g->kv, -(float)i);
    return n_vocab;
}

static uint64_t state;
static float chance(void) {                     /* -1 to 1 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(uint32_t)(state >> 40) / 8388608.0f - 1.0f;
}

static void tensor(gb *g, const char *name, uint64_t d0, uint64_t d1, float scale) {
    const size_t n = (size_t)(d0 * d1);
    float *v = (float *)malloc(n * sizeof *v);
    size_t i;
    if (!v) exit(2);
    for (i = 0; i < n; i++) v[i] = scale == 0 ? 1.0f : chance() * scale;
    gb_tensor_f32(g, name, d1 > 1 ? 2 : 1, d0, d1, v);
    free(v);
}

/* A layer of a Llama with random weights; two have the vocabulary above, two those of the other tests. */
static gpt_model *toy(int number) {
    static const char *const square[] = { "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down" };
    const unsigned char *p;
    gpt_model *m = NULL;
    gpt_error err;
    char name[64];
    unsigned n_vocab;
    size_t n, k;
    gb g;
    state = (uint64_t)number + 1;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", "llama");
    gb_kv_u32(&g, "llama.context_length", 4096);
    gb_kv_u32(&g, "llama.embedding_length", D);
    gb_kv_u32(&g, "llama.block_count", 1);
    gb_kv_u32(&g, "llama.feed_forward_length", D);
    gb_kv_u32(&g, "llama.attention.head_count", 2);
    gb_kv_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    n_vocab = number < 2 ? json_vocabulary(&g) : gb_toy_vocabulary(&g, number == 2);
    tensor(&g, "token_embd.weight", D, n_vocab, 1.0f);
    tensor(&g, "output_norm.weight", D, 1, 0);
    tensor(&g, "output.weight", D, n_vocab, 0.5f);
    for (k = 0; k < 7; k++) { sprintf(name, "blk.0.%s.weight", square[k]); tensor(&g, name, D, D, 0.3f); }
    tensor(&g, "blk.0.attn_norm.weight", D, 1, 0);
    tensor(&g, "blk.0.ffn_norm.weight", D, 1, 0);
    p = gb_finish(&g, &n);
    if (gpt_model_load_memory(&m, p, n, NULL, &err)) { fprintf(stderr, "json_probe: toy %d: %s\n", number, err.msg); exit(2); }
    gb_free(&g);
    return m;
}

static char *read_all(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    char *p = NULL;
    long size = -1;
    if (f && !fseek(f, 0, SEEK_END)) size = ftell(f);
    if (size >= 0) { rewind(f); p = (char *)malloc((size_t)size + 1); }
    if (!p || fread(p, 1, (size_t)size, f) != (size_t)size) { fprintf(stderr, "json_probe: cannot read %s\n", path); exit(2); }
    fclose(f);
    p[size] = 0;
    *n = (size_t)size;
    return p;
}

typedef struct { char *p; size_t n, max; } text;
static int collect(void *user, const char *piece, size_t n) {
    text *t = (text *)user;
    if (t->n + n > t->max) t->p = (char *)realloc(t->p, t->max = 2 * (t->n + n));
    if (!t->p) exit(2);
    memcpy(t->p + t->n, piece, n);
    t->n += n;
    return 0;
}

/* Every way of choosing in turn: the likeliest, all, the k likeliest ... */
static void sampling(gpt_sample_params *p, size_t i) {
    static const float temperature[] = { 1, 0, 0.7f, 2, 1, 1 };
    memset(p, 0, sizeof *p);
    p->seed = i;
    p->temperature = temperature[i % 6];
    if (i % 6 == 2) p->top_k = 5;
    if (i % 6 == 4) p->top_p = 0.9f;
    if (i % 6 == 5) p->min_p = 0.05f;
    if (i % 7 == 6) p->repeat_penalty = 1.3f;
}

static int generate(const char *path, size_t n, size_t max) {
    gpt_model *m[N_TOY];
    gpt_session *s[N_TOY];
    gpt_constraint **c;
    gpt_constraint_params how;
    gpt_generate_params params;
    gpt_session_params session;
    gpt_session_info info;
    gpt_error err;
    size_t n_file, n_schema = 0, i, k;
    char *file = read_all(path, &n_file), *line, *next;
    text t = { NULL, 0, 0 };
    for (i = 0; i < n_file; i++) n_schema += file[i] == '\n';
    c = (gpt_constraint **)calloc(n_schema * N_TOY, sizeof *c);
    if (!c) return 2;
    memset(&session, 0, sizeof session);
    session.n_ctx = (uint32_t)max + 8;
    session.n_batch = 16;
    for (k = 0; k < N_TOY; k++) {
        m[k] = toy((int)k);
        if (gpt_session_new(&s[k], m[k], &session, &err)) { fprintf(stderr, "json_probe: %s\n", err.msg); return 2; }
    }
    memset(&how, 0, sizeof how);
    for (line = file, i = 0; i < n_schema; i++, line = next) {
        next = strchr(line, '\n') + 1;
        next[-1] = 0;
        how.schema = line;
        for (k = 0; k < N_TOY; k++)
            if (gpt_constraint_new(&c[i * N_TOY + k], m[k], &how, &err)) {
                fprintf(stderr, "json_probe: schema %lu: %s\n", (unsigned long)i, err.msg);
                break;                          /* its texts are missing: the script will say so */
            }
    }
    for (i = 0; i < n; i++) {
        const size_t at = i % n_schema, toy_at = i / n_schema % N_TOY;
        gpt_result r;
        if (!c[at * N_TOY + toy_at]) continue;
        memset(&params, 0, sizeof params);
        sampling(&params.sample, i);
        params.max_tokens = max;
        params.constraint = c[at * N_TOY + toy_at];
        params.must_finish = 1;
        t.n = 0;
        gpt_session_reset(s[toy_at]);
        r = gpt_generate(s[toy_at], "a", &params, collect, &t, &err);
        gpt_session_info_get(s[toy_at], &info);
        if (r) { t.n = 0; collect(&t, err.msg, strlen(err.msg)); }
        printf("%lu %d %d %lu %lu\n", (unsigned long)at, (int)r, (int)info.finish, (unsigned long)info.n_generated, (unsigned long)t.n);
        if (t.n) fwrite(t.p, 1, t.n, stdout);
    }
    for (i = 0; i < n_schema * N_TOY; i++) gpt_constraint_free(c[i]);
    for (k = 0; k < N_TOY; k++) { gpt_session_free(s[k]); gpt_model_free(m[k]); }
    free(c);
    free(file);
    free(t.p);
    return 0;
}

static int check(const char *path) {
    size_t n, n_before = 0, at;
    char *file = read_all(path, &n), *p = file, *end = file + n, *before = NULL;
    gpt_constraint *c = NULL;
    gpt_error err;
    err.msg[0] = 0;
    while (p < end) {
        gpt_constraint_params how;
        char kind[16], *form;
        unsigned long n_form, n_text;
        if (sscanf(p, "%15s %lu %lu", kind, &n_form, &n_text) != 3) { fprintf(stderr, "json_probe: a record at byte %lu\n", (unsigned long)(p - file)); return 2; }
        p = strchr(p, '\n') + 1;
        form = (char *)malloc(n_form + 1);
        if (!form) return 2;
        memcpy(form, p, n_form);
        form[n_form] = 0;
        if (!before || n_form != n_before || memcmp(form, before, n_form)) {
            gpt_constraint_free(c);
            c = NULL;
            memset(&how, 0, sizeof how);
            if (!strcmp(kind, "schema")) how.schema = form;
            else if (!strcmp(kind, "gbnf")) how.gbnf = form;
            else how.json = 1;
            gpt_constraint_new(&c, NULL, &how, &err);
        }
        free(before);
        before = form;
        n_before = n_form;
        at = n_text;
        if (!c) printf("compile %s\n", err.msg);
        else {
            const gpt_result r = gpt_constraint_check(c, p + n_form, n_text, &at, NULL);
            printf("%d %lu\n", (int)r, (unsigned long)at);
        }
        p += n_form + n_text;
    }
    gpt_constraint_free(c);
    free(before);
    free(file);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "generate"))
        return generate(argv[2], (size_t)strtoul(argv[3], NULL, 10), (size_t)strtoul(argv[4], NULL, 10));
    if (argc == 3 && !strcmp(argv[1], "check")) return check(argv[2]);
    fprintf(stderr, "usage: json_probe generate SCHEMAS N MAX | check RECORDS\n");
    return 2;
}
