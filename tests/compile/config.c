/* One program for every combination of the GPT_* switches: loads a model from memory and prints a greedy text, which has
 * to be the same whatever the switches. usage: config [MODEL] */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define GPT_IMPLEMENTATION
#include "gpt.h"

static int print(void *user, const char *text, size_t n) { return fwrite(text, 1, n, (FILE *)user) != n; }

int main(int argc, char **argv) {
    static unsigned char data[1 << 23];
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_generate_params params;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    size_t n = f ? fread(data, 1, sizeof data, f) : 0;
    int bad;
    if (f) fclose(f);
    if (gpt_model_load_memory(&m, "GGU", 3, NULL, &err) != GPT_E_FORMAT) return 1;
    if (argc < 2) return 0;
    memset(&params, 0, sizeof params);
    params.max_tokens = 24;
    params.ignore_end = 1;
    bad = gpt_model_load_memory(&m, data, n, NULL, &err) || gpt_session_new(&s, m, NULL, &err)
       || gpt_generate(s, "Once upon a time", &params, print, stdout, &err);
    if (bad) fprintf(stderr, "%s\n", err.msg);
    gpt_session_free(s);
    gpt_model_free(m);
    return bad;
}
