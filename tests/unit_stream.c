/* The way of generated text to the host: stop strings never leak, pieces are valid UTF-8, however the text is cut.
 * Compared with a slow and obvious reading of the same rules. Uses UTF-8-test.txt where it is there. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <stdlib.h>
#include "test.h"

typedef struct sink {
    char   text[1 << 17];
    size_t n;
    int    calls, refuse_at, bad;       /* refuse_at: the call that returns 1, counted from 1; bad: pieces not valid */
} sink;

static sink got;
static char want[1 << 17];

static gpt_result stream_init(gpti_stream *st, const char *const *stop, size_t n_stop, gpt_error *err) {
    gpt_result r = gpti_stop_check(stop, n_stop, err);
    if (!r) gpti_stream_init(st, stop, n_stop);
    return r;
}

static int stream_finish(gpti_stream *st, gpt_text_fn fn, void *user) {
    gpti_stream_finish(st, 1, fn, user);
    return st->state;
}

/* ---- The slow reading ---- */

/* 1 when s[n] is one well-formed character. */
static int well_formed(const unsigned char *s, size_t n) {
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t cp;
    size_t i;
    if (n == 1) return s[0] < 0x80;
    if (n < 2 || n > 4 || s[0] < 0xC0 || s[0] >= 0xF8 || n != (s[0] < 0xE0 ? 2u : s[0] < 0xF0 ? 3u : 4u)) return 0;
    cp = s[0] & (0x7Fu >> n);
    for (i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        cp = cp << 6 | (s[i] & 0x3Fu);
    }
    return cp >= least[n] && cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
}

/* 1 when s[n] begins a well-formed character and is not all of it. */
static int beginning(const unsigned char *s, size_t n) {
    static const unsigned char tail[6] = { 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF };
    unsigned char t[4];
    size_t total, i;
    int k;
    if (s[0] < 0xC2 || s[0] > 0xF4 || (n > 1 && (s[n - 1] & 0xC0) != 0x80)) return 0;
    for (total = n + 1; total <= 4; total++) {
        for (k = 0; k < (total - n == 1 ? 6 : total - n == 2 ? 36 : 216); k++) {
            memcpy(t, s, n);
            for (i = n; i < total; i++) t[i] = tail[(i == n ? k : i == n + 1 ? k / 6 : k / 36) % 6];
            if (well_formed(t, total)) return 1;
        }
    }
    return 0;
}

/* s[n] to want[], U+FFFD for each maximal subpart that is not well-formed; an unfinished end stays out unless final. */
static size_t repair(const char *text, size_t n, int final) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0, k, out = 0;
    while (i < n) {
        for (k = 1; k <= 4 && i + k <= n && !well_formed(s + i, k); k++) {}
        if (k <= 4 && i + k <= n) {
            memcpy(want + out, s + i, k);
            out += k;
            i += k;
            continue;
        }
        for (k = 0; k < 3 && i + k < n && beginning(s + i, k + 1); k++) {}
        if (k > 0 && i + k == n && !final) break;
        memcpy(want + out, "\xEF\xBF\xBD", 3);
        out += 3;
        i += k ? k : 1;
    }
    return out;
}

/* What the host must have after text[n] was pushed: its length in want[]; *stopped tells of a stop string. */
static size_t expected(const char *text, size_t n, const char *const *stop, size_t n_stop, int final, int *stopped) {
    size_t end, j, keep = 0, len;
    *stopped = 0;
    for (end = 1; end <= n; end++) {
        size_t match = 0;
        for (j = 0; j < n_stop; j++) {
            len = strlen(stop[j]);
            if (len <= end && memcmp(text + end - len, stop[j], len) == 0 && len > match) match = len;
        }
        if (match) { *stopped = 1; return repair(text, end - match, 1); }
    }
    for (j = 0; j < n_stop; j++) {
        for (len = strlen(stop[j]) - 1; len > 0; len--) {
            if (len <= n && memcmp(text + n - len, stop[j], len) == 0) break;
        }
        if (len > keep) keep = len;
    }
    return repair(text, final ? n : n - keep, final);
}

/* ---- The tests ---- */

