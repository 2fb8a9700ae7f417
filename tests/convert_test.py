#!/usr/bin/env python3
"""Tests tools/convert_weights.py: python3 tests/convert_test.py [NAME ...]

Tiny seeded models of every kind are made with `transformers`, converted, read back with gguf.GGUFReader and run by
`forward` below, which knows the GGUF conventions and nothing of Hugging Face; its logits must be those of transformers.
So a wrong name, shape, transpose, permutation, key or default shows. Skips, and says so, without the packages.
"""

import contextlib
import io
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
try:
    import gguf
    import numpy as np
    import tokenizers
    import torch
    import transformers as tf
    import convert_weights as cw
except (ImportError, SystemExit) as e:
    print(f"convert_test: skipped: {e}")
    sys.exit(0)

tf.logging.set_verbosity_error()
tf.logging.disable_progress_bar()
DATA = ROOT.parent / "shared" / "data"
TMP = Path(tempfile.mkdtemp(prefix="convert_test."))
passed = 0


def ok(condition, what):
    global passed
    assert condition, what
    passed += 1


def run(*args):
    """The tool as from the command line: (exit status, stderr)."""
    err, argv = io.StringIO(), sys.argv
    sys.argv = ["convert_weights.py", *map(str, args)]
    try:
        with contextlib.redirect_stderr(err):
            status = cw.main()
    except SystemExit as e:
        status = e.code
    finally:
        sys.argv = argv
    return status, err.getvalue()


def convert(source, *args, type="f32"):
    out = TMP / "out.gguf"
    status, err = run(source, "-o", out, "--type", type, *args)
    assert status == 0, f"{source}: {err}"
    return Model(out)


class Model:
    """A GGUF file: keys without the architecture's prefix, tensors as float arrays."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.all = {k: f.contents() for k, f in self.reader.fields.items()}
        self.arch = self.all["general.architecture"]
        self.types = {t.name: t.tensor_type.name for t in self.reader.tensors}
        self.t = {}
        for t in self.reader.tensors:
            values = gguf.quants.dequantize(t.data, t.tensor_type)
            self.t[t.name] = values.reshape(t.shape[::-1].tolist()).astype(np.float64)

    def __getitem__(self, key):
        return self.all[f"{self.arch}.{key}"]

    def get(self, key, default=None):
        return self.all.get(f"{self.arch}.{key}", default)


# ----------------------------------------------------------------------------------------------------------------
# What a GGUF file means
# ----------------------------------------------------------------------------------------------------------------
def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_erf(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def relu_2(x):
    return np.maximum(x, 0) ** 2


ACT = {"silu": silu, "gelu_pytorch_tanh": gelu_tanh, "gelu": gelu_erf, None: relu_2}
PAIRS = ("llama", "olmo", "granite", "granitemoe", "smollm3", "command-r", "cohere2", "gptj", "arcee", "ernie4_5",
         "glm4", "mistral3")
POST_IS_FFN = ("gpt-oss", "seed_oss")   # post_attention_norm is the feed-forward's norm


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Forward:
    def __init__(self, m):
        self.m, self.t, self.arch = m, m.t, m.arch
        self.D, self.H, self.G = m["embedding_length"], m["attention.head_count"], m["attention.head_count_kv"]
        self.K = m.get("attention.key_length", self.D // self.H)
        self.act = ACT[m.get("hidden_activation")]

    def norm(self, x, name):
        w, b = self.t.get(name + ".weight", 1.0), self.t.get(name + ".bias", 0.0)
        rms = self.m.get("attention.layer_norm_rms_epsilon")
        if rms is None:
            x = x - x.mean(-1, keepdims=True)
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.m["attention.layer_norm_epsilon"]) * w + b
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + rms) * w

    def linear(self, x, name):
        return x @ self.t[name + ".weight"].T + self.t.get(name + ".bias", 0.0)

    def angles(self, n, window):
        """cos and sin [n, rope/2] of positions 0..n-1."""
        m, dim = self.m, self.m["rope.dimension_count"]
        near = window and m.get("rope.freq_base_swa")
        base = m["rope.freq_base_swa"] if near else m["rope.freq_base"]
        freq, scale = base ** -(np.arange(0, dim, 2) / dim), 1.0
        kind = m.get("rope.scaling.type", "none") if not near else "none"
        if kind == "linear":
            freq = freq / m["rope.scaling.factor"]
        if kind == "yarn":
            s, old = m["rope.scaling.factor"], m["rope.scaling.original_context_length"]
            low, high = (dim * math.log(old / (b * 2 * math.pi)) / (2 * math.log(base)) for b in
                         (m["rope.scaling.yarn_beta_fast"], m["rope.scaling.yarn_beta_slow"]))
            if m.get("rope.scaling.yarn_truncate", True):
                low, high = math.floor(low), math.ceil(high)
            low, high = max(low, 0), min(high, dim - 1)
            keep = 1 - np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
            freq = freq / s * (1 - keep) + freq * keep
            scale = m.get("rope.scaling.attn_factor", 1.0) * (1 + 0.1 * math.log(s))
            scale /= 1 + 0.1 * m.get("rope.scaling.yarn_log_multiplier", 0.0) * math.log(s)
        if kind == "longrope":
            long = n > m["rope.scaling.original_context_length"]
            freq = freq / self.t[f"rope_factors_{'long' if long else 'short'}.weight"]
            scale = m["rope.scaling.attn_factor"]
        if "rope_freqs.weight" in self.t:
            freq = freq / self.t["rope_freqs.weight"]
        a = np.arange(n)[:, None] * freq
        return np.cos(a)[:, None] * scale, np.sin(a)[:, None] * scale

    def rope(self, x, window):
        """x [n, heads, k]: pairs are neighbours, or an element and the one half a rotation away."""
        dim = self.m["rope.dimension_count"]
        cos, sin = self.angles(len(x), window)
        a, b = slice(0, dim // 2), slice(dim // 2, dim)
        if self.arch in PAIRS:
            a, b = slice(0, dim, 2), slice(1, dim, 2)
        out = x.copy()
        out[..., a], out[..., b] = x[..., a] * cos - x[..., b] * sin, x[..., a] * sin + x[..., b] * cos
        return out

    def attention(self, x, i):
        t, m, H, G, K, n = self.t, self.m, self.H, self.G, self.K, len(x)
        p = f"blk.{i}."
        if p + "attn_qkv.weight" in t:
            q, k, v = np.split(self.linear(x, p + "attn_qkv"), [H * K, (H + G) * K], axis=-1)
        else:
            q, k, v = (self.linear(x, p + "attn_" + c) for c in "qkv")
        clamp = m.get("attention.clamp_kqv")
        if clamp:
            q, k, v = (np.clip(y, -clamp, clamp) for y in (q, k, v))
        whole, late = self.arch in ("olmo2", "olmoe"), self.arch == "hunyuan-dense"
        if whole:
            q, k = self.norm(q, p + "attn_q_norm"), self.norm(k, p + "attn_k_norm")
        q, k, v = q.reshape(n, H, K), k.reshape(n, G, K), v.reshape(n, G, K)
        if p + "attn_q_norm.weight" in t and not whole and not late:
            q, k = self.norm(q, p + "attn_q_norm"), self.norm(k, p + "attn_k_norm")
        w = m.get("attention.sliding_window")
        pattern = {"gemma2": i % 2 == 0, "gpt-oss": i % 2 == 0, "gemma3": (i + 1) % 6 != 0, "cohere2": (i + 1) % 4 != 0}
        window = bool(w) and m.get("attention.sliding_window_pattern", {i: pattern.get(self.arch, True)})[i]
        far = self.arch in ("cohere2", "exaone4") and w and not window      # no rope where others have windows
        if m.get("rope.dimension_count") and not far and not (self.arch == "smollm3" and (i + 1) % 4 == 0):
            q, k = self.rope(q, window), self.rope(k, window)
        if late:
            q, k = self.norm(q, p + "attn_q_norm"), self.norm(k, p + "attn_k_norm")
        if m.get("attention.temperature_scale"):
            times = np.arange(n) // m["rope.scaling.original_context_length"]
            q = q * (1 + m["attention.temperature_scale"] * np.log(1 + times))[:, None, None]
        k, v = np.repeat(k, H // G, axis=1), np.repeat(v, H // G, axis=1)
        s = np.einsum("ihk,jhk->hij", q, k) * m.get("attention.scale", K ** -0.5)
        cap = m.get("attn_logit_softcapping")
        if cap:
            s = np.tanh(s / cap) * cap
        if m.get("attention.max_alibi_bias"):
            s = s + self.alibi()[:, None, None] * np.arange(n)
        d = np.arange(n)[:, None] - np.arange(n)
        s = np.where((d >= 0) & ((d < w) if window else True), s, -np.inf)
        if p + "attn_sinks.weight" in t:
            sink = np.broadcast_to(t[p + "attn_sinks.weight"][:, None, None], (H, n, 1))
            s = softmax(np.concatenate([s, sink], -1))[..., :-1]
        else:
            s = softmax(s)
        return self.linear(np.einsum("hij,jhk->ihk", s, v).reshape(n, H * K), p + "attn_output")

    def alibi(self):
        n = 1 << int(math.floor(math.log2(self.H)))
        m0, m1 = (2.0 ** (-self.m["attention.max_alibi_bias"] / f / n) for f in (1, 2))
        return np.array([m0 ** (h + 1) if h < n else m1 ** (2 * (h - n) + 1) for h in range(self.H)])

    def ffn(self, x, p):
        t = self.t
        if p + "ffn_gate_inp.weight" in t:
            return self.experts(x, p)
        up = self.linear(x, p + "ffn_up")
        if self.arch in ("phi3", "glm4"):
            gate, up = np.split(up, 2, axis=-1)
            return self.linear(self.act(gate) * up, p + "ffn_down")
        if p + "ffn_gate.weight" in t:
            up = self.act(self.linear(x, p + "ffn_gate")) * up
        else:
            up = self.act(up)
        return self.linear(up, p + "ffn_down")

    def experts(self, x, p):
        t, m, out = self.t, self.m, np.zeros_like(x)
        logits, used = self.linear(x, p + "ffn_gate_inp"), m["expert_used_count"]
        for i, row in enumerate(logits):
            top = np.argsort(-row)[:used]
            w = softmax(row[top])
            if self.arch in ("qwen2moe", "olmoe"):
                w = softmax(row)[top]
            for e, we in zip(top, w):
                gate, up = (t[p + f"ffn_{n}_exps.weight"][e] @ x[i] for n in ("gate", "up"))
                if self.arch == "gpt-oss":
                    gate = np.minimum(gate + t[p + "ffn_gate_exps.bias"][e], 7)
                    up = np.clip(up + t[p + "ffn_up_exps.bias"][e], -7, 7)
                    h = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
                    out[i] += we * (t[p + "ffn_down_exps.weight"][e] @ h + t[p + "ffn_down_exps.bias"][e])
                else:
                    out[i] += we * (t[p + "ffn_down_exps.weight"][e] @ (silu(gate) * up))
        if p + "ffn_up_shexp.weight" in t:
            h = silu(self.linear(x, p + "ffn_gate_shexp")) * self.linear(x, p + "ffn_up_shexp")
            g = np.ones(len(x))
            if p + "ffn_gate_inp_shexp.weight" in t:
                g = 1 / (1 + np.exp(-(x @ t[p + "ffn_gate_inp_shexp.weight"])))
            out += self.linear(h, p + "ffn_down_shexp") * g[:, None]
        return out

    def logits(self, ids):
        t, m, arch = self.t, self.m, self.arch
        scale = math.sqrt(self.D) if arch.startswith("gemma") else m.get("embedding_scale", 1.0)
        x = t["token_embd.weight"][ids] * scale
        if "position_embd.weight" in t:
            x = x + t["position_embd.weight"][:len(ids)]
        if "token_embd_norm.weight" in t:
            x = self.norm(x, "token_embd_norm")
        scale = m.get("residual_scale", 1.0)
        for i in range(m["block_count"]):
            p = f"blk.{i}."
            plain = arch in ("olmo2", "exaone4")    # no norm before, only after
            h = x if plain else self.norm(x, p + "attn_norm")
            a = self.attention(self.norm(x, p + "attn_norm_2") if p + "attn_norm_2.weight" in t else h, i)
            if p + "post_attention_norm.weight" in t and arch not in POST_IS_FFN:
                a = self.norm(a, p + "post_attention_norm")
            if m.get("use_parallel_residual", arch in ("gptj", "phi2", "falcon", "command-r", "cohere2")):
                x = x + a + self.ffn(self.norm(x, p + "ffn_norm") if p + "ffn_norm.weight" in t else h, p)
                continue
            x = x + a * scale
            name = p + ("post_attention_norm" if arch in POST_IS_FFN else "ffn_norm")
            f = self.ffn(x if plain else self.norm(x, name), p)
            x = x + (self.norm(f, p + "post_ffw_norm") if p + "post_ffw_norm.weight" in t else f) * scale
        x = self.norm(x, "output_norm")
        out = x @ t.get("output.weight", t["token_embd.weight"]).T + t.get("output.bias", 0.0)
        out = out / m["logit_scale"] if arch.startswith("granite") else out * m.get("logit_scale", 1.0)
        cap = m.get("final_logit_softcapping")
        return np.tanh(out / cap) * cap if cap else out


# ----------------------------------------------------------------------------------------------------------------
# Toy models: sizes that fit nothing by luck
# ----------------------------------------------------------------------------------------------------------------
BASE = dict(vocab_size=101, hidden_size=36, intermediate_size=58, num_hidden_layers=2, num_attention_heads=6,
            max_position_embeddings=37, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GQA = dict(BASE, num_key_value_heads=2)
HEAD = dict(GQA, head_dim=10)
GPT = dict(vocab_size=101, n_embd=36, n_layer=2, n_head=6, n_positions=37)
MOE = dict(moe_intermediate_size=22, num_experts=5, num_experts_per_tok=2)


def rope(kind="default", theta=1e4, **more):
    return {"rope_parameters": dict(rope_type=kind, rope_theta=theta, **more)}


LLAMA3 = rope("llama3", 5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
LINEAR = rope("linear", factor=2.5)
OLD = dict(factor=4.0, original_max_position_embeddings=9)
YARN, YARN_FACTOR = rope("yarn", **OLD), rope("yarn", **OLD, attention_factor=0.8, beta_fast=16.0, beta_slow=2.0)
YARN_OSS = rope("yarn", 1.5e5, **OLD, beta_fast=32.0, beta_slow=1.0, truncate=False)
LONG = rope("longrope", long_factor=[1.5, 2, 3], short_factor=[1, 1.25, 1.75], original_max_position_embeddings=16)
LONG = dict(LONG, max_position_embeddings=64, original_max_position_embeddings=16)
TWO_OF_3 = dict(num_local_experts=3, num_experts_per_tok=2)
WINDOW = dict(sliding_window=7)
PART = rope(partial_rotary_factor=0.7)
GRANITE = dict(attention_multiplier=0.3, embedding_multiplier=2.0, residual_multiplier=0.5, logits_scaling=3.0)
GROWN = rope("yarn", **OLD, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)
FIVE = dict(WINDOW, num_hidden_layers=5)
FALCON = {k: v for k, v in BASE.items() if k != "intermediate_size"}
TOYS = {        # name: (GGUF architecture, config class, sizes, what is particular)
    "gpt2": ("gpt2", tf.GPT2Config, GPT, {}),
    "gpt2-inner": ("gpt2", tf.GPT2Config, GPT, dict(n_inner=50, activation_function="gelu", tie_word_embeddings=False)),
    "llama": ("llama", tf.LlamaConfig, GQA, {}),
    "llama-bias": ("llama", tf.LlamaConfig, HEAD, dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama-llama3": ("llama", tf.LlamaConfig, GQA, LLAMA3),
    "llama-linear": ("llama", tf.LlamaConfig, GQA, LINEAR),
    "llama-yarn": ("llama", tf.LlamaConfig, GQA, YARN),
    "llama-yarn-factor": ("llama", tf.LlamaConfig, GQA, YARN_FACTOR),
    "mistral": ("llama", tf.MistralConfig, HEAD, WINDOW),
    "mixtral": ("llama", tf.MixtralConfig, GQA, TWO_OF_3),
    "gptneox": ("gptneox", tf.GPTNeoXConfig, BASE, PART),
    "gptneox-serial": ("gptneox", tf.GPTNeoXConfig, BASE, dict(PART, use_parallel_residual=False)),
    "gptj": ("gptj", tf.GPTJConfig, GPT, dict(rotary_dim=4)),
    "bloom": ("bloom", tf.BloomConfig, dict(vocab_size=101, hidden_size=36, n_layer=2, n_head=6), {}),
    "falcon": ("falcon", tf.FalconConfig, FALCON, {}),
    "falcon-mha": ("falcon", tf.FalconConfig, FALCON, dict(multi_query=False)),
    "falcon-40b": ("falcon", tf.FalconConfig, FALCON, dict(num_kv_heads=2, new_decoder_architecture=True)),
    "starcoder": ("starcoder", tf.GPTBigCodeConfig, GPT, {}),
    "starcoder-mha": ("starcoder", tf.GPTBigCodeConfig, GPT, dict(multi_query=False)),
    "starcoder2": ("starcoder2", tf.Starcoder2Config, GQA, WINDOW),
    "starcoder2-bare": ("starcoder2", tf.Starcoder2Config, GQA, dict(use_bias=False)),
    "stablelm": ("stablelm", tf.StableLmConfig, GQA, dict(PART, use_qkv_bias=True)),
    "stablelm-12b": ("stablelm", tf.StableLmConfig, GQA, dict(PART, qk_layernorm=True, use_parallel_residual=True)),
    "phi2": ("phi2", tf.PhiConfig, BASE, PART),
    "phi3": ("phi3", tf.Phi3Config, GQA, WINDOW),
    "phi3-longrope": ("phi3", tf.Phi3Config, GQA, LONG),
    "qwen2": ("qwen2", tf.Qwen2Config, GQA, dict(tie_word_embeddings=True)),
    "qwen2moe": ("qwen2moe", tf.Qwen2MoeConfig, GQA, dict(MOE, shared_expert_intermediate_size=26)),
    "qwen2moe-bare": ("qwen2moe", tf.Qwen2MoeConfig, GQA, dict(MOE, shared_expert_intermediate_size=26,
                                                               qkv_bias=False)),
    "qwen3": ("qwen3", tf.Qwen3Config, HEAD, {}),
    "qwen3moe": ("qwen3moe", tf.Qwen3MoeConfig, HEAD, dict(MOE, norm_topk_prob=True)),
    "gemma": ("gemma", tf.GemmaConfig, HEAD, {}),
    "gemma2": ("gemma2", tf.Gemma2Config, HEAD, dict(WINDOW, query_pre_attn_scalar=12)),
    "gemma3": ("gemma3", tf.Gemma3TextConfig, HEAD, dict(WINDOW, num_hidden_layers=7, query_pre_attn_scalar=12)),
    "olmo": ("olmo", tf.OlmoConfig, GQA, dict(clip_qkv=1.5)),
    "olmo2": ("olmo2", tf.Olmo2Config, GQA, {}),
    "olmo3": ("olmo2", tf.Olmo3Config, GQA, FIVE),
    "olmo3-yarn": ("olmo2", tf.Olmo3Config, GQA, dict(FIVE, rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": dict(YARN["rope_parameters"])})),
    "granite": ("granite", tf.GraniteConfig, GQA, GRANITE),
    "granitemoe": ("granitemoe", tf.GraniteMoeConfig, GQA, dict(GRANITE, **TWO_OF_3)),
    "granitemoe-shared": ("granitemoe", tf.GraniteMoeSharedConfig, GQA, dict(GRANITE, **TWO_OF_3,
                                                                            shared_intermediate_size=26)),
    "arcee": ("arcee", tf.ArceeConfig, GQA, YARN),
    "cohere2": ("cohere2", tf.Cohere2Config, GQA, FIVE),
    "ernie4_5": ("ernie4_5", tf.Ernie4_5Config, HEAD, {}),
    "exaone4": ("exaone4", tf.Exaone4Config, GQA, dict(LLAMA3, **FIVE)),
    "exaone4-near": ("exaone4", tf.Exaone4Config, GQA, dict(LLAMA3, sliding_window=None, sliding_window_pattern=None,
                                                            layer_types=["full_attention"] * 2)),
    "exaone4-listed": ("exaone4", tf.Exaone4Config, GQA, dict(WINDOW, layer_types=["full_attention",
                                                                                  "sliding_attention"])),
    "glm4": ("glm4", tf.Glm4Config, HEAD, dict(head_dim=12)),
    "hunyuan": ("hunyuan-dense", tf.HunYuanDenseV1Config, HEAD, rope("dynamic", alpha=50.0, factor=1.0)),
    "jais2": ("jais2", tf.Jais2Config, GQA, {}),
    "jais2-bare": ("jais2", tf.Jais2Config, GQA, dict(attention_bias=False, mlp_bias=False)),
    "mistral3": ("mistral3", tf.Ministral3Config, HEAD, GROWN),
    "nemotron": ("nemotron", tf.NemotronConfig, GQA, PART),
    "nemotron-bias": ("nemotron", tf.NemotronConfig, GQA, dict(PART, attention_bias=True, mlp_bias=True)),
    "olmoe": ("olmoe", tf.OlmoeConfig, GQA, dict(num_experts=5, num_experts_per_tok=2)),
    "seed_oss": ("seed_oss", tf.SeedOssConfig, HEAD, {}),
    "seed_oss-bare": ("seed_oss", tf.SeedOssConfig, HEAD, dict(attention_bias=False)),
    "smollm3": ("smollm3", tf.SmolLM3Config, GQA, dict(num_hidden_layers=5)),
    "command-r": ("command-r", tf.CohereConfig, GQA, {}),
    "command-r-plus": ("command-r", tf.CohereConfig, GQA, dict(use_qk_norm=True)),
    "gpt-oss": ("gpt-oss", tf.GptOssConfig, HEAD, dict(YARN_OSS, **WINDOW, **TWO_OF_3)),
    "gpt-oss-default": ("gpt-oss", tf.GptOssConfig, HEAD, TWO_OF_3),
    # Sizes that divide into blocks of 32, for the tests of types
    "wide": ("llama", tf.LlamaConfig, GQA, dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
                                             intermediate_size=96)),
    "wide-oss": ("gpt-oss", tf.GptOssConfig, HEAD, dict(WINDOW, **TWO_OF_3, hidden_size=64, intermediate_size=32)),
}
# Keys that the gguf package does not list; other readers pass over them.
OWN_KEYS = {"hidden_activation", "rope.scaling.yarn_truncate"}


def toy(name, dtype=torch.float32, folder=None, **save):
    torch.manual_seed(len(name))
    _, kind, sizes, more = TOYS[name]
    model = tf.AutoModelForCausalLM.from_config(kind(**{**sizes, **more}), attn_implementation="eager",
                                                experts_implementation="eager").eval()
    with torch.no_grad():
        for p in model.parameters():    # norms and biases that are not 1 and 0, weights large enough to matter
            p += 0.15 * torch.randn_like(p)
    model = model.to(dtype)
    folder = folder or TMP / name
    model.save_pretrained(folder, **save)
    return model, folder


# Biases that readers want and that these have not
ZEROS = {"starcoder2-bare": "attn_q attn_k attn_v attn_output ffn_up ffn_down", "qwen2moe-bare": "attn_q attn_k attn_v",
         "jais2-bare": "attn_q attn_k attn_v attn_output ffn_up ffn_down", "seed_oss-bare": "attn_q attn_k attn_v"}


def published_keys():
    out, todo = set(), [gguf.Keys]
    while todo:
        for k, v in vars(todo.pop()).items():
            if isinstance(v, type):
                todo.append(v)
            elif isinstance(v, str) and v.startswith("{arch}."):
                out.add(v.removeprefix("{arch}."))
    return out


def test_models():
    ids, keys = np.random.default_rng(5).integers(0, 101, 21), published_keys()
    for name, (arch, *_) in TOYS.items():
        model, folder = toy(name)
        m = convert(folder, "--no-tokenizer")
        ok(m.arch == arch, f"{name}: architecture {m.arch}")
        with torch.no_grad():
            want = model(torch.tensor(ids)[None]).logits[0].double().numpy()
        got = Forward(m).logits(ids)
        worst = np.abs(got - want).max() / np.abs(want).max()
        ok(worst < 1e-5, f"{name}: logits differ by {worst:.2e} of the largest")
        own = {k.removeprefix(arch + ".") for k in m.all if k.startswith(arch + ".")}
        ok(own <= keys | OWN_KEYS, f"{name}: keys {own - keys}")
        code = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch)
        known = {gguf.TENSOR_NAMES[t] for t in gguf.MODEL_TENSORS[code]}
        for t in m.t:
            stem = re.sub(r"^blk\.\d+\.", "blk.{bid}.", t).rsplit(".", 1)[0]
            ok(stem in known, f"{name}: {t}")
        ok(m.all["tokenizer.ggml.model"] == "none" and m["vocab_size"] == 101, f"{name}: tokenizer")
        for bias in ZEROS.get(name, "").split():
            ok(not m.t[f"blk.1.{bias}.bias"].any(), f"{name}: {bias}.bias")


def adapter(model, name, **options):
    """A folder of PEFT with random numbers, and the model with them in place."""
    import peft
    model = peft.get_peft_model(model, peft.LoraConfig(**options))
    torch.manual_seed(3)
    with torch.no_grad():
        for n, p in sorted(model.named_parameters()):
            if "lora_" in n:
                p.copy_(0.3 * torch.randn_like(p))
    folder = TMP / f"{name}-lora"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    return model.eval(), folder


def merged(base, low):
    """What an adapter's file makes of the matrices of its base."""
    ok(low.all["general.type"] == "adapter" and low.all["adapter.type"] == "lora" and low.arch == base.arch, "its keys")
    for name in [n.removesuffix(".lora_a") for n in low.t if n.endswith(".lora_a")]:
        a, b = low.t[name + ".lora_a"], low.t[name + ".lora_b"]
        by = low.all["adapter.lora.alpha"] / b.shape[-1]
        target = base.t["token_embd.weight"] if name == "output.weight" and name not in base.t else base.t[name]
        base.t[name] = target + by * (a @ b.T if name == "token_embd.weight" else b @ a).reshape(target.shape)
    return base


