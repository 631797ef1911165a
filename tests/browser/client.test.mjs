// The signaling example of @ironcast/client: three people see and hear each other, one goes, the
// control plane is killed and comes back, a fourth joins. And the stream of events as a browser's own
// EventSource reads it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './lib/browser.mjs';
import { note } from './lib/report.mjs';
import { OUTPUT, Servers, TOP } from './lib/servers.mjs';
import { until } from './lib/until.mjs';

const name = '12 client for Node';
const EXAMPLE = path.join(TOP, 'controlplane/client-node/example/server.mjs');
const timeout = 240_000;
const within = 30_000;

let servers;
let browser;
before(async () => {
  servers = await Servers.start('client', {}, [], ['dataplane', 'controlplane']);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  const panics = servers?.panics() ?? [];
  await servers?.stop();
  assert.deepEqual(panics, []);
});

async function startExample() {
  const env = { ...process.env, PORT: '0', IRONCAST_CONTROL: servers.control.url, IRONCAST_CA: path.join(servers.folder, 'control-cert.pem') };
  const child = spawn(process.execPath, [EXAMPLE], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const example = { child, out: '', url: undefined };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (example.out += data));
  const ended = new Promise((resolve) => child.once('exit', resolve));
  example.close = () => {
    child.kill();
    return ended;
  };
  await until('the example listens', () => {
    example.url = /http:\/\/localhost:\d+/.exec(example.out)?.[0];
    return example.url ?? Promise.reject(new Error(example.out));
  }, { within });
  return example;
}

/** One who joins by the example's page, in a browser context of his own. */
async function join(example, who) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const person = { who, page, console: [], close: () => context.close() };
  page.on('console', (message) => person.console.push(message.text()));
  page.on('pageerror', (error) => person.console.push(`uncaught: ${error.stack}`));
  // Smaller pictures: all browsers of this test share a machine.
  await page.addInitScript(() => {
    const { mediaDevices } = navigator;
    const original = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = (wanted) => original({ ...wanted, video: { width: 960, height: 540 } });
  });
  await page.goto(`${example.url}/?room=test&name=${who}`);
  return person;
}

/** What arrives: each person's name, picture and sound. */
const received = ({ page }) =>
  page.evaluate(async () => {
    const people = {};
    for (const consumer of window.call.consumers.values()) {
      const stream = [...(await consumer.getStats()).values()].find(({ type }) => type === 'inbound-rtp') ?? {};
      const person = (people[consumer.appData.owner.name] ??= {});
      if (consumer.kind === 'audio') person.energy = stream.totalAudioEnergy ?? 0;
      else Object.assign(person, { id: consumer.id, frames: stream.framesDecoded ?? 0, width: stream.frameWidth });
    }
    return people;
  });

const tiles = ({ page }) => page.$$eval('figure', (figures) => figures.map(({ lastChild }) => lastChild.textContent).sort());

/** Everybody sees and hears everybody else, and has a tile for each. */
async function allTogether(people) {
  const names = people.map(({ who }) => who).sort();
  for (const person of people) {
    await until(`${person.who} sees and hears the others`, async () => {
      const others = await received(person);
      const now = { others, tiles: await tiles(person), console: person.console };
      const all = names.filter((other) => other !== person.who).every((other) => others[other]?.frames > 15 && others[other].energy > 0);
      const done = all && JSON.stringify(now.tiles) === JSON.stringify(names);
      return done || Promise.reject(new Error(JSON.stringify(now)));
    }, { within });
  }
}

