/* The whole transformer in one page: GPT-2 in plain loops, checked against gpt.h stage by stage.
 *
 * For readers who know C and no transformers. Read forward() below from top to bottom: that page is all that
 * happens between one token and the next, but for the choice of the next. The rest of the file reads the
 * weights and compares. gpt.h computes the same, only faster; its trace hook hands out the result of every
 * stage under a name, and stage() compares it with what the loops have under the same name.
 *
 *     build/naive -m examples/models/stories.gguf -p "Once upon a time"
 *
 * Architecture: Radford et al. 2019 ("Language Models are Unsupervised Multitask Learners"), attention by
 * Vaswani et al. 2017 (arXiv:1706.03762). Letters, as in the literature:
 *
 *     V  tokens in the vocabulary     T  tokens that a text can have        t  the position of this one
 *     D  width of the stream          H  heads, of d = D / H numbers each   s  the position of an earlier one
 *     F  width of the feed-forward    L  blocks (layers)                    l  the number of a block */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include <math.h>

/* ---- The model: matrices are [rows, columns], a row for each number that comes out --------------------- */

enum { MAX_L = 128 };

typedef struct {
    const float *norm1_w, *norm1_b, *norm2_w, *norm2_b;         /* [D]                          */
    const float *qkv_w, *qkv_b;                                 /* [3D, D] [3D]: q, k, v         */
    const float *proj_w, *proj_b;                               /* [D, D] [D]                    */
    const float *up_w, *up_b, *down_w, *down_b;                 /* [F, D] [F]   [D, F] [D]       */
    float *K, *V;                                               /* [T, D]: of all tokens so far  */
} block;

static struct {
    size_t V, T, D, H, F, L;
    float  eps;
    const float *token_embd, *position_embd;                    /* [V, D] [T, D]                 */
    const float *norm_w, *norm_b, *output;                      /* [D] [D] [V, D]                */
    block  blocks[MAX_L];
    float *x, *a, *qkv, *y, *up, *p, *logits;                   /* the numbers of one token      */
} g;

static void stage(const char *name, size_t l, const float *x, size_t n);
#define NO_LAYER ((size_t)-1)

/* ---- The transformer ----------------------------------------------------------------------------------- */

/* out = w x + b: out [n_out], w [n_out, n], x [n], b [n_out] or none. Nearly all the work of a model is
 * this loop. */
static void linear(float *out, const float *w, const float *x, const float *b, size_t n_out, size_t n) {
    for (size_t o = 0; o < n_out; o++) {
        out[o] = b ? b[o] : 0;
        for (size_t i = 0; i < n; i++) out[o] += w[o * n + i] * x[i];
    }
}

/* LayerNorm (Ba et al. 2016, arXiv:1607.06450): x is moved to mean 0 and scaled to variance 1, so that
 * what follows always sees numbers of the same size; then w and b, which were learned, say how much each
 * of the numbers counts. */
static void norm(float *out, const float *x, const float *w, const float *b) {
    float mean = 0, var = 0;
    for (size_t i = 0; i < g.D; i++) mean += x[i] / (float)g.D;
    for (size_t i = 0; i < g.D; i++) var += (x[i] - mean) * (x[i] - mean) / (float)g.D;
    for (size_t i = 0; i < g.D; i++) out[i] = (x[i] - mean) / sqrtf(var + g.eps) * w[i] + b[i];
}

/* Scores to weights: positive, with the sum 1. exp(p - max) is exp(p) but for a factor that the sum
 * divides out again; it cannot overflow. */
static void softmax(float *p, size_t n) {
    float max = p[0], sum = 0;
    for (size_t i = 0; i < n; i++) if (p[i] > max) max = p[i];
    for (size_t i = 0; i < n; i++) sum += p[i] = expf(p[i] - max);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
}

/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), tanh form: near 0 for negative x, near x for positive.
 * Without such a bend two matrices in a row would do no more than one. */
static float gelu(float x) { return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }

/* One token at position t, after t others that were computed before. Leaves in g.logits how likely each
 * token of the vocabulary comes next. */
