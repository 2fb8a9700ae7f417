#!/bin/sh
# usage: cli_test.sh BUILD   the example programs from outside: what they print where, with what exit status.
. tests/check.sh
bin=$1
model=$(find_model)
programs="generate tokenize perplexity bench chat naive npc json tools beam classify evaluate embed ask server"

# fails WHAT REGEX PROGRAM ARGUMENTS...: exit status 1, nothing on stdout, one line on stderr that matches
fails() {
    what=$1 regex=$2; shift 2
    run "$@"
    same "$what: exit status" 1 $status
    same "$what: stdout" "" "$out"
    same "$what: lines on stderr" 1 "$(wc -l <"$tmp/err" | tr -d ' ')"
    like "$what: message" "$regex" "$err"
}
# works WHAT PROGRAM ARGUMENTS...: exit status 0, nothing on stderr
works() {
    what=$1; shift
    run "$@"
    same "$what: exit status" 0 $status
    same "$what: stderr" "" "$err"
}

# A text, its label, and which part it belongs to.
tr '|' '\t' >"$tmp/pets.tsv" <<'END'
The bird sings in the tree.|bird|train
The dog barks at the man.|dog|train
The cat says meow.|cat|train
It can fly high in the sky.|bird|validate
It sat in its nest with two eggs.|bird|validate
It wags its tail and barks.|dog|validate
It plays fetch with a stick.|dog|validate
It chases the mouse and purrs.|cat|validate
It drinks the milk and says meow.|cat|validate
"Woof!" it said to the mailman.|dog|validate
It has feathers and wings.|bird|validate
It licks its paws and naps in the sun.|cat|validate
END

# ---- without a model
for p in $programs; do
    works "$p --help" $p --help
    like  "$p --help names -m" '^  -m, --model FILE' "$out"
    like  "$p --help: usage" "^usage: $p " "$out"
    works "$p --version" $p --version
    like  "$p --version" '^[0-9]+\.[0-9]+\.[0-9]+$' "$out"
    fails "$p, unknown option" "^$p: unknown option '--nonsense'" $p --nonsense
    fails "$p, no value" "^$p: -m: needs a value" $p -m
    text="-p 1"
    case $p in
        chat | npc | server) text= ;;
        classify) text=$tmp/pets.tsv ;;
        evaluate) text="-f tests/golden/evaluate.tsv" ;;
        embed | ask) text="-p 1 -f Makefile" ;;
    esac
    fails "$p, no such file" "^$p: .*$tmp/none.gguf" $p -m "$tmp/none.gguf" $text
    fails "$p, no model" "^$p: no model" $p $text
    printf 'not a model at all, but long enough to be read as one\n' >"$tmp/bad.gguf"
    fails "$p, no GGUF file" "^$p: .*$tmp/bad.gguf: GGUF" $p -m "$tmp/bad.gguf" $text
done
fails "an option alike"      "^generate: unknown option '--temperature': did you mean --temp\?" generate --temperature 1
fails "an option with ="     "^generate: unknown option '--predict=3': did you mean --predict 3, with a space\?" generate --predict=3
fails "... and a short one"  "^chat: unknown option '-n=3': did you mean -n 3, with a space\?" chat -n=3
fails "two options alike"    "^chat: unknown option '--temperature': did you mean --temp\?" chat --temperature 1
fails "a word for a number"  "^generate: -n: expected a whole number, got 'many'" generate -n many
fails "a number with a tail" "^generate: --temp: expected a number, got '0.8x'"   generate --temp 0.8x
fails "a temperature below 0" "^generate: --temp: expected 0 or more, got -1"      generate -m "$tmp/bad.gguf" -p x --temp -1
fails "a number too large"   "^generate: -t: expected 0 to 2147483647, got '99999999999'" generate -t 99999999999
fails "one beyond all bounds" "^generate: -t: expected 0 to 2147483647, got '9{30}'" generate -t 999999999999999999999999999999
fails "a seed beyond all bounds" "^generate: --seed: expected -[0-9]+ to 9223372036854775807, got" generate --seed 99999999999999999999
fails "a number beyond all bounds" "^generate: --temp: expected a number between -1e30 and 1e30, got '1e40'" generate --temp 1e40
fails "no number"            "^generate: --temp: expected a number, got 'nan'"    generate --temp nan
fails "an option's end alone" "^chat: unknown option '--template': did you mean --chat-template\?" chat --template x
fails "a negative count"     "^generate: --top-k: expected 0 to"                  generate --top-k -3
fails "an option as it was typed" "^generate: --stop: the text is empty"          generate -m "$tmp/bad.gguf" -p x --stop ""
fails "two prompts as typed" "^generate: --prompt and --file exclude each other"  generate -m "$tmp/bad.gguf" --prompt x --file y
fails "two prompts"          "^generate: -p and -f exclude each other"            generate -m "$tmp/bad.gguf" -p x -f y
fails "no such prompt file"  "^generate: $tmp/none.txt: "                         generate -m "$tmp/bad.gguf" -f "$tmp/none.txt"
fails "an empty argument"    "^generate: unexpected argument ''"                  generate "" x
fails "a stray word"         "^generate: unexpected argument 'upon': .*quotes"    generate -p Once upon
fails "a folder for a model" "^generate: $tmp: a folder, expected a GGUF file"    generate -m "$tmp" -p x
fails "no name"              "^generate: the name of a GGUF file is empty"        generate -m "" -p x
fails "a negative seed"      "^generate: --seed: expected -1 or more, got -2"     generate -m "$tmp/bad.gguf" -p x --seed -2
fails "a probability of 2"   "^generate: --top-p: expected 0 to 1, got 2"         generate -m "$tmp/bad.gguf" -p x --top-p 2
fails "a probability below 0" "^chat: --min-p: expected 0 to 1, got -0.1"         chat -m "$tmp/bad.gguf" --min-p -0.1
for p in $programs hello embed_model; do
    [ -w /dev/full ] || continue
    "$bin/$p" --help >/dev/full 2>"$tmp/err"
    same "$p --help to a full disk: exit status" 1 $?
done
works "hello --help" hello --help
like  "hello --help: usage" '^usage: hello MODEL' "$out"

# ---- evaluate, without a model too
works "evaluate --score" evaluate --score tests/golden/evaluate.tsv --rows --references 2 -e
check "evaluate --score: the scores of sacrebleu, rouge-score and SQuAD" cmp "$tmp/out" tests/golden/evaluate.txt
works "evaluate --score of some rows" evaluate --score tests/golden/evaluate.tsv --rows --references 2 -e --limit 3
some=$(head -n 3 "$tmp/out")
same  "evaluate --score of some rows: the same for each" "$(for n in $(printf '%s\n' "$some" | cut -f 1); do grep "^$n	" tests/golden/evaluate.txt; done)" "$some"
check "evaluate --limit: rows from all of the file" test "$(printf '%s\n' "$some" | tail -n 1 | cut -f 1)" -gt "$(($(wc -l <tests/golden/evaluate.tsv) / 2))"
printf 'a line\n' >"$tmp/line"
printf 'caf\351\tx\n' >"$tmp/latin"
fails "evaluate, one column" "^evaluate: $tmp/line: line 1: 1 column, expected a hypothesis and a reference" evaluate --score "$tmp/line"
fails "evaluate, no UTF-8" "^evaluate: $tmp/latin: line 1: byte 4, 0xE9, is not UTF-8" evaluate --score "$tmp/latin"
fails "evaluate, no file" "^evaluate: no file: -f" evaluate -m "$tmp/none.gguf"
fails "evaluate, a model to score" "^evaluate: --score takes neither a model" evaluate --score "$tmp/line" -m x
fails "evaluate, two kinds of choices" "^evaluate: --choices, --choices-column and --labels exclude" evaluate -m x -f "$tmp/line" --labels --choices "a|b"
fails "evaluate, a chat with a template" "^evaluate: --template and --chat exclude" evaluate -m x -f "$tmp/line" --chat --template "{prompt}{answer}"
fails "evaluate, no reference" "^evaluate: --references: expected 1 to 15, got 0" evaluate -m x -f "$tmp/line" --references 0
fails "evaluate, a column too far" "^evaluate: --choices-column: expected 3 to 16, behind the references, got 17" evaluate -m x -f "$tmp/line" --choices-column 17
fails "evaluate, choices among the references" "^evaluate: --choices-column: expected 4 to 16, .* got 3" evaluate -m x -f "$tmp/line" --choices-column 3 --references 2
fails "evaluate, a share of 2" "^evaluate: --held-out: expected 0 to 1, got 2" evaluate -m x -f "$tmp/line" --held-out 2
fails "evaluate, a share of what is scored" "^evaluate: --score takes neither .* judges all rows" evaluate --score "$tmp/line" --held-out 0.5
fails "evaluate, tokens of a choice" "^evaluate: -n: nothing is written: the answers are choices" evaluate -m x -f "$tmp/line" --labels -n 3
fails "evaluate, a stop of a choice" "^evaluate: --stop: nothing is written" evaluate -m x -f "$tmp/line" --labels --stop .
fails "evaluate --per-byte alone" "^evaluate: --per-byte: for --choices" evaluate -m x -f "$tmp/line" --per-byte

# ---- train, without a model too
awk 'BEGIN { split("cat dog bird fox", who); split("sees likes chases finds", what)
    for (i = 0; i < 900; i++) { r = (r * 1103 + 12345) % 65536
        printf "The %s %s the %s.%s", who[r % 4 + 1], what[int(r / 16) % 4 + 1], who[int(r / 256) % 4 + 1], i % 3 ? " " : "\n<|endoftext|>\n" } }' >"$tmp/train.txt"
x=$tmp/train.txt gg=$tmp/out.gguf
toy="--layers 1 --heads 2 --width 32 --context 32 --batch 4 --vocab 300 -t 1"
refuses() { what=$1 regex=$2; shift 2; fails "train, $what" "^train: $regex" train "$@"; }     # WHAT REGEX ARGUMENTS...
size() { wc -c <"$1" | tr -d ' '; }
works   "train --help" train --help
like    "train --help: usage" '^usage: train TEXT' "$out"
refuses "no text"                "no text" -o "$gg"
refuses "no such text"           "$tmp/none.txt: " "$tmp/none.txt" -o "$gg"
refuses "two texts"              "unexpected argument 'y', after " "$x" y
refuses "a text and -f"          "the text is named twice: $x, and -f y" "$x" -f y
refuses "a folder for a text"    "$tmp: a folder" "$tmp" -o "$gg"
refuses "a folder for OUT"       "-o $tmp: a folder, expected the name of a file" "$x" -o "$tmp"
refuses "no name for OUT"        "-o: the name is empty" "$x" -o ""
refuses "OUT in no folder"       "-o $tmp/none/x: cannot write: " "$x" -o "$tmp/none/x"
refuses "the text for OUT"       "-o .*/./train.txt: that is the text" "$x" -o "$tmp/./train.txt"
refuses "a part of a step"       "--steps: expected a whole number, 0 to 1000000000, got 10.5" "$x" -o "$gg" --steps 10.5
refuses "no batch"               "--batch: expected a whole number, 1 to 1048576, got 0" "$x" -o "$gg" --batch 0
refuses "heads that do not fit"  "--heads: 3 does not divide --width 32" "$x" -o "$gg" --heads 3 --width 32
refuses "a width for no block"   "--type q8_0: its blocks of 32 numbers do not divide the width, 48" "$x" -o "$gg" --width 48 --type q8_0
refuses "a context beyond the text" "--context: the text has [0-9]+ tokens to train on, expected at most [0-9]+" "$x" -o "$gg" --vocab 260 --context 100000
refuses "no such type"           "--type: expected f32" "$x" -o "$gg" --type q9
refuses "nothing to resume"      "$gg.ckpt: there is no such file" "$x" -o "$gg" --resume
refuses "Muon uphill"            "--muon: expected 0 to 1000, got -1" "$x" -o "$gg" --muon -1
refuses "--eval of nothing"      "--eval needs --init" "$x" --eval
run train --help
with_resume=$(tr '\n' ' ' <"$tmp/out" | sed 's/.*With --resume go \([^;]*\);.*/\1/; s/ and /, /')
for option in $(sed -n 's/^  \(--[a-z0-9-]*\) N .*/\1/p' "$tmp/out"); do
    case $option in --vocab) value=257 ;; --dropout | --held-out) value=0 ;; *) value=1 ;; esac
    case "$with_resume," in *$option,*) reason="$gg.ckpt: there is no such file" ;; *) reason="$option: cannot be given with --resume" ;; esac
    refuses "$option with --resume, as --help says" "$reason" "$x" -o "$gg" --resume $option $value
done
check   "train, refusals leave no file" test ! -e "$gg" -a ! -e "$gg.ckpt" -a ! -e "$gg.lock" -a ! -e "$gg.part"

