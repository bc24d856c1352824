"""Plays a CLI at its terminal, screen by screen, as tests/recordings show the real one: cli.py KIND [TRAIT=VALUE…]

It answers a message with what it got, character by character counted, and with every key that it got besides. Traits:
login, dialog, trust, notes (a screen before the composer, until a line `go` is written to the file ./go), slow (seconds of
work), deaf (so many Enters are not heard), blind (what is pasted is not shown), stuck (nothing is read for so long), lines
(so many in an answer), folded (characters from which a paste is shown folded), status (what Claude's session file says, or
what stands in its place: fifo, link, endless; "idle" once there is a file ./go).
"""

import json
import os
import select
import sys
import termios
import threading
import time
import tty

KIND = sys.argv[1]
TRAITS = dict(word.split("=", 1) for word in sys.argv[2:])
COLUMNS, ROWS = os.get_terminal_size(0)
RULE = "─" * COLUMNS
PASTE = (b"\x1b[200~", b"\x1b[201~")
SAID = {"claude": "❯ ", "codex": "› ", "gemini": " > ", "aider": "> "}[KIND]
TEXT = {"claude": "● ", "codex": "• ", "gemini": "✦ ", "aider": ""}[KIND]

history, draft, keys, got = [], "", [], []


def out(text):
    os.write(1, text.encode())


def composer(shown, busy):
    if KIND == "claude":
        foot = "  esc to interrupt · ← for agents" if busy else "  ? for shortcuts · ← for agents"
        spin = ["✢ Tempering…", ""] if busy else []
        return [*spin, RULE, f"❯ {shown}", RULE, foot]
    if KIND == "codex":
        spin = ["• Working (0s • esc to interrupt)", "", ""] if busy else ["", ""]
        return [*spin, f"› {shown or 'Ask Codex to do anything'}", "", "  GPT-6 default · /work", "  ← for agents · ? for shortcuts"]
    spin = [" ⠋ Thinking... (esc to cancel, 0s)" if busy else "", RULE, " Shift+Tab to accept edits"]
    return [*spin, "", f" >   {shown or 'Type your message or @path/to/file'}", "", " /work   no sandbox   Auto"]


def report(state):
    if KIND == "codex":
        out(f"\x1b]7501;state={state}:app=codex\x1b\\")
    if KIND == "gemini":
        out(f"\x1b]0;{'✦  Working…' if state == 'working' else '◇  Ready'} (work)\x07")
    if KIND == "claude":
        out(f"\x1b]0;{'⠂' if state == 'working' else '✳'} Claude Code\x07")


def wrapped(line):
    width = COLUMNS - 4
    return [line[at : at + width] for at in range(0, max(len(line), 1), width)]


def draw(busy=False, page=None):
    if KIND == "aider":
        return
    shown = draft
    if len(draft) > int(TRAITS.get("folded", 800)):
        name = {"claude": "[Pasted text #1 +9 lines]", "codex": f"[Pasted Content {len(draft)} chars]", "gemini": "[Pasted Text: 9 lines]"}[KIND]
        shown = name
    if "blind" in TRAITS:
        shown = ""
    rows = [row for line in shown.split("\n") for row in wrapped(line)]
    below = page or composer(("\n  ".join(rows)), busy)
    lines = [*history, "", *below]
    lines = [row for line in lines for row in line.split("\n")][-(ROWS - 1) :]
    out("\x1b[?2026h\x1b[H\x1b[2J" + "\r\n".join(lines) + "\x1b[?2026l")


PAGES = {
    "login": [" Select login method:", "", " ❯ 1. Claude account with subscription", "   3. 3rd-party platform · Amazon Bedrock", ""],
    "outside": [RULE, "❯ ", RULE, "  Not logged in · Run /login"],
    "dialog": [" Bash command", "", "   rm -rf /", "", " Do you want to proceed?", " ❯ 1. Yes", "   3. No", "", " Esc to cancel · Tab to amend"],
    "trust": [" Accessing workspace:", "", " " + os.getcwd(), "", " ❯ 1. Yes, I trust this folder", "   2. No, exit", "", " Enter to confirm · Esc to cancel"],
    "other": [" Accessing workspace:", "", " /home/somebody/else", "", " ❯ 1. Yes, I trust this folder", "   2. No, exit", "", " Enter to confirm · Esc to cancel"],
    "notes": [" Security notes:", "", " Claude can make mistakes", "", " Press Enter to continue…"],
    "key": [" Detected a custom API key in your environment", "", " Do you want to use this API key?", "   1. Yes", " ❯ 2. No (recommended)", ""],
}


