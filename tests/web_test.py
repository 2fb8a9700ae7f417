"""usage: web_test.py PAGE BUILD MODEL BOT   build/web/index.html in Chromium without a window: it tells the stories of build/generate,
talks with a model that is dropped, says what it refuses, fits 320 pixels, and leaves nothing in the console."""
import os, subprocess, sys, tempfile, time, urllib.parse
from check import check, report
from chromium import Chromium

page, build, model, bot = sys.argv[1:5]
address = "file://" + os.path.abspath(page)


def native(program, stdin=None, *options):
    return subprocess.run([os.path.join(build, program)] + list(options), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=True).stdout.decode()


def hash_of(**k):
    return "#" + urllib.parse.urlencode(k)


STATE = "document.body && document.body.dataset.state"
SAID = "document.getElementById('state').textContent"
TEXT = "[...document.querySelectorAll('#strip span:not(.control)')].map(s => s.textContent).join('')"
WIDE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"


def slide(c, knob, value):
    c.run("(k => { k.value = '%s'; k.dispatchEvent(new Event('input')); })(document.getElementById('%s'))" % (value, knob))


def key(c, name):
    for kind in ("keyDown", "keyUp"):
        c.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)


def chart(c):
    return c.run("[...document.querySelectorAll('#chart tr')].map(r => [...r.cells].map(c => c.textContent))")


def until(c, what, *states):
    good = c.wait("%s.includes(%s)" % (list(states), STATE.replace("document.body && ", "document.body && ")))
    check(good, what, c.run(STATE) + ": " + c.run(SAID))


def stories(c):
    for seed, prompt, temp in ((14, "Once upon a time", 0.3), (7, "One day, a little dragon", 0.7), (3, "Tom & Ann <b>", 1)):
        c.open(address + hash_of(prompt=prompt, seed=seed, temp=temp, repeat=1.03, go=1))
        until(c, "seed %d ends" % seed, "done", "error")
        expected = native("generate", None, "-m", model, "-p", prompt, "--seed", str(seed), "--temp", str(temp), "--repeat-penalty", "1.03")
        found = c.run(TEXT)
        check(found == expected, "seed %d: the text of build/generate" % seed, "expected %r, found %r" % (expected, found))
        said = c.run(SAID)
        check(" a second, seed %d: " % seed in said, "speed and seed are shown", said)
        check("seed=%d" % seed in c.run("location.hash"), "the address has them", c.run("location.hash"))


def looks(c):
    check(c.wait("document.querySelectorAll('#chart tr').length === 12"), "the chart of what comes next", chart(c))
    before, text = chart(c), c.run(TEXT)
    slide(c, "temp", 2)
    check(c.wait("document.querySelector('#chart td:last-child').textContent !== %r" % before[0][3]), "a slider changes it", before)
    after = chart(c)
    check([r[:3] for r in before] == [r[:3] for r in after], "... not what the model says", after)
    slide(c, "temp", 0)
    check(c.wait("document.querySelector('#chart td:last-child').textContent === '100 %'"), "temperature 0", chart(c))
    check(c.run(TEXT) == text, "... and writes nothing")
    c.run("document.getElementById('reset').click()")
    check(c.wait("document.getElementById('temp').value === '0.5'"), "the settings as at first")

    c.run("document.getElementById('strip').focus()")
    key(c, "Home")
    for _ in range(6):
        key(c, "ArrowRight")
    check(c.run("document.querySelectorAll('#strip .on').length") == 1 and
          c.run("[...document.querySelectorAll('#strip span')].findIndex(s => s.classList.contains('on'))") == 6, "keys choose a token")
    check("bits of surprise" in c.run("document.getElementById('box').textContent"), "its surprise is told", c.run("document.getElementById('box').textContent"))
    check(c.wait("model && document.querySelectorAll('#lens tr').length === model.n_layer"), "the lens has all layers", c.run("document.getElementById('lens').textContent"))
    check(c.wait("document.getElementById('most').textContent.startsWith('most at ')"), "where it looks is told", c.run("document.getElementById('most').textContent"))
    c.run("document.querySelector('[value=attention]').click()")
    shaded = "[...document.querySelectorAll('#strip span')].filter(s => s.style.background).length"
    check(1 < c.run(shaded) <= 7, "attention shades what is before it", c.run(shaded))
    c.run("document.querySelector('[value=surprise]').click()")
    check(c.run(shaded) > 20, "surprise colours the text", c.run(shaded))
    wanted = c.run("(r => (r.find(b => !b.classList.contains('here')) || r[0]).textContent)([...document.querySelectorAll('#chart button')])")
    c.run("[...document.querySelectorAll('#chart button')].find(b => !b.classList.contains('here')).click()")
    until(c, "another token instead", "done")
    check(c.run("seen(groups[6].span.textContent)") == wanted, "... stands there", wanted)
    c.run("document.querySelectorAll('#strip span')[3].dispatchEvent(new PointerEvent('pointerenter'))")
    check("Expected here" in c.run("document.getElementById('box').textContent"), "pointing tells what was expected")


