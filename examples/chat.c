/* Talks with a model through its own chat template. Answers go to stdout as they come; earlier turns are not computed
 * again. Ctrl-C stops the answer, not the program. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: chat -m MODEL [options]\n\n"
    "One line is one message. A line that begins with / is a command:\n"
    "  /regen         another answer to the last message\n"
    "  /reset         forget the conversation, keep the system message\n"
    "  /system TEXT   the same with a new system message; without TEXT: none\n"
    "  /quit          the end (so is the end of the input)\n"
    "Ctrl-C stops an answer that is being written; twice between answers it ends the program.";

typedef struct { gpt_message *item; size_t n, max; } conversation;      /* owns the contents */

static void add(conversation *c, const char *role, const char *content, size_t n) {
    char *copy = (char *)args_need(malloc(n + 1));
    memcpy(copy, content, n);
    copy[n] = 0;
    if (c->n == c->max) {
        c->max = c->max ? 2 * c->max : 16;
        c->item = (gpt_message *)args_need(realloc(c->item, c->max * sizeof *c->item));
    }
    c->item[c->n].role = role;
    c->item[c->n++].content = copy;
}

static void drop(conversation *c, size_t keep) {
    while (c->n > keep) free((void *)(size_t)c->item[--c->n].content);
}

static void restart(conversation *c, const char *system) {
    char *copy = (char *)args_need(malloc(strlen(system) + 1));     /* it may be the one that is dropped */
    strcpy(copy, system);
    drop(c, 0);
    if (*copy) add(c, "system", copy, strlen(copy));
    free(copy);
}

typedef struct { char *text; size_t n, max; } answer;

static int take(void *user, const char *text, size_t n) {
    answer *a = (answer *)user;
    if (a->n + n > a->max) a->text = (char *)args_need(realloc(a->text, a->max = 2 * (a->n + n)));
    memcpy(a->text + a->n, text, n);
    a->n += n;
    return fwrite(text, 1, n, stdout) != n || fflush(stdout);
}

/* The next line without its end, NULL at the end of the input; the caller frees it. */
static char *read_line(void) {
    size_t n = 0, max = 256;
    char *line = (char *)args_need(malloc(max));
    int c;
    if (isatty(0)) { fputs("> ", stdout); fflush(stdout); }
    while ((c = getchar()) != EOF && c != '\n') {
        if (n + 1 == max) line = (char *)args_need(realloc(line, max *= 2));
        line[n++] = (char)c;
    }
    if (n && line[n - 1] == '\r') n--;
    line[n] = 0;
    if (c != EOF || n) return line;
    free(line);
    return NULL;
}

/* Ctrl-C: stops the answer; between answers the second in a row ends the program. */
static volatile sig_atomic_t answering;
static void interrupted(int sig) {
    signal(sig, args_stopped && !answering ? SIG_DFL : interrupted);
    if (args_stopped && !answering) raise(sig);
    args_stopped = 1;
}

/* Answers the last message and adds the answer to the conversation; what was said before Ctrl-C counts. */
static void reply(gpt_session *s, conversation *c, const gpt_chat_params *chat, gpt_generate_params *params, int chatty) {
    gpt_session_info info;
    gpt_error err;
    answer a = { NULL, 0, 0 };
    double begin = args_seconds(), seconds;
    args_stopped = 0;
    answering = 1;
    gpt_result r = gpt_chat(s, c->item, c->n, chat, params, take, &a, &err);
    answering = 0;
    if (a.n && a.text[a.n - 1] != '\n') putchar('\n');
    args_close_stdout();
    gpt_session_info_get(s, &info);
    if (r && r != GPT_E_CANCELLED) {
        fprintf(stderr, "%s%s\n", err.msg, r == GPT_E_CONTEXT ? " (/reset begins a new conversation)" : "");
        drop(c, c->n - 1);
    } else {
        if (info.finish == GPT_FINISH_CONTEXT) fputs("[the context is full: /reset begins a new conversation]\n", stderr);
        else if (args_stopped) fputs("[stopped]\n", stderr);
        args_stopped = 0;
        add(c, "assistant", a.n ? a.text : "", a.n);
        seconds = args_seconds() - begin;
        if (chatty && seconds > 0)
            fprintf(stderr, "[%lu tokens read, %lu written in %.1f s; %lu of %lu in use]\n", (unsigned long)info.n_prompt,
                    (unsigned long)info.n_generated, seconds, (unsigned long)info.n_token, (unsigned long)info.n_ctx);
    }
    free(a.text);
}

