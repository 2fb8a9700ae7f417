/* A model that calls functions of the program: which syntaxes there are, how a call is constrained, read and answered. The
 * syntaxes are rows of a table; gpt.h gives the trigger behind which a constraint begins, and the reader of JSON. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "calls.h"

static const char about[] =
    "usage: tools -m MODEL -p TEXT [--syntax NAME] [options]\n"
    "       tools --render FILE.jinja       (what a chat template makes of calls and results)\n"
    "       tools --self-test\n\n"
    "Answers TEXT; the model may roll dice and look into a bag on its way. Calls and results go to stderr, the answer\n"
    "to stdout. The syntax of calls is recognised from the model's chat template: hermes (Qwen too), llama3, mistral,\n"
    "harmony (gpt-oss), functiongemma.";

enum { N_MESSAGE = 64, N_ROUND = 6 };

/* ---- The tools ------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *what;
    const char *choices;                                /* "a|b|c": one of these; NULL: a whole number, low to high */
    int         low, high;
} param;

typedef struct {
    const char *name, *what;
    param       params[3];                              /* all are required, in this order */
    void      (*run)(const char *args, size_t n, text *result);     /* result: a JSON object */
} tool;

static uint64_t dice = 1;

static int number(const char *args, size_t n, const char *path, int low, int high) {
    char digits[16];
    size_t need;
    long v;
    if (gpt_json_get(args, n, path, digits, sizeof digits, &need) != 'n' || need >= sizeof digits) return -1;
    v = strtol(digits, NULL, 10);
    return v < low || v > high ? -1 : (int)v;
}

static void roll_dice(const char *args, size_t n, text *result) {
    const int count = number(args, n, "count", 1, 10), sides = number(args, n, "sides", 2, 100);
    char one[32];
    int sum = 0;
    if (count < 0 || sides < 0) { puts_to(result, "{\"error\": \"count is 1 to 10, sides is 2 to 100\"}"); return; }
    puts_to(result, "{\"dice\": [");
    for (int i = 0; i < count; i++) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        const int eyes = 1 + (int)((dice >> 33) % (unsigned)sides);
        snprintf(one, sizeof one, "%s%d", i ? ", " : "", eyes);
        puts_to(result, one);
        sum += eyes;
    }
    snprintf(one, sizeof one, "], \"sum\": %d}", sum);
    puts_to(result, one);
}

static void look_in_bag(const char *args, size_t n, text *result) {
    static const struct { const char *item; int count; } bag[] = { { "rope", 1 }, { "torch", 3 }, { "apple", 7 }, { "coin", 42 } };
    char *item = member(args, n, "item", 's'), line[64];
    size_t i = 0;
    while (i < sizeof bag / sizeof *bag && (!item || strcmp(item, bag[i].item))) i++;
    if (i < sizeof bag / sizeof *bag) {
        snprintf(line, sizeof line, "{\"item\": \"%s\", \"count\": %d}", bag[i].item, bag[i].count);
        puts_to(result, line);
    } else puts_to(result, "{\"error\": \"no such thing was ever in the bag\"}");
    free(item);
}

static const tool tools[] = {
    { "roll_dice", "Rolls dice and adds them up.",
      { { "count", "how many dice", NULL, 1, 10 }, { "sides", "sides of each", NULL, 2, 100 }, { NULL, NULL, NULL, 0, 0 } }, roll_dice },
    { "look_in_bag", "Says how many of a thing are in the player's bag.",
      { { "item", "the thing", "rope|torch|apple|coin", 0, 0 }, { NULL, NULL, NULL, 0, 0 }, { NULL, NULL, NULL, 0, 0 } }, look_in_bag },
};
enum { N_TOOL = sizeof tools / sizeof *tools };

/* What stands ahead of, between and behind the choices. */
static void put_choices(text *t, const char *choices, const char *before, const char *between, const char *behind) {
    for (const char *end; ; choices = end + 1) {
        end = choices + strcspn(choices, "|");
        puts_to(t, before);
        put(t, choices, (size_t)(end - choices));
        puts_to(t, behind);
        if (!*end) return;
        puts_to(t, between);
    }
}

