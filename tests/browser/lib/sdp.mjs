// Between the control API's parameters and the SDP that clients speak: what mediasoup-client does in a
// browser, here for a client behind `ask(step, data)`. Its steps: `offer` and `answered` to publish,
// `capabilities` and `answer` to watch.

import ortc from 'mediasoup-client/ortc';
import commonUtils from 'mediasoup-client/handlers/sdp/commonUtils';
import remoteSdp from 'mediasoup-client/handlers/sdp/RemoteSdp';
import unifiedPlanUtils from 'mediasoup-client/handlers/sdp/unifiedPlanUtils';
import sdpTransform from 'sdp-transform';

/** The server's end as SDP; `relay`: media goes through it. */
async function serverOf({ iceParameters, iceCandidates, dtlsParameters }, relay) {
  const through = async (candidate) => {
    const { ip, port } = await relay.portFor(candidate.ip, candidate.port);
    return { ...candidate, ip, address: ip, port };
  };
  const candidates = relay ? await Promise.all(iceCandidates.map(through)) : iceCandidates;
  return new remoteSdp.RemoteSdp({ iceParameters, iceCandidates: candidates, dtlsParameters });
}

/** Feedback without a parameter is written with a space behind it, which GStreamer does not read. */
const textOf = (server) => server.getSdp().replace(/ +\r\n/g, '\r\n');

/** What both can, by the client's SDP. */
const commonTo = (sdpObject, router) =>
  ortc.getExtendedRtpCapabilities(commonUtils.extractRtpCapabilities({ sdpObject }), router.rtpCapabilities, false);

/**
 * The client offers its tracks, the server takes them: a producer for each. `codec`: of the video. `role`: the
 * client's in DTLS.
 */
export async function publish(client, { router, transport, relay, codec, role = 'client', ...options }) {
  const offer = sdpTransform.parse(await client.ask('offer', { codec, ...options }));
  const both = commonTo(offer, router);
  const server = await serverOf(transport, relay);
  server.updateDtlsRole(role === 'client' ? 'server' : 'client');
  const producers = {};
  for (const media of offer.media) {
    const kind = media.type;
    const isWanted = ({ mimeType }) => kind === 'audio' || mimeType.toLowerCase() === `video/${codec}`.toLowerCase();
    const reduced = (parameters) => ({ ...parameters, codecs: ortc.reduceCodecs(parameters.codecs, parameters.codecs.find(isWanted)) });
    const sent = reduced(ortc.getSendingRtpParameters(kind, both));
    sent.mid = String(media.mid);
    sent.rtcp.cname = commonUtils.getCname({ offerMediaObject: media });
    sent.encodings = unifiedPlanUtils.getRtpEncodings({ offerMediaObject: media, codecs: sent.codecs });
    const answered = reduced(ortc.getSendingRemoteRtpParameters(kind, both));
    server.send({ offerMediaObject: media, offerRtpParameters: sent, answerRtpParameters: answered });
    producers[kind] = await transport.produce({ kind, rtpParameters: sent });
  }
  await transport.connect({ dtlsParameters: { ...commonUtils.extractDtlsParameters({ sdpObject: offer }), role } });
  await client.ask('answered', { sdp: textOf(server) });
  return producers;
}

/** The server offers a consumer for each producer, the client takes them. */
export async function watch(client, { router, transport, relay, producers, codec }) {
  const capabilities = sdpTransform.parse(await client.ask('capabilities', { codec }));
  const rtpCapabilities = ortc.getRecvRtpCapabilities(commonTo(capabilities, router));
  const server = await serverOf(transport, relay);
  const consumers = {};
  for (const [index, producerId] of producers.entries()) {
    const consumer = await transport.consume({ producerId, rtpCapabilities, paused: true });
    const { id, kind, rtpParameters } = consumer;
    server.receive({ mid: String(index), kind, offerRtpParameters: rtpParameters, streamId: 'chromium', trackId: id });
    consumers[kind] = consumer;
  }
  const answer = sdpTransform.parse(await client.ask('answer', { sdp: textOf(server), codec }));
  await transport.connect({ dtlsParameters: commonUtils.extractDtlsParameters({ sdpObject: answer }) });
  for (const consumer of Object.values(consumers)) await consumer.resume();
  return consumers;
}
