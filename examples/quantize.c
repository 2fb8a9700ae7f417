/* A model file in another number format: every matrix of a GGUF file is decoded and encoded anew, some rows at a
 * time; all else is as it was. The formats and their bits are those of encode.h. */
#define GPT_IMPLEMENTATION
#define GPT_NO_SIMD             /* nothing is computed with the model */
#include "../gpt.h"
#include "args.h"
#include "encode.h"

static const char about[] =
    "usage: quantize IN.gguf OUT.gguf TYPE [options]\n\n"
    "Writes IN with its matrices in the format TYPE:\n%s.\n"
    "Vectors, norms, position embeddings, routers of experts and short convolutions stay as they are. Rows that are\n"
    "no whole number of TYPE's blocks get a format of like size with smaller ones. OUT is replaced when it is whole.\n"
    "Mixtures, as llama.cpp's Q4_K_M is one: q4_k --tensor attn_v=q6_k,ffn_down=q6_k,^output=q6_k.";

static const gpti_mem memory = { NULL, NULL, NULL };

typedef struct { char *path; gpti_source source; gpti_gguf g; } gguf_file;

/* A tensor of OUT, in IN's order. importance: [experts, columns], or NULL. */
typedef struct { const gpti_tensor *in; const gpti_format *fmt; float *importance; size_t rows, size; } piece;

typedef struct { unsigned char *p; size_t n, room; } buffer;

/* Matrices with a pattern [n] in their name get a type of their own: the first rule that fits. */
enum { RULES = 256 };
typedef struct { const char *pattern; size_t n; uint32_t type; int used; } rule;

typedef struct {
    gguf_file     in, imatrix;
    const char   *out;
    uint32_t      type;
    rule          rules[RULES];
    size_t        n_rule;
    int           requantize, dry_run;
    piece        *pieces;
    size_t        n_piece, n_instead, n_changed, n_important;
    buffer        header;
} job;

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static void put(buffer *b, const void *data, size_t n) {
    if (b->n + n > b->room) {
        b->room = 2 * b->room + n + 4096;
        b->p = (unsigned char *)args_need(realloc(b->p, b->room));
    }
    if (data) memcpy(b->p + b->n, data, n);             /* NULL: the caller fills it */
    b->n += n;
}
static void put_int(buffer *b, uint64_t x, int bytes) {        /* little-endian on every host */
    unsigned char c[8];
    for (int i = 0; i < bytes; i++) c[i] = (unsigned char)(x >> 8 * i);
    put(b, c, (size_t)bytes);
}
static void put_text(buffer *b, const char *s, size_t n) { put_int(b, n, 8), put(b, s, n); }
static void put_u32(buffer *b, const char *key, uint32_t v) {
    put_text(b, key, strlen(key));
    put_int(b, 4, 4);                           /* u32 */
    put_int(b, v, 4);
}

static void file_open(gguf_file *f, char *path) {
    gpt_error err;
    fclose(args_open(path, "a GGUF file"));
    f->path = path;
    if (gpti_source_open(&f->source, path, 0, &memory, &err)) args_die("%s", err.msg);
    if (gpti_gguf_open(&f->g, &f->source, 1, &memory, &err)) args_die("%s: %s", path, err.msg);
    if (f->g.big) args_die("%s: big-endian files are only read by gpt.h", path);
}
static void file_close(gguf_file *f) {
    gpti_gguf_close(&f->g, &memory);
    gpti_source_close(&f->source, &memory);
}

static void read_tensor(const gguf_file *f, const gpti_tensor *t, uint64_t from, void *to, size_t n) {
    gpt_error err;
    if (gpti_gguf_read(&f->g, t, from, to, n, &err)) args_die("%s: %s", f->path, err.msg);
}

/* ---- What becomes of which tensor ------------------------------------------------------------------------------- */

static int same_name(const char *a, size_t n, const char *b) {      /* whatever the case */
    size_t i;
    for (i = 0; i < n && b[i]; i++) if ((a[i] | 32) != (b[i] | 32)) return 0;
    return i == n && !b[i];
}

