#!/usr/bin/env python3
"""Write golden/sampling.inc: what Hugging Face transformers leaves of small logit vectors, and with what probability.

transformers applies temperature first; gpt.h applies it last, so that top_p and min_p mean the same at any temperature.
The warpers are therefore called here in gpt.h's order. Cases in which a cut falls within 1e-5 of a candidate
are left out.

golden/samplers.inc: the same of llama.cpp's samplers, in orders of their own, on the first tokens of a vocabulary of bytes,
golden/bytes_vocab.gguf, which is written too (DRY asks for their text). Cases are left out in which a slightly other parameter would leave other tokens,
and top-n-sigma together with what counts or weighs candidates, as llama.cpp leaves those in the list that it excludes.
"""
import ctypes
import os
import textwrap
import gguf
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


NAMES = ['penalties', 'dry', 'top_n_sigma', 'top_k', 'typ_p', 'top_p', 'min_p', 'xtc', 'temperature']
FIELDS = ['repeat_penalty', 'frequency_penalty', 'presence_penalty', 'top_p', 'min_p', 'temperature', 'top_n_sigma',
          'typical_p', 'xtc_threshold', 'dry_multiplier', 'dry_base', 'dynatemp_range', 'dynatemp_exponent']


def llama_left(c, vocab, p, order, logits, history, scale):
    """Probabilities of what llama.cpp's chain leaves; scale is a factor for what decides which those are."""
    def init(name):
        if name == 'penalties':
            return c.llama_sampler_init_penalties(MAX, 64, p['repeat_penalty'], p['frequency_penalty'],
                                                  p['presence_penalty'])
        if name == 'dry':
            marks = (ctypes.c_char_p * len(p['breakers']))(*[b.encode() for b in p['breakers']])
            return c.llama_sampler_init_dry(vocab, p['dry_multiplier'], p['dry_base'], p['dry_allowed_length'],
                                            p['dry_last_n'] or 64, marks, len(p['breakers']))
        return {'top_n_sigma': lambda: c.llama_sampler_init_top_n_sigma(p['top_n_sigma'] * scale),
                'top_k': lambda: c.llama_sampler_init_top_k(p['top_k']),
                'typ_p': lambda: c.llama_sampler_init_typical(p['typical_p'] * scale, 1),
                'top_p': lambda: c.llama_sampler_init_top_p(p['top_p'] * scale, 1),
                'min_p': lambda: c.llama_sampler_init_min_p(p['min_p'] * scale, 1),
                'xtc': lambda: c.llama_sampler_init_xtc(1.0, p['xtc_threshold'] * scale, 1, 0),
                'temperature': lambda: c.llama_sampler_init_temp_ext(p['temperature'], p['dynatemp_range'],
                                                                     p['dynatemp_exponent'])}[name]()
    data = (c.llama_token_data * len(logits))(*[c.llama_token_data(i, float(x), 0.0) for i, x in enumerate(logits)])
    array = c.llama_token_data_array(data, len(logits), -1, False)
    for name in order:
        sampler = init(name)
        for token in history:
            c.llama_sampler_accept(sampler, int(token))
        c.llama_sampler_apply(sampler, ctypes.byref(array))
        c.llama_sampler_free(sampler)
    s = np.full(len(logits), -np.inf)
    for i in range(array.size):
        s[array.data[i].id] = array.data[i].logit
    e = np.exp(s - s.max())
    return e / e.sum()


