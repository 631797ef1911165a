// What two signaling processes share, and what stands before them: a Redis and a PostgreSQL server of their own, and
// a balancer for each tab, so that a test says which process a tab begins at.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { freeTcpPort } from './servers.mjs';
import { until } from './until.mjs';

/** The user "nobody" of every distribution: PostgreSQL refuses to be run by root. */
const NOBODY = 65_534;

/** Debian puts PostgreSQL's programs beside the path, in a folder of their version. */
function postgres(name) {
  const top = '/usr/lib/postgresql';
  const versions = fs.existsSync(top) ? fs.readdirSync(top).sort() : [];
  const found = versions.map((version) => path.join(top, version, 'bin', name)).filter((file) => fs.existsSync(file));
  return found.at(-1) ?? name;
}

export class Stores {
  static async start() {
    const stores = new Stores();
    stores.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ironcast-stores-'));
    const isRoot = process.getuid() === 0;
    if (isRoot) fs.chownSync(stores.folder, NOBODY, NOBODY);
    const options = { cwd: stores.folder, stdio: 'ignore' };
    const nobodys = isRoot ? { ...options, uid: NOBODY, gid: NOBODY } : options;
    const redis = path.join(stores.folder, 'redis.sock');
    const data = path.join(stores.folder, 'data');
    const words = ['-D', data, '-A', 'trust', '-U', 'ironcast', '--no-sync', '-E', 'UTF8', '--locale', 'C'];
    const made = spawnSync(postgres('initdb'), words, nobodys);
    if (made.status !== 0) throw new Error(`initdb: ${made.error ?? made.status}`);
    stores.children = [
      spawn('redis-server', ['--port', '0', '--save', '', '--appendonly', 'no', '--unixsocket', redis], options),
      spawn(postgres('postgres'), ['-D', data, '-k', stores.folder, '-c', 'listen_addresses=', '-c', 'fsync=off'], nobodys),
    ];
    for (const child of stores.children) child.on('error', (error) => (stores.failed = error));
    const takes = (file) => new Promise((resolve) => {
      const socket = net.connect(file, () => resolve(true) ?? socket.destroy());
      socket.on('error', () => resolve(false));
    });
    for (const file of [redis, path.join(stores.folder, '.s.PGSQL.5432')]) {
      await until(`${file} takes connections`, () => {
        if (stores.failed) throw stores.failed;
        return takes(file);
      }, { within: 30_000 });
    }
    return stores;
  }

  /** What makes a signaling process a node of a fleet. */
  settings() {
    const key = path.join(this.folder, 'fleet.key');
    fs.writeFileSync(key, 'the same long secret at all of the nodes');
    return {
      'signaling.fleet': 'main',
      'signaling.redis': `redis+unix://${this.folder}/redis.sock`,
      'signaling.database': `postgres://ironcast@localhost/postgres?host=${this.folder}`,
      'signaling.fleet_key_file': key,
    };
  }

  stop() {
    for (const child of this.children) child.kill('SIGKILL');
    fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** One address for all nodes: a connection goes to the first of them that takes it. */
export class Balancer {
  /** `ports`: of the nodes, the preferred one first. */
  static async open(ports) {
    const balancer = new Balancer();
    const port = await freeTcpPort();
    balancer.page = `http://localhost:${port}/`;
    balancer.sockets = new Set();
    balancer.server = net.createServer((client) => balancer.pass(client.on('error', () => {}), [...ports]));
    await new Promise((resolve, reject) => balancer.server.once('error', reject).listen(port, 'localhost', resolve));
    return balancer;
  }

  pass(client, [port, ...others]) {
    if (port === undefined) return client.destroy();
    const node = net.connect(port, '127.0.0.1');
    const end = () => {
      client.destroy();
      node.destroy();
    };
    for (const socket of [client, node]) this.sockets.add(socket.setNoDelay(true).once('close', () => this.sockets.delete(socket)));
    // Nothing was read of the client yet: the next node gets all of it.
    const next = () => this.pass(client, others);
    node.once('error', next);
    node.once('connect', () => {
      node.off('error', next);
      for (const socket of [client, node]) socket.on('error', end).on('close', end);
      client.pipe(node).pipe(client);
    });
  }

  async close() {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