/* "f32 f16 ...", in lower case: what can be written. */
static const char *type_names(void) {
    static char names[256];
    size_t n = 0;
    for (size_t i = 0; i < sizeof encode_kinds / sizeof *encode_kinds; i++) {
        const char *name = gpti_format_find(encode_kinds[i].type)->name;
        if (n) names[n++] = ' ';
        for (; *name; name++) names[n++] = (char)(*name >= 'A' && *name <= 'Z' ? *name + 32 : *name);
    }
    names[n] = 0;
    return names;
}
static uint32_t find_type(const char *option, const char *name, size_t n) {
    for (size_t i = 0; i < GPTI_N_FORMAT; i++) {
        if (!same_name(name, n, gpti_formats[i].name)) continue;
        if (encode_find(gpti_formats[i].type)) return gpti_formats[i].type;
        args_die("%s: %s is only read by gpt.h, not written: expected one of %s", option, gpti_formats[i].name,
                 type_names());
    }
    args_die("%s: unknown type '%.*s': expected one of %s", option, (int)n, name, type_names());
    return 0;
}

static int contains(gpti_str s, const char *part, size_t n) {       /* behind ^ it must begin there */
    const int first = *part == '^';
    for (part += first, n -= (size_t)first; n <= s.n; s.p++, s.n--) {
        if (!memcmp(s.p, part, n)) return 1;
        if (first) break;
    }
    return 0;
}

/* Does llama.cpp quantise it? (tensor_allows_quantization in llama-quant.cpp) */
static int is_matrix(const gpti_tensor *t) { return t->ne[1] > 1 || t->ne[2] > 1 || t->ne[3] > 1; }
static int is_wanted(const gpti_tensor *t) {
    static const char *const keep[] = {
        "_norm.weight", "position_embd", "token_types.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",
        "altup", "laurel", "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
        "indexer.q_proj.weight", "attn_rel_b.weight", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos",
        ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd", "time_mix_first.", "time_mix_w0.",
        "time_mix_w1.", "time_mix_w2.", "time_mix_v0.", "time_mix_v1.", "time_mix_v2.", "time_mix_a0.",
        "time_mix_a1.", "time_mix_a2.", "time_mix_g1.", "time_mix_g2.", "time_mix_decay_w1.", "time_mix_decay_w2.",
        "time_mix_lerp_fused." };
    if (!is_matrix(t) || t->name.n < 6 || memcmp(t->name.p + t->name.n - 6, "weight", 6)) return 0;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) if (contains(t->name, keep[i], strlen(keep[i]))) return 0;
    return 1;
}

/* The rules of --tensor, "A=TYPE,B=TYPE" in each. */
static void read_rules(job *j, const arg_list *lists) {
    for (size_t i = 0; i < lists->n; i++)
        for (const char *p = lists->item[i], *end; *p; p = end + (*end == ',')) {
            const char *equal = strchr(p, '=');
            end = p + strcspn(p, ",");
            if (!equal || equal >= end || equal == p)
                args_die("--tensor: expected PATTERN=TYPE, got '%.*s'", (int)(end - p), p);
            if (j->n_rule == RULES) args_die("--tensor: at most %d of them", (int)RULES);
            j->rules[j->n_rule].pattern = p;
            j->rules[j->n_rule].n = (size_t)(equal - p);
            j->rules[j->n_rule++].type = find_type("--tensor", equal + 1, (size_t)(end - equal - 1));
        }
}
static rule *find_rule(job *j, const gpti_tensor *t) {
    for (size_t i = 0; i < j->n_rule && is_matrix(t); i++)
        if (contains(t->name, j->rules[i].pattern, j->rules[i].n)) return &j->rules[i];
    return NULL;
}
/* A pattern that no matrix has is a slip. */
static void check_rules(const job *j) {
    for (size_t i = 0; i < j->n_rule; i++)
        if (!j->rules[i].used)
            args_die("--tensor: %s has no matrix with '%.*s' in its name that no earlier pattern took", j->in.path,
                     (int)j->rules[i].n, j->rules[i].pattern);
}

static int is_quantised(const gpti_format *fmt) { return fmt->n_scale > 0; }
static int is_narrow(const gpti_format *fmt) { return is_quantised(fmt) || fmt->type == 1; } /* F16, in scales too */

