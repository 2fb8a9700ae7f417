/* The same bits: for every toy model, one hash of all its logits (or hidden states), over every kernel set this processor runs,
 * 1 to 3 threads, prompts cut into 1, 7, 32 and 512 rows, packed and mapped weights, alone and next to another session. The hashes
 * are kept in tests/golden/law.txt, so every compiler, option, processor and byte order must find the same.
 * `unit_law --write` prints that file. Saves that were once written (`unit_law --write-saves`, little-endian, 64 bits) are read
 * by every processor, and written again by it to the same bytes. */
#define GPT_IMPLEMENTATION
#include "../gpt.h"
#include "test.h"

#define MODELS "tests/golden/model/"
#define GOLDEN "tests/golden/law.txt"
enum { N_TOKEN = 45, N_READ = 17 };     /* N_READ: of them for an encoder */

static uint64_t hash(uint64_t h, const void *p, size_t n) {     /* FNV-1a */
    const unsigned char *b = (const unsigned char *)p;
    while (n--) h = (h ^ *b++) * 0x100000001b3u;
    return h;
}

static uint64_t hash_logits(uint64_t h, const float *z, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {               /* by value, so that the byte order of the host does not matter */
        uint32_t u = z[i] != z[i] ? 0x7fc00000u : gpti_f32_bits(z[i]);
        unsigned char b[4];
        b[0] = (unsigned char)u; b[1] = (unsigned char)(u >> 8); b[2] = (unsigned char)(u >> 16); b[3] = (unsigned char)(u >> 24);
        h = hash(h, b, 4);
    }
    return h;
}

typedef struct parts { size_t n_part; } parts;      /* a host that runs a loop in pieces, last piece first */
static void run_parts(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    size_t k = ((parts *)user)->n_part, i;
    (void)cost;
    for (i = k; i-- > 0;) if (n * i / k < n * (i + 1) / k) task(arg, n * i / k, n * (i + 1) / k, 0);
}

/* Hash of the logits after chunks of the text; 0 when the model cannot be made */
static uint64_t run(const char *path, const char *kernels, int mapped, size_t n_part, int omp, uint32_t n_batch, gpt_kv kv) {
    gpt_model_params mp;
    gpt_session_params sp;
    gpt_model *m;
    gpt_session *s;
    gpt_model_info info;
    gpt_error err;
    parts user;
    gpt_token text[N_TOKEN];
    float logprob[N_TOKEN];
    uint64_t h = 0xcbf29ce484222325u;
    size_t i;
    memset(&mp, 0, sizeof mp);
    memset(&sp, 0, sizeof sp);
    mp.kernels = kernels;
    mp.mapped = mapped;
    if (gpt_model_load(&m, path, &mp, &err)) { CHECK(0, "%s", err.msg); return 0; }
    user.n_part = n_part;
    if (omp) sp.n_threads = (int)n_part;
    else if (n_part > 1) { sp.hooks.parallel.run = run_parts; sp.hooks.parallel.user = &user; }
    if (!omp && n_part == 1) sp.n_threads = 1;
    sp.n_batch = !m->hp.causal ? n_batch + N_TOKEN : m->hp.n_encoder ? n_batch + N_READ : n_batch;
    sp.n_ctx = 64;
    sp.kv = kv;
    gpt_model_info_get(m, &info);
    if (gpt_session_new(&s, m, &sp, &err)) { CHECK(0, "%s", err.msg); gpt_model_free(m); return 0; }
    for (i = 0; i < N_TOKEN; i++) text[i] = (gpt_token)((i * 31 + i * i * 7 + 3) % info.n_vocab);
    if (m->hp.n_encoder) text[N_READ] = (gpt_token)m->hp.start;
    if (!m->hp.causal) {                    /* its hidden states and its vector, of a text that is whole in each pass */
        static float hidden[(N_TOKEN + 1) * 256];
        gpt_eval_params ep;
        memset(&ep, 0, sizeof ep);
        ep.hidden = hidden; ep.embedding = hidden + N_TOKEN * info.d_model;
        if (gpt_eval_begin(s, text, N_TOKEN, &ep, &err)) CHECK(0, "%s", err.msg);
        while (gpt_step(s, &err) == GPT_MORE) {}
        h = hash_logits(h, hidden, (N_TOKEN + 1) * info.d_model);
    } else if (gpt_eval(s, text, 40, &err)) CHECK(0, "%s", err.msg);
    else h = hash_logits(h, gpt_logits(s), info.n_vocab);
    if (m->hp.causal && gpt_score(s, text + 40, 5, logprob, &err)) CHECK(0, "%s", err.msg);
    else if (m->hp.causal) h = hash_logits(hash_logits(h, logprob, 5), gpt_logits(s), info.n_vocab);
    gpt_session_free(s);
    gpt_model_free(m);
    return h;
}

