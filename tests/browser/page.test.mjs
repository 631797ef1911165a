// The page in each of its states, dark and light, large and as on a phone: a picture of each, for the
// eyes, and what axe-core finds, which is nothing.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { faults } from './lib/axe.mjs';
import { note } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('page');
const name = '15 page';
const SIZES = { large: { width: 1280, height: 800 }, phone: { width: 390, height: 844 }, small: { width: 360, height: 640 } };
const small = { width: 320, height: 180 };

/** Looks at one state in both themes and both sizes; the page ends as it was. */
async function look(page, state, { sizes = ['large', 'phone'], themes = ['dark', 'light'] } = {}) {
  fs.mkdirSync(OUTPUT, { recursive: true });
  const found = [];
  for (const size of sizes) {
    await page.setViewportSize(SIZES[size]);
    for (const colorScheme of themes) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await until('it is laid out', () => page.evaluate(
        ([width, theme]) => document.documentElement.clientWidth === width && document.documentElement.dataset.theme === theme,
        [SIZES[size].width, colorScheme],
      ));
      await page.screenshot({ path: path.join(OUTPUT, `page.${state}.${size}.${colorScheme}.png`) });
      for (const fault of await faults(page)) found.push(`${state}, ${size}, ${colorScheme}: ${fault}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) found.push(`${state}, ${size}: ${wide} pixels too wide`);
    }
  }
  await page.setViewportSize(SIZES.large);
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  note(name, `found by axe-core: ${state}`, found.length, '0');
  assert.deepEqual(found, []);
}

const opened = (page, file = '', query = {}) => `${page}${file}?${new URLSearchParams(query)}`;

check('before the call, after it, and the watch page', async ({ browser, servers, keep }) => {
  const context = keep(await browser.newContext({ viewport: SIZES.large }));
  const page = await context.newPage();
  await page.goto(opened(servers.page, '', { room: 'copper-lantern', name: 'Ada Lovelace' }));
  await until('the camera is seen', () => page.evaluate(() => document.querySelector('.preview video').videoWidth > 0));
  await until('the microphone is heard', () => page.evaluate(() => !/scaleX\(0\)|^$/.test(document.querySelector('.meter i').style.transform)));
  await until('devices can be chosen', () => page.evaluate(() => document.querySelectorAll('[name=camera] option').length > 0));
  await look(page, 'lobby');
  await page.click('[data-toggle=camera]');
  await look(page, 'lobby-without-camera', { sizes: ['large'] });
  // What is chosen is kept, against what the system says.
  await page.click('[data-theme-toggle]');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
  await page.click('[data-theme-toggle]');

  await page.goto(opened(servers.page, 'watch.html', { room: 'copper-lantern' }));
  await until('it waits', () => page.evaluate(() => window.watch?.state === 'waiting'));
  await look(page, 'watch');
});

check('devices are chosen before the call and in it, and the link is copied', async ({ join, browser, servers, keep }) => {
  const bob = await join('Bob', { ...small, room: 'devices' });
  const context = keep(await browser.newContext({ viewport: SIZES.large }));
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  await page.goto(opened(servers.page, '', { room: 'devices', name: 'Ada', width: 320, height: 180, fps: 15 }));
  const options = (name) => page.$$eval(`[name=${name}] option`, (all) => all.map(({ value }) => value).filter(Boolean));
  const used = (source) => page.evaluate((source) => window.ironcast?.call.local.get(source)?.getSettings().deviceId, source);
  const microphones = await until('there are microphones', async () => (await options('mic')).length > 1 && options('mic'));
  await page.selectOption('[name=mic]', microphones[1]);
  await page.click('.primary');
  await until('the chosen one is used', async () => (await used('mic')) === microphones[1]);
  await bob.until('hears Ada', () => [...window.ironcast.tracks.values()].some(({ source }) => source === 'mic'));

  await page.keyboard.press('g');
  await until('it is shown which one is used', () => page.evaluate((value) => document.querySelector('dialog [name=mic]')?.value === value, microphones[1]));
  await page.selectOption('dialog [name=mic]', microphones[0]);
  await until('the other one is used', async () => (await used('mic')) === microphones[0]);
  const speakers = await options('speaker');
  await page.selectOption('dialog [name=speaker]', speakers.at(-1));
  await until('it is heard there', () => page.evaluate((id) => [...document.querySelectorAll('audio')].every(({ sinkId }) => sinkId === id), speakers.at(-1)));
  await page.keyboard.press('Escape');
  const energy = async () => (await bob.received()).find(({ source }) => source === 'mic').totalAudioEnergy;
  const before = await energy();
  await until('Bob hears it', async () => (await energy()) > before);

  await page.keyboard.press('i');
  await until('it is said', () => page.evaluate(() => /Invite link copied/.test(document.querySelector('#toasts').textContent)));
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${servers.page}?room=devices`);
});

