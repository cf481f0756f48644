import os, time
for p in os.listdir("/proc"):
    if p.isdigit():
        open("/proc/%s/status" % p).read()
print(open("/proc/1/environ", "rb").read().count(b"\0"), os.listdir("/proc/1/root/data"))
os.chdir("/proc/1/root/data")
log = open("/proc/1/root/etc/hosts")
time.sleep(3600)
