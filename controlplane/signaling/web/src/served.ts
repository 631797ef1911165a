// The way of a call through the media server: the device, both transports, what is sent and received
// by them, and new ICE credentials when the network fails. The call decides when there is such a way.

import { Device, type types } from 'mediasoup-client';
import { cameraEncodings, layersOf, screenEncodings } from './encodings.ts';
import type { Options } from './options.ts';
import { hasNoRoom, isPassing, patiently, Refused, type Signaling } from './signaling.ts';
import { fresh, nameOf, type RemoteTrack, scores, type Source } from './tracks.ts';

/** A track that somebody sends, as the service tells it. */
export interface Listed {
  producerId: string;
  participantId: string;
  kind: 'audio' | 'video';
  paused?: boolean;
  appData?: { source?: Source; width?: number };
}

/** What mediasoup-client has the server told of a track. */
interface Produced {
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  appData: types.AppData;
}

export interface ServedOptions {
  signaling: Signaling;
  options: Options;
  /** What there is to send. */
  local: ReadonlyMap<Source, MediaStreamTrack>;
  isMuted: () => boolean;
  /** The service has us in the room at this moment: it takes requests about it. */
  isIn: () => boolean;
  isLeft: () => boolean;
  added: (track: RemoteTrack) => void;
  removed: (track: RemoteTrack) => void;
  changed: (track: RemoteTrack) => void;
  sendingChanged: () => void;
  /** Media comes through, or does not any more. */
  connectionChanged: () => void;
  /** It could not be restored. */
  lost: (reason: string) => void;
  problem: (text: string) => void;
  step: (name: string, detail?: Record<string, unknown>) => void;
}

/** A failure that passes by itself sooner than this many tries is not worth a word. */
const QUIET_TRIES = 3;
/** A track for which there was no room is tried again so often, more or less. */
const ROOM_MS = 10_000;
const ICE_RESTART_MS_MIN = 2_500;
const ICE_RESTARTS_MAX = 4;

export class Served {
  /** What comes, by the id of its producer. */
  readonly tracks = new Map<string, RemoteTrack>();
  readonly producers = new Map<Source, types.Producer>();
  /** What there is to receive, whether we do yet or not. */
  readonly listed = new Map<string, Listed>();
  device: types.Device | null = null;
  sendTransport: types.Transport | null = null;
  recvTransport: types.Transport | null = null;
  /** False for who may only watch. */
  maySend = true;

  private host: ServedOptions;
  private signaling: Signaling;
  private iceServers: RTCIceServer[] = [];
  /** The receiving transport, also while it is being made: what is received needs it last. */
  private receiving: Promise<types.Transport> | null = null;
  /** Producers that are about to be received; true: asked for once more meanwhile. */
  private consuming = new Map<string, boolean>();
  /** Sources whose sending is being brought in step just now. */
  private syncing = new Map<Source, Promise<void>>();
  private producing = new Set<Source>();
  /** The last `produce` that was asked for, until it is known what became of it. */
  private asking: Promise<unknown> = Promise.resolve();
  /** What the server has of ours: producer to whether it is paused there; undefined while that is not sure. */
  private told = new Map<string, boolean | undefined>();
  /** Paused whatever the buttons say. */
  private held = new Set<Source>();
  /** Ends the pauses before something is tried again. */
  private pauses = new Set<() => void>();
  /** Counts what was built: an answer for an older one is thrown away. */
  private generation = 0;
  private restarts = new Map<string, { last: number; count: number; running: boolean }>();

  constructor(host: ServedOptions) {
    this.host = host;
    this.signaling = host.signaling;
  }

  // ---- the transports ----------------------------------------------------------------------

  /** Whether the server still has both transports. It may have lost them while we were away. */
  lives(transportIds: string[] | undefined): boolean {
    const { sendTransport, recvTransport } = this;
    if ((this.maySend && !sendTransport) || !recvTransport) return false;
    return !transportIds || [sendTransport, recvTransport].every((each) => !each || transportIds.includes(each.id));
  }

