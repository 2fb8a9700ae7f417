#!/bin/sh
# usage: sum.sh LOG...   prints the logs, then what failed, a line for each check or program, and, alone on the last line, what
# they add up to. Status 0 when nothing failed. .ci/run looks for the line "what failed:".
for log in "$@"; do
    if [ -f "$log" ]; then cat "$log"; else echo "$(basename "$log" .log): did not build"; fi
done | awk '
    { print }
    /^tests\/[A-Za-z0-9_.\/]+[.][ch]:[0-9]+: / || /^FAIL: / || /: no report, exit status / || /: exit status [0-9]+ after its report$/ {
        list[++n] = $0; shown++
    }
    /^[A-Za-z0-9_]+: [0-9]+ passed, [0-9]+ failed$/ {
        passed += $2; failed += $4
        for (; from < n; ) { from++; if (list[from] ~ /^FAIL: /) list[from] = $1 " " list[from] }
        if ($4 > shown) list[++n] = $1 " " $4 - shown " failures" (shown ? " more" : "")
        shown = 0; from = n
    }
    /: did not build$/ { failed++; list[++n] = $0; from = n }
    END {
        if (n) print "what failed:"
        for (i = 1; i <= n; i++) print list[i]
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0 || passed == 0
    }'
