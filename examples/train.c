/* train.c: train or fine-tune a GPT-2 model on a text file, on the CPU, in one C file.
 *
 *   cc -O2 -pthread -o train examples/train.c -lm
 *   ./train TEXT -o my.gguf                        learn a vocabulary and a model from TEXT
 *   ./train TEXT --init my.gguf -o tuned.gguf      go on from an existing gpt2-architecture model
 *   ./train PAIRS.tsv --init my.gguf -o task.gguf  learn to answer: lines of prompt, tab, answer
 *   ./train PAIRS.tsv --init my.gguf --lora 8 -o task.lora.gguf    the same as a small adapter beside the model
 *   ./train TEXT --init my.gguf --eval             loss, perplexity and accuracy of a model on TEXT
 *
 * Read from top to bottom, this file is the whole of training:
 *
 *   [BASICS] [PRODUCTS] [STAGES] [MODEL] [OPTIMISER] [VOCABULARY] [FILES] [DATA] [TRAINING] [COMMAND]
 *
 * Shapes are written [rows, columns], row-major, float unless stated. The letters are:
 *   B  texts in a batch     T  tokens in a text (the context)     N = B*T     V  vocabulary
 *   D  width of the model   H  heads   d = D/H width of a head   L  layers
 * A stage is a pair of functions: X_forward computes y from x, X_backward takes dy, the derivative of the loss with
 * respect to y, and gives dx and the derivatives of the stage's weights (dw, db).
 *
 * The same seed gives the same bits on one machine whatever the number of threads: every number is computed by one
 * thread in a fixed order, and sums over a batch are cut into pieces whose size does not depend on the threads. */
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__)) && !defined(GPT_NO_SIMD)
#include <immintrin.h>
#define HAVE_AVX2 1
#define AVX2 __attribute__((target("avx2,fma")))
#endif
#ifndef GPT_NO_SIMD
#define GPT_NO_SIMD /* of gpt.h, files, formats and the tokenizer are used here: the rest takes long to compile */
#endif
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "args.h"
#include "encode.h"
#include "pool.h"
#include "tsv.h"
#include <float.h>
#include <math.h>
#ifndef _WIN32
#include <fcntl.h>
#endif

/* The loops below are written so that a compiler can turn them into vector code, which gcc does at -O3 alone. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math", "no-math-errno", "fp-contract=fast")
#endif
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#define ALONE __restrict__ /* on the pointer to an output: nothing else in the function points there */
#else
#define INLINE static
#define ALONE
#endif

/* ======================================================================
 * [BASICS] Memory, threads, random numbers, run-time choice of instructions
 * ==================================================================== */

/* Zeroed memory for n items of the given size; never returns NULL. */
static void *allocate(size_t n, size_t size) {
    return args_need(n > SIZE_MAX / 2 / size ? NULL : calloc(n ? n : 1, size));
}

static float *floats(size_t n) { return (float *)allocate(n, sizeof(float)); }
static int no_number(double x) { return x != x; } /* isnan is a macro, which not every compiler takes quietly */
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static size_t chunks(size_t n, size_t size) { return (n + size - 1) / size; }

static pool *threads; /* those of the program, the caller included; NULL: the caller alone */

static int thread_count(void) {
    int n = pool_parallel(threads).n_worker;
    return n > 1 ? n : 1;
}

/* Ctrl-C need not wait for the end of a long step: while droppable is set, the work that is left is left out. */
static int droppable;
static int dropped(void) { return droppable && POOL_LOAD(&args_stopped); }

/* The one way to be parallel: task(data, begin, end, worker) on ranges that cover [0, n), on all threads at once; it
 * returns when all are done. worker is below thread_count(), and no two ranges at work have the same. cost: what one of
 * n takes, in multiply-adds, about. Little work is done here: asking the others would take longer. */
enum { LITTLE_WORK = 1 << 16 };
static void parallel_for(size_t n, size_t cost, gpt_task task, void *data) {
    if (dropped()) return;
    if (!threads || n * cost < LITTLE_WORK) task(data, 0, n, 0);
    else pool_run(threads, n, cost, task, data);
}

/* CLONED(name, (parameters), (arguments)) makes name() from name_plain(): compiled twice, chosen at run time. */
#ifdef HAVE_AVX2
static int cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#define CLONED(name, params, args)                             \
    AVX2 static void name##_avx2 params { name##_plain args; } \
    static void name params {                                  \
        if (cpu_has_avx2()) name##_avx2 args;                  \
        else name##_plain args;                                \
    }
#else
#define CLONED(name, params, args) \
    static void name params { name##_plain args; }
#endif

/* splitmix64 (Steele, Lea, Flood 2014): a number from a counter, so that any position of the stream can be had at
 * once. */
static uint64_t random_at(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Standard normal up to the shape of its far tails: 12 uniform numbers less 6. Needs no libm, so it is the same
 * everywhere. */
static float random_normal(uint64_t seed, uint64_t index) {
    double sum = -6;
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t r = random_at(seed, index * 6 + i);
        sum += (double)(r >> 32) / 4294967296.0 + (double)(r & 0xFFFFFFFFu) / 4294967296.0;
    }
    return (float)sum;
}

/* e^x for x in [-87, 88], clamped outside; relative error below 2e-7. n = round(x / ln 2), then a polynomial on the
 * rest. */
INLINE float exp_fast(float x) {
    float n, r, p, scale;
    int32_t bits;
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    n = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    n -= 12582912.0f;
    r = x - n * 0.693359375f; /* ln 2 in two parts, the first exact in few bits */
    r += n * 2.12194440e-4f;
    p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits = ((int32_t)(n >= -127.0f ? n : -127.0f) + 127) * (1 << 23); /* NaN fits into no integer, and stays in p */
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* Sums run in 16 lanes, so that they become vector adds, and the lanes are added in a fixed order. */
#define LANES 16
INLINE float lanes_total(const float *s) {
    float a = (s[0] + s[8]) + (s[4] + s[12]), b = (s[1] + s[9]) + (s[5] + s[13]);
    float c = (s[2] + s[10]) + (s[6] + s[14]), d = (s[3] + s[11]) + (s[7] + s[15]);
    return (a + c) + (b + d);
}

INLINE float largest(const float *x, size_t n) {
    float m[LANES], max;
    size_t i, j;
    for (j = 0; j < LANES; j++) m[j] = x[0];
    for (i = 0; i + LANES <= n; i += LANES)
        for (j = 0; j < LANES; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (j = 0; i + j < n; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (max = m[0], j = 1; j < LANES; j++) max = m[j] > max ? m[j] : max;
    return max;
}

/* ======================================================================
 * [PRODUCTS] The matrix product, where nearly all the time goes
 *
 * c[m, n] = a[m, k] * b[k, n]. Both factors carry two strides, so one function serves the three products of a linear
 * layer: forward  y  = x * w^T      backward  dx = dy * w      and  dw = dy^T * x
 * b is copied into panels of 16 columns ("packed") that the inner loop reads in order, TILE_M x 16 results stay in
 * registers, and k is cut into pieces of PIECE_K so that a panel stays in the first-level cache (Goto & van de Geijn
 * 2008). ==================================================================== */

enum { TILE_M = 6, TILE_N = 16, PIECE_K = 256, ROWS_MAX = 48 };

typedef struct matrix {
    const float *p;
    size_t row, col; /* element (i, j) is p[i*row + j*col] */
} matrix;

static matrix by_rows(const float *p, size_t width) {
    matrix m;
    m.p = p, m.row = width, m.col = 1;
    return m;
}

static matrix transposed(const float *p, size_t width) {
    matrix m;
    m.p = p, m.row = 1, m.col = width;
    return m;
}

typedef struct product_job {
    float *c; /* [m, n], rows ldc apart */
    size_t ldc, m, n, k;
    matrix a, b;
    const float *bias; /* [n] added to every row, or NULL */
    int add;           /* 1: add to c, 0: overwrite it */
    float *pack;       /* room for product_pack_floats(n) */
    size_t k0, kc;     /* the piece of k at hand */
    size_t rows;       /* of c in a block, at most ROWS_MAX */
} product_job;

static size_t product_pack_floats(size_t n) { return chunks(n, TILE_N) * TILE_N * PIECE_K; }

/* c[6, 16] = start[6, 16] + a[6, k] * b[k, 16]; rows of c are ldc apart, rows of start lds (0: one row for all). The
 * rows of a are given one by one, so that a short tile can repeat its last row. */
#ifdef HAVE_AVX2
AVX2 static void tile_avx2(float *c, size_t ldc, const float *start, size_t lds, const float *const *a, size_t step,
                           const float *b, size_t k) {
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define START(i)              \
    const float *a##i = a[i]; \
    __m256 l##i = _mm256_loadu_ps(start + i * lds), h##i = _mm256_loadu_ps(start + i * lds + 8);
#define ADD(i) \
    x = _mm256_broadcast_ss(a##i + o), l##i = _mm256_fmadd_ps(x, low, l##i), h##i = _mm256_fmadd_ps(x, high, h##i);
#define STORE(i) _mm256_storeu_ps(c + i * ldc, l##i), _mm256_storeu_ps(c + i * ldc + 8, h##i);
    EACH_ROW(START)
    for (size_t p = 0, o = 0; p < k; p++, o += step, b += TILE_N) {
        __m256 low = _mm256_loadu_ps(b), high = _mm256_loadu_ps(b + 8), x;
        EACH_ROW(ADD)
    }
    EACH_ROW(STORE)
}
#endif

static void tile_plain(float *c, size_t ldc, const float *start, size_t lds, const float *const *a, size_t step,
                       const float *b, size_t k) {
    for (size_t i = 0; i < TILE_M; i += 2) { /* two rows at a time: 8 registers of 4 floats */
        float s0[TILE_N], s1[TILE_N];
        memcpy(s0, start + i * lds, sizeof s0);
        memcpy(s1, start + (i + 1) * lds, sizeof s1);
        for (size_t p = 0; p < k; p++) {
            float x0 = a[i][p * step], x1 = a[i + 1][p * step];
            for (int j = 0; j < TILE_N; j++) s0[j] += x0 * b[p * TILE_N + (size_t)j];
            for (int j = 0; j < TILE_N; j++) s1[j] += x1 * b[p * TILE_N + (size_t)j];
        }
        memcpy(c + i * ldc, s0, sizeof s0);
        memcpy(c + (i + 1) * ldc, s1, sizeof s1);
    }
}

static void tile(float *c, size_t ldc, const float *start, size_t lds, const float *const *a, size_t step,
                 const float *b, size_t k) {
#ifdef HAVE_AVX2
    if (cpu_has_avx2()) {
        tile_avx2(c, ldc, start, lds, a, step, b, k);
        return;
    }
#endif
    tile_plain(c, ldc, start, lds, a, step, b, k);
}

/* Copies columns [16*panel, 16*panel + 16) of rows [k0, k0 + kc) of b, zeros beyond its edge. */
static void product_pack(const product_job *job, size_t panel) {
    size_t j0 = panel * TILE_N, n = smaller(TILE_N, job->n - j0), kc = job->kc, rs = job->b.row, cs = job->b.col;
    const float *b = job->b.p + job->k0 * rs + j0 * cs;
    float *out = job->pack + panel * TILE_N * PIECE_K;
    if (n < TILE_N) memset(out, 0, kc * TILE_N * sizeof *out);
    if (cs == 1)
        for (size_t p = 0; p < kc; p++) memcpy(out + p * TILE_N, b + p * rs, n * sizeof *out);
    else
        for (size_t p = 0; p < kc; p++)
            for (size_t j = 0; j < n; j++) out[p * TILE_N + j] = b[p * rs + j * cs];
}

/* One block of rows of the result, over one piece of k. A transposed a is packed as well: its steps along k are long.
 * A tile that reaches over an edge is made aside, in t. */
static void product_rows(const product_job *job, size_t block) {
    float pack[ROWS_MAX * PIECE_K], t[TILE_M * TILE_N], zero[TILE_N] = {0};
    size_t i0 = block * job->rows, m = smaller(job->rows, job->m - i0), k0 = job->k0, kc = job->kc;
    const float *a = job->a.p + i0 * job->a.row + k0 * job->a.col, *rows[TILE_M];
    size_t rs = job->a.row, cs = job->a.col, ldc = job->ldc;
    int add = job->add || k0;
    if (cs != 1) {
        for (size_t p = 0; p < kc; p++)
            for (size_t i = 0; i < m; i++) pack[p * ROWS_MAX + i] = a[i * rs + p * cs];
        a = pack, rs = 1, cs = ROWS_MAX;
    }
    for (size_t j = 0; j < job->n; j += TILE_N)
        for (size_t i = 0; i < m; i += TILE_M) {
            size_t n = smaller(TILE_N, job->n - j), left = smaller(TILE_M, m - i), r;
            float *c = job->c + (i0 + i) * ldc + j;
            const float *b = job->pack + j * PIECE_K, *bias = job->bias ? job->bias + j : zero;
            for (r = 0; r < TILE_M; r++) rows[r] = a + (i + smaller(r, left - 1)) * rs;
            if (left == TILE_M && n == TILE_N) {
                tile(c, ldc, add ? c : bias, add ? ldc : 0, rows, cs, b, kc);
                continue;
            }
            for (r = 0; r < left; r++)
                memcpy(t + r * TILE_N, add ? c + r * ldc : job->bias ? bias : zero, n * sizeof *t);
            tile(t, TILE_N, t, TILE_N, rows, cs, b, kc);
            for (r = 0; r < left; r++) memcpy(c + r * ldc, t + r * TILE_N, n * sizeof *t);
        }
}

static void product_pack_task(void *data, size_t begin, size_t end, int worker) {
    for (size_t panel = begin; panel < end; panel++) product_pack((const product_job *)data, panel);
    (void)worker;
}

static void product_rows_task(void *data, size_t begin, size_t end, int worker) {
    for (size_t block = begin; block < end; block++) product_rows((const product_job *)data, block);
    (void)worker;
}

/* The product on the calling thread alone. */
static void product_here(product_job job) {
    job.rows = ROWS_MAX;
    for (job.k0 = 0; job.k0 < job.k; job.k0 += PIECE_K) {
        job.kc = smaller(PIECE_K, job.k - job.k0);
        product_pack_task(&job, 0, chunks(job.n, TILE_N), 0);
        product_rows_task(&job, 0, chunks(job.m, job.rows), 0);
    }
}

/* The product on all threads; each element is still computed by one of them, in ascending order of k. */
static void product(product_job job) {
    job.rows = smaller(ROWS_MAX, chunks(job.m, 8 * TILE_M) * TILE_M); /* at least 8 blocks where m allows */
    for (job.k0 = 0; job.k0 < job.k; job.k0 += PIECE_K) {
        job.kc = smaller(PIECE_K, job.k - job.k0);
        parallel_for(chunks(job.n, TILE_N), TILE_N * job.kc, product_pack_task, &job);
        parallel_for(chunks(job.m, job.rows), job.rows * job.n * job.kc, product_rows_task, &job);
    }
}

static product_job make_job(float *c, size_t ldc, size_t m, size_t n, size_t k, matrix a, matrix b, int add,
                            float *pack) {
    product_job job = {0};
    job.c = c, job.ldc = ldc, job.m = m, job.n = n, job.k = k, job.a = a, job.b = b;
    job.add = add, job.pack = pack;
    return job;
}

/* ======================================================================
 * [STAGES] Forward and backward of every stage
 * ==================================================================== */

/* Room that the stages share: never read before it is written. */
typedef struct workspace {
    float *pack; /* for product(): product_pack_floats(largest n) */
    float *part; /* partial sums of layernorm_backward: [chunks(N, ROW_CHUNK), 2*D] */
    float *own;  /* per thread, own_size floats: the scores of a block of queries, twice, and a pack */
    size_t own_size;
    float *muon; /* what muon() takes for the largest matrix; NULL until it is wanted */
} workspace;

enum { ROW_CHUNK = 64, COL_CHUNK = 32, QUERY_BLOCK = 96 };

/* ---- Embedding: y[b, t, :] = wte[token[b, t], :] + wpe[t, :]          wte [V, D], wpe [T, D], y [N, D] */
typedef struct embedding_job {
    float *y;
    const int32_t *token;
    const float *wte, *wpe;
    size_t T, D;
} embedding_job;

static void embedding_task(void *data, size_t begin, size_t end, int worker) {
    const embedding_job *job = (const embedding_job *)data;
    size_t T = job->T, D = job->D;
    for (size_t n = begin; n < end; n++) {
        const float *e = job->wte + (size_t)job->token[n] * D, *p = job->wpe + n % T * D;
        for (size_t i = 0; i < D; i++) job->y[n * D + i] = e[i] + p[i];
    }
    (void)worker;
}

static void embedding_forward(float *y, const int32_t *token, const float *wte, const float *wpe, size_t N, size_t T,
                              size_t D) {
    embedding_job job = {y, token, wte, wpe, T, D};
    parallel_for(N, D, embedding_task, &job);
}

typedef struct embedding_back_job {
    float *dwte, *dwpe;
    const float *dy;
    const int32_t *token;
    size_t N, T, D;
} embedding_back_job;

/* dwte[token[n], :] += dy[n, :]; dwpe[t, :] = sum over b of dy[b, t, :]. A thread owns a range of columns, so that two
 * occurrences of one token are added in the order of the text. */
static void embedding_back_task(void *data, size_t begin, size_t end, int worker) {
    const embedding_back_job *job = (const embedding_back_job *)data;
    size_t T = job->T, D = job->D, c0 = begin * COL_CHUNK, c1 = smaller(D, end * COL_CHUNK);
    for (size_t n = 0; n < job->N; n++) {
        float *e = job->dwte + (size_t)job->token[n] * D, *p = job->dwpe + n % T * D;
        for (size_t c = c0; c < c1; c++) e[c] += job->dy[n * D + c], p[c] += job->dy[n * D + c];
    }
    (void)worker;
}

static void embedding_backward(float *dwte, float *dwpe, const float *dy, const int32_t *token, size_t N, size_t T,
                               size_t D) {
    embedding_back_job job = {dwte, dwpe, dy, token, N, T, D};
    memset(dwpe, 0, T * D * sizeof *dwpe);
    parallel_for(chunks(D, COL_CHUNK), 2 * N * COL_CHUNK, embedding_back_task, &job);
}

/* ---- Layer norm (Ba, Kiros, Hinton 2016, arXiv:1607.06450): y = (x - mean) * rstd * w + b, over each row of D.
 * mean [N] and rstd [N] = 1 / sqrt(variance + eps) are kept for the way back. */
INLINE void layernorm_row_plain(float *ALONE y, float *mean, float *rstd, const float *x, const float *w,
                                const float *b, size_t D, float eps) {
    float s[LANES] = {0}, v[LANES] = {0}, m, r;
    size_t i, j, D16 = D / LANES * LANES;
    for (i = 0; i < D16; i += LANES)
        for (j = 0; j < LANES; j++) s[j] += x[i + j];
    for (j = 0; i + j < D; j++) s[j] += x[i + j];
    m = lanes_total(s) / (float)D;
    for (i = 0; i < D16; i += LANES)
        for (j = 0; j < LANES; j++) v[j] += (x[i + j] - m) * (x[i + j] - m);
    for (j = 0; i + j < D; j++) v[j] += (x[i + j] - m) * (x[i + j] - m);
    r = 1.0f / sqrtf(lanes_total(v) / (float)D + eps);
    for (i = 0; i < D; i++) y[i] = (x[i] - m) * r * w[i] + b[i];
    *mean = m, *rstd = r;
}
CLONED(layernorm_row,
       (float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, size_t D, float eps),
       (y, mean, rstd, x, w, b, D, eps))

typedef struct layernorm_job {
    float *y, *mean, *rstd;
    const float *x, *w, *b;
    size_t D;
    float eps;
} layernorm_job;

static void layernorm_task(void *data, size_t begin, size_t end, int worker) {
    const layernorm_job *job = (const layernorm_job *)data;
    size_t D = job->D;
    for (size_t n = begin; n < end; n++)
        layernorm_row(job->y + n * D, job->mean + n, job->rstd + n, job->x + n * D, job->w, job->b, D, job->eps);
    (void)worker;
}

static void layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b,
                              size_t N, size_t D, float eps) {
    layernorm_job job = {y, mean, rstd, x, w, b, D, eps};
    parallel_for(N, 4 * D, layernorm_task, &job);
}

/* With h = (x - mean) * rstd and g = dy * w:  dx += rstd * (g - average(g) - h * average(g * h)),  dw = sum dy * h,  db
 * = sum dy */
INLINE void layernorm_back_row_plain(float *ALONE dx, float *ALONE dw, float *ALONE db, const float *dy, const float *x,
                                     const float *w, float mean, float rstd, size_t D) {
    float s[LANES] = {0}, v[LANES] = {0}, g, gh;
    size_t i, j, D16 = D / LANES * LANES;
    for (i = 0; i < D16; i += LANES)
        for (j = 0; j < LANES; j++) {
            float z = dy[i + j] * w[i + j];
            s[j] += z;
            v[j] += z * (x[i + j] - mean);
        }
    for (j = 0; i + j < D; j++) s[j] += dy[i + j] * w[i + j], v[j] += dy[i + j] * w[i + j] * (x[i + j] - mean);
    g = lanes_total(s) / (float)D;
    gh = lanes_total(v) * rstd / (float)D;
    for (i = 0; i < D; i++) {
        float h = (x[i] - mean) * rstd;
        dx[i] += rstd * (dy[i] * w[i] - g - h * gh);
        dw[i] += dy[i] * h;
        db[i] += dy[i];
    }
}
CLONED(layernorm_back_row,
       (float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, float mean, float rstd,
        size_t D),
       (dx, dw, db, dy, x, w, mean, rstd, D))

typedef struct layernorm_back_job {
    float *dx, *part;
    const float *dy, *x, *w, *mean, *rstd;
    size_t N, D;
} layernorm_back_job;

static void layernorm_back_task(void *data, size_t begin, size_t end, int worker) {
    const layernorm_back_job *job = (const layernorm_back_job *)data;
    size_t N = job->N, D = job->D;
    for (size_t chunk = begin; chunk < end; chunk++) {
        float *pw = job->part + chunk * 2 * D, *pb = pw + D;
        memset(pw, 0, 2 * D * sizeof *pw);
        for (size_t n = chunk * ROW_CHUNK; n < smaller(N, (chunk + 1) * ROW_CHUNK); n++)
            layernorm_back_row(job->dx + n * D, pw, pb, job->dy + n * D, job->x + n * D, job->w, job->mean[n],
                               job->rstd[n], D);
    }
    (void)worker;
}

/* Each chunk of rows has its own partial sums of dw and db; the chunks are added in order. dw NULL: dx alone. */
static void layernorm_backward(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                               const float *mean, const float *rstd, size_t N, size_t D, workspace *ws) {
    size_t n_chunk = chunks(N, ROW_CHUNK);
    float *part = ws->part;
    layernorm_back_job job = {dx, part, dy, x, w, mean, rstd, N, D};
    parallel_for(n_chunk, 8 * ROW_CHUNK * D, layernorm_back_task, &job);
    if (!dw) return;
    memcpy(dw, part, D * sizeof *dw);
    memcpy(db, part + D, D * sizeof *db);
    for (size_t chunk = 1; chunk < n_chunk; chunk++)
        for (size_t i = 0; i < D; i++) dw[i] += part[chunk * 2 * D + i], db[i] += part[chunk * 2 * D + D + i];
}

/* ---- Linear layer: y[N, O] = x[N, I] * w[O, I]^T + b[O]; no bias where b is NULL. */
static void linear_forward(float *y, const float *x, const float *w, const float *b, size_t N, size_t I, size_t O,
                           workspace *ws) {
    product_job job = make_job(y, O, N, O, I, by_rows(x, I), transposed(w, I), 0, ws->pack);
    job.bias = b;
    product(job);
}

INLINE void sum_rows_plain(float *ALONE sum, const float *x, size_t N, size_t stride, size_t n) {
    for (size_t j = 0; j < n; j++) sum[j] = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < n; j++) sum[j] += x[i * stride + j];
}
CLONED(sum_rows, (float *sum, const float *x, size_t N, size_t stride, size_t n), (sum, x, N, stride, n))

typedef struct sum_rows_job {
    float *sum;     /* [O] */
    const float *x; /* [N, O] */
    size_t N, O;
} sum_rows_job;

static void sum_rows_task(void *data, size_t begin, size_t end, int worker) {
    const sum_rows_job *job = (const sum_rows_job *)data;
    for (size_t chunk = begin; chunk < end; chunk++) {
        size_t c0 = chunk * COL_CHUNK;
        sum_rows(job->sum + c0, job->x + c0, job->N, job->O, smaller(COL_CHUNK, job->O - c0));
    }
    (void)worker;
}

/* dx = dy * w,  dw = dy^T * x,  db = column sums of dy; no dw, no db where they are NULL. */
static void linear_backward(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, size_t N,
                            size_t I, size_t O, workspace *ws) {
    sum_rows_job sums = {db, dy, N, O};
    product(make_job(dx, I, N, I, O, by_rows(dy, O), by_rows(w, I), 0, ws->pack));
    if (dw) product(make_job(dw, I, O, I, N, transposed(dy, O), by_rows(x, I), 0, ws->pack));
    if (db) parallel_for(chunks(O, COL_CHUNK), N * COL_CHUNK, sum_rows_task, &sums);
}

/* ---- Low-rank adapter of a linear layer (Hu et al. 2021, arXiv:2106.09685, sec. 4.1): w stays, and there is added
 * y += scale * x * a^T * b^T          a [R, I], b [O, R]; low [N, R] = scale * x * a^T is kept for the way back */
static void scale_all(float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) x[i] *= scale;
}

static void lora_forward(float *y, float *low, const float *x, const float *a, const float *b, float scale, size_t N,
                         size_t I, size_t O, size_t R, workspace *ws) {
    product(make_job(low, R, N, R, I, by_rows(x, I), transposed(a, I), 0, ws->pack));
    scale_all(low, N * R, scale);
    product(make_job(y, O, N, O, R, by_rows(low, R), transposed(b, R), 1, ws->pack));
}

/* db = dy^T * low,  dlow = scale * dy * b,  da = dlow^T * x,  dx += dlow * a */
static void lora_backward(float *dx, float *da, float *db, float *dlow, const float *dy, const float *x,
                          const float *low, const float *a, const float *b, float scale, size_t N, size_t I, size_t O,
                          size_t R, workspace *ws) {
    product(make_job(db, R, O, R, N, transposed(dy, O), by_rows(low, R), 0, ws->pack));
    product(make_job(dlow, R, N, R, O, by_rows(dy, O), by_rows(b, R), 0, ws->pack));
    scale_all(dlow, N * R, scale);
    product(make_job(da, I, R, I, N, transposed(dlow, R), by_rows(x, I), 0, ws->pack));
    product(make_job(dx, I, N, I, R, by_rows(dlow, R), by_rows(a, I), 1, ws->pack));
}

/* ---- Causal self-attention (Vaswani et al. 2017, arXiv:1706.03762, sec. 3.2), one head at a time.
 * qkv [N, 3*D] holds q, k and v of all heads side by side; for a head:  s = q * k^T / sqrt(d) [T, T],  p = softmax(s)
 * over the keys up to the query itself,  y = p * v [T, d].  Queries are taken in blocks, so p [QUERY_BLOCK, T] stays in
 * the cache; it is not kept but computed again on the way back. */

/* Row t of a block: x[0 .. n) becomes softmax(scale * x), x[n .. end) becomes 0. */
INLINE void softmax_row_plain(float *x, size_t n, size_t end, float scale) {
    float s[LANES] = {0}, max = largest(x, n), inverse;
    size_t i, j, n16 = n / LANES * LANES;
    for (i = 0; i < n16; i += LANES)
        for (j = 0; j < LANES; j++) {
            float e = exp_fast((x[i + j] - max) * scale);
            s[j] += e;
            x[i + j] = e;
        }
    for (j = 0; i + j < n; j++) s[j] += x[i + j] = exp_fast((x[i + j] - max) * scale);
    inverse = 1.0f / lanes_total(s);
    for (i = 0; i < n; i++) x[i] *= inverse;
    for (; i < end; i++) x[i] = 0;
}
CLONED(softmax_row, (float *x, size_t n, size_t end, float scale), (x, n, end, scale))

/* p [rows, end] for the queries [t0, t0 + rows) of one head; end = t0 + rows keys are in sight. */
static void attention_weights(float *p, const float *q, const float *k, size_t t0, size_t rows, size_t T, size_t D,
                              size_t d, float *pack) {
    size_t end = t0 + rows, W = 3 * D;
    product_here(make_job(p, T, rows, end, d, by_rows(q + t0 * W, W), transposed(k, W), 0, pack));
    for (size_t i = 0; i < rows; i++) softmax_row(p + i * T, t0 + i + 1, end, 1.0f / sqrtf((float)d));
}

typedef struct attention_job {
    float *y;
    const float *qkv;
    size_t T, D, H;
    const workspace *ws;
} attention_job;

static void attention_task(void *data, size_t begin, size_t end_bh, int worker) {
    const attention_job *job = (const attention_job *)data;
    size_t T = job->T, D = job->D, H = job->H, d = D / H, W = 3 * D;
    float *p = job->ws->own + (size_t)worker * job->ws->own_size, *pack = p + 2 * QUERY_BLOCK * T;
    for (size_t bh = begin; bh < end_bh; bh++) {
        const float *q = job->qkv + bh / H * T * W + bh % H * d, *k = q + D, *v = k + D;
        float *out = job->y + bh / H * T * D + bh % H * d;
        for (size_t t0 = 0; t0 < T && !dropped(); t0 += QUERY_BLOCK) {
            size_t rows = smaller(QUERY_BLOCK, T - t0), end = t0 + rows;
            attention_weights(p, q, k, t0, rows, T, D, d, pack);
            product_here(make_job(out + t0 * D, D, rows, d, end, by_rows(p, T), by_rows(v, W), 0, pack));
        }
    }
}

static void attention_forward(float *y, const float *qkv, size_t B, size_t T, size_t D, size_t H, workspace *ws) {
    attention_job job = {y, qkv, T, D, H, ws};
    parallel_for(B * H, T * T * (D / H), attention_task, &job);
}

/* In place on g = dp [n]:  ds = p * (dp - sum(p * dp)) * scale */
INLINE void softmax_back_row_plain(float *ALONE g, const float *p, size_t n, float scale) {
    float s[LANES] = {0}, total;
    size_t i, j, n16 = n / LANES * LANES;
    for (i = 0; i < n16; i += LANES)
        for (j = 0; j < LANES; j++) s[j] += p[i + j] * g[i + j];
    for (j = 0; i + j < n; j++) s[j] += p[i + j] * g[i + j];
    total = lanes_total(s);
    for (i = 0; i < n; i++) g[i] = p[i] * (g[i] - total) * scale;
}
CLONED(softmax_back_row, (float *g, const float *p, size_t n, float scale), (g, p, n, scale))

typedef struct attention_back_job {
    float *dqkv;
    const float *dy, *qkv;
    size_t T, D, H;
    const workspace *ws;
} attention_back_job;

/* dv = p^T * dy,  dp = dy * v^T,  ds as above,  dq = ds * k,  dk = ds^T * q */
static void attention_back_task(void *data, size_t begin, size_t end_bh, int worker) {
    const attention_back_job *job = (const attention_back_job *)data;
    size_t T = job->T, D = job->D, H = job->H, d = D / H, W = 3 * D;
    float *p = job->ws->own + (size_t)worker * job->ws->own_size, *g = p + QUERY_BLOCK * T, *pack = g + QUERY_BLOCK * T;
    for (size_t bh = begin; bh < end_bh; bh++) {
        size_t at = bh / H * T * W + bh % H * d;
        const float *q = job->qkv + at, *k = q + D, *v = k + D, *dout = job->dy + bh / H * T * D + bh % H * d;
        float *dq = job->dqkv + at, *dk = dq + D, *dv = dk + D;
        for (size_t t0 = 0; t0 < T && !dropped(); t0 += QUERY_BLOCK) {
            size_t rows = smaller(QUERY_BLOCK, T - t0), end = t0 + rows;
            attention_weights(p, q, k, t0, rows, T, D, d, pack);
            product_here(make_job(dv, W, end, d, rows, transposed(p, T), by_rows(dout + t0 * D, D), 1, pack));
            product_here(make_job(g, T, rows, end, d, by_rows(dout + t0 * D, D), transposed(v, W), 0, pack));
            for (size_t i = 0; i < rows; i++) softmax_back_row(g + i * T, p + i * T, end, 1.0f / sqrtf((float)d));
            product_here(make_job(dq + t0 * W, W, rows, d, end, by_rows(g, T), by_rows(k, W), 0, pack));
            product_here(make_job(dk, W, end, d, rows, transposed(g, T), by_rows(q + t0 * W, W), 1, pack));
        }
    }
}

static void attention_backward(float *dqkv, const float *dy, const float *qkv, size_t B, size_t T, size_t D, size_t H,
                               workspace *ws) {
    attention_back_job job = {dqkv, dy, qkv, T, D, H, ws};
    memset(dqkv, 0, B * T * 3 * D * sizeof *dqkv);
    parallel_for(B * H, 3 * T * T * (D / H), attention_back_task, &job);
}

/* ---- GELU, tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415, sec. 2): y = x/2 * (1 + tanh(u)), u = c * (x +
 * 0.044715 x^3), c = sqrt(2/pi). As (1 + tanh u)/2 = 1/(1 + e^-2u) = s:  y = x * s  and  dy/dx = s + x * s * (1 - s) *
 * 2 du/dx. */
#define GELU_C 0.7978845608f
INLINE float gelu_gate(float x) { return 1.0f / (1.0f + exp_fast(-2.0f * GELU_C * (x + 0.044715f * x * x * x))); }

INLINE void gelu_span_plain(float *ALONE y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] * gelu_gate(x[i]);
}
CLONED(gelu_span, (float *y, const float *x, size_t n), (y, x, n))

INLINE void gelu_back_span_plain(float *ALONE g, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float s = gelu_gate(x[i]), du = GELU_C * (1.0f + 3 * 0.044715f * x[i] * x[i]);
        g[i] *= s + x[i] * s * (1.0f - s) * 2.0f * du;
    }
}
CLONED(gelu_back_span, (float *g, const float *x, size_t n), (g, x, n))

