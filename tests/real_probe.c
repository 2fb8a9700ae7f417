/* For tests/real_test.py: answers requests, one a line on stdin, with the model that is named.
 *   t FLAGS HEX    the token ids of the text whose bytes HEX spells
 *   s ID ...       gpt_score's value of each token
 *   g N ID ...     N tokens, each the likeliest one, after those given
 * F32 cache. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "gpt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(int ok, const char *what) {
    if (!ok) { fprintf(stderr, "real_probe: %s\n", what); exit(1); }
}

static char *line_read(void) {              /* NULL at the end */
    size_t n = 0, room = 4096;
    char *line = (char *)malloc(room);
    int c;
    need(line != NULL, "out of memory");
    while ((c = getchar()) != EOF && c != '\n') {
        if (n + 1 == room) need((line = (char *)realloc(line, room *= 2)) != NULL, "out of memory");
        line[n++] = (char)c;
    }
    if (c == EOF && !n) { free(line); return NULL; }
    line[n] = 0;
    return line;
}

static void tokenize(const gpt_model *m, char *p) {
    gpt_error err;
    gpt_token *ids;
    unsigned flags = (unsigned)strtoul(p, &p, 10);
    size_t n, n_id, i;
    char *text;
    p += *p == ' ';
    n = strlen(p) / 2;
    for (text = p, i = 0; i < n; i++) {     /* in place: a byte for two digits */
        char byte[3] = { 0 };
        memcpy(byte, p + 2 * i, 2);
        text[i] = (char)strtoul(byte, NULL, 16);
    }
    need(!gpt_tokenize(m, text, n, flags, NULL, 0, &n_id, &err), err.msg);
    need((ids = (gpt_token *)malloc((n_id + 1) * sizeof *ids)) != NULL, "out of memory");
    need(!gpt_tokenize(m, text, n, flags, ids, n_id, &n_id, &err), err.msg);
    for (i = 0; i < n_id; i++) printf("%ld ", (long)ids[i]);
    free(ids);
}

static void compute(gpt_session *s, char *p, int score) {
    gpt_error err;
    unsigned long i, n_new = score ? 0 : strtoul(p, &p, 10);
    size_t n = 0;
    gpt_token *ids = (gpt_token *)malloc((strlen(p) + 1) * sizeof *ids);
    float *logprob = (float *)malloc((strlen(p) + 1) * sizeof *logprob);
    char *end;
    need(ids && logprob, "out of memory");
    for (;; p = end, n++) {
        long id = strtol(p, &end, 10);
        if (end == p) break;
        ids[n] = (gpt_token)id;
    }
    gpt_session_reset(s);
    if (score) {
        need(!gpt_score(s, ids, n, logprob, &err), err.msg);
        for (i = 0; i < n; i++) printf("%.9g ", (double)logprob[i]);
    } else {
        need(!gpt_eval(s, ids, n, &err), err.msg);
        for (i = 0; i < n_new; i++) {
            gpt_token id = gpt_sample(s, NULL);
            printf("%ld ", (long)id);
            need(!gpt_eval(s, &id, 1, &err), err.msg);
        }
    }
    free(ids);
    free(logprob);
}

int main(int argc, char **argv) {
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_session_params params = { 0 };
    gpt_error err;
    char *line;
    need(argc == 3, "usage: real_probe MODEL THREADS < requests");
    params.kv = GPT_KV_F32;
    params.n_threads = atoi(argv[2]);
    need(!gpt_model_load(&m, argv[1], NULL, &err), err.msg);
    need(!gpt_session_new(&s, m, &params, &err), err.msg);
    while ((line = line_read()) != NULL) {
        need(*line && strchr("tsg", *line) && line[1] == ' ', "a request begins with t, s or g");
        if (*line == 't') tokenize(m, line + 2);
        else compute(s, line + 2, *line == 's');
        putchar('\n');
        fflush(stdout);
        free(line);
    }
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
