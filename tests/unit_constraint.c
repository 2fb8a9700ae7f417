/* Constraints: grammars, schemas, JSON, lists; masks, draws, forced text, bans, triggers, saves. Compared with what the words
 * say, byte by byte, and with the plain definition of a draw: mask, filters, draw. Runs from the repository's root. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "gguf_builder.h"
#include "test.h"
#include <time.h>

static uint32_t rng_state = 1;
static uint32_t below(uint32_t n) { return (uint32_t)(gpti_mix64(rng_state++) >> 32) % n; }

/* ---- Toys ---------------------------------------------------------------------------------------------------------------- */

enum { D = 32, FF = 32, N_CTX = 400 };

/* Byte-level BPE with a few tokens of JSON, an end token and a control token; pieced: SentencePiece, as all toys have it. */
static unsigned vocabulary(gb *g, int pieced) {
    static const char *const more[] = { "{\"", "\":", "tr", "ue", "true", "ab", "aa", "aaa", "\",", "ll", "he", "hell", "<end>", "<x>" };
    static const char *const merges[] = { "{ \"", "\" :", "t r", "u e", "tr ue", "a b", "a a", "aa a", "\" ,", "l l", "h e", "he ll" };
    const unsigned n_more = sizeof more / sizeof *more, n_vocab = 256 + n_more;
    char text[8];
    unsigned i, k;
    if (pieced) return gb_toy_vocabulary(g, 1);
    gb_kv_str(g, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, n_vocab);
    for (i = 0, k = 256; i < 256; i++) {                /* the byte alphabet of GPT-2 */
        const unsigned cp = (i > 32 && i < 127) || (i > 160 && i != 173) ? i : k++;
        text[0] = (char)(cp < 128 ? cp : 0xC0 | cp >> 6);
        text[1] = (char)(0x80 | (cp & 63));
        gb_text(g, &g->kv, text, cp < 128 ? 1 : 2);
    }
    for (i = 0; i < n_more; i++) gb_text(g, &g->kv, more[i], strlen(more[i]));
    gb_kv_strs(g, "tokenizer.ggml.merges", merges, sizeof merges / sizeof *merges);
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, n_vocab);
    for (i = 0; i < n_vocab; i++) gb_uint(g, &g->kv, i < n_vocab - 2 ? 1 : 3, 4);
    gb_kv_u32(g, "tokenizer.ggml.eos_token_id", n_vocab - 2);
    gb_kv_u32(g, "tokenizer.ggml.bos_token_id", n_vocab - 1);
    return n_vocab;
}

static gpt_model *toy(int pieced) {
    static const struct { const char *name; uint64_t d0, d1; } t[] = {
        { "attn_norm", D, 0 }, { "attn_q", D, D }, { "attn_k", D, D / 2 }, { "attn_v", D, D / 2 }, { "attn_output", D, D },
        { "ffn_norm", D, 0 }, { "ffn_gate", D, FF }, { "ffn_up", D, FF }, { "ffn_down", FF, D } };
    static float w[300 * D];
    gpt_model_params p;
    gpt_model *m = NULL;
    gpt_error err;
    char name[64];
    size_t n, i;
    unsigned n_vocab;
    const unsigned char *file;
    gb g;
    rng_state = 7;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "general.architecture", "llama");
    gb_kv_u32(&g, "llama.block_count", 1);
    gb_kv_u32(&g, "llama.context_length", 8192);
    gb_kv_u32(&g, "llama.embedding_length", D);
    gb_kv_u32(&g, "llama.feed_forward_length", FF);
    gb_kv_u32(&g, "llama.attention.head_count", 2);
    gb_kv_u32(&g, "llama.attention.head_count_kv", 1);
    gb_kv_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    n_vocab = vocabulary(&g, pieced);
    for (i = 0; i < sizeof w / sizeof *w; i++) w[i] = (float)below(2001) / 1000.0f - 1.0f;
    gb_tensor_f32(&g, "token_embd.weight", 2, D, n_vocab, w);
    for (i = 0; i < D; i++) w[i] = 1.0f;
    gb_tensor_f32(&g, "output_norm.weight", 1, D, 0, w);
    for (i = 0; i < sizeof t / sizeof *t; i++) {
        snprintf(name, sizeof name, "blk.0.%s.weight", t[i].name);
        for (n = 0; n < t[i].d0 * (t[i].d1 ? t[i].d1 : 1); n++) w[n] = t[i].d1 ? (float)below(2001) / 2000.0f - 0.5f : 1.0f;
        gb_tensor_f32(&g, name, t[i].d1 ? 2 : 1, t[i].d0, t[i].d1, w);
    }
    memset(&p, 0, sizeof p);
    p.n_threads = 1; p.kernels = "ref";
    file = gb_finish(&g, &n);
    if (gpt_model_load_memory(&m, file, n, &p, &err)) { printf("%s\n", err.msg); exit(1); }
    gb_free(&g);
    return m;
}

static gpt_model *models[2];

static gpt_session *session(const gpt_model *m, gpt_work *w, uint32_t n_nest) {
    gpt_session_params p;
    gpt_session *s = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    p.n_ctx = N_CTX; p.work = w; p.n_nest = n_nest;
    if (!w) { p.n_batch = 16; p.n_threads = 1; }
    if (gpt_session_new(&s, m, &p, &err)) { printf("%s\n", err.msg); exit(1); }
    return s;
}

static gpt_constraint *constraint(const gpt_model *m, char kind, const char *source, const char *trigger) {
    gpt_constraint_params p;
    gpt_constraint *c = NULL;
    gpt_error err;
    memset(&p, 0, sizeof p);
    if (kind == 'g') p.gbnf = source;
    if (kind == 's') p.schema = source;
    p.json = kind == 'j'; p.trigger = trigger;
    if (gpt_constraint_new(&c, m, &p, &err)) CHECK(0, "%.80s: %s", source, err.msg);
    return c;
}

typedef struct sink { char text[8192]; size_t n; } sink;
static int take(void *user, const char *text, size_t n) {
    sink *s = (sink *)user;
    if (s->n + n > sizeof s->text) return 1;
    memcpy(s->text + s->n, text, n);
    s->n += n;
    return 0;
}
static gpt_finish finish_of(const gpt_session *s) { gpt_session_info i; gpt_session_info_get(s, &i); return i.finish; }
static gpt_generate_params writing(const gpt_constraint *c, uint64_t seed, size_t max) {
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.sample.temperature = 1.5f; g.sample.seed = seed; g.max_tokens = max; g.constraint = c;
    return g;
}

/* ---- What is taken and refused --------------------------------------------------------------------------------------------- */

