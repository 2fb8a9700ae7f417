/* How fast a model loads, reads and writes on this machine: medians of R runs. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "args.h"
#ifndef _WIN32
#  include <sys/resource.h>
#endif

static const char about[] =
    "usage: bench -m MODEL [-p 512] [-n 64] [-t THREADS] [-r 5]\n\n"
    "Prints, as medians of R runs (-r):\n"
    "  load   opening the file until the weights are ready, in a warm page cache unless the file is new to it\n"
    "  first  the same, and a session, and one token read and one chosen\n"
    "  ppN    reading a prompt of N made-up tokens\n"
    "  tgN    writing N tokens one by one, after -d tokens; GB/s = bytes of all weights times tok/s\n"
    "  peak   the process's largest resident memory, pages of a mapped file included";

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

int main(int argc, char **argv) {
    args_common c = { 0 };
    int n_prompt = 512, n_text = 64, n_run = 5, depth = 0;
    const arg table[] = {
        ARGS_COMMON(c),
        { "-p", "--n-prompt", ARG_COUNT, &n_prompt, "N", "tokens of the prompt (512)" },
        { "-n", "--n-gen",    ARG_COUNT, &n_text,   "N", "tokens to write (64)" },
        { "-d", "--depth",    ARG_COUNT, &depth,    "N", "tokens that lie ahead of those written (0)" },
        { "-r", "--repeat",   ARG_COUNT, &n_run,    "R", "runs (5)" },
        { NULL, NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_model_info model;
    gpt_session_info info;
    gpt_session_params params;
    gpt_error err;
    gpt_token *ids;
    double *load, *first, *pp, *tg;
    size_t i, n_ids, runs;
    uint32_t rng = 1;
    char label[32];

    args_parse(argc, argv, "bench", table, about);
    if (n_run < 1) args_die("-r: expected 1 or more");
    if (n_prompt > 1 << 24 || n_text > 1 << 24 || depth > 1 << 24) args_die("-p, -n and -d: at most %d", 1 << 24);
    runs = (size_t)n_run;
    params = args_session(&c);
    params.poll = NULL;
    load = (double *)args_need(malloc(4 * runs * sizeof *load));
    first = load + runs;
    pp = first + runs;
    tg = pp + runs;
    if (!params.n_ctx) params.n_ctx = (uint32_t)(n_prompt > depth + n_text + 1 ? n_prompt : depth + n_text + 1);

    for (i = 0; i < runs; i++) {            /* loads; the last model and session stay */
        double begin = args_seconds();
        gpt_token zero = 0;
        gpt_session_free(s);
        gpt_model_free(m);
        s = NULL;
        m = args_load(&c, 0);
        load[i] = 1e3 * (args_seconds() - begin);
        gpt_model_info_get(m, &model);
        if (!c.context && params.n_ctx > model.n_ctx) params.n_ctx = model.n_ctx;
        if (gpt_session_new(&s, m, &params, &err)) args_die("%s", err.msg);
        eval(s, &zero, 1);
        gpt_sample(s, NULL);
        first[i] = 1e3 * (args_seconds() - begin);
    }
    gpt_session_info_get(s, &info);
    if ((uint32_t)n_prompt > info.n_ctx) n_prompt = (int)info.n_ctx;        /* the lines below say what was measured */
    if ((uint32_t)depth >= info.n_ctx) args_die("-d: the context has %lu tokens", (unsigned long)info.n_ctx);
    if ((uint32_t)n_text > info.n_ctx - (uint32_t)depth - 1) n_text = (int)info.n_ctx - depth - 1;

    n_ids = (size_t)(n_prompt > depth ? n_prompt : depth) + 1;
    ids = (gpt_token *)args_need(malloc(n_ids * sizeof *ids));
    for (i = 0; i < n_ids; i++) {
        rng = rng * 1664525u + 1013904223u;
        ids[i] = (gpt_token)((rng >> 8) % model.n_vocab);
    }
    for (i = 0; i < runs; i++) {
        double begin;
        int k;
        gpt_session_reset(s);
        begin = args_seconds();
        eval(s, ids, (size_t)n_prompt);
        pp[i] = args_seconds() - begin;
        gpt_session_reset(s);
        eval(s, ids, (size_t)depth + 1);
        begin = args_seconds();
        for (k = 0; k < n_text; k++) {
            gpt_token id = gpt_sample(s, NULL);
            eval(s, &id, 1);
        }
        tg[i] = args_seconds() - begin;
    }

    printf("model  %s, %s, %.1f M parameters, %.1f MiB of weights, kernels %s, %d threads, %d runs\n",
           *model.name ? model.name : c.model, model.architecture, (double)model.n_param / 1e6,
           (double)model.weight_bytes / 1048576, info.kernels, info.n_threads, n_run);
    printf("load   %.2f ms\nfirst  %.2f ms\n", median(load, runs), median(first, runs));
    if (n_prompt) {
        snprintf(label, sizeof label, "pp%d", n_prompt);
        printf("%-6s %.1f tok/s\n", label, n_prompt / median(pp, runs));
    }
    if (n_text) {
        double speed = n_text / median(tg, runs);
        snprintf(label, sizeof label, depth ? "tg%d@%d" : "tg%d", n_text, depth);
        printf("%-6s %.1f tok/s  %.2f GB/s\n", label, speed, speed * (double)model.weight_bytes / 1e9);
    }
    if (peak_mib() > 0) printf("peak   %.1f MiB\n", peak_mib());
    args_close_stdout();
    free(ids);
    free(load);
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
