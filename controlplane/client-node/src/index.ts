// @ironcast/client: Ironcast's control API for Node, with mediasoup's names.

export { Client } from './client.js';
export { Consumer } from './consumer.js';
export { IroncastError, NotFoundError, UnsupportedError, WorkerClosedError } from './errors.js';
export * as errors from './errors.js';
export { PipeTransport } from './pipetransport.js';
export { PlainTransport } from './plaintransport.js';
export { Producer } from './producer.js';
export { Router } from './router.js';
export { ActiveSpeakerObserver, AudioLevelObserver } from './rtpobserver.js';
export { WebRtcTransport } from './transport.js';
export * as types from './types.js';
export { connect, connect as createWorker, observer, Worker } from './worker.js';

import { Client } from './client.js';
import type { ClientOptions } from './options.js';

/** The API without objects: `client.call('GET', '/workers')`. */
export const createClient = (options: ClientOptions = {}): Client => new Client(options);
