"""Uses up one resource and says how far it got. Runs inside the sandbox: hog.py RESOURCE AMOUNT."""

import os
import sys
import time


def memory(mebibytes):
    held = []
    for _ in range(mebibytes):
        page_of_ones = b"\x01" * 4096
        held.append(bytearray(page_of_ones * 256))
    print(f"had {len(held)} MiB", flush=True)


def forks(wanted):
    children = []
    try:
        for _ in range(wanted):
            child = os.fork()
            if child == 0:
                time.sleep(600)
                os._exit(0)
            children.append(child)
        print(f"made all {wanted}")
    except OSError as refusal:
        print(f"{os.strerror(refusal.errno)}\nrefused after {len(children)}")


def cpu(seconds):
    start, before = time.monotonic(), time.process_time()
    while time.monotonic() < start + seconds:
        sum(range(10000))
    print(f"share {(time.process_time() - before) / (time.monotonic() - start):.2f}")


def disk(mebibytes):
    start = time.monotonic()
    file = os.open("filling", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(mebibytes):
        os.write(file, os.urandom(1 << 20))
    os.fsync(file)
    print(f"rate {mebibytes / (time.monotonic() - start):.1f} MiB/s")
    os.unlink("filling")


{"memory": memory, "forks": forks, "cpu": cpu, "disk": disk}[sys.argv[1]](int(sys.argv[2]))