static void forward(size_t token, size_t t) {
    const size_t D = g.D, d = g.D / g.H;
    float *x = g.x, *a = g.a, *q = g.qkv, *k = g.qkv + D, *v = g.qkv + 2 * D, *y = g.y;

    /* A token is a number without meaning. What the model knows of it is a row of D learned numbers; a
     * second row says where in the text it stands. Their sum x is the stream: D numbers that every block
     * reads, and adds to. */
    for (size_t i = 0; i < D; i++) x[i] = g.token_embd[token * D + i] + g.position_embd[t * D + i];
    stage("embd", NO_LAYER, x, D);

    for (size_t l = 0; l < g.L; l++) {
        const block *b = &g.blocks[l];

        /* Attention: the token looks back. From the stream it makes a query q (what am I looking for?), a
         * key k (what can I be found by?) and a value v (what do I tell those who find me?). */
        norm(a, x, b->norm1_w, b->norm1_b);
        stage("attn_norm", l, a, D);
        linear(g.qkv, b->qkv_w, a, b->qkv_b, 3 * D, D);
        stage("q", l, q, D);
        stage("k", l, k, D);
        stage("v", l, v, D);

        /* Keys and values stay for the tokens to come: this is the KV cache. */
        for (size_t i = 0; i < D; i++) b->K[t * D + i] = k[i], b->V[t * D + i] = v[i];

        /* Each head does the same on its own d numbers. The score of an earlier token s is q times its
         * key. The root of d keeps scores at the same size whatever d is. As s goes from 0 to t alone, no
         * token sees what follows it ("causal"): so a whole text teaches how to go on at each of its
         * places. */
        for (size_t h = 0; h < g.H; h++) {
            for (size_t s = 0; s <= t; s++) {
                g.p[s] = 0;
                for (size_t i = h * d; i < (h + 1) * d; i++) g.p[s] += q[i] * b->K[s * D + i];
                g.p[s] /= sqrtf((float)d);
            }
            softmax(g.p, t + 1);

            /* What the head saw: the mean of the values, by these weights. */
            for (size_t i = h * d; i < (h + 1) * d; i++) {
                y[i] = 0;
                for (size_t s = 0; s <= t; s++) y[i] += g.p[s] * b->V[s * D + i];
            }
        }
        stage("att", l, y, D);

        /* The heads are mixed, and the result is added to the stream. */
        linear(a, b->proj_w, y, b->proj_b, D, D);
        stage("attn_out", l, a, D);
        for (size_t i = 0; i < D; i++) x[i] += a[i];
        stage("resid", l, x, D);

        /* Feed-forward: the token thinks alone. Each of F rows of the first matrix looks for one pattern
         * in the stream; where it is there, a column of the second says what to add. */
        norm(a, x, b->norm2_w, b->norm2_b);
        stage("ffn_norm", l, a, D);
        linear(g.up, b->up_w, a, b->up_b, g.F, D);
        stage("ffn_up", l, g.up, g.F);
        for (size_t i = 0; i < g.F; i++) g.up[i] = gelu(g.up[i]);
        stage("ffn_act", l, g.up, g.F);
        linear(a, b->down_w, g.up, b->down_b, D, g.F);
        stage("ffn_down", l, a, D);
        for (size_t i = 0; i < D; i++) x[i] += a[i];
        stage("out", l, x, D);
    }

    /* The stream is now a guess at the next token. Its score for each token of the vocabulary is its
     * product with that token's row; softmax would make probabilities of the scores ("logits"). */
    norm(a, x, g.norm_w, g.norm_b);
    stage("norm", NO_LAYER, a, D);
    linear(g.logits, g.output, a, NULL, g.V, D);
    stage("logits", NO_LAYER, g.logits, g.V);
}

/* ---- The check ----------------------------------------------------------------------------------------- */

/* The bounds: difference over size, both as root mean square over all tokens of the text. Where all matrices
 * are
 *
 *   F32, BF16   both sides multiply the same numbers. What differs is the order of the sums: 2^-24 for each
 *               addition. Measured 3e-7; a forgotten bias or a wrong scale is 1e-2 and more.
 *   F16         gpt.h rounds what such a matrix multiplies to 13 bits, an error of 2^-14 at most in each
 *               product, about a dozen times in a row.
 *   otherwise   gpt.h rounds what a quantised matrix multiplies to 8 bits: steps of 1/127 of the largest of
 *               32 numbers. A step's error has the root mean square 1/sqrt(12) of it: 0.5 % of the numbers'
 *               size where the largest is twice that size, 1.3 % where one of the 32 is all of it. Errors of
 *               the products in a row add up like random ones: with the root of their number. Mistakes
 *               smaller than that stay unseen, such as the other form of GELU; files written by
 *               `build/train --type f32` show them. */
static const struct { const char *types; double bound; } bounds[] = {
    { " F32 BF16 ",     1e-5 },
    { " F32 BF16 F16 ", 2e-3 },
    { NULL,             3e-2 },
};
static double bound;

enum { N_NAME = 16, MAX_RECORD = 4 + 16 * MAX_L };

/* What gpt.h computed for the token at hand, in the order in which it came. */
static struct { const char *name; size_t layer, n; float *x; } record[MAX_RECORD];
static size_t n_record;

/* Sums over all tokens, for each name and layer; the last place of at[] is for NO_LAYER. */
static struct { const char *name; struct { double difference, size; } at[MAX_L + 1]; } result[N_NAME];
static size_t n_result;

