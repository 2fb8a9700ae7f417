/* A model without a file of its own: inside the executable, or inside a zip archive as games and apps ship their data.
 * From the folder that has examples/ in it: cc -O2 -pthread examples/embed_model.c -lm (gcc or clang, on Linux, macOS and Windows);
 * -DEMBED_FILE='"my.gguf"' embeds another model. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"

static const char about[] =
    "usage: embed_model [FILE.zip [NAME.gguf]] [options]\n\n"
    "Tells a story: by the model inside this program, or by one that is stored in a zip archive (zip -0).\n"
    "The same seed gives the same text, on every machine.";

/* ---- In the executable: the assembler includes the file as it is, and weights are used where the system maps them ---- */

#ifndef EMBED_FILE
#define EMBED_FILE "examples/models/stories.gguf"       /* from the folder in which the compiler runs, or of -I */
#endif
#ifndef __GNUC__
#error "embed_model.c: this compiler has no assembler that includes files: take gcc or clang, or a resource (RCDATA) of Windows"
#endif
#define EMBED_TEXT_(x) #x
#define EMBED_TEXT(x) EMBED_TEXT_(x)
#define EMBED_NAME(x) EMBED_TEXT(__USER_LABEL_PREFIX__) #x      /* macOS puts a _ in front of the names of C */
#if defined(__APPLE__)
#define EMBED_SECTION ".section __TEXT,__const\n"
#elif defined(_WIN32)
#define EMBED_SECTION ".section .rdata,\"dr\"\n"
#else
#define EMBED_SECTION ".section .rodata\n"
#endif
__asm__(EMBED_SECTION
        ".globl " EMBED_NAME(embed_begin) "\n"
        ".globl " EMBED_NAME(embed_size) "\n"
        ".balign 64\n"                                  /* GGUF aligns what is in it likewise */
        EMBED_NAME(embed_begin) ":\n"
        ".incbin \"" EMBED_FILE "\"\n"
        "1:\n"
        ".balign 4\n"
        EMBED_NAME(embed_size) ":\n"
        ".long 1b - " EMBED_NAME(embed_begin) "\n"
        ".text\n");
extern const unsigned char embed_begin[];
extern const uint32_t embed_size;

/* ---- In a zip archive: gpt_reader asks for bytes of the entry, which are bytes of the archive further on ---- */

typedef struct {
    FILE       *f;
    const char *path;
    uint64_t    size;                       /* of the archive */
    char        name[256];                  /* of the entry, printable; at most its beginning */
    uint64_t    entry, n_entry;             /* where its bytes begin, and how many they are */
    unsigned char *dir;                     /* the list of entries */
} archive;

static unsigned get16(const unsigned char *p) { return p[0] | (unsigned)p[1] << 8; }
static uint32_t get32(const unsigned char *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }

static size_t read_at(FILE *f, uint64_t at, void *dst, size_t n) {
#ifdef _WIN32
    return at > INT64_MAX || _fseeki64(f, (long long)at, SEEK_SET) ? 0 : fread(dst, 1, n, f);
#else
    return at > LONG_MAX || fseek(f, (long)at, SEEK_SET) ? 0 : fread(dst, 1, n, f);
#endif
}
static uint64_t file_size(FILE *f, const char *path) {
    long long size = -1;
    if (!fseek(f, 0, SEEK_END))
#ifdef _WIN32
        size = _ftelli64(f);
#else
        size = ftell(f);
#endif
    if (size < 0) args_die("%s: %s", path, strerror(errno));
    return (uint64_t)size;
}
static size_t read_entry(void *user, uint64_t offset, void *dst, size_t n) {
    const archive *a = (const archive *)user;
    if (offset > a->n_entry || n > a->n_entry - offset) return 0;
    return read_at(a->f, a->entry + offset, dst, n);
}

/* Reads n bytes of the archive at `at`, which nothing promises to be inside it; what: they are. */
static void zip_read(const archive *a, uint64_t at, void *dst, uint64_t n, const char *what) {
    if (at > a->size || n > a->size - at) args_die("%s: %s goes beyond the end of the file", a->path, what);
    if (read_at(a->f, at, dst, (size_t)n) != n) args_die("%s: cannot read %s", a->path, what);
}

