/* Threads for gpt_parallel: a small pool that does no harm on cores which other programs use. POSIX threads or Windows; C99 or
 * C++11; include it after gpt.h, which needs no more than the gpt_parallel that it fills in:
 *
 *     pool *p = pool_new(0);                   // as many threads as the machine has processors, the caller included
 *     session.hooks.parallel = pool_parallel(p);       // gpt_session_params, of as many sessions as you like
 *     model.parallel = pool_parallel(p);       // gpt_model_params: a load
 *     ...
 *     pool_free(p);                            // after them; NULL is fine
 *
 * A job is cut into pieces that the threads claim one by one, the caller too. It waits for claimed pieces, never for a thread: a
 * thread that the system does not run costs next to nothing. Threads without work look out for some for a moment, then sleep.
 * One job at a time: where sessions of several threads share a pool, or a hook computes, who comes second computes alone. */
#ifndef POOL_H
#define POOL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
typedef HANDLE             pool_thread;
typedef SRWLOCK            pool_lock;
typedef CONDITION_VARIABLE pool_signal;
#  define POOL_LOCK(p)   AcquireSRWLockExclusive(&(p)->lock)
#  define POOL_UNLOCK(p) ReleaseSRWLockExclusive(&(p)->lock)
#  define POOL_WAIT(p)   SleepConditionVariableSRW(&(p)->signal, &(p)->lock, INFINITE, 0)
#  define POOL_WAKE(p)   WakeAllConditionVariable(&(p)->signal)
#  define POOL_YIELD()   SwitchToThread()
#else
#  include <pthread.h>
#  include <sched.h>
#  include <unistd.h>
typedef pthread_t          pool_thread;
typedef pthread_mutex_t    pool_lock;
typedef pthread_cond_t     pool_signal;
#  define POOL_LOCK(p)   pthread_mutex_lock(&(p)->lock)
#  define POOL_UNLOCK(p) pthread_mutex_unlock(&(p)->lock)
#  define POOL_WAIT(p)   pthread_cond_wait(&(p)->signal, &(p)->lock)
#  define POOL_WAKE(p)   pthread_cond_broadcast(&(p)->signal)
#  define POOL_YIELD()   sched_yield()
#endif

/* Numbers that threads share: all in one order. FETCH_ADD and SWAP give what was there before. */
#if defined(_MSC_VER) && !defined(__clang__)
#  include <intrin.h>
#  define POOL_LOAD(at)         ((uint32_t)_InterlockedOr((volatile long *)(at), 0))
#  define POOL_SWAP(at, v)      ((uint32_t)_InterlockedExchange((volatile long *)(at), (long)(v)))
#  define POOL_FETCH_ADD(at, v) ((uint32_t)_InterlockedExchangeAdd((volatile long *)(at), (long)(v)))
#else
#  define POOL_LOAD(at)         __atomic_load_n(at, __ATOMIC_SEQ_CST)
#  define POOL_SWAP(at, v)      __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST)
#  define POOL_FETCH_ADD(at, v) __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST)
#endif
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#  define POOL_RELAX() __builtin_ia32_pause()
#elif defined(__GNUC__) && (defined(__aarch64__) || defined(__arm__))
#  define POOL_RELAX() __asm__ __volatile__("yield")
#elif defined(_WIN32)
#  define POOL_RELAX() YieldProcessor()
#else
#  define POOL_RELAX() ((void)0)
#endif

enum {
    POOL_SPIN = 4000,           /* looks for work before a thread sleeps: some hundred microseconds */
    POOL_PATIENCE = 1000,       /* looks at a piece that another thread has, before the core is lent to whoever wants it */
    POOL_PIECES = 4,            /* pieces for each thread, where each is worth a trip between cores: */
    POOL_PIECE = 1 << 17,       /* multiply-adds */
    POOL_QUIT = 1 << 15
};

typedef struct pool {
    uint32_t word; char gap_0[60];      /* pieces << 16 | the next to be claimed, all that claiming needs: a word that was read long
                                         * ago cannot be taken for another; or POOL_QUIT */
    uint32_t done; char gap_1[60];      /* finished pieces */
    uint32_t busy, asleep;
    size_t   n;                         /* the job */
    gpt_task task;
    void    *arg;
    int      n_thread, n_started;       /* the caller included */
    pool_lock    lock;
    pool_signal  signal;
    pool_thread *thread;                /* [n_thread], the first unused */
} pool;

static inline int pool_has_work(pool *p) {
    uint32_t w = POOL_LOAD(&p->word);
    return (w & 0xFFFF) < w >> 16;
}

/* Does one piece after the other until none is left. Pieces begin at a multiple of 4 where there are many: kernels like that. */
static inline void pool_claim(pool *p, int worker) {
    uint32_t w;
    while (w = POOL_FETCH_ADD(&p->word, 1), (w & 0xFFFF) < w >> 16) {
        const size_t i = w & 0xFFFF, k = w >> 16, unit = p->n / k >= 8 ? 4 : 1, all = (p->n + unit - 1) / unit;
        const size_t begin = all * i / k * unit, end = all * (i + 1) / k * unit;
        if (begin < end) p->task(p->arg, begin, end < p->n ? end : p->n, worker);
        POOL_FETCH_ADD(&p->done, 1);
    }
}

