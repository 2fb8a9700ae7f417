/* How fast a model loads, reads and writes on this machine: medians of R runs. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#ifndef _WIN32
#  include <sys/resource.h>
#endif
#ifdef __linux__
#  include <sys/mman.h>
#endif

static const char about[] =
    "usage: bench -m MODEL [-p 512] [-n 64] [-d DEPTH] [-t THREADS] [--openmp] [-r 5]\n\n"
    "Prints, as medians of R runs (-r):\n"
    "  load   opening the file until the weights are ready, in a warm page cache unless the file is new to it\n"
    "  first  the same, and a session, and one token read and one chosen\n"
    "  ppN    reading a prompt of N made-up tokens\n"
    "  tgN    writing N tokens one by one; GB/s = bytes of all weights times tok/s\n"
    "  tgN@D  the same after D tokens (-d), where the context has room for them\n"
    "  peak   the process's largest resident memory, pages of a mapped file included\n"
    "  dram   what as many threads read from memory, the best of some passes, before and after the tg runs\n"
    "  share  tgN's GB/s of the better of the two; caches lift it, beyond 100 % where the weights fit into them";

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void eval(gpt_session *s, const gpt_token *ids, size_t n) {
    gpt_error err;
    if (n && gpt_eval(s, ids, n, &err)) args_die("%s", err.msg);
}

static double peak_mib(void) {              /* 0 = unknown here */
#ifdef _WIN32
    return 0;
#else
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use)) return 0;
#  ifdef __APPLE__
    return (double)use.ru_maxrss / 1048576; /* bytes there, KiB everywhere else */
#  else
    return (double)use.ru_maxrss / 1024;
#  endif
#endif
}

/* The text becomes ids [n], n > 0. What it has of them already is kept where the session can go back to it. */
static void set_text(gpt_session *s, const gpt_token *ids, size_t n) {
    gpt_error err;
    if (gpt_session_rewind(s, n - 1, &err)) {
        gpt_session_reset(s);
        eval(s, ids, n - 1);
    }
    eval(s, ids + n - 1, 1);
}

/* Seconds to write n tokens after the first `depth` + 1 of ids. */
static double writing(gpt_session *s, const gpt_token *ids, size_t depth, int n) {
    double begin;
    set_text(s, ids, depth + 1);
    begin = args_seconds();
    while (n-- > 0) {
        gpt_token id = gpt_sample(s, NULL);
        eval(s, &id, 1);
    }
    return args_seconds() - begin;
}

/* ---- The memory's speed: words of a block that no cache holds are added up --------------------------------------- */

enum { HUGE_PAGE = 1 << 21, STREAM = 8192, STRETCH = 4 * STREAM, DRAM_PASSES = 16 };

static volatile uint64_t dram_sum;          /* looked at by nobody, but the compiler cannot know */

/* word [n], n a multiple of STRETCH: four streams at a time, as one prefetched stream does not fill the memory's bus
 * (16 against 22 GB/s on one Zen 3 core). */
static uint64_t add_up(const uint64_t *word, size_t n) {
    const uint64_t *end = word + n;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; word < end; word += STRETCH) {
        size_t i;
        for (i = 0; i < STREAM; i++) {
            a += word[i];
            b += word[i + STREAM];
            c += word[i + 2 * STREAM];
            d += word[i + 3 * STREAM];
        }
    }
    return a + b + c + d;
}

typedef struct { uint64_t *word; int fill; uint64_t sum[256][8]; } dram_job;        /* sum: a cache line for each thread */

static void dram_task(void *data, size_t begin, size_t end, int worker) {
    dram_job *job = (dram_job *)data;
    uint64_t *word = job->word + begin * STRETCH;
    size_t n = (end - begin) * STRETCH;
    if (job->fill) memset(word, 1, n * sizeof *word);
    else           job->sum[worker][0] += add_up(word, n);
}

