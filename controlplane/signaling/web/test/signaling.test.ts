import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Signaling } from '../src/signaling.ts';

/** The service works on a request for so long at most. */
const SERVICE_MS_MAX = 15_000;

test('an answer is heard that takes the service as long as it may', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const signaling = new Signaling();
  const socket = signaling.socket as any;
  socket.connected = true;
  socket.packet = () => {};
  try {
    const asked = signaling.request('produce');
    asked.catch(() => {});
    context.mock.timers.tick(SERVICE_MS_MAX + 1_000);
    socket.onack({ id: 0, data: [{ id: 'camera' }] });
    assert.deepEqual(await asked, { id: 'camera' });
    const never = signaling.request('produce');
    context.mock.timers.tick(60_000);
    await assert.rejects(never, { code: 'timeout' });
  } finally {
    socket.connected = false;
    signaling.close();
  }
});
