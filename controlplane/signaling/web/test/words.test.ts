import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allInWords, inWords, isOwnWish } from '../src/devices.ts';
import { isPassing, patiently, Refused } from '../src/signaling.ts';
import { Still } from '../src/still.ts';

const error = (name: string, message = '') => new DOMException(message, name);

test('missing devices are named, together where the reason is one', () => {
  const denied = error('NotAllowedError');
  assert.match(allInWords(new Map([['camera', denied], ['microphone', denied]])), /camera and microphone\. Allow them/);
  assert.match(allInWords(new Map([['microphone', denied]])), /microphone\. Allow it/);
  const both = allInWords(new Map([['camera', error('NotFoundError')], ['microphone', denied]]));
  assert.match(both, /No camera was found/);
  assert.match(both, /microphone/);
  assert.equal(allInWords(new Map()), '');
});

test('a screen that the system refuses is not a device in use', () => {
  assert.match(inWords(error('NotReadableError'), 'screen'), /system/);
  assert.ok(isOwnWish(error('NotAllowedError', 'Permission denied')));
  assert.ok(!isOwnWish(error('NotAllowedError', 'Permission denied by system')));
});

test('a camera that was off did not stand still', () => {
  const still = new Still();
  assert.equal(still.count(0, 100, false), 0);
  assert.equal(still.count(0, 110, true), 0);
  assert.equal(still.count(0, 110, false), 0);
  // The browser counts the pause with the first picture after it.
  assert.equal(still.count(1, 112, false), 0);
  assert.equal(still.count(1, 150, false), 0);
  assert.equal(still.count(2, 160, false), 1);
  assert.equal(still.count(2, 160, true), 1);
  assert.equal(still.count(3, 170, false), 1);
});

test('what fails for a passing reason is tried again for as long as it is wanted', async () => {
  let times = 0;
  const fails = (code: string, until: number) => async () => {
    times += 1;
    if (times < until) throw new Refused(code, code);
    return times;
  };
  const told: number[] = [];
  assert.equal(await patiently(fails('media_unavailable', 3), () => true, (_, count) => told.push(count)), 3);
  assert.deepEqual(told, [1, 2]);
  times = 0;
  await assert.rejects(patiently(fails('not_found', 9), () => true), { code: 'not_found' });
  assert.equal(times, 1);
  times = 0;
  await assert.rejects(patiently(fails('rate_limited', 9), () => times < 2), { code: 'rate_limited' });
  assert.equal(times, 2);
  assert.ok(isPassing(new Refused('offline', '')) && !isPassing(new Error('anything')));
});
