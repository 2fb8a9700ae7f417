/* What tests/choose_test.py asks of gpt.h: choose_probe MODEL reads lines of tab-separated fields from stdin, a prompt and its
 * choices, in which \n, \t, \r and \\ are escaped, and prints a line for each: the log-probabilities, then the best one's number. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "gpt.h"
#include "test.h"

enum { MOST = 64, LINE = 1 << 16 };

int main(int argc, char **argv) {
    static char line[LINE];
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_session_params p = { 0 };
    gpt_error err;
    p.kv = GPT_KV_F32;
    if (argc != 2 || gpt_model_load(&m, argv[1], NULL, &err) || gpt_session_new(&s, m, &p, &err)) {
        fprintf(stderr, "%s\n", argc == 2 ? err.msg : "usage: choose_probe MODEL");
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        char *field[MOST + 1], *at = line;
        size_t n = 0, i, best;
        float out[MOST];
        line[strcspn(line, "\n")] = 0;
        while (at && n <= MOST) {
            char *tab = strchr(at, '\t');
            if (tab) *tab++ = 0;
            field[n++] = test_unescape(at);
            at = tab;
        }
        if (gpt_choose(s, field[0], (const char *const *)field + 1, n - 1, NULL, out, &best, &err)) {
            printf("%s\n", err.msg);
            continue;
        }
        for (i = 0; i + 1 < n; i++) printf("%.9g\t", out[i]);
        printf("%d\n", (int)best);
    }
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
