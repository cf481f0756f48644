// A small web application with one flaw: POST /render evaluates the template that it is sent. It is a target for
// tests: never run it elsewhere.
'use strict';
const fs = require('fs');
const http = require('http');

const DATA = '/data';

function home(url) {
  let item = url.searchParams.get('item') || '0';
  if (!/^\d+$/.test(item)) item = '0';
  // What honest applications write: a cache.
  fs.mkdirSync(DATA + '/cache', { recursive: true });
  const path = `${DATA}/cache/item-${item}.html`;
  if (!fs.existsSync(path)) {
    fs.writeFileSync(path, `<!doctype html><title>Item ${item}</title><p>Item ${item}\n`);
  }
  return fs.readFileSync(path);
}

function handle(req, res, body) {
  const url = new URL(req.url, 'http://localhost');
  if (req.method === 'GET' && url.pathname === '/healthz') return [200, 'ok\n'];
  if (req.method === 'GET' && url.pathname === '/') return [200, home(url)];
  if (req.method === 'POST' && url.pathname === '/render') {
    try {
      return [200, String(new Function('require', 'return (' + body + ')')(require))]; // the flaw
    } catch (e) {
      return [400, `bad template: ${e.name}\n`];
    }
  }
  return [404, 'not found\n'];
}

const server = http.createServer((req, res) => {
  const began = new Date();
  const parts = [];
  req.on('data', (b) => parts.push(b));
  req.on('end', () => {
    const remote = `${req.socket.remoteAddress}:${req.socket.remotePort}`;
    const [status, text] = handle(req, res, Buffer.concat(parts).toString());
    res.writeHead(status, { 'Content-Length': Buffer.byteLength(text) });
    res.end(text);
    console.log(JSON.stringify({ time: began.toISOString(), level: 'info', msg: 'request', remote, method: req.method, path: req.url, status }));
  });
});

try {
  fs.writeFileSync(DATA + '/nodeweb.pid', String(process.pid));
} catch (e) {
  console.error(`no pid file: ${e.message}`);
}
if (process.env.BUSY) {
  // Keeps a log and rotates it the way that leaves a deleted file open.
  let held = [];
  setInterval(() => {
    while (held.length > 1) fs.closeSync(held.shift());
    const fd = fs.openSync(DATA + '/app.log', 'a');
    fs.writeSync(fd, new Date().toISOString() + ' rotation\n');
    held.push(fd);
    fs.unlinkSync(DATA + '/app.log');
  }, 2000);
}
const listen = process.env.LISTEN || '0.0.0.0:8080';
const at = listen.lastIndexOf(':');
server.listen(Number(listen.slice(at + 1)), listen.slice(0, at) || '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
