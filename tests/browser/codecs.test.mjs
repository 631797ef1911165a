// The same call with the other codecs: H264 in layers, VP9 and AV1 as single streams.

import assert from 'node:assert/strict';
import { atLeast, atMost, note } from './lib/report.mjs';
import { over, stage } from './lib/stage.mjs';

const check = stage('codecs');
const FPS = 15;
const SECONDS = 8;

// Two cores encode three and decode six pictures in software: the newer a codec, the smaller.
const CALLS = [
  { codec: 'H264', width: 960, height: 540, layers: 3 },
  { codec: 'VP9', width: 640, height: 360, layers: 1 },
  { codec: 'AV1', width: 480, height: 270, layers: 1 },
];

for (const { codec, width, height, layers } of CALLS) {
  check(`three people with ${codec}`, async ({ join }) => {
    const name = `2 ${codec}`;
    const everybody = [];
    for (const who of ['Ada', 'Bob', 'Eve']) everybody.push(await join(who, { codec, width, height }));
    for (const one of everybody) await one.sees(everybody.filter((other) => other !== one), { frames: 5 });
    for (const one of everybody) {
      await one.until('sends all its layers', (layers) => window.ironcast.producers.get('camera').getStats()
        .then((report) => [...report.values()].filter((record) => record.type === 'outbound-rtp' && record.framesSent > 0))
        .then((sent) => sent.length === layers), { argument: layers, within: 15_000 });
    }
    // Until its estimate has risen, a browser sends and withholds its largest layer by turns.
    if (layers > 1) for (const one of everybody) await one.estimates(1_200_000);
    const { first, last, seconds } = await over(SECONDS, () => Promise.all(everybody.map((one) => one.received())));
    everybody.forEach((one, index) => {
      assert.equal(last[index].length, 4);
      for (const now of last[index]) {
        const before = first[index].find((track) => track.id === now.id);
        const which = `${one.name} < ${everybody.find(({ id }) => id === now.participantId).name}`;
        if (now.kind === 'audio') {
          assert.ok(now.totalAudioEnergy > before.totalAudioEnergy, `${which}: the tone is heard`);
          continue;
        }
        assert.equal(now.codec, `video/${codec}`);
        atLeast(name, `frames/s ${which}`, (now.framesDecoded - before.framesDecoded) / seconds, FPS * 0.9);
        atMost(name, `freezes ${which}`, now.freezeCount - before.freezeCount, 0);
        note(name, `size ${which}`, `${now.frameWidth}x${now.frameHeight}`);
      }
    });
    const { receive } = await everybody[0].stats();
    const ciphers = receive.filter(({ type }) => type === 'transport').map(({ srtpCipher }) => srtpCipher);
    for (const cipher of ciphers) assert.match(cipher, /GCM/);
  });
}
