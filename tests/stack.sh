#!/bin/sh
# usage: stack.sh BUILD   stack, which is memory too: no function of gpt.h has a frame above 8 KiB (-fstack-usage), and no call
# needs more than 24 KiB of it (unit_stack), whichever of gcc and clang compiles it, at -O1 and -O2. STACK_CC: other compilers.
. tests/check.sh
build=$1/stack
mkdir -p "$build"
for cc in ${STACK_CC:-gcc clang}; do
    command -v "$cc" >/dev/null 2>&1 || { skip "stack: $cc is not installed"; continue; }
    openmp=
    printf '#include <omp.h>\nint main(void) { return 0; }\n' >"$tmp/probe.c"
    "$cc" -fopenmp "$tmp/probe.c" -o "$tmp/probe" >/dev/null 2>&1 && openmp=-fopenmp
    for opt in -O1 -O2; do
        out=$build/$cc$opt
        rm -f "$out" "$out".*
        # The object alone: compilers name the list of frames after it.
        check "$cc $opt: unit_stack compiles" "$cc" -std=c99 $opt $openmp -fstack-usage -I. -Itests \
            -c tests/unit_stack.c -o "$out.o"
        [ -s "$out.su" ] || { fail "$cc $opt: no list of frames; does it know -fstack-usage?"; continue; }
        awk -F '\t' '
            { n = split($1, at, ":"); if (at[n] !~ /^gpti?_/) next }
            $2 <= 8192 && $3 != "dynamic" { good++; next }
            { print at[n] ": " $2 " bytes (" $3 ")" }
            END { print "good " good + 0 }' "$out.su" >"$tmp/frames"
        good=$(sed -n 's/^good //p' "$tmp/frames")
        passed=$((passed + good))
        [ "$good" -ge 100 ] || fail "$cc $opt: only $good functions in the list of frames"
        sed '/^good /d' "$tmp/frames" >"$tmp/large"
        while read -r line; do fail "$cc $opt: a frame above 8192 bytes: $line"; done <"$tmp/large"
        check "$cc $opt: unit_stack links" "$cc" $openmp "$out.o" -o "$out" $LDFLAGS -lm
        "$out" >"$tmp/unit" 2>&1
        status=$?
        sed "s/^/$cc $opt: /" "$tmp/unit"
        counts=$(sed -n 's/^unit_stack: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$tmp/unit")
        if [ -n "$counts" ]; then
            passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
        else fail "$cc $opt: unit_stack: no report, exit status $status"; fi
    done
done
report stack
