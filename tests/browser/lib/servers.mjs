// The three processes of one test file: on free ports, in a folder of their own, with their logs, and
// more signaling processes beside them. Each can be killed and started again alone. Ends them all,
// and shows their logs if a test failed.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import dgram from 'node:dgram';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Control } from './control.mjs';
import { until } from './until.mjs';

export const TOP = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const OUTPUT = path.join(TOP, 'tests/browser/output');
export const TARGET = path.resolve(TOP, process.env.CARGO_TARGET_DIR ?? 'target');
export const BINARIES = process.env.IRONCAST_BIN_DIR ?? path.join(TARGET, 'release');

const NAMES = ['dataplane', 'controlplane', 'signaling'];
/** Of media, and as many behind them of plain transports. */
const MEDIA_PORTS = 64;

export function freeTcpPort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function udpPortIsFree(port) {
  return new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', () => resolve(false));
    socket.bind(port, '0.0.0.0', () => socket.close(() => resolve(true)));
  });
}

/** First port of a range that nobody uses now, below those that the kernel lends. */
async function freeMediaPorts() {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const first = 12_000 + Math.floor(Math.random() * 150) * 2 * MEDIA_PORTS;
    const ports = Array.from({ length: 2 * MEDIA_PORTS }, (_, index) => first + index);
    const free = await Promise.all(ports.map(udpPortIsFree));
    if (free.every(Boolean)) return first;
  }
  throw new Error('no free range of UDP ports');
}

/** Asks a service for something. */
export const get = (url) =>
  new Promise((resolve, reject) => {
    const request = http.get(url, (answer) => {
      let body = '';
      answer.on('data', (data) => (body += data));
      answer.on('end', () => resolve({ status: answer.statusCode, body }));
    });
    request.on('error', reject);
    request.setTimeout(2_000, () => request.destroy(new Error('no answer')));
  });

export class Servers {
  /**
   * `settings`: values over the tests' own, such as `{ 'rtc.single_port': 3478 }`; `unset`: those of
   * the tests' own that are left to the defaults of the product; `names`: which processes.
   */
  static async start(name, settings = {}, unset = [], names = NAMES) {
    const servers = new Servers();
    servers.name = name;
    servers.labels = new Set(NAMES);
    servers.folder = fs.mkdtempSync(path.join(os.tmpdir(), `ironcast-${name}-`));
    servers.processes = new Map();
    const [page, control, ops, media] = await Promise.all([
      freeTcpPort(),
      freeTcpPort(),
      freeTcpPort(),
      freeMediaPorts(),
    ]);
    servers.page = `http://localhost:${page}/`;
    servers.ops = `http://127.0.0.1:${ops}`;
    servers.mediaPort = media;
    servers.settings = {
      'control.state_dir': servers.folder,
      'dataplane.drain_s': 0,
      'control.listen': `127.0.0.1:${control}`,
      'control.ops': `127.0.0.1:${ops}`,
      'signaling.listen': `127.0.0.1:${page}`,
      'rtc.ports': `${media}-${media + MEDIA_PORTS - 1}`,
      'rtc.plain_ports': `${media + MEDIA_PORTS}-${media + 2 * MEDIA_PORTS - 1}`,
      'rtc.announced_address': '127.0.0.1',
      'dataplane.workers': '2',
      'log.level': process.env.IRONCAST_TEST_LOG ?? 'info',
      ...settings,
    };
    for (const key of unset) delete servers.settings[key];
    try {
      for (const process of names) await servers.startOne(process);
      const certificate = path.join(servers.folder, 'control-cert.pem');
      servers.control = new Control(`https://127.0.0.1:${control}`, certificate);
    } catch (error) {
      servers.keepLogs();
      await servers.stop();
      throw error;
    }
    return servers;
  }

  log(name) {
    return path.join(this.folder, `${name}.log`);
  }

  /** Another signaling process: `label` is its name here, `settings` its own over those of all. */
  async startNode(label, settings) {
    this.labels.add(label);
    await this.startOne('signaling', { label, settings, page: `http://${settings['signaling.listen']}/` });
  }

  /** Starts one process and waits until it is ready. */
  async startOne(name, { label = name, settings = {}, page = this.page } = {}) {
    const program = path.join(BINARIES, `ironcast-${name}`);
    const set = Object.entries({ ...this.settings, ...settings }).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
    const log = fs.openSync(this.log(label), 'a');
    // The browsers fill the cores; in life they are elsewhere. Without root, `nice` says so and goes on.
    const before = name === 'dataplane' ? ['nice', '-n', '-10'] : [];
    const [command, ...words] = [...before, program, ...set];
    const child = spawn(command, words, { stdio: ['ignore', log, log], cwd: this.folder });
    fs.closeSync(log);
    child.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? code));
      child.once('error', (error) => resolve(error.message));
    });
    child.ended.then((how) => (child.how = how));
    this.processes.set(label, child);
    const ready = {
      dataplane: () => fs.existsSync(path.join(this.folder, 'dataplane.sock')),
      controlplane: async () => (await get(`${this.ops}/ready`)).status === 200,
      signaling: async () => (await get(`${page}health`)).status === 200,
    };
    await until(`${label} is ready`, async () => {
      if (child.how !== undefined) return true;
      return ready[name]();
    }, { within: 20_000, every: 20 });
    if (child.how !== undefined) {
      throw new Error(`${label} ended (${child.how}): ${fs.readFileSync(this.log(label), 'utf8').slice(-2_000)}`);
    }
  }

  async kill(name, signal = 'SIGKILL') {
    const child = this.processes.get(name);
    child.kill(signal);
    await child.ended;
    this.processes.delete(name);
  }

  /** What nobody may see in a log, whatever the test did. */
  panics() {
    return [...this.labels].flatMap((name) => {
      const text = fs.existsSync(this.log(name)) ? fs.readFileSync(this.log(name), 'utf8') : '';
      return text.split('\n').filter((line) => line.includes('panicked at')).map((line) => `${name}: ${line}`);
    });
  }

  keepLogs() {
    for (const name of this.labels) {
      if (!fs.existsSync(this.log(name))) continue;
      fs.mkdirSync(OUTPUT, { recursive: true });
      fs.copyFileSync(this.log(name), path.join(OUTPUT, `${this.name}.${name}.log`));
    }
  }

  async stop() {
    this.control?.close();
    for (const name of [...this.processes.keys()].reverse()) {
      const child = this.processes.get(name);
      child.kill('SIGTERM');
      const insist = setTimeout(() => child.kill('SIGKILL'), 3_000);
      await child.ended;
      clearTimeout(insist);
    }
    this.processes.clear();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
