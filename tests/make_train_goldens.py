#!/usr/bin/env python3
"""Writes golden/train_toy.bin: what PyTorch makes of the toy model that unit_train.c trains.

The weights follow from a formula that both sides share (start() here, toy_start() in unit_train.c), so the file holds only
results, little-endian f32 throughout: loss, length of the gradient, all gradients, and all weights after two steps of AdamW
with clipping. Order of the weights: as in train.c, without the padding. Computed in float64 by transformers' GPT-2.

    python tests/make_train_goldens.py          (needs torch, transformers, numpy)
"""
import os

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

V, L, H, D, T, B = 37, 2, 2, 20, 11, 3
RATE, BETA1, BETA2, EPS, DECAY, CLIP = 0.01, 0.9, 0.98, 1e-4, 0.1, 0.5


def start(index, n, norm):
    """Weight i of tensor number index: a multiplicative hash in [-0.1, 0.1); the norms' weights are 1 more."""
    i = np.arange(n, dtype=np.uint64) + np.uint64(index * 100003)
    h = (i * np.uint64(2654435761)) % np.uint64(1 << 32)
    return (np.float32(1.0 if norm else 0.0) + ((h >> np.uint64(8)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)) * np.float32(0.2))


def names():
    """(name in transformers, is a norm's weight, is a matrix), in train.c's order."""
    yield "transformer.wte.weight", False, True
    yield "transformer.wpe.weight", False, True
    yield "transformer.ln_f.weight", True, False
    yield "transformer.ln_f.bias", False, False
    for layer in range(L):
        for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            norm = part.startswith("ln")
            yield f"transformer.h.{layer}.{part}.weight", norm, not norm
            yield f"transformer.h.{layer}.{part}.bias", False, False


def transposed(name):
    """transformers keeps these as [in, out]; train.c and GGUF as [out, in]."""
    return ".c_" in name and name.endswith("weight")


def main():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=D, n_layer=L, n_head=H, resid_pdrop=0, embd_pdrop=0,
                                       attn_pdrop=0, activation_function="gelu_new")).double()
    params = dict(model.named_parameters())
    matrices, vectors = [], []
    for index, (name, norm, matrix) in enumerate(names()):
        p = params[name]
        shape = p.shape[::-1] if transposed(name) else p.shape
        w = torch.tensor(start(index, p.numel(), norm).reshape(shape).astype(np.float64))
        with torch.no_grad():
            p.copy_(w.T if transposed(name) else w)
        (matrices if matrix else vectors).append(p)
    i = torch.arange(B * (T + 1))
    text = (i * i * 7 + i * 3 + 5) % V
    text = text.view(B, T + 1)
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(BETA1, BETA2), eps=EPS)

    def flat(what):
        rows = []
        for name, _, _ in names():
            x = (params[name].grad if what == "grad" else params[name]).detach()
            rows.append((x.T if transposed(name) else x).reshape(-1).numpy())
        return np.concatenate(rows)

    out = []
    for step in range(2):
        optimiser.zero_grad()
        logits = model(text[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), text[:, 1:].reshape(-1))
        loss.backward()
        grad = flat("grad")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        if step == 0:
            out += [np.array([loss.item(), norm.item()]), grad]
        optimiser.step()
    out.append(flat("param"))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "train_toy.bin")
    np.concatenate(out).astype("<f4").tofile(path)
    print(path, os.path.getsize(path), "bytes, loss", out[0][0], "gradient", out[0][1])


if __name__ == "__main__":
    main()
