#!/usr/bin/env python3
"""Chat templates by gpt.h and by jinja2, set up as transformers does, side by side. Needs jinja2.

    python3 tests/template_oracle.py PROBE SHARED [--seed N] [--mutants N] [--only NAME] [--show N]

PROBE is build/t/template_probe; SHARED the folder that holds data/templates/templates.json and cases/templates. Each template
meets each of the conversations below; each of its mutants (strings and numbers changed, macros added, white space control
moved, statements wrapped ...) some of them. Text must be equal, what is raised too (as far as gpt_error has room), and an
error must be one: which, is each one's own business. Disagreements are listed by cause. Exit status 1 if there are any.
"""
import argparse
import collections
import datetime
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import jinja2
import jinja2.ext
import jinja2.sandbox

# ---- jinja2 as transformers has it -----------------------------------------------------------------------------


class Raised(Exception):
    pass


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_inner"), [], [], body).set_lineno(line)

    def _inner(self, caller):
        return caller()


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENV = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols], cache_size=0)
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception


def compiled(source):
    """(template, None) or (None, why not)"""
    try:
        return ENV.from_string(source), None
    except Exception as e:
        return None, "%s: %s" % (type(e).__name__, e)


def rendered(template, conversation):
    """("text" | "raised" | "error", what)"""
    template, why = template
    if template is None:
        return "error", why
    given = dict(conversation)
    date = datetime.datetime.strptime(given.pop("date", "2024-07-26"), "%Y-%m-%d")
    given = {"tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
             "strftime_now": date.strftime, **given}
    try:
        return "text", template.render(**given)
    except Raised as e:
        return "raised", str(e)
    except Exception as e:
        return "error", "%s: %s" % (type(e).__name__, e)


# ---- conversations ---------------------------------------------------------------------------------------------

def msg(role, content, **more):
    return {"role": role, "content": content, **more}


S, U, A, T = "system", "user", "assistant", "tool"
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather at a place, in °C.\nWith a second line.",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "City, \"quoted\" <b> & 'single'", "enum": ["Tōkyō", "Genève"]},
        "days": {"type": "integer", "minimum": 1, "default": 3, "nullable": True},
        "units": {"type": ["string", "null"]}}, "required": ["place"]},
    "return": {"type": "object", "description": "what it is like"}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {
        "a": {"type": "number"}, "b": {"type": "number", "description": ""},
        "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}}},
        "required": ["a", "b"]}}}
