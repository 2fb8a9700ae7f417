/* A server: the routes of OpenAI's and llama.cpp's that small tools use, over HTTP/1.1, for the programs of one machine
 * or of few. One process, one thread that waits: texts of many clients are one batch (gpt_work_step), in slices of
 * SLICE seconds, between which sockets are looked at. A client that does not read is held; one that is gone is given
 * up, and so is one that closes its side of the connection before it has its answer.
 *
 * An example, not a service: no TLS, no accounts, no files, one model. Its bounds are the constants below; what is
 * beyond them is refused with OpenAI's form of an error. A long prompt to cut into tokens, a large template or schema
 * may take half a second in which nobody gets a token; out of memory is the end. For many users or machines the same
 * GGUF file moves to llama.cpp's server or vLLM. */
#ifdef _WIN32
#  ifndef _WIN32_WINNT
#    define _WIN32_WINNT 0x0600         /* WSAPoll */
#  endif
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <winsock2.h>
#  include <ws2tcpip.h>
#else
#  include <fcntl.h>
#  include <netdb.h>
#  include <netinet/in.h>
#  include <netinet/tcp.h>
#  include <poll.h>
#  include <sys/socket.h>
#endif
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "../gpt.h"
#include "args.h"
#include "embed.h"
#include "calls.h"
#include <math.h>
#include <stddef.h>

static const char about[] =
    "usage: server -m MODEL [--port 8080] [--host 127.0.0.1] [--api-key KEY] [options]\n\n"
    "Answers over HTTP as OpenAI and llama.cpp do: POST /v1/chat/completions (stream, tools, response_format,\n"
    "logprobs), /v1/completions, /completion, /v1/embeddings; GET /v1/models, /slots, /health. Ctrl-C ends it.\n"
    "Options of sampling are what counts where a request does not say; its names are OpenAI's and llama.cpp's, n is\n"
    "1. Without a chat template in the file, and without --chat-template, a chat is the text of its messages, a line\n"
    "each, and the answer goes on from it.\n\n"
    "Bounds: 256 clients, 16 KiB of header, 1 MiB of body, 1024 messages, 128 tools, 2048 texts to embed, JSON 512\n"
    "deep, 64 KiB that a client has not read (then its text waits), a minute for a request to come or for a client to\n"
    "read on. Web pages of other origins than this machine's are refused unless --allow-origin names them. No TLS.";

enum {
    N_CLIENT = 256, N_REFUSED = 16, N_SLOT = 64,
    HEAD_MAX = 16 << 10, BODY_MAX = 1 << 20, CHUNK_LINE = 256, OUT_MAX = 64 << 10,
    N_MESSAGE = 1024, N_TOOL = 128, N_INPUT = 2048, N_STOP = 16, N_BIAS = 1024, N_TOP = 20, N_MEMBER = 100,
    PATIENCE = 60, FAREWELL = 2         /* seconds: for a client to send or read on; to see our last words */
};
static const double SLICE = 0.02;

/* ---- HTTP: a request, as it comes in pieces (RFC 9112) ----------------------------------------------------------- */

typedef enum {
    HTTP_START, HTTP_FIELD, HTTP_BODY, HTTP_CHUNK_SIZE, HTTP_CHUNK, HTTP_CHUNK_END, HTTP_TRAILER
} http_stage;

typedef struct {
    http_stage  stage;
    int         status;                 /* 0: more has to come; 200: it is whole; else what is wrong with it */
    const char *why;
    text        line, body;
    size_t      n_head, left;           /* bytes of the head so far; that the body or the chunk still has */
    int         minor, n_host, n_length, chunked, close, keep, expect;
    char        method[8], path[128], key[256], origin[256], asked[256];
} http;

static void http_clear(http *h) { clear(&h->line); clear(&h->body); memset(h, 0, sizeof *h); }

static void http_wrong(http *h, int status, const char *why) { if (!h->status) { h->status = status; h->why = why; } }

static int same_word(const char *a, const char *b) {        /* but for capitals */
    for (; *a && *b; a++, b++)
        if ((*a >= 'A' && *a <= 'Z' ? *a | 32 : *a) != (*b >= 'A' && *b <= 'Z' ? *b | 32 : *b)) return 0;
    return *a == *b;
}
/* Is the word one of a list with commas? */
static int has_word(const char *list, const char *word) {
    char one[32];
    while (*list) {
        size_t n;
        list += strspn(list, ", \t");
        n = strcspn(list, ", \t");
        snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : 0), list);
        if (n && same_word(one, word)) return 1;
        list += n;
    }
    return 0;
}

static void http_request_line(http *h) {
    const char *p = h->line.p, *target = strchr(p, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    size_t n_method = target ? (size_t)(target - p) : 0, n_path;
    for (size_t i = 0; i < n_method; i++) if (p[i] < 'A' || p[i] > 'Z') n_method = 0;
    if (!version || !n_method || strncmp(++version, "HTTP/", 5) || strchr(version, ' ') ||
        (*++target != '/' && strncmp(target, "* ", 2))) {
        http_wrong(h, 400, "a request line: expected METHOD /PATH HTTP/1.1");
        return;
    }
    if (strcmp(version, "HTTP/1.1") && strcmp(version, "HTTP/1.0")) {
        http_wrong(h, 505, "expected HTTP/1.1 or HTTP/1.0");
        return;
    }
    n_path = strcspn(target, "? ");
    h->minor = version[7] - '0';
    /* what is too long is of no route and no method that there is */
    snprintf(h->method, sizeof h->method, "%.*s", n_method < sizeof h->method ? (int)n_method : 1, p);
    snprintf(h->path, sizeof h->path, "%.*s", n_path < sizeof h->path ? (int)n_path : 1, target);
    h->stage = HTTP_FIELD;
}

static int is_token(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') ||
              (p[i] && strchr("!#$%&'*+-.^_`|~", p[i])))) return 0;
    return n > 0;
}

static void http_copy(http *h, char *to, size_t size, const char *value) {
    if (*to || strlen(value) >= size)
        http_wrong(h, 400, "a header field that comes twice, or is longer than 255 bytes");
    else strcpy(to, value);
}

static void http_field(http *h) {
    char *name = h->line.p, *value = strchr(name, ':'), *end = h->line.p + h->line.n;
    if (!value || !is_token(name, (size_t)(value - name))) {
        http_wrong(h, 400, "a header field: expected NAME: VALUE");
        return;
    }
    *value++ = 0;
    value += strspn(value, " \t");
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) *--end = 0;
    if (same_word(name, "host")) h->n_host++;
    else if (same_word(name, "content-length")) {
        size_t n = 0;
        if (h->n_length++ || !*value || strspn(value, "0123456789") != strlen(value))
            http_wrong(h, 400, "Content-Length: expected one number");
        for (; *value && n <= BODY_MAX; value++) n = 10 * n + (size_t)(*value - '0');
        h->left = n;
    } else if (same_word(name, "transfer-encoding")) {
        if (h->chunked || !same_word(value, "chunked"))
            http_wrong(h, 501, "Transfer-Encoding: expected chunked, alone");
        h->chunked = 1;
    } else if (same_word(name, "connection")) {
        h->close |= has_word(value, "close");
        h->keep |= has_word(value, "keep-alive");
    } else if (same_word(name, "expect")) {
        if (!same_word(value, "100-continue")) http_wrong(h, 417, "Expect: expected 100-continue");
        h->expect = 1;
    } else if (same_word(name, "authorization")) {
        const size_t n = strcspn(value, " ");
        if (value[n]) {
            value[n] = 0;
            if (same_word(value, "bearer"))
                http_copy(h, h->key, sizeof h->key, value + n + 1 + strspn(value + n + 1, " "));
        }
    } else if (same_word(name, "x-api-key")) http_copy(h, h->key, sizeof h->key, value);
    else if (same_word(name, "origin")) http_copy(h, h->origin, sizeof h->origin, *value ? value : "?");
    else if (same_word(name, "access-control-request-headers")) http_copy(h, h->asked, sizeof h->asked, value);
}

