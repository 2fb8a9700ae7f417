/* What a model file holds: metadata, tensors, chat template, and whether gpt.h runs it here, in how many bytes. Only the file's
 * header is read. With --template: what gpt.h makes of a chat template. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: inspect FILE.gguf [--metadata] [--tensors] [--chat-template]\n"
    "       inspect --template FILE [--render CONVERSATION.json]\n\n"
    "Shows what a model file holds and what it needs here; with options of the first line only these parts.\n"
    "--template renders a chat template, a Jinja file or that of a GGUF file, for a conversation, an object of JSON:\n"
    "\"messages\", and any variables of the template, as \"tools\", \"enable_thinking\", \"bos_token\" (<s> where it is absent),\n"
    "\"add_generation_prompt\" (true), \"date\" (2024-07-26); without --render for a small one that is built in.\n"
    "Exit status: 0, and the text alone on stdout; 1 for a model that does not load; 2 for a wrong call and what cannot be read;\n"
    "3 where the template raises, and its message; 4 where gpt.h does not know a construct or the template fails, and why.";

/* ---- Printing what a file spells ------------------------------------------------------------------------------------- */

/* How many of the n bytes are one character of UTF-8 that can be printed; 0: the first byte is none. */
static size_t character(const unsigned char *p, size_t n) {
    size_t size = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0, i;
    if (!size || size > n || *p < 32 || *p == 127 || (*p == 0xC2 && n > 1 && p[1] < 0xA0)) return 0;    /* 0x80..0x9F: control, too */
    for (i = 1; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    return size;
}

/* On one line: no escape sequence of the file reaches the terminal; at most `most` bytes of it. */
static void show(const char *text, size_t n, size_t most) {
    const unsigned char *p = (const unsigned char *)text;
    size_t i, size;
    for (i = 0; i < n && i < most; i += size ? size : 1) {
        size = character(p + i, n - i);
        if (size) fwrite(p + i, 1, size, stdout);
        else if (p[i] == '\n') fputs("\\n", stdout);
        else printf("\\x%02x", p[i]);
    }
    if (i < n) printf(" ... (%lu bytes)", (unsigned long)n);
}

static void show_bytes(const char *what, double n) {
    if (n < 1048576) printf("%-18s%.0f bytes\n", what, n);
    else printf("%-18s%.0f bytes, %.1f MiB\n", what, n, n / 1048576);
}

/* ---- The parts of a model file --------------------------------------------------------------------------------------- */

static const char *type_name(int type) {        /* of metadata */
    static const char *const names[] = { "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64" };
    return type >= 0 && type < (int)(sizeof names / sizeof *names) ? names[type] : "?";
}

static void show_number(const gpt_meta *v) {
    char text[40];
    int digits = 6;
    if (v->type == 7) { fputs(v->number != 0 ? "true" : "false", stdout); return; }
    do snprintf(text, sizeof text, "%.*g", digits, v->number);     /* as short as it says the same number */
    while (digits++ < 17 && (v->type == 6 ? (double)(float)atof(text) : atof(text)) != v->number);
    fputs(text, stdout);
}

static void show_metadata(const gpt_model *m) {
    enum { FIRST = 6 };
    gpt_meta v, e;
    size_t i, k;
    for (i = 0; !gpt_model_meta(m, NULL, i, &v); i++) {
        show(v.key, strlen(v.key), 200);
        fputs(" = ", stdout);
        if (v.text) show(v.text, v.n_text, 100);
        else if (gpt_model_meta(m, v.key, 0, &e) || e.n != 1 || e.type != v.type) {     /* an array whose elements are not at hand, or text */
            printf("%lu of %s", (unsigned long)v.n, type_name(v.type));
            if (!strcmp(v.key, "tokenizer.ggml.tokens")) {
                for (k = 0; k < v.n && k < FIRST; k++) {
                    size_t n;
                    const char *text = gpt_token_text(m, (gpt_token)k, &n);
                    fputs(k ? ", '" : ": '", stdout);
                    if (text) show(text, n, 40);
                    putchar('\'');
                }
                if (k < v.n) fputs(" ...", stdout);
            }
        } else show_number(&v);
        putchar('\n');
    }
}

/* Bytes of a tensor; 0: a type that this program does not know. */
static double tensor_bytes(const gpt_tensor *t) {
    static const struct { const char *name; int len, bytes; } types[] = {
        { "F32", 1, 4 }, { "F16", 1, 2 }, { "BF16", 1, 2 }, { "Q8_0", 32, 34 }, { "Q4_0", 32, 18 }, { "Q4_1", 32, 20 }, { "Q5_0", 32, 22 }, { "Q5_1", 32, 24 },
        { "Q2_K", 256, 84 }, { "Q3_K", 256, 110 }, { "Q4_K", 256, 144 }, { "Q5_K", 256, 176 }, { "Q6_K", 256, 210 }, { "IQ4_NL", 32, 18 }, { "IQ4_XS", 256, 136 },
        { "MXFP4", 32, 17 }, { "NVFP4", 64, 36 }, { "Q1_0", 128, 18 }, { "Q2_0", 64, 18 }, { "TQ1_0", 256, 54 }, { "TQ2_0", 256, 66 },
        { "IQ2_XXS", 256, 66 }, { "IQ3_XXS", 256, 98 }, { "IQ3_S", 256, 110 },
        { "IQ2_XS", 256, 74 }, { "IQ2_S", 256, 82 }, { "IQ1_S", 256, 50 }, { "IQ1_M", 256, 56 }
    };
    size_t i;
    for (i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, t->type)) return (double)t->n_row * (double)t->n_col / types[i].len * types[i].bytes;
    return 0;
}

