"""usage: pictures.py PAGE REPORT FOLDER   `make pictures`: README.md's pictures of the page and of a report of build/look, as Chromium
shows them, with few colours, so that they stay small."""
import os, sys
from PIL import Image       # Pillow
from chromium import Chromium


def take(c, path, left, width, height):
    c.picture(path, {"x": left, "y": 0, "width": width, "height": height})
    Image.open(path).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print("%s: %d x %d, %d bytes" % (path, width, height, os.path.getsize(path)))


page, report, folder = sys.argv[1:4]
with Chromium() as c:
    c.open("file://" + os.path.abspath(page) + "#prompt=Once+upon+a+time&seed=8&temp=0.5&repeat=1.1&go=1")
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