/* The JSON schema of a tool's arguments. */
static void put_schema(text *t, const tool *f) {
    char bounds[96];
    puts_to(t, "{\"type\": \"object\", \"properties\": {");
    for (const param *a = f->params; a->name; a++) {
        snprintf(bounds, sizeof bounds, "\"type\": \"integer\", \"minimum\": %d, \"maximum\": %d", a->low, a->high);
        const char *const pairs[] = { "name", a->name, "what", a->what, "type", a->choices ? "\"type\": \"string\"" : bounds, NULL };
        if (a > f->params) puts_to(t, ", ");
        fill(t, "\"{name}\": {{type}, \"description\": \"{what}\"", pairs);
        if (a->choices) { puts_to(t, ", \"enum\": ["); put_choices(t, a->choices, "\"", ", ", "\""); puts_to(t, "]"); }
        puts_to(t, "}");
    }
    puts_to(t, "}, \"required\": [");
    for (const param *a = f->params; a->name; a++) {
        puts_to(t, a > f->params ? ", \"" : "\"");
        puts_to(t, a->name);
        puts_to(t, "\"");
    }
    puts_to(t, "], \"additionalProperties\": false}");
}

/* The tools as templates want them: a JSON array of OpenAI's form. */
static void put_tools(text *t) {
    puts_to(t, "[");
    for (const tool *f = tools; f < tools + N_TOOL; f++) {
        const char *const pairs[] = { "name", f->name, "what", f->what, NULL };
        if (f > tools) puts_to(t, ", ");
        fill(t, "{\"type\": \"function\", \"function\": {\"name\": \"{name}\", \"description\": \"{what}\", \"parameters\": ", pairs);
        put_schema(t, f);
        puts_to(t, "}}");
    }
    puts_to(t, "]");
}

static const syntax *syntax_named(const char *name) {
    for (const syntax *x = syntaxes; x < syntaxes + N_SYNTAX; x++) if (!strcmp(name, x->name)) return x;
    args_die("--syntax: expected hermes, llama3, mistral, harmony or functiongemma, got '%s'", name);
    return NULL;
}

/* ---- Constraining a call --------------------------------------------------------------------------------------------- */

static void put_arguments(text *t, const gpt_model *m, const syntax *x, const tool *f) {
    put_literal(t, "{", 1);
    for (const param *a = f->params; a->name; a++) {
        const char *const pairs[] = { "name", a->name, NULL };
        text key = { NULL, 0, 0 }, quote = { NULL, 0, 0 };
        if (a > f->params) puts_to(&key, x->quote ? "," : ", ");
        fill(&key, x->quote ? "{name}:" : "\"{name}\": ", pairs);
        put_literal(t, key.p, key.n);
        put_token(&quote, m, x->quote ? x->quote : "\"", x->quote ? strlen(x->quote) : 1);
        if (a->choices) {
            puts_to(t, quote.p);
            puts_to(t, " (");
            put_choices(t, a->choices, " \"", " |", "\"");
            puts_to(t, ")");
            puts_to(t, quote.p);
        } else puts_to(t, " number");
        clear(&key);
        clear(&quote);
    }
    put_literal(t, "}", 1);
}

/* What stands ahead of a call, or a call of f. */
static void put_pattern(text *t, const gpt_model *m, const syntax *x, const char *p, const tool *f) {
    while (*p) {
        size_t n = strcspn(p, "`{");
        if (n) { put_literal(t, p, n); p += n; continue; }
        if (*p == '`') {
            n = strcspn(p + 1, "`");
            put_token(t, m, p + 1, n);
            p += n + 2;
        } else if (!strncmp(p, "{name}", 6)) { put_literal(t, f->name, strlen(f->name)); p += 6; }
        else if (!strncmp(p, "{args}", 6)) { put_arguments(t, m, x, f); p += 6; }
        else if (!strncmp(p, "{channel}", 9)) { puts_to(t, " channel"); p += 9; }
        else put_literal(t, p++, 1);
    }
}

