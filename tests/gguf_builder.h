/* Builds GGUF files in memory, correct ones and, on request, wrong ones.
 *
 *     gb b;
 *     gb_init(&b, 3, 0);                                  // version 3, little-endian
 *     gb_kv_str(&b, "general.architecture", "llama");
 *     gb_kv_u32(&b, "llama.block_count", 2);
 *     gb_tensor(&b, "token_embd.weight", GB_F32, 2, 16, 32, 1, 1, data, n_bytes);
 *     bytes = gb_finish(&b, &size);                       // valid until gb_free(&b)
 *
 * Fields of gb may be changed before gb_finish to tell lies: version, n_kv, n_tensor, align. Everything is an appended
 * byte in the end, so gb_raw and friends on b.kv, b.info or b.data make whatever else is wanted. */
#ifndef GGUF_BUILDER_H
#define GGUF_BUILDER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GB_F32 = 0, GB_F16 = 1, GB_Q4_0 = 2, GB_Q8_0 = 8, GB_Q4_K = 12, GB_BF16 = 30 };
enum { GB_U8, GB_I8, GB_U16, GB_I16, GB_U32, GB_I32, GB_FLOAT, GB_BOOL, GB_STR, GB_ARR, GB_U64, GB_I64, GB_DOUBLE };

typedef struct gb_buf { unsigned char *p; size_t n, cap; } gb_buf;

typedef struct gb {
    gb_buf   kv, info, data, file;
    uint64_t n_kv, n_tensor;
    uint32_t version, align;            /* align: what the file is laid out by; gb_kv_u32 "general.alignment" says so */
    int      big;
} gb;

