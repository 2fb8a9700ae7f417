#!/usr/bin/env python3
"""Writes the tokenizer vectors of tests/golden/ (read by unit_tokenizer.c).

    make_tokenizer_goldens.py [../shared/data/unicode]

Oracles: Hugging Face `tokenizers` for the byte-level BPE families, from the pre-tokenizers of their published
tokenizer.json files; `tiktoken` as a second opinion where it has the same pattern; `sentencepiece` for the other two.

tokenizer_texts.txt   the texts, each followed by a line "__text__" (as llama.cpp's vectors have them)
tokenizer_more.txt    more of them for the byte-level families: digits, markers, single spaces between words
tokenizer_bpe.txt     merges of one vocabulary in GPT-2's byte alphabet, "left right" a line, ids from 256. It was
                      trained without any pre-tokenizer, so its tokens reach over every place where a word may end: a
                      word cut wrongly anywhere changes the ids
tokenizer_words.txt   per family a line "= name", then per text a line: the words' lengths in bytes as digits
                      0-9 a-z A-Z (61 at most; a longer word is ~length~), a space, and the FNV-1a hash of the ids
tokenizer_*.vocab     SentencePiece vocabularies: settings, then "score type piece" a line, with \\n, \\t, \\\\ escaped
tokenizer_*.ids       their ids, a line per text; of spm_merges by `tokenizers`, and its merges behind the pieces
tokenizer_whitespace.* BPE of characters, by `tokenizers`: a vocabulary with its merges; ids as in tokenizer_wordpiece.ids
tokenizer_wordpiece.* the same of `tokenizers`' WordPiece: more texts, as in tokenizer_texts.txt; a vocabulary; ids of all
                      texts by an uncased model, a cased one, and one that lower-cases and keeps accents; their first
                      line is a hash of the ids of "aXb " for every character X, a text for each 4096 of them
"""
import os
import random
import sys
import unicodedata

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Sequence, Split

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "golden")

# ---- Families ----

def split(pattern):
    return Split(Regex(pattern), "isolated")


TAIL = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PLAIN = ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = ByteLevel(add_prefix_space=False, use_regex=True)
LLAMA = TAIL + r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
         r"|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
R50K = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
O200K = CASED % (TAIL + "?", TAIL + "?", r"\p{N}{1,3}")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK = (r"[!\"#$%%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+%s|\s+(?!\S)|\s+")
AFMOE = ("[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
         "\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+")
CASED_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943")

