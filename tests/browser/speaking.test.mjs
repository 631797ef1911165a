// Who speaks is shown to everybody, by what the server hears; who is silent or muted is not.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { atMost } from './lib/report.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';
import { voice } from './lib/voice.mjs';

const check = stage('speaking');
const name = '13 speaking';

check('the tile of who speaks is outlined, at all ends, until he is silent or muted', async ({ join }) => {
  const before = (page) => page.addInitScript(voice);
  const [ada, bob] = [await join('Ada', { before }), await join('Bob', { before })];
  await bob.sees([ada]);
  await ada.sees([bob]);
  const speak = (one, speaks) => one.evaluate((speaks) => (window.voice.speaks = speaks), speaks);
  /** The names on the outlined tiles. */
  const outlined = async (one) => {
    const tiles = await one.page.$$eval('.tile.speaking .who', (all) => all.map(({ textContent }) => textContent.replace(' (you)', '')));
    return tiles.sort().join();
  };
  const shown = async (who) => {
    const begun = performance.now();
    for (const one of [ada, bob]) {
      await until(`${one.name} sees that ${who || 'nobody'} speaks`, async () => {
        const now = await outlined(one);
        return now === who || Promise.reject(new Error(now));
      }, { within: 10_000, every: 20 });
    }
    return performance.now() - begun;
  };
  await shown('');
  await speak(ada, true);
  atMost(name, 'until who speaks is shown', await shown('Ada'), 1_500, 'ms');
  fs.mkdirSync(OUTPUT, { recursive: true });
  await bob.page.screenshot({ path: path.join(OUTPUT, 'speaking.png') });
  await speak(bob, true);
  await shown('Ada,Bob');
  await speak(ada, false);
  atMost(name, 'until who is silent is not shown', await shown('Bob'), 2_000, 'ms');
  await bob.page.click('[data-do=mic]');
  atMost(name, 'until who is muted is not shown', await shown(''), 2_000, 'ms');
  await bob.page.click('[data-do=mic]');
  await shown('Bob');
  // Who comes later is shown it at once.
  const cem = await join('Cem', { before });
  assert.equal(await outlined(cem), 'Bob');
});

check('who speaks while he is muted is told so, and the others hear nothing', async ({ join }) => {
  const before = (page) => page.addInitScript(voice);
  const [ada, bob] = [await join('Ada', { before }), await join('Bob', { before })];
  await bob.sees([ada]);
  await ada.page.click('[data-do=mic]');
  await ada.evaluate(() => (window.voice.speaks = true));
  await ada.until('is told', () => /You are muted/.test(document.querySelector('#toasts').textContent));
  assert.equal(await bob.evaluate(() => window.ironcast.speaking.size), 0);
  await ada.page.click('[data-do=mic]');
  await bob.until('hears Ada', () => document.querySelector('.tile.speaking .who')?.textContent === 'Ada');
});
