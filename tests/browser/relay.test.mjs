// The relay itself: what the tests on loss and on changed addresses stand on.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { test } from 'node:test';
import { Relay, seeded } from './lib/relay.mjs';
import { until } from './lib/until.mjs';

async function echo() {
  const socket = dgram.createSocket('udp4');
  const peers = new Set();
  socket.on('message', (data, from) => {
    peers.add(from.port);
    socket.send(data, from.port, from.address);
  });
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return { socket, peers, port: socket.address().port };
}

async function client(relay, server) {
  const { ip, port } = await relay.portFor('127.0.0.1', server.port);
  const socket = dgram.createSocket('udp4');
  const heard = [];
  socket.on('message', (data) => heard.push(data.toString()));
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const send = (text) => new Promise((resolve) => socket.send(text, port, ip, resolve));
  return { socket, heard, send };
}

test('seeds repeat, and differ', () => {
  const take = (seed) => Array.from({ length: 5 }, seeded(seed));
  assert.deepEqual(take(7), take(7));
  assert.notDeepEqual(take(7), take(8));
  const many = Array.from({ length: 20_000 }, seeded(3));
  const share = many.filter((number) => number < 0.05).length / many.length;
  assert.ok(share > 0.04 && share < 0.06, `${share}`);
});

test('passes packets both ways and keeps clients apart', async () => {
  const [relay, server] = [new Relay(), await echo()];
  const [one, two] = [await client(relay, server), await client(relay, server)];
  await one.send('a');
  await two.send('b');
  await until('both heard', () => one.heard.length === 1 && two.heard.length === 1);
  assert.deepEqual([one.heard[0], two.heard[0]], ['a', 'b']);
  assert.equal(server.peers.size, 2);
  for (const { socket } of [one, two, server]) socket.close();
  await relay.close();
});

test('loses the share that it was told to, each way', async () => {
  const [relay, server] = [new Relay({ loss: 0.2, seed: 5 }), await echo()];
  const one = await client(relay, server);
  for (let round = 0; round < 20; round += 1) {
    for (let index = 0; index < 50; index += 1) await one.send(`${index}`);
  }
  const { counts } = relay;
  await until('all passed', () => counts.up === 1_000 && counts.down === counts.up - counts.upLost);
  assert.ok(counts.upLost > 150 && counts.upLost < 250, `${counts.upLost} up`);
  assert.ok(counts.downLost > 100 && counts.downLost < 220, `${counts.downLost} down`);
  for (const { socket } of [one, server]) socket.close();
  await relay.close();
});

test('loses the next packet of a marked stream, and no other', async () => {
  const [relay, server] = [new Relay(), await echo()];
  const one = await client(relay, server);
  const packet = (ssrc, type = 96) => Buffer.from([0x80, type, 0, 1, 0, 0, 0, 0, 0, 0, 0, ssrc]);
  relay.marked.add(7);
  for (const data of [packet(8), packet(7, 200), packet(7), packet(7), Buffer.from('7')]) await one.send(data);
  await until('the others came', () => one.heard.length === 4);
  assert.deepEqual([relay.counts.upLost, relay.counts.downLost, relay.marked.size], [1, 0, 0]);
  for (const { socket } of [one, server]) socket.close();
  await relay.close();
});

test('changes the address that the server sees, and nothing else', async () => {
  const [relay, server] = [new Relay(), await echo()];
  const one = await client(relay, server);
  await one.send('before');
  await until('first answer', () => one.heard.length === 1);
  await relay.rebind();
  await one.send('after');
  await until('second answer', () => one.heard.length === 2);
  assert.equal(server.peers.size, 2);
  assert.deepEqual(one.heard, ['before', 'after']);
  for (const { socket } of [one, server]) socket.close();
  await relay.close();
});
