/* The whole of it: load a model, continue a text.   cc -O2 examples/hello.c -lm && ./a.out model.gguf "Once" */
#ifndef GPT_LINKED             /* make links the implementation from gpt.o */
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include <stdio.h>
static int print(void *user, const char *text, size_t n) { return fwrite(text, 1, n, (FILE *)user) != n; }
int main(int argc, char **argv) {
    gpt_error err;
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    int failed = gpt_model_load(&m, argc > 1 ? argv[1] : "model.gguf", NULL, &err) || gpt_session_new(&s, m, NULL, &err)
              || gpt_generate(s, argc > 2 ? argv[2] : "Once upon a time", NULL, print, stdout, &err);
    if (failed) fprintf(stderr, "hello: %s\n", err.msg);
    gpt_session_free(s); gpt_model_free(m);
    return failed;
}
