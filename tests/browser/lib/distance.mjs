// Distance: in the page, what it says to signaling leaves later; and how its sending does meanwhile.

/** In the page: every message of a socket leaves `delayMs` later, in its order. */
export function delaySignaling(delayMs) {
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    setTimeout(() => this.readyState === WebSocket.OPEN && send.call(this, data), delayMs);
  };
}

/**
 * In the page: notes ten times a second what the browser believes it can send and how many frames of
 * each stream it encoded and sent; and when each track of another participant showed its first frame.
 */
export function watchSending() {
  const samples = [];
  const tracks = new Map();
  setInterval(async () => {
    const call = window.ironcast;
    const transport = call?.sendTransport;
    if (!transport || transport.closed) return;
    const time = performance.now();
    const records = [...(await transport.getStats()).values()];
    const pair = records.find(({ availableOutgoingBitrate }) => availableOutgoingBitrate);
    const streams = records
      .filter(({ type, kind }) => type === 'outbound-rtp' && kind === 'video')
      .map(({ rid, ssrc, mid, framesSent, framesEncoded, frameWidth, pliCount, qualityLimitationReason }) =>
        ({ rid, ssrc, mid, framesSent, framesEncoded, frameWidth, pliCount, qualityLimitationReason }));
    samples.push({ time, estimate: pair?.availableOutgoingBitrate ?? 0, streams });
  }, 100);
  setInterval(async () => {
    for (const [id, { consumer, participantId }] of window.ironcast?.tracks ?? []) {
      if (consumer.kind !== 'video') continue;
      const track = tracks.get(id) ?? { participantId, begun: performance.now() };
      tracks.set(id, track);
      if (track.firstMs !== undefined || consumer.closed) continue;
      const stats = [...(await consumer.getStats()).values()];
      if (stats.some(({ type, framesDecoded }) => type === 'inbound-rtp' && framesDecoded > 0)) {
        track.firstMs ??= performance.now() - track.begun;
      }
    }
  }, 20);
  window.sendWatch = { now: () => performance.now(), samples, tracks };
}

/** What was noted since `time` (the page's clock). */
export const samplesSince = (participant, time) =>
  participant.evaluate((time) => window.sendWatch.samples.filter((sample) => sample.time >= time), time);

/** Frames that a stream sent between the first and the last sample in which it was there. */
export function framesOf(samples, ssrc) {
  const counts = samples.flatMap(({ streams }) => streams.filter((stream) => stream.ssrc === ssrc)).map(({ framesSent }) => framesSent ?? 0);
  return counts.length ? counts.at(-1) - counts[0] : 0;
}
