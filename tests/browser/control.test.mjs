// The control plane is killed and started again in the middle of a call: media never notices, and
// the call can be joined and left as before.

import assert from 'node:assert/strict';
import { atLeast, atMost, note } from './lib/report.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('control');
const name = '8 control plane';

check('the control plane is killed and started again', async ({ join, servers }) => {
  const [ada, bob] = [await join('Ada'), await join('Bob')];
  await Promise.all([bob.sees([ada], { frames: 30 }), ada.sees([bob])]);
  const before = { count: await servers.control.count(), picture: await bob.from(ada), sound: await bob.from(ada, 'mic') };
  await bob.evaluate((id) => window.frameWatch.start(id), before.picture.consumerId);
  const begun = performance.now();

  await servers.kill('controlplane', 'SIGKILL');
  const atDeath = (await bob.from(ada)).framesDecoded;
  await until('media goes on without it', async () => (await bob.from(ada)).framesDecoded > atDeath + 45);
  const started = performance.now();
  await servers.startOne('controlplane');
  note(name, 'ready again after', performance.now() - started, 'ms');
  servers.control.close();
  await until('it knows every resource again', async () => {
    const now = await servers.control.count();
    assert.deepEqual(now, before.count);
    return true;
  }, { within: 10_000 });
  const known = (await bob.from(ada)).framesDecoded;
  await until('media goes on with the new one', async () => (await bob.from(ada)).framesDecoded > known + 30);

  const seconds = (performance.now() - begun) / 1_000;
  const watch = await bob.evaluate((id) => window.frameWatch.stop(id), before.picture.consumerId);
  const after = { picture: await bob.from(ada), sound: await bob.from(ada, 'mic') };
  assert.equal(after.picture.id, before.picture.id, 'the same consumer');
  atMost(name, 'freezes', after.picture.freezeCount - before.picture.freezeCount, 0);
  atMost(name, 'frames dropped', after.picture.framesDropped - before.picture.framesDropped, 0);
  atMost(name, 'packets lost', after.picture.packetsLost - before.picture.packetsLost, 0);
  atMost(name, 'packets of sound lost', after.sound.packetsLost - before.sound.packetsLost, 0);
  atMost(name, 'longest pause between frames', watch.pauseMs, 300, 'ms');
  atLeast(name, 'frames/s through it all', (after.picture.framesDecoded - before.picture.framesDecoded) / seconds, 13.5);

  const eve = await join('Eve');
  await eve.sees([ada, bob], { frames: 5 });
  await Promise.all([ada.sees([eve]), bob.sees([eve])]);
  note(name, 'joined after it: first picture', await eve.joinMs(), 'ms');
  await eve.leave();
  await ada.until('sees that Eve left', () => window.ironcast.participants.size === 1);
  await until('what was hers is freed', async () => (await servers.control.transportsOf(eve.id)).length === 0);
  await bob.leave();
  await ada.until('is alone', () => window.ironcast.participants.size === 0);
});
