/* GGUF: correct files in every variant, the malformed ones of bad/, truncation at every byte, every byte changed, the
 * n-th allocation and the n-th read fail.     unit_gguf --write DIR: write the files of bad/ as seeds for the fuzzer. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <math.h>
#include "test.h"
#include "gguf_builder.h"
#include "bad/gguf_cases.h"

/* -- memory and readers that count and fail -- */

typedef struct counter { long calls, fail_at, live; size_t bytes; } counter;    /* fail_at 0: never */

static void *count_alloc(void *user, size_t n) {
    counter *c = (counter *)user;
    if (++c->calls == c->fail_at) return NULL;
    c->live++;
    c->bytes += n;
    return malloc(n);
}

static void count_free(void *user, void *p) {
    ((counter *)user)->live--;
    free(p);
}

static gpti_mem counted(counter *c) {
    gpti_mem mem;
    memset(c, 0, sizeof *c);
    mem.alloc = count_alloc;
    mem.free = count_free;
    mem.user = c;
    return mem;
}

typedef struct memory_file { const unsigned char *p; uint64_t n; long reads, fail_at, change_at; } memory_file;

static size_t memory_read(void *user, uint64_t offset, void *dst, size_t n) {
    memory_file *f = (memory_file *)user;
    f->reads++;
    if (f->reads == f->fail_at) return n / 2;
    if (offset > f->n || n > f->n - offset) return 0;
    memcpy(dst, f->p + offset, n);
    if (f->change_at && f->reads >= f->change_at) memset(dst, 0xff, n);
    return n;
}

static gpt_reader memory_reader(memory_file *f, const unsigned char *p, uint64_t n) {
    gpt_reader r;
    memset(f, 0, sizeof *f);
    f->p = p;
    f->n = n;
    r.read = memory_read;
    r.user = f;
    r.size = n;
    return r;
}

static int is(gpti_str s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

/* -- one file with everything -- */

static void check_numbers(const gpti_gguf *g) {
    uint32_t u = 7;
    float f = 7;
    int b = 7;
    gpti_str s = { "x", 1 };
    CHECK(gpti_gguf_u32(g, "t.u8", &u) && u == 200, "t.u8 is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32(g, "t.u16", &u) && u == 60000, "t.u16 is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32(g, "t.u32", &u) && u == 4000000000u, "t.u32 is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32(g, "t.i64", &u) && u == 77, "t.i64 is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32(g, "z.last", &u) && u == 42, "z.last is %lu", (unsigned long)u);
    CHECK(!gpti_gguf_u32(g, "t.i8", &u) && !gpti_gguf_u32(g, "t.i32", &u) && !gpti_gguf_u32(g, "t.u64", &u) &&
          !gpti_gguf_u32(g, "t.u64max", &u) && !gpti_gguf_u32(g, "t.i64neg", &u) && !gpti_gguf_u32(g, "t.f32", &u) &&
          !gpti_gguf_u32(g, "t.empty", &u) && !gpti_gguf_u32(g, "absent", &u) && !gpti_gguf_u32(g, "a.u8", &u) && u == 42,
          "what is no u32 must not become one: %lu", (unsigned long)u);
    CHECK(gpti_gguf_f32(g, "t.f32", &f) && f == 0.15625f, "t.f32 is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.nan", &f) && f != f, "t.nan is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.f64", &f) && f == (float)INFINITY, "t.f64 is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.pi", &f) && f == 3.140625f, "t.pi is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.i8", &f) && f == -1, "t.i8 is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.i16", &f) && f == -32768, "t.i16 is %g", (double)f);
    CHECK(gpti_gguf_f32(g, "t.i64neg", &f) && f == -5, "t.i64neg is %g", (double)f);
    CHECK(!gpti_gguf_f32(g, "t.empty", &f) && !gpti_gguf_f32(g, "a.scores", &f) && !gpti_gguf_f32(g, "absent", &f) && f == -5,
          "what is no number must not become one: %g", (double)f);
    CHECK(gpti_gguf_bool(g, "t.true", &b) && b == 1, "t.true is %d", b);
    CHECK(gpti_gguf_bool(g, "t.false", &b) && b == 0, "t.false is %d", b);
    CHECK(!gpti_gguf_bool(g, "t.u8", &b) && !gpti_gguf_bool(g, "absent", &b), "only a bool is a bool");
    CHECK(gpti_gguf_str(g, "general.architecture", &s) && is(s, "llama"), "general.architecture");
    CHECK(gpti_gguf_str(g, "t.empty", &s) && s.n == 0, "t.empty has %lu bytes", (unsigned long)s.n);
    CHECK(!gpti_gguf_str(g, "t.u8", &s) && !gpti_gguf_str(g, "a.words", &s), "only a string is a string");
    CHECK(gpti_gguf_find(g, "a.nested") && !gpti_gguf_find(g, "a.nest") && !gpti_gguf_find(g, ""), "find");
    CHECK(gpti_gguf_u32_at(g, "a.u8", 2, &u) && u == 3, "a.u8[2] is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32_at(g, "a.bool", 0, &u) && u == 1, "a.bool[0] is %lu", (unsigned long)u);
    CHECK(gpti_gguf_u32_at(g, "z.last", 1000, &u) && u == 42, "a plain value is the same for every layer");
    CHECK(!gpti_gguf_u32_at(g, "a.u8", 3, &u) && !gpti_gguf_u32_at(g, "a.words", 0, &u) && !gpti_gguf_u32_at(g, "a.nested", 0, &u) &&
          !gpti_gguf_u32_at(g, "a.types", 1, &u) && !gpti_gguf_u32_at(g, "absent", 0, &u), "elements that are not there");
}

