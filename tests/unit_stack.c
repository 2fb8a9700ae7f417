/* Stack: no call of the library needs more than 24 KiB of it. Job systems, musl and WebAssembly give threads 64 KiB, and a
 * frame that is larger than what is left jumps over the guard page and writes into somebody else's memory.
 *
 * First every call runs on a thread whose stack is painted, and what is left of the paint tells how much it needed; then it
 * runs on a thread of 64 KiB, and must give the same bits. Frames of sanitizers and of unoptimised builds are not those of a
 * release: there the calls run without the bound. Runs from the repository's root; with -v it lists the calls. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#  define _POSIX_C_SOURCE 200809L           /* pthread_attr_setstack */
#endif
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include "test.h"
#include "gguf_builder.h"

#if !defined(_WIN32) && !defined(__EMSCRIPTEN__) && (defined(__unix__) || defined(__APPLE__))
#  if !defined(__GLIBC__) || __GLIBC__ > 2 || __GLIBC_MINOR__ >= 34 || defined(_REENTRANT)
#    include <pthread.h>                    /* where threads need no library of their own, or it is linked */
#    define HAVE_PTHREAD
#  endif
#endif

#if defined(__has_feature)
#  define HAS_FEATURE(x) __has_feature(x)
#else
#  define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) || \
    HAS_FEATURE(thread_sanitizer) || HAS_FEATURE(memory_sanitizer) || HAS_FEATURE(undefined_behavior_sanitizer) || \
    (defined(__GNUC__) && !defined(__OPTIMIZE__))
#  define UNBOUNDED 1
#else
#  define UNBOUNDED 0
#endif

enum { KIB = 1024, BOUND = 24 * KIB, SMALL = 64 * KIB, REGION = 256 * KIB, ALIGN = 64 * KIB, PAINT = 0xC5, BLOCK = 64 };

/* ---- Threads ------------------------------------------------------------------------------------------------------- */

typedef void (*job)(void);

static void nothing(void) {}

#if defined(HAVE_PTHREAD)
static void *start(void *arg) { (*(job *)arg)(); return NULL; }

/* Runs f on a thread whose stack is memory[n], or with NULL n bytes of the system's. 0 when there is no such thread. */
static int on_thread(job f, void *memory, size_t n) {
    pthread_attr_t attr;
    pthread_t id;
    int ok = !pthread_attr_init(&attr);
    ok = ok && !(memory ? pthread_attr_setstack(&attr, memory, n) : pthread_attr_setstacksize(&attr, n));
    ok = ok && !pthread_create(&id, &attr, start, &f) && !pthread_join(id, NULL);
    pthread_attr_destroy(&attr);
    return ok;
}
#elif defined(_WIN32)
static DWORD WINAPI start(void *arg) { (*(job *)arg)(); return 0; }