/* The grammar of all calls: where they are not JSON, where an answer must be one, and where nothing stands ahead of one. */
static void put_grammar(text *t, const gpt_model *m, const syntax *x, int must) {
    puts_to(t, "root ::=");
    if (must) put_pattern(t, m, x, x->before, NULL);
    puts_to(t, must || x->trigger ? " call\n" : " call | ([^{] .*)?\n");
    puts_to(t, "number ::= \"0\" | \"-\"? [1-9] [0-9]{0,3}\nchannel ::= (");        /* the tools check the bounds */
    put_token(t, m, "<|channel|>", 11);
    puts_to(t, " \"commentary\")?\ncall ::=");
    for (const tool *f = tools; f < tools + N_TOOL; f++) {
        if (f > tools) puts_to(t, " |");
        put_pattern(t, m, x, x->call, f);
    }
    puts_to(t, "\n");
}

/* The schema of all calls: an object, or a list of such, whose arguments are the tool's. */
static void put_call_schema(text *t, const syntax *x) {
    if (x->form == LIST) puts_to(t, "{\"type\": \"array\", \"minItems\": 1, \"maxItems\": 4, \"items\": ");
    puts_to(t, "{\"anyOf\": [");
    for (const tool *f = tools; f < tools + N_TOOL; f++) {
        text schema = { NULL, 0, 0 };
        put_schema(&schema, f);
        const char *const pairs[] = { "name", f->name, "member", x->args, "schema", schema.p, NULL };
        if (f > tools) puts_to(t, ", ");
        fill(t, "{\"type\": \"object\", \"properties\": {\"name\": {\"const\": \"{name}\"}, \"{member}\": {schema}}, "
                "\"required\": [\"name\", \"{member}\"], \"additionalProperties\": false}", pairs);
        clear(&schema);
    }
    puts_to(t, x->form == LIST ? "]}}" : "]}");
}

static gpt_constraint *constrain(const gpt_model *m, const syntax *x, int must) {
    const int grammar = must || x->form == NAMED || !x->trigger;
    text source = { NULL, 0, 0 };
    gpt_constraint_params params;
    gpt_constraint *c;
    gpt_error err;
    memset(&params, 0, sizeof params);
    if (grammar) put_grammar(&source, m, x, must); else put_call_schema(&source, x);
    if (grammar) params.gbnf = source.p; else params.schema = source.p;
    params.trigger = must ? NULL : x->trigger;
    if (gpt_constraint_new(&c, m, &params, &err)) args_die("the calls of %s: %s", x->name, err.msg);
    clear(&source);
    return c;
}

static void run_call(const call *c, text *result) {
    for (const tool *f = tools; f < tools + N_TOOL; f++)
        if (!strcmp(f->name, c->name)) { f->run(c->args, strlen(c->args), result); return; }
    puts_to(result, "{\"error\": \"there is no such tool\"}");
}

/* ---- Without a model: what is written is read rightly ---------------------------------------------------------------- */