static void keep(const char *name, size_t layer, const float *x, size_t n) {
    if (n_record == MAX_RECORD) args_die("gpt.h has more stages than expected");
    record[n_record].name = name, record[n_record].layer = layer, record[n_record].n = n;
    record[n_record].x = (float *)args_need(malloc(n * sizeof *x));
    memcpy(record[n_record++].x, x, n * sizeof *x);
}

static int on_trace(void *user, const gpt_trace *t) {
    (void)user;
    keep(t->name, t->layer < 0 ? NO_LAYER : (size_t)t->layer, t->data, t->n_col);   /* one token: one row */
    return 0;
}

/* x [n] is what the loops have; gpt.h's result of that name and layer is in the record. */
static void stage(const char *name, size_t l, const float *x, size_t n) {
    size_t r = 0, i = 0, at = l == NO_LAYER ? (size_t)MAX_L : l;
    while (r < n_result && strcmp(result[r].name, name)) r++;
    if (r == n_result) result[n_result++].name = name;
    while (i < n_record && (record[i].layer != l || strcmp(record[i].name, name))) i++;
    if (i == n_record || record[i].n != n) { result[r].at[at].difference = HUGE_VAL; return; }
    for (size_t j = 0; j < n; j++) {
        double theirs = (double)record[i].x[j], d = (double)x[j] - theirs;
        result[r].at[at].difference += d * d;
        result[r].at[at].size += theirs * theirs;
    }
}

/* One line for each stage, about the block where the difference is largest; how many stages are not ok. */
static int show_results(void) {
    size_t first = 0, first_block = MAX_L + 1;
    int bad = 0;
    printf("%-10s %10s %10s\n", "stage", "difference", "bound");
    for (size_t r = 0; r < n_result; r++) {
        double worst = -1;
        size_t where = 0, first_bad = MAX_L + 1;
        for (size_t l = 0; l <= MAX_L; l++) {
            double d = result[r].at[l].difference, size = result[r].at[l].size;
            if (!(d > 0) && !(size > 0) && d == d) continue;            /* no such layer */
            d = sqrt(d / (size > 1e-60 ? size : 1e-60));
            if (!(d <= bound) && first_bad > MAX_L) first_bad = l;
            if (!(d <= worst)) worst = d, where = l;                /* what is no number is the worst */
        }
        printf("%-10s %10.2e %10.2e  %s", result[r].name, worst, bound, first_bad > MAX_L ? "ok" : "DIFFERS");
        if (where < MAX_L) printf(", block %lu", (unsigned long)where);
        printf("\n");
        if (first_bad > MAX_L) continue;
        bad++;
        if (!r) first_bad = 0;                                          /* embd comes before every block */
        if (first_bad < first_block) first = r, first_block = first_bad;
    }
    if (bad) printf("The first that differs is %s", result[first].name);
    if (bad && first && first_block < MAX_L) printf(" of block %lu", (unsigned long)first_block);
    if (bad) printf(": look there, what follows is made of it.\n");
    return bad;
}

/* ---- Reading the weights ------------------------------------------------------------------------------- */

static float *kept[32 + 16 * MAX_L];            /* all that is to be freed */
static size_t n_kept;

static float *floats(size_t n) { return kept[n_kept++] = (float *)args_need(calloc(n, sizeof(float))); }

static int has(const gpt_model *m, const char *name) {
    return !gpt_model_tensor(m, name, 0, 0, 0, NULL, NULL, NULL);
}

/* A tensor as floats, with the bound that its format asks for. The name may have the number of a block in
 * it. */
static const float *weights(const gpt_model *m, const char *format, size_t l) {
    gpt_tensor info;
    gpt_error err;
    char name[64], type[32];
    float *w;
    size_t i = 0;
    snprintf(name, sizeof name, format, (unsigned long)l);
    if (gpt_model_tensor(m, name, 0, 0, 0, NULL, &info, &err)) args_die("%s", err.msg);
    w = floats((size_t)(info.n_row * info.n_col));
    if (gpt_model_tensor(m, name, 0, 0, (size_t)info.n_row, w, NULL, &err)) args_die("%s", err.msg);
    snprintf(type, sizeof type, " %s ", info.type);
    while (bounds[i].types && !strstr(bounds[i].types, type)) i++;
    if (bounds[i].bound > bound) bound = bounds[i].bound;
    return w;
}