/* Bytes per second by threads of its own; 0 = not asked for, or no memory to do it in. */
static double dram_speed(size_t bytes, int threads) {
    size_t n = bytes / sizeof(uint64_t) / STRETCH;
    char *block = n ? (char *)malloc(bytes + HUGE_PAGE) : NULL, *begin;
    pool *p = block ? pool_new(threads) : NULL;
    double best = 0;
    dram_job job;
    int i;
    if (!p) { free(block); return 0; }
    begin = block + (HUGE_PAGE - (uintptr_t)block % HUGE_PAGE);
#ifdef MADV_HUGEPAGE                        /* as gpt.h asks for its weights */
    madvise(begin, bytes, MADV_HUGEPAGE);
#endif
    memset(&job, 0, sizeof job);
    job.word = (uint64_t *)(void *)begin;
    for (i = 0; i <= DRAM_PASSES; i++) {    /* pass 0 fills the block, and so gets its pages */
        double start = args_seconds(), took;
        job.fill = i == 0;
        pool_run(p, n, STRETCH, dram_task, &job);
        took = args_seconds() - start;
        if (i == 1 || (i && took < best)) best = took;
    }
    for (i = 0; i < 256; i++) dram_sum += job.sum[i][0];
    pool_free(p);
    free(block);
    return best > 0 ? (double)(n * STRETCH * sizeof(uint64_t)) / best : 0;
}