static const struct { const char *syntax, *written, *calls; } samples[] = {     /* calls: name, space, arguments; each a line */
    { "hermes", "Let me see.\n<tool_call>\n{\"name\": \"roll_dice\", \"arguments\": {\"count\": 2, \"sides\": 6}}\n</tool_call>",
      "roll_dice {\"count\": 2, \"sides\": 6}\n" },
    { "hermes", "<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>\n<tool_call>{\"arguments\":{\"x\":\"}</tool_call>\"},\"name\":\"b\"}</tool_call>",
      "a {}\nb {\"x\":\"}</tool_call>\"}\n" },
    { "hermes", "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\"", "" },
    { "hermes", "<tool_call>\n{\"name\": \"a\", \"arguments\": \"x\"}\n</tool_call>", "" },
    { "hermes", "I would write <tool_call> and go on. <tool_call>{\"name\": \"a\", \"arguments\": {\"s\": \"\\\"{\"}}", "a {\"s\": \"\\\"{\"}\n" },
    { "hermes", "<tool_call>{\"name\": \"\\ra\\\"\", \"arguments\": {}}", "\ra\" {}\n" },
    { "hermes", "No call at all: {\"name\": \"a\"}", "" },
    { "llama3", "{\"name\": \"look_in_bag\", \"parameters\": {\"item\": \"rope\"}}", "look_in_bag {\"item\": \"rope\"}\n" },
    { "llama3", "\n{\"name\": \"a\", \"parameters\": {\"n\": [1, {\"m\": 2}]}}<|eot_id|>", "a {\"n\": [1, {\"m\": 2}]}\n" },
    { "llama3", "You have {\"name\": \"a\", \"parameters\": {}} of them.", "" },
    { "mistral", "[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"x\": 1}, \"id\": \"123456789\"}, {\"name\": \"b\", \"arguments\": {}}]</s>",
      "a {\"x\": 1}\nb {}\n" },
    { "mistral", "[TOOL_CALLS][{\"name\": \"a\", \"arguments\": {\"x\": \"]\"}}]", "a {\"x\": \"]\"}\n" },
    { "mistral", "[{\"name\": \"a\", \"arguments\": {}}]", "" },
    { "harmony", "<|channel|>analysis<|message|>Dice!<|end|><|start|>assistant<|channel|>commentary to=functions.roll_dice <|constrain|>json"
      "<|message|>{\"count\":1,\"sides\":20}<|call|>", "roll_dice {\"count\":1,\"sides\":20}\n" },
    { "harmony", " to=functions.look_in_bag<|channel|>commentary json<|message|>{\"item\": \"coin\"}", "look_in_bag {\"item\": \"coin\"}\n" },
    { "harmony", "<|channel|>final<|message|>It is 7.<|return|>", "" },
    { "functiongemma", "<start_function_call>call:look_in_bag{item:<escape>rope<escape>}<end_function_call>", "look_in_bag {\"item\":\"rope\"}\n" },
    { "functiongemma", "<start_function_call>call:a{n:-1.5,ok:true,list:[1,<escape>}\"\n<escape>],in:{x:null}}<end_function_call><start_function_call>call:b{}"
      "<end_function_call>", "a {\"n\":-1.5,\"ok\":true,\"list\":[1,\"}\\\"\\u000a\"],\"in\":{\"x\":null}}\nb {}\n" },
    { "functiongemma", "<start_function_call>call:a{item:<escape>rope", "" },
    { "functiongemma", "<start_function_call>call:a{item:rope}<end_function_call>", "" },
};

/* Behind the trigger, taken or refused by the constraint. */
static const struct { const char *syntax, *written; int taken; } constrained[] = {
    { "hermes", "{\"name\": \"roll_dice\", \"arguments\": {\"count\": 2, \"sides\": 6}}", 1 },
    { "hermes", "{\"name\": \"roll_dice\", \"arguments\": {\"count\": 11, \"sides\": 6}}", 0 },
    { "hermes", "{\"name\": \"look_in_bag\", \"arguments\": {\"count\": 2, \"sides\": 6}}", 0 },
    { "llama3", "{\"name\": \"look_in_bag\", \"parameters\": {\"item\": \"torch\"}}", 1 },
    { "llama3", "{\"name\": \"look_in_bag\", \"parameters\": {\"item\": \"sword\"}}", 0 },
    { "llama3", "There is {nothing} to call.", 1 },
    { "mistral", "[{\"name\": \"roll_dice\", \"arguments\": {\"count\": 2, \"sides\": 6}}]", 1 },
    { "mistral", "[]", 0 },
    { "harmony", "roll_dice <|constrain|>json<|message|>{\"count\": 2, \"sides\": 6}", 1 },
    { "harmony", "look_in_bag<|channel|>commentary <|constrain|>json<|message|>{\"item\": \"coin\"}", 1 },
    { "harmony", "roll <|constrain|>json<|message|>{}", 0 },
    { "functiongemma", "call:look_in_bag{item:<escape>rope<escape>}<end_function_call>", 1 },
    { "functiongemma", "call:look_in_bag{item:rope}<end_function_call>", 0 },
};

