import os, socket, threading, time
def beacon():
    while True:
        try:
            s = socket.create_connection(("$HOST", $PORT))
            s.sendall(("HELLO pid=%d mode=beacon exe=python\n" % os.getpid()).encode())
            time.sleep(0.05)
            s.close()
        except OSError:
            pass
        time.sleep(0.2)
threading.Thread(target=beacon, daemon=True).start()
