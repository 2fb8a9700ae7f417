/* What tests/embed_test.py asks of gpt.h: embed_probe MODEL reads texts from stdin, one a line, in which \n, \t, \r and \\ are
 * escaped, and prints a line for each: its token ids, a tab, its vector. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "gpt.h"
#include "test.h"

enum { LINE = 1 << 16, WIDE = 1 << 14 };

int main(int argc, char **argv) {
    static char line[LINE];
    static float v[WIDE];
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_model_info info;
    gpt_error err;
    if (argc != 2 || gpt_model_load(&m, argv[1], NULL, &err) || gpt_session_new(&s, m, NULL, &err)) {
        fprintf(stderr, "%s\n", argc == 2 ? err.msg : "usage: embed_probe MODEL");
        return 1;
    }
    gpt_model_info_get(m, &info);
    while (info.n_embd <= WIDE && fgets(line, sizeof line, stdin)) {
        const gpt_token *ids;
        size_t n, i;
        line[strcspn(line, "\n")] = 0;
        if (gpt_embed(s, test_unescape(line), NULL, v, &err)) { printf("%s\n", err.msg); continue; }
        ids = gpt_session_tokens(s, &n);
        for (i = 0; i < n; i++) printf("%ld ", (long)ids[i]);
        for (i = 0; i < info.n_embd; i++) printf("%c%.9g", i ? ' ' : '\t', (double)v[i]);
        printf("\n");
    }
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