static int on_thread(job f, void *memory, size_t n) {
    HANDLE id = memory ? NULL : CreateThread(NULL, n, start, &f, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (!id) return 0;
    WaitForSingleObject(id, INFINITE);
    CloseHandle(id);
    return 1;
}
#else
static int on_thread(job f, void *memory, size_t n) { (void)f; (void)memory; (void)n; return 0; }
#endif

static unsigned char *region;               /* [REGION], painted between two calls */

/* Bytes from the top of a painted stack to the deepest one that f changed. */
static size_t depth(job f) {
    unsigned char paint[BLOCK];
    size_t i = 0;
    if (!on_thread(f, region, REGION)) return 0;
    memset(paint, PAINT, sizeof paint);
    while (i < REGION && !memcmp(region + i, paint, BLOCK)) i += BLOCK;
    while (i < REGION && region[i] == PAINT) i++;
    memset(region + i, PAINT, REGION - i);
    return REGION - i;
}

/* ---- A call, where it is to run ------------------------------------------------------------------------------------ */

enum { PAINTED, ON_SMALL, HERE };
static int      where, listing;
static size_t   idle;                       /* what an empty thread leaves */
static uint64_t bits;                       /* a hash of all that was computed */

static struct { char name[64], with[128]; size_t n; } most[64];     /* of each call, where it needed most */
static size_t n_most;

static const char *model_name, *set_name;   /* that are tried */
static gpt_result  result;                  /* of the call, and its message */
static gpt_error   err;

static void note(const char *name, size_t n) {
    size_t i;
    for (i = 0; i < n_most && strcmp(most[i].name, name); i++) {}
    if (i == sizeof most / sizeof *most || (i < n_most && most[i].n >= n)) return;
    if (i == n_most) n_most++;
    snprintf(most[i].name, sizeof most[i].name, "%s", name);
    snprintf(most[i].with, sizeof most[i].with, "%s, %s", model_name, set_name);
    most[i].n = n;
}

/* Runs f, which makes the call `name` and sets result: GPT_OK is expected, or with fails an error. */
static void call_with(const char *name, job f, int fails) {
    int ran = 1;
    result = GPT_OK;
    if (where == PAINTED) {
        const size_t n = depth(f), used = n > idle ? n - idle : 0;
        CHECK(n && used <= BOUND, "%s, %s, %s: %lu bytes of stack, expected at most %d", name, model_name, set_name,
              (unsigned long)used, (int)BOUND);
        note(name, used);
    } else if (where == ON_SMALL) ran = on_thread(f, NULL, SMALL);
    else f();
    CHECK(ran && (fails ? result < GPT_OK : result == GPT_OK), "%s, %s, %s: code %d (%s)", name, model_name, set_name, (int)result,
          err.msg);
}
static void call(const char *name, job f) { call_with(name, f, 0); }

static void mix(const void *p, size_t n) {
    const unsigned char *b = (const unsigned char *)p;
    while (n--) bits = (bits ^ *b++) * 0x100000001b3u;
}

/* ---- The calls ----------------------------------------------------------------------------------------------------- */

enum { N_CTX = 64, N_IDS = 40, N_TEXT_CTX = 3072 };

static char                path[256];
static const unsigned char *file;
static size_t              n_file;
static gpt_model_params    mp;
static gpt_session_params  sp;
static gpt_model          *m;
static gpt_session        *s;
static uint32_t            n_vocab;
static int                 encodes;         /* 1: an encoder reads ids up to the start token, all at once */
static gpt_token           ids[N_IDS], out_ids[8192], begin;
static float               logprob[N_IDS];
static const char         *text;
static gpt_chat_params     chat;

static size_t on_read(void *user, uint64_t offset, void *dst, size_t n) {
    (void)user;
    if (offset > n_file || n > n_file - offset) return 0;
    memcpy(dst, file + offset, n);
    return n;
}

static void do_load(void) { result = gpt_model_load(&m, path, &mp, &err); }
static void do_load_memory(void) { result = gpt_model_load_memory(&m, file, n_file, &mp, &err); }
static void do_load_reader(void) {
    gpt_reader r = { on_read, NULL, 0 };
    r.size = n_file;
    result = gpt_model_load_reader(&m, &r, 1, &mp, &err);
}
static void do_info(void) {
    gpt_model_info i;
    gpt_model_info_get(m, &i);
    n_vocab = i.n_vocab;
    encodes = i.start >= 0;
    begin = i.start;
}
static void do_free(void) { gpt_model_free(m); m = NULL; }
static void do_bytes(void) { if (!gpt_session_bytes(m, &sp)) result = GPT_E_ARG; }
static void do_new(void) { result = gpt_session_new(&s, m, &sp, &err); }
static void do_session_free(void) { gpt_session_free(s); s = NULL; }
static void do_eval(void) {
    result = gpt_eval(s, ids, (size_t)(N_IDS - encodes), &err);
    if (!result) mix(gpt_logits(s), n_vocab * sizeof(float));
}
static void do_score(void) {
    result = gpt_score(s, ids, N_CTX - N_IDS, logprob, &err);
    if (!result) mix(logprob, (N_CTX - N_IDS) * sizeof *logprob);
}
static gpt_work    *w;                      /* a batch of one: beside it s, which has its own */
static gpt_session *other;

static void do_work_bytes(void) { gpt_work_params p; memset(&p, 0, sizeof p); p.n_threads = 1; if (!gpt_work_bytes(m, &p)) result = GPT_E_ARG; }
static void do_work_new(void) {
    gpt_work_params p;
    memset(&p, 0, sizeof p);
    p.n_batch = sp.n_batch; p.n_threads = 1;
    result = gpt_work_new(&w, m, &p, &err);
}
static void new_beside(const gpt_session *prefix) {
    gpt_session_params p = sp;
    p.work = w; p.prefix = prefix; p.n_batch = 0; p.n_threads = 0;
    memset(&p.hooks, 0, sizeof p.hooks);
    result = gpt_session_new(&other, m, &p, &err);
}
static void do_new_beside(void) { new_beside(NULL); }
static void do_new_prefix(void) { new_beside(s); }
static void do_eval_begin(void) { result = gpt_eval_begin(other, ids, N_CTX - N_IDS, NULL, &err); }
static void do_work_step(void) {
    do result = gpt_work_step(w, &err); while (result == GPT_MORE);
    if (!result && (!encodes || gpt_logits(other))) mix(gpt_logits(other), n_vocab * sizeof(float));
}
static void do_vector(void) {
    static float hidden[N_IDS * 128], vector[128];
    gpt_eval_params p;
    gpt_token small[24];
    size_t n = 0;
    memset(&p, 0, sizeof p);
    p.hidden = hidden; p.embedding = vector;
    for (; n < 24; n++) small[n] = (gpt_token)(4 + n);
    result = gpt_eval_begin(s, small, n, &p, &err);
    while (!result && (result = gpt_step(s, &err)) == GPT_MORE) result = GPT_OK;
    if (!result) mix(vector, 30 * sizeof(float));
}
static void do_hold(void) { gpt_session_hold(other, 1); gpt_session_hold(other, 0); }
static void do_hooks(void) { result = gpt_session_hooks(other, NULL, &err); }
static void do_copy(void) { result = gpt_session_copy(other, s, SIZE_MAX, &err); }
static void do_freeze(void) { result = gpt_session_freeze(s, &err); }
static unsigned char save_room[1 << 18];
static void do_save_bytes(void) { if (!gpt_session_save_bytes(s, GPT_SAVE_CACHE) || gpt_session_save_bytes(s, GPT_SAVE_CACHE) > sizeof save_room) result = GPT_E_ARG; }
static void do_save(void) {
    gpt_writer to;
    memset(&to, 0, sizeof to);
    to.user = save_room; to.size = sizeof save_room;
    result = gpt_session_save(s, GPT_SAVE_CACHE, &to, &err);
}
static void do_restore(void) {
    gpt_reader from;
    memset(&from, 0, sizeof from);
    from.user = save_room; from.size = gpt_session_save_bytes(s, GPT_SAVE_CACHE);
    result = gpt_session_restore(other, &from, &err);
}
static void do_resume(void) { result = gpt_resume(s, NULL, NULL, NULL, &err); }
static void do_other_free(void) { gpt_session_free(other); other = NULL; }
static void do_work_free(void) { gpt_work_free(w); w = NULL; }
static void do_rewind(void) { result = gpt_session_rewind(s, 0, &err); }
static void do_reset(void) { gpt_session_reset(s); }

static gpt_sample_params sampling(void) {
    static const gpt_bias bias[] = { { 1, 1.0f }, { 2, -1.0f } };
    gpt_sample_params p;
    memset(&p, 0, sizeof p);
    p.bias = bias;
    p.n_bias = 2;
    p.penalty_last_n = -1;
    p.repeat_penalty = 1.1f;
    p.frequency_penalty = p.presence_penalty = 0.1f;
    p.top_k = 20;
    p.top_p = 0.95f;
    p.min_p = 0.01f;
    p.temperature = 0.8f;
    p.seed = 3;
    return p;
}
static void do_sample(void) {
    gpt_sample_params p = sampling();
    gpt_token id[3];
    id[0] = gpt_sample(s, &p);
    p.top_k = 0;
    id[1] = gpt_sample(s, &p);
    id[2] = gpt_sample(s, NULL);
    if (id[0] < 0 || id[1] < 0 || id[2] < 0) result = GPT_E_STATE;
    mix(id, sizeof id);
}

static int on_text(void *user, const char *p, size_t n) { (void)user; mix(p, n); return 0; }

static gpt_generate_params writing(void) {
    static const char *const stop[] = { "never comes up", "nor this" };
    gpt_generate_params g;
    memset(&g, 0, sizeof g);
    g.sample = sampling();
    g.max_tokens = 3;
    g.stop = stop;
    g.n_stop = 2;
    g.ignore_end = 1;
    return g;
}
static void do_generate(void) { gpt_generate_params g = writing(); result = gpt_generate(s, text, &g, on_text, NULL, &err); }
static void do_begin(void) { gpt_generate_params g = writing(); result = gpt_begin(s, text, &g, on_text, NULL, &err); }
static void do_step(void) {
    result = gpt_step(s, &err);
    if (result == GPT_MORE) result = GPT_OK;
}
static void do_end(void) { gpt_end(s); }
static void do_tokenize(void) {
    size_t n = 0;
    result = gpt_tokenize(m, text, strlen(text), GPT_TOKENIZE_BOS | GPT_TOKENIZE_SPECIAL, out_ids, 8192, &n, &err);
    if (!result) mix(out_ids, (n < 8192 ? n : 8192) * sizeof *out_ids);
}
static void do_detokenize(void) {
    char p[256];
    size_t n = gpt_detokenize(m, out_ids, 64, 1, p, sizeof p);
    mix(p, n < sizeof p ? n : sizeof p);
}
static void do_token(void) {
    size_t n;
    mix(gpt_token_text(m, 40, &n), 1);
    if (gpt_token_find(m, "a") < 0 || gpt_token_is_control(m, 40) || gpt_token_is_end(m, 40)) result = GPT_E_ARG;
}

static const gpt_message messages[] = { { "system", " Be kind. ", NULL }, { "user", "Hello, <|im_end|>!", NULL },
    { "assistant", "<think>\nhm\n</think>\n\nHi.", NULL }, { "user", "Who are you?", NULL } };
static char out_text[8192];

static void do_format(void) {
    size_t n = 0;
    result = gpt_chat_format(m, messages, 4, &chat, out_text, sizeof out_text, &n, &err);
    if (!result) mix(out_text, n < sizeof out_text ? n : sizeof out_text);
}
static void do_chat_tokenize(void) {
    size_t n = 0;
    result = gpt_chat_tokenize(m, messages, 4, &chat, out_ids, 8192, &n, &err);
    if (!result) mix(out_ids, (n < 8192 ? n : 8192) * sizeof *out_ids);
}
static void do_chat(void) {
    gpt_generate_params g = writing();
    result = gpt_chat(s, messages, 4, &chat, &g, on_text, NULL, &err);
}
static void do_chat_begin(void) {
    gpt_generate_params g = writing();
    result = gpt_chat_begin(s, messages, 4, &chat, &g, on_text, NULL, &err);
    gpt_end(s);
}

/* ---- Models -------------------------------------------------------------------------------------------------------- */

static void one_thread(uint32_t n_ctx) {
    memset(&mp, 0, sizeof mp);
    memset(&sp, 0, sizeof sp);
    mp.n_threads = sp.n_threads = 1;
    mp.kernels = set_name;
    sp.n_ctx = n_ctx;
    sp.n_batch = 32;
}

static void use_session(void) {
    size_t i;
    call("gpt_model_info_get", do_info);
    sp.n_batch = encodes ? N_IDS : 32;
    call("gpt_session_bytes", do_bytes);
    call("gpt_session_new", do_new);
    if (!s) return;
    for (i = 0; i < N_IDS; i++) ids[i] = (gpt_token)((i * i * 7 + 3 * i + 1) % n_vocab);
    if (encodes) ids[N_IDS - 2] = begin;
    call("gpt_eval", do_eval);
    call("gpt_sample", do_sample);
    call("gpt_score", do_score);
    call("gpt_session_rewind", do_rewind);
    call("gpt_eval", do_eval);
    call("gpt_work_bytes", do_work_bytes);
    call("gpt_work_new", do_work_new);
    call("gpt_session_new", do_new_beside);
    call("gpt_session_copy", do_copy);
    call("gpt_session_save_bytes", do_save_bytes);
    call("gpt_session_save", do_save);
    call("gpt_session_restore", do_restore);
    call("gpt_session_hold", do_hold);
    call("gpt_session_hooks", do_hooks);
    call("gpt_session_free", do_other_free);
    call("gpt_session_freeze", do_freeze);
    call("gpt_session_new", do_new_prefix);
    call("gpt_eval_begin", do_eval_begin);
    call("gpt_work_step", do_work_step);
    call("gpt_session_free", do_other_free);
    call("gpt_work_free", do_work_free);
    call("gpt_session_free", do_session_free);
}

/* Every way to load it, and its numbers with n_kv formats of the cache. */
static void use_model(int n_kv) {
    int kv;
    one_thread(N_CTX);
    call("gpt_model_load_reader", do_load_reader);
    for (kv = 0; m && kv < n_kv; kv++) { sp.kv = (gpt_kv)kv; use_session(); }
    call("gpt_model_free", do_free);
    mp.mapped = 1;
    call("gpt_model_load_memory, mapped", do_load_memory);
    if (m) use_session();
    call("gpt_model_free", do_free);
    mp.mapped = 0;
    mp.header_only = 1;
    call("gpt_model_load_memory, header only", do_load_memory);
    if (m) call("gpt_session_bytes", do_bytes);
    call("gpt_model_free", do_free);
}

static void golden_model(const char *name) {
    unsigned char *p = (unsigned char *)malloc((size_t)1 << 20);
    FILE *f;
    snprintf(path, sizeof path, "tests/golden/model/%s.gguf", name);
    f = fopen(path, "rb");
    n_file = p && f ? fread(p, 1, (size_t)1 << 20, f) : 0;
    if (f) fclose(f);
    CHECK(n_file > 0 && n_file < (size_t)1 << 20, "%s: cannot be read; run from the top folder", path);
    file = p;
    model_name = name;
    if (name[0] != '.') use_model(4);
    one_thread(N_CTX);
    call("gpt_model_load", do_load);
    if (name[0] == '.') {                       /* it makes vectors alone */
        call("gpt_session_new", do_new);
        call("gpt_eval_begin, hidden and embedding", do_vector);
        call("gpt_session_free", do_session_free);
    }
    call("gpt_model_free", do_free);
    mp.mapped = 1;
    call("gpt_model_load, mapped", do_load);
    call("gpt_model_free", do_free);
    free(p);
}

static void golden_models(void) {
    char line[256], name[128];
    FILE *list = fopen("tests/golden/law.txt", "r");            /* it names all but one */
    CHECK(list, "tests/golden/law.txt: cannot be read; run from the top folder");
    while (list && fgets(line, sizeof line, list))
        if (line[0] != '#' && sscanf(line, "%127s", name) == 1) golden_model(name);
    if (list) fclose(list);
    golden_model("gemma2_27b");
}

static uint32_t noise;

static void add_tensor(gb *g, const char *name, const gpti_format *fmt, uint64_t d0, uint64_t d1) {
    const size_t n = (size_t)(d0 * (d1 ? d1 : 1));
    size_t i;
    if (!fmt || fmt->type == 0) {                               /* a vector of ones, a matrix of noise */
        gb_tensor(g, name, GB_F32, d1 ? 2 : 1, d0, d1, 1, 1, NULL, 0);
        for (i = 0; i < n; i++) {
            noise = noise * 1664525u + 1013904223u;
            gb_float(g, &g->data, d1 ? (float)(noise >> 8) / 8388608.0f - 1.0f : 1.0f);
        }
    } else gb_tensor(g, name, fmt->type, 2, d0, d1, 1, 1, NULL, n / fmt->block_len * fmt->block_bytes);
}

/* A Llama of one layer, matrices [D, D] but for the vocabulary */
static void add_llama(gb *g, const gpti_format *fmt, uint32_t D, uint32_t V, uint32_t n_ctx) {
    static const char *const square[] = { "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down" };
    char name[64];
    size_t i;
    noise = 1;
    gb_kv_str(g, "general.architecture", "llama");
    gb_kv_u32(g, "llama.block_count", 1);
    gb_kv_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_kv_u32(g, "llama.context_length", n_ctx);
    gb_kv_u32(g, "llama.embedding_length", D);
    gb_kv_u32(g, "llama.feed_forward_length", D);
    gb_kv_u32(g, "llama.attention.head_count", 2);
    if (fmt) gb_kv_u32(g, "llama.vocab_size", V);             /* no tokenizer tells it */
    add_tensor(g, "token_embd.weight", fmt, D, V);
    add_tensor(g, "output_norm.weight", NULL, D, 0);
    add_tensor(g, "blk.0.attn_norm.weight", NULL, D, 0);
    add_tensor(g, "blk.0.ffn_norm.weight", NULL, D, 0);
    for (i = 0; i < sizeof square / sizeof *square; i++) {
        snprintf(name, sizeof name, "blk.0.%s.weight", square[i]);
        add_tensor(g, name, fmt, D, D);
    }
}

static void formats(void) {
    size_t i;
    for (i = 0; i < sizeof gpti_formats / sizeof *gpti_formats; i++) {
        gb g;
        gb_init(&g, 3, 0);
        add_llama(&g, &gpti_formats[i], 256, 48, 128);
        gb_kv_str(&g, "tokenizer.ggml.model", "none");
        file = gb_finish(&g, &n_file);
        model_name = gpti_formats[i].name;
        use_model(1);
        gb_free(&g);
    }
}

/* ---- Text ---------------------------------------------------------------------------------------------------------- */

static const char *const specials[] = { "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>" };
enum { N_SPECIAL = sizeof specials / sizeof *specials };

static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* A byte as GPT-2 spells it: the character of that number, or one above 255 */
static size_t spell(int b, char p[4]) {
    int u = b, i;
    if (b < 33 || (b > 126 && b < 161) || b == 173)
        for (u = 256, i = 0; i < b; i++) u += i < 33 || (i > 126 && i < 161) || i == 173;
    p[0] = (char)(u < 128 ? u : 0xC0 | u >> 6);
    p[1] = (char)(0x80 | (u & 63));
    return u < 128 ? 1 : 2;
}

/* Special tokens, 256 bytes, letters (but for gpt2, whose bytes are its letters), and "the", " the" */
static void text_model(gb *g, const char *family) {
    static const char *const merges[] = { "t h", "th e", "\xC4\xA0 the" };
    static const unsigned char map[] = { 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    const int bpe = !strcmp(family, "gpt2");
    const uint32_t V = N_SPECIAL + 256 + (bpe ? 3 : 98);
    char p[8];
    uint32_t i;
    gb_init(g, 3, 0);
    add_llama(g, NULL, 32, V, N_TEXT_CTX);
    gb_kv_str(g, "tokenizer.ggml.model", family);
    gb_kv_str(g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_str(g, "tokenizer.chat_template", chatml);
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, V);
    for (i = 0; i < N_SPECIAL; i++) gb_text(g, &g->kv, specials[i], strlen(specials[i]));
    for (i = 0; i < 256; i++) {
        if (bpe) gb_text(g, &g->kv, p, spell((int)i, p));
        else { snprintf(p, sizeof p, "<0x%02X>", (unsigned)i); gb_text(g, &g->kv, p, 6); }
    }
    for (i = 0; i < 95 && !bpe; i++) { p[0] = (char)(' ' + i); gb_text(g, &g->kv, i ? p : "\xE2\x96\x81", i ? 1 : 3); }
    gb_text(g, &g->kv, "th", 2);
    gb_text(g, &g->kv, "the", 3);
    gb_text(g, &g->kv, bpe ? "\xC4\xA0the" : "\xE2\x96\x81the", bpe ? 5 : 6);
    gb_kv_array(g, "tokenizer.ggml.token_type", GB_I32, V);
    for (i = 0; i < V; i++) gb_uint(g, &g->kv, i == 0 ? 2 : i < N_SPECIAL ? 3 : i < N_SPECIAL + 256 && !bpe ? 6 : 1, 4);
    if (bpe) gb_kv_strs(g, "tokenizer.ggml.merges", merges, 3);
    else {
        gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, V);
        for (i = 0; i < V; i++) gb_float(g, &g->kv, i + 3 < V ? -10.0f : (float)i - (float)V);
    }
    if (!strcmp(family, "t5")) {
        gb_kv_array(g, "tokenizer.ggml.precompiled_charsmap", GB_U8, sizeof map);
        gb_raw(&g->kv, map, sizeof map);
        gb_kv_bool(g, "tokenizer.ggml.remove_extra_whitespaces", 1);
    }
    gb_kv_u32(g, "tokenizer.ggml.bos_token_id", 1);
    gb_kv_u32(g, "tokenizer.ggml.eos_token_id", 2);
    gb_kv_bool(g, "tokenizer.ggml.add_bos_token", 1);
    file = gb_finish(g, &n_file);
}

static void use_text(void) {
    static const char *const texts[] = {
        "Once upon the time, 12345 \xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\t\r\n  don't<|im_end|> <s>x", "\xFF\xC3 broken" };
    static char word[6001];                                     /* more than a session's room for one word */
    size_t i;
    memset(word, 'x', sizeof word - 1);
    for (i = 0; i < 3; i++) {
        text = i < 2 ? texts[i] : word;
        call("gpt_tokenize", do_tokenize);
    }
    call("gpt_detokenize", do_detokenize);
    call("gpt_token_text, _find, ...", do_token);
    text = texts[0];
}

/* The name of a row of a table: the first of several */
static const char *first_name(const char *names) {
    static char name[64];
    size_t n = strcspn(names, " ");
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), names);
    return name;
}