static void check_arrays(const gpti_gguf *g, const gpti_mem *mem) {
    gpt_error err;
    gpti_str *s;
    float *f;
    int32_t *k;
    size_t n;
    gpt_result r = gpti_gguf_strings(g, "a.words", &s, &n, &err);
    CHECK(!r && n == 4 && is(s[0], "<unk>") && is(s[1], "") && is(s[2], "a") && is(s[3], "\xc3\xa9t\xc3\xa9"), "a.words");
    gpti_free(mem, s);
    r = gpti_gguf_strings(g, "a.none", &s, &n, &err);
    CHECK(!r && n == 0, "a.none");
    gpti_free(mem, s);
    CHECK(!gpti_gguf_strings(g, "absent", &s, &n, &err) && !s && !n, "an absent array is NULL");
    CHECK(gpti_gguf_strings(g, "a.types", &s, &n, &err) == GPT_E_FORMAT && !s && !n &&
          !strcmp(err.msg, "a.types: expected an array of strings, file has an array of 3 i32"), "%s", err.msg);
    CHECK(gpti_gguf_strings(g, "t.u8", &s, &n, &err) == GPT_E_FORMAT &&
          !strcmp(err.msg, "t.u8: expected an array of strings, file has u8"), "%s", err.msg);
    r = gpti_gguf_f32s(g, "a.scores", &f, &n, &err);
    CHECK(!r && n == 3 && f[0] == 0 && f[1] == -1.5f && f[2] == 1099511627776.0f, "a.scores");
    gpti_free(mem, f);
    r = gpti_gguf_f32s(g, "a.types", &f, &n, &err);
    CHECK(!r && n == 3 && f[1] == -7, "integers as floats");
    gpti_free(mem, f);
    r = gpti_gguf_i32s(g, "a.types", &k, &n, &err);
    CHECK(!r && n == 3 && k[0] == 2 && k[1] == -7 && k[2] == 2147483647, "a.types");
    gpti_free(mem, k);
    r = gpti_gguf_i32s(g, "a.big", &k, &n, &err);
    CHECK(r == GPT_E_FORMAT && !k && !strcmp(err.msg, "a.big: expected an array of 32-bit integers, file has an array of 1 u32"), "%s", err.msg);
    CHECK(gpti_gguf_i32s(g, "a.scores", &k, &n, &err) == GPT_E_FORMAT && !k, "floats are no integers");
    CHECK(gpti_gguf_f32s(g, "a.words", &f, &n, &err) == GPT_E_FORMAT && !f, "strings are no numbers");
}

