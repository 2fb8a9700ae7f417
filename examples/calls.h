/* How models write calls of functions, for tools.c and server.c: the syntaxes are rows of a table, by which calls are read and given
 * back to the template. Include it after args.h. */
#ifndef CALLS_H
#define CALLS_H

enum { N_CALL = 8 };                    /* in one answer, at most */

/* ---- Text that grows ------------------------------------------------------------------------------------------------- */

typedef struct { char *p; size_t n, max; } text;        /* p: NULL before the first piece, then with a zero byte behind it */

static inline void put(text *t, const char *p, size_t n) {
    if (t->n + n + 1 > t->max) t->p = (char *)args_need(realloc(t->p, t->max = 2 * (t->n + n + 1)));
    memcpy(t->p + t->n, p, n);
    t->p[t->n += n] = 0;
}
static inline void puts_to(text *t, const char *p) { put(t, p, strlen(p)); }
static inline void clear(text *t) { free(t->p); memset(t, 0, sizeof *t); }

/* As a JSON string holds it, without the quotation marks. */
static inline void put_escaped(text *t, const char *p, size_t n) {
    put(t, "", 0);
    for (size_t i = 0; i < n; i++) {
        char u[8];
        const unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\') put(t, "\\", 1);
        if (c < 32) { snprintf(u, sizeof u, "\\u%04x", c); puts_to(t, u); } else put(t, p + i, 1);
    }
}

/* The pattern with the values in the place of their {names}; pairs end with NULL. */
static inline void fill(text *t, const char *pattern, const char *const *pairs) {
    while (*pattern) {
        size_t i = 0, n = 0;
        for (; pairs[i] && n == 0; i += 2)
            if (*pattern == '{' && !strncmp(pattern + 1, pairs[i], strlen(pairs[i])) && pattern[1 + strlen(pairs[i])] == '}') {
                n = strlen(pairs[i]) + 2;
                puts_to(t, pairs[i + 1]);
            }
        if (!n) put(t, pattern, n = 1);
        pattern += n;
    }
}

/* A member of an object, as text; the caller frees it. NULL: there is none of that kind. */
static inline char *member(const char *json, size_t n, const char *path, int kind) {
    size_t need;
    char *out;
    if (gpt_json_get(json, n, path, NULL, 0, &need) != kind) return NULL;
    out = (char *)args_need(malloc(need + 1));
    gpt_json_get(json, n, path, out, need + 1, NULL);
    if (kind == 's' && strlen(out) != need) { free(out); return NULL; }         /* a zero byte */
    return out;
}

/* ---- The syntaxes ---------------------------------------------------------------------------------------------------- */

typedef enum { OBJECT, LIST, NAMED } shape;     /* a call is a JSON object; they are an array of such; its name, then its arguments */

typedef struct {
    const char *name;
    const char *marks[3], *never[3];    /* a chat template that has all of the first and none of the others uses it */

    /* Reading: behind begin stand one call, or those of a list; behind end of it another may follow. */
    const char *begin, *end;
    shape       form;
    const char *args;                   /* the member of the object, or what stands between the name and the arguments */
    const char *quote;                  /* NULL: the arguments are JSON; else what stands on both sides of a string */

    /* Constraining: behind trigger (NULL: from the beginning, unless the text begins otherwise) comes a call; of an answer that must
     * be one, before stands ahead. `x` is the control token x if the model has one. */
    const char *trigger, *before, *call;

    /* What goes back. {call} in the first, for each call; of the result {result} is JSON, {text} the same as a string's content. */
    const char *call_message, *one_call, *result_message;
} syntax;

#define CALLS(content) "{\"role\": \"assistant\", " content "\"tool_calls\": [{calls}]}"
#define ONE_CALL(id)   "{\"type\": \"function\", " id "\"function\": {\"name\": \"{name}\", \"arguments\": {args}}}"

