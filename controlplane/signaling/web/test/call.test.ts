import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refused } from '../src/signaling.ts';
import { settled, track, until, withCall } from './fakes.ts';

test('what is opened after one has left is closed at once', () =>
  withCall(async (service, call) => {
    await call.start();
    const [mic, camera, screen] = [track('audio'), track('video'), track('video')];
    call.local.set('mic', mic);
    await call.leave();
    await call.setTrack('camera', camera);
    await call.setTrack('screen', screen);
    assert.deepEqual([mic, camera, screen].map(({ readyState }) => readyState), ['ended', 'ended', 'ended']);
    assert.equal(call.local.size, 0);
    assert.ok(service.count('leaveRoom') === 1);
  }));

test('who joined from somewhere else is told, and does not come back by himself', () =>
  withCall(async (service, call) => {
    const ended: string[] = [];
    call.on('ended', (text) => {
      ended.push(text);
      void call.leave();
    });
    await call.start();
    service.tell('error', { code: 'already_exists', message: 'you have joined from somewhere else', event: 'joinRoom' });
    service.lose('io server disconnect');
    await new Promise((resolve) => setTimeout(resolve, 400));
    assert.deepEqual([ended.length, service.count('joinRoom')], [1, 1]);
    assert.match(ended[0], /from somewhere else/);
  }));

test('the same when it happened while one was away', () =>
  withCall(async (service, call) => {
    const ended: string[] = [];
    call.on('ended', (text) => void ended.push(text));
    await call.start();
    service.lose();
    service.answers.joinRoom = () => {
      throw new Refused('already_exists', 'a participant ada is already in this room');
    };
    call.signaling.socket.connect();
    await until('it is over', () => ended.length === 1);
    assert.match(ended[0], /from somewhere else/);
  }));

test('a token that ends ends the call, and says so', () =>
  withCall(async (service, call) => {
    const ended: string[] = [];
    call.on('ended', (text) => void ended.push(text));
    call.on('problem', (text) => assert.fail(text));
    await call.start();
    service.tell('error', { code: 'token_expired', message: 'your token has expired', event: '' });
    service.lose('io server disconnect');
    Object.defineProperty(call.signaling.socket, 'active', { value: false, configurable: true });
    service.tell('connect_error', new Error('token_expired: this token has expired'));
    assert.equal(ended.length, 1);
    assert.match(ended[0], /has ended\. Open the call again/);
  }));

test('a server that takes no more sockets now is asked again', (context) =>
  withCall(async (service, call) => {
    const ended: string[] = [];
    call.on('ended', (text) => void ended.push(text));
    await call.start();
    context.mock.timers.enable({ apis: ['setTimeout'] });
    service.lose('transport close');
    Object.defineProperty(call.signaling.socket, 'active', { value: false, configurable: true });
    let asked = 0;
    (call.signaling.socket as any).connect = () => (asked += 1);
    service.tell('connect_error', new Error('no_capacity: too many sockets; try again'));
    assert.equal(asked, 0);
    context.mock.timers.tick(4_000);
    context.mock.timers.reset();
    assert.deepEqual([asked, ended], [1, []]);
  }));

test('a handshake that is refused at the start is told there', () =>
  withCall(async (service, call) => {
    const { socket } = call.signaling;
    (socket as any).connect = () => {
      Object.defineProperty(socket, 'active', { value: false, configurable: true });
      queueMicrotask(() => service.tell('connect_error', new Error('token_expired: this token has expired')));
    };
    await assert.rejects(call.start(), /has ended\. Open the call again/);
  }));

test('a server that is not reached at first is told of until it is there', (context) =>
  withCall(async (service, call) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const { socket } = call.signaling;
    const connect = socket.connect;
    (socket as any).connect = () => Object.defineProperty(socket, 'active', { value: true, configurable: true });
    const starting = call.start();
    starting.catch(() => {});
    service.tell('connect_error', new Error('websocket error'));
    assert.deepEqual([call.state, call.why], ['connecting', '']);
    context.mock.timers.tick(5_000);
    assert.deepEqual([call.state, call.why], ['connecting', 'The server cannot be reached.']);
    const release = service.hold('joinRoom');
    connect.call(socket);
    await settled();
    assert.deepEqual([call.state, call.why], ['connecting', '']);
    release();
    await starting;
    assert.equal(call.state, 'connected');
  }));

test('a server that takes nobody yet is told of, too', (context) =>
  withCall(async (service, call) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const { socket } = call.signaling;
    (socket as any).connect = () => Object.defineProperty(socket, 'active', { value: false, configurable: true });
    call.start().catch(() => {});
    service.tell('connect_error', new Error('no_capacity: too many sockets; try again'));
    context.mock.timers.tick(5_000);
    assert.deepEqual([call.state, call.why], ['connecting', 'The server takes nobody at this moment.']);
  }));

