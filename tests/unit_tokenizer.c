/* Tokenizer: vectors of published vocabularies and of trained ones (make_tokenizer_goldens.py), round trips, special tokens,
 * hostile vocabularies, failing allocations, time.     unit_tokenizer --bench FILE.gguf TEXT: speed of init and of encoding */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <stdlib.h>
#include <time.h>
#include "test.h"

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

typedef struct gguf_vocab { gpti_vocab v; gpti_str *token, *merge; float *score; int32_t *type; char *file; } gguf_vocab;

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
    CHECK(r == GPT_OK && again == count, "encode: %lu ids, then %lu", (unsigned long)count, (unsigned long)again);
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

static void round_trip(const gpti_tokenizer *t, const char *text, size_t n, const char *name) {
    gpt_token *ids;
    size_t count = encode(t, text, n, 0, &ids), size = gpti_tokenizer_decode(t, ids, count, 0, NULL, 0);
    char *back = (char *)malloc(size + 1);
    gpti_tokenizer_decode(t, ids, count, 0, back, size);
    CHECK(size == n && memcmp(back, text, n) == 0, "%s: round trip gives %lu bytes of %lu", name, (unsigned long)size, (unsigned long)n);
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
        CHECK(i < count && ids[i] == want, "%s, text %lu, id %lu: %ld, expected %ld", what, (unsigned long)index,
              (unsigned long)i, i < count ? (long)ids[i] : -1L, want);
        p = next;
    }
    CHECK(i == count, "%s, text %lu: %lu ids, expected %lu", what, (unsigned long)index, (unsigned long)count,
          (unsigned long)i);
    free(ids);
}

