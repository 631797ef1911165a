// Who is quicker than his devices, or than his line: what others see and hear is what his buttons say. And
// what a browser or a phone does to a page in a call.

import assert from 'node:assert/strict';
import path from 'node:path';
import { faults } from './lib/axe.mjs';
import { launch } from './lib/browser.mjs';
import { hasty } from './lib/hasty.mjs';
import { OUTPUT } from './lib/servers.mjs';
import { over, stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('hasty');
const small = { width: 320, height: 180 };
const slow = (options) => ({ ...small, before: (page) => page.addInitScript(hasty, options) });

/** What somebody sees of another one: source to whether it is paused. */
const shown = (viewer, of) => viewer.evaluate((id) => {
  const tracks = [...window.ironcast.tracks.values()].filter(({ participantId }) => participantId === id);
  return tracks.map(({ source, producerPaused }) => `${source} ${producerPaused ? 'off' : 'on'}`).sort();
}, of.id);

const shows = (viewer, of, wanted) => until(`${viewer.name} sees ${wanted} of ${of.name}`, async () => {
  const now = await shown(viewer, of);
  return JSON.stringify(now) === JSON.stringify(wanted) || Promise.reject(new Error(now.join(', ')));
});

/** Pictures, or sound, of another one come. */
async function comes(viewer, of, source, figure) {
  const now = async () => (await viewer.from(of, source))?.[figure] ?? 0;
  const before = await now();
  await until(`${source} of ${of.name} comes`, async () => (await now()) > before);
}

check('muted or not while the microphone is being sent', async ({ join }) => {
  const bob = await join('Bob', small);
  const ada = await join('Ada', { ...slow({ hold: 'produce' }), video: 0 });
  await ada.until('is about to send', () => window.line.held.length === 1);
  await ada.page.keyboard.press('m');
  await ada.evaluate(() => window.line.release());
  await shows(bob, ada, ['mic off']);
  const energy = async () => (await bob.from(ada, 'mic')).totalAudioEnergy ?? 0;
  const { first, last } = await over(2.5, energy);
  assert.ok(last - first < 1e-6, `silence: ${last - first}`);
  assert.equal(await ada.evaluate(() => document.querySelector('[data-do=mic]').dataset.on), 'false');

  // The line is slow again, and he changes his mind twice, then once.
  await ada.evaluate(() => (window.line.hold = 'resumeProducer'));
  await ada.page.keyboard.press('m');
  await ada.until('is about to say it', () => window.line.held.length === 1);
  await ada.page.keyboard.press('m');
  await ada.page.keyboard.press('m');
  await ada.evaluate(() => window.line.release());
  await shows(bob, ada, ['mic on']);
  await comes(bob, ada, 'mic', 'totalAudioEnergy');
});

check('unmuted while the microphone is being sent', async ({ join }) => {
  const bob = await join('Bob', small);
  const ada = await join('Ada', { ...slow({ hold: 'createProducerTransport' }), video: 0, state: 'connecting' });
  await ada.until('has no connection yet', () => window.line.held.length === 1);
  ada.id = await ada.evaluate(() => window.ironcast.participantId);
  await ada.page.keyboard.press('m');
  await ada.until('is muted', () => window.ironcast.call.micMuted);
  await ada.evaluate(() => {
    window.line.release();
    window.line.hold = 'produce';
  });
  await ada.until('is about to send', () => window.line.held.length === 1);
  await ada.page.keyboard.press('m');
  await ada.until('is not muted', () => !window.ironcast.call.micMuted);
  await ada.evaluate(() => window.line.release());
  await shows(bob, ada, ['mic on']);
  await comes(bob, ada, 'mic', 'totalAudioEnergy');
});

check('the camera goes off and on while it is being sent', async ({ join }) => {
  const bob = await join('Bob', small);
  const ada = await join('Ada', { ...slow(), audio: 0, video: 0 });
  await ada.evaluate(() => (window.line.hold = 'produce'));
  await ada.page.keyboard.press('v');
  await ada.until('is about to send', () => window.line.held.length === 1);
  await ada.page.keyboard.press('v');
  await ada.until('has it off', () => !window.ironcast.call.local.has('camera'));
  await ada.page.keyboard.press('v');
  await ada.until('has it on', () => window.ironcast.call.local.has('camera'));
  await ada.evaluate(() => window.line.release());
  await shows(bob, ada, ['camera on']);
  await comes(bob, ada, 'camera', 'framesDecoded');
  // And off at the end.
  await ada.evaluate(() => (window.line.hold = 'pauseProducer'));
  for (const on of [false, true, false]) {
    await ada.page.keyboard.press('v');
    await ada.until('is so', (on) => window.ironcast.call.local.has('camera') === on, { argument: on });
  }
  await ada.evaluate(() => window.line.release());
  await shows(bob, ada, ['camera off']);
});

check('a screen that is stopped at once, or without a socket, is not shared', async ({ join }) => {
  const bob = await join('Bob', small);
  const ada = await join('Ada', { ...slow(), audio: 0, video: 0 });
  await ada.evaluate(() => (window.line.hold = 'produce'));
  await ada.page.keyboard.press('s');
  await ada.until('is about to share', () => window.line.held.length === 1);
  await ada.page.keyboard.press('s');
  await ada.evaluate(() => window.line.release());
  await ada.until('shares nothing', () => window.ironcast.producers.size === 0 && !window.ironcast.call.local.has('screen'));
  await ada.page.keyboard.press('s');
  await shows(bob, ada, ['screen on']);
  await ada.evaluate(() => window.ironcast.socket.io.engine.close());
  await ada.page.keyboard.press('s');
  await ada.until('is back', () => window.ironcast.state === 'connected' && window.ironcast.events.some(({ name, resumed }) => name === 'joined' && resumed));
  await shows(bob, ada, []);
});

check('a camera that opens late is not wanted any more', async ({ join }) => {
  const ada = await join('Ada', { ...slow(), audio: 0, video: 0 });
  const bob = await join('Bob', small);
  await ada.evaluate(() => (window.devices.slow = true));
  await ada.page.keyboard.press('v');
  await ada.until('sees that it comes', () => document.querySelector('[data-do=camera]').dataset.on === 'true');
  await ada.page.keyboard.press('v');
  await ada.until('sees that it does not', () => document.querySelector('[data-do=camera]').dataset.on === 'false');
  await ada.evaluate(() => window.devices.release());
  await ada.until('has it closed', () => window.devices.opened.length === 1 && window.devices.opened[0].readyState === 'ended');
  assert.deepEqual(await shown(bob, ada), []);

  // He leaves while it opens, and while the dialog of devices opens another microphone.
  await ada.page.keyboard.press('m');
  await ada.until('is heard', () => window.ironcast.producers.has('mic'));
  await ada.page.keyboard.press('g');
  await ada.until('can choose', () => document.querySelectorAll('dialog [name=mic] option').length > 1);
  await ada.evaluate(() => (window.devices.slow = true));
  await ada.page.selectOption('dialog [name=mic]', { index: 1 });
  await ada.evaluate(() => document.querySelector('[data-do=camera]').click());
  await ada.until('opens both', () => window.devices.waiting.length === 2);
  await ada.evaluate(() => document.querySelector('[data-do=leave]').click());
  await ada.until('has left', () => /You left the call/.test(document.body.textContent));
  await ada.evaluate(() => window.devices.release());
  await ada.until('has everything closed', () => window.devices.opened.length === 4 && window.devices.opened.every(({ readyState }) => readyState === 'ended'));
  assert.equal(await ada.evaluate(() => document.querySelectorAll('dialog').length), 0);
  assert.deepEqual(await ada.evaluate(() => window.awake.map(({ released }) => released)), [true]);
});

check('a headset that is unplugged makes way for the next microphone', async ({ join }) => {
  const [ada, bob] = [await join('Ada', slow()), await join('Bob', small)];
  await bob.sees([ada]);
  await ada.evaluate(() => {
    const mic = window.ironcast.call.local.get('mic');
    mic.stop();
    mic.dispatchEvent(new Event('ended'));
  });
  await ada.until('is told', () => /microphone is gone.*is used now/.test(document.querySelector('#toasts').textContent));
  await ada.page.screenshot({ path: path.join(OUTPUT, 'page.next-microphone.png') });
  await ada.until('uses another one', () => window.ironcast.call.local.get('mic')?.readyState === 'live');
  await comes(bob, ada, 'mic', 'totalAudioEnergy');
});

check('a microphone that was refused first is asked for again', async ({ browser, servers, keep }) => {
  const context = keep(await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'dark' }));
  const page = await context.newPage();
  await page.addInitScript(hasty, { refused: ['audio'] });
  await page.goto(`${servers.page}?room=refused&name=Ada&width=320&height=180`);
  const pressed = () => page.getAttribute('[data-toggle=mic]', 'aria-pressed');
  await until('it is said', () => page.evaluate(() => /does not let this page use your microphone/.test(document.querySelector('.trouble').textContent)));
  await page.screenshot({ path: path.join(OUTPUT, 'page.lobby-refused.png') });
  await page.evaluate(() => (window.devices.refused = []));
  await page.click('[data-toggle=mic]');
  await until('it is there', async () => (await pressed()) === 'true');
  assert.equal(await page.isHidden('.trouble'), true);
  await page.click('[data-toggle=mic]');
  assert.equal(await pressed(), 'false');
  await page.click('[data-toggle=mic]');
  assert.equal(await pressed(), 'true');
  // Unplugged, and another one is there.
  await page.evaluate(() => {
    const mic = window.devices.opened.find(({ kind }) => kind === 'audio');
    mic.stop();
    mic.dispatchEvent(new Event('ended'));
  });
  await until('the next one is used', () => page.evaluate(() => window.devices.opened.filter(({ kind, readyState }) => kind === 'audio' && readyState === 'live').length === 1));
  assert.equal(await pressed(), 'true');
});

