// Three people, VP8 simulcast and Opus: everybody sees and hears everybody.

import assert from 'node:assert/strict';
import path from 'node:path';
import { atLeast, atMost, note } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { over, stage } from './lib/stage.mjs';

const check = stage('call');
const FPS = 15;
const SECONDS = 20;

check('three people see and hear each other', async ({ join, label }) => {
  const name = '1 call';
  const ada = await join('Ada');
  const adaJoined = performance.now();
  const bob = await join('Bob');
  await bob.until('has a picture', () => window.ironcast.events.some(({ name }) => name === 'firstFrame'));
  const eve = await join('Eve');
  await eve.until('has a picture', () => window.ironcast.events.some(({ name }) => name === 'firstFrame'));
  atMost(name, 'join to first picture, second', await bob.joinMs(), await bob.joinLimitMs(1_500), 'ms');
  atMost(name, 'join to first picture, third', await eve.joinMs(), await eve.joinLimitMs(1_500), 'ms');

  const everybody = [ada, bob, eve];
  for (const one of everybody) await one.sees(everybody.filter((other) => other !== one), { frames: 5 });

  // The publisher's estimate rises only if the feedback of the server is right and in time.
  await ada.estimates(1_000_000, 15_000 - Math.min(14_000, performance.now() - adaJoined));
  note('7 feedback', 'estimate above 1 Mb/s after', (performance.now() - adaJoined) / 1_000, '<= 15 s');
  // Until then a browser sends and withholds its largest layer by turns.
  for (const one of everybody) await one.estimates(1_200_000);
  await ada.page.screenshot({ path: path.join(OUTPUT, 'call-1280x800.png') });

  const { first, last, seconds } = await over(SECONDS, async () => ({
    received: await Promise.all(everybody.map((one) => one.received())),
    sent: await Promise.all(everybody.map((one) => one.sent())),
  }));
  everybody.forEach((one, index) => {
    assert.equal(last.received[index].length, 4, `${one.name} receives two pictures and two sounds`);
    for (const now of last.received[index]) {
      const before = first.received[index].find((track) => track.id === now.id);
      const other = everybody.find(({ id }) => id === now.participantId).name;
      const which = `${one.name} < ${other}`;
      if (now.kind === 'video') {
        assert.equal(now.codec, 'video/VP8');
        atLeast(name, `frames/s ${which}`, (now.framesDecoded - before.framesDecoded) / seconds, FPS * 0.9);
        atMost(name, `freezes ${which}`, now.freezeCount - before.freezeCount, 0);
      } else {
        assert.equal(now.codec, 'audio/opus');
        const samples = now.totalSamplesReceived - before.totalSamplesReceived;
        const concealed = now.concealedSamples - before.concealedSamples;
        atMost(name, `sound concealed ${which}`, (100 * concealed) / samples, 2, '%');
        assert.ok(now.totalAudioEnergy > before.totalAudioEnergy, `${which}: the tone is heard`);
      }
    }
    const layers = last.sent[index];
    assert.equal(layers.length, 3, `${one.name} has three encodings`);
    layers.forEach((layer) => {
      const before = first.sent[index].find(({ id }) => id === layer.id);
      assert.ok(layer.framesSent > before.framesSent + FPS, `${one.name} sends layer ${layer.rid}`);
    });
    note('7 feedback', `layers of ${one.name}`, layers.map(({ frameWidth }) => frameWidth).join(', '));
  });

  for (const one of everybody) {
    const { send, receive } = await one.stats();
    for (const record of [...send, ...receive].filter(({ type }) => type === 'transport')) {
      assert.match(record.srtpCipher, /GCM/, `${one.name}: ${record.srtpCipher}`);
      assert.equal(record.dtlsState, 'connected');
      note(name, `cipher ${one.name}`, `${record.srtpCipher} (DTLS ${record.tlsVersion})`);
    }
  }
  await ada.page.setViewportSize({ width: 390, height: 844 });
  await ada.until('has laid out the phone', () => document.documentElement.clientWidth === 390);
  await ada.page.screenshot({ path: path.join(OUTPUT, 'call-390x844.png') });
  assert.deepEqual(everybody.flatMap((one) => one.console.filter((line) => line.startsWith('uncaught'))), [], label);
});
