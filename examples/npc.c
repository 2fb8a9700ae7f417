/* Three characters in a game of 60 frames a second. They share a world (a frozen session, computed once), write as one batch of
 * a work space, in slices of 2 ms a frame, and are saved and loaded in mid-sentence. What a game needs is in the first half. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "line.h"
#ifdef _WIN32
#  include <conio.h>
#endif

static const char about[] =
    "usage: npc -m MODEL [options]\n\n"
    "A village with three characters. Walk with w a s d or the arrows; near somebody Enter begins a line and says it.\n"
    "C: they chat by themselves, or no longer; S: save, L: load, also while they speak; Q: the end.\n"
    "Without a terminal it reads lines: \"Mia, how are you?\", save, load.";

enum { N = 3, FPS = 60, LINE = 512 };
static const double budget = 0.002;                 /* seconds of each frame that are the AI's */

typedef struct {                                    /* what the game itself knows of a character's talk */
    uint32_t turn;                                  /* lines it has begun */
    int      talks;                                 /* the last one is being written: */
    size_t   n_line;
    char     line[LINE];
} speech;

typedef struct { speech now; unsigned char *text; size_t n; } snapshot;     /* of a character; text: of its session */

typedef struct {
    const char  *name, *nature;                     /* nature: how its text goes on behind the world's */
    gpt_session *s;
    size_t       keep;                              /* tokens of world and nature: what it never forgets */
    speech       now;
    snapshot     saved;
} character;

typedef struct {
    gpt_model   *m;
    gpt_work    *w;
    gpt_session *world;
    character    npc[N];
    uint64_t     seed;
    uint32_t     round, saved_round;                /* of the talk among themselves */
    double       deadline;                          /* 0 = none */
} game;

/* Plain text serves story models and chat models alike: a speaker's line ends at its quotation mark. */
static const char world_text[] =
    "Once upon a time, Mia the baker, Tom the fisherman and old Sam lived in a small village by the sea. They were best friends. "
    "They met on the square and talked all day.\n";
static const char *const ends[] = { "\"", "\n" };

/* ---- The AI of a game: start, talk, think, save, load ---------------------------------------------------------------- */

/* Asked between slices of work, everyone's: is the time of this frame over? */
static gpt_poll ask(void *user, size_t done, size_t total) {
    const game *g = (const game *)user;
    (void)done; (void)total;
    if (args_stopped) return GPT_CANCEL;
    return g->deadline > 0 && args_seconds() >= g->deadline ? GPT_PAUSE : GPT_GO;
}

static void start(game *g, args_common *c) {
    gpt_work_params work;
    gpt_session_params session;
    gpt_model_info info;
    gpt_error err;
    gpt_result r;
    size_t n, n_world;
    gpt_token *ids;
    g->m = args_load(c, ARGS_WRITER);
    gpt_model_info_get(g->m, &info);
    /* 1. The room in which passes are computed: sessions that share it are computed together. */
    memset(&work, 0, sizeof work);
    work.n_batch = 64;
    work.n_threads = 1;
    work.hooks.parallel = args_parallel(c);
    work.hooks.poll = ask;
    work.hooks.poll_user = g;
    if (gpt_work_new(&g->w, g->m, &work, &err)) args_die("%s", err.msg);
    /* 2. The world: a session that is computed, then frozen. */
    ids = args_tokenize(g->m, world_text, sizeof world_text - 1, GPT_TOKENIZE_BOS, &n_world);
    memset(&session, 0, sizeof session);
    session.work = g->w;
    session.n_ctx = (uint32_t)n_world;
    session.no_logits = 1;
    if (gpt_session_new(&g->world, g->m, &session, &err) || gpt_eval(g->world, ids, n_world, &err) ||
        gpt_session_freeze(g->world, &err)) args_die("%s", err.msg);
    free(ids);
    /* 3. The characters: their texts begin with the world's, and take memory for what is their own. */
    session.prefix = g->world;
    session.no_logits = 0;
    session.n_ctx = (uint32_t)n_world + 192;
    if (session.n_ctx > info.n_ctx) session.n_ctx = info.n_ctx;
    for (character *p = g->npc; p < g->npc + N; p++) {
        if (gpt_session_new(&p->s, g->m, &session, &err)) args_die("%s", err.msg);
        ids = args_tokenize(g->m, p->nature, strlen(p->nature), GPT_TOKENIZE_CONTINUE, &n);
        if (gpt_eval_begin(p->s, ids, n, NULL, &err)) args_die("%s", err.msg);
        p->keep = n_world + n;
        free(ids);
    }
    while ((r = gpt_work_step(g->w, &err)) == GPT_MORE) {}
    if (r && args_stopped) args_interrupted("reading the world", "");
    if (r) args_die("%s", err.msg);
}

