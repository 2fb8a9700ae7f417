/* Fuzzer of everything between a model file and its text: load, eval, sample, generate; for clang -fsanitize=fuzzer,
 * with tests/golden/model/ as seeds. Built without, it has a main that replays the files it is given and a few hundred
 * changed toy models. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Loading may hold memory in proportion to the input: more than that, or memory left behind, is a bug. A session may be
 * refused memory. What is handed out is filled with a byte, so that a result that depends on memory nobody wrote shows
 * as a difference between two runs with different bytes. */
typedef struct budget { size_t left, live; int fill, loading; } budget;

enum { BEFORE = 64 };           /* a block's size lies before it */
static void *budget_alloc(void *user, size_t n) {
    budget *b = (budget *)user;
    char *p;
    if (n > b->left) {
        if (b->loading) abort();
        return NULL;
    }
    p = (char *)malloc(n + BEFORE);
    if (!p) return NULL;
    b->left -= n;
    b->live++;
    memcpy(p, &n, sizeof n);
    memset(p + BEFORE, b->fill, n);
    return p + BEFORE;
}

static void budget_free(void *user, void *p) {
    budget *b = (budget *)user;
    size_t n;
    if (!p) return;
    memcpy(&n, (char *)p - BEFORE, sizeof n);
    b->left += n;
    b->live--;
    free((char *)p - BEFORE);
}

typedef struct run_result { int loaded, evaluated; size_t n_vocab, n_text; gpt_token id[4]; float *logits; } run_result;

static int count_text(void *user, const char *text, size_t n) {
    size_t *all = (size_t *)user;
    if (n == 0 || !text) abort();
    *all += n;
    return 0;
}

static void use_session(gpt_session *s, size_t n_vocab, run_result *out) {
    gpt_generate_params g;
    gpt_session_info info;
    gpt_error err;
    gpt_token ids[3];
    size_t i, n;
    for (i = 0; i < 3; i++) ids[i] = (gpt_token)(i * 7 % n_vocab);
    if (s->m->hp.n_encoder) ids[1] = (gpt_token)s->m->hp.start;
    if (!s->m->hp.causal) {             /* it reads, it does not write: in place of logits, n_vocab of its hidden states' numbers */
        gpt_eval_params p;
        float *x = (float *)calloc(3 * (size_t)s->m->hp.d_model + n_vocab, sizeof(float));
        memset(&p, 0, sizeof p);
        p.hidden = out->logits = x; p.embedding = x + 2 * s->m->hp.d_model; p.pool = GPT_POOL_MEAN; p.raw = 1;
        if (!x || gpt_eval_begin(s, ids, 2, &p, &err)) abort();
        while (gpt_step(s, &err) == GPT_MORE) {}
        out->evaluated = 1;
        if (gpt_eval(s, ids, 1, &err) != GPT_E_STATE || gpt_generate(s, "", NULL, NULL, NULL, &err) != GPT_E_UNSUPPORTED) abort();
        gpt_session_reset(s);
        if (gpt_embed(s, "ab\xFF \xE2\x82\xAC", NULL, (float *)memset(x + 2 * s->m->hp.d_model, 0, s->m->hp.d_model * 4), &err)
            && !err.msg[0]) abort();
        memset(x + 2 * s->m->hp.d_model, 0, s->m->hp.d_model * 4);
        return;
    }
    if (gpt_eval(s, ids, 2, &err) || gpt_eval(s, ids + 2, 1, &err) || !gpt_logits(s)) abort();
    out->evaluated = 1;
    out->logits = (float *)malloc(n_vocab * sizeof(float));
    if (!out->logits) abort();
    memcpy(out->logits, gpt_logits(s), n_vocab * sizeof(float));
    memset(&g, 0, sizeof g);
    g.sample.temperature = 1.0f;
    g.sample.top_p = 0.9f;
    g.max_tokens = 3;
    if (gpt_generate(s, "", &g, count_text, &out->n_text, &err)) abort();
    gpt_session_info_get(s, &info);
    gpt_session_tokens(s, &n);
    if (n > info.n_ctx || info.n_generated > 3) abort();
    for (i = 0; i < info.n_generated && i < 3; i++) {
        out->id[i] = gpt_session_tokens(s, NULL)[3 + i];
        if (out->id[i] < 0 || (size_t)out->id[i] >= n_vocab) abort();
    }
    gpt_session_reset(s);
    if (!gpt_generate(s, "ab\xFF \xE2\x82\xAC", &g, count_text, &n, &err)) gpt_session_info_get(s, &info);
    else if (!err.msg[0]) abort();
}

