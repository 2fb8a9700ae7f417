/* Fuzzer of gpt_session_restore and of what computes from there; for clang -fsanitize=fuzzer. The first byte of an input says
 * which model, cache and reader; the second, whether the rest is a save itself, or changes to a sound one that is made here: a
 * length to cut it to, then places and bytes; and whether its length and checksum are put right, so that what comes before
 * them is believed. Built without, it has a main that replays the files it is given,
 * every length of small saves and thousands of changed ones. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOY = 6, N_KV = 3, N_KIND = 4, N_CTX = 48, N_TEXT = 21, ROOM = 1 << 20 };
static const char *const toys[N_TOY] = { "llama", "gemma3", "gpt_oss", "qwen2moe", "phi3_long", "llama_q4_0" };

/* A restored session takes no memory but what it was made with. */
static size_t n_alloc;
static void *count_alloc(void *user, size_t n) {
    void *p = malloc(n);
    (void)user;
    n_alloc++;
    if (p) memset(p, 0xA5, n);
    return p;
}
static void count_free(void *user, void *p) { (void)user; free(p); }

typedef struct sound { unsigned char *p; size_t n; } sound;     /* a save as it should be */
typedef struct target {             /* sessions of one model and cache */
    gpt_session *s, *fresh;         /* fresh: to compare with */
    sound        save[N_KIND];      /* tokens; cache; in the middle of a generation; of an empty text */
} target;

static gpt_model *models[N_TOY];
static target     targets[N_TOY][N_KV];

static gpt_token some_id(size_t i, size_t n) { return (gpt_token)((i * i * 7 + 3 * i + 1) % n); }

static gpt_session *session(const gpt_model *m, int kv) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    p.n_ctx = N_CTX; p.n_batch = 8; p.n_threads = 1; p.kv = (gpt_kv)kv;
    if (gpt_session_new(&s, m, &p, &err)) { fprintf(stderr, "fuzz_save: %s\n", err.msg); abort(); }
    return s;
}

static gpt_generate_params writing(void) {
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.max_tokens = 6; g.ignore_end = 1;
    g.sample.temperature = 1.0f; g.sample.top_p = 0.9f; g.sample.seed = 3;
    return g;
}

static void save(const gpt_session *s, int what, sound *out) {
    gpt_writer w;
    memset(&w, 0, sizeof w);
    out->n = gpt_session_save_bytes(s, what);
    out->p = (unsigned char *)malloc(out->n);
    w.user = out->p; w.size = out->n;
    if (!out->p || !out->n || gpt_session_save(s, what, &w, NULL)) abort();
}

static target *target_of(size_t toy, int kv) {
    target *t = &targets[toy][kv];
    gpt_generate_params g = writing();
    gpt_model_info info;
    gpt_token ids[N_TEXT];
    size_t i;
    if (t->s) return t;
    if (!models[toy]) {
        gpt_model_params mp;
        gpt_error err;
        char path[128];
        memset(&mp, 0, sizeof mp);
        mp.alloc.alloc = count_alloc; mp.alloc.free = count_free; mp.n_threads = 1;
        snprintf(path, sizeof path, "tests/golden/model/%s.gguf", toys[toy]);
        if (gpt_model_load(&models[toy], path, &mp, &err)) { fprintf(stderr, "fuzz_save: %s\n", err.msg); abort(); }
    }
    gpt_model_info_get(models[toy], &info);
    for (i = 0; i < N_TEXT; i++) ids[i] = some_id(i, info.n_vocab);
    t->s = session(models[toy], kv);
    t->fresh = session(models[toy], kv);
    save(t->s, GPT_SAVE_CACHE, &t->save[3]);
    if (gpt_eval(t->s, ids, N_TEXT, NULL)) abort();
    save(t->s, GPT_SAVE_TOKENS, &t->save[0]);
    save(t->s, GPT_SAVE_CACHE, &t->save[1]);
    if (gpt_begin(t->s, "", &g, NULL, NULL, NULL) || gpt_step(t->s, NULL) < 0 || gpt_step(t->s, NULL) < 0) abort();
    save(t->s, GPT_SAVE_CACHE, &t->save[2]);
    return t;
}

