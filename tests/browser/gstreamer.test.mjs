// GStreamer's webrtcbin, of the distribution: libnice, an RSA certificate, its own jitter buffer.

import path from 'node:path';
import { bothWays } from './lib/bothways.mjs';
import { TOP } from './lib/servers.mjs';

bothWays('gstreamer', ['/usr/bin/python3', path.join(TOP, 'tests/browser/foreign/with_gstreamer.py')], [
  { codec: 'VP8', layers: 2, role: 'client', silently: true },
  { codec: 'H264', layers: 2, role: 'server', silently: true },
]);
