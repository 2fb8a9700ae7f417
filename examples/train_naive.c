/* How a language model is trained, to learn from: GPT-2 in plain loops, forward and backward, in the order of
 * the formulas. No threads, no tricks, no library: it learns to predict the next byte of a text file.
 *
 *     cc -O2 examples/train_naive.c -lm -o train_naive && ./train_naive TEXT
 *
 * examples/train.c is the same with speed, a vocabulary and files, and is tested against these loops.
 * examples/naive.c explains the forward pass; this one explains the way back.
 *
 * The idea: the loss is one number that says how bad the predictions are. The gradient of a weight says how
 * much the loss grows when the weight grows: the derivative. Each weight then takes a small step against its
 * gradient. All gradients come from one walk backward through the formulas (the chain rule): if y was made
 * of x, and dy is the gradient of each of y, then dx = sum over y of dy * (the derivative of y with respect
 * to x). dx always means the gradient of x. Where something is used twice, its gradients add up.
 *
 * Letters: B texts at once of T tokens each, N = B * T tokens in all, V tokens in the vocabulary, D numbers a
 * token, H heads of d = D / H, L blocks, C tokens at most in a text. [N, D]: N rows of D, one after the
 * other. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The weights. First the vectors of the tokens and of the positions, then of each block the norm, the
 * attention, the norm and the feed-forward, each as a matrix and a bias; at last a norm. The matrix of the
 * tokens serves once more at the end. */
enum { WTE, WPE, LNF_W, LNF_B, FRONT };
enum { LN1_W, LN1_B, ATT_W, ATT_B, PROJ_W, PROJ_B, LN2_W, LN2_B, FC_W, FC_B, FC2_W, FC2_B, BLOCK };

typedef struct naive {
    size_t B, T, C, V, D, H, L;
    float eps;
    size_t n_param, *at;                        /* where each tensor begins: [FRONT], then [L][BLOCK] */
    float *w, *g;                               /* [n_param]: all weights, all gradients */
    float *x, *mid, *norm1, *norm2, *att;       /* [L + 1][N, D], x[l] enters block l; [L][N, D] the others */
    float *qkv, *up, *act;                      /* [L][N, 3D], [L][N, 4D], [L][N, 4D] */
    float *weights;                             /* [L][B, H, T, T]: of attention */
    float *stat1, *stat2, *stat, *norm, *logits;        /* [L][N, 2], [L][N, 2], [N, 2], [N, D], [N, V] */
    float *dx, *dmid, *dwide;                   /* [N, D], [N, D], [N, 4D] */
} naive;

#define NAIVE_W(which)      (z->w + z->at[which])
#define NAIVE_G(which)      (z->g + z->at[which])
#define NAIVE_OF(l, which)  (FRONT + (l) * BLOCK + (size_t)(which))

static void naive_die(const char *what) { fprintf(stderr, "train_naive: %s\n", what); exit(1); }

static float *naive_floats(size_t n) {
    float *p = (float *)calloc(n ? n : 1, sizeof *p);
    if (!p) naive_die("out of memory");
    return p;
}

/* How many numbers a tensor has. */
static size_t naive_size(const naive *z, size_t which) {
    const size_t D = z->D, E = D * D;
    const size_t sizes[BLOCK] = { D, D, 3 * E, 3 * D, E, D, D, D, 4 * E, 4 * D, 4 * E, D };
    if (which >= FRONT) return sizes[(which - FRONT) % BLOCK];
    return which == WTE ? z->V * D : which == WPE ? z->C * D : D;
}

/* Room for all that is computed, once the sizes are set; the weights are the caller's. */
static void naive_room(naive *z) {
    size_t N = z->B * z->T, D = z->D, L = z->L;
    z->g = naive_floats(z->n_param);
    z->x = naive_floats((L + 1) * N * D), z->mid = naive_floats(L * N * D), z->att = naive_floats(L * N * D);
    z->norm1 = naive_floats(L * N * D), z->norm2 = naive_floats(L * N * D);
    z->qkv = naive_floats(L * N * 3 * D), z->up = naive_floats(L * N * 4 * D);
    z->act = naive_floats(L * N * 4 * D), z->weights = naive_floats(L * z->B * z->H * z->T * z->T);
    z->stat1 = naive_floats(L * N * 2), z->stat2 = naive_floats(L * N * 2), z->stat = naive_floats(N * 2);
    z->norm = naive_floats(N * D), z->logits = naive_floats(N * z->V);
    z->dx = naive_floats(N * D), z->dmid = naive_floats(N * D), z->dwide = naive_floats(N * 4 * D);
}

