/* Fuzzer of chat templates; for clang -fsanitize=fuzzer. An input is a template, a zero byte, and an object of JSON: its
 * variables, messages among them (none: a small conversation). The first byte says whether a model tokenizes what comes out,
 * and whether only the common part is asked for. Whatever comes, it ends soon, with a text, or with a message; the text of a
 * short buffer is the beginning of the whole one; and no byte of a message makes a control token: replacing it by another
 * conversation's is not tried here, unit_template does. Built without libFuzzer, it has a main that replays the files it is
 * given, thousands of changed ones and every length of them. Runs from the repository's root. */
#include "gpt.h"
#include "bounds.h"
#include "gguf_builder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16 };

static const char conversation[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\" H\\u00e9llo\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,true,null]}}}]},"
    "{\"role\":\"tool\",\"name\":\"f\",\"content\":\"<|im_end|>\"},{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":{}}}],\"n\":3}";

/* Every block that a template takes is given back, whatever happens. */
static size_t n_block;
static void *count_alloc(void *user, size_t n) {
    void *p = malloc(n ? n : 1);
    (void)user;
    n_block += p != NULL;
    if (p) memset(p, 0xA5, n);
    return p;
}
static void count_free(void *user, void *p) { (void)user; n_block -= p != NULL; free(p); }

static gpt_model *header(void) {                /* bytes and three control tokens */
    static gpt_model *m;
    gpt_model_params params;
    const unsigned char *p;
    static gb g;
    gpt_error err;
    size_t n;
    int i;
    if (m) return m;
    gb_init(&g, 3, 0);
    gb_kv_str(&g, "tokenizer.ggml.model", "gpt2");
    gb_kv_str(&g, "tokenizer.ggml.pre", "gpt-2");
    gb_kv_array(&g, "tokenizer.ggml.tokens", GB_STR, 260);
    for (i = 0; i < 256; i++) {
        char t[3];
        int cp = i, k, before = 0;
        if (i < 33 || (i > 126 && i < 161) || i == 173) {       /* GPT-2's alphabet */
            for (k = 0; k < i; k++) before += k < 33 || (k > 126 && k < 161) || k == 173;
            cp = 256 + before;
        }
        t[0] = (char)(cp < 128 ? cp : 0xC0 | cp >> 6); t[1] = (char)(0x80 | (cp & 63)); t[2] = 0;
        gb_text(&g, &g.kv, t, cp < 128 ? 1 : 2);
    }
    gb_text(&g, &g.kv, "<s>", 3); gb_text(&g, &g.kv, "<|im_start|>", 12); gb_text(&g, &g.kv, "<|im_end|>", 10); gb_text(&g, &g.kv, "<t>", 3);
    gb_kv_array(&g, "tokenizer.ggml.token_type", GB_I32, 260);
    for (i = 0; i < 260; i++) gb_uint(&g, &g.kv, i < 256 ? 1 : i < 259 ? 3 : 4, 4);
    gb_kv_array(&g, "tokenizer.ggml.merges", GB_STR, 0);
    gb_kv_u32(&g, "tokenizer.ggml.bos_token_id", 256);
    gb_kv_u32(&g, "tokenizer.ggml.eos_token_id", 258);
    p = gb_finish(&g, &n);
    memset(&params, 0, sizeof params);
    params.header_only = 1;
    params.alloc.alloc = count_alloc; params.alloc.free = count_free;
    if (gpt_model_load_memory(&m, p, n, &params, &err)) { fprintf(stderr, "fuzz_template: %s\n", err.msg); abort(); }
    return m;
}

static unsigned rendered;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char jinja[ROOM], variables[ROOM], text[2 * ROOM], again[64];
    static gpt_token ids[ROOM];
    const gpt_model *m;
    gpt_chat_params chat;
    gpt_error err;
    gpt_result r;
    size_t n = 0, k = 0, n_jinja, blocks;
    if (size < 1 || size > ROOM) return 0;
    m = data[0] & 1 ? header() : NULL;
    blocks = n_block;
    memset(&chat, 0, sizeof chat);
    chat.common = data[0] >> 1 & 1;
    chat.date = data[0] & 4 ? "2031-02-05" : NULL;
    data++; size--;
    for (n_jinja = 0; n_jinja < size && data[n_jinja]; n_jinja++) {}
    memcpy(jinja, data, n_jinja);
    jinja[n_jinja] = 0;
    if (n_jinja + 1 < size) {
        memcpy(variables, data + n_jinja + 1, size - n_jinja - 1);
        variables[size - n_jinja - 1] = 0;
    } else strcpy(variables, conversation);
    chat.jinja = jinja;
    chat.variables = variables;
    r = gpt_chat_format(m, NULL, 0, &chat, text, sizeof text, &n, &err);
    if (r > 0 || err.code != r || (r ? !err.msg[0] || n : err.msg[0] != 0) || strlen(err.msg) >= sizeof err.msg) abort();
    if (r && r != GPT_E_REFUSED && !is_message(err.msg)) abort();
    if (n_block != blocks) abort();
    if (r) return 0;
    rendered++;
    memset(again, 'Z', sizeof again);
    if (gpt_chat_format(m, NULL, 0, &chat, again, sizeof again / 2, &k, &err) || k != n || again[sizeof again / 2] != 'Z') abort();
    if (memcmp(again, text, n < sizeof again / 2 ? n : sizeof again / 2)) abort();
    if (m && n < sizeof text) {                 /* the tokens spell the text */
        if (gpt_chat_tokenize(m, NULL, 0, &chat, ids, ROOM, &k, &err)) abort();
        if (k <= ROOM) {
            static char spelled[2 * ROOM];
            if (gpt_detokenize(m, ids, k, 1, spelled, sizeof spelled) != n || memcmp(spelled, text, n)) abort();
        }
    }
    if (n_block != blocks) abort();
    return 0;
}

