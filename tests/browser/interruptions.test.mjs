// What happens within a call: pause, mute, a second picture, new credentials, another address.

import assert from 'node:assert/strict';
import { atMost, note } from './lib/report.mjs';
import { Relay } from './lib/relay.mjs';
import { over, stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('interruptions');
const name = '6 interruptions';

/** Milliseconds until the viewer decodes more frames than now. */
async function untilMore(viewer, publisher, source, within) {
  const begun = performance.now();
  const before = (await viewer.from(publisher, source))?.framesDecoded ?? 0;
  await until('more frames are decoded', async () => (await viewer.from(publisher, source))?.framesDecoded > before, { within, every: 20 });
  return performance.now() - begun;
}

/** Until no frame arrives for half a second. */
async function untilStill(viewer, publisher, source = 'camera') {
  let [frames, since] = [-1, performance.now()];
  await until('the picture stands', async () => {
    const { framesDecoded } = await viewer.from(publisher, source);
    if (framesDecoded !== frames) [frames, since] = [framesDecoded, performance.now()];
    return performance.now() - since > 500;
  });
}

check('a publisher pauses and resumes', async ({ join }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await bob.sees([ada], { frames: 5 });
  await ada.evaluate(() => window.ironcast.pauseProducer('camera'));
  await bob.until('knows of the pause', () => [...window.ironcast.tracks.values()].some(({ producerPaused }) => producerPaused));
  await untilStill(bob, ada);
  const resumed = performance.now();
  await ada.evaluate(() => window.ironcast.resumeProducer('camera'));
  await untilMore(bob, ada, 'camera', 5_000);
  atMost(name, 'picture after the publisher resumed', performance.now() - resumed, 2_000, 'ms');
});

check('a viewer pauses and resumes', async ({ join }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await bob.sees([ada], { frames: 5 });
  const { consumerId } = await bob.from(ada);
  await bob.evaluate((id) => window.ironcast.pauseConsumer(id), consumerId);
  await untilStill(bob, ada);
  const resumed = performance.now();
  await bob.evaluate((id) => window.ironcast.resumeConsumer(id), consumerId);
  await untilMore(bob, ada, 'camera', 5_000);
  atMost(name, 'picture after the viewer resumed', performance.now() - resumed, 2_000, 'ms');
});

check('mute is silence for the others, unmute is sound', async ({ join }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await bob.sees([ada], { frames: 5 });
  const energy = async () => (await bob.from(ada, 'mic')).totalAudioEnergy;
  await ada.page.click('[data-do=mic]');
  await bob.until('knows that Ada is muted', () => [...window.ironcast.tracks.values()].some(({ source, producerPaused }) => source === 'mic' && producerPaused));
  // The tone beeps once a second: three seconds without energy are silence.
  await until('silence', async () => {
    const { first, last } = await over(1.5, energy);
    return last - first < 1e-6 || Promise.reject(new Error(`${last - first}`));
  }, { within: 15_000, every: 0 });
  const unmuted = performance.now();
  const before = await energy();
  await ada.page.click('[data-do=mic]');
  await until('the tone is heard', async () => (await energy()) > before + 1e-5, { within: 6_000 });
  // A second of it may pass until the next beep.
  atMost(name, 'sound after unmute', performance.now() - unmuted, 3_000, 'ms');
});

check('a screen is shared beside the camera', async ({ join }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await bob.sees([ada], { frames: 5 });
  const begun = performance.now();
  await ada.page.click('[data-do=screen]');
  await until('the screen is seen', async () => (await bob.from(ada, 'screen'))?.framesDecoded > 0, { within: 10_000 });
  note(name, 'screen seen after', performance.now() - begun, 'ms');
  atMost(name, 'camera goes on beside the screen', await untilMore(bob, ada, 'camera', 5_000), 2_000, 'ms');
  assert.equal(await bob.evaluate(() => document.querySelectorAll('.tile.screen').length), 1);
  await ada.page.click('[data-do=screen]');
  await bob.until('no longer sees the screen', () => ![...window.ironcast.tracks.values()].some(({ source }) => source === 'screen'));
  await untilMore(bob, ada, 'camera', 2_000);
});

/** The longest pause of the viewer's picture while `code` runs and until two seconds more came. */
async function pauseDuring(viewer, publisher, code) {
  const { consumerId, framesDecoded } = await viewer.from(publisher);
  await viewer.evaluate((id) => window.frameWatch.start(id), consumerId);
  await code();
  await until('frames go on', async () => (await viewer.from(publisher)).framesDecoded > framesDecoded + 45, { within: 15_000 });
  return viewer.evaluate((id) => window.frameWatch.stop(id), consumerId);
}

check('ICE is restarted on all transports', async ({ join, servers }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await Promise.all([bob.sees([ada], { frames: 5 }), ada.sees([bob])]);
  const before = await bob.stats();
  for (const [who, viewer, publisher] of [[ada, bob, ada], [bob, bob, ada]]) {
    const { pauseMs } = await pauseDuring(viewer, publisher, () => who.evaluate(() => window.ironcast.restartIce()));
    atMost(name, `pause while ${who.name} restarts ICE`, pauseMs, 2_000, 'ms');
    await who.until('is connected', () => window.ironcast.sendTransport.connectionState === 'connected' && window.ironcast.recvTransport.connectionState === 'connected');
  }
  const fragment = ({ receive }) => receive.find(({ type }) => type === 'transport').iceLocalUsernameFragment;
  assert.notEqual(fragment(await bob.stats()), fragment(before), 'Bob has new credentials');
  assert.equal((await servers.control.count()).transports, 4, 'no transport was made anew');
});

check('the address of a client changes silently', async ({ join, keep, servers }) => {
  const [up, down] = [keep(new Relay()), keep(new Relay())];
  const ada = await join('Ada', { relay: up });
  const bob = await join('Bob', { relay: down });
  await Promise.all([bob.sees([ada], { frames: 15 }), ada.sees([bob])]);
  for (const [who, relay] of [['publisher', up], ['viewer', down]]) {
    const { pauseMs } = await pauseDuring(bob, ada, () => relay.rebind());
    // Chromium checks every 2.7 s, and only a check tells the server of the new address.
    atMost(name, `pause when the ${who}'s address changes`, pauseMs, 3_500, 'ms');
    assert.ok(relay.counts.rebinds >= 1);
  }
  const restarts = await bob.evaluate(() => window.ironcast.events.filter(({ name }) => name === 'iceRestarted' || name === 'rejoin').length);
  assert.equal(restarts, 0, 'nobody had to help');
  assert.equal((await servers.control.count()).transports, 4);
});
