/* examples/train.c: every stage's gradient against finite differences, the whole against plain loops and against
 * PyTorch, two steps of AdamW against PyTorch, of Muon against NumPy, the vocabulary, learning, threads, resuming. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L /* args.h asks the time, and where a link leads */
#endif
#define main train_main
#include "../examples/train.c"
#undef main
#include "test.h"
#include "train_oracle.h"

#ifndef BUILD_DIR
#define BUILD_DIR "build"
#endif

/* Why each bound is what it is: float32 sums of a few dozen terms carry errors of a few 1e-6; a central difference with
 * a step h of 1e-2 adds about h^2 times the third derivative and 1e-7 / h of rounding. */
static const double TOL_DIFFERENCE = 2e-3, TOL_NAIVE = 2e-4, TOL_TORCH = 1e-4, TOL_ADAMW = 2e-5;
static const double TOL_MUON = 2e-5;

static const char *torch_file = "tests/golden/train_toy.bin";

static float value_at(uint64_t seed, size_t i) { return random_normal(seed, i); }

static float *random_floats(size_t n, uint64_t seed, float scale) {
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = scale * value_at(seed, i);
    return x;
}

static workspace make_workspace(size_t N, size_t T, size_t D, size_t wide) {
    workspace ws;
    ws.pack = floats(product_pack_floats(larger(wide, N)));
    ws.part = floats(chunks(N, ROW_CHUNK) * 2 * D);
    ws.own_size = 2 * QUERY_BLOCK * T + product_pack_floats(larger(T, D));
    ws.own = floats(ws.own_size * (size_t)thread_count());
    return ws;
}

static void free_workspace(workspace *ws) { free(ws->pack), free(ws->part), free(ws->own); }

/* ---- Finite differences. A stage is seen as loss(x) = sum over i of r[i] * y[i](x) with fixed random r, so dy = r.
 * ---- */

typedef struct probe {
    size_t B, T, D, H, N, I, O;
    float *x, *w, *b, *y; /* inputs that can be varied, and the output */
    size_t n_x, n_w, n_b, n_y;
    float *r;
    workspace ws;
    int32_t *token;
    void (*forward)(struct probe *p);
} probe;

static double probe_loss(probe *p) {
    double sum = 0;
    p->forward(p);
    for (size_t i = 0; i < p->n_y; i++) sum += (double)p->r[i] * (double)p->y[i];
    return sum;
}

/* dv against the central differences of v [n] at up to 40 places; the error is relative to the largest derivative. */
static void check_gradient(probe *p, const char *what, float *v, size_t n, const float *dv) {
    const float h = 1e-2f;
    double largest_dv = 1e-3, worst = 0;
    for (size_t i = 0; i < n; i++) largest_dv = fmax(largest_dv, fabs((double)dv[i]));
    for (size_t k = 0; k < 40 && k < n; k++) {
        size_t i = n <= 40 ? k : (size_t)(random_at(99, k) % n);
        float keep = v[i];
        double up, down;
        v[i] = keep + h;
        up = probe_loss(p);
        v[i] = keep - h;
        down = probe_loss(p);
        v[i] = keep;
        worst = fmax(worst, fabs((up - down) / (2 * (double)h) - (double)dv[i]) / largest_dv);
    }
    CHECK(worst < TOL_DIFFERENCE, "%s: off by %.2e of the largest derivative", what, worst);
}

static probe make_probe(size_t n_x, size_t n_w, size_t n_b, size_t n_y, void (*forward)(probe *)) {
    probe p;
    memset(&p, 0, sizeof p);
    p.n_x = n_x, p.n_w = n_w, p.n_b = n_b, p.n_y = n_y, p.forward = forward;
    p.x = random_floats(n_x, 1, 1), p.w = random_floats(n_w, 2, 0.3f), p.b = random_floats(n_b, 3, 0.3f),
    p.y = floats(n_y);
    p.r = random_floats(n_y, 4, 1);
    return p;
}

static void free_probe(probe *p) {
    free(p->x), free(p->w), free(p->b), free(p->y), free(p->r), free(p->token);
    if (p->ws.pack) free_workspace(&p->ws);
}

static void forward_linear(probe *p) { linear_forward(p->y, p->x, p->w, p->b, p->N, p->I, p->O, &p->ws); }

static void test_linear(void) {
    const size_t N = 70, I = 19, O = 37;
    probe p = make_probe(N * I, O * I, O, N * O, forward_linear);
    float *dx = floats(N * I), *dw = floats(O * I), *db = floats(O);
    p.N = N, p.I = I, p.O = O, p.ws = make_workspace(N, 1, I, 300);
    linear_backward(dx, dw, db, p.r, p.x, p.w, N, I, O, &p.ws);
    check_gradient(&p, "linear dx", p.x, p.n_x, dx);
    check_gradient(&p, "linear dw", p.w, p.n_w, dw);
    check_gradient(&p, "linear db", p.b, p.n_b, db);
    free(dx), free(dw), free(db), free_probe(&p);
}

/* y = what an adapter adds: w is its a [R, I], b its b [O, R], behind y is low [N, R]. */
static const size_t LORA_R = 5;
static void forward_lora(probe *p) {
    memset(p->y, 0, p->n_y * sizeof *p->y);
    lora_forward(p->y, p->y + p->n_y, p->x, p->w, p->b, 1.5f, p->N, p->I, p->O, LORA_R, &p->ws);
}

static void test_lora(void) {
    const size_t N = 70, I = 19, O = 37;
    probe p = make_probe(N * I, LORA_R * I, O * LORA_R, N * O, forward_lora);
    float *dx = floats(N * I), *da = floats(p.n_w), *db = floats(p.n_b), *dlow = floats(N * LORA_R);
    free(p.y), p.y = floats(p.n_y + N * LORA_R);
    p.N = N, p.I = I, p.O = O, p.ws = make_workspace(N, 1, I, 300);
    probe_loss(&p);
    lora_backward(dx, da, db, dlow, p.r, p.x, p.y + p.n_y, p.w, p.b, 1.5f, N, I, O, LORA_R, &p.ws);
    check_gradient(&p, "lora dx", p.x, p.n_x, dx);
    check_gradient(&p, "lora da", p.w, p.n_w, da);
    check_gradient(&p, "lora db", p.b, p.n_b, db);
    free(dx), free(da), free(db), free(dlow), free_probe(&p);
}

