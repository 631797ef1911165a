// Network namespaces: machines with other addresses than this one, made and removed by the tests.
// A scenario runs inside as a process of its own and tells its figures on standard output.

import { execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const asRoot = process.getuid() === 0 ? [] : ['sudo', '-n', '--preserve-env'];
const run = (...words) => {
  const [program, ...args] = [...asRoot, ...words];
  execFileSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
};

const SCENARIO = path.join(path.dirname(fileURLToPath(import.meta.url)), 'scenario.mjs');

/** Runs `code(name)` with a namespace that has loopback and the given addresses on an interface. */
export async function withNamespace(addresses, code) {
  const name = `ironcast-${process.pid}-${Math.floor(Math.random() * 1e6)}`;
  run('ip', 'netns', 'add', name);
  try {
    const ip = (...words) => run('ip', '-n', name, ...words);
    ip('link', 'set', 'lo', 'up');
    if (addresses.length) {
      ip('link', 'add', 'outside', 'type', 'veth', 'peer', 'name', 'beyond');
      for (const address of addresses) {
        ip('address', 'add', address, 'dev', 'outside', ...(address.includes(':') ? ['nodad'] : []));
      }
      ip('link', 'set', 'outside', 'up');
      ip('link', 'set', 'beyond', 'up');
    }
    return await code(name);
  } finally {
    run('ip', 'netns', 'del', name);
  }
}

/** Runs a scenario, in a namespace or (without one) here, and gives its figures. */
export function scenario(options, namespace) {
  const inside = namespace ? [...asRoot, 'ip', 'netns', 'exec', namespace] : [];
  const [program, ...args] = [...inside, process.execPath, SCENARIO, JSON.stringify(options)];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [out, problems] = ['', ''];
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (problems += data));
    child.on('error', reject);
    child.on('exit', (code) => {
      const last = out.trim().split('\n').at(-1);
      if (code === 0) resolve(JSON.parse(last));
      else reject(new Error(`the scenario failed (${code}):\n${problems.slice(-4_000)}${out.slice(-1_000)}`));
    });
  });
}
