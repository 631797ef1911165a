// Machines with other addresses, and all media on one port.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atMost, note } from './lib/report.mjs';
import { scenario, withNamespace } from './lib/namespace.mjs';

const name = '9 addresses';
const IPV6 = 'fd77:1::1';
const IPV4 = '10.77.1.1';

function judge(title, { calls }, remote) {
  for (const { joinMs, joinLimitMs, freezes, pairs } of calls) {
    note(name, `${title}: media goes to`, `${pairs[0].remote} port ${pairs[0].port} from ${pairs[0].local}`);
    atMost(name, `${title}: join to first picture`, joinMs, joinLimitMs, 'ms');
    note(name, `${title}: freezes`, freezes);
    for (const pair of pairs) {
      assert.equal(pair.remote, remote);
      assert.equal(pair.protocol, 'udp');
    }
  }
}

const timeout = 120_000;

test('a call over IPv6', { timeout }, () =>
  withNamespace([`${IPV6}/64`, `${IPV4}/24`], async (namespace) => {
    const settings = { 'rtc.listen': IPV6, 'rtc.announced_address': IPV6 };
    judge('IPv6', await scenario({ name: 'ipv6', settings }, namespace), IPV6);
  }));

test('other clients over IPv6', { timeout }, () =>
  withNamespace([`${IPV6}/64`, `${IPV4}/24`], async (namespace) => {
    const settings = { 'rtc.listen': IPV6, 'rtc.announced_address': IPV6 };
    const clients = ['aiortc', 'gstreamer', 'werift'];
    const { calls } = await scenario({ name: 'clients-ipv6', settings, clients }, namespace);
    for (const { name: client, tuples } of calls) {
      note(name, `IPv6, ${client}: media comes from`, tuples.map(({ remoteIp, remotePort }) => `${remoteIp} port ${remotePort}`).join(', '));
      for (const { remoteIp } of tuples) assert.equal(remoteIp, IPV6);
    }
    assert.deepEqual(calls.map((call) => call.name), clients);
  }));

test('calls in single-port mode', { timeout }, async () => {
  const port = 11_000 + Math.floor(Math.random() * 900);
  const result = await scenario({ name: 'single-port', settings: { 'rtc.single_port': String(port) }, rooms: 2 });
  judge('single port', result, '127.0.0.1');
  assert.equal(result.workers, 2, 'two workers share the port');
  for (const { pairs } of result.calls) for (const pair of pairs) assert.equal(pair.port, port);
});

test('a call on a machine whose only address is loopback', { timeout }, () =>
  withNamespace([], async (namespace) => {
    const result = await scenario({ name: 'loopback', unset: ['rtc.announced_address'] }, namespace);
    for (const { pairs } of result.calls) {
      for (const { remote } of pairs) assert.ok(remote === '127.0.0.1' || remote === '::1', remote);
    }
    judge('only loopback', result, result.calls[0].pairs[0].remote);
  }));

test('a call through 127.0.0.1 beside an interface', { timeout }, () =>
  withNamespace([`${IPV4}/24`], async (namespace) => {
    const settings = { 'rtc.announced_address': '127.0.0.1' };
    judge('127.0.0.1 beside an interface', await scenario({ name: 'beside', settings }, namespace), '127.0.0.1');
  }));

test('a call with nothing configured, through the interface', { timeout }, () =>
  withNamespace([`${IPV4}/24`], async (namespace) => {
    const result = await scenario({ name: 'default', unset: ['rtc.announced_address'] }, namespace);
    judge('nothing configured', result, IPV4);
  }));
