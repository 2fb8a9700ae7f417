/* The page's half in C, examples/web.c, with a page in C around it: what it writes is what gpt_generate writes, what it says of
 * tokens is what gpt_score and gpt_sample say, and any file leads to a model or to a text. Runs from the repository's root. */
#include "../examples/web.c"
#include "test.h"

static unsigned char *file;
static size_t file_bytes;
static double clock_ms;
static char said[1 << 16];
static size_t n_said, n_thought;

unsigned page_read(double offset, void *to, unsigned n) {
    const size_t at = (size_t)offset, m = at > file_bytes ? 0 : n < file_bytes - at ? n : file_bytes - at;
    if (m) memcpy(to, file + at, m);
    return (unsigned)m;
}
void page_progress(double done, double total) { CHECK(done <= total, "%g of %g", done, total); }
double page_now(void) { return clock_ms++; }
void page_say(int thought, const char *text, unsigned n) {
    if (thought) { n_thought += n; return; }
    if (n > sizeof said - 1 - n_said) n = (unsigned)(sizeof said - 1 - n_said);
    memcpy(said + n_said, text, n);
    said[n_said += n] = 0;
}

static void ask(const char *text) {
    char *to = web_room((unsigned)strlen(text));
    CHECK(to != NULL, "no room");
    if (to) strcpy(to, text);
    n_said = 0; *said = 0;
}
/* Steps of one look at the clock each, to the end or `most` of them; the last result. */
static int steps(int r, int most) {
    while (r == GPT_MORE && most-- > 0) r = web_step(0);
    return r;
}

static int look(unsigned at) {
    int r = web_look(at);
    while (r == GPT_MORE) r = web_look_step(0);
    return r;
}

/* The same sampling in a session of its own. */
static gpt_session *alone;
static int take(void *user, const char *text, size_t n) { strncat((char *)user, text, n); return 0; }

static void test_story(void) {
    static const char *const prompt[] = { "Once upon a time", "", "One day, a little dragon", "A face: \xF0\x9F\x98\x80 and" };
    static char text[1 << 16];
    gpt_generate_params params;
    gpt_error err;
    const gpt_token *id;
    size_t n, i;
    int seed;
    for (seed = 0; seed < 8; seed++) {
        const char *p = prompt[seed % 4 == 1 && web.info.bos < 0 ? 0 : seed % 4];
        web_sampling(seed < 4 ? 0.8 : seed < 6 ? 0.3 : 0, 40, 0.95, 0.05, seed & 1 ? 1.03 : 1, seed, 60);
        ask(p);
        CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
        params = web.gen;
        *text = 0;
        gpt_session_reset(alone);
        if (!*p) CHECK(!gpt_eval(alone, &web.info.bos, 1, &err), "%s", err.msg);   /* as build/generate begins a text */
        CHECK(!gpt_generate(alone, p, &params, take, text, &err), "%s", err.msg);
        CHECK(!strcmp(text, said), "seed %d: expected '%s', found '%s'", seed, text, said);
        id = gpt_session_tokens(alone, &n);
        CHECK(n == web_n() && !memcmp(id, web_ids(), n * sizeof *id), "seed %d: other tokens, %lu and %u", seed, (unsigned long)n, web_n());
        if (n == web_n()) {
            float *logprob = (float *)malloc(n * sizeof *logprob);
            gpt_token *copy = (gpt_token *)malloc(n * sizeof *copy);
            memcpy(copy, id, n * sizeof *copy);
            gpt_session_reset(alone);
            CHECK(!gpt_score(alone, copy, n, logprob, &err), "%s", err.msg);
            for (i = 1; i < n; i++) {
                const gpt_logprob *top = web_tops() + i * N_TOP;
                CHECK(fabsf(logprob[i] - web_logprobs()[i]) < 1e-4f, "token %lu: expected %g, found %g", (unsigned long)i,
                      (double)logprob[i], (double)web_logprobs()[i]);
                CHECK(top[0].logprob >= top[1].logprob && top[0].logprob >= logprob[i] - 1e-4f, "token %lu: not the likeliest", (unsigned long)i);
                if (top->token == copy[i]) CHECK(fabsf(top->logprob - logprob[i]) < 1e-4f, "token %lu", (unsigned long)i);
            }
            CHECK(web_tops()->token == -1, "something foretells the first token");
            free(logprob); free(copy);
        }
    }
}

