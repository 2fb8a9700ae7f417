/* Tokenizer: vectors of published vocabularies and of trained ones (make_tokenizer_goldens.py), round trips, special
 * tokens, hostile vocabularies, failing allocations, time.
 *     unit_tokenizer --bench VOCABULARY.gguf TEXT     speed of init and of encoding
 *     unit_tokenizer --texts FILE...                  round trips of these files through the published vocabularies
 *     unit_tokenizer --long                           runs of a megabyte instead of 30 kB */
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t n_compared;                                       /* texts that the library has compared */
static int count_memcmp(const void *a, const void *b, size_t n) { n_compared++; return memcmp(a, b, n); }
#undef memcmp
#define memcmp count_memcmp
#define GPT_IMPLEMENTATION
#include "gpt.h"
#undef memcmp
#include "test.h"

static gpti_pretokenizer pretokenizer[GPTI_N_PRE];
static size_t n_pretokenizer;

#define SHARED "../shared/data/"
#define GOLDEN "tests/golden/tokenizer_"

/* -- files -- */

static char *read_file(const char *path, size_t *n) {           /* malloc'ed, with a 0 behind it; NULL when absent */
    FILE *f = fopen(path, "rb");
    char *p = NULL;
    long size;
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    fseek(f, 0, SEEK_SET);
    p = (char *)malloc((size_t)size + 1);
    *n = fread(p, 1, (size_t)size, f);
    p[*n] = 0;
    fclose(f);
    return p;
}

/* -- the metadata of a GGUF file, just enough for a vocabulary: little-endian, trusted -- */

typedef struct gguf_vocab { gpti_vocab v; gpti_str *token,
                            *merge; float *score; int32_t *type; char *file; } gguf_vocab;

static uint64_t le(const char **p, int n) {
    uint64_t v = 0;
    int i;
    for (i = 0; i < n; i++) v |= (uint64_t)(unsigned char)*(*p)++ << (8 * i);
    return v;
}

static gpti_str le_str(const char **p) {
    gpti_str s;
    s.n = (size_t)le(p, 8);
    s.p = *p;
    *p += s.n;
    return s;
}

static int is(gpti_str s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

static gpti_str str(const char *p, size_t n) {
    gpti_str s;
    s.p = p;
    s.n = n;
    return s;
}

/* The next part of a file whose parts end with a separator line; moves *p behind it. */
static gpti_str part(const char **p, const char *end, const char *separator) {
    const char *from = *p, *q;
    size_t n = strlen(separator);
    for (q = from; (size_t)(end - q) >= n; q++)
        if (*q == *separator && memcmp(q, separator, n) == 0) {
            *p = q + n;
            return str(from, (size_t)(q - from));
        }
    *p = end;
    return str(from, (size_t)(end - from));
}

static gpti_vocab no_vocab(const char *model, const char *pre) {
    gpti_vocab v;
    memset(&v, 0, sizeof v);
    v.model.p = model; v.model.n = strlen(model);
    v.pre.p = pre; v.pre.n = strlen(pre);
    v.bos = v.eos = v.eot = v.eom = v.unk = -1;
    v.add_bos = v.add_eos = v.add_space_prefix = v.remove_extra_whitespaces = -1;
    return v;
}

static void vocab_key(gguf_vocab *g, gpti_str key, int type, const char **p) {
    static const int sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    gpti_vocab *v = &g->v;
    if (type == 8) {
        gpti_str s = le_str(p);
        if (is(key, "tokenizer.ggml.model")) v->model = s;
        if (is(key, "tokenizer.ggml.pre")) v->pre = s;
    } else if (type == 9) {
        int elem = (int)le(p, 4);
        size_t i, n = (size_t)le(p, 8);
        gpti_str *str = elem == 8 ? (gpti_str *)malloc(n * sizeof *str) : NULL;
        const char *data = *p;
        if (elem == 8) for (i = 0; i < n; i++) str[i] = le_str(p);
        else *p += n * (size_t)sizes[elem];
        if (is(key, "tokenizer.ggml.tokens")) { v->token = g->token = str; v->n_token = n; }
        else if (is(key, "tokenizer.ggml.merges")) { v->merge = g->merge = str; v->n_merge = n; }
        else free(str);
        if (is(key, "tokenizer.ggml.scores")) {
            v->score = g->score = (float *)malloc(n * 4);
            for (i = 0; i < n; i++) { uint32_t u = (uint32_t)le(&data, 4); memcpy(&g->score[i], &u, 4); }
        }
        if (is(key, "tokenizer.ggml.token_type")) {
            v->type = g->type = (int32_t *)malloc(n * 4);
            for (i = 0; i < n; i++) g->type[i] = (int32_t)le(&data, 4);
        }
    } else {
        int x = (int)le(p, sizes[type]);
        if (is(key, "tokenizer.ggml.bos_token_id")) v->bos = x;
        if (is(key, "tokenizer.ggml.eos_token_id")) v->eos = x;
        if (is(key, "tokenizer.ggml.unknown_token_id")) v->unk = x;
        if (is(key, "tokenizer.ggml.add_bos_token")) v->add_bos = x;
        if (is(key, "tokenizer.ggml.add_eos_token")) v->add_eos = x;
        if (is(key, "tokenizer.ggml.add_space_prefix")) v->add_space_prefix = x;
    }
}

static int load_gguf(gguf_vocab *g, const char *path) {         /* 0 when the file is not there */
    const char *p;
    size_t n, i, n_kv;
    memset(g, 0, sizeof *g);
    g->v = no_vocab("", "");
    g->file = read_file(path, &n);
    if (!g->file) return 0;
    p = g->file + 16;
    n_kv = (size_t)le(&p, 8);
    for (i = 0; i < n_kv; i++) {
        gpti_str key = le_str(&p);
        int type = (int)le(&p, 4);
        vocab_key(g, key, type, &p);
    }
    return 1;
}

static void free_gguf(gguf_vocab *g) {
    free(g->token); free(g->merge); free(g->score); free(g->type); free(g->file);
}

/* -- memory that counts and fails -- */

typedef struct counter { long calls, fail_at, live; } counter;  /* fail_at 0: never */

static void *count_alloc(void *user, size_t n) {
    counter *c = (counter *)user;
    if (++c->calls == c->fail_at) return NULL;
    c->live++;
    return malloc(n);
}

static void count_free(void *user, void *p) {
    ((counter *)user)->live--;
    free(p);
}

static counter heap;
static gpti_mem mem;

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static size_t encode(const gpti_tokenizer *t, const char *text, size_t n, unsigned flags, gpt_token **ids) {
    static char scratch[16384];
    gpt_error err;
    size_t count = 0, again = 0;
    gpt_result r = gpti_tokenizer_encode(t, text, n, flags, NULL, 0, &count, NULL, 0, &mem, &err);
    CHECK(r == GPT_OK, "encode: %s", err.msg);
    *ids = (gpt_token *)malloc((count + 1) * sizeof **ids);
    r = gpti_tokenizer_encode(t, text, n, flags, *ids, count, &again, scratch, sizeof scratch, &mem, &err);
    CHECK(r == GPT_OK && again == count, "encode: %lu ids at first, then %lu", (unsigned long)count, (unsigned long)again);
    return count;
}

static int init(gpti_tokenizer **t, const gpti_vocab *v, gpt_error *err) {
    gpt_result r;
    *t = (gpti_tokenizer *)malloc(sizeof **t);
    err->msg[0] = 0;
    r = gpti_tokenizer_init(*t, v, &mem, err);
    if (r != GPT_OK) { free(*t); *t = NULL; }
    return r;
}

static void done(gpti_tokenizer *t) {
    if (t) gpti_tokenizer_free(t, &mem);
    free(t);
}

/* SentencePiece: U+2581 is a space to sentencepiece, and comes back as one. */
static void round_trip(const gpti_tokenizer *t, const char *text, size_t n, const char *name) {
    gpt_token *ids;
    size_t count = encode(t, text, n, 0, &ids), size = gpti_tokenizer_decode(t, ids, count, 0, NULL, 0);
    char *back = (char *)malloc(size + 1), *want = (char *)malloc(n + 1);
    gpti_tokenizer_decode(t, ids, count, 0, back, size);
    memcpy(want, text, n);
    if (t->family == GPTI_TOK_SPM) n = gpti_bytes_of_spm(want, text, n);
    CHECK(size == n && memcmp(back, want, n) == 0, "%s: round trip gives %lu bytes of %lu", name, (unsigned long)size,
          (unsigned long)n);
    free(want);
    free(back);
    free(ids);
}

/* -- llama.cpp's vectors: texts separated by a line, one line of ids each -- */

static void check_ids(const char *what, size_t index, const gpti_tokenizer *t, gpti_str text, gpti_str line) {
    gpt_token *ids;
    size_t count = encode(t, text.p, text.n, 0, &ids), i;
    const char *p = line.p, *end = line.p + line.n;
    for (i = 0; p < end; i++) {
        char *next;
        long want = strtol(p, &next, 10);
        CHECK(i < count && ids[i] == want, "%s, text %lu, id %lu: found %ld, expected %ld", what, (unsigned long)index,
              (unsigned long)i, i < count ? (long)ids[i] : -1L, want);
        p = next;
    }
    CHECK(i == count, "%s, text %lu: %lu ids, expected %lu", what, (unsigned long)index, (unsigned long)count,
          (unsigned long)i);
    free(ids);
}

static void vectors(const char *what, const gpti_tokenizer *t, const char *texts, const char *separator,
                    const char *ids,
                    size_t expected) {
    size_t n_text, n_ids, index = 0;
    char *in = read_file(texts, &n_text), *out = read_file(ids, &n_ids);
    CHECK(in && out, "%s: %s or %s is missing", what, texts, ids);
    if (in && out) {
        const char *p = in, *q = out;
        for (; p < in + n_text; index++) {
            gpti_str text = part(&p, in + n_text, separator);
            check_ids(what, index, t, text, part(&q, out + n_ids, "\n"));
        }
        CHECK(!expected || index == expected, "%s: %lu vectors, expected %lu", what, (unsigned long)index,
              (unsigned long)expected);
    }
    free(in);
    free(out);
}

/* texts in many scripts, with malformed UTF-8 and white space of all kinds */
static const char *const unicode_texts[] = { SHARED "unicode/UTF-8-test.txt", SHARED "unicode/blns.txt",
    SHARED "unicode/udhr2/eng.txt", SHARED "unicode/udhr2/jpn.txt", SHARED "unicode/udhr2/arb.txt",
    SHARED "unicode/udhr2/hin.txt", SHARED "unicode/udhr2/rus.txt", SHARED "unicode/udhr2/tha.txt",
    SHARED "unicode/udhr2/kor.txt", SHARED "unicode/udhr2/amh.txt", SHARED "unicode/udhr2/cmn_hans.txt",
    SHARED "unicode/udhr2/heb.txt", SHARED "unicode/udhr2/ell_monotonic.txt", SHARED "unicode/udhr2/kat.txt",
    SHARED "unicode/udhr2/tam.txt", SHARED "unicode/udhr2/mya.txt", SHARED "unicode/udhr2/vie.txt",
    SHARED "unicode/udhr2/khk_mong.txt", SHARED "unicode/udhr2/bod.txt", SHARED "unicode/udhr2/chr.txt" };

static void published(const char *name, const char *const *files, size_t n_file) {
    char path[300], texts[310], ids[310];
    gguf_vocab g;
    gpti_tokenizer *t;
    gpt_error err;
    size_t i, n;
    sprintf(path, SHARED "tokenizers/ggml-vocab-%s.gguf", name);
    if (!load_gguf(&g, path)) { printf("unit_tokenizer: no %s, its vectors are skipped\n", path); return; }
    CHECK(init(&t, &g.v, &err) == GPT_OK, "%s: %s", path, err.msg);
    free_gguf(&g);                            /* the tokenizer keeps nothing of it */
    sprintf(texts, "%s.inp", path);
    sprintf(ids, "%s.out", path);
    if (t) vectors(name, t, texts, "\n__ggml_vocab_test__\n", ids, 46);
    for (i = 0; t && i < n_file; i++) {
        char *text = read_file(files[i], &n);
        if (text) round_trip(t, text, n, files[i]);
        else printf("unit_tokenizer: no %s, its round trip is skipped\n", files[i]);
        free(text);
    }
    done(t);
}

/* -- the trained byte-level vocabulary, cut by each family -- */

static size_t bpe_letter(int b, char *out) {                    /* a byte in GPT-2's alphabet, as UTF-8 */
    int cp = b;
    if (b < 33) cp = 256 + b;
    else if (b >= 127 && b < 161) cp = 256 + b - 94;
    else if (b == 173) cp = 256 + 67;
    if (cp < 128) { out[0] = (char)cp; return 1; }
    out[0] = (char)(0xC0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 63));
    return 2;
}

