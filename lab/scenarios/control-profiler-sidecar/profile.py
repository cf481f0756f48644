import ctypes, os, time
SEIZE, CONT = 0x4206, 7
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
maps = [l.split() for l in open("/proc/1/maps")]
start = next(int(m[0].split("-")[0], 16) for m in maps if m[1].startswith("rw"))
buf = ctypes.create_string_buffer(4096)
if libc.ptrace(SEIZE, 1, None, None) != 0:
    raise OSError(ctypes.get_errno(), "ptrace")
mem = os.open("/proc/1/mem", os.O_RDONLY)
while True:
    local, remote = iovec(ctypes.addressof(buf), 4096), iovec(start, 4096)
    libc.process_vm_readv(1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    pid, status = os.waitpid(1, 0x40000001)
    if pid:
        libc.ptrace(CONT, 1, None, os.WSTOPSIG(status) if os.WIFSTOPPED(status) and not status >> 16 else None)
    time.sleep(0.01)
