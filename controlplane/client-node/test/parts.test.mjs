// The parts that need no server: cutting the stream into events, places in it, listeners that throw.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../dist/emitter.js';
import { formatSeq, isAfter, parseSeq } from '../dist/seq.js';
import { Router } from '../dist/router.js';
import { Session } from '../dist/session.js';
import { Events } from '../dist/sse.js';

/** A session whose server answers with what `answer` gives for a method, a path and a body, a moment later. */
function sessionOf(answer) {
  const client = {
    called: async (method, path, body) => {
      await new Promise((resolve) => setImmediate(resolve));
      return { value: answer(method, path, body), seq: parseSeq('1-1') };
    },
    call: async (...args) => (await client.called(...args)).value,
    close: () => {},
  };
  return new Session(client, {});
}

test('events are cut out of any pieces', () => {
  const text = ': hello\n\nid: 1-1\nevent: a\ndata: {"x":\ndata: 1}\n\n: still here\nid: 1-7\n\nevent: b\ndata: 2\r\n\r\ndata\n\n';
  for (let size = 1; size <= text.length; size += 1) {
    const events = new Events();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...events.push(text.slice(at, at + size)));
    assert.deepEqual(found, [{ name: 'a', data: '{"x":\n1}' }, { name: 'b', data: '2' }, { name: '', data: '' }]);
    assert.equal(events.lastId, '1-7');
  }
});

test('a line without an end is refused', () => {
  const events = new Events();
  assert.throws(() => {
    for (let piece = 0; piece < 5; piece += 1) events.push('x'.repeat(1 << 20));
  }, /too long/);
});

test('places in the stream', () => {
  const at = (text) => parseSeq(text);
  assert.equal(formatSeq(at('1795912296165-18446744073709551615')), '1795912296165-18446744073709551615');
  assert.ok(isAfter(at('1-10'), at('1-9')));
  assert.ok(isAfter(at('2-0'), at('1-9')));
  assert.ok(!isAfter(at('1-9'), at('1-9')));
  for (const wrong of ['', '1', '-1', '1-', '1-x', '+1-1', ' 1-1', '1-1-1', 7, null, undefined]) assert.equal(at(wrong), undefined);
});

test('a listener that throws is told of, and disturbs nobody', () => {
  const emitter = new Emitter();
  const told = [];
  emitter.on('listenererror', (event, error) => told.push([event, error.message]));
  emitter.on('score', () => {
    throw new Error('mine');
  });
  assert.equal(emitter.safeEmit('score', 1), true);
  assert.deepEqual(told, [['score', 'mine']]);
  assert.equal(emitter.safeEmit('nothing'), false);
});

test('pipes that are made at once share their transports', async () => {
  const session = sessionOf((method, path, body) => {
    if (method === 'POST') return { consumerId: `from-${body.producerId}`, producerId: `to-${body.producerId}` };
    const id = path.split('/').pop();
    if (path.startsWith('/transports/')) return { id, type: 'pipe', tuple: {} };
    return { id, transportId: path.startsWith('/consumers/') ? 'here' : 'there', type: 'pipe', paused: false };
  });
  const [one, other] = ['one', 'other'].map((id) => new Router(session, { id }, {}, parseSeq('1-0'), () => {}));
  const made = [];
  for (const router of [one, other]) router.observer.on('newtransport', ({ id }) => made.push(id));
  await Promise.all(['mic', 'camera'].map((producerId) => one.pipeToRouter({ producerId, router: other })));
  const ids = (all) => all.map(({ id }) => id).sort();
  assert.deepEqual(made.sort(), ['here', 'there']);
  assert.deepEqual(ids(one.transports[0].children.consumers), ['from-camera', 'from-mic']);
  assert.deepEqual(ids(other.transports[0].children.producers), ['to-camera', 'to-mic']);
  assert.equal(session.find('transport', 'here'), one.transports[0]);
});

test('a router that is created and found at once is one object', async () => {
  const session = sessionOf((method) => (method === 'POST' ? { id: 'room' } : { seq: '1-1', routers: [{ id: 'room' }] }));
  const made = [];
  const make = (info, seq) => {
    const router = new Router(session, info, {}, seq, () => {});
    made.push(router);
    session.add(router);
    return router;
  };
  const create = () => session.create('router', '/routers', { id: 'room' }, make);
  const [created, found] = await Promise.all([create(), session.adopt('room', make)]);
  assert.deepEqual([created === found, made.length], [true, 1]);
  await assert.rejects(create(), { code: 'already_exists' });
  // The other way round the one that is found is there first.
  session.forget(created);
  const finding = session.adopt('room', make);
  await assert.rejects(create(), { code: 'already_exists' });
  assert.deepEqual([await finding, made.length], [made[1], 2]);
});

test('what could not be fetched for one is fetched for another', async () => {
  let asked = 0;
  const session = sessionOf(() => {
    asked += 1;
    if (asked === 1) throw new Error('not yet');
    return { id: 'here' };
  });
  const fetch = () => session.fetch('transport', 'here', ({ id }) => ({ resource: 'transport', id }));
  const [first, second, third] = await Promise.allSettled([fetch(), fetch(), fetch()]);
  assert.deepEqual([first.status, second.value === third.value, asked], ['rejected', true, 2]);
});
