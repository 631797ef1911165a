// What loopback hides: signaling that is far away, and a media path that is. A browser sends as soon
// as its own description is set, a round trip before the server is told what it sends.

import { atLeast, atMost, note } from './lib/report.mjs';
import { delaySignaling, framesOf, samplesSince, watchSending } from './lib/distance.mjs';
import { FarRelay } from './lib/far.mjs';
import { stage } from './lib/stage.mjs';
import { undisturbed } from './lib/undisturbed.mjs';
import { delay, until } from './lib/until.mjs';

const check = stage('distance');
const FPS = 15;
/** The page says that a browser may begin with so much. */
const START_BPS = 1_000_000;
/** Camera and screen need less: where a probe found more, falling back to this is no harm. */
const ENOUGH_BPS = 4_000_000;

/** `produce` comes so late. */
const far = (delayMs) => async (page) => {
  await page.addInitScript(delaySignaling, delayMs);
  await page.addInitScript(watchSending);
};

/** All three layers of the camera are sent at their full rate. */
async function sendsEverything(ada) {
  await until('three layers are sent', async () => {
    const sent = await ada.sent();
    return sent.length === 3 && sent.every(({ framesPerSecond }) => framesPerSecond >= FPS - 2)
      || Promise.reject(new Error(JSON.stringify(sent.map(({ framesPerSecond }) => framesPerSecond))));
  }, { within: 20_000 });
}

/** Joins, shares a screen; what is sent meanwhile is as if the server were next door. */
async function joinAndShare({ join, delayMs, relay, name }) {
  const relayed = (width, height) => ({ before: far(delayMs), relay: relay(), width, height });
  const ada = await join('Ada', relayed(960, 540));
  // Two layers: three browsers' worth of encoders would fill the cores of a small machine.
  const bob = await join('Bob', relayed(480, 270));
  await bob.sees([ada], { frames: 5 });
  await delay(4_000);
  for (const one of [ada, bob]) {
    const samples = await samplesSince(one, 0);
    // With sound alone it is lower still.
    const begun = samples.findIndex(({ estimate }) => estimate >= START_BPS);
    const lowest = Math.min(...samples.slice(begun).map(({ estimate }) => estimate));
    atLeast(name, `lowest estimate of ${one.name} at the join, of where it began`, (100 * lowest) / START_BPS, 80, '%');
    const layers = samples.at(-1).streams.sort((a, b) => (a.frameWidth ?? 0) - (b.frameWidth ?? 0));
    const all = Math.max(...layers.map(({ framesSent }) => framesSent));
    layers.forEach(({ framesSent, qualityLimitationReason }, layer) => {
      atLeast(name, `layer ${layer} of ${one.name}, frames of all (limited by: ${qualityLimitationReason})`, (100 * framesSent) / all, 95, '%');
    });
  }

  await sendsEverything(ada);
  await ada.estimates(1_500_000, 30_000);
  const begun = await ada.evaluate(() => window.sendWatch.now());
  const camera = (await ada.sent()).map(({ ssrc }) => ssrc);
  const before = Math.min(ENOUGH_BPS, (await samplesSince(ada, begun - 1_000)).at(-1).estimate);
  await ada.page.click('[data-do=screen]');
  await until('the screen is seen', async () => (await bob.from(ada, 'screen'))?.framesDecoded > 5, { within: 10_000 });
  await delay(4_000);
  const samples = await samplesSince(ada, begun);
  const lowest = Math.min(...samples.map(({ estimate }) => estimate));
  atLeast(name, 'estimate while a screen share starts, of that before', (100 * lowest) / before, 80, '%');
  const seconds = (samples.at(-1).time - samples[0].time) / 1_000;
  for (const [layer, ssrc] of camera.entries()) {
    atLeast(name, `camera's layer ${layer} beside the screen, frames of those captured`, (100 * framesOf(samples, ssrc)) / (FPS * seconds), 95, '%');
  }
}

