#!/usr/bin/env python3
"""Writes tests/golden/embed: seeded toy models that make vectors, with what transformers and sentence-transformers compute.

    python tests/make_embed_goldens.py [NAME ...]       all toys, or the named ones

Each toy is a sentence-transformers folder of odd sizes with random weights, config.json in the form its makers publish. It is
converted by tools/convert_weights.py to F32 GGUF, to Q8_0 where its name says so, or, where that ends in _cpp, by llama.cpp's
converter (LLAMA_CPP: a folder with its sources), and evaluated in float64 with eager attention. The text format:

    # comment
    text T               a text, with \\n and \\\\ escaped, to be tokenized as the file says; where there is none, ids alone are
    ids I I ...          its tokens, those at its ends included
    hidden P V V ...     the hidden state of position P behind the last norm
    raw V V ...          the pooled vector
    vector V V ...       what sentence-transformers gives: behind the dense layers, of length 1

requirements: torch transformers sentence-transformers tokenizers gguf safetensors numpy
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import models

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "golden", "embed")
CONVERT = os.path.join(HERE, "..", "tools", "convert_weights.py")

BERT = dict(model_type="bert", architectures=["BertModel"], hidden_size=30, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=44, max_position_embeddings=72, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12,
            hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, initializer_range=0.02, pad_token_id=0,
            position_embedding_type="absolute", use_cache=True)
NOMIC = dict(model_type="nomic_bert", architectures=["NomicBertModel"], activation_function="swiglu", causal=False, n_embd=36,
             n_head=3, n_inner=50, n_layer=2, n_positions=8192, max_trained_positions=2048, layer_norm_epsilon=1e-12,
             mlp_fc1_bias=False, mlp_fc2_bias=False, qkv_proj_bias=False, pad_vocab_size_multiple=64, parallel_block=False,
             prenorm=False, rotary_emb_base=1000, rotary_emb_fraction=1.0, rotary_emb_interleaved=False,
             rotary_emb_scale_base=None, scale_attn_weights=True, type_vocab_size=2, use_rms_norm=False)
NOMIC_NEW = dict(model_type="nomic_bert", architectures=["NomicBertModel"], hidden_size=36, num_attention_heads=3,
                 hidden_act="silu", intermediate_size=50, num_hidden_layers=2, max_position_embeddings=2048,
                 layer_norm_eps=1e-12, type_vocab_size=2, head_dim=12,
                 rope_parameters={"rope_theta": 1000.0, "rope_type": "default"})
GEMMA = dict(model_type="gemma3_text", architectures=["Gemma3TextModel"], hidden_size=30, num_hidden_layers=6,
             num_attention_heads=3, num_key_value_heads=1, head_dim=8, intermediate_size=14, vocab_size=67,
             max_position_embeddings=128, rms_norm_eps=1e-6, rope_theta=1000000.0, rope_local_base_freq=10000.0,
             query_pre_attn_scalar=8, sliding_window=9, use_bidirectional_attention=True, attention_bias=False,
             hidden_activation="gelu_pytorch_tanh", final_logit_softcapping=None, attn_logit_softcapping=None,
             layer_types=["sliding_attention"] * 5 + ["full_attention"], bos_token_id=2, eos_token_id=1, pad_token_id=0)
QWEN3 = dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], hidden_size=28, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, head_dim=8, intermediate_size=44, max_position_embeddings=128, rms_norm_eps=1e-6,
             rope_theta=1000000.0, hidden_act="silu", tie_word_embeddings=True, attention_bias=False, use_sliding_window=False,
             sliding_window=None, bos_token_id=263, eos_token_id=263)

TEXTS = ["a", "The cat sat on the mat.", "Tōkyō, Übung; naïve - đ é e\u0301 日本 ok", "",
         "one two three four five six seven eight nine ten, one two three four five six seven eight"]
TOYS = {
    "bert": (BERT, "mean"),                             # MiniLM, E5
    "bert_cpp": (BERT, "mean"),
    "bert_cased": (dict(BERT, hidden_act="gelu_new", type_vocab_size=1), "cls"),        # BGE, if it were cased
    "nomic": (NOMIC, "mean"),
    "nomic_cpp": (dict(NOMIC_NEW, **NOMIC), "mean"),     # which has transformers read config.json
    "gemma": (GEMMA, "mean"),                           # EmbeddingGemma, with its two dense layers
    "gemma_cpp": (GEMMA, "mean"),
    "gemma_q8_0": (dict(GEMMA, hidden_size=64, num_attention_heads=2, head_dim=32, intermediate_size=32), "mean"),
    "qwen3": (QWEN3, "lasttoken"),                      # Qwen3-Embedding
    "qwen3_cpp": (QWEN3, "lasttoken"),
}


def word_piece(folder, cased):
    letters = "abcdefghijklmnopqrstuvwxyz" + ("ABTÜ" if cased else "") + "đé0123456789.,;-"
    words = "the cat sat on mat ok one two three to ##ky naive ##ven ##ing 日".split()
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(letters) + ["##" + c for c in letters[:30]] + words
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(vocab) + "\n")
    t = transformers.BertTokenizerFast(os.path.join(folder, "vocab.txt"), do_lower_case=not cased, model_max_length=128)
    t.save_pretrained(folder)
    return len(vocab)


def byte_level(folder):
    from tokenizers import Regex, decoders, models as bpe, pre_tokenizers, processors
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("a", "t"), ("Ġ", "t"), ("o", "n"), ("Ġ", "s"), ("on", "e")]
    vocab = {c: i for i, c in enumerate(alphabet)}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    t = tokenizers.Tokenizer(bpe.BPE(vocab, merges))
    t.normalizer = tokenizers.normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        "isolated"), plain])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|endoftext|>"])
    end = t.token_to_id("<|endoftext|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", end)])])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
                                                padding_side="left")
    fast.save_pretrained(folder)
    path = os.path.join(folder, "tokenizer_config.json")
    conf = dict(json.load(open(path)), tokenizer_class="Qwen2Tokenizer", add_bos_token=False)
    json.dump(conf, open(path, "w"))
    return end + 1


def init_weights(module, gemma, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            r = torch.randn(p.shape, generator=gen)
            if "norm" in name.lower() and name.endswith("weight"):
                p.copy_(0.3 * r + (0.0 if gemma else 1.0))
            elif p.ndim == 1:
                p.copy_(0.3 * r)
            else:
                p.copy_(r * (0.7 if "embed" in name else 1.5 / math.sqrt(p.shape[-1])))


def native(conf):
    """What transformers reads; nomic's own code has other names."""
    return NOMIC_NEW if conf["model_type"] == "nomic_bert" else conf


