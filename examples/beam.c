/* Several ways to go on from one text. Beam search: of all texts the few likeliest so far go on, until nothing that is open can
 * become better than what has ended. With --draw: so many texts drawn at random, all in one batch. The prompt is computed once: it is
 * a frozen session that every other one begins with. (Sutskever 2014, section 3.2; length penalty: Wu 2016, section 7, its
 * simpler form log p / n^A) */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include <math.h>

static const char about[] =
    "usage: beam -m MODEL -p TEXT [-w N] [-n TOKENS] [options]\n"
    "       beam -m MODEL -p TEXT --draw [-w N] [--seed S] [sampling options]\n\n"
    "Writes the N likeliest texts that go on from TEXT, as far as a search by beams finds them, or N drawn at random.\n"
    "Each comes with its log-probability by token and in all, likeliest first.";

enum { MOST_WIDTH = 64 };

/* A text: what has come behind the prompt. */
typedef struct { gpt_session *s; gpt_token *token; size_t n; double logprob; int ended; } beam;
typedef struct { size_t from; gpt_token token; double logprob; } way;

static double score(const beam *b, double power) { return b->n ? b->logprob / pow((double)b->n, power) : 0; }

static int better_way(const void *a, const void *b) {
    const way *x = (const way *)a, *y = (const way *)b;
    if (x->logprob != y->logprob) return x->logprob > y->logprob ? -1 : 1;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

typedef struct {
    const gpt_model   *m;
    gpt_work          *work;
    gpt_session_params session;         /* of a beam */
    gpt_session       *prompt;
    size_t             n_prompt, most, width;
    double             power;
} search;

/* What waits is computed. */
static void compute(const search *a) {
    gpt_error err;
    gpt_result r;
    while ((r = gpt_work_step(a->work, &err)) == GPT_MORE) {}
    if (r && args_stopped) args_interrupted("writing", "");
    if (r) args_die("%s", err.msg);
}

static void start(search *a, const args_common *c, const char *text, size_t n_text) {
    gpt_model_info info;
    gpt_error err;
    size_t room;
    gpt_token *ids = args_tokenize(a->m, text, n_text, GPT_TOKENIZE_BOS, &a->n_prompt);
    gpt_model_info_get(a->m, &info);
    if (!a->n_prompt && info.bos >= 0) ids[a->n_prompt++] = info.bos;
    if (!a->n_prompt) args_die("the prompt has no token, and the model begins its texts with none");
    room = c->context ? (size_t)c->context : c->beyond ? (size_t)-1 : info.n_ctx;
    if (a->n_prompt >= room) args_die("the prompt has %lu tokens, the context %lu", (unsigned long)a->n_prompt, (unsigned long)room);
    if (a->most > room - a->n_prompt) a->most = room - a->n_prompt;
    a->work = args_work(c, a->m, &a->session);
    a->session.n_ctx = (uint32_t)a->n_prompt;
    if (gpt_session_new(&a->prompt, a->m, &a->session, &err) || gpt_eval(a->prompt, ids, a->n_prompt, &err) ||
        gpt_session_freeze(a->prompt, &err)) {
        if (args_stopped) args_interrupted("reading the prompt", "");
        args_die("%s", err.msg);
    }
    a->session.prefix = a->prompt;
    a->session.n_ctx = (uint32_t)(a->n_prompt + a->most);
    free(ids);
}

static void make(const search *a, beam *b) {
    gpt_error err;
    memset(b, 0, sizeof *b);
    b->token = (gpt_token *)args_need(malloc(a->most * sizeof *b->token));
    if (gpt_session_new(&b->s, a->m, &a->session, &err)) args_die("%s", err.msg);
}

static void set(beam *b, const beam *from, gpt_token token, double logprob) {
    if (from->n) memcpy(b->token, from->token, from->n * sizeof *b->token);
    b->token[from->n] = token;
    b->n = from->n + 1;
    b->logprob = logprob;
}

/* The best of `done` and one more, at most `width` of them; done[i].s is not used. */
static size_t keep(const search *a, beam *done, size_t n, const beam *from, gpt_token token, double logprob, int ended) {
    beam *b = &done[n], t;
    size_t i;
    set(b, from, token, logprob);
    b->ended = ended;
    for (i = n; i > 0 && score(&done[i], a->power) > score(&done[i - 1], a->power); i--) { t = done[i]; done[i] = done[i - 1]; done[i - 1] = t; }
    return n < a->width ? n + 1 : n;
}

/* Returns how many texts `done` [width + 1] holds, best first. */
static size_t run_beams(search *a, const args_common *c, beam *done) {
    const size_t width = a->width, n_top = 2 * width;
    beam *now = (beam *)args_need(calloc(2 * width, sizeof *now)), *next = now + width, *swap;
    way *ways = (way *)args_need(malloc((width * n_top + 1) * sizeof *ways));
    gpt_logprob top[2 * MOST_WIDTH];
    args_progress progress = args_progress_begin(c);
    gpt_model_info info;
    gpt_error err;
    beam empty;
    size_t n_now = 0, n_done = 0, n_way, i, k, length;
    memset(&empty, 0, sizeof empty);
    gpt_model_info_get(a->m, &info);
    for (i = 0; i < 2 * width; i++) make(a, &now[i]);
    for (length = 0; length < a->most; length++) {
        size_t n_next = 0;
        for (i = n_way = 0; i < (length ? n_now : 1); i++) {
            gpt_session *s = length ? now[i].s : a->prompt;
            const size_t n = gpt_top(gpt_logits(s), info.n_vocab, n_top, top);
            for (k = 0; k < n; k++, n_way++) {
                ways[n_way].from = i;
                ways[n_way].token = top[k].token;
                ways[n_way].logprob = (length ? now[i].logprob : 0) + top[k].logprob;
            }
        }
        qsort(ways, n_way, sizeof *ways, better_way);
        for (k = 0; k < n_way && n_next < width && ways[k].logprob > -INFINITY; k++) {
            const beam *from = length ? &now[ways[k].from] : &empty;
            if (gpt_token_is_end(a->m, ways[k].token)) {
                if (k < width) n_done = keep(a, done, n_done, from, ways[k].token, ways[k].logprob, 1);
                continue;
            }
            set(&next[n_next], from, ways[k].token, ways[k].logprob);
            if (gpt_session_copy(next[n_next].s, length ? from->s : a->prompt, (size_t)-1, &err)) args_die("%s", err.msg);
            n_next++;
        }
        swap = now; now = next; next = swap;
        n_now = n_next;
        /* an open text becomes no likelier, but longer: at best its score is that at full length */
        if (!n_now || (n_done == width && now[0].logprob / pow((double)a->most, a->power) <= score(&done[width - 1], a->power))) {
            n_now = 0;
            break;
        }
        if (length + 1 == a->most) break;
        for (i = 0; i < n_now; i++) if (gpt_eval_begin(now[i].s, &now[i].token[length], 1, NULL, &err)) args_die("%s", err.msg);
        compute(a);
        args_progress_show(&progress, "searching", (double)length, (double)a->most);
    }
    for (i = 0; i < n_now; i++) {               /* cut by -n */
        now[i].n--;
        n_done = keep(a, done, n_done, &now[i], now[i].token[now[i].n], now[i].logprob, 0);
    }
    args_progress_end(&progress);
    if (now > next) { swap = now; now = next; next = swap; }
    for (i = 0; i < 2 * width; i++) { gpt_session_free(now[i].s); free(now[i].token); }
    free(now);
    free(ways);
    return n_done;
}

/* Texts drawn from seed, seed + 1, ..; then their probabilities, as the model has them: the filters do not count. */
static size_t run_draws(search *a, const gpt_generate_params *params, beam *done) {
    float *logprob = (float *)args_need(malloc(a->width * a->most * sizeof *logprob));
    gpt_generate_params p = *params;
    gpt_error err;
    size_t i, k, n;
    for (i = 0; i < a->width; i++) {
        make(a, &done[i]);
        if (gpt_begin(done[i].s, NULL, &p, NULL, NULL, &err)) args_die("%s", err.msg);
        p.sample.seed++;
    }
    compute(a);
    for (i = 0; i < a->width; i++) {
        beam *b = &done[i];
        gpt_session_info info;
        const gpt_token *text = gpt_session_tokens(b->s, &n);
        gpt_eval_params out;
        gpt_session_info_get(b->s, &info);
        b->ended = info.finish == GPT_FINISH_END || info.finish == GPT_FINISH_STOP;
        memset(&out, 0, sizeof out);
        out.logprob = logprob + i * a->most;
        b->n = n - a->n_prompt;
        memcpy(b->token, text + a->n_prompt, b->n * sizeof *text);
        gpt_session_reset(b->s);
        if (b->n && gpt_eval_begin(b->s, b->token, b->n, &out, &err)) args_die("%s", err.msg);
    }
    compute(a);
    for (i = 0; i < a->width; i++) for (k = 0; k < done[i].n; k++) done[i].logprob += logprob[i * a->most + k];
    for (i = 1; i < a->width; i++) for (k = i; k > 0 && score(&done[k], a->power) > score(&done[k - 1], a->power); k--) {
        const beam t = done[k];
        done[k] = done[k - 1];
        done[k - 1] = t;
    }
    free(logprob);
    return a->width;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    const char *text = NULL, *file = NULL;
    int width = 4, draw = 0;
    double power = 1;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt",   ARG_TEXT,  &text,  "TEXT", "the text to go on from; - or none: read from stdin" },
        { "-f, --file",     ARG_TEXT,  &file,  "FILE", "a file with it" },
        { "-w, --width",    ARG_COUNT, &width, "N",    "how many texts (4), at most 64" },
        { "--length-power", ARG_FLOAT, &power, "A",    "texts compare by log p / tokens^A (1); 0: by log p, which likes short ones" },
        { "--draw",         ARG_FLAG,  &draw,  "",     "draw the texts at random in place of a search" },
        ARGS_SAMPLING_N(sampling, "tokens to write at most (32)", "of the first text drawn (default 0); the others follow; -1 = from the clock"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_model *m;
    search a;
    beam *done;
    char *prompt;
    size_t n_text, n, i;

    sampling.n_predict = 32;
    args_parse(argc, argv, "beam", table, about);
    if (width < 1 || width > MOST_WIDTH) args_die("%s: expected 1 to %d, got %d", args_name("-w"), (int)MOST_WIDTH, width);
    if (sampling.n_predict < 1 || sampling.n_predict > INT_MAX) args_die("%s: expected 1 or more, got %lld", args_name("-n"), sampling.n_predict);
    args_within("--length-power", power, 0, 10);
    for (i = 0; !draw && i < (size_t)args_n_typed; i++) {
        const char *value = (const char *)args_typed[i].value, *from = (const char *)&sampling;
        const char *names = args_typed[i].names;
        if (value < from || value >= from + sizeof sampling || args_has(names, "-n") || args_has(names, "-e")) continue;
        args_die("%s: for --draw alone: a search takes the likeliest texts as they are", args_typed[i].typed);
    }
    params = args_generation(&sampling);
    if (!c.model) args_die("no model: -m FILE names one");
    prompt = args_text(text, file, sampling.escape, &n_text);
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, ARGS_WRITER);
    memset(&a, 0, sizeof a);
    a.m = m;
    a.width = (size_t)width;
    a.most = (size_t)sampling.n_predict;
    a.power = power;
    start(&a, &c, prompt, n_text);
    params.max_tokens = a.most;
    done = (beam *)args_need(calloc(a.width + 1, sizeof *done));
    if (!draw) for (i = 0; i <= a.width; i++) done[i].token = (gpt_token *)args_need(malloc(a.most * sizeof(gpt_token)));
    n = draw ? run_draws(&a, &params, done) : run_beams(&a, &c, done);
    for (i = 0; i < n; i++) {
        const size_t shown = done[i].n - (done[i].n && gpt_token_is_end(m, done[i].token[done[i].n - 1]));
        const size_t size = gpt_detokenize(m, done[i].token, shown, 0, NULL, 0);
        char *out = (char *)args_need(malloc(size + 1));
        gpt_detokenize(m, done[i].token, shown, 0, out, size + 1);
        printf("%.4f %.4f %s\n", score(&done[i], 1), done[i].logprob, done[i].ended ? "ended" : "open");
        args_print(out, size);
        printf("\n\n");
        free(out);
    }
    args_close_stdout();
    for (i = 0; i <= a.width; i++) { gpt_session_free(done[i].s); free(done[i].token); }
    free(done);
    free(prompt);
    gpt_session_free(a.prompt);
    gpt_work_free(a.work);
    args_unload(&c, m);
    return 0;
}
