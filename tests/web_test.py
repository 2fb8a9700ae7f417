"""usage: web_test.py PAGE BUILD MODEL BOT   build/web/index.html in Chromium without a window: it tells the stories of build/generate,
talks with a model that is dropped, says what it refuses, fits 320 pixels, and leaves nothing in the console."""
import os, subprocess, sys, tempfile, time, urllib.parse
from chromium import Chromium

page, build, model, bot = sys.argv[1:5]
address = "file://" + os.path.abspath(page)
passed = failed = 0


def check(what, ok, found=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL: %s: %s" % (what, str(found)[:300]))


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
    check(what, good, c.run(STATE) + ": " + c.run(SAID))


def stories(c):
    for seed, prompt, temp in ((14, "Once upon a time", 0.3), (7, "One day, a little dragon", 0.7), (3, "Tom & Ann <b>", 1)):
        c.open(address + hash_of(prompt=prompt, seed=seed, temp=temp, repeat=1.03, go=1))
        until(c, "seed %d ends" % seed, "done", "error")
        expected = native("generate", None, "-m", model, "-p", prompt, "--seed", str(seed), "--temp", str(temp), "--repeat-penalty", "1.03")
        found = c.run(TEXT)
        check("seed %d: the text of build/generate" % seed, found == expected, "expected %r, found %r" % (expected, found))
        said = c.run(SAID)
        check("speed and seed are shown", " a second, seed %d: " % seed in said, said)
        check("the address has them", "seed=%d" % seed in c.run("location.hash"), c.run("location.hash"))


def looks(c):
    check("the chart of what comes next", c.wait("document.querySelectorAll('#chart tr').length === 12"), chart(c))
    before, text = chart(c), c.run(TEXT)
    slide(c, "temp", 2)
    check("a slider changes it", c.wait("document.querySelector('#chart td:last-child').textContent !== %r" % before[0][3]), before)
    after = chart(c)
    check("... not what the model says", [r[:3] for r in before] == [r[:3] for r in after], after)
    slide(c, "temp", 0)
    check("temperature 0", c.wait("document.querySelector('#chart td:last-child').textContent === '100 %'"), chart(c))
    check("... and writes nothing", c.run(TEXT) == text)
    c.run("document.getElementById('reset').click()")
    check("the settings as at first", c.wait("document.getElementById('temp').value === '0.3'"))

    c.run("document.getElementById('strip').focus()")
    key(c, "Home")
    for _ in range(6):
        key(c, "ArrowRight")
    check("keys choose a token", c.run("document.querySelectorAll('#strip .on').length") == 1 and
          c.run("[...document.querySelectorAll('#strip span')].findIndex(s => s.classList.contains('on'))") == 6)
    check("its surprise is told", "bits of surprise" in c.run("document.getElementById('box').textContent"), c.run("document.getElementById('box').textContent"))
    check("the lens has all layers", c.wait("model && document.querySelectorAll('#lens tr').length === model.n_layer"), c.run("document.getElementById('lens').textContent"))
    check("where it looks is told", c.wait("document.getElementById('most').textContent.startsWith('most at ')"), c.run("document.getElementById('most').textContent"))
    c.run("document.querySelector('[value=attention]').click()")
    shaded = "[...document.querySelectorAll('#strip span')].filter(s => s.style.background).length"
    check("attention shades what is before it", 1 < c.run(shaded) <= 7, c.run(shaded))
    c.run("document.querySelector('[value=surprise]').click()")
    check("surprise colours the text", c.run(shaded) > 20, c.run(shaded))
    wanted = c.run("(r => (r.find(b => !b.classList.contains('here')) || r[0]).textContent)([...document.querySelectorAll('#chart button')])")
    c.run("[...document.querySelectorAll('#chart button')].find(b => !b.classList.contains('here')).click()")
    until(c, "another token instead", "done")
    check("... stands there", c.run("seen(groups[6].span.textContent)") == wanted, wanted)
    c.run("document.querySelectorAll('#strip span')[3].dispatchEvent(new PointerEvent('pointerenter'))")
    check("pointing tells what was expected", "Expected here" in c.run("document.getElementById('box').textContent"))


def stops(c):
    c.open(address + hash_of(prompt="Once upon a time", seed=1, temp=1))
    until(c, "it is ready", "ready")
    check("a prompt is read as it is typed", c.wait("document.querySelectorAll('#strip span').length > 2 && document.querySelectorAll('#chart tr').length === 12"))
    late = c.run("""new Promise(done => {
        const strip = document.getElementById('strip'), n = strip.children.length; let at = 0;
        new MutationObserver((_, o) => { if (strip.children.length > n) { o.disconnect(); at = performance.now(); document.getElementById('stop').click(); } }).observe(strip, { childList: true });
        new MutationObserver(() => { if (['stopped', 'done'].includes(document.body.dataset.state)) done([document.body.dataset.state, performance.now() - at, strip.children.length - n]); }).observe(document.body, { attributes: true });
        document.getElementById('go').click(); })""")
    check("stopped at once", late[0] == "stopped" and late[1] < 2000 and late[2] < 100, late)
    n = c.run("T.length")
    time.sleep(0.3)
    check("... for good", c.run("T.length") == n)
    c.run("document.getElementById('more').click()")
    until(c, "it goes on", "done")
    check("... with more", c.run("T.length") > n)
    c.open(address + hash_of(prompt="Once upon a time", seed=14, temp=0.3, repeat=1.03))
    until(c, "it is ready", "ready")
    c.run("""new Promise(done => { const strip = document.getElementById('strip'), n = strip.children.length;
        new MutationObserver((_, o) => { if (strip.children.length > n) { o.disconnect(); select(3); done(); } }).observe(strip, { childList: true });
        document.getElementById('go').click(); })""")
    until(c, "a look while it writes", "done")
    check("... changes no text", c.run(TEXT) == native("generate", None, "-m", model, "-p", "Once upon a time", "--seed", "14", "--temp", "0.3",
                                                       "--repeat-penalty", "1.03"))
    check("... and comes to its end", c.wait("chosen === 3 && document.querySelectorAll('#lens tr').length === model.n_layer", 20))
    c.run("document.getElementById('again').checked = true")
    seeds = set()
    for _ in range(3):
        c.run("document.getElementById('n').value = 5; document.getElementById('go').click()")
        until(c, "another story", "done")
        seeds.add(c.run("document.getElementById('seed').value"))
    check("another seed each time", len(seeds) > 1, seeds)


def fits(c):
    for width in (320, 400, 820, 1280):
        c.open(address + hash_of(prompt="Once upon a time", seed=14, temp=0.3, go=1), width=width, dark=width == 400)
        until(c, "%d pixels: it ends" % width, "done")
        c.wait("document.querySelectorAll('#chart tr').length === 12")
        c.run("document.querySelectorAll('#strip span')[9].click()")
        c.wait("document.querySelectorAll('#lens tr').length === model.n_layer")
        check("%d pixels: nothing sticks out" % width, c.run(WIDE) <= width, c.run(WIDE))
        if width in (320, 400):
            small = c.run("[...document.querySelectorAll('button, select, textarea')].filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)")
            check("%d pixels: all can be reached" % width, small == [], small)


def talks(c):
    c.open(address)
    until(c, "it is ready", "ready")
    c.choose_file("#file", bot)
    check("a model with a template: chat", c.wait("mode === 'chat' && %s === 'ready'" % STATE), c.run(SAID))
    for message in ("hello", "who are you"):
        expected = native("chat", (message + "\n").encode(), "-m", bot, "--temp", "0").rstrip("\n")
        slide(c, "temp", 0)
        slide(c, "repeat", 1)
        c.run("document.getElementById('prompt').value = %r; document.getElementById('go').click()" % message)
        until(c, "an answer", "done", "error")
        found = c.run("document.querySelector('#log p:last-child').lastChild.textContent")
        check("the answer of build/chat", found == expected, "expected %r, found %r" % (expected, found))
    check("both messages stand there", c.run("document.querySelectorAll('#log .user').length") == 2)
    check("the conversation's tokens too", c.run("T.some(t => t.mine) && T.some(t => !t.mine)"))

    bad = tempfile.NamedTemporaryFile(suffix=".gguf", delete=False)
    bad.write(open(bot, "rb").read()[:3000])
    bad.close()
    c.choose_file("#file", bad.name)
    check("a file that ends early is refused", c.wait("%s === 'error' && model" % STATE), c.run(SAID))
    check("... and says why", "refused" in c.run(SAID) and len(c.run(SAID)) > 60, c.run(SAID))
    os.unlink(bad.name)
    c.run("document.getElementById('go').click()")
    until(c, "the bundled model is back", "done")
    c.run("hear.trap({ text: 'as a test' })")
    check("an engine that stops is started anew", c.wait("%s === 'error' && model" % STATE) and "as a test" in c.run(SAID), c.run(SAID))
    c.run("document.getElementById('go').click()")
    until(c, "... and writes", "done")


with Chromium() as c:
    for part in (stories, looks, stops, fits, talks):
        part(c)
        check("%s: nothing in the console" % part.__name__, c.log == [], c.log)
        c.log = []
print("web_test.py: %d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
