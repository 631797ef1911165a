// mediasoup's calls and events, against a real control plane and dataplane.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { errors, observer } from '@ironcast/client';
import { AUDIO, DTLS, Host, listen, room, SIMULCAST, until } from './host.mjs';

const timeout = 120_000;
let host;
let worker;
before(async () => {
  host = await Host.start('objects');
  worker = await host.worker();
});
after(() => host?.stop());

test('a room: codecs, transports, connect, produce, consume', { timeout }, async () => {
  const made = [];
  worker.observer.once('newrouter', (router) => made.push(router));
  const mediaCodecs = [
    { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 },
    { kind: 'video', mimeType: 'video/VP8', clockRate: 90000, parameters: { 'x-google-start-bitrate': 1000 } },
  ];
  const router = await worker.createRouter({ mediaCodecs, appData: { room: 7 } });
  assert.deepEqual(made, [router]);
  assert.deepEqual(router.appData, { room: 7 });
  assert.deepEqual(new Set(router.rtpCapabilities.codecs.map(({ mimeType }) => mimeType)), new Set(['audio/opus', 'video/VP8', 'video/rtx']));

  router.observer.on('newtransport', (transport) => made.push(transport));
  const from = await router.createWebRtcTransport({ listenInfos: [{ protocol: 'udp', ip: '127.0.0.1' }], enableUdp: true, preferUdp: true });
  const to = await router.createWebRtcTransport({ appData: { way: 'down' }, rtpCapabilities: router.rtpCapabilities });
  assert.deepEqual(made.slice(1), [from, to]);
  assert.equal(from.iceParameters.iceLite, true);
  assert.ok(from.iceCandidates.every(({ address, port, protocol, type }) => address && port && protocol === 'udp' && type === 'host'));
  assert.ok(from.dtlsParameters.fingerprints.length > 0);
  assert.deepEqual([from.iceState, from.dtlsState, from.iceRole, from.type], ['new', 'new', 'controlled', 'webrtc']);
  await from.connect({ dtlsParameters: DTLS });
  assert.equal(from.dtlsParameters.role, 'server');
  const before = from.iceParameters;
  assert.notEqual((await from.restartIce()).usernameFragment, before.usernameFragment);
  await from.setMaxIncomingBitrate(500_000);

  const camera = await from.produce({ kind: 'video', rtpParameters: SIMULCAST, appData: { source: 'camera' }, keyFrameRequestDelay: 500 });
  assert.deepEqual([camera.kind, camera.type, camera.paused, camera.appData], ['video', 'simulcast', false, { source: 'camera' }]);
  assert.deepEqual(camera.rtpParameters.encodings.map(({ rid }) => rid), ['r0', 'r1', 'r2']);
  assert.equal(await router.canConsume({ producerId: camera.id, rtpCapabilities: router.rtpCapabilities }), true);
  const onlyOpus = { codecs: router.rtpCapabilities.codecs.filter(({ kind }) => kind === 'audio') };
  assert.equal(await router.canConsume({ producerId: camera.id, rtpCapabilities: onlyOpus }), false);

  const consumer = await to.consume({ producerId: camera.id, paused: true, preferredLayers: { spatialLayer: 1, temporalLayer: 1 } });
  assert.deepEqual([consumer.producerId, consumer.kind, consumer.type], [camera.id, 'video', 'simulcast']);
  assert.deepEqual([consumer.paused, consumer.producerPaused, consumer.priority], [true, false, 1]);
  assert.deepEqual(consumer.preferredLayers, { spatialLayer: 1, temporalLayer: 1 });
  assert.equal(consumer.rtpParameters.encodings.length, 1);
  await consumer.setPreferredLayers({ spatialLayer: 2, temporalLayer: 2 });
  assert.deepEqual(consumer.preferredLayers, { spatialLayer: 2, temporalLayer: 2 });
  await consumer.setPriority(7);
  assert.equal(consumer.priority, 7);
  await consumer.unsetPriority();
  assert.equal(consumer.priority, 1);
  await consumer.requestKeyFrame();

  assert.equal((await from.getStats())[0].transportId, from.id);
  assert.equal((await consumer.getStats())[0].type, 'outbound-rtp');
  assert.ok(Array.isArray(await camera.getStats()));
  for (const each of [from, camera, consumer]) assert.equal(typeof (await each.dump()), 'object');
  const dump = await router.dump();
  assert.deepEqual(dump.mapConsumerIdProducerId, [{ key: consumer.id, value: camera.id }]);
  assert.deepEqual(new Set(dump.transportIds), new Set([from.id, to.id]));
  assert.ok((await worker.dump()).routerIds.includes(router.id));
  await router.close();
});

