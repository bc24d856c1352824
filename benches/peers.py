"""What the service is measured against: bubblewrap, crun and sshd, each where it is installed."""
import concurrent.futures
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


def bubblewrap(*command):
    return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin",
            "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
            "--tmpfs", "/tmp", *command]


class Crun:
    """A bundle like bubblewrap's sandbox, without a cgroup. crun refuses hybrid hosts: a thread with mounts of its own, and without
    the v2 tree that lies beside v1 there, starts it."""

    def __init__(self, *command):
        self.bundle = tempfile.mkdtemp(prefix="stockade-bench-crun-")
        self.started = 0
        root = os.path.join(self.bundle, "rootfs")
        for name in ("usr", "proc", "dev", "sys", "tmp"):
            os.makedirs(os.path.join(root, name))
        for name in ("bin", "lib", "lib64"):
            os.symlink(f"usr/{name}", os.path.join(root, name))
        subprocess.run(["crun", "spec"], cwd=self.bundle, check=True)
        config = os.path.join(self.bundle, "config.json")
        with open(config) as made:
            spec = json.load(made)
        spec["process"].update(terminal=False, args=list(command))
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] not in ("cgroup", "mqueue")]
        spec["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
        spec["linux"].pop("resources", None)
        with open(config, "w") as changed:
            json.dump(spec, changed)
        self.thread = concurrent.futures.ThreadPoolExecutor(1, initializer=self.hide_unified)

    @staticmethod
    def hide_unified():
        libc = ctypes.CDLL(None, use_errno=True)
        newns, slave, detach = 0x20000, 1 << 19 | 1 << 14, 2  # CLONE_NEWNS; MS_SLAVE | MS_REC; MNT_DETACH
        if libc.unshare(newns) != 0 or libc.mount(b"none", b"/", None, slave, None) != 0:
            raise OSError(ctypes.get_errno(), "no mount namespace for crun")
        libc.umount2(b"/sys/fs/cgroup/unified", detach)

    def run(self, deed):
        """What the deed gives for the next command that starts it."""
        self.started += 1
        name = f"stockade-bench-{os.getpid()}-{self.started}"
        return self.thread.submit(deed, self.command(name)).result()

    def command(self, name):
        return ["crun", "--cgroup-manager=disabled", "run", "--bundle", self.bundle, name]

    def close(self):
        self.thread.shutdown()
        shutil.rmtree(self.bundle, ignore_errors=True)


class Sshd:
    """An sshd on loopback with keys of its own, and /run of its own for the directory that it wants there."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="stockade-bench-sshd-")
        at = lambda name: os.path.join(self.directory, name)
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with open(at("config"), "w") as config:
            config.write(f"HostKey {at('host')}\nAuthorizedKeysFile {at('key.pub')}\nStrictModes no\nPidFile none\n"
                         f"UsePAM no\nPermitRootLogin yes\nListenAddress 127.0.0.1:{self.port}\n")
        start = f"mount -t tmpfs run /run && mkdir /run/sshd && exec {shutil.which('sshd')} -D -e -f {at('config')}"
        self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", start],
                                        stdin=subprocess.DEVNULL, stderr=open(at("log"), "wb"))
        deadline = time.monotonic() + 20
        while subprocess.run(self.command("true"), capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError("sshd on loopback lets nobody in")
            time.sleep(0.1)

    def command(self, *command):
        """A client with a terminal on the other side, and none here."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        return ["ssh", "-tt", "-F", "none", "-p", str(self.port), "-i", os.path.join(self.directory, "key"),
                *(word for option in options for word in ("-o", option)), "127.0.0.1", *command]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)
