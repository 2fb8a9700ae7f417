/* The half of the page in C: gpt.h for WebAssembly, one model, one running text, and a look at it. examples/web.html is the
 * other half; `make web` makes one HTML file of both and a model. What begins with web_ the page calls, what begins with page_
 * the page gives. Results lie in memory, where the page reads them; a negative number is a gpt_result, web_error its text.
 * tests/unit_web.c is a page in C. */
#ifndef GPT_LINKED             /* tests/unit_web.c links the implementation */
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __wasm__
#define WEB(name)  __attribute__((export_name(#name)))
#define PAGE(name) __attribute__((import_module("page"), import_name(#name)))
#else
#define WEB(name)
#define PAGE(name)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the model's file: n of them from offset on, to `to`; returns how many. */
PAGE(read)     extern unsigned page_read(double offset, void *to, unsigned n);
PAGE(progress) extern void page_progress(double done, double total);    /* of loading */
PAGE(now)      extern double page_now(void);                            /* milliseconds, from any time on */
PAGE(say)      extern void page_say(int thought, const char *text, unsigned n); /* what is written; 1: of its thinking part */

enum { N_TOP = 5, N_SPREAD = 12, MOST_CTX = 2048 };     /* the likeliest of each place; of the chart; tokens of a text */
enum { IDLE, READING, WRITING };

typedef struct { gpt_token token; float before, after; } chance;    /* a token's probability without and with the samplers */

static struct {
    gpt_model *m;
    gpt_model_info info;
    gpt_session *s;                 /* the running text */
    gpt_session_info text;
    gpt_generate_params gen;
    gpt_error err;
    int phase;                      /* IDLE, READING or WRITING */
    int write;                      /* READING: WRITING comes next */
    double deadline;
    char *in;                       /* what the page has written to web_room */

    /* of each token of the text: itself, natural log of its probability (NaN: not known), the likeliest in its place */
    size_t n;
    gpt_token *id;
    float *logprob;
    gpt_logprob *top;
    float *row;                     /* [n_vocab] the logits that the token number row_at is chosen by */
    size_t row_at;

    /* A second session looks at one place of the text, token at: */
    gpt_session *look;
    size_t at, n_left;              /* n_left: tokens that the samplers leave */
    gpt_token at_id;                /* -1: at is the end */
    int looking;                    /* 1: at the token before it, 2: at itself, 0: done */
    float *base, *x;                /* [n_vocab] the logits of this place; room */
    gpt_logprob *list;              /* [n_vocab] room */
    chance spread[N_SPREAD];
    unsigned *n_head;               /* [n_layer] 0: a layer without attention */
    float *att, *stream;            /* [n_layer, n_head, at + 1]; [n_layer, d_model] */
    gpt_logprob lens[N_TOP];
} web;

static int fail(gpt_result code, const char *text) {
    web.err.code = code;
    snprintf(web.err.msg, sizeof web.err.msg, "%s", text);
    return code;
}
/* Room for n of size bytes, kept until the page ends; NULL and the error. */
static void *room(size_t n, size_t size) {
    void *p = n && size > SIZE_MAX / n ? NULL : calloc(n ? n : 1, size);
    if (!p) fail(GPT_E_MEMORY, "out of memory: the page has 4 GiB at most");
    return p;
}

/* ---- The model: once; for another one the page begins anew, with a fresh memory ----------------------------------------- */

#ifdef __wasm__
/* malloc gives less than 2 GiB at once. Larger blocks are memory of their own, kept until the page ends. */
static void *large[4];
static void *take(void *user, size_t n) {
    size_t i = 0, at;
    (void)user;
    if (n < (size_t)1 << 30) return malloc(n);
    while (i < 4 && large[i]) i++;
    at = i < 4 ? __builtin_wasm_memory_grow(0, (n >> 16) + 1) : SIZE_MAX;
    return at == SIZE_MAX ? NULL : (large[i] = (void *)(at << 16));
}
static void give(void *user, void *p) {
    size_t i = 0;
    (void)user;
    while (i < 4 && large[i] != p) i++;
    if (i == 4) free(p);
}
#endif
static size_t read_file(void *user, uint64_t offset, void *to, size_t n) {
    (void)user;
    return page_read((double)offset, to, (unsigned)n);
}
static int on_load(void *user, uint64_t done, uint64_t total) {
    (void)user;
    page_progress((double)done, (double)total);
    return 0;
}
static gpt_poll on_poll(void *user, size_t done, size_t total) {
    (void)user; (void)done; (void)total;
    return page_now() < web.deadline ? GPT_GO : GPT_PAUSE;
}

