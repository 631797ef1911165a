// The call itself: joins a room, comes back by itself when socket, network or media server fail, and
// moves between the two ways of media: by the media server (served.ts) and directly (direct.ts). It
// knows nothing of the page: it tells by events what changed.

import type { types } from 'mediasoup-client';
import { Broadcasts } from './broadcasts.ts';
import { Chat } from './chat.ts';
import { Direct } from './direct.ts';
import { roomIdOf, type Options } from './options.ts';
import { Served, type Listed } from './served.ts';
import { hasNoRoom, patiently, Refused, Signaling } from './signaling.ts';
import { inbound, nameOf, type RemoteTrack, type Source } from './tracks.ts';
import { DirectVoices } from './voices.ts';

/** Which way media goes: from browser to browser, or through the media server. */
export type Mode = 'p2p' | 'sfu';

export interface Participant {
  id: string;
  name: string;
}

/** `waiting`: there is no place in the room; it joins when there is one. */
export type CallState = 'connecting' | 'waiting' | 'connected' | 'reconnecting' | 'left';

/** What the page is told. */
export interface CallEvents {
  /** Also when what is waited for changed, or what comes and goes was interrupted or is back. */
  state: (state: CallState) => void;
  participants: () => void;
  trackAdded: (track: RemoteTrack) => void;
  trackRemoved: (track: RemoteTrack) => void;
  trackChanged: (track: RemoteTrack) => void;
  localChanged: () => void;
  /** A moderator put us out or ended the call, or we cannot come back. */
  ended: (text: string) => void;
  speaking: () => void;
  /** Media goes another way now. */
  mode: () => void;
  problem: (text: string) => void;
  /** So many are here that turning cameras off would help. */
  crowded: (people: number) => void;
}

/** A step worth remembering, for tests and for finding out what took long. */
export interface Step {
  /** Milliseconds since the page began to load. */
  time: number;
  name: string;
  [detail: string]: unknown;
}

const STEPS_MAX = 2_000;
/** What people are told when the server stops taking calls. */
function drainingText(notice: { what?: string; deadline?: number | null }): string {
  if (notice.what !== 'media') return 'The server is restarting. You will be back in a moment.';
  const until = notice.deadline ? new Date(notice.deadline).toLocaleTimeString([], { timeStyle: 'short' }) : '';
  const rest = until ? `This call can go on until ${until}.` : 'This call goes on until everybody has left.';
  return `This server is being taken out of service. ${rest}`;
}

/** There is no place: in the room, for another room, or at the media server for what a call takes. */
class Full extends Error {}
/** So often it is looked whether there is one now. */
const PLACE_MS = 3_000;
/** Trying again does not help. */
const FINAL = new Set([
  'invalid_request', 'unsupported', 'unauthorized', 'forbidden', 'token_expired', 'already_exists',
]);
/** The server lets no socket in at this moment. */
const NOT_NOW = new Set(['no_capacity', 'wrong_state']);
/** A first connection that is not made by then is told of. */
const UNREACHABLE_MS = 4_000;
/** A new way that is not there by then is given up; the server waits a little longer. */
const SWITCH_MS_MAX = 9_000;
const LOOK_MS = 50;
/** So long a new way may take to bring as sharp a picture as the old one. */
const SHARPEN_MS_MAX = 1_500;
const REJOIN_MS_FIRST = 300;
const REJOIN_MS_MAX = 4_000;

export class Call {
  readonly signaling = new Signaling();
  readonly participants = new Map<string, Participant>();
  readonly consumers = new Map<string, RemoteTrack>();
  readonly local = new Map<Source, MediaStreamTrack>();
  readonly steps: Step[] = [];
  /** Whether the call is watched or recorded. */
  readonly broadcasts = new Broadcasts(this.signaling);
  readonly chat = new Chat(
    (event, payload) => this.signaling.request(event, payload),
    () => this.state !== 'left',
  );
  state: CallState = 'connecting';
  /** Why it is not connected, for people. */
  why = '';
  participantId = '';
  /** By the media server. */
  readonly served: Served;
  /** Which way media goes. */
  mode: Mode = 'sfu';
  /** To each other person, while we talk directly or are about to. */
  readonly directs = new Map<string, Direct>();
  /** What comes by a new way, until it holds: seen and heard is the old one. */
  readonly coming = new Map<string, RemoteTrack>();
  micMuted = false;
  /** Participants who speak now, as the server hears it; the loudest first. */
  speaking = new Set<string>();

