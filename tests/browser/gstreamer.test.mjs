// GStreamer's webrtcbin, of the distribution: libnice, an RSA certificate, its own jitter buffer.

import { bothWays } from './lib/bothways.mjs';

bothWays('gstreamer', [
  { codec: 'VP8', layers: 2, role: 'client', silently: true },
  { codec: 'H264', layers: 2, role: 'server', silently: true },
]);