enum { OK = GPT_OK, MORE = GPT_MORE, NO = GPT_E_REFUSED };
typedef struct text_row { char kind; const char *source, *text; int want; int at; } text_row;  /* source NULL: as before; at < 0: any */
static const text_row texts[] = {
    { 'g', "root ::= (\"x\"*)*", "", OK, 0 }, { 0, NULL, "xxx", OK, 3 }, { 0, NULL, "xy", NO, 1 },
    { 'g', "root ::= (s | n)*\ns ::= \" \"*\nn ::= \"\\n\"", " \n ", OK, 3 },
    { 'g', "root ::= (\"x\"?){3,50} \"y\"", "y", OK, 1 }, { 0, NULL, "xxxxy", OK, 5 },
    { 'g', "root ::= (\"ab\" | \"c\"{2,3}){2,3} \"z\"?", "abccc", OK, 5 }, { 0, NULL, "ab", MORE, 2 }, { 0, NULL, "ccccz", OK, 5 },
    { 'g', "root ::= [^a\\x5D-\\u00e9]+ .", "bc", NO, 0 }, { 0, NULL, "\\\xF0\x9F\x98\x80", OK, 5 }, { 0, NULL, "\xC3\xA9", NO, 1 },
    { 'g', "root ::= [\xD0\xB0-\xD1\x8F]+", "\xD0", MORE, 1 }, { 0, NULL, "\xD1", MORE, 1 }, { 0, NULL, "\xD0\x90", NO, 1 },
    { 0, NULL, "\xD0\xB0", OK, 2 }, { 0, NULL, "\xD1\x8F", OK, 2 }, { 0, NULL, "\xD1\x90", NO, 1 },
    { 'g', "root ::= \"<end>\"", "<end>", OK, 5 }, { 'g', "# c\nroot ::= # d\n  a |\n (b\n)\na ::= \"1\"\nb ::= \"2\"", "2", OK, 1 },
    { 'g', "root ::= .+", "\xE0\x80\x80", NO, 1 }, { 0, NULL, "\xED\xA0\x80", NO, 1 }, { 0, NULL, "\xF4\x90", NO, 1 }, { 0, NULL, "\xC0", NO, 0 },
    { 's', "{\"type\":\"object\",\"properties\":{}}", "{}", OK, 2 }, { 0, NULL, "{ }", OK, 3 }, { 0, NULL, "{\"x\":1}", OK, 7 },
    { 's', "{\"anyOf\":[{\"type\":\"object\",\"properties\":{}},{\"type\":\"string\"},{\"type\":\"null\"},{\"const\":4}]}", "{}", OK, 2 },
    { 0, NULL, "\"a\"", OK, 3 }, { 0, NULL, "null", OK, 4 }, { 0, NULL, "5", NO, 0 },
    { 's', "{\"properties\":{\"n\":{\"type\":\"integer\"}}}", "{\"n\":\"x\"}", NO, -1 }, { 0, NULL, "{\"m\":1,\"n\":\"x\"}", NO, -1 },
    { 0, NULL, "{\"\\u006e\":\"x\"}", NO, -1 }, { 0, NULL, "{\"m\":\"x\"}", OK, -1 }, { 0, NULL, "{\"nn\":\"x\"}", OK, -1 },
    { 0, NULL, "{\"n\":1,\"\":2,\"\xC3\xA9\":3}", OK, -1 },
    { 's', "{\"type\":\"number\",\"minimum\":2,\"maximum\":7}", "7.9", NO, 2 }, { 0, NULL, "1.99", NO, 0 }, { 0, NULL, "6.999", OK, 5 }, { 0, NULL, "7.0", OK, 3 },
    { 's', "{\"type\":\"number\",\"exclusiveMinimum\":3}", "3", MORE, 1 }, { 0, NULL, "3.0", MORE, 3 }, { 0, NULL, "3.001", OK, 5 }, { 0, NULL, "100", OK, 3 },
    { 's', "{\"type\":\"number\",\"minimum\":-2.5,\"maximum\":2.5}", "-0.7", OK, 4 }, { 0, NULL, "-2.6", NO, 3 }, { 0, NULL, "0", OK, 1 }, { 0, NULL, "-2.5", OK, 4 },
    { 's', "{\"type\":\"integer\",\"minimum\":-7}", "-7", OK, 2 }, { 0, NULL, "-1", OK, 2 }, { 0, NULL, "-8", NO, 1 }, { 0, NULL, "7.0", NO, 1 },
    { 's', "{\"type\":\"integer\",\"minimum\":30}", "3", MORE, 1 }, { 0, NULL, "29", MORE, 2 }, { 0, NULL, "300", OK, 3 }, { 0, NULL, "-0", NO, 0 },
    { 's', "{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":70e-1}", "0", NO, 0 }, { 0, NULL, "7", OK, 1 }, { 0, NULL, "8", NO, 0 },
    { 's', "{\"type\":\"string\",\"maxLength\":1}", "\"\\n\"", OK, 4 }, { 0, NULL, "\"\\\"\"", OK, 4 }, { 0, NULL, "\"\xC3\xA9\"", OK, 4 },
    { 0, NULL, "\"\\u00e9\"", OK, 8 }, { 0, NULL, "\"\xF0\x9F\x90\x8E\"", OK, 6 }, { 0, NULL, "\"\\ud83d\\udc0e\"", OK, 14 }, { 0, NULL, "\"ab\"", NO, 2 },
    { 0, NULL, "\"\n\"", NO, 1 }, { 0, NULL, "\"\\ud83d\"", NO, 7 }, { 0, NULL, "\"\\udc0e\"", NO, -1 },
    { 's', "{\"enum\":[\"a\",\"ab\",\"b\\\"c\",1,null,{\"x\":[1,2,{}]},[]]}", "\"ab\"", OK, 4 }, { 0, NULL, "\"b\\\"c\"", OK, 6 }, { 0, NULL, "{ \"x\":[1, 2,{}] }", OK, -1 },
    { 0, NULL, "[]", OK, 2 }, { 0, NULL, "\"c\"", NO, 1 },
    { 's', "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/n\"},"
      "{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", OK, -1 }, { 0, NULL, "{\"v\":1}", NO, 6 },
    { 's', "{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{\"properties\":{\"b\":{\"type\":\"integer\"}}}]}", "{\"a\":1,\"b\":2}", OK, -1 },
    { 0, NULL, "{\"b\":1}", NO, -1 },
    { 's', "{\"pattern\":\"ab+\"}", "\"xxabb\\n\"", OK, -1 }, { 0, NULL, "\"xa\"", NO, 3 },
    { 's', "{\"pattern\":\"^(\\\\d{3}-)?[^a-z\\\\n]+$\"}", "\"123-A\"", OK, -1 }, { 0, NULL, "\"a\"", NO, 1 }, { 0, NULL, "\"\\t\"", OK, -1 }, { 0, NULL, "\"\\n\"", NO, -1 },
    { 's', "{\"pattern\":\"^a|b$\"}", "\"ax\"", OK, -1 }, { 0, NULL, "\"xb\"", OK, -1 }, { 0, NULL, "\"xc\"", NO, -1 },
    { 's', "{\"format\":\"date\"}", "\"2024-02-29\"", OK, -1 }, { 0, NULL, "\"2023-02-29\"", NO, 10 }, { 's', "{\"format\":\"ipv6\"}", "\"::1\"", OK, -1 },
    { 's', "{\"items\":[{\"const\":1},{\"type\":\"string\"}]}", "[1, \"a\"]", OK, -1 }, { 0, NULL, "[1,\"a\",2]", NO, -1 },
    { 's', "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,\"maxItems\":3}", "[null]", NO, 5 }, { 0, NULL, "[null,null]", OK, -1 }, { 0, NULL, "[null,null,null,null]", NO, 15 },
    { 's', "{\"properties\":{\"a\":false,\"b\":true}}", "{\"b\":1}", OK, -1 }, { 0, NULL, "{\"a\":1}", NO, -1 },
    { 's', "{\"type\":\"number\",\"minimum\":0}", "100000000000000000000000.5", OK, -1 }, { 0, NULL, "12345678901234.00", OK, -1 }, { 0, NULL, "1000000000000000x", NO, 16 },
    { 's', "{\"type\":\"integer\",\"maximum\":-3}", "-1000000000000000000000000", OK, -1 }, { 0, NULL, "1000000000000000000000000", NO, 0 },
    { 's', "{\"type\":\"integer\",\"minimum\":0,\"maximum\":9223372036854775807}", "90071992547409920", OK, -1 }, { 0, NULL, "100000000000000000000000", NO, -1 },
    { 's', "{\"type\":\"number\",\"maximum\":1.7976931348623157e+308,\"minimum\":-1.7976931348623157e+308}", "-12.5", OK, -1 },
    { 's', "{\"type\":\"number\",\"exclusiveMinimum\":1e12,\"maximum\":12.5e11}", "1000000000000.5", OK, -1 }, { 0, NULL, "1000000000000.0", MORE, -1 }, { 0, NULL, "1250000000001", NO, -1 },
    { 's', "{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1e-7}", "0.0000001", OK, -1 }, { 0, NULL, "0.0000002", NO, -1 },
    { 's', "{\"type\":\"number\",\"minimum\":0.123456789012345678,\"maximum\":1}", "0.5", OK, -1 }, { 0, NULL, "0.12345", MORE, -1 }, { 0, NULL, "0.1234567890123456", NO, -1 },
    { 'g', "root ::= \"a\"{ 2, 3 } [b]{ 1 } \"c\"{1 , }", "aabcc", OK, 5 }, { 0, NULL, "abc", NO, 1 },
    { 's', "{\"$ref\":\"#/examples/1\",\"examples\":[{\"type\":\"null\"},{\"type\":\"boolean\"}]}", "true", OK, 4 }, { 0, NULL, "null", NO, 0 },
    { 'j', "", " [1 , 2.50000000000000000000000000001 ,1e400 ]\t", OK, -1 }, { 0, NULL, "{\"a\":1,}", NO, 7 }, { 0, NULL, "01", NO, 1 }, { 0, NULL, "\"\\ud800\"", NO, 7 },
    { 0, NULL, "1 2", NO, 2 }, { 0, NULL, "tru", MORE, 3 },
    { 'g', "root ::= \"a\"{2}{3}", "aaaaaa", OK, 6 }, { 0, NULL, "aaaaa", MORE, 5 }, { 0, NULL, "aaaaaaa", NO, 6 },
    { 'g', "root ::= \"q\" (\"ab\" | \"c\"{2}{1,2} | [d]*? +)+{2} {2,} \"z\"", "qabccddccccz", OK, -1 }, { 0, NULL, "qz", OK, 2 }, { 0, NULL, "qabcz", NO, 4 },
    { 'g', "root ::= \"x\"{0}{3} \"y\"?*", "", OK, 0 }, { 0, NULL, "yy", OK, 2 }, { 0, NULL, "x", NO, 0 },
    { 'g', "root ::= (r \"-\"){2}{2}\nr ::= \"1\" | \"2\" \"3\"+ {2}", "1-2333-1-1-", OK, -1 }, { 0, NULL, "1-23-", NO, 4 },
    { 'g', "root ::= !<x>{2} \"a\"", "zza", OK, 3 }, { 0, NULL, "za", MORE, 2 }
};

