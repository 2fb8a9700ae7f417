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
    command -v "$1" >/dev/null 2>&1 || { skipped=$((skipped + 1)); echo "skipped  $1 is not installed"; return; }
    run "$1 -cpu $2: products" "$1" -cpu "$2" "$B/law/b.unit_kernels"
    [ -n "$LAW_QUICK" ] || run "$1 -cpu $2: logits" "$1" -cpu "$2" "$B/law/b.unit_law"
}

if [ "$(uname -m)" = x86_64 ] && build "$B/law/b" gcc -O1 -static; then
    for cpu in Nehalem Haswell max; do emulate qemu-x86_64 $cpu; done
fi
if build "$B/law/b" aarch64-linux-gnu-gcc -O1 -static; then
    for cpu in cortex-a53 max; do emulate qemu-aarch64 $cpu; done
fi
if build "$B/law/b" powerpc64-linux-gnu-gcc -O1 -static; then emulate qemu-ppc64 power9; fi      # big-endian, plain C
if build "$B/law/b" i686-linux-gnu-gcc -O1 -static -msse2 -mfpmath=sse; then emulate qemu-i386 max; fi

echo "law: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
