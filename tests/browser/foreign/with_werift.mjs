// A client of werift, for VP8: publishes what FFmpeg encodes, and counts what it takes out of packets. Steps as in
// lib/client.mjs.

import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import readline from 'node:readline';
import { dePacketizeRtpPackets, MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, useNACK, usePLI } from 'werift';

const OPUS = new RTCRtpCodecParameters({ mimeType: 'audio/opus', clockRate: 48_000, channels: 2 });
const VP8 = new RTCRtpCodecParameters({ mimeType: 'video/VP8', clockRate: 90_000, rtcpFeedback: [useNACK(), usePLI()] });
const RTX = new RTCRtpCodecParameters({ mimeType: 'video/rtx', clockRate: 90_000 });
const SAMPLES_PER_PACKET = 960;

// A key frame each second: FFmpeg cannot be asked for one.
const ENCODE_VIDEO = '-pix_fmt yuv420p -c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -g 15 -b:v 400k';
const ENCODE_AUDIO = '-c:a libopus -ac 2 -application lowdelay';

const connection = () => new RTCPeerConnection({ bundlePolicy: 'max-bundle', codecs: { audio: [OPUS], video: [VP8, RTX] } });

/** Runs FFmpeg; what it sends goes to the track. */
async function encode(words, track) {
  const socket = dgram.createSocket('udp4');
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  socket.on('message', (packet) => {
    // RTCP of FFmpeg's own comes to the same port.
    if (packet[1] < 192 || packet[1] > 223) track.writeRtp(packet);
  });
  const target = `rtp://127.0.0.1:${socket.address().port}?rtcpport=${socket.address().port}&pkt_size=1200`;
  const child = spawn('ffmpeg', ['-loglevel', 'error', '-re', '-f', 'lavfi', ...words.split(' '), '-f', 'rtp', target], { stdio: ['ignore', 'ignore', 'inherit'] });
  child.on('error', (error) => console.error(`FFmpeg is not here: ${error.message}`));
  return () => {
    child.kill();
    socket.close();
  };
}

/** Width and height in a key frame: of VP8 (RFC 6386, 9.1). */
const sizeOf = (frame) => ({ width: frame.readUInt16LE(6) & 0x3fff, height: frame.readUInt16LE(8) & 0x3fff });

const counts = { video: { frames: 0, keyFrames: 0 }, audio: { samples: 0 } };
const endings = [];
let sending;
let receiving;
let video;

function countVideo(track) {
  let packets = [];
  track.onReceiveRtp.subscribe((packet) => {
    if (packets.length && packet.header.timestamp !== packets[0].header.timestamp) packets = [];
    packets.push(packet);
    if (!packet.header.marker) return;
    const { isKeyframe, data } = dePacketizeRtpPackets('vp8', packets);
    packets = [];
    counts.video.frames += 1;
    if (isKeyframe) Object.assign(counts.video, { keyFrames: counts.video.keyFrames + 1, ...sizeOf(data) });
  });
}

const steps = {
  async capabilities() {
    const asking = connection();
    for (const kind of ['audio', 'video']) asking.addTransceiver(kind, { direction: 'recvonly' });
    const { sdp } = await asking.createOffer();
    await asking.close();
    return sdp;
  },

  async offer({ width, height }) {
    sending = connection();
    const tracks = { audio: new MediaStreamTrack({ kind: 'audio' }), video: new MediaStreamTrack({ kind: 'video' }) };
    for (const track of Object.values(tracks)) sending.addTransceiver(track, { direction: 'sendonly' });
    await sending.setLocalDescription(await sending.createOffer());
    endings.push(await encode(`-i sine=frequency=440:sample_rate=48000 ${ENCODE_AUDIO}`, tracks.audio));
    endings.push(await encode(`-i testsrc=size=${width}x${height}:rate=15 ${ENCODE_VIDEO}`, tracks.video));
    return sending.localDescription.sdp;
  },

  answered({ sdp }) {
    return sending.setRemoteDescription({ type: 'answer', sdp });
  },

  async answer({ sdp }) {
    receiving = connection();
    receiving.onRemoteTransceiverAdded.subscribe((transceiver) => transceiver.onTrack.subscribe((track) => {
      if (track.kind === 'audio') track.onReceiveRtp.subscribe(() => (counts.audio.samples += SAMPLES_PER_PACKET));
      else countVideo(track);
      if (track.kind === 'video') video = { receiver: transceiver.receiver, track };
    }));
    await receiving.setRemoteDescription({ type: 'offer', sdp });
    await receiving.setLocalDescription(await receiving.createAnswer());
    return receiving.localDescription.sdp;
  },

  received: () => counts,
  askKeyFrame: () => video.receiver.sendRtcpPLI(video.track.ssrc),

  async close() {
    for (const end of endings.splice(0)) end();
    await sending?.close();
    await receiving?.close();
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, step, data } = JSON.parse(line);
  try {
    const answer = await steps[step](data);
    console.log(JSON.stringify({ id, data: answer ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ id, error: error.stack }));
  }
}
for (const end of endings.splice(0)) end();
