/* Fuzzer of the model file parser and of what reads adapters, for clang -fsanitize=fuzzer. Built without, it has a main
 * that replays the files it is given, and the files of bad/ and an adapter with a few thousand changes. Seeds: unit_gguf
 * --write DIR, tests/golden/lora. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything asked for at once must stay in proportion to the input; more is a bug like any other. */
typedef struct budget { size_t left; } budget;

enum { BEFORE = 64 };           /* a block's size lies before it */
static void *budget_alloc(void *user, size_t n) {
    budget *b = (budget *)user;
    char *p;
    if (n > b->left) abort();
    b->left -= n;
    p = (char *)malloc(n + BEFORE);
    if (!p) return NULL;
    memcpy(p, &n, sizeof n);
    return p + BEFORE;
}

static void budget_free(void *user, void *p) {
    size_t n;
    if (!p) return;
    memcpy(&n, (char *)p - BEFORE, sizeof n);
    ((budget *)user)->left += n;
    free((char *)p - BEFORE);
}

typedef struct input { const uint8_t *p; size_t n; } input;

static size_t read_bytes(void *user, uint64_t offset, void *dst, size_t n) {
    const input *b = (const input *)user;
    if (offset > b->n || n > b->n - offset) abort();        /* the loader never asks for what is not there */
    memcpy(dst, b->p + offset, n);
    return n;
}

static void ask_everything(const gpti_gguf *g) {
    size_t i, k, n;
    for (i = 0; i < g->n_pair; i++) {
        char key[256];
        uint32_t u;
        float f;
        int b;
        gpti_str s, *strings;
        float *floats;
        int32_t *ints;
        if (g->pair[i].key.n >= sizeof key || memchr(g->pair[i].key.p, 0, g->pair[i].key.n)) continue;
        memcpy(key, g->pair[i].key.p, g->pair[i].key.n);
        key[g->pair[i].key.n] = 0;
        if (gpti_gguf_find(g, key) != &g->pair[i]) abort();
        gpti_gguf_u32(g, key, &u);
        gpti_gguf_u32_at(g, key, 1, &u);
        gpti_gguf_f32(g, key, &f);
        gpti_gguf_bool(g, key, &b);
        gpti_gguf_str(g, key, &s);
        if (!gpti_gguf_strings(g, key, &strings, &n, NULL))
            for (k = 0; k < n; k++) if (strings[k].n && strings[k].p[strings[k].n - 1] == 127) u = 0;
        gpti_free(g->mem, strings);
        gpti_gguf_f32s(g, key, &floats, &n, NULL);
        gpti_free(g->mem, floats);
        gpti_gguf_i32s(g, key, &ints, &n, NULL);
        gpti_free(g->mem, ints);
    }
    for (i = 0; i < g->n_tensor; i++) {
        const gpti_tensor *t = &g->tensor[i];
        size_t n_row = (size_t)(t->size / ((uint64_t)t->ne[0] / t->fmt->block_len * t->fmt->block_bytes));
        if (n_row != t->ne[1] * t->ne[2] * t->ne[3]) abort();
        {
            void *data = malloc((size_t)t->size);
            if (!data || gpti_gguf_read(g, t, 0, data, (size_t)t->size, NULL)) abort();
            free(data);
        }
    }
}

