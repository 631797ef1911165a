// A consumer: media that the server sends to a peer, from one producer.

import type {
  ConsumerInfo, ConsumerLayers, ConsumerScore, ConsumerType, MediaKind, RtpParameters, RtpStreamStats, SentStream,
  Trace, TraceType,
} from './openapi.js';
import { type ClosedReason, Pausable } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

export interface ConsumerEvents {
  transportclose: [];
  producerclose: [];
  producerpause: [];
  producerresume: [];
  score: [ConsumerScore];
  /** Undefined: nothing is sent. */
  layerschange: [ConsumerLayers | undefined];
  /** The packet numbers of the track, or of its repetitions, are used up (2^32): make another consumer in its place. */
  exhausted: [SentStream];
  trace: [Trace];
  /** The server closed it, for a reason for which mediasoup has no event. */
  close: [ClosedReason];
}

export interface ConsumerObserverEvents {
  close: [];
  pause: [];
  resume: [];
  score: [ConsumerScore];
  layerschange: [ConsumerLayers | undefined];
  trace: [Trace];
}

type News = Partial<Pick<ConsumerInfo, 'paused' | 'producerPaused' | 'score' | 'priority' | 'preferredLayers'>> & {
  /** Null: none. */
  currentLayers?: ConsumerLayers | null;
};

const isEqual = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

export class Consumer extends Pausable<ConsumerEvents, ConsumerObserverEvents> {
  /** @internal */
  readonly resource = 'consumer';
  readonly #info: ConsumerInfo;
  #producerPaused: boolean;
  #priority: number;
  #score: ConsumerScore;
  #preferredLayers: ConsumerLayers | undefined;
  #currentLayers: ConsumerLayers | undefined;

  /** @internal */
  constructor(session: Session, info: ConsumerInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = info;
    this.#producerPaused = info.producerPaused;
    this.#priority = info.priority;
    this.#score = info.score;
    this.#preferredLayers = info.preferredLayers ?? undefined;
    this.#currentLayers = info.currentLayers ?? undefined;
  }

  get producerId(): string {
    return this.#info.producerId;
  }

  get kind(): MediaKind {
    return this.#info.kind;
  }

  get type(): ConsumerType {
    return this.#info.type;
  }

  get rtpParameters(): RtpParameters {
    return this.#info.rtpParameters;
  }

  get producerPaused(): boolean {
    return this.#producerPaused;
  }

  get priority(): number {
    return this.#priority;
  }

  get score(): ConsumerScore {
    return this.#score;
  }

  get preferredLayers(): ConsumerLayers | undefined {
    return this.#preferredLayers;
  }

  get currentLayers(): ConsumerLayers | undefined {
    return this.#currentLayers;
  }

  setPreferredLayers({ spatialLayer, temporalLayer }: ConsumerLayers): Promise<void> {
    return this.callAndUpdate('PATCH', '', { preferredLayers: { spatialLayer, temporalLayer } });
  }

  /** 1 to 255: who gets better layers first. */
  setPriority(priority: number): Promise<void> {
    return this.callAndUpdate('PATCH', '', { priority });
  }

  unsetPriority(): Promise<void> {
    return this.setPriority(1);
  }

  requestKeyFrame(): Promise<void> {
    return this.call('POST', '/request-key-frame');
  }

  /** What is sent, then the producer's stream that it is made of. */
  getStats(): Promise<RtpStreamStats[]> {
    return this.call('GET', '/stats');
  }

  /** What of it is told as `trace` from now on, in place of what was before; nothing ends it. */
  async enableTraceEvent(types: TraceType[] = []): Promise<void> {
    await this.call('PUT', '/trace', { types });
  }

  /** @internal */
  receive({ name, data, seq }: ServerEvent): void {
    if (name === 'trace') this.traced(data.trace);
    else if (name === 'consumer.closed') this.closedByServer(data.reason);
    else if (name === 'consumer.paused' || name === 'consumer.resumed') this.update({ paused: name === 'consumer.paused' }, seq);
    else if (name === 'consumer.producerpause') this.update({ producerPaused: true }, seq);
    else if (name === 'consumer.producerresume') this.update({ producerPaused: false }, seq);
    else if (name === 'consumer.score') this.update({ score: data.score }, seq);
    else if (name === 'consumer.layerschange') this.update({ currentLayers: data.layers ?? null }, seq);
    else if (name === 'consumer.exhausted') this.safeEmit('exhausted', data.stream);
  }

  override update(info: News, seq: Seq): void {
    // An answer that shows the whole leaves out what is not there.
    const isWhole = 'producerId' in info;
    super.update(isWhole ? { ...info, currentLayers: info.currentLayers ?? null } : info, seq);
  }

  protected change({ paused, producerPaused, score, priority, preferredLayers, currentLayers }: News): void {
    const wasSilent = this.isPaused || this.#producerPaused;
    const producerChanged = producerPaused !== undefined && producerPaused !== this.#producerPaused;
    this.isPaused = paused ?? this.isPaused;
    this.#producerPaused = producerPaused ?? this.#producerPaused;
    this.#priority = priority ?? this.#priority;
    this.#preferredLayers = preferredLayers ?? this.#preferredLayers;
    if (producerChanged) this.safeEmit(producerPaused ? 'producerpause' : 'producerresume');
    const isSilent = this.isPaused || this.#producerPaused;
    if (isSilent !== wasSilent) this.observer.safeEmit(isSilent ? 'pause' : 'resume');
    if (score !== undefined && !isEqual(score, this.#score)) {
      this.#score = score;
      this.safeEmit('score', score);
      this.observer.safeEmit('score', score);
    }
    if (currentLayers !== undefined && !isEqual(currentLayers ?? undefined, this.#currentLayers)) {
      this.#currentLayers = currentLayers ?? undefined;
      this.safeEmit('layerschange', this.#currentLayers);
      this.observer.safeEmit('layerschange', this.#currentLayers);
    }
  }

  protected closedByServer(reason: ClosedReason): void {
    // Its transport is there, or it would have been closed with it.
    const event = { producer_closed: 'producerclose', transport_closed: 'transportclose', lost: 'producerclose' } as const;
    const named = event[reason as keyof typeof event];
    this.end(() => (named ? this.safeEmit(named) : this.safeEmit('close', reason)));
  }

  /** @internal */
  transportClosed(): void {
    this.end(() => this.safeEmit('transportclose'));
  }
}
