#!/bin/sh
# usage: look_test.sh BUILD   the page of examples/look.c: whole, safe with any text, its numbers those of build/perplexity.
. tests/check.sh
bin=$1
model=$(find_model)
page=$tmp/page.html

# run ARGUMENTS...: leaves $out, $err, $status
run() {
    "$bin/look" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
    out=$(cat "$tmp/out") err=$(cat "$tmp/err")
}
# fails WHAT REGEX ARGUMENTS...: nothing on stdout, one line on stderr, no page
fails() {
    about=$1 regex=$2; shift 2
    rm -f "$page"
    run "$@" -o "$page" </dev/null
    same "$about: exit status" 1 $status
    same "$about: stdout" "" "$out"
    same "$about: lines on stderr" 1 "$(wc -l <"$tmp/err" | tr -d ' ')"
    like "$about: message" "$regex" "$err"
    same "$about: no page" "" "$(ls "$tmp" | grep '^page.html')"
}
# looks WHAT PYTHON ARGUMENTS...: a page, about whose data D the Python says something true; B are the bytes of its strip
looks() {
    about=$1 code=$2; shift 2
    run "$@" -o "$page" </dev/null
    same "$about: exit status" 0 $status || { echo "$err"; return; }
    same "$about: one line on stdout" 1 "$(wc -l <"$tmp/out" | tr -d ' ')"
    same "$about: no part is left" "" "$(ls "$tmp" | grep '[.]part$')"
    [ "$python" ] && check "$about" python3 "$tmp/look.py" "$page" "$code"
    if [ "$node" ]; then check "$about: the script parses" sh -c "python3 '$tmp/look.py' '$page' --script >'$tmp/script.js' && node --check '$tmp/script.js'"; fi
}
python= node=
if command -v python3 >/dev/null 2>&1; then python=yes; else skip "what the page holds (no python3)"; fi
if [ "$python" ] && command -v node >/dev/null 2>&1; then node=yes; else skip "node reads the page's script (no node, or no python3)"; fi

cat >"$tmp/look.py" <<'END'
import base64, json, math, re, sys
from html.parser import HTMLParser

page = open(sys.argv[1], "rb").read().decode("utf-8")       # valid UTF-8, whatever the text is
scripts, stack, inside, seen = [], [], None, []


class Reader(HTMLParser):
    def handle_starttag(self, tag, attrs):
        global inside
        seen.append((tag, dict(attrs)))
        if tag == "script":
            inside = []
            scripts.append(inside)

    def handle_endtag(self, tag):
        global inside
        inside = None if tag == "script" else inside

    def handle_data(self, data):
        if inside is not None:
            inside.append(data)


reader = Reader(convert_charrefs=True)
reader.feed(page)
reader.close()
assert page.startswith("<!DOCTYPE html>") and page.endswith("</script></body></html>\n"), "the page is not whole"
assert len(scripts) == 2, f"{len(scripts)} scripts"
script = "".join(scripts[1])
if sys.argv[2] == "--script":
    print(script)
    sys.exit()
