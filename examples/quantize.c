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
    "no whole number of TYPE's blocks get a format of like size with smaller ones. OUT is replaced when all is written.\n"
    "Mixtures as llama.cpp's Q4_K_M: q4_k with --tensor attn_v=q6_k,ffn_down=q6_k,output.weight=q6_k.";

static const gpti_mem memory = { NULL, NULL, NULL };

typedef struct { char *path; gpti_source source; gpti_gguf g; } gguf_file;

/* A tensor of OUT, in IN's order. importance: [experts, columns], or NULL. */
typedef struct { const gpti_tensor *in; const gpti_format *fmt; float *importance; size_t rows, size; } piece;

typedef struct { unsigned char *p; size_t n, room; } buffer;

typedef struct {
    gguf_file     in, imatrix;
    const char   *out;
    uint32_t      type;
    arg_list      overrides;
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

static int contains(gpti_str s, const char *part, size_t n) {
    for (size_t i = 0; i + n <= s.n; i++) if (!memcmp(s.p + i, part, n)) return 1;
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
        "time_mix_w1.", "time_mix_w2.", "time_mix_v0.", "time_mix_v1.", "time_mix_v2.", "time_mix_a0.", "time_mix_a1.", "time_mix_a2.",
        "time_mix_g1.", "time_mix_g2.", "time_mix_decay_w1.", "time_mix_decay_w2.", "time_mix_lerp_fused." };
    if (!is_matrix(t) || t->name.n < 6 || memcmp(t->name.p + t->name.n - 6, "weight", 6)) return 0;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) if (contains(t->name, keep[i], strlen(keep[i]))) return 0;
    return 1;
}

/* The first "PATTERN=TYPE" of all lists "A=B,C=D" whose pattern the name contains; 0: none. Marks it as used. */
static int overridden(const job *j, const gpti_tensor *t, uint32_t *type, char *used) {
    size_t at = 0;
    for (size_t i = 0; i < j->overrides.n; i++)
        for (const char *p = j->overrides.item[i], *end; *p; p = *end ? end + 1 : end, at++) {
            const char *equal = strchr(p, '=');
            end = p + strcspn(p, ",");
            if (!equal || equal >= end || equal == p)
                args_die("--tensor: expected PATTERN=TYPE, got '%.*s'", (int)(end - p), p);
            *type = find_type("--tensor", equal + 1, (size_t)(end - equal - 1));
            if (at >= 256) args_die("--tensor: at most 256 of them");
            if (!t || !is_matrix(t) || !contains(t->name, p, (size_t)(equal - p))) continue;
            used[at] = 1;
            return 1;
        }
    return 0;
}
/* A pattern that no matrix has is a slip. */
static void check_used(const job *j, const char *used) {
    size_t at = 0;
    for (size_t i = 0; i < j->overrides.n; i++)
        for (const char *p = j->overrides.item[i]; *p; p += strcspn(p, ","), p += *p == ',')
            if (!used[at++]) args_die("--tensor: %s has no matrix with '%.*s' in its name that no other pattern took",
                                      j->in.path, (int)strcspn(p, "="), p);
}

static int is_quantised(const gpti_format *fmt) { return fmt->n_scale > 0; }

/* The format of a tensor in OUT. */
static const gpti_format *choose(job *j, const gpti_tensor *t, char *used) {
    char name[GPTI_SHOWN];
    uint32_t type = j->type;
    const int named = overridden(j, t, &type, used);
    const gpti_format *fmt;
    if (!named && !is_wanted(t)) return t->fmt;
    if (!named) type = j->type;
    fmt = gpti_format_find(type);
    if (t->ne[0] % fmt->block_len) {
        fmt = gpti_format_find(encode_find(type)->instead);
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
        if (!(out[i] >= 0.0f && out[i] <= FLT_MAX)) args_die("%s: %s: importance below 0, or no number", f->path, name);
    }
    free(count);
    return out;
}

/* ---- The header ------------------------------------------------------------------------------------------------- */

/* IN's header once more, in its own order, which the sorted tables of gpti_gguf do not keep: metadata byte by byte
 * but for the two that tell of the format, and a piece for each tensor. */
