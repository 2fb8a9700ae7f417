#!/usr/bin/env python3
"""Compares gpt.h with llama.cpp (llama-cpp-python) on GGUF files: real_test.py PROBE MODEL...

Token ids of many texts, log-probabilities of one, greedy text; in every number format, how far the log-probabilities of both
are from exact ones. PROBE is tests/real_probe.c, compiled; files of 4 bytes for each weight are written beside it. Skips, and
says so, without llama-cpp-python and numpy."""
import concurrent.futures
import ctypes
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile

try:
    import llama_cpp as L
    import numpy as np
except ImportError as e:
    print(f"skipped: the comparison with llama.cpp: {e}")
    print("real_test: 0 passed, 0 failed")
    sys.exit(0)
from check import check, report

HERE = os.path.dirname(os.path.abspath(__file__))
BOS, SPECIAL = 1, 2             # GPT_TOKENIZE_*
N_GREEDY = 96                   # tokens to write after each prompt


def read(*path):
    with open(os.path.join(HERE, *path), "rb") as f:
        return f.read()


# ---- What is compared ----

PROSE = """The lighthouse on the northern cape was built in 1871, after three ships had been lost on the rocks in a single winter. \
Its keeper, a quiet man called Anders, climbed the 214 steps every evening and lit the lamp before the sun was gone. He wrote \
down the weather, the passing ships and the state of the oil in a thick grey book, and he never missed a day. When the first \
engineers came to replace the lamp with an electric one, he asked them only whether the light would be the same colour.

"It will be whiter," said the older of the two. "You can see it from thirty miles away."

Anders thought about this for a while. "Then the birds will see it too," he said, and he was right: in the autumn of that year \
hundreds of them flew against the glass. The engineers hung a net around the tower, and the birds learned to keep away from it. \
In the evenings the keeper still went up, although there was nothing left for him to do. He looked at the sea, which was the \
same as always, and wrote into his book: wind from the west, two ships, all well.

Today the tower is a museum. Children count the steps and get a different number each time; the right one is painted on the \
wall at the top, where nobody looks, because from there you can see the whole of the bay, the harbour with its red boats, and \
on clear days the mountains on the other side.
"""
PROMPTS = [b"The meaning of life is", b"Once upon a time", b"def fibonacci(n):\n", b"Die Hauptstadt von Frankreich ist",
           b"The three laws of thermodynamics are:\n1."]