static void test_texts(void) {
    gpt_constraint *c = NULL;
    size_t i, at;
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        const text_row *r = &texts[i];
        gpt_result got;
        if (r->source) { gpt_constraint_free(c); c = constraint(NULL, r->kind, r->source, NULL); }
        if (!c) continue;
        got = gpt_constraint_check(c, r->text, strlen(r->text), &at, NULL);
        CHECK(got == r->want && (r->at < 0 || at == (size_t)r->at), "text %d '%s': expected %d at %d, found %d at %d", (int)i, r->text, r->want, r->at, (int)got, (int)at);
    }
    gpt_constraint_free(c);
}

/* Texts that can be read in more ways than there is room for: never one that the schema does not allow, as a whole one. */
static void test_room(void) {
    static const char pattern[] = "{\"type\":\"string\",\"pattern\":\"^([a-z .]{0,30}){0,30}[.]$\"}";
    gpt_model *m = models[0];
    gpt_session *s = session(m, NULL, 0), *flat = session(m, NULL, 3);
    gpt_constraint *c = constraint(m, 's', pattern, NULL), *deep;
    gpt_constraint_params cp;
    gpt_error err;
    static char text[40000], alike[2000];
    static const char *const raw[1] = { "a\xFF" };
    size_t n, i, ended = 0, refused = 0;
    unsigned seed;
    for (seed = 0; seed < 60; seed++) {
        gpt_generate_params p = writing(c, seed, 20 + seed);
        sink out;
        out.n = 0;
        p.must_finish = 1;
        p.sample.top_p = seed & 1 ? 0.9f : 0;
        gpt_session_reset(s);
        CHECK(!gpt_generate(s, "a", &p, take, &out, &err), "%s", err.msg);
        if (finish_of(s) == GPT_FINISH_END) {
            ended++;
            CHECK(out.n > 2 && out.text[out.n - 2] == '.' && out.text[out.n - 1] == '"', "seed %u: '%.*s' is whole", seed, (int)out.n, out.text);
        } else { refused++; CHECK(finish_of(s) == GPT_FINISH_REFUSED, "seed %u: finish %d", seed, (int)finish_of(s)); }
    }
    CHECK(ended > 3 && refused > 3, "%d ended, %d refused", (int)ended, (int)refused);
    gpt_constraint_free(c);
    /* at the beginning: an error, not a part of the alternatives */
    for (n = (size_t)sprintf(text, "root ::= \"x\""), i = 0; i < 1000; i++) n += (size_t)sprintf(text + n, " | \"%05dx\"", (int)i);
    memset(&cp, 0, sizeof cp);
    cp.gbnf = text;
    CHECK(gpt_constraint_new(&c, m, &cp, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "more ways"), "1,000 alternatives: %s", err.msg);
    cp.gbnf = NULL; cp.strings = raw; cp.n_string = 1;
    CHECK(gpt_constraint_new(&c, m, &cp, &err) == GPT_E_FORMAT && strstr(err.msg, "UTF-8"), "%s", err.msg);
    /* deeper than the session can go, from the beginning on */
    for (n = 0, i = 0; i < 20; i++) n += (size_t)sprintf(alike + n, "{\"type\":\"array\",\"minItems\":1,\"items\":");
    n += (size_t)sprintf(alike + n, "{\"type\":\"null\"}");
    memset(alike + n, '}', 20); alike[n + 20] = 0;
    deep = constraint(m, 's', alike, NULL);
    if (deep) {
        gpt_generate_params p = writing(deep, 1, 0);
        CHECK(gpt_begin(flat, "a", &p, NULL, NULL, &err) == GPT_E_REFUSED && strstr(err.msg, "n_nest of 11, it is 3"), "%s", err.msg);
        CHECK(!gpt_begin(s, "a", &p, NULL, NULL, &err), "%s", err.msg);
        gpt_end(s);
    }
    gpt_constraint_free(deep);
    gpt_session_free(s); gpt_session_free(flat);
}

/* Nothing but gpt_resume lets a restored generation go on. */
static void test_held(void) {
    gpt_model *m = models[0];
    gpt_session *s = session(m, NULL, 0), *t = session(m, NULL, 0);
    gpt_constraint *c = constraint(m, 'g', "root ::= [a-z]{40}", NULL);
    gpt_generate_params p = writing(c, 3, 0);
    gpt_writer w;
    gpt_reader r;
    gpt_error err;
    gpt_session_info info;
    sink one, two;
    static char save[1 << 20];
    int k;
    one.n = two.n = 0;
    CHECK(!gpt_begin(s, "a", &p, take, &one, &err), "%s", err.msg);
    for (k = 0; k < 6; k++) gpt_step(s, &err);
    memset(&w, 0, sizeof w); memset(&r, 0, sizeof r);
    w.user = r.user = save; w.size = sizeof save; r.size = gpt_session_save_bytes(s, GPT_SAVE_CACHE);
    CHECK(!gpt_session_save(s, GPT_SAVE_CACHE, &w, &err) && !gpt_session_restore(t, &r, &err), "%s", err.msg);
    two = one;
    gpt_session_hold(t, 1);
    gpt_session_hold(t, 0);
    gpt_session_info_get(t, &info);
    CHECK(info.held && info.result == GPT_MORE, "held %d, result %d", info.held, (int)info.result);
    CHECK(!gpt_resume(t, &p, take, &two, &err), "%s", err.msg);
    while (gpt_step(s, &err) == GPT_MORE) {}
    while (gpt_step(t, &err) == GPT_MORE) {}
    CHECK(one.n == two.n && one.n == 40 && !memcmp(one.text, two.text, one.n), "'%.*s', restored '%.*s'", (int)one.n, one.text, (int)two.n, two.text);
    gpt_session_free(s); gpt_session_free(t);
    gpt_constraint_free(c);
}

