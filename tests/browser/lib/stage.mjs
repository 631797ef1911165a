// What every test file begins and ends with: servers, a browser, participants that are dumped when a
// check fails and closed when it is done.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, Participant } from './browser.mjs';
import { Servers } from './servers.mjs';
import { delay, until } from './until.mjs';

const CHECK_MS_MAX = 120_000;

/** Sets up a file's stage; `check(title, code)` then runs one check on it. `processes`: all, where nothing is said. */
export function stage(name, settings = {}, processes = undefined) {
  const stage = { servers: null, browser: null };
  before(async () => {
    stage.servers = await Servers.start(name, settings, [], processes);
    stage.browser = await launch();
  });
  after(async () => {
    await stage.browser?.close();
    const panics = stage.servers?.panics() ?? [];
    if (panics.length) stage.servers.keepLogs();
    await stage.servers?.stop();
    assert.deepEqual(panics, []);
  });

  let room = 0;
  const check = (title, code) =>
    test(title, { timeout: CHECK_MS_MAX }, async (context) => {
      room += 1;
      const label = `${name}.${title.replace(/[^A-Za-z0-9]+/g, '-').slice(0, 60)}`;
      const closing = [];
      const everybody = [];
      const scene = {
        servers: stage.servers,
        browser: stage.browser,
        label,
        signal: context.signal,
        /** Says that this machine gave no result, and why; the check ends there. */
        skip: (why) => context.skip(why),
        /** Joins this check's own room. */
        join: async (name, options = {}) => {
          const browser = options.browser ?? stage.browser;
          delete options.browser;
          const opened = (participant) => everybody.push(participant);
          return Participant.join(browser, stage.servers, { name, room: `room-${room}`, opened, ...options });
        },
        /** Something that must be closed when the check is done. */
        keep: (thing) => {
          closing.push(thing);
          return thing;
        },
      };
      try {
        await code(scene);
      } catch (error) {
        for (const participant of everybody) await participant.dump(label);
        stage.servers.keepLogs();
        throw error;
      } finally {
        await Promise.all(everybody.map((participant) => participant.close()));
        for (const thing of closing) await thing.close();
        await stage.servers.control.count().then(
          () => allIsFreed(stage.servers),
          () => {},
        );
      }
    });
  return check;
}

/** Nothing of any participant is left; the room itself may stay for its grace time. */
export async function allIsFreed(servers, within = 15_000) {
  await until('every resource is freed', async () => {
    const { transports, producers, consumers } = await servers.control.count();
    return transports + producers + consumers === 0 || Promise.reject(new Error(
      `${transports} transports, ${producers} producers, ${consumers} consumers are left`));
  }, { within, every: 200 });
}

/** Runs the code once now and once after `seconds`, and gives both answers and the time between. */
export async function over(seconds, ask) {
  const begun = performance.now();
  const first = await ask();
  await delay(seconds * 1_000);
  const last = await ask();
  return { first, last, seconds: (performance.now() - begun) / 1_000 };
}
