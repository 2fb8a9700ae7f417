#!/usr/bin/env python3
"""choose_test.py BUILD [N]: gpt_choose against transformers. The bundled model with its weights as F32 (gguf) is given to both; N
(200) prompts with 2 to 20 choices, which share beginnings, begin each other, or change how the prompt's last word is cut into
tokens. Log-probabilities must agree within 1e-4, and so must the best one. Then examples/beam.c against transformers' beams: the same
texts, scores within 1e-4. Needs gguf, torch, transformers; BUILD/t/choose_probe and BUILD/beam are made by make."""
import os
import random
import subprocess
import sys
import tempfile

import gguf
import numpy
import torch
import transformers

MODEL = "examples/models/stories.gguf"


def as_f32(path, out):
    """The same file with all tensors as F32."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, "gpt2")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1])
        else:
            writer.add_key_value(field.name, field.contents(), kind)
    for t in reader.tensors:
        data = gguf.quants.dequantize(t.data, t.tensor_type).astype(numpy.float32)
        writer.add_tensor(t.name, data.reshape([int(x) for x in reversed(t.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2(path):
    """transformers' GPT-2 with the file's weights; its Conv1D has them the other way round."""
    reader = gguf.GGUFReader(path)
    key = {k: f.contents() for k, f in reader.fields.items() if k.startswith(("gpt2.", "tokenizer.ggml.eos"))}
    w = {t.name: torch.from_numpy(numpy.array(t.data)).reshape([int(x) for x in reversed(t.shape)]) for t in reader.tensors}
    config = transformers.GPT2Config(
        vocab_size=w["token_embd.weight"].shape[0], n_positions=key["gpt2.context_length"], n_embd=key["gpt2.embedding_length"],
        n_layer=key["gpt2.block_count"], n_head=key["gpt2.attention.head_count"], n_inner=key["gpt2.feed_forward_length"],
        layer_norm_epsilon=key["gpt2.attention.layer_norm_epsilon"], bos_token_id=0,
        eos_token_id=key["tokenizer.ggml.eos_token_id"], pad_token_id=key["tokenizer.ggml.eos_token_id"])
    model = transformers.GPT2LMHeadModel(config).eval()
    state = {"transformer.wte.weight": w["token_embd.weight"], "transformer.wpe.weight": w["position_embd.weight"],
             "transformer.ln_f.weight": w["output_norm.weight"], "transformer.ln_f.bias": w["output_norm.bias"],
             "lm_head.weight": w.get("output.weight", w["token_embd.weight"])}
    names = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
             "mlp.c_proj": "ffn_down"}
    for i in range(config.n_layer):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                x = w[f"blk.{i}.{theirs}.{part}"]
                state[f"transformer.h.{i}.{ours}.{part}"] = x.T.contiguous() if x.dim() == 2 else x
    model.load_state_dict(state)
    return model


def questions(n):
    rng = random.Random(7)
    words = ("happy sad happier happily big bigger dog dogs cat the a and ran run running park to Lily Tom was were said red ball "
             "little tree trees sun sunny play played playing with his her mom dad").split()
    for _ in range(n):
        prompt = "Once upon a time, there was " + " ".join(rng.choice(words) for _ in range(rng.randint(1, 30)))
        if rng.random() < 0.3:                  # the choice goes on in the middle of a word
            prompt = prompt[: -rng.randint(1, 2)]
        stem = " " + " ".join(rng.choice(words) for _ in range(rng.randint(0, 3)))
        choices = []
        while len(choices) < rng.randint(2, 20):
            text = (stem.rstrip() if rng.random() < 0.6 else "") + rng.choice([" ", "", ". ", "\n"]) + rng.choice(words)
            if rng.random() < 0.2 and choices:  # one that begins with another
                text = rng.choice(choices) + rng.choice(["s", " and", "!", " é"])
            choices.append(text)
        yield prompt, choices


def log_p(model, tokenizer, prompt, choices):
    ids = tokenizer(prompt)["input_ids"]
    texts = [tokenizer(prompt + c)["input_ids"] for c in choices]
    same = len(ids)
    for t in texts:
        k = 0
        while k < same and k < len(t) and t[k] == ids[k]:
            k += 1
        same = min(k, len(t) - 1)
    out = []
    for t in texts:
        with torch.no_grad():
            logits = model(torch.tensor([t])).logits[0].double()
        lp = torch.log_softmax(logits, -1)
        out.append(sum(lp[i - 1, t[i]].item() for i in range(same, len(t))))
    return out


def beams(build, path, model, tokenizer, n):
    """n searches with 1 to 5 beams: the number that differ."""
    differ = 0
    for i, (prompt, _) in enumerate(questions(n)):
        width, most = 1 + i % 5, 10 + 3 * (i % 8)
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        run = subprocess.run([os.path.join(build, "beam"), "-m", path, "-p", prompt, "-w", str(width), "-n", str(most), "--kv", "f32"],
                             stdout=subprocess.PIPE, check=True)
        got = [float(line.split(" ")[0]) for line in run.stdout.decode().split("\n") if line.endswith((" ended", " open"))]
        with torch.no_grad():
            if width > 1:
                want = model.generate(ids, num_beams=width, num_return_sequences=width, do_sample=False, max_new_tokens=most,
                                      early_stopping="never", return_dict_in_generate=True, output_scores=True)
                scores, texts = want.sequences_scores.tolist(), want.sequences
            else:
                texts = model.generate(ids, do_sample=False, max_new_tokens=most)
                lp = torch.log_softmax(model(texts).logits[0].double(), -1)
                scores = [sum(lp[k - 1, texts[0, k]].item() for k in range(ids.shape[1], texts.shape[1])) / (texts.shape[1] - ids.shape[1])]
        text = tokenizer.decode(texts[0][ids.shape[1]:], skip_special_tokens=True)
        best = run.stdout.decode().split("\n", 1)[1] if run.stdout else ""
        if len(got) != width or max(abs(a - b) for a, b in zip(got, scores)) > 1e-4 or not best.startswith(text):
            differ += 1
            if differ < 4:
                print(f"{prompt!r}: {width} beams, {most} tokens: got {got} {best[:200]!r}, expected {scores} {text!r}")
    return differ


def main():
    build, n = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    escape = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "f32.gguf")
        as_f32(MODEL, path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp, gguf_file="f32.gguf")
        model = gpt2(path)
        asked = list(questions(n))
        lines = "".join("\t".join(x.translate(escape) for x in [p] + c) + "\n" for p, c in asked)
        run = subprocess.run([os.path.join(build, "t", "choose_probe"), path], input=lines.encode(), stdout=subprocess.PIPE, check=True)
        answers = run.stdout.decode().splitlines()
        passed = failed = 0
        worst = 0.0
        for (prompt, choices), answer in zip(asked, answers):
            want = log_p(model, tokenizer, prompt, choices)
            got = answer.split("\t")
            try:
                off = max(abs(float(g) - w) for g, w in zip(got[:-1], want))
                best = want[int(got[-1])] >= max(want) - 1e-4
            except ValueError:
                off, best = float("inf"), False
            worst = max(worst, off)
            if off <= 1e-4 and best and len(got) == len(choices) + 1:
                passed += 1
            else:
                failed += 1
                if failed < 6:
                    print(f"{prompt!r} {choices}: got {answer}, expected {want}")
        failed += len(asked) - len(answers)
        print(f"largest difference {worst:.2g}")
        differ = beams(build, path, model, tokenizer, 20)
        passed += 20 - differ
        failed += differ
        print(f"choose_py: {passed} passed, {failed} failed")
        return failed != 0


if __name__ == "__main__":
    sys.exit(main())