static void forward_norm(probe *p) {
    layernorm_forward(p->y, p->y + p->n_y, p->y + p->n_y + p->N, p->x, p->w, p->b, p->N, p->D, 1e-5f);
}

static void test_layernorm(void) {
    const size_t N = 67, D = 21; /* two chunks of rows, a tail behind the lanes */
    probe p = make_probe(N * D, D, D, N * D, forward_norm);
    float *dx = floats(N * D), *dw = floats(D), *db = floats(D);
    free(p.y), p.y = floats(p.n_y + 2 * N);
    p.N = N, p.D = D, p.ws = make_workspace(N, 1, D, 1);
    probe_loss(&p);
    layernorm_backward(dx, dw, db, p.r, p.x, p.w, p.y + p.n_y, p.y + p.n_y + N, N, D, &p.ws);
    check_gradient(&p, "layernorm dx", p.x, p.n_x, dx);
    check_gradient(&p, "layernorm dw", p.w, p.n_w, dw);
    check_gradient(&p, "layernorm db", p.b, p.n_b, db);
    free(dx), free(dw), free(db), free_probe(&p);
}

static void forward_attention(probe *p) { attention_forward(p->y, p->x, p->B, p->T, p->D, p->H, &p->ws); }

static void test_attention(void) {
    const size_t B = 2, T = 101, D = 15, H = 3; /* two blocks of queries */
    probe p = make_probe(B * T * 3 * D, 0, 0, B * T * D, forward_attention);
    float *dx = floats(p.n_x);
    p.B = B, p.T = T, p.D = D, p.H = H, p.ws = make_workspace(B * T, T, D, 1);
    attention_backward(dx, p.r, p.x, B, T, D, H, &p.ws);
    check_gradient(&p, "attention dqkv", p.x, p.n_x, dx);
    free(dx), free_probe(&p);
}

static void forward_gelu(probe *p) { gelu_forward(p->y, p->x, p->n_x); }

static void test_gelu(void) {
    probe p = make_probe(1001, 0, 0, 1001, forward_gelu);
    float *dx = floats(p.n_x);
    for (size_t i = 0; i < p.n_x; i++) p.x[i] = ((float)i - 500) / 50; /* -10 .. 10 */
    memcpy(dx, p.r, p.n_x * sizeof *dx);
    gelu_backward(dx, p.x, p.n_x);
    check_gradient(&p, "gelu dx", p.x, p.n_x, dx);
    probe_loss(&p);
    for (size_t i = 0; i < p.n_x; i++)
        CHECK(fabsf(p.y[i] - naive_gelu(p.x[i])) < 2e-6f, "gelu(%g) = %g, expected %g", (double)p.x[i], (double)p.y[i],
              (double)naive_gelu(p.x[i]));
    free(dx), free_probe(&p);
}

static const size_t EMB_V = 9, EMB_T = 7, EMB_D = 35;
static void forward_embedding(probe *p) { embedding_forward(p->y, p->token, p->w, p->b, p->N, EMB_T, EMB_D); }

static void test_embedding(void) {
    const size_t N = 3 * EMB_T;
    probe p = make_probe(0, EMB_V * EMB_D, EMB_T * EMB_D, N * EMB_D, forward_embedding);
    float *dw = floats(p.n_w), *db = floats(p.n_b);
    p.N = N, p.token = (int32_t *)allocate(N, sizeof(int32_t));
    for (size_t i = 0; i < N; i++) p.token[i] = (int32_t)(i * i % EMB_V);
    embedding_backward(dw, db, p.r, p.token, N, EMB_T, EMB_D);
    check_gradient(&p, "embedding dwte", p.w, p.n_w, dw);
    check_gradient(&p, "embedding dwpe", p.b, p.n_b, db);
    free(dw), free(db), free_probe(&p);
}

static const dropout test_drop = {12345, 858993459u, 1.25f}; /* a rate of 0.2 */
static void forward_residual(probe *p) { residual_forward(p->y, p->w, p->x, test_drop, p->n_x); }

static void test_dropout(void) {
    const size_t n = 10000;
    probe p = make_probe(n, n, 0, n, forward_residual);
    float *dx = floats(n);
    size_t dropped = 0;
    dropout_apply(dx, p.r, test_drop, n);
    check_gradient(&p, "residual dbranch", p.x, n, dx);
    check_gradient(&p, "residual dx", p.w, n, p.r);
    for (size_t i = 0; i < n; i++) dropped += dx[i] == 0.0f;
    CHECK(dropped > 1900 && dropped < 2100, "%u of %u were dropped, expected about 2000", (unsigned)dropped,
          (unsigned)n);
    free(dx), free_probe(&p);
}

static const int32_t loss_target[] = {3, 0, 40, 17};
static void forward_loss(probe *p) {
    float loss[4];
    int hit[4];
    float *logits = floats(p->n_x);
    memcpy(logits, p->x, p->n_x * sizeof *logits);
    loss_forward_backward(logits, loss, hit, loss_target, 4, 41, 0);
    p->y[0] = (loss[0] + loss[1] + loss[2] + loss[3]) / 4;
    free(logits);
}

static void test_loss(void) {
    probe p = make_probe(4 * 41, 0, 0, 1, forward_loss);
    float loss[4], *dx = floats(p.n_x);
    int hit[4];
    p.r[0] = 1;
    memcpy(dx, p.x, p.n_x * sizeof *dx);
    loss_forward_backward(dx, loss, hit, loss_target, 4, 41, 1);
    check_gradient(&p, "loss dlogits", p.x, p.n_x, dx);
    free(dx), free_probe(&p);
}

