/* Tokens per second of examples/train.c: against the plain loops of
 * examples/train_naive.c, and on 1, 2, .. threads. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
#define main train_main
#include "../examples/train.c"
#undef main
#include "train_oracle.h"

static void set_threads(int n) {
    pool_free(threads);
    threads = (pool *)args_need(pool_new(n));
}

/* Forward and backward of one batch, the best of `runs`, in tokens per second. */
static double speed(model *m, naive *z, const int32_t *token, const int32_t *target, int runs) {
    const noise none = {0, 0};
    double best = DBL_MAX;
    for (int i = 0; i < runs; i++) {
        double start = args_seconds();
        if (z) naive_loss(z, token, target, 1);
        else model_loss(m, token, target, none, 1);
        best = fmin(best, args_seconds() - start);
    }
    return (double)((z ? z->B * z->T : m->B * m->T)) / best;
}

int main(void) {
    static const shape shapes[] = {{2048, 4, 4, 128, 256, 1e-5f, 0, 0}, {1536, 5, 5, 160, 256, 1e-5f, 0, 0}};
    const size_t B = 8, T = 256;
    int32_t *token = (int32_t *)allocate(B * T, sizeof *token), *target = (int32_t *)allocate(B * T, sizeof *target);
    int all;
    const char *kernels = "plain C";
#ifdef HAVE_AVX2
    if (cpu_has_avx2()) kernels = "avx2";
#endif
    set_threads(0);
    all = thread_count();
    printf("kernels: %s; forward and backward of %u x %u tokens\n", kernels, (unsigned)B, (unsigned)T);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        model *m = model_new(shapes[i]);
        naive *z = naive_beside(m, 1, T);
        double one, plain;
        model_init(m, 1);
        model_make_room(m, B, T);
        for (size_t j = 0; j < B * T; j++) token[j] = target[j] = (int32_t)(random_at(7, j) % shapes[i].vocab);
        plain = speed(m, z, token, target, 2);
        set_threads(1);
        one = speed(m, NULL, token, target, 5);
        printf("%u layers of width %u, vocabulary %u: plain loops %.0f tok/s, 1 thread %.0f tok/s (%.1f x)",
               (unsigned)shapes[i].layers, (unsigned)shapes[i].width, (unsigned)shapes[i].vocab, plain, one,
               one / plain);
        for (int t = 2; t <= all && t <= 8; t *= 2) {
            double many;
            set_threads(t);
            many = speed(m, NULL, token, target, 5);
            printf(", %d threads %.0f tok/s (%.2f x)", t, many, many / one);
        }
        printf("\n");
        naive_end(z);
        set_threads(all);
        model_free(m);
    }
    pool_free(threads);
    free(token), free(target);
    return 0;
}