def test_adapters():
    try:
        import peft
    except ImportError:
        print("convert_test: adapters skipped: no peft")
        return
    ids = np.random.default_rng(5).integers(0, 101, 21)
    for name in TOYS:
        model, folder = toy(name)
        stacked = [f"{kind}.{p}" for kind in ("mlp.experts", "block_sparse_moe.experts")
                   for p in ("gate_up_proj", "down_proj") if any(n.endswith(f"{kind}.{p}") for n, _ in model.named_parameters())]
        linear = [n for n, x in model.named_modules() if isinstance(x, (torch.nn.Linear, tf.pytorch_utils.Conv1D))
                  and "lm_head" not in n and "embed_out" not in n]
        options = dict(r=3, lora_alpha=7, target_modules=linear, target_parameters=stacked or None)
        model, low = adapter(model, name, **options)
        base = merged(convert(folder, "--no-tokenizer"), convert(low, "--base", folder))
        model = model.double()
        with torch.no_grad():
            want = model(torch.tensor(ids)[None]).logits[0].double().numpy()
            with model.disable_adapter():
                plain = model(torch.tensor(ids)[None]).logits[0].double().numpy()
        got = Forward(base).logits(ids)
        worst = np.abs(got - want).max() / np.abs(want).max()
        ok(worst < 1e-5, f"{name}: logits with an adapter differ by {worst:.2e} of the largest")
        ok(np.abs(plain - want).max() / np.abs(want).max() > 1e-2, f"{name}: the adapter changes nothing")


def test_adapter_scales():
    """The reader multiplies by alpha / rank."""
    try:
        import peft
    except ImportError:
        return
    for options, factor in ((dict(r=64, lora_alpha=16), 0.25), (dict(r=64, lora_alpha=16, use_rslora=True), 2.0),
                            (dict(r=4, lora_alpha=6, rank_pattern={"q_proj": 2}), 3.0),
                            (dict(r=4, lora_alpha=6, alpha_pattern={"layers.0.self_attn.q_proj": 2}), 0.5),
                            (dict(r=4, lora_alpha=6, use_rslora=True, rank_pattern={"q_proj": 9}), 2.0)):
        model, folder = toy("llama")
        model, low = adapter(model, "scales", target_modules=["v_proj", "q_proj"], **options)
        out = convert(low, "--base", folder)
        layer = model.base_model.model.model.layers[0].self_attn
        ok(layer.q_proj.scaling["default"] == factor, f"{options}: {layer.q_proj.scaling}")
        for name, x, swap in (("attn_q", layer.q_proj, True), ("attn_v", layer.v_proj, False)):
            a, b = out.t[f"blk.0.{name}.weight.lora_a"], out.t[f"blk.0.{name}.weight.lora_b"]
            want = x.get_delta_weight("default").detach().numpy()
            want = cw._swap(want, model.config.num_attention_heads) if swap else want
            got = out.all["adapter.lora.alpha"] / len(a) * (b @ a)
            ok(np.allclose(got, want, rtol=1e-5, atol=1e-6), f"{options}: {name}")
    for kind, size in (("f32", 4), ("f16", 2), ("bf16", 2)):
        out = convert(low, "--base", folder, type=kind)
        ok({t for n, t in out.types.items()} == {kind.upper()}, f"{kind}: {out.types}")
    model, low = adapter(toy("llama")[0], "scales", target_modules=["q_proj"])
    status, err = run(low, "-o", TMP / "out.gguf", "--base", folder)
    ok(status == 0 and set(Model(TMP / "out.gguf").types.values()) == {"F32"}, f"the default type: {err}")


def test_adapter_refusals():
    try:
        import peft
    except ImportError:
        return
    model, base = toy("llama")
    _, low = adapter(model, "refused", r=2, target_modules=["q_proj", "down_proj"])
    conf = json.loads((low / "adapter_config.json").read_text())
    from safetensors.torch import load_file, save_file as save
    weights = load_file(low / "adapter_model.safetensors")

    def case(message, change=None, tensors=None, *args):
        (low / "adapter_config.json").write_text(json.dumps({**conf, **(change or {})}))
        save({**weights, **(tensors or {})}, low / "adapter_model.safetensors")
        refused(low, message, *(args or ("--base", base)), type="f32")
    q = next(n for n in weights if "layers.0.self_attn.q_proj.lora_A" in n)
    case("no config.json of the base model there; give --base FOLDER", {"base_model_name_or_path": "some/hub-name"}, None,
         "--no-tokenizer")
    case("peft_type = 'LOHA'", {"peft_type": "LOHA"})
    case("use_dora = True", {"use_dora": True})
    case("bias = 'all'", {"bias": "all"})
    case("lora_alpha = 0", {"lora_alpha": 0})
    case("such as those of modules_to_save: base_model.model.lm_head.weight", {"modules_to_save": ["lm_head"]},
         {"base_model.model.lm_head.weight": torch.zeros(101, 4)})
    case("q_proj: expected lora_A [r, in] and lora_B [out, r], found A [3, ", None, {q: torch.zeros(3, 48)})
    case("blk.0.attn_q.weight: expected lora_a [2, ", None, {q: torch.zeros(2, 5)})
    case("found A [2, 8]", None, {"base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight": torch.zeros(2, 8)})
    x = {f"base_model.model.model.layers.0.self_attn.x_proj.lora_{k}.weight": torch.zeros(2, 2) for k in "AB"}
    case("1 modules have no matrix in a llama file that an adapter can change: model.layers.0.self_attn.x_proj", None, x)
    x = {n.replace("layers.0.", "layers.7."): t.clone() for n, t in weights.items() if "layers.0.self_attn.q" in n}
    case("model.layers.7.self_attn.q_proj", None, x)
    for key in ("lora_alpha", "alpha_pattern", "base_model_name_or_path", "peft_type", "use_rslora"):
        save(weights, low / "adapter_model.safetensors")
        for value in BROKEN:
            (low / "adapter_config.json").write_text(json.dumps({**conf, key: value}))
            converts_or_says_why(low, f"{key} = {value!r}", "--base", base)
    (low / "adapter_config.json").write_text(json.dumps(conf))
    (low / "adapter_model.safetensors").unlink()
    refused(low, "neither adapter_model.safetensors nor adapter_model.bin", "--base", base)
    torch.save(weights, low / "adapter_model.bin")
    ok(len(convert(low, "--base", base).t) == 2 * len(weights) / 2, "adapter_model.bin")


def test_adapter_experts():
    """Experts that are modules of their own, as transformers had them before"""
    from safetensors.torch import save_file
    _, base = toy("mixtral")
    config = json.loads((base / "config.json").read_text())
    d, f, e = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    low = TMP / "experts-lora"
    low.mkdir(exist_ok=True)
    torch.manual_seed(4)
    x = {f"base_model.model.model.layers.1.block_sparse_moe.experts.{i}.{w}.lora_{k}.weight":
         torch.randn((2, n_in) if k == "A" else (n_out, 2)) for i in range(e)
         for w, n_in, n_out in (("w1", d, f), ("w2", f, d), ("w3", d, f)) for k in "AB"}
    (low / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2, "r": 2}))
    save_file(x, low / "adapter_model.safetensors")
    m = convert(low, "--base", base)
    ok(len(m.t) == 6, f"tensors {list(m.t)}")
    for w, name in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
        for k in "AB":
            want = np.stack([x[f"base_model.model.model.layers.1.block_sparse_moe.experts.{i}.{w}.lora_{k}.weight"].numpy()
                             for i in range(e)])
            ok(np.array_equal(m.t[f"blk.1.ffn_{name}_exps.weight.lora_{k.lower()}"], want), f"{w} {k}")
    save_file({n: t for n, t in x.items() if ".experts.1." not in n}, low / "adapter_model.safetensors")
    refused(low, f"expected adapters of one rank for all {e} experts, found {e - 1}", "--base", base)


def test_merged_names():
    """A merged model that was saved from within PEFT"""
    model, folder = toy("llama")
    want = convert(folder, "--no-tokenizer")
    state = {("base_model.model." + n).replace("q_proj.", "q_proj.base_layer."): t.clone() for n, t in
             model.state_dict().items()}
    other = fresh("peft-names", folder)
    from safetensors.torch import save_file as save
    save(state, other / "model.safetensors")
    same_tensors(convert(other, "--no-tokenizer"), want, "PEFT's names")
    save({**state, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 2)},
         other / "model.safetensors")
    refused(other, "q_proj.lora_A.weight", "--no-tokenizer")


def test_defaults():
    """A key that config.json lacks means what it means to transformers' configuration."""
    def written(config):
        row = cw.find_row(config, "")
        c = cw.canonical(config, row)
        d = cw.dimensions(c, row)
        cw.check_fixed(c, row, d)
        keys, extra = {"tied": c["tie_word_embeddings"]}, {}
        cw.add_config(keys.__setitem__, extra, c, row, d)
        return {**keys, **{k: v.tolist() for k, v in extra.items()}}
    for kind in cw.MODEL_TYPES.split():
        if kind not in tf.CONFIG_MAPPING:       # with code of its own
            continue
        full = tf.CONFIG_MAPPING[kind]().to_dict()
        full = cw.text_half({**full, "model_type": kind}, "")
        full.update({"qwen3_moe": {"norm_topk_prob": True}, "afmoe": {"mup_enabled": True},
                     "glm4_moe": {"head_dim": 128}, "nemotron_h": {"layers_block_type": [
                         "linear_attention", "mlp", "full_attention", "mlp"]}}.get(kind, {}))
        want, old = written(full), {k: v for k, v in full.items() if k != "rope_parameters"}
        if "rope_theta" in (full.get("rope_parameters") or {}) and kind != "gpt_oss":
            old["rope_theta"] = full["rope_parameters"]["rope_theta"]
        for config in (full, old):
            for key in config:
                try:
                    got = written({k: v for k, v in config.items() if k != key or key == "model_type"})
                    ok(got == want, f"{kind} without {key}")
                except cw.Refused as e:
                    ok(re.search(r"expected a positive integer, found None|norm_topk_prob|mup_enabled|no head_dim|a kind for each layer", str(e)), f"{kind}: {e}")


