/* What the command-line examples share: a table of options, errors in one line, reading a whole file, a progress line,
 * the threads, and Ctrl-C. Include it after gpt.h; build with -pthread. Nothing here is needed to use the library: hello.c
 * does without. */
#ifndef ARGS_H
#define ARGS_H

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _WIN32
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
#  include <fcntl.h>
#  include <io.h>
#  define isatty _isatty
#else
#  include <unistd.h>
#endif
#include "pool.h"

static const char *args_program = "";           /* the name that errors and --help begin with */

static inline void args_die(const char *fmt, ...) {
    va_list ap;
    fflush(stdout);
    fprintf(stderr, "%s: ", args_program);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}
static inline void *args_need(void *p) { if (!p) args_die("out of memory"); return p; }

/* ---- Options: one row each, the last row all zero ------------------------------------------------------------------- */

typedef enum { ARG_FLAG, ARG_COUNT, ARG_INT, ARG_FLOAT, ARG_TEXT, ARG_LIST } arg_kind;
enum { ARG_LIST_MAX = 16 };

typedef struct { const char *item[ARG_LIST_MAX]; size_t n; } arg_list;

typedef struct {
    const char *brief, *name;   /* "-m", "--model"; brief may be ""                                       */
    arg_kind    kind;
    void       *value;          /* int, int (0 or more), long long, double, const char *, arg_list        */
    const char *what, *help;    /* the value's name and a line for --help                                 */
} arg;

static inline void args_value(const arg *a, const char *opt, const char *text) {
    char *end = NULL;
    errno = 0;
    if (a->kind == ARG_TEXT) { *(const char **)a->value = text; return; }
    if (a->kind == ARG_LIST) {
        arg_list *list = (arg_list *)a->value;
        if (list->n == ARG_LIST_MAX) args_die("%s: at most %d of them", opt, (int)ARG_LIST_MAX);
        list->item[list->n++] = text;
        return;
    }
    if (a->kind == ARG_FLOAT) {
        double v = strtod(text, &end);
        if (end == text || *end || !(v > -1e30 && v < 1e30)) args_die("%s: expected a number, got '%s'", opt, text);
        *(double *)a->value = v;
    } else {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno) args_die("%s: expected a whole number, got '%s'", opt, text);
        if (a->kind == ARG_INT) { *(long long *)a->value = v; return; }
        if (v < 0 || v > INT_MAX) args_die("%s: expected 0 to %d, got '%s'", opt, INT_MAX, text);
        *(int *)a->value = (int)v;
    }
}

static inline void args_help(const arg *table, const char *about) {
    printf("%s\n\noptions:\n", about);
    for (; table->name; table++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s %s", table->brief, *table->brief ? ", " : "", table->name, table->what);
        printf("  %-30s %s\n", left, table->help);
    }
    printf("  %-30s %s\n  %-30s %s\n", "-h, --help", "this page", "--version", "the version of gpt.h");
}

/* Text is bytes: Windows would write a line end as two and take the byte 26 for the end of the input. */
static inline void args_binary(FILE *f) {
#ifdef _WIN32
    _setmode(_fileno(f), _O_BINARY);
#else
    (void)f;
#endif
}

/* Fills the table's values from the command line. --help and --version print and end the program; errors do too. Makes stdout
 * binary. */
static inline void args_parse(int argc, char **argv, const char *program, const arg *table, const char *about) {
    args_program = program;
    args_binary(stdout);
    for (int i = 1; i < argc; i++) {
        const arg *a = table;
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) { args_help(table, about); exit(0); }
        if (!strcmp(argv[i], "--version")) { puts(GPT_VERSION); exit(0); }
        while (a->name && strcmp(argv[i], a->name) && strcmp(argv[i], a->brief)) a++;
        if (!a->name) args_die("unknown option '%s' (--help lists them)", argv[i]);
        if (a->kind == ARG_FLAG) { *(int *)a->value = 1; continue; }
        if (i + 1 == argc) args_die("%s: needs a value: %s", argv[i], a->what);
        args_value(a, argv[i], argv[i + 1]);
        i++;
    }
}

