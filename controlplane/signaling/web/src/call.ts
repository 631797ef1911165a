// The call itself: joins a room, sends the own tracks, receives everybody else's, and comes back
// by itself when socket, network or media server fail. It knows nothing of the page: it tells by
// events what changed.

import { Device, type types } from 'mediasoup-client';
import { Broadcasts } from './broadcasts.ts';
import { Chat } from './chat.ts';
import { Direct } from './direct.ts';
import { cameraEncodings, layersOf, screenEncodings } from './encodings.ts';
import { roomIdOf, type Options } from './options.ts';
import { patiently, Refused, Signaling } from './signaling.ts';

export type Source = 'mic' | 'camera' | 'screen';

/** From the server (mediasoup-client's Consumer), or directly from another browser. */
export interface Received {
  id: string;
  kind: 'audio' | 'video';
  track: MediaStreamTrack;
  closed: boolean;
  rtpReceiver?: RTCRtpReceiver;
  getStats: () => Promise<RTCStatsReport>;
  close: () => void;
  pause: () => void;
  resume: () => void;
}

/** Which way media goes: from browser to browser, or through the media server. */
export type Mode = 'p2p' | 'sfu';

export interface RemoteTrack {
  consumer: Received;
  producerId: string;
  participantId: string;
  source: Source;
  /** Not by the server. */
  direct?: boolean;
  producerPaused: boolean;
  spatialLayers: number;
  temporalLayers: number;
  /** Width of the whole picture that is sent, as its sender said; 0 when he did not. */
  width: number;
  /** As the server reported last; null while it sends none, undefined before it said anything. */
  layers: { spatialLayer: number; temporalLayer?: number } | null | undefined;
  /** Nothing is sent, because this browser's line has no room for it. */
  starved: boolean;
  /** Its room shows the videos of those who spoke last, and this is none of them. */
  leftOut: boolean;
  score: number | null;
}

export interface Participant {
  id: string;
  name: string;
}

export type CallState = 'connecting' | 'connected' | 'reconnecting' | 'left';

/** What the page is told. */
export interface CallEvents {
  state: (state: CallState) => void;
  participants: () => void;
  trackAdded: (track: RemoteTrack) => void;
  trackRemoved: (track: RemoteTrack) => void;
  trackChanged: (track: RemoteTrack) => void;
  localChanged: () => void;
  /** A moderator put us out, or ended the call. */
  ended: (text: string) => void;
  speaking: () => void;
  /** Media goes another way now. */
  mode: () => void;
  problem: (text: string) => void;
}

/** A step worth remembering, for tests and for finding out what took long. */
export interface Step {
  /** Milliseconds since the page began to load. */
  time: number;
  name: string;
  [detail: string]: unknown;
}

interface Listed {
  producerId: string;
  participantId: string;
  kind: 'audio' | 'video';
  paused?: boolean;
  appData?: { source?: Source; width?: number };
}

const STEPS_MAX = 2_000;
/** What people are told when the server stops taking calls. */
function drainingText(notice: { what?: string; deadline?: number | null }): string {
  if (notice.what !== 'media') return 'The server is restarting. You will be back in a moment.';
  const until = notice.deadline ? new Date(notice.deadline).toLocaleTimeString([], { timeStyle: 'short' }) : '';
  const rest = until ? `This call can go on until ${until}.` : 'This call goes on until everybody has left.';
  return `This server is being taken out of service. ${rest}`;
}

/** Trying again does not help. */
const FINAL = new Set(['no_capacity', 'invalid_request', 'unsupported', 'unauthorized', 'forbidden', 'token_expired']);
/** A failure that passes by itself sooner than this many tries is not worth a word. */
const QUIET_TRIES = 3;
/** A new way that is not there by then is given up; the server waits a little longer. */
const SWITCH_MS_MAX = 9_000;
const LOOK_MS = 50;
/** So long a new way may take to bring as sharp a picture as the old one. */
const SHARPEN_MS_MAX = 1_500;
const REJOIN_MS_FIRST = 300;
const REJOIN_MS_MAX = 4_000;
const ICE_RESTART_MS_MIN = 2_500;
const ICE_RESTARTS_MAX = 4;

export class Call {
  readonly signaling = new Signaling();
  readonly participants = new Map<string, Participant>();
  readonly consumers = new Map<string, RemoteTrack>();
  readonly producers = new Map<Source, types.Producer>();
  readonly local = new Map<Source, MediaStreamTrack>();
  readonly steps: Step[] = [];
  /** Whether the call is watched or recorded. */
  readonly broadcasts = new Broadcasts(this.signaling);
  readonly chat = new Chat(
    (event, payload) => this.signaling.request(event, payload),
    () => this.state !== 'left',
  );
  state: CallState = 'connecting';
  participantId = '';
  device: types.Device | null = null;
  sendTransport: types.Transport | null = null;
  recvTransport: types.Transport | null = null;
  /** Which way media goes. */
  mode: Mode = 'sfu';
  /** To the one other person, while two talk directly or are about to. */
  direct: Direct | null = null;
  /** What comes by a new way, until it holds: seen and heard is the old one. */
  readonly coming = new Map<string, RemoteTrack>();
  micMuted = false;
  /** Participants who speak now, as the server hears it; the loudest first. */
  speaking = new Set<string>();

