/* How well a model answers: perplexity of the answers, right choices, exact match, F1, BLEU and ROUGE-L over a file of prompts and
 * references. With --score it judges texts that are there already, and needs no model. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "tsv.h"
#include <math.h>

static const char about[] =
    "usage: evaluate -m MODEL FILE.tsv [--choices A|B|C | --labels | --choices-column N]\n"
    "       evaluate --score FILE.tsv [--rows]\n\n"
    "FILE has a prompt and a reference on each line, with a tab between. A prompt becomes a text by --template, or a message\n"
    "by --chat; what the model writes then, greedily up to --max-tokens or a stop, without blanks around it, is judged:\n"
    "  perplexity   of the reference behind the prompt, for each token; nats for each byte. An end token does not count\n"
    "  accuracy     with choices, in place of the next four: how often the reference is the likeliest of them\n"
    "  exact match  as SQuAD 2.0: without case, punctuation and a, an, the; percent of the rows\n"
    "  F1           as SQuAD 2.0: of words, after the same; mean over the rows, in percent\n"
    "  BLEU         as sacrebleu: case:mixed|eff:no|tok:13a|smooth:exp, over all rows; with --rows eff:yes for each\n"
    "  ROUGE-L      as rouge-score, F-measure without stemming; mean over the rows, in percent\n"
    "Several references (--references) count as the best of them; in BLEU their n-grams are one set. Letters have capitals\n"
    "here if they are Latin, Greek, Cyrillic or Armenian. A prompt that is longer than the context has an empty answer,\n"
    "which is wrong; what is longer with its reference does not count in the perplexity. Both are said.\n\n"
    "Judged are --held-out of the prompts, those that train holds out; without it the rows that a column 3 calls\n"
    "\"validate\", if it says that, \"train\" or \"test\" in every row; else what a tuned model has held out; else all rows.\n\n"
    "With --score the lines are a hypothesis and a reference, as -o writes them (with \\n for a line's end: -e).";

/* ---- Text as words ---------------------------------------------------------------------------------------------------- */

typedef struct { char *text; size_t n, room; } buffer;
typedef struct { char *text; const char **word; size_t n; } words;      /* strings in text */

static void add(buffer *b, const char *text, size_t n) {
    if (b->n + n + 1 > b->room) b->text = (char *)args_need(realloc(b->text, b->room = 2 * (b->n + n) + 64));
    if (n) memcpy(b->text + b->n, text, n);
    b->text[b->n += n] = 0;
}

/* The character at p, a valid UTF-8 text; *n: its bytes. */
static unsigned character(const char *p, size_t *n) {
    const unsigned char *c = (const unsigned char *)p;
    *n = *c < 0x80 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;
    switch (*n) {
    case 1:  return *c;
    case 2:  return (unsigned)(*c & 31) << 6 | (c[1] & 63u);
    case 3:  return (unsigned)(*c & 15) << 12 | (unsigned)(c[1] & 63) << 6 | (c[2] & 63u);
    default: return (unsigned)(*c & 7) << 18 | (unsigned)(c[1] & 63) << 12 | (unsigned)(c[2] & 63) << 6 | (c[3] & 63u);
    }
}
static void add_character(buffer *b, unsigned c) {
    char s[4];
    if (c < 0x80) { s[0] = (char)c; add(b, s, 1); }
    else if (c < 0x800) { s[0] = (char)(0xC0 | c >> 6); s[1] = (char)(0x80 | (c & 63)); add(b, s, 2); }
    else if (c < 0x10000) {
        s[0] = (char)(0xE0 | c >> 12); s[1] = (char)(0x80 | (c >> 6 & 63)); s[2] = (char)(0x80 | (c & 63));
        add(b, s, 3);
    } else {
        s[0] = (char)(0xF0 | c >> 18); s[1] = (char)(0x80 | (c >> 12 & 63));
        s[2] = (char)(0x80 | (c >> 6 & 63)); s[3] = (char)(0x80 | (c & 63));
        add(b, s, 4);
    }
}

