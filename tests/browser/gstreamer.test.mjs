// GStreamer's webrtcbin, of the distribution: libnice, an RSA certificate, its own jitter buffer.

import { bothWays } from './lib/bothways.mjs';

// It sends no checks once it has a path: its media is consent enough.
const iceConsentTimeout = 3;

bothWays('gstreamer', [
  { codec: 'VP8', layers: 2, role: 'client', silently: true, iceConsentTimeout },
  { codec: 'H264', layers: 2, role: 'server', silently: true, iceConsentTimeout },
]);
