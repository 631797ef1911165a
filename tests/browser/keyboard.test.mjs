// The page by keyboard alone: from its first load to the end of a call, without a mouse.

import assert from 'node:assert/strict';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('keyboard');
const small = { width: 320, height: 180 };

/** What has the focus: what it is, how it is called, and whether it is seen to have it. */
const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  const { outlineStyle, borderColor } = getComputedStyle(element);
  const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.firstChild.textContent ?? element.textContent.trim();
  return { tag: element.tagName, what: element.dataset.do ?? element.name ?? '', name, seen: outlineStyle !== 'none' || element.matches('input, select') ? borderColor !== '' : false };
});

/** Presses Tab until something has the focus; gives what had it on the way. */
async function tabTo(page, wanted, key = 'Tab') {
  const way = [];
  for (let presses = 0; presses < 40; presses += 1) {
    const now = await focused(page);
    if (now.tag !== 'BODY') {
      assert.ok(now.name, `the ${now.tag} after ${way.at(-1)?.name} has a name`);
      assert.ok(now.seen, `it is seen where the focus is: ${now.name}`);
      way.push(now);
    }
    if (wanted(now)) return way;
    await page.keyboard.press(key);
  }
  throw new Error(`not reached by ${key}: ${way.map(({ name }) => name).join(', ')}`);
}

check('from the first load to the end of a call', async ({ join, browser, servers, keep }) => {
  const bob = await join('Bob', { ...small, room: 'by-keyboard' });
  const context = keep(await browser.newContext({ viewport: { width: 1280, height: 800 } }));
  const page = await context.newPage();
  const uncaught = [];
  page.on('pageerror', (error) => uncaught.push(error.message));
  await page.goto(`${servers.page}?room=by-keyboard&width=320&height=180&fps=15`);
  await until('the name can be written', () => page.evaluate(() => document.activeElement.name === 'name'));
  await page.keyboard.type('Ada');
  const state = (code) => until(`it is so: ${code}`, () => page.evaluate(code));
  const way = await tabTo(page, ({ name }) => name === 'Join the call');
  assert.deepEqual(way.filter(({ tag }) => tag !== 'BUTTON').map(({ what }) => what).slice(0, 4), ['name', 'room', 'camera', 'mic']);
  await page.keyboard.press('Enter');
  await state(() => window.ironcast?.state === 'connected');
  await state(() => document.querySelectorAll('.tile').length === 2);

  await page.keyboard.press('m');
  await state(() => window.ironcast.call.micMuted);
  // Held down: a word in between.
  await page.keyboard.down(' ');
  await state(() => !window.ironcast.call.micMuted);
  await page.keyboard.up(' ');
  await state(() => window.ironcast.call.micMuted);
  await page.keyboard.press('v');
  await state(() => !window.ironcast.call.local.has('camera'));
  await page.keyboard.press('v');
  await state(() => window.ironcast.call.local.has('camera'));

  await page.keyboard.press('c');
  await state(() => document.activeElement.matches('#chat textarea'));
  await page.keyboard.type('Mind the gap? m v s');
  await page.keyboard.press('Enter');
  await bob.until('is told', () => document.querySelector('[data-do=chat] .badge')?.textContent === '1');
  assert.ok(await page.evaluate(() => window.ironcast.call.micMuted && document.querySelector('dialog') === null), 'letters are letters');
  await page.keyboard.press('Escape');
  await state(() => document.activeElement.matches('[data-do=chat]'));

  await page.keyboard.press('?');
  await state(() => document.querySelector('dialog[open] .shortcuts') !== null);
  // What lies below is not reached, neither by Tab nor by its keys.
  await page.keyboard.press('m');
  assert.ok(await page.evaluate(() => window.ironcast.call.micMuted));
  for (let presses = 0; presses < 4; presses += 1) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null));
  }
  await page.keyboard.press('Escape');
  await state(() => document.querySelector('dialog') === null && document.activeElement.matches('[data-do=chat]'));

  // The other one is enlarged, and not any more.
  await tabTo(page, ({ name }) => name.startsWith('Bob'), 'Shift+Tab');
  await page.keyboard.press('Enter');
  await state(() => document.activeElement.matches('.tile.pinned.focus'));
  assert.match((await focused(page)).name, /Bob, pinned/);
  await page.keyboard.press('Enter');
  await state(() => document.querySelector('.tile.focus') === null);

  await tabTo(page, ({ what }) => what === 'more');
  await page.keyboard.press('Enter');
  await state(() => document.querySelector('.menu').matches(':popover-open'));
  await tabTo(page, ({ what }) => what === 'stats');
  await page.keyboard.press('Enter');
  await state(() => !document.querySelector('.menu').matches(':popover-open') && !document.querySelector('.figures').hidden);

  await tabTo(page, ({ what }) => what === 'leave');
  await page.keyboard.press('Enter');
  await state(() => document.activeElement.textContent === 'Join again');
  await bob.until('is alone', () => window.ironcast.participants.size === 0);
  assert.match(await bob.page.textContent('[data-said]'), /Ada left/);
  assert.deepEqual(uncaught, []);
});
