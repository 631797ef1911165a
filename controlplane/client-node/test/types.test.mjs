// The committed types are those of the server of this checkout.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
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
