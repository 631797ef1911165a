// The way of a call through the media server: the device, both transports, what is sent and received
// by them, and new ICE credentials when the network fails. The call decides when there is such a way.

import { Device, type types } from 'mediasoup-client';
import { cameraEncodings, layersOf, screenEncodings } from './encodings.ts';
import type { Options } from './options.ts';
import { patiently, Refused, type Signaling } from './signaling.ts';
import { fresh, nameOf, type RemoteTrack, type Source } from './tracks.ts';

/** A track that somebody sends, as the service tells it. */
export interface Listed {
  producerId: string;
  participantId: string;
  kind: 'audio' | 'video';
  paused?: boolean;
  appData?: { source?: Source; width?: number };
}

export interface ServedOptions {
  signaling: Signaling;
  options: Options;
  /** What there is to send. */
  local: ReadonlyMap<Source, MediaStreamTrack>;
  isMuted: () => boolean;
  /** The call stands: what is given now is sent at once. */
  isConnected: () => boolean;
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

  private host: ServedOptions;
  private signaling: Signaling;
  private iceServers: RTCIceServer[] = [];
  /** The receiving transport, also while it is being made: what is received needs it last. */
  private receiving: Promise<types.Transport> | null = null;
  private consuming = new Set<string>();
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
    if (!sendTransport || !recvTransport) return false;
    return !transportIds || (transportIds.includes(sendTransport.id) && transportIds.includes(recvTransport.id));
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
      if (generation === this.generation) this.drop();
      throw error;
    }
    this.wire(this.sendTransport, 'connectProducerTransport');
    this.sendTransport.on('produce', ({ kind, rtpParameters, appData }, done, failed) => {
      const paused = appData.paused === true;
      const { source, width } = appData;
      const ask = () => this.signaling.request('produce', { kind, rtpParameters, paused, appData: { source, width } });
      this.again(`Your ${nameOf(source as Source)} could not be sent yet. Trying again…`, ask, () => {
        return generation === this.generation;
      }).then(({ id }) => done({ id }), failed);
    });
    // What is sent does not hold up what is received.
    void this.produceLocal();
  }

  drop(): void {
    this.generation += 1;
    for (const track of [...this.tracks.values()]) this.forget(track);
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
    return patiently(
      attempt,
      () => !this.host.isLeft() && isWanted(),
      (error, times) => {
        this.host.step('again', { text, times, message: String(error) });
        if (times === QUIET_TRIES && this.signaling.socket.connected) this.host.problem(text);
      },
    );
  }

  // ---- what the service tells --------------------------------------------------------------

  listen(on: (event: string, read: (payload: any) => void) => void): void {
    on('layers-unwatched', ({ producerId, encodings }) => this.sendWatched(producerId, encodings));
    on('new-producer', (listed: Listed) => {
      this.listed.set(listed.producerId, listed);
      void this.consume(listed);
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
      track.score = score?.score ?? null;
      // None: nothing came of it lately, as of a picture that is paused.
      track.producerScore = score?.producerScore || null;
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
        ...fresh({ consumer, producerId, participantId: made.participantId, source: sourceOf(listed) }),
        producerPaused: made.producerPaused,
        spatialLayers: spatial,
        temporalLayers: temporal,
        width: Number(listed.appData?.width) || 0,
      };
      // It was closed, or paused, while we asked for it.
      const now = this.listed.get(producerId);
      if (!now) {
        consumer.close();
        return;
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
      if (code !== 'not_found' && isWanted()) {
        this.host.problem(`A ${listed.kind} stream could not be received: ${(error as Error).message}`);
      }
    } finally {
      this.consuming.delete(producerId);
    }
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

  /** What is to be sent changed. */
  async setTrack(source: Source, track: MediaStreamTrack | null, isOn: boolean): Promise<void> {
    const producer = this.producers.get(source);
    if (!track) {
      if (producer && source === 'screen') await this.stop(source);
      else if (producer) await this.setPaused(source, true);
    } else if (producer) {
      await producer.replaceTrack({ track });
      if (isOn) await this.setPaused(source, false);
    } else if (this.sendTransport && this.host.isConnected()) {
      await this.produce(source);
    }
  }

  private async produceLocal(): Promise<void> {
    for (const source of ['mic', 'camera', 'screen'] as const) {
      const { generation } = this;
      if (!this.host.local.has(source)) continue;
      try {
        await this.produce(source);
      } catch (error) {
        // What belongs to an older connection is made anew with the next one.
        if (generation !== this.generation) return;
        this.host.step('produceFailed', { source, message: String(error) });
        this.host.problem(`Your ${nameOf(source)} could not be sent: ${(error as Error).message}`);
      }
    }
  }

  private async produce(source: Source): Promise<void> {
    const { options } = this.host;
    const track = this.host.local.get(source);
    const transport = this.sendTransport;
    if (!track || !transport || !this.device || this.producers.has(source)) return;
    const common = { track, streamId: source === 'screen' ? 'screen' : 'person', stopTracks: false };
    const paused = source === 'mic' && this.host.isMuted();
    const width = source === 'mic' ? undefined : (track.getSettings().width ?? options.width);
    const appData = { source, paused, width };
    let producer: types.Producer;
    if (source === 'mic') {
      // A lost packet of sound is asked for again: on a short way the answer comes in time.
      const codecOptions = { opusDtx: false, opusFec: true, opusNack: true };
      producer = await transport.produce({ ...common, codecOptions, appData, zeroRtpOnPause: false });
    } else {
      const wanted = `video/${options.codec}`.toLowerCase();
      const codec = this.device.sendRtpCapabilities.codecs?.find((c) => c.mimeType.toLowerCase() === wanted);
      if (!codec) throw new Error(`this browser and the server share no ${options.codec}`);
      const encodings =
        source === 'screen'
          ? screenEncodings(options.codec)
          : cameraEncodings(options.codec, width ?? options.width, options.simulcast);
      // A browser begins its estimate anew at this value, also beside a picture that it sends already:
      // only the first one may say it.
      const isFirst = ![...this.producers.values()].some(({ kind }) => kind === 'video');
      const codecOptions = isFirst ? { videoGoogleStartBitrate: 1000 } : {};
      producer = await transport.produce({ ...common, encodings, codec, codecOptions, appData });
    }
    if (transport.closed) return;
    this.producers.set(source, producer);
    if (paused) producer.pause();
    this.host.step('produced', { producerId: producer.id, source });
    producer.on('transportclose', () => {
      if (this.producers.get(source) === producer) this.producers.delete(source);
    });
    this.host.sendingChanged();
  }

  /** What changed here while the socket was away, or was lost there, is made good. */
  syncOwn(producerIds: string[] | undefined): void {
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
    await this.again(`Your ${nameOf(source)} could not be ${paused ? 'paused' : 'resumed'} yet.`, ask, isWanted);
    this.host.step(paused ? 'producerPaused' : 'producerResumed', { source });
    this.host.sendingChanged();
  }

  private async stop(source: Source): Promise<void> {
    const producer = this.producers.get(source);
    if (!producer) return;
    this.producers.delete(source);
    producer.close();
    await this.signaling.request('stopProducing', { producerIds: [producer.id] });
    this.host.step('stopped', { source });
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

function sourceOf(listed: Listed): Source {
  return listed.appData?.source ?? (listed.kind === 'audio' ? 'mic' : 'camera');
}