/* ---- The options of every program that runs a model ------------------------------------------------------------------ */

typedef struct { const char *model, *kernels, *kv, *pre; int threads, context, batch, mapped, verbose, openmp; } args_common;

#define ARGS_MODEL(c) \
    { "-m", "--model",   ARG_TEXT,  &(c).model,   "FILE", "the model, a GGUF file" }, \
    { "",   "--pre",     ARG_TEXT,  &(c).pre,     "NAME", "pre-tokenizer, where the file names an unknown one" }
#define ARGS_COMMON(c) \
    ARGS_MODEL(c), \
    { "-t", "--threads", ARG_COUNT, &(c).threads, "N",    "threads; 0 = one for each processor (default)" }, \
    { "-c", "--ctx-size", ARG_COUNT, &(c).context, "N",   "context in tokens; 0 = the model's, at most 4096 (default)" }, \
    { "-b", "--batch-size", ARG_COUNT, &(c).batch, "N",   "prompt tokens computed together; 0 = 256 (default)" }, \
    { "",   "--kv",      ARG_TEXT,  &(c).kv,      "TYPE", "key and value cache: f16 (default), f32, q8_0" }, \
    { "",   "--kernels", ARG_TEXT,  &(c).kernels, "SET",  "force a kernel set: ref, avx2, ...; default: the best here" }, \
    { "",   "--mapped",  ARG_FLAG,  &(c).mapped,  "",     "use the weights where they lie: starts at once, runs slower" }, \
    { "-v", "--verbose", ARG_FLAG,  &(c).verbose, "",     "figures and progress on stderr even if it is no terminal" }

static inline int args_chatty(const args_common *c) { return c->verbose || isatty(2); }

