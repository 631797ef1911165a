// The committed types are those of the server of this checkout, and an application can use ours.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FILE, generate } from '../scripts/types.mjs';
import { Host } from './host.mjs';

let host;
before(async () => {
  host = await Host.start('types');
});
after(() => host?.stop());

test('src/openapi.ts is what `npm run types` writes', { timeout: 60_000 }, async () => {
  const worker = await host.worker();
  const document = await worker.client.call('GET', '/openapi.json');
  assert.equal(await generate(document), fs.readFileSync(FILE, 'utf8'), 'see scripts/types.mjs');
});

test("a mediasoup application's types are taken", { timeout: 120_000 }, () => {
  const here = (name) => fileURLToPath(new URL(name, import.meta.url));
  const compiler = here('../node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [compiler, '-p', here('tsconfig.json')], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});
