#!/bin/sh
# usage: stories.sh BUILD [MODEL [STORIES [FIRST-SEED]]]   how well a model of stories holds together: so many (40) with seeds
# that follow each other (a fresh first one each time, printed). Counted are those that end in mid-sentence and those that have
# some four words in a row three times or more. Fails above none of the first, one in ten of the second. With SHOW=1 all are shown.
. tests/check.sh
bin=$1 model=${2:-$(find_model)} n=${3:-40} first=${4:-$(($(date +%s) % 1000000))}
[ -f "$model" ] || { echo "stories.sh: no model${2:+ $2}" >&2; exit 1; }
i=0 cut=0 again=0 words=0
while [ "$i" -lt "$n" ]; do
    seed=$((first + i)) i=$((i + 1))
    "$bin/generate" -m "$model" -p "Once upon a time" --temp 0.5 --repeat-penalty 1.1 --seed $seed >"$tmp/story" || exit 1
    [ "${SHOW:-}" = "" ] || { echo "---- $seed"; cat "$tmp/story"; }
    found=$(tr -s ' \t\r\n' '    ' <"$tmp/story" | awk '{
        end = $0; gsub(/[" ]+$/, "", end)
        for (w = 1; w + 3 <= NF; w++) { p = $w " " $(w + 1) " " $(w + 2) " " $(w + 3); if (++seen[p] == 3 && !most) most = p }
        print NF, (end !~ /[.!?]$/), most
    }')
    words=$((words + ${found%% *}))
    case $found in *" 1 "*) cut=$((cut + 1)); echo "$seed ends in mid-sentence: ...$(tail -c 60 "$tmp/story" | tr '\n' ' ')" ;; esac
    phrase=${found#* [01] }
    [ -z "$phrase" ] || { again=$((again + 1)); echo "$seed repeats: $phrase"; }
done
echo "$n stories of $model, seeds $first to $((first + n - 1)), $((words / n)) words each: $cut end in mid-sentence, $again repeat four words three times"
check "stories that end in mid-sentence" test "$cut" -eq 0
check "stories that repeat" test "$again" -le $((n / 10))
report stories
