#!/usr/bin/env python3
"""Writes the character classes of gpt.h's pre-tokenizers (section [TOKENIZER]) as a C table.

    make_unicode_tables.py                 print the tables and their sizes
    make_unicode_tables.py --check gpt.h   exit 1 when the header holds others

A class is one of the twelve the patterns ask for; N is what is not Nd. The classes are those of the regular expression engine inside
Hugging Face `tokenizers`, asked code point by code point, because that engine cut the text the published models were
trained on; without that package they come from Python's unicodedata. The comment above the table says which, and how
far they differ.

The table is a list of runs from code point 0 upwards. A run is a letter, 'a' + class, and its length in decimal digits
if that is not 1. Class 15 stands for a run that alternates Lu, Ll, Lu ... as most of the Latin, Cyrillic and Coptic
extensions do.

The second table is what BertNormalizer and BertPreTokenizer of the same package do to characters, asked likewise:
  clean  removed (control characters)          strip  the canonical decomposition (NFD) without its marks (Mn)
  flip   punctuation, though our class is not  lower  the lower case
         P, or the other way round
Runs again, each some numbers: how far behind the last one it begins; 6 (length - 1) + kind; then, as a difference from
the last such number, a target, or `length` of them for kind 5. Kinds: 0 nothing is left; 1 all become the target; 2 the
first becomes the target, the next the one after it ...; 3 alternately the target and the one 32 further on (A, a); 4
every second one becomes the one after it; 5 a single one becomes several. A number is written in digits of 31, the last
one from the first half of 62 characters, the others from the second half. Hangul syllables are left out: their
decomposition is a formula.
"""
import sys
import unicodedata

