"""usage: quantize_test.py BUILD   whole files of BUILD/quantize beside other encoders: every format beside the gguf package or,
with LLAMA_CPP, a folder of llama.cpp's sources, beside ggml-quants.c, with an importance matrix too; metadata, order and places
of tensors beside the gguf package's reader. Skips without numpy and gguf."""
import os, subprocess, sys, tempfile
import check

build = sys.argv[1]
try:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter, quants
    from gguf.constants import GGMLQuantizationType as T
    import make_format_goldens as goldens
except ImportError as e:
    print("quantize_test: skipped: %s" % e)
    sys.exit(0)

random = np.random.default_rng(1)


def numbers(rows, columns):
    """Rows of very different sizes: of a bell, even, far out, of one sign, with zeros, of few values. No -0.0: where a scale is
    zero, encoders differ in its sign."""
    x = random.standard_normal((rows, columns)) * 10.0 ** random.uniform(-5, 2.5, (rows, 1))
    x[1::8] = random.uniform(-1, 1, x[1::8].shape)
    x[2::8] = np.clip(x[2::8] ** 3, -6e4, 6e4)
    x[3::8] = abs(x[3::8])
    x[4::8] *= np.repeat(random.random((len(x[4::8]), columns // 16)) < 0.7, 16, axis=1)
    x[5::8] = np.round(x[5::8] * 4) / 4
    x[6::8] = -abs(x[6::8])
    x[7::8] *= random.random(x[7::8].shape) < 0.1
    x[8], x[16], x[24] = 0, 1.5, -1.5
    return x.astype(np.float32) + np.float32(0)


def write(path, tensors, **settings):
    w = GGUFWriter(path, "toy")
    w.add_string("general.name", settings.get("name", "a toy"))
    if "file_type" in settings:
        w.add_file_type(settings["file_type"])
    if "alignment" in settings:
        w.add_custom_alignment(settings["alignment"])
    w.add_array("toy.words", ["one", "two", "three"])
    w.add_array("toy.numbers", [1, 2, 3])
    w.add_float32("toy.float", 0.1)
    w.add_bool("toy.bool", True)
    w.add_uint64("toy.long", 1 << 40)
    for name, x in tensors.items():
        w.add_tensor(name, x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def quantize(*arguments):
    done = subprocess.run([build + "/quantize", *arguments], capture_output=True, text=True)
    check.check(done.returncode == 0, "quantize %s" % (arguments,), done.stderr)
    return done.returncode == 0


def fields(reader, without=()):
    return [(name, [bytes(p) for p in f.parts[2:]]) for name, f in reader.fields.items()
            if not name.startswith("GGUF.") and name not in without]


# llama.cpp's choice for rows that are no whole number of blocks; F16 where that does not fit either
INSTEAD = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL",
           "TQ1_0": "Q4_0", "TQ2_0": "Q4_0", "Q1_0": "Q4_0", "Q2_0": "Q4_0"}


def name_for(name, columns):
    for kind in (name, INSTEAD.get(name, name)):
        if columns % goldens.layout(kind)[1] == 0:
            return kind
    return "F16"


def encoded(library, name, rows, importance=None):
    """What other encoders make of rows; None where there is none."""
    if name in goldens.ENCODED and importance is None:
        return quants.quantize(rows, T[name])
    return library and goldens.encoded_by_llama_cpp(library, name, rows, importance)


def one_format(library, here, there, tensors, name, matrix, means):
    """IN in one format, beside what is expected of each tensor."""
    what = name + (", weighted" if matrix else "")
    if not quantize(here, there, name.lower(), *(["--imatrix", matrix] if matrix else [])):
        return
    if name in goldens.IN_C:                        # the gguf package cannot read these types
        raw = open(there, "rb").read()
        for tensor in ("token_embd.weight", "blk.0.ffn_up_exps.weight"):
            rows = tensors[tensor].reshape(-1, tensors[tensor].shape[-1])
            check.check(encoded(library, name, rows).tobytes() in raw, "%s: %s" % (what, tensor))
        return
    was, now = GGUFReader(here), GGUFReader(there)
    check.check(fields(was, ("general.file_type",)) == fields(now, ("general.file_type", "general.quantization_version")),
                what + ": metadata")
    check.check(now.fields["general.quantization_version"].contents() == 2, what + ": quantization_version")
    check.check([t.name for t in was.tensors] == [t.name for t in now.tensors], what + ": order of tensors")
    for t in now.tensors:
        x = tensors[t.name]
        if t.name in KEPT:
            check.check(bytes(t.data) == x.tobytes(), "%s: %s, as it was" % (what, t.name))
            continue
        kind = name_for(name, x.shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        mean = means.get(t.name) if matrix and kind in goldens.WEIGHTED else None
        if mean is None:
            expected = encoded(library, kind, rows)
        else:
            expected = np.concatenate([encoded(library, kind, part, m) for part, m in zip(np.split(rows, len(mean)), mean)])
        check.check(T(t.tensor_type).name == kind, "%s: %s, its type" % (what, t.name), kind, t.tensor_type)
        if expected is not None:
            check.check(bytes(t.data) == expected.tobytes(), "%s: %s" % (what, t.name))


KEPT = ("blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.ssm_a")


def main(folder):
    library = goldens.load_llama_cpp() if os.environ.get("LLAMA_CPP") else None
    if not library:
        print("quantize_test: no LLAMA_CPP: K formats, IQ4 and importance are left out")
    here, there, matrix = (os.path.join(folder, name) for name in ("in.gguf", "out.gguf", "importance.gguf"))
    tensors = {"token_embd.weight": numbers(200, 512), "blk.0.attn_norm.weight": numbers(32, 16)[0],
               "blk.0.ffn_gate_inp.weight": numbers(32, 512), "blk.0.ffn_up_exps.weight": numbers(96, 256).reshape(3, 32, 256),
               "blk.0.ssm_a": numbers(32, 64), "blk.0.ffn_down.weight": numbers(32, 96), "output.weight": numbers(32, 80)}
    write(here, tensors, file_type=0)
    # of two tensors, one with experts, the second of which nothing met
    sums = {name: (random.random((n, tensors[name].shape[-1])) ** 4 * 100).astype(np.float32)
            for name, n in (("token_embd.weight", 1), ("blk.0.ffn_up_exps.weight", 3))}
    counts = {name: np.array([[5], [0], [9]][:len(x)], np.float32) for name, x in sums.items()}
    with np.errstate(divide="ignore"):
        means = {name: np.where(counts[name] > 0, x / counts[name], 1).astype(np.float32) for name, x in sums.items()}
    write(matrix, {**{name + ".in_sum2": x for name, x in sums.items()}, **{name + ".counts": x for name, x in counts.items()}})
    for name in goldens.ENCODED + (goldens.ENCODED_IN_C if library else []):
        one_format(library, here, there, tensors, name, None, means)
    for name in goldens.WEIGHTED if library else []:
        one_format(library, here, there, tensors, name, matrix, means)
    # An alignment of its own, no file type, and formats to decode: their floats are those of the gguf package.
    for name in ("F16", "BF16", "Q8_0", "Q5_1", "Q4_K"):
        x = tensors["token_embd.weight"]
        write(here, {"token_embd.weight": x, "a.weight": x[:1, :48]}, alignment=128)
        if not quantize(here, there, name.lower()) or not quantize(there, here + "2", "f32"):
            continue
        a, b = (GGUFReader(p) for p in (there, here + "2"))
        check.check(a.data_offset % 128 == 0 and all(t.data_offset % 128 == 0 for t in a.tensors), "%s: alignment" % name)
        check.check("general.file_type" in a.fields, "%s: file type" % name)
        back = quants.dequantize(a.tensors[0].data, T[name]).astype(np.float32)
        check.check(bytes(b.tensors[0].data) == back.tobytes(), "%s, decoded" % name)
    # What no format has a place for is refused by the tensor's name.
    for bad in (np.nan, np.inf, -1e5):
        x = tensors["token_embd.weight"].copy()
        x[7, 300] = bad
        write(here, {"token_embd.weight": x})
        done = subprocess.run([build + "/quantize", here, there + "3", "q4_0"], capture_output=True, text=True)
        check.check(done.returncode == 1 and "token_embd.weight: row 7 holds" in done.stderr, "%g" % bad, done.stderr)
        check.check(not os.path.exists(there + "3"), "%g: no file" % bad)
    return check.report("quantize_test")


with tempfile.TemporaryDirectory() as folder:
    status = main(folder)
sys.exit(status)
