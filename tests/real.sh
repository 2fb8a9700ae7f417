#!/bin/sh
# usage: GPT_WEIGHTS=FILE-OR-FOLDER real.sh BUILD   real models: each loads, gives the same text with one thread and with
# two and from the mapped file, and its tokenizer gives back what it was given.
. tests/check.sh
bin=$1
[ -e "${GPT_WEIGHTS:-}" ] || { echo "make test-real: set GPT_WEIGHTS to a GGUF file or a folder of them" >&2; exit 1; }
find "$GPT_WEIGHTS" -name '*.gguf' ! -name '*-0000[2-9]-of-*' ! -name '*-000[1-9]?-of-*' | sort >"$tmp/files"
[ -s "$tmp/files" ] || fail "no .gguf file in $GPT_WEIGHTS"
while read -r model; do
    echo "$model"
    check "$model: loads and generates" "$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 --no-display-prompt
    text=$(cat "$tmp/check.out"); echo "  $text"
    same "$model: one thread" "$text" "$("$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 -t 1 --no-display-prompt 2>&1)"
    same "$model: mapped"     "$text" "$("$bin/generate" -m "$model" -p "The meaning of life is" -n 32 --temp 0 --mapped --no-display-prompt 2>&1)"
    "$bin/tokenize" -m "$model" -f README.md >"$tmp/ids" && "$bin/tokenize" -m "$model" --decode <"$tmp/ids" >"$tmp/back"
    check "$model: README.md through the tokenizer and back" cmp README.md "$tmp/back"
done <"$tmp/files"
report real
