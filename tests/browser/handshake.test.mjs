// Media that is 100 ms away: a browser whose handshake begins within its connectivity checks is connected earlier
// than one that waits for the answer.

import { atLeast, note } from './lib/report.mjs';
import { launch } from './lib/browser.mjs';
import { Relay } from './lib/relay.mjs';
import { Room } from './lib/room.mjs';
import { stage } from './lib/stage.mjs';
import { until } from './lib/until.mjs';

const check = stage('handshake', { 'rtc.dtls_in_stun': true }, ['dataplane', 'controlplane']);
const DELAY_MS = 100;
const TIMES = 5;
/** Off in Chromium so far. */
const WITHIN = '--force-fieldtrials=WebRTC-IceHandshakeDtls/Enabled/';

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

check('the handshake begins within the checks', async ({ keep, servers }) => {
  const name = '14 handshake';
  const connected = {};
  for (const [how, flags] of [['behind', []], ['within', [WITHIN]]]) {
    const browser = keep(await launch(flags));
    const took = [];
    for (let time = 0; time < TIMES; time += 1) {
      const room = await Room.open(servers);
      const relay = new Relay({ delayMs: DELAY_MS });
      const ada = await room.browser(browser, { relay });
      await ada.step('speak', { withRed: false });
      const { send } = await until('it is connected', async () => {
        const moments = await ada.step('connectedMs');
        return moments.send > 0 && moments;
      });
      took.push(send);
      for (const thing of [ada, relay, room]) await thing.close();
    }
    connected[how] = median(took);
    note(name, `connected, handshake ${how} the checks`, connected[how], 'ms');
  }
  atLeast(name, 'earlier by', connected.behind - connected.within, DELAY_MS * 0.8, 'ms');
});
