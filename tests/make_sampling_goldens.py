#!/usr/bin/env python3
"""Write golden/sampling.inc: what Hugging Face transformers leaves of small logit vectors, and with what probability.

transformers applies temperature first; gpt.h applies it last, so that top_p and min_p mean the same at any temperature.
The warpers are therefore called here in gpt.h's order. Cases in which a cut falls within 1e-5 of a candidate
are left out.
"""
import os
import textwrap
import numpy as np
import torch
from transformers import (MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper,
                          TopPLogitsWarper)

MAX = 32


def near_cut(scores, top_p, min_p):
    p = torch.softmax(scores.double(), -1).sort(descending=True).values[0]
    return bool((top_p > 0 and ((p.cumsum(0) - top_p).abs() < 1e-5).any())
                or (min_p > 0 and ((p / p[0] - min_p).abs() < 1e-5).any()))


def row(rng, i):
    n = int(rng.integers(2, MAX + 1))
    logits = (rng.standard_normal(n) * rng.choice([0.3, 1, 3, 10])).astype(np.float32)
    if i % 7 == 0:
        logits[rng.integers(0, n)] = -np.inf
    history = rng.integers(0, n, int(rng.integers(1, 9)))
    repeat = float(rng.choice([0, 0, 1.1, 1.7, 0.6]))
    top_k = int(rng.choice([0, 0, 1, 3, 8, n, n + 5]))
    top_p = float(np.float32(rng.choice([0, 0.1, 0.5, 0.9, 0.99])))
    min_p = float(np.float32(rng.choice([0, 0, 0.02, 0.1, 0.5])))
    temperature = float(np.float32(rng.choice([1, 0.3, 0.8, 2.5])))
    ids, s = torch.tensor(history[None]), torch.tensor(logits[None])
    if repeat:
        s = RepetitionPenaltyLogitsProcessor(repeat)(ids, s)
    if top_k:
        s = TopKLogitsWarper(top_k)(ids, s)
    if near_cut(s, top_p, min_p):
        return None
    if top_p:
        s = TopPLogitsWarper(top_p)(ids, s)
    if min_p:
        s = MinPLogitsWarper(min_p)(ids, s)
    s = TemperatureLogitsWarper(temperature)(ids, s)
    p = torch.softmax(s.double(), -1)[0]

    def real(x):
        t = '%.9g' % x
        return '-INFINITY' if x == -np.inf else (t if '.' in t or 'e' in t else t + '.0') + 'f'

    def array(words):
        return textwrap.fill('{ ' + ', '.join(words) + ' }', 116, initial_indent='  ', subsequent_indent='    ')
    return '{ %d, %d, %d, %s, %s, %s, %s,\n%s,\n%s,\n%s },\n' % (
        n, len(history), top_k, real(repeat), real(top_p), real(min_p), real(temperature), array(map(real, logits)),
        array(map(str, history.tolist())), array('%.8g' % x for x in p.tolist()))


def main():
    rng = np.random.default_rng(20240611)
    rows = [r for r in (row(rng, i) for i in range(64)) if r]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'golden', 'sampling.inc')
    with open(path, 'w') as f:
        f.write('/* By make_sampling_goldens.py, transformers %s: n_vocab, n_history, top_k, repeat_penalty, top_p,\n'
                ' * min_p, temperature, logits, history, probability of each token (0 = cut). */\n'
                % __import__('transformers').__version__)
        f.write(''.join(rows))
    print(path, len(rows), 'cases')


if __name__ == '__main__':
    main()
