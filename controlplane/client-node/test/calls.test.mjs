// Calls that are repeated, and calls that are not: against a server that answers as it is told to, and
// against a control plane. Who may call.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { connect, createClient } from '@ironcast/client';
import { Host, until, Way } from './host.mjs';

const timeout = 120_000;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ironcast-client-node-calls-'));
const file = (name) => path.join(folder, name);
let host;
before(async () => {
  makeCertificates();
  fs.writeFileSync(file('tokens'), 'anna control anna-token\nrita read rita-token\n');
  host = await Host.start('calls', { 'control.token_file': file('tokens'), 'control.client_ca': file('ca.pem') });
});
after(async () => {
  await host?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** A CA and a certificate of it for a client. */
function makeCertificates() {
  const openssl = (...words) => execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=tests');
  openssl('req', ...key, '-keyout', 'carl.key', '-out', 'carl.csr', '-subj', '/CN=carl');
  // Without an extension it would be of version 1, which nobody takes.
  fs.writeFileSync(file('extensions'), 'extendedKeyUsage = clientAuth\n');
  openssl('x509', '-req', '-extfile', 'extensions', '-in', 'carl.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'carl.pem', '-days', '2');
}

/** A server that gives these answers, one after the other, and a client of it. */
async function answering(t, answers) {
  const asked = [];
  const server = http.createServer((request, response) => {
    const answer = answers[asked.length] ?? { status: 200, body: { ok: true } };
    asked.push(performance.now());
    if (answer === 'break') return request.socket.destroy();
    const problem = answer.code ? { code: answer.code, status: answer.status, title: 'No', detail: 'as told', retryAfter: answer.retryAfter } : undefined;
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.text ?? JSON.stringify(problem ?? answer.body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = createClient({ url: `http://127.0.0.1:${server.address().port}`, timeoutMs: 20_000 });
  t.after(() => {
    client.close();
    server.close();
  });
  return { client, asked };
}

const limited = { status: 429, code: 'rate_limited', retryAfter: 1 };

test('who is asked to come again comes again, as late as he is told, twice', { timeout }, async (t) => {
  const { client, asked } = await answering(t, [limited, limited]);
  assert.deepEqual(await client.call('GET', '/workers'), { ok: true });
  assert.equal(asked.length, 3);
  assert.ok(asked[1] - asked[0] > 950 && asked[2] - asked[1] > 950, String(asked));
  const often = await answering(t, [limited, limited, limited]);
  await assert.rejects(often.client.call('GET', '/workers'), { code: 'rate_limited', status: 429, retryAfter: 1 });
  assert.equal(often.asked.length, 3);
});

test('what will not be different soon is not asked again', { timeout }, async (t) => {
  for (const refused of [
    { status: 503, code: 'no_capacity', retryAfter: 5 },
    { status: 503, code: 'draining' },
    { status: 422, code: 'unsupported' },
    { status: 400, code: 'invalid_request' },
  ]) {
    const { client, asked } = await answering(t, [refused]);
    await assert.rejects(client.call('POST', '/routers', { id: 'x' }), { code: refused.code, status: refused.status });
    assert.equal(asked.length, 1);
  }
});

test('a connection that breaks is made again', { timeout }, async (t) => {
  const { client, asked } = await answering(t, ['break', 'break', 'break']);
  assert.deepEqual(await client.call('POST', '/routers', { id: 'x' }), { ok: true });
  assert.equal(asked.length, 4);
});

test('what cannot be read is an error', { timeout }, async (t) => {
  const { client } = await answering(t, [{ status: 502, text: '<html>' }, { status: 200, text: '{' }]);
  await assert.rejects(client.call('GET', '/workers'), { code: 'answer', status: 502 });
  await assert.rejects(client.call('GET', '/workers'), { code: 'answer' });
});

test('nobody there, nobody trusted, nonsense as settings', { timeout }, async () => {
  const nobody = createClient({ url: 'http://127.0.0.1:9', timeoutMs: 1_500 });
  await assert.rejects(nobody.call('GET', '/workers'), { code: 'unreachable' });
  await assert.rejects(connect({ url: host.url, ca: fs.readFileSync(file('ca.pem')), token: 'anna-token' }), { code: 'untrusted' });
  await assert.rejects(connect({ url: host.url, caFile: file('nothing.pem') }), { code: 'settings' });
  assert.throws(() => createClient({ url: 'ftp://here' }), { code: 'settings' });
  assert.throws(() => createClient({ timeoutMs: 0 }), { code: 'settings' });
});

test('an answer that is lost: the create is repeated, and there is one router', { timeout }, async () => {
  const way = await Way.to(host.url);
  const worker = await host.worker({ url: way.url, token: 'anna-token' });
  // The connection is there: what the server says next is the answer.
  await worker.health();
  const lost = way.loseAnAnswer();
  const router = await worker.createRouter();
  await lost;
  const { items } = await worker.client.call('GET', '/routers');
  assert.deepEqual(items.map(({ id }) => id), [router.id]);
  await worker.close();
  way.close();
});

test('more calls than the limit allows all succeed, a little later', { timeout }, async () => {
  const strict = await Host.start('strict', { 'limits.requests_per_s': 8 });
  try {
    const worker = await strict.worker();
    const router = await worker.createRouter();
    await Promise.all(Array.from({ length: 18 }, () => router.dump()));
    const metrics = await (await fetch(`${strict.servers.ops}/metrics`)).text();
    assert.match(metrics, /problems_total\{code="rate_limited"\} [1-9]/);
  } finally {
    await strict.stop();
  }
});

test('a token, another scope, none, a wrong one', { timeout }, async () => {
  const anna = await host.worker({ token: async () => 'anna-token' });
  const router = await anna.createRouter();
  const rita = await host.worker({ token: 'rita-token' });
  await assert.rejects(rita.createRouter(), { code: 'forbidden', status: 403 });
  await assert.rejects(rita.findRouter(router.id), { code: 'not_found' });
  await assert.rejects(host.worker({ token: 'wrong' }), { code: 'unauthenticated', status: 401 });
  await assert.rejects(host.worker(), { code: 'unauthenticated' });
  await anna.close();
});

test('a client certificate', { timeout }, async () => {
  const carl = await host.worker({ certFile: file('carl.pem'), keyFile: file('carl.key') });
  const router = await carl.createRouter();
  const { owner } = await carl.client.call('GET', `/routers/${router.id}`);
  assert.equal(owner, 'cert:carl');
  await carl.close();
});

test('a token that is taken away ends the stream, and its return opens it', { timeout }, async () => {
  const anna = await host.worker({ token: 'anna-token' });
  const said = [];
  anna.on('disconnected', ({ code }) => said.push(code));
  anna.on('connected', () => said.push('connected'));
  const tokens = fs.readFileSync(file('tokens'));
  fs.writeFileSync(file('tokens'), 'rita read rita-token\n');
  await until('she is put out', () => said.length === 1, { within: 20_000 });
  await assert.rejects(anna.createRouter(), { code: 'unauthenticated' });
  fs.writeFileSync(file('tokens'), tokens);
  await until('she is back', () => said.includes('connected'), { within: 20_000 });
  await anna.createRouter();
  await anna.close();
});
