/* Fuzzer of the tokenizer: the input is a vocabulary and a text. With libFuzzer:
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -Itests tests/fuzz_tokenizer.c -o fuzz && ./fuzz
 * Otherwise it has a main of its own that replays the files it is given and inputs it makes up.
 * Input: a byte that picks the model, one that picks the pre-tokenizer, a byte of switches; records "type length bytes"
 * of tokens up to a zero type, "length bytes" of merges up to a zero length, then the text. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "bounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKEN = 400, MAX_MERGE = 400 };

/* Everything asked for at once must stay in proportion to the input; more is a bug like any other. */
typedef struct budget { size_t left; } budget;

static void *budget_alloc(void *user, size_t n) {
    budget *b = (budget *)user;
    if (n > b->left) abort();
    return malloc(n);
}

static void budget_free(void *user, void *p) { (void)user; free(p); }

static void check_text(const gpti_tokenizer *t, const char *text, size_t n_text, const gpti_mem *mem, int whole_bytes) {
    static char scratch[600];
    unsigned flags;
    for (flags = 0; flags < 8; flags++) {
        size_t n = 0, again = 0, size, i;
        gpt_token *ids;
        char *back;
        if (gpti_tokenizer_encode(t, text, n_text, flags, NULL, 0, &n, NULL, 0, mem, NULL) != GPT_OK) abort();
        ids = (gpt_token *)malloc((n + 1) * sizeof *ids);
        if (gpti_tokenizer_encode(t, text, n_text, flags, ids, n, &again, scratch, flags * 80, mem,
                                  NULL) != GPT_OK) abort();
        if (again != n || n > n_text * (t->n_charsmap ? GPTI_TOK_GROW + 1 : 2) + 3) abort();   /* and spaces in front */
        for (i = 0; i < n; i++) if (ids[i] < 0 || ids[i] >= t->n_token) abort();
        size = gpti_tokenizer_decode(t, ids, n, 1, NULL, 0);
        back = (char *)malloc(size + 1);
        if (gpti_tokenizer_decode(t, ids, n, 1, back, size) != size) abort();
        if (flags == 0 && whole_bytes && (size != n_text || memcmp(back, text, n_text) != 0)) abort();
        for (i = 0; i < n; i++) {
            gpti_str s = gpti_tokenizer_piece(t, ids[i]);
            gpt_token id = gpti_tokenizer_find(t, s.p, s.n);
            if (id >= t->n_token || (id >= 0 && gpti_tokenizer_piece(t, id).n != s.n)) abort();
            (void)gpti_tokenizer_is_end(t, ids[i]);
        }
        free(back);
        free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const models[] = { "gpt2", "llama", "t5", "bert" };
    static char bytes[256][8];
    static gpti_str token[MAX_TOKEN + 256], merge[MAX_MERGE];
    static int32_t type[MAX_TOKEN + 256];
    static float score[MAX_TOKEN + 256];
    static gpti_tokenizer t;
    static gpti_pretokenizer rows[GPTI_N_PRE];
    const uint8_t *p = data + 3, *end = data + size;
    gpti_vocab v;
    gpti_mem mem;
    budget b;
    gpt_error err;
    const char *name;
    unsigned switches, i, model;
    if (size < 4) return 0;
    memset(&v, 0, sizeof v);
    model = data[0] & 3;
    switches = data[2];
    v.model.p = models[model];
    v.model.n = strlen(v.model.p);
    name = rows[data[1] % gpti_list_pretokenizers(rows)].names;
    v.pre.p = name;
    v.pre.n = strcspn(name, " ");
    v.name.p = "Phi-3";                                          /* whose markers swallow white space */
    v.name.n = switches & 1 ? 0 : 5;
    v.chat_template.p = (const char *)data;
    v.chat_template.n = size;
    if (switches & 1)                                            /* every byte has a token: any text has a way back */
        for (; v.n_token < 256; v.n_token++) {
            unsigned byte = (unsigned)v.n_token, cp = byte < 33 ? 256 + byte : byte >= 127 && byte < 161 ? 162 + byte
                                                  : byte == 173 ? 323 : byte;
            if (model) sprintf(bytes[byte], "<0x%02X>", byte & 255);
            else if (cp < 128) { bytes[byte][0] = (char)cp; bytes[byte][1] = 0; }
            else {
                bytes[byte][0] = (char)(0xC0 | cp >> 6);
                bytes[byte][1] = (char)(0x80 | (cp & 63));
                bytes[byte][2] = 0;
            }
            token[byte].p = bytes[byte];
            token[byte].n = strlen(bytes[byte]);
            type[byte] = model ? GPTI_TOKEN_BYTE : GPTI_TOKEN_NORMAL;
            score[byte] = 0;
        }
    while (end - p > 2 && *p && v.n_token < MAX_TOKEN) {
        size_t n = p[1] & 31;
        type[v.n_token] = p[0] & 7;
        score[v.n_token] = (float)(p[1] >> 5) - (float)v.n_token / 16;
        p += 2;
        if (n > (size_t)(end - p)) n = (size_t)(end - p);
        token[v.n_token].p = (const char *)p;
        token[v.n_token++].n = n;
        p += n;
    }
    if (p < end) p++;
    while (end - p > 1 && *p && v.n_merge < MAX_MERGE) {
        size_t n = *p++ & 31;
        if (n > (size_t)(end - p)) n = (size_t)(end - p);
        merge[v.n_merge].p = (const char *)p;
        merge[v.n_merge++].n = n;
        p += n;
    }
    if (p < end) p++;
    v.token = token;
    v.merge = merge;
    v.type = switches & 2 ? type : NULL;
    v.score = switches & 4 ? score : NULL;
    v.bos = v.eos = v.eot = v.eom = v.unk = -1;
    if (switches & 8) { v.bos = v.cls = 3; v.eos = v.sep = 4; v.unk = 5; }
    v.lowercase = switches & 32 ? 1 : -1;
    v.strip_accents = switches & 64 ? (data[1] & 1) : -1;
    v.add_bos = v.add_eos = v.add_space_prefix = switches & 16 ? 1 : -1;
    v.remove_extra_whitespaces = switches & 32 ? 1 : -1;
    if (switches & 64) { v.charsmap.p = (const char *)p; v.charsmap.n = (size_t)(end - p) / 2; }
    b.left = 100000 + 400 * size;
    mem.alloc = budget_alloc;
    mem.free = budget_free;
    mem.user = &b;
    err.msg[0] = 0;
    if (gpti_tokenizer_init(&t, &v, &mem, &err) != GPT_OK) {
        if (!is_message(err.msg)) abort();
        return 0;
    }
    if (t.family == GPTI_TOK_NONE) return 0;
    for (i = 0; i < 256 && t.byte[i] >= 0; i++) { }
    if (end - p > 3000) end = p + 3000;
    b.left = BOUND_TEXT * (size_t)(end - p) + BOUND_TEXT_MORE;
    check_text(&t, (const char *)p, (size_t)(end - p), &mem, i == 256 && t.letters);
    gpti_tokenizer_free(&t, &mem);
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

static size_t make_up(uint8_t *out) {                            /* few letters, long runs, some of everything else */
    static const char *const parts[] = { "a", "b", "ab", " ", "\xE2\x96\x81", "1", "\n", "'s", "\xC4\xA0",
                                         "\xE6\x97\xA5", "\xCC\x81", "A",
                                         "<s>", "<|im_end|>", "\xFF", "\t", ".", "\xC3\x89", "\xEA\xB0\x81", "##" };
    size_t n = 0, k, len;
    uint32_t count = next() % 60, i, j;
    for (i = 0; i < 3; i++) out[n++] = (uint8_t)next();
    for (i = 0; i < count * 2; i++) {
        size_t at = n;
        if (i < count) out[n++] = (uint8_t)(1 + next() % 7);
        n++;
        for (j = 1 + next() % 3; j > 0; j--) {
            const char *s = parts[next() % 20];
            len = strlen(s);
            memcpy(out + n, s, len);
            n += len;
            if (i >= count && j == 2) out[n++] = ' ';
        }
        len = n - at - (i < count ? 2 : 1);
        out[n - len - 1] = (uint8_t)(len | (next() % 8) << 5);
        if (i + 1 == count) out[n++] = 0;
    }
    out[n++] = 0;
    for (i = next() % 30; i > 0; i--) {
        const char *s = parts[next() % 20];
        len = strlen(s);
        for (k = next() % 4 ? 1 : 1 + next() % 40; k > 0; k--, n += len) memcpy(out + n, s, len);
    }
    return n;
}

int main(int argc, char **argv) {
    static uint8_t data[1 << 16];
    int i;
    for (i = 1; i < argc; i++) replay(argv[i], 0);
    for (i = 0; i < 3000; i++, test_passed++) LLVMFuzzerTestOneInput(data, make_up(data));
    return test_report("fuzz_tokenizer");
}
#endif
