// People come late, leave, close the tab, and lose their browser; nothing of them stays.

import { atMost } from './lib/report.mjs';
import { launchMortal } from './lib/browser.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('coming');
const small = { width: 480, height: 270 };

check('a late joiner has a picture within a second', async ({ join }) => {
  const ada = await join('Ada', small);
  const bob = await join('Bob', small);
  await bob.sees([ada], { frames: 30 });
  const late = await join('Late', small);
  await late.until('has a picture', () => window.ironcast.events.some(({ name }) => name === 'firstFrame'));
  atMost('4 coming', 'late joiner: join to first picture', await late.joinMs(), await late.joinLimitMs(1_000), 'ms');
  await late.sees([ada, bob], { frames: 5 });
});

/** Two see each other; the second goes in his way; how long until he is gone everywhere? */
function going(title, limitMs, go) {
  check(`one who ${title} is gone for the others, and so is all that was his`, async ({ join, servers, keep }) => {
    const ada = await join('Ada', small);
    const mortal = keep(await launchMortal());
    const bob = await join('Bob', { ...small, browser: mortal.browser });
    await Promise.all([ada.sees([bob]), bob.sees([ada])]);
    const his = await servers.control.transportsOf(bob.id);
    if (his.length !== 2) throw new Error(`Bob has ${his.length} transports`);
    const begun = performance.now();
    await go(bob, mortal);
    await ada.until('is alone', () => window.ironcast.participants.size === 0 && window.ironcast.tracks.size === 0, { within: limitMs + 5_000 });
    atMost('4 coming', `${title}: gone for the others`, performance.now() - begun, limitMs, 'ms');
    await until('his transports are gone', async () => (await servers.control.transportsOf(bob.id)).length === 0);
    const left = await servers.control.count();
    if (left.transports !== 2 || left.producers !== 2 || left.consumers !== 0) {
      throw new Error(`only Ada's resources should be there: ${JSON.stringify(left)}`);
    }
    atMost('4 coming', `${title}: all freed`, performance.now() - begun, limitMs + 1_000, 'ms');
  });
}

going('leaves', 1_500, (bob) => bob.leave());
// The page says goodbye when it is closed.
going('closes the tab', 2_500, (bob) => bob.page.close());
// Nobody says goodbye: the socket is lost, and five seconds are given to come back.
going('loses the browser', 8_000, (bob, mortal) => mortal.kill());
