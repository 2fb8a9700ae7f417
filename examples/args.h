/* What the command-line examples share: a table of options, errors in one line, reading and replacing a whole file, a progress
 * line, the threads, and Ctrl-C. Include it after gpt.h; build with -pthread. Nothing here is needed to use the library: hello.c
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
#  include <sys/stat.h>
#  include <unistd.h>
#endif
#include "pool.h"

static const char *args_program = "";           /* the name that errors and --help begin with */
static int args_line_open;                      /* stderr shows a line of progress that has no end yet */
static int args_status = 1;                     /* what a program that fails returns */

static inline void args_die(const char *fmt, ...) {
    va_list ap;
    fflush(stdout);
    fprintf(stderr, "%s%s: ", args_line_open ? "\n" : "", args_program);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(args_status);
}
static inline void *args_need(void *p) { if (!p) args_die("out of memory"); return p; }

/* Everything that was printed has arrived, or the program fails: to be called at its end. */
static inline void args_close_stdout(void) {
    if (fflush(stdout) || ferror(stdout)) args_die("cannot write to stdout: %s", strerror(errno));
}
/* Prints a piece of text at once. It fails here and not at the end: errno would say something else by then. */
static inline int args_print(const char *text, size_t n) {
    fwrite(text, 1, n, stdout);
    args_close_stdout();
    return 0;
}

/* ---- Options: one row each, the last row all zero ------------------------------------------------------------------- */

typedef enum { ARG_FLAG, ARG_COUNT, ARG_INT, ARG_FLOAT, ARG_TEXT, ARG_ONCE, ARG_LIST } arg_kind;
enum { ARG_LIST_MAX = 16 };

typedef struct { const char *item[ARG_LIST_MAX]; size_t n; } arg_list;

typedef struct {
    const char *names;          /* "-m, --model", in any number; one that does not begin with - is an argument of no option */
    arg_kind    kind;
    void       *value;          /* int, int (0 or more), long long, double, const char * (twice), arg_list */
    const char *what, *help;    /* the value's name and a line for --help                                 */
} arg;

static inline void args_value(const arg *a, const char *opt, const char *text) {
    char *end = NULL;
    errno = 0;
    if (a->kind == ARG_TEXT || a->kind == ARG_ONCE) {
        const char **value = (const char **)a->value;
        if (a->kind == ARG_ONCE && *value) args_die("%s: expected one at most, got '%s' and '%s'", opt, *value, text);
        *value = text;
        return;
    }
    if (a->kind == ARG_LIST) {
        arg_list *list = (arg_list *)a->value;
        if (list->n == ARG_LIST_MAX) args_die("%s: at most %d of them", opt, (int)ARG_LIST_MAX);
        list->item[list->n++] = text;
        return;
    }
    if (a->kind == ARG_FLOAT) {
        double v = strtod(text, &end);
        if (end == text || *end || v != v) args_die("%s: expected a number, got '%s'", opt, text);
        if (!(v > -1e30 && v < 1e30)) args_die("%s: expected a number between -1e30 and 1e30, got '%s'", opt, text);
        *(double *)a->value = v;
    } else {
        const long long low = a->kind == ARG_INT ? LLONG_MIN : 0, high = a->kind == ARG_INT ? LLONG_MAX : INT_MAX;
        const long long v = strtoll(text, &end, 10);
        if (end == text || *end) args_die("%s: expected a whole number, got '%s'", opt, text);
        if (errno || v < low || v > high) args_die("%s: expected %lld to %lld, got '%s'", opt, low, high, text);
        if (a->kind == ARG_INT) *(long long *)a->value = v; else *(int *)a->value = (int)v;
    }
}

static inline void args_help(const arg *table, const char *about) {
    printf("%s\n\noptions:\n", about);
    for (; table->names; table++) {
        char left[80];
        if (*table->names != '-') continue;
        snprintf(left, sizeof left, "%s %s", table->names, table->what);
        printf(strlen(left) > 30 ? "  %s\n%33s%s\n" : "  %-30s %s%s\n", left, "", table->help);
    }
    printf("  %-30s %s\n  %-30s %s\n", "-h, --help", "this page", "--version", "the version of gpt.h");
}

