#!/bin/sh
# usage: lesson_test.sh BUILD   every command of examples/lesson.md runs, in a folder of its own, and what the page says of the
# output holds. Where the head for the name is, the page says in step 5: if another bundled model has it elsewhere, lesson_heads.sh
# finds it.
. tests/check.sh
LC_ALL=C; export LC_ALL
bin=$1
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
page=$PWD/examples/lesson.md
model=examples/models/stories.gguf

# The folder: programs in build/, and beside it what the commands read, and nothing else.
work=$tmp/work
mkdir -p "$work/build" "$work/examples/models"
cp README.md "$work"
cp examples/README.md "$work/examples"
cp $model "$work/examples/models"
sed -n 's/^    //p' "$page" >"$tmp/commands"
for program in $(tr ' ;|' '\n\n\n' <"$tmp/commands" | sed -n 's/^build\/\([a-z_]*\)$/\1/p' | sort -u); do
    check "$program is built" test -x "$bin/$program"
    ln -s "$bin/$program" "$work/build/$program"
done

# The page trains for two minutes, the test for some steps.
steps="--steps 240 --batch 2 --lr 1e-3 --every 60" fewer="--steps 8 --batch 2 --lr 1e-3 --every 8"
same "training: the options that are shortened here" 1 "$(grep -c -e "$steps" "$tmp/commands")"

n=0
while IFS= read -r line; do
    n=$((n + 1))
    printf '%s\n' "$line" | sed "s/$steps/$fewer/" >"$tmp/line.sh"
    (cd "$work" && sh "$tmp/line.sh" </dev/null >"$tmp/out.$n" 2>"$tmp/err.$n")
    same "exit status: $line" 0 $? || head -n 3 "$tmp/err.$n"
done <"$tmp/commands"
same "ten steps" 10 "$(grep -c '^## [0-9]*[.] ' "$page")"
same "... each with a question" 10 "$(grep -c '^[*]Try:[*] ' "$page")"
same "... and commands" 10 "$(awk '/^## /{ new = 1 } /^    / { n += new; new = 0 } END { print n }' "$page")"
same "what is written is in build/" "README.md build examples README.md models stories.gguf" \
    "$(echo $(cd "$work" && ls . && ls examples && ls examples/models))"
check "the model is as it was" cmp $model "$work/$model"