CLASSES = ["other", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Nd", "N", "P", "S", "space"]
LIMIT = 0x110000
WIDTH = 93


def is_white(cp):
    return 9 <= cp <= 13 or cp == 0x85 or unicodedata.category(chr(cp))[0] == "Z"


def classes_of_python():
    table = bytearray(LIMIT)
    for cp in range(LIMIT):
        category = unicodedata.category(chr(cp))
        name = "space" if is_white(cp) else category if category in CLASSES else category[0]
        table[cp] = CLASSES.index(name) if name in CLASSES else 0
    return table


def classes_of_tokenizers():
    from tokenizers import Regex, pre_tokenizers
    points = [cp for cp in range(LIMIT) if not 0xD800 <= cp < 0xE000]
    table = bytearray(LIMIT)
    for index, name in enumerate(CLASSES):
        if index == 0:
            continue
        split = pre_tokenizers.Split(Regex(r"\s+" if name == "space" else r"\p{%s}+" % name), "removed", invert=True)
        for base in range(0, len(points), 4096):
            chunk = points[base:base + 4096]
            for _, (first, last) in split.pre_tokenize_str("".join(map(chr, chunk))):
                for cp in chunk[first:last]:
                    assert name in ("space", "N") or table[cp] == 0, hex(cp)
                    table[cp] = table[cp] if name == "N" and table[cp] else index
    return table


def runs_of(table):
    runs, cp = [], 0
    while cp < LIMIT:
        first, kind = cp, table[cp]
        while cp < LIMIT and table[cp] == kind:
            cp += 1
        end = first
        while end < LIMIT and table[end] == 1 + (end - first) % 2:   # Lu, Ll, Lu ...
            end += 1
        if end - first >= 3:
            cp, kind = end, 15
        runs.append((kind, cp - first))
    return runs


def c_table():
    python = classes_of_python()
    try:
        import tokenizers
        table = classes_of_tokenizers()
        differ = sum(a != b for a, b in zip(table, python))
        source = "as the engine of tokenizers %s has them (%d code points differ from Unicode %s)" % (
            tokenizers.__version__, differ, unicodedata.unidata_version)
    except ImportError:
        table, source = python, "Unicode %s" % unicodedata.unidata_version
    runs = runs_of(table)
    rows = [""]
    for kind, length in runs:
        word = chr(ord("a") + kind) + (str(length) if length > 1 else "")
        if len(rows[-1]) + len(word) > WIDTH:
            rows.append("")
        rows[-1] += word
    return source, "enum { GPTI_UNI_RUNS = %d };\n" % len(runs), ",\n".join('    "%s"' % row for row in rows) + "\n"


FOLDS, FOLD_WIDTH = ("clean", "flip", "strip", "lower"), 112


def folds_of_tokenizers(classes):
    """{cp: targets} for each of FOLDS"""
    from tokenizers import normalizers, pre_tokenizers
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    normal = {name: normalizers.BertNormalizer(**{**flags, key: True}) for name, key in (
        ("clean", "clean_text"), ("strip", "strip_accents"), ("lower", "lowercase"))}
    words = pre_tokenizers.BertPreTokenizer()
    out = {name: {} for name in FOLDS}
    for cp in range(LIMIT):
        c = chr(cp)
        if 0xD800 <= cp < 0xE000:
            continue
        if normal["clean"].normalize_str(f"a{c}b") == "ab":
            out["clean"][cp] = ()
        cut = [w for w, _ in words.pre_tokenize_str(f"a{c}b")] == ["a", c, "b"]
        if cut != (CLASSES[classes[cp]] == "P" or (cp < 128 and CLASSES[classes[cp]] == "S")):
            out["flip"][cp] = ()
        for name in ("strip", "lower"):
            to = normal[name].normalize_str(c)
            if to != c and not (name == "strip" and 0xAC00 <= cp < 0xD7A4):
                out[name][cp] = tuple(map(ord, to))
    return out


def digits(v):
    out = [v % 31]
    while v := v // 31:
        out.append(31 + v % 31)
    return "".join(chr(64 + d + (d > 27)) for d in reversed(out))     # "@A...[]^...~"


def fold_runs(m):
    """The table m as text, and its number of runs."""
    cps, out, n_run, i, end, last = sorted(m), "", 0, 0, 0, 0
    while i < len(cps):
        first = cps[i]

        def length(test):
            n = 0
            while first + n in m and test(n, m[first + n]):
                n += 1
            return n
        to = m[first]
        if len(to) == 0:
            kind, n = 0, length(lambda k, x: x == ())
        elif len(to) > 1:
            kind, n = 5, len(to)
        else:
            every = 0
            while first + 2 * every + 1 not in m and m.get(first + 2 * every) == (first + 2 * every + 1,):
                every += 1
            ways = [(length(lambda k, x: x == to), 1), (length(lambda k, x: x == (to[0] + k,)), 2),
                    (length(lambda k, x: x == (to[0] + 32 * (k & 1),)), 3), (2 * every - 1, 4)]
            n, kind = max(ways, key=lambda w: (w[0], -w[1]))
        out += digits(first - end) + digits(6 * (n - 1) + kind)
        for v in to if kind else ():
            out += digits(2 * (v - last) if v >= last else 2 * (last - v) - 1)
            last = v
            if kind < 5:
                break
        end, n_run = first + (1 if kind == 5 else n), n_run + 1
        while i < len(cps) and cps[i] < end:
            i += 1
    return out, n_run


def fold_table():
    import tokenizers     # noqa: F401: only that package says how it normalises
    runs = [fold_runs(m) for m in folds_of_tokenizers(classes_of_tokenizers()).values()]
    text = "".join(t for t, _ in runs)
    rows = [text[i:i + FOLD_WIDTH] for i in range(0, len(text), FOLD_WIDTH)]
    size = "enum { GPTI_FOLD_WIDTH = %d,\n       %s };\n" % (FOLD_WIDTH, ", ".join(
        "GPTI_FOLD_%s = %d" % (name.upper(), n) for name, (_, n) in zip(FOLDS, runs)))
    return size, ",\n".join('    "%s"' % row for row in rows) + "\n"


def main(argv):
    source, size, rows = c_table()
    try:
        fold_size, fold_rows = fold_table()
    except ImportError:
        fold_size = fold_rows = ""
    if len(argv) == 2 and argv[0] == "--check":
        text = open(argv[1], encoding="utf-8").read()
        if all(part in text for part in (size, rows, fold_size, fold_rows)):
            return 0
        print("%s: a table of characters is not the one this script writes" % argv[1], file=sys.stderr)
        return 1
    sys.stdout.write("/* General categories, %s. */\n%s%s" % (source, size, rows))
    sys.stdout.write("\n%s%s" % (fold_size, fold_rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