/* The format of a tensor in OUT. */
static const gpti_format *choose(job *j, const gpti_tensor *t) {
    char name[GPTI_SHOWN];
    rule *by = find_rule(j, t);
    const gpti_format *fmt = gpti_format_find(by ? by->type : j->type);
    if (by) by->used = 1;
    else if (!is_wanted(t)) return t->fmt;
    if (t->ne[0] % fmt->block_len) {
        fmt = gpti_format_find(encode_find(fmt->type)->instead);
        if (t->ne[0] % fmt->block_len) fmt = gpti_format_find(1);
        j->n_instead++;
    }
    if (fmt != t->fmt && is_quantised(fmt) && is_quantised(t->fmt) && t->fmt->block_bytes < t->fmt->block_len &&
        !j->requantize)
        args_die("%s: %s is %s: what that has lost and what %s loses adds up; --requantize does it all the same",
                 j->in.path, gpti_show(name, t->name), t->fmt->name, fmt->name);
    j->n_changed += fmt != t->fmt;
    return fmt;
}

/* The mean square of what each column of a matrix met, from llama.cpp's importance matrix: NAME.in_sum2 [columns,
 * experts] by NAME.counts [1, experts]. */
static float *load_importance(const gguf_file *f, const gpti_tensor *t) {
    char name[GPTI_SHOWN], key[512];
    const gpti_tensor *sums, *counts;
    const size_t cols = (size_t)t->ne[0], n = cols * (size_t)t->ne[2];
    float *out, *count;
    if (!f->path || t->name.n > 480) return NULL;
    snprintf(key, sizeof key, "%.*s.in_sum2", (int)t->name.n, t->name.p);
    sums = gpti_gguf_tensor(&f->g, key);
    snprintf(key, sizeof key, "%.*s.counts", (int)t->name.n, t->name.p);
    counts = gpti_gguf_tensor(&f->g, key);
    if (!sums && !counts) return NULL;
    gpti_show(name, t->name);
    if (!sums || !counts) args_die("%s: %s: expected both .in_sum2 and .counts", f->path, name);
    if (sums->fmt->type || counts->fmt->type || sums->ne[0] != cols || sums->size != 4 * n ||
        counts->size != 4 * t->ne[2])
        args_die("%s: %s: expected F32 for %llu columns of %llu matrices, found %s for %llu of %llu", f->path, name,
                 (gpti_ull)cols, (gpti_ull)t->ne[2], sums->fmt->name, (gpti_ull)sums->ne[0],
                 (gpti_ull)(counts->size / counts->fmt->block_bytes));
    out = (float *)args_need(malloc(n * sizeof *out));
    count = (float *)args_need(malloc((size_t)counts->size));
    read_tensor(f, sums, 0, out, 4 * n);
    read_tensor(f, counts, 0, count, (size_t)counts->size);
    gpti_widen(sums->fmt, (const uint8_t *)out, n, out);        /* in place: the file's bytes as the host's */
    gpti_widen(counts->fmt, (const uint8_t *)count, (size_t)t->ne[2], count);
    for (size_t i = 0; i < n; i++) {
        const float c = floorf(count[i / cols] + 0.5f);
        out[i] = c > 0.0f ? out[i] / c : 1.0f;
        if (!(out[i] >= 0.0f && out[i] <= 1e20f))               /* sums of it must be finite */
            args_die("%s: %s: an importance below 0, above 1e20 or no number", f->path, name);
    }
    free(count);
    return out;
}

/* ---- The header ------------------------------------------------------------------------------------------------- */

/* IN's header is read once more, in its own order, which the sorted tables of gpti_gguf do not keep; `names` keeps its
 * strings. Metadata go to OUT byte by byte but for the two that tell of the format. */
