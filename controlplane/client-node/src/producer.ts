// A producer: media that a peer sends to the server.

import { unsupported } from './errors.js';
import type {
  MediaKind, ProducerInfo, ProducerScore, ProducerType, RtpParameters, RtpStreamStats, Trace, TraceType,
} from './openapi.js';
import { type ClosedReason, Pausable } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

export interface ProducerVideoOrientation {
  camera: boolean;
  flip: boolean;
  rotation: number;
}

export interface ProducerEvents {
  transportclose: [];
  score: [ProducerScore[]];
  videoorientationchange: [ProducerVideoOrientation];
  /** Indexes into `rtpParameters.encodings` that nobody watches. */
  layersunwatched: [number[]];
  /** The packet numbers of this encoding are used up (2^32): publish the track anew. */
  exhausted: [number];
  trace: [Trace];
  /** The server closed it, for a reason for which mediasoup has no event. */
  close: [ClosedReason];
}

export interface ProducerObserverEvents {
  close: [];
  pause: [];
  resume: [];
  score: [ProducerScore[]];
  videoorientationchange: [ProducerVideoOrientation];
  trace: [Trace];
}

export class Producer extends Pausable<ProducerEvents, ProducerObserverEvents> {
  /** @internal */
  readonly resource = 'producer';
  readonly #info: ProducerInfo;
  #score: ProducerScore[];
  #layersUnwatched: number[];

  /** @internal */
  constructor(session: Session, info: ProducerInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = info;
    this.#score = info.score ?? [];
    this.#layersUnwatched = info.layersUnwatched ?? [];
  }

  get kind(): MediaKind {
    return this.#info.kind;
  }

  get type(): ProducerType {
    return this.#info.type;
  }

  get rtpParameters(): RtpParameters {
    return this.#info.rtpParameters;
  }

  get score(): ProducerScore[] {
    return this.#score;
  }

  /** Indexes into `rtpParameters.encodings` that nobody watches. */
  get layersUnwatched(): number[] {
    return this.#layersUnwatched;
  }

  /** One record for each stream. */
  getStats(): Promise<RtpStreamStats[]> {
    return this.call('GET', '/stats');
  }

  /** What of it is told as `trace` from now on, in place of what was before; nothing ends it. */
  async enableTraceEvent(types: TraceType[] = []): Promise<void> {
    await this.call('PUT', '/trace', { types });
  }

  /** Not in this version: there are no direct transports. */
  send(_packet: Uint8Array): never {
    throw unsupported('direct transports');
  }

  /** @internal */
  receive({ name, data, seq }: ServerEvent): void {
    if (name === 'trace') this.traced(data.trace);
    else if (name === 'producer.closed') this.closedByServer('request');
    else if (name === 'producer.paused' || name === 'producer.resumed') this.update({ paused: name === 'producer.paused' }, seq);
    else if (name === 'producer.score') this.update({ score: data.score }, seq);
    else if (name === 'producer.layersunwatched') this.update({ layersUnwatched: data.encodings }, seq);
    else if (name === 'producer.exhausted') this.safeEmit('exhausted', data.encodingIdx);
    else if (name === 'producer.videoorientationchange') {
      const { camera, flip, rotation } = data;
      this.safeEmit('videoorientationchange', { camera, flip, rotation });
      this.observer.safeEmit('videoorientationchange', { camera, flip, rotation });
    }
  }

  protected change({ paused, score, layersUnwatched }: Partial<ProducerInfo>): void {
    if (paused !== undefined && paused !== this.isPaused) {
      this.isPaused = paused;
      this.observer.safeEmit(paused ? 'pause' : 'resume');
    }
    if (score !== undefined && JSON.stringify(score) !== JSON.stringify(this.#score)) {
      this.#score = score;
      this.safeEmit('score', score);
      this.observer.safeEmit('score', score);
    }
    if (layersUnwatched !== undefined && JSON.stringify(layersUnwatched) !== JSON.stringify(this.#layersUnwatched)) {
      this.#layersUnwatched = layersUnwatched;
      this.safeEmit('layersunwatched', layersUnwatched);
    }
  }

  protected closedByServer(reason: ClosedReason): void {
    this.end(() => this.safeEmit('close', reason));
  }

  /** @internal */
  transportClosed(): void {
    this.end(() => this.safeEmit('transportclose'));
  }
}