static int is_digit(int c) { return c >= '0' && c <= '9'; }
/* White space as Python's str.split has it */
static int is_blank(unsigned c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
        c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
/* What a regular expression's \b takes for part of a word, but for rare scripts' marks */
static int is_wordy(unsigned c) {
    static const unsigned other[][2] = {        /* from, to: neither letters nor digits */
        { 0x80, 0xA9 }, { 0xAB, 0xB1 }, { 0xB4, 0xB4 }, { 0xB6, 0xB8 }, { 0xBB, 0xBB }, { 0xBF, 0xBF }, { 0xD7, 0xD7 }, { 0xF7, 0xF7 },
        { 0x2C2, 0x2C5 }, { 0x2D2, 0x2DF }, { 0x300, 0x36F }, { 0x37E, 0x37E }, { 0x1680, 0x1680 }, { 0x2000, 0x206F },
        { 0x207A, 0x207E }, { 0x208A, 0x208E }, { 0x20A0, 0x20F0 }, { 0x2190, 0x245F }, { 0x249C, 0x24E9 }, { 0x2500, 0x2775 },
        { 0x2794, 0x2BFF }, { 0x3000, 0x3004 }, { 0x3008, 0x3020 }, { 0x302A, 0x3030 }, { 0xD800, 0xF8FF }, { 0xFE10, 0xFE6F },
        { 0xFF01, 0xFF0F }, { 0xFF1A, 0xFF20 }, { 0xFF3B, 0xFF40 }, { 0xFF5B, 0xFF65 }, { 0xFFE0, 0xFFFF }, { 0x1F000, 0x1F0FF },
        { 0x1F10D, 0x1FBEF }
    };
    if (c < 0x80) return (c | 32) - 'a' < 26u || c - '0' < 10u || c == '_';
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) if (c >= other[i][0] && c <= other[i][1]) return 0;
    return 1;
}
static unsigned lower(unsigned c) {
    static const struct { unsigned from, to; int step, by; } row[] = {      /* every step-th from `from` on */
        { 'A', 'Z', 1, 32 }, { 0xC0, 0xD6, 1, 32 }, { 0xD8, 0xDE, 1, 32 }, { 0x100, 0x12E, 2, 1 }, { 0x132, 0x136, 2, 1 },
        { 0x139, 0x147, 2, 1 }, { 0x14A, 0x176, 2, 1 }, { 0x178, 0x178, 1, -121 }, { 0x179, 0x17D, 2, 1 }, { 0x386, 0x386, 1, 38 },
        { 0x388, 0x38A, 1, 37 }, { 0x38C, 0x38C, 1, 64 }, { 0x38E, 0x38F, 1, 63 }, { 0x391, 0x3A1, 1, 32 }, { 0x3A3, 0x3AB, 1, 32 },
        { 0x400, 0x40F, 1, 80 }, { 0x410, 0x42F, 1, 32 }, { 0x460, 0x480, 2, 1 }, { 0x48A, 0x4BE, 2, 1 }, { 0x4C0, 0x4C0, 1, 15 },
        { 0x4C1, 0x4CD, 2, 1 }, { 0x4D0, 0x52E, 2, 1 }, { 0x531, 0x556, 1, 48 }, { 0x1E00, 0x1E94, 2, 1 }, { 0x1E9E, 0x1E9E, 1, -7615 },
        { 0x1EA0, 0x1EFE, 2, 1 }, { 0x212A, 0x212A, 1, -8383 }, { 0x212B, 0x212B, 1, -8262 }, { 0xFF21, 0xFF3A, 1, 32 }
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (c >= row[i].from && c <= row[i].to && (c - row[i].from) % (unsigned)row[i].step == 0) return (unsigned)((int)c + row[i].by);
    }
    return c;
}
static void add_lower(buffer *b, const char *s) {
    size_t n;
    add(b, "", 0);
    for (; *s; s += n) {
        const unsigned c = character(s, &n);
        if (c == 0x130) add(b, "i\xCC\x87", 3); else add_character(b, lower(c));
    }
}

/* Takes the buffer. */
static words split(buffer b) {
    words w = { b.text, NULL, 0 };
    size_t room = 0, n;
    int inside = 0;
    for (char *p = b.text; *p; p += n) {
        const unsigned c = character(p, &n);
        if (is_blank(c)) { memset(p, 0, n); n = n ? n : 1; inside = 0; continue; }
        if (!inside) {
            if (w.n == room) w.word = (const char **)args_need(realloc((void *)w.word, (room = room ? 2 * room : 32) * sizeof *w.word));
            w.word[w.n++] = p;
        }
        inside = 1;
    }
    return w;
}
static void words_free(words *w) { free((void *)w->word); free(w->text); }

/* As SQuAD's evaluation compares: small letters, no ASCII punctuation, no articles */
static words squad_words(const char *s) {
    buffer small = { NULL, 0, 0 }, bare = { NULL, 0, 0 }, out = { NULL, 0, 0 };
    size_t n;
    add_lower(&small, s);
    add(&bare, "", 0);
    add(&out, "", 0);
    for (const char *p = small.text; *p; p++)
        if (!((*p >= '!' && *p <= '/') || (*p >= ':' && *p <= '@') || (*p >= '[' && *p <= '`') || (*p >= '{' && *p <= '~'))) add(&bare, p, 1);
    for (const char *p = bare.text, *q; *p; p = q) {
        for (q = p; *q && is_wordy(character(q, &n)); q += n) {}
        if (q == p) { character(q, &n); q += n; }
        else if ((q == p + 1 && *p == 'a') || (q == p + 2 && !memcmp(p, "an", 2)) || (q == p + 3 && !memcmp(p, "the", 3))) {
            add(&out, " ", 1);
            continue;
        }
        add(&out, p, (size_t)(q - p));
    }
    free(small.text), free(bare.text);
    return split(out);
}

/* As rouge-score: runs of a to z and 0 to 9, after all letters became small */
static words rouge_words(const char *s) {
    buffer b = { NULL, 0, 0 };
    add_lower(&b, s);
    for (char *p = b.text; *p; p++) if (!(is_digit(*p) || (*p >= 'a' && *p <= 'z'))) *p = ' ';
    return split(b);
}

/* A regular expression's replacement of pairs of characters: where `first` and `second` are so, spaces come between them as told,
 * and the search goes on behind both. */
static buffer part_pairs(buffer from, int (*first)(int), int (*second)(int), const char *ahead, const char *between, const char *behind) {
    buffer b = { NULL, 0, 0 };
    add(&b, "", 0);
    for (const char *p = from.text; *p; p++) {
        if (p[1] && first(p[0]) && second(p[1])) {
            add(&b, ahead, strlen(ahead)), add(&b, p, 1), add(&b, between, strlen(between)), add(&b, p + 1, 1), add(&b, behind, strlen(behind));
            p++;
        } else add(&b, p, 1);
    }
    free(from.text);
    return b;
}
static int no_digit(int c) { return !is_digit(c); }
static int is_point(int c) { return c == '.' || c == ','; }
static int is_dash(int c) { return c == '-'; }