test('a room says whom it forwards, and by which key it is placed', { timeout }, async () => {
  const router = await worker.createRouter({ placement: 'hash', placementKey: 'team-7', lastN: 4, loudestN: 3 });
  const { lastN, loudestN } = await worker.client.call('GET', `/routers/${router.id}`);
  assert.deepEqual({ lastN, loudestN }, { lastN: 4, loudestN: 3 });
  await router.close();
});

test('pausing is seen on both sides, once', { timeout }, async () => {
  const { router, producer, consumer } = await room(worker);
  const seen = [];
  consumer.observer.on('pause', () => seen.push('pause'));
  consumer.observer.on('resume', () => seen.push('resume'));
  const heard = listen({ consumer });
  await consumer.resume();
  assert.equal(consumer.paused, false);
  await producer.pause();
  assert.equal(producer.paused, true);
  await until('the consumer hears it', () => heard.length === 1);
  assert.equal(consumer.producerPaused, true);
  await consumer.pause();
  await producer.resume();
  await until('the consumer hears that it goes on', () => heard.length === 2);
  await consumer.resume();
  assert.deepEqual(heard, ['consumer producerpause', 'consumer producerresume']);
  assert.deepEqual(seen, ['resume', 'pause', 'resume']);
  await router.close();
});

test('what the caller closes tells what hangs below, and the server does not have it any more', { timeout }, async () => {
  const { router, from, to, producer, consumer } = await room(worker);
  const heard = listen({ router, from, to, producer, consumer });
  const closed = [];
  consumer.observer.on('close', () => closed.push('consumer'));
  from.observer.on('close', () => closed.push('from'));
  await from.close();
  assert.equal(heard[0], 'producer transportclose');
  assert.ok(from.closed && producer.closed);
  await until('the other side hears it', () => consumer.closed);
  assert.deepEqual(heard, ['producer transportclose', 'consumer producerclose']);
  assert.deepEqual(closed, ['from', 'consumer']);
  const second = await to.produce({ kind: 'audio', rtpParameters: AUDIO });
  const more = listen({ router, to, second });
  const done = router.close();
  assert.deepEqual(more, ['second transportclose', 'to routerclose']);
  await done;
  await assert.rejects(worker.client.call('GET', `/routers/${router.id}`), { code: 'not_found' });
  await assert.rejects(to.produce({ kind: 'audio', rtpParameters: AUDIO }), errors.WorkerClosedError);
  await assert.rejects(producer.pause(), { code: 'closed' });
  await router.close();
});

