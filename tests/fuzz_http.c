/* Fuzzer of what examples/server.c reads: HTTP requests, whole and in pieces, which must come out the same; then, without a model, the
 * JSON in their bodies: messages, tools, forms, sampling. For clang -fsanitize=fuzzer. Built without, it has a main that replays the
 * files it is given, their beginnings and changed bytes. */
#define _POSIX_C_SOURCE 200809L
#define main server_main
#include "../examples/server.c"
#undef main

static const char hermes[] = "<tool_call>\n{\"name\": \"x\", \"arguments\": {}}", llama[] = "<|start_header_id|>ipython \"parameters\"",
    gemma[] = "<start_function_call> <escape>", harmony[] = "<|channel|>commentary<|message|>";

static void feed(http *h, const uint8_t *data, size_t size, size_t piece) {
    size_t at = 0;
    while (at < size && !h->status) {
        const size_t n = size - at < piece ? size - at : piece, used = http_feed(h, (const char *)data + at, n);
        if (!used || used > n) abort();
        at += used;
        if (piece > 1) piece = 1 + (piece * 7 + at) % 97;
    }
    if (h->body.n > BODY_MAX || h->line.n > HEAD_MAX) abort();
    if (h->status && h->status != 200 && (!h->why || !*h->why)) abort();
}

/* An answer is one whole HTTP message with a JSON body that is as long as it says. */
static void check_answer(const client *c, int post) {
    const char *body, *length;
    if (!c->answered) { if (!post || c->r.phase != QUEUED) abort(); return; }
    body = find(c->out.p, c->out.p + c->out.n, "\r\n\r\n");
    if (!body || strncmp(c->out.p, "HTTP/1.1 ", 9)) abort();
    body += 4;
    length = find(c->out.p, body, "\r\nContent-Length: ");
    if (!length) { if (strncmp(c->out.p + 9, "204", 3)) abort(); return; }
    if (!strcmp(c->h.method, "HEAD")) return;
    if (strtoul(length + 18, NULL, 10) != (unsigned long)(c->out.p + c->out.n - body)) abort();
    if (gpt_json_get(body, (size_t)(c->out.p + c->out.n - body), "", NULL, 0, NULL) != 'o') abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const templates[] = { hermes, llama, gemma, harmony };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    static server sv;
    static client c;
    http whole, pieces;
    if (!size || size > 1 << 17) return 0;
    memset(&sv, 0, sizeof sv);
    sv.sampling = sampling;
    sv.name = "model";
    sv.key = data[0] & 4 ? "sesame" : "";
    sv.chat_template = templates[data[0] & 3];
    sv.info.n_vocab = 300, sv.info.n_embd = 64, sv.session.n_ctx = 128;
    data++, size--;
    memset(&whole, 0, sizeof whole);
    memset(&pieces, 0, sizeof pieces);
    feed(&whole, data, size, size ? size : 1);
    feed(&pieces, data, size, data[-1] & 8 ? 1 : 2);
    if (whole.status != pieces.status || whole.stage != pieces.stage || strcmp(whole.path, pieces.path) || strcmp(whole.method, pieces.method) ||
        strcmp(whole.key, pieces.key) || strcmp(whole.origin, pieces.origin) || whole.body.n != pieces.body.n ||
        (whole.body.n && memcmp(whole.body.p, pieces.body.p, whole.body.n)) || whole.close != pieces.close) abort();
    http_clear(&pieces);
    memset(&c, 0, sizeof c);
    c.sv = &sv;
    c.h = whole;
    if (whole.status == 200) {
        admit(&c);
        if (!c.answered) serve(&c);
        check_answer(&c, route_of(c.h.path) >= 0 && routes[route_of(c.h.path)].post);
    }
    request_clear(&c.r);
    http_clear(&c.h);
    clear(&c.out);
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

int main(int argc, char **argv) {
    int i;
    for (i = 1; i < argc; i++) replay(argv[i], 1500);
    return test_report("fuzz_http");
}
#endif
