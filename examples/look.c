/* A window into a running model: one HTML page, with everything inside, on what a model thinks of a text: how surprising each token
 * is and what it expected instead, where each head of attention looks, what each layer would already say, how the residual
 * stream grows, which experts were chosen, where the time goes. It may take a head out (--ablate) or push the stream (--steer). */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include <math.h>

static const char about[] =
    "usage: look -m MODEL -p TEXT -o PAGE.html [-n N] [--ablate LAYER.HEAD] [--steer FILE]\n\n"
    "Writes a page that shows what the model computes for the text: open it in any browser, no network is needed.\n"
    "Layers and heads count from 0. --ablate sets what a head gives to 0; --steer adds a vector, d_model numbers as\n"
    "text, to the residual stream behind a layer (default: the middle one). The page then shows the plain text and\n"
    "the changed one side by side; all else on it is of the plain one.";

enum { N_TOP = 5, MOST_SHOWN = 512 };

/* ---- What is seen ----------------------------------------------------------------------------------------------------- */

/* The events of one stage, the time up to the first of which is the stage's. */
static const struct { const char *events, *what; } stages[] = {
    { "embd",              "embedding" },
    { "attn_norm",         "norm ahead of attention" },
    { "q, k, v",           "queries, keys, values: three products" },
    { "q_rope, k_rope",    "positions turn queries and keys; into the cache" },
    { "att, state",        "attention (or short convolution, a state)" },
    { "attn_out",          "product back to the stream" },
    { "resid, ffn_norm",   "sum, norm ahead of the feed-forward" },
    { "experts",           "choice of experts" },
    { "ffn_gate, ffn_up",  "feed-forward: products up" },
    { "ffn_act",           "activation" },
    { "ffn_down",          "feed-forward: product down" },
    { "out",               "sum (of experts: with their products down)" },
    { "norm",              "last norm" },
    { "logits",            "product with the vocabulary" }
};
enum { N_STAGE = sizeof stages / sizeof *stages };

/* What a run says of each token: its surprise in bits, and the likeliest ones at each position. */
typedef struct { float *bits; gpt_logprob *top; } judged;

typedef struct {
    gpt_model_info model;
    gpt_token *ids;
    size_t n, n_prompt, n_map, n_lens;  /* tokens; of them given; shown in maps, in the lens */
    judged plain, other, *to;           /* to: what the run under way fills */
    int maps, change;                   /* the run under way: collects attention, is changed */
    size_t *n_head;                     /* [n_layer] */
    unsigned char **map;                /* [n_layer] of [n_head, n_map (n_map + 1) / 2] */
    float *norm, *stream;               /* [n_layer + 1, n], [n_layer, n_lens, d_model] */
    gpt_logprob *lens;                  /* [n_lens, n_layer] */
    float **expert;                     /* [n_layer] of [n_map, n_expert] */
    size_t n_expert;
    double seconds[N_STAGE], last;
    int n_run;                          /* of which these are the quickest's */
    size_t n_ablate;
    struct { size_t layer, head; } ablate[ARG_LIST_MAX];
    float *steer;                       /* NULL, or what is added behind this layer, scaled */
    size_t steer_layer, mean_layer;
    double *mean;                       /* NULL, or the sum of the stream behind this layer */
} look;

static void *need(size_t n, size_t size) { return args_need(calloc(n ? n : 1, size)); }

/* Room for the likeliest of n rows; token -1: there are not so many, as of logits that are NaN. */
static gpt_logprob *need_top(size_t n) {
    gpt_logprob *top = (gpt_logprob *)need(n, sizeof *top);
    for (size_t i = 0; i < n; i++) top[i].token = -1;
    return top;
}

/* A weight as a byte, 255 times its root: exact to root / 255, also where it is small. */
static void keep_map(look *k, const gpt_trace *t) {
    const size_t l = (size_t)t->layer, triangle = k->n_map * (k->n_map + 1) / 2, row = t->position * (t->position + 1) / 2;
    if (t->position >= k->n_map || (k->map[l] && t->n_row != k->n_head[l])) return;
    if (!k->map[l]) k->map[l] = (unsigned char *)need(t->n_row, triangle);
    k->n_head[l] = t->n_row;
    for (size_t h = 0; h < t->n_row; h++)
        for (size_t i = 0; i < t->n_col && i <= t->position; i++) {
            const float w = t->data[h * t->stride + i];
            k->map[l][h * triangle + row + i] = w > 0 ? (unsigned char)(255 * sqrtf(w < 1 ? w : 1) + 0.5f) : 0;
        }
}