static inline double args_seconds(void) {       /* since some fixed moment */
#ifdef _WIN32
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    return (double)now.QuadPart / (double)per_second.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

/* One line on stderr that overwrites itself: shown only for what takes longer than half a second, gone afterwards. */
typedef struct { double begin, last; int shown, on; } args_progress;

static inline args_progress args_progress_begin(const args_common *c) {
    args_progress p = { 0, 0, 0, 0 };
    p.begin = args_seconds();
    p.on = args_chatty(c);
    return p;
}
static inline void args_progress_show(args_progress *p, const char *what, double done, double total) {
    double now = p->on ? args_seconds() : 0;
    if (!p->on || now - p->begin < 0.5 || now - p->last < 0.1) return;
    fprintf(stderr, "\r%s %3.0f %%", what, total > 0 ? 100 * done / total : 0.0);
    fflush(stderr);
    p->last = now;
    p->shown = 1;
}
static inline void args_progress_end(args_progress *p) {
    if (p->shown) fprintf(stderr, "\r%32s\r", "");
    p->shown = p->on = 0;
}

/* Ctrl-C asks to stop, and the hooks pass that on; a second Ctrl-C ends the program the hard way. */
static volatile sig_atomic_t args_stopped;
static inline void args_on_interrupt(int sig) { args_stopped = 1; signal(sig, SIG_DFL); }
static inline gpt_poll args_poll(void *user) { (void)user; return args_stopped ? GPT_CANCEL : GPT_GO; }
static inline int args_on_load(void *user, uint64_t done, uint64_t total) {
    args_progress_show((args_progress *)user, "loading", (double)done, (double)total);
    return args_stopped;
}

/* The threads of the program, -t of them: one pool for every load and session, made when the first asks for it and ended by
 * exit(). None with openmp, which bench.c can set: then gpt.h uses OpenMP's. */
static pool *args_pool;
static inline void args_end_pool(void) { pool_free(args_pool); args_pool = NULL; }
static inline gpt_parallel args_parallel(const args_common *c) {
    if (!args_pool && !c->openmp) {
        args_pool = (pool *)args_need(pool_new(c->threads));
        atexit(args_end_pool);
    }
    return pool_parallel(args_pool);
}

/* How many threads a session has: n_threads counts the library's own, and is 0 where they are the pool's. */
static inline int args_threads(const gpt_session_info *info) {
    return info->n_threads ? info->n_threads : pool_parallel(args_pool).n_worker;
}

static inline gpt_model *args_load(const args_common *c, int header_only) {
    gpt_model_params params;
    gpt_model *m = NULL;
    gpt_error err;
    args_progress p = args_progress_begin(c);
    if (!c->model) args_die("no model: -m FILE names one");
    memset(&params, 0, sizeof params);
    if (!header_only) params.parallel = args_parallel(c);
    params.n_threads = c->openmp ? c->threads : 1;
    params.mapped = c->mapped;
    params.header_only = header_only;
    params.kernels = c->kernels;
    params.pretokenizer = c->pre;
    params.progress = args_on_load;
    params.progress_user = &p;
    gpt_model_load(&m, c->model, &params, &err);
    args_progress_end(&p);
    if (!m) args_die("%s", err.msg);
    return m;
}

static inline gpt_session_params args_session(const args_common *c) {
    gpt_session_params params;
    memset(&params, 0, sizeof params);
    params.n_ctx = (uint32_t)c->context;
    params.n_batch = (uint32_t)c->batch;
    params.parallel = args_parallel(c);
    params.n_threads = c->openmp ? c->threads : 1;
    params.poll = args_poll;
    if (!c->kv || !strcmp(c->kv, "f16")) params.kv = GPT_KV_F16;
    else if (!strcmp(c->kv, "f32"))      params.kv = GPT_KV_F32;
    else if (!strcmp(c->kv, "q8_0"))     params.kv = GPT_KV_Q8_0;
    else args_die("--kv: expected f16, f32 or q8_0, got '%s'", c->kv);
    return params;
}

/* ---- Files ------------------------------------------------------------------------------------------------------------ */

/* All of a file ("-" is stdin) with a zero byte behind it; the caller frees it. */
static inline char *args_read(const char *path, size_t *n) {
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    size_t size = 1 << 16, got;
    char *text;
    if (!f) args_die("%s: %s", path, strerror(errno));
    text = (char *)args_need(malloc(size));
    args_binary(f);
    for (*n = 0; (got = fread(text + *n, 1, size - *n - 1, f)) > 0; ) {
        *n += got;
        if (size - *n < 2) text = (char *)args_need(realloc(text, size *= 2));
    }
    if (ferror(f)) args_die("%s: %s", path, strerror(errno));
    if (f != stdin) fclose(f);
    text[*n] = 0;
    return text;
}

/* The text that -p or -f or stdin gives: -p TEXT, -p - and neither mean stdin for the last two. The caller frees it. */
static inline char *args_text(const char *prompt, const char *file, size_t *n) {
    if (prompt && file) args_die("-p and -f exclude each other");
    if (prompt && strcmp(prompt, "-")) {
        *n = strlen(prompt);
        return (char *)memcpy(args_need(malloc(*n + 1)), prompt, *n + 1);
    }
    if (!prompt && !file && isatty(0)) args_die("no text: -p TEXT, -f FILE, or a text on stdin");
    return args_read(file ? file : "-", n);
}

static inline gpt_token *args_tokenize(const gpt_model *m, const char *text, size_t n_text, unsigned flags, size_t *n) {
    gpt_error err;
    gpt_token *ids;
    if (gpt_tokenize(m, text, n_text, flags, NULL, 0, n, &err)) args_die("%s", err.msg);
    ids = (gpt_token *)args_need(malloc((*n + 1) * sizeof *ids));
    if (gpt_tokenize(m, text, n_text, flags, ids, *n, n, &err)) args_die("%s", err.msg);
    return ids;
}

static inline void args_close_stdout(void) {
    if (fflush(stdout) || ferror(stdout)) args_die("cannot write to stdout");
}

#endif