static void test_errors(void) {
    static const struct { char kind; const char *source; gpt_result want; const char *names; } rows[] = {
        { 'g', "root ::= root \"x\" | \"y\"", GPT_E_FORMAT, "rule root: it comes back to itself" }, { 'g', "root ::= k root \"x\" | \"y\"\nk ::= \"z\"?", GPT_E_FORMAT, "rule root" },
        { 'g', "root ::= a\na ::= b \"x\" | \"q\"\nb ::= a?", GPT_E_FORMAT, "left recursion" }, { 'g', "root ::= \"x\"{1999999999,2000000001}", GPT_E_FORMAT, "rule root" },
        { 'g', "root ::= (\"x\"?){0,100}", GPT_E_FORMAT, "rule root" }, { 'g', "root ::= a", GPT_E_FORMAT, "rule a: it is named" }, { 'g', "a ::= \"x\"", GPT_E_FORMAT, "rule root" },
        { 'g', "root ::= a\na ::= \"x\" a", GPT_E_FORMAT, "can never end" }, { 'g', "root ::= \"x\" )", GPT_E_FORMAT, "line 1" }, { 'g', "root ::= \"x", GPT_E_FORMAT, "quotation mark" },
        { 'g', "root ::= \"x\"**?+*?+*??", GPT_E_FORMAT, "more than 8 repeats" }, { 'g', "root ::= !x", GPT_E_FORMAT, "expected a text" }, { 'g', "root ::= \"\\uD800\"", GPT_E_FORMAT, "surrogate" }, { 's', "{\"const\":\"a\xFF\"}", GPT_E_FORMAT, "UTF-8" }, { 'g', "root ::= !<x", GPT_E_FORMAT, ">" },
        { 'g', "root ::= [a", GPT_E_FORMAT, "]" }, { 'g', "root ::= \"x\"{3,2}", GPT_E_FORMAT, "{m,n}" }, { 'g', "root ::= \"x\"\nroot ::= \"y\"", GPT_E_FORMAT, "twice" },
        { 's', "{\"pattern\":\"^a(?=b)b$\"}", GPT_E_UNSUPPORTED, "pattern" }, { 's', "{\"pattern\":\"[\"}", GPT_E_UNSUPPORTED, "pattern" }, { 's', "{\"multipleOf\":3}", GPT_E_UNSUPPORTED, "multipleOf" },
        { 's', "{\"not\":{}}", GPT_E_UNSUPPORTED, "not" }, { 's', "{\"if\":{}}", GPT_E_UNSUPPORTED, "if" }, { 's', "{\"properties\":{\"a\":{\"uniqueItems\":true}}}", GPT_E_UNSUPPORTED, "/properties/a: uniqueItems" },
        { 's', "{\"$ref\":\"#/x\"}", GPT_E_UNSUPPORTED, "$ref" }, { 's', "{\"$ref\":\"#\"}", GPT_E_UNSUPPORTED, "never" }, { 's', "{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", GPT_E_UNSUPPORTED, "itself" },
        { 's', "{\"type\":\"integer\",\"minimum\":9223372036854775807}", GPT_E_UNSUPPORTED, "minimum: it has too many digits" }, { 's', "{\"$ref\":\"#/examples/x\",\"examples\":[{}]}", GPT_E_UNSUPPORTED, "$ref" },
        { 's', "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", GPT_E_UNSUPPORTED, "oneOf" }, { 's', "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", GPT_E_UNSUPPORTED, "minimum" },
        { 's', "{\"format\":\"idn-email\"}", GPT_E_UNSUPPORTED, "format" }, { 's', "{", GPT_E_FORMAT, "byte 1" }, { 's', "{\"type\":\"strin\"}", GPT_E_UNSUPPORTED, "type" }, { 's', "false", GPT_E_UNSUPPORTED, "never" },
        { 's', "{\"pattern\":\"\\\\bx\"}", GPT_E_UNSUPPORTED, "pattern" }, { 's', "{\"pattern\":\"(a)\\\\1\"}", GPT_E_UNSUPPORTED, "pattern" }, { 's', "{\"pattern\":\"a\",\"minLength\":2}", GPT_E_UNSUPPORTED, "pattern" } };
    gpt_constraint_params p;
    gpt_constraint *c;
    gpt_error err;
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        memset(&p, 0, sizeof p);
        if (rows[i].kind == 'g') p.gbnf = rows[i].source; else p.schema = rows[i].source;
        CHECK(gpt_constraint_new(&c, NULL, &p, &err) == rows[i].want && !c, "%s: code %d", rows[i].source, (int)err.code);
        CHECK(strstr(err.msg, rows[i].names) && strspn(err.msg, PRINTABLE) == strlen(err.msg), "%s: '%s' does not name %s", rows[i].source, err.msg, rows[i].names);
    }
    memset(&p, 0, sizeof p);
    CHECK(gpt_constraint_new(&c, NULL, &p, &err) == GPT_E_ARG, "none of them");
    p.json = 1; p.gbnf = "root ::= \"x\"";
    CHECK(gpt_constraint_new(&c, NULL, &p, &err) == GPT_E_ARG, "two of them");
}

/* Large and deep ones: a named error or a refused byte, soon, and small sets whatever the text. */
static void test_large(void) {
    enum { N = 60000 };
    static char big[4 * N];
    gpt_constraint_params p;
    gpt_constraint *c;
    gpt_error err;
    size_t n, i, at;
    clock_t from, half;
    memset(&p, 0, sizeof p);
    strcpy(big, "root ::= ");
    memset(big + 9, '(', N); strcpy(big + 9 + N, "\"x\""); memset(big + 12 + N, ')', N); big[12 + 2 * N] = 0;
    c = constraint(NULL, 'g', big, NULL);
    CHECK(c && gpt_constraint_check(c, "x", 1, NULL, NULL) == GPT_OK, "60,000 brackets");
    gpt_constraint_free(c);
    for (i = 0; i < N; i++) { big[12 + N + 2 * i] = ')'; big[13 + N + 2 * i] = '*'; }
    big[12 + 3 * N] = 0;
    p.gbnf = big;
    if (!gpt_constraint_new(&c, NULL, &p, &err)) CHECK(gpt_constraint_check(c, "x", 1, NULL, NULL) == GPT_E_UNSUPPORTED, "more states than there is room for");
    gpt_constraint_free(c);
    memset(big, '[', N); big[N] = 0;
    memset(&p, 0, sizeof p); p.schema = big;
    CHECK(gpt_constraint_new(&c, NULL, &p, &err) == GPT_E_FORMAT && strstr(err.msg, "512"), "%s", err.msg);
    c = constraint(NULL, 'j', "", NULL);
    CHECK(gpt_constraint_check(c, big, N, &at, NULL) == GPT_E_REFUSED && at >= 256, "refused at %d", (int)at);
    memset(big + 256, ']', 256);
    CHECK(gpt_constraint_check(c, big, 512, &at, NULL) == GPT_OK, "256 arrays: refused at %d", (int)at);
    gpt_constraint_free(c);
    /* 500 groups of optional q */
    c = constraint(NULL, 'g', "root ::= (o o o o o o [0-9])+\no ::= \"q\"?", NULL);
    for (i = n = 0; i < 500; i++) { memset(big + n, 'q', i % 7); n += i % 7; big[n++] = (char)('0' + i % 10); }
    from = clock();
    for (i = 0; i < 20; i++) CHECK(gpt_constraint_check(c, big, n / 10, &at, NULL) == GPT_OK, "refused at %d", (int)at);
    half = clock() - from; from = clock();
    for (i = 0; i < 2; i++) CHECK(gpt_constraint_check(c, big, n, &at, NULL) == GPT_OK, "refused at %d", (int)at);
    CHECK(clock() - from < 3 * half + CLOCKS_PER_SEC / 20, "later groups take longer: %ld, %ld", (long)(clock() - from), (long)half);
    gpt_constraint_free(c);
    c = constraint(NULL, 's', "{\"type\":\"array\",\"maxItems\":50,\"items\":{\"type\":\"string\",\"maxLength\":2000}}", NULL);
    memset(big, 'a', 2100); big[0] = '['; big[1] = '"'; big[2002] = '"'; big[2003] = ']';
    CHECK(c && c->n_node < 300 && gpt_constraint_check(c, big, 2004, &at, NULL) == GPT_OK, "2000 characters: %d", (int)at);
    big[2002] = 'a';
    CHECK(gpt_constraint_check(c, big, 2004, &at, NULL) == GPT_E_REFUSED && at == 2002, "2001 characters: %d", (int)at);
    gpt_constraint_free(c);
    n = (size_t)sprintf(big, "{\"properties\":{");
    for (i = 0; i < 200; i++) n += (size_t)sprintf(big + n, "%s\"property_%d\":{\"type\":\"%s\"}", i ? "," : "", (int)i, i & 1 ? "string" : "integer");
    sprintf(big + n, "}}");
    from = clock();
    c = constraint(NULL, 's', big, NULL);
    CHECK(clock() - from < CLOCKS_PER_SEC / 5, "200 properties take %ld", (long)(clock() - from));
    CHECK(c && gpt_constraint_check(c, "{\"property_3\":\"x\",\"property_8\":1,\"z\":2}", 39, &at, NULL) == GPT_OK, "refused at %d", (int)at);
    gpt_constraint_free(c);
}

/* What is compared with each other is bounded: text of 1 MiB is a schema, or a named error, soon. */
static void soon(const char *head, const char *unit, const char *between, const char *tail, const char *names) {
    static char big[1 << 20];
    const size_t room = sizeof big - strlen(between) - strlen(tail) - 16;
    gpt_constraint_params p;
    gpt_constraint *c;
    gpt_error err;
    clock_t from = clock();
    size_t n = (size_t)sprintf(big, "%s", head), half = 0;
    int i;
    for (i = 0; n + 64 < room; i++) {
        if (!half && n > room / 2 && *between) { half = 1; n += (size_t)sprintf(big + n, "%s", between); }
        else if (i) big[n++] = ',';
        n += (size_t)sprintf(big + n, unit, i);
    }
    strcpy(big + n, tail);
    memset(&p, 0, sizeof p);
    p.schema = big;
    CHECK(gpt_constraint_new(&c, NULL, &p, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, names), "%.40s: code %d, '%s'", head, (int)err.code, err.msg);
    CHECK(clock() - from < 20 * CLOCKS_PER_SEC, "%.40s: %.1f s", head, (double)(clock() - from) / CLOCKS_PER_SEC);
    gpt_constraint_free(c);
}

