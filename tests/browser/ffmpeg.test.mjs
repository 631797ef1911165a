// FFmpeg on plain transports and Chromium in one room, made by the client for Node: Chromium shows what FFmpeg sends, and
// another FFmpeg records Chromium's camera and microphone by the SDP of the API.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './lib/browser.mjs';
import { atLeast, atMost, note } from './lib/report.mjs';
import { Room } from './lib/room.mjs';
import { Servers } from './lib/servers.mjs';
import { over } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const timeout = 90_000;
const FPS = 15;
/** Of FFmpeg's picture, and of Chromium's. */
const [FFMPEGS, CHROMIUMS] = [{ width: 320, height: 240 }, { width: 480, height: 270 }];
/** Seconds that are recorded. */
const RECORDED = 2;

const SOURCES = {
  video: `testsrc=size=${FFMPEGS.width}x${FFMPEGS.height}:rate=${FPS}`,
  audio: 'sine=frequency=440:sample_rate=48000',
};
const ENCODERS = {
  VP8: '-c:v libvpx -deadline realtime -cpu-used 8 -b:v 400k -g 15',
  H264: '-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline -pix_fmt yuv420p -b:v 400k -g 15',
  opus: '-c:a libopus -ac 2 -b:a 48k',
};
const CODECS = {
  VP8: { mimeType: 'video/VP8', clockRate: 90_000 },
  H264: {
    mimeType: 'video/H264', clockRate: 90_000,
    parameters: { 'packetization-mode': 1, 'profile-level-id': '42e01f', 'level-asymmetry-allowed': 1 },
  },
  opus: { mimeType: 'audio/opus', clockRate: 48_000, channels: 2 },
};

let servers;
let browser;
before(async () => {
  servers = await Servers.start('ffmpeg');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await servers?.stop();
});

/** A program; what it says when it ends. */
function run(program, words) {
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  child.out = '';
  child.stderr.on('data', (data) => (child.said += data));
  child.stdout.on('data', (data) => (child.out += data));
  child.ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return child;
}

const ffmpeg = (words) => run('ffmpeg', ['-nostdin', '-hide_banner', '-loglevel', 'error', ...words]);

/** FFmpeg sends a track into the room. */
async function publish(router, kind, codec) {
  const transport = await router.createPlainTransport({ comedia: true, rtcpMux: false });
  const rtpParameters = { codecs: [{ payloadType: 101, ...CODECS[codec] }], encodings: [{ ssrc: 4711 }] };
  const producer = await transport.produce({ kind, rtpParameters });
  const url = `rtp://127.0.0.1:${transport.tuple.localPort}?pkt_size=1200`;
  const child = ffmpeg(['-re', '-f', 'lavfi', '-i', SOURCES[kind], ...ENCODERS[codec].split(' '), '-f', 'rtp', '-payload_type', '101', '-ssrc', '4711', url]);
  return { producer, transport, child };
}

const bound = (port) =>
  new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', () => resolve(null));
    socket.bind(port, '127.0.0.1', () => resolve(socket));
  });

/** The first of two ports of which nobody has either. */
async function freePorts() {
  for (;;) {
    const first = 20_000 + 2 * Math.floor(Math.random() * 3_000);
    const sockets = await Promise.all([bound(first), bound(first + 1)]);
    for (const socket of sockets) socket?.close();
    if (sockets.every(Boolean)) return first;
  }
}

/** Whether a process of this machine listens there. */
const isTaken = (port) => {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return fs.readFileSync('/proc/net/udp', 'utf8').split('\n').some((line) => line.trim().split(/\s+/)[1]?.endsWith(wanted));
};

/** FFmpeg records a producer by the SDP of the API. */
async function record(router, producerId, name) {
  const transport = await router.createPlainTransport({ rtcpMux: false });
  const port = await freePorts();
  await transport.connect({ ip: '127.0.0.1', port, rtcpPort: port + 1 });
  const consumer = await transport.consume({ producerId, rtpCapabilities: router.rtpCapabilities, paused: true });
  const [sdp, file] = ['sdp', 'mkv'].map((end) => path.join(servers.folder, `${name}.${end}`));
  fs.writeFileSync(sdp, await transport.getSdp());
  const child = ffmpeg(['-protocol_whitelist', 'file,udp,rtp', '-i', sdp, '-t', String(RECORDED), '-c', 'copy', '-y', file]);
  await until('ffmpeg listens', () => isTaken(port));
  await consumer.resume();
  assert.equal(await child.ended, 0, child.said);
  return file;
}

/** Of this codec and length, and every frame decodes. */
async function isWhole(file, codec) {
  const probe = run('ffprobe', ['-v', 'error', '-show_streams', '-show_format', '-of', 'json', file]);
  await probe.ended;
  const { streams: [stream], format } = JSON.parse(probe.out);
  assert.equal(stream.codec_name, codec.toLowerCase());
  assert.ok(Math.abs(format.duration - RECORDED) < 0.7, `${format.duration} s`);
  const decoded = ffmpeg(['-i', file, '-f', 'null', '-']);
  assert.equal(await decoded.ended, 0);
  assert.equal(decoded.said, '');
  return stream;
}

for (const codec of ['VP8', 'H264']) {
  test(`${codec} and Opus, from FFmpeg to Chromium and from Chromium to FFmpeg`, { timeout }, async () => {
    const name = `FFmpeg ${codec}`;
    const room = await Room.open(servers);
    const chromium = await room.browser(browser);
    const senders = [];
    try {
      for (const [kind, which] of [['video', codec], ['audio', 'opus']]) senders.push(await publish(room.router, kind, which));
      await until('both are learned', () => senders.every(({ transport }) => transport.tuple.remotePort));
      const begun = performance.now();
      await chromium.step('watch', { producerIds: senders.map(({ producer }) => producer.id) });
      await until('Chromium has picture and sound', async () => {
        const { video, audio } = await chromium.step('received');
        return video?.framesDecoded > 0 && audio?.totalSamplesReceived > 0;
      }, { within: 20_000 });
      note(name, 'first picture at Chromium', performance.now() - begun, 'ms');
      const { first, last, seconds } = await over(2, () => chromium.step('received'));
      atLeast(name, 'frames/s at Chromium', (last.video.framesDecoded - first.video.framesDecoded) / seconds, FPS * 0.8);
      atMost(name, 'packets lost at Chromium', last.video.packetsLost + last.audio.packetsLost, 0);
      assert.deepEqual([last.video.frameWidth, last.video.frameHeight, last.video.codec], [FFMPEGS.width, FFMPEGS.height, `video/${codec}`]);
      assert.equal(last.audio.codec, 'audio/opus');
      assert.ok(last.audio.totalAudioEnergy > first.audio.totalAudioEnergy, 'the tone is heard');

      const producerIds = await chromium.step('publish', { codec, ...CHROMIUMS });
      // A browser begins with less than it can.
      await until('Chromium sends the whole picture', async () => (await chromium.step('sent'))[0]?.frameWidth === CHROMIUMS.width, { within: 20_000 });
      for (const id of producerIds) {
        const { kind } = await room.worker.client.call('GET', `/producers/${id}`);
        const file = await record(room.router, id, `${codec}-${kind}`);
        const stream = await isWhole(file, kind === 'video' ? codec : 'opus');
        if (kind === 'video') assert.deepEqual([stream.width, stream.height], [CHROMIUMS.width, CHROMIUMS.height]);
      }
    } catch (error) {
      servers.keepLogs();
      throw error;
    } finally {
      for (const { child } of senders) child.kill('SIGKILL');
      await chromium.close();
      await room.close();
    }
  });
}