enum { SPAN = 4096 }; /* elementwise work is shared out in spans of this many numbers */

typedef struct gelu_job {
    float *y; /* [n] */
    const float *x;
    size_t n;
} gelu_job;

static void gelu_task(void *data, size_t begin, size_t end, int worker) {
    const gelu_job *job = (const gelu_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        gelu_span(job->y + s, job->x + s, smaller(SPAN, job->n - s));
    (void)worker;
}

static void gelu_forward(float *y, const float *x, size_t n) {
    gelu_job job = {y, x, n};
    parallel_for(chunks(n, SPAN), 16 * SPAN, gelu_task, &job);
}

static void gelu_back_task(void *data, size_t begin, size_t end, int worker) {
    const gelu_job *job = (const gelu_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        gelu_back_span(job->y + s, job->x + s, smaller(SPAN, job->n - s));
    (void)worker;
}

/* In place: g holds dy and becomes dx. */
static void gelu_backward(float *g, const float *x, size_t n) {
    gelu_job job = {g, x, n};
    parallel_for(chunks(n, SPAN), 16 * SPAN, gelu_back_task, &job);
}

/* ---- Dropout (Srivastava et al. 2014) and the residual sum: y = x + mask * branch. The mask, 0 or 1/(1 - p), is a
 * hash of key and index: nothing is kept, the way back computes it again. */
typedef struct dropout {
    uint32_t key;   /* one per step and place */
    uint32_t limit; /* p * 2^32; 0 drops nothing */
    float scale;    /* 1 / (1 - p) */
} dropout;

INLINE float dropout_mask(const dropout *drop, uint32_t i) {
    uint32_t h = (i ^ drop->key) * 0x9E3779B1u; /* the finaliser of MurmurHash3 */
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    h ^= h >> 16;
    return h >= drop->limit ? drop->scale : 0.0f;
}

INLINE void residual_span_plain(float *ALONE y, const float *x, const float *branch, const dropout *drop, size_t at,
                                size_t n) {
    dropout local = *drop;
    if (!local.limit)
        for (size_t i = 0; i < n; i++) y[i] = x[i] + branch[i];
    else
        for (size_t i = 0; i < n; i++) y[i] = x[i] + branch[i] * dropout_mask(&local, (uint32_t)(at + i));
}
CLONED(residual_span, (float *y, const float *x, const float *branch, const dropout *drop, size_t at, size_t n),
       (y, x, branch, drop, at, n))

typedef struct dropout_job {
    float *y; /* [n] */
    const float *x, *branch;
    const dropout *drop;
    size_t n;
} dropout_job;

static void residual_task(void *data, size_t begin, size_t end, int worker) {
    const dropout_job *job = (const dropout_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        residual_span(job->y + s, job->x + s, job->branch + s, job->drop, s, smaller(SPAN, job->n - s));
    (void)worker;
}

static void residual_forward(float *y, const float *x, const float *branch, dropout drop, size_t n) {
    dropout_job job = {y, x, branch, &drop, n};
    parallel_for(chunks(n, SPAN), 4 * SPAN, residual_task, &job);
}

INLINE void dropout_span_plain(float *y, const float *x, const dropout *drop, size_t at, size_t n) {
    dropout local = *drop;
    for (size_t i = 0; i < n; i++) y[i] = x[i] * dropout_mask(&local, (uint32_t)(at + i));
}
CLONED(dropout_span, (float *y, const float *x, const dropout *drop, size_t at, size_t n), (y, x, drop, at, n))

static void dropout_task(void *data, size_t begin, size_t end, int worker) {
    const dropout_job *job = (const dropout_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        dropout_span(job->y + s, job->x + s, job->drop, s, smaller(SPAN, job->n - s));
    (void)worker;
}

/* y = mask * x: dbranch from dy, and the dropout after the embedding; y may be x. The dx of the residual sum is dy
 * itself. */
static void dropout_apply(float *y, const float *x, dropout drop, size_t n) {
    dropout_job job = {y, x, NULL, &drop, n};
    parallel_for(chunks(n, SPAN), 4 * SPAN, dropout_task, &job);
}

/* ---- Softmax and cross-entropy: loss[n] = -log softmax(logits[n, :])[target[n]], in nats; 0 where the target is
 * negative: that does not count. With grad, logits become dlogits = (softmax - onehot(target)) / (those that count),
 * the derivative of the mean loss. */
INLINE void loss_row_plain(float *x, float *loss, int *hit, size_t target, size_t V, float grad) {
    float s[LANES] = {0}, max = largest(x, V), at = x[target], total;
    size_t i, j, V16 = V / LANES * LANES;
    for (i = 0; i < V16; i += LANES)
        for (j = 0; j < LANES; j++) {
            float e = exp_fast(x[i + j] - max);
            s[j] += e;
            x[i + j] = e;
        }
    for (j = 0; i + j < V; j++) s[j] += x[i + j] = exp_fast(x[i + j] - max);
    total = lanes_total(s);
    *loss = logf(total) - (at - max);
    *hit = at >= max;
    if (grad != 0.0f) {
        float scale = grad / total;
        for (i = 0; i < V; i++) x[i] *= scale;
        x[target] -= grad;
    }
}
CLONED(loss_row, (float *x, float *loss, int *hit, size_t target, size_t V, float grad),
       (x, loss, hit, target, V, grad))

typedef struct loss_job {
    float *logits, *loss;
    int *hit;
    const int32_t *target;
    size_t V;
    float grad;
} loss_job;

static void loss_task(void *data, size_t begin, size_t end, int worker) {
    const loss_job *job = (const loss_job *)data;
    for (size_t n = begin; n < end; n++) {
        float *row = job->logits + n * job->V;
        if (job->target[n] >= 0)
            loss_row(row, job->loss + n, job->hit + n, (size_t)job->target[n], job->V, job->grad);
        else memset(row, 0, job->V * sizeof *row), job->loss[n] = 0, job->hit[n] = 0;
    }
    (void)worker;
}

/* hit[n] is 1 where the target has the largest logit. logits are overwritten in either case. Returns how many count. */
static size_t loss_forward_backward(float *logits, float *loss, int *hit, const int32_t *target, size_t N, size_t V,
                                    int grad) {
    size_t counted = 0;
    for (size_t n = 0; n < N; n++) counted += target[n] >= 0;
    loss_job job = {logits, loss, hit, target, V, grad && counted ? 1.0f / (float)counted : 0.0f};
    parallel_for(N, 16 * V, loss_task, &job);
    return counted;
}

/* ======================================================================
 * [MODEL] The parameters by name, the forward pass and the backward pass
 * ==================================================================== */

typedef struct shape {
    size_t vocab, layers, heads, width, context; /* V, L, H, D, largest T */
    float eps;                                   /* of the layer norms */
    size_t rank;                                 /* of the adapter, R; 0: none, the weights themselves are trained */
    float scale;                                 /* of the adapter: alpha / R */
} shape;

/* The parameters of one block in the order of use. Sizes are in units of D; rows 0 is a vector. Weights are [out,
 * in]. */
enum {
    ATTN_NORM_W, ATTN_NORM_B, QKV_W, QKV_B, ATTN_OUT_W, ATTN_OUT_B, FFN_NORM_W, FFN_NORM_B, UP_W, UP_B, DOWN_W,
    DOWN_B, N_BLOCK
};
static const struct {
    const char *name;
    unsigned char rows, cols;
} block_tensors[N_BLOCK] = {
    {"attn_norm.weight", 0, 1},   {"attn_norm.bias", 0, 1},   {"attn_qkv.weight", 3, 1}, {"attn_qkv.bias", 0, 3},
    {"attn_output.weight", 1, 1}, {"attn_output.bias", 0, 1}, {"ffn_norm.weight", 0, 1}, {"ffn_norm.bias", 0, 1},
    {"ffn_up.weight", 4, 1},      {"ffn_up.bias", 0, 4},      {"ffn_down.weight", 1, 4}, {"ffn_down.bias", 0, 1},
};
enum { TOKEN_EMBD, POSITION_EMBD, OUTPUT_NORM_W, OUTPUT_NORM_B, N_FRONT }; /* these come first, then the blocks */

/* The matrices of a block that an adapter changes; its tensors come behind all others: of each block a and b of each. */
enum { N_ADAPTED = 4 };
static const int adapted[N_ADAPTED] = {QKV_W, ATTN_OUT_W, UP_W, DOWN_W};

typedef struct tensor {
    char name[56];     /* as in GGUF */
    size_t rows, cols; /* rows 0: a vector */
    size_t at, n;      /* its place in the parameters, in floats */
} tensor;

typedef struct model {
    shape s;
    tensor *tensors;
    size_t n_tensor, n_param; /* n_param counts the gaps that align tensors too: they stay zero */
    size_t first, n_train;    /* trained are the tensors from `first` on: param[0 .. n_train) */
    float *param, *grad;      /* [n_param], [n_train] */
    float *m, *v; /* [n_train]: running averages of the gradient and, for AdamW, of its square */
    /* Activations for B x T tokens, kept for the way back. x[l] is the stream that enters block l, x[L] the last. */
    size_t B, T;
    float **x, **mid; /* [L+1][N, D] and, between attention and feed-forward, [L][N, D] */
    float **norm1, **norm2, **qkv, **att, **up, **act,
        **stat;                              /* [L][N, D], .., [N, 3D], [N, D], [N, 4D], [N, 4D], [4, N] */
    float *norm, *norm_stat, *logits, *loss; /* [N, D], [2, N], [N, V], [N] */
    int *hit;                                /* [N] */
    float *dx, *branch, *datt, *wide;        /* [N, D], [N, D], [N, D], [N, 4D] */
    float **low, *dlow;                      /* of the adapter: [4 L][N, R], [N, R] */
    workspace ws;
} model;

static void add_tensor(model *m, const char *name, size_t rows, size_t cols) {
    tensor *t = &m->tensors[m->n_tensor++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows, t->cols = cols, t->n = (rows ? rows : 1) * cols;
    t->at = m->n_param;
    m->n_param += chunks(t->n, 16) * 16;
}

static size_t param_at(const model *m, size_t layer, int which) {
    return m->tensors[N_FRONT + layer * N_BLOCK + (size_t)which].at;
}
static float *weight(const model *m, size_t layer, int which) { return m->param + param_at(m, layer, which); }
/* NULL: the tensor is not trained. */
static float *tensor_gradient(const model *m, size_t i) { return i < m->first ? NULL : m->grad + m->tensors[i].at; }
static float *gradient(const model *m, size_t layer, int which) {
    return tensor_gradient(m, N_FRONT + layer * N_BLOCK + (size_t)which);
}

/* A model with all parameters zero; weights come from model_init or from a file. */
static model *model_new(shape s) {
    model *m = (model *)allocate(1, sizeof *m);
    size_t n_base = N_FRONT + s.layers * N_BLOCK;
    char name[56];
    m->s = s;
    m->tensors = (tensor *)allocate(n_base + 2 * N_ADAPTED * s.layers, sizeof(tensor));
    m->n_tensor = m->first = s.rank ? n_base : 0;
    for (size_t l = 0; l < s.layers && s.rank; l++) /* last in the list, but first in the parameters */
        for (int i = 0; i < 2 * N_ADAPTED; i++) {
            int which = adapted[i / 2];
            snprintf(name, sizeof name, "blk.%u.%s.lora_%c", (unsigned)l, block_tensors[which].name, "ab"[i & 1]);
            if (i & 1) add_tensor(m, name, block_tensors[which].rows * s.width, s.rank);
            else add_tensor(m, name, s.rank, block_tensors[which].cols * s.width);
        }
    m->n_train = m->n_param, m->n_tensor = 0;
    add_tensor(m, "token_embd.weight", s.vocab, s.width);
    add_tensor(m, "position_embd.weight", s.context, s.width);
    add_tensor(m, "output_norm.weight", 0, s.width);
    add_tensor(m, "output_norm.bias", 0, s.width);
    for (size_t l = 0; l < s.layers; l++)
        for (int i = 0; i < N_BLOCK; i++) {
            snprintf(name, sizeof name, "blk.%u.%s", (unsigned)l, block_tensors[i].name);
            add_tensor(m, name, block_tensors[i].rows * s.width, block_tensors[i].cols * s.width);
        }
    if (s.rank) m->n_tensor += 2 * N_ADAPTED * s.layers;
    else m->n_train = m->n_param;
    m->param = floats(m->n_param);
    m->grad = floats(m->n_train);
    m->m = floats(m->n_train);
    m->v = floats(m->n_train);
    return m;
}

/* The start of what is trained. GPT-2's (Radford et al. 2019, sec. 2.3): normal with deviation 0.02, the two projections
 * into the residual stream smaller by sqrt(2 L); biases 0, norm weights 1. An adapter's: a normal with deviation 1 /
 * sqrt(I), b 0, so that it changes nothing yet. */
static void model_init(model *m, uint64_t seed) {
    for (size_t i = m->first; i < m->n_tensor; i++) {
        const tensor *t = &m->tensors[i];
        if (m->first) {
            float a = (i - m->first) & 1 ? 0 : 1 / sqrtf((float)t->cols);
            for (size_t j = 0; j < t->n; j++) m->param[t->at + j] = a * random_normal(seed, t->at + j);
            continue;
        }
        int into = strstr(t->name, "attn_output.weight") || strstr(t->name, "ffn_down.weight");
        float deviation = into ? 0.02f / sqrtf(2.0f * (float)m->s.layers) : 0.02f;
        int ones = !t->rows && strstr(t->name, "norm.weight") != NULL;
        for (size_t j = 0; j < t->n; j++)
            m->param[t->at + j] = t->rows ? deviation * random_normal(seed, t->at + j) : ones ? 1.0f : 0.0f;
    }
}

static float **float_rows(size_t n, size_t each) {
    float **rows = (float **)allocate(n, sizeof *rows);
    for (size_t i = 0; i < n; i++) rows[i] = floats(each);
    return rows;
}

/* Room for batches of B x T tokens. */
static void model_make_room(model *m, size_t B, size_t T) {
    size_t N = B * T, D = m->s.width, L = m->s.layers, V = m->s.vocab, wide = larger(V, 4 * D);
    m->B = B, m->T = T;
    m->x = float_rows(L + 1, N * D);
    m->mid = float_rows(L, N * D);
    m->norm1 = float_rows(L, N * D);
    m->norm2 = float_rows(L, N * D);
    m->qkv = float_rows(L, N * 3 * D);
    m->att = float_rows(L, N * D);
    m->up = float_rows(L, N * 4 * D);
    m->act = float_rows(L, N * 4 * D);
    m->stat = float_rows(L, 4 * N);
    m->norm = floats(N * D);
    m->norm_stat = floats(2 * N);
    m->logits = floats(N * V);
    m->loss = floats(N);
    m->hit = (int *)allocate(N, sizeof(int));
    m->dx = floats(N * D);
    m->branch = floats(N * D);
    m->datt = floats(N * D);
    m->wide = floats(N * 4 * D);
    m->low = float_rows(N_ADAPTED * L, N * m->s.rank);
    m->dlow = floats(N * m->s.rank);
    m->ws.pack = floats(product_pack_floats(larger(wide, N)));
    m->ws.part = floats(chunks(N, ROW_CHUNK) * 2 * D);
    m->ws.own_size = 2 * QUERY_BLOCK * T + product_pack_floats(larger(T, D / m->s.heads));
    m->ws.own = floats(m->ws.own_size * (size_t)thread_count());
}

static void free_rows(float **rows, size_t n) {
    for (size_t i = 0; rows && i < n; i++) free(rows[i]);
    free(rows);
}

static void model_free_room(model *m) {
    size_t L = m->s.layers;
    float **const rows[] = {m->mid, m->norm1, m->norm2, m->qkv, m->att, m->up, m->act, m->stat};
    float *const flat[] = {m->norm, m->norm_stat, m->logits,  m->loss,    m->dx,    m->branch,
                           m->datt, m->wide,      m->ws.pack, m->ws.part, m->ws.own, m->ws.muon};
    free_rows(m->x, L + 1);
    free_rows(m->low, N_ADAPTED * L);
    free(m->dlow);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) free_rows(rows[i], L);
    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++) free(flat[i]);
    free(m->hit);
    m->x = NULL;
}

static void model_free(model *m) {
    if (m->x) model_free_room(m);
    free(m->tensors), free(m->param), free(m->grad), free(m->m), free(m->v), free(m);
}

/* Dropout of one step: rate p, and a key of its own for every place: 0 the embedding, 2l + 1 and 2l + 2 the branches of
 * block l. */
typedef struct noise {
    float rate;
    uint64_t key;
} noise;

static dropout dropout_at(noise z, size_t place) {
    dropout drop;
    drop.key = (uint32_t)random_at(z.key, place);
    drop.limit = (uint32_t)((double)z.rate * 4294967295.0);
    drop.scale = 1.0f / (1.0f - z.rate);
    return drop;
}

/* A matrix of a block and its bias, the next tensor; with the adapter if there is one. y [N, rows], x [N, cols] */
static void block_forward(model *m, float *y, const float *x, size_t l, int k, size_t N) {
    const tensor *w = &m->tensors[N_FRONT + l * N_BLOCK + (size_t)adapted[k]], *a = m->tensors + m->first;
    linear_forward(y, x, m->param + w->at, m->param + w[1].at, N, w->cols, w->rows, &m->ws);
    if (!m->s.rank) return;
    a += 2 * (N_ADAPTED * l + (size_t)k);
    lora_forward(y, m->low[N_ADAPTED * l + (size_t)k], x, m->param + a->at, m->param + a[1].at, m->s.scale, N, w->cols,
                 w->rows, m->s.rank, &m->ws);
}

static void block_backward(model *m, float *dx, const float *dy, const float *x, size_t l, int k, size_t N) {
    size_t at = N_FRONT + l * N_BLOCK + (size_t)adapted[k], ab = m->first + 2 * (N_ADAPTED * l + (size_t)k);
    const tensor *w = &m->tensors[at], *a = &m->tensors[ab];
    linear_backward(dx, tensor_gradient(m, at), tensor_gradient(m, at + 1), dy, x, m->param + w->at, N, w->cols,
                    w->rows, &m->ws);
    if (!m->s.rank) return;
    lora_backward(dx, tensor_gradient(m, ab), tensor_gradient(m, ab + 1), m->dlow, dy, x,
                  m->low[N_ADAPTED * l + (size_t)k], m->param + a->at, m->param + a[1].at, m->s.scale, N, w->cols,
                  w->rows, m->s.rank, &m->ws);
}

/* Logits [B*T, V] of token [B*T]. m->B and m->T may be set below the room that was made. */
static void model_forward(model *m, const int32_t *token, noise z) {
    size_t B = m->B, T = m->T, N = B * T, D = m->s.width, H = m->s.heads, L = m->s.layers;
    float eps = m->s.eps, *embd = m->param + m->tensors[TOKEN_EMBD].at, *stat;
    embedding_forward(m->x[0], token, embd, m->param + m->tensors[POSITION_EMBD].at, N, T, D);
    if (z.rate > 0) dropout_apply(m->x[0], m->x[0], dropout_at(z, 0), N * D);
    for (size_t l = 0; l < L; l++) {
        float *x = m->x[l], *mid = m->mid[l];
        stat = m->stat[l];
        layernorm_forward(m->norm1[l], stat, stat + N, x, weight(m, l, ATTN_NORM_W), weight(m, l, ATTN_NORM_B), N, D,
                          eps);
        block_forward(m, m->qkv[l], m->norm1[l], l, 0, N);
        attention_forward(m->att[l], m->qkv[l], B, T, D, H, &m->ws);
        block_forward(m, m->branch, m->att[l], l, 1, N);
        residual_forward(mid, x, m->branch, dropout_at(z, 2 * l + 1), N * D);
        layernorm_forward(m->norm2[l], stat + 2 * N, stat + 3 * N, mid, weight(m, l, FFN_NORM_W),
                          weight(m, l, FFN_NORM_B), N, D, eps);
        block_forward(m, m->up[l], m->norm2[l], l, 2, N);
        gelu_forward(m->act[l], m->up[l], N * 4 * D);
        block_forward(m, m->branch, m->act[l], l, 3, N);
        residual_forward(m->x[l + 1], mid, m->branch, dropout_at(z, 2 * l + 2), N * D);
    }
    stat = m->norm_stat;
    layernorm_forward(m->norm, stat, stat + N, m->x[L], m->param + m->tensors[OUTPUT_NORM_W].at,
                      m->param + m->tensors[OUTPUT_NORM_B].at, N, D, eps);
    linear_forward(m->logits, m->norm, embd, NULL, N, D, m->s.vocab, &m->ws); /* the head is the token embedding */
}

/* Gradients of all parameters from dlogits; the stages of model_forward in reverse order. */
static void model_backward(model *m, const int32_t *token, noise z) {
    size_t B = m->B, T = m->T, N = B * T, D = m->s.width, H = m->s.heads, L = m->s.layers;
    const tensor *t = m->tensors;
    float *stat = m->norm_stat, *dx = m->dx, *embd = m->param + t[TOKEN_EMBD].at, *dembd = tensor_gradient(m, TOKEN_EMBD);
    linear_backward(m->branch, dembd, NULL, m->logits, m->norm, embd, N, D, m->s.vocab, &m->ws);
    memset(dx, 0, N * D * sizeof *dx);
    layernorm_backward(dx, tensor_gradient(m, OUTPUT_NORM_W), tensor_gradient(m, OUTPUT_NORM_B), m->branch, m->x[L],
                       m->param + t[OUTPUT_NORM_W].at, stat, stat + N, N, D, &m->ws);
    for (size_t l = L; l-- > 0;) {
        stat = m->stat[l];
        dropout_apply(m->branch, dx, dropout_at(z, 2 * l + 2), N * D);
        block_backward(m, m->wide, m->branch, m->act[l], l, 3, N);
        gelu_backward(m->wide, m->up[l], N * 4 * D);
        block_backward(m, m->branch, m->wide, m->norm2[l], l, 2, N);
        layernorm_backward(dx, gradient(m, l, FFN_NORM_W), gradient(m, l, FFN_NORM_B), m->branch, m->mid[l],
                           weight(m, l, FFN_NORM_W), stat + 2 * N, stat + 3 * N, N, D, &m->ws);
        dropout_apply(m->branch, dx, dropout_at(z, 2 * l + 1), N * D);
        block_backward(m, m->datt, m->branch, m->att[l], l, 1, N);
        attention_backward(m->wide, m->datt, m->qkv[l], B, T, D, H, &m->ws);
        block_backward(m, m->branch, m->wide, m->norm1[l], l, 0, N);
        layernorm_backward(dx, gradient(m, l, ATTN_NORM_W), gradient(m, l, ATTN_NORM_B), m->branch, m->x[l],
                           weight(m, l, ATTN_NORM_W), stat, stat + N, N, D, &m->ws);
    }
    if (!dembd) return;
    if (z.rate > 0) dropout_apply(dx, dx, dropout_at(z, 0), N * D);
    embedding_backward(dembd, m->grad + t[POSITION_EMBD].at, dx, token, N, T, D);
}

/* Mean loss in nats per token that counts, of one batch; with train, the gradients as well. */
static double model_loss(model *m, const int32_t *token, const int32_t *target, noise z, int train) {
    size_t N = m->B * m->T;
    size_t counted;
    double sum = 0;
    model_forward(m, token, z);
    counted = loss_forward_backward(m->logits, m->loss, m->hit, target, N, m->s.vocab, train);
    for (size_t n = 0; n < N; n++) sum += m->loss[n];
    if (train) model_backward(m, token, z);
    return sum / (double)larger(1, counted);
}

/* ======================================================================
 * [OPTIMISER] AdamW, Muon, gradient clipping, the learning rate's course
 * ==================================================================== */

typedef struct adamw {
    float rate, beta1, beta2, eps, decay;
    float scale;      /* of the gradients: below 1 where they were clipped */
    float fix1, fix2; /* 1 / (1 - beta^step): the averages start at zero */
    float muon;       /* how many times that rate the matrices of the blocks learn by Muon; 0: by AdamW */
} adamw;

/* Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2:  w -= rate * (m' / (sqrt(v') + eps) + decay * w) */
INLINE void adamw_span_plain(float *ALONE w, float *ALONE m, float *ALONE v, const float *g, size_t n, const adamw *o,
                             float decay) {
    adamw a = *o;
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * a.scale;
        m[i] = a.beta1 * m[i] + (1 - a.beta1) * x;
        v[i] = a.beta2 * v[i] + (1 - a.beta2) * x * x;
        w[i] -= a.rate * (m[i] * a.fix1 / (sqrtf(v[i] * a.fix2) + a.eps) + decay * w[i]);
    }
}
CLONED(adamw_span, (float *w, float *m, float *v, const float *g, size_t n, const adamw *o, float decay),
       (w, m, v, g, n, o, decay))

typedef struct adamw_job {
    float *w, *m, *v;
    const float *g;
    size_t n;
    const adamw *o;
    float decay;
} adamw_job;

static void adamw_task(void *data, size_t begin, size_t end, int worker) {
    const adamw_job *job = (const adamw_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        adamw_span(job->w + s, job->m + s, job->v + s, job->g + s, smaller(SPAN, job->n - s), job->o, job->decay);
    (void)worker;
}

INLINE void squares_plain(double *sum, const float *x, size_t n) {
    float s[LANES] = {0};
    size_t i, j;
    for (i = 0; i + LANES <= n; i += LANES)
        for (j = 0; j < LANES; j++) s[j] += x[i + j] * x[i + j];
    for (j = 0; i + j < n; j++) s[j] += x[i + j] * x[i + j];
    *sum = (double)lanes_total(s);
}
CLONED(squares, (double *sum, const float *x, size_t n), (sum, x, n))

/* y = a * x + b * y */
INLINE void blend_span_plain(float *ALONE y, const float *x, size_t n, float a, float b) {
    for (size_t i = 0; i < n; i++) y[i] = a * x[i] + b * y[i];
}
CLONED(blend_span, (float *y, const float *x, size_t n, float a, float b), (y, x, n, a, b))

typedef struct blend_job {
    float *y;
    const float *x;
    size_t n;
    float a, b;
} blend_job;

static void blend_task(void *data, size_t begin, size_t end, int worker) {
    const blend_job *job = (const blend_job *)data;
    for (size_t s = begin * SPAN; s < smaller(job->n, end * SPAN); s += SPAN)
        blend_span(job->y + s, job->x + s, smaller(SPAN, job->n - s), job->a, job->b);
    (void)worker;
}

static void blend(float *y, const float *x, size_t n, float a, float b) {
    blend_job job = {y, x, n, a, b};
    parallel_for(chunks(n, SPAN), 2 * SPAN, blend_task, &job);
}

static size_t orthogonal_floats(size_t rows, size_t cols) {
    size_t r = smaller(rows, cols);
    return rows * cols + 2 * r * r;
}

/* Brings the singular values of X [rows, cols] to about 1, 0.68 to 1.21, and leaves its singular vectors: roughly the
 * nearest matrix of orthonormal rows, or columns. Five steps of Newton-Schulz as in Jordan et al. 2024,
 * kellerjordan.github.io/posts/muon:
 *   X' = (a I + b A + c A^2) X  with  A = X X^T         each singular value s becomes  a s + b s^3 + c s^5
 * from X / |X|, by the root of the sum of squares: there none is above 1. One below 0.0015 stays smaller, for a step
 * makes it a times as large at most. Where there are more rows than columns, from the right: A = X^T X, X' = X (..).
 * room: orthogonal_floats(rows, cols); pack: product_pack_floats(cols). */
static void orthogonalise(float *x, size_t rows, size_t cols, float *room, float *pack) {
    static const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    size_t n = rows * cols, r = smaller(rows, cols);
    float *y = room, *A = room + n, *P = A + r * r;
    int tall = rows > cols;
    double length = 0, part;
    float scale;
    for (size_t s = 0; s < n; s += SPAN) {
        squares(&part, x + s, smaller(SPAN, n - s));
        length += part;
    }
    scale = 1 / ((float)sqrt(length) + 1e-7f); /* zeros stay zeros */
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    for (int step = 0; step < 5; step++) {
        matrix X = by_rows(x, cols), Xt = transposed(x, cols);
        product(make_job(A, r, r, r, larger(rows, cols), tall ? Xt : X, tall ? X : Xt, 0, pack));
        product(make_job(P, r, r, r, r, by_rows(A, r), by_rows(A, r), 0, pack));
        blend(P, A, r * r, b, c);
        for (size_t i = 0; i < r; i++) P[i * r + i] += a;
        product(make_job(y, cols, rows, cols, r, tall ? X : by_rows(P, r), tall ? by_rows(P, r) : X, 0, pack));
        memcpy(x, y, n * sizeof *x);
    }
}

/* Muon on a matrix of weights (Jordan et al. 2024), with Nesterov's momentum, the running average m' = 0.95 m + 0.05 g:
 *   w -= rate * (0.2 sqrt(max(rows, cols)) * orthogonal(0.95 m' + 0.05 g) + decay * w)
 * The factor makes a step as long as AdamW's are about (Liu et al. 2025, arXiv:2502.16982, sec. 2.2).
 * room: rows * cols + orthogonal_floats(rows, cols). */
static void muon(float *w, float *m, const float *g, size_t rows, size_t cols, const adamw *o, float *room,
                 float *pack) {
    static const float beta = 0.95f;
    size_t n = rows * cols;
    float rate = o->rate * o->muon, now = (1 - beta) * o->scale;
    blend(m, g, n, now, beta);
    memcpy(room, g, n * sizeof *room);
    blend(room, m, n, beta, now);
    orthogonalise(room, rows, cols, room + n, pack);
    blend(w, room, n, -rate * 0.2f * sqrtf((float)larger(rows, cols)), 1 - rate * o->decay);
}

/* One step with the gradients at hand. Matrices decay, vectors do not. Muon is for the matrices of the blocks where
 * they are trained themselves; queries, keys and values lie in one tensor, but each is a matrix of its own. */
static void optimiser_step(model *m, const adamw *o) {
    size_t D = m->s.width;
    for (size_t i = m->first; i < m->n_tensor; i++) {
        const tensor *t = &m->tensors[i];
        size_t at = t->at;
        if (o->muon > 0 && t->rows && i >= N_FRONT && !m->first) {
            size_t parts = t->rows == 3 * t->cols ? 3 : 1, rows = t->rows / parts;
            if (!m->ws.muon) m->ws.muon = floats(4 * D * D + orthogonal_floats(4 * D, D));
            for (size_t end = at + t->n; at < end; at += rows * t->cols)
                muon(m->param + at, m->m + at, m->grad + at, rows, t->cols, o, m->ws.muon, m->ws.pack);
            continue;
        }
        adamw_job job = {m->param + at, m->m + at, m->v + at, m->grad + at, t->n, o, t->rows ? o->decay : 0.0f};
        parallel_for(chunks(t->n, SPAN), 8 * SPAN, adamw_task, &job);
    }
}

typedef struct squares_job {
    double *part; /* [chunks(n, SPAN)] */
    const float *x;
    size_t n;
} squares_job;

static void squares_task(void *data, size_t begin, size_t end, int worker) {
    const squares_job *job = (const squares_job *)data;
    for (size_t i = begin; i < end; i++)
        squares(job->part + i, job->x + i * SPAN, smaller(SPAN, job->n - i * SPAN));
    (void)worker;
}

/* The length of the whole gradient. part has room for chunks(n_train, SPAN). */
static double gradient_norm(const model *m, double *part) {
    size_t n = chunks(m->n_train, SPAN);
    double sum = 0;
    squares_job job = {part, m->grad, m->n_train};
    parallel_for(n, SPAN, squares_task, &job);
    for (size_t i = 0; i < n; i++) sum += part[i];
    return sqrt(sum);
}

/* From 0 up to peak in a straight line over the warm-up, then down to last * peak along half a cosine. */
static float learning_rate(size_t step, size_t steps, size_t warm, float peak, float last) {
    double x;
    if (step < warm) return peak * (float)(step + 1) / (float)warm;
    x = (double)(step - warm) / (double)larger(1, steps - warm);
    return peak * (float)(last + (1 - (double)last) * 0.5 * (1 + cos(3.14159265358979 * x)));
}

/* ======================================================================
 * [VOCABULARY] Byte-level BPE learned from the text (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019, sec.
 * 2.2)
 *
 * Tokens 0..255 are the bytes, in GPT-2's order; each later token joins two earlier ones; the last is <|endoftext|>.
 * The text is cut into words by GPT-2's pre-tokenizer, and no token reaches across two words.
 * ==================================================================== */

static const char end_of_text[] = "<|endoftext|>";

typedef struct vocabulary {
    int32_t *left, *right; /* [n]: the parts of token 256 + i; unused below 256 */
    char **text;           /* [n]: bytes of the token */
    size_t *length;        /* [n] */
    size_t n;              /* tokens, <|endoftext|> not counted */
} vocabulary;

/* GPT-2 writes a byte as a printable character: itself, or 256 + its rank among the unprintable ones. Fills the bytes
 * in token order and the code point of each. */
static void byte_alphabet(unsigned char byte[256], unsigned code[256]) {
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (unsigned b = 0, other = 0; b < 256; b++) {
            int printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
            if (printable == !pass) byte[n] = (unsigned char)b, code[n++] = printable ? b : 256 + other;
            other += !printable;
        }
}

typedef struct word {
    const char *text;
    size_t n, count;
    int32_t *ids; /* current cut of the word, n_id of them */
    size_t n_id;
} word;

typedef struct occurrence {
    size_t word, next; /* next: index + 1, 0 ends the list */
} occurrence;

typedef struct pair {
    int32_t left, right;
    int64_t count;
    size_t first; /* occurrences: index + 1 */
} pair;

typedef struct learner {
    word *words;
    size_t n_word, room_word;
    size_t *word_slot, n_word_slot; /* open addressing: index + 1 */
    pair *pairs;
    size_t n_pair, room_pair;
    size_t *pair_slot, n_pair_slot;
    occurrence *occ;
    size_t n_occ, room_occ;
} learner;

/* Doubles an array that is full. */
static void *grown(void *p, size_t n, size_t *room, size_t size) {
    if (n < *room) return p;
    *room = *room ? 2 * *room : 1024;
    return args_need(realloc(p, *room * size));
}

static size_t hash_bytes(const char *p, size_t n) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return (size_t)(h ^ (h >> 29));
}

static size_t hash_pair(int32_t left, int32_t right) {
    return (size_t)random_at((uint64_t)(uint32_t)left << 32 | (uint32_t)right, 0);
}

static void count_word(learner *z, const char *text, size_t n) {
    size_t slot;
    if (2 * z->n_word >= z->n_word_slot) {
        z->n_word_slot = z->n_word_slot ? 2 * z->n_word_slot : 4096;
        free(z->word_slot);
        z->word_slot = (size_t *)allocate(z->n_word_slot, sizeof(size_t));
        for (size_t i = 0; i < z->n_word; i++) {
            slot = hash_bytes(z->words[i].text, z->words[i].n) & (z->n_word_slot - 1);
            while (z->word_slot[slot]) slot = (slot + 1) & (z->n_word_slot - 1);
            z->word_slot[slot] = i + 1;
        }
    }
    slot = hash_bytes(text, n) & (z->n_word_slot - 1);
    for (; z->word_slot[slot]; slot = (slot + 1) & (z->n_word_slot - 1)) {
        word *w = &z->words[z->word_slot[slot] - 1];
        if (w->n == n && !memcmp(w->text, text, n)) {
            w->count++;
            return;
        }
    }
    z->words = (word *)grown(z->words, z->n_word, &z->room_word, sizeof(word));
    z->word_slot[slot] = z->n_word + 1;
    memset(&z->words[z->n_word], 0, sizeof(word));
    z->words[z->n_word].text = text, z->words[z->n_word].n = n, z->words[z->n_word++].count = 1;
}

static pair *find_pair(learner *z, int32_t left, int32_t right) {
    size_t slot;
    if (2 * z->n_pair >= z->n_pair_slot) {
        z->n_pair_slot = z->n_pair_slot ? 2 * z->n_pair_slot : 4096;
        free(z->pair_slot);
        z->pair_slot = (size_t *)allocate(z->n_pair_slot, sizeof(size_t));
        for (size_t i = 0; i < z->n_pair; i++) {
            slot = hash_pair(z->pairs[i].left, z->pairs[i].right) & (z->n_pair_slot - 1);
            while (z->pair_slot[slot]) slot = (slot + 1) & (z->n_pair_slot - 1);
            z->pair_slot[slot] = i + 1;
        }
    }
    slot = hash_pair(left, right) & (z->n_pair_slot - 1);
    for (; z->pair_slot[slot]; slot = (slot + 1) & (z->n_pair_slot - 1)) {
        pair *p = &z->pairs[z->pair_slot[slot] - 1];
        if (p->left == left && p->right == right) return p;
    }
    z->pairs = (pair *)grown(z->pairs, z->n_pair, &z->room_pair, sizeof(pair));
    z->pair_slot[slot] = z->n_pair + 1;
    memset(&z->pairs[z->n_pair], 0, sizeof(pair));
    z->pairs[z->n_pair].left = left, z->pairs[z->n_pair].right = right;
    return &z->pairs[z->n_pair++];
}

/* Adds sign times the pairs of word i to the counts; pairs that hold token fresh (any, if negative) are listed with
 * it. */
static void count_pairs(learner *z, size_t i, int sign, int32_t fresh) {
    const word *w = &z->words[i];
    for (size_t j = 0; j + 1 < w->n_id; j++) {
        pair *p = find_pair(z, w->ids[j], w->ids[j + 1]);
        p->count += sign * (int64_t)w->count;
        if (sign < 0 || (fresh >= 0 && p->left != fresh && p->right != fresh)) continue;
        if (p->first && z->occ[p->first - 1].word == i) continue; /* the last on the list is this word already */
        z->occ = (occurrence *)grown(z->occ, z->n_occ, &z->room_occ, sizeof(occurrence));
        z->occ[z->n_occ].word = i, z->occ[z->n_occ].next = p->first;
        p->first = ++z->n_occ;
    }
}

static void join_pair(learner *z, pair best, int32_t token) {
    for (size_t o = best.first; o; o = z->occ[o - 1].next) {
        size_t i = z->occ[o - 1].word, n = 0;
        word *w = &z->words[i];
        while (n + 1 < w->n_id && (w->ids[n] != best.left || w->ids[n + 1] != best.right)) n++;
        if (n + 1 >= w->n_id) continue; /* listed twice, or the pair has gone into another token */
        count_pairs(z, i, -1, -1);
        for (size_t j = n; j < w->n_id; n++) {
            int hit = j + 1 < w->n_id && w->ids[j] == best.left && w->ids[j + 1] == best.right;
            w->ids[n] = hit ? token : w->ids[j];
            j += hit ? 2 : 1;
        }
        w->n_id = n;
        count_pairs(z, i, 1, token);
    }
}

/* The most frequent pair; of equals the one with the lowest tokens, so that the result does not depend on the
 * tables. */
static const pair *best_pair(const learner *z) {
    const pair *best = NULL;
    for (size_t i = 0; i < z->n_pair; i++) {
        const pair *p = &z->pairs[i];
        if (!best || p->count > best->count ||
            (p->count == best->count && (p->left < best->left || (p->left == best->left && p->right < best->right))))
            best = p;
    }
    return best;
}

static void vocabulary_add(vocabulary *v, int32_t left, int32_t right, const char *bytes, size_t n) {
    v->left[v->n] = left, v->right[v->n] = right, v->length[v->n] = n;
    v->text[v->n] = (char *)allocate(n, 1);
    memcpy(v->text[v->n++], bytes, n);
}

/* Finds the next <|endoftext|> in text, or its end. */
static size_t document_length(const char *text, size_t n) {
    const size_t len = sizeof end_of_text - 1;
    for (size_t i = 0; i + len <= n; i++)
        if (text[i] == '<' && !memcmp(text + i, end_of_text, len)) return i;
    return n;
}

/* GPT-2's cut into words (Radford et al. 2019): the pattern that gpt.h has under the name gpt-2, which the model's file
 * will name. A space belongs to the word behind it. */
static const char word_pattern[] =
    "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* A long word counts as several. So no token is longer than a piece, and neither a run of one character nor a text
 * without spaces is more than many short words: the time grows with the text, not with its square. */
enum { LONGEST_PIECE = 120 };
static void count_words(learner *z, const gpti_rx *rx, const gpti_unicode *unicode, const char *text, size_t n) {
    gpti_cutter cutter;
    const char *p, *end;
    gpti_cut_begin(&cutter, rx, unicode, text, text + n);
    while (gpti_cut_word(&cutter, &p, &end))
        for (size_t piece; p < end; p += piece) {
            piece = smaller((size_t)(end - p), LONGEST_PIECE);
            count_word(z, p, piece);
        }
}

/* Learns at most max_tokens, <|endoftext|> included; stops early when no pair occurs twice. */
static vocabulary learn_vocabulary(const char *text, size_t n_text, size_t max_tokens) {
    learner z = {0};
    vocabulary v = {0};
    gpti_unicode *unicode = (gpti_unicode *)allocate(1, sizeof *unicode);
    gpti_rx *rx = (gpti_rx *)allocate(1, sizeof *rx);
    unsigned char byte[256];
    unsigned code[256];
    int32_t token_of[256];
    const args_common common = {0};
    args_progress progress = args_progress_begin(&common);
    v.left = (int32_t *)allocate(max_tokens, sizeof(int32_t));
    v.right = (int32_t *)allocate(max_tokens, sizeof(int32_t));
    v.text = (char **)allocate(max_tokens, sizeof(char *));
    v.length = (size_t *)allocate(max_tokens, sizeof(size_t));
    byte_alphabet(byte, code);
    for (int i = 0; i < 256; i++) {
        char c = (char)byte[i];
        token_of[byte[i]] = i;
        vocabulary_add(&v, 0, 0, &c, 1);
    }
    gpti_unicode_init(unicode);
    gpti_rx_compile(rx, word_pattern, unicode);
    for (size_t at = 0, n; at < n_text; at += n + sizeof end_of_text - 1) {
        n = document_length(text + at, n_text - at);
        count_words(&z, rx, unicode, text + at, n);
    }
    for (size_t i = 0; i < z.n_word; i++) {
        word *w = &z.words[i];
        w->ids = (int32_t *)allocate(w->n, sizeof(int32_t));
        for (w->n_id = 0; w->n_id < w->n; w->n_id++) w->ids[w->n_id] = token_of[(unsigned char)w->text[w->n_id]];
        count_pairs(&z, i, 1, -1);
    }
    while (v.n + 1 < max_tokens) {
        const pair *best = best_pair(&z);
        char joined[LONGEST_PIECE];
        if (!best || best->count < 2) break;
        size_t a = (size_t)best->left, b = (size_t)best->right, n = v.length[a] + v.length[b];
        args_progress_show(&progress, "learning a vocabulary", (double)v.n, (double)max_tokens);
        memcpy(joined, v.text[a], v.length[a]);
        memcpy(joined + v.length[a], v.text[b], v.length[b]);
        vocabulary_add(&v, best->left, best->right, joined, n);
        join_pair(&z, *best, (int32_t)v.n - 1);
    }
    args_progress_end(&progress);
    for (size_t i = 0; i < z.n_word; i++) free(z.words[i].ids);
    free(z.words), free(z.word_slot), free(z.pairs), free(z.pair_slot), free(z.occ), free(unicode), free(rx);
    return v;
}

static void vocabulary_free(vocabulary *v) {
    for (size_t i = 0; i < v->n; i++) free(v->text[i]);
    free(v->text), free(v->length), free(v->left), free(v->right);
}

/* ======================================================================
 * [FILES] GGUF out: metadata as llama.cpp has it for gpt2, then the tensors. A checkpoint is a GGUF file too, with F32
 * weights, AdamW's averages as further tensors and the state of the training as further metadata.
 * ==================================================================== */

typedef struct buffer {
    unsigned char *p;
    size_t n, room;
} buffer;

static void put(buffer *b, const void *data, size_t n) {
    if (b->n + n > b->room) {
        b->room = larger(2 * b->room, b->n + n + 4096);
        b->p = (unsigned char *)args_need(realloc(b->p, b->room));
    }
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}

/* The low `bytes` bytes of x, little-endian on every host. */
static void put_int(buffer *b, uint64_t x, int bytes) {
    unsigned char c[8];
    for (int i = 0; i < bytes; i++) c[i] = (unsigned char)(x >> 8 * i);
    put(b, c, (size_t)bytes);
}

static void put_f32(buffer *b, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_int(b, bits, 4);
}

static void put_string(buffer *b, const char *s, size_t n) {
    put_int(b, n, 8);
    put(b, s, n);
}

enum {
    KV_U32 = 4, KV_I32 = 5, KV_F32 = 6, KV_BOOL = 7, KV_STRING = 8, KV_ARRAY = 9, KV_U64 = 10, KV_F64 = 12
}; /* GGUF's type numbers */

/* Metadata pairs, ready to be copied into a file. */
typedef struct metadata {
    buffer bytes;
    uint64_t n;
} metadata;

static void put_key(metadata *m, const char *key, uint32_t type) {
    put_string(&m->bytes, key, strlen(key));
    put_int(&m->bytes, type, 4);
    m->n++;
}

static void put_array(metadata *m, const char *key, uint32_t type, size_t n) {
    put_key(m, key, KV_ARRAY);
    put_int(&m->bytes, type, 4);
    put_int(&m->bytes, n, 8);
}

static void put_u32(metadata *m, const char *key, size_t x) {
    put_key(m, key, KV_U32);
    put_int(&m->bytes, x, 4);
}

static void put_text(metadata *m, const char *key, const char *s) {
    put_key(m, key, KV_STRING);
    put_string(&m->bytes, s, strlen(s));
}

/* Bytes of a token in GPT-2's printable alphabet, as UTF-8. */
static size_t printable(char *out, const char *bytes, size_t n, const unsigned *code_of) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = code_of[(unsigned char)bytes[i]];
        if (c >= 128) out[len++] = (char)(0xC0 | c >> 6);
        out[len++] = (char)(c >= 128 ? 0x80 | (c & 63) : c);
    }
    return len;
}