static const syntax syntaxes[] = {
    { "hermes", { "<tool_call>", "\"arguments", NULL }, { "<function=", "<arg_key>", "<tool_calls>" },
      "<tool_call>", "</tool_call>", OBJECT, "arguments", NULL,
      "<tool_call>", "`<tool_call>`\n", "{\"name\": \"{name}\", \"arguments\": {args}}",
      CALLS("\"content\": \"\", "), ONE_CALL(""), "{\"role\": \"tool\", \"name\": \"{name}\", \"content\": \"{text}\"}" },
    { "llama3", { "<|start_header_id|>", "ipython", "\"parameters\"" }, { NULL, NULL, NULL },
      "", "", OBJECT, "parameters", NULL, NULL, "", "{\"name\": \"{name}\", \"parameters\": {args}}",
      CALLS(""), ONE_CALL(""), "{\"role\": \"ipython\", \"content\": \"{text}\"}" },
    { "mistral", { "[TOOL_CALLS]", NULL, NULL }, { "[ARGS]", NULL, NULL },
      "[TOOL_CALLS]", "", LIST, "arguments", NULL,
      "[TOOL_CALLS]", "`[TOOL_CALLS]`", "[{\"name\": \"{name}\", \"arguments\": {args}}]",
      CALLS("\"content\": \"\", "), ONE_CALL("\"id\": \"{id}\", "), "{\"role\": \"tool\", \"tool_call_id\": \"{id}\", \"content\": \"{text}\"}" },
    { "harmony", { "<|channel|>", "commentary", "<|message|>" }, { NULL, NULL, NULL },
      "to=functions.", "<|call|>", NAMED, "<|message|>", NULL,
      "to=functions.", " to=functions.", "{name}{channel} `<|constrain|>`json`<|message|>`{args}",
      CALLS(""), ONE_CALL(""), "{\"role\": \"tool\", \"content\": {result}}" },
    { "functiongemma", { "<start_function_call>", "<escape>", NULL }, { NULL, NULL, NULL },
      "<start_function_call>call:", "<end_function_call>", NAMED, "", "<escape>",
      "<start_function_call>", "`<start_function_call>`", "call:{name}{args}`<end_function_call>`",
      CALLS(""), ONE_CALL(""), "{\"role\": \"tool\", \"content\": {\"name\": \"{name}\", \"response\": {result}}}" },
};
enum { N_SYNTAX = sizeof syntaxes / sizeof *syntaxes };

static inline const syntax *syntax_of(const char *chat_template) {
    for (const syntax *x = syntaxes; x < syntaxes + N_SYNTAX; x++) {
        int fits = 1;
        for (int i = 0; i < 3; i++)
            fits = fits && (!x->marks[i] || strstr(chat_template, x->marks[i])) && !(x->never[i] && strstr(chat_template, x->never[i]));
        if (fits) return x;
    }
    return NULL;
}

/* A piece of text of a grammar. */
static inline void put_literal(text *t, const char *p, size_t n) {
    puts_to(t, " \"");
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"' || p[i] == '\\') put(t, "\\", 1);
        if (p[i] == '\n') puts_to(t, "\\n"); else put(t, p + i, 1);
    }
    puts_to(t, "\"");
}

/* A token, where the model has it as a control token: its number; otherwise the text is meant. */
static inline void put_token(text *t, const gpt_model *m, const char *p, size_t n) {
    char name[64], number_of[32];
    gpt_token id;
    snprintf(name, sizeof name, "%.*s", (int)n, p);
    id = m ? gpt_token_find(m, name) : -1;
    if (id < 0 || !gpt_token_is_control(m, id)) { put_literal(t, p, n); return; }
    snprintf(number_of, sizeof number_of, " <[%d]>", (int)id);
    puts_to(t, number_of);
}

/* ---- Reading calls --------------------------------------------------------------------------------------------------- */

typedef struct { char *name, *args, id[64]; } call;     /* args: a JSON object */

static inline void clear_calls(call *calls, size_t n) { while (n-- > 0) { free(calls[n].name); free(calls[n].args); } }

/* Where the object or array that begins at p ends: what it holds is for gpt_json_get to judge. */
static inline const char *json_end(const char *p, const char *end) {
    size_t depth = 0;
    for (int in_string = 0; p < end; p++) {
        if (in_string) {
            if (*p == '\\' && p + 1 < end) p++;
            else if (*p == '"') in_string = 0;
        } else if (*p == '"') in_string = 1;
        else if (*p == '{' || *p == '[') depth++;
        else if ((*p == '}' || *p == ']') && (depth == 0 || --depth == 0)) return p + 1;
    }
    return end;
}

static inline const char *find(const char *p, const char *end, const char *what) {
    const size_t n = strlen(what);
    for (; (size_t)(end - p) >= n; p++) if (!memcmp(p, what, n)) return p;
    return NULL;
}

