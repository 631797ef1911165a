// Firefox and Chromium in one call: another maker's DTLS, probing, layers and feedback.

import assert from 'node:assert/strict';
import os from 'node:os';
import { atLeast, atMost, note } from './lib/report.mjs';
import { launchFirefox } from './lib/firefox.mjs';
import { Room } from './lib/room.mjs';
import { over, stage } from './lib/stage.mjs';
import { delay, until } from './lib/until.mjs';

// Firefox gathers no loopback candidates where there is another network.
const outward = Object.values(os.networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal);
const check = stage('firefox', outward ? { 'rtc.announced_address': outward.address } : {});
const FPS = 15;

check('Firefox and Chromium see and hear each other, on thin links too', async ({ join, keep, servers }) => {
  const name = '11 firefox';
  const firefox = keep(await launchFirefox());
  const flo = await join('Flo', { browser: firefox });
  const cleo = await join('Cleo');
  await Promise.all([flo.sees([cleo], { frames: 15 }), cleo.sees([flo], { frames: 15 })]);
  atMost(name, 'join to first picture, Chromium', await cleo.joinMs(), await cleo.joinLimitMs(1_500), 'ms');
  await until('Firefox sends all layers', async () => {
    const sent = await flo.sent();
    return sent.filter(({ framesSent }) => framesSent > 30).length === 3 || Promise.reject(new Error(JSON.stringify(sent.map(({ framesSent }) => framesSent))));
  }, { within: 20_000 });

  const id = await cleo.evaluate(() => window.ironcast.recvTransport.id);
  for (const limitBps of [300_000, 400_000, 700_000]) {
    await servers.control.call('PATCH', `/v1/transports/${id}`, { maxOutgoingBitrate: limitBps });
    await delay(5_000);
    const before = await cleo.from(flo);
    await delay(6_000);
    const after = await cleo.from(flo);
    const which = `Firefox's camera for ${limitBps / 1_000} kb/s`;
    atLeast(name, `${which}: width`, after.frameWidth, 480);
    atLeast(name, `${which}: frames/s`, (after.framesDecoded - before.framesDecoded) / 6, FPS * 0.8);
    atMost(name, `${which}: packets lost`, after.packetsLost - before.packetsLost, 3);
  }
  const sound = await cleo.from(flo, 'mic');
  note(name, 'energy of the sound', sound.totalAudioEnergy);
  const seen = await flo.from(cleo);
  note(name, 'Firefox decoded of Chromium', `${seen.framesDecoded} frames, ${seen.frameWidth} wide, ${seen.packetsLost} lost`);
  await flo.leave();
  await cleo.until('is alone', () => window.ironcast.participants.size === 0);
});

for (const { codec, layers } of [{ codec: 'VP8', layers: 2 }, { codec: 'VP9', layers: 1 }]) {
  check(`Firefox and Chromium in a room of the control API, ${codec}`, async ({ browser, keep, servers }) => {
    const name = `11 firefox ${codec}`;
    const room = await Room.open(servers);
    const firefox = await launchFirefox();
    try {
      const both = { Firefox: await room.browser(firefox), Chromium: await room.browser(browser) };
      keep(both.Chromium);
      const sent = {};
      for (const [who, { step }] of Object.entries(both)) sent[who] = await step('publish', { codec, layers, width: 480, height: 270 });
      await both.Firefox.step('watch', { producerIds: sent.Chromium });
      await both.Chromium.step('watch', { producerIds: sent.Firefox });
      for (const [who, { step }] of Object.entries(both)) {
        await until(`${who} has the whole picture`, async () => {
          const { video } = await step('received');
          return (video?.framesDecoded > 0 && video.frameWidth === 480) || Promise.reject(new Error(JSON.stringify(video)));
        }, { within: 20_000 });
      }
      const received = async () => ({ Firefox: await both.Firefox.step('received'), Chromium: await both.Chromium.step('received') });
      const { first, last, seconds } = await over(2, received);
      for (const who of Object.keys(both)) {
        const gained = (kind, field) => last[who][kind][field] - first[who][kind][field];
        assert.equal(last[who].video.codec, `video/${codec}`);
        atLeast(name, `frames/s at ${who}`, gained('video', 'framesDecoded') / seconds, FPS * 0.8);
        atLeast(name, `sound of its time at ${who}`, gained('audio', 'totalSamplesReceived') / 480 / seconds, 90, '%');
        assert.ok(gained('audio', 'totalAudioEnergy') > 0, `${who} hears the tone`);
      }
      const fragments = async () => (await servers.control.snapshot()).routers.flatMap(({ transports }) => transports).map(({ iceParameters }) => iceParameters.usernameFragment);
      const before = await fragments();
      await both.Firefox.step('restartIce');
      assert.equal((await fragments()).filter((one) => !before.includes(one)).length, 2, 'ICE is restarted for both of its transports');
      const shown = async () => Object.values(await received()).map(({ video }) => video.framesDecoded);
      const atRestart = await shown();
      await until('frames come after it', async () => (await shown()).every((frames, index) => frames > atRestart[index] + FPS));
      for (const { step } of Object.values(both)) await step('leave');
      await until('all of both is gone', async () => (await servers.control.count()).transports === 0);
    } finally {
      await firefox.close();
      await room.close();
    }
  });
}