static buffer replace(buffer from, const char *what, const char *by) {
    buffer b = { NULL, 0, 0 };
    const char *p = from.text, *at;
    add(&b, "", 0);
    for (; (at = strstr(p, what)) != NULL; p = at + strlen(what)) add(&b, p, (size_t)(at - p)), add(&b, by, strlen(by));
    add(&b, p, strlen(p));
    free(from.text);
    return b;
}

/* mteval-v13a's, as sacrebleu has it */
static words bleu_words(const char *s) {
    static const char *const change[][2] = { { "<skipped>", "" }, { "-\n", "" }, { "\n", " " }, { "&quot;", "\"" }, { "&amp;", "&" },
                                             { "&lt;", "<" }, { "&gt;", ">" } };
    buffer b = { NULL, 0, 0 }, apart = { NULL, 0, 0 };
    size_t end = 0, at, n;
    for (at = 0; s[at]; at += n) if (!is_blank(character(s + at, &n))) end = at + n;
    add(&b, s, end);
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) b = replace(b, change[i][0], change[i][1]);
    add(&apart, " ", 1);
    for (const char *p = b.text; *p; p++) {     /* all ASCII punctuation but ' , - . has spaces around it */
        const int mark = (*p >= ' ' && *p <= '/' && !strchr("',-.", *p)) || (*p >= ':' && *p <= '@') || (*p >= '[' && *p <= '`') ||
            (*p >= '{' && *p <= '~');
        if (mark) add(&apart, " ", 1);
        add(&apart, p, 1);
        if (mark) add(&apart, " ", 1);
    }
    add(&apart, " ", 1);
    free(b.text);
    apart = part_pairs(apart, no_digit, is_point, "", " ", " ");
    apart = part_pairs(apart, is_point, no_digit, " ", " ", "");
    apart = part_pairs(apart, is_digit, is_dash, "", " ", " ");
    return split(apart);
}

/* ---- Measures --------------------------------------------------------------------------------------------------------- */

enum { ORDER = 4 };             /* of BLEU's longest n-grams */

typedef struct { double match[ORDER], total[ORDER], hyp, ref; } bleu_counts;
typedef struct { const char *word[ORDER]; } gram;   /* a shorter one ends with NULL */
typedef struct { double exact, f1, rouge; bleu_counts bleu; size_t n; } scores;

static int by_gram(const void *a, const void *b) {
    const gram *x = (const gram *)a, *y = (const gram *)b;
    for (int i = 0; i < ORDER; i++) {
        int c;
        if (!x->word[i] || !y->word[i]) return (x->word[i] != NULL) - (y->word[i] != NULL);
        c = strcmp(x->word[i], y->word[i]);
        if (c) return c;
    }
    return 0;
}

/* All n-grams of `first` to `last` words, sorted; for the caller to free */
static gram *grams(const words *w, int last, size_t *n) {
    gram *g = (gram *)args_need(malloc((ORDER * w->n + 1) * sizeof *g));
    *n = 0;
    for (int k = 1; k <= last; k++) {
        for (size_t i = 0; i + (size_t)k <= w->n; i++, (*n)++)
            for (int j = 0; j < ORDER; j++) g[*n].word[j] = j < k ? w->word[i + (size_t)j] : NULL;
    }
    qsort(g, *n, sizeof *g, by_gram);
    return g;
}
static size_t occurrences(const gram *g, size_t n, const gram *what) {
    size_t end[2];
    for (int upper = 0; upper < 2; upper++) {
        size_t low = 0, high = n;
        while (low < high) {
            const size_t mid = (low + high) / 2;
            if (by_gram(&g[mid], what) < upper) low = mid + 1; else high = mid;
        }
        end[upper] = low;
    }
    return end[1] - end[0];
}

/* n-grams of a hypothesis that its references have, each as often as the one of them that has it most often at most. */
static void match(const words *hyp, const words *ref, size_t n_ref, int last, double *matched, double *total) {
    size_t n, k, i, j;
    gram *h = grams(hyp, last, &n), **r = (gram **)args_need(malloc((n_ref + 1) * sizeof *r));
    size_t *n_r = (size_t *)args_need(malloc((n_ref + 1) * sizeof *n_r));
    for (j = 0; j < n_ref; j++) r[j] = grams(&ref[j], last, &n_r[j]);
    for (i = 0; i < n; i = k) {
        size_t most = 0;
        int order = 0;
        while (order + 1 < ORDER && h[i].word[order + 1]) order++;
        for (k = i + 1; k < n && !by_gram(&h[i], &h[k]); k++) {}
        for (j = 0; j < n_ref; j++) {
            const size_t has = occurrences(r[j], n_r[j], &h[i]);
            if (has > most) most = has;
        }
        matched[order] += (double)(most < k - i ? most : k - i);
        total[order] += (double)(k - i);
    }
    for (j = 0; j < n_ref; j++) free(r[j]);
    free(h), free(r), free(n_r);
}

/* 2 p r / (p + r), with its parts as both oracles compute it */
static double f_measure(double same, size_t hyp, size_t ref) {
    const double p = same / (double)(hyp ? hyp : 1), r = same / (double)(ref ? ref : 1);
    return same > 0 ? 2 * p * r / (p + r) : 0;
}

