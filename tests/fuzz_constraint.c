/* Fuzzer of gpt_constraint_new and gpt_constraint_check; for clang -fsanitize=fuzzer. The first byte of an input says what the rest is:
 * g a grammar, s a schema, p a schema's pattern, c a text for a schema, and so on by its last bits; behind a NUL in a grammar, schema
 * or pattern follows a text that is checked. A text that is taken is taken byte by byte too, and each of its beginnings may go on.
 * Built without, it has a main that replays the files it is given, and their beginnings and changed bytes. */
#include "gpt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char checked[] = "{\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-3.5,\"maximum\":40},\"ab\":{\"type\":\"string\",\"maxLength\":4},"
    "\"list\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":5},\"n\":{\"type\":\"number\",\"exclusiveMinimum\":0}},\"required\":[\"ab\"]}";

static void check(const gpt_constraint *c, const char *text, size_t n) {
    size_t at, k;
    gpt_error err;
    const gpt_result r = gpt_constraint_check(c, text, n, &at, &err);
    if (at > n || (r != GPT_OK && r != GPT_MORE && r != GPT_E_REFUSED && r != GPT_E_UNSUPPORTED) || (r >= 0 && at != n)) abort();
    if (n > 300) return;
    for (k = 0; k <= n; k++) {                  /* every beginning up to the refused byte goes on, none behind it does */
        const gpt_result part = gpt_constraint_check(c, text, k, NULL, NULL);
        if ((part < 0) != (k > at)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gpt_constraint_params p;
    gpt_constraint *c = NULL;
    gpt_error err;
    char *source, *schema = NULL;
    size_t n, i, k;
    if (size < 1 || size > 1 << 16) return 0;
    source = (char *)calloc(1, size + 1);
    if (!source) return 0;
    memcpy(source, data + 1, size - 1);
    n = strlen(source);
    memset(&p, 0, sizeof p);
    if ((data[0] & 3) == 3 && data[0] < 'd') p.schema = checked;        /* c */
    else if (data[0] == 'p') {
        schema = (char *)calloc(1, 6 * n + 32);
        if (schema) {
            k = (size_t)sprintf(schema, "{\"pattern\":\"");
            for (i = 0; i < n; i++) {
                if (source[i] == '"' || source[i] == '\\') schema[k++] = '\\';
                if ((unsigned char)source[i] >= ' ') schema[k++] = source[i];
            }
            strcpy(schema + k, "\"}");
        }
        p.schema = schema;
    } else if (data[0] & 1) p.schema = source;                          /* s */
    else p.gbnf = source;
    if (p.schema || p.gbnf) {
        if (gpt_constraint_new(&c, NULL, &p, &err)) {
            if (c || !err.msg[0] || memchr(err.msg, 0, sizeof err.msg) == NULL) abort();
        } else if (p.schema == checked) check(c, source, n);
        else check(c, source + n + (n + 1 < size), n + 1 < size ? size - 2 - n : 0);
    }
    gpt_constraint_free(c);
    free(source);
    free(schema);
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

int main(int argc, char **argv) {
    int i;
    for (i = 1; i < argc; i++) replay(argv[i], 400);
    return test_report("fuzz_constraint");
}
#endif
