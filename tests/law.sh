#!/bin/sh
# Law 6 where one machine's `make test` does not reach: other compilers and options, older and other processors under qemu.
# law.sh BUILD_DIR. Each line is a program that found the hashes of tests/golden/law.txt with every kernel set it could run.
B=$1
mkdir -p "$B/law"
passed=0 failed=0 skipped=0

# run NAME PROGRAM...: the last line of its output, and whether it passed
run() {
    name=$1
    shift
    if out=$("$@" 2>&1); then passed=$((passed + 1)); verdict=ok; else failed=$((failed + 1)); verdict=FAILED; fi
    printf '%-8s %-46s %s\n' "$verdict" "$name" "$(printf '%s\n' "$out" | tail -n 1)"
}

# build OUT COMPILER OPTION...: both tests, statically where qemu is to run them
build() {
    out=$1
    shift
    command -v "$1" >/dev/null 2>&1 || { skipped=$((skipped + 1)); echo "skipped  $1 is not installed"; return 1; }
    for t in unit_law unit_kernels; do
        "$@" -std=c99 -I. -Itests -DBUILD_DIR="\"$B\"" -o "$out.$t" "tests/$t.c" -lm ||
            { failed=$((failed + 1)); echo "FAILED   does not compile: $*"; return 1; }
    done
}

for cc in ${LAW_CC:-gcc clang}; do
    for opt in -O0 -O2 -O3 "-O3 -march=native"; do
        build "$B/law/a" $cc $opt || continue
        run "$cc $opt: logits" "$B/law/a.unit_law"
        run "$cc $opt: products" "$B/law/a.unit_kernels"
    done
done

# emulate QEMU CPU: a processor that lacks what the sets want must not be offered them
emulate() {
    qemu=$(command -v "$1" || command -v "$1-static") || { skipped=$((skipped + 1)); echo "skipped  $1 is not installed"; return; }
    run "$1 -cpu $2: products" "$qemu" -cpu "$2" "$B/law/b.unit_kernels"
    [ -n "$LAW_QUICK" ] || run "$1 -cpu $2: logits" "$qemu" -cpu "$2" "$B/law/b.unit_law"
}

if [ "$(uname -m)" = x86_64 ] && build "$B/law/b" gcc -O1 -static; then
    for cpu in Nehalem Haswell max; do emulate qemu-x86_64 $cpu; done
fi
if build "$B/law/b" aarch64-linux-gnu-gcc -O1 -static; then
    for cpu in cortex-a53 max; do emulate qemu-aarch64 $cpu; done
fi
if build "$B/law/b" powerpc64-linux-gnu-gcc -O1 -static; then emulate qemu-ppc64 power9; fi      # big-endian, plain C
if build "$B/law/b" i686-linux-gnu-gcc -O1 -static -msse2 -mfpmath=sse; then emulate qemu-i386 max; fi

# the sets that need a newer processor than this one, their instructions in plain C
if echo '#include <simde/x86/avx512.h>' | gcc -fsyntax-only -w -x c - 2>/dev/null; then
    mkdir -p "$B/law/simde"
    awk '/^#ifndef GPTI_KERNEL_SET/ && !done { print; print "#include \"tests/simde.h\""; done = 1; next }
         /!defined\(GPT_NO_SIMD\) && !defined\(__TINYC__\)/ { sub(/#if .*/, "#if 0") }
         { print }' gpt.h | sed -e 's/^    return has;$/    return 15;/' -e 's/^\(#  define GPTI_TARGET(t)\) __attr.*/\1/' \
        -e 's/^\(#  define GPTI_KEEP(v)\) __asm__.*/\1/' >"$B/law/simde/gpt.h"
    if gcc -std=c99 -O2 -w -I"$B/law/simde" -I. -Itests -o "$B/law/c.unit_kernels" tests/unit_kernels.c -lm 2>"$B/law/simde.log"
    then run "SIMDe, AVX-512 and VNNI sets: products" "$B/law/c.unit_kernels"
    else failed=$((failed + 1)); echo "FAILED   does not compile with SIMDe: $B/law/simde.log"
    fi
else skipped=$((skipped + 1)); echo "skipped  SIMDe is not installed"
fi

echo "law: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