test('plain transports: an address that is learned, one that is told, an SDP', { timeout }, async () => {
  const { router, producer } = await room(worker);
  const made = [];
  router.observer.on('newtransport', (transport) => made.push(transport));
  const from = await router.createPlainTransport({ comedia: true, rtcpMux: false, appData: { from: 'ffmpeg' } });
  assert.deepEqual([made[0], from.type, from.comedia, from.rtcpMux], [from, 'plain', true, false]);
  assert.equal(from.rtcpTuple.localPort, from.tuple.localPort + 1);
  assert.deepEqual([from.tuple.localIp, from.tuple.remotePort ?? undefined], ['127.0.0.1', undefined]);
  const rtpParameters = { codecs: [{ mimeType: 'audio/opus', payloadType: 101, clockRate: 48000, channels: 2 }], encodings: [{ ssrc: 4711 }] };
  const microphone = await from.produce({ kind: 'audio', rtpParameters });
  const heard = [];
  for (const name of ['tuple', 'rtcptuple', 'routerclose']) from.on(name, (value) => heard.push([name, value?.remotePort]));
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  // Version 2, payload type 101, SSRC 4711.
  const packet = Buffer.from([0x80, 101, 0, 1, 0, 0, 0, 1, 0, 0, 0x12, 0x67, 1, 2, 3, 4]);
  await until('its peer is learned', () => {
    socket.send(packet, from.tuple.localPort, '127.0.0.1');
    return from.tuple.remotePort === port;
  });
  assert.deepEqual(heard, [['tuple', port]]);
  // What is traced of it, on both of its objects, and what cannot be.
  const traced = [];
  for (const one of [microphone, microphone.observer]) one.on('trace', (trace) => traced.push(trace));
  await microphone.enableTraceEvent(['rtp']);
  await assert.rejects(microphone.enableTraceEvent(['bwe']), { code: 'invalid_request' });
  await assert.rejects(from.enableTraceEvent(['everything']), { code: 'invalid_request' });
  packet[3] = 2;
  await until('a packet is told', () => {
    socket.send(packet, from.tuple.localPort, '127.0.0.1');
    return traced.length >= 2;
  });
  const [{ type, direction, info }, again] = traced;
  assert.deepEqual([type, direction, info.ssrc, info.sequenceNumber, info.size], ['rtp', 'in', 4711, 2, 16]);
  assert.deepEqual(traced[0], again);
  await microphone.enableTraceEvent();

  const [figures] = await from.getStats();
  assert.deepEqual([figures.type, figures.tuple.remotePort], ['plain-rtp-transport', port]);

  const to = await router.createPlainTransport({ listenInfo: { protocol: 'udp', ip: '127.0.0.1' }, rtcpMux: false });
  await assert.rejects(to.getSdp(), { code: 'wrong_state', status: 409 });
  await to.connect({ ip: '127.0.0.1', port: 6000, rtcpPort: 6001 });
  assert.deepEqual([to.tuple.remotePort, to.rtcpTuple.remotePort], [6000, 6001]);
  await to.consume({ producerId: microphone.id, rtpCapabilities: router.rtpCapabilities, paused: true });
  assert.match(await to.getSdp(), /^v=0\r\n[^]*m=audio 6000 RTP\/AVP \d+\r\n/);
  const sealed = await router.createPlainTransport({ listenIp: '127.0.0.1', comedia: true, enableSrtp: true, srtpCryptoSuite: 'AEAD_AES_256_GCM' });
  assert.deepEqual([sealed.srtpParameters.cryptoSuite, sealed.rtcpTuple], ['AEAD_AES_256_GCM', undefined]);

  // Another process takes the room up, with all kinds in it.
  const other = await host.worker();
  const same = await other.findRouter(router.id);
  const kinds = same.transports.map(({ type }) => type).sort();
  assert.deepEqual(kinds, ['plain', 'plain', 'plain', 'webrtc', 'webrtc']);
  assert.equal(same.transports.find(({ id }) => id === to.id).tuple.remotePort, 6000);
  await other.disconnect();
  socket.close();
  await router.close();
  assert.ok(from.closed && producer.closed && microphone.closed);
  assert.deepEqual(heard, [['tuple', port], ['routerclose', undefined]]);
});

test('what somebody else closes is told', { timeout }, async () => {
  const { router, from, to, producer, consumer } = await room(worker);
  const heard = listen({ router, from, to, producer, consumer });
  await worker.client.call('DELETE', `/producers/${producer.id}`);
  await until('both are closed', () => producer.closed && consumer.closed);
  assert.deepEqual(heard.splice(0).sort(), ['consumer producerclose', 'producer close request']);
  await worker.client.call('DELETE', `/transports/${to.id}`);
  await until('the transport is closed', () => to.closed);
  assert.deepEqual(heard.splice(0), ['to dtlsstatechange closed', 'to close request']);
  await worker.client.call('DELETE', `/routers/${router.id}`);
  await until('the router is closed', () => router.closed);
  assert.deepEqual(heard, ['from routerclose', 'router workerclose request']);
});