def test_meta_names():
    """Meta's own names come with its own layout: rope turns neighbours, not halves."""
    from safetensors.numpy import save_file
    _, folder = toy("llama")
    want, meta, tensors = convert(folder, "--no-tokenizer"), fresh("meta", folder), {}
    names = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
             "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
             "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm", "embed_tokens": "tok_embeddings", "lm_head": "output"}
    for n, x in load_numpy(folder).items():
        for theirs, metas in names.items():
            n = n.replace(theirs, metas)
        n = n.removeprefix("model.")
        heads = {"wq": 6, "wk": 2}.get(n.split(".")[-2])
        if heads:
            x = x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        tensors[n] = np.ascontiguousarray(x)
    save_file({**tensors, "rope.freqs": np.ones(3, np.float32)}, meta / "consolidated.safetensors")
    same_tensors(want, convert(meta, "--no-tokenizer"), "Meta's names")


def old_config(c):
    """config.json as transformers wrote it before version 5."""
    c = dict(c)
    p = dict(c.pop("rope_parameters"))
    if "full_attention" in p:
        c.update(rope_local_base_freq=p["sliding_attention"]["rope_theta"], sliding_window_pattern=6)
        del c["layer_types"]
        p = dict(p["full_attention"])
    c["rope_theta"] = p.pop("rope_theta")
    if "partial_rotary_factor" in p:
        c["rotary_pct" if c["model_type"] == "gpt_neox" else "partial_rotary_factor"] = p.pop("partial_rotary_factor")
    kind = {"longrope": "su"}.get(p["rope_type"], p["rope_type"])
    del p["rope_type"]
    c["rope_scaling"] = None if kind == "default" else {**p, "type": kind}
    return c


def test_old_configs():
    for name in ("llama", "llama-llama3", "llama-yarn", "gemma3", "gptneox", "phi2", "stablelm", "phi3-longrope",
                 "gpt-oss"):
        _, folder = toy(name)
        want, path = convert(folder, "--no-tokenizer"), folder / "config.json"
        path.write_text(json.dumps(old_config(json.loads(path.read_text()))))
        got = convert(folder, "--no-tokenizer")
        ok(got.all == want.all, f"{name}: {[k for k in want.all if got.all.get(k) != want.all[k]]}")
        same_tensors(want, got, name)


def test_vision():
    """gemma3 with images: its language half."""
    from safetensors.numpy import save_file
    _, text = toy("gemma3")
    want = convert(text, "--no-tokenizer")
    folder, tensors = fresh("vision", text), load_numpy(text)
    config = json.loads((text / "config.json").read_text())
    config = {"model_type": "gemma3", "text_config": config, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"language_model." + k: v for k, v in tensors.items()}
    tensors["vision_tower.vision_model.x.weight"] = tensors["multi_modal_projector.y"] = np.ones((2, 2), np.float32)
    save_file(tensors, folder / "model.safetensors")
    got = convert(folder, "--no-tokenizer")
    same_tensors(want, got, "the text half")
    for m in (want, got):
        del m.all["general.name"]
    ok(want.all == got.all, "the text half's keys")


# ----------------------------------------------------------------------------------------------------------------
# llama.cpp's converter, as published files are made
# ----------------------------------------------------------------------------------------------------------------
def golden_folder(name):
    """The toy of make_goldens.py that tests/golden/model/NAME.gguf was made of, and that file. The weights' seed is the
    one whose embedding is the file's."""
    import make_goldens
    from safetensors.torch import load_file
    golden = Model(ROOT / "tests" / "golden" / "model" / f"{name}.gguf")
    folder = TMP / name
    for seed in range(1, 40):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        make_goldens.build(make_goldens.TOYS[name], seed * 1000 + len(name), str(folder))
        embed = next(t for n, t in load_file(folder / "model.safetensors").items()
                     if n.endswith(("embed_tokens.weight", "wte.weight", "embeddings.weight", "tok_embeddings.weight", "shared.weight")))
        factor = make_goldens.TOYS[name].get("embedding_multiplier", 1.0) if golden.arch == "falcon-h1" else 1.0
        if np.array_equal(embed.double().numpy() * factor, golden.t["token_embd.weight"]):
            return folder, golden
    raise AssertionError(f"{name}: no seed gives the golden's weights")


def absent(m, key):
    """What readers take for a key that a file lacks, where the two converters differ in what they write."""
    head = m.get("attention.key_length", m["embedding_length"] // max(1, m["attention.head_count"]))
    return {"attention.key_length": head, "attention.value_length": head, "attention.sliding_window": 0, "leading_dense_block_count": 0,
            "hidden_activation": "gelu_pytorch_tanh" if m.arch.startswith("gemma") else "silu", "rope.dimension_count": head, "rope.freq_base": 10000.0,
            "rope.scaling.type": "longrope" if "rope_factors_long.weight" in m.t else "none",
            "rope.scaling.factor": 1.0, "rope.scaling.original_context_length": m["context_length"],
            "rope.scaling.yarn_truncate": m.arch != "gpt-oss",
            "rope.scaling.yarn_attn_factor": np.float32(1 + 0.1 * math.log(m.get("rope.scaling.factor", 1.0))),
            "tensor_data_layout": "Meta AI original pth",       # of baichuan, read by nobody
            "attention.layer_norm_rms_epsilon": m.get("attention.layer_norm_epsilon"),      # nemotron's has both
            "expert_gating_func": 2 if any("exp_probs_b" in n for n in m.t) else 1, "expert_weights_norm": False,
            **(absent_of_t5(m) if m.arch == "t5" else {})}.get(key)


def absent_of_t5(m):
    gated, width = "enc.blk.0.ffn_gate.weight" in m.t, m["embedding_length"]
    return {"hidden_activation": "gelu_pytorch_tanh" if gated else None, "attention.head_count_kv": m["attention.head_count"],
            "attention.layer_norm_epsilon": m["attention.layer_norm_rms_epsilon"],
            "logit_scale": 1.0 if gated and "output.weight" in m.t else float(np.float32(width ** -0.5))}


def same_meaning(ours, theirs, what):
    """Two files have the same tensors, to the byte, and keys that mean the same."""
    ok(ours.arch == theirs.arch, f"{what}: architecture {ours.arch}, expected {theirs.arch}")
    ok(ours.types == theirs.types, f"{what}: {set(ours.types.items()) ^ set(theirs.types.items())}")
    for n, x in theirs.t.items():
        same = np.array_equal(ours.t[n], x)
        # of exp, torch gives one of the two nearest numbers; llama.cpp computes Llama 3's frequencies in float32
        if n.endswith((".ssm_a", "rope_freqs.weight")) and ours.t[n].shape == x.shape:
            same = (np.abs(ours.t[n] - x) <= np.spacing(np.abs(x).astype(np.float32))).all()
        if what.startswith("sarvam") and n.endswith("exp_probs_b.bias"):    # less their mean, of which the same holds
            same = np.abs(ours.t[n] - x).max() <= np.spacing(np.abs(x).max().astype(np.float32))
        ok(same, f"{what}: {n}: values or shape {ours.t[n].shape}, expected {x.shape}")
    for full in sorted(ours.all.keys() | theirs.all.keys()):
        key = full.removeprefix(ours.arch + ".")
        if key == "full_attention_interval" and ours.get("attention.recurrent_layers"):
            continue    # which says it of every layer
        if key != full:
            a, b = (m.all.get(full, absent(m, key)) for m in (ours, theirs))
            ok(a == b, f"{what}: {key} = {a}, expected {b}")


def without_ahead(m):
    """A file without its layers that guess a token ahead, as llama.cpp's converter writes it with --no-mtp."""
    layers = m["block_count"] - m.all.pop(f"{m.arch}.nextn_predict_layers", 0)
    m.all[f"{m.arch}.block_count"] = layers
    recurrent = f"{m.arch}.attention.recurrent_layers"
    if recurrent in m.all:
        m.all[recurrent] = m.all[recurrent][:layers]
    for n in [n for n in m.t if n.startswith("blk.") and int(n.split(".")[1]) >= layers]:
        del m.t[n], m.types[n]
    return m


def golden_names():
    import make_goldens
    known = cw.MODEL_TYPES.split()
    return [n for n, c in make_goldens.TOYS.items()
            if c.get("_llama_cpp") and "_quant" not in c and c.get("_as", c)["model_type"] in known]


def test_llama_cpp():
    """What llama.cpp's converter makes of a folder, from the goldens; with LLAMA_CPP, its sources, from itself, too."""
    import make_goldens
    names = golden_names()
    ok(len(names) > 15, f"goldens: {names}")
    for name in names:
        folder, golden = golden_folder(name)
        ours, config = convert(folder, "--no-tokenizer"), json.loads((folder / "config.json").read_text())
        same_meaning(ours, without_ahead(golden), name)
        if config.pop("mtp_num_hidden_layers", None):       # without it make_goldens.py calls for --no-mtp
            (folder / "config.json").write_text(json.dumps(config))
        if os.environ.get("LLAMA_CPP"):
            make_goldens.convert(str(folder), str(TMP / "theirs.gguf"), llama_cpp=True)
            same_meaning(ours, without_ahead(Model(TMP / "theirs.gguf")), f"{name} by llama.cpp")


def relatives():
    """Toys of models that are another one's under a name of their own, or nearly so"""
    import make_goldens as mg
    routed = {k: v for k, v in dict(mg.ROUTED, num_experts_per_tok=2).items() if k != "first_k_dense_replace"}
    t5 = dict(mg.T5, model_type="mt5", architectures=["MT5ForConditionalGeneration"])
    return {
        "mt5": t5,
        "umt5": dict(t5, model_type="umt5", architectures=["UMT5ForConditionalGeneration"]),
        "internlm3": mg.small("internlm3", "InternLM3ForCausalLM", qkv_bias=True, bias=True,
                              rope_scaling={"type": "dynamic", "factor": 6.0}),
        "iquestcoder": mg.small("iquestcoder", "IQuestCoderForCausalLM"),
        "gemma4_unified": {k: v for k, v in dict(
            mg.TOYS["gemma4_tied_cpp"], model_type="gemma4_unified_text", moe_intermediate_size=None, num_experts=None).items()
                           if k not in ("hidden_size_per_layer_input", "enable_moe_block")},
        "solar_open": mg.small("solar_open", "SolarOpenForCausalLM", partial_rotary_factor=1.0, **routed),
        "sarvam_moe": mg.small("sarvam_moe", "SarvamMoEForCausalLM", num_hidden_layers=3, use_qk_norm=True, num_experts=6,
                               num_shared_experts=1, **{k: v for k, v in dict(mg.ROUTED, num_experts_per_tok=2).items()
                                                        if k not in ("n_routed_experts", "n_shared_experts")})}


def same_scores(model, ids, what):
    """The file just written, run by gpt.h, against transformers: the logarithm of each token's probability."""
    import make_goldens
    if not PROBE.exists():
        return
    r = subprocess.run([PROBE, TMP / "out.gguf"], input=f"s {' '.join(map(str, ids))}\n", capture_output=True, text=True)
    ok(r.returncode == 0, f"{what}: {r.stderr}")
    got, z = np.array(r.stdout.split(), float), torch.log_softmax(make_goldens.run(model.double(), ids), -1).numpy()
    first = ids.index(model.config.decoder_start_token_id) + 1 if model.config.is_encoder_decoder else 1
    want = np.array([z[i - 1, ids[i]] for i in range(first, len(ids))])
    ok(np.abs(got[first:] - want).max() < 1e-4, f"{what}: {np.abs(got[first:] - want).max()} from transformers")
    ok(want.std() > 0.5, f"{what}: tells little")


def test_relatives():
    import make_goldens
    for name, conf in relatives().items():
        folder = TMP / name
        folder.mkdir()
        model, _ = make_goldens.build(conf, 7000 + len(name), str(folder))
        ours, ids = convert(folder, "--no-tokenizer"), np.random.default_rng(6).integers(3, 67, 40).tolist()
        if "_n_encoder" in conf:
            ids[24] = conf["decoder_start_token_id"]
        same_scores(model, ids, name)
        if os.environ.get("LLAMA_CPP"):
            (folder / "tokenizer.json").write_text(json.dumps({     # whose tokens it counts for Gemma 4
                "model": {"vocab": {str(i): i for i in range(conf["vocab_size"])}}, "added_tokens": []}))
            path = folder / "config.json"       # published inside a model that sees
            path.write_text(path.read_text().replace("UnifiedForCausalLM", "UnifiedForConditionalGeneration"))
            make_goldens.convert(str(folder), str(TMP / "theirs.gguf"), llama_cpp=True)
            same_meaning(ours, Model(TMP / "theirs.gguf"), f"{name} by llama.cpp")


def test_language_halves():
    """mistral3 around a ministral3 or a mistral, by the published names and by those of transformers"""
    from safetensors.numpy import save_file
    text, golden = golden_folder("mistral3_cpp")
    config, tensors = json.loads((text / "config.json").read_text()), load_numpy(text)
    seeing = {"vision_tower.ln_pre.weight": np.ones(2, np.float32), "multi_modal_projector.x": np.ones(2, np.float32)}

    def nested(inner, names, whole=None):
        folder = fresh("nested", text)
        whole = {"model_type": "mistral3", "text_config": {**config, **inner}, "vision_config": {}, **(whole or {})}
        (folder / "config.json").write_text(json.dumps(whole))
        save_file({**{names(n): x for n, x in tensors.items()}, **seeing}, folder / "model.safetensors")
        return folder

    def published(name):
        return "language_model." + name
    for names in (published, lambda n: n.replace("model.", "model.language_model.")):
        same_meaning(convert(nested({}, names), "--no-tokenizer"), golden, "ministral3 in mistral3")
    plain = {"model_type": None, "rope_parameters": None, "rope_theta": 10000.0, "sliding_window": None}
    m = convert(nested(plain, published), "--no-tokenizer")
    ok(m.arch == "llama" and m["rope.freq_base"] == 10000, "mistral in mistral3")
    same_tensors(m, golden, "mistral in mistral3")
    m = convert(nested({}, published, {"tie_word_embeddings": True}), "--no-tokenizer")
    ok("output.weight" not in m.t, "the whole says whether the head is tied")
    refused(nested({"model_type": "mamba"}, published), "unknown model_type 'mamba' of the text_config of 'mistral3'; "
            "--help lists the known ones", "--no-tokenizer")
    rope = config["rope_parameters"]
    for change, message in (({"rope_type": "linear"}, "'linear' is not known for this architecture (expected yarn)"),
                            ({"llama_4_scaling_beta": None}, "rope_parameters without llama_4_scaling_beta")):
        refused(nested({"rope_parameters": {**rope, **change}}, published), message, "--no-tokenizer")
    m = convert(nested({"rope_parameters": {**rope, "mscale": 0.5}}, published), "--no-tokenizer")
    stretch = m["rope.scaling.attn_factor"]     # of 1 + 0.1 m ln(factor) readers take m = 1
    ok(abs(stretch - (1 + 0.05 * math.log(8)) / (1 + 0.1 * math.log(8))) < 1e-6, f"mscale: {stretch}")


def saved_names(model):
    """As transformers writes them"""
    from transformers.core_model_loading import revert_weight_conversion
    return revert_weight_conversion(model, dict(model.state_dict()))


def test_names_of_halves():
    """Of models that also see or hear as transformers has them, every name: what is not the text's is left out."""
    # those revert a renaming that is the vision part's in the text's
    wrongly_saved, checked = ("kimi_k25", "qianfan_ocr"), 0
    for kind in [k for k in cw.TEXT_TYPES if k in tf.CONFIG_MAPPING and k != "nemotron_h_omni"]:     # of four kinds of layers
        config, model = tf.CONFIG_MAPPING[kind](), None
        for auto in (tf.AutoModelForImageTextToText, tf.AutoModelForSpeechSeq2Seq, tf.AutoModelForMultimodalLM, tf.AutoModel):
            with contextlib.suppress(ImportError, ValueError), torch.device("meta"):    # no timm, a default that is no model
                model = model or (auto.from_config(config) if type(config) in auto._model_mapping else None)
        if model is None:
            continue
        checked += 1
        whole = cw.text_half({**config.to_dict(), "model_type": kind}, "")
        row = cw.find_row(whole, "")
        c = cw.canonical(whole, row)
        d = cw.dimensions(c, row)
        want, tmap = cw.wanted(row, cw.layer_kinds(c, row, d), c), gguf.get_tensor_name_map(row.arch, d["L"])
        for names in (model.state_dict(), {} if kind in wrongly_saved else saved_names(model)):
            found = set()
            for n in names:
                if n.endswith("lm_head.weight") or cw.NOT_WEIGHTS.search(n) or cw.SEEING_AROUND.match(n):
                    continue
                targets, _ = cw.gguf_names(row, tmap, n)
                ok(targets and all(t in want for t, _ in targets), f"{kind}: {n}")
                found |= {t for t, _ in targets}
            missing = [n for n, absent in want.items() if n not in found and absent == cw.REFUSE]
            ok(not names or not missing, f"{kind}: {missing[:4]}")
    ok(checked > 25, f"{checked} models")


def test_halves():
    """A text of each family inside another model, by the names that such are published under"""
    import make_goldens
    from safetensors.numpy import save_file

    def inside(name):
        return lambda n: name + n

    def before(n):
        return n.replace("model.", "model.language_model.", 1)
    eye = {"vision_tower.x.weight": np.ones((2, 2), np.float32), "mlp1.0.weight": np.ones(2, np.float32)}
    for text, whole, key, names in (
            ("internlm2_cpp", "internvl_chat", "llm_config", inside("language_model.")),
            ("cohere2_cpp", "cohere2_vision", "text_config", before),
            ("deepseek2_v3_cpp", "kimi_k25", "text_config", inside("language_model.")),
            ("deepseek2_v3_cpp", "kimi_vl", "text_config", inside("language_model.")),
            ("exaone4_cpp", "exaone4_5", "text_config", before),
            ("granitemoe_cpp", "granite_speech", "text_config", inside("language_model.")),
            ("lfm2_cpp", "lfm2_vl", "text_config", before),
            ("smollm3", "smolvlm", "text_config", lambda n: n.replace("model.", "model.text_model.", 1)),
            ("iquestcoder", "sarashina2_vision", "text_config", inside("llm.")),
            ("internlm3", "multi_modality", "language_config", inside("language_model.")),
            ("nemotron_h_cpp", "NemotronH_Nano_VL_V2", "llm_config", inside("language_model.")),
            ("qwen35_cpp", "minicpmv4_6", "text_config", before)):
        if text in relatives():
            good, golden = TMP / text, None
            shutil.rmtree(good, ignore_errors=True)
            good.mkdir()
            make_goldens.build(relatives()[text], 7, str(good))
        elif text in TOYS:
            good, golden = toy(text)[1], None
        else:
            good, golden = golden_folder(text)
        golden = without_ahead(golden) if golden else convert(good, "--no-tokenizer")
        config = json.loads((good / "config.json").read_text())
        folder, kinds = fresh("nested", good), {"kimi_k25": "kimi_k2", "exaone4_5": "exaone4_5_text"}
        config["model_type"] = kinds.get(whole, config["model_type"])
        save_file({**{names(n): x for n, x in load_numpy(good).items()}, **eye}, folder / "model.safetensors")
        named = {"sarashina2_vision": "Sarashina2VisionForCausalLM", "exaone4_5": "Exaone4_5_ForConditionalGeneration"}
        (folder / "config.json").write_text(json.dumps({"model_type": whole, key: config,
                                                        "architectures": [named.get(whole, "Whole")]}))
        ours = convert(folder, "--no-tokenizer")
        golden.all["general.name"] = ours.all["general.name"]
        same_meaning(ours, golden, f"{text} in {whole}")
        if os.environ.get("LLAMA_CPP"):
            make_goldens.convert(str(folder), str(TMP / "theirs.gguf"), llama_cpp=True)
            same_meaning(ours, without_ahead(Model(TMP / "theirs.gguf")), f"{text} in {whole} by llama.cpp")


def test_own_code():
    """Models with code of their own, and those whose config.json says things in several ways"""
    from safetensors.numpy import save_file

    def change(name, conf=None, tensors=None):
        good, golden = golden_folder(name)
        folder = fresh("own", good)
        (folder / "config.json").write_text(json.dumps({**json.loads((good / "config.json").read_text()), **(conf or {})}))
        save_file({**load_numpy(good), **(tensors or {})}, folder / "model.safetensors")
        return folder, golden
    # a model that sees around Llama 4, by the published names
    text, golden = golden_folder("llama4_cpp")
    folder, config = fresh("nested", text), json.loads((text / "config.json").read_text())
    for inner in ("llama4_text", "llama4"):
        (folder / "config.json").write_text(json.dumps({
            "model_type": "llama4", "text_config": {**config, "model_type": inner}, "vision_config": {"hidden_size": 8}}))
        save_file({**{"language_model." + n: x for n, x in load_numpy(text).items()}, "vision_model.x": np.ones(2, np.float32),
                   "multi_modal_projector.linear_1.weight": np.ones(2, np.float32)}, folder / "model.safetensors")
        same_meaning(convert(folder, "--no-tokenizer"), golden, "llama4 in llama4")
    # numbers of a layer: of one element or none's shape; missing ones
    name = "model.layers.1.mlp.act_fn."
    folder, golden = change("apertus_cpp")
    tensors = load_numpy(folder)
    save_file({**tensors, name + "beta": tensors[name + "beta"].reshape(1), name + "alpha_p": tensors[name + "alpha_p"].reshape(())},
              folder / "model.safetensors")
    same_meaning(convert(folder, "--no-tokenizer"), golden, "shapes of numbers")
    save_file({**tensors, name + "beta": np.ones(2, np.float32)}, folder / "model.safetensors")
    refused(folder, "layers.1.mlp.act_fn.beta: expected one number, found [2]", "--no-tokenizer")
    save_file({n: x for n, x in tensors.items() if n != name + "eps"}, folder / "model.safetensors")
    refused(folder, "layers.1.mlp.act_fn.eps: expected one number, found no tensor", "--no-tokenizer")
    # infinity as transformers 5 writes it
    folder, golden = change("mamba2_cpp", {"time_step_limit": [0.0, {"__float__": "Infinity"}]})
    same_meaning(convert(folder, "--no-tokenizer"), golden, "infinity")
    # a rope that begins to change behind the context
    folder, golden = change("internlm2_cpp", {"rope_scaling": {"type": "dynamic", "factor": 2.0}})
    same_meaning(convert(folder, "--no-tokenizer"), golden, "dynamic")
    w = "model.layers.0.attention.wqkv.weight"
    folder, _ = change("internlm2_cpp", None, {w: load_numpy(golden_folder("internlm2_cpp")[0])[w][:-1]})
    refused(folder, "blk.0.attn_q.weight: expected [24, 24] from config.json, found [39, 24]", "--no-tokenizer")
    # Baichuan 2 takes the head's rows at length 1
    rng = np.random.default_rng(5)
    more = {n: rng.standard_normal((125696, 8)).astype(np.float32) for n in ("model.embed_tokens.weight", "lm_head.weight")}
    m = convert(change("baichuan_cpp", {"vocab_size": 125696}, more)[0], "--no-tokenizer")
    head = more["lm_head.weight"].astype(np.float64)
    want = head / np.linalg.norm(head, axis=1, keepdims=True)
    ok(np.abs(m.t["output.weight"] - want).max() < 1e-6, "rows of Baichuan 2's head")
    ok(np.array_equal(m.t["token_embd.weight"], more["model.embed_tokens.weight"]), "Baichuan 2's embedding")
    # without a list no layer has a window
    folder, _ = change("mellum_cpp")
    config = json.loads((folder / "config.json").read_text())
    del config["layer_types"]
    (folder / "config.json").write_text(json.dumps(config))
    m = convert(folder, "--no-tokenizer")
    ok(m["attention.sliding_window_pattern"] == [False] * 5 and m.arch == "mellum", "mellum without a list")


def test_gemma_halves():
    """gemma3n and gemma4 that also see and hear, as published and as transformers names things; what has no place"""
    import make_goldens
    from safetensors.numpy import save_file
    deaf = {"model.vision_tower.x": np.ones(2, np.float32), "model.embed_audio.y.weight": np.ones((2, 2), np.float32)}
    for name in ("gemma3n_cpp", "gemma4_cpp", "gemma4_tied_cpp", "gemma4_moe_cpp"):
        text, golden = golden_folder(name)
        config, tensors = make_goldens.public(make_goldens.TOYS[name]), load_numpy(text)
        kind = config["model_type"].removesuffix("_text")

        def nested(change, drop="nothing"):
            folder = fresh("nested", text)
            whole = {"model_type": kind, "text_config": {**config, **change}, "vision_config": {}, "audio_config": {}}
            (folder / "config.json").write_text(json.dumps(whole))
            save_file({**{n.replace("model.", "model.language_model.", 1): x for n, x in tensors.items()
                          if drop not in n}, **deaf}, folder / "model.safetensors")
            return folder
        same_meaning(convert(nested({}), "--no-tokenizer"), golden, f"{name} in {kind}")
        refused(nested({"num_kv_shared_layers": "two"}), "num_kv_shared_layers: expected a positive integer",
                "--no-tokenizer")
        refused(nested({"attention_bias": True}), "attention_bias = True changes the computation", "--no-tokenizer")
        refused(nested({}, "layers.0.self_attn.k_proj"), "blk.0.attn_k.weight", "--no-tokenizer")
        if name == "gemma4_cpp":
            refused(nested({}, "embed_tokens_per_layer"), "per_layer_token_embd.weight", "--no-tokenizer")
            refused(nested({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}}), "'proportional'",
                    "--no-tokenizer")
            refused(nested({"use_bidirectional_attention": "all"}), "use_bidirectional_attention", "--no-tokenizer")
        if kind == "gemma3n":
            for change, message in (({"altup_num_inputs": 3}, "altup_num_inputs"), ({"altup_active_idx": 1}, "(expected 0)"),
                                    ({"activation_sparsity_pattern": [0.95]}, "expected 5 numbers"),
                                    ({"activation_sparsity_pattern": [1.0] * 5}, "below 1"),
                                    ({"intermediate_size": [14, 14]}, "intermediate_size")):
                refused(nested(change), message, "--no-tokenizer")
            m = convert(nested({"vocab_size": 70, "intermediate_size": [14] * 5}), "--no-tokenizer")
            for table in ("token_embd.weight", "per_layer_token_embd.weight"):     # no rows for what is seen and heard
                ok(len(m.t[table]) == 70 and not m.t[table][67:].any() and np.array_equal(m.t[table][:67], golden.t[table]),
                   f"{table}: padded")