static void check_tensors(const gpti_gguf *g, int align) {
    const gpti_tensor *t = gpti_gguf_tensor(g, "token_embd.weight");
    gpt_error err;
    unsigned char raw[256];
    int i, same = 1;
    CHECK(g->n_tensor == 3 && t && t->n_dim == 2 && t->ne[0] == 16 && t->ne[1] == 4 && t->ne[2] == 1 && t->ne[3] == 1 &&
          t->size == 256 && t->fmt->type == GB_F32 && t->offset % (uint64_t)align == 0, "token_embd.weight");
    if (!t) return;
    CHECK(!gpti_gguf_read(g, t, 0, raw, 256, &err), "%s", err.msg);
    for (i = 0; i < N_F32; i++) {                   /* the bytes are little-endian now, whatever the file and the host */
        uint32_t u = (uint32_t)raw[4 * i] | (uint32_t)raw[4 * i + 1] << 8 | (uint32_t)raw[4 * i + 2] << 16 | (uint32_t)raw[4 * i + 3] << 24;
        float f;
        memcpy(&f, &u, 4);
        same &= f == (float)i / 4;
    }
    CHECK(same, "F32 data");
    CHECK(gpti_gguf_read(g, t, 8, raw, 249, &err) == GPT_E_ARG && gpti_gguf_read(g, t, 257, raw, 0, &err) == GPT_E_ARG, "no bytes there");
    t = gpti_gguf_tensor(g, "blk.0.attn_q.weight");
    CHECK(t && t->size == 102 && t->ne[0] == 32 && t->ne[1] == 3, "blk.0.attn_q.weight");
    if (!t) return;
    CHECK(!gpti_gguf_read(g, t, 34, raw, 68, &err), "%s", err.msg);
    for (i = 0, same = 1; i < 68; i++) same &= raw[i] == i + 34;
    CHECK(same, "Q8_0 data");
    CHECK(!gpti_gguf_tensor(g, "blk.0.attn_q") && !gpti_gguf_tensor(g, "") && gpti_gguf_tensor(g, "output_norm.weight"), "by name");
}

static void check_whole(gpti_source *s, int align, const char *how) {
    counter c;
    gpti_mem mem = counted(&c);
    gpti_gguf g;
    gpt_error err;
    gpt_result r = gpti_gguf_open(&g, s, 1, &mem, &err);
    CHECK(!r, "%s: %s", how, err.msg);
    if (r) return;
    CHECK(g.align == (uint64_t)align, "alignment %lu", (unsigned long)g.align);
    check_numbers(&g);
    check_arrays(&g, &mem);
    check_tensors(&g, align);
    gpti_gguf_close(&g, &mem);
    gpti_gguf_close(&g, &mem);
    CHECK(c.live == 0, "%s: %ld blocks leaked", how, c.live);
}

static void test_whole(void) {
    static const int aligns[] = { 1, 8, 32, 4096 };
    uint32_t version;
    int big, a;
    for (version = 2; version <= 3; version++) for (big = 0; big < 2; big++) for (a = 0; a < 4; a++) {
        gb g;
        gpti_source s;
        memory_file f;
        gpt_reader reader;
        size_t n;
        const unsigned char *p;
        whole_file(&g, version, big, aligns[a]);
        p = gb_finish(&g, &n);
        gpti_source_memory(&s, p, n);
        check_whole(&s, aligns[a], "memory");
        reader = memory_reader(&f, p, n);
        gpti_source_reader(&s, &reader);
        check_whole(&s, aligns[a], "reader");
        gb_free(&g);
    }
}

/* -- files -- */

#ifndef GPT_NO_STDIO
static void test_files(const char *program) {
    char path[1024];
    counter c;
    gpti_mem mem = counted(&c);
    gpti_source s;
    gpt_error err;
    gb g;
    int map;
    sprintf(path, "%.900s.tmp", program);
    whole_file(&g, 3, 0, 32);
    if (!gb_write(&g, path)) { printf("unit_gguf: cannot write %s: files are not tested\n", path); gb_free(&g); return; }
    for (map = 0; map < 2; map++) {
        gpt_result r = gpti_source_open(&s, path, map, &mem, &err);
        CHECK(!r, "%s", err.msg);
        if (r) continue;
        check_whole(&s, 32, map ? "mapped" : "stdio");
        gpti_source_close(&s, &mem);
        gpti_source_close(&s, &mem);
    }
    gb_free(&g);
    fclose(fopen(path, "wb"));
    for (map = 0; map < 2; map++)
        CHECK(gpti_source_open(&s, path, map, &mem, &err) == GPT_E_IO && strstr(err.msg, "empty, not a regular file"), "%s", err.msg);
    remove(path);
    for (map = 0; map < 2; map++)
        CHECK(gpti_source_open(&s, path, map, &mem, &err) == GPT_E_IO && strstr(err.msg, "cannot open the file"), "%s", err.msg);
    gpti_source_close(&s, &mem);
    CHECK(c.live == 0, "%ld blocks leaked", c.live);
}

