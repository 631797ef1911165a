// A UDP relay between a browser and the media server, with seeded loss and a delay each way, a way to lose a packet of
// a stream, and one to change the address that the server sees. Every remote candidate of a page gets a port of its
// own here, at the server's address; every socket of the browser that sends to it gets a socket of its own towards the server.

import dgram from 'node:dgram';

/** Repeatable numbers from 0 to 1 (mulberry32): a test that fails fails again. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const bind = (family, address) =>
  new Promise((resolve, reject) => {
    const socket = dgram.createSocket({ type: family, recvBufferSize: 1 << 20, sendBufferSize: 1 << 20 });
    socket.once('error', reject);
    socket.bind(0, address, () => resolve(socket));
  });

export class Relay {
  /** `loss`: share of packets that vanish, `delayMs`: how much later the others come; each way. */
  constructor({ loss = 0, seed = 1, delayMs = 0 } = {}) {
    this.loss = loss;
    this.delayMs = delayMs;
    this.random = seeded(seed);
    this.listeners = new Map();
    this.counts = { up: 0, down: 0, upLost: 0, downLost: 0, rebinds: 0 };
    this.lateMs = 0;
    /** Streams (SSRC) whose next packet vanishes. */
    this.marked = new Set();
    this.closed = false;
  }

  isMarked(data) {
    // RTP is what is neither STUN, nor DTLS, nor RTCP (RFC 7983, RFC 5761).
    const isRtp = data.length >= 12 && data[0] >> 6 === 2 && (data[1] < 192 || data[1] > 223);
    return isRtp && this.marked.delete(data.readUInt32BE(8));
  }

  /** The address to use in place of `ip:port`; the same answer for the same question. */
  async portFor(ip, port) {
    const key = `${ip} ${port}`;
    if (!this.listeners.has(key)) this.listeners.set(key, this.listen(ip, port));
    const { address, socket } = await this.listeners.get(key);
    return { ip: address, port: socket.address().port };
  }

  async listen(ip, port) {
    const family = ip.includes(':') ? 'udp6' : 'udp4';
    const socket = await bind(family, ip);
    const listener = { socket, address: ip, family, server: { ip, port }, flows: new Map() };
    socket.on('message', (data, from) => void this.up(listener, data, from));
    socket.on('error', () => {});
    return listener;
  }

  async up(listener, data, from) {
    this.counts.up += 1;
    if (this.random() < this.loss || this.isMarked(data)) {
      this.counts.upLost += 1;
      return;
    }
    const key = `${from.address} ${from.port}`;
    if (!listener.flows.has(key)) listener.flows.set(key, { from, socket: this.upstream(listener, from) });
    const socket = await listener.flows.get(key).socket;
    this.later(() => socket.send(data, listener.server.port, listener.server.ip, () => {}));
  }

  async upstream(listener, from) {
    const socket = await bind(listener.family, listener.address);
    socket.on('message', (data) => {
      this.counts.down += 1;
      if (this.random() < this.loss || this.isMarked(data)) {
        this.counts.downLost += 1;
        return;
      }
      this.later(() => listener.socket.send(data, from.port, from.address, () => {}));
    });
    // The server's end may be closed at any time: then nothing comes back, as on any network.
    socket.on('error', () => {});
    return socket;
  }

  /** Sends after the delay; a socket that is closed by then sends nothing. */
  later(send) {
    const due = performance.now() + this.delayMs;
    const now = () => {
      if (this.closed) return;
      this.lateMs = Math.max(this.lateMs, performance.now() - due);
      try {
        send();
      } catch {
        // A NAT forgot it meanwhile.
      }
    };
    if (this.delayMs) setTimeout(now, this.delayMs);
    else now();
  }

  /** How much later than meant the latest packet left since the last question, in ms. */
  latestMs() {
    const latest = this.lateMs;
    this.lateMs = 0;
    return latest;
  }

  /** As when a NAT forgets: from now on the server sees other ports, and old ones lead nowhere. */
  async rebind() {
    for (const listening of this.listeners.values()) {
      const listener = await listening;
      for (const flow of listener.flows.values()) {
        const old = await flow.socket;
        flow.socket = this.upstream(listener, flow.from);
        await flow.socket;
        old.close();
        this.counts.rebinds += 1;
      }
    }
  }

  async close() {
    if (this.closed) return;
    this.closed = true;
    for (const listening of this.listeners.values()) {
      const listener = await listening;
      listener.socket.close();
      for (const flow of listener.flows.values()) (await flow.socket).close();
    }
  }
}

/** In the page: candidates of the server are replaced before the browser sees them. */
export function patchCandidates() {
  const original = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
    const lines = [];
    for (const line of (description?.sdp ?? '').split('\r\n')) {
      const parts = line.split(' ');
      if (line.startsWith('a=candidate:') && parts[2].toLowerCase() === 'udp') {
        const { ip, port } = await window.relayPortFor(parts[4], Number(parts[5]));
        parts[4] = ip;
        parts[5] = String(port);
      }
      lines.push(parts.join(' '));
    }
    return original.call(this, { type: description.type, sdp: lines.join('\r\n') });
  };
}
