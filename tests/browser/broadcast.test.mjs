// A call that is watched as HLS and recorded: pictures and sound of Chromium, through FFmpeg, back in
// Chromium by hls.js, and in files that other programs read.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import HlsParser from 'hls-parser';
import { Parser } from 'm3u8-parser';
import { faults } from './lib/axe.mjs';
import { flashAndBeep, offsets, run } from './lib/flash.mjs';
import { atLeast, atMost, note } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { over, stage } from './lib/stage.mjs';
import { delay, until } from './lib/until.mjs';

const check = stage('broadcast', {
  'signaling.broadcast_height': 360,
  'signaling.broadcast_bitrate_bps': 600_000,
  'signaling.broadcast_window': 5,
});
const NAME = '14 broadcast';

/** Notes what a page is told of broadcasts. */
const listen = (one) =>
  one.evaluate(() => {
    window.told = [];
    window.ironcast.socket.on('broadcast-changed', (told) => window.told.push(told));
  });

const told = (one, kind, state, within = 20_000) =>
  until(`${one.name} is told that the ${kind} is ${state}`, async () => {
    const all = await one.evaluate(() => window.told);
    return all.findLast((each) => each.kind === kind && each.state === state) ?? Promise.reject(new Error(JSON.stringify(all)));
  }, { within });

const fetchText = async (servers, url) => {
  const answer = await fetch(new URL(url, servers.page));
  assert.equal(answer.status, 200, url);
  return { text: await answer.text(), headers: answer.headers };
};

/** What two programs of others read in it; they agree. */
function read(text) {
  const one = HlsParser.parse(text);
  const parser = new Parser();
  parser.push(text);
  parser.end();
  const two = parser.manifest;
  assert.equal(one.segments.length, two.segments.length);
  assert.equal(one.mediaSequenceBase ?? 0, two.mediaSequence);
  assert.equal(one.targetDuration, two.targetDuration);
  assert.equal(Boolean(one.endlist), Boolean(two.endList));
  assert.ok(two.segments.every(({ duration }) => duration <= two.targetDuration + 0.5), 'no segment is longer than said');
  const seconds = two.segments.reduce((sum, { duration }) => sum + duration, 0);
  return { ...two, seconds, breaks: two.segments.filter(({ discontinuity }) => discontinuity).length };
}

/** A page that watches; it plays. */
async function watch(browser, servers, room) {
  const page = await browser.newPage({ viewport: { width: 960, height: 640 } });
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  page.on('pageerror', (error) => said.push(String(error)));
  await page.goto(new URL(`watch.html?room=${room}`, servers.page).href);
  const plays = async (frames) => {
    const now = await page.evaluate(() => {
      const { video, state, hls } = window.watch;
      const shown = video.getVideoPlaybackQuality().totalVideoFrames;
      return { state, shown, time: video.currentTime, width: video.videoWidth, latency: hls?.latency };
    });
    return (now.shown >= frames && now.width > 0 && now) || Promise.reject(new Error(JSON.stringify([now, said])));
  };
  return { page, plays: (frames, within = 15_000) => until('hls.js plays', () => plays(frames), { within }), close: () => page.close() };
}

const probe = async (file) => JSON.parse(await run('ffprobe', ['-v', 'error', '-show_format', '-show_streams', '-of', 'json', file]));

/** Picture and sound of a file are in step. */
async function isInStep(file, what) {
  const apart = await offsets(file);
  atLeast(NAME, `${what}: flashes with their beep`, apart.length, 2);
  note(NAME, `${what}: sound behind picture, each`, apart.map(Math.round).join(' '), 'ms');
  // The middle one: a browser whose cores are full shows single pictures late.
  const sorted = apart.map(Math.abs).sort((a, b) => a - b);
  atMost(NAME, `${what}: sound and picture apart`, sorted[Math.floor(sorted.length / 2)], 80, 'ms');
}

