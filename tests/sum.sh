#!/bin/sh
# usage: sum.sh LOG...   prints the logs and, alone on the last line, what they add up to. Status 0 when nothing failed.
for log in "$@"; do
    if [ -f "$log" ]; then cat "$log"; else echo "$(basename "$log" .log): did not build"; fi
done | awk '
    { print }
    /^[A-Za-z0-9_]+: [0-9]+ passed, [0-9]+ failed$/ { passed += $2; failed += $4 }
    /: did not build$/ { failed++ }
    END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }'