static void vectors(const char *what, const gpti_tokenizer *t, const char *texts, const char *separator, const char *ids,
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

static void published(const char *name) {
    static const char *const files[] = {     /* texts in many scripts, with malformed UTF-8 and white space of all kinds */
        "UTF-8-test.txt", "blns.txt", "udhr2/eng.txt", "udhr2/jpn.txt", "udhr2/arb.txt", "udhr2/hin.txt", "udhr2/rus.txt",
        "udhr2/tha.txt", "udhr2/kor.txt", "udhr2/amh.txt", "udhr2/cmn_hans.txt", "udhr2/heb.txt", "udhr2/ell_monotonic.txt",
        "udhr2/kat.txt", "udhr2/tam.txt", "udhr2/mya.txt", "udhr2/vie.txt", "udhr2/khk.txt", "udhr2/bod.txt", "udhr2/chr.txt" };
    char path[300], texts[300], ids[300];
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
    for (i = 0; t && i < sizeof files / sizeof *files; i++) {
        char *text;
        sprintf(path, SHARED "unicode/%s", files[i]);
        text = read_file(path, &n);
        if (text) round_trip(t, text, n, path);
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
        CHECK(more && end - p == want, "%s, text %lu: word '%.*s' of %ld bytes, expected %ld", name, (unsigned long)index,
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
    size_t n_words, n_texts, index, n_family = 0;
    char *words = read_file(GOLDEN "words.txt", &n_words), *texts = read_file(GOLDEN "texts.txt", &n_texts), name[64];
    const char *p = words, *q;
    gpti_tokenizer *t;
    gpt_error err;
    bpe_vocab b;
    CHECK(words && texts, "no %s or %s", GOLDEN "words.txt", GOLDEN "texts.txt");
    if (words && texts && load_bpe(&b, 0)) {
        while (p < words + n_words) {
            gpti_str head = part(&p, words + n_words, "\n");
            memcpy(name, head.p + 2, head.n - 2);
            name[head.n - 2] = 0;
            b.v.pre = str(name, head.n - 2);
            CHECK(init(&t, &b.v, &err) == GPT_OK, "%s: %s", name, err.msg);
            for (q = texts, index = 0; q < texts + n_texts; index++) {
                gpti_str text = part(&q, texts + n_texts, "\n__text__\n"), line = part(&p, words + n_words, "\n");
                if (!t) continue;
                check_words(name, index, t, text, line);
                round_trip(t, text.p, text.n, name);
            }
            done(t);
            n_family++;
        }
        free_bpe(&b);
    }
    CHECK(n_family == sizeof gpti_pretokenizers / sizeof *gpti_pretokenizers, "%lu families have vectors",
          (unsigned long)n_family);
    free(words);
    free(texts);
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
    for (i = 0; i < sizeof gpti_pretokenizers / sizeof *gpti_pretokenizers; i++) {
        const char *p = gpti_pretokenizers[i].names;
        for (; *p; p += n + (p[n] == ' ')) {
            n = strcspn(p, " ");
            v.pre = str(p, n);
            CHECK(init(&t, &v, &err) == GPT_OK, "%.*s: %s", (int)n, p, err.msg);
            done(t);
        }
        memset(&rx, 0, sizeof rx);
        for (k = 0; k < GPTI_RX_PASSES && gpti_pretokenizers[i].pass[k]; k++)
            gpti_rx_compile(&rx, gpti_pretokenizers[i].pass[k], &u);
        CHECK(rx.n_item <= GPTI_RX_ITEMS && rx.n_cls <= GPTI_RX_CLASSES && rx.n_range <= GPTI_RX_RANGES &&
              rx.n_alt <= GPTI_RX_ALTS && rx.n_pass <= GPTI_RX_PASSES, "%s: %u items, %u classes, %u ranges, %u alternatives",
              gpti_pretokenizers[i].names, rx.n_item, rx.n_cls, rx.n_range, rx.n_alt);
        for (k = 0; k < (int)rx.n_alt; k++)
            CHECK(rx.alt[k + 1] - rx.alt[k] <= GPTI_RX_SEQ, "%s: %d items in a row", gpti_pretokenizers[i].names,
                  rx.alt[k + 1] - rx.alt[k]);
    }
    v.pre = str("klingon-bpe", 11);
    CHECK(init(&t, &v, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "'klingon-bpe'") && strstr(err.msg, "'pretokenizer'"),
          "unknown family: %s", err.msg);
    v.pre = str("", 0);
    CHECK(init(&t, &v, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "'pretokenizer'"), "missing family: %s", err.msg);
    v.model = str("rwkv", 4);
    CHECK(init(&t, &v, &err) == GPT_E_UNSUPPORTED && strstr(err.msg, "'rwkv'"), "unknown model: %s", err.msg);
    v.model = str("none", 4);
    CHECK(init(&t, &v, &err) == GPT_OK, "no tokenizer: %s", err.msg);
    CHECK(gpti_tokenizer_encode(t, "a", 1, 0, NULL, 0, &n, NULL, 0, &mem, &err) == GPT_E_UNSUPPORTED, "encodes without tokens");
    CHECK(gpti_tokenizer_find(t, "a", 1) == -1 && gpti_tokenizer_piece(t, 0).n == 0, "finds without tokens");
    done(t);
}

/* -- SentencePiece vocabularies trained for the purpose -- */

typedef struct spm_vocab { gpti_vocab v; gpti_str *token; float *score; int32_t *type; char *file, *map; } spm_vocab;

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
    s->v.token = s->token;
    s->v.score = s->score;
    s->v.type = s->type;
    return 1;
}

static void free_spm(spm_vocab *s) {
    free(s->token); free(s->score); free(s->type); free(s->file); free(s->map);
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
    if (t && strcmp(name, "spm") == 0) {
        round_trip(t, "a\0\xff\xe2\x96\x81 \xe2\x96 b", 12, name);
        round_trip(t, "  x  ", 5, name);
    }
    done(t);
}

int main(int argc, char **argv) {
    (void)argc; (void)argv;
    mem.alloc = count_alloc; mem.free = count_free; mem.user = &heap;
    published("gpt-2"); published("llama-spm"); published("phi-3");
    names();
    families();
    sentencepiece("spm"); sentencepiece("spm_unk"); sentencepiece("unigram"); sentencepiece("unigram_bytes");
    CHECK(heap.live == 0, "%ld blocks are left", heap.live);
    return test_report("unit_tokenizer");
}
