// The session descriptions that Janus is spoken to with, and what is read out of its own. Pure
// functions. The other side of each description is the load's participant, whose address Janus learns
// from its checks.

const EXTENSIONS = {
  "urn:ietf:params:rtp-hdrext:sdes:mid": ["audio", "video"],
  "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": ["audio", "video"],
  "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": ["audio", "video"],
  "urn:ietf:params:rtp-hdrext:ssrc-audio-level": ["audio"],
  "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": ["video"],
  "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": ["video"],
};
const FEEDBACK = [
  { type: "nack", parameter: "" },
  { type: "nack", parameter: "pli" },
  { type: "ccm", parameter: "fir" },
  { type: "goog-remb", parameter: "" },
  { type: "transport-cc", parameter: "" },
];
/** A section that carries nothing: a transport needs one before it has tracks. */
export const PLACEHOLDER = {
  kind: "audio",
  mid: "placeholder",
  direction: "sendonly",
  codecs: [{ mimeType: "audio/opus", payloadType: 111, clockRate: 48000, channels: 2 }],
};

/** What a room offers, as `rtpCapabilities` of a router. */
export function capabilities() {
  const audio = { kind: "audio", mimeType: "audio/opus", clockRate: 48000, channels: 2, preferredPayloadType: 111 };
  const video = { kind: "video", mimeType: "video/VP8", clockRate: 90000, preferredPayloadType: 96 };
  const repeats = { kind: "video", mimeType: "video/rtx", clockRate: 90000, preferredPayloadType: 97 };
  return {
    codecs: [
      { ...audio, parameters: {}, rtcpFeedback: FEEDBACK.slice(-1) },
      { ...video, parameters: {}, rtcpFeedback: FEEDBACK },
      { ...repeats, parameters: { apt: 96 }, rtcpFeedback: [] },
    ],
    headerExtensions: Object.entries(EXTENSIONS).flatMap(([uri, kinds], at) =>
      kinds.map((kind) => ({ kind, uri, preferredId: at + 1, direction: "sendrecv" }))),
  };
}

/** An offer or answer of a participant. `sections` in order; `local` is its side of ICE and DTLS. */
export function write(sections, local, version) {
  const lines = [
    "v=0",
    `o=- 1 ${version} IN IP4 ${local.ip}`,
    "s=-",
    "t=0 0",
    `a=group:BUNDLE ${sections.map((one) => one.mid).join(" ")}`,
    ...sections.flatMap((one) => section(one, local)),
  ];
  return `${lines.join("\r\n")}\r\n`;
}

function section(one, local) {
  const payloadTypes = one.codecs.map((codec) => codec.payloadType).join(" ");
  return [
    `m=${one.kind} 9 UDP/TLS/RTP/SAVPF ${payloadTypes}`,
    `c=IN IP4 ${local.ip}`,
    `a=mid:${one.mid}`,
    `a=${one.direction}`,
    "a=rtcp-mux",
    `a=ice-ufrag:${local.usernameFragment}`,
    `a=ice-pwd:${local.password}`,
    `a=fingerprint:sha-256 ${local.fingerprint}`,
    "a=setup:active",
    // Never reached: where the participant really is, its checks tell.
    `a=candidate:1 1 udp 2130706431 ${local.ip} 9 typ host`,
    "a=end-of-candidates",
    ...one.codecs.flatMap(codecLines),
    ...(one.headerExtensions ?? []).map(({ id, uri }) => `a=extmap:${id} ${uri}`),
    ...(one.encodings ?? []).flatMap(encodingLines),
    ...simulcastLines(one.encodings ?? []),
  ];
}

function codecLines(codec) {
  const name = codec.mimeType.split("/")[1];
  const channels = codec.channels > 1 ? `/${codec.channels}` : "";
  const parameters = Object.entries(codec.parameters ?? {}).map(([key, value]) => `${key}=${value}`);
  return [
    `a=rtpmap:${codec.payloadType} ${name}/${codec.clockRate}${channels}`,
    ...(parameters.length > 0 ? [`a=fmtp:${codec.payloadType} ${parameters.join(";")}`] : []),
    ...(codec.rtcpFeedback ?? []).map(({ type, parameter }) =>
      `a=rtcp-fb:${codec.payloadType} ${type} ${parameter ?? ""}`.trimEnd()),
  ];
}

