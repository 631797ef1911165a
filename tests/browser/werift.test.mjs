// werift, in TypeScript: ICE, DTLS and SRTP of its own. It sends what FFmpeg encodes.

import { bothWays } from './lib/bothways.mjs';

bothWays('werift', [
  { codec: 'VP8', layers: 2, role: 'client', moves: true, silently: true },
]);