/* Logits come by once for each place that is computed: they say what was expected in the next one. */
static int on_trace(void *user, const gpt_trace *t) {
    size_t r;
    (void)user;
    if (strcmp(t->name, "logits")) return 0;
    for (r = 0; r < t->n_row && t->position + r + 1 <= web.text.n_ctx; r++) {
        const float *logits = t->data + r * t->stride;
        gpt_logprob *top = web.top + (t->position + r + 1) * N_TOP;
        size_t i = gpt_top(logits, t->n_col, N_TOP, top);
        for (; i < N_TOP; i++) top[i].token = -1;
        web.row_at = t->position + r + 1;
        if (r + 1 == t->n_row) memcpy(web.row, logits, t->n_col * sizeof *logits);
    }
    return 0;
}

/* The size is a double, as all numbers of the page are. */
WEB(web_load) int web_load(double size) {
    gpt_model_params params;
    gpt_session_params session;
    gpt_reader reader;
    size_t n;
    gpt_result r;
    memset(&params, 0, sizeof params); memset(&session, 0, sizeof session); memset(&reader, 0, sizeof reader);
    if (web.m) return fail(GPT_E_STATE, "there is a model already");
#ifdef __wasm__
    params.alloc.alloc = take;
    params.alloc.free = give;
#endif
    reader.read = read_file;
    reader.size = (uint64_t)size;
    params.progress = on_load;
    if ((r = gpt_model_load_reader(&web.m, &reader, 1, &params, &web.err)) != GPT_OK) return r;
    gpt_model_info_get(web.m, &web.info);
    if (web.info.encoder) return fail(GPT_E_UNSUPPORTED, "this model makes vectors of texts, and writes none");
    session.n_ctx = web.info.n_ctx < MOST_CTX ? web.info.n_ctx : (uint32_t)MOST_CTX;
    session.hooks.poll = on_poll;
    session.hooks.trace = on_trace;
    if ((r = gpt_session_new(&web.s, web.m, &session, &web.err)) != GPT_OK) return r;
    gpt_session_info_get(web.s, &web.text);
    n = web.text.n_ctx + 1;
    if (!(web.id = (gpt_token *)room(n, sizeof *web.id)) || !(web.logprob = (float *)room(n, sizeof *web.logprob))
        || !(web.top = (gpt_logprob *)room(n, N_TOP * sizeof *web.top))
        || !(web.row = (float *)room(web.info.n_vocab, sizeof *web.row))) return GPT_E_MEMORY;
    return GPT_OK;
}

WEB(web_error) const char *web_error(void) { return web.err.msg; }
/* Numbers and names of the model, in this order. */
WEB(web_number) double web_number(int i) {
    return i == 0 ? web.info.n_vocab : i == 1 ? web.text.n_ctx : i == 2 ? web.info.n_layer : i == 3 ? web.info.n_head
        : i == 4 ? (double)web.info.n_param : i == 5 ? (double)web.text.bytes + (double)web.info.weight_bytes : 0;
}
WEB(web_name) const char *web_name(int i) {
    const char *chat = i == 3 ? gpt_chat_family(web.m) : NULL;
    return i == 0 ? web.info.architecture : i == 1 ? web.info.name : i == 2 ? web.info.kernels : chat ? chat : "";
}
/* A token's bytes; how many they are. */
WEB(web_text) const char *web_text(gpt_token id) { size_t n; return gpt_token_text(web.m, id, &n); }
WEB(web_text_bytes) unsigned web_text_bytes(gpt_token id) { size_t n; gpt_token_text(web.m, id, &n); return (unsigned)n; }
WEB(web_is_control) int web_is_control(gpt_token id) { return gpt_token_is_control(web.m, id); }

/* ---- The running text --------------------------------------------------------------------------------------------------- */

static int say(void *user, const char *text, size_t n) { page_say(user != NULL, text, (unsigned)n); return 0; }
static int keep_still(void *user, const char *text, size_t n) { (void)user; (void)text; (void)n; return 0; }

/* Room for n bytes of the page's and a NUL, until the next call. */
WEB(web_room) char *web_room(unsigned n) {
    free(web.in);
    return web.in = (char *)room((size_t)n + 1, 1);
}

