#!/bin/sh
# usage: template_test.sh BUILD   examples/inspect.c from outside; and, where ../shared has published chat templates and there is
# a python3 with jinja2, these and thousands of mutants beside jinja2, see template_oracle.py.
. tests/check.sh
bin=$1
CC=${CC:-cc}
model=$(find_model)

# run ARGUMENTS...: leaves $out, $err, $status
run() {
    "$bin/inspect" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
    out=$(cat "$tmp/out") err=$(cat "$tmp/err")
}
# gives WHAT STATUS TEXT ARGUMENTS...: the text exactly, for 0 nothing on stderr
gives() {
    about=$1 want=$2; printf "$3" >"$tmp/want"; shift 3
    run "$@"
    same "$about: exit status" $want $status
    check "$about: the text" cmp "$tmp/want" "$tmp/out"
    [ $want -ne 0 ] || same "$about: stderr" "" "$err"
}
# fails WHAT STATUS REGEX ARGUMENTS...: nothing on stdout, one line on stderr
fails() {
    about=$1 want=$2 regex=$3; shift 3
    run "$@"
    same "$about: exit status" $want $status
    same "$about: stdout" "" "$out"
    same "$about: lines on stderr" 1 "$(wc -l <"$tmp/err" | tr -d ' ')"
    like "$about: message" "$regex" "$err"
}

# ---- templates
printf '%s' '{%- for m in messages -%}<{{ m.role }}>{{ m.content }}
{% endfor %}{% if add_generation_prompt %}>{% endif %}{{ bos_token }}{{ date is defined }}{{ strftime_now("%Y-%m-%d") }}{{ x|tojson }}' >"$tmp/t.jinja"
printf '{"messages": [{"role": "user", "content": "H\\u00e9"}], "x": [1.0, "a,}"]}' >"$tmp/c.json"
gives "a conversation" 0 '<user>H\303\251\n><s>False2024-07-26[1.0, "a,}"]' --template "$tmp/t.jinja" --render "$tmp/c.json"
for c in '{"date": "2031-02-05", "messages": [], "x": 1}' '{"messages": [], "date" : "2031-02-05","x":1 }' '{ "messages":[],"x":1, "date":"2031-02-05"}'; do
    printf '%s' "$c" >"$tmp/d.json"
    gives "a date: $c" 0 '><s>False2031-02-051' --template "$tmp/t.jinja" --render "$tmp/d.json"
done
printf '{"date": "2031-02-05"}' >"$tmp/d.json"
printf '%s' '{{ strftime_now("%d") }}{{ date is defined }}{{ messages is defined }}' >"$tmp/u.jinja"
gives "a date alone" 0 '05FalseFalse' --template "$tmp/u.jinja" --render "$tmp/d.json"
"$bin/inspect" --template "$tmp/t.jinja" --render - <"$tmp/c.json" >"$tmp/out" 2>"$tmp/err"
same "a conversation from stdin" 0 $?
printf '%s' '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}' >"$tmp/b.jinja"
run --template "$tmp/b.jinja"
same "the conversation that is built in" 0 $status
like "... has a user" '^<user>Hello' "$out"
printf '%s' 'a{{ raise_exception("no " ~ messages[0].role) }}' >"$tmp/r.jinja"
gives "a template that raises" 3 'no user' --template "$tmp/r.jinja" --render "$tmp/c.json"
like "... on stderr, too" '^inspect: .*r.jinja: raised: no user$' "$err"
printf '\n{%% frobnicate %%}' >"$tmp/f.jinja"
run --template "$tmp/f.jinja" --render "$tmp/c.json"
same "an unknown statement: exit status" 4 $status
like "... is named, with its line" 'line 2.*frobnicate|frobnicate.*line 2' "$err"
printf '%s' '{{ nothing.at.all }}' >"$tmp/e.jinja"
run --template "$tmp/e.jinja" --render "$tmp/c.json"
same "a template that fails: exit status" 4 $status
printf '{"messages": [' >"$tmp/bad.json"
fails "a conversation cut short" 2 '^inspect: .*bad.json: not JSON$' --template "$tmp/t.jinja" --render "$tmp/bad.json"
printf '[]' >"$tmp/bad.json"
fails "a conversation that is an array" 2 '^inspect: .*bad.json: expected an object' --template "$tmp/t.jinja" --render "$tmp/bad.json"
for d in '"2031-2-5"' '"2031-02-05x"' 5 '"2031-13-05"'; do
    printf '{"messages": [], "x": 1, "date": %s}' "$d" >"$tmp/bad.json"
    fails "the date $d" 2 '^inspect: ' --template "$tmp/t.jinja" --render "$tmp/bad.json"
