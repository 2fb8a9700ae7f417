#!/usr/bin/env python3
"""json_test.py BUILD [N]: constraints against Python's readers. N (or JSON_TEST_N; 500) texts of 50 schemas, written by toys with
random weights in at most 256 tokens, must parse and validate (jsonschema); 200 texts that a strict parser takes and 200 that it
refuses must be told apart; published grammars and cases (../shared/data/grammars, where it is there) must come out as listed.
`JSON_TEST_N=10000 sh tests/json_test.sh build` is the full number."""
import datetime
import ipaddress
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import uuid

import jsonschema

from check import check, report

GRAMMARS = "../shared/data/grammars"
MODEL = "examples/models/stories.gguf"
MAX_TOKENS = 256

# ---- 50 schemas ------------------------------------------------------------------------------------------------------

def obj(properties, required=None, **more):
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": False, **more}


INT, STR, NUM, BOOL = {"type": "integer"}, {"type": "string"}, {"type": "number"}, {"type": "boolean"}

SCHEMAS = [
    # objects
    obj({"action": {"enum": ["go", "take", "give"]}, "target": {"type": "string", "maxLength": 12},
         "amount": {"type": "integer", "minimum": 1, "maximum": 99}}),
    obj({"a": INT, "b": BOOL, "c": STR, "d": {"type": "null"}}, []),
    obj({"a": INT, "b": BOOL, "c": {"type": "string", "maxLength": 5}, "d": NUM}, ["b", "d"]),
    obj({"who": obj({"name": {"type": "string", "minLength": 1, "maxLength": 10}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}),
         "where": obj({"x": NUM, "y": NUM})}),
    obj({"a": obj({"b": obj({"c": obj({"d": obj({"e": BOOL})})})})}),
    {"type": "object"},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "properties": {"n": INT}},
    {"type": "object", "properties": {"n": INT, "name": {"type": "string", "maxLength": 8}}, "required": ["n"],
     "additionalProperties": {"type": "boolean"}},
    {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}},
    {"type": "object", "properties": {"na": INT, "name": INT, "nam": INT, "nbme": INT}, "additionalProperties": {"const": "x"}},
    obj({"quote \"": INT, "back\\slash": BOOL, "new\nline": {"type": "null"}, "é🐎": {"const": 1}}),
    obj({"p%d" % i: BOOL for i in range(24)}, ["p3", "p20"]),
    {"title": "annotations are passed over", "description": "d", "$comment": "c", "default": {}, "examples": [1],
     "type": "object", "properties": {"x": {"type": "integer", "title": "t", "readOnly": True, "deprecated": False}}, "required": ["x"],
     "additionalProperties": False},
    # arrays
    {"type": "array", "items": INT, "maxItems": 12},
    {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": BOOL},
    {"type": "array", "minItems": 3, "maxItems": 3},
    {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"enum": [0, 1]}, "maxItems": 3}, "maxItems": 3}, "minItems": 1},
    {"type": "array", "prefixItems": [STR, INT, BOOL], "items": False, "minItems": 3},
    {"type": "array", "prefixItems": [{"const": "v"}, {"type": "integer", "minimum": 0}], "items": {"type": "null"}, "minItems": 2, "maxItems": 5},
    {"type": "array", "items": obj({"id": {"type": "integer", "minimum": 1, "maximum": 999}, "ok": BOOL}, ["id"]), "minItems": 1, "maxItems": 3},
    {"type": "array", "items": {}, "maxItems": 5},
    # enum, const
    {"enum": ["red", "green", "blue", "re", "r", ""]},
    {"enum": [1, 1.5, "1", True, None, [1, {"a": []}], {"b": {"c": "d"}}, -7, "ü\n\"\\"]},
    {"const": {"a": [1, 2, {"b": None}], "c": "x"}},
    {"type": "string", "enum": ["north", "northeast", "northwest", "south"]},
    # numbers
    {"type": "integer", "minimum": -20, "maximum": 20},
    {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 10001},
    {"type": "integer", "minimum": -7},
    {"type": "integer", "maximum": 2147483647},
    {"type": "number", "minimum": -2.5, "maximum": 2.5},
    {"type": "number", "exclusiveMinimum": 3, "maximum": 7},
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    obj({"n": NUM, "i": INT, "least": {"type": "integer", "minimum": 1000000}}),
    # strings
    {"type": "string", "minLength": 3, "maxLength": 9},
    {"type": "string", "minLength": 40, "maxLength": 60},
    obj({"date": {"type": "string", "format": "date"}, "time": {"type": "string", "format": "time"}, "at": {"type": "string", "format": "date-time"}}),
    obj({"id": {"type": "string", "format": "uuid"}, "mail": {"type": "string", "format": "email"}}),
    obj({"four": {"type": "string", "format": "ipv4"}, "six": {"type": "string", "format": "ipv6"}}),
    obj({"host": {"type": "string", "format": "hostname"}, "at": {"type": "string", "format": "uri"}}),
    obj({"plate": {"type": "string", "pattern": "^[A-Z]{1,3}-[0-9]{2,4}$"}, "hex": {"type": "string", "pattern": "^#(?:[0-9a-f]{3}){1,2}$"},
         "any": {"type": "string", "pattern": "b+c?"}}),
    obj({"p": {"type": "string", "pattern": "^(\\d{1,2}|\"[a-c]*\"|\\\\x\\.)(\\s\\w)?$"}, "q": {"type": "string", "pattern": "^[^a-z0-9\"]+é?$"}}),
    # alternatives
    {"anyOf": [{"type": "string", "maxLength": 4}, INT, {"type": "array", "items": BOOL, "maxItems": 2}, {"type": "null"}]},
    {"oneOf": [obj({"kind": {"const": "circle"}, "r": NUM}), obj({"kind": {"const": "box"}, "w": INT, "h": INT})]},
    {"allOf": [{"type": "object", "properties": {"a": INT}, "required": ["a"]},
               {"type": "object", "properties": {"b": {"type": "string", "maxLength": 3}}, "required": ["b"]}]},
    {"type": ["integer", "null", "boolean"]},
    # references
    {"$defs": {"tree": obj({"v": {"type": "integer", "minimum": 0, "maximum": 9}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 3}},
                           ["v"])}, "$ref": "#/$defs/tree"},
    {"definitions": {"list": {"anyOf": [{"type": "null"}, obj({"head": BOOL, "tail": {"$ref": "#/definitions/list"}})]}},
     "type": "object", "properties": {"l": {"$ref": "#/definitions/list"}, "again": {"$ref": "#/properties/l"}}, "required": ["l"],
     "additionalProperties": False},
]

