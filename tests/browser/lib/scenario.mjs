// Two people in a call, or foreign clients that watch themselves, with given settings of the server: run as a process
// of its own, so that it can live in a network namespace. Prints one line of JSON: how it went, and over which addresses.

import { launch, Participant } from './browser.mjs';
import { Client } from './client.mjs';
import { Room } from './room.mjs';
import { publish, watch } from './sdp.mjs';
import { Servers } from './servers.mjs';
import { until } from './until.mjs';

const { name, settings, rooms = 1, unset = [], clients } = JSON.parse(process.argv[2]);

/** The pair that carries media, by the browser's own account. */
function selectedPair(records) {
  const transport = records.find(({ type }) => type === 'transport');
  const pair = records.find(({ id }) => id === transport?.selectedCandidatePairId);
  const candidate = (id) => records.find((record) => record.id === id) ?? {};
  const [local, remote] = [candidate(pair?.localCandidateId), candidate(pair?.remoteCandidateId)];
  return { local: local.address, remote: remote.address, port: remote.port, protocol: remote.protocol };
}

async function callOfTwo(browser, servers, room) {
  const options = { room, width: 480, height: 270 };
  const ada = await Participant.join(browser, servers, { ...options, name: `Ada-${room}` });
  const bob = await Participant.join(browser, servers, { ...options, name: `Bob-${room}` });
  const both = [ada, bob];
  try {
    await Promise.all([ada.sees([bob], { frames: 45, within: 25_000 }), bob.sees([ada], { frames: 45, within: 25_000 })]);
    const pairs = [];
    for (const one of both) {
      const { send, receive } = await one.stats();
      pairs.push(selectedPair(send), selectedPair(receive));
    }
    return { joinMs: await bob.joinMs(), joinLimitMs: await bob.joinLimitMs(1_500), freezes: (await bob.from(ada)).freezeCount, pairs };
  } catch (error) {
    for (const one of both) await one.dump(`addresses.${name}`);
    throw error;
  } finally {
    await Promise.all(both.map((one) => one.close()));
  }
}

/** The client publishes, and watches what it published. */
async function watchesItself(name) {
  const [room, client] = [await Room.open(servers), new Client(name)];
  try {
    const [sending, receiving] = [await room.router.createWebRtcTransport(), await room.router.createWebRtcTransport()];
    const { router } = room;
    const producers = await publish(client, { router, transport: sending, codec: 'VP8', width: 320, height: 240 });
    await watch(client, { router, transport: receiving, codec: 'VP8', producers: Object.values(producers).map(({ id }) => id) });
    const received = await until(`${name} sees and hears itself`, async () => {
      const { video, audio } = await client.ask('received');
      return (video.frames > 15 && audio.samples > 48_000 && { video, audio }) || Promise.reject(new Error(JSON.stringify({ video, audio })));
    });
    const tuples = [sending, receiving].map(({ iceSelectedTuple }) => iceSelectedTuple);
    await client.ask('close');
    return { name, received, tuples };
  } finally {
    await client.close();
    await room.close();
  }
}

async function callsOfTwo() {
  const browser = await launch();
  const calls = [];
  try {
    for (let room = 1; room <= rooms; room += 1) calls.push(await callOfTwo(browser, servers, `room-${room}`));
  } finally {
    await browser.close();
  }
  return calls;
}

const servers = await Servers.start(`scenario-${name}`, settings, unset, clients ? ['dataplane', 'controlplane'] : undefined);
try {
  const calls = clients ? [] : await callsOfTwo();
  for (const client of clients ?? []) calls.push(await watchesItself(client));
  const workers = await servers.control.get('/v1/workers');
  await until('every resource is freed', async () => {
    const { transports, producers, consumers } = await servers.control.count();
    return transports + producers + consumers === 0;
  }, { within: 15_000 });
  if (servers.panics().length) throw new Error(servers.panics().join('\n'));
  console.log(JSON.stringify({ calls, workers: (workers.workers ?? workers).length }));
} catch (error) {
  servers.keepLogs();
  throw error;
} finally {
  await servers.stop();
}
