/* usage: node web_test.js PAGE BUILD MODEL BOT   the worker of build/web/index.html without a browser: its texts are those of
 * build/generate and build/chat, byte for byte; any file leads to a model or to a text. BOT: a small model with a chat template. */
'use strict';
const fs = require('fs'), { execFileSync } = require('child_process');
const [page, build, model, bot] = process.argv.slice(2);
const html = fs.readFileSync(page, 'utf8'), inside = id => html.split(' id="' + id + '">')[1].split('</script>')[0];
const wasm = Buffer.from(inside('wasm'), 'base64'), bundled = new Uint8Array(Buffer.from(inside('model'), 'base64'));
let passed = 0, failed = 0;
function check(what, ok, found) {
  if (ok) passed++;
  else { failed++; console.log('FAIL: ' + what + (found === undefined ? '' : ': ' + JSON.stringify(found).slice(0, 300))); }
}
const same = (what, expected, found) => check(what, expected === found, 'expected ' + JSON.stringify(expected) + ', found ' + JSON.stringify(found));
globalThis.FileReaderSync = class { readAsArrayBuffer(part) { return part.buffer; } };

/* A worker: ask sends a message and waits for one of those; all that comes is in got. */
class Worker {
  constructor() {
    const self = this.self = { postMessage: m => { const d = structuredClone(m); this.got.push(d); if (d.on === 'tokens') this.take(d); if (this.on) this.on(d); } };
    this.got = []; this.tokens = [];
    new Function('self', inside('worker'))(self);
  }
  take(d) { this.tokens.length = Math.min(this.tokens.length, d.from); this.tokens.push(...d.list); }
  send(data) { this.self.onmessage({ data }); }
  ask(data, ...ends) {
    return new Promise((done, fail) => {
      const late = setTimeout(() => fail(Error(data.do + ' does not end')), 120000);
      this.on = d => { if ([...ends, 'trap', 'error'].includes(d.on)) { clearTimeout(late); this.on = null; done(d); } };
      this.send(data);
    });
  }
  open(file) { return this.ask({ do: 'open', wasm, file }, 'model', 'refused'); }
  get text() { return Buffer.concat(this.tokens.filter(t => !t.control).map(t => Buffer.from(t.bytes))).toString(); }
}
const settings = (temp, repeat, seed, n, top_k = 40, top_p = 0.95, min_p = 0.05) => ({ temp, top_k, top_p, min_p, repeat, seed, n });
const options = s => ['--temp', s.temp, '--top-k', s.top_k, '--top-p', s.top_p, '--min-p', s.min_p, '--repeat-penalty', s.repeat,
  '--seed', s.seed, ...(s.n ? ['-n', s.n] : [])].map(String);