def test_kinds():
    """Layers of several kinds, which folders say in several ways, and what they have besides"""
    from safetensors.numpy import save_file

    def variant(name, change, names=lambda n: n, drop=(), more=None, nest=None):
        """The toy's folder with another config.json and other tensors, and its golden."""
        good, golden = golden_folder(name)
        folder, config = fresh("kinds", good), json.loads((good / "config.json").read_text())
        config = {k: v for k, v in {**config, **change}.items() if k not in drop}
        config = {"model_type": nest, "text_config": config, "vision_config": {"depth": 1}} if nest else config
        (folder / "config.json").write_text(json.dumps(config))
        tensors = {names(n): x for n, x in load_numpy(good).items()}
        extra = more(tensors) if more else {}
        save_file({**tensors, **extra}, folder / "model.safetensors")
        return folder, without_ahead(golden)

    def same(what, *args, **options):
        folder, golden = variant(*args, **options)
        same_meaning(convert(folder, "--no-tokenizer"), golden, what)

    def inside(n):
        return n if n.startswith(("lm_head.", "mtp.")) else n.replace("model.", "model.language_model.", 1)

    def eye(_):
        return {"model.visual.blocks.0.attn.qkv.weight": np.ones((2, 2), np.float32)}
    for kind in ("qwen3_5_text", None):     # the whole says what the text is
        same("qwen3_5", "qwen35_cpp", {"model_type": kind}, names=inside, more=eye, nest="qwen3_5")
    folder, _ = variant("qwen35_cpp", {}, names=inside, more=eye, nest="qwen3_5")
    _, err = run(folder, "-o", TMP / "out.gguf", "--no-tokenizer")
    ok("note: 1 tensors of the parts that see or hear are left out" in err, err)
    ok("note: 15 tensors of multi-token prediction (mtp), which no answer depends on, are left out" in err, err)
    same("an interval of the default", "qwen35_cpp", {}, drop=["layer_types", "full_attention_interval"])
    same("an interval", "qwen35moe_cpp", {}, drop=["layer_types"])
    same("a list", "qwen35moe_cpp", {"layer_types": ["linear_attention", "full_attention", "linear_attention"]},
         drop=["full_attention_interval"])
    folder, golden = variant("qwen35_cpp", {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5}})
    ok(convert(folder, "--no-tokenizer")["rope.dimension_sections"] == [11, 11, 10, 0], "sections that readers want")

    def stack(tensors):     # qwen3_5_moe as it is published
        out, p = {}, "model.language_model.layers."
        for i in range(3):
            one = {k: [tensors.pop(f"{p}{i}.mlp.experts.{e}.{k}_proj.weight") for e in range(4)]
                   for k in ("gate", "up", "down")}
            out[f"{p}{i}.mlp.experts.gate_up_proj"] = np.stack([np.concatenate(x) for x in zip(one["gate"], one["up"])])
            out[f"{p}{i}.mlp.experts.down_proj"] = np.stack(one["down"])
        return out
    same("stacked experts", "qwen35moe_cpp", {}, names=inside, more=stack, nest="qwen3_5_moe")
    same("mtp of qwen3_next", "qwen3next_cpp", {}, more=lambda _: {
        f"{p}mtp.layers.0.{n}.weight": np.ones(24, np.float32) for p, n in (("", "norm"), ("model.", "mlp.x"))})
    same("lfm2 as published", "lfm2_cpp", {
        "block_ff_dim": 20, "intermediate_size": 99, "block_auto_adjust_ff_dim": True, "tie_embedding": True,
        "full_attn_idxs": [1]}, drop=["layer_types", "tie_word_embeddings"])    # 20 -> 13 -> 14, a multiple of 2
    same("lfm2 by the older list", "lfm2moe_cpp", {"full_attn_idxs": [2]}, drop=["layer_types"])

    def bias(tensors):
        for n in [n for n in tensors if n.endswith("expert_bias")]:
            del tensors[n]
        return {}
    folder, _ = variant("lfm2moe_cpp", {"use_expert_bias": False}, more=bias)
    ok(not [n for n in convert(folder, "--no-tokenizer").t if "exp_probs" in n], "experts without a bias")
    for name, kept in (("lfm2_cpp", "shortconv.conv"), ("qwen35moe_cpp", "ssm_conv1d ffn_gate_inp ffn_gate_inp_shexp")):
        m = convert(golden_folder(name)[0], "--no-tokenizer", type="f16")
        plain = {re.sub(r"^blk\.\d+\.|\.weight$", "", n) for n, x in m.t.items() if x.ndim > 1 and m.types[n] == "F32"}
        ok(plain == set(kept.split()), f"{name}: F32 {plain}")
    full = "full_attention"
    for name, change, message in (
            ("lfm2_cpp", {"layer_types": ["conv", full, "sliding_attention"]},
             "layer_types: expected conv or full_attention 3 times"),
            ("lfm2_cpp", {"layer_types": ["conv", full]}, "layer_types: expected conv or full_attention 3 times"),
            ("lfm2_cpp", {"layer_types": ["conv", full, full]}, "3 tensors have no place in a lfm2 file: "
             "model.layers.2.conv."),
            ("lfm2_cpp", {"conv_bias": True}, "conv_bias = True"),
            ("lfm2_cpp", {"architectures": ["Lfm2BidirectionalModel"]}, "architectures = ['Lfm2BidirectionalModel']"),
            ("lfm2_cpp", {"conv_L_cache": 4}, "blk.0.shortconv.conv.weight: expected [18, 4]"),
            ("lfm2_cpp", {"block_auto_adjust_ff_dim": True}, "blk.0.ffn_gate.weight: expected [10, 18]"),
            ("lfm2moe_cpp", {"norm_topk_prob": False}, "norm_topk_prob = False"),
            ("lfm2moe_cpp", {"routed_scaling_factor": 2.5}, "routed_scaling_factor = 2.5"),
            ("lfm2moe_cpp", {"num_dense_layers": 2}, "have no place in a lfm2moe file: model.layers.1.feed_forward."),
            ("qwen35_cpp", {"full_attention_interval": 3}, "15 tensors have no place in a qwen35 file"),
            ("qwen35_cpp", {"linear_num_key_heads": 3}, "linear_num_key_heads = 3 does not divide"),
            ("qwen35_cpp", {"linear_num_key_heads": 4}, "blk.0.attn_qkv.weight: expected [72, 24] from config.json"),
            ("qwen35_cpp", {"attn_output_gate": False}, "attn_output_gate = False"),
            ("qwen35moe_cpp", {"mlp_only_layers": [1]}, "mlp_only_layers = [1]"),
            ("qwen3next_cpp", {"linear_value_head_dim": 7}, "from config.json, found ["),
            ("qwen3next_cpp", {"norm_topk_prob": False}, "norm_topk_prob = False")):
        drop = ["layer_types"] if "full_attention_interval" in change else []
        refused(variant(name, change, drop=drop)[0], message, "--no-tokenizer")


def test_adapters_of_kinds():
    """An adapter beside its base model is the model that it was merged into."""
    try:
        import peft
    except ImportError:
        return
    for name in ("lfm2_cpp", "lfm2moe_cpp", "qwen35_cpp", "qwen35moe_cpp", "qwen3next_cpp"):
        base, _ = golden_folder(name)
        model = tf.AutoModelForCausalLM.from_pretrained(base)
        linear = [n for n, x in model.named_modules() if isinstance(x, torch.nn.Linear) and "lm_head" not in n]
        stacked = [n for n, _ in model.named_parameters() if "experts." in n]
        model, low = adapter(model, name, r=3, lora_alpha=7, target_modules=linear, target_parameters=stacked or None)
        got = merged(convert(base, "--no-tokenizer"), convert(low, "--base", base))
        folder = TMP / "merged"
        shutil.rmtree(folder, ignore_errors=True)
        model.merge_and_unload().save_pretrained(folder)
        want, plain = convert(folder, "--no-tokenizer"), convert(base, "--no-tokenizer")
        ok(got.t.keys() == want.t.keys(), f"{name}: {got.t.keys() ^ want.t.keys()}")
        for n, x in want.t.items():
            ok(np.allclose(got.t[n], x, rtol=1e-4, atol=1e-5), f"{name}: {n}")
            changed = re.search(r"attn_(q|k|v|output|qkv|gate)\.|ffn_(gate|up|down)(_exps)?\.|ssm_(out|alpha|beta|ba)\."
                                r"|shortconv\.(in|out)_proj", n)
            ok(not changed or not np.allclose(plain.t[n], x, atol=1e-3), f"{name}: no adapter on {n}")


def test_vision_types():
    """Qwen 2.5 VL is written as Qwen 2 VL, and both with the text apart, as transformers writes config.json"""
    good, golden = golden_folder("qwen2vl_cpp")
    folder, config = fresh("vision", good), json.loads((good / "config.json").read_text())
    shutil.copy(good / "model.safetensors", folder)
    text = {k: v for k, v in config.items() if k not in ("model_type", "vision_config")}
    for kind in ("qwen2_vl", "qwen2_5_vl"):
        for whole in ({**config, "model_type": kind}, {"model_type": kind, "vision_config": {}, "text_config": {
                **text, "model_type": kind + "_text"}}):
            (folder / "config.json").write_text(json.dumps(whole))
            same_meaning(convert(folder, "--no-tokenizer"), golden, f"{kind} {list(whole)}")
    plain = toy("qwen2")[1]
    seeing, config = fresh("dots", plain), json.loads((plain / "config.json").read_text())
    (seeing / "config.json").write_text(json.dumps({**config, "model_type": "dots_ocr", "vision_config": {}}))
    from safetensors.numpy import save_file
    save_file({**load_numpy(plain), "vision_tower.x": np.ones(2, np.float32)}, seeing / "model.safetensors")
    same_tensors(convert(seeing, "--no-tokenizer"), convert(plain, "--no-tokenizer"), "dots_ocr is a qwen2 that sees")
    del whole["vision_config"]
    (folder / "config.json").write_text(json.dumps(whole))
    refused(folder, "19 tensors have no place in a qwen2vl file: visual.", "--no-tokenizer")