static inline int args_has(const char *names, const char *name) {
    size_t n = strlen(name);
    do {
        names += strspn(names, ", ");
        if (!strncmp(names, name, n) && (!names[n] || names[n] == ',')) return 1;
    } while ((names = strchr(names, ',')) != NULL);
    return 0;
}
/* The row that has the name, or the one for an argument that is no option. */
static inline const arg *args_find(const arg *table, const char *name) {
    for (; table->names; table++) {
        if (*table->names != '-' && (*name != '-' || !name[1])) return table;
        if (args_has(table->names, name)) return table;
    }
    return NULL;
}

/* Errors call an option what the command line called it: args_name("-r") may be "--stop". */
static struct { const char *names, *typed; const void *value; } args_typed[64];
static int args_n_typed;
static inline const char *args_given(const char *name) {       /* NULL: the command line does not have it */
    for (int i = args_n_typed; i-- > 0; ) {
        if (args_has(args_typed[i].names, name)) return args_typed[i].typed;
    }
    return NULL;
}
static inline const char *args_name(const char *name) { return args_given(name) ? args_given(name) : name; }

/* An option that would do nothing, as what it is about is not wanted, ends the program. */
static inline void args_only(const char *name, int useful, const char *why) {
    if (!useful && args_given(name)) args_die("%s: %s", args_name(name), why);
}

/* An unknown option: with the known one, if any, that begins like it for --xyz at least, and one that ends there first; or
 * that ends in all of it, as --chat-template in --template. */
static inline void args_unknown(const arg *table, const char *opt) {
    const char *best = NULL;
    char name[64];
    size_t most = 9, n_opt = strcspn(opt, "=");
    snprintf(name, sizeof name, "%.*s", (int)n_opt, opt);
    if (opt[n_opt] && n_opt > 1 && args_find(table, name))
        args_die("unknown option '%s': did you mean %s %s, with a space?", opt, name, opt + n_opt + 1);
    for (; table->names; table++) {
        const char *p = table->names;
        do {
            size_t n = 0, alike, n_name;
            p += strspn(p, ", ");
            while (p[n] && p[n] != ',' && p[n] == opt[n]) n++;
            alike = 2 * n + (!p[n] || p[n] == ',');
            n_name = strcspn(p, ",");
            if (n_name > n_opt && n_opt > 4 && !strncmp(p + n_name - n_opt + 1, opt + 1, n_opt - 1)) alike = 2 * n_opt;
            if (alike > most) most = alike, best = p;
        } while ((p = strchr(p, ',')) != NULL);
    }
    if (!best) args_die("unknown option '%s' (--help lists them)", opt);
    args_die("unknown option '%s': did you mean %.*s? (--help lists them)", opt, (int)strcspn(best, ","), best);
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
#ifdef _WIN32
    SetConsoleOutputCP(CP_UTF8);
#endif
    for (int i = 1; i < argc; i++) {
        const char *opt = argv[i];
        const arg *a = args_find(table, opt);
        int help = !strcmp(opt, "-h") || !strcmp(opt, "--help");
        if (help || !strcmp(opt, "--version")) {
            if (help) args_help(table, about); else puts(GPT_VERSION);
            args_close_stdout();
            exit(0);
        }
        if (!a && *opt == '-') args_unknown(table, opt);
        if (!a) args_die("unexpected argument '%s': options begin with -, a text of several words needs quotes", opt);
        if (*a->names == '-' && args_n_typed < 64) {
            args_typed[args_n_typed].names = a->names;
            args_typed[args_n_typed].value = a->value;
            args_typed[args_n_typed++].typed = opt;
        }
        if (a->kind == ARG_FLAG) { *(int *)a->value = 1; continue; }
        if (*a->names != '-') {
            if ((a->kind == ARG_TEXT || a->kind == ARG_ONCE) && *(const char **)a->value)
                args_die("unexpected argument '%s', after '%s'", opt, *(const char **)a->value);
            args_value(a, opt, opt);
            continue;
        }
        if (i + 1 == argc) args_die("%s: needs a value: %s", opt, a->what);
        args_value(a, opt, argv[++i]);
    }
}