/* Sessions are in proportion to the file, and the header alone gives the same sizes. */
static void check_sizes(const gpt_model *m, const uint8_t *data, size_t size, gpt_model_params *p, size_t seed) {
    gpt_session_params sp;
    gpt_model *head = NULL;
    gpt_error err;
    size_t n;
    memset(&sp, 0, sizeof sp);
    sp.n_threads = 1;
    sp.n_batch = (uint32_t)(seed % 3 * 100);
    sp.n_ctx = seed % 2 ? 0 : 1000;
    sp.beyond_training = seed % 3 != 0;
    sp.kv = (gpt_kv)(seed % 4);
    n = gpt_session_bytes(m, &sp);
    if ((double)n > session_bound(m, size, &sp)) abort();
    p->header_only = 1;
    if (gpt_model_load_memory(&head, data, size, p, &err) || gpt_session_bytes(head, &sp) != n) abort();
    gpt_model_free(head);
}

static run_result run_once(const uint8_t *data, size_t size, int mapped) {
    gpt_model_params p;
    gpt_session_params sp;
    gpt_model *m = NULL;
    gpt_session *s = NULL;
    gpt_model_info info;
    gpt_error err;
    budget b;
    run_result r;
    memset(&r, 0, sizeof r);
    memset(&p, 0, sizeof p);
    memset(&sp, 0, sizeof sp);
    b.left = ((size_t)4 << 20) + 100 * size;
    b.live = 0;
    b.fill = mapped ? 0 : 0xFF;
    b.loading = 1;
    p.alloc.alloc = budget_alloc;
    p.alloc.free = budget_free;
    p.alloc.user = &b;
    p.mapped = mapped;
    p.n_threads = 1;
    sp.n_ctx = 8;
    sp.n_batch = 2;
    sp.n_threads = 1;
    sp.kv = (gpt_kv)(size % 4);
    if (gpt_model_load_memory(&m, data, size, &p, &err) == GPT_OK) {
        r.loaded = 1;
        b.loading = 0;
        b.left = (size_t)64 << 20;
        gpt_model_info_get(m, &info);
        r.n_vocab = info.n_vocab;
        check_sizes(m, data, size, &p, size);
        if (gpt_session_new(&s, m, &sp, &err) == GPT_OK) use_session(s, r.n_vocab, &r);
        else if (s || !err.msg[0]) abort();
        gpt_session_free(s);
        gpt_model_free(m);
    } else if (m || !is_message(err.msg) || err.code == GPT_OK) abort();
    if (b.live) abort();
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run_result a, b;
    size_t i;
    if (!size) return 0;
    a = run_once(data, size, 0);
    b = run_once(data, size, 1 + (data[size / 2] & 1));
    if (a.loaded != b.loaded || a.evaluated != b.evaluated || a.n_vocab != b.n_vocab) abort();
    for (i = 0; a.evaluated && i < a.n_vocab; i++)      /* the same bits, but there are many kinds of NaN */
        if (memcmp(a.logits + i, b.logits + i, 4) && (a.logits[i] == a.logits[i] || b.logits[i] == b.logits[i])) abort();
    if (memcmp(a.id, b.id, sizeof a.id)) abort();
    free(a.logits);
    free(b.logits);
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

/* Bytes of the header, where the meaning is, and of the data in turn; some of them to edge values. */
static void replay_changed(const uint8_t *file, size_t n, int n_change) {
    size_t head = n < 4096 ? n : 4096;
    uint8_t *p = (uint8_t *)malloc(n);
    int i, k;
    if (!p) return;
    for (i = 0; i < n_change; i++) {
        memcpy(p, file, n);
        for (k = 0; k <= i % 4; k++) {
            size_t at = next() % (i % 3 ? head : n);
            p[at] = (uint8_t)(next() & 1 ? next() : (next() & 1) * 255);
        }
        LLVMFuzzerTestOneInput(p, i % 9 == 8 ? next() % n + 1 : n);
        test_passed++;
    }
    free(p);
}

int main(int argc, char **argv) {
    static const char *const toys[] = { "gpt2", "llama", "mixtral", "qwen2moe", "gemma3", "gpt_oss", "phi3_long", "gptneox", "olmo2",
                                        "falcon_11b", "stablelm_12b", "bloom", "llama_q_mix", "llama_k_mix", "llama_few_bits", "llama_grids", "gpt_oss_mxfp4", "lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen3next_cpp", "granitehybrid_cpp", "mamba2_cpp", "nemotron_h_cpp", "nemotron_h_moe_cpp", "falcon_h1_norm_cpp", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp", "gemma3n_cpp", "granitemoe_shared_cpp", "mistral3_cpp", "apertus_cpp", "llama4_cpp", "t5_cpp", "t5_first_cpp", "smallthinker_cpp", "deepseek2_lite_cpp", "deepseek2_v3_cpp",
                                        "../embed/bert", "../embed/nomic_cpp", "../embed/gemma" };
    char path[256];
    uint8_t *p;
    size_t i, n;
    for (i = 1; i < (size_t)argc; i++) replay(argv[i], 0);
    for (i = 0; i < sizeof toys / sizeof toys[0]; i++) {
        snprintf(path, sizeof path, "tests/golden/model/%s.gguf", toys[i]);
        p = read_whole(path, &n);
        if (!p) continue;
        LLVMFuzzerTestOneInput(p, n);
        replay_changed(p, n, 40);
        free(p);
    }
    return test_report("fuzz_model");
}
#endif