static int take(void *user, const char *text, size_t n) {
    sink *s = (sink *)user;
    size_t i, k;
    if (n == 0 || n > GPTI_PIECE) s->bad++;
    for (i = 0; i < n; i += k) {
        for (k = 1; k <= 4 && i + k <= n && !well_formed((const unsigned char *)text + i, k); k++) {}
        if (k > 4 || i + k > n) { s->bad++; break; }
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    return ++s->calls == s->refuse_at;
}

static void reset(void) {
    got.n = 0;
    got.calls = got.refuse_at = got.bad = 0;
}

static int same(size_t n) { return got.n == n && memcmp(got.text, want, n) == 0; }

/* Push text[n] cut after byte i where cuts has bit i; compare after each push. Returns the number of faults. */
static int run(const char *text, size_t n, const char *const *stop, size_t n_stop, uint64_t cuts) {
    gpti_stream st;
    size_t from = 0, i;
    int stopped = 0, faults = 0, r = 0;
    reset();
    if (stream_init(&st, stop, n_stop, NULL)) return 1;
    for (i = 0; i < n; i++) {
        if (i + 1 < n && !(cuts >> i & 1)) continue;
        r = gpti_stream_push(&st, text + from, i + 1 - from, take, &got);
        from = i + 1;
        faults += !same(expected(text, from, stop, n_stop, 0, &stopped));
        faults += r != (stopped ? GPTI_STREAM_STOP : GPTI_STREAM_GO);
    }
    faults += stream_finish(&st, take, &got) != r;
    faults += !same(expected(text, n, stop, n_stop, 1, &stopped));
    faults += stream_finish(&st, take, &got) != r || !same(got.n);
    return faults + got.bad;
}

static void test_all_splits(void) {
    static const struct { const char *text; const char *stop[4]; } cases[] = {
        { "hello",               { 0 } },
        { "aaab",                { "aab" } },
        { "aaaaaab",             { "aab", "aaaab" } },
        { "abababac-",           { "ababac" } },
        { "abcabcabd",           { "abcabd" } },
        { "one\nUser: ",         { "\nUser:" } },
        { "one\nUse",            { "\nUser:" } },
        { "xabcdy",              { "abcd", "bc" } },
        { "xabcdy",              { "bcd", "abcd", "cd" } },
        { "xabcey",              { "abcd", "bce", "ce" } },
        { "xabcabce",            { "abcabcd", "bca", "q" } },
        { "aabaabaaa",           { "aabaaa", "baab" } },
        { "xyz",                 { "z" } },
        { "xyz",                 { "x" } },
        { "xyz",                 { "xyz" } },
        { "a\xF0\x9F\x98\x80" "b\xC3\xA9", { 0 } },
        { "\xF0\x9F\x98\x80\xF0\x9F\x98\x81!", { "\xF0\x9F\x98\x81" } },
        { "\xF0\x9F\x98\x80\xF0\x9F\x98\x82!", { "\xF0\x9F\x98\x81" } },
        { "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82", { "\xE2\x82\xAC\xE2\x82\xAC." } },
        { "a\xE2\x82\xAC" "b",   { "\x82" } },                         /* cuts a character: its head becomes U+FFFD */
        { "a\xF0\x9F\x98",       { 0 } },
        { "a\xF0\x9F\x98z",      { 0 } },
        { "\xF0\x9F\xF0\x9F\x98\x80\x80", { 0 } },
        { "\xC0\x80\xE0\x80\x80\xF4\x90\x80\x80", { 0 } },
        { "\xED\xA0\x80\xED\xB0\x80\xEF\xBF\xBF", { 0 } },
        { "\xFF\xFE\xC2\xE1\x80\xE2\xF0\x91\x92\xF1", { 0 } },
        { "\xE1\x80 end",        { "\x80 e", " en" } },
    };
    size_t c, n_stop, n;
    uint64_t cuts;
    for (c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int faults = 0;
        n = strlen(cases[c].text);
        for (n_stop = 0; n_stop < 4 && cases[c].stop[n_stop]; n_stop++) {}
        for (cuts = 0; cuts >> (n - 1) == 0; cuts++) faults += run(cases[c].text, n, cases[c].stop, n_stop, cuts);
        CHECK(faults == 0, "case %d \"%s\": %d faults", (int)c, cases[c].text, faults);
    }
}

/* Every text of 8 letters over {a, b} against stop strings of the same letters, split in two and in bytes. */
static void test_two_letters(void) {
    static const char *const sets[][3] = {
        { "aab", "b", "bb" }, { "aba", "bab", "abba" }, { "aaaa", "abab", "babb" }, { "bbbbb", "abbba", "aabbaab" },
        { "abaabab", "aabaa", "bbb" }, { "baaaab", "aaaaab", "abbbba" } };
    size_t s, k;
    int faults = 0;
    for (s = 0; s < sizeof sets / sizeof sets[0]; s++) {
        uint32_t bits;
        for (bits = 0; bits < 256; bits++) {
            char text[8];
            for (k = 0; k < 8; k++) text[k] = bits >> k & 1 ? 'a' : 'b';
            for (k = 0; k < 8; k++) faults += run(text, 8, sets[s], 1 + bits % 3, (uint64_t)1 << k);
            faults += run(text, 8, sets[s], 3, ~(uint64_t)0);
        }
    }
    CHECK(faults == 0, "%d texts of two letters came out otherwise", faults);
}

/* All pairs and, around the borders of the ranges, all triples and quadruples of bytes. */
static void test_bytes(void) {
    static const unsigned char edge[] = { 'a', 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xED, 0xEF,
                                          0xF0, 0xF1, 0xF4, 0xF5 };
    enum { E = sizeof edge };
    char text[5];
    int i, faults = 0;
    for (i = 0; i < 65536; i++) {
        text[0] = (char)(unsigned char)(i & 255);
        text[1] = (char)(unsigned char)(i >> 8);
        faults += run(text, 2, NULL, 0, (uint64_t)(i & 1));
    }
    CHECK(faults == 0, "pairs: %d faults", faults);
    for (faults = i = 0; i < E * E * E * E; i++) {
        text[0] = (char)edge[i % E];
        text[1] = (char)edge[i / E % E];
        text[2] = (char)edge[i / E / E % E];
        text[3] = (char)edge[i / E / E / E];
        faults += run(text, 4, NULL, 0, (uint64_t)(i / 7 & 7));
    }
    CHECK(faults == 0, "quadruples: %d faults", faults);
}

/* A text longer than a piece; the longest stop strings, 16 of them; one that nearly matches over and over. */
static void test_long(void) {
    static char text[40000], stop_text[16][260];
    const char *stop[17];
    gpt_error err;
    gpti_stream st;
    size_t i, n, total;
    int k, r = 0;
    for (k = 0; k < 16; k++) {
        memset(stop_text[k], 'a', 256);
        stop_text[k][255] = (char)('b' + k);
        stop_text[k][256] = 0;
        stop[k] = stop_text[k];
    }
    memset(text, 'a', sizeof text);
    CHECK(stream_init(&st, stop, 16, &err) == GPT_OK, "16 strings of 256 bytes are allowed");
    reset();
    for (i = 0; i < 39000; i += n) {
        n = 39000 - i < 1 + i % 1700 ? 39000 - i : 1 + i % 1700;
        r = gpti_stream_push(&st, text, n, take, &got);
    }
    CHECK(r == GPTI_STREAM_GO && got.n == 39000 - 255, "255 bytes are held back, %d are out", (int)got.n);
    r = gpti_stream_push(&st, "e and more", 10, take, &got);
    CHECK(r == GPTI_STREAM_STOP && got.n == 39000 - 255 && got.bad == 0, "stopped with %d bytes out", (int)got.n);
    r = gpti_stream_push(&st, "x", 1, take, &got);
    CHECK(r == GPTI_STREAM_STOP && got.n == 39000 - 255, "nothing comes after a stop string");
    for (i = 0; i + 4 <= sizeof text; i += 4) memcpy(text + i, "\xF0\x9F\x98\x80", 4);
    for (total = 1; total < 2100; total += 523) {
        (void)stream_init(&st, NULL, 0, NULL);
        reset();
        (void)gpti_stream_push(&st, "z", 1, take, &got);
        for (i = 0; i < 8000; i += n) {
            n = 8000 - i < total ? 8000 - i : total;
            (void)gpti_stream_push(&st, text + i, n, take, &got);
        }
        (void)stream_finish(&st, take, &got);
        CHECK(got.n == 8001 && got.bad == 0 && !memcmp(got.text + 1, text, 8000), "emoji in steps of %d", (int)total);
    }
    stop[16] = "x";
    CHECK(stream_init(&st, stop, 17, &err) == GPT_E_ARG, "17 stop strings are too many");
    memset(stop_text[3], 'q', 257);
    stop_text[3][257] = 0;
    CHECK(stream_init(&st, stop, 16, &err) == GPT_E_ARG, "257 bytes are too long");
    CHECK(strcmp(err.msg, "stop[3] is longer than 256 bytes") == 0, "message: %s", err.msg);
    stop[1] = "";
    CHECK(stream_init(&st, stop, 2, &err) == GPT_E_ARG, "an empty stop string makes no sense");
    stop[1] = NULL;
    CHECK(stream_init(&st, stop, 2, &err) == GPT_E_ARG, "a NULL stop string makes no sense");
    CHECK(stream_init(&st, NULL, 1, &err) == GPT_E_ARG, "no array");
}

static void test_refusal(void) {
    gpti_stream st;
    char big[2000];
    const char *stop[1] = { "never" };
    int at;
    memset(big, 'x', sizeof big);
    for (at = 1; at <= 4; at++) {
        (void)stream_init(&st, stop, 1, NULL);
        reset();
        got.refuse_at = at;
        CHECK(gpti_stream_push(&st, big, sizeof big, take, &got) == GPTI_STREAM_HOST, "refused at piece %d", at);
        CHECK(gpti_stream_push(&st, "more", 4, take, &got) == GPTI_STREAM_HOST, "stays refused");
        CHECK(stream_finish(&st, take, &got) == GPTI_STREAM_HOST && got.calls == at, "%d calls of the callback", got.calls);
    }
    (void)stream_init(&st, stop, 1, NULL);
    reset();
    got.refuse_at = 1;
    (void)gpti_stream_push(&st, "nev", 3, take, &got);
    CHECK(stream_finish(&st, take, &got) == GPTI_STREAM_HOST && got.n == 3, "refused at the end");
    (void)stream_init(&st, stop, 1, NULL);
    CHECK(gpti_stream_push(&st, "a never", 7, NULL, NULL) == GPTI_STREAM_STOP, "without a callback");
}

static void test_kuhn(void) {
    static const char *const paths[] = { "../shared/data/unicode/UTF-8-test.txt",
                                         "../../shared/data/unicode/UTF-8-test.txt" };
    static char text[40000];
    const char *stop[2] = { "THE END       ", "\xFE\xFE\xFF\xFF\xFF" };
    gpti_stream st;
    FILE *f = fopen(paths[0], "rb");
    size_t n, i, k, step;
    int stopped, round;
    if (!f) f = fopen(paths[1], "rb");
    if (!f) { printf("unit_stream: UTF-8-test.txt is not there, skipped\n"); return; }
    n = fread(text, 1, sizeof text, f);
    fclose(f);
    for (round = 0; round < 2; round++) {
        for (step = 1; step < 12; step++) {
            (void)stream_init(&st, stop, round ? 2 : 0, NULL);
            reset();
            for (i = 0; i < n; i += k) {
                k = n - i < step ? n - i : step;
                (void)gpti_stream_push(&st, text + i, k, take, &got);
            }
            (void)stream_finish(&st, take, &got);
            CHECK(same(expected(text, n, stop, round ? 2 : 0, 1, &stopped)) && !got.bad, "in steps of %d", (int)step);
        }
    }
}

static const test tests[] = {
    { "all_splits", test_all_splits }, { "two_letters", test_two_letters }, { "bytes", test_bytes },
    { "long", test_long }, { "refusal", test_refusal }, { "kuhn", test_kuhn }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_stream");
}