run train "$x" -o "$gg" $toy --type f32 --steps 40 --every 20 --stop 25
same  "train --stop: exit status" 0 $status
same  "train: stdout" "" "$(cat "$tmp/out")"
like  "train: a validation" '^step 20/40  loss [0-9.]+  validation [0-9.]+ \([0-9.]+ nats/byte\)  [0-9]+ tok/s  0:0[0-9] left $' "$err"
like  "train: a sample" '^    .*[a-z]' "$err"
like  "train --stop: how to go on" "^stopped; go on with: train $x -o $gg --resume\$" "$err"
refuses "a forgotten --resume"   "$gg.ckpt holds a training that stopped at step 25 of 40: go on with --resume, remove the file, or give another -o" "$x" -o "$gg" $toy
refuses "... but other mistakes first" "$tmp/none.gguf: there is no such file" "$x" -o "$gg" --init "$tmp/none.gguf"
refuses "--width at --resume"    "--width: cannot be given with --resume" "$x" -o "$gg" --resume --width 64
refuses "--init at --resume"     "--init and --resume exclude each other" "$x" -o "$gg" --resume --init "$gg"
was=$(size "$gg")
run train "$x" -o "$gg" --resume -t 1
same  "train --resume: exit status" 0 $status
same  "train --resume keeps --type" "$was" "$(size "$gg")"
run train "$x" -o "$gg" --resume --steps 60
like  "train --resume with more --steps" '^step 60/60 ' "$err"
rm "$gg"
run train "$x" -o "$gg" --resume
check "train --resume where OUT is missing: it is there again" test -f "$gg"
like  "train --resume where OUT is missing: says so" "$gg is missing: written from the checkpoint" "$err"
run train "$x" -o "$gg" --resume --steps 50
like  "train --resume with fewer --steps" '^train: --steps: 60 are done already' "$err"
refuses "--steps at --eval"      "--steps: cannot be given with --eval" "$x" --init "$gg" --eval --steps 3
refuses "--type at --eval"       "-o, --name, --type and --stop: cannot be given with --eval" "$x" --init "$gg" --eval --type f32
refuses "--vocab at --init"      "--vocab: cannot be given with --init" "$x" --init "$gg" -o "$tmp/b" --vocab 400
refuses "a context too long"     "--context: $gg has positions for 32 tokens" "$x" --init "$gg" -o "$tmp/b" --context 64
refuses "a model for a text"     "$gg: a GGUF file, expected a text" "$gg" --init "$gg" -o "$tmp/b"
works "train --eval" train "$x" --init "$gg" --eval
like  "train --eval" "train.txt: loss [0-9.]+ nats/token, [0-9.]+ nats/byte, perplexity" "$(cat "$tmp/out")"

run train "$x" -o "$tmp/tune.gguf" --init "$gg" --steps 20 --every 10 --lr 1 --clip 0 --warmup 0 -t 1
like  "train --init, worse than its start: says so" '^nothing better than the start; model in ' "$err"
check "train --init: the start is a candidate" test -f "$tmp/tune.gguf"
cp "$gg" "$tmp/keep.gguf"
run train "$x" -o "$gg" --init "$gg" --steps 20 --every 10 --lr 1 --clip 0 --warmup 0 -t 1
check "train over its own start never makes it worse" cmp "$gg" "$tmp/keep.gguf"

run train "$x" -o "$tmp/q4.gguf" $toy --steps 60 --every 30 --type q4_0
best=$(sed -n 's/^best validation loss \([0-9.]*\) .*/\1/p' "$tmp/err")
run train "$x" --init "$tmp/q4.gguf" -o "$tmp/q4.gguf" --steps 1
like  "train: the loss shown is that of OUT, rounded as it is" "^the start: validation $best\$" "$err"
run train "$x" -o "$tmp/muon.gguf" $toy --muon 3 --steps 40 --every 20 --stop 30
cp "$tmp/muon.gguf" "$tmp/adamw.gguf"
cp "$tmp/muon.gguf.ckpt" "$tmp/adamw.gguf.ckpt"
run train "$x" -o "$tmp/muon.gguf" --resume -t 1
run train "$x" -o "$tmp/adamw.gguf" --resume -t 1 --muon 0 --report "$tmp/adamw.html"
run train "$x" -o "$tmp/whole.gguf" $toy --muon 3 --steps 40 --every 20
check "train --muon, resumed: the same bits" cmp "$tmp/muon.gguf.ckpt" "$tmp/whole.gguf.ckpt"
check "train --muon 0 at --resume: another model" test "$(cksum <"$tmp/adamw.gguf")" != "$(cksum <"$tmp/whole.gguf")"
like  "train --report: --muon" '<th>--muon</th><td>0</td>' "$(cat "$tmp/adamw.html")"
run train "$x" -o "$tmp/w48.gguf" $toy --width 48 --steps 1
like  "train: a width for no block of the default type" '^train: OUT is written as f32: the blocks of 32 numbers' "$err"
run train "$x" -o "$tmp/nan.gguf" $toy --lr 10 --decay 10 --warmup 0 --clip 0 --steps 100 --every 2
same  "train, no numbers any more: exit status" 1 $status
like  "train, no numbers any more: what helps" '^train: after step [0-9]+ the loss is beyond 1000 or not a number any more: a smaller --lr than 10, or --clip 1, will help. Nothing was written$' "$err"
check "... and there is no such model" test ! -e "$tmp/nan.gguf"

"$bin/train" "$x" -o "$tmp/int.gguf" $toy --steps 1000000 --every 1000000 2>"$tmp/err_first" &
pid=$!
while [ ! -e "$tmp/int.gguf.lock" ] && kill -0 $pid 2>/dev/null; do :; done
refuses "two runs on one OUT" "-o $tmp/int.gguf: another run writes this file" "$x" -o "$tmp/int.gguf" $toy
"$bin/train" "$x" -o "$tmp/other.gguf" $toy --steps 2 2>/dev/null       # meanwhile the first has begun its steps
kill -INT $pid; wait $pid
same  "train, Ctrl-C: exit status" 130 $?
check "train, Ctrl-C: there is a model" test -f "$tmp/int.gguf" -a -f "$tmp/int.gguf.ckpt" -a ! -e "$tmp/int.gguf.lock"
(   # while the vocabulary is learned, or soon after
    "$bin/train" "$x" -o "$tmp/term.gguf" $toy --steps 1000000 --every 1000000 2>"$tmp/err_first" &
    pid=$!
    while [ ! -e "$tmp/term.gguf.lock" ] && kill -0 $pid 2>/dev/null; do :; done
    kill -TERM $pid; wait $pid
) 2>/dev/null
same  "train, ended by SIGTERM: exit status" 143 $?
check "train, ended by SIGTERM: no lock is left" test ! -e "$tmp/term.gguf.lock"
run train "$x" -o "$tmp/many.gguf" $toy --steps 1 -t 100000
same  "train -t 100000: exit status" 0 $status
if (trap '' XFSZ; ulimit -f 100) 2>/dev/null; then
    cp "$gg" "$tmp/keep.gguf"; cp "$gg.ckpt" "$tmp/keep.ckpt"
    (trap '' XFSZ; ulimit -f 100; "$bin/train" "$x" -o "$gg" --resume --steps 80) 2>"$tmp/err"
    same  "train, a full disk: exit status" 1 $?
    like  "train, a full disk" '^train: .*cannot write: .*; what was saved before is as it was' "$(cat "$tmp/err")"
    check "train, a full disk: the checkpoint is as it was" cmp "$gg.ckpt" "$tmp/keep.ckpt"
    check "train, a full disk: no part is left" test ! -e "$gg.ckpt.part" -a ! -e "$gg.part"
fi
for damage in ../shared/cases/programs/opt_*.ckpt; do
    [ -f "$damage" ] || { skip "cli: no damaged checkpoints here"; break; }
    cp "$damage" "$tmp/f.gguf.ckpt"
    refuses "$(basename "$damage")" "$tmp/f.gguf.ckpt: damaged: --[a-z-]+: expected " "$x" -o "$tmp/f.gguf" --resume -t 1
done
head -c 20000 "$tmp/out.gguf.ckpt" >"$tmp/f.gguf.ckpt"
refuses "a checkpoint cut short" "$tmp/f.gguf.ckpt: " "$x" -o "$tmp/f.gguf" --resume
cp "$gg" "$tmp/f.gguf.ckpt"
refuses "a model for a checkpoint" "$tmp/f.gguf.ckpt: not a checkpoint: train.options is missing" "$x" -o "$tmp/f.gguf" --resume
if [ -w /dev/full ]; then
    "$bin/train" "$x" --init "$gg" --eval >/dev/full 2>"$tmp/err"
    same "train --eval, a full disk: exit status" 1 $?
fi

# ---- train, on pairs
pairs=$tmp/pairs.tsv
row() { printf "$1" >"$tmp/row.tsv"; what=$2; shift 2; refuses "pairs, $what" "$tmp/row.tsv: $1" "$tmp/row.tsv" -o "$tmp/p.gguf"; }
row 'a\tb\nc\nd\te\n'       "no tab in a line"   'line 2: 1 column, expected prompt TAB answer$'
row 'a\tb\n\nc\t\n'         "an empty answer"    'line 3: the answer is empty$'
row '\n\r\n'                 "no lines"           'the file is empty, expected lines of prompt TAB answer$'
row 'a\tb\nc\303(\td\n'     "bytes of no text"   'line 2: byte 2, 0xC3, is not UTF-8$'
row 'a\tb\nc\0d\te\n'       "a byte 0"           'line 2: byte 2 is 0$'
awk 'BEGIN { split("cat dog bird fox", who); split("red blue", colour)
    for (i = 0; i < 240; i++) printf "The %s & the <%s> %d?\tIt is %s.\n", who[i % 4 + 1], who[int(i / 4) % 4 + 1], i % 9, colour[i % 2 + 1] }' >"$pairs"
refuses "a template without {answer}" "--template: expected \{prompt\} and behind it \{answer\}" "$pairs" -o "$tmp/p.gguf" --template "{prompt}:"
refuses "--template of a text"   "--template: for pairs alone" "$x" -o "$tmp/p.gguf" --template "{prompt}{answer}"
refuses "--epochs and --steps"   "--epochs and --steps exclude each other" "$pairs" -o "$tmp/p.gguf" --epochs 1 --steps 1
refuses "--lora without --init"  "--lora needs --init MODEL" "$pairs" -o "$tmp/p.gguf" --lora 2
refuses "--lora and --muon"      "--muon: cannot be given with --lora" "$pairs" -o "$tmp/p.gguf" --init "$gg" --lora 2 --muon 3
refuses "--adapter to train"     "--adapter: for --eval alone" "$pairs" -o "$tmp/p.gguf" --adapter "$gg"
refuses "--adapter to train an adapter" "--adapter: for --eval alone" "$pairs" -o "$tmp/p.gguf" --init "$gg" --lora 2 --adapter "$gg"
refuses "two adapters"           "--adapter: expected one at most, got .a. and .b." "$pairs" --init "$gg" --eval --adapter a --adapter b
pair_run() { run train "$1" -o "$tmp/$2" $toy --type f32 --every 20 --epochs 1 --report "$tmp/$2.html" --valid "$tmp/valid.tsv"; }
printf 'The cat & the <cow>?\tIt is red.\textra\tcells\nThe fox?\tIt is blue.\n' >"$tmp/valid.tsv"
pair_run "$pairs" p.gguf
same  "train on pairs: exit status" 0 $status
like  "train on pairs: how many" '^240 pairs, 2 held out; 60 steps$' "$err"
like  "train on pairs: a sample" '^    The cat & the <cow>\? \|' "$err"
{ printf '\357\273\277'; sed 's/$/\r/' "$pairs"; } >"$tmp/crlf.tsv"
pair_run "$tmp/crlf.tsv" crlf.gguf
check "train on pairs: line ends of Windows and a BOM change nothing" cmp "$tmp/p.gguf" "$tmp/crlf.gguf"
run train "$pairs" -o "$tmp/half.gguf" $toy --type f32 --every 20 --epochs 1 --report "$tmp/half.html" --valid "$tmp/valid.tsv" --stop 31
head -n 200 "$pairs" >"$tmp/some.tsv"
refuses "--epochs at --resume"   "--epochs: cannot be given with --resume" "$pairs" -o "$tmp/half.gguf" --resume --epochs 2
refuses "a text at --resume"     "$tmp/half.gguf.ckpt: has learned from pairs: --tsv" "$x" -o "$tmp/half.gguf" --resume
run train "$tmp/some.tsv" -o "$tmp/half.gguf" --resume --valid "$tmp/valid.tsv"
like  "train, other pairs at --resume" "^train: $tmp/half.gguf.ckpt: belongs to another text, or another --valid or --escape$" "$err"
run train "$pairs" -o "$tmp/half.gguf" --resume --valid "$tmp/valid.tsv" --report "$tmp/half.html"
check "train on pairs, resumed: the same bits" cmp "$tmp/p.gguf.ckpt" "$tmp/half.gguf.ckpt"
same  "train on pairs, resumed: the same curves" "$(grep '<polyline' "$tmp/p.gguf.html")" "$(grep '<polyline' "$tmp/half.html")"
run train "$pairs" -o "$tmp/p.lora" --init "$tmp/p.gguf" --lora 2 --steps 20 --every 10 --batch 4 -t 1 --report "$tmp/lora.html" --stop 11
run train "$pairs" -o "$tmp/p.lora" --resume
run train "$pairs" -o "$tmp/q.lora" --init "$tmp/p.gguf" --lora 2 --steps 20 --every 10 --batch 4 -t 1 --report "$tmp/lora.html"
cp "$tmp/err" "$tmp/lora.err"
check "train --lora, resumed: the same bits" cmp "$tmp/p.lora.ckpt" "$tmp/q.lora.ckpt"
check "train --lora: a small file" test "$(size "$tmp/q.lora")" -lt "$(($(size "$tmp/p.gguf") / 3))"
works "train --eval of pairs" train "$tmp/valid.tsv" --init "$tmp/p.gguf" --eval
like  "train --eval of pairs: answers" 'valid.tsv: [0-9.]+ % of 2 answers right' "$out"
works "train --eval --adapter" train "$tmp/valid.tsv" --init "$tmp/p.gguf" --eval --adapter "$tmp/q.lora"
# The rows that the adapter was not trained on; for the model, which had a --valid of its own, they are all.
run evaluate -m "$tmp/p.gguf" -f "$pairs" --template '{prompt} {answer}' -n 2 --adapter "$tmp/q.lora"
same  "evaluate --adapter: what was held out of its training" "$(sed -n 's/^[0-9]* pairs, \([0-9]*\) held out.*/\1/p' "$tmp/lora.err")" \
    "$(sed -n 's/^rows  *//p' "$tmp/out")"
