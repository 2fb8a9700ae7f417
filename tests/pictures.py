"""usage: pictures.py PAGE REPORT FOLDER   `make pictures`: README.md's pictures of the page and of a report of build/look, as Chromium
shows them, with few colours, so that they stay small."""
import os, struct, sys, zlib
from chromium import Chromium


def pixels(path):
    """A PNG of 8 bits, RGB or RGBA, as rows of (r, g, b)."""
    data, at, idat = open(path, "rb").read(), 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + n]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            idat += body
        at += n + 12
    if depth != 8 or color not in (2, 6):
        sys.exit("%s: a PNG of depth %d, kind %d" % (path, depth, color))
    step, raw = (3 if color == 2 else 4), zlib.decompress(idat)
    before, rows = bytearray(width * step), []
    for y in range(height):
        line = raw[y * (width * step + 1):(y + 1) * (width * step + 1)]
        kind, row = line[0], bytearray(line[1:])
        for i in range(len(row)):
            a, b, c = (row[i - step] if i >= step else 0), before[i], (before[i - step] if i >= step else 0)
            if kind == 1:
                add = a
            elif kind == 2:
                add = b
            elif kind == 3:
                add = (a + b) // 2
            elif kind == 4:
                p, q, r = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                add = a if p <= q and p <= r else b if q <= r else c
            else:
                add = 0
            row[i] = (row[i] + add) & 255
        rows.append([tuple(row[i:i + 3]) for i in range(0, len(row), step)])
        before = row
    return rows


def write(path, rows):
    """As a palette: the 150 commonest colours, then, one after the other, the one that is served worst."""
    count = {}
    for row in rows:
        for c in row:
            count[c] = count.get(c, 0) + 1
    palette, near = [], {c: (float("inf"), 0) for c in count}
    common = sorted(count, key=lambda c: -count[c])[:150]
    while len(palette) < min(256, len(count)):
        new = common.pop(0) if common else max(near, key=lambda c: near[c][0] * count[c] ** 0.5)
        for c, (far, _) in near.items():
            d = sum((x - y) ** 2 for x, y in zip(c, new))
            if d < far:
                near[c] = d, len(palette)
        palette.append(new)
    place = {c: i for c, (_, i) in near.items()}

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    body = b"".join(b"\0" + bytes(place[c] for c in row) for row in rows)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 3, 0, 0, 0))
                + chunk(b"PLTE", b"".join(map(bytes, palette))) + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b""))
    print("%s: %d x %d, %d bytes" % (path, len(rows[0]), len(rows), os.path.getsize(path)))


def take(c, path, left, width, height):
    c.picture(path, {"x": left, "y": 0, "width": width, "height": height})
    write(path, pixels(path))


page, report, folder = sys.argv[1:4]
with Chromium() as c:
    c.open("file://" + os.path.abspath(page) + "#prompt=Once+upon+a+time&seed=14&temp=0.3&repeat=1.03&go=1")
    if not c.wait("document.body && document.body.dataset.state === 'done'"):
        sys.exit("the page does not end its story: " + str(c.log))
    # a token that surprised it
    c.run("select(groups.filter(g => g.from > 8 && g.from < 120).sort((a, b) => bits_of(b) - bits_of(a))[0].from)")
    c.wait("document.querySelectorAll('#lens tr').length === model.n_layer")
    c.run("scrollTo(0, 0); document.activeElement.blur()")
    take(c, os.path.join(folder, "page.png"), 0, 1280, 900)
    c.open("file://" + os.path.abspath(report), width=1040, height=1400)
    c.wait("document.readyState === 'complete' && !!document.querySelector('canvas')")
    end = c.run("document.querySelector('canvas').getBoundingClientRect().top")
    take(c, os.path.join(folder, "report.png"), 0, 1040, min(1400, int(end) + 240))    # the rest goes on like this
    if c.log:
        sys.exit("in the console: " + str(c.log))
