// The smallest signaling service: Node, Socket.IO in front, the control API over HTTP/2 behind.
// Browsers use mediasoup-client unchanged. `npm install && npm start`, then http://localhost:8090.
//
// It has no rights, no limits, no reconnect and no clean-up after a crash: for those read the Rust
// service beside it. What it shows is which call of the API goes with which step of a browser.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import http2 from 'node:http2';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server } from 'socket.io';

const here = fileURLToPath(new URL('.', import.meta.url));
const state = process.env.IRONCAST_STATE_DIR ?? join(here, '../../../../.run');
const page = process.env.PAGE ?? join(here, '../../web/dist');
const port = Number(process.env.PORT ?? 8090);

// ---- the control API: JSON over one HTTP/2 connection ------------------------------------------

const control = http2.connect(process.env.IRONCAST_CONTROL ?? 'https://127.0.0.1:7443', {
  ca: readFileSync(process.env.IRONCAST_CA ?? join(state, 'control-cert.pem')),
});

function api(method, path, body) {
  return new Promise((resolve, reject) => {
    const stream = control.request({ ':method': method, ':path': `/v1${path}`, 'content-type': 'application/json' });
    let status, text = '';
    stream.on('response', (headers) => (status = headers[':status']));
    stream.on('data', (piece) => (text += piece));
    stream.on('error', reject);
    stream.on('end', () => {
      const answer = text ? JSON.parse(text) : {};
      if (status < 300) resolve(answer);
      else reject(Object.assign(new Error(answer.detail ?? answer.title), { code: answer.code }));
    });
    stream.end(body && JSON.stringify(body));
  });
}

// ---- rooms: who sends what ---------------------------------------------------------------------

const rooms = new Map(); // roomId -> { router, people: Map(participantId -> { name, producers }) }

async function enter(roomId) {
  if (!rooms.has(roomId)) rooms.set(roomId, { people: new Map(), router: api('POST', '/routers', { appData: { roomId } }) });
  const room = rooms.get(roomId);
  return { ...room, router: await room.router };
}

const steps = {
  async joinRoom(me, { roomId, name = 'Guest' }) {
    const { router, people } = await enter(roomId);
    Object.assign(me, { roomId, router: router.id, name, people, producers: [] });
    const others = [...people].map(([participantId, other]) => ({ participantId, name: other.name }));
    const producers = [...people.values()].flatMap((other) => other.producers);
    people.set(me.id, me);
    me.socket.join(roomId);
    me.tell('call:participant-joined', { participantId: me.id, name });
    return { roomId, participantId: me.id, resumeToken: '', participants: others, producers, rtpCapabilities: router.rtpCapabilities };
  },
  createProducerTransport: (me) => transport(me, 'send'),
  createConsumerTransport: (me, { rtpCapabilities }) => transport(me, 'receive', rtpCapabilities),
  connectProducerTransport: (me, { dtlsParameters }) => api('POST', `/transports/${me.send}/connect`, { dtlsParameters }),
  connectConsumerTransport: (me, { dtlsParameters }) => api('POST', `/transports/${me.receive}/connect`, { dtlsParameters }),
  async produce(me, { kind, rtpParameters, paused, appData }) {
    const { id } = await api('POST', '/producers', { transportId: me.send, kind, rtpParameters, paused, appData });
    const producer = { producerId: id, participantId: me.id, kind, paused, appData };
    me.producers.push(producer);
    me.tell('new-producer', producer);
    return { id };
  },
  async consume(me, { producerId, rtpCapabilities }) {
    const owner = [...me.people.values()].find((other) => other.producers.some((each) => each.producerId === producerId));
    const consumer = await api('POST', '/consumers', { transportId: me.receive, producerId, rtpCapabilities, paused: true });
    return { ...consumer, participantId: owner?.id };
  },
  resumeConsumer: (me, { consumerId }) => api('POST', `/consumers/${consumerId}/resume`),
  setPreferredLayers: (me, { consumerId, spatialLayer, temporalLayer }) =>
    api('PATCH', `/consumers/${consumerId}`, { preferredLayers: { spatialLayer, temporalLayer } }),
  pauseProducer: (me, { producerId }) => paused(me, producerId, 'pause'),
  resumeProducer: (me, { producerId }) => paused(me, producerId, 'resume'),
  restartIce: (me, { transportId }) => api('POST', `/transports/${transportId}/restart-ice`),
  leaveRoom: (me) => leave(me),
};

async function transport(me, direction, rtpCapabilities) {
  const made = await api('POST', '/transports', { routerId: me.router, type: 'webrtc', participantId: me.id, rtpCapabilities });
  me[direction] = made.id;
  return made;
}

async function paused(me, producerId, action) {
  await api('POST', `/producers/${producerId}/${action}`);
  me.tell(`producer-${action}d`, { producerId, participantId: me.id });
}

async function leave(me) {
  if (!me.people?.delete(me.id)) return;
  me.tell('call:participant-left', { participantId: me.id, reason: 'left' });
  await api('POST', `/participants/${me.id}/leave?routerId=${me.router}`);
  if (me.people.size > 0) return;
  rooms.delete(me.roomId);
  await api('DELETE', `/routers/${me.router}`);
}

// ---- browsers: the page and its sockets --------------------------------------------------------

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const web = createServer((request, response) => {
  const path = normalize(new URL(request.url, 'http://here').pathname);
  try {
    const file = readFileSync(join(page, path === '/' ? 'index.html' : path));
    response.setHeader('content-type', types[extname(path)] ?? 'text/html').end(file);
  } catch {
    response.writeHead(404).end();
  }
});
new Server(web).on('connection', (socket) => {
  const me = { id: socket.id, socket, tell: (event, payload) => socket.to(me.roomId).emit(event, payload) };
  for (const [event, step] of Object.entries(steps)) {
    socket.on(event, async (payload, answer) => {
      const failed = ({ code = 'failed', message }) => ({ error: { code, message } });
      const result = await (async () => step(me, payload ?? {}))().catch(failed);
      answer?.(result ?? {});
    });
  }
  socket.on('disconnect', () => leave(me).catch(console.error));
});
web.listen(port, '127.0.0.1', () => console.log(`a call at http://localhost:${port}`));
