/* Talks with a model through its own chat template. Answers go to stdout as they come; earlier turns are not computed
 * again. Ctrl-C stops the answer, not the program. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "line.h"

static const char about[] =
    "usage: chat -m MODEL [options]\n\n"
    "One line is one message, as is a text that is pasted. A line that begins with / is a command:\n"
    "  /help          these commands\n"
    "  /regen         another answer to the last message\n"
    "  /reset         forget the conversation, keep the system message\n"
    "  /system TEXT   the same with a new system message; without TEXT: none\n"
    "  /save FILE     write the conversation to a text file\n"
    "  /load FILE     go on from such a file\n"
    "  /quit          the end (so is the end of the input, Ctrl-D)\n"
    "Ctrl-C stops an answer that is being written; twice between answers it ends the program.\n"
    "For line editing and a history: rlwrap -a chat -m MODEL";

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
    c->item[c->n].json = NULL;
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
    return args_print(text, n);
}

/* What the model thinks before it answers is shown, dimmed on a terminal, and not kept. */
static int thought(void *user, const char *text, size_t n) {
    (void)user;
    if (isatty(2)) fprintf(stderr, "\033[2m%.*s\033[0m", (int)n, text);
    else fwrite(text, 1, n, stderr);
    return 0;
}

/* A conversation as a file: each message is a line "ROLE:" and its own lines, a tab ahead of each. */
static int save(const conversation *c, const char *path) {
    args_out out;
    size_t i, n;
    args_out_begin(&out, path);
    for (i = 0; i < c->n; i++) {
        const char *line = c->item[i].content;
        args_out_put(&out, c->item[i].role, strlen(c->item[i].role));
        args_out_put(&out, ":\n", 2);
        for (; ; line += n + 1) {
            n = strcspn(line, "\n");
            args_out_put(&out, "\t", 1);
            args_out_put(&out, line, n);
            args_out_put(&out, "\n", 1);
            if (!line[n]) break;
        }
    }
    return args_out_end(&out);
}

/* The conversation of such a file in place of c; 0, and c as it was, where the file is none. */
static int load(conversation *c, char *text) {
    static const char *const roles[] = { "system", "user", "assistant" };
    conversation got = { NULL, 0, 0 };
    while (*text) {
        size_t i, n_role = strcspn(text, ":\n"), n = 0;
        char *content;
        for (i = 0; i < 3 && (strlen(roles[i]) != n_role || memcmp(text, roles[i], n_role)); i++) {}
        text += n_role;
        if (i == 3 || strncmp(text, ":\n\t", 3)) { drop(&got, 0); free(got.item); return 0; }
        for (content = text += 2; *text == '\t'; text += *text == '\n') {       /* moves the lines together, without tabs */
            for (text++; *text && *text != '\n'; ) content[n++] = *text++;
            content[n++] = '\n';
        }
        add(&got, roles[i], content, n - 1);
    }
    drop(c, 0);
    free(c->item);
    *c = got;
    return 1;
}

/* Ctrl-C: stops the answer; between answers the second in a row ends the program. */
static volatile sig_atomic_t answering;
static void interrupted(int sig) {
    signal(sig, args_stopped && !answering ? SIG_DFL : interrupted);
    if (args_stopped && !answering) { line_restore(); raise(sig); }
    args_stopped = 1;
}

static int failed;      /* some message had no answer */

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
        failed = 1;
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

static void load_file(conversation *c, const char *path) {
    size_t n;
    char *text = args_read(path, &n);
    if (n != strlen(text) || !load(c, text))
        fprintf(stderr, "%s: not a conversation that /save wrote: expected lines 'user:' and others that begin with a tab\n",
                path);
    else fprintf(stderr, "[%lu messages]\n", (unsigned long)c->n);
    free(text);
}

/* Does what the line says; 0 is the end. */
static int obey(const char *line, gpt_session *s, conversation *c, const gpt_chat_params *chat, gpt_generate_params *params,
                int chatty) {
    int has_system = c->n && !strcmp(c->item[0].role, "system"), error;
    if (!line[strspn(line, " \t")]) return 1;       /* nothing was said */
    if (*line != '/' || strchr(line, '\n')) {
        add(c, "user", line, strlen(line));
        reply(s, c, chat, params, chatty);
    } else if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) {
        return 0;
    } else if (!strcmp(line, "/help")) {
        fprintf(stderr, "%s\n", about);
    } else if (!strncmp(line, "/save ", 6) && line[6]) {
        error = save(c, line + 6);
        if (error) fprintf(stderr, "%s: %s\n", line + 6, strerror(error));
        else fprintf(stderr, "[%lu messages saved]\n", (unsigned long)c->n);
    } else if (!strncmp(line, "/load ", 6) && line[6]) {
        FILE *f = args_kind(line + 6) == 'f' ? fopen(line + 6, "rb") : NULL;
        if (f) fclose(f);
        if (!f) fprintf(stderr, "%s: there is no such file\n", line + 6);
        else load_file(c, line + 6);
    } else if (!strcmp(line, "/save") || !strcmp(line, "/load") || !strcmp(line, "/save ") || !strcmp(line, "/load ")) {
        fprintf(stderr, "%.5s needs a file\n", line);
    } else if (!strcmp(line, "/reset")) {
        restart(c, has_system ? c->item[0].content : "");
        if (isatty(2)) fputs("[conversation forgotten]\n", stderr);
    } else if (!strncmp(line, "/system", 7) && (!line[7] || line[7] == ' ')) {
        restart(c, line + 7 + (line[7] == ' '));
        if (isatty(2)) fputs("[conversation forgotten]\n", stderr);
    } else if (!strcmp(line, "/regen")) {
        if (c->n && !strcmp(c->item[c->n - 1].role, "assistant")) drop(c, c->n - 1);
        if (!c->n || strcmp(c->item[c->n - 1].role, "user")) { fputs("there is no message to answer\n", stderr); return 1; }
        params->sample.seed++;
        reply(s, c, chat, params, chatty);
    } else {
        fprintf(stderr, "unknown command %s: /help lists them\n", line);
    }
    return 1;
}

