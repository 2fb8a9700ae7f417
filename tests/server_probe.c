/* Raw sockets against build/server, which server_test.sh has started: what the openai package cannot send. POSIX.
 *     server_probe PORT KEY [TEST...]      KEY "": none; --list names the tests */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "gpt.h"
#include "test.h"

enum { PLENTY = 4 << 20, WAIT = 20000 };

static int port;
static const char *key;
static int context;              /* tokens of a text, as /slots says */
static char got[PLENTY];                /* the last answer */
static size_t n_got;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int dial_with(int buffer) {      /* buffer: bytes that the system takes in for us; 0: as many as it likes */
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) { perror("connect"); exit(2); }
    return fd;
}
static int dial(void) { return dial_with(0); }

static void say(int fd, const char *p, size_t n) {
    while (n) {
        const ssize_t k = send(fd, p, n, 0);
        if (k <= 0) return;
        p += k;
        n -= (size_t)k;
    }
}

/* What comes until the connection ends, or `until` has come up, or nothing came for ms; its status, 0: none. */
static int hear(int fd, const char *until, int ms) {
    struct pollfd p;
    n_got = 0;
    got[0] = 0;
    p.fd = fd;
    p.events = POLLIN;
    while (n_got < PLENTY - 1 && poll(&p, 1, ms) > 0) {
        const ssize_t k = recv(fd, got + n_got, PLENTY - 1 - n_got, 0);
        if (k <= 0) break;
        n_got += (size_t)k;
        got[n_got] = 0;
        if (until && strstr(got, until)) break;
    }
    return n_got > 12 && !strncmp(got, "HTTP/1.1 ", 9) ? atoi(got + 9) : 0;
}

/* One request on a connection of its own, which is closed behind it; the answer's status. */
static int ask_raw(const char *p, size_t n) {
    const int fd = dial();
    int status;
    say(fd, p, n);
    status = hear(fd, NULL, WAIT);
    close(fd);
    return status;
}
static int ask_text(const char *p) { return ask_raw(p, strlen(p)); }

static size_t request(char *out, size_t size, const char *method, const char *path, const char *more, const char *body) {
    return (size_t)snprintf(out, size, "%s %s HTTP/1.1\r\nHost: x\r\n%s%s%s%sContent-Length: %lu\r\n\r\n%s", method, path, *key ? "Authorization: Bearer " : "",
                            key, *key ? "\r\n" : "", more, (unsigned long)strlen(body), body);
}
static int ask(const char *method, const char *path, const char *more, const char *body) {
    static char out[PLENTY];
    char closing[512];
    snprintf(closing, sizeof closing, "Connection: close\r\n%s", more);
    return ask_raw(out, request(out, sizeof out, method, path, closing, body));
}
static int post(const char *path, const char *body) { return ask("POST", path, "", body); }

static const char *body_of(void) { const char *p = strstr(got, "\r\n\r\n"); return p ? p + 4 : ""; }

/* A member of the answer's body as a string. */
static const char *value(const char *path) {
    static char out[1 << 16];
    const char *body = body_of();
    if (gpt_json_get(body, strlen(body), path, out, sizeof out, NULL) <= 0) strcpy(out, "(none)");
    return out;
}

/* The contents of a stream's events, one behind the other, chunks undone; *n_event, *last: the last event. */
static char streamed[1 << 16], last_event[4096];
static int n_event, n_reason, n_bad;
static void read_stream(const char *path) {
    static char plain[PLENTY];
    size_t n = 0, k;
    const char *p = body_of(), *end = got + n_got;
    streamed[0] = last_event[0] = 0;
    n_event = n_reason = n_bad = 0;
    if (strstr(got, "chunked")) {
        while (p < end && (k = strtoul(p, NULL, 16)) > 0) {
            p = strstr(p, "\r\n");
            if (!p || k > (size_t)(end - p - 2)) break;
            memcpy(plain + n, p + 2, k);
            n += k;
            p += 4 + k;
        }
        plain[n] = 0;
    } else strcpy(plain, p);
    for (p = plain; (p = strstr(p, "data: ")) != NULL; ) {
        const char *stop = strstr(p += 6, "\n\n");
        char one[4096];
        if (!stop) break;
        snprintf(last_event, sizeof last_event, "%.*s", (int)(stop - p), p);
        n_event++;
        if (strncmp(p, "[DONE]", 6)) {
            if (gpt_json_get(p, (size_t)(stop - p), "", NULL, 0, NULL) != 'o') n_bad++;
            if (gpt_json_get(p, (size_t)(stop - p), path, one, sizeof one, NULL) == 's') strcat(streamed, one);
            n_reason += gpt_json_get(p, (size_t)(stop - p), "choices[0].finish_reason", NULL, 0, NULL) == 's';
        }
    }
}

