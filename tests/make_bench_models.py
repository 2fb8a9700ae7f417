#!/usr/bin/env python3
"""Writes GGUF files of well-known shapes with seeded random weights, to measure speed with: make_bench_models.py DIR
[SHAPE[:TYPE[:LAYERS]] ...]. Needs numpy and gguf. The numbers mean nothing, the bytes to read and the sums to do are the real
ones."""
import argparse
import os
import sys

try:
    import gguf
    import numpy as np
except ImportError as e:
    sys.exit(f"make_bench_models.py: {sys.executable} has no {e.name}: pip install numpy gguf")

SHAPES = {  # architecture, layers, width, heads, kv heads, head width, ffn, vocabulary, context; experts, those used, their ffn
    "gpt2-124m": ("gpt2", 12, 768, 12, 12, 64, 3072, 50257, 1024),
    "smollm2-135m": ("llama", 30, 576, 9, 3, 64, 1536, 49152, 8192),
    "qwen3-0.6b": ("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 40960),
    "qwen3-1.7b": ("qwen3", 28, 2048, 16, 8, 128, 6144, 151936, 40960),     # Bonsai's
    "llama-1b": ("llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072),
    "qwen3-30b-a3b": ("qwen3moe", 48, 2048, 32, 4, 128, 6144, 151936, 40960, 128, 8, 768),
}
TYPES = ["f16", "q8_0", "q4_0", "q4_k_m"]
Q = gguf.GGMLQuantizationType
FORMATS = {"f16": Q.F16, "q8_0": Q.Q8_0, "q4_0": Q.Q4_0, "q5_0": Q.Q5_0, "q4_k": Q.Q4_K, "q6_k": Q.Q6_K}
SCALES = {  # where a block keeps its half-float scales, and what makes the weights' spread about 0.02
    Q.Q8_0: [(0, 0.02 / 73)], Q.Q4_0: [(0, 0.02 / 4.6)], Q.Q5_0: [(0, 0.02 / 9.2)],
    Q.Q4_K: [(0, 0.02 / 170), (2, 0.02 / 30)], Q.Q6_K: [(208, 0.02 / 1300)],
}


def pick(kind, name, layer, n_layer, columns):
    """The format that llama.cpp's quantiser gives a tensor of a file of this kind."""
    if kind != "q4_k_m":
        return kind
    more = layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2
    want = "q6_k" if name == "token_embd" or (name in ("attn_v", "ffn_down", "ffn_down_exps") and more) else "q5_k" if name == "attn_qkv" else "q4_k"
    want = "q4_k" if want == "q5_k" else want
    return want if columns % 256 == 0 else {"q4_k": "q5_0", "q6_k": "q8_0"}[want]


def weights(rng, rows, columns, fmt, larger=1):
    if fmt == Q.F16:
        return (rng.standard_normal((rows, columns), dtype=np.float32) * (0.02 * larger)).astype(np.float16)
    length, size = gguf.GGML_QUANT_SIZES[fmt]
    blocks = np.frombuffer(rng.bytes(rows * (columns // length) * size), dtype=np.uint8).reshape(-1, size).copy()
    for at, scale in SCALES[fmt]:
        blocks[:, at:at + 2] = np.full((len(blocks), 1), scale * larger, dtype=np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def router(rng, rows, columns):
    """With rows that sum to 0: quantised weights do not, and what all tokens have in common would choose their experts."""
    w = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
    return w - w.mean(axis=1, keepdims=True)


def write(path, shape, kind, n_layer):
    arch, _, d, n_head, n_kv, d_head, d_ff, n_vocab, n_ctx, *experts = SHAPES[shape]
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, arch)
    w.add_name(f"{shape} random {kind}")
    w.add_block_count(n_layer)
    w.add_context_length(n_ctx)
    w.add_embedding_length(d)
    w.add_feed_forward_length(d_ff)
    w.add_head_count(n_head)
    w.add_vocab_size(n_vocab)
    w.add_tokenizer_model("no_vocab")
    if arch == "gpt2":
        w.add_layer_norm_eps(1e-5)
    else:
        w.add_head_count_kv(n_kv)
        w.add_key_length(d_head)
        w.add_value_length(d_head)
        w.add_rope_dimension_count(d_head)
        w.add_rope_freq_base(500000.0)
        w.add_layer_norm_rms_eps(1e-5)
    if experts:
        w.add_expert_count(experts[0])
        w.add_expert_used_count(experts[1])
        w.add_expert_feed_forward_length(experts[2])
    later = []          # what makes each tensor: one at a time, as all may be more than the memory

    def add(name, shape, fmt, make):
        size = int(np.prod(shape)) // gguf.GGML_QUANT_SIZES[fmt][0] * gguf.GGML_QUANT_SIZES[fmt][1]
        w.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=fmt)
        later.append(make)

    def matrix(name, layer, rows, columns, n=0, larger=1):
        fmt = FORMATS[pick(kind, name, layer, n_layer, columns)]
        prefix = f"blk.{layer}." if layer >= 0 else ""
        add(f"{prefix}{name}.weight", (n, rows, columns) if n else (rows, columns), fmt, lambda: weights(rng, (n or 1) * rows, columns, fmt, larger))

    def vector(name, n, value):
        add(name, (n,), Q.F32, lambda: np.full(n, value, dtype=np.float32))

    matrix("token_embd", -1, n_vocab, d, larger=50 if experts else 1)        # so that tokens differ, and with them their experts
    vector("output_norm.weight", d, 1)
    if arch == "gpt2":
        add("position_embd.weight", (n_ctx, d), Q.F32, lambda: (rng.standard_normal((n_ctx, d)) * 0.01).astype(np.float32))
        vector("output_norm.bias", d, 0)
    if experts:
        matrix("output", -1, n_vocab, d)
    for i in range(n_layer):
        vector(f"blk.{i}.attn_norm.weight", d, 1)
        vector(f"blk.{i}.ffn_norm.weight", d, 1)
        if arch == "gpt2":
            matrix("attn_qkv", i, 3 * d, d)
            for name, n in (("attn_norm", d), ("ffn_norm", d), ("attn_qkv", 3 * d), ("attn_output", d), ("ffn_up", d_ff), ("ffn_down", d)):
                vector(f"blk.{i}.{name}.bias", n, 0)
        else:
            matrix("attn_q", i, n_head * d_head, d)
            matrix("attn_k", i, n_kv * d_head, d)
            matrix("attn_v", i, n_kv * d_head, d)
            if not experts:
                matrix("ffn_gate", i, d_ff, d)
        if arch in ("qwen3", "qwen3moe"):
            vector(f"blk.{i}.attn_q_norm.weight", d_head, 1)
            vector(f"blk.{i}.attn_k_norm.weight", d_head, 1)
        matrix("attn_output", i, d, n_head * d_head)
        if experts:
            add(f"blk.{i}.ffn_gate_inp.weight", (experts[0], d), Q.F32, lambda: router(rng, experts[0], d))
            matrix("ffn_gate_exps", i, experts[2], d, experts[0])
            matrix("ffn_up_exps", i, experts[2], d, experts[0])
            matrix("ffn_down_exps", i, d, experts[2], experts[0])
            continue
        matrix("ffn_up", i, d_ff, d)
        matrix("ffn_down", i, d, d_ff)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for make in later:
        w.write_tensor_data(make())
    w.close()


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("dir")
    ap.add_argument("what", nargs="*", help=f"SHAPE, SHAPE:TYPE or SHAPE:TYPE:LAYERS; shapes: {' '.join(SHAPES)}; types: {' '.join(TYPES)}")
    args = ap.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    for what in args.what or [s for s in SHAPES if len(SHAPES[s]) == 9]:         # not those with experts: too large
        shape, kind, layers = (what.split(":") + ["", ""])[:3]
        if shape not in SHAPES or (kind and kind not in TYPES) or (layers and not layers.isdigit()) or what.count(":") > 2:
            sys.exit(f"make_bench_models.py: {what}: expected SHAPE, SHAPE:TYPE or SHAPE:TYPE:LAYERS; see --help")
        for k in [kind] if kind else TYPES:
            path = os.path.join(args.dir, f"{shape}-{layers}l-{k}.gguf" if layers else f"{shape}-{k}.gguf")
            write(path + ".tmp", shape, k, int(layers or SHAPES[shape][1]))
            os.replace(path + ".tmp", path)
            print(path, os.path.getsize(path) >> 20, "MiB")


if __name__ == "__main__":
    main()
