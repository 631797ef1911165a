import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refused } from '../src/signaling.ts';
import { type Service, settled, track, until, withCall } from './fakes.ts';

/** Begins something, and waits until it has asked for `event`, whose answer waits; gives what lets that go on. */
async function heldAt(service: Service, event: string, begin: () => Promise<unknown>): Promise<() => void> {
  const release = service.hold(event);
  void begin();
  await until(`${event} is asked for`, () => service.count(event) === 1);
  return release;
}

test('unmuted while the microphone is being sent, it is heard', () =>
  withCall(async (service, call) => {
    const mic = track('audio');
    mic.enabled = false;
    call.micMuted = true;
    call.local.set('mic', mic);
    const release = await heldAt(service, 'produce', () => call.start());
    void call.setMicMuted(false);
    release();
    await settled();
    assert.deepEqual(service.sent, ['mic on']);
    assert.deepEqual([call.producers.get('mic')?.paused, mic.enabled], [false, true]);
  }));

test('muted while the microphone is being sent, it is not heard', () =>
  withCall(async (service, call) => {
    const mic = track('audio');
    call.local.set('mic', mic);
    const release = await heldAt(service, 'produce', () => call.start());
    void call.setMicMuted(true);
    release();
    await settled();
    assert.deepEqual(service.sent, ['mic off']);
    assert.deepEqual([call.producers.get('mic')?.paused, mic.enabled], [true, false]);
  }));

test('muted before the connection is made, it is sent muted', () =>
  withCall(async (service, call) => {
    call.local.set('mic', track('audio'));
    const release = await heldAt(service, 'connectProducerTransport', () => call.start());
    void call.setMicMuted(true);
    release();
    await settled();
    assert.deepEqual(service.asked.filter(({ event }) => event === 'produce').map(({ payload }) => payload.paused), [true]);
    assert.equal(service.count('pauseProducer'), 0);
  }));

test('a camera that is turned off while it is being sent is off', () =>
  withCall(async (service, call) => {
    await call.start();
    const release = await heldAt(service, 'produce', () => call.setTrack('camera', track('video')));
    void call.setTrack('camera', null);
    release();
    await settled();
    assert.deepEqual(service.sent, ['camera off']);
  }));

test('off and on again, there is one camera, with the new picture', () =>
  withCall(async (service, call) => {
    await call.start();
    const release = await heldAt(service, 'produce', () => call.setTrack('camera', track('video')));
    void call.setTrack('camera', null);
    const second = track('video');
    void call.setTrack('camera', second);
    release();
    await settled();
    assert.deepEqual(service.sent, ['camera on']);
    assert.equal(call.producers.get('camera')?.track, second);
  }));

test('a screen that is stopped while it is being sent is nowhere', () =>
  withCall(async (service, call) => {
    await call.start();
    const release = await heldAt(service, 'produce', () => call.setTrack('screen', track('video')));
    void call.setTrack('screen', null);
    release();
    await settled();
    assert.deepEqual([service.sent, call.producers.size], [[], 0]);
  }));

test('what is stopped while the socket is away is stopped when it is back', () =>
  withCall(async (service, call) => {
    await call.start();
    await call.setTrack('screen', track('video'));
    assert.deepEqual(service.sent, ['screen on']);
    service.answers.joinRoom = () => service.resumed();
    service.lose();
    void call.setTrack('screen', null).catch(() => {});
    await settled();
    call.signaling.socket.connect();
    await until('it is back', () => call.state === 'connected');
    await settled();
    assert.deepEqual(service.sent, []);
  }));

test('what is turned off and on while the socket is away is so when it is back', () =>
  withCall(async (service, call) => {
    call.local.set('mic', track('audio'));
    await call.start();
    await settled();
    service.answers.joinRoom = () => service.resumed();
    service.lose();
    void call.setMicMuted(true);
    void call.setTrack('camera', track('video'));
    await settled();
    call.signaling.socket.connect();
    await until('it is back', () => call.state === 'connected');
    await settled();
    assert.deepEqual(service.sent, ['camera on', 'mic off']);
  }));

test('a track whose answer was lost is not sent twice', () =>
  withCall(async (service, call) => {
    await call.start();
    const release = await heldAt(service, 'produce', () => call.setTrack('camera', track('video')));
    // It was made, and the answer did not arrive.
    service.own.set('lost', { source: 'camera', paused: false, mid: 'none' });
    service.answers.joinRoom = () => service.resumed();
    service.lose();
    release();
    await settled();
    call.signaling.socket.connect();
    await until('it is back', () => call.state === 'connected');
    await until('it is sent', () => call.producers.has('camera'));
    await settled();
    assert.deepEqual([service.sent, service.own.has('lost')], [['camera on'], false]);
  }));