/* The metadata of an adapter, as llama.cpp has them. */
static metadata adapter_metadata(const char *name, double alpha) {
    metadata m = {0};
    put_key(&m, "adapter.lora.alpha", KV_F32);
    put_f32(&m.bytes, (float)alpha);
    put_text(&m, "adapter.type", "lora");
    put_text(&m, "general.architecture", "gpt2");
    put_text(&m, "general.name", name);
    put_text(&m, "general.type", "adapter");
    return m;
}

/* All metadata of a model, in alphabetical order: the order in which files are read, so that copies are equal. */
static metadata make_metadata(const char *name, const shape *s, const vocabulary *v) {
    metadata meta = {0}, *m = &meta;
    unsigned char byte[256];
    unsigned code[256], code_of[256];
    char out[4 * LONGEST_PIECE + 1];
    put_text(m, "general.architecture", "gpt2");
    put_text(m, "general.name", name);
    put_u32(m, "gpt2.attention.head_count", s->heads);
    put_key(m, "gpt2.attention.layer_norm_epsilon", KV_F32);
    put_f32(&m->bytes, s->eps);
    put_u32(m, "gpt2.block_count", s->layers);
    put_u32(m, "gpt2.context_length", s->context);
    put_u32(m, "gpt2.embedding_length", s->width);
    put_u32(m, "gpt2.feed_forward_length", 4 * s->width);
    byte_alphabet(byte, code);
    for (int i = 0; i < 256; i++) code_of[byte[i]] = code[i];
    put_u32(m, "tokenizer.ggml.bos_token_id", v->n);
    put_u32(m, "tokenizer.ggml.eos_token_id", v->n);
    put_array(m, "tokenizer.ggml.merges", KV_STRING, v->n - 256);
    for (size_t i = 256; i < v->n; i++) {
        size_t a = (size_t)v->left[i], b = (size_t)v->right[i], n = printable(out, v->text[a], v->length[a], code_of);
        out[n++] = ' ';
        n += printable(out + n, v->text[b], v->length[b], code_of);
        put_string(&m->bytes, out, n);
    }
    put_text(m, "tokenizer.ggml.model", "gpt2");
    put_text(m, "tokenizer.ggml.pre", "gpt-2");
    put_array(m, "tokenizer.ggml.token_type", KV_I32, v->n + 1);
    for (size_t i = 0; i <= v->n; i++) put_int(&m->bytes, i < v->n ? 1 : 3, 4); /* normal, control */
    put_array(m, "tokenizer.ggml.tokens", KV_STRING, v->n + 1);
    for (size_t i = 0; i < v->n; i++) put_string(&m->bytes, out, printable(out, v->text[i], v->length[i], code_of));
    put_string(&m->bytes, end_of_text, sizeof end_of_text - 1);
    return meta;
}

