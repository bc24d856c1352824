"""Records the real agents, each in its sandbox under its shipped policy: record.py OUT [NAME…]

    make test-agents installs them; STOCKADE names the program (default target/debug/stockade), STOCKADE_AGENTS the
    installation. What they reach of the network is vendors.py. A session is a list of steps:

    "text"      types it               ("see", TEXT[, SECONDS])   waits until it was shown; blanks do not count
    0.5         waits                  ("mark", STATE[, LOGIN])   writes a line of OUT/NAME.json
"""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

try:
    import pyte  # from PyPI; without it nobody answers where the cursor is, and aider waits for that
except ImportError:
    pyte = None

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ADDRESS = os.environ.get("VENDORS", "127.78.0.1")
STOCKADE = os.environ.get("STOCKADE", os.path.join(ROOT, "target/debug/stockade"))
AGENTS = os.environ.get("STOCKADE_AGENTS", os.path.expanduser("~/.cache/stockade/agents"))
HOSTS = {
    "claude": ["api.anthropic.com", "platform.claude.com"],
    "codex": ["auth.openai.com", "api.openai.com", "chatgpt.com"],
    "gemini": ["generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "oauth2.googleapis.com", "www.googleapis.com"],
    "aider": ["api.openai.com", "openrouter.ai"],
    "shell": [],
}
ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b\[[0-9;:?<>=]*[ -/]*[@-~]|\x1b[@-Z\\-_=>78]|[\x00-\x08\x0b-\x1f]")


def certify(into):
    names = sorted({f"DNS:{host}" for hosts in HOSTS.values() for host in hosts})
    script = f"""
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=recording \
            -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=vendors -keyout key.pem -out vendors.csr
        printf 'subjectAltName=%s\\n' {",".join(names)} >names
        openssl x509 -req -in vendors.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out cert.pem"""
    subprocess.run(["sh", "-ec", script], cwd=into, check=True, capture_output=True)


class Recording:
    def __init__(self, path, size, argv, environment):
        self.cols, self.rows = size
        self.events, self.marks, self.seen, self.at = [], [], "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.path, self.begun = path, time.monotonic()
        self.screen = pyte.Screen(self.cols, self.rows) if pyte else None
        self.stream = pyte.Stream(self.screen) if pyte else None
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.cols, 0, 0))
            for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
                signal.signal(signum, signal.SIG_DFL)
            os.execvpe(argv[0], argv, environment)

    def read(self, seconds):
        """Whether there was something."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            raise EOFError from None
        if not data:
            raise EOFError
        text = self.decoder.decode(data)
        if not text:
            return True
        now = time.monotonic() - self.begun
        self.events.append([round(now, 3), "o", text])
        self.answer(text)
        self.seen += "".join(ESCAPES.sub("", text).split())
        return True

    def answer(self, text):
        """What a terminal would answer."""
        before, *asked = text.split("\x1b[6n")
        for index, part in enumerate([before, *asked]):
            if self.stream and index:
                os.write(self.master, f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R".encode())
            if self.stream:
                # pyte knows neither the keyboard protocols nor private reports.
                self.stream.feed(re.sub(r"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*[^hl0-9;]", "", part))
        if "\x1b[c" in text:
            os.write(self.master, b"\x1b[?62;22c")

    def wait(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.read(left)

    def see(self, text, seconds=40):
        text = "".join(text.split())
        until = time.monotonic() + seconds
        while text not in self.seen[self.at:]:
            if time.monotonic() > until:
                print(f"{self.path}: {text!r} did not appear", flush=True)
                return
            self.read(0.2)
        self.at = self.seen.index(text, self.at) + len(text)

    def play(self, steps):
        try:
            for step in steps:
                match step:
                    case str(keys):
                        self.at = len(self.seen)
                        os.write(self.master, keys.encode())
                    case float(seconds) | int(seconds):
                        self.wait(seconds)
                    case ("see", *words):
                        self.see(*words)
                    case ("resize", cols, rows):
                        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
                        self.events.append([round(time.monotonic() - self.begun, 3), "r", f"{cols}x{rows}"])
                    case ("mark", state, *login):
                        mark = {"t": round(time.monotonic() - self.begun, 3), "state": state}
                        for fields in login:
                            mark.update(fields)
                        self.marks.append(mark)
        except EOFError:
            print(f"{self.path}: ended during {step!r}", flush=True)
        self.end()

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 5
        try:
            while time.monotonic() < until:
                self.read(0.1)
        except EOFError:
            pass
        os.close(self.master)
        for _ in range(50):
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def write(self):
        with open(self.path + ".cast", "w") as file:
            print(json.dumps({"version": 2, "width": self.cols, "height": self.rows}), file=file)
            for event in self.events:
                print(json.dumps(event, ensure_ascii=False), file=file)
        with open(self.path + ".json", "w") as file:
            file.write("[\n" + ",\n".join("  " + json.dumps(mark) for mark in self.marks) + "\n]\n")


def record(out, name, session, around):
    kind, size, environment, seed, arguments, steps = session
    work, home = os.path.join(around, name, "work"), os.path.join(around, name, "home")
    os.makedirs(work)
    os.makedirs(home)
    shutil.copy(os.path.join(around, "ca.pem"), work)
    for path, content in seed.items():
        path = os.path.join(home if path.startswith("~/") else work, path.removeprefix("~/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = content.replace("WORK", work)
        with open(path, "w") as file:
            file.write(content)
    if "git" in environment:
        subprocess.run(["git", "init", "-q", work], check=True)
    policy = os.path.join(around, name, "recorded.toml")
    with open(policy, "w") as file:
        file.write(f"extends = '{kind}'\n[network.resolve]\n")
        for host in HOSTS[kind]:
            file.write(f"'{host}' = ['{ADDRESS}']\n")
    ca = os.path.join(work, "ca.pem")
    options = [f"--env={key}={value}" for key, value in environment.items() if key != "git"]
    for variable in ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        options.append(f"--env={variable}={ca}")
    argv = [STOCKADE, "run", "--policy", policy, "--workspace", work, "--home", home, *options]
    if arguments:
        argv += ["--", *arguments]
    bin = "aider/bin" if kind == "aider" else "npm/node_modules/.bin"
    outer = {**os.environ, "TERM": "xterm-256color", "PATH": f"{AGENTS}/{bin}:{os.environ['PATH']}"}
    recording = Recording(os.path.join(out, name), size, argv, outer)
    recording.play(steps)
    recording.write()


def main(out, *names):
    from sessions import SESSIONS
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as around:
        os.chmod(around, 0o755)
        certify(around)
        at = lambda name: os.path.join(around, name)
        with open(os.path.join(out, "vendors.log"), "a") as log:
            vendors = subprocess.Popen([sys.executable, os.path.join(HERE, "vendors.py"), ADDRESS, at("cert.pem"), at("key.pem")], stdout=log, stderr=log)
        time.sleep(1)
        try:
            for name, session in SESSIONS.items():
                if not names or any(re.fullmatch(wanted, name) for wanted in names):
                    print(f"{name} …", flush=True)
                    record(out, name, session, around)
        finally:
            vendors.kill()
            vendors.wait()


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    main(*sys.argv[1:])