static void test_soon(void) {
    soon("{\"type\":\"object\",\"required\":[", "\"a%d\"", "", "]}", "required: more than 4096");
    soon("{\"oneOf\":[{\"enum\":[", "\"a%d\"", "]},{\"enum\":[", "]}]}", "too many");
    soon("{\"default\":[[],", "{\"$ref\":\"#/default/15000\"}", "],\"anyOf\":[", "]}", "too many");
}

static char *slurp(const char *path) {
    FILE *f = fopen(path, "rb");
    char *p = (char *)calloc(1, 1 << 20);
    if (f && p && fread(p, 1, (1 << 20) - 1, f) == 0) p[0] = 0;
    if (!f) { free(p); return NULL; }
    fclose(f);
    return p;
}

/* Published grammars and cases, where they lie beside the repository. */
static void test_published(void) {
    static const char *const names[] = { "arithmetic", "c", "chess", "english", "japanese", "json", "json_arr", "list" };
    static char source[1 << 16], text[1 << 16], path[64];
    char *all = slurp("../shared/data/grammars/cases.json"), kind[16];
    size_t i, k, n, m;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        char *g;
        snprintf(path, sizeof path, "../shared/data/grammars/%s.gbnf", names[i]);
        if ((g = slurp(path)) == NULL) continue;
        gpt_constraint_free(constraint(NULL, 'g', g, NULL));
        free(g);
    }
    for (i = 0; all && (snprintf(path, sizeof path, "[%d].kind", (int)i), gpt_json_get(all, strlen(all), path, kind, sizeof kind, NULL) == 's'); i++) {
        gpt_constraint_params p;
        gpt_constraint *c;
        gpt_error err;
        memset(&p, 0, sizeof p);
        snprintf(path, sizeof path, "[%d].source", (int)i);
        gpt_json_get(all, strlen(all), path, source, sizeof source, &n);
        if (*kind == 'g') p.gbnf = source; else p.schema = source;
        if (gpt_constraint_new(&c, NULL, &p, &err)) {   /* what an automaton cannot compare is an error, not ignored */
            CHECK(strstr(err.msg, "uniqueItems"), "case %d: %s", (int)i, err.msg);
            continue;
        }
        for (k = 0; k < 2; k++) for (m = 0; (snprintf(path, sizeof path, "[%d].%s[%d]", (int)i, k ? "refuse" : "accept", (int)m),
             gpt_json_get(all, strlen(all), path, text, sizeof text, &n) == 's'); m++)              /* the list's integers have 15 digits at most */
            CHECK((gpt_constraint_check(c, text, n, NULL, NULL) == GPT_OK) == (!k || strspn(text, "0123456789") > 30), "case %d: '%s'", (int)i, text);
        gpt_constraint_free(c);
    }
    free(all);
}

/* ---- Masks and draws ------------------------------------------------------------------------------------------------------- */

/* The session's state after a text of single bytes, and which tokens may come: by mask, one by one, and by the words. */
static void test_masks(void) {
    static const char *const grammars[] = {
        "root ::= (\"ab\" | \"aaa\"{2,3} | [b-d\xC3\xA9-\xC3\xBF]+ \"true\"? | \"{\\\"\" [a-z]{0,40} \"\\\":\")*",
        "root ::= a\na ::= \"(\" a \")\" | [a-h]{3,5} | \"\\\"\" [^\"]* \"\\\"\"",
        "root ::= x{2,4} y?\nx ::= \"a\"? \"b\"\ny ::= <x> \"hell\" | \"he\" <end>" };
    size_t g, walk, n_bytes;
    int pieced;
    for (pieced = 0; pieced < 2; pieced++) for (g = 0; g < sizeof grammars / sizeof *grammars; g++) {
        gpt_model *m = models[pieced];
        const size_t n_vocab = m->hp.n_vocab;
        gpt_constraint *c = pieced && g == 2 ? NULL : constraint(m, 'g', grammars[g], NULL);
        gpt_session *s = session(m, NULL, 0);
        gpt_generate_params p = writing(c, 1, 0);
        gpt_error err;
        char text[512];
        if (!c) { gpt_session_free(s); continue; }
        for (walk = 0; walk < 6; walk++) {
            int control = 0;
            gpt_session_reset(s);
            CHECK(!gpt_begin(s, "a", &p, NULL, NULL, &err), "%s", err.msg);
            s->gen->edge = 0;
            for (n_bytes = 0; n_bytes < 40;) {
                gpti_mask *mask = NULL;
                size_t i, n_ok = 0, pick;
                int ended = 0;
                static gpt_token ok[1000];
                while (!gpti_mask_make(s, &mask)) {}
                for (i = 0; i < n_vocab; i++) {
                    const gpti_str t = gpti_tokenizer_piece(&m->tok, (gpt_token)i);
                    const int by_bit = (s->w->trial->bits + (size_t)(mask - s->w->trial->mask) * (n_vocab / 32 + 1))[i >> 5] >> (i & 31) & 1;
                    const int one = gpti_allows(s, (gpt_token)i, NULL);
                    int want = 0;
                    if (gpti_tokenizer_is_control(&m->tok, (gpt_token)i) || gpti_tokenizer_is_end(&m->tok, (gpt_token)i)) {
                        ended |= one;
                        if (!by_bit && !one) continue;
                        CHECK(!by_bit, "a control token by its bytes");
                        if (one && !gpti_tokenizer_is_end(&m->tok, (gpt_token)i)) ok[n_ok++] = (gpt_token)i;
                        continue;
                    }
                    if (t.n && n_bytes + t.n < sizeof text) {
                        memcpy(text + n_bytes, t.p, t.n);
                        want = gpt_constraint_check(c, text, n_bytes + t.n, NULL, NULL) != GPT_E_REFUSED;
                    }
                    if (control) want = one;            /* check cannot read what comes behind a control token */
                    CHECK(by_bit == want && one == want, "grammar %d after '%.*s', token '%.*s': expected %d, mask %d, tried %d", (int)g, (int)n_bytes, text,
                          (int)t.n, t.p, want, by_bit, one);
                    if (one) ok[n_ok++] = (gpt_token)i;
                }
                if (!n_ok) { CHECK(ended || gpti_states_end(s->live, &s->live->now), "a dead end after '%.*s'", (int)n_bytes, text); break; }
                pick = below((uint32_t)n_ok);
                control |= gpti_tokenizer_is_control(&m->tok, ok[pick]);
                gpti_con_take(s, ok[pick]);
                if (!gpti_tokenizer_is_control(&m->tok, ok[pick])) {
                    const gpti_str t = gpti_tokenizer_piece(&m->tok, ok[pick]);
                    memcpy(text + n_bytes, t.p, t.n);
                    n_bytes += t.n;
                } else n_bytes++;
            }
            gpt_end(s);
        }
        gpt_session_free(s);
        gpt_constraint_free(c);
    }
}

