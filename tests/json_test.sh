#!/bin/sh
# usage: json_test.sh BUILD   examples/json.c and tools.c from outside; then, where Python has jsonschema, json_test.py, with
# JSON_TEST_N texts (500).
. tests/check.sh
bin=$1
model=$(find_model)

# checked STATUS BYTE TEXT ARGUMENTS...: json --check of a text
checked() {
    expected=$1 byte=$2 shown=$3; shift 3
    printf "$shown" >"$tmp/text"
    run json "$@" --check "$tmp/text"
    same "json $* --check '$shown': exit status" "$expected" $status
    same "json $* --check '$shown': byte" "$byte" "$out"
}
# uncompiled REGEX ARGUMENTS...: exit status 2, and a line on stderr that matches
uncompiled() {
    regex=$1; shift
    printf x >"$tmp/text"
    run json "$@" --check "$tmp/text"
    same "json $*: exit status" 2 $status
    same "json $*: stdout" "" "$out"
    like "json $*: message" "$regex" "$err"
}

# ---- --check, without a model
checked 0 ""  '{"action":"go","target":"north","amount":1}'
checked 0 ""  ' { "action" : "go", "target":"\\u006eorth" ,\n"amount":99}\n'
checked 1 11  '{"action":"fly","target":"north","amount":1}'
checked 1 43  '{"action":"go","target":"north","amount":100}'
checked 1 42  '{"action":"go","target":"north","amount":1'
checked 1 0   ''
checked 0 ""  ' [1, -2.5e3, "x", {"a": null}] ' --json
checked 1 3   '[1,]' --json
checked 1 4   '[1, ' --json
printf '{"type":"array","items":{"type":"integer"},"maxItems":2}' >"$tmp/s.json"
checked 0 ""  '[1, 2]' --schema "$tmp/s.json"
checked 1 5   '[1, 2, 3]' --schema "$tmp/s.json"
printf 'root ::= greeting " " name\ngreeting ::= "hello" | "good day"\nname ::= [A-Z] [a-z]*\n' >"$tmp/g.gbnf"
checked 0 ""  'good day Mia' --grammar "$tmp/g.gbnf"
checked 1 6   'hello mia' --grammar "$tmp/g.gbnf"
checked 1 9   'hello Mia\n' --grammar "$tmp/g.gbnf"
printf '{"properties":{"a":{"properties":{"b":{"type":"integer","multipleOf":3}}}}}' >"$tmp/s.json"
uncompiled '^json: .*s.json: .*/properties/a/properties/b.*multipleOf' --schema "$tmp/s.json"
printf '{"type":"string"' >"$tmp/s.json"
uncompiled '^json: .*s.json: .' --schema "$tmp/s.json"
printf 'root ::= a missing\na ::= "x"\n' >"$tmp/g.gbnf"
uncompiled '^json: .*g.gbnf: .*missing' --grammar "$tmp/g.gbnf"
printf 'root ::= root "x" | "y"\n' >"$tmp/g.gbnf"
run json --grammar "$tmp/g.gbnf" --check "$tmp/text"
check "json, a rule that begins with itself: an error, or taken" test $status -eq 2 -o $status -eq 1
out=$(printf '[]' | "$bin/json" --json --check - 2>&1); same "json --check - is stdin" "0" "$?"

# ---- 60,000 brackets within each other: refused at a byte, a named error, or taken; never an overflow of the stack
nest() { awk -v n=60000 -v a="$1" -v b="$2" -v c="$3" 'BEGIN { for (i = 0; i < n; i++) printf "%s", a; printf "%s", b; for (i = 0; i < n; i++) printf "%s", c }'; }
nest '[' '' ']' >"$tmp/deep"
run json --json --check "$tmp/deep"
same "deep arrays: exit status" 1 $status
like "deep arrays: a byte" '^[1-9][0-9]*$' "$out"
nest '{"a":' 1 '}' >"$tmp/deep"
run json --json --check "$tmp/deep"
same "deep objects: exit status" 1 $status
printf a >"$tmp/text"
set -f
for deep in '[ 1 ]' '{"items": {} }' '{"anyOf":[ {} ]}' '{"not": {} }' '{"enum":[ 1 ]}'; do
    nest $deep >"$tmp/deep"
    run json --schema "$tmp/deep" --check "$tmp/text"
    same "a deep schema of $deep: exit status" 2 $status
    like "a deep schema of $deep: message" '^json: .*/deep: .' "$err"
done
for deep in '( "a" )' '[ a ]' '("x"| "a" )*'; do
    { printf 'root ::= '; nest $deep; } >"$tmp/deep"
    run json --grammar "$tmp/deep" --check "$tmp/text"
    check "a deep grammar of $deep: exit status $status" test $status -le 2
done
set +f
{ printf '{"type":"string","pattern":"'; nest '(' a ')'; printf '"}'; } >"$tmp/deep"
run json --schema "$tmp/deep" --check "$tmp/text"
check "a deep pattern: exit status $status" test $status -le 2