FAMILIES = {
    "gpt-2": GPT2,
    "llama-bpe": Sequence([split(LLAMA % r"\p{N}{1,3}"), PLAIN]),
    "dbrx": Sequence([split(LLAMA % r"\p{N}{1,3}"), PLAIN]),
    "glm4": Sequence([split(LLAMA % r"\p{N}{1,3}"), PLAIN]),
    "qwen2": Sequence([split(LLAMA % r"\p{N}"), PLAIN]),
    "qwen35": Sequence([split(TAIL + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
                              r"|\s+(?!\S)|\s+"), PLAIN]),
    "smollm": Sequence([Digits(individual_digits=True), GPT2]),
    "falcon": Sequence([Punctuation("contiguous"), GPT2, split("[0-9][0-9][0-9]")]),
    "default": Sequence([split(r"[\p{P}\$\+<=>\^~\|]+"), split(R50K), Digits(individual_digits=False),
                         split("[0-9][0-9][0-9]"), PLAIN]),
    "deepseek-llm": Sequence([split("[\r\n]"), split(r"\s?[%s]+" % CASED_LETTERS),
                              split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
                              split(r"\s+$"), split(CJK), Digits(individual_digits=False), PLAIN]),
    "deepseek-coder": Sequence([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK),
                                Digits(individual_digits=True), PLAIN]),
    "deepseek-v3": Sequence([split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                             split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
                                   "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"), PLAIN]),
    "tekken": Sequence([split(CASED % ("", "", r"\p{N}")), PLAIN]),
    "gpt-4o": Sequence([split(O200K), PLAIN]),
    "bloom": Sequence([split(BLOOM), PLAIN]),
    "viking": Sequence([split(BLOOM), Digits(individual_digits=True), PLAIN]),
    "jais-2": Sequence([split(TAIL + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                              r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)"
                              r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"), PLAIN]),
    "bailingmoe": Sequence([split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                                  r"|\s*[\r\n]|\s+(?!\S)|\s+"), PLAIN]),
    "seed-coder": Sequence([split(TAIL + "|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+"
                                  "|\\s+(?!\\S)|\\s+"), PLAIN]),
    "kimi-k2": Sequence([split(r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
                               r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+" + TAIL + r"?|[^\r\n\p{L}\p{N}]?"
                               r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" + TAIL
                               + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), PLAIN]),
    "youtu": Sequence([split("[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f"
                             "\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                       split(CASED % (TAIL + "?", TAIL + "?", r"\p{N}")), PLAIN]),
    "minicpm5": Sequence([split(r"\p{N}{1,3}"), split(LLAMA % r"\p{N}+"), PLAIN]),
    # of these llama.cpp's expressions, with the look-ahead that it has code for
    "afmoe": Sequence([split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(AFMOE), split(DEEPSEEK % r"[\r\n]*|\s*[\r\n]+"),
                       PLAIN]),
    "spark2_5": Sequence([split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                          split(DEEPSEEK % r"|[\r\n]"), split(r"\p{N}"), PLAIN]),
    "granite-embed-multi-97m": Sequence([split(O200K), PLAIN]),
    "tiny_aya": Sequence([split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K), PLAIN]),
    "superbpe": Sequence([split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), PLAIN]),
    "laguna": Sequence([split(r"[^\n]+|[\n]+"), split(LLAMA % r"\p{N}"), PLAIN]),
    "ufakzeka": Sequence([split((LLAMA % r"\p{N}").removeprefix(TAIL + "|")), PLAIN]),
    "exaone-moe": Sequence([split(TAIL + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
                                  r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), PLAIN]),
    "chameleon": Sequence([split("<sentinel:[0-9]+>"), split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
                           split("([\\t\\n]|    |  )"), Digits(individual_digits=True), Punctuation("isolated"), GPT2]),
}

# ---- Texts ----

HAND = [
    "",
    "Hello, world! It's 3 o'clock; they'll say we've won, I'm sure you'd agree, don't you're 'RE 'Ve a'LL 'S's "
    "'\u017f x's\u2019s",
    "3 33 333 3333 33333 333333 1,234.56 v1.2.3 0x1F 1e-9 \u0663\u0664\u0665\u0661 \u00bd\u00b2\u00b3 2\u00b2 "
    "\u216b \u096f\u0967 7\u5e7412\u67085\u65e5",
    "a  b   c    d\te\t\tf \t g\n\n\nh \n i\r\n\r\n  j\u00a0k\u00a0\u00a0l\u3000m\u2003n\x0bo\x0cp\u0085q\u2028r   ",
    "   \n   x\n    y\n\n        \t z \n ",
    "int main(int argc, char **argv) {\n\tfor (size_t i = 0; i < n; i++)\n\t\tprintf(\"%s\\n\", argv[i]); // TO"
    "DO\n\treturn x != y ? 0 : 1;\n}\n",
    "def f(self, *args):\n    \"\"\"Doc.\"\"\"\n    return {k: v for k, v in self.__dict__.items() if k[0] != '"
    "_'}\n\n\nclass HTTPServer2(object):\n    pass\n",
    "https://example.com/a/b?c=d&e=%20f#g user.name+tag@mail.example.org C:\\Temp\\x.txt ~/bin/sh -c 'ls -l | wc'",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \u2764\ufe0f \U0001f1e9"
    "\U0001f1ea\U0001f1ea 1\ufe0f\u20e3 \u2192\u00b1\u221e\u2211 \u20ac5 \u00a3\u00a5$ \u2603\u266b",
    "!!!??? ... -- === ==> <<< >>> $$ ++ ^^ ~~ || `` ''' \"\"\" ([{}]) #@%&* \u2026\u2014\u00ab\u00bb\u201e"
    "\u201c\u3002\u3001\u300c\u300d\uff01\uff1f\uff5e\u060c\u06d4\u0964",
    "ABCdefGHIjkl XMLHttpRequest iPhone USA's McDonald's \u01c5ABC\u01c5 \u02b0a\u02b0 \u00aaX\u00ba \u00c4"
    "\u00e4\u00d6\u00f6 \u039f\u0394\u039f\u03a3 \u0416\u0436 \u1c90\u10d0 \uab70\u13a0 \U0001d400\U0001d41a",
    "e\u0301 o\u0308\u0308 \u0301x \u0928\u094d\u0928\u093f \u0e01\u0e33\u0e49 \u1100\u1161\u11a8 \ufb01\ufb04 "
    "\u212b\u2126 a\u200cb\u200dc \u00adsoft\u00ad \u05d0\u05b8",
    "\x00\x01\x1b[0m\x7f \ufeffBOM\ufffd\ue000\uffff\U000e0041\u0378\U0010ffff <|endoftext|> <s></s> [INST] <un"
    "k> \u2047",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3068\u4e2d\u6587\u6587\u672c\uff0c\ud55c\uad6d\uc5b4 "
    "\ud14d\uc2a4\ud2b8\uff01\u30a2\u30a4\u30a6123\u7e41\u9ad4ABC\u4e00\u9fa5\u0800",
]
POOL = list("aAbBz''''sStrReEvmlLdD  \t\n\r\n   123 9.,!?-_/(){}<>=+$^~|`\"#@:;") + list(
    "\u00e9\u00df\u017f\u03a9\u0416\u0436\u05d0\u0628\u0915\u093f\u094d\u0e17\u0e49\u65e5\u672c\u3072\u30ab"
    "\ud55c\uae00\u01c5\u02b0"
    "\U0001d49c\U0001f600\u200d\ufe0f\u0301\u00b2\u00bd\u216b\u0663\u00a0\u3000\u2028\u200b\u2026\u3002\uff0c"
    "\u0964\x00")
MORE = [                                             # for the byte-level families alone
    "1 12 123 1234 12345 123456 1234567 a1234567b 12345x 1234_ 1000\u00b2 12\u00bd345 1234567\u2460\u2161 "
    "\u0661\u0662\u0663\u0664 12345678,12.3456789\u2160 7777777",
    "a b cd e\u0301 f  g 'S h i\nj k\n\n\nl/\n \u2605\u2605/\r\n \r\r\n m n o p. q r 1 s t, u",
    "<sentinel:12><sentinel:x>IMGIMGABZ IMGIMGABCDEZ IMGIMGJZ\t\t     x      y \u0e01\u0e33\u0e40\u0e41 \u8c48\ua000"
    "\uff76\u2f00\u1780\u1000",
]


def script_of(text):
    names = [unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()]
    return max(set(names), key=names.count) if names else "?"


def texts_of(folder):
    texts, seen = list(HAND), {}
    for name in sorted(os.listdir(folder)):
        body = open(os.path.join(folder, name), encoding="utf-8").read()
        seen.setdefault(script_of(body), body)
    for script in sorted(seen):                      # the beginning of an article, one text per script
        lines = [line for line in seen[script].split("\n") if len(line) > 20]
        if lines:
            texts.append(lines[min(2, len(lines) - 1)][:48] + "\n")
    rng = random.Random(5)
    for _ in range(12):
        texts.append("".join(rng.choice(POOL) * rng.choice([1, 1, 1, 1, 2, 5]) for _ in range(40)))
    return texts


def training_text(folder):
    names = sorted(os.listdir(folder))
    lines = []
    large = ("eng", "deu", "fra", "spa", "rus", "jpn", "kor", "hin", "arb", "tha", "cmn")
    for name in [n for n in names if n.startswith(large)] + names[::12]:
        lines += open(os.path.join(folder, name), encoding="utf-8").read()[:6000].split("\n")
    return [line + "\n" for line in lines] + [t for t in HAND if t] * 3


def fnv(ids):
    h = 0xcbf29ce484222325
    for i in ids:
        for k in range(4):
            h = ((h ^ (i >> 8 * k & 255)) * 0x100000001b3) & 0xffffffffffffffff
    return h


def write(name, text):
    with open(os.path.join(GOLDEN, name), "w", encoding="utf-8", newline="") as f:
        f.write(text)
    print("%-28s %6d bytes" % (name, len(text.encode("utf-8"))))


# ---- Byte-level BPE ----

def bytes_to_unicode():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, n = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + n)
            n += 1
    return table


