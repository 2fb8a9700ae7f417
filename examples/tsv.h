/* Tab-separated files, for the programs that learn from pairs of prompt and answer and those that judge: rows and columns, the
 * text that a pair becomes, and which rows are held out. All programs part a file in the same way. Include it after args.h. */
#ifndef TSV_H
#define TSV_H

enum { TSV_COLUMNS = 16, TSV_TRAIN = 0, TSV_HELD_OUT, TSV_LEFT_OUT };

typedef struct {
    char  *cell[TSV_COLUMNS];   /* UTF-8; those beyond n are "" */
    size_t n, line;             /* columns; line of the file, the first is 1 */
    int    part;                /* TSV_TRAIN and so on */
} tsv_row;

typedef struct {
    const char *path;
    char       *text;           /* holds the cells */
    tsv_row    *row;
    size_t      n;
} tsv;

/* The length of the UTF-8 character at p, which ends at end at the latest; 0: it is none (RFC 3629, section 4). */
static inline size_t tsv_character(const char *p, const char *end) {
    const unsigned char *c = (const unsigned char *)p;
    size_t n = *c < 0x80 ? 1 : *c < 0xC2 ? 0 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : *c < 0xF5 ? 4 : 0, i;
    if (n > (size_t)(end - p)) return 0;
    for (i = 1; i < n; i++) if ((c[i] & 0xC0) != 0x80) return 0;
    if (n > 2 && ((*c == 0xE0 && c[1] < 0xA0) || (*c == 0xED && c[1] > 0x9F) ||
                  (*c == 0xF0 && c[1] < 0x90) || (*c == 0xF4 && c[1] > 0x8F))) return 0;
    return n;
}

/* Ends the program if a line is no text: it has a NUL, or bytes that are no UTF-8. */
static inline void tsv_check(const char *path, size_t line, const char *p, const char *end) {
    const char *at = p;
    for (size_t n; at < end; at += n) {
        n = tsv_character(at, end);
        if (!n) args_die("%s: line %lu: byte %lu, 0x%02X, is not UTF-8", path, (unsigned long)line,
                         (unsigned long)(at - p + 1), (unsigned)(unsigned char)*at);
        if (!*at) args_die("%s: line %lu: byte %lu is 0", path, (unsigned long)line, (unsigned long)(at - p + 1));
    }
}

/* Reads a file ("-": stdin), one row a line. A line has at least `least` columns, which `what` names; columns beyond 16 and empty
 * lines are passed over. escape: \n, \t and the like in a cell are what they mean. */
static inline tsv tsv_read(const char *path, size_t least, const char *what, int escape) {
    tsv t = { NULL, NULL, NULL, 0 };
    size_t n, room = 0, line = 0;
    char *p, *end, *next;
    t.path = strcmp(path, "-") ? path : "stdin";
    p = t.text = args_read(path, &n);
    end = p + n;
    if (n >= 4 && !memcmp(p, "GGUF", 4)) args_die("%s: a GGUF file, expected lines of %s", t.path, what);
    if (n >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3)) p += 3;
    for (; p < end; p = next) {
        char *stop = (char *)memchr(p, '\n', (size_t)(end - p));
        tsv_row *row;
        if (!stop) stop = end;
        next = stop < end ? stop + 1 : end;
        line++;
        if (stop > p && stop[-1] == '\r') stop--;
        if (stop == p) continue;
        tsv_check(t.path, line, p, stop);
        *stop = 0;
        if (t.n == room) t.row = (tsv_row *)args_need(realloc(t.row, (room = room ? 2 * room : 256) * sizeof *t.row));
        row = &t.row[t.n++];
        row->line = line, row->n = 0, row->part = TSV_TRAIN;
        for (int i = 0; i < TSV_COLUMNS; i++) {
            char *tab = p ? strchr(p, '\t') : NULL;
            row->cell[i] = p ? p : stop;
            row->n += p != NULL;
            if (tab) *tab = 0;
            if (escape && p) {              /* never longer than it was */
                char *plain = args_unescape(p);
                strcpy(p, plain);
                free(plain);
            }
            p = tab ? tab + 1 : NULL;
        }
        if (row->n < least)
            args_die("%s: line %lu: %lu column%s, expected %s", t.path, (unsigned long)line, (unsigned long)row->n,
                     row->n > 1 ? "s" : "", what);
    }
    if (!t.n) args_die("%s: the file is empty, expected lines of %s", t.path, what);
    return t;
}

static inline void tsv_free(tsv *t) { free(t->row); free(t->text); }

/* ---- What is held out ------------------------------------------------------------------------------------------------- */

static inline uint64_t tsv_hash(const char *s) {
    uint64_t h = 0xCBF29CE484222325u;           /* FNV-1a, then the finaliser of MurmurHash3 */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDu;
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53u;
    return h ^ (h >> 33);
}
static inline int tsv_by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static inline int tsv_part(const char *name) {
    static const char *const names[] = { "train", "validate", "valid", "validation", "dev", "test" };
    for (int i = 0; i < 6; i++) if (!strcmp(name, names[i])) return i == 0 ? TSV_TRAIN : i < 5 ? TSV_HELD_OUT : TSV_LEFT_OUT;
    return -1;
}

/* Parts the rows. share below 0: as column 3 says, if it is "train", "validate" or "test" in every row; 1, or 0 if it is not. Else
 * that share of the prompts (column 1) is held out, by a hash: rows of the same prompt stay together. */