test('a track for which there is no room is sent when there is some, and holds up no other', (context) =>
  withCall(async (service, call) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const told: string[] = [];
    call.on('problem', (text) => told.push(text));
    await call.start();
    let isFull = true;
    service.answers.produce = ({ appData }) => {
      if (isFull && appData.source === 'screen') throw new Refused('no_capacity', 'you send as many tracks as allowed');
    };
    const screen = call.setTrack('screen', track('video'));
    await settled();
    context.mock.timers.tick(13_000);
    await settled();
    assert.deepEqual([service.sent, service.count('produce'), told.length], [[], 2, 1]);
    await call.setTrack('mic', track('audio'));
    assert.deepEqual(service.sent, ['mic on']);
    isFull = false;
    context.mock.timers.tick(13_000);
    await screen;
    assert.deepEqual([service.sent, told.length], [['mic on', 'screen on'], 1]);
  }));

test('a track for which there is no room is given up when it is wanted no more', (context) =>
  withCall(async (service, call) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    await call.start();
    service.answers.produce = () => {
      throw new Refused('no_capacity', 'you send as many tracks as allowed');
    };
    void call.setTrack('screen', track('video'));
    await settled();
    assert.equal(service.count('produce'), 1);
    let isDone = false;
    void call.setTrack('screen', null).then(() => (isDone = true));
    await settled();
    assert.deepEqual([isDone, service.sent, service.count('produce')], [true, [], 1]);
  }));

test('a track that may have been made is ended when it is wanted no more', () =>
  withCall(async (service, call) => {
    await call.start();
    let asked = 0;
    service.answers.produce = (payload) => {
      if (++asked > 1) return undefined;
      service.produced(payload);
      throw new Refused('timeout', 'The server does not answer.');
    };
    const release = await heldAt(service, 'produce', () => call.setTrack('screen', track('video')));
    const stopped = call.setTrack('screen', null);
    release();
    await stopped;
    assert.deepEqual([service.sent, call.producers.size, asked], [[], 0, 2]);
  }));

test('a track that may have been made is as the buttons say', () =>
  withCall(async (service, call) => {
    const mic = track('audio');
    call.local.set('mic', mic);
    let asked = 0;
    service.answers.produce = (payload) => {
      if (++asked > 1) return undefined;
      service.produced(payload);
      throw new Refused('timeout', 'The server does not answer.');
    };
    const release = await heldAt(service, 'produce', () => call.start());
    const muted = call.setMicMuted(true);
    release();
    await muted;
    assert.deepEqual([service.sent, asked], [['mic off'], 2]);
  }));

test('a track that is found again by its mid is not ended as a stranger', () =>
  withCall(async (service, call) => {
    await call.start();
    const release = await heldAt(service, 'produce', () => call.setTrack('camera', track('video')));
    service.answers.joinRoom = () => service.resumed();
    // It was made, the answer did not arrive, and what is to end it fails at first.
    const { payload } = service.asked.find(({ event }) => event === 'produce')!;
    const { id } = service.produced(payload);
    let ends = 0;
    service.answers.stopProducing = () => {
      if (++ends === 1) throw new Refused('media_unavailable', 'The media server is away.');
    };
    service.lose();
    release();
    await settled();
    call.signaling.socket.connect();
    await until('it is sent', () => call.producers.has('camera'));
    (call.served as any).wake();
    await settled();
    assert.deepEqual([service.sent, call.producers.get('camera')?.id, ends], [['camera on'], id, 0]);
  }));

test('a track that the server lost is sent anew', () =>
  withCall(async (service, call) => {
    call.local.set('mic', track('audio'));
    await call.start();
    await settled();
    service.own.clear();
    await call.setMicMuted(true);
    assert.deepEqual(service.sent, ['mic off']);
  }));

test('one track that cannot be sent does not hold up another', () =>
  withCall(async (service, call) => {
    const told: string[] = [];
    call.on('problem', (text) => told.push(text));
    call.local.set('mic', track('audio'));
    call.local.set('camera', track('video'));
    await call.start();
    await until('both are sent', () => call.producers.size === 2);
    const ended = track('video');
    ended.stop();
    await call.setTrack('camera', ended);
    await call.setMicMuted(true);
    assert.ok(service.sent.includes('mic off'));
    assert.deepEqual(told.map((text) => /^Your camera could not be sent/.test(text)), [true]);
  }));
