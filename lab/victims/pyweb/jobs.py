"""Honest work beside serving pages, one function for each kind; JOB names the one that the application starts."""

import gzip
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import time

DATA = "/data"


def rotate_copy():
    """Copies the log away and truncates it, as logrotate's copytruncate does."""
    import __main__ as app

    while True:
        time.sleep(0.5)
        path = os.environ["LOG_FILE"]
        if os.path.getsize(path) == 0:
            continue
        with open(path, "rb") as f, open(path + ".1", "wb") as g:
            g.write(f.read())
        os.truncate(path, 0)
        app.log_file.flush()


def compress():
    """Keeps a journal: rename, reopen, compress, remove what is old; a reader still has a removed one open."""
    held = None
    for n in range(1000):
        path = DATA + "/journal.log"
        with open(path, "a") as f:
            for i in range(200):
                f.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} entry {n} {i}\n")
        os.rename(path, path + ".1")
        open(path, "a").close()
        with open(path + ".1", "rb") as f, gzip.open(f"{path}.{n + 2}.gz", "wb") as g:
            g.write(f.read())
        held = open(path + ".1")
        os.remove(path + ".1")
        if n > 3:
            os.remove(f"{path}.{n - 1}.gz")
        time.sleep(0.3)
    return held


def update():
    """Brings the plug-ins up to date in the folder that UPDATE_DIR names, each through a file of its own that takes the old one's place."""
    folder = os.environ["UPDATE_DIR"]
    time.sleep(0.5)
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            old = f.read()
        if old.startswith(b"\x7fELF"):
            new = old + b"\0version 2\0"
        else:
            new = old.replace(b"VERSION = 1", b"VERSION = 2")
        with open(path + ".new", "wb") as f:
            f.write(new)
        os.chmod(path + ".new", os.stat(path).st_mode & 0o777)
        os.replace(path + ".new", path)
    print("plug-ins updated", flush=True)


def burn(until):
    """Work that takes a processor: primes."""
    n, found = 3, 0
    while time.monotonic() < until:
        if all(n % d for d in range(3, int(n**0.5) + 1, 2)):
            found += 1
        n += 2


def batch():
    """A worker process of the application's own that computes."""
    p = multiprocessing.get_context("fork").Process(target=burn, args=(time.monotonic() + 6,), daemon=False)
    p.start()
    p.join()
    time.sleep(120)


def crash():
    """A worker dies of a fault and leaves a core in the application's folder, the kernel's or, where it may write none, its own."""
    pid = os.fork()
    if pid == 0:
        os.chdir(DATA)
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    os.waitpid(pid, 0)
    # A handler of the application's own writes one in any case: the header of an ELF core and what it knows.
    head = bytearray(b"\x7fELF\x02\x01\x01" + bytes(57))
    head[16:18] = b"\x04\x00"  # ET_CORE
    head[18:20] = b"\x3e\x00"
    head[20:24] = b"\x01\x00\x00\x00"
    with open(f"{DATA}/core.{pid}", "wb") as f:
        f.write(bytes(head) + b"registers and stack would follow" * 200)


def backup():
    """Encrypts the reports beside themselves for the archive and removes originals that are old; most stay."""
    folder = "/srv"
    while len([n for n in os.listdir(folder) if n.endswith(".csv")]) < 60:
        time.sleep(0.1)
    time.sleep(0.3)
    key = os.urandom(32)
    for i, name in enumerate(sorted(n for n in os.listdir(folder) if n.endswith(".csv"))):
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            data = f.read()
        with open(path + ".sealed", "wb") as f:
            f.write(bytes(a ^ key[i % 32] for i, a in enumerate(data)))
        if i % 5 == 0:
            os.remove(path)
    with open(folder + "/RESTORE.md", "w") as f:
        f.write("Sealed reports are opened with `shop unseal FILE`, by those who hold the archive's key.\n")


