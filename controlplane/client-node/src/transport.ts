// A transport: the connection of a peer, and what is sent and received on it. What is the same for all kinds, and the kind
// of browsers; `plaintransport.ts` has the one without ICE and DTLS.

import { closedError, unsupported } from './errors.js';
import { Consumer } from './consumer.js';
import { Emitter } from './emitter.js';
import type {
  ConnectAnswer, ConsumerInfo, ConsumerLayers, CreateConsumer, CreateProducer, DtlsParameters, DtlsState, IceCandidate, IceParameters,
  IceRole, IceState, MediaKind, ProducerInfo, RestartIceAnswer, RtpCapabilities, RtpParameters, TransportInfo,
  Trace, TraceType, TransportTuple, TransportStats,
} from './openapi.js';
import { Producer } from './producer.js';
import { type ClosedReason, Resource } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

export interface ProducerOptions {
  id?: string;
  kind: MediaKind;
  rtpParameters: RtpParameters;
  paused?: boolean;
  /** Milliseconds to gather requests for a key frame before one is asked for. */
  keyFrameRequestDelay?: number;
  appData?: AppData;
}

export interface ConsumerOptions {
  id?: string;
  producerId: string;
  /** Those that the transport was made with, if missing. */
  rtpCapabilities?: RtpCapabilities;
  paused?: boolean;
  preferredLayers?: ConsumerLayers;
  mid?: string;
  enableRtx?: boolean;
  ignoreDtx?: boolean;
  /** Every stream of its producer, none chosen: for what is itself a server. */
  pipe?: boolean;
  appData?: AppData;
}

export interface TransportEvents {
  routerclose: [];
  trace: [Trace];
  /** The server closed it: the peer is gone (`consent_lost`, `dtls_closed`), or somebody else asked for it. */
  close: [ClosedReason];
}

export interface TransportObserverEvents {
  close: [];
  newproducer: [Producer];
  newconsumer: [Consumer];
  trace: [Trace];
}

export interface WebRtcTransportEvents extends TransportEvents {
  icestatechange: [IceState];
  iceselectedtuplechange: [TransportTuple];
  dtlsstatechange: [DtlsState];
}

export interface WebRtcTransportObserverEvents extends TransportObserverEvents {
  icestatechange: [IceState];
  iceselectedtuplechange: [TransportTuple];
  dtlsstatechange: [DtlsState];
}

export abstract class Transport<
  Events extends Record<keyof Events, unknown[]>,
  ObserverEvents extends Record<keyof ObserverEvents, unknown[]>,
