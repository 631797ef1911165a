// What routers, transports, producers, consumers and observers have in common: an id, the caller's data, an end
// that is told once, and a state that only newer news change.

import { Emitter } from './emitter.js';
import { closedError } from './errors.js';
import { isAfter, type Seq } from './seq.js';
import type { Trace } from './openapi.js';
import type { Kind, Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

/** Why the server closed something; `lost` where the event that said so is lost. */
export type ClosedReason =
  | 'request' | 'worker_died' | 'drained' | 'router_closed' | 'consent_lost' | 'dtls_closed'
  | 'transport_closed' | 'producer_closed' | 'lost';

export abstract class Resource<
  Events extends Record<keyof Events, unknown[]>,
  ObserverEvents extends Record<keyof ObserverEvents, unknown[]>,
> extends Emitter<Events> {
  /** @internal */
  abstract readonly resource: Kind;
  readonly id: string;
  /** The caller's own object; what was given at creation is kept at the server, too. */
  appData: AppData;
  readonly observer = new Emitter<ObserverEvents>();
  /** @internal */
  readonly session: Session;
  #seq: Seq;
  #closed = false;

  /** @internal */
  constructor(session: Session, id: string, appData: AppData, seq: Seq) {
    super();
    this.session = session;
    this.id = id;
    this.appData = appData;
    this.#seq = seq;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @internal */
  get seq(): Seq {
    return this.#seq;
  }

  /** @internal */
  abstract receive(event: ServerEvent): void;

  /** @internal */
  vanished(): void {
    this.closedByServer('lost');
  }

  /** @internal */
  update(info: any, seq: Seq): void {
    if (this.#closed || isAfter(this.#seq, seq)) return;
    this.#seq = seq;
    this.change(info);
  }

  /** Takes over what is in `news` and tells what is different. */
  protected abstract change(news: any): void;
  protected abstract closedByServer(reason: ClosedReason): void;
  /** Ends what hangs on it. */
  protected endChildren(): void {}

  /** Its own path below the API's. */
  protected get path(): string {
    return `/${this.resource}s/${this.id}`;
  }

  /** Something that is traced has happened. */
  protected traced(trace: Trace): void {
    (this as unknown as Emitter<{ trace: [Trace] }>).safeEmit('trace', trace);
    (this.observer as unknown as Emitter<{ trace: [Trace] }>).safeEmit('trace', trace);
  }

  /** A call about it. */
  protected async call<T = unknown>(method: string, path = '', body?: unknown): Promise<T> {
    if (this.#closed) throw closedError(this.resource);
    return this.session.client.call<T>(method, this.path + path, body);
  }

  /** A call whose answer shows its whole state. */
  protected async callAndUpdate(method: string, path: string, body?: unknown): Promise<void> {
    if (this.#closed) throw closedError(this.resource);
    const { value, seq } = await this.session.client.called(method, this.path + path, body);
    if (seq) this.update(value, seq);
  }

  /** Closed by the caller: told at once, and to the server until it has answered. */
  protected closedByCaller(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const done = this.session.delete(this.path);
    this.end();
    return done;
  }

  /** Marks it and what hangs on it closed, once, and tells. False if it was. */
  protected end(tell: () => void = () => {}): boolean {
    if (this.#closed) return false;
    this.#closed = true;
    this.session.forget(this);
    this.endChildren();
    tell();
    (this.observer as Emitter<{ close: [] }>).safeEmit('close');
    return true;
  }
}

/** What can be paused: a producer, a consumer, an observer. */
export abstract class Pausable<
  Events extends Record<keyof Events, unknown[]>,
  ObserverEvents extends Record<keyof ObserverEvents, unknown[]>,
> extends Resource<Events, ObserverEvents> {
  readonly #onEnd: () => void;
  /** @internal */
  protected isPaused: boolean;

  /** @internal */
  constructor(session: Session, info: { id: string; paused: boolean }, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info.id, appData, seq);
    this.#onEnd = onEnd;
    this.isPaused = info.paused;
  }

  get paused(): boolean {
    return this.isPaused;
  }

  close(): Promise<void> {
    return this.closedByCaller();
  }

  pause(): Promise<void> {
    return this.callAndUpdate('POST', '/pause');
  }

  /** A video consumer asks its producer for a key frame by itself. */
  resume(): Promise<void> {
    return this.callAndUpdate('POST', '/resume');
  }

  /** The dataplane's whole view. */
  dump(): Promise<Record<string, unknown>> {
    return this.call('GET', '/dump');
  }

  protected override endChildren(): void {
    this.#onEnd();
  }
}