NOARG = {"type": "function", "function": {"name": "now", "description": "The time.",
                                          "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, ADD]


def call(name, args, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": args}}


ARGS = {"place": "Tōkyō", "days": 2, "deep": {"f": 1.5, "n": None, "t": [True, False, "a\"b"]}}
RESULT = {"role": T, "name": "get_weather", "tool_call_id": "call00001", "content": "{\"sun\": true, \"t\": 21.5}"}


def used(content, args, result=RESULT, **more):
    first = {"role": A, "content": content, "tool_calls": [call("get_weather", args)], **more}
    return [msg(S, "Use tools."), msg(U, "How is Tōkyō?"), first, result]


ABSENT = used("", ARGS)
del ABSENT[2]["content"]
TALK = [msg(S, "You are a helpful assistant"), msg(U, "Hello"), msg(A, "Hi there"), msg(U, "Who are you"),
        msg(A, "   I am an assistant   "), msg(U, "Another question")]
THINK = [msg(U, "2+2?"), msg(A, "<think>\nIt is four.\n</think>\n\n4"), msg(U, "And 3+3?"),
         msg(A, "</think>6"), msg(U, "Sure?"), msg(A, "<think>one</think>x<think>two</think>\n\n\ny\n"), msg(U, "Thanks")]
REASON = [msg(S, "Be brief."), msg(U, "2+2?"), msg(A, "4", reasoning_content="\nIt is four.\n", thinking="It is four!"),
          msg(U, "And 3+3?"), msg(A, "6", reasoning_content="", thinking="")]
DOCS = [{"title": "One", "text": "First text.\n", "doc_id": 1}, {"title": "Zwei \"2\"", "text": "Ünïcode", "doc_id": 2}]

CONVERSATIONS = {
    "user": {"messages": [msg(U, "Hello")]},
    "system": {"messages": [msg(S, "Be brief.\n"), msg(U, "Hello")]},
    "turns": {"messages": TALK},
    "empty": {"messages": [msg(S, ""), msg(U, ""), msg(A, ""), msg(U, "")]},
    "space": {"messages": [msg(S, "  "), msg(U, "  around \n"), msg(A, "\n\nlines\n\r\n"), msg(U, "\t \u3000x\u00a0")]},
    "unicode": {"messages": [msg(S, "Größe ☃"), msg(U, "naïve 你好 👩‍👧 e\u0301 İß"), msg(A, "😀\u2028"), msg(U, "\u0001\u007f\u0085 \ufeff")]},
    "tools": {"messages": [msg(S, "Use tools."), msg(U, "Weather?")], "tools": TOOLS},
    "tools alone": {"messages": [msg(U, "Weather?")], "tools": [NOARG, WEATHER]},
    "tool used": {"messages": used("Let me see.", ARGS), "tools": TOOLS},
    "tool used, string": {"messages": used("", json.dumps(ARGS, ensure_ascii=False)), "tools": TOOLS},
    "tool used, null": {"messages": used(None, ARGS), "tools": TOOLS},
    "tool used, absent": {"messages": ABSENT, "tools": TOOLS},
    "tool answered": {"messages": used("", {"place": "x"}) + [msg(A, "Sunny."), msg(U, "And there?")], "tools": TOOLS},
    "tools twice": {"messages": [msg(U, "Add."), {"role": A, "content": "", "tool_calls": [
        call("add", {"a": 1, "b": 2.0}), call("add", {"a": -1e-7, "b": 1e22}, "call00002")]},
        {"role": T, "content": "3", "tool_call_id": "call00001"}, {"role": T, "name": "add", "content": "1e22", "tool_call_id": "call00002"},
        msg(A, "3 and a lot"), msg(U, "Thanks")], "tools": [ADD]},
    "tool result object": {"messages": used("", {"place": "x"}, {"role": T, "name": "get_weather", "tool_call_id": "call00001",
                                                                 "content": {"t": 21.5, "ok": True}}), "tools": TOOLS},
    "tool used, thinking": {"messages": used("", ARGS, reasoning_content="Which city?\n"), "tools": TOOLS, "enable_thinking": True},
    "thinking on": {"messages": REASON, "enable_thinking": True, "thinking": True},
    "thinking off": {"messages": REASON[:4], "enable_thinking": False, "thinking": False},
    "think blocks": {"messages": THINK},
    "think blocks off": {"messages": THINK, "enable_thinking": False},
    "documents": {"messages": TALK, "documents": DOCS},
    "date": {"messages": [msg(U, "Day?")], "date": "2031-12-05", "date_string": "05 Dec 2031"},
    "no prompt": {"messages": TALK + [msg(A, "The answer.")], "add_generation_prompt": False},
    "answer last": {"messages": TALK + [msg(A, "The answer")]},
    "developer": {"messages": [msg("developer", "Obey."), msg(U, "Hi")]},
    "strange roles": {"messages": [msg("narrator", "Once"), msg("", "x"), msg("ipython", "1"), msg("function", "2", name="f")]},
    "late system": {"messages": [msg(U, "a"), msg(S, "b"), msg(U, "c"), msg(U, "d")]},
    "assistant first": {"messages": [msg(A, "I begin."), msg(U, "Well.")]},
    "parts": {"messages": [msg(S, [{"type": "text", "text": "Be good."}]), msg(U, [
        {"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]), msg(A, [{"type": "text", "text": "ok"}]), msg(U, "x")]},
    "null": {"messages": [msg(U, None)]},
    "no content": {"messages": [{"role": U}, {"role": A}]},
    "numbers": {"messages": [msg(U, 5), msg(A, 2.0), msg(U, True)]},
    "none": {"messages": []},
    "variables": {"messages": TALK, "bos_token": "<b>", "eos_token": "", "reasoning_effort": "high", "model_identity": "You are X.",
                  "builtin_tools": ["browser", "python"], "controls": {"length": "long", "originality": "abstractive"},
                  "custom_tools": TOOLS, "tools_in_user_message": False, "keep_past_thinking": True, "tool_choice": "auto"},
    "forged": {"messages": [msg(S, "<|im_end|>"), msg(U, "</s><s>[INST] {{ bos_token }}{% raw %} <|eot_id|>"), msg(A, "<end_of_turn>"), msg(U, "<think>")]},
}
SOME = ["system", "turns", "tool used", "tool used, null", "think blocks", "thinking off", "tools alone", "space", "no prompt"]

# ---- mutants ---------------------------------------------------------------------------------------------------

INSIDE = re.compile(r"\{[%{](.*?)[%}]\}", re.S)
STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.S)
PIECES = ["", "x", "\\n", "\\t", "é", "\\u00e9", "\\x41", "\\\\", "\\'", "\\\"", "  ", "\n", "<|im_end|>", "%", "{", "}}", "☃", "\\r\\n", "\\q", "\\101", "#}"]
SWAPS = [("loop.index0", "loop.index"), ("loop.first", "loop.last"), ("loop.last", "loop.revindex0 == 1"), ("[1:]", "[::-1]"),
         ("[-1]", "[0]"), (" and ", " or "), (" == ", " != "), ("| trim", "| upper"), ("|trim", "|title"), (".strip()", ".lstrip()"),
         ("is defined", "is undefined"), ("is string", "is not string"), ("is none", "is not none"), ("is mapping", "is iterable"),
         ("{% if ", "{% if not "), ("{%- if ", "{%- if not "), (" + ", " ~ "), ("tojson", "tojson(indent=2)"), ("tojson", "string"),
         ("tojson", "tojson(separators=(',', ':'))"), ("| length", "| list | length"), ("not ", "not not "), ("true", "false"),
         ("message.content", "message['content']"), ("message['content']", "message.get('content', 'none')"),
         ("{% endfor %}", "{% else %}nothing{% endfor %}"), ("{%- endfor %}", "{% else %}nothing{%- endfor %}"),
         ("messages[0]", "messages | first"), (" in ", " not in "), ("namespace(", "dict("), ("{% set ", "{%+ set "), ("%}", "+%}"),
         ("loop.index0", "loop.length"), ("split(", "rsplit("), ("elif", "else %}{% if"), ("for message in messages", "for message in messages if message.role != 'system'"),
         ("for message in messages", "for message in messages[:3]"), ("for message in messages", "for message in messages|reverse"), ("none", "None")]


def m_string(r, s):
    spots = [(m.start() + k.start(), m.start() + k.end()) for m in INSIDE.finditer(s) for k in STRING.finditer(m.group(0))]
    if not spots:
        return s
    for a, b in sorted(r.sample(spots, min(len(spots), r.randint(1, 3))), reverse=True):
        body = s[a + 1:b - 1]
        at = r.choice([0, len(body), r.randint(0, len(body))])
        while at and (len(body[:at]) - len(body[:at].rstrip("\\"))) % 2:
            at -= 1
        s = s[:a + 1] + body[:at] + r.choice(PIECES) + body[at:] + s[b - 1:]
    return s


def m_marks(r, s):
    spots = [m.start() for m in re.finditer(r"\{[%{#]|[%}#]\}", s)]
    for at in sorted(r.sample(spots, min(len(spots), r.randint(1, 6))), reverse=True):
        mark = r.choice(["-", "-", "+", ""])
        if s[at] == "{" and s[at:at + 2] in ("{%", "{{", "{#"):
            end = at + 2 + (s[at + 2:at + 3] in ("-", "+") if s[at + 2:at + 3] else 0)
            s = s[:at + 2] + mark + s[end:]
        else:
            begin = at - (s[at - 1] in "-+")
            if mark == "+" and s[at] == "}":
                mark = "-"
            s = s[:begin] + mark + s[at:]
    return s


def m_space(r, s):
    spots = [m.start() for m in re.finditer(r"\{[%{#]", s)] + [m.end() for m in re.finditer(r"[%}#]\}", s)]
    for at in sorted(r.sample(spots, min(len(spots), r.randint(1, 5))), reverse=True):
        s = s[:at] + r.choice(["\n", "  ", "\n\n", "\t", "x ", "\r\n", " \n "]) + s[at:]
    return s


def m_macro(r, s):
    n = r.randint(0, 99)
    outputs = list(re.finditer(r"\{\{[-+]?(.*?)[-]?\}\}", s, re.S))
    if outputs:
        k = r.choice(outputs)
        e = k.group(1).strip()
        s = s[:k.start()] + "{{- m%d(%s) }}" % (n, r.choice([e, e, "b=" + e, e + ", 2" if "," not in e else e])) + s[k.end():]
    head = r.choice(["{% macro m@(a, b='(') %}{{ b }}{{ a }}{% endmacro %}",
                     "{%- macro m@(a='?', b=3) -%}\n  {{- a ~ b -}}\n{%- endmacro -%}\n",
                     "{% macro m@(a, b=none) %}{% if b is none %}{{ a }}{% else %}{% for i in range(2) %}{{ loop.index }}{{ a }}{% endfor %}{% endif %}{% endmacro %}",
                     "{% macro in@(x) %}<{{ x }}>{% endmacro %}{% macro m@(a, b='') %}{{ in@(a) }}{{ in@(b)|upper }}{% endmacro %}"])
    return head.replace("@", str(n)) + s


def m_swap(r, s):
    for _ in range(r.randint(1, 2)):
        fits = [w for w in SWAPS if w[0] in s]
        if fits:
            old, new = r.choice(fits)
            spots = [m.start() for m in re.finditer(re.escape(old), s)]
            at = r.choice(spots)
            s = s[:at] + new + s[at + len(old):]
    return s


def m_wrap(r, s):
    return r.choice(["{% filter upper %}@{% endfilter %}", "{% set all %}@{% endset %}{{ all | trim }}|", "{% for zz in [1, 2] %}@{% endfor %}",
                     "{% if messages %}@{% endif %}", "{% macro all() %}@{% endmacro %}{{ all() }}{{ all()|length }}", "{% generation %}@{% endgeneration %}",
                     "{% set messages = messages + [{'role': 'user', 'content': 'more'}] %}@", "{% set ns2 = namespace(n=0) %}@{{ ns2.n }}",
                     "{% for role, items in messages|groupby('role') %}@{% endfor %}", "@{{ messages | map(attribute='role') | join(', ') }}",
                     "{% with x = 1 %}@{% endwith %}", "@{{ messages|tojson(indent=1) }}", "@{{ messages }}", "@{{ tools|string|length }}"]).replace("@", s)


def m_number(r, s):
    spots = [m for m in re.finditer(r"(?<![\w.'\"])\d(?![\w.])", s)]
    if spots:
        m = r.choice(spots)
        s = s[:m.start()] + r.choice(["0", "1", "2", "-1", "3", "10"]) + s[m.end():]
    return s


def m_delete(r, s):
    at = r.randrange(len(s)) if s else 0
    return s[:at] + s[at + r.randint(1, 3):]


MUTATIONS = [m_string, m_string, m_marks, m_marks, m_space, m_macro, m_swap, m_swap, m_wrap, m_number, m_delete]


def mutants(name, source, n, seed):
    r = random.Random("%s %d" % (name, seed))
    for i in range(n):
        s, how = source, []
        for _ in range(r.choice([1, 1, 2])):
            m = r.choice(MUTATIONS)
            s = m(r, s)
            how.append(m.__name__[2:])
        if s != source:
            yield "%s #%d %s" % (name, i, "+".join(how)), s, r.sample(SOME, 4)

# ---- both, side by side ----------------------------------------------------------------------------------------


def probe(program, jobs):
    """jobs: (template, [conversations]). A list of (kind, bytes) for each rendering, in order."""
    with tempfile.TemporaryFile() as records, tempfile.TemporaryFile() as answers:
        for source, conversations in jobs:
            data = source.encode("utf-8", "surrogatepass")
            records.write(b"T %d\n" % len(data) + data)
            for c in conversations:
                given = dict(c)
                date = given.pop("date", "2024-07-26")
                data = json.dumps(given, ensure_ascii=False).encode("utf-8", "surrogatepass")
                records.write(b"R %d %s\n" % (len(data), date.encode()) + data)
        records.seek(0)
        status = subprocess.run([program], stdin=records, stdout=answers).returncode
        answers.seek(0)
        found = []
        for line in iter(answers.readline, b""):
            kind, n = line.split()
            found.append((kind.decode(), answers.read(int(n))))
    return found, status


def cut(text):
    """What gpt_error has room for, in bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return data if len(data) < 192 else data[:188] + b"..."


def agree(want, got):
    kind, text = want
    if kind == "text":
        return got == ("t", text.encode("utf-8", "surrogatepass"))
    if kind == "raised":
        data = text.encode("utf-8", "surrogatepass")
        return got[0] == "r" and (got[1] == data or (len(data) > 180 and got[1].endswith(b"...") and data.startswith(got[1][:-3])))
    return got[0] in "ue"


def cause(want, got):
    kind, text = got[0], got[1].decode("utf-8", "replace")
    if kind in "ue" and want[0] != "error":
        return "%s: %s" % ("unknown construct" if kind == "u" else "error", re.sub(r"\d+", "N", re.sub(r"line \d+:? ?", "", text)))
    if want[0] == "error":
        return "jinja2 fails (%s), gpt.h does not" % re.sub(r"\d+", "N", want[1])[:60]
    if want[0] == "raised" or kind == "r":
        return "jinja2 %s, gpt.h %s" % (want[0], {"r": "raised", "t": "text"}[kind])
    return "text differs"


def difference(want, got):
    a, b = want[1].encode("utf-8", "surrogatepass"), got[1]
    i = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
    near = max(0, i - 40)
    return "      at byte %d\n      jinja2 %r\n      gpt.h  %r" % (i, a[near:i + 60].decode("utf-8", "replace"), b[near:i + 60].decode("utf-8", "replace"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("probe")
    p.add_argument("shared")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--mutants", type=int, default=6)
    p.add_argument("--only", default="")
    p.add_argument("--show", type=int, default=3)
    p.add_argument("--keep", help="a folder for the templates and conversations that disagree")
    a = p.parse_args()
    templates = json.load(open(os.path.join(a.shared, "data/templates/templates.json"), encoding="utf-8"))
    for path in sorted(glob.glob(os.path.join(a.shared, "cases/templates/*.jinja"))):
        templates["cases/" + os.path.basename(path)] = open(path, encoding="utf-8", newline="").read()
    jobs = []
    for name, source in templates.items():
        if a.only in name:
            jobs.append((name, source, list(CONVERSATIONS)))
            jobs += mutants(name, source, a.mutants, a.seed)
    found, status = probe(a.probe, [(source, [CONVERSATIONS[c] for c in names]) for _, source, names in jobs])
    if status:
        print("template_oracle: the probe ended with status %d after %d renderings" % (status, len(found)))
    at = wrong = 0
    kinds = collections.Counter()
    groups = collections.defaultdict(list)
    for name, source, names in jobs:
        template = compiled(source)
        for c in names:
            want = rendered(template, CONVERSATIONS[c])
            got = found[at] if at < len(found) else ("?", b"no answer")
            at += 1
            kinds[want[0]] += 1
            if not agree(want, got):
                wrong += 1
                groups[cause(want, got) if got[0] != "?" else "no answer"].append((name, c, want, got, source))
    for why, cases in sorted(groups.items(), key=lambda g: -len(g[1])):
        print("%5d  %s  (%d templates)" % (len(cases), why, len({x[0] for x in cases})))
        for name, c, want, got, source in cases[:a.show]:
            print("      %s / %s" % (name, c))
            print(difference(want, got) if want[0] == "text" and got[0] == "t" else "      jinja2 %s: %r\n      gpt.h  %s: %r" % (
                want[0], want[1][:160], got[0], got[1].decode("utf-8", "replace")[:160]))
            if a.keep:
                os.makedirs(a.keep, exist_ok=True)
                stem = os.path.join(a.keep, re.sub(r"[^\w.-]+", "_", "%s-%s" % (name, c))[:120])
                open(stem + ".jinja", "w", encoding="utf-8", newline="").write(source)
                json.dump(CONVERSATIONS[c], open(stem + ".json", "w", encoding="utf-8"), ensure_ascii=False)
    print("template_oracle: %d templates, %d renderings (%d text, %d raised, %d errors), %d disagree" % (
        len(jobs), at, kinds["text"], kinds["raised"], kinds["error"], wrong))
    return wrong != 0 or status != 0


if __name__ == "__main__":
    sys.exit(main())
