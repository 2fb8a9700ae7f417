#!/usr/bin/env python3
"""Writes the character classes of gpt.h's pre-tokenizers (section [TOKENIZER]) as a C table.

    make_unicode_tables.py                 print the table and its size
    make_unicode_tables.py --check gpt.h   exit 1 when the header holds another table

A class is one of the eleven the patterns ask for. The classes are those of the regular expression engine inside
Hugging Face `tokenizers`, asked code point by code point, because that engine cut the text the published models were
trained on; without that package they come from Python's unicodedata. The comment above the table says which, and how
far they differ.

The table is a list of runs from code point 0 upwards. A run is a letter, 'a' + class, and its length in decimal digits
if that is not 1. Class 15 stands for a run that alternates Lu, Ll, Lu ... as most of the Latin, Cyrillic and Coptic
extensions do.
"""
import sys
import unicodedata

CLASSES = ["other", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S", "space"]
LIMIT = 0x110000
WIDTH = 93


def is_white(cp):
    return 9 <= cp <= 13 or cp == 0x85 or unicodedata.category(chr(cp))[0] == "Z"


def classes_of_python():
    table = bytearray(LIMIT)
    for cp in range(LIMIT):
        category = unicodedata.category(chr(cp))
        name = "space" if is_white(cp) else category if category[0] == "L" else category[0]
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
                    assert name == "space" or table[cp] == 0, hex(cp)
                    table[cp] = index
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


def main(argv):
    source, size, rows = c_table()
    if len(argv) == 2 and argv[0] == "--check":
        text = open(argv[1], encoding="utf-8").read()
        if size in text and rows in text:
            return 0
        print("%s: the table of character classes is not the one this script writes" % argv[1], file=sys.stderr)
        return 1
    sys.stdout.write("/* General categories, %s. */\n%s%s" % (source, size, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
