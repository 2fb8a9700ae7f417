/* Finds what is alike: the lines of a file nearest to a query by the vectors of an embedding model, these vectors themselves, or
 * the lines in the order in which a reranker says yes to them. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "embed.h"

static const char about[] =
    "usage: embed -m MODEL -f FILE -p QUERY [-n N]\n"
    "       embed -m MODEL -f FILE --vectors\n"
    "       embed -m MODEL -f FILE -p QUERY --rerank\n\n"
    "Prints the lines of FILE that are most similar to QUERY, best first: the cosine of the two vectors, the number of the\n"
    "line, the line, with tabs between. With --vectors: a line of numbers for each line of FILE, an empty one for a blank\n"
    "line. With --rerank: how probable \"yes\" is, and not \"no\", when the model is asked whether the line answers the query.\n"
    "Embedding models (all-MiniLM, BGE, E5, nomic-embed, Qwen3-Embedding ...) do best; any other gives vectors too.\n\n"
    "The question of --rerank is --form, with {query} and {document} in it; or what a reranker's file names as its own; or\n"
    "Qwen3-Reranker's, through the file's chat template; or a plain one, where the file has none.";

static const char judge[] = "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
                            "Note that the answer can only be \"yes\" or \"no\".";
static const char plain_form[] = "Query: {query}\nDocument: {document}\n"
                                 "Does the document answer the query? Say yes or no.\nAnswer:";

/* ---- Reranking -------------------------------------------------------------------------------------------------------- */

typedef struct {
    char        *jinja;         /* the form, or NULL: the file's chat template */
    const char  *instruct, *choice[2];
    gpt_token  **ids;           /* of each document, in the form */
    size_t      *n, n_shared;
    float       *p;             /* [2 n] of yes and no */
} rerank_job;

typedef struct { char *text; size_t n, room; } buffer;

static void add(buffer *b, const char *text, size_t n) {
    if (b->n + n + 1 > b->room) b->text = (char *)args_need(realloc(b->text, b->room = 2 * (b->n + n + 1)));
    memcpy(b->text + b->n, text, n);
    b->text[b->n += n] = 0;
}

/* A form as a chat template, so that the query and the documents are messages: what they spell is never a control token, and
 * the whole is cut into tokens as one text. bos: it begins with that token. */
static char *form_as_template(const char *form, int bos) {
    static const char *const field[] = { "{query}", "{document}" };
    static const char *const value[] = { "\" }}{{ messages[0].content }}{{ \"", "\" }}{{ messages[1].content }}{{ \"" };
    buffer b = { NULL, 0, 0 };
    if (!strstr(form, field[0]) || !strstr(form, field[1]))
        args_die("--form: expected {query} and {document} in it, got '%s'", form);
    if (bos) add(&b, "{{ bos_token }}", 15);
    add(&b, "{{ \"", 4);
    while (*form) {
        const int is = !strncmp(form, field[0], strlen(field[0])) ? 0 : !strncmp(form, field[1], strlen(field[1])) ? 1 : -1;
        if (is >= 0) { add(&b, value[is], strlen(value[is])); form += strlen(field[is]); continue; }
        if (*form == '"' || *form == '\\') add(&b, "\\", 1);
        if (*form == '\n') add(&b, "\\n", 2); else add(&b, form, 1);
        form++;
    }
    add(&b, "\" }}", 4);
    return b.text;
}

static gpt_token *question(const gpt_model *m, const rerank_job *job, const char *query, const char *document, size_t *n) {
    gpt_message messages[2] = { { "user", query, NULL }, { "user", document, NULL } };
    gpt_chat_params chat;
    gpt_error err;
    gpt_token *ids;
    buffer b = { NULL, 0, 0 };
    memset(&chat, 0, sizeof chat);
    chat.jinja = job->jinja;
    if (!job->jinja) {
        const char *const part[] = { "<Instruct>: ", job->instruct, "\n<Query>: ", query, "\n<Document>: ", document };
        for (int i = 0; i < 6; i++) add(&b, part[i], strlen(part[i]));
        messages[0].role = "system";
        messages[0].content = judge;
        messages[1].content = b.text;
        chat.variables = "{\"enable_thinking\": false}";
    }
    if (gpt_chat_tokenize(m, messages, 2, &chat, NULL, 0, n, &err)) args_die("%s", err.msg);
    ids = (gpt_token *)args_need(malloc((*n + 1) * sizeof *ids));
    if (gpt_chat_tokenize(m, messages, 2, &chat, ids, *n, n, &err)) args_die("%s", err.msg);
    free(b.text);
    return ids;
}