enum { ALIGNMENT = 32, TYPE_F32 = 0 };

/* One tensor of a file: rows 0 means a vector. */
typedef struct file_tensor {
    char name[72];
    size_t rows, cols;
    const float *data;
    uint32_t type;
} file_tensor;

/* The format of a tensor: vectors stay F32, as do rows that are no whole number of blocks. */
static uint32_t type_for(uint32_t wanted, size_t rows, size_t cols) {
    if (!rows || cols % gpti_format_find(wanted)->block_len) return TYPE_F32;
    return wanted;
}

static size_t tensor_bytes(const file_tensor *t) {
    return (t->rows ? t->rows : 1) * gpti_row_bytes(gpti_format_find(t->type), t->cols);
}

/* The file is there when it is whole: what goes wrong, as a full disk, leaves the one before it. */
static void write_gguf(const char *path, const metadata *meta, const file_tensor *tensors, size_t n) {
    buffer b = {0};
    size_t at = 0, header;
    args_out out;
    int error;
    put(&b, "GGUF", 4);
    put_int(&b, 3, 4);
    put_int(&b, n, 8);
    put_int(&b, meta->n, 8);
    put(&b, meta->bytes.p, meta->bytes.n);
    for (size_t i = 0; i < n; i++) { /* name, number of extents, extents (fastest first), type, offset */
        put_string(&b, tensors[i].name, strlen(tensors[i].name));
        put_int(&b, tensors[i].rows ? 2 : 1, 4);
        put_int(&b, tensors[i].cols, 8);
        if (tensors[i].rows) put_int(&b, tensors[i].rows, 8);
        put_int(&b, tensors[i].type, 4);
        put_int(&b, at, 8);
        at += chunks(tensor_bytes(&tensors[i]), ALIGNMENT) * ALIGNMENT;
    }
    header = chunks(b.n, ALIGNMENT) * ALIGNMENT;
    while (b.n < header) put_int(&b, 0, 1);
    args_out_begin(&out, path);
    args_out_put(&out, b.p, b.n);
    for (size_t i = 0; i < n; i++) {
        const file_tensor *t = &tensors[i];
        const gpti_format *format = gpti_format_find(t->type);
        size_t row = gpti_row_bytes(format, t->cols), bytes = chunks(tensor_bytes(t), ALIGNMENT) * ALIGNMENT;
        unsigned char *data = (unsigned char *)allocate(bytes, 1);
        for (size_t r = 0; r < (t->rows ? t->rows : 1); r++)
            encode_row(format, t->data + r * t->cols, t->cols, data + r * row);
        args_out_put(&out, data, bytes);
        free(data);
    }
    free(b.p);
    error = args_out_end(&out);
    if (error) args_die("%s: cannot write: %s; what was saved before is as it was", path, strerror(error));
}