static void test_split_names(void) {
    counter c;
    gpti_mem mem = counted(&c);
    char *p;
    CHECK(gpti_split_count("m-00002-of-00003.gguf") == 3 && gpti_split_count("-00001-of-12345.gguf") == 12345, "count");
    CHECK(gpti_split_count("m.gguf") == 1 && gpti_split_count("") == 1 && gpti_split_count("m-00002-of-00000.gguf") == 1 &&
          gpti_split_count("m-0002-of-00003.gguf") == 1 && gpti_split_count("m-00002-of-0000x.gguf") == 1, "no split name");
    p = gpti_split_path("dir/m-00002-of-00003.gguf", 0, &mem);
    CHECK(p && !strcmp(p, "dir/m-00001-of-00003.gguf"), "%s", p ? p : "NULL");
    gpti_free(&mem, p);
    p = gpti_split_path("-00001-of-20000.gguf", 12344, &mem);
    CHECK(p && !strcmp(p, "-12345-of-20000.gguf"), "%s", p ? p : "NULL");
    gpti_free(&mem, p);
    p = gpti_split_path("m.gguf", 0, &mem);
    CHECK(p && !strcmp(p, "m.gguf"), "%s", p ? p : "NULL");
    gpti_free(&mem, p);
    mem = counted(&c);
    c.fail_at = 1;
    CHECK(!gpti_split_path("m.gguf", 0, &mem), "out of memory");
}
#endif

/* -- bad files -- */

/* Open a copy of exactly n bytes, from memory or through a reader: the result, with nothing leaked either way. */
static gpt_result try_open(const unsigned char *p, size_t n, int by_reader, gpt_error *err, counter *c) {
    unsigned char *copy = (unsigned char *)malloc(n ? n : 1);
    gpti_mem mem = counted(c);
    gpti_source s;
    memory_file f;
    gpt_reader reader;
    gpti_gguf g;
    gpt_result r;
    if (n) memcpy(copy, p, n);
    gpti_source_memory(&s, copy, n);
    reader = memory_reader(&f, copy, n);
    if (by_reader) gpti_source_reader(&s, &reader);
    err->msg[0] = 0;
    r = gpti_gguf_open(&g, &s, 1, &mem, err);
    if (!r) gpti_gguf_close(&g, &mem);
    CHECK(c->live == 0, "%ld blocks leaked after: %s", c->live, err->msg);
    CHECK(!r || err->msg[0], "error %d without a message", r);
    CHECK(strspn(err->msg, PRINTABLE) == strlen(err->msg), "bytes of the file reach the message: %s", err->msg);
    free(copy);
    return r;
}

static void test_bad(void) {
    int i, k, big;
    for (i = 0; i < N_BAD_GGUF; i++) for (k = 0; k < 2; k++) for (big = 0; big < 2; big++) {
        const bad_gguf *b = &bad_ggufs[i];
        gb g;
        counter c;
        gpt_error err;
        size_t n;
        const unsigned char *p;
        gpt_result r;
        gb_init(&g, 3, big);
        b->make(&g);
        p = gb_finish(&g, &n);
        r = try_open(p, n, k, &err, &c);
        CHECK((int)r == b->code, "%s: expected code %d, got %d: %s", b->name, b->code, r, err.msg);
        CHECK(strstr(err.msg, b->message), "%s: expected \"%s\", got \"%s\"", b->name, b->message, err.msg);
        CHECK(c.bytes < 20 * n + 65536, "%s: %lu bytes allocated for a file of %lu", b->name, (unsigned long)c.bytes, (unsigned long)n);
        gb_free(&g);
    }
}

static void test_other_kinds(void) {
    gpt_error err;
    counter c;
    CHECK(try_open((const unsigned char *)"", 0, 0, &err, &c) == GPT_E_FORMAT &&
          !strcmp(err.msg, "GGUF header: 4 bytes expected at offset 0, 0 are left (cut short?)"), "%s", err.msg);
    CHECK(try_open((const unsigned char *)"PK\3\4 and so on and on and on", 28, 0, &err, &c) == GPT_E_FORMAT &&
          !strcmp(err.msg, "GGUF header: expected the bytes GGUF, found PK\\x03\\x04 (another kind of file?)"), "%s", err.msg);
}

