/* Many texts through one model at once, and texts as vectors, for embed.c and ask.c: sessions that share a work space take turns
 * at the texts, so that each pass has rows of several. Include it after args.h. */
#ifndef EMBED_H
#define EMBED_H

enum { MANY_SESSIONS = 16, MANY_MIB = 256 };    /* at most, together */

/* Begins step 0, 1 ... of text i, with gpt_eval_begin or the like; 0: the text has no more. */
typedef int (*many_begin)(void *user, gpt_session *s, size_t i, int step);

/* Texts 0 to n - 1, each in a session of n_ctx tokens behind the prefix (NULL: none). */
static inline void many_run(const args_common *c, const gpt_model *m, const gpt_session *prefix, uint32_t n_ctx, int no_logits,
                            size_t n, many_begin begin, void *user, const char *what) {
    gpt_session_params params;
    gpt_session *s[MANY_SESSIONS];
    size_t index[MANY_SESSIONS], n_session = 0, most, bytes, next = 0, done = 0, k;
    int step[MANY_SESSIONS];                    /* -1: it has no text */
    args_progress progress = args_progress_begin(c);
    gpt_work *w = args_work(c, m, &params);
    gpt_error err;
    params.prefix = prefix, params.n_ctx = n_ctx, params.no_logits = no_logits;
    bytes = gpt_session_bytes(m, &params);
    most = bytes ? ((size_t)MANY_MIB << 20) / bytes : 1;
    if (most > MANY_SESSIONS) most = MANY_SESSIONS;
    if (!most) most = 1;
    for (; n_session < most && n_session < n; n_session++) {
        if (gpt_session_new(&s[n_session], m, &params, &err)) args_die("%s", err.msg);
        step[n_session] = -1;
    }
    while (done < n) {
        gpt_result r;
        for (k = 0; k < n_session; k++) {       /* what is over goes on with its next step, or with another text */
            for (;;) {
                gpt_session_info info;
                gpt_session_info_get(s[k], &info);
                if (step[k] >= 0 && info.result == GPT_MORE) break;
                if (step[k] >= 0 && info.result)
                    args_die("%s: text %lu: error %d", what, (unsigned long)index[k] + 1, (int)info.result);
                if (step[k] < 0) {
                    if (next == n) break;
                    index[k] = next++;
                }
                if (begin(user, s[k], index[k], ++step[k])) continue;
                step[k] = -1;
                args_progress_show(&progress, what, (double)++done, (double)n);
            }
        }
        r = gpt_work_step(w, &err);
        if (args_stopped) args_interrupted(what, "");
        if (r < 0) args_die("%s", err.msg);
    }
    args_progress_end(&progress);
    for (k = 0; k < n_session; k++) gpt_session_free(s[k]);
    gpt_work_free(w);
}

/* Tokens that a text may have: what -c says, or what the model was trained for, at most 4096; and of an encoder, which takes
 * a text as a whole, at most 2048 where -b is not given. */
static inline size_t many_window(const args_common *c, const gpt_model *m) {
    gpt_model_info info;
    size_t n;
    gpt_model_info_get(m, &info);
    n = c->context ? (size_t)c->context : info.n_ctx < 4096 ? info.n_ctx : 4096;
    return info.encoder && !c->batch && n > 2048 ? 2048 : n;
}

/* ---- Texts as vectors ------------------------------------------------------------------------------------------------ */

typedef struct { const char *pooling, *query, *passage; } embed_options;

#define EMBED_OPTIONS(e) \
    { "--pooling",        ARG_TEXT, &(e).pooling, "TYPE", "mean, cls, last; default: as the file says, or mean" }, \
    { "--query-prefix",   ARG_TEXT, &(e).query,   "TEXT", "stands ahead of a query: \"query: \" (E5), \"search_query: \"" }, \
    { "--passage-prefix", ARG_TEXT, &(e).passage, "TEXT", "and of a passage: \"passage: \" (E5), \"search_document: \"" }

static inline gpt_pool embed_pool(const embed_options *e, const gpt_model *m) {
    static const char *const names[] = { "mean", "cls", "last" };
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    for (int i = 0; e->pooling && i < 3; i++) if (!strcmp(e->pooling, names[i])) return (gpt_pool)(GPT_POOL_MEAN + i);
    if (e->pooling) args_die("--pooling: expected mean, cls or last, got '%s'", e->pooling);
    return info.pool ? GPT_POOL_FILE : GPT_POOL_MEAN;
}

typedef struct { gpt_token **ids; size_t *n, n_embd; float *out; gpt_pool pool; } embed_job;

static inline int embed_begin(void *user, gpt_session *s, size_t i, int step) {
    embed_job *job = (embed_job *)user;
    gpt_eval_params params;
    gpt_error err;
    if (step || !job->n[i]) return 0;
    memset(&params, 0, sizeof params);
    params.embedding = job->out + i * job->n_embd;
    params.pool = job->pool;
    gpt_session_reset(s);
    if (gpt_eval_begin(s, job->ids[i], job->n[i], &params, &err)) args_die("text %lu: %s", (unsigned long)i + 1, err.msg);
    return 1;
}