static void keep_row(look *k, const gpt_trace *t, const float *x, size_t position) {
    const size_t l = (size_t)(t->layer + 1), d = t->n_col;
    if (!strcmp(t->name, "embd") || !strcmp(t->name, "out")) {
        double sum = 0;
        for (size_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
        k->norm[l * k->n + position] = (float)sqrt(sum);
        for (size_t i = 0; k->mean && l == k->mean_layer + 1 && i < d; i++) k->mean[i] += (double)x[i];
        if (l && position < k->n_lens) memcpy(k->stream + ((l - 1) * k->n_lens + position) * d, x, d * sizeof *x);
    }
    if (!strcmp(t->name, "experts") && position < k->n_map) {
        if (!k->expert[l - 1]) k->expert[l - 1] = (float *)need(k->n_map, d * sizeof *x);
        if (d > k->n_expert) k->n_expert = d;
        memcpy(k->expert[l - 1] + position * d, x, d * sizeof *x);
    }
}

/* Takes heads out, pushes the stream: 1 = it did. */
static int change(const look *k, const gpt_trace *t) {
    int did = 0;
    if (!strcmp(t->name, "att"))
        for (size_t i = 0; i < k->n_ablate; i++) {
            const size_t l = k->ablate[i].layer;
            if ((int)l != t->layer) continue;
            const size_t d_v = t->n_col / k->n_head[l];
            for (size_t r = 0; r < t->n_row; r++) memset(t->data + r * t->stride + k->ablate[i].head * d_v, 0, d_v * sizeof(float));
            did = 1;
        }
    if (k->steer && t->layer == (int)k->steer_layer && !strcmp(t->name, "out")) {
        for (size_t r = 0; r < t->n_row; r++)
            for (size_t i = 0; i < t->n_col; i++) t->data[r * t->stride + i] += k->steer[i];
        did = 1;
    }
    return did;
}

static int on_trace(void *user, const gpt_trace *t) {
    look *k = (look *)user;
    const double now = args_seconds();
    int did = 0;
    if (k->maps) {
        if (!strcmp(t->name, "att_weights")) keep_map(k, t);
        return 0;
    }
    for (size_t i = 0; i < N_STAGE && !k->change; i++)
        if (args_has(stages[i].events, t->name)) k->seconds[i] += now - k->last;
    for (size_t r = 0; r < t->n_row && k->to && t->position + r < k->n; r++) {
        const size_t position = t->position + r;
        if (!strcmp(t->name, "logits")) gpt_top(t->data + r * t->stride, t->n_col, N_TOP, k->to->top + position * N_TOP);
        else if (!k->change) keep_row(k, t, t->data + r * t->stride, position);
    }
    if (k->change) did = change(k, t);
    k->last = args_seconds();               /* what the hook itself takes does not count */
    return did;
}

static void must(gpt_result r, const gpt_error *err) {
    if (args_stopped) args_interrupted("looking", "");
    if (r) args_die("%s", err->msg);
}

/* All tokens through the model, on an empty session. */
static void judge(look *k, gpt_session *s, judged *to) {
    gpt_error err;
    to->bits = (float *)need(k->n, sizeof(float));
    to->top = need_top(k->n * N_TOP);
    k->to = to;
    k->last = args_seconds();
    must(gpt_score(s, k->ids, k->n, to->bits, &err), &err);
    k->to = NULL;
    for (size_t i = 0; i < k->n; i++) to->bits[i] = (float)(-(double)to->bits[i] / log(2));
}

/* The time by stage again, of a short text: on a machine that does other things too one run may say anything. */
static void time_again(look *k, gpt_session *s) {
    float *bits = (float *)need(k->n, sizeof *bits);
    double least = 0;
    gpt_error err;
    for (size_t i = 0; i < N_STAGE; i++) least += k->seconds[i];
    for (k->n_run = 1; k->n_run < 8 && least < 0.05; k->n_run++) {
        double before[N_STAGE], sum = 0;
        memcpy(before, k->seconds, sizeof before);
        memset(k->seconds, 0, sizeof k->seconds);
        gpt_session_reset(s);
        k->last = args_seconds();
        must(gpt_score(s, k->ids, k->n, bits, &err), &err);
        for (size_t i = 0; i < N_STAGE; i++) sum += k->seconds[i];
        if (sum > least) memcpy(k->seconds, before, sizeof before); else least = sum;
    }
    free(bits);
}

/* Bits of all tokens but the first, which nothing foretells. */
static double sum_of(const look *k, const judged *j) {
    double sum = 0;
    for (size_t i = 1; i < k->n; i++) sum += (double)j->bits[i];
    return sum;
}

typedef struct { char *p; size_t n; } text_buffer;
static int collect(void *user, const char *text, size_t n) {
    text_buffer *b = (text_buffer *)user;
    b->p = (char *)args_need(realloc(b->p, b->n + n + 1));
    memcpy(b->p + b->n, text, n);
    b->n += n;
    return 0;
}

/* The model goes on from the prompt. */
static text_buffer go_on(look *k, gpt_session *s, const gpt_generate_params *params) {
    text_buffer b = { NULL, 0 };
    gpt_error err;
    must(gpt_eval(s, k->ids, k->n_prompt, &err), &err);
    must(gpt_generate(s, NULL, params, collect, &b, &err), &err);
    return b;
}

/* The top token of each layer's stream, put through the last norm and the vocabulary. */
static void look_through(look *k, gpt_session *s, args_progress progress) {
    const size_t n_layer = k->model.n_layer, d = k->model.d_model;
    float *logits = (float *)need(k->model.n_vocab, sizeof *logits);
    gpt_error err;
    for (size_t l = 0; l < n_layer; l++)
        for (size_t i = 0; i < k->n_lens; i++) {
            must(gpt_head(s, k->stream + (l * k->n_lens + i) * d, logits, &err), &err);
            gpt_top(logits, k->model.n_vocab, 1, &k->lens[i * n_layer + l]);
            args_progress_show(&progress, "looking through the layers", (double)(l * k->n_lens + i), (double)(n_layer * k->n_lens));
        }
    args_progress_end(&progress);
    free(logits);
}

/* ---- Options that name heads and vectors ------------------------------------------------------------------------------ */

static void read_ablate(look *k, const arg_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        const char *text = list->item[i];
        char *end = NULL, *last = NULL;
        const long layer = strtol(text, &end, 10), head = *end == '.' ? strtol(end + 1, &last, 10) : -1;
        if (*text < '0' || *text > '9' || *end != '.' || end[1] < '0' || end[1] > '9' || *last)
            args_die("--ablate: expected LAYER.HEAD, as 2.0, got '%s'", text);
        if (layer >= (long)k->model.n_layer)
            args_die("--ablate %s: the model has layers 0 to %lu", text, (unsigned long)k->model.n_layer - 1);
        k->ablate[k->n_ablate].layer = (size_t)layer;
        k->ablate[k->n_ablate++].head = (size_t)head;
    }
}
static void check_ablate(const look *k, const arg_list *list) {
    for (size_t i = 0; i < k->n_ablate; i++) {
        const size_t l = k->ablate[i].layer, n = k->n_head[l];
        if (!n) args_die("--ablate %s: layer %lu has no attention", list->item[i], (unsigned long)l);
        if (k->ablate[i].head >= n)
            args_die("--ablate %s: layer %lu has heads 0 to %lu", list->item[i], (unsigned long)l, (unsigned long)n - 1);
    }
}

/* FILE or FILE:LAYER:SCALE; where is the file's name alone, for the caller to free. */
static double steer_parts(const char *text, long *layer, char **where) {
    char *name = strcpy((char *)need(strlen(text) + 1, 1), text), *colon = strrchr(name, ':'), *end;
    double scale = 1;
    *layer = -1;
    *where = name;
    if (colon && colon > name) {
        char *before = colon;
        const double x = strtod(colon + 1, &end);
        while (before > name && *--before != ':') {}
        if (end > colon + 1 && !*end && before > name && *before == ':' && before + 1 < colon
            && strspn(before + 1, "0123456789") == (size_t)(colon - before - 1)) {
            scale = x;
            *layer = strtol(before + 1, NULL, 10);
            *before = 0;
        }
    }
    return scale;
}
static void read_steer(look *k, const char *path, long layer, double scale) {
    const size_t d = k->model.d_model;
    size_t n_text, n = 0;
    char *text = args_read(path, &n_text), *p = text, *end;
    if (layer >= (long)k->model.n_layer)
        args_die("--steer: layer %ld, but the model has layers 0 to %lu", layer, (unsigned long)k->model.n_layer - 1);
    if (!(fabs(scale) < 1e30)) args_die("--steer: expected a scale that is a number, got %g", scale);
    k->steer_layer = layer < 0 ? k->model.n_layer / 2 : (size_t)layer;
    k->steer = (float *)need(d, sizeof(float));
    for (;; n++) {
        double v;
        p += strspn(p, " \t\r\n,");
        if (p == text + n_text) break;
        v = strtod(p, &end);
        if (end == p || !(fabs(v) < 1e30)) {
            p[strcspn(p, " \t\r\n,")] = 0;
            args_die("%s: expected numbers, number %lu is '%.20s'", path, (unsigned long)n + 1, p);
        }
        if (n < d) k->steer[n] = (float)(v * scale);
        p = end;
    }
    if (n != d) args_die("%s: expected d_model = %lu numbers, found %lu", path, (unsigned long)d, (unsigned long)n);
    free(text);
}