/* The length of the longest common subsequence */
static size_t longest_common(const words *a, const words *b) {
    size_t *row = (size_t *)args_need(calloc(b->n + 1, sizeof *row)), i, j, n;
    for (i = 0; i < a->n; i++) {
        size_t before = 0;                      /* row[j] of the row above */
        for (j = 0; j < b->n; j++) {
            const size_t above = row[j + 1];
            if (!strcmp(a->word[i], b->word[j])) row[j + 1] = before + 1;
            else if (row[j] > above) row[j + 1] = row[j];
            before = above;
        }
    }
    n = row[b->n];
    free(row);
    return n;
}

/* 0 to 100. effective: orders of which the hypotheses have no n-gram do not count, as for one sentence; precision [4] and the
 * brevity penalty may be NULL. (Papineni 2002; smoothing: Chen and Cherry 2014, method 3) */
static double bleu(const bleu_counts *c, int effective, double *precision, double *brevity) {
    double p[ORDER] = { 0 }, sum = 0, smooth = 1, any = 0;
    const double bp = c->hyp >= c->ref ? 1 : c->hyp > 0 ? exp(1 - c->ref / c->hyp) : 0;
    int order = effective ? 0 : ORDER, i;
    for (i = 0; i < ORDER; i++) any += c->match[i];
    for (i = 0; i < ORDER && any > 0 && c->total[i] > 0; i++) {
        p[i] = c->match[i] > 0 ? 100 * c->match[i] / c->total[i] : 100 / ((smooth *= 2) * c->total[i]);
        if (effective) order = i + 1;
    }
    if (precision) memcpy(precision, p, sizeof p);
    if (brevity) *brevity = bp;
    for (i = 0; i < order; i++) {
        if (p[i] <= 0) return 0;
        sum += log(p[i]);
    }
    return order ? bp * exp(sum / order) : 0;
}

/* Judges a row, and adds it to all. */
static scores judge(const char *hyp, char *const *ref, size_t n_ref, scores *all) {
    words h[3] = { squad_words(hyp), rouge_words(hyp), bleu_words(hyp) }, *r = (words *)args_need(calloc(n_ref + 1, sizeof *r));
    scores s;
    size_t i, j;
    memset(&s, 0, sizeof s);
    for (i = 0; i < n_ref; i++) {
        words w = squad_words(ref[i]);
        double f, same[ORDER] = { 0 }, total[ORDER] = { 0 };
        int equal = h[0].n == w.n;
        for (j = 0; j < w.n && equal; j++) equal = !strcmp(h[0].word[j], w.word[j]);
        match(&h[0], &w, 1, 1, same, total);
        f = h[0].n && w.n ? f_measure(same[0], h[0].n, w.n) : equal;
        if (equal) s.exact = 1;
        if (f > s.f1) s.f1 = f;
        words_free(&w);
        w = rouge_words(ref[i]);
        f = f_measure((double)longest_common(&h[1], &w), h[1].n, w.n);
        if (f > s.rouge) s.rouge = f;
        words_free(&w);
        r[i] = bleu_words(ref[i]);
        f = (double)r[i].n - (double)h[2].n;
        if (!i || fabs(f) < fabs(s.bleu.ref - (double)h[2].n) || (fabs(f) <= fabs(s.bleu.ref - (double)h[2].n) && (double)r[i].n < s.bleu.ref))
            s.bleu.ref = (double)r[i].n;        /* the nearest length, the shorter of two */
    }
    s.bleu.hyp = (double)h[2].n;
    match(&h[2], r, n_ref, ORDER, s.bleu.match, s.bleu.total);
    for (i = 0; i < n_ref; i++) words_free(&r[i]);
    for (i = 0; i < 3; i++) words_free(&h[i]);
    free(r);
    all->n++;
    all->exact += s.exact, all->f1 += s.f1, all->rouge += s.rouge, all->bleu.hyp += s.bleu.hyp, all->bleu.ref += s.bleu.ref;
    for (i = 0; i < ORDER; i++) all->bleu.match[i] += s.bleu.match[i], all->bleu.total[i] += s.bleu.total[i];
    return s;
}

static void print_row(size_t line, const scores *s) {
    printf("%lu\t%.0f\t%.4f\t%.4f\t%.4f\n", (unsigned long)line, 100 * s->exact, 100 * s->f1, bleu(&s->bleu, 1, NULL, NULL), 100 * s->rouge);
}
static void print_scores(const scores *all) {
    double p[ORDER], bp, n = (double)(all->n ? all->n : 1);
    const double score = bleu(&all->bleu, 0, p, &bp);
    printf("exact match  %8.4f %%\nF1           %8.4f %%\nBLEU         %8.4f    %.1f/%.1f/%.1f/%.1f, brevity penalty %.4f, %.0f words for %.0f\n"
           "ROUGE-L      %8.4f %%\n", 100 * all->exact / n, 100 * all->f1 / n, score, p[0], p[1], p[2], p[3], bp, all->bleu.hyp, all->bleu.ref,
           100 * all->rouge / n);
}

/* ---- The program ------------------------------------------------------------------------------------------------------ */

typedef struct {
    args_common     c;
    const char     *file, *form, *family, *choices, *out, *score;
    arg_list        stop;
    int             escape, chat, labels, column, n_ref, limit, max_tokens, rows, per_byte;
    double          held_out;
} options;

static int collect(void *user, const char *text, size_t n) { add((buffer *)user, text, n); return 0; }
static int ignore(void *user, const char *text, size_t n) { (void)user; (void)text; (void)n; return 0; }

