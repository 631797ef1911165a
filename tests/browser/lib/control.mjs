// The control API as any signaling service sees it: JSON over HTTP/2, with Node's own client.

import fs from 'node:fs';
import http2 from 'node:http2';

export class Control {
  constructor(url, certificate) {
    this.url = url;
    this.certificate = certificate;
    this.session = null;
  }

  connect() {
    if (this.session && !this.session.closed && !this.session.destroyed) return this.session;
    // The development certificate is its own authority.
    const ca = fs.readFileSync(this.certificate);
    this.session = http2.connect(this.url, { ca, checkServerIdentity: () => undefined });
    this.session.on('error', () => {});
    return this.session;
  }

  call(method, path, body) {
    return new Promise((resolve, reject) => {
      const session = this.connect();
      session.once('error', reject);
      const stream = session.request({
        ':method': method,
        ':path': path,
        ...(body ? { 'content-type': 'application/json' } : {}),
      });
      let text = '';
      let status = 0;
      stream.setTimeout(5_000, () => stream.destroy(new Error(`${method} ${path}: no answer`)));
      stream.on('response', (headers) => (status = headers[':status']));
      stream.on('data', (data) => (text += data));
      stream.on('error', reject);
      stream.on('end', () => {
        session.off('error', reject);
        const answer = text ? JSON.parse(text) : {};
        if (status >= 400) reject(new Error(`${method} ${path}: ${status} ${text}`));
        else resolve(answer);
      });
      stream.end(body ? JSON.stringify(body) : undefined);
    });
  }

  get(path) {
    return this.call('GET', path);
  }

  snapshot() {
    return this.get('/v1/snapshot');
  }

  /** How many of each there are, all rooms together. */
  async count() {
    const { routers } = await this.snapshot();
    const transports = routers.flatMap((router) => router.transports);
    return {
      routers: routers.length,
      transports: transports.length,
      producers: transports.flatMap((transport) => transport.producers ?? []).length,
      consumers: transports.flatMap((transport) => transport.consumers ?? []).length,
    };
  }

  /** Transports that carry the participant, with what hangs below them. */
  async transportsOf(participantId) {
    const { routers } = await this.snapshot();
    const transports = routers.flatMap((router) => router.transports);
    // Signaling tells the control API a session of the participant: `{id}.{random}`.
    return transports.filter((transport) => transport.participantId?.replace(/\.[^.]*$/, '') === participantId);
  }

  close() {
    this.session?.destroy();
    this.session = null;
  }
}
