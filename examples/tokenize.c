/* Text to token ids and back, with the tokenizer of a model file. Only the file's header is read. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: tokenize -m MODEL [options] < text\n\n"
    "Reads text on stdin and prints its token ids on one line. With --decode it reads ids, separated by anything\n"
    "but digits, and prints their text.";

static void decode(const gpt_model *m, const char *text, int special) {
    gpt_model_info info;
    gpt_token *ids = (gpt_token *)args_need(malloc((strlen(text) / 2 + 1) * sizeof *ids));
    size_t n = 0, size;
    char *out;
    gpt_model_info_get(m, &info);
    while (*(text += strcspn(text, "0123456789"))) {
        char *end;
        unsigned long id = strtoul(text, &end, 10);
        if (id >= info.n_vocab) {
            free(ids);
            args_die("no token %.*s: the vocabulary ends at %lu", (int)(end - text), text, (unsigned long)info.n_vocab - 1);
        }
        ids[n++] = (gpt_token)id;
        text = end;
    }
    if (!n) {
        free(ids);
        args_die("no ids found: --decode reads numbers");
    }
    size = gpt_detokenize(m, ids, n, special, NULL, 0);
    out = (char *)args_need(malloc(size + 1));
    gpt_detokenize(m, ids, n, special, out, size);
    fwrite(out, 1, size, stdout);
    free(out);
    free(ids);
}

/* How many of the n bytes are one character of UTF-8 that can be printed; 0: the first byte is none. */
static size_t character(const unsigned char *p, size_t n) {
    size_t size = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0, i;
    if (size > n || *p < 32 || *p == 127) return 0;
    for (i = 1; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    return size;
}

static void show(const gpt_model *m, gpt_token id) {    /* one line: the id, and its bytes with \xNN for the unprintable */
    size_t n, i, size;
    const unsigned char *p = (const unsigned char *)gpt_token_text(m, id, &n);
    printf("%ld\t'", (long)id);
    for (i = 0; i < n; i += size ? size : 1) {
        size = character(p + i, n - i);
        if (size) fwrite(p + i, 1, size, stdout); else printf("\\x%02X", p[i]);
    }
    printf("'%s\n", gpt_token_is_control(m, id) ? "\tcontrol" : "");
}

int main(int argc, char **argv) {
    args_common c = { 0 };
    const char *text = NULL, *file = NULL;
    int bos = 0, special = 0, back = 0, pieces = 0, count = 0;
    const arg table[] = {
        ARGS_MODEL(c),
        { "-p, --prompt",  ARG_TEXT, &text,    "TEXT", "the text, instead of stdin" },
        { "-f, --file",    ARG_TEXT, &file,    "FILE", "a file with the text, instead of stdin" },
        { "--bos",     ARG_FLAG, &bos,     "",     "add the begin and end tokens that the model asks for" },
        { "--special", ARG_FLAG, &special, "",     "text that spells a control token becomes it (with --decode: is printed)" },
        { "--decode",  ARG_FLAG, &back,    "",     "ids to text" },
        { "--count",   ARG_FLAG, &count,   "",     "print only how many tokens there are" },
        { "--show",    ARG_FLAG, &pieces,  "",     "one token a line, with its text" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_model *m;
    gpt_token *ids;
    char *input;
    size_t n, n_id, i;

    args_parse(argc, argv, "tokenize", table, about);
    m = args_load(&c, ARGS_HEADER);
    input = args_text(text, file, 0, &n);
    if (back) {
        decode(m, input, special);
    } else {
        ids = args_tokenize(m, input, n, (bos ? GPT_TOKENIZE_BOS : 0u) | (special ? GPT_TOKENIZE_SPECIAL : 0u), &n_id);
        if (count) printf("%lu\n", (unsigned long)n_id);
        for (i = 0; i < n_id && !count; i++) {
            if (pieces) show(m, ids[i]); else printf(i ? " %ld" : "%ld", (long)ids[i]);
        }
        if (!pieces && !count) putchar('\n');
        free(ids);
    }
    args_close_stdout();
    free(input);
    gpt_model_free(m);
    return 0;
}
