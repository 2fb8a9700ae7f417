/* What gpt.h makes of chat templates, many in one process, for template_oracle.py. Reads records from stdin:
 *
 *     T LENGTH\n TEMPLATE         a template for the records that follow
 *     R LENGTH DATE\n VARIABLES   renders it with a JSON object, messages and all; DATE as 2024-07-26
 *
 * and writes for each R a line "KIND LENGTH" and as many bytes: t the text, r what the template raised, u the message about a
 * construct that is not known, e any other error. */
#ifndef GPT_LINKED
#define GPT_IMPLEMENTATION
#endif
#include "gpt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#  include <fcntl.h>
#  include <io.h>
#endif

static char *read_block(size_t n) {
    char *p = (char *)malloc(n + 1);
    if (!p || fread(p, 1, n, stdin) != n) { fprintf(stderr, "template_probe: a record is cut short\n"); exit(1); }
    p[n] = 0;
    return p;
}

static void answer(char kind, const char *text, size_t n) {
    printf("%c %lu\n", kind, (unsigned long)n);
    if (n) fwrite(text, 1, n, stdout);
}

static void render(const char *jinja, const char *variables, const char *date) {
    static char *text;
    static size_t size;
    gpt_chat_params chat;
    gpt_error err;
    gpt_result r;
    size_t n = 0;
    memset(&chat, 0, sizeof chat);
    chat.jinja = jinja;
    chat.variables = variables;
    chat.date = date;
    r = gpt_chat_format(NULL, NULL, 0, &chat, text, size, &n, &err);
    if (!r && n > size) {
        free(text);
        size = n + n / 2;
        text = (char *)malloc(size);
        if (!text) exit(1);
        r = gpt_chat_format(NULL, NULL, 0, &chat, text, size, &n, &err);
    }
    if (!r) answer('t', text, n);
    else answer(r == GPT_E_REFUSED ? 'r' : r == GPT_E_UNSUPPORTED ? 'u' : 'e', err.msg, strlen(err.msg));
}

int main(void) {
    char *jinja = NULL, line[64], date[16], kind;
    unsigned long n;
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    while (fgets(line, sizeof line, stdin)) {
        strcpy(date, "2024-07-26");
        if (sscanf(line, "%c %lu %15s", &kind, &n, date) < 2) { fprintf(stderr, "template_probe: no record: %s\n", line); return 1; }
        if (kind == 'T') { free(jinja); jinja = read_block(n); continue; }
        {
            char *variables = read_block(n);
            render(jinja, variables, date);
            free(variables);
        }
    }
    free(jinja);
    return 0;
}