typedef struct bytes { const uint8_t *p; size_t n; } bytes;
static size_t read_bytes(void *user, uint64_t offset, void *dst, size_t n) {
    const bytes *b = (const bytes *)user;
    if (offset > b->n) return 0;
    if (n > b->n - (size_t)offset) n = b->n - (size_t)offset;
    memcpy(dst, b->p + offset, n);
    return n;
}

/* 1 = restored */
static int restore(target *t, size_t n_vocab, const uint8_t *data, size_t n, int with_reader) {
    gpt_generate_params g = writing();
    gpt_session_info info;
    gpt_reader r;
    gpt_error err;
    bytes b;
    gpt_token ids[3];
    const gpt_token *text;
    size_t i, n_text, before = n_alloc;
    gpt_result code;
    b.p = data; b.n = n;
    memset(&r, 0, sizeof r);
    r.size = n;
    if (with_reader) { r.read = read_bytes; r.user = &b; }
    else r.user = (void *)(size_t)data;
    gpt_end(t->s);
    code = gpt_session_restore(t->s, &r, &err);
    text = gpt_session_tokens(t->s, &n_text);
    gpt_session_info_get(t->s, &info);
    if (n_alloc != before || code > 0 || err.code != code) abort();
    if (code ? n_text != 0 || !is_message(err.msg) : n_text > N_CTX || err.msg[0] != 0) abort();
    for (i = 0; i < n_text; i++) if (text[i] < 0 || (size_t)text[i] >= n_vocab) abort();
    if (info.n_computed > n_text || info.n_token != n_text) abort();
    for (i = 0; i < 3; i++) ids[i] = some_id(i + 9, n_vocab);
    if (code) {                                 /* an empty text, as good as any */
        if (info.result == GPT_MORE || gpt_eval(t->s, ids, 3, &err)) abort();
        gpt_session_reset(t->fresh);
        if (gpt_eval(t->fresh, ids, 3, &err) || memcmp(gpt_logits(t->s), gpt_logits(t->fresh), n_vocab * sizeof(float))) abort();
        return 0;
    }
    if (info.result == GPT_MORE) {              /* what was under way goes on */
        if (gpt_resume(t->s, &g, NULL, NULL, &err) && !is_message(err.msg)) abort();
        for (i = 0; i < 10 && (code = gpt_step(t->s, &err)) == GPT_MORE; i++) {}
        gpt_end(t->s);
    }
    gpt_session_tokens(t->s, &n_text);
    if (n_text && gpt_eval(t->s, NULL, 0, &err)) abort();
    if (n_text + 3 <= N_CTX && gpt_eval(t->s, ids, 3, &err)) abort();
    g.max_tokens = 3;
    if (gpt_generate(t->s, "", &g, NULL, NULL, &err) && !is_message(err.msg)) abort();
    if (gpt_session_rewind(t->s, n_text / 2, &err) || gpt_eval(t->s, NULL, 0, &err)) abort();
    return 1;
}

static void put_u64(uint8_t *p, uint64_t v) { int i; for (i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i); }

/* The length and the checksum of p[n] put right, as far as it can be read at all. The new length. */
static size_t mend(gpt_session *s, uint8_t *p, size_t n) {
    int round;
    for (round = 0; round < 2 && n >= 32; round++) {    /* the length is part of what is summed */
        gpti_save f;
        gpti_cursor c;
        gpti_source source;
        gpti_generation g;
        uint64_t size = 0;
        size_t row;
        int what = 0;
        put_u64(p + 16, n);
        memset(&f, 0, sizeof f);
        memset(&g, 0, sizeof g);
        gpti_source_memory(&source, p, n);
        gpti_cursor_init(&c, &source, "save", NULL);
        f.c = &c;
        gpt_session_reset(s);
        if (gpti_save_head(&f, s, &what, &size) && gpti_save_text(&f, s, what)) {
            gpti_save_generation(&f, &g);
            gpti_save_size(&f, 0, 1);
            row = gpti_save_size(&f, 0, 1);
            if (row && s->logits) gpti_save_words(&f, s->logits, s->m->hp.n_vocab);
        }
        gpt_session_reset(s);
        if (f.fail || f.n + 8 > ROOM) return n;
        if (n == (size_t)f.n + 8) put_u64(p + f.n, f.sum);
        n = (size_t)f.n + 8;
    }
    return n;
}