def test_refused_of_architectures():
    """What config.json may say of the architectures of llama.cpp's goldens and GGUF has no place for"""
    from safetensors.numpy import save_file
    for name, change, message in (
            ("cohere2_cpp", {"sliding_window": None}, "sliding_window: expected a positive integer"),
            ("cohere2_cpp", {"sliding_window_pattern": 2}, "sliding_window_pattern 2, expected 0 or 4"),
            ("cohere2_cpp", {"rotary_pct": 0.5}, "partial_rotary_factor = 0.5"),
            ("cohere2_cpp", {"tie_word_embeddings": False}, "tie_word_embeddings = False"),
            ("exaone4_cpp", {"layer_types": ["full_attention"] * 3}, "layer_types: expected"),
            ("exaone4_cpp", {"layer_types": ["chunked_attention"] * 5}, "layer_types: expected"),
            ("olmoe_cpp", {"clip_qkv": 3.0}, "clip_qkv = 3.0"),
            ("olmoe_cpp", {"norm_topk_prob": True}, "norm_topk_prob = True"),
            ("olmoe_cpp", {"tie_word_embeddings": True}, "1 tensors are missing: output.weight"),
            ("hunyuan_dense_cpp", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic'"),
            ("qwen2vl_cpp", {"use_sliding_window": True}, "use_sliding_window = True"),
            ("qwen2vl_cpp", {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1.5]}}, "dimension_sections"),
            ("granitemoe_cpp", {"num_local_experts": 3}, "ffn_gate_inp.weight: expected [3, 24]"),
            ("granitemoe_shared_cpp", {"model_type": "granitemoe"}, "have no place in a granitemoe file"),
            ("granitemoe_cpp", {"model_type": "granitemoeshared"}, "tensors are missing: blk.0.ffn_gate_shexp.weight"),
            ("glm4moe_cpp", {"first_k_dense_replace": 2}, "have no place in a glm4moe file: model.layers.1.mlp."),
            ("glm4moe_cpp", {"n_shared_experts": 3}, "blk.1.ffn_gate_shexp.weight: expected [24, 24]"),
            ("smallthinker_cpp", {"rope_layout": [1] * 5}, "rope_layout [1, 1, 1, 1, 1] is not the architecture's"),
            ("smallthinker_cpp", {"sliding_window_layout": [0, 1, 0, 1, 0]}, "sliding_window_layout [0, 1, 0, 1, 0]"),
            ("smallthinker_cpp", {"moe_layer_layout": [0, 1, 1, 1, 1]}, "moe_layer_layout [0, 1, 1, 1, 1]"),
            ("smallthinker_cpp", {"moe_enable_secondary_experts": True}, "moe_enable_secondary_experts = True"),
            ("smallthinker_near_cpp", {"rope_layout": [0, 1]}, "rope_layout [0, 1] is not the architecture's (expected [1, 1])"),
            ("bailingmoe2_cpp", {"architectures": ["BailingMoeForCausalLM"]}, "architectures = ['BailingMoeForCausalLM']"),
            ("bailingmoe2_cpp", {"score_function": "softmax"}, "scoring_func = 'softmax'"),
            ("bailingmoe2_cpp", {"use_qkv_bias": True}, "use_qkv_bias = True"),
            ("t5_cpp", {"model_type": "umt5"}, "tensors are missing: enc.blk.1.attn_rel_b.weight"),
            ("dots1_cpp", {"scoring_func": "softmax"}, "scoring_func = 'softmax'"),
            ("deepseek2_v2_cpp", {"norm_topk_prob": True}, "norm_topk_prob = True"),
            ("deepseek2_v2_cpp", {"topk_method": "noaux_tc"}, "topk_method = 'noaux_tc'"),
            ("deepseek2_v3_cpp", {"rope_interleave": False}, "rope_interleave = False"),
            ("deepseek2_v3_cpp", {"kv_lora_rank": 10}, "from config.json, found ["),
            ("deepseek2_v3_cpp", {"qk_nope_head_dim": 4, "v_head_dim": 10}, "from config.json, found ["),
            ("deepseek2_glm_cpp", {"q_lora_rank": None}, "9 tensors have no place in a deepseek2 file: "),
            ("ernie4_5_moe_cpp", {"moe_layer_interval": 2}, "moe_layer_interval = 2"),
            ("ernie4_5_moe_cpp", {"moe_layer_end_index": 1}, "moe_layer_end_index 1 is not the last layer"),
            ("exaone_moe_cpp", {"is_moe_layer": [False, True, False, True]}, "is_moe_layer [False, True, False, True]"),
            ("exaone_moe_cpp", {"mlp_layer_types": ["sparse"] * 4}, "mlp_layer_types"),
            ("minimax_m2_cpp", {"use_routing_bias": False}, "use_routing_bias = False"),
            ("afmoe_cpp", {"mup_enabled": False}, "mup_enabled = False"),
            ("hunyuan_moe_cpp", {"moe_topk": [2, 1]}, "num_experts_per_tok: expected the same number for every layer"),
            ("granitehybrid_cpp", {"mamba_n_groups": 2}, "mamba_n_groups = 2"),
            ("granitehybrid_cpp", {"layer_types": ["mamba"] * 3}, "layer_types: expected mamba or attention 4 times"),
            ("granitehybrid_cpp", {"num_local_experts": 4}, "tensors are missing: blk.0.ffn_gate_inp.weight"),
            ("mamba2_cpp", {"use_conv_bias": False}, "mamba_conv_bias = False"),
            ("mamba2_cpp", {"n_groups": 4}, "4 groups (mamba_n_groups) do not divide 6 heads of Mamba-2"),
            ("mamba2_cpp", {"time_step_limit": [0.01, 1e9]}, "time_step_limit [0.01, 1000000000.0] has no place"),
            ("nemotron_h_cpp", {"hybrid_override_pattern": "M-*M--"}, "have no place in a nemotron_h file"),
            ("nemotron_h_cpp", {"hybrid_override_pattern": "M-*-M"}, "have no place in a nemotron_h file: backbone.layers.5"),
            ("nemotron_h_cpp", {"hybrid_override_pattern": None}, "expected a kind for each layer, found None"),
            ("nemotron_h_moe_cpp", {"hybrid_override_pattern": "ME*-M"},
             "layer_types: expected mamba or attention or moe 5 times"),
            ("nemotron_h_moe_cpp", {"moe_latent_size": 8}, "moe_latent_size = 8"),
            ("falcon_h1_norm_cpp", {"mamba_norm_before_gate": True}, "mamba_norm_before_gate = True"),
            ("falcon_h1_norm_cpp", {"mamba_rms_norm": False}, "2 tensors have no place in a falcon-h1 file"),
            ("falcon_h1_cpp", {"mamba_rms_norm": True}, "2 tensors are missing: blk.0.ssm_norm.weight"),
            ("nemotron_cpp", {"hidden_act": "silu"}, "activation 'silu'"),
            ("llama4_cpp", {"use_qk_norm": False}, "use_qk_norm = False has no place in a llama4 file of 4 experts"),
            ("llama4_128_cpp", {"use_qk_norm": True}, "use_qk_norm = True"),
            ("llama4_cpp", {"attention_chunk_size": None}, "sliding_window: expected a positive integer"),
            ("llama4_cpp", {"attn_temperature_tuning": False}, "attn_temperature_tuning = False"),
            ("llama4_cpp", {"moe_layers": [1]}, "moe_layers [1]"),
            ("llama4_cpp", {"layer_types": ["full_attention"] * 5}, "layer_types"),
            ("llama4_cpp", {"no_rope_layers": [1] * 5}, "no_rope_layers"),
            ("llama4_cpp", {"interleave_moe_layer_step": 3}, "have no place in a llama4 file"),
            ("llama4_cpp", {"interleave_moe_layer_step": 0}, "moe_layer_interval: expected a positive integer"),
            ("apertus_cpp", {"hidden_act": "silu"}, "activation 'silu'"),
            ("apertus_cpp", {"qk_norm": False}, "qk_norm = False"),
            ("apertus_cpp", {"num_hidden_layers": 4}, "layers.3.mlp.act_fn.alpha_n: expected one number, found no tensor"),
            ("internlm2_cpp", {"bias": True}, "bias = True"),
            ("internlm2_cpp", {"num_key_value_heads": 3}, "blk.0.attn_q.weight: expected [24, 24]"),
            ("baichuan_cpp", {"num_key_value_heads": 1}, "blk.0.attn_q.weight: expected [8, 8] from config.json, found [24, 8]"),
            ("minicpm_cpp", {"num_experts": 8}, "num_experts = 8"),
            ("mellum_cpp", {"norm_topk_prob": False}, "norm_topk_prob = False"),
            ("mellum_cpp", {"mlp_layer_types": ["dense"] * 5}, "mlp_layer_types"),
            ("t5_cpp", {"feed_forward_proj": "gated-relu"}, "feed_forward_proj 'gated-relu', expected relu or gated-gelu"),
            ("t5_cpp", {"feed_forward_proj": "relu"}, "tensors have no place in a t5 file: decoder.block.0.layer.2.DenseReluDense"),
            ("t5_cpp", {"relative_attention_max_distance": 64}, "relative_attention_max_distance = 64"),
            ("t5_cpp", {"num_decoder_layers": 3}, "tensors are missing: dec.blk.2.attn_norm.weight"),
            ("qwen3vlmoe_cpp", {"decoder_sparse_step": 2}, "decoder_sparse_step = 2")):
        good, _ = golden_folder(name)
        folder, config = fresh("unwelcome", good), json.loads((good / "config.json").read_text())
        where = config.get("text_config", config)
        where.update(change)
        (folder / "config.json").write_text(json.dumps(config))
        shutil.copy(good / "model.safetensors", folder)
        refused(folder, message, "--no-tokenizer")
    # biases that are left out where they are zeros
    good, golden = golden_folder("cohere2_cpp")
    folder, tensors = fresh("zeros", good), load_numpy(good)
    name = "model.layers.1.self_attn.q_proj.bias"
    save_file({**tensors, name: np.zeros(24, np.float32)}, folder / "model.safetensors")
    same_meaning(convert(folder, "--no-tokenizer"), golden, "biases of zeros")
    save_file({**tensors, name: np.ones(24, np.float32)}, folder / "model.safetensors")
    refused(folder, f"{name}: expected zeros", "--no-tokenizer")
    # a layer that guesses a token ahead, behind those that count; transformers' newer names for kinds of layers
    good, golden = golden_folder("glm4moe_cpp")
    folder, tensors = fresh("ahead", good), load_numpy(good)
    more = {n.replace("layers.2.", "layers.3."): x for n, x in tensors.items() if "layers.2." in n}
    save_file({**tensors, **more, "model.layers.3.eh_proj.weight": np.ones((24, 48), np.float32)},
              folder / "model.safetensors")
    refused(folder, "have no place in a glm4moe file: model.layers.3.", "--no-tokenizer")
    config = {**json.loads((good / "config.json").read_text()), "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    same_meaning(convert(folder, "--no-tokenizer"), without_ahead(golden), "a layer ahead")
    good, golden = golden_folder("granitehybrid_cpp")
    config = json.loads((good / "config.json").read_text())
    config["layer_types"] = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
    folder = fresh("newer", good)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(good / "model.safetensors", folder)
    same_meaning(convert(folder, "--no-tokenizer"), golden, "newer names of kinds")
    good, golden = golden_folder("nemotron_h_moe_cpp")
    config = json.loads((good / "config.json").read_text())
    del config["hybrid_override_pattern"], config["num_hidden_layers"]
    config["layers_block_type"] = ["linear_attention", "moe", "full_attention", "moe", "linear_attention"]
    folder, tensors = fresh("newer", good), load_numpy(good)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    same_meaning(convert(folder, "--no-tokenizer"), golden, "newer names of kinds, also of feed-forwards")
    stacked = {n: x for n, x in tensors.items() if ".experts." not in n}
    for n in sorted({re.sub(r"experts\.\d+\.(\w+)\.weight", r"experts.\1", n) for n in tensors if ".experts." in n}):
        stacked[n] = np.stack([tensors[n.replace("experts.", f"experts.{e}.") + ".weight"] for e in range(6)])
    save_file(stacked, folder / "model.safetensors")
    same_meaning(convert(folder, "--no-tokenizer"), golden, "experts without a gate as transformers has them in memory")
    # a head that is tied to the embedding, but multiplied by something else
    good, golden = golden_folder("falcon_h1_cpp")
    folder, tensors = fresh("tied", good), load_numpy(good)
    config = {**json.loads((good / "config.json").read_text()), "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    embed = tensors["model.embed_tokens.weight"]
    save_file({n: x for n, x in tensors.items() if n != "lm_head.weight"}, folder / "model.safetensors")
    m = convert(folder, "--no-tokenizer")
    ok(np.array_equal(m.t["output.weight"], embed * np.float32(0.7)), "a tied head has its own factor")
    ok(np.array_equal(m.t["token_embd.weight"], golden.t["token_embd.weight"]), "so has the embedding")
    low = fresh("low", good)
    (low / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    refused(low, "adapters of falcon_h1 are not known", "--base", good)
    m = convert(good, "--no-tokenizer", type="f16")
    kept = {n for n, kind in m.types.items() if "ssm_" in n and kind == "F32"}
    ok(kept == {n for n in m.types if re.search(r"ssm_(a|d|dt\.bias|conv1d\.\w+)$", n)}, f"kept as they are: {kept}")
    # experts as transformers has them in memory, and of a shape that does not tell
    good, golden = golden_folder("qwen3vlmoe_cpp")
    folder, tensors = fresh("turned", good), load_numpy(good)
    turned = {n: np.ascontiguousarray(x.swapaxes(1, 2)) if ".experts." in n else x for n, x in tensors.items()}
    save_file(turned, folder / "model.safetensors")
    same_meaning(convert(folder, "--no-tokenizer"), golden, "experts turned")
    config = json.loads((good / "config.json").read_text())
    config["text_config"]["moe_intermediate_size"] = 12
    (folder / "config.json").write_text(json.dumps(config))
    square = {n: np.ones((5, 24, 24) if "gate_up" in n else (5, 12, 24), np.float32) if ".experts." in n else x
              for n, x in tensors.items()}
    save_file(square, folder / "model.safetensors")
    refused(folder, "does not tell which way round the matrices are", "--no-tokenizer")


# ----------------------------------------------------------------------------------------------------------------
# Files, types, other formats
# ----------------------------------------------------------------------------------------------------------------
def same_tensors(a, b, what):
    ok(a.t.keys() == b.t.keys() and all(np.array_equal(a.t[k], b.t[k]) for k in a.t), what)


def test_files():
    model, folder = toy("mixtral")
    want = convert(folder, "--no-tokenizer")
    _, sharded = toy("mixtral", folder=TMP / "sharded", max_shard_size="20KB")
    ok(len(list(sharded.glob("model-*.safetensors"))) > 2, "expected several shards")
    same_tensors(want, convert(sharded, "--no-tokenizer"), "sharded safetensors")
    state = {k: torch.from_numpy(v.copy()) for k, v in load_numpy(folder).items()}
    for legacy in (False, True):
        pickled = fresh("pickled", folder)
        torch.save(state, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        same_tensors(want, convert(pickled, "--no-tokenizer"), "pytorch_model.bin")
    pickled = fresh("pickled", folder)
    names = sorted(state)
    index = {}
    for i in range(3):
        torch.save({n: state[n] for n in names[i::3]}, pickled / f"pytorch_model-{i + 1:05}-of-00003.bin")
        index.update({n: f"pytorch_model-{i + 1:05}-of-00003.bin" for n in names[i::3]})
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    same_tensors(want, convert(pickled, "--no-tokenizer"), "sharded pytorch_model.bin")
    stacked = fresh("stacked", folder)      # experts as transformers 5 keeps them in memory
    from safetensors.torch import save_file
    state = {k.replace(".block_sparse_moe.", ".mlp."): v.contiguous() for k, v in model.state_dict().items()}
    save_file({k: v for k, v in state.items()}, stacked / "model.safetensors")
    got = convert(stacked, "--no-tokenizer")
    same_tensors(want, got, "stacked experts")


def fresh(name, config_from):
    out = TMP / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    shutil.copy(config_from / "config.json", out)
    return out


def load_numpy(folder):
    from safetensors.numpy import load_file
    return load_file(folder / "model.safetensors")


FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9}


def test_types():
    _, folder = toy("wide")
    full = convert(folder, "--no-tokenizer")
    for kind in cw.quantisable():
        m = convert(folder, "--no-tokenizer", type=kind)
        ok(m.all["general.file_type"] == FILE_TYPES[kind], kind)
        for n, x in full.t.items():
            want = kind.upper() if x.ndim == 2 else "F32"
            ok(m.types[n] == want, f"{kind}: {n} is {m.types[n]}")
            q = gguf.GGMLQuantizationType[want]
            y = gguf.quants.dequantize(gguf.quants.quantize(x.astype(np.float32), q), q)
            ok(np.array_equal(m.t[n], y.astype(np.float64)), f"{kind}: values of {n}")
    _, folder = toy("wide", torch.bfloat16)
    half = convert(folder, "--no-tokenizer", type="bf16")
    same_tensors(convert(folder, "--no-tokenizer"), half, "bfloat16 is kept exactly")
    m = convert(toy("llama")[1], "--no-tokenizer", type="q8_0")
    ok({v for k, v in m.types.items() if m.t[k].ndim == 2} == {"F16"}, "rows of 36 and 58 fall back to F16")


def test_mxfp4():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    model, folder = toy("wide-oss")
    plain = convert(folder, "--no-tokenizer")
    state, rng, want = model.state_dict(), np.random.default_rng(1), {}
    for n in [n for n in state if n.endswith(("gate_up_proj", "down_proj"))]:
        e, i, o = state.pop(n).shape
        blocks = torch.from_numpy(rng.integers(0, 256, (e, o, i // 32, 16), dtype=np.uint8))
        scales = torch.from_numpy(rng.integers(118, 130, (e, o, i // 32), dtype=np.uint8))
        state[n + "_blocks"], state[n + "_scales"] = blocks, scales
        want[n] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).numpy()    # [e, in, out]
    packed = fresh("packed", folder)
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}}))
    from safetensors.torch import save_file
    save_file(state, packed / "model.safetensors")
    m = convert(packed, "--no-tokenizer", type="q8_0")
    ok(m.t.keys() == plain.t.keys(), "same tensors")
    for b in range(2):
        both, down = (want[f"model.layers.{b}.mlp.experts.{n}_proj"] for n in ("gate_up", "down"))
        for n, w in (("gate", both[:, :, ::2]), ("up", both[:, :, 1::2]), ("down", down)):
            name = f"blk.{b}.ffn_{n}_exps.weight"
            ok(m.types[name] == "MXFP4" and np.array_equal(m.t[name], w.swapaxes(1, 2)), name)


def test_gpt2_files():
    model, folder = toy("gpt2")
    want = convert(folder, "--no-tokenizer")
    linear = {k: v.T.contiguous() if k.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else v
              for k, v in model.state_dict().items()}
    args = dict(n_layer=2, n_head=6, n_embd=36, block_size=37, bias=True, vocab_size=101, dropout=0.0)
    compiled = {"_orig_mod." + k: v for k, v in linear.items()}
    torch.save({"model": compiled, "model_args": args, "iter_num": 3, "config": {"x": 1}}, TMP / "nano.pt")
    same_tensors(want, convert(TMP / "nano.pt", "--no-tokenizer"), "nanoGPT")
    ok(convert(TMP / "nano.pt", "--no-tokenizer")["hidden_activation"] == "gelu", "nanoGPT's GELU")
    m = convert(TMP / "nano.pt", "--no-tokenizer", "--gelu", "tanh")
    ok(m["hidden_activation"] == "gelu_pytorch_tanh", "--gelu")
    bare = {k: v for k, v in linear.items() if not k.endswith("bias")}
    torch.save({"model": bare, "model_args": args}, TMP / "nano.pt")
    m = convert(TMP / "nano.pt", "--no-tokenizer")
    ok(m.t.keys() == want.t.keys(), "nanoGPT without biases")
    ok(not any(m.t[k].any() for k in m.t if k.endswith("bias")), "nanoGPT's missing biases are zero")
    torch.save({**linear, "transformer.h.0.attn.bias": torch.ones(1, 1, 37, 37)}, TMP / "mini.pt")
    same_tensors(want, convert(TMP / "mini.pt", "--no-tokenizer", "--n-head", 6), "minGPT")
    for version in (3, 5):
        (TMP / "llmc.bin").write_bytes(llmc(linear, version))
        got = convert(TMP / "llmc.bin", "--no-tokenizer")
        if version == 3:
            same_tensors(want, got, "llm.c")
        else:
            ok(all(np.allclose(got.t[k], v, rtol=0.005, atol=1e-6) for k, v in want.t.items()), "llm.c in bfloat16")


LLMC = ("ln_1.weight ln_1.bias attn.c_attn.weight attn.c_attn.bias attn.c_proj.weight attn.c_proj.bias "
        "ln_2.weight ln_2.bias mlp.c_fc.weight mlp.c_fc.bias mlp.c_proj.weight mlp.c_proj.bias")


def llmc(state, version):
    def raw(x):
        if version == 5:
            return x.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        return x.numpy().astype("<f4").tobytes()
    wte = torch.cat([state["transformer.wte.weight"], torch.full((27, 36), 9.0)])
    out = [struct.pack("<8i", 20240326, version, 37, 101, 2, 6, 36, 128).ljust(1024, b"\0"),
           raw(wte), raw(state["transformer.wpe.weight"])]
    out += [raw(state[f"transformer.h.{i}.{n}"]) for n in LLMC.split() for i in range(2)]
    return b"".join(out + [raw(state["transformer.ln_f.weight"]), raw(state["transformer.ln_f.bias"])])


def test_llama2c():
    """The same weights as a Hugging Face folder and in both llama2.c formats: the logits must agree."""
    model, _ = toy("llama")
    s = {k: v.numpy() for k, v in model.state_dict().items()}

    def pairs(w, heads):        # rows of half-split rope to rows of pairs
        return w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)

    def layers(name, heads=0):
        found = [s[f"model.layers.{i}.{name}.weight"] for i in range(2)]
        return [pairs(w, heads) for w in found] if heads else found
    emb, final, head = [s["model.embed_tokens.weight"]], [s["model.norm.weight"]], [s["lm_head.weight"]]
    n1, n2 = layers("input_layernorm"), layers("post_attention_layernorm")
    att = layers("self_attn.q_proj", 6) + layers("self_attn.k_proj", 2)
    att += layers("self_attn.v_proj") + layers("self_attn.o_proj")
    ffn = layers("mlp.gate_proj") + layers("mlp.down_proj") + layers("mlp.up_proj")
    table = [np.zeros((37, 6), np.float32)]
    shape = (36, 58, 2, 6, 2)
    raw = lambda parts: b"".join(x.astype("<f4").tobytes() for x in parts)      # noqa: E731
    legacy = struct.pack("<7i", *shape, -101, 37) + raw(emb + n1 + att + n2 + ffn + final + table + head)
    v1 = struct.pack("<Ii7iB", 0x616B3432, 1, *shape, 101, 37, 0).ljust(256, b"\0")
    v1 += raw(n1 + n2 + final + emb + att + ffn + head)
    ids = np.arange(20) * 5
    with torch.no_grad():
        want = model(torch.tensor(ids)[None]).logits[0].double().numpy()
    for data in (legacy, v1):
        (TMP / "l2c.bin").write_bytes(data)
        m = convert(TMP / "l2c.bin", "--no-tokenizer")
        ok(m["attention.layer_norm_rms_epsilon"] == np.float32(1e-5), "eps")
        m.all["llama.attention.layer_norm_rms_epsilon"] = 1e-6      # the toy's
        got = Forward(m).logits(ids)
        ok(np.abs(got - want).max() < 1e-5 * np.abs(want).max(), "llama2.c logits")
    shared = struct.pack("<7i", *shape, 101, 37) + raw(emb + n1 + att + n2 + ffn + final + table)
    (TMP / "l2c.bin").write_bytes(shared)
    ok("output.weight" not in convert(TMP / "l2c.bin", "--no-tokenizer").t, "shared classifier")


def test_stories():
    folder = DATA / "stories260k"
    if not folder.is_dir():
        return print(f"convert_test: {folder} is not there, stories260K skipped")
    m = convert(folder / "stories260K.bin", "--tokenizer", folder / "tok512.bin")
    tokens = m.all["tokenizer.ggml.tokens"]
    ids, f = [1] + spm_encode(m, " Once upon a time"), Forward(m)
    for _ in range(40):
        ids.append(int(f.logits(np.array(ids))[-1].argmax()))
    text = "".join(tokens[i].replace("▁", " ") for i in ids[1:])
    ok(text.startswith(" Once upon a time, there was a little girl named Lily. She loved to play outside in the"), text)


# ----------------------------------------------------------------------------------------------------------------
# Tokenizers
# ----------------------------------------------------------------------------------------------------------------
TEXT = ("The quick brown fox, who can't jump over 1234567 lazy dogs, won't stop!\nGrüße aus Köln — 東京 и Москва.\n\n"
        "def f(x):\n    return x ** 2  # squared\n") * 3


def spm_encode(m, text):
    """SentencePiece BPE with the scores of a file: the neighbours that make the best piece are joined first."""
    ids = {t: i for i, t in enumerate(m.all["tokenizer.ggml.tokens"])}
    scores, out = m.all["tokenizer.ggml.scores"], list(text.replace(" ", "▁"))
    while True:
        joined = (a + b for a, b in zip(out, out[1:]))
        best = max(((scores[ids[t]], -k) for k, t in enumerate(joined) if t in ids), default=None)
        if best is None:
            break
        k = -best[1]
        out[k:k + 2] = [out[k] + out[k + 1]]
    return [i for t in out for i in ([ids[t]] if t in ids else [ids[f"<0x{b:02X}>"] for b in t.encode()])]


def byte_bpe(pre, folder, **model):
    from tokenizers import models, pre_tokenizers, trainers
    t = tokenizers.Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator([TEXT], trainer)
    t.add_tokens(["<tool>"])
    t.save(str(folder / "tokenizer.json"))
    return t


def weightless(name, vocab):
    """A folder with a minimal model of so many tokens, for the tokenizer beside it."""
    out, made = TMP / name, TMP / f"weightless-{vocab}"
    if not made.exists():
        torch.manual_seed(0)
        tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**dict(GQA, vocab_size=vocab))).save_pretrained(made)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made, out)
    return out


