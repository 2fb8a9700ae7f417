/* What a constraint costs: tokens per second free and under a form, in alternating runs, and the worst token.
 *
 *     make build/t/bench_constraint && build/t/bench_constraint MODEL.gguf [TOKENS [RUNS]]      1000 and 3 by default
 *
 * Medians of the runs. Forms: a schema as tools have (names that are forced, short strings, numbers), any JSON, and one long string,
 * where nothing is forced: there the mask is all that differs. "asked" counts the tokens that the model was asked for: the others
 * were forced. "worst": the longest step of all runs, "warm" without the first run; of free text beside it, as the machine has
 * hiccups of its own. On a machine that does something else the numbers mean nothing. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define GPT_IMPLEMENTATION
#include "gpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_FORM = 4, MOST_RUNS = 15 };

static const struct { const char *name, *schema; } forms[N_FORM] = {
    { "free", NULL },
    { "schema",
      "{\"type\":\"array\",\"minItems\":900,\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":40},"
      "\"kind\":{\"enum\":[\"person\",\"place\",\"thing\"]},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":120},"
      "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":20},\"maxItems\":4},\"weight\":{\"type\":\"number\"},"
      "\"friend\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"name\",\"kind\",\"age\",\"tags\"],\"additionalProperties\":false}}" },
    { "any JSON", "{\"type\":\"array\",\"minItems\":9000}" },
    { "a string", "{\"type\":\"string\",\"minLength\":60000}" },
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }
static double median(double *v, size_t n) { qsort(v, n, sizeof *v, by_size); return v[n / 2]; }

typedef struct { double per_second[MOST_RUNS], worst, warm, asked; size_t n_token; } figures;

static int ignore(void *user, const char *text, size_t n) { (void)user; (void)text; (void)n; return 0; }

/* One text. A step returns after one token at the latest, and whatever was forced with it. */
static int run(gpt_session *s, const gpt_constraint *c, int greedy, size_t n, int number, figures *f) {
    static const char prompt[] = "The people of the village, as JSON, each with a name, an age and some tags:\n";
    gpt_generate_params params;
    gpt_session_info info;
    gpt_error err;
    gpt_result r;
    double begin, before = 0, now;
    size_t n_step = 0;
    memset(&params, 0, sizeof params);
    params.max_tokens = n;
    params.constraint = c;
    params.ignore_end = !c;
    if (!greedy) {
        params.sample.temperature = 0.8f;
        params.sample.top_k = 40;
        params.sample.top_p = 0.95f;
        params.sample.min_p = 0.05f;
        params.sample.seed = (uint64_t)number;
    }
    gpt_session_reset(s);
    r = gpt_begin(s, prompt, &params, ignore, NULL, &err);
    if (!r) r = gpt_step(s, &err);              /* reads the prompt */
    begin = before = seconds();
    while (r == GPT_MORE) {
        r = gpt_step(s, &err);
        now = seconds();
        if (now - before > f->worst) f->worst = now - before;
        if (number && now - before > f->warm) f->warm = now - before;
        before = now;
        n_step++;
    }
    if (r) { fprintf(stderr, "bench_constraint: %s\n", err.msg); return 0; }
    gpt_session_info_get(s, &info);
    f->per_second[number] = (double)info.n_generated / (before - begin);
    f->asked += (double)n_step;
    f->n_token += info.n_generated;
    return 1;
}

int main(int argc, char **argv) {
    const size_t n = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 1000;
    int runs = argc > 3 ? atoi(argv[3]) : 3, greedy, i, k;
    gpt_constraint *c[N_FORM] = { NULL, NULL, NULL, NULL };
    gpt_constraint_params how;
    gpt_session_params session;
    gpt_model_params load;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    double begin;
    if (argc < 2 || n < 1 || runs < 1 || runs > MOST_RUNS) { fprintf(stderr, "usage: bench_constraint MODEL.gguf [TOKENS [RUNS]]\n"); return 2; }
    memset(&load, 0, sizeof load);
    memset(&session, 0, sizeof session);
    memset(&how, 0, sizeof how);
    session.n_ctx = (uint32_t)n + 64;
    session.beyond_training = 1;
    if (gpt_model_load(&m, argv[1], &load, &err) || gpt_session_new(&s, m, &session, &err)) { fprintf(stderr, "%s\n", err.msg); return 2; }
    for (i = 1; i < N_FORM; i++) {
        how.schema = forms[i].schema;
        begin = seconds();
        if (gpt_constraint_new(&c[i], m, &how, &err)) { fprintf(stderr, "%s: %s\n", forms[i].name, err.msg); return 2; }
        printf("%s: compiled in %.2f ms\n", forms[i].name, 1e3 * (seconds() - begin));
    }
    for (greedy = 0; greedy < 2; greedy++) {
        figures f[N_FORM];
        double free_speed = 0;
        memset(f, 0, sizeof f);
        for (k = 0; k < runs; k++) for (i = 0; i < N_FORM; i++) if (!run(s, c[i], greedy, n, k, &f[i])) return 2;
        printf("\n%s\n%-10s %10s %10s %8s %8s %12s %12s\n", greedy ? "greedy" : "temperature 0.8, top-k 40, top-p 0.95, min-p 0.05",
               "form", "tok/s", "ms/tok", "cost", "asked", "worst ms", "warm ms");
        for (i = 0; i < N_FORM; i++) {
            const double speed = median(f[i].per_second, (size_t)runs);
            if (i == 0) free_speed = speed;
            printf("%-10s %10.1f %10.3f %7.1f%% %7.0f%% %12.2f %12.2f\n", forms[i].name, speed, 1e3 / speed, 100 * (free_speed / speed - 1),
                   100 * f[i].asked / (double)f[i].n_token, 1e3 * f[i].worst, 1e3 * f[i].warm);
        }
    }
    for (i = 0; i < N_FORM; i++) gpt_constraint_free(c[i]);
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