/* Tokens as a whole: what may come after some tokens, by mask and one by one. */
static void test_tokens(void) {
    enum { AB = 261, HELL = 267, END = 268, X = 269 };
    static const struct { const char *gbnf; gpt_token come[4]; gpt_token never[3]; gpt_token only; } rows[] = {     /* -1: no more */
        { "root ::= <x> !<x>{2} <x>", { X, -1 }, { X, END, -1 }, -1 }, { "root ::= <x> !<x>{2} <x>", { X, HELL, -1 }, { X, END, -1 }, -1 },
        { "root ::= <x> !<x>{2} <x>", { X, HELL, 'b', -1 }, { -1 }, X }, { "root ::= (!<[267]> | \"hey\")* <end>", { 'h', 'e', -1 }, { HELL, X + 1, -1 }, -1 },
        { "root ::= <[261]> \"a\"", { -1 }, { -1 }, AB }, { "root ::= <[261]> \"a\"", { AB, -1 }, { -1 }, 'a' }, { "root ::= <[261]> \"a\" | \"ax\"", { 'a', -1 }, { -1 }, 'x' },
        { "root ::= !<[261]> \"a\" | \"ab\" \"c\"", { AB, -1 }, { -1 }, 'c' }, { "root ::= !<[261]> \"a\" | \"abc\"", { 'a', -1 }, { -1 }, -2 } };
    gpt_model *m = models[0];
    size_t r, k, i;
    for (r = 0; r < sizeof rows / sizeof *rows; r++) {
        gpt_session *s = session(m, NULL, 0);
        gpt_constraint *c = constraint(m, 'g', rows[r].gbnf, NULL);
        gpt_generate_params p = writing(c, 1, 0);
        gpti_mask *mask = NULL;
        gpt_error err;
        CHECK(!gpt_begin(s, "a", &p, NULL, NULL, &err), "%s", err.msg);
        s->gen->edge = 0;
        for (k = 0; rows[r].come[k] >= 0 && k < 3; k++) {
            CHECK(gpti_allows(s, rows[r].come[k], NULL), "row %d: token %d is refused", (int)r, (int)rows[r].come[k]);
            gpti_con_take(s, rows[r].come[k]);
        }
        while (!gpti_mask_make(s, &mask)) {}
        for (i = 0; i < m->hp.n_vocab; i++) {
            const int control = i >= END, one = gpti_allows(s, (gpt_token)i, NULL);
            const int by_bit = (s->w->trial->bits + (size_t)(mask - s->w->trial->mask) * (m->hp.n_vocab / 32 + 1))[i >> 5] >> (i & 31) & 1;
            int want = 1;
            for (k = 0; k < 3 && rows[r].never[k] >= 0; k++) want &= (size_t)rows[r].never[k] != i;
            if (rows[r].only >= 0) want = i == (size_t)rows[r].only;
            if (rows[r].only == -2) want = i == 'a' || i == 'b';
            if (i == END && rows[r].gbnf[8] == '(') want = 1;       /* it is named */
            CHECK(one == want && by_bit == (want && !control), "row %d, token %d: expected %d, mask %d, tried %d", (int)r, (int)i, want, by_bit, one);
        }
        gpt_session_free(s);
        gpt_constraint_free(c);
    }
}

static gpt_poll pause_now(void *user, size_t done, size_t total) { (void)user; (void)done; (void)total; return GPT_PAUSE; }

/* Draws against the definition, token by token: what is refused is not there, then filters, then the draw. */
static void test_draws(void) {
    enum { N_DRAW = 1000 };
    static gpti_candidate cand[1000];
    static float logits[1000], masked[1000];
    enum { N_ROW = 21 };
    static gpt_sample_params rows[N_ROW];
    gpt_model *m = models[0];
    const size_t n_vocab = m->hp.n_vocab;
    gpt_constraint *c = constraint(m, 'g', "root ::= [a-f]+ \"true\"?", NULL);
    gpt_session *s = session(m, NULL, 0);
    gpt_error err;
    size_t i, k, r, way;
    for (r = 0; r < N_ROW; r++) if (r != 5) rows[r].temperature = 1.0f;
    rows[0].top_k = 2; rows[1].top_p = 0.9f; rows[2].min_p = 0.1f; rows[7].top_k = 200; rows[8].top_k = 12;
    rows[4].top_k = 5; rows[4].top_p = 0.8f; rows[4].min_p = 0.05f; rows[4].temperature = 0.7f;
    rows[6].penalty_last_n = -1; rows[6].repeat_penalty = 1.3f; rows[6].frequency_penalty = 0.2f; rows[6].presence_penalty = 0.1f; rows[6].top_k = 3;
    rows[9].typical_p = 0.5f; rows[10].top_n_sigma = 1.0f; rows[11].xtc_probability = 0.5f; rows[12].xtc_probability = 0.7f; rows[12].xtc_threshold = 0.02f; rows[12].top_k = 3;
    rows[13].dry_multiplier = 2.0f; rows[13].dry_allowed_length = 1; rows[13].min_p = 0.1f; rows[14].no_repeat_ngram = 2; rows[14].top_k = 4;
    rows[15] = rows[14]; rows[15].temperature = 0; rows[15].no_repeat_ngram = 1; rows[16].dynatemp_range = 0.5f; rows[16].min_p = 0.02f;
    rows[17] = rows[4]; rows[17].samplers = "temperature;min_p;top_k"; rows[18] = rows[6]; rows[18].samplers = "top_k;penalties"; rows[18].no_repeat_ngram = 1;
    rows[19] = rows[4]; rows[19].samplers = ""; rows[20] = rows[6]; rows[20].temperature = 0;
    for (way = 0; way < 3; way++) for (r = 0; r < N_ROW; r++) {
        gpt_generate_params p = writing(c, 0, 0);
        gpt_hooks h;
        size_t n_other = 0;
        p.sample = rows[r];
        for (i = 0; i < n_vocab; i++) logits[i] = way == 2 ? (float)below(300) / 100.0f : (float)below(100) / 100.0f - 6.0f;
        /* way 0: the likeliest one is refused; 1: all allowed ones are rare; 2: anything */
        if (way == 0) { logits['a'] = 5.0f; logits['z'] = 5.5f; logits['b'] = 4.0f; logits['c'] = 3.0f; }
        if (way == 1) for (i = 0; i < n_vocab; i++) logits[i] += 3.0f * (float)(i > 'f');
        gpt_session_reset(s);
        memset(&h, 0, sizeof h);
        if (r % 2) h.poll = pause_now;
        gpt_session_hooks(s, &h, &err);
        CHECK(!gpt_begin(s, "abcab", &p, NULL, NULL, &err), "%s", err.msg);
        s->w->can_pause = 1;
        for (i = 0; i < n_vocab; i++) { masked[i] = gpti_allows(s, (gpt_token)i, NULL) ? logits[i] : -INFINITY; }
        s->n_past = s->n_token; s->last_logits = logits;
        for (k = 0; k < N_DRAW; k++) {
            gpt_token id = -1;
            gpt_result made;
            p.sample.seed = s->gen->params.sample.seed = k;
            while ((made = gpti_draw(s, &id)) == GPT_MORE) {}
            if (made || id < 0) { CHECK(0, "no token"); break; }
            CHECK(masked[id] > -INFINITY, "a refused token is drawn");
            n_other += id != gpti_sample_logits(masked, n_vocab, &p.sample, s->token, s->n_token, 0, cand, &s->m->tok);
        }
        CHECK(!n_other, "way %d, parameters %d: %d of %d draws differ from the definition", (int)way, (int)r, (int)n_other, N_DRAW);
        s->n_past = 0; s->last_logits = NULL;
        gpt_end(s);
    }
    gpt_session_free(s);
    gpt_constraint_free(c);
}

/* ---- Generating ------------------------------------------------------------------------------------------------------------ */

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":8},\"true\":{\"type\":\"boolean\"},\"hello\":{\"enum\":[\"aaa\",\"ab\",\"hello\"]}},"
    "\"required\":[\"name\",\"hello\"],\"additionalProperties\":false}",
    "{\"type\":\"array\",\"minItems\":2,\"maxItems\":5,\"items\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":-5,\"maximum\":12},{\"type\":\"null\"}]}}",
    "true", "{\"type\":\"object\"}", "{\"type\":\"string\",\"pattern\":\"^[a-c]{2,6}(-\\\\d{2})?$\"}", "{\"format\":\"date-time\"}",
    "{\"type\":\"number\",\"exclusiveMinimum\":0.25,\"maximum\":3}",
    "{\"properties\":{\"a\":{\"$ref\":\"#\"},\"b\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":[\"b\"]}" };
enum { N_SCHEMA = sizeof schemas / sizeof *schemas };

static void test_whole(void) {
    size_t i, seed;
    int pieced;
    for (pieced = 0; pieced < 2; pieced++) {
        gpt_session *s = session(models[pieced], NULL, 0);
        for (i = 0; i < N_SCHEMA; i++) {
            gpt_constraint *c = constraint(models[pieced], 's', schemas[i], NULL);
            for (seed = 0; seed < 60; seed++) {
                gpt_generate_params p = writing(c, seed, 40 + seed % 5 * 20);
                gpt_session_info info;
                gpt_error err;
                size_t at;
                sink out;
                out.n = 0;
                p.must_finish = 1;
                if (seed % 3 == 1) p.sample.top_k = 10;
                if (seed % 3 == 2) p.sample.top_p = 0.9f;
                gpt_session_reset(s);
                CHECK(!gpt_generate(s, "x", &p, take, &out, &err), "%s", err.msg);
                gpt_session_info_get(s, &info);
                CHECK(info.finish == GPT_FINISH_END && info.n_generated <= p.max_tokens, "schema %d, seed %d: finish %d after %d", (int)i, (int)seed, (int)info.finish, (int)info.n_generated);
                CHECK(gpt_constraint_check(c, out.text, out.n, &at, &err) == GPT_OK, "schema %d, seed %d: byte %d of '%.*s'", (int)i, (int)seed, (int)at, (int)out.n, out.text);
            }
            gpt_constraint_free(c);
        }
        gpt_session_free(s);
    }
}

