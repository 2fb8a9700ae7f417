/* examples/pool.h as a host uses it: every unit is done once, worker numbers are never at work twice, runs may be nested and
 * come from several threads, pools come and go, memory may be scarce; sessions give the bits of one thread. Runs from the
 * repository's root. */
#include "gpt.h"
#include "test.h"

#include <time.h>

/* pool.h's memory is counted, and runs out when the test says so; so do threads. */
#ifdef _WIN32
#  define WIN32_LEAN_AND_MEAN
#  define NOMINMAX
#  include <windows.h>
#else
#  include <pthread.h>
#endif
static int no_threads;
#define CreateThread(a, b, c, d, e, f) (no_threads ? NULL : (CreateThread)(a, b, c, d, e, f))
#define pthread_create(a, b, c, d)     (no_threads ? 1 : (pthread_create)(a, b, c, d))
static void *scarce_calloc(size_t n, size_t size);
static void  scarce_free(void *p);
#define calloc(n, size) scarce_calloc(n, size)
#define malloc(n)       scarce_calloc(1, n)
#define free(p)         scarce_free(p)
#include "../examples/pool.h"
#undef calloc
#undef malloc
#undef free

static uint32_t live;
static int allocations_left = -1;               /* negative: no end to them */

static void *scarce_calloc(size_t n, size_t size) {
    void *p = allocations_left ? calloc(n, size) : NULL;
    if (allocations_left > 0) allocations_left--;
    if (p) POOL_FETCH_ADD(&live, 1);
    return p;
}
static void scarce_free(void *p) {
    if (p) POOL_FETCH_ADD(&live, (uint32_t)-1);
    free(p);
}

static void *need(size_t n) {
    void *p = calloc(1, n);
    if (!p) { printf("unit_pool: out of memory\n"); exit(1); }
    return p;
}

static pool *new_pool(int n_thread) {
    pool *p = pool_new(n_thread);
    int n = pool_parallel(p).n_worker;
    CHECK(p && (n_thread < 2 || n == n_thread), "%d threads asked for, %d workers", n_thread, n);
    return p;
}

/* ---- Threads of the test's own ---- */

typedef struct host { void (*work)(void *arg); void *arg; pool_thread id; } host;
#ifdef _WIN32
static DWORD WINAPI host_main(LPVOID arg) { host *h = (host *)arg; h->work(h->arg); return 0; }
static int host_start(host *h) { return (h->id = CreateThread(NULL, 0, host_main, h, 0, NULL)) != NULL; }
static void host_join(host *h) { WaitForSingleObject(h->id, INFINITE); CloseHandle(h->id); }
#else
static void *host_main(void *arg) { host *h = (host *)arg; h->work(h->arg); return NULL; }
static int host_start(host *h) { return !pthread_create(&h->id, NULL, host_main, h); }
static void host_join(host *h) { pthread_join(h->id, NULL); }
#endif

/* work(arg[i]) on n threads at once, each arg of the given size. */
static void at_once(void (*work)(void *arg), void *args, size_t size, int n) {
    host h[8];
    int i, started = 0;
    for (i = 0; i < n; i++) {
        h[i].work = work;
        h[i].arg = (char *)args + (size_t)i * size;
        if (!host_start(&h[i])) break;
        started++;
    }
    CHECK(started == n, "%d threads of %d could be started", started, n);
    for (i = 0; i < started; i++) host_join(&h[i]);
}

/* ---- Runs that are watched. Counters of units are plain numbers on purpose: ThreadSanitizer sees who else touches them ---- */

enum { MAX_UNIT = 5000, MAX_WORKER = 256 };

typedef struct watch {
    int      n_worker;
    size_t   n;
    uint32_t busy[MAX_WORKER], seen[MAX_WORKER], faults;
    uint32_t dawdle;                            /* yields for each range, so that others get a share */
    unsigned char count[MAX_UNIT];
} watch;

static void watch_task(void *arg, size_t begin, size_t end, int worker) {
    watch *w = (watch *)arg;
    uint32_t i;
    size_t u;
    if (begin > end || end > w->n || worker < 0 || worker >= w->n_worker) { POOL_FETCH_ADD(&w->faults, 1); return; }
    if (POOL_SWAP(&w->busy[worker], 1)) POOL_FETCH_ADD(&w->faults, 1);
    for (u = begin; u < end; u++) w->count[u]++;
    for (i = 0; i < w->dawdle; i++) POOL_YIELD();
    POOL_SWAP(&w->seen[worker], 1);
    if (!POOL_SWAP(&w->busy[worker], 0)) POOL_FETCH_ADD(&w->faults, 1);
}

