// The page where people show tokens: who may only watch, who comes by a second window, whose token ends.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { faults } from './lib/axe.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';
import { delay } from './lib/until.mjs';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ironcast-keys-'));
const keys = path.join(folder, 'keys.pem');
fs.writeFileSync(keys, publicKey.export({ type: 'spki', format: 'pem' }));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const check = stage('tokens', { 'signaling.jwt_keys': keys });
const small = { width: 320, height: 180 };
/** So long a service still takes a token after its end. */
const LEEWAY_S = 5;

function token(sub, { role = 'participant', lastsS = 600 } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'EdDSA', typ: 'JWT' })}.${part({ sub, role, exp: Math.floor(Date.now() / 1_000) + lastsS - LEEWAY_S })}`;
  return `${text}.${sign(null, Buffer.from(text), privateKey).toString('base64url')}`;
}

/** Comes with a token in a cookie. */
const shown = (servers, sub, claims) => ({
  ...small,
  before: (page) => page.context().addCookies([{ name: 'access_token', value: token(sub, claims), url: servers.page }]),
});

const isOver = (one, words) => one.until(`reads ${words}`, (words) => new RegExp(words).test(document.querySelector('.over')?.textContent), { argument: words.source, within: 20_000 });

async function picture(one, name) {
  await one.page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await one.page.screenshot({ path: path.join(OUTPUT, `page.${name}.png`) });
  assert.deepEqual(await faults(one.page), []);
}

check('a viewer sees and hears, and has no buttons to send', async ({ join, servers }) => {
  const ada = await join('Ada', shown(servers, 'ada'));
  const eve = await join('Eve', shown(servers, 'eve', { role: 'viewer' }));
  await eve.sees([ada]);
  const buttons = await eve.evaluate(() => [...document.querySelectorAll('.tools > button')].filter(({ offsetWidth }) => offsetWidth > 0).map(({ dataset }) => dataset.do));
  assert.deepEqual(buttons, ['chat', 'people', 'more', 'leave']);
  assert.equal(await eve.evaluate(() => window.ironcast.call.local.size), 0);
  await eve.page.keyboard.press('m');
  await eve.until('is told', () => /here to watch and to listen/.test(document.querySelector('#toasts').textContent));
  await picture(eve, 'viewer');
  await eve.evaluate(() => window.ironcast.call.chat.send('Hello'));
  await ada.until('reads it', () => window.ironcast.call.chat.messages.length === 1);
  // His socket is lost: he comes back to what he has.
  await eve.evaluate(() => window.ironcast.socket.io.engine.close());
  await eve.until('is back', () => window.ironcast.state === 'connected' && window.ironcast.events.some(({ name, resumed }) => name === 'joined' && resumed));
  await eve.sees([ada], { frames: 10 });
});

check('a second window takes the place of the first, which says so', async ({ join, servers }) => {
  const first = await join('First', shown(servers, 'ada'));
  const second = await join('Second', shown(servers, 'ada'));
  await isOver(first, /no longer in the call.*from somewhere else/);
  await picture(first, 'somewhere-else');
  // Longer than the first one would need to come back.
  await delay(1_500);
  assert.equal(await second.evaluate(() => window.ironcast.state), 'connected');
  await second.leave();
  await first.page.click('.over button');
  await first.page.waitForSelector('.preview');
});

check('a token that ends ends the call, and says so', async ({ join, servers }) => {
  const ada = await join('Ada', shown(servers, 'ada', { lastsS: 8 }));
  await isOver(ada, /no longer in the call.*Your admission to this call has ended/);
  await picture(ada, 'token-over');
});
