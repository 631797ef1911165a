// A router: one room, on one worker of the host.

import type { Consumer } from './consumer.js';
import { closedError, unsupported } from './errors.js';
import type {
  CanConsumeAnswer, ConsumerInfo, CreateObserver, CreatePipe, CreateTransport, ObserverInfo, Piped, ProducerInfo, RouterInfo, RouterSnapshot, RtpCapabilities, RtpCodecCapability,
  Snapshot,
} from './openapi.js';
import { PipeTransport, type PipeTransportInfo, type PipeTransportOptions } from './pipetransport.js';
import type { Producer } from './producer.js';
import { type ClosedReason, Resource } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import {
  ActiveSpeakerObserver, type ActiveSpeakerObserverOptions, AudioLevelObserver, type AudioLevelObserverOptions,
} from './rtpobserver.js';
import { PlainTransport, type PlainTransportInfo, type PlainTransportOptions } from './plaintransport.js';
import { WebRtcTransport, type WebRtcTransportInfo } from './transport.js';
import type { AppData } from './types.js';

export interface WebRtcTransportOptions {
  id?: string;
  /** Whose it is. */
  participantId?: string;
  /** The default of the consumers made on it. */
  rtpCapabilities?: RtpCapabilities;
  /** Bits per second, where the estimate begins. */
  initialAvailableOutgoingBitrate?: number;
  /** Seconds without a check, media or RTCP until the peer counts as disconnected; 0 for never. */
  iceConsentTimeout?: number;
  /** Seconds that a disconnected peer may take to come back until its transport is closed. */
  iceDisconnectedTimeout?: number;
  enableUdp?: boolean;
  enableTcp?: boolean;
  preferUdp?: boolean;
  preferTcp?: boolean;
  /** Not in this version. */
  enableSctp?: boolean;
  appData?: AppData;
  /** Taken and not used: addresses and ports are the host's configuration (`rtc.*`). */
  webRtcServer?: unknown;
  listenInfos?: unknown;
  listenIps?: unknown;
  listenIp?: unknown;
  port?: unknown;
}

export interface PipeToRouterOptions {
  producerId: string;
  /** Of the same host. */
  router: Router;
  /** Ids are the host's, so the producer there has another one; true insists, and is refused. */
  keepId?: boolean;
  /** Taken and not used: addresses are the host's (`pipes.listen`), as is whether pipes are sealed (`pipes.srtp`). */
  listenInfo?: unknown;
  listenIp?: unknown;
  enableRtx?: unknown;
  enableSrtp?: unknown;
  enableSctp?: unknown;
  numSctpStreams?: unknown;
}

export interface PipeToRouterResult {
  pipeConsumer: Consumer;
  pipeProducer: Producer;
}

export interface RouterEvents {
  /** The server closed it (its worker died, the host was drained, an operator asked for it), or `worker.close()` did. */
  workerclose: [ClosedReason];
}

export interface RouterObserverEvents {
  close: [];
  newtransport: [AnyTransport];
  newrtpobserver: [AudioLevelObserver | ActiveSpeakerObserver];
}

export interface RouterDump {
  id: string;
  transportIds: string[];
  rtpObserverIds: string[];
  mapProducerIdConsumerIds: { key: string; values: string[] }[];
  mapConsumerIdProducerId: { key: string; value: string }[];
  mapProducerIdObserverIds: { key: string; values: string[] }[];
}

type AnyTransport = WebRtcTransport | PlainTransport | PipeTransport;
type AnyTransportInfo = WebRtcTransportInfo | PlainTransportInfo | PipeTransportInfo;

function makeTransport(session: Session, info: AnyTransportInfo, appData: AppData, seq: Seq, onEnd: () => void): AnyTransport {
  switch (info.type) {
    case 'plain': return new PlainTransport(session, info, appData, seq, onEnd);
    case 'pipe': return new PipeTransport(session, info, appData, seq, onEnd);
    default: return new WebRtcTransport(session, info, appData, seq, onEnd);
  }
}

export class Router extends Resource<RouterEvents, RouterObserverEvents> {
  /** @internal */
  readonly resource = 'router';
  readonly #info: RouterInfo;
  readonly #onEnd: () => void;
  readonly #transports = new Map<string, AnyTransport>();
  readonly #observers = new Map<string, AudioLevelObserver | ActiveSpeakerObserver>();