def train_bpe(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PLAIN
    alphabet = bytes_to_unicode()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=sorted(alphabet.values()), show_progress=False,
                                  max_token_length=8)
    tokenizer.train_from_iterator(lines, trainer)
    import json
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    vocab = {alphabet[b]: b for b in range(256)}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    assert len(vocab) == 256 + len(merges)           # so that ids follow from the order of the merges
    return vocab, merges


def word_code(n):
    return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[n] if n < 62 else "~%d~" % n


def tiktoken_agrees(vocab, merges, pattern, texts, tokenizer):
    import tiktoken
    back = {c: b for b, c in bytes_to_unicode().items()}
    ranks = {bytes(back[c] for c in token): rank for token, rank in vocab.items()}
    other = tiktoken.Encoding("toy", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for text in texts:
        assert other.encode_ordinary(text) == tokenizer.encode(text).ids, text


def bpe_goldens(texts, lines):
    vocab, merges = train_bpe(lines)
    write("tokenizer_bpe.txt", "".join("%s %s\n" % m for m in merges))
    out = []
    for name, pre in FAMILIES.items():
        whole = name in ("llama-bpe", "tekken", "minicpm5", "glm4", "granite-embed-multi-97m", "youtu")
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole))
        tokenizer.pre_tokenizer = pre
        if name in ("gpt-2", "gpt-4o", "qwen2"):     # families that tiktoken can express; ranks are ids here
            pattern = {"gpt-2": R50K, "gpt-4o": O200K, "qwen2": LLAMA % r"\p{N}"}[name]
            tiktoken_agrees(vocab, merges, pattern, texts, tokenizer)
        out.append("= %s\n" % name)
        for text in texts:
            words = [len(piece) for piece, _ in pre.pre_tokenize_str(text)]
            assert sum(words) == len(text.encode("utf-8"))
            out.append("%s %016x\n" % ("".join(map(word_code, words)), fnv(tokenizer.encode(text).ids)))
    write("tokenizer_words.txt", "".join(out))


