"""usage: terminal.py BUILD MODEL   the programs on a terminal, which a pty plays: says what is wrong, or nothing."""
import fcntl, os, pty, select, signal, struct, sys, tempfile, termios, time

build, model = sys.argv[1:3]
failed = 0


def check(what, ok, found):
    global failed
    if not ok:
        failed = 1
        print(f"{what}: {found!r}"[-600:])


def talk(command, *steps):
    """Runs the command; each step is (what its output must show first, what is typed then). Returns output and exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    out, seen, end = b"", 0, time.time() + 60

    def read(wait):
        nonlocal out
        if not select.select([fd], [], [], wait)[0]:
            return True
        try:
            got = os.read(fd, 65536)
        except OSError:
            got = b""
        out += got
        return got != b""

    for expected, typed in steps:
        while expected not in out[seen:] and time.time() < end and read(0.1):
            pass
        check(f"{command[0]}: waits for {expected!r}", expected in out[seen:], out[seen:])
        seen = out.find(expected, seen) + len(expected)
        while typed:
            typed = typed[os.write(fd, typed[:512]):]
            read(0)
    while time.time() < end and read(0.1):
        pass
    os.kill(pid, signal.SIGKILL) if time.time() >= end else None
    return out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


chat = [f"{build}/chat", "-m", model, "--user-turn", "{text} ", "--assistant-turn", "{text} ", "--temp", "0", "-t", "1"]
short = chat + ["-n", "4"]
with tempfile.TemporaryDirectory() as folder:
    saved = folder + "/talk.txt"
    end = (b"messages", b"/quit\n")

    out, status = talk(short, (b"> ", b"\x1b[200~One day\ra dog\r\x1b[201~"), (b"dog", b"\n"), (b"\n> ", f"/save {saved}\n".encode()), end)
    check("a pasted text is one message", open(saved).read().startswith("user:\n\tOne day\n\ta dog\nassistant:\n"), open(saved).read())
    check("... and the end", status == 0, status)

    out, status = talk(short, (b"> ", b"Oncx\x7fe upon wrong\x17a tim\xc3\xa9\n"), (b"\n> ", f"/save {saved}\n".encode()), end)
    check("keys", open(saved).read().startswith("user:\n\tOnce upon a tim\u00e9\n"), open(saved).read())

    line = b"word " * 1200
    out, status = talk(short, (b"> ", line + b"\n"), (b"tokens", b"/quit\n"))
    check("a line of 6,000 bytes arrives whole", out.count(b"word") == 1200, out.count(b"word"))

    out, status = talk(short, (b"> ", b"Once\x03"), (b"once more", b"\x03"))
    check("Ctrl-C twice between answers", status in (130, -signal.SIGINT), status)
    out, status = talk(short, (b"> ", b"\x04"))
    check("Ctrl-D is the end", status == 0, status)
    out, status = talk(short, (b"> ", b"/reset\n"), (b"[conversation forgotten]", b"/system Be brief.\n"), (b"[conversation forgotten]", b"/quit\n"))
    check("/reset and /system say what they do", status == 0, status)
    out, status = talk(short + ["-p", "Once"], (b"> Once", b""), (b"\n> ", b"/help\n"), (b"/regen", b"/quit\n"))
    check("-p is the first message", status == 0, status)

out, status = talk([f"{build}/generate", "-m", model, "-p", "Once", "-n", "8"])
check("generate tells its speed on a terminal", b" tok/s;" in out and status == 0, out)

npc = [f"{build}/npc", "-m", model]
out, status = talk(npc, (b"Q: the end", b"\x1b[Aaaaa" + b"\x1b[D" * 2), (b"Enter: talk to Mia", b"\nHello Mix\x7fa!"), (b"To Mia: Hello Mia!_", b"\n"),
                   (b"\nMia: ", b"SL"), (b"loaded", b"Ca"), (b"\nTom: _", b"Q"))
check("a walk to Mia, a talk, saved and loaded meanwhile", status == 0 and out.count(b"Sam: ") > 1, out)
check("the terminal is given back", out.endswith(b"\x1b[?25h\x1b[?1049l\x1b[?2004l"), out[-40:])
out, status = talk(npc, (b"Q: the end", b"\x03"))
check("Ctrl-C ends the game", status == 130 and b"\x1b[?1049l" in out, out[-40:])
sys.exit(failed)
