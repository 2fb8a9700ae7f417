/* Questions over a text file: the vectors of an embedding model find the passages that are nearest to the question, a language
 * model reads these and answers, and the numbers of their lines say where to look it up. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "embed.h"
#include "line.h"

static const char about[] =
    "usage: ask -m MODEL [--embedding-model FILE] -f FILE [-p QUESTION]\n\n"
    "Cuts FILE into passages at the ends of its paragraphs or lines, finds those nearest to QUESTION by the vectors of\n"
    "the embedding model, or of MODEL itself, and has MODEL answer from them, through its chat template if it has one.\n"
    "Below the answer, a line for each passage that was given: its number, its lines in FILE, its cosine with the\n"
    "question, and whether the answer cites it, as [1]. The answer is the likeliest text, up to where it goes in a circle.\n"
    "Without -p: a question a line, from stdin.\n"
    "What a small model answers is often wrong. The lines tell.";

static const char instruction[] =
    "Answer the question from the passages alone, in one or two sentences, and cite the number of the passage that says it, "
    "such as [1]. If no passage says it, answer that the text does not say.";

typedef struct { char *text; size_t first, last; } passage;     /* lines of the file, from 1 */
typedef struct { passage *item; size_t n, room; } passages;
typedef struct { char *text; size_t n, room; } buffer;

static void add(buffer *b, const char *text, size_t n) {
    if (b->n + n + 1 > b->room) b->text = (char *)args_need(realloc(b->text, b->room = 2 * (b->n + n + 1)));
    if (n) memcpy(b->text + b->n, text, n);
    b->text[b->n += n] = 0;
}

static size_t count(const gpt_model *m, const char *text, size_t n_text) {
    size_t n;
    gpt_error err;
    if (gpt_tokenize(m, text, n_text, GPT_TOKENIZE_CONTINUE, NULL, 0, &n, &err)) args_die("%s", err.msg);
    return n;
}

/* What is gathered becomes a passage, if it is more than blanks. */
static void end_passage(passages *list, buffer *b, size_t first, size_t last) {
    passage p = { NULL, 0, 0 };
    if (!b->n) return;
    while (b->n && strchr("\n ", b->text[b->n - 1])) b->n--;
    b->text[b->n] = 0;
    p.text = b->text, p.first = first, p.last = last;
    memset(b, 0, sizeof *b);
    if (embed_blank(p.text)) { free(p.text); return; }
    if (list->n == list->room)
        list->item = (passage *)args_need(realloc(list->item, (list->room = list->room ? 2 * list->room : 64) * sizeof p));
    list->item[list->n++] = p;
}

/* How many bytes of the text are at most `most` tokens, about: n, or less if it has more. *tokens: of these. */
static size_t fitting(const gpt_model *m, const char *text, size_t n, size_t most, size_t *tokens) {
    size_t k = n < 8 * most ? n : 8 * most;
    while ((*tokens = count(m, text, k) + 1) > most && k > 1) k -= k / 8 + 1;
    return k;
}

/* Passages of at most `most` tokens of m. They end at a blank line once they are half full, else where the next line would be
 * too much; a line that alone is too long is cut at blanks. */
static passages cut_passages(const gpt_model *m, char **line, size_t n_line, size_t most) {
    passages list = { NULL, 0, 0 };
    buffer b = { NULL, 0, 0 };
    size_t used = 0, first = 1, last = 0, i;
    for (i = 0; i < n_line; i++) {
        const char *p = line[i];
        size_t n = strlen(p), tokens, k;
        if (embed_blank(p)) {
            if (2 * used >= most) { end_passage(&list, &b, first, last); used = 0; }
            else if (b.n) add(&b, "\n", 1);
            continue;
        }
        while ((k = fitting(m, p, n, most, &tokens)) < n) {
            end_passage(&list, &b, first, last);
            for (size_t at = k; at > k / 2; at--) if (p[at] == ' ') { k = at; break; }
            while (k < n && ((unsigned char)p[k] & 0xC0) == 0x80) k++;
            add(&b, p, k);
            end_passage(&list, &b, i + 1, i + 1);
            p += k, n -= k, used = 0;
        }
        if (used + tokens > most) { end_passage(&list, &b, first, last); used = 0; }
        if (!b.n) first = i + 1;
        add(&b, p, n);
        add(&b, "\n", 1);
        used += tokens, last = i + 1;
    }
    end_passage(&list, &b, first, last);
    free(b.text);
    return list;
}