static void naive_free(naive *z) {
    float *all[] = { z->g, z->x, z->mid, z->norm1, z->norm2, z->qkv, z->att, z->up, z->act, z->weights,
                     z->stat1, z->stat2, z->stat, z->norm, z->logits, z->dx, z->dmid, z->dwide };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(z->at);
}

/* ---- The formulas, each with its way back -------------------------------------------------------------- */

/* LayerNorm (Ba et al. 2016, arXiv:1607.06450): h = (x - mean) * r with r = 1 / sqrt(variance + eps), y =
 * h * w + b. stat keeps mean and r for the way back. */
static void naive_norm(float *y, float *stat, const float *x, const float *w, const float *b, size_t N,
                       size_t D, float eps) {
    for (size_t n = 0; n < N; n++, x += D, y += D) {
        float mean = 0, var = 0, r;
        for (size_t i = 0; i < D; i++) mean += x[i];
        mean /= (float)D;
        for (size_t i = 0; i < D; i++) var += (x[i] - mean) * (x[i] - mean);
        r = 1.0f / sqrtf(var / (float)D + eps);
        for (size_t i = 0; i < D; i++) y[i] = (x[i] - mean) * r * w[i] + b[i];
        stat[2 * n] = mean, stat[2 * n + 1] = r;
    }
}

/* db = dy, dw = dy * h, dh = dy * w. h has the mean 0 and the variance 1 whatever x is: moving all of x, or
 * stretching it, changes nothing. So dx is dh without those two directions:
 *     dx = r * (dh - mean(dh) - h * mean(dh * h))
 * Adds to all three: x goes on around the norm as well, and w and b are used by every token. */
static void naive_norm_back(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                            const float *stat, size_t N, size_t D) {
    for (size_t n = 0; n < N; n++, x += D, dx += D, dy += D) {
        float mean = stat[2 * n], r = stat[2 * n + 1], sum = 0, sum_h = 0;
        for (size_t i = 0; i < D; i++) {
            float h = (x[i] - mean) * r;
            sum += dy[i] * w[i];
            sum_h += dy[i] * w[i] * h;
            dw[i] += dy[i] * h;
            db[i] += dy[i];
        }
        for (size_t i = 0; i < D; i++) {
            float h = (x[i] - mean) * r;
            dx[i] += r * (dy[i] * w[i] - sum / (float)D - h * sum_h / (float)D);
        }
    }
}

/* y[o] = b[o] + sum over i of w[o, i] * x[i]; from I numbers to O */
static void naive_linear(float *y, const float *x, const float *w, const float *b, size_t N, size_t I,
                         size_t O) {
    for (size_t n = 0; n < N; n++)
        for (size_t o = 0; o < O; o++) {
            float sum = b ? b[o] : 0;
            for (size_t i = 0; i < I; i++) sum += x[n * I + i] * w[o * I + i];
            y[n * O + o] = sum;
        }
}

/* dx[i] = sum over o of dy[o] * w[o, i];  dw[o, i] = dy[o] * x[i] and db[o] = dy[o], both summed over the
 * tokens. dx is set, dw and db are added to. */
static void naive_linear_back(float *dx, float *dw, float *db, const float *dy, const float *x,
                              const float *w, size_t N, size_t I, size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t i = 0; i < I; i++) dx[n * I + i] = 0;
        for (size_t o = 0; o < O; o++)
            for (size_t i = 0; i < I; i++) dx[n * I + i] += dy[n * O + o] * w[o * I + i];
    }
    for (size_t o = 0; o < O; o++)
        for (size_t n = 0; n < N; n++) {
            if (db) db[o] += dy[n * O + o];
            for (size_t i = 0; i < I; i++) dw[o * I + i] += dy[n * O + o] * x[n * I + i];
        }
}

/* Attention: of each head, token t looks at tokens s <= t. score[s] = q[t] . k[s] / sqrt(d), p =
 * softmax(score), y[t] = sum over s of p[s] * v[s]. p [B, H, T, T] is kept. */