test('errors have codes, and the wrong field is named', { timeout }, async () => {
  const { router, from, to, producer } = await room(worker);
  await assert.rejects(to.consume({ producerId: 'nobody', rtpCapabilities: router.rtpCapabilities }), errors.NotFoundError);
  const refused = await from.produce({ kind: 'audio', rtpParameters: { ...AUDIO, codecs: [{ mimeType: 'audio/G7110', payloadType: 8, clockRate: 8000 }] } }).catch((error) => error);
  assert.ok(refused instanceof errors.UnsupportedError, String(refused));
  await assert.rejects(worker.createRouter({ id: 'no spaces, please' }), { code: 'invalid_request', status: 400, pointer: '/id' });
  for (const [name, value] of [['placementKey', 'no spaces'], ['lastN', 0], ['loudestN', 0]]) {
    await assert.rejects(worker.createRouter({ placement: 'hash', [name]: value }), { code: 'invalid_request', pointer: `/${name}` });
  }
  await assert.rejects(worker.createRouter({ id: router.id }), { code: 'already_exists' });
  await assert.rejects(from.produce({ id: producer.id, kind: 'audio', rtpParameters: AUDIO }), { code: 'already_exists' });
  const circle = {};
  circle.self = circle;
  await assert.rejects(worker.createRouter({ appData: circle }), { code: 'invalid_request' });
  await router.close();
});

test('a room that is there is taken up by another process, and stays when that one goes', { timeout }, async () => {
  const { router, producer, consumer } = await room(worker, { appData: { name: 'old' } });
  const other = await host.worker();
  const [found, again] = await Promise.all([other.findRouter(router.id), other.findRouter(router.id)]);
  assert.equal(found, again);
  assert.deepEqual(found.appData, { name: 'old' });
  assert.equal(found.transports.length, 2);
  assert.equal(await other.findRouter(router.id), found);
  await assert.rejects(other.findRouter('nobody'), { code: 'not_found' });
  const transport = await found.createWebRtcTransport();
  const second = await transport.consume({ producerId: producer.id, rtpCapabilities: found.rtpCapabilities });
  const heard = listen({ second });
  await producer.pause();
  await until('the other process hears it', () => heard.length > 0);
  assert.deepEqual(heard, ['second producerpause']);
  await other.disconnect();
  assert.ok(found.closed && second.closed);
  assert.equal(router.closed || consumer.closed, false);
  assert.equal((await router.dump()).mapConsumerIdProducerId.length, 2);
  await router.close();
});

test('a worker that is closed takes its rooms with it', { timeout }, async () => {
  const made = [];
  observer.once('newworker', (worker) => made.push(worker));
  const other = await host.worker({ appData: { number: 2 } });
  assert.deepEqual(made, [other]);
  const { router, to } = await room(other);
  const heard = listen({ router, to });
  await other.close();
  assert.deepEqual(heard, ['to routerclose', 'router workerclose request']);
  await assert.rejects(worker.client.call('GET', `/routers/${router.id}`), { code: 'not_found' });
  await assert.rejects(other.createRouter(), { code: 'closed' });
});