/* LAYER:FILE, which is to get the mean of the stream; returns the file's name. */
static const char *read_mean(look *k, const char *text) {
    char *end;
    const long layer = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != ':' || !end[1]) args_die("--mean: expected LAYER:FILE, got '%s'", text);
    if (layer >= (long)k->model.n_layer)
        args_die("--mean %s: the model has layers 0 to %lu", text, (unsigned long)k->model.n_layer - 1);
    k->mean_layer = (size_t)layer;
    k->mean = (double *)need(k->model.d_model, sizeof *k->mean);
    return end + 1;
}
static void write_mean(const look *k, const char *path) {
    args_out o;
    char line[40];
    int error;
    args_out_begin(&o, path);
    for (size_t i = 0; i < k->model.d_model; i++) {
        snprintf(line, sizeof line, "%.9g\n", k->mean[i] / (double)k->n);
        args_out_put(&o, line, strlen(line));
    }
    if ((error = args_out_end(&o)) != 0) args_die("%s: cannot write: %s", path, strerror(error));
}

/* ---- The data, as JSON that is safe inside a page ---------------------------------------------------------------------- */

static args_out out;
static void put(const char *fmt, ...) {
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0) args_out_put(&out, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}
static void put_number(double v) { if (isfinite(v)) put("%.6g", v); else put("null"); }

/* Bytes of the UTF-8 character that begins at p; 0: none does; more than n: it may, and goes on behind. */
static size_t character(const unsigned char *p, size_t n) {
    const size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < size && i < n; i++) if ((p[i] & 0xc0) != 0x80) return 0;
    if (size > 2 && n > 1 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90)
        || (p[0] == 0xf4 && p[1] > 0x8f))) return 0;
    return size;
}
/* A string. Bytes that are no UTF-8 become <FF>; what could end a script is escaped. */
static void put_string(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text, *end = p + n;
    put("\"");
    while (p < end) {
        const size_t size = character(p, (size_t)(end - p));
        if (!size || size > (size_t)(end - p)) put("\\u003c%02X\\u003e", *p++);
        else if (size == 1) {
            if (*p < 0x20 || *p == 0x7f || strchr("\"\\<>&'", *p)) put("\\u%04x", *p); else put("%c", *p);
            p++;
        } else {
            args_out_put(&out, p, size);
            p += size;
        }
    }
    put("\"");
}

static void put_base64(const unsigned char *p, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char four[5] = "";
    put("\"");
    for (; n > 0; p += 3) {
        const size_t m = n < 3 ? n : 3;
        const unsigned long v = (unsigned long)p[0] << 16 | (m > 1 ? (unsigned long)p[1] << 8 : 0) | (m > 2 ? p[2] : 0UL);
        for (size_t i = 0; i < 4; i++) four[i] = i <= m ? digit[v >> (18 - 6 * i) & 63] : '=';
        args_out_put(&out, four, 4);
        n -= m;
    }
    put("\"");
}

/* Tokens that are pieces of one character, as [first, behind the last, text]. */
static void put_groups(const gpt_model *m, const look *k) {
    text_buffer b = { NULL, 0 };
    size_t *end = (size_t *)need(k->n, sizeof *end), at = 0, i, first = 0, from = 0;
    for (i = 0; i < k->n; i++) {
        size_t n;
        const char *text = gpt_token_text(m, k->ids[i], &n);
        collect(&b, text ? text : "", n);
        end[i] = b.n;
    }
    for (i = 0; i < k->n; i++) {
        while (at < end[i]) {
            const size_t size = character((const unsigned char *)b.p + at, b.n - at);
            at += size && size <= b.n - at ? size : 1;
        }
        if (at > end[i]) continue;
        put("%s[%lu,%lu,", first ? "," : "", (unsigned long)first, (unsigned long)i + 1);
        put_string(b.p + from, at - from);
        put("]");
        first = i + 1;
        from = at;
    }
    free(end);
    free(b.p);
}

static void put_top(char *used, const gpt_logprob *top, size_t n) {
    put("[");
    for (size_t i = 0; i < n; i++) {
        put("%s%ld,", i ? "," : "", (long)top[i].token);
        put_number(exp((double)top[i].logprob));
        if (top[i].token >= 0) used[top[i].token] = 1;
    }
    put("]");
}
static void put_judged(const look *k, const judged *j, char *used) {
    put("\"sum\":");
    put_number(sum_of(k, j));
    put(",\"bits\":[null");
    for (size_t i = 1; i < k->n; i++) { put(","); put_number((double)j->bits[i]); }
    put("],\"top\":[null");                     /* of the token there, and of the one to come */
    for (size_t i = 0; i < k->n; i++) { put(",\n"); put_top(used, j->top + i * N_TOP, N_TOP); }
    put("]");
}

static void put_maps(const look *k) {
    const size_t triangle = k->n_map * (k->n_map + 1) / 2;
    put(",\n\"map\":{\"n\":%lu,\"w\":[", (unsigned long)k->n_map);
    for (size_t l = 0; l < k->model.n_layer; l++) {
        put(l ? ",\n[" : "[");
        for (size_t h = 0; h < k->n_head[l]; h++) { put(h ? ",\n" : ""); put_base64(k->map[l] + h * triangle, triangle); }
        put("]");
    }
    put("]}");
}

static void put_layers(const look *k, char *used) {
    const size_t n_layer = k->model.n_layer;
    put(",\n\"lens\":[");
    for (size_t i = 0; i < k->n_lens; i++) { put(i ? ",\n" : ""); put_top(used, k->lens + i * n_layer, n_layer); }
    put("],\n\"norms\":[");
    for (size_t l = 0; l <= n_layer; l++) {
        put(l ? ",\n[" : "[");
        for (size_t i = 0; i < k->n; i++) { put(i ? "," : ""); put_number((double)k->norm[l * k->n + i]); }
        put("]");
    }
    put("],\n\"experts\":[");
    for (size_t l = 0; l < n_layer && k->n_expert; l++) {
        put(l ? ",\n[" : "[");
        for (size_t i = 0; i < k->n_map && k->expert[l]; i++) {
            int more = 0;
            put(i ? ",[" : "[");
            for (size_t e = 0; e < k->n_expert; e++) {
                const float w = k->expert[l][i * k->n_expert + e];
                if (w != 0.0f) { put("%s%lu,", more++ ? "," : "", (unsigned long)e); put_number((double)w); }
            }
            put("]");
        }
        put("]");
    }
    put("],\n\"n_run\":%d,\"times\":[", k->n_run);
    for (size_t i = 0, more = 0; i < N_STAGE; i++)
        if (k->seconds[i] > 0) put("%s[\"%s\",\"%s\",%.6g]", more++ ? ",\n" : "", stages[i].events, stages[i].what, 1e3 * k->seconds[i]);
    put("]");
}