static struct { char name[128]; uint64_t want; } kept[256];
static size_t n_kept;
static int writing;         /* print the hashes, compare none */

static void one_model(void) {
    static const uint32_t batch[] = { 1, 7, 32, 512 };
    const char *name = kept[test_at].name;
    uint64_t want = kept[test_at].want, first = 0, cache[4] = { 0 };
    gpti_kernels set[GPTI_MAX_SET];
    size_t n_set = gpti_kernels_list(set), i, j, k;
    char path[256];
    int n_run = 0, c;
    snprintf(path, sizeof path, MODELS "%.120s.gguf", name);
    for (i = 0; i < n_set; i++) {
        if (!set[i].usable()) continue;
        for (j = 1; j <= 3; j++) for (k = 0; k < 4; k++) for (c = 0; c < 3; c++) {
            uint64_t h;
            if (c == 1 && (j != 2 || k > 1)) continue;              /* mapped, all or experts alone, and OpenMP: a sample */
            if (c == 2 && k != 1) continue;
            h = run(path, set[i].name, c == 1 ? 1 + (int)k : 0, j, c == 2, batch[k], GPT_KV_F16);
            if (!n_run++) first = h;
            CHECK(h == first, "%s: set %s, %d threads, chunks of %d, way %d: other bits than %s with one thread and chunks of 1",
                  name, set[i].name, (int)j, (int)batch[k], c, set[0].name);
        }
        for (j = 0; j < 4; j++) {       /* the cache's other formats: a sample */
            uint64_t h = j == GPT_KV_F16 ? first : run(path, set[i].name, 0, 1 + i % 3, 0, batch[i % 4], (gpt_kv)j);
            if (!cache[j]) cache[j] = h;
            CHECK(h == cache[j], "%s: set %s, cache type %d: other bits than %s", name, set[i].name, (int)j, set[0].name);
        }
    }
    if (writing) printf("%s %08lx%08lx\n", name, (unsigned long)(first >> 32), (unsigned long)(first & 0xffffffffu));
    else CHECK(first == want, "%s: hash %08lx%08lx, kept is %08lx%08lx", name, (unsigned long)(first >> 32),
               (unsigned long)(first & 0xffffffffu), (unsigned long)(want >> 32), (unsigned long)(want & 0xffffffffu));
}

/* ---- Saves in mid-sentence: tests/golden/save/MODEL_KV_WHAT ---- */

static const struct { const char *model; int kv, what; } saves[] = {
    { "gemma2", GPT_KV_F16, GPT_SAVE_CACHE }, { "lfm2_cpp", GPT_KV_F32, GPT_SAVE_CACHE }, { "qwen35_cpp", GPT_KV_F16, GPT_SAVE_CACHE }, { "mixtral", GPT_KV_Q8_0, GPT_SAVE_CACHE },
    { "mistral", GPT_KV_Q4_0, GPT_SAVE_CACHE }, { "llama_q8_0", GPT_KV_F16, GPT_SAVE_TOKENS }, { "gemma4_cpp", GPT_KV_F16, GPT_SAVE_CACHE }, { "deepseek2_v3_cpp", GPT_KV_Q4_0, GPT_SAVE_CACHE }
};
enum { N_SAVE = sizeof saves / sizeof saves[0] };

static uint64_t to_the_end(gpt_session *s, size_t n_vocab) {
    gpt_error err;
    gpt_result r;
    while ((r = gpt_step(s, &err)) == GPT_MORE) {}
    CHECK(!r && !gpt_eval(s, NULL, 0, &err), "%s", err.msg);
    return gpt_logits(s) ? hash_logits(0xcbf29ce484222325u, gpt_logits(s), n_vocab) : 0;
}

