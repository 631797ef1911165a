// The page: mediasoup-client, one tile a person. A click on a tile asks for its smaller or larger picture.
import { Device } from 'mediasoup-client';

const query = new URLSearchParams(location.search);
const [waiting, people, consumers, producers] = [new Map(), new Map(), new Map(), new Map()];
let [receiving, order] = [undefined, Promise.resolve()];

const ask = (step, data, id = crypto.randomUUID()) =>
  new Promise((resolve, reject) => waiting.set(id, { resolve, reject }) && socket.send(JSON.stringify({ id, step, data })));

function personOf({ id, name }, isMe = false) {
  if (people.has(id)) return people.get(id);
  const [tile, stream] = [document.createElement('figure'), new MediaStream()];
  tile.append(document.createElement('video'), document.createElement('figcaption'));
  Object.assign(tile.firstChild, { autoplay: true, playsInline: true, muted: isMe, srcObject: stream });
  tile.lastChild.textContent = name;
  document.querySelector('main').append(tile);
  return people.set(id, { tile, stream }).get(id);
}

const heard = {
  async consumer({ owner, producerPaused, ...options }) {
    const consumer = await receiving.consume({ ...options, appData: { owner } });
    consumers.set(consumer.id, consumer);
    const { tile, stream } = personOf(owner);
    stream.addTrack(consumer.track);
    heard.paused({ id: consumer.id, paused: producerPaused });
    const change = () => ask('setPreferredLayers', { id: consumer.id, spatialLayer: tile.classList.toggle('small') ? 0 : 2 });
    if (consumer.kind === 'video') tile.onclick = change;
    await ask('resume', { id: consumer.id });
  },
  closed({ id }) {
    const consumer = consumers.get(id);
    if (!consumer) return;
    const { tile, stream } = personOf(consumer.appData.owner);
    stream.removeTrack(consumer.track);
    consumers.delete(id);
    consumer.close();
    if (stream.getTracks().length === 0 && people.delete(consumer.appData.owner.id)) tile.remove();
  },
  paused({ id, paused }) {
    const consumer = consumers.get(id);
    if (consumer?.kind === 'video') personOf(consumer.appData.owner).tile.classList.toggle('paused', paused);
  },
};

async function transport(make) {
  const made = make(await ask('createTransport'));
  made.on('connect', ({ dtlsParameters }, done, failed) => ask('connect', { id: made.id, dtlsParameters }).then(done, failed));
  made.on('produce', (options, done, failed) => ask('produce', { transportId: made.id, ...options }).then(done, failed));
  made.on('connectionstatechange', async (state) => state === 'failed' && made.restartIce(await ask('restartIce', { id: made.id })));
  return made;
}

async function join() {
  const { rtpCapabilities } = await ask('enter', { room: query.get('room'), name: query.get('name') });
  const device = await Device.factory();
  await device.load({ routerRtpCapabilities: rtpCapabilities });
  receiving = await transport((options) => device.createRecvTransport(options));
  await ask('receive', { id: receiving.id, rtpCapabilities: device.recvRtpCapabilities });
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 1280, height: 720 } });
  const sending = await transport((options) => device.createSendTransport(options));
  const encodings = [4, 2, 1].map((by) => ({ scaleResolutionDownBy: by, maxBitrate: 2_000_000 / by ** 2, scalabilityMode: 'L1T3' }));
  for (const track of media.getTracks()) {
    personOf({ id: 'me', name: query.get('name') }, true).stream.addTrack(track);
    const producer = await sending.produce(track.kind === 'video' ? { track, encodings } : { track });
    producers.set(track.kind, producer);
    document.getElementById(track.kind).onclick = () => {
      producer[producer.paused ? 'resume' : 'pause']();
      void ask('pauseProducer', { id: producer.id, paused: producer.paused });
    };
  }
  document.querySelector('footer').hidden = false;
}

const socket = query.has('name') ? new WebSocket(location.origin.replace(/^http/, 'ws')) : {};
document.querySelector('form').hidden = query.has('name');
socket.onopen = () => join().catch((error) => (document.body.textContent = error.message));
socket.onclose = () => setTimeout(() => location.reload(), 1_000);
socket.onmessage = ({ data: text }) => {
  const { id, data, error, event } = JSON.parse(text);
  // One after the other: a consumer may be closed while it is being made.
  if (event) order = order.then(() => heard[event](data)).catch(console.error);
  else waiting.get(id)?.[error ? 'reject' : 'resolve'](error ? new Error(error) : data);
  waiting.delete(id);
};
Object.assign(window, { call: { people, consumers, producers } }); // For whoever looks into it, and for the tests.