static int rerank_begin(void *user, gpt_session *s, size_t i, int step) {
    rerank_job *job = (rerank_job *)user;
    gpt_choose_params params;
    gpt_error err;
    gpt_result r;
    if (step == 2) return 0;
    memset(&params, 0, sizeof params);
    params.softmax = 1;
    if (step == 0) {
        gpt_session_reset(s);
        r = gpt_eval_begin(s, job->ids[i] + job->n_shared, job->n[i] - job->n_shared, NULL, &err);
    } else r = gpt_choose_begin(s, NULL, job->choice, 2, &params, job->p + 2 * i, NULL, &err);
    if (r) args_die("%s", err.msg);
    return 1;
}

/* The documents by the probability of yes. What all questions begin with is computed once. */
static embed_hit *rerank(const args_common *c, const gpt_model *m, const char *form, rerank_job *job, const char *query,
                         const char *const *document, size_t n, size_t *n_cut) {
    const size_t window = many_window(c, m), room = 64;     /* room: for the choices */
    size_t longest = 0, n_bos, i, k;
    gpt_session_params params = args_session(c);
    gpt_session *shared;
    gpt_model_info info;
    gpt_meta meta;
    gpt_error err;
    float *score;
    gpt_token *bos = args_tokenize(m, "", 0, GPT_TOKENIZE_BOS, &n_bos);
    embed_hit *hit = (embed_hit *)args_need(malloc((n + 1) * sizeof *hit));
    gpt_model_info_get(m, &info);
    if (!form && !gpt_model_meta(m, "tokenizer.chat_template.rerank", 0, &meta)) form = meta.text;
    if (!form && !*info.chat_template) form = plain_form;
    job->jinja = form ? form_as_template(form, n_bos > 0 && bos[0] == info.bos) : NULL;
    free(bos);
    if (!job->choice[0]) job->choice[0] = form == plain_form ? " yes" : "yes";     /* behind a line's end, or a word */
    if (!job->choice[1]) job->choice[1] = form == plain_form ? " no" : "no";
    job->ids = (gpt_token **)args_need(malloc((n + 1) * sizeof *job->ids));
    job->n = (size_t *)args_need(malloc((n + 1) * sizeof *job->n));
    job->p = (float *)args_need(malloc((2 * n + 1) * sizeof *job->p));
    for (i = 0; i < n; i++) {
        size_t bytes = strlen(document[i]);
        job->ids[i] = question(m, job, query, document[i], &job->n[i]);
        if (job->n[i] + room > window) (*n_cut)++;
        while (job->n[i] + room > window) {     /* a shorter document, of whole characters */
            char *cut = (char *)args_need(malloc(bytes + 1));
            if (!bytes) args_die("-c: the question takes %lu tokens without a document, %lu with the answer are the context's",
                                 (unsigned long)job->n[i], (unsigned long)window);
            bytes -= bytes / 8 + 1;
            while (bytes && ((unsigned char)document[i][bytes] & 0xC0) == 0x80) bytes--;
            memcpy(cut, document[i], bytes);
            cut[bytes] = 0;
            free(job->ids[i]);
            job->ids[i] = question(m, job, query, cut, &job->n[i]);
            free(cut);
        }
        if (job->n[i] < 1) args_die("--form: it gives no tokens");
        if (job->n[i] > longest) longest = job->n[i];
    }
    job->n_shared = n ? job->n[0] - 1 : 0;
    for (i = 1; i < n; i++) {                   /* of each at least one token is left */
        for (k = 0; k < job->n_shared && k + 1 < job->n[i] && job->ids[i][k] == job->ids[0][k]; k++) {}
        job->n_shared = k;
    }
    params.n_ctx = (uint32_t)(job->n_shared + 1);
    score = (float *)args_need(malloc(params.n_ctx * sizeof *score));    /* not looked at: a model that gives none says so */
    if (gpt_session_new(&shared, m, &params, &err) || gpt_score(shared, n ? job->ids[0] : NULL, job->n_shared, score, &err) ||
        gpt_session_freeze(shared, &err)) {
        if (args_stopped) args_interrupted("reranking", "");
        args_die("%s", err.msg);
    }
    many_run(c, m, shared, (uint32_t)(longest + room), 0, n, rerank_begin, job, "reranking");
    gpt_session_free(shared);
    free(score);
    for (i = 0; i < n; i++) {
        hit[i].score = job->p[2 * i] >= 0 ? job->p[2 * i] : 0;
        hit[i].index = i;
        free(job->ids[i]);
    }
    qsort(hit, n, sizeof *hit, embed_by_score);
    free(job->ids), free(job->n), free(job->p), free(job->jinja);
    return hit;
}

/* ---- The program ------------------------------------------------------------------------------------------------------ */

