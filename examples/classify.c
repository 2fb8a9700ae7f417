/* Which of some labels a text has: gpt_choose asks the model which label is the likeliest answer to it, and the labels of the
 * file say how often that is right.
 *
 *   build/classify -m MODEL reviews.tsv --template "Review: {prompt}\nSentiment: {answer}"              zero-shot
 *   build/classify -m MODEL reviews.tsv --template "Review: {prompt}\nSentiment: {answer}" --shots 2    few-shot
 *   build/train intents.tsv --init examples/models/stories.gguf -o intents.gguf && build/classify -m intents.gguf intents.tsv
 *
 * What all texts begin with, an instruction and the examples, is computed once and frozen; each text is a session that goes on
 * from it, and several of them are one batch. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "tsv.h"

static const char about[] =
    "usage: classify -m MODEL FILE [options]\n\n"
    "FILE (- is stdin) has in each line a text, a tab and its label, in UTF-8. The model gets each text in the form of\n"
    "--template and chooses the likeliest of all labels in FILE. stdout has the accuracy; precision, recall and F1 of each\n"
    "label and their means; and the confusion matrix. A model that train has tuned on pairs brings its template along.\n\n"
    "Judged are --held-out of the texts, those that train holds out; without it the rows that a column 3 calls\n"
    "\"validate\", if it says that, \"train\" or \"test\" in every row; else what a tuned model has held out; else all rows.\n"
    "The examples of --shots come from those for training; where all are judged, but these.";

enum { MOST_LABELS = 100 };

typedef struct {
    const char *name, *word;    /* as the file has it; as the model gets it */
    char       *answer;         /* the word with what the template puts behind it */
} label;

typedef struct {
    label          *of;
    const char    **answer;     /* of gpt_choose */
    size_t          n;
} label_set;

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* All labels of both files, in the order of their bytes. */
static label_set labels_of(const tsv *a, const tsv *b, const arg_list *words, const tsv_template *form) {
    const size_t all = a->n + b->n;
    const char **name = (const char **)args_need(malloc(all * sizeof *name));
    label_set set = { NULL, NULL, 0 };
    for (size_t i = 0; i < all; i++) {
        const tsv *file = i < a->n ? a : b;
        const tsv_row *row = &file->row[i < a->n ? i : i - a->n];
        if (!*row->cell[0] || !*row->cell[1])
            args_die("%s: line %lu: the %s is empty", file->path, (unsigned long)row->line, *row->cell[0] ? "label" : "text");
        name[i] = row->cell[1];
    }
    qsort(name, all, sizeof *name, by_name);
    for (size_t i = 0; i < all; i++) if (!i || strcmp(name[i], name[set.n - 1])) name[set.n++] = name[i];
    if (set.n < 2 || set.n > MOST_LABELS)
        args_die("%s: column 2 has %lu different label%s, expected 2 to %d", a->path, (unsigned long)set.n, set.n > 1 ? "s" : "",
                 (int)MOST_LABELS);
    set.of = (label *)args_need(calloc(set.n, sizeof *set.of));
    set.answer = name;
    for (size_t i = 0; i < set.n; i++) set.of[i].name = set.of[i].word = name[i];
    for (size_t i = 0; i < words->n; i++) {
        const char *pair = words->item[i], *cut = strchr(pair, '=');
        const size_t n = cut ? (size_t)(cut - pair) : 0;
        label *at = NULL;
        for (size_t k = 0; k < set.n && n; k++)
            if (strlen(set.of[k].name) == n && !memcmp(set.of[k].name, pair, n)) at = &set.of[k];
        if (!at || !cut[1]) args_die("%s: expected LABEL=WORD with a label of %s, got '%s'", args_name("--word"), a->path, pair);
        at->word = cut + 1;
    }
    for (size_t i = 0; i < set.n; i++) set.answer[i] = set.of[i].answer = tsv_answer(form, set.of[i].word);
    return set;
}
static size_t label_at(const label_set *set, const tsv_row *row) {
    size_t low = 0, high = set->n - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (strcmp(set->of[middle].name, row->cell[1]) < 0) low = middle + 1; else high = middle;
    }
    return low;
}

/* ---- What all texts begin with ---------------------------------------------------------------------------------------- */

typedef struct { char *p; size_t n; } text;
static void add(text *t, const char *s) {
    const size_t n = strlen(s);
    t->p = (char *)args_need(realloc(t->p, t->n + n + 1));
    memcpy(t->p + t->n, s, n + 1);
    t->n += n;
}