/* Rows that do not count: no loss, no hit, no derivative; the others share the mean among themselves. */
static void test_mask(void) {
    const int32_t target[] = {-1, 7, -1, 0, -1};
    float *x = random_floats(5 * 41, 8, 1), *y = floats(5 * 41), loss[5], alone[5];
    int hit[5];
    memcpy(y, x, 5 * 41 * sizeof *x);
    CHECK(loss_forward_backward(x, loss, hit, target, 5, 41, 1) == 2, "2 of 5 rows count");
    for (int i = 0; i < 5; i++) {
        float *row = x + i * 41, sum = 0;
        for (int j = 0; j < 41; j++) sum += fabsf(row[j]);
        CHECK((sum == 0) == (target[i] < 0) && (loss[i] == 0) == (target[i] < 0) && (target[i] >= 0 || !hit[i]),
              "row %d, target %d: derivatives %g, loss %g, hit %d", i, (int)target[i], (double)sum, (double)loss[i], hit[i]);
        if (target[i] < 0) continue;
        loss_forward_backward(y + i * 41, alone + i, hit, target + i, 1, 41, 1);
        CHECK(loss[i] == alone[i], "row %d: loss %g, alone %g", i, (double)loss[i], (double)alone[i]);
        for (int j = 0; j < 41; j++)
            CHECK(fabsf(2 * row[j] - y[i * 41 + j]) < 1e-7f, "row %d, column %d: not half of its derivative alone", i, j);
    }
    CHECK(loss_forward_backward(y, loss, hit, target, 1, 41, 1) == 0 && loss[0] == 0, "nothing counts");
    free(x), free(y);
}

/* ---- Products of odd sizes, all layouts, against a triple loop ---- */

static void test_products(void) {
    static const size_t sizes[] = {1, 5, 6, 7, 16, 17, 49, 257, 300};
    const size_t n_size = sizeof sizes / sizeof *sizes;
    for (size_t trial = 0; trial < 60; trial++) {
        size_t m = sizes[random_at(trial, 0) % n_size], n = sizes[random_at(trial, 1) % n_size],
               k = sizes[random_at(trial, 2) % n_size];
        int ta = (int)(random_at(trial, 3) & 1), tb = (int)(random_at(trial, 4) & 1),
            add = (int)(random_at(trial, 5) & 1);
        float *a = random_floats(m * k, trial + 10, 1), *b = random_floats(k * n, trial + 20, 1),
              *c = random_floats(m * n, trial + 30, 1);
        float *c2 = floats(m * n), *want = floats(m * n), *bias = random_floats(n, trial + 40, 1),
              *pack = floats(product_pack_floats(n));
        product_job job = make_job(c, n, m, n, k, ta ? transposed(a, m) : by_rows(a, k),
                                   tb ? transposed(b, k) : by_rows(b, n), add, pack);
        double worst = 0;
        job.bias = add || trial % 3 ? NULL : bias;
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = add ? (double)c[i * n + j] : job.bias ? (double)bias[j] : 0;
                for (size_t p = 0; p < k; p++)
                    sum +=
                        (double)job.a.p[i * job.a.row + p * job.a.col] * (double)job.b.p[p * job.b.row + j * job.b.col];
                want[i * n + j] = (float)sum;
            }
        memcpy(c2, c, m * n * sizeof *c);
        product(job);
        for (size_t i = 0; i < m * n; i++) worst = fmax(worst, fabs((double)(c[i] - want[i])));
        CHECK(worst < 1e-4, "product %u x %u x %u, layout %d%d: off by %g", (unsigned)m, (unsigned)n, (unsigned)k, ta,
              tb, worst);
        job.c = c2;
        product_here(job);
        CHECK(!memcmp(c, c2, m * n * sizeof *c), "product on one thread differs from product on all");
        free(a), free(b), free(c), free(c2), free(want), free(bias), free(pack);
    }
}

/* ---- The whole model ---- */

static shape toy_shape(void) {
    shape s = {37, 2, 2, 20, 11, 1e-5f, 0, 0};
    return s;
}

/* The weights that make_train_goldens.py gives the same model. */
static void toy_start(model *m) {
    for (size_t i = 0; i < m->n_tensor; i++) {
        const tensor *t = &m->tensors[i];
        int norm = !t->rows && strstr(t->name, "norm.weight");
        for (size_t j = 0; j < t->n; j++) {
            uint32_t h = (uint32_t)(i * 100003 + j) * 2654435761u;
            m->param[t->at + j] = (norm ? 1.0f : 0.0f) + ((float)(h >> 8) / 16777216.0f - 0.5f) * 0.2f;
        }
    }
}

static void toy_batch(int32_t *token, int32_t *target, size_t B, size_t T, size_t V) {
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++) {
            size_t i = b * (T + 1) + t, j = i + 1;
            token[b * T + t] = (int32_t)((i * i * 7 + i * 3 + 5) % V);
            target[b * T + t] = (int32_t)((j * j * 7 + j * 3 + 5) % V);
        }
}

/* The largest difference of a from b over all tensors, relative to the largest number of the tensor in b or to
 * floor. */
static double model_difference(const model *m, const float *a, const float *b, double floor, const char **where) {
    double worst = -1;
    for (size_t i = 0; i < m->n_tensor; i++) {
        const tensor *t = &m->tensors[i];
        double top = floor, off = 0;
        for (size_t j = 0; j < t->n; j++) {
            top = fmax(top, fabs((double)b[t->at + j]));
            off = fmax(off, fabs((double)a[t->at + j] - (double)b[t->at + j]));
        }
        if (off / top > worst) worst = off / top, *where = t->name;
    }
    return worst;
}

static void test_naive(void) {
    static const shape shapes[] = {{37, 2, 2, 20, 11, 1e-5f, 0, 0}, {300, 3, 4, 64, 130, 1e-5f, 0, 0}};
    const noise none = {0, 0};
    for (int i = 0; i < 2; i++) {
        const size_t B = 3, T = shapes[i].context, N = B * T;
        model *m = model_new(shapes[i]);
        int32_t *token = (int32_t *)allocate(N, sizeof *token), *target = (int32_t *)allocate(N, sizeof *target);
        const char *where = "";
        naive *z;
        double loss, expected, off;
        toy_start(m);
        model_make_room(m, B, T);
        toy_batch(token, target, B, T, m->s.vocab);
        loss = model_loss(m, token, target, none, 1);
        z = naive_beside(m, B, T);
        CHECK(naive_same_sizes(z, m), "shape %d: the plain loops have tensors of other sizes", i);
        expected = naive_loss(z, token, target, 1);
        CHECK(fabs(loss - expected) < 1e-5, "loss %.7f, plain loops %.7f", loss, expected);
        off = model_difference(m, m->grad, z->g, 1e-4, &where);
        CHECK(off < TOL_NAIVE, "gradient of %s is off by %.2e from plain loops", where, off);
        naive_end(z), model_free(m), free(token), free(target);
    }
}