static void test_truncated(void) {
    gb g;
    counter c;
    gpt_error err;
    size_t n, i;
    const unsigned char *p;
    whole_file(&g, 3, 0, 32);
    p = gb_finish(&g, &n);
    CHECK(!try_open(p, n, 0, &err, &c), "%s", err.msg);
    for (i = 0; i < n; i++) {
        gpt_result r = try_open(p, i, (int)(i & 1), &err, &c);
        CHECK(r == GPT_E_FORMAT && (strstr(err.msg, "cut short?") || strstr(err.msg, "cannot fit")), "cut to %lu: %s", (unsigned long)i, err.msg);
    }
    gb_free(&g);
}

static void test_mutated(void) {
    gb g;
    counter c;
    gpt_error err;
    size_t n, i;
    unsigned char *p;
    int big, k;
    for (big = 0; big < 2; big++) {
        whole_file(&g, 2, big, 32);
        gb_finish(&g, &n);
        p = g.file.p;
        for (i = 0; i < n; i++) for (k = 0; k < 5; k++) {
            unsigned char was = p[i];
            p[i] = (unsigned char)(k == 0 ? 0 : k == 1 ? 0xff : k == 2 ? was ^ 1 : k == 3 ? was ^ 0x80 : was + 8);
            try_open(p, n, k & 1, &err, &c);
            CHECK(c.bytes < 20 * n + 65536, "byte %lu: %lu bytes allocated", (unsigned long)i, (unsigned long)c.bytes);
            p[i] = was;
        }
        gb_free(&g);
    }
}

/* Everything that reads: 0 when all of it worked. */
static gpt_result read_all(gpti_source *s, int n_part, const gpti_mem *mem, gpt_error *err) {
    gpti_gguf g;
    gpti_str *words = NULL;
    float *f = NULL;
    int32_t *k = NULL;
    unsigned char raw[512];
    size_t n, i;
    gpt_result r = gpti_gguf_open(&g, s, n_part, mem, err);
    if (r) return r;
    r = gpti_gguf_strings(&g, "a.words", &words, &n, err);
    if (!r) r = gpti_gguf_f32s(&g, "a.scores", &f, &n, err);
    if (!r) r = gpti_gguf_i32s(&g, "a.types", &k, &n, err);
    for (i = 0; i < g.n_tensor && !r; i++) r = gpti_gguf_read(&g, &g.tensor[i], 0, raw, (size_t)g.tensor[i].size, err);
    gpti_free(mem, words);
    gpti_free(mem, f);
    gpti_free(mem, k);
    gpti_gguf_close(&g, mem);
    return r;
}

static void test_failures(void) {
    gb g;
    counter c;
    gpti_mem mem;
    memory_file f;
    gpt_reader reader;
    gpti_source s;
    gpt_error err;
    gpt_result r = GPT_E_MEMORY;
    size_t n;
    long i;
    const unsigned char *p;
    whole_file(&g, 3, 0, 32);
    p = gb_finish(&g, &n);
    for (i = 1; r && i < 1000; i++) {
        gpti_source_memory(&s, p, n);
        mem = counted(&c);
        c.fail_at = i;
        r = read_all(&s, 1, &mem, &err);
        CHECK(r == (c.calls >= i ? GPT_E_MEMORY : GPT_OK) && c.live == 0, "allocation %ld fails: code %d, %s, %ld blocks leaked", i, r, err.msg, c.live);
        CHECK(!r || strstr(err.msg, "out of memory"), "%s", err.msg);
    }
    CHECK(i > 4 && i < 1000, "%ld allocations", i);
    for (i = 1, r = GPT_E_IO; r && i < 1000; i++) {
        reader = memory_reader(&f, p, n);
        f.fail_at = i;
        gpti_source_reader(&s, &reader);
        mem = counted(&c);
        r = read_all(&s, 1, &mem, &err);
        CHECK(r == (f.reads >= i ? GPT_E_IO : GPT_OK) && c.live == 0, "read %ld fails: code %d, %s, %ld blocks leaked", i, r, err.msg, c.live);
        CHECK(!r || strstr(err.msg, "read error"), "%s", err.msg);
    }
    CHECK(i > 4 && i < 1000, "%ld reads", i);
    for (i = 1; i < 10; i++) {                      /* a file that is rewritten while we read it */
        reader = memory_reader(&f, p, n);
        f.change_at = i;
        gpti_source_reader(&s, &reader);
        mem = counted(&c);
        r = read_all(&s, 1, &mem, &err);
        CHECK(c.live == 0, "%ld blocks leaked: %s", c.live, err.msg);
        CHECK(i > 2 || r, "read %ld gave other bytes and nobody noticed", i);
    }
    gb_free(&g);
}

