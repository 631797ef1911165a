// A path with a delay: the relay in a process of its own, above the browsers in rank, so that a
// browser that fills a core does not make the path later than it is. It says how late it was.

import { fork } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { Relay } from './relay.mjs';

const FILE = fileURLToPath(import.meta.url);

export class FarRelay {
  /** `delayMs`: how much later each packet comes, each way. */
  constructor({ delayMs }) {
    this.questions = new Map();
    this.asked = 0;
    this.child = fork(FILE, ['serve', String(delayMs)]);
    this.child.on('message', ({ number, answer }) => {
      this.questions.get(number)?.(answer);
      this.questions.delete(number);
    });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
  }

  ask(what, ...values) {
    this.asked += 1;
    const number = this.asked;
    return new Promise((resolve, reject) => {
      this.questions.set(number, resolve);
      this.child.send({ number, what, values }, (error) => error && reject(error));
    });
  }

  portFor(ip, port) {
    return this.ask('portFor', ip, port);
  }

  /** How much later than meant the latest packet left since the last question, in ms. */
  latestMs() {
    return this.ask('latestMs');
  }

  async close() {
    if (this.child.connected) this.child.disconnect();
    await this.ended;
  }
}

if (process.argv[1] === FILE && process.argv[2] === 'serve') {
  try {
    os.setPriority(-15);
  } catch {
    // Only root may; then what it was late by is said all the same.
  }
  const relay = new Relay({ delayMs: Number(process.argv[3]) });
  process.on('message', async ({ number, what, values }) => {
    process.send({ number, answer: await relay[what](...values) });
  });
  process.on('disconnect', () => process.exit());
}