static void tokenizers(void) {
    static const char *const families[] = { "gpt2", "llama", "t5" };
    gpti_pretokenizer pre[GPTI_N_PRE];
    const size_t n_pre = gpti_list_pretokenizers(pre);
    gpti_chat_row rows[GPTI_N_CHAT];
    const size_t n_row = gpti_list_chats(rows);
    size_t k, i;
    gb g;
    for (k = 0; k < 3; k++) {
        text_model(&g, families[k]);
        model_name = families[k];
        one_thread(N_TEXT_CTX);
        for (i = 0; k == 0 && i < n_pre; i++) {
            mp.pretokenizer = model_name = first_name(pre[i].names);
            call("gpt_model_load_memory", do_load_memory);
            if (m) use_text();
            call("gpt_model_free", do_free);
        }
        mp.pretokenizer = NULL;
        model_name = families[k];
        call("gpt_model_load_reader", do_load_reader);
        if (!m) continue;
        use_text();
        call("gpt_session_new", do_new);
        call("gpt_generate", do_generate);
        call("gpt_begin", do_begin);
        call("gpt_resume", do_resume);
        call("gpt_step", do_step);
        call("gpt_end", do_end);
        call("gpt_session_reset", do_reset);
        for (i = 0; i <= n_row; i++) {
            memset(&chat, 0, sizeof chat);
            if (i < n_row) chat.family = model_name = first_name(rows[i].names);
            chat.date = i % 2 ? "2025-01-31" : NULL;
            call("gpt_chat_format", do_format);
            call("gpt_chat_tokenize", do_chat_tokenize);
            call("gpt_chat", do_chat);
            call("gpt_chat_begin", do_chat_begin);
        }
        model_name = families[k];
        call("gpt_session_free", do_session_free);
        call("gpt_model_free", do_free);
        gb_free(&g);
    }
}

