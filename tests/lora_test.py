"""usage: lora_test.py TRAIN   examples/train.c's adapters beside llama.cpp: an adapter that --lora wrote, loaded by
llama-cpp-python beside its base, gives the loss that --eval --adapter gives. Skips without llama_cpp and numpy."""
import re, subprocess, sys, tempfile
try:
    import llama_cpp as ll
    import numpy as np
except ImportError:
    print("lora_test: skipped, llama_cpp and numpy are missing")
    sys.exit(0)

train, model = sys.argv[1], "examples/models/stories.gguf"
quiet = ll.llama_log_callback(lambda *_: None)      # kept, as it is called to the end
ll.llama_log_set(quiet, None)


def run(*arguments):
    done = subprocess.run([train, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit("lora_test: %s" % done.stderr)
    return done.stdout


def loss(base, adapter, text):
    """Mean negative log-probability of all tokens of the text but the first."""
    m = ll.llama_model_load_from_file(base.encode(), ll.llama_model_default_params())
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.type_k, params.type_v, params.flash_attn_type = 256, 256, 0, 0, 0
    c = ll.llama_init_from_model(m, params)
    if adapter:
        a = ll.llama_adapter_lora_init(m, adapter.encode())
        assert a, "llama.cpp does not load the adapter"
        ll.llama_set_adapters_lora(c, (ll.llama_adapter_lora_p_ctypes * 1)(a), 1, (ll.ctypes.c_float * 1)(1.0))
    ids = (ll.llama_token * 256)()
    n = ll.llama_tokenize(ll.llama_model_get_vocab(m), text.encode(), len(text.encode()), ids, 256, False, True)
    batch = ll.llama_batch_init(256, 0, 1)
    for i in range(n):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = ids[i], i, 1, 0, 1
    batch.n_tokens = n
    assert ll.llama_decode(c, batch) == 0
    n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(m))
    x = np.ctypeslib.as_array(ll.llama_get_logits(c), shape=(n, n_vocab)).astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    ll.llama_batch_free(batch), ll.llama_free(c), ll.llama_model_free(m)
    return -np.mean([logp[i, ids[i + 1]] for i in range(n - 1)])


failed = 0
with tempfile.TemporaryDirectory() as folder:
    text = "Add this song to my list.\nWhat will the weather be like in Spain?\nBook a table for two.\n" * 2
    for name, data in (("t.txt", text), ("p.tsv", "hello there\tGood day!\nwho are you?\tA little dog.\n" * 20)):
        open(f"{folder}/{name}", "w").write(data)
    # the base in F32, as llama.cpp rounds what it multiplies by Q8_0
    run(f"{folder}/t.txt", "--init", model, "-o", f"{folder}/base.gguf", "--type", "f32", "--steps", "1", "--lr", "1e-12",
        "--held-out", "0")
    for rank, alpha in ((4, 8), (6, 3)):
        out = f"{folder}/a{rank}.gguf"
        run(f"{folder}/p.tsv", "--init", f"{folder}/base.gguf", "-o", out, "--lora", str(rank), "--lora-alpha", str(alpha),
            "--steps", "20", "--batch", "4", "--held-out", "0", "--lr", "1e-2", "--warmup", "2")
        said = run(f"{folder}/t.txt", "--init", f"{folder}/base.gguf", "--adapter", out, "--eval", "--context", "255")
        ours = float(re.search(r"loss ([0-9.]+) nats/token", said).group(1))
        theirs, plain = loss(f"{folder}/base.gguf", out, text), loss(f"{folder}/base.gguf", None, text)
        good = abs(ours - theirs) < 1e-4 and abs(theirs - plain) > 0.05     # four decimals are printed
        failed += not good
        print(f"rank {rank}, alpha {alpha}: train {ours:.4f}, llama.cpp {theirs:.6f}, without the adapter {plain:.6f}: "
              + ("ok" if good else "DIFFERENT"))
sys.exit(failed != 0)