def stops(c):
    c.open(address + hash_of(prompt="Once upon a time", seed=1, temp=1))
    until(c, "it is ready", "ready")
    check(c.wait("document.querySelectorAll('#strip span').length > 2 && document.querySelectorAll('#chart tr').length === 12"), "a prompt is read as it is typed")
    late = c.run("""new Promise(done => {
        const strip = document.getElementById('strip'), n = strip.children.length; let at = 0;
        new MutationObserver((_, o) => { if (strip.children.length > n) { o.disconnect(); at = performance.now(); document.getElementById('stop').click(); } }).observe(strip, { childList: true });
        new MutationObserver(() => { if (['stopped', 'done'].includes(document.body.dataset.state)) done([document.body.dataset.state, performance.now() - at, strip.children.length - n]); }).observe(document.body, { attributes: true });
        document.getElementById('go').click(); })""")
    check(late[0] == "stopped" and late[1] < 2000 and late[2] < 100, "stopped at once", late)
    n = c.run("T.length")
    time.sleep(0.3)
    check(c.run("T.length") == n, "... for good")
    c.run("document.getElementById('more').click()")
    until(c, "it goes on", "done")
    check(c.run("T.length") > n, "... with more")
    c.open(address + hash_of(prompt="Once upon a time", seed=14, temp=0.3, repeat=1.03))
    until(c, "it is ready", "ready")
    c.run("""new Promise(done => { const strip = document.getElementById('strip'), n = strip.children.length;
        new MutationObserver((_, o) => { if (strip.children.length > n) { o.disconnect(); select(3); done(); } }).observe(strip, { childList: true });
        document.getElementById('go').click(); })""")
    until(c, "a look while it writes", "done")
    check(c.run(TEXT) == native("generate", None, "-m", model, "-p", "Once upon a time", "--seed", "14", "--temp", "0.3",
                                   "--repeat-penalty", "1.03"), "... changes no text")
    check(c.wait("chosen === 3 && document.querySelectorAll('#lens tr').length === model.n_layer", 20), "... and comes to its end")
    c.run("document.getElementById('again').checked = true")
    seeds = set()
    for _ in range(3):
        c.run("document.getElementById('n').value = 5; document.getElementById('go').click()")
        until(c, "another story", "done")
        seeds.add(c.run("document.getElementById('seed').value"))
    check(len(seeds) > 1, "another seed each time", seeds)


def fits(c):
    for width in (320, 400, 820, 1280):
        c.open(address + hash_of(prompt="Once upon a time", seed=14, temp=0.3, go=1), width=width, dark=width == 400)
        until(c, "%d pixels: it ends" % width, "done")
        c.wait("document.querySelectorAll('#chart tr').length === 12")
        c.run("document.querySelectorAll('#strip span')[9].click()")
        c.wait("document.querySelectorAll('#lens tr').length === model.n_layer")
        check(c.run(WIDE) <= width, "%d pixels: nothing sticks out" % width, c.run(WIDE))
        if width in (320, 400):
            small = c.run("[...document.querySelectorAll('button, select, textarea')].filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)")
            check(small == [], "%d pixels: all can be reached" % width, small)


def talks(c):
    c.open(address)
    until(c, "it is ready", "ready")
    c.choose_file("#file", bot)
    check(c.wait("mode === 'chat' && %s === 'ready'" % STATE), "a model with a template: chat", c.run(SAID))
    for message in ("hello", "who are you"):
        expected = native("chat", (message + "\n").encode(), "-m", bot, "--temp", "0").rstrip("\n")
        slide(c, "temp", 0)
        slide(c, "repeat", 1)
        c.run("document.getElementById('prompt').value = %r; document.getElementById('go').click()" % message)
        until(c, "an answer", "done", "error")
        found = c.run("document.querySelector('#log p:last-child').lastChild.textContent")
        check(found == expected, "the answer of build/chat", "expected %r, found %r" % (expected, found))
    check(c.run("document.querySelectorAll('#log .user').length") == 2, "both messages stand there")
    check(c.run("T.some(t => t.mine) && T.some(t => !t.mine)"), "the conversation's tokens too")

    bad = tempfile.NamedTemporaryFile(suffix=".gguf", delete=False)
    bad.write(open(bot, "rb").read()[:3000])
    bad.close()
    c.choose_file("#file", bad.name)
    check(c.wait("%s === 'error' && model" % STATE), "a file that ends early is refused", c.run(SAID))
    check("refused" in c.run(SAID) and len(c.run(SAID)) > 60, "... and says why", c.run(SAID))
    os.unlink(bad.name)
    c.run("document.getElementById('go').click()")
    until(c, "the bundled model is back", "done")
    c.run("hear.trap({ text: 'as a test' })")
    check(c.wait("%s === 'error' && model" % STATE) and "as a test" in c.run(SAID), "an engine that stops is started anew", c.run(SAID))
    c.run("document.getElementById('go').click()")
    until(c, "... and writes", "done")


with Chromium() as c:
    for part in (stories, looks, stops, fits, talks):
        part(c)
        check(c.log == [], "%s: nothing in the console" % part.__name__, c.log)
        c.log = []
sys.exit(report("web_test.py"))
