#!/usr/bin/env python3
"""Writes golden/train_toy.bin and golden/train_pairs.bin: what PyTorch makes of the toy model that unit_train.c trains.

The weights follow from a formula that both sides share (start() here, toy_start() in unit_train.c), so the file holds only
results, little-endian f32 throughout: loss, length of the gradient, all gradients, and all weights after two steps of AdamW
with clipping. Order of the weights: as in train.c, without the padding. Computed in float64 by transformers' GPT-2.
train_pairs.bin is about three texts of which the end alone counts, each computed by itself: loss, length of the gradient, the
gradients of both embeddings; then with PEFT's adapter on all matrices of the blocks: loss, length of the gradient, the
gradients of the adapter and its weights after a step of AdamW with clipping.

    python tests/make_train_goldens.py          (needs torch, transformers, peft, numpy)
"""
import os

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

V, L, H, D, T, B = 37, 2, 2, 20, 11, 3
R, ALPHA = 3, 5
PAIRS = ((12, 5), (7, 1), (9, 6))      # tokens of a text, the first that counts
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


def toy():
    """The model, its matrices and vectors, all tokens."""
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
    return model, params, matrices, vectors, text.view(B, T + 1)


def loss_of_pairs(model, text):
    losses = []
    for row, (n, begin) in zip(text, PAIRS):
        logits = model(row[None, : n - 1]).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits[begin - 1 :], row[begin:n], reduction="sum"))
    return sum(losses) / sum(n - begin for n, begin in PAIRS)


def write(name, out):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", name)
    np.concatenate(out).astype("<f4").tofile(path)
    print(path, os.path.getsize(path), "bytes, loss", out[0][0], "gradient", out[0][1])


def pairs():
    model, params, _, _, text = toy()
    loss = loss_of_pairs(model, text)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    out = [np.array([loss.item(), norm.item()])]
    out += [params[f"transformer.{name}.weight"].grad.reshape(-1).numpy() for name in ("wte", "wpe")]
    model = get_peft_model(toy()[0], LoraConfig(r=R, lora_alpha=ALPHA, lora_dropout=0, fan_in_fan_out=True,
                                                target_modules=["c_attn", "c_proj", "c_fc"])).double()
    found, adapter = dict(model.named_parameters()), []
    index = len(list(names()))
    for layer in range(L):
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            for ab in "AB":
                p = found[f"base_model.model.transformer.h.{layer}.{part}.lora_{ab}.default.weight"]
                with torch.no_grad():
                    p.copy_(torch.tensor(start(index, p.numel(), False).reshape(p.shape).astype(np.float64)))
                adapter.append(p)
                index += 1
    assert len(adapter) == sum(p.requires_grad for p in model.parameters())
    optimiser = torch.optim.AdamW(adapter, lr=RATE, betas=(BETA1, BETA2), eps=EPS, weight_decay=DECAY)
    loss = loss_of_pairs(model, text)
    loss.backward()
    grad = [p.grad.clone().reshape(-1).numpy() for p in adapter]
    norm = torch.nn.utils.clip_grad_norm_(adapter, CLIP)
    optimiser.step()
    out += [np.array([loss.item(), norm.item()])] + grad + [p.detach().reshape(-1).numpy() for p in adapter]
    write("train_pairs.bin", out)


def main():
    model, params, matrices, vectors, text = toy()
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
    write("train_toy.bin", out)
    pairs()


if __name__ == "__main__":
    main()