typedef struct bpe_vocab { gpti_vocab v; gpti_str *token, *merge; int32_t *type; char *file, *text; } bpe_vocab;

/* 256 bytes and a token for each merge of the file; room for `extra` more tokens, which the caller fills in. */
static int load_bpe(bpe_vocab *b, size_t extra) {
    size_t n, i, at = 0;
    const char *p;
    memset(b, 0, sizeof *b);
    b->v = no_vocab("gpt2", "gpt-2");
    p = b->file = read_file(GOLDEN "bpe.txt", &n);
    CHECK(b->file, "no %s", GOLDEN "bpe.txt");
    if (!b->file) return 0;
    b->token = (gpti_str *)malloc((n + 256 + extra) * sizeof *b->token);
    b->merge = (gpti_str *)malloc(n * sizeof *b->merge);
    b->type = (int32_t *)malloc((n + 256 + extra) * sizeof *b->type);
    b->text = (char *)malloc(2 * n + 1024);
    for (i = 0; i < 256; i++) {
        b->token[i] = str(b->text + at, bpe_letter((int)i, b->text + at));
        at += b->token[i].n;
    }
    while (p < b->file + n) {
        gpti_str m = part(&p, b->file + n, "\n");
        const char *space = (const char *)memchr(m.p + 1, ' ', m.n - 1);
        size_t left = (size_t)(space - m.p);
        b->merge[b->v.n_merge++] = m;
        memcpy(b->text + at, m.p, left);
        memcpy(b->text + at + left, space + 1, m.n - left - 1);
        b->token[i++] = str(b->text + at, m.n - 1);
        at += m.n - 1;
    }
    b->v.n_token = i;
    b->v.token = b->token;
    b->v.merge = b->merge;
    b->v.type = b->type;
    for (i = 0; i < b->v.n_token + extra; i++) b->type[i] = GPTI_TOKEN_NORMAL;
    return 1;
}

static void free_bpe(bpe_vocab *b) {
    free(b->token); free(b->merge); free(b->type); free(b->file); free(b->text);
}

static void add_token(bpe_vocab *b, const char *text, int type) {
    b->type[b->v.n_token] = type;
    b->token[b->v.n_token++] = str(text, strlen(text));
}

static uint64_t fnv_ids(const gpt_token *ids, size_t n) {
    uint64_t h = ((uint64_t)0xcbf29ce4u << 32) | 0x84222325u, prime = ((uint64_t)1 << 40) | 0x1b3;
    size_t i;
    int k;
    for (i = 0; i < n; i++) for (k = 0; k < 4; k++) h = (h ^ ((uint32_t)ids[i] >> 8 * k & 255)) * prime;
    return h;
}

