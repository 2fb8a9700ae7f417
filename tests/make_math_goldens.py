#!/usr/bin/env python3
"""Write golden/math.inc: exp, log, powers, sine and cosine in double precision, computed with 100 digits by mpmath.

    pip install mpmath; python3 tests/make_math_goldens.py

A C library is no judge of them. mingw-w64's sincos is the processor's fsincos, which reduces its argument with a pi of
66 bits and is wrong by 1.4e-12 for arguments near 2^30, where gpti_sincos_d is right to 1.6e-16 (all 262144
arguments of unit_math.c compared with mpmath).
"""
import os
import mpmath
from mpmath import mp, mpf

mp.dps = 100
N = 262144          # unit_math.c's points; every STEPth of them is written
STEP = 2039


def unit(i):
    return i * 7919 % N / N


def hardest(binade):
    """A double in [2^binade, 2^(binade + 1)) very close to a multiple of pi/2, found by the continued fraction of pi/2 in units
    of the last place; None where that has none."""
    ulp = mpf(2) ** (binade - 52)
    step = mp.pi / 2 / ulp
    best = None
    p0, p1, q0, q1, rest = 0, 1, 1, 0, step             # p / q -> step: q multiples of pi/2 are about p units
    while p1 < 2 ** 53:
        a = int(mpmath.floor(rest))
        p0, p1, q0, q1 = p1, a * p1 + p0, q1, a * q1 + q0
        rest = 1 / (rest - a)
        times = -(-2 ** 52 // p1)
        m, k = p1 * times, q1 * times
        if 2 ** 52 <= m < 2 ** 53 and (best is None or abs(m - k * step) < best[0]):
            best = abs(m - k * step), float(m * ulp)
    return best and best[1]


def table(name, rows):
    lines = ["    { " + ", ".join("%.17g" % float(x) for x in row) + " }" for row in rows]
    return "static const double %s[][%d] = {\n%s\n};\n" % (name, len(rows[0]), ",\n".join(lines))


points = range(0, N, STEP)
exps = [unit(i) * 1417.0 - 708.0 for i in points]
logs = [0.5 + unit(i) for i in points if unit(i) != 0.5]
logs += [(0.5 + unit(i)) * 2.0 ** (i % 2000 - 1000) for i in points]
logs += [1 + s * 2.0 ** -k for k in range(2, 53) for s in (1, -1)]
powers = [-unit(i) for i in points]
angles = [(unit(i) * 2.0 - 1.0) * 1073741823.0 if i % 2 else unit(i) * 100.0 for i in points]
angles += [s * x for x in map(hardest, range(0, 30)) if x for s in (1, -1)]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "math.inc"), "w") as f:
    f.write("/* By make_math_goldens.py, mpmath %s: arguments and results, the latter rounded to double. */\n" % mpmath.__version__)
    f.write(table("golden_exp", [(x, mpmath.exp(mpf(x))) for x in exps]))
    f.write(table("golden_log", [(x, mpmath.log(mpf(x))) for x in logs]))
    f.write(table("golden_pow", [(x, mpf(10) ** (6 * mpf(x))) for x in powers]))
    f.write(table("golden_sincos", [(x, mpmath.sin(mpf(x)), mpmath.cos(mpf(x))) for x in angles]))