  private options: Options;
  private listeners: Partial<CallEvents> = {};
  private resumeToken = '';
  private iceServers: RTCIceServer[] = [];
  /** Notices that came before the answer to `joinRoom`: they are read after it. */
  private notices: (() => void)[] | null = null;
  private switching: Mode | null = null;
  private switchId: number | undefined;
  private joining: Promise<void> | null = null;
  /** The service has us in the room, and we have its answer. */
  private isIn = false;
  private voices: DirectVoices | null = null;
  /** The handshake was refused for good. */
  private refused: (error: Error) => void = () => {};

  constructor(options: Options) {
    this.options = options;
    this.served = new Served({
      signaling: this.signaling,
      options,
      local: this.local,
      isMuted: () => this.micMuted,
      isIn: () => this.isIn,
      isLeft: () => this.state === 'left',
      added: (track) => {
        // Of the one we talk to directly there is something to see and hear already.
        if (this.mode === 'p2p' && this.directs.has(track.participantId)) this.coming.set(track.consumer.id, track);
        else this.show(track);
      },
      removed: (track) => this.forget(track),
      changed: (track) => {
        if (this.consumers.has(track.consumer.id)) this.tell('trackChanged', track);
      },
      sendingChanged: () => {
        if (!this.maySend) this.stopLocal();
        this.tell('localChanged');
      },
      connectionChanged: () => this.tell('state', this.state),
      lost: (reason) => void this.rejoin(reason),
      problem: (text) => this.tell('problem', text),
      step: (name, detail) => this.step(name, detail),
    });
    this.listen();
  }

  get device(): types.Device | null {
    return this.served.device;
  }

  get sendTransport(): types.Transport | null {
    return this.served.sendTransport;
  }

  get recvTransport(): types.Transport | null {
    return this.served.recvTransport;
  }

  /** Not so who may only watch. */
  get maySend(): boolean {
    return this.served.maySend;
  }