/* The record that ends an archive: 22 bytes and a comment that ends where the file does. Finds the directory, which
 * lists the entries. */
static void zip_directory(const archive *a, uint64_t *at, uint64_t *size, unsigned *n) {
    static unsigned char tail[22 + 65535];
    uint64_t n_tail = a->size < sizeof tail ? a->size : sizeof tail, i = n_tail < 22 ? 0 : n_tail - 21;
    const unsigned char *p = NULL;
    zip_read(a, a->size - n_tail, tail, n_tail, "the end");
    while (i-- > 0) {
        p = tail + i;
        if (get32(p) == 0x06054b50 && get16(p + 20) == n_tail - i - 22) break;
        if (!i) p = NULL;
    }
    if (!p) args_die("%s: not a zip archive, or one that is cut short", a->path);
    *n = get16(p + 10);
    *size = get32(p + 12);
    *at = get32(p + 16);
    if (*n == 0xFFFF || *size == 0xFFFFFFFF || *at == 0xFFFFFFFF)
        args_die("%s: a zip64 archive, expected a plain one: below 4 GiB and 65,535 entries", a->path);
    if (get16(p + 4) || get16(p + 6) || get16(p + 8) != *n) args_die("%s: one of several parts of an archive", a->path);
    i += a->size - n_tail;
    if (*at > i || *size > i - *at) args_die("%s: its directory lies outside of it", a->path);
}

/* Finds the entry `name`, or the only one whose name ends in .gguf. */
static void zip_find(archive *a, const char *name) {
    uint64_t dir_at, n_dir, at = 0, local = 0;
    unsigned n, flags = 0, method = 0, packed = 0;
    zip_directory(a, &dir_at, &n_dir, &n);
    unsigned char head[30];
    a->dir = (unsigned char *)args_need(malloc((size_t)n_dir + 1));
    zip_read(a, dir_at, a->dir, n_dir, "its directory");
    for (int found = 0; n > 0 || !found; n--) {
        const unsigned char *p = a->dir + at;
        size_t n_name, i;
        if (!n && name) args_die("%s: there is no %s in it", a->path, name);
        if (!n) args_die("%s: there is no .gguf file in it", a->path);
        if (n_dir - at < 46 || get32(p) != 0x02014b50) args_die("%s: its directory is damaged", a->path);
        n_name = get16(p + 28);
        at += 46;
        if (n_dir - at < n_name + get16(p + 30) + get16(p + 32)) args_die("%s: its directory is damaged", a->path);
        at += n_name + get16(p + 30) + get16(p + 32);
        if (name ? strlen(name) != n_name || memcmp(p + 46, name, n_name)
                 : n_name < 5 || memcmp(p + 46 + n_name - 5, ".gguf", 5)) continue;
        if (found++) args_die("%s: there is more than one %s in it%s", a->path, name ? name : ".gguf file", name ? "" : ": name one");
        for (i = 0; i < n_name && i + 1 < sizeof a->name; i++) a->name[i] = (char)(p[46 + i] >= 32 && p[46 + i] < 127 ? p[46 + i] : '?');
        flags = get16(p + 8);
        method = get16(p + 10);
        packed = get32(p + 20);
        a->n_entry = get32(p + 24);
        local = get32(p + 42);
    }
    if (packed == 0xFFFFFFFF || a->n_entry == 0xFFFFFFFF || local == 0xFFFFFFFF)
        args_die("%s in %s is a zip64 entry, expected a plain one", a->name, a->path);
    if (flags & 1) args_die("%s in %s is encrypted", a->name, a->path);
    if (method) args_die("%s in %s is compressed: store it (zip -0)", a->name, a->path);
    /* Its bytes: behind a header of their own, whose name and extra fields may be longer than the directory's. They end before
     * the directory begins. Nobody looks at the checksum: a GGUF file that loads needs none to be safe. */
    zip_read(a, local, head, sizeof head, "an entry");
    a->entry = local + 30 + get16(head + 26) + get16(head + 28);
    if (get32(head) != 0x04034b50 || packed != a->n_entry || a->entry > dir_at || a->n_entry > dir_at - a->entry)
        args_die("%s in %s does not lie where the directory says", a->name, a->path);
}

