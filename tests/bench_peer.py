#!/usr/bin/env python3
"""Speed of llama.cpp (llama-cpp-python) on the same GGUF files as build/bench, in the same lines: bench_peer.py -m MODEL
[-p 512] [-n 64] [-t THREADS] [-r 3]. Random tokens, greedy, weights in memory before the clock starts."""
import argparse
import ctypes
import statistics
import time

import llama_cpp as L


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("-m", required=True)
    ap.add_argument("-p", type=int, default=512)
    ap.add_argument("-n", type=int, default=64)
    ap.add_argument("-d", type=int, default=0)
    ap.add_argument("-t", type=int, default=2)
    ap.add_argument("-r", type=int, default=3)
    a = ap.parse_args()
    quiet = L.llama_log_callback(lambda *args: None)
    L.llama_log_set(quiet, ctypes.c_void_p(0))
    L.llama_backend_init()
    start = time.perf_counter()
    mp = L.llama_model_default_params()
    mp.n_gpu_layers = 0
    model = L.llama_model_load_from_file(a.m.encode(), mp)
    if not model:
        raise SystemExit(f"bench_peer.py: {a.m}: llama.cpp cannot load it")
    cp = L.llama_context_default_params()
    cp.n_ctx = max(a.p, a.d + a.n) + 64
    cp.n_batch = cp.n_ubatch = 512
    cp.n_threads = cp.n_threads_batch = a.t
    ctx = L.llama_init_from_model(model, cp)
    vocab = L.llama_model_get_vocab(model)
    n_vocab = L.llama_vocab_n_tokens(vocab) or 32000
    print(f"load   {1e3 * (time.perf_counter() - start):.2f} ms")

    def run(ids):
        arr = (L.llama_token * len(ids))(*ids)
        for at in range(0, len(ids), 512):
            part = (L.llama_token * len(ids[at:at + 512]))(*ids[at:at + 512])
            if L.llama_decode(ctx, L.llama_batch_get_one(part, len(part))):
                raise SystemExit("bench_peer.py: llama_decode failed")
        del arr
        L.llama_synchronize(ctx)

    def clear():
        L.llama_memory_clear(L.llama_get_memory(ctx), True)

    prompt = [(i * 7919 + 13) % n_vocab for i in range(a.p)]
    run(prompt[:32])
    pp, tg = [], []
    for _ in range(a.r):
        clear()
        start = time.perf_counter()
        run(prompt)
        pp.append(a.p / (time.perf_counter() - start))
        clear()
        run([(i * 31 + 5) % n_vocab for i in range(max(a.d, 1))])
        start = time.perf_counter()
        for i in range(a.n):
            run([(i * 104729 + 7) % n_vocab])
        tg.append(a.n / (time.perf_counter() - start))
    print(f"pp{a.p}  {statistics.median(pp):.1f} tok/s")
    print(f"tg{a.n}   {statistics.median(tg):.1f} tok/s")


if __name__ == "__main__":
    main()