static gpt_generate_params params_of(const game *g, const character *p) {
    gpt_generate_params params;
    memset(&params, 0, sizeof params);
    params.sample.temperature = 0.6f;
    params.sample.top_k = 40;
    params.sample.repeat_penalty = 1.1f;
    params.sample.seed = g->seed + 1000 * p->now.turn + (uint64_t)(p - g->npc);
    params.max_tokens = 40;
    params.stop = ends;
    params.n_stop = 2;
    return params;
}

/* A piece of a character's line. */
static int say(void *user, const char *text, size_t n) {
    speech *now = (speech *)user;
    for (size_t i = 0; i < n && now->n_line + 1 < LINE; i++) now->line[now->n_line++] = (unsigned char)text[i] < 32 ? ' ' : text[i];
    now->line[now->n_line] = 0;
    return 0;
}

/* Somebody says something to p, who begins an answer; what p was saying breaks off. At any time between frames. */
static void talk_to(game *g, character *p, const char *who, const char *text) {
    char prompt[2 * LINE];
    gpt_generate_params params;
    gpt_error err;
    gpt_result r;
    gpt_end(p->s);
    snprintf(prompt, sizeof prompt, "\"\n%s said, \"%s\"\n%s said, \"", who, text, p->name);
    const char *first = prompt + 2;                 /* nothing was said before that a quotation mark would end */
    p->now.talks = 1;
    p->now.turn++;
    p->now.n_line = 0;
    p->now.line[0] = 0;
    params = params_of(g, p);
    r = gpt_begin(p->s, p->now.turn > 1 ? prompt : first, &params, say, &p->now, &err);
    if (r == GPT_E_CONTEXT && !gpt_session_rewind(p->s, p->keep, &err))         /* no room: a new conversation */
        r = gpt_begin(p->s, first, &params, say, &p->now, &err);
    if (r) args_die("%s", err.msg);
}

/* All work of a frame, until the deadline: one pass after the other; the last is left where it is and gone on with in the next
 * frame. Then, who has said all? Returns how many still speak. */
static int think(game *g) {
    gpt_error err;
    gpt_result r;
    int n = 0;
    do r = gpt_work_step(g->w, &err);
    while (r == GPT_MORE && (g->deadline <= 0 || args_seconds() < g->deadline));
    if (r < 0 && !args_stopped) args_die("%s", err.msg);
    for (character *p = g->npc; p < g->npc + N; p++) {
        gpt_session_info info;
        gpt_session_info_get(p->s, &info);
        p->now.talks = info.result == GPT_MORE;
        n += p->now.talks;
        if (info.result < 0 && !args_stopped) args_die("%s: error %d", p->name, (int)info.result);
    }
    return n;
}

/* They talk among themselves: all at once, each about what another has said in the round before. Nobody begins before all have
 * ended: the text depends on the seed, and on no clock. */
static void chat(game *g) {
    static const char *const first[N] = { "Hello! What are you doing?", "What a nice day! What shall we do?", "Look, a big ship!" };
    char heard[N][LINE];
    for (int i = 0; i < N; i++) strcpy(heard[i], g->npc[i].now.n_line ? g->npc[i].now.line : first[i]);
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t dice = ((uint32_t)g->seed + N * g->round + i) * 2654435769u;
        const uint32_t other = (i + 1 + (dice >> 31)) % N;
        talk_to(g, &g->npc[i], g->npc[other].name, heard[other]);
    }
    g->round++;
}

/* Into memory; a file would hold the same bytes. GPT_SAVE_TOKENS: some KiB, and the text is computed again after loading, in slices
 * as ever. GPT_SAVE_CACHE would go on at once, but takes MiB and milliseconds: for the loading screen, not for a frame. */
static void save(const character *p, snapshot *to) {
    gpt_writer w = { NULL, NULL, 0 };
    gpt_error err;
    to->now = p->now;
    to->n = gpt_session_save_bytes(p->s, GPT_SAVE_TOKENS);
    to->text = (unsigned char *)args_need(realloc(to->text, to->n));
    w.user = to->text;
    w.size = to->n;
    if (gpt_session_save(p->s, GPT_SAVE_TOKENS, &w, &err)) args_die("%s", err.msg);
}