/* Compares the words that text is cut into with their lengths in a line of tokenizer_words.txt. */
static void check_words(const char *name, size_t index, const gpti_tokenizer *t, gpti_str text, gpti_str line) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const char *p, *end, *q = line.p;
    gpti_cutter c;
    gpt_token *ids;
    size_t n;
    uint64_t hash = 0;
    gpti_cut_begin(&c, &t->rx, &t->unicode, text.p, text.p + text.n);
    while (*q != ' ') {
        char *next = (char *)q + 1;
        long want = *q == '~' ? strtol(q + 1, &next, 10) : (long)(strchr(digits, *q) - digits);
        int more = gpti_cut_word(&c, &p, &end);
        CHECK(more && end - p == want, "%s, text %lu: word '%.*s' of %ld bytes, expected %ld", name,
              (unsigned long)index,
              more ? (int)(end - p) : 0, p, more ? (long)(end - p) : 0L, want);
        if (!more || end - p != want) break;
        q = next + (*q == '~');
    }
    CHECK(*q != ' ' || !gpti_cut_word(&c, &p, &end), "%s, text %lu: a word too many", name, (unsigned long)index);
    while (*q != ' ') q++;
    while (++q < line.p + line.n) hash = hash << 4 | (uint64_t)(strchr(digits, *q) - digits);
    n = encode(t, text.p, text.n, 0, &ids);
    CHECK(fnv_ids(ids, n) == hash, "%s, text %lu: the words are right, the %lu ids are not", name, (unsigned long)index,
          (unsigned long)n);
    free(ids);
}

static void families(void) {
    size_t n_words, n[2], index, k, n_family = 0;
    char *words = read_file(GOLDEN "words.txt", &n_words), name[64];
    char *texts[2] = { read_file(GOLDEN "texts.txt", &n[0]), read_file(GOLDEN "more.txt", &n[1]) };
    const char *p = words, *q;
    gpti_tokenizer *t;
    gpt_error err;
    bpe_vocab b;
    CHECK(words && texts[0] && texts[1], "no %s, %s or %s", GOLDEN "words.txt", GOLDEN "texts.txt", GOLDEN "more.txt");
    if (words && texts[0] && texts[1] && load_bpe(&b, 0)) {
        while (p < words + n_words) {
            gpti_str head = part(&p, words + n_words, "\n");
            memcpy(name, head.p + 2, head.n - 2);
            name[head.n - 2] = 0;
            b.v.pre = str(name, head.n - 2);
            CHECK(init(&t, &b.v, &err) == GPT_OK, "%s: %s", name, err.msg);
            for (k = 0, q = texts[0], index = 0; k < 2; index++) {
                gpti_str text = part(&q, texts[k] + n[k], "\n__text__\n"), line = part(&p, words + n_words, "\n");
                if (q >= texts[k] + n[k] && ++k < 2) q = texts[1];
                if (!t) continue;
                check_words(name, index, t, text, line);
                round_trip(t, text.p, text.n, name);
            }
            done(t);
            n_family++;
        }
        free_bpe(&b);
    }
    for (k = 0; k < n_pretokenizer && load_bpe(&b, 0); k++) {   /* what lies behind a text is none of its business */
        gpt_token *with, *without;
        size_t n_with = 0, n_without = 0;
        b.v.pre = str(pretokenizer[k].names, strcspn(pretokenizer[k].names, " "));
        with = without = NULL;
        if (init(&t, &b.v, &err) == GPT_OK) {
            n_with = encode(t, "e e", 2, 0, &with);
            n_without = encode(t, "e \n", 2, 0, &without);
        }
        CHECK(with && n_with == n_without && !memcmp(with, without, n_with * sizeof *with), "%s: reads on", pretokenizer[k].names);
        free(with);
        free(without);
        done(t);
        free_bpe(&b);
    }
    CHECK(n_family + 1 == n_pretokenizer, "%lu families have vectors; whitespace has its own", (unsigned long)n_family);
    free(words);
    free(texts[0]);
    free(texts[1]);
}

/* Every name of the table opens, and no family needs more room than the compiled form has. */
static void names(void) {
    static gpti_rx rx;
    static gpti_unicode u;
    gpti_vocab v = no_vocab("gpt2", "");
    gpti_str token = str("a", 1);
    gpti_tokenizer *t;
    gpt_error err;
    size_t i, n;
    int k;
    v.token = &token;
    v.n_token = 1;
    gpti_unicode_init(&u);
    for (i = 0; i < n_pretokenizer; i++) {
        const char *p = pretokenizer[i].names;
        for (; *p; p += n + (p[n] == ' ')) {
            n = strcspn(p, " ");
            v.pre = str(p, n);
            CHECK(init(&t, &v, &err) == GPT_OK, "%.*s: %s", (int)n, p, err.msg);
            done(t);
        }
        memset(&rx, 0, sizeof rx);
        for (k = 0; k < GPTI_RX_PASSES && pretokenizer[i].pass[k]; k++)
            gpti_rx_compile(&rx, pretokenizer[i].pass[k], &u);
        CHECK(rx.n_item <= GPTI_RX_ITEMS && rx.n_cls <= GPTI_RX_CLASSES && rx.n_range <= GPTI_RX_RANGES &&
              rx.n_alt <= GPTI_RX_ALTS && rx.n_pass <= GPTI_RX_PASSES,
                  "%s: %u items, %u classes, %u ranges, %u alternatives",
              pretokenizer[i].names, rx.n_item, rx.n_cls, rx.n_range, rx.n_alt);
        for (k = 0; k < (int)rx.n_alt; k++)
            CHECK(rx.alt[k + 1] - rx.alt[k] <= GPTI_RX_SEQ, "%s: %d items in a row", pretokenizer[i].names,
                  rx.alt[k + 1] - rx.alt[k]);
    }
    v.pre = str("klingon-bpe", 11);
    CHECK(init(&t, &v, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "'klingon-bpe'") && strstr(err.msg,
            "'pretokenizer'"),
          "unknown family: %s", err.msg);
    v.pre = str("", 0);
    CHECK(init(&t, &v, &err) == GPT_OK, "a file that names no family has the default one: %s", err.msg);
    done(t);
    v.model = str("rwkv", 4);
    CHECK(init(&t, &v, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "'rwkv'"), "unknown model: %s", err.msg);
    v.model = str("none", 4);
    CHECK(init(&t, &v, &err) == GPT_OK, "no tokenizer: %s", err.msg);
    CHECK(gpti_tokenizer_encode(t, "a", 1, 0, NULL, 0, &n, NULL, 0, &mem, &err) == GPT_E_UNSUPPORTED,
          "encodes without tokens");
    CHECK(gpti_tokenizer_find(t, "a", 1) == -1 && gpti_tokenizer_piece(t, 0).n == 0, "finds without tokens");
    done(t);
}

/* -- SentencePiece vocabularies trained for the purpose -- */

typedef struct spm_vocab { gpti_vocab v; gpti_str *token, *merge; float *score; int32_t *type; char *file, *map; } spm_vocab;

