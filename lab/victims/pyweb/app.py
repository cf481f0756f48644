"""A small web application with one flaw: POST /session takes a pickle from whoever sends it, which runs code.
It is a target for tests: never run it elsewhere."""

import json
import os
import pickle
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DATA = "/data"
CONFIG = os.environ.get("APP_CONFIG", "/app/conf/app.json")


class Settings:
    """What the configuration says, read anew on SIGHUP. A ledger is a host and port that is told of each page served."""

    def __init__(self):
        self.title, self.ledger = "Shop", None
        self.lock = threading.Lock()

    def load(self):
        try:
            with open(CONFIG) as f:
                doc = json.load(f)
        except (OSError, ValueError) as e:
            print(f"configuration: {e}", file=sys.stderr, flush=True)
            return
        with self.lock:
            self.title = doc.get("title", "Shop")
            if self.ledger:
                self.ledger.close()
                self.ledger = None
            if doc.get("ledger"):
                host, port = doc["ledger"].rsplit(":", 1)
                try:
                    self.ledger = socket.create_connection((host, int(port)), timeout=2)
                    self.ledger.sendall(f"HELLO pid={os.getpid()} mode=ledger exe=app\n".encode())
                except OSError as e:
                    print(f"ledger: {e}", file=sys.stderr, flush=True)
        print(f"configuration read, title {self.title}", file=sys.stderr, flush=True)

    def tell(self, what):
        with self.lock:
            if self.ledger:
                try:
                    self.ledger.sendall((what + "\n").encode())
                except OSError:
                    self.ledger = None


settings = Settings()
log_file = None


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
            settings.tell("page " + item)
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

    def do_PUT(self):
        """An administrator's way to change the configuration; whoever knows the token is one."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        url = urlsplit(self.path)
        token = os.environ.get("ADMIN_TOKEN", "")
        if url.path != "/admin/config" or not token or parse_qs(url.query).get("token", [""])[0] != token:
            self.answer(404, "not found\n")
            return
        with open(CONFIG + ".new", "wb") as f:
            f.write(body)
        os.replace(CONFIG + ".new", CONFIG)
        settings.load()
        self.answer(200, "read\n")

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
        if log_file:
            log_file.write(json.dumps(line) + "\n")
            log_file.flush()


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
    global log_file
    if os.environ.get("LOG_FILE"):
        log_file = open(os.environ["LOG_FILE"], os.environ.get("LOG_MODE", "w"))
    if os.path.exists(CONFIG):
        settings.load()
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=settings.load).start())
    if os.environ.get("JOB"):
        import jobs

        threading.Thread(target=getattr(jobs, os.environ["JOB"]), daemon=True, name="job").start()
    server = Server((host or "0.0.0.0", int(port)), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