static inline void pool_help(pool *p, int worker) {
    int idle = 0;
    while (!(POOL_LOAD(&p->word) & POOL_QUIT)) {
        if (pool_has_work(p)) { pool_claim(p, worker); idle = 0; }
        else if (++idle < POOL_SPIN) POOL_RELAX();
        else {
            POOL_LOCK(p);
            POOL_FETCH_ADD(&p->asleep, 1);
            while (!pool_has_work(p) && !(POOL_LOAD(&p->word) & POOL_QUIT)) POOL_WAIT(p);
            POOL_FETCH_ADD(&p->asleep, (uint32_t)-1);
            POOL_UNLOCK(p);
            idle = 0;
        }
    }
}

static inline void pool_post(pool *p, uint32_t word) {
    POOL_SWAP(&p->word, word);
    if (!POOL_LOAD(&p->asleep)) return;
    POOL_LOCK(p);       /* nobody is between a last look and sleep */
    POOL_UNLOCK(p);
    POOL_WAKE(p);
}

static inline void pool_run(void *user, size_t n, size_t cost, gpt_task task, void *arg) {
    pool *p = (pool *)user;
    size_t threads = (size_t)p->n_started, k = n * cost / POOL_PIECE;
    int idle;
    if (k < threads) k = threads;
    if (k > threads * POOL_PIECES) k = threads * POOL_PIECES;
    if (k > (n + 1) / 2) k = (n + 1) / 2;
    if (k < 2 || p->n_started < 2 || POOL_SWAP(&p->busy, 1)) { task(arg, 0, n, 0); return; }
    p->n = n; p->task = task; p->arg = arg;
    POOL_SWAP(&p->done, 0);
    pool_post(p, (uint32_t)k << 16);
    pool_claim(p, 0);
    for (idle = 0; POOL_LOAD(&p->done) != k; idle++) {
        if (idle < POOL_PATIENCE) POOL_RELAX();
        else POOL_YIELD();
    }
    POOL_SWAP(&p->busy, 0);
}

typedef struct { pool *p; int worker; } pool_start;
#ifdef _WIN32
static DWORD WINAPI pool_main(LPVOID arg) {
#else
static inline void *pool_main(void *arg) {
#endif
    pool_start start = *(pool_start *)arg;
    free(arg);
    pool_help(start.p, start.worker);
    return 0;
}

/* Starts thread number worker; 0 when the system refuses. */
static inline int pool_spawn(pool *p, int worker) {
    pool_start *start = (pool_start *)malloc(sizeof *start);
    int ok;
    if (!start) return 0;
    start->p = p;
    start->worker = worker;
#ifdef _WIN32
    p->thread[worker] = CreateThread(NULL, 0, pool_main, start, 0, NULL);
    ok = p->thread[worker] != NULL;
#else
    ok = !pthread_create(&p->thread[worker], NULL, pool_main, start);
#endif
    if (!ok) free(start);
    return ok;
}

static inline int pool_processors(void) {
#ifdef _WIN32
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (int)info.dwNumberOfProcessors;
#else
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

/* A pool of n_thread threads, the caller included; 0 = as many as there are processors, at most 256. NULL when memory runs out;
 * with fewer threads when the system gives no more. */
static inline pool *pool_new(int n_thread) {
    pool *p = (pool *)calloc(1, sizeof *p);
    if (n_thread <= 0) n_thread = pool_processors();
    if (n_thread < 1) n_thread = 1;
    if (n_thread > 256) n_thread = 256;
    if (!p) return NULL;
    p->thread = (pool_thread *)calloc((size_t)n_thread, sizeof *p->thread);
    if (!p->thread) { free(p); return NULL; }
#ifdef _WIN32
    InitializeSRWLock(&p->lock);
    InitializeConditionVariable(&p->signal);
#else
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->signal, NULL);
#endif
    p->n_thread = n_thread;
    for (p->n_started = 1; p->n_started < n_thread && pool_spawn(p, p->n_started); p->n_started++) {}
    return p;
}

static inline gpt_parallel pool_parallel(pool *p) {
    gpt_parallel parallel = { NULL, NULL, 0 };
    if (!p || p->n_started < 2) return parallel;
    parallel.run = pool_run;
    parallel.user = p;
    parallel.n_worker = p->n_started;
    return parallel;
}

static inline void pool_free(pool *p) {
    int i;
    if (!p) return;
    pool_post(p, POOL_QUIT);
    for (i = 1; i < p->n_started; i++) {
#ifdef _WIN32
        WaitForSingleObject(p->thread[i], INFINITE);
        CloseHandle(p->thread[i]);
#else
        pthread_join(p->thread[i], NULL);
#endif
    }
#ifndef _WIN32
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->signal);
#endif
    free(p->thread);
    free(p);
}

#endif