/* Does what the line says; 0 is the end. */
static int obey(const char *line, gpt_session *s, conversation *c, const gpt_chat_params *chat, gpt_generate_params *params, int chatty) {
    int has_system = c->n && !strcmp(c->item[0].role, "system");
    if (*line != '/') {
        add(c, "user", line, strlen(line));
        reply(s, c, chat, params, chatty);
    } else if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) {
        return 0;
    } else if (!strcmp(line, "/reset")) {
        restart(c, has_system ? c->item[0].content : "");
    } else if (!strncmp(line, "/system", 7) && (!line[7] || line[7] == ' ')) {
        restart(c, line + 7 + (line[7] == ' '));
    } else if (!strcmp(line, "/regen")) {
        if (c->n && !strcmp(c->item[c->n - 1].role, "assistant")) drop(c, c->n - 1);
        if (!c->n || strcmp(c->item[c->n - 1].role, "user")) { fputs("there is no message to answer\n", stderr); return 1; }
        params->sample.seed++;
        reply(s, c, chat, params, chatty);
    } else {
        fprintf(stderr, "unknown command %s: /regen, /reset, /system TEXT, /quit\n", line);
    }
    return 1;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    arg_list stop = { { 0 }, 0 };
    gpt_chat_params chat = { 0 };
    const char *system = "";
    long long n_predict = -1, seed = -1, last_n = 64;
    int top_k = 40;
    double temp = 0.8, top_p = 0.95, min_p = 0.05, repeat = 1;
    const arg table[] = {
        ARGS_COMMON(c),
        { "-sys", "--system",    ARG_TEXT,  &system,         "TEXT", "the system message" },
        { "",   "--template",    ARG_TEXT,  &chat.family,    "NAME", "chat template family (chatml, llama3, ...); default: the file's" },
        { "",   "--user-turn",   ARG_TEXT,  &chat.user,      "TEXT", "a user turn, with {text} where the message stands" },
        { "",   "--assistant-turn", ARG_TEXT, &chat.assistant, "TEXT", "an assistant turn likewise" },
        { "",   "--generation",  ARG_TEXT,  &chat.generation, "TEXT", "what the answer goes on from" },
        { "-n", "--n-predict",   ARG_INT,   &n_predict,      "N",    "tokens of an answer at most; -1 = no limit (default)" },
        { "-s", "--seed",        ARG_INT,   &seed,           "S",    "seed; -1 = from the clock (default)" },
        { "",   "--temp",        ARG_FLOAT, &temp,           "T",    "temperature (0.8); 0 = always the likeliest token" },
        { "",   "--top-k",       ARG_COUNT, &top_k,          "K",    "only the K likeliest tokens (40); 0 = off" },
        { "",   "--top-p",       ARG_FLOAT, &top_p,          "P",    "only the likeliest that sum to P (0.95); 1 = off" },
        { "",   "--min-p",       ARG_FLOAT, &min_p,          "P",    "only those of P times the likeliest one's (0.05); 0 = off" },
        { "",   "--repeat-penalty", ARG_FLOAT, &repeat,      "R",    "divides the logits of recent tokens; 1 = off (default)" },
        { "",   "--repeat-last-n", ARG_INT, &last_n,         "N",    "what counts as recent (64); -1 = the whole text" },
        { "",   "--stop",        ARG_LIST,  &stop,           "TEXT", "ends an answer and is not printed; may be repeated" },
        { NULL, NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_session_params session;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    gpt_message probe = { "user", "" };
    conversation talk = { NULL, 0, 0 };
    char date[16], *line;
    time_t now = time(NULL);
    size_t n;

    args_parse(argc, argv, "chat", table, about);
    if (n_predict < -1 || n_predict == 0) args_die("-n: expected -1, or 1 or more, got %lld", n_predict);
    if (temp < 0) args_die("--temp: expected 0 or more, got %g", temp);
    memset(&params, 0, sizeof params);
    params.max_tokens = n_predict > 0 ? (size_t)n_predict : 0;
    params.stop = stop.item;
    params.n_stop = stop.n;
    params.sample.temperature = temp > 0 ? (float)temp : 0;
    params.sample.top_k = top_k;
    params.sample.top_p = (float)top_p;
    params.sample.min_p = (float)min_p;
    params.sample.repeat_penalty = (float)repeat;
    params.sample.penalty_last_n = last_n < 0 ? -1 : (int)(last_n < INT_MAX ? last_n : INT_MAX);
    params.sample.seed = seed == -1 ? (uint64_t)now : (uint64_t)seed;
    if (localtime(&now) && strftime(date, sizeof date, "%Y-%m-%d", localtime(&now))) chat.date = date;

    m = args_load(&c, 0);               /* Ctrl-C ends the program until here */
    signal(SIGINT, interrupted);
    if (gpt_chat_format(m, &probe, 1, &chat, NULL, 0, &n, &err))
        args_die("%s%s", err.msg, err.code == GPT_E_UNSUPPORTED ? " (here: --template, or --user-turn and --assistant-turn)" : "");
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    if (args_chatty(&c) && isatty(0)) {
        const char *family = chat.family ? chat.family : chat.user && chat.assistant ? "your own" : gpt_chat_family(m);
        fprintf(stderr, "template: %s; /quit ends, --help says more\n", family ? family : "");
    }
    restart(&talk, system);
    while ((line = read_line()) != NULL) {
        int go_on = obey(line, s, &talk, &chat, &params, args_chatty(&c));
        free(line);
        if (!go_on) break;
    }
    drop(&talk, 0);
    free(talk.item);
    gpt_session_free(s);
    gpt_model_free(m);
    return 0;
}
