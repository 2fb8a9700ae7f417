/* A command of a game from a sentence: what the model writes is JSON of a schema, or of a grammar, whatever model it is. With
 * --check it looks at a text instead, and needs no model. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: json -m MODEL [--schema FILE | --grammar FILE | --json] -p TEXT [options]\n"
    "       json [--schema FILE | --grammar FILE | --json] --check TEXTFILE\n\n"
    "Answers TEXT through the model's chat template, or goes on from it where the model has none, in the form that\n"
    "is asked for: of a JSON schema, of a grammar in llama.cpp's notation (GBNF), any JSON, or, without a form, a\n"
    "command of a game with action, target and amount. The answer alone goes to stdout, and it is whole.\n\n"
    "exit status: 0 done; 3 --no-finish let the answer be cut; 2 schema or grammar do not compile, stderr says which\n"
    "path or rule. With --check: 0 the whole text is of the form; 1 it is not, stdout says at which byte.";

/* The form where none is asked for, and what the model is told of it; who asks for another form says so in the prompt. */
static const char command[] =
    "{ \"type\": \"object\", \"additionalProperties\": false, \"required\": [\"action\", \"target\", \"amount\"], \"properties\": {"
    "  \"action\": { \"enum\": [\"go\", \"look\", \"take\", \"drop\", \"give\", \"use\", \"talk\", \"attack\"] },"
    "  \"target\": { \"type\": \"string\", \"minLength\": 1, \"maxLength\": 40 },"
    "  \"amount\": { \"type\": \"integer\", \"minimum\": 1, \"maximum\": 99 } } }";
static const char ask_for_command[] =
    "Turn what the player says into a command of the game, as JSON with action (go, look, take, drop, give, use, talk or "
    "attack), target and amount. The player says: ";

/* A file's text for the library, which takes it up to its first zero byte: there must be none. The caller frees it. */
static char *source(const char *path) {
    size_t n;
    char *text = args_read(path, &n);
    if (strlen(text) != n) args_die("%s: a zero byte at %lu, expected text", path, (unsigned long)strlen(text));
    return text;
}

static void compile(gpt_constraint **out, const gpt_model *m, const gpt_constraint_params *params, const char *file) {
    gpt_error err;
    if (!gpt_constraint_new(out, m, params, &err)) return;
    if (err.code == GPT_E_MEMORY) args_die("%s", err.msg);
    fprintf(stderr, "%s: %s%s%s\n", args_program, file ? file : "", file ? ": " : "", err.msg);
    exit(2);
}

/* Is the file's text of the form? Without a model. */
static int check(const gpt_constraint *c, const char *path) {
    gpt_error err;
    size_t n, at = 0;
    char *text = args_read(path, &n);
    const gpt_result r = gpt_constraint_check(c, text, n, &at, &err);
    free(text);
    if (!r) return 0;
    if (r != GPT_MORE && r != GPT_E_REFUSED) args_die("%s: %s", path, err.msg);
    if (r == GPT_MORE) at = n;
    printf("%lu\n", (unsigned long)at);
    args_close_stdout();
    fprintf(stderr, "%s: %s: byte %lu: %s\n", args_program, path, (unsigned long)at,
            r == GPT_MORE ? "the text ends too early" : "cannot stand there");
    return 1;
}

static int print(void *user, const char *text, size_t n) { (void)user; return args_print(text, n); }
static int ignore(void *user, const char *text, size_t n) { (void)user; (void)text; (void)n; return 0; }

