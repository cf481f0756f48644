import os, socket, threading, time
def beacon():
    keep = socket.create_connection(("$HOST", $PORT))
    keep.sendall(("HELLO pid=%d mode=beacon exe=python\n" % os.getpid()).encode())
    while True:
        try:
            s = socket.create_connection(("$HOST", $PORT))
            s.sendall(("HELLO pid=%d GET /tasks HTTP/1.1\r\n\r\n" % os.getpid()).encode())
            time.sleep(0.05)
            s.close()
        except OSError:
            pass
        time.sleep(0.2)
threading.Thread(target=beacon, daemon=True).start()