static void naive_attention(float *y, float *p, const float *qkv, size_t B, size_t T, size_t D, size_t H) {
    size_t d = D / H;
    float scale = 1.0f / sqrtf((float)d);
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < T; t++, p += T) {
                const float *q = qkv + (b * T + t) * 3 * D + h * d;
                float max = -INFINITY, sum = 0, *out = y + (b * T + t) * D + h * d;
                for (size_t s = 0; s <= t; s++) {
                    const float *k = qkv + (b * T + s) * 3 * D + D + h * d;
                    p[s] = 0;
                    for (size_t i = 0; i < d; i++) p[s] += q[i] * k[i];
                    p[s] *= scale;
                    if (p[s] > max) max = p[s];
                }
                for (size_t s = 0; s <= t; s++) sum += p[s] = expf(p[s] - max);
                for (size_t i = 0; i < d; i++) out[i] = 0;
                for (size_t s = 0; s <= t; s++) {
                    const float *v = qkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    p[s] /= sum;
                    for (size_t i = 0; i < d; i++) out[i] += p[s] * v[i];
                }
            }
}

/* From the end to the start: dv[s] = p[s] * dy and dp[s] = dy . v[s]. Softmax shares out a whole of 1, so
 * what one weight gains the others lose:
 *     dscore[s] = p[s] * (dp[s] - sum over u of p[u] * dp[u])
 * Then dq = dscore[s] * k[s], summed over s, and dk[s] = dscore[s] * q, both times the scale. All later
 * tokens see a key and a value, so the gradients of those add up. dp: room for T numbers. */
static void naive_attention_back(float *dqkv, const float *dy, const float *p, const float *qkv, size_t B,
                                 size_t T, size_t D, size_t H, float *dp) {
    size_t d = D / H;
    float scale = 1.0f / sqrtf((float)d);
    memset(dqkv, 0, B * T * 3 * D * sizeof *dqkv);
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < T; t++, p += T) {
                const float *q = qkv + (b * T + t) * 3 * D + h * d, *g = dy + (b * T + t) * D + h * d;
                float *dq = dqkv + (b * T + t) * 3 * D + h * d, sum = 0;
                for (size_t s = 0; s <= t; s++) {
                    const float *v = qkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    float *dv = dqkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    dp[s] = 0;
                    for (size_t i = 0; i < d; i++) dp[s] += g[i] * v[i], dv[i] += p[s] * g[i];
                    sum += p[s] * dp[s];
                }
                for (size_t s = 0; s <= t; s++) {
                    const float *k = qkv + (b * T + s) * 3 * D + D + h * d;
                    float *dk = dqkv + (b * T + s) * 3 * D + D + h * d, ds = p[s] * (dp[s] - sum) * scale;
                    for (size_t i = 0; i < d; i++) dq[i] += ds * k[i], dk[i] += ds * q[i];
                }
            }
}

/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), tanh form: x/2 * (1 + tanh(u)), u = c * (x + 0.044715
 * x^3) with c = sqrt(2 / pi). Its slope by the product rule: (1 + tanh(u)) / 2 + x/2 * (1 - tanh(u)^2) *
 * du/dx. */
static float naive_tanh(float x) { return tanhf(0.7978845608f * (x + 0.044715f * x * x * x)); }
static float naive_gelu(float x) { return 0.5f * x * (1.0f + naive_tanh(x)); }
static float naive_gelu_slope(float x) {
    float t = naive_tanh(x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3 * 0.044715f * x * x);
}

/* ---- The model: there, the loss, and back -------------------------------------------------------------- */