> extends Resource<Events, ObserverEvents> {
  /** @internal */
  readonly resource = 'transport';
  readonly #participantId: string | undefined;
  readonly #onEnd: () => void;
  readonly #producers = new Map<string, Producer>();
  readonly #consumers = new Map<string, Consumer>();

  /** @internal */
  constructor(session: Session, info: TransportInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info.id, appData, seq);
    this.#participantId = info.participantId ?? undefined;
    this.#onEnd = onEnd;
  }

  get participantId(): string | undefined {
    return this.#participantId;
  }

  close(): Promise<void> {
    return this.closedByCaller();
  }

  /** Bits per second that the peer is told to send at most; 0 takes the limit away. */
  setMaxIncomingBitrate(bitrate: number): Promise<void> {
    return this.callAndUpdate('PATCH', '', { maxIncomingBitrate: bitrate });
  }

  setMaxOutgoingBitrate(bitrate: number): Promise<void> {
    return this.callAndUpdate('PATCH', '', { maxOutgoingBitrate: bitrate });
  }

  setMinOutgoingBitrate(bitrate: number): Promise<void> {
    return this.callAndUpdate('PATCH', '', { minOutgoingBitrate: bitrate });
  }

  /** The dataplane's whole view. */
  dump(): Promise<Record<string, unknown>> {
    return this.call('GET', '/dump');
  }

  async produce({ id, kind, rtpParameters, paused, keyFrameRequestDelay, appData = {} }: ProducerOptions): Promise<Producer> {
    if (this.closed) throw closedError('transport');
    const body: CreateProducer = { id, transportId: this.id, kind, rtpParameters, paused, keyFrameRequestDelay, appData };
    const make = (info: ProducerInfo, seq: Seq) => this.addProducer(info, appData, seq);
    const producer = await this.session.create('producer', '/producers', body, make);
    this.#tell('newproducer', producer);
    return producer;
  }

  async consume({ id, producerId, rtpCapabilities, paused, preferredLayers, mid, enableRtx, ignoreDtx, pipe, appData = {} }: ConsumerOptions): Promise<Consumer> {
    if (this.closed) throw closedError('transport');
    const body: CreateConsumer = {
      id, transportId: this.id, producerId, rtpCapabilities, paused, preferredLayers, mid, enableRtx, ignoreDtx,
      pipe: pipe || undefined, appData,
    };
    const make = (info: ConsumerInfo, seq: Seq) => this.addConsumer(info, appData, seq);
    const consumer = await this.session.create('consumer', '/consumers', body, make);
    this.#tell('newconsumer', consumer);
    return consumer;
  }

  /** Not in this version. */
  async produceData(_options?: object): Promise<never> {
    throw unsupported('data channels');
  }

  /** Not in this version. */
  async consumeData(_options?: object): Promise<never> {
    throw unsupported('data channels');
  }

  /** What of it is told as `trace` from now on, in place of what was before; nothing ends it. */
  async enableTraceEvent(types: TraceType[] = []): Promise<void> {
    await this.call('PUT', '/trace', { types });
  }

  /** @internal */
  addProducer(info: ProducerInfo, appData: AppData, seq: Seq): Producer {
    this.#checkOpen();
    const producer = new Producer(this.session, info, appData, seq, () => this.#producers.delete(info.id));
    this.#producers.set(info.id, producer);
    return producer;
  }

  /** @internal */
  addConsumer(info: ConsumerInfo, appData: AppData, seq: Seq): Consumer {
    this.#checkOpen();
    const consumer = new Consumer(this.session, info, appData, seq, () => this.#consumers.delete(info.id));
    this.#consumers.set(info.id, consumer);
    return consumer;
  }

  /** It may have been closed while a create was on its way. */
  #checkOpen(): void {
    if (this.closed) throw closedError('transport');
  }

  /** What is on it. @internal */
  get children(): { producers: Producer[]; consumers: Consumer[] } {
    return { producers: [...this.#producers.values()], consumers: [...this.#consumers.values()] };
  }

  #tell<Name extends 'newproducer' | 'newconsumer'>(name: Name, ...args: TransportObserverEvents[Name]): void {
    (this.observer as unknown as Emitter<TransportObserverEvents>).safeEmit(name, ...args);
  }

  /** @internal */
  routerClosed(): void {
    this.end(() => (this as unknown as Emitter<TransportEvents>).safeEmit('routerclose'));
  }

  protected override endChildren(): void {
    this.#onEnd();
    for (const child of [...this.#producers.values(), ...this.#consumers.values()]) child.transportClosed();
  }
}

/** What the server tells of a transport with a browser. */
export type WebRtcTransportInfo = Extract<TransportInfo, { type: 'webrtc' }>;
/** Its figures. */
export type WebRtcTransportStat = Extract<TransportStats, { type: 'webrtc-transport' }>;

type News = Partial<Pick<WebRtcTransportInfo, 'iceParameters' | 'iceState' | 'iceSelectedTuple' | 'dtlsParameters' | 'dtlsState'>>;

export class WebRtcTransport extends Transport<WebRtcTransportEvents, WebRtcTransportObserverEvents> {
  readonly #info: WebRtcTransportInfo;

  /** @internal */
  constructor(session: Session, info: WebRtcTransportInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = { ...info };
  }

  get type(): 'webrtc' {
    return 'webrtc';
  }

  get iceRole(): IceRole {
    return this.#info.iceRole;
  }

  get iceParameters(): IceParameters {
    return this.#info.iceParameters;
  }

  get iceCandidates(): IceCandidate[] {
    return this.#info.iceCandidates;
  }

  get iceState(): IceState {
    return this.#info.iceState;
  }

  get iceSelectedTuple(): TransportTuple | undefined {
    return this.#info.iceSelectedTuple ?? undefined;
  }

  get dtlsParameters(): DtlsParameters {
    return this.#info.dtlsParameters;
  }

  get dtlsState(): DtlsState {
    return this.#info.dtlsState;
  }

  /** Undefined: this version has no data channels. */
  get sctpParameters(): undefined {
    return undefined;
  }

  get sctpState(): undefined {
    return undefined;
  }

  async connect({ dtlsParameters }: { dtlsParameters: DtlsParameters }): Promise<void> {
    const { dtlsLocalRole } = await this.call<ConnectAnswer>('POST', '/connect', { dtlsParameters });
    this.#info.dtlsParameters = { ...this.#info.dtlsParameters, role: dtlsLocalRole };
  }

  async restartIce(): Promise<IceParameters> {
    const { iceParameters } = await this.call<RestartIceAnswer>('POST', '/restart-ice');
    this.#info.iceParameters = iceParameters;
    return iceParameters;
  }

  getStats(): Promise<WebRtcTransportStat[]> {
    return this.call('GET', '/stats');
  }

  /** @internal */
  receive({ name, data, seq }: ServerEvent): void {
    if (name === 'trace') this.traced(data.trace);
    else if (name === 'transport.closed') this.closedByServer(data.reason);
    else if (name === 'transport.icestatechange') this.update({ iceState: data.iceState }, seq);
    else if (name === 'transport.iceselectedtuplechange') this.update({ iceSelectedTuple: data.iceSelectedTuple }, seq);
    else if (name === 'transport.dtlsstatechange') this.update({ dtlsState: data.dtlsState }, seq);
  }

  protected change({ iceParameters, iceState, iceSelectedTuple, dtlsParameters, dtlsState }: News): void {
    const info = this.#info;
    if (iceParameters) info.iceParameters = iceParameters;
    if (dtlsParameters) info.dtlsParameters = dtlsParameters;
    if (iceSelectedTuple && JSON.stringify(iceSelectedTuple) !== JSON.stringify(info.iceSelectedTuple)) {
      info.iceSelectedTuple = iceSelectedTuple;
      this.#emitBoth('iceselectedtuplechange', iceSelectedTuple);
    }
    if (iceState && iceState !== info.iceState) {
      info.iceState = iceState;
      this.#emitBoth('icestatechange', iceState);
    }
    if (dtlsState && dtlsState !== info.dtlsState) {
      info.dtlsState = dtlsState;
      this.#emitBoth('dtlsstatechange', dtlsState);
    }
  }

  #emitBoth<Name extends 'icestatechange' | 'iceselectedtuplechange' | 'dtlsstatechange'>(name: Name, ...args: WebRtcTransportEvents[Name]): void {
    this.safeEmit(name, ...args);
    (this.observer as Emitter<Pick<WebRtcTransportEvents, Name>>).safeEmit(name, ...args);
  }

  protected closedByServer(reason: ClosedReason): void {
    if (reason === 'router_closed') return this.routerClosed();
    const wasDtlsClosed = this.#info.dtlsState === 'closed';
    this.end(() => {
      // mediasoup's applications close a transport when they hear this; here it is closed already.
      if (!wasDtlsClosed) this.#emitBoth('dtlsstatechange', 'closed');
      this.safeEmit('close', reason);
    });
  }

  protected override endChildren(): void {
    this.#info.iceState = 'closed';
    this.#info.dtlsState = 'closed';
    this.#info.iceSelectedTuple = null;
    super.endChildren();
  }
}