function encodingLines({ ssrc, rtx }) {
  if (ssrc === undefined) return [];
  const repeats = rtx ? [`a=ssrc-group:FID ${ssrc} ${rtx.ssrc}`, `a=ssrc:${rtx.ssrc} cname:load`] : [];
  return [`a=ssrc:${ssrc} cname:load`, ...repeats];
}

/** Janus takes the first as the highest; an API's encodings begin with the lowest. */
function simulcastLines(encodings) {
  const names = encodings.map(({ rid }) => rid).filter((rid) => rid !== undefined).reverse();
  if (names.length === 0) return [];
  return [...names.map((rid) => `a=rid:${rid} send`), `a=simulcast:send ${names.join(";")}`];
}

/** Janus's side of ICE and DTLS, as the answer to `POST /transports`. */
export function remote(sdp) {
  const value = (name) => new RegExp(`^a=${name}:(.*?)\\s*$`, "m").exec(sdp)?.[1];
  const candidates = [...sdp.matchAll(/^a=candidate:(\S+) 1 udp (\d+) (\S+) (\d+) typ host/gim)];
  return {
    iceParameters: { usernameFragment: value("ice-ufrag"), password: value("ice-pwd"), iceLite: true },
    iceCandidates: candidates.map(([, foundation, priority, address, port]) => ({
      foundation, priority: Number(priority), address, ip: address, port: Number(port), protocol: "udp", type: "host",
    })),
    dtlsParameters: {
      role: "auto",
      fingerprints: [{ algorithm: "sha-256", value: value("fingerprint").replace(/^sha-256 /i, "") }],
    },
  };
}

/** The sections of Janus's offer, as `rtpParameters` with kind and direction. */
export function read(sdp) {
  return sdp.split(/^m=/m).slice(1).map((text) => {
    const all = (pattern) => [...text.matchAll(pattern)];
    const encoding = { ssrc: Number(/^a=ssrc:(\d+) /m.exec(text)?.[1]) || undefined };
    const pair = /^a=ssrc-group:FID (\d+) (\d+)/m.exec(text);
    if (pair) Object.assign(encoding, { ssrc: Number(pair[1]), rtx: { ssrc: Number(pair[2]) } });
    const kind = text.split(" ")[0];
    return {
      kind,
      mid: /^a=mid:(\S+)/m.exec(text)[1],
      direction: /^a=(sendrecv|sendonly|recvonly|inactive)/m.exec(text)?.[1] ?? "sendrecv",
      codecs: all(/^a=rtpmap:(\d+) ([^/\s]+)\/(\d+)(?:\/(\d+))?/gm).map(([, type, name, rate, channels]) => ({
        mimeType: `${kind}/${name}`,
        payloadType: Number(type),
        clockRate: Number(rate),
        ...(channels && { channels: Number(channels) }),
        parameters: parameters(text, type),
        rtcpFeedback: all(new RegExp(`^a=rtcp-fb:${type} (\\S+) ?(\\S*)`, "gm")).map(([, what, parameter]) => ({
          type: what, parameter,
        })),
      })),
      headerExtensions: all(/^a=extmap:(\d+)\S* (\S+)/gm).map(([, id, uri]) => ({ id: Number(id), uri })),
      encodings: [encoding],
    };
  });
}

function parameters(text, type) {
  const line = new RegExp(`^a=fmtp:${type} (.*?)\\s*$`, "m").exec(text)?.[1] ?? "";
  const pairs = line.split(";").filter((one) => one.includes("=")).map((one) => one.trim().split("="));
  return Object.fromEntries(pairs.map(([key, value]) => [key, key === "apt" ? Number(value) : value]));
}

/** The same section as the one who receives it answers it. */
export function answerTo(offered) {
  const { kind, mid, codecs, headerExtensions, direction } = offered;
  const known = headerExtensions.filter(({ uri }) => EXTENSIONS[uri]?.includes(kind));
  return { kind, mid, codecs, headerExtensions: known, direction: direction === "inactive" ? direction : "recvonly" };
}