/* As build/generate's options. */
WEB(web_sampling) void web_sampling(double temp, int top_k, double top_p, double min_p, double repeat, double seed, int max) {
    gpt_sample_params *p = &web.gen.sample;
    p->temperature = (float)temp;
    p->top_k = top_k;
    p->top_p = top_p > 1e-9 ? (float)top_p : 1e-9f;
    p->min_p = (float)min_p;
    p->repeat_penalty = (float)repeat;
    p->penalty_last_n = 64;
    p->seed = seed > 0 && seed < 9007199254740992.0 ? (uint64_t)seed : 0;      /* 2^53: exact in a double */
    web.gen.max_tokens = max > 0 ? (size_t)max : 0;
}

/* Tokens that have come are judged by the logits they were chosen by; what is no longer the same is not known. */
static void judge(void) {
    size_t n, i;
    const gpt_token *id = gpt_session_tokens(web.s, &n);
    for (i = 0; i < web.n && i < n && web.id[i] == id[i]; i++) {}
    for (; i < n; i++) {
        gpt_logprob *top = web.top + i * N_TOP;
        web.id[i] = id[i];
        web.logprob[i] = NAN;
        if (i && web.row_at == i && top->token >= 0) web.logprob[i] = web.row[id[i]] - web.row[top->token] + top->logprob;
        else top->token = -1;
    }
    web.n = n;
}

static int begin(const gpt_token *id, size_t n) {       /* these, then writing */
    gpt_eval_params params;
    gpt_result r;
    memset(&params, 0, sizeof params);
    params.logprob = web.logprob + web.n;
    web.top->token = -1;                                /* nothing foretells the first one */
    if (web.id + web.n != id) memmove(web.id + web.n, id, n * sizeof *id);
    r = gpt_eval_begin(web.s, web.id + web.n, n, &params, &web.err);
    if (r) return r;
    web.n += n;
    web.phase = READING;
    return GPT_MORE;
}

/* A text from the prompt in web_room on; write 0: the prompt alone. */
WEB(web_story) int web_story(int write) {
    const gpt_token *id;
    gpt_result r;
    size_t n;
    web.phase = IDLE;
    web.n = 0;
    web.write = write;
    gpt_session_reset(web.s);
    if (!*web.in && web.info.bos >= 0) return begin(&web.info.bos, 1);
    r = gpt_begin(web.s, web.in, &web.gen, keep_still, NULL, &web.err);     /* cuts it into tokens as build/generate does */
    if (r) return r;
    id = gpt_session_tokens(web.s, &n);
    memcpy(web.id, id, n * sizeof *id);
    gpt_session_reset(web.s);
    return begin(web.id, n);
}

/* The first n tokens, then this one, in place of the next if there is one, then what the model makes of it. */
WEB(web_instead) int web_instead(unsigned n, gpt_token id) {
    gpt_result r;
    web.phase = IDLE;
    gpt_end(web.s);
    if (!n || n > web.n) return fail(GPT_E_ARG, "there is no such place in the text");
    if ((r = gpt_session_rewind(web.s, n, &web.err)) != GPT_OK) return r;
    web.n = n;
    web.write = 1;
    return begin(&id, 1);
}

/* The text goes on from its end. */
WEB(web_more) int web_more(void) {
    const gpt_result r = gpt_begin(web.s, NULL, &web.gen, say, NULL, &web.err);
    web.phase = r ? IDLE : WRITING;
    return r ? (int)r : GPT_MORE;
}

/* An answer: web_room holds today's date, then role and content of n messages, a NUL behind each of these. */
WEB(web_chat) int web_chat(unsigned n) {
    gpt_message *message = (gpt_message *)room(n, sizeof *message);
    gpt_generate_params gen = web.gen;
    gpt_chat_params chat;
    const char *p = web.in + strlen(web.in) + 1;
    gpt_result r;
    unsigned i;
    if (!message) return GPT_E_MEMORY;
    memset(&chat, 0, sizeof chat);
    chat.date = web.in;
    chat.drop = 1;
    for (i = 0; i < n; i++) {
        message[i].role = p;
        message[i].content = p += strlen(p) + 1;
        p += strlen(p) + 1;
    }
    gen.think = say;
    gen.think_user = &web;
    gpt_end(web.s);
    web.row_at = 0;
    r = gpt_chat_begin(web.s, message, n, &chat, &gen, say, NULL, &web.err);
    free(message);
    if (!r) judge();
    web.phase = r ? IDLE : WRITING;
    return r ? (int)r : GPT_MORE;
}

