// In a browser: one who publishes and watches by mediasoup-client, and calls the control API by himself.

import { Device } from 'mediasoup-client';

async function call(method, path, body) {
  const answer = await fetch(`/v1${path}`, { method, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return JSON.parse(text || '{}');
}

let device;
let routerId;
const transports = {};
const producers = new Map();
const consumers = new Map();
/** When each transport began to connect, and when it was connected. */
const moments = {};
/** Payload type of RED, where it is sent. */
let red;

/**
 * mediasoup-client answers with one codec. RED is a second one, around it: as the browser offers it, and before the
 * other, because what comes first is sent.
 */
function answerWithRed() {
  const original = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    let { type, sdp } = description;
    const offered = /a=rtpmap:(\d+) red\/48000\/2/.exec(this.localDescription?.sdp);
    if (type === 'answer' && offered) {
      red = Number(offered[1]);
      sdp = sdp.replace(/(m=audio .*) (\d+)\r\n/, `$1 ${red} $2\r\na=rtpmap:${red} red/48000/2\r\na=fmtp:${red} $2/$2\r\n`);
    }
    return original.call(this, { type, sdp });
  };
}

async function transport(direction) {
  const options = await call('POST', '/transports', { routerId, type: 'webrtc' });
  const made = device[direction === 'send' ? 'createSendTransport' : 'createRecvTransport'](options);
  const answered = (promise, done, failed) => promise.then(done, failed);
  made.on('connect', ({ dtlsParameters }, ...then) => answered(call('POST', `/transports/${made.id}/connect`, { dtlsParameters }), ...then));
  made.on('connectionstatechange', (state) => ((moments[direction] ??= {})[state] ??= performance.now()));
  made.on('produce', ({ kind, rtpParameters }, ...then) => {
    if (red && kind === 'audio') {
      const codec = { mimeType: 'audio/red', payloadType: red, clockRate: 48_000, channels: 2 };
      rtpParameters = { ...rtpParameters, codecs: [codec, ...rtpParameters.codecs] };
    }
    answered(call('POST', '/producers', { transportId: made.id, kind, rtpParameters }), ...then);
  });
  transports[direction] = made;
  return made;
}

const record = async (of, type) => {
  const report = [...(await of.getStats()).values()];
  const found = report.filter((one) => one.type === type);
  const codecOf = ({ codecId }) => report.find(({ id }) => id === codecId)?.mimeType;
  return found.map((one) => ({ ...one, codec: codecOf(one) }));
};

window.person = {
  async join({ routerId: id, rtpCapabilities }) {
    routerId = id;
    device = await Device.factory();
    await device.load({ routerRtpCapabilities: rtpCapabilities });
  },

  /** Sound alone, with RED or without. Gives the ids of the producers. */
  async speak({ withRed }) {
    if (withRed) answerWithRed();
    const media = await navigator.mediaDevices.getUserMedia({ audio: true });
    const sending = await transport('send');
    producers.set('audio', await sending.produce({ track: media.getTracks()[0] }));
    return [producers.get('audio').id];
  },

  /** The fake devices; `layers`: how many sizes of the picture. Gives the ids of the producers. */
  async publish({ codec, width, height, layers = 1 }) {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width, height, frameRate: 15 } });
    const sending = await transport('send');
    const wanted = device.sendRtpCapabilities.codecs.find(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`.toLowerCase());
    const encodings = Array.from({ length: layers }, (_, index) => ({ scaleResolutionDownBy: 2 ** (layers - 1 - index) }));
    for (const track of media.getTracks()) {
      const options = track.kind === 'video' ? { codec: wanted, ...(layers > 1 ? { encodings } : {}) } : {};
      producers.set(track.kind, await sending.produce({ track, ...options }));
    }
    return [...producers.values()].map(({ id }) => id);
  },

  /** Consumes them, and plays them. */
  async watch({ producerIds, without }) {
    const receiving = await transport('receive');
    const { recvRtpCapabilities } = device;
    const codecs = recvRtpCapabilities.codecs.filter(({ mimeType }) => mimeType !== without);
    const rtpCapabilities = { ...recvRtpCapabilities, codecs };
    for (const producerId of producerIds) {
      const options = await call('POST', '/consumers', { transportId: receiving.id, producerId, rtpCapabilities, paused: true });
      const consumer = await receiving.consume(options);
      consumers.set(consumer.kind, consumer);
      const element = document.body.appendChild(document.createElement(consumer.kind));
      element.srcObject = new MediaStream([consumer.track]);
      element.muted = consumer.kind === 'video';
      void element.play();
      await call('POST', `/consumers/${consumer.id}/resume`);
    }
  },

  /** The browser's own records of what comes, by kind. */
  async received() {
    const all = {};
    for (const [kind, consumer] of consumers) [all[kind]] = await record(consumer, 'inbound-rtp');
    return all;
  },

  /** How long each transport took to connect, ms. */
  connectedMs() {
    return Object.fromEntries(Object.entries(moments).map(([way, { connecting, connected }]) => [way, connected - connecting]));
  },

  /** And of what is sent: of the video, small to large. */
  async sent() {
    const streams = await record(producers.get('video') ?? producers.get('audio'), 'outbound-rtp');
    return streams.sort((a, b) => (a.frameWidth ?? 0) - (b.frameWidth ?? 0));
  },

  async restartIce() {
    for (const one of Object.values(transports)) {
      await one.restartIce(await call('POST', `/transports/${one.id}/restart-ice`));
    }
  },

  leave() {
    for (const one of Object.values(transports)) one.close();
  },
};