/* ---- The program ---- */

static gpt_model *load(const args_common *c, const arg_list *from) {
    gpt_model_params params;
    gpt_reader reader;
    gpt_model *m = NULL;
    gpt_error err;
    archive a;
    args_progress p = args_progress_begin(c);
    memset(&params, 0, sizeof params);
    params.parallel = args_parallel(c);
    params.progress = args_on_load;
    params.progress_user = &p;
    params.n_threads = 1;
    if (from->n == 0) {
        params.mapped = 1;              /* nothing is copied: only the pages that are used are ever read */
        gpt_model_load_memory(&m, embed_begin, embed_size, &params, &err);
    } else {
        memset(&a, 0, sizeof a);
        a.path = from->item[0];
        a.f = args_open(a.path, "a zip archive");
        a.size = file_size(a.f, a.path);
        zip_find(&a, from->n > 1 ? from->item[1] : NULL);
        reader.read = read_entry;
        reader.user = &a;
        reader.size = a.n_entry;
        gpt_model_load_reader(&m, &reader, 1, &params, &err);
        fclose(a.f);
        free(a.dir);
    }
    args_progress_end(&p);
    if (!m && args_stopped) args_interrupted("loading ", from->n ? a.path : "the model");
    if (!m && from->n) args_die("%s in %s: %s", a.name, a.path, err.msg);
    if (!m) args_die("the embedded model: %s", err.msg);
    return m;
}

static int print(void *user, const char *text, size_t n) { (void)user; return args_print(text, n); }

int main(int argc, char **argv) {
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    arg_list from = { { 0 }, 0 };
    const char *prompt = "Once upon a time";
    const arg table[] = {
        { "FILE.zip NAME.gguf", ARG_LIST, &from, "", "" },
        { "-p, --prompt",     ARG_TEXT,  &prompt,    "TEXT", "the beginning of the story (Once upon a time)" },
        { "-t, --threads",    ARG_COUNT, &c.threads, "N",    "threads, at most 256; 0 = one for each processor (default)" },
        { "-v, --verbose",    ARG_FLAG,  &c.verbose, "",     "figures and progress on stderr even if it is no terminal" },
        ARGS_SAMPLING(sampling, "seed (default 0); -1 = from the clock"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    gpt_generate_params params;
    gpt_session_params session;
    gpt_model *m;
    gpt_session *s = NULL;
    gpt_error err;
    double begin, loaded;
    char *text;
    size_t n;

    args_parse(argc, argv, "embed_model", table, about);
    if (from.n > 2) args_die("unexpected argument '%s', after '%s'", from.item[2], from.item[1]);
    params = args_generation(&sampling);
    text = args_text(prompt, NULL, sampling.escape, &n);
    if (!n) args_die("%s: the text is empty", args_name("-p"));

    signal(SIGINT, args_on_interrupt);
    begin = args_seconds();
    m = load(&c, &from);
    session = args_session(&c);
    if (gpt_session_new(&s, m, &session, &err)) args_die("%s", err.msg);
    loaded = args_seconds();
    args_print(text, n);
    if (sampling.n_predict && gpt_generate(s, text, &params, print, NULL, &err) && err.code != GPT_E_CANCELLED)
        args_die("%s", err.msg);
    if (isatty(1)) putchar('\n');
    args_close_stdout();
    if (args_chatty(&c)) {
        gpt_session_info info;
        gpt_session_info_get(s, &info);
        fprintf(stderr, "load %.3f s; text %lu tokens, %.1f tok/s; seed %llu, kernels %s, %d threads\n", loaded - begin,
                (unsigned long)info.n_generated, (double)info.n_generated / (args_seconds() - loaded),
                (unsigned long long)params.sample.seed, info.kernels, args_threads(&info));
    }
    free(text);
    gpt_session_free(s);
    gpt_model_free(m);
    return args_stopped ? 130 : 0;
}
