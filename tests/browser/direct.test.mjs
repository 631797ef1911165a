// Two people talk directly; the third one brings the media server, and when he goes they go back:
// make before break, so that nobody stands still or is silent meanwhile.

import assert from 'node:assert/strict';
import path from 'node:path';
import { atLeast, atMost, note } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';
import { delay, until } from './lib/until.mjs';
import { voice } from './lib/voice.mjs';

const PAUSE_S = 3;
const check = stage('direct', { 'signaling.p2p': true, 'signaling.p2p_pause_s': PAUSE_S });
const GAP_MS_MAX = 500;
const SWITCH_MS_MAX = 2_000;
const size = { width: 640, height: 360 };

/**
 * In the page: the longest time that a tile showed no new picture, and that no sound was played, whichever way it
 * came. Told by the elements of the page, which is what people see and hear.
 */
function watchElements() {
  const gaps = { picture: 0, sound: 0 };
  const watch = { gaps, stop: false };
  let [shown, heard] = [performance.now(), performance.now()];
  const seen = new Map();
  const look = async () => {
    if (watch.stop) return;
    const now = performance.now();
    for (const video of document.querySelectorAll('.tile:not(.self) video')) {
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      const before = seen.get(video) ?? { frames: -1, source: null };
      // Another source counts from nothing.
      if (frames > 0 && (frames !== before.frames || video.srcObject !== before.source)) shown = now;
      seen.set(video, { frames, source: video.srcObject });
    }
    gaps.picture = Math.max(gaps.picture, now - shown);
    let samples = 0;
    for (const track of window.ironcast.tracks.values()) {
      if (track.consumer.kind !== 'audio') continue;
      const report = await track.consumer.getStats();
      for (const record of report.values()) {
        if (record.type === 'inbound-rtp') samples += record.totalSamplesReceived - (record.concealedSamples ?? 0) + track.consumer.id.length;
      }
    }
    if (samples !== watch.samples) heard = performance.now();
    watch.samples = samples;
    gaps.sound = Math.max(gaps.sound, performance.now() - heard);
    setTimeout(look, 20);
  };
  window.elementWatch = watch;
  void look();
}

const watched = (one) => one.evaluate(() => {
  window.elementWatch.stop = true;
  return window.elementWatch.gaps;
});

const mode = (one, mode) => one.until(`talks by ${mode}`, (mode) => window.ironcast.mode === mode, { argument: mode, within: 20_000 });

const width = async (one, other) => (await one.from(other))?.frameWidth ?? 0;

check('two talk directly, a third brings the server, and back', async ({ join, servers }) => {
  const name = '14 direct';
  const ada = await join('Ada', size);
  const bob = await join('Bob', size);
  await Promise.all([ada.sees([bob], { frames: 10 }), bob.sees([ada], { frames: 10 })]);
  atMost(name, 'join to first picture, directly', await bob.joinMs(), await bob.joinLimitMs(1_500), 'ms');
  for (const one of [ada, bob]) await mode(one, 'p2p');
  const { routers, transports } = await servers.control.count();
  assert.deepEqual({ routers, transports }, { routers: 0, transports: 0 }, 'the media server has nothing of it');
  await until('both see the whole picture', async () => (await width(ada, bob)) === 640 && (await width(bob, ada)) === 640, { within: 20_000 });

  // The third one comes.
  for (const one of [ada, bob]) await one.evaluate(watchElements);
  const begun = performance.now();
  const eve = await join('Eve', size);
  const joined = performance.now();
  await Promise.all([eve.sees([ada, bob]), ada.sees([eve]), bob.sees([eve])]);
  const all = await Promise.all([ada, bob, eve].map(async (one) => {
    await one.until('sees two', () => [...window.ironcast.tracks.values()].filter(({ consumer }) => consumer.kind === 'video').length === 2, { every: 20 });
    return one.evaluate(() => {
      const step = (name) => window.ironcast.events.findLast((event) => event.name === name);
      return { switched: step('mode')?.time - step('modeSwitch')?.time };
    });
  }));
  // From the moment when the page asked to join; opening a browser's page is not part of it.
  const whole = await eve.evaluate(() => performance.now() - window.ironcast.events.find(({ name }) => name === 'joinStarted').time);
  atMost(name, 'third join to all decode all', whole, await eve.joinLimitMs(SWITCH_MS_MAX), 'ms');
  note(name, 'page opened to all decode all', performance.now() - begun, 'ms');
  for (const one of [ada, bob]) await mode(one, 'sfu');
  all.slice(0, 2).forEach(({ switched }, index) => note(name, `switch to the server, ${['Ada', 'Bob'][index]}`, switched, 'ms'));
  await delay(500);
  for (const one of [ada, bob]) {
    const gaps = await watched(one);
    atMost(name, `longest gap of pictures to the server, ${one.name}`, gaps.picture, GAP_MS_MAX, 'ms');
    atMost(name, `longest gap of sound to the server, ${one.name}`, gaps.sound, GAP_MS_MAX, 'ms');
    assert.equal(await one.evaluate(() => window.ironcast.direct), null, 'the direct connection is closed');
  }
  assert.ok(joined > begun);
  await until('both see the whole picture', async () => (await width(ada, bob)) >= 608 && (await width(bob, ada)) >= 608, { within: 20_000 });

  // A mute and a shared screen outlive the change.
  await ada.evaluate(() => window.ironcast.setMicMuted(true));
  for (const one of [ada, bob]) await one.evaluate(watchElements);
  await eve.leave();
  for (const one of [ada, bob]) await mode(one, 'p2p');
  await Promise.all([ada.sees([bob], { frames: 10 }), bob.sees([ada], { frames: 10 })]);
  await delay(500);
  for (const one of [ada, bob]) {
    const gaps = await watched(one);
    atMost(name, `longest gap of pictures back, ${one.name}`, gaps.picture, GAP_MS_MAX, 'ms');
    if (one === ada) atMost(name, `longest gap of sound back, ${one.name}`, gaps.sound, GAP_MS_MAX, 'ms');
  }
  await bob.until('knows that Ada is muted', () => [...window.ironcast.tracks.values()].some(({ source, producerPaused }) => source === 'mic' && producerPaused));
  atLeast(name, 'width after going back', await width(bob, ada), 608);
  await until('the media server has nothing of it', async () => {
    const { routers, transports } = await servers.control.count();
    return routers + transports === 0;
  }, { within: 10_000 });
  await ada.page.screenshot({ path: path.join(OUTPUT, 'direct.png') });

  // What changes while two talk directly.
  await bob.evaluate(() => window.ironcast.setTrack('camera', null));
  await ada.until('sees that the camera is off', () => [...window.ironcast.tracks.values()].some(({ source, producerPaused }) => source === 'camera' && producerPaused));
  await ada.evaluate(async () => {
    const canvas = document.createElement('canvas');
    const pen = canvas.getContext('2d');
    setInterval(() => pen.fillRect(Math.random() * 300, 0, 9, 99), 50);
    await window.ironcast.setTrack('screen', canvas.captureStream(10).getVideoTracks()[0]);
  });
  await until('Bob sees the screen', async () => (await bob.from(ada, 'screen'))?.framesDecoded > 0);
  await ada.evaluate(() => window.ironcast.setTrack('screen', null));
  await bob.until('sees it no more', () => ![...window.ironcast.tracks.values()].some(({ source }) => source === 'screen'));
  const uncaught = [ada, bob, eve].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});

