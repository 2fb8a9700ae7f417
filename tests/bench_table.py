#!/usr/bin/env python3
"""One table of speed for GGUF files: a row each from build/bench, or with --peer three, as llama.cpp is measured too by
tests/bench_peer.py, one run of ours and one of theirs in turn. Figures are medians of R runs. Options not listed here
go to build/bench. Needs the standard library alone; --peer needs llama-cpp-python, --shapes numpy and gguf."""
import argparse
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def die(text):
    sys.exit(f"bench_table.py: {text}")


def progress(text):
    """A line on stderr: one that overwrites itself on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
    elif text:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


def output(command):
    """What a program prints; its own line of error ends this one."""
    # A process begins with the peak memory of the one that it was forked from: a small one in between, not Python.
    command = ["sh", "-c", '"$@"; exit $?', "sh"] + command
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        progress("")
        lines = done.stderr.strip().splitlines()
        sys.exit(lines[-1] if lines else f"bench_table.py: {command[4]} ended with status {done.returncode}")
    return done.stdout


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if re.match(r"(model name|cpu model|Model)\s*:", line):
                    return line.split(":", 1)[1].strip()
        return os.uname().machine
    except OSError:
        pass
    try:
        sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(sysctl, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    except OSError:
        return "unknown processor"


def figures(text):
    """{"load": [1.2], "tg64": [67.8, 9.1], ...}: the numbers of every line, digits in words left out."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if "skipped" in rest or name == "model":
            continue
        found[name] = [float(x) for x in re.findall(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?![\w.])", rest)]
    return found


def columns(a):
    """(title, width, digits after the point, its figure among those of a run or None) for each."""
    def at(name, i=0):          # name is a pattern: a short context makes pp512 a pp256, and short() tells
        return lambda found: next((v[i] for k, v in found.items() if re.fullmatch(name, k) and len(v) > i), None)

    deep = f"tg{a.n}@{a.d}"
    table = [("load ms", 9, 1, at("load")), ("first ms", 10, 1, at("first"))]
    if a.p:
        table += [(f"pp{a.p}", 9, 1, at(r"pp\d+"))]
    if a.n:
        table += [(f"tg{a.n}", 9, 1, at(r"tg\d+"))]
        table += [(deep, len(deep) + 2, 1, at(deep))] if a.d else []
        table += [("GB/s", 8, 2, at(r"tg\d+", 1)), ("of DRAM", 9, 0, at("share"))]
    return table + [("peak MiB", 10, 1, at("peak"))]


def short(a, name, found):
    """The remark on a row whose context is too short for what its columns promise, or None."""
    cut = [k for k in found if re.fullmatch(r"pp\d+|tg\d+", k) and k not in (f"pp{a.p}", f"tg{a.n}")]
    return f"{name}: {' and '.join(cut)}, as its context has no room for more." if cut else None


def middle(column, runs):
    """Median of a column; None where it is not measured."""
    values = [column[3](found) for found in runs]
    return None if None in values else statistics.median(values)


def cell(column, value):
    title, width, digits, _ = column
    text = "-" if value is None else f"{value:.{digits}f}" + (" %" if title == "of DRAM" else "")
    return text.rjust(width)


def heading(a, about):
    kernels, threads = re.search(r"kernels ([^ ,]+), (\d+) threads", about).groups()
    runs = f"medians of {a.r} runs" if a.r > 1 else "one run"
    return "; ".join(filter(None, [processor(), f"{threads} threads", f"kernels {kernels}", a.built, runs]))


def measure(a, path, extra):
    """Figures of ours and of llama.cpp, one for each process, and the first line of ours. Alone, one process makes all
    runs, as it computes the text before the deep ones only once."""
    ours, theirs, about, name = [], [], "", os.path.basename(path)
    processes, runs = (a.r, 1) if a.peer else (1, a.r)
    options = ["-m", path, "-p", str(a.p), "-n", str(a.n), "-d", str(a.d)]
    with open(path, "rb") as f:             # every run then finds the file in the page cache
        while f.read(1 << 24):
            pass
    for i in range(processes):
        turn = f", {i + 1} of {processes}" if a.peer else ""
        progress(f"{name}: gpt.h{turn}")
        text = output([a.bench] + options + ["-t", str(a.t), "-r", str(runs)] + extra)
        about = text.splitlines()[0]
        ours.append(figures(text))
        if a.peer:
            progress(f"{name}: llama.cpp{turn}")
            threads = re.search(r"(\d+) threads", about).group(1)
            peer = [sys.executable, os.path.join(HERE, "bench_peer.py")]
            theirs.append(figures(output(peer + options + ["-t", threads, "-r", str(runs)])))
    progress("")
    return ours, theirs, about


def models_of(a):
    """The files given and, after them, those of --shapes x --types, which are written where they are missing."""
    paths = list(a.m)
    for shape in a.shapes.split():
        for kind in a.types.split():
            path = os.path.join(a.dir, f"{shape}-{kind}.gguf")
            if not os.path.exists(path):
                progress(f"writing {path}")
                output([sys.executable, os.path.join(HERE, "make_bench_models.py"), a.dir, f"{shape}:{kind}"])
            paths.append(path)
    if not paths:
        die("no model: -m FILE or --shapes")
    for path in paths:
        if not os.path.isfile(path):
            die(f"{path}: no such file")
    return paths


def main():
    ap = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    ap.add_argument("-m", nargs="+", default=[], metavar="FILE", help="models")
    ap.add_argument("--shapes", default="", help="names of tests/make_bench_models.py: random models of these shapes")
    ap.add_argument("--types", default="q8_0 q4_0", help="their formats (q8_0 q4_0)")
    ap.add_argument("--dir", default="build/bench-models", help="where they lie (build/bench-models)")
    ap.add_argument("--bench", default="build/bench", help="our program (build/bench)")
    ap.add_argument("--built", default="", help="compiler and flags, for the heading")
    ap.add_argument("--peer", action="store_true", help="llama.cpp too, with ratios")
    for name, value, what in (("-p", 512, "tokens of the prompt"), ("-n", 64, "tokens to write"),
                              ("-d", 4096, "write them after so many tokens too; 0 = do not"),
                              ("-t", 0, "threads; 0 = all"), ("-r", 3, "runs")):
        ap.add_argument(name, type=int, default=value, help=f"{what} ({value})")
    a, extra = ap.parse_known_args()
    if a.r < 1:
        die("-r: expected 1 or more")
    if a.peer:
        output([sys.executable, os.path.join(HERE, "bench_peer.py"), "--help"])     # ends here without llama_cpp
    paths, table, notes, dram, python = models_of(a), columns(a), [], [], []
    names = [os.path.basename(p)[:-5] if p.endswith(".gguf") else os.path.basename(p) for p in paths]
    width = max(map(len, names + ["model"]))
    for i, path in enumerate(paths):
        ours, theirs, about = measure(a, path, extra)
        if not i:
            print(heading(a, about))
            print("model".ljust(width) + "  program  " * a.peer + "".join(c[0].rjust(c[1]) for c in table))
        rows = [[middle(column, runs) for column in table] for runs in ([ours, theirs] if a.peer else [ours])]
        print(names[i].ljust(width) + "  gpt.h    " * a.peer + "".join(map(cell, table, rows[0])))
        if a.peer:
            ratio = [x / y if x is not None and y else None for x, y in zip(*rows)]
            print(" " * width + "  llama.cpp" + "".join(map(cell, table, rows[1])))
            print(" " * width + "  ratio    " + "".join(
                ("-" if x is None else f"{x:.2f}").rjust(c[1]) for c, x in zip(table, ratio)))
        sys.stdout.flush()
        notes += filter(None, [short(a, names[i], ours[0])])
        dram += [x for found in ours for x in found.get("dram", [])]
        python += [found["python"][0] for found in theirs]
    print("pp reads a prompt and tg writes, in tokens per second; GB/s = bytes of all weights times tg's.")
    if dram:
        print(f"DRAM: {min(dram):.1f} to {max(dram):.1f} GB/s read, in {len(dram)} measurements beside those of tg.")
    if a.peer:
        print("ratio = gpt.h / llama.cpp: above 1 is good for tokens per second, below 1 for ms and MiB.")
        print(f"llama.cpp's load maps the file and may read it later; {python[0]:.0f} MiB of its peak are Python's.")
    for note in notes:
        print(note)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os._exit(1)