WEB(web_stop) void web_stop(void) { gpt_end(web.s); judge(); web.phase = IDLE; }

/* Computes for about so many milliseconds; GPT_MORE: there is more to do. */
WEB(web_step) int web_step(double ms) {
    web.deadline = page_now() + ms;
    while (web.phase) {
        const gpt_result r = gpt_step(web.s, &web.err);
        if (web.phase == WRITING) judge();
        if (r == GPT_MORE && page_now() < web.deadline) continue;
        if (r) { if (r != GPT_MORE) web.phase = IDLE; return r; }
        if (web.phase == READING && web.write) {
            if (web_more() != GPT_MORE) return web.err.code;
        } else web.phase = IDLE;
    }
    return GPT_OK;
}

WEB(web_n) unsigned web_n(void) { return (unsigned)web.n; }
WEB(web_ids) const gpt_token *web_ids(void) { return web.id; }
WEB(web_logprobs) const float *web_logprobs(void) { return web.logprob; }
WEB(web_tops) const gpt_logprob *web_tops(void) { return web.top; }
/* Of the last text: tokens computed, a gpt_finish, tokens written. */
WEB(web_state) unsigned web_state(int i) {
    gpt_session_info info;
    gpt_session_info_get(web.s, &info);
    return i == 0 ? (unsigned)info.n_computed : i == 1 ? (unsigned)info.finish : (unsigned)info.n_generated;
}

/* ---- A look at one place ------------------------------------------------------------------------------------------------ */

static int on_look(void *user, const gpt_trace *t) {
    const size_t l = (size_t)t->layer, n = web.at + 1;
    size_t h;
    (void)user;
    if (web.looking != 2 || t->layer < 0 || t->position + t->n_row - 1 < web.at) return 0;
    if (!strcmp(t->name, "out")) {
        memcpy(web.stream + l * t->n_col, t->data + (web.at - t->position) * t->stride, t->n_col * sizeof(float));
    } else if (!strcmp(t->name, "att_weights") && t->position == web.at && t->n_row <= web.info.n_head) {
        web.n_head[l] = (unsigned)t->n_row;
        for (h = 0; h < t->n_row; h++)
            memcpy(web.att + (l * web.info.n_head + h) * n, t->data + h * t->stride, (t->n_col < n ? t->n_col : n) * sizeof(float));
    }
    return 0;
}

static int open_look(void) {
    gpt_session_params params;
    const size_t n_vocab = web.info.n_vocab, n_layer = web.info.n_layer;
    if (web.look) return GPT_OK;
    memset(&params, 0, sizeof params);
    params.n_ctx = web.text.n_ctx;
    params.n_batch = 16;
    params.att_weights = 1;
    params.hooks.poll = on_poll;
    params.hooks.trace = on_look;
    if (!web.base) web.base = (float *)room(n_vocab, sizeof(float));
    if (!web.x) web.x = (float *)room(n_vocab, sizeof(float));
    if (!web.list) web.list = (gpt_logprob *)room(n_vocab, sizeof *web.list);
    if (!web.n_head) web.n_head = (unsigned *)room(n_layer, sizeof *web.n_head);
    if (!web.stream) web.stream = (float *)room(n_layer, web.info.d_model * sizeof(float));
    if (!web.att) web.att = (float *)room(n_layer * web.info.n_head, web.text.n_ctx * sizeof(float));
    if (!web.base || !web.x || !web.list || !web.n_head || !web.stream || !web.att) return GPT_E_MEMORY;
    return gpt_session_new(&web.look, web.m, &params, &web.err);
}

/* What could have come as token `at`, and what that token looks at; at its end, what may come next. web_look_step computes it.
 * Ahead of the first token there is nothing: of it only the second part. */
