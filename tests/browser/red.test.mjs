// A voice over ways that lose five packets in a hundred, each way: with RED far fewer samples are made up. What is left
// is mostly late, not lost, where the machine is busy; the share that is lost is measured on the simulated network.

import assert from 'node:assert/strict';
import { atLeast, atMost, note } from './lib/report.mjs';
import { Relay } from './lib/relay.mjs';
import { Room } from './lib/room.mjs';
import { over, stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('red', {}, ['dataplane', 'controlplane']);
const SECONDS = 25;
const audio = (name) => ({ kind: 'audio', mimeType: `audio/${name}`, clockRate: 48_000, channels: 2 });
const ROUTER = { mediaCodecs: [audio('opus'), audio('red')] };

/** Who speaks it, and who takes it. */
const CALLS = [
  { what: 'RED both ways', speaks: true, takes: true, most: 2.5 },
  { what: 'RED for who takes it, of a publisher of Opus', speaks: false, takes: true, most: 6.5 },
  { what: 'Opus for who takes no RED, of a publisher of it', speaks: true, takes: false, most: 6.5 },
  { what: 'without RED', speaks: false, takes: false, least: 2.6 },
];

for (const { what, speaks, takes, most, least } of CALLS) {
  check(`5 % random loss each way, ${what}`, async ({ browser, keep, servers }) => {
    const name = `5 red: ${what}`;
    const room = keep(await Room.open(servers, ROUTER));
    const [up, down] = [keep(new Relay({ loss: 0.05, seed: 31 })), keep(new Relay({ loss: 0.05, seed: 32 }))];
    const ada = keep(await room.browser(browser, { relay: up }));
    const bob = keep(await room.browser(browser, { relay: down }));
    const producerIds = await ada.step('speak', { withRed: speaks });
    await bob.step('watch', { producerIds, without: takes ? undefined : 'audio/red' });
    const heard = async () => (await bob.step('received')).audio ?? {};
    await until('the tone is heard', async () => (await heard()).totalAudioEnergy > 0, { within: 15_000 });
    // The receiver's delay has come to rest, and it has reported its losses.
    await until('five seconds of it', async () => (await heard()).totalSamplesReceived > 5 * 48_000, { within: 15_000 });

    const { first, last, seconds } = await over(SECONDS, heard);
    const gained = (field) => last[field] - first[field];
    // What was lost on the way up came back out of the redundancy: the publisher sends it.
    const [{ packetsRepaired }] = await servers.control.get(`/v1/producers/${producerIds[0]}/stats`);
    note(name, 'packets that came back', packetsRepaired);
    assert.equal(packetsRepaired > 0, speaks);
    atLeast(name, 'sound of its time', (100 * gained('totalSamplesReceived')) / (48_000 * seconds), 97, '%');
    const concealed = (100 * gained('concealedSamples')) / gained('totalSamplesReceived');
    if (most) atMost(name, 'sound concealed', concealed, most, '%');
    else atLeast(name, 'sound concealed', concealed, least, '%');
    note(name, 'bitrate of the voice', (8 * gained('bytesReceived')) / seconds / 1_000, 'kb/s');
    note(name, 'delay of the receiver', (1_000 * gained('jitterBufferDelay')) / gained('jitterBufferEmittedCount'), 'ms');
    atLeast(name, 'packets lost by the relays', up.counts.upLost + down.counts.downLost, 50);
  });
}
