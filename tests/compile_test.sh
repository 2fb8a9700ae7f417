#!/bin/sh
# usage: compile_test.sh BUILD   gpt.h as programs use it: implementation and users in different files, C and C++,
# alone, and twice with GPT_STATIC. CC CXX CFLAGS LDFLAGS come from the environment.
. tests/check.sh
src=tests/compile
CC=${CC:-cc}; CXX=${CXX:-c++}
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
cwarn="$warn -Wstrict-prototypes -Wmissing-prototypes -Wvla"
model=$(find_model)
[ -n "$model" ] || skip "compile: no model in the repository yet, so the programs generate nothing"

c()   { $CC  -std=c99   $cwarn -O0 -I. $CFLAGS "$@"; }
cxx() { $CXX -std=c++11 $warn  -O0 -I. $CFLAGS "$@"; }

check "implementation alone, C99"       c -c $src/impl.c -o "$tmp/impl.o"
check "declarations alone, C99"         c -c $src/alone.c -o "$tmp/alone.o"
check "user and implementation link"    c $src/user.c "$tmp/impl.o" -o "$tmp/user" $LDFLAGS -lm
check "the user's program runs"         "$tmp/user" $model
check "two private copies link"         c -Wno-unused-function $src/static_a.c $src/static_b.c -o "$tmp/static" $LDFLAGS -lm
check "two private copies run"          "$tmp/static"

for example in examples/*.c; do     # make links them with one gpt.o; alone they hold their own
    check "$example alone"              $CC $warn -fsyntax-only $CFLAGS $example
done

if command -v ${CXX%% *} >/dev/null 2>&1; then
    check "declarations alone, C++11"   cxx -x c++ -c $src/alone.c -o "$tmp/alone_cpp.o"
    check "implementation alone, C++11" cxx -x c++ -c $src/impl.c -o "$tmp/impl_cpp.o"
    check "user in C++"                 cxx -c $src/user.cpp -o "$tmp/user_cpp.o"
    check "user in C with C++"          c -DUSER_CPP -c $src/user.c -o "$tmp/user_c.o"
    for impl in impl impl_cpp; do
        check "C, C++ and $impl link"   $CXX $CFLAGS "$tmp/user_c.o" "$tmp/user_cpp.o" "$tmp/$impl.o" -o "$tmp/mixed" $LDFLAGS -lm
        check "C, C++ and $impl run"    "$tmp/mixed" $model
    done
else
    skip "compile: no C++ compiler ($CXX)"
fi

# Names that system headers define as macros: gpt.h has none of them, neither in what these compilers see of it nor in the
# chapters of other processors and systems, whose words are looked through.
behind() {  # FILE COMPILER...
    file=$1; shift
    "$@" $warn -Wno-unknown-pragmas -fsyntax-only -I. -include $src/system_macros.h "$file"
}
for compiler in "$CC -std=c99 $CFLAGS" "$CXX -x c++ -std=c++11 $CFLAGS" "gcc -std=c99" "clang -std=c99" "clang -x c++ -std=c++11"; do
    command -v ${compiler%% *} >/dev/null 2>&1 || continue
    check "behind macros of system headers: $compiler" behind $src/impl.c $compiler
done
for use in 'int near;' 'int poll(int x);'; do
    echo "$use" >"$tmp/use.c"
    if behind "$tmp/use.c" $CC -std=c99 >/dev/null 2>&1; then fail "'$use' compiles behind system_macros.h"; else pass; fi
done
sed -n 's/^#define \([A-Za-z_0-9]*\) @$/\1/p' $src/system_macros.h >"$tmp/macros"
awk '/^# *pragma STDC/ { next }   # gpt.h without its comments, its strings and the pragmas in which no macro is replaced
    { while ($0 != "") {
        if (comment) { if (!match($0, /\*\//)) break }
        else if (!match($0, /\/\*|"(\\.|[^"\\])*"|'"'(\\\\.|[^'\\\\])+'"'/)) { print; break }
        else print substr($0, 1, RSTART - 1)
        comment = !comment && substr($0, RSTART, 2) == "/*"
        $0 = substr($0, RSTART + RLENGTH)
    } }' gpt.h | tr -cs 'A-Za-z0-9_' '\n' | sort -u >"$tmp/words"
check "gpt.h has words" test "$(wc -l <"$tmp/words")" -gt 1000
same "no word of gpt.h is a macro of a system header" "" "$(grep -Fxf "$tmp/macros" "$tmp/words" | tr '\n' ' ')"

# Names that leave the object, and those it takes from outside.
if command -v nm >/dev/null 2>&1 && case "$CFLAGS" in *-fsanitize*) false ;; esac; then
    same "no exported name outside gpt_" "" "$(nm -g "$tmp/impl.o" | awk 'NF == 3 && $3 !~ /^_?gpt_/ { print $3 }' | tr '\n' ' ')"
    # Without -fno-pie, constant tables of pointers count as data, because the loader has to relocate them.
    c -fno-pie -c $src/impl.c -o "$tmp/fixed.o" 2>/dev/null &&
    same "no writable global"            "" "$(nm "$tmp/fixed.o" | awk 'NF == 3 && $2 ~ /^[dDbBC]$/ { print $3 }' | tr '\n' ' ')"
    same "nothing that prints or exits"  "" "$(nm -u "$tmp/impl.o" | awk '{ print $NF }' |
        grep -E '^_?(abort|exit|_Exit|atexit|signal|raise|v?f?printf|puts|putchar|perror|stdout|stderr|__assert_fail|setlocale|getenv|system|rand|srand)$' | tr '\n' ' ')"
else
    skip "compile: symbols are not looked at here"
fi
report compile