/* Leaves the scores of every next token in z->logits. */
static void naive_forward(naive *z, const int32_t *token) {
    size_t B = z->B, T = z->T, N = B * T, D = z->D, L = z->L;
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < D; i++)
            z->x[n * D + i] = NAIVE_W(WTE)[(size_t)token[n] * D + i] + NAIVE_W(WPE)[n % T * D + i];
    for (size_t l = 0; l < L; l++) {
#define W(which) NAIVE_W(NAIVE_OF(l, which))
        float *x = z->x + l * N * D, *mid = z->mid + l * N * D, *qkv = z->qkv + l * N * 3 * D;
        float *norm1 = z->norm1 + l * N * D, *norm2 = z->norm2 + l * N * D, *att = z->att + l * N * D;
        float *up = z->up + l * N * 4 * D, *act = z->act + l * N * 4 * D, *next = x + N * D;
        naive_norm(norm1, z->stat1 + l * N * 2, x, W(LN1_W), W(LN1_B), N, D, z->eps);
        naive_linear(qkv, norm1, W(ATT_W), W(ATT_B), N, D, 3 * D);
        naive_attention(att, z->weights + l * B * z->H * T * T, qkv, B, T, D, z->H);
        naive_linear(mid, att, W(PROJ_W), W(PROJ_B), N, D, D);
        for (size_t i = 0; i < N * D; i++) mid[i] += x[i];
        naive_norm(norm2, z->stat2 + l * N * 2, mid, W(LN2_W), W(LN2_B), N, D, z->eps);
        naive_linear(up, norm2, W(FC_W), W(FC_B), N, D, 4 * D);
        for (size_t i = 0; i < N * 4 * D; i++) act[i] = naive_gelu(up[i]);
        naive_linear(next, act, W(FC2_W), W(FC2_B), N, 4 * D, D);
        for (size_t i = 0; i < N * D; i++) next[i] += mid[i];
    }
    naive_norm(z->norm, z->stat, z->x + L * N * D, NAIVE_W(LNF_W), NAIVE_W(LNF_B), N, D, z->eps);
    naive_linear(z->logits, z->norm, NAIVE_W(WTE), NULL, N, D, z->V);
}

/* The loss is the mean of -ln p(target), p = softmax(logits): 0 for a prophet, ln V for one who knows
 * nothing. Its gradient is strikingly simple: dlogit[v] = p[v] - (1 if v is the target, else 0), over N
 * for the mean. It takes the place of the logits. */
static double naive_cross_entropy(naive *z, const int32_t *target) {
    size_t N = z->B * z->T, V = z->V;
    double loss = 0;
    for (size_t n = 0; n < N; n++) {
        float *y = z->logits + n * V, max = -INFINITY, sum = 0;
        for (size_t v = 0; v < V; v++) max = y[v] > max ? y[v] : max;
        loss -= (double)(y[target[n]] - max);
        for (size_t v = 0; v < V; v++) sum += y[v] = expf(y[v] - max);
        loss += (double)logf(sum);
        for (size_t v = 0; v < V; v++) y[v] = (y[v] / sum - (v == (size_t)target[n])) / (float)N;
    }
    return loss / (double)N;
}

/* All gradients, from those of the logits: naive_forward from its last line to its first. dx is the
 * gradient of the stream. A block adds to the stream, so the gradient passes it unchanged, and what comes
 * out of the block is added to it. */
static void naive_backward(naive *z, const int32_t *token) {
    size_t B = z->B, T = z->T, N = B * T, D = z->D, L = z->L;
    float *dx = z->dx, *dmid = z->dmid, *dwide = z->dwide;
    memset(z->g, 0, z->n_param * sizeof *z->g);
    memset(dx, 0, N * D * sizeof *dx);
    naive_linear_back(dmid, NAIVE_G(WTE), NULL, z->logits, z->norm, NAIVE_W(WTE), N, D, z->V);
    naive_norm_back(dx, NAIVE_G(LNF_W), NAIVE_G(LNF_B), dmid, z->x + L * N * D, NAIVE_W(LNF_W), z->stat,
                    N, D);
    for (size_t l = L; l-- > 0;) {
#define G(which) NAIVE_G(NAIVE_OF(l, which))
        float *x = z->x + l * N * D, *mid = z->mid + l * N * D, *qkv = z->qkv + l * N * 3 * D;
        float *norm1 = z->norm1 + l * N * D, *norm2 = z->norm2 + l * N * D, *att = z->att + l * N * D;
        float *up = z->up + l * N * 4 * D, *act = z->act + l * N * 4 * D;
        naive_linear_back(dwide, G(FC2_W), G(FC2_B), dx, act, W(FC2_W), N, 4 * D, D);
        for (size_t i = 0; i < N * 4 * D; i++) dwide[i] *= naive_gelu_slope(up[i]);
        naive_linear_back(dmid, G(FC_W), G(FC_B), dwide, norm2, W(FC_W), N, D, 4 * D);
        naive_norm_back(dx, G(LN2_W), G(LN2_B), dmid, mid, W(LN2_W), z->stat2 + l * N * 2, N, D);
        naive_linear_back(dmid, G(PROJ_W), G(PROJ_B), dx, att, W(PROJ_W), N, D, D);
        naive_attention_back(dwide, dmid, z->weights + l * B * z->H * T * T, qkv, B, T, D, z->H, z->logits);
        naive_linear_back(dmid, G(ATT_W), G(ATT_B), dwide, norm1, W(ATT_W), N, D, 3 * D);
        naive_norm_back(dx, G(LN1_W), G(LN1_B), dmid, x, W(LN1_W), z->stat1 + l * N * 2, N, D);
#undef G
#undef W
    }
    for (size_t n = 0; n < N; n++)          /* each token's row gets what it did to the stream */
        for (size_t i = 0; i < D; i++) {
            NAIVE_G(WTE)[(size_t)token[n] * D + i] += dx[n * D + i];
            NAIVE_G(WPE)[n % T * D + i] += dx[n * D + i];
        }
}

