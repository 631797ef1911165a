// A figure that a full machine made is no result: it is measured again, and given up after some tries.

import os from 'node:os';
import { FULL, idleShare } from './browser.mjs';
import { note } from './report.mjs';

const TRIES = 2;
/** A path whose packets left so much later than meant was another path. */
const LATE_MS = 20;

/**
 * Runs `attempt()` until it passes. What it throws counts where the cores had time to spare and no relay was late;
 * else it runs again. `skip(why)`: after the last try. `relays`: those of the attempt that just ran.
 */
export async function undisturbed(name, { skip, relays }, attempt) {
  for (let number = 1; ; number += 1) {
    const before = os.cpus();
    try {
      return await attempt();
    } catch (error) {
      const idle = idleShare(before, os.cpus());
      const late = Math.max(0, ...(await Promise.all(relays().map((relay) => relay.latestMs()))));
      if (idle >= FULL && late < LATE_MS) throw error;
      const why = `cores ${Math.round(100 * idle)} % idle, relay up to ${Math.round(late)} ms late: ${error.message}`;
      note(name, `no result, try ${number} of ${TRIES}`, why);
      if (number === TRIES) return skip(`this machine gave no result: ${why}`);
    }
  }
}