WEB(web_look) int web_look(unsigned at) {
    size_t n;
    const gpt_token *id = gpt_session_tokens(web.s, &n);
    gpt_result r;
    web.looking = 0;
    if (!n || at > n) return fail(GPT_E_ARG, "there is no such place in the text");
    if ((r = (gpt_result)open_look()) != GPT_OK) return r;
    memset(web.n_head, 0, web.info.n_layer * sizeof *web.n_head);
    gpt_end(web.look);
    if ((r = gpt_session_copy(web.look, web.s, at ? at - 1 : 0, &web.err)) != GPT_OK) return r;
    web.at = at;
    web.at_id = at < n ? id[at] : -1;
    if ((r = gpt_eval_begin(web.look, id + (at ? at - 1 : 0), 1, NULL, &web.err)) != GPT_OK) return r;
    web.looking = at ? 1 : 2;
    return GPT_MORE;
}
/* For about so many milliseconds; GPT_MORE: there is more to do. */
WEB(web_look_step) int web_look_step(double ms) {
    web.deadline = page_now() + ms;
    while (web.looking) {
        gpt_result r = gpt_step(web.look, &web.err);
        if (r == GPT_MORE && page_now() < web.deadline) continue;
        if (r == GPT_MORE) return r;
        if (!r && web.looking == 1) {
            memcpy(web.base, gpt_logits(web.look), web.info.n_vocab * sizeof *web.base);
            if (web.at_id >= 0 && !(r = gpt_eval_begin(web.look, &web.at_id, 1, NULL, &web.err))) { web.looking = 2; continue; }
        }
        web.looking = 0;
        if (r) return r;
    }
    return GPT_OK;
}
WEB(web_heads) const unsigned *web_heads(void) { return web.n_head; }
WEB(web_attention) const float *web_attention(int layer, int head) {
    return web.att + ((size_t)layer * web.info.n_head + (size_t)head) * (web.at + 1);
}
/* What the model would say if this layer were its last. */
WEB(web_lens) const gpt_logprob *web_lens(int layer) {
    size_t i = 0;
    if (!gpt_head(web.look, web.stream + (size_t)layer * web.info.d_model, web.x, &web.err))
        i = gpt_top(web.x, web.info.n_vocab, N_TOP, web.lens);
    for (; i < N_TOP; i++) web.lens[i].token = -1;
    return web.lens;
}

/* The likeliest tokens of this place, with what is left of each by web_sampling's settings: what gpt_sample does, but for the
 * draw, in its order: penalty, top-k, top-p, min-p, temperature. Each filter judges by what the one before has left. Returns
 * how many; web_left: how many tokens may be drawn in all. */
WEB(web_spread) int web_spread(void) {
    const gpt_sample_params *p = &web.gen.sample;
    const size_t n_vocab = web.info.n_vocab, from = web.at > 64 ? web.at - 64 : 0, n = gpt_top(web.base, n_vocab, N_SPREAD, web.list);
    const int draws = p->temperature > 0;
    double sum = 0, head = 0;
    size_t i, k, left;
    for (i = 0; i < n; i++) {
        web.spread[i].token = web.list[i].token;
        web.spread[i].before = (float)exp((double)web.list[i].logprob);
        web.spread[i].after = 0;
    }
    memcpy(web.x, web.base, n_vocab * sizeof *web.x);
    for (i = from; i < web.at && p->repeat_penalty > 0; i++) {
        float *x = web.x + web.id[i];
        for (k = from; k < i && web.id[k] != web.id[i]; k++) {}
        if (k == i) *x = *x > 0 ? *x / p->repeat_penalty : *x * p->repeat_penalty;
    }
    left = gpt_top(web.x, n_vocab, !draws ? 1 : p->top_k > 0 && (size_t)p->top_k < n_vocab ? (size_t)p->top_k : n_vocab, web.list);
    for (i = left; i-- > 0;) web.list[i].logprob -= web.list[0].logprob;
    for (i = 0; i < left; i++) sum += exp((double)web.list[i].logprob);
    if (draws && p->top_p < 1) {
        for (i = 0; i < left && head < (double)p->top_p * sum; i++) head += exp((double)web.list[i].logprob);
        left = i;
    }
    while (draws && left > 1 && exp((double)web.list[left - 1].logprob) < (double)p->min_p) left--;
    for (sum = 0, i = 0; i < left; i++) sum += exp((double)(web.list[i].logprob / (draws ? p->temperature : 1)));
    for (i = 0; i < left; i++)
        for (k = 0; k < n; k++)
            if (web.list[i].token == web.spread[k].token)
                web.spread[k].after = (float)(exp((double)(web.list[i].logprob / (draws ? p->temperature : 1))) / sum);
    web.n_left = left;
    return (int)n;
}
WEB(web_chances) const chance *web_chances(void) { return web.spread; }
WEB(web_left) unsigned web_left(void) { return (unsigned)web.n_left; }

#ifdef __cplusplus
}
#endif
