// A complete signaling service: rooms of several people with sound and simulcast video. Browsers run
// mediasoup-client (page.mjs), a WebSocket is in between, @ironcast/client is behind. Environment: PORT (8090),
// IRONCAST_CONTROL (https://127.0.0.1:7443), IRONCAST_CA (a file: what is trusted there), IRONCAST_TOKEN.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createWorker } from '@ironcast/client';
import { build } from 'esbuild';
import { WebSocketServer } from 'ws';

const worker = await createWorker();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => worker.close().then(() => process.exit()));
const rooms = new Map(); // name -> { router, peers }

const steps = {
  async enter(peer, { room: roomName, name }) {
    const room = rooms.get(roomName) ?? { peers: new Set(), router: worker.createRouter({ appData: { roomName } }) };
    rooms.set(roomName, room);
    room.peers.add(peer);
    const forget = () => rooms.get(roomName) === room && rooms.delete(roomName);
    Object.assign(peer, { room, name, router: await room.router.catch((error) => { forget(); throw error; }) });
    // Its worker died, or the host was drained: the page comes back and finds another room.
    peer.router.observer.once('close', () => { forget(); peer.socket.close(); });
    return { rtpCapabilities: peer.router.rtpCapabilities };
  },
  async createTransport(peer) {
    const transport = await peer.router.createWebRtcTransport({ participantId: peer.id });
    peer.transports.set(transport.id, transport);
    transport.on('close', () => peer.socket.close()); // The peer was silent for too long: as if it had left.
    const { id, iceParameters, iceCandidates, dtlsParameters } = transport;
    return { id, iceParameters, iceCandidates, dtlsParameters };
  },
  connect: (peer, { id, dtlsParameters }) => own(peer.transports, id).connect({ dtlsParameters }),
  restartIce: async (peer, { id }) => ({ iceParameters: await own(peer.transports, id).restartIce() }),
  async produce(peer, { transportId, kind, rtpParameters }) {
    const producer = await own(peer.transports, transportId).produce({ kind, rtpParameters });
    peer.producers.set(producer.id, producer);
    for (const other of peer.room.peers) if (other !== peer) void consume(other, peer, producer);
    return { id: producer.id };
  },
  /** From now on the page gets what is there, and what comes. */
  receive(peer, { id, rtpCapabilities }) {
    Object.assign(peer, { receiving: own(peer.transports, id), rtpCapabilities });
    const sent = [...peer.room.peers].flatMap((owner) => [...owner.producers.values()].map((producer) => ({ owner, producer })));
    for (const { owner, producer } of sent) if (owner !== peer) void consume(peer, owner, producer);
  },
  resume: (peer, { id }) => own(peer.consumers, id).resume(),
  setPreferredLayers: (peer, { id, spatialLayer }) => own(peer.consumers, id).setPreferredLayers({ spatialLayer }),
  pauseProducer: (peer, { id, paused }) => own(peer.producers, id)[paused ? 'pause' : 'resume'](),
};

const own = (map, id) => map.get(id) ?? assert.fail(`there is no ${id} of yours`);

/** `peer` gets what `owner` sends, if it is ready to. */
async function consume(peer, owner, producer) {
  const { receiving, rtpCapabilities, router, consumers, tell } = peer;
  try {
    if (!receiving || !(await router.canConsume({ producerId: producer.id, rtpCapabilities }))) return;
    const consumer = await receiving.consume({ producerId: producer.id, rtpCapabilities, paused: true });
    const { id, kind, rtpParameters, producerPaused } = consumer;
    consumers.set(id, consumer);
    consumer.observer.once('close', () => { consumers.delete(id); tell('closed', { id }); });
    for (const event of ['producerpause', 'producerresume']) consumer.on(event, () => tell('paused', { id, paused: consumer.producerPaused }));
    tell('consumer', { id, producerId: producer.id, kind, rtpParameters, producerPaused, owner: { id: owner.id, name: owner.name } });
  } catch (error) {
    if (!producer.closed && !receiving.closed) console.error(`${peer.name} does not get ${owner.name}: ${error.message}`);
  }
}

function leave(peer) {
  for (const transport of peer.transports.values()) void transport.close();
  peer.room?.peers.delete(peer);
  if (peer.room?.peers.size === 0) void peer.router.close();
}

const fromHere = (name) => new URL(name, import.meta.url).pathname;
const { outputFiles } = await build({ entryPoints: [fromHere('page.mjs')], bundle: true, format: 'esm', write: false });
const files = { '/': ['text/html', readFileSync(fromHere('index.html'))], '/page.js': ['text/javascript', outputFiles[0].contents] };
const web = createServer((request, response) => {
  const [type, body] = files[request.url.split('?')[0]] ?? [];
  response.writeHead(body ? 200 : 404, { 'content-type': type ?? 'text/plain' }).end(body);
});
new WebSocketServer({ server: web, maxPayload: 64 * 1024 }).on('connection', (socket) => {
  const send = (message) => socket.readyState === socket.OPEN && socket.send(JSON.stringify(message));
  const tell = (event, data) => send({ event, data });
  const peer = { id: randomUUID(), socket, tell, transports: new Map(), producers: new Map(), consumers: new Map() };
  socket.on('message', async (text) => {
    let message;
    try {
      message = JSON.parse(text);
      assert(Object.hasOwn(steps, message.step), 'there is no such step');
      send({ id: message.id, data: (await steps[message.step](peer, message.data ?? {})) ?? {} });
    } catch (error) {
      send({ id: message?.id, error: error.message });
    }
    if (socket.readyState !== socket.OPEN) leave(peer); // He has gone while this was done.
  });
  socket.on('close', () => leave(peer)).on('error', () => socket.terminate());
});
web.listen(Number(process.env.PORT ?? 8090), () => console.log(`a call at http://localhost:${web.address().port}`));