static void plan(job *j) {
    static gpti_cursor c;
    gpti_gguf names;
    gpti_meta_pair pair;
    gpti_tensor t;
    gpt_error err;
    buffer meta = { NULL, 0, 0 };
    char used[256] = { 0 };
    const char *const keys[2] = { "general.file_type", "general.quantization_version" };
    const uint32_t values[2] = { encode_find(j->type)->file_type, 2 };
    uint64_t n_tensor = 0, n_pair = 0, at = 0;
    int there[2] = { 0, 0 }, k;
    uint32_t ignored;
    memset(&names, 0, sizeof names);
    names.mem = &memory;
    gpti_cursor_init(&c, &j->in.source, "GGUF header", &err);
    gpti_gguf_header(&c, &n_tensor, &n_pair);
    for (uint64_t i = 0; i < n_pair && !c.fail; i++) {
        const uint64_t begin = c.pos;
        size_t n;
        memset(&pair, 0, sizeof pair);
        if (!gpti_gguf_read_pair(&names, &c, &pair)) break;
        for (k = 0; k < 2 && (pair.key.n != strlen(keys[k]) || memcmp(pair.key.p, keys[k], pair.key.n)); k++) {}
        if (k < 2) { put_u32(&meta, keys[k], values[k]); there[k] = 1; continue; }
        n = (size_t)(c.pos - begin);
        put(&meta, NULL, n);
        if (gpti_source_read(&j->in.source, begin, meta.p + meta.n - n, n, &err))
            args_die("%s: %s", j->in.path, err.msg);
    }
    for (k = 0; k < 2; k++) if (!there[k]) { put_u32(&meta, keys[k], values[k]); n_pair++; }
    put(&j->header, "GGUF", 4);
    put_int(&j->header, 3, 4);
    put_int(&j->header, n_tensor, 8);
    put_int(&j->header, n_pair, 8);
    put(&j->header, meta.p, meta.n);
    free(meta.p);

    overridden(j, NULL, &ignored, used);                        /* a wrong one is said even where there is no tensor */
    j->pieces = (piece *)args_need(calloc((size_t)n_tensor + 1, sizeof *j->pieces));
    for (; j->n_piece < n_tensor && !c.fail; j->n_piece++) {
        piece *p = &j->pieces[j->n_piece];
        size_t rest;
        if (!gpti_gguf_read_tensor(&names, &c, j->in.g.align, &t)) break;
        p->in = (const gpti_tensor *)gpti_find(j->in.g.tensor, j->in.g.n_tensor, sizeof *j->in.g.tensor, t.name);
        p->fmt = choose(j, p->in, used);
        p->rows = (size_t)(t.ne[1] * t.ne[2] * t.ne[3]);
        if (!gpti_mul(&p->size, p->rows, gpti_row_bytes(p->fmt, (size_t)t.ne[0])))
            args_die("%s: too large for this machine as %s", j->in.path, p->fmt->name);
        if (p->fmt != p->in->fmt) p->importance = load_importance(&j->imatrix, p->in);
        j->n_important += p->importance != NULL;
        put_text(&j->header, t.name.p, t.name.n);
        put_int(&j->header, (uint64_t)t.n_dim, 4);
        for (k = 0; k < t.n_dim; k++) put_int(&j->header, t.ne[k], 8);
        put_int(&j->header, p->fmt->type, 4);
        put_int(&j->header, at, 8);
        rest = (size_t)(p->size % j->in.g.align);
        at += p->size + (rest ? j->in.g.align - rest : 0);
    }
    if (c.fail) args_die("%s: %s", j->in.path, err.msg);        /* the file changed while it was read */
    check_used(j, used);
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
        if (is_quantised(p->fmt) || p->fmt->type == 1) fits = encode_fits(x, s->cols);
        else for (size_t i = 0; i < s->cols; i++) fits &= fabsf(x[i]) <= FLT_MAX;
        if (!fits && r < s->bad[worker]) s->bad[worker] = r;
        encode_row_weighted(p->fmt, x, importance, s->cols, s->out + r * s->row_out);
    }
}

