// A room that is full: who comes waits before it, is told so, and is let in by himself when somebody goes.

import assert from 'node:assert/strict';
import path from 'node:path';
import { faults } from './lib/axe.mjs';
import { atMost } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';

const check = stage('hallway', { 'signaling.participants_per_room_max': 2 });
const small = { width: 320, height: 180 };

check('who finds the room full waits, and is let in when a place is free', async ({ join }) => {
  const [ada, bob] = [await join('Ada', small), await join('Bob', small)];
  await ada.sees([bob]);
  const eve = await join('Eve', { ...small, state: 'waiting' });
  await eve.page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  assert.equal(await eve.page.textContent('.hallway h1'), 'This room is full');
  assert.match(await eve.page.title(), /^Waiting/);
  assert.deepEqual(await eve.evaluate(() => [...document.querySelectorAll('.tools > button')].filter((button) => button.offsetWidth > 0).map(({ dataset }) => dataset.do)), ['mic', 'camera', 'more', 'leave']);
  await eve.until('sees for how long', () => /0:0[1-9]/.test(document.querySelector('.hallway .hint').textContent));
  for (const [colorScheme, viewport] of [['dark', { width: 1280, height: 800 }], ['light', { width: 1280, height: 800 }], ['dark', { width: 390, height: 844 }]]) {
    await eve.page.setViewportSize(viewport);
    await eve.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await eve.until('is laid out', (theme) => document.documentElement.dataset.theme === theme, { argument: colorScheme });
    await eve.page.screenshot({ path: path.join(OUTPUT, `page.hallway.${viewport.width}.${colorScheme}.png`) });
    assert.deepEqual(await faults(eve.page), []);
  }
  // What is set here is what one joins with; what needs a room does nothing.
  await eve.page.keyboard.press('m');
  await eve.page.keyboard.press('c');
  assert.ok(await eve.evaluate(() => document.querySelector('#chat').hidden));
  const begun = performance.now();
  await bob.leave();
  await eve.until('is in the call', () => window.ironcast.state === 'connected', { within: 15_000 });
  atMost('16 hallway', 'from the free place to the call', performance.now() - begun, 6_000, 'ms');
  await eve.sees([ada]);
  assert.ok(await eve.evaluate(() => document.querySelector('.hallway').hidden && window.ironcast.call.micMuted));
  await ada.until('sees Eve', () => window.ironcast.participants.size === 1);

  // Who does not want to wait any longer goes, and does not come back by himself.
  const cem = await join('Cem', { ...small, state: 'waiting' });
  await cem.page.click('.hallway button');
  await cem.page.waitForSelector('.lobby.over');
  assert.equal(await cem.page.textContent('h1'), 'You did not join');
  assert.equal(await cem.evaluate(() => window.ironcast.state), 'left');
  const uncaught = [ada, bob, eve, cem].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});
