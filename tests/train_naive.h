/* The model of examples/train.c once more, in plain loops in the order of the formulas and without a thread: the oracle
 * of its forward and backward pass, and the yardstick of its speed (bench_train.c). Included after train.c, whose
 * parameter table it shares; everything else is its own. Same letters: B T N V D H L, d = D / H. */
#ifndef TRAIN_NAIVE_H
#define TRAIN_NAIVE_H

typedef struct naive {
    model *m; /* its weights are read, its gradients are not touched */
    size_t B, T;
    float *grad;                                                     /* as model.grad */
    float *x, *mid, *norm1, *norm2, *qkv, *att, *up, *act, *weights; /* [L(+1)][N, ...]; weights [L][B, H, T, T] */
    float *stat1, *stat2, *norm, *stat, *logits;                     /* [L][N, 2], [L][N, 2], [N, D], [N, 2], [N, V] */
    float *dx, *dmid, *dwide, *dact;                                 /* [N, D], [N, D], [N, 4D], [N, 4D] */
} naive;

static naive *naive_new(model *m, size_t B, size_t T) {
    naive *z = (naive *)allocate(1, sizeof *z);
    size_t N = B * T, D = m->s.width, L = m->s.layers;
    z->m = m, z->B = B, z->T = T;
    z->grad = floats(m->n_param);
    z->x = floats((L + 1) * N * D), z->mid = floats(L * N * D);
    z->norm1 = floats(L * N * D), z->norm2 = floats(L * N * D);
    z->qkv = floats(L * N * 3 * D), z->att = floats(L * N * D);
    z->up = floats(L * N * 4 * D), z->act = floats(L * N * 4 * D);
    z->weights = floats(L * B * m->s.heads * T * T);
    z->stat1 = floats(L * N * 2), z->stat2 = floats(L * N * 2), z->stat = floats(N * 2);
    z->norm = floats(N * D), z->logits = floats(N * m->s.vocab);
    z->dx = floats(N * D), z->dmid = floats(N * D), z->dwide = floats(N * 4 * D), z->dact = floats(N * 4 * D);
    return z;
}

static void naive_free(naive *z) {
    float *all[] = {z->grad,  z->x,     z->mid,  z->norm1, z->norm2,  z->qkv, z->att,  z->up,    z->act, z->weights,
                    z->stat1, z->stat2, z->stat, z->norm,  z->logits, z->dx,  z->dmid, z->dwide, z->dact};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(z);
}

static void naive_norm(float *y, float *stat, const float *x, const float *w, const float *b, size_t N, size_t D,
                       float eps) {
    for (size_t n = 0; n < N; n++) {
        float mean = 0, var = 0, r;
        for (size_t i = 0; i < D; i++) mean += x[n * D + i];
        mean /= (float)D;
        for (size_t i = 0; i < D; i++) var += (x[n * D + i] - mean) * (x[n * D + i] - mean);
        r = 1.0f / sqrtf(var / (float)D + eps);
        for (size_t i = 0; i < D; i++) y[n * D + i] = (x[n * D + i] - mean) * r * w[i] + b[i];
        stat[2 * n] = mean, stat[2 * n + 1] = r;
    }
}

static void naive_norm_back(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                            const float *stat, size_t N, size_t D) {
    for (size_t n = 0; n < N; n++) {
        float mean = stat[2 * n], r = stat[2 * n + 1], g = 0, gh = 0;
        for (size_t i = 0; i < D; i++) {
            float h = (x[n * D + i] - mean) * r;
            g += dy[n * D + i] * w[i];
            gh += dy[n * D + i] * w[i] * h;
            dw[i] += dy[n * D + i] * h;
            db[i] += dy[n * D + i];
        }
        for (size_t i = 0; i < D; i++) {
            float h = (x[n * D + i] - mean) * r;
            dx[n * D + i] += r * (dy[n * D + i] * w[i] - g / (float)D - h * gh / (float)D);
        }
    }
}

/* y = x * w^T + b */
static void naive_linear(float *y, const float *x, const float *w, const float *b, size_t N, size_t I, size_t O) {
    for (size_t n = 0; n < N; n++)
        for (size_t o = 0; o < O; o++) {
            float sum = b ? b[o] : 0;
            for (size_t i = 0; i < I; i++) sum += x[n * I + i] * w[o * I + i];
            y[n * O + o] = sum;
        }
}

