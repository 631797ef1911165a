// The page for those who come from mediasoup is true: what it says is here is here, and what it says
// is not here is refused, by the server too.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import * as mediasoup from '@ironcast/client';
import { AUDIO, Host, room } from './host.mjs';

const timeout = 120_000;
const page = fs.readFileSync(new URL('../COMING-FROM-MEDIASOUP.md', import.meta.url), 'utf8');
const rows = [...page.matchAll(/^\| `(\w+)\.(\w+)(\(\))?` \| (same|not here|–) \|/gm)].map(([, owner, name, call, here]) => ({ owner, name, isMethod: Boolean(call), here }));

let host;
let objects;
before(async () => {
  host = await Host.start('methods');
  const worker = await host.worker();
  const { router, from: transport, producer, consumer } = await room(worker);
  const rtpObserver = await router.createAudioLevelObserver();
  const plainTransport = await router.createPlainTransport();
  objects = { mediasoup, worker, router, transport, plainTransport, producer, consumer, rtpObserver };
});
after(() => host?.stop());

test('every table is read, whole', () => {
  const tableRows = page.split('\n').filter((line) => line.startsWith('| `')).length;
  assert.equal(rows.length, tableRows);
  assert.deepEqual(Object.keys(objects), [...new Set(rows.map(({ owner }) => owner))]);
  assert.ok(rows.length > 100);
});

test('what is the same is there, and what is not is not', { timeout }, async () => {
  for (const { owner, name, isMethod, here } of rows) {
    const object = objects[owner];
    const what = `${owner}.${name}`;
    if (here === '–') {
      assert.ok(!(name in object), `${what} is not there`);
      continue;
    }
    assert.ok(name in object, `${what} is there`);
    assert.equal(typeof object[name] === 'function', isMethod, `${what} is a ${isMethod ? 'method' : 'property'}`);
    if (here === 'same') continue;
    await assert.rejects(async () => object[name]({}), (error) => error instanceof mediasoup.errors.UnsupportedError && error.code === 'unsupported', what);
  }
});

test('every event that is named is in the types', () => {
  const owners = [];
  for (const [, owner, events] of page.matchAll(/^## ([\w ]+)\n[^#]*?\n(Events?: .*(?:\n.+)*)/gm)) {
    owners.push(owner);
    const names = [...events.matchAll(/`([a-z]{4,})`/g)].map(([, name]) => name);
    const types = fs.readFileSync(new URL(`../dist/${owner.toLowerCase().replace(' ', '')}.d.ts`, import.meta.url), 'utf8');
    const absent = ['routerclose', 'died', 'subprocessclose', 'drained', 'request', 'lost', 'closed'];
    for (const name of names.filter((name) => !absent.includes(name))) assert.match(types, new RegExp(`^    ${name}: \\[`, 'm'), `${owner}: ${name}`);
    assert.ok(names.length > 0, owner);
  }
  assert.deepEqual(owners, ['Worker', 'Router', 'Transport', 'Plain transport', 'Producer', 'Consumer', 'RtpObserver']);
});

test('what is not here is not at the server either', { timeout }, async () => {
  const { worker, router, transport, producer } = objects;
  for (const [method, path, body] of [
    ['POST', '/transports', { routerId: router.id, type: 'webrtc', enableSctp: true }],
    ['POST', '/data-producers', { transportId: transport.id }],
    ['POST', '/data-consumers', { transportId: transport.id }],
  ]) {
    await assert.rejects(worker.client.call(method, path, body), { code: 'unsupported', status: 422 }, `${method} ${path}`);
  }
  await assert.rejects(router.createWebRtcTransport({ enableSctp: true }), mediasoup.errors.UnsupportedError);
  const second = await transport.produce({ kind: 'audio', rtpParameters: { ...AUDIO, mid: '7', encodings: [{ ssrc: 7 }] } });
  assert.equal(second.type, 'simple');
});