/* Holds PATH.lock, so that no two runs write one file; 0: another run has it. Where the program is killed, the system
 * lets go of it. */
#ifdef _WIN32
static HANDLE lock = INVALID_HANDLE_VALUE;
static void unlock_out(void) {
    if (lock != INVALID_HANDLE_VALUE) CloseHandle(lock);
    lock = INVALID_HANDLE_VALUE;
}
static int lock_out(const char *path) {
    char name[1032];
    snprintf(name, sizeof name, "%s.lock", path);
    lock = CreateFileA(name, GENERIC_WRITE, 0, NULL, OPEN_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
    return lock != INVALID_HANDLE_VALUE;
}
#else
static int lock = -1;
static char lock_name[1032];
static void unlock_out(void) {
    if (lock < 0) return;
    unlink(lock_name);
    close(lock);
    lock = -1;
}
static void on_kill(int sig) {
    unlink(lock_name);
    signal(sig, SIG_DFL);
    raise(sig);
}
static int lock_out(const char *path) {
    struct flock whole;
    memset(&whole, 0, sizeof whole);
    whole.l_type = F_WRLCK, whole.l_whence = SEEK_SET;
    snprintf(lock_name, sizeof lock_name, "%s.lock", path);
    signal(SIGINT, on_kill); /* before there is a file to remove */
    signal(SIGTERM, on_kill);
    lock = open(lock_name, O_CREAT | O_RDWR, 0666);
    if (lock >= 0 && fcntl(lock, F_SETLK, &whole) && (errno == EACCES || errno == EAGAIN)) {
        close(lock);
        lock = -1;
        lock_name[0] = 0; /* it is not ours */
        return 0;
    }
    return 1;
}
#endif

/* Tensors of the model, the first of them number `from`, from one of its arrays (param, m, v), named with a prefix. */
static file_tensor *file_tensors(file_tensor *out, const model *m, size_t from, const float *data, const char *prefix,
                                 uint32_t type) {
    for (size_t i = from; i < m->n_tensor; i++, out++) {
        const tensor *t = &m->tensors[i];
        snprintf(out->name, sizeof out->name, "%s%s", prefix, t->name);
        out->rows = t->rows, out->cols = t->cols, out->data = data + t->at,
        out->type = type_for(type, t->rows, t->cols);
    }
    return out;
}

/* What was trained: the model, or the adapter alone. */
static void save_model(const char *path, const metadata *meta, const model *m, const float *param, uint32_t type) {
    file_tensor *tensors = (file_tensor *)allocate(m->n_tensor, sizeof *tensors);
    file_tensor *end = file_tensors(tensors, m, m->first, param, "", type);
    write_gguf(path, meta, tensors, (size_t)(end - tensors));
    free(tensors);
}

/* ======================================================================
 * [DATA] Text to tokens, the split, the order of training, the measure of loss
 * ==================================================================== */

typedef struct tokens {
    int32_t *id;
    size_t n, bytes; /* bytes of text they came from; of pairs, those of the answers */
    /* Of pairs: pair i is id[at[2 i] .. at[2 i + 2]), what counts of it begins at at[2 i + 1]. NULL: a text. */
    size_t *at, n_pair, longest;
} tokens;

/* Text to tokens by the tokenizer that will use the model; <|endoftext|> becomes the control token. */
static tokens encode(const gpt_model *tokenizer, const char *text, size_t n) {
    tokens t = {0};
    t.bytes = n;
    t.id = args_tokenize(tokenizer, text, n, GPT_TOKENIZE_SPECIAL, &t.n);
    return t;
}

static size_t pair_length(const tokens *t, size_t i) { return t->at[2 * i + 2] - t->at[2 * i]; }

/* The pairs of one part of a file as tokens: prompt and answer are cut as one text, and the end token follows. The first
 * token that counts is the first that the answer changes, as for gpt_choose. Control tokens that a cell spells are
 * plain text. A pair of more than max tokens is left out: n_long counts them, first_long is the line of the first. */
static tokens encode_pairs(const gpt_model *tokenizer, const tsv *file, int part, const tsv_template *form, size_t max,
                           size_t *n_long, size_t *first_long) {
    tokens t = {0};
    gpt_model_info info;
    size_t room = 0, n_bos, i;
    int32_t *bos = args_tokenize(tokenizer, "", 0, GPT_TOKENIZE_BOS, &n_bos);
    gpt_model_info_get(tokenizer, &info);
    if (info.eos < 0) args_die("the model has no end token, so nothing can end an answer");
    n_bos = n_bos > 0 && bos[0] == info.bos;
    free(bos);
    t.at = (size_t *)allocate(2 * file->n + 1, sizeof *t.at);
    for (i = 0; i < file->n; i++) {
        const tsv_row *row = &file->row[i];
        char *before, *answer, *whole;
        int32_t *ids, *head;
        size_t n, k, same = 0;
        if (row->part != part) continue;
        before = tsv_prompt(form, row->cell[0]), answer = tsv_answer(form, row->cell[1]);
        whole = tsv_join(before, answer, "");
        ids = args_tokenize(tokenizer, whole, strlen(whole), 0, &n);
        head = args_tokenize(tokenizer, before, strlen(before), 0, &k);
        while (same < k && same < n && ids[same] == head[same]) same++;
        if (n_bos + n + 1 > max) {
            if (!(*n_long)++) *first_long = row->line;
        } else {
            if (t.n + n + 2 > room) {
                room = 2 * room + n + 2;
                t.id = (int32_t *)args_need(realloc(t.id, room * sizeof *t.id));
            }
            t.at[2 * t.n_pair + 1] = t.n + larger(1, n_bos + same);
            if (n_bos) t.id[t.n++] = info.bos;
            memcpy(t.id + t.n, ids, n * sizeof *ids);
            t.id[t.n + n] = info.eos;
            t.n += n + 1, t.bytes += strlen(answer);
            t.at[2 * ++t.n_pair] = t.n;
            t.longest = larger(t.longest, pair_length(&t, t.n_pair - 1));
        }
        free(before), free(answer), free(whole), free(ids), free(head);
    }
    return t;
}

/* Pairs numbered which[0 .. n) as one batch: m->B rows of m->T tokens, as many as the longest has. Behind the others, and
 * in the prompts, targets are -1. */
static void pairs_batch(model *m, const tokens *text, const uint32_t *which, size_t n, int32_t *token,
                        int32_t *target) {
    size_t T = 1;
    for (size_t b = 0; b < n; b++) T = larger(T, pair_length(text, which[b]) - 1);
    m->B = n, m->T = T;
    for (size_t b = 0; b < n; b++) {
        size_t from = text->at[2 * which[b]], len = pair_length(text, which[b]), begin = text->at[2 * which[b] + 1] - from;
        for (size_t i = 0; i < T; i++) {
            token[b * T + i] = i + 1 < len ? text->id[from + i] : 0;
            target[b * T + i] = i + 1 < len && i + 1 >= begin ? text->id[from + i + 1] : -1;
        }
    }
}

/* Sorts pairs of `which` by length; of equals the first stays first. */
static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}
static void sort_by_length(const tokens *text, uint32_t *which, size_t n) {
    uint64_t *key = (uint64_t *)allocate(n, sizeof *key);
    uint32_t *old = (uint32_t *)allocate(n, sizeof *old);
    for (size_t i = 0; i < n; i++) old[i] = which[i], key[i] = (uint64_t)pair_length(text, which[i]) << 32 | i;
    qsort(key, n, sizeof *key, by_key);
    for (size_t i = 0; i < n; i++) which[i] = old[key[i] & 0xFFFFFFFFu];
    free(key), free(old);
}

/* Where the held-out end of the text begins: its last `share`, moved on to the start of a UTF-8 character. */
static size_t split_at(const char *text, size_t n, double share) {
    size_t at = n - (size_t)((double)n * share);
    while (at < n && ((unsigned char)text[at] & 0xC0) == 0x80) at++;
    return at;
}

/* The order of training: in each epoch the text is cut into windows of T + 1 tokens that overlap by one, from a start
 * drawn for the epoch, and the windows are shuffled. A function of (seed, step) alone, which makes resuming exact. */
typedef struct order {
    size_t n_window, epoch, start;
    uint32_t *window; /* [n_window], NULL before the first use; of pairs: their batches */
    uint32_t *pair;   /* [n_pair]: the pairs in the order of the batches, B each */
} order;

/* Fisher-Yates */
static void shuffle(uint32_t *x, size_t n, uint64_t key) {
    for (size_t i = 0; i < n; i++) x[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(random_at(key, i) % i);
        uint32_t w = x[i - 1];
        x[i - 1] = x[j];
        x[j] = w;
    }
}

/* Pairs: in each epoch shuffled; then in groups of 16 batches sorted by length, so that little of a batch is empty; then
 * the batches are shuffled. */
static void order_pairs(order *o, const tokens *text, size_t B, uint64_t seed, size_t epoch) {
    uint64_t key = random_at(seed, epoch);
    o->n_window = chunks(text->n_pair, B), o->epoch = epoch;
    if (!o->window) o->window = (uint32_t *)allocate(o->n_window, sizeof(uint32_t));
    if (!o->pair) o->pair = (uint32_t *)allocate(text->n_pair, sizeof(uint32_t));
    shuffle(o->pair, text->n_pair, key);
    for (size_t i = 0; i < text->n_pair; i += 16 * B)
        sort_by_length(text, o->pair + i, smaller(16 * B, text->n_pair - i));
    shuffle(o->window, o->n_window, random_at(key, 0));
}

static void order_epoch(order *o, const tokens *text, size_t T, uint64_t seed, size_t epoch) {
    uint64_t key = random_at(seed, epoch);
    o->n_window = (text->n - 1) / T;
    if (o->n_window > 1) o->n_window--; /* leaves room for the shift by up to T - 1 */
    o->epoch = epoch;
    o->start = (size_t)(random_at(key, 0) % (text->n - o->n_window * T));
    if (!o->window) o->window = (uint32_t *)allocate(o->n_window, sizeof(uint32_t));
    shuffle(o->window, o->n_window, key);
}

/* The batch of one step: token [B, T] and target [B, T], the token after each. Of pairs it sets m->B and m->T. */
static void order_batch(order *o, model *m, const tokens *text, size_t step, uint64_t seed, int32_t *token,
                        int32_t *target) {
    size_t B = m->B, T = m->T;
    if (text->at) {
        size_t n = chunks(text->n_pair, B), first;
        if (!o->window || step / n != o->epoch) order_pairs(o, text, B, seed, step / n);
        first = o->window[step % n] * B;
        pairs_batch(m, text, o->pair + first, smaller(B, text->n_pair - first), token, target);
        return;
    }
    for (size_t b = 0; b < B; b++) {
        size_t i, at;
        if (!o->window) order_epoch(o, text, T, seed, 0);
        i = step * B + b;
        if (i / o->n_window != o->epoch) order_epoch(o, text, T, seed, i / o->n_window);
        at = o->start + o->window[i % o->n_window] * T;
        memcpy(token + b * T, text->id + at, T * sizeof *token);
        memcpy(target + b * T, text->id + at + 1, T * sizeof *target);
    }
}

typedef struct score {
    double loss, hits; /* sums over tokens: nats, and how often the most likely token was right */
    size_t tokens, answers; /* answers: of pairs, those of which every token was the likeliest */
} score;

static score evaluate_pairs(model *m, const tokens *text) {
    size_t B = m->B, T = m->T, n = text->n_pair;
    int32_t *token = (int32_t *)allocate(B * T, sizeof *token), *target = (int32_t *)allocate(B * T, sizeof *target);
    uint32_t *which = (uint32_t *)allocate(n, sizeof *which);
    noise none = {0, 0};
    score s = {0};
    for (size_t i = 0; i < n; i++) which[i] = (uint32_t)i;
    sort_by_length(text, which, n);
    for (size_t done = 0; done < n; done += B) {
        pairs_batch(m, text, which + done, smaller(B, n - done), token, target);
        model_loss(m, token, target, none, 0);
        for (size_t b = 0; b < m->B; b++) {
            size_t right = 1;
            for (size_t i = b * m->T; i < (b + 1) * m->T; i++) {
                if (target[i] < 0) continue;
                s.loss += m->loss[i], s.hits += m->hit[i], s.tokens++;
                right = right && m->hit[i];
            }
            s.answers += right;
        }
    }
    m->B = B, m->T = T;
    free(token), free(target), free(which);
    return s;
}

/* Predicts every token of the text but the first. Windows of m->T tokens, each `stride` further than the last; a token
 * counts in the first window that holds it, so all but the first window's have at least T - stride tokens of
 * context. Of pairs: every token of the answers. */
static score evaluate(model *m, const tokens *text, size_t stride) {
    if (text->at) return evaluate_pairs(m, text);
    size_t B = m->B, T = m->T, start = 0, done = 0, n = text->n ? text->n - 1 : 0;
    int32_t *token = (int32_t *)allocate(B * T, sizeof *token), *target = (int32_t *)allocate(B * T, sizeof *target);
    size_t *from = (size_t *)allocate(B, sizeof *from);
    noise none = {0, 0};
    score s = {0};
    m->T = smaller(T, n);
    while (done < n) {
        size_t b;
        for (b = 0; b < B && done < n; b++) {
            size_t at = smaller(start, n - m->T); /* the last window is moved back to end with the text */
            memcpy(token + b * m->T, text->id + at, m->T * sizeof *token);
            memcpy(target + b * m->T, text->id + at + 1, m->T * sizeof *target);
            from[b] = done - at; /* earlier targets of this window were counted before */
            done = at + m->T;
            start = at + stride;
        }
        m->B = b;
        model_loss(m, token, target, none, 0);
        for (size_t i = 0; i < b * m->T; i++)
            if (i % m->T >= from[i / m->T]) s.loss += m->loss[i], s.hits += m->hit[i], s.tokens++;
    }
    m->B = B, m->T = T;
    free(token), free(target), free(from);
    return s;
}

/* ======================================================================
 * [TRAINING] The loop, its progress line, checkpoints, the report
 * ==================================================================== */

/* Every number that a run depends on; kept in checkpoints in this order. */
enum {
    VOCAB, LAYERS, HEADS, WIDTH, CONTEXT_SIZE, BATCH, STEPS, RATE, LAST, WARMUP, DECAY, BETA2, CLIP, DROPOUT,
    HELD_OUT, EVERY, SEED, MUON, N_OPTION
};

/* Where an option says something besides a training from scratch: elsewhere it is refused, for it would be ignored. */
enum { INIT = 1, RESUME = 2, EVAL = 4 };

typedef struct option {
    const char *name;
    double value;
    double low, high;
    int whole, also;
    const char *help;
} option;

static const option options[N_OPTION] = {
    {"--vocab", 2048, 257, 1 << 20, 1, 0, "tokens to learn from the text, <|endoftext|> included"},
    {"--layers", 4, 1, 1000, 1, 0, "transformer blocks"},
    {"--heads", 4, 1, 1000, 1, 0, "attention heads; must divide the width"},
    {"--width", 128, 1, 1 << 20, 1, 0, "numbers per token inside the model; a multiple of 32 for --type q8_0"},
    {"--context", 0, 0, 1 << 20, 1, INIT | EVAL,
     "tokens that the model sees at once; 0 = 256, or as many as the --init model"},
    {"--batch", 8, 1, 1 << 20, 1, INIT | EVAL, "texts per step"},
    {"--steps", 0, 0, 1e9, 1, INIT | RESUME, "optimiser steps; 0 reads the text 10 times, 200 to 5000 steps, pairs 5 times"},
    {"--lr", 0, 0, 10, 0, INIT | RESUME, "peak learning rate; 0 is 2e-3, with --init 5e-4"},
    {"--lr-last", 0.05, 0, 1, 0, INIT | RESUME, "learning rate at the end, as a share of the peak"},
    {"--warmup", 50, 0, 1e9, 1, INIT, "steps in which the learning rate climbs"},
    {"--decay", 0.1, 0, 10, 0, INIT | RESUME, "weight decay of the matrices"},
    {"--beta2", 0.98, 0, 1, 0, INIT, "AdamW's memory of squared gradients"},
    {"--clip", 1, 0, 1e9, 0, INIT | RESUME, "longest gradient; longer ones are scaled down; 0 is off"},
    {"--dropout", 0.1, 0, 0.9, 0, INIT | RESUME, "share of the embedding and of each block's output that is dropped"},
    {"--held-out", 0.05, 0, 0.9, 0, INIT, "share of the text, at its end, kept for validation; of pairs by a hash of the prompt"},
    {"--every", 100, 1, 1e9, 1, INIT | RESUME, "steps between validations, which also write checkpoint and model"},
    {"--seed", 1, 0, 9e15, 1, INIT, "of the first weights, the order of the text and dropout"},
    {"--muon", 0, 0, 1000, 0, INIT | RESUME,
     "the matrices of the blocks learn by Muon, at N times the rate; 0: by AdamW, as all else; not with --lora"},
};

/* What is wrong with an option's value, as words behind its name; NULL: nothing. */
static const char *option_error(int i, double x) {
    static char words[96];
    const option *o = &options[i];
    snprintf(words, sizeof words,
             o->whole ? "expected a whole number, %.0f to %.0f, got %.15g" : "expected %.15g to %.15g, got %.15g",
             o->low, o->high, x);
    return x >= o->low && x <= o->high && (!o->whole || x == floor(x)) ? NULL : words;
}

typedef struct training {
    double opt[N_OPTION];
    model *m;
    metadata meta; /* of the model file: shape and tokenizer */
    tokens train, valid;
    gpt_model *tokenizer; /* shows samples as text */
    size_t step, stop;    /* steps done; stop after this one as Ctrl-C does */
    double best;          /* lowest validation loss so far, nats per token */
    uint32_t type;        /* tensor type of the model file */
    const char *out, *checkpoint;
    int has_out, has_checkpoint; /* the files hold something of this training */
    char *pair;                  /* of pairs: their template */
    int column;                  /* of pairs: column 3 says what is held out */
    metadata adapter;            /* of the adapter's file, with --lora */
    /* What has come so far. acc: sum of losses and steps since the last validation, and since the last point. */
    double acc[4], *curve, *stock; /* [n_curve, 2] step, loss; [n_stock, 3] step, loss of training, of validation */
    size_t n_curve, n_stock, room_curve, room_stock;
    buffer samples; /* [n_stock] strings, see take_sample */
    const char *report, *text, *init;
    double seconds; /* of this run's training, */
    size_t n_read;  /* and how many tokens it has read */
} training;

static size_t opt_size(const training *t, int which) { return (size_t)t->opt[which]; }

static void put_bits(metadata *m, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_int(&m->bytes, bits, 8);
}

static uint64_t text_hash(const training *t) {
    uint64_t h = 0;
    for (size_t i = 0; i < t->train.n; i++) h = random_at(h, (uint64_t)(uint32_t)t->train.id[i]);
    return h >> 1;
}

static void save_checkpoint(training *t) {
    metadata meta = {0};
    size_t n = t->m->n_tensor;
    file_tensor *tensors = (file_tensor *)allocate(3 * n, sizeof *tensors), *next = tensors;
    size_t first = t->m->first;
    put(&meta.bytes, t->meta.bytes.p, t->meta.bytes.n);
    meta.n = t->meta.n;
    put_array(&meta, "train.options", KV_F64, N_OPTION);
    for (int i = 0; i < N_OPTION; i++) put_bits(&meta, t->opt[i]);
    put_array(&meta, "train.state", KV_F64, 6);
    put_bits(&meta, (double)t->step);
    put_bits(&meta, t->best);
    for (int i = 0; i < 4; i++) put_bits(&meta, t->acc[i]);
    put_array(&meta, "train.curve", KV_F64, 2 * t->n_curve);
    for (size_t i = 0; i < 2 * t->n_curve; i++) put_bits(&meta, t->curve[i]);
    put_array(&meta, "train.stock", KV_F64, 3 * t->n_stock);
    for (size_t i = 0; i < 3 * t->n_stock; i++) put_bits(&meta, t->stock[i]);
    put_key(&meta, "train.samples", KV_STRING);
    put_string(&meta.bytes, (const char *)t->samples.p, t->samples.n);
    if (t->pair) put_text(&meta, "train.pair", t->pair), put_u32(&meta, "train.column", (size_t)t->column);
    if (t->m->s.rank) {
        put_array(&meta, "train.lora", KV_F64, 2);
        put_bits(&meta, (double)t->m->s.rank);
        put_bits(&meta, (double)t->m->s.scale * (double)t->m->s.rank);
    }
    put_u32(&meta, "train.type", t->type);
    put_array(&meta, "train.text", KV_U64, 1);
    put_int(&meta.bytes, text_hash(t), 8);
    next = file_tensors(next, t->m, 0, t->m->param, "", TYPE_F32);
    next = file_tensors(next, t->m, first, t->m->m, "adamw.m.", TYPE_F32);
    next = file_tensors(next, t->m, first, t->m->v, "adamw.v.", TYPE_F32);
    write_gguf(t->checkpoint, &meta, tensors, (size_t)(next - tensors));
    t->has_checkpoint = 1;
    free(tensors), free(meta.bytes.p);
}

