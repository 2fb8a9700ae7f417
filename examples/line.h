/* Lines from a terminal, for programs that one talks to. A pasted text of several lines is one line here, and a line may have any
 * length: the systems' own line editors end a paste at its first line end, and a line after 4,095 bytes. Keys: backspace,
 * Ctrl-U (all), Ctrl-W (a word), Ctrl-D (the end); for arrows and a history run the program under rlwrap -a.
 * Include it after args.h. Where stdin and stdout are no terminal, where TERM is dumb, and on Windows, lines are read as they
 * come. */
#ifndef LINE_H
#define LINE_H

#ifndef _WIN32
#include <sys/select.h>
#include <termios.h>

static struct termios line_before;          /* the terminal as it was found */
static volatile sig_atomic_t line_own;      /* it is ours, and no longer so */

/* Safe in signal handlers, as are the calls it makes. */
static inline void line_restore(void) {
    static const char paste_off[] = "\033[?2004l";
    if (!line_own) return;
    line_own = 0;
    if (write(1, paste_off, sizeof paste_off - 1) < 0) {}
    tcsetattr(0, TCSANOW, &line_before);
}
static inline void line_take(void) {
    static const char paste_on[] = "\033[?2004h";   /* the terminal puts a paste between ESC [200~ and ESC [201~ */
    struct termios raw = line_before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    line_own = 1;
    tcsetattr(0, TCSANOW, &raw);
    if (write(1, paste_on, sizeof paste_on - 1) < 0) {}
}
static inline void line_on_end(int sig) { line_restore(); signal(sig, SIG_DFL); raise(sig); }
static inline void line_on_continue(int sig) {      /* after Ctrl-Z and fg */
    signal(sig, line_on_continue);
    if (line_own && tcgetpgrp(0) == getpgrp()) line_take();
}

/* Before the first line, as early as possible: what is typed meanwhile is kept. */
static inline void line_begin(void) {
    const char *term = getenv("TERM");
    if (!isatty(0) || !isatty(1) || !term || !*term || !strcmp(term, "dumb") || tcgetattr(0, &line_before)) return;
    atexit(line_restore);
    signal(SIGTERM, line_on_end);
    signal(SIGHUP, line_on_end);
    signal(SIGCONT, line_on_continue);
    line_take();
}
static inline int line_is_own(void) { return line_own; }
static inline int line_key(void) {          /* the next byte; EOF at the end, -2 after a signal */
    unsigned char c;
    fd_set in;
    FD_ZERO(&in);
    FD_SET(0, &in);
    if (select(1, &in, NULL, NULL, NULL) < 0) return errno == EINTR ? -2 : EOF;
    return read(0, &c, 1) == 1 ? c : EOF;
}
#else
static inline void line_restore(void) {}
static inline void line_begin(void) {}
static inline int line_is_own(void) { return 0; }
static inline int line_key(void) { return EOF; }
#endif

typedef struct { char *text; size_t n, max; } line_buffer;

static inline void line_add(line_buffer *b, int c) {
    if (b->n + 2 > b->max) b->text = (char *)args_need(realloc(b->text, b->max = 2 * b->max + 256));
    b->text[b->n++] = (char)c;
    b->text[b->n] = 0;
}
/* Takes a character off, all its bytes, and its place on the terminal. */
static inline void line_erase(line_buffer *b) {
    while (b->n && ((unsigned char)b->text[b->n - 1] & 0xC0) == 0x80) b->n--;
    if (b->n && b->text[--b->n] != '\n') fputs("\b \b", stdout);
}
/* The rest of a control sequence, as keys with arrows send it, behind its ESC: its number, where it is one of ESC [ number ~ */
static inline int line_sequence(void) {
    int c = line_key(), number = 0;
    if (c != '[' && c != 'O') return 0;
    while ((c = line_key()) >= '0' && c <= '?') number = c <= '9' ? number * 10 % 100000 + c - '0' : 0;
    return c == '~' ? number : 0;
}

/* The next line without its end, NULL at the end of the input; the caller frees it. After Ctrl-C, where the host catches it, the
 * line begins anew: with `hint` above it, the first time. */
static inline char *line_read(const char *prompt, const char *hint) {
    line_buffer b = { NULL, 0, 0 };
    int c, pasting = 0, told = 0;
    line_add(&b, 0);                        /* memory even for an empty line */
    b.n = 0;
    if (isatty(0)) { fputs(prompt, stdout); fflush(stdout); }
    if (!line_is_own()) {
        while ((c = getchar()) != EOF && c != '\n') line_add(&b, c);
        if (b.n && b.text[b.n - 1] == '\r') b.n--;
        b.text[b.n] = 0;
        if (c != EOF || b.n) return b.text;
        free(b.text);
        return NULL;
    }
    while (c = args_stopped && !told ? -2 : line_key(), c != EOF && !(c == 4 && !b.n)) {
        if (c == -2 && !args_stopped) continue;
        if (c == -2) {
            b.n = 0;
            told = 1;
            printf("\n%s\n%s", hint, prompt);
        } else if (c == 27) {
            const int number = line_sequence();
            if (number == 200 || number == 201) pasting = number == 200;
        } else if (c == '\n' && !pasting) {
            putchar('\n');
            fflush(stdout);
            while (b.n && b.text[b.n - 1] == '\n') b.n--;       /* the end of a paste */
            b.text[b.n] = 0;
            return b.text;
        } else if (c == 8 || c == 127) {
            line_erase(&b);
        } else if (c == 21) {                                   /* Ctrl-U */
            while (b.n) line_erase(&b);
        } else if (c == 23) {                                   /* Ctrl-W */
            while (b.n && b.text[b.n - 1] == ' ') line_erase(&b);
            while (b.n && b.text[b.n - 1] != ' ') line_erase(&b);
        } else if (c >= 32 || c == '\t' || c == '\n') {
            line_add(&b, c);
            putchar(c);
        }
        if (c != -2) args_stopped = told = 0;
        fflush(stdout);
    }
    putchar('\n');
    free(b.text);
    return NULL;
}

#endif