test('observers: made, told whom to listen to, paused, found again, closed', { timeout }, async () => {
  const { router, producer: voice, from } = await room(worker);
  const producer = await from.produce({ kind: 'video', rtpParameters: SIMULCAST });
  const made = [];
  router.observer.on('newrtpobserver', (observer) => made.push(observer));
  const loudest = await router.createAudioLevelObserver({ maxEntries: 3, threshold: -60, interval: 500, appData: { of: 'all' } });
  const dominant = await router.createActiveSpeakerObserver();
  assert.deepEqual(made, [loudest, dominant]);
  assert.deepEqual([loudest.type, dominant.type, loudest.paused, loudest.appData], ['audiolevel', 'activespeaker', false, { of: 'all' }]);
  const seen = [];
  for (const name of ['pause', 'resume', 'close']) loudest.observer.on(name, () => seen.push(name));
  for (const name of ['addproducer', 'removeproducer']) loudest.observer.on(name, ({ id }) => seen.push(`${name} ${id === voice.id}`));
  await loudest.addProducer({ producerId: voice.id });
  await assert.rejects(loudest.addProducer({ producerId: producer.id }), { code: 'invalid_request' });
  await assert.rejects(loudest.addProducer({ producerId: 'nobody' }), errors.NotFoundError);
  await loudest.pause();
  assert.equal(loudest.paused, true);
  const dump = await router.dump();
  assert.deepEqual(new Set(dump.rtpObserverIds), new Set([loudest.id, dominant.id]));
  assert.deepEqual(dump.mapProducerIdObserverIds, [{ key: voice.id, values: [loudest.id] }]);
  await loudest.resume();
  await loudest.removeProducer({ producerId: voice.id });
  const other = await host.worker();
  const found = await other.findRouter(router.id);
  assert.deepEqual(new Set(found.rtpObservers.map(({ id }) => id)), new Set([loudest.id, dominant.id]));
  const elsewhere = found.rtpObservers.find(({ id }) => id === loudest.id);
  const told = listen({ elsewhere, dominant });
  await loudest.close();
  await until('the other process is told', () => elsewhere.closed);
  assert.deepEqual(seen, ['addproducer true', 'pause', 'resume', 'removeproducer true', 'close']);
  await router.close();
  assert.equal(dominant.closed, true);
  await until('the other process is told of the end', () => found.closed);
  assert.deepEqual(told, ['elsewhere close request', 'dominant routerclose']);
  await other.disconnect();
});

test('a producer in two routers of one host', { timeout }, async () => {
  const [one, other] = [await worker.createRouter(), await worker.createRouter()];
  const from = await one.createWebRtcTransport();
  const camera = await from.produce({ kind: 'video', rtpParameters: SIMULCAST, appData: { source: 'camera' } });
  const made = [];
  other.observer.on('newtransport', (transport) => made.push(transport.type));
  const { pipeConsumer, pipeProducer } = await one.pipeToRouter({ producerId: camera.id, router: other });
  assert.deepEqual([pipeConsumer.type, pipeConsumer.producerId, pipeProducer.type], ['pipe', camera.id, 'simulcast']);
  assert.notEqual(pipeProducer.id, camera.id);
  assert.deepEqual(pipeProducer.appData, { source: 'camera' });
  assert.deepEqual(made, ['pipe']);
  assert.deepEqual(other.transports.map(({ type, tuple }) => [type, tuple.localAddress]), [['pipe', '127.0.0.1']]);
  await assert.rejects(one.pipeToRouter({ producerId: camera.id, router: other }), { code: 'already_exists' });
  await assert.rejects(other.pipeToRouter({ producerId: pipeProducer.id, router: one }), { code: 'wrong_state' });

  const paused = once(pipeProducer.observer, 'pause');
  await camera.pause();
  await paused;
  assert.equal(pipeProducer.paused, true);
  const to = await other.createWebRtcTransport({ rtpCapabilities: other.rtpCapabilities });
  const consumer = await to.consume({ producerId: pipeProducer.id });
  const ended = [once(pipeConsumer, 'producerclose'), once(consumer, 'producerclose')];
  await camera.close();
  await Promise.all(ended);

  // By hand: two pipe transports that know each other.
  const pair = [await one.createPipeTransport({ enableRtx: true }), await other.createPipeTransport({ enableRtx: true })];
  const at = ({ tuple }) => ({ ip: tuple.localAddress, port: tuple.localPort });
  await Promise.all([pair[0].connect(at(pair[1])), pair[1].connect(at(pair[0]))]);
  assert.equal(pair[0].tuple.remotePort, pair[1].tuple.localPort);
  assert.equal((await pair[0].getStats())[0].type, 'pipe-transport');
  await Promise.all([one.close(), other.close()]);
});