static void one_save(void) {
    static unsigned char kept_save[1 << 15], again[1 << 15];
    const char *stop = "zq";
    const size_t i = test_at - n_kept;
    gpt_session_params sp;
    gpt_generate_params g;
    gpt_model *m;
    gpt_session *s, *t;
    gpt_model_info info;
    gpt_reader reader;
    gpt_writer writer;
    gpt_error err;
    gpt_token text[20];
    const gpt_token *a, *b;
    char path[256];
    size_t k, n, n_a, n_b;
    uint64_t want;
    FILE *f;
    memset(&sp, 0, sizeof sp); memset(&g, 0, sizeof g); memset(&reader, 0, sizeof reader); memset(&writer, 0, sizeof writer);
    snprintf(path, sizeof path, MODELS "%s.gguf", saves[i].model);
    sp.n_ctx = 64; sp.n_batch = 7; sp.kv = (gpt_kv)saves[i].kv;
    if (gpt_model_load(&m, path, NULL, &err)) { CHECK(0, "%s", err.msg); return; }
    gpt_model_info_get(m, &info);
    if (gpt_session_new(&s, m, &sp, &err) || (sp.n_batch = 3, gpt_session_new(&t, m, &sp, &err))) { CHECK(0, "%s", err.msg); return; }
    for (k = 0; k < 20; k++) text[k] = (gpt_token)((k * 31 + k * k * 7 + 3) % info.n_vocab);
    g.max_tokens = 30; g.sample.temperature = 1.2f; g.sample.seed = 7; g.stop = &stop; g.n_stop = 1; g.ignore_end = 1;
    CHECK(!gpt_eval(s, text, 20, &err) && !gpt_begin(s, NULL, &g, NULL, NULL, &err), "%s", err.msg);
    for (k = 0; k < 9; k++) CHECK(gpt_step(s, &err) == GPT_MORE, "%s", err.msg);
    writer.user = again; writer.size = sizeof again;
    n = gpt_session_save_bytes(s, saves[i].what);
    CHECK(!gpt_session_save(s, saves[i].what, &writer, &err), "%s", err.msg);
    snprintf(path, sizeof path, "tests/golden/save/%s_%d_%d", saves[i].model, saves[i].kv, saves[i].what);
    if (writing) {
        f = fopen(path, "wb");
        CHECK(f && fwrite(again, 1, n, f) == n, "%s: cannot write", path);
        if (f) fclose(f);
    }
    f = fopen(path, "rb");
    CHECK(f && fread(kept_save, 1, sizeof kept_save, f) == n && !memcmp(kept_save, again, n), "%s: this processor saves other bytes", path);
    if (f) fclose(f);
    want = to_the_end(s, info.n_vocab);
    reader.user = kept_save; reader.size = n;
    CHECK(!gpt_session_restore(t, &reader, &err) && !gpt_resume(t, NULL, NULL, NULL, &err), "%s: %s", path, err.msg);
    CHECK(to_the_end(t, info.n_vocab) == want, "%s: goes on with other bits", path);
    for (k = 0; k < n; k++) {                           /* every truncation, every flipped byte is refused, and leaves an empty text */
        reader.size = k;
        if (!gpt_session_restore(t, &reader, &err)) CHECK(0, "%s: the first %lu bytes are taken", path, (unsigned long)k);
        reader.size = n;
        kept_save[k] = (unsigned char)(kept_save[k] ^ (1 + k % 255));
        if (!gpt_session_restore(t, &reader, &err)) CHECK(0, "%s: byte %lu is another, and it is taken", path, (unsigned long)k);
        CHECK(gpt_session_tokens(t, &n_b) && n_b == 0 && err.msg[0], "%s: %lu tokens are left", path, (unsigned long)n_b);
        kept_save[k] = (unsigned char)(kept_save[k] ^ (1 + k % 255));
    }
    CHECK(!gpt_session_restore(t, &reader, &err) && !gpt_resume(t, NULL, NULL, NULL, &err), "%s: %s", path, err.msg);
    CHECK(to_the_end(t, info.n_vocab) == want, "%s: goes on with other bits after damaged ones", path);
    a = gpt_session_tokens(s, &n_a); b = gpt_session_tokens(t, &n_b);
    CHECK(n_a == 50 && n_a == n_b && !memcmp(a, b, n_a * sizeof *a), "%s: goes on with another text", path);
    gpt_session_free(s);
    gpt_session_free(t);
    gpt_model_free(m);
}

/* A test for each line of the file, and for each save. */
int main(int argc, char **argv) {
    static test tests[sizeof kept / sizeof kept[0] + N_SAVE + 1];
    size_t i;
    char line[256];
    FILE *f = fopen(GOLDEN, "r");
    writing = argc > 1 && !strcmp(argv[1], "--write");
    if (!f) { CHECK(0, "%s: cannot open; run from the top folder", GOLDEN); return test_report("unit_law"); }
    while (fgets(line, sizeof line, f) && n_kept < sizeof kept / sizeof kept[0]) {
        unsigned long hi = 0, lo = 0;
        if (line[0] == '#' || sscanf(line, "%127s %8lx%8lx", kept[n_kept].name, &hi, &lo) < 1) {
            if (writing) fputs(line, stdout);
            continue;
        }
        kept[n_kept].want = (uint64_t)hi << 32 | lo;
        tests[n_kept].name = kept[n_kept].name;
        tests[n_kept++].run = one_model;
    }
    fclose(f);
    if (argc > 1 && !strcmp(argv[1], "--write-saves")) for (writing = 1, i = 0; i < N_SAVE; i++) { test_at = n_kept + i; one_save(); }
    for (i = 0; i < N_SAVE && !writing; i++) { tests[n_kept + i].name = "save"; tests[n_kept + i].run = one_save; }
    if (argc > 1 && !strcmp(argv[1], "--write-saves")) return test_report("unit_law");
    test_run(tests, writing ? 1 : argc, argv);
    return writing ? 0 : test_report("unit_law");
}