/* A copy of the text in which \n, \r, \t, \\, \", \' and \xHH are what they mean; the caller frees it. */
static inline char *args_unescape(const char *text) {
    char *copy = (char *)args_need(malloc(strlen(text) + 1)), *out = copy;
    for (; *text; text++) {
        static const char from[] = "nrt\\\"'", to[] = "\n\r\t\\\"'";
        const char *at = *text == '\\' && text[1] ? strchr(from, text[1]) : NULL;
        char hex[3] = { 0, 0, 0 }, *end = NULL;
        long code = 0;
        if (at) { *out++ = to[at - from]; text++; continue; }
        if (*text == '\\' && text[1] == 'x') {
            strncpy(hex, text + 2, 2);
            code = strtol(hex, &end, 16);
        }
        if (code > 0 && end == hex + 2) { *out++ = (char)code; text += 3; continue; }
        *out++ = *text;
    }
    *out = 0;
    return copy;
}

/* ---- The options of every program that runs a model ------------------------------------------------------------------ */

typedef struct {
    const char *model, *kernels, *kv, *values, *pre;
    int         threads, context, batch, mapped, experts, verbose, openmp, beyond;
    const char  *adapter;       /* as the command line has it; then what args_load makes of it */
    gpt_adapter *lora;
    gpt_model   *lora_header;   /* its metadata */
    float        scale;
} args_common;

#define ARGS_MODEL(c) \
    { "-m, --model",      ARG_TEXT,  &(c).model,   "FILE", "the model, a GGUF file" }, \
    { "--pre",            ARG_TEXT,  &(c).pre,     "NAME", "pre-tokenizer, where the file names an unknown one" }
#define ARGS_COMMON(c) \
    ARGS_MODEL(c), \
    { "-t, --threads",    ARG_COUNT, &(c).threads, "N",    "threads, at most 256; 0 = one for each processor (default)" }, \
    { "-c, --ctx-size",   ARG_COUNT, &(c).context, "N",    "context in tokens; 0 = the model's, at most 4096 (default)" }, \
    { "-b, --batch-size", ARG_COUNT, &(c).batch,   "N",    "prompt tokens computed together; 0 = 256 (default)" }, \
    { "-ctk, --cache-type-k, --kv", ARG_TEXT, &(c).kv, "TYPE", "cache of keys and values: f16 (default), f32, q8_0, q4_0" }, \
    { "-ctv, --cache-type-v", ARG_TEXT, &(c).values, "TYPE", "the same again: keys and values have one type" }, \
    { "--beyond-training", ARG_FLAG, &(c).beyond,  "",     "let -c be more than the model was trained for: it gets worse there" }, \
    { "--kernels",        ARG_TEXT,  &(c).kernels, "SET",  "force a kernel set: ref, avx2, ...; default: the best here" }, \
    { "--mapped",         ARG_FLAG,  &(c).mapped,  "",     "use the weights where they lie: starts at once, runs slower" }, \
    { "--mapped-experts", ARG_FLAG,  &(c).experts, "",    "only experts so, the rest rearranged: for a mixture larger than memory" }, \
    { "-v, --verbose",    ARG_FLAG,  &(c).verbose, "",     "figures and progress on stderr even if it is no terminal" }

#define ARGS_ADAPTER(c) \
    { "--adapter, --lora", ARG_ONCE, &(c).adapter, "FILE", \
      "a LoRA adapter beside the model; FILE:0.5: at half its scale, FILE:0: without it" }

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
    p->shown = args_line_open = 1;
}
static inline void args_progress_end(args_progress *p) {
    if (p->shown) fprintf(stderr, "\r%32s\r", "");
    p->shown = p->on = args_line_open = 0;
}

/* Ctrl-C asks to stop, and the hooks pass that on; a second Ctrl-C ends the program the hard way. */
static volatile sig_atomic_t args_stopped;
static inline void args_on_interrupt(int sig) { POOL_SWAP(&args_stopped, sig); signal(sig, SIG_DFL); }
static inline void args_interrupted(const char *doing, const char *what) {
    fflush(stdout);
    fprintf(stderr, "%s%s: interrupted while %s%s\n", args_line_open ? "\n" : "", args_program, doing, what);
    exit(130);                                  /* as a shell reports a program that Ctrl-C ended */
}
static inline gpt_poll args_poll(void *user, size_t done, size_t total) {
    (void)user; (void)done; (void)total;
    return args_stopped ? GPT_CANCEL : GPT_GO;
}
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

