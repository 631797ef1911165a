// `ironcast up`: starts all three, brings back what crashes, and leaves nothing behind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { launch, Participant } from './lib/browser.mjs';
import { atMost } from './lib/report.mjs';
import { BINARIES } from './lib/servers.mjs';
import { until } from './lib/until.mjs';

const name = 'ironcast up';
const NAMES = ['dataplane', 'controlplane', 'signaling'];
const timeout = 60_000;

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** Processes whose command line names the state directory: ours and nobody else's. */
function processes(folder) {
  const found = new Map();
  for (const id of fs.readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const words = fs.readFileSync(`/proc/${id}/cmdline`, 'utf8').split('\0');
      if (words.some((word) => word.includes(folder))) found.set(path.basename(words[0]), Number(id));
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

async function start(...more) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ironcast-up-'));
  const [page, control, ops] = [await freePort(), await freePort(), await freePort()];
  const sets = [
    `control.state_dir=${folder}`,
    `control.listen=127.0.0.1:${control}`,
    `control.ops=127.0.0.1:${ops}`,
    `signaling.listen=127.0.0.1:${page}`,
    'rtc.ports=11900-11999',
    'rtc.plain_ports=11800-11899',
    ...more,
  ].flatMap((set) => ['--set', set]);
  const child = spawn(path.join(BINARIES, 'ironcast'), ['up', ...sets], { stdio: ['ignore', 'pipe', 'pipe'] });
  const up = { child, folder, page, ops, sets, out: '' };
  child.stdout.on('data', (data) => (up.out += data));
  child.stderr.on('data', (data) => (up.out += data));
  up.ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
  up.close = () => {
    child.kill('SIGKILL');
    fs.rmSync(folder, { recursive: true, force: true });
  };
  await until('ironcast up is ready', () => up.out.includes('Ironcast is ready') || Promise.reject(new Error(up.out)), { within: 20_000 });
  return up;
}

const answers = async (url) => (await fetch(url).catch(() => ({ status: 0 }))).status === 200;

test('ready, in order, with the address of the page; SIGTERM leaves nothing behind', { timeout }, async () => {
  const begun = performance.now();
  const up = await start();
  try {
    atMost(name, 'start', performance.now() - begun, 15_000, 'ms');
    assert.match(up.out, new RegExp(`http://localhost:${up.page}/`));
    assert.ok(await answers(`http://127.0.0.1:${up.page}/`), 'the page is served');
    for (const each of NAMES) assert.ok(processes(up.folder).has(`ironcast-${each}`), each);
    const stopped = performance.now();
    up.child.kill('SIGTERM');
    assert.equal(await up.ended, 0);
    atMost(name, 'end', performance.now() - stopped, 5_000, 'ms');
    assert.equal(processes(up.folder).size, 0);
    assert.ok(!fs.existsSync(path.join(up.folder, 'dataplane.sock')), 'the socket is removed');
    assert.ok(!fs.existsSync(path.join(up.folder, 'up.lock')), 'the lock is removed');
  } finally {
    up.close();
  }
});

test('each process that is killed comes back alone', { timeout }, async () => {
  const up = await start();
  try {
    for (const each of NAMES) {
      const before = processes(up.folder);
      process.kill(before.get(`ironcast-${each}`), 'SIGKILL');
      await until(`${each} is back`, () => {
        const id = processes(up.folder).get(`ironcast-${each}`);
        return id !== undefined && id !== before.get(`ironcast-${each}`);
      });
      await until('all is well again', async () =>
        (await answers(`http://127.0.0.1:${up.ops}/ready`)) && answers(`http://127.0.0.1:${up.page}/health`));
      const now = processes(up.folder);
      for (const other of NAMES.filter((other) => other !== each)) {
        assert.equal(now.get(`ironcast-${other}`), before.get(`ironcast-${other}`), `${other} was left alone`);
      }
    }
  } finally {
    up.child.kill('SIGTERM');
    await up.ended;
    up.close();
  }
});

/** Milliseconds since `begun` until somebody decodes a picture by a consumer that is none of `before`. */
async function untilNew(viewer, before, begun) {
  await until(`${viewer.name} decodes a new picture`, async () =>
    (await viewer.received()).some(({ source, consumerId, framesDecoded }) => source === 'camera' && !before.has(consumerId) && framesDecoded > 0),
  { within: 20_000, every: 20 });
  return performance.now() - begun;
}

test('pages are back in their call by themselves when the dataplane was killed', { timeout }, async () => {
  const up = await start('rtc.announced_address=127.0.0.1');
  const browser = await launch();
  const everybody = [];
  try {
    const join = (name) => Participant.join(browser, { page: `http://localhost:${up.page}/` }, { name, room: 'up', opened: (one) => everybody.push(one) });
    const [ada, bob] = [await join('Ada'), await join('Bob')];
    await Promise.all([bob.sees([ada], { frames: 15 }), ada.sees([bob], { frames: 15 })]);
    const known = async (one) => new Set((await one.received()).map(({ consumerId }) => consumerId));
    const before = await Promise.all(everybody.map(known));
    const begun = performance.now();
    process.kill(processes(up.folder).get('ironcast-dataplane'), 'SIGKILL');
    const times = await Promise.all(everybody.map((one, index) => untilNew(one, before[index], begun)));
    atMost(name, 'pictures after the dataplane was killed', Math.max(...times), 3_000, 'ms');
    assert.equal(await ada.evaluate(() => window.ironcast.participants.size), 1);
  } catch (error) {
    for (const one of everybody) await one.dump('up.killed-dataplane');
    throw error;
  } finally {
    await browser.close();
    up.child.kill('SIGTERM');
    await up.ended;
    up.close();
  }
});

test('killed itself, it leaves no process; the next start works; a second one is refused', { timeout }, async () => {
  const up = await start();
  try {
    const second = spawn(path.join(BINARIES, 'ironcast'), ['up', ...up.sets], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    second.stderr.on('data', (data) => (said += data));
    assert.notEqual(await new Promise((resolve) => second.once('exit', resolve)), 0);
    assert.match(said, /already running/);

    up.child.kill('SIGKILL');
    await up.ended;
    await until('no process is left', () => processes(up.folder).size === 0, { within: 5_000 });

    const again = spawn(path.join(BINARIES, 'ironcast'), ['up', ...up.sets], { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    again.stdout.on('data', (data) => (out += data));
    await until('the next start is ready', () => out.includes('Ironcast is ready'), { within: 20_000 });
    again.kill('SIGINT');
    assert.equal(await new Promise((resolve) => again.once('exit', resolve)), 0);
  } finally {
    up.close();
  }
});

test('a wrong setting is named, and nothing starts', { timeout }, async () => {
  const child = spawn(path.join(BINARIES, 'ironcast'), ['up', '--set', 'rtc.port=1-2'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data) => (said += data));
  assert.equal(await new Promise((resolve) => child.once('exit', resolve)), 1);
  assert.match(said, /did you mean `ports`\?/);
});
