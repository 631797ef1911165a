// What people write: by keyboard alone, read by who comes later, kept over a lost socket, never markup.

import assert from 'node:assert/strict';
import path from 'node:path';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';

const check = stage('chat', { 'signaling.chat_per_participant_per_s': 0 });
const small = { width: 320, height: 180 };

/** As they are read in the panel. */
const read = (one) => one.evaluate(() => [...document.querySelectorAll('#chat li .text')].map(({ textContent }) => textContent));

const reads = (one, wanted) => one.until(`reads ${wanted}`, (wanted) => {
  const texts = [...document.querySelectorAll('#chat li:not(.waiting) .text')].map(({ textContent }) => textContent);
  return JSON.stringify(texts) === JSON.stringify(wanted);
}, { argument: wanted });

check('people write, read, and lose nothing', async ({ join }) => {
  const [ada, bob] = [await join('Ada', small), await join('Bob', small)];
  await ada.page.keyboard.press('c');
  await ada.until('may write', () => document.activeElement?.matches('#chat textarea'));
  await ada.page.keyboard.type('Hello <img src=x onerror="window.hacked=1">');
  await ada.page.keyboard.press('Enter');
  await ada.page.keyboard.type('two');
  await ada.page.keyboard.press('Shift+Enter');
  await ada.page.keyboard.type('lines, see https://example.org/a?b=1.');
  await ada.page.keyboard.press('Enter');
  const written = ['Hello <img src=x onerror="window.hacked=1">', 'two\nlines, see https://example.org/a?b=1.'];
  await reads(ada, written);
  // Letters in the field are letters.
  assert.equal(await ada.evaluate(() => window.ironcast.call.micMuted), false);
  await bob.until('is told', () => document.querySelector('[data-do=chat] .badge')?.textContent === '2');
  assert.match(await bob.evaluate(() => document.querySelector('[data-do=chat]').getAttribute('aria-label')), /2 unread/);
  await bob.page.keyboard.press('c');
  await reads(bob, written);
  assert.equal(await bob.evaluate(() => document.querySelector('[data-do=chat] .badge')), null);
  assert.equal(await bob.evaluate(() => window.hacked), undefined);
  const link = await bob.evaluate(() => {
    const { href, rel, target } = document.querySelector('#chat a');
    return { href, rel, target, images: document.querySelectorAll('#chat img').length };
  });
  assert.deepEqual(link, { href: 'https://example.org/a?b=1', rel: 'noopener noreferrer', target: '_blank', images: 0 });

  // Written while the socket is away: sent once, when it is back.
  await bob.evaluate(() => window.ironcast.socket.io.engine.close());
  await bob.page.keyboard.type('while away');
  await bob.page.keyboard.press('Enter');
  const three = [...written, 'while away'];
  await reads(ada, three);
  await reads(bob, three);
  const late = await join('Late', small);
  await late.page.keyboard.press('c');
  await reads(late, three);

  // Who reads further up is not moved, and is told.
  await late.evaluate(() => Array.from({ length: 40 }, (_, number) => window.ironcast.call.chat.send(`line ${number}`)));
  await ada.until('has all', () => document.querySelectorAll('#chat li:not(.waiting)').length === 43);
  const atEnd = () => ada.evaluate(() => {
    const { scrollTop, clientHeight, scrollHeight } = document.querySelector('#chat .messages');
    return scrollTop + clientHeight >= scrollHeight - 50;
  });
  assert.ok(await atEnd());
  await ada.evaluate(() => (document.querySelector('#chat .messages').scrollTop = 0));
  await late.evaluate(() => window.ironcast.call.chat.send('news'));
  await ada.until('is told', () => !document.querySelector('#chat .below').hidden);
  assert.ok(!(await atEnd()));
  await ada.page.click('#chat .below');
  assert.ok(await atEnd());
  await ada.page.screenshot({ path: path.join(OUTPUT, 'chat-1280x800.png') });
  await ada.page.setViewportSize({ width: 390, height: 844 });
  await ada.until('has laid out the phone', () => document.documentElement.clientWidth === 390);
  await ada.page.screenshot({ path: path.join(OUTPUT, 'chat-390x844.png') });
  await ada.page.keyboard.press('Escape');
  await ada.until('is back at the button', () => document.activeElement?.matches('[data-do=chat]') && document.querySelector('#chat').hidden);

  // Too much is not sent, and said.
  await bob.page.fill('#chat textarea', 'x'.repeat(4097));
  assert.match(await bob.evaluate(() => document.querySelector('#chat .room-left').textContent), /Too long by 1/);
  assert.ok(await bob.evaluate(() => document.querySelector('#chat .send').disabled));
  assert.equal((await read(bob)).length, 44);
  const uncaught = [ada, bob, late].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});