/* Stopped anywhere, going on gives the text that it would have been. */
static void test_stop(void) {
    static char whole[1 << 16];
    int n;
    web_sampling(0.8, 40, 0.95, 0.05, 1, 3, 40);
    ask("Once upon a time");
    CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
    CHECK(web_state(1) == GPT_FINISH_LENGTH || web_state(1) == GPT_FINISH_END, "finish %u", web_state(1));
    strcpy(whole, said);
    for (n = 1; n < 400; n += 37) {
        ask("Once upon a time");
        if (steps(web_story(1), n) != GPT_MORE) break;
        web_stop();
        CHECK(web_step(1000) == GPT_OK, "it goes on after the end");
        if (web.phase != IDLE || !n_said) continue;
        CHECK(web_state(1) == GPT_FINISH_HOST, "finish %u", web_state(1));
        CHECK(steps(web_more(), 1000000) == GPT_OK, "%s", web_error());
        CHECK(!strncmp(said, whole, strlen(whole)), "stopped after %d steps: expected '%s', found '%s'", n, whole, said);
    }
    ask("Once upon a time");
    CHECK(steps(web_story(0), 1000000) == GPT_OK && !n_said && web_n() > 1, "the prompt alone: %u tokens, '%s'", web_n(), said);
}

/* What could have come: the samplers' own draws, of many seeds, are those that the chart shows, as often. */
static void test_spread(void) {
    enum { DRAWS = 2000 };
    static const struct { double temp; int top_k; double top_p, min_p, repeat; } t[] = {
        { 0.8, 40, 0.95, 0.05, 1 }, { 1, 0, 1, 0, 1 }, { 1.5, 3, 1, 0, 1 }, { 1, 0, 0.5, 0, 1.3 }, { 0.3, 0, 1, 0.2, 1.03 },
        { 2, 0, 0.3, 0, 1 }, { 0, 40, 0.95, 0.05, 1.5 }, { 1, 10, 0, 0, 1 }, { 1.2, 100, 0.9, 0.01, 2 } };
    gpt_error err;
    size_t i, k, at;
    web_sampling(0.8, 40, 0.95, 0.05, 1, 11, 30);
    ask("Once upon a time there was a dog. The dog had a dog, and the");
    CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
    for (at = 2; at <= web_n(); at += 17) {
        CHECK(look((unsigned)at) == GPT_OK, "%s", web_error());
        gpt_session_reset(alone);
        CHECK(!gpt_eval(alone, web_ids(), at, &err), "%s", err.msg);
        for (i = 0; i < sizeof t / sizeof *t; i++) {
            int count[N_SPREAD] = { 0 }, others = 0, n, d;
            double sum = 0, before = 0;
            web_sampling(t[i].temp, t[i].top_k, t[i].top_p, t[i].min_p, t[i].repeat, 0, 0);
            n = web_spread();
            CHECK(n == N_SPREAD, "%d tokens", n);
            for (d = 0; d < DRAWS; d++) {
                gpt_sample_params p = web.gen.sample;
                gpt_token id;
                p.seed = (uint64_t)d;
                id = gpt_sample(alone, &p);
                for (k = 0; k < N_SPREAD && web_chances()[k].token != id; k++) {}
                if (k < N_SPREAD) count[k]++; else others++;
            }
            for (k = 0; k < N_SPREAD; k++) {
                const double p = web_chances()[k].after, often = (double)count[k] / DRAWS;
                sum += p;
                before += web_chances()[k].before;
                CHECK(p > 0 || !count[k], "place %lu, setting %lu: token %d has no chance, and came %d times", (unsigned long)at,
                      (unsigned long)i, web_chances()[k].token, count[k]);
                CHECK(fabs(p - often) < 0.005 + 5 * sqrt(p * (1 - p) / DRAWS), "place %lu, setting %lu: token %d: chance %g, came %g",
                      (unsigned long)at, (unsigned long)i, web_chances()[k].token, p, often);
            }
            CHECK(before <= 1.0001 && sum <= 1.0001 && fabs(1 - sum - (double)others / DRAWS) < 0.05, "sums %g and %g, others %g", before, sum,
                  (double)others / DRAWS);
            CHECK(web_left() >= 1 && (t[i].temp > 0 || web_left() == 1) && (t[i].top_k == 0 || web_left() <= (unsigned)t[i].top_k),
                  "%u are left", web_left());
        }
    }
}