for (const [delayMs, pathMs] of [[0, 0], [50, 25], [150, 50], [300, 0], [800, 100]]) {
  check(`two join and share a screen: produce ${delayMs} ms late, path ${pathMs} ms`, async ({ join, keep, skip }) => {
    const name = `10 distance, ${delayMs} ms, path ${pathMs} ms`;
    const [people, relays] = [[], []];
    const relay = () => (pathMs ? relays[relays.push(keep(new FarRelay({ delayMs: pathMs }))) - 1] : undefined);
    const joins = async (...words) => people[people.push(await join(...words)) - 1];
    await undisturbed(name, { skip, relays: () => relays }, async () => {
      await Promise.all(people.splice(0).map((one) => one.close()));
      relays.length = 0;
      await joinAndShare({ join: joins, delayMs, relay, name });
    });
  });
}

check('six first frames in a call of three', async ({ join }) => {
  const name = '10 first frames';
  const people = [];
  for (const who of ['Ada', 'Bob', 'Eve']) {
    people.push(await join(who, { before: far(0), width: 480, height: 270 }));
    for (const one of people) await one.sees(people.filter((other) => other !== one), { frames: 1 });
  }
  for (const one of people) {
    const first = await until('first frames were seen', async () => {
      const list = await one.evaluate(() => [...window.sendWatch.tracks.values()]);
      return list.length === 2 && list.every(({ firstMs }) => firstMs !== undefined) && list;
    });
    const limitMs = await one.joinLimitMs(350);
    for (const { participantId, firstMs } of first) {
      const other = people.find(({ id }) => id === participantId);
      atMost(name, `${one.name} < ${other.name}`, firstMs, limitMs, 'ms');
    }
  }
});

for (const [limitBps, width] of [[300_000, 480], [400_000, 480], [700_000, 480]]) {
  check(`a receiver who can have ${limitBps / 1_000} kb/s`, async ({ join, servers }) => {
    const name = `10 receiver of ${limitBps / 1_000} kb/s`;
    const [ada, bob] = [await join('Ada', { before: far(0) }), await join('Bob')];
    await bob.sees([ada], { frames: 5 });
    const { id } = await bob.evaluate(() => ({ id: window.ironcast.recvTransport.id }));
    await servers.control.call('PATCH', `/v1/transports/${id}`, { maxOutgoingBitrate: limitBps });
    await sendsEverything(ada);
    await delay(5_000);
    const before = await bob.from(ada);
    await delay(10_000);
    const after = await bob.from(ada);
    note(name, 'layers', (await ada.sent()).map(({ frameWidth, targetBitrate, framesPerSecond }) => `${frameWidth}: ${Math.round(targetBitrate / 1_000)} kb/s, ${framesPerSecond}/s`).join('; '));
    note(name, 'received', (8 * (after.bytesReceived - before.bytesReceived)) / 10_000, 'kb/s');
    atLeast(name, 'width', after.frameWidth, width);
    atLeast(name, 'frames/s', (after.framesDecoded - before.framesDecoded) / 10, 7);
    atMost(name, 'packets lost', after.packetsLost - before.packetsLost, 5);
  });
}

check('a camera is muted without telling anybody, and on and off again', async ({ join }) => {
  const name = '10 muted camera';
  const [ada, bob] = [await join('Ada', { before: far(0) }), await join('Bob')];
  await bob.sees([ada], { frames: 15 });
  await sendsEverything(ada);
  const asked = async () => (await ada.sent()).reduce((sum, { pliCount }) => sum + (pliCount ?? 0), 0);
  const enable = (on) => ada.evaluate((on) => (window.ironcast.producers.get('camera').track.enabled = on), on);
  const before = await asked();
  await enable(false);
  await delay(15_000);
  atMost(name, 'key frames asked for in 15 s', (await asked()) - before, 3);
  for (let times = 0; times < 5; times += 1) {
    await enable(true);
    await delay(1_000);
    await enable(false);
    await delay(1_000);
  }
  await enable(true);
  const { framesDecoded } = await bob.from(ada);
  await until('frames come again', async () => (await bob.from(ada)).framesDecoded > framesDecoded + 45);
  atMost(name, 'key frames asked for while it went on and off', (await asked()) - before, 15);
});