/* The content of the question to the model, for the caller to free; plain: with the instruction, for a model without chats. */
static char *compose(const passages *list, const embed_hit *hit, size_t n, const char *question, int plain) {
    buffer b = { NULL, 0, 0 };
    char mark[32];
    if (plain) add(&b, instruction, strlen(instruction)), add(&b, "\n\n", 2);
    for (size_t i = 0; i < n; i++) {
        snprintf(mark, sizeof mark, "[%lu] ", (unsigned long)i + 1);
        add(&b, mark, strlen(mark));
        add(&b, list->item[hit[i].index].text, strlen(list->item[hit[i].index].text));
        add(&b, "\n\n", 2);
    }
    add(&b, "Question: ", 10);
    add(&b, question, strlen(question));
    if (plain) add(&b, "\nAnswer:", 8);
    return b.text;
}

/* The answer ends where its last bytes have been there before: small models do not find out of a circle. */
enum { REPEAT = 48 };
static int print(void *user, const char *text, size_t n) {
    buffer *answer = (buffer *)user;
    while (!answer->n && n && *text == ' ') text++, n--;
    add(answer, text, n);
    args_print(text, n);
    for (size_t i = 0; i + REPEAT < answer->n; i++) {
        if (!memcmp(answer->text + i, answer->text + answer->n - REPEAT, REPEAT)) return 1;
    }
    return 0;
}
static int ignore(void *user, const char *text, size_t n) { (void)user; (void)text; (void)n; return 0; }

typedef struct { int n_passage, n_predict, size, show, plain; gpt_chat_params chat; } asking;

/* What the model is asked, for the caller to free; *n: its tokens. */
static char *ask(const gpt_model *m, const asking *a, gpt_message messages[2], const passages *list, const embed_hit *hit,
                 size_t n_passage, const char *question, size_t *n) {
    gpt_error err;
    char *content = compose(list, hit, n_passage, question, a->plain);
    messages[0].role = "system", messages[0].content = instruction, messages[0].json = NULL;
    messages[1].role = "user", messages[1].content = content, messages[1].json = NULL;
    if (a->plain ? gpt_tokenize(m, content, strlen(content), GPT_TOKENIZE_BOS, NULL, 0, n, &err)
                 : gpt_chat_tokenize(m, messages, 2, &a->chat, NULL, 0, n, &err)) args_die("%s", err.msg);
    return content;
}

/* What is not given fits the context: an answer takes a quarter of it at most; the passages share what is left by the
 * instruction and a question of 24 tokens, so that one of them fits at least. */
static void fit(asking *a, const args_common *c, const gpt_model *m, size_t n_ctx, size_t window) {
    enum { PREDICT = 160, PASSAGES = 3, SIZE = 160, QUESTION = 24, LEAST = 32, MARK = 6 };
    gpt_message messages[2];
    size_t n, room, part;
    free(ask(m, a, messages, NULL, NULL, 0, "", &n));
    if (a->n_predict && (size_t)a->n_predict + n >= n_ctx)
        args_die("%s: the answer may take %d tokens, the context has %lu, of which the instruction takes %lu",
                 args_name("-n"), a->n_predict, (unsigned long)n_ctx, (unsigned long)n);
    if (!a->n_predict) a->n_predict = n_ctx / 4 < PREDICT ? (int)(n_ctx / 4) : (int)PREDICT;
    n += (size_t)a->n_predict + QUESTION;
    room = n < n_ctx ? n_ctx - n : 0;
    part = room / (size_t)(a->n_passage ? a->n_passage : PASSAGES);
    if (part < LEAST) part = room < LEAST ? room : (size_t)LEAST;
    part = part > MARK + 8 ? part - MARK : 8;
    if (part > SIZE) part = SIZE;
    if (part > window) part = window;
    if (!a->size) a->size = (int)part;
    if (!a->n_passage) a->n_passage = PASSAGES;
    if (args_chatty(c))
        fprintf(stderr, "ask: a context of %lu tokens: answers of at most %d, passages of at most %d\n",
                (unsigned long)n_ctx, a->n_predict, a->size);
}

