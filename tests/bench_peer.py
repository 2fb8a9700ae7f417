#!/usr/bin/env python3
"""Speed of llama.cpp (llama-cpp-python) on the same GGUF files as build/bench, in the same lines. Random tokens; pp and
tg begin with the weights in memory; peak includes Python and its modules, which are the line "python"."""
import argparse
import ctypes
import resource
import statistics
import sys
import time

try:
    import llama_cpp as L
except ImportError:
    sys.exit(f"bench_peer.py: {sys.executable} has no llama_cpp: pip install llama-cpp-python")

BATCH = 512


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


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
    python = peak_mib()

    def run(ids):
        for at in range(0, len(ids), BATCH):
            part = (L.llama_token * len(ids[at:at + BATCH]))(*ids[at:at + BATCH])
            if L.llama_decode(ctx, L.llama_batch_get_one(part, len(part))):
                sys.exit("bench_peer.py: llama_decode failed")
        L.llama_synchronize(ctx)

    load, first = [], []
    model = ctx = None
    for _ in range(a.r):            # loads; the last model and context stay
        if ctx:
            L.llama_free(ctx)
            L.llama_model_free(model)
        start = time.perf_counter()
        mp = L.llama_model_default_params()
        mp.n_gpu_layers = 0
        model = L.llama_model_load_from_file(a.m.encode(), mp)
        if not model:
            sys.exit(f"bench_peer.py: {a.m}: llama.cpp cannot load it")
        load.append(1e3 * (time.perf_counter() - start))
        cp = L.llama_context_default_params()
        cp.n_ctx = n_ctx = min(max(a.p, a.d + a.n + 1), L.llama_model_n_ctx_train(model))    # as build/bench
        cp.n_batch = cp.n_ubatch = BATCH
        cp.n_threads = cp.n_threads_batch = a.t
        ctx = L.llama_init_from_model(model, cp)
        if not ctx:
            sys.exit(f"bench_peer.py: {a.m}: llama.cpp has no context of {n_ctx} tokens for it")
        run([0])
        first.append(1e3 * (time.perf_counter() - start))
    n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model)) or 32000
    memory = L.llama_get_memory(ctx)
    a.p, a.n = min(a.p, n_ctx), min(a.n, n_ctx - 1)
    deep = a.d > 0 and a.n > 0 and a.d + a.n < n_ctx

    prompt = [(i * 7919 + 13) % n_vocab for i in range(max(a.p, a.d if deep else 0) + 1)]
    L.llama_memory_clear(memory, True)
    run(prompt[:min(a.p, 32)])
    pp, tg, tg_deep = [], [], []
    for _ in range(a.r):
        L.llama_memory_clear(memory, True)
        start = time.perf_counter()
        run(prompt[:a.p])
        pp.append(a.p / (time.perf_counter() - start))

    def writing(depth):             # after the first depth + 1 tokens of prompt
        if not L.llama_memory_seq_rm(memory, 0, depth, -1):
            L.llama_memory_clear(memory, True)
            run(prompt[:depth])
        run(prompt[depth:depth + 1])
        start = time.perf_counter()
        for i in range(a.n):
            run([(i * 104729 + 7) % n_vocab])
        return a.n / (time.perf_counter() - start)

    if deep:
        L.llama_memory_clear(memory, True)
        run(prompt[:a.d])
        tg_deep = [writing(a.d) for _ in range(a.r)]
    if a.n:
        tg = [writing(0) for _ in range(a.r)]

    def print_writing(label, speed):
        print(f"{label:6} {speed:.1f} tok/s  {speed * L.llama_model_size(model) / 1e9:.2f} GB/s")

    print(f"load   {statistics.median(load):.2f} ms\nfirst  {statistics.median(first):.2f} ms")
    if a.p:
        print(f"{f'pp{a.p}':6} {statistics.median(pp):.1f} tok/s")
    if a.n:
        print_writing(f"tg{a.n}", statistics.median(tg))
    if deep:
        print_writing(f"tg{a.n}@{a.d}", statistics.median(tg_deep))
    elif a.d and a.n:
        print(f"tg{a.n}@{a.d} skipped: the context has {n_ctx} tokens")
    print(f"peak   {peak_mib():.1f} MiB\npython {python:.1f} MiB")


if __name__ == "__main__":
    main()