/* What a name names: 0 nothing, 'f' a file, 'd' a folder, '?' something else, as a device or a pipe. */
static inline int args_kind(const char *path) {
#ifdef _WIN32
    DWORD kind = GetFileAttributesA(path);
    return kind == INVALID_FILE_ATTRIBUTES ? 0 : kind & FILE_ATTRIBUTE_DIRECTORY ? 'd' : 'f';
#else
    struct stat st;
    if (stat(path, &st)) return 0;
    return S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : '?';
#endif
}
/* Do two names name the same file? */
static inline int args_same(const char *a, const char *b) {
#ifdef _WIN32
    char full_a[MAX_PATH], full_b[MAX_PATH];
    return GetFullPathNameA(a, MAX_PATH, full_a, NULL) && GetFullPathNameA(b, MAX_PATH, full_b, NULL)
        && !_stricmp(full_a, full_b);
#else
    struct stat x, y;
    if (stat(a, &x) || stat(b, &y)) return !strcmp(a, b);
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
#endif
}
/* Opens a file to read; `what` is what it should be, as "a GGUF file". */
static inline FILE *args_open(const char *path, const char *what) {
    FILE *f;
    if (!*path) args_die("the name of %s is empty", what);
    if (args_kind(path) == 'd') args_die("%s: a folder, expected %s", path, what);
    f = fopen(path, "rb");
    if (!f) args_die("%s: %s", path, strerror(errno));
    return f;
}

/* The adapter of "FILE", or "FILE:SCALE" where no file has all of that as its name. */
static inline void args_load_adapter(args_common *c, const gpt_model *m) {
    const char *option = args_name("--adapter"), *colon = strrchr(c->adapter, ':');
    gpt_model_params header;
    char name[1024], *end = NULL;
    gpt_error err;
    int kind;
    if (strlen(c->adapter) >= sizeof name) args_die("%s: a name of more than %d bytes", option, (int)sizeof name - 1);
    kind = args_kind(strcpy(name, c->adapter));
    c->scale = 1;
    if (!kind && colon) {
        const double scale = strtod(colon + 1, &end);
        const int number = colon[1] && !*end;
        name[colon - c->adapter] = 0;
        kind = args_kind(name);
        if (kind && !(number && scale > -1e30 && scale < 1e30))
            args_die("%s %s: expected a number as the scale, behind the colon, got '%s'", option, c->adapter,
                     colon + 1);
        if (!kind && !number) name[colon - c->adapter] = ':';
        else c->scale = (float)scale;
    }
    if (!*name) args_die("%s: the name of the file is empty", option);
    if (!kind) args_die("%s %s: there is no such file", option, name);
    if (kind == 'd') args_die("%s %s: a folder, expected a GGUF file", option, name);
    if (gpt_adapter_load(&c->lora, m, name, &err)) args_die("%s %s", option, err.msg);     /* begins with the name */
    memset(&header, 0, sizeof header);
    header.header_only = 1;
    if (gpt_model_load(&c->lora_header, name, &header, &err)) args_die("%s %s", option, err.msg);
}

/* What a program needs of its model: that it writes texts, its header alone, or nothing. */
typedef enum { ARGS_WRITER, ARGS_HEADER, ARGS_ANY } args_use;

/* The model, and the adapter if one is asked for: args_unload frees both. */
static inline gpt_model *args_load(args_common *c, args_use use) {
    gpt_model_params params;
    gpt_model_info info;
    gpt_model *m = NULL;
    gpt_error err;
    args_progress p = args_progress_begin(c);
    if (!c->model) args_die("no model: -m FILE names one");
    fclose(args_open(c->model, "a GGUF file"));
    memset(&params, 0, sizeof params);
    if (use != ARGS_HEADER) params.parallel = args_parallel(c);
    params.n_threads = c->openmp ? c->threads : 1;
    params.mapped = c->mapped ? 1 : c->experts ? 2 : 0;
    params.header_only = use == ARGS_HEADER;
    params.kernels = c->kernels;
    params.pretokenizer = c->pre;
    params.progress = args_on_load;
    params.progress_user = &p;
    gpt_model_load(&m, c->model, &params, &err);
    args_progress_end(&p);
    if (!m && args_stopped) args_interrupted("loading ", c->model);
    if (!m) args_die("%s", err.msg);
    gpt_model_info_get(m, &info);
    if (use == ARGS_WRITER && info.encoder)
        args_die("%s: %s makes vectors of texts and writes none: it is for embed, and for ask's --embedding-model; "
                 "expected a model that writes", c->model, info.architecture);
    if (c->adapter) args_load_adapter(c, m);
    return m;
}
static inline void args_unload(args_common *c, gpt_model *m) {
    gpt_adapter_free(c->lora);
    gpt_model_free(c->lora_header);
    c->lora = NULL, c->lora_header = NULL;
    gpt_model_free(m);
}