  get isInterrupted(): boolean {
    const states = [this.sendTransport, this.recvTransport].map((transport) => transport?.connectionState);
    return states.includes('disconnected') || states.includes('failed');
  }

  /** Everything anew. */
  async build(routerRtpCapabilities: types.RtpCapabilities, iceServers: RTCIceServer[]): Promise<void> {
    this.drop();
    this.iceServers = iceServers;
    const generation = this.generation;
    this.device = await Device.factory();
    await this.device.load({ routerRtpCapabilities });
    const rtpCapabilities = this.device.recvRtpCapabilities;
    // All at once, with what is to be received: the server makes it in one go.
    const sending = this.signaling.request('createProducerTransport').catch((error) => {
      // Who may only watch has none, and needs none.
      if (error instanceof Refused && error.code === 'forbidden') return null;
      throw error;
    });
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
      this.maySend = send !== null;
      this.host.sendingChanged();
      if (!send) return;
      this.sendTransport = this.device.createSendTransport({ ...send, iceServers: this.iceServers });
    } catch (error) {
      if (generation === this.generation) this.drop();
      throw error;
    }
    this.wire(this.sendTransport, 'connectProducerTransport');
    this.sendTransport.on('produce', (wanted, done, failed) => {
      this.asking = this.askToProduce(wanted, generation).then(done, failed);
    });
    // What is sent does not hold up what is received.
    void this.syncAll();
  }

  /** Until the server has it, or it is known that it has not. */
  private async askToProduce({ kind, rtpParameters, appData }: Produced, generation: number): Promise<{ id: string }> {
    const source = appData.source as Source;
    // No answer came to one that was sent: it may have been made. The server knows a repetition by its
    // mid, so that one that is wanted no more is asked for again, and then ended by its id.
    let isUnclear = false;
    const isWanted = () => generation === this.generation && (isUnclear || this.host.local.has(source));
    let paused = false;
    const ask = async () => {
      // The connection took a while to be made: what is wanted may be another thing by now.
      if (!isWanted()) throw new Refused('offline', 'It is not to be sent any more.');
      paused = this.isToBePaused(source);
      try {
        return await this.signaling.request('produce', { kind, rtpParameters, paused, appData });
      } catch (error) {
        const code = error instanceof Refused ? error.code : '';
        isUnclear = code === 'timeout' || (isUnclear && code === 'offline');
        throw error;
      }
    };
    const { id } = await this.again(`Your ${nameOf(source)} could not be sent yet. Trying again…`, ask, isWanted);
    // One that was there already may be paused as the first time, or not.
    this.told.set(id, isUnclear ? undefined : paused);
    return { id };
  }

  drop(): void {
    this.generation += 1;
    for (const track of [...this.tracks.values()]) this.forget(track);
    for (const producer of this.producers.values()) producer.close();
    this.producers.clear();
    this.consuming.clear();
    this.syncing.clear();
    this.producing.clear();
    this.asking = Promise.resolve();
    this.told.clear();
    this.restarts.clear();
    this.sendTransport?.close();
    this.recvTransport?.close();
    this.sendTransport = null;
    this.recvTransport = null;
    this.receiving = null;
    this.wake();
  }

  /** What waits before it is tried again is tried now. */
  private wake(): void {
    for (const end of [...this.pauses]) end();
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.pauses.add(end);
    });
  }

  private wire(transport: types.Transport, connectEvent: string): void {
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      const ask = () => this.signaling.request(connectEvent, { transportId: transport.id, dtlsParameters });
      const isWanted = () => !transport.closed;
      this.again('The connection is not made yet. Trying again…', ask, isWanted).then(() => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.host.step('transport', { direction: transport.direction, state });
      this.host.connectionChanged();
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
        this.host.lost('The connection could not be restored; joining again.');
        break;
      }
      known.last = performance.now();
      if (!this.signaling.socket.connected) continue;
      known.count += 1;
      await this.restartIce(transport).catch((error) => this.host.step('iceRestartFailed', { message: String(error) }));
    }
    known.running = false;
  }

  async restartIce(transport: types.Transport | null): Promise<void> {
    if (!transport) return;
    const { iceParameters, iceServers } = await this.signaling.request('restartIce', { transportId: transport.id });
    if (iceServers) await transport.updateIceServers({ iceServers });
    await transport.restartIce({ iceParameters });
    this.host.step('iceRestarted', { direction: transport.direction });
  }

  /** Asks again while it fails for a passing reason; when that takes a while, people are told why. */
  private again<T>(text: string, attempt: () => Promise<T>, isWanted: () => boolean): Promise<T> {
    const { host } = this;
    const ask = async () => {
      // Between a reconnect and the answer to its join nothing would be taken.
      if (!host.isIn()) throw new Refused('offline', 'You are offline for a moment.');
      return attempt();
    };
    return patiently(
      ask,
      () => !host.isLeft() && isWanted(),
      (error, times) => {
        host.step('again', { text, times, message: String(error) });
        if (times === QUIET_TRIES && host.isIn()) host.problem(text);
      },
      (ms) => this.pause(ms),
    );
  }

  /**
   * Where there is no room it is tried again later, for as long as it is wanted. Not within `again`: a track
   * that waits there for its `produce` holds up whatever else is sent.
   */
  private async untilThereIsRoom<T>(text: string, attempt: () => Promise<T>, isWanted: () => boolean): Promise<T> {
    for (let times = 1; ; times++) {
      try {
        return await attempt();
      } catch (error) {
        if (!hasNoRoom(error) || !isWanted()) throw error;
        this.host.step('noRoom', { text, times });
        if (times === 1) this.host.problem(text);
        await this.pause(ROOM_MS * (0.75 + Math.random() / 2));
        if (this.host.isLeft() || !isWanted()) throw error;
      }
    }
  }

  // ---- what the service tells --------------------------------------------------------------

  listen(on: (event: string, read: (payload: any) => void) => void): void {
    on('layers-unwatched', ({ producerId, encodings }) => this.sendWatched(producerId, encodings));
    on('new-producer', (listed: Listed) => {
      this.listed.set(listed.producerId, listed);
      void this.consume(listed);
    });
    on('roomProducersChanged', ({ producers }: { producers: Listed[] }) => {
      // It may be older than what was told of each one. What ends is told in any case: here it is
      // looked for what is not received yet, or not any more.
      for (const one of producers) {
        const known = this.listed.get(one.producerId) ?? one;
        this.listed.set(one.producerId, known);
        void this.consume(known);
      }
    });
    on('producer-closed', ({ producerId }) => {
      this.listed.delete(producerId);
      const track = this.tracks.get(producerId);
      if (track) this.forget(track);
    });
    on('producer-paused', ({ producerId }) => this.setProducerPaused(producerId, true));
    on('producer-resumed', ({ producerId }) => this.setProducerPaused(producerId, false));
    on('consumer-closed', ({ consumerId }) => {
      const track = this.byConsumer(consumerId);
      if (track) this.forget(track);
    });
    on('consumer-layers-changed', ({ consumerId, layers, reason }) => {
      const track = this.byConsumer(consumerId);
      if (!track) return;
      track.layers = layers;
      track.starved = layers === null && reason === 'bandwidth';
      track.leftOut = layers === null && reason === 'last_n';
      this.host.step('layers', { consumerId, layers });
      this.host.changed(track);
    });
    on('consumer-score', ({ consumerId, score }) => {
      const track = this.byConsumer(consumerId);
      if (!track) return;
      Object.assign(track, scores(score));
      this.host.changed(track);
    });
  }

  private byConsumer(consumerId: string): RemoteTrack | undefined {
    return [...this.tracks.values()].find(({ consumer }) => consumer.id === consumerId);
  }

  // ---- receiving ---------------------------------------------------------------------------

  /** Receives exactly what is listed. */
  syncProducers(): void {
    for (const track of [...this.tracks.values()]) {
      if (!this.listed.has(track.producerId)) this.forget(track);
    }
    for (const producer of this.listed.values()) void this.consume(producer);
  }

  /** Somebody left, with all that he sent. */
  forgetAllOf(participantId: string): void {
    for (const [id, listed] of this.listed) {
      if (listed.participantId === participantId) this.listed.delete(id);
    }
    for (const track of [...this.tracks.values()]) {
      if (track.participantId === participantId) this.forget(track);
    }
  }

  private async consume(listed: Listed): Promise<void> {
    const { producerId } = listed;
    if (this.tracks.has(producerId)) {
      if (listed.paused !== undefined) this.setProducerPaused(producerId, listed.paused);
      return;
    }
    const { receiving, generation } = this;
    if (!receiving) return;
    if (this.consuming.has(producerId)) {
      this.consuming.set(producerId, true);
      return;
    }
    this.consuming.set(producerId, false);
    const isGone = !(await this.receive(listed, receiving));
    if (generation !== this.generation) return;
    const isAskedAgain = this.consuming.get(producerId);
    this.consuming.delete(producerId);
    const now = this.listed.get(producerId);
    if (isAskedAgain && now) void this.consume(now);
    else if (isGone) this.listed.delete(producerId);
  }

  /** False when there is no such track any more, or not by this way. */
  private async receive(listed: Listed, receiving: Promise<types.Transport>): Promise<boolean> {
    const { producerId } = listed;
    const { generation } = this;
    const isWanted = () => generation === this.generation && this.listed.has(producerId);
    const later = `A ${listed.kind} stream could not be received yet. Trying again…`;
    const ask = () => this.again(later, () => this.signaling.request('consume', { producerId }), isWanted);
    try {
      const made = await this.untilThereIsRoom(later, ask, isWanted);
      const recvTransport = await receiving;
      if (generation !== this.generation) return true;
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
        ...fresh({ consumer, producerId, participantId: made.participantId, source: sourceOf(listed) }),
        producerPaused: made.producerPaused,
        ...scores(made.score),
        spatialLayers: spatial,
        temporalLayers: temporal,
        width: Number(listed.appData?.width) || 0,
      };
      // It was closed, or paused, while we asked for it.
      const now = this.listed.get(producerId);
      if (!now) {
        consumer.close();
        return true;
      }
      if (now.paused !== undefined) track.producerPaused = now.paused;
      this.tracks.set(producerId, track);
      this.host.added(track);
      const resume = () => this.signaling.request('resumeConsumer', { consumerId: consumer.id });
      await this.again(later, resume, () => isWanted() && this.tracks.get(producerId) === track);
    } catch (error) {
      const code = error instanceof Refused ? error.code : '';
      this.host.step('consumeFailed', { producerId, code, message: String(error) });
      // It may be gone by now: then there is nothing to tell.
      if (code === 'not_found') {
        const track = this.tracks.get(producerId);
        if (track && generation === this.generation) this.forget(track);
        return false;
      }
      if (isWanted()) this.host.problem(`A ${listed.kind} stream could not be received: ${(error as Error).message}`);
    }
    return true;
  }

  private forget(track: RemoteTrack): void {
    this.tracks.delete(track.producerId);
    track.consumer.close();
    this.host.removed(track);
  }

  private setProducerPaused(producerId: string, paused: boolean): void {
    const listed = this.listed.get(producerId);
    if (listed) listed.paused = paused;
    const track = this.tracks.get(producerId);
    if (!track || track.producerPaused === paused) return;
    track.producerPaused = paused;
    this.host.changed(track);
  }

  // ---- sending -----------------------------------------------------------------------------
  // What is to be sent is asked of the call each time; what is sent is compared with it, step by step.

  /** The buttons, or a device, changed what is to be sent of a source. Done when it is sent so. */
  changed(source: Source): Promise<void> {
    this.held.delete(source);
    this.wake();
    return this.sync(source);
  }

  /** Paused beside what the buttons say, until they are used. */
  hold(source: Source, isHeld: boolean): Promise<void> {
    if (isHeld) this.held.add(source);
    else this.held.delete(source);
    return this.sync(source);
  }

  private isToBePaused(source: Source): boolean {
    return this.held.has(source) || !this.host.local.has(source) || (source === 'mic' && this.host.isMuted());
  }

  /** We are in the room again, with all that the server still has of us. */
  syncOwn(producerIds: string[] | undefined): void {
    for (const [source, producer] of [...this.producers]) {
      if (producerIds && !producerIds.includes(producer.id)) this.forgetOwn(source, producer);
      else this.told.set(producer.id, undefined);
    }
    void this.endStrays((producerIds ?? []).filter((id) => !this.told.has(id)));
    this.wake();
    void this.syncAll();
  }

  /** Made there, but the answer was lost on the way. One may be what is asked for again just now. */
  private async endStrays(producerIds: string[]): Promise<void> {
    const { generation } = this;
    await this.asking;
    if (generation !== this.generation) return;
    for (const id of producerIds) {
      if (!this.told.has(id)) this.endAtServer(id).catch((error) => this.host.step('stopFailed', { message: String(error) }));
    }
  }

  private async syncAll(): Promise<void> {
    await Promise.all((['mic', 'camera', 'screen'] as const).map((source) => this.sync(source)));
  }

  /** One at a time for each source: who comes meanwhile is served by the one that runs. */
  private sync(source: Source): Promise<void> {
    return this.syncing.get(source) ?? this.bringInStep(source);
  }

  private bringInStep(source: Source): Promise<void> {
    const { generation } = this;
    const running = (async () => {
      // It is known to run before it does.
      await Promise.resolve();
      while (generation === this.generation) {
        const track = this.host.local.get(source);
        const step = this.nextStep(source);
        if (!step) break;
        try {
          await step();
        } catch (error) {
          // What belongs to an older connection is made anew with the next one.
          if (generation !== this.generation) return;
          // It was given up because something else is wanted by now.
          if (isPassing(error) || this.host.local.get(source) !== track) continue;
          this.host.step('sendingFailed', { source, message: String(error) });
          this.host.problem(`Your ${nameOf(source)} could not be sent: ${(error as Error).message}`);
          break;
        }
      }
      // In the same moment as the last look: whoever changes something now begins anew.
      if (generation === this.generation) this.syncing.delete(source);
    })();
    this.syncing.set(source, running);
    return running;
  }

  /** The next thing to do so that what is sent of a source is what is to be sent. */
  private nextStep(source: Source): (() => Promise<void>) | null {
    const transport = this.sendTransport;
    if (!transport || this.host.isLeft()) return null;
    const track = this.host.local.get(source);
    const producer = this.producers.get(source);
    if (!producer) return track ? () => this.produceWithRoom(source, track, transport) : null;
    if (!track && source === 'screen') return () => this.stop(source, producer);
    const paused = this.isToBePaused(source);
    if (producer.paused !== paused) {
      if (paused) producer.pause();
      else producer.resume();
    }
    if (track && producer.track !== track) return () => producer.replaceTrack({ track });
    if (this.told.get(producer.id) !== paused) return () => this.tellPaused(source, producer, paused);
    return null;
  }

  private produceWithRoom(source: Source, track: MediaStreamTrack, transport: types.Transport): Promise<void> {
    const isWanted = () => transport === this.sendTransport && this.host.local.get(source) === track;
    const later = `There is no room for your ${nameOf(source)} at this moment. Trying again…`;
    return this.untilThereIsRoom(later, () => this.produce(source, track, transport), isWanted);
  }

  private async produce(source: Source, track: MediaStreamTrack, transport: types.Transport): Promise<void> {
    const { generation } = this;
    this.producing.add(source);
    try {
      const producer = await this.made(source, track, transport);
      if (generation !== this.generation) return;
      this.producers.set(source, producer);
      producer.on('transportclose', () => {
        if (this.producers.get(source) === producer) this.producers.delete(source);
      });
      this.host.step('produced', { producerId: producer.id, source });
      this.host.sendingChanged();
    } finally {
      if (generation === this.generation) this.producing.delete(source);
    }
  }

  private async made(source: Source, track: MediaStreamTrack, transport: types.Transport): Promise<types.Producer> {
    const { options } = this.host;
    const common = { track, streamId: source === 'screen' ? 'screen' : 'person', stopTracks: false };
    if (source === 'mic') {
      // A lost packet of sound is asked for again: on a short way the answer comes in time.
      const codecOptions = { opusDtx: false, opusFec: true, opusNack: true };
      return transport.produce({ ...common, codecOptions, appData: { source }, zeroRtpOnPause: false });
    }
    const width = track.getSettings().width ?? options.width;
    const wanted = `video/${options.codec}`.toLowerCase();
    const codec = this.device?.sendRtpCapabilities.codecs?.find((c) => c.mimeType.toLowerCase() === wanted);
    if (!codec) throw new Error(`this browser and the server share no ${options.codec}`);
    const encodings =
      source === 'screen' ? screenEncodings(options.codec) : cameraEncodings(options.codec, width, options.simulcast);
    // A browser begins its estimate anew at this value, also beside a picture that it sends already:
    // only the first one may say it.
    const other = source === 'screen' ? 'camera' : 'screen';
    const isFirst = !this.producers.has(other) && !this.producing.has(other);
    const codecOptions = isFirst ? { videoGoogleStartBitrate: 1000 } : {};
    return transport.produce({ ...common, encodings, codec, codecOptions, appData: { source, width } });
  }

  private async tellPaused(source: Source, producer: types.Producer, paused: boolean): Promise<void> {
    const event = paused ? 'pauseProducer' : 'resumeProducer';
    const ask = () => this.signaling.request(event, { producerId: producer.id });
    const isWanted = () => this.producers.get(source) === producer && this.isToBePaused(source) === paused;
    // Also when no answer comes it may have been done.
    this.told.set(producer.id, undefined);
    try {
      await this.again(`Your ${nameOf(source)} could not be ${paused ? 'paused' : 'resumed'} yet.`, ask, isWanted);
    } catch (error) {
      // The server lost it: it is made anew.
      if (isNotFound(error)) return this.forgetOwn(source, producer);
      throw error;
    }
    this.told.set(producer.id, paused);
    this.host.step(paused ? 'producerPaused' : 'producerResumed', { source });
    this.host.sendingChanged();
  }

  /** What the server has not any more. */
  private forgetOwn(source: Source, producer: types.Producer): void {
    this.producers.delete(source);
    this.told.delete(producer.id);
    producer.close();
  }

  private async stop(source: Source, producer: types.Producer): Promise<void> {
    this.producers.delete(source);
    producer.close();
    await this.endAtServer(producer.id);
    this.host.step('stopped', { source });
  }

  /** Until the server has it no more. */
  private async endAtServer(producerId: string): Promise<void> {
    const { generation } = this;
    const ask = () => this.signaling.request('stopProducing', { producerIds: [producerId] });
    try {
      await this.again('What you stopped sending could not be ended yet.', ask, () => generation === this.generation);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    this.told.delete(producerId);
  }

  /**
   * Sends no more than is watched. The lowest encoding goes on in any case: whoever comes has a
   * picture at once, and the others a key frame later.
   */
  sendWatched(producerId: string, unwatched: number[]): void {
    const producer = [...this.producers.values()].find(({ id }) => id === producerId);
    const encodings = producer?.rtpParameters.encodings?.length ?? 0;
    if (!producer || producer.closed || encodings < 2) return;
    let top = encodings - 1;
    while (top > 0 && unwatched.includes(top)) top -= 1;
    this.host.step('sendWatched', { producerId, top });
    producer.setMaxSpatialLayer(top).catch((error) => this.host.step('sendWatchedFailed', { message: String(error) }));
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Refused && error.code === 'not_found';
}

function sourceOf(listed: Listed): Source {
  return listed.appData?.source ?? (listed.kind === 'audio' ? 'mic' : 'camera');
}
