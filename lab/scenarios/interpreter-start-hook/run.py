with open("/usr/lib/python3.11/sitecustomize.py", "w") as f:
    f.write("import threading\n")