static void show_tensors(const gpt_model *m) {
    gpt_tensor t;
    size_t i;
    int k;
    for (i = 0; !gpt_model_tensor(m, NULL, i, 0, 0, NULL, &t, NULL); i++) {
        int last = 3;
        while (last > 0 && t.shape[last] == 1) last--;
        show(t.name, strlen(t.name), 200);
        printf("  %s [", t.type);
        for (k = 0; k <= last; k++) printf(k ? ", %.0f" : "%.0f", (double)t.shape[k]);
        puts("]");
    }
}

static void show_types(const gpt_model *m) {
    enum { MAX_TYPE = 64 };
    struct { const char *name; unsigned long n; double numbers, bytes; } type[MAX_TYPE];
    gpt_tensor t;
    size_t i;
    int n = 0, k;
    for (i = 0; !gpt_model_tensor(m, NULL, i, 0, 0, NULL, &t, NULL); i++) {
        for (k = 0; k < n && strcmp(type[k].name, t.type); k++) {}
        if (k == MAX_TYPE) continue;
        if (k == n) { type[n].name = t.type; type[n].n = 0; type[n].numbers = type[n].bytes = 0; n++; }
        type[k].n++;
        type[k].numbers += (double)t.n_row * (double)t.n_col;
        type[k].bytes += tensor_bytes(&t);
    }
    printf("tensors           %lu\n", (unsigned long)i);
    for (k = 0; k < n; k++) printf("  %-16s%lu tensors, %.0f numbers, %.1f MiB\n", type[k].name, type[k].n, type[k].numbers, type[k].bytes / 1048576);
}