/* 0: the question is too long. */
static int answer(const args_common *c, gpt_session *s, const gpt_model *m, const passages *list, const embed_hit *hit,
                  const asking *a, const char *question) {
    static const char *const stop[] = { "\n" };
    gpt_message messages[2];
    gpt_generate_params params;
    gpt_session_info info;
    gpt_error err;
    gpt_result r = GPT_OK;
    buffer said = { NULL, 0, 0 };
    char *content, mark[32];
    size_t k = (size_t)a->n_passage < list->n ? (size_t)a->n_passage : list->n, n = 0, i;
    memset(&params, 0, sizeof params);
    gpt_session_info_get(s, &info);
    for (;; k--) {                              /* as many passages as leave room for the answer */
        content = ask(m, a, messages, list, hit, k, question, &n);
        if (n + (size_t)a->n_predict <= info.n_ctx) break;
        free(content);
        if (k > 1) continue;
        fprintf(stderr, "ask: question and nearest passage take %lu tokens, the answer %d, and the context has %lu: a shorter "
                "question, or other %s, %s or %s\n", (unsigned long)n, a->n_predict, (unsigned long)info.n_ctx,
                args_name("--passage-size"), args_name("-n"), args_name("-c"));
        return 0;
    }
    params.max_tokens = (size_t)a->n_predict;
    params.n_draft = 16;                        /* what stands in the passages comes again in answers */
    params.think = ignore;
    if (a->plain) {
        params.stop = stop, params.n_stop = 1;
        gpt_session_reset(s);
        r = gpt_generate(s, content, &params, print, &said, &err);
    } else r = gpt_chat(s, messages, 2, &a->chat, &params, print, &said, &err);
    if (args_stopped) args_interrupted("answering", "");
    if (r) args_die("%s", err.msg);
    puts("");
    for (i = 0; i < k; i++) {
        const passage *p = &list->item[hit[i].index];
        snprintf(mark, sizeof mark, "[%lu]", (unsigned long)i + 1);
        printf("%s line%s %lu", mark, p->last > p->first ? "s" : "", (unsigned long)p->first);
        if (p->last > p->first) printf("-%lu", (unsigned long)p->last);
        printf(", %.4f%s\n", hit[i].score, said.text && strstr(said.text, mark) ? ", cited" : "");
        if (a->show) printf("%s\n", p->text);
    }
    args_close_stdout();
    gpt_session_info_get(s, &info);
    if (info.finish == GPT_FINISH_LENGTH && args_chatty(c)) fprintf(stderr, "ask: the answer was cut by %s\n", args_name("-n"));
    if (info.finish == GPT_FINISH_HOST && args_chatty(c)) fprintf(stderr, "ask: the answer was cut as it repeats itself\n");
    if (k < (size_t)a->n_passage && k < list->n)
        fprintf(stderr, "ask: the context has room for %lu of %d passages\n", (unsigned long)k, a->n_passage);
    if (c->verbose)
        fprintf(stderr, "ask: %lu tokens read, %lu written\n", (unsigned long)info.n_prompt, (unsigned long)info.n_generated);
    free(said.text);
    free(content);
    return 1;
}

