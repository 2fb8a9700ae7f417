#!/usr/bin/env python3
"""Writes tests/golden/lora: adapters made by PEFT for toys of tests/golden/model, and what PEFT computes with them.

    python tests/make_lora_goldens.py [NAME ...]

Each adapter has random A and B, is saved by PEFT, converted by tools/convert_weights.py, and evaluated unmerged in
float64 as make_goldens.py evaluates. The text: `base` names the toy; prompt and logits as there. With LLAMA_CPP, a
folder with llama.cpp's sources, its converter must write the same tensors (of plain ones), and with llama-cpp-python
its logits are compared.

requirements: those of make_goldens.py, and peft
"""
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import peft
import torch
import transformers

import make_goldens as mg

OUT = os.path.join(mg.HERE, "golden", "lora")
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# name: (toy, options of LoraConfig)
ADAPTERS = {
    "llama": ("llama", dict(r=3, lora_alpha=12, target_modules=LLAMA + ["lm_head"])),
    "llama_more": ("llama", dict(r=17, lora_alpha=5, target_modules=["q_proj", "down_proj", "embed_tokens"],
                                 rank_pattern={"down_proj": 2}, alpha_pattern={"down_proj": 3})),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["c_attn", "c_proj", "c_fc", "wte"],
                          fan_in_fan_out=True)),
    "phi3": ("phi3", dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    "gptneox": ("gptneox", dict(r=3, lora_alpha=6, target_modules=["query_key_value", "dense", "dense_h_to_4h",
                                                                   "dense_4h_to_h"])),
    "mixtral": ("mixtral", dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], target_parameters=[
        "mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
    "qwen2moe": ("qwen2moe", dict(r=2, lora_alpha=4, target_modules=["k_proj", "shared_expert_gate", "gate_proj",
                                                                    "up_proj", "down_proj"], target_parameters=[
        "mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
    "tied_in": ("llama_tied", dict(r=3, lora_alpha=6, target_modules=["embed_tokens"])),
    "tied_out": ("llama_tied", dict(r=3, lora_alpha=6, target_modules=["lm_head"])),
    "tied_both": ("llama_tied", dict(r=3, lora_alpha=6, target_modules=["embed_tokens", "lm_head"])),
    "gemma": ("gemma", dict(r=3, lora_alpha=6, target_modules=LLAMA + ["embed_tokens"])),
}


def base_of(name, folder):
    """The toy as transformers' model, and its folder: the seed is the one whose weights the toy's file has."""
    reader = gguf.GGUFReader(os.path.join(mg.OUT, name + ".gguf"))
    want = next(t.data for t in reader.tensors if t.name == "token_embd.weight")
    for seed in range(1, 40):
        model, _ = mg.build(mg.TOYS[name], seed * 1000 + len(name), folder)
        if np.array_equal(model.get_input_embeddings().weight.detach().numpy(), want):
            return model
    raise SystemExit("%s: no seed gives the file's weights" % name)


def fill(model, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_" in name:     # A x and B (A x) of about the size of x
                wide = p.shape[1] if "lora_A" in name else p.shape[1] ** 0.5 * 2
                p.copy_(torch.randn(p.shape, generator=gen) / (wide ** 0.5 if "lora_A" in name else wide))


def tensors_of(path):
    return {t.name: t.data.astype(np.float64) for t in gguf.GGUFReader(path).tensors}


def alike(x, y):
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-6)


def llama_cpp(name, folder, base, path, toy, tokens, logits):
    """What llama.cpp makes of the same adapter, in a line."""
    words = []
    if os.environ.get("LLAMA_CPP"):
        theirs = path + ".cpp"
        done = subprocess.run([sys.executable, os.path.join(os.environ["LLAMA_CPP"], "convert_lora_to_gguf.py"), folder,
                               "--base", base, "--outfile", theirs], capture_output=True, text=True)
        if done.returncode:
            words.append("its converter refuses: " + done.stderr.strip().splitlines()[-1][:90])
        else:
            a, b = tensors_of(path), tensors_of(theirs)
            same = a.keys() == b.keys() and all(alike(a[n], b[n]) for n in a)
            words.append("its converter writes the same tensors" if same else "its converter's tensors differ: " +
                         ", ".join(sorted(a.keys() ^ b.keys())[:3] or [n for n in a if not alike(a[n], b[n])][:3]))
            os.unlink(theirs)
    if name not in ("tied_out", "tied_both"):       # it does not know of these heads
        code = ("import sys, json, numpy as np, llama_cpp as l; m, a, t = sys.argv[1:]; t = json.loads(t); "
                "x = l.Llama(m, lora_path=a, logits_all=True, n_ctx=128, n_batch=128, verbose=False); x.eval(t); "
                "np.save(sys.stdout.buffer, np.array(x.scores[:len(t)]))")
        done = subprocess.run([sys.executable, "-c", code, os.path.join(mg.OUT, toy + ".gguf"), path,
                               json.dumps(tokens)], capture_output=True)
        if done.returncode:
            words.append("llama-cpp-python crashes")
        else:
            import io
            x = np.load(io.BytesIO(done.stdout))
            words.append("its logits differ by %.1e" % (np.abs(x - logits).max() / np.abs(logits).max()))
    return "# llama.cpp: " + "; ".join(words) if words else ""


def make(name):
    toy, options = ADAPTERS[name]
    with tempfile.TemporaryDirectory() as temp:
        base = os.path.join(temp, toy)
        folder = os.path.join(temp, name)
        os.mkdir(base)
        model = base_of(toy, base)
        model = peft.get_peft_model(model, peft.LoraConfig(**options))
        fill(model, len(name) * 7 + 1)
        model.save_pretrained(folder)
        path = os.path.join(OUT, name + ".gguf")
        subprocess.run([sys.executable, mg.CONVERT, folder, "-o", path, "--base", base], check=True)
        model = model.double().eval()
        tokens = [int(t) for t in np.random.default_rng(5).integers(3, mg.TOYS[toy]["vocab_size"], 24)]
        logits = mg.run(model, tokens)
        with model.disable_adapter():
            plain = mg.run(model, tokens)
        peer = llama_cpp(name, folder, base, path, toy, tokens, logits.numpy())
    lines = ["# made by tests/make_lora_goldens.py: peft %s, transformers %s, torch %s, float64, unmerged" % (
        peft.__version__, transformers.__version__, torch.__version__.split("+")[0]),
        "# %s" % json.dumps(options), "# without the adapter the logits differ by %.3g of the largest" % (
            float((plain - logits).abs().max() / logits.abs().max()))]
    if peer:
        lines.append(peer)
    lines += ["base " + toy, "prompt " + " ".join(map(str, tokens))]
    lines += ["logits %d %s" % (p, mg.nums(logits[p])) for p in (0, 1, 15, 16, len(tokens) - 1)]
    with open(os.path.join(OUT, name + ".txt"), "w") as f:
        f.write("\n".join(lines) + "\n")
    print("%-12s %6d bytes %s %s" % (name, os.path.getsize(path), lines[2], peer), flush=True)


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    for name in sys.argv[1:] or ADAPTERS:
        make(name)


if __name__ == "__main__":
    main()