/* dx is overwritten, dw and db are added to */
static void naive_linear_back(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                              size_t N, size_t I, size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t i = 0; i < I; i++) dx[n * I + i] = 0;
        for (size_t o = 0; o < O; o++) {
            float g = dy[n * O + o];
            for (size_t i = 0; i < I; i++) dx[n * I + i] += g * w[o * I + i];
        }
    }
    for (size_t o = 0; o < O; o++)
        for (size_t n = 0; n < N; n++) {
            float g = dy[n * O + o];
            if (db) db[o] += g;
            for (size_t i = 0; i < I; i++) dw[o * I + i] += g * x[n * I + i];
        }
}

static void naive_attention(float *y, float *p, const float *qkv, size_t B, size_t T, size_t D, size_t H) {
    size_t d = D / H;
    float scale = 1.0f / sqrtf((float)d);
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < T; t++) {
                const float *q = qkv + (b * T + t) * 3 * D + h * d;
                float *w = p + ((b * H + h) * T + t) * T, max = -INFINITY, sum = 0, *out = y + (b * T + t) * D + h * d;
                for (size_t s = 0; s <= t; s++) {
                    const float *k = qkv + (b * T + s) * 3 * D + D + h * d;
                    w[s] = 0;
                    for (size_t i = 0; i < d; i++) w[s] += q[i] * k[i];
                    w[s] *= scale;
                    if (w[s] > max) max = w[s];
                }
                for (size_t s = 0; s <= t; s++) sum += w[s] = expf(w[s] - max);
                for (size_t i = 0; i < d; i++) out[i] = 0;
                for (size_t s = 0; s <= t; s++) {
                    const float *v = qkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    w[s] /= sum;
                    for (size_t i = 0; i < d; i++) out[i] += w[s] * v[i];
                }
            }
}

static void naive_attention_back(float *dqkv, const float *dy, const float *p, const float *qkv, size_t B, size_t T,
                                 size_t D, size_t H) {
    size_t d = D / H;
    float scale = 1.0f / sqrtf((float)d), *dp = floats(T);
    memset(dqkv, 0, B * T * 3 * D * sizeof *dqkv);
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < T; t++) {
                const float *w = p + ((b * H + h) * T + t) * T, *g = dy + (b * T + t) * D + h * d;
                const float *q = qkv + (b * T + t) * 3 * D + h * d;
                float *dq = dqkv + (b * T + t) * 3 * D + h * d, sum = 0;
                for (size_t s = 0; s <= t; s++) {
                    const float *v = qkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    float *dv = dqkv + (b * T + s) * 3 * D + 2 * D + h * d;
                    dp[s] = 0;
                    for (size_t i = 0; i < d; i++) dp[s] += g[i] * v[i], dv[i] += w[s] * g[i];
                    sum += w[s] * dp[s];
                }
                for (size_t s = 0; s <= t; s++) {
                    const float *k = qkv + (b * T + s) * 3 * D + D + h * d;
                    float *dk = dqkv + (b * T + s) * 3 * D + D + h * d, ds = w[s] * (dp[s] - sum) * scale;
                    for (size_t i = 0; i < d; i++) dq[i] += ds * k[i], dk[i] += ds * q[i];
                }
            }
    free(dp);
}

static float naive_gelu(float x) { return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }
static float naive_gelu_slope(float x) {
    float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3 * 0.044715f * x * x);
}