check('a page that the browser keeps silent can be heard at any time', async ({ join }) => {
  const bob = await join('Bob', small);
  const ada = await join('Ada', { ...slow({ silent: true }), audio: 0, video: 0 });
  await ada.until('sees that it is silent', () => !document.querySelector('.silent').hidden);
  for (const [size, viewport] of [['large', { width: 1280, height: 800 }], ['phone', { width: 390, height: 844 }]]) {
    for (const colorScheme of ['dark', 'light']) {
      await ada.page.setViewportSize(viewport);
      await ada.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await ada.until('is laid out', ([width, theme]) => document.documentElement.clientWidth === width && document.documentElement.dataset.theme === theme, { argument: [viewport.width, colorScheme] });
      await ada.page.screenshot({ path: path.join(OUTPUT, `page.silent.${size}.${colorScheme}.png`) });
      assert.deepEqual(await faults(ada.page), []);
    }
  }
  assert.ok(await ada.evaluate(() => [...document.querySelectorAll('audio')].every(({ paused }) => paused)));
  await ada.page.click('.silent button');
  await ada.until('hears', () => document.querySelector('.silent').hidden && [...document.querySelectorAll('audio')].every(({ paused }) => !paused));
  await comes(ada, bob, 'mic', 'totalAudioEnergy');
});