/* In words: "without head 2.3; with 2 times steer.txt behind layer 2". */
static void changes(const look *k, const char *steer, double scale, char *text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < k->n_ablate && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%lu.%lu", i ? ", " : k->n_ablate > 1 ? "without heads " : "without head ",
                              (unsigned long)k->ablate[i].layer, (unsigned long)k->ablate[i].head);
    if (k->steer && n < size)
        snprintf(text + n, size - n, "%swith %g times %s behind layer %lu", n ? "; " : "", scale, steer, (unsigned long)k->steer_layer);
}

/* ---- The page: data stands between its two halves ----------------------------------------------------------------------- */

static const char *const head[] = {
"<!DOCTYPE html>",
"<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>",
"<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'\">",
"<title>A look into a model</title>",
"<style>",
"body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 0 auto; padding: 0 12px 6em; color: #222; background: #fff }",
"h1 { font-size: 1.5em; margin: .8em 0 0 } h2 { font-size: 1.2em; margin: 2em 0 .3em } h3 { font-size: 1em; margin: .8em 0 .2em }",
"p { margin: .4em 0 } .note, td.n { color: #666 } .note { font-size: .9em } .warn { background: #fff3cd; padding: 4px 8px; border-radius: 4px }",
".strip { font-size: 1.05em; line-height: 1.9; overflow-wrap: anywhere } .strip span { padding: 2px 1px; border-radius: 3px; cursor: "
    "pointer; white-space: pre-wrap }",
".on { outline: 2px solid #06c; position: relative; z-index: 1 }",
".new { border-bottom: 2px dotted #888 }",
".box { border: 1px solid #ccc; border-radius: 6px; padding: 6px 10px; margin: .5em 0; min-height: 9.6em; max-height: 44vh; overflow: "
    "auto; position: sticky; bottom: 0; background: #fff; z-index: 2 }",
".pair { display: grid; grid-template-columns: 1fr 1fr; gap: .6em }",
".two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.2em } @media (max-width: 700px) { .two { grid-template-columns: 1fr } }",
".scroll { overflow: auto; max-height: 34em } table { border-collapse: collapse; font-size: .88em }",
"td, th { padding: 1px 7px; text-align: left; white-space: pre; border-bottom: 1px solid #eee } thead th { position: sticky; top: 0; "
    "background: #fff }",
"th.k { position: sticky; left: 0; background: #fff; font-weight: normal; max-width: 9em; overflow: hidden; text-overflow: ellipsis }",
".heads td { padding: 0; border: 1px solid #fff } .heads button { border: 0; width: 100%; min-width: 3.9em; height: 2.3em; font: "
    "inherit; cursor: pointer; padding: 0 }",
".bar { display: inline-block; height: .75em; background: #f0a050; margin-right: 6px; min-width: 1px } .bar.b { background: #6ca0dc }",
".scale span { display: inline-block; padding: 0 8px; color: #222 } canvas { display: block; max-width: 100%; image-rendering: "
    "pixelated; touch-action: pan-y; cursor: crosshair }",
"</style></head><body>",
"<h1>A look into a model</h1>",
"<p class='note' id='about'></p><div id='notes'></div>",
"<noscript><p class='warn'>This page draws itself with JavaScript, which is switched off here.</p></noscript>",
"<script type='application/json' id='data'>", NULL
};