static int load_spm(spm_vocab *s, const char *path) {
    size_t n, i = 0, k, o;
    const char *p;
    memset(s, 0, sizeof *s);
    s->v = no_vocab("", "");
    p = s->file = read_file(path, &n);
    CHECK(s->file, "no %s", path);
    if (!s->file) return 0;
    while (!s->token) {
        gpti_str line = part(&p, s->file + n, "\n");
        const char *value = (const char *)memchr(line.p, ' ', line.n) + 1;
        gpti_str key = str(line.p, (size_t)(value - line.p - 1));
        int x = atoi(value);
        if (is(key, "model")) s->v.model = str(value, line.n - 6);
        if (is(key, "pre")) s->v.pre = str(value, line.n - 4);
        if (is(key, "add_space_prefix")) s->v.add_space_prefix = x;
        if (is(key, "remove_extra_whitespaces")) s->v.remove_extra_whitespaces = x;
        if (is(key, "unk")) s->v.unk = x;
        if (is(key, "bos")) s->v.bos = x;
        if (is(key, "eos")) s->v.eos = x;
        if (is(key, "charsmap")) {
            s->v.charsmap = str(s->map = (char *)malloc(line.n), (line.n - 9) / 2);
            for (k = 0; k < s->v.charsmap.n; k++) {
                char hex[3] = { value[2 * k], value[2 * k + 1], 0 };
                s->map[k] = (char)strtol(hex, NULL, 16);
            }
        }
        if (is(key, "merges")) s->merge = (gpti_str *)malloc((s->v.n_merge = (size_t)x) * sizeof *s->merge);
        if (is(key, "pieces")) {
            s->v.n_token = (size_t)x;
            s->token = (gpti_str *)malloc(s->v.n_token * sizeof *s->token);
            s->score = (float *)malloc(s->v.n_token * sizeof *s->score);
            s->type = (int32_t *)malloc(s->v.n_token * sizeof *s->type);
        }
    }
    for (; i < s->v.n_token; i++) {
        char *piece, *end;
        s->score[i] = (float)strtod(p, &end);
        s->type[i] = (int32_t)strtol(end, &end, 10);
        piece = ++end;
        for (o = 0; *end != '\n'; end++) {
            if (*end != '\\') piece[o++] = *end;
            else { end++; piece[o++] = *end == 'n' ? '\n' : *end == 't' ? '\t' : *end == 'r' ? '\r' : *end; }
        }
        s->token[i] = str(piece, o);
        p = end + 1;
    }
    for (i = 0; i < s->v.n_merge; i++) {            /* they stand behind the pieces */
        char *to = s->file + (p - s->file), *from = to;
        const char *end = (const char *)memchr(p, '\n', (size_t)(s->file + n - p));
        for (o = 0; from < end; from++) {
            if (*from != '\\') to[o++] = *from;
            else { from++; to[o++] = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from == 'r' ? '\r' : *from; }
        }
        s->merge[i] = str(to, o);
        p = end + 1;
    }
    s->v.token = s->token; s->v.merge = s->merge;
    s->v.score = s->score;
    s->v.type = s->type;
    return 1;
}

static void free_spm(spm_vocab *s) {
    free(s->token); free(s->merge); free(s->score); free(s->type); free(s->file); free(s->map);
}

static void sentencepiece(const char *name) {
    char path[300], ids[300];
    spm_vocab s;
    gpti_tokenizer *t;
    gpt_error err;
    sprintf(path, GOLDEN "%s.vocab", name);
    sprintf(ids, GOLDEN "%s.ids", name);
    if (!load_spm(&s, path)) return;
    CHECK(init(&t, &s.v, &err) == GPT_OK, "%s: %s", path, err.msg);
    free_spm(&s);
    if (t) vectors(name, t, GOLDEN "texts.txt", "\n__text__\n", ids, 0);
    if (t && (strcmp(name, "spm") == 0 || strcmp(name, "spm_merges") == 0)) {
        round_trip(t, "a\0\xff\xe2\x96\x81 \xe2\x96 b", 12, name);
        round_trip(t, "  x  ", 5, name);
    }
    done(t);
}

/* What calls itself gpt2, has these pre-tokenizers, and is spelled as gemma4 is; its bytes are typed as plain tokens. */
static void spelled_as_gemma(void) {
    static const char *const pre[] = { "gemma4", "granite-embed-multi-311m", "sarvam-moe" };
    size_t i, k;
    for (i = 0; i < 3; i++) {
        spm_vocab s;
        gpti_tokenizer *t;
        gpt_error err;
        if (!load_spm(&s, GOLDEN "spm_merges.vocab")) return;
        s.v.model = str("gpt2", 4); s.v.pre = str(pre[i], strlen(pre[i]));
        s.v.add_space_prefix = -1;
        for (k = 0; k < s.v.n_token; k++) if (s.type[k] == GPTI_TOKEN_BYTE) s.type[k] = GPTI_TOKEN_NORMAL;
        CHECK(init(&t, &s.v, &err) == GPT_OK, "%s: %s", pre[i], err.msg);
        free_spm(&s);
        if (!t) continue;
        CHECK(t->add_bos == (i < 2), "%s: BOS %d", pre[i], t->add_bos);
        vectors(pre[i], t, GOLDEN "texts.txt", "\n__text__\n", GOLDEN "spm_merges.ids", 0);
        done(t);
    }
}

/* -- special tokens, BOS and EOS, decoding -- */

static void expect(const gpti_tokenizer *t, const char *text, unsigned flags, const char *want) {
    char got[512] = "";
    gpt_token *ids;
    size_t n = encode(t, text, strlen(text), flags, &ids), i, at = 0;
    for (i = 0; i < n && at < sizeof got - 80; i++) {           /* token texts in brackets, byte tokens as they are */
        gpti_str s = gpti_tokenizer_piece(t, ids[i]);
        at += (size_t)sprintf(got + at, "[%.*s]", (int)s.n, s.p);
    }
    CHECK(strcmp(got, want) == 0, "'%s' with flags %u: %s, expected %s", text, flags, got, want);
    free(ids);
}

static void decodes(const gpti_tokenizer *t, const char *text, unsigned flags, int special, const char *want) {
    char got[256];
    gpt_token *ids;
    size_t n = encode(t, text, strlen(text), flags, &ids), size = gpti_tokenizer_decode(t, ids, n, special, got,
            sizeof got);
    CHECK(size == strlen(want) && memcmp(got, want, size) == 0, "'%s' comes back as '%.*s', expected '%s'", text,
          (int)size,
          got, want);
    CHECK(gpti_tokenizer_decode(t, ids, n, special, got, 1) == size, "a small buffer changes the size");
    free(ids);
}

static void specials_bpe(void) {
    bpe_vocab b;
    gpti_tokenizer *t;
    gpt_error err;
    gpt_token id, end;
    if (!load_bpe(&b, 16)) return;
    id = (gpt_token)b.v.n_token;
    add_token(&b, "<|begin|>", GPTI_TOKEN_CONTROL);
    add_token(&b, "<|im_end|>", GPTI_TOKEN_USER_DEFINED);       /* a known end: made a control token */
    add_token(&b, "<|im", GPTI_TOKEN_CONTROL);
    add_token(&b, "<|eot_id|>", GPTI_TOKEN_CONTROL);
    add_token(&b, "      ", GPTI_TOKEN_USER_DEFINED);
    add_token(&b, "<|end|>", GPTI_TOKEN_CONTROL);
    add_token(&b, "<stop>", GPTI_TOKEN_NORMAL);                 /* EOS by its id, though typed as text */
    b.v.bos = id;
    b.v.eos = id + 6;
    b.v.add_bos = 1;
    CHECK(init(&t, &b.v, &err) == GPT_OK, "special tokens: %s", err.msg);
    if (t) {
        expect(t, "<|im_end|><|begin|>", 0, "[<][|][im][_][end][|][>][<][|][b][eg][in][|][>]");
        expect(t, "<|im_end|><|imx", GPTI_TOK_SPECIAL, "[<|im_end|>][<|im][x]");
        expect(t, "x", GPTI_TOK_BOS, "[<|begin|>][x]");
        expect(t, "<|begin|>x", GPTI_TOK_BOS | GPTI_TOK_SPECIAL, "[<|begin|>][x]");
        expect(t, "<|begin|>x", GPTI_TOK_SPECIAL, "[<|begin|>][x]");
        expect(t, "<|begin|><|begin|>", GPTI_TOK_BOS | GPTI_TOK_SPECIAL, "[<|begin|>][<|begin|>]");
        expect(t, "", GPTI_TOK_BOS, "[<|begin|>]");
        expect(t, "x       y", 0, "[x][      ][ y]");
        decodes(t, "a<|eot_id|> b", GPTI_TOK_SPECIAL | GPTI_TOK_BOS, 0, "a b");
        decodes(t, "a<|eot_id|> b", GPTI_TOK_SPECIAL | GPTI_TOK_BOS, 1, "<|begin|>a<|eot_id|> b");
        CHECK(gpti_tokenizer_is_end(t, id + 1) && gpti_tokenizer_is_end(t, id + 3) && gpti_tokenizer_is_end(t,
                id + 5) &&
              gpti_tokenizer_is_end(t, id + 6), "end tokens are not known");
        CHECK(!gpti_tokenizer_is_end(t, id) && !gpti_tokenizer_is_end(t, id + 4) && !gpti_tokenizer_is_end(t, -1) &&
              !gpti_tokenizer_is_end(t, id + 7), "tokens that do not end");
        CHECK(gpti_tokenizer_is_control(t, id + 6) && !gpti_tokenizer_is_control(t, id + 4) &&
              !gpti_tokenizer_is_control(t, 65),
              "control tokens");
        CHECK(gpti_tokenizer_find(t, "<|eot_id|>", 10) == id + 3 && gpti_tokenizer_find(t, "th", 2) >= 256 &&
              gpti_tokenizer_find(t, "<|eot_id", 8) == -1 && gpti_tokenizer_find(t, "", 0) == -1,
                  "tokens by their text");
    }
    done(t);
    b.v.eos = -1;                                               /* gpt-oss: <|end|> ends a message only */
    add_token(&b, "<|return|>", GPTI_TOKEN_CONTROL);
    add_token(&b, "<|call|>", GPTI_TOKEN_CONTROL);
    CHECK(init(&t, &b.v, &err) == GPT_OK, "harmony: %s", err.msg);
    end = t ? gpti_tokenizer_find(t, "<|end|>", 7) : -1;
    CHECK(t && !gpti_tokenizer_is_end(t, end) && gpti_tokenizer_is_control(t, end),
          "<|end|> beside <|return|> and <|call|>");
    done(t);
    free_bpe(&b);
}