# output REGEX [K]: the file with what the K-th command that matches printed
output() { echo "$tmp/out.$(grep -nE -e "$1" "$tmp/commands" | sed -n "${2:-1}s/:.*//p")"; }
# holds WHAT AWK-CONDITION
holds() { check "$1: $2" awk "BEGIN { exit !($2) }"; }
# bits PAGE WHICH: the surprise of the last token, plain (1) or changed (2)
bits() { sed -n 's/.*"bits":\[null,\([^]]*\)\].*/\1/p' "$1" | sed -n "$2s/.*,//p"; }
# The head of step 5, as LAYER.HEAD, its two numbers, and the heads that the loop tries.
head=$(sed -n 's/.*--ablate \([0-9]*[.][0-9]*\)$/\1/p' "$tmp/commands")
layer=${head%.*} number=${head#*.} tried=$(sed -n 's/^for h in \([0-9 ]*\);.*/\1/p' "$tmp/commands")
generate() { (cd "$work" && build/generate -m $model -p "The little dragon" -n 40 "$@"); }
look() { (cd "$work" && build/look -m $model "$@" >"$tmp/look.out"); }

# ---- 1: tokens
show=$(output '--show')
like "1: a frequent word with its space" "^[0-9]+	' time'\$" "$(cat "$show")"
holds "1: pieces of an unknown name" "$(sed -n "/' named'/,/'\.'/p" "$show" | wc -l) - 2 >= 3"
same "1: there and back" "Once upon a time" "$(cat "$(output '--decode')")"

# ---- 2: surprise
ppl() { sed -n 's/^ppl \([0-9.]*\) .*/\1/p' "$(output build/perplexity $1)"; }
holds "2: backwards it is more surprising" "$(ppl 2) > 10 * $(ppl 1)"

# ---- 3, 4
awk -f tests/lesson_look.awk "$work/build/look.html" >"$tmp/seen"
holds "3: the weight of the name" "0$(sed -n "s/^$layer[.]$number //p" "$tmp/seen") > 0.5"
like "3: the page names the head" "layer $layer, head $number," "$(cat "$page")"
like "4: the page names its layer" "layer $((layer - 1)) the model would say something else, from layer $layer on" "$(tr '\n' ' ' <"$page")"
same "4: up to layer $((layer - 1)) something else, then the name" "$(yes no | head -n $layer | tr '\n' ' ')yes" "$(echo $(sed -n 's/^layer.*: //p' "$tmp/seen") | sed 's/ yes\( yes\)*$/ yes/')"
for title in "How surprising each token is" "Where each head of attention looks" "What each layer would already say"; do
    check "the page of look has: $title" grep -q "'$title'" "$work/build/look.html"
    like "the lesson has: $title" "\"$title\"" "$(tr '\n' ' ' <"$page")"
done
like "4: the stages" '^embd .* ok' "$(cat "$(output build/naive)")"
like "4: ... to the last" '^logits .* ok' "$(cat "$(output build/naive)")"

# ---- 5: ablation
loop=$(output "ablate $layer[.][\$]h")
same "5: a line for each head" "$tried" "$(echo $(sed -n "s/.*without head $layer[.]\([0-9]*\): .*/\1/p" "$loop"))"
like "5: the page names the head" "[Ww]ithout head $number " "$(cat "$page")"
same "5: the head that is missed most" "$head" "$(sed -n 's/.*without head \(.*\): \(.*\)/\2 \1/p' "$loop" | sort -n | sed -n '$s/.* //p')"
holds "5: the name was the likeliest" "$(bits "$work/build/ablated.html" 1) < 1"
holds "5: ... and becomes a surprise" "$(bits "$work/build/ablated.html" 2) > 1 + $(bits "$work/build/ablated.html" 1)"

# ---- 6: steering
prompt=$(sed -n 's/.*-p "\([^"]*\)".*--steer.*/\1/p' "$tmp/commands")
look -p "$prompt sad" -o build/sad.html --steer build/steer.txt:2:1
holds "6: sad becomes likelier" "$(bits "$work/build/sad.html" 2) + 0.2 < $(bits "$work/build/sad.html" 1)"
look -p "$prompt happy" -o build/happy.html --steer build/steer.txt:2:1
holds "6: happy becomes less likely" "$(bits "$work/build/happy.html" 2) > $(bits "$work/build/happy.html" 1) + 0.2"

# ---- 7, 8, 9: drawing
off="--top-k 0 --top-p 1 --min-p 0"
generate --temp 0 >"$tmp/cold"
for t in 0 0.5 1 1.5; do generate --temp $t $off; echo; done >"$tmp/text"
check "7: from the likeliest tokens to the hot text of step 8" cmp "$tmp/text" "$(output 'for t in')"
generate --temp 0 --seed 5 >"$tmp/text"
check "7: no seed changes what is at 0" cmp "$tmp/cold" "$tmp/text"
generate --temp 1.5 $off >"$tmp/hot"
check "8: the hot text" cmp "$tmp/hot" "$(output '^build/generate.*--temp 1.5')"
check "8: another one where the tail is cut" test "$(cat "$tmp/hot")" != "$(cat "$(output '^build/generate.*--temp 1.5' 2)")"
generate --temp 1.5 --top-k 1 >"$tmp/text"
check "8: --top-k 1 is as temperature 0" cmp "$tmp/cold" "$tmp/text"
generate --seed 1 -t 1 >"$tmp/text"
check "9: the same seed, one thread" cmp "$tmp/text" "$(output '--seed')"
check "9: another seed" test "$(cat "$tmp/text")" != "$(cat "$(output '--seed' 2)")"

# ---- 10: training
k=$(grep -n 'build/train ' "$tmp/commands" | sed 's/:.*//')
validation=$(cat "$tmp/out.$k" "$tmp/err.$k" | tr '\r' '\n' | sed -n 's/.*validation \([0-9][0-9.]*\).*/\1/p')
holds "10: validation falls" "$(echo "$validation" | sed -n '$p') < $(echo "$validation" | sed -n 1p)"

# ---- reading on
for name in $(grep -Eo '\[[A-Z]+\]' "$page" | sort -u | tr -d '[]'); do
    check "a chapter: [$name]" grep -q "^ \* \[$name\] " gpt.h examples/train.c
done
for file in $(grep -Eo 'examples/[A-Za-z0-9_./-]+\.(c|md|gguf)' "$page" | sort -u); do
    check "$file is there" test -f "$file"
done
check "gpt.h: the API ends here" grep -q 'the API ends here' gpt.h
check "gpt.h: the stages" grep -q -e '---- The stages: ' gpt.h
check "gpt.h: gpt_trace" grep -q '^typedef struct gpt_trace ' gpt.h
report lesson_test