/* The instruction, with the labels' words for {labels}. */
static void add_instruction(text *t, const char *s, const label_set *set) {
    char *plain = args_unescape(s), *p = plain, *at;
    for (; (at = strstr(p, "{labels}")) != NULL; p = at + 8) {
        *at = 0;
        add(t, p);
        for (size_t i = 0; i < set->n; i++) { add(t, i ? ", " : ""); add(t, set->of[i].word); }
    }
    add(t, p);
    free(plain);
}

/* `shots` examples of each label: those rows whose texts have the lowest hashes; the labels take turns, and who begins changes
 * too. They are marked as left out. */
static void add_shots(text *t, tsv *file, int shots, uint64_t seed, const char *between, const label_set *set,
                      const tsv_template *form) {
    char *gap = args_unescape(between);
    for (size_t k = 0; k < (size_t)shots * set->n; k++) {
        const size_t want = (k / set->n + k) % set->n;
        tsv_row *best = NULL;
        uint64_t least = 0;
        char *head, *tail;
        for (size_t i = 0; i < file->n; i++) {
            tsv_row *row = &file->row[i];
            uint64_t hash = (tsv_hash(row->cell[0]) ^ seed * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
            hash ^= hash >> 32;
            if (row->part == TSV_TRAIN && label_at(set, row) == want && (!best || hash < least)) best = row, least = hash;
        }
        if (!best) args_die("%s: %s: fewer rows of %s that are not judged", file->path, args_name("--shots"), set->of[want].name);
        best->part = TSV_LEFT_OUT;
        head = tsv_prompt(form, best->cell[0]), tail = tsv_join(set->of[want].answer, gap, "");
        add(t, head);
        add(t, tail);
        free(head), free(tail);
    }
    free(gap);
}

/* Takes the tokens of `ahead` and freezes them; NULL: nothing is ahead. */
static gpt_session *frozen(const gpt_model *m, const text *ahead, gpt_session_params params) {
    gpt_session *s;
    gpt_model_info info;
    gpt_error err;
    gpt_token *ids;
    size_t n;
    if (!ahead->n) return NULL;
    ids = args_tokenize(m, ahead->p, ahead->n, GPT_TOKENIZE_BOS, &n);
    gpt_model_info_get(m, &info);
    if (!params.n_ctx) params.n_ctx = info.n_ctx;
    if (n >= params.n_ctx) {
        free(ids);
        args_die("instruction and examples have %lu tokens, the context is %lu: fewer %s, or another %s",
                 (unsigned long)n, (unsigned long)params.n_ctx, args_name("--shots"), args_name("-c"));
    }
    params.n_ctx = (uint32_t)n;
    if (gpt_session_new(&s, m, &params, &err) || gpt_eval(s, ids, n, &err) || gpt_session_freeze(s, &err)) {
        if (args_stopped) args_interrupted("reading the examples", "");
        args_die("%s", err.msg);
    }
    free(ids);
    return s;
}

/* ---- The choice ------------------------------------------------------------------------------------------------------- */

enum { NO_CHOICE = -1, TOO_LONG = -2 };
static gpt_error too_long;      /* of the first text that is */

typedef struct {                /* a session and the text that it works on; at: NO_CHOICE: none */
    gpt_session *s;
    long         at;
    float       *score;         /* [labels] */
} seat;

static size_t n_tokens(const gpt_model *m, const char *s) {
    size_t n;
    free(args_tokenize(m, s, strlen(s), GPT_TOKENIZE_BOS, &n));
    return n;
}

/* Tokens that a session has to hold: what is ahead, the longest text, and what gpt_choose takes for the labels. */
static uint32_t room(const gpt_model *m, const text *ahead, const char *const *texts, size_t n, const char *more,
                     const label_set *set, const tsv_template *form) {
    enum { SLACK = 8 };         /* tokens of a text that its answer may cut in another way */
    size_t all = ahead->n ? n_tokens(m, ahead->p) : 0, longest = more ? n_tokens(m, more) : 0, answer = 0;
    gpt_model_info info;
    gpt_model_info_get(m, &info);
    for (size_t i = 0; i < set->n; i++) {
        const size_t k = n_tokens(m, set->answer[i]) + SLACK;
        all += 2 * k + 4;
        if (k > answer) answer = k;
    }
    for (size_t i = 0; i < n; i++) {
        char *prompt = tsv_prompt(form, texts[i]);
        const size_t k = n_tokens(m, prompt);
        if (k > longest) longest = k;
        free(prompt);
    }
    all += longest + answer;
    return all < info.n_ctx ? (uint32_t)all : info.n_ctx;
}

/* The label that gains most over base. */
static int likeliest(const float *score, const float *base, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) if (score[i] - base[i] > score[best] - base[best]) best = i;
    return (int)best;
}

