"""Draws the pages of real CLIs as tests/recordings has them: cli.py KIND MODE. What it is told it says in ./told."""

import http.server
import os
import subprocess
import sys
import termios
import threading

MODE = sys.argv[1]
CLAUDE = "https://claude.com/cai/oauth/authorize?code=true&client_id=9d1c250a&response_type=code&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback&code_challenge=c-{0}&state=s-{0}"
CLAUDE_BROWSER = "https://claude.com/cai/oauth/authorize?code=true&client_id=9d1c250a&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A{1}%2Fcallback&code_challenge=c-{0}&state=s-{0}"
CODEX = "https://auth.openai.com/oauth/authorize?response_type=code&client_id=app_x&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&code_challenge=c&state=s-1"


def draw(*rows):
    sys.stdout.write("\x1b[2J\x1b[H" + "\r\n".join(rows) + "\r\n")
    sys.stdout.flush()


def told(words):
    with open("told", "a") as file:
        file.write(words + "\n")


def line():
    return sys.stdin.readline().rstrip("\n")


def quiet():
    mode = termios.tcgetattr(0)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, mode)


def browser(url):
    told("browser " + str(subprocess.run([os.environ["BROWSER"], url], start_new_session=True).returncode))


def composer():
    rule = "─" * 60
    draw("Welcome back", "", rule, "❯ ", rule, "  ? for shortcuts")
    while line() or True:
        pass


def paste_page(attempt, extra=()):
    draw("Welcome to Claude Code v2.1.197", "", " Browser didn't open? Use the url below to sign in (c to copy)", "",
         CLAUDE.format(attempt), "", "", *extra, " Paste code here if prompted >")


def claude():
    attempt = 1
    while True:
        browser(CLAUDE_BROWSER.format(attempt, 40000 + attempt))
        paste_page(attempt)
        code = line()
        told("code " + code)
        if code == f"good-code#s-{attempt}":
            break
        draw("Welcome to Claude Code v2.1.197", "", " OAuth error: Request failed with status code 400", "", "", " Press Enter to retry.")
        told("retry " + repr(line()))
        attempt += 1
    draw("Welcome to Claude Code v2.1.197", "", " Logged in as nobody@example.org", " Login successful. Press Enter to continue…")
    told("enter " + repr(line()))
    composer()


def codex():
    """Its page shows only the beginning of the address."""
    finished = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def answer(self, status, body, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            told("asked " + self.path + " of " + self.headers["host"])
            if self.path.startswith("/auth/callback?") and "code=good-code" in self.path:
                self.answer(302, b"", Location="http://localhost:1455/success?id=x")
            elif self.path.startswith("/success"):
                self.answer(200, b"<html>You may close this</html>")
                finished.set()
            elif "code=elsewhere" in self.path:
                self.answer(302, b"", Location="http://127.0.0.1:22/")
            elif "code=flood" in self.path:
                self.answer(400, b"y" * 10_000_000)
            else:
                self.answer(400, b"<h1>Sign-in failed</h1>\x1b]0;owned\x07 The code is not known.")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 1455), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    draw("  Finish signing in via your browser", "", "  If it did not open, go to", "", "  " + CODEX[:60] + "…", "", "  Press esc to cancel")
    browser(CODEX)
    finished.wait()
    server.shutdown()
    sys.stdout.write("\x1b]7501;state=idle:app=codex\x1b\\")
    draw("OpenAI Codex", "", "› Ask Codex to do anything", "", "  ? for shortcuts")
    threading.Event().wait()


def hostile():
    """Says more about its login than is true; some of it without the stand-in, which would not say it."""
    for address in [
        "https://evil.example/cai/oauth/authorize?state=s-1",
        "https://claude.com.evil.example/?state=s-1",
        "https://claude.com/" + "x" * 5000,
        "https://claude.com/?state=s-9&redirect_uri=http%3A%2F%2Flocalhost%3A22%2F",
        "https://claude.com/ a\x1b[2J\x1b]0;owned",
        "javascript:alert(1)",
    ]:
        sys.stdout.write(f"\x1b]7502;open={address}\x1b\\")
        subprocess.run([os.environ["BROWSER"], address], start_new_session=True)
    sys.stdout.write("\x1b]7502;open=https://claude.com/" + "y" * 3_000_000)
    sys.stdout.write("\x1b\\\x1b]7502;open=\x1b\\\x1b]7502\x1b\\")
    paste_page(1)
    threading.Event().wait()


def menu():
    draw("Welcome to Claude Code v2.1.197", "", " Select login method:", "", " ❯ 1. Claude account with subscription", "   2. Anthropic Console account", "   3. 3rd-party platform")
    threading.Event().wait()


quiet()
{"claude": claude, "codex": codex, "hostile": hostile, "menu": menu, "ready": composer}[MODE]()