LANGUAGES = [
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.", "Portez ce vieux whisky au juge blond qui fume.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia.", "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.", "דג סקרן שט בים מאוכזב ולפתע מצא חברה", "نص حكيم له سر قاطع وذو شأن عظيم",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า", "いろはにほへと ちりぬるを。色は匂へど",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。", "키스의 고유조건은 입술끼리 만나야 하고", "Pchnąć w tę łódź jeża lub ośm skrzyń fig",
    "Đêm qua tôi mơ thấy mình bay trên những mái nhà", "ქართული ენა", "Հայերեն լեզու", "አማርኛ ቋንቋ", "བོད་སྐད", "မြန်မာဘာသာ", "Ünïcödé e\u0301 n\u0303 \ufb01",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ☃️ 𝔘𝔫𝔦 𐍈 \U000e0041", "\ufeffBOM\u200b\u200d\u2060\u00ad\u202e", "\u0000\u0001\u007f\u0085\u2028\u2029", "१२३ ٣٤٥ ½ Ⅻ ²",
]
CODE = [
    'int main(int argc, char **argv) {\n\tfor (size_t i = 0; i < n; i++)\n\t\tprintf("%s\\n", argv[i]);\n\treturn 0;\n}\n',
    "def f(self, *args):\n    \"\"\"Doc.\"\"\"\n    return {k: v for k, v in self.__dict__.items() if k[0] != '_'}\n",
    "<html><body class=\"a b\">\r\n<p>&amp;</p></body></html>\r\n", '{"a": [1, 2.5e-3, null], "b": "\\u00e9"}',
    "SELECT * FROM t WHERE x >= 10 AND y <> 'it''s';", "a=1;b=22;c=333;d=4444;e=55555 1,234,567.89 0x1F 3.14159265358979",
]
CHAT = [
    "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi <there>!<|im_end|>\n<|im_start|>assistant\n",
    "<start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\n", "<bos><start_of_turn>user\n\n\n  Hi<end_of_turn>",
    "<|endoftext|>", "a<|endoftext|>b", " <|im_start|> x <|im_end|> ", "<|im_start|><|im_start|><|im_end", "<s>a</s>", "<eos>\n<pad> <unk><mask>",
    "<unused0>[multimodal]<unused42> x", "<0x41><0x00>", "<|im_start", "\u2581a\u2581\u2581b", "<end_of_turn>\n\n\n\n", "<b>x</b><table></table><strong>",
    "<repo_name>a<file_sep>b<issue_start>", "<start_of_image>", "<2mass>",
]
ODD = [b"", b" ", b"\n", b"\xff", b"a\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82\xac\x80\x80", b"\xf0\x9f\x98", b"\xf8\x88\x80\x80\x80",
       b"\xc0\xaf", b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xef\xbf\xbf\xef\xbf\xbe", bytes(range(256)), bytes(range(255, -1, -1))]


def texts():
    """(what it is, bytes) of every text whose tokens are compared."""
    yield "README.md", read("..", "README.md")
    yield "gpt.h, its first 50,000 bytes", read("..", "gpt.h")[:50000]
    yield "prose", PROSE.encode()
    for i, text in enumerate(read("golden", "tokenizer_texts.txt").split(b"\n__text__\n")):
        yield f"tokenizer_texts.txt, text {i}", text
    for name, group in (("language", LANGUAGES), ("code", CODE), ("chat", CHAT)):
        for i, text in enumerate(group):
            yield f"{name} {i}", text.encode()
    for i, text in enumerate(ODD):
        yield f"odd {i}", text
    for n in range(1, 301):
        yield f"{n} spaces", b" " * n
    for n in range(1, 41):
        for mark in (b"\n", b"\t", b"\r\n", b"a", b"=", b"-", b"0", "\u2581".encode()):
            yield f"{n} times {mark!r}", mark * n
        yield f"{n} spaces in text", b"a" + b" " * n + b"b\n" + b" " * n + b"\n" + b"\t" * n + b" x"
    draw = random.Random(1)
    pool = [c.encode() for c in "  \n\t aeistNRT09.,'\"<>|_éßжא中한🙂\u0301\u2581\u3000"] + [b"'s", b"'LL", b"\r\n", b"the", b" and"]
    for i in range(300):
        yield f"random {i}", b"".join(draw.choice(pool) for _ in range(draw.randint(1, 60)))


# ---- llama.cpp ----

class Peer:
    def __init__(self, path, n_threads=1):
        mp = L.llama_model_default_params()
        mp.n_gpu_layers = 0
        self.model = L.llama_model_load_from_file(path.encode(), mp)
        if not self.model:
            raise ValueError("llama.cpp cannot load it")
        self.vocab = L.llama_model_get_vocab(self.model)
        self.n_vocab = L.llama_vocab_n_tokens(self.vocab)
        cp = L.llama_context_default_params()
        cp.n_ctx = cp.n_batch = cp.n_ubatch = 1024
        cp.n_threads = cp.n_threads_batch = n_threads
        cp.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_DISABLED
        cp.type_k = cp.type_v = L.GGML_TYPE_F32
        self.context = L.llama_init_from_model(self.model, cp)
        if not self.context:
            raise ValueError("llama.cpp makes no context for it")

    def tokenize(self, text, flags):
        ids = (L.llama_token * (len(text) + 16))()
        n = L.llama_tokenize(self.vocab, text, len(text), ids, len(ids), bool(flags & BOS), bool(flags & SPECIAL))
        return list(ids[:n])

    def logits(self, ids):
        """[len(ids), n_vocab]: what follows each token."""
        n = len(ids)
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        failed = L.llama_decode(self.context, batch)
        L.llama_batch_free(batch)
        if failed:
            raise ValueError("llama_decode failed")
        return np.ctypeslib.as_array(L.llama_get_logits(self.context), (n, self.n_vocab)).copy()

    def score(self, ids):
        """[len(ids) - 1]: log p of each token but the first."""
        out = []
        for row, token in zip(self.logits(ids), ids[1:]):
            row = row.astype(np.float64) - row.max()
            out.append(row[token] - np.log(np.exp(row).sum()))
        return np.array(out)

    def text(self, token):
        out = ctypes.create_string_buffer(256)
        n = L.llama_token_to_piece(self.vocab, token, out, len(out), 0, True)
        return out.raw[:max(n, 0)].decode(errors="replace")

    def free(self):
        L.llama_free(self.context)
        L.llama_model_free(self.model)


class Ours:
    def __init__(self, probe, path, n_threads=1):
        self.program = subprocess.Popen([probe, path, str(n_threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)})

    def ask(self, request):
        self.program.stdin.write(request.encode() + b"\n")
        self.program.stdin.flush()
        line = self.program.stdout.readline()
        if not line.endswith(b"\n"):
            raise ValueError("real_probe gives no answer")
        return line.split()

    def tokenize(self, text, flags):
        return [int(i) for i in self.ask(f"t {flags} {text.hex()}")]

    def score(self, ids):
        """[len(ids) - 1]: log p of each token but the first."""
        return np.array([float(x) for x in self.ask("s " + " ".join(map(str, ids)))])[1:]

    def greedy(self, ids, n):
        return [int(i) for i in self.ask(f"g {n} " + " ".join(map(str, ids)))]

    def free(self):
        self.program.stdin.close()
        self.program.stdout.close()
        self.program.wait()


# ---- The comparison ----

def known(peer, text, flags):
    """Why llama.cpp is no judge of this text, or None."""
    try:
        plain = text.decode()
    except UnicodeDecodeError:      # it makes U+FFFD of such bytes, takes the next byte along, or aborts, by the tokenizer
        return "not UTF-8"
    if L.llama_vocab_type(peer.vocab) != L.LLAMA_VOCAB_TYPE_SPM:
        return None
    if " \u2581" in plain or "\u2581 " in plain:        # one run of spaces for SentencePiece: neither gpt.h nor llama.cpp takes it so
        return "U+2581 next to a space"
    if "</s>" in plain and not flags & SPECIAL:         # a plain token (212) of Gemma's; llama.cpp makes every </s> control
        return "</s> as plain text"
    if plain.startswith("<bos>") and flags == BOS | SPECIAL:    # gpt.h takes the spelled BOS for the one to be added
        return "a BOS spelled and asked for"
    return None


def compare_tokens(name, peer, ours):
    left_out, spm = {}, L.llama_vocab_type(peer.vocab) == L.LLAMA_VOCAB_TYPE_SPM
    for what, text in texts():
        for flags in range(4):
            reason = known(peer, text, flags)
            found = ours.tokenize(text, flags)
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            expected = peer.tokenize(text, flags)
            if spm and expected != found and b"\xe2\x96\x81" in text:
                # For SentencePiece U+2581 is a space, also in a run; llama.cpp joins only what was a space in the text.
                expected = peer.tokenize(text.replace(b"\xe2\x96\x81", b" "), flags)
            at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
            check(expected == found, f"{name}: tokens of {what}, flags {flags}, from token {at}: {text[:60]!r}\n"
                  f"  expected: {expected[at:at + 8]}\n  found:    {found[at:at + 8]}")
    print(f"  tokens: left out: {', '.join(f'{n} x {reason}' for reason, n in left_out.items()) or 'none'}")


# llama.cpp multiplies weights of 4 to 6 bits with activations that it rounds to 8 bits, so its own logits have an error. The
# differences for PROSE, measured with SmolLM2 Q4_1 and Gemma 3 Q4_K_M, in nats: of the means 0.007 and 0.008, root mean
# square 0.08 and 0.12, largest 0.31 and 0.56. The bounds
# are about twice that and more for the mean; they are for PROSE, as other texts hold single tokens that are further off.
MEAN, RMS, LARGEST = 0.03, 0.2, 1.2
# Of two logits each may be off, so the loser of a near tie may win by as much: 0.44 is the largest of 960 that was measured.
TIE = 0.7


def compare_scores(name, peer, ours):
    ids = ours.tokenize(PROSE.encode(), BOS)
    expected = peer.score(ids)
    off = ours.score(ids) - expected
    mean, rms, largest, at = off.mean(), np.sqrt((off ** 2).mean()), np.abs(off).max(), np.abs(off).argmax() + 1
    print(f"  log-probabilities of {len(ids)} tokens: mean {expected.mean():.4f}, ours {mean:+.4f}; rms {rms:.4f}, largest {largest:.4f}")
    check(abs(mean) <= MEAN, f"{name}: mean log-probability {mean:+.4f} off, at most {MEAN} is expected")
    check(rms <= RMS, f"{name}: log-probabilities {rms:.4f} off (root mean square), at most {RMS} is expected")
    check(largest <= LARGEST, f"{name}: log-probability of token {at} ({peer.text(ids[at])!r}) {largest:.4f} off, at most {LARGEST}")


def compare_greedy(name, peer, ours):
    """llama.cpp reads along: each token that gpt.h has chosen must be its best one too, or nearly."""
    same = 0
    for prompt in PROMPTS:
        ids = ours.tokenize(prompt, BOS)
        written = ours.greedy(ids, N_GREEDY)
        logits = peer.logits(ids + written)[len(ids) - 1:-1]
        behind = logits.max(-1) - logits[np.arange(N_GREEDY), written]
        same += int((behind == 0).sum())
        at = int(behind.argmax())
        check(behind[at] <= TIE, f"{name}: greedy after {prompt!r}, token {at}: llama.cpp prefers "
              f"{peer.text(int(logits[at].argmax()))!r} to {peer.text(written[at])!r} by {behind[at]:.3f}, at most {TIE}")
    n = N_GREEDY * len(PROMPTS)
    print(f"  greedy: {same} of {n} tokens are llama.cpp's first choice too")
    check(same >= 0.9 * n, f"{name}: only {same} of {n} greedy tokens are llama.cpp's first choice")      # measured: 0.96 and more


# ---- The noise of rounded activations, in every number format ----

# Products with weights of few bits round their activations to 8 bits, with one scale for 32 of them in gpt.h; in llama.cpp for 32
# too, or for 256 where the format's blocks are that long. So does a product with F16, to 13 and to 11 bits, and llama.cpp's with
# BF16, to 8. How much that moves log p is measured for each format with the model's own weights: all matrices whose rows are whole
# blocks are in it, all others in F32. Exact is gpt.h's F32 with the same weights, which llama.cpp has decoded; and that of the
# weights in F32 is 64-bit arithmetic of the transformers package.
#
# gpt.h may not be further off than llama.cpp. Both roundings are draws: the mean of n differences of |errors| is 0 or less, give or
# take its standard error. (A token's difference tells nothing of the next one's: measured, their correlation is 0.0 +- 0.1.)
# Z standard errors are allowed: were all comparisons of two models between equals, one run of a hundred would fail.
COMPARISONS = 60
Z = statistics.NormalDist().inv_cdf(1 - 0.01 / COMPARISONS)
LARGEST_MODEL = 5e8             # weights; two files of 4 bytes for each


def formats():
    """(name, ggml's number, weights of a block) of each row of gpt.h's table."""
    text = read("..", "gpt.h").decode()
    table = text[text.index("gpti_formats[] = {"):text.index("#define GPTI_N_FORMAT")]
    return [(name, int(number), int(n)) for name, number, n in re.findall(r'\{ "(\w+)", +(\d+), +(\d+),', table)]


def requantize(path, out, number, instead, shapes):
    """llama.cpp writes `path` with its matrices as type `number`, those named in `instead` as F32. Of importance all columns
    have the same: some types want one."""
    params = L.llama_model_quantize_default_params()
    params.ftype = L.LLAMA_FTYPE_MOSTLY_Q4_0        # any that allows overrides; one for each tensor follows
    params.allow_requantize = params.pure = True
    types = [(b"^%s$" % re.escape(name).encode(), L.GGML_TYPE_F32) for name in instead] + [(b"", number)]
    params.tt_overrides = (L.llama_model_tensor_override * (len(types) + 1))(*types)
    weighted = [(name, shape[0] * int(np.prod(shape[2:]))) for name, shape in shapes.items() if shape[0] % 256 == 0]
    ones = (ctypes.c_float * max((n for _, n in weighted), default=1))()
    ones[:] = [1.0] * len(ones)
    params.imatrix = (L.llama_model_imatrix_data * (len(weighted) + 1))(*(
        (name.encode(), ctypes.cast(ones, ctypes.POINTER(ctypes.c_float)), n) for name, n in weighted))
    if L.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)):
        raise ValueError("llama.cpp does not write it")


