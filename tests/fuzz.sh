#!/bin/sh
# usage: fuzz.sh BUILD CLANG SECONDS   every tests/fuzz_*.c under libFuzzer, one after the other, from its corpus, what earlier
# runs found, and for fuzz_gguf what unit_gguf writes. Stops at the first finding, whose input libFuzzer names.
# The corpus is kept small: the few shortest inputs that reach the most of what minutes of running reach (-merge=1). The plain
# kernels compute: clang takes minutes for the other sets under sanitizers, and unit_kernels compares those with the plain ones.
build=$1 cc=$2 seconds=$3
command -v "${cc%% *}" >/dev/null 2>&1 || { echo "fuzz: needs clang with libFuzzer (FUZZ_CC=...)" >&2; exit 1; }
flags="-g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    -DGPT_NO_SIMD -I. -Itests"
mkdir -p "$build/fuzz"
$cc $flags -c tests/compile/impl.c -o "$build/fuzz/gpt.o" || exit 1
for file in tests/fuzz_*.c; do
    [ -f "$file" ] || { echo "fuzz: no tests/fuzz_*.c" >&2; exit 1; }
    name=$(basename "$file" .c)
    mkdir -p "$build/fuzz/$name"
    implementation="-DGPT_LINKED $build/fuzz/gpt.o"
    grep -q '^#define GPT_IMPLEMENTATION' "$file" && implementation=
    $cc $flags -fsanitize=fuzzer "$file" $implementation -o "$build/fuzz/$name.exe" -lm || exit 1
    echo "$name, $seconds s"
    seeds=$build/fuzz/seeds_$name
    mkdir -p "$seeds"
    [ ! -d "tests/corpus/$name" ] || cp "tests/corpus/$name"/* "$seeds"
    [ "$name" != fuzz_gguf ] || { "$build/t/unit_gguf" --write "$seeds" >/dev/null; cp tests/golden/lora/*.gguf "$seeds"; }
    "$build/fuzz/$name.exe" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/fuzz/$name-" "$build/fuzz/$name" $seeds >"$build/fuzz/$name.log" 2>&1 ||
        { tail -n 40 "$build/fuzz/$name.log"; echo "fuzz: $name found something" >&2; exit 1; }
    grep -E 'number_of_executed_units|new_units_added' "$build/fuzz/$name.log"
done