done
fails "no such template"     2 '^inspect: .*none.jinja' --template "$tmp/none.jinja"
fails "no such conversation" 2 '^inspect: .*none.json' --template "$tmp/t.jinja" --render "$tmp/none.json"
fails "no template"          2 '^inspect: --render: needs --template' --render "$tmp/c.json"
fails "no value"             2 '^inspect: --template: needs a value' --template
fails "nothing"              2 '^inspect: no model' 
fails "an unknown option"    2 "^inspect: unknown option '--tensor': did you mean --tensors" --tensor
fails "a template and a model" 2 '^inspect: --template goes with --render alone' --template "$tmp/t.jinja" -m "$tmp/none.gguf"
fails "two models"           2 "^inspect: unexpected argument 'a', after 'b'" a -m b

# ---- model files
fails "no such file"         2 '^inspect: .*none.gguf' "$tmp/none.gguf"
printf 'not a model at all, but long enough to be read as one\n' >"$tmp/bad.gguf"
fails "no GGUF file"         1 '^inspect: .*bad.gguf: GGUF' "$tmp/bad.gguf"
run --help
same "--help" 0 $status
like "--help: usage" '^usage: inspect FILE.gguf' "$out"
if [ -n "$model" ]; then
    run "$model"
    same "a model: exit status" 0 $status
    same "a model: stderr" "" "$err"
    # What the file says, by its bytes: the number of tensors, and what stands behind a key and its type.
    number() { od -An -t u4 -j "$1" -N 4 "$model" | tr -d ' '; }     # AT: little-endian, as this machine is
    value() { number $(($(grep -abo "$1" "$model" | sed -n '1s/:.*//p') + ${#1} + 4 + $2)); }
    tensors=$(number 8) width=$(value gpt2.embedding_length 0) context=$(value gpt2.context_length 0)
    vocab=$(value tokenizer.ggml.tokens 4) layers=$(value gpt2.block_count 0)
    for line in '^architecture      gpt2$' '^runs here         yes' '^  weights         [0-9]+ bytes' '^  session         [0-9]+ bytes' "^tensors           $tensors\$" \
        '^chat template     none$' "^gpt2.context_length = $context\$" "^tokenizer.ggml.tokens = $vocab of string: " \
        "^blk.0.attn_qkv.weight  [A-Z0-9_]+ \\[$width, $((3 * width))\\]\$" '^gpt2.attention.layer_norm_epsilon = 1e-05$'; do
        like "a model: $line" "$line" "$out"
    done
    same "a model: tensors and numbers of all types" "$tensors $((width * (vocab + context + 2 + layers * (12 * width + 13))))" \
        "$(printf '%s\n' "$out" | awk '/^  [A-Z0-9_]+ +[0-9]+ tensors?, / { t += $2; n += $4 } END { print t, n }')"
    cp "$tmp/out" "$tmp/all"
    run -m "$model" --tensors
    same "--tensors" $tensors "$(wc -l <"$tmp/out" | tr -d ' ')"
    run "$model" --metadata
    check "--metadata is that part alone" sh -c "! grep -q '^blk' '$tmp/out' && grep -q '^general.name = ' '$tmp/out'"
    run "$model" -c 100000
    same "a context that is too large: exit status" 1 $status
    like "... says so" '^runs here         no: .*100000' "$out"
    fails "a model without a template" 2 'no chat template$' --template "$model"
else
    skip "template: no model for inspect"
fi
if [ -f tests/golden/model/gemma3.gguf ]; then
    run tests/golden/model/gemma3.gguf
    like "a model without a tokenizer" '^tensors  ' "$out"
fi

# ---- published templates beside jinja2
if [ ! -f ../shared/data/templates/templates.json ]; then
    skip "template: no ../shared/data/templates"
elif ! python3 -c 'import jinja2' 2>/dev/null; then
    skip "template: no python3 with jinja2"
else
    check "the probe builds" $CC -O1 -DGPT_NO_SIMD $CFLAGS -I. tests/template_probe.c -o "$tmp/probe" $LDFLAGS -lm
    python3 tests/template_oracle.py "$tmp/probe" ../shared >"$tmp/oracle" 2>&1
    same "published templates and mutants beside jinja2" 0 $? || head -n 60 "$tmp/oracle"
    tail -n 1 "$tmp/oracle"
fi
report template