FORMATS = jsonschema.FormatChecker(formats=())


def checks(name):
    return FORMATS.checks(name, raises=ValueError)


@checks("date")
def is_date(s):
    return bool(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", s)) and bool(datetime.date.fromisoformat(s.replace("0000-", "0004-", 1)))


@checks("time")
def is_time(s):
    m = re.fullmatch(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-]([0-9]{2}):([0-9]{2}))", s)
    return bool(m) and int(m[1]) < 24 and int(m[2]) < 60 and int(m[3]) < 60 and int(m[6] or 0) < 24 and int(m[7] or 0) < 60


@checks("date-time")
def is_date_time(s):
    return len(s) > 11 and s[10] in "Tt" and is_date(s[:10]) and is_time(s[11:])


@checks("uuid")
def is_uuid(s):
    return bool(uuid.UUID(s)) and [i for i, c in enumerate(s) if c == "-"] == [8, 13, 18, 23]


@checks("email")
def is_email(s):
    local, _, host = s.rpartition("@")
    return bool(re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", local)) and is_hostname(host)


@checks("ipv4")
def is_ipv4(s):
    return ipaddress.IPv4Address(s) is not None


@checks("ipv6")
def is_ipv6(s):
    return ipaddress.IPv6Address(s) is not None and "%" not in s


@checks("hostname")
def is_hostname(s):
    return 0 < len(s) < 254 and all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", part) for part in s.split("."))


@checks("uri")
def is_uri(s):
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", s))


def strict(data):
    """The value of bytes that are JSON as RFC 8259 has it, UTF-8, and whose strings are text; else ValueError."""
    def no(constant):
        raise ValueError(constant)

    value = json.loads(data.decode("utf-8"), parse_constant=no)
    json.dumps(value, ensure_ascii=False).encode("utf-8")       # half of a surrogate pair has no UTF-8 form
    return value


def generations(build, folder, schemas, n):
    path = os.path.join(folder, "schemas")
    with open(path, "w", encoding="utf-8") as f:
        for s in schemas:
            jsonschema.Draft202012Validator.check_schema(s)
            f.write(json.dumps(s, ensure_ascii=False) + "\n")
    validators = [jsonschema.Draft202012Validator(s, format_checker=FORMATS) for s in schemas]
    done = subprocess.run([build + "/json_probe", "generate", path, str(n), str(MAX_TOKENS)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        check(False, line)
    out, at, count, tokens, different = done.stdout, 0, 0, 0, [set() for _ in schemas]
    while at < len(out):
        end = out.index(b"\n", at)
        which, result, finish, n_token, n_byte = map(int, out[at:end].split())
        data = out[end + 1:end + 1 + n_byte]
        at = end + 1 + n_byte
        count += 1
        tokens += n_token
        different[which].add(data)
        name = "schema %d, text %d: " % (which, count - 1)
        if result:
            check(False, name + "no text", data.decode("utf-8", "replace"), schemas[which])
            continue
        try:
            value = strict(data)
            error = next(validators[which].iter_errors(value), None)
            check(error is None and n_token <= MAX_TOKENS and finish in (1, 3), name + (error.message[:200] if error else "finish, tokens"), data,
                  finish, n_token, schemas[which])
        except ValueError as e:
            check(False, name + str(e), data, finish, n_token, schemas[which])
    check(done.returncode == 0 and count == n, "json_probe generate", done.returncode, count, n)
    print("%d texts, %.1f tokens each; different ones of a schema: %d to %d" %
          (count, tokens / max(count, 1), min(map(len, different)), max(map(len, different))))


# ---- 200 that a strict parser takes, 200 that it refuses -------------------------------------------------------------

def spelled(r, depth):
    """The text of a random value, spelled in random ways."""
    def space():
        return "".join(r.choice(" \t\n\r") for _ in range(r.choice((0, 0, 0, 1, 2, 7))))

    def string():
        out = []
        for _ in range(r.choice((0, 1, 3, 8, 20))):
            kind = r.randrange(9)
            if kind == 0:
                out.append("\\" + r.choice("\"\\/bfnrt"))
            elif kind == 1:
                out.append("\\u%04x" % r.choice((0, 0x1f, 0x22, 0x5c, 0x7f, 0xe9, 0x2028, 0xd7ff, 0xe000, 0xffff)))
            elif kind == 2:
                out.append(r.choice(("\\ud83d\\udc0e", "\\uD800\\uDC00", "\\udbff\\uDFFF")))
            elif kind == 3:
                out.append(r.choice("\x7fé߿ࠀ퟿￿𐀀🐎\u2028\ufeff"))
            else:
                out.append(r.choice("abc XYZ{}[]:,'/019.-"))
        return '"' + "".join(out) + '"'

    def number():
        whole = r.choice(("0", "-0", "7", "-12", "1234567890123456789012345678901234567890", "-9"))
        return whole + r.choice(("", "", ".0", ".5", ".000000000000000000000000001")) + r.choice(("", "", "e1", "E+0", "e-007", "E400", "e+99"))

    kind = r.randrange(7 if depth else 5)
    if kind == 0:
        return r.choice(("true", "false", "null"))
    if kind in (1, 2):
        return number()
    if kind in (3, 4):
        return string()
    n = r.choice((0, 1, 2, 5))
    items = []
    for _ in range(n):
        name = space() + r.choice((string(), '""', '"a"')) + space() + ":" if kind == 6 else ""
        items.append(name + space() + spelled(r, depth - 1) + space())
    body = ",".join(items) if n else space()
    return "[" + body + "]" if kind == 5 else "{" + body + "}"


GOOD = [b"0", b"-0", b"\"\"", b"{}", b"[]", b" [ ] \r\n\t", b"null", b"[0,-0.0e-0]", b"[" * 200 + b"]" * 200, b"{\"a\":" * 150 + b"1" + b"}" * 150,
        b"\"" + b"x" * 5000 + b"\"", b"1" * 300, b"[" + b"1," * 2000 + b"1]", b"\"\xf4\x8f\xbf\xbf\"", b"\"\\u0000\""]
BAD = [b"", b" ", b"nul", b"nulll", b"True", b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"01", b"-", b"-01", b"+1", b".5", b"1.", b"1.e1", b"1e",
       b"1e+", b"0x10", b"1_000", b"--1", b"1 2", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]", b"{\"a\":1,}", b"{,}", b"{\"a\"}", b"{\"a\":}", b"{\"a\" 1}",
       b"{a:1}", b"{1:1}", b"{'a':1}", b"'a'", b"{\"a\":1 \"b\":2}", b"[1}", b"{\"a\":1]", b"[1]]", b"{}}", b"]", b"[", b"[[]", b"{\"a\":[}", b"\"", b"\"\\\"",
       b"\"\\x41\"", b"\"\\u12\"", b"\"\\u12g4\"", b"\"\\U0041\"", b"\"\\'\"", b"\"\\a\"", b"\"\n\"", b"\"\t\"", b"\"\x00\"", b"\"\x1f\"", b"\"\\ud83d\"",
       b"\"\\udc0e\"", b"\"\\udc0e\\ud83d\"", b"\"\\ud83dx\"", b"\"\\ud83d\\u0041\"", b"\"\\ud83d\\ud83d\\udc0e\"", b"\"\xff\"", b"\"\xc0\x80\"",
       b"\"\xed\xa0\x80\"", b"\"\xf4\x90\x80\x80\"", b"\"\xe2\x82\"", b"\"\xe9\"", b"\"\x80\"", b"\"\xf0\x80\x80\xaf\"", b"\"\xe0\x80\x80\"", b"\"\xe0\x9f\x80\"", b"\"\xf0\x8f\xbf\xbf\"", b"\xef\xbb\xbf1", b"1\x00", b"\x0b1",
       b"\xc2\xa01", b"1\x0c", b"[1]\xe2\x80\xa8", b"// c\n1", b"1 // c", b"[1,/**/2]", b"\"a\" \"b\"", b"truefalse", b"-true", b"1e1.5", b"1.5.5", b"\"a", b"[\"a", b"0e",
       b"00", b"-00", b"[-]", b"[1e]", b"{\"a\":1", b"{\"a", b"{\"a\"", b"{\"a\":"]


def is_json(data):
    try:
        strict(data)
        return True
    except ValueError:
        return False


def texts():
    r = random.Random(17)
    good, bad = list(GOOD), list(BAD)
    while len(good) < 200:
        t = spelled(r, 4)
        if len(t) > 40 or r.random() < 0.3:
            good.append((r.choice(("", " ", "\n\t")) + t + r.choice(("", " \r\n"))).encode("utf-8"))
    while len(bad) < 200:
        t = bytearray(r.choice(good[15:]))
        for _ in range(r.choice((1, 1, 2))):
            at = r.randrange(len(t) + 1)
            kind = r.randrange(4)
            if kind == 0:
                del t[at:at + 1]
            elif kind == 1:
                t[at:at] = bytes([r.choice(b"\"\\,:[]{}0-.e \x00\xff\n")])
            elif kind == 2:
                t[at:at + 1] = bytes([r.randrange(256)])
            else:
                del t[at:]
        if not is_json(bytes(t)):
            bad.append(bytes(t))
    return good, bad


# ---- random schemas ----------------------------------------------------------------------------------------------------

NAMES = ["a", "ab", "abc", "b", "ba", "c", "d\n", "é"]         # sorted: a check takes properties in the schema's order, others last
OTHERS = ["éz", "ézz"]
WORDS = ["", "a", "ab", "abc", "x", "é", "🐎", "a\"b", "\\", "\n", "0", "aaaa", "A-12"]
NUMBERS = [0, 1, -1, 2, 5, 7, 10, 99, 100, -5, -7, 0.5, -0.5, 1.5, 2.25, 12345, -100]


class Random(random.Random):
    def value(self, depth):
        kind = self.randrange(7 if depth else 5)
        if kind == 0:
            return self.choice([None, True, False])
        if kind < 3:
            return self.choice(NUMBERS)
        if kind < 5:
            return self.choice(WORDS)
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.randrange(4))]
        return {n: self.value(depth - 1) for n in sorted(self.sample(NAMES + OTHERS, self.randrange(4)))}

    def bounded(self, schema, least, most):
        low, high = self.choice(least), self.choice(most)
        if low is not None:
            schema[self.choice(["minimum", "exclusiveMinimum"])] = low
        if high is not None and (low is None or high > low + 1):
            schema[self.choice(["maximum", "exclusiveMaximum"])] = high
        return schema

    def schema(self, depth):
        kind = self.randrange(13 if depth else 8)
        if kind == 0:
            return {"type": self.choice(["null", "boolean", "string", "integer", "number"])}
        if kind == 1:
            return self.bounded({"type": "integer"}, [None, -100, -7, 0, 1, 5, 10], [None, 0, 3, 9, 10, 99, 100, 1000])
        if kind == 2:
            return self.bounded({"type": "number"}, [None, -2.5, -1, 0, 0.25, 5], [None, 0.5, 2.5, 3, 10, 99.75])
        if kind == 3:
            low = self.choice([0, 0, 1, 2])
            return {"type": "string", "minLength": low, "maxLength": low + self.choice([0, 1, 3])}
        if kind == 4:
            return {"enum": [self.value(1) for _ in range(self.choice([1, 2, 4]))]}
        if kind == 5:
            return {"type": "string", "pattern": self.choice(["^a+$", "a", "^[a-z]{1,3}$", "^(ab|ba)*$", "^.$", "^[^a]*$", "^A-[0-9]{2}$", "b$", "^a"])}
        if kind < 8:
            return self.choice([{}, {"type": ["string", "null"]}, {"type": ["integer", "boolean", "array"]}, {"type": ["number", "object"]}])
        if kind == 8:
            low = self.choice([0, 0, 1, 2])
            s = {"type": "array", "items": self.schema(depth - 1), "minItems": low}
            return {**s, "maxItems": low + self.choice([0, 1, 2])} if self.random() < 0.5 else s
        if kind < 12:
            names = sorted(self.sample(NAMES, self.randrange(5)))
            s = {"type": "object", "properties": {n: self.schema(depth - 1) for n in names}}
            s["required"] = [n for n in names if self.random() < 0.5]
            return self.choice([s, {**s, "additionalProperties": False}, {**s, "additionalProperties": self.schema(depth - 1)}])
        return {"anyOf": [self.schema(depth - 1) for _ in range(self.choice([2, 3]))]}

    def near(self, s, depth=4):
        """A value that the schema takes, or nearly."""
        if not s or depth == 0 or self.random() < 0.06:
            return self.value(1)
        if "anyOf" in s:
            return self.near(self.choice(s["anyOf"]), depth)
        if "enum" in s:
            return self.choice(s["enum"])
        kind = s["type"] if isinstance(s["type"], str) else self.choice(s["type"])
        if kind in ("integer", "number"):
            edges = [v + e for k, v in s.items() if k != "type" for e in (0, 1, -1, 0.5, 0.001, -0.001)]
            v = self.choice(edges) if edges and self.random() < 0.8 else self.choice(NUMBERS)
            return int(v) if v == int(v) or kind == "integer" and self.random() < 0.9 else v
        if kind == "string":
            if "pattern" in s:
                return self.choice(["a", "aa", "ab", "ba", "abba", "A-12", "b", "x", "é", "", "xab", "cb", "aab"])
            n = self.choice([s.get("minLength", 0), s.get("maxLength", 3)]) + self.choice([0, 0, 0, 1, -1])
            return "".join(self.choice("ab\"\\é🐎\n") for _ in range(n))
        if kind == "array":
            n = self.choice([s.get("minItems", 0), s.get("maxItems", 2)]) + self.choice([0, 0, 0, 1, -1])
            return [self.near(s.get("items", {}), depth - 1) for _ in range(n)]
        if kind == "object":
            names = [n for n in s.get("properties", {}) if self.random() < (0.95 if n in s["required"] else 0.5)]
            more = s.get("additionalProperties", {}) or {}
            value = {n: self.near(s["properties"][n], depth - 1) for n in names}
            return {**value, **{n: self.near(more, depth - 1) for n in OTHERS if self.random() < 0.2}}
        return self.choice([None, True, False])

    def text(self, v):
        def space():
            return self.choice(["", "", " ", "\n"])
        if isinstance(v, list):
            return "[" + ",".join(space() + self.text(x) + space() for x in v) + "]"
        if isinstance(v, dict):
            members = (space() + self.text(k) + space() + ":" + space() + self.text(v[k]) + space() for k in sorted(v))
            return "{" + ",".join(members) + "}"
        return json.dumps(v, ensure_ascii=False)


def random_schemas(build, folder, n):
    r = Random(n)
    schemas = [r.schema(3) for _ in range(max(n // 5, 50))]
    records, expected = [], []
    for s in schemas:
        takes = jsonschema.Draft202012Validator(s).is_valid
        for _ in range(8):
            value = r.near(s)
            records.append(("schema", json.dumps(s, ensure_ascii=False).encode("utf-8"), r.text(value).encode("utf-8")))
            expected.append(takes(value))
    for (_, form, data), taken, answer in zip(records, expected, probe(build, folder, records)):
        check(not isinstance(answer, str) and (answer[0] == 0) == taken, "random schema " + ("takes" if taken else "refuses"), data, form, answer)
    print("%d random schemas, %d values, of which %d are valid" % (len(schemas), len(expected), sum(expected)))
    generations(build, folder, schemas, n)


def probe(build, folder, records):
    """Answers of json_probe to (kind, form, text): a pair (result, byte), or the message of a form that does not compile."""
    path = os.path.join(folder, "records")
    with open(path, "wb") as f:
        for kind, form, data in records:
            f.write(b"%s %d %d\n%s%s" % (kind.encode(), len(form), len(data), form, data))
    done = subprocess.run([build + "/json_probe", "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    check(done.returncode == 0 and len(lines) == len(records), "json_probe check", done.returncode, len(lines), done.stderr)
    lines += ["compile the probe ended"] * (len(records) - len(lines))
    return [line[8:] if line.startswith("compile ") else tuple(map(int, line.split())) for line in lines]


def tell_apart(build, folder):
    good, bad = texts()
    for data in good:
        check(is_json(data), "a good text that is none", data)
    for data in bad:
        check(not is_json(data), "a bad text that is good", data)
    for any_json in (("json", b""), ("schema", b"{}"), ("schema", b"true")):
        answers = probe(build, folder, [(*any_json, t) for t in good + bad])
        for i, (t, answer) in enumerate(zip(good + bad, answers)):
            what = "%s %s: " % (any_json[0], any_json[1].decode())
            if i < len(good):
                check(answer[0] == 0, what + "takes", t, answer)
            else:       # refused at a byte, or the beginning of a text (1)
                check(answer[0] in (-11, 1) and answer[1] <= len(t), what + "refuses", t, answer)
    path = os.path.join(folder, "text")         # and some through the program
    for t in good[::20] + bad[::10]:
        with open(path, "wb") as f:
            f.write(t)
        done = subprocess.run([build + "/json", "--json", "--check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(done.returncode == (0 if t in good else 1), "json --check: exit status", t, done.returncode, done.stderr)
        check(done.stdout.strip().isdigit() == (t in bad) and (t in good or int(done.stdout) <= len(t)), "json --check: the byte", t, done.stdout)


# ---- llama.cpp's grammars, and cases -----------------------------------------------------------------------------------

# (what, text): why it comes out otherwise than listed
EXCEPTIONS = {
    ("min 0", "100000000000000000000000000000000"): "the list has integers of 15 digits at most; JSON Schema takes any, and so does a check",
    ("min 0", "-0"): "-0 is 0, which is not below the minimum",
}
NO_COMPILE = {"uniqueItems": "what has come before cannot be kept by an automaton: a named error, never ignored"}


def published(build, folder):
    if not os.path.isdir(GRAMMARS):
        print("skipped: no " + GRAMMARS)
        return
    for name in sorted(os.listdir(GRAMMARS)):
        if name.endswith(".gbnf"):
            with open(os.path.join(GRAMMARS, name), "rb") as f:
                answer = probe(build, folder, [("gbnf", f.read(), b"\x01")])[0]
            check(not isinstance(answer, str), name, answer)
            written = [build + "/json", "-m", MODEL, "--grammar", os.path.join(GRAMMARS, name), "-p", "Once upon a time", "-n", "80", "--temp", "1.5"]
            for seed in ("1", "2") if os.path.isfile(MODEL) else ():
                done = subprocess.run(written + ["--seed", seed], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                path = os.path.join(folder, "written")
                with open(path, "wb") as f:
                    f.write(done.stdout)
                checked = subprocess.run(written[:1] + written[3:5] + ["--check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                check(done.returncode == 0 and checked.returncode == 0, "a text of " + name, done.stdout, done.stderr, checked.stderr)
    with open(os.path.join(GRAMMARS, "cases.json"), encoding="utf-8") as f:
        cases = json.load(f)
    records, listed = [], []
    for case in cases:
        for text, taken in [(t, True) for t in case["accept"]] + [(t, False) for t in case["refuse"]]:
            records.append(("gbnf" if case["kind"] == "grammar" else "schema", case["source"].encode("utf-8"), text.encode("utf-8")))
            listed.append((case, text, taken))
    for (case, text, taken), answer in zip(listed, probe(build, folder, records)):
        if isinstance(answer, str):
            check(any(k in case["source"] and k in answer for k in NO_COMPILE), "case '%s' does not compile" % case["what"], answer)
        elif (case["what"], text) not in EXCEPTIONS:
            check((answer[0] == 0) == taken, "case '%s' %s" % (case["what"], "takes" if taken else "refuses"), text, answer)


# ---- published chat templates: the syntax of their calls ---------------------------------------------------------------

TEMPLATES = "../shared/data/templates/templates.json"
WITHOUT_CALLS = {"hfjs/HuggingFaceTB/SmolLM3-3B"}       # writes a message's content alone: calls are left out of the conversation


def templates(build, folder):
    if not os.path.isfile(TEMPLATES):
        print("skipped: no " + TEMPLATES)
        return
    with open(TEMPLATES, encoding="utf-8") as f:
        published = json.load(f)
    path, found = os.path.join(folder, "template.jinja"), {}
    for name, source in published.items():
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(source)
        done = subprocess.run([build + "/tools", "--render", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if b"no syntax of calls that is known" in done.stderr:
            continue
        check(done.returncode == (name in WITHOUT_CALLS), "tools --render of " + name, done.returncode, done.stderr, done.stdout[-300:])
        syntax = done.stdout.split(b";")[0].decode().replace("syntax: ", "")
        found[syntax] = found.get(syntax, 0) + 1
    check(found == {"hermes": 11, "llama3": 2, "mistral": 4, "harmony": 1}, "syntaxes of the published templates", found)


def main():
    build = sys.argv[1]
    n = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("JSON_TEST_N") or 500)
    check(len(SCHEMAS) == 50, "50 schemas", len(SCHEMAS))
    with tempfile.TemporaryDirectory() as folder:
        tell_apart(build, folder)
        published(build, folder)
        templates(build, folder)
        generations(build, folder, SCHEMAS, n)
        random_schemas(build, folder, n)
    return report("json_py")


if __name__ == "__main__":
    sys.exit(main())
