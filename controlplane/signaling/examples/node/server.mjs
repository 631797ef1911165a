// The smallest signaling service: Node, Socket.IO in front, the control API over HTTP/2 behind.
// Browsers use mediasoup-client unchanged. `npm install && npm start`, then http://localhost:8090.
//
// It has no rights, no limits, no resuming and no clean-up after a crash: for those read the Rust
// service beside it. What it shows is which call of the API goes with which step of a browser.
//
// It needs a running control plane and the built page (`npm ci && npm run build` in ../../web).
// Copied elsewhere, it has to be told where these are, in the environment:
//   IRONCAST_CONTROL    the control API (https://127.0.0.1:7443)
//   IRONCAST_CA         its certificate, PEM (control-cert.pem in IRONCAST_STATE_DIR)
//   IRONCAST_STATE_DIR  the control plane's state directory (.run in the project's folder)
//   IRONCAST_TOKEN      the bearer token, if the control API wants one
//   PAGE                the built page (../../web/dist)
//   PORT                where to listen (8090)
import { existsSync, readFileSync } from 'node:fs';
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

const url = process.env.IRONCAST_CONTROL ?? 'https://127.0.0.1:7443';
const certificate = process.env.IRONCAST_CA ?? join(state, 'control-cert.pem');
const token = process.env.IRONCAST_TOKEN;
const missing = [
  [certificate, 'the control API\'s certificate: is the control plane running? Set IRONCAST_CA or IRONCAST_STATE_DIR'],
  [join(page, 'index.html'), 'the page: build it (npm ci && npm run build in controlplane/signaling/web), or set PAGE'],
].filter(([path]) => !existsSync(path));
for (const [path, what] of missing) console.error(`${path} is not there. It is ${what}.`);
if (missing.length > 0) process.exit(1);

let connection = null;

/** The connection to the control API, made again when it is gone. */
function control() {
  if (connection && !connection.closed && !connection.destroyed) return connection;
  // The certificate is read anew: the control plane may have made another one.
  const made = http2.connect(url, { ca: readFileSync(certificate) });
  // Without a listener an error would end the process; the calls under way get it, too.
  made.on('error', (error) => console.error(`control API: ${error.message}`));
  made.on('goaway', () => made.close());
  connection = made;
  return made;
}

function api(method, path, body) {
  return new Promise((resolve, reject) => {
    const stream = control().request({
      ':method': method,
      ':path': `/v1${path}`,
      'content-type': 'application/json',
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    });
    let status, text = '';
    stream.on('response', (headers) => (status = headers[':status']));
    stream.on('data', (piece) => (text += piece));
    stream.on('error', () => reject(Object.assign(new Error('the control API does not answer'), { code: 'media_unavailable' })));
    stream.on('end', () => {
      try {
        const answer = text ? JSON.parse(text) : {};
        if (status < 300) resolve(answer);
        else reject(Object.assign(new Error(answer.detail ?? answer.title), { code: answer.code }));
      } catch (error) {
        reject(error);
      }
    });
    stream.end(body && JSON.stringify(body));
  });
}

// ---- rooms: who sends what ---------------------------------------------------------------------

const rooms = new Map(); // roomId -> { router, people: Map(participantId -> { name, producers }) }

async function enter(roomId) {
  if (!rooms.has(roomId)) rooms.set(roomId, { people: new Map(), router: api('POST', '/routers', { appData: { roomId } }) });
  const room = rooms.get(roomId);
  try {
    return { ...room, router: await room.router };
  } catch (error) {
    // The next one who comes tries again.
    if (rooms.get(roomId) === room) rooms.delete(roomId);
    throw error;
  }
}

const steps = {
  async joinRoom(me, { roomId, name = 'Guest' }) {
    const { router, people } = await enter(roomId);
    // Who has gone while he waited would stay in the room for ever.
    if (!me.socket.connected) return leave(me);
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
  pauseConsumer: (me, { consumerId }) => api('POST', `/consumers/${consumerId}/pause`),
  requestKeyFrame: (me, { consumerId }) => api('POST', `/consumers/${consumerId}/request-key-frame`),
  pauseProducer: (me, { producerId }) => pause(me, producerId, true),
  resumeProducer: (me, { producerId }) => pause(me, producerId, false),
  async stopProducing(me, { producerIds = me.producers.map(({ producerId }) => producerId) }) {
    for (const producerId of producerIds) {
      own(me, producerId);
      me.producers = me.producers.filter((each) => each.producerId !== producerId);
      me.tell('producer-closed', { producerId, participantId: me.id });
      await api('DELETE', `/producers/${producerId}`);
    }
    return { stopped: true };
  },
  restartIce: (me, { transportId }) => api('POST', `/transports/${transportId}/restart-ice`),
  leaveRoom: (me) => leave(me),
};

async function transport(me, direction, rtpCapabilities) {
  const wanted = { routerId: me.router, type: 'webrtc', participantId: me.id, rtpCapabilities };
  const made = await api('POST', '/transports', wanted).catch((error) => {
    // The media server was started again and knows this room no more: whoever joins next makes it.
    if (error.code === 'not_found') rooms.delete(me.roomId);
    throw error;
  });
  me[direction] = made.id;
  return made;
}

function own(me, producerId) {
  const producer = me.producers.find((each) => each.producerId === producerId);
  if (producer) return producer;
  throw Object.assign(new Error(`there is no producer ${producerId} of yours`), { code: 'not_found' });
}

/** Who comes later reads it in the list. */
async function pause(me, producerId, paused) {
  const producer = own(me, producerId);
  await api('POST', `/producers/${producerId}/${paused ? 'pause' : 'resume'}`);
  producer.paused = paused;
  me.tell(paused ? 'producer-paused' : 'producer-resumed', { producerId, participantId: me.id });
}

async function leave(me) {
  if (!me.people?.delete(me.id)) return;
  me.socket.leave(me.roomId);
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
  const tell = (event, payload) => socket.to(me.roomId).emit(event, payload);
  const me = { id: socket.id, socket, tell, last: Promise.resolve() };
  const unknown = { error: { code: 'unsupported', message: 'this example has no such event' } };
  socket.onAny((event, ...rest) => {
    if (!(event in steps) && typeof rest.at(-1) === 'function') rest.at(-1)(unknown);
  });
  for (const [event, step] of Object.entries(steps)) {
    socket.on(event, async (payload, answer) => {
      const failed = ({ code = 'failed', message }) => ({ error: { code, message } });
      // In the order in which they were sent: to receive needs the transport that was asked for before.
      me.last = me.last.then(() => step(me, payload ?? {})).catch(failed);
      answer?.((await me.last) ?? {});
    });
  }
  socket.on('disconnect', () => leave(me).catch(console.error));
});
web.listen(port, '127.0.0.1', () => console.log(`a call at http://localhost:${port}`));