/* The thinking part of an answer is no part of its form, and is not printed. */
static gpt_result answer(const gpt_model *m, gpt_session *s, const char *before, const char *text, const gpt_chat_params *chat,
                         gpt_generate_params *params, gpt_error *err) {
    gpt_message message = { "user", "", NULL };
    gpt_model_info info;
    gpt_result r;
    char *content;
    gpt_model_info_get(m, &info);
    if (!chat->family && !*info.chat_template) return gpt_generate(s, text, params, print, NULL, err);
    content = (char *)args_need(malloc(strlen(before) + strlen(text) + 1));
    message.content = strcat(strcpy(content, before), text);
    params->think = ignore;
    r = gpt_chat(s, &message, 1, chat, params, print, NULL, err);
    free(content);
    return r;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    const char *text = NULL, *file = NULL, *schema = NULL, *grammar = NULL, *checked = NULL, *form;
    int json = 0, no_finish = 0, cut;
    gpt_chat_params chat = { 0 };
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt",  ARG_TEXT, &text,      "TEXT", "the sentence; - or none: read from stdin" },
        { "-f, --file",    ARG_TEXT, &file,      "FILE", "a file with it" },
        { "--schema",      ARG_TEXT, &schema,    "FILE", "the answer is JSON of this schema; keywords that gpt.h does not know are errors" },
        { "--grammar",     ARG_TEXT, &grammar,   "FILE", "the answer is what the rule root of this grammar (GBNF) takes" },
        { "--json",        ARG_FLAG, &json,      "",     "the answer is any JSON value" },
        { "--check",       ARG_TEXT, &checked,   "FILE", "no answer: is the text of this file of the form? - is stdin" },
        { "--no-finish",   ARG_FLAG, &no_finish, "",     "let -n cut the answer, with exit status 3; else it takes a short end in time" },
        { "--chat-template", ARG_TEXT, &chat.family, "NAME", "chat template family; default: the file's template" },
        ARGS_SAMPLING_N(sampling, "tokens to write at most (256); -1 = no limit", "seed (default 0); -1 = from the clock"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_constraint_params how;
    gpt_generate_params params;
    gpt_session_params session;
    gpt_session_info info;
    gpt_constraint *constraint = NULL;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    gpt_result r;
    char *own = NULL, *prompt, date[16];
    time_t now = time(NULL);
    size_t n;

    sampling.n_predict = 256;
    args_parse(argc, argv, "json", table, about);
    if ((schema != NULL) + (grammar != NULL) + json > 1) args_die("--schema, --grammar and --json exclude each other");
    if (sampling.n_predict == 0) args_die("%s: expected -1, or 1 or more, got 0", args_name("-n"));
    form = schema ? schema : grammar;
    if (form) own = source(form);
    memset(&how, 0, sizeof how);
    how.json = json;
    how.gbnf = grammar ? own : NULL;
    how.schema = schema ? own : grammar || json ? NULL : command;
    if (checked) {
        int status;
        if (text || file || c.model) args_die("--check takes neither a model nor a prompt");
        compile(&constraint, NULL, &how, form);
        status = check(constraint, checked);
        gpt_constraint_free(constraint);
        free(own);
        return status;
    }

    params = args_generation(&sampling);
    params.must_finish = !no_finish;
    if (localtime(&now) && strftime(date, sizeof date, "%Y-%m-%d", localtime(&now))) chat.date = date;
    if (!c.model) args_die("no model: -m FILE names one");
    prompt = args_text(text, file, sampling.escape, &n);
    if (strlen(prompt) != n) args_die("the prompt holds a zero byte");
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, ARGS_WRITER);
    compile(&constraint, m, &how, form);
    params.constraint = constraint;
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    r = answer(m, s, how.schema == command ? ask_for_command : "", prompt, &chat, &params, &err);
    if (r && r != GPT_E_CANCELLED) args_die("%s", err.msg);
    if (isatty(1)) putchar('\n');
    args_close_stdout();
    gpt_session_info_get(s, &info);
    cut = info.finish == GPT_FINISH_LENGTH || info.finish == GPT_FINISH_CONTEXT;
    if (cut && !args_stopped)
        fprintf(stderr, "json: the answer was cut %s\n", info.finish == GPT_FINISH_LENGTH ? "by -n" : "as the context is full");
    if (info.finish == GPT_FINISH_REFUSED)
        fprintf(stderr, "json: the answer is not whole: there are more ways to read it than there is room for\n");
    if (c.verbose) fprintf(stderr, "json: %lu tokens read, %lu written\n", (unsigned long)info.n_prompt, (unsigned long)info.n_generated);
    free(own);
    free(prompt);
    gpt_session_free(s);
    gpt_constraint_free(constraint);
    args_unload(&c, m);
    return args_stopped ? 130 : cut ? 3 : info.finish == GPT_FINISH_REFUSED;
}
