#!/bin/sh
# usage: readme_test.sh BUILD   the documentation holds: the program in gpt.h's opening comment and every C block of
# README.md compile (and the programs run), the version is one everywhere. Samples nobody compiles rot.
. tests/check.sh
CC=${CC:-cc}
warn="-std=c99 -Wall -Wextra -Wpedantic -Werror -O1"
model=$(find_model)
[ -n "$model" ] && cp "$model" "$tmp/model.gguf"

# Blocks with a main are whole programs; others are compiled as files of their own.
try() {
    if grep -q 'int main' "$1"; then
        check "$2 builds" $CC $warn -I. $CFLAGS "$1" -o "$1.exe" $LDFLAGS -lm
        [ -n "$model" ] || { skip "readme: no model to run $2 with"; return; }
        check "$2 runs" sh -c "cd '$tmp' && '$1.exe' >out.txt 2>err.txt && test -s out.txt && test ! -s err.txt"
    else
        check "$2 builds" $CC $warn -I. $CFLAGS -c "$1" -o "$1.o"
    fi
}

sed -n '/\*\//q; s/^ \*     //p' gpt.h >"$tmp/opening.c"
same "gpt.h opens with a program" 1 "$(grep -c 'int main' "$tmp/opening.c")"
try "$tmp/opening.c" "the program in gpt.h's opening comment"

awk -v dir="$tmp" '/^```c$/ { n++; on = 1; next } /^```/ { on = 0 } on { print > (dir "/readme" n ".c") }' README.md
for block in "$tmp"/readme*.c; do
    [ -f "$block" ] || { fail "README.md has no C block"; break; }
    try "$block" "README.md, C block $(basename "$block" .c | tr -dc 0-9)"
done

check "README.md is under 200 lines" test "$(wc -l <README.md)" -lt 200
check "the opening comment is 60 lines at most" test "$(awk '/\*\// { print NR; exit }' gpt.h)" -le 60
version=$(sed -n 's/^#define GPT_VERSION "\(.*\)"/\1/p' gpt.h)
like "the opening line names the version" "^/\* gpt\.h $version " "$(head -n 1 gpt.h)"
same "the change list begins with the version" "$version" \
    "$(sed -n '/Changes/,$p' gpt.h | grep -Eo '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)"
for word in 'MIT No Attribution' 'Unlicense'; do
    check "gpt.h ends with the licence: $word" sh -c "tail -n 80 gpt.h | grep -q '$word'"
    check "LICENSE has it: $word" grep -q "$word" LICENSE
done
tag=$(git describe --tags --exact-match 2>/dev/null) && same "the tag is the version" "v$version" "$tag"

# The table of models is the architecture table.
same "README.md: the architectures are gpt.h's" \
    "$(sed -n '/gpti_archs\[\] = {/,/^};/s/^ *{ "\([^"]*\)".*/\1/p' gpt.h | sort | tr '\n' ' ')" \
    "$(sed -n '/^| models | arch/,/^$/s/^|[^|]*|\(.*\)|$/\1/p' README.md | grep -o '`[^`]*`' | tr -d '`' | sort | tr '\n' ' ')"

# Files and make targets that the README names exist.
for word in $(grep -Eo '(^ *|`)make [a-z-]+' README.md | sed 's/.*make //' | sort -u); do
    check "README.md: make $word is a target" grep -Eq "^$word:" Makefile
done
for file in $(grep -Eo '(examples|tests|tools)/[A-Za-z0-9_./-]+\.(c|h|sh|py|md|gguf)' README.md | sort -u); do
    check "README.md: $file is there" test -f "$file"
done
report readme
