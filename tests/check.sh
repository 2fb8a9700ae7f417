# For test scripts: counts and the report line. `. tests/check.sh`, then check WHAT COMMAND..., then report NAME.
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL: $*"; }
skip() { echo "skipped: $*"; }

# check WHAT COMMAND...: the command must succeed; on failure the first lines of what it said are shown.
check() {
    what=$1; shift
    if "$@" >"$tmp/check.out" 2>&1; then pass; else fail "$what"; head -n 12 "$tmp/check.out"; fi
}
# same WHAT EXPECTED FOUND
same() {
    if [ "$2" = "$3" ]; then pass; else fail "$1"; printf '  expected: %s\n  found:    %s\n' "$2" "$3" | cut -c1-300; return 1; fi
}
# like WHAT EXTENDED-REGEX TEXT: some line of the text matches
like() {
    if printf '%s\n' "$3" | grep -Eq -- "$2"; then pass
    else fail "$1"; printf '  expected: /%s/\n  found:    %s\n' "$2" "$3" | head -n 12 | cut -c1-300; fi
}
# run PROGRAM ARGUMENTS...: one of the examples in $bin; leaves $out, $err, $status
run() {
    prog=$1; shift
    "$bin/$prog" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
    out=$(cat "$tmp/out") err=$(cat "$tmp/err")
}
report() { echo "$1: $passed passed, $failed failed"; [ "$failed" -eq 0 ]; }

# The bundled model, or the one that GPT_TEST_MODEL names.
find_model() {
    for f in "${GPT_TEST_MODEL:-}" examples/models/*.gguf; do [ -f "$f" ] && { echo "$f"; return; }; done
}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