static void read_model(const gpt_model *m) {
    gpt_model_info info;
    gpt_meta eps;
    gpt_model_info_get(m, &info);
    if (strcmp(info.architecture, "gpt2")) {
        fprintf(stderr, "naive: the architecture is '%s': these loops are gpt2 alone\n", info.architecture);
        exit(2);
    }
    if (info.n_layer > MAX_L)
        args_die("%lu layers: expected %d at most", (unsigned long)info.n_layer, (int)MAX_L);
    if (gpt_model_meta(m, "gpt2.attention.layer_norm_epsilon", 0, &eps)) args_die("the file has no epsilon");
    g.V = info.n_vocab, g.T = info.n_ctx, g.D = info.d_model;
    g.H = info.n_head, g.F = info.d_ff, g.L = info.n_layer;
    g.eps = (float)eps.number;
    g.token_embd = weights(m, "token_embd.weight", 0);
    g.position_embd = weights(m, "position_embd.weight", 0);
    g.norm_w = weights(m, "output_norm.weight", 0);
    g.norm_b = weights(m, "output_norm.bias", 0);
    g.output = g.token_embd;            /* mostly the same matrix serves both ends */
    if (has(m, "output.weight")) g.output = weights(m, "output.weight", 0);
    for (size_t l = 0; l < g.L; l++) {
        block *b = &g.blocks[l];
        b->norm1_w = weights(m, "blk.%lu.attn_norm.weight", l);
        b->norm1_b = weights(m, "blk.%lu.attn_norm.bias", l);
        b->qkv_w = weights(m, "blk.%lu.attn_qkv.weight", l);
        b->qkv_b = weights(m, "blk.%lu.attn_qkv.bias", l);
        b->proj_w = weights(m, "blk.%lu.attn_output.weight", l);
        b->proj_b = weights(m, "blk.%lu.attn_output.bias", l);
        b->norm2_w = weights(m, "blk.%lu.ffn_norm.weight", l);
        b->norm2_b = weights(m, "blk.%lu.ffn_norm.bias", l);
        b->up_w = weights(m, "blk.%lu.ffn_up.weight", l);
        b->up_b = weights(m, "blk.%lu.ffn_up.bias", l);
        b->down_w = weights(m, "blk.%lu.ffn_down.weight", l);
        b->down_b = weights(m, "blk.%lu.ffn_down.bias", l);
        b->K = floats(g.T * g.D), b->V = floats(g.T * g.D);
    }
    g.x = floats(g.D), g.a = floats(g.D), g.qkv = floats(3 * g.D), g.y = floats(g.D), g.up = floats(g.F);
    g.p = floats(g.T), g.logits = floats(g.V);
}

/* ---- Side by side -------------------------------------------------------------------------------------- */

static const char about[] =
    "usage: naive -m MODEL [-p TEXT]\n\n"
    "Computes a text with the plain loops of this program and with gpt.h, and compares every stage of every\n"
    "token.\n"
    "Exit status: 0 all stages agree, 1 one differs or something failed, 2 the model is no GPT-2.";

static size_t largest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) if (x[i] > x[best]) best = i;
    return best;
}

static void show_token(const gpt_model *m, const char *who, size_t id) {
    size_t n;
    const char *text = gpt_token_text(m, (gpt_token)id, &n);
    printf("next token, by %s: %lu '", who, (unsigned long)id);
    fwrite(text, 1, n, stdout);
    printf("'\n");
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    const char *text = "Once upon a time there was a little dog";
    const arg table[] = {
        ARGS_MODEL(c),
        { "-p, --prompt", ARG_TEXT, &text, "TEXT", "the text; its end is where both choose the next token" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model *m;
    gpt_session *s = NULL;
    gpt_session_params params;
    gpt_error err;
    gpt_token *ids;
    size_t n, t, ours, theirs;
    int bad;

    args_parse(argc, argv, "naive", table, about);
    c.threads = 1;
    m = args_load(&c, ARGS_ANY);
    read_model(m);
    ids = args_tokenize(m, text, strlen(text), GPT_TOKENIZE_BOS, &n);
    if (!n) args_die("%s: the text is empty", args_name("-p"));
    if (n > g.T)
        args_die("the text has %lu tokens, the model has positions for %lu", (unsigned long)n,
                 (unsigned long)g.T);
    params = args_session(&c);
    params.n_ctx = (uint32_t)n;
    params.kv = GPT_KV_F32;             /* the loops round no keys and values */
    params.hooks.trace = on_trace;
    if (gpt_session_new(&s, m, &params, &err)) args_die("%s", err.msg);

    for (t = 0; t < n; t++) {
        if (gpt_eval(s, &ids[t], 1, &err)) args_die("%s", err.msg);
        keep("gpt_logits", NO_LAYER, gpt_logits(s), g.V);
        forward((size_t)ids[t], t);
        stage("gpt_logits", NO_LAYER, g.logits, g.V);
        while (n_record) free(record[--n_record].x);
    }
    bad = show_results();
    ours = largest(g.logits, g.V);
    theirs = largest(gpt_logits(s), g.V);
    show_token(m, "these loops", ours);
    show_token(m, "gpt.h", theirs);
    args_close_stdout();

    while (n_kept) free(kept[--n_kept]);
    free(ids);
    gpt_session_free(s);
    gpt_model_free(m);
    return bad > 0;
}