check('in the call', async ({ join }) => {
  const ada = await join('Ada Lovelace', small);
  const { page } = ada;
  await ada.until('is alone', () => !document.querySelector('.alone').hidden);
  await look(page, 'alone');
  const bob = await join('Bob', small);
  await ada.sees([bob]);
  assert.equal(await page.textContent('.mode'), 'Server SFU');
  await look(page, 'two');
  await bob.page.click('[data-do=mic]');
  await ada.until('sees that Bob is muted', () => document.querySelector('.tile.muted') !== null);

  await page.keyboard.press('p');
  await ada.until('reads the list', () => document.querySelectorAll('#people li').length === 2);
  assert.match(await page.textContent('#people h2'), /2/);
  await ada.until('sees the lines', () => document.querySelectorAll('#people [data-line=good]').length === 2);
  await ada.until('reads that Bob is muted', () => document.querySelector('#people li:nth-child(2) .signs i:last-child')?.getAttribute('aria-label') === 'Microphone off');
  await look(page, 'people');
  await page.keyboard.press('c');
  await ada.until('has one panel', () => document.querySelector('#people').hidden && !document.querySelector('#chat').hidden);
  await page.keyboard.type('See https://example.org');
  await page.keyboard.press('Enter');
  await bob.evaluate(() => window.ironcast.call.chat.send('Thank you'));
  await ada.until('reads both', () => document.querySelectorAll('#chat li:not(.waiting)').length === 2);
  await look(page, 'chat');
  await page.keyboard.press('Escape');

  await page.keyboard.press('d');
  await ada.until('sees figures', () => /pictures\/s[^]* lost.* ms/.test(document.querySelector('.tile:not(.self) .figures').textContent));
  const figures = await page.textContent('.tile:not(.self) .figures');
  assert.match(figures, /\d+×\d+, \d+ pictures\/s, VP8\n\d+ kb\/s/);
  await look(page, 'statistics');
  await page.keyboard.press('d');

  await page.keyboard.press('?');
  await look(page, 'help');
  await page.keyboard.press('Escape');
  await page.keyboard.press('g');
  await page.waitForSelector('dialog [name=mic] option', { state: 'attached' });
  await look(page, 'devices');
  await page.keyboard.press('Escape');
  await page.click('[data-do=more]');
  await look(page, 'menu');
  await page.click('[data-do=layout]');
  await ada.until('sees Bob large', () => document.querySelector('.tile.focus .who')?.textContent === 'Bob');
  await look(page, 'speaker-layout');
  // Who is pinned stays large, whoever speaks.
  await page.focus('.tile.self');
  await page.keyboard.press('Enter');
  await ada.until('sees himself large', () => document.querySelector('.tile.focus')?.matches('.self.pinned'));
  await page.keyboard.press('Enter');
  await page.keyboard.press('l');
  await ada.until('sees all equally large', () => document.querySelector('.tile.focus') === null);

  // A screen beside the camera.
  await bob.page.click('[data-do=screen]');
  await ada.until('sees the screen', () => document.querySelector('.tile.screen.focus') !== null);
  const from = await ada.evaluate((id) => [...window.ironcast.tracks.values()].filter(({ participantId, consumer }) => participantId === id && consumer.kind === 'video').length, bob.id);
  assert.equal(from, 2, 'camera and screen');
  await look(page, 'screen', { themes: ['dark'] });
  await bob.page.click('[data-do=screen]');

  // Others by name alone, without media: how it looks when many are there.
  for (const [count, state] of [[5, 'five'], [12, 'twelve'], [30, 'thirty']]) {
    await ada.evaluate((count) => {
      const { call } = window.ironcast;
      const names = ['Alan Turing', 'Grace Hopper', 'Joan Clarke', 'Katherine Johnson', 'Hedy Lamarr', 'Jean Bartik', 'Radia Perlman', 'Barbara Liskov', 'Donald Knuth', 'Edsger Dijkstra'];
      for (let at = call.participants.size + 1; at < count; at += 1) call.participants.set(`p${at}`, { id: `p${at}`, name: names[(at - 2) % names.length] });
      call.tell('participants');
    }, count);
    await look(page, state, { themes: ['dark'] });
  }
  // On a small phone all buttons are in one row, and a tile is large enough to know somebody.
  await page.setViewportSize(SIZES.small);
  await ada.until('has large tiles', () => Math.min(...[...document.querySelectorAll('.tile')].map(({ clientWidth }) => clientWidth)) >= 100);
  assert.equal(new Set(await page.$$eval('.tools > button', (all) => all.map((button) => Math.round(button.getBoundingClientRect().bottom)))).size, 1);
  await look(page, 'thirty', { sizes: ['small'], themes: ['dark'] });
  await ada.leave();
  await page.waitForSelector('.lobby.over');
  await look(page, 'left');
  const uncaught = [ada, bob].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});

check('while the server is away the page says so, and says when it is back', async ({ join, servers }) => {
  const [ada, bob] = [await join('Ada', small), await join('Bob', small)];
  await ada.sees([bob]);
  const banner = () => ada.evaluate(() => {
    const { hidden, textContent } = document.querySelector('.banner');
    return hidden ? '' : textContent;
  });
  assert.equal(await banner(), '');
  await servers.kill('signaling');
  await until('it says that the server is away', async () => /connection to the server is lost.*Trying again/.test(await banner()));
  const { framesDecoded } = await ada.from(bob);
  await look(ada.page, 'reconnecting');
  await until('pictures go on', async () => (await ada.from(bob)).framesDecoded > framesDecoded + 10);
  await servers.startOne('signaling');
  await until('it says that it is back', async () => /back in the call/.test(await banner()), { within: 20_000 });
  await look(ada.page, 'back', { sizes: ['large'] });
  await until('it is quiet again', async () => (await banner()) === '');
  await Promise.all([ada.leave(), bob.leave()]);
});
