/* What guesses from the text so far gain, and what they cost where there is nothing to guess: tokens per second with and without, in
 * alternating runs.
 *
 *     make build/t/bench_draft && build/t/bench_draft MODEL.gguf [THREADS [RUNS [N_DRAFT]]]      2, 5 and 16 by default
 *
 * "replay": 500 tokens that the model wrote, in the prompt, and written again. "story": sampled text, where little repeats. "noise":
 * every token is drawn from the whole vocabulary evenly; no guess holds. "edit", "list", "quote": what people ask for, through the
 * model's own chat template, where it has one. Medians of the runs; "ratio" is the median of each pair's. The tokens have to be the
 * plain ones. On a machine that does something else the numbers mean nothing. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "../examples/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_TEXT = 500, N_FIRST = 8, MOST_RUNS = 15, MOST_PROMPT = 1200 };

#define PASSAGE \
    "The old harbour of Lindholm was built in 1874 by a company from Bergen. It had two stone piers, a lamp at the end of each, and a " \
    "small office where the harbour master, Anna Dahl, wrote down every ship that came in. In the winter of 1891 the ice broke the " \
    "northern pier, and for three years only fishing boats could land. The town paid for a new pier in 1895. It still stands today, " \
    "and on Sundays people walk out to the lamp to watch the ferries come in from the islands."

static const struct { const char *name, *request; } tasks[] = {
    { "edit",  "Repeat this text word for word, but write Harald Lund instead of Anna Dahl:\n\n" PASSAGE },
    { "list",  "List every year in this text, each with the sentence that it stands in:\n\n" PASSAGE },
    { "quote", "Correct the spelling of this text and change nothing else:\n\n" PASSAGE },
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }
static double median(double *v, int n) { qsort(v, (size_t)n, sizeof *v, by_size); return v[n / 2]; }

static void die(const char *what) { fprintf(stderr, "bench_draft: %s\n", what); exit(2); }

/* The text goes on behind a prompt: tokens per second of writing, the tokens themselves. */
static double run(gpt_session *s, const gpt_token *prompt, size_t n_prompt, const gpt_generate_params *params, gpt_token *out, size_t *n_out) {
    const gpt_token *tokens;
    gpt_error err;
    size_t n;
    double begin;
    gpt_session_reset(s);
    if (gpt_eval(s, prompt, n_prompt, &err)) die(err.msg);
    begin = seconds();
    if (gpt_generate(s, NULL, params, NULL, NULL, &err)) die(err.msg);
    begin = seconds() - begin;
    tokens = gpt_session_tokens(s, &n);
    *n_out = n - n_prompt;
    memcpy(out, tokens + n_prompt, *n_out * sizeof *out);
    return (double)*n_out / begin;
}

static void compare(const char *name, gpt_session *s, const gpt_token *prompt, size_t n_prompt, gpt_generate_params params,
                    uint32_t n_draft, int runs) {
    static gpt_token text[2][N_TEXT];
    double speed[2][MOST_RUNS], ratio[MOST_RUNS];
    size_t n[2] = { 0, 0 };
    int i;
    for (i = 0; i < runs; i++) {
        int first = i & 1, k;               /* who goes first changes */
        for (k = 0; k < 2; k++) {
            const int with = k ^ first;
            params.n_draft = with ? n_draft : 0;
            speed[with][i] = run(s, prompt, n_prompt, &params, text[with], &n[with]);
        }
        if (n[0] != n[1] || memcmp(text[0], text[1], n[0] * sizeof text[0][0])) die("another text with guesses than without");
        ratio[i] = speed[1][i] / speed[0][i];
    }
    printf("%-8s %6d %10.1f %10.1f %8.2f\n", name, (int)n[0], median(speed[0], runs), median(speed[1], runs), median(ratio, runs));
    fflush(stdout);
}

int main(int argc, char **argv) {
    static gpt_token ids[2 * (N_TEXT + N_FIRST)], chat[MOST_PROMPT];
    const int threads = argc > 2 ? atoi(argv[2]) : 2, runs = argc > 3 ? atoi(argv[3]) : 5, n_draft = argc > 4 ? atoi(argv[4]) : 16;
    gpt_session_params session;
    gpt_generate_params params;
    gpt_model_info info;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    pool *workers;
    size_t i, n;
    if (argc < 2 || threads < 1 || runs < 1 || runs > MOST_RUNS || n_draft < 1) die("usage: bench_draft MODEL.gguf [THREADS [RUNS [N_DRAFT]]]");
    memset(&session, 0, sizeof session);
    session.n_ctx = 2 * MOST_PROMPT;
    session.beyond_training = 1;
    if (!(workers = pool_new(threads))) die("out of memory");
    session.hooks.parallel = pool_parallel(workers);
    if (gpt_model_load(&m, argv[1], NULL, &err) || gpt_session_new(&s, m, &session, &err)) die(err.msg);
    gpt_model_info_get(m, &info);
    printf("%-8s %6s %10s %10s %8s\n", "text", "tokens", "plain t/s", "draft t/s", "ratio");

    memset(&params, 0, sizeof params);
    params.max_tokens = N_TEXT;
    params.ignore_end = 1;
    for (i = 0; i < N_FIRST; i++) ids[i] = (gpt_token)((i * 977 + 13) % info.n_vocab);
    run(s, ids, N_FIRST, &params, ids + N_FIRST, &n);
    memcpy(ids + N_FIRST + n, ids, N_FIRST * sizeof *ids);
    compare("replay", s, ids, n + 2 * N_FIRST, params, (uint32_t)n_draft, runs);
    params.sample.temperature = 0.8f;
    params.sample.top_p = 0.95f;
    params.sample.seed = 1;
    compare("story", s, ids, N_FIRST, params, (uint32_t)n_draft, runs);
    params.sample.temperature = 1e6f;
    params.sample.top_p = 0;
    compare("noise", s, ids, N_FIRST, params, (uint32_t)n_draft, runs);
    memset(&params, 0, sizeof params);
    params.max_tokens = N_TEXT;
    for (i = 0; i < sizeof tasks / sizeof *tasks && gpt_chat_family(m); i++) {
        gpt_message message;
        memset(&message, 0, sizeof message);
        message.role = "user";
        message.content = tasks[i].request;
        if (gpt_chat_tokenize(m, &message, 1, NULL, chat, MOST_PROMPT, &n, &err)) die(err.msg);
        compare(tasks[i].name, s, chat, n, params, (uint32_t)n_draft, runs);
    }
    gpt_session_free(s);
    gpt_model_free(m);
    pool_free(workers);
    return 0;
}