static void write_out(job *j, const args_common *c) {
    enum { PIECE = 1 << 22 };                                   /* bytes on their way at once, or one row */
    const gpt_parallel threads = args_parallel(c);
    const size_t workers = threads.run ? (size_t)threads.n_worker : 1;
    args_progress progress = args_progress_begin(c);
    static const unsigned char zeros[64] = { 0 };
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
    for (size_t i = 0; i < j->n_piece && !out.error; i++) {
        const piece *p = s.p = &j->pieces[i];
        size_t rows, pad = (size_t)(p->size % j->in.g.align);
        s.cols = (size_t)p->in->ne[0];
        s.row_in = gpti_row_bytes(p->in->fmt, s.cols);
        s.row_out = gpti_row_bytes(p->fmt, s.cols);
        rows = gpti_max(PIECE / (s.row_in + s.row_out), 1);
        s.in = (unsigned char *)args_need(malloc(rows * s.row_in));
        s.out = (unsigned char *)args_need(malloc(rows * s.row_out));
        s.x = (float *)args_need(malloc(workers * s.cols * sizeof *s.x));
        for (s.first = 0; s.first < p->rows && !out.error; s.first += rows) {
            const size_t n = gpti_min(rows, p->rows - s.first);
            read_tensor(&j->in, p->in, (uint64_t)s.first * s.row_in, s.in, n * s.row_in);
            if (p->fmt != p->in->fmt) {
                size_t bad = n;
                for (size_t w = 0; w < workers; w++) s.bad[w] = n;
                if (threads.run) threads.run(threads.user, n, 64 * s.cols, encode_rows, &s);
                else encode_rows(&s, 0, n, 0);
                for (size_t w = 0; w < workers; w++) bad = gpti_min(bad, s.bad[w]);
                if (bad < n) {
                    char name[GPTI_SHOWN];
                    args_die("%s: %s: row %llu holds a number that %s has no place for: NaN, infinity%s", j->in.path,
                             gpti_show(name, p->in->name), (gpti_ull)(s.first + bad), p->fmt->name,
                             is_quantised(p->fmt) || p->fmt->type == 1 ? " or more than 65504" : "");
                }
            }
            args_out_put(&out, p->fmt == p->in->fmt ? s.in : s.out, n * s.row_out);
            done += n * s.row_in;
            if (args_stopped) args_interrupted("writing ", j->out);
            args_progress_show(&progress, "quantizing", (double)done, (double)total);
        }
        if (pad)
            for (pad = (size_t)j->in.g.align - pad; pad; ) {
                const size_t n = gpti_min(pad, sizeof zeros);
                args_out_put(&out, zeros, n);
                pad -= n;
            }
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
    const uint64_t align = j->in.g.align;
    uint64_t before = 0, after = 0, size = j->header.n;
    double n = 0;
    for (size_t i = 0; i < j->n_piece; i++) {
        const piece *p = &j->pieces[i];
        before += p->in->size;
        after += p->size;
        size += (p->size + align - 1) / align * align;
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
    arg_list files;
    const char *imatrix = NULL;
    char usage[1200];
    const arg table[] = {
        { "IN OUT TYPE",   ARG_LIST,  &files,        "",     "" },
        { "--tensor, --tensor-type", ARG_LIST, &j.overrides, "PATTERN=TYPE",
          "matrices with PATTERN in their name get TYPE; A=B,C=D, the first that fits" },
        { "--imatrix",     ARG_ONCE,  &imatrix,      "FILE", "llama.cpp's importance matrix: which columns matter" },
        { "--requantize", ARG_FLAG, &j.requantize, "", "also what has less than 8 bits already" },
        { "--dry-run",     ARG_FLAG,  &j.dry_run,    "",     "write nothing, print what would become of each tensor" },
        { "-t, --threads", ARG_COUNT, &c.threads,    "N",    "threads, at most 256; 0 = one a processor (default)" },
        { "-v, --verbose", ARG_FLAG,  &c.verbose,    "",     "progress on stderr even if it is no terminal" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    memset(&c, 0, sizeof c);
    memset(&files, 0, sizeof files);
    snprintf(usage, sizeof usage, about, type_names());
    args_parse(argc, argv, "quantize", table, usage);
    if (files.n < 3) args_die("expected IN.gguf OUT.gguf TYPE, got %d of them (--help tells more)", (int)files.n);
    if (files.n > 3) args_die("unexpected argument '%s', after '%s'", files.item[3], files.item[2]);
    j.type = find_type("TYPE", files.item[2], strlen(files.item[2]));
    j.out = files.item[1];
    file_open(&j.in, (char *)files.item[0]);
    if (imatrix) file_open(&j.imatrix, (char *)imatrix);
    if (!j.dry_run) {
        const args_file other[] = { { j.in.path, "IN" }, { imatrix, "the importance matrix" } };
        args_check_out("OUT", j.out, other, 2);
    }
    plan(&j);
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
