// The parts that need no server: cutting the stream into events, places in it, listeners that throw.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../dist/emitter.js';
import { formatSeq, isAfter, parseSeq } from '../dist/seq.js';
import { Events } from '../dist/sse.js';

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