  /** @internal */
  constructor(session: Session, info: RouterInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info.id, appData, seq);
    this.#info = info;
    this.#onEnd = onEnd;
  }

  /** For `device.load({ routerRtpCapabilities })` of mediasoup-client. */
  get rtpCapabilities(): RtpCapabilities {
    return this.#info.rtpCapabilities;
  }

  get mediaCodecs(): RtpCodecCapability[] {
    return this.#info.mediaCodecs;
  }

  /** The worker of the host that it lives on. */
  get workerId(): string {
    return this.#info.workerId;
  }

  close(): Promise<void> {
    return this.closedByCaller();
  }

  async createWebRtcTransport(options: WebRtcTransportOptions = {}): Promise<WebRtcTransport> {
    if (this.closed) throw closedError('router');
    const { appData = {} } = options;
    const body: CreateTransport = {
      id: options.id,
      routerId: this.id,
      type: 'webrtc',
      participantId: options.participantId,
      rtpCapabilities: options.rtpCapabilities,
      initialAvailableOutgoingBitrate: options.initialAvailableOutgoingBitrate,
      iceConsentTimeout: options.iceConsentTimeout,
      iceDisconnectedTimeout: options.iceDisconnectedTimeout,
      enableUdp: options.enableUdp,
      enableTcp: options.enableTcp,
      preferUdp: options.preferUdp,
      preferTcp: options.preferTcp,
      enableSctp: options.enableSctp,
      appData,
    };
    return (await this.#createTransport(body, appData)) as WebRtcTransport;
  }

  /** For who sends or takes RTP without ICE and DTLS. */
  async createPlainTransport(options: PlainTransportOptions = {}): Promise<PlainTransport> {
    if (this.closed) throw closedError('router');
    const { appData = {}, listenInfo, listenIp } = options;
    const body: CreateTransport = {
      id: options.id,
      routerId: this.id,
      type: 'plain',
      participantId: options.participantId,
      listenAddress: listenInfo?.ip ?? (typeof listenIp === 'object' ? listenIp.ip : listenIp),
      // mediasoup takes 0 for any.
      port: options.port || listenInfo?.port || undefined,
      rtcpMux: options.rtcpMux,
      comedia: options.comedia,
      enableSrtp: options.enableSrtp,
      srtpCryptoSuite: options.srtpCryptoSuite,
      appData,
    };
    return (await this.#createTransport(body, appData)) as PlainTransport;
  }

  async #createTransport(body: CreateTransport, appData: AppData): Promise<AnyTransport> {
    const make = (info: AnyTransportInfo, seq: Seq) => this.#addTransport(info, appData, seq);
    const transport = await this.session.create('transport', '/transports', body, make);
    this.observer.safeEmit('newtransport', transport);
    return transport;
  }

  /** Asks the server: unlike mediasoup's it has to be waited for. */
  async canConsume({ producerId, rtpCapabilities }: { producerId: string; rtpCapabilities: RtpCapabilities }): Promise<boolean> {
    const { canConsume } = await this.call<CanConsumeAnswer>('POST', '/can-consume', { producerId, rtpCapabilities });
    return canConsume;
  }

  /** Who is in it, asked of the server: what other processes made is shown too. */
  async dump(): Promise<RouterDump> {
    if (this.closed) throw closedError('router');
    const { routers } = await this.session.client.call<Snapshot>('GET', `/snapshot?routerId=${this.id}`);
    const transports = routers[0]?.transports ?? [];
    const consumers = transports.flatMap((transport) => transport.consumers);
    const producers = transports.flatMap((transport) => transport.producers);
    const observers = routers[0]?.observers ?? [];
    const observersOf = (id: string) => observers.filter(({ producerIds }) => producerIds?.includes(id)).map((observer) => observer.id);
    const ofProducer = (id: string) => consumers.filter(({ producerId }) => producerId === id).map((consumer) => consumer.id);
    return {
      id: this.id,
      transportIds: transports.map(({ id }) => id),
      rtpObserverIds: observers.map(({ id }) => id),
      mapProducerIdConsumerIds: producers.map(({ id }) => ({ key: id, values: ofProducer(id) })),
      mapConsumerIdProducerId: consumers.map(({ id, producerId }) => ({ key: id, value: producerId })),
      mapProducerIdObserverIds: producers.map(({ id }) => ({ key: id, values: observersOf(id) })).filter(({ values }) => values.length > 0),
    };
  }

  /** The observers that this process knows. */
  get rtpObservers(): (AudioLevelObserver | ActiveSpeakerObserver)[] {
    return [...this.#observers.values()];
  }

  /** The transports that this process knows. */
  get transports(): (AnyTransport)[] {
    return [...this.#transports.values()];
  }

  /** To another router, of this host or another one. */
  async createPipeTransport(options: PipeTransportOptions = {}): Promise<PipeTransport> {
    if (this.closed) throw closedError('router');
    const { id, enableRtx, enableSrtp, appData = {}, listenInfo, listenIp } = options;
    const body: CreateTransport = {
      id,
      routerId: this.id,
      type: 'pipe',
      listenAddress: listenInfo?.ip ?? (typeof listenIp === 'object' ? listenIp.ip : listenIp),
      port: options.port || listenInfo?.port || undefined,
      enableRtx,
      enableSrtp,
      appData,
    };
    return (await this.#createTransport(body, appData)) as PipeTransport;
  }

  /** Not in this version. */
  async createDirectTransport(_options?: object): Promise<never> {
    throw unsupported('direct transports');
  }

  /** Has a producer of this router in another router of the same host as well. The transports between them are made for the first one. */
  async pipeToRouter({ producerId, router, keepId }: PipeToRouterOptions): Promise<PipeToRouterResult> {
    if (this.closed || router.closed) throw closedError('router');
    const body: CreatePipe = { producerId, routerId: router.id, keepId };
    const piped = await this.session.client.call<Piped>('POST', '/pipes', body);
    const pipeConsumer = await this.#piped<ConsumerInfo, Consumer>('consumer', piped.consumerId, 'addConsumer');
    const pipeProducer = await router.#piped<ProducerInfo, Producer>('producer', piped.producerId, 'addProducer');
    return { pipeConsumer, pipeProducer };
  }

  /** One end of a pipe, with the transport that it is on. */
  async #piped<Info extends ConsumerInfo | ProducerInfo, T extends Consumer | Producer>(
    kind: 'consumer' | 'producer', id: string, add: 'addConsumer' | 'addProducer',
  ): Promise<T> {
    const { transportId } = await this.session.client.call<Info>('GET', `/${kind}s/${id}`);
    let isNew = false;
    const transport = await this.session.fetch('transport', transportId, (info: PipeTransportInfo, seq) => {
      isNew = true;
      return this.#addTransport(info, info.appData ?? {}, seq);
    });
    if (isNew) this.observer.safeEmit('newtransport', transport);
    const make = transport[add].bind(transport) as unknown as (info: Info, appData: AppData, seq: Seq) => T;
    return this.session.fetch(kind, id, (info: Info, seq) => make(info, info.appData ?? {}, seq));
  }

  /** Tells the loudest of the producers that are added to it, and silence. */
  async createAudioLevelObserver(options: AudioLevelObserverOptions = {}): Promise<AudioLevelObserver> {
    const { id, maxEntries, threshold, interval, appData = {} } = options;
    const body: CreateObserver = { id, routerId: this.id, type: 'audiolevel', maxEntries, threshold, interval, appData };
    return (await this.#createObserver(body, appData)) as AudioLevelObserver;
  }

  /** Tells who dominates of the producers that are added to it. */
  async createActiveSpeakerObserver(options: ActiveSpeakerObserverOptions = {}): Promise<ActiveSpeakerObserver> {
    const { id, interval, appData = {} } = options;
    const body: CreateObserver = { id, routerId: this.id, type: 'activespeaker', interval, appData };
    return (await this.#createObserver(body, appData)) as ActiveSpeakerObserver;
  }

  async #createObserver(body: CreateObserver, appData: AppData): Promise<AudioLevelObserver | ActiveSpeakerObserver> {
    if (this.closed) throw closedError('router');
    const make = (info: ObserverInfo, seq: Seq) => this.#addObserver(info, appData, seq);
    const made = await this.session.create('observer', '/observers', body, make);
    this.observer.safeEmit('newrtpobserver', made);
    return made;
  }

  /** Not in this version. */
  updateMediaCodecs(_mediaCodecs?: RtpCodecCapability[]): never {
    throw unsupported('other codecs for a router that exists');
  }

  #addTransport(info: AnyTransportInfo, appData: AppData, seq: Seq): AnyTransport {
    if (this.closed) throw closedError('router');
    const onEnd = () => this.#transports.delete(info.id);
    const transport = makeTransport(this.session, info, appData, seq, onEnd);
    this.#transports.set(info.id, transport);
    return transport;
  }

  #addObserver(info: ObserverInfo, appData: AppData, seq: Seq): AudioLevelObserver | ActiveSpeakerObserver {
    if (this.closed) throw closedError('router');
    const Kind = info.type === 'audiolevel' ? AudioLevelObserver : ActiveSpeakerObserver;
    const made = new Kind(this.session, info, appData, seq, () => this.#observers.delete(info.id));
    this.#observers.set(info.id, made);
    return made;
  }

  /** Makes objects of what is in the room at the server. @internal */
  adopt({ transports, observers = [] }: RouterSnapshot, seq: Seq): void {
    for (const info of transports) {
      const transport = this.#addTransport(info, info.appData ?? {}, seq);
      this.session.add(transport);
      for (const each of info.producers) this.session.add(transport.addProducer(each, each.appData ?? {}, seq));
      for (const each of info.consumers) this.session.add(transport.addConsumer(each, each.appData ?? {}, seq));
    }
    for (const each of observers) this.session.add(this.#addObserver(each, each.appData ?? {}, seq));
  }

  /** @internal */
  receive({ name, data }: ServerEvent): void {
    if (name === 'router.closed') this.closedByServer(data.reason);
  }

  protected change(): void {
    // Nothing of a router changes but its end.
  }

  protected closedByServer(reason: ClosedReason): void {
    this.end(() => this.safeEmit('workerclose', reason));
  }

  /** `worker.close()`: gone at the server, too. @internal */
  workerClosed(): Promise<void> {
    if (this.closed) return Promise.resolve();
    const done = this.session.delete(this.path);
    this.closedByServer('request');
    return done;
  }

  /** `worker.disconnect()`: nobody tells of it any more. @internal */
  leftAlone(): void {
    this.closedByServer('lost');
  }

  protected override endChildren(): void {
    this.#onEnd();
    for (const transport of [...this.#transports.values()]) transport.routerClosed();
    for (const observer of [...this.#observers.values()]) observer.routerClosed();
  }
}