def test_pre():
    from tokenizers import Regex, pre_tokenizers as p

    def split(*patterns, digits=False):
        parts = [p.Split(Regex(x), "isolated") for x in patterns] + [p.Digits(individual_digits=True)] * digits
        return p.Sequence(parts + [p.ByteLevel(add_prefix_space=False, use_regex=False)])
    plain = p.ByteLevel(add_prefix_space=False)
    words = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
             r"|\s+(?!\S)|\s+")
    u, low = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    end = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    c = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    head = r"[^\r\n\p{L}\p{N}]?"
    cases = [
        ("gpt-2", plain, {}),
        ("smollm", p.Sequence([p.Digits(individual_digits=True), plain]), {}),
        ("dbrx", split(words % "{1,3}"), {}), ("llama-bpe", split(words % "{1,3}"), {"ignore_merges": True}),
        ("qwen2", split(words % ""), {}),
        ("qwen35", split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+"
                         r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), {}),
        ("jais-2", split((words % "{1,3}").removesuffix(r"|\s+(?!\S)|\s+") + "".join(
            rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s{1}"), {}),
        ("seed-coder", split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
                             r"|\s*[\r\n]+|\s+(?!\S)|\s+"), {}),
        ("tekken", split(f"{head}{u}*{low}+|{head}{u}+{low}*|\\p{{N}}{end}"), {"ignore_merges": True}),
        ("gpt-4o", split(f"{head}{u}*{low}+{c}|{head}{u}+{low}*{c}|\\p{{N}}{{1,3}}{end}"), {}),
        ("tiny_aya", split(r"\d{1,3}(?=(?:\d{3})*\b)", f"{head}{u}*{low}+{c}|{head}{u}+{low}*{c}|\\p{{N}}{{1,3}}{end}"), {}),
        ("ufakzeka", split((words % "").removeprefix("(?i:'s|'t|'re|'ve|'m|'ll|'d)|")), {}),
        ("exaone-moe", split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
                             r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), {}),
        ("falcon", p.Sequence([p.Punctuation("contiguous"), plain, p.Digits(individual_digits=False),
                               p.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), {}),
        ("bloom", split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), {}),
        ("deepseek-v3", split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
                              r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
                              r"|\s+(?!\S)|\s+"), {}),
        ("deepseek-coder", split("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", digits=True), {}),
        ("deepseek-llm", split("[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                               "[一-龥ࠀ-一가-퟿]+", digits=True), {}),
    ]
    folder = weightless("pre", 310)
    for name, pre, model in cases:
        t = byte_bpe(pre, folder, **model)
        m = convert(folder)
        ok(m.all["tokenizer.ggml.pre"] == name, f"expected {name}, found {m.all['tokenizer.ggml.pre']}")
        tokens, types = m.all["tokenizer.ggml.tokens"], m.all["tokenizer.ggml.token_type"]
        ok(len(tokens) == len(types) == 310, name)
        ok({x: i for i, x in enumerate(tokens[:t.get_vocab_size()])} == t.get_vocab(), f"{name}: tokens")
        same_ids(lambda x, t=t: t.encode(x).ids, name)
        merges = json.loads(t.to_str())["model"]["merges"]
        merges = [x if isinstance(x, str) else " ".join(x) for x in merges]
        ok(m.all["tokenizer.ggml.merges"] == merges, f"{name}: merges")
        kinds = [types[tokens.index(x)] for x in ("<|endoftext|>", "<tool>", "a", "[PAD309]")]
        ok(kinds == [cw.CONTROL, cw.USER, cw.NORMAL, cw.UNUSED], f"{name}: {kinds}")
        for alias in {a for (base, _), a in cw.PRE_OF_ARCH.items() if base == name}:
            convert(folder, "--pre", alias)
            same_ids(lambda x, t=t: t.encode(x).ids, f"{alias}, which is {name}")
    t = byte_bpe(split(words % ""), folder)     # as vocab.json and merges.txt, which do not say how text is split
    (folder / "tokenizer.json").unlink()
    t.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    for arch, name in ((cw.A.QWEN2, "qwen2"), (cw.A.QWEN3NEXT, "qwen2"), (cw.A.QWEN35, "qwen35"),
                       (cw.A.QWEN35MOE, "qwen35")):
        ok(cw.load_vocab(folder, arch, 310, "").pre == name, f"{arch.name}: vocab.json")
    folder = weightless("pre", 310)
    byte_bpe(p.Sequence([p.Whitespace(), plain]), folder)
    refused(folder, "pre-tokenizer not known")
    ok(convert(folder, "--pre", "falcon").all["tokenizer.ggml.pre"] == "falcon", "--pre")


def test_special():
    from tokenizers import AddedToken, pre_tokenizers as p, processors
    folder = weightless("special", 310)
    t = byte_bpe(p.ByteLevel(add_prefix_space=False), folder)
    t.add_special_tokens([AddedToken(x, special=True) for x in ("<|begin|>", "<|eot_id|>", "<|eom_id|>", "<|more|>")])
    v = t.get_vocab()
    t.post_processor = processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", v["<|begin|>"])])
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<|begin|>", "eos_token": {"content": "<|eot_id|>"}, "chat_template": "{{ old }}"}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    ends = [v[x] for x in ("<|endoftext|>", "<|eom_id|>", "<|eot_id|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    m = convert(folder)
    key = lambda name: m.all.get("tokenizer.ggml." + name)      # noqa: E731
    ok(key("bos_token_id") == v["<|begin|>"] and key("add_bos_token") is True, "bos")
    want = [v[x] for x in ("<|eot_id|>", "<|eom_id|>", "<|endoftext|>")]
    ok([key(k + "_token_id") for k in ("eos", "eom", "eot")] == want, "ends")
    ok(key("eos_token_ids") is None and m.all["tokenizer.chat_template"] == "{{ messages }}", "template")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [*ends, v["<|more|>"]]}))
    m = convert(folder)
    ok(sorted(key("eos_token_ids")) == sorted([*ends, v["<|more|>"]]), "more ends than keys")
    small = weightless("small", 300)
    shutil.copy(folder / "tokenizer.json", small)
    refused(small, "the post-processor adds token")
    t.post_processor = None
    t.save(str(small / "tokenizer.json"))
    status, err = run(small, "-o", TMP / "small.gguf")
    ok(status == 0 and "left out" in err, f"added tokens without a row: {err}")
    refused(small, "no such file", "--tokenizer", TMP / "nowhere")
    refused(weightless("tiny", 200), "the embedding has 200 rows", "--tokenizer", folder)


def test_sentencepiece():
    try:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb
    except ImportError as e:
        return print(f"convert_test: sentencepiece skipped: {e}")
    from tokenizers import AddedToken, models, normalizers, pre_tokenizers
    from transformers.convert_slow_tokenizer import SentencePieceExtractor
    (TMP / "text").write_text(TEXT * 20)
    for kind in ("bpe", "unigram"):
        folder = weightless(kind, 420)
        bpe = kind == "bpe"
        sentencepiece.SentencePieceTrainer.train(
            input=str(TMP / "text"), model_prefix=str(folder / "tokenizer"), vocab_size=390 if bpe else 320,
            model_type=kind, byte_fallback=True, character_coverage=0.98, minloglevel=2,
            normalization_rule_name="identity" if bpe else "nmt_nfkc", remove_extra_whitespaces=not bpe)
        sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        n = sp.get_piece_size()
        (folder / "added_tokens.json").write_text(json.dumps({"<|user|>": n, "<extra>": n + 1}))
        m = convert(folder)
        key = lambda name: m.all.get("tokenizer.ggml." + name)      # noqa: E731
        ok(key("model") == {"bpe": "llama", "unigram": "t5"}[kind], kind)
        want = [sp.id_to_piece(i) for i in range(n)]
        ok(key("tokens")[:n + 2] == [*want, "<|user|>", "<extra>"], f"{kind}: tokens")
        ok(np.allclose(key("scores")[:n], [sp.get_score(i) for i in range(n)]), f"{kind}: scores")
        types = [cw.UNKNOWN if sp.is_unknown(i) else cw.CONTROL if sp.is_control(i) else cw.BYTE if sp.is_byte(i) else
                 cw.NORMAL for i in range(n)]
        ok(key("token_type")[:n + 2] == [*types, cw.CONTROL, cw.USER], f"{kind}: types")
        ok([key(k + "_token_id") for k in ("bos", "eos", "unknown")] == [1, 2, 0], f"{kind}: ids")
        ok(key("add_space_prefix") is True, f"{kind}: prefix")
        if kind == "unigram":
            ok(key("remove_extra_whitespaces") is True and len(key("precompiled_charsmap")) > 0, "charsmap")
            continue
        for text in filter(None, TEXT.split("\n")):
            ok(spm_encode(m, " " + text) == sp.encode(text), f"scores encode {text!r}")
        # The same vocabulary as a tokenizer.json with merges instead of scores.
        proto = pb.ModelProto()
        proto.ParseFromString((folder / "tokenizer.model").read_bytes())
        found = SentencePieceExtractor(str(folder / "tokenizer.model")).extract(models.BPE)
        vocab, merges = (found["vocab"], found["merges"]) if isinstance(found, dict) else found[:2]
        vocab = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
        t = tokenizers.Tokenizer(models.BPE(vocab, [tuple(x) for x in merges], unk_token="<unk>", fuse_unk=True,
                                            byte_fallback=True))
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        t.add_special_tokens([AddedToken(x, special=True) for x in ("<unk>", "<s>", "</s>")])
        (folder / "tokenizer.model").unlink()
        t.save(str(folder / "tokenizer.json"))
        m = convert(folder)
        ok(key("model") == "llama" and key("add_space_prefix") is True, "tokenizer.json with byte fallback")
        for text in filter(None, TEXT.split("\n")):
            ok(spm_encode(m, " " + text) == t.encode(text).ids, f"merges encode {text!r}")
        t.normalizer, t.pre_tokenizer = None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        t.save(str(folder / "tokenizer.json"))
        ok(convert(folder).all["tokenizer.ggml.add_space_prefix"] is False, "no prefix")