static void save_out(training *t) {
    save_model(t->out, t->m->s.rank ? &t->adapter : &t->meta, t->m, t->m->param, t->type);
    t->has_out = 1;
}

/* A guess by chance costs 14 nats at most: what is far beyond has run away and does not come back. */
enum { LOSS_MAX = 1000 };

/* One step of training; returns the loss of its batch before the step, or NaN and changes nothing where the training
 * has run away. Ctrl-C drops the step: t->step is what it was, and the weights. */
static double train_step(training *t, order *o, int32_t *token, int32_t *target, double *part) {
    model *m = t->m;
    size_t B = m->B, T = m->T, n_token;
    uint64_t seed = (uint64_t)t->opt[SEED];
    noise z = {(float)t->opt[DROPOUT], random_at(seed ^ 0x5EEDu, t->step)};
    adamw a;
    double loss, norm, n = (double)(t->step + 1);
    order_batch(o, m, &t->train, t->step, seed, token, target);
    droppable = 1;
    loss = model_loss(m, token, target, z, 1);
    n_token = m->B * m->T;
    m->B = B, m->T = T;
    norm = gradient_norm(m, part);
    droppable = 0;
    if (args_stopped) return 0;
    if (!(loss < LOSS_MAX && norm < DBL_MAX)) return NAN;
    a.rate = learning_rate(t->step, opt_size(t, STEPS), opt_size(t, WARMUP), (float)t->opt[RATE], (float)t->opt[LAST]);
    a.beta1 = 0.9f, a.beta2 = (float)t->opt[BETA2], a.eps = 1e-8f, a.decay = (float)t->opt[DECAY];
    a.scale = t->opt[CLIP] > 0 && norm > t->opt[CLIP] ? (float)(t->opt[CLIP] / norm) : 1.0f;
    a.fix1 = (float)(1 / (1 - pow(0.9, n)));
    a.fix2 = (float)(1 / (1 - pow(t->opt[BETA2], n)));
    a.muon = (float)t->opt[MUON];
    optimiser_step(m, &a);
    t->step++, t->n_read += n_token;
    return loss;
}

/* Tokens that count in the loss. */
static size_t counted(const tokens *t) {
    size_t n = t->n ? t->n - 1 : 0;
    if (t->at) for (size_t i = n = 0; i < t->n_pair; i++) n += t->at[2 * i + 2] - t->at[2 * i + 1];
    return n;
}

/* The weights as OUT will hold them, rounded to its number format. */
static float *rounded(const training *t) {
    const model *m = t->m;
    float *out = floats(m->n_param);
    unsigned char *bytes = (unsigned char *)allocate(m->n_param, sizeof(float));
    gpti_scratch *scratch = (gpti_scratch *)args_need(malloc(sizeof *scratch));
    memcpy(out, m->param, m->n_param * sizeof *out);
    for (size_t i = m->first; i < m->n_tensor; i++) {
        const tensor *w = &m->tensors[i];
        gpti_matrix q;
        q.fmt = gpti_format_find(type_for(t->type, w->rows, w->cols)), q.n_row = w->rows, q.n_col = w->cols,
        q.packed = 0;
        q.data = bytes;
        if (q.fmt->type == TYPE_F32) continue;
        for (size_t r = 0; r < w->rows; r++)
            encode_row(q.fmt, m->param + w->at + r * w->cols, w->cols, bytes + r * gpti_row_bytes(q.fmt, w->cols));
        for (size_t r = 0; r < w->rows; r++) gpti_matrix_row(&q, r, out + w->at + r * w->cols, scratch);
    }
    free(bytes), free(scratch);
    return out;
}

/* Nats per token on the held-out text, by the weights as they are or as OUT will hold them. */
static double validate(training *t, int as_out) {
    float *own = t->m->param;
    score s;
    if (as_out) t->m->param = rounded(t);
    s = evaluate(t->m, &t->valid, t->m->T);
    if (as_out) free(t->m->param);
    t->m->param = own;
    return s.loss / (double)s.tokens;
}

enum { SAMPLE_TOKENS = 40, SAMPLES = 3 };

/* Goes on from token [n] up to `end`, an end token or the context; temperature 0: the likeliest. Every token is computed
 * from the whole text before it: the plain way, for few. */
static size_t go_on(const training *t, int32_t *token, size_t n, size_t end, float temperature) {
    model *m = t->m;
    size_t B = m->B, T = m->T, V = m->s.vocab;
    noise none = {0, 0};
    for (m->B = 1; n < smaller(T, end); n++) {
        float *logits, max;
        double sum = 0, x = (double)random_at((uint64_t)t->opt[SEED] ^ t->step, n) / 18446744073709551616.0;
        size_t i;
        m->T = n;
        model_forward(m, token, none);
        logits = m->logits + (n - 1) * V, max = largest(logits, V);
        if (temperature > 0) {
            for (i = 0; i < V; i++) sum += exp_fast((logits[i] - max) / temperature);
            for (x *= sum, i = 0; i + 1 < V; i++)
                if ((x -= exp_fast((logits[i] - max) / temperature)) <= 0) break;
        } else
            for (i = 0; i + 1 < V && logits[i] < max;) i++;
        if (gpt_token_is_end(t->tokenizer, (int32_t)i)) break;
        token[n] = (int32_t)i;
    }
    m->B = B, m->T = T;
    return n;
}

/* Text of tokens, without control characters but line ends, and a mark behind it. */
static void put_sample(training *t, const int32_t *token, size_t n, char mark) {
    size_t size = gpt_detokenize(t->tokenizer, token, n, 0, NULL, 0);
    char *text = (char *)allocate(size + 1, 1);
    gpt_detokenize(t->tokenizer, token, n, 0, text, size);
    for (size_t i = 0; i < size; i++)
        if (((unsigned char)text[i] < 32 && text[i] != '\n') || text[i] == 127) text[i] = ' ';
    text[size] = mark;
    put(&t->samples, text, size + 1);
    free(text);
}

/* What the model writes now: how it goes on from the first words of the text, at temperature 0.7; or its likeliest
 * answers to three prompts. Each is what was given, \1, what came, \2; behind the last one is a NUL. */
static void take_sample(training *t) {
    enum { GIVEN = 4 };
    const tokens *from = t->train.at && t->valid.n_pair ? &t->valid : &t->train;
    size_t T = t->m->T, n, end;
    int32_t *token = (int32_t *)allocate(T + SAMPLE_TOKENS, sizeof *token);
    for (size_t i = 0; i < (from->at ? smaller(SAMPLES, from->n_pair) : 1); i++) {
        size_t which = from->at ? i * from->n_pair / SAMPLES : 0, at = from->at ? from->at[2 * which] : 0;
        n = from->at ? from->at[2 * which + 1] - at : smaller(GIVEN, smaller(T, from->n));
        memcpy(token, from->id + at, n * sizeof *token);
        end = go_on(t, token, n, from->at ? n + SAMPLE_TOKENS : (size_t)SAMPLE_TOKENS, from->at ? 0 : 0.7f);
        put_sample(t, token, n, 1);
        put_sample(t, token + n, end - n, 2);
    }
    put(&t->samples, "", 1);
    free(token);
}

/* The last sample, a line each. */
static void show_sample(const training *t) {
    const char *p = (const char *)t->samples.p, *end = p + t->samples.n - 1;
    while (end > p && end[-1]) end--;
    for (p = end; *p; p++) {
        if (p == end || p[-1] == 2) fprintf(stderr, "    ");
        if (*p == 2) fputc('\n', stderr);
        else if (*p != 1 || t->train.at) fputc(*p == 1 ? '|' : *p == '\n' ? ' ' : *p, stderr);
    }
}

/* The training has run away. What the files hold is from before. */
static void diverged(const training *t) {
    args_die(
        "after step %u the loss is beyond %d or not a number any more: a smaller --lr than %g%s will help. %s%s%s%s",
        (unsigned)t->step, (int)LOSS_MAX, t->opt[RATE], t->opt[CLIP] > 0 ? "" : ", or --clip 1,",
        t->has_out ? t->out : "Nothing", t->has_out ? " holds the best model before that" : " was written",
        t->has_checkpoint ? "; --resume --lr X goes on from " : "", t->has_checkpoint ? t->checkpoint : "");
}

/* ---- The report: the training as one HTML page, curves, samples, settings; nothing in it points outside ---------- */

static void putf(buffer *b, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put(b, text, strlen(text));
}

/* n bytes as text of a page; what is no UTF-8, as half a character at the end of a sample, is U+FFFD. */
static void put_html(buffer *b, const char *p, size_t n) {
    const char *end = p + n;
    for (size_t len; p < end; p += len ? len : 1) {
        len = tsv_character(p, end);
        if (!len) putf(b, "\xEF\xBF\xBD");
        else if (*p == '<' || *p == '>' || *p == '&' || *p == '"') putf(b, "&#%d;", *p);
        else put(b, p, len);
    }
}

static void put_row(buffer *b, const char *name, const char *value) {
    putf(b, "<tr><th>");
    put_html(b, name, strlen(name));
    putf(b, "</th><td>");
    put_html(b, value, strlen(value));
    putf(b, "</td></tr>\n");
}

/* The step between the marks of an axis of this length: 1, 2 or 5 times a power of ten, at most 6 of them. */
static double axis_step(double length) {
    double unit = pow(10, floor(log10(length > 1e-9 ? length : 1e-9))) / 10;
    static const double times[] = {1, 2, 5, 10, 20, 50};
    int i = 0;
    while (i < 5 && length / (times[i] * unit) > 6) i++;
    return times[i] * unit;
}

/* A drawing of 400 x 240: steps to the right, loss upward. */
typedef struct chart {
    double x1, y0, y1; /* the largest step, the range of the loss */
} chart;
static double chart_x(const chart *c, double x) { return 38 + 354 * x / c->x1; }
static double chart_y(const chart *c, double y) { return 214 - 204 * (y - c->y0) / (c->y1 - c->y0); }

static void chart_fit(chart *c, double y) {
    if (y < c->y0) c->y0 = y;
    if (y > c->y1) c->y1 = y;
}

static void put_line(buffer *b, const chart *c, const char *name, const double *at, size_t n, size_t width, size_t column) {
    putf(b, "<polyline class=\"%s\" points=\"", name);
    for (size_t i = 0; i < n; i++)
        putf(b, "%s%.2f,%.2f", i ? " " : "", chart_x(c, at[i * width]), chart_y(c, at[i * width + column]));
    putf(b, "\"/>\n");
}

static void put_chart(buffer *b, const training *t) {
    chart c = {1, DBL_MAX, -DBL_MAX};
    int valid = t->valid.n > 1;
    double step;
    for (size_t i = 0; i < t->n_curve; i++) c.x1 = t->curve[2 * i], chart_fit(&c, t->curve[2 * i + 1]);
    for (size_t i = 0; valid && i < t->n_stock; i++) chart_fit(&c, t->stock[3 * i + 2]);
    c.y0 -= 0.05 * (c.y1 - c.y0), c.y1 += 0.05 * (c.y1 - c.y0) + 1e-6;
    if (c.y0 < 0) c.y0 = 0;
    putf(b, "<svg viewBox=\"0 0 400 240\" role=\"img\" aria-label=\"loss over the steps\">\n");
    step = axis_step(c.y1 - c.y0);
    for (double y = step * ceil(c.y0 / step); y <= c.y1; y += step)
        putf(b, "<path class=\"grid\" d=\"M38 %.2fH392\"/><text x=\"34\" y=\"%.2f\" text-anchor=\"end\">%.4g</text>\n",
             chart_y(&c, y), chart_y(&c, y) + 4, fabs(y) < step / 2 ? 0 : y);
    step = fmax(1, axis_step(c.x1));
    for (double x = 0; x <= c.x1; x += step)
        putf(b, "<text x=\"%.2f\" y=\"230\" text-anchor=\"middle\">%.0f</text>\n", chart_x(&c, x), x);
    put_line(b, &c, "train", t->curve, t->n_curve, 2, 1);
    if (valid) put_line(b, &c, "valid", t->stock, t->n_stock, 3, 2);
    for (size_t i = 0; i < t->n_stock; i++) {
        const double *at = t->stock + 3 * i;
        putf(b, "<a href=\"#s%.0f\"><circle class=\"%s\" cx=\"%.2f\" cy=\"%.2f\" r=\"3.5\"><title>step %.0f: %.4f</title>"
             "</circle></a>\n", at[0], valid ? "valid" : "train", chart_x(&c, at[0]), chart_y(&c, at[valid ? 2 : 1]), at[0],
             at[valid ? 2 : 1]);
    }
    putf(b, "</svg>\n<figcaption>nats per token%s over the steps: <span class=\"train\">training</span>%s; a point leads to "
         "its sample</figcaption>\n", t->pair ? " of the answers" : "",
         valid ? ", <span class=\"valid\">validation</span>" : "");
}

/* The sample at p, as take_sample made it; returns the next. */
static const char *put_sample_html(buffer *b, const char *p) {
    while (*p) {
        size_t given = strcspn(p, "\1"), came = strcspn(p + given + 1, "\2");
        putf(b, "<p><b>");
        put_html(b, p, given);
        putf(b, "</b>");
        put_html(b, p + given + 1, came);
        putf(b, "</p>\n");
        p += given + came + 2;
    }
    return p + 1;
}

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<style>\n"
    ":root { --ink: #1b1b1b; --paper: #fff; --soft: #6a6a6a; --line: #ddd; --train: #1f6fb2; --valid: #c2570c }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --soft: #a0a0a0; --line: #383838;\n"
    "    --train: #6cb4f0; --valid: #f39a52 } }\n"
    "body { margin: 0 auto; padding: 1em; max-width: 42em; color: var(--ink); background: var(--paper);\n"
    "    font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere }\n"
    "h1 { font-size: 1.4em } h2 { font-size: 1.15em } figure { margin: 0 } svg { width: 100%; height: auto }\n"
    "svg text { font: 10px system-ui, sans-serif; fill: var(--soft) } .grid { stroke: var(--line); stroke-width: 0.5 }\n"
    "polyline { fill: none; stroke-width: 1.5 } polyline.train { stroke: var(--train) } polyline.valid { stroke: "
    "var(--valid) }\n"
    "circle.train { fill: var(--train) } circle.valid { fill: var(--valid) } span.train { color: var(--train) }\n"
    "span.valid { color: var(--valid) } figcaption, summary span { color: var(--soft); font-size: 0.9em }\n"
    "details { border-top: 1px solid var(--line); padding: 0.4em 0 } details p { white-space: pre-wrap; margin: 0.5em 0 }\n"
    "table { border-collapse: collapse; width: 100%; font-size: 0.9em } td, th { border-top: 1px solid var(--line);\n"
    "    padding: 0.25em 0.5em 0.25em 0; text-align: left; vertical-align: top; font-weight: normal } th { color: "
    "var(--soft) }\n</style>\n";

static void put_settings(buffer *b, const training *t) {
    char value[96];
    const shape *s = &t->m->s;
    putf(b, "<h2>Settings</h2>\n<table>\n");
    put_row(b, t->pair ? "pairs" : "text", t->text);
    if (t->pair) put_row(b, "--template", t->pair);
    if (t->init) put_row(b, "--init", t->init);
    put_row(b, "--out", t->out);
    snprintf(value, sizeof value, "%u layers, %u heads, width %u, vocabulary %u: %u parameters", (unsigned)s->layers,
             (unsigned)s->heads, (unsigned)s->width, (unsigned)s->vocab,
             (unsigned)(t->m->n_param - (s->rank ? t->m->n_train : 0)));
    put_row(b, "model", value);
    if (s->rank) {
        snprintf(value, sizeof value, "rank %u, alpha %g: %u parameters, the others stay as they are", (unsigned)s->rank,
                 (double)s->scale * (double)s->rank, (unsigned)t->m->n_train);
        put_row(b, "adapter", value);
    }
    snprintf(value, sizeof value, "%u tokens%s; validation %u", (unsigned)t->train.n, t->pair ? " of pairs" : "",
             (unsigned)t->valid.n);
    put_row(b, "to learn from", value);
    for (int i = t->init ? BATCH : 0; i < N_OPTION; i++) {
        snprintf(value, sizeof value, "%.10g", i == CONTEXT_SIZE ? (double)t->m->T : t->opt[i]);
        if (i != HELD_OUT || !t->column) put_row(b, options[i].name, value);
    }
    snprintf(value, sizeof value, "%.0f s for %u tokens, %d thread%s", t->seconds, (unsigned)t->n_read, thread_count(),
             thread_count() > 1 ? "s" : "");
    put_row(b, "time of this run", value);
    putf(b, "</table>\n");
}

static void write_report(const training *t) {
    buffer b = {0};
    args_out out;
    const char *p = (const char *)t->samples.p;
    size_t best = 0;
    int valid = t->valid.n > 1, error;
    for (size_t i = 1; valid && i < t->n_stock; i++)
        if (t->stock[3 * i + 2] < t->stock[3 * best + 2]) best = i;
    put(&b, page_head, sizeof page_head - 1);
    putf(&b, "<title>Training of ");
    put_html(&b, t->out, strlen(t->out));
    putf(&b, "</title>\n</head>\n<body>\n<h1>Training of ");
    put_html(&b, t->out, strlen(t->out));
    putf(&b, "</h1>\n<p>Step %u of %u.", (unsigned)t->step, (unsigned)opt_size(t, STEPS));
    if (valid && t->best < LOSS_MAX)
        putf(&b, " The best validation loss is %.4f nats per token%s, perplexity %.2f.", t->best,
             t->pair ? " of the answers" : "", exp(t->best));
    putf(&b, "</p>\n");
    if (t->n_curve) {
        putf(&b, "<figure>\n");
        put_chart(&b, t);
        putf(&b, "</figure>\n");
    }
    putf(&b, "<h2>Samples</h2>\n");
    for (size_t i = 0; i < t->n_stock; i++) {
        const double *at = t->stock + 3 * i;
        putf(&b, "<details id=\"s%.0f\"%s><summary>step %.0f <span>training %.4f", at[0],
             i == best || i + 1 == t->n_stock ? " open" : "", at[0], at[1]);
        if (valid) putf(&b, ", validation %.4f%s", at[2], i == best ? ", the best" : "");
        putf(&b, "</span></summary>\n");
        p = put_sample_html(&b, p);
        putf(&b, "</details>\n");
    }
    put_settings(&b, t);
    putf(&b, "</body>\n</html>\n");
    args_out_begin(&out, t->report);
    args_out_put(&out, b.p, b.n);
    error = args_out_end(&out);
    if (error) fprintf(stderr, "%strain: %s: cannot write: %s\n", args_line_open ? "\n" : "", t->report, strerror(error));
    free(b.p);
}

static void put_point(double **list, size_t *n, size_t *room, size_t width, double a, double b, double c) {
    const double x[3] = {a, b, c};
    *list = (double *)grown(*list, *n, room, width * sizeof **list);
    memcpy(*list + width * (*n)++, x, width * sizeof *x);
}

/* Validates, keeps the model file if it is the best so far, takes a sample, and writes checkpoint and report. Returns the
 * validation loss. */
static double take_stock(training *t) {
    double loss = t->valid.n > 1 ? validate(t, 1) : 0;
    if (!(loss < LOSS_MAX)) diverged(t);
    if (t->valid.n <= 1 || loss < t->best) {
        t->best = loss;
        save_out(t);
    }
    take_sample(t);
    put_point(&t->stock, &t->n_stock, &t->room_stock, 3, (double)t->step, t->acc[0] / (t->acc[1] > 0 ? t->acc[1] : 1), loss);
    t->acc[0] = t->acc[1] = 0;
    save_checkpoint(t);
    if (t->report) write_report(t);
    return loss;
}

static const double first_save = 60; /* seconds until there is a model, if no validation has come before */