# ---- SentencePiece ----

RULES = [("\uff21", "A"), ("\uff41", "a"), ("\ufb01", "fi"), ("\u00bd", "1\u20442"), ("\u00a0", " "), ("\u3000", " "),
         ("\t", " "), ("\n", " "), ("e\u0301", "\u00e9"), ("\u1100\u1161\u11a8", "\uac01"), ("\u1100\u1161", "\uac00"),
         ("\u00ad", ""), ("\u2026", "..."), ("\u2003", " "), ("\u212b", "\u00c5")]

MODELS = {                                           # file: family, trainer's options
    "spm": ("llama", dict(model_type="bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity",
                          remove_extra_whitespaces=False, add_dummy_prefix=True, character_coverage=0.98)),
    "spm_unk": ("llama", dict(model_type="bpe", vocab_size=450, byte_fallback=False, normalization_rule_name="identity",
                              remove_extra_whitespaces=False, add_dummy_prefix=False, split_by_whitespace=False,
                              character_coverage=0.98)),
    "unigram": ("t5", dict(model_type="unigram", vocab_size=600, byte_fallback=False, remove_extra_whitespaces=True,
                           add_dummy_prefix=True, character_coverage=0.98)),
    "unigram_bytes": ("t5", dict(model_type="unigram", vocab_size=700, byte_fallback=True,
                                 remove_extra_whitespaces=False, normalization_rule_name="identity",
                                 add_dummy_prefix=True, split_by_whitespace=False, character_coverage=0.98)),
}


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def spm_goldens(texts, lines, scratch):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    lines = [line.rstrip("\n") for line in lines if max(line) < "\u0e00"]    # small alphabets, to keep the files small
    for name, (family, options) in MODELS.items():
        options = dict(options)
        if "normalization_rule_name" not in options:
            path = os.path.join(scratch, "rules.tsv")
            with open(path, "w", encoding="utf-8") as f:
                for source, target in RULES:
                    f.write("\t".join(" ".join("%X" % ord(c) for c in text) for text in (source, target)) + "\n")
            options["normalization_rule_tsv"] = path
        prefix = os.path.join(scratch, name)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=prefix, minloglevel=2, num_threads=1, hard_vocab_limit=False,
            max_sentencepiece_length=12, **options)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(open(prefix + ".model", "rb").read())
        oracle = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
        head = ["model %s" % family, "add_space_prefix %d" % proto.normalizer_spec.add_dummy_prefix,
                "remove_extra_whitespaces %d" % proto.normalizer_spec.remove_extra_whitespaces,
                "unk %d" % proto.trainer_spec.unk_id, "bos %d" % proto.trainer_spec.bos_id,
                "eos %d" % proto.trainer_spec.eos_id, "charsmap %s" % proto.normalizer_spec.precompiled_charsmap.hex(),
                "pieces %d" % len(proto.pieces)]
        body = ["%.9g %d %s" % (p.score, p.type, escape(p.piece)) for p in proto.pieces]
        write("tokenizer_%s.vocab" % name, "\n".join(head + body) + "\n")
        ids = []
        for text in texts:
            ids.append(" ".join(map(str, oracle.encode(text))) if "\u2581" not in text else "-")
        write("tokenizer_%s.ids" % name, "\n".join(ids) + "\n")


