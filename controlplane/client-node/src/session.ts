// What all objects of one host share: its client, its event stream, who is there by id, creates that
// are on their way, and deletes that have to reach the server. Puts answers and events in order.

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Called, type Client, jittered } from './client.js';
import { closedError, IroncastError } from './errors.js';
import type { RouterSnapshot, Snapshot } from './openapi.js';
import { isAfter, parseSeq, type Seq } from './seq.js';
import { EventStream, type ServerEvent } from './stream.js';

export type Kind = 'router' | 'transport' | 'producer' | 'consumer' | 'observer';

const KINDS = new Set<string>(['router', 'transport', 'producer', 'consumer', 'observer']);
const TRACED: Kind[] = ['transport', 'producer', 'consumer'];
/** Events that wait for one object, or for one router that is being taken up. */
const WAITING_EVENTS_MAX = 1_000;
const SNAPSHOT_ROUTERS = 100;
/** A snapshot that meets a new epoch is begun again so often. */
const SNAPSHOT_BEGINNINGS_MAX = 5;
const DELETE_RETRY_MS_MAX = 5_000;

/** An object as the session sees it. */
export interface Known {
  readonly resource: Kind;
  readonly id: string;
  readonly closed: boolean;
  /** An event about it. */
  receive(event: ServerEvent): void;
  /** Its state as the server shows it, as of `seq`. */
  update(info: any, seq: Seq): void;
  /** Its state is as of this. */
  readonly seq: Seq;
  /** The server does not have it any more, and the event that said why is lost. */
  vanished(): void;
}

/** What the host itself hears. */
export interface SessionOwner {
  hostEvent(event: ServerEvent): void;
  connected(): void;
  disconnected(error: IroncastError): void;
}

export class Session {
  readonly client: Client;
  readonly #owner: SessionOwner;
  readonly #stream: EventStream;
  readonly #known = new Map<string, Known>();
  /** What is created, fetched or taken up just now: whoever wants it too gets the same object. */
  readonly #coming = new Map<string, Promise<Known>>();
  readonly #waiting = new Map<string, ServerEvent[]>();
  /** Events of routers that are being taken up. */
  readonly #gathering = new Map<string, ServerEvent[]>();
  readonly #deleting = new Set<Promise<void>>();
  #closed = false;