  private options: Options;
  private listeners: Partial<CallEvents> = {};
  private resumeToken = '';
  private iceServers: RTCIceServer[] = [];
  /** The receiving transport, also while it is being made: what is received needs it last. */
  private receiving: Promise<types.Transport> | null = null;
  private consuming = new Set<string>();
  /** What there is to receive, whether we do yet or not. */
  private listed = new Map<string, Listed>();
  /** Notices that came before the answer to `joinRoom`: they are read after it. */
  private notices: (() => void)[] | null = null;
  /** Counts what was built: an answer for an older one is thrown away. */
  private generation = 0;
  private switching: Mode | null = null;
  private switchId: number | undefined;
  private joining: Promise<void> | null = null;
  private restarts = new Map<string, { last: number; count: number; running: boolean }>();

  constructor(options: Options) {
    this.options = options;
    this.listen();
  }

  on<E extends keyof CallEvents>(event: E, listener: CallEvents[E]): void {
    this.listeners[event] = listener;
  }

  private tell<E extends keyof CallEvents>(event: E, ...args: Parameters<CallEvents[E]>): void {
    (this.listeners[event] as ((...args: unknown[]) => void) | undefined)?.(...args);
  }

  step(name: string, detail: Record<string, unknown> = {}): void {
    if (this.steps.length >= STEPS_MAX) this.steps.shift();
    this.steps.push({ time: performance.now(), name, ...detail });
  }

  private setState(state: CallState): void {
    if (this.state === state || this.state === 'left') return;
    this.state = state;
    this.step('state', { state });
    this.tell('state', state);
  }

  // ---- joining and coming back -------------------------------------------------------------

  async start(): Promise<void> {
    this.step('joinStarted');
    this.signaling.socket.connect();
    await new Promise<void>((resolve, reject) => {
      if (this.signaling.socket.connected) return resolve();
      this.signaling.socket.once('connect', () => resolve());
      // Refused for good: there is no token, or a wrong one.
      this.signaling.socket.on('connect_error', (error) => {
        if (!this.signaling.socket.active) reject(error);
      });
    });
    await this.join();
  }

  /** Joins, and keeps trying while the media server is away. One at a time. */
  private join(): Promise<void> {
    this.joining ??= this.joinUntilDone().finally(() => {
      this.joining = null;
    });
    return this.joining;
  }

  private async joinUntilDone(): Promise<void> {
    let wait = REJOIN_MS_FIRST;
    let told = false;
    while (this.state !== 'left') {
      try {
        await this.joinOnce();
        this.setState('connected');
        return;
      } catch (error) {
        const code = error instanceof Refused ? error.code : '';
        this.step('joinFailed', { code, message: String(error) });
        if (FINAL.has(code)) throw error;
        if (!(error instanceof Refused)) throw error;
        const busy = code === 'rate_limited';
        const leaving = code === 'draining' ? 'This server is being taken out of service and opens no new rooms' : '';
        const why = leaving ? leaving : busy ? 'Many people are joining at this moment' : 'The media server is not available yet';
        if (!told) this.tell('problem', `${why}. Trying again…`);
        told = true;
        this.setState('reconnecting');
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(wait * 2, REJOIN_MS_MAX);
      }
    }
  }

  private async joinOnce(): Promise<void> {
    this.notices = [];
    const joined = await this.askToJoin().catch((error) => {
      this.notices = null;
      throw error;
    });
    this.participantId = joined.participantId;
    this.resumeToken = joined.resumeToken;
    this.iceServers = joined.iceServers ?? [];
    this.step('joined', { participantId: joined.participantId, resumed: joined.resumed });
    this.participants.clear();
    for (const { participantId, name } of joined.participants) {
      this.participants.set(participantId, { id: participantId, name });
    }
    this.setSpeaking(joined.speaking?.participantIds ?? []);
    this.broadcasts.sync(joined.broadcasts);
    this.listed.clear();
    for (const listed of joined.producers as Listed[]) this.listed.set(listed.producerId, listed);
    const notices = this.notices ?? [];
    this.notices = null;
    for (const notice of notices) notice();
    this.tell('participants');
    void this.chat.catchUp().catch((error) => this.step('chatFailed', { message: String(error) }));
    const mode: Mode = joined.mode === 'p2p' ? 'p2p' : 'sfu';
    // A change may have come to its end while we were away.
    if (joined.resumed && mode !== this.mode && this.switching === mode) this.settle(mode);
    if (mode === 'p2p') this.joinedDirectly(joined.resumed);
    else await this.joinedServer(joined);
    if (joined.modeSwitch) this.beginSwitch(joined.modeSwitch);
    else this.endSwitch();
  }