static inline gpt_session_params args_session(const args_common *c) {
    gpt_session_params params;
    memset(&params, 0, sizeof params);
    params.n_ctx = (uint32_t)c->context;
    params.n_batch = (uint32_t)c->batch;
    params.hooks.parallel = args_parallel(c);
    params.n_threads = c->openmp ? c->threads : 1;
    params.hooks.poll = args_poll;
    params.beyond_training = c->beyond;
    if (c->lora && c->scale != 0) params.adapter = c->lora, params.adapter_scale = c->scale;  /* the library's 0 is 1 */
    const char *kv = c->kv ? c->kv : c->values ? c->values : "f16";
    if (c->values && strcmp(c->values, kv))
        args_die("%s: expected %s, the type of the keys, got '%s'", args_name("-ctv"), kv, c->values);
    if (!strcmp(kv, "f16"))       params.kv = GPT_KV_F16;
    else if (!strcmp(kv, "f32"))  params.kv = GPT_KV_F32;
    else if (!strcmp(kv, "q8_0")) params.kv = GPT_KV_Q8_0;
    else if (!strcmp(kv, "q4_0")) params.kv = GPT_KV_Q4_0;
    else args_die("%s: expected f16, f32, q8_0 or q4_0, got '%s'", args_name(c->kv ? "--kv" : "-ctv"), kv);
    return params;
}

/* A work space for many sessions, and what each is made with in it. */
static inline gpt_work *args_work(const args_common *c, const gpt_model *m, gpt_session_params *session) {
    gpt_work_params params;
    gpt_work *w;
    gpt_error err;
    *session = args_session(c);
    memset(&params, 0, sizeof params);
    params.n_batch = session->n_batch, params.n_threads = session->n_threads, params.hooks = session->hooks;
    params.n_rank = gpt_adapter_rank(session->adapter);
    if (gpt_work_new(&w, m, &params, &err)) args_die("%s", err.msg);
    session->work = w, session->n_batch = 0, session->n_threads = 0;
    memset(&session->hooks, 0, sizeof session->hooks);
    return w;
}

/* ---- The options of every program that writes text ------------------------------------------------------------------- */

typedef struct {
    double    temp, top_p, min_p, repeat, frequency, presence;
    long long seed, n_predict, last_n;
    int       top_k, escape;
    double    typical, sigma, xtc, xtc_threshold, dry, dry_base, range, exponent;
    long long dry_last_n;
    int       dry_allowed, ngram, draft;
    const char *samplers;
    arg_list  stop;
} args_sampling;