/* -- split models -- */

typedef struct split { gb g[3]; gpti_source s[3]; } split;

static void split_make(split *p, int spoil) {
    int i;
    for (i = 0; i < 3; i++) {
        float x[4];
        char name[16];
        size_t n;
        const unsigned char *bytes;
        x[0] = x[1] = x[2] = x[3] = (float)i;
        gb_init(&p->g[i], 3, 0);
        if (i == 0) {
            gb_kv_str(&p->g[i], "general.architecture", "llama");
            gb_kv_u32(&p->g[i], "z.last", 42);
        }
        if (spoil != 1 || i != 2) gb_kv_uint(&p->g[i], "split.no", GB_U16, (uint64_t)(spoil == 2 ? 2 - i : i));
        gb_kv_uint(&p->g[i], "split.count", GB_U16, spoil == 3 ? 4 : 3);
        gb_kv_uint(&p->g[i], "split.tensors.count", GB_I32, spoil == 4 ? 4 : 3);
        if (spoil == 6 && i == 1) gb_kv_bool(&p->g[i], "split.no", 0);
        sprintf(name, "t%d", spoil == 5 ? i / 2 : 2 - i);
        gb_tensor_f32(&p->g[i], name, 1, 4, 1, x);
        bytes = gb_finish(&p->g[i], &n);
        gpti_source_memory(&p->s[i], bytes, n);
    }
}

static void test_split(void) {
    static const char *const messages[] = { "", "part 3 of 3: split.no: expected 2, file has 0", "part 3 of 3: split.no: expected 2, file has 0",
        "part 3 of 3: split.count: expected 3, file has 4", "split.tensors.count: expected the 3 tensors there are, file has 4",
        "t0: the tensor is there twice", "part 2 of 3: split.no: the key is there twice" };
    int spoil, i;
    for (spoil = 0; spoil < 7; spoil++) {
        split p;
        counter c;
        gpti_mem mem = counted(&c);
        gpti_gguf g;
        gpt_error err;
        gpt_result r;
        split_make(&p, spoil);
        err.msg[0] = 0;
        r = gpti_gguf_open(&g, p.s, 3, &mem, &err);
        if (spoil) CHECK(r == GPT_E_FORMAT && !strcmp(err.msg, messages[spoil]), "spoiled %d: %s", spoil, err.msg);
        else {
            uint32_t u = 0;
            unsigned char raw[16], want[3] = { 0x00, 0x80, 0x00 };      /* third byte of 0.0f, 1.0f, 2.0f */
            CHECK(!r && g.n_tensor == 3 && gpti_gguf_u32(&g, "z.last", &u) && u == 42, "split model: %s", err.msg);
            for (i = 0; i < 3 && !r; i++) {
                char name[16];
                const gpti_tensor *t;
                sprintf(name, "t%d", 2 - i);
                t = gpti_gguf_tensor(&g, name);
                CHECK(t && t->part == i && !gpti_gguf_read(&g, t, 0, raw, 16, &err) && raw[2] == want[i], "part %d", i);
            }
        }
        if (!r) gpti_gguf_close(&g, &mem);
        CHECK(c.live == 0, "%ld blocks leaked", c.live);
        if (!spoil) {
            CHECK(gpti_gguf_open(&g, p.s, 2, &mem, &err) == GPT_E_FORMAT &&
                  !strcmp(err.msg, "part 2 of 2: split.count: expected 2, file has 3"), "%s", err.msg);
            CHECK(gpti_gguf_open(&g, p.s, 1, &mem, NULL) == GPT_E_FORMAT, "a part alone");
        }
        for (i = 0; i < 3; i++) gb_free(&p.g[i]);
    }
}

/* -- size: far offsets, many names, long windows -- */

typedef struct far_file { const unsigned char *head; size_t n_head; uint64_t data; } far_file;

static size_t far_read(void *user, uint64_t offset, void *dst, size_t n) {      /* a head, then nothing but 7s */
    far_file *f = (far_file *)user;
    size_t i;
    for (i = 0; i < n; i++) ((unsigned char *)dst)[i] = offset + i < f->n_head ? f->head[offset + i] : (unsigned char)(offset + i >= f->data ? 7 : 0);
    return n;
}