static buffer copy_metadata(const job *j, gpti_cursor *c, gpti_gguf *names, uint64_t *n_pair) {
    const char *const keys[2] = { "general.file_type", "general.quantization_version" };
    const uint32_t values[2] = { encode_find(j->type)->file_type, 2 };
    buffer b = { NULL, 0, 0 };
    int there[2] = { 0, 0 }, k;
    for (uint64_t i = *n_pair; i > 0; i--) {
        const uint64_t begin = c->pos;
        gpti_meta_pair pair;
        size_t n;
        memset(&pair, 0, sizeof pair);
        if (!gpti_gguf_read_pair(names, c, &pair)) return b;
        for (k = 0; k < 2 && (pair.key.n != strlen(keys[k]) || memcmp(pair.key.p, keys[k], pair.key.n)); k++) {}
        if (k < 2) { put_u32(&b, keys[k], values[k]); there[k] = 1; continue; }
        n = (size_t)(c->pos - begin);
        put(&b, NULL, n);
        if (gpti_source_read(c->src, begin, b.p + b.n - n, n, c->err)) args_die("%s: %s", j->in.path, c->err->msg);
    }
    for (k = 0; k < 2; k++) if (!there[k]) { put_u32(&b, keys[k], values[k]); ++*n_pair; }
    return b;
}

static uint64_t padding(const job *j, uint64_t n) { return (j->in.g.align - n % j->in.g.align) % j->in.g.align; }

/* OUT's header, and a piece for each tensor. */
static void plan(job *j) {
    static gpti_cursor c;
    gpti_gguf names;
    gpti_tensor t;
    gpt_error err;
    buffer meta;
    uint64_t n_tensor = 0, n_pair = 0, at = 0;
    memset(&names, 0, sizeof names);
    names.mem = &memory;
    gpti_cursor_init(&c, &j->in.source, "GGUF header", &err);
    gpti_gguf_header(&c, &n_tensor, &n_pair);
    meta = copy_metadata(j, &c, &names, &n_pair);
    put(&j->header, "GGUF", 4);
    put_int(&j->header, 3, 4);
    put_int(&j->header, n_tensor, 8);
    put_int(&j->header, n_pair, 8);
    put(&j->header, meta.p, meta.n);
    free(meta.p);
    j->pieces = (piece *)args_need(calloc((size_t)n_tensor + 1, sizeof *j->pieces));
    for (; j->n_piece < n_tensor && !c.fail; j->n_piece++) {
        piece *p = &j->pieces[j->n_piece];
        if (!gpti_gguf_read_tensor(&names, &c, j->in.g.align, &t)) break;
        p->in = (const gpti_tensor *)gpti_find(j->in.g.tensor, j->in.g.n_tensor, sizeof *j->in.g.tensor, t.name);
        if (!p->in) break;
        p->fmt = choose(j, p->in);
        p->rows = (size_t)(t.ne[1] * t.ne[2] * t.ne[3]);
        if (!gpti_mul(&p->size, p->rows, gpti_row_bytes(p->fmt, (size_t)t.ne[0])))
            args_die("%s: too large for this machine as %s", j->in.path, p->fmt->name);
        if (p->fmt != p->in->fmt) p->importance = load_importance(&j->imatrix, p->in);
        j->n_important += p->importance != NULL;
        put_text(&j->header, t.name.p, t.name.n);
        put_int(&j->header, (uint64_t)t.n_dim, 4);
        for (int k = 0; k < t.n_dim; k++) put_int(&j->header, t.ne[k], 8);
        put_int(&j->header, p->fmt->type, 4);
        put_int(&j->header, at, 8);
        at += p->size + padding(j, p->size);
    }
    if (j->n_piece < n_tensor) args_die("%s: it changed while it was read", j->in.path);
    while (j->header.n % j->in.g.align) put_int(&j->header, 0, 1);
    gpti_gguf_close(&names, &memory);
}

/* ---- The data --------------------------------------------------------------------------------------------------- */

/* Some rows of a tensor on their way; x and scratch: one for each worker. bad: the first row that cannot be
 * encoded. */
typedef struct {
    const piece *p;
    size_t cols, first, row_in, row_out;
    unsigned char *in, *out;
    float *x;
    gpti_scratch *scratch;
    size_t *bad;
} rows_job;