/* One run of n units; the number of faults. */
static uint32_t watched(pool *p, watch *w, size_t n) {
    uint32_t faults;
    size_t u;
    int workers = pool_parallel(p).n_worker;
    w->n_worker = workers > 1 ? workers : 1;
    w->n = n;
    w->faults = 0;
    memset(w->count, 0, n);
    pool_run(p, n, 1, watch_task, w);
    faults = POOL_LOAD(&w->faults);
    for (u = 0; u < n; u++) faults += w->count[u] != 1;
    return faults;
}

static void test_units(void) {
    watch *w = (watch *)need(sizeof *w);
    int t;
    for (t = 1; t <= 8; t++) {
        pool *p = new_pool(t);
        uint32_t faults = 0, r = (uint32_t)t;
        size_t n;
        for (n = 0; n <= 300; n++) faults += watched(p, w, n);
        for (n = 0; n < 300; n++) {
            r = r * 1664525u + 1013904223u;
            w->dawdle = r >> 30;
            faults += watched(p, w, (r >> 8) % (MAX_UNIT + 1));
        }
        w->dawdle = 0;
        faults += watched(p, w, MAX_UNIT);
        CHECK(!faults, "%d threads: %u units were not done once, or workers not as promised", t, (unsigned)faults);
        pool_free(p);
    }
    free(w);
}

/* Every thread gets work sooner or later, from the start and after a sleep. */
static void test_all_help(void) {
    watch *w = (watch *)need(sizeof *w);
    int t, round, i, all = 1;
    for (t = 2; t <= 8 && all; t++) {
        pool *p = new_pool(t);
        for (round = 0; round < 2 && all; round++) {
            const time_t begin = time(NULL);
            const clock_t pause = clock() + CLOCKS_PER_SEC / 50;
            uint32_t faults = 0;
            int n_seen = 0;
            while (round && clock() < pause) POOL_YIELD();
            memset(w->seen, 0, sizeof w->seen);
            w->dawdle = 20;
            while (n_seen < t && time(NULL) - begin < 60) {
                faults += watched(p, w, 1000);
                for (n_seen = i = 0; i < t; i++) n_seen += POOL_LOAD(&w->seen[i]) != 0;
            }
            all = n_seen == t;                  /* one minute of waiting in vain is enough */
            CHECK(all && !faults, "%d threads, round %d: %d took part in a minute, %u faults", t, round, n_seen, (unsigned)faults);
        }
        pool_free(p);
    }
    free(w);
}

/* ---- Runs within runs, and side by side ---- */

enum { N_OUTER = 24 };
typedef struct nest { pool *p; watch *outer, *inner; uint32_t faults; } nest;

static void nest_task(void *arg, size_t begin, size_t end, int worker) {
    nest *x = (nest *)arg;
    size_t u;
    watch_task(x->outer, begin, end, worker);
    for (u = begin; u < end; u++) POOL_FETCH_ADD(&x->faults, watched(x->p, &x->inner[u], 10 * u));
}

static void test_nested(void) {
    nest x;
    int t, k;
    x.outer = (watch *)need(sizeof *x.outer);
    x.inner = (watch *)need(N_OUTER * sizeof *x.inner);
    for (t = 1; t <= 8; t++) {
        size_t u;
        uint32_t faults = 0;
        x.p = new_pool(t);
        x.faults = 0;
        for (k = 0; k < 50; k++) {
            x.outer->n_worker = t;
            x.outer->n = N_OUTER;
            x.outer->faults = 0;
            memset(x.outer->count, 0, N_OUTER);
            pool_run(x.p, N_OUTER, 1, nest_task, &x);
            faults += x.outer->faults;
            for (u = 0; u < N_OUTER; u++) faults += x.outer->count[u] != 1;
        }
        CHECK(!faults && !x.faults, "%d threads: %u faults outside, %u inside", t, (unsigned)faults, (unsigned)x.faults);
        pool_free(x.p);
    }
    free(x.outer);
    free(x.inner);
}

typedef struct caller { pool *p; uint32_t seed, faults; watch w; } caller;

static void call_often(void *arg) {
    caller *c = (caller *)arg;
    int k;
    for (k = 0; k < 400; k++) {
        c->seed = c->seed * 1664525u + 1013904223u;
        c->w.dawdle = c->seed >> 31;
        c->faults += watched(c->p, &c->w, (c->seed >> 8) % 500);
    }
}

static void test_callers(void) {
    caller *c = (caller *)need(3 * sizeof *c);
    int t, i;
    for (t = 1; t <= 8; t++) {
        pool *p = new_pool(t);
        for (i = 0; i < 3; i++) { c[i].p = p; c[i].seed = (uint32_t)(10 * t + i); c[i].faults = 0; }
        at_once(call_often, c, sizeof *c, 3);
        for (i = 0; i < 3; i++) CHECK(!c[i].faults, "%d threads, caller %d of 3: %u faults", t, i, (unsigned)c[i].faults);
        pool_free(p);
    }
    free(c);
}