static const struct { const char *syntax, *of; } templates[] = {        /* what a template has in it */
    { "hermes", "{{- '\\n<tool_call>\\n{\"name\": \"' }}{{- tool_call.name }}{{- '\", \"arguments\": ' }}" },
    { "llama3", "'<|start_header_id|>ipython<|end_header_id|>' {\"name\": f, \"parameters\": {}} <|python_tag|>" },
    { "mistral", "{{- \"[TOOL_CALLS] [\" }}" },
    { "harmony", "<|start|>assistant<|channel|>commentary json<|message|>" },
    { "functiongemma", "'<start_function_call>call:' <escape>" },
    { "", "<tool_call>\\n<function=\"arguments\">" }, { "", "<tool_calls>[{ \"arguments\" <tool_call>" }, { "", "<|im_start|>" },
};

static int self_test(void) {
    int passed = 0, failed = 0;
#define TEST(ok, ...) do { if (ok) passed++; else { failed++; printf(__VA_ARGS__); putchar('\n'); } } while (0)
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const syntax *x = syntax_named(samples[i].syntax);
        call calls[N_CALL];
        text got = { NULL, 0, 0 }, message = { NULL, 0, 0 };
        size_t n = read_calls(x, samples[i].written, strlen(samples[i].written), calls), k;
        puts_to(&got, "");
        for (k = 0; k < n; k++) {
            const char *const pairs[] = { "name", calls[k].name, "args", calls[k].args, NULL };
            fill(&got, "{name} {args}\n", pairs);
        }
        TEST(!strcmp(got.p, samples[i].calls), "%s: %s: read as: %s", x->name, samples[i].written, got.p);
        if (n) {
            char *name;
            put_call_message(&message, x, calls, n);
            name = member(message.p, message.n, "tool_calls[0].function.name", 's');
            TEST(name && !strcmp(name, calls[0].name), "%s: a message of calls: %s", x->name, message.p);
            free(name);
            clear(&message);
            put_result_message(&message, x, &calls[0], "{\"a\": \"b\\\"\\n\"}");
            TEST(gpt_json_get(message.p, message.n, "content", NULL, 0, NULL) > 0, "%s: a result's message: %s", x->name, message.p);
        }
        clear(&message);
        clear(&got);
        clear_calls(calls, n);
    }
    for (size_t i = 0; i < sizeof constrained / sizeof *constrained; i++) {
        const char *written = constrained[i].written;
        gpt_constraint *c = constrain(NULL, syntax_named(constrained[i].syntax), 0);
        size_t at = 0;
        const gpt_result r = gpt_constraint_check(c, written, strlen(written), &at, NULL);
        TEST((r == GPT_OK) == constrained[i].taken, "%s: %s: result %d, byte %lu", constrained[i].syntax, written, (int)r, (unsigned long)at);
        gpt_constraint_free(c);
    }
    for (const syntax *x = syntaxes; x < syntaxes + N_SYNTAX; x++) {        /* what must be a call is read as one */
        static const char *const must[N_SYNTAX] = {
            "<tool_call>\n{\"name\": \"look_in_bag\", \"arguments\": {\"item\": \"coin\"}}", "{\"name\": \"look_in_bag\", \"parameters\": {\"item\": \"coin\"}}",
            "[TOOL_CALLS][{\"name\": \"look_in_bag\", \"arguments\": {\"item\": \"coin\"}}]",
            " to=functions.look_in_bag<|channel|>commentary <|constrain|>json<|message|>{\"item\": \"coin\"}",
            "<start_function_call>call:look_in_bag{item:<escape>coin<escape>}<end_function_call>" };
        const char *text_of = must[x - syntaxes];
        gpt_constraint *c = constrain(NULL, x, 1);
        call calls[N_CALL];
        size_t n = read_calls(x, text_of, strlen(text_of), calls);
        TEST(n == 1 && !strcmp(calls[0].name, "look_in_bag"), "%s: not read: %s", x->name, text_of);
        TEST(gpt_constraint_check(c, text_of, strlen(text_of), NULL, NULL) == GPT_OK, "%s: not taken: %s", x->name, text_of);
        TEST(gpt_constraint_check(c, "No.", 3, NULL, NULL) == GPT_E_REFUSED, "%s: an answer that is no call", x->name);
        clear_calls(calls, n);
        gpt_constraint_free(c);
    }
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        const syntax *x = syntax_of(templates[i].of);
        TEST(!strcmp(x ? x->name : "", templates[i].syntax), "%s: recognised as %s", templates[i].of, x ? x->name : "none");
    }
    printf("tools: %d passed, %d failed\n", passed, failed);
    args_close_stdout();
    return failed != 0;
}

