// aiortc, in Python: its own ICE, DTLS by OpenSSL, SRTP by libsrtp, codecs by FFmpeg.

import path from 'node:path';
import { bothWays } from './lib/bothways.mjs';
import { TARGET, TOP } from './lib/servers.mjs';

const python = path.join(TARGET, 'aiortc/bin/python');

bothWays('aiortc', [python, path.join(TOP, 'tests/browser/foreign/with_aiortc.py')], [
  { codec: 'VP8', layers: 2, role: 'client' },
  { codec: 'H264', layers: 2, role: 'server' },
]);