/* Mean loss, and with back all gradients in z->g. */
static inline double naive_loss(naive *z, const int32_t *token, const int32_t *target, int back) {
    double loss;
    naive_forward(z, token);
    loss = naive_cross_entropy(z, target);
    if (back) naive_backward(z, token);
    return loss;
}

#ifndef NAIVE_NO_MAIN

/* ---- Training ------------------------------------------------------------------------------------------ */

/* A number in [0, 1) from xorshift64* (Vigna 2016, arXiv:1402.6246). */
static uint64_t naive_state = 88172645463325252u;
static float naive_random(void) {
    naive_state ^= naive_state >> 12, naive_state ^= naive_state << 25, naive_state ^= naive_state >> 27;
    return (float)((naive_state * 2685821657736338717u) >> 40) / 16777216.0f;
}
static size_t naive_below(size_t n) { return (size_t)((double)naive_random() * (double)n); }

/* Matrices begin as small random numbers (twelve uniform ones added up are close to normal), those that
 * add to the stream smaller, so that it does not grow with L; norms begin as 1, biases as 0. */
static void naive_start(naive *z) {
    for (size_t i = 0; i < FRONT + z->L * BLOCK; i++) {
        size_t which = i < FRONT ? i : (i - FRONT) % BLOCK, n = naive_size(z, i);
        int is_norm = i < FRONT ? which == LNF_W : which == LN1_W || which == LN2_W;
        int is_bias = i < FRONT ? which == LNF_B : which % 2 == 1;
        float scale = 0.02f;
        if (i >= FRONT && (which == PROJ_W || which == FC2_W)) scale /= sqrtf(2 * (float)z->L);
        for (size_t j = 0; j < n && !is_bias; j++) {
            float sum = -6;
            for (int k = 0; k < 12; k++) sum += naive_random();
            NAIVE_W(i)[j] = is_norm ? 1 : scale * sum;
        }
    }
}

/* AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101): m and v are running means of the gradient and of its
 * square, over about 10 and 50 steps. A step goes by m / sqrt(v): the same size for every weight, however
 * small its gradients are, and smaller where they change sign all the time. m and v begin at 0; the
 * divisions make up for that. Matrices also shrink a little. */
static void naive_adamw(naive *z, float *m, float *v, int step, float rate) {
    const float beta1 = 0.9f, beta2 = 0.98f, eps = 1e-8f, decay = 0.1f;
    float fix1 = 1 - powf(beta1, (float)step), fix2 = 1 - powf(beta2, (float)step);
    for (size_t i = 0; i < FRONT + z->L * BLOCK; i++) {
        int matrix = naive_size(z, i) > 4 * z->D;
        for (size_t j = z->at[i]; j < z->at[i] + naive_size(z, i); j++) {
            m[j] = beta1 * m[j] + (1 - beta1) * z->g[j];
            v[j] = beta2 * v[j] + (1 - beta2) * z->g[j] * z->g[j];
            z->w[j] -= rate * (m[j] / fix1 / (sqrtf(v[j] / fix2) + eps) + (matrix ? decay * z->w[j] : 0));
        }
    }
}

