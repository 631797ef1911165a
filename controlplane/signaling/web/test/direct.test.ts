import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Direct, withStartBitrate } from '../src/direct.ts';

test('video begins with more than a browser would, whether its codec has parameters or not', () => {
  const sdp = ['m=audio 9 UDP/TLS/RTP/SAVPF 111', 'a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10',
    'm=video 9 UDP/TLS/RTP/SAVPF 96 97 98', 'a=rtpmap:96 VP8/90000', 'a=rtpmap:97 rtx/90000', 'a=fmtp:97 apt=96',
    'a=rtpmap:98 VP9/90000', 'a=fmtp:98 profile-id=0', ''].join('\r\n');
  const changed = withStartBitrate(sdp).split('\r\n');
  assert.equal(changed[changed.indexOf('a=rtpmap:96 VP8/90000') + 1], 'a=fmtp:96 x-google-start-bitrate=1000');
  assert.ok(changed.includes('a=fmtp:98 profile-id=0;x-google-start-bitrate=1000'));
  assert.deepEqual(changed.filter((line) => !line.includes('start-bitrate')), sdp.split('\r\n').filter((line) => line !== 'a=fmtp:98 profile-id=0'));
});

/** Just enough of the browser's. `pass`: what waits for the sender's parameters goes on. */
function connection() {
  const waiting: (() => void)[] = [];
  const said: string[] = [];
  const channel: any = { readyState: 'open', send: (text: string) => said.push(text) };
  const sender = {
    replaceTrack: async () => {},
    getParameters: () => ({ encodings: [] }),
    setParameters: () => new Promise<void>((resolve) => waiting.push(resolve)),
  };
  Object.assign(globalThis, {
    RTCPeerConnection: class {
      createDataChannel = () => channel;
      addTrack = () => sender;
      close = () => {};
    },
  });
  return { said, pass: () => waiting.splice(0).forEach((each) => each()) };
}

test('what is turned off while it is being sent directly is told to be off', async () => {
  const { said, pass } = connection();
  let isOn = true;
  const ignored = () => {};
  const direct = new Direct({
    peerId: 'bob', initiator: true, iceServers: [], codec: 'VP8', isOn: () => isOn, say: async () => {},
    added: ignored, removed: ignored, changed: ignored, connectionChanged: ignored, lost: ignored, step: ignored,
  });
  const sent = direct.setTrack('mic', { kind: 'audio' } as MediaStreamTrack);
  isOn = false;
  direct.refresh('mic');
  pass();
  await sent;
  assert.deepEqual(said, ['{"mic":false}']);
  isOn = true;
  direct.refresh('mic');
  assert.equal(said.at(-1), '{"mic":true}');
  direct.close();
});