static void train(training *t) {
    model *m = t->m;
    size_t N = m->B * m->T, steps = opt_size(t, STEPS), every = opt_size(t, EVERY), first = t->step;
    int32_t *token = (int32_t *)allocate(N, sizeof *token), *target = (int32_t *)allocate(N, sizeof *target);
    double *part = (double *)allocate(chunks(m->n_train, SPAN), sizeof *part), start = args_seconds(), shown = 0,
           valid = 0, taken = 0;
    size_t fine = chunks(every, 10); /* steps between points of the report's curve */
    order o = {0, 0, 0, NULL, NULL};
    int terminal = isatty(2), saved = 0;
    args_stopped = 0;
    signal(SIGINT, args_on_interrupt);
    signal(SIGTERM, args_on_interrupt); /* of timeout, for example */
    while (t->step < steps && !args_stopped && t->step < t->stop) {
        size_t before = t->step;
        double now, rate, left, one = train_step(t, &o, token, target, part);
        int whole = t->step > before, stock, end;
        double mean;
        if (!(one < LOSS_MAX)) diverged(t);
        for (int i = 0; i < 4; i += 2) t->acc[i] += one, t->acc[i + 1] += whole;
        taken += whole;
        mean = t->acc[1] > 0 ? t->acc[0] / t->acc[1] : 0;
        if (whole && (t->step % fine == 0 || t->step == steps)) {
            put_point(&t->curve, &t->n_curve, &t->room_curve, 2, (double)t->step, t->acc[2] / t->acc[3], 0);
            t->acc[2] = t->acc[3] = 0;
        }
        t->seconds = now = args_seconds() - start;
        end = args_stopped || t->step >= t->stop;
        stock = whole && (t->step % every == 0 || t->step == steps);
        if (stock) valid = take_stock(t);
        else if (end || (!saved && now > first_save)) {
            save_checkpoint(t); /* no validation: resuming must find what an undisturbed run would */
            if (!t->has_out) save_out(t);
        }
        saved = saved || stock || now > first_save;
        if (taken < 1) break; /* dropped, with nothing new to show */
        if (!stock && !end && !(terminal && now > shown + 0.5)) continue;
        rate = (double)(t->step - first) / (now > 0 ? now : 1);
        left = (double)(steps - t->step) / rate;
        fprintf(stderr, "%sstep %u/%u  loss %.4f  ", terminal ? "\r" : "", (unsigned)t->step, (unsigned)steps, mean);
        if (valid > 0)
            fprintf(stderr, "validation %.4f (%.4f nats/byte)  ", valid,
                    valid * (double)counted(&t->valid) / (double)t->valid.bytes);
        fprintf(stderr, "%.0f tok/s  %u:%02u left ", rate * (double)t->n_read / (double)(t->step - first),
                (unsigned)(left / 60), (unsigned)left % 60);
        if (stock || end) fprintf(stderr, "\n");
        args_line_open = !stock && !end;
        if (stock) show_sample(t);
        shown = now;
    }
    if (t->report) write_report(t);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    free(token), free(target), free(part), free(o.window), free(o.pair);
}

/* ======================================================================
 * [COMMAND] Starting, resuming, fine-tuning, evaluating
 * ==================================================================== */

/* A GGUF file in memory and its directory. */
typedef struct loaded {
    char *bytes;
    size_t n;
    gpti_source source;
    gpti_gguf g;
} loaded;

static const gpti_mem default_memory = {NULL, NULL, NULL};

static loaded *load_gguf(const char *path) {
    loaded *f = (loaded *)allocate(1, sizeof *f);
    gpt_error err;
    if (!args_kind(path)) args_die("%s: there is no such file", path);
    f->bytes = args_read(path, &f->n);
    gpti_source_memory(&f->source, f->bytes, f->n);
    if (gpti_gguf_open(&f->g, &f->source, 1, &default_memory, &err)) args_die("%s: damaged: %s", path, err.msg);
    if (f->g.big) args_die("%s: big-endian files are only read by gpt.h", path);
    return f;
}

static void loaded_free(loaded *f) {
    gpti_gguf_close(&f->g, &default_memory);
    free(f->bytes), free(f);
}

static size_t file_u32(const loaded *f, const char *key, uint32_t otherwise) {
    gpti_gguf_u32(&f->g, key, &otherwise);
    return otherwise;
}

static shape file_shape(const loaded *f, const char *path) {
    shape s = {0};
    gpti_str arch = {NULL, 0};
    const gpti_meta_pair *ids = gpti_gguf_find(&f->g, "tokenizer.ggml.tokens");
    if (!gpti_gguf_str(&f->g, "general.architecture", &arch) || arch.n != 4 || memcmp(arch.p, "gpt2", 4))
        args_die("%s: not of the gpt2 architecture", path);
    s.vocab = ids ? (size_t)ids->count : 0;
    s.layers = file_u32(f, "gpt2.block_count", 0);
    s.heads = file_u32(f, "gpt2.attention.head_count", 0);
    s.width = file_u32(f, "gpt2.embedding_length", 0);
    s.context = file_u32(f, "gpt2.context_length", 0);
    s.eps = 1e-5f;
    gpti_gguf_f32(&f->g, "gpt2.attention.layer_norm_epsilon", &s.eps);
    if (!s.vocab || !s.layers || !s.heads || !s.width || !s.context || s.width % s.heads)
        args_die("%s: metadata of the gpt2 architecture are missing", path);
    if (file_u32(f, "gpt2.feed_forward_length", (uint32_t)(4 * s.width)) != 4 * s.width)
        args_die("%s: feed_forward_length is not 4 times embedding_length", path);
    return s;
}

/* The metadata of a file for a file made from it; what describes the old bytes alone is left out. */
static metadata file_metadata(const loaded *f, const char *name, int no_chat) {
    static const char *const drop[] = {"general.alignment", "general.file_type", "general.quantization_version",
                                       "train.", "split."};
    metadata m = {0};
    for (size_t i = 0; i < f->g.n_pair; i++) {
        const gpti_meta_pair *kv = &f->g.pair[i];
        size_t j, n_drop = sizeof drop / sizeof *drop;
        for (j = 0; j < n_drop && (kv->key.n < strlen(drop[j]) || memcmp(kv->key.p, drop[j], strlen(drop[j]))); j++) {}
        if (j < n_drop || (no_chat && kv->key.n == 23 && !memcmp(kv->key.p, "tokenizer.chat_template", 23))) continue;
        if (name && kv->key.n == 12 && !memcmp(kv->key.p, "general.name", 12)) {
            put_text(&m, "general.name", name);
            continue;
        }
        put_string(&m.bytes, kv->key.p, kv->key.n);
        put_int(&m.bytes, kv->type, 4);
        m.n++;
        if (kv->type == KV_ARRAY) {
            put_int(&m.bytes, kv->elem, 4);
            put_int(&m.bytes, kv->count, 8);
            put(&m.bytes, f->bytes + kv->offset, (size_t)kv->bytes);
        } else if (kv->type == KV_STRING) {
            put_string(&m.bytes, kv->v.s.p, kv->v.s.n);
        } else if (kv->type == KV_F32) {
            put_f32(&m.bytes, (float)kv->v.f);
        } else {
            put_int(&m.bytes, kv->v.u, gpti_gguf_type[kv->type].bytes);
        }
    }
    return m;
}

/* Reads tensors from .. end - 1 of one of the model's arrays from the tensors PREFIXname. */
static void read_tensors(const loaded *f, const char *path, const model *m, size_t from, size_t end, float *data,
                         const char *prefix) {
    gpti_scratch *scratch = (gpti_scratch *)args_need(malloc(sizeof *scratch));
    for (size_t i = from; i < end; i++) {
        const tensor *t = &m->tensors[i];
        char name[72];
        const gpti_tensor *in;
        gpti_matrix w;
        snprintf(name, sizeof name, "%s%s", prefix, t->name);
        in = gpti_gguf_tensor(&f->g, name);
        if (!in) args_die("%s: the tensor %s is missing", path, name);
        if (in->ne[0] != t->cols || in->ne[1] != (t->rows ? t->rows : 1) || in->ne[2] != 1)
            args_die("%s: the tensor %s: expected [%u, %u], the file has [%u, %u]", path, name,
                     (unsigned)(t->rows ? t->rows : 1), (unsigned)t->cols, (unsigned)in->ne[1], (unsigned)in->ne[0]);
        w.fmt = in->fmt, w.n_row = (size_t)in->ne[1], w.n_col = t->cols, w.packed = 0;
        w.data = (const unsigned char *)f->bytes + in->offset;
        for (size_t r = 0; r < w.n_row; r++) gpti_matrix_row(&w, r, data + t->at + r * t->cols, scratch);
        for (size_t j = 0; j < t->n; j++)
            if (!(fabsf(data[t->at + j]) <= FLT_MAX))
                args_die("%s: the tensor %s holds infinity or no numbers", path, name);
    }
    free(scratch);
}

static double file_f64(const loaded *f, const char *path, const char *key, uint64_t i) {
    gpti_value v;
    uint32_t type;
    if (!gpti_gguf_number(&f->g, key, i, &type, &v)) args_die("%s: not a checkpoint: %s is missing", path, key);
    return type == KV_F64 ? v.f : (double)v.u;
}

/* The tokenizer of a model to be, made from its metadata alone by way of a file in memory without tensors. */
static gpt_model *tokenizer_of(const metadata *meta) {
    gpt_model_params params;
    gpt_model *tokenizer = NULL;
    gpt_error err;
    buffer b = {0};
    memset(&params, 0, sizeof params);
    params.header_only = 1;
    put(&b, "GGUF", 4);
    put_int(&b, 3, 4);
    put_int(&b, 0, 8);
    put_int(&b, meta->n, 8);
    put(&b, meta->bytes.p, meta->bytes.n);
    if (gpt_model_load_memory(&tokenizer, b.p, b.n, &params, &err)) args_die("%s", err.msg);
    free(b.p);
    return tokenizer;
}

typedef struct command {
    const char *text, *out, *init, *name, *type; /* NULL: not given; text and out are settled */
    const char *pair, *valid, *report, *adapter;
    int eval, resume, threads, stop, tsv, escape, epochs, rank;
    double alpha;
    double opt[N_OPTION]; /* NaN: not given */
} command;

static const char about[] =
    "usage: train TEXT [-o OUT.gguf] [options]\n"
    "       train PAIRS.tsv --init MODEL [-o OUT.gguf] [options]\n\n"
    "Trains a GPT-2 model on a text file; documents are separated by <|endoftext|>. OUT holds the best model so far\n"
    "by validation loss, from the first minute on, OUT.ckpt the state of the training, written at every validation\n"
    "and on Ctrl-C; --resume goes on from it, also with more --steps. A validation shows the loss, per token and per\n"
    "byte, and how the model goes on from the first words of the text. The same seed gives the same model to the\n"
    "bit, whatever the threads.\n\n"
    "PAIRS.tsv has in each line a prompt, a tab and an answer, in UTF-8. The model reads each pair as a text of its own,\n"
    "by --template and with the end token behind it, and only what the answer adds counts in the loss. Held out are the\n"
    "pairs that a column 3 calls \"validate\", if it says that, \"train\" or \"test\" (of no use here) in every line, or else\n"
    "--held-out of the prompts, so that equal prompts are on one side. OUT's chat template then is that of the pairs:\n"
    "build/chat answers.\n"
    "With --lora the model itself stays as it is: OUT is an adapter for it, as llama.cpp has them.\n\n"
    "With --resume go --steps, --lr, --lr-last, --muon, --decay, --clip, --dropout, --every, --type, --name, --valid,\n"
    "--report, --stop and -t; the others are those that the training began with.";

/* What is given but would be ignored. */
static void check_given(const command *c) {
    const int use = c->eval ? EVAL : c->resume ? RESUME : c->init ? INIT : 0;
    const char *const why = use == EVAL     ? "--eval, which does not train"
                            : use == RESUME ? "--resume, which goes on as it began"
                                            : "--init, which keeps the model's vocabulary and shape";
    if (c->adapter && !c->eval) args_die("--adapter: for --eval alone");
    if (c->eval && !c->init) args_die("--eval needs --init MODEL");
    if (c->eval && c->resume) args_die("--eval and --resume exclude each other");
    if (c->resume && c->init) args_die("--init and --resume exclude each other");
    if (c->eval && (c->out || c->name || c->type || c->stop))
        args_die("-o, --name, --type and --stop: cannot be given with --eval, which writes no model");
    const struct {
        const char *name;
        int given, also;
    } more[] = {{"--template", c->pair != NULL, INIT | EVAL}, {"--valid", c->valid != NULL, INIT | RESUME},
                {"--report", c->report != NULL, INIT | RESUME}, {"--adapter", c->adapter != NULL, EVAL},
                {"--epochs", c->epochs, INIT}, {"--lora", c->rank, INIT}, {"--lora-alpha", c->alpha > 0, INIT}};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (more[i].given && use && !(more[i].also & use)) args_die("%s: cannot be given with %s", more[i].name, why);
    if (c->rank && !c->init) args_die("--lora needs --init MODEL, which the adapter is for");
    if (c->alpha > 0 && !c->rank) args_die("--lora-alpha: for --lora alone");
    if (c->pair && !c->tsv) args_die("--template: for pairs alone: %s does not end in .tsv, and there is no --tsv", c->text);
    if (c->epochs && !no_number(c->opt[STEPS])) args_die("--epochs and --steps exclude each other");
    if (c->valid && !no_number(c->opt[HELD_OUT])) args_die("--valid and --held-out exclude each other");
    for (int i = 0; i < N_OPTION; i++) {
        const char *wrong = no_number(c->opt[i]) ? NULL : option_error(i, c->opt[i]);
        if (wrong) args_die("%s: %s", options[i].name, wrong);
        if (!no_number(c->opt[i]) && use && !(options[i].also & use))
            args_die("%s: cannot be given with %s", options[i].name, why);
    }
}

static command parse_command(int argc, char **argv) {
    command c;
    const char *file = NULL;
    enum { N_FIXED = 19 };
    arg table[N_FIXED + N_OPTION + 1];
    char help[N_OPTION][200];
    memset(&c, 0, sizeof c);
    const arg fixed[N_FIXED] = {
        {"TEXT", ARG_TEXT, &c.text, "", ""},
        {"-f, --file", ARG_TEXT, &file, "TEXT", "the text, as the argument without an option is"},
        {"-o, --out", ARG_TEXT, &c.out, "FILE", "the model to write (out.gguf)"},
        {"--init", ARG_TEXT, &c.init, "MODEL", "go on from a gpt2-architecture model: weights, vocabulary and shape"},
        {"--resume", ARG_FLAG, &c.resume, "", "go on from OUT.ckpt, to the bit as if never interrupted"},
        {"--eval", ARG_FLAG, &c.eval, "", "train nothing: loss, perplexity and accuracy of the --init model on TEXT"},
        {"--type", ARG_TEXT, &c.type, "T",
         "number format of OUT: f32, f16, q4_0, q8_0 (default; f32 where 32 does not divide the width)"},
        {"--name", ARG_TEXT, &c.name, "NAME", "the name that OUT carries inside"},
        {"-t, --threads", ARG_COUNT, &c.threads, "N", "threads, at most 256; 0 = one for each processor (default)"},
        {"--stop", ARG_COUNT, &c.stop, "N", "stop after step N, as Ctrl-C does; 0 = never"},
        {"--tsv", ARG_FLAG, &c.tsv, "", "TEXT is pairs, also if its name does not end in .tsv"},
        {"--template", ARG_TEXT, &c.pair, "TEXT", TSV_TEMPLATE_HELP},
        {"-e, --escape", ARG_FLAG, &c.escape, "", "\\n, \\t and the like in a pair are what they mean"},
        {"--valid", ARG_TEXT, &c.valid, "FILE", "the text or pairs for validation; then TEXT is all for training"},
        {"--epochs", ARG_COUNT, &c.epochs, "N", "instead of --steps: how often everything is read; 0 = as --steps says"},
        {"--report", ARG_TEXT, &c.report, "FILE", "a page, HTML, with the losses, samples and settings, from time to time"},
        {"--lora", ARG_COUNT, &c.rank, "R", "train an adapter of rank R instead of the weights; OUT is that alone, f32"},
        {"--lora-alpha", ARG_FLOAT, &c.alpha, "A", "its strength: what it adds counts A / R times (2 R)"},
        {"--adapter", ARG_ONCE, &c.adapter, "FILE", "with --eval: an adapter that --lora has made, on the --init model"},
    };
    memcpy(table, fixed, sizeof fixed);
    for (int i = 0; i < N_OPTION; i++) {
        const option *o = &options[i];
        arg *a = &table[N_FIXED + i];
        c.opt[i] = NAN;
        snprintf(help[i], sizeof help[i], "%s (%g)", o->help, o->value);
        a->names = o->name, a->kind = ARG_FLOAT, a->value = &c.opt[i], a->what = "N", a->help = help[i];
    }
    memset(&table[N_FIXED + N_OPTION], 0, sizeof *table);
    args_parse(argc, argv, "train", table, about);
    if (c.text && file) args_die("the text is named twice: %s, and %s %s", c.text, args_name("-f"), file);
    if (file) c.text = file;
    if (!c.text) args_die("no text: train TEXT -o OUT.gguf (--help lists the options)");
    file = strlen(c.text) > 4 ? c.text + strlen(c.text) - 4 : "";
    if (!strcmp(file, ".tsv")) c.tsv = 1;
    if (c.alpha < 0) args_die("--lora-alpha: expected more than 0, got %g", c.alpha);
    check_given(&c);
    if (!c.out) c.out = "out.gguf";
    return c;
}

/* GGUF's number for a format named on the command line. */
static uint32_t type_number(const char *name) {
    static const struct {
        const char *name;
        uint32_t type;
    } types[] = {{"f32", 0}, {"f16", 1}, {"q8_0", 8}, {"q4_0", 2}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name)) return types[i].type;
    args_die("--type: expected f32, f16, q8_0 or q4_0, got '%s'", name);
    return 0;
}

/* --eval: every token of the text with at least half a context before it. */
static void report(model *m, const tokens *text, const char *what) {
    score s = evaluate(m, text, larger(1, m->T / 2));
    if (text->at)
        printf("%s: %.2f %% of %u answers right, each token the likeliest\n", what,
               100 * (double)s.answers / (double)text->n_pair, (unsigned)text->n_pair);
    printf("%s: loss %.4f nats/token, %.4f nats/byte, perplexity %.3f, accuracy %.2f %%, over %u tokens, %u bytes\n",
           what, s.loss / (double)s.tokens, s.loss / (double)text->bytes, exp(s.loss / (double)s.tokens),
           100 * s.hits / (double)s.tokens, (unsigned)s.tokens, (unsigned)text->bytes);
}

static void check_width(const training *t, const command *c, size_t width) {
    unsigned block = (unsigned)gpti_format_find(t->type)->block_len;
    if (c->type && width % block)
        args_die("--type %s: its blocks of %u numbers do not divide the width, %u", c->type, block, (unsigned)width);
    if (width % block && !c->eval)
        fprintf(stderr,
                "train: OUT is written as f32: the blocks of %u numbers of its type do not divide the width, %u\n",
                block, (unsigned)width);
}

/* Metadata of a model to be trained from scratch. */
static metadata new_metadata(const training *t, const command *c, const char *text, size_t n, shape *s) {
    metadata meta;
    vocabulary v;
    s->layers = opt_size(t, LAYERS), s->heads = opt_size(t, HEADS), s->width = opt_size(t, WIDTH), s->eps = 1e-5f;
    s->context = t->opt[CONTEXT_SIZE] > 0 ? opt_size(t, CONTEXT_SIZE) : 256;
    if (s->width % s->heads) args_die("--heads: %u does not divide --width %u", (unsigned)s->heads, (unsigned)s->width);
    check_width(t, c, s->width);
    v = learn_vocabulary(text, n, opt_size(t, VOCAB));
    s->vocab = v.n + 1;
    if (s->vocab < opt_size(t, VOCAB))
        fprintf(stderr, "train: the text gives %u tokens: no other pair of them comes twice\n", (unsigned)s->vocab);
    meta = make_metadata(c->name ? c->name : "trained by train.c", s, &v);
    vocabulary_free(&v);
    return meta;
}

/* OUT, OUT.ckpt and the report can be written. */
static void check_out(const command *c, const char *checkpoint) {
    const args_file read[] = {{c->text, "the text"}, {c->valid, "the text of --valid"},
                              {c->rank ? c->init : NULL, "the model of --init"}};
    const args_file others[] = {{c->text, "the text"}, {c->valid, "the text of --valid"}, {c->init, "the model of --init"},
                                {c->out, "the model"}, {checkpoint, "the checkpoint"}};
    for (size_t i = 0; i < 2; i++)
        if (read[i].path && args_same(checkpoint, read[i].path)) args_die("%s %s: its checkpoint is %s", args_name("-o"), c->out, read[i].what);
    if (c->report) args_check_out("--report", c->report, others, sizeof others / sizeof *others);
    args_check_out(args_name("-o"), c->out, read, sizeof read / sizeof *read);
    if (!lock_out(c->out)) args_die("%s %s: another run writes this file", args_name("-o"), c->out);
}

/* A new training does not take the place of one that has more to do. */
static void check_left_over(const char *checkpoint) {
    loaded *f;
    double step, steps;
    if (!args_kind(checkpoint)) return;
    f = load_gguf(checkpoint);
    step = file_f64(f, checkpoint, "train.state", 0);
    steps = file_f64(f, checkpoint, "train.options", STEPS);
    if (step < steps)
        args_die("%s holds a training that stopped at step %.0f of %.0f: go on with --resume, remove the file, or give "
                 "another -o", checkpoint, step, steps);
    loaded_free(f);
}

