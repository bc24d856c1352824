"""Is the user at a terminal of 41 by 101: terminal.py size|interrupt|resize COMMAND…

Prints what the terminal showed, `exit N`, and `terminal restored` if its settings are what they were.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time


def set_size(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(terminal, words, seconds=30):
    """Everything shown until `words` appear; without words, until the other side hangs up."""
    shown, deadline = b"", time.monotonic() + seconds
    while not words or words not in shown:
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"nothing more for {seconds} s after: {shown!r}")
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        shown += more
    return shown


action, command = sys.argv[1], sys.argv[2:]
user, machine = pty.openpty()
set_size(machine, 41, 101)
before = termios.tcgetattr(machine)
child = os.fork()
if child == 0:
    os.close(user)
    os.setsid()
    fcntl.ioctl(machine, termios.TIOCSCTTY, 0)
    for standard in range(3):
        os.dup2(machine, standard)
    os.execvp(command[0], command)

shown = b""
if action in ("interrupt", "resize"):
    shown += read_until(user, b"waiting")
if action == "interrupt":
    os.write(user, b"\x03")
if action == "resize":
    set_size(user, 50, 132)
    os.write(user, b"\r")
end = time.monotonic() + 30
status = None
while status is None and time.monotonic() < end:
    if select.select([user], [], [], 0.05)[0]:
        shown += os.read(user, 4096)
    done, result = os.waitpid(child, os.WNOHANG)
    status = os.waitstatus_to_exitcode(result) if done else None
while select.select([user], [], [], 0)[0]:
    shown += os.read(user, 4096)
print(shown.decode(errors="replace").replace("\r", ""))
print("exit", status)
print("terminal restored" if termios.tcgetattr(machine) == before else "terminal left changed")