  constructor(client: Client, owner: SessionOwner) {
    this.client = client;
    this.#owner = owner;
    this.#stream = new EventStream(client, {
      event: (event) => this.#dispatch(event),
      lost: () => this.#reconcile(),
      up: () => owner.connected(),
      down: (error) => owner.disconnected(error),
    });
  }

  start(): Promise<void> {
    return this.#stream.start();
  }

  /**
   * Creates something, with an id chosen here if the caller has none. Events about it that come before
   * the answer wait for it, and are told when the caller has had the time to listen.
   */
  async create<Info, T extends Known>(kind: Kind, path: string, body: { id?: string | null | undefined }, make: (info: Info, seq: Seq) => T): Promise<T> {
    if (this.#closed) throw closedError('worker');
    const id = body.id ?? randomUUID();
    const key = `${kind}/${id}`;
    if (this.#known.has(key) || this.#coming.has(key)) {
      throw new IroncastError('already_exists', `this process has the ${kind} ${id} already`);
    }
    try {
      return await this.#begin(key, this.#take(key, () => this.client.called<Info>('POST', path, { ...body, id }), make));
    } catch (error) {
      // Nobody knows whether it was made; an id of the caller's may be somebody else's, too.
      const { code } = error as IroncastError;
      if (!body.id && (code === 'timeout' || code === 'unreachable')) void this.delete(`${path}/${id}`);
      throw error;
    }
  }

  /** Makes an object of something that the server has; one that this process knows already is that. */
  fetch<Info, T extends Known>(kind: Kind, id: string, make: (info: Info, seq: Seq) => T): Promise<T> {
    const key = `${kind}/${id}`;
    return this.#once(key, () => this.#take(key, () => this.client.called<Info>('GET', `/${kind}s/${id}`), make));
  }

  /** The object of this process, or the one that is made for it. */
  async #once<T extends Known>(key: string, make: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#closed) throw closedError('worker');
      const known = this.#known.get(key);
      if (known) return known as T;
      const coming = this.#coming.get(key);
      if (!coming) return this.#begin(key, make());
      // What fails for another caller may work for this one.
      await coming.catch(() => {});
    }
  }

  #begin<T extends Known>(key: string, making: Promise<T>): Promise<T> {
    const coming = making.finally(() => this.#coming.delete(key));
    this.#coming.set(key, coming);
    return coming;
  }

  /** What happens until the answer is there is told to the object afterwards. */
  async #take<Info, T extends Known>(key: string, ask: () => Promise<Called<Info>>, make: (info: Info, seq: Seq) => T): Promise<T> {
    this.#waiting.set(key, []);
    try {
      const { value, seq } = await ask();
      const made = make(value, seq ?? NOTHING);
      this.#known.set(key, made);
      setImmediate(() => this.#tellWhatWaited(key, made));
      return made;
    } catch (error) {
      this.#waiting.delete(key);
      throw error;
    }
  }

  /** Makes objects of a router that the server has; what happens meanwhile is told to them afterwards. */
  adopt<T extends Known>(routerId: string, make: (router: RouterSnapshot, seq: Seq) => T): Promise<T> {
    return this.#once(`router/${routerId}`, () => this.#adopt(routerId, make));
  }

  async #adopt<T extends Known>(routerId: string, make: (router: RouterSnapshot, seq: Seq) => T): Promise<T> {
    const gathered: ServerEvent[] = [];
    this.#gathering.set(routerId, gathered);
    try {
      const path = `/snapshot?routerId=${encodeURIComponent(routerId)}`;
      const snapshot = await this.client.call<Snapshot>('GET', path);
      const seq = parseSeq(snapshot.seq) ?? NOTHING;
      const made = make(snapshot.routers[0]!, seq);
      setImmediate(() => {
        this.#gathering.delete(routerId);
        for (const event of gathered) if (isAfter(event.seq, seq)) this.#dispatch(event);
      });
      return made;
    } catch (error) {
      this.#gathering.delete(routerId);
      throw error;
    }
  }

  /** Knows an object that was there before. */
  add(known: Known): void {
    this.#known.set(`${known.resource}/${known.id}`, known);
  }

  /** An object of this process. */
  find(kind: Kind, id: string): Known | undefined {
    return this.#known.get(`${kind}/${id}`);
  }

  forget({ resource, id }: Known): void {
    this.#known.delete(`${resource}/${id}`);
  }

  /** Deletes on the server, until it has answered; never rejects. */
  delete(path: string): Promise<void> {
    const done = this.#delete(path).finally(() => this.#deleting.delete(done));
    this.#deleting.add(done);
    return done;
  }

  async #delete(path: string): Promise<void> {
    for (let wait = 100; ; wait = Math.min(wait * 2, DELETE_RETRY_MS_MAX)) {
      try {
        await this.client.call('DELETE', path);
        return;
      } catch (error) {
        // What is refused for good stays; after the session's end nobody is there to try again.
        if (this.#closed || !(error as IroncastError).isTemporary) return;
      }
      await delay(jittered(wait));
    }
  }

  /** Ends the stream, and the client when the deletes that are on their way are done. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream.close();
    await Promise.all(this.#deleting);
    this.client.close();
  }

  #dispatch(event: ServerEvent): void {
    const data = event.data as Record<string, unknown>;
    // A trace says by its id of what it is.
    const traced = event.name === 'trace' ? TRACED.find((kind) => data[`${kind}Id`] !== undefined) : undefined;
    const kind = traced ?? event.name.slice(0, event.name.indexOf('.'));
    const { [`${kind}Id`]: id, routerId } = data;
    if (!KINDS.has(kind) || typeof id !== 'string') return this.#owner.hostEvent(event);
    const key = `${kind}/${id}`;
    const waiting = this.#waiting.get(key) ?? this.#gathering.get(String(routerId));
    if (!waiting) {
      this.#known.get(key)?.receive(event);
      return;
    }
    if (waiting.length === WAITING_EVENTS_MAX) waiting.shift();
    waiting.push(event);
  }

  #tellWhatWaited(key: string, made: Known): void {
    const waited = this.#waiting.get(key) ?? [];
    this.#waiting.delete(key);
    for (const event of waited) if (!made.closed && isAfter(event.seq, made.seq)) made.receive(event);
  }

  /** Events were lost: what the server still has is brought up to date, what it has not is closed. */
  async #reconcile(): Promise<Seq> {
    const { seq, routers } = await this.#snapshot();
    const infos = new Map<string, unknown>();
    for (const router of routers) {
      infos.set(`router/${router.id}`, router);
      for (const observer of router.observers ?? []) infos.set(`observer/${observer.id}`, observer);
      for (const transport of router.transports) {
        infos.set(`transport/${transport.id}`, transport);
        for (const producer of transport.producers) infos.set(`producer/${producer.id}`, producer);
        for (const consumer of transport.consumers) infos.set(`consumer/${consumer.id}`, consumer);
      }
    }
    for (const [key, known] of [...this.#known]) {
      const info = infos.get(key);
      // What was made after the snapshot was begun may be missing in it.
      if (known.closed || isAfter(known.seq, seq)) continue;
      if (info) known.update(info, seq);
      else known.vanished();
    }
    return seq;
  }

  async #snapshot(): Promise<{ seq: Seq; routers: RouterSnapshot[] }> {
    for (let begun = 0; begun < SNAPSHOT_BEGINNINGS_MAX; begun += 1) {
      const routers: RouterSnapshot[] = [];
      let first: Seq | undefined;
      let after: string | null | undefined;
      do {
        const next = after ? `&after=${after}` : '';
        const page = await this.client.call<Snapshot>('GET', `/snapshot?limit=${SNAPSHOT_ROUTERS}${next}`);
        const seq = parseSeq(page.seq) ?? NOTHING;
        first ??= seq;
        if (seq.epoch !== first.epoch) break;
        routers.push(...page.routers);
        after = page.nextAfter;
        if (!after) return { seq: first, routers };
      } while (after);
    }
    throw new IroncastError('answer', 'the server begins anew again and again');
  }
}

const NOTHING: Seq = { epoch: 0n, number: 0n };