def llama_row(c, vocab, rng, i):
    n = int(rng.integers(6, MAX + 1))
    logits = (rng.standard_normal(n) * rng.choice([0.5, 1, 2, 4])).astype(np.float32)
    piece = rng.integers(0, min(n, 12), int(rng.integers(3, 9))).tolist()
    history = ((rng.integers(0, n, 6).tolist() + piece) * 4)[int(rng.integers(0, 8)):][:44]
    history += piece[:int(rng.integers(1, len(piece) + 1))]
    history = (history + [1] + history[:3] if i % 5 == 0 else history)[-48:]        # token 1 is a double quote
    if i < 18:                                          # each alone, some with a temperature behind it
        order = [NAMES[i % 9]] + ['temperature'] * (i > 8 and NAMES[i % 9] != 'temperature')
    else:
        order = [NAMES[k] for k in rng.permutation(9)[:rng.integers(2, 7)]]
    p = {'repeat_penalty': rng.choice([1.1, 1.7, 0.6]), 'frequency_penalty': rng.choice([0, 0.1, 0.4]),
         'presence_penalty': rng.choice([0, 0.3, -0.2]), 'top_p': rng.choice([0.3, 0.6, 0.9, 0.97]),
         'min_p': rng.choice([0.02, 0.1, 0.4]), 'temperature': rng.choice([0.5, 0.8, 1.3]),
         'top_n_sigma': rng.choice([0.5, 1, 1.5, 2]), 'typical_p': rng.choice([0.1, 0.3, 0.6, 0.9, 0.97]),
         'xtc_threshold': rng.choice([0.02, 0.05, 0.1, 0.2, 0.4]), 'dry_multiplier': rng.choice([0.1, 0.4, 0.8]),
         'dry_base': rng.choice([1, 1.2, 1.75]), 'dynatemp_range': rng.choice([0, 0.3, 1]),
         'dynatemp_exponent': rng.choice([1, 0.5, 2])}
    p = {k: float(np.float32(v)) for k, v in p.items()}
    p.update(top_k=int(rng.choice([1, 3, 8, n + 5])), dry_allowed_length=int(rng.choice([1, 2, 3])),
             dry_last_n=int(rng.choice([0, 0, 10, 20])), breakers=str(rng.choice(['"', '*:"', '!', ''])))
    if 'top_n_sigma' in order and ('typ_p' in order or ('temperature' in order and p['dynatemp_range'] > 0)):
        return None
    prob, low, high = (llama_left(c, vocab, p, order, logits, history, 1 + x) for x in (0, -1e-4, 1e-4))
    if ((low > 0) != (prob > 0)).any() or ((high > 0) != (prob > 0)).any():
        return None

    def real(x):
        t = '%.9g' % x
        return (t if '.' in t or 'e' in t else t + '.0') + 'f'

    def array(words):
        return textwrap.fill('{ ' + ', '.join(words) + ' }', 116, initial_indent='  ', subsequent_indent='    ')
    return '{ "%s", "%s", %d, %d, %d, %d, %d,\n%s,\n%s,\n%s,\n%s },\n' % (
        ';'.join(order), p['breakers'].replace('"', '\\"'), n, len(history), p['top_k'], p['dry_allowed_length'],
        p['dry_last_n'], array(real(p[k]) for k in FIELDS), array(map(real, logits)), array(map(str, history)),
        array('%.8g' % x for x in prob))


def vocabulary(path):
    """Writes a GGUF file without weights: GPT-2's 256 bytes in its order, one merge, as there must be some, and the end."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b != 173]
    others = sorted(set(range(256)) - set(printable))
    tokens = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))] + ['th', '<|endoftext|>']
    w = gguf.GGUFWriter(path, 'gpt2')
    w.add_context_length(32)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.add_head_count(1)
    w.add_feed_forward_length(32)
    w.add_layer_norm_eps(1e-5)
    w.add_tokenizer_model('gpt2')
    w.add_tokenizer_pre('gpt-2')
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    w.add_token_merges(['t h'])
    w.add_bos_token_id(len(tokens) - 1)
    w.add_eos_token_id(len(tokens) - 1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def llama_rows(here):
    from llama_cpp import llama_cpp as c
    import llama_cpp
    c.llama_backend_init()
    path = os.path.join(here, 'golden', 'bytes_vocab.gguf')
    vocabulary(path)
    params = c.llama_model_default_params()
    params.vocab_only = True
    model = c.llama_model_load_from_file(path.encode(), params)
    vocab = c.llama_model_get_vocab(model)
    rng = np.random.default_rng(20241107)
    rows = [r for r in (llama_row(c, vocab, rng, i) for i in range(160)) if r]
    with open(os.path.join(here, 'golden', 'samplers.inc'), 'w') as f:
        f.write('/* By make_sampling_goldens.py, llama-cpp-python %s: the order, DRY\'s breakers, n_vocab, n_history, top_k,\n'
                ' * dry_allowed_length, dry_last_n; %s;\n * logits, history, probability of each token (0 = cut). XTC'
                ' at probability 1. */\n' % (llama_cpp.__version__, ',\n * '.join(
                    ', '.join(FIELDS[k:k + 6]) for k in (0, 6, 12))))
        f.write(''.join(rows))
    print('samplers.inc', len(rows), 'cases')


def main():
    llama_rows(os.path.dirname(os.path.abspath(__file__)))
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
