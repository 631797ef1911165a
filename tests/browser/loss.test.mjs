// Five packets in a hundred vanish, each way, for both: the call stays good.

import { atLeast, atMost, note } from './lib/report.mjs';
import { Relay } from './lib/relay.mjs';
import { over, stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('loss');
const SECONDS = 20;

check('5 % random loss each way', async ({ join, keep }) => {
  const name = '5 loss';
  const [up, down] = [keep(new Relay({ loss: 0.05, seed: 11 })), keep(new Relay({ loss: 0.05, seed: 12 }))];
  const ada = await join('Ada', { relay: up });
  const bob = await join('Bob', { relay: down });
  await bob.sees([ada], { frames: 15 });
  await until('all layers are sent', async () => (await ada.sent()).every(({ framesSent }) => framesSent > 5), { within: 20_000 });

  const { first, last, seconds } = await over(SECONDS, async () => ({
    sent: await ada.sent(),
    picture: await bob.from(ada),
    sound: await bob.from(ada, 'mic'),
  }));
  const gained = (field, of = 'picture') => (last[of][field] ?? 0) - (first[of][field] ?? 0);
  const encoded = Math.max(...last.sent.map((layer) => layer.framesEncoded - first.sent.find(({ id }) => id === layer.id).framesEncoded));
  const resent = last.sent.reduce((sum, layer) => sum + layer.retransmittedPacketsSent - first.sent.find(({ id }) => id === layer.id).retransmittedPacketsSent, 0);
  atLeast(name, 'frames decoded of those encoded', (100 * gained('framesDecoded')) / encoded, 90, '%');
  atLeast(name, 'packets repeated by the publisher', resent, 1);
  atLeast(name, 'packets repeated to the viewer', gained('retransmittedPacketsReceived'), 1);
  note(name, 'packets lost after repair', gained('packetsLost'));
  note(name, 'frames/s', gained('framesDecoded') / seconds);
  note(name, 'freezes', `${gained('freezeCount')} (${gained('totalFreezesDuration').toFixed(1)} s)`);
  const samples = gained('totalSamplesReceived', 'sound');
  const audible = gained('concealedSamples', 'sound') - gained('silentConcealedSamples', 'sound');
  atLeast(name, 'sound of its time', (100 * samples) / (48_000 * seconds), 97, '%');
  atMost(name, 'sound concealed', (100 * audible) / samples, 5, '%');
  atLeast(name, 'energy of the sound', gained('totalAudioEnergy', 'sound'), 0.000_001);
  atLeast(name, 'packets lost by the relays', up.counts.upLost + up.counts.downLost + down.counts.upLost + down.counts.downLost, 100);
});

check('who has a bad line is shown to have one', async ({ join, keep }) => {
  const ada = await join('Ada');
  const relay = keep(new Relay({ seed: 13 }));
  const bob = await join('Bob', { relay });
  await ada.sees([bob], { frames: 15 });
  const shown = (one, line) => one.until(`sees a ${line} line`, (line) => document.querySelector('.tile:not(.self) .line')?.dataset.line === line, { argument: line, within: 30_000 });
  await shown(ada, 'good');
  relay.loss = 0.25;
  await Promise.all([shown(ada, 'poor'), shown(bob, 'poor')]);
  relay.loss = 0;
  await Promise.all([shown(ada, 'good'), shown(bob, 'good')]);
});