refuses "no adapter"             "$tmp/p.gguf: no adapter" "$pairs" --init "$tmp/p.gguf" --eval --adapter "$tmp/p.gguf"
if command -v python3 >/dev/null 2>&1; then
    for page in p.gguf half lora; do check "train --report: $page.html" python3 tests/report_test.py "$tmp/$page.html"; done
else
    skip "cli: no python3, so no report is parsed"
fi

# ---- quantize
q=$tmp/quant.gguf
wide="--layers 1 --heads 2 --width 256 --context 32 --batch 4 --vocab 300 -t 1 --steps 1 --type f32"
refuses_q() { what=$1 regex=$2; shift 2; fails "quantize, $what" "^quantize: $regex" quantize "$@"; }   # WHAT REGEX ARGUMENTS...
"$bin/train" "$x" -o "$tmp/wide.gguf" $wide 2>/dev/null
works "quantize --help" quantize --help
like  "quantize --help: usage" '^usage: quantize IN.gguf OUT.gguf TYPE ' "$out"
works "quantize --version" quantize --version
run quantize --help
types=$(sed -n 's/^\(f32 f16 bf16 .*\)\.$/\1/p' "$tmp/out")
check "quantize --help: the types" test "$(printf '%s\n' $types | wc -l)" -ge 20
refuses_q "no arguments"        "expected IN.gguf OUT.gguf TYPE, got 0 of them"
refuses_q "one argument"        "expected IN.gguf OUT.gguf TYPE, got 1 of them" "$gg"
refuses_q "four arguments"      "unexpected argument 'x', after 'q4_0'" "$gg" "$q" q4_0 x
refuses_q "an unknown option"   "unknown option '--nonsense'" "$gg" "$q" q4_0 --nonsense
refuses_q "an unknown type"     "TYPE: unknown type 'q4_k_m': expected one of f32 f16 .* q4_k .*q2_0$" "$gg" "$q" q4_k_m
refuses_q "a type that is only read" "TYPE: NVFP4 is only read by gpt.h, not written: expected one of f32 " "$gg" "$q" nvfp4
refuses_q "no such file"        "$tmp/none.gguf: " "$tmp/none.gguf" "$q" q4_0
refuses_q "a folder"            "$tmp: a folder, expected a GGUF file" "$tmp" "$q" q4_0
refuses_q "no GGUF file"        "$tmp/bad.gguf: GGUF header: expected the bytes GGUF" "$tmp/bad.gguf" "$q" q4_0
head -c 20000 "$tmp/wide.gguf" >"$tmp/short.gguf"
refuses_q "a file cut short"    "$tmp/short.gguf: .*cut short" "$tmp/short.gguf" "$q" q4_0
head -c 200 "$tmp/wide.gguf" >"$tmp/short.gguf"
refuses_q "a header cut short"  "$tmp/short.gguf: " "$tmp/short.gguf" "$q" q4_0
cp "$gg" "$tmp/keep.gguf"
refuses_q "IN for OUT"          "OUT $tmp/./out.gguf: that is IN" "$gg" "$tmp/./out.gguf" q4_0
check "quantize, IN for OUT: it is as it was" cmp "$gg" "$tmp/keep.gguf"
refuses_q "a device for OUT"    "OUT /dev/null: a device or a pipe" "$gg" /dev/null q4_0
refuses_q "OUT in no folder"    "OUT $tmp/none/x: cannot write: " "$gg" "$tmp/none/x" q4_0
refuses_q "a pattern without a type" "--tensor: expected PATTERN=TYPE, got 'ffn'" "$gg" "$q" q4_0 --tensor ffn
refuses_q "a pattern's type"    "--tensor: unknown type 'q4': expected one of f32" "$gg" "$q" q4_0 --tensor ffn=q4
refuses_q "a pattern of nothing" "--tensor: $gg has no matrix with 'fnn' in its name" "$gg" "$q" q4_0 --tensor ffn_up=q8_0,fnn=q8_0
refuses_q "no importance matrix" "$tmp/none.gguf: " "$gg" "$q" q4_0 --imatrix "$tmp/none.gguf"
refuses_q "a model for an importance matrix" "--imatrix $tmp/wide.gguf: none of the [0-9]+ matrices" "$gg" "$q" q4_0 --imatrix "$tmp/wide.gguf"
check "quantize: what is refused writes nothing" test ! -e "$q" -a ! -e "$q.part"
for type in $types; do
    works "quantize to $type" quantize "$tmp/wide.gguf" "$q" $type
    like  "quantize to $type: the sizes" '^[0-9.]+ MB, [0-9.]+ bits per weight -> [0-9.]+ MB, [0-9.]+ bits per weight$' "$out"
    run generate -m "$q" -p "The cat" -n 2 --temp 0 -c 32
    same  "what quantize made in $type runs" 0 $status
    eval "size_$type=\$(size \"\$q\")"
done
check "quantize: fewer bits, smaller files" test "$size_q2_k" -lt "$size_q3_k" -a "$size_q3_k" -lt "$size_q4_k" -a "$size_q4_k" -lt "$size_q5_k" \
    -a "$size_q5_k" -lt "$size_q6_k" -a "$size_q6_k" -lt "$size_q8_0" -a "$size_q8_0" -lt "$size_f16" -a "$size_f16" -lt "$size_f32"
works "quantize, a copy" quantize "$tmp/wide.gguf" "$q" f32
works "quantize, a copy of it" quantize "$q" "$tmp/copy.gguf" F32
check "quantize to the type that it has: the same file" cmp "$q" "$tmp/copy.gguf"
works "quantize, one thread" quantize "$tmp/wide.gguf" "$q" q4_k -t 1
works "quantize, three threads" quantize "$tmp/wide.gguf" "$tmp/copy.gguf" q4_k -t 3
check "quantize: the same bits on any number of threads" cmp "$q" "$tmp/copy.gguf"
refuses_q "what is quantised already" "$q: .*is Q4_K: .*--requantize does it all the same" "$q" "$tmp/copy.gguf" q3_k
check "quantize, refused: OUT is as it was" cmp "$q" "$tmp/copy.gguf"
works "quantize --requantize" quantize "$q" "$tmp/copy.gguf" q3_k --requantize
works "quantize back to F16" quantize "$q" "$tmp/copy.gguf" f16
works "quantize, rows that do not fit" quantize "$gg" "$q" q4_k
like  "quantize, rows that do not fit" '^[1-9][0-9]* matrices have rows that are no whole number of blocks' "$out"
works "quantize --dry-run" quantize "$tmp/wide.gguf" "$tmp/dry.gguf" q4_k --dry-run --tensor ffn_=q6_k,attn_qkv=f16 --tensor position_embd=q8_0
like  "quantize --dry-run: a type for all"   '^token_embd.weight  *\[256, [0-9]+\]  *F32 -> Q4_K$' "$out"
like  "quantize --dry-run: a type by name"   '^blk.0.ffn_down.weight  *\[1024, 256\]  *F32 -> Q6_K$' "$out"
like  "quantize --dry-run: another"          '^blk.0.attn_qkv.weight  *\[256, 768\]  *F32 -> F16$' "$out"
like  "quantize --dry-run: what else would stay" '^position_embd.weight  *\[256, 32\]  *F32 -> Q8_0$' "$out"
works "quantize --dry-run, a name's begin" quantize "$tmp/wide.gguf" "$tmp/dry.gguf" q4_k --dry-run --tensor '^position=f16,^token_embd.weight=q8_0'
same  "quantize --dry-run, a name's begin: matrices" 2 "$(printf '%s\n' "$out" | grep -c '\-> [FQ][18]')"
refuses_q "a begin that is none" "--tensor: $tmp/wide.gguf has no matrix with '\^qkv' in its name" "$tmp/wide.gguf" "$q" q4_0 --tensor ^qkv=q8_0
works "quantize --dry-run" quantize "$tmp/wide.gguf" "$tmp/dry.gguf" q4_k --dry-run
like  "quantize --dry-run: what stays"       '^blk.0.ffn_norm.weight  *\[256\]  *F32$' "$out"
check "quantize --dry-run writes nothing" test ! -e "$tmp/dry.gguf"
if [ -w /dev/full ]; then
    "$bin/quantize" "$tmp/wide.gguf" "$tmp/dry.gguf" q4_k --dry-run >/dev/full 2>"$tmp/err"
    same "quantize --dry-run, a full disk: exit status" 1 $?
fi
if (trap '' XFSZ; ulimit -f 100) 2>/dev/null; then
    cp "$q" "$tmp/keep.gguf"
    (trap '' XFSZ; ulimit -f 100; "$bin/quantize" "$tmp/wide.gguf" "$q" q8_0) >"$tmp/out" 2>"$tmp/err"
    same  "quantize, a full disk: exit status" 1 $?
    like  "quantize, a full disk" "^quantize: $q: cannot write: .*; what was there before is as it was" "$(cat "$tmp/err")"
    check "quantize, a full disk: OUT is as it was" cmp "$q" "$tmp/keep.gguf"
    check "quantize, a full disk: no part is left" test ! -e "$q.part"
fi

# ---- classify
pets() { run classify -m examples/models/stories.gguf "$tmp/pets.tsv" --template '{prompt} It was a {answer}.' "$@"; }
# Accuracy; precision, recall, F1 and rows of bird, cat, dog and their means: scikit-learn's report has the same figures.
figures() { printf '%s\n' "$out" | awk 'NR == 1 { print $2 } NR > 3 && NR < 8 { $1 = ""; print }' | tr -d '\n'; }
# The rows of the confusion matrix, likewise.
matrix() { printf '%s\n' "$out" | awk 'NR > 9 { $1 = ""; print }' | tr -d '\n'; }
# What they must be, from the choices that -o wrote: a row for each text, its label and the choice.
from_choices() {
    awk -F '\t' '{ n[$2]++; chosen[$3]++; both[$2, $3]++; right += $2 == $3; rows++ }
        function ratio(a, b) { return b ? a / b : 0 }
        END { split("bird cat dog", label, " ")
            for (i = 1; i <= 3; i++) {
                l = label[i]; hit = both[l, l]; p = ratio(hit, chosen[l]); r = ratio(hit, n[l]); f = ratio(2 * p * r, p + r)
                P += p / 3; R += r / 3; F += f / 3
                figures = figures sprintf(" %.4f %.4f %.4f %d", p, r, f, n[l])
                for (j = 1; j <= 3; j++) matrix = matrix " " both[l, label[j]] + 0
            }
            printf "%.4f:%s %.4f %.4f %.4f %d|%s", right / rows, figures, P, R, F, rows, matrix }' "$tmp/choices"
}
for shots in 0 1; do
    pets --shots $shots -o "$tmp/choices"
    same "classify --shots $shots: figures and confusion" "$(from_choices)" "$(figures)|$(matrix)"
    printf '%s' "$out" >"$tmp/one"
    pets --shots $shots -np 1 -t 1 -b 7 -o "$tmp/other"
    same  "classify --shots $shots: the same by one text at a time" "$(cat "$tmp/one")" "$out"
    check "classify --shots $shots: the same choices" cmp "$tmp/choices" "$tmp/other"