static inline void gb_raw(gb_buf *b, const void *p, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2 + 64;
        b->p = (unsigned char *)realloc(b->p, b->cap);
        if (!b->p) { fprintf(stderr, "gguf_builder: out of memory\n"); exit(1); }
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void gb_uint(const gb *g, gb_buf *b, uint64_t v, int bytes) {
    unsigned char x[8];
    int i;
    for (i = 0; i < bytes; i++) x[g->big ? bytes - 1 - i : i] = (unsigned char)(v >> (8 * i));
    gb_raw(b, x, (size_t)bytes);
}

static inline void gb_text(const gb *g, gb_buf *b, const char *s, size_t n) {
    gb_uint(g, b, n, 8);
    gb_raw(b, s, n);
}

static inline void gb_float(const gb *g, gb_buf *b, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    gb_uint(g, b, u, 4);
}

static inline void gb_double(const gb *g, gb_buf *b, double f) {
    uint64_t u;
    memcpy(&u, &f, 8);
    gb_uint(g, b, u, 8);
}

static inline void gb_pad(gb_buf *b, size_t align) {
    while (align && b->n % align) gb_raw(b, "", 1);
}

static inline void gb_init(gb *g, uint32_t version, int big) {
    memset(g, 0, sizeof *g);
    g->version = version;
    g->align = 32;
    g->big = big;
}

static inline void gb_free(gb *g) {
    free(g->kv.p);
    free(g->info.p);
    free(g->data.p);
    free(g->file.p);
    memset(g, 0, sizeof *g);
}

/* -- metadata -- */

static inline void gb_key(gb *g, const char *key, uint32_t type) {             /* the value must follow in g->kv */
    gb_text(g, &g->kv, key, strlen(key));
    gb_uint(g, &g->kv, type, 4);
    g->n_kv++;
}

static inline void gb_kv_uint(gb *g, const char *key, uint32_t type, uint64_t v) {     /* any integer type, and GB_BOOL */
    static const int bytes[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    gb_key(g, key, type);
    gb_uint(g, &g->kv, v, bytes[type]);
}

static inline void gb_kv_u32(gb *g, const char *key, uint32_t v) { gb_kv_uint(g, key, GB_U32, v); }
static inline void gb_kv_bool(gb *g, const char *key, int v) { gb_kv_uint(g, key, GB_BOOL, v != 0); }

static inline void gb_kv_f32(gb *g, const char *key, float v) {
    gb_key(g, key, GB_FLOAT);
    gb_float(g, &g->kv, v);
}

static inline void gb_kv_str(gb *g, const char *key, const char *s) {
    gb_key(g, key, GB_STR);
    gb_text(g, &g->kv, s, strlen(s));
}

static inline void gb_array(gb *g, uint32_t elem, uint64_t n) {                /* the elements must follow in g->kv */
    gb_uint(g, &g->kv, elem, 4);
    gb_uint(g, &g->kv, n, 8);
}

static inline void gb_kv_array(gb *g, const char *key, uint32_t elem, uint64_t n) {
    gb_key(g, key, GB_ARR);
    gb_array(g, elem, n);
}

static inline void gb_kv_strs(gb *g, const char *key, const char *const *s, size_t n) {
    size_t i;
    gb_kv_array(g, key, GB_STR, n);
    for (i = 0; i < n; i++) gb_text(g, &g->kv, s[i], strlen(s[i]));
}

static inline void gb_kv_i32s(gb *g, const char *key, const int32_t *v, size_t n) {
    size_t i;
    gb_kv_array(g, key, GB_I32, n);
    for (i = 0; i < n; i++) gb_uint(g, &g->kv, (uint32_t)v[i], 4);
}

static inline void gb_kv_f32s(gb *g, const char *key, const float *v, size_t n) {
    size_t i;
    gb_kv_array(g, key, GB_FLOAT, n);
    for (i = 0; i < n; i++) gb_float(g, &g->kv, v[i]);
}

/* -- tensors -- */

static inline void gb_info(gb *g, const char *name, uint32_t type, uint32_t n_dim, uint64_t d0, uint64_t d1, uint64_t d2,
                    uint64_t d3, uint64_t offset) {
    uint64_t d[4];
    uint32_t i;
    d[0] = d0; d[1] = d1; d[2] = d2; d[3] = d3;
    gb_text(g, &g->info, name, strlen(name));
    gb_uint(g, &g->info, n_dim, 4);
    for (i = 0; i < n_dim; i++) gb_uint(g, &g->info, d[i & 3], 8);
    gb_uint(g, &g->info, type, 4);
    gb_uint(g, &g->info, offset, 8);
    g->n_tensor++;
}

/* data as it shall stand in the file; NULL gives zeros */
static inline void gb_tensor(gb *g, const char *name, uint32_t type, uint32_t n_dim, uint64_t d0, uint64_t d1, uint64_t d2,
                      uint64_t d3, const void *data, size_t n) {
    size_t i;
    gb_pad(&g->data, g->align);
    gb_info(g, name, type, n_dim, d0, d1, d2, d3, g->data.n);
    if (data) gb_raw(&g->data, data, n);
    else for (i = 0; i < n; i++) gb_raw(&g->data, "", 1);
}

static inline void gb_tensor_f32(gb *g, const char *name, uint32_t n_dim, uint64_t d0, uint64_t d1, const float *v) {
    size_t i, n = (size_t)(d0 * (n_dim > 1 ? d1 : 1));
    gb_tensor(g, name, GB_F32, n_dim, d0, d1, 1, 1, NULL, 0);
    for (i = 0; i < n; i++) gb_float(g, &g->data, v[i]);
}

/* Numbers below `scale` in size, the same ones in every run; scale 0: ones. */
static inline void gb_tensor_random(gb *g, const char *name, uint64_t d0, uint64_t d1, float scale) {
    static uint64_t state = 1;
    const size_t n = (size_t)(d0 * d1);
    size_t i;
    gb_tensor(g, name, GB_F32, d1 > 1 ? 2 : 1, d0, d1, 1, 1, NULL, 0);
    for (i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        gb_float(g, &g->data, scale == 0 ? 1.0f : ((float)(uint32_t)(state >> 40) / 8388608.0f - 1.0f) * scale);
    }
}

/* GPT-2's alphabet: a byte as the character that stands for it, in UTF-8. */
static inline void gb_byte_token(int b, char out[4]) {
    int cp = b, i, n = 0;
    if (b < 33 || (b > 126 && b < 161) || b == 173) {
        for (i = 0; i < b; i++) n += i < 33 || (i > 126 && i < 161) || i == 173;
        cp = 256 + n;
    }
    out[0] = (char)(cp < 128 ? cp : 0xC0 | cp >> 6);
    out[1] = (char)(cp < 128 ? 0 : 0x80 | (cp & 63));
    out[2] = 0;
}

/* -- the file -- */

static inline const unsigned char *gb_finish(gb *g, size_t *size) {
    gb_buf *f = &g->file;
    f->n = 0;
    gb_raw(f, "GGUF", 4);
    gb_uint(g, f, g->version, 4);
    gb_uint(g, f, g->n_tensor, 8);
    gb_uint(g, f, g->n_kv, 8);
    gb_raw(f, g->kv.p, g->kv.n);
    gb_raw(f, g->info.p, g->info.n);
    if (g->data.n) gb_pad(f, g->align);
    gb_raw(f, g->data.p, g->data.n);
    *size = f->n;
    return f->p;
}

static inline int gb_write(gb *g, const char *path) {                          /* 1 = written */
    size_t n;
    const unsigned char *p = gb_finish(g, &n);
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(p, 1, n, f) == n;
    return (f ? fclose(f) == 0 : 0) && ok;
}

/* The vocabulary of toys that write text: byte-level BPE of three merges or, pieced, SentencePiece with byte fallback and a few
 * pieces. Returns its size. */
enum { GB_N_PIECE = 18 };
static inline unsigned gb_toy_vocabulary(gb *g, int pieced) {
    static const char *const pieces[GB_N_PIECE] = { "<unk>", "<s>", "</s>", "<|x|>", "<b>", " ", "a", " a", "b", " b", "ab",
        "\xC3\xA9", " \xF0\x9F\x98\x80", "\n", "b\n", "  ", "aaa", "a b" };
    static const char *const merges[] = { "a b", "a a", "aa a" };
    const unsigned n_vocab = pieced ? GB_N_PIECE + 256 : 256 + 5;
    char text[8];
    size_t n, i, k;
    gb_kv_str(g, "tokenizer.ggml.model", pieced ? "llama" : "gpt2");
    gb_kv_str(g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, n_vocab);
    for (i = 0; pieced && i < GB_N_PIECE; i++) {             /* SentencePiece spells a space U+2581 */
        char spelled[32];
        const char *q;
        for (q = pieces[i], n = 0; *q; q++) n += (size_t)sprintf(spelled + n, *q == ' ' ? "\xE2\x96\x81" : "%c", *q);
        gb_text(g, &g->kv, spelled, n);
    }
    for (i = 0; pieced && i < 256; i++) { sprintf(text, "<0x%02X>", (unsigned)i); gb_text(g, &g->kv, text, 6); }
    for (i = 0, k = 256; !pieced && i < 256; i++) {       /* the byte alphabet of GPT-2 */
        const unsigned cp = (unsigned)((i > 32 && i < 127) || (i > 160 && i != 173) ? i : k++);
        text[0] = (char)(cp < 128 ? cp : 0xC0 | cp >> 6);
        text[1] = (char)(0x80 | (cp & 63));
        gb_text(g, &g->kv, text, cp < 128 ? 1 : 2);
    }
    if (!pieced) {
        gb_text(g, &g->kv, "ab", 2); gb_text(g, &g->kv, "aa", 2); gb_text(g, &g->kv, "aaa", 3);
        gb_text(g, &g->kv, "<s>", 3); gb_text(g, &g->kv, "<|x|>", 5);
        gb_kv_strs(g, "tokenizer.ggml.merges", merges, 3);
    }
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, n_vocab);
    for (i = 0; i < n_vocab; i++)
        gb_uint(g, &g->kv, !pieced ? i < 259 ? 1 : 3 : i >= GB_N_PIECE ? 6 : i == 0 ? 2 : i < 4 ? 3 : i == 4 ? 4 : 1, 4);
    if (pieced) {
        gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, n_vocab);
        for (i = 0; i < n_vocab; i++) gb_float(g, &g->kv, -(float)i);
    } else {
        gb_kv_u32(g, "tokenizer.ggml.bos_token_id", 259);
        gb_kv_bool(g, "tokenizer.ggml.add_bos_token", 1);
    }
    return n_vocab;
}

#endif
