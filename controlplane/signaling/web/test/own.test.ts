import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Own, type OwnOptions } from '../src/own.ts';
import { settled, track } from './fakes.ts';

/** A call that only remembers, and devices that open when they are told to. */
function scene() {
  const local = new Map<string, any>();
  const told: string[] = [];
  const opened: ((track: any) => void)[] = [];
  const open = () => new Promise<any>((resolve) => opened.push(resolve));
  const call: any = {
    local,
    micMuted: false,
    maySend: true,
    setTrack: async (source: string, made: any) => void (made ? local.set(source, made) : local.delete(source)),
    setMicMuted: async (muted: boolean) => void (call.micMuted = muted),
  };
  const devices = { open, nextMic: open, otherCamera: open };
  const options: OwnOptions = { call, devices, changed: () => {}, tell: (text) => void told.push(text) };
  return { own: new Own(options), call, local, told, opened, devices };
}

test('a camera shows as on while it opens, and pressed again meanwhile it does not come', async () => {
  const { own, local, opened } = scene();
  void own.toggle('camera');
  assert.ok(own.isOn('camera'));
  void own.toggle('camera');
  assert.ok(!own.isOn('camera'));
  const first = track('video');
  opened[0](first);
  await settled();
  assert.deepEqual([first.readyState, local.size], ['ended', 0]);
  // Once more: what opens last counts, whichever comes first.
  void own.toggle('camera');
  void own.toggle('camera');
  void own.toggle('camera');
  const [second, third] = [track('video'), track('video')];
  opened[2](third);
  opened[1](second);
  await settled();
  assert.deepEqual([second.readyState, third.readyState, local.get('camera')], ['ended', 'live', third]);
  assert.ok(own.isOn('camera'));
});

test('what is turned off while another device opens for it stays off', async () => {
  const { own, local, opened, devices } = scene();
  local.set('camera', track('video'));
  void own.replace('camera', () => devices.open());
  void own.toggle('camera');
  await settled();
  const late = track('video');
  opened[0](late);
  await settled();
  assert.deepEqual([late.readyState, local.size], ['ended', 0]);
});

test('of two devices that are chosen the last one is used', async () => {
  const { own, local, opened, devices } = scene();
  local.set('mic', track('audio'));
  void own.replace('mic', () => devices.open());
  void own.replace('mic', () => devices.open());
  const [first, second] = [track('audio'), track('audio')];
  opened[1](second);
  opened[0](first);
  await settled();
  assert.deepEqual([first.readyState, local.get('mic')], ['ended', second]);
});

test('a headset that is unplugged makes way for the next microphone, muted as it was', async () => {
  const { own, call, local, told, opened } = scene();
  const headset = track('audio');
  local.set('mic', headset);
  call.micMuted = true;
  own.watch();
  headset.unplug();
  const built = track('audio', 'Built-in');
  opened[0](built);
  await settled();
  assert.deepEqual([local.get('mic'), call.micMuted], [built, true]);
  assert.match(told[0], /Built-in is used now/);
  // And where there is no other one.
  own.watch();
  built.unplug();
  opened[1](null);
  await settled();
  assert.equal(local.size, 0);
  assert.match(told[1], /microphone is gone/);
});

test('the other camera takes the place of the first', async () => {
  const { own, local, opened, devices } = scene();
  const front = track('video');
  local.set('camera', front);
  const flipped = own.flip();
  const back = track('video');
  opened[0](back);
  await flipped;
  assert.equal(local.get('camera'), back);
  devices.otherCamera = async () => {
    throw new Error('No camera was found.');
  };
  await assert.rejects(own.flip(), /No camera/);
  assert.equal(local.size, 0);
});

test('who may only watch opens nothing', async () => {
  const { own, call, told, opened } = scene();
  call.maySend = false;
  await own.toggle('mic');
  assert.deepEqual([opened.length, told.length], [0, 1]);
});
