#!/bin/sh
# usage: configs.sh BUILD   every macro that gpt.h's opening comment lists, alone and all together, in C and in C++; the program
# prints the same text whatever the switches. Alone in C++ it is compiled and not run.
. tests/check.sh
CC=${CC:-cc}; CXX=${CXX:-c++}
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-unused-function -Wno-unknown-pragmas -Werror"
cxx=; command -v ${CXX%% *} >/dev/null 2>&1 && cxx="$CXX -x c++"
model=$(find_model)
[ -n "$model" ] || skip "configs: no model in the repository yet, so nothing is generated"

# The definitions for one row of the table in the opening comment.
define() {
    case $1 in
    GPT_STATIC | GPT_NO_*)  echo "-D$1" ;;
    GPT_API)                echo "-DGPT_API=extern" ;;
    'GPT_MALLOC(n)'*)       echo "-DGPT_MALLOC(n)=malloc(n) -DGPT_FREE(p)=free(p)" ;;
    GPT_SELF)               echo "-DGPT_SELF=\"gpt.h\"" ;;
    'GPT_ASSERT(x)')        echo "-DGPT_ASSERT(x)=assert(x)" ;;
    *)                      echo "unknown" ;;
    esac
}
build() {   # COMPILER STANDARD FLAGS
    $1 $2 $warn -O0 -I. $3 $CFLAGS tests/compile/config.c -o "$tmp/config" $LDFLAGS -lm
}
try() {     # NAME COMPILER STANDARD FLAGS
    check "$1, $3" build "$2" "-std=$3" "$4"
    text=$("$tmp/config" $model 2>&1) || fail "$1, $3: the program fails: $text"
    same "$1, $3: the text" "$expected" "$text"
}
refuses() { # NAME MODEL MESSAGE: the program that was built last says it
    text=$("$tmp/config" "$2" 2>&1) && fail "$1: $2 loads"
    case $text in *"$3"*) passed=$((passed + 1)) ;; *) fail "$1: $2: expected '$3', is: $text" ;; esac
}

build "$CC" -std=c99 "" >"$tmp/err" 2>&1 || { fail "no switch: $(head -n 3 "$tmp/err")"; report configs; exit 1; }
expected=$("$tmp/config" $model 2>&1)
all=
sed -n '/\*\//q; s/^ \*   \(GPT_[A-Z_]*[^ ]*\( GPT_[A-Z_]*[^ ]*\)*\)  .*/\1/p' gpt.h >"$tmp/macros"
[ "$(wc -l <"$tmp/macros")" -ge 6 ] || fail "the macro table in gpt.h's opening comment is not as this script expects"
while read -r macro; do
    flags=$(define "$macro")
    if [ "$flags" = unknown ]; then fail "$macro is listed in gpt.h but not known to tests/configs.sh"; continue; fi
    echo "$macro"
    try "$macro" "$CC" c99 "$flags"
    [ "$macro" != GPT_NO_RARE_LAYERS ] || refuses "$macro" tests/golden/model/lfm2_cpp.gguf '"lfm2" is not among the '
    [ -z "$cxx" ] || check "$macro, c++11" build "$cxx" -std=c++11 "$flags -fsyntax-only"
    [ "$macro" = GPT_API ] || all="$all $flags"
done <"$tmp/macros"
echo "all together"
try "all together" "$CC" c99 "$all"
[ -z "$cxx" ] || try "all together" "$cxx" c++11 "$all"
report configs