/* The same text in slices, from saves at each token, from copies, and beside others. */
static void test_ways(void) {
    size_t i, k, way;
    gpt_model *m = models[0];
    for (i = 0; i < N_SCHEMA; i++) {
        gpt_constraint *c = constraint(m, 's', schemas[i], NULL), *same = constraint(m, 's', schemas[i], NULL), *other = constraint(m, 'j', "", "x");
        gpt_session *s = session(m, NULL, 0), *t = session(m, NULL, 0);
        gpt_generate_params p = writing(c, i + 3, 60);
        sink want, got;
        gpt_session_info info;
        gpt_error err;
        gpt_result r;
        want.n = 0;
        CHECK(!gpt_generate(s, "abc", &p, take, &want, &err), "%s", err.msg);
        gpt_session_info_get(s, &info);
        for (way = 0; way < 2; way++) {                 /* 0: paused at every poll; 1: a save and a restore after each step */
            gpt_hooks h;
            got.n = 0;
            memset(&h, 0, sizeof h);
            if (!way) h.poll = pause_now;
            gpt_session_reset(s);
            gpt_session_hooks(s, &h, &err);
            CHECK(!gpt_begin(s, "abc", &p, take, &got, &err), "%s", err.msg);
            while ((r = gpt_step(s, &err)) == GPT_MORE) if (way) {
                static char memory[1 << 20];
                gpt_writer w;
                gpt_reader rd;
                gpt_generate_params q = p;
                memset(&w, 0, sizeof w); memset(&rd, 0, sizeof rd);
                w.user = memory; w.size = sizeof memory; rd.user = memory; rd.size = gpt_session_save_bytes(s, (int)(got.n & 1));
                CHECK(!gpt_session_save(s, (int)(got.n & 1), &w, &err) && !gpt_session_restore(t, &rd, &err), "%s", err.msg);
                CHECK(gpt_resume(t, NULL, take, &got, &err) == GPT_E_FOREIGN, "goes on without its constraint");
                q.constraint = other;
                CHECK(gpt_resume(t, &q, take, &got, &err) == GPT_E_FOREIGN, "goes on with another constraint");
                q.constraint = same;
                CHECK(!gpt_resume(t, &q, take, &got, &err), "%s", err.msg);
                { gpt_session *x = s; s = t; t = x; }
                gpt_session_reset(t);
            }
            CHECK(!r && got.n == want.n && !memcmp(got.text, want.text, want.n), "schema %d, way %d: '%.*s' is not '%.*s'", (int)i, (int)way, (int)got.n, got.text, (int)want.n, want.text);
            memset(&h, 0, sizeof h);
            gpt_session_hooks(s, &h, &err);
        }
        {                                               /* three in a batch, one of them free, one a copy */
            gpt_work *w = NULL;
            gpt_work_params wp;
            gpt_session *b[3];
            gpt_generate_params q[3];
            sink text[3];
            memset(&wp, 0, sizeof wp);
            wp.n_batch = 7; wp.n_threads = 1;
            CHECK(!gpt_work_new(&w, m, &wp, &err), "%s", err.msg);
            for (k = 0; k < 3; k++) {
                b[k] = session(m, w, 0); text[k].n = 0; q[k] = p;
                if (k == 1) q[k].constraint = NULL;
                if (k == 2) CHECK(!gpt_session_copy(b[k], s, info.n_prompt, &err), "%s", err.msg);
                CHECK(!gpt_begin(b[k], k == 2 ? NULL : "abc", &q[k], take, &text[k], &err), "%s", err.msg);
            }
            while (gpt_work_step(w, &err) == GPT_MORE) {}
            for (k = 0; k < 3; k += 2)
                CHECK(text[k].n == want.n && !memcmp(text[k].text, want.text, want.n), "schema %d in a batch: '%.*s' is not '%.*s'", (int)i, (int)text[k].n, text[k].text, (int)want.n, want.text);
            for (k = 0; k < 3; k++) gpt_session_free(b[k]);
            gpt_work_free(w);
        }
        gpt_session_free(s); gpt_session_free(t);
        gpt_constraint_free(c); gpt_constraint_free(same); gpt_constraint_free(other);
    }
}

/* What is forced comes without a choice, cut as the tokenizer cuts it. */
static void test_forced(void) {
    static const char *const one[] = { "{\"hello\":true,\"aaab\": \" \xC3\xA9\xF0\x9F\x98\x80\"}" };
    int pieced;
    for (pieced = 0; pieced < 2; pieced++) {
        gpt_model *m = models[pieced];
        gpt_session *s = session(m, NULL, 0);
        gpt_constraint_params cp;
        gpt_constraint *c;
        gpt_generate_params p;
        gpt_token ids[100], got[100];
        const gpt_token *text;
        gpt_error err;
        size_t n, k, n_text, steps = 0;
        sink out;
        out.n = 0;
        memset(&cp, 0, sizeof cp);
        cp.strings = one; cp.n_string = 1;
        CHECK(!gpt_constraint_new(&c, m, &cp, &err), "%s", err.msg);
        p = writing(c, 1, 0);
        CHECK(!gpt_begin(s, "a", &p, take, &out, &err), "%s", err.msg);
        while (gpt_step(s, &err) == GPT_MORE) steps++;
        CHECK(out.n == strlen(one[0]) && !memcmp(out.text, one[0], out.n) && finish_of(s) == GPT_FINISH_END && steps < 2, "'%.*s' in %d steps", (int)out.n, out.text, (int)steps);
        gpt_tokenize(m, one[0], strlen(one[0]), GPT_TOKENIZE_CONTINUE, ids, 100, &n, &err);
        text = gpt_session_tokens(s, &n_text);
        for (k = 0; k < n && k < n_text; k++) got[k] = text[n_text - n + k];
        CHECK(n < n_text && !memcmp(ids, got, n * sizeof *ids), "cut in another way");
        gpt_constraint_free(c);
        /* an open end: the last piece is the model's, text is taken whole in any case */
        c = constraint(m, 'g', "root ::= \"{\\\"a\\\": \\\"\" [a-z]{3} \"\\\"}\"", NULL);
        for (k = 0; k < 20; k++) {
            p = writing(c, k, 0);
            out.n = 0;
            gpt_session_reset(s);
            CHECK(!gpt_generate(s, k & 1 ? "x" : NULL, &p, take, &out, &err) || !(k & 1), "%s", err.msg);
            if (k & 1 || out.n) CHECK(gpt_constraint_check(c, out.text, out.n, NULL, &err) == GPT_OK, "'%.*s'", (int)out.n, out.text);
        }
        gpt_constraint_free(c);
        gpt_session_free(s);
    }
}

