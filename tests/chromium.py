"""Chromium without a window, by its DevTools protocol over two pipes: Python's standard library is enough.

    with Chromium() as c:
        c.open("file:///tmp/page.html", width=400)
        c.run("document.title")             # the value of an expression, a promise's too
        c.wait("window.ready", 20)          # until it is true
        c.log                               # what the page has said in the console, errors and exceptions
"""
import base64, json, os, select, shutil, subprocess, tempfile, time


def find():
    for name in [os.environ.get("CHROMIUM", "")] + ["chromium", "chromium-browser", "google-chrome"]:
        if name and shutil.which(name):
            return shutil.which(name)
    return None


class Chromium:
    def __enter__(self):
        self.home = tempfile.mkdtemp()
        inner, self.to = os.pipe()
        self.back, outer = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                   "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
                   "--user-data-dir=" + self.home, "about:blank"]
        command = 'exec "$@" 3<&%d 4>&%d' % (inner, outer)
        self.process = subprocess.Popen(["sh", "-c", command, "sh", find()] + options, pass_fds=(inner, outer),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(inner)
        os.close(outer)
        self.log, self.got, self.n, self.session = [], b"", 0, None
        try:
            pages = self.call("Target.getTargets")["targetInfos"]
            page = next(t["targetId"] for t in pages if t["type"] == "page")
            self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "DOM"):
                self.call(domain + ".enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.home, ignore_errors=True)

    def message(self, seconds):
        while b"\0" not in self.got:
            if not select.select([self.back], [], [], seconds)[0]:
                raise OSError("chromium does not answer")
            more = os.read(self.back, 1 << 20)
            if not more:
                raise OSError("chromium has ended")
            self.got += more
        text, self.got = self.got.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        self.n += 1
        request = {"id": self.n, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        while True:
            m = self.message(120)
            if m.get("method") == "Runtime.consoleAPICalled":
                self.log.append(" ".join(str(a.get("value", a.get("description"))) for a in m["params"]["args"]))
            elif m.get("method") == "Runtime.exceptionThrown":
                d = m["params"]["exceptionDetails"]
                self.log.append(d.get("exception", {}).get("description", d["text"]))
            elif m.get("method") == "Log.entryAdded":
                self.log.append(m["params"]["entry"]["text"])
            if m.get("id") == self.n:
                if "error" in m:
                    raise RuntimeError(method + ": " + m["error"]["message"])
                return m["result"]

    def open(self, url, width=1280, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url="about:blank")       # another # alone would not load it anew
        self.call("Page.navigate", url=url)

    def run(self, code):
        r = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in r:
            d = r["exceptionDetails"]
            raise RuntimeError(code + ": " + d.get("exception", {}).get("description", d["text"]))
        return r["result"].get("value")

    def wait(self, code, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if self.run(code):
                return True
            time.sleep(0.05)
        return False

    def choose_file(self, selector, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[os.path.abspath(path)])

    def picture(self, path, clip=None):
        options = {"clip": dict(clip, scale=1)} if clip else {}
        data = self.call("Page.captureScreenshot", format="png", **options)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))