test('the example: three in a room, one leaves, the control plane is killed, a fourth joins', { timeout }, async () => {
  const example = await startExample();
  const everybody = [];
  const come = async (who) => {
    everybody.push(await join(example, who));
    return everybody.at(-1);
  };
  try {
    const begun = performance.now();
    const [ada, bob, cem] = [await come('Ada'), await come('Bob'), await come('Cem')];
    await allTogether([ada, bob, cem]);
    note(name, 'three see and hear each other after', performance.now() - begun, 'ms');
    fs.mkdirSync(OUTPUT, { recursive: true });
    await ada.page.screenshot({ path: path.join(OUTPUT, 'client-example.png') });

    const rids = await ada.page.evaluate(async () => {
      const records = [...(await window.call.producers.get('video').getStats()).values()];
      return records.filter(({ type }) => type === 'outbound-rtp').map(({ rid }) => rid);
    });
    assert.equal(rids.length, 3, 'a camera is sent as three streams');

    await bob.page.click('figure:has(figcaption:text-is("Ada"))');
    const { id } = (await received(bob)).Ada;
    await until('the server knows the layer', async () =>
      (await servers.control.get(`/v1/consumers/${id}`)).preferredLayers?.spatialLayer === 0);
    await until('the small picture comes', async () => (await received(bob)).Ada.width <= 240, { within });

    await ada.page.click('#video');
    await until('Ada shows no picture', () => cem.page.$('figure.paused:has(figcaption:text-is("Ada"))'), { within });
    await ada.page.click('#video');
    await until('Ada shows her picture', async () => !(await cem.page.$('figure.paused')), { within });

    await bob.page.click('text=Leave');
    await until('his tile is gone', async () => (await tiles(ada)).length === 2 && (await tiles(cem)).length === 2, { within });
    await until('so is what he had at the server', async () => (await servers.control.count()).transports === 4, { within });

    await servers.kill('controlplane');
    const atDeath = (await received(ada)).Cem.frames;
    await until('media goes on without it', async () => (await received(ada)).Cem.frames > atDeath + 15, { within });
    const early = come('Dan');
    await servers.startOne('controlplane');
    servers.control.close();
    const dan = await early;
    await allTogether([ada, cem, dan]);

    await cem.page.click('text=Leave');
    await until('his tile is gone too', async () => (await tiles(ada)).length === 2 && (await tiles(dan)).length === 2, { within });
    await ada.close();
    await dan.close();
    await until('an empty room is closed', async () => (await servers.control.count()).routers === 0, { within });

    await come('Eve');
    await until('she is in', async () => (await servers.control.count()).producers === 2, { within });
    await example.close();
    assert.equal((await servers.control.count()).routers, 0, 'who ends takes his rooms with him');
  } catch (error) {
    for (const { who, page } of everybody) await page.screenshot({ path: path.join(OUTPUT, `client-${who}.png`), timeout: 5_000 }).catch(() => {});
    servers.keepLogs();
    throw new Error(`${error.message}\n${example.out}\n${JSON.stringify(everybody.map(({ who, console }) => [who, console]), null, 1)}`, { cause: error });
  } finally {
    await Promise.all(everybody.map((person) => person.close()));
    await example.close();
  }
});

test("a browser's EventSource reads the events on a page of the server itself, and on no other", { timeout }, async () => {
  // The development certificate is nobody's whom a browser trusts.
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  try {
    const listen = async (address) => {
      const page = await context.newPage();
      await page.goto(address);
      await page.evaluate((url) => {
        window.heard = [];
        window.source = new EventSource(url);
        for (const event of ['router.created', 'router.closed']) {
          window.source.addEventListener(event, ({ data, lastEventId }) => window.heard.push([event, JSON.parse(data).routerId, lastEventId]));
        }
      }, `${servers.control.url}/v1/events`);
      return page;
    };
    const OPEN = 1;
    const CLOSED = 2;
    // A page of the same origin sends no `Origin` with a GET.
    const own = await listen(`${servers.control.url}/status`);
    await until('it is open', async () => (await own.evaluate(() => window.source.readyState)) === OPEN, { within });
    await servers.control.call('POST', '/v1/routers', { id: 'of-event-source' });
    await servers.control.call('DELETE', '/v1/routers/of-event-source');
    const heard = await until('both events came', async () => {
      const heard = await own.evaluate(() => window.heard);
      return heard.length === 2 && heard;
    }, { within });
    assert.deepEqual(heard.map(([event, id]) => [event, id]), [['router.created', 'of-event-source'], ['router.closed', 'of-event-source']]);
    assert.ok(heard.every(([, , place]) => /^\d+-\d+$/.test(place)), 'each has its place in the stream');

    const foreign = await listen(`${servers.ops}/health`);
    await until('it is refused', async () => (await foreign.evaluate(() => window.source.readyState)) === CLOSED, { within });
  } finally {
    await context.close();
  }
});