static void test_far(void) {
    gb g;
    far_file f;
    gpt_reader r;
    gpti_source s;
    gpti_gguf m;
    gpti_mem mem;
    counter c;
    gpt_error err;
    unsigned char raw[16];
    const gpti_tensor *t;
    uint64_t far_off = (uint64_t)5 << 30;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", "llama");
    gb_info(&g, "far", GB_F32, 1, 4, 1, 1, 1, far_off);
    f.head = gb_finish(&g, &f.n_head);
    f.data = (f.n_head + 31) / 32 * 32 + far_off;
    r.read = far_read;
    r.user = &f;
    r.size = f.data + 16;
    gpti_source_reader(&s, &r);
    mem = counted(&c);
    err.msg[0] = 0;
    CHECK(!gpti_gguf_open(&m, &s, 1, &mem, &err), "%s", err.msg);
    t = gpti_gguf_tensor(&m, "far");
    CHECK(t && t->offset == f.data && !gpti_gguf_read(&m, t, 0, raw, 16, &err) && raw[0] == 7 && raw[15] == 7, "far tensor");
    gpti_gguf_close(&m, &mem);
    s.r.size--;
    CHECK(gpti_gguf_open(&m, &s, 1, &mem, &err) == GPT_E_FORMAT && strstr(err.msg, "far: 16 bytes of data at 5368709120"), "%s", err.msg);
    s.r.size = UINT64_MAX;
    CHECK(gpti_gguf_open(&m, &s, 1, &mem, &err) == GPT_E_FORMAT && strstr(err.msg, "2^63"), "%s", err.msg);
    gb_free(&g);
}

static void test_many(void) {
    enum { N = 20000 };
    gb g;
    counter c;
    gpti_mem mem = counted(&c);
    memory_file f;
    gpt_reader r;
    gpti_source s;
    gpti_gguf m;
    gpt_error err;
    gpti_str *words;
    char name[32];
    size_t n, i, wrong = 0;
    gb_init(&g, 3, 0);
    gb_kv_array(&g, "words", GB_STR, N);
    for (i = 0; i < N; i++) { sprintf(name, "w%lu", (unsigned long)i); gb_text(&g, &g.kv, name, i % 1000 ? strlen(name) : 1); }
    gb_kv_array(&g, "long", GB_STR, 1);
    gb_uint(&g, &g.kv, 10000, 8);
    for (i = 0; i < 10000; i++) gb_raw(&g.kv, "x", 1);
    for (i = 0; i < N; i++) { sprintf(name, "key.%lu", (unsigned long)(i * 7919 % N)); gb_kv_u32(&g, name, (uint32_t)(i * 7919 % N)); }
    for (i = 0; i < N; i++) { sprintf(name, "tensor.%lu", (unsigned long)(N - i)); gb_tensor(&g, name, GB_F32, 1, 1, 1, 1, 1, NULL, 4); }
    r = memory_reader(&f, gb_finish(&g, &n), 0);
    f.n = r.size = n;
    gpti_source_reader(&s, &r);
    err.msg[0] = 0;
    CHECK(!gpti_gguf_open(&m, &s, 1, &mem, &err), "%s", err.msg);
    for (i = 0; i < N; i++) {
        uint32_t u = 0;
        sprintf(name, "key.%lu", (unsigned long)i);
        wrong += !gpti_gguf_u32(&m, name, &u) || u != i;
        sprintf(name, "tensor.%lu", (unsigned long)i + 1);
        wrong += !gpti_gguf_tensor(&m, name);
    }
    CHECK(wrong == 0, "%lu names not found", (unsigned long)wrong);
    CHECK(!gpti_gguf_strings(&m, "words", &words, &n, &err) && n == N && is(words[N - 1], "w19999") && is(words[5000], "w"), "%s", err.msg);
    gpti_free(&mem, words);
    CHECK(!gpti_gguf_strings(&m, "long", &words, &n, &err) && n == 1 && words[0].n == 10000 && words[0].p[9999] == 'x', "%s", err.msg);
    gpti_free(&mem, words);
    gpti_gguf_close(&m, &mem);
    CHECK(c.live == 0, "%ld blocks leaked", c.live);
    gb_free(&g);
}

