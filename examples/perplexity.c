/* How well a model predicts a text: perplexity, and nats per token and per byte. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include <math.h>

static const char about[] =
    "usage: perplexity -m MODEL -f FILE [-c N] [--stride N] [--tail PERCENT]\n\n"
    "Method: the text is tokenised as a whole, <|endoftext|> and the like as control tokens. Windows of N tokens (-c)\n"
    "move over it by --stride tokens; each scores the tokens that no window before it has scored, so that every token\n"
    "is scored exactly once, with N - stride tokens or more ahead of it except in the first window. The very first\n"
    "token of the text has nothing ahead of it and is not scored. Models that want a BOS get it ahead of every window.\n"
    "ppl is exp of the mean over the scored tokens, +- its standard error. Nats per byte divide the sum by all bytes of\n"
    "the text, separators included: figures of different tokenizers can be compared.";

/* The last percent of the text, from the first document boundary there on (the separator itself is kept: it is what
 * lies ahead of the first document), or from the first line's end in a text that has none. */
static const char *tail(const char *text, size_t n, double percent) {
    static const char mark[] = "<|endoftext|>";
    const char *end = text + n, *from = end - (size_t)((double)n * percent / 100), *cut;
    if (percent >= 100) return text;
    for (cut = from; (size_t)(end - cut) >= sizeof mark - 1; cut++) {       /* zero bytes are text like any other */
        if (!memcmp(cut, mark, sizeof mark - 1)) return cut;
    }
    cut = (const char *)memchr(from, '\n', (size_t)(end - from));
    return cut ? cut + 1 : from;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    const char *prompt = NULL, *file = NULL, *text;
    int stride = 0;
    double percent = 100, sum = 0, squares = 0, mean, error;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-f, --file",   ARG_TEXT,  &file,    "FILE",    "the text; - or none: read from stdin" },
        { "-p, --prompt", ARG_TEXT,  &prompt,  "TEXT",    "the text itself" },
        { "--stride", ARG_COUNT, &stride,  "N",       "tokens from window to window; 0 = half the context (default)" },
        { "--tail",   ARG_FLOAT, &percent, "PERCENT",
          "only the end of the text, cut at a <|endoftext|> or, without one, a line's end (100)" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model *m;
    gpt_model_info model;
    gpt_session *s = NULL;
    gpt_session_params params;
    gpt_session_info info;
    gpt_error err;
    gpt_token *ids, *window;
    float *logprob;
    size_t n_text, n, n_bos, n_scored = 0, done = 1, width, begin;
    char *whole;
    args_progress progress;

    args_parse(argc, argv, "perplexity", table, about);
    if (!(percent > 0 && percent <= 100)) args_die("--tail: expected more than 0 and at most 100");
    whole = args_text(prompt, file, 0, &n_text);
    text = tail(whole, n_text, percent);
    n_text -= (size_t)(text - whole);
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, ARGS_WRITER);
    params = args_session(&c);
    if (gpt_session_new(&s, m, &params, &err)) args_die("%s", err.msg);
    gpt_session_info_get(s, &info);
    gpt_model_info_get(m, &model);
    if (model.start >= 0) args_die("an encoder reads the text, which gives it no probability; evaluate scores a decoder's answers");

    ids = args_tokenize(m, "", 0, GPT_TOKENIZE_BOS, &n_bos);    /* does this model want a BOS? */
    n_bos = n_bos > 0 && ids[0] == model.bos;
    free(ids);
    ids = args_tokenize(m, text, n_text, GPT_TOKENIZE_SPECIAL, &n);
    if (n < 2) args_die("the text has %lu token%s: two are the least that can be scored", (unsigned long)n, n ? "" : "s");
    width = info.n_ctx - n_bos;                                 /* tokens of the text in a window */
    if (info.n_ctx < 2 + n_bos) args_die("%s: a context of %lu tokens is too short", args_name("-c"), (unsigned long)info.n_ctx);
    if (!stride) stride = (int)((width + 1) / 2);
    if ((size_t)stride >= width) args_die("--stride: expected less than %lu", (unsigned long)width);
    window = (gpt_token *)args_need(malloc(info.n_ctx * sizeof *window));
    logprob = (float *)args_need(malloc(info.n_ctx * sizeof *logprob));

    progress = args_progress_begin(&c);
    for (begin = 0; done < n; begin += (size_t)stride) {        /* ids[done] is the next to be scored */
        size_t end = begin + width < n ? begin + width : n;
        if (n_bos) window[0] = model.bos;
        memcpy(window + n_bos, ids + begin, (end - begin) * sizeof *ids);
        gpt_session_reset(s);
        if (gpt_score(s, window, n_bos + end - begin, logprob, &err)) {
            if (args_stopped) args_interrupted("scoring", "");
            args_die("%s", err.msg);
        }
        for (; done < end; done++) {
            double nats = -(double)logprob[n_bos + done - begin];
            sum += nats;
            squares += nats * nats;
            n_scored++;
        }
        args_progress_show(&progress, "scoring", (double)done, (double)n);
    }
    args_progress_end(&progress);

    mean = sum / (double)n_scored;
    printf("ppl %.4f ", exp(mean));
    if (n_scored > 1) {
        error = sqrt(fmax(0, squares / (double)n_scored - mean * mean) / (double)(n_scored - 1));
        printf("+- %.4f ", exp(mean) * error);
    }
    printf("over %lu token%s\n", (unsigned long)n_scored, n_scored > 1 ? "s" : "");
    printf("%.4f nats per token, %.4f nats per byte over %lu bytes\n", mean, sum / (double)n_text, (unsigned long)n_text);
    args_close_stdout();
    free(window);
    free(logprob);
    free(ids);
    free(whole);
    gpt_session_free(s);
    args_unload(&c, m);
    return 0;
}