/* Two steps of a model that is large enough for every stage to be shared out; the gradients of the second, and the weights
 * behind them in `out`. */
static double two_steps(float *out, int n_thread, float by_muon) {
    const shape s = {300, 1, 5, 160, 64, 1e-5f, 0, 0};
    const size_t B = 8, T = s.context, N = B * T;
    const noise z = {0.1f, 77};
    int32_t *token = (int32_t *)allocate(N, sizeof *token), *target = (int32_t *)allocate(N, sizeof *target);
    double loss = 0, norm = 0, *part;
    adamw a = {0.01f, 0.9f, 0.98f, 1e-4f, 0.1f, 1, 1, 1, by_muon};
    model *m = model_new(s);
    pool *before = threads;
    threads = n_thread > 1 ? pool_new(n_thread) : NULL;
    part = (double *)allocate(chunks(m->n_param, SPAN), sizeof *part);
    model_init(m, 3);
    model_make_room(m, B, T);
    toy_batch(token, target, B, T, s.vocab);
    for (int step = 0; step < 2; step++) {
        loss = model_loss(m, token, target, z, 1);
        norm = gradient_norm(m, part);
        a.scale = (float)(1 / norm);
        optimiser_step(m, &a);
    }
    memcpy(out, m->grad, m->n_param * sizeof *out);
    memcpy(out + m->n_param, m->param, m->n_param * sizeof *out);
    pool_free(threads);
    threads = before;
    model_free(m), free(part), free(token), free(target);
    return loss + norm;
}

static void test_threads(void) {
    const size_t n = 2 * (300 * 160 + 64 * 160 + 12 * 160 * 160 + 15 * 160);
    float *one = floats(n), *many = floats(n);
    for (int by_muon = 0; by_muon <= 3; by_muon += 3) {
        double sum = two_steps(one, 1, (float)by_muon);
        for (int t = 2; t <= 8; t++) {
            CHECK(two_steps(many, t, (float)by_muon) == sum,
                  "--muon %d, %d threads: another loss or length of the gradient than with 1", by_muon, t);
            CHECK(!memcmp(one, many, n * sizeof *one), "--muon %d, %d threads: other gradients or weights than with 1",
                  by_muon, t);
        }
    }
    free(one), free(many);
}

/* One f32 after the other, little-endian. */
static float *read_golden(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    unsigned char c[4];
    float *x = floats(1 << 16);
    *n = 0;
    while (f && *n < 1 << 16 && fread(c, 1, 4, f) == 4) {
        uint32_t bits = c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24;
        memcpy(&x[(*n)++], &bits, 4);
    }
    if (f) fclose(f);
    return x;
}

/* Golden numbers without the padding, to train.c's places. */
static const float *spread(const model *m, float *out, const float *in) {
    for (size_t i = 0; i < m->n_tensor; i++) {
        memcpy(out + m->tensors[i].at, in, m->tensors[i].n * sizeof *out);
        in += m->tensors[i].n;
    }
    return in;
}

static void test_torch(const char *path) {
    enum { B = 3, T = 11 };
    const noise none = {0, 0};
    model *m = model_new(toy_shape());
    int32_t token[B * T], target[B * T];
    size_t n, expected_n = 2;
    float *golden = read_golden(path, &n), *want = floats(m->n_param);
    const char *where = "";
    const float *next;
    double part[64], norm, loss, off;
    adamw a = {0.01f, 0.9f, 0.98f, 1e-4f, 0.1f, 1, 1, 1, 0};
    for (size_t i = 0; i < m->n_tensor; i++) expected_n += 2 * m->tensors[i].n;
    CHECK(n == expected_n, "%s: %u numbers, expected %u", path, (unsigned)n, (unsigned)expected_n);
    if (n != expected_n) return;
    toy_start(m);
    model_make_room(m, B, T);
    toy_batch(token, target, B, T, m->s.vocab);
    for (int step = 1; step <= 2; step++) {
        loss = model_loss(m, token, target, none, 1);
        norm = gradient_norm(m, part);
        if (step == 1) {
            CHECK(fabs(loss - (double)golden[0]) < 1e-5, "loss %.7f, PyTorch %.7f", loss, (double)golden[0]);
            CHECK(fabs(norm - (double)golden[1]) < 1e-4 * norm, "gradient %.7f, PyTorch %.7f", norm, (double)golden[1]);
            next = spread(m, want, golden + 2);
            off = model_difference(m, m->grad, want, 1e-4, &where);
            CHECK(off < TOL_TORCH, "gradient of %s is off by %.2e from PyTorch", where, off);
            spread(m, want, next);
        }
        a.scale = norm > 0.5 ? (float)(0.5 / norm) : 1.0f;
        a.fix1 = (float)(1 / (1 - pow(0.9, step))), a.fix2 = (float)(1 / (1 - pow(0.98, step)));
        optimiser_step(m, &a);
    }
    off = model_difference(m, m->param, want, 1, &where);
    CHECK(off < TOL_ADAMW, "%s is off by %.2e from PyTorch after two steps of AdamW", where, off);
    free(golden), free(want), model_free(m);
}

/* ---- Muon ---- */

/* Newton-Schulz on x [rows, cols], in double and by the formula. */
static void plain_orthogonal(double *x, size_t rows, size_t cols) {
    double *A = (double *)allocate(rows * rows, sizeof *A), *B = (double *)allocate(rows * rows, sizeof *B);
    double *y = (double *)allocate(rows * cols, sizeof *y), sum = 0;
    for (size_t i = 0; i < rows * cols; i++) sum += x[i] * x[i];
    for (size_t i = 0; i < rows * cols; i++) x[i] /= sqrt(sum) + 1e-7;
    for (int step = 0; step < 5; step++) {
        for (size_t i = 0; i < rows * rows; i++) {
            A[i] = 0;
            for (size_t k = 0; k < cols; k++) A[i] += x[i / rows * cols + k] * x[i % rows * cols + k];
        }
        for (size_t i = 0; i < rows * rows; i++) {
            B[i] = -4.7750 * A[i];
            for (size_t k = 0; k < rows; k++) B[i] += 2.0315 * A[i / rows * rows + k] * A[k * rows + i % rows];
        }
        for (size_t i = 0; i < rows * cols; i++) {
            y[i] = 3.4445 * x[i];
            for (size_t k = 0; k < rows; k++) y[i] += B[i / cols * rows + k] * x[k * cols + i % cols];
        }
        memcpy(x, y, rows * cols * sizeof *x);
    }
    free(A), free(B), free(y);
}