/* The options of the checkpoint or the defaults, and over them what was given. A checkpoint from before --muon has all
 * the others. */
static void set_options(training *t, const command *c, const loaded *file) {
    uint32_t type = type_number(c->type ? c->type : c->rank ? "f32" : "q8_0");
    const gpti_meta_pair *kept = c->resume ? gpti_gguf_find(&file->g, "train.options") : NULL;
    for (int i = 0; i < N_OPTION; i++) {
        int saved = c->resume && !(i == MUON && kept && kept->count == MUON);
        t->opt[i] = saved ? file_f64(file, t->checkpoint, "train.options", (uint64_t)i) : options[i].value;
        if (option_error(i, t->opt[i]))
            args_die("%s: damaged: %s: %s", t->checkpoint, options[i].name, option_error(i, t->opt[i]));
        if (!no_number(c->opt[i])) t->opt[i] = c->opt[i];
    }
    if (c->resume && !c->type) gpti_gguf_u32(&file->g, "train.type", &type);
    if (type != 0 && type != 1 && type != 2 && type != 8)
        args_die("%s: damaged: train.type is %u", t->checkpoint, (unsigned)type);
    t->type = type;
}

/* Says what a step takes where that is much: the arrays of model_make_room and of the model, and the multiply-adds at
 * 10^10 a second and thread. */
static void warn_of_size(const model *m, size_t B, size_t T) {
    double N = (double)B * (double)T, L = (double)m->s.layers, D = (double)m->s.width, P = (double)m->n_param,
           bytes = 4 * (P + 3 * (double)m->n_train + N * (L * (16 * D + 4) + 9 * D + (double)m->s.vocab)),
           work = 3 * N * (P - (double)m->s.context * D + L * (double)T * D),
           minutes = work / 1e10 / thread_count() / 60;
    if (bytes < 4e9 && minutes < 1) return;
    fprintf(stderr, "train: that is about %.1f GB of memory and %.1f minutes a step; less with a smaller --context%s\n",
            bytes / 1e9, minutes, B > 1 ? " or --batch" : "");
}

/* Steps 1 and 3 of main: the shape and the metadata, then the weights. */
static model *start_model(training *t, const command *c, const loaded *file, const char *from, shape s) {
    size_t T = t->opt[CONTEXT_SIZE] > 0 ? opt_size(t, CONTEXT_SIZE) : s.context, longest = t->train.n - 1;
    model *m;
    if (t->train.n < 2) args_die("%s: the text is too short: %u tokens to train on", c->text, (unsigned)t->train.n);
    if (T > s.context) args_die("--context: %s has positions for %u tokens", from, (unsigned)s.context);
    if (t->train.at) longest = larger(t->train.longest, t->valid.longest) - 1;
    if (c->opt[CONTEXT_SIZE] > 0 && T > longest && !c->eval && !t->train.at)
        args_die("--context: the text has %u tokens to train on, expected at most %u", (unsigned)t->train.n,
                 (unsigned)t->train.n - 1);
    T = smaller(T, longest);
    m = model_new(s);
    if (!c->eval) warn_of_size(m, opt_size(t, BATCH), T);
    if (!file || s.rank) model_init(m, (uint64_t)t->opt[SEED]);
    if (file) read_tensors(file, from, m, 0, c->resume || !s.rank ? m->n_tensor : m->first, m->param, "");
    model_make_room(m, opt_size(t, BATCH), T);
    return m;
}

/* Options that were left open take their values from the text and the model. */
static void settle_options(training *t, const command *c) {
    size_t B = opt_size(t, BATCH), each = t->train.at ? chunks(t->train.n_pair, B) : chunks(t->train.n, B * t->m->T);
    if (t->opt[STEPS] == 0 && c->epochs) t->opt[STEPS] = (double)smaller(1000000000, (size_t)c->epochs * each);
    else if (t->opt[STEPS] == 0 && t->train.at) t->opt[STEPS] = (double)(5 * each);
    else if (t->opt[STEPS] == 0)
        t->opt[STEPS] = (double)smaller(5000, larger(200, chunks(10 * t->train.n, B * t->m->T)));
    if (t->opt[RATE] == 0) t->opt[RATE] = c->rank ? 2e-3 : c->init ? 5e-4 : 2e-3;
}

/* The history of a training that goes on; a checkpoint from before it was kept has none. */
static void read_history(training *t, const loaded *file) {
    const char *path = t->checkpoint;
    const gpti_meta_pair *curve = gpti_gguf_find(&file->g, "train.curve"), *stock = gpti_gguf_find(&file->g, "train.stock");
    gpti_str samples;
    if (!curve || !stock || !gpti_gguf_str(&file->g, "train.samples", &samples)) return;
    for (int i = 0; i < 4; i++) t->acc[i] = file_f64(file, path, "train.state", (uint64_t)i + 2);
    for (uint64_t i = 0; i + 1 < curve->count; i += 2)
        put_point(&t->curve, &t->n_curve, &t->room_curve, 2, file_f64(file, path, "train.curve", i),
                  file_f64(file, path, "train.curve", i + 1), 0);
    put(&t->samples, samples.p, samples.n);
    for (size_t i = 0, n = 0; i + 2 < stock->count; i += 3) { /* as many as there are samples */
        int marks = 0;
        while (n < samples.n && samples.p[n]) {
            if (samples.p[n] != 1 + marks && (samples.p[n] == 1 || samples.p[n] == 2)) break;
            marks = samples.p[n] == 1 ? 1 : samples.p[n] == 2 ? 0 : marks;
            n++;
        }
        if (marks || n >= samples.n || samples.p[n++]) args_die("%s: damaged: train.samples", path);
        put_point(&t->stock, &t->n_stock, &t->room_stock, 3, file_f64(file, path, "train.stock", i),
                  file_f64(file, path, "train.stock", i + 1), file_f64(file, path, "train.stock", i + 2));
    }
}

/* Of --lora, or of the checkpoint: rank and strength of the adapter, and its file's metadata. */
static void set_adapter(training *t, const command *c, const loaded *file, shape *s) {
    double rank = c->rank, alpha = c->alpha > 0 ? c->alpha : 2 * rank;
    if (c->resume && gpti_gguf_find(&file->g, "train.lora")) {
        rank = file_f64(file, t->checkpoint, "train.lora", 0);
        alpha = file_f64(file, t->checkpoint, "train.lora", 1);
        if (!(rank >= 1 && rank <= (double)s->width && rank == floor(rank) && alpha > 0 && alpha < 1e30))
            args_die("%s: damaged: train.lora", t->checkpoint);
    }
    if (rank < 1) return;
    if (t->opt[MUON] > 0) args_die("--muon: cannot be given with --lora: an adapter learns by AdamW");
    if (rank > (double)s->width) args_die("--lora: expected 1 to the width of the model, %u, got %g", (unsigned)s->width, rank);
    s->rank = (size_t)rank, s->scale = (float)(alpha / rank);
    t->adapter = adapter_metadata(c->name ? c->name : "adapter trained by train.c", alpha);
}

static void resume(training *t, const loaded *file) {
    const char *path = t->checkpoint;
    double step = file_f64(file, path, "train.state", 0);
    read_tensors(file, path, t->m, t->m->first, t->m->n_tensor, t->m->m, "adamw.m.");
    read_tensors(file, path, t->m, t->m->first, t->m->n_tensor, t->m->v, "adamw.v.");
    read_history(t, file);
    t->best = file_f64(file, path, "train.state", 1);
    if (!(step >= 0 && step <= 1e9 && step == floor(step)) || no_number(t->best))
        args_die("%s: damaged: train.state", path);
    if (file_f64(file, path, "train.text", 0) != (double)text_hash(t))
        args_die("%s: belongs to another text%s", path, t->pair ? ", or another --valid or --escape" : "");
    t->step = (size_t)step;
    if (t->step > opt_size(t, STEPS)) args_die("--steps: %u are done already", (unsigned)t->step);
    if (t->step == opt_size(t, STEPS))
        fprintf(stderr, "train: all %u steps are done; more --steps go on\n", (unsigned)t->step);
    t->has_checkpoint = 1;
    t->has_out = args_kind(t->out) == 'f';
    if (t->has_out) return;
    fprintf(stderr, "train: %s is missing: written from the checkpoint\n", t->out);
    t->best = t->valid.n > 1 ? validate(t, 1) : 0; /* the best model is lost: this one takes its place */
    save_out(t);
}

/* The --init model is the first candidate: what comes has to be better on the held-out text. */
static void start_from(training *t, const char *init) {
    int same = args_same(init, t->out);
    if (t->valid.n > 1) {
        t->best = validate(t, !same);
        if (!(t->best < LOSS_MAX)) args_die("%s: its loss on the held-out text is %g", init, t->best);
        fprintf(stderr, "the start: validation %.4f\n", t->best);
    }
    if (same) t->has_out = 1;
    else save_out(t);
}

/* Validation takes 2^17 tokens at most. Its loss per byte counts the bytes of what is predicted. */
static void limit_validation(training *t) {
    tokens *v = &t->valid;
    if (v->at) {
        while (v->n_pair && v->at[2 * v->n_pair] > 1 << 17) v->n_pair--;
        v->n = v->at[2 * v->n_pair];
    } else v->n = smaller(v->n, 1 << 17);
    v->bytes = 0;
    for (size_t i = 1, k = 0, n; i < v->n; i++) {
        while (v->at && i >= v->at[2 * k + 2]) k++;
        if (v->at && i < v->at[2 * k + 1]) continue;
        gpt_token_text(t->tokenizer, v->id[i], &n);
        v->bytes += n;
    }
}

static void put_words(buffer *b, const char *s) { put(b, s, strlen(s)); }

/* A text as a string of Jinja. */
static void put_quoted(buffer *b, const char *s) {
    for (put(b, "'", 1); *s; s++) {
        if (*s == '\'' || *s == '\\') put(b, "\\", 1);
        if (*s == '\n') put(b, "\\n", 2);
        else put(b, s, 1);
    }
    put(b, "'", 1);
}

/* How a model or an adapter that answers pairs was tuned: for classify.c and evaluate.c the form of a pair and the share of
 * the prompts that was held out by hash, 0 if otherwise. */
static void put_pair_metadata(metadata *m, const char *text, double held_out) {
    put_key(m, "train.held_out", KV_F64);
    put_bits(m, held_out);
    put_text(m, "train.template", text);
}

/* The chat template of such a model: the last message alone, as in training. */
static void put_pair_template(metadata *m, const tsv_template *form) {
    buffer b = {0};
    put_words(&b, "{{ ");
    put_quoted(&b, form->head);
    put_words(&b, " + messages[-1]['content'] + ");
    put_quoted(&b, form->middle);
    put_words(&b, " }}");
    put(&b, "", 1);
    put_text(m, "tokenizer.chat_template", (char *)b.p);
    free(b.p);
}

/* The texts of a run, as they are: TEXT, and what is held out of it or given by --valid. */
typedef struct texts {
    char *text, *valid; /* not of pairs */
    size_t n, n_valid;  /* of text, without what is held out; n_valid lies behind it where valid is NULL */
    tsv pairs, held_out;
    tsv_template form;
} texts;

static tsv read_pairs(const char *path, int escape) {
    tsv pairs = tsv_read(path, 2, "prompt TAB answer", escape);
    for (size_t i = 0; i < pairs.n; i++)
        if (!*pairs.row[i].cell[1]) args_die("%s: line %lu: the answer is empty", pairs.path, (unsigned long)pairs.row[i].line);
    return pairs;
}

static texts read_texts(training *t, const command *c, const loaded *file) {
    texts x;
    gpti_str saved;
    const char *form = NULL;
    memset(&x, 0, sizeof x);
    if (c->resume && gpti_gguf_str(&file->g, "train.pair", &saved)) {
        form = saved.p; /* a NUL stands behind it */
        t->column = (int)file_u32(file, "train.column", 0);
    } else if (c->tsv && !c->resume) form = c->pair ? c->pair : TSV_TEMPLATE;
    if (c->tsv != (form != NULL))
        args_die("%s: has learned from %s", t->checkpoint, form ? "pairs: --tsv" : "a text, not from pairs");
    if (form) {
        t->pair = strcpy((char *)allocate(strlen(form) + 1, 1), form);
        x.form = tsv_template_of(t->pair);
        x.pairs = read_pairs(c->text, c->escape);
        if (c->valid) {
            x.held_out = read_pairs(c->valid, c->escape);
            for (size_t i = 0; i < x.held_out.n; i++) x.held_out.row[i].part = TSV_HELD_OUT;
        } else if (!c->eval) {
            if (!c->resume && no_number(c->opt[HELD_OUT])) t->column = tsv_split(&x.pairs, -1);
            else if (t->column) tsv_split(&x.pairs, -1);
            if (!t->column) tsv_split(&x.pairs, t->opt[HELD_OUT]);
        }
        return x;
    }
    x.text = args_read(c->text, &x.n);
    if (x.n >= 4 && !memcmp(x.text, "GGUF", 4)) args_die("%s: a GGUF file, expected a text", c->text);
    if (c->valid) x.valid = args_read(c->valid, &x.n_valid);
    else if (!c->eval) {
        size_t all = x.n;
        x.n = split_at(x.text, all, t->opt[HELD_OUT]), x.n_valid = all - x.n;
    }
    return x;
}

/* What a vocabulary is learned from: the training part of the text, or of the pairs as one text. */
static metadata learned_metadata(const training *t, const command *c, const texts *x, shape *s) {
    metadata meta;
    buffer b = {0};
    if (!t->pair) return new_metadata(t, c, x->text, x->n, s);
    for (size_t i = 0; i < x->pairs.n; i++) {
        const tsv_row *row = &x->pairs.row[i];
        char *before = tsv_prompt(&x->form, row->cell[0]), *answer = tsv_answer(&x->form, row->cell[1]);
        if (row->part == TSV_TRAIN) {
            put(&b, before, strlen(before));
            put(&b, answer, strlen(answer));
            put(&b, end_of_text, sizeof end_of_text - 1);
        }
        free(before), free(answer);
    }
    meta = new_metadata(t, c, (char *)b.p, b.n, s);
    free(b.p);
    return meta;
}

static void encode_texts(training *t, const command *c, const texts *x, size_t context) {
    size_t n_long = 0, line = 0, max = (t->opt[CONTEXT_SIZE] > 0 ? opt_size(t, CONTEXT_SIZE) : context) + 1;
    if (!t->pair) {
        t->train = encode(t->tokenizer, x->text, x->n);
        t->valid = encode(t->tokenizer, x->valid ? x->valid : x->text + x->n, x->n_valid);
        return;
    }
    t->train = encode_pairs(t->tokenizer, &x->pairs, TSV_TRAIN, &x->form, max, &n_long, &line);
    t->valid = encode_pairs(t->tokenizer, c->valid ? &x->held_out : &x->pairs, TSV_HELD_OUT, &x->form, max, &n_long, &line);
    if (n_long)
        fprintf(stderr, "train: %u pair%s left out: longer than the context of %u tokens; the first in line %u\n",
                (unsigned)n_long, n_long > 1 ? "s are" : " is", (unsigned)max - 1, (unsigned)line);
    if (!t->train.n_pair) args_die("%s: no pairs to train on", c->text);
}

/* The adapter that is trained, or that --eval puts on the model. */
static void read_adapter(const training *t, const command *c, shape s, model **m) {
    loaded *f = load_gguf(c->adapter);
    gpti_str type;
    float alpha = 0;
    const gpti_tensor *a = gpti_gguf_tensor(&f->g, "blk.0.attn_qkv.weight.lora_a");
    model *base = *m;
    if (!gpti_gguf_str(&f->g, "adapter.type", &type) || type.n != 4 || memcmp(type.p, "lora", 4))
        args_die("%s: no adapter: adapter.type is not \"lora\"", c->adapter);
    if (!a || a->ne[1] < 1 || a->ne[1] > s.width) args_die("%s: no blk.0.attn_qkv.weight.lora_a that fits", c->adapter);
    gpti_gguf_f32(&f->g, "adapter.lora.alpha", &alpha);
    s.rank = (size_t)a->ne[1], s.scale = alpha > 0 ? alpha / (float)s.rank : 1.0f; /* as llama.cpp takes it */
    *m = model_new(s);
    memcpy((*m)->param + (*m)->n_train, base->param, base->n_param * sizeof(float)); /* the same places, behind it */
    read_tensors(f, c->adapter, *m, (*m)->first, (*m)->n_tensor, (*m)->param, "");
    model_make_room(*m, opt_size(t, BATCH), base->T);
    model_free(base), loaded_free(f);
}

int main(int argc, char **argv) {
    command c = parse_command(argc, argv);
    training t;
    shape s = {0};
    texts x;
    double start;
    char checkpoint[1024];
    const char *from = c.resume ? checkpoint : c.init;
    loaded *file = NULL;
    static int registered;
    int interrupted = 0;
    if (!registered) registered = !atexit(unlock_out); /* errors end the program anywhere */
    threads = (pool *)args_need(pool_new(c.threads));
    memset(&t, 0, sizeof t);
    t.best = DBL_MAX, t.out = c.out, t.checkpoint = checkpoint, t.stop = c.stop ? (size_t)c.stop : SIZE_MAX;
    t.report = c.report, t.text = c.text, t.init = c.init;
    if (snprintf(checkpoint, sizeof checkpoint, "%s.ckpt", c.out) >= (int)sizeof checkpoint - 8)
        args_die("%s: the name is too long", args_name("-o"));
    if (!c.eval) check_out(&c, checkpoint);
    if (from) file = load_gguf(from);
    set_options(&t, &c, file);
    x = read_texts(&t, &c, file);
    if (!c.eval && !c.resume) check_left_over(checkpoint);
    /* 1. vocabulary and shape: from a file, or learned from the training part of the text */
    if (file && gpti_gguf_tensor(&file->g, "output.weight"))
        fprintf(stderr, "train: %s: output.weight is left out: here the head is the token embedding\n", from);
    if (file) {
        s = file_shape(file, from);
        set_adapter(&t, &c, file, &s);
        check_width(&t, &c, s.width);
    }
    t.meta = file ? file_metadata(file, c.name, t.pair != NULL) : learned_metadata(&t, &c, &x, &s);
    if (t.pair) {
        const double held_out = c.valid || t.column ? 0 : t.opt[HELD_OUT];
        put_pair_template(&t.meta, &x.form);
        put_pair_metadata(&t.meta, t.pair, held_out);
        if (s.rank) put_pair_metadata(&t.adapter, t.pair, held_out);
    }
    /* 2. text to tokens */
    t.tokenizer = tokenizer_of(&t.meta);
    encode_texts(&t, &c, &x, s.context);
    free(x.text), free(x.valid), tsv_free(&x.pairs), tsv_free(&x.held_out), free(x.form.head);
    /* 3. the model */
    t.m = start_model(&t, &c, file, from, s);
    if (c.adapter) read_adapter(&t, &c, s, &t.m);
    settle_options(&t, &c);
    /* 4. the work */
    if (c.eval) report(t.m, &t.train, c.text);
    else {
        fprintf(stderr,
                "%u tokens, %u held out; vocabulary %u, %u layers, %u heads, width %u, context %u: %u parameters; %d "
                "threads\n",
                (unsigned)t.train.n, (unsigned)t.valid.n, (unsigned)s.vocab, (unsigned)s.layers, (unsigned)s.heads,
                (unsigned)s.width, (unsigned)t.m->T, (unsigned)t.m->n_param, thread_count());
        if (t.pair)
            fprintf(stderr, "%u pair%s, %u held out%s; %u step%s\n", (unsigned)t.train.n_pair,
                    t.train.n_pair == 1 ? "" : "s", (unsigned)t.valid.n_pair,
                    t.column ? " by column 3" : "", (unsigned)opt_size(&t, STEPS), opt_size(&t, STEPS) == 1 ? "" : "s");
        if (s.rank)
            fprintf(stderr, "an adapter of rank %u: %u parameters are trained\n", (unsigned)s.rank, (unsigned)t.m->n_train);
        limit_validation(&t);
        if (c.resume) resume(&t, file);
        if (file) loaded_free(file), file = NULL;
        if (c.init) start_from(&t, c.init);
        start = t.best;
        train(&t);
        interrupted = args_stopped && t.step < opt_size(&t, STEPS);
        if (t.step < opt_size(&t, STEPS))
            fprintf(stderr, "stopped; go on with: train %s -o %s --resume\n", c.text, c.out);
        else if (c.init && t.valid.n > 1 && t.best >= start)
            fprintf(stderr, "nothing better than the start; model in %s\n", c.out);
        else if (t.valid.n > 1) fprintf(stderr, "best validation loss %.4f nats/token; model in %s\n", t.best, c.out);
        else fprintf(stderr, "model in %s\n", c.out);
    }
    args_close_stdout();
    unlock_out();
    model_free(t.m);
    gpt_model_free(t.tokenizer);
    if (file) loaded_free(file);
    free(t.train.id), free(t.train.at), free(t.valid.id), free(t.valid.at), free(t.meta.bytes.p), free(t.adapter.bytes.p);
    free(t.curve), free(t.stock), free(t.samples.p), free(t.pair);
    pool_free(threads);
    threads = NULL;
    return interrupted ? 128 + args_stopped : 0; /* as a shell reports a program that a signal ended: 130 for Ctrl-C */
}
