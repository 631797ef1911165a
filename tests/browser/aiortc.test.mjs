// aiortc, in Python: its own ICE, DTLS by OpenSSL, SRTP by libsrtp, codecs by FFmpeg.

import { bothWays } from './lib/bothways.mjs';

bothWays('aiortc', [
  { codec: 'VP8', layers: 2, role: 'client' },
  { codec: 'H264', layers: 2, role: 'server' },
]);
