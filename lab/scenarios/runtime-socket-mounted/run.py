import socket, builtins
s = socket.socket(socket.AF_UNIX)
s.connect("/run/docker.sock")
s.sendall(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\n\r\n")
s.recv(65536)
builtins._keep = s