  private async joinedServer(joined: any): Promise<void> {
    this.mode = 'sfu';
    this.switching = null;
    this.closeDirect();
    if (joined.resumed && this.mediaLives(joined.transportIds)) {
      this.syncOwn(joined.producerIds);
      for (const { producerId, encodings } of joined.unwatched ?? []) this.sendWatched(producerId, encodings);
    } else {
      await this.buildMedia(joined.rtpCapabilities);
    }
    this.syncProducers();
  }

  /** Who comes makes the offer; who was here waits for it. */
  private joinedDirectly(resumed: boolean): void {
    this.mode = 'p2p';
    const [other, third] = this.participants.keys();
    if (resumed && (!this.direct || this.direct.peerId === other)) return;
    this.dropMedia();
    this.closeDirect();
    if (other && !third) this.openDirect(other, true, this.iceServers);
  }

  // ---- directly, and through the server ----------------------------------------------------

  private openDirect(peerId: string, initiator: boolean, iceServers: RTCIceServer[]): Direct {
    this.closeDirect();
    const direct: Direct = new Direct({
      peerId,
      initiator,
      iceServers,
      codec: this.options.codec,
      say: (word, payload) => this.sayDirectly(direct, word, payload),
      added: (track) => {
        if (this.mode !== 'p2p') this.coming.set(track.consumer.id, track);
        else this.show(track);
      },
      removed: (track) => this.forget(track),
      changed: (track) => {
        if (this.consumers.has(track.consumer.id)) this.tell('trackChanged', track);
      },
      lost: (reason) => {
        this.step('directLost', { reason });
        // While it is being made the change itself tells.
        if (this.direct === direct && this.mode === 'p2p') this.report('p2p', undefined, reason);
      },
      step: (name, detail) => this.step(name, detail),
    });
    this.direct = direct;
    for (const [source, track] of this.local) {
      void direct.setTrack(source, track, source !== 'mic' || !this.micMuted);
    }
    this.tell('localChanged');
    return direct;
  }

  /** The other one may be away for a moment. */
  private async sayDirectly(direct: Direct, word: string, payload: object): Promise<void> {
    const attempt = () =>
      this.signaling.request(word, payload).catch((error) => {
        const isAway = error instanceof Refused && ['wrong_state', 'not_in_room'].includes(error.code);
        throw isAway ? new Refused('offline', error.message) : error;
      });
    await patiently(attempt, () => !direct.closed && this.state !== 'left');
  }

  private closeDirect(): void {
    const { direct } = this;
    if (!direct) return;
    this.direct = null;
    direct.close();
    for (const track of [...this.consumers.values(), ...this.coming.values()]) if (track.direct) this.forget(track);
  }

  private show(track: RemoteTrack): void {
    this.consumers.set(track.consumer.id, track);
    this.step('consumed', { consumerId: track.consumer.id, kind: track.consumer.kind, participantId: track.participantId });
    this.tell('trackAdded', track);
  }

  /** The server asks for the other way: it is made beside the one that is there. */
  private beginSwitch(wanted: any): void {
    const mode: Mode = wanted.mode;
    if (mode === this.mode) {
      if (this.switching) this.undoSwitch();
      this.report(mode, wanted.switchId);
      return;
    }
    // Asked again, as after a reconnect: it is being made already.
    const goesOn = this.switching === mode && (mode === 'sfu' ? this.sendTransport !== null : this.direct?.peerId === wanted.peerId);
    this.switching = mode;
    this.switchId = wanted.switchId;
    const isWanted = () => this.switching === mode && this.switchId === wanted.switchId;
    this.step('modeSwitch', { mode });
    void this.makeWay(mode, wanted, goesOn, isWanted).then(
      () => isWanted() && this.report(mode, wanted.switchId),
      (error) => isWanted() && this.report(mode, wanted.switchId, (error as Error).message),
    );
  }