/* ---- Making and freeing ---- */

static void test_life(void) {
    watch *w = (watch *)need(sizeof *w);
    gpt_parallel none = pool_parallel(NULL), one;
    pool *p;
    uint32_t faults = 0;
    int i, n, before = 0;
    pool_free(NULL);
    CHECK(!none.run && none.n_worker < 2, "a pool that is NULL has %d workers", none.n_worker);
    p = new_pool(1);
    one = pool_parallel(p);
    CHECK(!one.run && one.n_worker < 2, "a pool of one thread has %d workers", one.n_worker);
    CHECK(!watched(p, w, 100), "a pool of one thread does not do its work");
    pool_free(p);
    for (i = 0; i < 300; i++) {                 /* freed at once, after a run, after many */
        p = new_pool(1 + i % 8);
        for (n = 0; n < i % 3 * i % 20; n++) faults += watched(p, w, 50);
        pool_free(p);
    }
    CHECK(!faults && !live, "300 pools: %u faults, %u pieces of memory left", (unsigned)faults, (unsigned)live);
    p = pool_new(0);
    n = pool_parallel(p).n_worker;
    CHECK(p && (n == pool_processors() || n == 256 || pool_processors() == 1), "%d workers on %d processors", n, pool_processors());
    pool_free(p);
    p = pool_new(1000);
    n = pool_parallel(p).n_worker;
    CHECK(p && n > 1 && n <= 256, "1000 threads asked for: %d workers, at most 256 are promised", n);
    CHECK(!watched(p, w, MAX_UNIT), "%d threads do not do their work", n);
    pool_free(p);
    for (i = 0; before < 4 && i < 100; i++) {   /* the i-th piece of memory is the first that is not there */
        allocations_left = i;
        p = pool_new(4);
        allocations_left = -1;
        n = p ? pool_parallel(p).n_worker : -1;
        CHECK(n >= before || before == 0, "memory ran out later, but %d workers instead of %d", n, before);
        if (p) { before = n; faults += watched(p, w, 100); }
        pool_free(p);
        CHECK(!faults && !live, "memory ran out at %d: %u faults, %u pieces left", i, (unsigned)faults, (unsigned)live);
    }
    no_threads = 1;
    p = pool_new(4);
    no_threads = 0;
    CHECK(p && !pool_parallel(p).run && !watched(p, w, 100), "without threads of the system a pool does not do its work");
    pool_free(p);
    CHECK(!live, "threads that could not start left %u pieces of memory", (unsigned)live);
    CHECK(before == 4 && i > 1, "a pool of 4 threads with %d pieces of memory has %d workers", i - 1, before);
    free(w);
}

/* ---- Sessions: the bits of one thread ---- */

enum { N_TOKEN = 60, N_PART = 3 };
static const size_t part_end[N_PART] = { 40, 41, N_TOKEN };    /* a prompt, a token alone, a few more */

typedef struct subject { gpt_model *m; size_t n_vocab; gpt_token ids[N_TOKEN]; float *want; } subject;

static uint32_t n_run;                          /* runs that came to a pool from a session or a load */
static void counted_run(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    POOL_FETCH_ADD(&n_run, 1);
    pool_run(user, n, cost, task, arg);
}

static gpt_parallel counted(pool *p) {
    gpt_parallel parallel = pool_parallel(p);
    if (parallel.run) parallel.run = counted_run;
    return parallel;
}

static gpt_session_params session_params(pool *p) {
    gpt_session_params params;
    memset(&params, 0, sizeof params);
    params.n_threads = 1;
    params.n_ctx = N_TOKEN;
    params.hooks.parallel = counted(p);
    return params;
}

/* Logits behind each part of the text into out [N_PART, n_vocab]; 0 when a call failed. */
static int logits_of(const subject *x, gpt_session *s, float *out) {
    gpt_error err;
    size_t i, begin = 0;
    gpt_session_reset(s);
    for (i = 0; i < N_PART; i++) {
        if (gpt_eval(s, x->ids + begin, part_end[i] - begin, &err)) return 0;
        memcpy(out + i * x->n_vocab, gpt_logits(s), x->n_vocab * sizeof *out);
        begin = part_end[i];
    }
    return 1;
}

static int same_logits(const subject *x, gpt_session *s, float *room) {
    return logits_of(x, s, room) && !memcmp(room, x->want, N_PART * x->n_vocab * sizeof *room);
}

static gpt_model *load(const char *path, pool *p) {
    gpt_model_params params;
    gpt_model *m = NULL;
    gpt_error err;
    memset(&params, 0, sizeof params);
    params.n_threads = 1;
    params.parallel = counted(p);
    CHECK(gpt_model_load(&m, path, &params, &err) == GPT_OK, "%s", err.msg);
    return m;
}