static void check(gpt_result r, const gpt_error *err, const tsv *t, const tsv_row *row) {
    if (args_stopped) args_interrupted("evaluating", "");
    if (r) args_die("%s: line %lu: %s", t->path, (unsigned long)row->line, err->msg);
}

/* GPT_E_CONTEXT: so many tokens are more than the context. */
static gpt_result fits(const gpt_session *s, size_t n, const char *what, gpt_error *err) {
    gpt_session_info info;
    gpt_session_info_get(s, &info);
    if (n <= info.n_ctx) return GPT_OK;
    snprintf(err->msg, sizeof err->msg, "%s: %lu tokens, the context has %lu", what, (unsigned long)n,
             (unsigned long)info.n_ctx);
    return err->code = GPT_E_CONTEXT;
}

/* The session's text becomes these tokens: what it has of them already is not computed again. */
static gpt_result go_to(gpt_session *s, const gpt_token *ids, size_t n, gpt_error *err) {
    size_t has, same = 0;
    const gpt_token *token = gpt_session_tokens(s, &has);
    gpt_result r;
    while (same < has && same < n && token[same] == ids[same]) same++;
    r = gpt_session_rewind(s, same, err);
    return r ? r : gpt_eval(s, ids + same, n - same, err);
}

/* The token behind a prompt that an encoder reads (T5); -1: there is none, prompt and answer are one text */
static gpt_token start_of(const gpt_model *m) {
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    return info.start;
}

/* Tokens of a prompt, and how it is written where it is no chat (*text, for the caller to free); both NULL-safe to free */
static gpt_token *prompt_tokens(const gpt_model *m, const options *o, const tsv_template *form, const tsv *t, const tsv_row *row,
                                char **text, size_t *n) {
    const gpt_message message = { "user", row->cell[0], NULL };
    gpt_chat_params chat;
    gpt_error err;
    gpt_token *ids;
    *text = NULL;
    if (!o->chat) {
        *text = tsv_prompt(form, row->cell[0]);
        ids = args_tokenize(m, *text, strlen(*text), GPT_TOKENIZE_BOS, n);
        if (start_of(m) >= 0) ids[(*n)++] = start_of(m);        /* args_tokenize has room for it */
        return ids;
    }
    memset(&chat, 0, sizeof chat);
    chat.family = o->family;
    check(gpt_chat_tokenize(m, &message, 1, &chat, NULL, 0, n, &err), &err, t, row);
    ids = (gpt_token *)args_need(malloc((*n + 1) * sizeof *ids));
    check(gpt_chat_tokenize(m, &message, 1, &chat, ids, *n, n, &err), &err, t, row);
    return ids;
}

/* Adds up the nats of the reference behind the prompt, and its tokens. Where both are one text they are cut into tokens as
 * one. GPT_E_CONTEXT: they are too long, and nothing is added. */
static gpt_result cost(const gpt_model *m, gpt_session *s, const options *o, const tsv *t, const tsv_row *row,
                       const char *text, const gpt_token *prompt, size_t n_prompt, double *nats, size_t *n, gpt_error *err) {
    const char *answer = row->cell[1];
    size_t n_all, keep = 0, first;
    gpt_token *all, *ids;
    gpt_result r;
    float *logprob;
    if (o->chat || start_of(m) >= 0) {
        all = args_tokenize(m, answer, strlen(answer), o->chat ? (unsigned)GPT_TOKENIZE_CONTINUE : 0u, &n_all);
        ids = (gpt_token *)args_need(malloc((n_prompt + n_all + 1) * sizeof *ids));
        memcpy(ids, prompt, n_prompt * sizeof *ids);
        memcpy(ids + n_prompt, all, n_all * sizeof *ids);
        free(all);
        keep = n_prompt, n_all += n_prompt;
    } else {
        char *both = tsv_join(text, answer, "");
        ids = args_tokenize(m, both, strlen(both), GPT_TOKENIZE_BOS, &n_all);
        free(both);
        while (keep < n_prompt && keep < n_all && ids[keep] == prompt[keep]) keep++;
    }
    r = fits(s, n_all, "the prompt with its reference", err);
    if (!r) {
        first = keep ? 0 : 1;                   /* the first token of a text has no probability */
        logprob = (float *)args_need(malloc((n_all - keep + 1) * sizeof *logprob));
        check(go_to(s, ids, keep, err), err, t, row);
        check(gpt_score(s, ids + keep, n_all - keep, logprob, err), err, t, row);
        for (size_t i = first; i < n_all - keep; i++) *nats -= (double)logprob[i];
        *n += n_all - keep > first ? n_all - keep - first : 0;
        free(logprob);
    }
    free(ids);
    return r;
}