/* A Householder matrix: orthogonal, symmetric, and without zeros. */
static double *mirror(size_t n, uint64_t seed) {
    double *q = (double *)allocate(n * n, sizeof *q), sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)value_at(seed, i) * (double)value_at(seed, i);
    for (size_t i = 0; i < n * n; i++)
        q[i] = (i / n == i % n) - 2 * (double)value_at(seed, i / n) * (double)value_at(seed, i % n) / sum;
    return q;
}

/* X = U S V of known singular values, from 1 down to 0.03, times any length: U X' V must be diagonal, of about 1. */
static void test_orthogonal(void) {
    static const size_t sizes[][2] = {{24, 24}, {20, 80}, {80, 20}, {1, 9}, {9, 1}, {1, 1}, {130, 70}};
    float zeros[6] = {0}, no_room[6 + 8], no_pack[TILE_N * PIECE_K];
    for (size_t trial = 0; trial < sizeof sizes / sizeof *sizes; trial++) {
        size_t rows = sizes[trial][0], cols = sizes[trial][1], n = rows * cols, r = smaller(rows, cols);
        double *u = mirror(rows, trial + 1), *v = mirror(cols, trial + 101);
        double *want = (double *)allocate(n, sizeof *want);
        double worst = 0, low = 1, high = 1, off = 0, length = trial & 1 ? 1e-4 : 300;
        float *x = floats(n), *room = floats(orthogonal_floats(rows, cols)), *pack = floats(product_pack_floats(cols));
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (size_t k = 0; k < r; k++)
                sum += u[i / cols * rows + k] * (1 - 0.97 * (double)k / (double)r) * v[k * cols + i % cols];
            x[i] = (float)(length * sum), want[i] = (double)x[i];
        }
        orthogonalise(x, rows, cols, room, pack);
        plain_orthogonal(want, rows, cols);
        for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)x[i] - want[i]));
        CHECK(worst < TOL_MUON, "%u x %u: off by %.2e from plain loops", (unsigned)rows, (unsigned)cols, worst);
        for (size_t i = 0; i < n; i++) {
            size_t k = i / cols, l = i % cols;
            double sum = 0;
            for (size_t p = 0; p < n; p++) sum += u[k * rows + p / cols] * (double)x[p] * v[p % cols * cols + l];
            if (k == l) low = fmin(low, sum), high = fmax(high, sum);
            else off = fmax(off, fabs(sum));
        }
        CHECK(low > 0.67 && high < 1.22, "%u x %u: singular values from %.3f to %.3f", (unsigned)rows, (unsigned)cols,
              low, high);
        CHECK(off < TOL_MUON, "%u x %u: other singular vectors, by %.2e", (unsigned)rows, (unsigned)cols, off);
        free(u), free(v), free(want), free(x), free(room), free(pack);
    }
    orthogonalise(zeros, 2, 3, no_room, no_pack);
    for (int i = 0; i < 6; i++) CHECK(zeros[i] == 0, "zeros: number %d is %g", i, (double)zeros[i]);
}

/* Two steps with the gradients of PyTorch's first: the matrices of the blocks as make_muon_goldens.py has them, all other
 * tensors as AdamW leaves them. */
static void test_muon(void) {
    model *m = model_new(toy_shape()), *other = model_new(toy_shape());
    size_t n, n_torch, expected_n = 0;
    float *golden = read_golden("tests/golden/train_muon.bin", &n), *torch = read_golden(torch_file, &n_torch);
    const float *next = golden;
    adamw a = {0.01f, 0.9f, 0.98f, 1e-4f, 0.1f, 0.5f / torch[1], 1, 1, 3}, b = a;
    b.muon = 0;
    for (size_t i = N_FRONT; i < m->n_tensor; i++) expected_n += m->tensors[i].rows ? m->tensors[i].n : 0;
    CHECK(n == expected_n, "train_muon.bin: %u numbers, expected %u", (unsigned)n, (unsigned)expected_n);
    if (n != expected_n || n_torch < 2 + m->n_param) return;
    toy_start(m), toy_start(other);
    model_make_room(m, 1, 1), model_make_room(other, 1, 1);
    for (int step = 0; step < 2; step++) {
        spread(m, m->grad, torch + 2), spread(m, other->grad, torch + 2);
        optimiser_step(m, &a), optimiser_step(other, &b);
    }
    for (size_t i = 0; i < m->n_tensor; i++) {
        const tensor *t = &m->tensors[i];
        const float *w = m->param + t->at;
        double off = 0, sum = 0;
        if (i < N_FRONT || !t->rows) {
            CHECK(!memcmp(w, other->param + t->at, t->n * sizeof *w), "%s did not learn by AdamW", t->name);
            continue;
        }
        for (size_t j = 0; j < t->n; j++) {
            off = fmax(off, fabs((double)w[j] - (double)next[j]));
            sum += fabs((double)m->v[t->at + j]);
        }
        CHECK(off < TOL_MUON && sum == 0, "%s is off by %.2e from NumPy after two steps of Muon", t->name, off);
        next += t->n;
    }
    free(golden), free(torch), model_free(m), model_free(other);
}

/* Three pairs of 12, 7 and 9 tokens, of which those from 5, 1 and 6 on count; make_train_goldens.py has them too. */
static tokens toy_pairs(size_t V) {
    static const size_t length[] = {12, 7, 9}, begin[] = {5, 1, 6};
    tokens t;
    memset(&t, 0, sizeof t);
    t.id = (int32_t *)allocate(3 * 12, sizeof *t.id), t.at = (size_t *)allocate(7, sizeof *t.at);
    for (size_t b = 0; b < 3; b++) {
        for (size_t k = 0, i = b * 12; k < length[b]; k++, i++) t.id[t.n + k] = (int32_t)((i * i * 7 + i * 3 + 5) % V);
        t.at[2 * b + 1] = t.n + begin[b], t.n += length[b], t.at[2 * b + 2] = t.n;
    }
    t.n_pair = 3, t.longest = 12;
    return t;
}