/* ---- Errors: formatting a message is part of a call ---------------------------------------------------------------- */

static void do_eval_bad(void) { gpt_token bad = 1 << 30; result = gpt_eval(s, &bad, 1, &err); }

static void errors(void) {
    gb g;
    size_t whole, i;
    snprintf(path, sizeof path, "tests/golden/model/there-is-no-such-file.gguf");
    model_name = "errors";
    one_thread(N_CTX);
    call_with("gpt_model_load, no file", do_load, 1);
    text_model(&g, "gpt2");
    whole = n_file;
    for (i = 0; i < 97; i++) {                                  /* cut short anywhere */
        n_file = whole * i / 97;
        call_with("gpt_model_load_memory, a cut file", do_load_memory, 1);
        if (n_file) call_with("gpt_model_load_reader, a cut file", do_load_reader, 1);
    }
    n_file = whole;
    mp.kernels = "none of them";
    call_with("gpt_model_load_memory, no such kernels", do_load_memory, 1);
    one_thread(N_CTX);
    mp.pretokenizer = "none of them";
    call_with("gpt_model_load_memory, no such pre-tokenizer", do_load_memory, 1);
    mp.pretokenizer = NULL;
    call("gpt_model_load_memory", do_load_memory);
    if (m) {
        memset(&chat, 0, sizeof chat);
        chat.family = "none of them";
        sp.kv = (gpt_kv)7;
        call_with("gpt_session_new, no such cache", do_new, 1);
        sp.kv = GPT_KV_F16;
        call("gpt_session_new", do_new);
        call_with("gpt_eval, no such token", do_eval_bad, 1);
        call_with("gpt_chat, no such family", do_chat, 1);
        text = "This is longer than the context of sixty-four tokens, which is the session's, and cannot be generated from.";
        call_with("gpt_generate, too long", do_generate, 1);
        call("gpt_session_free", do_session_free);
        call("gpt_model_free", do_free);
    }
    gb_free(&g);
}