static const char *const tail[] = {
"</script>",
"<script>",
"'use strict';",
"const D = JSON.parse(document.getElementById('data').textContent), n = D.tokens.length, P = D.plain, C = D.changed;",
"function el(tag, parent, text, cls) {",
"  const e = document.createElement(tag);",
"  if (text !== undefined) e.textContent = text;",
"  if (cls) e.className = cls;",
"  if (parent) parent.append(e);",
"  return e;",
"}",
"/* Text that can be seen: control characters by their pictures, line ends by an arrow. */",
"const seen = s => s === '' ? '\\u2205' : s.replace(/[\\x00-\\x1f\\x7f]/g, c => c == '\\n' ? '\\u21b5' : c == '\\x7f' ? '\\u2421' : "
    "String.fromCharCode(0x2400 + c.charCodeAt(0)));",
"const word = id => id < 0 ? '?' : seen(D.words[id].replace(/^ +$/, x => '\\u2423'.repeat(x.length))), show = i => '\\u201c' + word(D.tokens[i]) + '\\u201d';",
"const num = (x, d) => x === null || x === undefined ? '?' : x.toFixed(d), pct = x => x === null || x === undefined ? '?' : x >= 0.0995 "
    "? (100 * x).toFixed(0) + ' %' : (x >= 0.001 ? (100 * x).toFixed(1) : '< 0.1') + ' %';",
"const heat = v => { v = Math.max(0, Math.min(1, v || 0)); return 'hsl(' + (46 - 46 * v) + ' 92% ' + (100 - 54 * v) + '%)'; };",
"const cold = v => { v = Math.max(0, Math.min(1, v || 0)); return 'hsl(210 80% ' + (100 - 50 * v) + '%)'; };",
"const signed = v => v >= 0 ? heat(v) : cold(-v), ink = (e, color, v) => { e.style.background = color; e.style.color = Math.abs(v) > 0.8 "
    "? '#fff' : '#222'; };",
"const sum = (a, g) => { let s = 0; for (let i = g[0]; i < g[1]; i++) { if (a[i] === null) return null; s += a[i]; } return s; };",
"function section(title, note) {",
"  const s = el('section', document.body);",
"  el('h2', s, title);",
"  if (note) el('p', s, note, 'note');",
"  return s;",
"}",
"/* The text as spans, one for each group of tokens up to the last-th token; paint(group) gives [color, strength]. */",
"function strip(parent, last, paint, pick) {",
"  const s = el('div', parent, undefined, 'strip'), spans = [];",
"  for (const g of D.groups) {",
"    if (g[1] > last) break;",
"    const e = el('span', s, seen(g[2]), g[0] >= D.n_prompt ? 'new' : '');",
"    if (g[2].includes('\\n')) s.append(document.createElement('br'));",
"    e.onpointerenter = e.onclick = () => pick(g);",
"    spans.push([e, g]);",
"  }",
"  let before = null;",
"  const again = (f, on) => {",
"    if (f) for (const [e, g] of spans) { const [c, v] = f(g); ink(e, c, v); }",
"    const now = spans.find(x => x[1] === on);",
"    if (before) before.classList.remove('on');",
"    if (now) now[0].classList.add('on');",
"    before = now && now[0];",
"  };",
"  again(paint);",
"  return again;",
"}",
"",
"/* ---- Surprise ---- */",
"document.title = 'A look into ' + (D.model || D.file);",
"document.getElementById('about').textContent = (D.model || D.file) + ': ' + D.about;",
"for (const t of D.notes) el('p', document.getElementById('notes'), t, 'warn');",
"{",
"  const s = section('How surprising each token is', 'Surprise is -log2 of the probability that the model gave to the token: 0 bits, it "
    "was sure; 1 bit, as a coin; 10 bits, one of a thousand. Pieces of one character stand together. '",
"    + (D.n_prompt < n ? 'What the model wrote is underlined with dots. ' : '') + 'Point at a token, or tap it, to see what was expected there.');",
"  const scale = el('p', s, undefined, 'note scale');",
"  for (const b of [0, 2, 4, 6, 8, 10, 12]) ink(el('span', scale, b + (b == 12 ? '+ bits' : '')), heat(b / 12), b / 12);",
"  const marks = [], grey = '#e4e4e4';",
"  const paint = J => g => { const b = sum(J.bits, g); return b === null ? [grey, 0] : [heat(b / 12), b / 12]; };",
"  const box = el('div', null, undefined, 'box');",
"  function list(parent, J, i, cls) {",
"    if (C) el('div', parent, J === C ? 'changed' : 'plain', 'note');",
"    const t = el('table', parent), top = J.top[i];",
"    if (!top) { el('p', parent, 'Nothing stands ahead of it, so nothing was expected.', 'note'); return; }",
"    for (let k = 0; k < top.length; k += 2) {",
"      if (top[k] < 0) continue;",
"      const r = el('tr', t);",
"      el('td', r, word(top[k]) + (top[k] === D.tokens[i] ? ' \\u2714' : ''));",
"      const c = el('td', r);",
"      el('span', c, undefined, 'bar ' + cls).style.width = Math.round(90 * (top[k + 1] || 0)) + 'px';",
"      c.append(pct(top[k + 1]));",
"    }",
"  }",
"  function pick(g) {",
"    for (const again of marks) again(null, g);",
"    box.textContent = '';",
"    for (let i = g[0]; i < g[1]; i++) {",
"      const bits = P.bits[i], p = el('p', box);",
"      el('b', p, i < n ? show(i) : 'what comes next');",
"      if (i < n) p.append(' token ' + i + ', id ' + D.tokens[i] + (bits === null ? '' : ': ' + num(bits, 2) + ' bits, p ' + pct(2 ** "
    "-bits).replace(/^(?!<)/, '= ')) + (C && bits !== null ? '; changed: ' + num(C.bits[i], 2) + ' bits' : ''));",
"      const two = el('div', box, undefined, C ? 'pair' : '');",
"      for (const J of C ? [P, C] : [P]) list(el('div', two), J, i, J === C ? 'b' : '');",
"    }",
"  }",
"  const end = [n, n + 1, '\\u2026'];",
"  const per = J => num(J.sum, 1) + ' bits over ' + (n - 1) + ' tokens, ' + num(J.sum / (n - 1), 3) + ' a token (' + num(J.sum / (n - 1) "
    "* Math.LN2, 3) + ' nats)';",
"  const view = (where, J, title) => {",
"    if (title) el('h3', where, title);",
"    marks.push(strip(where, n, paint(J), pick));",
"    el('p', where, per(J), 'note');",
"  };",
"  if (!C) view(s, P);",
"  else {",
"    const two = el('div', s, undefined, 'two');",
"    view(el('div', two), P, 'plain');",
"    view(el('div', two), C, C.what);",
"    el('p', s, 'The change makes the text ' + num(Math.abs(C.sum - P.sum), 2) + ' bits ' + (C.sum >= P.sum ? 'more' : 'less') + ' "
    "surprising: ' + num(Math.abs(C.sum - P.sum) / (n - 1), 4) + ' a token.');",
"  }",
"  s.append(box);",
"  const next = el('button', s, 'what would come next?');",
"  next.onclick = () => pick(end);",
"  if (C) {",
"    el('h3', s, 'Where the change shows most');",
"    const t = el('table', el('div', s, undefined, 'scroll')), h = el('tr', el('thead', t)), order = [];",
"    for (const x of ['token', 'plain', 'changed', 'difference']) el('th', h, x);",
"    for (let i = 1; i < n; i++) order.push(i);",
"    const by = i => C.bits[i] - P.bits[i];",
"    order.sort((a, b) => Math.abs(by(b)) - Math.abs(by(a)));",
"    for (const i of order.slice(0, 10)) {",
"      const r = el('tr', t);",
"      for (const x of [show(i) + ' (' + i + ')', num(P.bits[i], 2), num(C.bits[i], 2)]) el('td', r, x);",
"      ink(el('td', r, (by(i) > 0 ? '+' : '') + num(by(i), 2)), signed(by(i) / 6), by(i) / 6);",
"    }",
"    if (C.text !== null) { el('h3', s, 'What the changed model writes with the same seed'); el('p', s, C.text).style.whiteSpace = 'pre-wrap'; }",
"  }",
"  let most = D.groups[0], high = -1;",
"  for (const g of D.groups) { const b = sum(P.bits, g); if (b > high) { high = b; most = g; } }",
"  pick(most);",
"}",
"",
"/* ---- A picture of rows and columns; value gives 0 to 1, pick gets the cell that is pointed at ---- */",
"function picture(parent, rows, cols, most, value, pick) {",
"  const c = el('canvas', parent), w = Math.max(2, Math.min(18, Math.floor(most / cols)));",
"  const h = rows < 40 && w < 14 ? 14 : w, g = c.getContext('2d');",
"  c.width = w * cols; c.height = h * rows; if (h !== w) c.style.height = c.height + 'px';",
"  const cell = e => { const b = c.getBoundingClientRect(); return [Math.min(rows - 1, Math.max(0, Math.floor((e.clientY - b.top) / "
    "b.height * rows))), Math.min(cols - 1, Math.max(0, Math.floor((e.clientX - b.left) / b.width * cols)))]; };",
"  c.onpointermove = c.onclick = e => pick(...cell(e));",
"  return () => {",
"    g.clearRect(0, 0, c.width, c.height);",
"    for (let y = 0; y < rows; y++) for (let x = 0; x < cols; x++) {",
"      const v = value(y, x);",
"      if (v === null) continue;",
"      g.fillStyle = heat(v);",
"      g.fillRect(x * w, y * h, w > 5 ? w - 1 : w, h > 5 ? h - 1 : h);",
"    }",
"  };",
"}",
"",
"/* ---- Attention ---- */",
"if (D.map.w.some(l => l.length)) {",
"  const m = D.map.n, T = D.tokens, bytes = D.map.w.map(l => l.map(b => Uint8Array.from(atob(b), c => c.charCodeAt(0))));",
"  const weight = (l, h, q, k) => (bytes[l][h][q * (q + 1) / 2 + k] / 255) ** 2;",
"  const kinds = [['previous', 'the token before', '#7fb3e6'], ['first', 'the first token', '#b9b9b9'], ['itself', 'the token itself', '#a9d8a0'],",
"    ['repeat', 'earlier occurrences of the same token', '#f2b36b'], ['follower', 'what followed an earlier occurrence', '#e58a8a']];",
"  const s = section('Where each head of attention looks', (m < n ? 'Of the first ' + m + ' tokens. ' : '') + 'A row is a token that "
    "looks, a column what it looks at; the weights of a row sum to 1 (less where the model has sinks of its own).');",
"  el('p', s, 'What to look for: a line just under the diagonal is a head for the previous token; a bright first column is a sink, where "
    "a head rests that has nothing to say; spots where the text repeats itself belong to heads that find the same word, or what came after "
    "it.');",
"  /* Mean weights of a head from the third token on: there the first and the previous one differ. */",
"  function kind(l, h) {",
"    const s = [0, 0, 0, 0, 0], c = [0, 0, 0, 0, 0];",
"    for (let q = 2; q < m; q++) {",
"      let same = 0, after = 0, has = 0, follows = 0;",
"      for (let k = 0; k < q; k++) {",
"        if (T[k] === T[q]) { same += weight(l, h, q, k); has = 1; }",
"        if (k && T[k - 1] === T[q]) { after += weight(l, h, q, k); follows = 1; }",
"      }",
"      s[0] += weight(l, h, q, q - 1); s[1] += weight(l, h, q, 0); s[2] += weight(l, h, q, q); s[3] += same; s[4] += after;",
"      c[0]++; c[1]++; c[2]++; c[3] += has; c[4] += follows;",
"    }",
"    return s.map((x, i) => c[i] ? x / c[i] : 0);",
"  }",
"  const K = bytes.map((L, l) => L.map((_, h) => kind(l, h)));",
"  const best = k => k.indexOf(Math.max(...k));",
"  const t = el('table', el('div', s, undefined, 'scroll heads')), buttons = [];",
"  const top = el('tr', t);",
"  el('th', top, 'layer, head');",
"  for (let h = 0; h < Math.max(...K.map(x => x.length)); h++) el('th', top, String(h));",
"  K.forEach((L, l) => {",
"    const r = el('tr', t);",
"    el('th', r, String(l), 'k');",
"    L.forEach((k, h) => {",
"      const b = el('button', el('td', r), pct(k[best(k)]));",
"      b.style.background = kinds[best(k)][2] + Math.round(40 + 215 * Math.min(1, 1.5 * k[best(k)])).toString(16).padStart(2, '0');",
"      b.title = 'layer ' + l + ', head ' + h;",
"      b.setAttribute('aria-label', b.title);",
"      b.onclick = () => choose(l, h);",
"      buttons.push([b, l, h]);",
"    });",
"  });",
"  const legend = el('p', s, undefined, 'note scale');",
"  for (const k of kinds) { el('span', legend, k[1]).style.background = k[2]; legend.append(' '); }",
"  el('p', s, 'A cell is what its head looks at most among these, as a mean over the tokens that have such a place; the paler, the less. "
    "Tap one to see its map:', 'note');",
"  const said = el('p', s), where = el('p', s, '\\u00a0', 'note');",
"  let layer = 0, at = 0, row = m - 1;",
"  const draw = picture(s, m, m, 600, (q, k) => k > q ? null : Math.sqrt(weight(layer, at, q, k)), (q, k) => look(q, Math.min(k, q)));",
"  el('h3', s, 'What one token looks at');",
"  el('p', s, 'The darker, the more weight; the token that looks has a frame. Colours here and above go by the root of the weight, so "
    "that small ones are seen.', 'note');",
"  const again = strip(s, m, () => ['#fff', 0], g => look(g[1] - 1, g[0]));",
"  const group = q => D.groups.find(g => g[0] <= q && q < g[1]);",
"  function look(q, k) {",
"    row = q;",
"    where.textContent = show(q) + ' (token ' + q + ') looks at ' + show(k) + ' (token ' + k + ') with weight ' + num(weight(layer, at, q, k), 3);",
"    again(g => { let v = 0; for (let i = g[0]; i < g[1] && i <= q; i++) v += weight(layer, at, q, i); v = Math.sqrt(v); return "
    "[heat(v), v]; }, group(q));",
"  }",
"  function choose(l, h) {",
"    layer = l; at = h;",
"    const k = K[l][h];",
"    for (const [b, x, y] of buttons) b.classList.toggle('on', x === l && y === h);",
"    said.textContent = 'Layer ' + l + ', head ' + h + (m < 3 ? '' : ' gives ' + kinds.map((x, i) => pct(k[i]) + ' to ' + x[1]).join(', ') + '.');",
"    draw();",
"    let most = 0;",
"    for (let i = 1; i <= row; i++) if (weight(l, h, row, i) > weight(l, h, row, most)) most = i;",
"    look(row, most);",
"  }",
"  let first = null;",
"  K.forEach((L, l) => L.forEach((k, h) => { if (!first || k[0] > K[first[0]][first[1]][0]) first = [l, h]; }));",
"  choose(...first);",
"}",
"",
"/* ---- A table with a row for each token and a column for each layer ---- */",
"function table(parent, rows, fill) {",
"  const t = el('table', el('div', parent, undefined, 'scroll')), h = el('tr', el('thead', t));",
"  el('th', h, 'token', 'k');",
"  for (let l = 0; l < D.n_layer; l++) el('th', h, 'layer ' + l);",
"  for (let i = 0; i < rows; i++) {",
"    const r = el('tr', t);",
"    el('th', r, word(D.tokens[i]), 'k');",
"    for (let l = 0; l < D.n_layer; l++) fill(el('td', r), i, l);",
"  }",
"}",
"{",
"  const s = section('What each layer would already say', 'The logit lens: what the stream holds behind a layer, put through the last "
    "norm and the vocabulary, as if the other layers were not there. A cell is the likeliest next token and its probability; a tick: it is "
    "the one that came. Words appear where the model makes up its mind.'",
"    + (D.lens.length < n ? ' Of the first ' + D.lens.length + ' tokens.' : ''));",
"  table(s, D.lens.length, (c, i, l) => {",
"    const id = D.lens[i][2 * l], p = D.lens[i][2 * l + 1];",
"    c.textContent = word(id) + ' ' + (id === D.tokens[i + 1] ? '\\u2714 ' : '') + pct(p);",
"    ink(c, cold(0.8 * p), 0);",
"  });",
"}",
"{",
"  const N = D.norms, s = section('How the residual stream grows', 'The length of each token\\u2019s vector, from the embedding (top "
    "row) to behind the last layer (bottom row); a column is a token. A first token that is far longer than the others is usual: it is where "
    "attention rests.');",
"  let low = Infinity, high = 0;",
"  for (const r of N) for (const x of r) if (x > 0) { low = Math.min(low, x); high = Math.max(high, x); }",
"  const scale = x => x > 0 ? Math.log(x / low) / (Math.log(high / low) || 1) : 0;",
"  const read = el('p', s, '\\u00a0', 'note'), place = l => l ? 'behind layer ' + (l - 1) : 'embedding';",
"  const pick = (l, i) => { read.textContent = place(l) + ', ' + show(i) + ' (token ' + i + '): ' + num(N[l][i], 2); };",
"  picture(s, N.length, n, 900, (l, i) => scale(N[l][i]), pick)();",
"  el('p', s, 'From ' + num(low, 2) + ' (white) to ' + num(high, 2) + ' (red), by its logarithm.', 'note');",
"  pick(N.length - 1, 0);",
"}",
"if (D.experts.length) {",
"  const rows = Math.max(...D.experts.map(x => x.length));",
"  const s = section('Which experts were chosen', 'Of each token and layer the experts by their numbers, with what their output counts.' "
    "+ (rows < n ? ' Of the first ' + rows + ' tokens.' : ''));",
"  table(s, rows, (c, i, l) => {",
"    const e = D.experts[l][i] || [], parts = [];",
"    for (let k = 0; k < e.length; k += 2) parts.push([e[k], e[k + 1]]);",
"    parts.sort((a, b) => b[1] - a[1]);",
"    c.textContent = parts.map(x => x[0] + ' ' + pct(x[1])).join('  ');",
"    if (parts.length) c.style.background = 'hsl(' + parts[0][0] * 137.5 % 360 + ' 60% 88%)';",
"  });",
"}",
"{",
"  const all = D.times.reduce((a, t) => a + t[2], 0), longest = Math.max(...D.times.map(t => t[2]));",
"  const s = section('Where the time went', 'Time by the clock from one event of the trace to the next, over all layers and tokens, ' + "
    "num(all, 2) + ' ms in all: ' + (D.n_run > 1 ? 'the quickest of ' + D.n_run + ' runs' : 'one run') + ', on a machine that may have been "
    "busy. What looking takes is left out; build/bench measures speed.');",
"  const t = el('table', el('div', s, undefined, 'scroll'));",
"  for (const x of D.times) {",
"    const r = el('tr', t);",
"    el('td', r, x[1]).style.whiteSpace = 'normal';",
"    const c = el('td', r);",
"    el('span', c, undefined, 'bar').style.width = Math.round(90 * x[2] / longest) + 'px';",
"    c.append(num(x[2], 2) + ' ms, ' + pct(x[2] / all));",
"  }",
"}",
"</script></body></html>", NULL
};