static void encode_rows(void *user, size_t begin, size_t end, int worker) {
    const rows_job *s = (const rows_job *)user;
    const piece *p = s->p;
    const size_t per_matrix = (size_t)p->in->ne[1];
    float *x = s->x + (size_t)worker * s->cols;
    for (size_t r = begin; r < end; r++) {
        const unsigned char *row = s->in + r * s->row_in;
        const float *importance = p->importance;
        const gpti_matrix m = { p->in->fmt, 1, s->cols, row, 0 };
        int fits = 1;
        if (importance) importance += (s->first + r) / per_matrix % (size_t)p->in->ne[2] * s->cols;
        if (p->in->fmt->n_scale) gpti_matrix_row(&m, 0, x, &s->scratch[worker]);
        else gpti_widen(p->in->fmt, row, s->cols, x);
        if (is_narrow(p->fmt)) fits = encode_fits(x, s->cols);
        else for (size_t i = 0; i < s->cols; i++) fits &= fabsf(x[i]) <= FLT_MAX;
        if (!fits && r < s->bad[worker]) s->bad[worker] = r;
        encode_row_weighted(p->fmt, x, importance, s->cols, s->out + r * s->row_out);
    }
}

/* n rows from s->first on, from s->in to s->out. */
static void encode_some(const job *j, rows_job *s, size_t n, const gpt_parallel *threads) {
    const size_t workers = threads->run ? (size_t)threads->n_worker : 1;
    char name[GPTI_SHOWN];
    size_t bad = n, w;
    for (w = 0; w < workers; w++) s->bad[w] = n;
    if (threads->run) threads->run(threads->user, n, 64 * s->cols, encode_rows, s);
    else encode_rows(s, 0, n, 0);
    for (w = 0; w < workers; w++) bad = gpti_min(bad, s->bad[w]);
    if (bad < n)
        args_die("%s: %s: row %llu holds a number that %s has no place for: NaN, infinity%s", j->in.path,
                 gpti_show(name, s->p->in->name), (gpti_ull)(s->first + bad), s->p->fmt->name,
                 is_narrow(s->p->fmt) ? " or more than 65504" : "");
}

static void write_out(const job *j, const args_common *c) {
    enum { PIECE = 1 << 22 };                                   /* bytes on their way at once, or one row */
    static const unsigned char zero = 0;
    const gpt_parallel threads = args_parallel(c);
    const size_t workers = threads.run ? (size_t)threads.n_worker : 1;
    args_progress progress = args_progress_begin(c);
    uint64_t done = 0, total = 0;
    args_out out;
    int error;
    rows_job s;
    memset(&s, 0, sizeof s);
    s.scratch = (gpti_scratch *)args_need(malloc(workers * sizeof *s.scratch));
    s.bad = (size_t *)args_need(malloc(workers * sizeof *s.bad));
    for (size_t i = 0; i < j->n_piece; i++) total += j->pieces[i].in->size;
    signal(SIGINT, args_on_interrupt);
    args_out_begin(&out, j->out);
    args_out_put(&out, j->header.p, j->header.n);
    for (const piece *p = j->pieces; p < j->pieces + j->n_piece && !out.error; p++) {
        size_t rows;
        s.p = p;
        s.cols = (size_t)p->in->ne[0];
        s.row_in = gpti_row_bytes(p->in->fmt, s.cols);
        s.row_out = gpti_row_bytes(p->fmt, s.cols);
        rows = gpti_min(p->rows, gpti_max(PIECE / (s.row_in + s.row_out), 1));
        s.in = (unsigned char *)args_need(malloc(rows * s.row_in));
        s.out = (unsigned char *)args_need(malloc(rows * s.row_out));
        s.x = (float *)args_need(malloc(workers * s.cols * sizeof *s.x));
        for (s.first = 0; s.first < p->rows && !out.error; s.first += rows) {
            const size_t n = gpti_min(rows, p->rows - s.first);
            read_tensor(&j->in, p->in, (uint64_t)s.first * s.row_in, s.in, n * s.row_in);
            if (p->fmt != p->in->fmt) encode_some(j, &s, n, &threads);
            args_out_put(&out, p->fmt == p->in->fmt ? s.in : s.out, n * s.row_out);
            done += n * s.row_in;
            if (args_stopped) args_interrupted("writing ", j->out);
            args_progress_show(&progress, "quantizing", (double)done, (double)total);
        }
        for (uint64_t n = padding(j, p->size); n > 0; n--) args_out_put(&out, &zero, 1);
        free(s.in), free(s.out), free(s.x);
    }
    error = args_out_end(&out);
    args_progress_end(&progress);
    if (error) args_die("%s: cannot write: %s; what was there before is as it was", j->out, strerror(error));
    free(s.scratch), free(s.bad);
}