static void rest(int ms) {
    struct timespec t;
    t.tv_sec = ms / 1000;
    t.tv_nsec = ms % 1000 * 1000000l;
    nanosleep(&t, NULL);
}

/* ---- The tests -------------------------------------------------------------------------------------------------------- */

static void test_malformed(void) {
    static const struct { const char *request; int status; } bad[] = {
        { "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200 }, { "GET /health HTTP/1.0\r\n\r\n", 200 },
        { "\r\nGET /health?x HTTP/1.1\r\nhOST: x\r\nconnection: CLOSE\r\n\r\n", 200 },
        { "GET /health HTTP/1.1\r\n\r\n", 400 }, { "GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400 },
        { "GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505 }, { "GET /health\r\nHost: x\r\n\r\n", 400 }, { "GET  /health HTTP/1.1\r\n\r\n", 400 },
        { "get /health HTTP/1.1\r\nHost: x\r\n\r\n", 400 }, { "GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
        { "GET /health HTTP/1.1\nHost: x\n\n", 400 }, { "GET /health HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400 },
        { "GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400 }, { "GET /health HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400 },
        { "GET /health HTTP/1.1\r\nHost: x\r\nA: \001\r\n\r\n", 400 }, { "GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400 },
        { "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404 },
        { "DELETE /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405 },
        { "GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n{", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n", 413 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n", 413 },
        { "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}", 417 },
    };
    static char big[40 << 10];
    size_t i, n;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int keyed = *key && (bad[i].status == 404 || bad[i].status == 405 || (strstr(bad[i].request, ": chunked\r\n\r\n") && !strstr(bad[i].request, "Content"))), status = ask_text(bad[i].request);
        CHECK(status == (keyed ? 401 : bad[i].status), "%.60s: expected %d, found %d", bad[i].request, bad[i].status, status);
        if (status != 200) CHECK(strcmp(value("error.message"), "(none)"), "%.60s: an error in OpenAI's form: %s", bad[i].request, got);
    }
    CHECK(ask_raw("GET /he\0lth HTTP/1.1\r\nHost: x\r\n\r\n", 33) == 400, "a zero byte: %s", got);
    n = (size_t)sprintf(big, "GET /health HTTP/1.1\r\nHost: x\r\nA: ");
    memset(big + n, 'a', sizeof big - n);
    CHECK(ask_raw(big, sizeof big) == 431, "a head of 40 KiB: %.60s", got);
    n = (size_t)sprintf(big, "GET /health HTTP/1.1\r\nHost: x\r\n");
    while (n < sizeof big - 8) n += (size_t)sprintf(big + n, "A: b\r\n");
    CHECK(ask_raw(big, n) == 431, "very many fields: %.60s", got);
    for (i = 0; i < sizeof big; i++) big[i] = (char)(i * 7919 >> 3);
    CHECK(ask_raw(big, sizeof big) == 400, "noise: %.60s", got);
}

static void test_json(void) {
    static char deep[70000];
    static const struct { const char *path, *body; int status; const char *message; } cases[] = {
        { "/v1/chat/completions", "", 400, "JSON" }, { "/v1/chat/completions", "[]", 400, "JSON" }, { "/v1/chat/completions", "{\"messages\":", 400, "JSON" },
        { "/v1/chat/completions", "{}", 400, "messages" }, { "/v1/chat/completions", "{\"messages\":[]}", 400, "messages" },
        { "/v1/chat/completions", "{\"messages\":[1]}", 400, "messages[0]" }, { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\"}]}", 400, "content" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400, "image_url" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"n\":2}", 400, "n: expected 1" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"temperature\":-1}", 400, "temperature" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"temperature\":1e999}", 400, "temperature" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":1.5}", 400, "max_tokens" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":0}", 400, "max_tokens" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":1}", 400, "stream" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stop\":[\"\"]}", 400, "stop" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"top_logprobs\":2}", 400, "logprobs" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"logit_bias\":{\"99999999\":1}}", 400, "logit_bias" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"response_format\":{\"type\":\"xml\"}}", 400, "response_format" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
          "{\"properties\":{\"a\":{\"multipleOf\":3.5}}}}}}", 400, "/properties/a" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[{\"type\":\"function\"}]}", 400, "tools[0]" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"a\",\"arguments\":\"{\"}}]}]}", 400, "tool_calls[0]" },
        { "/completion", "{\"prompt\":\"a\",\"grammar\":\"root ::= x\"}", 400, "x" }, { "/v1/completions", "{}", 400, "prompt" },
        { "/v1/completions", "{\"prompt\":\"\",\"echo\":true}", 400, "echo" }, { "/v1/completions", "{\"prompt\":[99999999]}", 400, "prompt" },
        { "/v1/completions", "{\"prompt\":[\"a\",\"b\"]}", 400, "prompt" }, { "/v1/embeddings", "{}", 400, "input" }, { "/v1/embeddings", "{\"input\":[]}", 400, "input" },
        { "/v1/embeddings", "{\"input\":\"a\",\"dimensions\":1}", 400, "dimensions" }, { "/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"x\"}", 400, "encoding_format" },
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status = post(cases[i].path, cases[i].body);
        CHECK(status == cases[i].status && strstr(value("error.message"), cases[i].message), "%s: expected %d and '%s': %s", cases[i].body, cases[i].status, cases[i].message, got);
    }
    memset(deep, '[', 60000);
    memcpy(deep, "{\"messages\":", 12);
    CHECK(post("/v1/chat/completions", deep) == 400, "60,000 brackets: %.200s", got);
    strcpy(deep, "{\"prompt\":\"");
    memset(deep + 11, 'a', 60000);
    strcpy(deep + 60011, "\"}");
    CHECK(post("/v1/completions", deep) == 400 && !strcmp(value("error.code"), "context_length_exceeded"), "a prompt that does not fit: %.300s", got);
}

static void test_key(void) {
    char more[600], wrong[300];
    if (!*key) return;
    const char *good = key;
    key = "";
    CHECK(ask("GET", "/v1/models", "", "") == 401 && strstr(got, "WWW-Authenticate"), "no key: %s", got);
    CHECK(ask("GET", "/health", "", "") == 200, "health needs no key: %s", got);
    snprintf(wrong, sizeof wrong, "%sx", good);
    snprintf(more, sizeof more, "Authorization: Bearer %s\r\n", wrong);
    CHECK(ask("GET", "/v1/models", more, "") == 401, "a longer key: %s", got);
    snprintf(wrong, sizeof wrong, "%.*s", (int)strlen(good) - 1, good);
    snprintf(more, sizeof more, "Authorization: Bearer %s\r\n", wrong);
    CHECK(ask("GET", "/v1/models", more, "") == 401, "a shorter key: %s", got);
    snprintf(more, sizeof more, "Authorization: %s\r\n", good);
    CHECK(ask("GET", "/v1/models", more, "") == 401, "no Bearer: %s", got);
    snprintf(more, sizeof more, "Authorization: bearer  %s\r\n", good);
    CHECK(ask("GET", "/v1/models", more, "") == 200, "the key: %s", got);
    snprintf(more, sizeof more, "X-Api-Key: %s\r\n", good);
    CHECK(ask("GET", "/v1/models", more, "") == 200, "the key in a field of its own: %s", got);
    CHECK(ask("OPTIONS", "/v1/chat/completions", "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n"
              "Access-Control-Request-Headers: authorization\r\n", "") == 204, "a preflight has no key: %s", got);
    key = good;
}

/* A page of another site must not use the server; one of this machine may. */
static void test_origin(void) {
    static const char body[] = "{\"prompt\":\"Once\",\"max_tokens\":2,\"seed\":1}", streaming[] = "{\"prompt\":\"Once\",\"max_tokens\":2,\"seed\":1,\"stream\":true}";
    char asked[400], *p = asked + sprintf(asked, "Origin: http://localhost\r\nAccess-Control-Request-Headers: ");
    memset(p, 'a', 255);
    strcpy(p + 255, "\r\n");
    CHECK(ask("OPTIONS", "/v1/completions", asked, "") == 204 && strstr(got, p), "headers that are asked for: %s", got);
    strcpy(p, "x-a, b\"c\r\n");
    CHECK(ask("OPTIONS", "/v1/completions", asked, "") == 204 && !strstr(got, "x-a") && strstr(got, "Allow-Headers: authorization"), "others: %s", got);
    CHECK(post("/v1/completions", body) == 200 && !strstr(got, "Allow-Origin"), "no origin: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: http://localhost:3000\r\n", body) == 200 && strstr(got, "Access-Control-Allow-Origin: http://localhost:3000\r\n"), "of this machine: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: http://127.0.0.1:80\r\n", streaming) == 200 && strstr(got, "Access-Control-Allow-Origin: http://127.0.0.1:80\r\n"), "streamed: %s", got);
    CHECK(ask("OPTIONS", "/v1/completions", "Origin: http://[::1]\r\nAccess-Control-Request-Method: POST\r\n", "") == 204 && strstr(got, "Allow-Headers: "), "preflight: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: https://other.example\r\n", body) == 403 && !strstr(got, "Allow-Origin") && !strstr(got, "\"text\""), "foreign: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: null\r\n", body) == 403 && !strstr(got, "Allow-Origin"), "null: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: http://localhost.other.example\r\n", body) == 403, "begins like ours: %s", got);
    CHECK(ask("POST", "/v1/completions", "Origin: http://localhost:80@other.example\r\n", body) == 403, "begins like ours, with a port: %s", got);
    CHECK(ask("OPTIONS", "/v1/completions", "Origin: https://other.example\r\nAccess-Control-Request-Method: POST\r\n", "") == 403 && !strstr(got, "Allow-Origin"), "foreign preflight: %s", got);
}

static void test_pieces(void) {         /* byte by byte, chunked, two in one piece, 100-continue, HTTP/1.0 */
    char out[2000];
    const char *json = "{\"prompt\":\"Once upon a time\",\"max_tokens\":5,\"seed\":3}";
    char expected[400];
    size_t n, i;
    int fd = dial();
    CHECK(post("/v1/completions", json) == 200, "at once: %s", got);
    snprintf(expected, sizeof expected, "%s", value("choices[0].text"));
    n = request(out, sizeof out, "POST", "/v1/completions", "", json);
    for (i = 0; i < n; i++) { say(fd, out + i, 1); if (i % 16 == 0) rest(1); }
    CHECK(hear(fd, "\"usage\"", WAIT) == 200 && !strcmp(value("choices[0].text"), expected), "byte by byte: %s", got);
    n = (size_t)snprintf(out, sizeof out, "POST /v1/completions HTTP/1.1\r\nHost: x\r\n%s%s%sTransfer-Encoding: chunked\r\n\r\n%lx;a=b\r\n%.*s\r\n%lX\r\n%s\r\n0\r\nX: y\r\n\r\n",
                         *key ? "Authorization: Bearer " : "", key, *key ? "\r\n" : "", 10ul, 10, json, (unsigned long)strlen(json) - 10, json + 10);
    say(fd, out, n);
    CHECK(hear(fd, "\"usage\"", WAIT) == 200 && !strcmp(value("choices[0].text"), expected), "chunked, on the same connection: %s", got);
    n = request(out, sizeof out, "POST", "/v1/completions", "", json);
    n += request(out + n, sizeof out - n, "GET", "/health", "Connection: close\r\n", "");
    say(fd, out, n);
    CHECK(hear(fd, NULL, WAIT) == 200 && strstr(got, "\"usage\"") && strstr(got, "{\"status\":\"ok\"}"), "two at once: %s", got);
    close(fd);
    fd = dial();
    n = request(out, sizeof out, "POST", "/v1/completions", "Expect: 100-continue\r\n", json);
    say(fd, out, n - strlen(json));
    CHECK(hear(fd, "\r\n\r\n", WAIT) == 100, "100-continue: %s", got);
    say(fd, json, strlen(json));
    CHECK(hear(fd, "\"usage\"", WAIT) == 200 && !strcmp(value("choices[0].text"), expected), "behind it: %s", got);
    close(fd);
    snprintf(out, sizeof out, "POST /v1/completions HTTP/1.0\r\n%s%s%sContent-Length: %lu\r\n\r\n{\"stream\":true,%s", *key ? "Authorization: Bearer " : "", key, *key ? "\r\n" : "",
             (unsigned long)strlen(json) + 14, json + 1);
    CHECK(ask_text(out) == 200 && !strstr(got, "chunked"), "HTTP/1.0: %s", got);
    read_stream("choices[0].text");
    CHECK(!strcmp(streamed, expected) && !strcmp(last_event, "[DONE]"), "HTTP/1.0, a stream: %s", got);
    CHECK(ask("HEAD", "/v1/models", "", "") == 200 && !*body_of() && strstr(got, "Content-Length: "), "HEAD: %s", got);
}

/* The first n letters and spaces in a row behind the first `at` bytes of a text; 0: there are none. */
static int piece(char *out, const char *text, size_t at, size_t n) {
    size_t i, row = 0;
    for (i = 0; text[i]; i++) {
        const int c = text[i] | 32;
        row = i >= at && ((c >= 'a' && c <= 'z') || text[i] == ' ') ? row + 1 : 0;
        if (row == n) { memcpy(out, text + i + 1 - n, n); out[n] = 0; return 1; }
    }
    return 0;
}

/* What is streamed is what comes at once, to the byte, and that is the plain text up to the first stop string; what was held back
 * for one that does not come is in it. The stop strings are pieces of the plain text. */
static void test_stream(void) {
    static const struct { const char *form; size_t at, n; } stops[] = { { "[]", 0, 1 }, { "[\"%s\"]", 12, 4 }, { "[\"%s\"]", 30, 16 },
        { "[\"never there\",\"%s\"]", 40, 5 }, { "[\"%s#\",\"e#\"]", 8, 9 }, { "[\"%s\",\"%s\",\"%s\"]", 25, 9 } };
    char body[600], whole[8000], plain[8000], reason[40], natural[40], stop[200], text[40] = "";
    size_t i, j, k, cut, n_cut;
    for (k = 0; k < 2; k++) {
        for (n_cut = i = 0; i < sizeof stops / sizeof *stops; i++) {
            const char *path = k ? "/v1/chat/completions" : "/v1/completions", *field = k ? "choices[0].delta.content" : "choices[0].text";
            const char *form = k ? "{\"messages\":[{\"role\":\"user\",\"content\":\"Once upon a time\"}],\"max_tokens\":40,\"seed\":5,\"stop\":%s%s}"
                                 : "{\"prompt\":\"Once upon a time\",\"max_tokens\":40,\"seed\":5,\"stop\":%s%s}";
            if (i && (!piece(text, plain, stops[i].at, stops[i].n) || strchr(plain, '#'))) continue;
            snprintf(stop, sizeof stop, stops[i].form, text, text + (i == 5) * 2, text + (i == 5) * 4);
            snprintf(body, sizeof body, form, stop, "");
            CHECK(post(path, body) == 200, "%s: %s", body, got);
            snprintf(whole, sizeof whole, "%s", value(k ? "choices[0].message.content" : "choices[0].text"));
            snprintf(reason, sizeof reason, "%s", value("choices[0].finish_reason"));
            if (!i) { strcpy(plain, whole); strcpy(natural, reason); }
            snprintf(body, sizeof body, form, stop, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
            CHECK(post(path, body) == 200 && strstr(got, "text/event-stream"), "%s: %s", body, got);
            read_stream(field);
            CHECK(!strcmp(streamed, whole), "stop %s: streamed '%s', at once '%s'", stop, streamed, whole);
            CHECK(!n_bad && n_reason == 1 && !strcmp(last_event, "[DONE]"), "stop %s: %d reasons, %d broken events, last '%s'", stop, n_reason, n_bad, last_event);
            cut = strlen(plain);
            for (j = 0; i && i != 4 && j <= (i == 5) * 4; j += 2) {
                const char *first = strstr(plain, text + j);
                if (first && (size_t)(first - plain) < cut) cut = (size_t)(first - plain);
            }
            n_cut += cut < strlen(plain);
            CHECK(!strcmp(reason, plain[cut] ? "stop" : natural), "stop %s: reason %s", stop, reason);
            CHECK(strlen(whole) == cut && !memcmp(whole, plain, cut), "stop %s: '%s', expected %d bytes of '%s'", stop, whole, (int)cut, plain);
            CHECK(strstr(got, "\"choices\":[],\"usage\":{"), "stop %s: no usage", stop);
        }
        CHECK(n_cut == 4 || ask("GET", "/v1/models", "", "") != 200 || strcmp(value("data[0].id"), "stories"), "%d of 4 stop strings come in '%s'", (int)n_cut, plain);
    }
}

/* Many at once, each in a slot or waiting for one: the text that each has alone. */
static void test_many(void) {
    enum { MANY = 50, KINDS = 10 };
    static char alone[KINDS][4000];
    static const char *const prompts[KINDS] = { "Once upon a time", "The dog", "One day, Tom", "Lily and Sam", "A big red ball", "There was a cat",
        "Mom said", "In the park", "Once upon a time, there was a", "The little bird" };
    char out[1000], body[600];
    int fd[MANY], i, same = 0, stream;
    for (i = 0; i < KINDS; i++) {
        snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":%d,\"seed\":%d,\"temperature\":1.2}", prompts[i], 20 + i, i);
        CHECK(post("/v1/completions", body) == 200, "alone: %s", got);
        snprintf(alone[i], sizeof alone[i], "%s", value("choices[0].text"));
    }
    for (i = 0; i < MANY; i++) {
        stream = i % 3 == 0;
        snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":%d,\"seed\":%d,\"temperature\":1.2%s}", prompts[i % KINDS], 20 + i % KINDS, i % KINDS, stream ? ",\"stream\":true" : "");
        fd[i] = dial();
        say(fd[i], out, request(out, sizeof out, "POST", "/v1/completions", "Connection: close\r\n", body));
    }
    for (i = 0; i < MANY; i++) {
        const char *text;
        const int status = hear(fd[i], NULL, 60000);
        close(fd[i]);
        if (i % 3 == 0) { read_stream("choices[0].text"); text = streamed; } else text = value("choices[0].text");
        same += status == 200 && !strcmp(text, alone[i % KINDS]);
        if (strcmp(text, alone[i % KINDS])) printf("client %d, status %d: '%s' is not '%s'\n", i, status, text, alone[i % KINDS]);
    }
    CHECK(same == MANY, "%d of %d clients at once have the text that they have alone", same, MANY);
}

/* Texts that are under way, of those held; tokens of all. */
static int n_working(int held, long *n_token) {
    int i, n = 0;
    char path[40];
    CHECK(ask("GET", "/slots", "", "") == 200, "slots: %s", got);
    for (*n_token = 0, i = 0; ; i++) {
        snprintf(path, sizeof path, "[%d].n_past", i);
        if (!strcmp(value(path), "(none)")) return n;
        *n_token += atol(value(path));
        snprintf(path, sizeof path, "[%d].%s", i, held ? "is_held" : "is_processing");
        n += !strcmp(value(path), "true");
    }
}
/* A client that reads nothing is held: its text waits, others go on, and at last it has all of its text. For a model with room for an
 * answer that is larger than all buffers. */
static void test_slow(void) {
    static const char form[] = "{\"prompt\":\"Once\",\"max_tokens\":%d,\"seed\":9,\"temperature\":1.5,\"ignore_eos\":true,\"stream\":true,\"logprobs\":20}";
    char out[1000], body[400], expected[20000];
    size_t size;
    long before = 0, after = 0;
    int fd, i;
    snprintf(body, sizeof body, form, context > 2000 ? 1500 : context - 30);
    CHECK(post("/v1/completions", body) == 200, "at once: %.300s", got);
    read_stream("choices[0].text");
    snprintf(expected, sizeof expected, "%s", streamed);
    size = n_got;
    fd = dial_with(4096);
    say(fd, out, request(out, sizeof out, "POST", "/v1/completions", "Connection: close\r\n", body));
    for (i = 0; i < 5; i++) CHECK(post("/v1/completions", "{\"prompt\":\"The cat\",\"max_tokens\":20,\"seed\":1}") == 200, "others go on: %s", got);
    if (size > 800000) {
        for (i = 0; i < 300 && !n_working(1, &before); i++) rest(100);
        CHECK(i < 300, "it was never held: %s", got);
        n_working(1, &before);
        rest(300);
        CHECK(n_working(1, &after) == 1 && before == after, "held, it had %ld tokens, then %ld: %s", before, after, got);
        for (i = 0; i < 5; i++) CHECK(post("/v1/completions", "{\"prompt\":\"The cat\",\"max_tokens\":20,\"seed\":1}") == 200, "others go on: %s", got);
    } else printf("skipped: a context of %d has no answer that is large enough to be held\n", context);
    CHECK(hear(fd, NULL, WAIT) == 200, "the slow one: %.100s", got);
    read_stream("choices[0].text");
    CHECK(!strcmp(streamed, expected) && !strcmp(last_event, "[DONE]"), "the slow one has all of its text: '%s'", streamed);
    close(fd);
    fd = dial_with(4096);                               /* and one that is held and goes away takes its text along */
    say(fd, out, request(out, sizeof out, "POST", "/v1/completions", "Connection: close\r\n", body));
    rest(size > 800000 ? 1000 : 0);
    close(fd);
    for (i = 0; i < 100 && n_working(0, &before); i++) rest(50);
    CHECK(i < 100, "the text of a client that has gone is under way: %s", got);
}

/* Clients that go away, at every stage: their texts end, and nobody waits behind them. */
static void test_vanished(void) {
    char body[400], out[1000];
    size_t n;
    long n_token;
    double begin;
    int i;
    snprintf(body, sizeof body, "{\"prompt\":\"Once\",\"max_tokens\":%d,\"seed\":9,\"ignore_eos\":true,\"stream\":true}", context - 20);
    n = request(out, sizeof out, "POST", "/v1/completions", "", body);
    for (i = 0; i < 120; i++) {
        const int fd = dial();
        struct linger now = { 1, 0 };
        if (i % 3 == 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);        /* with a reset */
        say(fd, out, i % 4 ? n : n - (size_t)i);
        if (i % 5 == 0 && i % 4) hear(fd, "data: ", WAIT);
        close(fd);
    }
    begin = seconds();
    CHECK(post("/v1/completions", "{\"prompt\":\"The cat\",\"max_tokens\":4,\"seed\":1}") == 200, "the next one: %s", got);
    CHECK(seconds() - begin < 20, "it waited for %.1f s", seconds() - begin);
    for (i = 0; i < 100 && n_working(0, &n_token); i++) rest(20);
    CHECK(i < 100, "texts of clients that have gone are under way: %s", got);
}

/* Connections that say nothing are no hindrance, up to the bound; where all are taken an idle one makes room. */
static void test_full(void) {
    enum { MOST = 256 };
    int fd[MOST + 8], i, refused = 0;
    for (i = 0; i < MOST + 8; i++) fd[i] = dial();
    rest(1200);
    CHECK(ask("GET", "/health", "", "") == 200, "idle ones make room: %s", got);
    for (i = 0; i < MOST + 8; i++) close(fd[i]);
    for (i = 0; i < MOST + 8; i++) { fd[i] = dial(); say(fd[i], "GET /health HTTP/1.1\r\nHost: ", 28); }
    for (i = 0; i < MOST + 8; i++) refused += hear(fd[i], "\r\n\r\n", i < MOST ? 0 : 1000) == 503;
    CHECK(refused >= 4, "of %d that are half a request the last are refused: %d of 8", (int)MOST + 8, refused);     /* a slow one may have made room */
    for (i = 0; i < MOST + 8; i++) close(fd[i]);
    for (i = 0; i < 50 && ask("GET", "/health", "", "") != 200; i++) rest(100);
    CHECK(i < 50, "then it answers again: %s", got);
}

/* A request whose text broke off at half a character or in the middle of a stop string leaves nothing to the next one. */
static void test_alone(void) {
    char first[4000], free_text[4000], stop[1000];
    CHECK(post("/v1/completions", "{\"prompt\":\"One day, Tom and Sam\",\"max_tokens\":9,\"seed\":1}") == 200, "%s", got);
    snprintf(first, sizeof first, "%s", value("choices[0].text"));
    snprintf(stop, sizeof stop, "%.*s", (int)strcspn(first, "\"\\\n"), first);      /* what is written, but another end */
    CHECK(strlen(stop) > 12, "nine tokens have some words: %s", first);
    for (int i = 1; i < 12; i++) {
        char body[4000];
        snprintf(body, sizeof body, "{\"prompt\":\"One day, Tom and Sam\",\"max_tokens\":%d,\"seed\":1}", i);
        CHECK(post("/v1/completions", body) == 200, "%s", got);
        snprintf(free_text, sizeof free_text, "%s", value("choices[0].text"));
        snprintf(body, sizeof body, "{\"prompt\":\"One day, Tom and Sam\",\"max_tokens\":%d,\"seed\":1,\"stop\":[\"%s|\",\"%s|\",\"%s|\"]}", i, stop, stop + strlen(stop) / 2, stop + strlen(stop) - 4);
        CHECK(post("/v1/completions", body) == 200 && !strcmp(value("choices[0].text"), free_text), "what might begin a stop string, at the limit: '%s', "
              "expected '%s'", value("choices[0].text"), free_text);
        CHECK(post("/v1/completions", "{\"prompt\":\"One day, Tom and Sam\",\"max_tokens\":9,\"seed\":1}") == 200 && !strcmp(value("choices[0].text"), first),
              "behind %s: '%s', expected '%s'", body, value("choices[0].text"), first);
    }
}

/* A bot that has learned by heart, for a prompt that is the name of a syntax, a call in it, and "Yes." ahead of it; for others, no
 * call. The server has the syntax's name as its model's. */
static void test_calls(void) {
    static const char form[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0,\"max_tokens\":150,\"stream\":%s,\"tools\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"look\",\"parameters\":{\"type\":\"object\",\"properties\":{\"item\":{\"enum\":[\"rope\",\"coin\"]}},\"required\":[\"item\"],\"additionalProperties\":false}}}]}";
    char body[800], model[40], args[200], item[20] = "";
    const char *content;
    CHECK(ask("GET", "/v1/models", "", "") == 200, "models: %s", got);
    snprintf(model, sizeof model, "%s", value("data[0].id"));
    if (!strcmp(model, "stories") || !strcmp(model, "toy")) return;
    content = !strcmp(model, "llama3") || !strcmp(model, "harmony") ? "(none)" : "Yes.";
    snprintf(body, sizeof body, form, model, "false");
    CHECK(post("/v1/chat/completions", body) == 200 && !strcmp(value("choices[0].finish_reason"), "tool_calls"), "%s: a call: %s", model, got);
    CHECK(!strcmp(value("choices[0].message.tool_calls[0].function.name"), "look"), "%s: its name: %s", model, got);
    snprintf(args, sizeof args, "%s", value("choices[0].message.tool_calls[0].function.arguments"));
    gpt_json_get(args, strlen(args), "item", item, sizeof item, NULL);
    CHECK(!strcmp(item, "rope") || (!strcmp(model, "llama3") && gpt_json_get(args, strlen(args), "", NULL, 0, NULL) == 'o'), "%s: its arguments: %s", model, got);
    /* llama3's calls stand in a grammar, where arguments are any object: the bot has not learned its cut into tokens */
    CHECK(!strcmp(value("choices[0].message.content"), strcmp(content, "Yes.") ? "null" : content), "%s: what stands ahead of it: %s", model, got);
    snprintf(body, sizeof body, form, model, "true");
    CHECK(post("/v1/chat/completions", body) == 200, "%s: streamed: %s", model, got);
    read_stream("choices[0].delta.content");
    CHECK(!strcmp(streamed, strcmp(content, "Yes.") ? "" : content) && n_reason == 1 && strstr(got, "\"finish_reason\":\"tool_calls\""), "%s: streamed: '%s' %s", model, streamed, got);
    read_stream("choices[0].delta.tool_calls[0].function.arguments");
    CHECK(!strcmp(streamed, args), "%s: streamed: '%s', expected '%s'", model, streamed, args);
    snprintf(body, sizeof body, form, "no", "true");
    CHECK(post("/v1/chat/completions", body) == 200, "%s: no call: %s", model, got);
    read_stream("choices[0].delta.content");
    CHECK(!strcmp(streamed, "I say: no [b] <b>."), "%s: no call: '%s'", model, streamed);
    snprintf(body, sizeof body, form, "think", "false");
    CHECK(post("/v1/chat/completions", body) == 200 && !strcmp(value("choices[0].message.content"), "Done."), "%s: behind the thinking: %s", model, got);
    CHECK(!strcmp(value("choices[0].message.reasoning_content"), "Hm."), "%s: the thinking: %s", model, got);
    snprintf(body, sizeof body, form, "think", "true");
    CHECK(post("/v1/chat/completions", body) == 200, "%s: %s", model, got);
    read_stream("choices[0].delta.reasoning_content");
    CHECK(!strcmp(streamed, "Hm."), "%s: the thinking, streamed: '%s'", model, streamed);
    read_stream("choices[0].delta.content");
    CHECK(!strcmp(streamed, "Done."), "%s: behind it: '%s'", model, streamed);
}

static void test_vectors(void) {
    char one[20000];
    CHECK(ask("GET", "/v1/models", "", "") == 200, "models: %s", got);
    if (strcmp(value("data[0].id"), "bert")) return;
    CHECK(post("/v1/embeddings", "{\"input\":[\"a\",\"a b\"]}") == 200 && !strcmp(value("object"), "list"), "two texts: %s", got);
    snprintf(one, sizeof one, "%s", value("data[0].embedding"));
    CHECK(post("/v1/embeddings", "{\"input\":[2,5,3]}") == 200 && !strcmp(value("data[0].embedding"), one), "the first by its ids: %s", got);
    CHECK(atol(value("usage.prompt_tokens")) == 3, "usage: %s", got);
    CHECK(post("/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"base64\"}") == 200 && strlen(value("data[0].embedding")) % 4 == 0, "base64: %s", got);
    CHECK(post("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}") == 400 && strstr(got, "vectors alone"), "no chat: %s", got);
    CHECK(post("/v1/completions", "{\"prompt\":\"a\"}") == 400 && strstr(got, "vectors alone"), "no text: %s", got);
}

static const test tests[] = { { "calls", test_calls }, { "vectors", test_vectors }, { "malformed", test_malformed }, { "json", test_json }, { "key", test_key }, { "origin", test_origin }, { "pieces", test_pieces },
    { "stream", test_stream }, { "many", test_many }, { "slow", test_slow }, { "vanished", test_vanished }, { "full", test_full }, { "alone", test_alone }, { NULL, NULL } };

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: server_probe PORT KEY [TEST...]\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    key = argv[2];
    context = ask("GET", "/slots", "", "") == 200 ? atoi(value("[0].n_ctx")) : 0;
    test_run(tests, argc - 2, argv + 2);
    return test_report("server_probe");
}