/* Attention sums to 1, the last layer's lens is what comes next, what was expected is the same as when it was written; a look
 * changes nothing, and may come while a text is being written. */
static void test_look(void) {
    const size_t n_layer = web.info.n_layer, n_head = web.info.n_head;
    static char before[1 << 16];
    unsigned at, n;
    size_t l, h, i;
    web_sampling(0.8, 40, 0.95, 0.05, 1, 5, 30);
    ask("Once upon a time");
    CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
    strcpy(before, said);
    CHECK(look(web_n() + 1) == GPT_E_ARG, "a place behind the end");
    for (at = web_n() + 1; at-- > 0;) {
        gpt_logprob top[N_TOP];
        CHECK(look(at) == GPT_OK, "place %u: %s", at, web_error());
        if (at && at < web_n()) {
            gpt_top(web.base, web.info.n_vocab, N_TOP, top);
            CHECK(!memcmp(top, web_tops() + at * N_TOP, sizeof top), "place %u: something else was expected", at);
        }
        if (at == web_n()) continue;
        for (l = 0; l < n_layer; l++) {
            CHECK(web_heads()[l] == n_head, "layer %lu has %u heads", (unsigned long)l, web_heads()[l]);
            for (h = 0; h < web_heads()[l]; h++) {
                double sum = 0;
                for (i = 0; i <= at; i++) sum += (double)web_attention((int)l, (int)h)[i];
                CHECK(fabs(sum - 1) < 1e-3, "place %u, head %lu.%lu: attention sums to %g", at, (unsigned long)l, (unsigned long)h, sum);
            }
        }
        if (at + 1 < web_n()) CHECK(web_lens((int)n_layer - 1)->token == web_tops()[(at + 1) * N_TOP].token, "place %u: the lens", at);
    }
    ask("Once upon a time");
    n = 0;
    for (int r = web_story(1); r == GPT_MORE; r = web_step(0)) {
        if (web.phase == WRITING && n++ % 50 == 0) CHECK(web_look(web_n() / 2) == GPT_MORE, "%s", web_error());
        web_look_step(0);
    }
    while (web_look_step(0) == GPT_MORE) {}
    CHECK(n > 50 && !strcmp(before, said), "looks change the text: '%s', '%s'", before, said);
}

/* Another token in one place: what is ahead of it stays, it is judged, and the text goes on. */
static void test_instead(void) {
    gpt_token had[64], other;
    float logprob[64];
    gpt_error err;
    unsigned n;
    web_sampling(0.8, 40, 0.95, 0.05, 1, 5, 20);
    ask("Once upon a time");
    CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
    n = web_n() - 10;
    memcpy(had, web_ids(), n * sizeof *had);
    other = web_tops()[n * N_TOP + (web_tops()[n * N_TOP].token == web_ids()[n])].token;
    CHECK(steps(web_instead(n, other), 1000000) == GPT_OK, "%s", web_error());
    CHECK(web_n() > n && !memcmp(had, web_ids(), n * sizeof *had) && web_ids()[n] == other, "not the same up to token %u", n);
    gpt_session_reset(alone);
    had[n] = other;
    CHECK(!gpt_score(alone, had, n + 1, logprob, &err), "%s", err.msg);
    CHECK(fabsf(logprob[n] - web_logprobs()[n]) < 1e-4f, "expected %g, found %g", (double)logprob[n], (double)web_logprobs()[n]);
    CHECK(web_instead(0, other) == GPT_E_ARG && web_instead(web_n() + 1, other) == GPT_E_ARG && web_instead(2, -1) < 0
        && web_instead(2, (gpt_token)web.info.n_vocab) < 0, "no such place or token");
}

