/* A user of the library in another file than the implementation; with USER_CPP a C++ file joins in. */
#include "gpt.h"
#include <stdio.h>
#include <string.h>

#ifdef USER_CPP
int user_cpp(const char *path);
#endif

static int count(void *user, const char *text, size_t n) { (void)text; *(size_t *)user += n; return 0; }

static int story(const char *path) {        /* 0 = as it should be */
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_generate_params params;
    size_t n = 0;
    int bad;
    memset(&params, 0, sizeof params);
    params.max_tokens = 4;
    params.ignore_end = 1;
    bad = gpt_model_load(&m, path, NULL, &err) || gpt_session_new(&s, m, NULL, &err)
       || gpt_generate(s, "Once", &params, count, &n, &err);
    if (bad) fprintf(stderr, "%s\n", err.msg);
    gpt_session_free(s);
    gpt_model_free(m);
    return bad || n == 0;
}

int main(int argc, char **argv) {
    gpt_model *m = (gpt_model *)argv;       /* a failed load has to clear it */
    gpt_error err;
    gpt_result r = gpt_model_load_memory(&m, "GGU", 3, NULL, &err);
    int bad = r != GPT_E_FORMAT || m != NULL || err.code != r || !err.msg[0];
    if (bad) fprintf(stderr, "garbage: result %d, '%s'\n", (int)r, err.msg);
    gpt_model_free(NULL);
    gpt_session_free(NULL);
    if (argc > 1) bad |= story(argv[1]);
#ifdef USER_CPP
    bad |= user_cpp(argc > 1 ? argv[1] : NULL);
#endif
    return bad;
}