/* The bytes as an adapter of a toy: refused with nothing left behind, or it computes. */
static budget base_budget;
static gpt_model *base;
static int as_adapter(const uint8_t *data, size_t size) {
    gpt_adapter *a = NULL;
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_reader reader;
    gpt_error err;
    const gpt_token ids[4] = { 5, 6, 7, 5 };
    gpt_model_params mp;
    memset(&mp, 0, sizeof mp);
    mp.alloc.alloc = budget_alloc; mp.alloc.free = budget_free; mp.alloc.user = &base_budget;
    base_budget.left = (size_t)64 << 20;
    if (!base && gpt_model_load(&base, "tests/golden/model/mixtral.gguf", &mp, &err)) { fprintf(stderr, "%s\n", err.msg); abort(); }
    base_budget.left = ((size_t)1 << 20) + 200 * size;
    memset(&reader, 0, sizeof reader);
    reader.user = (void *)data; reader.size = size;
    if (gpt_adapter_load_reader(&a, base, &reader, &err)) {
        if (a || !is_message(err.msg)) abort();
        return 0;
    }
    base_budget.left = (size_t)64 << 20;
    memset(&p, 0, sizeof p);
    p.n_ctx = 8; p.n_batch = 3; p.n_threads = 1; p.adapter = a;
    if (gpt_session_new(&s, base, &p, &err) || gpt_eval(s, ids, 4, &err) || !gpt_logits(s)) abort();
    gpt_session_free(s);
    gpt_adapter_free(a);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int by_reader;
    for (by_reader = 0; by_reader < 2; by_reader++) {
        budget b;
        input user;
        gpti_mem mem;
        gpt_reader reader;
        gpti_source s;
        gpti_gguf g;
        gpt_error err;
        b.left = 65536 + 200 * size;
        mem.alloc = budget_alloc;
        mem.free = budget_free;
        mem.user = &b;
        user.p = data;
        user.n = size;
        reader.read = read_bytes;
        reader.user = &user;
        reader.size = size;
        gpti_source_memory(&s, data, size);
        if (by_reader) gpti_source_reader(&s, &reader);
        err.msg[0] = 0;
        if (!gpti_gguf_open(&g, &s, 1, &mem, &err)) ask_everything(&g);
        else if (!is_message(err.msg)) abort();
        gpti_gguf_close(&g, &mem);
    }
    as_adapter(data, size);
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"
#include "gguf_builder.h"
#include "bad/gguf_cases.h"

static void replay_changed(gb *g, int n_change) {
    size_t n;
    int i, k;
    gb_finish(g, &n);
    for (i = 0; i < n_change; i++) {                /* up to four bytes at once, some of them to edge values */
        uint8_t *p = (uint8_t *)malloc(n);
        memcpy(p, g->file.p, n);
        for (k = 0; k <= i % 5 && i; k++) {
            const size_t at = next() % n;
            p[at] = (uint8_t)(next() & 1 ? next() : (next() & 1) * 255);
        }
        LLVMFuzzerTestOneInput(p, i % 7 == 6 ? next() % n : n);
        test_passed++;
        free(p);
    }
    gb_free(g);
}

static void replay_adapter(void) {
    static const char path[] = "tests/golden/lora/mixtral.gguf";
    size_t n, i, k, n_good = 0;
    uint8_t *p = read_whole(path, &n), *q;
    if (!p) return;
    q = (uint8_t *)malloc(n);
    CHECK(as_adapter(p, n), "%s is refused", path);
    for (i = 0; i < 3000 && q; i++) {               /* of its head, where names and extents are, and of its numbers */
        memcpy(q, p, n);
        for (k = 0; k <= i % 3; k++) q[next() % (i % 4 ? 2600 : n)] ^= (uint8_t)(1u << next() % 8);
        n_good += (size_t)as_adapter(q, n);
    }
    CHECK(n_good > 100 && n_good < 2900, "%u of 3000 load", (unsigned)n_good);
    free(p);
    free(q);
}

int main(int argc, char **argv) {
    gb g;
    int i;
    replay_adapter();
    for (i = 1; i < argc; i++) replay(argv[i], 0);
    for (i = 0; i < N_BAD_GGUF; i++) {
        gb_init(&g, 3, i & 1);
        bad_ggufs[i].make(&g);
        replay_changed(&g, 100);
    }
    for (i = 0; i < 2; i++) {
        whole_file(&g, 3, i, 32);
        replay_changed(&g, 5000);
    }
    return test_report("fuzz_gguf");
}
#endif
