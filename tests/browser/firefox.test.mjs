// Firefox and Chromium in one call: another maker's DTLS, probing, layers and feedback.

import os from 'node:os';
import { atLeast, atMost, note } from './lib/report.mjs';
import { launchFirefox } from './lib/firefox.mjs';
import { stage } from './lib/stage.mjs';
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