/* Chooses for n texts, n_seat at a time, to choice [n]: a label, or TOO_LONG. score [labels], if not NULL, gets those of the
 * last text. */
static void choose_all(const args_common *c, seat *seats, int n_seat, gpt_work *work, const label_set *set,
                       const tsv_template *form, const char *const *texts, size_t n, const gpt_choose_params *how,
                       const float *base, float *score, int *choice) {
    size_t next = 0, done = 0;
    args_progress progress = args_progress_begin(c);
    gpt_session_info info;
    gpt_error err;
    for (int i = 0; i < n_seat; i++) seats[i].at = NO_CHOICE;
    while (done < n) {
        for (int i = 0; i < n_seat; i++) {
            seat *p = &seats[i];
            gpt_result r;
            if (p->at != NO_CHOICE) {
                gpt_session_info_get(p->s, &info);
                if (info.result == GPT_MORE) continue;
                if (info.result) args_die("the model fails: %d", (int)info.result);
                choice[p->at] = likeliest(p->score, base, set->n);
                if (score) memcpy(score, p->score, set->n * sizeof *score);
                p->at = NO_CHOICE, done++;
            }
            while (p->at == NO_CHOICE && next < n) {
                char *prompt = tsv_prompt(form, texts[next]);
                r = gpt_choose_begin(p->s, prompt, set->answer, set->n, how, p->score, NULL, &err);
                free(prompt);
                if (r && r != GPT_E_CONTEXT) args_die("%s", err.msg);
                if (r && !too_long.code) too_long = err;
                if (r) choice[next++] = TOO_LONG, done++;
                else p->at = (long)next++;
            }
        }
        if (done < n && gpt_work_step(work, &err) < 0) {
            if (args_stopped) args_interrupted("classifying", "");
            args_die("%s", err.msg);
        }
        args_progress_show(&progress, "classifying", (double)done, (double)n);
    }
    args_progress_end(&progress);
}

/* ---- The report ------------------------------------------------------------------------------------------------------- */

static int columns(const char *s) {
    int n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}
static void print_name(const char *name, int width) {
    printf("%s%*s", name, width > columns(name) ? width - columns(name) : 0, "");
}
static void print_line(const char *name, int width, double precision, double recall, double f1, size_t rows) {
    print_name(name, width);
    printf("  %9.4f  %9.4f  %9.4f  %6lu\n", precision, recall, f1, (unsigned long)rows);
}

/* confusion [labels, choices]. A quotient of nothing is 0; a label that no row has and that was never chosen counts nowhere. */
static void print_report(const label_set *set, const size_t *confusion) {
    double mean[3] = { 0, 0, 0 };
    size_t right = 0, n = 0, used = 0, common = 0, most = 0;
    int width = 6;
    for (size_t i = 0; i < set->n; i++) {
        size_t rows = 0;
        for (size_t k = 0; k < set->n; k++) rows += confusion[i * set->n + k];
        if (columns(set->of[i].name) > width) width = columns(set->of[i].name);
        if (rows > most) most = rows, common = i;
        right += confusion[i * set->n + i], n += rows;
    }
    printf("accuracy %.4f: %lu of %lu; \"%s\" for every text: %.4f\n\n", (double)right / (double)n, (unsigned long)right,
           (unsigned long)n, set->of[common].name, (double)most / (double)n);
    printf("%*s  %9s  %9s  %9s  %6s\n", width, "", "precision", "recall", "F1", "rows");
    for (size_t i = 0; i < set->n; i++) {
        const double hits = (double)confusion[i * set->n + i];
        size_t rows = 0, chosen = 0;
        double precision, recall, f1;
        for (size_t k = 0; k < set->n; k++) rows += confusion[i * set->n + k], chosen += confusion[k * set->n + i];
        precision = chosen ? hits / (double)chosen : 0, recall = rows ? hits / (double)rows : 0;
        f1 = rows + chosen ? 2 * hits / (double)(rows + chosen) : 0;
        mean[0] += precision, mean[1] += recall, mean[2] += f1, used += rows + chosen > 0;
        print_line(set->of[i].name, width, precision, recall, f1, rows);
    }
    print_line("macro", width, mean[0] / (double)used, mean[1] / (double)used, mean[2] / (double)used, n);
    printf("\nconfusion: a row for each label, a column for each choice in the same order\n");
    for (size_t i = 0; i < set->n; i++) {
        print_name(set->of[i].name, width);
        for (size_t k = 0; k < set->n; k++) printf(" %6lu", (unsigned long)confusion[i * set->n + k]);
        putchar('\n');
    }
}