static void test_pairs(void) {
    enum { B = 3, T = 11 };
    const noise none = {0, 0};
    const uint32_t which[] = {2, 0, 1};
    shape with = toy_shape();
    model *m = model_new(toy_shape()), *a;
    tokens text = toy_pairs(m->s.vocab);
    int32_t token[B * T], target[B * T];
    size_t n, expected_n, counted = 0;
    float *golden = read_golden("tests/golden/train_pairs.bin", &n), *want;
    const float *next = golden + 2;
    const char *where = "";
    double loss, norm, off, *part = (double *)allocate(chunks(m->n_param, SPAN) + 64, sizeof *part);
    adamw o = {0.01f, 0.9f, 0.98f, 1e-4f, 0.1f, 1, 1, 1, 0};
    with.rank = 3, with.scale = 5.0f / 3;
    a = model_new(with), want = floats(a->n_param);
    expected_n = 4 + m->tensors[TOKEN_EMBD].n + m->tensors[POSITION_EMBD].n;
    for (size_t i = a->first; i < a->n_tensor; i++) expected_n += 2 * a->tensors[i].n;
    CHECK(n == expected_n, "train_pairs.bin: %u numbers, expected %u", (unsigned)n, (unsigned)expected_n);
    if (n != expected_n) return;
    toy_start(m), toy_start(a);
    model_make_room(m, B, T), model_make_room(a, B, T);
    pairs_batch(m, &text, which, 3, token, target);
    CHECK(m->B == 3 && m->T == 11, "a batch of %u x %u, expected 3 x 11", (unsigned)m->B, (unsigned)m->T);
    for (size_t i = 0; i < B * T; i++) {
        size_t b = which[i / T], from = text.at[2 * b], k = i % T, len = text.at[2 * b + 2] - from;
        int counts = k + 1 < len && from + k + 1 >= text.at[2 * b + 1];
        counted += target[i] >= 0;
        CHECK((target[i] >= 0) == counts && (!counts || target[i] == text.id[from + k + 1]), "target %u of pair %u: %d",
              (unsigned)k, (unsigned)b, (int)target[i]);
        CHECK(token[i] == (k + 1 < len ? text.id[from + k] : 0), "token %u of pair %u: %d",
              (unsigned)k, (unsigned)b, (int)token[i]);
    }
    CHECK(counted == 7 + 6 + 3, "%u tokens count, expected 16", (unsigned)counted);
    /* 1. the weights themselves */
    loss = model_loss(m, token, target, none, 1);
    norm = gradient_norm(m, part);
    CHECK(fabs(loss - (double)golden[0]) < 1e-5, "pairs: loss %.7f, PyTorch %.7f", loss, (double)golden[0]);
    CHECK(fabs(norm - (double)golden[1]) < 1e-4 * norm, "pairs: gradient %.7f, PyTorch %.7f", norm, (double)golden[1]);
    for (int i = TOKEN_EMBD; i <= POSITION_EMBD; i++) {
        const tensor *t = &m->tensors[i];
        double top = 1e-4;
        off = 0;
        for (size_t j = 0; j < t->n; j++, next++)
            top = fmax(top, fabs((double)*next)), off = fmax(off, fabs((double)(*next - m->grad[t->at + j])));
        CHECK(off / top < TOL_TORCH, "pairs: gradient of %s is off by %.2e from PyTorch", t->name, off / top);
    }
    /* 2. an adapter; toy_start gives its b numbers, so that its a has a gradient */
    loss = model_loss(a, token, target, none, 1);
    norm = gradient_norm(a, part);
    CHECK(fabs(loss - (double)next[0]) < 1e-5, "adapter: loss %.7f, PEFT %.7f", loss, (double)next[0]);
    CHECK(fabs(norm - (double)next[1]) < 1e-4 * norm, "adapter: gradient %.7f, PEFT %.7f", norm, (double)next[1]);
    next += 2;
    for (int step = 0; step < 2; step++) {
        const float *have = step ? a->param : a->grad;
        double worst = -1;
        for (size_t i = a->first; i < a->n_tensor; i++) {
            const tensor *t = &a->tensors[i];
            double top = step ? 1 : 1e-4;
            off = 0;
            for (size_t j = 0; j < t->n; j++, next++)
                top = fmax(top, fabs((double)*next)), off = fmax(off, fabs((double)(*next - have[t->at + j])));
            if (off / top > worst) worst = off / top, where = t->name;
        }
        CHECK(worst < (step ? TOL_ADAMW : TOL_TORCH), "adapter: %s of %s is off by %.2e from PEFT",
              step ? "a step" : "the gradient", where, worst);
        o.scale = norm > 0.5 ? (float)(0.5 / norm) : 1.0f, o.fix1 = 10, o.fix2 = 50;
        if (!step) optimiser_step(a, &o);
    }
    for (size_t i = 0; i < a->first; i++)
        CHECK(!memcmp(a->param + a->tensors[i].at, m->param + m->tensors[i].at, m->tensors[i].n * sizeof(float)),
              "an adapter's step changed %s", a->tensors[i].name);
    free(golden), free(want), free(part), free(text.id), free(text.at), model_free(m), model_free(a);
}

/* ---- A step that Ctrl-C drops, and one that cannot be ---- */