check('a phone has two cameras, and keeps its screen on', async ({ servers, keep }) => {
  const browser = keep(await launch(['--use-fake-device-for-media-stream=device-count=2,fps=15']));
  const context = keep(await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: 'dark' }));
  const page = await context.newPage();
  await page.addInitScript(hasty);
  await page.goto(`${servers.page}?room=phone&name=Ada&autojoin=1&width=320&height=180&fps=15`);
  await until('it is connected', () => page.evaluate(() => window.ironcast?.state === 'connected' && window.ironcast.producers.size === 2));
  const camera = () => page.evaluate(() => window.ironcast.call.local.get('camera')?.getSettings().deviceId);
  const first = await camera();
  await page.tap('[data-do=more]');
  await until('it can be changed', () => page.isVisible('[data-do=flip]'));
  await page.screenshot({ path: path.join(OUTPUT, 'page.flip.phone.png') });
  assert.deepEqual(await faults(page), []);
  await page.tap('[data-do=flip]');
  await until('it is another one', async () => ![undefined, first].includes(await camera()));
  assert.equal(await page.evaluate(() => window.devices.opened.filter(({ kind, readyState }) => kind === 'video' && readyState === 'live').length), 1);
  assert.equal(await page.evaluate(() => window.ironcast.producers.get('camera').track === window.ironcast.call.local.get('camera')), true);
  await page.tap('[data-do=more]');
  await page.tap('[data-do=flip]');
  await until('it is the first one', async () => (await camera()) === first);

  assert.deepEqual(await page.evaluate(() => window.awake.map(({ released }) => released)), [false]);
  await page.evaluate(() => {
    window.awake[0].released = true;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await until('it is asked for again', () => page.evaluate(() => window.awake.length === 2));
  await page.tap('[data-do=leave]');
  await until('it is let go', () => page.evaluate(() => window.awake.every(({ released }) => released)));
});