static unsigned restored;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t changed[ROOM];
    const size_t toy = size ? data[0] % N_TOY : 0;
    const int kv = size ? data[0] / N_TOY % N_KV : 0, with_reader = size && data[0] / N_TOY / N_KV & 1;
    gpt_model_info info;
    target *t;
    size_t n, i;
    if (size < 2) return 0;
    t = target_of(toy, kv);
    gpt_model_info_get(models[toy], &info);
    if (data[1] & 1) {
        n = size - 2 < ROOM ? size - 2 : (size_t)ROOM;
        memcpy(changed, data + 2, n);
        if (data[1] & 64) n = mend(t->s, changed, n);
        restored += (unsigned)restore(t, info.n_vocab, changed, n, with_reader);
        return 0;
    }
    {
        const sound *from = &t->save[data[1] / 2 % N_KIND];
        n = from->n;
        if (n > ROOM) abort();
        memcpy(changed, from->p, n);
        if (size >= 5 && data[2] & 1) n = ((size_t)data[3] | (size_t)data[4] << 8) % (n + 1);
        for (i = 5; i + 4 <= size; i += 4) {    /* the head more often than the rest */
            size_t at = (size_t)data[i] | (size_t)data[i + 1] << 8;
            if (!(data[i + 2] & 3)) at = from->n > 65536 ? at * (from->n / 65536) : at;
            else at &= 255;
            changed[at % from->n] = data[i + 3];
        }
        if (data[1] & 64) n = mend(t->s, changed, n);
        restored += (unsigned)restore(t, info.n_vocab, changed, n, with_reader);
    }
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

int main(int argc, char **argv) {
    gpt_model_info info;
    size_t toy, i, n;
    int kv, kind;
    for (kv = 1; kv < argc; kv++) replay(argv[kv], 0);
    for (toy = 0; toy < N_TOY; toy++) for (kv = 0; kv < N_KV; kv++) {
        target *t = target_of(toy, kv), *other = target_of((toy + 1) % N_TOY, kv), *as = target_of(toy, (kv + 1) % N_KV);
        gpt_model_info_get(models[toy], &info);
        for (kind = 0; kind < N_KIND; kind++) {
            CHECK(restore(t, info.n_vocab, t->save[kind].p, t->save[kind].n, kind & 1), "%s, kv %d: a sound save %d is refused", toys[toy], kv, kind);
            CHECK(!restore(t, info.n_vocab, other->save[kind].p, other->save[kind].n, 0), "%s, kv %d: a save %d of another model is taken", toys[toy], kv, kind);
            if (kind) restore(t, info.n_vocab, as->save[kind].p, as->save[kind].n, 0);
        }
        for (kind = 0; kind < N_KIND; kind++) { /* cut: every length of the head, some of the rest */
            for (n = 0; n < t->save[kind].n; n += n < 200 ? 1 : 1 + next() % (1 + t->save[kind].n / 50)) {
                uint8_t *copy = (uint8_t *)malloc(n + 1);       /* exactly as long: reading beyond shows */
                if (!copy) return 1;
                memcpy(copy, t->save[kind].p, n);
                CHECK(!restore(t, info.n_vocab, copy, n, (int)(n & 1)), "%s, kv %d: %u of %u bytes are taken", toys[toy], kv, (unsigned)n, (unsigned)t->save[kind].n);
                free(copy);
            }
        }
        for (i = 0; i < 400; i++) {
            uint8_t in[64];
            for (n = 0; n < sizeof in; n++) in[n] = (uint8_t)next();
            in[0] = (uint8_t)(toy + N_TOY * (size_t)kv + (i & 1 ? N_TOY * N_KV : 0));
            if (i % 50) in[1] &= 0xFE;
            if (i % 8) in[2] &= 0xFE;
            if (i % 4) in[1] |= 64;
            LLVMFuzzerTestOneInput(in, i % 3 ? 9 : 5 + 4 * (next() % 14));
            test_passed++;
        }
    }
    printf("fuzz_save: %u inputs were restored\n", restored);
    for (toy = 0; toy < N_TOY; toy++) {
        for (kv = 0; kv < N_KV; kv++) {
            gpt_session_free(targets[toy][kv].s);
            gpt_session_free(targets[toy][kv].fresh);
            for (kind = 0; kind < N_KIND; kind++) free(targets[toy][kv].save[kind].p);
        }
        gpt_model_free(models[toy]);
    }
    return test_report("fuzz_save");
}
#endif