static void test_no_step(void) {
    enum { N = 200 };
    const double run_away[] = {(double)NAN, (double)INFINITY, 1e30};
    for (int i = 0; i < 3; i++) {
        training t;
        order o = {0, 0, 0, NULL, NULL};
        int32_t token[4 * 11], target[4 * 11];
        double part[64], loss;
        float *before;
        memset(&t, 0, sizeof t);
        for (int j = 0; j < N_OPTION; j++) t.opt[j] = options[j].value;
        t.opt[STEPS] = 10, t.opt[RATE] = 0.01;
        t.m = model_new(toy_shape());
        model_init(t.m, 1);
        model_make_room(t.m, 4, 11);
        t.train.n = N, t.train.id = (int32_t *)allocate(N, sizeof(int32_t));
        for (int j = 0; j < N; j++) t.train.id[j] = j % 37;
        loss = train_step(&t, &o, token, target, part);
        CHECK(loss > 3 && loss < 4 && t.step == 1, "the first step of a new model: loss %g, step %u", loss,
              (unsigned)t.step);
        before = floats(t.m->n_param);
        memcpy(before, t.m->param, t.m->n_param * sizeof *before);
        args_stopped = SIGINT;
        train_step(&t, &o, token, target, part);
        args_stopped = 0;
        CHECK(t.step == 1 && !memcmp(before, t.m->param, t.m->n_param * sizeof *before), "a dropped step was taken");
        t.m->param[t.m->tensors[OUTPUT_NORM_W].at] = (float)run_away[i]; /* as too large steps leave it */
        memcpy(before, t.m->param, t.m->n_param * sizeof *before);
        loss = train_step(&t, &o, token, target, part);
        CHECK(isnan(loss) && t.step == 1, "a weight of %g: loss %g, step %u", run_away[i], loss, (unsigned)t.step);
        CHECK(!memcmp(before, t.m->param, t.m->n_param * sizeof *before), "a weight of %g: the weights were changed",
              run_away[i]);
        free(before), free(t.train.id), free(o.window), model_free(t.m);
    }
}

/* ---- The vocabulary of long words ---- */

static void test_vocabulary(void) {
    enum { DNA = 400000, RUN = 300000 };
    const char words[] = "the cat sees the dog and the dog sees the cat; the bird sees them all and sings to the cat\n";
    char *text = (char *)allocate(DNA, 1), *more = (char *)allocate(RUN + sizeof words, 1);
    clock_t begin = clock();
    vocabulary a, b;
    size_t longest = 0;
    for (size_t i = 0; i < DNA; i++) text[i] = "ACGT"[random_at(7, i) & 3];
    a = learn_vocabulary(text, DNA, 400);
    CHECK(a.n == 399, "%u tokens of a word of %u letters", (unsigned)a.n, DNA);
    CHECK(clock() - begin < 20 * CLOCKS_PER_SEC, "a word of %u letters took %g s", DNA,
          (double)(clock() - begin) / CLOCKS_PER_SEC);
    vocabulary_free(&a);
    memset(more, '-', RUN); /* a run of one character is a few tokens, and not the end */
    memcpy(more + RUN, words, sizeof words - 1);
    more[RUN - 1] = '\n';
    a = learn_vocabulary(words, sizeof words - 1, 300);
    b = learn_vocabulary(more, RUN + sizeof words - 1, 300 + 8);
    for (size_t i = 0; i < b.n; i++) longest = larger(longest, b.length[i]);
    CHECK(longest > 32 && longest <= LONGEST_PIECE, "the longest token has %u bytes", (unsigned)longest);
    CHECK(a.n > 270 && b.n >= a.n, "%u tokens behind a run, %u without it", (unsigned)b.n, (unsigned)a.n);
    free(text), free(more), vocabulary_free(&a), vocabulary_free(&b);
}

/* ---- Training as the command does it, on a text made here ---- */

/* n_story little stories out of a few words: easy to learn, so a toy must learn them. */
static size_t write_text(const char *path, int n_story) {
    static const char *const who[] = {"cat", "dog", "bird", "fox"}, *const what[] = {"sees", "likes", "chases",
                                                                                     "finds"};
    FILE *f = fopen(path, "wb");
    size_t n = 0;
    if (!f) args_die("%s: cannot write", path);
    for (int i = 0; i < n_story; i++) {
        uint64_t r = random_at(5, (uint64_t)i);
        for (int j = 0; j < 3; j++, r >>= 6)
            n += (size_t)fprintf(f, "The %s %s the %s. ", who[r & 3], what[r >> 2 & 3], who[r >> 4 & 3]);
        n += (size_t)fprintf(f, "Es ist gr\xC3\xBCn.\n<|endoftext|>\n");
    }
    fclose(f);
    return n;
}

static int run(const char *first, ...) {
    char *argv[64];
    int argc = 0;
    va_list ap;
    va_start(ap, first);
    argv[argc++] = (char *)"train";
    for (const char *a = first; a; a = va_arg(ap, const char *)) argv[argc++] = (char *)a;
    va_end(ap);
    return train_main(argc, argv);
}

static int same_files(const char *a, const char *b) {
    size_t n, k;
    char *x = args_read(a, &n), *y = args_read(b, &k);
    int same = n == k && !memcmp(x, y, n);
    free(x), free(y);
    return same;
}

static void copy_file(const char *from, const char *to) {
    size_t n;
    char *x = args_read(from, &n);
    FILE *f = fopen(to, "wb");
    CHECK(f && fwrite(x, 1, n, f) == n && !fclose(f), "%s: cannot write", to);
    free(x);
}

/* The value behind a key of a GGUF file in memory. */
static char *value_of(char *bytes, size_t n, const char *key) {
    size_t k = strlen(key);
    for (size_t i = 0; i + k < n; i++)
        if (!memcmp(bytes + i, key, k)) return bytes + i + k;
    return NULL;
}

/* Makes a checkpoint as it was before --muon: takes the option out of it, and lets general.name, an 8 letters longer one,
 * take its room. */
static void forget_muon(const char *path) {
    size_t n;
    char *x = args_read(path, &n), *name = value_of(x, n, "general.name") + 4;
    char *kept = value_of(x, n, "train.options") + 8;
    FILE *f = fopen(path, "wb");
    CHECK(name < kept && name[0] < 100 && kept[0] == N_OPTION, "another order of metadata");
    name[0] = (char)(name[0] + 8), kept[0]--;
    fwrite(x, 1, (size_t)(name - x) + 8, f);
    fwrite("so-so by", 1, 8, f);
    fwrite(name + 8, 1, (size_t)(kept - name) + 8 * (N_OPTION - 1), f);
    kept += 8 + 8 * N_OPTION;
    fwrite(kept, 1, (size_t)(x + n - kept), f);
    fclose(f), free(x);
}

#define TOY(out)                                                                                                    \
    text, "-o", BUILD_DIR "/" out, "--vocab", "320", "--layers", "2", "--heads", "2", "--width", "32", "--context", \
        "32", "--batch", "4"