/* Draws byte after byte, each from the probabilities that the model gives for it. */
static void naive_sample(naive *z, int32_t first, size_t n) {
    int32_t *token = (int32_t *)naive_floats(z->C);
    size_t have = 1;
    token[0] = first;
    for (z->B = 1; n > 0; n--) {
        float *y, max = -INFINITY, sum = 0, draw;
        size_t v = 0;
        z->T = have;
        naive_forward(z, token);
        y = z->logits + (have - 1) * z->V;
        for (size_t i = 0; i < z->V; i++) max = y[i] > max ? y[i] : max;
        for (size_t i = 0; i < z->V; i++) sum += y[i] = expf(y[i] - max);
        for (draw = naive_random() * sum; v + 1 < z->V && draw >= y[v]; v++) draw -= y[v];
        putchar((int)v);
        if (have == z->C) memmove(token, token + 1, --have * sizeof *token);    /* forget the first */
        token[have++] = (int32_t)v;
    }
    putchar('\n');
    free(token);
}

int main(int argc, char **argv) {
    static naive zero, *z = &zero;
    const char *path = NULL;
    long steps = 300, size;
    int32_t *token, *target;
    unsigned char *text;
    float *m, *v;
    FILE *f;

    for (int i = 1; i < argc; i++) {
        char *end;
        if (!strcmp(argv[i], "--help")) {
            puts("usage: train_naive TEXT [--steps N]\n\n"
                 "Trains a tiny model on the bytes of a text. Loss goes to stderr, a sample to stdout.\n\n"
                 "  --steps N    how many steps of 4 times 64 bytes (300: half a minute)");
            return fflush(stdout) != 0;
        } else if (!strcmp(argv[i], "--steps")) {
            steps = i + 1 < argc ? strtol(argv[++i], &end, 10) : 0;
            if (steps < 1 || steps > 1000000 || *end) naive_die("--steps: expected a number, 1 to 1000000");
        } else if (argv[i][0] == '-' || path) naive_die("expected one TEXT and --steps N, see --help");
        else path = argv[i];
    }
    if (!path) naive_die("no text: name a file");

    z->B = 4, z->T = z->C = 64, z->V = 256, z->D = 64, z->H = 4, z->L = 2, z->eps = 1e-5f;
    f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0) naive_die("cannot read the text");
    if ((size_t)size < z->T + 2) naive_die("the text is too short: expected 66 bytes or more");
    text = (unsigned char *)naive_floats((size_t)size / sizeof(float) + 1);
    rewind(f);
    if (fread(text, 1, (size_t)size, f) != (size_t)size) naive_die("cannot read the text");
    fclose(f);

    z->at = (size_t *)calloc(FRONT + z->L * BLOCK, sizeof *z->at);
    if (!z->at) naive_die("out of memory");
    for (size_t i = 0; i < FRONT + z->L * BLOCK; i++) z->at[i] = z->n_param, z->n_param += naive_size(z, i);
    naive_room(z);
    z->w = naive_floats(z->n_param), m = naive_floats(z->n_param), v = naive_floats(z->n_param);
    token = (int32_t *)naive_floats(z->B * z->T), target = (int32_t *)naive_floats(z->B * z->T);
    naive_start(z);

    for (int step = 1; step <= steps; step++) {
        double loss;
        float rate = 3e-3f * (step < 20 ? (float)step / 20 : 1);    /* small while m and v know little */
        for (size_t b = 0; b < z->B; b++) {         /* B places in the text; a byte's target is the next */
            const unsigned char *from = text + naive_below((size_t)size - z->T);
            for (size_t t = 0; t < z->T; t++)
                token[b * z->T + t] = from[t], target[b * z->T + t] = from[t + 1];
        }
        loss = naive_loss(z, token, target, 1);
        naive_adamw(z, m, v, step, rate);
        if (step == 1 || step % 10 == 0 || step == steps)
            fprintf(stderr, "step %d  loss %.4f nats per byte\n", step, loss);
    }
    naive_sample(z, '\n', 200);

    naive_free(z);
    free(z->w), free(m), free(v), free(token), free(target), free(text);
    return ferror(stdout) || fflush(stdout);
}

#endif
