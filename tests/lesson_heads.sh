#!/bin/sh
# usage: lesson_heads.sh BUILD [MODEL]   for steps 3 to 5 of examples/lesson.md with another bundled model: the heads that fetch the
# name, the layer from which on the lens says it, and what the text and its last token, the name, cost without each of these heads.
. tests/check.sh
LC_ALL=C; export LC_ALL
bin=$1 model=${2:-examples/models/stories.gguf} page=$tmp/look.html
eval "$(sed -n 's/^    \(printf ".*"\) >build\/lily.txt$/\1/p' examples/lesson.md)" >"$tmp/lily.txt"
look() { "$bin/look" -m "$model" -f "$tmp/lily.txt" -o "$page" "$@"; }
bits() { sed -n 's/.*"bits":\[null,\([^]]*\)\].*/\1/p' "$page" | sed -n "$1s/.*,//p"; }
look >/dev/null || exit
awk -f tests/lesson_look.awk "$page" >"$tmp/seen"
echo "the lens says the name: $(sed -n 's/^layer //p' "$tmp/seen" | tr '\n' ' ')"
for head in $(grep '^[0-9]' "$tmp/seen" | sort -k 2 -gr | head -n 8 | sed 's/ .*//'); do
    look --ablate "$head" >"$tmp/out"
    echo "head $head: weight of the name $(sed -n "s/^$head //p" "$tmp/seen"); the text$(sed 's/.*tokens,//; s/ a token.*head [0-9.]*: /, without it /' \
        "$tmp/out"); the name $(bits 1) bits, without it $(bits 2)"
done
