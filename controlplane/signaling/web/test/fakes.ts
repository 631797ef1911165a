// A call whose service and browser are here: the real Call and mediasoup-client, with a fake handler
// below it and a service that answers from a few maps.

import { Device, FakeHandler, testFakeParameters } from 'mediasoup-client';
import { Call } from '../src/call.ts';
import { readOptions } from '../src/options.ts';
import { Refused } from '../src/signaling.ts';

Device.factory = async () => new Device({ handlerFactory: FakeHandler.createFactory(testFakeParameters) });

/** What a browser gives for a camera, a microphone or a screen. */
export function track(kind: 'audio' | 'video', label = kind as string): any {
  const ended = new Set<() => void>();
  const made = {
    kind,
    label,
    id: crypto.randomUUID(),
    readyState: 'live',
    enabled: true,
    getSettings: () => ({ width: 320 }),
    addEventListener: (_: string, listener: () => void) => ended.add(listener),
    removeEventListener: (_: string, listener: () => void) => ended.delete(listener),
    stop: () => (made.readyState = 'ended'),
    /** Its device is pulled out. */
    unplug: () => {
      made.readyState = 'ended';
      for (const listener of [...ended]) listener();
    },
  };
  return made;
}

export async function until(what: string, is: () => boolean): Promise<void> {
  const end = performance.now() + 5_000;
  while (!is()) {
    if (performance.now() > end) throw new Error(`${what}: not within 5 s`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Until nothing is under way any more that needs no time. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export class Service {
  readonly asked: { event: string; payload: any }[] = [];
  /** What the server has of the one whose call it is. */
  readonly own = new Map<string, { source: string; paused: boolean; mid: string }>();
  /** What others send. */
  readonly others = new Map<string, any>();
  /** Event to what is answered instead of the usual. */
  readonly answers: Record<string, (payload: any) => any> = {};
  readonly call: Call;
  private gates = new Map<string, { passed: Promise<void>; pass: () => void }>();
  private ids = 0;

  constructor(search = '') {
    this.call = new Call(readOptions(`?room=test&name=Ada&${search}`));
    this.call.signaling.request = (event: string, payload: any = {}) => this.request(event, payload);
    const socket = this.socket;
    socket.connect = () => {
      socket.connected = true;
      Object.defineProperty(socket, 'active', { value: true, configurable: true });
      queueMicrotask(() => this.tell('connect'));
      return socket;
    };
    socket.disconnect = () => {
      socket.connected = false;
      return socket;
    };
  }

  private get socket(): any {
    return this.call.signaling.socket;
  }

  /** An event at the page's socket. */
  tell(event: string, payload?: any): void {
    this.socket.emitReserved(event, payload);
  }

  lose(reason = 'transport close'): void {
    this.socket.connected = false;
    this.tell('disconnect', reason);
  }

  /** Requests of this event get no answer until the result is called. */
  hold(event: string): () => void {
    let pass = () => {};
    const passed = new Promise<void>((resolve) => (pass = resolve));
    this.gates.set(event, { passed, pass });
    return () => {
      this.gates.delete(event);
      pass();
    };
  }

  count(event: string): number {
    return this.asked.filter((each) => each.event === event).length;
  }

  private async request(event: string, payload: any): Promise<any> {
    if (!this.socket.connected) throw new Refused('offline', 'You are offline for a moment.');
    this.asked.push({ event, payload });
    await this.gates.get(event)?.passed;
    if (!this.socket.connected) throw new Refused('timeout', 'The server does not answer.');
    const special = this.answers[event]?.(payload);
    return special ?? this.usual(event, payload);
  }

  private usual(event: string, payload: any): any {
    switch (event) {
      case 'joinRoom':
        return this.joined({});
      case 'createProducerTransport':
      case 'createConsumerTransport':
        return testFakeParameters.generateTransportRemoteParameters();
      case 'produce':
        return this.produced(payload);
      case 'pauseProducer':
      case 'resumeProducer': {
        const there = this.own.get(payload.producerId);
        if (!there) throw new Refused('not_found', 'there is no such producer here');
        there.paused = event === 'pauseProducer';
        return {};
      }
      case 'stopProducing':
        for (const id of payload.producerIds) this.own.delete(id);
        return {};
      case 'consume': {
        if (!this.others.has(payload.producerId)) throw new Refused('not_found', 'there is no such producer here');
        const made = testFakeParameters.generateConsumerRemoteParameters({ id: `consumer-${++this.ids}`, codecMimeType: 'audio/opus' });
        return { ...made, producerId: payload.producerId, participantId: 'bob', producerPaused: false, score: { score: 10, producerScore: 0, producerScores: [0] } };
      }
      case 'listMessages':
        return { messages: [] };
      default:
        return {};
    }
  }

  /** A track is made. One that has its mid is the same, asked for again. */
  produced({ paused, appData, rtpParameters }: any): { id: string } {
    for (const [id, { mid }] of this.own) if (mid === rtpParameters.mid) return { id };
    const id = `own-${++this.ids}`;
    this.own.set(id, { source: appData.source, paused, mid: rtpParameters.mid });
    return { id };
  }

  /** An answer to `joinRoom`; `more` instead of the usual. */
  joined(more: object): any {
    return {
      roomId: 'test', participantId: 'ada', resumeToken: 'token', resumed: false, mode: 'sfu', participants: [],
      producers: [...this.others.values()], iceServers: [],
      rtpCapabilities: testFakeParameters.generateRouterRtpCapabilities(), ...more,
    };
  }

  /** The same, for who comes back to what the server still has of him. */
  resumed(): any {
    const ids = [this.call.sendTransport, this.call.recvTransport].flatMap((each) => each?.id ?? []);
    return this.joined({ resumed: true, transportIds: ids, producerIds: [...this.own.keys()] });
  }

  /** Source to whether it is paused, as the server has it; one that is there twice shows twice. */
  get sent(): string[] {
    return [...this.own.values()].map(({ source, paused }) => `${source} ${paused ? 'off' : 'on'}`).sort();
  }
}

/** Runs with a call that is ended afterwards. */
export async function withCall(code: (service: Service, call: Call) => Promise<void>, search = ''): Promise<void> {
  const service = new Service(search);
  try {
    await code(service, service.call);
  } finally {
    (service.call as any).served.drop();
    service.call.state = 'left';
    service.call.signaling.close();
  }
}