  get producers(): ReadonlyMap<Source, types.Producer> {
    return this.served.producers;
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

  /** Media does not come through at this moment. */
  get isInterrupted(): boolean {
    return this.mode === 'p2p' ? [...this.directs.values()].some((direct) => direct.isInterrupted) : this.served.isInterrupted;
  }

  /** The others are heard and seen, whatever the socket does. */
  get goesOn(): boolean {
    return this.consumers.size > 0 && !this.isInterrupted;
  }

  private setState(state: CallState, why = ''): void {
    if ((this.state === state && this.why === why) || this.state === 'left') return;
    if (this.state !== state) this.step('state', { state });
    this.state = state;
    this.why = why;
    this.tell('state', state);
  }

  // ---- joining and coming back -------------------------------------------------------------

  async start(): Promise<void> {
    this.step('joinStarted');
    const { socket } = this.signaling;
    socket.connect();
    // It is tried again and again, also where nothing says that it failed.
    const late = setTimeout(() => this.notReached('The server cannot be reached.'), UNREACHABLE_MS);
    await new Promise<void>((resolve, reject) => {
      if (socket.connected) return resolve();
      socket.once('connect', () => resolve());
      this.refused = (error) => reject(error);
    }).finally(() => clearTimeout(late));
    this.setState('connecting');
    this.refused = (error) => this.fail(error);
    await this.join();
  }

  /** What people are told while there was no connection yet; the first reason stays. */
  private notReached(why: string): void {
    if (this.state === 'connecting' && !this.why) this.setState('connecting', why);
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
    while (this.state !== 'left') {
      try {
        await this.joinOnce();
        this.setState('connected');
        return;
      } catch (error) {
        const code = error instanceof Refused ? error.code : '';
        this.step('joinFailed', { code, message: String(error) });
        const isFull = error instanceof Full;
        if (!isFull && (!(error instanceof Refused) || FINAL.has(code))) throw new Error(inWords(code, error));
        if (isFull) this.setState('waiting', error.message);
        if (isFull || this.state === 'waiting') {
          // Not all at the same moment who wait for one place.
          await new Promise((resolve) => setTimeout(resolve, PLACE_MS * (0.75 + Math.random() / 2)));
          continue;
        }
        this.setState('reconnecting', whyNot(code));
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(wait * 2, REJOIN_MS_MAX);
      }
    }
  }

  private async joinOnce(): Promise<void> {
    this.notices = [];
    const joined = await this.askToJoin().catch((error) => {
      this.notices = null;
      throw hasNoRoom(error) ? new Full((error as Refused).message) : error;
    });
    // Whoever left meanwhile is out of the room as well: that was asked for after the join.
    if (this.state === 'left') return;
    this.isIn = true;
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
    const { listed } = this.served;
    listed.clear();
    for (const one of joined.producers as Listed[]) listed.set(one.producerId, one);
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
    this.setMode('sfu');
    this.switching = null;
    this.closeDirect();
    if (joined.resumed && this.served.lives(joined.transportIds)) {
      this.served.syncOwn(joined.producerIds);
      for (const { producerId, encodings } of joined.unwatched ?? []) this.served.sendWatched(producerId, encodings);
    } else {
      await this.served.build(joined.rtpCapabilities, this.iceServers).catch((error) => {
        throw hasNoRoom(error) ? new Full('The media server has no place at this moment.') : error;
      });
    }
    this.served.syncProducers();
  }

  /** Who comes makes the offer; who was here waits for it. */
  private joinedDirectly(resumed: boolean): void {
    this.setMode('p2p');
    if (resumed && [...this.directs.keys()].every((id) => this.participants.has(id))) return;
    this.served.drop();
    this.closeDirect();
    for (const id of this.participants.keys()) this.openDirect(id, true, this.iceServers);
  }

  // ---- directly, and through the server ----------------------------------------------------

  /** The first of them: there are more only while the media server is away. */
  get direct(): Direct | null {
    return this.directs.values().next().value ?? null;
  }

  /** Who speaks the server hears, or, when two talk directly, each of them. */
  private setMode(mode: Mode): void {
    this.mode = mode;
    if (mode === 'sfu') {
      this.voices?.close();
      this.voices = null;
      return;
    }
    this.voices ??= new DirectVoices({
      ownId: () => this.participantId,
      mic: () => this.local.get('mic') ?? null,
      remote: () => [...this.directs.values()].flatMap((direct) => direct.tracks.get('mic') ?? []),
      changed: (participantIds) => this.setSpeaking(participantIds),
    });
  }

  private openDirect(peerId: string, initiator: boolean, iceServers: RTCIceServer[]): Direct {
    this.closeDirect(peerId);
    const direct: Direct = new Direct({
      peerId,
      initiator,
      iceServers,
      codec: this.options.codec,
      isOn: (source) => this.isOn(source),
      say: (word, payload) => this.sayDirectly(direct, word, payload),
      added: (track) => {
        if (this.mode !== 'p2p') this.coming.set(track.consumer.id, track);
        else this.show(track);
      },
      removed: (track) => this.forget(track),
      changed: (track) => {
        if (this.consumers.has(track.consumer.id)) this.tell('trackChanged', track);
      },
      connectionChanged: () => this.tell('state', this.state),
      lost: (reason) => {
        this.step('directLost', { reason });
        // While it is being made the change itself tells.
        if (this.directs.get(peerId) === direct && this.mode === 'p2p') this.report('p2p', undefined, reason);
      },
      step: (name, detail) => this.step(name, detail),
    });
    this.directs.set(peerId, direct);
    for (const [source, track] of this.local) {
      void this.sendDirectly(direct, source, track);
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

  /** To one of them, or to all. */
  private closeDirect(peerId?: string): void {
    for (const [id, direct] of [...this.directs]) {
      if (peerId !== undefined && peerId !== id) continue;
      this.directs.delete(id);
      direct.close();
      for (const track of [...this.consumers.values(), ...this.coming.values()]) {
        if (track.direct && track.participantId === id) this.forget(track);
      }
    }
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
    const isBegun = () => (mode === 'sfu' ? this.sendTransport !== null : peersOf(wanted).every(({ peerId }) => this.directs.has(peerId)));
    const goesOn = this.switching === mode && isBegun();
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
      this.closeDirect();
      for (const { peerId, initiator } of peersOf(wanted)) {
        this.openDirect(peerId, initiator === true, wanted.iceServers ?? this.iceServers);
      }
    } else if (mode === 'sfu' && !goesOn) {
      await this.served.build(wanted.rtpCapabilities, this.iceServers);
      this.served.syncProducers();
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
    if (this.switching === 'p2p') return this.directs.size > 0 && [...this.directs.values()].every(({ pc }) => pc.connectionState === 'connected');
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
    this.setMode(mode);
    this.switching = null;
    for (const track of [...this.coming.values()]) {
      this.coming.delete(track.consumer.id);
      this.show(track);
    }
    if (mode === 'p2p') {
      this.served.listed.clear();
      this.setSpeaking([]);
      this.served.drop();
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
    if (was === 'sfu') this.served.drop();
    else if (was === 'p2p') this.closeDirect();
  }

  private askToJoin() {
    return this.signaling.request('joinRoom', {
      roomId: roomIdOf(this.options.room),
      name: this.options.name,
      p2p: this.options.p2p,
      ...(this.resumeToken ? { resumeToken: this.resumeToken } : {}),
    });
  }

  /** All media anew, in the same room. */
  private async rejoin(reason: string): Promise<void> {
    await this.joining?.catch(() => {});
    if ((this.state as CallState) === 'left') return;
    this.isIn = false;
    this.step('rejoin', { reason });
    this.setState('reconnecting', reason);
    this.served.drop();
    this.closeDirect();
    this.resumeToken = '';
    await this.signaling.request('leaveRoom').catch(() => {});
    await this.join().catch((error) => this.fail(error));
  }

  /** There is no way back. */
  private fail(error: unknown): void {
    if (this.state === 'left') return;
    this.tell('ended', error instanceof Error ? error.message : String(error));
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
      this.isIn = false;
      if (this.state === 'left') return;
      this.setState('reconnecting', 'The connection to the server is lost.');
      // The server closed it: the client library does not come back by itself then.
      if (reason === 'io server disconnect') setTimeout(() => this.state !== 'left' && socket.connect(), REJOIN_MS_FIRST);
    });
    // Refused for good: there is no token, or none that is good any more. The library tries no more.
    socket.on('connect_error', (error) => {
      if (socket.active) return;
      this.step('refused', { message: error.message });
      if (NOT_NOW.has(codeOf(error))) {
        this.notReached('The server takes nobody at this moment.');
        setTimeout(() => this.state !== 'left' && socket.connect(), REJOIN_MS_MAX);
        return;
      }
      this.refused(new Error(inWords(codeOf(error), error)));
    });
    socket.on('error', (problem: { code: string; message: string; rejoin?: boolean }) => {
      this.step('error', problem);
      if (problem.code === 'already_exists') this.fail(new Error(inWords(problem.code, problem)));
      else if (problem.rejoin) void this.rejoin(problem.message);
      // Whether there is a new one the next handshake says, a moment later.
      else if (problem.code !== 'token_expired') this.tell('problem', problem.message);
    });
    socket.on('server-draining', (notice?: { what?: string; deadline?: number | null }) => {
      this.step('serverDraining', notice ?? {});
      this.tell('problem', drainingText(notice ?? {}));
    });
    socket.on('recommend-audio-only', ({ participants }: { participants: number }) => {
      this.step('recommendAudioOnly', { participants });
      this.tell('crowded', participants);
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
      this.closeDirect(participantId);
      this.served.forgetAllOf(participantId);
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
        // Who comes to people who talk directly calls each of them.
        const calls = word === 'webrtc:offer' && this.mode === 'p2p' && this.participants.has(payload.from);
        if (calls && !this.directs.has(payload.from)) this.openDirect(payload.from, false, this.iceServers);
        this.directs.get(payload.from)?.hear(word, payload);
      });
    }
    on('chat_message', (message) => this.chat.received(message));
    on('active-speaker', ({ participantIds }) => {
      if (this.mode === 'sfu') this.setSpeaking(participantIds);
    });
    on('muted', ({ producerIds }) => void this.muted(producerIds));
    on('removed', () => this.tell('ended', 'A moderator removed you from the call.'));
    on('room-ended', () => this.tell('ended', 'A moderator ended the call.'));
    this.served.listen(on);
  }

  private setSpeaking(participantIds: string[]): void {
    this.speaking = new Set(participantIds);
    this.step('speaking', { participantIds });
    this.tell('speaking');
  }

  // ---- receiving ---------------------------------------------------------------------------

  private forget(track: RemoteTrack): void {
    if (this.coming.delete(track.consumer.id)) track.consumer.close();
    if (!this.consumers.delete(track.consumer.id)) return;
    track.consumer.close();
    this.step('trackRemoved', { consumerId: track.consumer.id, producerId: track.producerId });
    this.tell('trackRemoved', track);
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
    // A device may take a while to open: nobody wants it any more.
    if (track && (this.state === 'left' || !this.maySend)) return track.stop();
    const old = this.local.get(source);
    if (old && old !== track) old.stop();
    if (track) this.local.set(source, track);
    else this.local.delete(source);
    if (track && source === 'mic') track.enabled = !this.micMuted;
    this.tell('localChanged');
    const directly = [...this.directs.values()].map((direct) => this.sendDirectly(direct, source, track));
    await Promise.all([...directly, this.served.changed(source)]);
    this.tell('localChanged');
  }

  async setMicMuted(muted: boolean): Promise<void> {
    this.micMuted = muted;
    const track = this.local.get('mic');
    if (track) track.enabled = !muted;
    for (const direct of this.directs.values()) direct.refresh('mic');
    this.tell('localChanged');
    await this.served.changed('mic');
  }

  private isOn(source: Source): boolean {
    return this.local.has(source) && (source !== 'mic' || !this.micMuted);
  }

  private async sendDirectly(direct: Direct, source: Source, track: MediaStreamTrack | null): Promise<void> {
    await direct.setTrack(source, track).catch((error) => {
      if (!direct.closed) this.step('directProblem', { source, message: String(error) });
    });
  }

  private stopLocal(): void {
    for (const track of this.local.values()) track.stop();
    this.local.clear();
  }

  /** A moderator has paused these at the server: what is shown here follows. */
  private async muted(producerIds: string[]): Promise<void> {
    for (const [source, producer] of [...this.producers]) {
      if (!producerIds.includes(producer.id)) continue;
      this.tell('problem', `A moderator turned off your ${nameOf(source)}.`);
      if (source === 'mic') await this.setMicMuted(true);
      else await this.setTrack(source, null);
    }
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
    this.voices?.close();
    this.served.drop();
    this.closeDirect();
    this.stopLocal();
    this.signaling.close();
  }
}

/** Why somebody is not in the room yet, and will be. */
function whyNot(code: string): string {
  switch (code) {
    case 'draining':
      return 'This server is being taken out of service and opens no new rooms.';
    case 'rate_limited':
      return 'Many people are joining at this moment.';
    case 'offline':
    case 'timeout':
      return 'The server does not answer.';
    case 'media_unavailable':
    case 'dataplane_unavailable':
      return 'The media server is not available yet.';
    default:
      return 'You could not join yet.';
  }
}

/** Why somebody cannot be in the room, for people. */
function inWords(code: string, error: unknown): string {
  switch (code) {
    case 'already_exists':
      return 'You joined this call from somewhere else: another window, or another device.';
    case 'token_expired':
      return 'Your admission to this call has ended. Open the call again from where you were invited.';
    default:
      return (error as Error)?.message ?? String(error);
  }
}

/** The handshake is refused in words alone: `code: message`. */
function codeOf(error: Error): string {
  return /^([a-z_]+): /.exec(error.message)?.[1] ?? '';
}

/** With whom a direct way is to be made, and who begins. */
function peersOf(wanted: any): { peerId: string; initiator: boolean }[] {
  return wanted.peers ?? [{ peerId: wanted.peerId, initiator: wanted.initiator }];
}
