// A control plane with its dataplane for one test file, and a worker connected to it.

import net from 'node:net';
import path from 'node:path';
import { createWorker } from '@ironcast/client';
import { Servers } from '../../../tests/browser/lib/servers.mjs';

export { until } from '../../../tests/browser/lib/until.mjs';

export const AUDIO = {
  mid: '0',
  codecs: [{ mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2 }],
  encodings: [{ ssrc: 1111 }],
};

/** Three streams of a camera, as a browser sends them. */
export const SIMULCAST = {
  mid: '1',
  codecs: [
    { mimeType: 'video/VP8', payloadType: 96, clockRate: 90000, rtcpFeedback: [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }] },
    { mimeType: 'video/rtx', payloadType: 97, clockRate: 90000, parameters: { apt: 96 } },
  ],
  headerExtensions: [{ uri: 'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id', id: 2 }],
  encodings: ['r0', 'r1', 'r2'].map((rid) => ({ rid, scalabilityMode: 'L1T3' })),
};

export const DTLS = {
  role: 'client',
  fingerprints: [{ algorithm: 'sha-256', value: Array.from({ length: 32 }, (_, byte) => byte.toString(16).padStart(2, '0')).join(':').toUpperCase() }],
};

export class Host {
  static async start(name, settings = {}) {
    const host = new Host();
    host.servers = await Servers.start(`client-node-${name}`, settings, [], ['dataplane', 'controlplane']);
    host.url = host.servers.control.url;
    host.caFile = path.join(host.servers.folder, 'control-cert.pem');
    host.workers = [];
    return host;
  }

  /** A worker that the end of the test closes. */
  async worker(options = {}) {
    const worker = await createWorker({ url: this.url, caFile: this.caFile, timeoutMs: 30_000, ...options });
    this.workers.push(worker);
    return worker;
  }

  async stop() {
    await Promise.all(this.workers.map((worker) => worker.close()));
    await this.servers.stop();
  }
}

/** A way to the server that can be cut. TLS goes through it as it is. */
export class Way {
  static async to(url) {
    const way = new Way();
    const { hostname, port } = new URL(url);
    way.sockets = new Set();
    way.server = net.createServer((near) => {
      if (way.isCut) return near.destroy();
      const far = net.connect(port, hostname);
      for (const [from, other] of [[near, far], [far, near]]) {
        way.sockets.add(from);
        from.on('error', () => {});
        from.on('close', () => other.destroy());
        from.on('data', (data) => {
          if (from === far && way.losesAnswer) return way.losesAnswer();
          return other.write(data);
        });
        from.on('end', () => other.end());
      }
    });
    await new Promise((resolve) => way.server.listen(0, '127.0.0.1', resolve));
    way.url = `https://127.0.0.1:${way.server.address().port}`;
    return way;
  }

  cut() {
    this.isCut = true;
    this.#breakAll();
  }

  mend() {
    this.isCut = false;
  }

  /** The connections break when the server next says something, and what it said is lost. */
  loseAnAnswer() {
    return new Promise((resolve) => {
      this.losesAnswer = () => {
        this.losesAnswer = undefined;
        this.#breakAll();
        resolve();
      };
    });
  }

  #breakAll() {
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** A room with two transports, an audio producer on the first, a paused consumer on the second. */
export async function room(worker, options = {}) {
  const router = await worker.createRouter(options);
  const [from, to] = await Promise.all([router.createWebRtcTransport(), router.createWebRtcTransport()]);
  const producer = await from.produce({ kind: 'audio', rtpParameters: AUDIO });
  const consumer = await to.consume({ producerId: producer.id, rtpCapabilities: router.rtpCapabilities, paused: true });
  return { router, from, to, producer, consumer };
}

/** The names of what happens to some objects, in order: `consumer producerclose`. */
export function listen(objects) {
  const heard = [];
  for (const [name, object] of Object.entries(objects)) {
    for (const event of [
      'transportclose', 'producerclose', 'producerpause', 'producerresume', 'routerclose', 'workerclose', 'close',
      'dtlsstatechange', 'icestatechange',
    ]) object.on(event, (...args) => heard.push([name, event, ...args].join(' ')));
  }
  return heard;
}