check('who cannot talk directly brings the server, and so does a connection that is lost', async ({ join }) => {
  const ada = await join('Ada', size);
  const bob = await join('Bob', size);
  await Promise.all([ada.sees([bob]), bob.sees([ada])]);
  await bob.evaluate(() => window.ironcast.socket.emit('call:mode-switched', { mode: 'p2p', success: false, error: 'a test' }));
  for (const one of [ada, bob]) await mode(one, 'sfu');
  await Promise.all([ada.sees([bob]), bob.sees([ada])]);
  await bob.leave();
  const old = await join('Old', { ...size, p2p: 0 });
  await Promise.all([ada.sees([old]), old.sees([ada])]);
  await delay(PAUSE_S * 1_000 + 1_000);
  for (const one of [ada, old]) await mode(one, 'sfu');
});

check('who speaks is shown while two talk directly, by what each browser hears', async ({ join }) => {
  const before = (page) => page.addInitScript(voice);
  const [ada, bob] = [await join('Ada', { ...size, before }), await join('Bob', { ...size, before })];
  for (const one of [ada, bob]) await mode(one, 'p2p');
  await Promise.all([ada.sees([bob]), bob.sees([ada])]);
  assert.equal(await ada.page.textContent('.mode'), 'Direct P2P');
  const outlined = (names) => Promise.all([ada, bob].map((one) => one.until(`sees that ${names || 'nobody'} speaks`, (names) => {
    const tiles = [...document.querySelectorAll('.tile.speaking .who')].map(({ textContent }) => textContent.replace(' (you)', ''));
    return tiles.sort().join() === names;
  }, { argument: names, within: 5_000, every: 20 })));
  const speaks = (one, is) => one.evaluate((is) => (window.voice.speaks = is), is);
  await outlined('');
  const begun = performance.now();
  await speaks(ada, true);
  await outlined('Ada');
  atMost('14 direct', 'until who speaks is shown, directly', performance.now() - begun, 1_500, 'ms');
  await speaks(bob, true);
  await outlined('Ada,Bob');
  await ada.evaluate(() => window.ironcast.setMicMuted(true));
  await outlined('Bob');
  await speaks(bob, false);
  await outlined('');
  // With the third one the server hears it, and what was heard here counts no more.
  await speaks(bob, true);
  await outlined('Bob');
  const eve = await join('Eve', { ...size, before });
  for (const one of [ada, bob]) await mode(one, 'sfu');
  await eve.until('sees that Bob speaks', () => document.querySelector('.tile.speaking .who')?.textContent === 'Bob');
  await outlined('Bob');
  await speaks(bob, false);
  await outlined('');
});

check('three go on directly while the media server is away, and go back to it', async ({ join, servers }) => {
  const name = '14 direct';
  const everybody = [await join('Ada', size), await join('Bob', size), await join('Eve', size)];
  const [ada, bob, eve] = everybody;
  const allSee = () => Promise.all(everybody.map((one) => one.sees(everybody.filter((other) => other !== one), { frames: 5 })));
  for (const one of everybody) await mode(one, 'sfu');
  await allSee();
  const begun = performance.now();
  await servers.kill('controlplane');
  await servers.kill('dataplane');
  for (const one of everybody) await mode(one, 'p2p');
  await allSee();
  atMost(name, 'media server killed to all see all directly', performance.now() - begun, 8_000, 'ms');
  for (const one of everybody) {
    const said = await one.evaluate(() => window.ironcast.events.filter(({ name, code }) => name === 'error' && code === 'media_unavailable').length);
    assert.equal(said, 1, `${one.name} is told once`);
  }
  // One goes, and another one comes to those who talk directly.
  await eve.leave();
  everybody.pop();
  everybody.push(await join('Dora', size));
  await allSee();
  for (const one of everybody) assert.equal(await one.evaluate(() => window.ironcast.mode), 'p2p');

  await servers.startOne('dataplane');
  await servers.startOne('controlplane');
  for (const one of everybody) await mode(one, 'sfu');
  await allSee();
  const uncaught = [ada, bob, eve].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});