  private async makeWay(mode: Mode, wanted: any, goesOn: boolean, isWanted: () => boolean): Promise<void> {
    const end = performance.now() + SWITCH_MS_MAX;
    if (mode === 'p2p' && !goesOn) {
      this.openDirect(wanted.peerId, wanted.initiator === true, wanted.iceServers ?? this.iceServers);
    } else if (mode === 'sfu' && !goesOn) {
      await this.buildMedia(wanted.rtpCapabilities);
      this.syncProducers();
    }
    while (isWanted() && !(await this.isThere())) {
      if (performance.now() > end) throw new Error('the new connection brings no picture or sound');
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    const sharp = performance.now() + SHARPEN_MS_MAX;
    while (isWanted() && performance.now() < sharp && !(await this.isSharp())) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Whether everything that is seen and heard by the old way comes by the new one. */
  private async isThere(): Promise<boolean> {
    for (const old of this.consumers.values()) {
      // A newcomer has one way only.
      if (this.mode === 'p2p' && !old.direct) continue;
      if (!this.comingFrom(old.participantId, old.source)) return false;
    }
    for (const track of this.coming.values()) {
      if (track.producerPaused) continue;
      const stream = await inbound(track);
      const there = track.consumer.kind === 'video' ? stream?.framesDecoded : stream?.packetsReceived;
      if (!there) return false;
    }
    return this.producersAreThere();
  }

  /** What is sent by the old way is sent by the new one. */
  private producersAreThere(): boolean {
    if (this.switching === 'p2p') return this.direct?.pc.connectionState === 'connected';
    return [...this.local.keys()].every((source) => this.producers.has(source));
  }

  private async isSharp(): Promise<boolean> {
    for (const old of this.consumers.values()) {
      if (old.consumer.kind !== 'video' || old.producerPaused) continue;
      const next = this.comingFrom(old.participantId, old.source);
      if (!next) continue;
      const [before, now] = await Promise.all([inbound(old), inbound(next)]);
      if ((now?.frameWidth ?? 0) < 0.95 * (before?.frameWidth ?? 0)) return false;
    }
    return true;
  }

  private comingFrom(participantId: string, source: Source): RemoteTrack | undefined {
    return [...this.coming.values()].find((track) => track.participantId === participantId && track.source === source);
  }

  private report(mode: Mode, switchId?: number, error?: string): void {
    const success = error === undefined;
    const said = { mode, switchId, success, ...(success ? {} : { error: error.slice(0, 200) }) };
    this.step('modeReported', said);
    // Without a socket nobody hears it; what matters then is said with the next join.
    this.signaling.request('call:mode-switched', said).catch(() => {});
  }

  /** All have the new way: it is the way now. What it brings is shown before the old one goes. */
  private settle(mode: Mode): void {
    if (this.mode === mode) return;
    this.mode = mode;
    this.switching = null;
    for (const track of [...this.coming.values()]) {
      this.coming.delete(track.consumer.id);
      this.show(track);
    }
    if (mode === 'p2p') {
      this.listed.clear();
      this.setSpeaking([]);
      this.dropMedia();
    } else {
      this.closeDirect();
    }
    this.step('mode', { mode });
    this.tell('mode');
  }

  /** A change that ran before is not wanted any more. */
  private endSwitch(): void {
    if (this.switching) this.undoSwitch();
  }

  private undoSwitch(): void {
    const was = this.switching;
    this.switching = null;
    this.step('modeUndone', { kept: this.mode });
    if (was === 'sfu') this.dropMedia();
    else if (was === 'p2p') this.closeDirect();
  }

  /** Whether the server still has both transports. It may have lost them while we were away. */
  private mediaLives(transportIds: string[] | undefined): boolean {
    const { sendTransport, recvTransport } = this;
    if (!sendTransport || !recvTransport) return false;
    return !transportIds || (transportIds.includes(sendTransport.id) && transportIds.includes(recvTransport.id));
  }

  /** What changed here while the socket was away, or was lost there, is made good. */
  private syncOwn(producerIds: string[] | undefined): void {
    for (const [source, producer] of [...this.producers]) {
      if (!producerIds || producerIds.includes(producer.id)) {
        void this.setPaused(source, producer.paused).catch(() => {});
        continue;
      }
      this.producers.delete(source);
      producer.close();
    }
    void this.produceLocal();
  }

  private askToJoin() {
    return this.signaling.request('joinRoom', {
      roomId: roomIdOf(this.options.room),
      name: this.options.name,
      p2p: this.options.p2p,
      ...(this.resumeToken ? { resumeToken: this.resumeToken } : {}),
    });
  }

  private async buildMedia(routerRtpCapabilities: types.RtpCapabilities): Promise<void> {
    this.dropMedia();
    const generation = this.generation;
    this.device = await Device.factory();
    await this.device.load({ routerRtpCapabilities });
    const rtpCapabilities = this.device.recvRtpCapabilities;
    // All at once, with what is to be received: the server makes it in one go.
    const sending = this.signaling.request('createProducerTransport');
    this.receiving = this.signaling.request('createConsumerTransport', { rtpCapabilities }).then((made) => {
      if (generation !== this.generation) throw new Refused('offline', 'This connection is given up.');
      this.recvTransport = this.device!.createRecvTransport({ ...made, iceServers: this.iceServers });
      this.wire(this.recvTransport, 'connectConsumerTransport');
      return this.recvTransport;
    });
    this.syncProducers();
    try {
      const [send] = await Promise.all([sending, this.receiving]);
      if (generation !== this.generation) return;
      this.sendTransport = this.device.createSendTransport({ ...send, iceServers: this.iceServers });
    } catch (error) {
      if (generation === this.generation) this.dropMedia();
      throw error;
    }
    this.wire(this.sendTransport, 'connectProducerTransport');
    this.sendTransport.on('produce', ({ kind, rtpParameters, appData }, done, failed) => {
      const paused = appData.paused === true;
      const { source, width } = appData;
      const ask = () => this.signaling.request('produce', { kind, rtpParameters, paused, appData: { source, width } });
      this.again(`Your ${name(source as Source)} could not be sent yet. Trying again…`, ask, () => {
        return generation === this.generation;
      }).then(({ id }) => done({ id }), failed);
    });
    // What is sent does not hold up what is received.
    void this.produceLocal();
  }

  private async produceLocal(): Promise<void> {
    for (const source of ['mic', 'camera', 'screen'] as const) {
      const { generation } = this;
      if (!this.local.has(source)) continue;
      try {
        await this.produce(source);
      } catch (error) {
        // What belongs to an older connection is made anew with the next one.
        if (generation !== this.generation) return;
        this.step('produceFailed', { source, message: String(error) });
        this.tell('problem', `Your ${name(source)} could not be sent: ${(error as Error).message}`);
      }
    }
  }

  /** Asks again while it fails for a passing reason; when that takes a while, people are told why. */
  private again<T>(text: string, attempt: () => Promise<T>, isWanted: () => boolean): Promise<T> {
    return patiently(
      attempt,
      () => this.state !== 'left' && isWanted(),
      (error, times) => {
        this.step('again', { text, times, message: String(error) });
        if (times === QUIET_TRIES && this.signaling.socket.connected) this.tell('problem', text);
      },
    );
  }

  private dropMedia(): void {
    this.generation += 1;
    for (const track of [...this.consumers.values(), ...this.coming.values()]) if (!track.direct) this.forget(track);
    for (const producer of this.producers.values()) producer.close();
    this.producers.clear();
    this.consuming.clear();
    this.restarts.clear();
    this.sendTransport?.close();
    this.recvTransport?.close();
    this.sendTransport = null;
    this.recvTransport = null;
    this.receiving = null;
  }

  private wire(transport: types.Transport, connectEvent: string): void {
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      const ask = () => this.signaling.request(connectEvent, { transportId: transport.id, dtlsParameters });
      const isWanted = () => !transport.closed;
      this.again('The connection is not made yet. Trying again…', ask, isWanted).then(() => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.step('transport', { direction: transport.direction, state });
      if (state === 'connected') this.restarts.delete(transport.id);
      if (state === 'disconnected' || state === 'failed') void this.keepRestartingIce(transport);
    });
  }

  /** New ICE credentials, again and again until the transport is connected or we give up. */
  private async keepRestartingIce(transport: types.Transport): Promise<void> {
    const known = this.restarts.get(transport.id) ?? { last: 0, count: 0, running: false };
    if (known.running) return;
    known.running = true;
    this.restarts.set(transport.id, known);
    while (!transport.closed && transport.connectionState !== 'connected') {
      const wait = known.last + ICE_RESTART_MS_MIN - performance.now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      if (transport.closed || (transport.connectionState as string) === 'connected') break;
      if (known.count >= ICE_RESTARTS_MAX) {
        void this.rejoin('The connection could not be restored; joining again.');
        break;
      }
      known.last = performance.now();
      if (!this.signaling.socket.connected) continue;
      known.count += 1;
      await this.restartIce(transport).catch((error) => this.step('iceRestartFailed', { message: String(error) }));
    }
    known.running = false;
  }

  async restartIce(transport: types.Transport | null): Promise<void> {
    if (!transport) return;
    const { iceParameters, iceServers } = await this.signaling.request('restartIce', { transportId: transport.id });
    if (iceServers) await transport.updateIceServers({ iceServers });
    await transport.restartIce({ iceParameters });
    this.step('iceRestarted', { direction: transport.direction });
  }

  /** All media anew, in the same room. */
  private async rejoin(reason: string): Promise<void> {
    await this.joining?.catch(() => {});
    if ((this.state as CallState) === 'left') return;
    this.step('rejoin', { reason });
    this.setState('reconnecting');
    this.dropMedia();
    this.closeDirect();
    this.resumeToken = '';
    await this.signaling.request('leaveRoom').catch(() => {});
    await this.join().catch((error) => this.fail(error));
  }

  private fail(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.tell('problem', text);
  }

  private listen(): void {
    const { socket } = this.signaling;
    let connectedBefore = false;
    socket.on('connect', () => {
      this.step('socket', { connected: true });
      if (connectedBefore && this.state !== 'left') {
        void this.join().catch((error) => this.fail(error));
      }
      connectedBefore = true;
    });
    socket.on('disconnect', (reason) => {
      this.step('socket', { connected: false, reason });
      if (this.state === 'left') return;
      this.setState('reconnecting');
      // The server closed it: the client library does not come back by itself then.
      if (reason === 'io server disconnect') setTimeout(() => socket.connect(), REJOIN_MS_FIRST);
    });
    socket.on('error', (problem: { code: string; message: string; rejoin?: boolean }) => {
      this.step('error', problem);
      if (problem.rejoin) void this.rejoin(problem.message);
      else this.tell('problem', problem.message);
    });
    socket.on('server-draining', (notice?: { what?: string; deadline?: number | null }) => {
      this.step('serverDraining', notice ?? {});
      this.tell('problem', drainingText(notice ?? {}));
    });
    socket.on('server-undrained', () => this.tell('problem', 'The server takes new calls again.'));
    // A notice about the room; payloads are the service's, see its contract.
    const on = (event: string, read: (payload: any) => void) => {
      socket.on(event, (payload) => {
        if (this.notices) this.notices.push(() => read(payload));
        else read(payload);
      });
    };
    on('call:participant-joined', ({ participantId, name }) => {
      this.participants.set(participantId, { id: participantId, name });
      // He makes the offer.
      if (this.mode === 'p2p' && this.participants.size === 1) this.openDirect(participantId, false, this.iceServers);
      this.step('participantJoined', { participantId, displayName: name });
      this.tell('participants');
    });
    on('call:participant-left', ({ participantId, reason }) => {
      this.participants.delete(participantId);
      for (const [id, listed] of this.listed) {
        if (listed.participantId === participantId) this.listed.delete(id);
      }
      if (this.direct?.peerId === participantId) this.closeDirect();
      for (const track of [...this.consumers.values(), ...this.coming.values()]) {
        if (track.participantId === participantId) this.forget(track);
      }
      this.step('participantLeft', { participantId, reason });
      this.tell('participants');
    });
    on('call:mode-switch', (wanted) => this.beginSwitch(wanted));
    on('call:mode-switched', ({ success, mode, error }) => {
      this.step('modeSwitched', { success, mode, error });
      if (success) this.settle(mode);
      else this.endSwitch();
    });
    for (const word of ['webrtc:offer', 'webrtc:answer', 'webrtc:ice-candidate'] as const) {
      on(word, (payload) => {
        if (this.direct && this.direct.peerId === payload.from) this.direct.hear(word, payload);
      });
    }
    on('chat_message', (message) => this.chat.received(message));
    on('layers-unwatched', ({ producerId, encodings }) => this.sendWatched(producerId, encodings));
    on('active-speaker', ({ participantIds }) => this.setSpeaking(participantIds));
    on('new-producer', (listed: Listed) => {
      this.listed.set(listed.producerId, listed);
      void this.consume(listed);
    });
    on('producer-closed', ({ producerId }) => {
      this.listed.delete(producerId);
      const track = this.byProducer(producerId);
      if (track) this.forget(track);
    });
    on('producer-paused', ({ producerId }) => this.setProducerPaused(producerId, true));
    on('producer-resumed', ({ producerId }) => this.setProducerPaused(producerId, false));
    on('muted', ({ producerIds }) => void this.muted(producerIds));
    on('removed', () => this.tell('ended', 'A moderator removed you from the call.'));
    on('room-ended', () => this.tell('ended', 'A moderator ended the call.'));
    on('consumer-closed', ({ consumerId }) => {
      const track = this.consumers.get(consumerId);
      if (track) this.forget(track);
    });
    on('consumer-layers-changed', ({ consumerId, layers, reason }) => {
      const track = this.consumers.get(consumerId);
      if (!track) return;
      track.layers = layers;
      track.starved = layers === null && reason === 'bandwidth';
      track.leftOut = layers === null && reason === 'last_n';
      this.step('layers', { consumerId, layers });
      this.tell('trackChanged', track);
    });
    on('consumer-score', ({ consumerId, score }) => {
      const track = this.consumers.get(consumerId);
      if (!track) return;
      track.score = score?.score ?? null;
      this.tell('trackChanged', track);
    });
  }

  /**
   * Sends no more than is watched. The lowest encoding goes on in any case: whoever comes has a
   * picture at once, and the others a key frame later.
   */
  private sendWatched(producerId: string, unwatched: number[]): void {
    const producer = [...this.producers.values()].find(({ id }) => id === producerId);
    const encodings = producer?.rtpParameters.encodings?.length ?? 0;
    if (!producer || producer.closed || encodings < 2) return;
    let top = encodings - 1;
    while (top > 0 && unwatched.includes(top)) top -= 1;
    this.step('sendWatched', { producerId, top });
    producer.setMaxSpatialLayer(top).catch((error) => this.step('sendWatchedFailed', { message: String(error) }));
  }

  private setSpeaking(participantIds: string[]): void {
    this.speaking = new Set(participantIds);
    this.step('speaking', { participantIds });
    this.tell('speaking');
  }

  // ---- receiving ---------------------------------------------------------------------------

  private byProducer(producerId: string): RemoteTrack | undefined {
    const all = [...this.consumers.values(), ...this.coming.values()];
    return all.find((track) => track.producerId === producerId);
  }

  /** Receives exactly what is listed. */
  private syncProducers(): void {
    for (const track of [...this.consumers.values()]) {
      if (!track.direct && !this.listed.has(track.producerId)) this.forget(track);
    }
    for (const producer of this.listed.values()) void this.consume(producer);
  }

  private async consume(listed: Listed): Promise<void> {
    const { producerId } = listed;
    const known = this.byProducer(producerId);
    if (known) {
      if (listed.paused !== undefined) this.setProducerPaused(producerId, listed.paused);
      return;
    }
    const { receiving } = this;
    if (!receiving || this.consuming.has(producerId)) return;
    const { generation } = this;
    const isWanted = () => generation === this.generation && this.listed.has(producerId);
    const later = `A ${listed.kind} stream could not be received yet. Trying again…`;
    this.consuming.add(producerId);
    try {
      const made = await this.again(later, () => this.signaling.request('consume', { producerId }), isWanted);
      const recvTransport = await receiving;
      if (generation !== this.generation) return;
      const consumer = await recvTransport.consume({
        id: made.id,
        producerId,
        kind: made.kind,
        rtpParameters: made.rtpParameters,
        // Lip sync: the browser plays tracks of one stream id in step.
        streamId: `${made.participantId}-${listed.appData?.source === 'screen' ? 'screen' : 'person'}`,
      });
      const { spatial, temporal } = layersOf(made.rtpParameters.encodings?.[0]?.scalabilityMode);
      const track: RemoteTrack = {
        consumer,
        producerId,
        participantId: made.participantId,
        source: sourceOf(listed),
        producerPaused: made.producerPaused,
        spatialLayers: spatial,
        temporalLayers: temporal,
        width: Number(listed.appData?.width) || 0,
        layers: undefined,
        starved: false,
        leftOut: false,
        score: null,
      };
      // It was closed, or paused, while we asked for it.
      const now = this.listed.get(producerId);
      if (!now) {
        consumer.close();
        return;
      }
      if (now.paused !== undefined) track.producerPaused = now.paused;
      // Of the one we talk to directly there is something to see and hear already.
      if (this.mode === 'p2p' && this.direct?.peerId === track.participantId) this.coming.set(consumer.id, track);
      else this.show(track);
      const resume = () => this.signaling.request('resumeConsumer', { consumerId: consumer.id });
      await this.again(later, resume, () => isWanted() && this.byProducer(producerId) === track);
    } catch (error) {
      const code = error instanceof Refused ? error.code : '';
      this.step('consumeFailed', { producerId, code, message: String(error) });
      // It may be gone by now: then there is nothing to tell.
      if (code !== 'not_found' && isWanted()) {
        this.tell('problem', `A ${listed.kind} stream could not be received: ${(error as Error).message}`);
      }
    } finally {
      this.consuming.delete(producerId);
    }
  }

  private forget(track: RemoteTrack): void {
    if (this.coming.delete(track.consumer.id)) track.consumer.close();
    if (!this.consumers.delete(track.consumer.id)) return;
    track.consumer.close();
    this.step('trackRemoved', { consumerId: track.consumer.id, producerId: track.producerId });
    this.tell('trackRemoved', track);
  }

  private setProducerPaused(producerId: string, paused: boolean): void {
    const listed = this.listed.get(producerId);
    if (listed) listed.paused = paused;
    const track = this.byProducer(producerId);
    if (!track || track.producerPaused === paused) return;
    track.producerPaused = paused;
    this.tell('trackChanged', track);
  }

  async setPreferredLayers(consumerId: string, spatialLayer: number, temporalLayer?: number): Promise<void> {
    await this.signaling.request('setPreferredLayers', { consumerId, spatialLayer, temporalLayer });
    this.step('preferredLayers', { consumerId, spatialLayer, temporalLayer });
  }

  async pauseConsumer(consumerId: string): Promise<void> {
    const track = this.consumers.get(consumerId);
    track?.consumer.pause();
    if (track?.direct) return;
    await this.signaling.request('pauseConsumer', { consumerId });
  }

  async resumeConsumer(consumerId: string): Promise<void> {
    const track = this.consumers.get(consumerId);
    track?.consumer.resume();
    if (track?.direct) return;
    await this.signaling.request('resumeConsumer', { consumerId });
  }

  // ---- sending -----------------------------------------------------------------------------

  /** Gives the call a track to send; sends it at once if the call stands. */
  async setTrack(source: Source, track: MediaStreamTrack | null): Promise<void> {
    const old = this.local.get(source);
    if (old && old !== track) old.stop();
    if (track) this.local.set(source, track);
    else this.local.delete(source);
    this.tell('localChanged');
    await this.direct?.setTrack(source, track, track !== null && (source !== 'mic' || !this.micMuted));
    const producer = this.producers.get(source);
    if (!track) {
      if (producer && source === 'screen') await this.stop(source);
      else if (producer) await this.setPaused(source, true);
    } else if (producer) {
      await producer.replaceTrack({ track });
      if (source !== 'mic' || !this.micMuted) await this.setPaused(source, false);
    } else if (this.sendTransport && this.state === 'connected') {
      await this.produce(source);
    }
    this.tell('localChanged');
  }

  private async produce(source: Source): Promise<void> {
    const track = this.local.get(source);
    const transport = this.sendTransport;
    if (!track || !transport || !this.device || this.producers.has(source)) return;
    const common = { track, streamId: source === 'screen' ? 'screen' : 'person', stopTracks: false };
    const paused = source === 'mic' && this.micMuted;
    const width = source === 'mic' ? undefined : (track.getSettings().width ?? this.options.width);
    const appData = { source, paused, width };
    let producer: types.Producer;
    if (source === 'mic') {
      // A lost packet of sound is asked for again: on a short way the answer comes in time.
      const codecOptions = { opusDtx: false, opusFec: true, opusNack: true };
      producer = await transport.produce({ ...common, codecOptions, appData, zeroRtpOnPause: false });
    } else {
      const wanted = `video/${this.options.codec}`.toLowerCase();
      const codec = this.device.sendRtpCapabilities.codecs?.find((c) => c.mimeType.toLowerCase() === wanted);
      if (!codec) throw new Error(`this browser and the server share no ${this.options.codec}`);
      const encodings =
        source === 'screen'
          ? screenEncodings(this.options.codec)
          : cameraEncodings(this.options.codec, width ?? this.options.width, this.options.simulcast);
      // A browser begins its estimate anew at this value, also beside a picture that it sends already:
      // only the first one may say it.
      const isFirst = ![...this.producers.values()].some(({ kind }) => kind === 'video');
      const codecOptions = isFirst ? { videoGoogleStartBitrate: 1000 } : {};
      producer = await transport.produce({ ...common, encodings, codec, codecOptions, appData });
    }
    if (transport.closed) return;
    this.producers.set(source, producer);
    if (paused) producer.pause();
    this.step('produced', { producerId: producer.id, source });
    producer.on('transportclose', () => {
      if (this.producers.get(source) === producer) this.producers.delete(source);
    });
    this.tell('localChanged');
  }

  /** Pauses or resumes what is sent: first here, then at the server. */
  async setPaused(source: Source, paused: boolean): Promise<void> {
    const producer = this.producers.get(source);
    if (!producer) return;
    if (paused) producer.pause();
    else producer.resume();
    const event = paused ? 'pauseProducer' : 'resumeProducer';
    const ask = () => this.signaling.request(event, { producerId: producer.id });
    // A later change says it anew.
    const isWanted = () => this.producers.get(source) === producer && producer.paused === paused;
    await this.again(`Your ${name(source)} could not be ${paused ? 'paused' : 'resumed'} yet.`, ask, isWanted);
    this.step(paused ? 'producerPaused' : 'producerResumed', { source });
    this.tell('localChanged');
  }

  async setMicMuted(muted: boolean): Promise<void> {
    this.micMuted = muted;
    const track = this.local.get('mic');
    if (track) track.enabled = !muted;
    this.direct?.setLive('mic', !muted && track !== undefined);
    this.tell('localChanged');
    await this.setPaused('mic', muted);
  }

  /** A moderator has paused these at the server: what is shown here follows. */
  private async muted(producerIds: string[]): Promise<void> {
    for (const [source, producer] of [...this.producers]) {
      if (!producerIds.includes(producer.id)) continue;
      this.tell('problem', `A moderator turned off your ${name(source)}.`);
      if (source === 'mic') await this.setMicMuted(true);
      else await this.setTrack(source, null);
    }
  }

  private async stop(source: Source): Promise<void> {
    const producer = this.producers.get(source);
    if (!producer) return;
    this.producers.delete(source);
    producer.close();
    await this.signaling.request('stopProducing', { producerIds: [producer.id] });
    this.step('stopped', { source });
  }

  // ---- leaving -----------------------------------------------------------------------------

  /** What a page that unloads can still say. */
  goodbye(): void {
    if (!this.resumeToken || this.state === 'left') return;
    const payload = JSON.stringify({ roomId: roomIdOf(this.options.room), resumeToken: this.resumeToken });
    navigator.sendBeacon('/api/goodbye', payload);
  }

  async leave(): Promise<void> {
    if (this.state === 'left') return;
    this.setState('left');
    await Promise.race([
      this.signaling.request('leaveRoom').catch(() => {}),
      new Promise((resolve) => setTimeout(resolve, 1_000)),
    ]);
    this.dropMedia();
    this.closeDirect();
    for (const track of this.local.values()) track.stop();
    this.local.clear();
    this.signaling.close();
  }
}

function sourceOf(listed: Listed): Source {
  return listed.appData?.source ?? (listed.kind === 'audio' ? 'mic' : 'camera');
}

/** The browser's record of what comes. */
async function inbound(track: RemoteTrack): Promise<Record<string, any> | undefined> {
  const report = track.consumer.closed ? null : await track.consumer.getStats().catch(() => null);
  for (const record of report?.values() ?? []) if (record.type === 'inbound-rtp') return record;
  return undefined;
}

function name(source: Source): string {
  return source === 'mic' ? 'microphone' : source;
}
