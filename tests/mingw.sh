#!/bin/sh
# usage: mingw.sh BUILD [RUN...]   gpt.h for Windows: strict builds with CC, also behind windows.h; with RUN, which is wine, the
# examples in BUILD are tried, above all whether they leave bytes alone.
. tests/check.sh
bin=$1; shift
CC=${CC:-x86_64-w64-mingw32-gcc}
CXX=${CC%gcc}g++
warn="-Wall -Wextra -Werror -Wno-unknown-pragmas -fsyntax-only -I."
src=tests/compile

for std in c99 gnu99 c11; do
    check "implementation, $std" $CC -std=$std $warn $src/impl.c
    check "implementation behind windows.h, $std" $CC -std=$std $warn -include windows.h $src/impl.c
    check "declarations behind windows.h, $std" $CC -std=$std $warn -include windows.h $src/alone.c
done
check "behind the macros of system headers" $CC -std=c99 $warn -include $src/system_macros.h $src/impl.c
for switch in GPT_NO_STDIO GPT_NO_MMAP GPT_NO_SIMD; do
    check "$switch" $CC -std=c99 $warn -Wno-unused-function -D$switch $src/impl.c
done
if command -v ${CXX%% *} >/dev/null 2>&1; then
    check "implementation behind windows.h, C++11" $CXX -x c++ -std=c++11 $warn -include windows.h $src/impl.c
else
    skip "mingw: no $CXX"
fi

model=$(find_model)
if [ $# -eq 0 ] || [ -z "$model" ]; then
    for test in tests/unit_*.c tests/fuzz_*.c; do check "$test" $CC -std=c99 $warn -Itests -DBUILD_DIR='"build"' "$test"; done
    skip "mingw: no program is run here"
    report mingw
    exit
fi
runner=$*
# run PROGRAM ARGUMENTS...: leaves the files out and err, and $status
run() {
    program=$1; shift
    $runner "$bin/$program.exe" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
}
seed=$(sed -n 's/.*this one: make run SEED=\([0-9]*\).*/\1/p' README.md)
options="--temp 0.5 --repeat-penalty 1.1 --seed $seed"    # as make run has them
prompt="Once upon a time"
run generate -m "$model" -p "$prompt" $options -n 80
same "generate: exit status" 0 $status
same "generate: stderr" "" "$(cat "$tmp/err")"
same "generate: no byte is added" 0 "$(tr -dc '\r' <"$tmp/out" | wc -c | tr -d ' ')"
story=$(tr '\n' ' ' <"$tmp/out")
case "$(sed -n 's/^> //p' README.md | tr '\n' ' ')" in "$(printf '%s' "$story" | cut -c1-150)"*) pass ;;
*) fail "generate tells another story than README.md: $story" ;; esac
printf '%s\r\n' "$prompt" >"$tmp/prompt.txt"
run generate -m "$model" -f "$tmp/prompt.txt" $options -n 80
same "a file with a line end of Windows: the same text" "$story" "$(tr '\n' ' ' <"$tmp/out")"
run generate -m "$model" -f - $options -n 80 --mapped <"$tmp/prompt.txt"
same "from stdin, mapped: the same text" "$story" "$(tr '\n' ' ' <"$tmp/out")"

printf 'One\r\ntwo\nthree\032four caf\303\251 \377\r' >"$tmp/text"
run tokenize -m "$model" <"$tmp/text"
same "tokenize: exit status" 0 $status
cp "$tmp/out" "$tmp/ids"
run tokenize -m "$model" --decode <"$tmp/ids"
check "tokenize --decode gives the bytes back" cmp "$tmp/text" "$tmp/out"

run perplexity -m "$model" -f "$tmp/text"
same "perplexity: exit status" 0 $status
run bench -m "$model" -p 16 -n 4 -r 1 --dram 0
like "bench measures time" '^tg4    [0-9.]*[1-9][0-9.]* tok/s' "$(cat "$tmp/out")"
printf '%s\r\n/quit\r\n' "$prompt" >"$tmp/talk"
run chat -m "$model" --user-turn "{text} " --assistant-turn "{text} " -n 8 --temp 0 <"$tmp/talk"
same "chat: exit status" 0 $status
check "chat answers" test -s "$tmp/out"
run embed_model -p "$prompt" $options -n 80
same "embed_model: the same text" "$story" "$(tr '\n' ' ' <"$tmp/out")"
printf 'Hello Tom!\r\nsave\r\nload\r\n' >"$tmp/talk"
run npc -m "$model" <"$tmp/talk"
same "npc: exit status" 0 $status
same "npc: lines of Windows" "Tom [saved] [loaded] " "$(sed 's/:.*//' "$tmp/out" | tr '\n' ' ')"
run server -m "$model" --host 203.0.113.1 --port 0
same "server, an address of another machine: exit status" 1 $status
like "server, an address of another machine" '^server: --host 203.0.113.1 --port 0: error [0-9]' "$(cat "$tmp/err")"
toy="--layers 1 --heads 2 --width 32 --context 32 --batch 4 --vocab 300 -t 2"
for i in 1 2 3 4 5 6 7 8 9; do echo "The cat sees the dog $i times. The dog likes the cat, and the bird sees them all."; done >"$tmp/train.txt"
run train "$tmp/train.txt" -o "$tmp/toy.gguf" $toy --steps 40 --every 10 --stop 15
same "train: exit status" 0 $status
run train "$tmp/train.txt" -o "$tmp/toy.gguf" --resume
same "train --resume: exit status" 0 $status
check "train: its files, and no others" test -f "$tmp/toy.gguf" -a -f "$tmp/toy.gguf.ckpt" -a ! -e "$tmp/toy.gguf.part" -a ! -e "$tmp/toy.gguf.lock"
run train "$tmp/train.txt" -o "$tmp/./train.txt"
like "train: the text for OUT" ': that is the text' "$(cat "$tmp/err")"
run generate -m "$tmp" -p x
like "a folder for a model" ': a folder, expected a GGUF file' "$(cat "$tmp/err")"
run hello "$model" "$prompt"
same "hello: exit status" 0 $status
run hello "$tmp/none.gguf"
same "hello without a model: exit status" 1 $status
report mingw