/* Arguments {name:value,...} to JSON: names get quotation marks, strings lose their quotes for them. Returns its end. */
static inline const char *quoted_args(text *out, const char *p, const char *end, const char *quote) {
    size_t depth = 0;
    while (p < end) {
        const size_t n_quote = strlen(quote);
        const char *word = p;
        if ((size_t)(end - p) >= n_quote && !memcmp(p, quote, n_quote)) {
            const char *close = find(p + n_quote, end, quote);
            if (!close) return end;
            puts_to(out, "\"");
            put_escaped(out, p + n_quote, (size_t)(close - p) - n_quote);
            puts_to(out, "\"");
            p = close + n_quote;
            continue;
        }
        while (p < end && !strchr("{}[],:<\"", *p)) p++;
        if (p > word) {
            const char *mark = p < end && *p == ':' ? "\"" : "";
            puts_to(out, mark);
            if (*mark) put_escaped(out, word, (size_t)(p - word)); else put(out, word, (size_t)(p - word));
            puts_to(out, mark);
            continue;
        }
        put(out, p, 1);
        depth += *p == '{' || *p == '[';
        if ((*p == '}' || *p == ']') && (depth == 0 || --depth == 0)) return p + 1;
        p++;
    }
    return p;
}

/* The call whose object is given. */
static inline int object_call(const syntax *x, const char *json, size_t n, call *out) {
    out->name = member(json, n, "name", 's');
    out->args = member(json, n, x->args, 'o');
    if (out->name && out->args) return 1;
    clear_calls(out, 1);
    return 0;
}

/* NAME, perhaps other things, what stands ahead of the arguments, the arguments. */
static inline int named_call(const syntax *x, const char **at, const char *end, call *out) {
    const char *p = *at, *name = p;
    text args = { NULL, 0, 0 };
    while (p < end && (strchr("_-.", *p) || (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z'))) p++;
    out->name = (char *)args_need(malloc((size_t)(p - name) + 1));
    memcpy(out->name, name, (size_t)(p - name));
    out->name[p - name] = 0;
    p = find(p, end, x->args);
    if (!p) { free(out->name); return 0; }
    p += strlen(x->args);
    if (x->quote) *at = quoted_args(&args, p, end, x->quote);
    else { *at = json_end(p, end); put(&args, p, (size_t)(*at - p)); }
    out->args = args.p ? member(args.p, args.n, "", 'o') : NULL;
    clear(&args);
    if (*out->name && out->args) return 1;
    clear_calls(out, 1);
    return 0;
}

/* The calls in what a model wrote, control tokens spelled. What is none, as it is cut short or no JSON, is passed over. */
static inline size_t read_calls(const syntax *x, const char *p, size_t n_written, call *out) {
    const char *end = p + n_written, *begin;
    size_t n = 0;
    while (n < N_CALL && (begin = find(p, end, x->begin)) != NULL) {
        const size_t n_before = n;
        p = begin + strlen(x->begin);
        if (x->form == NAMED) n += (size_t)named_call(x, &p, end, &out[n]);
        else {
            const char *value = p, *close;
            while (value < end && strchr(" \t\r\n", *value)) value++;
            close = json_end(value, end);
            if (value < end && *value == '{') n += (size_t)object_call(x, value, (size_t)(close - value), &out[n]);
            else if (value < end && *value == '[' && x->form == LIST)
                for (int i = 0; n < N_CALL; i++) {
                    char path[16], *item;
                    snprintf(path, sizeof path, "[%d]", i);
                    item = member(value, (size_t)(close - value), path, 'o');
                    if (!item) break;
                    n += (size_t)object_call(x, item, strlen(item), &out[n]);
                    free(item);
                }
            if (n > n_before) p = close;
            if (!*x->begin) break;              /* only at the beginning */
        }
    }
    for (size_t i = 0; i < n; i++)              /* nine characters, as Mistral wants */
        snprintf(out[i].id, sizeof out[i].id, "call%05u", (unsigned)(i % 100000));
    return n;
}

/* The messages that tell the model what it has called, and what came of one call. */
static inline void put_call_message(text *t, const syntax *x, const call *calls, size_t n) {
    text all = { NULL, 0, 0 };
    for (size_t i = 0; i < n; i++) {
        text name = { NULL, 0, 0 };
        put_escaped(&name, calls[i].name, strlen(calls[i].name));
        const char *const pairs[] = { "name", name.p, "args", calls[i].args, "id", calls[i].id, NULL };
        if (i) puts_to(&all, ", ");
        fill(&all, x->one_call, pairs);
        clear(&name);
    }
    const char *const pairs[] = { "calls", all.p ? all.p : "", NULL };
    fill(t, x->call_message, pairs);
    clear(&all);
}
static inline void put_result_message(text *t, const syntax *x, const call *c, const char *result) {
    text name = { NULL, 0, 0 }, escaped = { NULL, 0, 0 };
    put_escaped(&name, c->name, strlen(c->name));
    put_escaped(&escaped, result, strlen(result));
    const char *const pairs[] = { "name", name.p, "id", c->id, "result", result, "text", escaped.p, NULL };
    fill(t, x->result_message, pairs);
    clear(&name);
    clear(&escaped);
}

#endif