def merges_goldens(texts, lines):
    """BPE as Gemma 4's tokenizer.json has it: spaces become U+2581, merges are listed, bytes stand for what is unknown."""
    import json
    space = "\u2581"
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", space)
    trained.pre_tokenizer = split(space + "*[^" + space + "]+")
    lines = [line.rstrip("\n") for line in lines if max(line) < "\u0e00"]
    trained.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=700, limit_alphabet=120, show_progress=False))
    merges = [tuple(m) for m in json.loads(trained.to_str())["model"]["merges"]]
    merges = [("\n", "\n"), (space, space), ("\n\n", "\n"), ("\n\n", "\n\n"), (space * 2, space * 2)] + merges
    pieces = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2)] + [("<0x%02X>" % b, 6) for b in range(256)]
    vocab = {}
    for piece, _ in pieces:
        vocab[piece] = len(vocab)
    for piece in sorted({c for m in merges for part in m for c in part}) + [a + b for a, b in merges]:
        if piece not in vocab:
            vocab[piece] = len(vocab)
            pieces.append((piece, 1))
    oracle = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    oracle.normalizer = normalizers.Replace(" ", space)
    oracle.pre_tokenizer = Split(" ", "merged_with_previous")        # is in the file, and finds no space any more
    head = ["model gemma4", "add_space_prefix 0", "unk 3", "bos 2", "eos 1", "merges %d" % len(merges), "pieces %d" % len(pieces)]
    body = ["-1000 %d %s" % (kind, escape(piece)) for piece, kind in pieces]
    write("tokenizer_spm_merges.vocab", "\n".join(head + body + [escape("%s %s" % m) for m in merges]) + "\n")
    ids = [" ".join(map(str, oracle.encode(text).ids)) for text in texts]
    write("tokenizer_spm_merges.ids", "\n".join(ids) + "\n")


# ---- BPE of characters ----

def whitespace_goldens(texts, lines):
    """As jina-embeddings-v2-base-zh's tokenizer.json has it: small letters, Whitespace, BPE of the characters that are
    tokens. a and b merge: the ids of "aXb" tell whether X ends a word, goes, or stays as it is or as a small letter."""
    import collections
    import json

    def tokenizer(model, lower):
        t = Tokenizer(model)
        if lower:
            t.normalizer = normalizers.Lowercase()
        t.pre_tokenizer = pre_tokenizers.Whitespace()
        return t

    small = [normalizers.Lowercase().normalize_str(line) for line in lines]
    often = collections.Counter("".join(small).replace(" ", "")).most_common()
    letters = {c for c, _ in sorted(often, key=lambda pair: (-pair[1], pair[0]))[:300]} - set("q")
    learner = tokenizer(models.BPE(), False)
    learner.train_from_iterator(("".join(c for c in line if c in letters or c == " ") for line in small),
                                trainers.BpeTrainer(vocab_size=800, show_progress=False))
    merges = [tuple(m) for m in json.loads(learner.to_str())["model"]["merges"]]
    merges += [pair for pair in (("a", "b"), ("A", "B")) if pair not in merges]
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for piece in sorted(letters | set("AB\u0307\u2581")) + [a + b for a, b in merges]:
        vocab.setdefault(piece, len(vocab))
    head = ["model whitespace", "pre whitespace", "unk 3", "bos 0", "eos 2", "merges %d" % len(merges),
            "pieces %d" % len(vocab)]
    body = ["0 %d %s" % (2 if i == 3 else 3 if i < 3 else 1, escape(piece)) for piece, i in vocab.items()]
    write("tokenizer_whitespace.vocab", "\n".join(head + body + ["%s %s" % m for m in merges]) + "\n")
    # of U+A7D2 and U+A7D4 the package knows the small letters, which are letters to it, but not that they are some too:
    # they end a word or not as they are capitals; gpt.h cuts words first
    oracles = [tokenizer(models.BPE(vocab, merges), lower) for lower in (True, False)]
    write("tokenizer_whitespace.ids", ids_by_mode(oracles, texts, (0xa7d2, 0xa7d4)))


# ---- WordPiece ----