/* Mean loss, and with back all gradients in z->grad. No dropout. */
static double naive_loss(naive *z, const int32_t *token, const int32_t *target, int back) {
    model *m = z->m;
    size_t B = z->B, T = z->T, N = B * T, V = m->s.vocab, D = m->s.width, H = m->s.heads, L = m->s.layers;
    const float *wte = m->param + m->tensors[TOKEN_EMBD].at, *wpe = m->param + m->tensors[POSITION_EMBD].at;
    const float *wf = m->param + m->tensors[OUTPUT_NORM_W].at, *bf = m->param + m->tensors[OUTPUT_NORM_B].at;
    float *g = z->grad, *dwte = g + m->tensors[TOKEN_EMBD].at, *dwpe = g + m->tensors[POSITION_EMBD].at;
    double loss = 0;
#define W(l, which) (m->param + param_at(m, l, which))
#define G(l, which) (g + param_at(m, l, which))
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < D; i++) z->x[n * D + i] = wte[(size_t)token[n] * D + i] + wpe[n % T * D + i];
    for (size_t l = 0; l < L; l++) {
        float *x = z->x + l * N * D, *mid = z->mid + l * N * D, *up = z->up + l * N * 4 * D,
              *act = z->act + l * N * 4 * D;
        naive_norm(z->norm1 + l * N * D, z->stat1 + l * N * 2, x, W(l, ATTN_NORM_W), W(l, ATTN_NORM_B), N, D, m->s.eps);
        naive_linear(z->qkv + l * N * 3 * D, z->norm1 + l * N * D, W(l, QKV_W), W(l, QKV_B), N, D, 3 * D);
        naive_attention(z->att + l * N * D, z->weights + l * B * H * T * T, z->qkv + l * N * 3 * D, B, T, D, H);
        naive_linear(mid, z->att + l * N * D, W(l, ATTN_OUT_W), W(l, ATTN_OUT_B), N, D, D);
        for (size_t i = 0; i < N * D; i++) mid[i] += x[i];
        naive_norm(z->norm2 + l * N * D, z->stat2 + l * N * 2, mid, W(l, FFN_NORM_W), W(l, FFN_NORM_B), N, D, m->s.eps);
        naive_linear(up, z->norm2 + l * N * D, W(l, UP_W), W(l, UP_B), N, D, 4 * D);
        for (size_t i = 0; i < N * 4 * D; i++) act[i] = naive_gelu(up[i]);
        naive_linear(x + N * D, act, W(l, DOWN_W), W(l, DOWN_B), N, 4 * D, D);
        for (size_t i = 0; i < N * D; i++) x[N * D + i] += mid[i];
    }
    naive_norm(z->norm, z->stat, z->x + L * N * D, wf, bf, N, D, m->s.eps);
    naive_linear(z->logits, z->norm, wte, NULL, N, D, V);
    for (size_t n = 0; n < N; n++) {
        float *y = z->logits + n * V, max = -INFINITY, sum = 0;
        for (size_t v = 0; v < V; v++) max = y[v] > max ? y[v] : max;
        loss -= (double)(y[target[n]] - max);
        for (size_t v = 0; v < V; v++) sum += y[v] = expf(y[v] - max);
        loss += (double)logf(sum);
        for (size_t v = 0; v < V; v++) y[v] = (y[v] / sum - ((size_t)target[n] == v ? 1.0f : 0.0f)) / (float)N;
    }
    if (!back) return loss / (double)N;

    memset(g, 0, m->n_param * sizeof *g);
    naive_linear_back(z->dmid, dwte, NULL, z->logits, z->norm, wte, N, D, V);
    memset(z->dx, 0, N * D * sizeof *z->dx);
    naive_norm_back(z->dx, g + m->tensors[OUTPUT_NORM_W].at, g + m->tensors[OUTPUT_NORM_B].at, z->dmid,
                    z->x + L * N * D, wf, z->stat, N, D);
    for (size_t l = L;
         l-- >
         0;) { /* dx: the derivative with respect to the stream that leaves block l, then the one that enters it */
        float *up = z->up + l * N * 4 * D;
        naive_linear_back(z->dact, G(l, DOWN_W), G(l, DOWN_B), z->dx, z->act + l * N * 4 * D, W(l, DOWN_W), N, 4 * D,
                          D);
        for (size_t i = 0; i < N * 4 * D; i++) z->dact[i] *= naive_gelu_slope(up[i]);
        naive_linear_back(z->dmid, G(l, UP_W), G(l, UP_B), z->dact, z->norm2 + l * N * D, W(l, UP_W), N, D, 4 * D);
        naive_norm_back(z->dx, G(l, FFN_NORM_W), G(l, FFN_NORM_B), z->dmid, z->mid + l * N * D, W(l, FFN_NORM_W),
                        z->stat2 + l * N * 2, N, D);
        naive_linear_back(z->dmid, G(l, ATTN_OUT_W), G(l, ATTN_OUT_B), z->dx, z->att + l * N * D, W(l, ATTN_OUT_W), N,
                          D, D);
        naive_attention_back(z->dwide, z->dmid, z->weights + l * B * H * T * T, z->qkv + l * N * 3 * D, B, T, D, H);
        naive_linear_back(z->dmid, G(l, QKV_W), G(l, QKV_B), z->dwide, z->norm1 + l * N * D, W(l, QKV_W), N, D, 3 * D);
        naive_norm_back(z->dx, G(l, ATTN_NORM_W), G(l, ATTN_NORM_B), z->dmid, z->x + l * N * D, W(l, ATTN_NORM_W),
                        z->stat1 + l * N * 2, N, D);
    }
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < D; i++)
            dwte[(size_t)token[n] * D + i] += z->dx[n * D + i], dwpe[n % T * D + i] += z->dx[n * D + i];
#undef W
#undef G
    return loss / (double)N;
}

#endif