TOKENIZE, PROBE = ROOT / "build" / "tokenize", ROOT / "build" / "real_probe"
TEXTS = ("ab a", " a", "a  b ", "é1 12ab", "  ", "b\ta", "c", "ab<x>ab a<x> b", "ba<0x41>")


def same_ids(encode, what, texts=TEXTS, *options):
    """The file just written, read by gpt.h, against the library that the tokenizer was made for."""
    if not TOKENIZE.exists():
        return
    for text in texts:
        r = subprocess.run([TOKENIZE, "-m", TMP / "out.gguf", *options, "-f", "/dev/stdin"], input=text.encode(),
                           capture_output=True)
        ok(r.returncode == 0, r.stderr)
        got, want = [int(x) for x in r.stdout.split()], encode(text)
        ok(got == want, f"{what}: {text!r}: expected {want}, found {got}")


PIECES = {"▁": -2.0, "▁a": -3.0, "ab": -3.5, "▁ab": -4.0, "a": -5.0, "b": -5.5, "1": -6.0, "2": -6.5, "12": -7.0}


def spaces(kind, normalizer, pre, pieces=PIECES, added=(), **model):
    """A small tokenizer.json with visible spaces."""
    from tokenizers import models, normalizers, pre_tokenizers
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256) if kind == "bpe"), *pieces]
    scores = {"▁": -2.0, **pieces}
    if kind == "bpe":
        ways = [(scores[a + b], a, b) for a in pieces for b in pieces if a + b in pieces]
        merges = [(a, b) for _, a, b in sorted(ways, key=lambda x: -x[0])]
        t = tokenizers.Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>",
                                            fuse_unk=True, **{"byte_fallback": True, **model}))
    else:
        t = tokenizers.Tokenizer(models.Unigram([(w, scores.get(w, 0.0)) for w in words],
                                                **{"unk_id": 0, **model}))
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.add_tokens(list(added))
    if normalizer:
        t.normalizer = normalizers.Sequence(normalizer)
    if pre:
        t.pre_tokenizer = pre_tokenizers.Sequence(pre)
    return t


def put_tokenizer(name, t, change=None, conf=None, size=300):
    """A folder with this tokenizer.json, changed by `change`, and tokenizer_config.json."""
    folder, data = weightless(name, size), json.loads(t.to_str())
    if change:
        change(data)
    (folder / "tokenizer.json").write_text(json.dumps(data))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names if conf is None else conf))
    return folder


def test_json_spaces():
    from tokenizers import AddedToken, normalizers as n, pre_tokenizers as p, processors
    show, prepend = n.Replace(" ", "▁"), n.Prepend("▁")
    user = AddedToken("<x>", normalized=False)
    for kind in ("bpe", "unigram"):
        for norm, pre in (([prepend, show], []), ([show, prepend], []), ([show], []),
                          ([show], [p.Split(" ", "merged_with_previous")]), ([], [p.Metaspace(prepend_scheme="never")]),
                          ([prepend], [p.Metaspace()]), ([prepend], [p.Metaspace(split=False)])):
            t = spaces(kind, norm, pre, added=[user])
            convert(put_tokenizer("spaces", t))
            same_ids(lambda x, t=t: t.encode(x).ids, f"{kind} {norm} {pre}")
        for norm, pre, message in (
                ([], [p.Metaspace()], "prepend_scheme 'always' puts no space"),
                ([], [p.Metaspace(prepend_scheme="first", split=False)], "prepend_scheme 'first' puts no space"),
                ([n.Lowercase(), show], [], "normalizer Lowercase has no place in GGUF"),
                ([n.NFKC(), show], [], "normalizer NFKC"), ([n.Strip(), show], [], "normalizer Strip"),
                ([n.NFD(), n.StripAccents(), show], [], "normalizer NFD"),
                ([n.Replace("a", "b")], [], "normalizer Replace"), ([show], [p.Digits(True)], "pre-tokenizer Digits"),
                ([show], [p.Whitespace()], "pre-tokenizer Whitespace"),
                ([prepend, prepend, show], [], "2 spaces before a text"), ([], [], "spaces made visible: False")):
            refused(put_tokenizer("spaces", spaces(kind, norm, pre)), message)
        inner = put_tokenizer("spaces", spaces(kind, [], [p.Metaspace(prepend_scheme="never")],
                                               {**PIECES, "a▁": -2.5}))
        refused(inner, "splits at spaces that tokens contain")
        t = spaces(kind, [prepend, show], [])
        for side, change in (("before", ["<s>", "<s>", "$A"]), ("behind", ["$A", "</s>", "</s>"]), ("", ["$A", "$A"])):
            t.post_processor = processors.TemplateProcessing(change, special_tokens=[("<s>", 1), ("</s>", 2)])
            refused(put_tokenizer("spaces", t), "post-processor TemplateProcessing")
        both = processors.TemplateProcessing(["<s>", "$A", "</s>"], special_tokens=[("<s>", 1), ("</s>", 2)])
        for t.post_processor in (processors.BertProcessing(("</s>", 2), ("<s>", 1)), both):
            m = convert(put_tokenizer("spaces", t))
            ok([m.all[f"tokenizer.ggml.add_{x}_token"] for x in ("bos", "eos")] == [True, True], "both ends")
            same_ids(lambda x, t=t: t.encode(x).ids, f"{kind} with both ends", TEXTS, "--bos")
        other = put_tokenizer("spaces", t, conf={"bos_token": "</s>"})
        refused(other, "the post-processor adds token 1, bos_token is 2")
        t.post_processor = None
        for special in (False, True):
            t = spaces(kind, [prepend, show], [], added=[AddedToken("<x>", normalized=True, special=special)])
            refused(put_tokenizer("spaces", t), "added token '<x>' is found in normalised text")
        refused(put_tokenizer("spaces", spaces(kind, [show], [], added=["x" * 257])), "expected a text of at most 256")
        for flag in ("lstrip", "rstrip", "single_word"):
            t = spaces(kind, [show], [], added=[AddedToken("<x>", normalized=False, **{flag: True})])
            refused(put_tokenizer("spaces", t), f"added token '<x>' has {flag}")
        if kind == "bpe":
            folder = put_tokenizer("spaces", spaces(kind, [show], []), lambda d: d["model"]["vocab"].pop("<0x41>"))
            refused(folder, "byte_fallback without the token <0x41>")
        blank = put_tokenizer("spaces", spaces(kind, [show], []), lambda d: d.update(added_tokens=[]), {})
        refused(blank, "_token is named, and GGUF's readers would take token 1, '<s>', for it")