/* What a chat template makes of a question, a call of each tool and the results; the calls must be read from it as they were
 * put in. */
static char *rendered(const char *jinja, const gpt_message *messages, size_t n, int go_on, const char *date) {
    text variables = { NULL, 0, 0 };
    gpt_chat_params chat;
    gpt_error err;
    size_t size;
    char *out;
    memset(&chat, 0, sizeof chat);
    puts_to(&variables, "{\"tools\": ");
    put_tools(&variables);
    puts_to(&variables, go_on ? "}" : ", \"add_generation_prompt\": false}");
    chat.jinja = jinja;
    chat.variables = variables.p;
    chat.date = date;
    if (gpt_chat_format(NULL, messages, n, &chat, NULL, 0, &size, &err)) args_die("%s", err.msg);
    out = (char *)args_need(malloc(size + 1));
    if (gpt_chat_format(NULL, messages, n, &chat, out, size, &size, &err)) args_die("%s", err.msg);
    out[size] = 0;
    clear(&variables);
    return out;
}

static int render(const char *jinja, const syntax *x, const char *date) {
    static char name[2][16] = { "roll_dice", "look_in_bag" }, args[2][32] = { "{\"count\": 2, \"sides\": 6}", "{\"item\": \"rope\"}" };
    static const char question[] = "Do I have rope, and what do two dice say?", result[] = "{\"item\": \"rope\", \"count\": 1}";
    const size_t n = x->form == NAMED || !*x->begin ? 1 : 2;       /* calls in a message */
    call calls[2] = { { name[0], args[0], "call00000" }, { name[1], args[1], "call00001" } }, got[N_CALL];
    gpt_message messages[4] = { { "user", question, NULL }, { "", "", NULL }, { "", "", NULL }, { "", "", NULL } };
    text called = { NULL, 0, 0 }, back[2] = { { NULL, 0, 0 }, { NULL, 0, 0 } };
    char *asked, *answered, *all;
    size_t i, n_got;
    int same;
    put_call_message(&called, x, calls, n);
    messages[1].json = called.p;
    for (i = 0; i < n; i++) { put_result_message(&back[i], x, &calls[i], result); messages[2 + i].json = back[i].p; }
    asked = rendered(jinja, messages, 1, 1, date);
    answered = rendered(jinja, messages, 2, 0, date);
    all = rendered(jinja, messages, 2 + n, 1, date);
    if (strncmp(answered, asked, strlen(asked))) {      /* the prompt begins a thinking part: without that prompt */
        free(asked);
        asked = rendered(jinja, messages, 1, 0, date);
    }
    same = !strncmp(answered, asked, strlen(asked));
    n_got = same ? read_calls(x, answered + strlen(asked), strlen(answered) - strlen(asked), got) : 0;
    same = n_got == n;
    for (i = 0; same && i < n; i++)
        same = !strcmp(got[i].name, calls[i].name) &&
               gpt_json_get(got[i].args, strlen(got[i].args), i ? "item" : "count", NULL, 0, NULL) == (i ? 's' : 'n');
    printf("syntax: %s; its calls are %sread as they were written\n%s", x->name, same ? "" : "not ", all);
    args_close_stdout();
    clear_calls(got, n_got);
    for (i = 0; i < n; i++) clear(&back[i]);
    clear(&called);
    free(asked);
    free(answered);
    free(all);
    return !same;
}

/* ---- The loop -------------------------------------------------------------------------------------------------------- */

static int collect(void *user, const char *p, size_t n) { put((text *)user, p, n); return 0; }
static int ignore(void *user, const char *p, size_t n) { (void)user; (void)p; (void)n; return 0; }

