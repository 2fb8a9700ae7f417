"""usage: lora_test.py BUILD   adapters that BUILD/train --lora wrote, beside their base in other libraries: PEFT on transformers'
GPT-2 in float64 gives the loss that --eval --adapter gives; llama.cpp loads them, and they change its loss as much. Skips what is
not installed: torch, transformers, peft and gguf; llama_cpp."""
import re, subprocess, sys, tempfile

build, model = sys.argv[1], "examples/models/stories.gguf"


def run(program, *arguments):
    done = subprocess.run([f"{build}/{program}", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit("lora_test: %s" % done.stderr)
    return done.stdout


def peft_loss(base, adapter, ids):
    """Mean negative log-probability of all tokens but the first."""
    file = GGUFReader(base)
    number = lambda key: int(file.fields["gpt2." + key].parts[-1][0])
    config = GPT2Config(vocab_size=len(file.fields["tokenizer.ggml.tokens"].data), n_positions=number("context_length"),
                        n_embd=number("embedding_length"), n_layer=number("block_count"), n_head=number("attention.head_count"),
                        layer_norm_epsilon=float(file.fields["gpt2.attention.layer_norm_epsilon"].parts[-1][0]),
                        bos_token_id=0, eos_token_id=0)
    names = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "attn_norm": "ln_1", "ffn_norm": "ln_2",
             "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}

    def theirs(name):
        *block, part, kind = re.sub(r"\.weight\.lora", ".lora", name).split(".")
        return "transformer." + ("h.%s." % block[1] if block else "") + names[part], kind

    lm = GPT2LMHeadModel(config).double().eval()
    state = dict(lm.named_parameters())
    with torch.no_grad():
        for t in file.tensors:
            where, kind = theirs(t.name)
            w = torch.tensor(t.data.copy()).double()        # [out, in], and transformers' c_ have [in, out]
            state.pop(f"{where}.{kind}").copy_(w.T if ".c_" in where and kind == "weight" else w)
        assert not state, state.keys()
        if adapter:
            tensors = GGUFReader(adapter).tensors
            alpha = float(GGUFReader(adapter).fields["adapter.lora.alpha"].parts[-1][0])
            rank = int(next(t for t in tensors if t.name.endswith("lora_a")).shape[1])
            lm = get_peft_model(lm, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0, fan_in_fan_out=True,
                                               target_modules=["c_attn", "c_proj", "c_fc"])).double().eval()
            state = {n: p for n, p in lm.named_parameters() if ".lora_" in n}
            for t in tensors:
                where, kind = theirs(t.name)
                name = f"base_model.model.{where}.{kind[:5]}{kind[5:].upper()}.default.weight"
                state.pop(name).copy_(torch.tensor(t.data.copy()).double())
            assert not state, state.keys()
        logp = torch.log_softmax(lm(torch.tensor([ids[:-1]])).logits[0], dim=-1)
    return -logp.gather(1, torch.tensor(ids[1:])[:, None]).mean().item()


def llama_loss(base, adapter, ids):
    m = ll.llama_model_load_from_file(base.encode(), ll.llama_model_default_params())
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.type_k, params.type_v, params.flash_attn_type = 256, 256, 0, 0, 0
    c = ll.llama_init_from_model(m, params)
    if adapter:
        a = ll.llama_adapter_lora_init(m, adapter.encode())
        assert a, "llama.cpp does not load the adapter"
        ll.llama_set_adapters_lora(c, (ll.llama_adapter_lora_p_ctypes * 1)(a), 1, (ll.ctypes.c_float * 1)(1.0))
    batch = ll.llama_batch_init(256, 0, 1)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    batch.n_tokens = n = len(ids)
    assert ll.llama_decode(c, batch) == 0
    n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(m))
    x = np.ctypeslib.as_array(ll.llama_get_logits(c), shape=(n, n_vocab)).astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    ll.llama_batch_free(batch), ll.llama_free(c), ll.llama_model_free(m)
    return -np.mean([logp[i, ids[i + 1]] for i in range(n - 1)])


try:
    import torch
    from gguf import GGUFReader
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel
except ImportError as missing:
    sys.exit(print("lora_test: skipped:", missing))
try:
    import llama_cpp as ll
    import numpy as np
    quiet = ll.llama_log_callback(lambda *_: None)      # kept, as it is called to the end
    ll.llama_log_set(quiet, None)
except ImportError:
    ll = None

failed = 0
with tempfile.TemporaryDirectory() as folder:
    text = "Add this song to my list.\nWhat will the weather be like in Spain?\nBook a table for two.\n" * 2
    for name, data in (("t.txt", text), ("p.tsv", "hello there\tGood day!\nwho are you?\tA little dog.\n" * 20)):
        open(f"{folder}/{name}", "w").write(data)
    base = f"{folder}/base.gguf"
    run("train", f"{folder}/t.txt", "--init", model, "-o", base, "--type", "f32", "--steps", "1", "--lr", "1e-12", "--held-out", "0")
    ids = [int(x) for x in run("tokenize", "-m", base, "-f", f"{folder}/t.txt").split()]
    for rank, alpha in ((0, 0), (4, 8), (6, 3)):
        adapter = f"{folder}/a{rank}.gguf" if rank else None
        if rank:
            run("train", f"{folder}/p.tsv", "--init", base, "-o", adapter, "--lora", str(rank), "--lora-alpha", str(alpha), "--steps",
                "20", "--batch", "4", "--held-out", "0", "--lr", "1e-2", "--warmup", "2")
        said = run("train", f"{folder}/t.txt", "--init", base, "--eval", "--context", "255", *(["--adapter", adapter] if rank else []))
        ours = float(re.search(r"loss ([0-9.]+) nats/token", said).group(1))
        theirs, cpp = peft_loss(base, adapter, ids), llama_loss(base, adapter, ids) if ll else 0
        if not rank:
            plain, plain_cpp = theirs, cpp
        # train prints four decimals. llama.cpp's GELU is a table in F16: two losses of it are apart by what they are wrong alone.
        good = abs(ours - theirs) < 1e-4 and (not rank or abs(theirs - plain) > 0.05)
        good = good and (not ll or abs((cpp - plain_cpp) - (theirs - plain)) < 1e-3)
        failed += not good
        print(f"rank {rank}, alpha {alpha}: train {ours:.4f}, PEFT {theirs:.6f}, llama.cpp {cpp:.6f}: " + ("ok" if good else "DIFFERENT"))
sys.exit(failed != 0)