/* The row's references: as many as it has, at most n_ref */
static size_t references(const tsv_row *row, int n_ref) {
    return row->n - 1 < (size_t)n_ref ? row->n - 1 : (size_t)n_ref;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The choices of a row: parts of a string, a copy of which is in *own, with | between; or all references. */
static size_t list_choices(const options *o, const tsv *t, const tsv_row *row, const char ***choice, char **own) {
    size_t n = 0, k = 0;
    const char *list = o->column ? row->cell[o->column - 1] : o->choices;
    if (o->labels) {
        *choice = (const char **)args_need(malloc(t->n * sizeof **choice));
        for (size_t i = 0; i < t->n; i++) (*choice)[i] = t->row[i].cell[1];
        qsort((void *)*choice, t->n, sizeof **choice, by_text);
        for (size_t i = 0; i < t->n; i++) if (!i || strcmp((*choice)[i], (*choice)[n - 1])) (*choice)[n++] = (*choice)[i];
        return n;
    }
    *own = (char *)memcpy(args_need(malloc(strlen(list) + 1)), list, strlen(list) + 1);
    *choice = (const char **)args_need(malloc((strlen(list) + 1) * sizeof **choice));
    for (char *p = *own; p; p = p ? p + 1 : NULL) {
        (*choice)[n++] = p;
        p = strchr(p, '|');
        if (p) *p = 0;
    }
    for (k = 0; k < n; k++) {
        if (*(*choice)[k]) continue;
        if (o->column) args_die("%s: line %lu: column %d: a choice is empty", t->path, (unsigned long)row->line, o->column);
        args_die("--choices: a choice is empty");
    }
    return n;
}

enum { MOST_CHOICES = 256 };    /* of gpt_choose */

/* Says before the work what is odd about the choices: one that comes twice, a reference that is none of them. */
static void check_choices(const options *o, const tsv *t, const tsv_row *const *rows, size_t n) {
    const char **choice = NULL;
    char *own = NULL;
    size_t n_choice = 0, n_twice = 0, n_none = 0, twice = 0, none = 0, i, j, k;
    if (o->labels) {
        n_choice = list_choices(o, t, rows[0], &choice, &own);
        if (n_choice < 2 || n_choice > MOST_CHOICES)
            args_die("--labels: %s has %lu different reference%s, expected 2 to %d", t->path, (unsigned long)n_choice,
                     n_choice > 1 ? "s" : "", (int)MOST_CHOICES);
    }
    for (i = 0; i < n && !o->labels; i++) {
        const size_t n_ref = references(rows[i], o->n_ref);
        int is = 0, same = 0;
        if (!i || o->column) {
            free((void *)choice), free(own);
            n_choice = list_choices(o, t, rows[i], &choice, &own);
            for (j = 0; j < n_choice; j++) for (k = 0; k < j && !same; k++) same = !strcmp(choice[j], choice[k]);
            if (n_choice < 2 && !o->column) args_die("--choices: expected two or more, with | between, got '%s'", o->choices);
            if (same && !o->column) args_die("--choices: a choice comes twice in '%s'", o->choices);
        }
        for (j = 0; j < n_choice; j++) for (k = 0; k < n_ref && !is; k++) is = !strcmp(choice[j], rows[i]->cell[1 + k]);
        if (same && !n_twice++) twice = i;
        if (!is && !n_none++) none = i;
    }
    free((void *)choice), free(own);
    if (n_twice)
        fprintf(stderr, "evaluate: %s: line %lu: column %d has a choice twice; so have %lu rows in all\n", t->path,
                (unsigned long)rows[twice]->line, o->column, (unsigned long)n_twice);
    if (n_none)
        fprintf(stderr, "evaluate: %s: line %lu: the reference '%s' is none of the choices; %lu of %lu rows are wrong by that\n",
                t->path, (unsigned long)rows[none]->line, rows[none]->cell[1], (unsigned long)n_none, (unsigned long)n);
}

/* A cell of a table: what would end it is written as \t and the like. */
static void put_cell(args_out *out, const char *text, const char *end) {
    static const char from[] = "\n\r\t\\", to[] = "nrt\\";
    for (; *text; text++) {
        const char *at = strchr(from, *text);
        if (at) { args_out_put(out, "\\", 1); args_out_put(out, to + (at - from), 1); }
        else args_out_put(out, text, 1);
    }
    args_out_put(out, end, strlen(end));
}

static void score(const options *o, const tsv_row *const *rows, size_t n) {
    scores all;
    memset(&all, 0, sizeof all);
    for (size_t i = 0; i < n; i++) {
        const scores one = judge(rows[i]->cell[0], rows[i]->cell + 1, references(rows[i], o->n_ref), &all);
        if (o->rows) print_row(rows[i]->line, &one);
    }
    printf("rows         %8lu\n", (unsigned long)all.n);
    print_scores(&all);
}

/* What evaluate() counts, and the first rows that are too long, each with the reason. */
enum { NAMED = 3 };
typedef struct {
    scores    all;
    double    nats;
    size_t    n_token, n_byte, n_right, n_cut, n_long, n_unscored, n_unanswered, line[NAMED];
    gpt_error why[NAMED];
} totals;

static void print_totals(const totals *z, const tsv *t, size_t n, int choosing) {
    for (size_t i = 0; i < z->n_long && i < NAMED; i++)
        fprintf(stderr, "evaluate: %s: line %lu: %s\n", t->path, (unsigned long)z->line[i], z->why[i].msg);
    if (z->n_long)
        fprintf(stderr, "evaluate: %lu row%s too long for the context (%s): %lu not in the perplexity, %lu without an answer, "
                "which is wrong\n", (unsigned long)z->n_long, z->n_long > 1 ? "s are" : " is", args_name("-c"),
                (unsigned long)z->n_unscored, (unsigned long)z->n_unanswered);
    printf("rows         %8lu\n", (unsigned long)n);
    if (z->n_long)
        printf("too long     %8lu    %lu not in the perplexity, %lu without an answer\n", (unsigned long)z->n_long,
               (unsigned long)z->n_unscored, (unsigned long)z->n_unanswered);
    if (z->n_token)
        printf("perplexity   %8.4f    %.4f nats/byte, %lu tokens, %lu bytes\n", exp(z->nats / (double)z->n_token),
               z->nats / (double)z->n_byte, (unsigned long)z->n_token, (unsigned long)z->n_byte);
    if (choosing)
        printf("accuracy     %8.4f %%  %lu of %lu\n", 100 * (double)z->n_right / (double)n, (unsigned long)z->n_right,
               (unsigned long)n);
    if (!z->all.n) return;
    print_scores(&z->all);
    printf("cut          %8.4f %%  of the answers, by %s or the context\n", 100 * (double)z->n_cut / (double)n, args_name("-n"));
}

static void evaluate(options *o, const tsv *t, gpt_model *m, const tsv_row *const *rows, size_t n) {
    static const char *const line_end[] = { "\n" };
    const int choosing = o->choices || o->labels || o->column;
    tsv_template form = tsv_template_for(m, o->form);
    gpt_session_params session = args_session(&o->c);
    gpt_generate_params params;
    gpt_choose_params choose;
    gpt_session *s;
    gpt_error err, why;
    args_progress progress;
    args_out out;
    totals z;
    const char **choice = NULL;
    char *own = NULL;
    size_t n_choice = 0;
    int failed;

    memset(&z, 0, sizeof z);
    memset(&params, 0, sizeof params);
    memset(&choose, 0, sizeof choose);
    choose.per_byte = o->per_byte;
    params.max_tokens = (size_t)o->max_tokens;
    params.stop = o->stop.item, params.n_stop = o->stop.n;
    params.think = ignore;
    for (size_t i = 0; i < o->stop.n; i++) o->stop.item[i] = args_unescape(o->stop.item[i]);        /* to the end of the program */
    if (!o->stop.n && !o->chat) params.stop = line_end, params.n_stop = 1;
    if (!o->stop.n && !o->chat && *form.tail) { o->stop.item[0] = form.tail; params.stop = o->stop.item; }
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    if (choosing) check_choices(o, t, rows, n);
    if (choosing && !o->column) n_choice = list_choices(o, t, rows[0], &choice, &own);
    if (o->out) args_out_begin(&out, o->out);

    progress = args_progress_begin(&o->c);
    for (size_t i = 0; i < n; i++) {
        const tsv_row *row = rows[i];
        const size_t n_ref = references(row, o->n_ref);
        const char *written = "";
        size_t n_prompt, best = 0;
        char *text;
        gpt_token *ids = prompt_tokens(m, o, &form, t, row, &text, &n_prompt);
        buffer said = { NULL, 0, 0 };
        int right = 0;
        scores one;
        gpt_result fit = GPT_OK, r = GPT_OK;
        if (*row->cell[1]) {
            fit = cost(m, s, o, t, row, text, ids, n_prompt, &z.nats, &z.n_token, &why);
            if (!fit) z.n_byte += strlen(row->cell[1]);
        }
        if (choosing) {
            if (o->column) n_choice = list_choices(o, t, row, &choice, &own);
            r = fits(s, n_prompt, "the prompt", &err);
            if (!r && o->chat) check(go_to(s, ids, n_prompt, &err), &err, t, row);
            else gpt_session_reset(s);
            if (!r) r = gpt_choose(s, text, choice, n_choice, &choose, NULL, &best, &err);
            if (!r) written = choice[best];
            for (size_t j = 0; j < n_ref && !r; j++) right |= !strcmp(written, row->cell[1 + j]);
            z.n_right += (size_t)right;
            if (o->rows) printf("%lu\t%d\t%s\n", (unsigned long)row->line, right, written);
        } else if (o->max_tokens) {
            gpt_session_info info;
            r = fits(s, n_prompt, "the prompt", &err);
            if (!r) {
                check(go_to(s, ids, n_prompt, &err), &err, t, row);
                check(gpt_generate(s, NULL, &params, collect, &said, &err), &err, t, row);
                gpt_session_info_get(s, &info);
                z.n_cut += info.finish == GPT_FINISH_LENGTH || info.finish == GPT_FINISH_CONTEXT;
            }
            add(&said, "", 0);
            while (said.n && strchr(" \n\r\t", said.text[said.n - 1])) said.text[--said.n] = 0;
            written = said.text + strspn(said.text, " \n\r\t");
            one = judge(written, row->cell + 1, n_ref, &z.all);
            if (o->rows) print_row(row->line, &one);
        }
        if (r != GPT_E_CONTEXT) check(r, &err, t, row);
        if (fit || r) {
            if (z.n_long < NAMED) z.line[z.n_long] = row->line, z.why[z.n_long] = r ? err : why;
            z.n_long++, z.n_unscored += fit != GPT_OK, z.n_unanswered += r != GPT_OK;
        }
        if (o->out) {
            put_cell(&out, written, "\t");
            for (size_t j = 0; j < n_ref; j++) put_cell(&out, row->cell[1 + j], j + 1 < n_ref ? "\t" : "\n");
        }
        if (o->column) { free((void *)choice), free(own); choice = NULL, own = NULL; }
        free(said.text), free(text), free(ids);
        args_progress_show(&progress, "evaluating", (double)(i + 1), (double)n);
    }
    args_progress_end(&progress);
    if (z.n_unanswered == n || (z.n_unscored == n && !choosing && !o->max_tokens))
        args_die("%s: no row fits the context (%s): line %lu: %s", t->path, args_name("-c"), (unsigned long)z.line[0],
                 z.why[0].msg);
    if (o->out && (failed = args_out_end(&out)) != 0) args_die("%s: cannot write: %s", o->out, strerror(failed));
    print_totals(&z, t, n, choosing);
    free((void *)choice), free(own), free(form.head);
    gpt_session_free(s);
}

int main(int argc, char **argv) {
    static options o;
    const arg table[] = {
        { "FILE",              ARG_ONCE,  &o.file,        "",     "" },
        ARGS_COMMON(o.c),
        ARGS_ADAPTER(o.c),
        { "-f, --file",        ARG_ONCE,  &o.file,        "FILE",
          "prompts and references, as the argument without an option is; - is stdin" },
        { "-e, --escape",      ARG_FLAG,  &o.escape,      "",     "\\n, \\t and the like in a cell are what they mean" },
        { "--template",        ARG_TEXT,  &o.form,        "TEXT", TSV_TEMPLATE_HELP "; a tuned model has its own" },
        { "--chat",            ARG_FLAG,  &o.chat,        "",     "the prompt is a message, by the file's chat template" },
        { "--chat-template",   ARG_TEXT,  &o.family,      "NAME", "the same by this family's" },
        { "--references",      ARG_COUNT, &o.n_ref,       "N",    "columns of references, from column 2 on; a row may have fewer (1)" },
        { "--choices",         ARG_TEXT,  &o.choices,     "LIST", "the answers to choose from, with | between" },
        { "--choices-column",  ARG_COUNT, &o.column,      "N",    "column N has the choices of its row, with | between" },
        { "--labels",          ARG_FLAG,  &o.labels,      "",     "the choices are all references that FILE has" },
        { "--per-byte",        ARG_FLAG,  &o.per_byte,    "",     "choose by the mean for each byte: length does not count" },
        { "-n, --predict, --n-predict", ARG_COUNT, &o.max_tokens, "N", "tokens of an answer at most (64); 0 = no answers" },
        { "-r, --reverse-prompt, --stop", ARG_LIST, &o.stop, "TEXT",
          "ends an answer; may be repeated. Default: what the template has" },
        { "--held-out",        ARG_FLOAT, &o.held_out,    "X",    TSV_HELD_OUT_HELP },
        { "--limit",           ARG_COUNT, &o.limit,       "N",    TSV_LIMIT_HELP },
        { "--rows",            ARG_FLAG,  &o.rows,        "",     "first a line a row: line, exact match, F1, BLEU, ROUGE-L; or right, choice" },
        { "-o, --out",         ARG_TEXT,  &o.out,         "FILE", "the answers with their references, as --score -e reads them" },
        { "--score",           ARG_TEXT,  &o.score,       "FILE", "hypotheses and references: no model" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    tsv t;
    gpt_model *m = NULL;
    const tsv_row **rows;
    size_t n;
    int choosing, part = TSV_TRAIN;

    o.n_ref = 1, o.max_tokens = 64, o.held_out = -1;
    args_parse(argc, argv, "evaluate", table, about);
    if (o.family) o.chat = 1;
    choosing = o.choices || o.labels || o.column;
    if (!o.score && !o.c.model) args_die("no model: -m FILE names one");
    if (!o.score && !o.file) args_die("no file: -f FILE names prompts and references");
    if (o.score && (o.c.model || o.file || choosing || o.out || o.chat || o.form || o.held_out != -1))
        args_die("--score takes neither a model nor what one would do, and judges all rows");
    if ((o.choices != NULL) + o.labels + (o.column != 0) > 1) args_die("--choices, --choices-column and --labels exclude each other");
    if (o.chat && o.form) args_die("--template and --chat exclude each other");
    if (o.n_ref < 1 || o.n_ref >= TSV_COLUMNS) args_die("--references: expected 1 to %d, got %d", TSV_COLUMNS - 1, o.n_ref);
    if (args_given("--choices-column") && (o.column < o.n_ref + 2 || o.column > TSV_COLUMNS))
        args_die("--choices-column: expected %d to %d, behind the references, got %d", o.n_ref + 2, TSV_COLUMNS, o.column);
    if (o.held_out != -1) args_within("--held-out", o.held_out, 0, 1);
    args_only("--per-byte", choosing, "for --choices, --choices-column and --labels alone");
    args_only("-n", !choosing && !o.score, "nothing is written: the answers are choices, or there already");
    args_only("-r", !choosing && !o.score, "nothing is written: the answers are choices, or there already");
    for (size_t i = 0; i < o.stop.n; i++) if (!*o.stop.item[i]) args_die("%s: the text is empty", args_name("-r"));
    if (o.out) {
        const args_file in[3] = { { o.file, "the table" }, { o.c.model, "the model" }, { o.c.adapter, "the adapter" } };
        args_check_out(args_name("-o"), o.out, in, 3);
    }
    t = tsv_read(o.score ? o.score : o.file, o.column ? (size_t)o.column : 2,
                 o.score ? "a hypothesis and a reference" : o.column ? "a prompt, a reference and, further on, choices" : "a prompt and a reference", o.escape);
    signal(SIGINT, args_on_interrupt);
    if (!o.score) {
        m = args_load(&o.c, ARGS_WRITER);
        if (o.chat && !o.family && !gpt_chat_family(m))
            args_die("--chat: %s has no chat template: --chat-template NAME takes a known one", o.c.model);
        part = tsv_hold_out(&t, m, o.c.lora_header, o.held_out);
    }
    rows = tsv_rows(&t, part, o.limit, &n);
    if (o.score) score(&o, rows, n);
    else evaluate(&o, &t, m, rows, n);
    args_close_stdout();
    args_unload(&o.c, m);
    free((void *)rows);
    tsv_free(&t);
    return 0;
}