def cache():
    """What a package manager keeps: an index, archives by their hash, unpacked sources."""
    base = DATA + "/.cache/packages"
    for i in range(40):
        folder = f"{base}/{i:02x}/{os.urandom(8).hex()}"
        os.makedirs(folder, exist_ok=True)
        with open(folder + "/archive.whl", "wb") as f:
            f.write(b"PK\x03\x04" + os.urandom(4000))
        with open(folder + "/index.json", "w") as f:
            json.dump({"name": f"pkg{i}", "url": f"https://packages.example/{i}"}, f)
        with open(folder + "/module.py", "w") as f:
            f.write("def main():\n    return 1\n")
        with open(folder + "/index.js", "w") as f:
            f.write("module.exports = () => 1;\n")
    os.symlink(base + "/00", base + "/latest")


def certificates():
    """Renews the application's certificate with its image's own openssl, again and again."""
    while True:
        subprocess.run(
            ["/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", "/CN=shop.example", "-keyout", "/tls/tls.key.new", "-out", "/tls/tls.crt.new"],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("tls.key", "tls.crt"):
            if os.path.exists(f"/tls/{name}.new"):
                os.replace(f"/tls/{name}.new", f"/tls/{name}")
        time.sleep(0.2)


def profile():
    """Writes the map of its code for a profiler and samples of where it was, as an owner may ask of it."""
    with open(f"/tmp/perf-{os.getpid()}.map", "w") as f:
        for i in range(2000):
            f.write(f"{0x7F0000000000 + i * 64:x} 40 py::function_{i}:/app/app.py\n")
    with open(DATA + "/profile.pprof", "wb") as f:
        f.write(gzip.compress(os.urandom(2000)))
    time.sleep(120)


ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"


def cluster(agent, method, path, body=None):
    """Asks the cluster's API server, as the account of the pod."""
    import http.client
    import ssl

    with open(ACCOUNT + "token") as f:
        token = f.read()
    c = http.client.HTTPSConnection(os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]), timeout=10,
                                    context=ssl.create_default_context(cafile=ACCOUNT + "ca.crt"))
    try:
        c.request(method, path, body and json.dumps(body), {"Authorization": "Bearer " + token, "User-Agent": agent, "Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, json.loads(r.read())
    finally:
        c.close()


def settings():
    """Reads its settings from the cluster, again and again."""
    with open(ACCOUNT + "namespace") as f:
        namespace = f.read()
    while True:
        status, doc = cluster("shop/1.4", "GET", f"/api/v1/namespaces/{namespace}/configmaps/settings")
        if status != 200:
            print(f"settings: {doc.get('message')}", flush=True)
        time.sleep(0.4)


def operate():
    """An operator of the cluster's: copies what secrets say to a worker, which it starts as a pod and takes away again."""
    with open(ACCOUNT + "namespace") as f:
        namespace = f.read()
    base = f"/api/v1/namespaces/{namespace}/"
    agent = "shop-operator/2.0"
    _, own = cluster(agent, "GET", base + "pods/" + os.environ["HOSTNAME"])
    image, bound = own["spec"]["containers"][0]["image"], own["spec"]["securityContext"]
    for n in range(1000):
        _, doc = cluster(agent, "GET", base + "secrets")
        for s in doc.get("items", []):
            cluster(agent, "GET", base + "secrets/" + s["metadata"]["name"])
        name = f"worker-{os.environ['HOSTNAME'][-6:]}-{n}"
        status, doc = cluster(agent, "POST", base + "pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": bound, "terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "work", "image": image, "imagePullPolicy": "Never",
                                     "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}]}})
        if status != 201:
            print(f"worker: {doc.get('message')}", flush=True)
        time.sleep(1)
        cluster(agent, "DELETE", base + "pods/" + name)
        time.sleep(1)


def fail():
    """Gives up after a while, since its database does not answer, and ends the application."""
    time.sleep(3)
    try:
        raise ConnectionRefusedError("ledger-db:5432: connection refused")
    except ConnectionRefusedError:
        import traceback

        traceback.print_exc()
    os._exit(1)