def build(conf, pooling, folder, seed, cased):
    """The folder, and its modules in float64."""
    kind = conf["model_type"]
    n_vocab = byte_level(folder) if kind == "qwen3" else word_piece(folder, cased)
    conf, new = dict(native(conf)), conf
    conf.setdefault("vocab_size", n_vocab)
    path = os.path.join(folder, "config.json")
    json.dump(conf, open(path, "w"))
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModel.from_config(config, dtype=torch.float32)
    init_weights(model, kind.startswith("gemma"), seed)
    model.save_pretrained(folder)
    json.dump(conf, open(path, "w"))
    first = models.Transformer(folder, max_seq_length=min(128, conf["max_position_embeddings"]),
                               model_kwargs={"attn_implementation": "eager"})
    width = conf["hidden_size"]
    modules = [first, models.Pooling(width, pooling_mode=pooling)]
    if kind.startswith("gemma"):
        for a, b in ((width, width + 32), (width + 32, width)):
            dense = models.Dense(a, b, bias=False, activation_function=torch.nn.Identity())
            init_weights(dense, False, seed + a)
            modules.append(dense)
    modules.append(models.Normalize())
    st = sentence_transformers.SentenceTransformer(modules=modules, device="cpu")
    st.save(folder)
    json.dump(dict(new, vocab_size=n_vocab if "vocab_size" not in new else new["vocab_size"]), open(path, "w"))
    return st.double().eval()