static void specials_spm(void) {
    spm_vocab s;
    gpti_tokenizer *t;
    gpt_error err;
    if (!load_spm(&s, GOLDEN "spm.vocab")) return;
    s.type[s.v.n_token - 1] = GPTI_TOKEN_USER_DEFINED;
    s.token[s.v.n_token - 1] = str("<x>", 3);
    s.v.add_eos = 1;
    CHECK(init(&t, &s.v, &err) == GPT_OK, "%s", err.msg);
    if (t) {
        expect(t, "a", 0, "[ a]");
        expect(t, "", GPTI_TOK_BOS, "[<s>][</s>]");
        expect(t, "a<s></s>", GPTI_TOK_BOS | GPTI_TOK_NO_EOS, "[<s>][ a][<][s][>][<][/][s][>]");
        expect(t, "a</s> b<x>c", GPTI_TOK_SPECIAL, "[ a][</s>][ ][ b][<x>][ c]");
        expect(t, "<s>a</s>", GPTI_TOK_SPECIAL | GPTI_TOK_BOS, "[<s>][ a][</s>]");
        decodes(t, "a</s> b<x>c d", GPTI_TOK_SPECIAL, 1, "a</s>  b<x> c d");     /* as sentencepiece has it */
        decodes(t, " a  b", GPTI_TOK_BOS, 0, " a  b");
        expect(t, "<0x41><unk>", 0, "[ ][<][0][x][4][1][>][<][un][k][>]");
    }
    done(t);
    free_spm(&s);
}

/* -- hostile vocabularies -- */

static void hostile_init(const gpti_vocab *v, gpt_result want, const char *says) {
    static const char text[] = "the <0x41> \xff\0 a  b\n<s>\xE6\x97\xA5 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    gpti_tokenizer *t;
    gpt_error err;
    int r = init(&t, v, &err);
    gpt_token *ids;
    char buf[64];
    CHECK(r == want && (!says || strstr(err.msg, says)), "expected %d '%s', found %d '%s'", (int)want,
          says ? says : "", (int)r,
          err.msg);
    if (t) {
        size_t n = encode(t, text, sizeof text - 1, GPTI_TOK_BOS | GPTI_TOK_SPECIAL, &ids), i;
        for (i = 0; i < n; i++) CHECK(ids[i] >= 0 && (size_t)ids[i] < v->n_token, "id %ld of %lu", (long)ids[i],
                                      (unsigned long)v->n_token);
        gpti_tokenizer_decode(t, ids, n, 1, buf, sizeof buf);
        free(ids);
    }
    done(t);
}

static void hostile(void) {
    static const char *const merges[] = { "a b", "b a", "ab ab", "a  b", "\xE2\x84\xA2 a",      /* that can be, or never are */
                                          "ab", " ", "", "a ", " a", "b z", "zz z" };           /* that cannot be kept */
    static const char *const texts[] = { "", "a", "a", "b", "ab", "ba", "abab", "\xff", "\xC4", " ", "\xE2\x96\x81",
                                         "<0x41>", "<s>" };
    static const float scores[] = { 0, -1, -2, -3, 1e38f, -1e38f, 0, 0, 0, 0, 0, 0, 0 };
    static int32_t types[13] = { 0, 1, 2, 3, 4, 5, 7, -1, 1 << 30, 1, 1, 6, 3 };
    static const char *const models[] = { "gpt2", "llama", "t5" };
    gpti_str merge[12], token[13], *many;
    float score[13];
    gpti_vocab v;
    char *text;
    size_t i, k, n = 0;
    for (i = 0; i < 12; i++) merge[i] = str(merges[i], strlen(merges[i]));
    for (i = 0; i < 13; i++) token[i] = str(texts[i], strlen(texts[i]));
    memcpy(score, scores, sizeof score);
    score[6] = (float)(1e308 * 10);
    score[7] = score[6] - score[6];
    for (k = 0; k < 3; k++) {
        v = no_vocab(models[k], "gpt-2");
        v.token = token; v.merge = merge; v.n_merge = 5;
        hostile_init(&v, k ? GPT_OK : GPT_E_FORMAT, k ? NULL : "merge 0, 'a b': expected two tokens");      /* no token at all */
        v.n_token = 13;
        hostile_init(&v, GPT_OK, NULL);
        for (i = 5; i < 12; i++) {
            v.merge = merge + i; v.n_merge = 1;
            hostile_init(&v, k ? GPT_OK : GPT_E_FORMAT, k ? NULL : "expected two tokens that make a third");
        }
        v.n_merge = 0; v.type = types; v.score = score;
        hostile_init(&v, GPT_OK, NULL);
        v.unk = 12; v.bos = 2; v.eos = 1; v.eot = 0; v.add_bos = v.add_eos = 1;
        hostile_init(&v, GPT_OK, NULL);
        v.eos = v.unk = 13;                                     /* out of range: the family's */
        hostile_init(&v, GPT_OK, NULL);
        v.eos = -7;
        hostile_init(&v, GPT_OK, NULL);
        types[3] = GPTI_TOKEN_BYTE;
        hostile_init(&v, k ? GPT_E_FORMAT : GPT_OK,
                     k ? "token 3 has the type of a byte: expected <0xHH>, found 'b'" : NULL);
        types[3] = GPTI_TOKEN_CONTROL;
        token[12] = str("<0xG1>", 6);
        hostile_init(&v, GPT_OK, NULL);
        token[12] = str("<s>", 3);
    }
    v = no_vocab("t5", "");                                     /* character maps that are cut off or point outside */
    v.token = token; v.n_token = 13; v.score = score;
    for (i = 0; i < 40; i++) {
        char map[40];
        memset(map, i & 1 ? 0xff : 0x61, sizeof map);
        map[0] = (char)(i < 20 ? 12 : 4 * (i - 20)); map[1] = map[2] = map[3] = 0;
        v.charsmap = str(map, i);
        hostile_init(&v, GPT_OK, NULL);
    }
    for (k = 0; k < 2; k++) {                                   /* and one that the family has no use for */
        v.model = str(models[k], strlen(models[k]));
        v.pre = str("gpt-2", 5);
        hostile_init(&v, GPT_OK, NULL);
    }
    many = (gpti_str *)malloc(2000 * sizeof *many);             /* texts that all want one slot */
    text = (char *)malloc(2000 * 8);
    for (i = 0; n < 2000; i++) {
        sprintf(text + 8 * n, "%07lx", (unsigned long)i);
        if ((gpti_hash(text + 8 * n, 7, 0) & 4095) == 77) { many[n] = str(text + 8 * n, 7); n++; }
    }
    v = no_vocab("gpt2", "gpt-2");
    v.token = many; v.n_token = n;
    hostile_init(&v, GPT_E_FORMAT, "one hash");
    for (i = 0; i < n; i++) many[i] = str(text, 7);             /* one text, many times */
    hostile_init(&v, GPT_OK, NULL);
    free(many);
    free(text);
    n = 100000;                                                 /* tokens longer than any word should be */
    text = (char *)malloc(n);
    memset(text, 'a', n);
    for (i = 0; i < 13; i++) token[i] = str(text, i < 4 ? i + 1 : n >> i);
    for (k = 0; k < 3; k++) {
        v = no_vocab(models[k], "gpt-2");
        v.token = token; v.n_token = 13; v.type = types; v.score = score;
        types[11] = GPTI_TOKEN_NORMAL;
        hostile_init(&v, GPT_OK, NULL);
    }
    free(text);
}