done
like  "classify -o" "^It wags its tail and barks.	dog	(bird|cat|dog)$" "$(sed -n 3p "$tmp/choices")"
same  "classify -o: judged rows" 9 "$(wc -l <"$tmp/choices" | tr -d ' ')"
pets --instruction 'In the zoo.\n'
printf '%s' "$out" >"$tmp/one"
run classify -m examples/models/stories.gguf "$tmp/pets.tsv" --template 'In the zoo.\n{prompt} It was a {answer}.'
same  "classify: what is frozen counts as in the template" "$(cat "$tmp/one")" "$out"
pets --calibrate "It is here."
like  "classify --calibrate" '^accuracy [0-9.]+: [0-9] of 9; "bird" for every text: 0.3333$' "$out"
pets --shots 2
like  "classify: too few examples" "^classify: $tmp/pets.tsv: --shots: fewer rows of (bird|cat|dog) that are not judged" "$err"
pets --word cat=kitten --word dog=puppy --instruction 'One of {labels}.\n' --held-out 0 --limit 5 --per-byte
like  "classify: words, an instruction, all rows" '^accuracy [0-9.]+: [0-5] of 5; ' "$out"
fails "classify, no file" "^classify: no file" classify -m "$model"
fails "classify, no such label" "^classify: --word: expected LABEL=WORD with a label of " classify -m "$model" "$tmp/pets.tsv" --word cow=moo
printf 'a\tb\ttrain\nc\td\ttrian\n' >"$tmp/typo.tsv"
fails "classify, a typing error in column 3" "^classify: $tmp/typo.tsv: line 2: column 3: expected train, validate or test.*'trian'" classify -m "$model" "$tmp/typo.tsv"
fails "classify, a share" "^classify: --held-out: expected 0 to 1, got 2" classify -m "$model" "$tmp/pets.tsv" --held-out 2
fails "classify, nothing judged" "^classify: $tmp/pets.tsv: no row is left to judge: --held-out, 0.01, of 12 rows is none; --held-out 0 judges all" \
      classify -m "$model" "$tmp/pets.tsv" --held-out 0.01
sed 's/validate/test/' "$tmp/pets.tsv" >"$tmp/test.tsv"
for p in "classify -m $model" "evaluate -m $model"; do
    fails "${p%% *}, nothing to validate" "^${p%% *}: $tmp/test.tsv: column 3 says validate in no row: --held-out 0.1 judges a tenth .* --held-out 0 all rows" $p -f "$tmp/test.tsv"
done
fails "classify, all rows examples" "^classify: $tmp/test.tsv: no row is left to judge: the examples of --shots are all" classify -m "$model" "$tmp/test.tsv" --held-out 0 --shots 4
for p in classify evaluate; do
    fails "$p, the file twice" "^$p: --file: expected one at most, got 'a' and 'b'" $p -m "$model" a --file b
    fails "$p, the file twice, the other way" "^$p: unexpected argument 'b', after 'a'" $p -m "$model" -f a b
done
fails "classify, which examples of none" "^classify: --seed: for --shots alone" classify -m "$model" "$tmp/pets.tsv" --seed 3
if ln -s links/target "$tmp/link" 2>/dev/null && mkdir "$tmp/links"; then
    ln -s link "$tmp/link2"
    for i in 1 2; do    # 1: what it leads to is not there yet
        pets -o "$tmp/link2"
        check "classify -o through links, $i: the file" test ! -h "$tmp/links/target" -a "$(wc -l <"$tmp/links/target" | tr -d ' ')" = 9
        check "classify -o through links, $i: the links are still there" test -h "$tmp/link" -a -h "$tmp/link2"
        same  "classify -o through links, $i: no part" target "$(ls "$tmp/links")"
    done
    ln -s pets.tsv "$tmp/link3"
    fails "classify -o through a link to the table" "^classify: -o $tmp/link3: that is the table" classify -m "$model" "$tmp/pets.tsv" -o "$tmp/link3"
fi
fails "classify -o over the table" "^classify: -o $tmp/pets.tsv: that is the table" classify -m "$model" "$tmp/pets.tsv" -o "$tmp/pets.tsv"
fails "classify -o over the model" "^classify: -o $model: that is the model" classify -m "$model" "$tmp/pets.tsv" -o "$model"
fails "classify -o to a device" "^classify: --out /dev/null: a device or a pipe, expected" classify -m "$model" "$tmp/pets.tsv" --out /dev/null
fails "classify -o where it cannot" "^classify: -o $tmp/none/x: cannot write: " classify -m "$model" "$tmp/pets.tsv" -o "$tmp/none/x"
fails "classify, a context too short" "^classify: no text fits the context \(-c\): line 4: 3 choices of .* of the context, 12 are free" classify -m "$model" "$tmp/pets.tsv" -c 12
fails "classify, examples too long" "^classify: instruction and examples have [0-9]+ tokens, the context is 12" classify -m "$model" "$tmp/pets.tsv" -c 12 --shots 1
row() { printf "$1" >"$tmp/row.tsv"; fails "classify, $2" "^classify: $tmp/row.tsv: $3" classify -m "$model" "$tmp/row.tsv"; }
row 'a\tb\nc\n'              "no tab in a line"   'line 2: 1 column, expected text TAB label$'
row 'a\tb\n\td\n'            "an empty text"      'line 2: the text is empty$'
row 'a\tb\nc\t\te\n'         "an empty label"     'line 2: the label is empty$'
row 'a\tb\nc\tb\n'           "one label"          'column 2 has 1 different label, expected 2 to 100$'
run train "$tmp/pets.tsv" --init examples/models/stories.gguf -o "$tmp/pets.gguf" --steps 10 --batch 3 --lr 1e-3 --warmup 0 --template '{prompt} ({answer})' -t 1
run classify -m "$tmp/pets.gguf" "$tmp/pets.tsv"
printf '%s' "$out" >"$tmp/one"
run classify -m "$tmp/pets.gguf" "$tmp/pets.tsv" --template '{prompt} ({answer})'
same  "classify: a tuned model has its template" "$(cat "$tmp/one")" "$out"
cut -f1-2 "$tmp/pets.tsv" >"$tmp/two.tsv"
run train "$tmp/two.tsv" --init examples/models/stories.gguf -o "$tmp/pets.gguf" --steps 1 --batch 3 --held-out 0.5 -t 1
run classify -m "$tmp/pets.gguf" "$tmp/two.tsv"
like  "classify: a tuned model has what it held out" ': [0-6] of 6; ' "$out"
run evaluate -m "$tmp/pets.gguf" -f "$tmp/two.tsv" -n 0
like  "evaluate: of a tuned model too" '^rows +6$' "$out"
run evaluate -m "$tmp/pets.gguf" -f "$tmp/two.tsv" -n 0 --held-out 0
like  "evaluate --held-out 0: all rows" '^rows +12$' "$out"

# ---- train_naive
works "train_naive --help" train_naive --help
like  "train_naive --help: usage" '^usage: train_naive TEXT' "$out"
fails "train_naive, no text" "^train_naive: no text" train_naive
fails "train_naive, no such text" "^train_naive: cannot read" train_naive "$tmp/none.txt"
fails "train_naive, no steps" "^train_naive: --steps: expected" train_naive "$x" --steps
fails "train_naive, part of a step" "^train_naive: --steps: expected" train_naive "$x" --steps 1.5
fails "train_naive, unknown option" "^train_naive: expected one TEXT" train_naive "$x" --nonsense
printf 'short' >"$tmp/short.txt"
fails "train_naive, a short text" "^train_naive: the text is too short" train_naive "$tmp/short.txt"
run train_naive "$x" --steps 20
same  "train_naive: exit status" 0 $status
check "train_naive: a sample of 200 bytes and a line's end" test "$(size "$tmp/out")" = 201
like  "train_naive: the loss begins at ln 256" '^step 1  loss 5\.[4-6][0-9]* nats per byte$' "$err"
like  "train_naive: 20 steps lower it" '^step 20  loss [1-3]\.[0-9]* nats per byte$' "$err"

if [ -z "$model" ]; then
    skip "cli: no model in the repository yet, so the programs are only tested without one"
    report cli
    exit
fi

# ---- generate
prompt="Once upon a time"
run generate -m "$model" -p x -n 0 -v
context=$(printf '%s\n' "$err" | sed -n 's/.*, context \([0-9]*\),.*/\1/p')       # of the model; of a large one, what is taken
like  "the context" '^[1-9][0-9]+$' "$context"
works "generate" generate -m "$model" -p "$prompt" -n 24
like  "generate prints the prompt first" "^$prompt" "$out"
text=$out
same  "no line end is added" "$(printf '%s' "$out" | wc -c)" "$(wc -c <"$tmp/out")"
works "the default seed" generate -m "$model" -p "$prompt" -n 24 --seed 0
same  "the default seed is 0" "$text" "$out"
works "another seed" generate -m "$model" -p "$prompt" -n 24 -s 12345
check "another seed, another text" test "$text" != "$out"
lora=$tmp/some.lora.gguf
run train "$tmp/pets.tsv" --init "$model" -o $lora --lora 1 --steps 3 --every 3 --batch 4 --lr 0.02 --lr-last 1 --warmup 0 --held-out 0 -t 1
same  "train, some adapter: exit status" 0 $status
width=$(printf '%s\n' "$err" | sed -n 's/.* heads, width \([0-9]*\), .*/\1/p')
works "an adapter" generate -m "$model" -p "$prompt" -n 24 --adapter $lora
check "an adapter, another text" test "$text" != "$out"
adapted=$out
works "an adapter at half its scale" generate -m "$model" -p "$prompt" -n 24 --lora $lora:0.5
check "half, another text" test "$text" != "$out" -a "$adapted" != "$out"
works "an adapter at scale 1" generate -m "$model" -p "$prompt" -n 24 --adapter $lora:1
same  "scale 1 is the adapter as it is" "$adapted" "$out"
works "an adapter at scale 0" generate -m "$model" -p "$prompt" -n 24 --adapter $lora:0
same  "scale 0 is none" "$text" "$out"
no_adapter() { fails "an adapter, $1" "^generate: $2" generate -m "$model" -p x --adapter "$3"; }
no_adapter "no such file"    "--adapter $tmp/none.gguf: there is no such file" "$tmp/none.gguf:2"
no_adapter "a folder"        "--adapter $tmp: a folder, expected a GGUF file" "$tmp:2"
no_adapter "no name"         "--adapter: the name of the file is empty" ":2"
no_adapter "another file"    "--adapter $model: general.type: expected .adapter." "$model"
for scale in nan x inf 1e40 ""; do
    no_adapter "a scale of '$scale'" "--adapter $lora:$scale: expected a number as the scale, behind the colon, got '$scale'" "$lora:$scale"
done
fails "two adapters" "^generate: --lora: expected one at most, got '$lora' and 'b'" generate -m "$model" -p x --adapter $lora --lora b
cp $lora "$tmp/a:0.5"
if [ -f "$tmp/a:0.5" ]; then
    works "an adapter with a colon in its name" generate -m "$model" -p "$prompt" -n 24 --adapter "$tmp/a:0.5"
    same  "an adapter with a colon in its name: at scale 1" "$adapted" "$out"
    works "... and a scale" generate -m "$model" -p "$prompt" -n 24 --adapter "$tmp/a:0.5:0"
    same  "... and a scale of 0" "$text" "$out"
