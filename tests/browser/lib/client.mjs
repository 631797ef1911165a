// A client that is a process of its own, whatever it is written in: it takes steps as lines of JSON on
// its standard input, `{id, step, data}`, and answers each on its standard output, `{id, data}` or `{id, error}`.

import { spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { TARGET, TOP } from './servers.mjs';

const ANSWER_MS_MAX = 15_000;

const script = (name) => path.join(TOP, 'tests/browser/foreign', name);
const COMMANDS = {
  aiortc: [path.join(TARGET, 'aiortc/bin/python'), script('with_aiortc.py')],
  // The distribution's Python: the modules for GStreamer are for no other.
  gstreamer: ['/usr/bin/python3', script('with_gstreamer.py')],
  werift: [process.execPath, script('with_werift.mjs')],
};

export class Client {
  /** `name`: aiortc, gstreamer, or werift. */
  constructor(name) {
    const [command, ...words] = COMMANDS[name];
    this.waiting = new Map();
    this.asked = 0;
    this.problems = '';
    this.child = spawn(command, words, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr.on('data', (data) => (this.problems = (this.problems + data).slice(-4_000)));
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.hear(JSON.parse(line)));
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => resolve(`${command} ${words} ended (${signal ?? code}): ${this.problems}`));
      this.child.once('error', (error) => resolve(`${error.message}: \`tests/run browser\` installs what the clients need`));
    });
    this.ended.then((why) => {
      this.why = why;
      for (const { reject } of this.waiting.values()) reject(new Error(why));
    });
  }

  hear({ id, data, error }) {
    const asked = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) asked.reject(new Error(`${asked.step}: ${error}`));
    else asked.resolve(data);
  }

  ask(step, data = {}) {
    if (this.why) return Promise.reject(new Error(this.why));
    const id = (this.asked += 1);
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { step, resolve, reject });
      const late = () => this.waiting.has(id) && reject(new Error(`${step}: no answer; ${this.problems}`));
      setTimeout(late, ANSWER_MS_MAX).unref();
    });
    this.child.stdin.write(`${JSON.stringify({ id, step, data })}\n`);
    return answer;
  }

  async close() {
    this.child.stdin.end();
    const insist = setTimeout(() => this.child.kill('SIGKILL'), 2_000);
    await this.ended;
    clearTimeout(insist);
  }
}