static inline int tsv_split(tsv *t, double share) {
    size_t n = share > 0 ? (size_t)(share * (double)t->n + 0.5) : 0, i;
    uint64_t *hash, last;
    if (share < 0) {
        for (i = 0; i < t->n && tsv_part(t->row[i].cell[2]) >= 0; i++) {}
        if (i > 0 && i < t->n)
            args_die("%s: line %lu: column 3: expected train, validate or test, as above it, got '%s'", t->path,
                     (unsigned long)t->row[i].line, t->row[i].cell[2]);
        if (i < t->n) return 0;
        for (i = 0; i < t->n; i++) t->row[i].part = tsv_part(t->row[i].cell[2]);
        return 1;
    }
    if (!n) return 1;
    hash = (uint64_t *)args_need(malloc(t->n * sizeof *hash));
    for (i = 0; i < t->n; i++) hash[i] = tsv_hash(t->row[i].cell[0]);
    qsort(hash, t->n, sizeof *hash, tsv_by_hash);
    last = hash[n - 1];
    free(hash);
    for (i = 0; i < t->n; i++) t->row[i].part = tsv_hash(t->row[i].cell[0]) <= last ? TSV_HELD_OUT : TSV_TRAIN;
    return 1;
}

#define TSV_HELD_OUT_HELP "judge this share of the prompts, as train holds it out; 0 = all rows; default: see above"
#define TSV_LIMIT_HELP "judge N rows at most, spread evenly; 0 = all (default)"

/* Which rows a program judges, as their part: this share of the prompts (0: all rows) where it is not below 0; else those
 * of column 3; else what was held out when the adapter (the header of its file, or NULL) or the model was tuned; else all,
 * which is TSV_TRAIN. Ends the program if that is none. */
static inline int tsv_hold_out(tsv *t, const gpt_model *m, const gpt_model *adapter, double share) {
    const int by_column = share < 0 && tsv_split(t, -1);
    const char *who = "--held-out";
    size_t n = 0;
    gpt_meta meta;
    for (int i = 0; i < 2 && share < 0 && !by_column; i++)
        if (!gpt_model_meta(i ? m : adapter, "train.held_out", 0, &meta) && meta.number > 0 && meta.number <= 1)
            share = meta.number, who = i ? "the model's train.held_out" : "the adapter's train.held_out";
    if (!by_column && share <= 0) return TSV_TRAIN;
    if (!by_column) tsv_split(t, share);
    for (size_t i = 0; i < t->n; i++) n += t->row[i].part == TSV_HELD_OUT;
    if (!n && by_column)
        args_die("%s: column 3 says validate in no row: --held-out 0.1 judges a tenth of the prompts, --held-out 0 all rows",
                 t->path);
    if (!n)
        args_die("%s: no row is left to judge: %s, %g, of %lu rows is none; --held-out 0 judges all", t->path, who, share,
                 (unsigned long)t->n);
    return TSV_HELD_OUT;
}

/* The rows of a part, every k-th of them if there are more than limit (0: all); *n: how many. The caller frees the list. */
static inline const tsv_row **tsv_rows(const tsv *t, int part, int limit, size_t *n) {
    const tsv_row **row = (const tsv_row **)args_need(malloc((t->n + 1) * sizeof *row));
    size_t all = 0;
    for (size_t i = 0; i < t->n; i++) if (t->row[i].part == part) row[all++] = &t->row[i];
    *n = limit && (size_t)limit < all ? (size_t)limit : all;
    for (size_t i = 0; i < *n; i++) row[i] = row[i * all / *n];
    return row;
}

/* ---- The text of a pair ----------------------------------------------------------------------------------------------- */

#define TSV_TEMPLATE "{prompt}\\n{answer}"
#define TSV_TEMPLATE_HELP "the text of a pair, \\n a line's end (\"" TSV_TEMPLATE "\")"

typedef struct { char *head, *middle, *tail; } tsv_template;   /* around {prompt} and {answer}; head holds all three */

static inline tsv_template tsv_template_of(const char *text) {
    tsv_template t;
    char *prompt, *answer;
    t.head = args_unescape(text ? text : TSV_TEMPLATE);
    prompt = strstr(t.head, "{prompt}");
    answer = prompt ? strstr(prompt, "{answer}") : NULL;
    if (!answer || strstr(prompt + 1, "{prompt}") || strstr(answer + 1, "{answer}"))
        args_die("--template: expected {prompt} and behind it {answer}, each once, got '%s'", text);
    *prompt = *answer = 0;
    t.middle = prompt + 8, t.tail = answer + 8;
    return t;
}

/* The same of a text, or, where it is NULL, of what the model was tuned with, if that is in its file. */
static inline tsv_template tsv_template_for(const gpt_model *m, const char *text) {
    gpt_meta meta;
    if (!text && !gpt_model_meta(m, "train.template", 0, &meta)) text = meta.text;
    return tsv_template_of(text);
}

/* Three strings as one, for the caller to free. */
static inline char *tsv_join(const char *a, const char *b, const char *c) {
    size_t n = strlen(a), m = strlen(b), k = strlen(c);
    char *out = (char *)args_need(malloc(n + m + k + 1));
    memcpy(out, a, n), memcpy(out + n, b, m), memcpy(out + n + m, c, k + 1);
    return out;
}
static inline char *tsv_prompt(const tsv_template *t, const char *prompt) { return tsv_join(t->head, prompt, t->middle); }
static inline char *tsv_answer(const tsv_template *t, const char *answer) { return tsv_join("", answer, t->tail); }

#endif
