#!/bin/sh
# usage: web_test.sh BUILD   the page that `make web` puts together: its worker in node, then the whole of it in Chromium. Without
# a clang that builds for WebAssembly, without node or Chromium, what needs them is left out and named.
. tests/check.sh
bin=$1
model=$(find_model)
page=$bin/web/index.html
case "$CFLAGS" in *-fsanitize*) skip "web: WebAssembly has no sanitizers; unit_web has"; report web_test; exit ;; esac
[ -n "$model" ] || { skip "web: no model"; report web_test; exit; }

# What `make web` has said, see Makefile.
if grep -q 'cannot build for wasm32-wasi' "$bin/web_try"; then
    skip "web: $(grep 'cannot build for wasm32-wasi' "$bin/web_try")"
    report web_test
    exit
fi
check "make web makes the page" grep -q "^$page: open it in a browser\$" "$bin/web_try" || cat "$bin/web_try"
same "nothing comes from elsewhere" "" "$(grep -Eo '(src|href)=.[^"]*|https?:[^"]*|@import|fetch\(|XMLHttp|importScripts|url\(' examples/web.html |
    grep -v '^href="data:,')"
same "both halves are in it, and nothing is left to fill in" 0 "$(grep -Ec '^@[a-z]+@$' "$page")"
check "it holds the model" test "$(wc -c <"$page")" -gt $(($(wc -c <"$model") * 4 / 3))

printf 'hello\tHello, friend!\nwho are you\tI am a bot.\nthink\tDone, I think.\n' >"$tmp/pairs.tsv"
"$bin/train" "$tmp/pairs.tsv" -o "$tmp/bot.gguf" --layers 1 --heads 2 --width 64 --context 256 --batch 3 --vocab 300 -t 1 \
    --steps 150 --lr 3e-3 --held-out 0 >"$tmp/out" 2>&1
same "train, a bot: exit status" 0 $? || cat "$tmp/out"

# outside NAME COMMAND...: a test in another language, which ends with "NAME: N passed, M failed"
outside() {
    name=$1; shift
    "$@" >"$tmp/outside" 2>&1
    grep -v "^$name: " "$tmp/outside" | head -n 40
    like "$name" "^$name: [1-9][0-9]* passed, 0 failed\$" "$(tail -n 1 "$tmp/outside")"
    passed=$((passed + $(sed -n "s/^$name: \([0-9]*\) passed.*/\1/p" "$tmp/outside" | grep . || echo 0)))
}
if command -v node >/dev/null 2>&1; then
    outside web_test.js node tests/web_test.js "$page" "$bin" "$model" "$tmp/bot.gguf"
else skip "web: its worker without a browser (no node)"; fi
if ! command -v python3 >/dev/null 2>&1; then skip "web: the page in a browser (no python3)"
elif ! python3 -c "import sys; sys.path.insert(0, 'tests'); import chromium; sys.exit(not chromium.find())"; then
    skip "web: the page in a browser (no chromium; CHROMIUM=... names one)"
else outside web_test.py python3 tests/web_test.py "$page" "$bin" "$model" "$tmp/bot.gguf"; fi
report web_test