/* -- what files spell, type and leave out; each case is one that published files have -- */

static gpti_tokenizer *made(const char *model, const char *const *texts, const int32_t *type, size_t n, gpti_vocab *v) {
    static gpti_str token[320];
    gpti_tokenizer *t;
    gpt_error err;
    size_t i;
    for (i = 0; i < n; i++) token[i] = str(texts[i], strlen(texts[i]));
    v->model = str(model, strlen(model));
    v->token = token; v->type = type; v->n_token = n;
    CHECK(init(&t, v, &err) == GPT_OK, "%s", err.msg);
    return t;
}

static void is_ids(const gpti_tokenizer *t, const char *text, unsigned flags, const char *want) {
    char got[256] = "";
    gpt_token *ids;
    size_t n = encode(t, text, strlen(text), flags, &ids), i, at = 0;
    for (i = 0; i < n && at < sizeof got - 12; i++) at += (size_t)sprintf(got + at, i ? " %ld" : "%ld", (long)ids[i]);
    CHECK(strcmp(got, want) == 0, "'%s' with flags %u: %s, expected %s", text, flags, got, want);
    free(ids);
}

static void spelled_bpe(void) {
    static const char *const texts[] = { "\xE2\x84\xA2", "\xC3\xA2", "\xC4\xA6", "\xC2\xA2", "\xC3\xA2\xC4\xA6",
        "\xC3\xA2\xC4\xA6\xC2\xA2", "a", "<|endoftext|>", "<|im_end|>", "</s>", "[EOS]" };
    static const char *const merges[] = { "\xC3\xA2 \xC4\xA6", "\xC3\xA2\xC4\xA6 \xC2\xA2" };
    static const int32_t type[] = { 1, 1, 1, 1, 1, 1, 1, 3, 1, 4, 3 };
    static char space[9][513], merge_text[8][520];
    const char *spaces[9];
    gpti_str merge[8];
    gpti_vocab v = no_vocab("gpt2", "gpt-2");
    gpti_tokenizer *t;
    gpt_token id;
    size_t i, k;
    merge[0] = str(merges[0], strlen(merges[0])); merge[1] = str(merges[1], strlen(merges[1]));
    v.merge = merge; v.n_merge = 2;
    v.unk = v.eos = 7;
    t = made("gpt2", texts, type, 11, &v);
    if (!t) return;
    is_ids(t, "\xE2\x84\xA2", 0, "5");              /* merged; no text is a token that is spelled without byte letters */
    is_ids(t, "a\x04" "a", 0, "6 6");                /* a byte without a token is dropped, and is not the unknown token */
    is_ids(t, "a</s>a", 0, "6 9 6");
    for (id = 0; id < 11; id++)                     /* <|im_end|> ends whatever its type; </s> only as a control token */
        CHECK(gpti_tokenizer_is_end(t, id) == (id == 7 || id == 8 || id == 10), "token %ld: an end?", (long)id);
    CHECK(gpti_tokenizer_is_control(t, 8) && !gpti_tokenizer_is_control(t, 9), "<|im_end|> is corrected, </s> is not");
    done(t);
    for (i = 0; i < 9; i++) {                       /* runs of 1, 2, 4, ... 256 spaces */
        for (k = 0; k < (size_t)1 << i; k++) memcpy(space[i] + 2 * k, "\xC4\xA0", 2);
        spaces[i] = space[i];
        if (i) { sprintf(merge_text[i - 1], "%s %s", space[i - 1], space[i - 1]); merge[i - 1] = str(merge_text[i - 1], strlen(merge_text[i - 1])); }
    }
    v.n_merge = 8; v.unk = v.eos = -1;
    t = made("gpt2", spaces, NULL, 9, &v);
    if (!t) return;
    memset(space[0], ' ', 384);
    space[0][384] = 0;
    is_ids(t, space[0] + 128, 0, "8");
    is_ids(t, space[0] + 256, 0, "7");
    is_ids(t, space[0], 0, "8 7");
    done(t);
}

static void spelled_spm(void) {
    static const char *texts[14 + 256] = { "<unk>", "<s>", "<eos>", "</s>", "<|user|>", "<|end|>", "\xE2\x96\x81", "a", "b",
        "\xE2\x96\x81" "a", "\xE2\x96\x81" "b", "<b>", "<|endoftext|>", "\xE2\x96\x81\xE2\x96\x81" };
    static char byte[256][8];
    static int32_t type[14 + 256] = { 2, 3, 3, 4, 4, 3, 1, 1, 1, 1, 1, 4, 3, 1 };
    static float score[14 + 256];
    gpti_vocab v = no_vocab("llama", "");
    gpti_tokenizer *t;
    size_t i;
    int phi;
    for (i = 0; i < 256; i++) { sprintf(byte[i], "<0x%02X>", (unsigned)i); texts[14 + i] = byte[i]; type[14 + i] = i & 1 ? 1 : 6; }
    for (i = 0; i < 14 + 256; i++) score[i] = -(float)i;
    v.score = score; v.unk = 0; v.bos = 1; v.eos = 2;
    for (phi = 0; phi < 2; phi++) {
        v.name = str(phi ? "My PHI-3 mini" : "Phi-2", phi ? 13 : 5);
        t = made("llama", texts, type, 14 + 256, &v);
        if (!t) return;
        is_ids(t, "a</s>", 0, "9 3");
        is_ids(t, "a\xE2\x96\x81" "b \xE2\x96\x81", 0, "9 10 13");       /* U+2581 is a space, as sentencepiece has it */
        is_ids(t, "\xE2\x96\x81" "a", 0, "6 9");
        is_ids(t, "\n\r", 0, "6 24 27");                                  /* byte tokens, typed as bytes or not */
        is_ids(t, "a", GPT_TOKENIZE_CONTINUE, "7");
        is_ids(t, " a", GPT_TOKENIZE_CONTINUE, "9");
        is_ids(t, "<|user|>\n\xC2\xA0 a<|end|> \n\nb<s> a", GPTI_TOK_SPECIAL, phi ? "4 9 5 10 1 6 9" : "4 6 24 208 174 9 5 13 24 24 8 1 6 9");
        is_ids(t, "<|user|>\n<|endoftext|> b", GPTI_TOK_SPECIAL, phi ? "4 12 6 10" : "4 6 24 12 6 10");
        decodes(t, "a<|end|> b<|user|>", GPTI_TOK_SPECIAL, 0, phi ? "a b<|user|>" : "a  b<|user|>");
        decodes(t, "<s> a", GPTI_TOK_SPECIAL, 0, " a");
        decodes(t, "\n a", 0, 0, "\n a");
        CHECK(!gpti_tokenizer_is_end(t, 3) && gpti_tokenizer_is_end(t, 2) && gpti_tokenizer_is_end(t, 5), "</s> is a tag here");
        CHECK(gpti_tokenizer_find(t, "\n", 1) == 24 && gpti_tokenizer_find(t, "\r", 1) == 27 && gpti_tokenizer_find(t, "a", 1) == 7,
              "bytes are found as token %ld", (long)gpti_tokenizer_find(t, "\n", 1));
        done(t);
    }
}