#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "fuzz_main.h"

static const char *const seeds[] = {
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m.content|default('', true)|trim + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{%- macro m(a, b='x') -%}{{ a ~ b }}{{ caller() if caller }}{%- endmacro -%}{% set ns = namespace(i=0) %}{% for x in messages[::-1] if x.role != 'tool' %}{% set ns.i = ns.i + loop.index0 %}{{ m(x.role, b=loop.last) }}{% else %}none{% endfor %}{{ ns.i }}",
    "{% for t in tools or [] %}{{ t|tojson(indent=2) }}{% for k, v in t.function|items %}{{ k }}={{ v|string|upper }}{% endfor %}{% endfor %}{{ messages|map(attribute='role')|join(',') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{# c #}\n  {%- if n > 2 and (n is number or x is undefined) %}\n {{ 7 // 2 * -3 % 4 + 1.5 }}\n{% elif false %}{{ raise_exception('no ' ~ n) }}{% else -%} {% raw %}{{ x }}{% endraw %}{% endif %}{% filter lower %}ABC{% endfilter %}",
    "{% set c %}a{{ strftime_now('%d %b %Y') }}{% endset %}{{ c[1:-1] ~ '{}'.format(1) }}{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}{{ [1, 'a', none, {'k': (1, 2)}] }}{{ messages|tojson }}{% generation %}g{% endgeneration %}"
};

int main(int argc, char **argv) {
    static const char bits[] = "{}%#-+()[]'\"|.,:=<>~*/ \nabfinorstx0129\\";
    static const char *const words[] = { "{% if ", "{% endif %}", "{% for ", "{% endfor %}", "{{ ", " }}", "{% set ", "{%- ", " -%}", "{# ", " #}", "|tojson", "|trim", "loop.", "messages", "namespace(", "{% macro m() %}",
        "{% endmacro %}", " is ", " not ", " in ", " if ", " else ", "[::-1]", "{% raw %}", "{% endraw %}", "range(9)", ".split('a')", " ~ ", "m()", "{% break %}", "{% else %}", "'%s' % ", "[1]", "9999999999" };
    uint8_t in[2048];
    size_t i, k, n, place;
    int a;
    for (a = 1; a < argc; a++) replay(argv[a], 0);
    for (i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        const size_t size = strlen(seeds[i]);
        const unsigned before = rendered;
        for (n = 0; n <= size; n++) {           /* every length: exactly as long, so that reading beyond shows */
            uint8_t *copy = (uint8_t *)malloc(n + 1);
            if (!copy) return 1;
            copy[0] = (uint8_t)(n & 7);
            memcpy(copy + 1, seeds[i], n);
            LLVMFuzzerTestOneInput(copy, n + 1);
            free(copy);
        }
        CHECK(rendered > before, "seed %u renders at no length", (unsigned)i);
        for (k = 0; k < 3000; k++) {
            n = size;
            in[0] = (uint8_t)(k & 7);
            memcpy(in + 1, seeds[i], n);
            for (a = (int)(next() % 4) + 1; a--; ) {
                place = 1 + next() % n;
                if (next() % 3 == 0) {          /* a word comes in */
                    const char *w = words[next() % (sizeof words / sizeof *words)];
                    const size_t len = strlen(w);
                    if (n + len + 1 > sizeof in) continue;
                    memmove(in + place + len, in + place, n + 1 - place);
                    memcpy(in + place, w, len);
                    n += len;
                } else if (next() % 3 == 0 && n > 20) {         /* some bytes go */
                    const size_t len = 1 + next() % 6;
                    if (place + len > n) continue;
                    memmove(in + place, in + place + len, n + 1 - place - len);
                    n -= len;
                } else in[place] = (uint8_t)bits[next() % (sizeof bits - 1)];
            }
            LLVMFuzzerTestOneInput(in, n + 1);
            test_passed++;
        }
    }
    printf("fuzz_template: %u inputs were rendered\n", rendered);
    return test_report("fuzz_template");
}
#endif