int main(int argc, char **argv) {
    args_common c = { 0 };
    embed_options embed = { 0 };
    rerank_job job = { 0 };
    const char *query = NULL, *file = NULL, *form = NULL;
    int most = 10, vectors = 0, by_yes = 0;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-f, --file",     ARG_TEXT,  &file,    "FILE",  "the text, a passage a line; - or none: read from stdin" },
        { "-p, --prompt",   ARG_TEXT,  &query,   "QUERY", "what to look for" },
        { "-n, --top",      ARG_COUNT, &most,    "N",     "lines to print; 0 = all (10)" },
        { "--vectors",      ARG_FLAG,  &vectors, "",      "the vector of each line, numbers with spaces between" },
        EMBED_OPTIONS(embed),
        { "--rerank",       ARG_FLAG,  &by_yes,  "",      "by the probability of \"yes\" to the question of --form" },
        { "--form",         ARG_TEXT,  &form,    "TEXT",  "that question, with {query} and {document}; \\n a line's end" },
        { "--instruct",     ARG_TEXT,  &job.instruct, "TEXT", "what Qwen3-Reranker is told of the task" },
        { "--yes",          ARG_TEXT,  &job.choice[0], "TEXT", "the answer that counts (yes)" },
        { "--no",           ARG_TEXT,  &job.choice[1], "TEXT", "and the other one (no)" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model_info info;
    gpt_model *m;
    char *text, **line, *own = NULL;
    const char **part;
    size_t n_line, n = 0, n_cut = 0, *number, i, j;
    float *v = NULL, *q = NULL;
    embed_hit *hit = NULL;

    args_parse(argc, argv, "embed", table, about);
    if (!c.model) args_die("no model: -m FILE names one");
    if (vectors && (query || by_yes)) args_die("--vectors takes neither a query nor --rerank");
    if (!vectors && !query) args_die("no query: -p TEXT, or --vectors");
    if (query && embed_blank(query)) args_die("%s: the query is empty", args_name("-p"));
    args_only("-n", !vectors, "--vectors has a line for each line of the file");
    args_only("--query-prefix", !vectors, "--vectors has no query");
    if (by_yes && (embed.pooling || embed.query || embed.passage))
        args_die("--rerank takes no vectors: neither --pooling nor a prefix");
    if (!by_yes && (form || job.instruct || job.choice[0] || job.choice[1]))
        args_die("--form, --instruct, --yes and --no are for --rerank");
    if (job.instruct && form) args_die("--form and --instruct exclude each other");
    for (i = 0; i < 2; i++) if (job.choice[i] && !*job.choice[i]) args_die("--%s: the text is empty", i ? "no" : "yes");
    if (!job.instruct) job.instruct = "Given a web search query, retrieve relevant passages that answer the query";
    if (form) form = own = args_unescape(form);
    if (!file && isatty(0)) args_die("no text: -f FILE, or a text on stdin");
    line = embed_lines(file ? file : "-", &text, &n_line);
    signal(SIGINT, args_on_interrupt);
    m = args_load(&c, by_yes ? ARGS_WRITER : ARGS_ANY);
    gpt_model_info_get(m, &info);

    part = (const char **)args_need(malloc(n_line * sizeof *part));     /* the lines that are not blank, and their numbers */
    number = (size_t *)args_need(malloc(n_line * sizeof *number));
    for (i = 0; i < n_line; i++) if (!embed_blank(line[i])) { part[n] = line[i]; number[n++] = i; }

    if (by_yes) hit = rerank(&c, m, form, &job, query, part, n, &n_cut);
    else {
        v = embed_texts(&c, m, &embed, embed.passage, part, n, &n_cut);
        if (query) {
            q = embed_texts(&c, m, &embed, embed.query, &query, 1, NULL);
            hit = embed_rank(q, v, n, info.n_embd);
        }
    }
    if (n_cut)
        fprintf(stderr, "embed: %lu line%s longer than %lu tokens (%s), of which the beginning counts\n", (unsigned long)n_cut,
                n_cut > 1 ? "s are" : " is", (unsigned long)many_window(&c, m), args_name("-c"));
    for (i = 0; hit && i < n && (!most || i < (size_t)most); i++)
        printf("%.4f\t%lu\t%s\n", hit[i].score, (unsigned long)number[hit[i].index] + 1, part[hit[i].index]);
    for (i = j = 0; vectors && i < n_line; i++) {
        if (j < n && number[j] == i) {
            for (size_t k = 0; k < info.n_embd; k++) printf("%s%.9g", k ? " " : "", (double)v[j * info.n_embd + k]);
            j++;
        }
        putchar('\n');
    }
    args_close_stdout();
    free(v), free(q), free(hit), free(part), free(number), free(line), free(text), free(own);
    args_unload(&c, m);
    return 0;
}
