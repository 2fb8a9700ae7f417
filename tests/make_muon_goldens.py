#!/usr/bin/env python3
"""Writes golden/train_muon.bin: what two steps of Muon make of the toy model that unit_train.c trains, in float64 by NumPy.

Both steps have the gradients of golden/train_toy.bin, which PyTorch computed, and start from the weights of the same formula
(see make_train_goldens.py). The optimiser is written after Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the
scale of Liu et al. 2025, arXiv:2502.16982; queries, keys and values are three matrices. The file holds the matrices of the
blocks in train.c's order, little-endian f32.

    python tests/make_muon_goldens.py           (needs numpy)
"""
import os

import numpy as np

V, L, D, T = 37, 2, 20, 11
RATE, MUON, DECAY, CLIP, MOMENTUM = 0.01, 3, 0.1, 0.5, 0.95
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
BLOCK = ((D,), (D,), (3 * D, D), (3 * D,), (D, D), (D,), (D,), (D,), (4 * D, D), (4 * D,), (D, 4 * D), (D,))
SHAPES = ((V, D), (T, D), (D,), (D,)) + L * BLOCK


def start(index, shape):
    """The weights of tensor number index, a matrix."""
    h = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(index * 100003)) * np.uint64(2654435761) % np.uint64(1 << 32)
    return ((h >> np.uint64(8)) / float(1 << 24) - 0.5).reshape(shape) * 0.2


def newton_schulz(x):
    x = x / np.linalg.norm(x)
    wide = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(5):
        a = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * a + 2.0315 * a @ a) @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


def main():
    torch = np.fromfile(os.path.join(GOLDEN, "train_toy.bin"), "<f4").astype(np.float64)
    norm, at, out = torch[1], 2, []
    for index, shape in enumerate(SHAPES):
        gradient = torch[at:at + np.prod(shape)].reshape(shape) * min(1, CLIP / norm)
        at += np.prod(shape)
        if index < 4 or len(shape) < 2:
            continue
        parts = 3 if shape[0] == 3 * shape[1] else 1
        for w, g in zip(np.split(start(index, shape), parts), np.split(gradient, parts)):
            momentum = np.zeros_like(w)
            for _ in range(2):
                momentum += (1 - MOMENTUM) * (g - momentum)
                nesterov = g + MOMENTUM * (momentum - g)
                w = w * (1 - RATE * MUON * DECAY) - RATE * MUON * 0.2 * max(w.shape) ** 0.5 * newton_schulz(nesterov)
            out.append(w.reshape(-1))
    path = os.path.join(GOLDEN, "train_muon.bin")
    np.concatenate(out).astype("<f4").tofile(path)
    print(path, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