static gpt_session *session(const subject *x, const gpt_session_params *params) {
    gpt_session *s = NULL;
    gpt_error err;
    CHECK(gpt_session_new(&s, x->m, params, &err) == GPT_OK, "%s", err.msg);
    return s;
}

typedef struct guest { subject *x; gpt_session *s; float *room; uint32_t polls, good, bad; } guest;

/* A poll hook that computes another session's text now and then. */
static gpt_poll compute_guest(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    guest *g = (guest *)user;
    if (g->polls++ % 8 == 0) { if (same_logits(g->x, g->s, g->room)) g->good++; else g->bad++; }
    return GPT_GO;
}

static void compute_often(void *user) {
    guest *g = (guest *)user;
    int k;
    for (k = 0; k < 3; k++) { if (same_logits(g->x, g->s, g->room)) g->good++; else g->bad++; }
}

static void test_sessions(const char *path, int runs_expected) {
    subject x;
    gpt_session_params params = session_params(NULL);
    gpt_session *s;
    gpt_model_info info;
    float *room[3];
    size_t i, bytes;
    int t;
    x.m = load(path, NULL);
    if (!x.m) return;
    gpt_model_info_get(x.m, &info);
    x.n_vocab = info.n_vocab;
    for (i = 0; i < N_TOKEN; i++) x.ids[i] = (gpt_token)((i * i * 31 + 7) % x.n_vocab);
    bytes = N_PART * x.n_vocab * sizeof(float);
    x.want = (float *)need(bytes);
    for (i = 0; i < 3; i++) room[i] = (float *)need(bytes);
    s = session(&x, &params);
    CHECK(s && logits_of(&x, s, x.want), "%s: one thread cannot compute", path);
    gpt_session_free(s);

    for (t = 1; t <= 8; t++) {
        pool *p = new_pool(t);
        gpt_model *first = x.m;
        guest g[2];
        params = session_params(p);
        n_run = 0;
        s = session(&x, &params);
        CHECK(s && same_logits(&x, s, room[0]), "%s: %d threads give other logits than one", path, t);
        CHECK(!runs_expected || t == 1 || n_run > 0, "%s: nothing was shared out", path);
        gpt_session_free(s);

        n_run = 0;
        x.m = load(path, p);
        s = x.m ? session(&x, &params) : NULL;
        CHECK(s && same_logits(&x, s, room[0]), "%s: loaded by %d threads it gives other logits", path, t);
        CHECK(!runs_expected || t == 1 || n_run > 0, "%s: nothing of the load was shared out", path);
        gpt_session_free(s);
        gpt_model_free(x.m);
        x.m = first;

        memset(g, 0, sizeof g);                 /* a session at work in the poll hook of another on the same pool */
        for (i = 0; i < 2; i++) { g[i].x = &x; g[i].room = room[i]; g[i].s = session(&x, &params); }
        params.hooks.poll = compute_guest;
        params.hooks.poll_user = &g[0];
        s = session(&x, &params);
        CHECK(s && same_logits(&x, s, room[2]), "%s: %d threads, a hook that computes: other logits", path, t);
        CHECK(g[0].good && !g[0].bad, "%s: %d threads, in the hook: %u good, %u bad", path, t, (unsigned)g[0].good, (unsigned)g[0].bad);
        gpt_session_free(s);

        g[0].good = g[0].bad = 0;               /* two sessions of two threads at once on the same pool */
        at_once(compute_often, g, sizeof g[0], 2);
        for (i = 0; i < 2; i++)
            CHECK(g[i].good == 3 && !g[i].bad, "%s: %d threads, session %u of two at once: %u good, %u bad", path, t, (unsigned)i, (unsigned)g[i].good, (unsigned)g[i].bad);
        for (i = 0; i < 2; i++) gpt_session_free(g[i].s);
        pool_free(p);
    }
    gpt_model_free(x.m);
    free(x.want);
    for (i = 0; i < 3; i++) free(room[i]);
}

static void sessions_gpt2(void)  { test_sessions("tests/golden/model/gpt2.gguf", 0); }   /* little of it is worth sharing */
static void sessions_llama(void) { test_sessions("tests/golden/model/llama_q8_0.gguf", 0); }
static void sessions_bundled(void) {
    static const char bundled[] = "examples/models/stories.gguf";
    FILE *f = fopen(bundled, "rb");
    if (!f) { printf("unit_pool: %s is not there\n", bundled); return; }
    fclose(f);
    test_sessions(bundled, 1);
}

static const test tests[] = {
    { "units", test_units }, { "all_help", test_all_help }, { "nested", test_nested },
    { "callers", test_callers }, { "life", test_life }, { "sessions_gpt2", sessions_gpt2 },
    { "sessions_llama_q8_0", sessions_llama }, { "sessions_bundled", sessions_bundled }, { NULL, NULL }
};

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_pool");
}