/* A conversation that every template takes. */
static const char built_in[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},{\"role\":\"assistant\",\"content\":\"Hi there\"},"
    "{\"role\":\"user\",\"content\":\"Who are you?\"}]}";

/* The text that a template gives, to be freed; NULL: *r and err say why. */
static char *render(const gpt_model *m, const char *jinja, const char *variables, const char *date, size_t *n, gpt_result *r, gpt_error *err) {
    gpt_chat_params chat;
    char *text = NULL;
    memset(&chat, 0, sizeof chat);
    chat.jinja = jinja;
    chat.variables = variables;
    chat.date = date;
    *n = 0;
    if ((*r = gpt_chat_format(m, NULL, 0, &chat, NULL, 0, n, err)) != GPT_OK) return NULL;
    text = (char *)args_need(malloc(*n + 1));
    gpt_chat_format(m, NULL, 0, &chat, text, *n, n, err);
    return text;
}

static void show_template(const gpt_model *m, const char *jinja) {
    gpt_result r;
    gpt_error err;
    char *text;
    size_t n_text;
    if (!*jinja) { puts("chat template     none"); return; }
    printf("chat template     ");
    show(jinja, strlen(jinja), 60);
    text = render(m, NULL, built_in, "2024-07-26", &n_text, &r, &err);
    printf("\n  runs            ");
    if (text) { fputs("yes: ", stdout); show(text, n_text, 60); } else printf("no: %s", err.msg);
    putchar('\n');
    free(text);
}

/* Will it run, and in how many bytes? 1 = yes. */
static int show_needs(const gpt_model *m, const char *path, const args_common *c) {
    gpt_session_params params;
    gpt_model_params load;
    gpt_model_info info;
    gpt_model *whole = NULL;
    gpt_session *session = NULL;
    gpt_error err;
    size_t bytes;
    memset(&params, 0, sizeof params);
    params.n_ctx = (uint32_t)c->context;
    params.n_threads = 1;
    gpt_model_info_get(m, &info);
    if ((bytes = gpt_session_bytes(m, &params)) != 0) {
        unsigned long n_ctx = c->context ? (unsigned long)c->context : info.n_ctx < 4096 ? info.n_ctx : 4096;
        printf("runs here         yes, with the kernels %s\n", info.kernels);
        show_bytes("  weights", (double)info.weight_bytes);
        show_bytes("  session", (double)bytes);
        printf("  of              %lu tokens of context, one thread\n", n_ctx);
        return 1;
    }
    memset(&load, 0, sizeof load);                      /* the reason is that of a load in earnest */
    load.mapped = 1;
    if (gpt_model_load(&whole, path, &load, &err) == GPT_OK) gpt_session_new(&session, whole, &params, &err);
    printf("runs here         no: %s\n", err.msg);
    gpt_session_free(session);
    gpt_model_free(whole);
    return 0;
}

static void show_summary(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    printf("architecture      ");
    show(info.architecture, strlen(info.architecture), 60);
    printf("\nname              ");
    show(info.name, strlen(info.name), 100);
    printf("\nfile              %.0f bytes, %.1f MiB\n", (double)info.file_bytes, (double)info.file_bytes / 1048576);
    printf("parameters        %.1f million\n", (double)info.n_param / 1e6);
    printf("layers            %lu, heads %lu, of keys and values %lu\n", (unsigned long)info.n_layer, (unsigned long)info.n_head, (unsigned long)info.n_kv_head);
    printf("width             %lu, feed-forward %lu\n", (unsigned long)info.d_model, (unsigned long)info.d_ff);
    printf("context           %lu tokens\n", (unsigned long)info.n_ctx);
    printf("vocabulary        %lu tokens, begin %ld, end %ld\n", (unsigned long)info.n_vocab, (long)info.bos, (long)info.eos);
}

/* ---- A template and a conversation ----------------------------------------------------------------------------------- */

/* In an object of JSON, in place: takes out the member "date", which is no variable of the template. */
static void without_date(char *json) {
    char *p = json + strcspn(json, "{"), *name, *begin;
    int depth = 0, in_string;
    for (begin = ++p; *p; ) {                           /* begin: of a member, behind its comma or the brace */
        int date;
        p += strspn(p, " \t\r\n");
        name = p;
        date = !strncmp(name, "\"date\"", 6);
        for (depth = in_string = 0; *p; p++) {          /* to the member's end */
            if (in_string) { if (*p == '\\' && p[1]) p++; else if (*p == '"') in_string = 0; continue; }
            if (*p == '"') in_string = 1;
            if (!depth && (*p == ',' || *p == '}')) break;
            depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        }
        if (!*p) return;
        if (date && *p == ',') { memmove(begin, p + 1, strlen(p + 1) + 1); p = begin; continue; }
        if (date) {                                     /* the last one: with the comma ahead of it */
            if (begin[-1] == ',') begin--;
            memmove(begin, p, strlen(p) + 1);
            return;
        }
        if (*p == '}') return;
        begin = ++p;
    }
}

static char *read_conversation(const char *path, char date[16]) {
    size_t n, need = 0;
    char *json = args_read(path, &n);
    int kind = gpt_json_get(json, n, "", NULL, 0, &need);
    if (kind != 'o') {
        free(json);
        args_die(kind < 0 ? "%s: not JSON" : "%s: expected an object of JSON, with \"messages\"", path);
    }
    strcpy(date, "2024-07-26");
    kind = gpt_json_get(json, n, "date", NULL, 0, &need);
    if (kind && (kind != 's' || need > 10 || gpt_json_get(json, n, "date", date, 16, &need) != 's')) {
        free(json);
        args_die("%s: expected a date such as \"2025-01-31\"", path);
    }
    if (kind) without_date(json);
    return json;
}

static int run_template(const char *path, const char *conversation) {
    size_t n, n_text;
    char *file = args_read(path, &n), *variables = NULL, *text, date[16] = "2024-07-26";
    const char *jinja = file;
    gpt_model *m = NULL;
    gpt_model_params params;
    gpt_model_info info;
    gpt_error err;
    gpt_result r;
    if (n > 3 && !memcmp(file, "GGUF", 4)) {
        memset(&params, 0, sizeof params);
        params.header_only = 1;
        if (gpt_model_load(&m, path, &params, &err)) args_die("%s", err.msg);
        gpt_model_info_get(m, &info);
        if (!*(jinja = info.chat_template)) args_die("%s: no chat template", path);
    } else if (memchr(file, 0, n)) args_die("%s: a zero byte, expected a Jinja template", path);
    if (conversation) variables = read_conversation(conversation, date);
    text = render(m, jinja, variables ? variables : built_in, date, &n_text, &r, &err);
    if (r == GPT_E_ARG) args_die("%s", err.msg);
    if (text) args_print(text, n_text);
    else {
        args_print(err.msg, strlen(err.msg));
        if (!isatty(1) || !isatty(2)) fprintf(stderr, "%s: %s: %s%s\n", args_program, path, r == GPT_E_REFUSED ? "raised: " : "", err.msg);
        else putchar('\n');
    }
    free(text);
    free(variables);
    free(file);
    gpt_model_free(m);
    args_close_stdout();
    return text ? 0 : r == GPT_E_REFUSED ? 3 : 4;
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    const char *file = NULL, *jinja = NULL, *conversation = NULL;
    int metadata = 0, tensors = 0, template_text = 0, runs = 1;
    const arg table[] = {
        { "FILE",             ARG_TEXT,  &file,          "",     "" },
        ARGS_MODEL(c),
        { "-c, --ctx-size",   ARG_COUNT, &c.context,     "N",    "context in tokens; 0 = the model's, at most 4096 (default)" },
        { "--metadata",       ARG_FLAG,  &metadata,      "",     "its keys and values, arrays as their length" },
        { "--tensors",        ARG_FLAG,  &tensors,       "",     "one a line: name, type and shape, neighbours in memory first" },
        { "--chat-template",  ARG_FLAG,  &template_text, "",     "the text of its chat template, as it stands there" },
        { "--template",       ARG_TEXT,  &jinja,         "FILE", "render a chat template, of a Jinja or GGUF file" },
        { "--render",         ARG_TEXT,  &conversation,  "FILE", "the conversation, as JSON; - is stdin" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model_params params;
    gpt_model_info info;
    gpt_model *m = NULL;
    gpt_error err;
    int all;

    args_status = 2;
    args_parse(argc, argv, "inspect", table, about);
    if (file && c.model) args_die("unexpected argument '%s', after '%s'", file, c.model);
    if (file) c.model = file;
    if (jinja && (c.model || metadata || tensors || template_text)) args_die("--template goes with --render alone");
    if (conversation && !jinja) args_die("--render: needs --template FILE");
    if (jinja) return run_template(jinja, conversation);
    if (!c.model) args_die("no model: inspect FILE.gguf; or a template: --template FILE");
    fclose(args_open(c.model, "a GGUF file"));

    memset(&params, 0, sizeof params);
    params.header_only = 1;
    params.pretokenizer = c.pre;
    if (gpt_model_load(&m, c.model, &params, &err)) {
        args_status = 1;
        args_die("%s", err.msg);
    }
    gpt_model_info_get(m, &info);
    all = !metadata && !tensors && !template_text;
    if (all) show_summary(m);
    if (all) runs = show_needs(m, c.model, &c);
    if (all) show_types(m);
    if (all) show_template(m, info.chat_template);
    if (all) puts("\nmetadata");
    if (all || metadata) show_metadata(m);
    if (all) puts("\ntensors");
    if (all || tensors) show_tensors(m);
    if (template_text) args_print(info.chat_template, strlen(info.chat_template));
    args_close_stdout();
    gpt_model_free(m);
    return !runs;
}