LLAMA_CPP_CONVERT = """
import sys
sys.path.insert(0, sys.argv[1])
import convert_hf_to_gguf as tool
from conversion.base import ModelBase, TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2" if "Qwen" in str(type(self)) else "default"
if sys.argv[4] == "ids":
    def set_vocab(self):
        self.gguf_writer.add_tokenizer_model("no_vocab")
        self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])
    original = ModelBase.__init__
    def init(self, *args, **kwargs):
        type(self).set_vocab = set_vocab
        original(self, *args, **kwargs)
    ModelBase.__init__ = init
main = tool.main
sys.argv = [sys.argv[0], sys.argv[2], "--outfile", sys.argv[3], "--outtype", "f32"] + sys.argv[5:]
main()
"""


def convert(folder, path, cpp, ids_only):
    kind = "q8_0" if "q8_0" in path else "f32"
    if cpp:
        command = [sys.executable, "-c", LLAMA_CPP_CONVERT, os.environ["LLAMA_CPP"], folder, path, "ids" if ids_only else "text"]
        command += ["--sentence-transformers-dense-modules"] if ids_only else []
    else:
        command = [sys.executable, CONVERT, folder, "-o", path, "--type", kind] + (["--no-tokenizer"] if ids_only else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(done.stdout.decode())


def nums(x):
    return " ".join("%.9g" % v for v in x.tolist())


def make(name):
    conf, pooling = TOYS[name]
    base = name.removesuffix("_cpp")
    gemma = conf["model_type"] == "gemma3_text"
    lines = ["# made by tests/make_embed_goldens.py: %s, %s; sentence-transformers %s, transformers %s, torch %s, tokenizers %s, "
             "float64, eager attention" % (conf["architectures"][0], pooling, sentence_transformers.__version__,
                                           transformers.__version__, torch.__version__.split("+")[0], tokenizers.__version__)]
    path = os.path.join(OUT, name + ".gguf")
    with tempfile.TemporaryDirectory() as temp:
        folder = os.path.join(temp, base)
        os.mkdir(folder)
        st = build(conf, pooling, folder, sum(base.encode()), base.endswith("cased"))
        convert(folder, path, name.endswith("_cpp"), gemma)
        if conf is NOMIC:               # config.json as transformers writes it: the same file
            new = dict(NOMIC_NEW, vocab_size=st[0].auto_model.config.vocab_size)
            json.dump(new, open(os.path.join(folder, "config.json"), "w"))
            convert(folder, path + ".new", False, False)
            assert open(path, "rb").read() == open(path + ".new", "rb").read()
            os.remove(path + ".new")
        rng = torch.Generator().manual_seed(3)
        for text in TEXTS:
            if conf is QWEN3:
                text = text.replace("e\u0301", "e")     # its NFC has no place in GGUF
            ids = st.tokenizer(text)["input_ids"]
            if gemma:
                ids = torch.randint(3, 67, (max(1, len(ids) // 2),), generator=rng).tolist()
            else:
                lines.append("text " + text.replace("\\", "\\\\").replace("\n", "\\n"))
            lines.append("ids " + " ".join(map(str, ids)))
            batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)}
            with torch.no_grad():
                hidden = st[0](dict(batch))["token_embeddings"][0]
                raw = st[1](st[0](dict(batch)))["sentence_embedding"][0]
                vector = st(dict(batch))["sentence_embedding"][0]
            if not gemma:
                again = torch.from_numpy(st.encode([text], normalize_embeddings=True))[0]
                assert (again.double() - vector).abs().max() < 1e-9, (text, (again - vector).abs().max())
            for p in sorted({0, len(ids) // 2, len(ids) - 1}) if not name.endswith("q8_0") else []:
                lines.append("hidden %d %s" % (p, nums(hidden[p])))
            lines.append("raw " + nums(raw))
            lines.append("vector " + nums(vector))
    with open(os.path.join(OUT, name + ".txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    print("%-12s gguf %d bytes, text %d bytes" % (name, os.path.getsize(path), os.path.getsize(path[:-5] + ".txt")))


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    for name in sys.argv[1:] or TOYS:
        make(name)


if __name__ == "__main__":
    main()
