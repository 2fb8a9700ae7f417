/* Several calls are one text, and a session's text is what the host saw: random histories of prompts, stop strings, limits,
 * refusals, cancels and rewinds end with tokens whose text is what the callback was given, byte for byte. The models are
 * random, so they write control tokens, halves of characters and bytes that begin none. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

enum { N_CTX = 120, ROOM = 1 << 14 };

static uint32_t seed = 1;
static uint32_t below(uint32_t n) { seed = seed * 1664525u + 1013904223u; return (uint32_t)(((uint64_t)seed * n) >> 32); }

/* ---- Models -------------------------------------------------------------------------------------------------------- */

enum { D = 32, FF = 40 };

/* kind 0: byte-level BPE; 1: SentencePiece; 2: the same with sliding windows of 8 tokens; 3: layer 0 a short convolution of 3;
 * 4: layer 0 a gated delta net */
static gpt_model *model(int kind) {
    /* bits: kinds 0 to 2, layers 1 and 0 of kinds 3 and 4. d1 is 1: the name as it is, without .weight */
    enum { ALL = 127, ATT = 47, Q = 15, Q_GATE = 32, FFN_NORM = 31, POST = 100, WINDOW = 4, NORMS = 44, CONV = 16, DELTA = 64 };
    static const struct { const char *name; uint64_t d0, d1; int has; } t[] = { { "attn_norm", D, 0, ALL }, { "ffn_norm", D, 0, FFN_NORM },
        { "attn_q", D, 32, Q }, { "attn_q", D, 64, Q_GATE }, { "attn_k", D, 16, ATT }, { "attn_v", D, 16, ATT }, { "attn_output", 32, D, ATT },
        { "ffn_gate", D, FF, ALL }, { "ffn_up", D, FF, ALL }, { "ffn_down", FF, D, ALL }, { "attn_q_norm", 8, 0, NORMS },
        { "attn_k_norm", 8, 0, NORMS }, { "post_attention_norm", D, 0, POST }, { "post_ffw_norm", D, 0, WINDOW },
        { "shortconv.in_proj", D, 96, CONV }, { "shortconv.conv", 3, D, CONV }, { "shortconv.out_proj", D, D, CONV },
        { "attn_qkv", D, 64, DELTA }, { "attn_gate", D, 32, DELTA }, { "ssm_beta", D, 4, DELTA }, { "ssm_alpha", D, 4, DELTA },
        { "ssm_a", 4, 1, DELTA }, { "ssm_dt.bias", 4, 1, DELTA }, { "ssm_conv1d", 4, 64, DELTA }, { "ssm_norm", 8, 0, DELTA },
        { "ssm_out", 32, D, DELTA } };
    const char *arch = kind == 4 ? "qwen35" : kind == 3 ? "lfm2" : kind == 2 ? "gemma3" : "llama";
    unsigned n_vocab;
    gpt_model_params p;
    gpt_model *m = NULL;
    gpt_error err;
    const unsigned char *file;
    char name[64];
    static float w[300 * D];
    size_t n, i, k;
    gb g;
    memset(&p, 0, sizeof p);
    p.n_threads = 1;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", arch);
#define KEY(key) (snprintf(name, sizeof name, "%s.%s", arch, key), name)
    gb_kv_u32(&g, KEY("block_count"), 2);
    gb_kv_u32(&g, KEY("context_length"), 256);
    gb_kv_u32(&g, KEY("embedding_length"), D);
    gb_kv_u32(&g, KEY("feed_forward_length"), FF);
    gb_kv_u32(&g, KEY("attention.head_count"), 4);
    if (kind == 4) {
        gb_kv_u32(&g, KEY("ssm.conv_kernel"), 4); gb_kv_u32(&g, KEY("ssm.state_size"), 8); gb_kv_u32(&g, KEY("ssm.inner_size"), 32);
        gb_kv_u32(&g, KEY("ssm.group_count"), 2); gb_kv_u32(&g, KEY("ssm.time_step_rank"), 4);
        gb_kv_u32(&g, KEY("full_attention_interval"), 2);
    }
    if (kind != 3) gb_kv_u32(&g, KEY("attention.head_count_kv"), 2);
    else {
        gb_kv_array(&g, KEY("attention.head_count_kv"), GB_U32, 2);
        gb_uint(&g, &g.kv, 0, 4); gb_uint(&g, &g.kv, 2, 4);
        gb_kv_u32(&g, KEY("shortconv.l_cache"), 3);
    }
    gb_kv_f32(&g, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    if (kind == 2) gb_kv_u32(&g, KEY("attention.sliding_window"), 8);
    n_vocab = gb_toy_vocabulary(&g, kind != 0);
    for (i = 0; i < sizeof w / sizeof *w; i++) w[i] = (float)((double)below(2001) / 1000.0 - 1.0);
    gb_tensor_f32(&g, "token_embd.weight", 2, D, n_vocab, w);
    for (i = 0; i < D; i++) w[i] = 1.0f;
    gb_tensor_f32(&g, kind == 3 ? "token_embd_norm.weight" : "output_norm.weight", 1, D, 0, w);
    for (i = 0; i < 2; i++) for (k = 0; k < sizeof t / sizeof *t; k++) {
        if (!(t[k].has >> (kind < 3 ? kind : 2 * kind - 3 + !i) & 1)) continue;
        snprintf(name, sizeof name, "blk.%u.%s%s", (unsigned)i, t[k].name, t[k].d1 == 1 ? "" : ".weight");
        for (n = 0; n < t[k].d0 * (t[k].d1 ? t[k].d1 : 1); n++)
            w[n] = t[k].d1 ? (float)((double)below(2001) / 2000.0 - 0.5) : 1.0f;
        gb_tensor_f32(&g, name, t[k].d1 > 1 ? 2 : 1, t[k].d0, t[k].d1, w);
    }
    file = gb_finish(&g, &n);
    CHECK(gpt_model_load_memory(&m, file, n, &p, &err) == GPT_OK, "kind %d: %s", kind, err.msg);
    gb_free(&g);
    return m;
}

/* ---- What the host saw --------------------------------------------------------------------------------------------- */

typedef struct host {
    char   text[ROOM];
    size_t n, refuse, polls;            /* refuse: the call that returns 1; polls: until the hook says cancel; 0 = never  */
} host;

static host saw;

static int take(void *user, const char *text, size_t n) {
    host *h = (host *)user;
    memcpy(h->text + h->n, text, n);
    h->n += n;
    return h->refuse && --h->refuse == 0;
}

static gpt_poll ask(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    host *h = (host *)user;
    return h->polls && --h->polls == 0 ? GPT_CANCEL : GPT_GO;
}

/* Raw bytes as the host sees them, U+FFFD for what is no character; over = 0: a last one that is not whole is not seen yet. */
static size_t seen(const char *raw, size_t n, int over, char *out) {
    gpti_stream st;
    host h;
    gpti_stream_init(&st, NULL, 0);
    h.n = h.refuse = 0;
    gpti_stream_push(&st, raw, n, take, &h);
    gpti_stream_finish(&st, over, take, &h);
    memcpy(out, h.text, h.n);
    return h.n;
}

static size_t text_of(const gpt_model *m, gpt_session *s, size_t n, char *out) {
    return gpt_detokenize(m, gpt_session_tokens(s, NULL), n, 0, out, ROOM);
}

/* 0 when the text ends in half of a character that the host has seen as U+FFFD: nothing can be said of what follows. */
static int compare(const gpt_model *m, gpt_session *s, const char *after, unsigned round, int held) {
    const int over = s->gen->stream.state != GPTI_STREAM_GO || !s->gen->stream.need;
    static char raw[ROOM], want[ROOM];
    size_t n_token, n, k;
    gpt_session_tokens(s, &n_token);
    n = text_of(m, s, n_token, raw);
    k = seen(raw, n, over, want);
    CHECK((held ? saw.n <= k : saw.n == k) && !memcmp(saw.text, want, saw.n),
        "history %u, after %s: the host saw %lu bytes \"%.*s\", the session has %lu \"%.*s\"", round, after, (unsigned long)saw.n,
        (int)saw.n, saw.text, (unsigned long)k, (int)k, want);
    if (!held) memcpy(saw.text, want, k), saw.n = k;
    return !over || seen(raw, n, 0, want) == k;
}

static void history(const gpt_model *m, unsigned round, uint32_t n_batch) {
    static const char *const prompts[] = { "", "", "a", " b", "ab", "\xC3\xA9", "a\n", "  a b", "aaaab" };
    static const char *const stops[] = { "a", "b", "ab", "b\n", " a", "aab", "\n", "\xC3", "ba b" };
    static char raw[ROOM];
    gpt_session_params sp;
    gpt_session_info info;
    gpt_session *s = NULL;
    gpt_error err;
    unsigned op;
    memset(&sp, 0, sizeof sp);
    sp.n_ctx = N_CTX; sp.n_batch = n_batch; sp.n_threads = 1; sp.kv = GPT_KV_F32;
    sp.hooks.poll = ask; sp.hooks.poll_user = &saw;
    memset(&saw, 0, sizeof saw);
    CHECK(gpt_session_new(&s, m, &sp, &err) == GPT_OK, "%s", err.msg);
    if (!s) return;
    for (op = 0; op < 12; op++) {
        const char *prompt = prompts[below(9)], *stop[3];
        gpt_generate_params p;
        size_t n_before, n_after, n, i, steps = below(3) ? SIZE_MAX : below(6);
        gpt_result r;
        memset(&p, 0, sizeof p);
        for (i = 0; i < 3; i++) stop[i] = stops[below(9)];
        p.stop = stop; p.n_stop = below(4);
        p.max_tokens = below(10) + (below(30) ? 1 : 200);
        p.sample.temperature = 1.5f; p.sample.seed = round; p.ignore_end = 1;
        saw.polls = below(6) ? 0 : 1 + below(40);
        saw.refuse = below(6) ? 0 : 1 + below(4);
        gpt_session_tokens(s, &n_before);
        r = gpt_begin(s, prompt, &p, take, &saw, &err);
        if (r) {
            CHECK(r == GPT_E_CONTEXT || (r == GPT_E_ARG && !n_before), "history %u: %s", round, err.msg);
            break;
        }
        gpt_session_tokens(s, &n_after);
        n = text_of(m, s, n_before, raw);
        i = text_of(m, s, n_after, raw);
        memcpy(saw.text + saw.n, raw + n, i - n);
        saw.n += i - n;
        do r = steps-- ? gpt_step(s, &err) : GPT_OK; while (r == GPT_MORE);
        if (steps == SIZE_MAX) gpt_end(s);
        gpt_session_tokens(s, &n);
        gpt_session_info_get(s, &info);
        if (n < n_after && n_after > n_before) break;   /* cancelled while the prompt was computed */
        if (!compare(m, s, info.finish == GPT_FINISH_STOP ? "stop" : info.finish == GPT_FINISH_HOST ? "host" : "limit", round,
            info.finish == GPT_FINISH_LENGTH) || info.finish == GPT_FINISH_CONTEXT) break;
        if (!below(5)) {                                /* to where a character ends */
            static char a[ROOM], b[ROOM];
            const size_t to = n > 1 ? 1 + below((uint32_t)n - 1) : 0;
            const size_t bytes = text_of(m, s, to, raw), whole = seen(raw, bytes, 0, a);
            if (seen(raw, bytes, 1, b) != whole || gpt_session_rewind(s, to, &err)) continue;
            memcpy(saw.text, a, whole);
            saw.n = whole;
        }
    }
    gpt_session_free(s);
}

/* The same tokens in calls of any length give the same pieces, stop strings across calls included. */
static void calls(const gpt_model *m, unsigned round) {
    static char whole[ROOM];
    static const char *const stops[] = { "ab", "\n", "b\n", "aab" };
    gpt_session_params sp;
    gpt_session_info info;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_generate_params p;
    size_t n = 0, cut, total;
    memset(&sp, 0, sizeof sp);
    sp.n_ctx = N_CTX; sp.n_threads = 1;
    if (gpt_session_new(&s, m, &sp, &err)) { CHECK(0, "%s", err.msg); return; }
    memset(&p, 0, sizeof p);
    p.stop = stops + round % 4; p.n_stop = round % 5 ? 1 : 0;
    p.sample.temperature = 1.5f; p.sample.seed = round; p.ignore_end = 1;
    for (cut = 40; cut; cut = cut == 40 ? 7 : cut == 7 ? 3 : cut == 3 ? 2 : cut == 2 ? 1 : 0) {
        memset(&saw, 0, sizeof saw);
        gpt_session_reset(s);
        for (total = 0; total < 40; total += p.max_tokens) {
            p.max_tokens = cut < 40 - total ? cut : 40 - total;
            CHECK(gpt_generate(s, total ? "" : "a b", &p, take, &saw, &err) == GPT_OK, "%s", err.msg);
            gpt_session_info_get(s, &info);
            if (info.finish != GPT_FINISH_LENGTH) break;
        }
        if (cut == 40) { memcpy(whole, saw.text, saw.n); n = saw.n; }
        CHECK(n == saw.n && !memcmp(whole, saw.text, n), "seed %u in calls of %u: \"%.*s\", in one \"%.*s\"", round, (unsigned)cut,
            (int)saw.n, saw.text, (int)n, whole);
    }
    gpt_session_free(s);
}

/* What must not change a thing, and what ends a generation. */
static void edges(const gpt_model *m) {
    gpt_session_params sp;
    gpt_session_info a, b;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_generate_params p;
    static char big[4000];
    size_t n, k;
    memset(&sp, 0, sizeof sp);
    sp.n_ctx = N_CTX; sp.n_threads = 1;
    if (gpt_session_new(&s, m, &sp, &err)) { CHECK(0, "%s", err.msg); return; }
    memset(&p, 0, sizeof p);
    p.max_tokens = 3; p.ignore_end = 1;
    gpt_generate(s, "ab", &p, NULL, NULL, &err);
    gpt_session_info_get(s, &a);
    memset(big, 'q', sizeof big - 1);
    CHECK(gpt_generate(s, big, &p, NULL, NULL, &err) == GPT_E_CONTEXT, "a prompt that does not fit");
    gpt_session_info_get(s, &b);
    CHECK(!memcmp(&a, &b, sizeof a), "a prompt that does not fit changes nothing: finish before %d, after %d", (int)a.finish, (int)b.finish);
    gpt_begin(s, "a", &p, NULL, NULL, &err);
    gpt_step(s, &err);
    CHECK(gpt_session_rewind(s, 2, &err) == GPT_OK, "%s", err.msg);
    gpt_session_info_get(s, &a);
    CHECK(a.finish == GPT_FINISH_HOST && gpt_step(s, &err) == GPT_E_STATE, "a rewind ends a generation: finish %d", (int)a.finish);
    gpt_begin(s, "a", &p, NULL, NULL, &err);
    gpt_session_reset(s);
    gpt_session_info_get(s, &a);
    CHECK(a.finish == GPT_FINISH_HOST && gpt_step(s, &err) == GPT_E_STATE, "a reset does: finish %d", (int)a.finish);
    gpt_session_reset(s);
    gpt_session_info_get(s, &a);
    CHECK(a.finish == GPT_FINISH_NONE, "a reset of a session at rest: finish %d", (int)a.finish);
    /* two prompts are one text: no space is put between them */
    p.max_tokens = 1;
    gpt_begin(s, "a", &p, NULL, NULL, &err); gpt_step(s, &err); gpt_session_tokens(s, &n); gpt_end(s);
    gpt_session_rewind(s, n - 1, &err);
    gpt_generate(s, "bab", &p, NULL, NULL, &err);
    gpt_session_tokens(s, &k);
    k = gpt_detokenize(m, gpt_session_tokens(s, NULL), k - 1, 0, big, sizeof big);
    CHECK(k == 4 && !memcmp(big, "abab", 4), "\"a\" and \"bab\": \"%.*s\"", (int)k, big);
    gpt_session_free(s);
}

/* The kinds of model() are the places of their tests in the table. */
static void one_kind(void) {
    gpt_model *m = model((int)test_at);
    unsigned i;
    if (!m) return;
    seed = 1;
    for (i = 0; i < 1500; i++) history(m, i, i % 3 ? 0 : 1 + i % 7);
    for (i = 0; i < 200; i++) calls(m, i);
    edges(m);
    gpt_model_free(m);
}

static const test tests[] = {
    { "bpe", one_kind }, { "sentencepiece", one_kind }, { "windows", one_kind }, { "convolution", one_kind }, { "state", one_kind }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_history");
}
