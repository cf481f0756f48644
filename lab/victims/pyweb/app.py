"""A small web application with one flaw: POST /session takes a pickle from whoever sends it, which runs code.
It is a target for tests: never run it elsewhere."""

import json
import os
import pickle
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DATA = "/data"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pyweb/1"

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(200, "ok\n")
        elif url.path == "/":
            item = parse_qs(url.query).get("item", ["0"])[0]
            if not item.isdigit():
                item = "0"
            # What honest applications write: a cache.
            os.makedirs(DATA + "/cache", exist_ok=True)
            path = f"{DATA}/cache/item-{item}.html"
            if not os.path.exists(path):
                with open(path, "w") as f:
                    f.write(f"<!doctype html><title>Item {item}</title><p>Item {item}\n")
            with open(path) as f:
                self.answer(200, f.read())
        else:
            self.answer(404, "not found\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if urlsplit(self.path).path != "/session":
            self.answer(404, "not found\n")
            return
        try:
            session = pickle.loads(body)  # the flaw
        except Exception as e:
            self.answer(400, f"bad session: {type(e).__name__}\n")
            return
        self.answer(200, f"welcome back {str(session)[:40]}\n")

    def log_message(self, fmt, *args):
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z",
            "level": "info",
            "msg": "request",
            "remote": "%s:%d" % self.client_address[:2],
            "method": getattr(self, "command", ""),
            "path": getattr(self, "path", ""),
            "status": int(args[1]) if len(args) > 1 and str(args[1]).isdigit() else 0,
        }
        print(json.dumps(line), flush=True)


class Server(ThreadingHTTPServer):
    def server_bind(self):
        # HTTPServer's own looks the host up in the DNS, which is not to be had here and takes its time to fail.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def rotate():
    """Keeps a log and rotates it the way that leaves a deleted file open."""
    held = []
    while True:
        held = held[-1:]
        f = open(DATA + "/app.log", "a")
        f.write(time.strftime("%Y-%m-%dT%H:%M:%SZ rotation\n", time.gmtime()))
        f.flush()
        held.append(f)
        os.remove(DATA + "/app.log")
        time.sleep(2)


def main():
    host, port = os.environ.get("LISTEN", "0.0.0.0:8080").rsplit(":", 1)
    try:
        with open(DATA + "/pyweb.pid", "w") as f:
            f.write(str(os.getpid()))
    except OSError as e:
        print(f"no pid file: {e}", file=sys.stderr, flush=True)
    if os.environ.get("BUSY"):
        threading.Thread(target=rotate, daemon=True).start()
    server = Server((host or "0.0.0.0", int(port)), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