/* The empty line behind the fields: what comes then? */
static void http_head_ends(http *h) {
    if (h->n_host != 1 && (h->minor || h->n_host)) http_wrong(h, 400, "Host: expected one");
    if (h->chunked && (h->n_length || !h->minor))
        http_wrong(h, 400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0");
    if (h->left > BODY_MAX) http_wrong(h, 413, "the body is longer than 1 MiB");
    if (h->status) return;
    if (h->chunked) h->stage = HTTP_CHUNK_SIZE;
    else if (h->left) h->stage = HTTP_BODY;
    else h->status = 200;
}

static void http_chunk_size(http *h) {
    const char *p = h->line.p;
    size_t n = 0;
    int digits = 0;
    for (; ; p++, digits++) {
        const int c = *p | 32, digit = *p >= '0' && *p <= '9' ? *p - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
        if (digit > 15) break;
        if (n <= BODY_MAX) n = 16 * n + (size_t)digit;
    }
    if (!digits || p[strspn(p, " \t")] != (strchr(p, ';') ? ';' : 0))
        http_wrong(h, 400, "a chunk: expected its size, hexadecimal");
    else if (n > BODY_MAX - h->body.n) http_wrong(h, 413, "the body is longer than 1 MiB");
    else { h->left = n; h->stage = n ? HTTP_CHUNK : HTTP_TRAILER; }
    h->n_head = 0;
}

static void http_line(http *h) {
    put(&h->line, "", 0);
    switch (h->stage) {
    case HTTP_START:      if (h->line.n) http_request_line(h); break;
    case HTTP_FIELD:      if (h->line.n) http_field(h); else http_head_ends(h); break;
    case HTTP_CHUNK_SIZE: http_chunk_size(h); break;
    case HTTP_CHUNK_END:
        if (h->line.n) http_wrong(h, 400, "a chunk is longer than it says");
        h->stage = HTTP_CHUNK_SIZE;
        break;
    case HTTP_TRAILER:    if (!h->line.n) h->status = 200; break;
    case HTTP_BODY: case HTTP_CHUNK: break;
    }
    h->line.n = 0;
}

/* Takes bytes of a request until it is whole or wrong, at first until its head is over; returns how many. */
static size_t http_feed(http *h, const char *p, size_t n) {
    size_t i = 0;
    while (i < n && !h->status) {
        if (h->stage == HTTP_BODY || h->stage == HTTP_CHUNK) {
            const size_t k = h->left < n - i ? h->left : n - i;
            put(&h->body, p + i, k);
            i += k;
            h->left -= k;
            if (h->left) continue;
            if (h->stage == HTTP_BODY) h->status = 200; else h->stage = HTTP_CHUNK_END;
        } else {
            const unsigned char c = (unsigned char)p[i++];
            const int cr = h->line.n && h->line.p[h->line.n - 1] == '\r', head = h->stage <= HTTP_FIELD;
            if (++h->n_head > (h->stage == HTTP_CHUNK_SIZE || h->stage == HTTP_CHUNK_END ? CHUNK_LINE : HEAD_MAX))
                http_wrong(h, head ? 431 : 400, head ? "the head is longer than 16 KiB" : "a chunk's line is too long");
            else if (cr != (c == '\n') || (c < 32 && c != '\r' && c != '\n' && c != '\t') || c == 127)
                http_wrong(h, 400, "a control character, or a line that does not end in CR LF");
            else if (c != '\n') put(&h->line, p + i - 1, 1);
            else {
                h->line.p[--h->line.n] = 0;
                http_line(h);
                if (head && h->stage > HTTP_FIELD) break;
            }
        }
    }
    return i;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

typedef struct { const char *p; size_t n; } span;       /* a value in a text that gpt_json_get has found to be JSON */

static const char *json_space(const char *p, const char *end) {
    while (p < end && strchr(" \t\r\n,:", *p)) p++;
    return p;
}
static const char *json_value_end(const char *p, const char *end) {
    if (p < end && (*p == '{' || *p == '[')) return json_end(p, end);
    if (p == end || *p != '"') { while (p < end && !strchr(" \t\r\n,]}", *p)) p++; return p; }
    for (p++; p < end && *p != '"'; p++) if (*p == '\\' && p + 1 < end) p++;
    return p < end ? p + 1 : p;
}

typedef struct { const char *p, *end; } inside;         /* what of an array or object has not been seen yet */

static inside json_inside(span v) {
    inside i;
    i.p = i.end = v.p;
    if (v.n >= 2) { i.p = v.p + 1; i.end = v.p + v.n - 1; }
    return i;
}
/* The next member of an object, or, key NULL, element of an array. */
static int json_next(inside *i, span *key, span *value) {
    i->p = json_space(i->p, i->end);
    if (key) {
        key->p = i->p;
        i->p = json_value_end(i->p, i->end);
        key->n = (size_t)(i->p - key->p);
        i->p = json_space(i->p, i->end);
    }
    value->p = i->p;
    i->p = json_value_end(i->p, i->end);
    value->n = (size_t)(i->p - value->p);
    return value->n > 0;
}
static int json_is(span v, const char *word) {          /* as it stands there: a string without escapes, a literal */
    const size_t n = strlen(word);
    if (v.n && *v.p == '"') return v.n == n + 2 && !memcmp(v.p + 1, word, n);
    return v.n == n && !memcmp(v.p, word, n);
}
static int json_kind(span v) {
    static const char first[] = "\"{[ntf", kinds[] = "soazbb";
    const char *at = v.n && *v.p ? strchr(first, *v.p) : NULL;
    return !v.n ? 0 : at ? kinds[at - first] : 'n';
}
/* for the caller to free; NULL: none, or a zero byte */
static char *json_string(span v) { return member(v.p, v.n, "", 's'); }
static double json_number(span v) {
    char digits[64];
    snprintf(digits, sizeof digits, "%.*s", (int)(v.n < sizeof digits ? v.n : 0), v.p);
    return strtod(digits, NULL);
}
static span json_member(span v, const char *name) {
    inside i = json_inside(v);
    span key, value, found = { "", 0 };
    if (json_kind(v) == 'o') while (json_next(&i, &key, &value)) if (json_is(key, name)) found = value;
    if (json_kind(found) == 'z') found.n = 0;           /* null: as if it were not there */
    return found;
}

static void putf(text *t, const char *fmt, ...) {
    char s[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    puts_to(t, s);
}

/* How many bytes of a whole character begin at p; 0: none does (Unicode 15, table 3-7). */
static size_t utf8_length(const char *p, size_t n) {
    const unsigned char *u = (const unsigned char *)p;
    const size_t k = u[0] < 0x80 ? 1 : u[0] < 0xC2 || u[0] > 0xF4 ? 0 : (size_t)2 + (u[0] >= 0xE0) + (u[0] >= 0xF0);
    if (k > n) return 0;
    for (size_t i = 1; i < k; i++) if (u[i] >> 6 != 2) return 0;
    if (k > 2 && ((u[0] == 0xE0 && u[1] < 0xA0) || (u[0] == 0xF0 && u[1] < 0x90) || (u[0] == 0xED && u[1] > 0x9F) ||
                  (u[0] == 0xF4 && u[1] > 0x8F))) return 0;
    return k;
}
/* A JSON string of any bytes: what is no UTF-8 becomes U+FFFD, or, with spell, \xHH as OpenAI writes such tokens. */
static void put_string(text *t, const char *p, size_t n, int spell) {
    puts_to(t, "\"");
    for (size_t k; n; p += k, n -= k) {
        k = utf8_length(p, n);
        if (k) put_escaped(t, p, k);
        else if (spell) putf(t, "\\\\x%02x", (unsigned char)*p);
        else puts_to(t, "\xEF\xBF\xBD");
        k += !k;
    }
    puts_to(t, "\"");
}

/* Text by a pattern: %s a string, %q the same as JSON, %v a value as it stands, %u a size. */
static void say(text *t, const char *pattern, ...) {
    va_list ap;
    va_start(ap, pattern);
    for (const char *p = pattern; ; p++) {
        const size_t n = strcspn(p, "%");
        put(t, p, n);
        if (!*(p += n)) break;
        p++;
        if (*p == 'u') putf(t, "%lu", (unsigned long)va_arg(ap, size_t));
        else if (*p == 'v') { const span v = va_arg(ap, span); put(t, v.p, v.n); }
        else {
            const char *word = va_arg(ap, const char *);
            if (*p == 'q') put_string(t, word, strlen(word), 0); else puts_to(t, word);
        }
    }
    va_end(ap);
}
static span span_of(const text *t) {
    span v;
    v.p = t->p ? t->p : "";
    v.n = t->n;
    return v;
}

/* ---- Clients and what they ask for ------------------------------------------------------------------------------- */

#ifdef _WIN32
typedef SOCKET net_socket;
#else
typedef int net_socket;
#endif

typedef enum { CHAT, TEXT, LLAMA, EMBED } task;         /* the two completions differ in the form of what goes back */
typedef enum { IDLE, QUEUED, READS, WRITES, VECTORS } state;

typedef struct server server;

/* a text; c NULL: of nobody at present */
typedef struct { gpt_session *s; struct client *c; uint64_t used; } place;

typedef struct {
    task         kind;
    state        phase;
    int          stream, wants_usage, base64, n_top, must;  /* n_top -1: no log-probabilities */
    uint64_t     ticket;
    char         id[48];
    time_t       created;
    args_sampling sampling;
    gpt_generate_params params;
    gpt_constraint *form;
    gpt_bias    *bias;
    char        *stop[N_STOP];
    gpt_message *messages;              /* as JSON */
    size_t       n_message, n_tool;
    text         variables;
    const syntax *calls;                /* NULL: no tools */
    gpt_token   *ids;                   /* the prompt, or all texts to embed */
    size_t       n_ids, *ends, n_input, input;          /* where each of these ends; the one at hand */
    place       *slot;
    size_t       n_common, n_generated; /* tokens of the prompt that were computed already; of the answer */
    text         said, thought;
    size_t       given;                 /* bytes of said that are an answer's content, as far as is known */
    size_t       think_end;             /* tokens of the text up to the end of its thinking part */
    float       *logits;                /* those that the next token is chosen by, at token logits_at */
    size_t       logits_at, n_vocab, n_seen, n_logprob, n_sent, room;   /* tokens looked at; rows; rows that went out */
    gpt_logprob *logprob;               /* rows of 1 + n_top: of the token, of the likeliest ones */
    float       *vectors;
    text         list;                  /* the embeddings so far */
} request;

typedef struct client {
    server      *sv;
    net_socket   fd;
    http         h;
    int          admitted, answered;    /* the head is looked at; all of the answer is in out */
    int          last, quiet;           /* no request comes after it; and the client has been told */
    int          more, held;            /* bytes wait that are for later; it does not read what is in out */
    double       since;                 /* when it last did something that we wait for */
    text         out;
    size_t       n_out;                 /* of it has been sent */
    span         member[N_MEMBER][2];   /* of the body at hand: names and values */
    size_t       n_member;
    request      r;
} client;

struct server {
    gpt_model       *m;
    gpt_model_info   info;
    gpt_work        *w;                 /* of all slots */
    gpt_session_params session;
    gpt_chat_params  chat;
    args_sampling    sampling;
    gpt_pool         pool;
    const char      *chat_template, *name, *key;
    arg_list         origins;
    place            slots[N_SLOT];
    int              n_slot, most_slots;
    /* the last ones are those that are told that there are too many */
    client          *clients[N_CLIENT + N_REFUSED];
    int              n_client;
    uint64_t         clock;             /* counts requests and their ends */
    time_t           born;
    double           deadline;          /* of the slice at hand */
    net_socket       fd;
    char             date[16];
};

static const char *reason(int status) {
    static const struct { int status; const char *reason; } all[] = {
        { 200, "OK" }, { 204, "No Content" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
        { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 413, "Content Too Large" },
        { 417, "Expectation Failed" }, { 431, "Request Header Fields Too Large" }, { 501, "Not Implemented" },
        { 503, "Service Unavailable" }, { 505, "HTTP Version Not Supported" } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) if (all[i].status == status) return all[i].reason;
    return "Internal Server Error";
}

/* May pages of this origin ask? Those of this machine, whose user is ours, and those that the command line names. */
static int is_ours(const server *sv, const char *origin) {
    static const char *const local[] = { "http://localhost", "http://127.0.0.1", "http://[::1]", "https://localhost" };
    for (size_t i = 0; i < sv->origins.n; i++) if (!strcmp(origin, sv->origins.item[i])) return 1;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        const char *port = origin + strlen(local[i]);
        if (!strncmp(origin, local[i], strlen(local[i])) &&
            (!*port || (*port == ':' && strspn(port + 1, "0123456789") == strlen(port + 1)))) return 1;
    }
    return 0;
}

/* The head of an answer of n bytes; type NULL: of none, "text/event-stream": of as many as come. */
static void put_head(client *c, int status, const char *type, size_t n, const char *more) {
    const int stream = type && !strcmp(type, "text/event-stream");
    const int keep = !c->last && c->h.status == 200 && (c->h.minor ? !c->h.close : c->h.keep && !stream);
    c->last = !keep;
    putf(&c->out, "HTTP/1.1 %d %s\r\nConnection: %s\r\n", status, reason(status), keep ? "keep-alive" : "close");
    puts_to(&c->out, more);
    if (type) putf(&c->out, "Content-Type: %s\r\n", type);
    if (stream) putf(&c->out, "Cache-Control: no-cache\r\n%s", c->h.minor ? "Transfer-Encoding: chunked\r\n" : "");
    else if (status != 204) putf(&c->out, "Content-Length: %lu\r\n", (unsigned long)n);
    if (*c->h.origin && is_ours(c->sv, c->h.origin))
        putf(&c->out, "Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n", c->h.origin);
    puts_to(&c->out, "\r\n");
}

static void respond(client *c, int status, const char *more, const text *body) {
    put_head(c, status, "application/json", body->n, more);
    if (strcmp(c->h.method, "HEAD")) put(&c->out, body->p, body->n);
    c->answered = 1;
}

static void put_error(text *t, int status, const char *param, const char *code, const char *message) {
    static const char invalid[] = "invalid_request_error";
    const char *type = status == 401 ? "authentication_error" : status >= 500 ? "server_error" : invalid;
    say(t, "{\"error\":{\"message\":%q,\"type\":%q", message, type);
    say(t, param ? ",\"param\":%q" : ",\"param\":null", param);
    say(t, code ? ",\"code\":%q}}" : ",\"code\":null}}", code);
}

/* Answers with an error; 0. */
static int refuse(client *c, int status, const char *param, const char *fmt, ...) {
    char message[512];
    text body = { NULL, 0, 0 };
    va_list ap;
    if (c->answered) return 0;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    put_error(&body, status, param, NULL, message);
    respond(c, status, status == 401 ? "WWW-Authenticate: Bearer\r\n" : "", &body);
    clear(&body);
    return 0;
}
/* The same for what the library has refused. */
static int refuse_result(client *c, const char *param, const gpt_error *err) {
    text body = { NULL, 0, 0 };
    const int status = err->code == GPT_E_MEMORY ? 503 : err->code == GPT_E_STATE || err->code == GPT_E_IO ? 500 : 400;
    put_error(&body, status, param, err->code == GPT_E_CONTEXT ? "context_length_exceeded" : NULL, err->msg);
    if (!c->answered) respond(c, status, "", &body);
    clear(&body);
    return 0;
}

static void request_clear(request *r) {
    for (size_t i = 0; i < r->n_message; i++) free((void *)(size_t)r->messages[i].json);
    for (int i = 0; i < N_STOP; i++) free(r->stop[i]);
    free(r->messages); free(r->bias); free(r->ids); free(r->ends); free(r->logits); free(r->logprob); free(r->vectors);
    clear(&r->variables); clear(&r->said); clear(&r->thought); clear(&r->list);
    gpt_constraint_free(r->form);
    memset(r, 0, sizeof *r);
}

/* ---- Reading a request ------------------------------------------------------------------------------------------- */

/* Numbers, and where they go: 'f' a double, 'i' an int, 'l' a long long. Their bounds are within args_generation's. */
static const struct { const char *name; char type; size_t at; double low, high; } numbers[] = {
    { "temperature", 'f', offsetof(args_sampling, temp), 0, 1e6 },
    { "top_p", 'f', offsetof(args_sampling, top_p), 0, 1 },
    { "top_k", 'i', offsetof(args_sampling, top_k), 0, 1e9 },
    { "min_p", 'f', offsetof(args_sampling, min_p), 0, 1 },
    { "seed", 'l', offsetof(args_sampling, seed), -1, 9e18 },
    { "max_tokens", 'l', offsetof(args_sampling, n_predict), -1, 1e9 },
    { "max_completion_tokens", 'l', offsetof(args_sampling, n_predict), -1, 1e9 },
    { "n_predict", 'l', offsetof(args_sampling, n_predict), -1, 1e9 },
    { "frequency_penalty", 'f', offsetof(args_sampling, frequency), -100, 100 },
    { "presence_penalty", 'f', offsetof(args_sampling, presence), -100, 100 },
    { "repeat_penalty", 'f', offsetof(args_sampling, repeat), 0, 1e6 },
    { "repeat_last_n", 'l', offsetof(args_sampling, last_n), -1, 1e9 },
    { "typical_p", 'f', offsetof(args_sampling, typical), 0, 1 },
    { "top_n_sigma", 'f', offsetof(args_sampling, sigma), -1, 1e6 },
    { "xtc_probability", 'f', offsetof(args_sampling, xtc), 0, 1 },
    { "xtc_threshold", 'f', offsetof(args_sampling, xtc_threshold), 0, 1 },
    { "dry_multiplier", 'f', offsetof(args_sampling, dry), 0, 1e6 },
    { "dry_base", 'f', offsetof(args_sampling, dry_base), 1, 1e6 },
    { "dry_allowed_length", 'i', offsetof(args_sampling, dry_allowed), 0, 1e9 },
    { "dry_penalty_last_n", 'l', offsetof(args_sampling, dry_last_n), -1, 1e9 },
    { "dynatemp_range", 'f', offsetof(args_sampling, range), 0, 1e6 },
    { "dynatemp_exponent", 'f', offsetof(args_sampling, exponent), 0, 1e6 },
};

/* What would change the answer and is not done here: refused unless it has the one value that changes nothing. */
static const struct { const char *name, *value; } only[] = {
    { "n", "1" }, { "best_of", "1" }, { "echo", "false" }, { "suffix", "" }, { "functions", "[]" },
    { "prompt_embeds", "" }, { "modalities", "[\"text\"]" } };

static span top(const client *c, const char *name) {
    span v = { "", 0 };
    for (size_t i = 0; i < c->n_member; i++) if (json_is(c->member[i][0], name)) v = c->member[i][1];
    return v;
}

static int read_number(client *c, size_t i, span v) {
    char *at = (char *)&c->r.sampling + numbers[i].at;
    double x = json_number(v);
    if (json_kind(v) != 'n' || !(x >= numbers[i].low && x <= numbers[i].high) ||
        (numbers[i].type != 'f' && x != (double)(long long)x))
        return refuse(c, 400, numbers[i].name, "%s: expected %s, %g to %g, found %.*s", numbers[i].name,
                      numbers[i].type == 'f' ? "a number" : "a whole number", numbers[i].low, numbers[i].high,
                      (int)(v.n < 40 ? v.n : 40), v.p);
    if (numbers[i].type == 'f') *(double *)(void *)at = x;
    if (numbers[i].type == 'i') *(int *)(void *)at = (int)x;
    if (numbers[i].type == 'l')
        *(long long *)(void *)at = x > -9e15 && x < 9e15 ? (long long)x : strtoll(v.p, NULL, 10);
    return 1;
}

static int read_flag(client *c, span v, const char *name, int *out) {
    if (v.n && json_kind(v) != 'b') return refuse(c, 400, name, "%s: expected true or false", name);
    if (v.n) *out = *v.p == 't';
    return 1;
}

static int read_stop(client *c, span v) {
    request *r = &c->r;
    inside i = json_inside(v);
    size_t n = 0;
    span one = v;
    if (!v.n) return 1;
    while (json_kind(v) == 's' ? n == 0 : json_kind(v) == 'a' && json_next(&i, NULL, &one)) {
        char *s = n < N_STOP ? json_string(one) : NULL;
        if (!s || !*s || strlen(s) > 256) {
            free(s);
            return refuse(c, 400, "stop", "stop: expected at most %d strings of 1 to 256 bytes", (int)N_STOP);
        }
        r->stop[n] = s;
        r->sampling.stop.item[n++] = s;
        r->sampling.stop.n = n;
    }
    if (json_kind(v) == 's' || json_kind(v) == 'a') return 1;
    return refuse(c, 400, "stop", "stop: expected a string or an array of strings");
}

/* OpenAI's object of token ids and what is added to their logits. */
static int read_bias(client *c, span v) {
    request *r = &c->r;
    inside i = json_inside(v);
    span key, value;
    if (!v.n) return 1;
    if (json_kind(v) != 'o')
        return refuse(c, 400, "logit_bias", "logit_bias: expected an object of token ids and numbers");
    r->bias = (gpt_bias *)args_need(malloc(N_BIAS * sizeof *r->bias));
    while (json_next(&i, &key, &value)) {
        const long id = strtol(key.p + 1, NULL, 10);
        const double bias = json_number(value);
        if (r->params.sample.n_bias == N_BIAS || json_kind(value) != 'n' || !(bias >= -100 && bias <= 100) ||
            key.n < 3 || strspn(key.p + 1, "0123456789") != key.n - 2 || id < 0 ||
            id >= (long)c->sv->info.n_vocab)
            return refuse(c, 400, "logit_bias", "logit_bias: expected at most %d token ids below %lu with numbers from "
                          "-100 to 100", (int)N_BIAS, (unsigned long)c->sv->info.n_vocab);
        r->bias[r->params.sample.n_bias].token = (gpt_token)id;
        r->bias[r->params.sample.n_bias++].bias = (float)bias;
    }
    return 1;
}

/* The content of a message, as the raw inside of a JSON string: a string, or an array of parts that are text. */
static int read_content(client *c, span v, size_t at, text *out) {
    inside i = json_inside(v);
    span part;
    put(out, "", 0);
    if (json_kind(v) == 's') { put(out, v.p + 1, v.n - 2); return 1; }
    if (json_kind(v) != 'a')
        return refuse(c, 400, "messages", "messages[%lu].content: expected a string or an array of parts",
                      (unsigned long)at);
    while (json_next(&i, NULL, &part)) {
        const span type = json_member(part, "type"), s = json_member(part, "text");
        if (!json_is(type, "text") || json_kind(s) != 's')
            return refuse(c, 400, "messages", "messages[%lu].content: a part of type %.*s: this model reads text alone",
                          (unsigned long)at, (int)(type.n < 40 ? type.n : 40), type.p);
        put(out, s.p + 1, s.n - 2);
    }
    return 1;
}

/* Which call a result is of: the messages so far, as the template gets them, name its function. */
static char *called_name(const request *r, const char *id) {
    for (size_t k = r->n_message; k-- > 0; ) {
        span m, one;
        m.p = r->messages[k].json;
        m.n = strlen(m.p);
        m = json_member(m, "tool_calls");
        for (inside i = json_inside(m); json_kind(m) == 'a' && json_next(&i, NULL, &one); )
            if (json_is(json_member(one, "id"), id))
                return json_string(json_member(json_member(one, "function"), "name"));
    }
    return NULL;
}

/* The calls of a message, with their arguments as objects: templates write these themselves. */
static int read_message_calls(client *c, span v, size_t at, text *out, text *plain) {
    inside i = json_inside(v);
    span one;
    size_t n;
    for (n = 0; json_kind(v) == 'a' && json_next(&i, NULL, &one); n++) {
        const span id = json_member(one, "id"), f = json_member(one, "function"), name = json_member(f, "name");
        span args = json_member(f, "arguments");
        text written = { NULL, 0, 0 };
        char *s = json_kind(args) == 's' ? json_string(args) : NULL;
        if (s) { args.p = *s ? s : "{}"; args.n = strlen(args.p); }
        if (json_kind(name) != 's' || gpt_json_get(args.p, args.n, "", NULL, 0, NULL) != 'o' ||
            (id.n && json_kind(id) != 's')) {
            free(s);
            return refuse(c, 400, "messages", "messages[%lu].tool_calls[%lu]: expected a function with a name and, as "
                          "arguments, a JSON object", (unsigned long)at, (unsigned long)n);
        }
        say(out, "%s{\"type\":\"function\",%s%v%s\"function\":{\"name\":%v,\"arguments\":%v}}", n ? "," : "",
            id.n ? "\"id\":" : "", id, id.n ? "," : "", name, args);
        say(&written, "\n<tool_call>\n{\"name\": %v, \"arguments\": %v}\n</tool_call>", name, args);
        put_escaped(plain, written.p, written.n);
        clear(&written);
        free(s);
    }
    return json_kind(v) == 'a' || refuse(c, 400, "messages", "messages[%lu].tool_calls: expected an array",
                                         (unsigned long)at);
}

/* A tool's result in the form that the syntax has for it; one that is a JSON object goes as that. */
static void put_result(text *out, const request *r, span m, const text *said) {
    const span id = json_member(m, "tool_call_id");
    char *raw = id.n ? json_string(id) : NULL, *name, *inner;
    text result = { NULL, 0, 0 }, shown = { NULL, 0, 0 };
    if (raw && !is_token(raw, strlen(raw))) *raw = 0;
    name = called_name(r, raw ? raw : "");
    if (!name) name = json_string(json_member(m, "name"));
    if (name) put_escaped(&shown, name, strlen(name)); else put(&shown, "", 0);
    say(&result, "\"%v\"", span_of(said));
    inner = json_string(span_of(&result));
    const int object = inner && gpt_json_get(inner, strlen(inner), "", NULL, 0, NULL) == 'o';
    const char *const pairs[] = { "name", shown.p, "id", raw ? raw : "", "result", object ? inner : result.p,
                                  "text", said->p, NULL };
    fill(out, r->calls->result_message, pairs);
    clear(&result); clear(&shown);
    free(inner); free(name); free(raw);
}

/* A message as the template gets it: an assistant's without content has none, arguments are objects, "developer" is
 * "system" where the template does not know it; plain: it has no place for tools, so calls and results are what
 * assistant and user say. */
static int read_message(client *c, span m, size_t at, int plain, text *out) {
    const span role = json_member(m, "role"), content = json_member(m, "content"), calls = json_member(m, "tool_calls");
    const int system = json_is(role, "developer") && !strstr(c->sv->chat_template, "developer");
    const int tool = json_is(role, "tool");
    text said = { NULL, 0, 0 }, made = { NULL, 0, 0 }, shown = { NULL, 0, 0 }, none = { NULL, 0, 0 };
    inside i = json_inside(m);
    span key, value;
    int ok = 1;
    if (json_kind(m) != 'o' || json_kind(role) != 's')
        return refuse(c, 400, "messages", "messages[%lu]: expected an object with a role", (unsigned long)at);
    if (content.n) ok = read_content(c, content, at, &said);
    else if (!calls.n && !json_is(role, "assistant"))
        ok = refuse(c, 400, "messages", "messages[%lu].content: expected a string or an array of parts",
                    (unsigned long)at);
    if (ok && calls.n) ok = read_message_calls(c, calls, at, &made, &shown);
    if (ok && tool && plain)
        say(out, "{\"role\":\"user\",\"content\":\"<tool_response>\\n%v\\n</tool_response>\"}", span_of(&said));
    else if (ok && tool && c->r.calls) { put(&said, "", 0); put_result(out, &c->r, m, &said); }
    else if (ok) {
        if (system) say(out, "{\"role\":\"system\""); else say(out, "{\"role\":%v", role);
        if (content.n || (plain && calls.n))
            say(out, ",\"content\":\"%v%v\"", span_of(&said), span_of(plain ? &shown : &none));
        if (calls.n && !plain) say(out, ",\"tool_calls\":[%v]", span_of(&made));
        while (json_next(&i, &key, &value))
            if (!json_is(key, "role") && !json_is(key, "content") && !json_is(key, "tool_calls") &&
                json_kind(value) != 'z')
                say(out, ",%v:%v", key, value);
        say(out, "}");
    }
    clear(&said); clear(&made); clear(&shown);
    return ok;
}

static void add_message(request *r, char *json) {
    r->messages[r->n_message].role = r->messages[r->n_message].content = "";
    r->messages[r->n_message++].json = json;
}

/* All messages; introduce: the system's ahead of them tells of the tools, in the words that Hermes models know. */
static int read_messages(client *c, span v, span tools, int introduce) {
    request *r = &c->r;
    inside i = json_inside(v);
    span m;
    size_t at;
    if (json_kind(v) != 'a') return refuse(c, 400, "messages", "messages: expected an array");
    r->messages = (gpt_message *)args_need(calloc(N_MESSAGE + 1, sizeof *r->messages));
    for (at = 0; json_next(&i, NULL, &m); at++) {
        const int system = json_is(json_member(m, "role"), "system");
        text out = { NULL, 0, 0 };
        if (at == N_MESSAGE) return refuse(c, 400, "messages", "messages: at most %d", (int)N_MESSAGE);
        if (introduce && !at) {
            text said = { NULL, 0, 0 };
            if (system && !read_content(c, json_member(m, "content"), at, &said)) { clear(&said); return 0; }
            say(&out, "{\"role\":\"system\",\"content\":\"%v%sYou may call functions to help with the user's question. "
                "They are:\\n<tools>\\n", span_of(&said), said.n ? "\\n\\n" : "");
            put_escaped(&out, tools.p, tools.n);
            say(&out, "\\n</tools>\\nFor a call write\\n<tool_call>\\n{\\\"name\\\": <function-name>, "
                "\\\"arguments\\\": <args-json-object>}\\n</tool_call>\"}");
            clear(&said);
            add_message(r, out.p);
            memset(&out, 0, sizeof out);
            if (system) continue;
        }
        if (!read_message(c, m, at, introduce, &out)) { clear(&out); return 0; }
        add_message(r, out.p);
    }
    return r->n_message ? 1 : refuse(c, 400, "messages", "messages: expected at least one");
}

/* ---- The form of an answer: tools, response_format --------------------------------------------------------------- */

/* Any JSON object as rules of a grammar; quote: what a syntax has for the quotation marks of strings, or NULL. */
static void put_object_rules(text *t, const gpt_model *m, const char *quote) {
    puts_to(t, quote ? "object ::= \"{\" (pair (\",\" pair)*)? \"}\"\npair ::= [a-zA-Z_] [a-zA-Z0-9_]* \":\" value\n"
                     : "object ::= \"{\" (pair (\", \" pair)*)? \"}\"\npair ::= string \": \" value\n");
    puts_to(t, "value ::= object | \"[\" (value (\", \" value)*)? \"]\" | string | number | literal\n"
               "literal ::= \"true\" | \"false\" | \"null\"\n"
               "number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,15})?\nstring ::=");
    put_token(t, m, quote ? quote : "\"", quote ? strlen(quote) : 1);
    puts_to(t, quote ? " [^<\\x00-\\x1F]*" :
            " ([^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4}))*");
    put_token(t, m, quote ? quote : "\"", quote ? strlen(quote) : 1);
    puts_to(t, "\n");
}

/* A call of one of the tools behind the syntax's trigger, where calls are no JSON, or come at the beginning or not. */
static void put_grammar(text *t, const gpt_model *m, const syntax *x, span tools) {
    inside i = json_inside(tools);
    span one;
    puts_to(t, x->trigger ? "root ::= call\n" : "root ::= call | ([^{] .*)?\n");
    puts_to(t, "channel ::= (");
    put_token(t, m, "<|channel|>", 11);
    puts_to(t, " \"commentary\")?\nname ::=");
    for (int n = 0; json_next(&i, NULL, &one); n++) {
        char *name = json_string(json_member(json_member(one, "function"), "name"));
        if (n) puts_to(t, " |");
        put_literal(t, name, strlen(name));
        free(name);
    }
    puts_to(t, "\ncall ::=");
    for (const char *p = x->call; *p; ) {
        static const struct { const char *mark, *rule; } marks[] = {
            { "{name}", " name" }, { "{args}", " object" }, { "{channel}", " channel" } };
        size_t n = strcspn(p, "`{"), k;
        if (n) { put_literal(t, p, n); p += n; continue; }
        if (*p == '`') { n = strcspn(p + 1, "`"); put_token(t, m, p + 1, n); p += n + 2; continue; }
        for (k = 0; k < 3 && strncmp(p, marks[k].mark, strlen(marks[k].mark)); k++) {}
        if (k < 3) { puts_to(t, marks[k].rule); p += strlen(marks[k].mark); } else put_literal(t, p++, 1);
    }
    puts_to(t, "\n");
    put_object_rules(t, m, x->quote);
}

/* The schema of all calls as objects with a name and arguments, which is the member args. */
static void put_call_schema(text *t, span tools, const char *args, int list) {
    static const char nothing[] = "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}";
    inside i = json_inside(tools);
    span one;
    say(t, list ? "{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,\"items\":{\"anyOf\":[" : "{\"anyOf\":[");
    for (int n = 0; json_next(&i, NULL, &one); n++) {
        const span f = json_member(one, "function"), name = json_member(f, "name"),
            schema = json_member(f, "parameters");
        say(t, "%s{\"type\":\"object\",\"properties\":{\"name\":{\"const\":%v},%q:%s%v},\"required\":[\"name\",%q],"
            "\"additionalProperties\":false}", n ? "," : "", name, args, schema.n ? "" : nothing, schema, args);
    }
    say(t, list ? "]}}" : "]}");
}

/* Are these tools, each a function with a name? */
static int check_tools(client *c, span tools) {
    inside i = json_inside(tools);
    span one;
    size_t n = 0;
    if (json_kind(tools) != 'a') return refuse(c, 400, "tools", "tools: expected an array");
    for (; json_next(&i, NULL, &one); n++) {
        const span f = json_member(one, "function");
        char *name = json_kind(f) == 'o' ? json_string(json_member(f, "name")) : NULL;
        const size_t n_name = name ? strlen(name) : 0;
        const int good = n < N_TOOL && n_name && n_name <= 64 && is_token(name, n_name) &&
            !strpbrk(name, "!#$%&'*+^`|~");
        const span schema = json_member(f, "parameters");
        free(name);
        if (!good || (schema.n && json_kind(schema) != 'o'))
            return refuse(c, 400, "tools", "tools[%lu]: expected a function with a name of at most 64 letters, digits "
                          "and _-., and parameters that are a schema; at most %d", (unsigned long)n, (int)N_TOOL);
    }
    c->r.n_tool = n;
    return 1;
}

static int new_form(client *c, const gpt_constraint_params *how, const char *param) {
    gpt_error err;
    request *r = &c->r;
    if (gpt_constraint_new(&r->form, c->sv->m, how, &err)) return refuse_result(c, param, &err);
    r->params.constraint = r->form;
    r->params.must_finish = 1;
    return 1;
}

/* What a request asks the answer to be: response_format, or llama.cpp's json_schema and grammar. */
static int read_form(client *c) {
    span format = top(c, "response_format"), schema = top(c, "json_schema"), grammar = top(c, "grammar"), type;
    gpt_constraint_params how;
    char *source;
    int ok;
    memset(&how, 0, sizeof how);
    if (json_kind(grammar) == 's' && grammar.n == 2) grammar.n = 0;
    if (json_kind(schema) == 'o' && schema.n == 2) schema.n = 0;
    if (format.n) {
        type = json_member(format, "type");
        if (json_is(type, "text")) format.n = 0;
        else if (json_is(type, "json_schema")) schema = json_member(json_member(format, "json_schema"), "schema");
        else if (json_is(type, "json_object")) schema = json_member(format, "schema");
        else return refuse(c, 400, "response_format",
                           "response_format: expected the type text, json_object or json_schema");
        if (json_is(type, "json_schema") && !schema.n)
            return refuse(c, 400, "response_format", "response_format.json_schema.schema: expected a JSON schema");
    }
    if (!format.n && !schema.n && !grammar.n) return 1;
    if ((grammar.n && (format.n || schema.n)) || c->r.n_tool)
        return refuse(c, 400, "response_format", "response_format, json_schema, grammar and tools exclude each other");
    if (grammar.n) how.gbnf = source = json_string(grammar);
    else {
        text t = { NULL, 0, 0 };
        say(&t, "%v%s", schema, schema.n ? "" : "{\"type\":\"object\"}");
        how.schema = source = t.p;
    }
    ok = source ? new_form(c, &how, "response_format") : refuse(c, 400, "grammar", "grammar: expected a string");
    free(source);
    return ok;
}

/* tools, tool_choice: which the model is told of, and how it is held to them. */
static int read_tools(client *c, text *chosen) {
    request *r = &c->r;
    const server *sv = c->sv;
    span tools = top(c, "tools"), choice = top(c, "tool_choice"), one;
    const span named = json_member(json_member(choice, "function"), "name");
    if (!tools.n || json_is(choice, "none")) return 1;
    if (!check_tools(c, tools)) return 0;
    if (!r->n_tool) return 1;
    if (choice.n && !json_is(choice, "auto") && !json_is(choice, "required") && !named.n)
        return refuse(c, 400, "tool_choice", "tool_choice: expected none, auto, required or a function's name");
    r->must = choice.n && !json_is(choice, "auto");
    r->calls = syntax_of(sv->chat_template);
    if (!r->calls) r->calls = syntaxes;
    if (!named.n) { put(chosen, tools.p, tools.n); return 1; }
    for (inside i = json_inside(tools); json_next(&i, NULL, &one); ) {
        const span name = json_member(json_member(one, "function"), "name");
        if (name.n != named.n || memcmp(name.p, named.p, name.n)) continue;
        puts_to(chosen, "["); put(chosen, one.p, one.n); puts_to(chosen, "]");
        return 1;
    }
    return refuse(c, 400, "tool_choice", "tool_choice: no tool has this name");
}

/* An answer that must be a call is JSON from its beginning, whatever the syntax; else a call begins the constraint. */
static int constrain_calls(client *c, span tools) {
    request *r = &c->r;
    const syntax *x = r->calls;
    const int grammar = !r->must && (x->form == NAMED || !x->trigger);
    text source = { NULL, 0, 0 };
    gpt_constraint_params how;
    int ok;
    memset(&how, 0, sizeof how);
    if (grammar) { put_grammar(&source, c->sv->m, x, tools); how.gbnf = source.p; }
    else put_call_schema(&source, tools, r->must ? "arguments" : x->args, !r->must && x->form == LIST);
    if (!grammar) how.schema = source.p;
    how.trigger = r->must ? NULL : x->trigger;
    ok = new_form(c, &how, "tools");
    clear(&source);
    return ok;
}

/* ---- From a body to a prompt ------------------------------------------------------------------------------------- */

static int fits(client *c, size_t n, size_t n_ctx, const char *param) {
    gpt_error err;
    if (n + (c->r.kind != EMBED) <= n_ctx) return 1;
    err.code = GPT_E_CONTEXT;
    snprintf(err.msg, sizeof err.msg, "the prompt's %lu tokens do not fit the context of %lu", (unsigned long)n,
             (unsigned long)n_ctx);
    return refuse_result(c, param, &err);
}

static void put_variables(client *c, span tools) {
    text *t = &c->r.variables;
    const span more = top(c, "chat_template_kwargs"), effort = top(c, "reasoning_effort");
    inside i = json_inside(more);
    span key, value;
    clear(t);
    say(t, "{\"tools\":%v%s", tools, tools.n ? "" : "null");
    if (json_kind(effort) == 's') say(t, ",\"reasoning_effort\":%v", effort);
    while (json_kind(more) == 'o' && json_next(&i, &key, &value))
        if (!json_is(key, "tools") && !json_is(key, "messages")) say(t, ",%v:%v", key, value);
    say(t, "}");
}

static gpt_chat_params chat_of(client *c) {
    gpt_chat_params chat = c->sv->chat;
    chat.variables = c->r.variables.p;
    chat.date = c->sv->date;
    return chat;
}

/* Does the template tell of the tools? */
static int has_place_for_tools(client *c, span tools) {
    inside i = json_inside(tools);
    const gpt_message question = { "user", "x", NULL };
    gpt_chat_params chat = chat_of(c);
    span one = { "", 0 };
    char *shown, *name;
    size_t n;
    int has;
    if (gpt_chat_format(c->sv->m, &question, 1, &chat, NULL, 0, &n, NULL)) return 0;
    shown = (char *)args_need(malloc(n + 1));
    has = !gpt_chat_format(c->sv->m, &question, 1, &chat, shown, n, &n, NULL);
    json_next(&i, NULL, &one);
    name = json_string(json_member(json_member(one, "function"), "name"));
    has = has && find(shown, shown + n, name) != NULL;
    free(shown);
    free(name);
    return has;
}

static int read_chat(client *c) {
    request *r = &c->r;
    const server *sv = c->sv;
    const span messages = top(c, "messages");
    text chosen = { NULL, 0, 0 };
    span tools;
    gpt_chat_params chat;
    gpt_error err;
    int ok = read_tools(c, &chosen), introduce = 0;
    tools.p = chosen.p ? chosen.p : "";
    tools.n = chosen.n;
    put_variables(c, tools);
    if (ok && tools.n && sv->m && !has_place_for_tools(c, tools)) {
        const span none = { "", 0 };
        introduce = 1;
        r->calls = syntaxes;
        put_variables(c, none);
    }
    ok = ok && read_messages(c, messages, tools, introduce);
    ok = ok && (tools.n ? constrain_calls(c, tools) : 1) && read_form(c);
    clear(&chosen);
    if (!ok || !sv->m) return ok;
    chat = chat_of(c);
    r->ids = (gpt_token *)args_need(malloc(sv->session.n_ctx * sizeof *r->ids));
    if (gpt_chat_tokenize(sv->m, r->messages, r->n_message, &chat, r->ids, sv->session.n_ctx, &r->n_ids, &err))
        return refuse_result(c, "messages", &err);
    return fits(c, r->n_ids, sv->session.n_ctx, "messages");
}

/* A text, or an array of token ids, to ids behind those that r has. */
static int read_ids(client *c, span v, const char *param, unsigned flags, size_t n_ctx) {
    request *r = &c->r;
    const server *sv = c->sv;
    gpt_error err;
    size_t n = 0, size;
    char *s;
    if (json_kind(v) == 'a') {
        span one;
        inside i = json_inside(v);
        r->ids = (gpt_token *)args_need(realloc(r->ids, (r->n_ids + v.n / 2 + 1) * sizeof *r->ids));
        for (; json_next(&i, NULL, &one); n++) {
            const double x = json_number(one);
            if (json_kind(one) != 'n' || !(x >= 0 && x < (double)sv->info.n_vocab))
                return refuse(c, 400, param, "%s: expected token ids below %lu", param,
                              (unsigned long)sv->info.n_vocab);
            r->ids[r->n_ids + n] = (gpt_token)x;
        }
    } else if (json_kind(v) == 's') {
        gpt_json_get(v.p, v.n, "", NULL, 0, &size);
        s = (char *)args_need(malloc(size + 1));
        gpt_json_get(v.p, v.n, "", s, size + 1, NULL);
        if (sv->m && !gpt_tokenize(sv->m, s, size, flags, NULL, 0, &n, &err)) {
            r->ids = (gpt_token *)args_need(realloc(r->ids, (r->n_ids + n + 1) * sizeof *r->ids));
            gpt_tokenize(sv->m, s, size, flags, r->ids + r->n_ids, n, &n, &err);
        }
        free(s);
        if (sv->m && err.code) return refuse_result(c, param, &err);
    } else return refuse(c, 400, param, "%s: expected a string or an array of token ids", param);
    if (!sv->m) return 1;
    if (!n) return refuse(c, 400, param, "%s: expected at least one token", param);
    r->n_ids += n;
    return fits(c, n, n_ctx, param);
}

/* The prompt is the whole text, and may spell control tokens, as with llama.cpp and vLLM. */
static int read_text(client *c) {
    span v = top(c, "prompt"), one;
    inside i = json_inside(v);
    if (json_kind(v) == 'a' && json_next(&i, NULL, &one) && json_kind(one) != 'n') {
        span other;
        if (json_next(&i, NULL, &other)) return refuse(c, 400, "prompt", "prompt: expected one");
        v = one;
    }
    return read_ids(c, v, "prompt", GPT_TOKENIZE_BOS | GPT_TOKENIZE_SPECIAL, c->sv->session.n_ctx) && read_form(c);
}

static int read_embed(client *c) {
    request *r = &c->r;
    const server *sv = c->sv;
    const span dimensions = top(c, "dimensions"), format = top(c, "encoding_format");
    span v = top(c, "input"), one;
    inside i = json_inside(v);
    if (!v.n) v = top(c, "content");
    if (dimensions.n && json_number(dimensions) != (double)sv->info.n_embd)
        return refuse(c, 400, "dimensions", "dimensions: this model has %lu", (unsigned long)sv->info.n_embd);
    if (format.n && !json_is(format, "float") && !json_is(format, "base64"))
        return refuse(c, 400, "encoding_format", "encoding_format: expected float or base64");
    r->base64 = json_is(format, "base64");
    r->ends = (size_t *)args_need(malloc(N_INPUT * sizeof *r->ends));
    i = json_inside(v);
    if (json_kind(v) == 's' || (json_kind(v) == 'a' && json_next(&i, NULL, &one) && json_kind(one) == 'n')) {
        if (!read_ids(c, v, "input", GPT_TOKENIZE_BOS, sv->session.n_ctx)) return 0;
        r->ends[r->n_input++] = r->n_ids;
        return 1;
    }
    if (json_kind(v) != 'a')
        return refuse(c, 400, "input", "input: expected a string, or an array of strings or token ids");
    for (i = json_inside(v); json_next(&i, NULL, &one); ) {
        if (r->n_input == N_INPUT) return refuse(c, 400, "input", "input: at most %d texts", (int)N_INPUT);
        if (!read_ids(c, one, "input", GPT_TOKENIZE_BOS, sv->session.n_ctx)) return 0;
        r->ends[r->n_input++] = r->n_ids;
    }
    return r->n_input ? 1 : refuse(c, 400, "input", "input: expected at least one text");
}

static int read_top(client *c) {
    request *r = &c->r;
    static const char *const names[] = { "top_logprobs", "logprobs", "n_probs" };
    const span on = top(c, "logprobs"), most = top(c, names[r->kind]);
    double n = json_kind(most) == 'n' ? json_number(most) : 0;
    r->n_top = -1;
    if ((most.n && json_kind(most) != 'n') || !(n >= 0 && n <= N_TOP) || n != (double)(int)n ||
        (r->kind == CHAT && on.n && json_kind(on) != 'b'))
        return refuse(c, 400, "logprobs", "%s to %d", r->kind == CHAT ?
                      "logprobs: expected true or false, and top_logprobs 0" : "logprobs: expected 0", (int)N_TOP);
    if (r->kind == CHAT && most.n && !json_is(on, "true"))
        return refuse(c, 400, "top_logprobs", "top_logprobs: logprobs has to be true");
    if (r->kind == CHAT ? json_is(on, "true") : r->kind == LLAMA ? n > 0 : most.n > 0) r->n_top = (int)n;
    return 1;
}

/* Reads the body into c->r: 1, or 0 when it was refused. */
static int read_request(client *c, task what) {
    static const char *const ids[] = { "chatcmpl", "cmpl", "cmpl", "embd" };
    request *r = &c->r;
    server *sv = c->sv;
    const uint64_t number = ++sv->clock;
    const time_t now = time(NULL);
    span body, v, key;
    inside i_body;
    int ignore_end = 0;
    body.p = c->h.body.p ? c->h.body.p : "";
    body.n = c->h.body.n;
    if (gpt_json_get(body.p, body.n, "", NULL, 0, NULL) != 'o')
        return refuse(c, 400, NULL, "the body: expected a JSON object, at most 512 deep");
    body.p = json_space(body.p, body.p + body.n);
    body.n = c->h.body.n - (size_t)(body.p - c->h.body.p);
    while (strchr(" \t\r\n", body.p[body.n - 1])) body.n--;
    for (c->n_member = 0, i_body = json_inside(body); json_next(&i_body, &key, &v); ) {
        if (c->n_member == N_MEMBER) return refuse(c, 400, NULL, "the body: at most %d members", (int)N_MEMBER);
        c->member[c->n_member][0] = key;
        c->member[c->n_member][1] = v;
        c->n_member += json_kind(v) != 'z';             /* null: as if it were not there */
    }
    memset(r, 0, sizeof *r);
    r->kind = what;
    r->ticket = number;
    r->created = now;
    r->n_vocab = sv->info.n_vocab;
    snprintf(r->id, sizeof r->id, "%s-%lx%06lx", ids[what], (unsigned long)now, (unsigned long)(number & 0xffffff));
    if (localtime(&now)) strftime(sv->date, sizeof sv->date, "%Y-%m-%d", localtime(&now));
    if (what == EMBED) return read_embed(c);
    if (sv->info.encoder) return refuse(c, 400, "model", "%s makes vectors alone, and writes no text", sv->name);
    r->sampling = sv->sampling;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        v = top(c, numbers[i].name);
        if (v.n && !read_number(c, i, v)) return 0;
    }
    if (!r->sampling.n_predict) return refuse(c, 400, "max_tokens", "max_tokens: expected 1 or more, or -1: no limit");
    for (size_t i = 0; i < sizeof only / sizeof *only; i++) {
        v = top(c, only[i].name);
        if (v.n && !json_is(v, only[i].value) && (v.n != strlen(only[i].value) || memcmp(v.p, only[i].value, v.n)))
            return refuse(c, 400, only[i].name, *only[i].value ? "%s: expected %s" : "%s: is not known here%s",
                          only[i].name, only[i].value);
    }
    if (!read_flag(c, top(c, "stream"), "stream", &r->stream) ||
        !read_flag(c, top(c, "ignore_eos"), "ignore_eos", &ignore_end) || !read_stop(c, top(c, "stop")) ||
        !read_bias(c, top(c, "logit_bias")) || !read_top(c)) return 0;
    v = top(c, "stream_options");
    if (json_kind(v) == 'o' && !read_flag(c, json_member(v, "include_usage"), "include_usage", &r->wants_usage))
        return 0;
    if (r->sampling.seed == -1) {
        const uint64_t x = (number ^ (uint64_t)now << 20 ^ (uint64_t)(1e9 * args_seconds())) * 0x9E3779B97F4A7C15u;
        r->sampling.seed = (long long)((x ^ x >> 29) & 0x7fffffff);
    }
    { const size_t n_bias = r->params.sample.n_bias;
      r->params = args_generation(&r->sampling);
      r->params.sample.bias = r->bias;
      r->params.sample.n_bias = n_bias; }
    r->params.ignore_end = ignore_end;
    return what == CHAT ? read_chat(c) : read_text(c);
}

/* ---- What goes back ---------------------------------------------------------------------------------------------- */

/* Up to the list of choices. */
static void put_top(text *t, const client *c, const char *object) {
    say(t, "{\"id\":%q,\"object\":%q,\"created\":%u,\"model\":%q,\"system_fingerprint\":\"gpt.h " GPT_VERSION "\"",
        c->r.id, object, (size_t)c->r.created, c->sv->name);
}

static void put_usage(text *t, const client *c) {
    const size_t n = c->r.n_ids;
    say(t, "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"prompt_tokens_details\":"
        "{\"cached_tokens\":%u}}", n, c->r.n_generated, n + c->r.n_generated, c->r.n_common);
}

static void put_logprob_number(text *t, float x) {
    if (x > -9999) putf(t, "%.6g", (double)x); else puts_to(t, "-9999.0");
}

static void put_token_entry(text *t, const client *c, const gpt_logprob *one) {
    size_t n;
    const char *p = gpt_token_text(c->sv->m, one->token, &n);
    puts_to(t, "{\"token\":");
    put_string(t, p, n, 0);
    puts_to(t, ",\"logprob\":");
    put_logprob_number(t, one->logprob);
    for (size_t i = 0; i < n; i++) putf(t, i ? ",%u" : ",\"bytes\":[%u", (unsigned char)p[i]);
    puts_to(t, n ? "]" : ",\"bytes\":[]");
}

/* Of chats and llama.cpp's completions: an object for each token. */
static void put_rows(text *t, const client *c, size_t from, size_t to) {
    const size_t wide = (size_t)c->r.n_top + 1;
    for (size_t i = from; i < to; i++) {
        const gpt_logprob *row = c->r.logprob + i * wide;
        if (i > from) puts_to(t, ",");
        put_token_entry(t, c, row);
        puts_to(t, ",\"top_logprobs\":[");
        for (size_t k = 1; k < wide && row[k].token >= 0; k++) {
            if (k > 1) puts_to(t, ",");
            put_token_entry(t, c, row + k);
            puts_to(t, "}");
        }
        puts_to(t, "]}");
    }
}

/* Of OpenAI's completions: four lists; text_offset counts characters of all that is said. */
static void put_columns(text *t, const client *c, size_t from, size_t to) {
    static const char *const names[] = {
        "{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[", "],\"text_offset\":[" };
    const size_t wide = (size_t)c->r.n_top + 1;
    for (int column = 0; column < 4; column++) {
        size_t offset = 0;
        if (column == 2 && wide == 1) { puts_to(t, "],\"top_logprobs\":null"); continue; }
        puts_to(t, names[column] + (column == 3 && wide == 1));
        for (size_t i = column < 3 ? from : 0; i < to; i++) {
            const gpt_logprob *row = c->r.logprob + i * wide;
            size_t n;
            const char *p = gpt_token_text(c->sv->m, row->token, &n);
            if (i > from) puts_to(t, ",");
            if (column == 0) put_string(t, p, n, 1);
            if (column == 1) put_logprob_number(t, row->logprob);
            if (column == 2) puts_to(t, "{");
            for (size_t k = 1; column == 2 && k < wide && row[k].token >= 0; k++) {
                p = gpt_token_text(c->sv->m, row[k].token, &n);
                if (k > 1) puts_to(t, ",");
                put_string(t, p, n, 1);
                puts_to(t, ":");
                put_logprob_number(t, row[k].logprob);
            }
            if (column == 2) puts_to(t, "}");
            if (column == 3 && i >= from) say(t, "%u", offset);
            for (size_t k = 0; column == 3 && k < n; k++) offset += (unsigned char)p[k] >> 6 != 2;
        }
    }
    puts_to(t, "]}");
}

/* Rows from to to - 1 in the form of the route. */
static void put_logprobs(text *t, const client *c, size_t from, size_t to) {
    if (c->r.n_top < 0) puts_to(t, "null");
    else if (c->r.kind == TEXT) put_columns(t, c, from, to);
    else {
        puts_to(t, c->r.kind == CHAT ? "{\"content\":[" : "[");
        put_rows(t, c, from, to);
        puts_to(t, c->r.kind == CHAT ? "],\"refusal\":null}" : "]");
    }
}

/* A piece of an event stream: as a chunk, where the client knows chunks. */
static void put_event(client *c, const text *data) {
    if (c->h.minor) putf(&c->out, "%lx\r\n", (unsigned long)(data->n + 8));
    puts_to(&c->out, "data: ");
    put(&c->out, data->p, data->n);
    puts_to(&c->out, c->h.minor ? "\n\n\r\n" : "\n\n");
}

/* Rows of log-probabilities whose text is in what has been given; all: every one. */
static size_t given_rows(const client *c, int all) {
    const request *r = &c->r;
    size_t i, n, at = 0;
    if (r->n_top < 0 || all) return r->n_logprob;
    for (i = 0; i < r->n_logprob; i++) {
        const gpt_token id = r->logprob[i * ((size_t)r->n_top + 1)].token;
        gpt_token_text(c->sv->m, id, &n);
        at += gpt_token_is_control(c->sv->m, id) ? 0 : n;
        if (at > r->given + r->thought.n) break;
    }
    return i;
}

/* An event with a piece of the answer: field names what of the delta it is; finish: the last one. raw: p is JSON. */
static void event(client *c, const char *field, const char *p, size_t n, int raw, const char *finish) {
    request *r = &c->r;
    text t = { NULL, 0, 0 }, value = { NULL, 0, 0 };
    const size_t rows = given_rows(c, finish != NULL);
    if (raw) put(&value, p, n); else put_string(&value, p, n, 0);
    if (r->kind == LLAMA) {
        say(&t, "{\"index\":0,\"content\":%v,\"stop\":false", span_of(&value));
        if (r->n_top >= 0) { say(&t, ",\"completion_probabilities\":"); put_logprobs(&t, c, r->n_sent, rows); }
    } else {
        put_top(&t, c, r->kind == CHAT ? "chat.completion.chunk" : "text_completion");
        if (r->kind == TEXT) say(&t, ",\"choices\":[{\"index\":0,\"text\":%v,\"logprobs\":", span_of(&value));
        else if (!field) say(&t, ",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":");
        else say(&t, ",\"choices\":[{\"index\":0,\"delta\":{%s%q:%v},\"logprobs\":",
                 strcmp(field, "role") ? "" : "\"content\":\"\",", field, span_of(&value));
        if (rows > r->n_sent) put_logprobs(&t, c, r->n_sent, rows); else say(&t, "null");
        say(&t, finish ? ",\"finish_reason\":%q}]" : ",\"finish_reason\":null}]", finish);
        if (r->wants_usage) say(&t, ",\"usage\":null");
    }
    r->n_sent = rows;
    say(&t, "}");
    put_event(c, &t);
    clear(&t);
    clear(&value);
}

/* The tokens that have come since: their text is none of our business, their log-probabilities may be. */
static void look_at_tokens(client *c) {
    request *r = &c->r;
    const size_t wide = (size_t)r->n_top + 1;
    const gpt_token *ids;
    size_t n, k;
    if (r->n_top < 0) return;
    for (ids = gpt_session_tokens(r->slot->s, &n); r->n_seen < n; r->n_seen++) {
        gpt_logprob *row;
        if (r->n_logprob == r->room) {
            r->room = 2 * r->room + 64;
            r->logprob = (gpt_logprob *)args_need(realloc(r->logprob, r->room * wide * sizeof *r->logprob));
        }
        row = r->logprob + r->n_logprob++ * wide;
        for (k = 0; k < wide; k++) row[k].token = -1;
        row[0].token = ids[r->n_seen];
        row[0].logprob = 0;                             /* nothing else could come */
        if (r->n_seen != r->logits_at) continue;
        { gpt_logprob best;
          double sum = 0;
          if (!gpt_top(r->logits, r->n_vocab, 1, &best)) continue;      /* none is a number */
          for (k = 0; k < r->n_vocab; k++) sum += exp((double)r->logits[k] - (double)r->logits[best.token]);
          row[0].logprob = (float)((double)r->logits[row[0].token] - (double)r->logits[best.token] - log(sum)); }
        if (r->n_top)
            for (k = gpt_top(r->logits, r->n_vocab, (size_t)r->n_top, row + 1); k < (size_t)r->n_top; k++)
                row[1 + k].token = -1;
    }
}

static void see_logits(void *user, const gpt_session *s, float *logits, size_t n_vocab) {
    client *c = (client *)user;
    look_at_tokens(c);
    memcpy(c->r.logits, logits, n_vocab * sizeof *logits);
    gpt_session_tokens(s, &c->r.logits_at);
}

/* What has been written behind the thinking part, control tokens spelled. */
static void written(const client *c, text *out) {
    const request *r = &c->r;
    size_t n, size;
    const gpt_token *ids = gpt_session_tokens(r->slot->s, &n);
    const size_t from = r->think_end > r->n_ids ? r->think_end : r->n_ids;
    n = n > from ? n - from : 0;
    size = gpt_detokenize(c->sv->m, ids + from, n, 1, NULL, 0);
    out->p = (char *)args_need(malloc(out->max = size + 1));
    out->n = gpt_detokenize(c->sv->m, ids + from, n, 1, out->p, size);
    out->p[out->n] = 0;
}

/* Bytes of what is said that are content for sure, and no call or the beginning of one. */
static size_t content_end(const client *c) {
    const request *r = &c->r;
    const syntax *x = r->calls;
    const char *said = r->said.p ? r->said.p : "", *at;
    size_t k;
    text all = { NULL, 0, 0 };
    if (!x) return r->said.n;
    if (r->must) return 0;
    if (!*x->begin) return said[strspn(said, " \t\r\n")] == '{' || !said[strspn(said, " \t\r\n")] ? 0 : r->said.n;
    at = find(said, said + r->said.n, x->begin);
    if (at) while (at > said && strchr(" \t\r\n", at[-1])) at--;
    if (at) return (size_t)(at - said);
    written(c, &all);
    at = find(all.p, all.p + all.n, x->begin);
    clear(&all);
    if (at) return r->given;                            /* a control token begins it */
    for (k = strlen(x->begin) - 1; k && (k > r->said.n || memcmp(said + r->said.n - k, x->begin, k)); k--) {}
    /* white space ahead of a call is not its content */
    for (k = r->said.n - k; k && strchr(" \t\r\n", said[k - 1]); k--) {}
    return k;
}

/* The text goes to the client as far as it is content. */
static void give(client *c, size_t end) {
    request *r = &c->r;
    const size_t from = r->given;
    if (end <= from) return;
    r->given = end;
    if (r->stream) event(c, "content", r->said.p + from, end - from, 0, NULL);
}
static int client_text(void *user, const char *p, size_t n) {
    client *c = (client *)user;
    put(&c->r.said, p, n);
    look_at_tokens(c);
    give(c, content_end(c));
    return 0;
}
static int client_thought(void *user, const char *p, size_t n) {
    client *c = (client *)user;
    put(&c->r.thought, p, n);
    gpt_session_tokens(c->r.slot->s, &c->r.think_end);
    look_at_tokens(c);
    if (c->r.stream) event(c, "reasoning_content", p, n, 0, NULL);
    return 0;
}

/* The calls as OpenAI has them; each with an id that no other answer has: nine letters and digits, as Mistral wants. */
static void put_calls(text *t, const client *c, const call *calls, size_t n) {
    const uint64_t number = c->r.ticket + (uint64_t)c->r.created * 4099;
    for (size_t i = 0; i < n; i++) {
        putf(t, "%s{\"id\":\"c%05lx%03lx\"", i ? "," : "[", (unsigned long)(number & 0xfffff),
             (unsigned long)i & 0xfff);
        if (c->r.stream) say(t, ",\"index\":%u", i);
        say(t, ",\"type\":\"function\",\"function\":{\"name\":%q,\"arguments\":%q}}", calls[i].name, calls[i].args);
    }
    puts_to(t, "]");
}

static void leave(client *c) {                          /* the answer is made: its text may be another's */
    if (c->r.slot) {
        c->held = 0;
        gpt_end(c->r.slot->s);
        gpt_session_hold(c->r.slot->s, 0);
        c->r.slot->c = NULL;
        c->r.slot->used = ++c->sv->clock;
    }
    request_clear(&c->r);
}

static void end_stream(client *c, const text *last) {
    if (last) put_event(c, last);
    if (c->h.minor) puts_to(&c->out, "0\r\n\r\n");
    c->answered = 1;
}

/* The text is over: the rest of the answer, or all of it. */
static void answer(client *c, const gpt_session_info *info) {
    static const syntax object = { "", { NULL, NULL, NULL }, { NULL, NULL, NULL }, "", "", OBJECT, "arguments",
                                   NULL, NULL, "", "", "", "", "" };
    request *r = &c->r;
    const gpt_finish finish = info->finish;
    const char *why = finish == GPT_FINISH_LENGTH || finish == GPT_FINISH_CONTEXT ? "length" : "stop";
    text t = { NULL, 0, 0 }, all = { NULL, 0, 0 }, called = { NULL, 0, 0 }, said = { NULL, 0, 0 };
    call calls[N_CALL];
    size_t n_call = 0, n, k = 0;
    const gpt_token *ids;
    look_at_tokens(c);
    ids = gpt_session_tokens(r->slot->s, &n);           /* a stop string's tokens have gone */
    while (k < r->n_logprob && r->n_ids + k < n &&
           r->logprob[k * ((size_t)r->n_top + 1)].token == ids[r->n_ids + k]) k++;
    r->n_logprob = r->n_sent > k ? r->n_sent : k;
    r->n_generated = info->n_generated;
    if (finish == GPT_FINISH_LENGTH && (r->said.n || !r->thought.n) &&      /* what might have begun a stop string */
        !gpt_begin(r->slot->s, NULL, NULL, client_text, c, NULL)) gpt_end(r->slot->s);
    if (r->calls) {
        if (r->must) say(&all, "%v", span_of(&r->said)); else written(c, &all);
        n_call = read_calls(r->must ? &object : r->calls, all.p, all.n, calls);
        clear(&all);
    }
    if (n_call) { why = "tool_calls"; put_calls(&called, c, calls, n_call); clear_calls(calls, n_call); }
    else give(c, r->said.n);
    if (n_call && !r->given) say(&said, "null"); else put_string(&said, r->said.p, r->given, 0);
    if (r->kind == LLAMA && r->stream) { clear(&said); say(&said, "\"\""); }      /* it has all of it */
    if (r->kind == LLAMA) {
        say(&t, "{\"index\":0,\"content\":%v,\"stop\":true,\"model\":%q,\"stop_type\":%q", span_of(&said), c->sv->name,
            *why == 'l' ? "limit" : finish == GPT_FINISH_STOP ? "word" : "eos");
        say(&t, ",\"tokens_evaluated\":%u,\"tokens_predicted\":%u,\"tokens_cached\":%u", r->n_ids, r->n_generated,
            r->n_common);
        if (r->n_top >= 0) { say(&t, ",\"completion_probabilities\":"); put_logprobs(&t, c, r->n_sent, r->n_logprob); }
        say(&t, "}");
        if (r->stream) end_stream(c, &t); else respond(c, 200, "", &t);
    } else if (r->stream) {
        static char done[] = "[DONE]";
        const text last = { done, sizeof done - 1, 0 };
        if (n_call) event(c, "tool_calls", called.p, called.n, 1, NULL);
        event(c, NULL, "", 0, 0, why);
        if (r->wants_usage) {
            put_top(&t, c, r->kind == CHAT ? "chat.completion.chunk" : "text_completion");
            say(&t, ",\"choices\":[],");
            put_usage(&t, c);
            say(&t, "}");
            put_event(c, &t);
        }
        end_stream(c, &last);
    } else {
        put_top(&t, c, r->kind == CHAT ? "chat.completion" : "text_completion");
        if (r->kind == TEXT) say(&t, ",\"choices\":[{\"index\":0,\"text\":%v", span_of(&said));
        else say(&t, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":%v", span_of(&said));
        if (r->thought.n) { say(&t, ",\"reasoning_content\":"); put_string(&t, r->thought.p, r->thought.n, 0); }
        if (n_call) say(&t, ",\"tool_calls\":%v", span_of(&called));
        say(&t, r->kind == CHAT ? ",\"refusal\":null},\"logprobs\":" : ",\"logprobs\":");
        put_logprobs(&t, c, 0, r->n_logprob);
        say(&t, ",\"finish_reason\":%q}],", why);
        put_usage(&t, c);
        say(&t, "}");
        respond(c, 200, "", &t);
    }
    clear(&t); clear(&called); clear(&said);
    leave(c);
}

/* It went wrong on the way: an error, in a stream that has begun as its last event. */
static void fail(client *c, const gpt_error *err) {
    if (!c->r.stream || !c->r.slot) refuse_result(c, NULL, err);
    else {
        text t = { NULL, 0, 0 };
        put_error(&t, 500, NULL, NULL, err->msg);
        end_stream(c, &t);
        c->last = 1;
        clear(&t);
    }
    leave(c);
}

/* ---- Texts in slots ---------------------------------------------------------------------------------------------- */

/* A slot that is free, with as much of the prompt in it as any text has: its own, or a copy. NULL: none is. */
static place *take_slot(server *sv, const gpt_token *ids, size_t n, gpt_error *err) {
    place *old = NULL, *like = NULL, *alike = NULL, *s;
    size_t like_n = 0, alike_n = 0, k, size;
    err->code = GPT_OK;
    for (s = sv->slots; s < sv->slots + sv->n_slot; s++) {
        const gpt_token *own = gpt_session_tokens(s->s, &size);
        for (k = 0; k < n && k < size && own[k] == ids[k]; k++) {}
        if (k > alike_n) { alike = s; alike_n = k; }
        if (s->c) continue;
        if (k > like_n && k >= size / 2) { like = s; like_n = k; }      /* it goes on from most of that text */
        if (!old || s->used < old->used) old = s;
    }
    if (!like && sv->n_slot < sv->most_slots) {
        s = &sv->slots[sv->n_slot];
        if (!gpt_session_new(&s->s, sv->m, &sv->session, err)) { old = s; sv->n_slot++; }
        else if (!sv->n_slot) return NULL;
        else { sv->most_slots = sv->n_slot; err->code = GPT_OK; }       /* no memory: fewer at once */
    }
    if (!like) like = old;
    if (!like) return NULL;
    if (alike_n > like_n && alike != like && gpt_session_copy(like->s, alike->s, alike_n, NULL))
        gpt_session_reset(like->s);
    return like;
}

static gpt_result next_vector(client *c, gpt_error *err) {
    request *r = &c->r;
    const size_t from = r->input ? r->ends[r->input - 1] : 0;
    gpt_eval_params params;
    memset(&params, 0, sizeof params);
    params.embedding = r->vectors;
    params.pool = c->sv->pool;
    gpt_session_reset(r->slot->s);
    return gpt_eval_begin(r->slot->s, r->ids + from, r->ends[r->input] - from, &params, err);
}

/* A request that waited has its turn; 0: all slots are taken. */
static int begin(client *c) {
    server *sv = c->sv;
    request *r = &c->r;
    gpt_error err;
    gpt_result result;
    size_t n;
    place *s = take_slot(sv, r->ids, r->kind == EMBED ? 0 : r->n_ids, &err);
    const gpt_token *own;
    if (!s && err.code) { fail(c, &err); return 1; }
    if (!s) return 0;
    own = gpt_session_tokens(s->s, &n);
    if (r->kind != EMBED)
        while (r->n_common + 1 < r->n_ids && r->n_common < n && own[r->n_common] == r->ids[r->n_common]) r->n_common++;
    if (r->n_top >= 0 && r->kind != EMBED) {
        r->logits = (float *)args_need(malloc(r->n_vocab * sizeof *r->logits));
        r->params.logits = see_logits;
        r->params.logits_user = c;
        r->params.n_draft = 0;
        r->n_seen = r->n_ids;
    }
    r->slot = s;
    if (r->kind == CHAT) {
        gpt_chat_params chat = chat_of(c);
        r->params.think = client_thought;
        r->params.think_user = c;
        result = gpt_chat_begin(s->s, r->messages, r->n_message, &chat, &r->params, client_text, c, &err);
        if (!result) gpt_session_tokens(s->s, &r->n_ids);       /* as it waited, the date may have changed */
        r->n_seen = r->n_ids;
        r->phase = WRITES;
    } else if (r->kind == EMBED) {
        r->vectors = (float *)args_need(malloc(((size_t)sv->info.n_embd + sv->info.d_model) * sizeof *r->vectors));
        result = next_vector(c, &err);
        r->phase = VECTORS;
    } else {    /* one token less than the slot has: what another request was not given must not come here */
        if (r->n_common == n && n) r->n_common--;
        result = r->n_common ? gpt_session_rewind(s->s, r->n_common, &err) : (gpt_session_reset(s->s), GPT_OK);
        if (result) { gpt_session_reset(s->s); r->n_common = 0; }
        result = gpt_eval_begin(s->s, r->ids + r->n_common, r->n_ids - r->n_common, NULL, &err);
        r->phase = READS;
    }
    if (result) { r->slot = NULL; fail(c, &err); return 1; }
    s->c = c;
    if (r->stream) {
        put_head(c, 200, "text/event-stream", 0, "");
        if (r->kind == CHAT) event(c, "role", "assistant", 9, 0, NULL);
    }
    return 1;
}

static void put_vector(client *c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    request *r = &c->r;
    const size_t n = c->sv->info.n_embd;
    say(&r->list, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", r->input ? "," : "", r->input);
    if (!r->base64) {
        for (size_t i = 0; i < n; i++)
            putf(&r->list, i ? ",%.9g" : "[%.9g", fabs((double)r->vectors[i]) < 1e30 ? (double)r->vectors[i] : 0.0);
        puts_to(&r->list, "]}");
        return;
    }
    puts_to(&r->list, "\"");
    for (size_t i = 0; i < 4 * n; i += 3) {             /* the floats little-endian */
        uint32_t bits = 0;
        char four[4];
        for (size_t k = 0; k < 3; k++) {
            uint32_t x = 0;
            if (i + k < 4 * n) memcpy(&x, &r->vectors[(i + k) / 4], 4);
            bits = bits << 8 | (x >> 8 * ((i + k) & 3) & 255);
        }
        for (size_t k = 0; k < 4; k++) four[k] = i + k > 4 * n ? '=' : digits[bits >> (18 - 6 * k) & 63];
        put(&r->list, four, 4);
    }
    puts_to(&r->list, "\"}");
}

/* After a step: what became of a client's text? */
static void go_on(client *c) {
    request *r = &c->r;
    gpt_session_info info;
    gpt_error err;
    gpt_result result = GPT_OK;
    gpt_session_info_get(r->slot->s, &info);
    if (info.result == GPT_MORE) {
        c->held = c->out.n - c->n_out > (c->held ? OUT_MAX / 2 : OUT_MAX);
        gpt_session_hold(r->slot->s, c->held);
        return;
    }
    if (info.result < 0) {
        err.code = info.result;
        snprintf(err.msg, sizeof err.msg, "the text ended with error %d", (int)info.result);
        fail(c, &err);
        return;
    }
    if (r->phase == WRITES) { answer(c, &info); return; }
    if (r->phase == READS) {
        result = gpt_begin(r->slot->s, NULL, &r->params, client_text, c, &err);
        r->phase = WRITES;
    } else {
        put_vector(c);
        if (++r->input < r->n_input) result = next_vector(c, &err);
        else {
            text t = { NULL, 0, 0 };
            say(&t, "{\"object\":\"list\",\"data\":[%v],\"model\":%q,\"usage\":{\"prompt_tokens\":%u,"
                "\"total_tokens\":%u}}", span_of(&r->list), c->sv->name, r->n_ids, r->n_ids);
            respond(c, 200, "", &t);
            clear(&t);
            leave(c);
            return;
        }
    }
    if (result) fail(c, &err);
}

/* ---- Routes ------------------------------------------------------------------------------------------------------ */

static void models(client *c) {
    const server *sv = c->sv;
    const gpt_model_info *info = &sv->info;
    text t = { NULL, 0, 0 };
    const char *one = !strncmp(c->h.path, "/v1/models/", 11) ? c->h.path + 11 : NULL;
    if (one && strcmp(one, sv->name)) {
        refuse(c, 404, "model", "there is no model of this name: /v1/models lists them");
        return;
    }
    say(&t, "%s{\"id\":%q,\"object\":\"model\",\"created\":%u,\"owned_by\":\"gpt.h\"",
        one ? "" : "{\"object\":\"list\",\"data\":[", sv->name, (size_t)sv->born);
    say(&t, ",\"meta\":{\"n_ctx\":%u,\"n_ctx_train\":%u,\"n_vocab\":%u,\"n_embd\":%u", (size_t)sv->session.n_ctx,
        (size_t)info->n_ctx, (size_t)info->n_vocab, (size_t)info->d_model);
    putf(&t, ",\"n_params\":%.0f,\"size\":%.0f}}%s", (double)info->n_param, (double)info->file_bytes, one ? "" : "]}");
    respond(c, 200, "", &t);
    clear(&t);
}

/* What is going on, for tests and the curious: no text. */
static void slots(client *c) {
    text t = { NULL, 0, 0 };
    for (int i = 0; i < c->sv->n_slot; i++) {
        gpt_session_info info;
        gpt_session_info_get(c->sv->slots[i].s, &info);
        say(&t, "%s{\"id\":%u,\"n_ctx\":%u,\"n_past\":%u,\"is_processing\":%s,\"is_held\":%s}", i ? "," : "[",
            (size_t)i, (size_t)info.n_ctx, info.n_token, c->sv->slots[i].c ? "true" : "false",
            info.held ? "true" : "false");
    }
    say(&t, "]");
    respond(c, 200, "", &t);
    clear(&t);
}
static void health(client *c) {
    static char ok[] = "{\"status\":\"ok\"}";
    const text t = { ok, sizeof ok - 1, 0 };
    respond(c, 200, "", &t);
}

static const struct { const char *path; int post; task what; void (*get)(client *c); } routes[] = {
    { "/v1/chat/completions", 1, CHAT, NULL }, { "/chat/completions", 1, CHAT, NULL },
    { "/v1/completions", 1, TEXT, NULL }, { "/completion", 1, LLAMA, NULL }, { "/completions", 1, LLAMA, NULL },
    { "/v1/embeddings", 1, EMBED, NULL }, { "/embeddings", 1, EMBED, NULL },
    { "/v1/models", 0, CHAT, models }, { "/models", 0, CHAT, models }, { "/v1/models/", 0, CHAT, models },
    { "/slots", 0, CHAT, slots }, { "/health", 0, CHAT, health }, { "/v1/health", 0, CHAT, health },
};

static int route_of(const char *path) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const size_t n = strlen(routes[i].path);
        if (!strcmp(path, routes[i].path) || (routes[i].path[n - 1] == '/' && !strncmp(path, routes[i].path, n)))
            return (int)i;
    }
    return -1;
}

/* The time it takes does not tell how much of the key is right. */
static int same_key(const char *a, const char *b) {
    const size_t n = strlen(a), m = strlen(b);
    volatile unsigned char diff = (unsigned char)(n != m);
    for (size_t i = 0; i < n; i++)
        diff = (unsigned char)(diff | ((unsigned char)a[i] ^ (unsigned char)b[m ? i % m : 0]));
    return !diff;
}

/* Is this a list of names, which may stand in a header field? */
static int is_list(const char *p) {
    const char *const begin = p;
    while (*p == ',' || *p == ' ' || is_token(p, 1)) p++;
    return p > begin && !*p;
}

/* The head of a request is here: is the body worth waiting for? */
static void admit(client *c) {
    http *h = &c->h;
    const int route = route_of(h->path), post = !strcmp(h->method, "POST"), preflight = !strcmp(h->method, "OPTIONS");
    char more[512] = "";
    if (h->status > 200) return;
    if (*h->origin && !is_ours(c->sv, h->origin)) {
        refuse(c, 403, NULL, "pages of this origin may not ask: --allow-origin");
        return;
    }
    if (preflight) {
        if (*h->origin)
            snprintf(more, sizeof more, "Access-Control-Allow-Methods: GET, POST\r\n"
                     "Access-Control-Allow-Headers: %s\r\nAccess-Control-Max-Age: 600\r\n",
                     is_list(h->asked) ? h->asked : "authorization, content-type");
        else strcpy(more, "Allow: GET, POST\r\n");
        put_head(c, 204, NULL, 0, more);
        c->answered = 1;
        return;
    }
    if (*c->sv->key && !same_key(h->key, c->sv->key) && !(route >= 0 && routes[route].get == health)) {
        refuse(c, 401, NULL, "the API key is missing or wrong");
        return;
    }
    if (route < 0) { refuse(c, 404, NULL, "there is no such route; --help lists them"); return; }
    if (post != routes[route].post || (!post && strcmp(h->method, "GET") && strcmp(h->method, "HEAD"))) {
        refuse(c, 405, NULL, "expected the method %s", routes[route].post ? "POST" : "GET");
        return;
    }
    if (h->expect && h->status == 0) puts_to(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

/* A request is whole: answered at once, or it waits for its turn. */
static void serve(client *c) {
    const int route = route_of(c->h.path);
    if (!routes[route].post) routes[route].get(c);
    else if (read_request(c, routes[route].what)) c->r.phase = QUEUED;
    c->n_member = 0;
    clear(&c->h.body);
    if (c->answered) request_clear(&c->r);
}

/* ---- Sockets: POSIX and Windows ---------------------------------------------------------------------------------- */

#ifdef _WIN32
typedef WSAPOLLFD net_pollfd;
typedef int       net_size;
#  define net_poll(p, n, ms) (WSAPoll(p, (ULONG)(n), ms))
#  define net_close          closesocket
#  define NET_NONE           INVALID_SOCKET
static int net_would_block(void) { return WSAGetLastError() == WSAEWOULDBLOCK; }
static int net_start(void) { WSADATA data; return WSAStartup(MAKEWORD(2, 2), &data) == 0; }
static int net_prepare(net_socket fd) { u_long on = 1; return ioctlsocket(fd, FIONBIO, &on) == 0; }
static const char *net_error(void) {
    static char s[32];
    snprintf(s, sizeof s, "error %d", WSAGetLastError());
    return s;
}
enum { NET_ALONE = SO_EXCLUSIVEADDRUSE, NET_STOP_SENDING = SD_SEND };
#else
typedef struct pollfd net_pollfd;
typedef size_t        net_size;
#  define net_poll(p, n, ms) poll(p, (nfds_t)(n), ms)
#  define net_close          close
#  define NET_NONE           (-1)
static int net_would_block(void) { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }
static int net_start(void) { return signal(SIGPIPE, SIG_IGN) != SIG_ERR; }
static int net_prepare(net_socket fd) { return fcntl(fd, F_SETFL, O_NONBLOCK) == 0; }
static const char *net_error(void) { return strerror(errno); }
enum { NET_ALONE = SO_REUSEADDR, NET_STOP_SENDING = SHUT_WR };  /* there it means: also while old connections fade */
#endif

static net_socket listen_at(const char *host, int port, char *shown, size_t size) {
    struct addrinfo want, *all = NULL, *a;
    struct sockaddr_storage own;
    socklen_t n = sizeof own;
    char number[16];
    net_socket fd = NET_NONE;
    int on = 1;
    memset(&want, 0, sizeof want);
    want.ai_socktype = SOCK_STREAM;
    want.ai_flags = AI_PASSIVE;
    snprintf(number, sizeof number, "%d", port);
    if (getaddrinfo(host, number, &want, &all) || !all) args_die("--host %s: no such address", host);
    for (a = all; a; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd == NET_NONE) continue;
        setsockopt(fd, SOL_SOCKET, NET_ALONE, (const char *)&on, sizeof on);
        if (!bind(fd, a->ai_addr, (socklen_t)a->ai_addrlen) && !listen(fd, 128) && net_prepare(fd)) break;
        if (!a->ai_next) args_die("--host %s --port %d: %s", host, port, net_error());
        net_close(fd);
        fd = NET_NONE;
    }
    freeaddrinfo(all);
    if (fd == NET_NONE || getsockname(fd, (struct sockaddr *)&own, &n))
        args_die("--host %s --port %d: %s", host, port, net_error());
    if (own.ss_family == AF_INET6)
        snprintf(shown, size, "http://[%s]:%d", host, (int)ntohs(((struct sockaddr_in6 *)(void *)&own)->sin6_port));
    else snprintf(shown, size, "http://%s:%d", host, (int)ntohs(((struct sockaddr_in *)(void *)&own)->sin_port));
    return fd;
}

static void hang_up(client *c) {                        /* whatever it was doing */
    server *sv = c->sv;
    int i = 0;
    leave(c);
    if (c->fd != NET_NONE) net_close(c->fd);
    http_clear(&c->h);
    clear(&c->out);
    while (sv->clients[i] != c) i++;
    sv->clients[i] = sv->clients[--sv->n_client];
    free(c);
}

static client *new_client(server *sv, net_socket fd) {
    client *c = (client *)args_need(calloc(1, sizeof *c));
    c->sv = sv;
    c->fd = fd;
    c->since = args_seconds();
    return c;
}

/* A new connection. Where there are too many, one that has been silent for a second makes room; without one: 503. */
static void welcome(server *sv) {
    for (;;) {
        client *idle = NULL, *c;
        int on = 1, room = OUT_MAX, n = 0;
        const net_socket fd = accept(sv->fd, NULL, NULL);
        if (fd == NET_NONE) return;
        if (!net_prepare(fd)) { net_close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, (const char *)&room, sizeof room);
        for (int i = 0; i < sv->n_client; i++) {
            c = sv->clients[i];
            n += !c->last;
            if (!c->h.n_head && !c->out.n && !c->r.phase && c->since < (idle ? idle->since : args_seconds() - 1))
                idle = c;
        }
        if (n >= N_CLIENT && idle) { hang_up(idle); n--; }
        if (sv->n_client == N_CLIENT + N_REFUSED) { net_close(fd); continue; }
        c = sv->clients[sv->n_client++] = new_client(sv, fd);
        if (n >= N_CLIENT) refuse(c, 503, NULL, "%d clients are connected, which is the most", (int)N_CLIENT);
    }
}

/* Bytes of a request, or the client's end: 0, and it is gone. What comes behind a request stays where it is. */
static int read_on(client *c) {
    static char buf[16 << 10];
    int n = (int)recv(c->fd, buf, sizeof buf, MSG_PEEK);
    size_t used = 0;
    if (n < 0 && net_would_block()) return 1;
    if (n <= 0) return 0;
    if (c->last && c->answered) used = (size_t)n;       /* nobody listens any more */
    else if (c->r.phase || c->answered) { c->more = 1; return 1; }
    while (used < (size_t)n && !c->h.status && !c->answered) {
        used += http_feed(&c->h, buf + used, (size_t)n - used);
        if (!c->admitted && (c->h.stage > HTTP_FIELD || c->h.status == 200)) { c->admitted = 1; admit(c); }
    }
    if (used && recv(c->fd, buf, (net_size)used, 0) != (int)used) return 0;
    if (c->h.status > 200) refuse(c, c->h.status, NULL, "%s", c->h.why);
    else if (c->h.status == 200 && !c->answered) serve(c);
    return 1;
}

/* Sends what there is; behind the whole answer the next request may come. 0: the client is gone. */
static int write_on(client *c) {
    while (c->n_out < c->out.n) {
        const size_t left = c->out.n - c->n_out;
        const int n = (int)send(c->fd, c->out.p + c->n_out, (net_size)(left < 1 << 16 ? left : 1 << 16), 0);
        if (n < 0 && net_would_block()) break;
        if (n <= 0) return 0;
        c->n_out += (size_t)n;
        c->since = args_seconds();
    }
    if (c->n_out == c->out.n || (c->n_out > OUT_MAX && !c->answered)) {         /* what has gone makes room */
        c->out.n -= c->n_out;
        if (c->out.n) memmove(c->out.p, c->out.p + c->n_out, c->out.n);
        c->n_out = 0;
    }
    if (!c->answered || c->out.n || c->quiet) return 1;
    if (c->last) {      /* closed at once, what it still sends would cost it our last words */
        shutdown(c->fd, NET_STOP_SENDING);
        c->quiet = 1;
        return 1;
    }
    clear(&c->out);
    http_clear(&c->h);
    c->admitted = c->answered = c->more = 0;
    return 1;
}

/* ---- The loop ---------------------------------------------------------------------------------------------------- */

/* Asked between slices of work of a few milliseconds: is it time to look at the sockets? */
static gpt_poll look(void *user, size_t done, size_t total) {
    (void)done; (void)total;
    return args_stopped ? GPT_CANCEL : args_seconds() >= ((const server *)user)->deadline ? GPT_PAUSE : GPT_GO;
}

/* Texts that waited have their turn, in the order of their requests. */
static void begin_waiting(server *sv) {
    client *first;
    do {
        first = NULL;
        for (int i = 0; i < sv->n_client; i++) {
            client *c = sv->clients[i];
            if (c->r.phase == QUEUED && (!first || c->r.ticket < first->r.ticket)) first = c;
        }
    } while (first && begin(first));
}

/* One look at all sockets, and one slice of work. */
static void turn(server *sv) {
    static net_pollfd fds[N_CLIENT + N_REFUSED + 1];
    gpt_error err;
    const int n = sv->n_client;
    int working = 0, i;
    memset(fds, 0, sizeof fds);
    fds[n].fd = sv->fd;
    fds[n].events = POLLIN;
    for (i = 0; i < n; i++) {
        const client *c = sv->clients[i];
        fds[i].fd = c->fd;
        fds[i].events = (short)((c->more ? 0 : POLLIN) | (c->n_out < c->out.n ? POLLOUT : 0));
        working |= c->r.phase > QUEUED && !(c->held && c->out.n - c->n_out > OUT_MAX / 2);
    }
    if (net_poll(fds, n + 1, working ? 0 : 1000) < 0) memset(fds, 0, sizeof fds);
    for (i = n; i-- > 0; ) {                    /* from the end: the last one takes the place of one that goes */
        client *c = sv->clients[i];
        const double now = args_seconds();
        int here = 1;
        if (fds[i].revents & (POLLHUP | POLLERR | POLLNVAL) &&
            !(fds[i].revents & POLLIN && !c->r.phase && !c->answered)) here = 0;
        else if (fds[i].revents & ~POLLOUT) here = read_on(c);
        if (here && c->r.phase && c->n_out == c->out.n) c->since = now;         /* it is for us to do something */
        if (here && now - c->since > (c->quiet ? FAREWELL : PATIENCE)) {
            here = !c->quiet && !c->answered && c->h.n_head && !c->r.phase && !c->out.n;
            if (here) {
                c->last = 1;
                refuse(c, 408, NULL, "the request was not whole in %d seconds", (int)PATIENCE);
                c->since = now;
            }
        }
        if (here) here = write_on(c);
        if (!here) hang_up(c);
    }
    if (fds[n].revents) welcome(sv);
    begin_waiting(sv);
    sv->deadline = args_seconds() + SLICE;
    gpt_work_step(sv->w, &err);
    for (i = 0; i < sv->n_slot; i++) if (sv->slots[i].c) go_on(sv->slots[i].c);
}

static void run(server *sv, const args_common *c, const char *host, int port) {
    gpt_hooks hooks;
    gpt_error err;
    char shown[128];
    memset(&hooks, 0, sizeof hooks);
    hooks.parallel = args_parallel(c), hooks.poll = look, hooks.poll_user = sv;
    sv->session.no_logits = 1;
    if (gpt_session_new(&sv->slots[0].s, sv->m, &sv->session, &err) || gpt_session_hooks(sv->slots[0].s, &hooks, &err))
        args_die("%s", err.msg);
    sv->n_slot = 1;
    if (!net_start()) args_die("no sockets: %s", net_error());
    sv->fd = listen_at(host, port, shown, sizeof shown);
    if (strncmp(host, "127.", 4) && strcmp(host, "localhost") && strcmp(host, "::1") && !*sv->key)
        fprintf(stderr, "server: other machines may ask too, and there is no --api-key\n");
    fprintf(stderr, "server: %s at %s/v1, %d texts of %lu tokens at once\n", sv->name, shown, sv->most_slots,
            (unsigned long)sv->session.n_ctx);
    while (!args_stopped) turn(sv);
    while (sv->n_client) hang_up(sv->clients[0]);
    net_close(sv->fd);
    for (int i = 0; i < sv->n_slot; i++) gpt_session_free(sv->slots[i].s);
    gpt_work_free(sv->w);
}

int main(int argc, char **argv) {
    static const char plain[] = "{{ bos_token if add_bos_token }}{% for m in messages %}{{ m.content }}"
                                "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}";
    static server sv;
    args_common c = { 0 };
    args_sampling sampling = ARGS_SAMPLING_DEFAULT;
    embed_options embed = { NULL, NULL, NULL };
    const char *host = "127.0.0.1", *jinja = NULL, *alias = NULL, *name;
    int port = 8080, parallel = 4;
    size_t n;
    char *own = NULL;
    sv.key = "";
    const arg table[] = {
        ARGS_COMMON(c),
        ARGS_ADAPTER(c),
        { "--port",           ARG_COUNT, &port,           "N",    "port (8080); 0 = one that is free" },
        { "--host",           ARG_TEXT,  &host,           "NAME", "address to listen at (127.0.0.1, this machine)" },
        { "--api-key",        ARG_TEXT,  &sv.key,         "KEY",  "who asks has to give this key, but for /health" },
        { "--allow-origin",   ARG_LIST,  &sv.origins,     "URL",  "pages of this origin may ask; may be repeated" },
        { "-np, --parallel",  ARG_COUNT, &parallel,       "N",    "texts at once, at most 64 (4); each has -c tokens" },
        { "-a, --alias",      ARG_TEXT,  &alias,          "NAME", "the model's name; default: its file's" },
        { "--chat-template",  ARG_TEXT,  &sv.chat.family, "NAME", "chat template family; default: the file's" },
        { "--chat-template-file", ARG_TEXT, &jinja,       "FILE", "a chat template (Jinja)" },
        { "--pooling",        ARG_TEXT,  &embed.pooling,  "TYPE", "of embeddings: mean, cls, last; default: file's" },
        ARGS_SAMPLING_N(sampling, "tokens to write at most; -1 = no limit (default)",
                        "seed; -1 = another one each time (default)"),
        { NULL, ARG_FLAG, NULL, NULL, NULL }
    };
    sampling.seed = -1;
    args_parse(argc, argv, "server", table, about);
    if (!c.model) args_die("no model: -m FILE names one");
    if (port > 65535) args_die("--port: expected 0 to 65535, got %d", port);
    if (parallel < 1 || parallel > N_SLOT)
        args_die("%s: expected 1 to %d, got %d", args_name("-np"), (int)N_SLOT, parallel);
    if (strlen(sv.key) > 255) args_die("--api-key: at most 255 bytes");
    args_generation(&sampling);                         /* its checks */
    signal(SIGINT, args_on_interrupt);
    signal(SIGTERM, args_on_interrupt);
    sv.sampling = sampling;
    sv.most_slots = parallel;
    sv.born = time(NULL);
    sv.m = args_load(&c, ARGS_ANY);
    gpt_model_info_get(sv.m, &sv.info);
    sv.w = args_work(&c, sv.m, &sv.session);
    sv.session.n_ctx = (uint32_t)many_window(&c, sv.m);
    sv.pool = embed_pool(&embed, sv.m);
    for (name = c.model + strlen(c.model); name > c.model && !strchr("/\\", name[-1]); name--) {}
    n = strlen(name) > 5 && !strcmp(name + strlen(name) - 5, ".gguf") ? strlen(name) - 5 : strlen(name);
    if (!alias) { own = (char *)args_need(malloc(n + 1)); memcpy(own, name, n); own[n] = 0; alias = own; }
    sv.name = alias;
    if (jinja) sv.chat.jinja = args_read(jinja, &n);
    else if (!sv.chat.family && !*sv.info.chat_template) sv.chat.jinja = plain;
    sv.chat_template = sv.chat.jinja ? sv.chat.jinja : sv.chat.family ? "" : sv.info.chat_template;
    run(&sv, &c, host, port);
    if (jinja) free((void *)(size_t)sv.chat.jinja);
    free(own);
    args_unload(&c, sv.m);
    return 0;
}