test('who may only watch receives, and sends nothing', () =>
  withCall(async (service, call) => {
    const forbidden = () => {
      throw new Refused('forbidden', 'a viewer sends nothing, and broadcasts nothing');
    };
    Object.assign(service.answers, { createProducerTransport: forbidden, produce: forbidden });
    service.others.set('voice', { producerId: 'voice', participantId: 'bob', kind: 'audio', paused: false });
    const [mic, camera] = [track('audio'), track('video')];
    call.local.set('mic', mic);
    await call.start();
    await until('Bob is heard', () => call.consumers.size === 1);
    assert.deepEqual([call.state, call.maySend, call.local.size], ['connected', false, 0]);
    await call.setTrack('camera', camera);
    assert.deepEqual([mic.readyState, camera.readyState, service.count('produce')], ['ended', 'ended', 0]);
    // He comes back to what he has.
    service.answers.joinRoom = () => service.resumed();
    service.lose();
    call.signaling.socket.connect();
    await until('he is back', () => call.state === 'connected');
    assert.equal(service.count('createConsumerTransport'), 1);
  }));

test('how well a track comes is known from the answer on', () =>
  withCall(async (service, call) => {
    service.others.set('voice', { producerId: 'voice', participantId: 'bob', kind: 'audio', paused: false });
    await call.start();
    await until('Bob is heard', () => call.consumers.size === 1);
    const [track] = call.consumers.values();
    assert.deepEqual([track.score, track.producerScore], [10, null]);
    service.tell('consumer-score', { consumerId: track.consumer.id, score: { score: 9, producerScore: 8 } });
    assert.deepEqual([track.score, track.producerScore], [9, 8]);
  }));

test('a track whose way broke is received anew', () =>
  withCall(async (service, call) => {
    const listed = { producerId: 'voice', participantId: 'bob', kind: 'audio', paused: false };
    service.others.set('voice', listed);
    await call.start();
    await until('Bob is heard', () => call.consumers.size === 1);
    const [first] = call.consumers.keys();
    service.tell('consumer-closed', { consumerId: first, producerId: 'voice', reason: 'producer_closed' });
    assert.equal(call.consumers.size, 0);
    service.tell('roomProducersChanged', { producers: [listed] });
    await until('Bob is heard again', () => call.consumers.size === 1);
    assert.ok(!call.consumers.has(first));
    // A list that is older than what was told meanwhile changes nothing.
    service.tell('producer-paused', { producerId: 'voice' });
    service.tell('roomProducersChanged', { producers: [listed] });
    assert.equal([...call.consumers.values()][0].producerPaused, true);
    service.others.clear();
    service.tell('producer-closed', { producerId: 'voice' });
    service.tell('roomProducersChanged', { producers: [listed] });
    await settled();
    assert.deepEqual([call.consumers.size, call.served.listed.size], [0, 0]);
  }));

test('a track whose way broke while it was being resumed is received anew', () =>
  withCall(async (service, call) => {
    const listed = { producerId: 'voice', participantId: 'bob', kind: 'audio', paused: false };
    service.others.set('voice', listed);
    const release = service.hold('resumeConsumer');
    await call.start();
    await until('it is about to be heard', () => service.count('resumeConsumer') === 1);
    const [first] = call.consumers.keys();
    service.tell('consumer-closed', { consumerId: first, producerId: 'voice', reason: 'producer_closed' });
    service.tell('roomProducersChanged', { producers: [listed] });
    service.answers.resumeConsumer = ({ consumerId }) => {
      if (consumerId === first) throw new Refused('not_found', 'there is no such consumer here');
    };
    release();
    await until('Bob is heard', () => call.consumers.size === 1 && !call.consumers.has(first));
  }));

for (const event of ['createProducerTransport', 'createConsumerTransport']) {
  test(`who gets no place at the media server waits for one: ${event}`, (context) =>
    withCall(async (service, call) => {
      context.mock.timers.enable({ apis: ['setTimeout'] });
      service.answers[event] = () => {
        throw new Refused('no_capacity', '500 transports on this worker, and 500 are allowed');
      };
      const starting = call.start();
      starting.catch(() => {});
      await settled();
      assert.deepEqual([call.state, call.why], ['waiting', 'The media server has no place at this moment.']);
      delete service.answers[event];
      service.answers.joinRoom = () => service.joined({ resumed: true, transportIds: [], producerIds: [] });
      context.mock.timers.tick(4_000);
      await settled();
      assert.equal(call.state, 'connected');
      await starting;
    }));
}

test('a track for which there is no room is received when there is some', (context) =>
  withCall(async (service, call) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const told: string[] = [];
    call.on('problem', (text) => told.push(text));
    service.others.set('voice', { producerId: 'voice', participantId: 'bob', kind: 'audio', paused: false });
    service.answers.consume = () => {
      throw new Refused('no_capacity', 'you receive as many tracks as allowed');
    };
    await call.start();
    for (let times = 1; times <= 3; times++) {
      await settled();
      assert.deepEqual([service.count('consume'), call.consumers.size], [times, 0]);
      if (times === 3) delete service.answers.consume;
      context.mock.timers.tick(13_000);
    }
    await settled();
    assert.deepEqual([call.consumers.size, told.length], [1, 1]);
  }));