static void every_call(void) {
    gpti_kernels set[GPTI_MAX_SET];
    size_t n_set = gpti_kernels_list(set), i;
    bits = 0xcbf29ce484222325u;
    set_name = NULL;
    for (i = 0; i < n_set; i++) {
        if (!set[i].usable() || (UNBOUNDED && set_name)) continue;     /* without a bound the best one will do */
        set_name = set[i].name;
        golden_models();
        formats();
    }
    set_name = NULL;
    for (i = 0; i < n_set && !set_name; i++) if (set[i].usable()) set_name = set[i].name;      /* the best one */
    tokenizers();
    errors();
}

/* Every call on a painted stack; 0 when there are none. */
static int paint_and_measure(void) {
    size_t i, deepest = 0;
    memset(region, PAINT, REGION);
    for (i = 0; i < 3; i++) { size_t n = depth(nothing); idle = n > idle ? n : idle; }
    if (!idle) return 0;
    where = PAINTED;
    every_call();
    for (i = 0; i < n_most; i++) {
        if (most[i].n > most[deepest].n) deepest = i;
        if (listing) printf("%7lu bytes  %s (%s)\n", (unsigned long)most[i].n, most[i].name, most[i].with);
    }
    printf("unit_stack: the most is %lu bytes, %s (%s)\n", (unsigned long)most[deepest].n, most[deepest].name,
           most[deepest].with);
    return 1;
}

