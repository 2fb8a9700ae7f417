/* The whole of it: load a model, continue a text.   cc -O2 examples/hello.c -lm && ./a.out model.gguf "Once" */
#ifndef GPT_LINKED             /* make links the implementation from gpt.o */
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include <stdio.h>
static int print(void *user, const char *text, size_t n) { (void)user; return fwrite(text, 1, n, stdout) != n || fflush(stdout); }
int main(int argc, char **argv) {
    gpt_error err;
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    if (argc < 2 || argv[1][0] == '-') return puts("usage: hello MODEL [TEXT]") < 0 || fflush(stdout) || argc < 2;
    int failed = gpt_model_load(&m, argv[1], NULL, &err) || gpt_session_new(&s, m, NULL, &err)
              || gpt_generate(s, argc > 2 ? argv[2] : "Once upon a time", NULL, print, NULL, &err);
    if (failed) fprintf(stderr, "hello: %s\n", err.msg);
    gpt_session_free(s); gpt_model_free(m);
    return failed || ferror(stdout);
}