def test_json_models():
    from tokenizers import normalizers as n, pre_tokenizers as p
    t = spaces("unigram", [n.Prepend("▁"), n.Replace(" ", "▁")], [])
    m = convert(put_tokenizer("models", t))
    ok(m.all["tokenizer.ggml.unknown_token_id"] == 0 and m.all["tokenizer.ggml.add_eos_token"] is False, "ids")
    same_ids(lambda x: t.encode(x).ids, "unigram", TEXTS, "--bos")
    fallback = spaces("unigram", [n.Replace(" ", "▁")], [], byte_fallback=True)
    refused(put_tokenizer("models", fallback), "byte_fallback of a Unigram model")
    odd = spaces("unigram", [n.Replace(" ", "▁")], [], {**PIECES, "<0x41>": -9.0})
    refused(put_tokenizer("models", odd), "'<0x41>' is a piece of text, GGUF's readers take it for a byte")
    refused(put_tokenizer("models", t, lambda d: d["model"].update(unk_id=None)), "unk_id is None")
    low = put_tokenizer("models", t, lambda d: d["model"]["vocab"][1].__setitem__(1, -20.0))
    refused(low, "the lowest score, -20, is no plain token's")
    t = spaces("bpe", [n.Replace(" ", "▁")], [])
    refused(put_tokenizer("models", t, lambda d: d["model"]["merges"].pop(0)), "is not made of")
    refused(put_tokenizer("models", t, lambda d: d["model"].update(ignore_merges=True)), "ignore_merges has no place")
    folder = weightless("models", 310)
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        byte_bpe(p.ByteLevel(add_prefix_space=False), folder)
        data = json.loads((folder / "tokenizer.json").read_text())
        data["model"][name] = 0.5 if name == "dropout" else "</w>"
        (folder / "tokenizer.json").write_text(json.dumps(data))
        refused(folder, f"{name} = ")
    t = byte_bpe(p.ByteLevel(add_prefix_space=False), folder, ignore_merges=True)
    convert(folder)         # every token is what merging its text gives: looking it up first changes nothing
    data = json.loads(t.to_str())
    made = data["model"]["merges"][-1]
    data["model"]["merges"] = [x for x in data["model"]["merges"] if x != made]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    refused(folder, "ignore_merges = True has no place beside pre-tokenizer gpt-2")
    t.normalizer = n.Lowercase()
    t.save(str(folder / "tokenizer.json"))
    refused(folder, "normalizer Lowercase")
    words = r"\p{N}{1,3}"
    lost = p.Sequence([p.Split(tokenizers.Regex(words), "removed", invert=True), p.ByteLevel(False, use_regex=False)])
    for pre, message in ((lost, "pre-tokenizer not known"), (p.ByteLevel(add_prefix_space=True), "add_prefix_space of"),
                         (p.Digits(individual_digits=True), "BPE of characters, neither ByteLevel nor byte_fallback")):
        byte_bpe(pre, folder)
        refused(folder, message)
    byte_bpe(p.ByteLevel(add_prefix_space=False), folder, unk_token="<|endoftext|>")
    convert(folder)
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"] = {k: v for k, v in data["model"]["vocab"].items() if k != "ÿ"}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    refused(folder, "no token for the byte 'ÿ'")
    t = byte_bpe(p.ByteLevel(add_prefix_space=False), folder)
    for late, early, overlap in (("<x>y", "<x>", True), ("<a<", "<x>", True), ("x>y", "<x>", False),
                                 ("a", "<a>", False)):
        t = byte_bpe(p.ByteLevel(add_prefix_space=False), folder)
        t.add_tokens([tokenizers.AddedToken(early, normalized=False), tokenizers.AddedToken(late, normalized=True)])
        t.save(str(folder / "tokenizer.json"))
        if overlap:
            refused(folder, f"added token {late!r} overlaps")
        else:
            convert(folder)
            same_ids(lambda x, t=t: t.encode(x).ids, f"{late} after {early}", ("<x>y<a>ax>y", "a <x>", "<a<x>y"))
    byte_bpe(p.ByteLevel(add_prefix_space=False), folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    refused(folder, "add_prefix_space has no place")


def nodes(tree, path=()):
    """Paths to the parts of a JSON document, a few of each list."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for k, v in list(items)[:8]:
        yield from nodes(v, path + (k,))


def test_broken_tokenizers():
    import random
    from tokenizers import normalizers as n, pre_tokenizers as p, processors
    t = spaces("bpe", [n.Prepend("▁"), n.Replace(" ", "▁")], [p.Metaspace(split=False)])
    t.post_processor = processors.TemplateProcessing(["<s>", "$A"], special_tokens=[("<s>", 1)])
    u = spaces("unigram", [n.Replace(" ", "▁")], [p.Split(" ", "merged_with_previous")])
    folder = weightless("broken", 310)
    b = byte_bpe(p.Sequence([p.Digits(True), p.ByteLevel(add_prefix_space=False)]), folder)
    conf = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "added_tokens_decoder": {"300": {"content": "<z>"}},
            "add_bos_token": True, "chat_template": "x"}
    more = {"tokenizer_config.json": conf, "generation_config.json": {"eos_token_id": [1, 2], "bos_token_id": 1},
            "special_tokens_map.json": {"bos_token": "<s>"}, "added_tokens.json": {"<q>": 301}}
    choose = random.Random(3)
    for i in range(400):
        files = {"tokenizer.json": json.loads(choose.choice((t, u, b)).to_str()), **more}
        name = choose.choice(["tokenizer.json"] * 6 + list(more))
        files = json.loads(json.dumps(files))
        *path, last = (name, *choose.choice(list(nodes(files[name]))))
        part, value = files, choose.choice((*BROKEN, [{"type": "Sequence"}], "a b c", "\0"))
        for k in path:
            part = part[k]
        part[last] = value
        for k, x in files.items():
            (folder / k).write_text(json.dumps(x))
        converts_or_says_why(folder, f"{path} {last} = {value!r}")


def test_phi3_rstrip():
    """Readers know of Phi-3's markers that they swallow the white space behind them, by the file's name."""
    from tokenizers import AddedToken, normalizers as n
    t = spaces("bpe", [n.Prepend("▁"), n.Replace(" ", "▁")], [])
    strip = dict(normalized=False, rstrip=True)
    t.add_special_tokens([AddedToken("<|endoftext|>", normalized=False), AddedToken("<|user|>", **strip)])
    t.add_tokens([AddedToken("</s>", **strip)])
    folder = put_tokenizer("Phi-3-toy", t)
    convert(folder)
    refused(folder, "'</s>' has rstrip = true, GGUF's readers take false in a file of the name 'toy'", "--name", "toy")

    def no_strips(data):
        for x in data["added_tokens"]:
            x["rstrip"] = False
    folder = put_tokenizer("phi3-toy", t, no_strips)
    refused(folder, "token '</s>' has rstrip = false, GGUF's readers take true in a file of the name 'phi3-toy'")
    convert(folder, "--name", "toy")


def test_tokenizer_model():
    """What a SentencePiece model says beyond its pieces."""
    try:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb
    except ImportError as e:
        return print(f"convert_test: tokenizer.model skipped: {e}")
    folder = weightless("model", 400)

    def train(kind="bpe", change=None, name="tokenizer.model", **more):
        blob = io.BytesIO()
        more = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, **more}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.split("\n")), model_writer=blob, vocab_size=330, model_type=kind,
            byte_fallback=True, minloglevel=2, num_threads=1, hard_vocab_limit=False, **more)
        proto = pb.ModelProto()
        proto.ParseFromString(blob.getvalue())
        if change:
            change(proto)
        for f in folder.glob("*.model*"):
            f.unlink()
        (folder / name).write_bytes(proto.SerializeToString())
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def unused(m):
        m.pieces[-1].type = 5

    def unescaped(m):
        m.normalizer_spec.escape_whitespaces = False
    for more, message in ((dict(normalization_rule_name="nmt_nfkc"), "normalisation 'nmt_nfkc' of a BPE model"),
                          (dict(remove_extra_whitespaces=True), "remove_extra_whitespaces of a BPE model"),
                          (dict(treat_whitespace_as_suffix=True), "treat_whitespace_as_suffix"),
                          (dict(user_defined_symbols=["<x>"]), "put a space behind it, SentencePiece does not"),
                          (dict(kind="unigram", user_defined_symbols=["<x>"]), "always take it, SentencePiece does"),
                          (dict(change=unused), "has the type 5"),
                          (dict(change=unescaped), "escape_whitespaces = false")):
        train(**more)
        refused(folder, message)
    texts = (*TEXTS, "the fox   jumps\n\n over")
    for name, more in (("bpe", {}), ("bpe without a prefix", dict(add_dummy_prefix=False)),
                       ("user-defined", dict(add_dummy_prefix=False, user_defined_symbols=["<x>", "▁▁▁"])),
                       ("unigram", dict(kind="unigram")),
                       ("nmt_nfkc", dict(kind="unigram", normalization_rule_name="nmt_nfkc",
                                         remove_extra_whitespaces=True)),
                       ("a version", dict(name="tokenizer.model.v3"))):
        sp = train(**more)
        m = convert(folder)
        same_ids(sp.encode, name, texts)
        ok(m.all["tokenizer.ggml.add_space_prefix"] is ("add_dummy_prefix" not in more), name)
    convert(folder, "--tokenizer", folder / "tokenizer.model.v3")
    shutil.copy(folder / "tokenizer.model.v3", folder / "tokenizer.model.v7m1")
    refused(folder, "tokenizer.model.v3, tokenizer.model.v7m1: choose one with --tokenizer")
    status, err = run(folder, "-o", TMP / "out.gguf", "--tokenizer", (train(user_defined_symbols=["[REF]"]), folder)[1])
    ok(status == 0 and "[REF] are control tokens" in err, err)


def test_mistral_files():
    """tekken.json and tokenizer.model.v3 as mistral-common has them, alone in a folder."""
    try:
        import mistral_common
        from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    except ImportError as e:
        return print(f"convert_test: mistral-common skipped: {e}")
    data = Path(mistral_common.__file__).parent / "data"
    texts = (*TEXTS[:5], TEXT, "x" * 40 + "\r\n\t  def f(a_b, C):  # ½ 12345\n", "Ελληνικά 한국어 ไทย 🙂🙂")
    for source, name, kind, size in (("tekken_240911.json", "tekken.json", Tekkenizer, 131072), (
            "mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model.v3", SentencePieceTokenizer, 32768)):
        if not (data / source).is_file():
            print(f"convert_test: {source} is not there")
            continue
        folder = weightless("mistral", size)
        shutil.copy(data / source, folder / name)
        m, t = convert(folder), kind.from_file(folder / name) if kind is Tekkenizer else kind(folder / name)
        ok(len(m.all["tokenizer.ggml.tokens"]) == size, name)
        ok([m.all[f"tokenizer.ggml.{x}_token_id"] for x in ("bos", "eos", "unknown")] == [1, 2, 0], f"{name}: ids")
        for i in (3, 4, 5):
            ok(m.all["tokenizer.ggml.tokens"][i] == t.id_to_piece(i), f"{name}: token {i}")
            ok(m.all["tokenizer.ggml.token_type"][i] == cw.CONTROL, f"{name}: token {i}")
        same_ids(lambda x, t=t: t.encode(x, True, False), name, texts, "--bos")
        if kind is Tekkenizer:
            small = json.loads((folder / name).read_text())
            small["vocab"] = small["vocab"][:300]
            for key, value, message in (("default_vocab_size", 1400, "do not go together"),
                                        ("pattern", "x", "pattern not known"),
                                        ("default_num_special_tokens", 1 << 40, "do not go together")):
                config = {**small["config"], "default_vocab_size": 1300, key: value}
                (folder / name).write_text(json.dumps({**small, "config": config}))
                refused(folder, message)
            small["vocab"][7]["token_bytes"] = "AAA="
            small["config"]["default_vocab_size"] = 1300
            (folder / name).write_text(json.dumps(small))
            refused(folder, "the 256 bytes first")


def test_gpt2_vocab():
    folder = DATA / "tokenizers"
    if not folder.is_dir():
        return print(f"convert_test: {folder} is not there, GPT-2's vocabulary skipped")
    want = Model.__new__(Model)
    want.all = {k: f.contents() for k, f in gguf.GGUFReader(folder / "ggml-vocab-gpt-2.gguf").fields.items()}
    source = weightless("gpt2-vocab", 50257)
    for n in ("encoder.json", "vocab.bpe"):
        shutil.copy(folder / n, source)
    symbols = {c: b for b, c in cw.byte_symbols().items()}
    tokens = sorted(json.loads((folder / "encoder.json").read_text()).items(), key=lambda x: x[1])
    raw = [t.encode() if i == 50256 else bytes(symbols[c] for c in t) for t, i in tokens]
    (TMP / "gpt2_tokenizer.bin").write_bytes(struct.pack("<4i", 20240328, 2, 50257, 50256).ljust(1024, b"\0") +
                                             b"".join(bytes([len(t)]) + t for t in raw))
    for args in ((), ("--tokenizer", TMP / "gpt2_tokenizer.bin")):      # the second has no merges: they are found again
        m = convert(source, *args)
        for k in ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"):
            ok(m.all["tokenizer.ggml." + k] == want.all["tokenizer.ggml." + k], f"GPT-2: {k} {args}")


def test_characters():
    import pickle
    chars = "\n !abcXYZ"
    meta = {"vocab_size": 9, "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
    (TMP / "meta.pkl").write_bytes(pickle.dumps(meta))
    m = convert(weightless("chars", 9), "--tokenizer", TMP / "meta.pkl")
    ok(m.all["tokenizer.ggml.tokens"] == ["Ċ", "Ġ", *"!abcXYZ"] and "tokenizer.ggml.merges" not in m.all, "characters")
    (TMP / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "é"}}))
    refused(TMP / "chars", "expected one ASCII character", "--tokenizer", TMP / "meta.pkl")
    (TMP / "meta.pkl").write_bytes(pickle.dumps({"itos": os.getcwd}))
    refused(TMP / "chars", "not a nanoGPT meta.pkl", "--tokenizer", TMP / "meta.pkl")


# ----------------------------------------------------------------------------------------------------------------
# What is refused
# ----------------------------------------------------------------------------------------------------------------
def refused(source, message, *args, type="f16"):
    folder = TMP / "refused"
    folder.mkdir(exist_ok=True)
    status, err = run(source, "-o", folder / "x.gguf", "--type", type, *args)
    ok(status == 1, f"expected {message!r}, but it was converted")
    last = err.strip().splitlines()[-1] if err.strip() else ""
    ok(message in last and last.startswith("convert_weights.py: error: "), f"expected {message!r}, found {err!r}")
    ok(not list(folder.iterdir()), f"left behind: {list(folder.iterdir())}")


BROKEN = (None, "x", "", [], {}, [[]], {"x": None}, -1, 0, 0.5, 1 << 40, 10 ** 400, math.nan, math.inf, True, "\ud800")


def converts_or_says_why(folder, what, *args):
    """One line and nothing written, or a file; never a traceback, and never for long."""
    status, err = run(folder, "-o", TMP / "out.gguf", *args)
    lines = [x for x in err.strip().splitlines() if not x.startswith("convert_weights.py: note: ")]
    good = len(lines) == 1 and lines[0].startswith(f"convert_weights.py: {'error' if status else 'wrote'}")
    ok(good, f"{what}: {status} {err}")
    ok(not list(TMP.glob(".*.tmp")), f"{what}: an unfinished file")


def test_broken_configs():
    tried = set()
    for name in ("llama", "phi3-longrope", "gemma3", "mixtral", "exaone4", "hunyuan", "mistral3", "granitemoe-shared",
                 "lfm2moe_cpp", "lfm2_cpp", "qwen35moe_cpp", "qwen35_cpp", "smallthinker_cpp", "bailingmoe2_cpp"):
        good = toy(name)[1] if name in TOYS else golden_folder(name)[0]
        folder, config = fresh("broken", good), json.loads((good / "config.json").read_text())
        shutil.copy(good / "model.safetensors", folder)
        new = ["rope_scaling", "text_config", "quantization_config", "query_pre_attn_scalar", "layer_types", "n_embd"]
        if "_cpp" in name:      # what the kinds of layers come from
            tried -= {"layer_types"}
            new = ["full_attn_idxs", "full_attention_interval", "layer_types"]
        for key in [k for k in dict.fromkeys([*config, *new]) if k not in tried]:
            tried.add(key)
            for value in BROKEN:
                (folder / "config.json").write_text(json.dumps({**config, key: value}))
                converts_or_says_why(folder, f"{name}: {key} = {value!r}", "--no-tokenizer")
        for key in config.get("rope_parameters") or {}:
            for value in BROKEN:
                changed = {**config, "rope_parameters": {**config["rope_parameters"], key: value}}
                (folder / "config.json").write_text(json.dumps(changed))
                converts_or_says_why(folder, f"{name}: rope {key} = {value!r}", "--no-tokenizer")
    good, _ = golden_folder("qwen3vlmoe_cpp")       # with a text_config and a vision_config
    folder, config = fresh("broken", good), json.loads((good / "config.json").read_text())
    shutil.copy(good / "model.safetensors", folder)
    for part in (config, config["text_config"], config["vision_config"], config["text_config"]["rope_scaling"]):
        for key in list(part):
            kept = part[key]
            for part[key] in BROKEN:
                (folder / "config.json").write_text(json.dumps(config))
                converts_or_says_why(folder, f"qwen3vlmoe: {key} = {part[key]!r}", "--no-tokenizer")
            part[key] = kept
    (folder / "config.json").write_text('{"model_type": "\\u001b[31m"}')
    refused(folder, "unknown model_type '\\x1b[31m'")
    (folder / "config.json").write_text("[" * 100000 + "]" * 100000)
    refused(folder, "malformed")


def test_hints():
    folder = TMP / "hints"
    for name, message in (("m.gguf", "m.gguf is a GGUF file already"), ("m.bin", "m.bin may be a file of llama2.c"),
                          ("m.pt", "m.pt may be a nanoGPT")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / name).write_bytes(b"GGUF")
        refused(folder, "no config.json in this folder; " + message)
        (folder / "config.json").write_text("{}")
        refused(folder, "neither *.safetensors nor pytorch_model*.bin in it; " + message)
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(99))
    refused(folder / "m.gguf", "is a GGUF file already")
    _, good = toy("llama")
    status, err = run(good, "-o", TMP / "out.gguf", "--no-tokenizer", "--type", "f16")
    said = r"convert_weights.py: wrote \S+/out\.gguf: llama, 2 layers, 21 tensors, f16, no tokenizer, 0\.1 MB\n"
    ok(status == 0 and re.fullmatch(said, err), err)


def test_without_torch():
    """Safetensors need no torch; pickles say that they do."""
    _, good = toy("llama")
    torch.save({}, TMP / "x.pt")
    code = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'x'; import convert_weights as c; sys.exit(c.main())"
    for source, status, message in ((good, 0, ""), (TMP / "x.pt", 1, "reading it needs torch (pip install torch)")):
        r = subprocess.run([sys.executable, "-c", code, source, "-o", TMP / "out.gguf", "--no-tokenizer"],
                           capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "tools")})
        ok(r.returncode == status and message in r.stderr, r.stderr)


def test_modules():
    """What sentence-transformers puts behind a model: keys and tensors, or one line that says what has no place."""
    from safetensors.numpy import save_file
    _, good = toy("llama")
    kind = "sentence_transformers.models."
    pooling = {"word_embedding_dimension": 36, "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}

    def folder(modules, pooling=pooling, activation="torch.nn.modules.linear.Identity", bias=False):
        f = fresh("modules", good)
        (f / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes())
        listed = [{"idx": 0, "name": "0", "path": "", "type": kind + "Transformer"}]
        for i, name in enumerate(modules):
            listed.append({"idx": i + 1, "name": str(i + 1), "path": f"{i + 1}_{name}", "type": kind + name})
            (f / f"{i + 1}_{name}").mkdir(exist_ok=True)
            conf = pooling if name == "Pooling" else {"activation_function": activation}
            (f / f"{i + 1}_{name}" / "config.json").write_text(json.dumps(conf))
            layer = {"linear.weight": np.ones((36, 36), np.float32), **({"linear.bias": np.ones(36, np.float32)} if bias else {})}
            save_file(layer, f / f"{i + 1}_{name}" / "model.safetensors")
        (f / "modules.json").write_text(json.dumps(listed))
        return f
    for conf, want in ((pooling, 3), ({"pooling_mode": "mean"}, 1), ({"pooling_mode_cls_token": True}, 2)):
        ok(convert(folder(["Pooling", "Normalize"], conf), "--no-tokenizer").all["llama.pooling_type"] == want, f"{conf}")
    for modules, message, more in ((["Pooling"], "pooling ['max']", {"pooling": {"pooling_mode_max_tokens": True}}),
                                   (["Pooling"], "pooling ['mean', 'max']", {"pooling": {
                                       "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}}),
                                   (["Pooling"], "include_prompt", {"pooling": {**pooling, "include_prompt": False}}),
                                   (["Pooling", "Dense"], "expected no dense layer or two", {}),
                                   (["Pooling", "Dense", "Dense"], "Tanh", {"activation": "torch.nn.modules.activation.Tanh"}),
                                   (["Pooling", "Dense", "Dense"], "linear.bias", {"bias": True}),
                                   (["Pooling", "Dense", "Dense"], "have no place in a llama file", {}),
                                   (["Pooling", "LSTM"], "LSTM has no place", {})):
        refused(folder(modules, **more), message, "--no-tokenizer")
    f = folder(["Pooling"])
    for x in BROKEN:
        for broken in (x, [x], [{"type": "a.Transformer", "path": ""}, x], [{"type": "a.Transformer", "path": ""}, {"type": x}]):
            (f / "modules.json").write_text(json.dumps(broken))
            converts_or_says_why(f, f"modules.json {str(broken)[:40]}", "--no-tokenizer")


def test_errors():
    from safetensors.numpy import save_file
    _, good = toy("llama")
    config, tensors = json.loads((good / "config.json").read_text()), load_numpy(good)

    def bad(message, change=None, weights=None, args=("--no-tokenizer",), type="f16"):
        folder = fresh("bad", good)
        (folder / "config.json").write_text(json.dumps({**config, **(change or {})}))
        changed = {**tensors, **(weights or {})}
        save_file({k: v for k, v in changed.items() if v is not None}, folder / "model.safetensors")
        refused(folder, message, *args, type=type)
    q = "model.layers.1.self_attn.q_proj.weight"
    bad("unknown model_type 'mamba'", {"model_type": "mamba"})
    bad("vocab_size: expected a positive integer, found '101'", {"vocab_size": "101"})
    bad("num_hidden_layers: expected a positive integer, found 0", {"num_hidden_layers": 0})
    bad("activation 'relu'", {"hidden_act": "relu"})
    bad("4 key/value heads do not divide 6", {"num_key_value_heads": 4})
    bad("rope scaling 'dynamic'", rope("dynamic", factor=2.0))
    bad("layer_types", {"layer_types": ["sliding_attention", "full_attention"]})
    bad("quantised weights (gptq)", {"quantization_config": {"quant_method": "gptq"}})
    bad("blk.0.attn_k.weight: expected [18, 36] from config.json, found [12, 36]", {"num_key_value_heads": 3})
    bad("1 tensors are missing: blk.1.attn_q.weight", weights={q: None})
    bad("1 tensors have no place in a llama file: model.layers.1.self_attn.q_norm.weight",
        weights={"model.layers.1.self_attn.q_norm.weight": np.ones(6, np.float32)})
    bad("9 tensors have no place", {"num_hidden_layers": 1})
    bad("missing: output.weight", weights={"lm_head.weight": None})
    bad("expected floating-point weights, found uint8", weights={q: tensors[q].astype(np.uint8)})
    bad("blk.1.attn_q.weight: not all values are finite", weights={q: tensors[q] * np.float32(np.nan)})
    bad("does not fit F16", weights={q: tensors[q] + np.float32(1e6)})
    bad("no tokenizer.json, tokenizer.model, tekken.json, or vocab.json", args=())
    folder = fresh("bad", good)
    refused(folder, "neither *.safetensors nor pytorch_model*.bin")
    (folder / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:-1])
    refused(folder, "not a safetensors file")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {q: "model-1.safetensors"}}))
    refused(folder, "listed in model.safetensors.index.json but not there")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {q: "../model.safetensors"}}))
    refused(folder, "expected a weight_map of file names")
    (folder / "config.json").write_text("{")
    refused(folder, "not JSON")
    (folder / "config.json").unlink()
    refused(folder, "no config.json in this folder")
    refused(TMP / "nowhere", "no such file or folder")
    refused(Path("Qwen/Qwen3-0.6B"), "hf download Qwen/Qwen3-0.6B --local-dir FOLDER gets a model of that name")
    for name in ("config.json", "model.safetensors", "pytorch_model-00001-of-00002.bin"):
        (TMP / "part").mkdir(exist_ok=True)
        (TMP / "part" / name).write_text("{}")
        refused(TMP / "part" / name, f"{name}: is one file of a Hugging Face folder; give the folder")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        status, _ = run("--help")
    ok(status == 0 and max(map(len, shown.getvalue().splitlines())) < 121, shown.getvalue())
    for kind in (*cw.MODEL_TYPES.split(), *cw.TEXT_TYPES):
        ok(re.search(rf"(?<=\s){kind}\s", shown.getvalue()), f"--help without {kind}")
    shutil.copytree(good, TMP / "json", dirs_exist_ok=True)
    for text, message in (("[]", "expected a JSON object"),
                          ('{"model": {"type": "BPE", "vocab": {"a": 0}}}', "BPE of characters"),
                          ('{"model": {"type": "WordLevel"}}', "tokenizer model 'WordLevel'"),
                          ('{"model": {"type": "WordPiece"}}', "expected {'type': 'BertNormalizer'"),
                          ('{"model": {"type": "BPE", "byte_fallback": true, "vocab": 3}}', "malformed")):
        (TMP / "json" / "tokenizer.json").write_text(text)
        refused(TMP / "json", message)

    model, moe = toy("mixtral")
    tensors = load_numpy(moe)
    folder = fresh("bad", moe)
    save_file({k: v for k, v in tensors.items() if ".experts.1.w2" not in k}, folder / "model.safetensors")
    refused(folder, "blk.0.ffn_down_exps.weight: expected 3 parts", "--no-tokenizer")

    class Evil:
        def __reduce__(self):
            return (print, ("run",))
    torch.save({"model": Evil()}, TMP / "evil.pt")
    refused(TMP / "evil.pt", "not a checkpoint of plain tensors")
    (TMP / "junk.pt").write_bytes(b"junk" * 9)
    refused(TMP / "junk.pt", "not a")
    torch.save({"x": torch.ones(2)}, TMP / "other.pt")
    refused(TMP / "other.pt", "expected a nanoGPT or minGPT checkpoint")
    linear = toy("gpt2")[0].state_dict()
    torch.save(linear, TMP / "mini.pt")
    refused(TMP / "mini.pt", "give --n-head")
    llm = struct.pack("<8i", 20240326, 1, 37, 101, 2, 6, 36, 128)
    for data, message in ((b"", "neither a llama2.c nor an llm.c file"), (b"\xff" * 64, "neither"),
                          (struct.pack("<7i", 36, 58, 2, 6, 2, 101, 37) + bytes(99), "expected 93940 bytes for this"),
                          (struct.pack("<7i", 36, 58, 2, 5, 2, 101, 37), "do not make a llama2.c model"),
                          (struct.pack("<Ii", 0x616B3432, 2) + bytes(300), "llama2.c file of version 2"),
                          (llm + bytes(1000), "llm.c file of version 1"),
                          (struct.pack("<8i", 20240326, 3, 37, 101, 2, 5, 36, 128) + bytes(1000), "is not valid")):
        (TMP / "x.bin").write_bytes(data)
        refused(TMP / "x.bin", message, "--no-tokenizer")
    ok(run(good, "-o", TMP / "nowhere" / "x.gguf")[0] == 1 and run(good, "-o", TMP)[0] == 1, "an output that cannot be")
    (TMP / "kept.gguf").write_text("old")
    ok(run(good, "-o", TMP / "kept.gguf")[0] == 1, "no tokenizer")
    ok((TMP / "kept.gguf").read_text() == "old", "a failure keeps the old file")


def main():
    tests = {k: f for k, f in globals().items() if k.startswith("test_")}
    try:
        for name, f in tests.items():
            if len(sys.argv) == 1 or name.removeprefix("test_") in sys.argv[1:]:
                f()
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
    absent = [f"build/{p.name}" for p in (TOKENIZE, PROBE) if not p.exists()]
    print(f"convert_test: {passed} passed" + (f", nothing computed by gpt.h: make {' '.join(absent)}" if absent else ""))


if __name__ == "__main__":
    main()
