/* examples/train_naive.c as the oracle of examples/train.c and the yardstick of its speed: included after
 * train.c. */
#ifndef TRAIN_ORACLE_H
#define TRAIN_ORACLE_H
#define NAIVE_NO_MAIN
#include "../examples/train_naive.c"

/* The plain loops on the weights of m, and with its gradients in the same order: z->g as m->grad. Its
 * weights are read, its gradients are not touched. */
static naive *naive_beside(const model *m, size_t B, size_t T) {
    static const int front[FRONT] = { TOKEN_EMBD, POSITION_EMBD, OUTPUT_NORM_W, OUTPUT_NORM_B };
    static const int block[BLOCK] = { ATTN_NORM_W, ATTN_NORM_B, QKV_W, QKV_B, ATTN_OUT_W, ATTN_OUT_B,
                                      FFN_NORM_W, FFN_NORM_B, UP_W, UP_B, DOWN_W, DOWN_B };
    naive *z = (naive *)allocate(1, sizeof *z);
    z->B = B, z->T = T, z->C = m->s.context, z->V = m->s.vocab, z->D = m->s.width, z->H = m->s.heads;
    z->L = m->s.layers, z->eps = m->s.eps;
    z->w = m->param, z->n_param = m->n_param;
    z->at = (size_t *)allocate(FRONT + z->L * BLOCK, sizeof *z->at);
    for (size_t i = 0; i < FRONT; i++) z->at[i] = m->tensors[front[i]].at;
    for (size_t l = 0; l < z->L; l++)
        for (size_t i = 0; i < BLOCK; i++) z->at[FRONT + l * BLOCK + i] = param_at(m, l, block[i]);
    naive_room(z);
    return z;
}

/* Every tensor of the plain loops is as large as train.c's of that place. */
static inline int naive_same_sizes(const naive *z, const model *m) {
    for (size_t i = 0; i < FRONT + z->L * BLOCK; i++)
        for (size_t j = 0; j < m->n_tensor; j++)
            if (m->tensors[j].at == z->at[i] && m->tensors[j].n != naive_size(z, i)) return 0;
    return 1;
}

static void naive_end(naive *z) { naive_free(z), free(z); }

#endif
