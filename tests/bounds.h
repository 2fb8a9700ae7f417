/* What gpt.h and README.md promise about memory and messages, once for the tests and the fuzzers. */
#ifndef BOUNDS_H
#define BOUNDS_H

enum {
    BOUND_TEXT = 240, BOUND_TEXT_MORE = 1 << 10,    /* taking a text apart: times its bytes, and more */
    BOUND_SESSION_MORE = 5 << 20,                   /* of a session, whatever the model */
    BOUND_THREAD = 221 << 10                        /* of a session, for each thread */
};

/* A message consists of printable ASCII where no path is part of it, and is never empty. */
static inline int is_message(const char *s) {
    size_t n = 0;
    for (; s[n]; n++) if (s[n] < ' ' || s[n] > '~') return 0;
    return n > 0;
}

#ifdef GPT_IMPLEMENTATION
/* A session is at most 8 (n_batch + 8) times the file, n_ctx rows of the cache, and a constant. params must set n_threads. */
static inline double session_bound(const gpt_model *m, uint64_t file_bytes, const gpt_session_params *p) {
    double n_ctx = p->n_ctx ? p->n_ctx : m->hp.n_ctx < 4096 ? m->hp.n_ctx : 4096, n_batch = gpti_n_batch(m, p->n_batch);
    double row = sizeof(gpt_token);
    uint32_t i;
    for (i = 0; i < m->hp.n_layer; i++) {
        const gpti_cache_shape x = gpti_cache_shape_of(m, i, p->kv);
        row += (double)x.n_head * (double)(x.k_bytes + x.v_bytes);
    }
    if (n_batch > n_ctx) n_batch = n_ctx;
    return 8 * (n_batch + 8) * (double)file_bytes + (n_ctx + 15) * row + BOUND_SESSION_MORE + (double)p->n_threads * BOUND_THREAD;
}
#endif

#endif