/* Why there is no way to write a message for this model: the library's words, with the options of this program. */
static void no_template(const gpt_error *err, const gpt_chat_params *chat) {
    const char *why = strncmp(err->msg, "chat: ", 6) ? err->msg : err->msg + 6;
    int end = (int)strcspn(why, ";");
    if (chat->user && !chat->assistant) args_die("--assistant-turn TEXT is needed beside --user-turn");
    if (chat->assistant && !chat->user) args_die("--user-turn TEXT is needed beside --assistant-turn");
    if (err->code != GPT_E_UNSUPPORTED) args_die("%s", why);
    args_die("--chat-template NAME, or --user-turn TEXT and --assistant-turn TEXT, is needed: %.*s", end, why);
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    gpt_chat_params chat = { 0 };
    const char *system = "", *first = NULL, *template_file = NULL;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt",    ARG_TEXT, &first,          "TEXT", "the first message" },
        { "-sys, --system-prompt, --system", ARG_TEXT, &system, "TEXT", "the system message" },
        { "--chat-template", ARG_TEXT, &chat.family, "NAME",
          "a known template (chatml, llama3, ...) or a Jinja text; default: the file's" },
        { "--chat-template-file", ARG_TEXT, &template_file, "FILE", "a Jinja template in a file" },
        { "--chat-template-kwargs", ARG_TEXT, &chat.variables, "JSON", "what the template finds, as {\"enable_thinking\": false}" },
        { "--user-turn",     ARG_TEXT, &chat.user,      "TEXT", "a user turn, with {text} where the message stands" },
        { "--assistant-turn", ARG_TEXT, &chat.assistant, "TEXT", "an assistant turn likewise" },
        { "--generation",    ARG_TEXT, &chat.generation, "TEXT", "what the answer goes on from" },
        ARGS_SAMPLING(sampling, "seed; -1 = from the clock (default)"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_session_params session;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    gpt_message probe = { "user", "", NULL };
    conversation talk = { NULL, 0, 0 };
    char date[16], *line, *jinja = NULL;
    time_t now = time(NULL);
    size_t n;
    int go_on = 1;

    sampling.seed = -1;
    args_parse(argc, argv, "chat", table, about);
    if (sampling.n_predict == 0) args_die("%s: expected -1, or 1 or more, got 0", args_name("-n"));
    params = args_generation(&sampling);
    if (localtime(&now) && strftime(date, sizeof date, "%Y-%m-%d", localtime(&now))) chat.date = date;

    if (template_file) chat.jinja = jinja = args_read(template_file, &n);
    if (chat.family && (strstr(chat.family, "{{") || strstr(chat.family, "{%"))) { chat.jinja = chat.family; chat.family = NULL; }
    params.think = thought;

    signal(SIGINT, interrupted);
    line_begin();
    m = args_load(&c, ARGS_WRITER);
    if (gpt_chat_format(m, &probe, 1, &chat, NULL, 0, &n, &err)) no_template(&err, &chat);
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    if (args_chatty(&c) && isatty(0)) {
        const char *which = chat.family ? chat.family : chat.jinja || (chat.user && chat.assistant) ? "your own" : "the file's";
        fprintf(stderr, "template: %s; /help says more, /quit ends\n", which);
    }
    restart(&talk, system);
    if (first && *first) {
        line = args_text(first, NULL, sampling.escape, &n);
        if (isatty(0)) printf("> %s\n", line);
        add(&talk, "user", line, n);
        reply(s, &talk, &chat, &params, args_chatty(&c));
        free(line);
    }
    while (go_on && (line = line_read("> ", "(Ctrl-C once more, or /quit, ends the program)")) != NULL) {
        go_on = obey(line, s, &talk, &chat, &params, args_chatty(&c));
        free(line);
    }
    line_restore();
    drop(&talk, 0);
    free(talk.item);
    free(jinja);
    gpt_session_free(s);
    args_unload(&c, m);
    return failed && !isatty(0);        /* who talks has read it; a script looks at the status */
}
