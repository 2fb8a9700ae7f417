#!/usr/bin/env python3
"""Writes golden/formats.inc: what the gguf package makes of seeded blocks of every number format.

Inputs are a function of the seed alone (unit_formats.c has the same generator), so the file holds only hashes: one
FNV-1a over each block's dequantised floats (every NaN counted as 0x7fc00000), and over each encoded block.
Run from anywhere: python3 tests/make_format_goldens.py    (needs numpy and gguf; and for what gguf has no code for a
compiler and LLAMA_CPP, a folder with llama.cpp's sources, whose C says what it means)
"""
import ctypes
import os
import subprocess
import tempfile
import numpy as np
from gguf import quants
from gguf.constants import GGMLQuantizationType as T, GGML_QUANT_SIZES

N_BLOCK = 48
# byte offsets of half-float scales; the first eight blocks get special values there
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "F16": [0], "TQ1_0": [52], "TQ2_0": [64], "IQ2_XXS": [0],
          "IQ3_XXS": [0], "IQ3_S": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ1_S": [0], "Q1_0": [0], "Q2_0": [0]}
SPECIAL = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0x7C00, 0xFE00]
NAMES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "IQ2_XXS", "IQ3_XXS", "IQ3_S", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M", "Q1_0", "Q2_0"]
IN_C = {"Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18)}    # number, weights, bytes
ENCODED = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4"]     # by gguf
ENCODED_IN_C = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q1_0", "Q2_0"]     # by llama.cpp
# with an importance of columns
WEIGHTED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


class Random:
    """xorshift32, as in unit_formats.c"""
    def __init__(self, seed):
        self.x = seed

    def next(self):
        x = self.x
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self.x = x
        return x


def fnv(data):
    h = 0x811C9DC5
    for b in bytes(data):
        h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return h


def blocks(name, size):
    """Bytes of N_BLOCK blocks; for float formats a block is 32 weights."""
    rng = Random(0x9E3779B9 ^ (IN_C[name][0] if name in IN_C else T[name].value))
    out = np.zeros((N_BLOCK, size), np.uint8)
    for b in range(N_BLOCK):
        for i in range(size):
            out[b, i] = rng.next() >> 24
        for n, at in enumerate(HALVES.get(name, [])):
            if b < 8:
                h = SPECIAL[(b + n) % 8]
            else:    # scales of trained models: an exponent from 2^-12 to 2^0
                h = (int(out[b, at]) | int(out[b, at + 1]) << 8) & 0x83FF | (3 + rng.next() % 13) << 10
            out[b, at], out[b, at + 1] = h & 255, h >> 8
    return out


# What ggml-quants.c wants of other files: rows are encoded one by one, so their bytes do not matter.
STUBS = """#include <stdlib.h>
size_t ggml_row_size(int type, long long n) { (void)type; (void)n; return 0; }
size_t ggml_type_size(int type) { (void)type; return 0; }
const char *ggml_type_name(int type) { (void)type; return ""; }
void ggml_abort(const char *file, int line, const char *format, ...) { (void)file; (void)line; (void)format; abort(); }
"""


def load_llama_cpp():
    """llama.cpp's ggml-quants.c as a library, every operation rounded once."""
    sources = os.path.join(os.environ["LLAMA_CPP"], "ggml")
    with tempfile.TemporaryDirectory() as folder:
        path, stubs = os.path.join(folder, "quants.so"), os.path.join(folder, "stubs.c")
        with open(stubs, "w") as f:
            f.write(STUBS)
        subprocess.run(["cc", "-O1", "-DNDEBUG", "-ffp-contract=off", "-shared", "-fPIC", "-w", "-I", sources + "/include",
                        "-I", sources + "/src", sources + "/src/ggml-quants.c", stubs, "-o", path, "-lm"], check=True)
        return ctypes.CDLL(path)


def pointer(a):
    return None if a is None else a.ctypes.data_as(ctypes.c_void_p)


def decoded_by_llama_cpp(library, name, raw):
    out = np.zeros((N_BLOCK, IN_C[name][1]), np.float32)
    getattr(library, "dequantize_row_" + name.lower())(pointer(raw), pointer(out), ctypes.c_int64(out.size))
    return out


def layout(name):
    """number, weights and bytes of a block"""
    return IN_C[name] if name in IN_C else (T[name].value, *GGML_QUANT_SIZES[T[name]])


def encoded_by_llama_cpp(library, name, x, importance=None):
    """The rows of x, with the importance of their columns or without: what llama-quantize writes."""
    _, n, size = layout(name)
    out = np.zeros((x.shape[0], x.shape[1] // n * size), np.uint8)
    run = getattr(library, "quantize_" + name.lower().replace("_k", "_K"))
    run.restype = ctypes.c_size_t
    for row, to in zip(np.ascontiguousarray(x, np.float32), out):
        run(pointer(row), pointer(to), ctypes.c_int64(1), ctypes.c_int64(len(row)), pointer(importance))
    return out


def floats(n):
    """N_BLOCK rows of n floats of very different sizes, exact in any language: even; most of them small; of one sign; half
    of each 32 zero. The first row is zeros."""
    rng = Random(12345)
    x = np.zeros((N_BLOCK, n), np.float32)
    for b in range(N_BLOCK):
        for i in range(n):
            f = np.float32((rng.next() >> 8) - 0x800000) * np.float32(2.0 ** -(12 + b))
            if b % 4 == 1:
                f = f * np.abs(f) * np.float32(2.0 ** (b - 11))
            if b % 4 == 2:
                f = np.abs(f)
            if b % 4 == 3 and i % 32 < 16:
                f = np.float32(0)
            x[b, i] = f
    x[0] = 0
    return x


def importances(n):
    """Of n columns, with zeros among them."""
    rng = Random(54321)
    return np.array([(rng.next() >> 20) * 2.0 ** -8 if i % 7 else 0 for i in range(n)], np.float32)


def main():
    np.seterr(all="ignore")
    library = load_llama_cpp()
    lines = ["/* Written by make_format_goldens.py: hashes of dequantised and of encoded blocks. */"]
    lines.append("#define GOLDEN_BLOCKS %d" % N_BLOCK)
    lines.append("static const golden_row golden_dequantised[] = {")
    for name in NAMES:
        number, n, size = layout(name)
        if n == 1:
            n, size = 32, 32 * size
        raw = blocks(name, size)
        y = decoded_by_llama_cpp(library, name, raw) if name in IN_C else quants.dequantize(raw, T[name]).astype(np.float32)
        assert y.shape == (N_BLOCK, n)
        bits = y.view(np.uint32).copy()
        bits[np.isnan(y)] = 0x7FC00000
        lines.append("{ %d, { %s } }," % (number, ", ".join("0x%08xu" % fnv(r.astype("<u4").tobytes()) for r in bits)))
    lines += ["};", "static const golden_row golden_encoded[] = {"]
    for name in ENCODED + ENCODED_IN_C:
        x = floats(max(layout(name)[1], 32))
        y = encoded_by_llama_cpp(library, name, x) if name in ENCODED_IN_C else quants.quantize(x, T[name])
        lines.append("{ %d, { %s } }," % (layout(name)[0], ", ".join("0x%08xu" % fnv(r.tobytes()) for r in y)))
    lines += ["};", "static const golden_row golden_weighted[] = {"]
    for name in WEIGHTED:
        n = layout(name)[1]
        y = encoded_by_llama_cpp(library, name, floats(n), importances(n))
        lines.append("{ %d, { %s } }," % (layout(name)[0], ", ".join("0x%08xu" % fnv(r.tobytes()) for r in y)))
    lines.append("};")
    # every half, widened; and every finite half's value moved by some f32 ulps, narrowed
    h = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    bits = h.view(np.uint32).copy()
    bits[np.isnan(h)] = 0x7FC00000
    lines.append("#define GOLDEN_WIDEN 0x%08xu" % fnv(bits.astype("<u4").tobytes()))
    base = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    moved = np.stack([base + np.uint32(d) for d in (0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000)], axis=1)
    narrow = moved.view(np.float32).astype(np.float16).view(np.uint16)
    lines.append("#define GOLDEN_NARROW 0x%08xu" % fnv(narrow.astype("<u2").tobytes()))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "formats.inc")
    with open(path, "w") as f:
        f.write("\n".join("\n  ".join(wrap(l)) for l in lines) + "\n")


def wrap(line):
    """Cuts a long line after commas at 118 columns."""
    out = []
    while len(line) > 118:
        cut = line.rindex(", ", 0, 118) + 1
        out.append(line[:cut])
        line = line[cut + 1:]
    return out + [line]


if __name__ == "__main__":
    main()
