/* Continues a text: the command-line tool. Prompt and text go to stdout and nothing else does. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: generate -m MODEL -p PROMPT [options]\n\n"
    "Prints the prompt and goes on from there until the model ends the text, the context is full, a --stop\n"
    "string comes up or Ctrl-C is pressed. The same seed gives the same text, on every machine.";

typedef struct {                /* what the hooks need to know */
    const char   *prompt;       /* echoed ahead of the first piece, or "" */
    int           apart;        /* on a line of its own: the model answers a text, it does not continue it */
    args_progress progress;     /* of reading the prompt                  */
    double        first;        /* when the first piece came, 0 before    */
} output;

static int print(void *user, const char *text, size_t n) {
    output *o = (output *)user;
    if (o->first == 0) {
        o->first = args_seconds();
        args_progress_end(&o->progress);
        args_print(o->prompt, strlen(o->prompt));
        if (o->apart) args_print("\n", 1);
    }
    return args_print(text, n);
}

static gpt_poll ask(void *user, size_t done, size_t total) {
    output *o = (output *)user;
    if (o->first == 0) args_progress_show(&o->progress, "reading the prompt", (double)done, (double)total);
    return args_poll(NULL, done, total);
}

/* An empty prompt has nothing to go on from but the token that begins a text, where the file names one. */
static void begin_text(const gpt_model *m, gpt_session *s) {
    gpt_model_info info;
    gpt_error err;
    gpt_model_info_get(m, &info);
    if (info.bos >= 0 && gpt_eval(s, &info.bos, 1, &err) && !args_stopped) args_die("%s", err.msg);
}

static void report(const gpt_session *s, uint64_t seed, double load, double prompt, double text) {
    static const char *const why[] = { "nothing generated", "the model ended the text", "a stop string came up",
                                       "-n tokens reached", "the context is full", "interrupted" };
    gpt_session_info info;
    gpt_session_info_get(s, &info);
    fprintf(stderr, "load %.2f s; prompt %lu tokens", load, (unsigned long)info.n_prompt);
    if (prompt > 0) fprintf(stderr, ", %.1f tok/s", (double)info.n_prompt / prompt);
    fprintf(stderr, "; text %lu tokens", (unsigned long)info.n_generated);
    if (text > 0 && info.n_generated > 1) fprintf(stderr, ", %.1f tok/s", (double)(info.n_generated - 1) / text);
    fprintf(stderr, "; %s; seed %llu, kernels %s, %d threads, context %lu, %.1f MiB\n",
            info.finish <= GPT_FINISH_HOST ? why[info.finish] : "", (unsigned long long)seed, info.kernels,
            args_threads(&info), (unsigned long)info.n_ctx, (double)info.bytes / 1048576);
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    const char *text = NULL, *file = NULL;
    int ignore_eos = 0, special = 0, no_prompt = 0;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt", ARG_TEXT,  &text,       "TEXT", "the text to continue, \"\" begins one; - or none: read from stdin" },
        { "-f, --file",   ARG_TEXT,  &file,       "FILE", "a file with that text (its last line end is dropped)" },
        ARGS_SAMPLING(sampling, "seed (default 0); -1 = from the clock"),
        { "--ignore-eos", ARG_FLAG,  &ignore_eos, "",     "go on after the model has ended the text" },
        { "--special",    ARG_FLAG,  &special,    "",     "let the prompt spell control tokens" },
        { "--no-display-prompt", ARG_FLAG, &no_prompt, "", "print the new text alone" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_session_params session;
    gpt_model *m;
    gpt_session *s = NULL;
    gpt_error err;
    gpt_result result = GPT_OK;
    size_t n;
    char *prompt;
    output o = { "", 0, { 0, 0, 0, 0 }, 0 };
    gpt_model_info info;
    double begin, loaded, done;

    args_parse(argc, argv, "generate", table, about);
    params = args_generation(&sampling);
    params.special = special;
    params.ignore_end = ignore_eos;
    prompt = args_text(text, file, sampling.escape, &n);
    if (strlen(prompt) != n) args_die("the prompt holds a zero byte");
    if ((file || !text || !strcmp(text, "-")) && n && prompt[n - 1] == '\n') {
        prompt[--n] = 0;
        if (n && prompt[n - 1] == '\r') prompt[--n] = 0;
    }

    signal(SIGINT, args_on_interrupt);
    begin = args_seconds();
    m = args_load(&c, ARGS_WRITER);
    session = args_session(&c);
    session.hooks.poll = ask;
    session.hooks.poll_user = &o;
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    loaded = args_seconds();

    gpt_model_info_get(m, &info);
    o.prompt = no_prompt ? "" : prompt;
    o.apart = info.start >= 0 && *o.prompt;
    o.progress = args_progress_begin(&c);
    if (sampling.n_predict != 0) {
        if (!n) begin_text(m, s);
        result = gpt_generate(s, prompt, &params, print, &o, &err);
    }
    args_progress_end(&o.progress);
    if (result && result != GPT_E_CANCELLED) args_die("%s", err.msg);
    if (o.first == 0) print(&o, "", 0);         /* a text without a piece: the prompt has to appear all the same */
    if (isatty(1)) putchar('\n');
    args_close_stdout();
    done = args_seconds();
    if (args_chatty(&c)) report(s, params.sample.seed, loaded - begin, o.first - loaded, done - o.first);
    free(prompt);
    gpt_session_free(s);
    args_unload(&c, m);
    return args_stopped ? 130 : 0;              /* see args_interrupted */
}
