#!/bin/sh
# usage: server_test.sh BUILD   examples/server.c from outside: raw sockets (server_probe) against the bundled model and a toy with a
# chat template and a key; then, where Python has the package openai, server_test.py.
. tests/check.sh
bin=$1
model=$(find_model)
pids=
trap 'for p in $pids; do kill $p 2>/dev/null; done; rm -rf "$tmp"' EXIT

# serve NAME OPTIONS...: starts a server; leaves its $port and $pid
serve() {
    name=$1; shift
    : >"$tmp/$name.err"
    "$bin/server" --port 0 "$@" 2>"$tmp/$name.err" &
    pid=$! port=
    pids="$pids $pid"
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        port=$(sed -n 's|^server: .* at http://.*:\([0-9]*\)/v1, .*|\1|p' "$tmp/$name.err")
        [ -z "$port" ] || return 0
        kill -0 $pid 2>/dev/null || break
        sleep 1
    done
    fail "$name: does not start: $(cat "$tmp/$name.err")"
    return 1
}
# ended NAME: it ends by Ctrl-C with status 0, and nothing on stderr but its first line (and the sanitizers' silence)
ended() {
    kill -INT $pid 2>/dev/null
    wait $pid
    same "$1: exit status" 0 $?
    same "$1: lines on stderr" 1 "$(wc -l <"$tmp/$1.err" | tr -d ' ')" || head -n 20 "$tmp/$1.err"
}
# probe NAME KEY TEST...
probe() {
    name=$1; shift
    "$bin/server_probe" "$port" "$@" >"$tmp/probe"
    status=$?
    grep -v '^server_probe: ' "$tmp/probe" | head -n 20
    like "$name: server_probe" '^server_probe: [1-9][0-9]* passed, 0 failed$' "$(tail -n 1 "$tmp/probe")"
}
# fails WHAT REGEX OPTIONS...
fails() {
    what=$1 regex=$2; shift 2
    err=$("$bin/server" "$@" 2>&1)
    same "$what: exit status" 1 $?
    like "$what" "$regex" "$err"
}

fails "no model"          '^server: no model'                                      --port 0
fails "no such port"      '^server: --port: expected 0 to 65535, got 70000'        -m x --port 70000
fails "too many texts"    '^server: -np: expected 1 to 64, got 65'                 -m x -np 65
fails "a temperature"     '^server: --temp: expected 0 or more, got -1'            -m x --temp -1
like "--help" '^ *--api-key KEY' "$("$bin/server" --help)"

if [ -n "$model" ]; then
    fails "another machine's address" '^server: --host 203.0.113.1 --port 0: .' -m "$model" --host 203.0.113.1 --port 0
    serve stories -m "$model" -np 4 -t 2 && {
        fails "a port in use" "^server: --host 127.0.0.1 --port $port: ." -m "$model" --port "$port"
        probe stories ""
        ended stories
    }
else
    skip "server: no model in the repository"
fi

awk 'BEGIN { srand(1); for (i = 0; i < 3000; i++) printf "%s%s", substr("{\"name: x, arguments} roll dice", 1 + int(rand() * 24), 6), i % 9 ? " " : "\n" }' >"$tmp/text"
"$bin/train" "$tmp/text" -o "$tmp/toy.gguf" --layers 1 --heads 2 --width 32 --context 2048 --batch 1 --vocab 300 -t 1 --steps 1 >"$tmp/out" 2>&1
same "train, a toy: exit status" 0 $? || cat "$tmp/out"
serve toy -m "$tmp/toy.gguf" --chat-template chatml --api-key sesame -np 3 -t 1 && {
    probe toy sesame
    if python3 -c "import openai" 2>/dev/null; then
        python3 tests/server_test.py "$port" sesame >"$tmp/py" 2>&1
        status=$?
        head -n 40 "$tmp/py"
        same "server_test.py: exit status" 0 $status
        passed=$((passed + $(sed -n 's/^server_test.py: \([0-9]*\) passed.*/\1/p' "$tmp/py")))
    else
        skip "server: no python3 with openai"
    fi
    ended toy
}

# An encoder: vectors alone. They are those of build/embed.
serve bert -m tests/golden/embed/bert.gguf -t 1 && { probe bert "" vectors; ended bert; }

# A bot that knows its few answers by heart, calls among them, behind templates that are recognised by what is in them.
cat >"$tmp/pairs.tsv" <<'END'
hermes	Yes.\n<tool_call>\n{"name": "look", "arguments": {"item": "rope"}}\n</tool_call>
llama3	{"name": "look", "parameters": {"item": "rope"}}
mistral	Yes.[TOOL_CALLS][{"name": "look", "arguments": {"item": "rope"}}]
harmony	 to=functions.look<|channel|>commentary <|constrain|>json<|message|>{"item": "rope"}
functiongemma	Yes.<start_function_call>call:look{item:<escape>rope<escape>}<end_function_call>
no	I say: no [b] <b>.
think	<think>Hm.</think>Done.
END
"$bin/train" "$tmp/pairs.tsv" -e -o "$tmp/bot.gguf" --layers 1 --heads 2 --width 64 --context 512 --batch 7 --vocab 300 -t 1 --steps 250 --lr 3e-3 --held-out 0 >"$tmp/out" 2>&1
same "train, a bot: exit status" 0 $? || cat "$tmp/out"
for syntax in hermes llama3 mistral harmony functiongemma; do
    case $syntax in
    hermes) marks='<tool_call> "arguments' ;;
    llama3) marks='<|start_header_id|> ipython "parameters"' ;;
    mistral) marks='[TOOL_CALLS]' ;;
    harmony) marks='<|channel|> commentary <|message|>' ;;
    functiongemma) marks='<start_function_call> <escape>' ;;
    esac
    printf '%s' "{# $marks <think> </think> #}{% if tools and messages[-1].content == 'x' %}{{ tools | tojson }}{% endif %}{{ messages[-1].content }}{{ '\n' }}" >"$tmp/template"
    serve $syntax -m "$tmp/bot.gguf" --alias $syntax --chat-template-file "$tmp/template" -t 1 && { probe $syntax "" calls; ended $syntax; }
done
report server
