// Janus's VideoRoom behind the control API. A router is a room; a transport that sends is a
// publisher, one that receives a subscriber; a producer is a section of the publisher's offer, a
// consumer one of Janus's. Both begin with a section that carries nothing, because the API makes
// transports before tracks. The participant's side of ICE and DTLS comes in the `appData` of its
// transport. Started by the bench on the load's core: it has no part in the media.

import { Problem, found, options, serve } from "../api.mjs";
import { Session } from "./session.mjs";
import { PLACEHOLDER, answerTo, capabilities, read, remote, write } from "./sdp.mjs";

const { socket, janus, ip } = options();
const ROOM_OPTIONS = {
  publishers: 1000,
  bitrate: 0,
  audiocodec: "opus",
  videocodec: "vp8",
  audiolevel_event: false,
  notify_joining: false,
  dummy_publisher: true,
  dummy_streams: [{ codec: "opus" }],
};

const session = await Session.open(janus);
const rooms = new Map();
const transports = new Map();
const producers = new Map();
const consumers = new Map();
let nextId = 1;

const view = (id) => ({ id, rtpCapabilities: capabilities() });

/** One participant's PeerConnection. Its negotiations run one after the other. */
class Transport {
  constructor(id, room, handle, { participantId, appData }) {
    const { iceParameters, dtlsParameters } = appData;
    Object.assign(this, { id, room, participantId, handle });
    this.local = { ip, ...iceParameters, fingerprint: dtlsParameters.fingerprints[0].value };
    this.version = 1;
    this.busy = Promise.resolve();
  }

  jsep(type, sections) {
    return { type, sdp: write(sections, this.local, this.version++), trickle: false };
  }

  inTurn(what) {
    const turn = this.busy.then(what);
    this.busy = turn.catch(() => {});
    return turn;
  }
}

class Publisher extends Transport {
  sections = [PLACEHOLDER];

  async open() {
    const join = { request: "join", ptype: "publisher", room: this.room.number };
    this.feed = (await this.handle.message(join)).data.id;
    return remote((await this.offer("publish")).sdp);
  }

  async offer(request) {
    return (await this.handle.message({ request }, this.jsep("offer", this.sections))).jsep;
  }

  async produce(kind, { mid, codecs, headerExtensions, encodings }) {
    await this.handle.connected();
    const section = mid ?? `m${this.sections.length}`;
    this.sections.push({ kind, mid: section, direction: "sendonly", codecs, headerExtensions, encodings });
    await this.offer("configure");
    return section;
  }
}

class Subscriber extends Transport {
  used = new Set();

  async open() {
    const streams = [{ feed: await this.room.placeholder() }];
    const join = { request: "join", ptype: "subscriber", room: this.room.number, autoupdate: false, streams };
    const { sdp } = (await this.handle.message(join)).jsep;
    await this.answer(sdp);
    return remote(sdp);
  }

  async answer(offered) {
    await this.handle.message({ request: "start" }, this.jsep("answer", read(offered).map(answerTo)));
  }

  async consume(producer, paused) {
    await this.handle.connected();
    const stream = { feed: producer.transport.feed, mid: producer.mid, send: !paused };
    const { data, jsep } = await this.handle.message({ request: "subscribe", streams: [stream] });
    const made = data.streams.find((one) =>
      one.feed_id === stream.feed && one.feed_mid === stream.mid && !this.used.has(one.mid));
    if (!made || !jsep) throw new Problem(500, "peer_failed", "Janus did not offer the stream");
    this.used.add(made.mid);
    await this.answer(jsep.sdp);
    return read(jsep.sdp).find((one) => one.mid === made.mid);
  }
}

/** Who receives has to say so: `appData.direction`, or comes when somebody sends already. */
function receives({ appData }, room) {
  return appData?.direction ? appData.direction === "receive" : room.producers > 0;
}

async function openRoom(id) {
  const control = await session.attach();
  const { data } = await control.message({ request: "create", ...ROOM_OPTIONS });
  const number = data.room;
  let placeholder;
  const find = async () => {
    const listed = (await control.message({ request: "listparticipants", room: number })).data;
    return listed.participants.find((one) => one.dummy).id;
  };
  rooms.set(id, { number, control, producers: 0, placeholder: () => (placeholder ??= find()) });
}

async function configure(id, settings) {
  const { transport, mid } = found(consumers, id, "consumer");
  await transport.handle.message({ request: "configure", streams: [{ mid, ...settings }] });
  return {};
}

async function close(transport) {
  transports.delete(transport.id);
  await transport.handle.detach();
}

serve(socket, {
  "GET /health": async () => ({ status: "ok" }),
  "POST /routers": async ({ id = `router-${nextId++}` }) => {
    if (!rooms.has(id)) await openRoom(id);
    return view(id);
  },
  "GET /routers/{id}": async (_, id) => (found(rooms, id, "router"), view(id)),
  "DELETE /routers/{id}": async (_, id) => {
    const room = rooms.get(id);
    rooms.delete(id);
    if (room) await room.control.message({ request: "destroy", room: room.number });
  },
  "POST /transports": async (body) => {
    const room = found(rooms, body.routerId, "router");
    const Kind = receives(body, room) ? Subscriber : Publisher;
    const id = `transport-${nextId++}`;
    const transport = new Kind(id, room, await session.attach(), body);
    transports.set(id, transport);
    return { id, ...(await transport.open()) };
  },
  // What it says is known since the transport was made.
  "POST /transports/{id}/connect": async (_, id) => (found(transports, id, "transport"), { dtlsLocalRole: "server" }),
  "DELETE /transports/{id}": async (_, id) => {
    const transport = transports.get(id);
    if (transport) await close(transport);
  },
  "POST /producers": async ({ transportId, kind, rtpParameters }) => {
    const transport = found(transports, transportId, "transport");
    const mid = await transport.inTurn(() => transport.produce(kind, rtpParameters));
    const id = `producer-${nextId++}`;
    producers.set(id, { transport, mid });
    transport.room.producers += 1;
    return { id, type: rtpParameters.encodings.length > 1 ? "simulcast" : "simple" };
  },
  "POST /consumers": async ({ transportId, producerId, paused = false, preferredLayers }) => {
    const transport = found(transports, transportId, "transport");
    const producer = found(producers, producerId, "producer");
    const { kind, direction, ...rtpParameters } = await transport.inTurn(() => transport.consume(producer, paused));
    const id = `consumer-${nextId++}`;
    consumers.set(id, { transport, mid: rtpParameters.mid });
    if (preferredLayers) await configure(id, layers(preferredLayers));
    return { id, producerId, kind, rtpParameters: { ...rtpParameters, rtcp: { cname: "janus", reducedSize: true } }, paused };
  },
  "POST /consumers/{id}/pause": (_, id) => configure(id, { send: false }),
  "POST /consumers/{id}/resume": (_, id) => configure(id, { send: true }),
  "PATCH /consumers/{id}": ({ preferredLayers }, id) => configure(id, layers(preferredLayers)),
  "POST /participants/{id}/leave": async (_, id, query) => {
    const room = rooms.get(query.get("routerId"));
    const own = [...transports.values()].filter((one) => one.participantId === id && one.room === room);
    await Promise.all(own.map(close));
    return {};
  },
});

function layers({ spatialLayer, temporalLayer }) {
  return { substream: spatialLayer, ...(temporalLayer !== undefined && { temporal: temporalLayer }) };
}