static void test_errors(void) {
    char *to;
    size_t n = 40000;
    web_sampling(0.8, 40, 0.95, 0.05, 1, 5, 20);
    CHECK((to = web_room((unsigned)n)) != NULL, "no room");
    if (to) memset(to, 'q', n);
    CHECK(web_story(1) == GPT_E_CONTEXT && strstr(web_error(), "do not fit"), "%s", web_error());
    CHECK(web_step(100) == GPT_OK, "%s", web_error());
    to = web_room(64);
    if (to) memcpy(to, "2026-01-31\0user\0Hello\0", 22);
    CHECK(web_chat(1) < 0 && strstr(web_error(), "template"), "a model without a template: %s", web_error());
    ask("Once");
    CHECK(steps(web_story(1), 1000000) == GPT_OK, "%s", web_error());
    CHECK(web_load((double)file_bytes) == GPT_E_STATE, "a second model");
    CHECK(!strcmp(web_name(3), "") && !strcmp(web_name(9), "") && web_number(99) == 0 && web_number(0) > 0, "names and numbers");
}

/* Files that end early, or have a byte of another value in their head: a text, or a model. */
static void test_files(void) {
    const size_t whole = file_bytes;
    size_t i;
    for (i = 0; i < 400; i++) {
        file_bytes = i < 200 ? i * i * whole / 40000 : whole;
        if (i >= 200) file[(i - 200) * (i - 200) / 4] ^= 0x55;
        if (i >= 200 || web.m == NULL) {
            const int r = web_load((double)file_bytes);
            CHECK(i >= 200 || (r < 0 && *web_error()), "%lu bytes of the file load", (unsigned long)file_bytes);
            if (i >= 200) {
                CHECK(r == GPT_OK || (r < 0 && *web_error()), "result %d, '%s'", r, web_error());
                gpt_session_free(web.s);
                gpt_model_free(web.m);
                free(web.id); free(web.logprob); free(web.top); free(web.row);
                memset(&web, 0, sizeof web);
                file[(i - 200) * (i - 200) / 4] ^= 0x55;
            }
        }
    }
    file_bytes = whole;
}

static const test tests[] = { { "story", test_story }, { "stop", test_stop }, { "spread", test_spread }, { "look", test_look },
    { "instead", test_instead }, { "errors", test_errors }, { NULL, NULL } };

int main(int argc, char **argv) {
    const char *path = getenv("GPT_TEST_MODEL");
    gpt_session_params params;
    FILE *f = fopen(path && *path ? path : "examples/models/stories.gguf", "rb");
    if (!f) { printf("skipped: unit_web: no model\n"); return test_report("unit_web"); }
    fseek(f, 0, SEEK_END);
    file_bytes = (size_t)ftell(f);
    rewind(f);
    file = (unsigned char *)malloc(file_bytes);
    if (!file || fread(file, 1, file_bytes, f) != file_bytes) { printf("unit_web: cannot read the model\n"); return 1; }
    fclose(f);
    test_files();
    CHECK(web_load((double)file_bytes) == GPT_OK, "%s", web_error());
    memset(&params, 0, sizeof params);
    if (web.m) CHECK(!gpt_session_new(&alone, web.m, &params, &web.err), "%s", web_error());
    if (alone) test_run(tests, argc, argv);
    gpt_session_free(alone);
    gpt_session_free(web.look); gpt_session_free(web.s); gpt_model_free(web.m);
    free(web.id); free(web.logprob); free(web.top); free(web.row); free(web.in); free(web.base); free(web.x); free(web.list);
    free(web.n_head); free(web.stream); free(web.att); free(file);
    return test_report("unit_web");
}