int main(int argc, char **argv) {
    args_common c = { 0 }, finder;
    embed_options embed = { 0 };
    asking a = { 0 };
    const char *question = NULL, *file = NULL, *encoder = NULL;
    int failed = 0;
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "--embedding-model", ARG_TEXT, &encoder, "FILE", "the embedding model; default: the model itself" },
        { "-f, --file",      ARG_TEXT,  &file,        "FILE", "the text" },
        { "-p, --prompt",    ARG_TEXT,  &question,    "QUESTION", "the question; none: read from stdin, one a line" },
        { "-n, --predict, --n-predict", ARG_COUNT, &a.n_predict, "N",
          "tokens of an answer at most; 0 = 160, or a quarter of the context" },
        { "-k, --passages",  ARG_COUNT, &a.n_passage, "K",    "passages that the model is given, if they fit; 0 = 3" },
        { "--passage-size",  ARG_COUNT, &a.size,      "N",
          "tokens of a passage at most; 0 = 160, or what the context has room for" },
        { "--show",          ARG_FLAG,  &a.show,      "",     "print the passages too" },
        { "--chat-template", ARG_TEXT,  &a.chat.family, "NAME", "chat template family; default: the file's template" },
        EMBED_OPTIONS(embed),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_session_params session;
    gpt_session *s;
    gpt_model *m, *e;
    gpt_model_info info;
    gpt_session_info room;
    gpt_error err;
    passages list;
    const char **part;
    char *text, **line, *asked;
    float *vectors;
    size_t n_line, window, n_prefix, i;

    args_parse(argc, argv, "ask", table, about);
    if (!c.model) args_die("no model: -m FILE names one");
    if (!file) args_die("no text: -f FILE names one");
    if (question && embed_blank(question)) args_die("%s: the question is empty", args_name("-p"));
    if (!question && !strcmp(file, "-")) args_die("-f - needs -p: stdin cannot be both the text and the questions");
    line = embed_lines(file, &text, &n_line);
    signal(SIGINT, args_on_interrupt);
    m = e = args_load(&c, ARGS_WRITER);
    finder = c;
    if (encoder) {                              /* -c, -b, --pre and --adapter are the model's */
        finder.model = encoder, finder.pre = finder.adapter = NULL, finder.lora = NULL;
        finder.context = finder.batch = 0;
        e = args_load(&finder, ARGS_ANY);
    }
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);

    window = many_window(&finder, e);
    n_prefix = (embed.passage ? count(e, embed.passage, strlen(embed.passage)) : 0) + 8;   /* and what stands around a text */
    if (window < n_prefix + 8)
        args_die("%s: a window of %lu tokens is too short", encoder ? encoder : c.model, (unsigned long)window);
    if ((size_t)a.size > window - n_prefix)
        args_die("--passage-size: expected at most %lu, as the embedding model's window has", (unsigned long)(window - n_prefix));
    gpt_model_info_get(m, &info);
    gpt_session_info_get(s, &room);
    a.plain = !a.chat.family && !*info.chat_template;
    fit(&a, &c, m, room.n_ctx, window - n_prefix);
    list = cut_passages(e, line, n_line, (size_t)a.size);
    if (!list.n) args_die("%s: nothing but blank lines", file);
    part = (const char **)args_need(malloc(list.n * sizeof *part));
    for (i = 0; i < list.n; i++) part[i] = list.item[i].text;
    vectors = embed_texts(&finder, e, &embed, embed.passage, part, list.n, NULL);
    gpt_model_info_get(e, &info);
    if (args_chatty(&c))
        fprintf(stderr, "ask: %lu line%s, %lu passage%s\n", (unsigned long)n_line, n_line > 1 ? "s" : "",
                (unsigned long)list.n, list.n > 1 ? "s" : "");

    for (;;) {
        static float *q;                        /* static: still known when an error ends the program */
        static embed_hit *hit;
        const char *asks;
        signal(SIGINT, SIG_DFL);
        asked = question ? NULL : line_read("> ", "");
        if (!question && !asked) break;
        asks = question ? question : asked;
        if (!embed_blank(asks)) {
            signal(SIGINT, args_on_interrupt);
            q = embed_texts(&finder, e, &embed, embed.query, &asks, 1, NULL);
            hit = embed_rank(q, vectors, list.n, info.n_embd);
            failed |= !answer(&c, s, m, &list, hit, &a, asks);
            free(q), free(hit);
        }
        free(asked);
        if (question) break;
    }
    args_close_stdout();
    for (i = 0; i < list.n; i++) free(list.item[i].text);
    free(list.item), free(part), free(vectors), free(line), free(text);
    gpt_session_free(s);
    if (e != m) gpt_model_free(e);
    args_unload(&c, m);
    return failed && (question || !isatty(0));      /* who asks at a terminal has read it */
}
