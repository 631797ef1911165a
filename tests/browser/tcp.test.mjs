// Three people behind firewalls that let no UDP through: the same call over TCP candidates.

import assert from 'node:assert/strict';
import { atLeast, atMost, note } from './lib/report.mjs';
import { over, stage } from './lib/stage.mjs';

const check = stage('tcp', { 'rtc.enable_udp': 'false', 'rtc.enable_tcp': 'true' });
const name = '9 addresses';
const FPS = 15;
const SECONDS = Number(process.env.TCP_SECONDS ?? 15);

/** The pair that carries media, by the browser's own account. */
function pairOf(records) {
  const transport = records.find(({ type }) => type === 'transport');
  const pair = records.find(({ id }) => id === transport?.selectedCandidatePairId);
  return records.find(({ id }) => id === pair?.remoteCandidateId) ?? {};
}

check('three people see and hear each other without UDP', async ({ join, servers }) => {
  const everybody = [await join('Ada'), await join('Bob'), await join('Eve')];
  for (const one of everybody) await one.sees(everybody.filter((other) => other !== one), { frames: 5 });
  atMost(name, 'TCP: join to first picture', await everybody[2].joinMs(), await everybody[2].joinLimitMs(2_000), 'ms');
  // Until then a browser sends and withholds its largest layer by turns.
  for (const one of everybody) await one.estimates(1_200_000);

  const { first, last, seconds } = await over(SECONDS, () => Promise.all(everybody.map((one) => one.received())));
  everybody.forEach((one, index) => {
    assert.equal(last[index].length, 4, `${one.name} receives two pictures and two sounds`);
    for (const now of last[index]) {
      const before = first[index].find((track) => track.id === now.id);
      const other = everybody.find(({ id }) => id === now.participantId).name;
      const which = `TCP: ${one.name} < ${other}`;
      if (now.kind === 'video') {
        atLeast(name, `frames/s ${which}`, (now.framesDecoded - before.framesDecoded) / seconds, FPS * 0.9);
        atMost(name, `freezes ${which}`, now.freezeCount - before.freezeCount, 0);
      } else {
        const samples = now.totalSamplesReceived - before.totalSamplesReceived;
        const concealed = now.concealedSamples - before.concealedSamples;
        atMost(name, `sound concealed ${which}`, (100 * concealed) / samples, 2, '%');
        assert.ok(now.totalAudioEnergy > before.totalAudioEnergy, `${which}: the tone is heard`);
      }
    }
  });
  for (const one of everybody) {
    const { send, receive } = await one.stats();
    for (const records of [send, receive]) {
      const { protocol, address, port } = pairOf(records);
      assert.equal(protocol, 'tcp', `${one.name}: ${protocol} ${address}`);
      note(name, `TCP: media of ${one.name} goes to`, `${address} port ${port}`);
    }
    for (const { id } of await servers.control.transportsOf(one.id)) {
      const { iceSelectedTuple } = await servers.control.get(`/v1/transports/${id}`);
      assert.equal(iceSelectedTuple.protocol, 'tcp');
    }
  }
  await everybody[2].leave();
  for (const one of everybody.slice(0, 2)) {
    await one.until('sees that Eve left', () => window.ironcast.participants.size === 1);
  }
});
