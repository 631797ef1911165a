// Observers of a router: who of its audio producers speaks.

import type { ObserverInfo } from './openapi.js';
import type { Producer } from './producer.js';
import { type ClosedReason, Pausable } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

export interface AudioLevelObserverOptions {
  id?: string;
  /** How many of the loudest are told (default 1). */
  maxEntries?: number;
  /** Average volume from which on a producer counts, dBov (default -80). */
  threshold?: number;
  /** Milliseconds (default 1000). */
  interval?: number;
  appData?: AppData;
}

export interface ActiveSpeakerObserverOptions {
  id?: string;
  /** Milliseconds (default 300). */
  interval?: number;
  appData?: AppData;
}

export interface RtpObserverEvents {
  routerclose: [];
  /** The server closed it: somebody else asked for it. */
  close: [ClosedReason];
}

export interface RtpObserverObserverEvents {
  close: [];
  pause: [];
  resume: [];
  addproducer: [Producer];
  removeproducer: [Producer];
}

/** The loudest first. */
export interface AudioLevelObserverVolume {
  producer: Producer;
  /** Average, dBov: -127 (silence) to 0. */
  volume: number;
}

export interface ActiveSpeakerObserverDominantSpeaker {
  producer: Producer;
}

export interface AudioLevelObserverEvents extends RtpObserverEvents {
  volumes: [AudioLevelObserverVolume[]];
  silence: [];
}

export interface AudioLevelObserverObserverEvents extends RtpObserverObserverEvents {
  volumes: [AudioLevelObserverVolume[]];
  silence: [];
}

export interface ActiveSpeakerObserverEvents extends RtpObserverEvents {
  dominantspeaker: [ActiveSpeakerObserverDominantSpeaker];
}

export interface ActiveSpeakerObserverObserverEvents extends RtpObserverObserverEvents {
  dominantspeaker: [ActiveSpeakerObserverDominantSpeaker];
}

export abstract class RtpObserver<
  Events extends Record<keyof Events, unknown[]>,
  ObserverEvents extends Record<keyof ObserverEvents, unknown[]>,
> extends Pausable<Events, ObserverEvents> {
  /** @internal */
  readonly resource = 'observer';
  readonly #info: ObserverInfo;

  /** @internal */
  constructor(session: Session, info: ObserverInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = info;
  }

  get type(): ObserverInfo['type'] {
    return this.#info.type;
  }

  async addProducer({ producerId }: { producerId: string }): Promise<void> {
    await this.callAndUpdate('POST', `/producers/${encodeURIComponent(producerId)}`);
    this.#tell('addproducer', producerId);
  }

  async removeProducer({ producerId }: { producerId: string }): Promise<void> {
    await this.call('DELETE', `/producers/${encodeURIComponent(producerId)}`);
    this.#tell('removeproducer', producerId);
  }

  #tell(name: 'addproducer' | 'removeproducer', producerId: string): void {
    const producer = this.producer(producerId);
    if (producer) this.tellObserver(name, producer);
  }

  /** One that this process has an object of. */
  protected producer(id: string): Producer | undefined {
    return this.session.find('producer', id) as Producer | undefined;
  }

  protected abstract tellObserver(name: 'pause' | 'resume'): void;
  protected abstract tellObserver(name: 'addproducer' | 'removeproducer', producer: Producer): void;
  protected abstract tellEnd(reason: ClosedReason | undefined): void;
  protected abstract hear(event: ServerEvent): void;

  /** @internal */
  receive(event: ServerEvent): void {
    const { name, seq } = event;
    if (name === 'observer.closed') this.closedByServer('request');
    else if (name === 'observer.paused' || name === 'observer.resumed') this.update({ paused: name === 'observer.paused' }, seq);
    else this.hear(event);
  }

  protected change({ paused }: Partial<ObserverInfo>): void {
    if (paused === undefined || paused === this.isPaused) return;
    this.isPaused = paused;
    this.tellObserver(paused ? 'pause' : 'resume');
  }

  protected closedByServer(reason: ClosedReason): void {
    this.end(() => this.tellEnd(reason));
  }

  /** @internal */
  routerClosed(): void {
    this.end(() => this.tellEnd(undefined));
  }
}

export class AudioLevelObserver extends RtpObserver<AudioLevelObserverEvents, AudioLevelObserverObserverEvents> {
  protected tellObserver(name: keyof RtpObserverObserverEvents, ...data: any): void {
    this.observer.safeEmit(name, ...data);
  }

  protected tellEnd(reason: ClosedReason | undefined): void {
    if (reason) this.safeEmit('close', reason);
    else this.safeEmit('routerclose');
  }

  protected hear({ name, data }: ServerEvent): void {
    if (name === 'observer.silence') {
      this.safeEmit('silence');
      this.observer.safeEmit('silence');
    } else if (name === 'observer.volumes') {
      const volumes = data.volumes.flatMap(({ producerId, volume }) => {
        const producer = this.producer(producerId);
        return producer ? [{ producer, volume }] : [];
      });
      if (volumes.length === 0) return;
      this.safeEmit('volumes', volumes);
      this.observer.safeEmit('volumes', volumes);
    }
  }
}

export class ActiveSpeakerObserver extends RtpObserver<ActiveSpeakerObserverEvents, ActiveSpeakerObserverObserverEvents> {
  protected tellObserver(name: keyof RtpObserverObserverEvents, ...data: any): void {
    this.observer.safeEmit(name, ...data);
  }

  protected tellEnd(reason: ClosedReason | undefined): void {
    if (reason) this.safeEmit('close', reason);
    else this.safeEmit('routerclose');
  }

  protected hear({ name, data }: ServerEvent): void {
    if (name !== 'observer.dominantspeaker') return;
    const producer = this.producer(data.producerId);
    if (!producer) return;
    this.safeEmit('dominantspeaker', { producer });
    this.observer.safeEmit('dominantspeaker', { producer });
  }
}