/* -- many special tokens of one spelling -- */

/* The token that stands for a text as a whole at p, said plainly: the longest, of several the first. */
static gpt_token special_at(const gpti_tokenizer *t, const char *p, size_t n, int control, size_t *len) {
    gpt_token id, best = -1;
    *len = 0;
    for (id = 0; id < t->n_token; id++) {
        gpti_str s = gpti_tokenizer_piece(t, id);
        int type = gpti_tokenizer_type(t, id);
        if (type != GPTI_TOKEN_USER_DEFINED && !(control && gpti_tokenizer_is_control(t, id))) continue;
        if (s.n > *len && s.n <= n && memcmp(p, s.p, s.n) == 0) { best = id; *len = s.n; }
    }
    return best;
}

/* n tokens that spell a few texts again and again, as control tokens; mixed: as user-defined and plain ones too */
static gpti_vocab equal_vocab(const char *model, size_t n, gpti_str *token, int32_t *type, int mixed) {
    static const char *const texts[] = { "a", "ab", "aa", "aaa", "b<", "ba", "aaaaaaaa", "<a>", "<a", "\xE6\x97" };
    gpti_vocab v = no_vocab(model, "gpt-2");
    unsigned seed = 1;
    size_t i;
    for (i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        token[i] = str(texts[seed >> 16 & 7], strlen(texts[seed >> 16 & 7]));
        if (i % 61 == 60) token[i] = str(texts[8 + i % 2], strlen(texts[8 + i % 2]));
        type[i] = !mixed || i < 40 || seed >> 24 & 3 ? GPTI_TOKEN_CONTROL : seed >> 26 & 1 ? GPTI_TOKEN_USER_DEFINED : GPTI_TOKEN_NORMAL;
    }
    v.token = token;
    v.type = type;
    v.n_token = n;
    return v;
}

static void equal_spellings(void) {
    static const char *const models[] = { "gpt2", "llama", "t5" };
    enum { N = 40000, TEXT = 1 << 17 };
    gpti_str *token = (gpti_str *)malloc(N * sizeof *token);
    int32_t *type = (int32_t *)malloc(N * sizeof *type);
    char *text = (char *)malloc(TEXT);
    double took[2], begun;
    size_t compared[2], i, k, n, len[2];
    gpti_tokenizer *t, *half[2];
    gpti_vocab v;
    gpt_error err;
    for (i = 0; i < TEXT; i++) text[i] = "aaaaab <a>"[i * i / 3 % 10];
    for (k = 0; k < 3; k++) {                                   /* the same tokens as a search from the first to the last finds */
        v = equal_vocab(models[k], 1000, token, type, 1);
        CHECK(init(&t, &v, &err) == GPT_OK, "%s", err.msg);
        if (!t) continue;
        CHECK(t->special.n <= 20, "%s: %lu special tokens for 10 texts", models[k], (unsigned long)t->special.n);
        for (i = 0; i < 3000; i++) {
            size_t left = i < 2990 ? 3000 - i : 1 + i % 8;
            unsigned char b = (unsigned char)text[i];
            gpt_token want = special_at(t, text + i, left, (int)(i & 1), &len[0]);
            gpt_token got = t->special.first[b] == t->special.first[b + 1] ? -1 : gpti_special_at(t, text + i, text + i + left, (int)(i & 1), &len[1]);
            CHECK(got == want && (got < 0 || len[0] == len[1]), "%s: at %lu token %ld, expected %ld", models[k], (unsigned long)i, (long)got, (long)want);
        }
        done(t);
    }
    for (k = 0; k < 3; k++) {                                   /* twice as much of everything: the best of a few turns */
        for (i = 0; i < 2; i++) {
            v = equal_vocab(models[k], N / 2 << i, token, type, 0);
            n_compared = 0;
            CHECK(init(&half[i], &v, &err) == GPT_OK, "%s", err.msg);
            compared[i] = n_compared;
            took[i] = 1e9;
        }
        CHECK((double)compared[1] < 2.2 * (double)compared[0], "%s: init compares %lu texts, then %lu", models[k],
              (unsigned long)compared[0], (unsigned long)compared[1]);
        begun = seconds();
        while (half[0] && half[1] && (took[1] > 1e8 || (took[1] >= 2.2 * took[0] && seconds() - begun < 20.0)))
            for (i = 0; i < 2; i++) {
                double start = seconds();
                int turn;               /* long enough for a clock that counts milliseconds */
                for (turn = 0; turn < 16; turn++) gpti_tokenizer_encode(half[i], text, TEXT / 2 << i, 0, NULL, 0, &n, NULL, 0, &mem, &err);
                start = seconds() - start;
                if (start < took[i]) took[i] = start;
            }
        CHECK(took[1] < 2.2 * took[0], "%s: %.4f s, then %.4f s", models[k], took[0], took[1]);
        done(half[0]);
        done(half[1]);
    }
    free(token);
    free(type);
    free(text);
}

/* -- WordPiece: uncased, cased, and uncased with its accents; BPE of characters: the first two -- */

/* "aXb " for every X, 4096 of them in a text; but not for what make_tokenizer_goldens.py leaves out of BPE of characters. */
static uint64_t hash_of_characters(const gpti_tokenizer *t) {
    static char text[4096 * 8];
    uint64_t h = 0;
    uint32_t c = 0;
    while (c < 0x110000) {
        size_t n = 0, k, count;
        gpt_token *ids;
        for (k = 0; k < 4096 && c < 0x110000; c++) {
            if (c >= 0xD800 && c < 0xE000) continue;
            if (t->family == GPTI_TOK_BPE && (c == 0xA7D2 || c == 0xA7D4)) continue;
            text[n++] = 'a';
            n += gpti_put_utf8(text + n, c);
            text[n++] = 'b'; text[n++] = ' ';
            k++;
        }
        count = encode(t, text, n, 0, &ids);
        h = h * 31 + fnv_ids(ids, count);
        free(ids);
    }
    return h;
}

static void by_mode(const char *name, size_t n_mode) {
    static const char *const names[] = { "uncased", "cased", "with accents" };
    size_t n_ids, n[2], index, k, file;
    char path[100], *ids, *texts[2];
    const char *q, *p;
    gpti_tokenizer *t;
    gpt_error err;
    spm_vocab s;
    texts[0] = read_file(GOLDEN "texts.txt", &n[0]); texts[1] = read_file(GOLDEN "wordpiece.txt", &n[1]);
    sprintf(path, GOLDEN "%s.ids", name);
    q = ids = read_file(path, &n_ids);
    CHECK(ids && texts[0] && texts[1], "no %s or its texts", path);
    sprintf(path, GOLDEN "%s.vocab", name);
    if (ids && texts[0] && texts[1] && load_spm(&s, path)) {
        for (k = 0; k < n_mode; k++) {
            uint64_t want = 0, hash;
            s.v.lowercase = k != 1; s.v.strip_accents = k == 2 ? 0 : -1;
            CHECK(init(&t, &s.v, &err) == GPT_OK, "%s, %s: %s", name, names[k], err.msg);
            if (!t) break;
            for (; *q != '\n'; q++) want = want << 4 | (uint64_t)(*q <= '9' ? *q - '0' : *q - 'a' + 10);
            q++;
            hash = hash_of_characters(t);
            CHECK(hash == want, "%s, %s: other ids of single characters", name, names[k]);
            for (file = 0, index = 0; file < 2; file++)
                for (p = texts[file]; p < texts[file] + n[file]; index++) {
                    gpti_str text = part(&p, texts[file] + n[file], "\n__text__\n");
                    check_ids(names[k], index, t, text, part(&q, ids + n_ids, "\n"));
                }
            CHECK(index > 40, "%s, %s: %lu texts", name, names[k], (unsigned long)index);
            done(t);
        }
        CHECK(q == ids + n_ids, "the ids of %s have more lines", name);
        free_spm(&s);
    }
    free(ids);
    free(texts[0]);
    free(texts[1]);
}