static void test_too_many(void) {
    enum { MANY = (1 << 17) + 1 };
    gb g;
    counter c;
    gpt_error err;
    size_t n, i;
    const unsigned char *p;
    gb_init(&g, 3, 0);
    for (i = 0; i < 33 * MANY / 11; i++) gb_raw(&g.kv, "12345678901", 11);
    g.n_kv = MANY;
    p = gb_finish(&g, &n);
    CHECK(try_open(p, n, 0, &err, &c) == GPT_E_UNSUPPORTED && strstr(err.msg, "131073 metadata pairs, at most 131072"), "%s", err.msg);
    g.n_kv = 0;
    g.n_tensor = MANY;
    p = gb_finish(&g, &n);
    CHECK(try_open(p, n, 0, &err, &c) == GPT_E_UNSUPPORTED && strstr(err.msg, "131073 tensors and 0"), "%s", err.msg);
    gb_free(&g);
}

static int byte_cmp(const void *a, const void *b, const void *ctx) {
    (void)ctx;
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

static void test_sort(void) {
    unsigned char a[3 * 64];
    uint32_t seed = 1;
    size_t n, i, bad = 0;
    for (n = 0; n <= 64; n++) {
        for (i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            a[3 * i] = (unsigned char)(seed >> 28);
            a[3 * i + 1] = a[3 * i + 2] = (unsigned char)(a[3 * i] + 1);
        }
        gpti_sort(a, n, 3, byte_cmp, NULL);
        for (i = 0; i < n; i++) bad += (i && a[3 * i] < a[3 * i - 3]) || a[3 * i + 1] != a[3 * i] + 1 || a[3 * i + 2] != a[3 * i] + 1;
    }
    CHECK(bad == 0, "%lu records out of order", (unsigned long)bad);
}

/* A number of each format in big-endian order must come out little-endian, everything else untouched. */
static void test_order(void) {
    size_t i, k;
    for (i = 0; i < GPTI_N_FORMAT; i++) {
        const gpti_format *fmt = &gpti_formats[i];
        const gpti_field *f;
        unsigned char block[512], raw[512];
        size_t moved = 0, numbers = 0;
        gpti_source s;
        gpti_tensor t;
        gpti_gguf g;
        gpt_error err;
        for (f = fmt->field; f->unit != 0; f++) if (f->unit == 2 || f->unit & GPTI_NUMBER) numbers += f->bytes;
        for (k = 0; k < fmt->block_bytes; k++) block[k] = (unsigned char)k;
        gpti_source_memory(&s, block, fmt->block_bytes);
        memset(&g, 0, sizeof g);
        memset(&t, 0, sizeof t);
        g.part = &s;
        t.fmt = fmt;
        t.big = 1;
        t.size = fmt->block_bytes;
        CHECK(!gpti_gguf_read(&g, &t, 0, raw, fmt->block_bytes, &err), "%s", fmt->name);
        for (k = 0; k < fmt->block_bytes; k++) moved += raw[k] != block[k];
        CHECK(moved == numbers, "%s: %lu bytes moved", fmt->name, (unsigned long)moved);
    }
}

static const char *program;     /* a file that is there, and no GGUF */
#ifndef GPT_NO_STDIO
static void test_program(void) { test_files(program); }
#endif

static const test tests[] = {
    { "whole", test_whole },
#ifndef GPT_NO_STDIO
    { "files", test_program }, { "split_names", test_split_names },
#endif
    { "bad", test_bad }, { "other_kinds", test_other_kinds }, { "truncated", test_truncated },
    { "mutated", test_mutated }, { "failures", test_failures }, { "split", test_split }, { "far", test_far },
    { "many", test_many }, { "too_many", test_too_many }, { "sort", test_sort }, { "order", test_order },
    { NULL, NULL }
};

int main(int argc, char **argv) {
    int i;
    if (argc == 3 && !strcmp(argv[1], "--write")) {
        for (i = 0; i < N_BAD_GGUF + 4; i++) {
            char path[1024];
            gb g;
            gb_init(&g, 3, 0);
            if (i < N_BAD_GGUF) bad_ggufs[i].make(&g);
            else { gb_free(&g); whole_file(&g, i & 1 ? 2 : 3, i & 2, 32); }
            sprintf(path, "%.900s/%s.gguf", argv[2], i < N_BAD_GGUF ? bad_ggufs[i].name : i & 1 ? i & 2 ? "good_v2_big" : "good_v2" : i & 2 ? "good_v3_big" : "good_v3");
            if (!gb_write(&g, path)) { fprintf(stderr, "cannot write %s\n", path); return 1; }
            gb_free(&g);
        }
        return 0;
    }
    program = argc > 0 ? argv[0] : "unit_gguf";
    test_run(tests, argc, argv);
    return test_report("unit_gguf");
}
