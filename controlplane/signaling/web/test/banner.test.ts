import assert from 'node:assert/strict';
import { test } from 'node:test';
import { happening } from '../src/banner.ts';
import { actionOf, keyOf, SHORTCUTS } from '../src/keys.ts';

test('what happens to the connection is said, and nothing while all is well', () => {
  const call = { state: 'connected' as const, why: '', isInterrupted: false, goesOn: false };
  assert.equal(happening(call, true), '');
  // A browser that believes to be offline, and is not: the call goes on.
  assert.equal(happening(call, false), '');
  assert.match(happening({ ...call, isInterrupted: true }, true), /network is interrupted/);
  assert.match(happening({ ...call, isInterrupted: true }, false), /You are offline/);
  const away = { ...call, state: 'reconnecting' as const, why: 'The media server is not available yet.' };
  assert.equal(happening(away, true), 'The media server is not available yet. Trying again…');
  assert.match(happening({ ...away, goesOn: true }, true), /Trying again… You still hear and see each other\.$/);
  assert.match(happening(away, false), /You are offline/);
  const first = { ...call, state: 'connecting' as const, why: 'The server cannot be reached.' };
  assert.equal(happening(first, true), 'The server cannot be reached. Trying again…');
  assert.match(happening(first, false), /You are offline\. You join as soon/);
  for (const state of ['connecting', 'waiting', 'left'] as const) assert.equal(happening({ ...call, state }, true), '');
});

test('each key does one thing, in either case', () => {
  assert.equal(new Set(SHORTCUTS.map(({ key }) => key)).size, SHORTCUTS.length);
  assert.equal(actionOf('m'), 'mic');
  assert.equal(actionOf('M'), 'mic');
  assert.equal(actionOf('?'), 'help');
  assert.equal(actionOf('Enter'), undefined);
  assert.equal(keyOf('chat'), 'C');
  assert.equal(keyOf('leave'), '');
});
