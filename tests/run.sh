#!/bin/sh
# usage: run.sh LOG COMMAND...   runs one test program and makes sure that its log ends in "NAME: N passed, M failed":
# a program that crashes, hangs or forgets to report counts as one failure. Always succeeds; sum.sh is the judge. What takes
# five seconds says so after it.
log=$1; shift
name=$(basename "$log" .log)
limit=; command -v timeout >/dev/null 2>&1 && limit="timeout 1800"
began=$(date +%s)
OMP_WAIT_POLICY=passive $limit "$@" >"$log.raw" 2>&1 </dev/null
status=$?
tr -d '\r' <"$log.raw" >"$log.part"     # Windows ends a line with two bytes
rm "$log.raw"
if ! grep -Eq '^[A-Za-z0-9_]+: [0-9]+ passed, [0-9]+ failed$' "$log.part"; then
    echo "$name: no report, exit status $status" >>"$log.part"
    echo "$name: 0 passed, 1 failed" >>"$log.part"
elif [ $status -ne 0 ] && ! grep -Eq ', [1-9][0-9]* failed$' "$log.part"; then
    echo "$name: exit status $status after its report" >>"$log.part"
    echo "$name: 0 passed, 1 failed" >>"$log.part"
fi
seconds=$(($(date +%s) - began))
[ $seconds -lt 5 ] || echo "$name: $seconds s" >>"$log.part"
mv "$log.part" "$log"