const native = (prompt, s) => execFileSync(build + '/generate', ['-m', model, '-p', prompt, ...options(s)], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();

async function texts() {
  const w = new Worker();
  let d = await w.open(bundled);
  check('the bundled model opens', d.on === 'model' && d.n_vocab > 0 && d.chat === '', d);
  same('the kernels', 'wasm', d.kernels);
  const cases = [['Once upon a time', settings(0.3, 1.03, 14, 0)], ['One day, a little dragon', settings(0.7, 1, 7, 0)], ['', settings(0.8, 1, 3, 40)],
    ['A face: \u{1F600} and', settings(1.5, 1.3, 2, 50, 0, 1, 0)], ['x', settings(0, 1, 0, 30)], ['Tom and', settings(1, 1, 9007199254740991, 60)]];
  for (let seed = 1; seed < 9; seed++) cases.push(['Once upon a time', settings(0.3, 1.03, seed, 0)]);
  for (const [prompt, s] of cases) {
    d = await w.ask({ do: 'story', prompt, write: 1, sampling: s }, 'end');
    check('seed ' + s.seed + ' ends', d.on === 'end' && d.count > 0 && d.speed >= 0, d);
    same('seed ' + s.seed + ', "' + prompt + '": the text of build/generate', native(prompt, s), w.text);
  }
  for (const [i, t] of w.tokens.entries()) if (i) check('token ' + i + ' is judged', t.bits >= 0 && t.top.length === 5 && t.top[0][1] >= 2 ** -t.bits - 1e-4, t);
  const whole = w.text, n = w.tokens.length;

  d = await w.ask({ do: 'story', prompt: 'Once upon a time', write: 0, sampling: settings(0.3, 1.03, 8, 0) }, 'end');
  same('the prompt alone', 'Once upon a time', w.text);
  check('... says so', d.peek === true, d);
  d = await w.ask({ do: 'look', at: w.tokens.length, sampling: settings(0.3, 1.03, 8, 0) }, 'look');
  check('what may come next', d.spread.rows.length === 12 && Math.abs(d.spread.rows.reduce((a, r) => a + r[2], 0) - 1) < 0.05, d.spread);
  d = await w.ask({ do: 'spread', at: d.at, sampling: settings(0, 1, 8, 0) }, 'spread');
  check('temperature 0', d.spread.left === 1 && d.spread.rows[0][2] === 1 && d.spread.rows[1][2] === 0, d.spread);
  d = await w.ask({ do: 'more', sampling: settings(0.3, 1.03, 8, 0) }, 'end');
  same('going on is the same text', whole, w.text);

  d = await w.ask({ do: 'look', at: 7, id: w.tokens[7].id, sampling: settings(0.3, 1.03, 8, 0) }, 'look');
  const sums = d.maps.map((m, l) => { let s = 0; for (const x of m) s += x; return s / d.heads[l]; });
  check('attention sums to 1', sums.length > 0 && sums.every(s => Math.abs(s - 1) < 1e-3), sums);
  same('what was expected at token 7', w.tokens[7].top[0][0], d.spread.rows[0][0]);
  const other = d.spread.rows.find(r => r[3] !== w.tokens[7].id)[3], ahead = w.tokens.slice(0, 7).map(t => t.id).join();
  d = await w.ask({ do: 'instead', at: 7, id: other, sampling: settings(0.3, 1.03, 8, 30) }, 'end');
  check('another token instead', w.tokens[7].id === other && w.tokens.slice(0, 7).map(t => t.id).join() === ahead && w.tokens.length > 8, w.text);

  /* stopped at the first token that it writes; a look and a slider in the middle change nothing */
  let stopped = 0, behind = 0;
  w.tokens = [];
  d = await new Promise(done => {
    w.on = m => { if (m.on === 'tokens' && m.list.some(t => t.mine)) { if (stopped++) behind++; else w.send({ do: 'stop' }); } if (m.on === 'end') done(m); };
    w.send({ do: 'story', prompt: 'Once upon a time', write: 1, sampling: settings(0.3, 1.03, 8, 0) });
  });
  check('stopped at once', d.finish === 5 && behind <= 1 && w.tokens.length < n, [d, behind, w.tokens.length]);
  let looks = 0;
  w.got.length = 0;
  d = await new Promise(done => {
    w.on = m => {
      if (m.on === 'tokens' && looks++ % 5 === 0) queueMicrotask(() => { w.send({ do: 'look', at: 2, id: w.tokens[2].id, sampling: settings(2, 1, 8, 5) }); w.send({ do: 'spread', at: 2, sampling: settings(0, 2, 1, 1) }); });
      if (m.on === 'end') done(m);
    };
    w.send({ do: 'story', prompt: 'Once upon a time', write: 1, sampling: settings(0.3, 1.03, 8, 0) });
  });
  same('looks and sliders change no text', whole, w.text);
  d = await w.ask({ do: 'look', at: 3, id: w.tokens[3].id, sampling: settings(2, 1, 8, 5) }, 'look');
  await new Promise(done => { w.on = m => { if (m.on === 'lens' && m.at === 3 && m.layer === d.maps.length - 1) done(); }; });
  check('... they did come', looks > 1 && w.got.filter(m => m.on === 'look').length > 1 && w.got.some(m => m.on === 'spread'), looks);
  d = await w.ask({ do: 'story', prompt: 'long '.repeat(20000), write: 1, sampling: settings(0, 1, 1, 0) }, 'end');
  check('a prompt too long', d.on === 'error' && /do not fit/.test(d.text), d);
  d = await w.ask({ do: 'chat', talk: [['user', 'Hi']], date: '2026-01-31', sampling: settings(0, 1, 1, 0) }, 'end');
  check('chat without a template', d.on === 'error' && /template/.test(d.text), d);
  check('nothing trapped', !w.got.some(m => m.on === 'trap'), w.got.find(m => m.on === 'trap'));
}

/* A file as a browser gives it: its parts are read when they are asked for. */
const as_file = b => ({ size: b.length, slice: (from, to) => ({ buffer: Uint8Array.from(b.subarray(from, to)).buffer }) });

async function chats() {
  const w = new Worker(), bytes = fs.readFileSync(bot), s = settings(0, 1, 1, 0);
  let d = await w.open(as_file(bytes));
  check('a dropped file opens', d.on === 'model' && d.chat !== '', d);
  for (const message of ['hello', 'who are you', 'hello']) {
    const expected = execFileSync(build + '/chat', ['-m', bot, '--temp', '0'], { input: message + '\n', stdio: ['pipe', 'pipe', 'ignore'] }).toString().replace(/\n$/, '');
    w.got.length = 0;
    d = await w.ask({ do: 'chat', talk: [['user', message]], date: '2026-01-31', sampling: s }, 'end');
    same('"' + message + '": the answer of build/chat', expected, w.got.filter(m => m.on === 'said').map(m => m.said).join(''));
    check('... and its tokens are judged', w.tokens.some(t => t.mine && t.bits !== null) && w.tokens.some(t => !t.mine), w.tokens.length);
  }
}

async function files() {
  const bytes = fs.readFileSync(bot), refused = { empty: new Uint8Array(0), text: Buffer.from('This is no model. '.repeat(99)), 'cut in half': bytes.subarray(0, bytes.length >> 1) };
  if (fs.existsSync('tests/golden/embed/bert.gguf')) refused.encoder = fs.readFileSync('tests/golden/embed/bert.gguf');
  for (const [what, b] of Object.entries(refused)) {
    const d = await new Worker().open(as_file(b));
    check(what + ': is refused', d.on === 'refused' && d.text.length > 10, d);
  }
  let traps = 0, opened = 0, n = 0;
  for (let i = 0; i < 60; i++) {                /* other bytes all over the head */
    const b = Uint8Array.from(bytes), at = Math.floor(i * i * 1.7) + i;
    for (let k = 0; k < 1 + i % 8; k++) b[at + k] = [0xff, 0, 0x7f, 0x80][i % 4];
    const w = new Worker(), d = await w.open(as_file(b));
    n++;
    if (d.on === 'trap' || (d.on === 'refused' && !d.text)) traps++;
    if (d.on !== 'model') continue;
    opened++;
    for (const job of [{ do: 'chat', talk: [['user', 'hello']], date: '' }, { do: 'story', prompt: 'hello', write: 1 }]) {
      const r = await w.ask({ ...job, sampling: settings(1, 1.1, i, 20) }, 'end');
      if (r.on === 'trap' || (r.on === 'error' && !r.text)) traps++;
    }
  }
  check(n + ' changed files lead to a text or a model', traps === 0 && opened > 0 && opened < n, [traps, opened]);
}

setTimeout(() => { console.log('FAIL: it hangs'); console.log('web_test.js: ' + passed + ' passed, ' + (failed + 1) + ' failed'); process.exit(1); }, 300000);
(async () => {
  await texts();
  if (bot) { await chats(); await files(); }
  console.log('web_test.js: ' + passed + ' passed, ' + failed + ' failed');
  process.exit(failed ? 1 : 0);
})().catch(e => { console.log('FAIL: ' + e.stack); console.log('web_test.js: ' + passed + ' passed, ' + (failed + 1) + ' failed'); process.exit(1); });