fi
# Every other program with the option: the adapter changes what it says, at scale 0 it does not.
printf '%s there was a dog.\nOne day, Tim went to the park.\n' "$prompt" >"$tmp/park"
for p in "beam -p Once -n 8 -w 2" "beam -p Once -n 8 -w 2 --draw" "perplexity -f $tmp/park" "embed -f $tmp/park -p dog" "embed -f $tmp/park -p dog --rerank" \
         "ask -f $tmp/park -p dog -n 8" "classify -f $tmp/pets.tsv --calibrate x" "evaluate -f $tmp/pets.tsv --held-out 0 -n 0" "json --json -p dog -n 20"; do
    works "$p" ${p%% *} -m "$model" ${p#* }
    plain=$out
    works "$p, at scale 0" ${p%% *} -m "$model" ${p#* } --adapter $lora:0
    same  "$p, at scale 0: the same" "$plain" "$out"
    for scale in 3 -3 10 -10; do    # few answers are possible to some: the first scale that gives another one
        works "$p, an adapter at scale $scale" ${p%% *} -m "$model" ${p#* } --adapter $lora:$scale
        [ "$plain" = "$out" ] || break
    done
    check "$p, an adapter: not the same" test "$plain" != "$out"
done

# ---- a model that makes vectors alone
encoder=tests/golden/embed/bert.gguf
for p in "generate -p x" chat "beam -p x" "perplexity -p x" "json --json -p x" "tools -p x" npc bench "classify -f $tmp/pets.tsv" "evaluate -f $tmp/pets.tsv" \
         "ask -f $tmp/park -p x" "embed -f $tmp/park -p x --rerank"; do
    case $p in *" "*) rest=${p#* } ;; *) rest= ;; esac
    fails "${p%% *}, a model that writes nothing" "^${p%% *}: $encoder: bert makes vectors of texts and writes none: it is for embed, and for ask's" ${p%% *} -m $encoder $rest
done
works "embed, a model for it" embed -m $encoder -f "$tmp/park" -p x
works "ask, two models" ask -m "$model" --embedding-model $encoder -f "$tmp/park" -p x -n 4 -k 1
fails "embed, a batch too small for the text" "^embed: -b: 'Once upon a time there was a dog.' has [0-9]+ tokens, and bert takes .* got 4$" embed -m $encoder -f "$tmp/park" -p x -b 4
run   embed -m $encoder -f "$tmp/park" -p x -c 4
like  "embed, a window too small for the text" '^embed: 2 lines are longer than 4 tokens' "$err"
for option in "-t 1" "-t 2" "-t 3" "-b 1" "-b 7" "--kernels ref" "--mapped" "--mapped-experts" "-c 64"; do
    works "generate $option" generate -m "$model" -p "$prompt" -n 24 $option
    same  "generate $option: the same text" "$text" "$out"
done
for kv in f16 f32 q8_0 q4_0; do
    works "generate --kv $kv" generate -m "$model" -p "$prompt" -n 24 --kv $kv
    like  "generate --kv $kv" "^$prompt." "$out"
done
out=$(printf '%s\n' "$prompt" | "$bin/generate" -m "$model" -n 24 2>&1);      same "prompt from stdin" "$text" "$out"
out=$(printf '%s\n' "$prompt" | "$bin/generate" -m "$model" -p - -n 24 2>&1); same "prompt from -p -" "$text" "$out"
printf '%s\n' "$prompt" >"$tmp/prompt.txt"
works "prompt from a file" generate -m "$model" -f "$tmp/prompt.txt" -n 24
same  "prompt from a file" "$text" "$out"
works "without the prompt" generate -m "$model" -p "$prompt" -n 24 --no-display-prompt
same  "without the prompt" "$text" "$prompt$out"
works "-n 0" generate -m "$model" -p "$prompt" -n 0
same  "-n 0 prints the prompt alone" "$prompt" "$out"
works "greedy" generate -m "$model" -p "$prompt" -n 24 --temp 0
greedy=$out
works "top-k 1" generate -m "$model" -p "$prompt" -n 24 --top-k 1 --seed 7
same  "top-k 1 is greedy" "$greedy" "$out"
works "greedy, longer" generate -m "$model" -p "$prompt" -n 60 --temp 0 --ignore-eos
case $out in "$greedy"*) pass ;; *) fail "a longer text does not begin with the shorter one" ;; esac
stop=$(printf '%s' "$out" | cut -c$((${#prompt} + 20))-$((${#prompt} + 23)))
before=${out%%"$stop"*}
works "a stop string" generate -m "$model" -p "$prompt" -n 60 --temp 0 --ignore-eos --stop "$stop" --stop "no such string"
same  "a stop string ends the text and does not appear" "$before" "$out"
works "all samplers" generate -m "$model" -p "$prompt" -n 24 --temp 1.2 --top-k 50 --top-p 0.9 --min-p 0.02 --repeat-penalty 1.3 \
      --repeat-last-n -1 --frequency-penalty 0.1 --presence-penalty 0.1 -s 3
like  "all samplers" "^$prompt." "$out"
works "samplers that change nothing" generate -m "$model" -p "$prompt" -n 24 --typical 1 --top-n-sigma 0 --xtc-probability 0 --xtc-threshold 0.2 \
      --dry-multiplier 0 --no-repeat-ngram 0 --dynatemp-range 0 --samplers "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
same  "samplers that change nothing: the same text" "$text" "$out"
works "the newer samplers" generate -m "$model" -p "$prompt" -n 24 --temp 1.2 --typical 0.9 --top-n-sigma 2 --xtc-probability 0.5 --xtc-threshold 0.05 \
      --dry-multiplier 0.8 --dry-base 1.5 --dry-allowed-length 1 --dry-last-n 64 --no-repeat-ngram 3 --dynatemp-range 0.5 --dynatemp-exp 2 -s 3
like  "the newer samplers" "^$prompt." "$out"
works "--samplers" generate -m "$model" -p "$prompt" -n 24 --top-k 1 --samplers "top_k;temperature" --seed 7 --repeat-penalty 5
same  "--samplers without penalties" "$greedy" "$out"
fails "no such sampler" "^generate: samplers: there is no 'top_q'" generate -m "$model" -p x --samplers "top_k;top_q"
fails "a base below 1" '^generate: --dry-base: expected 1 or more' generate -m "$model" -p x --dry-base 0.5
works "the context is full" generate -m "$model" -p "$prompt" -c 16 --ignore-eos
like  "the context is full" "^$prompt." "$out"
run generate -m "$model" -p "$prompt" -n 8 -v
like  "-v: figures on stderr" 'tok/s; -n tokens reached; seed 0, kernels [a-z0-9-]+, [0-9]+ threads?, context' "$err"
like  "-v: stdout stays pure" "^$prompt" "$out"
for threads in 1 2 5; do
    run generate -m "$model" -p "$prompt" -n 2 -v -t $threads
    like "-v -t $threads" ", $threads threads, context" "$err"
done
fails "the prompt is too long" '^generate: .' generate -m "$model" -p "$prompt $prompt $prompt $prompt" -c 8
fails "no such kernels"        '^generate: .*nonsense' generate -m "$model" -p x --kernels nonsense
fails "no such cache type"     '^generate: --kv: expected' generate -m "$model" -p x --kv f13
fails "two types of cache"     '^generate: -ctv: expected q8_0' generate -m "$model" -p x -ctk q8_0 -ctv f16
fails "a folder for a text"    "^generate: $tmp: a folder" generate -m "$model" -f "$tmp"
works "llama.cpp's names" generate -m "$model" -p "$prompt" --predict 24 -ctk f16 -ctv f16 -r "no such string"
same  "llama.cpp's names: the same text" "$text" "$out"
works "-e" generate -m "$model" -e -p 'a\n\tb\\n\x41\q' -n 0
same  "-e: what it prints" "$(printf 'a\n\tb\\nA\\q')" "$out"
works "without -e" generate -m "$model" -p 'a\nb' -n 0
same  "without -e: as it stands" 'a\nb' "$out"
works "an empty prompt" generate -m "$model" -p "" -n 24 --temp 0
like  "an empty prompt: a text from its beginning" '^ *[A-Z]' "$out"
works "--top-p 0" generate -m "$model" -p "$prompt" -n 24 --top-k 0 --min-p 0 --temp 1.5 --top-p 0
same  "--top-p 0 is greedy" "$greedy" "$out"
printf '%s\r\n' "$prompt" >"$tmp/prompt.txt"
works "a prompt with CR LF" generate -m "$model" -f "$tmp/prompt.txt" -n 24
same  "a prompt with CR LF: the same text" "$text" "$out"
printf 'a\000b' >"$tmp/zero.txt"
fails "a zero byte"            '^generate: the prompt holds a zero byte' generate -m "$model" -f "$tmp/zero.txt"
if [ -w /dev/full ]; then
    "$bin/generate" -m "$model" -p "$prompt" -n 8 >/dev/full 2>"$tmp/err"
    same "a full disk: exit status" 1 $?
    like "a full disk" '^generate: cannot write to stdout: No space left' "$(cat "$tmp/err")"
fi

if [ -f examples/models/stories.gguf ]; then
    seed=$(sed -n 's/.*this one: make run SEED=\([0-9]*\).*/\1/p' README.md)
    MAKEFLAGS= make -s --no-print-directory run B="$bin" SEED=$seed >"$tmp/out" 2>"$tmp/err"
    same "make run: exit status" 0 $?
    like "make run: its speed and the seed" 'text [0-9]* tokens, [0-9.]* tok/s; .* seed '$seed',' "$(cat "$tmp/err")"
    like "make run: how to repeat it" "^    make run SEED=$seed\$" "$(cat "$tmp/err")"
    check "make run: a story of 150 words at least" test "$(wc -w <"$tmp/out")" -ge 150
    MAKEFLAGS= make -s --no-print-directory run B="$bin" >"$tmp/other" 2>"$tmp/err"
    check "make run: another story without SEED" test "$(cat "$tmp/out")" != "$(cat "$tmp/other")"
    seed=$(sed -n 's/^    make run SEED=//p' "$tmp/err")
    MAKEFLAGS= make -s --no-print-directory run B="$bin" SEED="$seed" 2>/dev/null >"$tmp/again"
    same "make run SEED=$seed: the same story" "$(cat "$tmp/other")" "$(cat "$tmp/again")"
    quoted=$(sed -n 's/^> //p' README.md | tr '\n' ' ' | sed 's/ *\[.*//')
    case $(tr '\n' ' ' <"$tmp/out") in "$quoted"*) pass ;; *) fail "README.md quotes another story than make run tells" ;; esac
    MAKEFLAGS= make -s --no-print-directory run B="$bin" MODEL=none.gguf >"$tmp/out" 2>"$tmp/err"
    check "make run without the model: fails" test $? -ne 0
    same "make run without the model: stdout" "" "$(cat "$tmp/out")"
    like "make run without the model: says so" '^make run: the model is missing' "$(cat "$tmp/err")"
fi

# Ctrl-C: the program ends by itself, soon, with the text so far and the status that shells give to Ctrl-C.
"$bin/generate" -m "$model" -p "$prompt" --ignore-eos -n 100000 -c 0 >"$tmp/out" 2>"$tmp/err" &
pid=$!
while [ ! -s "$tmp/out" ] && kill -0 $pid 2>/dev/null; do :; done
kill -INT $pid 2>/dev/null
wait $pid; status=$?
case $status in 130 | 0) pass ;; *) fail "Ctrl-C: exit status $status" ;; esac      # 0: the context was full before
like "Ctrl-C: the text so far" "^$prompt" "$(cat "$tmp/out")"
same "Ctrl-C: nothing on stderr" "" "$(cat "$tmp/err")"

# ---- tokenize
printf 'One day, a little girl said: "Hello!"\n\tcaf\303\251 \360\237\230\200 \377' >"$tmp/text"
"$bin/tokenize" -m "$model" <"$tmp/text" >"$tmp/ids" 2>"$tmp/err"
same "tokenize: exit status" 0 $?
like "tokenize: ids on one line" '^[0-9]+( [0-9]+)*$' "$(cat "$tmp/ids")"
same "tokenize: one line" 1 "$(wc -l <"$tmp/ids" | tr -d ' ')"
"$bin/tokenize" -m "$model" --decode <"$tmp/ids" >"$tmp/back" 2>>"$tmp/err"
check "tokenize --decode gives the bytes back" cmp "$tmp/text" "$tmp/back"
same "tokenize: stderr" "" "$(cat "$tmp/err")"
run tokenize -m "$model" -f "$tmp/text" --count
same "tokenize --count" "$(wc -w <"$tmp/ids" | tr -d ' ')" "$out"
run tokenize -m "$model" -f "$tmp/text" --show
same "tokenize --show: a line a token" "$(wc -w <"$tmp/ids" | tr -d ' ')" "$(wc -l <"$tmp/out" | tr -d ' ')"
run tokenize -m "$model" -p ""
same "no text: an empty line" "1 0" "$(wc -l <"$tmp/out" | tr -d ' ') $(wc -w <"$tmp/out" | tr -d ' ')"
for end in "<s>" "<|endoftext|>"; do    # some control token of the model; the bundled one has the second
    run tokenize -m "$model" -p "$end" --special
    [ "$(printf '%s\n' "$out" | wc -w)" -eq 1 ] && break
done
works "--special" tokenize -m "$model" -p "$end" --special
same  "--special: one control token" 1 "$(printf '%s\n' "$out" | wc -w | tr -d ' ')"
works "without --special" tokenize -m "$model" -p "$end"
check "without --special: plain text" test "$(printf '%s\n' "$out" | wc -w)" -gt 1
echo 99999999 >"$tmp/ids"
fails "no ids" '^tokenize: no ids found' tokenize -m "$model" --decode -p "no numbers"
works "tokenize --show: bytes" tokenize -m "$model" --show -p "$(printf '\346\n\346')"
like  "tokenize --show: a byte that is no character" '\\xE6' "$out"
like  "tokenize --show: a line end" '\\x0A' "$out"
fails "an id out of range" '^tokenize: no token 99999999' tokenize -m "$model" --decode -f "$tmp/ids"

# ---- perplexity
"$bin/generate" -m "$model" -p "$prompt" --temp 0.7 --ignore-eos -n 200 >"$tmp/story" 2>/dev/null
{ cat "$tmp/story"; printf '\n<|endoftext|>\n'; cat "$tmp/story"; } >"$tmp/stories"
works "perplexity" perplexity -m "$model" -f "$tmp/stories"
like  "perplexity: first line" '^ppl [0-9]+\.[0-9]{4} \+- [0-9]+\.[0-9]{4} over [0-9]+ tokens$' "$out"
like  "perplexity: second line" '^[0-9]+\.[0-9]{4} nats per token, [0-9]+\.[0-9]{4} nats per byte over [0-9]+ bytes$' "$out"
same  "perplexity: two lines" 2 "$(wc -l <"$tmp/out" | tr -d ' ')"
scored=$(sed -n 's/.* over \([0-9]*\) tokens/\1/p' "$tmp/out")
count=$("$bin/tokenize" -m "$model" -f "$tmp/stories" --special --count)
same  "every token but the first is scored" $((count - 1)) "$scored"
same  "the bytes are the file's" "$(wc -c <"$tmp/stories" | tr -d ' ')" "$(sed -n 's/.* over \([0-9]*\) bytes/\1/p' "$tmp/out")"
first=$out
for option in "-t 1" "-b 5" "--kernels ref"; do
    works "perplexity $option" perplexity -m "$model" -f "$tmp/stories" $option
    same  "perplexity $option: the same figures" "$first" "$out"
done
for option in "-c 32" "-c 33 --stride 7" "-c 64 --stride 62" "-c 3 --stride 1"; do
    works "perplexity $option" perplexity -m "$model" -f "$tmp/stories" $option
    same  "perplexity $option: all scored once" "$scored" "$(sed -n 's/.* over \([0-9]*\) tokens/\1/p' "$tmp/out")"
done
works "perplexity --tail" perplexity -m "$model" -f "$tmp/stories" --tail 60
same  "perplexity --tail begins at the separator" $(($(wc -c <"$tmp/story") + 14)) \
      "$(sed -n 's/.* over \([0-9]*\) bytes/\1/p' "$tmp/out")"
printf 'One\nand\000two\nthree <|endoftext|> and four\n' >"$tmp/zeros"
tr '\000' _ <"$tmp/zeros" >"$tmp/no_zeros"
works "perplexity --tail over a zero byte" perplexity -m "$model" -f "$tmp/zeros" --tail 90
same  "... counts the same bytes" "$("$bin/perplexity" -m "$model" -f "$tmp/no_zeros" --tail 90 | sed -n 's/.* over \([0-9]*\) bytes/\1/p')" \
      "$(sed -n 's/.* over \([0-9]*\) bytes/\1/p' "$tmp/out")"
fails "a stride too long" '^perplexity: --stride: expected less than' perplexity -m "$model" -p "$prompt" -c 16 --stride 16
fails "no text to score"  '^perplexity: the text has 0 tokens' perplexity -m "$model" -p ""
fails "one token"         '^perplexity: the text has 1 token:' perplexity -m "$model" -p Once
works "perplexity of two tokens" perplexity -m "$model" -p "Once upon"
like  "perplexity of two tokens: of one value, without an error" '^ppl [0-9.]+ over 1 token$' "$out"

yes "$prompt there was a dog." | head -n 50000 >"$tmp/long"
"$bin/perplexity" -m "$model" -f "$tmp/long" -t 1 -c 64 --stride 2 >"$tmp/out" 2>"$tmp/err" &
pid=$!
sleep 1; kill -INT $pid; wait $pid
same "perplexity, Ctrl-C: exit status" 130 $?
same "perplexity, Ctrl-C: stdout" "" "$(cat "$tmp/out")"

# ---- bench
works "bench" bench -m "$model" -p 32 -n 8 -r 2
for line in 'load   [0-9.]+ ms' 'first  [0-9.]+ ms' 'pp32   [0-9.]+ tok/s' 'tg8    [0-9.]+ tok/s  [0-9.]+ GB/s' 'peak   [0-9.]+ MiB' \
            'dram   [0-9.]+ GB/s before the tg runs, [0-9.]+ GB/s after' 'share  [0-9.]+ % of it at tg8'; do
    like "bench: $line" "^$line\$" "$out"
done
works "bench -d" bench -m "$model" -p 0 -n 4 -d 16 -r 2 --dram 0
like  "bench -d" '^tg4    [0-9.]+ tok/s' "$out"
like  "bench -d, after 16" '^tg4@16 [0-9.]+ tok/s' "$out"
same  "bench --dram 0" 0 "$(echo "$out" | grep -c '^dram')"
run bench -m "$model" -p 32 -n 4 -r 1 --dram 16 -t 3
like  "bench -t 3" '^model .*, 3 threads, 1 runs$' "$out"
run bench -m "$model" -p 32 -n 4 -r 1 --dram 16 -t 3 --openmp
if [ $status -eq 0 ]; then like "bench --openmp -t 3" '^model .*, 3 threads, 1 runs$' "$out"
else like "bench --openmp, built without it" '^bench: --openmp: this program was built without OpenMP$' "$err"; fi
works "bench, a short context" bench -m "$model" -p 32 -c 32 -n 4 -d 29 -r 1 --dram 0
like  "bench, a short context" '^tg4@29 skipped: the context has 32 tokens$' "$out"
if command -v python3 >/dev/null 2>&1; then
    python3 tests/bench_table.py --bench "$bin/bench" -m "$model" -p 32 -n 4 -d 16 -r 1 --dram 16 >"$tmp/out" 2>"$tmp/err"
    same "bench_table.py: exit status" 0 $?
    like "bench_table.py: heading" '^model +load ms +first ms +pp32 +tg4 +tg4@16 +GB/s +of DRAM +peak MiB$' "$(cat "$tmp/out")"
    like "bench_table.py: figures" '^[^ ]+( +[0-9.]+){6} +[0-9]+ % +[0-9.]+$' "$(cat "$tmp/out")"
fi

# ---- chat: with strings of our own, as the bundled model has no template
printf 'Once upon a time there was a dog.\n/regen\n/reset\n/nonsense\nOnce upon a time\n' >"$tmp/talk"
"$bin/chat" -m "$model" --user-turn "{text} " --assistant-turn "{text} " -n 12 --temp 0 -e -r '\n' <"$tmp/talk" >"$tmp/out" 2>"$tmp/err"
same "chat: exit status" 0 $?
same "chat: an answer a message" 3 "$(grep -c . "$tmp/out")"
like "chat: unknown command" '^unknown command /nonsense' "$(cat "$tmp/err")"
talk() { "$bin/chat" -m "$model" --user-turn "{text} " --assistant-turn "{text} " -n 12 --temp 0 "$@" 2>"$tmp/err"; }
printf '\nOne day\n/save %s\n/reset\n/load %s\n/regen\n/save %s\n' "$tmp/a" "$tmp/a" "$tmp/b" | talk -sys 'Be brief.' >"$tmp/out"
same "chat: an empty line is no message; /save, /load, /regen" 2 "$(grep -c . "$tmp/out")"
check "chat: /load brings back what /save wrote" cmp "$tmp/a" "$tmp/b"
same "chat: what /save writes" "system:|	Be brief.|user:|	One day|assistant:" "$(head -n 5 "$tmp/a" | tr '\n' '|' | sed 's/|$//')"
printf 'user\n' >"$tmp/bad.txt"
printf '/load %s\n/load %s\n/save %s\n/help\n' "$tmp/bad.txt" "$tmp/none.txt" "$tmp/none/x" | talk >"$tmp/out"
like "chat: /load of another file" "bad.txt: not a conversation" "$(cat "$tmp/err")"
like "chat: /load of no file" "none.txt: there is no such file" "$(cat "$tmp/err")"
like "chat: /save where it cannot" "none/x: No such" "$(cat "$tmp/err")"
like "chat: /help" "^  /regen" "$(cat "$tmp/err")"
printf 'Once upon a time there was a dog and a cat and a bird\nOne\n' | talk -c 12 >"$tmp/out"
same "chat: a message too long: exit status" 1 $?
like "chat: a message too long: says so" 'begins a new conversation' "$(cat "$tmp/err")"
like "chat: -p is the first message" . "$(talk -p "One day" </dev/null)"
if [ -w /dev/full ]; then
    printf 'One day\n' | talk >/dev/full
    same "chat, a full disk: exit status" 1 $?
    like "chat, a full disk" '^chat: cannot write to stdout: No space left' "$(cat "$tmp/err")"
    "$bin/hello" "$model" "One day" >/dev/full
    same "hello, a full disk: exit status" 1 $?
fi
if python3 -c 'import pty, os; os.waitstatus_to_exitcode' 2>/dev/null; then
    check "the programs on a terminal" python3 tests/terminal.py "$bin" "$model"
else
    skip "cli: no Python 3.9 with ptys, so no terminal is played"
fi
fails "chat without a template" '^chat: --chat-template NAME, or --user-turn .*: the file has no' chat -m "$model"
fails "chat without an assistant turn" '^chat: --assistant-turn TEXT is needed' chat -m "$model" --user-turn "{text}"
fails "chat, a turn without {text}" '^chat: user: expected' chat -m "$model" --user-turn x --assistant-turn "{text}"
printf '/load\n/save \n' | talk >"$tmp/out"
same "chat: /load and /save without a name" "/load needs a file|/save needs a file|" "$(tr '\n' '|' <"$tmp/err")"

# ---- embed
printf 'The cat sat on the mat.\n\nA dragon has wings and breathes fire.\r\nBirds sing.\nTim likes his red ball.' >"$tmp/lines"
tab=$(printf '\t')
works "embed" embed -m "$model" -f "$tmp/lines" -p "A dragon has wings and breathes fire."
same  "embed: the lines that are not blank" 4 "$(wc -l <"$tmp/out" | tr -d ' ')"
same  "embed: the same line is the first" "1.0000${tab}3${tab}A dragon has wings and breathes fire." "$(head -n 1 "$tmp/out")"
same  "embed: best first" "$(cut -f 1 "$tmp/out")" "$(cut -f 1 "$tmp/out" | sort -rn)"
first=$out
for option in "-t 1" "-t 3" "-b 3" "--kernels ref" "-n 0" "--pooling mean"; do
    works "embed $option" embed -m "$model" -f "$tmp/lines" -p "A dragon has wings and breathes fire." $option
    same  "embed $option: the same" "$first" "$out"
done
for pooling in cls last; do
    works "embed --pooling $pooling" embed -m "$model" -f "$tmp/lines" -p "Birds sing." -n 1 --pooling $pooling --query-prefix "> " --passage-prefix "> "
    like  "embed --pooling $pooling" "^1.0000$tab[1-5]$tab" "$out"      # cls of a causal model: of its first token alone
done
works "embed --vectors" embed -m "$model" --vectors -f "$tmp/lines"
same  "embed --vectors: numbers of each line" "$width 0 $width $width $width " "$(awk '{ printf "%s ", NF }' "$tmp/out")"
same  "embed --vectors: of length 1" "1.00000 1.00000 1.00000 1.00000 " \
      "$(awk 'NF { s = 0; for (i = 1; i <= NF; i++) s += $i * $i; printf "%.5f ", s }' "$tmp/out")"
run   embed -m "$model" -f "$tmp/lines" -p "Birds sing." -c 4 -n 1
same  "embed, long lines: exit status" 0 $status
same  "embed, long lines: says so" "embed: 4 lines are longer than 4 tokens (-c), of which the beginning counts" "$err"
works "embed --rerank" embed -m "$model" -f "$tmp/lines" -p "dragons" --rerank
same  "embed --rerank: a line each" 4 "$(wc -l <"$tmp/out" | tr -d ' ')"
like  "embed --rerank: probabilities" "^[01]\.[0-9]{4}$tab[1-5]$tab" "$(head -n 1 "$tmp/out")"
first=$out
for option in "-t 1" "-b 3" "--kernels ref"; do
    works "embed --rerank $option" embed -m "$model" -f "$tmp/lines" -p "dragons" --rerank $option
    same  "embed --rerank $option: the same" "$first" "$out"
done
printf 'Birds sing.\n' >"$tmp/line"
works "embed --rerank of one line" embed -m "$model" -f "$tmp/line" -p "dragons" --rerank
same  "embed --rerank of one line: its score among all" "$(printf '%s\n' "$first" | grep Birds | cut -f 1)" "$(printf '%s\n' "$out" | cut -f 1)"
plain='Query: {query}\nDocument: {document}\nDoes the document answer the query? Say yes or no.\nAnswer:'
works "embed --form" embed -m "$model" -f "$tmp/lines" -p "dragons" --rerank --form "$plain" --yes " yes" --no " no"
same  "embed --form: the plain one by hand" "$first" "$out"
works "embed --yes and --no the other way" embed -m "$model" -f "$tmp/line" -p "dragons" --rerank --yes " no" --no " yes"
same  "embed --yes and --no the other way: what is left to 1" 10000 \
      "$(printf '%s\n' "$first" "$out" | awk '/Birds/ { s += 10000 * $1 } END { print int(s + 0.5) }')"
printf 'a\000b\n' >"$tmp/zero.txt"
: >"$tmp/empty"
printf '\n \n' >"$tmp/blank"
fails "embed, an empty query" "^embed: -p: the query is empty" embed -m "$model" -f "$tmp/lines" -p " "
fails "embed, some of the vectors" "^embed: -n: --vectors has a line for each" embed -m "$model" -f "$tmp/lines" --vectors -n 3
fails "embed, no query" "^embed: no query" embed -m "$model" -f "$tmp/lines"
fails "embed, vectors of a query" "^embed: --vectors takes neither" embed -m "$model" -f "$tmp/lines" -p x --vectors
fails "embed, a form alone" "^embed: --form, --instruct, --yes and --no are for --rerank" embed -m "$model" -f "$tmp/lines" -p x --form y
fails "embed, a form without {document}" "^embed: --form: expected \{query\} and \{document\}" embed -m "$model" -f "$tmp/lines" -p x --rerank --form "{query}"
fails "embed, no such pooling" "^embed: --pooling: expected mean, cls or last, got 'max'" embed -m "$model" -f "$tmp/lines" -p x --pooling max
fails "embed, a zero byte" "^embed: $tmp/zero.txt: line 1 holds a zero byte" embed -m "$model" -f "$tmp/zero.txt" -p x
fails "embed, an empty file" "^embed: $tmp/empty: the file is empty" embed -m "$model" -f "$tmp/empty" -p x
fails "embed, a model for a text" "^embed: $model: a GGUF file, expected a text" embed -m "$model" -f "$model" -p x
fails "embed, a question too long" "^embed: -c: the question takes" embed -m "$model" -f "$tmp/lines" -p x --rerank -c 70

# ---- ask
works "ask" ask -m "$model" -f "$tmp/lines" -p "A dragon has wings and breathes fire." --passage-size 12 -n 8 -k 2
same  "ask: an answer and two passages" 3 "$(wc -l <"$tmp/out" | tr -d ' ')"
like  "ask: the nearest passage first" '^\[1\] line 3, [01]\.[0-9]{4}' "$out"
first=$out
works "ask --embedding-model" ask -m "$model" --embedding-model "$model" -f "$tmp/lines" -p "A dragon has wings and breathes fire." --passage-size 12 -n 8 -k 2
same  "ask --embedding-model: the model itself" "$first" "$out"
printf 'A dragon has wings and breathes fire.\n\nBirds sing.\n' | "$bin/ask" -m "$model" -f "$tmp/lines" --passage-size 12 -n 8 -k 2 >"$tmp/out" 2>"$tmp/err"
same  "ask, two questions: exit status" 0 $?
same  "ask, two questions: the first as alone" "$first" "$(head -n 3 "$tmp/out")"
same  "ask, two questions: two answers" 6 "$(wc -l <"$tmp/out" | tr -d ' ')"
works "ask --show" ask -m "$model" -f "$tmp/lines" -p "Who?" -n 4 -k 1 --show
like  "ask --show: all of a short text" '^\[1\] lines 1-5, ' "$out"
like  "ask --show: the text" '^Tim likes his red ball\.$' "$out"
awk 'BEGIN { for (i = 0; i < 300; i++) printf "word%d and ", i; print "end." }' >"$tmp/long"
works "ask, one long line" ask -m "$model" -f "$tmp/long" -p "Which end?" -n 4 -k 2 --passage-size 40
like  "ask, one long line: its pieces" '^\[2\] line 1, ' "$out"
run   ask -m "$model" -f "$tmp/long" -p "Which end?" -c 256 -n 110 -k 3 --passage-size 50
same  "ask, a small context: exit status" 0 $status
like  "ask, a small context: says so" 'the context has room for [12] of 3 passages' "$err"
works "ask fits itself to the context" ask -m "$model" -f README.md -p "Which kernels are there?"
same  "ask fits itself to the context: three passages" 3 "$(grep -c '^\[[1-3]\] line' "$tmp/out")"
run   ask -m "$model" -f README.md -p "Which kernels are there?" -v
like  "ask -v: how it fits" "^ask: a context of $context tokens: answers of at most $((context / 4)), passages of at most [0-9]+\$" "$err"
fails "ask, no text" "^ask: no text: -f" ask -m "$model" -p x
fails "ask, an empty question" "^ask: -p: the question is empty" ask -m "$model" -f "$tmp/lines" -p " "
fails "ask, stdin twice" "^ask: -f - needs -p" ask -m "$model" -f -
fails "ask, blank lines" "^ask: $tmp/blank: nothing but blank lines" ask -m "$model" -f "$tmp/blank" -p x
fails "ask, an answer too long" "^ask: --predict: the answer may take 100000 tokens, the context has $context, of which the instruction takes" \
      ask -m "$model" -f "$tmp/lines" -p x --predict 100000
fails "ask, no room for a passage" "^ask: question and nearest passage take [0-9]+ tokens, the answer 4, and the context has 100: .* --passage-size, -n or -c" \
      ask -m "$model" -f "$tmp/lines" -p x -c 100 -n 4 --passage-size 40
printf 'Who?\n%s\nWho?\n' "$(yes x y z | head -n $context | tr '\n' ' ')" | "$bin/ask" -m "$model" -f "$tmp/lines" -n 4 -k 1 >"$tmp/out" 2>"$tmp/err"
same  "ask, one question of three too long: exit status" 1 $?
same  "ask, one question of three too long: two answers" 2 "$(grep -c '^\[1\]' "$tmp/out")"
like  "ask, one question of three too long: says so" '^ask: question and nearest passage take' "$(cat "$tmp/err")"
fails "ask, passages too long" "^ask: --passage-size: expected at most" ask -m "$model" -f "$tmp/lines" -p x --passage-size 5000
fails "ask, no such embedding model" "^ask: $tmp/none.gguf" ask -m "$model" --embedding-model "$tmp/none.gguf" -f "$tmp/lines" -p x

# ---- naive
works "naive" naive -m "$model"
same  "naive: a line for each stage, all of them ok" "16 16" "$(grep -cE '^[a-z_]+ +[0-9.e+-]+ +[0-9.e+-]+  ' "$tmp/out") $(grep -c '  ok' "$tmp/out")"
same  "naive: both choose the same token" 1 "$(sed -n 's/^next token, by [^:]*: //p' "$tmp/out" | sort -u | wc -l | tr -d ' ')"
works "naive, a model of F32" naive -m "$gg" -p "The cat sees the dog. The"
like  "naive, a model of F32: the bound is that of sums" '^logits .* 1.00e-05  ok' "$out"
run naive -m tests/golden/model/llama.gguf
same  "naive, another architecture: exit status" 2 $status
like  "naive, another architecture" "^naive: the architecture is 'llama': " "$err"
same  "naive, another architecture: stdout" "" "$out"
fails "naive, an empty text" "^naive: -p: the text is empty" naive -m "$model" -p ""

# ---- evaluate
printf 'Once upon a time\tthere was a little girl named Lily.\nOne day, Tim\twent to the park.\nThe cat\tsat.\n' >"$tmp/pairs"
pairs() { run evaluate -m "$model" -f "$tmp/pairs" --template '{prompt} {answer}' "$@"; }
pairs -n 12 --rows -o "$tmp/said.tsv"
same  "evaluate: exit status" 0 $status
same  "evaluate: stderr" "" "$err"
like  "evaluate: perplexity" '^perplexity  +[0-9]+\.[0-9]{4}    [0-9]+\.[0-9]{4} nats/byte, [0-9]+ tokens, 56 bytes$' "$out"
same  "evaluate: rows, then the summary" "3 3" "$(sed -n '/^rows/s/.* //p' "$tmp/out") $(grep -cE '^[1-3]	(0|100)(	[0-9]+\.[0-9]{4}){3}$' "$tmp/out")"
first=$out scored=$(grep -E '^([0-9]|exact|F1|BLEU|ROUGE)' "$tmp/out")
works "evaluate --score of -o" evaluate --score "$tmp/said.tsv" -e --rows
same  "evaluate --score of -o: the same scores" "$scored" "$(grep -v '^rows' "$tmp/out")"
for option in "-t 1" "-b 3" "--kernels ref"; do
    pairs -n 12 --rows $option
    same "evaluate $option: the same" "$first" "$out"
done
text="Once upon a time there was a little girl named Lily."
printf '\t%s\n' "$text" >"$tmp/text.tsv"
works "evaluate of a whole text" evaluate -m "$model" -f "$tmp/text.tsv" --template '{prompt}{answer}' -n 0
same  "evaluate of a whole text: as perplexity has it" "$("$bin/perplexity" -m "$model" -p "$text" | sed -n 's/^ppl \([0-9.]*\) .*/\1/p')" \
      "$(sed -n 's/^perplexity *\([0-9.]*\) .*/\1/p' "$tmp/out")"
pairs --choices 'sat.|went to the park.' --rows
like  "evaluate --choices: accuracy of three rows" '^accuracy  +[0-9]+\.[0-9]{4} %  [0-3] of 3$' "$out"
like  "evaluate --choices: the choice of a row" '^2	1	went to the park\.$' "$out"
first=$out
pairs --choices 'went to the park.|sat.' --rows
same  "evaluate --choices: their order does not matter" "$first" "$out"
pairs --labels --per-byte
like  "evaluate --labels" '^accuracy .* of 3$' "$out"
awk '{ print $0 "\tsat.|went to the park." }' "$tmp/pairs" >"$tmp/columns"
run   evaluate -m "$model" -f "$tmp/columns" --template '{prompt} {answer}' --choices-column 3 --rows
same  "evaluate --choices-column: as --choices" "$first" "$out"
fails "evaluate, an empty choice" "^evaluate: --choices: a choice is empty" evaluate -m "$model" -f "$tmp/pairs" --choices 'a||b'
fails "evaluate, no such column" "^evaluate: $tmp/pairs: line 1: 2 columns, expected .*choices" evaluate -m "$model" -f "$tmp/pairs" --choices-column 3
fails "evaluate --chat without a template" "^evaluate: --chat: $model has no chat template: --chat-template NAME" evaluate -m "$model" -f "$tmp/pairs" --chat
fails "evaluate, nothing held out" "^evaluate: $tmp/pairs: no row is left to judge: --held-out, 0.01, of 3 rows" evaluate -m "$model" -f "$tmp/pairs" --held-out 0.01
fails "evaluate, over what it reads" "^evaluate: -o $tmp/pairs: that is the table" evaluate -m "$model" -f "$tmp/pairs" -o "$tmp/pairs"
fails "evaluate, over its adapter" "^evaluate: --out $lora: that is the adapter" evaluate -m "$model" -f "$tmp/pairs" --out $lora --adapter $lora
fails "evaluate, where it cannot write" "^evaluate: -o $tmp/none/x: cannot write" evaluate -m "$model" -f "$tmp/pairs" -o "$tmp/none/x"
fails "evaluate, no row fits" "^evaluate: $tmp/pairs: no row fits the context \(--ctx-size\): line 1: the prompt: [0-9]+ tokens, the context has 2" \
      evaluate -m "$model" -f "$tmp/pairs" --ctx-size 2 -o "$tmp/failed"
check "evaluate, no row fits: no file, and no part of it" test ! -e "$tmp/failed" -a ! -e "$tmp/failed.part"
many=$(yes 'a b c' | head -n $context | tr '\n' ' ')
{ printf '%s\tsat.\n' "$many"; cat "$tmp/pairs"; printf 'The dog\t%s\n' "$many"; } >"$tmp/some"
pairs -n 12
whole=$(sed -n 's/^perplexity/perplexity/p' "$tmp/out")
run   evaluate -m "$model" -f "$tmp/some" --template '{prompt} {answer}' -n 12 --rows -o "$tmp/said.tsv"
same  "evaluate, rows too long: exit status" 0 $status
same  "evaluate, rows too long: which" "line 1: the prompt: , line 5: the prompt with its reference: , " \
      "$(sed -n 's/.*\(line [0-9]*: the [a-z ]*: \)[0-9]* tokens, the context has '"$context"'$/\1, /p' "$tmp/err" | sed 's/ , $/ , /' | tr -d '\n')"
like  "evaluate, rows too long: how many" '^too long +2    2 not in the perplexity, 1 without an answer$' "$out"
same  "evaluate, rows too long: the perplexity is that of the others" "$whole" "$(grep '^perplexity' "$tmp/out")"
same  "evaluate, rows too long: all are judged, the first as wrong" "5 1	0	0.0000	0.0000	0.0000" "$(sed -n '/^rows/s/.* //p' "$tmp/out") $(head -n 1 "$tmp/out")"
same  "evaluate, rows too long: the answers are there" "5 	sat." "$(wc -l <"$tmp/said.tsv" | tr -d ' ') $(head -n 1 "$tmp/said.tsv")"
run   evaluate -m "$model" -f "$tmp/some" --template '{prompt} {answer}' --choices 'sat.|went to the park.' --rows
like  "evaluate, choices: a row too long is wrong" '^1	0	$' "$out"
like  "evaluate, choices: a reference that is none of them" "^evaluate: $tmp/some: line 2: the reference 'there was .*' is none of the choices; 2 of 5 rows are wrong by that" "$err"
awk 'BEGIN { for (i = 0; i < 257; i++) print "a\tb" i }' >"$tmp/labels"
fails "evaluate, one choice" "^evaluate: --choices: expected two or more, .* got 'sat.'" evaluate -m "$model" "$tmp/pairs" --choices sat.
fails "evaluate, too many labels" "^evaluate: --labels: $tmp/labels has 257 different references, expected 2 to 256" evaluate -m "$model" "$tmp/labels" --labels
fails "evaluate, choices too long" "^evaluate: $tmp/pairs: no row fits the context \(-c\): line 1: 3 choices of" evaluate -m "$model" "$tmp/pairs" --labels -c 30
fails "evaluate, a choice twice" "^evaluate: --choices: a choice comes twice in 'sat.|a|sat.'" evaluate -m "$model" -f "$tmp/pairs" --choices 'sat.|a|sat.'
awk '{ print $0 "\tsat.|sat.|went to the park." }' "$tmp/pairs" >"$tmp/columns"
run   evaluate -m "$model" -f "$tmp/columns" --choices-column 3
like  "evaluate, a choice twice in a column" "^evaluate: $tmp/columns: line 1: column 3 has a choice twice; so have 3 rows in all" "$err"

# ---- embed_model
works "embed_model --help" embed_model --help
like  "embed_model --help: usage" '^usage: embed_model \[FILE.zip' "$out"
fails "embed_model, unknown option" "^embed_model: unknown option '--nonsense'" embed_model --nonsense
fails "embed_model, three files" "^embed_model: unexpected argument 'c', after 'b'" embed_model a b c
fails "embed_model, no such file" "^embed_model: $tmp/none.zip: " embed_model "$tmp/none.zip"
fails "embed_model, a folder" "^embed_model: $tmp: a folder, expected a zip archive" embed_model "$tmp"
fails "embed_model, no archive" "^embed_model: $model: not a zip archive" embed_model "$model"
"$bin/generate" -m examples/models/stories.gguf -p "Once upon a time" -n 20 >"$tmp/story"
works "embed_model" embed_model -n 20
check "embed_model: the embedded model is the file" cmp "$tmp/out" "$tmp/story"
if command -v python3 >/dev/null 2>&1; then
    python3 - "$tmp" examples/models/stories.gguf <<'END'
import struct, sys, zipfile
folder, model = sys.argv[1:]
gguf, stored, packed = open(model, "rb").read(), zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
def make(name, entries, comment=b""):
    with zipfile.ZipFile(f"{folder}/{name}.zip", "w") as z:
        for entry, data, how in entries: z.writestr(zipfile.ZipInfo(entry), data, how)
        z.comment = comment
    return open(f"{folder}/{name}.zip", "rb").read()
good = make("good", [("read.me", b"hello" * 9, packed), ("data/story.gguf", gguf, stored)], b"PK\5\6, a comment")
make("packed", [("story.gguf", gguf[:9999], packed)])
make("two", [("a.gguf", b"", stored), ("b.gguf", gguf, stored)])
make("none", [])
make("bad", [("bad.gguf", b"not a model at all", stored)])
end = good.rindex(b"PK\5\6", 0, -20)
size, start = struct.unpack_from("<II", good, end + 12)
entry = good.rindex(b"PK\1\2", 0, end)
def patch(name, at, format, value):
    data = bytearray(good)
    struct.pack_into(format, data, at, value)
    open(f"{folder}/{name}.zip", "wb").write(data)
patch("dir_at", end + 16, "<I", start - 1)
patch("dir_beyond", end + 16, "<I", end + 1)
patch("dir_size", end + 12, "<I", size - 1)
patch("dir_count", end + 8, "<I", 3 | 3 << 16)
patch("part", end + 4, "<H", 1)
patch("zip64", end + 16, "<I", 0xFFFFFFFF)
patch("entry64", entry + 42, "<I", 0xFFFFFFFF)
patch("entry_at", entry + 42, "<I", 7)
patch("entry_beyond", entry + 42, "<I", len(good) - 9)
patch("entry_size", entry + 24, "<I", len(gguf) + 1)
patch("sizes", entry + 20, "<Q", (len(gguf) + 999) * (1 + (1 << 32)))
patch("long_name", entry + 28, "<H", 60000)
patch("secret", entry + 8, "<H", 1)
for n in 0, 21, 22, 1000, start, entry, end, end + 21, len(good) - 1: open(f"{folder}/cut{n}.zip", "wb").write(good[:n])
END
    works "embed_model, a zip archive" embed_model "$tmp/good.zip" -n 20
    check "embed_model, a zip archive: the same text" cmp "$tmp/out" "$tmp/story"
    works "embed_model, a name" embed_model -n 20 "$tmp/two.zip" b.gguf
    check "embed_model, a name: the same text" cmp "$tmp/out" "$tmp/story"
    zip() { what=$1 regex=$2; shift 2; fails "embed_model, $what" "^embed_model: $regex" embed_model "$tmp/$@"; }
    zip "a compressed model" "story.gguf in $tmp/packed.zip is compressed: store it \(zip -0\)$" packed.zip
    zip "another compressed file" "read.me in $tmp/good.zip is compressed" good.zip read.me
    zip "a name that is not there" "$tmp/good.zip: there is no story.gguf in it" good.zip story.gguf
    zip "no model" "$tmp/none.zip: there is no .gguf file in it" none.zip
    zip "two models" "$tmp/two.zip: there is more than one .gguf file in it: name one" two.zip
    zip "an empty model" "a.gguf in $tmp/two.zip: " two.zip a.gguf
    zip "no GGUF file" "bad.gguf in $tmp/bad.zip: .*GGUF" bad.zip
    for damage in dir_at:directory.is.damaged dir_beyond:directory.lies.outside dir_size:directory.is.damaged dir_count:directory.is.damaged \
        part:one.of.several.parts zip64:a.zip64.archive entry64:is.a.zip64.entry entry_at:not.lie.where entry_beyond:goes.beyond.the.end \
        entry_size:not.lie.where sizes:not.lie.where long_name:directory.is.damaged secret:is.encrypted; do
        zip "damaged: $damage" "[^:]*:?.*${damage#*:}" "${damage%%:*}.zip"
    done
    for cut in "$tmp"/cut*.zip; do fails "embed_model, ${cut##*/}" "^embed_model: $cut: not a zip archive, or one" embed_model "$cut"; done
else
    skip "cli: no python3, so no zip archive is made"
fi

# ---- npc
fails "npc --demo 0" "^npc: --demo: expected 1 to 86400 seconds, got 0" npc -m "$model" --demo 0
fails "npc --demo of a word" "^npc: --demo: expected a whole number, got 'long'" npc -m "$model" --demo long
fails "npc, a negative seed" "^npc: -s: expected -1 or more, got -2" npc -m "$model" -s -2
# As long as it takes until three of them have spoken: under sanitizers, or beside busy programs, a frame has room for little.
for seconds in 4 20 80; do
    works "npc --demo $seconds" npc -m "$model" --demo $seconds --seed 3
    sed '/^$/,$d' "$tmp/out" >"$tmp/said"
    [ "$(wc -l <"$tmp/said")" -ge 3 ] && break
done
same  "npc --demo: who speaks" "Mia Tom Sam" "$(head -n 3 "$tmp/said" | sed 's/:.*//' | tr '\n' ' ' | sed 's/ $//')"
like  "npc --demo: the last line" '^overrun p50 p99 max [0-9]+\.[0-9]{3} [0-9]+\.[0-9]{3} [0-9]+\.[0-9]{3}$' "$(tail -n 1 "$tmp/out")"
same  "npc --demo: its frames" $((60 * seconds)) "$(awk '/^  below|^  more/ { n += $1 == "below" ? $3 : $2 } END { print n }' "$tmp/out")"
works "npc --demo, shorter, two threads" npc -m "$model" --demo 2 --seed 3 -t 2
sed '/^$/,$d' "$tmp/out" >"$tmp/again"
least=$(for f in said again; do wc -l <"$tmp/$f"; done | sort -n | head -n 1)
for f in said again; do head -n $least "$tmp/$f" >"$tmp/$f.head"; done
check "npc --demo: the same seed, the same talk" cmp "$tmp/said.head" "$tmp/again.head"
printf 'Hello Tom!\nsave\nTom, what is that?\nload\nTom, what is that?\n' | "$bin/npc" -m "$model" >"$tmp/out" 2>"$tmp/err"
same  "npc, lines: exit status" 0 $?
same  "npc, lines: who answers" "Tom [saved] Tom [loaded] Tom " "$(sed 's/:.*//' "$tmp/out" | tr '\n' ' ')"
same  "npc, lines: after load the same answer" "$(sed -n 3p "$tmp/out")" "$(sed -n 5p "$tmp/out")"

# ---- beam
fails "beam of none"        "^beam: -w: expected 1 to 64, got 0"            beam -m "$model" -p x -w 0
fails "beam without tokens" "^beam: -n: expected 1 or more, got 0"          beam -m "$model" -p x -n 0
fails "beam, no room"       "^beam: the prompt has [0-9]* tokens, the context $context" beam -m "$model" -p "$(yes 'a b c d' | head -n $context)"
for option in "--temp 1" "--seed 3" "--stop x" "--top-k 3" "--samplers top_k" "--draft 4"; do
    fails "beam, ${option% *} without --draw" "^beam: ${option% *}: for --draw alone" beam -m "$model" -p x $option
done
works "beam, an empty prompt" beam -m "$model" -p "" -w 1 -n 8
like  "beam, an empty prompt: a text from its beginning" '^ *[A-Z]' "$(sed 1d "$tmp/out")"
works "one beam" beam -m "$model" -p "$prompt" -w 1 -n 30
one=$(sed 1d "$tmp/out")
works "the likeliest tokens" generate -m "$model" -p "$prompt" -n 30 --temp 0
same  "one beam is the likeliest tokens" "$out" "$prompt$one"
scores() { awk '$3 == "open" || $3 == "ended" { print $2 }' "$tmp/out"; }
for w in 4 16; do
    works "$w beams" beam -m "$model" -p "$prompt" -w $w -n 3 --length-power 0
    same  "$w beams: how many" $w "$(scores | wc -l | tr -d ' ')"
    check "$w beams: likeliest first" sh -c "sort -c -g -r" <<LIST
$(scores)
LIST
    eval "best$w=\$(scores | head -n 1)"
done
check "more beams find no worse text" awk "BEGIN { exit !($best16 >= $best4) }"
works "drawn" beam -m "$model" -p "$prompt" --draw -w 5 -n 20 --seed 3
cp "$tmp/out" "$tmp/drawn"
works "drawn, one thread" beam -m "$model" -p "$prompt" --draw -w 5 -n 20 --seed 3 -t 1
check "drawn: the same seed, the same texts" cmp "$tmp/out" "$tmp/drawn"
works "the first of them" generate -m "$model" -p "$prompt" -n 20 --seed 3
check "drawn: one is what generate writes" grep -qF "$(printf '%s' "${out#"$prompt"}" | head -n 1)" "$tmp/drawn"

# ---- hello
run hello "$model" "$prompt"
same  "hello: exit status" 0 $status
check "hello goes on from the prompt" test -n "$out"
run hello "$tmp/none.gguf"
same  "hello without a model: exit status" 1 $status
like  "hello without a model" '^hello: .*none.gguf' "$err"
report cli