/* n texts, each behind the prefix (NULL: nothing), as vectors [n, n_embd] of length 1 for the caller to free; of a text without
 * tokens it is 0. *n_cut (NULL is fine): texts that were longer than the model's window, and were cut. */
static inline float *embed_texts(const args_common *c, const gpt_model *m, const embed_options *e, const char *prefix,
                                 const char *const *text, size_t n, size_t *n_cut) {
    const size_t window = many_window(c, m);
    size_t longest = 1, which = 0, cut = 0, i;
    gpt_model_info info;
    embed_job job;
    gpt_model_info_get(m, &info);
    job.pool = embed_pool(e, m);
    job.n_embd = info.n_embd;
    job.ids = (gpt_token **)args_need(malloc((n + 1) * sizeof *job.ids));
    job.n = (size_t *)args_need(malloc((n + 1) * sizeof *job.n));
    job.out = (float *)args_need(calloc(n * info.n_embd + 1, sizeof *job.out));
    for (i = 0; i < n; i++) {
        const size_t a = prefix ? strlen(prefix) : 0, b = strlen(text[i]);
        char *both = (char *)args_need(malloc(a + b + 1));
        if (a) memcpy(both, prefix, a);
        memcpy(both + a, text[i], b + 1);
        job.ids[i] = args_tokenize(m, both, a + b, GPT_TOKENIZE_BOS, &job.n[i]);
        free(both);
        if (job.n[i] > window) {                /* an end token that the model wants stays at the end */
            const gpt_token last = job.ids[i][job.n[i] - 1];
            job.n[i] = window;
            if (gpt_token_is_control(m, last)) job.ids[i][window - 1] = last;
            cut++;
        }
        if (job.n[i] > longest) longest = job.n[i], which = i;
    }
    if (info.encoder && c->batch && longest > (size_t)c->batch) {
        size_t shown = strlen(text[which]);
        if (shown > 40) for (shown = 40; shown && ((unsigned char)text[which][shown] & 0xC0) == 0x80; shown--) {}
        args_die("%s: '%.*s%s' has %lu tokens, and %s takes a text as a whole: expected %lu or more, got %d",
                 args_name("-b"), (int)shown, text[which], text[which][shown] ? "..." : "", (unsigned long)longest, info.architecture,
                 (unsigned long)longest, c->batch);
    }
    many_run(c, m, NULL, (uint32_t)longest, 1, n, embed_begin, &job, "embedding");
    for (i = 0; i < n; i++) free(job.ids[i]);
    free(job.ids);
    free(job.n);
    if (n_cut) *n_cut = cut;
    return job.out;
}

typedef struct { double score; size_t index; } embed_hit;

static inline int embed_by_score(const void *a, const void *b) {
    const embed_hit *x = (const embed_hit *)a, *y = (const embed_hit *)b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);   /* the first of equals first */
}

/* The cosine of the query's vector with each of n, best first: an array for the caller to free. */
static inline embed_hit *embed_rank(const float *query, const float *vectors, size_t n, size_t n_embd) {
    embed_hit *hit = (embed_hit *)args_need(malloc((n + 1) * sizeof *hit));
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n_embd; j++) sum += (double)query[j] * (double)vectors[i * n_embd + j];
        hit[i].score = sum >= -2 ? sum : -2;    /* a model whose weights are no numbers gives none */
        hit[i].index = i;
    }
    qsort(hit, n, sizeof *hit, embed_by_score);
    return hit;
}

/* ---- Lines of a text -------------------------------------------------------------------------------------------------- */

/* The lines of a file, "-" is stdin, as strings in *text; both for the caller to free. */
static inline char **embed_lines(const char *path, char **text, size_t *n) {
    size_t size, room = 0;
    char **line = NULL, *p = *text = args_read(path, &size), *end = p + size;
    *n = 0;
    if (size >= 4 && !memcmp(p, "GGUF", 4)) args_die("%s: a GGUF file, expected a text", path);
    if (strlen(p) != size) {
        for (end = p + strlen(p), size = 1; p < end; p++) size += *p == '\n';
        args_die("%s: line %lu holds a zero byte", path, (unsigned long)size);
    }
    while (p < end) {
        char *stop = (char *)memchr(p, '\n', (size_t)(end - p)), *next;
        if (!stop) stop = end;
        next = stop + 1;
        if (stop > p && stop[-1] == '\r') stop--;
        *stop = 0;
        if (*n == room) line = (char **)args_need(realloc(line, (room = room ? 2 * room : 256) * sizeof *line));
        line[(*n)++] = p;
        p = next;
    }
    if (!*n) args_die("%s: the file is empty", path);
    return line;
}
static inline int embed_blank(const char *line) { return !line[strspn(line, " \t\r\v\f")]; }

#endif
