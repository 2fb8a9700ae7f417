/* Checks and named tests for the unit tests: count, say what failed, go on. No framework.
 *
 *     static void test_sums(void) { CHECK(1 + 1 == 2, "1 + 1: expected 2, found %d", 1 + 1); }
 *     static const test tests[] = { { "sums", test_sums }, { NULL, NULL } };
 *     int main(int argc, char **argv) { test_run(tests, argc, argv); return test_report("unit_x"); }
 *
 * build/t/unit_x runs all tests, build/t/unit_x NAME... those whose names contain one of the arguments, and
 * build/t/unit_x --list prints the names. A check that fails says: file, line, test, condition, message. */
#ifndef TEST_H
#define TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_passed, test_failed;
static const char *test_name = "";      /* the one that runs */
static size_t test_at;                  /* its place in the table, where many tests share a function */

/* CHECK(cond, "format", ...): the message says what was expected and what was found, each number with its name. The first 20
 * failures are shown. */
#define CHECK(cond, ...)                                                        \
    do {                                                                        \
        if (cond) test_passed++;                                                \
        else if (++test_failed <= 20) {                                         \
            printf("%s:%d: %s%s%s: ", __FILE__, __LINE__, test_name,            \
                   *test_name ? ": " : "", #cond);                              \
            printf(__VA_ARGS__);                                                \
            printf("\n");                                                       \
        }                                                                       \
    } while (0)

/* What a message may consist of where no path is part of it. */
#define PRINTABLE " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

/* A file's text, with a NUL behind it, for the caller to free; NULL: there is none. */
static inline char *test_file(const char *path) {
    FILE *f = fopen(path, "rb");
    size_t n;
    char *p;
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    n = (size_t)ftell(f);
    rewind(f);
    p = (char *)malloc(n + 1);
    if (!p || fread(p, 1, n, f) != n) n = 0;
    if (p) p[n] = 0;
    fclose(f);
    return p;
}

/* In place: \\ \n \r \t, as golden files have them. */
static inline char *test_unescape(char *s) {
    char *in = s, *out = s;
    for (; *in; in++) {
        if (*in == '\\') { in++; *out++ = *in == 'n' ? '\n' : *in == 'r' ? '\r' : *in == 't' ? '\t' : *in; }
        else *out++ = *in;
    }
    *out = 0;
    return s;
}

typedef struct test { const char *name; void (*run)(void); } test;

static inline void test_list(FILE *f, const test *t) { for (; t->name; t++) fprintf(f, "%s\n", t->name); }

/* Runs the tests of a table, whose last row is { NULL, NULL }. Ends the program for --list and for an argument that is part of
 * no name. */
static inline void test_run(const test *tests, int argc, char **argv) {
    const test *t;
    int i;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--list")) { test_list(stdout, tests); exit(0); }
        for (t = tests; t->name && !strstr(t->name, argv[i]); t++) {}
        if (t->name) continue;
        fprintf(stderr, "no test has '%s' in its name; the tests are:\n", argv[i]);
        test_list(stderr, tests);
        exit(2);
    }
    for (t = tests; t->name; t++) {
        for (i = 1; i < argc && !strstr(t->name, argv[i]); i++) {}
        if (argc > 1 && i == argc) continue;
        test_name = t->name;
        test_at = (size_t)(t - tests);
        t->run();
    }
    test_name = "at the end";
}

/* The last line of every test program; its value is what main returns. */
static inline int test_report(const char *name) {
    printf("%s: %d passed, %d failed\n", name, test_passed, test_failed);
    return test_failed != 0;
}

#endif