static void test_training(void) {
    const char *text = BUILD_DIR "/train_text.txt";
    loaded *f;
    double best;
    write_text(text, 400);
    for (int i = 1; i <= 9; i++) { /* an earlier run of this test may have been cut short */
        char name[256];
        snprintf(name, sizeof name, BUILD_DIR "/train%d.gguf.ckpt", i);
        remove(name);
    }
    /* 1. it learns: chance would be log(320) = 5.8, knowing the words but not their order about 2 */
    run(TOY("train1.gguf"), "--steps", "200", "--every", "100", "-t", "1", NULL);
    f = load_gguf(BUILD_DIR "/train1.gguf.ckpt");
    best = file_f64(f, "checkpoint", "train.state", 1);
    loaded_free(f);
    CHECK(best < 0.9, "validation loss %.4f after 200 steps, expected below 0.9", best);
    /* 2. the same bits on 2 and 3 threads */
    run(TOY("train2.gguf"), "--steps", "200", "--every", "100", "-t", "2", NULL);
    run(TOY("train3.gguf"), "--steps", "200", "--every", "100", "-t", "3", NULL);
    CHECK(same_files(BUILD_DIR "/train1.gguf.ckpt", BUILD_DIR "/train2.gguf.ckpt"),
          "2 threads train another model than 1");
    CHECK(same_files(BUILD_DIR "/train1.gguf.ckpt", BUILD_DIR "/train3.gguf.ckpt"),
          "3 threads train another model than 1");
    CHECK(same_files(BUILD_DIR "/train1.gguf", BUILD_DIR "/train2.gguf"), "2 threads write another model than 1");
    /* 3. interrupted after 1 step past 100, resumed: the same bits */
    run(TOY("train4.gguf"), "--steps", "200", "--every", "100", "--stop", "101", NULL);
    f = load_gguf(BUILD_DIR "/train4.gguf.ckpt");
    CHECK(file_f64(f, "checkpoint", "train.state", 0) == 101, "interrupted at step %g",
          file_f64(f, "checkpoint", "train.state", 0));
    loaded_free(f);
    copy_file(BUILD_DIR "/train4.gguf", BUILD_DIR "/train7.gguf");
    copy_file(BUILD_DIR "/train4.gguf.ckpt", BUILD_DIR "/train7.gguf.ckpt");
    run(text, "-o", BUILD_DIR "/train4.gguf", "--resume", NULL);
    CHECK(same_files(BUILD_DIR "/train1.gguf.ckpt", BUILD_DIR "/train4.gguf.ckpt"), "a resumed training differs");
    forget_muon(BUILD_DIR "/train7.gguf.ckpt");
    run(text, "-o", BUILD_DIR "/train7.gguf", "--resume", "--name", "trained by train.c", NULL);
    CHECK(same_files(BUILD_DIR "/train1.gguf.ckpt", BUILD_DIR "/train7.gguf.ckpt"),
          "a training from before --muon, resumed, differs");
    /* 4. fine-tuning goes on from the file: lower loss after one step than a new model's */
    run(text, "-o", BUILD_DIR "/train5.gguf", "--init", BUILD_DIR "/train1.gguf", "--steps", "2", "--every", "1", NULL);
    f = load_gguf(BUILD_DIR "/train5.gguf.ckpt");
    CHECK(file_f64(f, "checkpoint", "train.state", 1) < best + 0.1, "fine-tuning starts at %g, the model had %g",
          file_f64(f, "checkpoint", "train.state", 1), best);
    loaded_free(f);
    /* 5. resumed with more steps than were asked for at first */
    run(TOY("train6.gguf"), "--steps", "20", "--every", "10", NULL);
    run(text, "-o", BUILD_DIR "/train6.gguf", "--resume", "--steps", "30", NULL);
    f = load_gguf(BUILD_DIR "/train6.gguf.ckpt");
    CHECK(file_f64(f, "checkpoint", "train.state", 0) == 30, "resumed to step %g of 30",
          file_f64(f, "checkpoint", "train.state", 0));
    CHECK(file_f64(f, "checkpoint", "train.options", STEPS) == 30, "the checkpoint has %g steps",
          file_f64(f, "checkpoint", "train.options", STEPS));
    loaded_free(f);
    /* 6. by Muon: better in as many steps; resumed on other threads: the same bits */
    run(TOY("train8.gguf"), "--muon", "10", "--steps", "200", "--every", "100", "-t", "1", NULL);
    f = load_gguf(BUILD_DIR "/train8.gguf.ckpt");
    CHECK(file_f64(f, "checkpoint", "train.state", 1) < best - 0.05, "validation loss by Muon %.4f, by AdamW %.4f",
          file_f64(f, "checkpoint", "train.state", 1), best);
    loaded_free(f);
    run(TOY("train9.gguf"), "--muon", "10", "--steps", "200", "--every", "100", "--stop", "101", "-t", "3", NULL);
    run(text, "-o", BUILD_DIR "/train9.gguf", "--resume", "-t", "2", NULL);
    CHECK(same_files(BUILD_DIR "/train8.gguf.ckpt", BUILD_DIR "/train9.gguf.ckpt"), "a resumed training by Muon differs");
}

static void torch(void) { test_torch(torch_file); }

/* test_training makes a pool of its own, so none may be left when it begins. */
static void as_command(void) {
    pool *before = threads;
    threads = NULL;
    test_training();
    threads = before;
}

static const test tests[] = {
    { "linear", test_linear }, { "lora", test_lora }, { "mask", test_mask }, { "pairs", test_pairs },
    { "layernorm", test_layernorm }, { "attention", test_attention },
    { "gelu", test_gelu }, { "embedding", test_embedding }, { "dropout", test_dropout },
    { "loss", test_loss }, { "products", test_products }, { "naive", test_naive },
    { "threads", test_threads }, { "no_step", test_no_step }, { "vocabulary", test_vocabulary },
    { "torch", torch }, { "orthogonal", test_orthogonal }, { "muon", test_muon }, { "training", as_command }, { NULL, NULL }
};

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "--torch")) { torch_file = argv[2]; argv += 2; argc -= 2; }
    threads = pool_new(3);
    test_run(tests, argc, argv);
    pool_free(threads);
    return test_report("unit_train");
}