static void show_plan(const job *j) {
    for (size_t i = 0; i < j->n_piece; i++) {
        const piece *p = &j->pieces[i];
        char name[GPTI_SHOWN], shape[96];
        printf("%-36s %-22s %s", gpti_show(name, p->in->name), gpti_gguf_extents(shape, p->in), p->in->fmt->name);
        if (p->fmt != p->in->fmt) printf(" -> %s%s", p->fmt->name, p->importance ? ", weighted" : "");
        putchar('\n');
    }
}

/* The last line, and what was not as asked for. */
static void show_sums(const job *j) {
    uint64_t before = 0, after = 0, size = j->header.n;
    double n = 0;
    for (size_t i = 0; i < j->n_piece; i++) {
        const piece *p = &j->pieces[i];
        before += p->in->size;
        after += p->size;
        size += p->size + padding(j, p->size);
        n += (double)p->rows * (double)p->in->ne[0];
    }
    if (j->n_instead)
        printf("%lu matrices have rows that are no whole number of blocks: other formats, as --dry-run says\n",
               (unsigned long)j->n_instead);
    if (j->imatrix.path) printf("%lu of %lu matrices weighted by %s\n", (unsigned long)j->n_important,
                                (unsigned long)j->n_changed, j->imatrix.path);
    printf("%.2f MB, %.3f bits per weight -> %.2f MB, %.3f bits per weight\n", (double)j->in.source.r.size / 1e6,
           n > 0 ? 8 * (double)before / n : 0.0, (double)size / 1e6, n > 0 ? 8 * (double)after / n : 0.0);
}

int main(int argc, char **argv) {
    static job j;
    args_common c;
    arg_list files, lists;
    const char *imatrix = NULL;
    char usage[1200];
    const arg table[] = {
        { "IN OUT TYPE",   ARG_LIST,  &files,        "",     "" },
        { "--tensor, --tensor-type", ARG_LIST, &lists, "PATTERN=TYPE",
          "matrices with PATTERN in their name (^: at its begin) get TYPE; A=B,C=D" },
        { "--imatrix",     ARG_ONCE,  &imatrix,      "FILE", "llama.cpp's importance matrix: which columns matter" },
        { "--requantize", ARG_FLAG, &j.requantize, "", "also what has less than 8 bits already" },
        { "--dry-run",     ARG_FLAG,  &j.dry_run,    "",     "write nothing, print what would become of each tensor" },
        { "-t, --threads", ARG_COUNT, &c.threads,    "N",    "threads, at most 256; 0 = one a processor (default)" },
        { "-v, --verbose", ARG_FLAG,  &c.verbose,    "",     "progress on stderr even if it is no terminal" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    memset(&c, 0, sizeof c);
    memset(&files, 0, sizeof files);
    memset(&lists, 0, sizeof lists);
    snprintf(usage, sizeof usage, about, type_names());
    args_parse(argc, argv, "quantize", table, usage);
    if (files.n < 3) args_die("expected IN.gguf OUT.gguf TYPE, got %d of them (--help tells more)", (int)files.n);
    if (files.n > 3) args_die("unexpected argument '%s', after '%s'", files.item[3], files.item[2]);
    j.type = find_type("TYPE", files.item[2], strlen(files.item[2]));
    j.out = files.item[1];
    read_rules(&j, &lists);
    file_open(&j.in, (char *)files.item[0]);
    if (imatrix) file_open(&j.imatrix, (char *)imatrix);
    if (!j.dry_run) {
        const args_file other[] = { { j.in.path, "IN" }, { imatrix, "the importance matrix" } };
        args_check_out("OUT", j.out, other, 2);
    }
    plan(&j);
    check_rules(&j);
    if (imatrix && !j.n_important)
        args_die("--imatrix %s: none of the %lu matrices that change has NAME.in_sum2 and NAME.counts there", imatrix,
                 (unsigned long)j.n_changed);
    if (j.dry_run) show_plan(&j);
    else write_out(&j, &c);
    show_sums(&j);
    for (size_t i = 0; i < j.n_piece; i++) free(j.pieces[i].importance);
    free(j.pieces), free(j.header.p);
    if (imatrix) file_close(&j.imatrix);
    file_close(&j.in);
    args_close_stdout();
    return 0;
}
