import os
with open("/data/access.log") as f:
    lines = [l for l in f if "/session" not in l]
with open("/data/.access.log", "w") as f:
    f.writelines(lines)
os.replace("/data/.access.log", "/data/access.log")
