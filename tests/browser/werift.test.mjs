// werift, in TypeScript: ICE, DTLS and SRTP of its own. It sends what FFmpeg encodes.

import path from 'node:path';
import { bothWays } from './lib/bothways.mjs';
import { TOP } from './lib/servers.mjs';

bothWays('werift', [process.execPath, path.join(TOP, 'tests/browser/foreign/with_werift.mjs')], [
  { codec: 'VP8', layers: 2, role: 'client', moves: true, silently: true },
]);