/** The running FFmpegs, with their words. */
function ffmpegsOf(folder) {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const words = (pid) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/cwd`).startsWith(path.join(folder, 'broadcasts')) ? fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8') : '';
    } catch {
      return '';
    }
  };
  return pids.map((pid) => ({ pid: Number(pid), line: words(pid) })).filter(({ line }) => line);
}

/** Processor time of a program in a while, as a share of one core. */
async function share(pid) {
  const ticks = () => fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).reduce((sum, one) => sum + Number(one), 0);
  const { first, last, seconds } = await over(2, ticks);
  return (last - first) / seconds;
}

const commands = (folder) => ffmpegsOf(folder).map(({ line }) => line);

check('a call is watched and recorded while people come, mute and go', async ({ join, servers, browser, keep }) => {
  const before = (page) => page.addInitScript(flashAndBeep);
  const ada = await join('Ada', { before, width: 640, height: 360, fps: 30, simulcast: 0 });
  const room = await ada.evaluate(() => new URLSearchParams(location.search).get('room'));
  await listen(ada);
  const begun = performance.now();
  await ada.evaluate(() => window.ironcast.call.broadcasts.toggle('hls', 'speaker'));
  await told(ada, 'hls', 'live');
  note(NAME, 'from the button to the first segment', performance.now() - begun, 'ms');
  await ada.evaluate(() => window.ironcast.call.broadcasts.toggle('recording', 'speaker'));
  await told(ada, 'recording', 'live');
  const watching = () => ffmpegsOf(servers.folder).find(({ line }) => line.includes('mpegts')).pid;
  const first = watching();
  assert.equal(commands(servers.folder).length, 2);

  const watcher = keep(await watch(browser, servers, room));
  await watcher.plays(15);
  // Who comes later is told of both, and changes nothing: the same FFmpegs go on.
  const bob = await join('Bob', { width: 640, height: 360 });
  assert.deepEqual(await bob.page.$$eval('.on-air', (all) => all.map(({ textContent }) => textContent)), ['Live', 'Rec']);
  await bob.page.click('[data-do=mic]');
  await bob.page.click('[data-do=camera]');
  fs.mkdirSync(OUTPUT, { recursive: true });
  await ada.page.screenshot({ path: path.join(OUTPUT, 'on-air.png') });
  const { shown } = await watcher.plays(45);
  note(NAME, 'FFmpeg that makes 360p of VP8', await share(watching()), '% of a core');
  const later = await watcher.plays(shown + 60);
  note(NAME, 'behind the call, by hls.js', later.latency, 's');
  await watcher.page.screenshot({ path: path.join(OUTPUT, 'watch.png') });
  for (const page of [watcher.page, ada.page]) assert.deepEqual(await faults(page), []);
  await bob.leave();
  assert.equal(watching(), first, 'one FFmpeg for all that');

  const { text, headers } = await until('the live window moves on', async () => {
    const playlist = await fetchText(servers, `/hls/${room}/index.m3u8`);
    return read(playlist.text).mediaSequence > 0 && playlist;
  }, { within: 15_000 });
  assert.equal(headers.get('content-type'), 'application/vnd.apple.mpegurl');
  assert.equal(headers.get('cache-control'), 'no-cache');
  const live = read(text);
  assert.ok(live.segments.length <= 5 && live.mediaSequence > 0 && !live.endList, text);
  const segment = await fetch(new URL(`/hls/${room}/${live.segments[0].uri}`, servers.page));
  assert.equal(segment.headers.get('content-type'), 'video/mp2t');

  await ada.page.click('[data-do=more]');
  await ada.page.click('[data-do=broadcast]');
  await ada.page.keyboard.press('r');
  const watched = await told(ada, 'hls', 'ended');
  const recorded = await told(ada, 'recording', 'ended');
  await until('no FFmpeg is left', () => commands(servers.folder).length === 0);
  await until('whoever watched is told', () => watcher.page.evaluate(() => window.watch.state === 'over'), { within: 15_000 });
  assert.deepEqual(await faults(watcher.page), []);
  await watcher.page.click('.curtain button');
  await watcher.plays(10);

  const whole = read((await fetchText(servers, watched.wholeUrl)).text);
  assert.ok(whole.endList && whole.mediaSequence === 0 && whole.segments.length >= live.mediaSequence + 5);
  atMost(NAME, 'HLS: length away from what was told', Math.abs(whole.seconds * 1_000 / watched.durationMs - 1) * 100, 2, '%');
  const folder = path.join(servers.folder, 'broadcasts', 'hls', `r-${room}`);
  await isInStep(path.join(folder, 'vod.m3u8'), 'HLS');

  const file = path.join(servers.folder, 'broadcasts', recorded.url);
  const { format, streams } = await probe(file);
  assert.deepEqual(streams.map(({ codec_name }) => codec_name).sort(), ['aac', 'h264']);
  atMost(NAME, 'recording: length away from what was told', Math.abs(format.duration * 1_000 / recorded.durationMs - 1) * 100, 2, '%');
  await isInStep(file, 'recording');
  const about = JSON.parse((await fetchText(servers, recorded.aboutUrl)).text);
  const bobs = about.participants.find(({ name }) => name === 'Bob');
  assert.ok(bobs.toMs > bobs.fromMs && bobs.toMs < recorded.durationMs, JSON.stringify(about.participants));
  assert.equal(about.participants.find(({ name }) => name === 'Ada').toMs, about.durationMs);
  // Whether beeps are speech is for the media server to say, not for this test.
  assert.ok(Array.isArray(about.speaking));
});

check('H.264 of one person is passed on, and goes on with a break when it cannot be', async ({ join, servers, browser, keep }) => {
  const before = (page) => page.addInitScript(flashAndBeep);
  const options = { codec: 'H264', width: 640, height: 360, fps: 30, simulcast: 0 };
  const ada = await join('Ada', { before, ...options });
  const room = await ada.evaluate(() => new URLSearchParams(location.search).get('room'));
  await listen(ada);
  await ada.evaluate(() => window.ironcast.call.broadcasts.toggle('hls', 'speaker'));
  await told(ada, 'hls', 'live');
  // Her camera may have come a moment later than the broadcast.
  await until('nothing is made anew', () => commands(servers.folder).some((line) => line.includes('-c:v\0copy')));
  const watcher = keep(await watch(browser, servers, room));
  const { shown } = await watcher.plays(60);
  note(NAME, 'FFmpeg that passes H.264 on', await share(ffmpegsOf(servers.folder)[0].pid), '% of a core');
  // A second camera: there is one to choose now.
  const bob = await join('Bob', { ...options, width: 320, height: 180 });
  await bob.sees([ada]);
  await until('it is made anew', () => commands(servers.folder).some((line) => line.includes('libx264')), { within: 15_000 });
  await watcher.plays(shown + 90, 20_000);
  // An FFmpeg that is killed is followed by another; the call is not concerned. One that is about to
  // be replaced would be missed by nobody.
  await until('one FFmpeg is left', () => commands(servers.folder).length === 1);
  const frames = (await bob.from(ada)).framesDecoded;
  for (const { pid } of ffmpegsOf(servers.folder)) process.kill(pid, 'SIGKILL');
  const interrupted = await told(ada, 'hls', 'interrupted');
  assert.equal(interrupted.error.code, 'ffmpeg_failed');
  await until('it is live again', async () => (await ada.evaluate(() => window.told.at(-1))).state === 'live', { within: 15_000 });
  await delay(1_500);
  assert.ok((await bob.from(ada)).framesDecoded > frames);
  await ada.evaluate(() => window.ironcast.call.broadcasts.toggle('hls'));
  const ended = await told(ada, 'hls', 'ended');
  const whole = read((await fetchText(servers, ended.wholeUrl)).text);
  // One for each other FFmpeg that came after something was written.
  assert.ok(whole.breaks >= 1 && whole.breaks <= 4, `${whole.breaks} breaks`);
  assert.equal(commands(servers.folder).length, 0);
});