static void load(character *p, const snapshot *from) {
    gpt_reader r = { NULL, NULL, 0 };
    gpt_error err;
    r.user = from->text;
    r.size = from->n;
    if (gpt_session_restore(p->s, &r, &err)) args_die("%s", err.msg);
    p->now = from->now;
    if (p->now.talks && gpt_resume(p->s, NULL, say, &p->now, &err)) args_die("%s", err.msg);   /* a saved text has no pointers */
}

/* ---- The demo: it plays by itself, prints what is said, and counts the time that frames took -------------------------- */

static double cpu_seconds(void) {                   /* of this thread: what other programs take is not ours */
#if defined(CLOCK_THREAD_CPUTIME_ID) && !defined(_WIN32)
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#else
    return args_seconds();
#endif
}

/* Sleeps until the next frame is due; where the machine is late, nothing is caught up on. */
static void end_frame(double *due) {
    double left = (*due += 1.0 / FPS) - args_seconds();
    if (left <= 0) { *due -= left; return; }
#ifdef _WIN32
    Sleep((DWORD)(left * 1000));
#else
    struct timespec t;
    t.tv_sec = (time_t)left;
    t.tv_nsec = (long)((left - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
#endif
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void report(double *ms, size_t n) {
    static const double limit[] = { 0.5, 1, 1.5, 1.9, 2, 2.05, 2.1, 2.2, 2.3, 2.5, 3, 4, 1e9 };
    static const char bar[] = "##################################################";
    size_t i = 0, from;
    qsort(ms, n, sizeof *ms, by_size);
    printf("\nms of CPU time in a frame, of %lu frames:\n", (unsigned long)n);
    for (size_t k = 0; k < sizeof limit / sizeof *limit; k++) {
        for (from = i; i < n && ms[i] < limit[k]; i++) {}
        printf(limit[k] < 1e9 ? "  below %.2f" : "  more      ", limit[k]);
        printf(" %8lu  %.*s\n", (unsigned long)(i - from), (int)((sizeof bar - 1) * (i - from) / n), bar);
    }
    for (i = 0; i < n; i++) ms[i] = ms[i] > 1e3 * budget ? ms[i] - 1e3 * budget : 0;
    printf("overrun p50 p99 max %.3f %.3f %.3f\n", ms[n / 2], ms[n - 1 - n / 100], ms[n - 1]);
}

/* The loading screen: memory costs most when it is touched for the first time, so nobody is on stage yet when all of it is. They
 * say one round, then each text is made as long as it can get, and all go back to where they begin. */
static void rehearse(game *g) {
    gpt_session_info info;
    gpt_token *ids;
    gpt_error err;
    chat(g);
    while (think(g) && !args_stopped) {}
    for (character *p = g->npc; p < g->npc + N && !args_stopped; p++) {
        save(p, &p->saved);
        load(p, &p->saved);
        gpt_session_info_get(p->s, &info);
        ids = (gpt_token *)args_need(calloc(info.n_ctx, sizeof *ids));
        if ((gpt_eval(p->s, ids, info.n_ctx - info.n_token, &err) || gpt_session_rewind(p->s, p->keep, &err)) && !args_stopped)
            args_die("%s", err.msg);
        free(ids);
        p->now.turn = 0;
        p->now.n_line = 0;
        p->saved.n = 0;
    }
    g->round = 0;
}

static void demo(game *g, size_t n_frame) {
    double *ms = (double *)args_need(malloc(n_frame * sizeof *ms)), due = args_seconds();
    size_t frame;
    int busy = 0;
    for (frame = 0; frame < n_frame && !args_stopped; frame++) {
        const double begin = cpu_seconds();
        g->deadline = args_seconds() + budget;
        if (frame % 200 == 100) {                   /* one after the other is saved, forgotten and loaded, in mid-sentence */
            character *p = &g->npc[frame / 200 % N];
            save(p, &p->saved);
            gpt_session_reset(p->s);
            load(p, &p->saved);
        }
        if (!busy) {
            for (int i = 0; g->round && i < N; i++) printf("%s: %s\n", g->npc[i].name, g->npc[i].now.line);
            fflush(stdout);
            chat(g);
        }
        busy = think(g);
        ms[frame] = 1e3 * (cpu_seconds() - begin);
        end_frame(&due);
    }
    if (frame) report(ms, frame);
    free(ms);
}

/* ---- The game on a terminal ----------------------------------------------------------------------------------------- */

static const char *const map[] = {
    "########################################",
    "#  ______                  ~~~~~~~~~~~~#",
    "# /bakery\\                ~~~~~~~~~~~~~#",
    "# |__  __|        T        ~~~~~~~~~~~~#",
    "#                             ~~~~~~~~~#",
    "#     M         o               ~~~~~~~#",
    "#             (   )               ~~~~~#",
    "#               '       S           ~~~#",
    "#                                      #",
    "########################################"
};
enum { ROWS = sizeof map / sizeof *map, COLUMNS = 40, UP = 1001, DOWN, LEFT, RIGHT, NO_KEY = -3 };

typedef struct { int x, y, typing, chatter; char text[200]; size_t n; const char *note; } player;

static int screen;                                  /* the terminal is ours */
static void screen_end(void) { if (screen) fputs("\033[?25h\033[?1049l", stdout); fflush(stdout); screen = 0; }

static int screen_begin(void) {
#ifdef _WIN32
    const HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE);
    DWORD mode;
    screen = isatty(0) && GetConsoleMode(out, &mode) && SetConsoleMode(out, mode | 4);      /* 4: it knows escape sequences */
#else
    line_begin();
    screen = line_is_own();
#endif
    if (!screen) return 0;
    atexit(screen_end);
    fputs("\033[?1049h\033[?25l", stdout);
    return 1;
}

static int key(void) {                              /* NO_KEY: none is waiting */
#ifdef _WIN32
    static const struct { int code, key; } arrows[] = { { 72, UP }, { 80, DOWN }, { 75, LEFT }, { 77, RIGHT } };
    int c = _kbhit() ? _getch() : NO_KEY;
    if (c == '\r') return '\n';
    if (c != 0 && c != 224) return c;
    c = _getch();
#else
    static const struct { int code, key; } arrows[] = { { 'A', UP }, { 'B', DOWN }, { 'D', LEFT }, { 'C', RIGHT } };
    struct timeval none = { 0, 0 };
    fd_set in;
    int c;
    FD_ZERO(&in);
    FD_SET(0, &in);
    if (select(1, &in, NULL, NULL, &none) <= 0) return NO_KEY;
    c = line_key();
    if (c != 27 || (c = line_key()) != '[') return c;
    while ((c = line_key()) >= '0' && c <= '?') {}
#endif
    for (int i = 0; i < 4; i++) if (arrows[i].code == c) return arrows[i].key;
    return NO_KEY;
}

/* The character within two steps, or NULL. */
static character *near_by(game *g, const player *you) {
    for (int y = you->y < 2 ? 0 : you->y - 2; y < ROWS && y <= you->y + 2; y++)
        for (int x = you->x < 2 ? 0 : you->x - 2; x < COLUMNS && x <= you->x + 2; x++)
            for (character *p = g->npc; p < g->npc + N; p++) if (map[y][x] == *p->name) return p;
    return NULL;
}

/* What a player types goes into quotation marks. No text can do harm: none spells a control token. */
static void player_talks_to(game *g, character *p, char *text) {
    for (char *c = text; *c; c++) if (*c == '"') *c = '\'';
    if (strlen(text) >= LINE) text[LINE - 1] = 0;
    talk_to(g, p, "A friend", text);
}

static const char *save_all(game *g) {
    for (int i = 0; i < N; i++) save(&g->npc[i], &g->npc[i].saved);
    g->saved_round = g->round;
    return "saved";
}
static const char *load_all(game *g) {
    if (!g->npc[0].saved.text) return "nothing is saved";
    for (int i = 0; i < N; i++) load(&g->npc[i], &g->npc[i].saved);
    g->round = g->saved_round;
    return "loaded";
}

static int play(game *g, player *you, int c) {      /* 0: the end */
    character *p = near_by(g, you);
    int x = you->x + (c == RIGHT || c == 'd') - (c == LEFT || c == 'a');
    int y = you->y + (c == DOWN || c == 's') - (c == UP || c == 'w');
    if (c == EOF || c == 4) return 0;
    if (you->typing) {
        if (c == '\n') {
            you->typing = 0;
            if (p && you->n) player_talks_to(g, p, you->text);
        } else if ((c == 8 || c == 127) && you->n) you->text[--you->n] = 0;
        else if (c >= 32 && c < 127 && you->n + 1 < sizeof you->text) {
            you->text[you->n++] = (char)c;
            you->text[you->n] = 0;
        }
        return 1;
    }
    if (c == '\n' && p) { you->typing = 1; you->n = 0; you->text[0] = 0; }
    if (c == 'C') you->chatter = !you->chatter;
    if (c == 'S') you->note = save_all(g);
    if (c == 'L') you->note = load_all(g);
    if (map[y][x] == ' ') { you->x = x; you->y = y; }
    return c != 'Q';
}

static void draw(game *g, const player *you) {
    const character *p = near_by(g, you);
    fputs("\033[H", stdout);
    for (int y = 0; y < ROWS; y++) {
        if (y == you->y) printf("%.*s@%s\033[K\n", you->x, map[y], map[y] + you->x + 1);
        else printf("%s\033[K\n", map[y]);
    }
    for (int i = 0; i < N; i++) printf("\033[K\n%s: %s%s", g->npc[i].name, g->npc[i].now.line, g->npc[i].now.talks ? "_" : "");
    printf("\033[K\n\033[K\n");
    if (you->typing) printf("To %s: %s_", p ? p->name : "nobody", you->text);
    else if (p) printf("Enter: talk to %s", p->name);
    printf("\033[K\nw a s d: walk   C: they chat   S: save   L: load   Q: the end   %s\033[J", you->note);
    fflush(stdout);
}

static void game_loop(game *g) {
    player you = { 14, 8, 0, 0, "", 0, "" };
    double due = args_seconds();
    int c, go_on = 1, changed = 1, busy = 0, quiet = 0;
    rehearse(g);
    while (go_on && !args_stopped) {
        while (go_on && (c = key()) != NO_KEY) { go_on = play(g, &you, c); changed = 1; }
        quiet = busy ? 0 : quiet + 1;
        if (you.chatter && quiet > 2 * FPS) chat(g);                /* time to read what they said */
        g->deadline = args_seconds() + budget;
        changed |= busy;
        busy = think(g);
        if (changed || busy) draw(g, &you);
        changed = 0;
        end_frame(&due);
    }
    screen_end();
}

/* Without a terminal: a line is said to the one whose name it has, or to the first. */
static void lines(game *g) {
    char *line;
    g->deadline = 0;
    while (!args_stopped && (line = line_read("> ", "")) != NULL) {
        character *p = g->npc;
        for (int i = 0; i < N; i++) if (strstr(line, g->npc[i].name)) p = &g->npc[i];
        if (!strcmp(line, "save")) printf("[%s]\n", save_all(g));
        else if (!strcmp(line, "load")) printf("[%s]\n", load_all(g));
        else if (*line) {
            player_talks_to(g, p, line);
            while (think(g) && !args_stopped) {}
            printf("%s: %s\n", p->name, p->now.line);
        }
        fflush(stdout);
        free(line);
    }
}

int main(int argc, char **argv) {
    static game g;
    static const char *const who[N][2] = { { "Mia", "Mia loved to bake bread and cakes.\n" },
        { "Tom", "Tom loved his little red boat.\n" }, { "Sam", "Sam loved to tell stories of the sea.\n" } };
    args_common c = { 0 };
    long long seed = 0;
    int seconds = -1;
    const arg table[] = {
        ARGS_MODEL(c),
        { "-t, --threads", ARG_COUNT, &c.threads, "N", "threads; 0 = one for each processor; default: 1" },
        { "-s, --seed",    ARG_INT,   &seed,      "S", "seed of what is said (default 0); -1 = from the clock" },
        { "--demo",        ARG_COUNT, &seconds,   "SECONDS", "plays by itself: prints what is said, and how long frames took" },
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    c.threads = 1;
    args_parse(argc, argv, "npc", table, about);
    if (seed < -1) args_die("%s: expected -1 or more, got %lld", args_name("--seed"), seed);
    if (seconds == 0 || seconds > 86400) args_die("--demo: expected 1 to 86400 seconds, got %d", seconds);
    g.seed = seed == -1 ? (uint64_t)time(NULL) : (uint64_t)seed;
    for (int i = 0; i < N; i++) { g.npc[i].name = who[i][0]; g.npc[i].nature = who[i][1]; }
    signal(SIGINT, args_on_interrupt);
    start(&g, &c);
    if (seconds > 0) rehearse(&g);
    if (seconds > 0) demo(&g, (size_t)seconds * FPS);
    else if (screen_begin()) game_loop(&g);
    else lines(&g);
    args_close_stdout();
    for (int i = 0; i < N; i++) { gpt_session_free(g.npc[i].s); free(g.npc[i].saved.text); }
    gpt_work_free(g.w);                             /* sessions, work space, prefix, model */
    gpt_session_free(g.world);
    gpt_model_free(g.m);
    return args_stopped ? 130 : 0;
}
