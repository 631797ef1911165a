// Two signaling processes behind a balancer: tabs at both are in one call, and when one process is killed its tabs go
// on at the other one, by themselves and without a word to anybody.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { atMost } from './lib/report.mjs';
import { Balancer, Stores } from './lib/fleet.mjs';
import { freeTcpPort, get } from './lib/servers.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('fleet', { 'signaling.chat_per_participant_per_s': 0 }, ['dataplane', 'controlplane']);
const name = '17 fleet';
const small = { width: 320, height: 180 };

let stores;
after(() => stores?.stop());

/** Sockets that are open at a node. */
async function sockets(port) {
  const { body } = await get(`http://127.0.0.1:${port}/metrics`);
  return Number(/^ironcast_signaling_sockets (\d+)$/m.exec(body)?.[1]);
}

/** Opens the chat, once, and waits until it reads so. */
const reads = (one, wanted) => one.until(`reads ${wanted}`, (wanted) => {
  const texts = [...document.querySelectorAll('#chat li:not(.waiting) .text')].map(({ textContent }) => textContent);
  return JSON.stringify(texts) === JSON.stringify(wanted);
}, { argument: wanted, within: 20_000 });

const heard = (one, what) => one.evaluate((what) => window.ironcast.events.filter(({ name }) => name === what).length, what);

check('tabs at two processes are in one call, and outlive each of them', async ({ servers, join, keep }) => {
  stores = await Stores.start();
  const ports = [await freeTcpPort(), await freeTcpPort()];
  const start = (index) => servers.startNode(`node-${index + 1}`, {
    ...stores.settings(),
    'control.state_dir': `${servers.folder}/node-${index + 1}`,
    'signaling.control_url': servers.control.url,
    'signaling.control_ca': `${servers.folder}/control-cert.pem`,
    'signaling.listen': `127.0.0.1:${ports[index]}`,
  });
  await Promise.all([start(0), start(1)]);
  const [first, second] = [keep(await Balancer.open(ports)), keep(await Balancer.open(ports.toReversed()))];
  const ada = await join('Ada', { at: first.page, ...small });
  const bob = await join('Bob', { at: second.page, ...small });
  assert.deepEqual(await Promise.all(ports.map(sockets)), [1, 1], 'each is at a process of its own');

  await Promise.all([bob.sees([ada], { frames: 5 }), ada.sees([bob], { frames: 5 })]);
  for (const [listener, speaker] of [[ada, bob], [bob, ada]]) {
    const energy = async () => (await listener.from(speaker, 'mic'))?.totalAudioEnergy ?? 0;
    const before = await energy();
    await until(`${listener.name} hears ${speaker.name}`, async () => (await energy()) > before + 1e-5, { within: 15_000 });
  }
  await Promise.all([ada, bob].map((one) => one.page.keyboard.press('c')));
  const written = [];
  const write = async (one, text) => {
    await one.evaluate((text) => window.ironcast.call.chat.send(text), text);
    written.push(text);
    await Promise.all([ada, bob].map((each) => reads(each, written)));
  };
  await write(ada, 'from the first');
  await write(bob, 'from the second');

  const counted = await servers.control.count();
  const kill = async (index, mover) => {
    const before = { ada: await bob.from(ada), bob: await ada.from(bob) };
    for (const [viewer, { consumerId }] of [[bob, before.ada], [ada, before.bob]]) {
      await viewer.evaluate((id) => window.frameWatch.start(id), consumerId);
    }
    const old = await mover.evaluate(() => window.ironcast.socket.id);
    const killed = performance.now();
    await servers.kill(`node-${index + 1}`);
    const other = ports[1 - index];
    await until(`${mover.name} is at the other process`, async () => (await sockets(other)) === 2, { within: 20_000 });
    await mover.until('is in the call again', (old) => {
      const { state, socket } = window.ironcast;
      return state === 'connected' && socket.connected && socket.id !== old;
    }, { argument: old, within: 20_000 });
    atMost(name, `back after the kill of process ${index + 1}`, performance.now() - killed, 5_000, 'ms');
    for (const [viewer, { consumerId, framesDecoded }, publisher] of [[bob, before.ada, ada], [ada, before.bob, bob]]) {
      const more = async () => {
        const now = await viewer.from(publisher);
        return now.consumerId === consumerId && now.framesDecoded > framesDecoded + 45;
      };
      await until(`${viewer.name} sees ${publisher.name} go on`, more, { within: 30_000 });
      const { pauseMs } = await viewer.evaluate((id) => window.frameWatch.stop(id), consumerId);
      atMost(name, `pause of ${publisher.name} when process ${index + 1} is killed`, pauseMs, 2_000, 'ms');
      assert.equal(await heard(viewer, 'rejoin'), 0, `${viewer.name} kept all media`);
    }
    assert.deepEqual(await servers.control.count(), counted, 'nothing was made anew');
  };
  await kill(0, ada);
  await write(ada, 'still here');
  await write(bob, 'so am I');
  // The other way round, with a process that was started again.
  await start(0);
  await kill(1, bob);
  await write(bob, 'and back');
  const uncaught = [ada, bob].flatMap((one) => one.console.filter((line) => line.startsWith('uncaught')));
  assert.deepEqual(uncaught, []);
});