/* "tg64  12.3 tok/s  4.56 GB/s"; returns the GB/s. */
static double print_writing(const char *label, int n, double seconds, uint64_t weight_bytes) {
    double gbs = n / seconds * (double)weight_bytes / 1e9;
    printf("%-6s %.1f tok/s  %.2f GB/s\n", label, n / seconds, gbs);
    return gbs;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    uint64_t weights;
    int n_prompt = 512, n_text = 64, n_run = 5, depth = 0, dram_mib = 256, deep;
    const arg table[] = {
        ARGS_COMMON(c),
        { "-p, --n-prompt", ARG_COUNT, &n_prompt, "N", "tokens of the prompt (512)" },
        { "-n, --n-gen",    ARG_COUNT, &n_text,   "N", "tokens to write (64)" },
        { "-d, --depth",    ARG_COUNT, &depth,    "D", "write them after D tokens too; 0 = do not (default)" },
        { "-r, --repeat",   ARG_COUNT, &n_run,    "R", "runs (5)" },
        { "--dram",     ARG_COUNT, &dram_mib, "MIB", "memory to read for dram, larger than all caches (256)" },
        { "--openmp",   ARG_FLAG,  &c.openmp, "",  "OpenMP's threads instead of those of pool.h" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_model_info model;
    gpt_session_info info;
    gpt_session_params params;
    gpt_error err;
    gpt_token *ids;
    double *load, *first, *pp, *tg, *tg_deep, peak, dram[2];
    size_t i, n_ids, runs, most, dram_bytes;
    uint32_t rng = 1;
    char label[32];

    args_parse(argc, argv, "bench", table, about);
    if (n_run < 1) args_die("-r: expected 1 or more");
    if (n_prompt > 1 << 24 || n_text > 1 << 24 || depth > 1 << 24) args_die("-p, -n and -d: at most %d", 1 << 24);
    if ((size_t)dram_mib > SIZE_MAX >> 22) args_die("--dram: at most %lu", (unsigned long)(SIZE_MAX >> 22));
#if !defined(_OPENMP) || defined(GPT_NO_OPENMP)
    if (c.openmp) args_die("--openmp: this program was built without OpenMP");
#endif
    runs = (size_t)n_run;
    params = args_session(&c);
    params.hooks.poll = NULL;
    load = (double *)args_need(malloc(5 * runs * sizeof *load));
    first = load + runs;
    pp = first + runs;
    tg = pp + runs;
    tg_deep = tg + runs;
    if (!params.n_ctx) params.n_ctx = (uint32_t)(n_prompt > depth + n_text + 1 ? n_prompt : depth + n_text + 1);

    for (i = 0; i < runs; i++) {            /* loads; the last model and session stay */
        double begin = args_seconds();
        gpt_token zero = 0;
        gpt_session_free(s);
        gpt_model_free(m);
        s = NULL;
        m = args_load(&c, ARGS_WRITER);
        load[i] = 1e3 * (args_seconds() - begin);
        gpt_model_info_get(m, &model);
        if (!c.context && params.n_ctx > model.n_ctx) params.n_ctx = model.n_ctx;
        if (gpt_session_new(&s, m, &params, &err)) args_die("%s", err.msg);
        eval(s, &zero, 1);
        gpt_sample(s, NULL);
        first[i] = 1e3 * (args_seconds() - begin);
    }
    gpt_session_info_get(s, &info);
    if ((uint32_t)n_prompt > info.n_ctx) {
        n_prompt = (int)info.n_ctx;
        fprintf(stderr, "bench: the context ends a prompt at %d tokens\n", n_prompt);
    }
    if ((uint32_t)n_text > info.n_ctx - 1) n_text = (int)info.n_ctx - 1;
    deep = depth && n_text && (uint32_t)(depth + n_text) < info.n_ctx;

    most = (size_t)(deep ? depth : 0) + (size_t)n_text + 1;                 /* tokens of the longest text written */
    n_ids = (size_t)n_prompt > most ? (size_t)n_prompt : most;
    ids = (gpt_token *)args_need(malloc(n_ids * sizeof *ids));
    for (i = 0; i < n_ids; i++) {
        rng = rng * 1664525u + 1013904223u;
        ids[i] = (gpt_token)((rng >> 8) % model.n_vocab);
    }
    gpt_session_reset(s);
    eval(s, ids, (size_t)(n_prompt < 32 ? n_prompt : 32));      /* warm-up, as in tests/bench_peer.py */
    for (i = 0; i < runs; i++) {
        double begin;
        gpt_session_reset(s);
        begin = args_seconds();
        eval(s, ids, (size_t)n_prompt);
        pp[i] = args_seconds() - begin;
    }

    /* The longest text, before peak is read: it touches all that writing will, and dram's block is not to count. */
    gpt_session_reset(s);
    eval(s, ids, most);
    peak = peak_mib();
    dram_bytes = n_text ? (size_t)dram_mib << 20 : 0;
    dram[0] = dram_speed(dram_bytes, args_threads(&info));
    for (i = 0; deep && i < runs; i++) tg_deep[i] = writing(s, ids, (size_t)depth, n_text);
    for (i = 0; i < runs; i++) tg[i] = writing(s, ids, 0, n_text);
    dram[1] = dram_speed(dram_bytes, args_threads(&info));

    weights = c.mapped || c.experts ? model.file_bytes : model.weight_bytes;      /* mapped: all but a few of the file's bytes */
    printf("model  %s, %s, %.1f M parameters, %.1f MiB of weights, kernels %s, %d threads, %d runs\n",
           *model.name ? model.name : c.model, model.architecture, (double)model.n_param / 1e6,
           (double)weights / 1048576, info.kernels, args_threads(&info), n_run);
    printf("load   %.2f ms\nfirst  %.2f ms\n", median(load, runs), median(first, runs));
    if (n_prompt) {
        snprintf(label, sizeof label, "pp%d", n_prompt);
        printf("%-6s %.1f tok/s\n", label, n_prompt / median(pp, runs));
    }
    if (n_text) {
        double best = dram[0] > dram[1] ? dram[0] / 1e9 : dram[1] / 1e9, gbs;
        snprintf(label, sizeof label, "tg%d", n_text);
        gbs = print_writing(label, n_text, median(tg, runs), weights);
        snprintf(label, sizeof label, "tg%d@%d", n_text, depth);
        if (deep) print_writing(label, n_text, median(tg_deep, runs), weights);
        else if (depth) printf("%-6s skipped: the context has %lu tokens\n", label, (unsigned long)info.n_ctx);
        if (best > 0)
            printf("dram   %.2f GB/s before the tg runs, %.2f GB/s after\nshare  %.1f %% of it at tg%d\n",
                   dram[0] / 1e9, dram[1] / 1e9, 100 * gbs / best, n_text);
    }
    if (peak > 0) printf("peak   %.1f MiB\n", peak);
    args_close_stdout();
    free(ids);
    free(load);
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