#define ARGS_SAMPLING_DEFAULT { 0.8, 0.95, 0.05, 1, 0, 0, 0, -1, 64, 40, 0, 1, 0, 0, 0.1, 0, 1.75, 0, 1, -1, 2, 0, 0, 0, { { 0 }, 0 } }
#define ARGS_SAMPLING(s, seed_help) ARGS_SAMPLING_N(s, "tokens to write at most; -1 = no limit (default)", seed_help)
#define ARGS_SAMPLING_N(s, n_help, seed_help) \
    { "-n, --predict, --n-predict", ARG_INT, &(s).n_predict, "N", n_help }, \
    { "-s, --seed",          ARG_INT,   &(s).seed,      "S",    seed_help }, \
    { "--temp",              ARG_FLOAT, &(s).temp,      "T",    "temperature (0.8); 0 = always the likeliest token" }, \
    { "--top-k",             ARG_COUNT, &(s).top_k,     "K",    "only the K likeliest tokens (40); 0 = off" }, \
    { "--top-p",             ARG_FLOAT, &(s).top_p,     "P",    "only the likeliest that sum to P (0.95); 1 = off" }, \
    { "--min-p",             ARG_FLOAT, &(s).min_p,     "P",    "only those of P times the likeliest one's (0.05); 0 = off" }, \
    { "--repeat-penalty",    ARG_FLOAT, &(s).repeat,    "R",    "divides the logits of recent tokens; 1 = off (default)" }, \
    { "--repeat-last-n",     ARG_INT,   &(s).last_n,    "N",    "what counts as recent (64); 0 = none, -1 = the whole text" }, \
    { "--frequency-penalty", ARG_FLOAT, &(s).frequency, "F",    "taken off for each recent occurrence (0)" }, \
    { "--presence-penalty",  ARG_FLOAT, &(s).presence,  "P",    "taken off once for any recent occurrence (0)" }, \
    { "--typical, --typical-p", ARG_FLOAT, &(s).typical, "P",   "only the most typical that sum to P; 1 = off (default)" }, \
    { "--top-n-sigma, --top-nsigma", ARG_FLOAT, &(s).sigma, "N", "only logits within N standard deviations of the best; 0 = off (default)" }, \
    { "--xtc-probability",   ARG_FLOAT, &(s).xtc,       "P",    "how often all likely tokens but the least likely go; 0 = off (default)" }, \
    { "--xtc-threshold",     ARG_FLOAT, &(s).xtc_threshold, "P", "what is likely for that (0.1)" }, \
    { "--dry-multiplier",    ARG_FLOAT, &(s).dry,       "M",    "taken off what goes on with a repeat, times ...; 0 = off (default)" }, \
    { "--dry-base",          ARG_FLOAT, &(s).dry_base,  "B",    "... B ^ (length of the repeat - allowed length) (1.75)" }, \
    { "--dry-allowed-length", ARG_COUNT, &(s).dry_allowed, "N", "shorter repeats cost nothing (2)" }, \
    { "--dry-penalty-last-n, --dry-last-n", ARG_INT, &(s).dry_last_n, "N", "tokens to look back on; 0 = none, -1 = the whole text (default)" }, \
    { "--no-repeat-ngram",   ARG_COUNT, &(s).ngram,     "N",    "no N tokens in a row come twice; 0 = off (default)" }, \
    { "--dynatemp-range",    ARG_FLOAT, &(s).range,     "R",    "temperature between T - R and T + R, by entropy; 0 = off (default)" }, \
    { "--dynatemp-exp",      ARG_FLOAT, &(s).exponent,  "E",    "exponent of that entropy (1)" }, \
    { "--samplers",          ARG_TEXT,  &(s).samplers,  "LIST", "their order: penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature" }, \
    { "--draft",             ARG_COUNT, &(s).draft,     "N",    "up to N guesses from the text so far: the same text, sooner; 0 = off (default)" }, \
    { "-r, --reverse-prompt, --stop", ARG_LIST, &(s).stop, "TEXT", "ends the text and is not printed; may be repeated" }, \
    { "-e, --escape",        ARG_FLAG,  &(s).escape,    "",     "\\n, \\t and the like in -p and -r are what they mean" }

static inline void args_within(const char *name, double v, double low, double high) {
    if (v >= low && v <= high) return;
    if (high > 1e29) args_die("%s: expected %.15g or more, got %.15g", name, low, v);
    args_die("%s: expected %.15g to %.15g, got %.15g", name, low, high, v);
}