static void write_choices(const char *path, const tsv_row *const *row, const int *choice, size_t n, const label_set *set) {
    args_out o;
    int error;
    args_out_begin(&o, path);
    for (size_t i = 0; i < n; i++) {
        const char *const cell[3] = { row[i]->cell[0], row[i]->cell[1], choice[i] < 0 ? "" : set->of[choice[i]].name };
        for (int k = 0; k < 3; k++) {       /* what --escape has made a tab or a line's end is a space */
            for (const char *p = cell[k]; *p; p++) args_out_put(&o, *p == '\t' || *p == '\n' || *p == '\r' ? " " : p, 1);
            args_out_put(&o, k < 2 ? "\t" : "\n", 1);
        }
    }
    error = args_out_end(&o);
    if (error) args_die("%s: cannot write: %s", path, strerror(error));
}

/* ---- The command ------------------------------------------------------------------------------------------------------ */

int main(int argc, char **argv) {
    args_common c = { 0 };
    const char *path = NULL, *valid = NULL, *form_text = NULL, *instruction = "", *between = "\\n\\n", *calibrate = NULL,
        *out = NULL;
    double share = -1;
    int shots = 0, limit = 0, per_byte = 0, escape = 0, n_seat = 8;
    long long seed = 0;
    arg_list words = { { 0 }, 0 };
    const arg table[] = {
        { "FILE",         ARG_ONCE,  &path,        "",     "" },
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "-f, --file",   ARG_ONCE,  &path,        "FILE",
          "the texts, as the argument without an option is; - is stdin" },
        { "--template",   ARG_TEXT,  &form_text,   "TEXT", TSV_TEMPLATE_HELP "; a tuned model has its own" },
        { "--instruction", ARG_TEXT, &instruction, "TEXT", "ahead of all; {labels} in it are the labels: \"Say {labels}.\\n\"" },
        { "--word",       ARG_LIST,  &words,       "LABEL=WORD", "the word that the model gets for a label; may be repeated" },
        { "--shots",      ARG_COUNT, &shots,       "N",    "N examples of each label ahead of the text; 0 = none (default)" },
        { "--between",    ARG_TEXT,  &between,     "TEXT", "what follows an example (\"\\n\\n\")" },
        { "-s, --seed",   ARG_INT,   &seed,        "S",    "which examples (0)" },
        { "--calibrate",  ARG_TEXT,  &calibrate,   "TEXT", "choose what gains most over its score for TEXT, as \"N/A\"" },
        { "--per-byte",   ARG_FLAG,  &per_byte,    "",     "compare means over the bytes of the labels: length does not count" },
        { "--held-out",   ARG_FLOAT, &share,       "X",    TSV_HELD_OUT_HELP },
        { "--valid",      ARG_TEXT,  &valid,       "FILE", "judge the rows of this file instead" },
        { "--limit",      ARG_COUNT, &limit,       "N",    TSV_LIMIT_HELP },
        { "-e, --escape", ARG_FLAG,  &escape,      "",     "\\n, \\t and the like in a row are what they mean" },
        { "-o, --out",    ARG_TEXT,  &out,         "FILE", "text, label and choice of each judged row, tab-separated" },
        { "-np, --parallel", ARG_COUNT, &n_seat,   "N",    "texts computed together (8)" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    static const char what[] = "text TAB label";
    tsv file, other = { NULL, NULL, NULL, 0 };
    tsv_template form;
    label_set set;
    text ahead = { NULL, 0 };
    gpt_model *m;
    gpt_work *work;
    gpt_session_params params;
    gpt_session *prefix;
    gpt_choose_params how = { 0, 0, 0 };
    gpt_error err;
    seat *seats;
    const tsv_row **row;
    const char **texts;
    size_t *confusion, n, n_long = 0, first_long = 0, i;
    float *base;
    int *choice, part = TSV_TRAIN, ignored;
    double begin;

    args_parse(argc, argv, "classify", table, about);
    if (!c.model) args_die("no model: -m FILE names one");
    if (!path) args_die("no file: classify -m MODEL FILE (--help says what it has to be)");
    if (share != -1) args_within("--held-out", share, 0, 1);
    if (valid && share >= 0) args_die("--valid and --held-out exclude each other");
    if (n_seat < 1 || n_seat > 256) args_die("%s: expected 1 to 256, got %d", args_name("-np"), n_seat);
    if (shots > 1000) args_die("--shots: expected 0 to 1000, got %d", shots);
    args_only("--between", shots, "for --shots alone");
    args_only("-s", shots, "for --shots alone");
    if (out) {
        const args_file in[4] = { { path, "the table" }, { valid, "the table of --valid" }, { c.model, "the model" },
                                  { c.adapter, "the adapter" } };
        args_check_out(args_name("-o"), out, in, 4);
    }
    signal(SIGINT, args_on_interrupt);
    fclose(args_open(c.model, "a GGUF file"));
    file = tsv_read(path, 2, what, escape);
    if (valid) other = tsv_read(valid, 2, what, escape);
    m = args_load(&c, ARGS_WRITER);

    /* 1. which rows, which labels, in which form: as the model was tuned, where nothing else is said */
    form = tsv_template_for(m, form_text);
    if (!valid) part = tsv_hold_out(&file, m, c.lora_header, share);
    set = labels_of(&file, &other, &words, &form);
    if (*instruction) add_instruction(&ahead, instruction, &set);
    if (shots) add_shots(&ahead, &file, shots, (uint64_t)seed, between, &set, &form);
    row = tsv_rows(valid ? &other : &file, part, limit, &n);
    if (!n) args_die("%s: no row is left to judge: the examples of %s are all of them", file.path, args_name("--shots"));
    texts = (const char **)args_need(malloc(n * sizeof *texts));
    for (i = 0; i < n; i++) texts[i] = row[i]->cell[0];

    /* 2. a work space, in it what is ahead, and sessions with room for the longest text */
    work = args_work(&c, m, &params);
    prefix = frozen(m, &ahead, params);
    params.prefix = prefix;
    if (!params.n_ctx) params.n_ctx = room(m, &ahead, texts, n, calibrate, &set, &form);
    seats = (seat *)args_need(calloc((size_t)n_seat, sizeof *seats));
    for (i = 0; i < (size_t)n_seat; i++) {
        if (gpt_session_new(&seats[i].s, m, &params, &err)) args_die("%s", err.msg);
        seats[i].score = (float *)args_need(calloc(set.n, sizeof(float)));
    }

    /* 3. the choices */
    how.per_byte = per_byte;
    base = (float *)args_need(calloc(set.n, sizeof *base));
    choice = (int *)args_need(malloc(n * sizeof *choice));
    begin = args_seconds();
    if (calibrate) {
        float *own = (float *)args_need(calloc(set.n, sizeof *own));
        choose_all(&c, seats, 1, work, &set, &form, &calibrate, 1, &how, base, own, &ignored);
        if (ignored == TOO_LONG)
            args_die("--calibrate: the text does not fit the context (%s): %s", args_name("-c"), too_long.msg);
        free(base), base = own;
    }
    choose_all(&c, seats, n_seat, work, &set, &form, texts, n, &how, base, NULL, choice);
    if (c.verbose)
        fprintf(stderr, "classify: %lu text%s in %.2f s, %lu tokens ahead of each\n", (unsigned long)n, n > 1 ? "s" : "",
                args_seconds() - begin,
                (unsigned long)(prefix ? (gpt_session_tokens(prefix, &i), i) : 0));

    /* 4. the report */
    confusion = (size_t *)args_need(calloc(set.n * set.n, sizeof *confusion));
    for (i = 0; i < n; i++) {
        if (choice[i] >= 0) confusion[label_at(&set, row[i]) * set.n + (size_t)choice[i]]++;
        else if (!n_long++) first_long = row[i]->line;
    }
    if (n_long == n)
        args_die("no text fits the context (%s): line %lu: %s", args_name("-c"), (unsigned long)first_long, too_long.msg);
    if (n_long)
        fprintf(stderr, "classify: left out, as longer than the context (%s): %lu; the first is line %lu: %s\n",
                args_name("-c"), (unsigned long)n_long, (unsigned long)first_long, too_long.msg);
    print_report(&set, confusion);
    if (out) write_choices(out, row, choice, n, &set);
    args_close_stdout();
    for (i = 0; i < (size_t)n_seat; i++) gpt_session_free(seats[i].s), free(seats[i].score);
    gpt_session_free(prefix);
    gpt_work_free(work);
    args_unload(&c, m);
    for (i = 0; i < set.n; i++) free(set.of[i].answer);
    free(set.of), free(set.answer), free(seats), free(base), free(choice), free(confusion);
    free((void *)row), free((void *)texts), free(ahead.p);
    free(form.head);
    tsv_free(&file), tsv_free(&other);
    return 0;
}