fails() { what=$1 regex=$2; shift 2; run "$@"; same "$what: exit status" 1 $status; same "$what: stdout" "" "$out"; like "$what" "$regex" "$err"; }
fails "two forms"          '^json: --schema, --grammar and --json exclude' json --json --schema x --check y
fails "no such schema"     "^json: $tmp/none: "                    json --schema "$tmp/none" --check "$tmp/text"
fails "a prompt to check"  '^json: --check takes neither'          json -p x --check "$tmp/text"
fails "-n 0"               '^json: -n: expected -1, or 1 or more'  json -m x -p x -n 0
fails "no such syntax"     "^tools: --syntax: expected .*'none'"   tools -m x -p x --syntax none
printf 'root ::= "a\000"' >"$tmp/g.gbnf"
fails "a zero byte"        "^json: $tmp/g.gbnf: a zero byte at 11"  json --grammar "$tmp/g.gbnf" --check "$tmp/text"

run tools --self-test
same "tools --self-test: exit status" 0 $status || head -n 20 "$tmp/out"
like "tools --self-test" '^tools: [0-9]+ passed, 0 failed$' "$out"

# ---- with the bundled model, which knows nothing of JSON
if [ -n "$model" ]; then
    for seed in 1 2 3; do
        run json -m "$model" -p "Take two apples from the table." -s $seed -n 60
        same "json -s $seed: exit status" 0 $status
        same "json -s $seed: stderr" "" "$err"
        cp "$tmp/out" "$tmp/text$seed"
        run json --check "$tmp/text$seed"
        same "json -s $seed: a command" 0 $status || cat "$tmp/text$seed"
    done
    check "json: another seed, another command" test "$(cat "$tmp"/text?)" != "$(cat "$tmp/text1" "$tmp/text1" "$tmp/text1")"
    run json -m "$model" -p "Take two apples from the table." -s 1 -n 60 -t 1 --kernels ref
    same "json: the same on one thread, with other kernels" "$(cat "$tmp/text1")" "$out"
    run json -m "$model" -p "Go home." -n 4 --no-finish
    same "json --no-finish: cut: exit status" 3 $status
    like "json --no-finish: says so" '^json: the answer was cut by -n$' "$err"
    run json -m "$model" -p "Go home." -n 4
    same "json: a limit that no command keeps: exit status" 1 $status
    like "json: a limit that no command keeps" '^json: .' "$err"
    printf '{"type":"array","items":{"type":"string"},"minItems":1}' >"$tmp/s.json"
    run json -m "$model" --schema "$tmp/s.json" -p "Once upon a time" -n 12 --temp 2 --top-k 0 --top-p 1 --min-p 0
    same "json: near -n it comes to an end: exit status" 0 $status
    cp "$tmp/out" "$tmp/text"
    run json --schema "$tmp/s.json" --check "$tmp/text"
    same "json: near -n it comes to an end" 0 $status || cat "$tmp/text"
    printf 'root ::= ("yes" | "no") "."' >"$tmp/g.gbnf"
    run json -m "$model" --grammar "$tmp/g.gbnf" -p "Is the sky blue?"
    like "json --grammar" '^(yes|no)\.$' "$out"
    run json -m "$model" --json -p "A list:" -n 40
    cp "$tmp/out" "$tmp/text"
    run json --json --check "$tmp/text"
    same "json --json" 0 $status || cat "$tmp/text"
    printf '{"not":{}}' >"$tmp/s.json"
    run json -m "$model" --schema "$tmp/s.json" -p x
    same "json, no such keyword: exit status" 2 $status
    run tools -m "$model" -p "Roll two dice."
    same "tools without a chat template: exit status" 1 $status
    like "tools without a chat template" '^tools: .* has no chat template' "$err"
else
    skip "json: no model in the repository"
fi

# ---- the loop of tools, with a model of one step of training, which writes what it must and nonsense besides
awk 'BEGIN { srand(1); for (i = 0; i < 3000; i++) printf "%s%s", substr("{\"name: x, arguments} roll dice", 1 + int(rand() * 24), 6), i % 9 ? " " : "\n" }' >"$tmp/text"
run train "$tmp/text" -o "$tmp/toy.gguf" --layers 1 --heads 2 --width 32 --context 2048 --batch 1 --vocab 300 -t 1 --steps 1
same "train, a toy: exit status" 0 $status || echo "$err"
for syntax in hermes llama3 mistral harmony functiongemma; do
    run tools -m "$tmp/toy.gguf" -p "Roll two dice." --chat-template chatml --syntax $syntax --must-call -n 80 -s 3 -t 1
    check "tools --must-call, $syntax: exit status $status" test $status -eq 0 -o $status -eq 1
    like "tools --must-call, $syntax: a call and its result" '^(roll_dice|look_in_bag) \{.*\} -> \{"(dice|item|error)": ' "$err"
done

if python3 -c "import jsonschema" 2>/dev/null; then
    python3 tests/json_test.py "$bin"
    case $? in 0 | 1) ;; *) fail "json_test.py: exit status $?" ;; esac
else
    skip "json: no python3 with jsonschema"
fi
report json