static inline gpt_generate_params args_generation(args_sampling *s) {
    static char *volatile kept[ARG_LIST_MAX];   /* to the end of the program, behind main's too: no leak */
    gpt_generate_params params;
    memset(&params, 0, sizeof params);
    if (s->n_predict < -1) args_die("%s: expected -1 or more, got %lld", args_name("-n"), s->n_predict);
    if (s->seed < -1) args_die("%s: expected -1 or more, got %lld", args_name("--seed"), s->seed);
    if (s->last_n < -1) args_die("--repeat-last-n: expected -1 or more, got %lld", s->last_n);
    args_within("--temp", s->temp, 0, 1e30);
    args_within("--top-p", s->top_p, 0, 1);
    args_within("--min-p", s->min_p, 0, 1);
    args_within("--repeat-penalty", s->repeat, 0, 1e30);
    args_within("--typical", s->typical, 0, 1);
    args_within("--xtc-probability", s->xtc, 0, 1);
    args_within("--xtc-threshold", s->xtc_threshold, 0, 1);
    args_within("--dry-multiplier", s->dry, 0, 1e30);
    args_within("--dry-base", s->dry_base, 1, 1e30);
    args_within("--dynatemp-range", s->range, 0, 1e30);
    args_within("--dynatemp-exp", s->exponent, 0, 1e30);
    if (s->dry_last_n < -1) args_die("--dry-last-n: expected -1 or more, got %lld", s->dry_last_n);
    for (size_t i = 0; i < s->stop.n; i++) {
        if (!*s->stop.item[i]) args_die("%s: the text is empty", args_name("-r"));
        if (s->escape) s->stop.item[i] = kept[i] = args_unescape(s->stop.item[i]);
    }
    params.max_tokens = s->n_predict > 0 ? (size_t)s->n_predict : 0;
    params.stop = s->stop.item;
    params.n_stop = s->stop.n;
    params.sample.temperature = (float)s->temp;
    params.sample.top_k = s->top_k;
    params.sample.top_p = s->top_p > 1e-9 ? (float)s->top_p : 1e-9f;        /* 0: the likeliest alone; the library's 0 is off */
    params.sample.min_p = (float)s->min_p;
    params.sample.penalty_last_n = s->last_n < 0 ? -1 : (int)(s->last_n < INT_MAX ? s->last_n : INT_MAX);
    if (s->last_n != 0) {                                                   /* the library's 0 is 64 */
        params.sample.repeat_penalty = (float)s->repeat;
        params.sample.frequency_penalty = (float)s->frequency;
        params.sample.presence_penalty = (float)s->presence;
    }
    params.sample.typical_p = s->typical > 1e-9 ? (float)s->typical : 1e-9f;    /* 0: the most typical alone */
    params.sample.top_n_sigma = (float)s->sigma;
    params.sample.xtc_probability = (float)s->xtc;
    params.sample.xtc_threshold = s->xtc_threshold > 1e-9 ? (float)s->xtc_threshold : 1e-9f;
    params.sample.dry_multiplier = s->dry_last_n ? (float)s->dry : 0.0f;        /* the library's 0 is the whole text */
    params.sample.dry_base = (float)s->dry_base;
    params.sample.dry_allowed_length = s->dry_allowed > 0 ? s->dry_allowed : 1;     /* a repeat of no tokens is none */
    params.sample.dry_last_n = (int)(s->dry_last_n < INT_MAX ? s->dry_last_n : INT_MAX);
    params.sample.no_repeat_ngram = s->ngram;
    params.sample.dynatemp_range = (float)s->range;
    params.sample.dynatemp_exponent = s->exponent > 1e-9 ? (float)s->exponent : 1e-9f;
    params.sample.samplers = s->samplers;
    params.n_draft = (uint32_t)s->draft;
    params.sample.seed = s->seed == -1 ? (uint64_t)time(NULL) : (uint64_t)s->seed;
    return params;
}

/* ---- Files ------------------------------------------------------------------------------------------------------------ */

/* All of a file ("-" is stdin) with a zero byte behind it; the caller frees it. */
static inline char *args_read(const char *path, size_t *n) {
    FILE *f = strcmp(path, "-") ? args_open(path, "a file") : stdin;
    size_t size = 1 << 16, got;
    char *text = (char *)args_need(malloc(size));
    args_binary(f);
    for (*n = 0; (got = fread(text + *n, 1, size - *n - 1, f)) > 0; ) {
        *n += got;
        if (size - *n < 2) text = (char *)args_need(realloc(text, size *= 2));
    }
    if (ferror(f)) args_die("%s: %s", f == stdin ? "stdin" : path, strerror(errno));
    if (f != stdin) fclose(f);
    text[*n] = 0;
    return text;
}

/* A file that takes the place of another when it is whole: written as PATH.part, then renamed; where PATH is a link, all
 * this where it leads. What fails, the program too, leaves the old one and no part. */
typedef struct { FILE *f; int error; char path[1024], part[1032]; } args_out;

static args_out *args_writing;                  /* what is under way */
static inline void args_out_drop(args_out *o) {
    if (o->f) { fclose(o->f); remove(o->part); }
    o->f = NULL;
    if (args_writing == o) args_writing = NULL;
}
static inline void args_end_writing(void) { if (args_writing) args_out_drop(args_writing); }

