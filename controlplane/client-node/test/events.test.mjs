// Events that resume by themselves, and objects that are put right when events were lost.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import { Host, listen, room, until, Way } from './host.mjs';

const timeout = 120_000;
const within = 20_000;
let host;
let door;
before(async () => {
  const plain = path.join(fs.mkdtempSync('/tmp/ironcast-client-node-'), 'plain.sock');
  host = await Host.start('events', { 'control.plain': `unix:${plain}` });
  door = plain;
});
after(async () => {
  await host?.stop();
  if (door) fs.rmSync(path.dirname(door), { recursive: true, force: true });
});

/** A worker by a way that can be cut, and what it says of its connection. */
async function byAWay(options = {}) {
  const way = await Way.to(host.url);
  const worker = await host.worker({ url: way.url, ...options });
  const said = [];
  worker.on('disconnected', ({ message }) => said.push(`disconnected: ${message}`));
  worker.on('connected', () => said.push('connected'));
  return { way, worker, said };
}

test('a stream that breaks goes on behind the last event', { timeout }, async () => {
  const direct = await host.worker();
  const { way, worker, said } = await byAWay();
  const { router, to, producer, consumer } = await room(worker);
  const heard = listen({ router, to, producer, consumer });
  way.cut();
  await until('it is noticed', () => said.length === 1);
  await direct.client.call('POST', `/producers/${producer.id}/pause`);
  await direct.client.call('POST', `/producers/${producer.id}/resume`);
  await direct.client.call('DELETE', `/producers/${producer.id}`);
  way.mend();
  await until('all is told', () => consumer.closed, { within });
  assert.deepEqual(said.map((words) => words.split(':')[0]), ['disconnected', 'connected']);
  // Pause and resume are two events: after a snapshot nothing of them would be known.
  assert.deepEqual(heard.filter((words) => words.startsWith('consumer')), ['consumer producerpause', 'consumer producerresume', 'consumer producerclose']);
  await worker.close();
  way.close();
});

test('events that are lost: what is gone is closed, what was changed is told, the rest stays', { timeout }, async () => {
  const direct = await host.worker();
  const { way, worker, said } = await byAWay();
  const [gone, kept, closing] = [await room(worker), await room(worker), await room(worker)];
  const heard = listen({ 'gone.router': gone.router, 'gone.producer': gone.producer, 'kept.router': kept.router, 'kept.to': kept.to, 'kept.consumer': kept.consumer, 'closing.from': closing.from, 'closing.producer': closing.producer, 'closing.consumer': closing.consumer });
  way.cut();
  await until('it is noticed', () => said.length === 1);
  await direct.client.call('DELETE', `/routers/${gone.router.id}`);
  await direct.client.call('POST', `/producers/${kept.producer.id}/pause`);
  await direct.client.call('DELETE', `/transports/${closing.from.id}`);
  // Another epoch: its numbers say nothing about those of the one before.
  await host.servers.kill('controlplane');
  await host.servers.startOne('controlplane');
  way.mend();
  await until('it is put right', () => said.includes('connected'), { within });
  assert.deepEqual(heard.sort(), [
    'closing.consumer producerclose', 'closing.from close lost', 'closing.from dtlsstatechange closed', 'closing.producer transportclose',
    'gone.producer transportclose', 'gone.router workerclose lost', 'kept.consumer producerpause',
  ]);
  assert.equal(kept.producer.paused, true);
  // And events go on.
  await kept.producer.resume();
  await until('the new stream tells', () => heard.includes('kept.consumer producerresume'), { within });
  await worker.close();
  way.close();
});

test('a call that is made while the control plane starts again waits for it', { timeout }, async () => {
  const worker = await host.worker();
  const { router, consumer } = await room(worker);
  await host.servers.kill('controlplane');
  const asked = [router.createWebRtcTransport(), consumer.resume(), worker.createRouter()];
  const closing = consumer.close();
  await host.servers.startOne('controlplane');
  const [transport] = await Promise.all(asked.map((call) => call.catch((error) => error)));
  assert.equal(transport.closed, false, String(transport));
  await closing;
  assert.equal((await router.dump()).mapConsumerIdProducerId.length, 0);
  await worker.close();
});

test('a dataplane that died takes its rooms with it; the worker goes on', { timeout }, async () => {
  const worker = await host.worker();
  const { router, to } = await room(worker);
  const died = [];
  worker.on('workerdied', ({ routerIds }) => died.push(...routerIds));
  const heard = listen({ router, to });
  await host.servers.kill('dataplane');
  await host.servers.startOne('dataplane');
  await until('the room is closed', () => router.closed, { within });
  assert.ok(died.includes(router.id), 'and before that its worker');
  assert.deepEqual(heard, ['to routerclose', 'router workerclose worker_died']);
  assert.equal(worker.closed || worker.died, false);
  const again = await until('a new room is made', () => worker.createRouter(), { within });
  assert.equal(again.closed, false);
  await worker.close();
});

test('a stream that says nothing is opened anew', { timeout }, async () => {
  const worker = await host.worker({ silenceMs: 300 });
  const router = await worker.createRouter();
  const why = await new Promise((resolve) => worker.once('disconnected', resolve));
  assert.match(why.message, /silent/);
  await new Promise((resolve) => worker.once('connected', resolve));
  await worker.client.call('DELETE', `/routers/${router.id}`);
  await until('its events come', () => router.closed, { within });
  await worker.close();
});

test('the plain door at a unix socket', { timeout }, async () => {
  const worker = await host.worker({ url: 'http://localhost', socketPath: door });
  const { router, producer } = await room(worker);
  const heard = listen({ producer });
  await worker.client.call('DELETE', `/producers/${producer.id}`);
  await until('it is told', () => producer.closed, { within });
  assert.deepEqual(heard, ['producer close request']);
  await router.close();
  await worker.close();
});

test("npm's `eventsource` reads the stream, and comes back by itself", { timeout }, async () => {
  const worker = await host.worker();
  const way = await Way.to(host.url);
  const url = `${way.url}/v1/events`;
  // Its own `fetch` would not trust the development certificate.
  const source = new EventSource(url, { fetch: fetchThatTrusts(host.caFile) });
  const heard = [];
  source.addEventListener('router.created', ({ data, lastEventId }) => heard.push({ id: JSON.parse(data).routerId, lastEventId }));
  try {
    await until('it is open', () => source.readyState === EventSource.OPEN, { within });
    const first = await worker.createRouter();
    await until('the first event came', () => heard.length === 1, { within });
    way.cut();
    const second = await worker.createRouter();
    way.mend();
    await until('so did the second', () => heard.length === 2, { within });
    assert.deepEqual(heard.map(({ id }) => id), [first.id, second.id]);
  } finally {
    source.close();
    way.close();
  }
});

/** A `fetch` over Node's https, as far as `eventsource` uses one. */
function fetchThatTrusts(caFile) {
  return async (url, { headers, signal }) => {
    const { request } = await import('node:https');
    const { Readable } = await import('node:stream');
    const response = await new Promise((resolve, reject) => {
      request(url, { headers: Object.fromEntries(new Headers(headers)), signal, ca: fs.readFileSync(caFile) }, resolve).on('error', reject).end();
    });
    response.on('error', () => {});
    return {
      body: Readable.toWeb(response), url: String(url), status: response.statusCode, redirected: false,
      headers: new Headers({ 'content-type': response.headers['content-type'] }),
    };
  };
}
