"""Starts a sandbox whose command is `sleep SECONDS` and looks at it from outside: watch.py limits|reload|kill COMMAND…"""

import os
import select
import signal
import subprocess
import sys
import time

FILES = ["memory.max", "memory.high", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "io.max"]


def agent_of(command):
    """The host's pid of the sandboxed process: it runs the same `sleep`, in a group that is not ours."""
    wanted = b"\0".join(word.encode() for word in command[-2:]) + b"\0"
    own = open("/proc/self/cgroup").read()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                started = open(f"/proc/{pid}/cmdline", "rb").read() == wanted
                if started and open(f"/proc/{pid}/cgroup").read() != own:
                    return int(pid)
            except OSError:
                pass
        time.sleep(0.05)
    sys.exit("the sandboxed command did not start in a group of its own within 30 s")


def limits(_, agent):
    group = "/sys/fs/cgroup" + open(f"/proc/{agent}/cgroup").read().strip().split("::")[1]
    print(f"group {group}")
    # The process may sit in a child group; the limits are then on the nearest one above that has any.
    while open(f"{group}/memory.max").read().strip() == "max":
        group = os.path.dirname(group)
    for name in FILES:
        path = f"{group}/{name}"
        print(name, open(path).read().strip() if os.path.exists(path) else "is not there")


def reload(sandbox, agent):
    """systemd thinks that the tree is its own: it gets every reason to go over it again."""
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemd-run", "--quiet", "--wait", "-p", "MemoryMax=50M", "-p", "CPUQuota=50%", "true"], check=True)
    limits(sandbox, agent)


def kill(sandbox, agent):
    proof = os.pidfd_open(agent)
    sandbox.kill()
    sandbox.wait()
    print("gone" if select.select([proof], [], [], 5)[0] else "still there after 5 s")


action, command = sys.argv[1], sys.argv[2:]
sandbox = subprocess.Popen(command)
try:
    {"limits": limits, "reload": reload, "kill": kill}[action](sandbox, agent_of(command))
finally:
    if sandbox.poll() is None:
        sandbox.send_signal(signal.SIGTERM)
        sandbox.wait()