static inline void args_out_begin(args_out *o, const char *path) {
    static int at_exit;
    memset(o, 0, sizeof *o);
    if (strlen(path) >= sizeof o->path) { o->error = ENAMETOOLONG; return; }
    strcpy(o->path, path);
#ifndef _WIN32
    for (int links = 0; links < 40; links++) {
        char to[sizeof o->path];
        const char *slash = strrchr(o->path, '/');
        const ssize_t n = readlink(o->path, to, sizeof to - 1);
        const size_t folder = n > 0 && *to != '/' && slash ? (size_t)(slash - o->path) + 1 : 0;
        if (n <= 0) break;                      /* no link */
        if (folder + (size_t)n >= sizeof o->path) { o->error = ENAMETOOLONG; return; }
        to[n] = 0;
        strcpy(o->path + folder, to);
    }
#endif
    snprintf(o->part, sizeof o->part, "%s.part", o->path);
    o->f = fopen(o->part, "wb");
    if (!o->f) { o->error = errno; return; }
    args_writing = o;
    if (!at_exit) atexit(args_end_writing);
    at_exit = 1;
}
static inline void args_out_put(args_out *o, const void *data, size_t n) {
    if (!o->error && fwrite(data, 1, n, o->f) != n) o->error = errno ? errno : EIO;
}
/* 0, or why it failed, as strerror knows it. */
static inline int args_out_end(args_out *o) {
    if (!o->f) return o->error;
    if (fclose(o->f) && !o->error) o->error = errno;
    o->f = NULL;
    if (args_writing == o) args_writing = NULL;
#ifdef _WIN32
    if (!o->error && !MoveFileExA(o->part, o->path, MOVEFILE_REPLACE_EXISTING)) o->error = EACCES;
#else
    if (!o->error && rename(o->part, o->path)) o->error = errno;
#endif
    if (o->error) remove(o->part);
    return o->error;
}

/* May the file of an option be written? It is new, or takes the place of a regular file that is none of those [n] whose names are
 * given (a path may be NULL). To be asked before the work. */
typedef struct { const char *path, *what; } args_file;
static inline void args_check_out(const char *option, const char *out, const args_file *other, size_t n) {
    const int kind = args_kind(out);
    args_out probe;
    if (!*out) args_die("%s: the name is empty", option);
    if (kind && kind != 'f')
        args_die("%s %s: %s, expected the name of a file", option, out, kind == 'd' ? "a folder" : "a device or a pipe");
    for (size_t i = 0; i < n; i++)
        if (other[i].path && args_same(out, other[i].path)) args_die("%s %s: that is %s", option, out, other[i].what);
    args_out_begin(&probe, out);
    if (probe.error) args_die("%s %s: cannot write: %s", option, out, strerror(probe.error));
    args_out_drop(&probe);
}

/* The text that -p or -f or stdin gives: -p TEXT, -p - and neither mean stdin for the last two; escape is about -p TEXT. The
 * caller frees it. */
static inline char *args_text(const char *prompt, const char *file, int escape, size_t *n) {
    if (prompt && file) args_die("%s and %s exclude each other", args_name("-p"), args_name("-f"));
    if (prompt && strcmp(prompt, "-")) {
        char *text = (char *)memcpy(args_need(malloc(strlen(prompt) + 1)), prompt, strlen(prompt) + 1);
        if (escape) { free(text); text = args_unescape(prompt); }
        *n = strlen(text);
        return text;
    }
    if (!prompt && !file && isatty(0)) args_die("no text: -p TEXT, -f FILE, or a text on stdin");
    return args_read(file ? file : "-", n);
}

static inline gpt_token *args_tokenize(const gpt_model *m, const char *text, size_t n_text, unsigned flags, size_t *n) {
    gpt_error err;
    gpt_token *ids;
    if (gpt_tokenize(m, text, n_text, flags, NULL, 0, n, &err)) args_die("%s", err.msg);
    ids = (gpt_token *)args_need(malloc((*n + 1) * sizeof *ids));      /* and one that the caller may add */
    if (gpt_tokenize(m, text, n_text, flags, ids, *n, n, &err)) args_die("%s", err.msg);
    return ids;
}

#endif