static void test_bounds(void) {
    static const char *const ban[] = { "aa", "b", "ca" };
    gpt_model *m = models[0];
    gpt_session *s = session(m, NULL, 3);
    gpt_constraint *c = constraint(m, 'j', "", NULL);
    gpt_bias bias[3];
    gpt_generate_params p;
    gpt_error err;
    gpt_session_info info;
    size_t i, k, depth, deepest = 0, at;
    sink out;
    /* n_nest: brackets alone are wanted, and cannot go deeper */
    memset(bias, 0, sizeof bias);
    bias[0].token = '['; bias[0].bias = 50; bias[1].token = '\n'; bias[1].bias = 60;
    p = writing(c, 1, 200);
    p.sample.bias = bias; p.sample.n_bias = 1; p.must_finish = 1;
    out.n = 0;
    CHECK(!gpt_generate(s, "x", &p, take, &out, &err), "%s", err.msg);
    for (i = depth = 0; i < out.n; i++) { depth += out.text[i] == '['; depth -= out.text[i] == ']'; if (depth > deepest) deepest = depth; }
    CHECK(deepest >= 3 && deepest <= 7 && gpt_constraint_check(c, out.text, out.n, NULL, &err) == GPT_OK, "depth %d: '%.*s'", (int)deepest, (int)out.n, out.text);
    /* line ends alone are wanted: a bounded run, none behind the end */
    p.sample.n_bias = 2;
    out.n = 0;
    gpt_session_reset(s);
    CHECK(!gpt_generate(s, "x", &p, take, &out, &err) && out.n && out.text[out.n - 1] != '\n', "%s", err.msg);
    for (i = 1; i < out.n; i++) CHECK(out.text[i] != '\n' || out.text[i - 1] != '\n', "two line ends");
    /* no way is short enough; roll */
    gpt_constraint_free(c);
    c = constraint(m, 's', schemas[0], NULL);
    p = writing(c, 1, 10);
    p.must_finish = 1;
    gpt_session_reset(s);
    CHECK(gpt_generate(s, "x", &p, NULL, NULL, &err) == GPT_E_REFUSED && strstr(err.msg, "shortest"), "%s", err.msg);
    p.must_finish = 0; p.roll = 1;
    CHECK(gpt_generate(s, "x", &p, NULL, NULL, &err) == GPT_E_ARG, "%s", err.msg);
    p.roll = 0;
    CHECK(!gpt_generate(s, "x", &p, NULL, NULL, &err) && finish_of(s) == GPT_FINISH_LENGTH, "%s", err.msg);
    gpt_constraint_free(c);
    /* bans, with a constraint and without; all banned */
    for (k = 0; k < 40; k++) {
        char text[8193];
        c = k & 1 ? constraint(m, 'g', "root ::= [a-e]{20,30}", NULL) : NULL;
        p = writing(c, k, 60);
        p.ban = ban; p.n_ban = 3; p.ignore_end = 1;
        out.n = 0;
        gpt_session_reset(s);
        CHECK(!gpt_generate(s, "x", &p, take, &out, &err), "%s", err.msg);
        memcpy(text, out.text, out.n); text[out.n] = 0;
        for (i = 0; i < 3; i++) CHECK(!strstr(text, ban[i]), "'%s' in '%s'", ban[i], text);
        gpt_constraint_free(c);
    }
    {   /* what is wanted most is banned after the same words: another way is there, and no text but those with the words goes */
        static const char *const sky[] = { "sky w", "sky t", "sky b" }, *const ex[] = { "ex" };
        static const char *const all[] = { "ee", "xe", "xx", "eE", "xE", "Ee", "EE", "Ex", "eX" };
        gpt_bias want[3];
        unsigned seen[sizeof all / sizeof *all] = { 0 };
        memset(want, 0, sizeof want);
        for (i = 0; i < 3; i++) { want[i].token = "wtb"[i]; want[i].bias = 50; }
        for (k = 0; k < 20; k++) {
            c = constraint(m, 'g', "root ::= \"wt the sky \" [a-z]{3}", NULL);
            p = writing(c, k, 60);
            p.ban = sky; p.n_ban = 3; p.sample.bias = want; p.sample.n_bias = 3;
            out.n = 0;
            gpt_session_reset(s);
            CHECK(!gpt_generate(s, "x", &p, take, &out, &err) && finish_of(s) == GPT_FINISH_END, "%s", err.msg);
            CHECK(out.n == 14 && !memcmp(out.text, "wt the sky ", 11) && !strchr("wtb", out.text[11]), "'%.*s'", (int)out.n, out.text);
            gpt_constraint_free(c);
        }
        c = constraint(m, 'g', "root ::= [eExX]{2}", NULL);
        for (k = 0; k < 400; k++) {
            p = writing(c, k, 60);
            p.ban = ex; p.n_ban = 1; p.sample.temperature = 4;
            out.n = 0;
            gpt_session_reset(s);
            CHECK(!gpt_generate(s, "x", &p, take, &out, &err) && finish_of(s) == GPT_FINISH_END && out.n == 2, "%s", err.msg);
            CHECK(memcmp(out.text, "ex", 2), "a banned string came");
            for (i = 0; i < sizeof all / sizeof *all; i++) seen[i] += !memcmp(out.text, all[i], 2);
        }
        for (i = 0; i < sizeof all / sizeof *all; i++) CHECK(seen[i], "'%s' never came in 400 texts: it is not banned", all[i]);
        gpt_constraint_free(c);
    }
    c = constraint(m, 'g', "root ::= \"x\" [ab]", NULL);
    { static const char *const all[] = { "xa", "xb" }; p = writing(c, 1, 0); p.ban = all; p.n_ban = 2; }
    gpt_session_reset(s);
    CHECK(!gpt_generate(s, "x", &p, NULL, NULL, &err) && finish_of(s) == GPT_FINISH_REFUSED, "finish %d", (int)finish_of(s));
    gpt_constraint_free(c);
    /* a minimum length: the end token is wanted */
    p = writing(NULL, 1, 40);
    bias[0].token = (gpt_token)(m->hp.n_vocab - 2); bias[0].bias = 90;
    p.sample.bias = bias; p.sample.n_bias = 1; p.min_tokens = 7;
    gpt_session_reset(s);
    CHECK(!gpt_generate(s, "x", &p, NULL, NULL, &err), "%s", err.msg);
    gpt_session_info_get(s, &info);
    CHECK(info.finish == GPT_FINISH_END && info.n_generated == 7, "%d tokens, finish %d", (int)info.n_generated, (int)info.finish);
    /* triggers: a text, in the middle of a token too; a control token */
    for (k = 0; k < 60; k++) {
        c = constraint(m, 'g', "root ::= \"b\" [0-9]{4} \"hell\"", k % 3 == 2 ? "<x>" : "a");
        p = writing(c, k, 200);
        p.sample.bias = bias; bias[0].token = k % 3 == 2 ? (gpt_token)(m->hp.n_vocab - 1) : 'a'; bias[0].bias = 2;
        p.sample.n_bias = 1; p.ignore_end = 1;
        out.n = 0;
        gpt_session_reset(s);
        CHECK(!gpt_generate(s, "x", &p, take, &out, &err), "%s", err.msg);
        for (at = 0; at < out.n && (k % 3 == 2 || out.text[at] != 'a'); at++) {}
        if (k % 3 != 2 && at < out.n && finish_of(s) == GPT_FINISH_END)
            CHECK(gpt_constraint_check(c, out.text + at + 1, out.n - at - 1, NULL, &err) == GPT_OK, "'%.*s'", (int)out.n, out.text);
        if (k % 3 == 2 && finish_of(s) == GPT_FINISH_END) CHECK(out.n >= 9 && gpt_constraint_check(c, out.text + out.n - 9, 9, NULL, &err) == GPT_OK, "'%.*s'", (int)out.n, out.text);
        gpt_constraint_free(c);
    }
    /* behind a mark of the host, as of a thinking part; and begun by hand */
    for (k = 0; k < 20; k++) {
        c = constraint(m, 'g', "root ::= [0-9]{6}", NULL);
        p = writing(c, k, 300);
        p.ignore_end = 1;
        out.n = 0;
        gpt_session_reset(s);
        CHECK(!gpt_begin(s, "x", &p, take, &out, &err), "%s", err.msg);
        gpti_con_wait(s, k & 1 ? "a" : "");
        for (i = 0; gpt_step(s, &err) == GPT_MORE; i++) if (!(k & 1) && i == 5) gpti_con_start(s);
        for (i = 0; k & 1 && i < out.n && out.text[i] != 'a'; i++) {}
        at = k & 1 ? i + 1 : out.n - 6;
        if (finish_of(s) == GPT_FINISH_END) CHECK(out.n == at + 6 && gpt_constraint_check(c, out.text + at, 6, NULL, &err) == GPT_OK, "'%.*s' from %d", (int)out.n, out.text, (int)at);
        gpt_constraint_free(c);
    }
    gpt_session_free(s);
}

int main(int argc, char **argv) {
    static const test tests[] = { { "texts", test_texts }, { "room", test_room }, { "held", test_held }, { "errors", test_errors }, { "large", test_large }, { "soon", test_soon }, { "published", test_published }, { "masks", test_masks }, { "tokens", test_tokens },
        { "draws", test_draws }, { "whole", test_whole }, { "ways", test_ways }, { "forced", test_forced }, { "bounds", test_bounds }, { NULL, NULL } };
    models[0] = toy(0); models[1] = toy(1);
    test_run(tests, argc, argv);
    gpt_model_free(models[0]); gpt_model_free(models[1]);
    return test_report("unit_constraint");
}