def peer_score(path, ids):
    peer = Peer(path, os.cpu_count())
    out = peer.score(ids)
    peer.free()
    return out


def transformers_score(path, ids):
    """In 64-bit floats."""
    os.environ["TQDM_DISABLE"] = "1"        # no progress bars
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    folder, name = os.path.split(os.path.abspath(path))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        logp = model.eval()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].numpy()


no_log = L.llama_log_callback(lambda *args: None)


def begin():
    L.llama_log_set(no_log, ctypes.c_void_p(0))
    L.llama_backend_init()


class Refused(Exception):
    """By llama.cpp, or by transformers."""


def alone(run, *arguments):
    """run(*arguments) in a process of its own, as an assertion of llama.cpp's ends the process."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin) as child:
        try:
            return child.submit(run, *arguments).result()
        except concurrent.futures.BrokenExecutor:
            raise Refused("llama.cpp aborts")
        except Exception as e:
            raise Refused(str(e) or type(e).__name__)


def compare_noise(name, probe):
    try:
        import gguf
    except ImportError as e:
        print(f"skipped: {name}: the noise of number formats: {e}")
        return
    shapes = {t.name: [int(n) for n in t.shape] for t in gguf.GGUFReader(name).tensors if len(t.shape) > 1}
    if sum(int(np.prod(shape)) for shape in shapes.values()) > LARGEST_MODEL:
        print(f"skipped: {name}: the noise of number formats: more than {LARGEST_MODEL:.0f} weights")
        return

    ours = Ours(probe, name)
    ids = ours.tokenize(PROSE.encode(), BOS)
    ours.free()

    def score(path):
        ours = Ours(probe, path, os.cpu_count())
        out = ours.score(ids)
        ours.free()
        return out

    def no_worse(what, more):
        allowed = Z * more.std(ddof=1) / np.sqrt(len(more))
        check(more.mean() <= allowed,
              f"{name}: {what}: gpt.h is further from exact by {more.mean():.2g}; {allowed:.2g} may be chance")
        return allowed

    def compare(what, n, found, peer, exact):
        off, peer_off = abs(found - exact), abs(peer - exact)
        allowed = no_worse(what, off - peer_off)
        print(f"  {what:12} {n:8} {exact.mean():9.3f} {off.mean():11.3g} {off.max():8.3g} {peer_off.mean():12.3g} {peer_off.max():8.3g} "
              f"{allowed:9.2g}", flush=True)
        return min(off.mean(), peer_off.mean()), (off - peer_off) / peer_off.mean()

    print(f"  |log p - exact log p| of {len(ids) - 1} tokens\n  {'':12} {'matrices':>8} {'log p':>9} {'gpt.h: mean':>11} {'largest':>8} "
          f"{'llama.cpp:':>12} {'largest':>8} {'chance':>9}")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(probe)) as folder:
        base, narrow, wide = (os.path.join(folder, part + ".gguf") for part in ("base", "narrow", "wide"))
        alone(requantize, name, base, L.GGML_TYPE_F32, [], shapes)
        found = exact = score(base)
        compare("as published", len(shapes), score(name), alone(peer_score, name, ids), exact)
        least, own_error, shares = np.inf, None, []
        for what, number, block in formats():
            instead = [tensor for tensor, shape in shapes.items() if shape[0] % block]
            try:
                if len(instead) == len(shapes):
                    raise Refused("no matrix has rows of whole blocks")
                if number >= L.GGML_TYPE_COUNT:
                    raise Refused("llama.cpp does not know it")
                if number == L.GGML_TYPE_F32:
                    exact = alone(transformers_score, base, ids)
                    own_error = abs(found - exact).mean()
                    compare(what, len(shapes), found, alone(peer_score, base, ids), exact)
                    continue
                alone(requantize, base, narrow, number, instead, shapes)
                alone(requantize, narrow, wide, L.GGML_TYPE_F32, [], shapes)
                mean, share = compare(what, len(shapes) - len(instead), score(narrow), alone(peer_score, narrow, ids), score(wide))
                if block > 1:
                    least = min(least, mean)
                if 1 < block < 256:
                    shares.append(share)
            except Refused as e:
                print(f"skipped: {name}: {what}: {e}")
        check(shares != [], f"{name}: no format of few bits was compared")
        if shares:                      # both round alike: together they show smaller differences, as shares of llama.cpp's noise
            together = np.mean(shares, 0)
            allowed = no_worse("formats with blocks below 256 together", together)
            print(f"  {len(shares)} formats with blocks below 256: gpt.h is further off by {together.mean():+.1%} of llama.cpp's noise; "
                  f"{allowed:.1%} may be chance")
        if own_error is not None:       # small enough to call it exact
            check(own_error <= least / 100, f"{name}: F32 is {own_error:.2g} from exact, the least noise is {least:.2g}")


def main():
    begin()
    for path in sys.argv[2:]:
        print(f"{path}, beside llama.cpp", flush=True)
        try:
            peer = Peer(path)
        except ValueError as e:
            print(f"skipped: {path}: {e}")
            continue
        ours = Ours(sys.argv[1], path)
        try:
            for compare in (compare_tokens, compare_scores, compare_greedy):
                compare(path, peer, ours)
                sys.stdout.flush()
        except (ValueError, OSError) as e:
            check(False, f"{path}: {e}")
        ours.free()
        peer.free()
        try:
            compare_noise(path, sys.argv[1])
        except (ValueError, OSError, Refused) as e:
            check(False, f"{path}: noise: {e}")
    return report("real_test")


if __name__ == "__main__":
    sys.exit(main())