HARD = [
    "T\u014dky\u014d \u00dcbung na\u00efve \u0111 \u0110 e\u0301 E\u0301 Ab \u00c5ngstr\u00f6m \u0130stanbul "
    "\u0131 \u00df \u1e9e \ufb03 \u01c4 \u03a3\u03b1\u03c3 \u1f88 \u0345",
    "o\u0308\u0308 \u0301x x\u0301 \u0928\u094d\u0928\u093f \uac01\u1100\u1161\u11a8 \u304c\u304b\u3099 \u0958 "
    "\U0001d160 \u2126 \u212b \u0e01\u0e33",
    "a\x00b\x01c\x07d\x7fe\x80f\u00adg\u200bh\u200di\ufeffj\ufffdk\ue000l\U000e0041m\u0378n\tk\nl\rm\x0bn\x0co\u0085p",
    "\u65e5\u672c\u8a9e the\u6587cat \u3042\u30a2 \uf900 \U0002b820\U0002b91f\U0002b920\U0002ceaf\U0002f800 "
    "\u3400\u4dbf\u4dc0\u9fff",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " the " + "\u00e9" * 100 + " " + "e\u0301" * 100 + " " + "\uac01" * 34,
    "[CLS] [SEP][UNK] [MASK]the ##ing # ## ###a [unused1] $5+6=11 <a> ^b` c|d~ \u20ac \u2014 \u00a7 \u00b6 \u00bf \u3001",
    "don't they're U.S.A. 3.14 e-mail http://a.b/c?d=e_f I\u2019m \u2018q\u2019 ...",
    "\u00a0the\u2003cat\u3000sat\u2028on\u2029mat\u202fok\u1680no\u180e ",
]


def ids_by_mode(oracles, texts, without=()):
    every, out = [chr(c) for c in range(0x110000) if not 0xd800 <= c < 0xe000 and c not in without], []
    for tokenizer in oracles:
        h = 0
        for i in range(0, len(every), 4096):
            h = h * 31 + fnv(tokenizer.encode("".join("a%sb " % c for c in every[i:i + 4096])).ids) & 0xffffffffffffffff
        out.append("%016x" % h)
        out += [" ".join(map(str, tokenizer.encode(text).ids)) for text in texts]
    return "\n".join(out) + "\n"


def wordpiece_goldens(texts, lines):
    modes = [dict(lowercase=True), dict(lowercase=False), dict(lowercase=True, strip_accents=False)]
    trainer = trainers.WordPieceTrainer(vocab_size=1000, show_progress=False, special_tokens=["[UNK]"], limit_alphabet=300)
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator([line for line in lines if max(line) < "\u0e00"] + HARD * 5, trainer)
    vocab = learner.get_vocab()
    for token in "a b ##a ##b".split():
        vocab.setdefault(token, len(vocab))
    pieces = [("\u2581" + t if not t.startswith("##") or t == "##" else t[2:], i) for t, i in vocab.items()]
    pieces = [piece for piece, _ in sorted(pieces, key=lambda p: p[1])]
    unk = vocab["[UNK]"]
    head = ["model bert", "unk %d" % unk, "pieces %d" % len(pieces)]
    body = ["0 %d %s" % (3 if i == unk else 1, "[UNK]" if i == unk else escape(p)) for i, p in enumerate(pieces)]
    write("tokenizer_wordpiece.vocab", "\n".join(head + body) + "\n")
    write("tokenizer_wordpiece.txt", "".join(text + "\n__text__\n" for text in HARD))
    oracles = []
    for mode in modes:
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, **mode)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        oracles.append(tokenizer)
    write("tokenizer_wordpiece.ids", ids_by_mode(oracles, texts + HARD))


def main(argv):
    folder = os.path.join(argv[0] if argv else os.path.join(HERE, "..", "..", "shared", "data", "unicode"), "udhr2")
    os.makedirs(GOLDEN, exist_ok=True)
    texts, lines = texts_of(folder), training_text(folder)
    write("tokenizer_texts.txt", "".join(text + "\n__text__\n" for text in texts))
    write("tokenizer_more.txt", "".join(text + "\n__text__\n" for text in MORE))
    bpe_goldens(texts + MORE, lines)
    whitespace_goldens(texts + HARD, lines)
    wordpiece_goldens(texts, lines)
    merges_goldens(texts, lines)
    import tempfile
    with tempfile.TemporaryDirectory() as scratch:
        spm_goldens(texts, lines, scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