static void put_lines(const char *const *line) {
    for (; *line; line++) { args_out_put(&out, *line, strlen(*line)); args_out_put(&out, "\n", 1); }
}

static void write_page(const gpt_model *m, const look *k, const args_common *c, const char *const *note, const char *what,
                       const text_buffer *text) {
    char *used = (char *)need(k->model.n_vocab, 1), line[400];
    int more = 0;
    put_lines(head);
    put("{\"file\":");
    put_string(c->model, strlen(c->model));
    put(",\"model\":");
    put_string(k->model.name, strlen(k->model.name));
    snprintf(line, sizeof line, "%s, %.2f million weights, %lu layers, width %lu, vocabulary %lu; %lu tokens here",
             k->model.architecture, (double)k->model.n_param / 1e6, (unsigned long)k->model.n_layer,
             (unsigned long)k->model.d_model, (unsigned long)k->model.n_vocab, (unsigned long)k->n);
    put(",\"about\":");
    put_string(line, strlen(line));
    put(",\"notes\":[");
    for (; *note; note++) { put(more++ ? "," : ""); put_string(*note, strlen(*note)); }
    put("],\n\"n_layer\":%lu,\"n_prompt\":%lu,\"tokens\":[", (unsigned long)k->model.n_layer, (unsigned long)k->n_prompt);
    for (size_t i = 0; i < k->n; i++) { put("%s%ld", i ? "," : "", (long)k->ids[i]); used[k->ids[i]] = 1; }
    put("],\n\"groups\":[");
    put_groups(m, k);
    put("],\n\"plain\":{");
    put_judged(k, &k->plain, used);
    put("},\n\"changed\":");
    if (k->other.bits) {
        put("{\"what\":");
        put_string(what, strlen(what));
        put(",\"text\":");
        if (text->p) put_string(text->p, text->n); else put("null");
        put(",");
        put_judged(k, &k->other, used);
        put("}");
    } else put("null");
    put_maps(k);
    put_layers(k, used);
    put(",\n\"words\":{");
    for (size_t i = 0, some = 0; i < k->model.n_vocab; i++) {
        size_t n;
        const char *text_of = used[i] ? gpt_token_text(m, (gpt_token)i, &n) : NULL;
        if (!used[i]) continue;
        put("%s\"%lu\":", some++ ? "," : "", (unsigned long)i);
        put_string(text_of ? text_of : "", text_of ? n : 0);
    }
    put("}}\n");
    put_lines(tail);
    free(used);
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    const char *text = NULL, *file = NULL, *page = NULL, *steer = NULL, *mean = NULL, *note[2] = { NULL, NULL };
    char what[300] = "", cut[120], *steer_file = NULL, *given;
    int n_more = 0, error;
    long steer_layer = -1;
    double steer_scale = 1, work;
    arg_list ablate = { { 0 }, 0 };
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt", ARG_TEXT,  &text,   "TEXT", "the text; - or none: read from stdin" },
        { "-f, --file",   ARG_TEXT,  &file,   "FILE", "a file with the text" },
        { "-o, --output", ARG_TEXT,  &page,   "FILE", "the page to write, HTML" },
        { "-n, --predict, --n-predict", ARG_COUNT, &n_more, "N", "tokens that the model goes on with (0)" },
        { "-s, --seed",   ARG_INT,   &sampling.seed, "S", "seed of these (default 0); -1 = from the clock" },
        { "--temp",       ARG_FLOAT, &sampling.temp, "T", "temperature of these (0.8); 0 = always the likeliest token" },
        { "--ablate",     ARG_LIST,  &ablate, "LAYER.HEAD", "what if this head gave nothing? May be repeated" },
        { "--steer",      ARG_TEXT,  &steer,  "FILE", "what if this vector were added? FILE:LAYER:SCALE says where, how strongly" },
        { "--mean",       ARG_TEXT,  &mean,   "LAYER:FILE", "write the mean of the stream behind the layer, for --steer" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    look k;
    gpt_model *m;
    gpt_session *s = NULL;
    gpt_session_params params;
    gpt_session_info info;
    gpt_generate_params writing;
    gpt_error err;
    gpt_token *ids;
    const gpt_token *whole;
    size_t n_text, n_bos, n, room;
    text_buffer changed_text = { NULL, 0 };

    args_parse(argc, argv, "look", table, about);
    memset(&k, 0, sizeof k);
    sampling.n_predict = n_more;
    writing = args_generation(&sampling);
    if (!page) args_die("no page: -o FILE names it");
    if (steer) steer_scale = steer_parts(steer, &steer_layer, &steer_file);
    if (c.model) {
        const args_file others[] = { { c.model, "the model" }, { file, "the text" }, { c.adapter, "the adapter" }, { steer_file, "the vector" } };
        args_check_out(args_name("-o"), page, others, sizeof others / sizeof *others);
    }
    given = args_text(text, file, 0, &n_text);
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, ARGS_WRITER);
    gpt_model_info_get(m, &k.model);
    if (k.model.start >= 0) args_die("an encoder reads the text: the page would show nothing of the decoder, which answers");
    read_ablate(&k, &ablate);
    if (steer) read_steer(&k, steer_file, steer_layer, steer_scale);
    if (mean) {
        const args_file others[] = { { c.model, "the model" }, { file, "the text" }, { c.adapter, "the adapter" }, { page, "the page" } };
        mean = read_mean(&k, mean);
        args_check_out("--mean", mean, others, sizeof others / sizeof *others);
    }
    params = args_session(&c);
    params.hooks.trace = on_trace;
    params.hooks.trace_user = &k;
    if (gpt_session_new(&s, m, &params, &err)) args_die("%s", err.msg);
    gpt_session_info_get(s, &info);

    /* 1. the tokens, with what the model writes behind them */
    ids = args_tokenize(m, "", 0, GPT_TOKENIZE_BOS, &n_bos);
    n_bos = (n_bos > 0 && ids[0] == k.model.bos) || (!n_text && k.model.bos >= 0);
    free(ids);
    ids = args_tokenize(m, given, n_text, 0, &n);
    room = info.n_ctx - n_bos;
    if (n > room) {
        snprintf(cut, sizeof cut, "The text has %lu tokens; this is about the first %lu, which the context holds (-c).",
                 (unsigned long)n, (unsigned long)room);
        fprintf(stderr, "look: %lu tokens, the page has the first %lu (-c)\n", (unsigned long)n, (unsigned long)room);
        note[0] = cut;
        n = room;
    }
    k.ids = (gpt_token *)need(info.n_ctx + 1, sizeof *k.ids);
    if (n_bos) k.ids[0] = k.model.bos;
    memcpy(k.ids + n_bos, ids, n * sizeof *ids);
    free(ids);
    k.n = k.n_prompt = n + n_bos;
    k.change = 1;                               /* no change is known yet: what is traced here is not kept */
    if (n_more && k.n) {
        const size_t n_ablate = k.n_ablate;
        float *push = k.steer;
        k.n_ablate = 0;
        k.steer = NULL;
        free(go_on(&k, s, &writing).p);
        k.n_ablate = n_ablate;
        k.steer = push;
        whole = gpt_session_tokens(s, &k.n);
        memcpy(k.ids, whole, k.n * sizeof *whole);
        gpt_session_reset(s);
    }
    if (k.n < 2) args_die("the text has %lu token%s: two are the least to look at (-n N writes more)", (unsigned long)k.n, k.n ? "" : "s");

    /* 2. where attention looks, in a session that gets the weights: of as many tokens as make a page of some MiB */
    k.n_map = (size_t)sqrt(8e6 / (double)k.model.n_layer / (double)(k.model.n_head ? k.model.n_head : 1)) + 1;
    if (k.n_map > MOST_SHOWN) k.n_map = MOST_SHOWN;
    if (k.n_map > k.n) k.n_map = k.n;
    k.n_head = (size_t *)need(k.model.n_layer, sizeof *k.n_head);
    k.map = (unsigned char **)need(k.model.n_layer, sizeof *k.map);
    {
        gpt_session *maps = NULL;
        gpt_session_params with = params;
        with.att_weights = 1;
        if (gpt_session_new(&maps, m, &with, &err)) args_die("%s", err.msg);
        k.maps = 1;
        must(gpt_eval(maps, k.ids, k.n_map, &err), &err);
        k.maps = k.change = 0;
        gpt_session_free(maps);
    }
    check_ablate(&k, &ablate);

    /* 3. all the rest, in one plain run; then each layer's stream through the head, of as many tokens as take some seconds */
    work = 4e10 / ((double)k.model.n_layer * (double)k.model.d_model * (double)k.model.n_vocab);
    k.n_lens = work < 8 ? 8 : work > MOST_SHOWN ? (size_t)MOST_SHOWN : (size_t)work;
    if (k.n_lens > k.n) k.n_lens = k.n;
    k.norm = (float *)need((k.model.n_layer + 1) * k.n, sizeof *k.norm);
    k.stream = (float *)need(k.model.n_layer * k.n_lens, k.model.d_model * sizeof *k.stream);
    k.lens = need_top(k.n_lens * k.model.n_layer);
    k.expert = (float **)need(k.model.n_layer, sizeof *k.expert);
    judge(&k, s, &k.plain);
    if (mean) write_mean(&k, mean);
    time_again(&k, s);
    look_through(&k, s, args_progress_begin(&c));

    /* 4. the same tokens, changed; and what it would have written */
    if (k.n_ablate || k.steer) {
        changes(&k, steer_file, steer_scale, what, sizeof what);
        k.change = 1;
        gpt_session_reset(s);
        judge(&k, s, &k.other);
        gpt_session_reset(s);
        if (n_more) changed_text = go_on(&k, s, &writing);
    }

    args_out_begin(&out, page);
    write_page(m, &k, &c, note, what, &changed_text);
    if ((error = args_out_end(&out)) != 0) args_die("-o %s: cannot write: %s", page, strerror(error));
    printf("%s: %lu tokens, %.4f bits a token", page, (unsigned long)k.n, sum_of(&k, &k.plain) / (double)(k.n - 1));
    if (k.other.bits) printf("; %s: %.4f", what, sum_of(&k, &k.other) / (double)(k.n - 1));
    puts("");
    args_close_stdout();

    for (size_t l = 0; l < k.model.n_layer; l++) { free(k.map[l]); free(k.expert[l]); }
    free(k.map); free(k.expert); free(k.n_head); free(k.norm); free(k.stream); free(k.lens); free(k.ids); free(k.steer); free(k.mean);
    free(k.plain.bits); free(k.plain.top); free(k.other.bits); free(k.other.top);
    free(changed_text.p); free(steer_file); free(given);
    gpt_session_free(s);
    args_unload(&c, m);
    return 0;
}