static uint64_t painted;        /* the bits that the calls on the painted stack left, 0: none yet */

static void test_painted(void) {
    if (UNBOUNDED) {
        printf("unit_stack: frames of a sanitizer or without optimisation: the calls run, without a bound\n");
        where = HERE;
        every_call();
    } else if (paint_and_measure()) painted = bits;
    else printf("unit_stack: stacks cannot be painted here\n");
}

static void test_small_threads(void) {
    if (UNBOUNDED) return;
    where = ON_SMALL;
    if (!on_thread(nothing, NULL, SMALL)) printf("unit_stack: there are no threads of %d KiB here, skipped\n", SMALL / KIB);
    else if (test_failed) CHECK(0, "not tried on threads of %d KiB, as that would end the program", SMALL / KIB);
    else {
        every_call();
        CHECK(!painted || bits == painted, "other bits on threads of %d KiB", SMALL / KIB);
    }
}

static const test tests[] = { { "painted", test_painted }, { "small_threads", test_small_threads }, { NULL, NULL } };

int main(int argc, char **argv) {
    void *block = malloc(REGION + ALIGN);
    if (!block) return 1;
    if (argc > 1 && !strcmp(argv[1], "-v")) { listing = 1; argv++; argc--; }
    region = (unsigned char *)block + (ALIGN - (uintptr_t)block % ALIGN);
    test_run(tests, argc, argv);
    free(block);
    return test_report("unit_stack");
}
