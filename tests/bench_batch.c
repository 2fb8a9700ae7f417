/* What a batch gains: tokens per second of texts that are written one after the other, and of the same as one batch, in alternating
 * runs.
 *
 *     make build/t/bench_batch && build/t/bench_batch MODEL.gguf [TEXTS [THREADS [RUNS]]]      8, 2 and 7 by default
 *
 * Greedy, 64 tokens each, behind prompts of a few; reading these does not count. Medians of the runs; "ratio" is that of the medians.
 * The tokens have to be the same ones. On a machine that does something else the numbers mean nothing. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define GPT_IMPLEMENTATION
#include "gpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_TOKEN = 64, N_CTX = 128, MOST_TEXTS = 64, MOST_RUNS = 15 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static void die(const char *why) { fprintf(stderr, "bench_batch: %s\n", why); exit(2); }

int main(int argc, char **argv) {
    static const char *const subjects[] = { "The sea", "My uncle", "A small house", "The king", "One dog", "A recipe", "The moon", "Her letter" };
    static gpt_token said[MOST_TEXTS][N_CTX];
    const int n = argc > 2 ? atoi(argv[2]) : 8, runs = argc > 4 ? atoi(argv[4]) : 7;
    gpt_session *s[MOST_TEXTS];
    gpt_generate_params params;
    gpt_session_params session;
    gpt_model_params load;
    gpt_work_params share;
    gpt_model *m;
    gpt_work *work;
    gpt_error err;
    double took[2][MOST_RUNS];
    int i, k, together;
    if (argc < 2 || n < 1 || n > MOST_TEXTS || runs < 1 || runs > MOST_RUNS) {
        fprintf(stderr, "usage: bench_batch MODEL.gguf [TEXTS [THREADS [RUNS]]]\n");
        return 2;
    }
    memset(&load, 0, sizeof load); memset(&share, 0, sizeof share);
    memset(&session, 0, sizeof session); memset(&params, 0, sizeof params);
    load.n_threads = share.n_threads = argc > 3 ? atoi(argv[3]) : 2;
    if (gpt_model_load(&m, argv[1], &load, &err) || gpt_work_new(&work, m, &share, &err)) die(err.msg);
    session.work = work;
    session.n_ctx = N_CTX;
    for (i = 0; i < n; i++) if (gpt_session_new(&s[i], m, &session, &err)) die(err.msg);
    params.max_tokens = N_TOKEN;
    params.ignore_end = 1;
    for (k = 0; k < runs; k++) for (together = 0; together < 2; together++) {
        double begin = 0;
        took[together][k] = 0;
        for (i = 0; i < n; i++) {
            char prompt[64];
            snprintf(prompt, sizeof prompt, "%s, number %d,", subjects[i % 8], i + 1);
            gpt_session_reset(s[i]);
            if (gpt_begin(s[i], prompt, &params, NULL, NULL, &err)) die(err.msg);
            if (together) continue;
            gpt_step(s[i], &err);               /* reads the prompt */
            begin = seconds();
            while (gpt_step(s[i], &err) == GPT_MORE) {}
            took[0][k] += seconds() - begin;
        }
        if (together) {
            gpt_work_step(work, &err);
            begin = seconds();
            while (gpt_work_step(work, &err) == GPT_MORE) {}
            took[1][k] = seconds() - begin;
        }
        for (i = 0; i < n; i++) {
            size_t n_token;
            const gpt_token *ids = gpt_session_tokens(s[i], &n_token);
            if (n_token > N_CTX || n_token < N_TOKEN) die("a text of another length");
            if (!together && !k) memcpy(said[i], ids, n_token * sizeof *ids);
            if (memcmp(said[i], ids, n_token * sizeof *ids)) die("other tokens");
        }
    }
    for (i = 0; i < 2; i++) qsort(took[i], (size_t)runs, sizeof **took, by_size);
    printf("%d texts: one after the other %.1f tok/s, together %.1f tok/s, ratio %.2f\n", n, n * N_TOKEN / took[0][runs / 2],
           n * N_TOKEN / took[1][runs / 2], took[0][runs / 2] / took[1][runs / 2]);
    for (i = 0; i < n; i++) gpt_session_free(s[i]);
    gpt_work_free(work);
    gpt_model_free(m);
    return 0;
}