typedef struct {
    gpt_message item[N_MESSAGE];
    size_t      n;
} conversation;                         /* owns what its messages hold */

static void add(conversation *c, const char *role, text *content) {     /* role NULL: a message as JSON */
    gpt_message *m = &c->item[c->n++];
    m->role = role ? role : "";
    m->content = role ? content->p : "";
    m->json = role ? NULL : content->p;
}

/* What the model wrote last, with its control tokens: the text that fn gets is without. */
static void written(const gpt_model *m, const gpt_session *s, size_t n_prompt, text *out) {
    size_t n, size;
    const gpt_token *ids = gpt_session_tokens(s, &n);
    n = n > n_prompt ? n - n_prompt : 0;
    size = gpt_detokenize(m, ids + n_prompt, n, 1, NULL, 0);
    out->p = (char *)args_need(malloc(out->max = size + 1));
    out->n = gpt_detokenize(m, ids + n_prompt, n, 1, out->p, size);
    out->p[out->n] = 0;
}

/* A template without a place for tools hears of them in a system message, in the words that Hermes models know; 1: so it was. */
static int introduce(const gpt_model *m, conversation *c, const gpt_chat_params *chat) {
    gpt_error err;
    text shown = { NULL, 0, 0 };
    size_t n;
    int plain;
    if (gpt_chat_format(m, c->item + 1, 1, chat, NULL, 0, &n, &err)) args_die("%s", err.msg);
    shown.p = (char *)args_need(malloc(n + 1));
    if (gpt_chat_format(m, c->item + 1, 1, chat, shown.p, n, &n, &err)) args_die("%s", err.msg);
    shown.p[n] = 0;
    plain = !strstr(shown.p, tools[0].name);
    if (plain) {
        text system = { NULL, 0, 0 };
        fprintf(stderr, "%s: the chat template has no place for tools: a system message describes them\n", args_program);
        puts_to(&system, "You may call functions to help with the user's question. They are:\n<tools>\n");
        put_tools(&system);
        puts_to(&system, "\n</tools>\nFor a call write\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
        c->item[0].role = "system";
        c->item[0].content = system.p;
    }
    clear(&shown);
    return plain;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    const char *prompt = NULL, *file = NULL, *name = NULL, *jinja = NULL;
    int test = 0, must = 0, done = 0, plain;
    gpt_chat_params chat = { 0 };
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-p, --prompt", ARG_TEXT, &prompt, "TEXT", "the question; - or none: read from stdin" },
        { "-f, --file",   ARG_TEXT, &file,   "FILE", "a file with it" },
        { "--syntax",     ARG_TEXT, &name,   "NAME", "how calls are written: hermes, llama3, ...; default: the template's" },
        { "--must-call",  ARG_FLAG, &must,   "",     "the first answer is a call" },
        { "--render",     ARG_TEXT, &jinja,  "FILE", "a chat template: is its syntax known, and what becomes of a call?" },
        { "--self-test",  ARG_FLAG, &test,   "",     "read written samples of each syntax, without a model" },
        { "--chat-template", ARG_TEXT, &chat.family, "NAME", "chat template family; default: the file's template" },
        ARGS_SAMPLING_N(sampling, "tokens of an answer or call at most (512); -1 = no limit", "seed (default 0), of the dice too; -1 = from the clock"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_session_params session;
    gpt_constraint *constraint, *first_constraint;
    gpt_model_info info;
    gpt_model *m;
    gpt_session *s;
    gpt_error err;
    const syntax *x;
    text variables = { NULL, 0, 0 }, question = { NULL, 0, 0 };
    conversation talk;
    char date[16];
    time_t now = time(NULL);
    size_t n;

    sampling.n_predict = 512;
    args_parse(argc, argv, "tools", table, about);
    if (test) return self_test();
    if (sampling.n_predict == 0) args_die("%s: expected -1, or 1 or more, got 0", args_name("-n"));
    params = args_generation(&sampling);
    dice += params.sample.seed;
    if (localtime(&now) && strftime(date, sizeof date, "%Y-%m-%d", localtime(&now))) chat.date = date;
    x = name ? syntax_named(name) : NULL;
    if (jinja) {
        int status;
        char *source = args_read(jinja, &n);
        if (!x) x = syntax_of(source);
        if (!x) args_die("%s: no syntax of calls that is known (--syntax names one)", jinja);
        status = render(source, x, chat.date);
        free(source);
        return status;
    }
    if (!c.model) args_die("no model: -m FILE names one");
    question.p = args_text(prompt, file, sampling.escape, &n);
    if (strlen(question.p) != n) args_die("the question holds a zero byte");
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, ARGS_WRITER);
    gpt_model_info_get(m, &info);
    if (!*info.chat_template && !chat.family) args_die("%s has no chat template, which says how tools are told of: --chat-template NAME", c.model);
    if (!x) x = syntax_of(info.chat_template);
    if (!x) { x = syntaxes; fprintf(stderr, "tools: no syntax of calls in the chat template: %s is taken (--syntax names one)\n", x->name); }

    puts_to(&variables, "{\"tools\": ");
    put_tools(&variables);
    puts_to(&variables, "}");
    chat.variables = variables.p;
    memset(&talk, 0, sizeof talk);
    talk.n = 1;                                 /* the first is the system message, if there is one */
    add(&talk, "user", &question);
    plain = introduce(m, &talk, &chat);
    constraint = constrain(m, x, 0);
    first_constraint = constrain(m, x, must);
    params.must_finish = 1;
    params.think = ignore;
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);

    for (int round = 0; !done && round < N_ROUND; round++) {
        const gpt_message *first = talk.item + !talk.item[0].role;
        const size_t n_message = talk.n - !talk.item[0].role;
        text said = { NULL, 0, 0 }, all = { NULL, 0, 0 }, message = { NULL, 0, 0 }, results = { NULL, 0, 0 };
        call calls[N_CALL];
        size_t n_prompt, n_call;
        params.constraint = round ? constraint : first_constraint;
        if (gpt_chat_tokenize(m, first, n_message, &chat, NULL, 0, &n_prompt, &err) ||
            (gpt_chat(s, first, n_message, &chat, &params, collect, &said, &err) && err.code != GPT_E_CANCELLED)) args_die("%s", err.msg);
        written(m, s, n_prompt, &all);
        n_call = args_stopped ? 0 : read_calls(x, all.p, all.n, calls);
        if (!n_call) {
            args_print(said.p ? said.p : "", said.n);
            done = 1;
        } else if (plain) {                     /* no place for calls and results either: they are what the two have said */
            add(&talk, "assistant", &all);
            memset(&all, 0, sizeof all);
        } else {
            put_call_message(&message, x, calls, n_call);
            add(&talk, NULL, &message);
        }
        for (size_t i = 0; i < n_call; i++) {
            text result = { NULL, 0, 0 }, back = { NULL, 0, 0 };
            run_call(&calls[i], &result);
            fprintf(stderr, "%s %s -> %s\n", calls[i].name, calls[i].args, result.p);
            if (plain) {
                const char *const pairs[] = { "result", result.p, NULL };
                fill(&results, "<tool_response>\n{result}\n</tool_response>\n", pairs);
            } else {
                put_result_message(&back, x, &calls[i], result.p);
                add(&talk, NULL, &back);
            }
            clear(&result);
        }
        if (results.p) add(&talk, "user", &results);
        clear_calls(calls, n_call);
        clear(&said);
        clear(&all);
    }
    if (!done) fprintf(stderr, "tools: no answer after %d rounds of calls\n", N_ROUND);
    if (done && isatty(1)) putchar('\n');
    args_close_stdout();
    for (size_t i = 0; i < talk.n; i++) {
        free((void *)(size_t)talk.item[i].json);
        if (talk.item[i].role && *talk.item[i].role) free((void *)(size_t)talk.item[i].content);
    }
    clear(&variables);
    gpt_session_free(s);
    gpt_constraint_free(constraint);
    gpt_constraint_free(first_constraint);
    args_unload(&c, m);
    return args_stopped ? 130 : !done;
}
