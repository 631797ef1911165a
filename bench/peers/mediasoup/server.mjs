// mediasoup behind the control API: its nouns and shapes are the API's, so that every call is one
// call of mediasoup. One worker, one WebRtcServer (a port for all transports). Started by the bench
// on the server's core; the worker's binary is named by MEDIASOUP_WORKER_BIN.

import * as mediasoup from "mediasoup";
import { found, options, serve } from "../api.mjs";

const { socket, ip } = options();
const MEDIA_CODECS = [
  { kind: "audio", mimeType: "audio/opus", clockRate: 48000, channels: 2 },
  { kind: "video", mimeType: "video/VP8", clockRate: 90000, parameters: { "x-google-start-bitrate": 1000 } },
  { kind: "video", mimeType: "video/VP9", clockRate: 90000 },
  {
    kind: "video",
    mimeType: "video/H264",
    clockRate: 90000,
    parameters: { "packetization-mode": 1, "profile-level-id": "42e01f", "level-asymmetry-allowed": 1 },
  },
];

const worker = await mediasoup.createWorker({ logLevel: "warn" });
worker.on("died", (error) => {
  console.error(`the worker died: ${error.message}`);
  process.exit(1);
});
const webRtcServer = await worker.createWebRtcServer({
  listenInfos: [{ protocol: "udp", ip, portRange: { min: 40000, max: 44999 } }],
});

const routers = new Map();
const transports = new Map();
const producers = new Map();
const consumers = new Map();

const routerView = (id, router) => ({ id, rtpCapabilities: router.rtpCapabilities });
const track = (map, one) => {
  map.set(one.id, one);
  one.observer.once("close", () => map.delete(one.id));
};

serve(socket, {
  "GET /health": async () => ({ status: "ok", version: mediasoup.version }),
  "POST /routers": async ({ id, mediaCodecs = MEDIA_CODECS }) => {
    const router = await worker.createRouter({ mediaCodecs });
    const name = id ?? router.id;
    routers.set(name, router);
    router.observer.once("close", () => routers.delete(name));
    return routerView(name, router);
  },
  "GET /routers/{id}": async (_, id) => routerView(id, found(routers, id, "router")),
  "DELETE /routers/{id}": async (_, id) => routers.get(id)?.close(),
  "POST /transports": async ({ routerId, participantId, initialAvailableOutgoingBitrate }) => {
    const transport = await found(routers, routerId, "router").createWebRtcTransport({
      webRtcServer,
      initialAvailableOutgoingBitrate,
      appData: { routerId, participantId },
    });
    track(transports, transport);
    const { id, iceParameters, iceCandidates, dtlsParameters } = transport;
    return { id, iceParameters, iceCandidates, dtlsParameters };
  },
  "POST /transports/{id}/connect": async ({ dtlsParameters }, id) => {
    const transport = found(transports, id, "transport");
    await transport.connect({ dtlsParameters });
    return { dtlsLocalRole: transport.dtlsParameters.role };
  },
  "DELETE /transports/{id}": async (_, id) => transports.get(id)?.close(),
  "POST /producers": async ({ transportId, kind, rtpParameters, paused }) => {
    const producer = await found(transports, transportId, "transport").produce({ kind, rtpParameters, paused });
    track(producers, producer);
    return { id: producer.id, type: producer.type };
  },
  "POST /producers/{id}/pause": async (_, id) => (await found(producers, id, "producer").pause(), {}),
  "POST /producers/{id}/resume": async (_, id) => (await found(producers, id, "producer").resume(), {}),
  "DELETE /producers/{id}": async (_, id) => producers.get(id)?.close(),
  "POST /consumers": async ({ transportId, producerId, rtpCapabilities, paused, preferredLayers }) => {
    const transport = found(transports, transportId, "transport");
    const consumer = await transport.consume({ producerId, rtpCapabilities, paused, preferredLayers });
    track(consumers, consumer);
    const { id, kind, rtpParameters, type } = consumer;
    return { id, producerId, kind, rtpParameters, type, paused: consumer.paused };
  },
  "POST /consumers/{id}/pause": async (_, id) => (await found(consumers, id, "consumer").pause(), {}),
  "POST /consumers/{id}/resume": async (_, id) => (await found(consumers, id, "consumer").resume(), {}),
  "POST /consumers/{id}/request-key-frame": async (_, id) => {
    await found(consumers, id, "consumer").requestKeyFrame();
    return {};
  },
  "PATCH /consumers/{id}": async ({ preferredLayers, priority }, id) => {
    const consumer = found(consumers, id, "consumer");
    if (preferredLayers) await consumer.setPreferredLayers(preferredLayers);
    if (priority) await consumer.setPriority(priority);
    return {};
  },
  "DELETE /consumers/{id}": async (_, id) => consumers.get(id)?.close(),
  "POST /participants/{id}/leave": async (_, id, query) => {
    for (const transport of [...transports.values()]) {
      const { participantId, routerId } = transport.appData;
      if (participantId === id && routerId === query.get("routerId")) transport.close();
    }
    return {};
  },
});
