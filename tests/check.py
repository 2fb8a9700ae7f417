"""For test scripts in Python: counts and the report line, as check.sh has them for the others."""

passed = failed = 0


def check(ok, what, *shown):
    global passed, failed
    if ok:
        passed += 1
        return
    failed += 1
    if failed <= 40:
        print("FAIL: " + what, *(repr(x)[:400] for x in shown))


def report(name):
    """Prints the last line; returns the exit status."""
    print("%s: %d passed, %d failed" % (name, passed, failed))
    return int(failed > 0)