def pages():
    """Each page until it is answered by its keys, or by the file ./go; what was typed meanwhile is remembered."""
    for name in TRAITS.get("pages", "").split(","):
        if not name:
            continue
        draw(page=PAGES[name])
        answers = {"trust": [b"\r"], "other": [b"\r"], "notes": [b"\r"], "key": [b"\x1b[A", b"\r"]}.get(name)
        heard = []
        while not os.path.exists("go"):
            ready, _, _ = select.select([0], [], [], 0.05)
            if ready:
                heard.append(os.read(0, 4096))
                keys.append(f"{name}:{heard[-1]!r}")
                if answers and heard[-len(answers) :] == answers:
                    break
        if os.path.exists("go") and name != "login":
            os.remove("go")
    if os.path.exists("go"):
        os.remove("go")


def answer(message):
    seen = ",".join(keys)
    lines = [f"I got {len(message)} characters in {message.count(chr(10)) + 1} lines, ending {message[-12:]!r}.", "", f"Messages: {len(got)}. Other keys: {seen or 'none'}."]
    lines += [f"line {n}" for n in range(int(TRAITS.get("lines", 0)))]
    return lines


def turn(message):
    global draft
    got.append(message)
    first = message if len(message) <= int(TRAITS.get("folded", 800)) else "[Pasted text #1 +9 lines]"
    said = [f"{SAID}{line}" if n == 0 or KIND == "aider" else f"  {line}" for n, line in enumerate(first.split("\n"))]
    draft = ""
    if KIND == "aider":
        out("\x1b[?2004l\r\n")
        time.sleep(float(TRAITS.get("slow", 0.6)))
        out("\r\n" + "\r\n".join(answer(message)) + "\r\n\r\n\r\nTokens: 2.4k sent, 7 received. Cost: $0.0061 message, $0.0061 session.\r\n")
        return prompt()
    history.extend(["", *said, ""])
    report("working")
    draw(busy=True)
    time.sleep(float(TRAITS.get("slow", 0.6)))
    body = answer(message)
    tool = {"claude": ["● Bash(date)", "  ⎿  Thu Nov 26", ""], "codex": ["• Ran date", "  └ Thu Nov 26", ""], "gemini": ["╭────╮", "│ ✓  Shell date │", "╰────╯", ""]}[KIND]
    after = {"claude": ["", "✻ Crunched for 3s"], "codex": ["", "  Worked for 3s • 16:28"], "gemini": ["", " " * (COLUMNS - 20) + "? for shortcuts"]}[KIND]
    history.extend([*tool, TEXT + body[0], *(f"  {line}" if line else "" for line in body[1:]), *after])
    report("idle")
    draw()


def prompt():
    out(RULE + "\r\n" + SAID + "\x1b[?2004h")


def enter():
    deaf = int(TRAITS.get("deaf", 0))
    if deaf:
        TRAITS["deaf"] = str(deaf - 1)
        keys.append("enter")
    elif draft:
        turn(draft)


def pasted(text):
    global draft
    draft += text
    if KIND == "aider":
        out(text.replace("\n", "\r\n> "))
    draw()


def writes_status(status):
    """As Claude Code does: beside what its screen shows."""
    directory = os.path.expanduser("~/.claude/sessions")
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/{os.getpid()}.json"
    if status == "fifo":
        return os.mkfifo(path)
    if status == "link":
        return os.symlink("/proc/self/environ", path)
    if status == "endless":
        return os.symlink("/dev/zero", path)
    def write(status, **more):
        with open(path + ".new", "w") as file:
            json.dump({"pid": os.getpid(), "status": status, **more}, file)
        os.rename(path + ".new", path)
    write(status, waitingFor="dialog open")
    while not os.path.exists("go"):
        time.sleep(0.05)
    write("idle")


def listen():
    global draft
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], None)
        waiting += os.read(0, 65536)
        while waiting:
            if waiting.startswith(PASTE[0]):
                inner, end, rest = waiting[len(PASTE[0]) :].partition(PASTE[1])
                if not end:
                    break
                waiting = rest
                pasted(inner.decode())
            elif waiting.startswith(b"\r"):
                waiting = waiting[1:]
                enter()
            elif PASTE[0].startswith(waiting):
                break
            elif waiting[0] >= 0x20 and KIND == "aider" or waiting[0] >= 0x20:
                keys.append(repr(waiting[:1]))
                waiting = waiting[1:]
            else:
                keys.append(repr(waiting[:1]))
                waiting = waiting[1:]
                if keys[-1] == repr(b"\x04"):
                    return


tty.setraw(0)
if KIND == "codex":
    out("\x1b[?1049h")
    history.extend(["", "  >_ OpenAI Codex (v0.169.0)", "     /work", ""])
out("\x1b[?2004h" if KIND != "aider" else "Aider v0.86.2\r\n")
pages()
if "stuck" in TRAITS:
    report("idle")
    draw()
    time.sleep(float(TRAITS["stuck"]))
if "status" in TRAITS:
    threading.Thread(target=writes_status, args=[TRAITS["status"]], daemon=True).start()
report("idle")
draw()
if KIND == "aider":
    prompt()
listen()