tags = {tag for tag, _ in seen}
assert tags <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "div", "noscript", "script"}, tags
assert not any(set(a) & {"src", "href", "onload", "onclick"} for _, a in seen), "something from outside"
assert not re.search(r"url\(|@import|https?:|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script + page.split("<script")[0])
assert any("default-src 'none'" in a.get("content", "") for _, a in seen), "no policy"
D = json.loads("".join(scripts[0]))
n, P, C, L = len(D["tokens"]), D["plain"], D["changed"], D["n_layer"]
B = "".join(g[2] for g in D["groups"])


def judged(J):
    assert len(J["bits"]) == n and len(J["top"]) == n + 1 and J["bits"][0] is None and J["top"][0] is None
    assert abs(sum(J["bits"][1:]) - J["sum"]) < 1e-4 * n, "the sum of bits"
    for i, t in enumerate(J["top"][1:], 1):
        assert len(t) == 10 and t[1::2] == sorted(t[1::2], reverse=True) and sum(t[1::2]) < 1 + 1e-5, t
        if i < n and D["tokens"][i] in t[::2]:
            assert abs(t[t.index(D["tokens"][i]) + 1] - 2 ** -J["bits"][i]) < 1e-5, "surprise and probability"


judged(P)
if C:
    judged(C)
at = 0
for first, end, text in D["groups"]:
    assert first == at < end
    at = end
assert at == n, "groups cover the tokens"
m = D["map"]["n"]
assert len(D["map"]["w"]) == L
rows = 0
for layer in D["map"]["w"]:
    for head in layer:
        w = base64.b64decode(head, validate=True)
        assert len(w) == m * (m + 1) // 2
        for q in range(m):
            total = sum((x / 255) ** 2 for x in w[q * (q + 1) // 2:(q + 1) * (q + 2) // 2])
            low = 0 if D["about"].startswith("gpt-oss") else 1
            assert low - math.sqrt(q + 1) / 255 - 1e-4 < total < 1 + math.sqrt(q + 1) / 255 + 1e-4, f"a row of attention sums to {total}"
            rows += 1
assert len(D["norms"]) == L + 1 and all(len(r) == n and min(r) > 0 for r in D["norms"])
for i, r in enumerate(D["lens"]):           # what the last layer says is what the model says
    assert len(r) == 2 * L and r[-2] == P["top"][i + 1][0] and abs(r[-1] - P["top"][i + 1][1]) < 1e-5, (i, r)
names = {str(i) for i in D["tokens"]} | {str(i) for J in (P, C) if J for t in J["top"][1:] for i in t[::2]} | {str(i) for r in D["lens"] for i in r[::2]}
assert names == set(D["words"]), names ^ set(D["words"])
assert D["times"] and all(t[2] > 0 for t in D["times"])
for code in sys.argv[2].split(";;"):
    assert eval(code), (code, D["notes"], n, m, P["sum"], C and C["sum"], B[:80])
END

story="Once upon a time, there was a little girl named Lily. She had a dog named Max. One day Lily and Max"
printf '%s' "$story" >"$tmp/story.txt"
"$bin/perplexity" -m "$model" -p "$story" >"$tmp/ppl"
nats=$(sed -n 's/^\([0-9.]*\) nats per token.*/\1/p' "$tmp/ppl")
looks "a story" "abs(P['sum'] * math.log(2) / (n - 1) - $nats) < 1e-4;; B == '''$story''' and D['n_prompt'] == n;; C is None and not D['experts'] and not D['notes'];; rows == m * sum(len(l) for l in D['map']['w']) and m == n" -m "$model" -p "$story"
like "... said in a line" '^.*page.html: [0-9]+ tokens, [0-9.]+ bits a token$' "$out"
cp "$page" "$tmp/plain.html"
layers=$(sed -n 's/.*weights, \([0-9]*\) layers, width .*/\1/p' "$page") d_model=$(sed -n 's/.* layers, width \([0-9]*\),.*/\1/p' "$page")
last=$((layers - 1))
looks "a story from a file, one thread, small batches" "abs(P['sum'] - json.loads(open('$tmp/plain.html', encoding='utf-8').read().split('id=\'data\'>')[1].split('</script>')[0])['plain']['sum']) < 1e-9" \
    -m "$model" -f "$tmp/story.txt" -t 1 -b 7
looks "the model goes on" "n == D['n_prompt'] + 12 and B.startswith('Once')" -m "$model" -p "Once upon a time" -n 12 -s 3
cp "$page" "$tmp/again.html"
looks "no text: the model begins" "n >= 2" -m "$model" -p "" -n 5
looks "a long text is cut, and the page says so" "n == 40 and 'the first 40' in D['notes'][0]" -m "$model" -p "$story $story" -c 40
like "... on stderr as well" 'the page has the first 40' "$err"

# ---- what is changed
looks "without a head" "C['what'] == 'without head 2.1' and C['text'] is None and abs(C['sum'] - P['sum']) > 0.01;; abs(P['sum'] * math.log(2) / (n - 1) - $nats) < 1e-4" -m "$model" -p "$story" --ablate 2.1
like "... both losses are named" '^.*: [0-9]+ tokens, [0-9.]+ bits a token; without head 2.1: [0-9.]+$' "$out"
looks "without three heads" "C['what'] == 'without heads 0.0, 0.1, 2.2' and abs(C['sum'] - P['sum']) > 0.01;; C['text']" -m "$model" -p "$story" -n 5 --ablate 0.0 --ablate 0.1 --ablate 2.2
if [ "$python" ]; then
    d=$(python3 -c "print(' '.join('0' for _ in range($d_model)))")
    printf '%s' "$d" >"$tmp/zero.txt"
    python3 -c "print('\n'.join(str(0.1 * (i % 7 - 3)) for i in range($d_model)))" >"$tmp/push.txt"
    looks "a vector of zeros" "C['sum'] == P['sum']" -m "$model" -p "$story" --steer "$tmp/zero.txt"
    looks "a vector" "C['what'].endswith('behind layer ' + str(L // 2)) and abs(C['sum'] - P['sum']) > 0.01" -m "$model" -p "$story" --steer "$tmp/push.txt"
    looks "a vector at scale 0" "C['what'].endswith('behind layer $last') and C['sum'] == P['sum']" -m "$model" -p "$story" --steer "$tmp/push.txt:$last:0"
    looks "a vector and a head" "'0.0; with ' in C['what'] and abs(C['sum'] - P['sum']) > 0.1" -m "$model" -p "$story" --steer "$tmp/push.txt:1:-8" --ablate 0.0
    fails "a layer for the vector" '^look: --steer: layer '$layers', but the model has layers 0 to '$last'$' -m "$model" -p "$story" --steer "$tmp/push.txt:$layers:1"
    head -n $((d_model - 1)) "$tmp/push.txt" >"$tmp/short.txt"
    fails "a vector too short" 'short.txt: expected d_model = '$d_model' numbers, found '$((d_model - 1))'$' -m "$model" -p "$story" --steer "$tmp/short.txt"
    { cat "$tmp/push.txt"; echo nan; } >"$tmp/nan.txt"
    fails "a vector with NaN" "nan.txt: expected numbers, number $((d_model + 1)) is 'nan'" -m "$model" -p "$story" --steer "$tmp/nan.txt"
fi
fails "a head that is not there" '^look: --ablate 2.999: layer 2 has heads 0 to [0-9]+$' -m "$model" -p "$story" --ablate 2.999
heads=$(($(printf '%s' "$err" | sed 's/.* //') + 1))
fails "the first head that is not there" "layer 2 has heads 0 to $((heads - 1))\$" -m "$model" -p "$story" --ablate 2.$heads
looks "the last head" "C['what'] == 'without head 2.$((heads - 1))'" -m "$model" -p "$story" --ablate 2.$((heads - 1))
fails "a layer that is not there" '^look: --ablate '$layers'.0: the model has layers 0 to '$last'$' -m "$model" -p "$story" --ablate $layers.0
for a in 2 2. .1 2.1x -1.0 "" 99999999999999999999.0 2,1; do
    fails "--ablate '$a'" '^look: --ablate.*(expected LAYER.HEAD, as 2.0, got|the model has layers)' -m "$model" -p "$story" --ablate "$a"
done

# ---- a direction in the stream: what parts two texts; the commands of examples/README.md
if [ "$python" ]; then
    looks "the mean of a sad text" "1" -m "$model" -p "She was very sad. She cried and cried. The sad girl was so sad that she began to cry." --mean 2:"$tmp/sad.txt"
    same "... has d_model numbers" $d_model "$(wc -l <"$tmp/sad.txt" | tr -d ' ')"
    check "... no longer than the tokens' vectors" python3 "$tmp/look.py" "$page" \
        "0 < math.hypot(*map(float, open('$tmp/sad.txt'))) < sum(D['norms'][3]) / n;; math.hypot(*map(float, open('$tmp/sad.txt'))) > 0.1 * sum(D['norms'][3]) / n"
    looks "the mean of a happy text" "1" -m "$model" -p "She was very happy. She smiled and laughed. The happy girl was so happy that she began to smile." --mean 2:"$tmp/happy.txt"
    paste "$tmp/sad.txt" "$tmp/happy.txt" | awk '{ print $1 - $2 }' >"$tmp/steer.txt"
    looks "steered, sad is likelier" "C['bits'][-1] < P['bits'][-1] - 0.5" -m "$model" -p "One day, Tom went to the park with his mom. He was very sad" --steer "$tmp/steer.txt:2:2"
    looks "steered back, it is less likely" "C['bits'][-1] > P['bits'][-1] + 0.5" -m "$model" -p "One day, Tom went to the park with his mom. He was very sad" --steer "$tmp/steer.txt:2:-2"
fi
for a in 2 2: x:y :y -1:y; do fails "--mean '$a'" "^look: --mean: expected LAYER:FILE, got '" -m "$model" -p "$story" --mean "$a"; done
fails "--mean of no layer" '^look: --mean '$layers':y: the model has layers 0 to ' -m "$model" -p "$story" --mean $layers:y
fails "--mean in place of the model" '^look: --mean .*: that is the model$' -m "$model" -p "$story" --mean "0:$model"

# ---- experts, sinks, layers without attention: small models of tests/golden, whose files have no tokenizer and get one here
cat >"$tmp/graft.py" <<'END'
# usage: graft.py FROM TO N_VOCAB [zero TENSOR FIRST END | add TENSOR FILE]: a tokenizer; of a matrix in F32 the columns set to 0, to a
# vector in F32 a file of numbers added
import struct, sys
b, n_vocab, at, keep = open(sys.argv[1], "rb").read(), int(sys.argv[3]), 24, []
version, n_tensor, n_kv = struct.unpack("<IQQ", b[4:24])


def number(form):
    global at
    at += struct.calcsize(form)
    return struct.unpack(form, b[at - struct.calcsize(form):at])[0]


def value(kind):
    global at
    if kind == 9:
        kind, n = number("<I"), number("<Q")
        for _ in range(n):
            value(kind)
    else:
        n = number("<Q") if kind == 8 else {0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}.get(kind, 4)
        at += n


def string(x):
    return struct.pack("<Q", len(x)) + x


def array(key, kind, items):
    return string(key) + struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


for _ in range(n_kv):
    begin, n = at, number("<Q")
    at += n
    key = b[at - n:at]
    value(number("<I"))
    if not key.startswith(b"tokenizer."):
        keep.append(b[begin:at])
end = at
tensors = {}
for _ in range(n_tensor):
    n = number("<Q")
    at += n
    name = b[at - n:at].decode()
    shape = [number("<Q") for _ in range(number("<I"))]
    tensors[name] = shape, number("<I"), number("<Q")
token = [b"<unk>", b"<s>", b"</s>", "\u2581".encode()] + [bytes([c]) for c in range(97, 123)]
token += [b"</script><b>", b"<!--<script>"]
token += [b"w%d" % i for i in range(len(token), n_vocab)]
keep += [string(b"tokenizer.ggml.model") + struct.pack("<I", 8) + string(b"llama"),
         array(b"tokenizer.ggml.tokens", 8, [string(t) for t in token]),
         array(b"tokenizer.ggml.scores", 6, [struct.pack("<f", -i) for i in range(n_vocab)]),
         array(b"tokenizer.ggml.token_type", 5, [struct.pack("<i", 2 if i == 0 else 3 if i < 3 else 4 if b"<" in token[i] else 1) for i in range(n_vocab)])]
head = b[:4] + struct.pack("<IQQ", version, n_tensor, len(keep)) + b"".join(keep) + b[end:at]
data = bytearray(b[(at + 31) // 32 * 32:])
if len(sys.argv) > 4:
    shape, kind, offset = tensors[sys.argv[5]]
    assert kind == 0
    columns = range(int(sys.argv[6]), int(sys.argv[7])) if sys.argv[4] == "zero" else range(shape[0])
    add = None if sys.argv[4] == "zero" else [float(x) for x in open(sys.argv[6])]
    for row in range(shape[1] if len(shape) > 1 else 1):
        for i in columns:
            p = offset + 4 * (row * shape[0] + i)
            struct.pack_into("<f", data, p, 0 if add is None else struct.unpack_from("<f", data, p)[0] + add[i])
open(sys.argv[2], "wb").write(head + bytes(-len(head) % 32) + data)
END
# golden NAME TOKENS CHANGES...: the model as $tmp/NAME.gguf
golden() { name=$1; shift; check "a tokenizer for $name" python3 "$tmp/graft.py" "tests/golden/model/$name.gguf" "$tmp/$name.gguf" "$@"; }
if [ "$python" ]; then
    golden mixtral 97; golden gpt_oss 97; golden lfm2moe_cpp 67; golden gemma2 97
    chosen="[len(l) for l in D['experts']] == [n] * L and all(len(e) == 4 and all(w > 0 for w in e[1::2]) for l in D['experts'] for e in l)"
    looks "mixtral: two experts of each token" "$chosen;; all(abs(sum(e[1::2]) - 1) < 1e-5 for l in D['experts'] for e in l);; C['what'] == 'without head 1.5' and C['sum'] != P['sum']" \
        -m "$tmp/mixtral.gguf" -p "hello world" --ablate 1.5
    looks "gpt-oss: sinks" "$chosen;; D['about'].startswith('gpt-oss')" -m "$tmp/gpt_oss.gguf" -p "hello world"
    looks "lfm2: layers without attention" "0 in [len(l) for l in D['map']['w']] and any(D['map']['w']);; any(D['experts']) and [] in D['experts']" \
        -m "$tmp/lfm2moe_cpp.gguf" -p "hello world" --ablate 2.0
    fails "a head of a layer without attention" '^look: --ablate 0.0: layer 0 has no attention$' -m "$tmp/lfm2moe_cpp.gguf" -p "hello world" --ablate 0.0
    looks "gemma 2: a window, norms behind" "not D['experts']" -m "$tmp/gemma2.gguf" -p "hello world" -n 20
fi

# ---- what --ablate and --steer do, done to the weights of a GPT-2 of 3 heads of 9 columns instead: the same sums
if [ "$python" ]; then
    python3 -c "print('\n'.join(str(0.3 * (i % 5 - 1.5)) for i in range(27)))" >"$tmp/v.txt"
    for change in "zero blk.1.attn_output.weight 9 18|--ablate 1.1" "zero blk.0.attn_output.weight 18 27|--ablate 0.2" \
        "add blk.1.ffn_down.bias $tmp/v.txt|--steer $tmp/v.txt:1:1" "add blk.0.ffn_down.bias $tmp/v.txt|--steer $tmp/v.txt:0:1"; do
        golden gpt2 97 ${change%%|*}
        looks "weights: $change" "n > 10" -m "$tmp/gpt2.gguf" -p "hello world"
        sum=$(python3 "$tmp/look.py" "$page" "print(P['sum']) or 1")
        golden gpt2 97
        looks "the same: $change" "abs(C['sum'] - $sum) < 1e-3 and abs(P['sum'] - $sum) > 0.01" -m "$tmp/gpt2.gguf" -p "hello world" ${change#*|}
    done
    looks "tokens that end scripts" "B.replace(' ', '').endswith('hello</script><b>x<!--<script>');; len([g for g in D['groups'] if 'script' in g[2]]) == 2" \
        -m "$tmp/gpt2.gguf" -p "hello</script><b>x<!--<script>"
fi

# ---- texts that would like to be something else
hostile() { printf '</script><b>&amp;<!-- "\\u0000" \\ %s <script>alert(1)//</script>\342\200\250x\342\200\251' "$1"; }
looks "a text that ends scripts" "B == '</script><b>&amp;<!-- \"\\\\u0000\" \\\\ \\' <script>alert(1)//</script>\\u2028x\\u2029'" -m "$model" -p "$(hostile "'")"
printf 'a\000b\377\376c\360\237\230\200\360\237d\355\240\200e\300\200\n\ttab \033[1m' >"$tmp/bytes"
looks "bytes that are no text" "B == 'a\\x00b<FF><FE>c\\U0001F600<F0><9F>d<ED><A0><80>e<C0><80>\\n\\ttab \\x1b[1m'" -m "$model" -f "$tmp/bytes"
looks "a character of several tokens" "[g for g in D['groups'] if g[2] == '\\U0001F600' and g[1] - g[0] > 1];; len(D['groups']) < n" -m "$model" -p "A face: 😀, and 日本 too."
printf 'half a face: \360\237' >"$tmp/half"
looks "a text cut in mid-character" "B.endswith('<F0><9F>')" -m "$model" -f "$tmp/half"

# ---- errors
fails "no model" '^look: no model: -m FILE names one$' -p x
fails "no such model" '^look: .*none.gguf: ' -m "$tmp/none.gguf" -p x
fails "a short text" '^look: the text has 1 token: two are the least' -m "$model" -p a
fails "the token that begins texts alone" '^look: the text has 1 token: two are the least' -m "$model" -p ""
fails "text and file" '^look: -p and -f exclude each other$' -m "$model" -p x -f "$tmp/half"
fails "no such file" '^look: .*none.txt: ' -m "$model" -f "$tmp/none.txt"
fails "an unknown option" "^look: unknown option '--ablat': did you mean --ablate" --ablat 1.1
fails "a negative number" '^look: -n: expected 0 to ' -m "$model" -p x -n -2
run -m "$model" -p "$story"
same "no -o: exit status" 1 $status
like "no -o" '^look: no page: -o FILE names it$' "$err"
cp "$tmp/story.txt" "$tmp/keep.txt"
run -m "$model" -f "$tmp/keep.txt" -o "$tmp/keep.txt"
same "the page in place of the text: exit status" 1 $status
like "the page in place of the text" '^look: -o .*: that is the text$' "$err"
check "... which is still there" cmp "$tmp/story.txt" "$tmp/keep.txt"
run -m "$model" -p "$story" -o "$tmp"
like "a folder as the page" '^look: -o .*: a folder, expected the name of a file$' "$err"
run --help
same "--help: exit status" 0 $status
like "--help" '^ *--steer FILE' "$out"
report look_test