/* -- the n-th allocation fails -- */

static void failing_memory(void) {
    bpe_vocab b;
    gpti_tokenizer *t = (gpti_tokenizer *)malloc(sizeof *t);
    gpt_error err;
    char *text = (char *)malloc(5000), scratch[1024];
    size_t n, i;
    long k, before;
    gpt_result r = GPT_E_MEMORY;
    memset(text, 'x', 5000);
    if (load_bpe(&b, 0)) {
        for (k = 1; r != GPT_OK && k < 100; k++) {
            before = heap.live;
            heap.calls = 0;
            heap.fail_at = k;
            r = gpti_tokenizer_init(t, &b.v, &mem, &err);
            CHECK(r == GPT_OK || (r == GPT_E_MEMORY && heap.live == before && !t->block),
                  "allocation %ld fails: code %d, %ld blocks left", k, (int)r,
                  heap.live - before);
        }
        CHECK(r == GPT_OK && k > 2, "init: code %d after %ld allocations", (int)r, k);
        heap.calls = 0;
        heap.fail_at = 1;
        r = gpti_tokenizer_encode(t, text, 5000, 0, NULL, 0, &n, NULL, 0, &mem, &err);
        CHECK(r == GPT_E_MEMORY && strstr(err.msg, "long word"), "encode: code %d: %s", (int)r, err.msg);
        for (i = 5; i < 5000; i += 5) text[i] = ' ';            /* short words fit into the scratch */
        heap.calls = 0;
        r = gpti_tokenizer_encode(t, text, 5000, 0, NULL, 0, &n, scratch, sizeof scratch, &mem, NULL);
        CHECK(r == GPT_OK && heap.calls == 0, "encode in scratch: code %d, %ld allocations", (int)r, heap.calls);
        heap.fail_at = 0;
        gpti_tokenizer_free(t, &mem);
        free_bpe(&b);
    }
    free(text);
    free(t);
}

/* -- time: no text may cost more than n log n -- */

static void repeated(const gpti_tokenizer *t, const char *name, char *text, size_t size, double limit) {
    static const char *const chars[] = { "a", " ", "\n", "1", ".", "'", "\xC3\xA9", "\xE6\x97\xA5", "\xF0\x9F\x98\x80",
                                         "\xE3\x80\x80", "\xFF", "\t", "Z", "\xE2\x96\x81", "\xCC\x81", "<" };
    size_t i, k, n, len;
    for (i = 0; i < sizeof chars / sizeof *chars; i++) {
        double took = limit, start;
        gpt_error err;
        int turn;
        len = strlen(chars[i]);
        for (k = 0; k + len <= size; k += len) memcpy(text + k, chars[i], len);
        for (; k < size; k++) text[k] = 'x';                    /* so that (?!\S) and $ fail at the end */
        for (turn = 0; turn < 5 && took >= limit; turn++) {     /* on Windows the clock counts others' work too */
            start = seconds();
            gpti_tokenizer_encode(t, text, size, 0, NULL, 0, &n, NULL, 0, &mem, &err);
            took = seconds() - start;
        }
        CHECK(took < limit, "%s: %lu bytes of '%s' take %.2f s", name, (unsigned long)size, chars[i], took);
    }
}

static void long_runs(size_t size, double limit) {
    static const char *const models[] = { "spm", "spm_unk", "spm_merges", "unigram", "unigram_bytes", "wordpiece" };
    char *text = (char *)malloc(size), path[100];
    gpti_tokenizer *t;
    gpt_error err;
    bpe_vocab b;
    spm_vocab s;
    size_t i;
    for (i = 0; i < n_pretokenizer && load_bpe(&b, 0); i++) {
        b.v.pre = str(pretokenizer[i].names, strcspn(pretokenizer[i].names, " "));
        init(&t, &b.v, &err);
        if (t) repeated(t, pretokenizer[i].names, text, size, limit);
        done(t);
        free_bpe(&b);
    }
    for (i = 0; i < 5; i++) {
        sprintf(path, GOLDEN "%s.vocab", models[i]);
        if (!load_spm(&s, path)) continue;
        init(&t, &s.v, &err);
        if (t) repeated(t, models[i], text, size, limit);
        done(t);
        free_spm(&s);
    }
    free(text);
}

static int bench(const char *vocab, const char *file) {
    gguf_vocab g;
    gpti_tokenizer *t = NULL;
    gpt_error err;
    size_t n, count, k;
    char *text = read_file(file, &n), scratch[16384];
    double start, best_init = 1e9, best = 1e9;
    gpt_token *ids = (gpt_token *)malloc((n + 2) * sizeof *ids);
    if (!text || !load_gguf(&g, vocab)) return 1;
    for (k = 0; k < 5; k++) {
        done(t);
        start = seconds();
        if (init(&t, &g.v, &err) != GPT_OK) { printf("%s\n", err.msg); return 1; }
        start = seconds() - start;
        if (start < best_init) best_init = start;
    }
    for (k = 0; k < 5; k++) {
        start = seconds();
        gpti_tokenizer_encode(t, text, n, 0, ids, n, &count, scratch, sizeof scratch, &mem, &err);
        start = seconds() - start;
        if (start < best) best = start;
    }
    printf("init %.1f ms; %lu bytes, %lu tokens, %.1f MB/s\n", best_init * 1e3, (unsigned long)n, (unsigned long)count,
           (double)n / 1e6 / best);
    return 0;
}

static size_t run_length = 30000;       /* 3e4 squared is a second and more */

static const char *const vocabularies[] = { "gpt-2", "llama-spm", "phi-3" };
static void all_published(void) {
    size_t i;
    for (i = 0; i < 3; i++) published(vocabularies[i], unicode_texts, sizeof unicode_texts / sizeof *unicode_texts);
}
static void spm(void)           { sentencepiece("spm"); }
static void spm_unk(void)       { sentencepiece("spm_unk"); }
static void spm_merges(void)    { sentencepiece("spm_merges"); }
static void unigram(void)       { sentencepiece("unigram"); }
static void unigram_bytes(void) { sentencepiece("unigram_bytes"); }
static void wordpiece(void)     { by_mode("wordpiece", 3); }
static void whitespace(void)    { by_mode("whitespace", 2); }
static void all_long_runs(void) { long_runs(run_length, 1.0); }

static const test tests[] = {
    { "published", all_published }, { "names", names }, { "families", families },
    { "sentencepiece_spm", spm }, { "sentencepiece_spm_unk", spm_unk }, { "sentencepiece_merges", spm_merges },
    { "sentencepiece_unigram", unigram }, { "sentencepiece_unigram_bytes", unigram_bytes },
    { "spelled_as_gemma", spelled_as_gemma }, { "whitespace", whitespace }, { "wordpiece", wordpiece }, { "specials_bpe", specials_bpe }, { "specials_spm", specials_spm }, { "spelled_bpe", spelled_bpe },
    { "spelled_spm", spelled_spm }, { "hostile", hostile }, { "equal_spellings", equal_spellings },
    { "failing_memory", failing_memory }, { "long_runs", all_long_runs }, { NULL, NULL }
};

int main(int argc, char **argv) {
    size_t i;
    mem.alloc = count_alloc;
    mem.free = count_free;
    mem.user = &heap;
    if (argc == 4 && strcmp(argv[1], "--bench") == 0) return bench(argv[2], argv[3]);
    n_pretokenizer = gpti_list_pretokenizers(pretokenizer);
    if (argc > 2 && strcmp(argv[1], "--texts") == 0) {
        for (i = 0; i < 3; i++) published(vocabularies[i], (const char *const *)argv + 2, (size_t)argc - 2);
        return test_report("unit_tokenizer");
    }
    if (argc > 1 && strcmp(argv[1], "--long") == 0) { run_length = 1000000; argv++; argc--; }      /* the promise itself */
    test_run(tests, argc, argv);
    CHECK(heap.live == 0, "%ld blocks are left", heap.live);
    return test_report("unit_tokenizer");
}
